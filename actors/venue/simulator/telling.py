"""What the exchange says of what happened, in the sequence that the rules choose (ib-wire.md 6.1).

Law: it adds reports and changes no order. Whatever the rules keep from the clients is still reported to the journal.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.venue.simulator.orders import ZERO, ExchangeRules, Execution, Order, Position
from actors.venue.simulator.reports import (
    BoundReport,
    CommissionReport,
    ErrorReport,
    FillReport,
    OpenReport,
    PositionReport,
    Report,
    StatusReport,
)

CANCEL_TEXT = "Order Canceled - reason:"


class Teller:
    """Collects reports until `take`. `changed` hears of every order that is spoken of."""

    def __init__(self, rules: ExchangeRules, changed: Callable[[Order], None]) -> None:
        self._rules = rules
        self._changed = changed
        self._out: list[Report] = []

    def take(self) -> list[Report]:
        out, self._out = self._out, []
        return out

    # one message each ------------------------------------------------------------------------------------------

    def order(self, order: Order, times: int = 1) -> None:
        """Say openOrder and orderStatus, as the order stands now."""
        copy = msgspec.structs.replace(order)
        for n in range(times):
            self._out.append(OpenReport(copy))
            self._say_status(copy, fresh=n == 0)
        self._changed(order)

    def status(self, order: Order) -> None:
        self._say_status(msgspec.structs.replace(order))
        self._changed(order)

    def only_journal(self, order: Order) -> None:
        """Record a state of which the client hears nothing."""
        self._out.append(StatusReport(msgspec.structs.replace(order), told=False))
        self._changed(order)

    def what_if(self, order: Order) -> None:
        self._out.append(OpenReport(msgspec.structs.replace(order)))

    def bound(self, order: Order) -> None:
        self._out.append(BoundReport(msgspec.structs.replace(order)))

    def error(self, order: Order, code: int, text: str) -> None:
        self.error_to(order.client_id if order.bound else None, order.order_id, code, text)

    def error_to(self, client_id: int | None, order_id: int, code: int, text: str) -> None:
        self._out.append(ErrorReport(client_id, order_id, code, text))

    def _say_status(self, copy: Order, fresh: bool = True) -> None:
        self._out.append(StatusReport(copy, fresh=fresh))
        for _ in range(self._rules.duplicate_status - 1):
            self._out.append(StatusReport(copy, fresh=False))

    # sequences -------------------------------------------------------------------------------------------------

    def accepted(self, order: Order) -> None:
        """Say that the venue has the order."""
        if self._rules.status_first:
            self.status(order)
        self.order(order, self._rules.held_repeats if order.why_held else 1)

    def filled(self, order: Order, fills: list[tuple[Execution, Position | None]], racing: bool) -> None:
        """Tell one fill: 11, 5, 3, 59 and the position; in a race with a cancel without the 5.

        A combination has several executions, the first one its own, of which there is no position.
        """
        rules, complete = self._rules, order.status == "Filled"
        executions = [FillReport(execution) for execution, _ in fills]
        if not rules.late_execution:
            self._out += executions
        if complete and not rules.filled_status:
            self.only_journal(order)
        elif racing:
            self.status(order)
        elif complete and rules.commission_echo:
            first = msgspec.structs.replace(order, commission=ZERO)
            self.order(first)
            self.order(order)
        else:
            self.order(order)
        if rules.late_execution:
            self._out += executions
        for execution, position in fills:
            self._out.append(CommissionReport(execution))
            if position is not None:
                self._out.append(PositionReport(msgspec.structs.replace(position)))

    def cancelled(self, order: Order, reason: str, with_202: bool, say_reason: bool) -> None:
        """Say the end of an order that was or fell cancelled."""
        self.status(order)
        if with_202:
            self.code_202(order, reason, say_reason)

    def code_202(self, order: Order, reason: str, say_reason: bool = False) -> None:
        said = reason if say_reason or self._rules.cancel_reason_text else ""
        self.error(order, 202, f"{CANCEL_TEXT}{said}")

    def refused(self, order: Order, code: int, reason: str) -> None:
        """Say a refusal that the venue remembers as Inactive."""
        style = self._rules.reject_style
        if style in ("error_first", "error_only"):
            self.error(order, code, reason)
        if style == "error_only":
            self.only_journal(order)
        else:
            self.order(order)
        if style == "inactive_first":
            self.error(order, code, reason)
