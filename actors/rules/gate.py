"""The last gate: what may still be written for a bracket, from its fills and from what already lives at the venue.

Rule 1: open = entry filled + excess bought back - exit filled. The exits that live may never exceed it.
Rule 2: the members of one group compete for the same quantity, so a group counts once: its largest member's leaves, at
        most the group's lot less what the group has filled. Independent groups are summed (trading-rules.md 4).
Rule 3: an order counts from the moment it is written until the venue or a query has said that it is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from messages.base import Record
from messages.orders import Role

ZERO = Decimal(0)


class Decision(Record, frozen=True, kw_only=True):
    """What may be written: `quantity`, or nothing (0) for `reason`."""

    quantity: Decimal
    reason: str = ""


@dataclass(slots=True)
class GateOrder:
    """One transmission. `quantity` is its total at the venue; `group` competes for one quantity."""

    role: Role
    group: str
    quantity: Decimal
    filled: Decimal = ZERO
    live: bool = True

    @property
    def leaves(self) -> Decimal:
        return max(self.quantity - self.filled, ZERO) if self.live else ZERO


@dataclass(slots=True)
class Group:
    """What a group was made for, and what its members have filled of it."""

    lot: Decimal = ZERO
    filled: Decimal = ZERO


@dataclass(slots=True)
class BracketBook:
    """The fills of one bracket and the leaves of each of its groups. Quantities in shares or contracts."""

    entry_filled: Decimal = ZERO
    exit_filled: Decimal = ZERO
    excess_filled: Decimal = ZERO
    orders: dict[str, GateOrder] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    @property
    def open_qty(self) -> Decimal:
        """What is open; below zero after an overfill."""
        return self.entry_filled + self.excess_filled - self.exit_filled

    def exposure(self, group: str, leaves: Iterable[Decimal]) -> Decimal:
        """Return what one group can still take out of the position."""
        largest = max(leaves, default=ZERO)
        known = self.groups.get(group)
        return largest if known is None else min(largest, max(known.lot - known.filled, ZERO))

    def committed(self, but: str = "", but_group: str = "") -> Decimal:
        """Return what all living exits can still take, but for one order or one whole group."""
        leaves: dict[str, list[Decimal]] = {}
        for order_id, order in self.orders.items():
            if order.role is not Role.EXIT or not order.live or order_id == but:
                continue
            if not but_group or order.group != but_group:
                leaves.setdefault(order.group or order_id, []).append(order.leaves)
        return sum((self.exposure(group, each) for group, each in leaves.items()), ZERO)

    def decide(
        self, order_id: str, role: Role, group: str | None, quantity: Decimal, *, reduce: bool = False,
        accept_race: bool = False,
    ) -> Decision:
        """Say how much of an order may be written now. `quantity`: what it would add as leaves.

        `reduce` cuts an exit down to what is open instead of refusing it; `accept_race` leaves living exits without a
        group out of account (exit_race = fast).
        """
        if quantity <= 0:
            return Decision(quantity=ZERO, reason=f"quantity {quantity} is not above 0")
        if role is Role.ENTRY:
            return Decision(quantity=quantity)
        room = self.room(order_id, role, group or "", accept_race=accept_race)
        if quantity <= room:
            return Decision(quantity=quantity)
        whole = max(room, ZERO).to_integral_value(rounding="ROUND_FLOOR")
        if reduce and whole > 0:
            return Decision(quantity=min(quantity, whole))
        word = "open" if role is Role.EXIT else "overfilled"
        return Decision(quantity=ZERO, reason=(
            f"{quantity} would exceed what is {word}: entry filled {self.entry_filled}, exits filled"
            f" {self.exit_filled}, bought back {self.excess_filled}, already at the venue"
            f" {self.committed(but=order_id)}, room {max(room, ZERO)}"))

    def room(self, order_id: str, role: Role, group: str, *, accept_race: bool = False) -> Decimal:
        """Return how much an order of this role and group may have as leaves."""
        if role is Role.EXCESS:
            others = (o for key, o in self.orders.items() if o.role is Role.EXCESS and key != order_id)
            return -self.open_qty - sum((order.leaves for order in others), ZERO)
        if accept_race and not group:
            return self.open_qty
        return self.open_qty - self.committed(but=order_id, but_group=group)

    # -- what has happened -------------------------------------------------------------------------------------

    def placed(
        self, order_id: str, role: Role, group: str | None, quantity: Decimal, filled: Decimal = ZERO
    ) -> None:
        """Count an order that was written, or found at the venue with `filled` of its total `quantity`."""
        known = self.orders.get(order_id)
        if known is None:
            self.orders[order_id] = GateOrder(role, group or "", quantity, filled)
        else:
            known.quantity, known.live, known.group = quantity, True, group or known.group
        self._fit_lot(order_id)

    def resized(self, order_id: str, quantity: Decimal) -> None:
        """Take over the venue's new total of an order."""
        order = self.orders.get(order_id)
        if order is not None:
            order.quantity = quantity
            self._fit_lot(order_id)

    def _fit_lot(self, order_id: str) -> None:
        order = self.orders[order_id]
        if order.role is Role.EXIT and order.group and order.live:
            group = self.groups.setdefault(order.group, Group())
            group.lot = max(group.lot, order.leaves + group.filled)

    def refit(self) -> None:
        """Measure every group anew, once the venue's picture is whole: totals that it shows are cut already."""
        for order_id in self.orders:
            self._fit_lot(order_id)

    def filled(self, order_id: str, role: Role, quantity: Decimal, *, counted: bool = False) -> None:
        """Book an execution; a correction or a bust comes as the difference, which may be negative.

        `counted`: the totals have it already, from an owner who booked it before.
        """
        order = self.orders.get(order_id)
        if order is not None:
            order.filled += quantity
            if order.filled >= order.quantity:
                order.live = False  # complete: a bust of it later gives back what is open, not its leaves
            if order.group and role is Role.EXIT:
                self.groups.setdefault(order.group, Group(lot=order.quantity)).filled += quantity
        if counted:
            return
        if role is Role.ENTRY:
            self.entry_filled += quantity
        elif role is Role.EXCESS:
            self.excess_filled += quantity
        else:
            self.exit_filled += quantity

    def ended(self, order_id: str) -> None:
        """Stop counting an order: the venue says that it is over. A late fill is booked all the same."""
        order = self.orders.get(order_id)
        if order is not None:
            order.live = False

    def forgotten(self, order_id: str) -> None:
        """Drop an order that was never written or is proved absent."""
        self.orders.pop(order_id, None)
