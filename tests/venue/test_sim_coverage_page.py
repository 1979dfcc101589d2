"""docs/gateway-coverage.md names a test for every section of the specification, and each of those tests is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from actors.venue.simulator.faults.kinds import KINDS
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.settings import GatewaySettings

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gateway-coverage.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/.]+)::(\w+)`", PAGE)))
WORDS = {*ExchangeRules.__struct_fields__, *GatewaySettings.__struct_fields__, *KINDS}


@cache
def functions(path: str) -> frozenset[str]:
    """Return the names of all functions of a file; a bare word is one of the simulator's test files."""
    file = ROOT / path if "/" in path else ROOT / "tests" / "venue" / f"test_sim_{path}.py"
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_the_tests_that_are_named_exist(path: str) -> None:
    assert {name for where, name in NAMED if where == path and name != "test_x"} <= functions(path)


def test_every_section_is_there_and_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (?!-)", line)]
    assert [row for row in rows if "::" not in row and "see 4.1" not in row and " shown by |" not in row] == []
    titles = " ".join(line for line in PAGE.splitlines() if line.startswith("#") or re.match(r"\| \d", line))
    for section in ("1", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15.2", "15.8"):
        assert re.search(rf"(?<![\d.]){re.escape(section)}(?![\d])", titles), section


def test_every_switch_that_is_named_exists() -> None:
    named = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)(?: = \w+)?`", PAGE)) - {"worked_plainly"}
    assert named
    assert named <= WORDS
