"""`demo`: a simulated gateway and an engine, each a process of its own, and one intent played to its end.

Law: nothing is told that did not happen: every line comes from the event stream, and what is said at the end is
compared with the journal of the gateway.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from actors.cli.common import ENVIRONMENT, NOT_AS_EXPECTED, OK, USAGE, CommandError, print_json
from actors.cli.processes import end, spawn
from actors.cli.verdict import Expectation, differences

if TYPE_CHECKING:
    from actors.web.client import Bracketeer

START_SECONDS = 30.0
STORY_SECONDS = 45.0
QUIET_SECONDS = 0.4
"""After the bracket is over: how long nothing more may come before the story is told to its end."""
SETTLE_SECONDS = 10.0
"""How long what differs then may still come right: on a busy machine the books follow the bracket later than that."""

PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
"""What a child says for people is not for us: the same is in its JSON."""

OVER = ("CLOSED", "DETACHED", "DENIED")


class Play(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of actors/cli/scenarios: the intent, and how each row must end (leg -> status)."""

    intent: dict[str, Any]
    expect: dict[str, str]


def names() -> list[str]:
    """Return the scenarios that can be played."""
    return sorted(file.name.removesuffix(".json") for file in _folder().iterdir() if file.name.endswith(".json"))


def load(name: str) -> Play:
    """Read a scenario. Raises CommandError for an unknown one."""
    if name not in names():
        raise CommandError(f"--scenario: {name!r} is not one of {', '.join(names())}", USAGE, field="--scenario")
    return msgspec.json.decode((_folder() / f"{name}.json").read_bytes(), type=Play)


def _folder() -> Any:
    return resources.files("actors.cli") / "scenarios"


def play(name: str, oca_native: bool | None, base: str | None, library: str | None, as_json: bool) -> int:
    """Play one scenario and return the exit code. Whatever happens, no process is left."""
    if name == "list":
        print_json(names()) if as_json else print("\n".join(names()))
        return OK
    scene = load(name)
    options = [f"--{'' if oca_native else 'no-'}oca-native"] if oca_native is not None else []
    options += ["--base", base] if base else []
    options += ["--library", library] if library else []
    narrator = JsonNarrator() if as_json else Narrator()
    with _term_as_interrupt(), tempfile.TemporaryDirectory(prefix="bracketeer-demo-") as folder:
        journal = Path(folder) / "gateway.jsonl"
        gateway = engine = None
        try:
            arguments = ["--port", "0", "--scenario", name, "--journal", str(journal), "--json"]
            gateway = spawn(["gateway", *arguments], **PIPES)
            port = _await_event(gateway, "listening", "the simulated gateway")["port"]
            narrator.title(name, port, base)
            state = str(Path(folder) / "state")
            where = ["--gateway", f"127.0.0.1:{port}", "--state", state, "--http", "127.0.0.1:0"]
            engine = spawn(["start", *where, *options, "--json"], **PIPES)
            ready = _await_event(engine, "ready", "the engine")
            narrator.ready(ready)
            return _tell(scene, state, journal, narrator)
        finally:
            end(engine)
            end(gateway)


@contextmanager
def _term_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that children are ended and the folder is removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await_event(process: subprocess.Popen[bytes], event: str, what: str) -> dict[str, Any]:
    """Return the first line of a child's output that tells this event. Raises CommandError."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    waiting, reason = b"", "it said nothing"
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            break
        data = os.read(process.stdout.fileno(), 65_536)
        if not data:
            reason = f"it ended with code {process.wait()}" + (f" ({reason})" if reason != "it said nothing" else "")
            raise CommandError(f"{what} did not start: {reason}", ENVIRONMENT)
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            try:
                told: dict[str, Any] = msgspec.json.decode(line)
            except msgspec.MsgspecError:
                continue
            if told.get("event") == event:
                return told
            reason = told.get("reason") or told.get("sentence") or reason
    raise CommandError(f"{what} was not ready within {START_SECONDS:g} s: {reason}", ENVIRONMENT)


def _tell(scene: Play, state: str, journal: Path, narrator: Narrator) -> int:
    from actors.venue.simulator.journal import positions as gateway_positions
    from actors.venue.simulator.journal import read_journal
    from actors.web.client import Bracketeer

    narrator.market = Market(journal)
    with Bracketeer.of_state(state) as client:
        accepted = client.submit(scene.intent)
        narrator.accepted(accepted.bracket_id, scene.intent)
        over, after = _follow(client, accepted.bracket_id, narrator)
        expectation = Expectation(bracket_id=accepted.bracket_id, statuses=scene.expect)
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            story, positions = client.bracket(accepted.bracket_id), client.positions()
            found = differences(expectation, story, positions, journal)
            if not found or not over or time.monotonic() > deadline:
                break
            after = _silent(client, after, narrator)
    if not over:
        found.insert(0, f"the bracket was not over after {STORY_SECONDS:g} s; it is {story['phase']}")
    narrator.result(story, positions, gateway_positions(read_journal(journal)), found)
    return NOT_AS_EXPECTED if found else OK


def _follow(client: Bracketeer, bracket_id: str, narrator: Narrator) -> tuple[bool, int]:
    """Narrate the stream until the bracket is over and quiet; tell whether it was in time, and the last number."""
    deadline = time.monotonic() + STORY_SECONDS
    after, over = 0, False
    while time.monotonic() < deadline:
        # A stream that is silent for a moment ends; the next one goes on behind the last number.
        for event in client.events(after, timeout_s=QUIET_SECONDS if over else 1.0):
            after = event["seq"] or after
            narrator.event(event)
            if event["bracket_id"] == bracket_id and event["type"] == "BracketMoved":
                over = event["payload"]["phase"] in OVER
            if time.monotonic() > deadline or over:
                break
        else:
            if over:
                return True, after
            continue
        if over:
            return True, _silent(client, after, narrator)
    return over, after


def _silent(client: Bracketeer, after: int, narrator: Narrator) -> int:
    """Narrate what still comes behind the end, until nothing comes for a moment; return the last number."""
    deadline = time.monotonic() + 10
    for event in client.events(after, timeout_s=QUIET_SECONDS):
        after = event["seq"] or after
        narrator.event(event)
        if time.monotonic() > deadline:
            break
    return after


class Market:
    """What the scenario does to the market, read from the gateway's journal as it grows."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._at = 0
        self._steps: list[dict[str, Any]] = []

    def until(self, ts_ns: int | None) -> list[dict[str, Any]]:
        """Return the steps up to a moment (None: all) that were not returned before."""
        with open(self._journal, "rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        self._steps += [msgspec.json.decode(line) for line in whole.splitlines() if b'"msg":"step"' in line]
        count = sum(1 for step in self._steps if ts_ns is None or step["ts_ns"] <= ts_ns)
        told, self._steps = self._steps[:count], self._steps[count:]
        return told


class Narrator:
    """Tells the story on the terminal."""

    market: Market | None = None

    def __init__(self) -> None:
        from actors.cli.show import console

        self._out = console()
        self._began = time.monotonic()
        self._told: set[tuple[Any, ...]] = set()
        self._rows: dict[str, tuple[str, str]] = {}

    def title(self, name: str, port: int, base: str | None) -> None:
        from rich.markup import escape

        from actors.venue.simulator.scenario import load as read_scenario

        scenario = read_scenario(name)
        self._out.print(f"[bold]{escape(scenario.title)}[/bold]  [dim](scenario {escape(name)})[/dim]")
        self._out.print(escape(" ".join(scenario.story.split())))
        self._out.print(f"[dim]simulated gateway on 127.0.0.1:{port}[/dim]")

    def ready(self, ready: dict[str, Any]) -> None:
        self._out.print(f"[dim]engine ready on {ready['url']} after {time.monotonic() - self._began:.1f} s[/dim]\n")

    def accepted(self, bracket_id: str, intent: dict[str, Any]) -> None:
        from rich.markup import escape

        price = f" at {intent['limit_price']}" if intent.get("limit_price") else ""
        order = f"{intent['side']} {intent['quantity']} {intent['instrument']}{price}"
        self._out.print(f"intent {escape(order)} accepted: it is bracket [bold]{escape(bracket_id)}[/bold]")

    def event(self, event: dict[str, Any]) -> None:
        from rich.markup import escape

        from actors.cli.show import COLOURS
        from actors.cli.tale import QUIET, clock, kind_of, tell

        for step in self.market.until(event["ts_ns"]) if self.market is not None else ():
            said = f"[bold yellow]market: {escape(step['say'])}[/bold yellow]"
            self._out.print(f"[dim]{clock(step['ts_ns'])}[/dim]  {said}")
        if event["type"] not in QUIET and not self._heard(event):
            colour = COLOURS[kind_of(event)]
            self._out.print(f"[dim]{clock(event['ts_ns'])}[/dim]  [{colour}]{escape(tell(event))}[/{colour}]")

    def _heard(self, event: dict[str, Any]) -> bool:
        """Whether a person has heard it: an alert as news and from the disk, an answer that the broker repeats, a row
        whose state and status are what they were."""
        kind, payload = event["type"], event["payload"]
        if kind == "RowChanged":
            before, now = self._rows.get(payload["row_id"]), (payload["state"], payload["status"])
            self._rows[payload["row_id"]] = now
            return before == now
        if kind == "AlertRaised":
            mark: tuple[Any, ...] = (kind, event["ts_ns"])
        elif kind in ("OrderSubmitted", "OrderAccepted", "OrderCanceled"):
            mark = (kind, payload["order_id"])
        else:
            return False
        known = mark in self._told
        self._told.add(mark)
        return known

    def result(
        self, story: dict[str, Any], positions: list[dict[str, Any]], venue: dict[tuple[str, str], Decimal],
        found: list[str],
    ) -> None:  # fmt: skip
        from rich.markup import escape

        from actors.cli.show import NINE, nine, table
        from actors.cli.tale import number

        self._out.print()
        self._out.print(table(nine(story["orders"]), NINE, "orders at the end"))
        for (account, symbol), quantity in venue.items():
            self._out.print(f"position at the venue: {number(quantity)} {escape(symbol)} in {escape(account)}")
        for row in positions:
            booked = f"{number(row['quantity'])} {row['instrument']}, realised {number(row['realized_pnl'])}"
            self._out.print(f"position booked by the engine: {escape(booked)}")
        if found:
            self._out.print("[bold red]it did not end as the scenario says:[/bold red]")
            for line in found:
                self._out.print(f"  [red]{escape(line)}[/red]")
        else:
            seconds = time.monotonic() - self._began
            said = f"it ended as it should, and the gateway's journal says the same ({seconds:.1f} s)"
            self._out.print(f"[bold green]{said}[/bold green]")


class JsonNarrator(Narrator):
    """Tells the story as JSON lines."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def title(self, name: str, port: int, base: str | None) -> None:
        print_json({"event": "gateway", "scenario": name, "port": port})

    def ready(self, ready: dict[str, Any]) -> None:
        print_json(ready)

    def accepted(self, bracket_id: str, intent: dict[str, Any]) -> None:
        print_json({"event": "accepted", "bracket_id": bracket_id, "intent": intent})

    def event(self, event: dict[str, Any]) -> None:
        print_json(event)

    def result(
        self, story: dict[str, Any], positions: list[dict[str, Any]], venue: dict[tuple[str, str], Decimal],
        found: list[str],
    ) -> None:  # fmt: skip
        from actors.cli.show import nine

        print_json({
            "event": "result", "ok": not found, "differences": found, "bracket_id": story["bracket_id"],
            "orders": nine(story["orders"]), "positions": positions,
            "at_venue": [{"account": a, "symbol": s, "quantity": str(q)} for (a, s), q in venue.items()],
            "seconds": round(time.monotonic() - self._began, 3),
        })  # fmt: skip
