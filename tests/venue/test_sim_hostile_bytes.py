"""Hostile bytes: whatever comes, whenever, the gateway answers as ib-wire.md 7 says, or hangs up, and goes on."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import struct
import sys
from itertools import cycle, islice

import ib_insync
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.agenda import Agenda
from actors.venue.simulator.in_process import InProcess
from actors.venue.simulator.journal import select
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.requests import DECODERS
from actors.venue.simulator.rolls import Refusal
from actors.venue.simulator.server import MAX_CONNECTIONS
from actors.venue.simulator.session import MAX_HELLO_BYTES, MAX_WAITING_BYTES, Stage
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.wire import MAX_FRAME_BYTES, MAX_TEXT, encode, frame
from tests.benchmarks.bench_gateway import million
from tests.benchmarks.machine import resident_bytes
from tests.venue.client_requests import ROWS, captured
from tests.venue.gateway_fixture import NS, START_NS, RawClient, client_of, gateway_server, memory_gateway, run, until
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.unit
GOOD_TILL = 38          # where placeOrder has goodTillDate
HELLO = b"API\0" + frame(b"v157..176")
HOSTILE = [
    "", "x", "-1", "0", "1", "7.5", "1e400", "-1e400", "1e16", "1e29", "-1e29", "1e-29", "NaN", "sNaN", "Infinity",
    "-Infinity", "9" * 30, "9" * 4000, "-" + "9" * MAX_TEXT, "2147483648", "-9223372036854775809", "²", "١٢", "--5",
    "1_0", " 7 ", "0x10", "\n\r\t", "�", "\\x00", "%s%n", "20260199 99:99:99 Mars/Nowhere",
    "00010101 00:00:00 Asia/Tokyo", "99991231 23:59:59 US/Eastern", "20260105 09:30:00 ../../etc/passwd", "BAG", "None",
    "1.7976931348623157E308", "a" * 5000, "{}[]\"'", "*", "AAPL", "LMT", "GTD"]
NAMES = sorted(name for name, _ in DECODERS.values())


def template(name: str, data: st.DataObject | None = None) -> list[str]:
    """Return the fields of one well-formed request."""
    if name == "placeOrder":
        return place(10, lmt="99", ref="hostile")
    rows = ROWS[name][1]
    if data is not None:
        return captured(ib_insync, 176, name, data.draw(st.fixed_dictionaries(rows)))
    fixed = {"reqId": 5, "contract": {"symbol": "AAPL", "secType": "STK", "exchange": "SMART", "currency": "USD"},
             "filter": {}, "options": [], "orderId": 5, "conId": 265598, "account": "DU1000001", "model": "",
             "duration": "1 D", "barSize": "1 hour", "what": "TRADES", "formatDate": 1, "n": 3, "kind": 1, "ruleId": 26,
             "level": 1, "rows": 3, "group": "All", "tags": "NetLiquidation", "pattern": "A", "generic": "233"}
    if name == "reqTickByTickData":
        fixed["kind"] = "Last"
    return captured(ib_insync, 176, name, {key: fixed.get(key, False if "end" not in key else "") for key in rows})


class Victim:
    """A gateway with a neighbour who must notice nothing, and a hostile client who comes back when thrown out."""

    def __init__(self, **more) -> None:
        self.gateway = memory_gateway(**more)
        self.neighbour = RawClient(self.gateway, 77)
        self.come()

    def come(self) -> None:
        self.client = RawClient(self.gateway, 1)

    def hear(self, data: bytes) -> list[list[str]]:
        if self.client.session.closing:
            self.gateway.disconnect(self.client.session, START_NS)
            self.come()
        answers = self.client.raw(data)
        # What hangs on the order book would cost each later message: a quiet place is part of the test's speed.
        self.gateway.exchange.cancel_all(START_NS)
        return answers

    def judge(self) -> None:
        self.gateway.advance(START_NS + 1)
        self.neighbour.read()
        assert self.neighbour.send(49, 1)[-1][0] == "49", "the neighbour is answered"
        assert not self.neighbour.session.closing
        assert not select(self.gateway.journal.lines, "gateway_fault")


# fields --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_every_hostile_text_in_every_field_of_every_request(name):
    fields, victim = template(name), Victim()
    for at in range(1, len(fields)):
        for text in HOSTILE:
            victim.hear(encode(*fields[:at], text, *fields[at + 1:]))
    victim.judge()


@pytest.mark.parametrize("name", NAMES)
def test_every_request_cut_short_is_refused_by_name_or_has_optional_ends(name):
    payload, victim = encode(*template(name))[4:], Victim()
    for end in range(1, len(payload)):
        victim.hear(frame(payload[:end]))
    victim.judge()
    refused = [line["text"] for line in select(victim.gateway.journal.lines, "error", "out") if line["code"] == 320]
    assert all(text.startswith("Error reading request.") for text in refused)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_mutated_requests_in_any_pieces_disturb_nobody(name, data):
    victim, stream = Victim(), b""
    for _ in range(data.draw(st.integers(1, 6))):
        fields = template(name, data)
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(fields) - 1)) if fields else 0
            how = data.draw(st.sampled_from(["replace", "replace", "drop", "insert", "repeat", "swap"]))
            text = data.draw(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20), st.integers().map(str),
                                       st.floats().map(str)))
            if how == "drop" and len(fields) > 1:
                del fields[at]
            elif how == "repeat":
                fields[at:at] = fields[at:at + 3]
            elif how == "swap":
                fields[at], fields[0] = fields[0], fields[at]
            else:
                fields[at:at + (how == "replace")] = [text]
        payload = "\0".join(fields).encode("utf-8", "surrogatepass") + b"\0"
        stream += frame(payload)
    for cut in data.draw(st.lists(st.integers(1, 200), max_size=8)):
        victim.hear(stream[:cut])
        stream = stream[cut:]
    victim.hear(stream)
    victim.judge()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.sampled_from(["prefix", "hello", "start", "ready"]),
       st.booleans())
def test_random_bytes_at_any_stage_disturb_nobody(chunks, stage, framed):
    victim = Victim()
    client = RawClient(victim.gateway, 5, start=False)
    opening = {"prefix": b"", "hello": b"API\0", "start": HELLO, "ready": HELLO + encode(71, 2, 5, "")}
    client.raw(opening[stage])
    for chunk in chunks:
        client.raw(frame(chunk) if framed and chunk else chunk)
    victim.judge()
    if client.session.closing:
        assert select(victim.gateway.journal.lines, "bad_bytes")


def test_a_message_that_cannot_be_read_is_320_and_an_unknown_one_is_noted_and_unanswered():
    victim = Victim()
    assert victim.hear(encode("x", 1))[0][3] == "320"
    assert victim.hear(encode(1, 11, "five"))[0][3] == "320"
    assert victim.hear(encode(9999, 1)) == []
    assert [line["reason"].split(":")[0] for line in select(victim.gateway.journal.lines, "bad_bytes")] == [
        "message", "reqMktData", "unknown message id 9999"]
    assert not victim.client.session.closing, "the connection is kept (IB since 10.28)"


@pytest.mark.parametrize(("quantity", "price", "code"), [
    ("1e10", "99", "383"), ("100", "1e10", "109"), ("1e20", "99", "383"), ("100", "-1e20", "109"),
    ("1e40", "99", "320"), ("1", "1e9", "")])
def test_what_could_leave_the_range_of_our_sums_is_refused(quantity, price, code):
    victim = Victim()
    answers = victim.hear(encode(*place(3, quantity=quantity, lmt=price)))
    errors = [a[3] for a in answers if a[0] == "4"]
    assert errors[:1] == ([code] if code else [])


# frames and stages ---------------------------------------------------------------------------------------------------

STAGES = {"hello": b"API\0", "start": HELLO, "ready": HELLO + encode(71, 2, 5, "")}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**31, 2**31 + 5, 2**32 - 1])
def test_an_impossible_length_closes_at_every_stage(stage, length):
    victim = Victim()
    client = RawClient(victim.gateway, 5, start=False)
    client.raw(STAGES[stage])
    client.raw(struct.pack(">I", length) + b"x" * 40)
    assert client.session.closing
    assert str(length) in select(victim.gateway.journal.lines, "bad_bytes")[-1]["reason"]
    client.raw(b"y" * 10**6)
    assert len(client.session._buffer) == 0, "nothing is kept for who has been thrown out"
    victim.judge()


@pytest.mark.parametrize("stage", ["hello", "start"])
def test_a_stranger_cannot_make_us_wait_for_much(stage):
    victim = Victim()
    client = RawClient(victim.gateway, 5, start=False)
    client.raw(STAGES[stage])
    client.raw(struct.pack(">I", MAX_HELLO_BYTES + 1))
    assert client.session.closing


@pytest.mark.parametrize("hello", [
    b"v" + b"9" * 5000, b"v157.." + b"9" * 5000, "v²..176".encode(), b"v157..176\0" * 3, b"\0", b"v..", b"v-1..176",
    b"v157..1.76e2", b" v157..176", b"v0..0", b"v999999999..999999999", b"v157..176" + b" +PACEAPI" * 1000])
def test_odd_hellos_are_agreed_with_or_refused(hello):
    victim = Victim()
    client = RawClient(victim.gateway, 5, start=False)
    answer = client.raw(b"API\0" + frame(hello))
    assert client.session.closing != bool(answer)
    victim.judge()


@pytest.mark.parametrize("client_id", ["²", "--5", "", "x", "1e3", "9" * 11, "5\n", "+5", "٣"])
def test_a_client_id_that_is_no_number_closes(client_id):
    victim = Victim()
    client = RawClient(victim.gateway, 5, start=False)
    client.raw(HELLO)
    client.send(71, 2, client_id, "")
    assert client.session.closing
    victim.judge()


@pytest.mark.parametrize("name", [n for n in NAMES if n != "startApi"])
def test_nothing_is_done_for_a_stranger(name):
    victim = Victim()
    client = RawClient(victim.gateway, 5, start=False)
    client.raw(HELLO)
    assert client.raw(encode(*template(name))) == []
    assert client.session.stage is Stage.CLOSED
    assert not victim.gateway.exchange.orders


def test_a_conversation_cut_at_any_byte_is_the_same_conversation():
    said = ([71, 2, 5, ""], [61, 1], place(3, lmt="99"), [16, 1], [4, 1, 3, ""])
    talk = HELLO + b"".join(encode(*fields) for fields in said)
    whole = RawClient(memory_gateway(), 5, start=False)
    whole.raw(talk)
    for cut in range(1, len(talk)):
        client = RawClient(memory_gateway(), 5, start=False)
        client.raw(talk[:cut])
        client.raw(talk[cut:])
        assert client.seen == whole.seen, f"cut at {cut}"
    client = RawClient(memory_gateway(), 5, start=False)
    for byte in talk:
        client.raw(bytes([byte]))
    assert client.seen == whole.seen


# memory --------------------------------------------------------------------------------------------------------------

def hostile_frames(seed: int = 1) -> list[bytes]:
    """Return a few hundred frames of every kind of wrong; each is small, as a flood's would be."""
    chance, made = random.Random(seed), []
    for name in NAMES:
        if name in ("placeOrder", "startApi") or "Historical" in name:     # a good one of these costs too much
            continue
        fields = template(name)
        for _ in range(8):
            at = chance.randrange(len(fields))
            made.append(encode(*fields[:at], chance.choice(HOSTILE)[:60], *fields[at + 1:]))
    made += [encode(chance.randrange(200, 10**9), "x" * 20) for _ in range(50)]
    made += [frame(bytes(chance.randrange(256) for _ in range(40))) for _ in range(50)]
    return made


def test_seventy_thousand_hostile_frames_leave_nothing_behind():
    gateway = memory_gateway()
    gateway.journal.lines = None
    client, at_once = RawClient(gateway, 1), 500

    def flood(frames: int) -> None:
        nonlocal client
        for n in range(0, frames, at_once):
            client.session.receive(b"".join(islice(supply, at_once)), START_NS + n)
            client.session.take()
            if client.session.closing:
                gateway.disconnect(client.session, START_NS)
                client = RawClient(gateway, 1)
            gateway.advance(START_NS + n)

    supply = cycle(hostile_frames())
    flood(10_000)                   # subscriptions stand, caches are warm
    gc.collect()
    blocks, resident = sys.getallocatedblocks(), resident_bytes()
    flood(60_000)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 7_000
    assert resident_bytes() - resident < 7e6
    assert client.send(49, 1)[-1][0] == "49"


def test_whoever_asks_without_reading_is_dropped_before_it_costs_much():
    gateway = memory_gateway(hello_seconds=0)
    client = RawClient(gateway, 1)
    for n in range(1, 301):
        client.send(*place(n, lmt="101", ref="r" * 1000))
    asked = encode(7, 3, 5, 0, "", "", "", "", "", "") * 1000
    client.session.receive(asked, START_NS)
    assert client.session.closing
    assert MAX_WAITING_BYTES < len(client.session.take()) < MAX_WAITING_BYTES + 2e6
    assert "go" in select(gateway.journal.lines, "bad_bytes")[-1]["reason"]


def test_strangers_who_never_say_hello_give_their_places_back():
    with InProcess(GatewaySettings(walk_interval=10**7)) as world:
        async def stranger(said: bytes):
            reader, writer = await asyncio.open_connection(world.host, world.port)
            writer.write(said)
            return reader, writer

        said = [b"", b"AP", b"API\0", b"API\0\0\0\xff\xff" + b"x" * 60_000, HELLO]
        strangers = [world.run(stranger(said[n % 5])) for n in range(MAX_CONNECTIONS)]
        world.settle()
        kept = sum(len(c.session._buffer) for c in world.server.connections.values() if c.session)
        assert len(world.server.connections) == MAX_CONNECTIONS
        assert kept < MAX_CONNECTIONS * MAX_HELLO_BYTES / 4
        reader, one_more = world.run(stranger(HELLO))
        with pytest.raises(ConnectionResetError):
            world.run(reader.readexactly(10))           # all places are taken
        world.advance(31)
        assert not world.server.connections
        assert not world.gateway.sessions
        for reader, _ in strangers:
            world.run(reader.read())                    # until its end
        reader, client = world.run(stranger(HELLO + encode(71, 2, 1, "")))
        assert b"DU1000001" in world.run(reader.readuntil(b"DU1000001"))
        world.advance(600)
        assert len(world.server.connections) == 1, "who has said hello may be silent"
        for writer in (one_more, client):
            writer.close()


def test_what_is_subscribed_and_cancelled_again_and_again_leaves_nothing():
    gateway = memory_gateway()
    client = RawClient(gateway, 1)
    for _ in range(2_000):
        client.send(*template("reqMktData"))
        client.send(2, 2, 5)
    assert not any(gateway.watchers(con_id) for con_id in gateway.contracts.by_id)
    assert not client.session.subscriptions


def test_work_that_is_cancelled_before_its_time_is_forgotten():
    agenda, done = Agenda(), []
    kept = agenda.at(5 * NS, lambda now: done.append(now))
    for n in range(10_000):
        agenda.at(10**6 * NS + n, lambda now: None).cancel()
    assert len(agenda) < 200
    agenda.run(5 * NS)
    assert done == [5 * NS]
    kept.cancel()


def test_an_order_amended_three_thousand_times_and_spent_refusals_cost_nothing():
    gateway = memory_gateway()
    client, exchange = RawClient(gateway, 1), gateway.exchange
    gtd = place(1, lmt="99", tif="GTD", ref="gtd")
    for n in range(3_000):
        # Two ends in turn: each amendment is a new note in the exchange's diary.
        gtd[GOOD_TILL] = f"20300101-00:00:0{n % 2}"
        client.send(*gtd)
    (order,) = exchange.open_orders()
    assert order.modifies == 2_999
    assert len(exchange.timetable) < 200
    for n in range(100):
        exchange.refusals.append(Refusal(order_ref=f"no.{n}"))
        client.send(*place(10 + n, lmt="99", ref=f"no.{n}"))
    assert exchange.refusals == []


def test_orders_of_every_fate_leave_no_more_than_the_cap_remembers():
    rules = ExchangeRules(completed_cap=100)
    blocks = []
    million(3_000, lambda *mark: blocks.append(sys.getallocatedblocks()), GatewaySettings(rules=rules))
    # The names of filled groups and the last ids are all that goes on growing, and they have caps of their own.
    assert blocks[-1] - blocks[2] < 2_000


# a real port ---------------------------------------------------------------------------------------------------------

def test_two_thousand_hostile_sockets_one_after_the_other_disturb_nobody():
    async def story():
        async with gateway_server() as server, client_of(ib_insync, server, 9) as ib:
            supply = cycle([
                b"GET / HTTP/1.1\r\n\r\n", b"", b"API\0\xff\xff\xff\xff", HELLO + b"\0\0\0\0", HELLO + encode(5, 1),
                b"API\0" + frame(b"v" + b"9" * 5000), HELLO + encode(71, 2, "²", ""), HELLO + encode(71, 2, 9, ""),
                HELLO + encode(71, 2, 3, "") + encode("x") * 50 + b"\0\0\1\0half", b"\x16\x03\x01\x02\x00\x01", b"AP"])
            for n in range(2_000):
                with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
                    sock.sendall(next(supply))
                if n % 20 == 0:
                    await asyncio.sleep(0)          # the server's turn
                if n % 100 == 0:
                    await until(lambda: len(server.connections) < 20, "the strangers to be gone", 30)
            await until(lambda: len(server.connections) == 1, "the last strangers to be gone", 30)
            assert (await ib.reqCurrentTimeAsync()).year >= 2025
            assert len(server.gateway.sessions) == 1
            assert len(server.gateway.agenda) < 100
            assert not select(server.gateway.journal.lines, "gateway_fault")

    run(story)
