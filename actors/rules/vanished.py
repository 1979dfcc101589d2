"""An entry that the venue had accepted and that is nowhere any more: what the account says of it (trading-rules.md 28).

Law: executions cover one day only, so an entry may have filled unseen. It is neither sent again nor given up before the
account was asked; a fill is inferred of its whole quantity or not at all, under one exec_id, and real ones replace it.
"""

from __future__ import annotations

from decimal import Decimal

from actors.rules.bracket_state import BookFill, Incident, Life, Phase, SeekFill, VenueOrder
from actors.rules.refusal import plain
from actors.rules.turn import Turn
from messages.orders import FillCorrected, OrderFilled, Role
from messages.risk import AbsenceExplained

INFERRED = "inferred:"
SEEK_S = 5.0
"""How long an answer may take before it is asked for again, in seconds."""
SEEKS_BEFORE_PAGE = 4


def inferred_id(order_id: str) -> str:
    """Return the exec_id of an order's inferred fill: it has one, however often it is inferred."""
    return INFERRED + order_id


def absent(t: Turn, order: VenueOrder) -> None:
    """Note that an order is proved absent: dead, or, for an entry that was once at the venue, vanished."""
    if order.cum_qty >= order.quantity:
        t.kill(order, "filled")
    elif order.role is Role.ENTRY and (order.perm_id or order.cum_qty):  # a picture shows 0 before the acknowledgement
        t.put(order, life=Life.VANISHED, canceling=False, amending=False)
        t.why = f"the venue shows {order.order_id} nowhere any more; the account is asked whether it filled"
    else:
        t.kill(order, "absent")


def seek(t: Turn) -> None:
    """Ask for every vanished entry, and again until it is answered."""
    for order in t.living():
        key = f"seek:{order.order_id}"
        if order.life is Life.VANISHED and key not in t.b.timers and t.b.gate_open:
            t.put(order, seeks=order.seeks + 1)
            t.ask(SeekFill(order_id=order.order_id, quantity=order.leaves))
            t.timer(key, SEEK_S)


def unanswered(t: Turn, order_id: str) -> None:
    """Call a person once where nobody can say what the account holds; `seek` goes on asking."""
    order = t.b.orders.get(order_id)
    if order is not None and order.life is Life.VANISHED and order.seeks == SEEKS_BEFORE_PAGE:
        t.page("entry_unexplained", f"the venue shows {order_id} nowhere any more, and whether the account holds what"
               " it would have filled cannot be found out; it may be open without protection")  # fmt: skip


def explained(t: Turn, event: AbsenceExplained) -> OrderFilled | None:
    """Return the fill that the account proves; without one the entry is over."""
    order = t.b.orders.get(event.order_id)
    if order is None or order.life is not Life.VANISHED:
        return None
    if event.filled != order.leaves:
        _over(t, order, event)
        return None
    price, source = _price(t, order, event)
    definition = t.b.definition
    fill = OrderFilled(
        bracket_id=t.bracket_id,
        order_id=order.order_id,
        ts_ns=event.ts_ns,
        leg=order.leg,
        exec_id=inferred_id(order.order_id),
        revision=1,
        perm_id=order.perm_id or 0,
        client_id=order.client_id or 0,
        account=definition.account,
        conid=definition.contract.conid,
        instrument=definition.contract.instrument,
        strategy=definition.intent.strategy,
        side=definition.intent.side,
        role=Role.ENTRY,
        last_qty=event.filled,
        last_px=price,
        cum_qty=order.cum_qty + event.filled,
        multiplier=definition.contract.multiplier,
        recovered=True,
    )
    sentence = (
        f"the venue shows {order.order_id} nowhere any more, and the account holds its {plain(event.filled)}: they"
        f" filled unseen, and are booked at {plain(price)} ({source})"
    )
    if t.b.phase is Phase.FROZEN:
        sentence += "; nothing covers them: flatten"
    t.why = sentence
    t.ask(BookFill(fill=fill))
    t.ask(Incident(code="inferred_fill", sentence=f"bracket {t.bracket_id}: {sentence}"))
    t.page("inferred_fill", sentence)
    return fill


def _over(t: Turn, order: VenueOrder, event: AbsenceExplained) -> None:
    """The account does not hold it: expired or cancelled. Where it holds something else a person must look."""
    t.kill(order, "canceled")
    t.set(entry_over=True)
    t.why = f"the venue knows nothing of {order.order_id} any more: expired or cancelled while we were away"
    if event.held != event.booked:
        t.page("entry_vanished", f"{t.why}; but the account holds {plain(event.held)}, of which {plain(event.booked)}"
               f" are booked, and that is not explained by its {plain(order.quantity - order.cum_qty)}")  # fmt: skip
    elif not order.cancels:
        t.page("entry_vanished", t.why, severity="warning")


def _price(t: Turn, order: VenueOrder, event: AbsenceExplained) -> tuple[Decimal, str]:
    """Return the likeliest price of an unseen fill, and where it is from. A limit is never worse than itself."""
    cost = event.avg_cost / t.b.definition.contract.multiplier
    limit, sign = order.limit_price, t.b.definition.intent.side.sign
    if event.alone and cost > 0 and (limit is None or (limit - cost) * sign >= 0):
        return cost, "the venue's average cost, fees included"
    if limit is not None:
        return limit, "its limit"
    if order.stop_price is not None:
        return order.stop_price, "its stop price"
    return cost, "the venue's average cost of the whole position"


def taken_back(t: Turn, real: OrderFilled) -> FillCorrected | None:
    """Return the correction of an inferred fill once a real execution of its order has come, None where none is due."""
    exec_id = inferred_id(real.order_id)
    known = t.b.fills.get(exec_id)
    if known is None or not known.qty or real.exec_id == exec_id:
        return None
    fields = {name: getattr(real, name) for name in OrderFilled.__struct_fields__}
    fields.update(
        exec_id=exec_id,
        revision=known.revision + 1,
        last_qty=known.qty - min(known.qty, real.last_qty),
        last_px=known.px,
        prior_qty=known.qty,
        prior_px=known.px,
        recovered=True,
    )
    return FillCorrected(**fields)
