"""What the gateway answers, orders apart: the messages of ib-wire.md 5, one function each, for versions 157 to 178.

Law: the functions are pure and return whole frames; a value that a plain order does not have is spelled as a real
gateway spells it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from actors.venue.simulator.contracts import ORDER_TYPES, Contract, trading_hours
from actors.venue.simulator.hours import Hours
from actors.venue.simulator.options import Greeks
from actors.venue.simulator.orders import Position
from actors.venue.simulator.validation import NEW_YORK
from actors.venue.simulator.wire import encode, number

NS = 1_000_000_000
ORDER_ID_ERRORS_HAVE_JSON = 166
STOCK_HOURS = (("0400", "2000"), ("0930", "1600"))
"""Trading and liquid hours, New York. A future's and a currency's day begins in the evening before."""
HOURS = {"OPT": (("0930", "1600"), ("0930", "1600")), "IND": (("0930", "1600"), ("0930", "1600")),
         "FUT": (("-1800", "1700"), ("0930", "1600")), "CASH": (("-1715", "1700"), ("-1715", "1700"))}


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


def contract_details(c: Contract, req_id: int, version: int, now_ns: int, always_open: bool,
                     exchange: str = "", under: str = "", sec_ids: bool = False, kept: Hours | None = None) -> bytes:
    """Encode contractDetails (ib-wire.md 5.2): 40 fields from 164 on, 42 with a security id.

    Hours start with the exchange's present day. `exchange` is the one that was asked for, `under` the underlying's
    symbol. A future shows when it ends behind its last trade date, as real gateways do. An exchange that keeps hours
    shows those, whatever the contract.
    """
    today = datetime.fromtimestamp(now_ns // NS, NEW_YORK).date()
    last_trade = f"{c.expiry} {c.last_trade_time}" if c.last_trade_time else c.expiry
    fields: list[object] = [10, req_id] if version >= 164 else [10, 8, req_id]
    fields += [c.symbol, c.sec_type, last_trade, number(c.strike), c.right, exchange or c.exchange, c.currency, c.local,
               c.klass, c.klass, c.con_id, number(c.min_tick)]
    if version < 164:
        fields.append("100")
    rules = ",".join([str(c.market_rule_id)] * len(c.valid_exchanges.split(",")))
    ids = ["1", "ISIN", c.isin] if sec_ids and c.isin else ["0"]
    hours, liquid = (trading_hours(today, *each, always_open) for each in HOURS.get(c.sec_type, STOCK_HOURS))
    if kept is not None:
        hours, liquid = kept.text(today, extended=True), kept.text(today, extended=False)
    fields += [
        c.multiplier, ORDER_TYPES,
        c.valid_exchanges, "1", c.under_con_id, _escaped(c.long_name), c.primary_exchange, c.expiry[:6], "", "", "",
        "US/Eastern", hours, liquid, "", "0",
        *ids, "1" if c.sec_type == "STK" else "2", under, c.under_sec_type, rules, c.expiry, c.stock_type]
    if version >= 164:
        fields += ["1", "1", "100"] if c.sec_type == "STK" else ["1", "1", "1"]
    return encode(*fields)


def _escaped(text: str) -> str:
    """Spell a name as the clients read it, with `\\uXXXX` for what is not ASCII (ib-wire.md 3)."""
    return text.encode("unicode_escape").decode("ascii")


def option_parameters(req_id: int, exchange: str, under: Contract, trading_class: str, multiplier: str,
                      expiries: list[str], strikes: list[Decimal]) -> bytes:
    return encode(75, req_id, exchange, under.con_id, trading_class, multiplier, len(expiries), *expiries, len(strikes),
                  *[number(s) for s in strikes])


def symbol_samples(req_id: int, found: list[tuple[Contract, list[str]]], version: int) -> bytes:
    """Encode symbolSamples: contracts, each with the security types derived from it."""
    fields: list[object] = [79, req_id, len(found)]
    for c, derived in found:
        fields += [c.con_id, c.symbol, c.sec_type, c.primary_exchange or c.exchange, c.currency, len(derived), *derived]
        if version >= 176:
            fields += [c.long_name, ""]
    return encode(*fields)


def option_computation(req_id: int, tick_type: int, g: Greeks, price: float) -> bytes:
    """Encode tickOptionComputation; `price` is the one the tick type names: bid 10, ask 11, last 12, model 13."""
    values = (g.volatility, g.delta, price, 0.0, g.gamma, g.vega, g.theta, g.under)
    return encode(21, req_id, tick_type, 1, *[f"{v:.6f}" for v in values])


def position(p: Position) -> bytes:
    head = contract_head(p.contract)
    return encode(61, 3, p.account, *head, number(p.quantity), _cost(p))


def position_multi(p: Position, req_id: int) -> bytes:
    return encode(71, 1, req_id, p.account, *contract_head(p.contract), number(p.quantity), _cost(p), "")


def portfolio(p: Position, market_price: Decimal) -> bytes:
    c = p.contract
    return encode(7, 8, c.con_id, c.symbol, c.sec_type, c.expiry, number(c.strike), c.right or "0", c.multiplier,
                  c.primary_exchange, c.currency, c.local, c.klass, number(p.quantity), number(market_price),
                  number(p.value(market_price)), _cost(p), _cents(p.unrealized(market_price)), _cents(p.realized_today),
                  p.account)


def _cost(p: Position) -> str:
    return number(p.avg_cost.quantize(Decimal("0.00000001")))


def _cents(value: Decimal) -> str:
    return number(value.quantize(Decimal("0.01")))


def market_rule(rule_id: int, steps: tuple[tuple[Decimal, Decimal], ...]) -> bytes:
    flat = [number(v) for step in steps for v in step]
    return encode(93, rule_id, len(steps), *flat)
