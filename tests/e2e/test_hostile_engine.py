"""The whole engine while its actors die: a test for each way in which something was lost, and seeds of all at once."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from actors.venue.simulator.journal import executions, final_orders, placements
from messages.ledger import LedgerFailed
from messages.orders import CancelEntry, DetachBracket, FlattenBracket
from messages.risk import SubmitIntent
from messages.supervision import Directory
from storage.database import Database
from tests import builders
from tests.e2e.nemesis import play
from tests.e2e.world import World, crash_at, scene

STOPPED = (builders.tranche(stop=builders.stop(95)),)
HELD = (builders.tranche(stop=builders.stop(95, hold="engine")),)
TRAILED = (builders.tranche(trail=builders.trail(2)),)


@pytest.fixture
def world() -> Iterator[World]:
    with scene() as made:
        made.sleep(3)
        yield made


def submit(world: World, correlation: str = "s", signal_id: str = "sig-1", **changes: Any) -> None:
    changes = {"exits": STOPPED, "limit": 101, **changes}
    world.say(SubmitIntent(intent=builders.intent(signal_id, **changes), correlation=correlation))


def answer(world: World, correlation: str = "s") -> Any:
    """Return the one answer to a question."""
    assert len(world.answers.get(correlation, ())) == 1, world.answers
    return world.answers[correlation][0]


def opened(world: World, **changes: Any) -> str:
    """Open a bracket, and let its entry fill unless the market is away from it."""
    submit(world, **changes)
    world.sleep(1)
    return str(answer(world, changes.get("correlation", "s")).bracket_id)


def crash(world: World, actor: Any, kind: str, after: bool = False) -> None:
    """Have an actor fail at its next message of a kind."""
    assert actor is not None
    crash_at(actor, lambda met: met == kind, after)


def leg(world: World, bracket: str, name: str) -> Any:
    return world.host._engine.instance_at(world.brackets()[bracket].child(name))


def placed(world: World) -> list[str]:
    """Return the orders that reached the gateway, without their bracket's name."""
    return [line["orderRef"].partition(".")[2] for line in placements(world.gateway.journal.lines or ())]


def net(world: World) -> Decimal:
    signs = {"BUY": 1, "SELL": -1}
    lines = executions(world.gateway.journal.lines or ())
    return sum((signs[line["action"]] * Decimal(line["quantity"]) for line in lines), Decimal(0))


def held(world: World) -> Decimal:
    """Return what the position actor believes."""
    return sum((Decimal(str(fact["quantity"])) for fact in world.actor("position").book.facts()), Decimal(0))


def booked(world: World) -> list[Decimal]:
    """Return the quantities of the fills in the database."""
    database = Database(world.settings.database_url).open()
    try:
        return [Decimal(row[0]) for row in database.execute("SELECT quantity FROM fills")]
    finally:
        database.close()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["entry", "stop.1"])
def test_an_order_that_dies_with_the_broker_is_sent_once(world: World, name: str, after: bool) -> None:
    if name != "entry":
        world.trade("AAPL", Decimal(101))
        opened(world)
    crash(world, world.actor("broker"), "SubmitOrder", after)
    if name == "entry":
        opened(world)
    else:
        world.trade("AAPL", Decimal(100))  # the entry fills, and its stop is asked for
    world.sleep(10)
    assert placed(world) == ["entry", "stop.1"]
    assert [order["status"] for order in final_orders(world.gateway.journal.lines or ()).values()] == [
        "Filled", "PreSubmitted"]  # fmt: skip


@pytest.mark.parametrize("after", [False, True])
def test_a_stop_that_dies_with_its_leg_is_sent_all_the_same(world: World, after: bool) -> None:
    world.trade("AAPL", Decimal(101))
    bracket = opened(world)
    state = world.brackets()[bracket]
    crash(world, world.host._engine.instance_at(state._child("stop")), "SubmitOrder", after)
    world.trade("AAPL", Decimal(100))
    world.sleep(3)
    assert placed(world) == ["entry", "stop.1"]


def test_a_stop_that_fires_while_the_broker_is_away_waits_for_its_successor(world: World) -> None:
    bracket = opened(world, exits=HELD)
    stop = leg(world, bracket, "stop")
    everybody = stop.directory
    others = {name: address for name, address in everybody.services.items() if name != "broker"}
    stop.receiveMessage(Directory(services=others), stop.parent)
    world.trade("AAPL", Decimal(94))
    world.settle()
    assert not stop.ended
    stop.receiveMessage(everybody, stop.parent)
    world.sleep(1)
    assert placed(world) == ["entry", "stop.1"]
    assert net(world) == 0


def test_a_held_stop_fires_however_often_broker_and_market_data_die(world: World) -> None:
    opened(world, exits=HELD)
    for name, kind in (("broker", "TimerDue"), ("market_data", "TimerDue")):
        crash(world, world.actor(name), kind)
        world.sleep(12)
    world.trade("AAPL", Decimal(94))
    world.sleep(2)
    assert placed(world) == ["entry", "stop.1"]
    assert net(world) == 0


def test_a_rule_is_watched_by_the_next_market_data_actor_too(world: World) -> None:
    submit(world, when=builders.when("AAPL", ">=", 103), limit=None)
    world.sleep(2)
    crash(world, world.actor("market_data"), "TimerDue")
    world.sleep(2)
    world.trade("AAPL", Decimal(104))
    world.sleep(2)
    assert placed(world) == ["entry", "stop.1"]


def test_a_trailing_stop_does_not_loosen_when_its_leg_dies(world: World) -> None:
    bracket = opened(world, exits=TRAILED)
    for price in (102, 104, 106):
        world.trade("AAPL", Decimal(price))
        world.sleep(1.5)
    crash(world, leg(world, bracket, "trail"), "TrailRatcheted")
    world.trade("AAPL", Decimal("106.5"))
    world.sleep(1.5)
    world.trade("AAPL", Decimal("103.9"))  # below 106 - 2, above 103.9 - 2
    world.sleep(1)
    assert placed(world) == ["entry", "trail.1"]
    assert net(world) == 0


@pytest.mark.parametrize(("name", "kind", "after"), [
    ("ledger", "OpenBracket", False), ("ledger", "OpenBracket", True),
    ("risk", "ReviewIntent", False), ("risk", "ReviewIntent", True),
])  # fmt: skip
def test_an_intent_is_answered_though_who_is_asked_dies(world: World, name: str, kind: str, after: bool) -> None:
    crash(world, world.actor(name), kind, after)
    opened(world)
    assert answer(world).accepted
    assert placed(world) == ["entry", "stop.1"]


@pytest.mark.parametrize("kind", ["SubmitIntent", "IntentApproved", "BracketOpened"])
def test_who_asks_again_after_the_router_died_gets_the_one_bracket(world: World, kind: str) -> None:
    """What risk had set aside for a bracket that never came is free again: else its signal is in flight for ever."""
    crash(world, world.actor("router"), kind)
    submit(world)
    world.sleep(2)
    assert "s" not in world.answers  # it died with the router; control says so after ten seconds
    submit(world, "again")
    world.sleep(2)
    assert answer(world, "again").accepted
    assert placed(world) == ["entry", "stop.1"]


def test_a_new_risk_actor_knows_the_account(world: World) -> None:
    crash(world, world.actor("risk"), "MarksChanged")
    opened(world)  # its position wants marks
    world.trade("AAPL", Decimal(101))
    world.sleep(3)
    assert world.starts == 1
    submit(world, "next", "sig-2", instrument="MSFT")
    world.sleep(2)
    assert answer(world, "next").accepted


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["ledger", "position", "risk"])
def test_a_fill_that_dies_with_a_bookkeeper_is_booked_by_its_successor(world: World, name: str, after: bool) -> None:
    crash(world, world.actor(name), "OrderFilled", after)
    opened(world)
    world.sleep(5)
    assert held(world) == 100
    assert booked(world) == [100]
    assert {fact["quantity"] for fact in world.actor("risk").desk.facts()["net"]} == {"100"}
    world.host.stop()
    world.start()
    world.sleep(5)
    assert held(world) == net(world) == 100


def test_a_position_that_the_ledger_lost_is_told_to_it_again(world: World) -> None:
    crash(world, world.actor("ledger"), "OrderFilled")  # and what is behind it in its mailbox
    opened(world)
    world.trade("AAPL", Decimal(94))
    world.sleep(2)
    for _ in range(2):
        world.host.stop()
        world.start()
        world.sleep(2)
        assert held(world) == net(world) == 0


def test_the_trouble_of_a_ledger_that_died_is_not_its_successors(world: World) -> None:
    world.say(msgspec.structs.replace(SubmitIntent(intent=builders.intent()), correlation="x"))
    world.settle()
    router = world.actor("router")
    router.receiveMessage(LedgerFailed(reason="disk full", ts_ns=world.now_ns), router.address)
    submit(world, "refused", "sig-2", instrument="MSFT")
    world.settle()
    assert answer(world, "refused").code == "ledger_down"
    crash(world, world.actor("ledger"), "TimerDue")
    world.sleep(3)
    submit(world, "taken", "sig-2", instrument="MSFT")
    world.sleep(1)
    assert answer(world, "taken").accepted


def test_a_verb_that_is_said_twice_is_answered_twice(world: World) -> None:
    """Control tells who waited in vain to ask again in the same words: under another correlation, that is."""
    bracket = opened(world)
    verb = FlattenBracket(bracket_id=bracket, command_id="desk:7", correlation="first")
    world.say(verb)
    world.say(msgspec.structs.replace(verb, correlation="second"))
    world.sleep(1)
    world.say(msgspec.structs.replace(verb, correlation="third"))
    world.sleep(1)
    assert [answer(world, name).code for name in ("first", "second", "third")] == ["accepted"] * 3
    assert net(world) == 0
    assert len(placed(world)) == 3


@pytest.mark.parametrize("after", [False, True])
def test_a_verb_is_answered_though_the_ledger_died_with_it(world: World, after: bool) -> None:
    bracket = opened(world, limit=90, exits=(builders.tranche(stop=builders.stop(80)),))
    crash(world, world.actor("ledger"), "RecordEvent", after)
    world.say(CancelEntry(bracket_id=bracket, command_id="c", correlation="c"))
    world.sleep(3)
    assert answer(world, "c").accepted


def test_a_bracket_is_rebuilt_though_the_ledger_died_when_it_was_asked(world: World) -> None:
    bracket = opened(world)
    crash(world, world.actor("ledger"), "LoadBracket")
    crash(world, world.brackets()[bracket], "GateClosed")
    world.wire.cut()
    world.sleep(5)
    assert bracket in world.brackets()
    world.say(FlattenBracket(bracket_id=bracket, command_id="c", correlation="c"))
    world.sleep(3)
    assert net(world) == 0


def test_what_a_detached_bracket_trades_while_we_are_away_is_booked(world: World) -> None:
    bracket = opened(world)
    world.say(DetachBracket(bracket_id=bracket, command_id="c", correlation="c"))
    world.sleep(1)
    world.host.stop()
    world.trade("AAPL", Decimal(94))
    world.start()
    world.sleep(10)
    assert net(world) == 0
    assert held(world) == 0


def test_what_a_closed_bracket_has_traded_keeps_no_question_about_the_account_waiting(world: World) -> None:
    opened(world)
    world.trade("AAPL", Decimal(94))
    world.sleep(70)
    assert net(world) == 0
    world.host.stop()
    world.start()
    world.sleep(10)
    fills = world.actor("broker").session.reports.fills
    assert fills.books.executions, "today's are told again"
    assert not fills.untold()


def test_an_end_is_seen_though_the_clock_was_set_back_an_hour(world: World) -> None:
    opened(world)
    world.wire.refusing = True
    world.wire.cut()
    world.sleep(1)
    world.skew_ns = -3600 * 1_000_000_000
    stop = next(order for order in world.working() if ".stop" in order.order_ref)
    world.gateway.deliver(world.gateway.exchange.reject(stop, 201, "while we were away", world.now_ns), world.now_ns)
    world.wire.refusing = False
    world.sleep(20)
    assert placed(world) == ["entry", "stop.1", "stop.2"]


def test_a_position_can_be_closed_though_its_contract_has_as_many_orders_as_ib_takes() -> None:
    exits = (builders.tranche(target=builders.target(110), stop=builders.stop(95)),)
    with scene(cap=15) as world:
        world.sleep(3)
        world.trade("AAPL", Decimal(101))
        for number in range(10):
            opened(world, correlation=f"s{number}", signal_id=f"sig-{number}", exits=exits, quantity=1)
        world.trade("AAPL", Decimal(100))
        world.sleep(1)
        assert len(world.working()) == 20
        one_more = opened(world, correlation="s10", signal_id="sig-10", exits=exits, quantity=1)
        assert one_more not in {order.order_ref.partition(".")[0] for order in world.working()}  # it had no exits
        bracket = answer(world, "s3").bracket_id
        world.say(FlattenBracket(bracket_id=bracket, command_id="c", correlation="c"))
        world.sleep(3)
        assert net(world) == 9
        assert len(world.working()) == 18


@pytest.mark.parametrize("seed", [*range(1, 17), 20125, 21035])
def test_everything_at_once(seed: int) -> None:
    play(seed)
