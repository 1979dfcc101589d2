"""The rows of the bracket's table that decide something: what ended, what fired, what timed out.

Law: what protects a position and ends without our wish is placed again, twice in a minute at most, or a person is
called; a cancel that nobody here asked for is a person's (trading-rules.md 26).
"""

from __future__ import annotations

from actors.rules.bracket_state import Life, Lot, Phase, VenueOrder
from actors.rules.cover import fire, own_up
from actors.rules.facts import note_amend_failed
from actors.rules.legs import LegKind
from actors.rules.turn import Turn
from actors.rules.vanished import unanswered
from messages.exits import BracketTimed, ExitRefused, ExitTriggered
from messages.orders import (
    AmendRejected,
    BracketPictured,
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderFilled,
    OrderRejected,
    Role,
)

NOT_JOINED = 10326
"""IB's refusal of an order that would join or change a group at work (trading-rules.md 1 and 3)."""


def entry_ended(t: Turn, event: OrderEvent) -> None:
    """The entry is dead: what is filled keeps its exits; a denial or rejection ends an empty bracket."""
    order = t.b.orders.get(event.order_id)
    if order is None or event.order_id not in t.died:
        return
    if isinstance(event, OrderDenied):
        if order.ended != "denied":
            return
        t.why = event.reason
        t.page("entry_denied", f"the entry was not sent: {event.reason}", severity="warning")
    elif isinstance(event, OrderRejected):
        t.page("entry_rejected", f"the venue refused the entry ({event.code}): {event.reason}", severity="warning")


def entry_filled(t: Turn, event: OrderFilled) -> None:
    """What fills while the bracket is frozen is not covered by itself: a person must know."""
    if t.b.phase is Phase.FROZEN:
        t.page("filled_frozen", f"{event.last_qty} of the entry filled while it is frozen; nothing covers it: flatten")


def excess_changed(t: Turn, event: OrderEvent) -> None:
    """The order that flattens an overfill ended without filling: once more, as long as a re-protection would be."""
    order = t.b.orders.get(event.order_id)
    if order is None or event.order_id not in t.died or t.b.open_qty >= 0 or isinstance(event, OrderFilled):
        return
    if order.ended == "absent":
        t.set(excess_due=True)
    elif t.may_reprotect():
        t.page("excess_ended", f"{order.order_id} ended ({order.ended}); what was closed too much is flattened again")
        t.timer("excess", t.policy.cancel_wait_s)
    else:
        t.page("excess_spent", f"{order.order_id} ended ({order.ended}) once too often; a person must flatten it")


def exit_filled(t: Turn, event: OrderFilled) -> None:
    """A resting stop that fills has fired."""
    order = t.b.orders.get(event.order_id)
    if order is None:
        return
    lot = t.b.lots.get(order.lot)
    if lot is None:
        return
    leg = t.leg(order.leg)
    if leg is not None and leg.protective and not lot.fired:
        t.why = f"the {leg.name} filled {event.last_qty} at {event.last_px}"
        fire(t, leg, None)


def exit_ended(t: Turn, event: OrderEvent) -> None:
    """Judge an exit's end: natural where its lot is done or its group was told; else replace it or call a person."""
    order = t.b.orders.get(event.order_id)
    if order is None or event.order_id not in t.died:
        return
    lot = t.b.lots.get(order.lot)
    if lot is None or not lot.remaining or lot.void:
        return
    if order.ended == "filled" or (order.ended == "absent" and isinstance(event, OrderDenied)):
        return
    if not isinstance(event, OrderCanceled):
        _ended_badly(t, event, order, lot)
    elif order.cancels:
        return
    elif event.requested or _cascaded(t, lot, order):
        if lot.fired and not _closes(lot, order):
            return  # what closes the lot now took it along
        # Its sibling has probably closed the lot, and the fill is on the way.
        _wait(t, lot, "settle")
    elif _closes(lot, order):
        _ended_badly(t, event, order, lot)
    elif not lot.fired:
        _wait(t, lot, "judge")


def _closes(lot: Lot, order: VenueOrder) -> bool:
    """Whether an order is the one that a fired lot waits for."""
    return bool(lot.fired) and (order.leg == lot.fired or order.market)


def _wait(t: Turn, lot: Lot, kind: str) -> None:
    """Do nothing for a moment: what explains an end may be on its way."""
    t.put_lot(lot, judging=True)
    t.timer(f"{kind}:{lot.number}", t.policy.judge_s)


def _cascaded(t: Turn, lot: Lot, order: VenueOrder) -> bool:
    """Whether a sibling's requested cancel explains this end: IB cancels the whole group (trading-rules.md 2)."""
    if lot.fired and not _closes(lot, order):
        return True
    return any(other.cancels for other in t.lot_orders(lot.number) if other.order_id != order.order_id)


def _ended_badly(t: Turn, event: OrderEvent, order: VenueOrder, lot: Lot) -> None:
    why = str(getattr(event, "reason", "")) or order.ended
    if isinstance(event, OrderRejected) and event.code == NOT_JOINED and t.b.definition.oca_native:
        # The venue lets nobody join a group that works: the group goes, what is left is placed in a new one.
        if t.may_reprotect():
            t.page("group_closed", f"exit {order.order_id} may not join its group ({why}); the group is placed anew",
                   severity="critical")
            t.put_lot(lot, void=True)
        else:
            t.freeze("reprotect_spent", f"exit {order.order_id} may not join its group ({why}), once too often")
    elif "OCA group" in why or isinstance(event, OrderDenied):
        # A sibling has probably closed the lot: its fill is on the way. Wait a moment before placing anything.
        _wait(t, lot, "settle")
    elif not t.may_reprotect():
        t.freeze("reprotect_spent", f"exit {order.order_id} ended ({order.ended}: {why}) once too often")
    else:
        t.page(
            "exit_ended", f"exit {order.order_id} ended ({order.ended}: {why}); it is placed again", severity="critical"
        )


def amend_failed(t: Turn, event: AmendRejected) -> None:
    """The old order may live on, or not: the venue is asked (trading-rules.md 20)."""
    order = t.b.orders.get(event.order_id)
    if order is not None and order.alive:
        t.query(order)
    t.page("amend_rejected", f"{event.order_id}: {event.reason} ({event.code}); the old order stands", "warning")


def exit_triggered(t: Turn, event: ExitTriggered) -> None:
    """A held exit met its price: a target now rests, a stop closes its tranche."""
    leg = t.leg(event.leg)
    if leg is None or event.incarnation != t.b.incarnation:
        return
    t.b.armed.pop(leg.name, None)
    t.why = event.reason
    if leg.kind is LegKind.TARGET:
        t.set(touched=t.b.touched | {leg.name})
        return
    if t.b.phase is Phase.FROZEN:
        t.set(phase=Phase.EXITING)  # protection is left at work, and this is it
    if leg.trail is not None and event.high_water is not None:
        t.b.trails[leg.name] = (event.high_water, event.level)  # ratchets are told once a second: here is the last one
    own_up(t, leg, event.level)
    fire(t, leg, event.level)


def exit_refused(t: Turn, event: ExitRefused) -> None:
    """A held exit cannot be watched: nothing protects that leg, so a person must know at once."""
    t.page(
        "exit_not_watched", f"{event.leg} cannot be watched: {event.reason}; the position depends on its other exits"
    )


def look_again(t: Turn, event: BracketPictured) -> None:
    """After the picture: what was being waited for is waited for again; a new actor has no timers."""
    entry = t.b.entry()
    if entry is not None and not entry.alive and (entry.ended != "absent" or t.b.entry_filled):
        t.set(entry_over=True)
    for lot in t.b.lots.values():
        if lot.judging:
            human = any(o.ended == "canceled" and not o.cancels for o in t.lot_orders(lot.number))
            t.timer(f"{'judge' if human else 'settle'}:{lot.number}", t.policy.judge_s)
    if t.b.open_qty < 0 and t.b.overfill_noted:
        t.timer("excess", t.policy.cancel_wait_s)


def timed(t: Turn, event: BracketTimed) -> None:
    """A deadline passed."""
    kind, _, what = event.key.partition(":")
    if kind == "cover":
        t.set(cover_due=True)
    elif kind == "excess":
        t.set(excess_due=t.b.open_qty < 0)
    elif kind == "recancel":
        _recancel(t, what)
    elif kind == "amend":
        _amend_unanswered(t, what)
    elif kind == "query":
        _still_unknown(t, what)
    elif kind == "seek":
        unanswered(t, what)
    elif kind in ("echo", "judge", "settle", "race"):
        lot = t.b.lots.get(int(what))
        if lot is None:
            return
        if lot.judging and kind in ("judge", "settle"):
            lot = t.put_lot(lot, judging=False)
        if lot.remaining and not lot.void:
            {"echo": _echo_late, "judge": _judge, "settle": _settle_lot, "race": _race}[kind](t, lot)


def _recancel(t: Turn, order_id: str) -> None:
    order = t.b.orders.get(order_id)
    if order is None or not order.alive or not order.canceling:
        return
    if order.cancels == t.policy.recancel_max:
        t.page(
            "cancel_unanswered", f"{order_id}: {order.cancels} cancels were not answered; its quantity stays reserved"
        )
    t.put(order, canceling=False)
    if t.b.gate_open:
        t.query(order)


def _still_unknown(t: Turn, order_id: str) -> None:
    """What became of it is asked until somebody knows."""
    order = t.b.orders.get(order_id)
    if order is None or order.life is not Life.UNKNOWN:
        return
    if t.b.gate_open:
        t.query(order)
    t.timer(f"query:{order_id}", t.policy.echo_s)


def _amend_unanswered(t: Turn, order_id: str) -> None:
    order = t.b.orders.get(order_id)
    if order is None or not order.alive or not order.amending:
        return
    t.query(order)
    if order.role is Role.ENTRY:
        t.page("amend_unanswered", f"{order_id}: its amendment is not answered", "warning")
        t.put(order, amending=False)
    else:
        note_amend_failed(t, order, "no answer")


def _echo_late(t: Turn, lot: Lot) -> None:
    """The venue did not shrink a sibling in time: take the group down and place it anew (trading-rules.md 1)."""
    if t.b.phase is Phase.FROZEN or not t.b.gate_open:
        return
    wrong = [o for o in t.lot_orders(lot.number) if o.alive and o.life is Life.WORKING and o.leaves != lot.remaining]
    if not wrong:
        return
    names = ", ".join(f"{o.order_id} shows {o.leaves}" for o in wrong)
    if t.may_reprotect():
        t.page("oca_echo", f"{lot.remaining} is left in its group, yet {names}; the group is placed anew", "critical")
        t.put_lot(lot, void=True)
    else:
        t.freeze("oca_echo", f"{lot.remaining} is left in its group, yet {names}, once too often")


def _judge(t: Turn, lot: Lot) -> None:
    """Nothing explains why an exit was cancelled: a person did it."""
    gone = [o for o in t.lot_orders(lot.number) if o.ended == "canceled" and not o.cancels]
    if not gone or lot.fired:
        return
    if t.policy.human_cancel == "freeze":
        t.freeze("human_cancel", f"{gone[-1].order_id} was cancelled, and not by us")
    elif t.may_reprotect():
        t.page("human_cancel", f"{gone[-1].order_id} was cancelled, and not by us; it is placed again", "critical")
        t.put_lot(t.b.lots[lot.number], void=True)
    else:
        t.freeze("reprotect_spent", f"{gone[-1].order_id} was cancelled, and not by us, once too often")


def _settle_lot(t: Turn, lot: Lot) -> None:
    """Nothing has explained it yet: what is missing is placed again."""
    if t.may_reprotect():
        sentence = f"an exit of lot {lot.number} ended and no fill explains it; it is placed again"
        t.page("exit_ended", sentence, severity="critical")
    else:
        t.freeze("reprotect_spent", f"an exit of lot {lot.number} ended and no fill explains it, once too often")


def _race(t: Turn, lot: Lot) -> None:
    """Siblings without a group did not die in time (trading-rules.md 3)."""
    alive = [o for o in t.lot_orders(lot.number) if o.alive]
    if not alive or not lot.fired:
        return
    for order in alive:
        t.query(order)
    names = ", ".join(order.order_id for order in alive)
    if t.policy.exit_race == "fast":
        t.put_lot(lot, race_over=True)
        t.page("exit_race", f"{names} did not die in time; the {lot.fired} is sent all the same")
    else:
        if all(order.cancels <= 1 for order in alive):  # a person is called once, then when the cancels are spent
            t.page("exit_race", f"{names} did not die in time; the {lot.fired} waits for it")
        t.timer(f"race:{lot.number}", t.policy.cancel_wait_s)
