"""Positions, cash and commissions of the accounts at the simulated venue.

Law: only a fill, or its correction, changes anything here, except the opening positions that a scenario gives. Average
costs are per contract: of an option, with its multiplier and its commissions, as IB shows them.

What trades of USD.JPY have paid stays yen: it is the position's `flow`, worth what yen are worth, and in no `cash`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.margin import OPTIONS
from actors.venue.simulator.orders import ZERO, ExchangeRules, Execution, Order, Position


class Accounts:
    """Who holds what, at what cost. IB nets: selling more than is held opens a short."""

    def __init__(self, rules: ExchangeRules, opening_cash: Decimal = ZERO) -> None:
        self._rules = rules
        self.opening_cash = opening_cash
        self.positions: dict[tuple[str, int], Position] = {}
        self.cash: dict[str, Decimal] = {}      # change of USD since the start, per account
        self.day = ""
        self.touched: dict[tuple[str, int], None] = {}
        """The positions that changed since somebody last looked (persistence.py)."""

    def commission_due(self, order: Order) -> Decimal:
        """Return what one more fill costs: the minimum counts once per order."""
        return self.commission_of(order.contract, order.filled) - order.commission

    def commission_of(self, contract: Contract, quantity: Decimal) -> Decimal:
        """Return what an order that has traded this much costs in all."""
        rules = self._rules
        rate = rules.commission_per_contract if contract.sec_type in OPTIONS else rules.commission_per_share
        return max(rules.commission_minimum, rate * quantity)

    def book(self, order: Order, quantity: Decimal, price: Decimal,
             commission: Decimal) -> tuple[Position, Decimal | None]:
        """Book a fill of an order; see `trade`."""
        signed = quantity if order.is_buy else -quantity
        return self.trade(order.account, order.contract, signed, price, commission)

    def trade(self, account: str, contract: Contract, signed: Decimal, price: Decimal,
              commission: Decimal) -> tuple[Position, Decimal | None]:
        """Book a signed quantity; return the position with the P&L that this realised (None if it only opened)."""
        key = (account, contract.con_id)
        position = self.positions.get(key)
        if position is None:
            position = self.positions[key] = Position(account=account, contract=contract, day=self.day)
        quantity, each = abs(signed), price * contract.unit
        held, carried = position.quantity, position.quantity * position.avg_cost
        closing = min(abs(held), quantity) if held * signed < 0 else ZERO
        opening = quantity - closing
        realized: Decimal | None = None
        if closing:
            gain = (each - position.avg_cost) * closing * (1 if held > 0 else -1)
            realized = gain - commission * closing / quantity
            position.realized += realized
        position.quantity = held + signed
        if opening:
            opened_before = ZERO if closing else abs(held)
            fee = commission * opening / quantity if self._rules.cost_includes_commission else ZERO
            paid = position.avg_cost * opened_before + each * opening + (fee if signed > 0 else -fee)
            position.avg_cost = paid / (opened_before + opening)
        elif position.quantity == 0:
            position.avg_cost = ZERO
        flow = -signed * each - commission
        position.flow += flow
        if contract.sec_type == "FUT":
            # Nobody pays for a future: what it cost stays in the account until it is closed.
            flow += position.quantity * position.avg_cost - carried
        if not contract.foreign:
            self.cash[account] = self.cash.get(account, ZERO) + flow
        self.touched[key] = None
        return position, realized

    def cash_of(self, account: str, price_of: Callable[[Position], Decimal]) -> Decimal:
        """Return the account's cash in USD, that of other currencies at present prices."""
        held = (p for (name, _), p in self.positions.items() if name == account and p.contract.foreign)
        foreign = sum((p.contract.usd(p.flow, price_of(p)) for p in held), ZERO)
        return self.opening_cash + self.cash.get(account, ZERO) + foreign

    def correct(self, execution: Execution, change: Decimal) -> None:
        """Book that an execution cost `change` more than was booked: in cash, and in cost or realised P&L."""
        contract = execution.contract
        flow = (-change if execution.side == "BOT" else change) * contract.unit
        position = self.positions.get((execution.account, contract.con_id))
        opened = execution.realized is None
        if position is not None:
            self.touched[execution.account, contract.con_id] = None
            position.flow += flow
            if not opened:
                position.realized += flow
            elif position.quantity:
                position.avg_cost -= flow / position.quantity
        if not contract.foreign and (contract.sec_type != "FUT" or not opened):
            self.cash[execution.account] = self.cash.get(execution.account, ZERO) + flow

    def new_day(self, day: str, price_of: Callable[[Position], Decimal]) -> None:
        """Begin a day (yyyymmdd): from here on count its P&L anew, of positions that a state file brought back too."""
        self.day = day
        for key, p in self.positions.items():
            if p.day != day:
                self.touched[key] = None
                p.day, p.day_value, p.day_flow, p.day_realized = day, p.value(price_of(p)), p.flow, p.realized
