"""Kill the engine right after acknowledged submits, again and again: none may be missing, none transmitted twice.

    python -m tests.e2e.kill --times 10 --submits 2000

Law: judged by the database file (read while no engine lives), by the gateway's journal, and by what a restarted engine
answers to the same signals; never by the memory of the engine that was killed.

Pacing is lifted by configuration (`venue.pacing = false`), so that half of the entries are at the venue, some on the
wire and the rest not yet written when the signal comes; with --paced the engine keeps to 40 messages a second, so that
nearly all of them are only on disk.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.venue.simulator.journal import executions, placements, read_journal
from tests.e2e.engines import Service, wait_for
from tests.e2e.flood import Answers, intent, over_http, over_socket

UNPACED = """[venue]
pacing = false
rate_per_s = 1e6
max_active_per_side = 1000000
"""
PACED = "[venue]\nmax_active_per_side = 1000000\n"
"""Only the cap of active orders is lifted: one instrument is enough for all."""


@dataclass
class Round:
    """What one kill showed. Seconds, and acknowledgements a second."""

    acknowledged: int
    acks_per_s: float
    placed_at_kill: int
    ready_s: float
    all_placed_s: float | None
    missing: int
    doubled: int

    @property
    def good(self) -> bool:
        return not self.missing and not self.doubled


def config(folder: Path, text: str) -> str:
    """Write a settings file; return its path."""
    file = folder / "engine.toml"
    file.write_text(text)
    return str(file)


def in_database(state: str) -> set[str]:
    """Return the ids of all brackets whose definition is on disk."""
    with closing(sqlite3.connect(f"file:{Path(state) / 'bracketeer.db'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT bracket_id FROM events WHERE type = 'BracketOpened'")
        return {row[0] for row in rows}


def times_placed(journal: Path) -> Counter[str]:
    """Return how often each row `<bracket>.<leg>` reached the gateway as a new order, under whatever number."""
    return Counter(".".join(line["orderRef"].split(".")[:2]) for line in placements(read_journal(journal)))


def kill_once(service: Service, intents: list[dict[str, Any]], http: bool = False, complete: bool = True) -> Round:
    """Submit, kill at the last acknowledgement, start again, and judge. `complete`: wait until every entry was sent."""
    assert service.engine is not None
    began = time.monotonic()
    answers: Answers = (over_http if http else over_socket)(service.state, intents)
    acked_s = time.monotonic() - began
    service.engine.popen.send_signal(signal.SIGKILL)
    accepted = {key: each.bracket_id or "" for key, each in answers.items() if each.accepted}
    assert len(accepted) == len(intents), Counter(each.code for each in answers.values())
    service.engine.end(signal.SIGKILL)  # and nothing that it started is left

    missing = set(accepted.values()) - in_database(service.state)
    at_kill = times_placed(service.journal)
    began = time.monotonic()
    service.start(seconds=120)
    ready_s = time.monotonic() - began
    again = over_socket(service.state, intents)
    known = {key: each.bracket_id for key, each in again.items() if each.code == "known"}
    missing |= {bracket for key, bracket in accepted.items() if known.get(key) != bracket}
    entries = {f"{bracket}.entry" for bracket in accepted.values()}
    all_s = None
    if complete:
        wait_for(lambda: entries <= times_placed(service.journal).keys(), 60, "the transmission of every entry")
        all_s = time.monotonic() - began
    placed = times_placed(service.journal)
    return Round(
        len(accepted), len(accepted) / acked_s, sum(at_kill[entry] for entry in entries), ready_s, all_s, len(missing),
        sum(count > 1 for count in placed.values()),
    )  # fmt: skip


def kills(
    folder: Path, times: int, submits: int, http: bool = False, paced: bool = False, fresh: bool = False
) -> list[Round]:
    """Kill an engine so many times: in one state folder, which grows all the while, or each time in a fresh one."""
    rounds: list[Round] = []
    while len(rounds) < times:
        home = folder / str(len(rounds))
        home.mkdir()
        service = Service(home, "--config", config(home, PACED if paced else UNPACED))
        try:
            for _ in range(1 if fresh else times):
                # A paced entry must still be valid when the last kill is over, or it is rightly not sent.
                intents = [intent(f"kill-{len(rounds)}-{at}", valid_for="3600") for at in range(submits)]
                rounds.append(kill_once(service, intents, http, complete=not paced))
            assert not executions(read_journal(service.journal))  # they rest: nothing here is decided by a fill
        finally:
            service.stop()
    return rounds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.kill", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--submits", type=int, default=2000)
    parser.add_argument("--http", action="store_true", help="submit over HTTP instead of the Unix socket")
    parser.add_argument("--grow", action="store_true", help="one state folder for all, instead of a fresh one each")
    parser.add_argument("--paced", action="store_true", help="keep to the ordinary 40 messages a second")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bracketeer-kill-"))
    try:
        rounds = kills(folder, options.times, options.submits, options.http, options.paced, not options.grow)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("kill  acknowledged  acks/s  at the venue then  ready again s  all sent s  missing  twice")
    for number, each in enumerate(rounds, 1):
        sent = f"{each.all_placed_s:10.2f}" if each.all_placed_s is not None else "         -"
        print(f"{number:4}  {each.acknowledged:12}  {each.acks_per_s:6.0f}  {each.placed_at_kill:17}"
              f"  {each.ready_s:13.2f}  {sent}  {each.missing:7}  {each.doubled:5}")  # fmt: skip
    print(f"median: {statistics.median(each.acks_per_s for each in rounds):.0f} acknowledged submits a second,"
          f" ready again after {statistics.median(each.ready_s for each in rounds):.2f} s;"
          f" missing {sum(each.missing for each in rounds)}, twice {max(each.doubled for each in rounds)}")  # fmt: skip
    return 0 if all(each.good for each in rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
