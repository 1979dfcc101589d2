"""Only declared, frozen messages with names of their own cross an actor boundary."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter

import pytest

import messages
from messages.base import Message, Record


def kinds() -> list[type]:
    """Return every message and record that the messages package declares."""
    found: list[type] = []
    for module in pkgutil.iter_modules(messages.__path__, "messages."):
        loaded = importlib.import_module(module.name)
        found += [
            kind
            for kind in vars(loaded).values()
            if isinstance(kind, type) and issubclass(kind, (Message, Record)) and kind.__module__ == module.name
        ]
    return found


def test_names_are_unique_for_dispatch_goes_by_bare_class_name() -> None:
    counted = Counter(kind.__name__ for kind in kinds() if issubclass(kind, Message))
    assert [name for name, count in counted.items() if count > 1] == []


def test_no_message_takes_the_name_of_one_of_thespians_own() -> None:
    import thespian.actors

    taken = {name for name, value in vars(thespian.actors).items() if isinstance(value, type)}
    assert {kind.__name__ for kind in kinds()} & taken == set()


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_everything_that_is_said_is_frozen(kind: type) -> None:
    assert kind.__struct_config__.frozen, f"{kind.__name__} is passed by reference in the simple base"
