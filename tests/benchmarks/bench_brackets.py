"""How fast brackets open, each on disk before its entry is sent, and what one weighs resting and protected.

Run: python -m tests.benchmarks brackets. Each size is measured in a process of its own: the embedded host with the real
ledger (SQLite, synchronous FULL), risk, position, market data, broker and router, against the simulated gateway in
another process. The exits are a target and a stop that rest at the venue in one group once the entry is filled, or one
trailing stop that is held. Pacing and the caps of active orders are lifted. Weights are resident memory of the process.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from actors.cli.service import SERVICES
from actors.host import Host, calm_collector
from actors.venue.known import Stage
from messages.risk import SubmitIntent
from tests import builders
from tests.benchmarks import machine
from tests.e2e.engines import ROOT

SIZES = (1_000, 10_000)
QUICK_SIZES = (200, 400)
IN_FLIGHT = 1_000
LIFTED = {"pacing": False, "rate_per_s": 1e6, "max_active_per_side": 1_000_000, "max_queue": 1_000_000}


class Gateway:
    """The simulated gateway in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.peer"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def quote(self, bid: str, ask: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{bid} {ask}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Book:
    """An engine whose brackets are counted and weighed."""

    def __init__(self, folder: str, port: int) -> None:
        settings = builders.settings(
            system={"state_dir": folder, "log_level": "ERROR"}, venue={**LIFTED, "port": port},
            risk={"max_order_notional": Decimal(10**12)},
        )  # fmt: skip
        self.host = Host(settings)
        self.host.start([each for each in SERVICES if each.name != "control"])
        self.wait(lambda: self.host.started is not None, 60)
        self.broker = self.host.instance("broker")
        self.router = self.host.instance("router")
        self.desk = self.host.instance("market_data").desk
        self.ledger = self.host.instance("ledger")
        self.wait(lambda: self.broker.desk.gate_open, 60)
        self.opened = 0

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        if not self.host.run_until(condition, seconds):
            raise RuntimeError("it did not happen in time")

    def orders(self, stage: Stage) -> int:
        return sum(order.stage is stage for order in self.broker.desk.books.orders.values())

    def open(self, count: int, trail: bool, seconds: float = 60) -> tuple[float, float]:
        """Open so many brackets; return the seconds until all were acknowledged, and until all entries worked."""
        exits = builders.tranche(trail=builders.trail(2)) if trail else builders.tranche(
            target=builders.target(110), stop=builders.stop(80))  # fmt: skip
        address, broker = self.host.address_of("router"), self.broker.desk
        known, written = len(self.router.signals), broker.written
        intents = [
            SubmitIntent(intent=builders.intent(f"s-{self.opened + at}", limit=90, exits=(exits,),
                                                valid_for=Decimal(3_600)), correlation="")
            for at in range(count)
        ]  # fmt: skip
        sent, began, engine = 0, time.perf_counter(), self.host._engine
        while (done := len(self.router.signals) - known) < count:
            while sent < count and sent - done < IN_FLIGHT:
                engine.enqueue(address, intents[sent])
                sent += 1
            engine.turn(0.02)
            if time.perf_counter() - began > seconds:
                raise RuntimeError(f"only {done} of {count} brackets were opened in time")
        acknowledged = time.perf_counter() - began
        self.wait(lambda: broker.written - written >= count, seconds)
        self.opened += count
        self.wait(lambda: self.orders(Stage.WORKING) >= self.opened, seconds)
        return acknowledged, time.perf_counter() - began

    def rest(self) -> float:
        """Let everything be written down; return the resident bytes."""
        base = self.host._engine.base
        for _ in range(3):
            self.wait(lambda: not self.ledger.journal.waiting and not base._pendingSends, 300)
            self.host.run_until(lambda: False, 0.2)
        gc.collect()
        return machine.resident_bytes()


def measure(count: int, trail: bool) -> dict[str, float]:
    """Open, weigh, fill, weigh. Runs alone in its process."""
    gateway = Gateway()
    try:
        with tempfile.TemporaryDirectory() as folder:
            book = Book(folder, gateway.port)
            calm_collector()    # as Host.run does
            book.open(20, trail)    # what is made once is not a bracket's weight
            before = book.rest()
            spent = time.process_time()
            acknowledged, working = book.open(count, trail)
            spent = time.process_time() - spent
            resting = book.rest()
            began = time.perf_counter()
            gateway.quote("89.99", "90")
            if trail:
                book.wait(lambda: len(book.desk) >= book.opened, 300)
            else:
                book.wait(lambda: book.orders(Stage.WORKING) >= 2 * book.opened, 300)
            protected = time.perf_counter() - began
            held = book.rest()
            gateway.quote("89.98", "89.99")
            book.host.stop()
    finally:
        gateway.close()
    return {
        "cpu_ms": spent / count * 1e3, "acked": count / acknowledged, "working": count / working,
        "protected": book.opened / protected,
        "resting": (resting - before) / count, "held": (held - before) / (count + 20),
    }  # fmt: skip


def apart(count: int, trail: bool) -> dict[str, Any]:
    """Measure in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_brackets", str(count), "trail" if trail else "group"], cwd=ROOT,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(say: machine.Say, quick: bool = False, sizes: tuple[int, ...] | None = None) -> None:
    """Print the table."""
    sizes = sizes or (QUICK_SIZES if quick else SIZES)
    lifted = ", ".join(f"{key} = {value}" for key, value in LIFTED.items())
    say(f"brackets, durable before they are sent (SQLite; {IN_FLIGHT:,} in flight; lifted: {lifted})")
    rows, weights = [], {}
    for count, trail in (*((count, False) for count in sizes), (sizes[0], True)):
        found = apart(count, trail)
        weights[count, trail] = found
        rows.append([
            f"{count:,} {'trailing stop, held' if trail else 'target and stop, in a group'}",
            f"{found['cpu_ms']:.2f}",
            *(f"{found[name]:,.0f}" for name in ("acked", "working", "protected", "resting", "held")),
        ])  # fmt: skip
    head = ["brackets", "CPU ms each", "acknowledged /s", "entries at work /s", "filled and covered /s",
            "bytes resting", "bytes protected"]  # fmt: skip
    machine.table(say, head, rows)
    first, last = sizes[0], sizes[-1]
    cost = weights[last, False]["cpu_ms"] / weights[first, False]["cpu_ms"]
    say(f"  processor time for a bracket at {last:,} over {first:,}: {cost:.2f}; aim: below 8,192 bytes, cost flat")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(int(sys.argv[1]), sys.argv[2] == "trail")))
    else:
        run(print)
