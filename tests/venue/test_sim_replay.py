"""Recorded trades: read, filtered, paced, and replayed in lockstep with a real ib_insync over a real socket."""

from __future__ import annotations

import asyncio
import os
import zipfile
from decimal import Decimal as D
from pathlib import Path

import ib_insync
import pytest

from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.journal import Journal, placements, read_journal, select
from actors.venue.simulator.replay import ReplayError, midnight_ns, rows, symbol_of
from actors.venue.simulator.settings import GatewaySettings
from tests.venue.gateway_fixture import NS, ROOT, START_NS, RawClient, client_of, gateway_server, run, until
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.integration
SPY = ["0", "SPY", "STK", "", "0", "", "", "SMART", "", "USD", "", ""]
MIDNIGHT = 1381118400 * NS                       # 2013-10-07 00:00 New York
DATA = Path(os.environ.get("BRACKETEER_DATA", ROOT.parent / "shared" / "data"))
REAL_TICKS = DATA / "lean/equity_tick/spy/20131007_trade.zip"


def ticks(folder: Path, lines: list[str], name: str = "20131007_spy_trade.csv") -> str:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return str(path)


SIX = ["36000000,1680000,100,P,1,0", "36000500,1681000,200,Z,20000020,0", "36001000,1679000,300,Q,20,0",
       "36001500,1682000,400,K,1,1", "36002000,1678000,500,P,100001,0", "36060000,1677000,600,P,1,0"]


def test_prices_times_and_conditions_are_read(tmp_path):
    read = list(rows(ticks(tmp_path, SIX), MIDNIGHT, 0, 2**63))
    assert [(t.price, t.size, t.exchange, t.eligible) for t in read] == [
        (D(168), 100, "P", True), (D("168.1"), 200, "Z", False), (D("167.9"), 300, "Q", False),
        (D("168.2"), 400, "K", False), (D("167.8"), 500, "P", False), (D("167.7"), 600, "P", True)]
    assert read[0].time_ns == MIDNIGHT + 10 * 3600 * NS
    assert read[1].conditions == "0x20000020"
    assert read[1].mask == 2


def test_midnight_is_new_york_s_and_day_and_symbol_come_from_the_name(tmp_path):
    assert midnight_ns(None, "/x/20131007_trade.zip") == MIDNIGHT
    assert midnight_ns("20131007", "ticks.csv") == MIDNIGHT
    assert symbol_of("/x/20131007_spy_Trade_Tick.csv") == "SPY"
    path = tmp_path / "20131007_trade.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("20131007_spy_Trade_Tick.csv", "\n".join(SIX))
    assert symbol_of(str(path)) == "SPY"
    assert len(list(rows(str(path), MIDNIGHT, 0, 2**63))) == 6


@pytest.mark.parametrize(("lines", "more", "said"), [
    (["36000000,abc,1,P,1,0"], {}, ":1: expected ms,price"),
    (SIX, {"start": "11:00:00"}, "no trade between"),
    (SIX, {"start": "25:00"}, "--start '25:00'"),
    (SIX, {"speed": "-1"}, "--speed '-1'"),
    (SIX, {"speed": "fast"}, "--speed 'fast'"),
    (SIX, {"symbol": "NOPE"}, "NOPE"),
    (SIX, {"replay_date": "yesterday"}, "the day is in neither"),
])
def test_what_cannot_be_replayed_is_refused_before_any_port_opens(tmp_path, lines, more, said):
    settings = GatewaySettings(replay=ticks(tmp_path, lines), **more)
    with pytest.raises(ReplayError) as refused:
        make_gateway(settings, Journal(), START_NS)
    assert said in str(refused.value)


def test_a_bad_line_in_mid_file_ends_the_replay_and_not_the_gateway(tmp_path):
    path = ticks(tmp_path, [*SIX[:2], "1,2", *SIX[2:]])
    gateway = make_gateway(GatewaySettings(replay=path, speed="max"), Journal(keep=True), START_NS)
    client = RawClient(gateway)
    watch(client)
    gateway.advance(START_NS)
    assert len(client.read()) == 2
    (failed,) = select(gateway.journal.lines, "replay_failed")
    assert f"{path}:3:" in failed["reason"]
    assert client.send(49, 1)[0][0] == "49"


def replaying(folder: Path, **settings):
    gateway = make_gateway(GatewaySettings(replay=ticks(folder, SIX), **settings), Journal(keep=True), START_NS)
    return gateway, RawClient(gateway)


def watch(client: RawClient) -> None:
    client.send(97, 5, *SPY, "AllLast", 0, 0)


def test_nothing_is_sent_until_somebody_watches_and_exchange_time_follows_the_file(tmp_path):
    gateway, client = replaying(tmp_path, speed="1")
    assert gateway.advance(START_NS) is None
    watch(client)
    due = gateway.advance(START_NS)
    assert due == START_NS + NS // 2
    assert [m[4] for m in client.read()] == ["168"]
    assert client.send(49, 1) == [["49", "1", str(MIDNIGHT // NS + 36000)]]
    gateway.advance(START_NS + 2 * NS)
    assert [(m[4], m[6], m[8]) for m in client.read()] == [
        ("168.1", "2", "0x20000020"), ("167.9", "2", "0x20"), ("168.2", "2", "0x1"), ("167.8", "2", "0x100001")]


def test_speed_ten_is_ten_times_as_fast_and_max_does_not_wait(tmp_path):
    gateway, client = replaying(tmp_path, speed="10")
    watch(client)
    assert gateway.advance(START_NS) == START_NS + NS // 20
    gateway, client = replaying(tmp_path, speed="max")
    watch(client)
    gateway.advance(START_NS)
    assert len(client.read()) == 6
    assert select(gateway.journal.lines, "replay_done")[0]["trades"] == 6


def test_from_and_to_are_inclusive(tmp_path):
    gateway, client = replaying(tmp_path, speed="max", start="10:00:00.500", to="10:00:01.5")
    watch(client)
    gateway.advance(START_NS)
    assert [m[4] for m in client.read()] == ["168.1", "167.9", "168.2"]


def test_in_lockstep_the_next_print_waits_for_a_question_of_a_subscriber(tmp_path):
    gateway, client = replaying(tmp_path, speed="lockstep")
    bystander = RawClient(gateway, 2)
    watch(client)
    gateway.advance(START_NS)
    assert [m[4] for m in client.read()] == ["168"]
    bystander.send(49, 1)
    assert gateway.advance(START_NS) is None
    assert client.read() == []
    client.send(49, 1)
    gateway.advance(START_NS)
    assert [m[4] for m in client.read()] == ["168.1"]


def test_in_lockstep_a_snapshot_subscriber_is_not_asked_about_prints_that_are_only_volume(tmp_path):
    gateway, client = replaying(tmp_path, speed="lockstep")
    client.send(1, 11, 5, *SPY, 0, "", 0, 0, "")
    gateway.advance(START_NS)
    assert [m[4] for m in client.read() if m[:1] + m[3:4] == ["1", "4"]] == ["168"]
    client.send(49, 1)
    gateway.advance(START_NS)
    messages = client.read()
    assert [m[4] for m in messages if m[:1] + m[3:4] == ["1", "4"]] == ["167.7"]
    assert len([m for m in messages if m[:1] + m[3:4] == ["2", "8"]]) == 5


def test_lockstep_pauses_while_nobody_watches_and_goes_on_afterwards(tmp_path):
    gateway, client = replaying(tmp_path, speed="lockstep", lockstep_batch=2)
    watch(client)
    gateway.advance(START_NS)
    assert len(client.read()) == 2
    gateway.disconnect(client.session, START_NS)
    gateway.advance(START_NS)
    again = RawClient(gateway)
    watch(again)
    gateway.advance(START_NS)
    assert [m[4] for m in again.read()] == ["167.9", "168.2"]


def test_an_order_sent_before_the_question_meets_the_print_it_was_made_for(tmp_path):
    gateway, client = replaying(tmp_path, speed="lockstep")
    watch(client)
    gateway.advance(START_NS)
    client.read()
    client.send(*place(1, "SELL", kind="MKT", ref="x.stop", contract=SPY))
    client.send(49, 1)
    gateway.advance(START_NS)
    (execution,) = select(gateway.journal.lines, "execution", "sim")
    assert execution["price"] == "168"
    assert placements(gateway.journal.lines)[0]["ex_ns"] == MIDNIGHT + 36000 * NS


def test_only_eligible_prints_trigger_a_stop(tmp_path):
    gateway, client = replaying(tmp_path, speed="lockstep")
    watch(client)
    client.send(*place(1, "SELL", kind="STP", aux="167.95", ref="x.stop", contract=SPY))
    for _ in SIX:
        client.send(49, 1)
        gateway.advance(START_NS)
    (execution,) = select(gateway.journal.lines, "execution", "sim")
    assert execution["price"] == "167.7"


def test_day_orders_end_at_the_replayed_close(tmp_path):
    path = ticks(tmp_path, [*SIX, "57600000,990000,1,P,1,0"])     # would fill it, were it still there
    gateway = make_gateway(GatewaySettings(replay=path, speed="max"), Journal(keep=True), START_NS)
    client = RawClient(gateway)
    client.send(*place(1, lmt="100", contract=SPY))
    watch(client)
    gateway.advance(START_NS)
    assert gateway.exchange.done[1, 1].done_text == "Expired"


def follow(ib, ticker):
    """Follow the lockstep protocol with an ordinary ib_insync: ask for the time after each batch of ticks."""
    seen = []

    def processed(tickers):
        for tick in ticker.tickByTicks:
            seen.append((tick.price, tick.specialConditions, tick.tickAttribLast.unreported))
        if ticker.tickByTicks:
            ib.client.reqCurrentTime()

    ib.pendingTickersEvent += processed
    return seen


def test_a_real_ib_insync_follows_in_lockstep(tmp_path):
    many = [f"{36000000 + n},{1680000 + n % 7 * 100},100,P,{'20' if n % 5 == 0 else '1'},0" for n in range(2000)]

    async def story():
        journal = tmp_path / "journal.jsonl"
        path = ticks(tmp_path, many)
        async with gateway_server(replay=path, speed="lockstep", journal=str(journal)) as server:
            async with client_of(ib_insync, server) as ib:
                spy = ib_insync.Stock("SPY", "SMART", "USD")
                await ib.qualifyContractsAsync(spy)
                seen = follow(ib, ib.reqTickByTickData(spy, "AllLast"))
                await until(lambda: len(seen) == 2000, "all 2,000 prints")
            assert [s[0] for s in seen] == [168 + n % 7 / 100 for n in range(2000)]
            assert [s[2] for s in seen] == [n % 5 == 0 for n in range(2000)]
        assert select(read_journal(journal), "replay_done")[0]["trades"] == 2000

    run(story)


@pytest.mark.skipif(not REAL_TICKS.exists(), reason=f"no recorded ticks at {REAL_TICKS} (BRACKETEER_DATA)")
def test_the_recorded_day_reads_whole_and_a_trail_of_twenty_cents_fires_at_10_34_54_521():
    stop = high = None
    ratchets = count = 0
    fired = None
    start = MIDNIGHT + 36000 * NS
    for trade in rows(str(REAL_TICKS), MIDNIGHT, 0, 2**63):
        count += 1
        if fired or trade.time_ns < start or not trade.eligible:
            continue
        if stop is not None and trade.price <= stop:
            fired = trade
        elif high is None or trade.price > high:
            ratchets += high is not None
            high, stop = trade.price, trade.price - D("0.20")
    assert count == 250_601
    assert fired is not None
    assert (fired.time_ns - MIDNIGHT) // 1_000_000 == (10 * 3600 + 34 * 60 + 54) * 1000 + 521
    assert fired.price == D("168.18")
    assert ratchets == 62


def test_asyncio_is_not_left_with_work(tmp_path):
    async def story():
        async with gateway_server(replay=ticks(tmp_path, SIX), speed="lockstep"):
            pass
        assert len(asyncio.all_tasks()) <= 2         # this story and its deadline

    run(story)
