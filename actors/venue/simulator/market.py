"""What moves prices when nothing else does: a seeded walk. And several drivers as one.

Law: a driver changes the market only through the gateway, only inside `advance`, and draws chance only from its seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway, MarketDriver
from actors.venue.simulator.session import Session

HUNDRED_SHARES = Decimal(100)


class Walk:
    """Every known symbol takes a small random step at each interval, from its reference price."""

    def __init__(self, gateway: Gateway, seed: int, interval_s: Decimal, now_ns: int) -> None:
        self.gateway = gateway
        self._random = random.Random(seed)
        self._others = random.Random(seed)      # apart, so that the stocks' walk is the same whatever else is listed
        self._interval_ns = gateway.clock.span_ns(float(interval_s))
        self._due_ns = now_ns + self._interval_ns
        for contract in gateway.contracts.movers():
            self._show(contract, contract.reference_price, now_ns)

    def advance(self, now_ns: int) -> int | None:
        if now_ns >= self._due_ns:
            for contract in self.gateway.contracts.movers():
                last = self.gateway.exchange.quote_of(contract.con_id).last or contract.reference_price
                chance = self._random if contract.sec_type == "STK" else self._others
                ticks = round(chance.gauss(0, 2))
                self._show(contract, max(contract.min_tick * 10, last + ticks * contract.min_tick), now_ns)
            # A late turn is not made up for: one step per interval that was really waited.
            self._due_ns = max(self._due_ns + self._interval_ns, now_ns)
        return self._due_ns

    def acknowledge(self, session: Session) -> None:
        pass

    def _show(self, contract: Contract, price: Decimal, now_ns: int) -> None:
        away = contract.half_spread
        if contract.sec_type != "IND":                # an index has a value, and nobody who bids for it
            self.gateway.set_quote(contract, now_ns, bid=price - away, ask=price + away, match=False)
        self.gateway.trade(contract, Trade(price, HUNDRED_SHARES, self.gateway.exchange_ns(now_ns)), now_ns)


class Together:
    """Several drivers that move one gateway, each its own contracts; the first is asked first."""

    def __init__(self, drivers: Sequence[MarketDriver]) -> None:
        self.drivers = tuple(drivers)

    def advance(self, now_ns: int) -> int | None:
        dues = [driver.advance(now_ns) for driver in self.drivers]
        return min((due for due in dues if due is not None), default=None)

    def acknowledge(self, session: Session) -> None:
        for driver in self.drivers:
            driver.acknowledge(session)
