"""One client plays the session against a gateway of its own, and is judged.

Law: gateway and client are processes of their own; nothing is shared but the port, and the journal is read when both
have ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from actors.venue.simulator.journal import Line, read_journal
from actors.venue.simulator.settings import GatewaySettings
from tests.gateway_clients.environments import HERE, ROOT, Client, command
from tests.gateway_clients.judge import differences, passed
from tests.gateway_clients.neighbour import leave_rich_order
from tests.gateway_clients.relay import relay

CLIENT_TIMEOUT_S = 150.0
GATEWAY_TIMEOUT_S = 20.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one client's session."""

    client: str
    version: str = ""
    server_version: int = 0
    delivery: str = "plain"
    passed: int = 0
    steps: int = 0
    seconds: float = 0.0
    differences: list[str] = []
    left_out: list[str] = []
    """Which parts of the session were not played, and why."""


def session(leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the neutral session (session.toml), without the parts that are named."""
    told = tomllib.loads((HERE / "session.toml").read_text("utf-8"))
    return {**told, "step": [step for step in told["step"] if not set(step.get("parts", ())) & set(leave_out)]}


@contextmanager
def gateway(journal: Path, server_version: int, said: list[str]) -> Iterator[int]:
    """Run `run.py gateway` with the session's story and yield its port; what it complains of goes to `said`.

    In Python's development mode it says on stderr what it left open or never awaited (ib-wire.md 15.5).
    """
    with tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", str(ROOT / "run.py"), "gateway", "--port", "0", "--journal", str(journal),
             "--scenario", str(HERE / "story.toml"), "--server-version", str(server_version), "--json"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if line:
                yield json.loads(line)["port"]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(GATEWAY_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            process.stdout.close()
            stderr.seek(0)
            said += [f"the gateway's stderr: {text.rstrip()}" for text in stderr if text.strip()]
            if code:
                said.append(f"the gateway ended with {code}")


class Performance(msgspec.Struct, frozen=True):
    """One session that was played: the script, what the client says, what the gateway's journal says."""

    script: dict[str, Any]
    told: dict[str, Any]
    lines: list[Line]
    trouble: list[str]
    """What gateway and client processes complained of."""


def perform(client: Client, server_version: int, folder: Path | None = None, delivery: str = "plain",
            leave_out: tuple[str, ...] = ()) -> Performance:
    """Let one client play the session; `folder` is its environment, None this Python's own."""
    script = session((*leave_out, *(fault.part for fault in client.faults_at(server_version))))
    trouble: list[str] = []
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        journal = Path(scratch) / "journal.jsonl"
        with gateway(journal, server_version, trouble) as port, relay(port, delivery, client.whole_hello) as dialled:
            refused = "" if "rich" in leave_out else leave_rich_order(port, server_version)
            trouble += [refused] if refused else []
            told = drive(command(client, dialled, folder), script, trouble)
        return Performance(script, told, read_journal(journal), trouble)


def judged(played: Performance, server_version: int) -> list[str]:
    """Return every difference; none means that client and journal agree."""
    told = played.told
    if not told:
        return played.trouble or ["the client told nothing"]
    found = [*played.trouble, *differences(told, played.script, played.lines, GatewaySettings().cash)]
    if told["server_version"] != server_version:
        found.insert(0, f"server version {told['server_version']} was negotiated, not {server_version}")
    return found


def play(client: Client, server_version: int, folder: Path | None = None, delivery: str = "plain",
         leave_out: tuple[str, ...] = ()) -> Outcome:
    """Let one client play the session and judge it."""
    began = time.monotonic()
    played = perform(client, server_version, folder, delivery, leave_out)
    told, script = played.told, played.script
    unplayed = [f"{f.part} below server version {f.below}: {f.why}" for f in client.faults_at(server_version)]
    return Outcome(
        client=client.name, version=told.get("version", ""),
        server_version=told.get("server_version", server_version), delivery=delivery,
        passed=passed(told, script) if told else 0, steps=len(script["step"]), seconds=time.monotonic() - began,
        differences=judged(played, server_version), left_out=[*leave_out, *unplayed])


def drive(words: list[str], script: dict[str, Any], said: list[str]) -> dict[str, Any]:
    """Run a driver to its end and return its report; {} if it has none."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        done = subprocess.run(words, input=json.dumps(script, default=_plain), capture_output=True, text=True,
                              timeout=CLIENT_TIMEOUT_S, env=environment)
    except subprocess.TimeoutExpired:
        said.append(f"the client was not done in {CLIENT_TIMEOUT_S:.0f} s")
        return {}
    last = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
    if not last:
        tail = " | ".join(done.stderr.strip().splitlines()[-6:])
        said.append(f"the client ended with {done.returncode}: {tail}")
        return {}
    told: dict[str, Any] = json.loads(last[0])
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{value!r} has no place in a session")
