"""What a client asks for: the requests of ib-wire.md 4, decoded into plain structs.

Law: decoding reads every field of the layout for the negotiated version, in order, and needs nothing else. A request
whose number is not in DECODERS is answered by nothing and journalled (ib-wire.md 4).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.wire import Fields, WireError


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Any message from a client: `name` is its API name, `req_id` -1 where it has none.

    `values` are the fields without a home of their own, by name.
    """

    name: str
    req_id: int = -1
    contract: ContractQuery | None = None
    values: dict[str, object] = msgspec.field(default_factory=dict)


class PlaceOrder(msgspec.Struct, frozen=True, kw_only=True):
    """placeOrder (id 3), decoded. None is an unset price; `extras` are echoed only."""

    name: str = "placeOrder"
    order_id: int
    contract: ContractQuery
    action: str
    quantity: Decimal
    order_type: str
    lmt: Decimal | None
    aux: Decimal | None
    tif: str
    oca_group: str
    account: str
    order_ref: str
    transmit: bool
    parent_id: int
    trigger_method: int
    outside_rth: bool
    good_till_date: str
    oca_type: int
    all_or_none: bool
    trail_stop: Decimal | None
    trail_percent: Decimal | None
    what_if: bool
    conditions: int
    lmt_offset: Decimal | None
    legs: int
    unsupported: tuple[str, ...]
    """Instructions that are set and that the simulator does not follow."""
    extras: dict[str, str]


def contract_block(f: Fields) -> ContractQuery:
    """Read the identity block C12 (ib-wire.md 3)."""
    return ContractQuery(
        con_id=f.integer("conId"), symbol=f.text("symbol"), sec_type=f.text("secType"), expiry=f.text("expiry"),
        strike=f.quantity("strike"), right=f.text("right"), multiplier=f.text("multiplier"),
        exchange=f.text("exchange"), primary_exchange=f.text("primaryExchange"), currency=f.text("currency"),
        local_symbol=f.text("localSymbol"), trading_class=f.text("tradingClass"))


# condition type -> fields after the type (ib-wire.md 4.1)
CONDITION_FIELDS = {1: 6, 3: 3, 4: 3, 5: 4, 6: 5, 7: 5}


def place_order(f: Fields, version: int) -> PlaceOrder:
    """Decode placeOrder for this server version; raises WireError with the field's name."""
    extras: dict[str, str] = {}
    unsupported: list[str] = []

    def refuse_if(is_set: bool, name: str) -> None:
        if is_set:
            unsupported.append(name)

    def keep(*names: str) -> None:
        for name in names:
            value = f.text(name)
            if value:
                extras[name] = value

    order_id = f.integer("orderId")
    contract = contract_block(f)
    f.skip("secIdType", 2)
    action, quantity, order_type = f.text("action"), f.quantity("totalQuantity"), f.text("orderType")
    lmt, aux, tif = f.number("lmtPrice"), f.number("auxPrice"), f.text("tif")
    oca_group, account = f.text("ocaGroup"), f.text("account")
    keep("openClose", "origin")
    order_ref, transmit, parent_id = f.text("orderRef"), f.flag("transmit"), f.integer("parentId")
    keep("blockOrder", "sweepToFill", "displaySize")
    trigger_method, outside_rth = f.integer("triggerMethod"), f.flag("outsideRth")
    keep("hidden")
    legs = _combo(f) if contract.sec_type == "BAG" else 0
    f.skip("sharesAllocation", 1)
    keep("discretionaryAmt")
    refuse_if(f.text("goodAfterTime") != "", "goodAfterTime")
    good_till_date = f.text("goodTillDate")
    keep("faGroup", "faMethod", "faPercentage")
    if version < 177:
        keep("faProfile")
    keep("modelCode", "shortSaleSlot", "designatedLocation", "exemptCode")
    oca_type = f.integer("ocaType")
    keep("rule80A", "settlingFirm")
    all_or_none = f.flag("allOrNone")
    refuse_if(bool(f.number("minQty")), "minQty")
    keep("percentOffset")
    f.skip("eTradeOnly", 2)
    keep("nbboPriceCap", "auctionStrategy", "startingPrice", "stockRefPrice", "delta", "stockRangeLower",
         "stockRangeUpper")
    f.skip("overridePercentageConstraints", 1)
    keep("volatility", "volatilityType")
    # A client that re-sends an echoed order says 'None' here and adds the eight fields all the same.
    delta_neutral = f.text("deltaNeutralOrderType")
    refuse_if(delta_neutral not in ("", "None"), "deltaNeutralOrderType")
    f.skip("deltaNeutral", 9 if delta_neutral else 1)
    keep("continuousUpdate", "referencePriceType")
    trail_stop, trail_percent = f.number("trailStopPrice"), f.number("trailingPercent")
    scaled, hedged = _scale_and_hedge(f)
    refuse_if(scaled, "scalePriceIncrement")
    refuse_if(hedged, "hedgeType")
    keep("optOutSmartRouting", "clearingAccount", "clearingIntent", "notHeld")
    if f.flag("deltaNeutralContract"):
        f.skip("deltaNeutralContract", 3)
    algo = f.text("algoStrategy")
    refuse_if(algo != "", "algoStrategy")
    if algo:
        f.skip("algoParams", 2 * f.count("algoParams"))
    f.skip("algoId", 1)
    what_if = f.flag("whatIf")
    f.skip("orderMiscOptions", 1)
    keep("solicited", "randomizeSize", "randomizePrice")
    if order_type == "PEG BENCH":
        f.skip("referenceContractId", 5)
    conditions = _conditions(f)
    refuse_if(conditions > 0, "conditions")
    refuse_if(f.text("adjustedOrderType") not in ("", "None"), "adjustedOrderType")
    f.number("triggerPrice")
    lmt_offset = f.number("lmtPriceOffset")
    f.skip("adjustedStopPrice", 7)
    keep("cashQty")
    f.skip("mifid2", 8)
    for minimum, name in ((158, "duration"), (160, "postToAts"), (162, "autoCancelParent"),
                          (166, "advancedErrorOverride"), (169, "manualOrderTime")):
        if version >= minimum:
            f.skip(name, 1)
    return PlaceOrder(
        order_id=order_id, contract=contract, action=action, quantity=quantity, order_type=order_type, lmt=lmt,
        aux=aux, tif=tif, oca_group=oca_group, account=account, order_ref=order_ref, transmit=transmit,
        parent_id=parent_id, trigger_method=trigger_method, outside_rth=outside_rth, good_till_date=good_till_date,
        oca_type=oca_type, all_or_none=all_or_none, trail_stop=trail_stop, trail_percent=trail_percent,
        what_if=what_if, conditions=conditions, lmt_offset=lmt_offset, legs=legs,
        unsupported=tuple(unsupported), extras=extras)


def _combo(f: Fields) -> int:
    legs = f.count("comboLegs")
    f.skip("comboLegs", 8 * legs)
    f.skip("orderComboLegs", f.count("orderComboLegs"))
    f.skip("smartComboRoutingParams", 2 * f.count("smartComboRoutingParams"))
    return legs


def _scale_and_hedge(f: Fields) -> tuple[bool, bool]:
    f.skip("scaleLevelSizes", 2)
    scaled = (f.number("scalePriceIncrement") or 0) > 0
    if scaled:
        f.skip("scale", 7)
    f.skip("scaleTable", 3)
    hedged = f.text("hedgeType") != ""
    if hedged:
        f.skip("hedgeParam", 1)
    return scaled, hedged


def _conditions(f: Fields) -> int:
    n = f.count("conditions", 100)
    for _ in range(n):
        kind = f.integer("condition type")
        if kind not in CONDITION_FIELDS:
            raise WireError(f"placeOrder: condition type {kind} is not one of {sorted(CONDITION_FIELDS)}")
        f.skip("condition", CONDITION_FIELDS[kind])
    if n:
        f.skip("conditionsIgnoreRth", 2)
    return n


def _market_data(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    req_id, contract = f.integer("reqId"), contract_block(f)
    if contract.sec_type == "BAG":
        f.skip("comboLegs", 4 * f.count("comboLegs"))
    if f.flag("deltaNeutralContract"):
        f.skip("deltaNeutralContract", 3)
    values = {"generic": f.text("genericTicks"), "snapshot": f.flag("snapshot")}
    return Request(name="reqMktData", req_id=req_id, contract=contract, values=values)


def _tick_by_tick(f: Fields, version: int) -> Request:
    req_id, contract = f.integer("reqId"), contract_block(f)
    return Request(name="reqTickByTickData", req_id=req_id, contract=contract, values={"kind": f.text("tickType")})


def _contract_details(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    return Request(name="reqContractDetails", req_id=f.integer("reqId"), contract=contract_block(f))


def _executions(f: Fields, version: int) -> Request:
    f.skip("version", 1)
    req_id, client = f.integer("reqId"), f.integer("clientId")
    names = ("account", "time", "symbol", "secType", "exchange", "side")
    return Request(name="reqExecutions", req_id=req_id,
                   values={"forClient": client, **{n: f.text(n) for n in names}})


def _plain(name: str, version_field: bool, req: bool, *fields: str) -> Callable[[Fields, int], Request]:
    """Make a decoder for the many requests that are a number and a few texts."""

    def decode(f: Fields, version: int) -> Request:
        if version_field:
            f.skip("version", 1)
        req_id = f.integer("reqId") if req else -1
        return Request(name=name, req_id=req_id, values={n: f.text(n) if f.left else "" for n in fields})

    return decode


def _historical(f: Fields, version: int) -> Request:
    return Request(name="reqHistoricalData", req_id=f.integer("reqId"), contract=contract_block(f))


Decoder = Callable[[Fields, int], "Request | PlaceOrder"]
DECODERS: dict[int, tuple[str, Decoder]] = {
    number: (name, decoder) for number, name, decoder in (
        (1, "reqMktData", _market_data),
        (2, "cancelMktData", _plain("cancelMktData", True, True)),
        (3, "placeOrder", place_order),
        (4, "cancelOrder", _plain("cancelOrder", True, True, "manualTime")),
        (5, "reqOpenOrders", _plain("reqOpenOrders", True, False)),
        (6, "reqAccountUpdates", _plain("reqAccountUpdates", True, False, "subscribe", "account")),
        (7, "reqExecutions", _executions),
        (8, "reqIds", _plain("reqIds", True, False, "n")),
        (9, "reqContractDetails", _contract_details),
        (14, "setServerLogLevel", _plain("setServerLogLevel", True, False, "level")),
        (15, "reqAutoOpenOrders", _plain("reqAutoOpenOrders", True, False, "bind")),
        (16, "reqAllOpenOrders", _plain("reqAllOpenOrders", True, False)),
        (17, "reqManagedAccts", _plain("reqManagedAccts", True, False)),
        (20, "reqHistoricalData", _historical),
        (25, "cancelHistoricalData", _plain("cancelHistoricalData", True, True)),
        (49, "reqCurrentTime", _plain("reqCurrentTime", True, False)),
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
        (91, "reqMarketRule", _plain("reqMarketRule", False, True)),
        (92, "reqPnL", _plain("reqPnL", False, True, "account", "model")),
        (93, "cancelPnL", _plain("cancelPnL", False, True)),
        (97, "reqTickByTickData", _tick_by_tick),
        (98, "cancelTickByTickData", _plain("cancelTickByTickData", False, True)),
        (99, "reqCompletedOrders", _plain("reqCompletedOrders", False, False, "apiOnly")),
        (104, "reqUserInfo", _plain("reqUserInfo", False, True)),
    )
}


def decode(fields: list[str], version: int) -> Request | PlaceOrder:
    """Decode one message; an unknown number comes back as a Request named `unknown`. Raises WireError."""
    first = Fields("message", fields)
    number = first.integer("message id")
    known = DECODERS.get(number)
    if known is None:
        return Request(name="unknown", values={"id": number, "fields": len(fields)})
    name, decoder = known
    return decoder(Fields(name, fields, 1), version)
