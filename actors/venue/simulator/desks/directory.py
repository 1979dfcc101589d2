"""Which handler answers which request.

Law: no two desks answer the same request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.venue.simulator.desks import accounts, books, data, history, orders, reference
from actors.venue.simulator.requests import Request

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

Handler = Callable[["Session", Request, int], None]
HANDLERS: dict[str, Handler] = {
    **orders.HANDLERS, **accounts.HANDLERS, **reference.HANDLERS, **data.HANDLERS, **books.HANDLERS,
    **history.HANDLERS,
}  # fmt: skip
