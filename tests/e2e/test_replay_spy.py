"""Recorded trades through the whole engine in lockstep: gateway, ib_insync, trigger book, actors, gateway again.

The day's file is SPY of 2013-10-07 from ../shared/data (or BRACKETEER_DATA); the same way is gone on trades made here.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.venue.simulator.journal import cancels, executions, modifies, placements, read_journal, select
from actors.web.client import Bracketeer
from tests.e2e.engines import ROOT, Service, wait_for
from tests.e2e.flood import intent

pytestmark = pytest.mark.integration
DATA = Path(os.environ.get("BRACKETEER_DATA", ROOT.parent / "shared" / "data"))
REAL_TICKS = DATA / "lean/equity_tick/spy/20131007_trade.zip"
MIDNIGHT_NS = 1_381_118_400 * 1_000_000_000
"""2013-10-07 00:00 in New York."""
TEN = 36_000_000
"""10:00:00 in ms since midnight."""


def clock(text: str) -> int:
    """Return hh:mm:ss.fff of that day in UTC ns."""
    hours, minutes, seconds = text.split(":")
    return MIDNIGHT_NS + round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1000) * 1_000_000


def held_trail(amount: str) -> dict[str, Any]:
    """Exits for 100 SPY that are there already: armed before the first trade, nothing of them known to the venue."""
    made = intent("replayed", instrument="SPY", side="SELL", quantity="100", shape="oco", time_in_force="GTC",
                  exits=[{"trailing_stop": {"amount": amount}, "target": {"price": "190", "hold": "engine"}}])
    return {name: value for name, value in made.items() if name not in ("order_type", "limit_price")}


def replayed(folder: Path, ticks: Path, what: dict[str, Any], *market: str) -> tuple[dict[str, Any], dict[str, Any],
                                                                                   list[dict[str, Any]]]:
    """Replay until the bracket is over; return its story, what market data says of itself, and the journal."""
    config = folder / "engine.toml"
    config.write_text("[venue]\nlockstep = true\n")
    service = Service(folder, "--config", str(config), market=["--replay", str(ticks), "--lockstep", *market])
    try:
        with Bracketeer.of_state(service.state) as client:
            bracket_id = client.submit(what).bracket_id
            wait_for(lambda: client.bracket(bracket_id)["phase"] == "CLOSED"
                     or select(read_journal(service.journal), "replay_done"), 120, "the end of the trades")
            wait_for(lambda: client.bracket(bracket_id)["phase"] == "CLOSED", what="the end of the bracket")
            return (client.bracket(bracket_id), wait_for(lambda: client.status()["services"].get("market_data")),
                    read_journal(service.journal))
    finally:
        service.stop()


def fired(story: dict[str, Any]) -> dict[str, Any]:
    (payload,) = [event["payload"] for event in story["events"] if event["type"] == "ExitTriggered"]
    return payload


@pytest.mark.skipif(not REAL_TICKS.exists(), reason=f"no recorded ticks at {REAL_TICKS} (BRACKETEER_DATA)")
def test_a_trail_of_twenty_cents_armed_at_ten_fires_at_10_34_54_521_after_62_ratchets(tmp_path):
    """000.S.1-S.3: the venue sees one order, when it is real; no modify, no cancel."""
    story, market, journal = replayed(
        tmp_path, REAL_TICKS, held_trail("0.20"), "--start", "10:00:00", "--to", "10:35:00", "--position", "SPY=100@168"
    )
    exit_ = fired(story)
    assert (Decimal(exit_["price"]), exit_["ratchets"]) == (Decimal("168.18"), 62)
    assert exit_["leg"] == "trail"
    (order,) = placements(journal)
    assert order["orderRef"] == f"{story['bracket_id']}.trail.1"
    assert (order["type"], order["action"], order["quantity"]) == ("MKT", "SELL", "100")
    assert order["ex_ns"] == clock("10:34:54.521")  # before the exchange's next trade
    assert (modifies(journal), cancels(journal)) == ([], [])
    assert [(line["action"], line["quantity"]) for line in executions(journal)] == [("SELL", "100")]
    assert market["fired"] == 1
    assert 35_000 < market["ticks"] < 36_000


def row(ms: int, cents: int, conditions: str = "1", suspicious: int = 0) -> str:
    return f"{TEN + ms},{cents * 100},100,P,{conditions},{suspicious}"


def test_trades_made_here_take_the_same_way(tmp_path):
    """Up to 168.50 with one false print among them, then down: the trail of 0.20 fires at 168.30 and not before."""
    ticks = tmp_path / "20131007_spy_trade.csv"
    up = [row(ms * 10, 16_800 + ms) for ms in range(51)]
    up.insert(30, row(295, 16_000, "20"))  # out of sequence: moves nothing
    up.insert(40, row(385, 20_000, "1", 1))  # suspicious: moves nothing
    down = [row(600 + ms * 10, 16_850 - ms) for ms in range(1, 40)]
    ticks.write_text("\n".join([*up, *down]) + "\n")
    story, market, journal = replayed(tmp_path, ticks, held_trail("0.20"), "--position", "SPY=100@168")
    exit_ = fired(story)
    assert (Decimal(exit_["price"]), Decimal(exit_["high_water"]), exit_["ratchets"]) == (
        Decimal("168.3"), Decimal("168.5"), 50
    )  # fmt: skip
    (order,) = placements(journal)
    assert order["ex_ns"] == MIDNIGHT_NS + (TEN + 600 + 200) * 1_000_000
    assert (modifies(journal), cancels(journal)) == ([], [])
    assert [(line["action"], line["price"]) for line in executions(journal)] == [("SELL", "168.3")]
    assert market["fired"] == 1


def test_a_rule_an_entry_and_a_trail_on_trades_made_here(tmp_path):
    """When SPY trades at 168.05 the entry goes at the market; its trail of 0.10 begins behind the fill."""
    ticks = tmp_path / "20131007_spy_trade.csv"
    path = [*range(16_800, 16_831), *range(16_830, 16_800, -1)]
    ticks.write_text("\n".join(row(at * 10, cents) for at, cents in enumerate(path)) + "\n")
    what = intent("ruled", instrument="SPY", order_type="MKT", exits=[{"trailing_stop": {"amount": "0.10"}}],
                  when={"instrument": "SPY", "operator": ">=", "price": "168.05"})
    del what["limit_price"]
    story, market, journal = replayed(tmp_path, ticks, what)
    exit_ = fired(story)
    assert (Decimal(exit_["price"]), Decimal(exit_["high_water"])) == (Decimal("168.2"), Decimal("168.3"))
    assert [line["orderRef"].split(".", 1)[1] for line in placements(journal)] == ["entry", "trail.1"]
    assert [(line["action"], line["price"]) for line in executions(journal)] == [("BUY", "168.05"), ("SELL", "168.2")]
    assert market["fired"] == 2
    assert (modifies(journal), cancels(journal)) == ([], [])
