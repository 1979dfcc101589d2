"""SupervisedActor: fail once, say so, exit; and bring up children that do the same.

Law: a supervisor knows a child by its business name and its incarnation, never by its address or by its process alone.
Law: parents take children along, and a child that does not answer is killed by pid and treated as one that died.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from thespian.actors import ActorAddress, ChildActorExited, PoisonMessage

from actors.guard import RESERVED, GuardedActor
from actors.rules.restart import UNSPENT, RestartBudget, spend, thaw
from messages.supervision import (
    ActorFailed,
    ActorStarted,
    Directory,
    Heartbeat,
    HeartbeatAck,
    StartActor,
    StopActor,
)

__all__ = ["Child", "ChildState", "SupervisedActor"]


class ChildState(Enum):
    """What a supervisor knows of a child."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    DEAD = "dead"
    FROZEN = "frozen"


@dataclass(slots=True)
class Child:
    """One name under supervision; the incarnations come and go."""

    name: str
    actor_class: Any
    spec: Any
    address: ActorAddress | None
    incarnation: int
    process: Any = None
    """The multiprocessing.Process of the isolated base, whose kill() cannot hit a reused pid; None when embedded."""
    pid: int = 0
    state: ChildState = ChildState.STARTING
    budget: RestartBudget = UNSPENT
    deadline_ns: int | None = None
    """When it must have started or answered its heartbeat, on the monotonic clock; None when nothing is awaited."""


@dataclass(slots=True)
class Leaving:
    """An incarnation that failed and has not exited yet; it is killed if it outstays its deadline."""

    name: str
    incarnation: int
    address: ActorAddress
    process: Any
    deadline_ns: int


class SupervisedActor(GuardedActor):
    """An actor that fails once, says so and exits, and supervises the children it creates.

    The hooks are on_start, on_stop, on_timer, on_readable, on_directory, on_child_started, on_child_failed,
    on_child_exited, on_child_stopped and on_child_frozen; handlers are `receiveMsg_<MessageClass>`.
    """

    heartbeat_seconds: ClassVar[float] = 1.0
    """Isolated base only: how often each child is asked."""
    heartbeat_deadline_seconds: ClassVar[float] = 5.0
    """How long a child may stay silent before it is killed by pid; longer than its longest handler."""
    start_deadline_seconds: ClassVar[float] = 60.0
    """How long `on_start` of a child may take."""
    exit_deadline_seconds: ClassVar[float] = 1.0
    """How long a failed or stopped child may take to exit: a parent that exits waits for hung children."""

    _children: dict[str, Child] | None = None
    _by_text: dict[str, str] | None = None
    _leaving: list[Leaving] | None = None
    _beat_due_ns = 0

    # What a supervisor may override.

    def on_child_started(self, name: str) -> None:
        """The current incarnation of the child has started."""

    def on_child_failed(self, name: str, error: str) -> None:
        """A child failed; override to rebuild it (`restart_child`). By default report upward."""
        self._report_upward(name, error)

    def on_child_exited(self, name: str) -> None:
        """A child's process ended without a word, or was killed for its silence."""
        self.on_child_failed(name, "exited without a word")

    def on_child_stopped(self, name: str) -> None:
        """A child that was told to stop has gone."""

    def on_child_frozen(self, name: str, error: str) -> None:
        """The restart budget of a child is spent. By default report upward."""
        self._report_upward(name, error)

    # What a supervisor may do.

    def create_child(
        self, actor_class: Any, name: str, spec: Any = None, *, incarnation: int | None = None
    ) -> ActorAddress:
        """Create the child `name`, or its next incarnation, and send it StartActor and the Directory.

        `actor_class` is a class or its dotted path. `incarnation` overrides the count: after a recovery it goes on from
        a durable number. Raises ValueError while an incarnation of that name is alive.
        """
        if self._children is None:
            self._children, self._by_text = {}, {}
        known = self._children.get(name)
        if known is not None and known.address is not None:
            raise ValueError(f"{self.name}: child {name!r} is alive at incarnation {known.incarnation}; stop it first")
        if incarnation is None:
            incarnation = known.incarnation + 1 if known is not None else 1
        if isinstance(actor_class, str):
            module, _, attribute = actor_class.rpartition(".")
            actor_class = getattr(importlib.import_module(module), attribute)
        address = self.createActor(actor_class)
        child = Child(name, actor_class, spec, address, incarnation)
        if known is not None:
            child.budget = known.budget
        self._children[name] = child
        if not self.ground.isolated:
            self._by_text[address.actorAddressString] = name  # type: ignore[index]
        else:
            processes = getattr(self._myRef, "_child_procs", None)
            if processes:
                child.process = processes[-1].childProc
                child.pid = child.process.pid
            child.deadline_ns = self.ground.monotonic() + int(self.start_deadline_seconds * 1e9)
            if self._timers is None or BEAT not in self._timers:
                self._next_beat(self.heartbeat_seconds)
        self.tell(
            address,
            StartActor(name=name, incarnation=incarnation, epoch=self.epoch, settings=self.settings, spec=spec),
        )
        if self.directory is not None:
            self.tell(address, self.directory)
        return address

    def restart_child(self, name: str, spec: Any = None) -> ActorAddress | None:
        """Build the next incarnation of a dead child if its budget allows; else freeze it and return None.

        The budget is three restarts in sixty seconds. Raises KeyError for a name that was never created.
        """
        child = (self._children or {})[name]
        child.budget = spend(child.budget, self.now())
        if child.budget.frozen:
            child.state = ChildState.FROZEN
            self.log.critical("{}: child {} is frozen: its restart budget is spent", self.name, name)
            self.on_child_frozen(name, f"{name}: restart budget spent (3 in 60 s)")
            return None
        return self.create_child(child.actor_class, name, child.spec if spec is None else spec)

    def thaw_child(self, name: str) -> ActorAddress:
        """Give a frozen child a fresh budget and build it again: an operator's decision."""
        child = (self._children or {})[name]
        child.budget = thaw(child.budget)
        return self.create_child(child.actor_class, name, child.spec)

    def child(self, name: str) -> ActorAddress | None:
        """Return the address of the living child `name`, or None."""
        child = self._children.get(name) if self._children else None
        return child.address if child is not None else None

    def children(self) -> dict[str, Child]:
        """Return every child by name, dead and frozen ones too."""
        return self._children if self._children is not None else {}

    def stop_child(self, name: str, reason: str = "its supervisor has no more use for it") -> None:
        """End a child in an orderly way; `on_child_stopped` tells when it has gone. A dead child is forgotten."""
        child = self._children.get(name) if self._children else None
        if child is None:
            return
        if child.address is None:
            self.forget_child(name)
            return
        if child.state is ChildState.STOPPING:
            return
        child.state = ChildState.STOPPING
        if self.ground.isolated:
            child.deadline_ns = self.ground.monotonic() + int(self.exit_deadline_seconds * 1e9)
            self._next_beat(min(self.heartbeat_seconds, self.exit_deadline_seconds))
        self.tell(child.address, StopActor(reason=reason))

    def forget_child(self, name: str) -> None:
        """Drop the record of a dead child, its incarnation count and its budget. Raises ValueError if it is alive."""
        child = self._children.get(name) if self._children else None
        if child is None:
            return
        if child.address is not None:
            raise ValueError(f"{self.name}: child {name!r} is alive at incarnation {child.incarnation}; stop it first")
        del self._children[name]  # type: ignore[union-attr]

    # What children and the base say.

    def receiveMsg_ActorStarted(self, message: ActorStarted, sender: ActorAddress) -> None:
        child = self._current(message.name, message.incarnation)
        if child is None or child.state is not ChildState.STARTING:
            return
        child.state, child.pid, child.deadline_ns = ChildState.RUNNING, message.pid, None
        self.on_child_started(message.name)

    def receiveMsg_ActorFailed(self, message: ActorFailed, sender: ActorAddress) -> None:
        child = self._current(message.name, message.incarnation)
        if child is not None:
            stopping = child.state is ChildState.STOPPING
            self._bury(child, leaving=True)
            if stopping:
                self.forget_child(child.name)
                self.on_child_stopped(child.name)
            else:
                self.on_child_failed(message.name, message.error)
        elif message.name.partition("/")[0] in (self._children or {}) and "/" in message.name:
            self._report_upward(message.name, message.error, message)

    def receiveMsg_ChildActorExited(self, message: ChildActorExited, sender: ActorAddress) -> None:
        for index, leaving in enumerate(self._leaving or ()):
            if leaving.address == message.childAddress:
                del self._leaving[index]  # type: ignore[union-attr]
                return
        child = self._find(message.childAddress)
        if child is None:
            return
        stopping = child.state is ChildState.STOPPING
        self._bury(child, leaving=False)
        if stopping:
            self.forget_child(child.name)
            self.on_child_stopped(child.name)
        else:
            self.log.error("{}: child {} exited without a word", self.name, child.name)
            self.on_child_exited(child.name)

    def receiveMsg_HeartbeatAck(self, message: HeartbeatAck, sender: ActorAddress) -> None:
        child = self._current(message.name, message.incarnation)
        if child is not None and child.state is ChildState.RUNNING:
            child.deadline_ns = None

    def receiveMsg_Directory(self, message: Directory, sender: ActorAddress) -> None:
        super().receiveMsg_Directory(message, sender)
        for child in (self._children or {}).values():
            if child.address is not None:
                self.tell(child.address, message)

    def receiveMsg_PoisonMessage(self, message: PoisonMessage, sender: ActorAddress) -> None:
        self.log.warning("{}: undeliverable or refused: {}", self.name, message.poisonMessage)

    # Bookkeeping.

    def _current(self, name: str, incarnation: int) -> Child | None:
        child = self._children.get(name) if self._children else None
        return child if child is not None and child.incarnation == incarnation and child.address is not None else None

    def _find(self, address: ActorAddress) -> Child | None:
        if not self._children:
            return None
        if not self.ground.isolated:
            name = self._by_text.get(address.actorAddressString)  # type: ignore[union-attr]
            return self._children[name] if name is not None else None
        for child in self._children.values():  # the text of an address changes once its process has answered
            if child.address is not None and child.address == address:
                return child
        return None

    def _bury(self, child: Child, *, leaving: bool) -> None:
        """Mark the incarnation dead; if it has still to exit, give it a deadline."""
        address = child.address
        assert address is not None
        self._by_text.pop(address.actorAddressString, None)  # type: ignore[union-attr]
        if leaving:
            deadline = self.ground.monotonic() + int(self.exit_deadline_seconds * 1e9)
            if self._leaving is None:
                self._leaving = []
            self._leaving.append(Leaving(child.name, child.incarnation, address, child.process, deadline))
            if self.ground.isolated:
                self._next_beat(min(self.heartbeat_seconds, self.exit_deadline_seconds))
        child.address = child.process = child.deadline_ns = None
        child.pid = 0
        child.state = ChildState.DEAD

    def _supervise(self, key: str) -> None:
        """Isolated base: kill what hangs, ask the others."""
        now = self.ground.monotonic()
        late = now - self._beat_due_ns
        if late > self.heartbeat_seconds * 1e9:
            # It is we who did not run (a paused machine): what they answered meanwhile is still to be read.
            for waiting in (*(self._leaving or ()), *(self._children or {}).values()):
                if waiting.deadline_ns is not None:
                    waiting.deadline_ns += late
        for leaving in self._leaving or ():
            if now >= leaving.deadline_ns:
                self._kill(leaving.process, leaving.name, "did not exit in time")
        for child in (self._children or {}).values():
            if child.address is None:
                continue
            if child.deadline_ns is not None:
                if now >= child.deadline_ns:
                    self._kill(child.process, child.name, f"was {child.state.value} and did not answer in time")
            elif child.state is ChildState.RUNNING:
                child.deadline_ns = now + int(self.heartbeat_deadline_seconds * 1e9)
                self.tell(child.address, Heartbeat(incarnation=child.incarnation))
        if self._leaving or any(child.address is not None for child in (self._children or {}).values()):
            self._next_beat(self._until_next_beat(now))

    def _next_beat(self, seconds: float) -> None:
        self._beat_due_ns = self.ground.monotonic() + int(seconds * 1e9)
        self.start_timer(BEAT, seconds)

    def _until_next_beat(self, now: int) -> float:
        deadlines = [leaving.deadline_ns for leaving in self._leaving or ()]
        deadlines += [c.deadline_ns for c in (self._children or {}).values() if c.deadline_ns is not None]
        soonest = min(((deadline - now) / 1e9 for deadline in deadlines), default=self.heartbeat_seconds)
        return min(self.heartbeat_seconds, max(0.05, soonest))

    def _kill(self, process: Any, name: str, why: str) -> None:
        if process is None:
            return
        self.log.error("{}: child {} (pid {}) {}: killed", self.name, name, process.pid, why)
        process.kill()

    def _report_upward(self, name: str, error: str, cause: ActorFailed | None = None) -> None:
        if self.parent is not None:
            self.tell(
                self.parent,
                ActorFailed(
                    name=f"{self.name}/{name}",
                    incarnation=cause.incarnation if cause is not None else self.incarnation,
                    pid=cause.pid if cause is not None else os.getpid(),
                    error=error,
                    during=cause.during if cause is not None else "",
                ),
            )


BEAT = RESERVED + "heartbeat"
