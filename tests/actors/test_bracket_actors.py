"""Router, bracket and exits as actors on both bases, over the real ledger; the venue is spoken for by the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.host import EMBEDDED, ISOLATED, Host, ServiceSpec
from messages.orders import CancelBracket, FlattenBracket, ModifyBracket, OrderCanceled
from messages.risk import SubmitIntent
from messages.settings import load_settings
from storage.reader import Reader
from tests import builders
from tests.actors.standins import Fire, Holds, KillBracket, VenueSays, heard

SERVICES = (
    ServiceSpec(name="ledger", actor="actors.ledger.Ledger"),
    ServiceSpec(name="risk", actor="tests.actors.standins.Risk"),
    ServiceSpec(name="market_data", actor="tests.actors.standins.MarketData"),
    ServiceSpec(name="broker", actor="tests.actors.standins.Broker"),
    ServiceSpec(name="router", actor="actors.router.Router"),
    ServiceSpec(name="control", actor="tests.actors.standins.Control"),
)

PATIENCE_S = 30.0
BOOKS = (*SERVICES[:2], ServiceSpec(name="position", actor="actors.position.Position"), *SERVICES[2:])


class Engine:
    def __init__(self, base: str, folder: Path, services: tuple[ServiceSpec, ...] = SERVICES) -> None:
        self.folder = folder
        self.host = Host(load_settings(None, {"system": {"state_dir": str(folder)}}), base=base)
        self.host.start(services)
        assert self.host.run_until(lambda: self.host.started is not None, PATIENCE_S)

    def submit(self, **changes: Any) -> Any:
        return self.host.ask(SubmitIntent(intent=builders.intent(**changes)), "router", timeout=PATIENCE_S)

    def wait(self, name: str, line: str, times: int = 1) -> None:
        def seen() -> bool:
            return sum(found.startswith(line) for found in heard(self.folder, name)) >= times

        assert self.host.run_until(seen, PATIENCE_S), f"{line!r} x{times} not in {heard(self.folder, name)}"

    def accepted(self, bracket: str) -> None:
        """Wait until the ledger has it on the disk that the venue accepted the entry."""
        self.wait("broker", f"submit {bracket}.entry")

        def kept() -> bool:
            with closing(Reader(self.host.settings.database_url)) as reader:
                return any(event.type == "OrderAccepted" for event in reader.events_after(0))

        assert self.host.run_until(kept, PATIENCE_S), "the acceptance was not recorded"

    def venue(self, event: Any) -> None:
        self.host.tell(VenueSays(event=event), "broker")

    def submitted(self) -> list[str]:
        return [line for line in heard(self.folder, "broker") if line.startswith("submit")]


@pytest.fixture(params=[EMBEDDED, ISOLATED], ids=["embedded", "isolated"])
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def build(base: str, services: tuple[ServiceSpec, ...] = SERVICES) -> Engine:
        made.append(Engine(base, tmp_path, services))
        return made[-1]

    yield build
    for engine in made:
        engine.host.stop()


def test_one_intent_becomes_one_bracket_and_its_entry_goes_at_once(base: str, make: Callable[[str], Engine]) -> None:
    engine = make(base)
    answer = engine.submit()
    assert answer.accepted
    bracket = answer.bracket_id
    engine.wait("broker", f"submit {bracket}.entry BUY 100 LMT")
    again = engine.submit()
    assert (again.accepted, again.bracket_id, again.code) == (True, bracket, "known")
    other = engine.submit(limit=101)
    assert (other.accepted, other.code) == (False, "signal_reused")
    assert len(engine.submitted()) == 1


def test_exits_follow_the_fill_and_the_winner_cancels_the_loser(base: str, make: Callable[[str], Engine]) -> None:
    engine = make(base)
    bracket = engine.submit().bracket_id
    engine.wait("broker", f"submit {bracket}.entry")
    engine.venue(builders.fill(f"{bracket}.entry", 100, 100))
    engine.wait("broker", f"submit {bracket}.stop.1 SELL 100 STP")
    engine.wait("broker", f"submit {bracket}.target.1 SELL 100 LMT")
    engine.venue(builders.fill(f"{bracket}.target.1", 100, 110))
    engine.wait("broker", f"cancel {bracket}.stop.1")
    engine.venue(
        OrderCanceled(bracket_id=bracket, order_id=f"{bracket}.stop.1", ts_ns=1, requested=True, reason="oca")
    )
    engine.wait("risk", f"release {bracket}")


def test_a_trailing_stop_fires_with_one_order(base: str, make: Callable[[str], Engine]) -> None:
    engine = make(base)
    exits = (builders.tranche(target=builders.target(), trail=builders.trail(2)),)
    bracket = engine.submit(exits=exits).bracket_id
    engine.wait("broker", f"submit {bracket}.entry")
    engine.venue(builders.fill(f"{bracket}.entry", 100, 100))
    engine.wait("market_data", f"arm {bracket}.trail SELL trail_amount")
    engine.wait("broker", f"submit {bracket}.target.1")
    engine.host.tell(Fire(arm_id=f"{bracket}.trail", price=Decimal(103), level=Decimal(103)), "market_data")
    # Twice at the broker, from the leg and from the bracket, under one id: the real one transmits it once.
    engine.wait("broker", f"submit {bracket}.trail.1 SELL 100 MKT")
    assert {line.split()[1] for line in engine.submitted() if ".trail" in line} == {f"{bracket}.trail.1"}


def test_a_failing_bracket_is_rebuilt_and_disturbs_no_other(base: str, make: Callable[[str], Engine]) -> None:
    engine = make(base)
    first = engine.submit(signal_id="one").bracket_id
    second = engine.submit(signal_id="two").bracket_id
    for bracket in (first, second):
        engine.wait("broker", f"submit {bracket}.entry")
        engine.venue(builders.fill(f"{bracket}.entry", 100, 100))
        engine.wait("broker", f"submit {bracket}.target.1")
    engine.host.tell(KillBracket(bracket_id=first), "broker")
    engine.wait("broker", f"own {first}", times=2)
    engine.venue(builders.fill(f"{second}.target.1", 100, 110))
    engine.wait("broker", f"cancel {second}.stop.1")
    assert "alert bracket_failed" in heard(engine.folder, "control")


def test_verbs_reach_their_bracket_and_are_answered_once(base: str, make: Callable[[str], Engine]) -> None:
    engine = make(base)
    bracket = engine.submit().bracket_id
    engine.wait("broker", f"submit {bracket}.entry")
    verb = FlattenBracket(bracket_id=bracket, command_id="c1", correlation="c1")
    assert engine.host.ask(verb, "router", timeout=PATIENCE_S).accepted
    engine.wait("broker", f"cancel {bracket}.entry")
    unknown = CancelBracket(bracket_id="B999-none", command_id="c2", correlation="c2")
    answer = engine.host.ask(unknown, "router", timeout=PATIENCE_S)
    assert (answer.accepted, answer.code) == (False, "unknown_bracket")


def test_a_bad_intent_is_refused_by_name_as_a_message_too(make: Callable[[str], Engine]) -> None:
    engine = make(EMBEDDED)
    answer = engine.submit(exits=(builders.tranche(stop=builders.stop(105)),))
    assert not answer.accepted
    assert "105" in answer.sentence
    assert "below" in answer.sentence
    assert heard(engine.folder, "risk") == []


def test_the_engine_comes_back_with_its_brackets(base: str, make: Callable[[str], Engine]) -> None:
    engine = make(base)
    bracket = engine.submit().bracket_id
    engine.accepted(bracket)
    engine.host.stop()
    again = make(base)
    again.wait("broker", f"own {bracket}", times=2)
    answer = again.submit()
    assert (answer.bracket_id, answer.code) == (bracket, "known")
    # The stand-in pictures nothing of an entry that it had accepted: the account is asked before anything is sent.
    again.wait("broker", f"explain {bracket}.entry BUY 100")
    assert len(again.submitted()) == 1


@pytest.mark.parametrize("held", [100, 0])
def test_an_entry_that_filled_while_we_were_away_is_protected(
    base: str, make: Callable[..., Engine], held: int
) -> None:
    engine = make(base, BOOKS)
    bracket = engine.submit().bracket_id
    engine.accepted(bracket)
    engine.host.stop()
    again = make(base, BOOKS)
    again.wait("broker", f"explain {bracket}.entry BUY 100")
    again.host.tell(Holds(quantity=Decimal(held), cost=Decimal("99.5")), "broker")
    if held:
        again.wait("broker", f"own {bracket} 100")  # the gate learns of it before the exits come
        again.wait("broker", f"submit {bracket}.stop.1 SELL 100 STP")
        again.wait("broker", f"submit {bracket}.target.1 SELL 100 LMT")
        again.wait("risk", f"filled inferred:{bracket}.entry 100")
        again.wait("control", "alert inferred_fill")
        real = builders.fill(f"{bracket}.entry", 100, 98)  # it turns up after all: it counts once
        again.host.tell(real, "ledger")
        again.venue(real)
        again.wait("risk", f"filled inferred:{bracket}.entry 0")
        again.wait("broker", f"own {bracket} 100", times=2)
    else:
        again.wait("control", "alert entry_vanished")
        again.wait("risk", f"release {bracket}")
    again.host.stop()
    third = make(base, BOOKS)  # what was answered is in the story: nothing is asked again
    if held:
        third.wait("broker", f"own {bracket} 100", times=3)
    other = third.submit(signal_id="another").bracket_id
    third.wait("broker", f"submit {other}.entry")
    lines = heard(third.folder, "broker")
    assert sum(line.startswith("explain") for line in lines) == 1
    assert sum(".entry" in line for line in third.submitted()) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantity": Decimal(10_000_000)}, "max_order_quantity"),
        ({"quantity": Decimal(60_000)}, "max_order_notional"),
        ({"limit_price": Decimal("NaN")}, "limit_price"),
    ],
)
def test_a_modification_is_held_to_the_limits_of_a_new_order(
    make: Callable[[str], Engine], changes: dict[str, Decimal], said: str
) -> None:
    engine = make(EMBEDDED)
    bracket = engine.submit().bracket_id
    engine.wait("broker", f"submit {bracket}.entry")
    verb = ModifyBracket(bracket_id=bracket, command_id="m1", correlation="m1", **changes)
    answer = engine.host.ask(verb, "router", timeout=PATIENCE_S)
    assert not answer.accepted
    assert said in answer.sentence
    assert not [line for line in heard(engine.folder, "broker") if line.startswith("amend")]


def test_a_sale_of_what_is_held_cannot_be_made_larger(make: Callable[[str], Engine]) -> None:
    engine = make(EMBEDDED)
    bracket = engine.submit(side="SELL", shape="single").bracket_id
    engine.wait("broker", f"submit {bracket}.entry")
    verb = ModifyBracket(bracket_id=bracket, command_id="m1", correlation="m1", quantity=Decimal(101))
    answer = engine.host.ask(verb, "router", timeout=PATIENCE_S)
    assert (answer.accepted, answer.code) == (False, "claim")
