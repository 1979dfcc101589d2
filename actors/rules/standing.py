"""What was closed too much, and where a bracket stands: both read off its facts.

Law: an overfill is recorded in the step that shows it and flattened once; no phase is kept beside the facts.
"""

from __future__ import annotations

from actors.rules import legs
from actors.rules.bracket_state import ZERO, Incident, Phase, written
from actors.rules.legs import EXCESS
from actors.rules.turn import Turn, can_send
from messages.intent import OrderType, Shape, TimeInForce
from messages.orders import Role


def watch_overfill(t: Turn) -> None:
    """Record exits beyond the entry, stop every exit, and once it is confirmed flatten the excess once (rule 4)."""
    over = -t.b.open_qty
    if over <= 0:
        t.set(overfill_noted=ZERO, excess_due=False)
        return
    if over > t.b.overfill_noted:
        t.set(overfill_noted=over)
        sentence = f"exits filled {over} more than was open"
        t.ask(Incident(code="oca_overfill", sentence=f"bracket {t.bracket_id}: {sentence}"))
        t.page("oca_overfill", f"{sentence}; it is confirmed with the venue, then flattened once")
        for order in t.b.orders.values():
            if order.role is Role.EXIT and order.cum_qty:
                t.query(order)
        t.timer("excess", t.policy.cancel_wait_s)
    for order in t.living():
        if order.role is Role.EXIT:
            t.cancel(order, "exits exceeded what was open")
    working = any(order.role is Role.EXCESS and order.alive for order in t.b.orders.values())
    if t.b.excess_due and not working and can_send(t):
        t.set(excess_due=False)
        taken = legs.order_id(t.bracket_id, EXCESS, t.number(EXCESS))
        opening = legs.exit_side(t.b.definition).exit_side
        day = TimeInForce.DAY
        t.submit(written(t.b, taken, EXCESS, Role.EXCESS, opening, over, OrderType.MKT, time_in_force=day), 0)


def derive_phase(t: Turn) -> None:
    """Read the phase off the facts. FROZEN and DETACHED end only by facts, never by themselves."""
    living = bool(t.living())
    finished = t.entry_done() or t.b.entry_stopped
    if t.b.phase is Phase.FROZEN:
        if not t.b.open_qty and not living and finished:
            t.set(phase=Phase.CLOSED)
        return
    t.set(phase=_phase(t, living))


def _phase(t: Turn, living: bool) -> Phase:
    unmanaged = not t.b.definition.intent.exits and not t.b.flatten
    if t.b.open_qty and not (unmanaged and t.b.open_qty > 0):
        return Phase.EXITING if t.b.flatten or t.b.fired or t.b.open_qty < 0 else Phase.PROTECTED
    if t.entry_may_fill() and not t.b.entry_stopped:
        return Phase.ENTERING
    wanted = t.b.definition.intent.shape is not Shape.OCO and not t.b.entry_over and not t.b.entry_stopped
    if wanted and not t.entry_done():
        return Phase.SCHEDULED
    return Phase.CLOSING if living else Phase.CLOSED
