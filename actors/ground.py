"""What an actor needs besides messages: a clock, timers and watched descriptors.

Law: an actor asks its ground and never finds out which base it runs on. A host that has a ground of its own (the
embedded host, the simulation host) offers it as `ground` of the actor's `_myRef`; where there is none, as in the
isolated base, Thespian's own wake-ups and watches serve.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import msgspec

from messages.base import Message
from messages.supervision import TimerDue

if TYPE_CHECKING:
    from actors.base import SupervisedActor


SWEEP_ABOVE = 64
"""Stale timers that are tolerated before a sweep is considered."""


class Ground(Protocol):
    """What SupervisedActor asks of the host it runs on."""

    isolated: bool
    """Whether each actor is a process of its own, to be watched by heartbeats and killed by pid."""

    now: Callable[[], int]
    """UTC nanoseconds."""

    monotonic: Callable[[], int]
    """Nanoseconds that never run back, for deadlines."""

    def start_timer(self, actor: SupervisedActor, key: str, generation: int, seconds: float) -> None:
        """Deliver TimerDue(key, generation) to the actor after `seconds`."""

    def drop_timer(self) -> None:
        """Take note that one pending timer went stale."""

    def take_due(self, actor: SupervisedActor) -> Iterable[TimerDue]:
        """Return the timers that are due, when Thespian's wake-up came."""

    def watch(self, actor: SupervisedActor, fd: int) -> None:
        """Tell the actor whenever the descriptor is readable."""

    def unwatch(self, fd: int) -> None:
        """Stop watching the descriptor."""

    def release(self, actor: SupervisedActor, fds: Iterable[int]) -> None:
        """Forget an actor that has ended, with the descriptors it still watches."""

    def open_log(self, actor: SupervisedActor) -> None:
        """Prepare the log of the process in which the actor lives."""

    def tell_host(self, message: Message) -> None:
        """Hand a message to the process that launched the engine."""


class TimerHeap:
    """Pending timers in the order in which they are due; stale ones stay until they are in the way.

    Two that are due at once ring in the order in which they were started.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, SupervisedActor, str, int]] = []
        self._ties = itertools.count()
        self._stale = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, due_ns: int, actor: SupervisedActor, key: str, generation: int) -> None:
        """Add a timer that is due at `due_ns` of the monotonic clock."""
        heapq.heappush(self._heap, (due_ns, next(self._ties), actor, key, generation))

    def drop(self) -> None:
        """Take note that one timer went stale; once more than half of them have, sweep."""
        self._stale += 1
        if self._stale > SWEEP_ABOVE and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].timer_is_current(entry[3], entry[4])]
            heapq.heapify(self._heap)
            self._stale = 0

    def next_due(self) -> int | None:
        """Return when the first timer is due, or None."""
        return self._heap[0][0] if self._heap else None

    def pop(self, now_ns: int) -> tuple[SupervisedActor, TimerDue] | None:
        """Return the first timer that is due and still wanted, with its actor, or None."""
        while self._heap and self._heap[0][0] <= now_ns:
            _, _, actor, key, generation = heapq.heappop(self._heap)
            if actor.timer_is_current(key, generation):
                return actor, TimerDue(key=key, generation=generation)
            self._stale = max(0, self._stale - 1)
        return None


class IsolatedGround:
    """Thespian's own means: one process for one actor, `wakeupAfter` for timers, ThespianWatch for descriptors.

    One wake-up of Thespian serves all timers: it cannot be cancelled, and its list is sorted anew for each.
    """

    isolated = True
    now = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic_ns)
    lifeline: int | None = None
    """Write end of the launcher's pipe, inherited by every process of the engine; see host.py."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the timers of the actor whose process this was forked from."""
        self._timers = TimerHeap()
        self._wakeup_ns: int | None = None

    def start_timer(self, actor: SupervisedActor, key: str, generation: int, seconds: float) -> None:
        self._timers.push(self.monotonic() + int(max(0.0, seconds) * 1e9), actor, key, generation)
        self._order_wakeup(actor)

    def drop_timer(self) -> None:
        self._timers.drop()

    def take_due(self, actor: SupervisedActor) -> Iterator[TimerDue]:
        """Yield the timers that are due, and see to it that Thespian comes again for the next."""
        self._wakeup_ns = None
        while (found := self._timers.pop(self.monotonic())) is not None:
            yield found[1]
        self._order_wakeup(actor)

    def _order_wakeup(self, actor: SupervisedActor) -> None:
        due = self._timers.next_due()
        if due is None or (self._wakeup_ns is not None and self._wakeup_ns <= due):
            return
        self._wakeup_ns = due
        actor._myRef.wakeupAfter(timedelta(seconds=max(0.0, (due - self.monotonic()) / 1e9)))

    def watch(self, actor: SupervisedActor, fd: int) -> None:
        """The standing watch that every handler returns says it."""

    def unwatch(self, fd: int) -> None:
        """As above."""

    def release(self, actor: SupervisedActor, fds: Iterable[int]) -> None:
        transport = getattr(actor._myRef, "transport", None)
        if transport is not None and hasattr(transport, "set_watch"):
            # An exit request does not clear the watch, and the descriptors are closed.
            transport.set_watch([])

    def open_log(self, actor: SupervisedActor) -> None:
        from actors import logs

        logs.open_process_log(*logs.place_and_level(actor.settings), actor.name, console=False)

    def tell_host(self, message: Message) -> None:
        if self.lifeline is not None:
            try:
                os.write(self.lifeline, msgspec.json.encode(message) + b"\n")
            except OSError:
                pass  # the launcher is gone, which the root supervisor learns from its pidfd


ISOLATED = IsolatedGround()
