"""Durable records a second, the first acknowledgement, opening, loading and rebuilding, on both databases."""

from __future__ import annotations

import argparse
import os
import select
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from actors.rules.legs import leg_rows
from messages.ledger import BracketOpened, RowChanged
from messages.orders import OrderState, OrderStatus, OrderSubmitted
from storage.database import Database
from storage.journal import BracketBatch, Journal, Outcome
from storage.projections import rebuild
from storage.reader import Reader
from storage.store import Entry, Group
from tests import builders
from tests.storage import postgres

NOW_NS = builders.NOW_NS


class Bench:
    """One journal on a fresh database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.journal = Journal(url, time.time_ns)
        self.journal.start()
        self._gather(1)

    def _gather(self, wanted: int) -> list[Outcome]:
        found: list[Outcome] = []
        while len(found) < wanted:
            select.select([self.journal.fileno()], [], [], 30)
            found += self.journal.collect()
        return found

    def rate(self, entries: list[Entry], in_flight: int) -> float:
        """Return acknowledged records a second with so many on their way."""
        sent = done = 0
        began = time.perf_counter()
        while done < len(entries):
            while sent < len(entries) and sent - done < in_flight:
                self.journal.append(entries[sent])
                sent += 1
            done += sum(len(group.done) for group in self._gather(1) if isinstance(group, Group))
        return len(entries) / (time.perf_counter() - began)

    def latency_ms(self, entries: list[Entry]) -> tuple[float, float]:
        """Return median and 99th percentile from append to acknowledgement, one at a time."""
        took: list[float] = []
        for entry in entries:
            began = time.perf_counter()
            self.journal.append(entry)
            self._gather(1)
            took.append((time.perf_counter() - began) * 1e3)
        return statistics.median(took), statistics.quantiles(took, n=100)[98]

    def load_s(self) -> tuple[int, float]:
        """Return how many brackets were loaded and the seconds it took."""
        began, count, last = time.perf_counter(), 0, False
        self.journal.load_brackets(None)
        while not last:
            for outcome in self._gather(1):
                if isinstance(outcome, BracketBatch):
                    count, last = count + len(outcome.brackets), outcome.last
        return count, time.perf_counter() - began


def _openings(count: int) -> list[Entry]:
    found: list[Entry] = []
    for number in range(count):
        definition = builders.definition(f"B{number}-bench", signal_id=f"sig-{number}", opened_ns=NOW_NS + number)
        event = BracketOpened(
            bracket_id=definition.bracket_id, definition=definition, rows=leg_rows(definition), ts_ns=NOW_NS
        )
        found.append(Entry(f"open:{definition.bracket_id}", definition.bracket_id, event, NOW_NS))
    return found


def _plain(label: str, count: int, brackets: int) -> list[Entry]:
    found: list[Entry] = []
    for number in range(count):
        bracket = f"B{number % brackets}-bench"
        event = OrderSubmitted(
            bracket_id=bracket, order_id=f"{bracket}.entry", ts_ns=NOW_NS, leg="entry", quantity=Decimal(100),
            client_id=1, venue_order_id=number,
        )
        found.append(Entry(f"{label}:{number}", bracket, event, NOW_NS))
    return found


def _changes(count: int, brackets: int, label: str = "row") -> list[Entry]:
    found: list[Entry] = []
    for number in range(count):
        bracket = f"B{number % brackets}-bench"
        event = RowChanged(
            bracket_id=bracket, row_id=f"{bracket}.entry", state=OrderState.PLACED, status=OrderStatus.ACTIVE,
            reason="accepted by the venue", ts_ns=NOW_NS + number, filled_qty=Decimal(number), perm_id=number,
            client_id=1, order_ref=f"{bracket}.entry",
        )
        found.append(Entry(f"{label}:{number}", bracket, event, NOW_NS))
    return found


def _fills(count: int, brackets: int) -> list[Entry]:
    found: list[Entry] = []
    for number in range(count):
        event = builders.fill(f"B{number % brackets}-bench.entry", 1, exec_id=f"bench.{number}")
        found.append(Entry(f"exec:bench.{number}:1", event.bracket_id, event, NOW_NS))
    return found


def measure(name: str, url: str, brackets: int, records: int, say: Callable[[str], None]) -> None:
    """Measure one database and say what was found."""

    def tell(what: str, value: float, unit: str, digits: int = 0) -> None:
        say(f"{name:10s}  {what:52s} {value:12,.{digits}f} {unit}")

    bench = Bench(url)
    tell("brackets opened, 1,000 in flight", bench.rate(_openings(brackets), 1_000), "/s")
    for in_flight, share in ((1, 20), (100, 2), (1_000, 1)):
        entries = _plain(f"plain{in_flight}", records // share, brackets)
        tell(f"durable records, {in_flight:,} in flight", bench.rate(entries, in_flight), "/s")
    tell("row changes, 1,000 in flight", bench.rate(_changes(records, brackets), 1_000), "/s")
    tell("row changes of ten brackets, 1,000 in flight", bench.rate(_changes(records, 10, "few"), 1_000), "/s")
    tell("fills, 1,000 in flight", bench.rate(_fills(records, brackets), 1_000), "/s")
    median, late = bench.latency_ms(_plain("late", 500, brackets))
    tell("one record, append to acknowledgement, median", median, "ms", 2)
    tell("one record, append to acknowledgement, p99", late, "ms", 2)
    count, took = bench.load_s()
    tell(f"{count:,} open brackets loaded with their records", took, "s", 2)
    bench.journal.close()
    reader = Reader(url)
    for what, ask in (
        ("every order, nine fields", reader.orders),
        ("the newest 100 brackets", lambda: reader.brackets(100)),
        ("one bracket's story", lambda: reader.bracket("B7-bench")),
        ("status counts", reader.status_counts),
    ):
        began = time.perf_counter()
        ask()
        tell(f"read {what}", (time.perf_counter() - began) * 1e3, "ms", 1)
    reader.close()
    database = Database(url).open()
    began = time.perf_counter()
    folded = rebuild(database)
    tell(f"rebuild from {folded:,} events", time.perf_counter() - began, "s", 2)
    database.close()


def run(
    say: Callable[[str], None], quick: bool = False, brackets: int = 2_000, records: int = 10_000, only: str = ""
) -> None:
    """Measure SQLite and, where there is one, PostgreSQL."""
    if quick:
        brackets, records = min(brackets, 200), min(records, 1_000)
    folder = Path(tempfile.mkdtemp(prefix="bracketeer-bench-", dir=os.environ.get("BRACKETEER_BENCH_DIR")))
    say(f"storage: durable acknowledgements, {brackets:,} brackets and {records:,} records")
    try:
        if only != "postgresql":
            measure("sqlite", f"sqlite:///{folder / 'bench.db'}", brackets, records, say)
        if only != "sqlite" and not quick:
            found = postgres.shared()
            if isinstance(found, postgres.NoPostgres):
                say(f"postgresql: not measured: {found}")
            else:
                measure("postgresql", found.url(), brackets, records, say)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    """Run by hand, at any size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brackets", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"), default="")
    options = parser.parse_args(argv)
    run(print, False, options.brackets, options.records, options.only)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
