"""What the exchange says: reports, each a fact of its moment.

Law: a report carries copies, so it still tells the truth when it is read later.
"""

from __future__ import annotations

from actors.venue.simulator.orders import UNSET_ID, Execution, Order, Position, Record


class OpenReport(Record, frozen=True):
    """The order as it stands (openOrder, 5)."""

    order: Order


class StatusReport(Record, frozen=True):
    """The order's status and quantities (orderStatus, 3).

    `told` is False where the rules keep it from the client, and `fresh` where it only repeats the one before: the
    journal takes every fresh one, told or not.
    """

    order: Order
    told: bool = True
    fresh: bool = True


class BoundReport(Record, frozen=True):
    """A manual order was bound to client 0 (orderBound, 100)."""

    order: Order


class FillReport(Record, frozen=True):
    """One execution (execDetails, 11)."""

    execution: Execution


class CommissionReport(Record, frozen=True):
    """What an execution cost and realised (commissionReport, 59)."""

    execution: Execution


class ErrorReport(Record, frozen=True):
    """An error or a message about an order id (4). The order may be live: its code tells."""

    client_id: int | None
    order_id: int
    code: int
    text: str


class PositionReport(Record, frozen=True):
    """A position after a fill (61), for every subscriber."""

    position: Position


OrderReport = OpenReport | StatusReport
OF_AN_ORDER = (OpenReport, StatusReport, BoundReport)
OF_AN_EXECUTION = (FillReport, CommissionReport)
Report = OrderReport | BoundReport | FillReport | CommissionReport | ErrorReport | PositionReport


def owner(report: Report) -> int | None:
    """Return the client id that a report is for, or None: for every subscriber, or an unbound manual order's."""
    if isinstance(report, OF_AN_ORDER):
        return report.order.client_id if report.order.bound else None
    if isinstance(report, OF_AN_EXECUTION):
        return report.execution.client_id if report.execution.order_id != UNSET_ID else None
    return report.client_id if isinstance(report, ErrorReport) else None
