"""What an event says about a bracket's orders and fills, whatever phase it is in.

Law: executions are the truth of fills, booked once per execution id and restated by a higher revision; nothing that the
venue says is dropped, however late (design law 6).
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from actors.rules import legs
from actors.rules.bracket_state import AMEND_TRIES, ZERO, BookFill, Fill, Life, Lot, VenueOrder
from actors.rules.legs import ENTRY, EXCESS, FLAT
from actors.rules.turn import Turn
from actors.rules.vanished import absent, explained, taken_back
from messages.base import Message
from messages.exits import BracketStarted, BracketTimed, ConditionMet
from messages.intent import OrderType, Shape
from messages.ledger import TrailMoved
from messages.orders import (
    AmendRejected,
    BracketPictured,
    CancelRejected,
    FillCorrected,
    GateClosed,
    GateOpened,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderDeferred,
    OrderDenied,
    OrderEchoed,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    OrderUnknown,
    PicturedOrder,
    Role,
)
from messages.risk import AbsenceExplained

ENDED = {OrderCanceled: "canceled", OrderExpired: "expired", OrderRejected: "rejected", OrderAbsent: "absent"}


def note(t: Turn, event: Message) -> None:
    """Book what an event says. Commands are the business of `settle`."""
    kind = type(event)
    if kind in ENDED:
        _note_end(t, event, ENDED[kind])
    elif isinstance(event, FillCorrected):
        _note_correction(t, event)
    elif isinstance(event, OrderFilled):
        _note_fill(t, event)
    elif isinstance(event, AbsenceExplained):
        inferred = explained(t, event)
        if inferred is not None:
            _note_fill(t, inferred)
    elif isinstance(event, BracketPictured):
        _note_picture(t, event)
    elif isinstance(event, BracketTimed):
        t.set(timers=t.b.timers - {event.key})
    elif isinstance(event, BracketStarted):
        _note_start(t, event)
    elif isinstance(event, ConditionMet):
        t.set(condition_met_ns=event.ts_ns, watching=False)
    elif isinstance(event, GateOpened):
        t.set(gate_open=True)
    elif isinstance(event, GateClosed):
        t.set(gate_open=False)
    elif isinstance(event, TrailMoved):
        _note_trail(t, event)
    else:
        _note_order(t, event)


def role_of(leg: str) -> Role:
    """Return what an order of a leg does."""
    return Role.ENTRY if leg == ENTRY else Role.EXCESS if leg == EXCESS else Role.EXIT


def _note_start(t: Turn, event: BracketStarted) -> None:
    """A new actor has nothing armed, no timer and no picture; what it sent before is the venue's to say."""
    t.set(
        incarnation=event.incarnation,
        pictured=False,
        timers=frozenset(),
        armed={},
        watching=False,
        cover_due=t.b.cover_due or "cover" in t.b.timers,
    )
    for order in t.living():
        if order.canceling or order.amending:
            t.put(order, canceling=False, amending=False)


def _note_trail(t: Turn, event: TrailMoved) -> None:
    """Keep the tighter of two marks: news may be late, a stop never loosens (S11)."""
    leg = event.row_id.partition(".")[2]
    known, sign = t.b.trails.get(leg), -legs.exit_side(t.b.definition).sign
    if known is None or (event.stop - known[1]) * sign > 0 or (event.high_water - known[0]) * sign > 0:
        t.b.trails[leg] = (event.high_water, event.stop)


def _note_order(t: Turn, event: Message) -> None:
    order = t.b.orders.get(getattr(event, "order_id", ""))
    if order is None:
        if not isinstance(event, OrderSubmitted):
            return
        # A child has sent its template: its news may come after the broker's (design.md §3).
        order = _adopt(t, event.order_id, event.quantity)
        if order is None:
            return
    if isinstance(event, OrderSubmitted):
        _note_submitted(t, order, event)
    elif isinstance(event, OrderDeferred):
        _note_deferred(t, order)
    elif isinstance(event, OrderDenied):
        _note_denied(t, order, event)
    elif isinstance(event, OrderAccepted):
        if order.alive or order.ended in ("absent", "canceled", "rejected"):
            t.put(order, life=Life.WORKING, ended="", perm_id=event.perm_id, client_id=event.client_id)
    elif isinstance(event, OrderEchoed):
        order = t.put(
            order,
            life=Life.WORKING if order.ended == "filled" and event.quantity > order.cum_qty else order.life,
            quantity=event.quantity,
            amending=False,
            amend_fails=0 if order.amend_to and event.quantity == order.amend_to[0] else order.amend_fails,
            limit_price=event.limit_price if event.limit_price is not None else order.limit_price,
            stop_price=event.stop_price if event.stop_price is not None else order.stop_price,
        )
        if order.alive and order.cum_qty >= order.quantity:  # its group cut it to what it had filled
            t.kill(order, "filled")
    elif isinstance(event, OrderUnknown):
        if order.alive:
            t.put(order, life=Life.UNKNOWN)
            t.timer(f"query:{order.order_id}", t.policy.echo_s)
    elif isinstance(event, AmendRejected):
        note_amend_failed(t, order, event.reason)
    elif isinstance(event, CancelRejected):
        pass  # a question: the broker asks the venue and says what is true


def _note_deferred(t: Turn, order: VenueOrder) -> None:
    """Never written: forget it, and keep its id for the next try."""
    t.set(gate_open=False)
    if order.life is not Life.ASKED or order.incarnation != t.b.incarnation:
        t.put(order, amending=False, canceling=False)
        return
    del t.b.orders[order.order_id]
    if order.role is Role.EXCESS:
        t.set(excess_due=True)
    lot = t.b.lots.get(order.lot)
    if lot is not None:
        t.put_lot(lot, ids={**lot.ids, order.leg: order.order_id})
    else:
        t.b.numbers[order.leg] -= 1


def _note_submitted(t: Turn, order: VenueOrder, event: OrderSubmitted) -> None:
    """Written. An order that was thought denied or absent, and had never been written, lives after all."""
    never = order.client_id is None and order.ended in ("denied", "absent")
    life = Life.SENT if order.life is Life.ASKED or never else order.life
    t.put(
        order, life=life, ended="" if never else order.ended, quantity=event.quantity, client_id=event.client_id
    )


def _note_denied(t: Turn, order: VenueOrder, event: OrderDenied) -> None:
    """Not written by our own decision; of a working order it is the amendment that was refused."""
    if event.code == "duplicate":
        if order.life is Life.ASKED:  # written for an older incarnation, and we never heard what became of it
            t.query(t.put(order, life=Life.UNKNOWN))
            t.timer(f"query:{order.order_id}", t.policy.echo_s)
        return
    if order.life is Life.ASKED:
        # Asked by an older incarnation: it never was, and may be asked for again. Where the present one has asked under
        # the same id, the denial is not for it.
        if event.code == "incarnation" and order.incarnation == t.b.incarnation:
            return
        t.kill(order, "absent" if event.code == "incarnation" else "denied")
        t.set(reason=event.reason)
    elif order.alive and order.amending:
        note_amend_failed(t, order, event.reason)


def note_amend_failed(t: Turn, order: VenueOrder, reason: str) -> None:
    """The old order stands. An exit that cannot be brought to its size is taken away and placed anew."""
    order = t.put(order, amending=False, amend_fails=order.amend_fails + 1)
    if order.role is Role.ENTRY:
        intent = t.b.definition.intent
        intent = msgspec.structs.replace(
            intent, quantity=order.quantity, limit_price=order.limit_price, stop_price=order.stop_price
        )
        t.set(definition=msgspec.structs.replace(t.b.definition, intent=intent))
    elif order.amend_fails < AMEND_TRIES or order.canceling:
        return
    elif not t.may_reprotect():
        t.freeze("amend_failed", f"{order.order_id}: amendments failed once too often: {reason}")
    else:
        t.page("amend_failed", f"{order.order_id}: {order.amend_fails} amendments failed: {reason}; it is placed anew")
        t.cancel(order, f"{order.amend_fails} amendments failed: {reason}")


def _note_end(t: Turn, event: Message, ended: str) -> None:
    order = t.b.orders.get(getattr(event, "order_id", ""))
    if order is None or not order.alive:
        return
    if ended == "absent" and order.life is Life.ASKED and order.incarnation == t.b.incarnation:
        return  # the answer to an older question: the broker has not yet come to this one
    if ended == "absent":
        absent(t, order)
        t.why = t.why or ended
        return
    t.kill(order, "filled" if order.cum_qty >= order.quantity else ended)
    t.why = str(getattr(event, "reason", "")) or ended


def _note_fill(t: Turn, event: OrderFilled) -> None:
    known = t.b.fills.get(event.exec_id)
    if known is not None:
        if event.revision > known.revision:
            _restate(t, event, known)
        return
    order = t.b.orders.get(event.order_id) or _adopt(t, event.order_id, event.cum_qty)
    if order is None:
        return
    t.b.fills[event.exec_id] = Fill(
        order_id=event.order_id, role=order.role, qty=event.last_qty, px=event.last_px, revision=event.revision
    )
    _book(t, order, event.last_qty, event.last_px)
    if order.role is Role.ENTRY:
        t.set(last_entry_px=event.last_px)
        correction = taken_back(t, event)
        if correction is not None:  # what was inferred is told for real: it counts once
            _restate(t, correction, t.b.fills[correction.exec_id])
            t.ask(BookFill(fill=correction))


def _note_correction(t: Turn, event: FillCorrected) -> None:
    known = t.b.fills.get(event.exec_id)
    if known is None:
        order = t.b.orders.get(event.order_id) or _adopt(t, event.order_id, event.cum_qty)
        if order is None:
            return
        known = Fill(order_id=event.order_id, role=order.role, qty=ZERO, px=ZERO, revision=0)
    if event.revision > known.revision:
        _restate(t, event, known)


def _restate(t: Turn, event: OrderFilled, known: Fill) -> None:
    """A correction replaces its execution: take the old one out, book the new one (quantity 0: busted)."""
    order = t.b.orders[known.order_id]
    _book(t, order, -known.qty, known.px)
    t.b.fills[event.exec_id] = msgspec.structs.replace(
        known, qty=event.last_qty, px=event.last_px, revision=event.revision
    )
    _book(t, t.b.orders[known.order_id], event.last_qty, event.last_px)
    after = t.b.orders[known.order_id]
    if order.ended == "filled" and after.cum_qty >= after.quantity:  # restated, and complete all the same
        t.put(after, ended="filled")


def _book(t: Turn, order: VenueOrder, qty: Decimal, px: Decimal) -> None:
    order = t.put(order, cum_qty=order.cum_qty + qty)
    if order.alive and order.cum_qty >= order.quantity:
        t.kill(order, "filled")
    elif order.ended == "filled" and order.cum_qty < order.quantity:
        t.put(order, ended="canceled")
    if order.role is Role.ENTRY:
        t.set(entry_filled=t.b.entry_filled + qty, entry_cost=t.b.entry_cost + qty * px)
    elif order.role is Role.EXCESS:
        t.set(excess_filled=t.b.excess_filled + qty)
    else:
        t.set(exit_filled=t.b.exit_filled + qty)
        lot = t.b.lots.get(order.lot)
        if lot is not None:
            t.put_lot(lot, exited=lot.exited + qty)


# -- what the venue shows that we did not know ------------------------------------------------------------------


def _note_picture(t: Turn, event: BracketPictured) -> None:
    """The venue's whole picture: what lives, what ended, and, by its absence, what never arrived."""
    shown = {picture.order_id: picture for picture in event.orders}
    for picture in event.orders:
        order = t.b.orders.get(picture.order_id)
        if order is None:
            order = _adopt(t, picture.order_id, picture.quantity, picture)
            if order is None:
                continue
        _see(t, order, picture)
    for order in t.living():
        asked_now = order.life is Life.ASKED and order.incarnation == t.b.incarnation  # still on its way to the broker
        if order.order_id not in shown and not asked_now:
            absent(t, order)
    for order in t.living():
        lot = t.b.lots.get(order.lot)
        if lot is not None and order.role is Role.EXIT and order.order_id in shown:
            # What it can take is taken. Without a group siblings overlap, and each was once written for all of it.
            takes = lot.exited + order.leaves if t.b.definition.oca_native else order.quantity
            t.put_lot(lot, quantity=max(lot.quantity, takes))
    t.set(pictured=True, gate_open=True)


def _see(t: Turn, order: VenueOrder, picture: PicturedOrder) -> None:
    order = _move_home(t, order, picture)
    if picture.live:
        t.put(
            order,
            life=Life.WORKING,
            ended="",
            quantity=max(picture.quantity, order.cum_qty),
            perm_id=picture.perm_id,
            client_id=picture.client_id,
            limit_price=picture.limit_price if picture.limit_price is not None else order.limit_price,
            stop_price=picture.stop_price if picture.stop_price is not None else order.stop_price,
        )
    elif order.alive:
        t.kill(order, "filled" if order.cum_qty >= order.quantity else "canceled")


def _adopt(t: Turn, order_id: str, quantity: Decimal, picture: PicturedOrder | None = None) -> VenueOrder | None:
    """Take in an order that carries our ref but that we lost: sent before a crash, and never recorded."""
    try:
        _, leg, number = legs.split_order_id(order_id)
    except ValueError:
        return None
    role, spec = role_of(leg), t.leg(leg)
    t.b.numbers[leg] = max(t.b.numbers.get(leg, 0), number)
    lot = _adopted_lot(t, order_id, leg, quantity, picture) if role is Role.EXIT else 0
    if role is Role.EXIT and legs.ENTRY not in t.b.numbers and t.b.definition.intent.shape is not Shape.OCO:
        t.set(entry_over=True)  # there is no exit without an entry: it was sent, and is never sent again
    if spec is not None and spec.held and spec.protective:  # it is only ever sent because it fired
        t.b.fired.setdefault(spec.tranche, leg)
        t.set(entry_stopped=True)
        if not t.b.lots[lot].fired:
            t.put_lot(t.b.lots[lot], fired=leg, judging=False)
    elif spec is not None and spec.held:
        t.set(touched=t.b.touched | {leg})
    return t.put(
        VenueOrder(
            order_id=order_id,
            leg=leg,
            lot=lot,
            role=role,
            quantity=quantity,
            life=Life.WORKING,
            group=picture.oca_group if picture else None,
            market=leg == FLAT or (spec is not None and legs.leg_order_type(spec) is OrderType.MKT),
            incarnation=t.b.incarnation,
        )
    )


def _group_lot(t: Turn, group: str | None) -> int:
    """Return the lot that a group's name names, or 0."""
    prefix = legs.group_name(t.bracket_id, 0)[:-1]
    number = (group or "").removeprefix(prefix)
    return int(number) if group and group.startswith(prefix) and number.isdigit() else 0


def _adopted_lot(t: Turn, order_id: str, leg: str, quantity: Decimal, picture: PicturedOrder | None) -> int:
    """Return the lot of an adopted exit: its group's, else the one that plans this very order, else by its tranche."""
    spec = t.leg(leg)
    tranche = spec.tranche if spec else 1 if t.legs() else 0
    planned = [lot.number for lot in t.b.lots.values() if lot.ids.get(leg) == order_id]
    fired = spec is None or (spec.held and spec.protective)  # sent alone, after its siblings: it has a lot of its own
    same = [
        lot.number
        for lot in t.b.lots.values()
        if lot.tranche == tranche
        and not (t.b.definition.oca_native or fired)
        and not any(order.alive and (order.leg == leg or order.market) for order in t.lot_orders(lot.number))
    ]
    named = _group_lot(t, picture.oca_group if picture else None)
    number = named or (planned or same[-1:] or [t.next_lot()])[0]
    lot = t.b.lots.get(number)
    if lot is None:
        t.put_lot(Lot(number=number, tranche=tranche, quantity=quantity, fired=FLAT if leg == FLAT else ""))
    else:
        t.put_lot(lot, ids={name: taken for name, taken in lot.ids.items() if name != leg})
    return number


def _move_home(t: Turn, order: VenueOrder, picture: PicturedOrder) -> VenueOrder:
    """An order that was adopted from its fills alone belongs to the lot that its group names."""
    home = _group_lot(t, picture.oca_group)
    if order.role is not Role.EXIT or not home or home == order.lot:
        return order
    old = t.b.lots.get(order.lot)
    if old is not None:
        t.put_lot(old, quantity=max(ZERO, old.quantity - order.cum_qty), exited=old.exited - order.cum_qty)
    spec = t.leg(order.leg)
    new = t.b.lots.get(home) or Lot(number=home, tranche=spec.tranche if spec else 1, quantity=order.cum_qty)
    t.put_lot(new, exited=new.exited + order.cum_qty)
    return t.put(order, lot=home, group=picture.oca_group)
