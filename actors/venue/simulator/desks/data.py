"""The market data desk: streams and snapshots of quotes and prints (ib-wire.md 10).

Law: one subscription for each request id; what a client has subscribed to ends with its connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.venue.simulator import answers
from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.feeds import KINDS, Subscription
from actors.venue.simulator.requests import Request
from actors.venue.simulator.wire import encode

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session


def market_data(session: Session, request: Request, now_ns: int) -> None:
    _subscribe(session, request, "", now_ns)


def tick_by_tick(session: Session, request: Request, now_ns: int) -> None:
    kind = str(request.values["kind"])
    if kind not in KINDS:
        session.error(request.req_id, 10189, "Failed to request tick-by-tick data.Invalid tick type", now_ns)
        return
    _subscribe(session, request, kind, now_ns)


def _subscribe(session: Session, request: Request, kind: str, now_ns: int) -> None:
    gateway = session.gateway
    if request.req_id in session.subscriptions:
        session.error(request.req_id, 322, "Error processing request.-'b' : cause - Duplicate ticker id", now_ns)
        return
    found = gateway.contracts.find(request.contract or ContractQuery())
    if len(found) != 1:
        session.error(request.req_id, 200, answers.no_contract(len(found)), now_ns)
        return
    contract = found[0]
    subscription = Subscription(request.req_id, contract.con_id, kind)
    quote = gateway.exchange.quote_of(contract.con_id)
    session.send_tick(subscription.opening(quote, "a60001", contract.min_tick))
    if request.values.get("snapshot"):
        session.send_tick(encode(57, 1, request.req_id))
        return
    session.subscriptions[request.req_id] = subscription
    gateway.watch(session, subscription, now_ns)


def unsubscribe(session: Session, request: Request, now_ns: int) -> None:
    subscription = session.subscriptions.pop(request.req_id, None)
    if subscription is None:
        session.error(request.req_id, 300, f"Can't find EId with tickerId:{request.req_id}", now_ns)
    else:
        session.gateway.unwatch(session, subscription)


HANDLERS = {
    "reqMktData": market_data,
    "cancelMktData": unsubscribe,
    "reqTickByTickData": tick_by_tick,
    "cancelTickByTickData": unsubscribe,
}
