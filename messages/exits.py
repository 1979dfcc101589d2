"""What a bracket and its children say to each other, and what a bracket notes in its own story.

Law: a child acts on what it was armed with; what that may be is decided by the bracket's rules alone.
"""

from __future__ import annotations

from decimal import Decimal

from messages.base import Command, Event, Record
from messages.market import TriggerKind, TriggerMethod
from messages.orders import Definition, SubmitOrder


class BracketSpec(Record, frozen=True, kw_only=True):
    """What a bracket actor is built from: its definition, and its story so far (JSON, oldest first) if it has one."""

    definition: Definition
    events: tuple[bytes, ...] = ()


class LegSpec(Record, frozen=True, kw_only=True):
    """What a child order or trailing stop is built from."""

    bracket_id: str
    leg: str
    bracket_incarnation: int
    definition: Definition


class ArmExit(Command, frozen=True, kw_only=True):
    """Hold an exit until its price triggers. The newest replaces; `version` rises.

    `orders` are the templates to transmit at once when it fires, one per group that it joins, with their order ids
    fixed; empty: only report, the bracket sends. Prices in the instrument's currency, `percent` in percent.
    """

    bracket_id: str
    leg: str
    version: int
    incarnation: int
    kind: TriggerKind
    method: TriggerMethod
    level: Decimal | None = None
    amount: Decimal | None = None
    percent: Decimal | None = None
    activation: Decimal | None = None
    limit_offset: Decimal | None = None
    high_water: Decimal | None = None
    initial_stop: Decimal | None = None
    rth_only: bool = True
    orders: tuple[SubmitOrder, ...] = ()


class DisarmExit(Command, frozen=True, kw_only=True):
    """Stop watching; nothing more fires from this leg."""

    bracket_id: str
    leg: str
    version: int
    incarnation: int


class ExitTriggered(Event, frozen=True, kw_only=True):
    """A held exit met its price. `level` is where its stop stood; what was sent by the child carries the armed ids."""

    bracket_id: str
    leg: str
    version: int
    incarnation: int
    price: Decimal
    level: Decimal
    high_water: Decimal | None
    ratchets: int
    ambiguous: bool
    reason: str
    tick_ts_ns: int
    ts_ns: int


class ExitRefused(Event, frozen=True, kw_only=True):
    """A held exit cannot be watched (no such feed): the bracket must find another way to protect."""

    bracket_id: str
    leg: str
    version: int
    reason: str
    ts_ns: int


class ConditionMet(Event, frozen=True, kw_only=True):
    """The rule's price was met: the entry may go."""

    bracket_id: str
    price: Decimal
    tick_ts_ns: int
    ts_ns: int


class BracketTimed(Event, frozen=True, kw_only=True):
    """A deadline of the bracket's passed. `key` says which."""

    bracket_id: str
    key: str
    ts_ns: int


class BracketStarted(Event, frozen=True, kw_only=True):
    """A bracket actor began, or began again (`incarnation` above 0)."""

    bracket_id: str
    incarnation: int
    ts_ns: int


class BracketDone(Event, frozen=True, kw_only=True):
    """A bracket is over and has lingered for late news: its actor may go."""

    bracket_id: str
