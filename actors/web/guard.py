"""What stands before every route: loopback names only, small bodies, and the token for whatever changes something.

Law: every refusal is JSON with `code`, `field` and one `sentence`; never HTML, never a traceback, never the token.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import urlsplit

import msgspec

BODY_CAP = 65_536
"""Bytes of one request's body."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def refusal(code: str, field: str | None, sentence: str) -> bytes:
    """Return the body of every answer that is not what was asked for."""
    return msgspec.json.encode({"code": code, "field": field, "sentence": sentence})


def host_name(host: str) -> str:
    """Return the host of `host:port`, with the brackets of an IPv6 address."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), value)
        refused = self._refuse(scope, headers)
        if refused is not None:
            await _answer(scope, send, *refused)
            return
        if scope["type"] == "websocket" or scope["method"] in SAFE:
            await self._app(scope, receive, send)
            return
        body = await _read_body(receive)
        if body is None:
            await _answer(scope, send, 413, "too_large", "body", f"body: larger than {BODY_CAP} bytes")
            return
        given = {"type": "http.request", "body": body, "more_body": False}
        told = False

        async def receive_body() -> Any:
            nonlocal told
            if told:
                return await receive()
            told = True
            return given

        await self._app(scope, receive_body, send)

    def _refuse(self, scope: Any, headers: dict[bytes, bytes]) -> tuple[int, str, str | None, str] | None:
        # A page on the internet can make a browser call 127.0.0.1, under its own name (DNS rebinding) or not.
        host = host_name(headers.get(b"host", b"").decode("latin-1"))
        if host not in LOOPBACK:
            return 403, "host", "Host", "Host: only 127.0.0.1, localhost and [::1] are served"
        origin = headers.get(b"origin")
        if origin is not None:
            try:
                name = host_name(urlsplit(origin.decode("latin-1")).netloc)
            except ValueError:
                name = ""
            if name not in LOOPBACK:
                return 403, "origin", "Origin", "Origin: pages from elsewhere are not served"
        if scope["type"] == "websocket" or scope["method"] in SAFE:
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
            return 401, "token", "Authorization", "Authorization: must be `Bearer` and the token in the state folder"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 12 or int(length) > BODY_CAP:
            return 413, "too_large", "body", f"body: larger than {BODY_CAP} bytes"
        return None


async def _read_body(receive: Any) -> bytes | None:
    """Return the whole body, or None if it is above the cap or its sender left."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_CAP:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(scope: Any, send: Any, status: int, code: str, field: str | None, sentence: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": sentence[:120]})
        return
    body = refusal(code, field, sentence)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
