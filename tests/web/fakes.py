"""A real engine with real actors, as simple as can be: the control actor is the one under test, the others answer."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec

from actors.base import SupervisedActor
from actors.host import Host
from actors.rules.intake import digest
from actors.web.app import build_app
from actors.web.client import Bracketeer
from actors.web.link import EngineLink
from messages.ledger import EventsCommitted
from messages.orders import CommandAnswered, ModifyBracket, OperatorCommand
from messages.risk import SubmitIntent
from messages.session import DescribeService, ServiceDescribed
from messages.settings import HttpSettings, Settings, SystemSettings
from messages.supervision import ServiceSpec
from storage.reader import StoredEvent

TOKEN = "a-token-of-more-than-thirty-two-characters"
DENIED_SYMBOL = "GOOGL"
SILENT_SYMBOL = "TSLA"
PATIENCE_S = 30.0
"""How long a test waits for what comes at once on a machine with nothing else to do."""
Row = tuple[int, str, "str | None", str, bytes, int]


class Told(SupervisedActor):
    """A service that describes itself and does nothing else."""

    def receiveMsg_DescribeService(self, message: DescribeService, sender: Any) -> None:
        facts = {"fact": Decimal("1.50"), "gate_open": False}
        self.tell(sender, ServiceDescribed(correlation=message.correlation, name=self.name, facts=facts))


class AnsweringRouter(Told):
    """Accepts, repeats, denies and contradicts as the router does, without a venue behind it."""

    def on_start(self, start: Any) -> None:
        self.known: dict[str, tuple[str, str]] = {}
        self.commands: list[OperatorCommand] = []

    def receiveMsg_SubmitIntent(self, message: SubmitIntent, sender: Any) -> None:
        intent = message.intent
        if intent.instrument == SILENT_SYMBOL:
            return
        if intent.instrument == DENIED_SYMBOL:
            self.answer(sender, message.correlation, False, None, "netting", f"instrument: {DENIED_SYMBOL} is denied")
            return
        mark = digest(intent)
        fresh = intent.signal_id not in self.known
        bracket_id, known = self.known.setdefault(intent.signal_id, (f"B{len(self.known) + 1}-test", mark))
        if known != mark:
            self.answer(sender, message.correlation, False, bracket_id, "signal_reused", "signal_id: has other content")
        else:
            self.answer(sender, message.correlation, True, bracket_id, "accepted" if fresh else "known", "")

    def receiveMsg_OperatorCommand(self, message: OperatorCommand, sender: Any) -> None:
        self.commands.append(message)
        if message.bracket_id == "B404":
            self.answer(sender, message.correlation, False, None, "unknown_bracket", "bracket_id: B404 is not known")
        elif isinstance(message, ModifyBracket) and message.quantity is not None:
            self.answer(sender, message.correlation, False, message.bracket_id, "filled", "quantity: already filled")
        else:
            self.answer(sender, message.correlation, True, message.bracket_id, "accepted", type(message).__name__)

    def answer(self, to: Any, correlation: str, accepted: bool, bracket_id: str | None, code: str, say: str) -> None:
        self.tell(to, CommandAnswered(correlation=correlation, accepted=accepted, bracket_id=bracket_id, code=code,
                                      sentence=say))  # fmt: skip


class EngineThread:
    """An embedded engine on a thread of its own; other threads hand it messages through a queue."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.host: Host | None = None
        self._said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._over = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(PATIENCE_S)

    def say(self, to: str, message: Any) -> None:
        self._said.put((to, message))

    def commit(self, *rows: Row) -> None:
        self.say("control", EventsCommitted(rows=rows))

    def _run(self) -> None:
        host = self.host = Host(self.settings)
        names = ("ledger", "risk", "position", "market_data", "broker")
        services = [ServiceSpec(name=name, actor="tests.web.fakes.Told") for name in names]
        services.append(ServiceSpec(name="router", actor="tests.web.fakes.AnsweringRouter"))
        services.append(ServiceSpec(name="control", actor="actors.control.Control"))
        host.start(services)
        if host.run_until(lambda: host.started is not None, PATIENCE_S):
            self._started.set()
        while not self._over.is_set():
            while not self._said.empty():
                to, message = self._said.get()
                host.tell(message, to)
            host.run_until(lambda: self._over.is_set() or not self._said.empty(), 0.2)
        host.stop()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S)


@dataclass
class ListReader:
    """A reader whose database is a list."""

    rows: list[Row] = field(default_factory=list)
    stories: dict[str, dict[str, Any]] = field(default_factory=dict)
    problem: Exception | None = None

    def events_after(self, seq: int, limit: int) -> list[StoredEvent]:
        if self.problem:
            raise self.problem
        return [
            StoredEvent(seq=number, key=key, bracket_id=bracket_id, bracket_seq=1, type=kind,
                        payload=msgspec.Raw(payload), reason="", ts_ns=ts_ns)
            for number, key, bracket_id, kind, payload, ts_ns in list(self.rows)
            if number > seq
        ][:limit]  # fmt: skip

    def orders(self, bracket_id: str | None = None) -> list[dict[str, Any]]:
        return [order for story in self.stories.values() for order in story["orders"]]

    orders_full = orders

    def brackets(self, limit: int, phase: str | None, before: str | None, live: bool) -> list[dict[str, Any]]:
        return [{"bracket_id": name} for name in self.stories][:limit]

    def bracket_counts(self) -> dict[str, int]:
        return {"ENTERING": len(self.stories)}

    def status_counts(self) -> dict[str, int]:
        return {}

    def bracket(self, bracket_id: str) -> dict[str, Any] | None:
        if self.problem:
            raise self.problem
        return self.stories.get(bracket_id)

    def positions(self) -> list[dict[str, Any]]:
        return []


class WebThread:
    """The HTTP application under uvicorn, on a free port, in a thread."""

    def __init__(self, reader: Any, settings: Settings) -> None:
        import uvicorn

        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(64)
        self.port: int = self.socket.getsockname()[1]
        self.link = EngineLink(settings.state_dir)
        app = build_app(reader, self.link, TOKEN, settings)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self.socket]))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(PATIENCE_S)
        self.socket.close()


@dataclass
class Stack:
    """Engine, HTTP and a client."""

    engine: EngineThread
    web: WebThread
    reader: ListReader
    client: Bracketeer
    http: httpx.Client

    def wait(self, condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        deadline = threading.Event()
        for _ in range(int(seconds / 0.01)):
            if condition():
                return
            deadline.wait(0.01)
        raise AssertionError("the condition did not come true in time")


def make_settings(folder: Path) -> Settings:
    return Settings(system=SystemSettings(state_dir=str(folder)), http=HttpSettings(port=0))


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    settings = make_settings(folder)
    engine = EngineThread(settings)
    reader = ListReader()
    web = WebThread(reader, settings)
    client = Bracketeer(web.url, TOKEN)
    http = httpx.Client(base_url=web.url, trust_env=False)
    running = Stack(engine, web, reader, client, http)
    try:
        running.wait(lambda: web.link.connected and web.link.gate.reason != "the engine does not run")
        yield running
    finally:
        client.close()
        http.close()
        web.stop()
        engine.stop()


def row(seq: int, bracket_id: str = "B1-test", kind: str = "BracketMoved", **payload: Any) -> Row:
    body = msgspec.json.encode({"type": kind, "bracket_id": bracket_id, **payload})
    return (seq, f"key:{seq}", bracket_id, kind, body, 1_000 + seq)


def intent(**changes: Any) -> dict[str, Any]:
    """Return a good intent, as JSON data."""
    good: dict[str, Any] = {
        "signal_id": "s-1", "strategy": "Momentum_EQ", "instrument": "AAPL", "side": "BUY", "quantity": "100",
        "urgency": "Normal", "time_in_force": "DAY", "max_slippage_bps": None, "expiry_policy": "hold",
        "risk_tags": [], "order_type": "LMT", "limit_price": "100",
        "exits": [{"target": {"price": "110"}, "stop": {"price": "95"}}],
    }  # fmt: skip
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}
