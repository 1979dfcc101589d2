"""What the gateway says of orders and executions: 3, 5, 11, 59 and 101 of ib-wire.md 5, for versions 157 to 178.

Law: the functions are pure and return whole frames; a value that a plain order does not have is spelled as a real
gateway spells it.
"""

from __future__ import annotations

from decimal import Decimal

from actors.venue.simulator.orders import Execution, Order
from actors.venue.simulator.responses import contract_head, time_text
from actors.venue.simulator.wire import UNSET_DOUBLE, UNSET_INT, encode, number, price


def order_status(o: Order) -> bytes:
    return encode(3, o.order_id, o.status, number(o.filled), number(o.remaining), _average(o),
                  o.perm_id, o.parent_id, number(o.last_fill_price), o.client_id, o.why_held, "0.0")


def _average(o: Order) -> str:
    return number(o.avg_price.quantize(Decimal("0.00000001"))) if o.filled else "0"


def _limit_text(o: Order) -> str:
    return price(o.lmt if o.order_type in ("LMT", "STP LMT", "TRAIL LIMIT") else None, "0.0")


def _aux_text(o: Order) -> str:
    return price(o.aux if o.order_type not in ("MKT", "LMT") else None, "0.0")


def open_order(o: Order, version: int) -> bytes:
    """Encode openOrder (ib-wire.md 5.1); 136 fields at 170-176 for a plain order."""
    x = o.extras.get
    fields: list[object] = [
        5, o.order_id, *contract_head(o.contract, x("exchange", o.contract.exchange), "?"),
        o.action, number(o.total), o.order_type, _limit_text(o), _aux_text(o), o.tif, o.oca_group, o.account,
        x("openClose", ""), x("origin", "0"), o.order_ref, o.client_id, o.perm_id, o.outside_rth, x("hidden", "0"),
        x("discretionaryAmt", "0"), x("goodAfterTime", ""), f"{o.perm_id}.{o.modifies}/{o.account}/100",
        x("faGroup", ""), x("faMethod", ""), x("faPercentage", "")]
    if version < 177:
        fields.append(x("faProfile", ""))
    fields += [
        x("modelCode", ""), o.good_till_date, x("rule80A", "0"), "", x("settlingFirm", ""),
        x("shortSaleSlot", "0"), x("designatedLocation", ""), x("exemptCode", "-1"), "0", "", "", "", "", "",
        UNSET_INT, "0", "0", o.all_or_none, "", o.oca_type, "0", "0", "", o.parent_id, o.trigger_method,
        "", "0", "None", "", "0", "", "", "", "?", "0", "0", "",
        "0", "0", price(o.trail_stop, UNSET_DOUBLE), price(o.trail_percent, UNSET_DOUBLE), "", "", "",
        "0", "0", "0", UNSET_INT, UNSET_INT, "", "",
        "0", x("clearingAccount", ""), x("clearingIntent", "IB"), "0", "0", "",
        "0", o.what_if, o.status]
    fields += _state(o)
    fields += ["0", "0", "0"]
    fields += [
        "None", UNSET_DOUBLE, price(o.trail_stop, UNSET_DOUBLE), price(o.lmt_offset, UNSET_DOUBLE), UNSET_DOUBLE,
        UNSET_DOUBLE, UNSET_DOUBLE, "0", "", "", "", x("cashQty", "0"), "1", "0", "0", "0"]
    fields += _order_tail(version)
    return encode(*fields)


def _state(o: Order) -> list[object]:
    """Return the margin and commission block: numbers only in a what-if answer and after a fill."""
    if o.what_if:
        margin = number(o.total * (o.lmt or o.contract.reference_price) / 4)
        return ["0", "0", "0", margin, margin, "0", margin, margin, "0", "1", "1", "1", "USD", ""]
    paid = number(o.commission) if o.status == "Filled" and o.commission else ""
    return [*[UNSET_DOUBLE] * 9, paid, "", "", "USD" if paid else "", ""]


def _order_tail(version: int) -> list[object]:
    tail: list[object] = []
    if version >= 158:
        tail.append("")
    if version >= 160:
        tail.append("")
    if version >= 162:
        tail.append("0")
    if version >= 170:
        tail += [""] * 5
    return tail


def completed_order(o: Order, version: int) -> bytes:
    """Encode completedOrder (ib-wire.md 5.4). A filled one shows totalQuantity 0, as recorded from real gateways."""
    x = o.extras.get
    total = "0" if o.status == "Filled" else number(o.total)
    fields: list[object] = [
        101, *contract_head(o.contract, x("exchange", o.contract.exchange), "?"),
        o.action, total, o.order_type, _limit_text(o), _aux_text(o), o.tif, o.oca_group, o.account,
        x("openClose", ""), x("origin", "0"), o.order_ref, o.perm_id, o.outside_rth, x("hidden", "0"),
        x("discretionaryAmt", "0"), x("goodAfterTime", ""), x("faGroup", ""), x("faMethod", ""), x("faPercentage", "")]
    if version < 177:
        fields.append(x("faProfile", ""))
    fields += [
        x("modelCode", ""), o.good_till_date, x("rule80A", "0"), "", x("settlingFirm", ""),
        x("shortSaleSlot", "0"), x("designatedLocation", ""), x("exemptCode", "-1"), "", "", "", "", "",
        UNSET_INT, "0", o.all_or_none, "", o.oca_type, o.trigger_method, "", "0", "None", "", "0", "0", "0", "",
        "0", "0", price(o.trail_stop, UNSET_DOUBLE), price(o.trail_percent, UNSET_DOUBLE), "",
        "0", "0", "0", UNSET_INT, UNSET_INT, "", "",
        x("clearingAccount", ""), x("clearingIntent", "IB"), "0", "0", "",
        "0", o.status, "0", "0", "0",
        price(o.trail_stop, UNSET_DOUBLE), price(o.lmt_offset, UNSET_DOUBLE), x("cashQty", "0"), "1", "0", "",
        number(o.filled), "0", "0", "Not an insider or substantial shareholder", "0", "0", "0",
        time_text(o.done_ns), o.done_text]
    if version >= 170:
        fields += [""] * 5
    return encode(*fields)


def exec_details(e: Execution, req_id: int, version: int) -> bytes:
    fields: list[object] = [
        11, req_id, e.order_id, *contract_head(e.contract), e.exec_id, time_text(e.time_ns), e.account,
        e.contract.primary_exchange, e.side, number(e.quantity), number(e.price), e.perm_id, e.client_id, "0",
        number(e.cum_quantity), number(e.avg_price.quantize(Decimal("0.00000001"))), e.order_ref, "", "", "",
        e.liquidity]
    if version >= 178:
        fields.append("0")
    return encode(*fields)


def order_bound(o: Order) -> bytes:
    return encode(100, o.perm_id, o.client_id, o.order_id)


def commission_report(e: Execution) -> bytes:
    realized = UNSET_DOUBLE if e.realized is None else number(e.realized.quantize(Decimal("0.00000001")))
    return encode(59, 1, e.exec_id, number(e.commission), e.contract.currency, realized, UNSET_DOUBLE, "")
