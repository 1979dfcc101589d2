"""A book that moves by a seeded model: quotes with sizes, prints at the bid and at the ask, each symbol by its profile.

Law: the same seed gives the same market to the nanosecond of the exchange's clock, whatever the pace, the turns and the
clients; each contract draws from a chance of its own, so that one more symbol changes no other. Orders of clients meet
this market and are filled by it; they do not move it (what they take from a displayed size stays taken until the next
change of that quote).

The fair price is a geometric Brownian motion in the seconds in which the exchange is open. Changes of the quote and
prints come as Poisson streams with the profile's rates; in extended hours a tenth of them. A print takes from the size
shown; when it takes all, that side goes one increment away. Where a price was set from outside, the model goes on from
there. In a halt nothing comes.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping
from decimal import Decimal

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.feeds import NS, Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.hours import Phase
from actors.venue.simulator.profile import ORDINARY, Profile
from actors.venue.simulator.session import Session

EVENTS_PER_TURN = 500
TRADING_YEAR_S = 252 * 6.5 * 3600
LONGEST_STEP_S = 3600
"""A longer silence, such as a night, moves the price no more than this would."""
EXTENDED_SHARE = 0.1
ODD_LOT_SHARE = 0.1
LOT = 100
VENUES = ("NASDAQ", "ARCA", "BATS", "IEX")


class Street:
    """One contract as the model sees it: `fair` is in price increments."""

    def __init__(self, contract: Contract, profile: Profile, seed: int, start_ns: int) -> None:
        self.contract = contract
        self.profile = profile
        self.chance = random.Random(f"{seed}:{contract.con_id}")
        self.fair = float(contract.reference_price / contract.min_tick)
        self.at_ns = start_ns
        self.shown: tuple[Decimal | None, Decimal | None] = (None, None)

    @property
    def rate(self) -> float:
        return self.profile.quotes + self.profile.trades

    def gap_ns(self) -> int:
        """Return how long until the next event."""
        return 1 + int(self.chance.expovariate(self.rate) * NS)

    def move(self, now_ns: int) -> None:
        """Let the fair price go on until now."""
        p = self.profile
        years = min((now_ns - self.at_ns) / NS, LONGEST_STEP_S) / TRADING_YEAR_S
        self.at_ns = now_ns
        spread = p.volatility * math.sqrt(years)
        self.fair *= math.exp((p.drift - p.volatility ** 2 / 2) * years + spread * self.chance.gauss(0, 1))
        self.fair = max(self.fair, 2.0)

    def price(self, ticks: int) -> Decimal:
        return ticks * self.contract.min_tick

    def shares(self, mean: float) -> Decimal:
        """Draw a size: round lots where the mean is one at least."""
        drawn = self.chance.expovariate(1) * mean
        return Decimal(max(1, round(drawn / LOT)) * LOT if mean >= LOT else max(1, round(drawn)))

    def quote(self) -> tuple[Decimal, Decimal]:
        """Draw a bid and an ask around the fair price."""
        wider = self.profile.spread - 1
        ticks = 1 + (round(self.chance.expovariate(1 / wider)) if wider > 0 else 0)
        bid = max(1, round(self.fair - ticks / 2))
        return self.price(bid), self.price(bid + ticks)


class BookModel:
    """The market driver; without `profiles` (by conId) it moves all that has a price of its own. Of an index it prints
    the value, and nobody bids for it."""

    def __init__(self, gateway: Gateway, seed: int, now_ns: int, profiles: Mapping[int, Profile] | None = None) -> None:
        self.gateway = gateway
        start_ns = gateway.exchange_ns(now_ns)
        if profiles is None:
            profiles = {c.con_id: ORDINARY for c in gateway.contracts.movers()}
        gateway.profiles.update(profiles)
        self._due: list[tuple[int, int, Street]] = []
        for con_id, profile in profiles.items():
            street = Street(gateway.contracts.by_id[con_id], profile, seed, start_ns)
            quote = gateway.exchange.quote_of(con_id)
            if quote.last is not None:                    # a scenario has said where it begins
                street.fair = float(quote.last / street.contract.min_tick)
            quote.close = quote.close if quote.close is not None else street.contract.reference_price
            self._requote(street, now_ns)
            self._print(street, start_ns, now_ns)
            if street.rate:
                heapq.heappush(self._due, (start_ns + street.gap_ns(), con_id, street))

    def advance(self, now_ns: int) -> int | None:
        clock = self.gateway.clock
        until_ns = clock.exchange_ns(now_ns)
        for _ in range(EVENTS_PER_TURN):
            if not self._due:
                return None
            due_ns, con_id, street = self._due[0]
            if due_ns > until_ns:
                return clock.caller_ns(due_ns)
            before = clock.pin(due_ns)
            try:
                again_ns = self._event(street, due_ns, now_ns)
            finally:
                clock.pin(before)
            heapq.heapreplace(self._due, (again_ns, con_id, street))
        return now_ns

    def acknowledge(self, session: Session) -> None:
        pass

    def _event(self, street: Street, due_ns: int, now_ns: int) -> int:
        """Do one event and return when the next one comes."""
        hours, chance, p = self.gateway.hours, street.chance, street.profile
        phase = Phase.REGULAR if hours is None else hours.phase(due_ns)
        if hours is not None and phase is Phase.CLOSED:
            return hours.next_open_ns(due_ns, extended=True) + street.gap_ns()
        quiet = phase is Phase.EXTENDED and chance.random() >= EXTENDED_SHARE
        q = self.gateway.exchange.quote_of(street.contract.con_id)
        if not quiet and q.halted <= 0:
            if (q.bid, q.ask) != street.shown and q.bid is not None and q.ask is not None:
                street.fair = float((q.bid + q.ask) / 2 / street.contract.min_tick)
            street.move(due_ns)
            if chance.random() * street.rate < p.trades:
                self._print(street, due_ns, now_ns)
            else:
                self._requote(street, now_ns)
        return due_ns + street.gap_ns()

    def _requote(self, street: Street, now_ns: int) -> None:
        size = street.profile.size
        if street.contract.sec_type == "IND":
            return
        self._show(street, *street.quote(), street.shares(size), street.shares(size), now_ns)

    def _print(self, street: Street, due_ns: int, now_ns: int) -> None:
        """Trade at the bid or at the ask, and take what was traded off the size shown there."""
        if street.contract.sec_type == "IND":
            value = street.price(max(1, round(street.fair)))
            self.gateway.trade(street.contract, Trade(value, Decimal(LOT), due_ns), now_ns)
            return
        q = self.gateway.exchange.quote_of(street.contract.con_id)
        chance, step = street.chance, street.contract.min_tick
        buys, odd = chance.random() < 0.5, chance.random() < ODD_LOT_SHARE
        size = Decimal(chance.randint(1, LOT - 1)) if odd else street.shares(street.profile.size / 2)
        fresh, venue = street.shares(street.profile.size), chance.choice(VENUES)
        bid, ask, bid_size, ask_size = q.bid, q.ask, q.bid_size, q.ask_size
        price, shown = (ask, ask_size) if buys else (bid, bid_size)
        if price is None:
            return
        size = size if not shown else min(size, shown)
        left = size if shown is None else shown - size
        self.gateway.trade(street.contract, Trade(price, size, due_ns, venue), now_ns)
        if left > 0:
            bid_size, ask_size = (bid_size, left) if buys else (left, ask_size)
        elif buys:
            ask, ask_size = price + step, fresh
        else:
            bid, bid_size = max(step, price - step), fresh
        self._show(street, bid, ask, bid_size, ask_size, now_ns)

    def _show(self, street: Street, bid: Decimal | None, ask: Decimal | None, bid_size: Decimal | None,
              ask_size: Decimal | None, now_ns: int) -> None:
        street.shown = (bid, ask)
        self.gateway.set_quote(street.contract, now_ns, bid=bid, ask=ask, bid_size=bid_size, ask_size=ask_size)
