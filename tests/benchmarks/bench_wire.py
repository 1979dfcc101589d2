"""From the tick to the order, timed at the gateway's socket: the engine, a 20-line ib_insync script, a raw socket.

Run: python -m tests.benchmarks wire. The gateway is this process on one core, the client another on the other core; the
contestants take turns, and what counts is the ratio of the medians of their runs. All exits are held: trailing stops in
the engine, a list of levels in the script; each fires once, as a market order of 100 shares.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from actors.host import EMBEDDED, ISOLATED
from tests.benchmarks import machine
from tests.benchmarks.peer import Peer
from tests.e2e.engines import ROOT, Process
from tests.e2e.flood import intent, over_socket

TOP = Decimal(100)
FIRST, STEP = Decimal("1.00"), Decimal("0.05")
"""How far the first exit lies below the top, and each further one below the one before."""
REST_S = 0.01
QUIET_S = 0.2
UNPACED = """[venue]
pacing = false
rate_per_s = 1e6
max_active_per_side = 1000000
max_queue = 100000
[system]
log_level = "INFO"
"""
NO_PACE = {"valid_for": "3600"}


def gateway_core() -> int:
    return machine.cores()[0]


def client_core() -> int:
    return machine.cores()[-1]


def levels(count: int) -> list[Decimal]:
    return [TOP - FIRST - STEP * number for number in range(count)]


def fire_all(peer: Peer, count: int, first: int = 0) -> list[float]:
    """Let the price fall through exits, one by one; return the microseconds of each that fired."""
    found = []
    for level in levels(first + count)[first:]:
        for _ in range(2):      # ordinary ticks come between
            peer.session.send_tick(peer.tick(level + STEP / 2))  # type: ignore[union-attr]
            peer.flush()
            time.sleep(REST_S)
        took = peer.fire(level)
        if took is not None:
            found.append(took)
        peer.serve_until_quiet(QUIET_S)
    if len(found) < count * 0.9:
        raise RuntimeError(f"only {len(found)} of {count} exits fired")
    return found


# -- the contestants -------------------------------------------------------------------------------------------


def run_script(count: int) -> list[float]:
    """Return the microseconds of the ib_insync script."""
    peer = Peer()
    program = _start("tests.benchmarks.wire_script", peer.port, TOP - FIRST, STEP, count)
    try:
        assert peer.serve(lambda: peer.session is not None and bool(peer.session.subscriptions), 30)
        peer.serve_until_quiet(0.3)
        return fire_all(peer, count)
    finally:
        peer.close()
        _end(program)


def run_floor(count: int) -> list[float]:
    """Return the microseconds of a blocking socket that answers with a frame made beforehand."""
    tick = b"\0\0\0\x2a99\x001\x002\x001770217200\x0099.05\x00100\x000\x00NASDAQ\x00\x00"
    found: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = _start("tests.benchmarks.wire_floor", listener.getsockname()[1])
        try:
            listener.settimeout(20)
            peer, _ = listener.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(count):
                    time.sleep(REST_S + QUIET_S)
                    began = time.perf_counter_ns()
                    peer.sendall(tick)
                    peer.recv(65_536)
                    found.append((time.perf_counter_ns() - began) / 1e3)
        finally:
            _end(program)
    return found


def run_engine(count: int, base: str = EMBEDDED) -> list[float]:
    """Return the microseconds of the engine as `run.py start` runs it."""
    with engine(count, base) as (peer, _):
        return fire_all(peer, count)


@contextmanager
def engine(count: int, base: str = EMBEDDED, resting: int = 0) -> Any:
    """Give a peer whose client is an engine with `count` trailing stops armed and `resting` entries that rest."""
    folder = Path(tempfile.mkdtemp(prefix="bracketeer-bench-"))
    (folder / "engine.toml").write_text(UNPACED)
    peer = Peer()
    made: list[Process] = []
    ready: list[dict[str, Any]] = []
    failed: list[BaseException] = []

    def prepare() -> None:
        try:
            machine.pin(client_core())
            made.append(
                Process("start", "--gateway", f"127.0.0.1:{peer.port}", "--state", str(folder / "state"), "--http",
                        "127.0.0.1:0", "--config", str(folder / "engine.toml"), "--base", base, "--json"))  # fmt: skip
            ready.append(made[0].event("ready", 60))
            _fill(str(folder / "state"), ready[0], count, resting)
        except BaseException as problem:
            failed.append(problem)

    builder = threading.Thread(target=prepare)
    builder.start()
    try:
        peer.serve(lambda: not builder.is_alive(), 600)
        builder.join()
        if failed:
            raise failed[0]
        peer.session.send_tick(peer.tick(TOP))  # type: ignore[union-attr]
        peer.flush()
        peer.serve_until_quiet(0.3)
        yield peer, ready[0]
    finally:
        if made:
            ending = threading.Thread(target=made[0].end, args=(signal.SIGTERM, 30))
            ending.start()
            peer.serve(lambda: not ending.is_alive(), 40)
            ending.join()
        peer.close()
        shutil.rmtree(folder, ignore_errors=True)


def _fill(state: str, ready: dict[str, Any], count: int, resting: int) -> None:
    """Open brackets and wait until every trailing stop is armed."""
    rest = [intent(f"rest-{number}", **NO_PACE) for number in range(resting)]
    held = [
        intent(f"held-{number}", order_type="MKT", limit_price=None, quantity="100",
               exits=[{"trailing_stop": {"amount": str(FIRST + STEP * number)}}])
        for number in range(count)
    ]  # fmt: skip
    answers = over_socket(state, rest + held, seconds=300)
    refused = [each.sentence for each in answers.values() if not each.accepted]
    if refused:
        raise RuntimeError(refused[0])
    ask = Asker(ready["url"])
    end = time.monotonic() + 180
    while True:
        services = ask("/v1/status")["services"]
        if services["market_data"]["armed"] >= count and not services["ledger"]["waiting"]:
            return
        if time.monotonic() > end:
            raise RuntimeError(f"not all of {count} exits were armed and noted in time")
        time.sleep(0.1)


class Asker:
    """One kept connection to the engine's HTTP process."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def __call__(self, path: str) -> Any:
        self._connection.request("GET", path, headers={"Host": "localhost"})
        return json.loads(self._connection.getresponse().read())


def _start(module: str, *arguments: object) -> subprocess.Popen[bytes]:
    machine.pin(client_core())
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    finally:
        machine.pin(gateway_core())


def _end(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    try:
        program.wait(5)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


# -- the poller ------------------------------------------------------------------------------------------------


def poll(url: str) -> None:
    """Read every bracket, page by page, again and again, as a busy dashboard might. A process of its own."""
    ask, pages = Asker(url), 0
    while True:
        before = ""
        while True:
            found = ask(f"/v1/brackets?limit=1000{before}")
            pages += 1
            print(pages, flush=True)
            if len(found) < 1_000:
                break
            before = f"&before={found[-1]['bracket_id']}"


def run_polled(count: int, resting: int) -> tuple[list[float], list[float], int]:
    """Return the microseconds of an engine with so many resting brackets, then while another process polls them all
    over HTTP, and how many pages of 1,000 it read meanwhile. The poller and the HTTP process may use every core."""
    with engine(2 * count, resting=resting) as (peer, ready):
        quiet = fire_all(peer, count)
        cores = set(machine.cores_at_start)
        for child in _children_of(ready["pid"]):
            os.sched_setaffinity(child, cores)
        poller = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bench_wire", "poll", ready["url"]], cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            os.sched_setaffinity(poller.pid, cores)
            assert poller.stdout is not None
            poller.stdout.readline()
            polled = fire_all(peer, count, first=count)
        finally:
            poller.kill()
            pages = len((poller.communicate(timeout=5)[0] or b"").splitlines())
        return quiet, polled, pages


def _children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# -- the table -------------------------------------------------------------------------------------------------

FLOOR, SCRIPT, EMBEDDED_ENGINE, ISOLATED_ENGINE = (
    "raw socket, frame made beforehand", "20 lines of ib_insync", "engine, embedded", "engine, isolated")  # fmt: skip


def run(say: machine.Say, quick: bool = False, rounds: int = 9, count: int = 12, resting: int = 10_000) -> None:
    """Print the table: the contestants take turns, one run each a round."""
    if quick:
        rounds, count, resting = 2, 6, 0
    if len(machine.cores()) < 2:
        say("trigger to wire: not measured, it takes two cores")
        return
    runs: dict[str, Callable[[int], list[float]]] = {
        FLOOR: run_floor, SCRIPT: run_script, EMBEDDED_ENGINE: run_engine}  # fmt: skip
    samples: dict[str, list[float]] = {name: [] for name in (*runs, ISOLATED_ENGINE)}
    say(f"trigger to wire at the gateway's socket, us; {rounds} alternating runs of {count} exits each, gateway on core"
        f" {gateway_core()}, client on core {client_core()}, {REST_S * 1e3:g} ms between ticks, {QUIET_S * 1e3:g} ms of"
        " quiet after each exit")  # fmt: skip
    machine.pin(gateway_core())
    try:
        for number in range(rounds):
            for name, one in runs.items():
                samples[name].append(machine.median(one(count)))
            if number < 3 and not quick:
                samples[ISOLATED_ENGINE].append(machine.median(run_engine(4, ISOLATED)))
        polled = run_polled(count, resting) if resting else None
    finally:
        machine.pin(*machine.cores_at_start)
    rows = []
    script = machine.median(samples[SCRIPT])
    for name, values in samples.items():
        if values:
            ratio = machine.median(values) / script
            rows.append([name, machine.spread(values), str(len(values)), f"{ratio:.2f}"])
    if polled is not None:
        quiet, loud, pages = polled
        for name, each in ((f"engine, embedded, beside {resting:,} resting brackets", quiet),
                           (f"the same while a process polls them over HTTP ({pages} pages read)", loud)):  # fmt: skip
            rows.append([name, machine.spread(each), "1 run", f"{machine.median(each) / script:.2f}"])
    machine.table(say, ["client", "median of the runs (least and most)", "runs", "over the script"], rows)
    ratio = machine.median(samples[EMBEDDED_ENGINE]) / script
    say(f"  embedded over the script: {ratio:.2f} (aim: at most 0.85); {machine.load()}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["poll"]:
        try:
            poll(sys.argv[2])
        except OSError:
            pass
    else:
        run(print)
