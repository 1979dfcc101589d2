"""The exchange's clock: exact both ways, started anywhere, at any speed, and everything timed on it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal as D
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.agenda import Agenda
from actors.venue.simulator.clock import Clock, speed_of, start_of
from actors.venue.simulator.journal import select
from actors.venue.simulator.replay import Replay
from actors.venue.simulator.wire import frame
from tests.venue.gateway_fixture import NS, START_NS, RawClient, memory_gateway
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.unit
OCTOBER_7 = int(datetime(2013, 10, 7, 13, 30, tzinfo=UTC).timestamp()) * NS      # 09:30 New York
moments = st.integers(0, 4 * 10**18)
speeds = st.fractions(Fraction(1, 1000), 1000)


@settings(max_examples=100, deadline=None)
@given(moments, moments, speeds, moments)
def test_the_callers_moment_is_the_first_at_which_the_exchange_has_come_there(began, start, speed, asked):
    clock = Clock(began, start, speed)
    when = clock.caller_ns(asked)
    assert when is not None
    assert clock.exchange_ns(when) >= asked > clock.exchange_ns(when - 1)


@settings(max_examples=100, deadline=None)
@given(moments, speeds, st.lists(moments, min_size=2, max_size=5))
def test_a_clock_never_goes_back(start, speed, when):
    clock = Clock(0, start, speed)
    times = [clock.exchange_ns(ns) for ns in sorted(when)]
    assert times == sorted(times)


def test_the_plain_clock_is_the_callers():
    clock = Clock(START_NS)
    assert (clock.exchange_ns(START_NS + 7), clock.caller_ns(5), clock.differs) == (START_NS + 7, 5, False)


def test_a_clock_that_stands_says_no_time_to_come():
    clock = Clock(START_NS)
    clock.stand(OCTOBER_7)
    assert clock.exchange_ns(START_NS) == clock.exchange_ns(START_NS + NS) == OCTOBER_7
    assert clock.caller_ns(OCTOBER_7 + 1) is None
    assert not clock.flows


def test_a_pinned_clock_says_the_events_time_and_goes_on_afterwards():
    clock = Clock(0, OCTOBER_7, Fraction(60))
    assert clock.pin(7) is None
    assert clock.pin(8) == 7
    assert clock.exchange_ns(NS) == 8
    assert clock.pin(None) == 8
    assert clock.exchange_ns(NS) == OCTOBER_7 + 60 * NS


@pytest.mark.parametrize("text", ["0", "-1", "fast", "max", "1/0", "1e9", ""])
def test_a_speed_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="--speed"):
        speed_of(text)


@pytest.mark.parametrize(("text", "expected"), [
    ("2013-10-07T09:30", OCTOBER_7), ("2013-10-07 09:30:15", OCTOBER_7 + 15 * NS), ("09:30", None)])
def test_a_start_is_a_new_york_time(text, expected):
    today = int(datetime(2025, 10, 9, 13, 30, tzinfo=UTC).timestamp()) * NS
    assert start_of(text, START_NS) == (today if expected is None else expected)


@pytest.mark.parametrize("text", ["yesterday", "2013-13-07T09:30", "25:00", "2013-10-07", "09:30:61"])
def test_a_start_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="--start"):
        start_of(text, START_NS)


def test_an_agenda_on_another_clock_is_done_until_its_own_time_and_told_the_callers():
    heard = []
    agenda = Agenda()
    agenda.at(100, lambda now: heard.append(now))
    agenda.run(7, 99)
    assert heard == []
    agenda.run(8, 100)
    assert heard == [8]


# the gateway on such a clock -----------------------------------------------------------------------------------------

def fast(**more):
    return memory_gateway(start="2013-10-07T09:30", speed="60", **more)


def test_the_gateway_tells_the_exchanges_time():
    client = RawClient(fast())
    assert client.seen[0][1].startswith("20131007 13:30:00")
    client.now += NS
    assert client.send(49, 1) == [["49", "1", str(OCTOBER_7 // NS + 60)]]


def test_orders_end_on_the_exchanges_clock_and_the_caller_is_told_when_on_his_own():
    gateway = fast()
    client = RawClient(gateway)
    fields = place(1, lmt="90", tif="GTD")
    fields[38] = "20131007-13:40:00"
    client.send(*fields)
    assert gateway.advance(START_NS) == START_NS + 10 * NS
    gateway.advance(START_NS + 10 * NS - 1)
    assert gateway.exchange.orders
    gateway.advance(START_NS + 10 * NS)
    order = gateway.exchange.done[1, 1]
    assert (order.status, order.done_ns) == ("Cancelled", OCTOBER_7 + 600 * NS)
    line = select(gateway.journal.lines, "order", "sim")[-1]
    assert line["status"] == "Cancelled"
    assert (line["ts_ns"], line["ex_ns"]) == (START_NS + 10 * NS, OCTOBER_7 + 600 * NS)


def test_the_walk_and_a_scenario_keep_the_exchanges_pace(tmp_path):
    gateway = fast(walk_interval=D(6))
    assert gateway.advance(START_NS) == START_NS + NS // 10
    path = tmp_path / "story.toml"
    path.write_text('title = "t"\n[[step]]\nafter = 30.0\nprice = {symbol = "AAPL", last = 50}\n')
    gateway = fast(scenario=str(path))
    assert gateway.advance(START_NS) == START_NS + NS // 2
    gateway.advance(START_NS + NS // 2)
    quote = gateway.exchange.quote_of(265598)
    assert (quote.last, quote.time_ns) == (D(50), OCTOBER_7 + 30 * NS)


def test_work_on_the_timetable_bears_the_time_that_it_was_due_for_however_late_the_turn():
    gateway = fast()
    heard = []

    def work(now):
        heard.append((now, gateway.exchange_ns(now)))
        return OCTOBER_7 + 20 * NS if len(heard) == 1 else None

    gateway.exchange_agenda.at(OCTOBER_7 + 10 * NS, work)
    gateway.advance(START_NS + NS)
    assert heard == [(START_NS + NS, OCTOBER_7 + 10 * NS), (START_NS + NS, OCTOBER_7 + 20 * NS)]


def test_a_paced_replays_clock_goes_on_between_two_prints_and_one_in_lockstep_stands(tmp_path):
    path = tmp_path / "20131007_spy_Trade_Tick.csv"
    path.write_text("34200000,1680000,100,P,1,0\n34260000,1681000,100,P,1,0\n")
    for speed, later in (("60", 30), ("lockstep", 0)):
        gateway = memory_gateway(replay=str(path), speed=speed, replay_wait=False)
        client = RawClient(gateway)
        client.send(97, 1, "0", "SPY", "STK", "", "0", "", "", "SMART", "", "USD", "", "", "AllLast", 0, 0)
        gateway.advance(START_NS)
        assert isinstance(gateway.driver, Replay)
        assert gateway.driver.sent == 1
        assert gateway.exchange_ns(START_NS + NS // 2) == OCTOBER_7 + later * NS


def test_a_replays_start_may_name_its_day(tmp_path):
    path = tmp_path / "spy.csv"
    path.write_text("34200000,1680000,100,P,1,0\n34260000,1681000,100,P,1,0\n")
    gateway = memory_gateway(replay=str(path), start="2013-10-07T09:30:30", symbol="SPY", replay_wait=False,
                             speed="max")
    gateway.advance(START_NS)
    assert gateway.exchange.quote_of(756733).time_ns == OCTOBER_7 + 60 * NS


@pytest.mark.parametrize(("more", "said"), [
    ({"speed": "max"}, "need a replay"), ({"speed": "0"}, "--speed"), ({"start": "noon"}, "--start")])
def test_a_clock_that_cannot_be_set_is_refused(more, said):
    with pytest.raises(ValueError, match=said):
        memory_gateway(**more)


def test_the_command_line_sets_the_clock_the_market_and_what_is_seen():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(root / "run.py"), "gateway", "--json", "--port", "0", "--market", "model", "--start",
               "2013-10-07T09:30", "--speed", "60", "--hours", "--conflate-ms", "250", "--data", "delayed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            with socket.create_connection(("127.0.0.1", port), 10) as wire:
                wire.sendall(b"API\0" + frame(b"v157..176"))
                assert b"20131007 13:3" in wire.recv(100)
        finally:
            process.terminate()
