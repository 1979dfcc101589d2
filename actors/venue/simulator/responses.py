"""What the gateway answers, orders apart: the messages of ib-wire.md 5, one function each, for versions 157 to 178.

Law: the functions are pure and return whole frames; a value that a plain order does not have is spelled as a real
gateway spells it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from actors.venue.simulator.contracts import ORDER_TYPES, Contract, trading_hours
from actors.venue.simulator.orders import Position
from actors.venue.simulator.validation import NEW_YORK
from actors.venue.simulator.wire import encode, number

NS = 1_000_000_000
ORDER_ID_ERRORS_HAVE_JSON = 166


def time_text(ns: int) -> str:
    """Spell an exchange time as `yyyymmdd hh:mm:ss UTC`, whole seconds (ib-wire.md 3).

    A dash form without a zone would be read as local time by the Python clients.
    """
    return datetime.fromtimestamp(ns // NS, UTC).strftime("%Y%m%d %H:%M:%S UTC")


def server_version(version: int, now_ns: int) -> bytes:
    return encode(version, datetime.fromtimestamp(now_ns // NS, UTC).strftime("%Y%m%d %H:%M:%S Greenwich Mean Time"))


def error(version: int, req_id: int, code: int, message: str) -> bytes:
    if version >= ORDER_ID_ERRORS_HAVE_JSON:
        return encode(4, 2, req_id, code, message, "")
    return encode(4, 2, req_id, code, message)


def contract_head(c: Contract, exchange: str | None = None, right: str = "") -> list[object]:
    """Return the eleven contract fields that 5, 11, 61, 71 and 101 share."""
    return [c.con_id, c.symbol, c.sec_type, c.expiry, number(c.strike), c.right or right, c.multiplier,
            c.exchange if exchange is None else exchange, c.currency, c.local, c.klass]


def contract_details(c: Contract, req_id: int, version: int, now_ns: int, always_open: bool) -> bytes:
    """Encode contractDetails (ib-wire.md 5.2); hours start with the exchange's present day."""
    today = datetime.fromtimestamp(now_ns // NS, NEW_YORK).date()
    fields: list[object] = [10, req_id] if version >= 164 else [10, 8, req_id]
    fields += [c.symbol, c.sec_type, c.expiry, number(c.strike), c.right, "SMART", c.currency, c.local, c.klass,
               c.klass, c.con_id, number(c.min_tick)]
    if version < 164:
        fields.append("100")
    rules = ",".join([str(c.market_rule_id)] * len(c.valid_exchanges.split(",")))
    fields += [
        c.multiplier, ORDER_TYPES,
        c.valid_exchanges, "1", "0", c.long_name, c.primary_exchange, "", "", "", "", "US/Eastern",
        trading_hours(today, "0400", "2000", always_open), trading_hours(today, "0930", "1600", always_open),
        "", "0", "0", "1", "", "", rules, "", c.stock_type]
    if version >= 164:
        fields += ["1", "1", "100"]
    return encode(*fields)


def position(p: Position) -> bytes:
    head = contract_head(p.contract)
    return encode(61, 3, p.account, *head, number(p.quantity), _cost(p))


def position_multi(p: Position, req_id: int) -> bytes:
    return encode(71, 1, req_id, p.account, *contract_head(p.contract), number(p.quantity), _cost(p), "")


def portfolio(p: Position, market_price: Decimal) -> bytes:
    c = p.contract
    value = p.quantity * market_price
    unrealized = (market_price - p.avg_cost) * p.quantity
    return encode(7, 8, c.con_id, c.symbol, c.sec_type, c.expiry, number(c.strike), c.right or "0", c.multiplier,
                  c.primary_exchange, c.currency, c.local, c.klass, number(p.quantity), number(market_price),
                  number(value), _cost(p), _cents(unrealized), _cents(p.realized), p.account)


def _cost(p: Position) -> str:
    return number(p.avg_cost.quantize(Decimal("0.00000001")))


def _cents(value: Decimal) -> str:
    return number(value.quantize(Decimal("0.01")))


def market_rule(rule_id: int, steps: tuple[tuple[Decimal, Decimal], ...]) -> bytes:
    flat = [number(v) for step in steps for v in step]
    return encode(93, rule_id, len(steps), *flat)
