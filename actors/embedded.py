"""The embedded host: one thread that waits for descriptors and the next timer, and runs every actor.

Law: only this thread ever delivers a message. A readable descriptor reaches its owner before queued messages do, and
bulk work yields to descriptors and timers after BATCH messages.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from typing import Any

from thespian.actors import ActorAddress, WatchMessage

from actors.base import SupervisedActor
from actors.ground import TimerHeap
from actors.thespian_repairs import RepairedSystem
from messages.base import Message
from messages.supervision import TimerDue

BATCH = 64
"""Messages delivered before descriptors and timers get their turn."""


class Poller:
    """epoll where there is one, poll elsewhere; the timeout is in seconds."""

    def __init__(self) -> None:
        if hasattr(select, "epoll"):
            epoll = select.epoll()
            self._poller: Any = epoll
            self._events = select.EPOLLIN
            self.poll: Callable[[float], list[tuple[int, int]]] = epoll.poll
            self.close = epoll.close
        else:
            self._poller = select.poll()
            self._events = select.POLLIN
            self.poll = lambda timeout: self._poller.poll(timeout * 1000)
            self.close = lambda: None

    def add(self, fd: int) -> None:
        """Watch a descriptor; one that is watched already stays so."""
        try:
            self._poller.register(fd, self._events)
        except FileExistsError:
            pass

    def remove(self, fd: int) -> None:
        """Stop watching; a descriptor that was closed meanwhile is forgotten by the kernel itself."""
        try:
            self._poller.unregister(fd)
        except (OSError, KeyError, ValueError):
            pass


class EmbeddedEngine:
    """The simple base with the clock, timers and watches that it lacks; the `ground` of its actors."""

    isolated = False

    def __init__(self, clock: Callable[[], int], monotonic: Callable[[], int]) -> None:
        self.now = clock
        self.monotonic = monotonic
        self.on_said: Callable[[Message], None] = lambda message: None
        self._poller = Poller()
        self._owners: dict[int, SupervisedActor] = {}
        self._own: dict[int, Callable[[], None]] = {}
        self._timers = TimerHeap()
        self._replies: list[Any] = []
        self.base: Any = None
        self.root: ActorAddress | None = None

    # What the host asks.

    def start(self, root_class: Any, first: Message) -> ActorAddress:
        """Create the actor system and the root actor, and put its first message in line."""
        self._system = RepairedSystem()
        self.base = self._system._systemBase
        self.base.ground = self
        self.root = self._system.createActor(root_class)
        self.base.enqueue(self.root, first)
        return self.root

    def launcher_pidfd(self) -> int | None:
        """There is no other process to watch."""
        return None

    def enqueue(self, address: ActorAddress, message: Any) -> None:
        """Put a message in line; it is delivered in the next turn."""
        self.base.enqueue(address, message)

    def listen(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back in this thread whenever a descriptor of the host's own is readable."""
        self._own[fd] = callback
        self._poller.add(fd)

    def turn(self, longest: float) -> None:
        """Wait at most `longest` seconds for something to do, and do it."""
        base = self.base
        timers = self._timers
        due = timers.next_due()
        if base._pendingSends:
            timeout = 0.0
        elif due is not None:
            timeout = min(longest, max(0.0, (due - self.monotonic()) / 1e9))
        else:
            timeout = longest
        for fd, _ in self._poller.poll(timeout):
            owner = self._owners.get(fd)
            if owner is not None:
                owner.receiveMessage(WatchMessage([fd]), owner._myRef._addr)
                base.pump(BATCH)
            elif fd in self._own:
                self._own[fd]()
            else:
                self._poller.remove(fd)
        if timers.next_due() is not None:
            self._fire_timers()
        base.pump(BATCH)
        replies = base.take_replies()
        if replies:
            self._replies.extend(replies)
            del self._replies[:-BATCH]

    def take_replies(self) -> list[Any]:
        """Return and forget what actors sent to the host; only the last BATCH are kept."""
        taken, self._replies = self._replies, []
        return taken

    def instance_at(self, address: ActorAddress) -> Any:
        """Return the living actor at an address, or None; for tests and benchmarks."""
        return self.base.instance_at(address)

    def close(self) -> None:
        """Forget every actor."""
        self._poller.close()
        if self.base is not None:
            self._system.shutdown()
        self._owners.clear()
        self._timers = TimerHeap()

    # What actors ask of their ground.

    def start_timer(self, actor: SupervisedActor, key: str, generation: int, seconds: float) -> None:
        self._timers.push(self.monotonic() + int(max(0.0, seconds) * 1e9), actor, key, generation)

    def drop_timer(self) -> None:
        self._timers.drop()

    def take_due(self, actor: SupervisedActor) -> Iterable[TimerDue]:
        """Nothing: the simple base is never asked for a wake-up."""
        return ()

    def watch(self, actor: SupervisedActor, fd: int) -> None:
        self._owners[fd] = actor
        self._poller.add(fd)

    def unwatch(self, fd: int) -> None:
        if self._owners.pop(fd, None) is not None:
            self._poller.remove(fd)

    def release(self, actor: SupervisedActor, fds: Iterable[int]) -> None:
        for fd in list(fds):
            if self._owners.get(fd) is actor:
                self.unwatch(fd)

    def open_log(self, actor: SupervisedActor) -> None:
        """The host has opened the one log of its process."""

    def tell_host(self, message: Message) -> None:
        self.on_said(message)

    def _fire_timers(self) -> None:
        now = self.monotonic()
        for _ in range(BATCH):
            found = self._timers.pop(now)
            if found is None:
                return
            actor, due = found
            actor.receiveMessage(due, actor._myRef._addr)
            self.base.pump(BATCH)
