"""Fuzz the bracket's rules for as long as one likes: `python -m tests.rules.fuzz_bracket --minutes 10 [--seed N]`.

A failing seed is printed with the command that replays it and the tail of its trace.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback

from actors.rules.bracket_state import Policy
from tests.rules.hostile_venue import ACTIONS, NAMES, Setup, World, act, definition


def setup_of(dice: random.Random) -> Setup:
    """Draw what may go wrong; each thing is left out half the time."""
    return Setup(
        definition=definition(dice.choice(NAMES), dice.random() < 0.6),
        policy=Policy(
            exit_race=dice.choice(("safe", "safe", "fast")), human_cancel=dice.choice(("freeze", "reprotect")),
            reprotect_max=dice.choice((2, 6)),
        ),
        gate=dice.random() < 0.6, honest_oca=dice.random() < 0.7, races=dice.random() < 0.2,
        late_fills=dice.random() < 0.3, corrections=dice.random() < 0.3,
    )


def run(seed: int, moves: int = 120, midnights: bool = False) -> World:
    """Play one seed to its end; raises with its trace among the error's notes. `midnights`: entries vanish unheard."""
    dice = random.Random(seed)
    world = World(setup_of(dice))
    on = [name for name, _ in ACTIONS if name in ("deliver", "fill", "ack", "reconnect") or dice.random() < 0.6]
    weights = [weight for name, weight in ACTIONS if name in on]
    if midnights:
        on, weights = [*on, "midnight"], [*weights, 4]
    try:
        known = (*["deliver"] * 3, "condition", *["deliver"] * 5, "ack", *["deliver"] * 3)
        for name in known if midnights else ():
            act(world, name, 0, 0)  # an entry that works, and is known to
        for _ in range(dice.randrange(moves)):
            act(world, dice.choices(on, weights)[0], dice.randrange(1000), dice.randrange(1000))
        world.heal()
    except Exception as error:
        error.add_note("\n".join([repr(world.setup.policy), str({
            key: getattr(world.setup, key) for key in ("gate", "honest_oca", "races", "late_fills", "corrections")
        }), f"native={world.native} strict={world.strict}", *world.trace[-60:]]))
        raise
    return world


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="play this one seed only")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep-going", action="store_true", help="count failures by their sentence")
    chosen = parser.parse_args()
    seeds, until, seed = 0, time.monotonic() + chosen.minutes * 60, chosen.first
    failures: dict[str, list[int]] = {}
    while time.monotonic() < until:
        seed = chosen.seed if chosen.seed is not None else seed
        try:
            run(seed)
        except Exception as error:
            if not chosen.keep_going:
                traceback.print_exc()
                print(f"{type(error).__name__}: {error}")
                print(f"replay: python -m tests.rules.fuzz_bracket --seed {seed}")
                return 1
            words = f"{type(error).__name__}: {error}"
            failures.setdefault("".join(c for c in words if not c.isdigit())[:60], []).append(seed)
        if chosen.seed is not None:
            return 0
        seeds, seed = seeds + 1, seed + 1
    print(f"{seeds} seeds, {sum(map(len, failures.values()))} failures")
    for words, bad in sorted(failures.items(), key=lambda item: -len(item[1])):
        print(f"{len(bad):6} {words}  e.g. {bad[:5]}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
