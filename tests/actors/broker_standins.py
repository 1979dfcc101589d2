"""Who stands around the broker in its tests: listeners that write down what they hear, and an owner that commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.base import SupervisedActor
from actors.broker import Broker
from messages.base import Command, Message
from messages.ledger import IdsReserved, ReserveIds
from messages.orders import OwnBracket
from messages.supervision import Directory, StartActor


class PassOn(Command, frozen=True, kw_only=True):
    """A test speaks through the owner: the command goes to the broker."""

    command: Any


class Break(Command, frozen=True, kw_only=True):
    """Make a handler of the broker raise."""


class Listener(SupervisedActor):
    """Writes one line for each message into `<state>/<name>.heard`."""

    def on_start(self, start: StartActor) -> None:
        self.path = Path(start.settings.state_dir) / f"{start.name}.heard"
        self.path.touch()

    def receiveMsg_Message(self, message: Message, sender: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{type(message).__name__} {message}\n")


class Ledger(Listener):
    """Answers for ids as the ledger does, each block above the last; nothing else."""

    def on_start(self, start: StartActor) -> None:
        super().on_start(start)
        self.last = 5_000

    def receiveMsg_ReserveIds(self, message: ReserveIds, sender: Any) -> None:
        self.receiveMsg_Message(message, sender)
        first = max(self.last, message.at_least) + 1
        self.last = first + message.count - 1
        self.tell(sender, IdsReserved(name=message.name, first=first, last=self.last))


class Owner(Listener):
    """Owns brackets as a bracket actor does: it says so again to a broker that was rebuilt."""

    def on_start(self, start: StartActor) -> None:
        super().on_start(start)
        self.owned: dict[str, OwnBracket] = {}
        self.broker: Any = None

    def receiveMsg_PassOn(self, message: PassOn, sender: Any) -> None:
        if isinstance(message.command, OwnBracket):
            self.owned[message.command.bracket_id] = message.command
        self.tell("broker", message.command)

    def on_directory(self, directory: Directory) -> None:
        address = directory.services.get("broker")
        if address is None or address == self.broker:
            return
        if self.broker is not None:
            for command in self.owned.values():
                self.tell("broker", command)
        self.broker = address


class FragileBroker(Broker):
    """The broker, with a handler that a test can break."""

    def receiveMsg_Break(self, message: Break, sender: Any) -> None:
        raise RuntimeError("broken by the test")
