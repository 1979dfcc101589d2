"""Parents and children of native brackets (ib-wire.md 6.3): who is released with whom, and who still waits.

Law: families only remember; the exchange accepts, activates and cancels.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.venue.simulator.orders import ExchangeRules, Key, Order


class Families:
    """The live children of each parent, in order of arrival."""

    def __init__(self) -> None:
        self._children: dict[Key, list[Order]] = {}

    def join(self, order: Order) -> None:
        if order.parent_id:
            self._children.setdefault(_parent_key(order), []).append(order)

    def leave(self, order: Order) -> None:
        if not order.parent_id:
            return
        siblings = [c for c in self._children.get(_parent_key(order), ()) if c is not order]
        if siblings:
            self._children[_parent_key(order)] = siblings
        else:
            self._children.pop(_parent_key(order), None)

    def children(self, parent: Order) -> list[Order]:
        return list(self._children.get(parent.key, ()))

    @staticmethod
    def parent(order: Order, live: Mapping[Key, Order]) -> Order | None:
        return live.get(_parent_key(order)) if order.parent_id else None

    def released_by(self, order: Order, live: Mapping[Key, Order]) -> list[Order]:
        """Return the order with the untransmitted relatives that its transmission releases, the parent first."""
        if not order.parent_id:
            return [order]
        parent = live.get(_parent_key(order))
        released = [parent] if parent is not None and not parent.transmit else []
        return released + [c for c in self._children.get(_parent_key(order), ()) if c is order or not c.transmit]

    @staticmethod
    def waits(order: Order, live: Mapping[Key, Order], rules: ExchangeRules) -> bool:
        """Return whether a child must wait for its parent."""
        parent = live.get(_parent_key(order)) if order.parent_id else None
        if parent is None:
            return False
        return not (rules.child_activation == "partial" and parent.filled > 0)


def _parent_key(order: Order) -> Key:
    return (order.client_id, order.parent_id)
