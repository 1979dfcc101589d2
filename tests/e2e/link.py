"""A wire between engine and gateway that a test can hold, cut and listen to, so that a crash comes at an exact message.

Law: nothing is altered on the way; frames pass whole, or not at all, in both directions' own order.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

Rule = Callable[[bytes], bool]
"""Whether a frame from the engine (its fields end with a zero byte each) is the one."""


class Loss(Enum):
    """What happens to the wire at the frame that a rule names."""

    UNANSWERED = "the gateway gets it; nothing more comes back"
    UNDELIVERED = "the gateway gets neither it nor anything after it"


def order_of(leg: str) -> Rule:
    """Name a new order (or amendment) of a leg: `target`, `stop`, `trail`, `entry`."""
    return lambda frame: frame.startswith(b"3\0") and f".{leg}".encode() in frame


def exit_number(count: int) -> Rule:
    """Name the count-th frame that carries an exit's order, whatever its leg."""
    return _nth(count, lambda frame: frame.startswith(b"3\0") and b".entry" not in frame)


def frame_number(count: int) -> Rule:
    """Name the count-th frame that carries an order, an amendment or a cancel."""
    return _nth(count, lambda frame: frame.startswith((b"3\0", b"4\0")))


def _nth(count: int, counts: Rule) -> Rule:
    seen = 0

    def rule(frame: bytes) -> bool:
        nonlocal seen
        seen += counts(frame)
        return seen == count

    return rule


def any_cancel(frame: bytes) -> bool:
    """Name a cancel."""
    return frame.startswith(b"4\0")


class Link:
    """Listens on `port` and passes everything to `target`, until a rule or a test says otherwise."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.caught = threading.Event()
        """Set once the frame that was named has come."""
        self._rule: tuple[Rule, Loss] | None = None
        self._deaf = False
        self._answering = threading.Event()
        self._answering.set()
        self._open = True
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)

    def lose(self, rule: Rule, loss: Loss) -> None:
        """Do this at the first frame that the rule names."""
        self.caught.clear()
        self._rule = rule, loss

    def hold(self) -> None:
        """Let nothing more come back from the gateway."""
        self._answering.clear()

    def cut(self) -> None:
        """End every connection and refuse new ones until `mend`."""
        self._open = False
        for pair in list(self._pairs):
            self._end(pair)

    def mend(self) -> None:
        """Forget every rule; connections pass again, those of before are gone."""
        self.cut()
        self._rule, self._deaf, self._open = None, False, True
        self._answering.set()

    def close(self) -> None:
        self.cut()
        self._answering.set()
        self._listener.close()

    # -- moving bytes ------------------------------------------------------------------------------------------

    @staticmethod
    def _run(work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                engine, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self._open:
                    raise ConnectionRefusedError
                gateway = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                engine.close()
                continue
            for each in (engine, gateway):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = engine, gateway
            self._pairs.add(pair)
            self._run(self._up, pair)
            self._run(self._down, pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for each in pair:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _up(self, pair: tuple[socket.socket, socket.socket]) -> None:
        engine, gateway = pair
        waiting, greeted = b"", False
        try:
            while data := engine.recv(1 << 16):
                waiting += data
                if not greeted and len(waiting) >= 4:
                    gateway.sendall(waiting[:4])  # "API\0", the one thing without a length
                    waiting, greeted = waiting[4:], True
                while len(waiting) >= 4 and len(waiting) >= 4 + (size := int.from_bytes(waiting[:4], "big")):
                    self._pass(gateway, waiting[: 4 + size])
                    waiting = waiting[4 + size :]
        except OSError:
            pass
        self._end(pair)

    def _pass(self, gateway: socket.socket, framed: bytes) -> None:
        caught = self._rule is not None and self._rule[0](framed[4:])
        if caught and self._rule is not None:
            loss, self._rule = self._rule[1], None
            self._answering.clear()
            self._deaf = loss is Loss.UNDELIVERED
        if not self._deaf:
            gateway.sendall(framed)
        if caught:
            self.caught.set()

    def _down(self, pair: tuple[socket.socket, socket.socket]) -> None:
        engine, gateway = pair
        try:
            while data := gateway.recv(1 << 16):
                while not self._answering.wait(0.05):
                    if pair not in self._pairs:
                        return
                engine.sendall(data)
        except OSError:
            pass
        self._end(pair)
