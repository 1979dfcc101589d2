"""The root supervisor: starts the services in order, restarts the one that failed, and knows when to give up.

Law: every service learns the addresses of the others from a Directory, again after every restart; a service that is
being restarted is not in it, so what is said to it meanwhile waits.
"""

from __future__ import annotations

import os
from typing import Any

from thespian.actors import ActorAddress, ActorExitRequest

from actors.base import ChildState, SupervisedActor
from messages.supervision import (
    ActorFailed,
    Directory,
    EngineEnded,
    EngineProcess,
    EngineStarted,
    HeartbeatAck,
    Locate,
    Located,
    RestartActor,
    RootSpec,
    ServiceSpec,
    StartActor,
    StopActor,
)

EXIT_OK = 0
EXIT_SOFTWARE = 70
"""sysexits.h EX_SOFTWARE: a vital service crashed more often than its budget allows."""

LIFE_SIGN = "life sign"
"""The root is watched by the launcher, which kills it when it is silent for long."""


class RootSupervisor(SupervisedActor):
    """The one top-level actor. Everything else is its child, its grandchild and so on."""

    exit_deadline_seconds = 5.0

    def __init__(self) -> None:
        super().__init__()
        self._services: tuple[ServiceSpec, ...] = ()
        self._started = False
        self._ending: tuple[int, str] | None = None
        self._launcher_gone = False

    def on_start(self, start: StartActor) -> None:
        spec: RootSpec = start.spec
        self._services = spec.services
        self.ground.tell_host(EngineProcess(role="root", pid=os.getpid()))
        if spec.launcher_pidfd is not None:
            self.watch(spec.launcher_pidfd)
        if self.ground.isolated:
            self.start_timer(LIFE_SIGN, self.heartbeat_seconds)
        self._start_next()

    def on_timer(self, key: str) -> None:
        if key == LIFE_SIGN:
            self.ground.tell_host(HeartbeatAck(name="root", incarnation=self.incarnation))
            self.start_timer(LIFE_SIGN, self.heartbeat_seconds)

    def on_readable(self, fds: list[int]) -> None:
        for fd in fds:
            self.unwatch(fd)
        self.log.error("the process that launched the engine has ended: ending too")
        self._launcher_gone = True
        self._end_engine(EXIT_OK, "the launcher has ended")

    # Services.

    def _start_next(self) -> None:
        """Create the first service that has not been created; the next one follows when it has started."""
        for service in self._services:
            if service.name not in self.children():
                self.create_child(service.actor, service.name, service.spec)
                return
        settled = (ChildState.RUNNING, ChildState.FROZEN)
        if not self._started and all(child.state in settled for child in self.children().values()):
            self._started = True
            self._publish()
            self.ground.tell_host(EngineStarted(pid=os.getpid()))

    def _publish(self) -> None:
        running = {
            name: child.address for name, child in self.children().items() if child.state is ChildState.RUNNING
        }
        self.receiveMsg_Directory(Directory(services=running), self.address)

    def on_child_started(self, name: str) -> None:
        if self._ending is not None:
            return
        self.log.info("service {} runs, incarnation {}", name, self.children()[name].incarnation)
        if self._started:
            self._publish()
        else:
            self._start_next()

    def on_child_failed(self, name: str, error: str) -> None:
        if self._ending is not None:
            self._stop_next()
            return
        self.log.error("service {} failed: {}", name, error)
        if self._started:
            self._publish()
        self.restart_child(name)

    def on_child_frozen(self, name: str, error: str) -> None:
        sentence = f"service {name} was restarted 3 times within 60 s and failed again"
        if any(service.vital and service.name == name for service in self._services):
            self._end_engine(EXIT_SOFTWARE, f"{sentence}; the engine ends, orders at the venue stay as they are")
        else:
            self.log.critical("PAGE: {}; it stays down until an operator restarts it", sentence)
            if not self._started:
                self._start_next()

    def on_child_stopped(self, name: str) -> None:
        if self._ending is not None:
            self._stop_next()

    def receiveMsg_RestartActor(self, message: RestartActor, sender: ActorAddress) -> None:
        child = self.children().get(message.name)
        if child is not None and child.state is ChildState.FROZEN:
            self.thaw_child(message.name)

    def receiveMsg_Locate(self, message: Locate, sender: ActorAddress) -> None:
        self.tell(sender, Located(name=message.name, address=self.child(message.name)))

    def _report_upward(self, name: str, error: str, cause: ActorFailed | None = None) -> None:
        self.log.critical("PAGE: {}: {}", name, error)

    # The end.

    def receiveMsg_StopActor(self, message: StopActor, sender: ActorAddress) -> None:
        self._end_engine(EXIT_OK, message.reason)

    def receiveMsg_ActorExitRequest(self, message: ActorExitRequest, sender: ActorAddress) -> None:
        self._announce_end(EXIT_OK, "the actor system shuts down")
        super().receiveMsg_ActorExitRequest(message, sender)

    def _end_engine(self, code: int, reason: str) -> None:
        if self._ending is not None:
            return
        self._ending = (code, reason)
        (self.log.info if code == EXIT_OK else self.log.critical)("the engine ends with code {}: {}", code, reason)
        self._stop_next()

    def _stop_next(self) -> None:
        """Stop the youngest service that is alive; when none is, say so and go."""
        for service in reversed(self._services):
            if self.child(service.name) is not None:
                self.stop_child(service.name, "the engine ends")
                return
        self._announce_end(*self._ending)  # type: ignore[misc]
        super().receiveMsg_StopActor(StopActor(reason="every service has ended"), self.address)
        if self._launcher_gone:
            self.actorSystemShutdown()

    def _announce_end(self, code: int, reason: str) -> None:
        self.ground.tell_host(EngineEnded(code=code, reason=reason))

    def _announce_start(self) -> None:
        """The launcher hears EngineStarted, once every service runs."""

    def _announce_failure(self, failed: ActorFailed) -> None:
        self._announce_end(EXIT_SOFTWARE, f"the root supervisor failed during {failed.during}: {failed.error}")

    def service(self, name: str) -> Any:
        """Return what is known of a service. Raises KeyError for an unknown name."""
        return self.children()[name]
