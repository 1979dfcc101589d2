"""What the venue refuses: checks of new orders, as error codes of ib-wire.md 7; amendment.py has those of a modify.

Law: pure questions; nothing here changes an order or the exchange.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from actors.venue.simulator import previews
from actors.venue.simulator.chains import FUTURE_TIME
from actors.venue.simulator.contracts import DERIVED, Contract, ContractQuery
from actors.venue.simulator.instructions import Condition, PriceCondition, TimeCondition
from actors.venue.simulator.orders import ExchangeRules, Order

if TYPE_CHECKING:
    from actors.venue.simulator.exchange import Exchange
    from actors.venue.simulator.hours import Hours

NEW_YORK = ZoneInfo("America/New_York")
TYPES = frozenset({"MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT"})
TIFS = frozenset({"", "DAY", "GTC", "IOC", "FOK", "GTD"})
LARGEST = 10**9            # prices and quantities: their products stay exact
TRIGGER_METHODS = frozenset({0, 1, 2, 3, 4, 7, 8})
ZONES = {"Greenwich Mean Time": "Greenwich"}       # as the hello spells it
NS = 1_000_000_000
ZONE_WARNING = ("Warning: You submitted request with date-time attributes without explicit time zone. Please switch to "
                "use yyyymmdd-hh:mm:ss in UTC or use instrument time zone, like US/Eastern.")
RTH_WARNING = ("Order Event Warning: Attribute 'Outside Regular Trading Hours' is ignored based on the order type and "
               "destination. PlaceOrder is now being processed.")

LOCATE_WARNING = "Order held while securities are located."


EXPIRED = "The contract has expired."


class Problem(msgspec.Struct, frozen=True):
    """Why an order is refused. `final`: the venue shows it as Inactive; else it never existed there."""

    code: int
    text: str
    final: bool = False


def new_order(order: Order, exchange: Exchange, now_ns: int) -> Problem | None:
    """Return why this order cannot be taken, or None."""
    problem = shape(order, exchange)
    if problem is not None:
        return problem
    problem = bad_time(order, exchange.rules)
    if problem is not None:
        return problem
    if order.contract.sec_type in DERIVED and expires_s(order.contract) * NS <= now_ns:
        return Problem(201, f"Order rejected - reason:{EXPIRED}", final=True)
    if order.tif == "GTD" and (parse_ib_time_ns(order.good_till_date) or 0) <= now_ns:
        return Problem(exchange.rules.bad_time_code, "Invalid good till date: it is already over")
    if exchange.rules.halt_refuses and exchange.quote_of(order.contract.con_id).halted > 0:
        return Problem(154, "Orders cannot be transmitted for a halted security.")
    if order.parent_id:
        key = (order.client_id, order.parent_id)
        parent = exchange.orders.get(key) or exchange.done.get(key)
        if parent is None:
            return Problem(10006, "Missing parent order")
        if not parent.alive and parent.status != "Filled":
            return Problem(201, "Order rejected - reason:Parent order is being cancelled.", final=True)
    problem = _group(order, exchange, now_ns)
    if problem is not None:
        return problem
    checks = (_both_sides, _too_many, _too_dear, _refusal)
    return next((problem for check in checks if (problem := check(order, exchange)) is not None), None)


def _group(order: Order, exchange: Exchange, now_ns: int) -> Problem | None:
    rules = exchange.rules
    if not order.oca_group:
        return None
    if rules.oca_refuse_filled_group and exchange.groups.is_filled(order):
        return Problem(201, "Order rejected - reason:OCA group is already filled", final=True)
    if not rules.oca_late_join and any(m.perm_id and now_ns - m.placed_ns > NS for m in exchange.groups.members(order)):
        return Problem(10326, "OCA group revision is not allowed")
    return None


def _both_sides(order: Order, exchange: Exchange) -> Problem | None:
    """Refuse a second side of an option (trading-rules.md 6). A child that waits for its parent is not at work yet."""
    if exchange.rules.option_both_sides or order.contract.sec_type != "OPT":
        return None
    working = exchange.book(order.contract.con_id).orders.values()
    if all(o.account != order.account or o.action == order.action for o in working):
        return None
    if (order.client_id, order.parent_id) in exchange.orders:
        return None
    return Problem(201, "Order rejected - reason:Cannot have open orders on both sides of the same US Option contract "
                        "in the same account.", final=True)


def waits_for(order: Order) -> tuple[object, ...]:
    """Return everything that may keep an order from working: amended, it is held anew."""
    i = order.instructions
    return (i.conditions, i.conditions_cancel, i.conditions_ignore_rth, order.extras.get("goodAfterTime", ""))


def _too_many(order: Order, exchange: Exchange) -> Problem | None:
    cap = exchange.rules.active_order_cap
    if not cap:
        return None
    active = sum(o.account == order.account and o.action == order.action
                 for o in exchange.book(order.contract.con_id).orders.values())
    if active < cap:
        return None
    return Problem(201, f"Order rejected - reason:Only {cap} orders on either buy or sell side for particular contract "
                        "and account are allowed.", final=True)


def _too_dear(order: Order, exchange: Exchange) -> Problem | None:
    if not exchange.rules.margin_check:
        return None
    after = previews.preview(exchange, order)
    if after.initial_after <= max(after.equity_after, after.initial_before):     # what needs less is always allowed
        return None
    return Problem(201, "Order rejected - reason:YOUR ORDER IS NOT ACCEPTED. IN ORDER TO OBTAIN THE DESIRED POSITION "
                        f"YOUR EQUITY WITH LOAN VALUE [{after.equity_after:.2f} {after.currency}] MUST EXCEED THE "
                        f"INITIAL MARGIN [{after.initial_after:.2f} {after.currency}]", final=True)


def _refusal(order: Order, exchange: Exchange) -> Problem | None:
    for refusal in exchange.refusals:
        if refusal.count > 0 and fnmatchcase(order.order_ref, refusal.order_ref):
            refusal.count -= 1
            if not refusal.count:
                exchange.refusals.remove(refusal)
            return Problem(refusal.code, refusal.reason, final=refusal.code == 201)
    return None


def shape(order: Order, exchange: Exchange) -> Problem | None:
    """Check the fields that new orders and amendments share."""
    if order.action not in ("BUY", "SELL"):
        return Problem(321, f"Error validating request.-'b' : cause - Invalid action {order.action!r}")
    if order.order_type not in TYPES:
        return Problem(201, f"Order rejected - reason:Unsupported order type {order.order_type!r}.", final=True)
    if order.tif not in TIFS:
        return Problem(321, f"Error validating request.-'b' : cause - Invalid time in force {order.tif!r}")
    if order.total <= 0:
        return Problem(434, "The order size cannot be zero.")
    if order.total > LARGEST:
        return Problem(383, f"The order size {order.total} is above the limit of {LARGEST}.")
    if order.total != order.total.to_integral_value():
        return Problem(10318, "This order doesn't support fractional quantity trading.")
    if order.tif in ("IOC", "FOK") and order.order_type not in ("MKT", "LMT"):
        return Problem(111, f"The tif {order.tif} and the order type {order.order_type} are incompatible.")
    if order.oca_group and order.oca_type not in (0, 1, 2, 3):
        return Problem(321, f"Error validating request.-'b' : cause - Invalid OCA type {order.oca_type}")
    if order.trigger_method not in TRIGGER_METHODS:
        return Problem(321, f"Error validating request.-'b' : cause - Invalid trigger method {order.trigger_method}; "
                            "allowed is 0, 1, 2, 3, 4, 7 or 8")
    return _instructions(order, exchange) or _prices(order, exchange)


PLAINLY = ("algoStrategy", "scalePriceIncrement", "hedgeType", "adjustedOrderType", "deltaNeutralOrderType",
           "deltaNeutralContract", "randomizeSize", "randomizePrice")
COMBO_TYPES = frozenset({"MKT", "LMT"})


def worked_plainly(order: Order) -> list[str]:
    """Return the instructions that are set and that the order is worked without."""
    return [name for name in PLAINLY if name in order.extras]


def _instructions(order: Order, exchange: Exchange) -> Problem | None:
    """Check the instructions that few orders have."""
    i = order.instructions
    if order.contract.sec_type == "BAG" and order.order_type not in COMBO_TYPES:
        return Problem(201, f"Order rejected - reason:Order type {order.order_type!r} is not supported for a "
                            "combination; allowed is MKT or LMT.", final=True)
    if order.contract.sec_type == "BAG" and order.oca_group:
        return Problem(356, "Smart combo order does not support OCA group.")
    if i.min_quantity < 0 or i.min_quantity > order.total:
        return Problem(201, f"Order rejected - reason:minQty {i.min_quantity} is not between 0 and the order's "
                            f"quantity {order.total}.", final=True)
    if i.discretionary and (order.order_type != "LMT" or i.discretionary < 0):
        return Problem(201, "Order rejected - reason:discretionaryAmt needs a LMT order and an amount above 0.",
                       final=True)
    plainly = worked_plainly(order)
    if plainly and not exchange.rules.plain_algos:
        return Problem(201, f"Order rejected - reason:not simulated: {', '.join(plainly)}.", final=True)
    for condition in i.conditions:
        problem = _condition(condition, exchange)
        if problem is not None:
            return problem
    return None


def _condition(c: Condition, exchange: Exchange) -> Problem | None:
    con_id = getattr(c, "con_id", None)
    if con_id is not None and len(exchange.contracts.find(ContractQuery(con_id=con_id))) != 1:
        return Problem(321, f"Error validating request.-'bW' : cause - Invalid condition: conId {con_id} is not known")
    if isinstance(c, PriceCondition) and c.trigger_method not in TRIGGER_METHODS:
        return Problem(321, "Error validating request.-'bW' : cause - Invalid condition: trigger method "
                            f"{c.trigger_method}; allowed is 0, 1, 2, 3, 4, 7 or 8")
    if isinstance(c, TimeCondition) and parse_ib_time_ns(c.time) is None:
        return Problem(321, f"Error validating request.-'bW' : cause - Invalid condition: time {c.time!r}; use "
                            "yyyymmdd-hh:mm:ss (UTC) or yyyymmdd hh:mm:ss TZ")
    return None


def _prices(order: Order, exchange: Exchange) -> Problem | None:
    for price in (order.lmt, order.aux, order.trail_stop, order.trail_percent, order.lmt_offset):
        if price is not None and abs(price) > LARGEST:
            return Problem(109, f"Price {price} is out of the range of {LARGEST}.")
    needed = []
    if order.order_type in ("LMT", "STP LMT"):
        needed.append(("limit price", order.lmt))
    if order.order_type in ("STP", "STP LMT"):
        needed.append(("stop price", order.aux))
    for name, price in needed:
        if price is None or not price.is_finite():
            return Problem(321, f"Error validating request.-'b' : cause - Missing or invalid {name}")
        if price <= 0 and order.contract.sec_type != "BAG":
            return Problem(201, f"Order rejected - reason:The {name} must be above zero.", final=True)
        if not exchange.contracts.on_grid(order.contract, price):
            return Problem(110, "The price does not conform to the minimum price variation for this contract.")
    if order.order_type in ("TRAIL", "TRAIL LIMIT") and (order.aux or None) is None and not order.trail_percent:
        return Problem(321, "Error validating request.-'b' : cause - A trailing order needs an amount or a percent")
    return None


def bad_time(order: Order, rules: ExchangeRules) -> Problem | None:
    """Return what is wrong with the times that an order names (ib-wire.md 6.4), or None."""
    till = order.good_till_date if order.tif == "GTD" else None
    for name, text in (("till date", till), ("after time", order.extras.get("goodAfterTime"))):
        if text is not None and parse_ib_time_ns(text) is None:
            return Problem(rules.bad_time_code,
                           f"Invalid good {name}: use yyyymmdd-hh:mm:ss (UTC) or yyyymmdd hh:mm:ss TZ")
    return None


def times_of(order: Order) -> list[str]:
    """Return the times that an order names."""
    times = [order.good_till_date if order.tif == "GTD" else "", order.extras.get("goodAfterTime", "")]
    times += [c.time for c in order.instructions.conditions if isinstance(c, TimeCondition)]
    return [text for text in times if text]


def lacks_zone(text: str) -> bool:
    """Return whether a date and time is taken as New York's only because it names no zone."""
    return "-" not in text and len(text.split()) == 2


def expiry_ns(order: Order, now_ns: int, rules: ExchangeRules, hours: Hours | None = None) -> int | None:
    """Return when this order ends by itself, in UTC nanoseconds of the exchange's clock, or None."""
    if order.tif == "GTD":
        return parse_ib_time_ns(order.good_till_date)
    if order.tif == "DAY" and hours is not None:
        return hours.close_ns(now_ns, order.outside_rth)
    if order.tif != "DAY" or not rules.day_expiry:
        return None
    local = datetime.fromtimestamp(now_ns / NS, NEW_YORK)
    closing = time(20) if order.outside_rth else time(16)
    end = datetime.combine(local.date(), closing, NEW_YORK)
    if end <= local:
        end += timedelta(days=1)
    return int(end.timestamp()) * NS


@lru_cache(maxsize=10_000)
def _end_of(expiry: str, at: time) -> int:
    return int(datetime.combine(datetime.strptime(expiry[:8], "%Y%m%d"), at, NEW_YORK).timestamp())


def expires_s(contract: Contract) -> int:
    """Return when an option or future ends, in epoch seconds: 16:00 New York of its expiry, 09:30 where it ends at
    08:30 in Chicago."""
    return _end_of(contract.expiry, time(9, 30) if contract.last_trade_time == FUTURE_TIME else time(16))


def local_date(ns: int) -> date:
    """Return New York's date at a time of the exchange."""
    return datetime.fromtimestamp(ns / NS, NEW_YORK).date()


def midnight_ns(ns: int) -> int:
    """Return when New York's day of this time began."""
    return int(datetime.combine(local_date(ns), time(0), NEW_YORK).timestamp()) * NS


def closed_text(order: Order, opening_ns: int) -> str:
    """Return the text of 399 for an order that waits for the opening."""
    opening = datetime.fromtimestamp(opening_ns // NS, NEW_YORK)
    c = order.contract
    return (f"Order Message:\n{order.action} {order.total:f} {c.symbol} {c.primary_exchange}.{c.klass}\n"
            f"Warning: your order will not be placed at the exchange until {opening:%Y-%m-%d %H:%M:%S} US/Eastern")


def parse_ib_time_ns(text: str) -> int | None:
    """Read `yyyymmdd-hh:mm:ss` (UTC) or `yyyymmdd hh:mm:ss [zone]`; without a zone, New York. None if malformed."""
    text = text.strip()
    try:
        if "-" in text and " " not in text:
            when = datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        else:
            parts = text.split()
            name = " ".join(parts[2:])
            zone = ZoneInfo(ZONES.get(name, name)) if name else NEW_YORK
            when = datetime.strptime(" ".join(parts[:2]), "%Y%m%d %H:%M:%S").replace(tzinfo=zone)
    except (ValueError, IndexError, ZoneInfoNotFoundError, OSError):
        return None
    return int(when.timestamp()) * NS
