"""What a figure was measured on, and how figures are laid out.

Law: no figure without the load beside it; times are compared only with times of the same run, by ratios of medians.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib.metadata import version

Say = Callable[[str], None]


def cores() -> list[int]:
    """Return the cores that this process may use; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


cores_at_start = cores()
"""What this process may use when nothing is pinned."""


def pin(*wanted: int) -> None:
    """Keep the calling thread, and what it starts, on these cores."""
    if hasattr(os, "sched_setaffinity") and wanted:
        os.sched_setaffinity(0, set(wanted))


def load() -> str:
    """Return the load average as it is now."""
    return "load " + " ".join(f"{each:.1f}" for each in os.getloadavg())


def describe() -> str:
    """Return the machine in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in ("thespian", "ib_insync", "msgspec"))
    return (
        f"{len(cores())} cores, {memory:.0f} GB, {platform.machine()}, Python {platform.python_version()}, {libraries};"
        f" {load()}"
    )


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median of some runs with the least and the most of them."""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def table(say: Say, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns: words to the left, figures to the right."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        cells = [cell.ljust(width) if not at else cell.rjust(width)
                 for at, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        say("  " + "  ".join(cells).rstrip())
