"""How history goes over the wire: 17, 88, 90, 96 to 98 and 106 of ib-wire.md 5.

Law: the functions are pure and return whole frames. Times are New York's with their zone, or epoch seconds where the
client asked for those; whole days are dates in either case.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.history import Bar
from actors.venue.simulator.history_bars import DAY_S, Piece, local
from actors.venue.simulator.record import MICRO, QuoteTick
from actors.venue.simulator.wire import encode, number

NS = 1_000_000_000
ZONE = "US/Eastern"


def moment(at_s: int) -> str:
    return f"{local(at_s):%Y%m%d %H:%M:%S} {ZONE}"


def bar_date(bar: Bar, seconds: int, format_date: int) -> str:
    """Return the date of a bar; a week or a month has the last day that is in it."""
    if seconds >= DAY_S:
        return f"{bar.day:%Y%m%d}"
    return str(bar.start_s) if format_date == 2 else moment(bar.start_s)


def _price(value: int) -> str:
    return number(Decimal(value) / MICRO)


def _sizes(p: Piece, traded: bool) -> tuple[str, str, str]:
    """Return volume, average price and count; -1 for bars that are not of trades."""
    if not traded:
        return "-1", "-1", "-1"
    average = (p.paid + p.volume // 2) // p.volume if p.volume else p.close
    return str(p.volume), _price(average), str(max(p.trades, min(1, p.volume)))


def historical_data(req_id: int, start_s: int, end_s: int, bars: Sequence[Bar], seconds: int, format_date: int,
                    traded: bool) -> bytes:
    fields: list[object] = [17, req_id, moment(start_s), moment(end_s), len(bars)]
    for bar in bars:
        p = bar.piece
        volume, average, count = _sizes(p, traded)
        fields += [bar_date(bar, seconds, format_date), _price(p.open), _price(p.high), _price(p.low), _price(p.close),
                   volume, average, count]
    return encode(*fields)


def historical_update(req_id: int, bar: Bar, seconds: int, format_date: int, traded: bool) -> bytes:
    """Encode one partial bar (90); close stands before high and low."""
    p = bar.piece
    volume, average, count = _sizes(p, traded)
    return encode(90, req_id, count, bar_date(bar, seconds, format_date), _price(p.open), _price(p.close),
                  _price(p.high), _price(p.low), average, volume)


def head_timestamp(req_id: int, at_s: int, format_date: int) -> bytes:
    text = str(at_s) if format_date == 2 else f"{datetime.fromtimestamp(at_s, UTC):%Y%m%d-%H:%M:%S}"
    return encode(88, req_id, text)


def schedule(req_id: int, days: Sequence[tuple[date, int, int]]) -> bytes:
    """Encode historicalSchedule: each trading day with the beginning and end of its session."""
    rows = [text for day, a, b in days for text in (_dash(a), _dash(b), f"{day:%Y%m%d}")]
    return encode(106, req_id, _dash(days[0][1]), _dash(days[-1][2]), ZONE, len(days), *rows)


def _dash(at_s: int) -> str:
    return f"{local(at_s):%Y%m%d-%H:%M:%S}"


def last_ticks(req_id: int, ticks: Sequence[Trade]) -> bytes:
    rows = [v for t in ticks for v in (t.time_ns // NS, t.mask, number(t.price), number(t.size), t.exchange,
                                       t.conditions)]
    return encode(98, req_id, len(ticks), *rows, 1)


def bid_ask_ticks(req_id: int, quotes: Sequence[QuoteTick]) -> bytes:
    rows = [v for q in quotes for v in (q.time_ns // NS, 0, _or(q.bid, "-1"), _or(q.ask, "-1"), _or(q.bid_size, "1000"),
                                        _or(q.ask_size, "1000"))]
    return encode(97, req_id, len(quotes), *rows, 1)


def midpoint_ticks(req_id: int, quotes: Sequence[QuoteTick]) -> bytes:
    rows = [v for q in quotes if q.bid is not None and q.ask is not None
            for v in (q.time_ns // NS, "", number((q.bid + q.ask) / 2), 0)]
    return encode(96, req_id, len(rows) // 4, *rows, 1)


def _or(value: Decimal | None, none: str) -> str:
    return none if value is None else number(value)
