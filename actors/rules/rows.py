"""A bracket as rows of `execution_orders`: what its facts mean in the words of 000 and 001.

Law: one row a leg, whatever the number of its transmissions; quantities are summed over them (trading-rules.md 1). Its
words are those of the order table (order.py), and of nothing else.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from actors.rules import legs
from actors.rules.bracket_state import ZERO, Bracket, Life, Phase, VenueOrder
from actors.rules.order import FixEvent, life_after, new_life
from actors.rules.refusal import plain
from messages.base import Record
from messages.intent import Shape
from messages.ledger import RowChanged
from messages.orders import OrderState, OrderStatus, Role

ONE, TWO = Decimal(1), Decimal(2)
"""An order of two of which one, or both, are filled: of quantities, the words ask no more."""


class RowView(Record, frozen=True, kw_only=True):
    state: OrderState
    status: OrderStatus
    quantity: Decimal
    filled_qty: Decimal = ZERO
    price: Decimal | None = None
    stop_price: Decimal | None = None
    oca_group: str | None = None
    order_ref: str | None = None
    perm_id: int | None = None
    client_id: int | None = None


def rows(b: Bracket) -> dict[str, RowView]:
    """Return every row of a bracket as it stands."""
    bracket_id, found = b.definition.bracket_id, {}
    if b.definition.intent.shape is not Shape.OCO:
        found[legs.row_id(bracket_id, legs.ENTRY)] = _entry_row(b)
    shares = legs.tranche_quantities(b.definition, b.definition.intent.quantity)
    names = [leg.name for leg in legs.legs_of(b.definition)]
    for leg in legs.legs_of(b.definition):
        found[legs.row_id(bracket_id, leg.name)] = _exit_row(b, leg, shares[leg.tranche - 1])
    for order in b.orders.values():
        if order.leg not in (*names, legs.ENTRY):
            found[legs.row_id(bracket_id, order.leg)] = _row(b, _of(b, order.leg), ZERO, None, None)
    return found


def changes(before: dict[str, RowView], b: Bracket, reason: str, ts_ns: int) -> list[RowChanged]:
    """Return what changed in the rows since `before`, one record a row."""
    changed = []
    for row_id, row in rows(b).items():
        if before.get(row_id) != row:
            changed.append(
                RowChanged(
                    bracket_id=b.definition.bracket_id,
                    row_id=row_id,
                    state=row.state,
                    status=row.status,
                    reason=reason,
                    ts_ns=ts_ns,
                    quantity=row.quantity,
                    filled_qty=row.filled_qty,
                    avg_px=_average(b, row_id),
                    price=row.price,
                    stop_price=row.stop_price,
                    oca_group=row.oca_group,
                    order_ref=row.order_ref,
                    perm_id=row.perm_id,
                    client_id=row.client_id,
                )
            )
    return changed


def seen(change: RowChanged, before: RowView | None) -> RowView:
    """Return a row as its table shows it after a change: None leaves a field as it was."""
    told = {name: getattr(change, name) for name in RowView.__struct_fields__}
    if before is not None:
        told = {name: getattr(before, name) if value is None else value for name, value in told.items()}
    return RowView(**told)


def _of(b: Bracket, leg: str) -> list[VenueOrder]:
    return [order for order in b.orders.values() if order.leg == leg]


def _average(b: Bracket, row_id: str) -> Decimal | None:
    quantity = cost = ZERO
    for fill in b.fills.values():
        bracket_id, leg, _ = legs.split_order_id(fill.order_id)
        if legs.row_id(bracket_id, leg) == row_id:
            quantity += fill.qty
            cost += fill.qty * fill.px
    return Decimal(plain((cost / quantity).quantize(Decimal("0.00000001")))) if quantity else None


def _entry_row(b: Bracket) -> RowView:
    intent = b.definition.intent
    orders = _of(b, legs.ENTRY)
    if not orders:
        ended = b.entry_over or b.entry_stopped
        denied = b.entry_over and not b.entry_stopped
        if ended:
            state, status = words(Role.ENTRY, ended="denied" if denied else "canceled")
        else:
            state, status = OrderState.SCHEDULED, OrderStatus.PENDING
        return RowView(
            state=state, status=status, quantity=intent.quantity, price=intent.limit_price, stop_price=intent.stop_price
        )
    row = _row(b, orders, intent.quantity, intent.limit_price, intent.stop_price)
    return row


def _exit_row(b: Bracket, leg: legs.Leg, share: Decimal) -> RowView:
    limit, trigger = legs.leg_levels(b.definition, leg, b.average)
    if leg.trail is not None and leg.name in b.trails:
        trigger = b.trails[leg.name][1]
    orders = _of(b, leg.name)
    if orders:
        return _row(b, orders, share, limit, trigger)
    lots = any(lot.tranche == leg.tranche for lot in b.lots.values())
    entry = b.entry()
    dying = b.phase is Phase.CLOSING and (entry is None or not entry.alive)
    if b.phase is Phase.CLOSED or dying or (leg.tranche in b.fired and lots):
        state, status = words(Role.EXIT, ended="canceled")
    else:
        # SCHEDULED from the moment when it might have been told to somebody, or might have ended once before.
        told = lots or b.entry_over or b.entry_stopped or f"arm:{leg.name}" in b.numbers
        state, status = (OrderState.SCHEDULED if told else OrderState.VALIDATED), OrderStatus.PENDING
    return RowView(state=state, status=status, quantity=share, price=limit, stop_price=trigger)


def _row(
    b: Bracket, orders: list[VenueOrder], share: Decimal, limit: Decimal | None, trigger: Decimal | None
) -> RowView:
    living = [order for order in orders if order.alive]
    last = (living or orders)[-1]
    filled = sum((order.cum_qty for order in orders), ZERO)
    state, status = _words(b, orders, living, filled)
    quantity = filled + sum((order.leaves for order in living), ZERO)
    if not living:
        latest = {order.lot: order for order in orders}  # each lot counts once, however often it was placed anew
        quantity = max(filled, sum((order.quantity for order in latest.values()), ZERO))
    return RowView(
        state=state,
        status=status,
        quantity=quantity if last.leg != legs.ENTRY else share,
        filled_qty=filled,
        price=last.limit_price if last.limit_price is not None else limit,
        stop_price=last.stop_price if last.stop_price is not None else trigger,
        oca_group=last.group,
        order_ref=last.order_id,
        perm_id=last.perm_id,
        client_id=last.client_id,
    )


def _words(
    b: Bracket, orders: list[VenueOrder], living: list[VenueOrder], filled: Decimal
) -> tuple[OrderState, OrderStatus]:
    role = Role.ENTRY if orders[0].leg == legs.ENTRY else Role.EXIT
    if living:
        sent = bool(filled) or any(order.life is not Life.ASKED for order in living)
        there = all(order.life in (Life.WORKING, Life.UNKNOWN) for order in living)
        canceling = sent and any(order.canceling for order in living)
        return words(role, sent=sent, accepted=there, filled=bool(filled), canceling=canceling)
    ended = orders[-1].ended
    complete = filled and ended == "filled" and (role is Role.EXIT or filled >= b.definition.intent.quantity)
    if complete:
        return words(role, sent=True, complete=True)
    was_sent = ended != "denied"
    return words(role, sent=was_sent, filled=was_sent and bool(filled), ended=WORDS_OF_END.get(ended, ended))


WORDS_OF_END = {"filled": "canceled", "absent": "canceled"}
"""A row whose last transmission filled without completing it, or never arrived, is over like one that was cancelled."""


@lru_cache(maxsize=256)
def words(
    role: Role,
    *,
    sent: bool = False,
    accepted: bool = False,
    filled: bool = False,
    canceling: bool = False,
    complete: bool = False,
    ended: str = "",
) -> tuple[OrderState, OrderStatus]:
    """Lead an order's life through its table (order.py) by what is known of it; return where that ends."""
    life = life_after(new_life(role, TWO), FixEvent.SCHEDULED)
    happened = (
        (FixEvent.SUBMITTED, sent), (FixEvent.ACCEPTED, accepted), (FixEvent.TRADE, filled or complete),
        (FixEvent.CANCEL_REQUESTED, canceling),
    )  # fmt: skip
    for event, so in happened:
        if so:
            life = life_after(life, event, last_qty=TWO if complete else ONE)
    if ended:
        life = life_after(life, FixEvent(ended))
    return life.state, life.status
