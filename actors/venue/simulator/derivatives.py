"""Keeps the quotes of options and futures in step with their underlyings.

Law: only contracts that somebody uses (that have a book) are priced; a contract whose price a scenario has set is never
priced again. Each change prints one contract at the model's value, so that stops on last prices work. At its expiry a
contract loses its bid and ask, and what still works on it is cancelled; a position stays, at the last price.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from actors.venue.simulator import options, validation
from actors.venue.simulator.book import Book
from actors.venue.simulator.contracts import DERIVED, Contract
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.options import Derived
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.validation import expires_s

if TYPE_CHECKING:
    from actors.venue.simulator.gateway import Gateway

ONE = Decimal(1)


class Followers:
    """The derived contracts in use, by the conId of what they follow."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._by_under: dict[int, list[Contract]] = {}
        self._spots: dict[int, Decimal] = {}
        self.pinned: set[int] = set()
        """Contracts with a price of their own, by conId."""

    def opened(self, book: Book) -> None:
        """Give the new book of a derived contract its first price, as of the underlying's last move."""
        contract = book.contract
        if contract.sec_type in DERIVED:
            self._gateway.exchange_agenda.at(expires_s(contract) * options.NS, partial(self._expired, contract))
        if contract.sec_type not in DERIVED or contract.con_id in self.pinned:
            return
        if contract.under_con_id not in self._gateway.contracts.by_id:
            return
        self._by_under.setdefault(contract.under_con_id, []).append(contract)
        under = self._gateway.exchange.quote_of(contract.under_con_id)
        found = self._derived(contract, options.spot(under), under.time_ns or self._gateway.opened_ns)
        if found is not None:
            _take(book.quote, found, self._last(contract, found), under.time_ns)

    def moved(self, under: Contract, now_ns: int) -> None:
        """Price everything that follows this contract again, if its price has changed."""
        followers = self._by_under.get(under.con_id)
        if not followers:
            return
        gateway = self._gateway
        price = options.spot(gateway.exchange.quote_of(under.con_id))
        if price is None or self._spots.get(under.con_id) == price:
            return
        self._spots[under.con_id] = price
        at_ns = gateway.exchange_ns(now_ns)
        for contract in followers:
            found = self._derived(contract, price, at_ns)
            quote = gateway.exchange.quote_of(contract.con_id)
            if found is None or contract.con_id in self.pinned or (found.bid, found.ask) == (quote.bid, quote.ask):
                continue
            gateway.set_quote(contract, now_ns, bid=found.bid, ask=found.ask, bid_size=options.DISPLAYED,
                              ask_size=options.DISPLAYED, match=False)
            gateway.trade(contract, Trade(self._last(contract, found), ONE, at_ns, contract.primary_exchange), now_ns)

    def _expired(self, contract: Contract, now_ns: int) -> None:
        gateway = self._gateway
        gateway.set_quote(contract, now_ns, bid=None, ask=None, match=False)
        for order in list(gateway.exchange.book(contract.con_id).orders.values()):
            reports = gateway.exchange.system_cancel(order, validation.EXPIRED, gateway.exchange_ns(now_ns))
            gateway.deliver(reports, now_ns)

    def _derived(self, contract: Contract, price: Decimal | None, at_ns: int) -> Derived | None:
        if price is None or price <= 0 or expires_s(contract) <= at_ns // options.NS:
            return None
        step = self._gateway.contracts.increment(contract, Decimal(1_000_000))
        return options.derived(contract, price, at_ns / options.NS, step)

    def _last(self, contract: Contract, found: Derived) -> Decimal:
        step = self._gateway.contracts.increment(contract, found.value)
        return max(step, round(found.value / step) * step)


def _take(quote: Quote, found: Derived, last: Decimal, time_ns: int) -> None:
    quote.bid, quote.ask, quote.last, quote.time_ns = found.bid, found.ask, last, time_ns
    quote.bid_size = quote.ask_size = options.DISPLAYED
    quote.last_size = ONE
