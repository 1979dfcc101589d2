"""Orders and the exchange's hours: who may work now, who waits for the opening or for shares to be lent, and what a
change of phase tells.

Law: where the exchange keeps no hours, everybody may work always. Nothing here trades.
"""

from __future__ import annotations

from actors.venue.simulator import validation
from actors.venue.simulator.book import STOPS
from actors.venue.simulator.endings import Endings
from actors.venue.simulator.holds import LOCATE
from actors.venue.simulator.hours import works
from actors.venue.simulator.orders import Order


class Sessions(Endings):
    """The part of the exchange that knows its hours."""

    def _in_hours(self, order: Order, now_ns: int) -> bool:
        return self.hours is None or works(order, self.hours.phase(now_ns))

    def _own_hold(self, order: Order) -> str:
        """Return what holds an accepted order by its own nature: its trigger, or shares that nobody has lent yet.

        A stop is not located: it would have to be at its trigger. Shares located elsewhere come with shortSaleSlot 2.
        """
        if order.order_type in STOPS:
            return "" if order.triggered else "trigger"
        if not self.rules.locate_ms or order.is_buy or order.contract.sec_type != "STK":
            return ""
        held = self.accounts.positions.get((order.account, order.contract.con_id))
        covered = held is not None and held.quantity >= order.total
        return "" if covered or order.extras.get("shortSaleSlot") == "2" else LOCATE

    def _waits(self, order: Order, now_ns: int) -> bool:
        """Return whether an order must wait for a time, for conditions or for shares (404)."""
        if order.why_held == LOCATE:
            self._tell.error(order, 404, validation.LOCATE_WARNING)
        return self.holds.watch(order, now_ns)

    def _awaits_opening(self, order: Order, now_ns: int) -> bool:
        """Return whether an order that begins to work has to wait for its hours, and say so (399)."""
        if self.hours is None or self._in_hours(order, now_ns):
            return False
        opening_ns = self.hours.next_open_ns(now_ns, order.outside_rth)
        self._tell.error(order, 399, validation.closed_text(order, opening_ns))
        return True

    def _rephase(self, now_ns: int) -> list[Order]:
        """Tell every order whose hours begin or end now what it is; return those that may work, oldest first."""
        ready = []
        for order in sorted((o for b in self.books.values() for o in b.orders.values()), key=lambda o: o.seq):
            may, waits = self._in_hours(order, now_ns), order.order_type in STOPS and not order.triggered
            if not waits and order.status == ("PreSubmitted" if may else "Submitted"):
                order.status = "Submitted" if may else "PreSubmitted"
                self._tell.order(order)
            self.book(order.contract.con_id).dirty()
            if may:
                ready.append(order)
        return ready
