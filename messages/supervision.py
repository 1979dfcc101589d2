"""What actors say to one another about being alive: start, stop, failure, heartbeat and timers.

Law: whoever speaks of an actor names its incarnation, because an old leg may still be alive when its successor acts.
Addresses are opaque (`Any`): Thespian's are unhashable and their text changes, so nothing is keyed by one.
"""

from __future__ import annotations

from typing import Any

from messages.base import Command, Event, Record


class ServiceSpec(Record, frozen=True, kw_only=True):
    """One service actor that the root supervisor keeps alive.

    `actor` is a dotted class path ("actors.ledger.Ledger"), because the isolated base creates actors by name.
    When the restart budget of a vital service is spent, the engine ends; for any other one there is a page in the log.
    """

    name: str
    actor: str
    spec: Any = None
    vital: bool = True


class RootSpec(Record, frozen=True, kw_only=True):
    """What the root supervisor is built from: the services in their order of starting.

    `launcher_pidfd` becomes readable when the process that launched the engine has ended; None in the embedded base.
    """

    services: tuple[ServiceSpec, ...]
    launcher_pidfd: int | None = None


class StartActor(Command, frozen=True, kw_only=True):
    """The first message of every actor: who it is and what it was built from. Its sender is the supervisor."""

    name: str
    incarnation: int
    epoch: int
    settings: Any
    spec: Any = None


class Directory(Command, frozen=True, kw_only=True):
    """Addresses of the service actors by name; a service that is being restarted is absent meanwhile."""

    services: dict[str, Any]


class StopActor(Command, frozen=True, kw_only=True):
    """End in an orderly way: release what is held, then exit."""

    reason: str


class RestartActor(Command, frozen=True, kw_only=True):
    """An operator's word to a supervisor: give this child a fresh restart budget and build it again."""

    name: str


class Heartbeat(Command, frozen=True, kw_only=True):
    """A supervisor asks whether the message loop of a child still turns; at most one is in flight to each child."""

    incarnation: int


class HeartbeatAck(Event, frozen=True, kw_only=True):
    """It turns."""

    name: str
    incarnation: int


class TimerDue(Event, frozen=True, kw_only=True):
    """A timer ran out. A generation other than the current one of its key is stale and ignored."""

    key: str
    generation: int


class ActorStarted(Event, frozen=True, kw_only=True):
    """`on_start` of this incarnation returned; `pid` is the process it lives in."""

    name: str
    incarnation: int
    pid: int


class ActorFailed(Event, frozen=True, kw_only=True):
    """A handler raised: this incarnation sends nothing more and is exiting.

    `during` names the message that was being handled. A report of somebody further down carries a path as its name
    ("router/B17").
    """

    name: str
    incarnation: int
    pid: int
    error: str
    during: str


class Locate(Command, frozen=True, kw_only=True):
    """Ask the root supervisor for the address of a service; it answers Located."""

    name: str


class Located(Event, frozen=True, kw_only=True):
    """The address of a service, or None while it has none."""

    name: str
    address: Any


class EngineProcess(Event, frozen=True, kw_only=True):
    """A process of the isolated base tells the launcher its pid; `role` is "admin" or "root"."""

    role: str
    pid: int


class EngineStarted(Event, frozen=True, kw_only=True):
    """Every service has started; `pid` is the root supervisor's process."""

    pid: int


class EngineEnded(Event, frozen=True, kw_only=True):
    """The root supervisor has ended: `code` is the exit code of the engine, `reason` one sentence for a human."""

    code: int
    reason: str
