"""Sessions and halts: when the exchange is open, and what orders and data do when it is not."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal as D
from itertools import pairwise

import pytest

from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.hours import Hours, Phase
from actors.venue.simulator.journal import select
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.validation import NEW_YORK
from tests.venue.gateway_fixture import NS, RawClient, memory_gateway
from tests.venue.test_sim_data import ask, codes, ticks
from tests.venue.test_sim_session import AAPL, ids, place

pytestmark = pytest.mark.unit


def at(text: str) -> int:
    """Return a New York time of October 2013 (7: Monday), or a whole date, in nanoseconds."""
    text = text if "-" in text else f"2013-10-{text}"
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * NS


# the calendar --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("when", "phase", "until"), [
    ("07 03:59:59", Phase.CLOSED, "07 04:00"), ("07 04:00", Phase.EXTENDED, "07 09:30"),
    ("07 09:29:59", Phase.EXTENDED, "07 09:30"), ("07 09:30", Phase.REGULAR, "07 16:00"),
    ("07 16:00", Phase.EXTENDED, "07 20:00"), ("07 20:00", Phase.CLOSED, "08 04:00"),
    ("11 21:00", Phase.CLOSED, "15 04:00"), ("12 12:00", Phase.CLOSED, "15 04:00"),
    ("14 12:00", Phase.CLOSED, "15 04:00"),                     # told to be a holiday
    ("16 13:00", Phase.EXTENDED, "16 17:00"), ("16 17:00", Phase.CLOSED, "17 04:00")])      # told to be a half day
def test_the_phases_of_a_week(when, phase, until):
    hours = Hours(holidays=("20131014",), half_days=("20131016",))
    assert (hours.phase(at(when)), hours.next_change_ns(at(when))) == (phase, at(until))


def test_a_day_has_its_hours_in_new_york_whatever_the_season():
    hours = Hours()
    for day in ("2013-11-01", "2013-11-04", "2014-03-07", "2014-03-10"):        # before and after the clocks change
        assert hours.phase(at(f"{day} 09:30")) is Phase.REGULAR
        assert hours.phase(at(f"{day} 09:29:59")) is Phase.EXTENDED
        assert hours.close_ns(at(f"{day} 12:00"), extended=False) == at(f"{day} 16:00")


def test_openings_and_closings_to_come():
    hours = Hours()
    assert hours.next_open_ns(at("11 16:30"), extended=False) == at("14 09:30")
    assert hours.next_open_ns(at("11 16:30"), extended=True) == at("14 04:00")
    assert hours.close_ns(at("11 16:30"), extended=True) == at("11 20:00")
    assert hours.close_ns(at("11 16:30"), extended=False) == at("14 16:00")


def test_the_phases_of_a_year_follow_one_another_without_a_gap():
    hours, now, seen = Hours(), at("01 00:00"), []
    while now < at("2014-10-01 00:00"):
        seen.append(hours.phase(now))
        now = hours.next_change_ns(now)
    assert seen[:5] == [Phase.CLOSED, Phase.EXTENDED, Phase.REGULAR, Phase.EXTENDED, Phase.CLOSED]
    assert all(a is not b for a, b in pairwise(seen))
    assert seen.count(Phase.REGULAR) == 261


@pytest.mark.parametrize("text", ["2013-10-07", "20131307", "christmas"])
def test_a_day_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected yyyymmdd"):
        Hours(holidays=(text,))


# orders in their hours -----------------------------------------------------------------------------------------------

class Desk:
    """A gateway that keeps hours, one client, and a clock that starts at a New York time."""

    def __init__(self, start: str, **settings):
        self.start_ns = at(start)
        text = datetime.fromtimestamp(self.start_ns // NS, NEW_YORK).strftime("%Y-%m-%dT%H:%M:%S")
        rules = {k: settings.pop(k) for k in list(settings) if k in ExchangeRules.__struct_fields__}
        self.gateway = memory_gateway(start=text, always_open=False, walk_interval=D(10**7),
                                      rules=ExchangeRules(**rules), **settings)
        self.client = RawClient(self.gateway)
        self.base = self.client.now

    def go(self, when: str):
        """Let time pass until then, and return what the client heard."""
        self.client.now = self.base + at(when) - self.start_ns
        self.gateway.advance(self.client.now)
        return self.client.read()

    def place(self, order_id: int, outside: bool = False, **more):
        fields = place(order_id, **more)
        assert fields[32:35] == ["0", "0", "0"]
        fields[33] = "1" if outside else "0"
        return self.client.send(*fields)

    def trade(self, price):
        contract = self.gateway.contracts.named("AAPL")
        trade = Trade(D(str(price)), D(100), self.gateway.exchange_ns(self.client.now))
        self.gateway.set_quote(contract, self.client.now, bid=trade.price - D("0.01"), ask=trade.price + D("0.01"),
                               match=False)
        self.gateway.trade(contract, trade, self.client.now)
        return self.client.read()

    def status(self, order_id: int) -> str:
        order = self.gateway.known_order(1, order_id)
        assert order is not None
        return order.status


def spelled(messages) -> list[str]:
    return [f"{m[0]} {m[2]}" if m[0] == "3" else f"4 {m[3]}" if m[0] == "4" else m[0] for m in messages]


def test_an_order_before_the_open_is_warned_of_with_399_and_works_from_the_open_on():
    desk = Desk("07 08:00")
    answer = desk.place(1, lmt="101")
    assert spelled(answer) == ["5", "3 PreSubmitted", "4 399"]
    assert answer[2][4] == ("Order Message:\nBUY 100 AAPL NASDAQ.NMS\nWarning: your order will not be placed at the "
                            "exchange until 2013-10-07 09:30:00 US/Eastern")
    assert desk.trade(90) == [], "the market trades through it before the open"
    assert spelled(desk.go("07 09:30"))[:4] == ["5", "3 Submitted", "11", "5"]
    assert desk.status(1) == "Filled"


def test_a_resting_order_is_submitted_at_the_open_and_a_gtc_order_is_held_over_the_night():
    desk = Desk("07 08:00")
    desk.place(1, lmt="90", tif="GTC")
    assert spelled(desk.go("07 09:30")) == ["5", "3 Submitted"]
    assert spelled(desk.go("07 16:00")) == ["5", "3 PreSubmitted"]
    assert desk.trade(80) == []
    assert spelled(desk.go("08 09:30"))[:2] == ["5", "3 Submitted"]
    assert desk.status(1) == "Filled"


@pytest.mark.parametrize(("placed", "outside", "ends"), [
    ("07 10:00", False, "07 16:00"), ("07 10:00", True, "07 20:00"), ("07 16:30", True, "07 20:00"),
    ("07 16:30", False, "08 16:00"), ("11 20:30", False, "14 16:00"), ("12 12:00", True, "14 20:00")])
def test_a_day_order_ends_with_its_session(placed, outside, ends):
    desk = Desk(placed)
    desk.place(1, outside, lmt="50")
    last = datetime.fromtimestamp(at(ends) // NS - 1, NEW_YORK).strftime("%d %H:%M:%S")
    desk.go(last)
    assert desk.gateway.exchange.orders
    assert spelled(desk.go(ends))[-2:] == ["3 Cancelled", "4 202"]
    assert desk.gateway.exchange.done[1, 1].done_ns == at(ends)


@pytest.mark.parametrize(("kind", "price", "outside", "rules", "fills"), [
    ("LMT", {"lmt": "101"}, True, {}, True), ("LMT", {"lmt": "101"}, False, {}, False),
    ("MKT", {}, True, {}, False), ("MKT", {}, False, {}, False),
    ("STP", {"aux": "100"}, True, {}, False), ("STP", {"aux": "100"}, False, {}, False),
    ("STP", {"aux": "100"}, False, {"stop_outside_rth": True}, False),
    ("STP", {"aux": "100"}, True, {"stop_outside_rth": True}, True)])
def test_what_trades_after_hours(kind, price, outside, rules, fills):
    desk = Desk("07 17:00", **rules)
    heard = desk.place(1, outside, kind=kind, **price) + desk.trade(100)
    assert ("11" in ids(heard)) == fills
    assert ("4 399" in spelled(heard)) != fills
    assert ("4 2109" in spelled(heard)) == (kind != "LMT" and outside and not fills)


def test_a_stop_does_not_trigger_in_the_night_and_does_at_the_open():
    desk = Desk("07 10:00")
    desk.place(1, action="SELL", kind="STP", aux="95", tif="GTC")
    desk.go("07 17:00")
    assert desk.trade(90) == []
    assert desk.status(1) == "PreSubmitted"
    desk.go("08 09:29:59")
    assert desk.status(1) == "PreSubmitted"
    desk.go("08 09:30")
    assert desk.status(1) == "Filled"


def test_an_ioc_order_out_of_hours_is_cancelled_at_once():
    desk = Desk("07 05:00")
    assert spelled(desk.place(1, lmt="101", tif="IOC"))[-2:] == ["3 Cancelled", "4 202"]


def test_a_new_day_begins_with_yesterdays_last_as_its_close_and_no_volume():
    desk = Desk("07 10:00")
    desk.trade(105)
    desk.go("08 04:00")
    q = desk.gateway.exchange.quote_of(265598)
    assert (q.close, q.open, q.high, q.volume, q.trades) == (D(105), None, None, 0, 0)
    assert [line["phase"] for line in select(desk.gateway.journal.lines, "market", "sim")] == [
        "extended", "closed", "extended"]


# data in the night ---------------------------------------------------------------------------------------------------

def test_live_data_show_no_quote_in_the_night_and_frozen_data_the_last_one():
    desk = Desk("07 19:59")
    ask(desk.client, 1)
    desk.client.send(59, 1, 2)
    assert [m[3] for m in ask(desk.client, 2) if m[0] == "58"] == ["1"]
    night = desk.go("07 20:00")
    assert ticks([m for m in night if m[2] == "1"]) == {"1": "-1", "0": "0", "2": "-1", "3": "0"}
    assert [m for m in night if m[2] == "2"] == [["58", "1", "2", "2"]]
    opening = ask(desk.client, 3)
    assert [m[3] for m in opening if m[0] == "58"] == ["2"]
    assert ticks(opening)["1"] == "99.99"
    desk.client.send(59, 1, 1)
    assert ticks(ask(desk.client, 4))["1"] == "-1"
    assert ids(ask(desk.client, 5, snapshot=1))[-1] == "57"
    morning = desk.go("08 04:00")
    assert ticks([m for m in morning if m[2] == "1"])["1"] == "99.99"
    assert ["58", "1", "2", "1"] in morning


def test_bars_are_told_in_their_hours_only():
    desk = Desk("07 15:59:50")
    desk.client.send(50, 3, 1, *AAPL, 5, "TRADES", 1, "")
    desk.client.send(50, 3, 2, *AAPL, 5, "TRADES", 0, "")
    assert [m[2] for m in desk.go("07 16:00:10")] == ["1", "2", "1", "2", "2", "2"]


# halts ---------------------------------------------------------------------------------------------------------------

def test_a_halt_is_told_holds_orders_and_ends_with_the_orders_meeting_the_market():
    gateway = memory_gateway()
    client = RawClient(gateway)
    ask(client, 5)
    client.send(10, 5, 6, *AAPL, 2, 1, "")
    contract = gateway.contracts.named("AAPL")
    gateway.halt(contract, 1, client.now)
    assert client.read() == [["45", "6", "5", "49", "1"]]
    assert spelled(client.send(*place(1, lmt="101"))) == ["5", "3 PreSubmitted", "5", "3 Submitted"]
    gateway.halt(contract, 0, client.now)
    heard = client.read()
    assert heard[0] == ["45", "6", "5", "49", "0"]
    assert codes(heard) == ["317"], "the book is emptied"
    assert [m[0] for m in heard[2:6]] == ["13"] * 4
    assert "11" in ids(heard)
    assert [line["halted"] for line in select(gateway.journal.lines, "halt", "sim")] == [1, 0]


def test_orders_for_a_halted_contract_can_be_refused_with_154():
    gateway = memory_gateway(rules=ExchangeRules(halt_refuses=True))
    client = RawClient(gateway)
    gateway.halt(gateway.contracts.named("AAPL"), 1, client.now)
    assert codes(client.send(*place(1, lmt="101"))) == ["154"]
    gateway.halt(gateway.contracts.named("AAPL"), 0, client.now)
    assert codes(client.send(*place(2, lmt="101"))) == []


def test_a_scenario_halts_and_reopens(tmp_path):
    path = tmp_path / "story.toml"
    path.write_text('title = "t"\n[[step]]\nhalt = {symbol = "AAPL"}\n[[step]]\nwhen = {working = "*"}\n'
                    'halt = {symbol = "AAPL", halted = 0}\n')
    gateway = memory_gateway(scenario=str(path))
    client = RawClient(gateway)
    gateway.advance(client.now)
    client.send(*place(1, lmt="101"))
    assert gateway.exchange.quote_of(265598).halted == 1
    gateway.advance(client.now)
    assert "11" in ids(client.read())


def test_delayed_data_hear_of_the_night_and_of_a_halt_as_late_as_of_everything():
    desk = Desk("07 19:50", data_permission="delayed")
    desk.client.send(59, 1, 3)
    ask(desk.client, 1)
    desk.gateway.halt(desk.gateway.contracts.named("AAPL"), 1, desk.client.now)
    assert desk.client.read() == []
    assert desk.go("07 20:05") == [["45", "6", "1", "90", "1"]]
    assert ticks(desk.go("07 20:15")) == {"66": "-1", "69": "0", "67": "-1", "70": "0"}
    assert ticks(desk.go("08 04:15"))["66"] == "99.99"


def test_a_gateway_that_is_started_again_in_the_night_holds_what_worked_by_day(tmp_path):
    state = str(tmp_path / "state")
    day = Desk("07 15:00", state=state)
    day.place(1, lmt="90", tif="GTC")
    assert day.status(1) == "Submitted"
    day.gateway.close()
    night = Desk("07 21:00", state=state)
    assert night.status(1) == "PreSubmitted"
    night.trade(80)
    night.go("08 09:30")
    assert night.status(1) == "Filled"
    night.gateway.close()
