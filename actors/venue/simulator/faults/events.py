"""Faults that happen at a moment: the link, the farms, a restart, a half-open socket, and what people and others do.

Law: an event goes through the same doors as everybody: the exchange for orders, the gateway for connections. It happens
inside `advance`, never in the middle of something else.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from actors.venue.simulator import answers
from actors.venue.simulator.faults.aiming import Armed, Occasion, next_clock_ns
from actors.venue.simulator.faults.arrivals import fill_price
from actors.venue.simulator.faults.kinds import (
    EventFault,
    FarmFlap,
    HalfOpen,
    LinkLost,
    ManualOrder,
    OtherClientFill,
    Restart,
    UnsolicitedCancel,
)
from actors.venue.simulator.link import FARMS_UP
from actors.venue.simulator.orders import Order
from actors.venue.simulator.reports import CommissionReport, FillReport

if TYPE_CHECKING:
    from actors.venue.simulator.contracts import Contract
    from actors.venue.simulator.faults.board import FaultBoard
    from actors.venue.simulator.session import Session

NS = 1_000_000_000


def schedule(board: FaultBoard, armed: Armed, now_ns: int) -> None:
    """Put an event without a message into the calendar: at its second, or at its time of the exchange's day."""
    fault = armed.fault
    assert isinstance(fault, EventFault)
    if fault.clock is not None:
        board.await_clock(next_clock_ns(fault.clock, board.gateway.exchange_ns(now_ns)), armed)
        return

    def due(then_ns: int) -> None:
        if armed.spent or not armed.counts():
            return
        _happen(board, armed, Occasion(), None, then_ns)

    board.gateway.agenda.at(now_ns + int((fault.at + fault.wait) * NS), due)


def on_clock(board: FaultBoard, armed: Armed, now_ns: int, ex_ns: int) -> None:
    """Let an event happen at its time of day, and wait for the next day."""
    if armed.spent:
        return
    if armed.counts():
        _happen(board, armed, Occasion(), None, now_ns)
    if not armed.spent and armed.fault.clock is not None:
        board.await_clock(next_clock_ns(armed.fault.clock, ex_ns + 1), armed)


def soon(board: FaultBoard, armed: Armed, what: Occasion, session: Session, now_ns: int) -> None:
    """Let an event happen after a message, once that has been dealt with."""
    fault = armed.fault
    assert isinstance(fault, EventFault)
    board.gateway.agenda.at(now_ns + int(fault.wait * NS),
                            lambda then_ns: _happen(board, armed, what, session, then_ns))


def _happen(board: FaultBoard, armed: Armed, what: Occasion, session: Session | None, now_ns: int) -> None:
    board.note(armed, what, now_ns)
    board.gateway.changes += 1
    board.happening = True
    try:
        ACTS[type(armed.fault)](board, armed, what, session, now_ns)
    finally:
        board.happening = False


def _later(board: FaultBoard, now_ns: int, dt: float, act: Callable[[int], None]) -> None:
    """Do the rest of an event `dt` seconds later."""

    def due(then_ns: int) -> None:
        board.happening = True
        try:
            act(then_ns)
        finally:
            board.happening = False

    board.gateway.agenda.at(now_ns + int(dt * NS), due)


def _half_open(board: FaultBoard, armed: Armed, what: Occasion, session: Session | None, now_ns: int) -> None:
    fault = armed.fault
    assert isinstance(fault, HalfOpen)
    gateway = board.gateway
    fitting = [session] if session is not None else \
        [s for client, s in gateway.by_client.items() if fault.client in (None, client)]
    for each in fitting:
        each.deaf = each.deaf or fault.deaf in ("both", "gateway")
        each.mute = each.mute or fault.deaf in ("both", "client")
        if fault.dt is not None:
            _later(board, now_ns, fault.dt, lambda then_ns, each=each: each.drop(reset=True))


def _farm_flap(board: FaultBoard, armed: Armed, what: Occasion, session: Session | None, now_ns: int) -> None:
    fault = armed.fault
    assert isinstance(fault, FarmFlap)
    names = frozenset(FARMS_UP) if fault.farm == "all" else frozenset({fault.farm})
    link = board.gateway.link
    link.break_farms(names, now_ns)
    _later(board, now_ns, fault.dt, lambda then_ns: link.mend_farms(names, then_ns))


def _link_lost(board: FaultBoard, armed: Armed, what: Occasion, session: Session | None, now_ns: int) -> None:
    fault = armed.fault
    assert isinstance(fault, LinkLost)
    gateway = board.gateway
    if gateway.link.down:
        return
    keep = None if fault.orders is None else fault.orders == "kept"
    gateway.link.lose(now_ns, code=fault.lost, keep=keep)

    def fill_inside(then_ns: int) -> None:
        for order in gateway.exchange.open_orders():
            if fault.fills is not None and fnmatchcase(order.order_ref, fault.fills):
                gateway.deliver(gateway.exchange.fill(order, order.remaining, fill_price(board, order),
                                                      gateway.exchange_ns(then_ns)), then_ns)

    if fault.fills is not None:
        _later(board, now_ns, fault.dt / 2, fill_inside)
    _later(board, now_ns, fault.dt, lambda then_ns: gateway.link.restore(then_ns, code=fault.restored))


def _restart(board: FaultBoard, armed: Armed, what: Occasion, session: Session | None, now_ns: int) -> None:
    fault = armed.fault
    assert isinstance(fault, Restart)
    gateway = board.gateway
    gateway.restart(now_ns, away_ns=int(fault.dt * NS), rollback=fault.rollback, warn=fault.warn)
    if fault.persist == "gtc":
        for order in gateway.exchange.open_orders():
            if order.tif not in ("GTC", "GTD"):
                gateway.deliver(gateway.exchange.system_cancel(order, "DAY order: gone with the restart",
                                                               gateway.exchange_ns(now_ns)), now_ns)


def _manual_order(board: FaultBoard, armed: Armed, what: Occasion, session: Session | None, now_ns: int) -> None:
    fault = armed.fault
    assert isinstance(fault, ManualOrder)
    contract = _contract(board, fault.contract)
    limit = None if fault.limit is None else Decimal(str(fault.limit))
    order = Order(client_id=0, order_id=0, contract=contract, action=fault.action, total=Decimal(fault.quantity),
                  order_type="MKT" if limit is None else "LMT", account=board.gateway.settings.accounts[0], lmt=limit)
    board.gateway.manual_order(order, now_ns)


def _other_client_fill(board: FaultBoard, armed: Armed, what: Occasion, session: Session | None, now_ns: int) -> None:
    """Fill an order of a client that is somebody else, and tell its execution to who has no such order."""
    fault = armed.fault
    assert isinstance(fault, OtherClientFill)
    gateway, exchange = board.gateway, board.gateway.exchange
    contract, ex_ns = _contract(board, fault.contract), board.gateway.exchange_ns(now_ns)
    quote = exchange.quote_of(contract.con_id)
    price = Decimal(str(fault.price)) if fault.price is not None else quote.last or contract.reference_price
    far = contract.min_tick if fault.action == "BUY" else price * 1000       # so that the market does not fill it
    order = Order(client_id=fault.other, order_id=exchange.next_id(fault.other), contract=contract,
                  action=fault.action, total=Decimal(fault.quantity), order_type="LMT",
                  account=gateway.settings.accounts[0], lmt=far, order_ref=f"other.{fault.other}")
    gateway.deliver(exchange.place(order, ex_ns), now_ns)
    if order.key not in exchange.orders:
        return                      # the exchange has refused it, and the journal says why
    reports = exchange.fill(order, order.remaining, price, ex_ns)
    gateway.deliver(reports, now_ns)
    if gateway.link.down:
        return
    for client, each in list(gateway.by_client.items()):
        if client != fault.other and fault.client in (None, client):
            for report in reports:
                if isinstance(report, FillReport | CommissionReport):
                    answers.tell(each, report, now_ns)


def _unsolicited_cancel(board: FaultBoard, armed: Armed, what: Occasion, session: Session | None, now_ns: int) -> None:
    fault = armed.fault
    assert isinstance(fault, UnsolicitedCancel)
    gateway = board.gateway
    for order in gateway.exchange.open_orders():
        about = board.about_order(order, what.message or "")
        meant = order.order_ref == what.ref and order.client_id == what.client if what.ref else \
            armed.fits(about._replace(message=fault.message or fault.MESSAGE))
        if meant:
            gateway.deliver(gateway.exchange.system_cancel(order, fault.reason, gateway.exchange_ns(now_ns)), now_ns)


def _contract(board: FaultBoard, symbol: str) -> Contract:
    contract = board.gateway.contracts.named(symbol)
    assert contract is not None, f"{symbol} was checked when the fault was set"
    return contract


Act = Callable[["FaultBoard", Armed, Occasion, "Session | None", int], None]
ACTS: dict[type, Act] = {
    HalfOpen: _half_open,
    FarmFlap: _farm_flap,
    LinkLost: _link_lost,
    Restart: _restart,
    ManualOrder: _manual_order,
    OtherClientFill: _other_client_fill,
    UnsolicitedCancel: _unsolicited_cancel,
}
