"""How often a failed actor may be built again: three times in sixty seconds, then it is frozen.

Law: a frozen actor stays frozen until an operator thaws it; an actor's death is never a reason to cancel protection.
Rule: three restarts in sixty seconds (design.md, law 2). Nothing here reads a clock.
"""

from __future__ import annotations

import msgspec

RESTARTS_ALLOWED = 3
WINDOW_NS = 60 * 1_000_000_000


class RestartBudget(msgspec.Struct, frozen=True):
    """What is left: the times (UTC nanoseconds) of recent restarts, oldest first, and whether it is spent for good."""

    restarts: tuple[int, ...] = ()
    frozen: bool = False


UNSPENT = RestartBudget()


def spend(
    budget: RestartBudget, now: int, allowed: int = RESTARTS_ALLOWED, window_ns: int = WINDOW_NS
) -> RestartBudget:
    """Return the budget after one more failure at `now` (UTC ns); it is frozen when no restart is left.

    A restart exactly `window_ns` old no longer counts. A clock that stepped back counts every restart it knows, so
    that a crash loop cannot hide behind a wrong clock. Raises ValueError for a negative allowance.
    """
    if allowed < 0:
        raise ValueError(f"restart budget: allowed is {allowed}; it must be 0 or more")
    if budget.frozen:
        return budget
    recent = tuple(at for at in budget.restarts if now - at < window_ns)
    if len(recent) >= allowed:
        return RestartBudget(restarts=recent, frozen=True)
    return RestartBudget(restarts=(*recent, now), frozen=False)


def thaw(budget: RestartBudget) -> RestartBudget:
    """Return an unspent budget: an operator decided that the actor may try again."""
    return UNSPENT
