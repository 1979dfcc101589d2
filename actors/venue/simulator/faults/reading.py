"""Faults from words, as the command line has them, and faults drawn from a seed.

    drop_before_ack:order=reached,after=3
    dup_status:n=3,ref=*.stop,client=1
    link:at=30,dt=5,restored=1101,fills=*.target

Law: what cannot be used is refused in one sentence that says what is allowed.
"""

from __future__ import annotations

import difflib
import functools
import math
import random
import typing
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from actors.venue.simulator.faults.kinds import (
    KINDS,
    AnyFault,
    CloseMidFrame,
    EventFault,
    Fault,
)
from actors.venue.simulator.requests import DECODERS

GLOB = frozenset("*?[")
TOLD = ("tickPrice", "tickSize", "orderStatus", "error", "openOrder", "accountValue", "portfolioValue",
        "accountUpdateTime", "nextValidId", "contractDetails", "execDetails", "managedAccounts", "historicalData",
        "tickGeneric", "tickString", "currentTime", "realTimeBar", "contractDetailsEnd", "openOrderEnd",
        "accountDownloadEnd", "execDetailsEnd", "tickSnapshotEnd", "marketDataType", "commissionReport", "position",
        "positionEnd", "accountSummary", "accountSummaryEnd", "positionMulti", "positionMultiEnd",
        "accountUpdateMulti", "accountUpdateMultiEnd", "secDefOptParams", "secDefOptParamsEnd", "symbolSamples",
        "tickReqParams", "headTimestamp", "historicalDataUpdate", "marketRule", "pnl", "pnlSingle", "historicalTicks",
        "historicalTicksBidAsk", "historicalTicksLast", "tickByTick", "orderBound", "completedOrder",
        "completedOrdersEnd", "historicalSchedule", "userInfo", "serverVersion")
"""What a gateway says, by the names of ib-wire.md 5."""
MESSAGES = frozenset({*TOLD, *(name for name, _ in DECODERS.values()), "modifyOrder", "disconnect"})


class FaultError(ValueError):
    """A fault that cannot be used; the text says why and what is allowed."""


def read_fault(text: str) -> AnyFault:
    """Read `name:field=value,field=value`. Raises FaultError."""
    name, _, rest = text.partition(":")
    kind = KINDS.get(name.strip())
    if kind is None:
        raise FaultError(f"fault {text!r}: {name.strip()!r} is not known; there are {', '.join(sorted(KINDS))}")
    fields: dict[str, Any] = {"name": name.strip()}
    hints = _hints(kind)
    for part in rest.split(",") if rest.strip() else []:
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or field not in kind.__struct_fields__:
            raise FaultError(f"fault {text!r}: {part.strip()!r} is not a field=value of {name.strip()}; its fields are "
                             f"{', '.join(own_fields(kind))}; its aim is {', '.join(Fault.__struct_fields__)}")
        fields[field] = value if _is_text(hints[field]) else _value(value)
    return make_fault(fields, repr(text))


def make_fault(fields: Any, where: str) -> AnyFault:
    """Build a fault from plain values. Raises FaultError."""
    name = fields.get("name") if isinstance(fields, dict) else None
    if not isinstance(name, str) or name not in KINDS:
        raise FaultError(f"fault {where}: name {name!r} is not known; there are {', '.join(sorted(KINDS))}")
    try:
        fault: AnyFault = msgspec.convert(fields, AnyFault)
    except msgspec.ValidationError as error:
        rule, _, at = str(error).partition(" - at `$.")
        field = at.rstrip("`")
        if rule.startswith("Invalid enum value"):
            hint = _hints(KINDS[name]).get(field)
            rule += f"; allowed are {', '.join(str(word) for word in _words(hint))}"
        raise FaultError(f"fault {where}: {f'{field}: ' if field else ''}{rule}") from None
    check(fault, where)
    return fault


def check(fault: Fault, where: str) -> None:
    """Check what types cannot say. Raises FaultError."""
    if isinstance(fault, EventFault) and fault.message is None:
        aims = [n for n in ("ref", "symbol", "lasts") if getattr(fault, n) is not None]
        if aims and not (fault.kind == "unsolicited_cancel" and "lasts" not in aims):
            raise FaultError(f"fault {where}: {' and '.join(aims)} needs a message: {fault.kind} happens at a moment")
        if fault.clock is not None and fault.at:
            raise FaultError(f"fault {where}: give `at` or `clock`, not both")
    if fault.message is not None and not GLOB & set(fault.message) and fault.message not in MESSAGES:
        near = difflib.get_close_matches(fault.message, MESSAGES, 1, 0.6)
        raise FaultError(f"fault {where}: message {fault.message!r} is not the name of any message"
                         + (f"; did you mean {near[0]}?" if near else ", as the journal spells them"))
    if fault.message is not None and fault.ON and not any(fnmatchcase(name, fault.message) for name in fault.ON):
        raise FaultError(f"fault {where}: {fault.kind} acts on {' and '.join(fault.ON)} only, not on {fault.message}")
    if fault.kind == "exec_correction" and not getattr(fault, "ticks", 1):
        raise FaultError(f"fault {where}: ticks: 0 corrects nothing")


@functools.cache
def _hints(kind: type[Fault]) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _words(hint: Any) -> list[Any]:
    """Return the values that a field is limited to."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [word for each in typing.get_args(hint) for word in _words(each)]


def own_fields(kind: type[Fault]) -> list[str]:
    return [name for name in kind.__struct_fields__ if name not in Fault.__struct_fields__] or ["(none)"]


def _is_text(hint: Any) -> bool:
    """Return whether a field takes any text, so that `123` stays text."""
    if typing.get_origin(hint) is typing.Annotated:
        return _is_text(typing.get_args(hint)[0])
    if typing.get_origin(hint) is typing.Literal:
        return False
    return hint is str or any(_is_text(each) for each in typing.get_args(hint))


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


# drawn ------------------------------------------------------------------------------------------------------------

RARER = 0.1


def draw(seed: int, rate: float) -> list[AnyFault]:
    """Draw faults of every kind: about half of the kinds, each with a rate of its own up to twice `rate`.

    What breaks connections, and what happens at a moment, is ten times rarer than what colours a message.
    """
    if not rate:
        return []
    dice = random.Random(f"swarm/{seed}")
    found: list[AnyFault] = []
    for name in sorted(KINDS):
        kind = KINDS[name]
        wanted, chance = dice.random() < 0.5, rate * 2 * dice.random()
        fields: dict[str, Any] = {"name": name, "times": 0}
        for field in kind.__struct_fields__:
            if field not in Fault.__struct_fields__:
                value = _draw_value(field, _hints(kind)[field], dice)
                if value is not None:
                    fields[field] = value
        rare = issubclass(kind, EventFault | CloseMidFrame) or name.startswith("drop_") or name == "pacing_error_100"
        if issubclass(kind, EventFault):
            fields["message"] = "*"
        fields["chance"] = min(1.0, chance * (RARER if rare else 1))
        if wanted and chance:
            found.append(msgspec.convert(fields, AnyFault))
    return found


def _draw_value(name: str, hint: Any, dice: random.Random) -> Any:
    """Draw the value of one field that is not an aim: one of its words, a short time, or its default."""
    words = _words(hint)
    if words and (name != "dt" or dice.random() < 0.5):
        return dice.choice(words)
    if name in ("dt", "hold"):
        return round(dice.uniform(0.01, 1.0), 2)
    if name == "n":
        return dice.randint(2, 4)
    if name in ("ticks", "size"):
        return dice.randint(1, 9)
    return None

