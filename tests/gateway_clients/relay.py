"""A wire between client and gateway that cuts or gathers the bytes (ib-wire.md 15.4).

Law: not a byte is lost, added or reordered.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LOOPBACK = "127.0.0.1"
GATHER_S = 0.02
READ_BYTES = 1 << 16
DELIVERIES = ("plain", "split", "coalesced")


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delivery: str, whole_first: bool) -> None:
    """Carry bytes one way. `whole_first`: what comes first is passed on as it came (the server's version frame)."""
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if whole_first:
            writer.write(await reader.read(READ_BYTES))
        while data := await reader.read(READ_BYTES):
            if delivery == "coalesced":
                with suppress(TimeoutError):        # what comes meanwhile goes along, in one write
                    async with asyncio.timeout(GATHER_S):
                        while more := await reader.read(READ_BYTES):
                            data += more
                writer.write(data)
            else:
                for byte in data:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0)
            await writer.drain()
    except OSError:
        pass        # the other side has gone
    finally:
        writer.close()


@contextmanager
def relay(port: int, delivery: str, whole_hello: bool = False) -> Iterator[int]:
    """Yield a port of this machine's loopback that leads to the gateway's; `plain` is the gateway's own."""
    if delivery == "plain":
        yield port
        return
    loop = asyncio.new_event_loop()

    async def dialled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(LOOPBACK, port)
        await asyncio.gather(carry(reader, back, delivery, False), carry(there, writer, delivery, whole_hello))

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(dialled, LOOPBACK, 0)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        async def end() -> None:
            server.close()
            carrying = asyncio.all_tasks() - {asyncio.current_task()}
            for task in carrying:
                task.cancel()
            await asyncio.gather(*carrying, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
