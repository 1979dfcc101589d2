"""The market floor: the exchange's clock and hours, what is shown of each market, and who watches it.

Law: whatever changes a market goes through `set_quote`, `trade` or `halt`, and what is due on the exchange's clock
before that is done first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from actors.venue.simulator.agenda import Agenda
from actors.venue.simulator.clock import Clock
from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.delayed import Delayed
from actors.venue.simulator.depth import Depth
from actors.venue.simulator.exchange import Exchange
from actors.venue.simulator.feeds import Trade, Watcher
from actors.venue.simulator.history import History
from actors.venue.simulator.hours import Hours, Phase
from actors.venue.simulator.orders import ZERO, Quote
from actors.venue.simulator.profile import ORDINARY, Profile
from actors.venue.simulator.reports import Report
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.ticks import Tape

if TYPE_CHECKING:
    from actors.venue.simulator.derivatives import Followers
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
DEPTH_RESET = "Market depth data has been RESET. Please empty deep book contents before applying any new entries."


class Floor(ABC):
    """The part of the gateway that shows the market."""

    settings: GatewaySettings
    exchange: Exchange
    history: History
    followers: Followers
    changes: int
    day_end_ns: int
    """The exchange's next midnight."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.exchange_agenda = Agenda()
        """What is due on the exchange's clock: bars, delayed data, sessions. (`agenda` keeps the caller's time.)"""
        self.hours: Hours | None = None
        self.tapes: dict[int, Tape] = {}
        self.profiles: dict[int, Profile] = {}
        self.delayed: dict[int, Delayed] = {}
        self.tick_requests: dict[int, int] = {}      # conId -> when tick-by-tick data were asked for last
        self._watchers: dict[int, list[tuple[Session, Watcher]]] = {}

    @abstractmethod
    def log(self, now_ns: int, direction: str, client: int, msg: str, fields: dict[str, Any]) -> None:
        """Write one line of the journal."""

    @abstractmethod
    def deliver(self, reports: Iterable[Report], now_ns: int) -> None:
        """Journal what the exchange did and tell the clients concerned."""

    @abstractmethod
    def roll(self, now_ns: int) -> None:
        """Begin the exchange's next day once it has come."""

    # time ------------------------------------------------------------------------------------------------------

    def exchange_ns(self, now_ns: int) -> int:
        """Return the exchange's own time (clock.py)."""
        return self.clock.exchange_ns(now_ns)

    def pass_time(self, until_ns: int, now_ns: int) -> None:
        """Do what is due on the exchange's clock until this time of its own, each at the time it was due for."""
        while True:
            expiry, due = self.exchange.next_expiry_ns(), self.exchange_agenda.next_ns()
            first = expiry if due is None or (expiry is not None and expiry <= due) else due
            first = self.day_end_ns if first is None or self.day_end_ns <= first else first
            if first > until_ns:
                return
            before = self.clock.pin(first)
            try:
                if first == self.day_end_ns:       # before anything moves, so that the day begins with the old prices
                    self.roll(now_ns)
                elif first == expiry:
                    self.deliver(self.exchange.expire(first), now_ns)
                else:
                    self.exchange_agenda.run(now_ns, first)
            finally:
                self.clock.pin(before)

    def keep_hours(self, hours: Hours, now_ns: int) -> None:
        """Open and close the exchange from now on as these hours say."""
        self.hours = self.exchange.hours = self.history.hours = hours
        self.exchange_agenda.at(hours.next_change_ns(self.exchange_ns(now_ns)), self._phase_changed)

    def is_open(self, ex_ns: int) -> bool:
        """Return whether there is a market at this time of the exchange, be it in extended hours."""
        return self.hours is None or self.hours.phase(ex_ns) is not Phase.CLOSED

    def _phase_changed(self, now_ns: int) -> int:
        assert self.hours is not None
        ex_ns = self.exchange_ns(now_ns)
        phase, before = self.hours.phase(ex_ns), self.hours.phase(ex_ns - 1)
        self.changes += 1
        self.log(now_ns, "sim", -1, "market", {"phase": phase.value})
        if before is Phase.CLOSED:
            self.begin_day()
        if phase is Phase.CLOSED:
            self.history.closed()
        if Phase.CLOSED in (phase, before):
            for con_id in {**self._watchers, **self.delayed}:
                self._announce(con_id, lambda watcher, q: watcher.phase(q, phase is not Phase.CLOSED), now_ns)
        self.deliver(self.exchange.phase_changed(ex_ns), now_ns)
        return self.hours.next_change_ns(ex_ns)

    def begin_day(self) -> None:
        """Yesterday's last price is today's close; volume, open, high and low begin again."""
        for book in self.exchange.books.values():
            q = book.quote
            q.close = q.last if q.last is not None else q.close
            q.open = q.high = q.low = None
            q.volume = q.traded = q.turnover = ZERO
            q.trades = 0

    # market ----------------------------------------------------------------------------------------------------

    def watch(self, session: Session, watcher: Watcher, now_ns: int) -> None:
        if watcher.delayed:
            self._delayed(watcher.con_id).watchers.append((session, watcher))
        else:
            self._watchers.setdefault(watcher.con_id, []).append((session, watcher))
        self.changes += 1

    def unwatch(self, session: Session, watcher: Watcher) -> None:
        watcher.close()
        watchers = self._watchers.get(watcher.con_id, [])
        self._watchers[watcher.con_id] = [w for w in watchers if w[1] is not watcher]
        if watcher.delayed:
            late = self._delayed(watcher.con_id)
            late.watchers = [w for w in late.watchers if w[1] is not watcher]

    def watchers(self, con_id: int) -> list[tuple[Session, Watcher]]:
        """Return who watches a contract, those of delayed data last."""
        live, late = self._watchers.get(con_id, []), self.delayed.get(con_id)
        return live if late is None else live + late.watchers

    def profile(self, con_id: int) -> Profile:
        return self.profiles.get(con_id, ORDINARY)

    def tape(self, con_id: int) -> Tape:
        tape = self.tapes.get(con_id)
        if tape is None:
            tape = self.tapes[con_id] = Tape()
        return tape

    def delayed_quote(self, con_id: int) -> Quote:
        """Return what delayed data show at present."""
        return self._delayed(con_id).quote

    def _delayed(self, con_id: int) -> Delayed:
        late = self.delayed.get(con_id)
        if late is None:
            late = Delayed(self.exchange.quote_of(con_id), self.settings.data_delay_s * NS)
            self.delayed[con_id] = late
        return late

    def _tell_late(self, con_id: int, q: Quote, trade: Trade | None, ex_ns: int) -> None:
        """Keep an event for the subscribers of delayed data, if there has ever been one."""
        late = self.delayed.get(con_id)
        if late is None:
            return

        def tell(now_ns: int) -> int | None:
            late.run(self.exchange_ns(now_ns))
            return late.next_ns()

        if late.next_ns() is None:
            self.exchange_agenda.at(ex_ns + self.settings.data_delay_s * NS, tell)
        late.push(q, trade, ex_ns)

    def _announce(self, con_id: int, say: Callable[[Watcher, Quote], bytes], now_ns: int) -> None:
        """Tell who watches a contract, and those of delayed data as late as they hear of everything."""
        q, late = self.exchange.quote_of(con_id), self.delayed.get(con_id)
        for session, watcher in self._watchers.get(con_id, ()):
            _send(session, say(watcher, q))
        if late is not None:
            self.exchange_agenda.at(self.exchange_ns(now_ns) + self.settings.data_delay_s * NS,
                              lambda now_ns: late.tell(lambda watcher: say(watcher, late.quote)))

    def set_quote(self, contract: Contract, now_ns: int, *, bid: Decimal | None, ask: Decimal | None,
                  bid_size: Decimal | None = None, ask_size: Decimal | None = None, match: bool = True) -> None:
        """Change the bid and ask of one contract, show them to who watches, and match."""
        ex_ns = self.exchange_ns(now_ns)
        self.pass_time(ex_ns, now_ns)
        con_id = contract.con_id
        q = self.exchange.quote_of(con_id)
        if (bid, ask, bid_size, ask_size) != (q.bid, q.ask, q.bid_size, q.ask_size):
            q.bid, q.ask, q.bid_size, q.ask_size, q.time_ns = bid, ask, bid_size, ask_size, ex_ns
            self.tape(con_id).quoted(q)
            self.history.quoted(contract, q)
            for session, watcher in self._watchers.get(con_id, ()):
                _send(session, watcher.quote(q))
            self._tell_late(con_id, q, None, ex_ns)
            if self.exchange.combos.by_id:
                self._tell_combos(con_id, ex_ns)
        self.followers.moved(contract, now_ns)
        if match:
            self.deliver(self.exchange.market(con_id, ex_ns), now_ns)

    def _tell_combos(self, con_id: int, ex_ns: int) -> None:
        """Show the quotes of the combinations that this contract is a leg of."""
        for combo in self.exchange.combos.with_leg(con_id):
            combined = combo.contract.con_id
            if not self.watchers(combined):
                continue
            q = self.exchange.quote_of(combined)
            for session, watcher in self._watchers.get(combined, ()):
                _send(session, watcher.quote(q))
            self._tell_late(combined, q, None, ex_ns)

    def trade(self, contract: Contract, trade: Trade, now_ns: int) -> None:
        """Print one trade: show it to who watches, and match if it may move the price."""
        self.pass_time(trade.time_ns, now_ns)        # what ends before this print is not filled by it
        con_id = contract.con_id
        q = self.exchange.quote_of(con_id)
        q.volume += trade.size
        if trade.eligible:
            price = trade.price
            q.last, q.last_size, q.time_ns = price, trade.size, trade.time_ns
            q.open = price if q.open is None else q.open
            q.high = price if q.high is None or price > q.high else q.high
            q.low = price if q.low is None or price < q.low else q.low
            q.trades += 1
            q.traded += trade.size
            q.turnover += price * trade.size
        self.tape(con_id).prints.append(trade)
        self.history.printed(contract, trade)
        for session, watcher in self._watchers.get(con_id, ()):
            _send(session, watcher.trade(trade, q))
        self._tell_late(con_id, q, trade, trade.time_ns)
        if trade.eligible:
            self.followers.moved(contract, now_ns)
            reports = self.exchange.market(con_id, trade.time_ns)
            if reports:
                self.deliver(reports, now_ns)

    def halt(self, contract: Contract, halted: int, now_ns: int) -> None:
        """Halt a contract (1 general, 2 volatility), or reopen it (0): then orders meet the market as it stands."""
        q = self.exchange.quote_of(contract.con_id)
        q.halted = halted
        said = msgspec.structs.replace(q)
        self._announce(contract.con_id, lambda watcher, _: watcher.halted(said), now_ns)
        self.log(now_ns, "sim", -1, "halt", {"symbol": contract.symbol, "halted": halted})
        if halted <= 0:
            self.reset_depth(now_ns, contract.con_id)
            self.exchange.book(contract.con_id).dirty()
            self.deliver(self.exchange.market(contract.con_id, self.exchange_ns(now_ns)), now_ns)

    def reset_depth(self, now_ns: int, con_id: int | None = None) -> None:
        """Tell subscribers of market depth to empty their books (317), and fill them anew."""
        for number_, watchers in self._watchers.items():
            for session, watcher in watchers if con_id in (None, number_) else ():
                if isinstance(watcher, Depth):
                    session.error(watcher.req_id, 317, DEPTH_RESET, now_ns)
                    watcher.forget()
                    _send(session, watcher.quote(self.exchange.quote_of(number_)))


def _send(session: Session, data: bytes) -> None:
    if data:
        session.send_tick(data)
