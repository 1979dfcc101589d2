"""The engine's end of the socket: one peer's bytes or slowness never reach another."""

import os
import select
import socket
import stat

import pytest

from actors.web import switchboard
from actors.web.channel import Answered, Follow, Splitter, pack, read_reply
from actors.web.switchboard import Switchboard

pytestmark = pytest.mark.unit


class Bench:
    """A switchboard and the descriptors that it wants to be told about."""

    def __init__(self, path: str, **options):
        self.watched: set[int] = set()
        self.board = Switchboard(path, self.watched.add, self.watched.discard, **options)
        self.arrived: list[int] = []
        self.requests: list[tuple[int, object]] = []

    def turn(self, seconds: float = 0.2) -> None:
        """Serve what is readable until nothing is, for a moment."""
        while ready := select.select(sorted(self.watched), [], [], seconds)[0]:
            arrived, requests = self.board.readable(ready)
            self.arrived += arrived
            self.requests += requests
            seconds = 0.01

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(30)
        peer.connect(self.board.path)
        self.turn()
        return peer


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Bench("engine.sock", outbox=200_000)
    yield made
    made.board.close()


def test_only_the_owner_may_open_the_socket(bench):
    assert stat.S_IMODE(os.stat(bench.board.path).st_mode) == 0o600


def test_a_leftover_socket_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind("engine.sock")
    leftover.close()
    bench = Bench("engine.sock")
    bench.connect().close()
    assert bench.arrived == [1]
    bench.board.close()
    assert not os.path.exists("engine.sock")


def test_requests_of_two_peers_come_with_their_numbers(bench):
    first, second = bench.connect(), bench.connect()
    second.sendall(pack(Follow(id=7)))
    first.sendall(pack(Follow(id=8)))
    bench.turn()
    assert sorted(bench.requests, key=lambda pair: pair[0]) == [(1, Follow(id=8)), (2, Follow(id=7))]


@pytest.mark.parametrize("hostile", [b"\xff" * 100, b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x04null", b"GET / HTTP/1.1"])
def test_hostile_bytes_close_that_peer_only(bench, hostile):
    good, bad = bench.connect(), bench.connect()
    bad.sendall(hostile)
    bench.turn()
    assert bad.recv(1) == b""
    assert bench.board.dropped == {"hostile": 1}
    bench.board.send(1, Answered(id=1, accepted=True, code="x", sentence=""))
    assert read_reply(Splitter().feed(good.recv(4096))[0]).code == "x"


def test_a_slow_reader_is_dropped_and_the_others_go_on(bench):
    slow, quick = bench.connect(), bench.connect()
    frame = Answered(id=1, accepted=True, code="x", sentence="y" * 30_000)
    splitter, heard = Splitter(), 0
    for _ in range(200):
        bench.board.send(1, frame)
        assert bench.board.send(2, frame)
        while select.select([quick], [], [], 0)[0]:
            heard += len(splitter.feed(quick.recv(1 << 20)))
            bench.board.flush()
    assert heard == 200
    assert bench.board.dropped == {"slow": 1}
    assert bench.board.peers == 1
    slow.close()


def test_what_did_not_fit_is_written_later_and_in_order(bench):
    peer = bench.connect()
    frames = [Answered(id=number, accepted=True, code="x", sentence="y" * 3_000) for number in range(60)]
    for frame in frames:
        assert bench.board.send(1, frame)
    splitter, heard = Splitter(), []
    while len(heard) < 60:
        heard += [read_reply(body).id for body in splitter.feed(peer.recv(4_096))]
        bench.board.flush()
    assert heard == list(range(60))
    assert not bench.board.waiting


def test_a_peer_that_leaves_is_forgotten(bench):
    bench.connect().close()
    bench.turn()
    assert bench.board.peers == 0
    assert not bench.board.send(1, Follow(id=1))


def test_too_many_peers_are_turned_away(bench, monkeypatch):
    monkeypatch.setattr(switchboard, "PEERS", 2)
    peers = [bench.connect() for _ in range(3)]
    assert bench.board.peers == 2
    assert peers[2].recv(1) == b""
    for peer in peers:
        peer.close()
