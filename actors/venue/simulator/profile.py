"""What kind of instrument a contract is: how it moves, how it is quoted, how much of it trades.

Law: plain values. The book model (model.py) plays them, depth and generic ticks (depth.py, generic_ticks.py) show them;
a scenario sets them in its `[[model]]` tables.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0, le=1000)]
Shares = Annotated[int, msgspec.Meta(ge=0, le=10_000_000_000)]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instrument's habits; the defaults are a quiet large share."""

    volatility: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.25
    """Standard deviation of the yearly return: 0.25 is 25 %."""
    drift: Annotated[float, msgspec.Meta(ge=-10, le=10)] = 0.0
    """Mean yearly return."""
    spread: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 2.0
    """Mean distance of bid and ask, in price increments."""
    size: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 400
    """Mean size shown at the best bid and ask, in shares."""
    quotes: Rate = 2.0
    """Changes of the quote in a second, on average."""
    trades: Rate = 0.5
    """Prints in a second, on average; each at the bid or at the ask."""
    levels: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10
    """Prices on each side of the book that market depth shows."""
    shortable: Shares = 1_000_000
    """Shares that can be borrowed (ticks 46 and 89)."""


ORDINARY = Profile()
