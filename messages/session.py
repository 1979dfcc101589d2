"""What is said about the connection to the venue and about the service as a whole."""

from __future__ import annotations

from messages.base import Command, Event


class SessionChanged(Event, frozen=True, kw_only=True):
    """The connection's state: connecting, reconciling, ready, lost. `detail` is for a person."""

    state: str
    detail: str
    account: str
    client_id: int
    ts_ns: int


class AlertRaised(Event, frozen=True, kw_only=True):
    """Something a person must know. `severity`: info, warning, critical, page."""

    severity: str
    code: str
    sentence: str
    bracket_id: str | None
    ts_ns: int


class DescribeService(Command, frozen=True, kw_only=True):
    """Ask an actor for its state as plain data (status, doctor, tests)."""

    correlation: str


class ServiceDescribed(Event, frozen=True, kw_only=True):
    correlation: str
    name: str
    facts: dict[str, object]


class ChildState(Event, frozen=True, kw_only=True):
    """What a child order or trailing stop says of itself to its bracket's description."""

    bracket_id: str
    leg: str
    facts: dict[str, object]
