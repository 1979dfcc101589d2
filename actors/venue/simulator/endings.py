"""How orders end other than by trading: cancelled, expired, refused.

Law: an order that ends takes along the children that wait for it; it is told once, in the sequence the rules choose.
"""

from __future__ import annotations

from actors.venue.simulator.orders import Order
from actors.venue.simulator.rolls import Rolls


class Endings(Rolls):
    """The part of the exchange that makes orders final and says so."""

    def _too_late(self, order: Order, code: int) -> None:
        text = f"OrderId {order.order_id} that needs to be cancelled cannot be cancelled, state: {order.status}."
        if code == 161:
            text = f"Cancel attempted when order is not in a cancellable state. Order permId ={order.perm_id}"
        self._tell.error(order, code, text)

    def _end_unfilled(self, order: Order, now_ns: int) -> None:
        """End what is left of an IOC or FOK order."""
        if order.tif == "FOK" and self.rules.fok_unfilled == "Inactive":
            self._retire(order, "Inactive", now_ns, "Cancelled")
            self._tell.status(order)
            self._cancel_children(order, now_ns, "Parent rejected")
            return
        if self.rules.pending_cancel:
            order.status = "PendingCancel"
            self._tell.status(order)
        self._end_cancelled(order, now_ns, "Cancelled", with_202=self.rules.ioc_202)

    def _end_cancelled(self, order: Order, now_ns: int, reason: str, with_202: bool = True,
                       say_reason: bool = False) -> None:
        """Make an order Cancelled, tell it, and take its waiting children along."""
        if not order.perm_id:
            self._forget(order)       # the venue never had it: there is no state to tell
            self._tell.code_202(order, reason)
            self._cancel_children(order, now_ns, reason)
            return
        self._retire(order, "Cancelled", now_ns, reason)
        self._tell.cancelled(order, reason, with_202, say_reason)
        self._cancel_children(order, now_ns, reason)
        parent = self.families.parent(order, self.orders) if order.instructions.auto_cancel_parent else None
        if parent is not None:
            self._end_cancelled(parent, now_ns, reason)

    def _cancel_children(self, order: Order, now_ns: int, reason: str) -> None:
        whole = order.filled == 0 or self.rules.child_activation == "full"
        for child in self.families.children(order):
            waits = child.why_held == "child" or (whole and child.pending == "accept")
            if child.key in self.orders and (order.filled == 0 or waits):
                self._end_cancelled(child, now_ns, reason, with_202=self.rules.child_202)

    def _refuse(self, order: Order, code: int, reason: str, now_ns: int) -> None:
        self._retire(order, "Inactive", now_ns, reason)
        self._tell.refused(order, code, reason)
        self._cancel_children(order, now_ns, "Parent rejected")
