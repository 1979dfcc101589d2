"""The HTTP process's end of the Unix socket: one connection, many requests in flight, news to whoever listens.

Law: the engine may be gone at any moment. Whoever waits is told so at once, and the link comes back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from actors.web.channel import (
    Answered,
    ChannelError,
    Describe,
    Described,
    Follow,
    Following,
    Frame,
    Gate,
    Noticed,
    Operate,
    Rows,
    Splitter,
    Submit,
    find_socket_path,
    pack,
    read_reply,
)

__all__ = ["EngineGone", "EngineLink", "Listener"]

RETRY_SECONDS = 0.05
RETRY_AT_MOST_SECONDS = 1.0
ANSWER_SECONDS = 15.0
"""Longer than the engine's own limit, so that its sentence arrives before ours is said."""

BACKLOG = 1_000
"""Batches and notices kept for one listener; beyond it the listener is dropped."""

NOT_RUNNING = Gate(open=False, reason="the engine does not run, or does not answer on its socket")

WENT_AWAY = "the engine went away before it answered and may have acted; ask again in the same words"


class EngineGone(Exception):
    """The engine cannot be asked now, or went away before it answered; str() is the sentence."""


class Listener:
    """What one WebSocket has yet to hear. `lost` is set when it was too slow; read the database and listen again."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Rows | Noticed] = asyncio.Queue(BACKLOG)
        self.lost = False


class EngineLink:
    """Speak to the engine of one state folder."""

    def __init__(self, state_dir: str) -> None:
        self.gate = NOT_RUNNING
        self._state_dir = state_dir
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Answered | Described | Following]] = {}
        self._listeners: set[Listener] = set()
        self._counter = 0

    @property
    def connected(self) -> bool:
        return self._writer is not None

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        pause = RETRY_SECONDS
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(find_socket_path(self._state_dir))
            except OSError:
                await asyncio.sleep(pause)
                pause = min(RETRY_AT_MOST_SECONDS, pause * 2)
                continue
            pause = RETRY_SECONDS
            self._writer = writer
            try:
                self._counter += 1
                writer.write(pack(Follow(id=self._counter)))
                await self._listen(reader)
            except (OSError, ChannelError):
                pass
            finally:
                self._gone()
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await asyncio.sleep(RETRY_SECONDS)

    async def submit(self, intent: bytes, source: str) -> Answered:
        """Hand over one intent (JSON). Raises EngineGone."""
        answered: Answered = await self._ask(Submit, intent=msgspec.Raw(intent), source=source)
        return answered

    async def operate(
        self, verb: str, bracket_id: str, command_id: str, actor: str, changes: bytes = b"{}"
    ) -> Answered:
        """Hand over one verb. Raises EngineGone."""
        raw = msgspec.Raw(changes)
        answered: Answered = await self._ask(
            Operate, verb=verb, bracket_id=bracket_id, command_id=command_id, actor=actor, changes=raw
        )
        return answered

    async def describe(self) -> Described:
        """Ask every service for its facts. Raises EngineGone."""
        described: Described = await self._ask(Describe)
        return described

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        """Hear all that comes from now on."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def _ask(self, request: type[Frame], **fields: Any) -> Any:
        writer = self._writer
        if writer is None:
            raise EngineGone(f"{self.gate.reason}; start it with `run.py start`")
        self._counter += 1
        number = self._counter
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            writer.write(pack(request(id=number, **fields)))
            await writer.drain()
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        except (TimeoutError, OSError):
            raise EngineGone(
                f"the engine did not answer within {ANSWER_SECONDS:g} s and may still act; ask again in the same words"
            ) from None
        finally:
            self._waiting.pop(number, None)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        splitter = Splitter()
        while data := await reader.read(1 << 18):
            for body in splitter.feed(data):
                self._hear(read_reply(body))

    def _hear(self, reply: Any) -> None:
        if isinstance(reply, Gate):
            self.gate = reply
        elif isinstance(reply, Rows | Noticed):
            for listener in list(self._listeners):
                try:
                    listener.queue.put_nowait(reply)
                except asyncio.QueueFull:
                    listener.lost = True
                    self._listeners.discard(listener)
        elif (answer := self._waiting.pop(reply.id, None)) is not None and not answer.done():
            answer.set_result(reply)

    def _gone(self) -> None:
        self._writer = None
        self.gate = NOT_RUNNING
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(EngineGone(WENT_AWAY))
