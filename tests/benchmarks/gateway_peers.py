"""The other processes of the gateway's benchmark: the gateway, one of ticks, the bare servers to compare with.

Run: python -m tests.benchmarks.gateway_peers gateway | echo | ticks COUNT CLIENTS | source COUNT CLIENTS. Each prints
its port and lives until its input ends.

Law: a bare server moves the same bytes in the same batches, and does nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.server import GatewayServer, serve
from actors.venue.simulator.session import Session
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.ticks import TickByTick
from actors.venue.simulator.wire import encode

BATCH = 200
MARK = b"BENCH\0\0"
"""How every tick ends, and nothing else: ticks are counted by it."""
UNREAD_BYTES = 1 << 20
STILL = Decimal(10**7)


def tick(number: int) -> Trade:
    return Trade(Decimal(10_000 + number % 50) / 100, Decimal(100), 1_760_000_000_000_000_000, "BENCH")


class Burst:
    """The market driver: so many prints, as fast as the clients take them, once all of them listen."""

    virtual_ns: int | None = None

    def __init__(self, gateway: Gateway, contract: Contract, count: int, clients: int) -> None:
        self.gateway, self.contract, self.left, self.clients = gateway, contract, count, clients
        self.server: GatewayServer

    def advance(self, now_ns: int) -> int | None:
        if self.left <= 0 or len(self.gateway.watchers(self.contract.con_id)) < self.clients:
            return None
        unread = [c.transport.get_write_buffer_size() for c in self.server.connections.values() if c.transport]
        if max(unread, default=0) > UNREAD_BYTES:
            return now_ns + 1_000_000
        for _ in range(min(BATCH, self.left)):
            self.gateway.trade(self.contract, tick(self.left), now_ns)
            self.left -= 1
        return now_ns

    def acknowledge(self, session: Session) -> None:
        pass


async def gateway() -> int:
    server = await serve(GatewaySettings(walk_interval=STILL))
    return server.port


async def ticks(count: int, clients: int) -> int:
    server = await serve(GatewaySettings(walk_interval=STILL))
    contract = server.gateway.contracts.named("AAPL")
    assert contract is not None
    server.gateway.driver = driver = Burst(server.gateway, contract, count, clients)
    driver.server = server
    return server.port


class Echo(asyncio.Protocol):
    """Whatever comes goes back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Source(Echo):
    """Ticks made beforehand, written to all clients in the same batches."""

    listeners: list[Source] = []

    def __init__(self, count: int, clients: int) -> None:
        self.count, self.clients = count, clients

    def data_received(self, data: bytes) -> None:
        self.listeners.append(self)
        self.transport.write(encode(99))
        if len(self.listeners) == self.clients:
            subscription = TickByTick(1, 265598, "Last")
            self.batch = b"".join(subscription.trade(tick(n), Quote()) for n in range(BATCH))
            self.burst()

    def burst(self) -> None:
        if max(each.transport.get_write_buffer_size() for each in self.listeners) > UNREAD_BYTES:
            asyncio.get_running_loop().call_later(0.001, self.burst)
            return
        for each in self.listeners:
            each.transport.write(self.batch)
        self.count -= BATCH
        if self.count > 0:
            asyncio.get_running_loop().call_soon(self.burst)


async def bare(protocol: type[Echo], *arguments: int) -> int:
    server = await asyncio.get_running_loop().create_server(lambda: protocol(*arguments), "127.0.0.1", 0)
    kept.append(server)
    return int(server.sockets[0].getsockname()[1])


kept: list[asyncio.Server] = []


async def main(kind: str, arguments: list[int]) -> None:
    if kind == "gateway":
        port = await gateway()
    elif kind == "ticks":
        port = await ticks(*arguments)
    elif kind == "source":
        port = await bare(Source, *arguments)
    else:
        port = await bare(Echo)
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], [int(each) for each in sys.argv[2:]]))
