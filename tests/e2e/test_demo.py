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
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.cli import demo
from actors.cli.demo import load, names
from actors.cli.tale import tell
from actors.cli.verdict import Expectation, differences
from actors.web.client import Accepted, Bracketeer
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


def catches(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal of its own."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("number", "seconds"),
    [(signal.SIGINT, 0.0), (signal.SIGINT, 0.6), (signal.SIGINT, 2.1), (signal.SIGTERM, 1.1), (signal.SIGKILL, 1.1)],
)
def test_ended_at_any_moment_it_leaves_no_process(number, seconds):
    """The moment is counted from where the demo begins; Python's own start before that takes as long as it takes."""
    mark = uuid.uuid4().hex
    playing = subprocess.Popen([sys.executable, RUN, "demo"], env=environment(mark), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, cwd="/")  # fmt: skip
    wait_for(lambda: catches(playing.pid, signal.SIGTERM), what="the beginning of the demo")
    threading.Event().wait(seconds)
    playing.send_signal(number)
    assert playing.wait(PATIENCE_S) == (-number if number == signal.SIGKILL else 130)
    assert b"Traceback" not in playing.stderr.read()
    playing.stderr.close()
    wait_for(lambda: marked(mark) == [], what="the end of all that it started")


class Hesitant:
    """An engine whose bracket is over, and whose books follow a moment later, as on a busy machine."""

    def __init__(self) -> None:
        self.said = [{"seq": 1, "bracket_id": "B1", "type": "BracketMoved", "payload": {"phase": "CLOSED"}},
                     {"seq": 2, "bracket_id": None, "type": "PositionChanged", "payload": {}}]  # fmt: skip
        self.silences = 0

    def __enter__(self) -> "Hesitant":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, intent: object) -> Accepted:
        return Accepted("B1", "accepted", "")

    def bracket(self, bracket_id: str) -> dict:
        return {"phase": "CLOSED"}

    def positions(self) -> list[str]:
        return ["flat" if self.silences > 1 else "100 AAPL"]

    def events(self, after: int, timeout_s: float):
        """Tell of the position only when it is asked for a third time."""
        yield from [event for event in self.said[: self.silences + 1] if event["seq"] > after][:1]
        self.silences += 1


@pytest.mark.parametrize("books", ["late", "wrong"])
def test_the_demo_waits_for_its_books_before_it_judges_them(books, monkeypatch, tmp_path):
    engine, told = Hesitant(), []
    monkeypatch.setattr(Bracketeer, "of_state", lambda state: engine)
    monkeypatch.setattr(demo, "differences", lambda wanted, story, held, journal: [] if held == ["flat"] else held)
    if books == "wrong":
        monkeypatch.setattr(demo, "SETTLE_SECONDS", 0.0)
    narrator = SimpleNamespace(market=None, accepted=lambda *_: None, event=lambda event: told.append(event["seq"]),
                               result=lambda story, held, venue, found: told.append(found))  # fmt: skip
    code = demo._tell(demo.load("target"), "state", tmp_path / "journal", narrator)
    assert (code, told) == ((0, [1, 2, []]) if books == "late" else (6, [1, ["100 AAPL"]]))


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
