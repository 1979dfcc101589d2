"""placeOrder (ib-wire.md 4.1), decoded: the largest message that a client sends.

Law: every field of the layout is read, in order, for the negotiated version; nothing that is set is dropped unsaid.

Scalars that the exchange only echoes go into `extras` under IB's names, spelled as they came, and only where they are
set: what a client re-sends from an openOrder ('None', 1.797e308, 2147483647) counts as empty. What becomes of a field:

- followed: legs, conditions, goodAfterTime, minQty, discretionaryAmt, allOrNone, autoCancelParent and all that the
  exchange's Order names;
- refused by name where it is set: NOT_FOLLOWED below, scaleTable, activeStartTime, activeStopTime (321), eTradeOnly and
  firmQuoteOnly (10268), order types that validation.TYPES does not have (201);
- worked as the plain order around it, said in the journal, or refused by a switch: validation.PLAINLY;
- echoed only, as it cannot matter at a venue with one market and one account holder: routing, display, clearing, short
  sale and volatility fields, duration, postToAts, soft dollars, and so on;
- without room in openOrder, read and checked, and without effect here: secIdType, secId, algoId, orderMiscOptions,
  extOperator, the four mifid2 fields, overridePercentageConstraints, advancedErrorOverride, manualOrderTime.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.instructions import (
    PLAIN,
    Condition,
    ExecutionCondition,
    Instructions,
    Leg,
    MarginCondition,
    Pairs,
    PercentChangeCondition,
    PriceCondition,
    TimeCondition,
    VolumeCondition,
)
from actors.venue.simulator.wire import Fields, WireError

PEG_BENCH = frozenset({"PEG BENCH", "PEGBENCH"})
PEG_BEST = frozenset({"PEG BEST", "PEGBEST"})
PEG_MID = frozenset({"PEG MID", "PEGMID"})
INFINITY = "Infinity"                         # as Java spells it; ib_insync and ib_async write Infinite and read this
NOT_FOLLOWED = ("faGroup", "faProfile", "modelCode", "cashQty", "isOmsContainer")
MAX_LEGS = 100
MAX_PAIRS = 1000
MAX_REMEMBERED, MAX_REMEMBERED_TEXT = 256, 1000
"""How many different ends of placeOrder are remembered as they were read, and how long one may be."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a placeOrder that come after its combination, as PlaceOrder has them too."""

    good_till_date: str
    oca_type: int
    all_or_none: bool
    trail_stop: Decimal | None
    trail_percent: Decimal | None
    what_if: bool
    lmt_offset: Decimal | None
    attributes: tuple[str, ...]
    """`eTradeOnly` and `firmQuoteOnly` where they are set: IB knows them no more (10268)."""
    unsupported: tuple[str, ...]
    """Instructions that are set and that the simulator does not follow."""
    extras: dict[str, str]


class PlaceOrder(Ending, frozen=True, kw_only=True):
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
    instructions: Instructions


class Rest(Ending, frozen=True, kw_only=True):
    """What the larger part of a placeOrder says, from sharesAllocation on. It is shared by orders: never changed."""

    parts: dict[str, Any]
    """Arguments of Instructions."""
    length: int
    """How many fields that was."""


read_before: dict[tuple[str, int, bool, str], Rest] = {}


def contract_block(f: Fields) -> ContractQuery:
    """Read the identity block C12 (ib-wire.md 3)."""
    return ContractQuery(
        con_id=f.integer("conId"), symbol=f.text("symbol"), sec_type=f.text("secType"), expiry=f.text("expiry"),
        strike=f.quantity("strike"), right=f.text("right"), multiplier=f.text("multiplier"),
        exchange=f.text("exchange"), primary_exchange=f.text("primaryExchange"), currency=f.text("currency"),
        local_symbol=f.text("localSymbol"), trading_class=f.text("tradingClass"))


class _Extras:
    """Reads fields that are only echoed, by kind, and keeps those that are set."""

    def __init__(self, f: Fields) -> None:
        self.f = f
        self.kept: dict[str, str] = {}

    def texts(self, *names: str) -> None:
        for name in names:
            value = self.f.text(name)
            if value:
                self.kept[name] = value

    def numbers(self, *names: str) -> None:
        for name in names:
            value = self.f.spelled_number(name)
            if value:
                self.kept[name] = value

    def wholes(self, *names: str) -> None:
        for name in names:
            value = self.f.spelled_number(name, whole=True)
            if value:
                self.kept[name] = value

    def flags(self, *names: str) -> None:
        for name in names:
            if self.f.flag(name):
                self.kept[name] = "1"

    def kind(self, name: str) -> bool:
        """Read the name of an order type that may be 'None'; return whether there was any text."""
        value = self.f.text(name)
        if value not in ("", "None"):
            self.kept[name] = value
        return value != ""


def place_order(f: Fields, version: int) -> PlaceOrder:
    """Decode placeOrder for this server version; raises WireError with the field's name."""
    x = _Extras(f)
    order_id = f.integer("orderId")
    contract = contract_block(f)
    f.skip("secIdType", 2)
    action, quantity, order_type = f.text("action"), f.quantity("totalQuantity"), f.text("orderType")
    lmt, aux, tif = f.number("lmtPrice"), f.number("auxPrice"), f.text("tif")
    oca_group, account = f.text("ocaGroup"), f.text("account")
    x.texts("openClose")
    x.wholes("origin")
    order_ref, transmit, parent_id = f.text("orderRef"), f.flag("transmit"), f.integer("parentId")
    x.flags("blockOrder", "sweepToFill")
    x.wholes("displaySize")
    trigger_method, outside_rth = f.integer("triggerMethod"), f.flag("outsideRth")
    x.flags("hidden")
    parts: dict[str, Any] = _combo(f) if contract.sec_type == "BAG" else {}
    rest = _rest(f, version, contract.exchange, order_type)
    return PlaceOrder(
        order_id=order_id, contract=contract, action=action, quantity=quantity, order_type=order_type, lmt=lmt,
        aux=aux, tif=tif, oca_group=oca_group, account=account, order_ref=order_ref, transmit=transmit,
        parent_id=parent_id, trigger_method=trigger_method, outside_rth=outside_rth,
        good_till_date=rest.good_till_date, oca_type=rest.oca_type, all_or_none=rest.all_or_none,
        trail_stop=rest.trail_stop, trail_percent=rest.trail_percent, what_if=rest.what_if,
        lmt_offset=rest.lmt_offset, attributes=rest.attributes, unsupported=rest.unsupported,
        extras={**x.kept, **rest.extras},
        instructions=Instructions(**parts, **rest.parts) if parts or rest.parts else PLAIN)


def _rest(f: Fields, version: int, exchange: str, order_type: str) -> Rest:
    """Read from sharesAllocation to the end: two thirds of the message, and the same text in nearly all orders.

    What has been read is remembered by its text, and by all else that the layout depends on.
    """
    text = f.rest()
    key = (text, version, exchange == "IBKRATS", order_type)
    rest = read_before.get(key)
    if rest is None:
        rest = _read_rest(f, version, exchange, order_type)
        if len(text) <= MAX_REMEMBERED_TEXT:
            if len(read_before) >= MAX_REMEMBERED:
                del read_before[next(iter(read_before))]
            read_before[key] = rest
    else:
        f.skip("the rest", rest.length)
    return rest


def _read_rest(f: Fields, version: int, exchange: str, order_type: str) -> Rest:
    x, before = _Extras(f), f.left
    parts: dict[str, Any] = {}
    good_till_date, oca_type, all_or_none, attributes = _middle(f, x, parts, version)
    trail_stop, trail_percent = f.number("trailStopPrice"), f.number("trailingPercent")
    windows = _scale_and_hedge(f, x)
    what_if = _algo(f, x, parts)
    if order_type in PEG_BENCH:
        x.wholes("referenceContractId")
        x.flags("isPeggedChangeAmountDecrease")
        x.numbers("peggedChangeAmount", "referenceChangeAmount")
        x.texts("referenceExchangeId")
    _conditions(f, parts)
    lmt_offset = _adjusted(f, x)
    _tail(f, x, parts, version, exchange, order_type)
    unsupported = [*windows, *(name for name in NOT_FOLLOWED if x.kept.get(name, "0").strip("0.") != "")]
    return Rest(
        good_till_date=good_till_date, oca_type=oca_type, all_or_none=all_or_none, trail_stop=trail_stop,
        trail_percent=trail_percent, what_if=what_if, lmt_offset=lmt_offset, attributes=attributes,
        unsupported=tuple(unsupported), extras=x.kept, parts=parts, length=before - f.left)


def _combo(f: Fields) -> dict[str, Any]:
    legs = tuple(
        Leg(con_id=f.integer("leg conId"), ratio=f.integer("leg ratio"), action=f.text("leg action"),
            exchange=f.text("leg exchange"), open_close=f.integer("leg openClose"),
            short_sale_slot=f.integer("leg shortSaleSlot"), designated_location=f.text("leg designatedLocation"),
            exempt_code=f.integer("leg exemptCode", -1))
        for _ in range(f.count("comboLegs", MAX_LEGS)))
    prices = tuple(f.number("leg price") for _ in range(f.count("orderComboLegs", MAX_LEGS)))
    return {"legs": legs, "leg_prices": prices, "routing": _pairs(f, "smartComboRoutingParams")}


def _pairs(f: Fields, name: str) -> Pairs:
    return tuple((f.text(name), f.text(name)) for _ in range(f.count(name, MAX_PAIRS)))


def _middle(f: Fields, x: _Extras, parts: dict[str, Any], version: int) -> tuple[str, int, bool, tuple[str, ...]]:
    """Read from sharesAllocation to referencePriceType."""
    f.skip("sharesAllocation", 1)
    x.numbers("discretionaryAmt")
    if discretionary := Decimal(x.kept.get("discretionaryAmt", "0")):
        parts["discretionary"] = discretionary
    x.texts("goodAfterTime")
    good_till_date = f.text("goodTillDate")
    x.texts("faGroup", "faMethod", "faPercentage")
    if version < 177:
        x.texts("faProfile")
    x.texts("modelCode")
    x.wholes("shortSaleSlot")
    x.texts("designatedLocation")
    x.wholes("exemptCode")
    oca_type = f.integer("ocaType")
    x.texts("rule80A", "settlingFirm")
    all_or_none = f.flag("allOrNone")
    x.wholes("minQty")
    if minimum := Decimal(x.kept.get("minQty", "0")):
        parts["min_quantity"] = minimum
    else:
        x.kept.pop("minQty", None)
    x.numbers("percentOffset")
    attributes = tuple(name for name in ("eTradeOnly", "firmQuoteOnly") if f.flag(name))
    x.numbers("nbboPriceCap")
    x.wholes("auctionStrategy")
    x.numbers("startingPrice", "stockRefPrice", "delta", "stockRangeLower", "stockRangeUpper")
    f.flag("overridePercentageConstraints")
    x.numbers("volatility")
    x.wholes("volatilityType")
    # A client that re-sends an echoed order says 'None' here and adds the eight fields all the same.
    present, empty = x.kind("deltaNeutralOrderType"), "deltaNeutralOrderType" not in x.kept
    x.numbers("deltaNeutralAuxPrice")
    if present and empty:
        f.skip("deltaNeutral", 8)
    elif present:
        x.wholes("deltaNeutralConId")
        x.texts("deltaNeutralSettlingFirm", "deltaNeutralClearingAccount", "deltaNeutralClearingIntent",
                "deltaNeutralOpenClose")
        x.flags("deltaNeutralShortSale")
        x.wholes("deltaNeutralShortSaleSlot")
        x.texts("deltaNeutralDesignatedLocation")
    x.flags("continuousUpdate")
    x.wholes("referencePriceType")
    return good_till_date, oca_type, all_or_none, attributes


def _scale_and_hedge(f: Fields, x: _Extras) -> list[str]:
    """Read the scale and hedge groups; return the names of set instructions that are not followed."""
    x.wholes("scaleInitLevelSize", "scaleSubsLevelSize")
    increment = f.spelled_number("scalePriceIncrement")
    if increment and Decimal(increment) > 0:
        x.kept["scalePriceIncrement"] = increment
        x.numbers("scalePriceAdjustValue")
        x.wholes("scalePriceAdjustInterval")
        x.numbers("scaleProfitOffset")
        x.flags("scaleAutoReset")
        x.wholes("scaleInitPosition", "scaleInitFillQty")
        x.flags("scaleRandomPercent")
    not_followed = [name for name in ("scaleTable", "activeStartTime", "activeStopTime") if f.text(name)]
    x.texts("hedgeType")
    if "hedgeType" in x.kept:
        x.texts("hedgeParam")
    x.flags("optOutSmartRouting")
    x.texts("clearingAccount", "clearingIntent")
    x.flags("notHeld")
    if f.flag("deltaNeutralContract"):
        x.kept["deltaNeutralContract"] = "1"
        x.wholes("deltaNeutralContract.conId")
        x.numbers("deltaNeutralContract.delta", "deltaNeutralContract.price")
    return not_followed


def _algo(f: Fields, x: _Extras, parts: dict[str, Any]) -> bool:
    """Read from algoStrategy to randomizePrice; return whatIf."""
    x.texts("algoStrategy")
    if "algoStrategy" in x.kept:
        parts["algo_params"] = _pairs(f, "algoParams")
    f.skip("algoId", 1)
    what_if = f.flag("whatIf")
    f.skip("orderMiscOptions", 1)
    x.flags("solicited", "randomizeSize", "randomizePrice")
    return what_if


def _conditions(f: Fields, parts: dict[str, Any]) -> None:
    n = f.count("conditions", 100)
    if n:
        parts["conditions"] = tuple(_condition(f) for _ in range(n))
        parts["conditions_ignore_rth"] = f.flag("conditionsIgnoreRth")
        parts["conditions_cancel"] = f.flag("conditionsCancelOrder")


def _condition(f: Fields) -> Condition:
    kind = f.integer("condition type")
    joins = f.text("condition conjunction")
    if joins not in ("a", "o"):
        raise WireError(f"placeOrder: condition conjunction {joins[:40]!r} is neither a nor o")
    if kind == 5:
        return ExecutionCondition(conjunction=joins, sec_type=f.text("condition secType"),
                                  exchange=f.text("condition exchange"), symbol=f.text("condition symbol"))
    if kind not in (1, 3, 4, 6, 7):
        raise WireError(f"placeOrder: condition type {kind} is not one of 1, 3, 4, 5, 6, 7")
    more = f.flag("condition isMore")
    if kind == 1:
        return PriceCondition(conjunction=joins, is_more=more, price=f.quantity("condition price"),
                              con_id=f.integer("condition conId"), exchange=f.text("condition exchange"),
                              trigger_method=f.integer("condition triggerMethod"))
    if kind == 3:
        return TimeCondition(conjunction=joins, is_more=more, time=f.text("condition time"))
    if kind == 4:
        return MarginCondition(conjunction=joins, is_more=more, percent=f.integer("condition percent"))
    if kind == 6:
        return VolumeCondition(conjunction=joins, is_more=more, volume=f.integer("condition volume"),
                               con_id=f.integer("condition conId"), exchange=f.text("condition exchange"))
    return PercentChangeCondition(conjunction=joins, is_more=more, change_percent=f.quantity("condition changePercent"),
                                  con_id=f.integer("condition conId"), exchange=f.text("condition exchange"))


def _adjusted(f: Fields, x: _Extras) -> Decimal | None:
    """Read from adjustedOrderType to the four mifid2 fields; return lmtPriceOffset."""
    x.kind("adjustedOrderType")
    x.numbers("triggerPrice")
    lmt_offset = f.number("lmtPriceOffset")
    x.numbers("adjustedStopPrice", "adjustedStopLimitPrice", "adjustedTrailingAmount")
    x.wholes("adjustableTrailingUnit")
    f.skip("extOperator", 1)
    x.texts("softDollarName", "softDollarVal")
    x.numbers("cashQty")
    f.skip("mifid2", 4)
    return lmt_offset


def _tail(f: Fields, x: _Extras, parts: dict[str, Any], version: int, exchange: str, order_type: str) -> None:
    """Read what follows the mifid2 fields; most of it depends on the version."""
    x.flags("dontUseAutoPriceForHedge", "isOmsContainer", "discretionaryUpToLimitPrice", "usePriceMgmtAlgo")
    if version >= 158:
        x.wholes("duration")
    if version >= 160:
        x.wholes("postToAts")
    if version >= 162:
        x.flags("autoCancelParent")
        if "autoCancelParent" in x.kept:
            parts["auto_cancel_parent"] = True
    for minimum, name in ((166, "advancedErrorOverride"), (169, "manualOrderTime")):
        if version >= minimum:
            f.skip(name, 1)
    if version < 170:
        return
    if exchange == "IBKRATS":
        x.wholes("minTradeQty")
    half_way = order_type in PEG_MID
    if order_type in PEG_BEST:
        x.wholes("minCompeteSize")
        half_way = f.peek() in (INFINITY, "Infinite", "inf")
        if half_way:
            f.skip("competeAgainstBestOffset", 1)
            x.kept["competeAgainstBestOffset"] = INFINITY
        else:
            x.numbers("competeAgainstBestOffset")
    if half_way:
        x.numbers("midOffsetAtWhole", "midOffsetAtHalf")
