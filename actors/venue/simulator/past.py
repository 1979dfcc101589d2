"""A past for contracts that have none: prices and volumes of any time, from the seed.

Law: what happened in a stretch of time depends on seed, conId, the stretch and the price at which the exchange opened,
never on what was asked before. Stretches are cut top down, and the parts of each add up to it exactly (open, high, low,
close, volume, count), so every bar size agrees with every other.

Each trading day (weekdays; holidays are not known) has a closing level: sums of hashed noise of doubling periods, as a
random walk has, shifted so that the path meets the exchange's first price. A day's sessions get their open, high, low
and close from it; each session is cut into half hours, 5 minutes, minutes, 5 seconds and seconds. The past of a future
follows its index; that of an option is worth what the model (options.py) says at its underlying's prices of the day.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import shake_128

from actors.venue.simulator import options
from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.history_bars import Piece, epoch, local

FIRST_DAY = date(2004, 1, 2)
MICRO = 1_000_000
LEVELS = (1800, 300, 60, 5, 1)
OCTAVES = 11
DAILY_NOISE = {"STK": 0.011, "OPT": 0.011, "IND": 0.008, "FUT": 0.008, "CASH": 0.004}
MAX_PARTS, MAX_DAYS, MAX_LATTICE = 2_000, 6_000, 20_000      # memory of one contract's past: cheap to make again
Span = tuple[int, int, bool]
"""Start and end of a session in epoch seconds, and whether it is a regular one."""
_HOUR = 3600
_SESSIONS: dict[str, tuple[tuple[float, float, bool], ...]] = {
    "STK": ((4, 9.5, False), (9.5, 16, True), (16, 20, False)),
    "OPT": ((9.5, 16, True),),
    "IND": ((9.5, 16, True),),
    "FUT": ((-6, 9.5, False), (9.5, 16, True), (16, 17, False)),
    "CASH": ((-7, 17, True),),
}


@lru_cache(maxsize=4096)
def sessions(sec_type: str, day: date) -> tuple[Span, ...]:
    """Return the sessions of a trading day in order; none at the weekend."""
    if day.weekday() >= 5:
        return ()
    return tuple((_clock(day, start), _clock(day, end), regular)
                 for start, end, regular in _SESSIONS.get(sec_type, _SESSIONS["STK"]))


def _clock(day: date, hours: float) -> int:
    if hours < 0:
        return epoch(day - timedelta(days=1), int((hours + 24) * _HOUR))
    return epoch(day, int(hours * _HOUR))


def draws(seed: int, con_id: int, start: int, length: int, n: int) -> list[float]:
    """Return n numbers in [0, 1) that belong to this stretch of time alone."""
    key = struct.pack("<QqqI", seed & 0xFFFFFFFFFFFFFFFF, con_id, start, length)
    return [v / 65536 for v in struct.unpack(f"<{n}H", shake_128(key).digest(2 * n))]


def split(whole: Piece, n: int, chance: list[float]) -> list[Piece]:
    """Cut a stretch into n parts that add up to it; `chance` holds 4 n numbers."""
    span = (whole.high - whole.low) / math.sqrt(n)
    drift, steps, total = (whole.close - whole.open) / n, [0.0], 0.0
    for u in chance[:n]:
        total += (u - 0.5) * 2.5 * span
        steps.append(total)
    edges = [min(whole.high, max(whole.low, round(whole.open + drift * i + steps[i] - total * i / n)))
             for i in range(n + 1)]
    edges[0], edges[n] = whole.open, whole.close
    highs = [min(whole.high, max(edges[i], edges[i + 1]) + int(chance[n + i] ** 2 * span * 0.6)) for i in range(n)]
    lows = [max(whole.low, min(edges[i], edges[i + 1]) - int(chance[2 * n + i] ** 2 * span * 0.6)) for i in range(n)]
    highs[max(range(n), key=lambda i: highs[i])] = whole.high
    lows[min(range(n), key=lambda i: lows[i])] = whole.low
    weights = [0.3 + u for u in chance[3 * n:4 * n]]
    everything, so_far, parts = sum(weights), 0.0, []
    volume = count = 0
    for i in range(n):
        so_far += weights[i]
        share = 1.0 if i == n - 1 else so_far / everything
        upto, trades = int(whole.volume * share), int(whole.trades * share)
        parts.append(Piece(edges[i], highs[i], lows[i], edges[i + 1], upto - volume, trades - count))
        volume, count = upto, trades
    return parts


class Past:
    """The generated past of one contract, in ticks. `anchor` is its price at `anchor_s`."""

    def __init__(self, contract: Contract, seed: int, anchor: Decimal, anchor_s: int) -> None:
        self.contract = contract
        self._seed = seed
        self._tick = max(1, int(contract.min_tick * MICRO))
        self._noise = DAILY_NOISE.get(contract.sec_type, 0.011)
        self._path = contract.under_con_id or contract.con_id     # a future goes the way of its index
        self._chance = contract.con_id if contract.sec_type == "OPT" else self._path
        self._kept: dict[tuple[int, int], list[Piece]] = {}
        self._tops: dict[date, list[Piece]] = {}
        self._lattice: dict[tuple[int, int], float] = {}
        self._offset = 0.0
        self._meet(anchor, anchor_s)

    def cover(self, start: int, end: int, regular_only: bool = False) -> Iterator[tuple[int, Piece]]:
        """Yield what happened from start to end, as few large pieces as there are, each with its start."""
        day = max(FIRST_DAY, local(start).date())
        last = local(end).date() + timedelta(days=1)
        while day <= last:
            spans = sessions(self.contract.sec_type, day)
            if spans and spans[0][0] < end and spans[-1][1] > start:
                for (a, b, regular), top in zip(spans, self._top(day), strict=True):
                    if a < end and b > start and (regular or not regular_only):
                        yield from self._cover(top, a, b - a, 0, start, end)
            day += timedelta(days=1)

    def _cover(self, piece: Piece, start: int, length: int, level: int, a: int,
               b: int) -> Iterator[tuple[int, Piece]]:
        if a <= start and start + length <= b:
            t = self._tick
            o, h, low, c, volume, trades, _ = piece
            paid = (h + low + c) * t * volume // 3
            yield start, Piece(o * t, h * t, low * t, c * t, volume, trades, paid)
            return
        step = LEVELS[level]
        first = max(0, (a - start) // step)
        beyond = min(length // step, -((start - b) // step))
        parts = self._parts(piece, start, length, step)
        for i in range(first, beyond):
            yield from self._cover(parts[i], start + i * step, step, level + 1, a, b)

    def _parts(self, piece: Piece, start: int, length: int, step: int) -> list[Piece]:
        key = (start, length)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= MAX_PARTS:
                self._kept.clear()
            n = length // step
            found = split(piece, n, draws(self._seed, self._chance, start, length, 4 * n))
            self._kept[key] = found
        return found

    # days ------------------------------------------------------------------------------------------------------

    def _meet(self, anchor: Decimal, anchor_s: int) -> None:
        """Shift the whole path so that it arrives at the anchor."""
        self._offset = math.log(float(anchor)) - self._level(local(anchor_s).date())
        arrived = None
        for _, piece in self.cover(anchor_s - 5 * 86_400, anchor_s):
            arrived = piece.close
        if arrived:
            self._offset += math.log(float(anchor) * MICRO / arrived)
        self._kept.clear()
        self._tops.clear()

    def _level(self, day: date) -> float:
        """Return the logarithm of the closing price of a day."""
        number = day.toordinal() - 1
        number = number // 7 * 5 + min(number % 7, 4)
        total = self._offset
        for octave in range(OCTAVES):
            size = 1 << octave
            at, part = divmod(number, size)
            left = self._lattice_value(octave, at)
            if part:
                left += (self._lattice_value(octave, at + 1) - left) * part / size
            total += left * math.sqrt(size)
        return total

    def _lattice_value(self, octave: int, at: int) -> float:
        found = self._lattice.get((octave, at))
        if found is None:
            if len(self._lattice) >= MAX_LATTICE:
                self._lattice.clear()
            u = draws(self._seed, self._path, -at, octave, 4)
            found = self._lattice[octave, at] = (sum(u) - 2) * self._noise
        return found

    def _top(self, day: date) -> list[Piece]:
        found = self._tops.get(day)
        if found is None:
            if len(self._tops) >= MAX_DAYS:
                self._tops.clear()
            found = self._tops[day] = self._sessions_of(day)
        return found

    def _sessions_of(self, day: date) -> list[Piece]:
        """Return what each session of a day did: the regular one ends at the day's level, others lead there."""
        before = day - timedelta(days=3 if day.weekday() == 0 else 1)
        u = draws(self._seed, self._path, epoch(day), 1, 16)
        was, closing = self._level(before), self._level(day)
        opening = was + (closing - was) * 0.3 + (u[0] - 0.5) * self._noise * 0.6
        after = (draws(self._seed, self._path, epoch(before), 1, 16)[1] - 0.5) * self._noise * 0.3
        late = closing + (u[1] - 0.5) * self._noise * 0.3
        kinds = [regular for _, _, regular in sessions(self.contract.sec_type, day)]
        volume = int(self.contract.daily_volume * (0.6 + 0.8 * u[2]))
        done = []
        for n, regular in enumerate(kinds):
            if regular:
                ends, share = (opening if len(kinds) > 1 else was, closing), 0.97 if len(kinds) > 1 else 1.0
            elif n == 0:
                ends, share = (was + after, opening), 0.02
            else:
                ends, share = (closing, late), 0.01
            wide = self._noise * (0.5 if regular else 0.15)
            done.append(self._piece(*ends, wide * u[4 + 2 * n], wide * u[5 + 2 * n], int(volume * share)))
        return done

    def _piece(self, opening: float, closing: float, up: float, down: float, volume: int) -> Piece:
        values = (opening, max(opening, closing) + up, min(opening, closing) - down, closing)
        o, h, low, c = (max(1, round(math.exp(v) * MICRO / self._tick)) for v in values)
        return Piece(o, max(o, h, c), min(o, low, c), c, volume, (volume + 99) // 100)


class OptionPast(Past):
    """The generated past of one option: each day's prices are the model's at its underlying's."""

    def __init__(self, contract: Contract, seed: int, under: Past, grid: Callable[[Decimal], Decimal]) -> None:
        self._under = under
        self._grid = grid
        super().__init__(contract, seed, Decimal(1), 0)

    def _meet(self, anchor: Decimal, anchor_s: int) -> None:
        """Nothing to shift: the underlying's path is where it should be."""

    def _sessions_of(self, day: date) -> list[Piece]:
        done = []
        u = draws(self._seed, self.contract.con_id, epoch(day), 1, 4)
        for start, end, _ in sessions("OPT", day):
            under = [piece for _, piece in self._under.cover(start, end, True)]
            if not under:
                continue
            o, c = self._worth(under[0].open, start), self._worth(under[-1].close, end - 1)
            top, bottom = max(p.high for p in under), min(p.low for p in under)
            ends = [self._worth(top, start), self._worth(bottom, end - 1)]
            volume = int(self.contract.daily_volume * (0.3 + 1.4 * u[0]))
            done.append(Piece(o, max(o, c, *ends), min(o, c, *ends), c, volume, (volume + 4) // 5))
        return done

    def _worth(self, under: int, at_s: int) -> int:
        value = Decimal(f"{options.greeks(self.contract, under / MICRO, at_s).value:.6f}")
        step = self._grid(value)
        return max(1, int(max(step, round(value / step) * step) * MICRO / self._tick))
