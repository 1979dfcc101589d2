"""Crashes at exact messages: of the engine, of the gateway, of the wire between them; judged by the gateway's journal.

No order id is transmitted twice, exits never exceed the entry, and what is open at the end is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from actors.venue.simulator.journal import executions, placements, read_journal, select
from actors.web.client import Bracketeer
from tests.e2e.crash import BRACKET, PARTIAL, TARGET, TRAIL, TRAILED, Stage, crash, judge, told
from tests.e2e.engines import PATIENCE_S, wait_for
from tests.e2e.flood import intent, over_socket
from tests.e2e.kill import UNPACED, config, times_placed
from tests.e2e.link import Loss, any_cancel, exit_number, frame_number, order_of

pytestmark = pytest.mark.integration
AT_ONCE = 4
NATIVE, OURS = "--oca-native", "--no-oca-native"
STORIES = {"target": (TARGET, BRACKET), "partial": (PARTIAL, BRACKET), "trail": (TRAIL, TRAILED)}
RULES = {**{leg: partial(order_of, leg) for leg in ("entry", "target", "stop", "trail")}, "cancel": lambda: any_cancel}
CRASHES = [
    ("target", "entry", Loss.UNANSWERED, NATIVE),
    ("target", "entry", Loss.UNDELIVERED, OURS),
    ("target", "stop", Loss.UNANSWERED, OURS),
    ("target", "target", Loss.UNDELIVERED, NATIVE),
    ("target", "target", Loss.UNDELIVERED, OURS),
    ("target", "cancel", Loss.UNDELIVERED, OURS),
    ("partial", "exit-3", Loss.UNANSWERED, NATIVE),
    ("partial", "exit-2", Loss.UNDELIVERED, OURS),
    ("trail", "trail", Loss.UNANSWERED, NATIVE),
    ("trail", "trail", Loss.UNDELIVERED, NATIVE),
]


def play(case, folder):
    """Crash at a message, to the end of the story."""
    name, where, loss, groups = case
    scenario, what = STORIES[name]
    rule = RULES[where]() if where in RULES else exit_number(int(where[-1]))
    with stage_of(folder, scenario, groups) as stage:
        cue_first = where in ("trail", "cancel")
        bracket_id, verdict = crash(stage, what, [(rule, loss)], cue_first=cue_first, trail=name == "trail")
        story = told(stage, bracket_id)
    assert (verdict.twice, verdict.lowest, verdict.position, verdict.working) == ([], 0, 0, {}), story
    assert verdict.placed["entry"] == 1, story
    if name == "trail":
        assert verdict.placed["trail"] == 1, story


@contextmanager
def stage_of(folder: Path, scenario: str, *options: str) -> Iterator[Stage]:
    stage = Stage(folder, scenario, *options)
    try:
        yield stage
    finally:
        stage.stop()


def watched(stage: Stage, feeds: int) -> int:
    """Wait until every print of AAPL is sent to the engine, which asks for that once its trail is armed."""
    return stage.until(lambda lines: (n := len(select(lines, "reqTickByTickData", "in"))) >= feeds and n, "the feed")


def trail_goes_on_where_it_was_journalled(folder):
    """Killed at 108 with its stop at 106: the new one may not start again from the lower prices that it sees."""
    climb = 'when = { placed = "cue-0", filled = "*.entry*", subscribed = "AAPL" }'
    scenario = TRAIL.replace('when = { filled = "*.entry*", subscribed = "AAPL" }', climb)
    assert climb in scenario
    with stage_of(folder, scenario) as stage:
        bracket_id = stage.submit(TRAILED)
        feeds = watched(stage, 1)
        stage.cue("cue-0")

        def journalled():
            return any(event["type"] == "TrailMoved" and Decimal(event["payload"]["high_water"]) == 108
                       for event in stage.story(bracket_id)["events"])

        wait_for(journalled, what="the high water of 108 in the ledger")
        stage.kill()
        stage.restart()
        watched(stage, feeds + 1)
        stage.cue("cue-1")
        story = stage.until_over(bracket_id)
        fired = [event["payload"] for event in story["events"] if event["type"] == "ExitTriggered"]
        assert [(Decimal(each["level"]), Decimal(each["high_water"])) for each in fired] == [(106, 108)]
        assert Decimal(fired[0]["price"]) == 106
        verdict = judge(stage.journal)
        assert (verdict.twice, verdict.position, verdict.working, verdict.placed["trail"]) == ([], 0, {}, 1)


def half_of_the_entries_were_transmitted(loss, folder):
    """Sixty are acknowledged, twenty have reached the gateway when the wire goes: in the end sixty, each once."""
    folder.mkdir(parents=True, exist_ok=True)
    with stage_of(folder, TARGET.split("[[step]]")[0], "--config", config(folder, UNPACED)) as stage:
        stage.link.lose(frame_number(21), loss)
        answers = over_socket(stage.state, [intent(f"half-{number}") for number in range(60)])
        assert stage.link.caught.wait(PATIENCE_S)
        stage.kill()
        stage.until(lambda lines: len(placements(lines)) >= 20, "the twenty that went through")
        assert len(placements(read_journal(stage.journal))) == 20 or loss is Loss.UNANSWERED
        stage.restart()
        stage.until(lambda lines: len(placements(lines)) >= 60, "all sixty entries")
        assert judge(stage.journal).twice == []
        # One that was noted as written and never arrived goes under its next number; whether that was noted is chance.
        wanted = {f"{answer.bracket_id}.entry" for answer in answers.values()}
        assert times_placed(stage.journal) == dict.fromkeys(wanted, 1)
        assert len(wanted) == 60


def fills_happen_while_the_wire_is_cut(groups, folder):
    with stage_of(folder, TARGET, groups) as stage:
        bracket_id = stage.submit()
        stage.until(lambda lines: judge(lines).working.get("entry"), "the working entry")
        stage.link.cut()
        stage.until(executions, "the entry's fill behind our back")
        stage.link.mend()
        stage.until(lambda lines: judge(lines).working == {"target": 100, "stop": 100}, "both exits")
        stage.link.cut()
        stage.cue("cue-1")
        stage.until(lambda lines: len(executions(lines)) == 2, "the target's fill behind our back")
        stage.link.mend()
        story = stage.until_over(bracket_id)
        stage.cue("cue-2")
        verdict = judge(stage.journal)
    assert (verdict.twice, verdict.lowest, verdict.position, verdict.working) == ([], 0, 0, {})
    assert {row["leg"]: row["status"] for row in story["orders"]} == {
        "entry": "filled", "target": "filled", "stop": "canceled"
    }  # fmt: skip
    assert sum(verdict.placed.values()) == 3


def gateway_has_forgotten_everything(resting, folder):
    """Its book is empty after `kill -9`. An entry is over; a position that lost its exits is a person's to judge."""
    with stage_of(folder, TARGET) as stage:
        far = {"limit_price": "90", "exits": [{"target": {"price": "110"}, "stop": {"price": "85"}}]}
        bracket_id = stage.submit({**BRACKET, **far} if resting else BRACKET)
        stage.until(lambda lines: len(judge(lines).working) == (1 if resting else 2), "what works")
        stage.kill_gateway(str(stage.journal.with_name("market.toml")))
        stage.link.mend()
        wanted = "CLOSED" if resting else "FROZEN"
        wait_for(lambda: stage.story(bracket_id)["phase"] == wanted, what=wanted)
        with Bracketeer.of_state(stage.state) as client:
            wait_for(lambda: client.ready() == "", what="a gate that is open again")
        assert placements(read_journal(stage.journal)) == []
        events = stage.story(bracket_id)["events"]
        alerts = [event["payload"]["code"] for event in events if event["type"] == "AlertRaised"]
        assert alerts == (["entry_vanished"] if resting else ["human_cancel"])


def label(case) -> str:
    story, where, loss, groups = case
    return f"{story}-{where}-{loss.name.lower()}{'' if groups == NATIVE else '-ours'}"


TESTS = {
    **{label(case): partial(play, case) for case in CRASHES},
    "trail-goes-on": trail_goes_on_where_it_was_journalled,
    **{f"half-transmitted-{loss.name.lower()}": partial(half_of_the_entries_were_transmitted, loss) for loss in Loss},
    "wire-cut": partial(fills_happen_while_the_wire_is_cut, NATIVE),
    "wire-cut-ours": partial(fills_happen_while_the_wire_is_cut, OURS),
    "gateway-forgot-entry": partial(gateway_has_forgotten_everything, True),
    "gateway-forgot-exits": partial(gateway_has_forgotten_everything, False),
}  # fmt: skip


@pytest.fixture(scope="module")
def played(request, tmp_path_factory):
    """Play all that the selected tests ask for, some at a time, because each mostly waits."""
    names = [item.callspec.params["name"] for item in request.session.items if item.module is request.module]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(TESTS[name], tmp_path_factory.mktemp("crash") / "stage") for name in names}


@pytest.mark.parametrize("name", TESTS)
def test_after_a_crash_every_order_was_sent_once_and_nothing_is_left_open(played, name):
    played[name].result()
