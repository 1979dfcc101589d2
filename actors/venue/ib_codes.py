"""What each number that IB sends means for the order, the session or the feed that it names.

Law: keyed by (verb, code), because the same number means different things to a new order, an amendment and a cancel
(trading-rules.md 20, ib-wire.md 7). A number that is not in the table is never taken for an end: it asks to reconcile.
"""

from __future__ import annotations

from messages.base import Word


class Verb(Word):
    """What the order was doing when the error came."""

    NEW = "new"
    MODIFY = "modify"
    CANCEL = "cancel"
    WORKING = "working"


class Verdict(Word):
    """What follows from an error for the order whose id it carries."""

    WARNING = "warning"
    """The order lives as it is."""
    REJECTED = "rejected"
    """It was never placed: final."""
    CHECK = "check"
    """It may live or not: ask the venue, and believe `rejected` only if nothing of it is found."""
    AMEND_FAILED = "amend_failed"
    """The amendment failed; the old order may live on: ask."""
    CANCEL_QUESTION = "cancel_question"
    """The cancel failed; the order may be filled, cancelled or alive: ask."""
    CANCELED = "canceled"
    """The venue ended it; a racing fill may follow."""
    ID_USED = "id_used"
    """The id was used before: raise the counter, then ask."""


WARNINGS = frozenset({165, 399, 404, 434, 492, 2100, 2101, 2102, 2109, 2174, 10167, 10349})
"""The order stays live. 2100-2199 are warnings as a whole. (434, 10349: heard as errors by the libraries.)"""

NOT_PLACED = frozenset({106, 107, 109, 110, 111, 200, 320, 355, 388, 391, 10006, 10314, 10318, 10330})
"""Refused before it was an order: no openOrder, no permId."""

DOUBTFUL = frozenset({104, 105, 135, 136, 161, 201, 321, 322, 329, 435, 436, 10147, 10148, 10149, 10185, 10268})
"""Seen beside orders that stayed live (venue-traps.md 6)."""

AMEND_FAILURES = frozenset({103, 104, 105, 109, 110, 111, 135, 161, 201, 320, 321, 329, 355, 388, 391, 435, 436,
                            10268, 10314, 10318, 10326, 10327, 10330})
CANCEL_QUESTIONS = frozenset({104, 135, 136, 161, 201, 10147, 10148, 10149})


def _table() -> dict[tuple[Verb, int], Verdict]:
    table: dict[tuple[Verb, int], Verdict] = {}
    for verb in Verb:
        table.update({(verb, code): Verdict.WARNING for code in WARNINGS})
        table.update({(verb, code): Verdict.CHECK for code in DOUBTFUL})
        table[(verb, 202)] = Verdict.CANCELED
    table.update({(Verb.NEW, code): Verdict.REJECTED for code in NOT_PLACED})
    table[(Verb.NEW, 103)] = Verdict.ID_USED
    table.update({(Verb.MODIFY, code): Verdict.AMEND_FAILED for code in AMEND_FAILURES})
    table[(Verb.MODIFY, 2102)] = Verdict.AMEND_FAILED
    table.update({(Verb.CANCEL, code): Verdict.CANCEL_QUESTION for code in CANCEL_QUESTIONS})
    return table


TABLE = _table()


def judge(verb: Verb, code: int) -> Verdict:
    """Return what an error means for its order. Unknown numbers are `CHECK`: reconcile, never assume."""
    found = TABLE.get((verb, code))
    if found is not None:
        return found
    if 2100 <= code < 2200:
        return Verdict.WARNING
    return Verdict.CHECK


# -- what concerns no order ------------------------------------------------------------------------------------

CLIENT_ID_IN_USE = 326
LINK_BROKEN = frozenset({1100, 2110})
"""The gateway has lost IB. The socket stays open; whatever is sent now may be submitted later: send nothing."""
LINK_BACK_DATA_LOST = 1101
LINK_BACK_DATA_KEPT = 1102
SOCKET_RESET = 1300
FARM_DOWN = 2103
FARM_UP = frozenset({2104, 2119})
"""2119 says only that it is connecting; what counts is 2104. 2105/2106/2157/2158 are other farms: not the live feed."""
COMPETING_SESSION = 10197
FEED_REFUSED = frozenset({101, 200, 309, 321, 322, 354, 420, 10089, 10090, 10168, 10186, 10189, 10190, 10197})
FEED_LATER = frozenset({101, 322, 420, 10190, 10197})
PACING = 100
NOTICES = frozenset({2104, 2105, 2106, 2107, 2108, 2119, 2157, 2158})
