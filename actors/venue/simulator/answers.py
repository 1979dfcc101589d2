"""What a client is told of its orders as they live, and what the journal keeps of them.

Law: these functions read what they are given and write to one session; they change nothing else.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from actors.venue.simulator import order_messages
from actors.venue.simulator.order_request import PlaceOrder
from actors.venue.simulator.orders import Execution, Order
from actors.venue.simulator.reports import (
    BoundReport,
    CommissionReport,
    ErrorReport,
    FillReport,
    OpenReport,
    Report,
    StatusReport,
)
from actors.venue.simulator.wire import number

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session


def order_fields(p: PlaceOrder) -> dict[str, Any]:
    """Return what the journal keeps of a placeOrder."""
    fields: dict[str, Any] = {
        "orderId": p.order_id, "orderRef": p.order_ref, "symbol": p.contract.symbol, "conId": p.contract.con_id,
        "action": p.action, "quantity": number(p.quantity), "type": p.order_type, "tif": p.tif,
        "account": p.account, "transmit": p.transmit}
    optional = {
        "lmtPrice": p.lmt, "auxPrice": p.aux, "ocaGroup": p.oca_group, "ocaType": p.oca_type,
        "parentId": p.parent_id, "trailStopPrice": p.trail_stop, "trailingPercent": p.trail_percent,
        "goodTillDate": p.good_till_date, "outsideRth": p.outside_rth, "triggerMethod": p.trigger_method,
        "whatIf": p.what_if, "conditions": len(p.instructions.conditions), "legs": len(p.instructions.legs),
        "goodAfterTime": p.extras.get("goodAfterTime", ""), "algoStrategy": p.extras.get("algoStrategy", "")}
    fields.update({k: number(v) if isinstance(v, Decimal) else v for k, v in optional.items() if v})
    return fields


def sim_order_fields(o: Order) -> dict[str, Any]:
    """Return what the journal keeps of an order's state."""
    fields: dict[str, Any] = {
        "orderId": o.order_id, "orderRef": o.order_ref, "permId": o.perm_id, "symbol": o.contract.symbol,
        "action": o.action, "type": o.order_type, "status": o.status, "quantity": number(o.total),
        "filled": number(o.filled), "remaining": number(o.remaining)}
    optional = {"lmtPrice": o.lmt, "auxPrice": o.aux, "trailStopPrice": o.trail_stop, "ocaGroup": o.oca_group,
                "ocaType": o.oca_type if o.oca_group else 0, "parentId": o.parent_id, "whyHeld": o.why_held,
                "reason": o.done_text if not o.alive else "", "avgPrice": o.avg_price}
    fields.update({k: number(v) if isinstance(v, Decimal) else v for k, v in optional.items() if v})
    return fields


def sim_execution_fields(e: Execution) -> dict[str, Any]:
    """Return what the journal keeps of an execution."""
    fields = {
        "orderId": e.order_id, "orderRef": e.order_ref, "permId": e.perm_id, "execId": e.exec_id,
        "account": e.account, "symbol": e.contract.symbol, "action": "BUY" if e.side == "BOT" else "SELL",
        "quantity": number(e.quantity), "price": number(e.price), "cumQuantity": number(e.cum_quantity),
        "commission": number(e.commission)}
    if e.realized is not None:
        fields["realized"] = number(e.realized)
    return fields


def tell(session: Session, report: Report, now_ns: int) -> None:
    """Say to a client what the exchange says about one of its orders."""
    if isinstance(report, StatusReport):
        name, data = "orderStatus", order_messages.order_status(report.order)
    elif isinstance(report, OpenReport):
        name, data = "openOrder", order_messages.open_order(report.order, session.version)
    elif isinstance(report, FillReport):
        name, data = "execDetails", order_messages.exec_details(report.execution, -1, session.version)
    elif isinstance(report, CommissionReport):
        name, data = "commissionReport", order_messages.commission_report(report.execution)
    elif isinstance(report, BoundReport):
        name, data = "orderBound", order_messages.order_bound(report.order)
    elif isinstance(report, ErrorReport):
        session.error(report.order_id, report.code, report.text, now_ns)
        return
    else:
        return
    # Spelling what the journal says costs as much as a message: only where it is read, by the journal or by a fault.
    session.send(name, data, now_ns, **(_told(report) if session.heeded else {}))


def _told(report: Report) -> dict[str, Any]:
    """Return what the journal keeps of a message about an order or an execution."""
    if isinstance(report, StatusReport):
        o = report.order
        return {"orderId": o.order_id, "status": o.status, "filled": number(o.filled),
                "remaining": number(o.remaining), "permId": o.perm_id}
    if isinstance(report, OpenReport):
        o = report.order
        return {"orderId": o.order_id, "status": o.status, "quantity": number(o.total), "permId": o.perm_id}
    if isinstance(report, BoundReport):
        return {"orderId": report.order.order_id, "permId": report.order.perm_id}
    if isinstance(report, FillReport):
        e = report.execution
        return {"orderId": e.order_id, "execId": e.exec_id, "quantity": number(e.quantity), "price": number(e.price),
                "orderRef": e.order_ref}
    assert isinstance(report, CommissionReport)
    return {"execId": report.execution.exec_id, "commission": number(report.execution.commission)}


def no_contract(found: int) -> str:
    """Return IB's text for a contract that fits nothing, or too much."""
    if found:
        return "The contract description specified is ambiguous."
    return "No security definition has been found for the request"
