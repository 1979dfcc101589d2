"""What an order may say beyond side, quantity, type and prices (ib-wire.md 4.1): legs, conditions, algo parameters.

Law: plain values, read from the wire once; a plain order shares the one empty PLAIN.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

import msgspec

Pairs = tuple[tuple[str, str], ...]


class Joined(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What conditions share; `conjunction` joins one to the next: `a` and, `o` or. `kind` is its number on the wire."""

    kind: ClassVar[int]
    conjunction: str = "a"


class PriceCondition(Joined, frozen=True, kw_only=True):
    kind: ClassVar[int] = 1
    is_more: bool
    price: Decimal
    con_id: int
    exchange: str = ""
    trigger_method: int = 0


class TimeCondition(Joined, frozen=True, kw_only=True):
    """`time` is spelled like goodAfterTime (ib-wire.md 6.4)."""

    kind: ClassVar[int] = 3
    is_more: bool
    time: str


class MarginCondition(Joined, frozen=True, kw_only=True):
    """`percent` is the account's cushion: excess liquidity in percent of the net liquidation value."""

    kind: ClassVar[int] = 4
    is_more: bool
    percent: int


class ExecutionCondition(Joined, frozen=True, kw_only=True):
    kind: ClassVar[int] = 5
    sec_type: str
    exchange: str
    symbol: str


class VolumeCondition(Joined, frozen=True, kw_only=True):
    kind: ClassVar[int] = 6
    is_more: bool
    volume: int
    con_id: int
    exchange: str = ""


class PercentChangeCondition(Joined, frozen=True, kw_only=True):
    """`change_percent` counts from the previous close."""

    kind: ClassVar[int] = 7
    is_more: bool
    change_percent: Decimal
    con_id: int
    exchange: str = ""


Condition = (PriceCondition | TimeCondition | MarginCondition | ExecutionCondition | VolumeCondition
             | PercentChangeCondition)


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One leg of a combination: `ratio` contracts of it for one unit of the combination."""

    con_id: int
    ratio: int
    action: str
    exchange: str = ""
    open_close: int = 0
    short_sale_slot: int = 0
    designated_location: str = ""
    exempt_code: int = -1

    @property
    def signed_ratio(self) -> int:
        return self.ratio if self.action == "BUY" else -self.ratio


class Instructions(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an order that most orders do not have."""

    legs: tuple[Leg, ...] = ()
    leg_prices: tuple[Decimal | None, ...] = ()
    routing: Pairs = ()
    algo_params: Pairs = ()
    conditions: tuple[Condition, ...] = ()
    conditions_ignore_rth: bool = False
    conditions_cancel: bool = False
    min_quantity: Decimal = Decimal(0)
    discretionary: Decimal = Decimal(0)
    auto_cancel_parent: bool = False

    @property
    def non_guaranteed(self) -> bool:
        return ("NonGuaranteed", "1") in self.routing


PLAIN = Instructions()
