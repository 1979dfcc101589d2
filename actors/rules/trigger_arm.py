"""What one trigger is, what can be known about it, and which triggers are refused.

Law: an arm that no tick could judge is refused here by name; a book never meets one.
"""

from __future__ import annotations

from typing import NamedTuple

from actors.rules.scale import PERCENT_WHOLE
from messages.market import TriggerMethod

WATCHED_BY_METHOD = {
    TriggerMethod.LAST: ("last", "last"),
    TriggerMethod.DOUBLE_LAST: ("last", "last"),
    TriggerMethod.BID_ASK: ("bid", "ask"),
    TriggerMethod.DOUBLE_BID_ASK: ("bid", "ask"),
    TriggerMethod.LAST_OR_BID_ASK: ("bid", "ask"),
    TriggerMethod.MIDPOINT: ("mid", "mid"),
}
DOUBLE = frozenset({TriggerMethod.DOUBLE_LAST, TriggerMethod.DOUBLE_BID_ASK})
TRAILS = frozenset({"trail_amount", "trail_percent"})
ON_TRADES = frozenset({TriggerMethod.LAST, TriggerMethod.DOUBLE_LAST, TriggerMethod.LAST_OR_BID_ASK})


class Arm(NamedTuple):
    """One trigger to watch. Prices in millionths; `offset` in millionths of the currency, or of a percent."""

    arm_id: str
    side: str
    kind: str
    level: int | None = None
    offset: int | None = None
    method: TriggerMethod = TriggerMethod.LAST
    activation: int | None = None
    high_water: int | None = None
    initial_stop: int | None = None
    rth_only: bool = True
    fresh_after_ns: int = 0


class Fired(NamedTuple):
    """An arm's level was met. `price`: what met it; `level`: the stop at that moment, before any ratchet."""

    arm_id: str
    price: int
    level: int
    high_water: int | None
    ratchets: int
    ts_ns: int
    ambiguous: bool


class TrailState(NamedTuple):
    """Where an arm stands. `stop` is the level of a plain stop; `active` is False until its first price counted."""

    high_water: int | None
    stop: int | None
    ratchets: int
    active: bool


class Moved(NamedTuple):
    """A trailing stop that began or ratcheted since it was last reported."""

    arm_id: str
    high_water: int
    stop: int
    ratchets: int


def check_arm(arm: Arm) -> None:
    """Raise ValueError, naming arm, field, value and rule, for an arm that no tick could judge."""

    def refuse(rule: str) -> None:
        raise ValueError(f"arm {arm.arm_id}: {rule}")

    if arm.side not in ("BUY", "SELL"):
        refuse(f"side {arm.side!r}: must be BUY or SELL")
    if arm.method not in WATCHED_BY_METHOD:
        refuse(f"method {arm.method!r}: must be resolved to one of {', '.join(WATCHED_BY_METHOD)}")
    for name in ("level", "offset", "activation", "high_water", "initial_stop"):
        value = getattr(arm, name)
        if value is not None and (type(value) is not int or value <= 0):
            refuse(f"{name} {value!r}: must be a positive integer in millionths")
    if arm.kind in TRAILS:
        if arm.offset is None or arm.level is not None:
            refuse(f"a {arm.kind} takes an offset and no level")
        elif arm.kind == "trail_percent" and arm.offset >= PERCENT_WHOLE:
            refuse(f"offset {arm.offset}: must be below 100 percent ({PERCENT_WHOLE})")
        return
    if arm.kind not in ("stop", "lit"):
        refuse(f"kind {arm.kind!r}: must be stop, lit, trail_amount or trail_percent")
    if arm.level is None:
        refuse(f"a {arm.kind} takes a level")
    for name in ("offset", "activation", "high_water", "initial_stop"):
        if getattr(arm, name) is not None:
            refuse(f"{name} {getattr(arm, name)}: a {arm.kind} takes none")
