"""Each safety rule, turned off: the hostile venue must notice, or the rule is not tested (faults.md §4).

Rules that only rare seeds miss are not here; each has its named test in test_bracket_incidents.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.rules import bracket, cover, facts
from actors.rules.turn import Turn
from tests.rules.fuzz_bracket import run
from tests.rules.hostile_venue import Broken

SEEDS = 300


def nothing(*_: Any) -> None:
    return None


def old_shares(t: Turn) -> Any:
    """Shares without what other tranches closed too much, and without the excess bought back."""
    split = facts.legs.tranche_quantities(t.b.definition, t.b.definition.intent.quantity)
    if not split:
        return {0: t.b.bought}
    left, found = t.b.bought, {}
    for number, quantity in enumerate(split, 1):
        found[number] = left if number == len(split) else min(left, quantity)
        left -= found[number]
    return found


def never_told(t: Turn, order: Any) -> Any:
    """Forget a deferral: the order stays asked for."""
    t.set(gate_open=False)


Switch = tuple[Any, str, Any]
SWITCHES: dict[str, Switch] = {
    "overfills are watched": (cover, "watch_overfill", nothing),
    "lots shrink on corrections": (cover, "_shrink", nothing),
    "held exits are armed": (cover, "arm_tranche", nothing),
    "a lot whose orders are dead is closed": (cover, "_close_dead", nothing),
    "shares know of each other": (Turn, "shares", old_shares),
    "what the broker deferred is asked for again": (facts, "_note_deferred", never_told),
    "the picture is believed": (facts, "_see", nothing),
}


def survives(turn_off: Callable[[], None]) -> bool:
    """Whether no seed notices that a rule is off."""
    turn_off()
    for seed in range(SEEDS):
        try:
            run(seed)
        except (Broken, AttributeError, KeyError, bracket.IllegalMove):
            return False
    return True


@pytest.mark.parametrize("rule", SWITCHES)
def test_some_seed_notices_when_a_rule_is_turned_off(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, instead = SWITCHES[rule]
    assert not survives(lambda: monkeypatch.setattr(owner, name, instead))
