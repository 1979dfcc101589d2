"""`make bench`: every benchmark, or the ones that are named; --quick for small sizes.

Run: python -m tests.benchmarks [trigger-book] [engine-ticks] [hops] [storage] [brackets] [wire] [gateway]
[--quick]
"""

from __future__ import annotations

import argparse
import time

from tests.benchmarks import (
    bench_brackets,
    bench_engine_ticks,
    bench_gateway,
    bench_hops,
    bench_storage,
    bench_trigger_book,
    bench_wire,
    machine,
)

BENCHES = {
    "trigger-book": bench_trigger_book.run,
    "engine-ticks": bench_engine_ticks.run,
    "hops": bench_hops.run,
    "storage": bench_storage.run,
    "brackets": bench_brackets.run,
    "wire": bench_wire.run,
    "gateway": bench_gateway.run,
}


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHES]:
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(BENCHES)}")
    say(machine.describe())
    for name in options.names or BENCHES:
        began = time.monotonic()
        say(f"\n== {name} ({machine.load()})")
        BENCHES[name](say, options.quick)
        say(f"   took {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
