"""The control interface: faults, prices and orders from outside while the gateway runs.

One JSON object per line over TCP on 127.0.0.1; the first line brings the token, each further one a command, and each is
answered by one line, `{"ok": true, ...}` or `{"ok": false, "error": "one sentence"}`:

    {"token": "..."}
    {"do": "fault", "args": {"name": "dup_status", "n": 3, "ref": "*.stop"}}
    {"do": "price", "args": {"symbol": "AAPL", "last": 101.5}}
    {"do": "status"}

Law: whoever does not bring the token gets nothing; a command that cannot be obeyed changes nothing. Everything that was
done is a `control` line of the journal.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from actors.venue.simulator import acts, scenario
from actors.venue.simulator.faults.reading import make_fault, read_fault
from actors.venue.simulator.wire import number

if TYPE_CHECKING:
    from actors.venue.simulator.gateway import Gateway
    from actors.venue.simulator.server import GatewayServer

LOOPBACK = "127.0.0.1"
MAX_LINE_BYTES = 64 * 1024
MAX_CONNECTIONS = 16
MIN_TOKEN = 16
HELLO_S = 10.0
"""Whoever has not brought the token by then is cut off: strangers cannot use up the places."""
SHOWN_ORDERS = 1000


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    do: str
    args: msgspec.Raw = msgspec.Raw(b"{}")


class FaultText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str


class Remove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault by its number, or all of them."""

    number: int | None = None


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


def read_token(path: str) -> str:
    """Return the token that a file holds. Raises ValueError when others may read it or it is too short."""
    try:
        with open(path, encoding="ascii") as file:
            status = os.fstat(file.fileno())
            token = file.read(1000).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--control-token-file {path}: cannot be read: {error}") from None
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ValueError(f"--control-token-file {path}: must be a file of yours with mode 0600")
    if len(token) < MIN_TOKEN:
        raise ValueError(f"--control-token-file {path}: holds {len(token)} characters, at least {MIN_TOKEN} are needed")
    return token


class ControlServer:
    """Listens beside the gateway, in the same loop."""

    def __init__(self, server: GatewayServer, token: str | None = None) -> None:
        self.server = server
        self.token = token or secrets.token_urlsafe(24)
        self.port = 0
        self.hello_seconds = HELLO_S
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> int:
        """Listen and return the port; raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, port, limit=MAX_LINE_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if len(self._open) > MAX_CONNECTIONS:
                refusal = f"{MAX_CONNECTIONS} connections are open; there can be no more"
                writer.write(msgspec.json.encode({"ok": False, "error": refusal}) + b"\n")
            elif await asyncio.wait_for(self._greeted(reader, writer), self.hello_seconds):
                while line := await reader.readline():
                    with self.server.keeping():
                        writer.write(msgspec.json.encode(self.obey(line)) + b"\n")
                    if self.server.failed is not None:
                        break
                    await writer.drain()
        except (ConnectionError, ValueError, TimeoutError, asyncio.CancelledError):
            pass                   # it has gone or says nothing, has sent a line without an end, or the gateway ends
        finally:
            self._open.discard(task)
            writer.close()

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = await reader.readline()
        with suppress(msgspec.DecodeError, RecursionError):
            hello = msgspec.json.decode(line, type=Hello)
            if secrets.compare_digest(hello.token.encode(), self.token.encode()):
                writer.write(b'{"ok":true}\n')
                return True
        writer.write(b'{"ok":false,"error":"the first line must be {\\"token\\": \\"...\\"} with the right token"}\n')
        return False

    def obey(self, line: bytes) -> dict[str, Any]:
        """Do what one line says, let it be told, and return the answer."""
        gateway, now_ns = self.server.gateway, self.server.now_ns()
        try:
            command = msgspec.json.decode(line, type=Command)
            if command.do not in COMMANDS:
                raise ValueError(f"do {command.do!r} is not known; there are {', '.join(sorted(COMMANDS))}")
            kind, act = COMMANDS[command.do]
            args = msgspec.json.decode(bytes(command.args), type=kind)
            wrong = scenario.out_of_bounds(args, command.do)
            if wrong is not None:
                raise ValueError(f"{wrong[0]}: {wrong[1]}")
            answer = act(gateway, args, now_ns)
        except (ValueError, LookupError, ArithmeticError, msgspec.DecodeError) as error:
            return {"ok": False, "error": str(error)}
        except RecursionError:
            return {"ok": False, "error": "the command is nested too deeply"}
        if command.do not in ("status", "faults"):
            gateway.changes += 1
            gateway.log(now_ns, "sim", -1, "control", {"do": command.do, "args": msgspec.to_builtins(args)})
        self.server.turn()
        return {"ok": True, **(answer or {})}


def _fault(gateway: Gateway, args: dict[str, Any], now_ns: int) -> dict[str, Any]:
    return {"number": gateway.faults.add(make_fault(args, "in `args`"), now_ns)}


def _fault_text(gateway: Gateway, args: FaultText, now_ns: int) -> dict[str, Any]:
    return {"number": gateway.faults.add(read_fault(args.text), now_ns)}


def _faults(gateway: Gateway, args: Nothing, now_ns: int) -> dict[str, Any]:
    return {"faults": gateway.faults.listed()}


def _remove(gateway: Gateway, args: Remove, now_ns: int) -> dict[str, Any]:
    if args.number is not None and args.number not in gateway.faults.armed:
        raise ValueError(f"no fault has the number {args.number}")
    for n in [args.number] if args.number is not None else list(gateway.faults.armed):
        gateway.faults.remove(n, now_ns)
    return {}


def _price(gateway: Gateway, args: scenario.Price, now_ns: int) -> None:
    if args.last is args.bid is args.ask is None:
        raise ValueError("price: give at least one of last, bid and ask")
    acts.show(gateway, args, now_ns)


def _disconnect(gateway: Gateway, args: scenario.Disconnect, now_ns: int) -> dict[str, Any]:
    return {"clients": acts.disconnect(gateway, args.client_id)}


def status(gateway: Gateway, args: Nothing, now_ns: int) -> dict[str, Any]:
    """Return what is connected, at work and held; at most a thousand orders."""
    driver = gateway.driver
    exchange = gateway.exchange
    return {
        "exchange_ns": gateway.exchange_ns(now_ns), "journal_seq": gateway.journal.seq,
        "link": "down" if gateway.link.down else "up", "away": now_ns < gateway.away_until_ns,
        "scenario_done": getattr(driver, "done", None),
        "clients": [{"client_id": client, "version": s.version} for client, s in gateway.by_client.items()],
        "orders": [{"ref": o.order_ref, "client_id": o.client_id, "order_id": o.order_id, "perm_id": o.perm_id,
                    "symbol": o.contract.symbol, "action": o.action, "status": o.status,
                    "filled": number(o.filled), "remaining": number(o.remaining)}
                   for o in exchange.open_orders()[:SHOWN_ORDERS]],
        "positions": [{"account": p.account, "symbol": p.contract.symbol, "quantity": number(p.quantity)}
                      for p in exchange.accounts.positions.values() if p.quantity]}


Act = Callable[[Any, Any, int], "dict[str, Any] | None"]
COMMANDS: dict[str, tuple[Any, Act]] = {
    "fault": (dict[str, Any], _fault),
    "fault_text": (FaultText, _fault_text),
    "faults": (Nothing, _faults),
    "remove": (Remove, _remove),
    "price": (scenario.Price, _price),
    "fill": (scenario.Fill, acts.fill),
    "reject": (scenario.Reject, acts.reject),
    "refuse_next": (scenario.Reject, lambda gateway, args, now_ns: acts.refuse_next(gateway, args)),
    "cancel": (scenario.CancelIt, acts.cancel),
    "halt": (scenario.Halt, acts.halt),
    "disconnect": (scenario.Disconnect, _disconnect),
    "status": (Nothing, status),
}
