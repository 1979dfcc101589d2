"""What IB says, turned into our words: the callbacks that replace the library's bookkeeping.

Law: every callback becomes one event of ours or nothing; no Trade, Ticker or Position is kept. The floats that the
library parsed become the Decimals that were on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from actors.venue import port
from messages.intent import Side
from messages.orders import Contract, Increment

UNSET_DOUBLE = 1e300
UNSET_INTEGER = 2_147_483_647
NS = 1_000_000_000
HAS_LIMIT = frozenset({"LMT", "STP LMT", "LIT", "TRAIL LIMIT", "LOC", "REL"})
HAS_STOP = frozenset({"STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT"})


ZERO = Decimal(0)
KEPT_NUMBERS = 65_536
"""Numbers that are kept to be used again: thousands of orders share a few quantities and prices, of 104 bytes each."""

number = lru_cache(KEPT_NUMBERS)(Decimal)
"""The number that a text says. Raises InvalidOperation."""


@lru_cache(KEPT_NUMBERS, typed=True)
def exact(value: Any) -> Decimal | None:
    """Turn one of the library's floats back into the number that was on the wire; None where it is unset."""
    if value is None or value == "":
        return None
    if isinstance(value, float):
        if not isfinite(value) or abs(value) >= UNSET_DOUBLE:
            return None
        return Decimal(int(value)) if value.is_integer() and abs(value) < 1e15 else Decimal(repr(value))
    found = Decimal(value)
    return found if found.is_finite() and abs(found) < Decimal(UNSET_DOUBLE) else None


def amount(value: Any) -> Decimal:
    return exact(value) or ZERO


def all_hours(hours: str) -> bool:
    """Whether regular hours leave no minute of any day out: each day from 0000 to its 2359 or the next 0000."""
    days = [day for day in hours.split(";") if day]
    return bool(days) and all(re.fullmatch(r"[0-9]{8}:0000-[0-9]{8}:(2359|2400|0000)", day) for day in days)


def split_exec_id(text: str) -> tuple[str, int]:
    """Split `a.b.c.NN` into its lasting part and its revision; a leg of a combo has a fifth part, which lasts too."""
    parts = text.split(".")
    if len(parts) < 4 or not parts[3].isdigit():
        return text, 1
    return ".".join(parts[:3] + parts[4:]), int(parts[3])


def parse_time(text: str) -> int:
    """Return an execution's time in UTC ns: `yyyymmdd-hh:mm:ss` is UTC, a zone's name may follow, else UTC is assumed.

    Returns 0 for what cannot be read: no execution is lost for its time.
    """
    words = text.replace("-", " ", 1).split()
    try:
        moment = datetime.strptime(" ".join(words[:2]), "%Y%m%d %H:%M:%S")
        zone = UTC if len(words) < 3 else ZoneInfo(words[2])
        return int(moment.replace(tzinfo=zone).timestamp()) * NS
    except (ValueError, ZoneInfoNotFoundError, OSError):
        return 0


def parse_session_ends(text: str, zone: str) -> tuple[int, ...]:
    """Return when the sessions in IB's hours text end, in UTC ns: `20260406:0400-20260406:2000;20260407:CLOSED`.

    The older `20260406:0930-1600` is read too. An end at which the next session begins is none; what cannot be read is
    left out.
    """
    begins, ends = set(), set()
    for day in re.split("[;,]", text):
        begin, _, end = day.partition("-")
        date, _, clock = begin.partition(":")
        last = end.replace(":", " ") if ":" in end else f"{date} {end}"
        try:
            first_at, last_at = (datetime.strptime(each, "%Y%m%d %H%M").replace(tzinfo=ZoneInfo(zone)).timestamp()
                                 for each in (f"{date} {clock}", last))
        except (ValueError, ZoneInfoNotFoundError, OSError):
            continue
        begins.add(int(first_at) * NS)
        ends.add(int(last_at) * NS)
    return tuple(sorted(ends - begins))


class Hearing:
    """What replaces the library's bookkeeping: every callback becomes one event of ours, or nothing at all."""

    say: Callable[[port.VenueEvent], None]
    tcpDataArrived = None
    tcpDataProcessed = None

    def connectAck(self) -> None: ...

    def setEventsDone(self) -> None: ...

    def currentTime(self, time: int) -> None:
        self.say(port.TimeTold(time))

    def nextValidId(self, next_id: int) -> None:
        self.say(port.IdsTold(next_id))

    def error(self, request_id: int, code: int, text: str, advanced: str = "") -> None:
        self.say(port.ErrorTold(request_id, code, text))

    def openOrder(self, order_id: int, contract: Any, order: Any, state: Any) -> None:
        kind = order.orderType
        self.say(port.OrderSeen(
            order_id, order.clientId, order.permId, order.orderRef, order.account, contract.conId, contract.symbol,
            Side.BUY if order.action == "BUY" else Side.SELL, kind, amount(order.totalQuantity),
            exact(order.lmtPrice) if kind in HAS_LIMIT else None, exact(order.auxPrice) if kind in HAS_STOP else None,
            order.ocaGroup, state.status, order.tif, order.goodTillDate, bool(order.outsideRth),
        ))

    def openOrderEnd(self) -> None:
        self.say(port.SnapshotEnded("open_orders"))

    def orderStatus(self, order_id: int, status: str, filled: float, remaining: float, avg_price: float,
                    perm_id: int, parent_id: int, last_price: float, client_id: int, why_held: str,
                    cap_price: float = 0.0, last_liquidity: int = 0) -> None:
        self.say(port.StatusSeen(order_id, client_id, perm_id, status, amount(filled), amount(remaining), why_held))

    def completedOrder(self, contract: Any, order: Any, state: Any) -> None:
        kind = order.orderType
        filled = amount(order.filledQuantity)
        self.say(port.CompletedSeen(
            order.permId, order.orderRef, order.account, contract.conId,
            Side.BUY if order.action == "BUY" else Side.SELL, amount(order.totalQuantity) or filled,
            exact(order.lmtPrice) if kind in HAS_LIMIT else None, exact(order.auxPrice) if kind in HAS_STOP else None,
            order.ocaGroup, state.status, state.completedStatus,
        ))

    def completedOrdersEnd(self) -> None:
        self.say(port.SnapshotEnded("completed_orders"))

    def execDetails(self, request_id: int, contract: Any, execution: Any) -> None:
        """Nothing: executions are read by `read_execution`, which no odd field can make lose one."""

    def execDetailsEnd(self, request_id: int) -> None:
        self.say(port.SnapshotEnded("executions"))

    def commissionReport(self, report: Any) -> None:
        exec_id, revision = split_exec_id(report.execId)
        self.say(port.CommissionSeen(exec_id, revision, amount(report.commission), report.currency,
                                     exact(report.realizedPNL)))

    def position(self, account: str, contract: Any, position: float, avg_cost: float) -> None:
        self.say(port.PositionTold(account, contract.conId, contract.symbol, amount(position), amount(avg_cost)))

    def positionEnd(self) -> None:
        self.say(port.SnapshotEnded("positions"))

    def updateAccountValue(self, tag: str, value: str, currency: str, account: str) -> None:
        self.say(port.AccountTold(account, tag, value, currency))

    def updatePortfolio(self, *_: Any) -> None: ...

    def updateAccountTime(self, *_: Any) -> None: ...

    def accountDownloadEnd(self, _account: str) -> None:
        self.say(port.SnapshotEnded("account"))

    def contractDetails(self, request_id: int, details: Any) -> None:
        contract = details.contract
        exchanges, rules = details.validExchanges.split(","), details.marketRuleIds.split(",")
        by_exchange = dict(zip(exchanges, rules, strict=False))
        rule = by_exchange.get(contract.exchange) or rules[0]
        self.say(port.ContractTold(request_id, Contract(
            instrument="", conid=contract.conId, symbol=contract.symbol, sec_type=contract.secType,
            exchange=contract.exchange, currency=contract.currency, primary_exchange=contract.primaryExchange,
            local_symbol=contract.localSymbol, trading_class=contract.tradingClass,
            multiplier=exact(contract.multiplier) or Decimal(1), round_the_clock=all_hours(details.liquidHours),
        ), int(rule) if rule.isdigit() else 0, amount(details.minTick),
            parse_session_ends(details.liquidHours, details.timeZoneId),
            parse_session_ends(details.tradingHours, details.timeZoneId)))

    def contractDetailsEnd(self, request_id: int) -> None:
        self.say(port.ContractsEnded(request_id))

    def marketRule(self, rule_id: int, increments: list[Any]) -> None:
        self.say(port.RuleTold(rule_id, tuple(
            Increment(low_edge=amount(step.lowEdge), increment=amount(step.increment)) for step in increments)))

    def tickReqParams(self, *_: Any) -> None: ...

    def marketDataType(self, *_: Any) -> None: ...

    def orderBound(self, *_: Any) -> None: ...


def read_execution(fields: list[str]) -> port.ExecutionSeen:
    """Read an execDetails message by position (ib-wire.md 5.3); what follows the fields that we use may grow."""
    (_, request, order_id, conid, symbol, sec_type, _, _, _, _, _, _, _, _, exec_text, time, account, _, side, shares,
     price, perm_id, client_id, _, cum_qty, _, order_ref) = fields[:27]
    exec_id, revision = split_exec_id(exec_text)
    venue_order_id = int(order_id or 0)
    return port.ExecutionSeen(
        exec_id, revision, request == "-1", 0 if venue_order_id == UNSET_INTEGER else venue_order_id,
        int(client_id or 0), int(perm_id or 0), order_ref, account, int(conid or 0), symbol, sec_type,
        Side.BUY if side == "BOT" else Side.SELL, number(shares), number(price), number(cum_qty or "0"),
        parse_time(time),
    )
