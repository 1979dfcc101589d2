"""A real client library in memory: its own encoder, decoder and wrapper, without a socket, a loop or a clock.

Law: only what moves bytes is replaced; what is asked and what is understood is the library's own code.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.wire import frame
from tests.venue.gateway_fixture import NS, START_NS


def aapl(library: Any) -> Any:
    """Return Apple's share as the library spells it, qualified (ib_async hashes nothing else)."""
    return library.Stock("AAPL", "SMART", "USD", conId=265598)


class MemoryIB:
    """An `IB` of ib_insync or ib_async that is connected to a gateway in memory; `now` is moved by `advance`."""

    def __init__(self, library: Any, gateway: Gateway, client_id: int = 1, hello: str = "v157..176",
                 now: int = START_NS) -> None:
        self.gateway = gateway
        self.now = now
        self.ib = library.IB()
        self.client = self.ib.client
        self.client.clientId = client_id
        self.client.conn = SimpleNamespace(disconnect=lambda: None, numBytesSent=0, numMsgSent=0)
        self.client.sendMsg = self._send
        self.session = gateway.connect(now)
        self.errors: list[int] = []
        self.ib.errorEvent += lambda req_id, code, *rest: self.errors.append(code)
        self.session.receive(b"API\0" + frame(hello.encode()), now)
        self.read()

    def _send(self, message: str) -> None:
        self.session.receive(frame(message.encode()), self.now)
        self.gateway.advance(self.now)

    def read(self) -> None:
        """Let the library take what the gateway has said."""
        while self.session.has_output:
            self.client._onSocketHasData(self.session.take())

    def advance(self, seconds: float = 0, step_s: float | None = None) -> None:
        """Let time pass, turn by turn as the gateway asks for them, or in steps; then read."""
        end = self.now + int(seconds * NS)
        while (due := self.gateway.advance(self.now)) is not None and due <= end:
            self.now = max(self.now, due) if step_s is None else min(end, self.now + int(step_s * NS))
            self.read()
        self.now = end
        self.gateway.advance(self.now)
        self.read()
