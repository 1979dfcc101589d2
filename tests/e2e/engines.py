"""Real processes for the end-to-end tests: the command line, a gateway, an engine; and proof that none is left."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actors.venue.simulator.journal import read_journal
from actors.venue.simulator.journal_checks import violations

ROOT = Path(__file__).resolve().parents[2]
RUN = str(ROOT / "run.py")
MARK = "BRACKETEER_TEST_MARK"
PATIENCE_S = 45.0
"""How long a test waits for what comes at once: on a machine that is busy with other things, not on a quiet one."""


def environment(mark: str) -> dict[str, str]:
    """Return an environment that marks a process and all that it starts."""
    return {**os.environ, MARK: mark, "COLUMNS": "140"}


def cli(
    *arguments: str, mark: str = "", stdin: str | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, RUN, *arguments], env=environment(mark or "cli"), input=stdin, capture_output=True, text=True,
        timeout=timeout, cwd="/",
    )  # fmt: skip


def marked(mark: str) -> list[int]:
    """Return the pids of all living processes that carry a mark."""
    needle, found = f"{MARK}={mark}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE_S, what: str = "the condition") -> Any:
    """Return the first true value of a condition; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


class Process:
    """A command that goes on: its JSON lines are its answers."""

    def __init__(self, *arguments: str) -> None:
        self.mark = uuid.uuid4().hex
        self.popen = subprocess.Popen(
            [sys.executable, RUN, *arguments], env=environment(self.mark), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd="/",
        )  # fmt: skip
        self._rest = b""
        self._lines: list[bytes] = []

    def event(self, name: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """Return the next JSON line that tells this event."""
        assert self.popen.stdout is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            while self._lines:
                told = json.loads(self._lines.pop(0))
                if told.get("event") == name or told.get("type") == name:
                    return told
            if select.select([self.popen.stdout], [], [], 0.1)[0]:
                data = self.popen.stdout.read1(65_536)  # type: ignore[union-attr]
                if not data:
                    assert self.popen.stderr is not None
                    raise AssertionError(f"ended with {self.popen.wait()}: {self.popen.stderr.read().decode()}")
                *lines, self._rest = (self._rest + data).split(b"\n")
                self._lines += [line for line in lines if line.startswith(b"{")]
        raise AssertionError(f"no {name!r} within {seconds} s")

    def end(self, number: int = signal.SIGTERM, seconds: float = PATIENCE_S) -> int:
        """Send a signal, and return the exit code once nothing that it started is left."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        code = self.popen.wait(seconds)
        wait_for(lambda: not marked(self.mark), what=f"the end of {marked(self.mark)}")
        for stream in (self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()
        return code


class Service:
    """A simulated gateway and an engine on it, in a folder. `through` may put something between them, by port."""

    def __init__(
        self, folder: Path, *options: str, scenario: str | None = None, market: Sequence[str] = (),
        through: Callable[[int], int] = lambda port: port,
    ) -> None:  # fmt: skip
        self.state = str(folder / "state")
        self.journal = folder / "gateway.jsonl"
        story = ["--scenario", scenario] if scenario else market
        self.gateway = Process("gateway", "--port", "0", "--journal", str(self.journal), "--json", *story)
        self.engine: Process | None = None
        self.options = options
        try:
            self.port = through(self.gateway.event("listening")["port"])
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """Start the engine and wait until it is ready."""
        self.engine = Process("start", "--gateway", f"127.0.0.1:{self.port}", "--state", self.state, "--http",
                              "127.0.0.1:0", "--json", *self.options)  # fmt: skip
        return self.engine.event("ready", seconds)

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return cli(*arguments, "--state", self.state, **options)

    def json(self, *arguments: str, code: int = 0, **options: Any) -> Any:
        """Run a command with --json and return what it printed."""
        done = self.cli(*arguments, "--json", **options)
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def stop(self) -> None:
        """End both, and hold what was played against the rules that hold of every journal."""
        try:
            if self.engine is not None and self.engine.popen.poll() is None:
                self.engine.end()
        except subprocess.TimeoutExpired:
            assert self.engine is not None
            self.engine.end(signal.SIGKILL)  # the test fails all the same, and leaves nothing behind
            raise
        finally:
            if self.gateway.popen.poll() is None:
                self.gateway.end()
        assert violations(read_journal(self.journal), native="--no-oca-native" not in self.options) == []
