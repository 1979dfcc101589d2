"""The engine's end of the Unix socket: peers, what they ask, what they have not read yet.

Law: nothing here blocks, and one peer's bytes or slowness never reach another. Descriptors are announced to whoever
hosts this class; it owns no thread and no loop.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

from actors.web.channel import ChannelError, Frame, Request, Splitter, pack, read_request

OUTBOX = 4 * 1024 * 1024
"""Bytes that may wait for one peer; beyond it the peer is a slow reader and is dropped."""

PEERS = 64
READ = 65_536
READS_PER_TURN = 4
"""A peer that sends faster than this is served again on the next turn, after the others."""


class Peer:
    """One connection."""

    def __init__(self, number: int, connection: socket.socket) -> None:
        self.number = number
        self.connection = connection
        self.fd = connection.fileno()
        self.splitter = Splitter()
        self.outbox = bytearray()
        self.follows = False


class Switchboard:
    """Accept peers, read requests, send replies, drop who does not behave."""

    def __init__(
        self, path: str, watch: Callable[[int], None], unwatch: Callable[[int], None], outbox: int = OUTBOX
    ) -> None:
        self.path = path
        self.dropped: dict[str, int] = {}
        self._watch = watch
        self._unwatch = unwatch
        self._limit = outbox
        self._numbers = 0
        self._by_fd: dict[int, Peer] = {}
        self._by_number: dict[int, Peer] = {}
        self._listener = self._listen(path)
        self._watch(self._listener.fileno())

    @staticmethod
    def _listen(path: str) -> socket.socket:
        # The state folder's lock says that no other engine lives here, so what lies at the path is a leftover.
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        os.chmod(path, 0o600)
        listener.listen(16)
        listener.setblocking(False)
        return listener

    @property
    def peers(self) -> int:
        return len(self._by_fd)

    @property
    def everyone(self) -> list[int]:
        return list(self._by_number)

    @property
    def followers(self) -> list[int]:
        return [peer.number for peer in self._by_fd.values() if peer.follows]

    @property
    def waiting(self) -> bool:
        """Whether something could not be written yet: then `flush` is due soon."""
        return any(peer.outbox for peer in self._by_fd.values())

    def readable(self, fds: Iterable[int]) -> tuple[list[int], list[tuple[int, Request]]]:
        """Serve descriptors that are readable. Returns the peers that came, and (peer, request) in order."""
        arrived: list[int] = []
        requests: list[tuple[int, Request]] = []
        for fd in fds:
            if fd == self._listener.fileno():
                arrived += self._accept()
            elif peer := self._by_fd.get(fd):
                requests += self._read(peer)
        return arrived, requests

    def follow(self, number: int) -> None:
        if peer := self._by_number.get(number):
            peer.follows = True

    def send(self, number: int, frame: Frame) -> bool:
        """Send a frame to a peer. False: it is gone. Raises ChannelError if the frame is too large."""
        return self.send_packed(number, pack(frame))

    def send_packed(self, number: int, packed: bytes) -> bool:
        peer = self._by_number.get(number)
        if peer is None:
            return False
        peer.outbox += packed
        self._write(peer)
        if len(peer.outbox) > self._limit:
            self._drop(peer, "slow")
            return False
        return number in self._by_number

    def flush(self) -> None:
        """Write what peers had no room for."""
        for peer in [peer for peer in self._by_fd.values() if peer.outbox]:
            self._write(peer)

    def close(self) -> None:
        for peer in list(self._by_fd.values()):
            self._drop(peer, "closing")
        self._unwatch(self._listener.fileno())
        self._listener.close()
        try:
            os.unlink(self.path)
        except OSError:
            pass

    def _accept(self) -> list[int]:
        arrived: list[int] = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return arrived
            if len(self._by_fd) >= PEERS:
                connection.close()
                self.dropped["too_many"] = self.dropped.get("too_many", 0) + 1
                continue
            connection.setblocking(False)
            self._numbers += 1
            peer = Peer(self._numbers, connection)
            self._by_fd[peer.fd] = self._by_number[peer.number] = peer
            self._watch(peer.fd)
            arrived.append(peer.number)

    def _read(self, peer: Peer) -> list[tuple[int, Request]]:
        requests: list[tuple[int, Request]] = []
        for _ in range(READS_PER_TURN):
            try:
                data = peer.connection.recv(READ)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data:
                self._drop(peer, "left")
                break
            try:
                requests += [(peer.number, read_request(body)) for body in peer.splitter.feed(data)]
            except ChannelError:
                self._drop(peer, "hostile")
                break
        return requests

    def _write(self, peer: Peer) -> None:
        try:
            while peer.outbox:
                written = peer.connection.send(peer.outbox)
                del peer.outbox[:written]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._drop(peer, "left")

    def _drop(self, peer: Peer, why: str) -> None:
        if self._by_fd.pop(peer.fd, None) is None:
            return
        self._by_number.pop(peer.number, None)
        self._unwatch(peer.fd)
        peer.connection.close()
        self.dropped[why] = self.dropped.get(why, 0) + 1
