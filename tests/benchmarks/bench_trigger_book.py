"""What one tick costs the trigger book, at 10 to 100,000 live trailing stops, beside a plain list of stops.

Run: python -m tests.benchmarks.bench_trigger_book. Every figure is the median of several rounds, in microseconds of
processor time (a single firing tick: of the clock); the list is measured in the same run, up to the sizes that it can
bear.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable

from actors.rules.trigger_book import Arm, TriggerBook

SIZES = (10, 100, 1_000, 10_000, 100_000)
LIST_SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 15
START = 100_000_000
CENT = 10_000


class ListOfStops:
    """What most engines do: look at every stop on every tick."""

    def __init__(self) -> None:
        self.stops: list[list[int]] = []  # high, offset, stop

    def arm(self, offset: int, price: int) -> None:
        self.stops.append([price, offset, price - offset])

    def on_trade(self, price: int) -> list[int]:
        fired = []
        for number, stop in enumerate(self.stops):
            if price <= stop[2]:
                fired.append(number)
            elif price > stop[0]:
                stop[0] = price
                stop[2] = price - stop[1]
        return fired


def offsets(count: int) -> list[int]:
    rng = random.Random(count)
    return [rng.randrange(50 * CENT, 5_000 * CENT) for _ in range(count)]


def book_of(count: int, *, spread_highs: bool = False) -> TriggerBook:
    """A book of `count` begun SELL trails, half of them in percent, with one high water or with one each."""
    book = TriggerBook()
    for number, offset in enumerate(offsets(count)):
        known = START + (number + 1) * 3 if spread_highs else None
        if number % 2:
            arm = Arm(f"arm-{number}", "SELL", "trail_amount", offset=offset, high_water=known)
        else:
            arm = Arm(f"arm-{number}", "SELL", "trail_percent", offset=offset, high_water=known)
        book.arm(arm)
    assert book.on_trade(START, 1) == []
    assert len(book) == count
    return book


def list_of(count: int) -> ListOfStops:
    stops = ListOfStops()
    for offset in offsets(count):
        stops.arm(offset, START)
    return stops


def medians_us(measures: dict, rounds: int = ROUNDS) -> dict:
    """Return for each (measure, ticks) the median over rounds of its microseconds per tick.

    The rounds alternate over all of them, so that a noisy neighbour spoils a round of each and not one of them whole.
    """
    samples: dict = {name: [] for name in measures}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, (measure, ticks) in measures.items():
                samples[name].append(measure(ticks) / ticks * 1e6)
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in samples.items()}


def quiet(on_trade, with_time: bool):
    """Ticks a little below the high: nothing fires, nothing ratchets."""

    def measure(ticks: int) -> float:
        prices = [START - 1 - (number % 40) * CENT for number in range(ticks)]
        if with_time:
            began = time.process_time()
            for price in prices:
                on_trade(price, 1)
        else:
            began = time.process_time()
            for price in prices:
                on_trade(price)
        return time.process_time() - began

    return measure


def rising(on_trade, with_time: bool):
    """A new high on every tick."""
    top = [START]

    def measure(ticks: int) -> float:
        prices = range(top[0] + 1, top[0] + 1 + ticks)
        top[0] += ticks
        if with_time:
            began = time.process_time()
            for price in prices:
                on_trade(price, 1)
        else:
            began = time.process_time()
            for price in prices:
                on_trade(price)
        return time.process_time() - began

    return measure


def merging_us(count: int) -> float:
    """Cost per tick while each of `count` highs is overtaken, one a tick: the worst that a rise can do."""
    book = book_of(count, spread_highs=True)
    gc.collect()
    gc.disable()
    began = time.process_time()
    for number in range(count):
        book.on_trade(START + (number + 1) * 3 + 1, 1)
    took = time.process_time() - began
    gc.enable()
    return took / count * 1e6


def firing_us(count: int) -> tuple[float, float]:
    """Ticks that fall a step at a time until all have fired: (median of ticks that fire, cost per arm fired)."""
    book = book_of(count)
    gc.collect()
    gc.disable()
    samples, total, fired, price = [], 0.0, 0, START
    step = max(1, 5_000 * CENT // max(count, 50) // 2)
    while len(book):
        price -= step
        began = time.perf_counter()
        events = book.on_trade(price, 1)
        took = time.perf_counter() - began
        if events:
            samples.append(took)
            total += took
            fired += len(events)
    gc.enable()
    assert fired == count
    return statistics.median(samples) * 1e6, total / fired * 1e6


def arming_us(count: int) -> float:
    """Cost of arming one more, with its first tick, and disarming it again."""
    book = book_of(count)
    ticks = 500
    gc.collect()
    gc.disable()
    began = time.process_time()
    for number in range(ticks):
        book.arm(Arm(f"new-{number}", "SELL", "trail_amount", offset=70 * CENT + number))
        book.on_trade(START - 1, 1)
        book.disarm(f"new-{number}")
    took = time.process_time() - began
    gc.enable()
    return took / ticks * 1e6


def bytes_per_arm(count: int, *, spread_highs: bool) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    book = book_of(count, spread_highs=spread_highs)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(book) == count
    return held / count


def run(say: Callable[[str], None], quick: bool = False, sizes: tuple[int, ...] | None = None) -> None:
    """Print the tables."""
    sizes = sizes or (SIZES[:3] if quick else SIZES)
    rounds = 3 if quick else ROUNDS
    say("trigger book, microseconds per tick (median of rounds)")
    say("ratio: list over book. merging: a rise that overtakes one high water a tick. firing: a tick that fires some")
    head = ["stops", "quiet", "list", "ratio", "new high", "list", "ratio"]
    head += ["merging", "firing", "per fired", "arm+disarm"]
    say("".join(f"{name:>11}" for name in head))
    measures: dict = {}
    for count in sizes:
        book = book_of(count)
        measures["quiet", count] = quiet(book.on_trade, True), 20_000
        measures["rising", count] = rising(book.on_trade, True), 5_000
        if count in LIST_SIZES:
            stops, ticks = list_of(count), max(20, 200_000 // count)
            measures["list quiet", count] = quiet(stops.on_trade, False), ticks
            measures["list rising", count] = rising(stops.on_trade, False), ticks
    us = medians_us(measures, rounds)
    for count in sizes:
        cells = []
        for name in ("quiet", "rising"):
            ours, theirs = us[name, count], us.get((f"list {name}", count))
            cells += [f"{ours:.3f}", f"{theirs:.2f}" if theirs else "-", f"{theirs / ours:.1f}x" if theirs else "-"]
        fire_us, per_fired = firing_us(count)
        cells += [f"{merging_us(count):.2f}", f"{fire_us:.2f}", f"{per_fired:.2f}", f"{arming_us(count):.2f}"]
        say(f"{count:>11,}" + "".join(f"{cell:>11}" for cell in cells))
    first, last = sizes[0], sizes[-1]
    flat = {name: us[name, last] / us[name, first] for name in ("quiet", "rising")}
    say(f"flatness {last:,} over {first}: quiet {flat['quiet']:.2f}, new high {flat['rising']:.2f} (aim: at most 2)")
    for count in sorted({min(1_000, last), last}):
        shared, alone = bytes_per_arm(count, spread_highs=False), bytes_per_arm(count, spread_highs=True)
        say(f"bytes per arm at {count:,}: {shared:.0f} on one shared high water, {alone:.0f} on one each (worst)")


if __name__ == "__main__":
    run(print)
