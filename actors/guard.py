"""The guard around every handler, and what a guarded actor may do: tell, wait and watch.

Law: fail once. Thespian hands a message whose handler raised to the same half-changed object again; here the first
exception is the last: nothing that the handler sent leaves the actor, its supervisor hears ActorFailed, and it exits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from loguru import logger
from thespian.actors import Actor, ActorAddress, ActorExitRequest, ThespianWatch, WakeupMessage, WatchMessage

from actors.ground import ISOLATED, Ground
from messages.supervision import (
    ActorFailed,
    ActorStarted,
    Directory,
    Heartbeat,
    HeartbeatAck,
    StartActor,
    StopActor,
    TimerDue,
)

if TYPE_CHECKING:
    from loguru import Logger

NAMES_OF_ALL = (
    "_myRef", "parent", "incarnation", "epoch", "settings", "spec", "_ground", "directory", "_unaddressed",
)  # fmt: skip
"""What every actor gets sooner or later; see GuardedActor.names."""
RESERVED = "supervision/"
"""Timer keys that begin so belong to the base class."""

Handler = Callable[[Any, Any, ActorAddress], None]


class GuardedActor(Actor):  # type: ignore[misc]
    """A mailbox whose handlers are `receiveMsg_<MessageClass>`, found along the message's MRO by bare class name.

    Containers are made when first used: a book of ten thousand brackets holds forty thousand of these objects.
    """

    buffer_limit: ClassVar[int] = 1_000
    """Messages kept for services whose address is not known yet; beyond it the oldest is dropped and logged."""

    names: ClassVar[tuple[str, ...]] = ()
    """Attributes to set at once, for classes of which there are thousands: as long as the first instances agree on
    their names, all share one table of them (PEP 412; at most 30), else each keeps a table of its own."""

    _handlers: ClassVar[dict[type, Handler]]

    incarnation = 0
    epoch = 0
    settings: Any = None
    spec: Any = None
    directory: Directory | None = None
    parent: ActorAddress | None = None
    ended = False
    _ground: Ground | None = None
    _timers: dict[str, int] | None = None
    _generation = 0
    _watched: set[int] | None = None
    _standing: ThespianWatch | None = None
    _unaddressed: list[tuple[str, Any]] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._handlers = {}

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__
        self._outbox: list[tuple[ActorAddress, Any]] = []
        for name in self.names:
            setattr(self, name, getattr(self, name, None))

    # What an actor may override.

    def on_start(self, start: StartActor) -> None:
        """Set up: name, incarnation, settings and log are there, the directory is not yet."""

    def on_stop(self) -> None:
        """Release descriptors; called once, on an orderly end and on a failure alike."""

    def on_timer(self, key: str) -> None:
        """The timer `key` ran out."""

    def on_readable(self, fds: list[int]) -> None:
        """These watched descriptors are readable; read until they would block."""

    def on_directory(self, directory: Directory) -> None:
        """Addresses of services came or changed; `self.directory` is already the new one."""

    def receiveUnrecognizedMessage(self, message: Any, sender: ActorAddress) -> None:
        self.log.warning("{} has no handler for {}", self.name, type(message).__name__)

    # What an actor may do.

    @property
    def address(self) -> ActorAddress:
        """This actor's own address."""
        return self._myRef.address

    @property
    def ground(self) -> Ground:
        """The host's clock, timers and watches."""
        ground = self._ground
        if ground is None:
            ground = self._ground = getattr(self._myRef, "ground", None) or ISOLATED
        return ground

    @property
    def log(self) -> Logger:
        """The log of this process, bound to who speaks; made on each use, for few of many actors ever say a word."""
        return logger.bind(actor=self.name, incarnation=self.incarnation)

    def now(self) -> int:
        """Return UTC nanoseconds, from the clock of the host."""
        return self.ground.now()

    def tell(self, to: str | ActorAddress, message: Any) -> None:
        """Send to a service by name, or to an address, once the current handler has returned.

        What is said to a service without an address waits for the next Directory.
        """
        if to.__class__ is str:
            address = self.directory.services.get(to) if self.directory is not None else None
            if address is None:
                self._keep(to, message)
            else:
                self._outbox.append((address, message))
        elif isinstance(to, ActorAddress):
            self._outbox.append((to, message))
        else:
            raise TypeError(f"{self.name}: {type(message).__name__} to {to!r}, neither a service nor an address")

    def send(self, targetAddr: ActorAddress, msg: Any) -> None:
        """Send to an address, once the current handler has returned."""
        self.tell(targetAddr, msg)

    def send_now(self, to: str | ActorAddress, message: Any) -> None:
        """Send at once: it stays sent, and ahead of what waits, even if this handler raises afterwards.

        Raises LookupError for a service whose address is not known.
        """
        if isinstance(to, str):
            services = self.directory.services if self.directory is not None else {}
            if to not in services:
                raise LookupError(f"{self.name}: no address for the service {to!r}; known: {sorted(services)}")
            to = services[to]
        if not isinstance(to, ActorAddress):
            raise TypeError(f"{self.name}: {type(message).__name__} to {to!r}, neither a service nor an address")
        self._myRef.actor_send(to, message)

    def start_timer(self, key: str, seconds: float) -> None:
        """Call `on_timer(key)` once after `seconds`; a pending timer of the same key is replaced."""
        timers = self._timers
        if timers is None:
            timers = self._timers = {}
        elif key in timers:
            self.ground.drop_timer()
        self._generation += 1
        timers[key] = self._generation
        self.ground.start_timer(self, key, self._generation, seconds)

    def cancel_timer(self, key: str) -> None:
        """Forget the timer `key`, if there is one."""
        if self._timers is not None and self._timers.pop(key, None) is not None:
            self.ground.drop_timer()

    def timer_is_current(self, key: str, generation: int) -> bool:
        """Tell whether this generation of the timer is still awaited."""
        return self._timers is not None and self._timers.get(key) == generation

    def watch(self, fd: int) -> None:
        """Call `on_readable` whenever the descriptor is readable, until `unwatch`; call it before closing."""
        if self._watched is None:
            self._watched = set()
        self._watched.add(fd)
        self.ground.watch(self, fd)
        self._standing = ThespianWatch(sorted(self._watched))

    def unwatch(self, fd: int) -> None:
        """Stop watching; a descriptor that is not watched is ignored."""
        if self._watched is None or fd not in self._watched:
            return
        self._watched.discard(fd)
        self.ground.unwatch(fd)
        self._standing = ThespianWatch(sorted(self._watched)) if self._watched else None

    def wakeupAfter(self, timePeriod: Any, payload: Any = None) -> None:
        """Refuse: it cannot be cancelled, and in the simple base every message scans all that is pending."""
        raise TypeError(f"{self.name}: wakeupAfter is not to be used; use start_timer(key, seconds)")

    # The guard.

    def receiveMessage(self, message: Any, sender: ActorAddress) -> ThespianWatch | None:
        """Hand one message to its handler; whatever the handler returns, the standing watch is returned."""
        if self.ended:
            return None
        kind = message.__class__
        handler = self._handlers.get(kind) or self._find_handler(kind)
        try:
            handler(self, message, sender)
            if self._outbox:
                self._flush()
        except (Exception, SystemExit) as error:
            self._fail(error, kind.__name__)
            return None
        return self._standing

    def _receive(self, message: Any, sender: ActorAddress) -> None:
        """The simple base calls its actors by this name."""
        self.receiveMessage(message, sender)

    @classmethod
    def _find_handler(cls, kind: type) -> Handler:
        for ancestor in kind.__mro__:
            handler = getattr(cls, f"receiveMsg_{ancestor.__name__}", None)
            if handler is not None:
                break
        else:
            handler = cls.receiveUnrecognizedMessage
        cls._handlers[kind] = handler
        return handler

    def _flush(self) -> None:
        send = self._myRef.actor_send
        for address, message in self._outbox:
            send(address, message)
        self._outbox.clear()

    def _keep(self, service: str, message: Any) -> None:
        if self._unaddressed is None:
            self._unaddressed = []
        if len(self._unaddressed) >= self.buffer_limit:
            lost_service, lost = self._unaddressed.pop(0)
            self.log.error(
                "{}: dropped {} for {}: more than {} messages wait for an address",
                self.name, type(lost).__name__, lost_service, self.buffer_limit,
            )
        self._unaddressed.append((service, message))

    def _fail(self, error: BaseException, during: str) -> None:
        self._outbox.clear()
        said = f"{type(error).__name__}: {error}"
        self.log.opt(exception=error).error("{} failed during {}: {}", self.name, during, said)
        self._end(orderly=False)
        failed = ActorFailed(
            name=self.name, incarnation=self.incarnation, pid=os.getpid(), error=said[:2_000], during=during
        )
        self._announce_failure(failed)
        self._myRef.actor_send(self._myRef.address, ActorExitRequest())

    def _announce_start(self) -> None:
        self.tell(self.parent, ActorStarted(name=self.name, incarnation=self.incarnation, pid=os.getpid()))

    def _announce_failure(self, failed: ActorFailed) -> None:
        if self.parent is not None:
            self._myRef.actor_send(self.parent, failed)

    def _end(self, *, orderly: bool) -> None:
        if self.ended:
            return
        try:
            self.on_stop()
            if orderly:
                self._flush()
        except (Exception, SystemExit) as error:
            self.log.opt(exception=error).error("{}: on_stop failed: {}", self.name, error)
        self.ended = True
        self._outbox.clear()
        for _ in self._timers or ():
            self.ground.drop_timer()
        self.ground.release(self, self._watched or ())
        self._timers = self._watched = self._standing = self._unaddressed = None

    # What the base says to its actor.

    def receiveMsg_StartActor(self, message: StartActor, sender: ActorAddress) -> None:
        self.parent = sender
        self.name = message.name
        self.incarnation = message.incarnation
        self.epoch = message.epoch
        self.settings = message.settings
        self.spec = message.spec
        self.ground.open_log(self)
        self.on_start(message)
        self._announce_start()

    def receiveMsg_StopActor(self, message: StopActor, sender: ActorAddress) -> None:
        self.log.info("{} stops: {}", self.name, message.reason)
        self._end(orderly=True)
        self._myRef.actor_send(self._myRef.address, ActorExitRequest())

    def receiveMsg_ActorExitRequest(self, message: ActorExitRequest, sender: ActorAddress) -> None:
        self._end(orderly=True)

    def receiveMsg_Directory(self, message: Directory, sender: ActorAddress) -> None:
        self.directory = message
        waiting, self._unaddressed = self._unaddressed, None
        for service, kept in waiting or ():
            self.tell(service, kept)
        self.on_directory(message)

    def receiveMsg_Heartbeat(self, message: Heartbeat, sender: ActorAddress) -> None:
        self.tell(sender, HeartbeatAck(name=self.name, incarnation=self.incarnation))

    def receiveMsg_WakeupMessage(self, message: WakeupMessage, sender: ActorAddress) -> None:
        for due in self.ground.take_due(self):
            self.receiveMsg_TimerDue(due, sender)

    def receiveMsg_TimerDue(self, message: TimerDue, sender: ActorAddress) -> None:
        if not self.timer_is_current(message.key, message.generation):
            return
        del self._timers[message.key]  # type: ignore[union-attr]
        if message.key.startswith(RESERVED):
            self._supervise(message.key)
        else:
            self.on_timer(message.key)

    def receiveMsg_WatchMessage(self, message: WatchMessage, sender: ActorAddress) -> None:
        watched = self._watched or ()
        ready = [fd for fd in message.ready if fd in watched]
        if ready:
            self.on_readable(ready)

    def _supervise(self, key: str) -> None:
        """A timer of the base class ran out."""

