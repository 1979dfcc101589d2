"""Conflation: at most one update of a subscription in each interval, as IB takes a snapshot every 250 ms.

Law: what comes after a quiet interval is told at once; what comes sooner is told at the interval's end, with the newest
quote and the newest price only. Volume is never lost. Time is the exchange's.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.venue.simulator.agenda import Entry, Work
from actors.venue.simulator.feeds import Trade, Watcher
from actors.venue.simulator.orders import Quote


class Conflated(Watcher):
    """A watcher that speaks less often than the one it wraps.

    `later(due_ns, work)` puts work on the exchange's timetable; `send` writes to the client. What the wrapped one hears
    of, it hears of `lag_ns` after it has happened.
    """

    def __init__(self, inner: Watcher, interval_ns: int, later: Callable[[int, Work], Entry],
                 send: Callable[[bytes], None], lag_ns: int = 0) -> None:
        self.inner = inner
        self._lag_ns = lag_ns
        self.req_id, self.con_id = inner.req_id, inner.con_id
        self.request = inner.request
        self.delayed = inner.delayed
        self._interval_ns = interval_ns
        self._later, self._send = later, send
        self._free_ns = 0
        self._entry: Entry | None = None
        self._quote: Quote | None = None
        self._trade: Trade | None = None
        self._market = Quote()

    def quote(self, q: Quote) -> bytes:
        if self._may_speak(q.time_ns + self._lag_ns):
            return self.inner.quote(q)
        self._quote = q
        return b""

    def trade(self, t: Trade, q: Quote) -> bytes:
        if self._may_speak(t.time_ns + self._lag_ns):
            return self.inner.trade(t, q)
        if self._trade is None or t.eligible or not self._trade.eligible:
            t, self._trade = self._trade or t, t
        if t is not self._trade:
            self.inner.passed_over(t)
        self._market = q
        return b""

    def _may_speak(self, at_ns: int) -> bool:
        if self._entry is not None:
            return False
        if at_ns >= self._free_ns:
            self._free_ns = at_ns + self._interval_ns
            # The same instant's quote and print belong together: only what comes later has to wait.
            return True
        if at_ns == self._free_ns - self._interval_ns:
            return True
        self._entry = self._later(self._free_ns, self._flush)
        return False

    def _flush(self, now_ns: int) -> None:
        out = self._held()
        self._free_ns += self._interval_ns
        if out:
            self._send(out)

    def _held(self) -> bytes:
        """Return what is held back, and hold it no longer."""
        out = b"" if self._quote is None else self.inner.quote(self._quote)
        if self._trade is not None:
            out += self.inner.trade(self._trade, self._market)
        self._quote = self._trade = self._entry = None
        return out

    def hears(self, t: Trade) -> bool:
        return self.inner.hears(t)

    def halted(self, q: Quote) -> bytes:
        return self.inner.halted(q)

    def phase(self, q: Quote, is_open: bool) -> bytes:
        if self._entry is not None:
            self._entry.cancel()
        return self._held() + self.inner.phase(q, is_open)

    def close(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
        self.inner.close()
