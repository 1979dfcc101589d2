"""Crashes at random: any story, any frame, either loss, both ways of groups, one to three times.

    python -m tests.e2e.fuzz_crash --runs 50 --seed 1

Law: a run is named by its seed alone, and is judged as in test_crash.py.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.crash import BRACKET, HUNDRED, PARTIAL, TARGET, TRAIL, TRAILED, Stage, crash, told
from tests.e2e.flood import intent
from tests.e2e.link import Loss, frame_number

BOTH = intent("crash", **HUNDRED, exits=[{"trailing_stop": {"amount": "2"}, "target": {"price": "120"}}])
HELD = intent("crash", **HUNDRED, exits=[{"stop": {"price": "98.5", "hold": "engine"}, "target": {"price": "120"}}])
TRANCHES = intent("crash", **HUNDRED, exits=[
    {"quantity": "60", "target": {"price": "110"}, "stop": {"price": "95"}},
    {"quantity": "40", "target": {"price": "110"}, "stop": {"price": "94"}}])  # fmt: skip
STORIES = {
    "target": (TARGET, BRACKET, False), "partial": (PARTIAL, BRACKET, False), "trail": (TRAIL, TRAILED, True),
    "trail+target": (TRAIL, BOTH, True), "held": (TRAIL, HELD, True), "tranches": (TARGET, TRANCHES, False),
    "partial-tranches": (PARTIAL, TRANCHES, False),
}  # fmt: skip


def run(seed: int) -> str:
    """Play one run; return what is wrong, or nothing."""
    chance = random.Random(seed)
    name = chance.choice(list(STORIES))
    scenario, what, trail = STORIES[name]
    groups = chance.choice(["--oca-native", "--no-oca-native"])
    library = chance.choice(["ib_insync", "ib_async"])
    counts = [chance.randint(1, 3)] + [chance.randint(1, 4) for _ in range(chance.choice([0, 0, 1, 2]))]
    rules = [(frame_number(count), chance.choice(list(Loss))) for count in counts]
    words = ", ".join(f"{count} {loss.name.lower()}" for count, (_, loss) in zip(counts, rules, strict=True))
    title = f"seed {seed}: {name} {groups} {library} [{words}]"
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bracketeer-crash-") as folder:
        stage = Stage(Path(folder), scenario, groups, "--library", library)
        try:
            bracket_id, verdict = crash(stage, what, rules, cue_first=chance.random() < 0.7, trail=trail,
                                        patience=3)  # fmt: skip
            good = (verdict.twice, verdict.lowest, verdict.position, verdict.working) == ([], 0, 0, {})
            story = "" if good else f"{verdict}\n{told(stage, bracket_id)}"
        except Exception as problem:
            story = f"{type(problem).__name__}: {problem}"
        finally:
            stage.stop()
    print(f"{'FAIL' if story else 'ok  '} {title} {time.monotonic() - began:.1f} s", flush=True)
    return f"{title}\n{story}\n" if story else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.fuzz_crash", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=3)
    options = parser.parse_args()
    with ThreadPoolExecutor(options.at_once) as pool:
        wrong = [said for said in pool.map(run, range(options.seed, options.seed + options.runs)) if said]
    print("\n".join(wrong))
    print(f"{options.runs - len(wrong)} of {options.runs} as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
