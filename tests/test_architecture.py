"""The shape of the house: which way arrows point, what a room may hold, what a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for top in ("messages", "actors", "storage")
    for path in (ROOT / top).rglob("*.py")
    if "__pycache__" not in path.parts
)
LIBRARY = ("ib_insync", "ib_async")
IMPURE = ("thespian", "peewee", "ib_insync", "ib_async", "loguru", "random", "secrets", "uuid", "socket", "asyncio")
LONGEST_FILE = 500
"""Lines. The habit is 400; what is above it for a reason stays below this."""


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports, at its top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_dependencies_point_one_way(path: Path) -> None:
    place, used = name_of(path), imports(path)
    if place.startswith("messages/"):
        forbidden: tuple[str, ...] = ("actors", "storage", "tests", "run")
    elif place.startswith("actors/rules/"):
        allowed = ("actors.rules", "messages")
        wrong = {
            name for name in used if within(name, ("actors", "storage", "tests", "run")) and not within(name, allowed)
        }
        assert not wrong, f"{place} imports {wrong}; rules know rules and messages only"
        assert not {name for name in used if within(name, IMPURE)}, f"{place} is not pure"
        return
    elif place.startswith("storage/"):
        forbidden = ("actors", "tests", "run")
    else:
        forbidden = ("tests", "run")
    assert not {name for name in used if within(name, forbidden)}, place


def test_only_the_adapter_knows_the_venues_library() -> None:
    users = {name_of(path) for path in FILES if any(within(name, LIBRARY) for name in imports(path))}
    assert users <= {"actors/venue/ib.py"}, users


def test_rules_read_no_clock() -> None:
    for path in FILES:
        if "actors/rules" in name_of(path):
            text = path.read_text()
            assert not re.search(r"\btime\.(time|monotonic|sleep)\b|datetime\.now|utcnow", text), name_of(path)


def test_only_the_storage_room_knows_the_models() -> None:
    users = {
        name_of(path)
        for path in FILES
        if any(within(name, ("peewee", "playhouse", "psycopg2")) for name in imports(path))
    }
    assert all(user.startswith("storage/") for user in users), users


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_about_one_thing_and_says_which(path: Path) -> None:
    text = path.read_text()
    if path.name == "__init__.py":
        assert not text.strip(), f"{name_of(path)} must be empty: importing a rule must load nothing else"
        return
    assert ast.get_docstring(ast.parse(text)), f"{name_of(path)} does not say what it is"
    assert len(text.splitlines()) <= LONGEST_FILE, f"{name_of(path)} is about more than one thing"


def test_the_top_level_is_the_design_cards() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    ).stdout.splitlines()
    if not listed:
        pytest.skip("not a git checkout: nothing is listed")
    tops = {line.split("/")[0] for line in listed}
    assert {"actors", "messages", "storage", "tests", "run.py", "setup.cfg", "README.md"} <= tops
    beside = {
        ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "bracketeer.example.toml", "deploy", "docs",
        "pyproject.toml", "MANIFEST.in",
    }  # fmt: skip
    rivals = tops - beside - {"actors", "messages", "storage", "tests", "run.py", "setup.cfg", "README.md"}
    assert not rivals, rivals


def test_no_file_names_this_machine_or_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    ).stdout.splitlines()
    marks = ("/work" + "/main", "/root" + "/", "pypi" + ".org", "index" + "-url", "/opt" + "/pypi")
    for line in listed:
        path = ROOT / line
        if path.suffix in (".py", ".md", ".cfg", ".toml", ".json", "") and path.is_file():
            text = path.read_text(errors="replace")
            assert not [mark for mark in marks if mark in text], line


def test_every_message_class_has_a_name_of_its_own() -> None:
    names: dict[str, str] = {}
    for path in (ROOT / "messages").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                assert node.name not in names, f"{node.name} in {path.name} and {names[node.name]}"
                names[node.name] = path.name
