"""Corrections of executions, as venues make them (ib-wire.md 5.3): the same id with the next last part.

Law: the exchange's books and every later snapshot follow the correction; only the first telling is history.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from actors.venue.simulator.orders import Execution

if TYPE_CHECKING:
    from actors.venue.simulator.exchange import Exchange


def correct(exchange: Exchange, execution: Execution, price: Decimal) -> Execution:
    """Correct the price of an execution and return the one that takes its place; the account and the order follow."""
    stem, _, last = execution.exec_id.rpartition(".")
    change = (price - execution.price) * execution.quantity
    cost = execution.avg_price * execution.cum_quantity + change
    corrected = msgspec.structs.replace(
        execution, exec_id=f"{stem}.{int(last) + 1:02d}", price=price, avg_price=cost / execution.cum_quantity)
    exchange.replace_execution(execution, corrected)
    exchange.accounts.correct(execution, change)
    return corrected
