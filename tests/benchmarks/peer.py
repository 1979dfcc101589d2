"""The gateway's end of the wire for benchmarks: our simulated gateway on blocking sockets, without asyncio.

Law: what is timed lies between the send that carries a tick and the receive that brings the order; nothing of the
gateway's own work (matching, answering) is in it.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Callable
from decimal import Decimal

from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.session import Session
from actors.venue.simulator.settings import GatewaySettings

READ_BYTES = 1 << 18


def holds_order(data: bytes) -> bool:
    """Whether a whole placeOrder frame (message 3) is among the frames that begin here."""
    at = 0
    while len(data) - at >= 4:
        stop = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if stop > len(data):
            return False
        if data[at + 4 : at + 6] == b"3\0":
            return True
        at = stop
    return False


class Peer:
    """One listening gateway for one client at a time. Prices move only when told."""

    def __init__(self) -> None:
        self.gateway = Gateway(GatewaySettings(), now_ns=time.time_ns())
        self.contract = self.gateway.contracts.named("AAPL")
        assert self.contract is not None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.peer: socket.socket | None = None
        self.session: Session | None = None
        self.quote(Decimal(100), Decimal("100.01"))

    def quote(self, bid: Decimal, ask: Decimal) -> None:
        """Move bid and ask; what can be filled at them is filled."""
        self.gateway.set_quote(self.contract, time.time_ns(), bid=bid, ask=ask)  # type: ignore[arg-type]

    def serve(self, until: Callable[[], bool], seconds: float = 60.0, wait: float = 0.02) -> bool:
        """Answer clients until something is true; say whether it became so in time."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                return False
            waiting = [self.listener] if self.peer is None else [self.peer]
            if select.select(waiting, [], [], wait)[0]:
                self._accept() if self.peer is None else self._hear()
            self.flush()
        return True

    def serve_until_quiet(self, quiet: float, seconds: float = 10.0) -> None:
        """Answer until nothing has come for `quiet` seconds."""
        end = time.monotonic() + seconds
        while self.peer is not None and time.monotonic() < end and select.select([self.peer], [], [], quiet)[0]:
            self._hear()
            self.flush()

    def _accept(self) -> None:
        self.peer, _ = self.listener.accept()
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.session = self.gateway.connect(time.time_ns())

    def _hear(self) -> None:
        assert self.peer is not None
        assert self.session is not None
        try:
            data = self.peer.recv(READ_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            self.hang_up()
            return
        self.session.receive(data, time.time_ns())

    def flush(self) -> None:
        """Write what there is to say. The client reads whenever it can, so that blocking is no danger."""
        if self.session is not None and self.session.has_output:
            assert self.peer is not None
            try:
                self.peer.sendall(self.session.take())
            except ConnectionError:
                self.hang_up()

    def hang_up(self) -> None:
        if self.session is not None:
            self.gateway.disconnect(self.session, time.time_ns())
        if self.peer is not None:
            self.peer.close()
        self.peer = self.session = None

    def close(self) -> None:
        self.hang_up()
        self.listener.close()

    # -- ticks -------------------------------------------------------------------------------------------------

    def tick(self, price: Decimal) -> bytes:
        """Print a trade; return the bytes that tell of it."""
        assert self.session is not None
        now = time.time_ns()
        self.gateway.trade(self.contract, Trade(price=price, size=Decimal(100), time_ns=now), now)  # type: ignore[arg-type]
        return self.session.take()

    def fire(self, price: Decimal, seconds: float = 5.0) -> float | None:
        """Send a tick and wait for an order; return the microseconds between them, None if none came.

        Then the gateway fills the order and answers.
        """
        data = self.tick(price)
        assert self.peer is not None
        assert self.session is not None
        peer, heard, took = self.peer, b"", -1
        peer.settimeout(seconds)
        began = time.perf_counter_ns()
        peer.sendall(data)
        try:
            while not holds_order(heard):
                more = peer.recv(READ_BYTES)
                took = time.perf_counter_ns() - began
                if not more:
                    raise ConnectionError("the client hung up while an order was awaited")
                heard += more
        except TimeoutError:
            took = -1
        finally:
            peer.settimeout(None)
        self.session.receive(heard, time.time_ns())
        self.flush()
        return took / 1e3 if took >= 0 else None


def main() -> None:
    """A gateway as a process of its own: prints its port, and takes quotes as lines `BID ASK` until its input ends."""
    peer = Peer()
    print(peer.port, flush=True)
    over = False

    def commanded() -> bool:
        nonlocal over
        if select.select([sys.stdin], [], [], 0)[0]:
            words = sys.stdin.readline().split()
            over = not words
            if words:
                peer.quote(Decimal(words[0]), Decimal(words[1]))
                print("done", flush=True)
        return over

    peer.serve(commanded, seconds=3600.0)
    peer.close()


if __name__ == "__main__":
    main()
