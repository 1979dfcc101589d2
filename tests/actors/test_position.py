"""The position actor: one record per execution, nothing before the ledger has answered."""

from __future__ import annotations

from decimal import Decimal

import pytest

from messages.ledger import LoadPositions, PositionsLoaded, RecordEvent
from messages.market import Feed, MarksChanged, Subscribe, Unsubscribe
from messages.risk import PositionSeen, TagPosition
from messages.session import DescribeService, ServiceDescribed
from messages.supervision import Directory
from tests import builders as b
from tests.actors.stage import Stage, stage

pytestmark = pytest.mark.unit
OTHERS = ("ledger", "broker", "control", "risk", "market_data")
NOTHING = PositionsLoaded(positions=(), exec_ids=())


@pytest.fixture
def desk(tmp_path):
    with stage(tmp_path, "position", "actors.position.Position", OTHERS) as made:
        yield made


def positions(desk: Stage) -> dict:
    desk.say("control", DescribeService(correlation="c"))
    (answer,) = desk.take("control", ServiceDescribed)
    return {each["instrument"]: each for each in answer.facts["positions"]}


def test_it_asks_the_ledger_first_and_again_when_the_answer_is_lost(desk):
    assert len(desk.take("ledger", LoadPositions)) == 1
    desk.pass_time(6)
    assert len(desk.take("ledger", LoadPositions)) == 1
    desk.say("ledger", NOTHING)
    desk.pass_time(6)
    assert not desk.heard("ledger", LoadPositions)


def test_each_execution_becomes_one_record_with_its_own_key(desk):
    desk.say("ledger", NOTHING)
    fill = b.fill("B1-test.entry", 100, 100)
    desk.say("broker", fill)
    desk.say("broker", fill)
    desk.say("broker", b.corrected(fill, 80))
    records = desk.take("ledger", RecordEvent)
    assert [record.key for record in records] == [f"pos:{fill.exec_id}:1", f"pos:{fill.exec_id}:2"]
    assert [record.event.quantity for record in records] == [100, 80]
    assert all(record.durable for record in records)  # told again to a ledger that dies before it has them


def test_executions_that_come_before_the_ledger_answers_wait_for_it(desk):
    before, after = b.fill("B1-test.entry", 100, 100), b.fill("B1-test.target.1", 100, 110)
    desk.say("broker", before)
    desk.say("broker", after)
    desk.say("broker", b.commission(after, "1.50"))
    assert not desk.heard("ledger", RecordEvent)
    stored = b.position_of(before)
    desk.say("ledger", PositionsLoaded(positions=(stored,), exec_ids=(before.exec_id,)))
    (record,) = desk.take("ledger", RecordEvent)
    assert (record.event.quantity, record.event.realized_pnl) == (0, 1000)
    assert positions(desk)["AAPL"]["commission"] == "1.50"


def test_unrealised_follows_the_marks(desk):
    desk.say("ledger", NOTHING)
    desk.say("broker", b.fill("B1-test.entry", 100, 100))
    assert positions(desk)["AAPL"]["unrealized_pnl"] is None
    desk.say("broker", MarksChanged(marks=(("AAPL", Decimal("98.5")),), ts_ns=b.NOW_NS))
    assert positions(desk)["AAPL"]["unrealized_pnl"] == "-150.0"


def tag(*tags: str) -> TagPosition:
    return TagPosition(account="DU1234567", conid=265598, strategy="Momentum_EQ", risk_tags=tags)


def test_a_position_carries_the_tags_of_the_intents_that_made_it(desk):
    desk.say("risk", tag("earnings"))       # approved before the ledger has answered
    desk.say("ledger", NOTHING)
    desk.say("broker", b.fill("B1-test.entry", 100))
    desk.say("risk", tag("hedged", "earnings"))
    desk.say("broker", b.fill("B2-test.entry", 100))
    desk.say("broker", b.fill("B1-test.stop.1", 200))
    desk.say("risk", tag("macro event"))
    desk.say("broker", b.fill("B3-test.entry", 1))
    assert [record.event.risk_tags for record in desk.heard("ledger", RecordEvent)] == [
        ("earnings",), ("earnings", "hedged"), ("earnings", "hedged"), ("macro event",)]


def test_prices_are_wanted_of_exactly_what_is_held(desk):
    desk.say("ledger", NOTHING)
    desk.say("broker", b.fill("B1-test.entry", 40))
    desk.say("broker", b.fill("B1-test.entry", 60))
    assert desk.take("market_data") == [Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT)]
    desk.say("broker", b.fill("B1-test.stop.1", 100))
    assert desk.take("market_data") == [Unsubscribe(instrument="AAPL", feed=Feed.SNAPSHOT)]


def test_a_market_data_actor_that_was_rebuilt_hears_of_what_is_held(desk):
    desk.say("ledger", PositionsLoaded(positions=(b.position_of(b.fill(quantity=5)),), exec_ids=()))
    assert desk.take("market_data", Subscribe)
    services = dict(desk.actor.directory.services)
    desk.say("control", Directory(services={**services, "market_data": services["risk"]}))
    assert desk.heard("risk", Subscribe) == [Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT)]


def test_the_venues_view_stands_beside_ours_and_changes_nothing(desk):
    desk.say("ledger", NOTHING)
    desk.say("broker", b.fill("B1-test.entry", 100))
    desk.say("broker", PositionSeen(account="DU1234567", conid=265598, instrument="AAPL", quantity=Decimal(130),
                                    avg_cost=Decimal(1), ts_ns=b.NOW_NS))
    desk.say("control", DescribeService(correlation="c"))
    (answer,) = desk.take("control", ServiceDescribed)
    assert [(each["quantity"], each["ours"]) for each in answer.facts["venue"]] == [("130", "100")]
    assert answer.facts["positions"][0]["quantity"] == "100"
