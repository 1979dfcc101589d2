"""Faults of what is told of orders: reports that come early, late, twice, in another order, or never.

Law: the journal's `sim` lines are written first, untouched; only what the clients hear is changed. What is told late is
told to the connection for which it was meant, or to nobody: IB delivers nothing later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from actors.venue.simulator.desks import accounts
from actors.venue.simulator.faults.aiming import Armed, Occasion
from actors.venue.simulator.faults.correction import correct
from actors.venue.simulator.faults.kinds import (
    DupExec,
    ErrorThenLive,
    ExecCorrection,
    FillBeforeAck,
    LateCommission,
    LateExecution,
    NoFilledStatus,
    PositionLag,
    RejectStyle,
    ReportFault,
    StatusFirst,
)
from actors.venue.simulator.orders import Execution, Key
from actors.venue.simulator.reports import (
    CommissionReport,
    ErrorReport,
    FillReport,
    OpenReport,
    PositionReport,
    Report,
    StatusReport,
    owner,
)
from actors.venue.simulator.wire import number

if TYPE_CHECKING:
    from actors.venue.simulator.faults.board import FaultBoard
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
HELD = 1000         # acknowledgements that are held back at the same time, at most


class Tellings:
    """What the report faults do."""

    def __init__(self, board: FaultBoard) -> None:
        self.board = board
        self.styles: dict[Key, RejectStyle] = {}            # of the order that is being rejected just now
        self._held: dict[Key, list[Report]] = {}            # acknowledgements that wait for a fill

    def deliver(self, reports: list[Report], now_ns: int) -> None:
        """Journal all, then tell what is left of it, in the order that is left."""
        gateway = self.board.gateway
        for report in reports:
            gateway.record(report, now_ns)
        if gateway.link.down:
            gateway.link.missed += len(reports)
            return
        told = self._styled(reports) if self.styles else list(reports)
        for armed in list(self.board.of(ReportFault)):
            if not armed.spent:
                told = ACTS[type(armed.fault)](self, armed, told, now_ns)
        if self._held:
            told = self._release_filled(told)
        for report in told:
            if isinstance(report, PositionReport):
                self._tell_position(report, now_ns)
            else:
                gateway.tell(report, now_ns)

    def later(self, report: Report, dt: float, now_ns: int) -> None:
        """Tell a report `dt` seconds later, if its client is still the same connection."""
        gateway = self.board.gateway
        client_id = owner(report)
        session = gateway.by_client.get(client_id) if client_id is not None else None
        if session is None:
            return

        def tell(then_ns: int) -> None:
            if gateway.by_client.get(session.client_id) is session and not gateway.link.down:
                gateway.tell(report, then_ns)

        gateway.agenda.at(now_ns + int(dt * NS), tell)

    def fires(self, armed: Armed, report: Report, now_ns: int) -> bool:
        """Ask a fault about one report."""
        what = _about(report)
        return what is not None and self.board.fires(armed, what, now_ns)

    def _tell_position(self, report: PositionReport, now_ns: int) -> None:
        gateway = self.board.gateway
        for session in list(gateway.by_client.values()):
            lag = 0.0
            for armed in self.board.of(ReportFault):
                what = Occasion(session.client_id, "position", None, report.position.contract.symbol)
                if isinstance(armed.fault, PositionLag) and self.board.fires(armed, what, now_ns):
                    lag = max(lag, armed.fault.dt)
            if not lag:
                accounts.position_changed(session, report.position, now_ns)
                continue

            def tell(then_ns: int, session: Session = session) -> None:
                if not session.closing and not gateway.link.down:
                    accounts.position_changed(session, report.position, then_ns)

            gateway.agenda.at(now_ns + int(lag * NS), tell)

    # the ways --------------------------------------------------------------------------------------------------

    def _styled(self, reports: list[Report]) -> list[Report]:
        """Tell a rejection in its style; everything else in the batch stays as it is."""
        told: list[Report] = []
        for key, style in self.styles.items():
            order = self.board.gateway.exchange.done.get(key)
            if order is None or order.status != "Inactive" or order.done_text != style.reason:
                return list(reports)
            copy = msgspec.structs.replace(order)
            inactive: list[Report] = [OpenReport(copy), StatusReport(copy)]
            error: list[Report] = [ErrorReport(*key, style.code, style.reason)]
            told += {"201_only": error, "inactive_only": inactive, "201_first": error + inactive,
                     "inactive_first": inactive + error}[style.style]
        return told + [r for r in reports if _key(r) not in self.styles]

    def status_first(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        told = list(reports)
        for n in range(len(told) - 1):
            one, two = told[n], told[n + 1]
            if isinstance(one, OpenReport) and isinstance(two, StatusReport) and one.order.key == two.order.key \
                    and self.fires(armed, two, now_ns):
                told[n], told[n + 1] = two, one
        return told

    def fill_before_ack(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        """Hold the acknowledgement of an order that is being placed until its first fill."""
        fault = armed.fault
        assert isinstance(fault, FillBeforeAck)
        for report in reports:
            key = _key(report)
            fresh = self.board.placing and isinstance(report, OpenReport) and report.order.filled == 0 and \
                report.order.alive
            if fresh and key is not None and key not in self._held and len(self._held) < HELD \
                    and self.fires(armed, report, now_ns):
                self._held[key] = []
                due_ns = now_ns + int(fault.hold * NS)
                self.board.gateway.agenda.at(due_ns, lambda then_ns, key=key: self._let_go(key, then_ns))
        return reports

    def _release_filled(self, reports: list[Report]) -> list[Report]:
        """Keep back what is held; tell it right after the order's first fill, or with its end."""
        told: list[Report] = []
        for report in reports:
            key = _key(report)
            held = self._held.get(key) if key is not None else None
            if key is None or held is None:
                told.append(report)
            elif isinstance(report, FillReport):
                told += [report, *held]
                del self._held[key]
            elif isinstance(report, StatusReport) and not report.order.alive:
                told += [*held, report]
                del self._held[key]
            else:
                held.append(report)
        return told

    def _let_go(self, key: Key, now_ns: int) -> None:
        for report in self._held.pop(key, ()):
            self.board.gateway.tell(report, now_ns)

    def late_execution(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        fault = armed.fault
        assert isinstance(fault, LateExecution)
        late = [r for r in reports if isinstance(r, FillReport) and self.fires(armed, r, now_ns)]
        ids = {r.execution.exec_id for r in late if isinstance(r, FillReport)}
        moved = [r for r in reports if isinstance(r, FillReport | CommissionReport) and r.execution.exec_id in ids]
        if fault.dt:
            for report in moved:
                self.later(report, fault.dt, now_ns)
        return [r for r in reports if r not in moved] + ([] if fault.dt else moved)

    def no_filled_status(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        gone: set[int] = set()
        for n, report in enumerate(reports):
            if isinstance(report, StatusReport) and report.order.status == "Filled" and \
                    self.fires(armed, report, now_ns):
                gone.update(m for m, other in enumerate(reports) if isinstance(other, OpenReport)
                            and other.order.key == report.order.key and other.order.status == "Filled")
                gone.add(n)
        return [r for n, r in enumerate(reports) if n not in gone]

    def late_commission(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        fault = armed.fault
        assert isinstance(fault, LateCommission)
        told: list[Report] = []
        for report in reports:
            if not isinstance(report, CommissionReport) or not self.fires(armed, report, now_ns):
                told.append(report)
            elif fault.dt != "never":
                self.later(report, fault.dt, now_ns)
        return told

    def exec_correction(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        fault = armed.fault
        assert isinstance(fault, ExecCorrection)
        for report in reports:
            if isinstance(report, FillReport) and self.fires(armed, report, now_ns):
                execution = report.execution

                def due(then_ns: int, execution: Execution = execution) -> None:
                    self._correct(execution, fault.ticks, then_ns)

                self.board.gateway.agenda.at(now_ns + int(fault.dt * NS), due)
        return reports

    def _correct(self, execution: Execution, ticks: int, now_ns: int) -> None:
        """Correct an execution at the exchange, in its books and on the wire."""
        gateway = self.board.gateway
        price = execution.price + ticks * execution.contract.min_tick
        if price <= 0 or execution.contract.sec_type == "BAG" or execution not in gateway.exchange.executions:
            return
        corrected = correct(gateway.exchange, execution, price)
        gateway.log(now_ns, "sim", corrected.client_id, "execution_corrected", {
            "execId": corrected.exec_id, "orderRef": corrected.order_ref, "before": number(execution.price),
            "price": number(price), "quantity": number(corrected.quantity)})
        if not gateway.link.down:
            gateway.tell(FillReport(corrected), now_ns)

    def dup_exec(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        fault = armed.fault
        assert isinstance(fault, DupExec)
        told: list[Report] = []
        for report in reports:
            told.append(report)
            if isinstance(report, FillReport) and self.fires(armed, report, now_ns):
                if not fault.dt:
                    told += [report] * (fault.n - 1)
                else:
                    for n in range(1, fault.n):
                        self.later(report, fault.dt * n, now_ns)
        return told

    def error_then_live(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        fault = armed.fault
        assert isinstance(fault, ErrorThenLive)
        told: list[Report] = []
        done: set[Key] = set()
        for report in reports:
            told.append(report)
            if self.board.placing and isinstance(report, StatusReport) and report.order.alive \
                    and report.order.key not in done:
                done.add(report.order.key)
                if self.fires(armed, report, now_ns):
                    told.append(ErrorReport(*report.order.key, fault.code, fault.text))
        return told

    def as_it_is(self, armed: Armed, reports: list[Report], now_ns: int) -> list[Report]:
        return reports


ACTS: dict[type, Callable[[Tellings, Armed, list[Report], int], list[Report]]] = {
    StatusFirst: Tellings.status_first,
    FillBeforeAck: Tellings.fill_before_ack,
    LateExecution: Tellings.late_execution,
    NoFilledStatus: Tellings.no_filled_status,
    LateCommission: Tellings.late_commission,
    ExecCorrection: Tellings.exec_correction,
    DupExec: Tellings.dup_exec,
    ErrorThenLive: Tellings.error_then_live,
    PositionLag: Tellings.as_it_is,         # when the position is told, per client
}


def _key(report: Report) -> Key | None:
    if isinstance(report, OpenReport | StatusReport):
        return report.order.key
    if isinstance(report, FillReport | CommissionReport):
        return report.execution.client_id, report.execution.order_id
    return (report.client_id, report.order_id) if isinstance(report, ErrorReport) else None


def _about(report: Report) -> Occasion | None:
    """Return the occasion of one report, by the name of the message that it becomes."""
    if isinstance(report, OpenReport | StatusReport):
        o = report.order
        name = "openOrder" if isinstance(report, OpenReport) else "orderStatus"
        return Occasion(o.client_id, name, o.order_ref, o.contract.symbol)
    if isinstance(report, FillReport | CommissionReport):
        e = report.execution
        name = "execDetails" if isinstance(report, FillReport) else "commissionReport"
        return Occasion(e.client_id, name, e.order_ref, e.contract.symbol)
    return None


