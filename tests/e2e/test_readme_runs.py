"""What the README shows is what happens: its "Use" commands in order, then its Python, on one engine of their own."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from tests.e2e.engines import Process, cli

pytestmark = pytest.mark.integration
README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
USE = README.split("## Use", 1)[1]
LINES = [shlex.split(line)[2:] for line in re.search(r"```\n(.*?)```", USE, re.S).group(1).splitlines() if line.strip()]
PYTHON = re.search(r"```python\n(.*?)```", USE, re.S).group(1)


def test_the_use_of_the_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """The commands as shown, but for ports (any free one), folder and the waiting for readiness."""
    assert [line[0] for line in LINES[:2]] == ["gateway", "start"]
    gateway_line, start_line, *rest = LINES
    gateway_line[gateway_line.index("--port") + 1] = "0"
    gateway_line[gateway_line.index("--journal") + 1] = str(tmp_path / "gateway.jsonl")
    gateway = Process(*gateway_line, "--json")
    engine = None
    state = str(tmp_path / "state")
    try:
        port = gateway.event("listening")["port"]
        start_line[start_line.index("--gateway") + 1] = f"127.0.0.1:{port}"
        engine = Process(*start_line, "--state", state, "--http", "127.0.0.1:0", "--json")
        engine.event("ready")
        for line in rest:
            done = cli(*line, "--state", state)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(PYTHON.replace('"state"', repr(state)), "README.md", "exec"), {})
        assert re.fullmatch(r"B\d+-\w+\n", said.getvalue())
    finally:
        for process in (engine, gateway):
            if process is not None:
                process.end()
