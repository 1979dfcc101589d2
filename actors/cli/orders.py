"""`submit` and the verbs: what is asked of the engine, and its answer."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.cli.common import USAGE, CommandError, print_json, say

if TYPE_CHECKING:
    from actors.web.client import Accepted, Bracketeer

STRATEGY = "Momentum_EQ"


def submit(engine: Bracketeer, intent: bytes | dict[str, Any], as_json: bool) -> None:
    """Send one intent and tell its bracket."""
    _answer(engine.submit(intent), as_json)


def read_intent(
    file: str | None, sides: dict[str, tuple[str, str] | None], flags: dict[str, Any]
) -> bytes | dict[str, Any]:
    """Return the intent of a file or of standard input as it is, or make one of flags. Raises CommandError."""
    given = {side: pair for side, pair in sides.items() if pair is not None}
    if (file is None) == (not given):
        raise CommandError("submit takes a FILE (or -), or one of --buy, --sell, --sell-short, --buy-to-cover", USAGE)
    if file is not None:
        if extra := [name for name, value in flags.items() if value not in (None, False)]:
            option = "--" + extra[0].replace("_", "-")
            raise CommandError(f"{option}: not taken beside a file; write it in {file}", USAGE, field=option)
        return read(file)
    if len(given) > 1:
        raise CommandError(f"one side at a time: {' and '.join(given)} were given", USAGE)
    ((side, (quantity, symbol)),) = given.items()
    return from_flags(side, quantity, symbol, flags)


def read(file: str) -> bytes:
    """Return the bytes of a file, or of standard input for -. Raises CommandError."""
    if file == "-":
        return sys.stdin.buffer.read(1 << 20)
    try:
        with open(Path(file), "rb") as source:
            return source.read(1 << 20)
    except OSError as problem:
        raise CommandError(f"{file}: cannot be read ({problem.strerror})", USAGE, field="FILE") from None


def from_flags(side: str, quantity: str, symbol: str, flags: dict[str, Any]) -> dict[str, Any]:
    """Build an intent from the flags of `submit`. What the flags do not say is said in full here, not left out."""
    limit, trigger = flags["limit"], flags["stop_entry"]
    order_type = {(False, False): "MKT", (True, False): "LMT", (False, True): "STP", (True, True): "STP LMT"}
    hold = {"hold": "engine"} if flags["hold"] else {}
    tranche: dict[str, Any] = {}
    if flags["target"]:
        tranche["target"] = {"price": flags["target"], **hold}
    if flags["stop"]:
        tranche["stop"] = {"price": flags["stop"], **hold}
    if flags["trail"] or flags["trail_percent"]:
        trail = {"amount": flags["trail"], "percent": flags["trail_percent"]}
        tranche["trailing_stop"] = {name: value for name, value in trail.items() if value}
    intent = {
        "signal_id": flags["signal_id"] or f"cli-{secrets.token_hex(6)}",
        "strategy": flags["strategy"] or STRATEGY,
        "instrument": symbol,
        "side": side,
        "quantity": quantity,
        "urgency": "Normal",
        "time_in_force": flags["tif"] or "DAY",
        "max_slippage_bps": None,
        "expiry_policy": "hold",
        "risk_tags": [],
        "shape": "bracket" if tranche else "single",
        "order_type": order_type[bool(limit), bool(trigger)],
        "limit_price": limit,
        "stop_price": trigger,
        "exits": [tranche] if tranche else [],
        "account": flags["account"],
        "valid_for": flags["valid_for"],
    }
    return {name: value for name, value in intent.items() if value is not None or name == "max_slippage_bps"}


def act(engine: Bracketeer, verb: str, bracket_id: str, as_json: bool) -> None:
    """Give a bracket a verb."""
    give = {"cancel": engine.cancel, "cancel-entry": engine.cancel_entry, "flatten": engine.flatten,
            "detach": engine.detach}[verb]  # fmt: skip
    _answer(give(bracket_id), as_json)


def modify(engine: Bracketeer, bracket_id: str, changes: dict[str, Any], as_json: bool) -> None:
    """Change a bracket."""
    _answer(engine.modify(bracket_id, **{name: value for name, value in changes.items() if value is not None}), as_json)


def _answer(accepted: Accepted, as_json: bool) -> None:
    if as_json:
        print_json(accepted._asdict())
    else:
        said = accepted.sentence
        say(said if accepted.bracket_id in said else f"bracket {accepted.bracket_id}: {said or 'accepted'}")
