"""The market data desk: quotes and prints as streams and snapshots, tick by tick (ib-wire.md 7 and 10).

Law: one subscription for each request id, of whatever kind; what a client has subscribed to ends with its connection.
What cannot be shown is refused by its code: 200, 300, 321, 322; by permission and limits 101, 354, 10089, 10189, 10190.

What a user may see (`data_permission`): *live* data come as live whatever type was asked for; who may see *delayed*
data only is refused with 354 until he asks for type 3 or 4, and is then warned with 10167; with *none* it is 10089. A
regulatory snapshot is live for everybody (and costs nothing here).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.venue.simulator import answers, generic_ticks
from actors.venue.simulator.combos import ComboError
from actors.venue.simulator.conflation import Conflated
from actors.venue.simulator.contracts import Contract, ContractQuery
from actors.venue.simulator.feeds import DELAYED, LIVE, Subscription, Watcher
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.requests import Request
from actors.venue.simulator.ticks import KINDS, TAPE_LENGTH, TickByTick
from actors.venue.simulator.wire import encode

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
BBO_EXCHANGE = "a60001"
SNAPSHOT_NS = 11 * NS
"""A snapshot ends when every price has come, and at the latest after this long."""
TICK_BY_TICK_PACE_NS = 15 * NS
TYPES = {"1": 1, "2": 2, "3": 3, "4": 4}
NOT_SUBSCRIBED = "Requested market data is not subscribed. Delayed market data is available."
SHOWN_DELAYED = "Requested market data is not subscribed. Displaying delayed market data."
NO_DATA = ("Requested market data requires additional subscription for API. See link in 'Market Data Connections' "
           "dialog for more details.")
NO_TICKS = "Failed to request tick-by-tick data."


def market_data(session: Session, request: Request, now_ns: int) -> None:
    gateway, r = session.gateway, request.req_id
    contract = contract_of(session, request, now_ns)
    if contract is None:
        return
    generic_text, snapshot = str(request.values["generic"]), bool(request.values["snapshot"])
    regulatory = bool(request.values["regulatory"])
    snapshot = snapshot or regulatory
    generic = generic_ticks.wanted(generic_text, contract.sec_type)
    if generic is None:
        session.error(r, 321, generic_ticks.refusal(generic_text, contract.sec_type), now_ns)
        return
    if snapshot and generic:
        session.error(r, 321, "Error validating request.-'bW' : cause - Snapshot market data subscription is not "
                              "applicable to generic ticks", now_ns)
        return
    if not _line_free(session, contract):
        session.error(r, 101, "Max number of tickers has been reached.", now_ns)
        return
    permission = "live" if regulatory else permission_of(session, contract)
    if permission == "none" or (permission == "delayed" and session.data_type < 3):
        code, text = (10089, NO_DATA) if permission == "none" else (354, NOT_SUBSCRIBED)
        session.error(r, code, text, now_ns)
        return
    ids, frozen = (DELAYED if permission == "delayed" else LIVE), session.data_type in (2, 4)
    if permission == "delayed":
        session.error(r, 10167, SHOWN_DELAYED, now_ns)
    watcher = Subscription(r, contract.con_id, ids, frozen)
    if generic:
        profile = gateway.profile(contract.con_id)
        watcher = generic_ticks.GenericSubscription(r, contract, generic, profile, ids, frozen)
    neutral = request.values.get("deltaNeutral")
    if isinstance(neutral, list):
        session.send("deltaNeutralValidation", encode(56, 1, r, *neutral), now_ns, reqId=r)
    _open(session, contract, watcher, snapshot, now_ns)


def _open(session: Session, contract: Contract, watcher: Subscription, snapshot: bool, now_ns: int) -> None:
    """Show the present prices and what follows; a snapshot ends with them if they are complete."""
    gateway = session.gateway
    quote = gateway.delayed_quote(contract.con_id) if watcher.delayed else gateway.exchange.quote_of(contract.con_id)
    is_open = gateway.is_open(gateway.exchange_ns(now_ns))
    session.send_tick(watcher.opening(quote, BBO_EXCHANGE, contract.min_tick, is_open))
    if snapshot and (_complete(quote) or not is_open):
        session.send_tick(encode(57, 1, watcher.req_id))
        return
    conflate_ns = gateway.settings.conflate_ms * 1_000_000
    shown: Watcher = watcher
    if conflate_ns:
        lag_ns = gateway.settings.data_delay_s * NS if watcher.delayed else 0
        shown = Conflated(watcher, conflate_ns, gateway.exchange_agenda.at, session.send_tick, lag_ns)
    session.subscriptions[watcher.req_id] = shown
    gateway.watch(session, shown, now_ns)
    if snapshot:
        _end_later(session, shown, quote, now_ns)


def _complete(q: Quote) -> bool:
    return None not in (q.bid, q.ask, q.last)


def _end_later(session: Session, watcher: Watcher, quote: Quote, now_ns: int) -> None:
    """End a snapshot that waits for prices, once they are there or its time is over; looked at every second."""
    gateway = session.gateway
    began_ns = gateway.exchange_ns(now_ns)

    def look(now_ns: int) -> int | None:
        if session.subscriptions.get(watcher.req_id) is not watcher:
            return None
        ex_ns = gateway.exchange_ns(now_ns)
        fresh = gateway.delayed_quote(watcher.con_id) if watcher.delayed else quote
        if not _complete(fresh) and ex_ns < began_ns + SNAPSHOT_NS:
            return ex_ns + NS
        del session.subscriptions[watcher.req_id]
        gateway.unwatch(session, watcher)
        session.send_tick(encode(57, 1, watcher.req_id))
        return None

    key = ("snapshot", watcher.req_id)
    if key in session.streams:
        session.streams[key].cancel()
    session.streams[key] = gateway.exchange_agenda.at(began_ns + NS, look)


def tick_by_tick(session: Session, request: Request, now_ns: int) -> None:
    gateway, r, kind = session.gateway, request.req_id, str(request.values["kind"])
    if kind not in KINDS:
        session.error(r, 10189, NO_TICKS + "Invalid tick type", now_ns)
        return
    if request.contract is not None and request.contract.sec_type == "BAG":
        session.error(r, 10189, NO_TICKS + "Tick-by-tick data are not available for combinations", now_ns)
        return
    contract = contract_of(session, request, now_ns)
    if contract is None:
        return
    count = request.values["ticks"]
    assert isinstance(count, int)
    if not 0 <= count <= TAPE_LENGTH:
        session.error(r, 321, f"Error validating request.-'cd' : cause - numberOfTicks {count}: allowed is 0 to "
                              f"{TAPE_LENGTH}", now_ns)
        return
    if permission_of(session, contract) != "live":
        session.error(r, 10189, NO_TICKS + no_permission(contract), now_ns)
        return
    if not _tick_line_free(session, contract, now_ns):
        session.error(r, 10190, "Max number of tick-by-tick requests has been reached.", now_ns)
        return
    watcher = TickByTick(r, contract.con_id, kind, bool(request.values["ignoreSize"]))
    if count:
        session.send_tick(watcher.history(gateway.tape(contract.con_id), count))
    session.send_tick(watcher.quote(gateway.exchange.quote_of(contract.con_id)))
    session.subscriptions[r] = watcher
    gateway.watch(session, watcher, now_ns)


def contract_of(session: Session, request: Request, now_ns: int) -> Contract | None:
    """Return the one contract that a request for data means, or refuse it (200, 321, 322) and return None."""
    r = request.req_id
    if r in session.subscriptions:
        session.error(r, 322, "Error processing request.-'b' : cause - Duplicate ticker id", now_ns)
        return None
    options = str(request.values.get("options") or "")[:100]
    if options:
        session.error(r, 321, f"Error validating request.-'b' : cause - options {options!r} are not simulated", now_ns)
        return None
    query = request.contract or ContractQuery()
    if query.sec_type == "BAG":
        return _combination(session, request, query, now_ns)
    found = session.gateway.contracts.find(query)
    if len(found) != 1:
        session.error(r, 200, answers.no_contract(len(found)), now_ns)
        return None
    return found[0]


def _combination(session: Session, request: Request, query: ContractQuery, now_ns: int) -> Contract | None:
    """Return the combination of the legs that reqMktData brings; no other request for data can name legs."""
    legs = request.values.get("legs")
    if not isinstance(legs, list):
        session.error(request.req_id, 321, "Error validating request.-'b' : cause - Combinations have market data only",
                      now_ns)
        return None
    try:
        return session.gateway.exchange.combos.resolve(query, tuple(legs)).contract
    except ComboError as error:
        session.error(request.req_id, error.code, error.text, now_ns)
        return None


def permission_of(session: Session, contract: Contract) -> str:
    settings = session.gateway.settings
    return settings.data_permissions.get(contract.symbol, settings.data_permission)


def no_permission(contract: Contract) -> str:
    """Return IB's words for data that the user has not subscribed to."""
    exchange = {"NASDAQ": "ISLAND"}.get(contract.primary_exchange, contract.primary_exchange)
    return f"No market data permissions for {exchange} {contract.sec_type}"


def watched(session: Session, request: str) -> list[Watcher]:
    """Return all subscriptions of this kind that the clients of the gateway have, which is one user's."""
    return [w for s in session.gateway.sessions for w in s.subscriptions.values() if w.request == request]


def _line_free(session: Session, contract: Contract) -> bool:
    """Return whether one more contract fits into the user's lines; one that is shown already takes no new line."""
    limit = session.gateway.settings.data_lines
    if not limit or any(w.request == "reqMktData" for _, w in session.gateway.watchers(contract.con_id)):
        return True
    shown = {w.con_id for w in watched(session, "reqMktData")}
    return len(shown) < limit


def _tick_line_free(session: Session, contract: Contract, now_ns: int) -> bool:
    """Hold a tick-by-tick request against IB's limits, where they are switched on, and remember it."""
    settings, recent = session.gateway.settings, session.gateway.tick_requests
    if not settings.tick_by_tick_limits:
        return True
    ex_ns = session.gateway.exchange_ns(now_ns)
    if len(watched(session, "reqTickByTickData")) >= max(1, settings.data_lines // 20):
        return False
    if ex_ns < recent.get(contract.con_id, -TICK_BY_TICK_PACE_NS) + TICK_BY_TICK_PACE_NS:
        return False
    recent[contract.con_id] = ex_ns
    return True


def unsubscribe(session: Session, request: Request, now_ns: int) -> None:
    """End a subscription of the kind that the cancel names; 300 if there is none under this id."""
    watcher = session.subscriptions.get(request.req_id)
    if watcher is None or watcher.request != request.name.replace("cancel", "req"):
        session.error(request.req_id, 300, f"Can't find EId with tickerId:{request.req_id}", now_ns)
        return
    del session.subscriptions[request.req_id]
    session.gateway.unwatch(session, watcher)


def data_type(session: Session, request: Request, now_ns: int) -> None:
    """Remember what this connection asks for from now on: 1 live, 2 frozen, 3 delayed, 4 delayed-frozen."""
    kind = TYPES.get(str(request.values["kind"]))
    if kind is None:
        asked = str(request.values["kind"])[:20]
        session.error(-1, 321, f"Error validating request.-'b' : cause - market data type {asked}: allowed is 1 to 4",
                      now_ns)
        return
    session.data_type = kind


HANDLERS = {
    "reqMktData": market_data,
    "cancelMktData": unsubscribe,
    "reqMarketDataType": data_type,
    "reqTickByTickData": tick_by_tick,
    "cancelTickByTickData": unsubscribe,
}
