"""The socket of our own, and the hearing: split and joined frames, full buffers, impossible lengths, exact numbers."""

from __future__ import annotations

import asyncio
import socket
from decimal import Decimal

import pytest

from actors.venue.ib_hearing import amount, exact, parse_session_ends, parse_time, read_execution, split_exec_id
from actors.venue.ib_link import Link
from messages.intent import Side

D = Decimal


class NoEvent:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def ends():
    """A connected link and the other end of its socket."""
    loop = asyncio.new_event_loop()
    closed: list[int] = []
    link = Link(loop, NoEvent, closed.append)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    link._socket = ours
    link.closed = closed  # type: ignore[attr-defined]
    yield link, theirs, loop
    link.disconnect()
    theirs.close()
    loop.close()


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def test_frames_that_arrive_byte_by_byte_come_out_whole(ends):
    link, theirs, _ = ends
    sent = [frame(b"49\x001\x00"), frame(b"x" * 300)]
    found = []
    for byte in b"".join(sent):
        theirs.send(bytes([byte]))
        found += list(link.read())
    assert found == [each[4:] for each in sent]


def test_frames_that_arrive_together_come_out_one_by_one(ends):
    link, theirs, _ = ends
    sent = [frame(b"a" * n) for n in range(1, 60)]
    theirs.send(b"".join(sent) + sent[0][:3])
    assert list(link.read()) == [each[4:] for each in sent]
    theirs.send(sent[0][3:])
    assert list(link.read()) == [sent[0][4:]]
    assert list(link.read()) == []


@pytest.mark.parametrize("length", [0, 16 * 1024 * 1024 + 1])
def test_an_impossible_length_ends_the_connection(ends, length):
    link, theirs, _ = ends
    theirs.send(length.to_bytes(4, "big") + b"xx")
    with pytest.raises(ConnectionError, match="impossible"):
        list(link.read())


def test_a_closed_peer_is_told_and_the_descriptor_is_announced_before_it_is_closed(ends):
    link, theirs, _ = ends
    fd = link.fd
    theirs.close()
    with pytest.raises(ConnectionError, match="closed"):
        list(link.read())
    link.disconnect()
    assert link.closed == [fd]
    assert link.fd is None
    with pytest.raises(ConnectionError):
        link.sendMsg(b"x")


def test_what_the_kernel_does_not_take_is_counted_and_follows_in_order(ends):
    link, theirs, loop = ends
    link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent = b"".join(frame(bytes([n % 250]) * 1000) for n in range(300))
    for start in range(0, len(sent), 1004):
        link.sendMsg(sent[start:start + 1004])
    assert link.unsent_bytes > 0
    theirs.setblocking(False)
    got = b""
    while len(got) < len(sent):
        loop.call_soon(loop.stop)
        loop.run_forever()
        try:
            got += theirs.recv(65536)
        except BlockingIOError:
            continue
    assert got == sent
    assert link.unsent_bytes == 0
    assert link.numBytesSent == len(sent)


@pytest.mark.parametrize(("value", "expected"), [
    (100.0, D(100)), (0.1, D("0.1")), (168.18, D("168.18")), (1.7976931348623157e308, None), (float("nan"), None),
    (float("inf"), None), ("96.90", D("96.90")), ("", None), (None, None), (123456789.0123, D("123456789.0123")),
])
def test_a_float_of_the_librarys_becomes_what_was_on_the_wire(value, expected):
    assert exact(value) == expected
    assert amount(value) == (expected or 0)


@pytest.mark.parametrize(("text", "found"), [
    ("0000e0d5.69dd7411.01.01", ("0000e0d5.69dd7411.01", 1)),
    ("0000e0d5.69dd7411.01.03", ("0000e0d5.69dd7411.01", 3)),
    ("0000e0d5.69dd7411.01.02.0001", ("0000e0d5.69dd7411.01.0001", 2)),
    ("odd", ("odd", 1)), ("a.b.c.x", ("a.b.c.x", 1)),
])
def test_an_execution_id_and_its_revision(text, found):
    assert split_exec_id(text) == found


@pytest.mark.parametrize(("text", "seconds"), [
    ("20231116-12:15:35", 1_700_136_935), ("20260413 15:27:04 US/Eastern", 1_776_108_424),
    ("20230224  12:04:56", 1_677_240_296), ("nonsense", 0), ("20260413 15:27:04 Mars/Base", 0), ("", 0),
])
def test_times_of_executions(text, seconds):
    assert parse_time(text) == seconds * 10**9


def test_an_execution_is_read_by_position():
    fields = ["11", "-1", "2147483647", "265598", "AAPL", "STK", "", "0.0", "", "", "NASDAQ", "USD", "AAPL", "NMS",
              "a.b.c.02", "20231116-12:15:35", "DU1", "NASDAQ", "SLD", "100", "96.90", "77", "0", "0", "100", "96.9",
              "", "", "", "", "1"]
    seen = read_execution(fields)
    assert (seen.venue_order_id, seen.side, seen.price, seen.revision, seen.live) == (0, Side.SELL, D("96.90"), 2, True)


@pytest.mark.parametrize(("text", "zone", "ends"), [
    ("20260406:0930-20260406:1600;20260407:CLOSED", "US/Eastern", [1_775_505_600]),
    ("20260406:0930-1600,20260407:0930-1600", "US/Eastern", [1_775_505_600, 1_775_592_000]),
    ("20260406:0000-20260407:0000;20260407:0000-20260408:0000", "UTC", [1_775_606_400]),
    ("", "UTC", []), ("nonsense-1", "UTC", []), ("20260406:0930-1600", "Mars/Base", []),
])
def test_when_sessions_end(text, zone, ends):
    assert parse_session_ends(text, zone) == tuple(end * 10**9 for end in ends)
