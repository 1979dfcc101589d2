"""How the fields of one intent must agree: shape, order type, exits, prices on the right side, what is not built yet.

Law: a field that nothing enforces is refused by name, never ignored. What needs the market, the contract or other
brackets (price sanity, limits, netting) is decided in limits.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from actors.rules.refusal import Refused, plain, shown
from messages.intent import (
    ExpiryPolicy,
    Hold,
    Intent,
    OrderType,
    SafetyStop,
    Session,
    Shape,
    Side,
    Stop,
    Target,
    TimeInForce,
    TrailingStop,
    Tranche,
    Urgency,
)
from messages.market import TriggerMethod
from messages.settings import Settings

HUNDRED = Decimal(100)
MAX_VALID_FOR = Decimal(7 * 86_400)
_OPTION = re.compile(r"[A-Z]{1,6} *[0-9]{6}[CP][0-9]{8}", re.ASCII)
_CLOSES = {Side.SELL: "a long position", Side.BUY_TO_COVER: "a short position"}


def check_agreement(intent: Intent, settings: Settings, now_ns: int) -> None:
    """Refuse an intent, every single field of which is valid, when the fields together make no sense."""
    check_built(intent)
    check_names(intent, settings)
    check_shape(intent)
    check_entry(intent)
    check_lifetime(intent, now_ns)
    check_exits(intent)
    check_levels(intent)


# -- what is not built, and names ------------------------------------------------------------------------------


def check_built(intent: Intent) -> None:
    """Refuse by name what would have to be enforced and is not yet."""
    if intent.urgency is not Urgency.NORMAL:
        _unbuilt("urgency", f"'{intent.urgency}'", "only Normal (send it as written) is enforced so far")
    if intent.expiry_policy is not ExpiryPolicy.HOLD:
        _unbuilt("expiry_policy", f"'{intent.expiry_policy}'", "only hold is enforced so far")
    if intent.max_slippage_bps is not None:
        _unbuilt("max_slippage_bps", plain(intent.max_slippage_bps), "only null (no bound) is possible so far")
    if intent.session is not Session.RTH:
        _unbuilt("session", f"'{intent.session}'", "only rth is enforced so far")
    for field, instrument in _instruments(intent):
        if _OPTION.fullmatch(instrument):
            _unbuilt(field, shown(instrument), "options are not traded yet; give the ticker of a stock")


def _unbuilt(field: str, value: str, rule: str) -> None:
    raise Refused("not_built", field, value, rule, "is not supported yet")


def _instruments(intent: Intent) -> Iterator[tuple[str, str]]:
    yield "instrument", intent.instrument
    if intent.when is not None:
        yield "when.instrument", intent.when.instrument


def check_names(intent: Intent, settings: Settings) -> None:
    """Refuse a strategy or an account that the settings do not know."""
    if intent.strategy not in settings.intents.strategies:
        raise Refused("unknown_strategy", "strategy", shown(intent.strategy),
                      f"it must be one of {', '.join(settings.intents.strategies)} (setting intents.strategies)",
                      "is not known")
    accounts = tuple(name for name in (settings.venue.account, *settings.venue.accounts) if name)
    if intent.account is not None and accounts and intent.account not in accounts:
        raise Refused("unknown_account", "account", shown(intent.account),
                      f"it must be one of {', '.join(dict.fromkeys(accounts))} (settings venue.account and accounts)",
                      "is not configured")
    for number, tag in enumerate(intent.risk_tags, 1):
        if tag in intent.risk_tags[: number - 1]:
            raise Refused("bad_value", f"risk_tags[{number}]", shown(tag), "each tag may be given once",
                          "is given twice")


# -- shape, entry, lifetime ------------------------------------------------------------------------------------


def check_shape(intent: Intent) -> None:
    """Refuse exits that do not fit the shape, and a side that does not fit the exits."""
    shape, count = intent.shape, len(intent.exits)
    if shape is Shape.SINGLE:
        if count:
            _shape("exits", _count(count, "tranche"), "a single order has no exits; use the shape bracket", "given")
    elif count == 0:
        _shape("exits", "nothing", f"the shape {shape} needs exits", "given")
    elif shape in (Shape.OTO, Shape.OTOCO) and count > 1:
        _shape("exits", _count(count, "tranche"), f"the shape {shape} has exactly one tranche", "given")
    for number, tranche in enumerate(intent.exits, 1):
        _check_tranche_shape(shape, tranche, f"exits[{number}]")
    if shape is Shape.OCO:
        if intent.side.opens:
            raise Refused("side", "side", f"'{intent.side}'", "the exits of an oco close a position: use SELL to close"
                          " a long one, BUY_TO_COVER to close a short one", "opens a position")
    elif intent.exits and not intent.side.opens:
        other = Side.SELL_SHORT if intent.side is Side.SELL else Side.BUY
        raise Refused("side", "side", f"'{intent.side}'", "an entry with exits must open one: use"
                      f" {other} to {'open a short' if other is Side.SELL_SHORT else 'open a long'} position, or the"
                      " shape oco for exits on a position that is there", f"closes {_CLOSES[intent.side]}")


def _check_tranche_shape(shape: Shape, tranche: Tranche, path: str) -> None:
    exits = [name for name in ("target", "stop", "trailing_stop") if getattr(tranche, name) is not None]
    said = " and ".join(exits) if exits else "no exit"
    if not exits:
        _shape(path, said, "a tranche needs a target, a stop or a trailing_stop", "given")
    if shape is Shape.BRACKET and exits == ["target"]:
        _shape(path, said, "every tranche of a bracket needs a stop or a trailing_stop; the shape oto may go without",
               "given alone")
    if shape is Shape.OTO and len(exits) > 1:
        _shape(path, said, "the shape oto has exactly one exit; use otoco or bracket for several", "given")
    if shape in (Shape.OCO, Shape.OTOCO) and len(exits) < 2:
        _shape(path, said, f"the exits of an {shape} compete: each tranche needs at least two", "given alone")


def _shape(field: str, value: str, rule: str, given: str) -> None:
    plural = value[:1].isdigit() and not value.startswith("1 ")
    raise Refused("shape", field, value, rule, f"{'are' if plural else 'is'} {given}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_entry(intent: Intent) -> None:
    """Refuse prices that the order type lacks or does not take; an oco has no entry at all."""
    if intent.shape is Shape.OCO:
        for field in ("limit_price", "stop_price", "target_price"):
            value = getattr(intent, field)
            if value is not None:
                raise Refused("shape", field, plain(value), "an oco has exits only, and their prices stand in exits",
                              "is given")
        if intent.order_type is not OrderType.MKT:
            raise Refused("shape", "order_type", f"'{intent.order_type}'", "an oco has no entry; leave it out",
                          "is given")
        if intent.when is not None:
            raise Refused("shape", "when", "a rule", "an oco has no entry that could wait for a price; leave it out",
                          "is given")
        return
    kind = intent.order_type
    needs = {"limit_price": kind in (OrderType.LMT, OrderType.STP_LMT),
             "stop_price": kind in (OrderType.STP, OrderType.STP_LMT)}
    for field, needed in needs.items():
        value = getattr(intent, field)
        if needed and value is None:
            raise Refused("missing_field", field, "nothing", f"an order of type {kind} needs it", "is given")
        if not needed and value is not None:
            raise Refused("bad_value", field, plain(value), f"an order of type {kind} takes none; leave it out or"
                          " change order_type", "is given")
    if intent.limit_price is not None and intent.stop_price is not None:
        sign = intent.side.sign
        if sign * intent.limit_price < sign * intent.stop_price:
            raise Refused("relation", "limit_price", plain(intent.limit_price),
                          f"the limit must be at or {_beyond(sign)} the trigger, or it could not fill",
                          f"is {_beyond(-sign)} the stop_price {plain(intent.stop_price)} of a {intent.side}")


def check_lifetime(intent: Intent, now_ns: int) -> None:
    """Refuse a good_till that is missing, superfluous, no time or past; an entry's word on an oco; a long valid_for."""
    tif = intent.time_in_force
    if intent.shape is Shape.OCO and tif not in (TimeInForce.DAY, TimeInForce.GTC):
        raise Refused("time_in_force", "time_in_force", f"'{tif}'",
                      "exits rest until they fill: use GTC or DAY", "is for entries only")
    if tif is TimeInForce.GTD:
        if intent.good_till is None:
            raise Refused("missing_field", "good_till", "nothing",
                          "GTD needs a UTC time written yyyymmdd-hh:mm:ss", "is given")
        if good_till_ns(intent.good_till) <= now_ns:
            raise Refused("bad_value", "good_till", shown(intent.good_till), "it must lie in the future (UTC)",
                          "has passed")
    elif intent.good_till is not None:
        raise Refused("bad_value", "good_till", shown(intent.good_till), "only GTD takes one; leave it out",
                      f"is given with time_in_force {tif}")
    if intent.valid_for is not None and intent.valid_for > MAX_VALID_FOR:
        raise Refused("bad_value", "valid_for", plain(intent.valid_for), f"at most {plain(MAX_VALID_FOR)} seconds",
                      "is too long")


def good_till_ns(text: str) -> int:
    """Return a good_till as UTC ns. Raises Refused where it is no time."""
    try:
        found = datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise Refused("bad_value", "good_till", shown(text), "it must be a UTC time written yyyymmdd-hh:mm:ss",
                      "is no time") from None
    return int((found - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000_000


# -- exits -----------------------------------------------------------------------------------------------------


def check_exits(intent: Intent) -> None:
    """Refuse exits that are said twice or not at all, tranches that do not add up, a safety stop without use."""
    for number, tranche in enumerate(intent.exits, 1):
        path = f"exits[{number}]"
        for name, spec in (("target", tranche.target), ("stop", tranche.stop)):
            if spec is not None:
                _one_of(spec, f"{path}.{name}", absolute=intent.shape is Shape.OCO)
                _check_method(spec, f"{path}.{name}")
        if tranche.stop is not None:
            _check_stop_limit(tranche.stop, f"{path}.stop")
        if tranche.trailing_stop is not None:
            _check_trail(tranche.trailing_stop, f"{path}.trailing_stop")
    _check_tranche_quantities(intent)
    if intent.safety_stop is not None:
        _one_of(intent.safety_stop, "safety_stop", absolute=intent.shape is Shape.OCO)
        if not any(tranche.stop is None or tranche.stop.hold is Hold.ENGINE for tranche in intent.exits):
            why = "a stop rests at the venue already" if intent.exits else "there are no exits"
            raise Refused("shape", "safety_stop", "a safety stop",
                          "it stands at the venue beside exits that are held here; leave it out",
                          f"has no use, because {why}")


def _one_of(spec: Target | Stop | SafetyStop, path: str, *, absolute: bool) -> None:
    given = [name for name in ("price", "offset", "percent") if getattr(spec, name) is not None]
    if not given:
        raise Refused("missing_field", f"{path}.price", "nothing", "exactly one of price, offset and percent is needed",
                      "is given")
    if len(given) > 1:
        raise Refused("bad_value", f"{path}.{given[1]}", plain(getattr(spec, given[1])),
                      "exactly one of price, offset and percent is needed",
                      f"is given beside {given[0]} {plain(getattr(spec, given[0]))}")
    if absolute and given != ["price"]:
        raise Refused("shape", f"{path}.{given[0]}", plain(getattr(spec, given[0])),
                      "an oco has no entry fill to measure from; give a price", "is given")
    if spec.percent is not None and not isinstance(spec, Target):
        _below_hundred(spec.percent, f"{path}.percent")


def _below_hundred(percent: Decimal, path: str) -> None:
    if percent >= HUNDRED:
        raise Refused("bad_value", path, plain(percent), "it must be below 100", "is too large")


def _check_method(spec: Target | Stop, path: str) -> None:
    if spec.hold is Hold.VENUE and spec.trigger_method is not TriggerMethod.DEFAULT:
        raise Refused("not_built", f"{path}.trigger_method", f"'{spec.trigger_method}'",
                      "an exit that rests at the venue triggers by the venue's default; give hold: engine to choose",
                      "is not supported for hold: venue")


def _check_stop_limit(stop: Stop, path: str) -> None:
    if stop.limit_price is None:
        return
    if stop.limit_offset is not None:
        raise Refused("bad_value", f"{path}.limit_offset", plain(stop.limit_offset),
                      "at most one of limit_price and limit_offset",
                      f"is given beside limit_price {plain(stop.limit_price)}")
    if stop.price is None:
        raise Refused("bad_value", f"{path}.limit_price", plain(stop.limit_price),
                      "a stop that follows the fill takes limit_offset instead", "is given without a price")


def _check_trail(trail: TrailingStop, path: str) -> None:
    if trail.amount is None and trail.percent is None:
        raise Refused("missing_field", f"{path}.amount", "nothing", "exactly one of amount and percent is needed",
                      "is given")
    if trail.amount is not None and trail.percent is not None:
        raise Refused("bad_value", f"{path}.percent", plain(trail.percent),
                      "exactly one of amount and percent is needed",
                      f"is given beside amount {plain(trail.amount)}")
    if trail.percent is not None:
        _below_hundred(trail.percent, f"{path}.percent")


def _check_tranche_quantities(intent: Intent) -> None:
    total = Decimal(0)
    for number, tranche in enumerate(intent.exits, 1):
        if tranche.quantity is None:
            if len(intent.exits) > 1:
                raise Refused("missing_field", f"exits[{number}].quantity", "nothing",
                              "with several tranches each needs its quantity", "is given")
            return
        total += tranche.quantity
    if intent.exits and total != intent.quantity:
        raise Refused("relation", "exits[1].quantity" if len(intent.exits) == 1 else "exits",
                      plain(total), "the quantities of the tranches must add up to it",
                      f"is not the quantity {plain(intent.quantity)}")


# -- prices ----------------------------------------------------------------------------------------------------


def check_levels(intent: Intent) -> None:
    """Refuse an exit on the wrong side of the entry, of its trigger or of another exit of its tranche.

    Levels are compared where they are known beforehand: an exit at an offset or percent of the fill is measured from
    the entry's own price, and of a market entry only exits of one kind can be compared.
    """
    side = intent.side if intent.shape is Shape.OCO else intent.side.exit_side
    sign = -side.sign       # +1: the position is long, a target lies above and a stop below
    known = [price for price in (intent.limit_price, intent.stop_price) if price is not None]
    for number, tranche in enumerate(intent.exits, 1):
        path = f"exits[{number}]"
        entry = f"of a {intent.side}"
        if tranche.target is not None:
            _check_target(tranche.target, f"{path}.target", sign, known, side, entry)
        if tranche.stop is not None:
            _check_stop(tranche.stop, f"{path}.stop", sign, known, side, entry)
        if tranche.trailing_stop is not None:
            _check_trail_levels(tranche.trailing_stop, f"{path}.trailing_stop", sign, known, side, entry)
        if tranche.target is not None and tranche.stop is not None:
            _check_apart(tranche.target, tranche.stop, path, sign, side)
    if intent.safety_stop is not None:
        _check_stop(intent.safety_stop, "safety_stop", sign, known, side, f"of a {intent.side}")
        for number, tranche in enumerate(intent.exits, 1):
            if tranche.stop is not None:
                _check_safety(intent.safety_stop, tranche.stop, number, sign, side)


def _beyond(sign: int) -> str:
    return "above" if sign > 0 else "below"


def _where(value: Decimal, other: Decimal) -> str:
    return "at" if value == other else _beyond(1 if value > other else -1)


def _check_target(target: Target, path: str, sign: int, known: list[Decimal], side: Side, entry: str) -> None:
    if target.price is not None:
        for price in known:
            if sign * target.price <= sign * price:
                raise Refused("relation", f"{path}.price", plain(target.price),
                              f"a {side} target must be {_beyond(sign)}",
                              f"is {_where(target.price, price)} the entry {plain(price)} {entry}")
    elif sign < 0:
        _stays_above_zero(target, path, known)


def _check_stop(
    stop: Stop | SafetyStop, path: str, sign: int, known: list[Decimal], side: Side, entry: str
) -> None:
    if stop.price is not None:
        for price in known:
            if sign * stop.price >= sign * price:
                raise Refused("relation", f"{path}.price", plain(stop.price),
                              f"a protective {side} stop must be {_beyond(-sign)}",
                              f"is {_where(stop.price, price)} the entry {plain(price)} {entry}")
        if isinstance(stop, Stop) and stop.limit_price is not None and sign * stop.limit_price > sign * stop.price:
            raise Refused("relation", f"{path}.limit_price", plain(stop.limit_price),
                          f"the limit of a {side} stop must be at or {_beyond(-sign)} its trigger",
                          f"is {_beyond(sign)} the trigger {plain(stop.price)}")
    elif sign > 0:
        _stays_above_zero(stop, path, known)
    if isinstance(stop, Stop) and stop.limit_offset is not None and sign > 0 and stop.price is not None:
        _above_zero(stop.limit_offset, f"{path}.limit_offset", stop.price, "the trigger")


def _stays_above_zero(spec: Target | Stop | SafetyStop, path: str, known: list[Decimal]) -> None:
    """An exit that lies below the fill by an offset or a percentage must leave a price."""
    if spec.percent is not None:
        _below_hundred(spec.percent, f"{path}.percent")
    if spec.offset is not None:
        for price in known:
            _above_zero(spec.offset, f"{path}.offset", price, "the entry")


def _above_zero(distance: Decimal, path: str, price: Decimal, what: str) -> None:
    if distance >= price:
        raise Refused("relation", path, plain(distance), "the resulting price must stay above 0",
                      f"reaches down to 0 from {what} {plain(price)}")


def _check_trail_levels(
    trail: TrailingStop, path: str, sign: int, known: list[Decimal], side: Side, entry: str
) -> None:
    if trail.amount is not None and sign > 0:
        for price in known:
            _above_zero(trail.amount, f"{path}.amount", price, "the entry")
        if trail.activation_price is not None:
            _above_zero(trail.amount, f"{path}.amount", trail.activation_price, "the activation price")
    if trail.activation_price is not None:
        for price in known:
            if sign * trail.activation_price <= sign * price:
                raise Refused("relation", f"{path}.activation_price", plain(trail.activation_price),
                              f"a {side} trail wakes when the price has moved in favour, so it must be {_beyond(sign)}",
                              f"is {_where(trail.activation_price, price)} the entry {plain(price)} {entry}")


def _check_apart(target: Target, stop: Stop, path: str, sign: int, side: Side) -> None:
    if target.price is not None and stop.price is not None and sign * target.price <= sign * stop.price:
        raise Refused("relation", f"{path}.target.price", plain(target.price),
                      f"a {side} target must be {_beyond(sign)} the stop beside it",
                      f"is {_where(target.price, stop.price)} the stop {plain(stop.price)}")


def _check_safety(safety: SafetyStop, stop: Stop, number: int, sign: int, side: Side) -> None:
    """A safety stop matters only when the engine is gone: it lies beyond every stop that is held here."""
    for kind, direction in (("price", sign), ("offset", -1), ("percent", -1)):
        wide: Decimal | None = getattr(safety, kind)
        near: Decimal | None = getattr(stop, kind)
        if wide is None or near is None or direction * wide < direction * near:
            continue
        word = _beyond(-sign) if kind == "price" else "further away than"
        raise Refused("relation", f"safety_stop.{kind}", plain(wide),
                      f"a safety stop must be {word} every held {side} stop",
                      f"is not beyond the stop {plain(near)} of exits[{number}]")
