"""The WebSocket /v1/events: every committed event in order, from any sequence number on, then live.

Law: the sequence number alone decides what is sent. What comes live and does not follow directly on what was sent is
read from the database instead, so there is no gap and nothing comes twice.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect, WebSocketException
from litestar.handlers import WebsocketRouteHandler

from actors.web.channel import NULL, Noticed, Rows
from actors.web.link import EngineLink

BATCH = 500
POLL_SECONDS = 1.0
"""How long without news before the database is asked: the engine may have gone and come back meanwhile."""

STUCK_SECONDS = 30.0
"""A client that takes nothing for so long is dropped."""

_encoder = msgspec.json.Encoder()


def encode_row(seq: int, key: str, bracket_id: str | None, kind: str, payload: Any, ts_ns: int) -> str:
    event = {"seq": seq, "key": key, "bracket_id": bracket_id, "type": kind, "ts_ns": ts_ns, "payload": payload}
    return _encoder.encode(event).decode()


class Outlet:
    """One client's stream."""

    def __init__(self, socket: WebSocket[Any, Any, Any], reader: Any, link: EngineLink, after: int) -> None:
        self.socket = socket
        self.reader = reader
        self.link = link
        self.last = after

    async def run(self) -> None:
        while True:
            async with self.link.listening() as listener:
                await self.replay()
                while not listener.lost:
                    try:
                        news = await asyncio.wait_for(listener.queue.get(), POLL_SECONDS)
                    except TimeoutError:
                        await self.replay()
                        continue
                    if isinstance(news, Rows):
                        await self.live(news)
                    elif isinstance(news, Noticed):
                        await self.notice(news)

    async def replay(self) -> None:
        """Send what the database has beyond `last`."""
        while True:
            rows = await asyncio.to_thread(self.reader.events_after, self.last, BATCH)
            for row in rows:
                await self.send(encode_row(row.seq, row.key, row.bracket_id, row.type, row.payload, row.ts_ns))
                self.last = row.seq
            if len(rows) < BATCH:
                return

    async def live(self, news: Rows) -> None:
        for seq, key, bracket_id, kind, payload, ts_ns in news.rows:
            if seq <= self.last:
                continue
            whole = payload != NULL
            if seq != self.last + 1 or not whole:
                await self.replay()
                if seq <= self.last:
                    continue
            if whole:
                await self.send(encode_row(seq, key, bracket_id, kind, payload, ts_ns))
                self.last = seq

    async def notice(self, news: Noticed) -> None:
        event = msgspec.json.decode(news.event)
        body = {key: value for key, value in event.items() if key != "type"}
        head = {"seq": None, "key": None, "bracket_id": event.get("bracket_id"), "type": event.get("type")}
        await self.send(_encoder.encode({**head, "ts_ns": event.get("ts_ns"), "payload": body}).decode())

    async def send(self, text: str) -> None:
        await asyncio.wait_for(self.socket.send_text(text), STUCK_SECONDS)


def events(reader: Any, link: EngineLink) -> WebsocketRouteHandler:
    """Make the route."""

    @websocket("/v1/events")
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        after = socket.query_params.get("after", "0")
        await socket.accept()
        if not (after.isascii() and after.isdigit() and len(after) <= 18):
            await socket.close(code=1008, reason="after: must be a whole number, the last sequence number you have")
            return
        sender = asyncio.create_task(Outlet(socket, reader, link, int(after)).run())
        watcher = asyncio.create_task(until_gone(socket))
        try:
            await asyncio.wait({sender, watcher}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watcher.cancel()
            sender.cancel()
            results = await asyncio.gather(sender, watcher, return_exceptions=True)
        problem = results[0]
        if isinstance(problem, Exception) and not isinstance(problem, WebSocketException | TimeoutError | OSError):
            from loguru import logger

            logger.opt(exception=problem).error("a stream ended: {}", type(problem).__name__)
        try:
            await socket.close(code=1011, reason="the stream ended; come back with after=")
        except (RuntimeError, WebSocketException, OSError):
            pass

    return stream


async def until_gone(socket: WebSocket[Any, Any, Any]) -> None:
    """Return when the client has left; what it says is not listened to."""
    try:
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass
    except WebSocketDisconnect:
        pass
