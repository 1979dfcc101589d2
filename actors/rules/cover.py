"""What must stand at the venue for what is open: lots, their exits, the entry, the excess.

Law: `settle` looks at facts only and asks for the difference between what is and what should be, so that it may be
called after any event, in any order, any number of times. One exit budget: a lot never exceeds what was filled for it
(trading-rules.md 1-5; domain.md §2.1).
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from actors.rules import legs, prices
from actors.rules.bracket_state import AMEND_TRIES, ZERO, Life, Lot, Phase, VenueOrder, WatchCondition
from actors.rules.legs import FLAT, Leg, LegKind
from actors.rules.standing import derive_phase, watch_overfill
from actors.rules.turn import SECOND, Turn, can_send
from actors.rules.vanished import seek
from messages.exits import ArmExit, DisarmExit
from messages.intent import OrderType, Session, Shape
from messages.market import TriggerKind
from messages.orders import Role, SubmitOrder


def settle(t: Turn) -> None:
    """Ask for whatever is missing, take away whatever is too much, then say where the bracket stands."""
    if t.b.phase is Phase.DETACHED:
        return
    if t.b.pictured:
        seek(t)
        watch_overfill(t)
        if t.b.phase is Phase.FROZEN:
            guard_frozen(t)
        else:
            if t.b.entry_stopped:
                stop_entry(t)
            else:
                send_entry(t)
            for tranche, share in t.shares().items():
                if tranche or t.b.flatten:
                    cover_tranche(t, tranche, share)
    derive_phase(t)


def guard_frozen(t: Turn) -> None:
    """Frozen: nothing new, but nothing may exceed what is open, and what is held stays armed."""
    stop_entry(t)
    for lot in list(t.b.lots.values()):
        joined = t.b.definition.oca_native and t.grouped(lot)
        for order in t.lot_orders(lot.number):
            if order.alive and not lot.remaining:
                t.cancel(order, "its sibling closed the position")
            elif order.leaves > lot.remaining and not joined and not order.market:
                _resize(t, lot, order)
    for tranche in t.shares():
        arm_tranche(t, tranche)


# -- the entry -------------------------------------------------------------------------------------------------


def stop_entry(t: Turn) -> None:
    """Cancel whatever of the entry may still fill."""
    for order in t.living():
        if order.role is Role.ENTRY:
            t.cancel(order, t.b.reason or "no more entry is wanted")
    if t.b.watching:
        t.set(watching=False)
        t.ask(WatchCondition(on=False))


def send_entry(t: Turn) -> None:
    """Transmit the entry, once, inside its validity, after its rule."""
    intent = t.b.definition.intent
    if intent.shape is Shape.OCO or t.b.entry_over or t.entry_may_fill() or t.b.entry_filled:
        return
    if intent.when is not None and not t.b.condition_met_ns:
        if not t.b.watching:
            t.set(watching=True)
            t.ask(WatchCondition())
        return
    valid = t.b.definition.expires_ns - t.b.definition.opened_ns
    started = t.b.condition_met_ns or t.b.definition.opened_ns
    if t.now > started + valid:
        t.set(entry_over=True, reason=f"stale: not transmitted within {valid / SECOND:g} s")
        t.why = t.b.reason
        return
    if can_send(t):
        t.submit(t.entry_order(), 0)
    else:
        t.timer("stale", (started + valid - t.now) / SECOND + 0.001)


# -- lots ------------------------------------------------------------------------------------------------------


def cover_tranche(t: Turn, tranche: int, share: Decimal) -> None:
    """Give a tranche's filled share its lots, and each lot its exits."""
    for lot in _lots(t, tranche):
        _close_dead(t, lot)
        lot = t.b.lots[lot.number]
        fired = FLAT if t.b.flatten else t.b.fired.get(tranche, "")
        if fired and lot.remaining and not lot.void and not lot.fired:
            t.put_lot(lot, fired=fired, judging=False)  # a lot that was not known when it was flattened, or fired
    growth = share - sum((lot.quantity for lot in _lots(t, tranche)), ZERO)
    if growth > 0:
        _grow(t, tranche, growth)
    elif growth < 0:
        _shrink(t, tranche, -growth)
    for lot in _lots(t, tranche):
        work_lot(t, t.b.lots[lot.number])
        _watch_echo(t, t.b.lots[lot.number])
    arm_tranche(t, tranche)


def _close_dead(t: Turn, lot: Lot) -> None:
    """A lot whose orders are all dead keeps what it closed; the rest goes to a new one: a group's name is used once."""
    orders = t.lot_orders(lot.number)
    sent = bool(lot.fired) and lot.fired in lot.ids  # its child may have transmitted it: one id, one transmission
    if orders and lot.remaining and not (lot.judging or sent) and t.b.definition.oca_native and t.grouped(lot):
        lot = lot if any(order.alive for order in orders) else t.put_lot(lot, void=True)
    if lot.exited > lot.quantity or (lot.void and not any(order.alive for order in orders)):
        t.put_lot(lot, quantity=lot.exited)


def _watch_echo(t: Turn, lot: Lot) -> None:
    """Members of a native group show what is left of their lot; one that does not is given the echo time to."""
    if lot.void or not lot.remaining or not (t.b.definition.oca_native and t.grouped(lot)):
        return
    if any(o.life is Life.WORKING and o.leaves != lot.remaining for o in t.lot_orders(lot.number)):
        t.timer(f"echo:{lot.number}", t.policy.echo_s)


def _lots(t: Turn, tranche: int) -> list[Lot]:
    return [lot for lot in t.b.lots.values() if lot.tranche == tranche]


def _grow(t: Turn, tranche: int, growth: Decimal) -> None:
    fired = FLAT if t.b.flatten else t.b.fired.get(tranche, "")
    if not fired:
        growable = [lot for lot in _lots(t, tranche) if _growable(t, lot)]
        if growable:
            t.put_lot(growable[-1], quantity=growable[-1].quantity + growth)
            return
        covered = any(lot.remaining and not lot.void for lot in _lots(t, tranche))
        if covered and t.entry_may_fill() and not t.b.cover_due:
            t.timer("cover", t.policy.coalesce_s)
            return
    number = t.next_lot()
    t.put_lot(Lot(number=number, tranche=tranche, quantity=growth, fired=fired))
    t.set(cover_due=False)


def _growable(t: Turn, lot: Lot) -> bool:
    """A lot grows in place where we write quantities, or where nothing of it has ever been sent."""
    if lot.void or lot.fired or lot.judging:
        return False
    if not t.lot_orders(lot.number):
        return True
    return not t.b.definition.oca_native and bool(lot.remaining)


def _shrink(t: Turn, tranche: int, excess: Decimal) -> None:
    """Filled quantity was taken away: lots above it go, newest first; those that go anyway or cost nothing first."""
    ranked = sorted(_lots(t, tranche), key=lambda lot: (_ease(t, lot), -lot.number))
    for lot in ranked:
        if excess <= 0:
            return
        if not lot.remaining:
            continue
        cut = lot.remaining
        if _ease(t, lot) in (1, 2):
            cut = min(cut, excess)
            t.put_lot(lot, quantity=lot.quantity - cut)
        else:
            t.put_lot(lot, void=True)
        excess -= cut


def _ease(t: Turn, lot: Lot) -> int:
    """How easily a lot shrinks. 0: it is dying; 1: nothing of it is at the venue; 2: amendable; 3: placed anew."""
    alive = [order for order in t.lot_orders(lot.number) if order.alive]
    if lot.void:
        return 0
    if not alive:
        return 1
    fixed = (t.b.definition.oca_native and t.grouped(lot)) or any(order.market for order in alive)
    return 3 if fixed else 2


def _fits(t: Turn, lot: Lot) -> bool:
    """Whether a lot's exit may be sent beside what the other lots may still take, lots that are dying included."""
    others = ZERO
    for other in t.b.lots.values():
        if other.number == lot.number:
            continue
        leaves = max((order.leaves for order in t.lot_orders(other.number)), default=ZERO)
        # A native group is cut by the venue as it fills; without one a sibling may fill until it is dead.
        cut = t.b.definition.oca_native and not other.void
        others += min(leaves, other.remaining) if cut else leaves
    return others + lot.remaining <= t.b.open_qty


def work_lot(t: Turn, lot: Lot) -> None:
    """Bring one lot's orders to what they should be."""
    alive = [order for order in t.lot_orders(lot.number) if order.alive]
    if lot.void or not lot.remaining:
        for order in alive:
            t.cancel(order, "its sibling closed the position" if not lot.void else "its group is placed anew")
        return
    if not can_send(t):
        return
    if lot.judging:
        return
    if lot.fired:
        work_fired(t, lot)
        return
    # Protection first: if the price is already through a stop, nothing else of this lot is sent.
    for leg in sorted(_legs(t, lot.tranche), key=lambda leg: not leg.protective):
        if _already_through(t, lot, leg):
            return
    for leg in sorted(_legs(t, lot.tranche), key=lambda leg: not leg.protective):
        if not leg.held or leg.name in t.b.touched:
            work_resting(t, t.b.lots[lot.number], leg)


def _legs(t: Turn, tranche: int) -> list[Leg]:
    return [leg for leg in t.legs() if leg.tranche == tranche]


def _already_through(t: Turn, lot: Lot, leg: Leg) -> bool:
    """Exit at once where the entry filled at or beyond its own stop (trading-rules.md 15)."""
    px = t.b.last_entry_px
    if not leg.protective or leg.trail is not None or px is None or t.lot_orders(lot.number):
        return False
    _, trigger = legs.leg_levels(t.b.definition, leg, t.b.average)
    if trigger is None or not prices.is_through(legs.exit_side(t.b.definition), px, trigger):
        return False
    t.why = f"the entry filled at {px}, already through the {leg.name} at {trigger}"
    fire(t, leg, trigger)
    work_fired(t, t.b.lots[lot.number])
    return True


def work_resting(t: Turn, lot: Lot, leg: Leg) -> None:
    """Place a resting exit, or, where we write quantities, bring it to the lot's."""
    mine = [order for order in t.lot_orders(lot.number) if order.leg == leg.name and order.alive]
    limit, trigger = legs.leg_levels(t.b.definition, leg, t.b.average)
    if not mine:
        if not _fits(t, lot):
            return
        t.submit(t.exit_order(lot, leg.name, legs.leg_order_type(leg), limit, trigger), lot.number)
        return
    order = mine[0]
    if t.b.definition.oca_native and t.grouped(lot):
        return  # members of a live group are never amended (trading-rules.md 1)
    _resize(t, lot, order, limit, trigger)


def _resize(
    t: Turn, lot: Lot, order: VenueOrder, limit: Decimal | None = None, trigger: Decimal | None = None
) -> None:
    """Bring a working order to what is left of its lot, and to its prices where they are given."""
    total = order.cum_qty + lot.remaining
    moved = (limit is not None and order.limit_price != limit) or (trigger is not None and order.stop_price != trigger)
    ready = order.life is Life.WORKING and not order.amending and not order.canceling and can_send(t)
    if order.amend_fails >= AMEND_TRIES and order.amend_to is not None and order.amend_to[0] == total:
        if t.b.phase is not Phase.FROZEN:
            t.cancel(order, f"{order.amend_fails} amendments failed")  # a crash forgets the cancel, not the refusals
        return  # refused often enough: a person has been called
    if ready and (order.quantity != total or moved):
        t.amend(order, total, limit, trigger)


# -- exits that fire -------------------------------------------------------------------------------------------


def fire(t: Turn, leg: Leg, level: Decimal | None) -> None:
    """A protective leg has fired: no more entry, and every lot of its tranche is closed by it now."""
    t.b.fired[leg.tranche] = leg.name
    t.set(entry_stopped=True, reason=t.b.reason or f"the {leg.name} fired")
    for lot in _lots(t, leg.tranche):
        if lot.remaining and not lot.void and not lot.fired:
            t.put_lot(lot, fired=leg.name, level=level, judging=False)
    stop_entry(t)


def own_up(t: Turn, leg: Leg, level: Decimal | None) -> None:
    """Count what a child has sent into groups that something else closes already: it lives, heard of or not."""
    for lot in _lots(t, leg.tranche):
        joined = t.b.definition.oca_native and t.grouped(lot)
        if joined and lot.remaining and lot.fired not in ("", leg.name) and leg.name in lot.ids and can_send(t):
            t.submit(t.exit_order(lot, leg.name, *fired_type(t, leg, level)), lot.number)


def flatten(t: Turn) -> None:
    """Close every lot at the market, joining its group where it has one."""
    t.set(flatten=True, entry_stopped=True)
    for lot in list(t.b.lots.values()):
        if lot.remaining and not lot.void:
            t.put_lot(lot, fired=FLAT, judging=False)


def work_fired(t: Turn, lot: Lot) -> None:
    """Send the exit that closes a lot now: into its live group at once, else when its siblings are dead."""
    alive = [order for order in t.lot_orders(lot.number) if order.alive]
    mine = [order for order in alive if order.leg == lot.fired or order.market]
    joins = t.b.definition.oca_native and t.grouped(lot)
    if mine:
        for order in () if joins else alive:
            if order not in mine:
                t.cancel(order, f"the {lot.fired} fired")
            elif order.leaves > lot.remaining and not order.market:
                _resize(t, lot, order)
        return
    if alive and not joins and not lot.race_over:
        for order in alive:
            t.cancel(order, f"the {lot.fired} fired")
        t.timer(f"race:{lot.number}", t.policy.cancel_wait_s)
        return
    if not _fits(t, lot):
        return
    leg = t.leg(lot.fired)
    order_type, limit = fired_type(t, leg, lot.level)
    t.submit(t.exit_order(lot, _under(t, lot), order_type, limit, race=lot.race_over), lot.number)


def _under(t: Turn, lot: Lot) -> str:
    """Return the leg under whose id a lot is closed.

    A held exit that stands alone may have been transmitted by its child a moment ago. A flatten takes its id, so that
    the broker's one transmission per id decides the race (faults.md: kill versus trigger).
    """
    legs_here = _legs(t, lot.tranche)
    if lot.fired == FLAT and len(legs_here) == 1 and legs_here[0].held and legs_here[0].name in lot.ids:
        return legs_here[0].name
    return lot.fired


def fired_type(t: Turn, leg: Leg | None, level: Decimal | None) -> tuple[OrderType, Decimal | None]:
    """Return the order that a fired leg becomes: MKT, or LMT where it has a limit (never a second trigger, C-28)."""
    if leg is None or level is None:
        return OrderType.MKT, None
    side, contract = legs.exit_side(t.b.definition), t.b.definition.contract
    if leg.trail is not None and leg.trail.limit_offset is not None:
        return OrderType.LMT, prices.limit_beyond(contract, side, level, leg.trail.limit_offset)
    limit, _ = legs.leg_levels(t.b.definition, leg, t.b.average)
    return (OrderType.LMT, limit) if limit is not None else (OrderType.MKT, None)


# -- exits that are held ---------------------------------------------------------------------------------------


def arm_tranche(t: Turn, tranche: int) -> None:
    """Tell the children of held legs what to watch and what to send, or to stop."""
    for leg in _legs(t, tranche):
        if not leg.held or leg.name in t.b.touched:
            continue
        lots = [lot for lot in _lots(t, tranche) if lot.remaining and not lot.void and not lot.fired]
        if lots and not t.b.flatten and tranche not in t.b.fired:
            _arm(t, leg, lots)
        elif leg.name in t.b.armed:
            last = t.b.armed.pop(leg.name)
            t.ask(DisarmExit(bracket_id=t.bracket_id, leg=leg.name, version=last.version, incarnation=t.b.incarnation))


def _arm(t: Turn, leg: Leg, lots: list[Lot]) -> None:
    definition = t.b.definition
    limit, trigger = legs.leg_levels(definition, leg, t.b.average)
    # Without a group at the venue a child may send by itself only where no sibling can ever stand beside it.
    joins = definition.oca_native or len(_legs(t, leg.tranche)) == 1
    orders: tuple[SubmitOrder, ...] = ()
    if joins:
        kind = legs.leg_order_type(leg)
        orders = tuple(t.exit_order(t.b.lots[lot.number], leg.name, kind, limit) for lot in lots)
    last = t.b.armed.get(leg.name)
    trail, mark = leg.trail, t.b.trails.get(leg.name)
    spec = leg.target or leg.stop or leg.trail
    assert spec is not None
    arm = ArmExit(
        bracket_id=t.bracket_id,
        leg=leg.name,
        version=last.version if last else t.b.numbers.get(f"arm:{leg.name}", 0) + 1,
        incarnation=t.b.incarnation,
        kind=_trigger_kind(leg),
        method=spec.trigger_method,
        level=limit if leg.target is not None else trigger,
        amount=trail.amount if trail else None,
        percent=trail.percent if trail else None,
        activation=trail.activation_price if trail else None,
        limit_offset=trail.limit_offset if trail else None,
        high_water=mark[0] if mark and trail else None,
        initial_stop=mark[1] if mark and trail else None,
        rth_only=definition.intent.session is Session.RTH and not definition.contract.round_the_clock,
        orders=orders,
    )
    if last is None or arm != msgspec.structs.replace(last, high_water=arm.high_water, initial_stop=arm.initial_stop):
        if last is not None:
            arm = msgspec.structs.replace(arm, version=last.version + 1)
        t.b.numbers[f"arm:{leg.name}"] = arm.version  # it rises over every disarming
        t.b.armed[leg.name] = arm
        t.ask(arm)


def _trigger_kind(leg: Leg) -> TriggerKind:
    if leg.kind is LegKind.TARGET:
        return TriggerKind.LIT
    if leg.trail is not None:
        return TriggerKind.TRAIL_AMOUNT if leg.trail.amount is not None else TriggerKind.TRAIL_PERCENT
    return TriggerKind.STOP
