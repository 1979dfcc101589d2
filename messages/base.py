"""What every message is: a frozen, tagged record that may cross an actor, a process or a disk.

Law: only declared, frozen messages cross an actor boundary, because the simple base passes them by reference.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Word(StrEnum):
    """An enum whose members are their own spelling, in JSON, in the database and on a terminal."""

    # Equal to its spelling, so hashed like it: Enum's own hash is that of the name, and a Python call each time.
    __hash__ = str.__hash__


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that travels inside messages."""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag=True):
    """Anything one actor says to another. Its class name is unique: Thespian dispatches by it."""


class Command(Message, frozen=True, kw_only=True):
    """Imperative: somebody wants something done."""


class Event(Message, frozen=True, kw_only=True):
    """Past tense: something happened."""
