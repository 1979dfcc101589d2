"""What the gateway says of orders and executions: 3, 5, 11, 59 and 101 of ib-wire.md 5, for versions 157 to 178.

Law: the functions are pure and return whole frames; a value that a plain order does not have is spelled as a real
gateway spells it. What the client has set is echoed wherever the message has room for it. Two things are not as set:
`dontUseAutoPriceForHedge` reads 1 unless the order is a hedge, and openOrder carries the trailing stop twice.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from actors.venue.simulator.instructions import (
    PLAIN,
    Condition,
    ExecutionCondition,
    Leg,
    MarginCondition,
    PriceCondition,
    TimeCondition,
    VolumeCondition,
)
from actors.venue.simulator.order_request import PEG_BENCH
from actors.venue.simulator.orders import Execution, Order
from actors.venue.simulator.responses import contract_head, time_text
from actors.venue.simulator.wire import UNSET_DOUBLE, UNSET_INT, encode, number, price

EIGHT_DECIMALS = Decimal("0.00000001")
CENT = Decimal("0.01")
NO_LIMIT = frozenset({"MKT", "STP", "TRAIL"})


class Echo(Protocol):
    """Looks up what the client has set: (IB's name of a field, what to say where it is not set)."""

    def __call__(self, name: str, default: str, /) -> str: ...


def order_status(o: Order) -> bytes:
    return encode(3, o.order_id, o.status, number(o.filled), number(o.remaining), _average(o),
                  o.perm_id, o.parent_id, number(o.last_fill_price), o.client_id, o.why_held, "0.0")


def _average(o: Order) -> str:
    return number(o.avg_price.quantize(EIGHT_DECIMALS)) if o.filled else "0"


def _limit_text(o: Order) -> str:
    return price(None if o.order_type in NO_LIMIT else o.lmt, "0.0")


def _aux_text(o: Order) -> str:
    return price(o.aux if o.order_type not in ("MKT", "LMT") else None, "0.0")


def open_order(o: Order, version: int) -> bytes:
    """Encode openOrder (ib-wire.md 5.1); 136 fields at 170-176 for a plain order."""
    x = o.extras.get
    fields: list[object] = [
        5, o.order_id, *contract_head(o.contract, x("exchange", o.contract.exchange), "?"), *_head(o, x),
        o.client_id, o.perm_id, o.outside_rth, x("hidden", "0"),
        x("discretionaryAmt", "0"), x("goodAfterTime", ""), f"{o.perm_id}.{o.modifies}/{o.account}/100",
        *_allocation(o, x, version), x("auctionStrategy", "0"), *_stock_range(x),
        _display_size(x), x("blockOrder", "0"), x("sweepToFill", "0"), o.all_or_none, x("minQty", ""), o.oca_type,
        "0", "0", x("nbboPriceCap", ""), o.parent_id, o.trigger_method,
        x("volatility", ""), x("volatilityType", "0"), x("deltaNeutralOrderType", "None"),
        x("deltaNeutralAuxPrice", ""), x("deltaNeutralConId", "0"), x("deltaNeutralSettlingFirm", ""),
        x("deltaNeutralClearingAccount", ""), x("deltaNeutralClearingIntent", ""),
        x("deltaNeutralOpenClose", "?"), x("deltaNeutralShortSale", "0"), x("deltaNeutralShortSaleSlot", "0"),
        x("deltaNeutralDesignatedLocation", ""),
        x("continuousUpdate", "0"), x("referencePriceType", "0"),
        price(o.trail_stop, UNSET_DOUBLE), price(o.trail_percent, UNSET_DOUBLE), "", "",
        *_combination(o), *_scale(x), *_hedge(x), x("optOutSmartRouting", "0"), *_clearing(x), *_algo(o, x),
        x("solicited", "0"), o.what_if, o.status, *_state(o), x("randomizeSize", "0"), x("randomizePrice", "0"),
        *_peg_bench(o, x), *_conditions(o),
        x("adjustedOrderType", "None"), x("triggerPrice", UNSET_DOUBLE), price(o.trail_stop, UNSET_DOUBLE),
        price(o.lmt_offset, UNSET_DOUBLE), x("adjustedStopPrice", UNSET_DOUBLE),
        x("adjustedStopLimitPrice", UNSET_DOUBLE), x("adjustedTrailingAmount", UNSET_DOUBLE),
        x("adjustableTrailingUnit", "0"), x("softDollarName", ""), x("softDollarVal", ""), "", x("cashQty", "0"),
        _auto_price(x), x("isOmsContainer", "0"), x("discretionaryUpToLimitPrice", "0"), x("usePriceMgmtAlgo", "0")]
    if version >= 158:
        fields.append(x("duration", ""))
    if version >= 160:
        fields.append(x("postToAts", ""))
    if version >= 162:
        fields.append(x("autoCancelParent", "0"))
    return encode(*fields, *_peg_tail(x, version))


def completed_order(o: Order, version: int) -> bytes:
    """Encode completedOrder (ib-wire.md 5.4). A filled one shows totalQuantity 0, as recorded from real gateways."""
    x = o.extras.get
    fields: list[object] = [
        101, *contract_head(o.contract, x("exchange", o.contract.exchange), "?"), *_head(o, x, done=True),
        o.perm_id, o.outside_rth, x("hidden", "0"), x("discretionaryAmt", "0"), x("goodAfterTime", ""),
        *_allocation(o, x, version), *_stock_range(x), _display_size(x), x("sweepToFill", "0"), o.all_or_none,
        x("minQty", ""), o.oca_type, o.trigger_method, x("volatility", ""), x("volatilityType", "0"),
        x("deltaNeutralOrderType", "None"), x("deltaNeutralAuxPrice", ""), x("deltaNeutralConId", "0"),
        x("deltaNeutralShortSale", "0"), x("deltaNeutralShortSaleSlot", "0"), x("deltaNeutralDesignatedLocation", ""),
        x("continuousUpdate", "0"), x("referencePriceType", "0"),
        price(o.trail_stop, UNSET_DOUBLE), price(o.trail_percent, UNSET_DOUBLE),
        *_combination(o), *_scale(x), *_hedge(x), *_clearing(x), *_algo(o, x),
        x("solicited", "0"), o.status, x("randomizeSize", "0"), x("randomizePrice", "0"),
        *_peg_bench(o, x), *_conditions(o),
        price(o.trail_stop, UNSET_DOUBLE), price(o.lmt_offset, UNSET_DOUBLE), x("cashQty", "0"), _auto_price(x),
        x("isOmsContainer", "0"), "", number(o.filled), "0", x("autoCancelParent", "0"),
        "Not an insider or substantial shareholder", "0", "0", "0", time_text(o.done_ns), o.done_text]
    return encode(*fields, *_peg_tail(x, version))


# the groups that both messages share ---------------------------------------------------------------------------------

def _head(o: Order, x: Echo, done: bool = False) -> list[object]:
    total = "0" if done and o.status == "Filled" else number(o.total)
    return [o.action, total, o.order_type, _limit_text(o), _aux_text(o), o.tif, o.oca_group, o.account,
            x("openClose", ""), x("origin", "0"), o.order_ref]


def _allocation(o: Order, x: Echo, version: int) -> list[object]:
    """Return from faGroup to exemptCode."""
    profile = [x("faProfile", "")] if version < 177 else []
    return [x("faGroup", ""), x("faMethod", ""), x("faPercentage", ""), *profile, x("modelCode", ""),
            o.good_till_date, x("rule80A", "0"), x("percentOffset", ""), x("settlingFirm", ""),
            x("shortSaleSlot", "0"), x("designatedLocation", ""), x("exemptCode", "-1")]


def _stock_range(x: Echo) -> list[object]:
    return [x("startingPrice", ""), x("stockRefPrice", ""), x("delta", ""), x("stockRangeLower", ""),
            x("stockRangeUpper", "")]


def _display_size(x: Echo) -> str:
    size = x("displaySize", "0")
    return UNSET_INT if size == "0" else size


def _combination(o: Order) -> list[object]:
    i = o.instructions
    if i is PLAIN:
        return ["", "0", "0", "0"]
    described = ",".join(f"{leg.con_id}|{leg.signed_ratio}" for leg in i.legs)
    fields: list[object] = [described, len(i.legs)]
    for leg in i.legs:
        fields += _leg(leg)
    fields += [len(i.leg_prices), *(price(p) for p in i.leg_prices)]
    fields += [len(i.routing), *(word for pair in i.routing for word in pair)]
    return fields


def _leg(leg: Leg) -> list[object]:
    return [leg.con_id, leg.ratio, leg.action, leg.exchange, leg.open_close, leg.short_sale_slot,
            leg.designated_location, leg.exempt_code]


def _scale(x: Echo) -> list[object]:
    fields: list[object] = [x("scaleInitLevelSize", UNSET_INT), x("scaleSubsLevelSize", UNSET_INT),
                            x("scalePriceIncrement", "")]
    if x("scalePriceIncrement", ""):
        fields += [x("scalePriceAdjustValue", ""), x("scalePriceAdjustInterval", ""), x("scaleProfitOffset", ""),
                   x("scaleAutoReset", "0"), x("scaleInitPosition", ""), x("scaleInitFillQty", ""),
                   x("scaleRandomPercent", "0")]
    return fields


def _hedge(x: Echo) -> list[object]:
    kind = x("hedgeType", "")
    return [kind, x("hedgeParam", "")] if kind else [""]


def _clearing(x: Echo) -> list[object]:
    fields: list[object] = [x("clearingAccount", ""), x("clearingIntent", "IB"), x("notHeld", "0")]
    if not x("deltaNeutralContract", ""):
        return [*fields, "0"]
    parts = ("conId", "delta", "price")
    return [*fields, "1", *(x(f"deltaNeutralContract.{part}", "0") for part in parts)]


def _algo(o: Order, x: Echo) -> list[object]:
    strategy = x("algoStrategy", "")
    if not strategy:
        return [""]
    params = o.instructions.algo_params
    return [strategy, len(params), *(word for pair in params for word in pair)]


def _peg_bench(o: Order, x: Echo) -> list[object]:
    if o.order_type not in PEG_BENCH:
        return []
    return [x("referenceContractId", "0"), x("isPeggedChangeAmountDecrease", "0"), x("peggedChangeAmount", "0"),
            x("referenceChangeAmount", "0"), x("referenceExchangeId", "")]


def _conditions(o: Order) -> list[object]:
    i = o.instructions
    if i is PLAIN or not i.conditions:
        return ["0"]
    fields: list[object] = [len(i.conditions)]
    for condition in i.conditions:
        fields += [condition.kind, condition.conjunction, *_condition(condition)]
    return [*fields, i.conditions_ignore_rth, i.conditions_cancel]


def _condition(c: Condition) -> list[object]:
    if isinstance(c, PriceCondition):
        return [c.is_more, number(c.price), c.con_id, c.exchange, c.trigger_method]
    if isinstance(c, TimeCondition):
        return [c.is_more, c.time]
    if isinstance(c, MarginCondition):
        return [c.is_more, c.percent]
    if isinstance(c, ExecutionCondition):
        return [c.sec_type, c.exchange, c.symbol]
    if isinstance(c, VolumeCondition):
        return [c.is_more, c.volume, c.con_id, c.exchange]
    return [c.is_more, number(c.change_percent), c.con_id, c.exchange]


def _auto_price(x: Echo) -> str:
    """A real gateway prints 1 for an order that is no hedge, whatever was sent (ib-wire.md 5.1)."""
    return x("dontUseAutoPriceForHedge", "0") if x("hedgeType", "") else "1"


def _peg_tail(x: Echo, version: int) -> list[object]:
    if version < 170:
        return []
    return [x("minTradeQty", ""), x("minCompeteSize", ""), x("competeAgainstBestOffset", ""),
            x("midOffsetAtWhole", ""), x("midOffsetAtHalf", "")]


def _state(o: Order) -> list[object]:
    """Return the margin and commission block: numbers only in a what-if answer and after a fill."""
    w = o.preview
    if w is not None:
        margins = [number(value.quantize(CENT)) for value in (
            w.initial_before, w.maintenance_before, w.equity_before, w.initial_after - w.initial_before,
            w.maintenance_after - w.maintenance_before, w.equity_after - w.equity_before,
            w.initial_after, w.maintenance_after, w.equity_after)]
        paid = number(w.commission)
        return [*margins, paid, paid, paid, w.currency, w.warning]
    paid = number(o.commission) if o.status == "Filled" and o.commission else ""
    return [*[UNSET_DOUBLE] * 9, paid, "", "", o.contract.currency if paid else "", ""]


def exec_details(e: Execution, req_id: int, version: int) -> bytes:
    fields: list[object] = [
        11, req_id, e.order_id, *contract_head(e.contract), e.exec_id, time_text(e.time_ns), e.account,
        e.contract.primary_exchange, e.side, number(e.quantity), number(e.price), e.perm_id, e.client_id, "0",
        number(e.cum_quantity), number(e.avg_price.quantize(EIGHT_DECIMALS)), e.order_ref, "", "", "",
        e.liquidity]
    if version >= 178:
        fields.append("0")
    return encode(*fields)


def order_bound(o: Order) -> bytes:
    return encode(100, o.perm_id, o.client_id, o.order_id)


def commission_report(e: Execution) -> bytes:
    realized = UNSET_DOUBLE if e.realized is None else number(e.realized.quantize(EIGHT_DECIMALS))
    return encode(59, 1, e.exec_id, number(e.commission), e.contract.currency, realized, UNSET_DOUBLE, "")
