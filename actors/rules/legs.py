"""The legs of a bracket, derived from its definition: their names, their ids, their rows.

Law: everything here is a function of the definition alone, so a rebuilt actor finds the same names.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from actors.rules import prices
from messages.base import Record, Word
from messages.intent import Hold, OrderType, SafetyStop, Shape, Side, Stop, Target, TimeInForce, TrailingStop, Tranche
from messages.ledger import LegRow
from messages.orders import Definition

ENTRY = "entry"
FLAT = "flat"
EXCESS = "excess"


class LegKind(Word):
    TARGET = "target"
    STOP = "stop"
    TRAIL = "trail"
    SAFETY = "safety"


class Leg(Record, frozen=True, kw_only=True):
    """One exit of one tranche. `name` is `target`, `stop`, `trail`, `safety`, with the tranche's number from 2 on."""

    name: str
    kind: LegKind
    tranche: int
    held: bool
    target: Target | None = None
    stop: Stop | None = None
    trail: TrailingStop | None = None
    safety: SafetyStop | None = None

    @property
    def protective(self) -> bool:
        """Whether it bounds a loss, which a target does not."""
        return self.kind is not LegKind.TARGET


def row_id(bracket_id: str, leg: str) -> str:
    """Return the row of a leg in `execution_orders`."""
    return f"{bracket_id}.{leg}"


def order_id(bracket_id: str, leg: str, number: int) -> str:
    """Return the id of a leg's n-th transmission; the entry's first carries no number."""
    return f"{bracket_id}.{leg}" if leg == ENTRY and number == 1 else f"{bracket_id}.{leg}.{number}"


def split_order_id(order: str) -> tuple[str, str, int]:
    """Return (bracket_id, leg, n) of an order id of ours. Raises ValueError for a ref that is not ours."""
    bracket_id, _, rest = order.partition(".")
    leg, _, number = rest.partition(".")
    if not bracket_id or not leg:
        raise ValueError(f"order id {order!r}: is not of the form <bracket>.<leg>[.<n>]")
    return bracket_id, leg, int(number) if number else 1


def group_name(bracket_id: str, lot: int) -> str:
    """Return the OCA group of a lot. Names are used once (trading-rules.md 1)."""
    return f"{bracket_id}.g{lot}"


def tranche_legs(tranche: Tranche, number: int, safety: SafetyStop | None) -> tuple[Leg, ...]:
    """Return a tranche's legs, targets first. The safety stop stands only beside legs that are all held."""
    suffix = "" if number == 1 else str(number)
    legs: list[Leg] = []
    if tranche.target is not None:
        held = tranche.target.hold is Hold.ENGINE
        legs.append(Leg(name=f"target{suffix}", kind=LegKind.TARGET, tranche=number, held=held, target=tranche.target))
    if tranche.stop is not None:
        held = tranche.stop.hold is Hold.ENGINE
        legs.append(Leg(name=f"stop{suffix}", kind=LegKind.STOP, tranche=number, held=held, stop=tranche.stop))
    if tranche.trailing_stop is not None:
        legs.append(
            Leg(name=f"trail{suffix}", kind=LegKind.TRAIL, tranche=number, held=True, trail=tranche.trailing_stop)
        )
    stops_at_venue = any(leg.protective and not leg.held for leg in legs)
    if safety is not None and not stops_at_venue:
        legs.append(Leg(name=f"safety{suffix}", kind=LegKind.SAFETY, tranche=number, held=False, safety=safety))
    return tuple(legs)


@lru_cache(maxsize=4096)
def _legs(exits: tuple[Tranche, ...], safety: SafetyStop | None) -> tuple[Leg, ...]:
    return tuple(leg for n, tranche in enumerate(exits, 1) for leg in tranche_legs(tranche, n, safety))


def legs_of(definition: Definition) -> tuple[Leg, ...]:
    """Return every exit leg of a bracket, tranche by tranche."""
    return _legs(definition.intent.exits, definition.intent.safety_stop)


def exit_side(definition: Definition) -> Side:
    """Return the side of the exits: for the shape `oco` the intent's own side."""
    intent = definition.intent
    return intent.side if intent.shape is Shape.OCO else intent.side.exit_side


def tranche_quantities(definition: Definition, total: Decimal) -> tuple[Decimal, ...]:
    """Return each tranche's share of `total`; the last takes what a changed entry quantity adds or takes away."""
    exits = definition.intent.exits
    if not exits:
        return ()
    shares: list[Decimal] = []
    left = total
    for tranche in exits[:-1]:
        share = min(left, tranche.quantity if tranche.quantity is not None else left)
        shares.append(share)
        left -= share
    return (*shares, left)


def leg_order_type(leg: Leg) -> OrderType:
    """Return the type of the order that the leg becomes at the venue."""
    if leg.target is not None:
        return OrderType.LMT
    if leg.stop is not None:
        limited = leg.stop.limit_price is not None or leg.stop.limit_offset is not None
        if leg.held:
            return OrderType.LMT if limited else OrderType.MKT
        return OrderType.STP_LMT if limited else OrderType.STP
    if leg.trail is not None:
        return OrderType.LMT if leg.trail.limit_offset is not None else OrderType.MKT
    return OrderType.STP


def leg_levels(definition: Definition, leg: Leg, average: Decimal | None) -> tuple[Decimal | None, Decimal | None]:
    """Return (limit price, trigger price) of a leg at an average fill; None where it is not known or does not apply."""
    side, contract = exit_side(definition), definition.contract
    spec = leg.target or leg.stop or leg.safety
    if spec is None:
        return None, None
    if spec.price is None and average is None:
        return None, None
    base = average if average is not None else Decimal(0)
    if leg.target is not None:
        return prices.target_price(contract, side, base, spec.price, spec.offset, spec.percent), None
    trigger = prices.stop_price(contract, side, base, spec.price, spec.offset, spec.percent)
    if leg.stop is not None and leg.stop.limit_price is not None:
        return prices.away_from_trigger(contract, side, leg.stop.limit_price), trigger
    if leg.stop is not None and leg.stop.limit_offset is not None:
        return prices.limit_beyond(contract, side, trigger, leg.stop.limit_offset), trigger
    return None, trigger


def leg_rows(definition: Definition) -> tuple[LegRow, ...]:
    """Return the rows of `execution_orders` as they stand when a bracket opens: the entry, then its virtual exits."""
    intent, bracket_id = definition.intent, definition.bracket_id
    rows: list[LegRow] = []
    parent: str | None = None
    if intent.shape is not Shape.OCO:
        parent = row_id(bracket_id, ENTRY)
        rows.append(
            LegRow(
                row_id=parent,
                leg=ENTRY,
                parent_row=None,
                side=intent.side,
                quantity=intent.quantity,
                order_type=intent.order_type,
                price=intent.limit_price,
                stop_price=intent.stop_price,
                time_in_force=intent.time_in_force,
            )
        )
    shares = tranche_quantities(definition, intent.quantity)
    for leg in legs_of(definition):
        limit, trigger = leg_levels(definition, leg, None)
        rows.append(
            LegRow(
                row_id=row_id(bracket_id, leg.name),
                leg=leg.name,
                parent_row=parent,
                side=exit_side(definition),
                quantity=shares[leg.tranche - 1],
                order_type=leg_order_type(leg),
                price=limit,
                stop_price=trigger,
                time_in_force=TimeInForce.GTC,
            )
        )
    return tuple(rows)
