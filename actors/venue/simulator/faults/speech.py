"""Faults of messages and bytes: repeated, withheld, late, cut, with fields or numbers that nobody knows.

Law: what a client is not sent is not journalled as sent; bytes are only cut and gathered, never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.venue.simulator.faults.aiming import Occasion
from actors.venue.simulator.faults.kinds import (
    ENDS,
    CloseMidFrame,
    CoalesceFrames,
    DupStatus,
    MessageFault,
    MissingEnd,
    PriceNegative,
    SlowEnd,
    SplitFrames,
    StreamFault,
    TrailingField,
    UnknownMessage,
)
from actors.venue.simulator.wire import FrameBuffer, encode, frame, split

if TYPE_CHECKING:
    from actors.venue.simulator.faults.board import FaultBoard
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
MARKET_DATA = frozenset({"1", "2", "12", "13", "21", "45", "46", "50", "90", "99"})
STREAMED = frozenset({"tickPrice", "tickSize", "tickGeneric", "tickString", "tickByTick", "marketDepth",
                      "marketDepthL2", "realTimeBar", "historicalDataUpdate", "pnl", "pnlSingle"})
PRICES = frozenset({"1", "2", "4", "66", "67", "68"})       # tick types: bid, ask, last, and the same delayed
SIZE_OF = {"1": "0", "2": "3", "4": "5", "66": "69", "67": "70", "68": "71"}


class Speech:
    """What the message, price and stream faults do."""

    def __init__(self, board: FaultBoard) -> None:
        self.board = board
        self._gathering: dict[int, int] = {}        # session number -> when what it was told goes out

    def about(self, session: Session, name: str, fields: dict[str, Any]) -> Occasion:
        """Return the occasion of a message, with the order that it concerns."""
        ref, symbol = fields.get("orderRef"), fields.get("symbol")
        order_id = fields.get("orderId", fields.get("id") if name == "error" else None)
        if ref is None and isinstance(order_id, int):
            order = self.board.gateway.known_order(session.client_id, order_id)
            if order is not None:
                ref, symbol = order.order_ref, order.contract.symbol
        return Occasion(session.client_id, name, ref, symbol)

    def say(self, session: Session, what: Occasion, data: bytes, now_ns: int, fields: dict[str, Any]) -> None:
        """Send one message in the way that the faults leave."""
        name = what.message or ""
        if name in STREAMED and self.board.gateway.link.silent:
            return
        copies, late = 1, 0.0
        for armed in list(self.board.of(MessageFault)):
            fault = armed.fault
            end = getattr(fault, "end", None)
            if end is not None and ENDS.get(name) != end:
                continue
            if session.client_id < 0 or not self.board.fires(armed, what, now_ns):
                continue
            if isinstance(fault, MissingEnd):
                return
            if isinstance(fault, CloseMidFrame):
                session.put_bytes(data[:len(data) // 2 + 1])
                session.mute = True
                session.close()
                return
            if isinstance(fault, UnknownMessage):
                session.put("unknownMessage", encode(fault.id, 1, "nobody knows this"), now_ns, {"id": fault.id})
            elif isinstance(fault, TrailingField):
                data = frame(data[4:] + b"extra\0" * fault.n)
            elif isinstance(fault, DupStatus):
                copies = max(copies, fault.n)
            elif isinstance(fault, SlowEnd):
                late = max(late, fault.dt)
        if late:
            self._say_later(session, name, data, now_ns + int(late * NS), fields)
            return
        for _ in range(copies):
            session.put(name, data, now_ns, fields)

    def _say_later(self, session: Session, name: str, data: bytes, due_ns: int, fields: dict[str, Any]) -> None:

        def say(now_ns: int) -> None:
            if not session.closing:
                session.put(name, data, now_ns, fields)

        self.board.gateway.agenda.at(due_ns, say)

    # prices ----------------------------------------------------------------------------------------------------

    def tick(self, session: Session, data: bytes) -> bytes:
        """Return market data with -1 where a fault wants it; nothing while no prices come."""
        if not data:
            return data
        gateway = self.board.gateway
        if gateway.link.silent:
            data = self._without_market_data(data)
        negative = [a for a in self.board.of(PriceNegative) if not a.spent]
        if not data or not negative:
            return data
        out, repeated = b"", ("", "")
        buffer = FrameBuffer()
        buffer.feed(data)
        for payload in buffer.payloads():
            fields = split(payload)
            if fields[0] == "2" and tuple(fields[2:4]) == repeated:
                fields[4] = "0"
            repeated = ("", "")
            kind = fields[0]
            priced = (kind == "1" and fields[3] in PRICES) or (kind == "99" and fields[2] == "3")
            if priced:
                subscription = session.subscriptions.get(int(fields[2] if kind == "1" else fields[1]))
                contract = gateway.contracts.by_id.get(subscription.con_id) if subscription is not None else None
                what = Occasion(session.client_id, "tickPrice" if kind == "1" else "tickByTick", None,
                                contract.symbol if contract is not None else None)
                for armed in negative:
                    if self.board.fires(armed, what, self.board.now_ns):
                        assert isinstance(armed.fault, PriceNegative)
                        repeated = _spoil(fields, str(armed.fault.price))
            out += encode(*fields)
        return out

    def _without_market_data(self, data: bytes) -> bytes:
        buffer = FrameBuffer()
        buffer.feed(data)
        return b"".join(frame(p) for p in buffer.payloads() if p.split(b"\0", 1)[0].decode() not in MARKET_DATA)

    # bytes -----------------------------------------------------------------------------------------------------

    def cut(self, session: Session, now_ns: int) -> list[bytes]:
        """Return what is to be written now: nothing while it is gathered, small pieces where it is cut."""
        if not session.has_output:
            return []
        what = Occasion(session.client_id if session.client_id >= 0 else None)
        gathering = self._gathering.get(session.number)
        if gathering is not None and now_ns < gathering and not session.closing:
            return []
        size = 0
        for armed in self.board.of(StreamFault):
            fault = armed.fault
            if isinstance(fault, CoalesceFrames) and gathering is None and not session.closing \
                    and self.board.fires(armed, what, now_ns):
                self._gathering[session.number] = due = now_ns + int(fault.dt * NS)
                self.board.gateway.agenda.at(due, lambda then: None)      # whoever holds the gateway looks again then
                return []
            if isinstance(fault, SplitFrames) and self.board.fires(armed, what, now_ns):
                size = min(size or fault.size, fault.size)
        self._gathering.pop(session.number, None)
        data = session.take()
        if not size:
            return [data]
        return [data[n:n + size] for n in range(0, len(data), size)]


def _spoil(fields: list[str], price: str) -> tuple[str, str]:
    """Put the price and size 0 into a tick; return request and type of the tickSize that repeats its size."""
    if fields[0] == "1":
        fields[4], fields[5] = price, "0"
        return fields[2], SIZE_OF[fields[3]]
    fields[4:8] = [price, price, "0", "0"]
    return "", ""
