"""Two engines for all tests of requirements: one with native groups and one without, each on a market moved by hand.

Law: every test takes instruments of its own; at the end the whole journal of each is held against the trading rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.venue.simulator.journal import placements
from actors.venue.simulator.journal_checks import violations
from tests.e2e.playground import Playground


@pytest.fixture(scope="package")
def native(tmp_path_factory):
    """IB shares quantities among the members of a group."""
    with playground(tmp_path_factory.mktemp("native")) as made:
        yield made


@pytest.fixture(scope="package")
def ours(tmp_path_factory):
    """The engine shares quantities itself (oca.native = false), as the source documents have it."""
    with playground(tmp_path_factory.mktemp("ours"), "--no-oca-native") as made:
        yield made


@contextmanager
def playground(folder: Path, *options: str) -> Iterator[Playground]:
    """Play, end the engine, and judge the journal."""
    made = Playground(folder, *options)
    try:
        yield made
        rows = [row["row_id"] for row in made.client.orders(full=True)]
    finally:
        made.stop()
    assert violations(made.lines, native=not options, rows=rows) == []
    assert len({line["orderId"] for line in placements(made.lines)}) == len(placements(made.lines))
