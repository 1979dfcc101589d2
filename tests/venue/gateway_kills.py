"""Kill -9 campaigns against a gateway with a state file: `python -m tests.venue.gateway_kills 40 [SEED]`.

Real clients (ib_insync) place, amend and cancel through one gateway process after another, all on one state file. Each
is killed at a random moment while orders flow; the next one must know all that its clients were told.

Law: the ledger holds only what came over a socket; the gateway's journal is not looked at.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
from collections import defaultdict
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import ib_insync

from tests.venue.gateway_fixture import gateway_process, until

FINAL = {"Filled", "Cancelled", "Inactive"}
CLIENTS = (1, 2)
BASE = 100.0                # AAPL's first price in a gateway without a story
RULES = {"liquidity": "displayed", "oca_amend": True}


class Ledger:
    """What clients were told over all lives of the gateway, by permId and execId."""

    def __init__(self) -> None:
        self.filled: dict[int, Decimal] = {}
        self.ended: dict[int, str] = {}
        self.owner: dict[int, tuple[int, int]] = {}
        self.prices: dict[int, list[float]] = defaultdict(list)      # limits that the client asked for, in order
        self.price_at: dict[int, int] = {}                           # how far down that list it was told to be
        self.executions: dict[str, list[str]] = {}
        self.commissions: dict[str, list[str]] = {}
        self.highest: dict[int, int] = {}
        self.messages = 0

    def hear(self, client_id: int, fields: list[str]) -> None:
        """Note one message of a gateway as the client's decoder gets it."""
        self.messages += 1
        kind = fields[0]
        if kind == "3":
            order_id, status, filled, perm_id = int(fields[1]), fields[2], Decimal(fields[3]), int(fields[6])
            owner = (int(fields[9]), order_id)
            assert perm_id, f"orderStatus without permId: {fields}"
            assert self.owner.setdefault(perm_id, owner) == owner, f"permId {perm_id} was given out twice: {fields}"
            assert filled >= self.filled.get(perm_id, Decimal(0)), f"fills went back: {fields}"
            was = self.ended.get(perm_id, status)
            assert was == status, f"order {owner} was {was} and is {status} again"
            self.filled[perm_id] = filled
            self.highest[owner[0]] = max(order_id, self.highest.get(owner[0], 0))
            if status in FINAL:
                self.ended[perm_id] = status
        elif kind == "11":
            same = self.executions.setdefault(fields[14], fields[2:])
            assert same == fields[2:], f"execution {fields[14]} has changed: {same} / {fields[2:]}"
        elif kind == "59":
            assert self.commissions.setdefault(fields[2], fields[2:]) == fields[2:], f"commission changed: {fields}"
        elif kind == "9":
            assert int(fields[2]) > self.highest.get(client_id, 0), f"id {fields[2]} of client {client_id} was used"


class Snapshot:
    """What the next gateway says of the past: the answers to 16, 99, 7 and 61, as they come."""

    def __init__(self) -> None:
        self.live: dict[int, tuple[Decimal, float]] = {}
        self.done: dict[int, tuple[str, Decimal]] = {}
        self.executions: dict[str, list[str]] = {}
        self.held = self._held = Decimal(0)
        self.limits: dict[int, float] = {}

    def hear(self, fields: list[str]) -> None:
        if fields[0] == "5":
            self.limits[int(fields[25])] = float(fields[16] or 0)
        elif fields[0] == "3":
            perm_id = int(fields[6])
            self.live[perm_id] = (Decimal(fields[3]), self.limits[perm_id])
        elif fields[0] == "11":
            self.executions[fields[14]] = fields[2:]
        elif fields[0] == "61":
            self._held = Decimal(fields[-2])
        elif fields[0] == "55":
            self.held = self._held          # a fill tells its position at once: here both say the same

    def check(self, ledger: Ledger) -> None:
        """Compare: told is a part of stored, and what is stored adds up."""
        for perm_id, filled in ledger.filled.items():
            if perm_id in ledger.ended:
                status = self.done.get(perm_id, ("nothing", filled))
                assert status[0] == ledger.ended[perm_id], f"{perm_id} was told {ledger.ended[perm_id]}, is {status}"
                assert perm_id not in self.live, f"{perm_id} works again after {ledger.ended[perm_id]}"
            stored = self.live.get(perm_id) or self.done.get(perm_id)
            assert stored is not None, f"order {ledger.owner[perm_id]} (permId {perm_id}) was told and is lost"
            if perm_id in self.live:
                assert self.live[perm_id][0] >= filled, f"{perm_id}: told {filled} filled, stored {stored}"
                asked = ledger.prices[perm_id]
                if asked:
                    assert self.live[perm_id][1] in asked[ledger.price_at[perm_id]:], f"{perm_id}: {stored}, {asked}"
        for exec_id, fields in ledger.executions.items():
            assert self.executions.get(exec_id) == fields, f"execution {exec_id} was told and is lost"
        total = sum((Decimal(f[17]) * (1 if f[16] == "BOT" else -1) for f in self.executions.values()), Decimal(0))
        assert total == self.held, f"executions add up to {total}, the position is {self.held}"


def hears(ib: Any, *ears: Any) -> None:
    """Let the ears hear each message before the library decodes it."""
    decode = ib.client.decoder.interpret

    def interpret(fields: list[str]) -> None:
        for ear in ears:
            try:
                ear(list(fields))
            except Exception as wrong:            # the library would only log it
                ib.wrong.append(wrong)
        decode(fields)

    ib.wrong = []

    ib.client.decoder.interpret = interpret


async def connected(port: int, client_id: int, ledger: Ledger, *ears: Any) -> Any:
    ib = ib_insync.IB()
    ib.client.MaxRequests = 0
    hears(ib, lambda fields: ledger.hear(client_id, fields), *ears)
    await ib.connectAsync("127.0.0.1", port, clientId=client_id, timeout=20)
    return ib


async def look(port: int, ledger: Ledger, snapshot: Snapshot) -> None:
    """Ask a fresh gateway for everything, as client 9, and check it."""
    ib = await connected(port, 9, ledger, snapshot.hear)
    await ib.reqAllOpenOrdersAsync()
    for trade in await ib.reqCompletedOrdersAsync(False):
        snapshot.done[trade.order.permId] = (trade.orderStatus.status, Decimal(str(trade.order.filledQuantity)))
    await ib.reqExecutionsAsync()
    ib.disconnect()
    assert not ib.wrong, ib.wrong[0]
    snapshot.check(ledger)


async def trade(port: int, ledger: Ledger, draw: random.Random, process: Any, after_s: float) -> None:
    """Let orders flow until the gateway is killed under them."""
    clients = [await connected(port, client_id, ledger) for client_id in CLIENTS]
    contract = ib_insync.Stock("AAPL", "SMART", "USD", conId=265598)
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(after_s, lambda: (os.kill(process.pid, signal.SIGKILL), ended.set()))
    for ib in clients:
        ib.openOrderEvent += lambda trade: note_price(ledger, trade)
    n = 0
    while not ended.is_set():
        for ib in clients:
            with suppress(ConnectionError, AssertionError):
                act(ib, contract, draw, ledger, n)
        n += 1
        await asyncio.sleep(draw.choice([0, 0, 0.001, 0.005]))
    await asyncio.to_thread(process.wait)
    await until(lambda: not any(ib.isConnected() for ib in clients), "the ends of the connections", 5)
    assert not any(ib.wrong for ib in clients), [ib.wrong for ib in clients]


def note_price(ledger: Ledger, trade: Any) -> None:
    """Hear that the gateway has an amended price: from now on it may not be an older one."""
    perm_id, limit = trade.order.permId, trade.order.lmtPrice
    asked = ledger.prices[perm_id]
    if limit in asked[ledger.price_at.get(perm_id, 0):]:
        ledger.price_at[perm_id] = asked.index(limit, ledger.price_at.get(perm_id, 0))
    elif not asked:
        asked.append(limit)
        ledger.price_at[perm_id] = 0


def act(ib: Any, contract: Any, draw: random.Random, ledger: Ledger, n: int) -> None:
    """Do one thing: place, pair, bracket, amend or cancel."""
    side = draw.choice(["BUY", "SELL"])
    cents = round(draw.uniform(-0.6, 0.6), 2)
    live = [t for t in ib.openTrades() if t.order.permId and t.orderStatus.status in ("Submitted", "PreSubmitted")]
    what = draw.choice(["limit", "limit", "market", "pair", "bracket", "amend", "amend", "cancel", "cancel"])
    price = round(BASE + cents, 2)
    if what == "limit":
        ib.placeOrder(contract, ib_insync.LimitOrder(side, draw.randint(1, 900), price, tif="GTC"))
    elif what == "market":
        ib.placeOrder(contract, ib_insync.MarketOrder(side, draw.randint(1, 300), tif="DAY"))
    elif what == "pair":
        group = f"g{ib.client.getReqId()}"
        for each in ("BUY", "SELL"):
            ib.placeOrder(contract, ib_insync.LimitOrder(each, 100, price, tif="GTC", ocaGroup=group, ocaType=1))
    elif what == "bracket":
        away = 1 if side == "BUY" else -1
        for order in ib.bracketOrder(side, 50, price, round(price + away, 2), round(price - away, 2), tif="GTC"):
            ib.placeOrder(contract, order)
    elif live and what == "cancel":
        ib.cancelOrder(draw.choice(live).order)
    elif live:
        order = draw.choice(live).order
        if order.orderType == "LMT" and not order.parentId:
            order.lmtPrice = price
            ledger.prices[order.permId].append(price)
            ledger.price_at.setdefault(order.permId, 0)
            ib.placeOrder(contract, order)


def campaign(kills: int, seed: int, folder: Path) -> Ledger:
    """Kill so many gateways, each at its own moment; raises AssertionError for what was told and lost."""
    draw, ledger = random.Random(seed), Ledger()
    settings: dict[str, Any] = {"state": str(folder / "state.db"), "walk_interval": "0.01", "rules": RULES}
    for kill in range(kills + 1):
        with gateway_process(seed=seed + kill, **settings) as (process, port):
            asyncio.run(asyncio.wait_for(look(port, ledger, Snapshot()), 60))
            if kill < kills:
                after_s = draw.choice([0.02, 0.1, 0.3, 0.8]) * draw.random() + 0.005
                asyncio.run(asyncio.wait_for(trade(port, ledger, draw, process, after_s), 60))
    return ledger


def main() -> None:
    logging.getLogger("ib_insync").setLevel(logging.CRITICAL)
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(kills, seed, Path(folder))
    sys.stdout.write(f"{kills} kills, seed {seed}: {found.messages} messages heard, {len(found.filled)} orders, "
                     f"{len(found.ended)} ended, {len(found.executions)} executions; all that was told was stored\n")


if __name__ == "__main__":
    main()
