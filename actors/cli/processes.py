"""Child processes of the command line: they start with a promise to die with their parent.

Law: no process outlives the one that started it, whatever happened to that one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PARENT = "BRACKETEER_PARENT"
"""Environment variable: the pid with which this process is to live and die."""

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "run.py"
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; end at once if that has happened already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        os._exit(1)


def obey_parent() -> None:
    """Keep the promise that `spawn` made for this process, if it did."""
    parent = os.environ.pop(PARENT, "")
    if parent.isdigit():
        die_with_parent(int(parent))


def spawn(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start `run.py ARGUMENTS` as a process of its own that dies with this one. Call it from the main thread: the
    kernel counts the thread that forked as the parent."""
    environment = {**os.environ, PARENT: str(os.getpid())}
    # A group of its own: Ctrl-C goes to the foreground process, which ends its children in order.
    return subprocess.Popen(
        [sys.executable, str(RUN), *arguments], env=environment, start_new_session=True, **options
    )  # fmt: skip


def end(process: subprocess.Popen[bytes] | None, seconds: float = 5.0) -> int | None:
    """Ask a child to end, wait, and kill it if it does not. Returns its exit code."""
    if process is None:
        return None
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode
