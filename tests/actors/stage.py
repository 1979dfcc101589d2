"""A stage for one service: the real host and actor, and recorders in the place of the other services.

Time stands still unless a test moves it (`stage.pass_time`), so that no test sleeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.host import Host
from messages.base import Command, Message
from messages.settings import Settings
from messages.supervision import ServiceSpec, StartActor
from tests import builders

Kind = TypeVar("Kind")
RECORDER = "tests.actors.stage.Recorder"


class Say(Command, frozen=True, kw_only=True):
    """Have a recorder send a message as itself; the stage looks the address up."""

    to: Any
    what: Message


class Recorder(SupervisedActor):
    """Stands for a service: keeps what it hears, says what it is told to."""

    def on_start(self, start: StartActor) -> None:
        self.heard: list[Any] = []

    def receiveMsg_Say(self, message: Say, sender: ActorAddress) -> None:
        self.tell(message.to, message.what)

    def receiveUnrecognizedMessage(self, message: Any, sender: ActorAddress) -> None:
        self.heard.append(message)


class Stage:
    """The actor under test is the service `name`; every other service is a Recorder."""

    def __init__(self, folder: Path, name: str, actor: str, others: tuple[str, ...], settings: Settings | None) -> None:
        self.clock_ns = builders.NOW_NS
        self.monotonic_ns = 0
        self.host = Host(
            settings or builders.settings(system={"state_dir": str(folder), "log_level": "ERROR"}),
            clock=lambda: self.clock_ns, monotonic=lambda: self.monotonic_ns,
        )
        self.name = name
        specs = [ServiceSpec(name=other, actor=RECORDER) for other in others]
        self.host.start((*specs, ServiceSpec(name=name, actor=actor)))
        self.wait_for(lambda: self.host.started is not None)
        self._addresses = {each: self.host.address_of(each) for each in (*others, name)}
        self._recorders = {other: self.host.instance(other) for other in others}

    @property
    def actor(self) -> Any:
        """The living actor under test."""
        return self.host.instance(self.name)

    def wait_for(self, condition: Any, deadline: float = 30.0) -> None:
        assert self.host.run_until(condition, deadline), "it did not happen in time"

    def say(self, who: str, message: Message) -> None:
        """Have the recorder `who` say something to the actor under test, and let everything that follows happen."""
        self.post(who, message)
        self.settle()

    def post(self, who: str, message: Message) -> None:
        """Put it in the recorder's mailbox; nothing happens before the stage is settled."""
        self.host.tell(Say(to=self._addresses[self.name], what=message), self._addresses[who])

    def settle(self) -> None:
        """Turn until nobody has anything left to say."""
        engine = self.host._engine
        engine.turn(0)      # what the host said, and timers
        while engine.base._pendingSends:
            engine.turn(0)

    def heard(self, who: str, kind: type[Kind] = object) -> list[Kind]:  # type: ignore[assignment]
        return [message for message in self._recorders[who].heard if isinstance(message, kind)]

    def take(self, who: str, kind: type[Kind] = object) -> list[Kind]:  # type: ignore[assignment]
        """Return what `who` has heard of a kind, and forget everything that it has heard."""
        found = self.heard(who, kind)
        self._recorders[who].heard.clear()
        return found

    def pass_time(self, seconds: float) -> None:
        """Let time pass and every timer in it ring."""
        self.clock_ns += int(seconds * 1e9)
        self.monotonic_ns += int(seconds * 1e9)
        self.settle()


@contextmanager
def stage(
    folder: Path, name: str, actor: str, others: tuple[str, ...], settings: Settings | None = None
) -> Iterator[Stage]:
    made = Stage(folder, name, actor, others, settings)
    try:
        yield made
    finally:
        made.host.stop()
