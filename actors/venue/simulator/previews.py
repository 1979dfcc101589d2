"""What an account has, and what an order would do to it: holdings, cushion, and the numbers of a what-if answer.

Law: it asks the exchange and changes nothing. Everything is valued at the market: last, else the middle of bid and
ask, else the side that there is, else at what it cost, else at its reference price. A what-if assumes that the order
fills completely there, whatever its own price is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.margin import OPTIONS, Holding, cushion_percent, equity_with_loan, requirement
from actors.venue.simulator.orders import ZERO, Order, Position, Preview

if TYPE_CHECKING:
    from actors.venue.simulator.rolls import Rolls


def market_price(exchange: Rolls, contract: Contract, cost: Decimal | None = None) -> Decimal:
    """Return what one unit of the contract is worth now; `cost` is what it was bought for, if it was."""
    q = exchange.quote_of(contract.con_id)
    if q.last is not None:
        return q.last
    if q.bid is not None and q.ask is not None:
        return (q.bid + q.ask) / 2
    return next(p for p in (q.bid, q.ask, cost or None, contract.reference_price) if p is not None)


def position_price(exchange: Rolls, p: Position) -> Decimal:
    """Return what one unit of what is held is worth now."""
    return market_price(exchange, p.contract, p.avg_cost / p.contract.unit)


def holdings(exchange: Rolls, account: str) -> dict[int, Holding]:
    """Return what the account holds, by conId."""
    return {p.contract.con_id: _holding(exchange, p.contract, p.quantity, position_price(exchange, p))
            for p in exchange.accounts.positions.values() if p.account == account and p.quantity}


def cash(exchange: Rolls, account: str) -> Decimal:
    """Return the account's cash as if futures were paid in full, as the sums of margin.py take it."""
    carried = sum((p.quantity * p.avg_cost for p in exchange.accounts.positions.values()
                   if p.account == account and p.contract.sec_type == "FUT"), ZERO)
    return exchange.accounts.cash_of(account, lambda p: position_price(exchange, p)) - carried


def cushion(exchange: Rolls, account: str) -> Decimal:
    """Return the account's cushion in percent."""
    return cushion_percent(cash(exchange, account), holdings(exchange, account).values())


def preview(exchange: Rolls, order: Order) -> Preview:
    """Return margins and equity before and after this order."""
    before = holdings(exchange, order.account)
    money = cash(exchange, order.account)
    after, paid, commission = dict(before), money, ZERO
    for contract, signed in _trades(exchange, order):
        old = after.get(contract.con_id)
        price = old.price if old else market_price(exchange, contract)
        after[contract.con_id] = _holding(exchange, contract, signed + (old.quantity if old else ZERO), price)
        fee = exchange.accounts.commission_of(contract, abs(signed))
        commission += fee
        paid -= contract.usd(signed * price * contract.unit + fee, price)
    now, then = requirement(before.values()), requirement(after.values())
    return Preview(
        initial_before=now.initial, maintenance_before=now.maintenance,
        equity_before=equity_with_loan(money, before.values()), initial_after=then.initial,
        maintenance_after=then.maintenance, equity_after=equity_with_loan(paid, after.values()),
        commission=commission, currency=order.contract.currency)


def _trades(exchange: Rolls, order: Order) -> list[tuple[Contract, Decimal]]:
    signed = order.remaining if order.is_buy else -order.remaining
    combo = exchange.combos.by_id.get(order.contract.con_id)
    if combo is None:
        return [(order.contract, signed)]
    return [(part.contract, signed * part.signed_ratio) for part in combo.parts]


def _holding(exchange: Rolls, contract: Contract, quantity: Decimal, price: Decimal) -> Holding:
    return Holding(contract=contract, quantity=quantity, price=price,
                   underlying=_underlying_price(exchange, contract))


def _underlying_price(exchange: Rolls, contract: Contract) -> Decimal:
    """Return the price of an option's underlying: the stock or index of its symbol; its strike where there is none."""
    if contract.sec_type not in OPTIONS:
        return ZERO
    for other in exchange.contracts.by_symbol.get(contract.symbol, ()):
        if other.sec_type in ("STK", "IND"):
            return market_price(exchange, other)
    return contract.strike
