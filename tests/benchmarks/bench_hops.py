"""What the single steps cost: a message between two actors, the bracket's step, the gate's decision, a frame.

Run: python -m tests.benchmarks hops. Microseconds of processor time, median of rounds, everything warm.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.host import Host
from actors.rules.bracket import new_bracket, step
from actors.rules.gate import BracketBook
from actors.rules.story import policy_of
from actors.venue.ib import load_library
from actors.venue.ib_orders import OrderEncoder
from actors.venue.port import OrderTicket
from messages.base import Command
from messages.exits import BracketSpec
from messages.intent import OrderType, Side
from messages.orders import BracketPictured, OrderAccepted, OrderSubmitted, Role
from messages.supervision import RootSpec
from tests import builders
from tests.benchmarks import machine

D = Decimal


class Ball(Command, frozen=True, kw_only=True):
    left: int


class Player(SupervisedActor):
    """Sends itself a ball until it has flown often enough."""

    def receiveMsg_Ball(self, message: Ball, sender: ActorAddress) -> None:
        if message.left:
            self.tell(self.address, Ball(left=message.left - 1))


def hop_us(count: int) -> Callable[[], float]:
    folder = tempfile.mkdtemp()
    host = Host(builders.settings(system={"state_dir": folder, "log_level": "ERROR"}))
    host.start(root_class=Player, spec=RootSpec(services=()))
    host.run_until(lambda: host.instance().settings is not None)

    def measure() -> float:
        engine = host._engine
        began = time.process_time()
        engine.enqueue(host.root, Ball(left=count))
        while engine.base.pump(64):
            pass
        return (time.process_time() - began) / count * 1e6

    measure.close = lambda: host._engine.close()  # type: ignore[attr-defined]
    return measure


def step_us(count: int) -> Callable[[], float]:
    """A bracket from its picture to working exits: nine events a life."""
    definition = builders.definition()
    policy = policy_of(builders.settings())
    spec = BracketSpec(definition=definition)
    now = definition.opened_ns
    of: dict[str, Any] = {"bracket_id": "B1-test", "ts_ns": now}
    events: list[Any] = [BracketPictured(bracket_id="B1-test", orders=(), ts_ns=now)]
    for number, order_id in enumerate(("B1-test.entry", "B1-test.target.1", "B1-test.stop.1"), 1):
        leg = order_id.split(".")[1]
        events += [
            OrderSubmitted(**of, order_id=order_id, leg=leg, quantity=D(100), client_id=1, venue_order_id=number),
            OrderAccepted(**of, order_id=order_id, perm_id=number, client_id=1),
        ]
        if leg == "entry":
            events += [builders.fill(order_id, 60, ts_ns=now), builders.fill(order_id, 40, ts_ns=now)]

    def measure() -> float:
        began = time.process_time()
        for _ in range(max(1, count // len(events))):
            bracket = new_bracket(spec.definition)
            for event in events:
                bracket, _ = step(bracket, event, now, policy)
        return (time.process_time() - began) / (max(1, count // len(events)) * len(events)) * 1e6

    return measure


def decide_us(count: int) -> Callable[[], float]:
    book = BracketBook()
    book.placed("B1.entry", Role.ENTRY, None, D(100))
    book.filled("B1.entry", Role.ENTRY, D(100))
    book.placed("B1.target.1", Role.EXIT, "g1", D(60))

    def measure() -> float:
        began = time.process_time()
        for _ in range(count):
            book.decide("B1.trail.1", Role.EXIT, "g2", D(100), reduce=True)
        return (time.process_time() - began) / count * 1e6

    return measure


class Frames:
    """Our encoder and the library's."""

    def __init__(self) -> None:
        self.lib = load_library("ib_insync")
        client_module = self.lib.client
        self.client = client_module.Client.__new__(client_module.Client)
        self.client.serverVersion = lambda: 176
        self.client.isConnected = lambda: True
        sent: list[str] = []
        self.client.sendMsg = sent.append
        self.client.placeOrder(1, self.lib.Contract(), self.lib.Order())
        self.encoder = OrderEncoder(sent[0].split("\0")[:-1], 176)
        self.ticket = OrderTicket(
            order_ref="B1-test.trail.1", account="DU1", contract=builders.contract(), side=Side.SELL,
            order_type=OrderType.MKT, quantity=D(100),
        )  # fmt: skip
        self.template = self.encoder.prepare(self.ticket)
        self.client.sendMsg = lambda frame: None

    def library(self) -> None:
        self.client.placeOrder(7, self.lib.Contract(conId=265598, exchange="SMART"), self.lib.MarketOrder("SELL", 100))

    def encode(self) -> None:
        self.encoder.encode(7, self.ticket)

    def stamp(self) -> None:
        self.template.stamp(7, D(100), None, None)


def each_us(work: Callable[[], None], count: int) -> Callable[[], float]:
    def measure() -> float:
        began = time.process_time()
        for _ in range(count):
            work()
        return (time.process_time() - began) / count * 1e6

    return measure


def run(say: machine.Say, quick: bool = False) -> None:
    """Print the table."""
    count, rounds = (500, 3) if quick else (5_000, 9)
    frames, hop = Frames(), hop_us(count)
    measures = {
        "a message from actor to actor, embedded": hop,
        "step() of a bracket, one event": step_us(count),
        "decide() of the last gate": decide_us(count),
        "placeOrder frame, stamped on a template": each_us(frames.stamp, count),
        "placeOrder frame, encoded by us": each_us(frames.encode, count),
        "placeOrder frame, encoded by ib_insync": each_us(frames.library, max(50, count // 10)),
    }
    samples: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            samples[name].append(measure())
    hop.close()  # type: ignore[attr-defined]
    say(f"single steps, us of processor time (median of {rounds} rounds, least and most)")
    machine.table(say, ["step", "us"], [[name, machine.spread(values, 2)] for name, values in samples.items()])


if __name__ == "__main__":
    run(print)
