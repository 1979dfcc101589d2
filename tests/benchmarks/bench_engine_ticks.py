"""What one tick costs the embedded engine while live trailing-stop actors wait behind the market-data actor.

Run: python -m tests.benchmarks engine-ticks. The host, the market-data actor, and for each stop its bracket and its
trailing-stop actor are the real ones; ledger, risk and control only listen, the broker's place is taken by an actor
that accepts and fills at once, and ticks come as TickBatch messages. Timers stand still while ticks are timed; what the
once-a-second report of the ratchets costs is a column of its own.
"""

from __future__ import annotations

import gc
import tempfile
import time
from decimal import Decimal
from typing import Any

from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.host import Host
from messages.base import Command
from messages.exits import BracketSpec
from messages.market import SCALE, TickBatch, TradeTick
from messages.orders import BracketPictured, OrderAccepted, OrderSubmitted, OwnBracket, Role, SubmitOrder
from messages.supervision import ServiceSpec
from tests import builders
from tests.benchmarks import machine

SIZES = (10, 100, 1_000, 10_000)
QUICK_SIZES = (10, 1_000)
ROUNDS = 7
BATCH = 64
TOP = 100 * SCALE
CENT = SCALE // 100
HERE = "tests.benchmarks.bench_engine_ticks"


class Listener(SupervisedActor):
    """Stands for a service that is only told."""

    def receiveUnrecognizedMessage(self, message: Any, sender: ActorAddress) -> None:
        """Heard."""


class Venue(SupervisedActor):
    """Stands for the broker: whatever is sent is accepted, entries fill at once."""

    def on_start(self, start: Any) -> None:
        self.owners: dict[str, ActorAddress] = {}
        self.exits = 0

    def receiveMsg_OwnBracket(self, message: OwnBracket, sender: ActorAddress) -> None:
        self.owners[message.bracket_id] = sender
        self.tell(sender, BracketPictured(bracket_id=message.bracket_id, orders=(), ts_ns=self.now()))

    def receiveMsg_SubmitOrder(self, order: SubmitOrder, sender: ActorAddress) -> None:
        owner, now = self.owners[order.bracket_id], self.now()
        of: dict[str, Any] = {"bracket_id": order.bracket_id, "order_id": order.order_id, "ts_ns": now}
        self.tell(owner, OrderSubmitted(**of, leg=order.leg, quantity=order.quantity, client_id=1, venue_order_id=1))
        self.tell(owner, OrderAccepted(**of, perm_id=7, client_id=1))
        if order.role is Role.ENTRY:
            self.tell(owner, builders.fill(order.order_id, order.quantity, 100, ts_ns=now))
        else:
            self.exits += 1

    def receiveUnrecognizedMessage(self, message: Any, sender: ActorAddress) -> None:
        """Subscriptions, what is prepared."""


class Open(Command, frozen=True, kw_only=True):
    first: int
    count: int


class Opener(SupervisedActor):
    """Stands for the router: makes brackets, each with a trailing stop of its own distance."""

    def receiveMsg_Open(self, message: Open, sender: ActorAddress) -> None:
        for number in range(message.first, message.first + message.count):
            definition = builders.definition(
                f"B{number}-bench", signal_id=f"s-{number}", order_type="MKT", limit=None,
                exits=(builders.tranche(trail=builders.trail(Decimal(50) + Decimal(number % 3_000) / 100)),),
            )  # fmt: skip
            self.create_child("actors.bracket.Bracket", definition.bracket_id, BracketSpec(definition=definition))

    def receiveUnrecognizedMessage(self, message: Any, sender: ActorAddress) -> None:
        """What brackets report."""


SERVICES = (
    ServiceSpec(name="ledger", actor=f"{HERE}.Listener"),
    ServiceSpec(name="risk", actor=f"{HERE}.Listener"),
    ServiceSpec(name="position", actor=f"{HERE}.Listener"),
    ServiceSpec(name="market_data", actor="actors.market_data.MarketData"),
    ServiceSpec(name="broker", actor=f"{HERE}.Venue"),
    ServiceSpec(name="router", actor=f"{HERE}.Opener"),
    ServiceSpec(name="control", actor=f"{HERE}.Listener"),
)


class Engine:
    """An embedded engine with so many trailing stops, and a clock that we move."""

    def __init__(self, count: int, folder: str) -> None:
        self.clock_ns = builders.NOW_NS
        self.monotonic_ns = 0
        settings = builders.settings(system={"state_dir": folder, "log_level": "ERROR"})
        self.host = Host(settings, clock=lambda: self.clock_ns, monotonic=lambda: self.monotonic_ns)
        self.host.start(SERVICES)
        assert self.host.run_until(lambda: self.host.started is not None, 60)
        self.engine = self.host._engine
        router = self.host.address_of("router")
        self.market_data = self.host.address_of("market_data")
        for first in range(0, count, 250):
            self.engine.enqueue(router, Open(first=first, count=min(250, count - first)))
            self.settle()
        self.desk = self.host.instance("market_data").desk
        assert len(self.desk) == count, f"{len(self.desk)} of {count} are armed"
        self.top = TOP
        self.send([self.top])
        self.second()

    def settle(self) -> None:
        while self.engine.base._pendingSends:
            self.engine.turn(0)

    def send(self, prices: list[int], batch: int = BATCH) -> float:
        """Deliver trades at these prices; return the seconds of processor time until all is quiet."""
        now = self.clock_ns
        ticks = [TradeTick("AAPL", price, 100.0, now, True) for price in prices]
        batches = [TickBatch(ticks=tuple(ticks[at : at + batch])) for at in range(0, len(ticks), batch)]
        began = time.process_time()
        for each in batches:
            self.engine.enqueue(self.market_data, each)
            self.engine.turn(0)
        return time.process_time() - began

    def second(self) -> float:
        """Let a second pass; return the processor time of what it brings (marks, ratchets to be noted)."""
        self.clock_ns += 10**9
        self.monotonic_ns += 10**9
        began = time.process_time()
        self.engine.turn(0)
        self.settle()
        return time.process_time() - began

    def quiet_us(self, ticks: int, batch: int = BATCH) -> float:
        return self.send([self.top - 1 - (at % 40) * CENT for at in range(ticks)], batch) / ticks * 1e6

    def rising_us(self, ticks: int) -> float:
        prices = list(range(self.top + 1, self.top + 1 + ticks))
        self.top += ticks
        return self.send(prices) / ticks * 1e6


def run(say: machine.Say, quick: bool = False, sizes: tuple[int, ...] | None = None) -> None:
    """Print the table."""
    sizes = sizes or (QUICK_SIZES if quick else SIZES)
    ticks, rounds = (2_000, 3) if quick else (6_400, ROUNDS)
    say(f"tick through the embedded engine, us of processor time (median of {rounds} rounds); batches of {BATCH}, or"
        " one tick in each message")  # fmt: skip
    rows, found = [], {}
    for count in sizes:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            engine = Engine(count, folder)
            built = time.perf_counter() - began
            gc.collect()
            gc.disable()
            try:
                samples: dict[str, list[float]] = {name: [] for name in ("quiet", "single", "rising", "second")}
                for _ in range(rounds):
                    samples["quiet"].append(engine.quiet_us(ticks))
                    samples["single"].append(engine.quiet_us(ticks // 8, 1))
                    samples["rising"].append(engine.rising_us(ticks // 2))
                    samples["second"].append(engine.second() * 1e3)
            finally:
                gc.enable()
            assert len(engine.desk) == count, "none was to fire"
            found[count] = {name: machine.median(values) for name, values in samples.items()}
            rows.append([
                f"{count:,}", *(f"{found[count][name]:.2f}" for name in ("quiet", "single", "rising", "second")),
                f"{built / count * 1e3:.2f}",
            ])  # fmt: skip
            engine.host.stop()
    head = ["stops", "nothing fires", "one by one", "new high", "each second, ms", "opened in, ms each"]
    machine.table(say, head, rows)
    first, last = found[sizes[0]], found[sizes[-1]]
    flat = " ".join(f"{name} {last[name] / first[name]:.2f}" for name in ("quiet", "single", "rising"))
    say(f"  flatness {sizes[-1]:,} over {sizes[0]}: {flat} (aim: at most 2)")


if __name__ == "__main__":
    run(print)
