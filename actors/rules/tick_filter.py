"""Which trades and quotes are evidence at all.

Law: what does not pass here neither triggers nor ratchets, and is not the first half of a "double" either.
"""

from __future__ import annotations

EXCLUDED_CONDITIONS = 0x20 | 0x200 | 0x40000 | 0x100000
"""Sale conditions that do not move a price: late, out of sequence, derivatively priced and the like (AlgoSeek bits)."""


def trade_is_eligible(price: int, conditions: int = 0, *, suspicious: bool = False) -> bool:
    """Say whether a trade may move a trigger; `price` in any unit, `conditions` as AlgoSeek's bit mask."""
    return price > 0 and not suspicious and not conditions & EXCLUDED_CONDITIONS


def quote_is_usable(bid: int, ask: int) -> bool:
    """Say whether a quote has two sides and is not crossed (locked is usable; IB sends -1 or 0 for a missing side)."""
    return 0 < bid <= ask
