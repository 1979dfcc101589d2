"""What a client asks for: the requests of ib-wire.md 4, decoded into plain structs.

Law: decoding reads every field of the layout for the negotiated version, in order, and needs nothing else. A request
whose number is not in DECODERS is answered by nothing and journalled (ib-wire.md 4).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.instructions import Leg
from actors.venue.simulator.order_request import PlaceOrder, contract_block, place_order
from actors.venue.simulator.wire import MAX_TEXT, Fields, WireError


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Any message from a client: `name` is its API name, `req_id` -1 where it has none.

    `values` are the fields without a home of their own, by name.
    """

    name: str
    req_id: int = -1
    contract: ContractQuery | None = None
    values: dict[str, object] = msgspec.field(default_factory=dict)


def _market_data(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    req_id, contract = f.integer("reqId"), contract_block(f)
    values: dict[str, object] = {}
    if contract.sec_type == "BAG":
        values["legs"] = [Leg(con_id=f.integer("legConId"), ratio=f.integer("legRatio"), action=f.text("legAction"),
                              exchange=f.text("legExchange")) for _ in range(f.count("comboLegs"))]
    if f.flag("deltaNeutralContract"):
        values["deltaNeutral"] = [f.text(name) for name in ("dncConId", "dncDelta", "dncPrice")]
    values["generic"] = f.text("genericTicks")
    values["snapshot"] = f.flag("snapshot")
    values["regulatory"] = f.flag("regulatorySnapshot")
    values["options"] = f.text("options") if f.left else ""
    return Request(name="reqMktData", req_id=req_id, contract=contract, values=values)


def _tick_by_tick(f: Fields, version: int) -> Request:
    req_id, contract, kind = f.integer("reqId"), contract_block(f), f.text("tickType")
    values: dict[str, object] = {"kind": kind, "ticks": f.integer("numberOfTicks"), "ignoreSize": f.flag("ignoreSize")}
    return Request(name="reqTickByTickData", req_id=req_id, contract=contract, values=values)


def _market_depth(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    req_id, contract = f.integer("reqId"), contract_block(f)
    values: dict[str, object] = {
        "rows": f.integer("numRows"), "smart": f.flag("isSmartDepth"), "options": f.text("options")}
    return Request(name="reqMktDepth", req_id=req_id, contract=contract, values=values)


def _real_time_bars(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    req_id, contract = f.integer("reqId"), contract_block(f)
    values: dict[str, object] = {
        "barSize": f.integer("barSize"), "show": f.text("whatToShow"), "useRTH": f.flag("useRTH"),
        "options": f.text("options")}
    return Request(name="reqRealTimeBars", req_id=req_id, contract=contract, values=values)


def _contract_details(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    req_id, contract = f.integer("reqId"), contract_block(f)
    values: dict[str, object] = {"expired": f.flag("includeExpired"), "secIdType": f.text("secIdType"),
                                 "secId": f.text("secId")}
    if version >= 176:
        values["issuerId"] = f.text("issuerId")
    return Request(name="reqContractDetails", req_id=req_id, contract=contract, values=values)


def _executions(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    req_id, client = f.integer("reqId"), f.integer("clientId")
    names = ("account", "time", "symbol", "secType", "exchange", "side")
    return Request(name="reqExecutions", req_id=req_id,
                   values={"forClient": client, **{n: f.text(n) for n in names}})


def _account_updates(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    return Request(name="reqAccountUpdates", values={"subscribe": f.flag("subscribe"), "account": f.text("account")})


def _plain(name: str, version_field: bool, req: bool, *fields: str) -> Callable[[Fields, int], Request]:
    """Make a decoder for the many requests that are a number and a few texts."""

    def decode(f: Fields, version: int) -> Request:
        if version_field:
            f.skip("version", 1)
        req_id = f.integer("reqId") if req else -1
        return Request(name=name, req_id=req_id, values={n: f.text(n) if f.left else "" for n in fields})

    return decode


def _historical(f: Fields, version: int) -> Request:
    req_id, contract = f.integer("reqId"), contract_block(f)
    values: dict[str, object] = {
        "expired": f.flag("includeExpired"), "end": f.text("endDateTime"), "barSize": f.text("barSizeSetting"),
        "duration": f.text("durationStr"), "useRth": f.flag("useRTH"), "what": f.text("whatToShow"),
        "formatDate": f.integer("formatDate", 1)}
    if contract.sec_type == "BAG":
        f.skip("comboLegs", 4 * f.count("comboLegs"))
    values["keepUpToDate"], values["options"] = f.flag("keepUpToDate"), f.text("chartOptions")
    return Request(name="reqHistoricalData", req_id=req_id, contract=contract, values=values)


def _head_timestamp(f: Fields, version: int) -> Request:
    req_id, contract = f.integer("reqId"), contract_block(f)
    values: dict[str, object] = {
        "expired": f.flag("includeExpired"), "useRth": f.flag("useRTH"), "what": f.text("whatToShow"),
        "formatDate": f.integer("formatDate", 1)}
    return Request(name="reqHeadTimestamp", req_id=req_id, contract=contract, values=values)


def _historical_ticks(f: Fields, version: int) -> Request:
    req_id, contract = f.integer("reqId"), contract_block(f)
    values: dict[str, object] = {
        "expired": f.flag("includeExpired"), "start": f.text("startDateTime"), "end": f.text("endDateTime"),
        "n": f.integer("numberOfTicks"), "what": f.text("whatToShow"), "useRth": f.flag("useRth"),
        "ignoreSize": f.flag("ignoreSize"), "options": f.text("miscOptions")}
    return Request(name="reqHistoricalTicks", req_id=req_id, contract=contract, values=values)


Decoder = Callable[[Fields, int], "Request | PlaceOrder"]
DECODERS: dict[int, tuple[str, Decoder]] = {
    number: (name, decoder) for number, name, decoder in (
        (1, "reqMktData", _market_data),
        (2, "cancelMktData", _plain("cancelMktData", True, True)),
        (3, "placeOrder", place_order),
        (4, "cancelOrder", _plain("cancelOrder", True, True, "manualTime")),
        (5, "reqOpenOrders", _plain("reqOpenOrders", True, False)),
        (6, "reqAccountUpdates", _account_updates),
        (7, "reqExecutions", _executions),
        (8, "reqIds", _plain("reqIds", True, False, "n")),
        (9, "reqContractDetails", _contract_details),
        (10, "reqMktDepth", _market_depth),
        (11, "cancelMktDepth", _plain("cancelMktDepth", True, True, "smart")),
        (14, "setServerLogLevel", _plain("setServerLogLevel", True, False, "level")),
        (15, "reqAutoOpenOrders", _plain("reqAutoOpenOrders", True, False, "bind")),
        (16, "reqAllOpenOrders", _plain("reqAllOpenOrders", True, False)),
        (17, "reqManagedAccts", _plain("reqManagedAccts", True, False)),
        (20, "reqHistoricalData", _historical),
        (25, "cancelHistoricalData", _plain("cancelHistoricalData", True, True)),
        (49, "reqCurrentTime", _plain("reqCurrentTime", True, False)),
        (50, "reqRealTimeBars", _real_time_bars),
        (51, "cancelRealTimeBars", _plain("cancelRealTimeBars", True, True)),
        (58, "reqGlobalCancel", _plain("reqGlobalCancel", True, False)),
        (59, "reqMarketDataType", _plain("reqMarketDataType", True, False, "kind")),
        (61, "reqPositions", _plain("reqPositions", True, False)),
        (62, "reqAccountSummary", _plain("reqAccountSummary", True, True, "group", "tags")),
        (63, "cancelAccountSummary", _plain("cancelAccountSummary", True, True)),
        (64, "cancelPositions", _plain("cancelPositions", True, False)),
        (71, "startApi", _plain("startApi", True, False, "clientId", "capabilities")),
        (74, "reqPositionsMulti", _plain("reqPositionsMulti", True, True, "account", "model")),
        (75, "cancelPositionsMulti", _plain("cancelPositionsMulti", True, True)),
        (76, "reqAccountUpdatesMulti", _plain("reqAccountUpdatesMulti", True, True, "account", "model", "ledger")),
        (77, "cancelAccountUpdatesMulti", _plain("cancelAccountUpdatesMulti", True, True)),
        (78, "reqSecDefOptParams",
         _plain("reqSecDefOptParams", False, True, "symbol", "exchange", "secType", "conId")),
        (81, "reqMatchingSymbols", _plain("reqMatchingSymbols", False, True, "pattern")),
        (82, "reqMktDepthExchanges", _plain("reqMktDepthExchanges", False, False)),
        (87, "reqHeadTimestamp", _head_timestamp),
        (90, "cancelHeadTimestamp", _plain("cancelHeadTimestamp", False, True)),
        (91, "reqMarketRule", _plain("reqMarketRule", False, True)),
        (92, "reqPnL", _plain("reqPnL", False, True, "account", "model")),
        (93, "cancelPnL", _plain("cancelPnL", False, True)),
        (94, "reqPnLSingle", _plain("reqPnLSingle", False, True, "account", "model", "conId")),
        (95, "cancelPnLSingle", _plain("cancelPnLSingle", False, True)),
        (96, "reqHistoricalTicks", _historical_ticks),
        (97, "reqTickByTickData", _tick_by_tick),
        (98, "cancelTickByTickData", _plain("cancelTickByTickData", False, True)),
        (99, "reqCompletedOrders", _plain("reqCompletedOrders", False, False, "apiOnly")),
        (104, "reqUserInfo", _plain("reqUserInfo", False, True)),
    )
}


def decode(fields: list[str], version: int) -> Request | PlaceOrder:
    """Decode one message; an unknown number comes back as a Request named `unknown`. Raises WireError."""
    if max(map(len, fields), default=0) > MAX_TEXT:
        at, size = next((n, len(each)) for n, each in enumerate(fields) if len(each) > MAX_TEXT)
        raise WireError(f"message {fields[0][:12]}: field {at} has {size} characters: allowed are {MAX_TEXT}")
    first = Fields("message", fields)
    number = first.integer("message id")
    known = DECODERS.get(number)
    if known is None:
        return Request(name="unknown", values={"id": number, "fields": len(fields)})
    name, decoder = known
    return decoder(Fields(name, fields, 1), version)
