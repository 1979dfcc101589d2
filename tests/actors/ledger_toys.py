"""An actor that says to the ledger what it is told to say, and writes down what it hears."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from messages.base import Command, Event, Message
from messages.session import ServiceDescribed


class Say(Command, frozen=True, kw_only=True):
    """Say these to the ledger, in order."""

    messages: tuple[Message, ...]


class Ear(SupervisedActor):
    """Stands in for the router and for the control actor."""

    def receiveMsg_Say(self, message: Say, sender: ActorAddress) -> None:
        for each in message.messages:
            self.tell("ledger", each)

    def receiveMsg_Event(self, message: Event, sender: ActorAddress) -> None:
        path = Path(self.settings.state_dir) / f"heard-by-{self.name}"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, msgspec.json.encode(message) + b"\n")
        finally:
            os.close(fd)

    def receiveMsg_ServiceDescribed(self, message: ServiceDescribed, sender: ActorAddress) -> None:
        self.receiveMsg_Event(message, sender)
