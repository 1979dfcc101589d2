"""The history desk: bars and ticks of the past (ib-wire.md 10).

Nothing is kept yet: every question is answered with 162.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.venue.simulator.requests import Request

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session


def bars(session: Session, request: Request, now_ns: int) -> None:
    session.error(request.req_id, 162, "Historical Market Data Service error message:HMDS query returned no data",
                  now_ns)


def cancel_bars(session: Session, request: Request, now_ns: int) -> None:
    session.error(request.req_id, 366, f"No historical data query found for ticker id:{request.req_id}", now_ns)


HANDLERS = {
    "reqHistoricalData": bars,
    "cancelHistoricalData": cancel_bars,
}
