"""What operators may ask of a bracket, and how each verb becomes a command.

Law: what `modify` may hold is read by actors/rules/intake.py, in the HTTP process and once more in the engine.
"""

from __future__ import annotations

import re
from typing import Any

from actors.rules.intake import parse_modify
from actors.rules.refusal import Refused, shown
from actors.web.channel import Operate
from messages.orders import CancelBracket, CancelEntry, DetachBracket, FlattenBracket, OperatorCommand

VERBS: dict[str, type[OperatorCommand] | None] = {
    "cancel-entry": CancelEntry,
    "cancel": CancelBracket,
    "flatten": FlattenBracket,
    "detach": DetachBracket,
    "modify": None,
}
_NAME = re.compile(r"[A-Za-z0-9_.@:-]{1,64}", re.ASCII)


def check_name(field: str, value: Any) -> str:
    """Return an identifier that is safe to store and to print. Raises Refused."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Refused("bad_value", field, shown(value), "it must be 1 to 64 ASCII letters, digits and _ . @ : -")
    return value


def operator_command(request: Operate, correlation: str) -> OperatorCommand:
    """Build the command for the router. Raises Refused."""
    if request.verb not in VERBS:
        raise Refused("bad_value", "verb", shown(request.verb), f"it must be one of {', '.join(VERBS)}")
    common = {
        "bracket_id": check_name("bracket_id", request.bracket_id),
        "command_id": check_name("command_id", request.command_id),
        "actor": check_name("actor", request.actor),
        "correlation": correlation,
    }
    kind = VERBS[request.verb]
    if kind is None:
        return parse_modify(bytes(request.changes), **common)
    return kind(**common)
