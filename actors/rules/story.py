"""A bracket's story: its records as the inputs that they were, and the operator's verbs as records.

Law: a rebuilt bracket is what stepping through its story gives. Commands of the past are dropped: what they did is in
the story, and what was lost is in the venue's picture (docs/decisions/0002).
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from actors.rules.bracket import new_bracket, step, trigger_of
from actors.rules.bracket_state import Bracket, Policy
from actors.rules.rows import RowView, rows, seen
from messages.base import Message
from messages.exits import BracketSpec, BracketStarted
from messages.ledger import BracketAmended, BracketMoved, OperatorActed, RowChanged
from messages.orders import (
    CancelBracket,
    CancelEntry,
    DetachBracket,
    FlattenBracket,
    ModifyBracket,
    OperatorCommand,
)
from messages.registry import EVENTS, decode
from messages.settings import Settings

VERBS: dict[str, type[OperatorCommand]] = {
    verb.__name__: verb for verb in (CancelEntry, CancelBracket, FlattenBracket, DetachBracket)
}
CHANGES = ("limit_price", "stop_price", "quantity", "target", "stop", "trail_amount", "trail_percent")


@lru_cache(maxsize=8)
def policy_of(settings: Settings) -> Policy:
    """Return the part of the settings that the rules ask for; one for all brackets."""
    return Policy(
        cancel_wait_s=settings.oca.cancel_wait_s,
        exit_race=settings.oca.exit_race,
        coalesce_s=settings.oca.coalesce_s,
        echo_s=settings.oca.echo_s,
        reprotect_max=settings.exits.reprotect_max,
        reprotect_window_s=settings.exits.reprotect_window_s,
        human_cancel=settings.exits.human_cancel,
    )


class Retold(NamedTuple):
    """Where a bracket stands by its story, and what of that the tables have been told."""

    bracket: Bracket
    incarnation: int
    rows: dict[str, RowView]
    moved: tuple[Any, ...]


def retold(spec: BracketSpec, policy: Policy) -> Retold:
    """Step through a bracket's story again.

    Commands of the past are dropped: what they did is in the story, and what was lost is in the venue's picture. A fill
    may have been written and what it made of the rows not: then the rows are told again.
    """
    bracket, incarnation = new_bracket(spec.definition), 0
    told, moved = rows(bracket), (str(bracket.phase), bracket.open_qty)
    for payload in spec.events:
        name = json.loads(payload)["type"]
        said = decode(name, payload) if name in EVENTS else None
        if isinstance(said, RowChanged):
            told[said.row_id] = seen(said, told.get(said.row_id))
        elif isinstance(said, BracketMoved):
            moved = (said.phase, said.open_qty)
        event = _input(said) if said is not None else None
        if event is None:
            continue
        if isinstance(event, BracketStarted):
            incarnation = max(incarnation, event.incarnation)
        bracket, _ = step(bracket, event, getattr(event, "ts_ns", 0) or bracket.definition.opened_ns, policy)
    return Retold(bracket, incarnation, told, moved)


def _input(event: Message) -> Message | None:
    """Return a record as the input that it was, None for what only describes."""
    if isinstance(event, OperatorActed):
        verb = VERBS.get(event.verb)
        return verb(bracket_id=event.bracket_id, command_id=event.command_id, actor=event.actor) if verb else None
    if isinstance(event, BracketAmended):
        values: dict[str, Any] = {key: Decimal(value) for key, value in event.changes.items() if key != "tranche"}
        return ModifyBracket(
            bracket_id=event.bracket_id,
            command_id=event.command_id,
            actor=event.actor,
            tranche=int(event.changes.get("tranche", "1")),
            **values,
        )
    try:
        trigger_of(event)
    except KeyError:
        return None
    return event


def verb_of(command: OperatorCommand) -> str:
    """Return the verb as a person types it."""
    return {
        "CancelEntry": "cancel-entry",
        "CancelBracket": "cancel",
        "FlattenBracket": "flatten",
        "DetachBracket": "detach",
        "ModifyBracket": "modify",
    }[type(command).__name__]


def as_record(command: OperatorCommand, now: int) -> Message:
    """Return what the ledger keeps of a verb, and what `retold` turns back into it."""
    if isinstance(command, ModifyBracket):
        found = {name: getattr(command, name) for name in CHANGES}
        values = {name: str(value) for name, value in found.items() if value is not None}
        return BracketAmended(
            bracket_id=command.bracket_id,
            command_id=command.command_id,
            actor=command.actor,
            changes={**values, "tranche": str(command.tranche)},
            ts_ns=now,
        )
    return OperatorActed(
        bracket_id=command.bracket_id,
        command_id=command.command_id,
        verb=type(command).__name__,
        actor=command.actor,
        ts_ns=now,
    )
