"""One bracket, one crash at an exact message, one restart: played by real processes, judged by the gateway's journal.

Law: what the market does next is cued by a marker order of another client: nothing depends on how long a start takes.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import ib_insync

from actors.venue.simulator.journal import executions, final_orders, placements, positions, read_journal
from actors.web.client import Bracketeer
from tests.e2e.engines import PATIENCE_S, Process, Service, wait_for
from tests.e2e.flood import intent
from tests.e2e.link import Link, Loss, Rule

OVER = ("CLOSED", "DETACHED", "DENIED")
LIVE = ("PreSubmitted", "Submitted", "PendingSubmit", "PendingCancel")
ENTRY = """
title = "a crash"
[[quote]]
symbol = "AAPL"
last = 101
[[step]]
say = "the entry's limit is reached"
when = { working = "*.entry*" }
after = 0.1
price = { symbol = "AAPL", last = 100, bid = 99.99, ask = 100 }
"""
TARGET = ENTRY + """
[[step]]
say = "cued: the target is reached"
when = { placed = "cue-1", working = ["*.target*", "*.stop*"], shares = 100 }
after = 0.1
price = { symbol = "AAPL", last = 110, bid = 110, ask = 110.02 }
[[step]]
say = "cued: the market falls through where the stop was"
when = { placed = "cue-2" }
price = { symbol = "AAPL", last = 90, bid = 89.99, ask = 90 }
"""
PARTIAL = """
title = "a crash among partial fills"
[[quote]]
symbol = "AAPL"
last = 101
[[step]]
when = { working = "*.entry*" }
after = 0.1
fill = { order_ref = "*.entry*", quantity = 40, price = 100 }
[[step]]
when = { working = "*.stop*", shares = 40, at_most = 3 }
after = 0.1
fill = { order_ref = "*.entry*", quantity = 35, price = 100 }
[[step]]
when = { working = "*.stop*", shares = 75, at_most = 3 }
after = 0.1
fill = { order_ref = "*.entry*", quantity = 25, price = 100 }
[[step]]
when = { placed = "cue-1", working = ["*.target*", "*.stop*"], shares = 100 }
after = 0.1
price = { symbol = "AAPL", last = 110, bid = 110, ask = 110.02 }
[[step]]
when = { placed = "cue-2" }
price = { symbol = "AAPL", last = 90, bid = 89.99, ask = 90 }
"""
TRAIL = ENTRY + """
[[step]]
say = "the market climbs to 108"
when = { filled = "*.entry*", subscribed = "AAPL" }
after = 0.3
path = { symbol = "AAPL", lasts = [101, 103, 105, 107, 108], every = 0.05 }
[[step]]
say = "cued: it turns, and from 108 a trail of 2 stands at 106"
when = { placed = "cue-1", subscribed = "AAPL" }
after = 0.4
path = { symbol = "AAPL", lasts = [107, 106.5, 106, 105.5, 105, 104, 103, 100], every = 0.1 }
[[step]]
say = "cued again: further down"
when = { placed = "cue-2", subscribed = "AAPL" }
after = 0.4
path = { symbol = "AAPL", lasts = [100, 99, 98, 97], every = 0.1 }
"""
HUNDRED = {"quantity": "100", "limit_price": "100"}
BRACKET = intent("crash", **HUNDRED, exits=[{"target": {"price": "110"}, "stop": {"price": "95"}}])
TRAILED = intent("crash", **HUNDRED, exits=[{"trailing_stop": {"amount": "2"}}])


class Stage(Service):
    """An engine and its gateway, with a link between them and a market told by a scenario."""

    def __init__(self, folder: Path, scenario: str, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "market.toml"
        file.write_text(scenario)
        self.link = Link(0)
        super().__init__(folder, *options, scenario=str(file), through=self._through)

    def _through(self, port: int) -> int:
        self.link.target = port
        return self.link.port

    def stop(self) -> None:
        self.link.close()
        super().stop()

    def kill(self) -> None:
        """End the engine as a power cut would."""
        assert self.engine is not None
        self.engine.end(signal.SIGKILL)

    def restart(self) -> None:
        """Start an engine on a wire that is whole."""
        self.link.mend()
        self.start()

    def kill_gateway(self, scenario: str | None = None) -> None:
        """End the gateway as a power cut would, and start another one, which knows nothing."""
        self.gateway.end(signal.SIGKILL)
        self.journal = self.journal.with_name("gateway-2.jsonl")
        story = ["--scenario", scenario] if scenario else []
        self.gateway = Process("gateway", "--port", "0", "--journal", str(self.journal), "--json", *story)
        self.link.target = self.gateway.event("listening")["port"]

    def submit(self, what: dict[str, Any] = BRACKET) -> str:
        with Bracketeer.of_state(self.state) as client:
            return client.submit(what).bracket_id

    def story(self, bracket_id: str) -> dict[str, Any]:
        with Bracketeer.of_state(self.state) as client:
            return client.bracket(bracket_id)

    def until(self, condition: Callable[[list[dict[str, Any]]], Any], what: str, seconds: float = PATIENCE_S) -> Any:
        """Wait for something in the gateway's journal."""
        return wait_for(lambda: condition(read_journal(self.journal)), seconds, what)

    def until_over(self, bracket_id: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until the engine says that the bracket is over; return its story."""
        try:
            return wait_for(lambda: (s := self.story(bracket_id))["phase"] in OVER and s, seconds, "the end")
        except AssertionError:
            raise AssertionError(told(self, bracket_id)) from None

    def cue(self, name: str) -> None:
        """Let the market go on: another client places an order that only says so."""
        asyncio.run(_place_marker(self.link.target, name))


async def _place_marker(port: int, name: str) -> None:
    ib = ib_insync.IB()
    await ib.connectAsync("127.0.0.1", port, clientId=700 + int(name[-1]), timeout=PATIENCE_S)
    try:
        contract = ib_insync.Stock("MSFT", "SMART", "USD", conId=272093)
        order = ib_insync.LimitOrder("BUY", 1, 1.0, orderRef=name, tif="DAY", account="DU1000001")
        trade = ib.placeOrder(contract, order)
        for _ in range(int(PATIENCE_S * 100)):
            if trade.orderStatus.status == "Submitted":
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{name}: {trade.orderStatus.status}")
    finally:
        ib.disconnect()


@dataclass
class Verdict:
    """What the journal says of one bracket."""

    twice: list[str]
    """Order ids that reached the gateway more than once as a new order."""
    lowest: Decimal
    """The smallest position that it ever made, for a long bracket; below zero: exits exceeded the entry."""
    position: Decimal
    working: dict[str, Decimal]
    """leg -> shares that its living orders may still trade."""
    placed: Counter[str]
    """leg -> new orders."""


def judge(journal: Path | Iterable[dict[str, Any]]) -> Verdict:
    """Read a verdict off the journal (markers left out)."""
    lines = read_journal(journal) if isinstance(journal, Path) else list(journal)
    refs = [line["orderRef"] for line in placements(lines) if not line["orderRef"].startswith("cue")]
    position = lowest = Decimal(0)
    for execution in executions(lines):
        quantity = Decimal(execution["quantity"])
        position += quantity if execution["action"] == "BUY" else -quantity
        lowest = min(lowest, position)
    working: dict[str, Decimal] = {}
    for ref, order in final_orders(lines).items():
        if order["status"] in LIVE and not ref.startswith("cue"):
            leg = ref.split(".")[1]
            working[leg] = working.get(leg, Decimal(0)) + Decimal(order["remaining"])
    assert sum(positions(lines).values()) == position
    return Verdict(
        [ref for ref, count in Counter(refs).items() if count > 1], lowest, position, working,
        Counter(ref.split(".")[1] for ref in refs),
    )  # fmt: skip


def misbooked(stage: Service, bracket_id: str) -> list[str]:
    """Return where the ledger differs from the journal: fills by order, rows, and the position."""
    lines = read_journal(stage.journal)
    with Bracketeer.of_state(stage.state) as client:
        story, held = client.bracket(bracket_id), client.positions()
    traded: Counter[str] = Counter()
    booked: Counter[str] = Counter()
    for line in executions(lines):
        traded[line["orderRef"]] += int(line["quantity"])
    for fill in story["fills"]:
        booked[fill["order_id"]] += int(fill["quantity"])
    found = [] if traded == booked else [f"executed {dict(traded)}, booked {dict(booked)}"]
    by_row: Counter[str] = Counter()
    for ref, quantity in traded.items():
        by_row[".".join(ref.split(".")[:2])] += quantity
    rows = {row["row_id"]: int(row["filled_qty"]) for row in story["orders"] if int(row["filled_qty"])}
    found += [] if rows == dict(by_row) else [f"executed {dict(by_row)}, the rows say {rows}"]
    position = sum((Decimal(row["quantity"]) for row in held), Decimal(0))
    found += [] if position == judge(lines).position else [f"the ledger holds {position}"]
    return found


def told(stage: Service, bracket_id: str) -> str:
    """Tell engine's story and gateway's journal, for a test that failed."""
    with Bracketeer.of_state(stage.state) as client:
        story = client.bracket(bracket_id)
    lines = [f"{bracket_id} is {story['phase']}: {story.get('reason')}"]
    lines += [f"  row {row['row_id']} {row['status']} {row['filled_qty']}/{row['quantity']} {row['order_ref']}"
              for row in story["orders"]]  # fmt: skip
    lines += [f"  event {event['type']} {event['payload']}"[:300] for event in story["events"]]
    lines += [f"  journal {line}"[:220] for line in read_journal(stage.journal)
              if line["msg"] in ("placeOrder", "modifyOrder", "cancelOrder", "order", "execution", "connect", "step")]
    return "\n".join(lines)


def crash(
    stage: Stage, what: dict[str, Any], rules: Iterable[tuple[Rule, Loss]], cue_first: bool = False,
    trail: bool = False, patience: float = 0,
) -> tuple[str, Verdict]:  # fmt: skip
    """Submit; at each rule's frame lose the wire, kill the engine, start another; play the market to its end.

    `cue_first`: the market does not wait for the restart. `trail`: it moves on after it, so that there are new trades.
    With `patience`, in seconds, a frame that does not come is not waited for any longer: the kill comes all the same.
    """
    bracket_id = ""
    for rule, loss in rules:
        stage.link.lose(rule, loss)
        if not bracket_id:
            bracket_id = stage.submit(what)
            if cue_first:
                stage.cue("cue-1")
        if not stage.link.caught.wait(patience or PATIENCE_S) and not patience:
            raise AssertionError("the frame never came\n" + told(stage, bracket_id))
        stage.kill()
        stage.restart()
    if not cue_first:
        stage.cue("cue-1")
    if trail:
        stage.cue("cue-2")
    stage.until_over(bracket_id)
    if not trail:
        stage.cue("cue-2")  # whatever was left working would trade now
    try:
        wait_for(lambda: not misbooked(stage, bracket_id))
    except AssertionError:
        raise AssertionError(f"{misbooked(stage, bracket_id)}\n{told(stage, bracket_id)}") from None
    return bracket_id, judge(stage.journal)
