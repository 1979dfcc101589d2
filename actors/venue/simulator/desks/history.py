"""The history desk: bars and ticks of the past, the schedule, and bars that go on (ib-wire.md 4, 5 and 10).

Law: what cannot be answered is refused by name: 162 where there is no data, 321 where the question makes no sense.

A duration of seconds counts time in which the market is open, one of days trading days, one of weeks, months and years
calendar time, each back from the end. A bar that the end or the present cuts off holds what came before that.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from actors.venue.simulator import answers
from actors.venue.simulator import history_messages as messages
from actors.venue.simulator.contracts import Contract, ContractQuery
from actors.venue.simulator.history import Bar
from actors.venue.simulator.history_bars import (
    DAY_S,
    SIZES,
    Piece,
    bar_key,
    bar_size,
    epoch,
    local,
    months_before,
    period,
)
from actors.venue.simulator.record import QuoteTick
from actors.venue.simulator.requests import Request
from actors.venue.simulator.validation import parse_ib_time_ns

if TYPE_CHECKING:
    from actors.venue.simulator.desks.directory import Handler
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
INVALID = "Error validating request.-'bS' : cause - "
SERVICE = "Historical Market Data Service error message:"
LONGEST = {"S": 86_400, "D": 365, "W": 52, "M": 12, "Y": 30}
MAX_BARS, MAX_TICKS = 20_000, 1000
UPDATE_NS = NS
SHORT_DAY_S = 3600       # an exchange that never closes may have opened on a day without a session: that is no day yet
KINDS = ("TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK", "ADJUSTED_LAST", "SCHEDULE")
TICK_KINDS = ("TRADES", "BID_ASK", "MIDPOINT")
STREAM = "reqHistoricalData"


class Refused(Exception):
    """A question that gets an error: code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def telling(answer: Handler) -> Handler:
    """Return a handler that tells the client what its question is refused with."""

    def handler(session: Session, request: Request, now_ns: int) -> None:
        try:
            answer(session, request, now_ns)
        except Refused as refused:
            session.error(request.req_id, refused.code, refused.text, now_ns)

    return handler


@telling
def bars(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqHistoricalData with 17, or 106 for the schedule; with keepUpToDate go on with 90."""
    gateway, v = session.gateway, request.values
    contract = _contract(session, request)
    size = bar_size(str(v["barSize"]))
    if size is None:
        raise Refused(321, f"{INVALID}Historical data bar size setting is invalid. Legal ones are: {', '.join(SIZES)}.")
    length = period(str(v["duration"]))
    if length is None or length[0] > LONGEST[length[1]]:
        allowed = ", ".join(f"{n} {unit}" for unit, n in LONGEST.items())
        raise Refused(321, f"{INVALID}Invalid historical data duration {str(v['duration'])!r}: a number, a space and "
                           f"S, D, W, M or Y; at most {allowed}.")
    what, keep = str(v["what"]), bool(v["keepUpToDate"])
    _check_kind(contract, what, KINDS)
    if v["formatDate"] not in (1, 2):
        raise Refused(321, f"{INVALID}Invalid formatDate {v['formatDate']}: 1 or 2.")
    if v["end"] and (keep or what == "ADJUSTED_LAST"):
        asked = "keepUpToDate" if keep else "ADJUSTED_LAST"
        raise Refused(321, f"{INVALID}End date is not supported with {asked}.")
    if keep and (size[1] < 5 or what not in ("TRADES", "MIDPOINT", "BID", "ASK")):
        raise Refused(321, f"{INVALID}keepUpToDate needs bars of 5 seconds or more of TRADES, MIDPOINT, BID or ASK.")
    if (STREAM, request.req_id) in session.streams:
        raise Refused(322, "Error processing request.-'bS' : cause - Duplicate ticker id")
    _pace(session, request, contract, what, now_ns)
    now_s = gateway.exchange_ns(now_ns) // NS + 1
    end = min(now_s, _time(str(v["end"]), "endDateTime") or now_s)
    start = _start(session, contract, end, length, bool(v["useRth"]))
    if what == "SCHEDULE":
        _schedule(session, request, contract, size[0], start, end, now_ns)
        return
    if size[1] < DAY_S:
        start = bar_key(*size, local(start).date(), start)[0]
    spans = gateway.history.spans(contract, start, end, bool(v["useRth"]), gateway.always_open)
    if (wanted := sum(b - a for _, a, b in spans) // size[1]) > MAX_BARS:
        raise Refused(162, f"{SERVICE}Time length exceed max: {wanted} bars of {size[0]}; at most {MAX_BARS}.")
    found = _collect(session, contract, what, size, start, end, bool(v["useRth"]))
    if not found:
        raise _nothing(contract, what)
    form = int(str(v["formatDate"]))
    traded = _traded(what)
    session.send("historicalData", messages.historical_data(request.req_id, start, end, found, size[1], form, traded),
                 now_ns, reqId=request.req_id, bars=len(found))
    if keep:
        _keep_up(session, request, contract, found[-1], size, now_ns)


def _contract(session: Session, request: Request) -> Contract:
    query = request.contract or ContractQuery()
    if query.sec_type == "BAG":
        raise Refused(321, f"{INVALID}Historical data of combinations is not simulated.")
    if request.values.get("options"):
        text = str(request.values["options"])[:40]
        raise Refused(321, f"{INVALID}Options {text!r} are not simulated: leave them empty.")
    found = session.gateway.contracts.find(query, bool(request.values.get("expired")))
    if len(found) != 1:
        raise Refused(200, answers.no_contract(len(found)))
    return found[0]


def _check_kind(contract: Contract, what: str, kinds: tuple[str, ...]) -> None:
    if what not in kinds:
        raise Refused(321, f"{INVALID}whatToShow {what!r} is not simulated: {', '.join(kinds)}.")
    traded = what in ("TRADES", "ADJUSTED_LAST")
    if (contract.sec_type == "CASH" and traded) or (contract.sec_type == "IND" and not traded and what != "SCHEDULE"):
        raise _nothing(contract, what)


def _nothing(contract: Contract, what: str) -> Refused:
    return Refused(162, f"{SERVICE}HMDS query returned no data: {contract.local}@{contract.exchange} "
                        f"{what.capitalize()}")


def _pace(session: Session, request: Request, contract: Contract, what: str, now_ns: int) -> None:
    gateway = session.gateway
    if not gateway.settings.history_pacing:
        return
    query = request.contract or ContractQuery()
    identity = (request.name, contract.con_id, query.exchange, *sorted((k, str(v)) for k, v in request.values.items()))
    rule = gateway.history_pace.broken(identity, (contract.con_id, query.exchange, what), 2 if what == "BID_ASK" else 1,
                                       now_ns)
    if rule:
        raise Refused(162, f"{SERVICE}Historical data request pacing violation: {rule}")


def _time(text: str, field: str) -> int | None:
    """Read a time of the past in epoch seconds; None if it is empty."""
    if not text.strip():
        return None
    found = parse_ib_time_ns(text)
    if found is None:
        raise Refused(321, f"{INVALID}Invalid {field} {text[:40]!r}: yyyymmdd hh:mm:ss TZ, or yyyymmdd-hh:mm:ss (UTC).")
    if found < 0:
        raise Refused(162, f"{SERVICE}HMDS query returned no data: nothing is kept from before 1970")
    return found // NS


def _start(session: Session, contract: Contract, end: int, length: tuple[int, str], regular: bool) -> int:
    """Return where a period that ends at `end` begins."""
    n, unit = length
    day = local(end - 1).date()
    if unit == "W":
        return epoch(day - timedelta(days=7 * n - 1))
    if unit in "MY":
        return epoch(months_before(day, n * (12 if unit == "Y" else 1)) + timedelta(days=1))
    history, always = session.gateway.history, session.gateway.always_open
    shortest = SHORT_DAY_S if always else 1
    seen = days = 0
    at, today = end, None
    for trading_day, a, b in history.latest(contract, end, regular, always):
        if unit == "S" and seen + b - a >= n:
            return b - (n - seen)
        if unit == "D" and trading_day != today:
            days += seen >= shortest
            if days == n:
                return at
            seen, today = 0, trading_day
        seen += b - a
        at = a
    return at


def _collect(session: Session, contract: Contract, what: str, size: tuple[str, int], start: int, end: int,
             regular: bool) -> list[Bar]:
    history, always = session.gateway.history, session.gateway.always_open
    if what != "BID_ASK":
        series = "TRADES" if what == "ADJUSTED_LAST" else what
        return history.bars(contract, series, size, start, end, regular, always)
    asks = {b.start_s: b.piece for b in history.bars(contract, "ASK", size, start, end, regular, always)}
    return [Bar(b.start_s, b.day, _both(b.piece, asks[b.start_s]))
            for b in history.bars(contract, "BID", size, start, end, regular, always) if b.start_s in asks]


def _both(bid: Piece, ask: Piece) -> Piece:
    """Return IB's BID_ASK bar: average bid, highest ask, lowest bid, average ask."""
    return Piece(sum(bid[:4]) // 4, ask.high, bid.low, sum(ask[:4]) // 4)


def _traded(what: str) -> bool:
    return what in ("TRADES", "ADJUSTED_LAST")


def _schedule(session: Session, request: Request, contract: Contract, size: str, start: int, end: int,
              now_ns: int) -> None:
    if size != "1 day":
        raise Refused(321, f"{INVALID}SCHEDULE needs bars of 1 day.")
    history, always = session.gateway.history, session.gateway.always_open
    regular = bool(request.values["useRth"])
    until = epoch(local(end - 1).date() + timedelta(days=1))        # today's session is shown whole
    days: list[tuple[date, int, int]] = []
    for day, a, b in history.spans(contract, start, until, regular, always):
        if days and days[-1][0] == day:
            days[-1] = (day, days[-1][1], b)
        else:
            days.append((day, a, b))
    if not days:
        raise _nothing(contract, "SCHEDULE")
    session.send("historicalSchedule", messages.schedule(request.req_id, days), now_ns, reqId=request.req_id)


def _keep_up(session: Session, request: Request, contract: Contract, last: Bar, size: tuple[str, int],
             now_ns: int) -> None:
    """Send the bar of now whenever it has changed, and the next ones as they begin, until cancelled."""
    v, shown = request.values, {last.start_s: last}
    what, form = str(v["what"]), int(str(v["formatDate"]))

    def go_on(now_ns: int) -> int:
        ex_ns = session.gateway.exchange_ns(now_ns)
        end = ex_ns // NS + 1
        for bar in _collect(session, contract, what, size, max(shown), end, bool(v["useRth"])):
            if shown.get(bar.start_s) != bar:
                session.send_tick(messages.historical_update(request.req_id, bar, size[1], form, _traded(what)))
                shown.clear()
                shown[bar.start_s] = bar
        return ex_ns + UPDATE_NS

    first_ns = session.gateway.exchange_ns(now_ns) + UPDATE_NS
    session.streams[STREAM, request.req_id] = session.gateway.exchange_agenda.at(first_ns, go_on)


def cancel_bars(session: Session, request: Request, now_ns: int) -> None:
    entry = session.streams.pop((STREAM, request.req_id), None)
    if entry is None:
        session.error(request.req_id, 366, f"No historical data query found for ticker id:{request.req_id}", now_ns)
    else:
        entry.cancel()


@telling
def head_timestamp(session: Session, request: Request, now_ns: int) -> None:
    contract, what = _contract(session, request), str(request.values["what"])
    _check_kind(contract, what, KINDS[:6])
    form = int(str(request.values["formatDate"]))
    if form not in (1, 2):
        raise Refused(321, f"{INVALID}Invalid formatDate {form}: 1 or 2.")
    at_s = session.gateway.history.begins_s(contract)
    session.send("headTimestamp", messages.head_timestamp(request.req_id, at_s, form), now_ns,
                 reqId=request.req_id)


def cancel_head_timestamp(session: Session, request: Request, now_ns: int) -> None:
    """The question was answered at once: there is nothing left to cancel."""


@telling
def ticks(session: Session, request: Request, now_ns: int) -> None:
    """Answer reqHistoricalTicks with 96 (MIDPOINT), 97 (BID_ASK) or 98 (TRADES), all in one message."""
    gateway, v = session.gateway, request.values
    contract, what, n = _contract(session, request), str(v["what"]), int(str(v["n"]))
    _check_kind(contract, what, TICK_KINDS)
    if not 1 <= n <= MAX_TICKS:
        raise Refused(321, f"{INVALID}Invalid number of ticks {n}: 1 to {MAX_TICKS}.")
    start, end = _time(str(v["start"]), "startDateTime"), _time(str(v["end"]), "endDateTime")
    if (start is None) == (end is None):
        raise Refused(321, f"{INVALID}Give either startDateTime or endDateTime, and not both.")
    _pace(session, request, contract, what, now_ns)
    now_s = gateway.exchange_ns(now_ns) // NS + 1
    span = (start, now_s) if start is not None else (gateway.history.begins_s(contract), min(now_s, end or now_s))
    terms = (*span, n, start is None, bool(v["useRth"]), gateway.always_open)
    history, req_id = gateway.history, request.req_id
    if what == "TRADES":
        trades = history.ticks(contract, *terms)
        session.send("historicalTicksLast", messages.last_ticks(req_id, trades), now_ns, reqId=req_id, n=len(trades))
        return
    quotes = _changes(history.quotes(contract, *terms), what == "BID_ASK" and not v["ignoreSize"])
    encoded = messages.bid_ask_ticks if what == "BID_ASK" else messages.midpoint_ticks
    session.send("historicalTicks", encoded(req_id, quotes), now_ns, reqId=req_id, n=len(quotes))


def _changes(quotes: list[QuoteTick], with_sizes: bool) -> list[QuoteTick]:
    """Leave out quotes that repeat the one before; sizes count only where the client wants to hear of them."""
    kept: list[QuoteTick] = []
    before = None
    for q in quotes:
        now = (q.bid, q.ask, q.bid_size, q.ask_size) if with_sizes else (q.bid, q.ask)
        if now != before:
            kept.append(q)
        before = now
    return kept


HANDLERS = {
    "reqHistoricalData": bars,
    "cancelHistoricalData": cancel_bars,
    "reqHeadTimestamp": head_timestamp,
    "cancelHeadTimestamp": cancel_head_timestamp,
    "reqHistoricalTicks": ticks,
}
