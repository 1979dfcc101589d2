"""The HTTP control plane: routes, and what each answer means.

Law: reads come from the database, read-only, in this process; only commands go to the engine. Whatever is refused is
refused in one sentence, with a 4xx or 503, as JSON.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, Protocol

import msgspec
from litestar import Litestar, Request, Response, get, patch, post
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.config import OpenAPIConfig
from litestar.params import Parameter

from actors.rules.intake import check_intent, parse_intent, parse_modify
from actors.rules.refusal import Refused
from actors.web.channel import Answered, ChannelError
from actors.web.guard import Guard, refusal
from actors.web.link import EngineGone, EngineLink
from actors.web.schema import complete
from actors.web.stream import events
from actors.web.verbs import VERBS, check_name
from messages.settings import Settings

JSON = "application/json"
Name = Annotated[str, Parameter()]
Maybe = Annotated[str | None, Parameter()]
Flag = Annotated[bool, Parameter()]
Limit = Annotated[int, Parameter(ge=1, le=1000)]
REPEATED = "known"
"""The code of an accepted answer that opened nothing new."""

STATUS = {
    "signal_reused": 409, "unknown_bracket": 404, "busy": 503, "timeout": 503, "starting": 503, "restarting": 503,
    "ledger_down": 503, "ledger_overloaded": 503,
}  # fmt: skip
"""Codes of a refusal with a meaning of their own in HTTP; otherwise 422 for an intent and 409 for a verb."""


class Reader(Protocol):
    """Read-only queries; see storage/reader.py."""

    def orders(self, bracket_id: str | None = None) -> Any: ...

    def orders_full(self, bracket_id: str | None = None) -> Any: ...

    def brackets(self, limit: int, phase: str | None, before: str | None, live: bool) -> Any: ...

    def bracket_counts(self) -> Any: ...

    def status_counts(self) -> Any: ...

    def bracket(self, bracket_id: str) -> Any: ...

    def positions(self) -> Any: ...

    def events_after(self, seq: int, limit: int) -> Any: ...


def build_app(reader: Reader, link: EngineLink, token: str, settings: Settings) -> Guard:
    """Make the ASGI application. The token never leaves it."""

    @asynccontextmanager
    async def linked(app: Litestar) -> AsyncIterator[None]:
        task = asyncio.create_task(link.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @post("/v1/intents", status_code=201, tags=["intents"])
    async def submit(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Send one intent; 201 with its bracket_id, 200 if the same intent was sent before."""
        body = await request.body()
        check_intent(parse_intent(body), settings, time.time_ns())
        answer = await link.submit(body, "http")
        if not answer.accepted:
            return refused(answer, 422)
        status = 200 if answer.code == REPEATED else 201
        return reply(said(answer), status, {"location": f"/v1/brackets/{answer.bracket_id}"})

    @get("/v1/brackets", tags=["brackets"])
    async def brackets(
        limit: Limit = 100, phase: Maybe = None, before: Maybe = None, live: Flag = False
    ) -> Response[bytes]:
        """Brackets, newest first: of one phase, not over yet (live), opened before another one."""
        check_names(phase=phase, before=before)
        return reply(await asyncio.to_thread(reader.brackets, limit, phase, before, live))

    @get("/v1/brackets/{bracket_id:str}", tags=["brackets"])
    async def bracket(bracket_id: Name) -> Response[bytes]:
        """One bracket with its orders, fills, trails and the whole of its story."""
        story = await asyncio.to_thread(reader.bracket, check_name("bracket_id", bracket_id))
        if story is None:
            return unknown(bracket_id)
        return reply(story)

    @patch("/v1/brackets/{bracket_id:str}", tags=["brackets"])
    async def modify(request: Request[Any, Any, Any], bracket_id: Name) -> Response[bytes]:
        """Change prices or quantity; docs/intents.md says what may change when."""
        return await operate(request, "modify", bracket_id, await request.body())

    @post("/v1/brackets/{bracket_id:str}/{verb:str}", status_code=200, tags=["brackets"])
    async def act(request: Request[Any, Any, Any], bracket_id: Name, verb: Name) -> Response[bytes]:
        """Give a verb: cancel-entry, cancel, flatten or detach."""
        if verb not in VERBS or verb == "modify":
            words = ", ".join(word for word in VERBS if word != "modify")
            return Response(refusal("verb", "verb", f"verb: not one of {words}"), media_type=JSON, status_code=404)
        return await operate(request, verb, bracket_id)

    async def operate(
        request: Request[Any, Any, Any], verb: str, bracket_id: str, changes: bytes = b"{}"
    ) -> Response[bytes]:
        check_name("bracket_id", bracket_id)
        # The same key is the same command: a client that heard no answer may ask again without acting twice.
        command_id = check_name("Idempotency-Key", request.headers.get("idempotency-key") or secrets.token_hex(12))
        actor = check_name("X-Operator", request.headers.get("x-operator") or "operator")
        if verb == "modify":
            parse_modify(changes, bracket_id=bracket_id, command_id=command_id)
        answer = await link.operate(verb, bracket_id, command_id, actor, changes)
        return reply(said(answer)) if answer.accepted else refused(answer, 409)

    @get("/v1/orders", tags=["orders"])
    async def orders(bracket_id: Maybe = None, full: Flag = False) -> Response[bytes]:
        """Orders with the nine fields of the order schema; `full` gives every column."""
        check_names(bracket_id=bracket_id)
        return reply(await asyncio.to_thread(reader.orders_full if full else reader.orders, bracket_id))

    @get("/v1/positions", tags=["positions"])
    async def positions() -> Response[bytes]:
        """Positions by account, contract and strategy."""
        return reply(await asyncio.to_thread(reader.positions))

    @get("/v1/status", tags=["service"])
    async def status() -> Response[bytes]:
        """What every service says of itself, and whether orders can be sent."""
        described = await link.describe()
        facts = {"ready": link.gate.open, "reason": link.gate.reason, "services": described.services}
        counts = await asyncio.to_thread(lambda: (reader.bracket_counts(), reader.status_counts()))
        return reply({**facts, "silent": described.silent, "brackets": counts[0], "orders": counts[1]})

    @get("/livez", tags=["service"])
    async def livez() -> Response[bytes]:
        """This process answers."""
        return reply({"live": True})

    @get("/readyz", tags=["service"])
    async def readyz() -> Response[bytes]:
        """200 once the engine has a reconciled picture of the venue and may send orders; else 503 with the reason."""
        if link.gate.open:
            return reply({"ready": True})
        return Response(refusal("not_ready", None, link.gate.reason), media_type=JSON, status_code=503)

    @get("/schema", include_in_schema=False, sync_to_thread=False)
    def schema(request: Request[Any, Any, Any]) -> Response[bytes]:
        return reply(complete(request.app.openapi_schema.to_schema()))

    app = Litestar(
        route_handlers=[
            submit, brackets, bracket, modify, act, orders, positions, status, livez, readyz, schema,
            events(reader, link),
        ],
        lifespan=[linked],
        openapi_config=OpenAPIConfig(title="Bracketeer", version="1", path="/schema/none", render_plugins=[]),
        exception_handlers={
            Refused: on_refused, EngineGone: on_gone, ChannelError: on_too_large, HTTPException: on_http,
            Exception: on_failure,
        },
        logging_config=None,
    )  # fmt: skip
    return Guard(app, token)


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type=JSON, status_code=status, headers=headers)


def said(answer: Answered) -> dict[str, Any]:
    return {
        "bracket_id": answer.bracket_id, "code": answer.code, "sentence": answer.sentence, "detail": answer.detail
    }  # fmt: skip


def refused(answer: Answered, otherwise: int) -> Response[bytes]:
    body = refusal(answer.code, answer.field, answer.sentence)
    return Response(body, media_type=JSON, status_code=STATUS.get(answer.code, otherwise))


def check_names(**given: str | None) -> None:
    """Raise Refused for a query parameter that cannot be a name."""
    for name, value in given.items():
        if value is not None:
            check_name(name, value)


def unknown(bracket_id: str) -> Response[bytes]:
    body = refusal("unknown_bracket", "bracket_id", f"bracket_id: {bracket_id} is not known here")
    return Response(body, media_type=JSON, status_code=404)


def on_refused(_: Request[Any, Any, Any], problem: Refused) -> Response[bytes]:
    return Response(refusal(problem.code, problem.field, str(problem)), media_type=JSON, status_code=400)


def on_gone(_: Request[Any, Any, Any], problem: EngineGone) -> Response[bytes]:
    return Response(refusal("engine_gone", None, str(problem)), media_type=JSON, status_code=503)


def on_too_large(_: Request[Any, Any, Any], problem: ChannelError) -> Response[bytes]:
    return Response(refusal("too_large", "body", f"body: {problem}"), media_type=JSON, status_code=413)


def on_http(request: Request[Any, Any, Any], problem: HTTPException) -> Response[bytes]:
    code = {404: "no_such_route", 405: "method"}.get(problem.status_code, "request")
    if isinstance(problem, ValidationException) and isinstance(problem.extra, list) and problem.extra:
        field = str(problem.extra[0].get("key"))
        sentence = f"{field}: {problem.extra[0].get('message', 'is not valid')}"
        return Response(refusal("bad_value", field, sentence), media_type=JSON, status_code=400)
    sentence = {
        404: "there is nothing at this path; /schema lists what there is",
        405: "this path does not take this method; /schema lists what it takes",
    }.get(problem.status_code, "the request cannot be read")
    return Response(refusal(code, None, sentence), media_type=JSON, status_code=problem.status_code)


def on_failure(_: Request[Any, Any, Any], problem: Exception) -> Response[bytes]:
    from loguru import logger

    logger.opt(exception=problem).error("a request failed: {}", type(problem).__name__)
    if type(problem).__module__.partition(".")[0] in ("peewee", "sqlite3", "psycopg2", "storage"):
        sentence = "the database cannot be read now; the log of the HTTP process says why"
        return Response(refusal("database", None, sentence), media_type=JSON, status_code=503)
    sentence = "the HTTP process failed on this request; its log in the state folder says why"
    return Response(refusal("internal", None, sentence), media_type=JSON, status_code=500)
