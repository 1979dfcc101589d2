"""What the venue refuses: checks of new orders and of amendments, as error codes of ib-wire.md 7.

Law: pure questions; nothing here changes an order or the exchange.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from actors.venue.simulator.orders import ExchangeRules, Order

if TYPE_CHECKING:
    from actors.venue.simulator.exchange import Exchange

NEW_YORK = ZoneInfo("America/New_York")
TYPES = frozenset({"MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT"})
TIFS = frozenset({"", "DAY", "GTC", "IOC", "FOK", "GTD"})
NS = 1_000_000_000


class Problem(msgspec.Struct, frozen=True):
    """Why an order is refused. `final`: the venue shows it as Inactive; else it never existed there."""

    code: int
    text: str
    final: bool = False


def new_order(order: Order, exchange: Exchange, now_ns: int) -> Problem | None:
    """Return why this order cannot be taken, or None."""
    problem = _shape(order, exchange)
    if problem is not None:
        return problem
    if order.tif == "GTD":
        expires = parse_ib_time_ns(order.good_till_date)
        if expires is None:
            return Problem(391, "Invalid good till date: use yyyymmdd-hh:mm:ss (UTC) or yyyymmdd hh:mm:ss TZ")
        if expires <= now_ns:
            return Problem(391, "Invalid good till date: it is already over")
    if order.parent_id:
        key = (order.client_id, order.parent_id)
        parent = exchange.orders.get(key) or exchange.done.get(key)
        if parent is None:
            return Problem(10006, "Missing parent order")
        if not parent.alive and parent.status != "Filled":
            return Problem(201, "Order rejected - reason:Parent order is being cancelled.", final=True)
    if order.oca_group and exchange.rules.oca_refuse_filled_group and exchange.groups.is_filled(order):
        return Problem(201, "Order rejected - reason:OCA group is already filled", final=True)
    return _too_many(order, exchange) or _refusal(order, exchange)


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


def _refusal(order: Order, exchange: Exchange) -> Problem | None:
    for refusal in exchange.refusals:
        if refusal.count > 0 and fnmatchcase(order.order_ref, refusal.order_ref):
            refusal.count -= 1
            return Problem(refusal.code, refusal.reason, final=refusal.code == 201)
    return None


def _shape(order: Order, exchange: Exchange) -> Problem | None:
    """Check the fields that new orders and amendments share."""
    if order.action not in ("BUY", "SELL"):
        return Problem(321, f"Error validating request.-'b' : cause - Invalid action {order.action!r}")
    if order.order_type not in TYPES:
        return Problem(201, f"Order rejected - reason:Unsupported order type {order.order_type!r}.", final=True)
    if order.tif not in TIFS:
        return Problem(321, f"Error validating request.-'b' : cause - Invalid time in force {order.tif!r}")
    if order.total <= 0:
        return Problem(434, "The order size cannot be zero.")
    if order.total != order.total.to_integral_value():
        return Problem(10318, "This order doesn't support fractional quantity trading.")
    if order.tif in ("IOC", "FOK") and order.order_type not in ("MKT", "LMT"):
        return Problem(111, f"The tif {order.tif} and the order type {order.order_type} are incompatible.")
    if order.oca_group and order.oca_type not in (0, 1, 2, 3):
        return Problem(321, f"Error validating request.-'b' : cause - Invalid OCA type {order.oca_type}")
    return _prices(order, exchange)


def _prices(order: Order, exchange: Exchange) -> Problem | None:
    needed = []
    if order.order_type in ("LMT", "STP LMT"):
        needed.append(("limit price", order.lmt))
    if order.order_type in ("STP", "STP LMT"):
        needed.append(("stop price", order.aux))
    for name, price in needed:
        if price is None or not price.is_finite():
            return Problem(321, f"Error validating request.-'b' : cause - Missing or invalid {name}")
        if price <= 0:
            return Problem(201, f"Order rejected - reason:The {name} must be above zero.", final=True)
        if not exchange.contracts.on_grid(order.contract, price):
            return Problem(110, "The price does not conform to the minimum price variation for this contract.")
    if order.order_type in ("TRAIL", "TRAIL LIMIT") and (order.aux or None) is None and not order.trail_percent:
        return Problem(321, "Error validating request.-'b' : cause - A trailing order needs an amount or a percent")
    return None


def amendment(old: Order, new: Order, exchange: Exchange) -> Problem | None:
    """Return why a live order cannot become this one, or None (ib-wire.md 6.2)."""
    if old.status == "PendingCancel":
        return Problem(104, "Cannot modify an order that is being cancelled.")
    same = (old.action == new.action and old.contract.con_id == new.contract.con_id and old.account == new.account)
    if not same:
        return Problem(105, "Order being modified does not match original order")
    if old.oca_group and not exchange.rules.oca_amend:
        return Problem(10326, "OCA group revision is not allowed")
    if old.oca_group != new.oca_group:
        return Problem(10326, "OCA group revision is not allowed")
    problem = _shape(new, exchange)
    if problem is not None:
        return problem
    if new.total < old.filled:
        return Problem(105, f"Order being modified does not match original order: quantity {new.total} is below "
                            f"the filled {old.filled}")
    if new.tif == "GTD" and parse_ib_time_ns(new.good_till_date) is None:
        return Problem(391, "Invalid good till date: use yyyymmdd-hh:mm:ss (UTC) or yyyymmdd hh:mm:ss TZ")
    return None


def expiry_ns(order: Order, now_ns: int, rules: ExchangeRules) -> int | None:
    """Return when this order ends by itself, in UTC nanoseconds of the exchange's clock, or None."""
    if order.tif == "GTD":
        return parse_ib_time_ns(order.good_till_date)
    if order.tif != "DAY" or not rules.day_expiry:
        return None
    local = datetime.fromtimestamp(now_ns / NS, NEW_YORK)
    closing = time(20) if order.outside_rth else time(16)
    end = datetime.combine(local.date(), closing, NEW_YORK)
    if end <= local:
        end += timedelta(days=1)
    return int(end.timestamp()) * NS


def parse_ib_time_ns(text: str) -> int | None:
    """Read `yyyymmdd-hh:mm:ss` (UTC) or `yyyymmdd hh:mm:ss [zone]`; without a zone, New York. None if malformed."""
    text = text.strip()
    try:
        if "-" in text and " " not in text:
            when = datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        else:
            parts = text.split()
            zone = ZoneInfo(parts[2]) if len(parts) > 2 else NEW_YORK
            when = datetime.strptime(" ".join(parts[:2]), "%Y%m%d %H:%M:%S").replace(tzinfo=zone)
    except (ValueError, IndexError, ZoneInfoNotFoundError, OSError):
        return None
    return int(when.timestamp()) * NS
