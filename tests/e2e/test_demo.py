"""Every story of the demo, played by real processes over real sockets, its end compared with the gateway's journal.

The demo itself judges rows, fills and positions by the journal (actors/cli/verdict.py); here is what must hold besides.
Several play at once, because each mostly waits for its market.
"""

import json
import signal
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.cli.demo import load, names
from actors.cli.tale import tell
from actors.cli.verdict import Expectation, differences
from actors.web.client import Bracketeer
from tests.e2e.engines import PATIENCE_S, RUN, Service, cli, environment, marked, wait_for

pytestmark = pytest.mark.integration
AT_ONCE = 4
EMBEDDED = [(name, ()) for name in names()]
WITHOUT_GROUPS = [(name, ("--no-oca-native",)) for name in ("partial", "race")]
PAIRS = [
    (name, options)
    for options in (("--library", "ib_async"), ("--base", "multiprocTCPBase"),
                    ("--base", "multiprocTCPBase", "--library", "ib_async"))
    for name in ("target", "trailing", "race")
]  # fmt: skip
ALL = EMBEDDED + WITHOUT_GROUPS + PAIRS


def label(case) -> str:
    name, options = case
    return "-".join([name, *(option.lstrip("-") for option in options if option not in ("--base", "--library"))])


@pytest.fixture(scope="module")
def played(request):
    """Play all stories that the selected tests ask for, some at a time; give each test the end of its own."""
    mine = [item.callspec.params for item in request.session.items
            if item.module is request.module and hasattr(item, "callspec")]  # fmt: skip
    wanted = [params["case"] for params in mine if "case" in params]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {case: pool.submit(play, *case) for case in dict.fromkeys(wanted)}
        yield futures


def play(name: str, options: tuple[str, ...]):
    mark = uuid.uuid4().hex
    done = cli("demo", "--scenario", name, *options, "--json", mark=mark, timeout=120)
    return done, marked(mark)


@pytest.mark.parametrize("case", ALL, ids=label)
def test_a_story_ends_as_it_should(played, case):
    done, left = played[case].result()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    result = lines[-1]
    assert done.returncode == 0, (result.get("differences") or result, done.stderr)
    assert result["event"] == "result"
    assert result["ok"] is True
    assert left == []
    statuses = {row["orderId"].split(".")[1]: row["status"] for row in result["orders"]}
    assert statuses == load(case[0]).expect
    assert all(row["quantity"] == "0" for row in result["at_venue"])
    if case[0] in ("target", "stop", "partial", "otoco", "gap"):
        assert {row["quantity"] for row in result["orders"]} == {"100"}  # the exits grew with the entry (000.T.5)
    events = [line for line in lines if line.get("seq")]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    told = [tell(event) for event in events]
    assert all(told)
    assert not any("{" in sentence for sentence in told), "a record was told as data, not in words"


def test_the_worked_example_passes_through_every_step(played_target):
    """000.F.1: before the fill the exits are pending and known to nobody; after it they share one group."""
    events, result = played_target
    seen: dict[str, list[str]] = {}
    for event in events:
        if event["type"] == "RowChanged":
            row = seen.setdefault(event["payload"]["row_id"].split(".")[1], [])
            if not row or row[-1] != event["payload"]["status"]:
                row.append(event["payload"]["status"])
    opened = next(event for event in events if event["type"] == "BracketOpened")["payload"]
    assert {row["row_id"].split(".")[1]: row["parent_row"] for row in opened["rows"]} == {
        "entry": None, "target": f"{opened['bracket_id']}.entry", "stop": f"{opened['bracket_id']}.entry"
    }  # fmt: skip
    assert seen["entry"][-2:] == ["transmitted", "filled"]
    assert seen["target"] == ["ready", "active", "filled"]
    assert seen["stop"] == ["ready", "active", "canceled"]
    rows = {row["orderId"].split(".")[1]: row for row in result["orders"]}
    assert (rows["entry"]["price"], rows["entry"]["ocaGroup"], rows["entry"]["parentId"]) == ("100", None, None)
    assert (rows["target"]["price"], rows["target"]["action"], rows["target"]["quantity"]) == ("110", "SELL", "100")
    assert (rows["stop"]["stopPrice"], rows["stop"]["action"], rows["stop"]["quantity"]) == ("95", "SELL", "100")
    assert rows["target"]["ocaGroup"] == rows["stop"]["ocaGroup"] is not None


@pytest.fixture
def played_target(played):
    future = played.get(("target", ()))
    done, _ = future.result() if future is not None else play("target", ())
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line for line in lines if line.get("seq")], lines[-1]


def test_for_people_it_is_told_in_words():
    done = cli("demo", "--scenario", "reject")
    assert done.returncode == 0
    assert "rejected by the venue (201)" in done.stdout
    assert "orders at the end" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGINT, 0.4), (signal.SIGINT, 1.0), (signal.SIGINT, 2.5), (signal.SIGTERM, 1.5), (signal.SIGKILL, 1.5)],
)
def test_ended_at_any_moment_it_leaves_no_process(number, seconds):
    mark = uuid.uuid4().hex
    demo = subprocess.Popen([sys.executable, RUN, "demo"], env=environment(mark), stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, cwd="/")  # fmt: skip
    threading.Event().wait(seconds)
    demo.send_signal(number)
    assert demo.wait(PATIENCE_S) == (-number if number == signal.SIGKILL else 130)
    assert b"Traceback" not in demo.stderr.read()
    demo.stderr.close()
    wait_for(lambda: marked(mark) == [], what="the end of all that it started")


def test_the_verdict_sees_what_is_not_as_it_should_be(tmp_path):
    service = Service(tmp_path, scenario="target")
    try:
        with Bracketeer.of_state(service.state) as client:
            bracket_id = client.submit(load("target").intent).bracket_id
            wait_for(lambda: client.bracket(bracket_id)["phase"] == "CLOSED")
            story, held = client.bracket(bracket_id), client.positions()
    finally:
        service.stop()
    right = Expectation(bracket_id=bracket_id, statuses=load("target").expect)
    assert differences(right, story, held, service.journal) == []
    wrong = Expectation(bracket_id=bracket_id, statuses={"entry": "filled", "target": "canceled", "trail": "filled"})
    assert len(differences(wrong, story, held, service.journal)) == 3
    for column, value in (("filled_qty", "40"), ("action", "BUY"), ("status", "canceled"), ("order_ref", None)):
        spoiled = [{**row, column: value} if row["leg"] == "target" else row for row in story["orders"]]
        assert differences(right, {**story, "orders": spoiled}, held, service.journal)
