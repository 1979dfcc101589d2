"""Faults of what arrives: requests that are lost, refused, raced or answered by a broken connection.

Law: a request that is lost leaves no `in` line in the journal: it never reached the gateway. One that reached it does.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

import msgspec

from actors.venue.simulator.faults.aiming import Occasion
from actors.venue.simulator.faults.kinds import (
    ArrivalFault,
    BigPermId,
    CancelRace,
    DropBeforeAck,
    DropOnCancel,
    NextIdRollback,
    PacingError,
    RejectStyle,
)
from actors.venue.simulator.order_request import PlaceOrder
from actors.venue.simulator.reports import ErrorReport, StatusReport
from actors.venue.simulator.requests import Request
from actors.venue.simulator.rolls import Refusal

if TYPE_CHECKING:
    from actors.venue.simulator.faults.board import FaultBoard
    from actors.venue.simulator.orders import Order
    from actors.venue.simulator.session import Session

TWO_31 = 2**31


class Arrivals:
    """What the arrival faults do."""

    def __init__(self, board: FaultBoard) -> None:
        self.board = board
        self._acting: list[ArrivalFault] = []       # on the request that is being handled

    def start(self, session: Session, now_ns: int) -> None:
        """Act on a client that is let in."""
        for fault in self.board.firing(ArrivalFault, Occasion(session.client_id, "startApi"), now_ns):
            if isinstance(fault, NextIdRollback):
                roll_back(self.board, session.client_id, fault.n, now_ns)
            elif isinstance(fault, DropBeforeAck | DropOnCancel):
                session.drop(reset=fault.how == "reset")
            elif isinstance(fault, PacingError):
                session.breach(now_ns)

    def lets_pass(self, session: Session, request: Request | PlaceOrder, now_ns: int) -> bool:
        """Return whether a request reaches the gateway, and remember what will happen to it there."""
        what = self.board.about(session, request)
        self._acting = []
        for armed in self.board.of(ArrivalFault):
            racing = not isinstance(armed.fault, CancelRace) or self._raced(session, request) is not None
            if racing and self.board.fires(armed, what, now_ns):
                assert isinstance(armed.fault, ArrivalFault)
                self._acting.append(armed.fault)
        for fault in self._acting:
            if isinstance(fault, PacingError):
                session.breach(now_ns)
                return False
            lost = (isinstance(fault, DropBeforeAck) and fault.order == "lost") or \
                (isinstance(fault, DropOnCancel) and fault.cancel == "lost")
            if lost:
                self._break(session)
                return False
            if isinstance(fault, NextIdRollback):
                roll_back(self.board, session.client_id, fault.n, now_ns)
        return True

    def handle(self, session: Session, request: Request | PlaceOrder, what: Occasion, now_ns: int) -> None:
        """Do what the request asks for, or what comes instead."""
        exchange = self.board.gateway.exchange
        race = next((f for f in self._acting if isinstance(f, CancelRace)), None)
        if race is not None and isinstance(request, Request) and self._race(session, request, race, now_ns):
            return
        style = next((f for f in self._acting if isinstance(f, RejectStyle)), None)
        if style is not None and isinstance(request, PlaceOrder) and what.message == "placeOrder":
            self._refuse(session, request, style, now_ns)
            return
        real = exchange.perm_ids
        if any(isinstance(f, BigPermId) for f in self._acting):
            exchange.perm_ids = _lifted(real)
        try:
            session.handle(request, now_ns)
        finally:
            exchange.perm_ids = real

    def after(self, session: Session, now_ns: int) -> None:
        """Break the connection after a request that reached the gateway."""
        if any(isinstance(f, DropBeforeAck | DropOnCancel) for f in self._acting):
            self._break(session)
        self._acting = []

    def _break(self, session: Session) -> None:
        hangs = [f.how for f in self._acting if isinstance(f, DropBeforeAck | DropOnCancel)]
        session.drop(reset="reset" in hangs)
        self._acting = []

    def _refuse(self, session: Session, request: PlaceOrder, style: RejectStyle, now_ns: int) -> None:
        exchange = self.board.gateway.exchange
        refusal = Refusal(order_ref=glob.escape(request.order_ref), code=201, reason=style.reason)
        exchange.refusals.insert(0, refusal)
        self.board.reports.styles[session.client_id, request.order_id] = style
        try:
            session.handle(request, now_ns)
        finally:
            exchange.refusals = [each for each in exchange.refusals if each is not refusal]
            self.board.reports.styles.clear()

    def _raced(self, session: Session, request: Request | PlaceOrder) -> Order | None:
        """Return the live order that a cancel is about."""
        order = self.board.gateway.known_order(session.client_id, request.req_id) if isinstance(request, Request) \
            else None
        return order if order is not None and order.alive and order.perm_id and order.transmit else None

    def _race(self, session: Session, request: Request, race: CancelRace, now_ns: int) -> bool:
        """Let a fill meet the cancel; False where there is no live order to race for."""
        gateway = self.board.gateway
        exchange, ex_ns = gateway.exchange, gateway.exchange_ns(now_ns)
        order = self._raced(session, request)
        if order is None:
            return False
        price = fill_price(self.board, order)
        if race.winner == "partial":
            half = (order.remaining / 2).to_integral_value(ROUND_FLOOR)
            quantity = min(Decimal(race.quantity or 0) or half, order.remaining - 1)
            if quantity >= 1:
                gateway.deliver(exchange.fill(order, quantity, price, ex_ns), now_ns)
            session.handle(request, now_ns)
            return True
        pending = StatusReport(msgspec.structs.replace(order, status="PendingCancel"))
        gateway.tell(pending, now_ns)
        gateway.deliver(exchange.fill(order, order.remaining, price, ex_ns), now_ns)
        text = f"Cancel attempted when order is not in a cancellable state. Order permId ={order.perm_id}"
        gateway.tell(ErrorReport(order.client_id, order.order_id, 161, text), now_ns)
        return True


def fill_price(board: FaultBoard, order: Order) -> Decimal:
    """Return the price at which a fault fills an order: its own, else the last one."""
    quote = board.gateway.exchange.quote_of(order.contract.con_id)
    return order.lmt or (order.aux if not order.order_type.startswith("TRAIL") else None) or quote.last or \
        order.contract.reference_price


def roll_back(board: FaultBoard, client_id: int, n: int, now_ns: int) -> None:
    """Let the next valid id of a client go back by n."""
    last = board.gateway.exchange.last_id
    before = last.get(client_id, 0)
    last[client_id] = max(0, before - n)
    board.gateway.log(now_ns, "sim", client_id, "ids_rolled_back", {"before": before + 1, "after": last[client_id] + 1})


def _lifted(perm_ids: Iterator[int]) -> Iterator[int]:
    for perm_id in perm_ids:
        yield perm_id + TWO_31
