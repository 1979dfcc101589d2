"""The trigger book does, event for event, what a loop over all arms does: hypothesis and long seeded walks compare."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.rules.trigger_book import Arm, TriggerBook
from messages.market import TriggerMethod
from tests.rules.naive_trigger_book import NaiveBook
from tests.rules.trigger_book_audit import audit

METHODS = [method for method in TriggerMethod if method is not TriggerMethod.DEFAULT]
TRAILS = ("trail_amount", "trail_percent")


class Pair:
    """Both books, told the same; every answer is compared."""

    def __init__(self, in_session: bool = True) -> None:
        self.book = TriggerBook(in_session=in_session)
        self.naive = NaiveBook(in_session=in_session)
        self.journal: dict[str, tuple[int, int, int]] = {}
        self.fired = 0

    def same(self, got, expected) -> None:
        assert got == expected
        self.fired += len(got)
        for event in got:
            assert self.book.state_of(event.arm_id) is None, "fired, yet still armed"
            self.journal.pop(event.arm_id, None)

    def arm(self, arm: Arm, use_evidence: bool) -> None:
        self.journal.pop(arm.arm_id, None)
        self.same(self.book.arm(arm, use_evidence=use_evidence), self.naive.arm(arm, use_evidence))

    def disarm(self, arm_id: str) -> None:
        assert self.book.disarm(arm_id) == self.naive.disarm(arm_id)
        self.journal.pop(arm_id, None)

    def trade(self, price: int, ts: int, eligible: bool = True) -> None:
        self.same(self.book.on_trade(price, ts, eligible=eligible), self.naive.on_trade(price, ts, eligible))

    def quote(self, bid: int, ask: int, ts: int) -> None:
        self.same(self.book.on_quote(bid, ask, ts), self.naive.on_quote(bid, ask, ts))

    def conflated(self, prices: tuple[int, int, int, int], ts: int, fire_ambiguous: bool) -> None:
        got = self.book.on_conflated(*prices, ts, fire_ambiguous=fire_ambiguous)
        self.same(got, self.naive.on_conflated(*prices, ts, fire_ambiguous))

    def gates(self, *, halted: bool | None = None, in_session: bool | None = None) -> None:
        for book in (self.book, self.naive):
            if halted is not None:
                book.set_halted(halted)
            if in_session is not None:
                book.set_session(in_session)

    def note(self, limit: int) -> None:
        moved = self.book.moved_since(limit)
        assert len(moved) <= limit
        for arm_id, high_water, stop, ratchets in moved:
            before = self.journal.get(arm_id)
            assert before is None or before != (high_water, stop, ratchets), "reported, yet it had not moved"
            self.journal[arm_id] = (high_water, stop, ratchets)

    def compare_states(self) -> None:
        audit(self.book)
        assert len(self.book) == len(self.naive.arms)
        for naive in self.naive.arms:
            arm_id = naive.arm.arm_id
            assert arm_id in self.book
            assert self.book.state_of(arm_id) == self.naive.state_of(arm_id)

    def compare_journal(self) -> None:
        """Once nothing is left to report, what was reported is where every begun trail stands."""
        while self.book.has_moved:
            self.note(5)
        begun = {naive.arm.arm_id: naive for naive in self.naive.arms if naive.trail and not naive.waiting}
        expected = {key: (n.high, n.stop, n.ratchets) for key, n in begun.items() if not n.dormant}
        assert self.journal == expected


# Few prices, so that exact touches, equal highs and equal stops are the rule and not the exception.
PRICES = st.integers(60, 90)
LATE = st.sampled_from((0, 0, 0, 0, 0, 0, 1, 3))
OFFSETS = st.integers(1, 9)
PERCENTS = st.one_of(st.integers(1, 12).map(lambda percent: percent * 1_000_000), st.integers(1, 9_000_000))
IDS = "abcdefghijklmnop"


@st.composite
def arms(draw) -> Arm:
    """An arm whose `fresh_after_ns` is still relative to now, and whose method and session a machine may override."""
    kind = draw(st.sampled_from(("stop", "lit", *TRAILS, *TRAILS)))
    common = {
        "arm_id": draw(st.sampled_from(IDS)),
        "side": draw(st.sampled_from(("BUY", "SELL"))),
        "kind": kind,
        "method": draw(st.sampled_from(METHODS)),
        "rth_only": draw(st.booleans()),
        "fresh_after_ns": draw(st.sampled_from((-9, -9, -9, -1, 0, 1, 2))),
    }
    if kind not in TRAILS:
        return Arm(**common, level=draw(PRICES))
    rarely = st.one_of(st.none(), st.none(), PRICES)
    return Arm(
        **common,
        offset=draw(OFFSETS if kind == "trail_amount" else PERCENTS),
        activation=draw(rarely),
        high_water=draw(rarely),
        initial_stop=draw(rarely),
    )


class BookAgainstNaive(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.now = 100
        self.alike: dict = {}

    @initialize(method=st.one_of(st.none(), st.sampled_from(METHODS)), side=st.sampled_from((None, "SELL", "BUY")))
    def crowd(self, method: TriggerMethod | None, side: str | None) -> None:
        """Often all arms watch the same price, so that they meet in the same ladder and its groups merge."""
        if method is not None:
            self.alike = {"method": method, "rth_only": False}
        if side is not None:
            self.alike["side"] = side

    @rule(wanted=st.lists(arms(), min_size=1, max_size=6), use_evidence=st.booleans())
    def arm(self, wanted: list[Arm], use_evidence: bool) -> None:
        for arm in wanted:
            self.pair.arm(arm._replace(fresh_after_ns=self.now + arm.fresh_after_ns, **self.alike), use_evidence)

    @rule(arm_id=st.sampled_from(IDS))
    def disarm(self, arm_id: str) -> None:
        self.pair.disarm(arm_id)

    @rule(prices=st.lists(PRICES, min_size=1, max_size=6), late=LATE)
    def trades(self, prices: list[int], late: int) -> None:
        self.now += 1
        for price in prices:
            self.pair.trade(price, self.now - late)

    @rule(start=PRICES, steps=st.lists(st.integers(-3, 3), min_size=2, max_size=12))
    def walk(self, start: int, steps: list[int]) -> None:
        """Trades and quotes side by side, close together, so that trails live for a while."""
        for step in steps:
            self.now += 1
            start = max(20, start + step)
            self.pair.quote(start - (step & 1), start + (step & 2), self.now)
            self.pair.trade(start, self.now)

    @rule(quotes=st.lists(st.tuples(PRICES, st.integers(0, 3)), min_size=1, max_size=4), late=LATE)
    def quotes(self, quotes: list[tuple[int, int]], late: int) -> None:
        self.now += 1
        for bid, spread in quotes:
            self.pair.quote(bid, bid + spread, self.now - late)

    @rule(prices=st.lists(PRICES, min_size=4, max_size=4), late=LATE, fire_ambiguous=st.booleans())
    def conflated(self, prices: list[int], late: int, fire_ambiguous: bool) -> None:
        low, *_, high = sorted(prices)
        self.pair.conflated((prices[1], high, low, prices[2]), self.now - late, fire_ambiguous)

    @rule(price=st.sampled_from((0, -1, -70)), good=PRICES)
    def bad_evidence(self, price: int, good: int) -> None:
        self.pair.trade(price, self.now)
        self.pair.trade(good, self.now, eligible=False)
        self.pair.quote(price, good, self.now)
        self.pair.quote(good, price, self.now)
        self.pair.quote(good + 1, good, self.now)
        self.pair.conflated((good, good, good + 1, good), self.now, False)

    @rule(halted=st.sampled_from((None, False, False, True)), in_session=st.sampled_from((None, True, True, False)))
    def gates(self, halted: bool | None, in_session: bool | None) -> None:
        self.pair.gates(halted=halted, in_session=in_session)

    @rule(limit=st.integers(1, 4))
    def note(self, limit: int) -> None:
        self.pair.note(limit)

    @invariant()
    def states_agree(self) -> None:
        self.pair.compare_states()

    def teardown(self) -> None:
        self.pair.compare_journal()


TestBookAgainstNaive = BookAgainstNaive.TestCase
TestBookAgainstNaive.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def random_arm(rng: random.Random, number: int, around: int, now: int, grain: int, methods: list) -> Arm:
    kind = rng.choice(("stop", "lit", *TRAILS, *TRAILS))
    near = lambda steps: around + rng.randint(-steps, steps) * grain  # noqa: E731
    maybe = lambda value: value if rng.random() < 0.25 else None  # noqa: E731
    common = {
        "arm_id": f"arm-{number}",
        "side": rng.choice(("BUY", "SELL")),
        "kind": kind,
        "method": rng.choice(methods),
        "rth_only": rng.random() < 0.3,
        "fresh_after_ns": now + rng.choice((-5, -5, -1, 0, 1, 4)),
    }
    if kind not in TRAILS:
        return Arm(**common, level=near(40))
    offset = rng.randint(1, 40) * grain if kind == "trail_amount" else rng.randint(1, 400_000)
    return Arm(
        **common, offset=offset, activation=maybe(near(15)), high_water=maybe(near(15)), initial_stop=maybe(near(40))
    )


WALKS = [(seed, 1_000, METHODS) for seed in range(4)]
WALKS += [(seed, 1_000, [method]) for seed, method in enumerate((TriggerMethod.LAST, TriggerMethod.LAST, *METHODS))]


@pytest.mark.parametrize(("seed", "grain", "methods"), WALKS)
def test_long_walks_with_many_arms_agree_event_for_event(seed, grain, methods):
    assert walk(seed, grain, methods, steps=1_500) > 50, "a walk on which almost nothing fires proves little"


@given(
    seed=st.integers(0, 1 << 40),
    grain=st.sampled_from((1, 10, 1_000, 10_000)),
    methods=st.one_of(st.sampled_from(METHODS).map(lambda method: [method]), st.just(METHODS)),
)
@settings(max_examples=25, deadline=None)
def test_any_walk_agrees_event_for_event(seed, grain, methods):
    walk(seed, grain, methods, steps=400)


def walk(seed: int, grain: int, methods: list, steps: int) -> int:
    """Lead both books along one walk and return how many arms fired.

    Prices lie on a grid, so that highs, stops and activations are touched exactly and often.
    """
    rng = random.Random(seed)
    pair = Pair()
    price, now, number = 15_000_000, 100, 0
    for step in range(steps):
        now += rng.random() < 0.5
        price += rng.choice((-4, -1, -1, 0, 1, 1, 4)) * grain + (step % 300 > 270) * rng.choice((2, -1)) * grain
        act = rng.random()
        if act < 0.2:
            number += 1
            pair.arm(random_arm(rng, number, price, now, grain, methods), rng.random() < 0.3)
        elif act < 0.22 and pair.naive.arms:
            pair.disarm(rng.choice(pair.naive.arms).arm.arm_id)
        elif act < 0.55:
            pair.trade(price, now - (rng.random() < 0.05) * rng.randint(1, 7), rng.random() < 0.95)
        elif act < 0.9:
            late = (rng.random() < 0.05) * rng.randint(1, 7)
            pair.quote(price - rng.randint(0, 1) * grain, price + rng.choice((0, 1, grain)), now - late)
        elif act < 0.94:
            prices = sorted(price + rng.randint(-6, 6) * grain for _ in range(4))
            first, last = rng.choice(prices), rng.choice(prices)
            pair.conflated((first, prices[3], prices[0], last), now, rng.random() < 0.5)
        elif act < 0.95:
            pair.gates(halted=rng.random() < 0.2)
        elif act < 0.96:
            pair.gates(in_session=rng.random() < 0.7)
        else:
            pair.note(8)
        if step % 3 == 0:
            pair.compare_states()
    pair.compare_journal()
    return pair.fired
