"""Combinations (secType BAG): which legs they have, and the market that their legs make (ib-wire.md 6.3).

Law: a combination is known by its legs. Its prices are its legs' prices, weighted by ratio and multiplier, and nothing
else: bought, it costs the asks of its BUY legs less the bids of its SELL legs; below zero it pays the buyer.

A price is quoted per unit of the leg with the largest multiplier: a vertical of options per share, a buy-write of 100
shares and one option per share too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from actors.venue.simulator.contracts import Contract, ContractBook, ContractQuery
from actors.venue.simulator.instructions import Leg
from actors.venue.simulator.orders import Quote

ZERO = Decimal(0)
FIRST_COMBO_ID = 2_000_000_001
MAX_COMBOS = 10_000


class ComboError(ValueError):
    """Legs that make no combination; `code` is IB's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Part(msgspec.Struct, frozen=True):
    """One leg, resolved. `weight` turns its price into a share of the combination's price; SELL legs are negative."""

    contract: Contract
    signed_ratio: int
    weight: Decimal


class Combo(msgspec.Struct, frozen=True):
    """One combination as the gateway knows it."""

    contract: Contract
    parts: tuple[Part, ...]


QuoteOf = Callable[[int], Quote]


def combo_quote(combo: Combo, quote_of: QuoteOf) -> Quote:
    """Return the market that the legs make: a price is None while any leg lacks the one that it needs."""
    quotes = [(part, quote_of(part.contract.con_id)) for part in combo.parts]
    return Quote(
        bid=_sum((p.weight, q.bid if p.weight > 0 else q.ask) for p, q in quotes),
        ask=_sum((p.weight, q.ask if p.weight > 0 else q.bid) for p, q in quotes),
        last=_sum((p.weight, q.last) for p, q in quotes),
        bid_size=_least((p.signed_ratio, q.bid_size if p.weight > 0 else q.ask_size) for p, q in quotes),
        ask_size=_least((p.signed_ratio, q.ask_size if p.weight > 0 else q.bid_size) for p, q in quotes),
        close=_sum((p.weight, q.close) for p, q in quotes),
        halted=max(q.halted for _, q in quotes), time_ns=max(q.time_ns for _, q in quotes))


def consume(combo: Combo, quote_of: QuoteOf, buys: bool, quantity: Decimal) -> None:
    """Take combinations off the displayed sizes of the legs."""
    for part in combo.parts:
        quote, taken = quote_of(part.contract.con_id), quantity * abs(part.signed_ratio)
        if (part.weight > 0) == buys:
            quote.ask_size = None if quote.ask_size is None else max(ZERO, quote.ask_size - taken)
        else:
            quote.bid_size = None if quote.bid_size is None else max(ZERO, quote.bid_size - taken)


def leg_touch(part: Part, quote: Quote, buys: bool) -> Decimal:
    """Return the price at which this leg trades alone, when the combination is bought or sold."""
    touch = quote.ask if (part.weight > 0) == buys else quote.bid
    return next(p for p in (touch, quote.last, part.contract.reference_price) if p is not None)


def leg_prices(combo: Combo, quote_of: QuoteOf, buys: bool, price: Decimal) -> list[Decimal]:
    """Return a price for each leg whose weighted sum is exactly the combination's price.

    Each leg is at its touch; the difference falls on the leg of weight one that is dearest, or on the dearest.
    """
    prices = [leg_touch(p, quote_of(p.contract.con_id), buys) for p in combo.parts]
    difference = price - sum((p.weight * each for p, each in zip(combo.parts, prices, strict=True)), ZERO)
    if difference:
        n = max(range(len(prices)), key=lambda n: (abs(combo.parts[n].weight) == 1, prices[n]))
        prices[n] += difference / combo.parts[n].weight
    return prices


class ComboBook:
    """All combinations that clients have named, by conId and by leg."""

    def __init__(self, contracts: ContractBook) -> None:
        self._contracts = contracts
        self._next_id = FIRST_COMBO_ID
        self.by_id: dict[int, Combo] = {}
        self._by_legs: dict[tuple[str, tuple[tuple[int, int], ...]], Combo] = {}
        self._by_leg: dict[int, list[Combo]] = {}

    def with_leg(self, con_id: int) -> list[Combo]:
        return self._by_leg.get(con_id, [])

    def resolve(self, query: ContractQuery, legs: tuple[Leg, ...]) -> Combo:
        """Return the combination of these legs; raises ComboError."""
        return self._resolve(query, legs, self._next_id)

    def restore(self, contract: Contract, legs: tuple[Leg, ...]) -> Combo:
        """Know a combination of an earlier gateway again, under its conId; raises ComboError."""
        query = ContractQuery(symbol=contract.symbol, sec_type="BAG", exchange=contract.exchange)
        return self._resolve(query, legs, contract.con_id)

    def _resolve(self, query: ContractQuery, legs: tuple[Leg, ...], con_id: int) -> Combo:
        resolved = self._resolve_legs(query, legs)
        key = (query.symbol, tuple(sorted((c.con_id, ratio) for c, ratio in resolved)))
        combo = self._by_legs.get(key)
        if combo is None:
            if len(self.by_id) >= MAX_COMBOS:
                raise ComboError(312, f"The combo details are invalid: {MAX_COMBOS} combinations are known already.")
            combo = self._by_legs[key] = self.by_id[con_id] = _make(con_id, query, resolved)
            self._next_id = max(self._next_id, con_id + 1)
            for part in combo.parts:
                self._by_leg.setdefault(part.contract.con_id, []).append(combo)
        return combo

    def _resolve_legs(self, query: ContractQuery, legs: tuple[Leg, ...]) -> list[tuple[Contract, int]]:
        if not legs:
            raise ComboError(314, "Security type 'BAG' requires combo leg details.")
        resolved = []
        for n, leg in enumerate(legs, 1):
            found = self._contracts.find(ContractQuery(con_id=leg.con_id)) if leg.con_id > 0 else []
            if len(found) != 1:
                raise ComboError(313, f"The combo details for leg '{n}' are invalid: conId {leg.con_id} is not known.")
            if leg.action not in ("BUY", "SELL") or not 0 < leg.ratio <= 10_000:
                raise ComboError(313, f"The combo details for leg '{n}' are invalid: {leg.action!r} {leg.ratio}; "
                                      "allowed is BUY or SELL and a ratio of 1 to 10000.")
            if query.exchange and query.exchange not in found[0].valid_exchanges.split(","):
                raise ComboError(313, f"The combo details for leg '{n}' are invalid: {found[0].local} does not trade "
                                      f"at {query.exchange}.")
            resolved.append((found[0], leg.signed_ratio))
        if len({c.con_id for c, _ in resolved}) < max(2, len(resolved)):
            raise ComboError(312, "The combo details are invalid: a combination has two or more different legs.")
        if len({c.currency for c, _ in resolved}) > 1:
            raise ComboError(312, "The combo details are invalid: the legs have different currencies.")
        return resolved


def _make(con_id: int, query: ContractQuery, resolved: list[tuple[Contract, int]]) -> Combo:
    unit = max(c.unit for c, _ in resolved)
    parts = tuple(Part(c, ratio, ratio * c.unit / unit) for c, ratio in resolved)
    first = resolved[0][0]
    reference = sum((p.weight * p.contract.reference_price for p in parts), ZERO)
    return Combo(Contract(
        con_id=con_id, symbol=query.symbol or first.symbol, sec_type="BAG",
        multiplier=str(unit) if unit != 1 else "", exchange=query.exchange or "SMART",
        primary_exchange=query.exchange or "SMART", currency=first.currency, trading_class="COMB",
        reference_price=reference), parts)


def _sum(pairs: Iterable[tuple[Decimal, Decimal | None]]) -> Decimal | None:
    total = ZERO
    for weight, value in pairs:
        if value is None:
            return None
        total += weight * value
    return total


def _least(pairs: Iterable[tuple[int, Decimal | None]]) -> Decimal | None:
    """Return how many combinations the smallest leg allows; None where every leg is unlimited."""
    sizes = [size // abs(ratio) for ratio, size in pairs if size is not None]
    return min(sizes, default=None)
