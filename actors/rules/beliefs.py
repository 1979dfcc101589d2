"""What a bracket believes that it has at the venue, in the words in which it was sent.

Law: without a native group the venue cannot say which exits compete for the same shares; only their bracket can. The
gate counts what nobody explains as shares of its own, and would refuse the sibling (trading-rules.md 4).
"""

from __future__ import annotations

from actors.rules import legs
from actors.rules.bracket_state import Bracket, Life, written
from messages.intent import OrderType
from messages.orders import Role, SubmitOrder


def beliefs(bracket: Bracket) -> tuple[SubmitOrder, ...]:
    """Return every living exit that was written, or may have been."""
    definition = bracket.definition
    specs = {leg.name: leg for leg in legs.legs_of(definition)}
    found = []
    for order in bracket.orders.values():
        asked_now = order.life is Life.ASKED and order.incarnation == bracket.incarnation
        if not order.alive or order.role is not Role.EXIT or asked_now:
            continue
        spec = specs.get(order.leg)
        market = order.market or spec is None
        group = legs.group_name(bracket.definition.bracket_id, order.lot)
        siblings = sum(1 for leg in specs.values() if spec is not None and leg.tranche == spec.tranche)
        found.append(
            written(
                bracket,
                order.order_id,
                order.leg,
                Role.EXIT,
                legs.exit_side(definition),
                order.quantity,
                OrderType.MKT if market or spec is None else legs.leg_order_type(spec),
                limit_price=order.limit_price,
                stop_price=order.stop_price,
                oca_group=group,
                oca_native=definition.oca_native and siblings > 1,
                reduce_to_open=True,
            )
        )
    return tuple(found)


def unexplained(bracket: Bracket, told: dict[str, str]) -> bool:
    """Whether an exit lives whose group the venue does not know and the broker was not told (`told`: id -> group)."""
    return not bracket.definition.oca_native and any(
        told.get(order.order_id) != order.oca_group for order in beliefs(bracket)
    )
