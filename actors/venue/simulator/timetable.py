"""What the exchange has still to do by itself: end orders whose time is over, finish what takes a while.

Law: an entry is a hint; it counts only while the order that it names still says the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from actors.venue.simulator.orders import Key, Order

Kind = Literal["expire", "accept", "cancel", "react"]
Entry = tuple[int, int, Kind, Key]
LEAST_ENTRIES = 64


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """What an OCA group has yet to do after a fill: `quantity` shares of `key`, of which `leaves_before` were left."""

    due_ns: int
    key: Key
    quantity: Decimal
    leaves_before: Decimal


class Timetable:
    """Everything due, by time and then by arrival. `orders` are the live ones, read but never changed."""

    def __init__(self, orders: Mapping[Key, Order]) -> None:
        self._orders = orders
        self._heap: list[Entry] = []
        self._arrivals = 0
        self.reactions: dict[int, Reaction] = {}

    def enter(self, order: Order) -> None:
        """Note when this order ends by itself, and when what it waits for is done."""
        if order.expires_ns is not None:
            self._push(order.expires_ns, "expire", order.key)
        if order.pending:
            self._push(order.pending_ns, order.pending, order.key)

    def react_later(self, reaction: Reaction) -> None:
        number = self._push(reaction.due_ns, "react", reaction.key)
        self.reactions[number] = reaction

    def _push(self, due_ns: int, kind: Kind, key: Key) -> int:
        self._arrivals += 1
        if len(self._heap) > LEAST_ENTRIES + 4 * (len(self._orders) + len(self.reactions)):
            self._tidy()
        heapq.heappush(self._heap, (due_ns, self._arrivals, kind, key))
        return self._arrivals

    def __len__(self) -> int:
        return len(self._heap)

    def next_ns(self) -> int | None:
        """Return when the next thing is due, or None; entries that no longer count are dropped."""
        while self._heap:
            if self._counts(self._heap[0]):
                return self._heap[0][0]
            heapq.heappop(self._heap)
        return None

    def _counts(self, entry: Entry) -> bool:
        due, number, kind, key = entry
        if kind == "react":
            return number in self.reactions
        order = self._orders.get(key)
        if order is None:
            return False
        return order.expires_ns == due if kind == "expire" else (order.pending, order.pending_ns) == (kind, due)

    def _tidy(self) -> None:
        """Throw out what no longer counts, or is noted twice: an order may be amended for ever before it ends."""
        kept: dict[tuple[int, Kind, Key, int], Entry] = {}
        for entry in sorted(self._heap):
            due, number, kind, key = entry
            if self._counts(entry):
                kept.setdefault((due, kind, key, number if kind == "react" else 0), entry)
        self._heap = list(kept.values())        # sorted, and so a heap

    def take(self, now_ns: int) -> tuple[Kind, Key, Reaction | None] | None:
        """Return and forget the first thing that is due, or None."""
        due = self.next_ns()
        if due is None or due > now_ns:
            return None
        _, number, kind, key = heapq.heappop(self._heap)
        return kind, key, self.reactions.pop(number, None)
