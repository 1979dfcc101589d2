"""What the command line shows: orders, brackets, positions, one bracket's story."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from actors.cli.common import print_json, say
from actors.cli.tale import clock, kind_of, number, tell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from actors.web.client import Bracketeer

NINE = ("orderId", "symbol", "action", "quantity", "price", "stopPrice", "status", "parentId", "ocaGroup")
COLOURS = {"good": "green", "bad": "red", "note": "cyan", "plain": "default"}
STATUS_COLOURS = {"filled": "green", "active": "cyan", "transmitted": "cyan", "rejected": "red", "denied": "red",
                  "canceled": "dim", "expired": "dim"}  # fmt: skip
NUMBERS = frozenset({"quantity", "price", "stopPrice", "open_qty", "avg_price", "realized_pnl", "filled_qty"})
LEDGER_LINES = 20


def console(*, to_stderr: bool = False) -> Console:
    """Return a console: as wide as the terminal, and wide enough for a table where there is none."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else 140, soft_wrap=not stream.isatty())


def table(rows: Iterable[dict[str, Any]], columns: Iterable[str], title: str | None = None) -> Table:
    """Return a table of some fields of rows; nothing is shown as nothing."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    names = tuple(columns)
    for name in names:
        made.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold")
    for row in rows:
        cells = []
        for name in names:
            value = row.get(name)
            text = "" if value is None else number(value) if name in NUMBERS else str(value)
            cells.append(Text(text, style=STATUS_COLOURS.get(text, "") if name == "status" else ""))
        made.add_row(*cells)
    return made


def orders(engine: Bracketeer, as_json: bool) -> None:
    """Show every order."""
    rows = engine.orders()
    if as_json:
        print_json(rows)
    elif rows:
        console().print(table(rows, NINE))
    else:
        say("no orders yet")


def bracket(engine: Bracketeer, bracket_id: str, as_json: bool) -> None:
    """Tell the whole story of one bracket."""
    from rich.markup import escape

    story = engine.bracket(bracket_id)
    if as_json:
        print_json(story)
        return
    out = console()
    facts = f"{story['phase']}, open {number(story['open_qty'])}, account {story['account']}, {story['strategy_id']}"
    out.print(f"[bold]{escape(bracket_id)}[/bold]  {escape(facts)}  (signal {escape(story['signal_id'])})")
    out.print(table(nine(story["orders"]), NINE))
    for trail in story.get("trails", ()):
        told = ", ".join(f"{name} {number(value)}" for name, value in trail.items() if value is not None)
        out.print(escape(f"trailing stop: {told}"))
    for event in story["events"]:
        colour = COLOURS[kind_of(event)]
        out.print(f"[dim]{clock(event['ts_ns'])}[/dim]  [{colour}]{escape(tell(event))}[/{colour}]")


def nine(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return full order rows with the nine fields of the order schema only."""
    columns = ("row_id", "symbol", "action", "quantity", "price", "stop_price", "status", "parent_id", "oca_group")
    return [{name: row.get(column) for name, column in zip(NINE, columns, strict=True)} for row in rows]


def status(engine: Bracketeer, watch: bool, as_json: bool) -> None:
    """Show readiness, live brackets and positions; with `watch`, again whenever something happens."""
    if not watch:
        facts = _status(engine)
        if as_json:
            print_json(facts)
        else:
            console().print(_status_view(facts))
        return
    if as_json:
        print_json(_status(engine))
        for event in engine.events(after=_last_seq(engine)):
            print_json(event)
        return
    _watch(engine)


def _watch(engine: Bracketeer) -> None:
    from rich.live import Live

    from actors.web.client import EngineGone

    facts = _status(engine)
    with Live(_status_view(facts), console=console(), auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(0.5)
            try:
                facts = _status(engine)
            except EngineGone as gone:
                facts = {**facts, "ready": False, "reason": gone.sentence}
            live.update(_status_view(facts), refresh=True)


def _status(engine: Bracketeer) -> dict[str, Any]:
    facts = engine.status()
    return {**facts, "live": engine.brackets(limit=LEDGER_LINES, live=True), "positions": engine.positions()}


def _last_seq(engine: Bracketeer) -> int:
    ledger = engine.status()["services"].get("ledger", {})
    return int(ledger.get("last_seq", 0))


def _status_view(facts: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    head = Text("ready: orders can be sent", "bold green")
    if not facts["ready"]:
        head = Text(f"not ready: {facts['reason']}", "bold red")
    parts: list[Any] = [head]
    if facts.get("silent"):
        parts.append(Text(f"no answer from: {', '.join(facts['silent'])}", "red"))
    counts = ", ".join(f"{count} {phase}" for phase, count in sorted(facts["brackets"].items()))
    parts.append(Text(f"brackets: {counts or 'none'}"))
    if facts["live"]:
        live = ("bracket_id", "instrument", "side", "quantity", "phase", "open_qty", "reason")
        parts.append(table(facts["live"], live, "not over yet"))
    if facts["positions"]:
        columns = ("account", "instrument", "strategy_id", "quantity", "avg_price", "realized_pnl")
        parts.append(table(facts["positions"], columns, "positions"))
    return Group(*parts)


def export_orders(state: str, url: str | None, db: str | None, as_json: bool) -> None:
    """Write every order with exactly the nine fields: from the engine, or from its database when it does not run."""
    rows = _orders_offline(db) if db else _orders_anyhow(state, url)
    if as_json:
        print_json(rows)
        return
    import csv

    writer = csv.DictWriter(sys.stdout, NINE, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _orders_anyhow(state: str, url: str | None) -> list[dict[str, Any]]:
    from actors.web.client import Bracketeer, EngineGone

    try:
        return Bracketeer.of_state(state, url).orders()
    except EngineGone:
        from pathlib import Path

        file = Path(state).absolute() / "bracketeer.db"
        if url is not None or not file.exists():
            raise
        return _orders_offline(f"sqlite:///{file}")


def _orders_offline(url: str) -> list[dict[str, Any]]:
    import msgspec

    from storage.reader import Reader

    return [msgspec.structs.asdict(row) for row in Reader(url).orders()]
