"""What a story, a controller or a test may do to the market, the orders and the connections.

Law: everything goes through the gateway and the exchange; an act that finds nothing to act on changes nothing, and
says so.
"""

from __future__ import annotations

from decimal import Decimal
from fnmatch import fnmatchcase

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.orders import Order
from actors.venue.simulator.rolls import Refusal
from actors.venue.simulator.scenario import CancelIt, Fill, Halt, Price, Reject


class NoOrder(LookupError):
    """No live order fits; `pattern` is what was asked for."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"no live order fits {pattern!r}")
        self.pattern = pattern


def contract_named(gateway: Gateway, symbol: str) -> Contract:
    """Return the contract of a symbol. Raises LookupError."""
    contract = gateway.contracts.named(symbol)
    if contract is None:
        raise LookupError(f"symbol {symbol!r} is not known")
    return contract


def live(gateway: Gateway, pattern: str) -> Order:
    """Return the first live order whose orderRef fits the glob. Raises NoOrder."""
    for order in gateway.exchange.open_orders():
        if fnmatchcase(order.order_ref, pattern):
            return order
    raise NoOrder(pattern)


def show(gateway: Gateway, p: Price, now_ns: int) -> None:
    """Show a price: first the quote, then the trade, and match after both, as one event."""
    contract = contract_named(gateway, p.symbol)
    gateway.followers.pinned.add(contract.con_id)
    q = gateway.exchange.quote_of(contract.con_id)
    bid, ask = p.bid, p.ask
    if p.last is not None:
        bid = bid if bid is not None else p.last - contract.half_spread
        ask = ask if ask is not None else p.last + contract.half_spread
    bid = bid if bid is not None else q.bid
    ask = ask if ask is not None else q.ask
    gateway.set_quote(contract, now_ns, bid=bid, ask=ask, bid_size=p.bid_size, ask_size=p.ask_size,
                      match=p.last is None)
    if p.last is not None:
        gateway.trade(contract, Trade(p.last, p.size, gateway.exchange_ns(now_ns)), now_ns)
    gateway.log(now_ns, "sim", -1, "quote", {
        "symbol": p.symbol, "bid": bid, "ask": ask, **({"last": p.last} if p.last is not None else {})})


def halt(gateway: Gateway, h: Halt, now_ns: int) -> None:
    gateway.halt(contract_named(gateway, h.symbol), h.halted, now_ns)


def fill(gateway: Gateway, f: Fill, now_ns: int) -> None:
    """Trade one live order. Raises NoOrder."""
    order = live(gateway, f.order_ref)
    terms = _terms(gateway, f, order)
    gateway.deliver(gateway.exchange.fill(order, *terms, gateway.exchange_ns(now_ns)), now_ns)


def fill_both(gateway: Gateway, fills: list[Fill], now_ns: int) -> list[NoOrder]:
    """Trade several orders at the same instant, as a race does; return what found no order."""
    found, missing = [], []
    for f in fills:
        try:
            order = live(gateway, f.order_ref)
            found.append((order, *_terms(gateway, f, order)))
        except NoOrder as nobody:
            missing.append(nobody)
    gateway.deliver(gateway.exchange.fill_all(found, gateway.exchange_ns(now_ns)), now_ns)
    return missing


def reject(gateway: Gateway, r: Reject, now_ns: int) -> None:
    """Reject a live order after it was accepted. Raises NoOrder."""
    order = live(gateway, r.order_ref)
    gateway.deliver(gateway.exchange.reject(order, r.code, r.reason, gateway.exchange_ns(now_ns)), now_ns)


def refuse_next(gateway: Gateway, r: Reject) -> None:
    """Prepare a refusal for orders still to come."""
    gateway.exchange.refusals.append(Refusal(order_ref=r.order_ref, code=r.code, reason=r.reason, count=r.count))


def cancel(gateway: Gateway, c: CancelIt, now_ns: int) -> None:
    """Cancel a live order as the venue does unasked. Raises NoOrder."""
    order = live(gateway, c.order_ref)
    gateway.deliver(gateway.exchange.system_cancel(order, c.reason, gateway.exchange_ns(now_ns)), now_ns)


def disconnect(gateway: Gateway, client_id: int | None) -> int:
    """Close the connection of one client, or of all; return of how many."""
    found = [s for client, s in gateway.by_client.items() if client_id in (None, client)]
    for session in found:
        session.closing = True
    return len(found)


def _terms(gateway: Gateway, f: Fill, order: Order) -> tuple[Decimal, Decimal]:
    quote = gateway.exchange.quote_of(order.contract.con_id)
    price = f.price or order.lmt or order.aux or quote.last or order.contract.reference_price
    return f.quantity or order.remaining, price
