"""The control actor in a real engine: one answer to each request, news to followers, and nobody can make it fail."""

import socket
import struct
import time

import msgspec
import pytest

from actors import control
from actors.host import ISOLATED, Host
from actors.web.channel import (
    Answered,
    Describe,
    Described,
    Follow,
    Following,
    Gate,
    Noticed,
    Operate,
    Rows,
    Splitter,
    Submit,
    pack,
    read_reply,
)
from messages.ledger import EventsCommitted, LedgerFailed
from messages.orders import GateClosed, GateOpened
from messages.session import AlertRaised
from messages.supervision import ServiceSpec
from tests.web.fakes import PATIENCE_S, EngineThread, intent, make_settings, row

pytestmark = pytest.mark.integration


class Peer:
    """A raw client of the Unix socket."""

    def __init__(self, path) -> None:
        self.wire = socket.socket(socket.AF_UNIX)
        self.wire.settimeout(PATIENCE_S)
        self.wire.connect(str(path))
        self._splitter = Splitter()
        self._heard = []

    def ask(self, frame) -> None:
        self.wire.sendall(pack(frame))

    def hear(self, kind=None):
        """Return the next reply, or the next of a kind."""
        while True:
            while not self._heard:
                data = self.wire.recv(65_536)
                if not data:
                    raise EOFError
                self._heard += [read_reply(body) for body in self._splitter.feed(data)]
            reply = self._heard.pop(0)
            if kind is None or isinstance(reply, kind):
                return reply

    def submit(self, number=1, **changes):
        self.ask(Submit(id=number, intent=msgspec.Raw(msgspec.json.encode(intent(**changes)))))
        return self.hear(Answered)


@pytest.fixture
def engine(tmp_path):
    made = EngineThread(make_settings(tmp_path))
    yield made
    made.stop()


@pytest.fixture
def peer(engine, tmp_path):
    made = Peer(tmp_path / "engine.sock")
    yield made
    made.wire.close()


def test_a_new_peer_is_told_first_whether_orders_can_be_sent(peer):
    assert peer.hear() == Gate(open=False, reason="the engine is starting")


def test_the_gate_is_told_to_everyone_when_it_changes(engine, peer):
    peer.hear(Gate)
    engine.say("control", GateOpened(ts_ns=1, client_id=1))
    assert peer.hear(Gate) == Gate(open=True, reason="")
    engine.say("control", GateClosed(reason="the gateway hung up", ts_ns=2))
    assert peer.hear(Gate) == Gate(open=False, reason="the gateway hung up")


def test_an_intent_gets_one_answer_and_the_same_one_gets_the_same_bracket(peer):
    first, second = peer.submit(1), peer.submit(2)
    assert (first.id, first.accepted, first.code) == (1, True, "accepted")
    assert (second.id, second.accepted, second.code, second.bracket_id) == (2, True, "known", first.bracket_id)


def test_other_content_under_the_same_signal_is_refused(peer):
    peer.submit(1)
    assert peer.submit(2, limit_price="99").code == "signal_reused"


def test_a_bad_intent_is_refused_before_the_router_hears_of_it(peer):
    answer = peer.submit(1, quantity="-3")
    assert (answer.accepted, answer.field) == (False, "quantity")
    assert "-3" in answer.sentence


@pytest.mark.parametrize("verb", ["cancel-entry", "cancel", "flatten", "detach"])
def test_a_verb_reaches_the_bracket_and_its_answer_comes_back(peer, verb):
    peer.ask(Operate(id=4, verb=verb, bracket_id="B1", command_id="c1"))
    answer = peer.hear(Answered)
    assert (answer.id, answer.accepted, answer.bracket_id) == (4, True, "B1")


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"verb": "explode"}, "verb"), ({"bracket_id": "B1; rm"}, "bracket_id"), ({"command_id": ""}, "command_id"),
     ({"actor": "x" * 65}, "actor")],
)  # fmt: skip
def test_a_bad_verb_is_refused_by_name(peer, changes, field):
    peer.ask(Operate(**{"id": 1, "verb": "flatten", "bracket_id": "B1", "command_id": "c", **changes}))
    answer = peer.hear(Answered)
    assert (answer.accepted, answer.field) == (False, field)


def test_what_nobody_answers_is_answered_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(control, "SWEEP_SECONDS", 0.05)
    engine = EngineThread(make_settings(tmp_path))
    try:
        answer = Peer(tmp_path / "engine.sock").submit(1, instrument="TSLA")
        assert (answer.accepted, answer.code) == (False, "timeout")
        assert "signal_id" in answer.sentence
    finally:
        engine.stop()


def test_too_many_open_requests_are_refused_at_once(peer, monkeypatch):
    monkeypatch.setattr(control, "PENDING", 1)
    peer.ask(Submit(id=1, intent=msgspec.Raw(msgspec.json.encode(intent(instrument="TSLA")))))
    assert peer.submit(2).code == "busy"


def test_status_gathers_what_every_service_says(peer):
    peer.ask(Describe(id=9))
    described = peer.hear(Described)
    assert described.services.keys() == {*control.SERVICES, "control"}
    assert described.services["risk"]["fact"] == "1.50"
    assert described.silent == []


def test_status_names_the_services_that_do_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "DESCRIBE_SECONDS", 0.5)
    monkeypatch.setattr(control, "SERVICES", (*control.SERVICES, "nobody"))
    engine = EngineThread(make_settings(tmp_path))
    try:
        peer = Peer(tmp_path / "engine.sock")
        peer.ask(Describe(id=1))
        assert peer.hear(Described).silent == ["nobody"]
    finally:
        engine.stop()


def test_committed_rows_go_to_followers_in_order_and_to_nobody_else(engine, peer, tmp_path):
    other = Peer(tmp_path / "engine.sock")
    peer.ask(Follow(id=1))
    peer.hear(Following)
    for start in (1, 51):
        engine.say("control", EventsCommitted(rows=tuple(row(seq) for seq in range(start, start + 50))))
    seen = []
    while len(seen) < 100:
        seen += [line[0] for line in peer.hear(Rows).rows]
    assert seen == list(range(1, 101))
    other.ask(Describe(id=1))
    assert not isinstance(other.hear(), Rows)
    assert isinstance(other.hear(), Described)


def test_alerts_and_trouble_are_announced_to_followers(engine, peer):
    peer.ask(Follow(id=1))
    peer.hear(Following)
    engine.say("control", AlertRaised(severity="page", code="x", sentence="look", bracket_id=None, ts_ns=1))
    assert msgspec.json.decode(peer.hear(Noticed).event)["sentence"] == "look"
    engine.say("control", LedgerFailed(reason="disk full", ts_ns=1))
    assert msgspec.json.decode(peer.hear(Noticed).event)["type"] == "LedgerFailed"


@pytest.mark.compliance
def test_hostile_bytes_close_their_peer_and_the_engine_goes_on(peer, tmp_path):
    hostile = [
        b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",  # a pickle
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 3) + b"{\xff}",
        struct.pack(">I", 9) + b'{"id": 1}',
        struct.pack(">I", 65_536) + b"[" * 65_536,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    for data in hostile:
        bad = Peer(tmp_path / "engine.sock")
        bad.wire.sendall(data)
        with pytest.raises((EOFError, ConnectionError)):
            bad.hear(Answered)
    assert peer.submit(1).accepted


def test_a_peer_that_leaves_before_its_answer_disturbs_nobody(peer, tmp_path):
    hasty = Peer(tmp_path / "engine.sock")
    for number in range(50):
        hasty.ask(Submit(id=number, intent=msgspec.Raw(msgspec.json.encode(intent(signal_id=f"h{number}")))))
    hasty.wire.close()
    assert peer.submit(1).accepted


def test_the_socket_goes_with_the_engine(engine, tmp_path):
    assert (tmp_path / "engine.sock").exists()
    engine.stop()
    assert not (tmp_path / "engine.sock").exists()


def test_the_same_holds_in_the_isolated_base(tmp_path):
    settings = make_settings(tmp_path)
    host = Host(settings, ISOLATED)
    try:
        host.start([
            ServiceSpec(name="broker", actor="tests.web.fakes.Told"),
            ServiceSpec(name="router", actor="tests.web.fakes.AnsweringRouter"),
            ServiceSpec(name="control", actor="actors.control.Control"),
        ])  # fmt: skip
        assert host.run_until(lambda: host.started is not None, PATIENCE_S)
        peer = Peer(tmp_path / "engine.sock")
        took = []
        for number in range(5):
            began = time.monotonic()
            assert peer.submit(number, signal_id=f"s{number}").accepted
            took.append(time.monotonic() - began)
        assert min(took) < 0.8, "an answer waits for no timer"
        peer.wire.close()
    finally:
        host.stop()
