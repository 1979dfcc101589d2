"""The desk of deep books and real-time bars (ib-wire.md 4: requests 10, 11, 50, 51 and 82).

Law: as at the data desk, one subscription for each request id; a bar is due on the exchange's clock.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from actors.venue.simulator.bars import BAR_NS, BAR_SECONDS, SHOWN, RealTimeBars, next_edge_ns
from actors.venue.simulator.depth import MARKET_MAKERS, VENUES, Depth
from actors.venue.simulator.desks.data import contract_of, no_permission, permission_of, unsubscribe, watched
from actors.venue.simulator.hours import Phase
from actors.venue.simulator.requests import Request
from actors.venue.simulator.wire import UNSET_INT, encode

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

INVALID = "Error validating request.-'bY' : cause - "
NO_DEPTH = "Deep market data is not supported for this combination of security type/exchange"


def market_depth(session: Session, request: Request, now_ns: int) -> None:
    """Open a book: 12 for plain rows, 13 for those that name an exchange or a market maker."""
    gateway, r = session.gateway, request.req_id
    contract = contract_of(session, request, now_ns)
    if contract is None:
        return
    rows, smart = request.values["rows"], bool(request.values["smart"])
    assert isinstance(rows, int)
    asked = request.contract.exchange if request.contract is not None else ""
    exchange = asked or contract.exchange
    refusal: tuple[int, str] | None = None
    if rows <= 0:
        refusal = (321, f"Error validating request.-'b' : cause - Number of rows {rows} must be above zero")
    elif len(watched(session, "reqMktDepth")) >= gateway.settings.depth_requests:
        refusal = (309, f"Max number ({gateway.settings.depth_requests}) of market depth requests has been reached")
    elif smart != (exchange == "SMART") or contract.sec_type == "IND":
        refusal = (10092, NO_DEPTH)
    elif permission_of(session, contract) != "live":
        what = f"{contract.primary_exchange}/{contract.sec_type}/Deep"
        refusal = (354, f"Requested market data is not subscribed.Error&{what}")
    if refusal is not None:
        session.error(r, *refusal, now_ns)
        return
    named = smart or exchange in MARKET_MAKERS
    watcher = Depth(r, contract, rows, gateway.profile(contract.con_id), gateway.settings.seed, smart, named,
                    partial(gateway.contracts.increment, contract))
    if gateway.is_open(gateway.exchange_ns(now_ns)):
        session.send_tick(watcher.quote(gateway.exchange.quote_of(contract.con_id)))
    session.subscriptions[r] = watcher
    gateway.watch(session, watcher, now_ns)


def cancel_depth(session: Session, request: Request, now_ns: int) -> None:
    watcher = session.subscriptions.get(request.req_id)
    if isinstance(watcher, Depth):
        unsubscribe(session, request, now_ns)
    else:
        text = f"Can't find the subscribed market depth with tickerId:{request.req_id}"
        session.error(request.req_id, 310, text, now_ns)


def depth_exchanges(session: Session, request: Request, now_ns: int) -> None:
    """Answer 80: which exchanges show depth, and of which kind."""
    rows: list[object] = []
    for exchange in (*VENUES, "NASDAQ"):
        service = "Deep2" if exchange in MARKET_MAKERS else "Deep"
        rows += [exchange, "STK", "", service, UNSET_INT]
    session.send("mktDepthExchanges", encode(80, len(VENUES) + 1, *rows), now_ns)


def real_time_bars(session: Session, request: Request, now_ns: int) -> None:
    """Send a bar at each edge of five seconds on the exchange's clock; with useRTH in regular hours only."""
    gateway, r = session.gateway, request.req_id
    contract = contract_of(session, request, now_ns)
    if contract is None:
        return
    show = str(request.values["show"])
    if request.values["barSize"] != BAR_SECONDS:
        size = request.values["barSize"]
        session.error(r, 321, f"{INVALID}Bar size {size}: real-time bars are of {BAR_SECONDS} seconds", now_ns)
        return
    if show not in SHOWN:
        session.error(r, 321, f"{INVALID}What to show field is missing or incorrect.", now_ns)
        return
    if permission_of(session, contract) != "live":
        session.error(r, 420, f"Invalid Real-time Query:{no_permission(contract)}", now_ns)
        return
    use_rth = bool(request.values["useRTH"])
    watcher = RealTimeBars(r, contract.con_id, show, gateway.exchange.quote_of(contract.con_id))

    def finish(now_ns: int) -> int:
        end_ns = gateway.exchange_ns(now_ns)
        phase = Phase.REGULAR if gateway.hours is None else gateway.hours.phase(end_ns - BAR_NS)
        tell = phase is Phase.REGULAR or (phase is Phase.EXTENDED and not use_rth)
        data = watcher.finish(end_ns, tell)
        if data:
            session.send_tick(data)
        return end_ns + BAR_NS

    session.subscriptions[r] = watcher
    gateway.watch(session, watcher, now_ns)
    watcher.entry = gateway.exchange_agenda.at(next_edge_ns(gateway.exchange_ns(now_ns)), finish)


HANDLERS = {
    "reqMktDepth": market_depth,
    "cancelMktDepth": cancel_depth,
    "reqMktDepthExchanges": depth_exchanges,
    "reqRealTimeBars": real_time_bars,
    "cancelRealTimeBars": unsubscribe,
}
