"""What the venue's whole picture means for one order: is it ours, and what became of it.

Law: the key is orderRef, then permId; never the venue's order id. Executions are looked at before any end is believed,
and "not found" is not "cancelled" (venue-traps.md 2, 6, 14).
"""

from __future__ import annotations

import re
from decimal import Decimal
from sys import intern

from messages.base import Record, Word
from messages.orders import Role

OUR_REF = re.compile(r"(B\d+-[A-Za-z0-9]+)\.([a-z]+\d*)(?:\.(\d+))?")
LIVE = frozenset({"ApiPending", "PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel"})
CANCELED = frozenset({"Cancelled", "ApiCancelled"})


class Ref(Record, frozen=True, kw_only=True):
    """An orderRef of ours, taken apart."""

    bracket_id: str
    leg: str
    number: int

    @property
    def role(self) -> Role:
        return {"entry": Role.ENTRY, "excess": Role.EXCESS}.get(self.leg, Role.EXIT)


def parse_ref(order_ref: str) -> Ref | None:
    """Take an orderRef apart; None where it is not one of ours."""
    found = OUR_REF.fullmatch(order_ref)
    if found is None:
        return None
    # Interned: the orders of a bracket are kept by the thousand, and share these words.
    return Ref(bracket_id=intern(found[1]), leg=intern(found[2]), number=int(found[3] or 1))


# -- one order in doubt ----------------------------------------------------------------------------------------


class Fate(Word):
    """What became of an order that nobody was sure of."""

    WORKING = "working"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    ABSENT = "absent"
    UNSURE = "unsure"
    """The venue's answers do not suffice; ask again."""


class Evidence(Record, frozen=True, kw_only=True):
    """All that is known of one order once the venue has answered and settled."""

    quantity: Decimal
    filled: Decimal
    acknowledged: bool
    """The venue has given it a permId at some time."""
    open_now: bool
    completed: str = ""
    """Its status among completed orders, or empty."""
    refused: bool = False
    """An error came that may mean a refusal."""
    complete_list: bool = True
    """Whether the list of completed orders was received whole."""


def judge(evidence: Evidence) -> Fate:
    """Say what became of one order (venue-traps.md 2, 14; trading-rules.md 20)."""
    if evidence.open_now:
        return Fate.WORKING
    if evidence.filled >= evidence.quantity:
        return Fate.FILLED
    if evidence.completed in CANCELED:
        return Fate.CANCELED
    if evidence.completed == "Filled":
        return Fate.UNSURE  # filled, and its executions are not all here yet
    if evidence.completed == "Inactive":
        return Fate.REJECTED
    if evidence.filled > 0 or evidence.acknowledged:
        # It was there and is not any more. Without the list of completed orders that is no proof of anything.
        return Fate.CANCELED if evidence.complete_list else Fate.UNSURE
    if evidence.refused:
        return Fate.REJECTED
    return Fate.ABSENT if evidence.complete_list else Fate.UNSURE
