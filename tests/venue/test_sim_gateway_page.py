"""What docs/gateway.md shows is what happens, and docs/gateway-switches.md is what the code says."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from actors.venue.simulator import scenario
from actors.venue.simulator.assembly import make_gateway
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.settings import GatewaySettings
from tests.e2e.engines import Process
from tests.venue.gateway_fixture import START_NS
from tests.venue.gateway_page import PAGE, page

pytestmark = pytest.mark.integration
TOLD = (Path(__file__).resolve().parents[2] / "docs" / "gateway.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TOLD, re.S)
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines() if line.strip()]
CLIENT, CONTROLLER, IN_PROCESS = (text for kind, text in BLOCKS if kind == "python")
STORY = next(text for kind, text in BLOCKS if kind == "toml")


def test_the_list_of_switches_is_what_the_code_says():
    assert PAGE.read_text() == page(), "run python -m tests.venue.gateway_page"


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.split("#")[0].removeprefix("python run.py ").strip())
def test_each_command_of_the_page_opens_a_port(line, tmp_path):
    words = shlex.split(line, comments=True)[2:]
    for option in ("--journal", "--state"):
        if option in words:
            words[words.index(option) + 1] = str(tmp_path / option.strip("-"))
    with running(*words) as listening:
        assert listening["port"] > 0


@pytest.fixture
def own_loop():
    """The page's client is a program of its own: it finds a loop, whatever the tests before it have left."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("own_loop")
def test_the_client_of_the_page_trades():
    with running("gateway") as listening:
        assert output_of(CLIENT.replace("4002", str(listening["port"]))) == "Filled 100.0\n"


def test_the_controller_of_the_page_is_obeyed():
    with running("gateway", "--control", "0") as listening:
        said = output_of(CONTROLLER, port=listening["control"], token=listening["token"])
        assert said == "[]\n"


def test_the_in_process_play_of_the_page_is_played():
    bid_below_ask, lines = output_of(IN_PROCESS).split()
    assert (bid_below_ask, int(lines) > 10) == ("True", True)


def test_the_story_of_the_page_can_be_played(tmp_path):
    file = tmp_path / "gap.toml"
    file.write_text(STORY)
    gateway = make_gateway(GatewaySettings(scenario=str(file)), Journal(keep=True), START_NS)
    assert gateway.advance(START_NS) is not None
    assert scenario.parse(STORY, "gap.toml").step[-1].fault is not None


@contextlib.contextmanager
def running(*words):
    process = Process(words[0], "--port", "0", "--json", *words[1:])
    try:
        yield process.event("listening")
    finally:
        process.end()


def output_of(code: str, **names) -> str:
    """Run a snippet as a fresh process would: with an event loop that no test before it has taken away."""
    said, loop = io.StringIO(), asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        with contextlib.redirect_stdout(said):
            exec(compile(code, "gateway.md", "exec"), dict(names))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return said.getvalue()
