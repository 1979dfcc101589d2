"""The account desk: accounts, positions, portfolio values and P&L (ib-wire.md 4 and 9).

Law: it reads the exchange's accounts and writes to sessions; it changes neither. What a client has subscribed to is
pushed after each fill and from time to time (feeds below), and ends with its cancel or its connection.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from actors.venue.simulator import account_values, responses
from actors.venue.simulator.account_feeds import (
    SUMMARY,
    AccountFeed,
    Feed,
    MultiFeed,
    PnlFeed,
    PnlSingleFeed,
    PositionsFeed,
    SummaryFeed,
)
from actors.venue.simulator.orders import Position
from actors.venue.simulator.requests import Request
from actors.venue.simulator.wire import encode, number

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
MAX_SUMMARIES = 2
ACCOUNT_UPDATES = ("reqAccountUpdates", -1)
UNSUBSCRIBED = "New account data requested from TWS.  API client has been unsubscribed from account data."
INVALID = "Error validating request.-'b' : cause - "


def managed_accounts(session: Session, request: Request | None, now_ns: int) -> None:
    accounts = ",".join(session.gateway.settings.accounts)
    session.send("managedAccounts", encode(15, 1, accounts), now_ns, accounts=accounts)


def position_changed(session: Session, p: Position, now_ns: int) -> None:
    """Tell position and account subscribers what a fill has changed."""
    if session.wants_positions:
        session.send("position", responses.position(p), now_ns, account=p.account, symbol=p.contract.symbol,
                     quantity=number(p.quantity))
    for key in list(session.account_feeds):
        if key in session.streams:
            session.account_feeds[key].filled(p, now_ns)
        else:
            del session.account_feeds[key]


def positions(session: Session, request: Request, now_ns: int) -> None:
    session.wants_positions = True
    for p in account_values.held(session.gateway):
        if p.quantity:
            session.send("position", responses.position(p), now_ns, account=p.account, symbol=p.contract.symbol,
                         quantity=number(p.quantity))
    session.send("positionEnd", encode(62, 1), now_ns)


def cancel_positions(session: Session, request: Request, now_ns: int) -> None:
    session.wants_positions = False


def account_updates(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqAccountUpdates: 6*, 7*, 8, 54. The end comes for an unknown account too; another one ends the first."""
    gateway = session.gateway
    account = str(request.values["account"]) or gateway.settings.accounts[0]
    known = account in gateway.settings.accounts
    replaced = known and session.wants_account not in (None, account) and bool(request.values["subscribe"])
    _end(session, ACCOUNT_UPDATES)
    session.wants_account = None
    if replaced:
        session.error(-1, 2100, UNSUBSCRIBED, now_ns)
    if not request.values["subscribe"]:
        return
    session.wants_account = account
    if known:
        _begin(session, ACCOUNT_UPDATES, AccountFeed(session, account), now_ns)
    session.send("accountDownloadEnd", encode(54, 1, account), now_ns, account=account)


def positions_multi(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqPositionsMulti: 71*, 72, then 71 after each fill."""
    accounts = _accounts(session, request, now_ns)
    if accounts and _fresh(session, request, now_ns):
        _begin(session, (request.name, request.req_id), PositionsFeed(session, request.req_id, accounts), now_ns)
        session.send("positionMultiEnd", encode(72, 1, request.req_id), now_ns, reqId=request.req_id)


def account_updates_multi(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqAccountUpdatesMulti: 73*, 74, then 73 for what changes."""
    accounts = _accounts(session, request, now_ns)
    if accounts and _fresh(session, request, now_ns):
        ledger_only = str(request.values["ledger"]) not in ("", "0", "False")
        feed = MultiFeed(session, request.req_id, accounts, ledger_only)
        _begin(session, (request.name, request.req_id), feed, now_ns)
        session.send("accountUpdateMultiEnd", encode(74, 1, request.req_id), now_ns, reqId=request.req_id)


def account_summary(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqAccountSummary: 63*, 64, then every three minutes what has changed; at most two at a time."""
    accounts = session.gateway.settings.accounts
    group = str(request.values["group"])
    if group not in ("", "All", *accounts):
        session.error(request.req_id, 321, f"{INVALID}Unknown account group {group!r}: use All or an account", now_ns)
        return
    if not _fresh(session, request, now_ns):
        return
    if sum(name == SUMMARY for name, _ in session.streams) >= MAX_SUMMARIES:
        session.error(request.req_id, 322, "Error processing request.-'b' : cause - Maximum number of account summary "
                                           "requests exceeded", now_ns)
        return
    tags = [t.strip() for t in str(request.values["tags"]).split(",") if t.strip()]
    chosen = (group,) if group in accounts else accounts
    _begin(session, (request.name, request.req_id), SummaryFeed(session, request.req_id, chosen, tags), now_ns)
    session.send("accountSummaryEnd", encode(64, 1, request.req_id), now_ns, reqId=request.req_id)


def pnl(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqPnL with 94, at once and then each second in which it changes."""
    accounts = _accounts(session, request, now_ns)
    if accounts and _fresh(session, request, now_ns):
        _begin(session, (request.name, request.req_id), PnlFeed(session, request.req_id, accounts), now_ns)


def pnl_single(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqPnLSingle with 95, at once and then each second in which it changes."""
    text = str(request.values["conId"])
    if not re.fullmatch("[0-9]{1,10}", text):
        session.error(request.req_id, 321, f"{INVALID}Invalid conId {text[:20]!r}", now_ns)
        return
    accounts = _accounts(session, request, now_ns)
    if accounts and _fresh(session, request, now_ns):
        feed = PnlSingleFeed(session, request.req_id, accounts, int(text))
        _begin(session, (request.name, request.req_id), feed, now_ns)


def cancel(session: Session, request: Request, now_ns: int) -> None:
    """End what the request of the same name and id has begun; nothing is said, known or not."""
    _end(session, (f"req{request.name.removeprefix('cancel')}", request.req_id))


def _accounts(session: Session, request: Request, now_ns: int) -> tuple[str, ...]:
    """Return the accounts that a request names, all for none; () when it was refused."""
    account, known = str(request.values["account"]), session.gateway.settings.accounts
    if str(request.values["model"]):
        text = f"{INVALID}Model portfolios are not simulated: leave modelCode empty"
        session.error(request.req_id, 321, text, now_ns)
        return ()
    if account in ("", "All"):
        return known
    if account not in known:
        session.error(request.req_id, 321, f"{INVALID}Invalid account code '{account}'.", now_ns)
        return ()
    return (account,)


def _fresh(session: Session, request: Request, now_ns: int) -> bool:
    if (request.name, request.req_id) not in session.streams:
        return True
    session.error(request.req_id, 322, "Error processing request.-'b' : cause - Duplicate ticker id", now_ns)
    return False


def _begin(session: Session, key: tuple[str, int], feed: Feed, now_ns: int) -> None:
    """Send what there is to send now and go on when it is due."""
    session.account_feeds[key] = feed
    session.streams[key] = session.gateway.agenda.at(feed.tick(now_ns), feed.tick)


def _end(session: Session, key: tuple[str, int]) -> None:
    session.account_feeds.pop(key, None)
    entry = session.streams.pop(key, None)
    if entry is not None:
        entry.cancel()


HANDLERS = {
    "reqManagedAccts": managed_accounts,
    "reqPositions": positions,
    "cancelPositions": cancel_positions,
    "reqPositionsMulti": positions_multi,
    "cancelPositionsMulti": cancel,
    "reqAccountUpdates": account_updates,
    "reqAccountUpdatesMulti": account_updates_multi,
    "cancelAccountUpdatesMulti": cancel,
    "reqAccountSummary": account_summary,
    "cancelAccountSummary": cancel,
    "reqPnL": pnl,
    "cancelPnL": cancel,
    "reqPnLSingle": pnl_single,
    "cancelPnLSingle": cancel,
}
