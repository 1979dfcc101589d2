"""docs/requirements.md names a test for every row of the first issue, and each of those tests is there."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "requirements.md").read_text()
LINES = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("|") and "`" in line]
NAMED = sorted({pair for _, shown in LINES for pair in re.findall(r"`([\w/.]+)::(\w+)`", shown)})
ROWS = {
    "D": range(1, 10), "000.P": (1, 2), "000.C": range(1, 5), "000.T": range(1, 6), "000.O": range(1, 8),
    "000.S": (1, 2, 3), "000.X": range(1, 5), "000.E": range(1, 6), "000.F": (1,), "000.D": (1, 2), "000.U": (1, 2),
    "001.B": (1, 5, 7), "001.E": (1, 2, 3, 4, 10, 12, 13, 15), "001.H": range(1, 8), "003.L": (1, 4, 5, 6),
    "003.T": (*range(1, 9), 13), "003.A": range(1, 6),
}  # fmt: skip


@cache
def functions(path: str) -> frozenset[str]:
    """Return the names of all functions of a file, or for `R` of all files of that name."""
    files = (ROOT / "tests" / "e2e").glob("test_requirements_*.py") if path == "R" else [ROOT / path]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return frozenset(node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in functions(path)


@pytest.mark.parametrize("row", [f"{topic}.{number}" for topic, numbers in ROWS.items() for number in numbers])
def test_a_row_names_what_shows_it(row: str) -> None:
    (shown,) = [shown for first, shown in LINES if first.strip() == row]
    assert re.findall(r"`[\w/.]+::test_\w+`", shown)


def test_the_packages_of_the_design_card_are_there() -> None:
    """D.1: named in setup.cfg and importable."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = re.findall(r"^([\w-]+)", config["options"]["install_requires"], re.M)
    card = {"thespian", "ib_insync", "peewee", "psycopg2-binary", "loguru", "pytest"}
    assert card <= set(wanted)
    for name in card:
        importlib.import_module(name.removesuffix("-binary"))
