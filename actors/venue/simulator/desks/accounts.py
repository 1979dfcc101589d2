"""The account desk: accounts, positions, portfolio values and P&L (ib-wire.md 4 and 9).

Law: it reads the exchange's accounts and writes to sessions; it changes neither.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from actors.venue.simulator import responses
from actors.venue.simulator.orders import ZERO, Position
from actors.venue.simulator.requests import Request
from actors.venue.simulator.wire import UNSET_DOUBLE, encode, number

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

NS = 1_000_000_000


def managed_accounts(session: Session, request: Request | None, now_ns: int) -> None:
    accounts = ",".join(session.gateway.settings.accounts)
    session.send("managedAccounts", encode(15, 1, accounts), now_ns, accounts=accounts)


def position_changed(session: Session, p: Position, now_ns: int) -> None:
    """Tell position and account subscribers what a fill has changed."""
    if session.wants_positions:
        session.send("position", responses.position(p), now_ns, account=p.account, symbol=p.contract.symbol,
                     quantity=number(p.quantity))
    if session.wants_account == p.account:
        account_change(session, p, now_ns)


def _held(session: Session, account: str = "") -> list[Position]:
    return [p for p in session.gateway.exchange.accounts.positions.values() if account in ("", p.account)]


def positions(session: Session, request: Request, now_ns: int) -> None:
    session.wants_positions = True
    for p in _held(session):
        if p.quantity:
            session.send("position", responses.position(p), now_ns, account=p.account, symbol=p.contract.symbol,
                         quantity=number(p.quantity))
    session.send("positionEnd", encode(62, 1), now_ns)


def cancel_positions(session: Session, request: Request, now_ns: int) -> None:
    session.wants_positions = False


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


def account_updates(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqAccountUpdates: 6*, 7*, 8, 54. The end comes for an unknown account too."""
    account = str(request.values["account"]) or session.gateway.settings.accounts[0]
    if str(request.values["subscribe"]) == "0":
        session.wants_account = None
        return
    session.wants_account = account
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


HANDLERS = {
    "reqManagedAccts": managed_accounts,
    "reqPositions": positions,
    "cancelPositions": cancel_positions,
    "reqPositionsMulti": positions_multi,
    "reqAccountUpdates": account_updates,
    "reqAccountUpdatesMulti": account_updates_multi,
    "reqAccountSummary": account_summary,
    "reqPnL": pnl,
}
