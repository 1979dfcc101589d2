"""What may become of a live order: the rules of a modify (ib-wire.md 6.2).

Law: pure questions; a refused amendment leaves the old order as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.venue.simulator import validation
from actors.venue.simulator.book import STOPS
from actors.venue.simulator.orders import Order
from actors.venue.simulator.validation import Problem

if TYPE_CHECKING:
    from actors.venue.simulator.exchange import Exchange

NO_MATCH = "Order being modified does not match original order"


def problem_of(old: Order, new: Order, exchange: Exchange) -> Problem | None:
    """Return why a live order cannot become this one, or None."""
    rules = exchange.rules
    if old.pending == "accept":
        if rules.early_amend_code == 103:
            return Problem(103, "Duplicate order id")
        return Problem(2102, f"Unable to modify this order as it is still being processed: {old.order_id}")
    if old.status == "PendingCancel":
        if rules.pending_cancel_amend_code == 161:
            return Problem(161, f"Order is not in a modifiable state. Order permId ={old.perm_id}")
        return Problem(104, "Cannot modify an order that is being cancelled.")
    if (old.action, old.contract.con_id, old.account) != (new.action, new.contract.con_id, new.account):
        return Problem(105, NO_MATCH)
    if old.oca_group != new.oca_group or (old.oca_group and not rules.oca_amend):
        return Problem(10326, "OCA group revision is not allowed")
    if old.parent_id != new.parent_id and new.parent_id:
        return Problem(105, f"{NO_MATCH}: its parent is {old.parent_id or 'none'}, not {new.parent_id}")
    if rules.child_parent_135 and new.parent_id:
        return Problem(135, f"Can't find order with id ={old.order_id}")
    problem = validation.shape(new, exchange)
    if problem is not None:
        return problem
    if new.total < old.filled + old.legging:
        text = f"quantity {new.total} is below the filled {old.filled + old.legging}"
        if rules.below_filled_code == 201:
            return Problem(201, f"Order rejected - reason:The {text}.")
        return Problem(105, f"{NO_MATCH}: {text}")
    if rules.type_change == "some" and not _may_become(old, new.order_type):
        return Problem(329, f"Order modification failed. Cannot change a working {old.order_type} order to "
                            f"{new.order_type}.")
    return validation.bad_time(new, exchange.rules)


def _may_become(old: Order, kind: str) -> bool:
    """Return whether the type can change: what already works at the exchange cannot be held again."""
    works = old.order_type not in STOPS or old.triggered
    return kind == old.order_type or kind not in STOPS or not works
