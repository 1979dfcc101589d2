"""The HTTP process: `python -m actors.web`, started by `run.py start`, which hands it everything over standard input.

Law: it lives as long as its parent and no longer. Settings come by a pipe, because a database URL may hold a password
and a command line can be read by everybody.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import msgspec

from actors.cli.processes import die_with_parent
from messages.base import Record
from messages.settings import Settings


class WebSpec(Record, frozen=True, kw_only=True):
    """What the parent sends as one line of JSON. `fd`: the listening socket, bound by the parent and inherited."""

    settings: Settings
    fd: int
    parent: int


def main() -> None:
    line = sys.stdin.buffer.readline()
    if not line:
        return
    spec = msgspec.json.decode(line, type=WebSpec)
    die_with_parent(spec.parent)
    # Elsewhere than on Linux the pipe alone tells that the parent has gone.
    threading.Thread(target=_end_with_pipe, daemon=True).start()
    asyncio.run(serve(spec))


def _end_with_pipe() -> None:
    while sys.stdin.buffer.read(1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


async def serve(spec: WebSpec) -> None:
    """Serve until SIGTERM or SIGINT."""
    import uvicorn

    from actors.logs import open_process_log
    from actors.web.app import build_app
    from actors.web.link import EngineLink
    from storage.reader import Reader

    settings = spec.settings
    open_process_log(settings.state_dir, settings.log_level, "web", console=False)
    token = (Path(settings.state_dir) / "token").read_text().strip()
    app = build_app(Reader(settings.database_url), EngineLink(settings.state_dir), token, settings)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, lifespan="on",
        timeout_graceful_shutdown=1, ws_max_size=65_536, ws_max_queue=4, h11_max_incomplete_event_size=32_768,
        timeout_keep_alive=30, limit_concurrency=256,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in settings.http.host else socket.AF_INET
    # The protocol is named, or asyncio leaves Nagle's algorithm on: 44 ms for an answer instead of 2.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, spec.fd)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    main()
