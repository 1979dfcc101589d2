"""IB's pacing rules for historical requests (ib-wire.md 10).

Law: pure; the caller brings the time, and a request that was refused does not count.
"""

from __future__ import annotations

from collections import deque

NS = 1_000_000_000
SAME_S, BURST_S, BURST, LONG_S, LONG = 15, 2, 6, 600, 60


class HistoryPace:
    """What was asked in the last ten minutes by the clients of one gateway."""

    def __init__(self) -> None:
        self._asked: deque[tuple[int, tuple[object, ...], tuple[object, ...], int]] = deque()

    def broken(self, request: tuple[object, ...], series: tuple[object, ...], weight: int, now_ns: int) -> str:
        """Return which rule this request breaks, or '' and count it.

        `request` identifies identical requests, `series` those for the same contract, exchange and kind of tick; a
        BID_ASK request weighs 2.
        """
        while self._asked and self._asked[0][0] <= now_ns - LONG_S * NS:
            self._asked.popleft()
        if any(r == request for t, r, _, _ in self._asked if t > now_ns - SAME_S * NS):
            return f"identical requests within {SAME_S} seconds"
        burst = sum(w for t, _, s, w in self._asked if s == series and t > now_ns - BURST_S * NS)
        if burst + weight >= BURST:
            return f"{BURST} or more requests for the same contract, exchange and tick type within {BURST_S} seconds"
        if sum(w for _, _, _, w in self._asked) + weight > LONG:
            return f"more than {LONG} requests within ten minutes"
        self._asked.append((now_ns, request, series, weight))
        return ""
