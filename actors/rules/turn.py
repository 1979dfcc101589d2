"""One turn of a bracket: a private, mutable copy of what it knows, and the commands that it collects.

Law: a turn is made by `step` and seen by nobody else; nothing in it sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from actors.rules import legs
from actors.rules.bracket_state import (
    ZERO,
    Alert,
    Bracket,
    Life,
    Lot,
    Phase,
    Policy,
    Refusal,
    StartTimer,
    VenueOrder,
    written,
)
from actors.rules.legs import ENTRY, Leg
from messages.intent import OrderType, Shape
from messages.orders import AmendOrder, CancelOrder, QueryOrder, Role, SubmitOrder

_replace = msgspec.structs.replace
SECOND = 1_000_000_000
LOTS_EACH = 100
TABLES = ("orders", "lots", "fills", "numbers", "armed", "fired", "trails")
NOTHING: Mapping[Any, Any] = MappingProxyType({})
"""Stands for every empty table of every bracket: read-only, for a turn works on copies."""
RECANCEL_SLOWLY = 30
"""How many times slower a cancel is repeated once a person was called for it."""


class Turn:
    """A bracket being changed by one event."""

    def __init__(self, bracket: Bracket, policy: Policy, now: int) -> None:
        self.before = bracket
        self.b = _replace(bracket, **{name: dict(getattr(bracket, name)) for name in TABLES})
        self.policy = policy
        self.now = now
        self.commands: list[Any] = []
        self.why = ""
        self.died: set[str] = set()
        """Orders that this event killed: what is said twice is answered once."""

    def ended(self) -> Bracket:
        """Return the bracket as it is now; tables that did not change, or are empty, are shared."""
        kept: dict[str, Any] = {}
        for name in TABLES:
            table = getattr(self.b, name)
            if not table:
                kept[name] = NOTHING
            elif table == (old := getattr(self.before, name)):
                kept[name] = old
        return _replace(self.b, **kept)

    # -- facts -----------------------------------------------------------------------------------------------

    def set(self, **changes: Any) -> None:
        """Change facts of the bracket."""
        self.b = _replace(self.b, **changes)

    def put(self, order: VenueOrder, **changes: Any) -> VenueOrder:
        """Keep an order, changed."""
        changed = _replace(order, **changes) if changes else order
        self.b.orders[order.order_id] = changed
        return changed

    def put_lot(self, lot: Lot, **changes: Any) -> Lot:
        """Keep a lot, changed."""
        changed = _replace(lot, **changes) if changes else lot
        self.b.lots[lot.number] = changed
        return changed

    @property
    def bracket_id(self) -> str:
        return self.b.definition.bracket_id

    def legs(self) -> tuple[Leg, ...]:
        return legs.legs_of(self.b.definition)

    def leg(self, name: str) -> Leg | None:
        return next((leg for leg in self.legs() if leg.name == name), None)

    def lot_orders(self, number: int) -> list[VenueOrder]:
        """Orders of a lot, in the order in which they were asked for."""
        return [order for order in self.b.orders.values() if order.lot == number and order.role is Role.EXIT]

    def living(self) -> list[VenueOrder]:
        return [order for order in self.b.orders.values() if order.alive]

    def number(self, leg: str) -> int:
        """Take the next transmission number of a leg."""
        self.b.numbers[leg] = self.b.numbers.get(leg, 0) + 1
        return self.b.numbers[leg]

    def next_lot(self) -> int:
        """Return a number that no lot has had. A rebuilt bracket may have forgotten some, and a group's name is used
        once: every incarnation counts from a hundred of its own."""
        return max(max(self.b.lots, default=0), LOTS_EACH * max(0, self.b.incarnation - 1)) + 1

    def next_id(self, lot: Lot, leg: str) -> str:
        """Return the id that a leg's next transmission in this lot carries; it is fixed when first asked for."""
        if leg not in lot.ids:
            taken = legs.order_id(self.bracket_id, leg, self.number(leg))
            lot = self.put_lot(lot, ids={**lot.ids, leg: taken})
        return lot.ids[leg]

    # -- wishes ----------------------------------------------------------------------------------------------

    def ask(self, command: Any) -> None:
        self.commands.append(command)

    def timer(self, key: str, seconds: float) -> None:
        """Start a timer unless it runs."""
        if key not in self.b.timers:
            self.set(timers=self.b.timers | {key})
            self.ask(StartTimer(key=key, seconds=seconds))

    def page(self, code: str, sentence: str, severity: str = "page") -> None:
        self.ask(Alert(severity=severity, code=code, sentence=f"bracket {self.bracket_id}: {sentence}"))

    def refuse(self, code: str, sentence: str) -> None:
        self.ask(Refusal(code=code, sentence=f"bracket {self.bracket_id}: {sentence}"))

    def freeze(self, code: str, sentence: str) -> None:
        """Stop acting, leave protection at work, call a person (design law 2)."""
        if self.b.phase is not Phase.FROZEN:
            self.set(phase=Phase.FROZEN, entry_stopped=True)
            self.why = sentence
            self.page(code, f"{sentence}; frozen, what protects it is left at work")

    def may_reprotect(self) -> bool:
        """Take one of the few tries to place a lost exit again (trading-rules.md 26)."""
        window = round(self.policy.reprotect_window_s * SECOND)
        recent = tuple(ts for ts in self.b.reprotects if ts > self.now - window)
        spent = len(recent) >= self.policy.reprotect_max
        self.set(reprotects=recent if spent else (*recent, self.now))
        return not spent

    def cancel(self, order: VenueOrder, reason: str) -> None:
        """Ask once for a living order's end, while the gate is open; whoever wants it asks again when it opens."""
        if not order.alive or order.canceling or order.life is Life.VANISHED or not self.b.gate_open:
            return
        order = self.put(order, canceling=True, cancels=order.cancels + 1)
        self.ask(
            CancelOrder(
                command_id=f"{order.order_id}:cancel:{self.b.incarnation}.{order.cancels}",
                bracket_id=self.bracket_id,
                order_id=order.order_id,
                incarnation=self.b.incarnation,
                reason=reason,
            )
        )
        slow = RECANCEL_SLOWLY if order.cancels >= self.policy.recancel_max else 1
        self.timer(f"recancel:{order.order_id}", self.policy.recancel_s * slow)

    def query(self, order: VenueOrder) -> None:
        """Ask the venue what became of an order."""
        self.ask(
            QueryOrder(
                command_id=f"{order.order_id}:query:{self.now}",
                bracket_id=self.bracket_id,
                order_id=order.order_id,
                incarnation=self.b.incarnation,
            )
        )

    def amend(
        self, order: VenueOrder, quantity: Decimal, limit: Decimal | None = None, stop: Decimal | None = None
    ) -> None:
        """Change a working order in place; one amendment in flight per order (trading-rules.md 1)."""
        limit, stop = limit if limit is not None else order.limit_price, stop if stop is not None else order.stop_price
        wanted = (quantity, limit, stop)
        fails = order.amend_fails + (wanted == order.amend_to)
        order = self.put(order, amending=True, amends=order.amends + 1, amend_to=wanted, amend_fails=fails)
        self.ask(
            AmendOrder(
                command_id=f"{order.order_id}:amend:{self.b.incarnation}.{order.amends}",
                bracket_id=self.bracket_id,
                order_id=order.order_id,
                incarnation=self.b.incarnation,
                quantity=quantity,
                limit_price=limit,
                stop_price=stop,
            )
        )
        self.timer(f"amend:{order.order_id}", self.policy.echo_s)

    def submit(self, order: SubmitOrder, lot: int) -> None:
        """Ask for one transmission and remember it."""
        self.put(
            VenueOrder(
                order_id=order.order_id,
                leg=order.leg,
                lot=lot,
                role=order.role,
                quantity=order.quantity,
                group=order.oca_group,
                market=order.order_type is OrderType.MKT,
                limit_price=order.limit_price,
                stop_price=order.stop_price,
                incarnation=self.b.incarnation,
            )
        )
        if lot in self.b.lots and order.leg in self.b.lots[lot].ids:
            held = self.b.lots[lot]
            self.put_lot(held, ids={leg: taken for leg, taken in held.ids.items() if leg != order.leg})
        self.ask(order)

    # -- orders as they would be written --------------------------------------------------------------------

    def entry_order(self) -> SubmitOrder:
        """Return the entry's next transmission."""
        definition, intent = self.b.definition, self.b.definition.intent
        valid = definition.expires_ns
        if intent.when is not None and self.b.condition_met_ns:
            valid = self.b.condition_met_ns + (definition.expires_ns - definition.opened_ns)
        taken = legs.order_id(self.bracket_id, ENTRY, self.number(ENTRY))
        return written(
            self.b,
            taken,
            ENTRY,
            Role.ENTRY,
            intent.side,
            intent.quantity - self.b.entry_filled,
            intent.order_type,
            limit_price=intent.limit_price,
            stop_price=intent.stop_price,
            time_in_force=intent.time_in_force,
            good_till=intent.good_till,
            expires_ns=valid,
        )

    def exit_order(
        self,
        lot: Lot,
        leg: str,
        order_type: OrderType,
        limit: Decimal | None = None,
        stop: Decimal | None = None,
        race: bool = False,
    ) -> SubmitOrder:
        """Return an exit of a lot as it would be transmitted now: cut by the broker to what is open then."""
        definition = self.b.definition
        taken = self.next_id(lot, leg)
        return written(
            self.b,
            taken,
            leg,
            Role.EXIT,
            legs.exit_side(definition),
            lot.remaining,
            order_type,
            limit_price=limit,
            stop_price=stop,
            oca_group=legs.group_name(self.bracket_id, lot.number),
            oca_native=definition.oca_native and self.grouped(lot),
            reduce_to_open=True,
            accept_race=race,
        )

    def grouped(self, lot: Lot) -> bool:
        """Whether a lot's exits share a group at the venue: only where more than one may ever stand there."""
        return sum(1 for leg in self.legs() if leg.tranche == lot.tranche) > 1

    # -- ends ------------------------------------------------------------------------------------------------

    def entry_may_fill(self) -> bool:
        """Whether the venue can still fill the entry, as far as we know."""
        return any(order.alive for order in self.b.orders.values() if order.role is Role.ENTRY)

    def entry_done(self) -> bool:
        """Whether no more entry will come by our own wish."""
        if self.b.definition.intent.shape is Shape.OCO:
            return True
        complete = self.b.entry_filled >= self.b.definition.intent.quantity
        return not self.entry_may_fill() and (complete or self.b.entry_over or self.b.entry_stopped)

    def kill(self, order: VenueOrder, ended: str) -> VenueOrder:
        """Note that an order is dead; it keeps its fills. Only an entry that never was may be sent again."""
        if order.role is Role.ENTRY and (ended != "absent" or order.cum_qty or self.b.entry_filled):
            self.set(entry_over=True)
        self.died.add(order.order_id)
        return self.put(order, life=Life.DEAD, ended=ended, canceling=False, amending=False)

    def shares(self) -> dict[int, Decimal]:
        """Return what each tranche's lots must add up to (0: all of it where there are no exits).

        Together they are what was bought, excess bought back included. Where one tranche has closed more than its
        share, the others have less left to close: the last ones first.
        """
        total = self.b.bought + self.b.excess_filled
        split = legs.tranche_quantities(self.b.definition, self.b.definition.intent.quantity)
        left, shares = total, dict.fromkeys(range(1, len(split) + 1) if split else (0,), ZERO)
        for number, quantity in enumerate(split[:-1], 1):
            shares[number] = max(ZERO, min(left, quantity))
            left -= shares[number]
        shares[len(split)] = max(ZERO, left)
        exited = dict.fromkeys(shares, ZERO)
        for lot in self.b.lots.values():
            exited[lot.tranche] = exited.get(lot.tranche, ZERO) + lot.exited
        over = sum((max(ZERO, done - shares.get(number, ZERO)) for number, done in exited.items()), ZERO)
        for number in sorted(shares, reverse=True):
            cut = min(over, max(ZERO, shares[number] - exited[number]))
            shares[number] -= cut
            over -= cut
        return shares


def can_send(t: Turn) -> bool:
    """Whether the venue's picture is known and its gate open."""
    return t.b.pictured and t.b.gate_open
