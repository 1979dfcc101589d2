"""One engine per test, on either base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.host import EMBEDDED, ISOLATED, Host, ServiceSpec
from messages.base import Message
from tests.contract.toys import ToySettings

FOREMAN = (ServiceSpec(name="foreman", actor="tests.contract.toys.Foreman"),)
DEADLINE_S = 30.0
"""For what comes within milliseconds on a machine with nothing else to do."""


class Engine:
    """A running host and the lines that its toys have written."""

    def __init__(self, base: str, folder: Path, services: tuple[ServiceSpec, ...], **options: Any) -> None:
        self.base = base
        self.folder = folder
        self.host = Host(ToySettings(state_dir=str(folder)), base=base, **options)
        self.host.start(services)
        self.until(lambda: self.host.started is not None, "the start of the services")

    @property
    def isolated(self) -> bool:
        return self.base == ISOLATED

    def lines(self) -> list[str]:
        path = self.folder / "witness"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Turn the host until the condition holds."""
        assert self.host.run_until(condition, DEADLINE_S), f"{what} did not come within {DEADLINE_S} s"

    def wait_for(self, line: str, times: int = 1) -> None:
        """Turn the host until the line has been written so many times."""
        found = self.host.run_until(lambda: self.lines().count(line) >= times, DEADLINE_S)
        assert found, f"{line!r} was not written {times} times; the lines are {self.lines()}"

    def ask(self, message: Message, to: str | None = None) -> Any:
        """Ask an actor and return its answer."""
        return self.host.ask(message, to, timeout=DEADLINE_S)

    def settle(self) -> None:
        """Let everything that was said so far arrive: a question is answered after what was said before it."""
        from tests.contract.toys import WhoAreYou

        for _ in range(2):
            assert self.ask(WhoAreYou(), "foreman") is not None


@pytest.fixture(params=[EMBEDDED, ISOLATED], ids=["embedded", "isolated"])
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def make(base: str, services: tuple[ServiceSpec, ...] = FOREMAN, **options: Any) -> Engine:
        engine = Engine(base, tmp_path, services, **options)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.host.stop()
        if engine.isolated:
            assert engine.host._engine.gone, "a process of the engine is left"


@pytest.fixture
def engine(base: str, make_engine: Callable[..., Engine]) -> Engine:
    return make_engine(base)
