"""One engine per test, on either base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.host import EMBEDDED, ISOLATED, Host, ServiceSpec
from tests.contract.toys import ToySettings

FOREMAN = (ServiceSpec(name="foreman", actor="tests.contract.toys.Foreman"),)


class Engine:
    """A running host and the lines that its toys have written."""

    def __init__(self, base: str, folder: Path, services: tuple[ServiceSpec, ...], **options: Any) -> None:
        self.base = base
        self.folder = folder
        self.host = Host(ToySettings(state_dir=str(folder)), base=base, **options)
        self.host.start(services)
        assert self.host.run_until(lambda: self.host.started is not None), "the services did not start within 5 s"

    @property
    def isolated(self) -> bool:
        return self.base == ISOLATED

    def lines(self) -> list[str]:
        path = self.folder / "witness"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, line: str, times: int = 1, deadline: float = 5.0) -> None:
        """Turn the host until the line has been written so many times."""
        found = self.host.run_until(lambda: self.lines().count(line) >= times, deadline)
        assert found, f"{line!r} was not written {times} times; the lines are {self.lines()}"

    def settle(self) -> None:
        """Let everything that was said so far arrive: a question is answered after what was said before it."""
        from tests.contract.toys import WhoAreYou

        for _ in range(2):
            self.host.ask(WhoAreYou(), "foreman")


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
