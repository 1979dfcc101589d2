"""The verb-and-code table: what each number means, and that no unknown one is ever taken for an end."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from actors.venue.ib_codes import TABLE, Verb, Verdict, judge

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("code", [103, 104, 105, 110, 201, 329, 10326, 10327])
def test_a_failed_amendment_never_ends_the_old_order(code):
    assert judge(Verb.MODIFY, code) is Verdict.AMEND_FAILED


@pytest.mark.parametrize("code", [161, 10147, 10148])
def test_a_failed_cancel_is_a_question(code):
    assert judge(Verb.CANCEL, code) is Verdict.CANCEL_QUESTION


@pytest.mark.parametrize(("code", "verdict"), [
    (110, Verdict.REJECTED), (201, Verdict.CHECK), (103, Verdict.ID_USED), (202, Verdict.CANCELED),
    (399, Verdict.WARNING), (10349, Verdict.WARNING), (2109, Verdict.WARNING), (2199, Verdict.WARNING),
])
def test_a_new_order(code, verdict):
    assert judge(Verb.NEW, code) is verdict


@pytest.mark.parametrize("verb", list(Verb))
def test_an_unknown_number_asks_the_venue(verb):
    assert judge(verb, 424242) is Verdict.CHECK


def test_nothing_but_202_ends_an_order_that_works():
    ends = {code for (verb, code), verdict in TABLE.items()
            if verb is Verb.WORKING and verdict in (Verdict.CANCELED, Verdict.REJECTED)}
    assert ends == {202}


def test_only_one_file_imports_a_library_of_the_venue():
    guilty = []
    for folder in ("actors", "messages", "storage"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name.split(".")[0] in ("ib_insync", "ib_async") for name in names):
                    guilty.append(str(path))
    assert guilty == []
    importers = [p for p in (ROOT / "actors").rglob("*.py") if "import_module(name)" in p.read_text()]
    assert [p.name for p in importers] == ["ib.py"]
