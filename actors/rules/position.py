"""What is held and what it has earned: quantity, average price, realised and unrealised P&L, from executions alone.

Law: an execution is booked once (by exec_id and revision); a correction replaces it as if the first report had never
been. Average cost: an addition re-weights, a reduction realises against the average and leaves it, a flip realises all
and starts at the fill's price. Commissions are kept apart: realised is before them.
Money is exact: shares of a cost are cut at 10^-8 of the currency, and what is cut from one part stays in the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from actors.rules.refusal import plain
from messages.base import Record
from messages.ledger import PositionChanged
from messages.orders import CommissionReported, FillCorrected, OrderFilled

ZERO = Decimal(0)
_CUT = Decimal("0.00000001")
MAX_REPLAYED = 2_000
"""Executions of one position that are kept to be replayed after a correction; older ones are folded into its base."""
MAX_WAITING = 10_000
"""Commissions that came before their executions."""


class Holding(Record, frozen=True, kw_only=True):
    """A position in one instrument. `quantity` is signed; `cost` is what the open quantity was bought for (signed)."""

    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized: Decimal = ZERO

    @property
    def avg_price(self) -> Decimal:
        """The average price of what is open, per share or contract, to 10^-8; 0 when flat."""
        return Decimal(plain((self.cost / self.quantity).quantize(_CUT, ROUND_HALF_EVEN))) if self.quantity else ZERO


def after_fill(holding: Holding, quantity: Decimal, price: Decimal, multiplier: Decimal = Decimal(1)) -> Holding:
    """Return the holding after an execution. `quantity` is signed: + buys, - sells."""
    held = holding.quantity
    if held * quantity >= 0:
        return Holding(quantity=held + quantity, cost=holding.cost + quantity * price, realized=holding.realized)
    if abs(quantity) >= abs(held):
        released, left = holding.cost, held + quantity
        closed, cost = -held, left * price
    else:
        released = (holding.cost * -quantity / held).quantize(_CUT, ROUND_HALF_EVEN)
        closed, left, cost = quantity, held + quantity, holding.cost - released
    realized = holding.realized + (-closed * price - released) * multiplier
    return Holding(quantity=left, cost=cost, realized=realized)


def unrealized(holding: Holding, mark: Decimal, multiplier: Decimal = Decimal(1)) -> Decimal:
    """Return what closing at `mark` would realise, before costs."""
    return (holding.quantity * mark - holding.cost) * multiplier


class Key(NamedTuple):
    """Positions are kept per account, contract and strategy; the venue nets over strategies."""

    account: str
    conid: int
    strategy: str


class _Execution(NamedTuple):
    revision: int
    quantity: Decimal
    price: Decimal


class _Position:
    """One position and the executions that a correction can still replay."""

    __slots__ = ("base", "commission", "executions", "holding", "instrument", "mark", "multiplier", "ts_ns")

    def __init__(self, instrument: str, multiplier: Decimal, base: Holding) -> None:
        self.instrument = instrument
        self.multiplier = multiplier
        self.base = self.holding = base
        self.executions: dict[str, _Execution] = {}
        self.commission = ZERO
        self.mark: Decimal | None = None
        self.ts_ns = 0

    def add(self, exec_id: str, execution: _Execution) -> None:
        self.executions[exec_id] = execution
        self.holding = after_fill(self.holding, execution.quantity, execution.price, self.multiplier)
        if len(self.executions) > MAX_REPLAYED:
            oldest = self.executions.pop(next(iter(self.executions)))
            self.base = after_fill(self.base, oldest.quantity, oldest.price, self.multiplier)

    def replace(self, exec_id: str, execution: _Execution) -> None:
        self.executions[exec_id] = execution
        holding = self.base
        for each in self.executions.values():
            holding = after_fill(holding, each.quantity, each.price, self.multiplier)
        self.holding = holding

    def reverse(self, prior: _Execution, execution: _Execution) -> None:
        """Correct what cannot be replayed: the money is right; its split into realised and open may not be."""
        for each in (_Execution(0, -prior.quantity, prior.price), execution):
            self.base = after_fill(self.base, each.quantity, each.price, self.multiplier)
            self.holding = after_fill(self.holding, each.quantity, each.price, self.multiplier)


class PositionBook:
    """Every position, told execution by execution."""

    def __init__(self) -> None:
        self._positions: dict[Key, _Position] = {}
        self._booked: dict[str, tuple[Key | None, int]] = {}
        self._commissions: dict[str, Decimal] = {}
        self._waiting: dict[str, Decimal] = {}
        self._by_instrument: dict[str, list[_Position]] = {}
        self._tags: dict[Key, tuple[str, ...]] = {}

    def load(self, positions: Iterable[PositionChanged], exec_ids: Iterable[str]) -> None:
        """Begin from what the ledger has; executions of `exec_ids` are in it and are not booked again."""
        for stored in positions:
            key = Key(stored.account, stored.conid, stored.strategy)
            base = Holding(
                quantity=stored.quantity, cost=stored.quantity * stored.avg_price, realized=stored.realized_pnl
            )
            position = self._open(key, stored.instrument, stored.multiplier, base)
            position.ts_ns = stored.ts_ns
            self._tags[key] = stored.risk_tags
        for exec_id in exec_ids:
            self._booked[exec_id] = (None, 0)

    def book(self, fill: OrderFilled) -> PositionChanged | None:
        """Book an execution or its correction. Return the position after it, None for one that is booked already."""
        key = Key(fill.account, fill.conid, fill.strategy)
        execution = _Execution(fill.revision, fill.side.sign * fill.last_qty, fill.last_px)
        booked = self._booked.get(fill.exec_id)
        if booked is None:
            position = self._positions.get(key) or self._open(key, fill.instrument, fill.multiplier, Holding())
            position.add(fill.exec_id, execution)
        else:
            known, revision = booked
            position = self._positions.get(known or key)  # type: ignore[assignment]
            if position is None or fill.revision <= revision:
                return None
            if fill.exec_id in position.executions:
                position.replace(fill.exec_id, execution)
            elif isinstance(fill, FillCorrected):
                prior = _Execution(0, fill.side.sign * fill.prior_qty, fill.prior_px)
                position.reverse(prior, execution)
            else:
                return None     # the venue repeats what an earlier run of the engine has booked
            key = known or key
        self._booked[fill.exec_id] = (key, fill.revision)
        position.ts_ns = max(position.ts_ns, fill.ts_ns)
        if fill.exec_id in self._waiting:
            self._charge(fill.exec_id, position, self._waiting.pop(fill.exec_id))
        return self._changed(key, position, fill)

    def charge(self, report: CommissionReported) -> None:
        """Keep what an execution cost; a later report of the same execution replaces it. It may come first."""
        key = self._booked.get(report.exec_id, (None, 0))[0]
        if key is not None:
            self._charge(report.exec_id, self._positions[key], report.commission)
        elif report.exec_id not in self._booked and len(self._waiting) < MAX_WAITING:
            self._waiting[report.exec_id] = report.commission

    def tag(self, key: Key, tags: tuple[str, ...]) -> None:
        """Note what a strategy says of a position; a flat one begins anew, an open one gathers all that was said."""
        if self.holding(key).quantity:
            tags = tuple(dict.fromkeys((*self._tags.get(key, ()), *tags)))
        self._tags[key] = tags

    def mark(self, marks: Iterable[tuple[str, Decimal]]) -> None:
        """Take the last known prices; an instrument without a new one keeps its last."""
        for instrument, price in marks:
            for position in self._by_instrument.get(instrument, ()):
                position.mark = price

    def has(self, exec_id: str) -> bool:
        """Whether an execution is booked, in this run of the engine or in one that it might be told again from."""
        return exec_id in self._booked

    def quantity(self, account: str, conid: int) -> Decimal:
        """Return the netted quantity over all strategies: what the venue calls the position."""
        return sum(
            (position.holding.quantity for key, position in self._positions.items()
             if key.account == account and key.conid == conid), ZERO)

    def holds(self, instrument: str) -> bool:
        """Whether some account and strategy holds anything of it."""
        return any(position.holding.quantity for position in self._by_instrument.get(instrument, ()))

    def holding(self, key: Key) -> Holding:
        """Return a position; a flat one where there never was any."""
        position = self._positions.get(key)
        return position.holding if position is not None else Holding()

    def facts(self) -> list[dict[str, object]]:
        """Return every position as plain data; `unrealized_pnl` is null while no price is known."""
        return [
            {
                "account": key.account,
                "conid": key.conid,
                "strategy": key.strategy,
                "instrument": position.instrument,
                "quantity": str(position.holding.quantity),
                "avg_price": f"{position.holding.avg_price:f}",
                "realized_pnl": f"{position.holding.realized:f}",
                "commission": str(position.commission),
                "mark": None if position.mark is None else str(position.mark),
                "unrealized_pnl": None if position.mark is None
                else f"{unrealized(position.holding, position.mark, position.multiplier):f}",
                "risk_tags": list(self._tags.get(key, ())),
                "ts_ns": position.ts_ns,
            }
            for key, position in sorted(self._positions.items())
        ]

    def _open(self, key: Key, instrument: str, multiplier: Decimal, base: Holding) -> _Position:
        position = self._positions[key] = _Position(instrument, multiplier, base)
        self._by_instrument.setdefault(instrument, []).append(position)
        return position

    def _charge(self, exec_id: str, position: _Position, commission: Decimal) -> None:
        position.commission += commission - self._commissions.get(exec_id, ZERO)
        self._commissions[exec_id] = commission

    def _changed(self, key: Key, position: _Position, fill: OrderFilled) -> PositionChanged:
        return PositionChanged(
            account=key.account, conid=key.conid, instrument=position.instrument, strategy=key.strategy,
            exec_id=fill.exec_id, quantity=position.holding.quantity, avg_price=position.holding.avg_price,
            realized_pnl=position.holding.realized, multiplier=position.multiplier, risk_tags=self._tags.get(key, ()),
            ts_ns=fill.ts_ns,
        )
