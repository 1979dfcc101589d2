"""The bracket's rules against everything that a venue, a broker, children and people may do, in any order.

The invariants live in hostile_venue.py; hypothesis drives and shrinks here, fuzz_bracket.py drives for longer.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from actors.rules.bracket_state import Policy
from tests.rules.fuzz_bracket import run
from tests.rules.hostile_venue import NAMES, Setup, World, act, definition

PICK = st.integers(0, 40)


class Hostile(RuleBasedStateMachine):
    """One bracket in a hostile world; whatever happened, healing it must end in order."""

    world: World

    @initialize(
        shape=st.sampled_from(NAMES), native=st.booleans(), gate=st.booleans(), fast=st.booleans(),
        human=st.sampled_from(("freeze", "reprotect")),
        bad=st.sets(st.sampled_from(("oca", "race", "late", "correct"))),
    )
    def begin(self, shape: str, native: bool, gate: bool, fast: bool, human: str, bad: set[str]) -> None:
        self.world = World(
            Setup(
                definition=definition(shape, native),
                policy=Policy(exit_race="fast" if fast else "safe", human_cancel=human),
                gate=gate, honest_oca="oca" not in bad, races="race" in bad, late_fills="late" in bad,
                corrections="correct" in bad,
            )
        )

    @rule(pick=PICK, times=st.integers(1, 6))
    def deliver(self, pick: int, times: int) -> None:
        for _ in range(times):
            act(self.world, "deliver", pick, 0)

    @rule(pick=PICK, size=PICK)
    def fill(self, pick: int, size: int) -> None:
        act(self.world, "fill", pick, size)

    @rule(pick=PICK, what=st.sampled_from(("ack", "echo", "honour_cancel", "clock", "trigger", "operate", "condition")))
    def daily(self, pick: int, what: str) -> None:
        act(self.world, what, pick, 0)

    @rule(
        pick=PICK, size=PICK,
        what=st.sampled_from(
            ("reject", "human_cancel", "expire", "correct", "repeat", "unknown", "refuse_amend", "refuse_cancel",
             "deny", "ratchet")
        ),
    )
    def trouble(self, pick: int, size: int, what: str) -> None:
        act(self.world, what, pick, size)

    @rule(pick=PICK)
    def restart(self, pick: int) -> None:
        act(self.world, "restart", pick, 0)

    @precondition(lambda self: self.world.gate_open)
    @rule(pick=PICK)
    def disconnect(self, pick: int) -> None:
        act(self.world, "disconnect", pick, 0)

    @precondition(lambda self: not self.world.gate_open)
    @rule()
    def reconnect(self) -> None:
        act(self.world, "reconnect", 0, 0)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.heal()


TestHostile = Hostile.TestCase
TestHostile.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("block", range(4))
def test_every_seed_ends_closed_covered_or_paged_though_days_end_unseen(block: int) -> None:
    seeds = range(block * 75, (block + 1) * 75)
    assert sum(bool(run(seed, midnights=True).unseen) for seed in seeds) > 5


@pytest.mark.parametrize("block", range(6))
def test_every_seed_ends_closed_covered_or_paged(block: int) -> None:
    for seed in range(block * 150, (block + 1) * 150):
        run(seed)
