"""A seeded nemesis against the whole engine (tests/e2e/world.py); what must hold when it is done: judgement.py.

    python -m tests.e2e.nemesis --minutes 10 [--seed 1]

Actors are crashed before and after their handlers, the wire is held, cut and refused, the engine is killed and started
again, the clock jumps; prices move, people cancel, the venue refuses, fills in parts and on both sides at once.

Law: one seed is one play; whatever fails leaves its seed, and `--seed` tells its story.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from actors.cli.service import SERVICES
from actors.venue.simulator.orders import Order
from messages.orders import (
    CancelBracket,
    CancelEntry,
    DetachBracket,
    FlattenBracket,
    ModifyBracket,
    OperatorCommand,
)
from messages.risk import SubmitIntent
from tests import builders
from tests.e2e.judgement import Judge, Unsound
from tests.e2e.world import NS, SHORT, SYMBOLS, World, crash_at, scene


class Nemesis:
    """Draws what happens next."""

    def __init__(self, world: World) -> None:
        self.w, self.random = world, world.random
        self.submitted: list[Any] = []
        self.commands: list[OperatorCommand] = []
        self.counter = 0
        self.calm = False
        self.rates = {
            name: self.random.choice((0, 1, 1, 3))
            for name in ("crash", "crash_bracket", "crash_leg", "wire", "restart", "venue", "race", "verb", "repeat",
                         "clock")
        }
        self.humans = self.random.random() < 0.3
        self.waits = self.random.choice(((0.01, 0.1, 0.3), (0.01, 0.1, 0.3, 1, 3, 12), (0.1, 1, 3)))

    def step(self) -> None:
        choices: list[tuple[float, Callable[[], None]]] = [
            (7, self.market), (3, self.submit), (4, self.partial), (3, self.wait),
            (self.rates["crash"], self.crash), (self.rates["crash_bracket"], self.crash_bracket),
            (self.rates["crash_leg"], self.crash_leg), (self.rates["wire"], self.wire),
            (self.rates["restart"] * 0.2, self.restart), (self.rates["venue"] * 0.5, self.venue),
            (self.rates["race"] * 0.3, self.race), (self.rates["verb"] * 0.6, self.verb),
            (self.rates["repeat"] * 0.7, self.repeat), (self.rates["clock"] * 0.2, self.clock),
        ]  # fmt: skip
        act = self.random.choices([each for _, each in choices], [weight for weight, _ in choices])[0]
        act()
        haste = self.random.random()
        if haste < 0.5:
            self.w.settle()
        elif haste < 0.8:  # the next thing happens while messages of this one are on their way
            self.w.wire.pump()
            for _ in range(self.random.choice((1, 2, 4))):
                self.w.host._engine.base.pump(self.random.choice((1, 3, 10)))

    def note(self, text: str) -> None:
        self.w.story.append(f"{(self.w.now_ns - builders.NOW_NS) / NS:9.3f} {text}")

    # -- ordinary life -----------------------------------------------------------------------------------------

    def market(self) -> None:
        symbol = self.random.choice(SYMBOLS)
        step = Decimal(self.random.choice((-300, -120, -50, -20, -5, 5, 20, 50, 120, 300))) / 100
        price = min(Decimal(125), max(Decimal(80), self.w.prices[symbol] + step))
        self.note(f"market {symbol} {price}")
        self.w.trade(symbol, price)

    def wait(self) -> None:
        self.w.sleep(self.random.choice(self.waits))

    def submit(self) -> None:
        if len(self.submitted) >= 25:
            return
        self.counter += 1
        r, price = self.random, None
        symbol = r.choice(SYMBOLS)
        price = self.w.prices[symbol].quantize(Decimal("0.1"))
        way = -1 if symbol == SHORT else 1
        low, high = price - way * r.choice((2, 3, 4)), price + way * r.choice((2, 3, 4))
        quantity = r.choice((1, 3, 100, 300))
        halves = (
            builders.tranche(quantity=100, target=builders.target(high), stop=builders.stop(low)),
            builders.tranche(quantity=quantity - 100, target=builders.target(high + way), trail=builders.trail(3)),
        )
        exits = halves if quantity > 100 and r.random() < 0.4 else (r.choice((
            builders.tranche(target=builders.target(high), stop=builders.stop(low)),
            builders.tranche(target=builders.target(high), stop=builders.stop(low, hold="engine")),
            builders.tranche(target=builders.target(high, hold="engine"), stop=builders.stop(low)),
            builders.tranche(stop=builders.stop(low)),
            builders.tranche(stop=builders.stop(low, hold="engine")),
            builders.tranche(trail=builders.trail(2)),
            builders.tranche(target=builders.target(high), trail=builders.trail(2)),
        )),)
        entry = r.choice((price, price + 1, price - 1, None))
        when = None
        if r.random() < 0.15:
            when = builders.when(symbol, ">=", price + 1)
        intent = builders.intent(
            f"sig-{self.w.seed}-{self.counter}", instrument=symbol, quantity=quantity, limit=entry, exits=exits,
            side="SELL_SHORT" if way < 0 else "BUY", valid_for=Decimal(600), when=when)
        message = SubmitIntent(intent=intent, correlation=f"s{self.counter}")
        self.submitted.append(intent)
        self.note(f"submit {intent.signal_id} {symbol} {intent.quantity} @ {entry} {exits}"[:300])
        self.w.say(message)

    def repeat(self) -> None:
        """A client that has heard nothing says it again."""
        self.counter += 1
        if self.commands and self.random.random() < 0.5:
            again = msgspec.structs.replace(self.random.choice(self.commands), correlation=f"o{self.counter}")
            self.note(f"repeat {type(again).__name__} {again.bracket_id}")
            self.w.say(again)
        elif self.submitted:
            intent = self.random.choice(self.submitted[-4:])
            self.note(f"repeat {intent.signal_id}")
            self.w.say(SubmitIntent(intent=intent, correlation=f"s{self.counter}"))

    def verb(self) -> None:
        names = list(self.w.brackets())
        if not names:
            return
        self.counter += 1
        common = {"bracket_id": self.random.choice(names), "command_id": f"c:{self.counter}",
                  "correlation": f"o{self.counter}"}  # fmt: skip
        kind = self.random.choice((CancelEntry, CancelBracket, FlattenBracket, ModifyBracket, DetachBracket))
        if kind is DetachBracket and self.random.random() < 0.7:
            kind = FlattenBracket
        if kind is ModifyBracket:
            common["stop"] = self.w.prices["AAPL"].quantize(Decimal("0.1")) - self.random.choice((1, 3))
        command = kind(**common)
        self.commands.append(command)
        self.note(f"{kind.__name__} {common['bracket_id']}")
        self.w.say(command)

    def partial(self) -> None:
        entries = [order for order in self.w.working() if ".entry" in order.order_ref]
        if entries:
            order = self.random.choice(entries)
            quantity = Decimal(self.random.choice((1, 20, 40, 100)))
            self.note(f"fill {quantity} of {order.order_ref}")
            self.w.gateway.deliver(
                self.w.gateway.exchange.fill(order, quantity, self.price(order), self.w.now_ns), self.w.now_ns)

    def price(self, order: Order) -> Decimal:
        return self.w.prices[order.contract.symbol]

    # -- what the venue does -----------------------------------------------------------------------------------

    def venue(self) -> None:
        orders = [order for order in self.w.working() if self.humans or ".entry" in order.order_ref]
        if not orders:
            return
        order, exchange = self.random.choice(orders), self.w.gateway.exchange
        what = self.random.choice(("reject", "system cancel", "fill"))
        self.note(f"venue: {what} {order.order_ref}")
        if what == "reject":
            reports = exchange.reject(order, 201, "Order rejected - reason:by the nemesis", self.w.now_ns)
        elif what == "fill":
            reports = exchange.fill(order, Decimal(self.random.choice((1, 10, 1000))), self.price(order), self.w.now_ns)
        else:
            reports = exchange.system_cancel(order, "by the nemesis", self.w.now_ns)
        self.w.gateway.deliver(reports, self.w.now_ns)

    def race(self) -> None:
        """Both members of a group trade at one instant."""
        groups: dict[str, list[Order]] = {}
        for order in self.w.working():
            if order.oca_group:
                groups.setdefault(order.oca_group, []).append(order)
        pairs = [group for group in groups.values() if len(group) > 1]
        if pairs:
            pair = self.random.choice(pairs)
            self.w.races += 1
            self.note(f"race: {' and '.join(order.order_ref for order in pair)}")
            fills = [(order, order.remaining, self.price(order)) for order in pair]
            self.w.gateway.deliver(self.w.gateway.exchange.fill_all(fills, self.w.now_ns), self.w.now_ns)

    def wire(self) -> None:
        wire = self.w.wire
        what = self.random.choice(("cut", "cut", "deaf", "dumb", "refuse", "mend", "mend"))
        self.note(f"wire: {what}")
        if what == "cut":
            wire.cut()
        elif what == "refuse":
            wire.refusing = True
            wire.cut()
        elif what == "mend":
            self.mend()
        else:
            setattr(wire, what, True)

    def mend(self) -> None:
        wire = self.w.wire
        if (wire.deaf or wire.dumb) and self.random.random() < 0.5:
            wire.cut()  # what was held back is lost
        wire.refusing = wire.deaf = wire.dumb = False

    # -- crashes -----------------------------------------------------------------------------------------------

    def crash(self) -> None:
        name = self.random.choice([service.name for service in SERVICES])
        if self.spare(name):
            actor = self.w.actor(name)
            if actor is not None:
                self.plant(actor, name)

    def crash_bracket(self) -> None:
        brackets = self.w.brackets()
        if brackets:
            name = self.random.choice(list(brackets))
            if self.spare(name):
                self.plant(brackets[name], name)

    def crash_leg(self) -> None:
        legs = []
        for name, bracket in self.w.brackets().items():
            for leg in bracket.children():
                address = bracket.child(leg)
                actor = self.w.host._engine.instance_at(address) if address is not None else None
                if actor is not None:
                    legs.append((f"{name}/{leg}", actor))
        if legs:
            name, actor = self.random.choice(legs)
            if self.spare(name):
                self.plant(actor, name)

    def spare(self, name: str) -> bool:
        """Two crashes a minute are within the budget of three."""
        past = [at for at in self.w.crashes.get(name, []) if at > self.w.now_ns - 61 * NS]
        if len(past) >= 2:
            return False
        self.w.crashes[name] = [*past, self.w.now_ns]
        return True

    def plant(self, actor: Any, name: str) -> None:
        """Make the actor fail at one of its next messages: before its handler, or after it, with all that it said."""
        after, left = self.random.random() < 0.5, self.random.choice((1, 1, 2, 3, 6))
        self.note(f"crash {name} {'after' if after else 'before'} its message {left} from now")

        def tell(kind: str) -> None:
            self.note(f"  {name} fails {'after' if after else 'before'} {kind}")

        def due(kind: str) -> bool:
            nonlocal left
            left -= not self.calm
            return left == 0 and not self.calm

        crash_at(actor, due, after, tell)

    def clock(self) -> None:
        step = self.random.choice((-3600, -60, -2, 2, 20))
        self.note(f"clock: set by {step} s")
        self.w.skew_ns += step * NS

    def restart(self) -> None:
        if self.random.random() < 0.5:
            self.note("engine: stopped and started")
            self.w.host.stop()
        else:
            self.note("engine: killed and started")
            self.w.kill()
        self.w.sleep_dead(self.random.choice((0.0, 1.0)))
        self.w.start()


def play(seed: int, steps: int = 120, native: bool | None = None, story: bool = False) -> None:
    """Play one seed. Raises Unsound with what does not hold."""
    with scene(seed, seed % 4 != 3 if native is None else native) as world:
        nemesis = Nemesis(world)
        try:
            world.sleep(3)
            for _ in range(steps):
                nemesis.step()
                if world.host.ended is not None:
                    raise Unsound(f"seed {seed}: the engine ended: {world.host.ended.reason}")
            Judge(world, nemesis).judge()
        finally:
            if story:
                print("\n".join(world.story))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.nemesis", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None, help="play this one only, and tell its story")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    if options.seed is not None:
        try:
            play(options.seed, options.steps, story=True)
        except Unsound as problem:
            print(problem)
            return 1
        return 0
    end, seed, bad = time.monotonic() + 60 * options.minutes, options.first, 0
    while time.monotonic() < end:
        try:
            play(seed, options.steps)
        except Exception as problem:
            bad += 1
            print(f"seed {seed}: {type(problem).__name__}: {problem}"[:1500], flush=True)
        seed += 1
    print(f"{seed - options.first} seeds, {bad} unsound", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
