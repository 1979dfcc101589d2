"""The market-data actor: a tick in, a firing out to whoever armed; feeds, sessions and gaps respected."""

from __future__ import annotations

import os
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from actors.rules.tick_filter import trade_is_eligible
from actors.venue.feeds import Feeds
from actors.venue.port import TicksTold
from messages.market import (
    SCALE,
    ArmTrigger,
    DisarmTrigger,
    Feed,
    FeedChanged,
    HaltChanged,
    MarksChanged,
    QuoteTick,
    Subscribe,
    TickBatch,
    TradeTick,
    TrailRatcheted,
    TriggerArmed,
    TriggerFired,
    TriggerKind,
    TriggerMethod,
    TriggerRefused,
    Unsubscribe,
)
from messages.session import AlertRaised, DescribeService, ServiceDescribed
from tests import builders as b
from tests.actors.stage import Stage, stage

pytestmark = pytest.mark.unit
D = Decimal
HOUR = 3_600 * b.SECOND
EVENING_NS = b.NOW_NS + 7 * HOUR        # 17:00 in New York
OTHERS = ("broker", "position", "risk", "control", "child", "other")


@pytest.fixture
def desk(tmp_path):
    with stage(tmp_path, "market_data", "actors.market_data.MarketData", OTHERS) as made:
        yield made


def arm(arm_id="B1-x.stop", kind="stop", level="95", *, side="SELL", instrument="AAPL", method="default",
        incarnation=1, **changes) -> ArmTrigger:
    fields = {"sec_type": "STK", "level": None if level is None else D(level), **changes}
    return ArmTrigger(
        arm_id=arm_id, bracket_id=arm_id.split(".")[0], incarnation=incarnation, instrument=instrument, side=side,
        kind=TriggerKind(kind), method=TriggerMethod(method), **fields)


def trail(arm_id="B1-x.trail", amount="2", **changes) -> ArmTrigger:
    return arm(arm_id, "trail_amount", None, amount=D(amount), **changes)


def trade(price, *, after=0, instrument="AAPL", eligible=True, ts_ns=None) -> TradeTick:
    return TradeTick(instrument, int(D(price) * SCALE), 100.0, b.NOW_NS + after if ts_ns is None else ts_ns, eligible)


def quote(bid, ask, *, after=0, instrument="AAPL") -> QuoteTick:
    return QuoteTick(instrument, int(D(bid) * SCALE), int(D(ask) * SCALE), b.NOW_NS + after)


def tick(desk: Stage, *ticks) -> None:
    desk.say("broker", TickBatch(ticks=tuple(each if isinstance(each, tuple) else trade(each) for each in ticks)))


# -- firing ----------------------------------------------------------------------------------------------------


def test_a_price_that_meets_its_level_is_told_to_whoever_armed_it_and_to_nobody_else(desk):
    desk.say("child", arm())
    assert desk.take("child") == [TriggerArmed(arm_id="B1-x.stop", feed=Feed.TICK_BY_TICK)]
    tick(desk, "95.01")
    assert not desk.heard("child")
    tick(desk, "94.99", "94.50")
    assert desk.take("child") == [TriggerFired(
        arm_id="B1-x.stop", bracket_id="B1-x", price=D("94.99"), level=D(95), high_water=None, ratchets=0,
        ambiguous=False, tick_ts_ns=b.NOW_NS, ts_ns=b.NOW_NS)]
    assert not desk.heard("other")
    tick(desk, "90")
    assert not desk.heard("child"), "it fires once"


def test_a_trail_says_how_it_got_there(desk):
    desk.say("child", trail())
    tick(desk, "100", "101.50", "101", "103", "101.01")
    assert not desk.heard("child", TriggerFired)
    tick(desk, "101")
    (fired,) = desk.take("child", TriggerFired)
    assert (fired.price, fired.level, fired.high_water, fired.ratchets) == (101, 101, 103, 2)


def test_a_trail_that_was_activated_goes_on_after_a_gap_and_does_not_wait_for_its_price_again(desk):
    """Elsewhere an activated stop comes back dormant and never fires (peers.md)."""
    desk.say("child", trail(activation=D(105)))
    tick(desk, "100", "97")
    assert not desk.heard("child", TriggerFired), "dormant: nothing to fire yet"
    desk.say("child", trail(activation=D(105), high_water=D(106), initial_stop=D(104), incarnation=2))
    tick(desk, "103.50")
    (fired,) = desk.take("child", TriggerFired)
    assert (fired.price, fired.level) == (D("103.50"), 104)


def test_each_armer_hears_of_its_own(desk):
    desk.say("child", arm("B1-x.stop", level="95"))
    desk.say("other", arm("B2-x.stop", level="96", side="SELL"))
    tick(desk, "95.50")
    assert [fired.arm_id for fired in desk.heard("other", TriggerFired)] == ["B2-x.stop"]
    assert not desk.heard("child", TriggerFired)


def test_arming_again_replaces_and_the_last_armer_is_told(desk):
    desk.say("child", arm(level="95"))
    desk.say("other", arm(level="90", incarnation=2))
    tick(desk, "94")
    assert not desk.heard("child", TriggerFired)
    assert not desk.heard("other", TriggerFired)
    tick(desk, "90")
    assert len(desk.heard("other", TriggerFired)) == 1


def test_the_word_of_a_dead_incarnation_counts_for_nothing(desk):
    desk.say("other", arm(incarnation=2))
    desk.say("child", arm(level="99", incarnation=1))
    assert [refused.reason for refused in desk.take("child", TriggerRefused)] == [
        "incarnation 1 of bracket B1-x is over; 2 has armed it"]
    desk.say("child", DisarmTrigger(arm_id="B1-x.stop", incarnation=1))
    tick(desk, "95")
    assert len(desk.heard("other", TriggerFired)) == 1


def test_what_is_disarmed_stays_silent(desk):
    desk.say("child", arm())
    desk.say("child", DisarmTrigger(arm_id="B1-x.stop", incarnation=1))
    tick(desk, "90")
    assert not desk.heard("child", TriggerFired)


@pytest.mark.parametrize(("ask", "reason"), [
    (arm(level="95.0000001"), "price 95.0000001: at most 6 decimals fit the integer scale"),
    (arm(level="NaN"), "price NaN: must be a finite number"),
    (arm(level=None), "arm B1-x.stop: a stop takes a level"),
    (arm(method="double_last", sec_type="OPT"), "method double_last: AAPL has no such feed here"),
])
def test_an_arm_that_nothing_could_judge_is_refused_and_leaves_no_feed_behind(desk, ask, reason):
    desk.say("child", ask)
    assert [refused.reason for refused in desk.take("child", TriggerRefused)] == [reason]
    assert not desk.heard("broker")


# -- which price, which feed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "sec_type", "feed"), [
    ("default", "STK", Feed.TICK_BY_TICK), ("last", "STK", Feed.TICK_BY_TICK),
    ("double_last", "STK", Feed.TICK_BY_TICK), ("bid_ask", "STK", Feed.SNAPSHOT),
    ("double_bid_ask", "STK", Feed.SNAPSHOT),
    ("midpoint", "STK", Feed.SNAPSHOT), ("last_or_bid_ask", "STK", Feed.SNAPSHOT), ("default", "OPT", Feed.SNAPSHOT),
    ("default", "CASH", Feed.SNAPSHOT),
    ("last", "OPT", Feed.SNAPSHOT), ("default", "BAG", Feed.SNAPSHOT),
])
def test_each_method_names_its_feed(desk, method, sec_type, feed):
    desk.say("child", arm(method=method, sec_type=sec_type))
    assert desk.heard("child") == [TriggerArmed(arm_id="B1-x.stop", feed=feed)]
    assert desk.heard("broker") == [Subscribe(instrument="AAPL", feed=feed)]


def test_a_sell_stop_on_quotes_looks_at_the_bid(desk):
    desk.say("child", arm(method="bid_ask"))
    tick(desk, trade("90"), quote("95.01", "95.02"))
    assert not desk.heard("child", TriggerFired)
    tick(desk, quote("95.00", "95.10"))
    assert desk.heard("child", TriggerFired)[0].price == 95


def test_a_feed_is_asked_for_once_and_given_up_only_after_a_quiet_while(desk):
    desk.say("child", arm("B1-x.stop"))
    desk.say("other", arm("B2-x.stop"))
    assert desk.take("broker") == [Subscribe(instrument="AAPL", feed=Feed.TICK_BY_TICK)]
    desk.say("child", DisarmTrigger(arm_id="B1-x.stop", incarnation=1))
    desk.pass_time(60)
    assert not desk.heard("broker")
    tick(desk, "90")
    assert desk.heard("other", TriggerFired)
    desk.pass_time(20)
    assert not desk.heard("broker")
    desk.say("child", arm("B3-x.stop"))
    desk.pass_time(60)
    assert not desk.heard("broker"), "used again in time"
    desk.say("child", DisarmTrigger(arm_id="B3-x.stop", incarnation=1))
    desk.pass_time(31)
    assert desk.take("broker") == [Unsubscribe(instrument="AAPL", feed=Feed.TICK_BY_TICK)]


def test_a_position_gets_its_price_from_whatever_feed_there_is(desk):
    desk.say("position", Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT))
    desk.pass_time(1)
    assert desk.take("broker") == [Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT)]
    desk.say("child", arm())
    assert desk.take("broker") == [Subscribe(instrument="AAPL", feed=Feed.TICK_BY_TICK)]
    desk.pass_time(31)
    assert desk.take("broker") == [Unsubscribe(instrument="AAPL", feed=Feed.SNAPSHOT)]
    tick(desk, "95")
    desk.pass_time(1)
    assert desk.take("broker") == [Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT)], "the price is wanted still"
    desk.say("position", Unsubscribe(instrument="AAPL", feed=Feed.SNAPSHOT))
    desk.pass_time(1)
    desk.pass_time(31)
    assert {each.feed for each in desk.take("broker", Unsubscribe)} == set(Feed)


def test_a_price_that_comes_with_the_feed_of_an_exit_takes_no_line_of_its_own(desk):
    desk.say("position", Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT))
    desk.say("child", arm())
    desk.pass_time(2)
    assert desk.take("broker") == [Subscribe(instrument="AAPL", feed=Feed.TICK_BY_TICK)]
    tick(desk, "98")
    desk.pass_time(1)
    assert desk.heard("position", MarksChanged)


def test_a_refused_tick_by_tick_feed_is_replaced_by_snapshots_where_they_will_do(desk):
    desk.say("child", arm("B1-x.stop"))
    desk.say("other", arm("B2-x.stop", method="double_last"))
    desk.take("broker")
    desk.say("broker", FeedChanged(instrument="AAPL", live=False, reason="10190: too many", fresh_after_ns=b.NOW_NS,
                                   feed=Feed.TICK_BY_TICK, refused=True))
    assert desk.heard("child")[-1] == TriggerArmed(arm_id="B1-x.stop", feed=Feed.SNAPSHOT)
    assert [each.reason for each in desk.heard("other", TriggerRefused)] == ["AAPL: 10190: too many"]
    assert desk.take("broker") == [
        Unsubscribe(instrument="AAPL", feed=Feed.TICK_BY_TICK), Subscribe(instrument="AAPL", feed=Feed.SNAPSHOT)]
    tick(desk, "95")
    assert len(desk.heard("child", TriggerFired)) == 1
    desk.say("broker", FeedChanged(instrument="AAPL", live=False, reason="354: not subscribed", feed=Feed.SNAPSHOT,
                                   fresh_after_ns=b.NOW_NS, refused=True))
    desk.say("child", arm("B3-x.stop"))
    assert desk.heard("child", TriggerRefused)[0].reason == "method last: AAPL has no such feed here"


# -- when ------------------------------------------------------------------------------------------------------


def test_outside_regular_hours_nothing_fires_and_it_says_so_once(desk):
    desk.say("child", arm())
    tick(desk, trade("94", ts_ns=EVENING_NS), trade("93", ts_ns=EVENING_NS + b.SECOND))
    assert not desk.heard("child", TriggerFired)
    (alert,) = desk.take("control", AlertRaised)
    assert (alert.code, alert.severity) == ("out_of_hours", "info")
    assert alert.sentence == ("AAPL: 1 held trigger is for regular hours only; prices move outside them (09:30 to 16:00"
                              " New York) and nothing fires")
    tick(desk, trade("94", ts_ns=b.NOW_NS + 24 * HOUR))
    assert len(desk.heard("child", TriggerFired)) == 1, "a level, not an edge: the next session finds it through"


def test_recorded_ticks_are_judged_by_their_own_day(desk):
    monday_2013 = 1_381_154_400 * b.SECOND      # 2013-10-07 10:00 New York
    desk.say("child", arm(instrument="SPY", level="168.18"))
    tick(desk, trade("168.18", instrument="SPY", ts_ns=monday_2013))
    assert desk.heard("child", TriggerFired)[0].tick_ts_ns == monday_2013


def test_a_trigger_for_all_hours_fires_in_the_evening(desk):
    desk.say("child", arm(rth_only=False))
    tick(desk, trade("94", ts_ns=EVENING_NS))
    assert len(desk.heard("child", TriggerFired)) == 1
    assert not desk.heard("control", AlertRaised)


def test_nothing_fires_during_a_halt_and_the_level_is_met_after_it(desk):
    desk.say("child", arm())
    desk.say("broker", HaltChanged(instrument="AAPL", halted=True, ts_ns=b.NOW_NS))
    tick(desk, "90")
    assert not desk.heard("child", TriggerFired)
    desk.say("broker", HaltChanged(instrument="AAPL", halted=False, ts_ns=b.NOW_NS))
    tick(desk, "90")
    assert len(desk.heard("child", TriggerFired)) == 1


def test_a_print_that_may_not_move_prices_moves_nothing(desk):
    desk.say("child", arm())
    tick(desk, trade("90", eligible=False), trade("0"), trade("-1"))
    assert not desk.heard("child", TriggerFired)


def feed(desk: Stage, live: bool, *, after=0, feed=Feed.SNAPSHOT) -> None:
    desk.say("broker", FeedChanged(instrument="AAPL", live=live, reason="farm", feed=feed,
                                   fresh_after_ns=b.NOW_NS + after))


def test_after_a_start_a_snapshot_fires_only_on_what_is_newer_than_the_subscription(desk):
    desk.say("child", arm(sec_type="BAG"))
    feed(desk, True, after=10 * b.SECOND)
    tick(desk, trade("90", after=9 * b.SECOND))
    assert not desk.heard("child", TriggerFired)
    tick(desk, trade("90", after=10 * b.SECOND))
    assert len(desk.heard("child", TriggerFired)) == 1


def test_two_prices_on_both_sides_of_a_gap_are_not_consecutive(desk):
    desk.say("child", arm(method="double_last"))
    tick(desk, "96", "94")
    feed(desk, False, feed=Feed.TICK_BY_TICK)
    feed(desk, True, feed=Feed.TICK_BY_TICK)
    tick(desk, "94")
    assert not desk.heard("child", TriggerFired)
    tick(desk, "94")
    assert len(desk.heard("child", TriggerFired)) == 1
    assert [alert.code for alert in desk.heard("control", AlertRaised)] == ["blind", "seeing"]


def test_a_stop_that_is_through_when_it_is_armed_goes_at_once_on_a_fresh_price_only(desk):
    desk.say("other", arm("B0-x.stop", level="50"))
    tick(desk, "94")
    desk.say("child", arm("B1-x.stop", level="95"))
    assert len(desk.take("child", TriggerFired)) == 1
    desk.pass_time(11)
    desk.say("child", arm("B2-x.stop", level="95"))
    assert not desk.heard("child", TriggerFired), "eleven seconds old: the next price decides"
    desk.say("child", trail("B3-x.trail"))
    assert not desk.heard("child", TriggerFired)


# -- once a second ---------------------------------------------------------------------------------------------


def test_ratchets_are_told_at_most_once_a_second_and_only_the_newest(desk):
    desk.say("child", trail())
    tick(desk, "100", "101", "102")
    assert not desk.heard("child", TrailRatcheted)
    desk.pass_time(1)
    assert desk.take("child", TrailRatcheted) == [TrailRatcheted(
        arm_id="B1-x.trail", bracket_id="B1-x", high_water=D(102), stop=D(100), ratchets=2, ts_ns=b.NOW_NS + b.SECOND)]
    desk.pass_time(1)
    assert not desk.heard("child", TrailRatcheted)


def test_the_work_for_ratchets_is_bounded_and_none_is_forgotten(desk):
    for number in range(1_200):
        desk.say("child", trail(f"B{number}-x.trail", str(1 + number % 7)))
    tick(desk, "100", "101")
    heard = []
    for _ in range(6):
        desk.pass_time(1)
        some = desk.take("child", TrailRatcheted)
        assert len(some) <= 512
        heard += some
    assert len({each.arm_id for each in heard}) == 1_200


def test_marks_go_to_position_and_risk_once_a_second_and_only_when_they_changed(desk):
    desk.say("child", arm())
    desk.say("child", arm("B2-x.stop", instrument="SPY", method="bid_ask"))
    tick(desk, "100", "101.5", quote("190", "191", instrument="SPY"))
    desk.pass_time(1)
    for who in ("position", "risk"):
        (marks,) = desk.take(who, MarksChanged)
        assert dict(marks.marks) == {"AAPL": D("101.5"), "SPY": D("190.5")}
    desk.pass_time(1)
    assert not desk.heard("position")


def test_a_broker_that_was_rebuilt_is_asked_for_every_feed_again(desk):
    from messages.supervision import Directory

    desk.say("child", arm())
    desk.say("child", arm("B2-x.stop", method="bid_ask"))
    services = dict(desk.actor.directory.services)
    desk.say("control", Directory(services={**services, "broker": services["other"]}))
    assert {each.feed for each in desk.heard("other", Subscribe)} == set(Feed)


def test_it_describes_itself(desk):
    desk.say("child", arm())
    tick(desk, "100")
    desk.say("control", DescribeService(correlation="c"))
    (answer,) = desk.take("control", ServiceDescribed)
    assert answer.facts["armed"] == 1
    assert answer.facts["feeds"] == ["AAPL tick_by_tick"]
    assert answer.facts["instruments"]["AAPL"]["in_session"] is True
    assert answer.facts["instruments"]["AAPL"]["mark"] == "100"


# -- real ticks ------------------------------------------------------------------------------------------------


def spy_trades(first_ms: int, last_ms: int):
    """Return SPY's prints of 2013-10-07 as the venue sends them: whole seconds, sale conditions judged."""
    root = Path(os.environ.get("BRACKETEER_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
    path = root / "lean" / "equity_tick" / "spy" / "20131007_trade.zip"
    if not path.exists():
        pytest.skip("SPY's ticks are not here: set BRACKETEER_DATA to the folder of shared data")
    midnight = 1_381_118_400 * b.SECOND
    with zipfile.ZipFile(path) as archive:
        for line in archive.read(archive.namelist()[0]).decode().splitlines():
            ms, price, size, _, conditions, suspicious = line.split(",")
            if first_ms <= int(ms) <= last_ms:
                may = trade_is_eligible(int(price), int(conditions, 16), suspicious=suspicious != "0")
                yield TradeTick("SPY", int(price) * 100, float(size), midnight + int(ms) // 1000 * b.SECOND, may)


def test_the_trail_of_the_seventh_of_october_fires_where_it_must(desk):
    """SPY, SELL trail of 0.20 armed at 10:00:00: 168.18 at 10:34:54 after 62 ratchets."""
    desk.say("child", trail(instrument="SPY", amount="0.20"))
    ticks = list(spy_trades(36_000_000, 38_400_000))
    for start in range(0, len(ticks), 500):
        desk.say("broker", TickBatch(ticks=tuple(ticks[start : start + 500])))
    (fired,) = desk.heard("child", TriggerFired)
    assert (fired.price, fired.ratchets) == (D("168.18"), 62)
    assert fired.tick_ts_ns == (1_381_118_400 + 10 * 3_600 + 34 * 60 + 54) * b.SECOND
    assert fired.high_water - fired.level == D("0.20")


# -- clocks ----------------------------------------------------------------------------------------------------


class _Said:
    """What the feeds need of the broker's desk: somewhere to say things."""

    venue = None

    def __init__(self):
        self.said = []

    def tell(self, to, message):
        self.said.append(message)


@pytest.mark.parametrize(("ahead", "expected"), [(0, 0), (2, 0), (-3_600, -3_600)])
def test_quotes_move_to_the_venues_clock_where_it_is_another(ahead, expected):
    said = _Said()
    feeds = Feeds(said)
    feeds.venue_ahead_ns = ahead * b.SECOND
    feeds.ticks(TicksTold((quote("95", "96"), trade("95"))))
    (batch,) = said.said
    assert batch.ticks == (quote("95", "96", after=expected * b.SECOND), trade("95"))
