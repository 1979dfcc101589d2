"""Snapshots that a client asks for: orders, executions, positions and account values (ib-wire.md 9).

Law: a snapshot reads the exchange and writes to one session; it changes neither.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from actors.venue.simulator import responses
from actors.venue.simulator.contracts import ContractQuery
from actors.venue.simulator.orders import ZERO, Execution, Order, Position
from actors.venue.simulator.reports import (
    CommissionReport,
    ErrorReport,
    FillReport,
    OpenReport,
    Report,
    StatusReport,
)
from actors.venue.simulator.requests import PlaceOrder, Request
from actors.venue.simulator.validation import NEW_YORK, parse_ib_time_ns
from actors.venue.simulator.wire import UNSET_DOUBLE, encode, number

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

NS = 1_000_000_000


def order_fields(p: PlaceOrder) -> dict[str, Any]:
    """Return what the journal keeps of a placeOrder."""
    fields: dict[str, Any] = {
        "orderId": p.order_id, "orderRef": p.order_ref, "symbol": p.contract.symbol, "conId": p.contract.con_id,
        "action": p.action, "quantity": number(p.quantity), "type": p.order_type, "tif": p.tif,
        "account": p.account, "transmit": p.transmit}
    optional = {
        "lmtPrice": p.lmt, "auxPrice": p.aux, "ocaGroup": p.oca_group, "ocaType": p.oca_type,
        "parentId": p.parent_id, "trailStopPrice": p.trail_stop, "trailingPercent": p.trail_percent,
        "goodTillDate": p.good_till_date, "outsideRth": p.outside_rth, "triggerMethod": p.trigger_method,
        "whatIf": p.what_if, "conditions": p.conditions}
    fields.update({k: number(v) if isinstance(v, Decimal) else v for k, v in optional.items() if v})
    return fields


def sim_order_fields(o: Order) -> dict[str, Any]:
    """Return what the journal keeps of an order's state."""
    fields: dict[str, Any] = {
        "orderId": o.order_id, "orderRef": o.order_ref, "permId": o.perm_id, "symbol": o.contract.symbol,
        "action": o.action, "type": o.order_type, "status": o.status, "quantity": number(o.total),
        "filled": number(o.filled), "remaining": number(o.remaining)}
    optional = {"lmtPrice": o.lmt, "auxPrice": o.aux, "trailStopPrice": o.trail_stop, "ocaGroup": o.oca_group,
                "ocaType": o.oca_type if o.oca_group else 0, "parentId": o.parent_id, "whyHeld": o.why_held,
                "reason": o.done_text if not o.alive else "", "avgPrice": o.avg_price}
    fields.update({k: number(v) if isinstance(v, Decimal) else v for k, v in optional.items() if v})
    return fields


def sim_execution_fields(e: Execution) -> dict[str, Any]:
    """Return what the journal keeps of an execution."""
    fields = {
        "orderId": e.order_id, "orderRef": e.order_ref, "permId": e.perm_id, "execId": e.exec_id,
        "account": e.account, "symbol": e.contract.symbol, "action": "BUY" if e.side == "BOT" else "SELL",
        "quantity": number(e.quantity), "price": number(e.price), "cumQuantity": number(e.cum_quantity),
        "commission": number(e.commission)}
    if e.realized is not None:
        fields["realized"] = number(e.realized)
    return fields


def tell(session: Session, report: Report, now_ns: int) -> None:
    """Say to a client what the exchange says about one of its orders."""
    if isinstance(report, StatusReport):
        o = report.order
        session.send("orderStatus", responses.order_status(o), now_ns, orderId=o.order_id, status=o.status,
                     filled=number(o.filled), remaining=number(o.remaining), permId=o.perm_id)
    elif isinstance(report, OpenReport):
        o = report.order
        session.send("openOrder", responses.open_order(o, session.version), now_ns, orderId=o.order_id,
                     status=o.status, quantity=number(o.total), permId=o.perm_id)
    elif isinstance(report, FillReport):
        e = report.execution
        session.send("execDetails", responses.exec_details(e, -1, session.version), now_ns, orderId=e.order_id,
                     execId=e.exec_id, quantity=number(e.quantity), price=number(e.price), orderRef=e.order_ref)
    elif isinstance(report, CommissionReport):
        e = report.execution
        session.send("commissionReport", responses.commission_report(e), now_ns, execId=e.exec_id,
                     commission=number(e.commission))
    elif isinstance(report, ErrorReport):
        session.error(report.order_id, report.code, report.text, now_ns)


def position_changed(session: Session, p: Position, now_ns: int) -> None:
    """Tell position and account subscribers what a fill has changed."""
    if session.wants_positions:
        session.send("position", responses.position(p), now_ns, account=p.account, symbol=p.contract.symbol,
                     quantity=number(p.quantity))
    if session.wants_account == p.account:
        account_change(session, p, now_ns)


def open_orders(session: Session, orders: list[Order], now_ns: int, end: bool = True) -> None:
    for order in orders:
        tell(session, OpenReport(order), now_ns)
        tell(session, StatusReport(order), now_ns)
    if end:
        session.send("openOrderEnd", encode(53, 1), now_ns)


def completed_orders(session: Session, now_ns: int) -> None:
    done = [o for o in session.gateway.exchange.done.values() if o.perm_id]
    for order in done:
        session.send("completedOrder", responses.completed_order(order, session.version), now_ns,
                     orderRef=order.order_ref, status=order.status, permId=order.perm_id)
    session.send("completedOrdersEnd", encode(102), now_ns)


def executions(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqExecutions: today's, since midnight New York on the exchange's clock, filtered (ib-wire.md 9)."""
    gateway, asked = session.gateway, request.values
    account = str(asked["account"])
    if account and account not in gateway.settings.accounts:
        session.error(request.req_id, 321, f"Error validating request.-'bZ' : cause - Invalid account code {account!r}",
                      now_ns)
        return
    local = datetime.fromtimestamp(gateway.exchange_ns(now_ns) / NS, NEW_YORK)
    since = int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * NS
    if asked["time"]:
        since = max(since, parse_ib_time_ns(str(asked["time"])) or 0)
    client = asked["forClient"] or session.client_id
    side = {"BUY": "BOT", "SELL": "SLD"}.get(str(asked["side"]).upper(), "")
    for e in gateway.exchange.executions:
        fits = (e.client_id == client and e.time_ns // NS * NS >= since // NS * NS
                and account in ("", e.account) and asked["symbol"] in ("", e.contract.symbol)
                and asked["secType"] in ("", e.contract.sec_type) and side in ("", e.side))
        if fits:
            session.send("execDetails", responses.exec_details(e, request.req_id, session.version), now_ns,
                         reqId=request.req_id, orderId=e.order_id, execId=e.exec_id, orderRef=e.order_ref)
            session.send("commissionReport", responses.commission_report(e), now_ns, execId=e.exec_id)
    session.send("execDetailsEnd", encode(55, 1, request.req_id), now_ns, reqId=request.req_id)


def contract_details(session: Session, request: Request, now_ns: int) -> None:
    gateway, query = session.gateway, request.contract or ContractQuery()
    if query.sec_type == "BAG":
        session.error(request.req_id, 321, "Error validating request.-'bS' : cause - BAG isn't supported for contract "
                                           "data request", now_ns)
        return
    found = gateway.contracts.find(query)
    if not found:
        session.error(request.req_id, 200, "No security definition has been found for the request", now_ns)
        return
    for contract in found:
        data = responses.contract_details(contract, request.req_id, session.version, gateway.exchange_ns(now_ns),
                                          gateway.always_open)
        session.send("contractDetails", data, now_ns, reqId=request.req_id, conId=contract.con_id,
                     symbol=contract.symbol)
    session.send("contractDetailsEnd", encode(52, 1, request.req_id), now_ns, reqId=request.req_id)


def _held(session: Session, account: str = "") -> list[Position]:
    return [p for p in session.gateway.exchange.accounts.positions.values() if account in ("", p.account)]


def positions(session: Session, now_ns: int) -> None:
    for p in _held(session):
        if p.quantity:
            session.send("position", responses.position(p), now_ns, account=p.account, symbol=p.contract.symbol,
                         quantity=number(p.quantity))
    session.send("positionEnd", encode(62, 1), now_ns)


def positions_multi(session: Session, request: Request, now_ns: int) -> None:
    for p in _held(session, str(request.values["account"])):
        if p.quantity:
            session.send("positionMulti", responses.position_multi(p, request.req_id), now_ns, account=p.account,
                         symbol=p.contract.symbol, quantity=number(p.quantity))
    session.send("positionMultiEnd", encode(72, 1, request.req_id), now_ns, reqId=request.req_id)


def market_price(session: Session, p: Position) -> Decimal:
    quote = session.gateway.exchange.quote_of(p.contract.con_id)
    return quote.last or quote.bid or p.avg_cost


def account_values(session: Session, account: str) -> dict[str, str]:
    """Return IB's account tags and their values, in USD."""
    exchange = session.gateway.exchange
    cash = session.gateway.settings.cash + exchange.accounts.cash.get(account, ZERO)
    held = _held(session, account)
    value = sum((p.quantity * market_price(session, p) for p in held), ZERO)
    gross = sum((abs(p.quantity * market_price(session, p)) for p in held), ZERO)
    unrealized = sum(((market_price(session, p) - p.avg_cost) * p.quantity for p in held), ZERO)
    realized = sum((p.realized for p in held), ZERO)
    net = cash + value
    margin = gross / 4
    amounts = {
        "NetLiquidation": net, "TotalCashValue": cash, "SettledCash": cash, "AccruedCash": ZERO,
        "BuyingPower": (net - margin) * 4, "EquityWithLoanValue": net, "PreviousDayEquityWithLoanValue": net,
        "GrossPositionValue": gross, "InitMarginReq": margin, "MaintMarginReq": margin, "AvailableFunds": net - margin,
        "ExcessLiquidity": net - margin, "FullInitMarginReq": margin, "FullMaintMarginReq": margin,
        "FullAvailableFunds": net - margin, "FullExcessLiquidity": net - margin, "UnrealizedPnL": unrealized,
        "RealizedPnL": realized, "TotalCashBalance": cash, "StockMarketValue": value}
    cent = Decimal("0.01")
    return {"AccountType": "INDIVIDUAL", "AccountCode": account,
            **{k: str(v.quantize(cent)) for k, v in amounts.items()}, "Cushion": "1", "Leverage": "0"}


def _currency(tag: str) -> str:
    return "" if tag in ("AccountType", "AccountCode", "Cushion", "Leverage") else "USD"


def account_updates(session: Session, account: str, now_ns: int) -> None:
    """Answer reqAccountUpdates: 6*, 7*, 8, 54. The end comes for an unknown account too."""
    if account in session.gateway.settings.accounts:
        for tag, value in account_values(session, account).items():
            session.send_tick(encode(6, 2, tag, value, _currency(tag), account))
        for p in _held(session, account):
            session.send_tick(responses.portfolio(p, market_price(session, p)))
        session.send_tick(encode(8, 1, _hhmm(session, now_ns)))
    session.send("accountDownloadEnd", encode(54, 1, account), now_ns, account=account)


def account_change(session: Session, p: Position, now_ns: int) -> None:
    """Push what one fill has changed to the account's subscriber."""
    session.send_tick(responses.portfolio(p, market_price(session, p)))
    values = account_values(session, p.account)
    for tag in ("NetLiquidation", "TotalCashValue", "TotalCashBalance", "AvailableFunds", "BuyingPower",
                "GrossPositionValue", "UnrealizedPnL", "RealizedPnL"):
        session.send_tick(encode(6, 2, tag, values[tag], "USD", p.account))
    session.send_tick(encode(8, 1, _hhmm(session, now_ns)))


def _hhmm(session: Session, now_ns: int) -> str:
    return datetime.fromtimestamp(session.gateway.exchange_ns(now_ns) // NS, UTC).strftime("%H:%M")


def account_updates_multi(session: Session, request: Request, now_ns: int) -> None:
    account, model = str(request.values["account"]), str(request.values["model"])
    for name in session.gateway.settings.accounts:
        if account in ("", name):
            for tag, value in account_values(session, name).items():
                session.send_tick(encode(73, 1, request.req_id, name, model, tag, value, _currency(tag)))
    session.send("accountUpdateMultiEnd", encode(74, 1, request.req_id), now_ns, reqId=request.req_id)


def account_summary(session: Session, request: Request, now_ns: int) -> None:
    tags = [t for t in str(request.values["tags"]).split(",") if t]
    for name in session.gateway.settings.accounts:
        values = account_values(session, name)
        for tag in tags:
            if tag in values:
                session.send_tick(encode(63, 1, request.req_id, name, tag, values[tag], _currency(tag)))
    session.send("accountSummaryEnd", encode(64, 1, request.req_id), now_ns, reqId=request.req_id)


def pnl(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqPnL once; there is no stream of it."""
    account = str(request.values["account"])
    if account not in session.gateway.settings.accounts:
        session.error(request.req_id, 321, f"Error validating request.-'b' : cause - Invalid account code {account!r}",
                      now_ns)
        return
    values = account_values(session, account)
    daily = number(Decimal(values["UnrealizedPnL"]) + Decimal(values["RealizedPnL"]))
    session.send("pnl", encode(94, request.req_id, daily or UNSET_DOUBLE, values["UnrealizedPnL"],
                               values["RealizedPnL"]), now_ns, reqId=request.req_id)
