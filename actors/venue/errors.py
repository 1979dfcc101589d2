"""What an error means for the order whose id it carries: the table of ib_codes.py, applied to what the order was doing.

Law: no number alone ends an order that the venue has acknowledged; whatever is not in the table asks the venue.
"""

from __future__ import annotations

from actors.venue import ib_codes
from actors.venue.ib_codes import Verb, Verdict
from actors.venue.known import KnownOrder
from actors.venue.port import ErrorTold
from actors.venue.reports import Reports
from messages.orders import AmendRejected, CancelRejected


class OrderErrors:
    """Errors that name an order of this session."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports
        self.desk = reports.desk
        self.books = reports.books

    def order_error(self, event: ErrorTold, now: int) -> bool:
        """Judge an error by what its order was doing. False where its id is no order's of this session."""
        order = self.books.by_venue_id.get(event.request_id)
        if order is None:
            return False
        verb = self._verb(order, event.code)
        verdict = ib_codes.judge(verb, event.code)
        if verdict is Verdict.WARNING:
            self.desk.alert("info", f"ib_{event.code}", f"order {order.order_id}: {event.text}", now,
                            order.ref.bracket_id)
        elif verdict is Verdict.CANCELED:
            order.end_reason = order.end_reason or event.text
            if order.live:
                self.reports.canceled(order, event.text, now)
        elif verdict is Verdict.REJECTED:
            self.reports.reject(order, event.code, event.text, now)
        elif verdict is Verdict.AMEND_FAILED:
            order.amending = None
            self.books.bracket(order.ref.bracket_id).book.resized(order.order_id, order.quantity)
            self.reports.say(order, AmendRejected(**self.reports.ids(order, now), code=event.code, reason=event.text))
            self.desk.round_wanted = True
        elif verdict is Verdict.CANCEL_QUESTION:
            self.reports.say(order, CancelRejected(**self.reports.ids(order, now), code=event.code, reason=event.text))
            order.cancel_wanted, order.cancel_written_ns = False, 0
            self.desk.questions[order.order_id] = None
            self.desk.round_wanted = True
        else:
            self._doubt(order, event, verdict, now)
        return True

    def _doubt(self, order: KnownOrder, event: ErrorTold, verdict: Verdict, now: int) -> None:
        if not order.live:
            return
        if verdict is Verdict.ID_USED:
            self.desk.alert("critical", "id_used", (
                f"order {order.order_id}: the venue says that id {event.request_id} was used before; the counter is"
                " raised"), now, order.ref.bracket_id)
            self.desk.venue.raise_id(event.request_id + 1_000)
        order.refused = (event.code, event.text)
        if order.status == "Inactive":
            self.reports.reject(order, event.code, event.text, now)
        else:
            self.desk.round_wanted = True

    @staticmethod
    def _verb(order: KnownOrder, code: int) -> Verb:
        if not order.accepted:
            return Verb.NEW
        if order.cancel_written_ns and (order.amending is None or code in ib_codes.CANCEL_QUESTIONS):
            return Verb.CANCEL
        return Verb.MODIFY if order.amending is not None else Verb.WORKING
