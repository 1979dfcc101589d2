"""placeOrder (ib-wire.md 4.1), decoded: the largest message that a client sends.

Law: every field of the layout is read, in order, for the negotiated version; nothing that is set is dropped unsaid.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.wire import Fields, WireError


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
