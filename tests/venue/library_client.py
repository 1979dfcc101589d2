"""A real client library's encoder and decoder on a gateway in memory: no socket, no event loop, virtual time.

Law: requests are the bytes that the library's own Client writes, answers are what its own Decoder calls; a callback
that fails inside the library is logged by it, and `faults` shows that.
"""

from __future__ import annotations

import logging
from typing import Any

from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.wire import FrameBuffer, encode, frame, split
from tests.venue.gateway_fixture import NS, START_NS


class Callbacks:
    """A wrapper that notes every callback of a library's decoder."""

    defaultTimezone = None

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.ib = type("IB", (), {"TimezoneTWS": ""})()

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, *args))


class LibraryClient:
    """One client: `ask("reqPnL", 5, "DU1", "")` returns the callbacks that it causes at once."""

    def __init__(self, library: Any, gateway: Gateway, version: int = 176, client_id: int = 1,
                 now_ns: int = START_NS) -> None:
        self.gateway, self.now = gateway, now_ns
        self.library = library
        self._callbacks = Callbacks()
        self._decoder = library.decoder.Decoder(self._callbacks, version)
        self._client = library.client.Client(self._callbacks)
        self._client.connState = library.client.Client.CONNECTED
        self._client._serverVersion = version
        self._client.sendMsg = lambda text: self.session.receive(frame(text.encode()), self.now)
        self._buffer = FrameBuffer()
        self.faults: list[logging.LogRecord] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = self.faults.append
        self._decoder.logger = logging.Logger("decoder")
        self._decoder.logger.addHandler(handler)
        self.session = gateway.connect(now_ns)
        self.session.receive(b"API\0" + frame(f"v{version}..{version}".encode()) + encode(71, 2, client_id, ""), now_ns)
        self.session.take()

    def ask(self, request: str, *args: Any) -> list[tuple[Any, ...]]:
        """Send one request through the library and return the callbacks."""
        getattr(self._client, request)(*args)
        return self.heard()

    def heard(self) -> list[tuple[Any, ...]]:
        """Return the callbacks of what the gateway has said since the last call."""
        self._buffer.feed(self.session.take())
        before = len(self._callbacks.calls)
        for payload in self._buffer.payloads():
            self._decoder.interpret(split(payload))
        assert not self.faults, [record.getMessage() for record in self.faults]
        return self._callbacks.calls[before:]

    def wait(self, seconds: float) -> list[tuple[Any, ...]]:
        """Let virtual time pass in steps of a tenth of a second, and return the callbacks."""
        end = self.now + int(seconds * NS)
        while self.now < end:
            self.now = min(end, self.now + NS // 10)
            self.gateway.advance(self.now)
        return self.heard()


def written_by(library: Any, version: int, contract: Any, order: Any) -> list[str]:
    """Return the fields of placeOrder exactly as the library writes them."""
    client = library.Client(library.wrapper.Wrapper(None))
    client._serverVersion = version
    client.isConnected = lambda: True
    captured: list[str] = []
    client.sendMsg = captured.append
    client.placeOrder(order.orderId, contract, order)
    return captured[0].split("\0")[:-1]


def named(calls: list[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]]:
    """Return the arguments of every callback of that name."""
    return [call[1:] for call in calls if call[0] == name]


def codes(calls: list[tuple[Any, ...]]) -> list[int]:
    """Return the error codes among the callbacks."""
    return [call[2] for call in calls if call[0] == "error"]
