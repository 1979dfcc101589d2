"""The connection object that stands in the library's `Client.conn` place: a plain non-blocking socket.

Law: what is written goes to the kernel at once; what the kernel does not take is counted, never hidden. There is no
asyncio transport: the broker reads when its host says that the socket is readable.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any

READ_BYTES = 65_536
MAX_FRAME = 16 * 1024 * 1024
_length = Struct(">I")


class Link:
    """A socket with the interface of the library's Connection: connectAsync, disconnect, isConnected, sendMsg.

    Events (`new_event` is eventkit's Event): hasData(bytes), disconnected(str).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, new_event: Callable[[str], Any],
                 closing: Callable[[int], None]) -> None:
        self.hasData = new_event("hasData")
        self.disconnected = new_event("disconnected")
        self.numBytesSent = self.numMsgSent = 0
        self.bytes_read = 0
        self._loop = loop
        self._closing = closing
        self._socket: socket.socket | None = None
        self._unsent = bytearray()
        self._unread = b""
        self._room = memoryview(bytearray(READ_BYTES))
        self.unread = False
        """Whether the last read took all that one read can take: the kernel may have more."""

    @property
    def fd(self) -> int | None:
        return self._socket.fileno() if self._socket is not None else None

    @property
    def unsent_bytes(self) -> int:
        return len(self._unsent)

    async def connectAsync(self, host: str, port: int) -> None:
        """Connect. Raises OSError."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await self._loop.sock_connect(sock, (host, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        self._socket = sock

    def isConnected(self) -> bool:
        return self._socket is not None

    def disconnect(self) -> None:
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._closing(sock.fileno())
        if self._unsent:
            self._loop.remove_writer(sock)
            self._unsent.clear()
        self._unread = b""
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sock.close()

    def sendMsg(self, message: bytes) -> None:
        """Write to the kernel now; keep what it does not take and write that as soon as it does."""
        sock = self._socket
        if sock is None:
            raise ConnectionError("the socket is closed")
        self.numMsgSent += 1
        if self._unsent:
            self._unsent += message
            return
        try:
            sent = sock.send(message)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            raise ConnectionError(f"the socket broke while writing: {problem}") from problem
        self.numBytesSent += sent
        if sent < len(message):
            self._unsent += memoryview(message)[sent:]
            self._loop.add_writer(sock, self._write_rest)

    def _write_rest(self) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            sent = sock.send(self._unsent)
        except OSError:
            return  # the next read says why
        self.numBytesSent += sent
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(sock)

    def read(self) -> Iterator[bytes]:
        """Yield the payloads of the complete frames of one read.

        Raises ConnectionError when the peer has closed, the socket broke, or a length is impossible.
        """
        sock = self._socket
        if sock is None:
            return
        try:
            got = sock.recv_into(self._room)
        except BlockingIOError:
            self.unread = False
            return
        except OSError as problem:
            raise ConnectionError(f"the socket broke while reading: {problem}") from problem
        if not got:
            raise ConnectionError("the gateway closed the connection")
        self.bytes_read += got
        self.unread = got == READ_BYTES
        data = self._unread + self._room[:got]
        start, end, length_at = 4, len(data), _length.unpack_from
        while start <= end:
            size = length_at(data, start - 4)[0]
            if not 0 < size <= MAX_FRAME:
                raise ConnectionError(f"a frame of {size} bytes is impossible (1..{MAX_FRAME})")
            stop = start + size
            if stop > end:
                break
            yield data[start:stop]
            start = stop + 4
        self._unread = data[start - 4:]
