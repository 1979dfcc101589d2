"""Market depth: the book behind the quote, and how a client is kept up with it (ib-wire.md 10).

Law: the quote is the first level; the levels behind it are made from the seed, the contract and the price alone, so
that the same price shows the same size whoever asks and however the quote came there. A client's book is changed row by
row: 0 inserts, 1 updates, 2 deletes (from the end), so that its rows are always those of `levels`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.feeds import Trade, Watcher, shown_size
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.profile import Profile
from actors.venue.simulator.wire import encode, number

INSERT, UPDATE, DELETE = 0, 1, 2
ASK, BID = 0, 1
MARKET_MAKERS = frozenset({"ISLAND", "NASDAQ"})
"""Exchanges whose books name market makers, so that 13 is sent for them too."""
VENUES = ("ARCA", "BATS", "IEX", "ISLAND", "NYSE")
Increment = Callable[[Decimal], Decimal]
Row = tuple[str, str, str]
"""Price, size and, in a SMART book, the exchange; as spelled on the wire."""


def levels(q: Quote, contract: Contract, profile: Profile, seed: int,
           increment: Increment | None = None) -> tuple[list[Row], list[Row]]:
    """Return the rows of the bid side and of the ask side, the best first; `increment` is that of a price."""
    sides: list[list[Row]] = []
    for price, size, sign in ((q.bid, q.bid_size, -1), (q.ask, q.ask_size, 1)):
        rows: list[Row] = []
        for n in range(profile.levels):
            if price is None or price <= 0:
                break
            spelled = number(price)
            behind, venue = _level(seed, contract.con_id, spelled, profile.size)
            rows.append((spelled, behind if n else shown_size(size), venue))
            price += sign * (contract.min_tick if increment is None else increment(price))
        sides.append(rows)
    return sides[0], sides[1]


@lru_cache(maxsize=20_000)
def _level(seed: int, con_id: int, price: str, size: int) -> tuple[str, str]:
    """Return the size and the exchange of a level behind the touch: twice as much, on average, as is shown there."""
    chance = random.Random(f"{seed}:{con_id}:{price}")
    return str(max(1, round(chance.expovariate(1) * 2 * size))), chance.choice(VENUES)


class Depth(Watcher):
    """One reqMktDepth: `named` rows travel as 13 with an exchange, plain ones as 12."""

    request = "reqMktDepth"

    def __init__(self, req_id: int, contract: Contract, rows: int, profile: Profile, seed: int, is_smart: bool,
                 named: bool, increment: Increment | None = None) -> None:
        self._increment = increment
        self.req_id = req_id
        self.con_id = contract.con_id
        self.contract = contract
        self.rows = rows
        self.profile = profile
        self.seed = seed
        self.is_smart = is_smart
        self.named = named
        self._shown: dict[int, list[Row]] = {BID: [], ASK: []}

    def quote(self, q: Quote) -> bytes:
        """Return what turns the client's book into the present one."""
        bids, asks = levels(q, self.contract, self.profile, self.seed, self._increment)
        return self._change(ASK, asks[:self.rows]) + self._change(BID, bids[:self.rows])

    def trade(self, t: Trade, q: Quote) -> bytes:
        return b""

    def phase(self, q: Quote, is_open: bool) -> bytes:
        return self.quote(q if is_open else Quote())

    def forget(self) -> None:
        """The client was told to empty its book (317): the next rows are all new."""
        self._shown = {BID: [], ASK: []}

    def _change(self, side: int, new: list[Row]) -> bytes:
        old, out = self._shown[side], []
        for n, row in enumerate(new):
            if n >= len(old):
                out.append(self._row(n, INSERT, side, row))
            elif row != old[n]:
                out.append(self._row(n, UPDATE, side, row))
        for n in range(len(old) - 1, len(new) - 1, -1):
            out.append(self._row(n, DELETE, side, (old[n][0], "0", old[n][2])))
        self._shown[side] = new
        return b"".join(out)

    def _row(self, n: int, operation: int, side: int, row: Row) -> bytes:
        price, size, venue = row
        if not self.named:
            return encode(12, 1, self.req_id, n, operation, side, price, size)
        maker = venue if self.is_smart else "NSDQ"
        return encode(13, 1, self.req_id, n, maker, operation, side, price, size, self.is_smart)

