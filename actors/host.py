"""The host: starts, turns and stops the actor system on either base; the only thing that run.py knows of actors.

Law: Ctrl-C and SIGTERM come through a descriptor, never as an exception inside a handler; nothing is left behind.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from loguru import logger
from thespian.actors import ActorAddress

from actors import logs
from actors.embedded import EmbeddedEngine
from actors.supervisor import EXIT_OK, EXIT_SOFTWARE, RootSupervisor
from messages.base import Message
from messages.supervision import (
    EngineEnded,
    EngineStarted,
    Locate,
    Located,
    RootSpec,
    ServiceSpec,
    StartActor,
    StopActor,
)

EMBEDDED = "simpleSystemBase"
ISOLATED = "multiprocTCPBase"
LONGEST_TURN_SECONDS = 60.0
SWITCH_SECONDS = 0.0005
INSISTENCE = 3
"""The third Ctrl-C ends the process on the spot, as kill -9 would; what is left is what a crash leaves."""


COLLECTOR = (5_000, 10, 1_000)
"""Thresholds of Python's cycle collector: a full collection after fifty million new containers, not after 70,000."""


def calm_collector() -> None:
    """Keep the cycle collector off the back of a stop. For a process that runs one embedded engine.

    A full collection looks at every object, and everybody waits: 160 to 470 ms with 2,000 brackets on two busy cores.
    It would find nothing: opening and ending brackets leaves no cycles behind (tests/contract/test_collector.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR)


class SignalPipe:
    """SIGINT and SIGTERM as bytes on a descriptor. Only the main thread may make one."""

    def __init__(self) -> None:
        self._count = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._before = {number: signal.signal(number, self._ignore) for number in (signal.SIGINT, signal.SIGTERM)}
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def _ignore(self, number: int, frame: FrameType | None) -> None:
        """The byte on the wake-up descriptor says it all; only who insists is heard while a handler blocks."""
        self._count += 1
        if self._count >= INSISTENCE:
            os._exit(128 + number)

    def fileno(self) -> int:
        return self._reader.fileno()

    def take(self) -> list[int]:
        """Return the numbers of the signals that came since the last call."""
        try:
            return [number for number in self._reader.recv(64) if number in self._before]
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Put the former handlers back."""
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()


class Host:
    """The actor system of one engine.

    `base` is Thespian's name for it. `clock` gives UTC nanoseconds, `monotonic` nanoseconds for timers; in the isolated
    base each process has its own. `port` is the admin's, in the isolated base only; a free one is found by default.
    """

    stop_deadline_seconds = 15.0

    def __init__(
        self,
        settings: Any,
        base: str = EMBEDDED,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
        console: bool = False,
        port: int | None = None,
    ) -> None:
        if base not in (EMBEDDED, ISOLATED):
            raise ValueError(f"system.base is {base!r}; it must be {EMBEDDED!r} or {ISOLATED!r}")
        self.settings = settings
        self.base = base
        self.started: EngineStarted | None = None
        self.ended: EngineEnded | None = None
        self._console = console
        self._signals: SignalPipe | None = None
        self._deadline: float | None = None
        self._engine: Any
        if base == EMBEDDED:
            # The writer thread may hold the interpreter while a stop waits: at Python's 5 ms the host woke up 7.2 ms
            # late (p99, a backlog of row changes), at 0.5 ms 1.9 ms.
            sys.setswitchinterval(SWITCH_SECONDS)
            self._engine = EmbeddedEngine(clock, monotonic)
        else:
            from actors.isolated import IsolatedEngine

            self._engine = IsolatedEngine(settings, port)
        self._engine.on_said = self._hear
        self._thread = threading.get_ident()

    def start(
        self, services: Sequence[ServiceSpec] = (), root_class: Any = RootSupervisor, epoch: int = 0, spec: Any = None
    ) -> None:
        """Create the actor system and the root, which starts the services in order.

        `spec` replaces the RootSpec made of `services`, for a root of another class.
        """
        self._thread = threading.get_ident()
        place, level = logs.place_and_level(self.settings)
        name = "engine" if self.base == EMBEDDED else "launcher"
        logs.open_process_log(place, level, name, console=self._console)
        if threading.current_thread() is threading.main_thread():
            self._signals = SignalPipe()
            self._engine.listen(self._signals.fileno(), self._on_signal)
        if spec is None:
            spec = RootSpec(services=tuple(services), launcher_pidfd=self._engine.launcher_pidfd())
        first = StartActor(name="root", incarnation=1, epoch=epoch, settings=self.settings, spec=spec)
        try:
            self._engine.start(root_class, first)
        except BaseException:
            self._engine.close()
            self.stop()
            raise

    @property
    def root(self) -> ActorAddress:
        """The address of the root supervisor."""
        return self._engine.root

    def run(self) -> int:
        """Turn until the engine has ended; return its exit code. SIGINT and SIGTERM end it in an orderly way."""
        if self.base == EMBEDDED:
            calm_collector()
        while self.ended is None:
            if self._deadline is None:
                self._engine.turn(LONGEST_TURN_SECONDS)
                continue
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._give_up()
                break
            self._engine.turn(min(left, 1.0))
        assert self.ended is not None
        code = self.ended.code
        self.stop()
        return code

    def run_until(self, condition: Callable[[], bool], deadline: float = 5.0) -> bool:
        """Turn until the condition holds; tell whether it did within `deadline` seconds."""
        end = time.monotonic() + deadline
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._engine.turn(min(left, 0.02))
        return True

    def tell(self, message: Message, to: str | ActorAddress | None = None) -> None:
        """Send to the root, to a service by name, or to an address. Raises LookupError for an unknown service."""
        self._same_thread()
        self._engine.enqueue(self.address_of(to), message)

    def ask(self, message: Message, to: str | ActorAddress | None = None, timeout: float = 5.0) -> Any:
        """Send, and turn until any actor answers the host; return the answer or None. For tests and tools only."""
        address = self.address_of(to)
        self._engine.take_replies()
        self._engine.enqueue(address, message)
        answers: list[Any] = []

        def answered() -> bool:
            answers.extend(self._engine.take_replies())
            return bool(answers)

        self.run_until(answered, timeout)
        return answers[0] if answers else None

    def address_of(self, to: str | ActorAddress | None) -> ActorAddress:
        """Return the address of a service (asked of the root), or what was given."""
        if to is None:
            return self._engine.root
        if not isinstance(to, str):
            return to
        answer = self.ask(Locate(name=to))
        if not isinstance(answer, Located) or answer.address is None:
            raise LookupError(f"the service {to!r} has no address; known services are started by Host.start")
        return answer.address

    def instance(self, to: str | ActorAddress | None = None) -> Any:
        """Return a living actor object of the embedded base, for tests and benchmarks."""
        return self._engine.instance_at(self.address_of(to))

    def stop(self, reason: str = "the host stops") -> None:
        """End the engine in an orderly way and leave nothing behind. Calling it twice is harmless."""
        if self._engine.root is not None:
            if self.ended is None:
                self._engine.enqueue(self._engine.root, StopActor(reason=reason))
                if not self.run_until(lambda: self.ended is not None, self.stop_deadline_seconds):
                    self._give_up()
            self._engine.close()
            self._engine.root = None
        if self._signals is not None:
            self._signals.close()
            self._signals = None

    def _give_up(self) -> None:
        logger.critical("the engine did not end within {} s: forced", self.stop_deadline_seconds)
        self.ended = EngineEnded(code=EXIT_SOFTWARE, reason="it did not end in time")

    def _same_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("Host.tell was called from another thread: it would run the actors there")

    def _hear(self, message: Message) -> None:
        if isinstance(message, EngineStarted):
            self.started = message
        elif isinstance(message, EngineEnded) and self.ended is None:
            self.ended = message

    def _on_signal(self) -> None:
        assert self._signals is not None
        for number in self._signals.take():
            if self.ended is None and self._engine.root is not None:
                logger.info("signal {}: ending", signal.Signals(number).name)
                self._engine.enqueue(self._engine.root, StopActor(reason=f"signal {signal.Signals(number).name}"))
                self._deadline = self._deadline or time.monotonic() + self.stop_deadline_seconds


__all__ = ["EMBEDDED", "EXIT_OK", "EXIT_SOFTWARE", "ISOLATED", "Host", "ServiceSpec"]
