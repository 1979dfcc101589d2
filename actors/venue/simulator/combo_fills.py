"""What a fill of a combination is made of: one execution of the BAG and one of each leg (ib-wire.md 5.3).

Law: the legs' executions pay exactly what the BAG's says; positions and commissions are the legs', the BAG has none.

The BAG's execution has an id like any other, `a.b.c.01`; its legs have a fifth part, `a.b.c.02.01`, `a.b.c.03.01` and
so on, so that no leg looks like a correction of another or of the BAG.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from actors.venue.simulator.combos import Combo, Part, leg_prices, leg_touch
from actors.venue.simulator.orders import UNSET_ID, ZERO, Execution, LegTally, Order, Position

if TYPE_CHECKING:
    from actors.venue.simulator.exchange import Exchange

Fills = list[tuple[Execution, Position | None]]


def book(exchange: Exchange, combo: Combo, order: Order, quantity: Decimal, price: Decimal, now_ns: int,
         resting: bool) -> Fills:
    """Book all legs of a fill and return the executions, the BAG's first. `order` has counted the fill already."""
    prices = leg_prices(combo, exchange.quote_of, order.is_buy, price)
    return _book(exchange, combo, order, quantity, price, prices, 0, now_ns, resting)


def begin_legging(exchange: Exchange, combo: Combo, order: Order, quantity: Decimal, now_ns: int) -> None:
    """Trade the first leg alone (`non_guaranteed = "one_leg"`); the BAG has not traded yet."""
    _open_tallies(order, combo)
    part = combo.parts[0]
    price = leg_touch(part, exchange.quote_of(part.contract.con_id), order.is_buy)
    fill = _leg(exchange, combo, order, 0, quantity, price, next(exchange.exec_ids), now_ns, 2)
    order.legging = quantity
    exchange.book(order.contract.con_id).dirty()
    exchange.tell_fill(order, [fill], now_ns)
    exchange.hear_fills(now_ns)


def finish_legging(exchange: Exchange, combo: Combo, order: Order, now_ns: int) -> None:
    """Trade the other legs at whatever they cost now; with them the BAG has traded."""
    quantity, order.legging = order.legging, ZERO
    before, first = order.remaining, order.tallies[0]
    prices = [leg_touch(p, exchange.quote_of(p.contract.con_id), order.is_buy) for p in combo.parts]
    prices[0] = first.cost / first.filled
    price = sum((p.weight * each for p, each in zip(combo.parts, prices, strict=True)), ZERO)
    order.count_fill(quantity, price)
    exchange.tell_fill(order, _book(exchange, combo, order, quantity, price, prices, 1, now_ns, False), now_ns)
    exchange.after_fill(order, quantity, before, now_ns)


def _book(exchange: Exchange, combo: Combo, order: Order, quantity: Decimal, price: Decimal, prices: list[Decimal],
          from_leg: int, now_ns: int, resting: bool) -> Fills:
    _open_tallies(order, combo)
    exec_id, liquidity = next(exchange.exec_ids), 1 if resting else 2
    whole = Execution(
        exec_id=exec_id, client_id=order.client_id, order_id=order.order_id if order.bound else UNSET_ID,
        perm_id=order.perm_id, order_ref=order.order_ref, account=order.account, contract=order.contract,
        side="BOT" if order.is_buy else "SLD", quantity=quantity, price=price, cum_quantity=order.filled,
        avg_price=order.avg_price, time_ns=now_ns, commission=ZERO, realized=None, liquidity=liquidity)
    legs = range(from_leg, len(combo.parts))
    return [(whole, None), *(_leg(exchange, combo, order, n, quantity, prices[n], exec_id, now_ns, liquidity)
                             for n in legs)]


def _open_tallies(order: Order, combo: Combo) -> None:
    if not order.tallies:
        order.tallies = tuple(LegTally() for _ in combo.parts)


def _leg(exchange: Exchange, combo: Combo, order: Order, n: int, quantity: Decimal, price: Decimal, exec_id: str,
         now_ns: int, liquidity: int) -> tuple[Execution, Position]:
    part: Part = combo.parts[n]
    traded = quantity * abs(part.signed_ratio)
    buys = (part.signed_ratio > 0) == order.is_buy
    old = order.tallies[n]
    filled = old.filled + traded
    commission = exchange.accounts.commission_of(part.contract, filled) - old.commission
    tally = LegTally(filled=filled, cost=old.cost + traded * price, commission=old.commission + commission)
    order.tallies = (*order.tallies[:n], tally, *order.tallies[n + 1:])
    order.commission += commission
    position, realized = exchange.accounts.trade(
        order.account, part.contract, traded if buys else -traded, price, commission)
    execution = Execution(
        exec_id=f"{exec_id.rsplit('.', 1)[0]}.{n + 2:02d}.01", client_id=order.client_id, order_id=order.order_id,
        perm_id=order.perm_id, order_ref=order.order_ref, account=order.account, contract=part.contract,
        side="BOT" if buys else "SLD", quantity=traded, price=price, cum_quantity=tally.filled,
        avg_price=tally.cost / tally.filled, time_ns=now_ns, commission=commission, realized=realized,
        liquidity=liquidity)
    return execution, position
