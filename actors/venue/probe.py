"""Asks a gateway how it answers where IB's documents leave a question open: one-share orders, far from the market.

Law 1: paper only. Nothing is sent before every account of the login was seen to be a paper account.
Law 2: nothing waits without a limit, and whatever was placed is cancelled at the end, also after a failure.
Law 3: an answer is only what was seen; what was not seen is `unclear`, with what came instead.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

import msgspec

from actors.venue import port
from messages.intent import OrderType, Side
from messages.market import SCALE, Feed, QuoteTick, TradeTick
from messages.orders import Contract

LIVE_PORTS = frozenset({4001, 7496})
PAPER = ("DU", "DF")
CLIENT_ID = 996
HANDSHAKE_S, ANSWER_S, SETTLE_S = 10.0, 4.0, 1.5
"""How long a handshake or a fill, an answer, and what may follow an answer are waited for."""
FINAL = frozenset({"Filled", "Cancelled", "ApiCancelled", "Inactive"})
LIVE = frozenset({"PreSubmitted", "Submitted"})
PENNY = Decimal("0.01")
WARNINGS = frozenset({399, 404, 2109, 2174, 10167, 10349})


class ProbeError(Exception):
    """The questions cannot be asked here: one sentence."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One open question, its two answers, and the rule of the simulator that gives either."""

    name: str
    question: str
    harder: str
    easier: str
    switch: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway did. `seen` is the evidence."""

    name: str
    answer: Literal["harder", "easier", "unclear", "not asked"]
    seen: str


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All answers of one gateway. `left` names what could not be cleaned up."""

    server_version: int
    account: str
    answers: tuple[Answer, ...]
    left: tuple[str, ...]


QUESTIONS = (
    Question(name="amend_member", question="Can a live member of an OCA group be amended?",
             harder="no: 10326, and it stays as it is", easier="yes", switch="oca_amend"),
    Question(name="late_join", question="Does a new order join a group that already works?",
             harder="no: it is refused", easier="yes", switch="oca_late_join"),
    Question(name="cancel_cascade", question="Does a requested cancel of one member cancel its group?",
             harder="yes, all of it", easier="no, that order alone", switch="oca_cancel_cascade"),
    Question(name="filled_group", question="Is a new order for a group that has filled refused?",
             harder="yes: 201", easier="no: it works", switch="oca_refuse_filled_group"),
    Question(name="option_sides", question="Can orders work on both sides of one option contract?",
             harder="no: the second side is refused with 201", easier="yes", switch="option_both_sides"),
    Question(name="lower_ids", question="Is an order id taken that is below the last one but was never used?",
             harder="no: 103", easier="yes", switch="lower_ids"),
    Question(name="stop_hours", question="Does a stop order keep outsideRth?",
             harder="no: it is ignored (2109), the stop keeps to regular hours", easier="yes",
             switch="stop_outside_rth"),
)


class _Sent:
    """What has been heard of one order of ours."""

    def __init__(self, contract: Contract, side: Side) -> None:
        self.contract = contract
        self.side = side
        self.status = ""
        self.fills: dict[str, Decimal] = {}
        self.echo: port.OrderSeen | None = None
        self.errors: list[port.ErrorTold] = []

    @property
    def filled(self) -> Decimal:
        return sum(self.fills.values(), Decimal(0))

    @property
    def refused(self) -> port.ErrorTold | None:
        return next((e for e in self.errors if e.code not in WARNINGS and e.code != 202), None)

    def has(self, code: int) -> bool:
        return any(e.code == code for e in self.errors)

    def __str__(self) -> str:
        told = "; ".join(f"{e.code} {e.text[:120]}" for e in self.errors)
        return ", ".join(part for part in (self.status or "no status", told) if part)


class Probe:
    """One conversation with one gateway. `price`: what the instrument costs, where the gateway gives no quotes."""

    def __init__(self, venue: port.Venue, instrument: str = "SPY", price: Decimal | None = None,
                 trade: bool = False) -> None:
        self._venue = venue
        self._instrument = instrument
        self._price = price
        self._trade = trade
        self._account = ""
        self._version = 0
        self._down = ""
        self._sent: dict[int, _Sent] = {}
        self._contracts: dict[int, list[port.ContractTold]] = {}
        self._asked: set[int] = set()
        self._last: Decimal | None = None
        self._accounts: tuple[str, ...] = ()
        self._ended = 0
        self._mark = f"probe-{time.time_ns() // 1_000_000_000}"

    def run(self, host: str, gateway_port: int) -> Findings:
        """Ask everything and clean up. Raises ProbeError where the questions cannot or must not be asked."""
        if gateway_port in LIVE_PORTS:
            raise ProbeError(f"port {gateway_port} is the one of live trading; the probe asks paper gateways only")
        self._venue.connect(host, gateway_port, CLIENT_ID)
        try:
            self._handshake(host, gateway_port)
            answers, left = self._ask_and_clean()
        finally:
            self._venue.disconnect()
        return Findings(server_version=self._version, account=self._account, answers=answers, left=left)

    def _handshake(self, host: str, gateway_port: int) -> None:
        if not self._until(lambda: bool(self._accounts) or bool(self._down), HANDSHAKE_S) or self._down:
            raise ProbeError(f"{host}:{gateway_port}: {self._down or 'no handshake'}")
        strange = [name for name in self._accounts if not name.startswith(PAPER)]
        if strange:
            raise ProbeError(f"account {', '.join(strange)} is not a paper account (DU..., DF...); nothing was sent")
        self._account = self._accounts[0]

    def _ask_and_clean(self) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
        answers: list[Answer] = []
        try:
            contract = self._find(self._instrument)
            if contract is None:
                raise ProbeError(f"{self._instrument}: the gateway knows no such stock")
            price = self._price_of(contract.contract)
            for ask in (self._ask_group, self._ask_filled_group, self._ask_option, self._ask_lower_id,
                        self._ask_stop_hours):
                answers += ask(contract.contract, price)
                self._clean()
        finally:
            left = self._clean()
        order = [question.name for question in QUESTIONS]
        return tuple(sorted(answers, key=lambda a: order.index(a.name))), left

    # the questions -------------------------------------------------------------------------------------------------

    def _ask_group(self, contract: Contract, price: Decimal) -> list[Answer]:
        """Amend, join and cancel one group of orders far below the market."""
        group = f"{self._mark}.g1"
        first = self._place(contract, Side.BUY, _far(price, "0.5"), group=group)
        second = self._place(contract, Side.BUY, _far(price, "0.45"), group=group)
        if not self._until(lambda: self._live(first) and self._live(second), ANSWER_S):
            seen = f"the group never worked: {self._sent[first]} | {self._sent[second]}"
            return [Answer(name=name, answer="unclear", seen=seen)
                    for name in ("amend_member", "late_join", "cancel_cascade")]
        return [self._amend(first, contract, _far(price, "0.55"), group), self._join(contract, price, group),
                self._cascade(first, second)]

    def _amend(self, order: int, contract: Contract, limit: Decimal, group: str) -> Answer:
        sent = self._sent[order]
        self._venue.amend(order, self._ticket(contract, Side.BUY, limit, group=group))
        self._until(lambda: sent.refused is not None or _limit(sent) == limit, ANSWER_S)
        self._refresh()
        seen = f"limit {_limit(sent)} after asking for {limit}: {sent}"
        if _limit(sent) == limit:
            return Answer(name="amend_member", answer="easier", seen=seen)
        return Answer(name="amend_member", answer="harder" if sent.refused else "unclear", seen=seen)

    def _join(self, contract: Contract, price: Decimal, group: str) -> Answer:
        self._wait(SETTLE_S)
        third = self._place(contract, Side.BUY, _far(price, "0.4"), group=group)
        return self._verdict("late_join", third, accepted="easier", refused="harder")

    def _cascade(self, first: int, second: int) -> Answer:
        self._venue.cancel(first)
        if not self._until(lambda: self._sent[first].status in FINAL, ANSWER_S):
            return Answer(name="cancel_cascade", answer="unclear", seen=f"not cancelled: {self._sent[first]}")
        fell = self._until(lambda: self._sent[second].status in FINAL, SETTLE_S)
        self._refresh()
        fell = fell or self._sent[second].status in FINAL
        return Answer(name="cancel_cascade", answer="harder" if fell else "easier",
                      seen=f"its sibling is {self._sent[second]}")

    def _ask_filled_group(self, contract: Contract, price: Decimal) -> list[Answer]:
        """Buy one share in a group, then offer that group another order; the share is sold again."""
        if not self._trade:
            return [Answer(name="filled_group", answer="not asked", seen="it takes a fill: allow one with --trade")]
        group = f"{self._mark}.g2"
        bought = self._place(contract, Side.BUY, None, group=group)
        if not self._until(lambda: self._sent[bought].filled > 0, HANDSHAKE_S):
            return [Answer(name="filled_group", answer="unclear", seen=f"not filled: {self._sent[bought]}")]
        late = self._place(contract, Side.BUY, _far(price, "0.5"), group=group)
        return [self._verdict("filled_group", late, accepted="easier", refused="harder", code=201)]

    def _ask_option(self, contract: Contract, price: Decimal) -> list[Answer]:
        option = next((found for name in option_names(contract.symbol, price, date.today())
                       if (found := self._find(name)) is not None), None)
        if option is None:
            return [Answer(name="option_sides", answer="not asked", seen="no option contract was found")]
        buy = self._place(option.contract, Side.BUY, max(option.min_tick, PENNY))
        if not self._until(lambda: self._live(buy), ANSWER_S):
            return [Answer(name="option_sides", answer="unclear", seen=f"the first side: {self._sent[buy]}")]
        sell = self._place(option.contract, Side.SELL, _far(price, "2"))
        return [self._verdict("option_sides", sell, accepted="easier", refused="harder", words="both sides")]

    def _ask_lower_id(self, contract: Contract, price: Decimal) -> list[Answer]:
        low = self._venue.next_id + 5
        self._venue.raise_id(low + 5)
        high = self._place(contract, Side.BUY, _far(price, "0.5"))
        if not self._until(lambda: self._live(high), ANSWER_S):
            return [Answer(name="lower_ids", answer="unclear", seen=f"the higher id: {self._sent[high]}")]
        self._sent[low] = _Sent(contract, Side.BUY)
        self._venue.amend(low, self._ticket(contract, Side.BUY, _far(price, "0.45")))
        return [self._verdict("lower_ids", low, accepted="easier", refused="harder", code=103)]

    def _ask_stop_hours(self, contract: Contract, price: Decimal) -> list[Answer]:
        stop = self._place(contract, Side.BUY, None, stop=_far(price, "2"))
        sent = self._sent[stop]
        self._until(lambda: self._live(stop) or sent.refused is not None, ANSWER_S)
        self._until(lambda: sent.has(2109), SETTLE_S)
        if not self._live(stop) or sent.echo is None:
            return [Answer(name="stop_hours", answer="unclear", seen=str(sent))]
        ignored = sent.has(2109) or not sent.echo.outside_rth
        return [Answer(name="stop_hours", answer="harder" if ignored else "easier",
                       seen=f"outsideRth is echoed as {sent.echo.outside_rth}: {sent}")]

    def _verdict(self, name: str, order: int, *, accepted: Literal["harder", "easier"],
                 refused: Literal["harder", "easier"], code: int = 0, words: str = "") -> Answer:
        """Wait until an order is live or refused, and say which. A refusal for another reason answers nothing."""
        sent = self._sent[order]
        self._until(lambda: sent.refused is not None or self._live(order), ANSWER_S)
        error = sent.refused
        if error is not None:
            fits = (not code or error.code == code) and words in error.text.lower()
            return Answer(name=name, answer=refused if fits else "unclear", seen=str(sent))
        return Answer(name=name, answer=accepted if self._live(order) else "unclear", seen=str(sent))

    # orders --------------------------------------------------------------------------------------------------------

    def _ticket(self, contract: Contract, side: Side, limit: Decimal | None, *, stop: Decimal | None = None,
                group: str | None = None) -> port.OrderTicket:
        kind = OrderType.STP if stop else OrderType.LMT if limit else OrderType.MKT
        return port.OrderTicket(
            order_ref=self._mark, account=self._account, contract=contract, side=side, order_type=kind,
            quantity=Decimal(1), limit_price=limit, stop_price=stop, outside_rth=stop is not None, oca_group=group)

    def _place(self, contract: Contract, side: Side, limit: Decimal | None, *, stop: Decimal | None = None,
               group: str | None = None) -> int:
        order = self._venue.place(self._ticket(contract, side, limit, stop=stop, group=group))
        self._sent[order] = _Sent(contract, side)
        return order

    def _live(self, order: int) -> bool:
        return self._sent[order].status in LIVE

    def _clean(self) -> tuple[str, ...]:
        """Cancel what still works, sell what was bought, and name what is left."""
        if not self._venue.connected:
            return tuple(f"order {n}: {s}" for n, s in self._sent.items() if s.status and s.status not in FINAL)
        for order, sent in self._sent.items():
            if sent.status and sent.status not in FINAL:
                self._venue.cancel(order)
        self._until(lambda: all(not s.status or s.status in FINAL for s in self._sent.values()), HANDSHAKE_S)
        self._refresh()
        left = [f"order {n}: {s}" for n, s in self._sent.items() if s.status and s.status not in FINAL]
        for order in list(self._sent):
            if self._sent[order].fills:
                left += self._give_back(self._sent[order])
        return tuple(left)

    def _give_back(self, traded: _Sent) -> list[str]:
        """Close at the market what one order has traded, and forget both; name what could not be closed."""
        held, back = traded.filled, traded.side.exit_side.venue_side
        traded.fills = {}
        order = self._venue.place(msgspec.structs.replace(self._ticket(traded.contract, back, None), quantity=held))
        closing = self._sent[order] = _Sent(traded.contract, back)
        closed = self._until(lambda: closing.filled >= held, HANDSHAKE_S)
        said, closing.fills = str(closing), {}
        return [] if closed else [f"{held} {traded.contract.symbol} traded and not given back: {said}"]

    # hearing -------------------------------------------------------------------------------------------------------

    def _find(self, instrument: str) -> port.ContractTold | None:
        request = self._venue.ask_contract(instrument)
        self._contracts[request] = []
        self._until(lambda: request in self._asked, ANSWER_S)
        found = self._contracts.pop(request)
        return found[0] if len(found) == 1 else None

    def _price_of(self, contract: Contract) -> Decimal:
        if self._price is not None:
            return self._price
        self._venue.subscribe(contract, Feed.SNAPSHOT)
        self._until(lambda: self._last is not None, HANDSHAKE_S)
        self._venue.unsubscribe(contract, Feed.SNAPSHOT)
        if self._last is None:
            raise ProbeError(f"the gateway tells no price of {contract.symbol}; give one with --price")
        return self._last

    def _refresh(self) -> None:
        """Have every live order told once more."""
        before = self._ended
        self._venue.ask_open_orders()
        self._until(lambda: self._ended > before, ANSWER_S)

    def _wait(self, seconds: float) -> None:
        self._until(lambda: False, seconds)

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Listen until the condition holds; return whether it does."""
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0 or (self._down and self._accounts):
                return condition()
            select.select(self._venue.fds(), [], [], min(left, 0.05))
            for event in self._venue.pump(time.time_ns()):
                self._hear(event)
        return True

    def _hear(self, event: port.VenueEvent) -> None:
        if isinstance(event, port.LinkUp):
            self._accounts, self._version = event.accounts, event.version
        elif isinstance(event, port.LinkDown):
            self._down = f"client id {CLIENT_ID} is in use" if event.code == 326 else event.reason
        elif isinstance(event, port.ErrorTold):
            if event.request_id in self._sent:
                self._sent[event.request_id].errors.append(event)
            elif event.request_id in self._contracts:
                self._asked.add(event.request_id)
        elif isinstance(event, port.OrderSeen | port.StatusSeen) and event.client_id == CLIENT_ID:
            self._hear_order(event)
        elif isinstance(event, port.ExecutionSeen) and event.client_id == CLIENT_ID:
            if event.venue_order_id in self._sent:
                self._sent[event.venue_order_id].fills[event.exec_id] = event.quantity
        elif isinstance(event, port.ContractTold) and event.request_id in self._contracts:
            self._contracts[event.request_id].append(event)
        elif isinstance(event, port.ContractsEnded):
            self._asked.add(event.request_id)
        elif isinstance(event, port.SnapshotEnded):
            self._ended += event.kind == "open_orders"
        elif isinstance(event, port.TicksTold):
            self._hear_prices(event)

    def _hear_order(self, event: port.OrderSeen | port.StatusSeen) -> None:
        sent = self._sent.get(event.venue_order_id)
        if sent is None:
            return
        if isinstance(event, port.OrderSeen):
            sent.echo = event
        if sent.status not in FINAL and event.status != "PendingSubmit":
            sent.status = event.status

    def _hear_prices(self, event: port.TicksTold) -> None:
        for tick in event.ticks:
            if isinstance(tick, TradeTick) and tick.price > 0:
                self._last = Decimal(tick.price) / SCALE
            elif isinstance(tick, QuoteTick) and tick.ask > 0 and self._last is None:
                self._last = Decimal(tick.ask) / SCALE


def _far(price: Decimal, factor: str) -> Decimal:
    """Return a price that far away, in whole dollars: on the grid of every US stock and option."""
    return max(Decimal(1), (price * Decimal(factor)).to_integral_value())


def _limit(sent: _Sent) -> Decimal | None:
    return sent.echo.limit_price if sent.echo is not None else None


def option_names(symbol: str, price: Decimal, today: date) -> list[str]:
    """Return the OCC names of calls that probably exist: near the money, the monthly expiries after next week."""
    names = []
    for months in (1, 2):
        first = (today.replace(day=1) + timedelta(days=31 * months)).replace(day=1)
        expiry = first + timedelta(days=(4 - first.weekday()) % 7 + 14)        # the third Friday
        for step in (5, 10):
            strike = int((price / step).to_integral_value()) * step
            names.append(f"{symbol:<6}{expiry:%y%m%d}C{strike * 1000:08d}")
    return list(dict.fromkeys(names))
