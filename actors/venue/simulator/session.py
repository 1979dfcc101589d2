"""One client's conversation with the gateway: bytes in, bytes out.

Law: no socket and no clock; the caller brings bytes and the time, takes `take()` and watches `closing`. Nothing that a
client sends may raise out of `receive`: it is answered as ib-wire.md 7 says, and journalled.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from actors.venue.simulator import responses
from actors.venue.simulator.account_feeds import Feed
from actors.venue.simulator.agenda import Entry as AgendaEntry
from actors.venue.simulator.desks import accounts, orders
from actors.venue.simulator.desks.directory import HANDLERS
from actors.venue.simulator.feeds import Watcher
from actors.venue.simulator.order_request import PlaceOrder
from actors.venue.simulator.requests import Request, decode
from actors.venue.simulator.wire import (
    API_PREFIX,
    MAX_FRAME_BYTES,
    FrameBuffer,
    FrameError,
    WireError,
    negotiate,
    split,
)

if TYPE_CHECKING:
    from actors.venue.simulator.gateway import Gateway

NS = 1_000_000_000
QUIET = frozenset({"reqCurrentTime"})
MAX_BREACHES = 3                   # IB disconnects at the third error 100
MAX_PACED = 10_000                 # requests that wait for their turn; what comes beyond is refused like the rest
PACE_OPTION = b"+PACEAPI"
MAX_HELLO_BYTES = 64 * 1024        # a stranger may not make us keep more than this
MAX_WAITING_BYTES = 32 * 1024 * 1024
"""What a client may be owed: one that asks for more before it reads is dropped."""
CLIENT_ID = re.compile(r"-?[0-9]{1,10}")


class Stage(enum.Enum):
    PREFIX = "waiting for API"
    HELLO = "waiting for the version range"
    START = "waiting for startApi"
    READY = "ready"
    CLOSED = "closed"


class Outbox(list[bytes]):
    """What waits to be written, and how many bytes that is."""

    size = 0

    def append(self, data: bytes) -> None:
        super().append(data)
        self.size += len(data)

    def clear(self) -> None:
        super().clear()
        self.size = 0


class Session:
    """The state of one connection. `client_id` is -1 until startApi."""

    def __init__(self, gateway: Gateway, number_: int) -> None:
        self.gateway = gateway
        self.number = number_
        self.client_id = -1
        self.version = 0
        self.stage = Stage.PREFIX
        self.closing = False
        self.subscriptions: dict[int, Watcher] = {}
        self.data_type = 1                 # what reqMarketDataType has asked for
        self.streams: dict[tuple[str, int], AgendaEntry] = {}
        """What the desks send from time to time, by request name and id; it ends with the connection."""
        self.wants_positions = False
        self.wants_account: str | None = None
        self.account_feeds: dict[tuple[str, int], Feed] = {}
        self._buffer = FrameBuffer()
        self._out = Outbox()
        self.hello_deadline: AgendaEntry | None = None
        self.deaf = False              # what comes is not heard: a half-open connection
        self.mute = False              # what is said does not go out
        self.abrupt = False            # close with a reset, and without what was still to be written
        self._paces = False            # +PACEAPI: too many requests wait instead of being refused
        self._waiting: deque[Request | PlaceOrder] = deque()
        self._sent_ns: deque[int] = deque()
        self._breaches = 0

    # bytes -----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take bytes as they come, in pieces of any size, and act on every whole message in them."""
        if self.closing:
            return
        self._buffer.feed(data)
        try:
            if self.stage is Stage.PREFIX:
                found = self._buffer.take_prefix(API_PREFIX)
                if found is None:
                    return
                if not found:
                    raise FrameError("the connection does not begin with API and a NUL")
                self.stage = Stage.HELLO
            while True:
                limit = MAX_FRAME_BYTES if self.stage is Stage.READY else MAX_HELLO_BYTES
                payload = self._buffer.payload(limit)
                if payload is None:
                    return
                self._message(payload, now_ns)
                if self.closing:
                    return
                if self._out.size > MAX_WAITING_BYTES:
                    raise FrameError(f"{self._out.size} bytes of answers wait for a client that goes on asking")
        except FrameError as error:
            self._bad(str(error), now_ns)
            self.close()

    def take(self) -> bytes:
        """Return and forget what is to be written to the client; what it tells of is stored by then."""
        if not self._out:
            return b""
        self.gateway.save()
        out = b"".join(self._out)
        self._out.clear()
        return out

    def pieces(self, now_ns: int) -> list[bytes]:
        """Return and forget what is to be written now, in the pieces in which it is to travel; usually one."""
        if self.gateway.faults.active:
            return self.gateway.faults.cut(self, now_ns)
        out = self.take()
        return [out] if out else []

    def drop(self, *, reset: bool = False) -> None:
        """Break the connection with what was not written yet unwritten."""
        self._out.clear()
        self.mute = True
        self.abrupt = reset
        self.close()

    @property
    def heeded(self) -> bool:
        """Return whether anybody reads the fields of what is sent: the journal, or a fault."""
        return self.gateway.journal.on or self.gateway.faults.active

    @property
    def has_output(self) -> bool:
        return bool(self._out)

    def end_streams(self) -> None:
        for entry in self.streams.values():
            entry.cancel()
        self.streams.clear()

    def close(self) -> None:
        self.closing = True
        self.stage = Stage.CLOSED
        self._buffer = FrameBuffer()
        self._waiting.clear()

    def expect_hello(self, due_ns: int) -> None:
        """Close unless the client has said who it is by then."""
        self.hello_deadline = self.gateway.agenda.at(due_ns, self._no_hello)

    def _no_hello(self, now_ns: int) -> None:
        self._bad(f"no startApi in time, still {self.stage.value}", now_ns)
        self.close()

    def known(self) -> None:
        """Stop waiting for the hello: it came, or the connection is over."""
        if self.hello_deadline is not None:
            self.hello_deadline.cancel()

    def send(self, name: str, data: bytes, now_ns: int, **fields: Any) -> None:
        """Queue one message and journal it."""
        if self.gateway.faults.active:
            self.gateway.faults.outgoing(self, name, data, now_ns, fields)
        else:
            self.put(name, data, now_ns, fields)

    def put(self, name: str, data: bytes, now_ns: int, fields: dict[str, Any]) -> None:
        """Queue and journal one message that no fault touches any more."""
        if not self.mute:
            self._out.append(data)
            self.gateway.log(now_ns, "out", self.client_id, name, fields)

    def send_tick(self, data: bytes) -> None:
        """Queue market data, which is journalled only on demand."""
        if self.gateway.faults.active:
            data = self.gateway.faults.tick(self, data)
        if not self.mute:
            self._out.append(data)
            if self.gateway.settings.journal_ticks:
                self._journal_ticks(data)

    def _journal_ticks(self, data: bytes) -> None:
        frames = FrameBuffer()
        frames.feed(data)
        for payload in frames.payloads():
            self.gateway.log(self.gateway.turn_ns, "out", self.client_id, "data", {"fields": split(payload)})

    def put_bytes(self, data: bytes) -> None:
        """Queue bytes that are no message."""
        if not self.mute:
            self._out.append(data)

    def error(self, req_id: int, code: int, text: str, now_ns: int) -> None:
        self.send("error", responses.error(self.version, req_id, code, text), now_ns, id=req_id, code=code, text=text)

    def _bad(self, reason: str, now_ns: int) -> None:
        self.gateway.log(now_ns, "in", self.client_id, "bad_bytes", {"reason": reason, "session": self.number})

    # messages --------------------------------------------------------------------------------------------------

    def _message(self, payload: bytes, now_ns: int) -> None:
        if self.deaf:
            return
        try:
            if self.stage is Stage.HELLO:
                self._hello(payload, now_ns)
                return
            request = decode(split(payload), self.version)
        except FrameError:
            raise
        except WireError as error:
            self._bad(str(error), now_ns)
            if self.stage is Stage.READY:
                self.error(-1, 320, f"Error reading request. {error}", now_ns)
            else:
                self.close()
            return
        if self.stage is Stage.START:
            self._start(request, now_ns)
        elif self._within_pace(request, now_ns):
            self._act(request, now_ns)

    def _hello(self, payload: bytes, now_ns: int) -> None:
        version = negotiate(payload, self.gateway.settings.server_version)
        if version is None:
            self._bad(f"no common server version in {payload[:40]!r}", now_ns)
            self.close()
            return
        self.version = version
        self._paces = PACE_OPTION in payload.split(b" ")[1:]
        self.stage = Stage.START
        data = responses.server_version(version, self.gateway.exchange_ns(now_ns))
        self.send("serverVersion", data, now_ns, version=version)

    def _start(self, request: Request | PlaceOrder, now_ns: int) -> None:
        client = str(request.values.get("clientId", "")) if isinstance(request, Request) else ""
        if request.name != "startApi" or CLIENT_ID.fullmatch(client) is None:
            self._bad(f"expected startApi with a client id, got {request.name}", now_ns)
            self.close()
            return
        client_id = int(client)
        refusal = self.gateway.admit(self, client_id, now_ns)
        if refusal is not None:
            self.error(-1, 326, refusal, now_ns)
            self.close()
            return
        self.client_id = client_id
        self.stage = Stage.READY
        self.known()
        if self.gateway.faults.active:
            self.gateway.faults.starting(self, request, now_ns)
            if self.closing:
                return
        accounts.managed_accounts(self, None, now_ns)
        orders.next_id(self, now_ns)
        if self.gateway.settings.push_orders_on_connect:
            orders.show_orders(self, self.gateway.exchange.open_orders(client_id), now_ns, end=False)
        self.gateway.link.greet(self, now_ns)

    # pace ------------------------------------------------------------------------------------------------------

    def _within_pace(self, request: Request | PlaceOrder, now_ns: int) -> bool:
        limit = self.gateway.settings.pacing_limit
        if not limit:
            return True
        if self._waiting or not self._fits_now(limit, now_ns):
            if not self._paces or len(self._waiting) >= MAX_PACED:
                self.breach(now_ns)
                return False
            if not self._waiting:
                self.gateway.agenda.at(self._sent_ns[0] + NS, self._next_in_turn)
            self._waiting.append(request)
            return False
        return True

    def _fits_now(self, limit: int, now_ns: int) -> bool:
        """Count one request if it is among the first `limit` of a second; one that is refused counts as well."""
        while self._sent_ns and self._sent_ns[0] <= now_ns - NS:
            self._sent_ns.popleft()
        fits = len(self._sent_ns) < limit
        if fits or not self._paces:
            self._sent_ns.append(now_ns)
        return fits

    def _next_in_turn(self, now_ns: int) -> int | None:
        """Act on the requests that waited and whose turn has come; what waits dies with its connection."""
        while self._waiting and not self.closing:
            if not self._fits_now(self.gateway.settings.pacing_limit, now_ns):
                return self._sent_ns[0] + NS
            self._act(self._waiting.popleft(), now_ns)
        self._waiting.clear()
        return None

    def breach(self, now_ns: int) -> None:
        """Answer a request beyond the pace with error 100; the third one costs the connection."""
        self.error(-1, 100, "Max rate of messages per second has been exceeded.", now_ns)
        self._breaches += 1
        if self._breaches >= MAX_BREACHES:
            self.close()

    # acting ----------------------------------------------------------------------------------------------------

    def _act(self, request: Request | PlaceOrder, now_ns: int) -> None:
        gateway = self.gateway
        gateway.turn_ns = now_ns
        gateway.roll(now_ns)
        if not gateway.faults.active:
            self._journal(request, now_ns)
            self.handle(request, now_ns)
        elif gateway.faults.arriving(self, request, now_ns):
            self._journal(request, now_ns)
            gateway.faults.handle(self, request, now_ns)

    def handle(self, request: Request | PlaceOrder, now_ns: int) -> None:
        """Do what a request asks for; it is in the journal already."""
        if isinstance(request, PlaceOrder):
            orders.submit(self, request, now_ns)
            return
        handler = HANDLERS.get(request.name)
        if handler is not None:
            handler(self, request, now_ns)
        elif request.name == "unknown":
            self._bad(f"unknown message id {request.values['id']}", now_ns)

    def _journal(self, request: Request | PlaceOrder, now_ns: int) -> None:
        if isinstance(request, PlaceOrder):
            orders.record(self, request, now_ns)
        else:
            self._journal_request(request, now_ns)

    def _journal_request(self, request: Request, now_ns: int) -> None:
        if request.name in QUIET and not self.gateway.settings.journal_ticks:
            return
        fields: dict[str, Any] = dict(request.values)
        if request.name == "cancelOrder":
            fields["orderId"] = request.req_id
            known = self.gateway.known_order(self.client_id, request.req_id)
            if known is not None:
                fields.update(orderRef=known.order_ref, permId=known.perm_id, status=known.status)
        elif request.req_id != -1:
            fields["reqId"] = request.req_id
        if request.contract is not None:
            fields["symbol"] = request.contract.symbol
            fields["conId"] = request.contract.con_id
        self.gateway.log(now_ns, "in", self.client_id, request.name, fields)
