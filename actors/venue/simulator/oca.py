"""One-cancels-all groups at the venue (ib-wire.md 6.3, domain.md 2.2).

Law: a group says what must happen to its members; the exchange does it. A group that has filled stays closed for ever.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from actors.venue.simulator.orders import ExchangeRules, Order

GroupKey = tuple[str, str]


class GroupBook:
    """All OCA groups of the venue, by (account, group name)."""

    def __init__(self) -> None:
        self._members: dict[GroupKey, list[Order]] = {}
        self._filled: dict[GroupKey, None] = {}

    def join(self, order: Order) -> None:
        self._members.setdefault(order.group, []).append(order)

    def leave(self, order: Order) -> None:
        members = self._members.get(order.group)
        if members is None:
            return
        self._members[order.group] = [m for m in members if m is not order]
        if not self._members[order.group]:
            del self._members[order.group]

    def members(self, order: Order) -> list[Order]:
        """Return the live members of the order's group, oldest first."""
        return list(self._members.get(order.group, ()))

    def is_filled(self, order: Order) -> bool:
        return order.group in self._filled

    def after_fill(self, order: Order, quantity: Decimal, leaves_before: Decimal,
                   rules: ExchangeRules) -> list[tuple[Order, Decimal | None]]:
        """Return what one fill means for the siblings: (order, new total), or (order, None) to cancel it.

        Type 1 cancels the rest at any fill; types 2 and 3 shrink them by a partial one and cancel them when the member
        is complete. What differs between 2 and 3 (only one member exposed at a time) cannot be seen from outside here.
        """
        complete = order.remaining <= 0
        if complete or order.oca_type == 1:
            self.close(order.group)
        siblings = [m for m in self.members(order) if m is not order]
        if complete or order.oca_type == 1:
            return [(s, None) for s in siblings]
        changes: list[tuple[Order, Decimal | None]] = []
        for sibling in siblings:
            cut = quantity
            if rules.oca_reduce == "proportional" and leaves_before > 0:
                cut = (sibling.remaining * quantity / leaves_before).to_integral_value(ROUND_FLOOR)
            left = sibling.remaining - cut
            changes.append((sibling, sibling.filled + left if left > 0 else None))
        return changes

    def close(self, key: GroupKey) -> None:
        """Close a group for good: it has filled."""
        self._filled[key] = None
        if len(self._filled) > 100_000:      # the oldest group names are forgotten first
            del self._filled[next(iter(self._filled))]
