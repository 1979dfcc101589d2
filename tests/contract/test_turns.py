"""What one actor says to another arrives in that order in the isolated base too, whatever the other says meanwhile."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from thespian.actors import ActorAddress
from thespian.system.transport import SendStatus, TransmitIntent
from thespian.system.transport.IPBase import TCPv4ActorAddress
from thespian.system.transport.TCPTransport import TCPTransport

from actors import thespian_shim, thespian_turns
from actors.host import ISOLATED, ServiceSpec
from tests.contract.conftest import Engine
from tests.contract.toys import Chat

PAIRS = [(f"ann-{number}", f"bob-{number}") for number in range(8)]
TALKERS = tuple(ServiceSpec(name=name, actor="tests.contract.toys.Talker") for pair in PAIRS for name in pair)
COUNT = 9


@pytest.mark.skipif(sys.platform != "linux", reason="the isolated base needs prctl and pidfd of Linux")
def test_two_who_speak_at_once_are_each_heard_in_order(make_engine: Any) -> None:
    """Who speaks first opens a connection, who is first to answer may open another: one must not overtake on it."""
    engine: Engine = make_engine(ISOLATED, TALKERS)
    for ann, bob in PAIRS:
        engine.host.tell(Chat(to=bob, count=COUNT), ann)
    wanted = [str(number) for number in range(COUNT)]
    for ann, bob in PAIRS:
        engine.wait_for(f"{ann} heard echo {COUNT - 1}")
        engine.until(lambda names={ann, bob}: len(said(engine, *names)) == 2 * COUNT, "every word")
        assert said(engine, bob) == wanted
        assert said(engine, ann) == [f"echo {number}" for number in wanted]


def said(engine: Engine, *names: str) -> list[str]:
    heard = [line.partition(" heard ") for line in engine.lines() if " heard " in line]
    return [what for name, _, what in heard if name in names]


class Wire(TCPTransport):
    """A transport without sockets: `sent` is what was given to it, and a test says how each ends."""

    def __init__(self) -> None:
        self.myAddress = address(1)
        self.sent: list[TransmitIntent] = []
        self.refusing = False
        self._finished_intents: list[tuple[TransmitIntent, Any]] = []

    def __del__(self) -> None:
        pass


def address(port: int) -> ActorAddress:
    return ActorAddress(TCPv4ActorAddress("127.0.0.1", port))


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    def schedule(self: Wire, intent: TransmitIntent, has_exclusive_flag: bool = False) -> None:
        self.sent.append(intent)
        if self.refusing:
            thespian_turns._finish_in_turn(self, intent, SendStatus.DeadTarget)

    monkeypatch.setattr(thespian_shim.IPBase.IPActorAddress, "__init__", thespian_shim._loopback_address)
    monkeypatch.setattr(thespian_turns, "_schedule", schedule)
    monkeypatch.setattr(thespian_turns, "_finish", lambda self, intent, status: self._finished_intents.append(intent))
    return Wire()


def say(wire: Wire, port: int, *words: str) -> list[TransmitIntent]:
    intents = [TransmitIntent(address(port), word) for word in words]
    for intent in intents:
        thespian_turns._schedule_in_turn(wire, intent)
    return intents


def words(wire: Wire) -> list[str]:
    return [intent.message for intent in wire.sent]


def test_one_message_at_a_time_is_on_its_way_to_a_peer_and_peers_do_not_wait_for_each_other(wire: Wire) -> None:
    first, second, _ = say(wire, 7, "a", "b", "c")
    say(wire, 8, "other")
    assert words(wire) == ["a", "other"]
    thespian_turns._finish_in_turn(wire, first)
    say(wire, 7, "d")  # it finds the connection free, and earlier ones that wait for it
    assert words(wire) == ["a", "other", "b"]
    thespian_turns._finish_in_turn(wire, second, SendStatus.Failed)
    assert words(wire) == ["a", "other", "b", "c"]


def test_all_that_is_said_to_a_dead_peer_fails_and_its_line_is_gone(wire: Wire) -> None:
    first, *_ = say(wire, 7, *map(str, range(2_000)))
    wire.refusing = True
    thespian_turns._finish_in_turn(wire, first, SendStatus.DeadTarget)
    assert len(wire._finished_intents) == 2_000
    assert wire.__dict__["_lines"] == {}
    say(wire, 7, "again")
    assert len(wire._finished_intents) == 2_001


def test_what_waited_too_long_fails_and_the_next_one_goes(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    first, late, _ = say(wire, 7, "a", "late", "c")
    monkeypatch.setattr(late, "expired", lambda: True)
    thespian_turns._finish_in_turn(wire, first)
    assert words(wire) == ["a", "c"]
    assert wire._finished_intents == [first, late]


def test_one_that_is_given_up_without_a_word_does_not_hold_up_the_others(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = say(wire, 7, "a", "b")
    monkeypatch.setattr(thespian_turns, "_step", lambda self, intent: True)
    assert thespian_turns._step_in_turn(wire, first)
    assert words(wire) == ["a"]
    monkeypatch.setattr(thespian_turns, "_step", lambda self, intent: False)
    assert not thespian_turns._step_in_turn(wire, first)
    assert words(wire) == ["a", "b"]


def test_what_an_actor_says_to_itself_stands_in_no_line(wire: Wire) -> None:
    say(wire, 1, "a", "b")
    assert words(wire) == ["a", "b"]
