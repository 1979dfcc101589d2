"""The order desk: orders, cancels, and the snapshots of orders and executions (ib-wire.md 4, 6 and 9).

Law: an instruction that is not simulated is refused by name, never ignored; a snapshot changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.venue.simulator import answers, order_messages
from actors.venue.simulator.combos import ComboError
from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.order_request import PlaceOrder
from actors.venue.simulator.orders import Order
from actors.venue.simulator.reports import OpenReport, StatusReport
from actors.venue.simulator.requests import Request
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.validation import midnight_ns, parse_ib_time_ns, worked_plainly
from actors.venue.simulator.wire import encode

if TYPE_CHECKING:
    from actors.venue.simulator.exchange import Exchange
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
MAX_ORDER_ID = 2**31 - 1
INVALID = "Error validating request.-'bN' : cause - "
SIDES = {"": "", "BUY": "BOT", "SELL": "SLD", "BOT": "BOT", "SLD": "SLD"}


def record(session: Session, p: PlaceOrder, now_ns: int) -> None:
    """Journal the request, as a new order or as an amendment."""
    if not session.gateway.journal.on:
        session.gateway.journal.seq += 1
        return
    known = session.gateway.exchange.known(session.client_id, p.order_id)
    fields = answers.order_fields(p)
    if known is not None and known.alive and known.perm_id:
        fields["permId"] = known.perm_id
    session.gateway.log(now_ns, "in", session.client_id, "modifyOrder" if amends(session, p) else "placeOrder", fields)


def amends(session: Session, p: PlaceOrder) -> bool:
    """Return whether the request is about an order that is at work."""
    known = session.gateway.exchange.known(session.client_id, p.order_id)
    return known is not None and known.alive and known.transmit and bool(known.perm_id)


def submit(session: Session, p: PlaceOrder, now_ns: int) -> None:
    """Refuse what cannot be understood, and hand the rest to the exchange."""
    gateway = session.gateway
    known = gateway.exchange.known(session.client_id, p.order_id)
    contract = _refusal(p, gateway.settings, bound=known is not None) or _contract(gateway.exchange, p)
    if isinstance(contract, tuple):
        session.error(p.order_id, *contract, now_ns)
        return
    order = order_of(session.client_id, p, contract, p.account or gateway.settings.accounts[0])
    plainly = worked_plainly(order)
    if plainly and gateway.settings.rules.plain_algos:
        gateway.log(now_ns, "sim", session.client_id, "worked_plainly",
                    {"orderId": p.order_id, "orderRef": p.order_ref, "without": plainly})
    gateway.deliver(gateway.exchange.place(order, gateway.exchange_ns(now_ns)), now_ns)


def _contract(exchange: Exchange, p: PlaceOrder) -> Contract | tuple[int, str]:
    """Return the one contract that is meant, or code and text of why there is none."""
    if p.contract.sec_type == "BAG":
        try:
            return exchange.combos.resolve(p.contract, p.instructions.legs).contract
        except ComboError as error:
            return error.code, error.text
    found = exchange.contracts.find(p.contract)
    return found[0] if len(found) == 1 else (200, answers.no_contract(len(found)))


def _refusal(p: PlaceOrder, settings: GatewaySettings, bound: bool) -> tuple[int, str] | None:
    """Return what is wrong with a placeOrder before its contract is looked at.

    A negative id is right only for a manual order bound to the client.
    """
    if not bound and not 0 < p.order_id <= MAX_ORDER_ID:
        return 320, f"Error reading request. orderId {p.order_id}: allowed is 1 to {MAX_ORDER_ID}"
    if p.attributes and settings.rules.refuse_old_attributes:
        return 10268, f"The '{p.attributes[0]}' order attribute is not supported."
    if p.unsupported:
        return 321, INVALID + f"not simulated: {', '.join(p.unsupported)}"
    if not p.account and len(settings.accounts) > 1:
        return 435, "You must specify an account."
    if p.account and p.account not in settings.accounts:
        return 321, INVALID + f"Invalid account code '{p.account}'."
    return None


def order_of(client_id: int, p: PlaceOrder, contract: Contract, account: str) -> Order:
    """Return the exchange's order; what its type has no use for (a re-sent echo is full of it) is left out."""
    extras = {**p.extras, "exchange": p.contract.exchange} if p.contract.exchange else p.extras
    trails = p.order_type.startswith("TRAIL")
    return Order(
        client_id=client_id, order_id=p.order_id, contract=contract, action=p.action, total=p.quantity,
        order_type=p.order_type, account=account, lmt=p.lmt, aux=p.aux, tif=p.tif, oca_group=p.oca_group,
        oca_type=p.oca_type or 3, order_ref=p.order_ref, parent_id=p.parent_id, transmit=p.transmit,
        outside_rth=p.outside_rth, trigger_method=p.trigger_method, good_till_date=p.good_till_date,
        trail_stop=p.trail_stop if trails else None, trail_percent=p.trail_percent if trails else None,
        lmt_offset=p.lmt_offset if trails else None, what_if=p.what_if, all_or_none=p.all_or_none,
        instructions=p.instructions, extras=extras)


def cancel(session: Session, request: Request, now_ns: int) -> None:
    gateway = session.gateway
    gateway.deliver(gateway.exchange.cancel(session.client_id, request.req_id, gateway.exchange_ns(now_ns)), now_ns)


def global_cancel(session: Session, request: Request, now_ns: int) -> None:
    gateway = session.gateway
    gateway.deliver(gateway.exchange.cancel_all(gateway.exchange_ns(now_ns)), now_ns)


def next_id(session: Session, now_ns: int) -> None:
    order_id = session.gateway.exchange.next_id(session.client_id)
    session.send("nextValidId", encode(9, 1, order_id), now_ns, orderId=order_id)


def req_ids(session: Session, request: Request, now_ns: int) -> None:
    next_id(session, now_ns)


def auto_open_orders(session: Session, request: Request, now_ns: int) -> None:
    """Bind manual orders to client 0 from now on, those that are live already too (ib-wire.md 8)."""
    if session.client_id != 0:
        session.error(-1, 327, "Only the default client (i.e 0) can auto bind orders.", now_ns)
        return
    exchange = session.gateway.exchange
    exchange.auto_bind = str(request.values["bind"]).lower() in ("1", "true")
    if exchange.auto_bind:
        session.gateway.deliver(exchange.bind_manual(), now_ns)


def open_orders(session: Session, request: Request, now_ns: int) -> None:
    """Show the client its own live orders; client 0 sees manual ones too, which this binds."""
    exchange = session.gateway.exchange
    if session.client_id == 0:
        session.gateway.deliver(exchange.bind_manual(), now_ns)
    show_orders(session, exchange.open_orders(session.client_id), now_ns)


def all_open_orders(session: Session, request: Request, now_ns: int) -> None:
    orders = session.gateway.exchange.open_orders()
    for order in orders:                       # ids that were shown are used up (ib-wire.md 8)
        session.gateway.exchange.use_id(session.client_id, order.order_id)
    show_orders(session, orders, now_ns)


def show_orders(session: Session, orders: list[Order], now_ns: int, end: bool = True) -> None:
    for order in orders:
        answers.tell(session, OpenReport(order), now_ns)
        answers.tell(session, StatusReport(order), now_ns)
    if end:
        session.send("openOrderEnd", encode(53, 1), now_ns)


def completed_orders(session: Session, request: Request, now_ns: int) -> None:
    """Show today's final orders; manual ones only to who does not ask for the API's alone."""
    gateway = session.gateway
    since = midnight_ns(gateway.exchange_ns(now_ns))
    api_only = str(request.values["apiOnly"]).lower() in ("1", "true")
    done = [o for o in gateway.exchange.done.values()
            if o.perm_id and o.done_ns >= since and not (api_only and o.manual)]
    for order in done:
        session.send("completedOrder", order_messages.completed_order(order, session.version), now_ns,
                     orderRef=order.order_ref, status=order.status, permId=order.perm_id)
    session.send("completedOrdersEnd", encode(102), now_ns)


def executions(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqExecutions: today's, since midnight New York on the exchange's clock, filtered (ib-wire.md 9)."""
    gateway, asked = session.gateway, request.values
    account, side, since_text = str(asked["account"]), str(asked["side"]).upper(), str(asked["time"])
    asked_since = parse_ib_time_ns(since_text) if since_text else 0
    wrong = (f"Invalid account code {account!r}" if account and account not in gateway.settings.accounts else
             f"Invalid side {side[:20]!r}: BUY or SELL" if side not in SIDES else
             f"Invalid time {since_text[:40]!r}: yyyymmdd hh:mm:ss TZ, or yyyymmdd-hh:mm:ss (UTC)"
             if asked_since is None else "")
    if wrong:
        session.error(request.req_id, 321, f"Error validating request.-'bZ' : cause - {wrong}", now_ns)
        return
    since = max(midnight_ns(gateway.exchange_ns(now_ns)), asked_since or 0)
    everybody = gateway.settings.all_executions or session.client_id == gateway.settings.master_client_id
    client = asked["forClient"] or (None if everybody else session.client_id)
    for e in gateway.exchange.executions:
        fits = (client in (None, e.client_id) and e.time_ns // NS * NS >= since // NS * NS
                and account in ("", e.account) and asked["symbol"] in ("", e.contract.symbol)
                and asked["secType"] in ("", e.contract.sec_type) and SIDES[side] in ("", e.side)
                and asked["exchange"] in ("", e.contract.primary_exchange))
        if fits:
            session.send("execDetails", order_messages.exec_details(e, request.req_id, session.version), now_ns,
                         reqId=request.req_id, orderId=e.order_id, execId=e.exec_id, orderRef=e.order_ref)
            session.send("commissionReport", order_messages.commission_report(e), now_ns, execId=e.exec_id)
    session.send("execDetailsEnd", encode(55, 1, request.req_id), now_ns, reqId=request.req_id)


HANDLERS = {
    "cancelOrder": cancel,
    "reqGlobalCancel": global_cancel,
    "reqIds": req_ids,
    "reqAutoOpenOrders": auto_open_orders,
    "reqOpenOrders": open_orders,
    "reqAllOpenOrders": all_open_orders,
    "reqCompletedOrders": completed_orders,
    "reqExecutions": executions,
}
