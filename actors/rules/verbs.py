"""The operator's verbs (trading-rules.md 24) and what a modification may change.

Law: a verb that cannot be done is refused in one sentence that names what can be; nothing is half done.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from actors.rules import legs, prices
from actors.rules.bracket_state import OVER, Life, Phase, WatchCondition
from actors.rules.cover import flatten
from actors.rules.turn import Turn, can_send
from messages.exits import DisarmExit
from messages.intent import Intent, OrderType, Shape, Tranche
from messages.orders import CancelBracket, CancelEntry, DetachBracket, FlattenBracket, ModifyBracket

_replace = msgspec.structs.replace


def _over(t: Turn, verb: str) -> bool:
    if t.b.phase in OVER and not t.b.open_qty:
        t.refuse("over", f"{verb} is not possible: it is {t.b.phase}")
        return True
    if t.b.phase is Phase.DETACHED:
        t.refuse("detached", f"{verb} is not possible: it is detached, its orders are no longer managed")
        return True
    return False


def cancel_entry(t: Turn, event: CancelEntry) -> None:
    """Cancel what is left of the entry; what is filled keeps its exits."""
    if _over(t, "cancel-entry"):
        return
    if t.b.definition.intent.shape is Shape.OCO:
        t.refuse("no_entry", "cancel-entry is not possible: an oco has no entry; use cancel or flatten")
        return
    if t.b.entry_over or t.b.entry_filled >= t.b.definition.intent.quantity:
        t.refuse("entry_done", "cancel-entry is not possible: no entry is working")
        return
    t.set(entry_stopped=True, reason=f"cancel-entry by {event.actor}")
    t.why = t.b.reason


def cancel_bracket(t: Turn, event: CancelBracket) -> None:
    """Cancel everything; refused where a position would be left naked."""
    if _over(t, "cancel"):
        return
    if t.b.entry_filled:
        t.refuse(
            "filled",
            f"cancel is not possible: {t.b.entry_filled} of the entry is filled; use cancel-entry to keep its"
            " protection or flatten to close it",
        )
        return
    t.set(entry_stopped=True, reason=f"cancel by {event.actor}")
    t.why = t.b.reason
    if t.b.definition.intent.shape is Shape.OCO:
        _give_up_claim(t)


def _give_up_claim(t: Turn) -> None:
    """An OCO that is cancelled claims no more than it has closed: its exits go, the position is the owner's again."""
    t.set(claim_over=True, phase=Phase.CLOSING)
    for lot in list(t.b.lots.values()):
        t.put_lot(lot, void=True)


def flatten_bracket(t: Turn, event: FlattenBracket) -> None:
    """Cancel everything and close what is open at the market."""
    if _over(t, "flatten"):
        return
    if t.b.phase is Phase.FROZEN:
        t.set(phase=Phase.EXITING)
    t.set(reason=f"flatten by {event.actor}")
    t.why = t.b.reason
    flatten(t)


def detach(t: Turn, event: DetachBracket) -> None:
    """Stop managing; every order at the venue stays as it is, everything held here is forgotten."""
    if _over(t, "detach"):
        return
    for arm in t.b.armed.values():
        t.ask(DisarmExit(bracket_id=t.bracket_id, leg=arm.leg, version=arm.version, incarnation=t.b.incarnation))
    if t.b.watching:
        t.ask(WatchCondition(on=False))
    t.why = f"detach by {event.actor}"
    t.set(phase=Phase.DETACHED, armed={}, watching=False)


def modify(t: Turn, event: ModifyBracket) -> None:
    """Change entry price and quantity before the first fill; exits at any time."""
    if _over(t, "modify"):
        return
    if t.b.phase is Phase.FROZEN or t.b.phase is Phase.EXITING:
        t.refuse("not_now", f"modify is not possible: it is {t.b.phase}")
        return
    changed = _changed_intent(t, event)
    if changed is None:
        return
    before = t.b.definition.intent
    if _entry_changed(event) and not _amend_entry(t, changed):
        return
    t.set(definition=_replace(t.b.definition, intent=changed))
    t.why = f"modified by {event.actor}"
    if changed.exits != before.exits:
        pairs = enumerate(zip(changed.exits, before.exits, strict=True), 1)
        _replace_exits(t, {number for number, (new, old) in pairs if new != old})


def _entry_changed(event: ModifyBracket) -> bool:
    return any(value is not None for value in (event.limit_price, event.stop_price, event.quantity))


def _amend_entry(t: Turn, changed: Intent) -> bool:
    if t.b.definition.intent.shape is Shape.OCO:
        t.refuse("no_entry", "modify of limit_price, stop_price or quantity is not possible: an oco has no entry")
        return False
    if t.b.entry_filled:
        t.refuse(
            "filled",
            "modify of limit_price, stop_price or quantity is not possible after the first fill; exits may be changed",
        )
        return False
    order = t.b.entry()
    if order is None or not order.alive:
        return True
    if not can_send(t):
        t.refuse("gate_closed", "modify is not possible: the venue cannot be reached; try again once it is")
        return False
    if order.life is not Life.WORKING or order.amending or order.canceling:
        t.refuse("not_acknowledged", "modify is not possible yet: the venue has not acknowledged the entry; try again")
        return False
    t.amend(order, changed.quantity, changed.limit_price, changed.stop_price)
    return True


def _changed_intent(t: Turn, event: ModifyBracket) -> Intent | None:
    """Return the intent as it would be, or None after a refusal."""
    intent, contract = t.b.definition.intent, t.b.definition.contract
    for name in ("limit_price", "stop_price", "target", "stop"):
        value: Decimal | None = getattr(event, name)
        if value is not None and not prices.on_grid(contract, value):
            step = prices.increment_at(contract, value)
            t.refuse(
                "price_grid", f"{name}: {value} is not a multiple of {step}, the price increment of its instrument"
            )
            return None
    if event.limit_price is not None and intent.order_type not in (OrderType.LMT, OrderType.STP_LMT):
        t.refuse("no_limit", f"limit_price: {event.limit_price} does not apply; the entry is {intent.order_type}")
        return None
    if event.stop_price is not None and intent.order_type not in (OrderType.STP, OrderType.STP_LMT):
        t.refuse("no_stop", f"stop_price: {event.stop_price} does not apply; the entry is {intent.order_type}")
        return None
    if event.quantity is not None and len(intent.exits) > 1:
        t.refuse(
            "tranches", f"quantity: {event.quantity} cannot be set on several tranches; flatten and send a new intent"
        )
        return None
    exits = intent.exits
    if any(value is not None for value in (event.target, event.stop, event.trail_amount, event.trail_percent)):
        if not 1 <= event.tranche <= len(exits):
            t.refuse("tranche", f"tranche: {event.tranche} is not one of its {len(exits)} tranches")
            return None
        tranche = _changed_tranche(t, exits[event.tranche - 1], event)
        if tranche is None:
            return None
        exits = (*exits[: event.tranche - 1], tranche, *exits[event.tranche :])
    changed = _replace(
        intent,
        limit_price=event.limit_price if event.limit_price is not None else intent.limit_price,
        stop_price=event.stop_price if event.stop_price is not None else intent.stop_price,
        quantity=event.quantity if event.quantity is not None else intent.quantity,
        exits=_resized(exits, event.quantity),
    )
    return changed if _sane(t, changed) else None


def _resized(exits: tuple[Tranche, ...], quantity: Decimal | None) -> tuple[Tranche, ...]:
    if quantity is None or not exits or exits[0].quantity is None:
        return exits
    return (_replace(exits[0], quantity=quantity),)


def _changed_tranche(t: Turn, tranche: Tranche, event: ModifyBracket) -> Tranche | None:
    for name, value, spec in (
        ("target", event.target, tranche.target),
        ("stop", event.stop, tranche.stop),
        ("trail_amount", event.trail_amount, tranche.trailing_stop),
        ("trail_percent", event.trail_percent, tranche.trailing_stop),
    ):
        if value is not None and spec is None:
            t.refuse("no_leg", f"{name}: {value} does not apply; tranche {event.tranche} has no such exit")
            return None
    if tranche.target is not None and event.target is not None:
        tranche = _replace(tranche, target=_replace(tranche.target, price=event.target, offset=None, percent=None))
    if tranche.stop is not None and event.stop is not None:
        tranche = _replace(tranche, stop=_replace(tranche.stop, price=event.stop, offset=None, percent=None))
    if tranche.trailing_stop is not None and event.trail_amount is not None:
        trail = _replace(tranche.trailing_stop, amount=event.trail_amount, percent=None)
        tranche = _replace(tranche, trailing_stop=trail)
    if tranche.trailing_stop is not None and event.trail_percent is not None:
        trail = _replace(tranche.trailing_stop, percent=event.trail_percent, amount=None)
        tranche = _replace(tranche, trailing_stop=trail)
    return tranche


def _sane(t: Turn, intent: Intent) -> bool:
    """Whether stops stay on the losing side of targets and of an unfilled entry; refuses otherwise."""
    side = legs.exit_side(t.b.definition)
    for tranche in intent.exits:
        stop = tranche.stop.price if tranche.stop else None
        target = tranche.target.price if tranche.target else None
        if stop is not None and target is not None and prices.is_through(side, target, stop):
            t.refuse("crossed", f"stop {stop} is not on the losing side of target {target} of a {side} exit")
            return False
        limit = intent.limit_price
        if limit is not None and stop is not None and not t.b.entry_filled and prices.is_through(side, limit, stop):
            word = "below" if side.sign < 0 else "above"
            t.refuse(
                "crossed",
                f"stop {stop} is not {word} the entry {limit} of a {intent.side}; a protective {side} stop must be"
                f" {word}",
            )
            return False
    return True


def _replace_exits(t: Turn, tranches: set[int]) -> None:
    """Where IB writes quantities a member cannot be amended: its group is cancelled and placed anew."""
    for lot in list(t.b.lots.values()):
        grouped = t.b.definition.oca_native and t.grouped(lot)
        alive = any(order.alive for order in t.lot_orders(lot.number))
        if lot.tranche in tranches and lot.remaining and grouped and alive:
            t.put_lot(lot, void=True)
