"""An entry that fills while nobody looks, on a day whose executions are told no more: real processes, real books."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.venue.simulator.journal import final_orders, placements, read_journal
from actors.web.client import Bracketeer
from tests.e2e.crash import BRACKET, LIVE, Stage
from tests.e2e.engines import wait_for

pytestmark = pytest.mark.integration
FAR = """
title = "an entry that waits"
[[quote]]
symbol = "AAPL"
last = 105
"""
HELD = FAR + """
[[position]]
symbol = "AAPL"
quantity = 100
cost = 99.99
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path, FAR)
    try:
        yield made
    finally:
        made.stop()


def next_day(stage: Stage, scenario: str, while_we_ran: bool = False) -> str:
    """Let a GTC entry work, then replace the gateway by one that has never heard of it."""
    bracket_id = stage.submit({**BRACKET, "time_in_force": "GTC"})
    stage.until(lambda lines: working(lines) .get(f"{bracket_id}.entry") == 100, "the working entry")
    wait_for(lambda: "OrderAccepted" in [e["type"] for e in stage.story(bracket_id)["events"]], what="its acceptance")
    file = stage.journal.with_name("next.toml")
    file.write_text(scenario)
    if not while_we_ran:
        assert stage.engine is not None
        stage.engine.end()
    stage.kill_gateway(str(file))
    if while_we_ran:
        stage.link.mend()
    else:
        stage.restart()
    return bracket_id


def working(lines: list[dict[str, Any]]) -> dict[str, float]:
    return {ref: float(order["remaining"]) for ref, order in final_orders(lines).items() if order["status"] in LIVE}


def quantities(stage: Stage) -> list[tuple[str, float]]:
    with Bracketeer.of_state(stage.state) as client:
        return [(each["instrument"], float(each["quantity"])) for each in client.positions()]


def alerts(story: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event["payload"]["code"], event["payload"]["severity"]) for event in story["events"]
            if event["type"] == "AlertRaised"]  # fmt: skip


@pytest.mark.parametrize("while_we_ran", [False, True], ids=["restarted", "running"])
def test_what_filled_unseen_is_found_in_the_account_and_protected(stage: Stage, while_we_ran: bool) -> None:
    bracket_id = next_day(stage, HELD, while_we_ran)
    stage.until(lambda lines: sorted(working(lines).values()) == [100, 100], "both exits")
    lines = read_journal(stage.journal)
    assert {ref.split(".")[1] for ref in working(lines)} == {"stop", "target"}
    assert len(placements(lines)) == 2  # the entry is not sent again
    assert len({line["ocaGroup"] for line in placements(lines)}) == 1
    story = wait_for(lambda: (s := stage.story(bracket_id))["phase"] == "PROTECTED" and s, what="PROTECTED")
    assert ("inferred_fill", "page") in alerts(story)
    assert "IncidentRecorded" in [event["type"] for event in story["events"]]
    (fill,) = [event["payload"] for event in story["events"] if event["type"] == "OrderFilled"]
    assert (fill["exec_id"], fill["last_qty"], fill["last_px"]) == (f"inferred:{bracket_id}.entry", "100", "99.99")
    assert {row["leg"]: row["status"] for row in story["orders"]}["entry"] == "filled"
    assert wait_for(lambda: quantities(stage), what="the position") == [("AAPL", 100)]


def test_another_start_books_and_sends_nothing_again(stage: Stage) -> None:
    bracket_id = next_day(stage, HELD)
    stage.until(lambda lines: sorted(working(lines).values()) == [100, 100], "both exits")
    wait_for(lambda: quantities(stage), what="the position")
    assert stage.engine is not None
    stage.engine.end()
    stage.start()
    story = wait_for(lambda: (s := stage.story(bracket_id))["phase"] == "PROTECTED" and s, what="PROTECTED")
    assert alerts(story).count(("inferred_fill", "page")) == 1
    assert len(placements(read_journal(stage.journal))) == 2
    assert quantities(stage) == [("AAPL", 100)]


@pytest.mark.parametrize("scenario", [FAR, HELD.replace("100\n", "60\n")], ids=["nothing", "something else"])
def test_what_did_not_fill_is_over_and_nothing_is_sent(stage: Stage, scenario: str) -> None:
    bracket_id = next_day(stage, scenario)
    story = stage.until_over(bracket_id)
    assert story["phase"] == "CLOSED"
    assert placements(read_journal(stage.journal)) == []
    assert alerts(story) == [("entry_vanished", "warning" if scenario == FAR else "page")]


def test_two_entries_and_the_shares_of_one(stage: Stage) -> None:
    other = stage.submit({**BRACKET, "signal_id": "another", "time_in_force": "GTC"})
    stage.until(lambda lines: f"{other}.entry" in working(lines), "the other entry")
    brackets = [next_day(stage, HELD), other]
    ends = ["CLOSED", "PROTECTED"]
    wait_for(lambda: sorted(stage.story(each)["phase"] for each in brackets) == ends, what="the ends")
    stage.until(lambda lines: sorted(working(lines).values()) == [100, 100], "the exits of one")
