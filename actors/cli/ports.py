"""Who holds a port of this machine, where Linux lets us know.

Law: it only reads /proc; where that says nothing (another system, another user's process) the answer is empty.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

LISTENING = "0A"


def holder(port: int) -> str:
    """Return `pid 4711 (python run.py gateway)` for the process that listens on this TCP port, or ''."""
    inodes = _listening(port)
    if not inodes:
        return ""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, inodes):
            with suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"pid {process.name} ({command[:80]})"
    return ""


def _listening(port: int) -> set[str]:
    """Return the socket inodes that listen on a port, of any user."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _holds(process: Path, inodes: set[str]) -> bool:
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                if (target := str(link.readlink())).startswith("socket:[") and target[8:-1] in inodes:
                    return True
    return False
