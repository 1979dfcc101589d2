"""Random days at a gateway, judged by a naive model: `python -m tests.venue.venue_swarm SECONDS [SEED]`.

Two clients place, amend and cancel all kinds of orders while prices, hours, halts, faults, cuts and kills go on; after
each step the model looks at what is new. It knows what an exchange may do, and nothing of how this one does it.

Law: one seed is one day; a failure names it.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.faults.kinds import CancelRace, DupStatus, ExecCorrection, LateCommission
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.in_process import show_price
from actors.venue.simulator.instructions import Instructions, Leg, PriceCondition
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.orders import ExchangeRules, Execution, Order
from actors.venue.simulator.settings import DEFAULT_ACCOUNT, GatewaySettings
from tests.venue.gateway_fixture import NS, RawClient
from tests.venue.gateway_kills import Ledger

START_NS = int(datetime(2026, 1, 7, 18, 0, tzinfo=UTC).timestamp()) * NS       # Wednesday, 13:00 New York
NEW_YORK = ZoneInfo("America/New_York")
AAPL, SPY = 265598, 756733
NAMES = {AAPL: "AAPL", SPY: "SPY"}
STOPS = ("STP", "STP LMT")


class Model:
    """What must hold of every execution and every order, told in the simplest way."""

    def __init__(self) -> None:
        self.filled: dict[tuple[int, int], D] = defaultdict(D)
        self.allowed: dict[tuple[int, int], D] = {}        # what the fills of its group leave to each member
        self.groups: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.held: dict[int, D] = defaultdict(D)
        self.seen = 0
        self.ids: set[str] = set()
        self.highs: dict[tuple[int, int], D] = {}          # the extremes of the last price while the order lived
        self.lows: dict[tuple[int, int], D] = {}

    def placed(self, order: Order, last: D | None) -> None:
        self.allowed[order.key] = order.total
        if order.oca_group:
            self.groups[order.oca_group].append(order.key)
        if last is not None:
            self.highs[order.key] = self.lows[order.key] = last

    def printed(self, gateway: Gateway, con_id: int, last: D) -> None:
        for order in [*gateway.exchange.orders.values(), *gateway.exchange.done.values()]:
            watched = {c.con_id for c in order.instructions.conditions if isinstance(c, PriceCondition)}
            if con_id in (watched or {order.contract.con_id}):
                self.highs[order.key] = max(last, self.highs.get(order.key, last))
                self.lows[order.key] = min(last, self.lows.get(order.key, last))

    def look(self, gateway: Gateway, ex_ns: int, forced: bool, halted: set[int]) -> None:
        """Judge what was executed since the last look, then the books."""
        exchange = gateway.exchange
        fresh = list(exchange.executions)[len(exchange.executions) - (exchange.executed - self.seen):]
        self.seen = exchange.executed
        for e in fresh:
            self._judge(gateway, e, forced, halted)
        for key, order in [*exchange.orders.items(), *exchange.done.items()]:
            assert order.filled == self.filled[key], f"{key}: filled {order.filled}, executed {self.filled[key]}"
            assert order.filled <= order.total, f"{key}: {order.filled} of {order.total}"
            assert (order.status == "Filled") == (order.remaining == 0), f"{key}: {order.status}, {order.remaining}"
        for key, order in exchange.orders.items():
            assert order.alive
            assert key not in exchange.done or exchange.done[key].seq < order.seq, f"{key} lives and is over"
            works = key in exchange.book(order.contract.con_id).orders
            assert not works or order.tif not in ("IOC", "FOK") or order.status == "PendingCancel", f"{key} rests"
            assert order.expires_ns is None or order.expires_ns > ex_ns, f"{key} outlived its time"
            if order.parent_id and works:
                parent = exchange.known(order.client_id, order.parent_id)
                assert parent is not None, f"{key} works without its parent"
                assert parent.status == "Filled", f"{key} works while its parent is {parent.status}"
        held = {k[1]: p.quantity for k, p in exchange.accounts.positions.items()}
        assert {k: v for k, v in held.items() if v} == {k: v for k, v in self.held.items() if v}
        cash = sum(((-e.quantity if e.side == "BOT" else e.quantity) * e.price * e.contract.unit - e.commission
                    for e in exchange.executions if e.contract.sec_type != "BAG"), D(0))
        assert exchange.accounts.cash.get(DEFAULT_ACCOUNT, D(0)) == cash

    def _judge(self, gateway: Gateway, e: Execution, forced: bool, halted: set[int]) -> None:
        key = (e.client_id, e.order_id)
        order = gateway.exchange.known(*key)
        assert order is not None, f"an execution of {key}, which is not known"
        stem = e.exec_id.rpartition(".")[0]
        assert stem not in self.ids, f"execution id {e.exec_id} twice"
        self.ids.add(stem)
        signed = e.quantity if e.side == "BOT" else -e.quantity
        if e.contract.sec_type != "BAG":
            self.held[e.contract.con_id] += signed
        if e.contract.con_id != order.contract.con_id:
            return                                   # a leg: the order counts the combination
        assert e.quantity > 0
        assert (e.side == "BOT") == order.is_buy
        self.filled[key] += e.quantity
        self._judge_group(order, e.quantity)
        if order.order_type in ("LMT", "STP LMT") and not order.instructions.non_guaranteed \
                and e.exec_id.endswith(".01"):                   # else it was corrected before anybody looked
            assert order.lmt is not None
            assert e.price <= order.lmt if order.is_buy else e.price >= order.lmt, f"{key}: {e.price} beyond its limit"
        if forced:
            return
        assert e.contract.con_id not in halted, f"{key} traded in a halt"
        local = datetime.fromtimestamp(e.time_ns // NS, NEW_YORK)
        minutes = local.hour * 60 + local.minute
        wide = order.outside_rth
        opens, closes = (240, 1200) if wide else (570, 960)
        assert local.weekday() < 5, f"{key} traded on {local}"
        assert opens <= minutes < closes, f"{key} traded at {local}, outsideRth {wide}"
        if order.parent_id:
            parent = gateway.exchange.known(order.client_id, order.parent_id)
            assert parent is not None
            assert parent.status == "Filled", f"{key} traded while its parent is {parent.status}"
        if order.order_type in STOPS and not order.modifies and not order.instructions.conditions:
            assert order.aux is not None
            assert self._been(key, order.aux, order.is_buy), f"{key} traded before its stop {order.aux} was reached"
        for c in order.instructions.conditions if not order.modifies else ():
            assert isinstance(c, PriceCondition)
            assert self._been(key, c.price, c.is_more), f"{key} traded before its condition"

    def _been(self, key: tuple[int, int], level: D, upward: bool) -> bool:
        """Return whether the last price has been at a level since the order came."""
        if key not in self.highs:
            return False
        return self.highs[key] >= level if upward else self.lows[key] <= level

    def _judge_group(self, order: Order, quantity: D) -> None:
        if not order.oca_group:
            return
        left = self.allowed[order.key]
        assert quantity <= left, f"{order.key}: {quantity}, its group leaves {left}"
        for key in self.groups[order.oca_group]:
            if key != order.key and order.oca_type == 1:
                self.allowed[key] = D(0)
            elif key in self.allowed:
                self.allowed[key] -= quantity


class Day:
    """One seed's day."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.draw = draw = random.Random(seed)
        self.folder, self.lives = folder, 0
        self.rules = ExchangeRules(
            day_expiry=True, liquidity=draw.choice(["whole", "displayed"]), accept_delay_ms=draw.choice([0, 0, 1500]),
            cancel_delay_ms=draw.choice([0, 0, 1500]), cancel_race=draw.choice(["cancel", "cancel", "partial"]),
            non_guaranteed=draw.choice(["together", "one_leg"]))
        faults = draw.choice([(), (), (DupStatus(n=2),), (CancelRace(),), (ExecCorrection(dt=2, ticks=1),),
                              (LateCommission(dt=3),)])
        self.racing = self.rules.cancel_race != "cancel" or any(isinstance(f, CancelRace) for f in faults)
        self.corrects = any(isinstance(f, ExecCorrection) for f in faults)
        self.settings: dict[str, Any] = {"rules": self.rules, "faults": faults, "walk_interval": D(10**8),
                                         "always_open": False, "seed": seed, "exec_prefix": "e"}
        self.steps = 0
        self.keeps = draw.random() < 0.3
        self.now = START_NS
        self.model, self.ledger = Model(), Ledger()
        self.halted: set[int] = set()
        self.last = {AAPL: D(100), SPY: D(168)}
        self.next_id = {1: 0, 2: 0}
        self.open()

    # the gateway -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the gateway, on a copy of its state as a kill leaves it."""
        state = None
        if self.keeps:
            state = str(self.folder / f"{self.lives}.db")
            for file in self.folder.glob(f"{self.lives - 1}.db*"):
                shutil.copy(file, self.folder / file.name.replace(f"{self.lives - 1}.db", f"{self.lives}.db", 1))
        self.lives += 1
        self.gateway = make_gateway(GatewaySettings(state=state, **self.settings), Journal(), self.now)
        self.connect()
        self.halted.clear()                     # the market is not a gateway's to remember: it begins anew
        for con_id in self.last:
            contract = self.gateway.contracts.get(con_id)
            assert contract is not None
            self.model.printed(self.gateway, con_id, contract.reference_price)
        for con_id, last in self.last.items():
            show_price(self.gateway, self.now, NAMES[con_id], last)

    def connect(self) -> None:
        self.clients = {n: RawClient(self.gateway, n, now=self.now) for n in (1, 2)}
        for n, client in self.clients.items():
            for message in client.seen:
                self.ledger.hear(n, message)
            client.seen.clear()

    def hear(self) -> None:
        for n, client in self.clients.items():
            for message in client.read():
                self.ledger.hear(n, message)
            client.seen.clear()

    # steps -----------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        self.steps += 1
        acts = {self.price: 30, self.place: 20, self.bracket: 6, self.pair: 6, self.amend: 12, self.cancel: 12,
                self.wait: 12, self.halt: 2, self.cut: 1, self.kill: int(self.keeps), self.all: 0.5}
        self.draw.choices(list(acts), list(acts.values()))[0]()
        self.gateway.advance(self.now)
        self.hear()
        self.model.look(self.gateway, self.gateway.exchange_ns(self.now), self.racing, self.halted)

    def price(self) -> None:
        con_id = self.draw.choice([AAPL, AAPL, SPY])
        last = self.last[con_id] = self.last[con_id] + D(self.draw.randint(-120, 120)) / 100
        self.model.printed(self.gateway, con_id, last)
        contract = self.gateway.contracts.get(con_id)
        assert contract is not None
        q = self.gateway.exchange.quote_of(con_id)
        q.bid_size = q.ask_size = D(self.draw.randint(1, 80))
        show_price(self.gateway, self.now, NAMES[con_id], last)

    def order(self, **more: Any) -> Order:
        draw = self.draw
        client_id = more.pop("client_id", None) or draw.choice([1, 2])
        self.next_id[client_id] += draw.choice([1, 1, 1, 3])
        con_id = draw.choice([AAPL, AAPL, SPY])
        contract = self.gateway.contracts.get(con_id)
        assert contract is not None
        buys, near = draw.random() < 0.5, self.last[con_id]
        away = D(draw.randint(-150, 250)) / 100
        kind = draw.choice(["LMT", "LMT", "LMT", "MKT", "STP", "STP LMT"])
        tif = draw.choice(["DAY", "GTC", "GTC", "GTD", *(["IOC", "FOK"] if kind in ("LMT", "MKT") else [])])
        till = datetime.fromtimestamp(self.now / NS + draw.choice([2, 60, 7200, 90_000]), UTC)
        conditions = ()
        if draw.random() < 0.1 and kind in ("LMT", "MKT"):
            more_ = draw.random() < 0.5
            conditions = (PriceCondition(is_more=more_, price=near + D(draw.randint(-100, 100)) / 100, con_id=con_id),)
        fields: dict[str, Any] = {
            "action": "BUY" if buys else "SELL", "total": D(draw.randint(1, 90)), "order_type": kind,
            "lmt": near - away if buys else near + away, "aux": near + abs(away) if buys else near - abs(away),
            "tif": tif, "good_till_date": f"{till:%Y%m%d-%H:%M:%S}" if tif == "GTD" else "",
            "outside_rth": draw.random() < 0.3, "contract": contract, "transmit": draw.random() < 0.93,
            "instructions": Instructions(conditions=conditions)}
        if draw.random() < 0.06 and not more:
            fields.update(self.combination(buys))
        fields.update(more)
        return Order(client_id=client_id, order_id=self.next_id[client_id], account=DEFAULT_ACCOUNT,
                     order_ref=f"{client_id}.{self.next_id[client_id]}", **fields)

    def combination(self, buys: bool) -> dict[str, Any]:
        legs = (Leg(con_id=SPY, ratio=1, action="BUY"), Leg(con_id=AAPL, ratio=2, action="SELL"))
        wanted = ContractQuery(symbol="AAPL", sec_type="BAG", exchange="SMART")
        combo = self.gateway.exchange.combos.resolve(wanted, legs)
        level = self.last[SPY] - 2 * self.last[AAPL] + D(self.draw.randint(-100, 100)) / 100
        routing = self.draw.choice([(), (("NonGuaranteed", "1"),)])
        return {"contract": combo.contract, "lmt": level, "order_type": "LMT", "tif": "GTC", "good_till_date": "",
                "instructions": Instructions(legs=legs, routing=routing)}

    def submit(self, order: Order) -> None:
        exchange = self.gateway.exchange
        self.model.placed(order, self.last.get(order.contract.con_id))
        self.gateway.deliver(exchange.place(order, self.gateway.exchange_ns(self.now)), self.now)

    def place(self) -> None:
        self.submit(self.order())

    def bracket(self) -> None:
        parent = self.order(transmit=False, tif="GTC", good_till_date="", instructions=Instructions())
        more = {"client_id": parent.client_id, "parent_id": parent.order_id, "contract": parent.contract,
                "action": "SELL" if parent.is_buy else "BUY", "total": parent.total, "tif": "GTC", "good_till_date": "",
                "instructions": Instructions(), "oca_group": f"b{parent.client_id}.{parent.order_id}", "oca_type": 3}
        near, one = self.last[parent.contract.con_id], 1 if parent.is_buy else -1
        self.submit(parent)
        self.submit(self.order(order_type="LMT", lmt=near + one, transmit=False, **more))
        if self.draw.random() < 0.9:
            self.submit(self.order(order_type="STP", aux=near - one, transmit=True, **more))

    def pair(self) -> None:
        group = f"g{self.draw.randint(1, 12)}"
        kind, plain = self.draw.randint(1, 3), {"tif": "GTC", "good_till_date": "", "transmit": True}
        kind = next((o.oca_type for o in self.gateway.exchange.orders.values() if o.oca_group == group), kind)
        for _ in range(self.draw.randint(1, 3)):
            self.submit(self.order(oca_group=group, oca_type=kind, **plain))

    def pick(self) -> Order | None:
        live = list(self.gateway.exchange.orders.values())
        return self.draw.choice(live) if live else None

    def amend(self) -> None:
        order = self.pick()
        if order is None:
            return
        draw = self.draw
        changed = msgspec.structs.replace(
            order, lmt=(order.lmt or D(100)) + D(draw.randint(-100, 100)) / 100, aux=order.aux, transmit=True,
            total=max(D(1), order.total + draw.randint(-30, 30)) if draw.random() < 0.5 else order.total,
            tif=draw.choice([order.tif, order.tif, "GTC", "DAY", "IOC"]) if order.order_type == "LMT" else order.tif,
            perm_id=0, status="PendingSubmit", filled=D(0), cost=D(0), modifies=0, pending="", why_held="")
        if not order.transmit:                  # nobody has it yet: what is sent now is the order
            self.model.allowed[order.key] += changed.total - order.total
        self.gateway.deliver(self.gateway.exchange.place(changed, self.gateway.exchange_ns(self.now)), self.now)

    def cancel(self) -> None:
        order = self.pick()
        if order is not None:
            client = self.clients[order.client_id]
            client.now = self.now
            for message in client.send(4, 1, order.order_id, ""):
                self.ledger.hear(order.client_id, message)

    def wait(self) -> None:
        """Let time pass as a server does: by what is due."""
        end = self.now + self.draw.choice([1, 1, 2, 5, 600, 5400, 20_000]) * NS
        while (due := self.gateway.advance(self.now)) is not None and due <= end:
            self.now = max(self.now, due)
        self.now = end

    def halt(self) -> None:
        con_id = self.draw.choice([AAPL, SPY])
        contract = self.gateway.contracts.get(con_id)
        assert contract is not None
        self.halted ^= {con_id}
        self.gateway.halt(contract, int(con_id in self.halted), self.now)

    def cut(self) -> None:
        for client in self.clients.values():
            self.gateway.disconnect(client.session, self.now)
        self.connect()

    def all(self) -> None:
        self.gateway.deliver(self.gateway.exchange.cancel_all(self.gateway.exchange_ns(self.now)), self.now)

    def kill(self) -> None:
        """Kill it without a word and start the next one: what was told is known."""
        was = self.gateway
        self.open()
        exchange = self.gateway.exchange
        for perm_id, filled in self.ledger.filled.items():
            order = exchange.known(*self.ledger.owner[perm_id])
            assert order is not None, f"{self.ledger.owner[perm_id]} was told and is lost"
            assert order.filled >= filled
            ended = self.ledger.ended.get(perm_id)
            assert ended is None or order.status == ended, f"{perm_id} was {ended} and is {order.status}"
        stored = {e.exec_id for e in exchange.executions}
        missing = self.ledger.executions.keys() - stored
        assert not missing or self.corrects, f"executions {missing} were told and are lost"
        assert was.store is not None

    def finish(self) -> None:
        """Cancel what is left: every order ends, and ends once."""
        self.all()
        self.now += 10 * NS
        self.gateway.advance(self.now)
        self.hear()
        self.model.look(self.gateway, self.gateway.exchange_ns(self.now), self.racing, self.halted)
        left = [o for o in self.gateway.exchange.orders.values() if o.perm_id]
        assert not left, f"never ended: {[(o.key, o.status) for o in left]}"


def live_through(seed: int, steps: int) -> int:
    """Play one day; raises AssertionError that names the seed. Returns how many executions there were."""
    with tempfile.TemporaryDirectory() as folder:
        day = Day(seed, Path(folder))
        try:
            while day.steps < steps:
                day.step()
            day.finish()
        except Exception as wrong:
            text = f"seed {seed}, step {day.steps} of {steps}: {type(wrong).__name__}: {wrong}"
            raise AssertionError(text) from wrong
        finally:
            day.gateway.close()
        return day.model.seen


def main() -> None:
    until = time.monotonic() + float(sys.argv[1])
    seed = first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    executions, wrong = 0, 0
    while time.monotonic() < until:
        try:
            executions += live_through(seed, 200)
        except AssertionError as error:
            wrong += 1
            sys.stdout.write(f"{error}\n")
            if wrong >= 10:
                break
        seed += 1
    sys.stdout.write(f"seeds {first} to {seed - 1}, 200 steps each: {executions} executions, {wrong} wrong\n")


if __name__ == "__main__":
    main()
