"""What follows from an event for a bracket.

Rule 1: every pair of phase and trigger is a row of TABLE or a member of IMPOSSIBLE.
Rule 2: nothing here reads a clock, sends a message or opens a connection.
Rule 3: an event is first noted (facts.py), then answered by its row, then whatever is missing is asked for (cover.py).
Rule 4: the phase is read off the facts; a step that would leave TABLE's legal moves raises and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.rules.bracket_state import OVER, Bracket, Phase, Policy
from actors.rules.cover import settle
from actors.rules.facts import note, role_of
from actors.rules.legs import split_order_id
from actors.rules.reactions import (
    amend_failed,
    entry_ended,
    entry_filled,
    excess_changed,
    exit_ended,
    exit_filled,
    exit_refused,
    exit_triggered,
    look_again,
    timed,
)
from actors.rules.turn import Turn
from actors.rules.verbs import cancel_bracket, cancel_entry, detach, flatten_bracket, modify
from messages.base import Message, Word
from messages.exits import BracketStarted, BracketTimed, ConditionMet, ExitRefused, ExitTriggered
from messages.ledger import TrailMoved
from messages.orders import (
    AmendRejected,
    BracketPictured,
    CancelBracket,
    CancelEntry,
    CancelRejected,
    DetachBracket,
    FillCorrected,
    FlattenBracket,
    GateClosed,
    GateOpened,
    ModifyBracket,
    OrderAbsent,
    OrderAccepted,
    OrderCanceled,
    OrderDeferred,
    OrderDenied,
    OrderEchoed,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    OrderUnknown,
    Role,
)
from messages.risk import AbsenceExplained


class Trigger(Word):
    """What an event is to a bracket."""

    STARTED = "started"
    PICTURED = "pictured"
    GATE = "gate"
    CONDITION_MET = "condition met"
    PROGRESS = "progress"  # submitted, deferred, accepted, echoed, unknown: news of an order, no end of it
    AMEND_REJECTED = "amend rejected"
    ENTRY_FILLED = "entry filled"
    ENTRY_ENDED = "entry ended"
    EXIT_FILLED = "exit filled"
    EXIT_ENDED = "exit ended"
    EXCESS = "excess"
    CORRECTED = "corrected"
    EXPLAINED = "explained"  # what the account says of an entry that the venue shows nowhere
    EXIT_TRIGGERED = "exit triggered"
    EXIT_REFUSED = "exit refused"
    TRAIL_MOVED = "trail moved"
    TIMED = "timed"
    CANCEL_ENTRY = "cancel entry"
    CANCEL = "cancel"
    FLATTEN = "flatten"
    DETACH = "detach"
    MODIFY = "modify"


Row = Callable[[Turn, Any], None]


def only_facts(t: Turn, event: Message) -> None:
    """Nothing to decide beyond what was noted and what settle asks for."""


P, T = Phase, Trigger
ALIVE = (P.SCHEDULED, P.ENTERING, P.PROTECTED, P.EXITING, P.CLOSING)
ANY = tuple(Phase)
EVERYWHERE = frozenset(Phase)
# A trigger's row, in the phases where it applies, and where it may lead from there.
_ROWS: tuple[tuple[Trigger, tuple[Phase, ...], Row], ...] = (
    (T.STARTED, ANY, only_facts),
    (T.PICTURED, ANY, look_again),
    (T.GATE, ANY, only_facts),
    (T.CONDITION_MET, ANY, only_facts),
    (T.PROGRESS, ANY, only_facts),
    (T.AMEND_REJECTED, ANY, amend_failed),
    (T.ENTRY_FILLED, ANY, entry_filled),  # also after CLOSED: cover opens a lot for it, or exits it at once
    (T.ENTRY_ENDED, ANY, entry_ended),
    (T.EXIT_FILLED, ANY, exit_filled),  # also after CLOSED: watch_overfill records and flattens the excess
    (T.EXIT_ENDED, ANY, exit_ended),
    (T.EXCESS, ANY, excess_changed),
    (T.CORRECTED, ANY, only_facts),
    (T.EXPLAINED, ANY, only_facts),
    (T.EXIT_TRIGGERED, ANY, exit_triggered),
    (T.EXIT_REFUSED, ANY, exit_refused),
    (T.TRAIL_MOVED, ANY, only_facts),
    (T.TIMED, ANY, timed),
    (T.CANCEL_ENTRY, ANY, cancel_entry),
    (T.CANCEL, ANY, cancel_bracket),
    (T.FLATTEN, ANY, flatten_bracket),
    (T.DETACH, ANY, detach),
    (T.MODIFY, ANY, modify),
)
TABLE: dict[tuple[Phase, Trigger], Row] = {(phase, trigger): row for trigger, phases, row in _ROWS for phase in phases}
# Nothing: even while SCHEDULED the children of a dead predecessor may still speak, and late news comes at any time.
IMPOSSIBLE: frozenset[tuple[Phase, Trigger]] = frozenset()
# Legal moves. A late or corrected fill can open a bracket again; detached is final; nothing returns to SCHEDULED but an
# entry that was never written (its gate closed) or is proved absent.
MOVES: dict[Phase, frozenset[Phase]] = {
    P.SCHEDULED: EVERYWHERE,
    P.ENTERING: EVERYWHERE,
    P.PROTECTED: EVERYWHERE - {P.SCHEDULED},
    P.EXITING: EVERYWHERE - {P.SCHEDULED},
    P.CLOSING: EVERYWHERE - {P.SCHEDULED},
    P.CLOSED: EVERYWHERE - {P.SCHEDULED},
    P.FROZEN: frozenset({P.FROZEN, P.CLOSED, P.DETACHED, P.EXITING, P.CLOSING}),
    P.DETACHED: frozenset({P.DETACHED}),
}

VERBS = frozenset({T.CANCEL_ENTRY, T.CANCEL, T.FLATTEN, T.DETACH, T.MODIFY})

_KIND: dict[type[Any], Trigger] = {
    BracketStarted: T.STARTED,
    BracketPictured: T.PICTURED,
    GateOpened: T.GATE,
    GateClosed: T.GATE,
    ConditionMet: T.CONDITION_MET,
    OrderSubmitted: T.PROGRESS,
    OrderDeferred: T.PROGRESS,
    OrderAccepted: T.PROGRESS,
    OrderEchoed: T.PROGRESS,
    OrderUnknown: T.PROGRESS,
    CancelRejected: T.PROGRESS,
    AmendRejected: T.AMEND_REJECTED,
    FillCorrected: T.CORRECTED,
    AbsenceExplained: T.EXPLAINED,
    ExitTriggered: T.EXIT_TRIGGERED,
    ExitRefused: T.EXIT_REFUSED,
    TrailMoved: T.TRAIL_MOVED,
    BracketTimed: T.TIMED,
    CancelEntry: T.CANCEL_ENTRY,
    CancelBracket: T.CANCEL,
    FlattenBracket: T.FLATTEN,
    DetachBracket: T.DETACH,
    ModifyBracket: T.MODIFY,
}
_FILLED = {Role.ENTRY: T.ENTRY_FILLED, Role.EXIT: T.EXIT_FILLED, Role.EXCESS: T.EXCESS}
_ENDED = {Role.ENTRY: T.ENTRY_ENDED, Role.EXIT: T.EXIT_ENDED, Role.EXCESS: T.EXCESS}
_ENDINGS = (OrderCanceled, OrderExpired, OrderRejected, OrderAbsent, OrderDenied)


class ImpossibleEvent(RuntimeError):
    """A pair that cannot be: meeting it is a bug, and guessing would cost money."""


class IllegalMove(RuntimeError):
    """The facts would lead where the table does not."""


def trigger_of(event: Message) -> Trigger:
    """Return what an event is to a bracket. Raises KeyError for a message that is none of its business."""
    kind = type(event)
    if kind in _KIND:
        return _KIND[kind]
    role = role_of(split_order_id(event.order_id)[1]) if isinstance(event, (OrderFilled, *_ENDINGS)) else None
    if role is None:
        raise KeyError(kind.__name__)
    return _FILLED[role] if kind is OrderFilled else _ENDED[role]


def new_bracket(definition: Any) -> Bracket:
    """Return a bracket as it begins."""
    return Bracket(definition=definition)


def step(bracket: Bracket, event: Message, now: int, policy: Policy) -> tuple[Bracket, list[Any]]:
    """Return the bracket after an event, and what must be done. Neither argument is changed.

    `now` is in UTC nanoseconds. Raises ImpossibleEvent or IllegalMove.
    """
    t = Turn(bracket, policy, now)
    trigger = trigger_of(event)
    before = bracket.phase
    try:
        row = TABLE[before, trigger]
    except KeyError:
        raise ImpossibleEvent(f"bracket {t.bracket_id}: {trigger} while {before}") from None
    note(t, event)
    if before is Phase.DETACHED and trigger not in VERBS:
        return t.ended(), []  # its facts are noted; it is no longer ours to act on
    row(t, event)
    settle(t)
    if t.b.phase not in MOVES[before]:
        raise IllegalMove(f"bracket {t.bracket_id}: {trigger} would lead from {before} to {t.b.phase}")
    if t.why or t.b.phase is not before:
        t.set(reason=t.why or t.b.reason)
    return t.ended(), t.commands


def is_over(bracket: Bracket) -> bool:
    """Whether nothing of the bracket can act any more, barring late news."""
    return bracket.phase in OVER
