"""Stand-ins for the services around a bracket: real actors, as simple as can be, that write down what they hear."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from messages.base import Command, Message
from messages.market import ArmTrigger, DisarmTrigger, TriggerArmed, TriggerFired
from messages.orders import (
    AmendOrder,
    BracketPictured,
    CancelOrder,
    OrderAccepted,
    OrderCommand,
    OrderEvent,
    OrderFilled,
    OrderSubmitted,
    OwnBracket,
    ReleaseBracket,
    SubmitOrder,
)
from messages.risk import AbsenceExplained, ExplainAbsence, IntentApproved, ReleaseClaim, ReviewIntent
from messages.session import AlertRaised
from messages.supervision import StartActor
from tests import builders


class VenueSays(Command, frozen=True, kw_only=True):
    """A test speaks for the venue: the event goes to the bracket's owner."""

    event: Any


class Fire(Command, frozen=True, kw_only=True):
    arm_id: str
    price: Decimal
    level: Decimal


class Holds(Command, frozen=True, kw_only=True):
    """A test says what the account holds where an entry has vanished."""

    quantity: Decimal
    cost: Decimal


class KillBracket(Command, frozen=True, kw_only=True):
    """Make a bracket's handler raise: the event is none that it can meet."""

    bracket_id: str


class Standin(SupervisedActor):
    """Writes one line for each message into `<state>/<name>.heard`."""

    def on_start(self, start: StartActor) -> None:
        self.path = Path(start.settings.state_dir) / f"{start.name}.heard"
        self.setup()

    def setup(self) -> None:
        """What a stand-in needs of its own."""

    def write(self, line: str) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


class Risk(Standin):
    def receiveMsg_ReviewIntent(self, message: ReviewIntent, sender: ActorAddress) -> None:
        self.write(f"review {message.intent.signal_id}")
        self.tell(
            sender,
            IntentApproved(
                bracket_id=message.bracket_id,
                signal_id=message.intent.signal_id,
                contract=builders.contract(message.intent.instrument),
                account=self.settings.venue.account or "DU1234567",
            ),
        )

    def receiveMsg_ReleaseClaim(self, message: ReleaseClaim, sender: ActorAddress) -> None:
        self.write(f"release {message.bracket_id}")

    def receiveMsg_OrderFilled(self, message: OrderFilled, sender: ActorAddress) -> None:
        self.write(f"filled {message.exec_id} {message.last_qty}")


class Broker(Standin):
    """Pictures nothing, writes at once, is acknowledged at once; fills come from the test."""

    def setup(self) -> None:
        self.owners: dict[str, ActorAddress] = {}
        self.pictures: dict[str, tuple[Any, ...]] = {}
        self.absences: dict[str, ExplainAbsence] = {}

    def receiveMsg_OwnBracket(self, message: OwnBracket, sender: ActorAddress) -> None:
        self.owners[message.bracket_id] = sender
        self.write(f"own {message.bracket_id} {message.entry_filled}")
        orders = self.pictures.get(message.bracket_id, ())
        self.tell(sender, BracketPictured(bracket_id=message.bracket_id, orders=orders, ts_ns=self.now()))

    def receiveMsg_SubmitOrder(self, order: SubmitOrder, sender: ActorAddress) -> None:
        self.write(f"submit {order.order_id} {order.side} {order.quantity} {order.order_type}")
        owner = self.owners[order.bracket_id]
        now = self.now()
        self.tell(
            owner,
            OrderSubmitted(
                bracket_id=order.bracket_id, order_id=order.order_id, ts_ns=now, leg=order.leg,
                quantity=order.quantity, client_id=1, venue_order_id=1,
            ),
        )  # fmt: skip
        self.tell(
            owner,
            OrderAccepted(bracket_id=order.bracket_id, order_id=order.order_id, ts_ns=now, perm_id=9, client_id=1),
        )

    def receiveMsg_OrderCommand(self, command: OrderCommand, sender: ActorAddress) -> None:
        kind = "amend" if isinstance(command, AmendOrder) else "cancel" if isinstance(command, CancelOrder) else "query"
        self.write(f"{kind} {command.order_id}")

    def receiveMsg_ReleaseBracket(self, message: ReleaseBracket, sender: ActorAddress) -> None:
        self.write(f"forget {message.bracket_id}")

    def receiveMsg_VenueSays(self, message: VenueSays, sender: ActorAddress) -> None:
        event: OrderEvent = message.event
        self.tell(self.owners[event.bracket_id], event)

    def receiveMsg_ExplainAbsence(self, message: ExplainAbsence, sender: ActorAddress) -> None:
        self.absences[message.order_id] = message
        self.write(f"explain {message.order_id} {message.side} {message.quantity}")

    def receiveMsg_Holds(self, message: Holds, sender: ActorAddress) -> None:
        for question in self.absences.values():
            held = msgspec.structs.replace(
                question, held=message.quantity, avg_cost=message.cost, ts_ns=self.now()
            )
            self.tell("position", held)

    def receiveMsg_AbsenceExplained(self, message: AbsenceExplained, sender: ActorAddress) -> None:
        self.tell(self.owners[message.bracket_id], message)

    def receiveMsg_KillBracket(self, message: KillBracket, sender: ActorAddress) -> None:
        nonsense = OrderAccepted(bracket_id=message.bracket_id, order_id="nonsense", ts_ns=1, perm_id=1, client_id=1)
        self.tell(self.owners[message.bracket_id], nonsense)


class MarketData(Standin):
    def setup(self) -> None:
        self.armers: dict[str, tuple[ActorAddress, str]] = {}

    def receiveMsg_ArmTrigger(self, message: ArmTrigger, sender: ActorAddress) -> None:
        self.write(f"arm {message.arm_id} {message.side} {message.kind} {message.high_water}")
        self.armers[message.arm_id] = (sender, message.bracket_id)
        from messages.market import Feed

        self.tell(sender, TriggerArmed(arm_id=message.arm_id, feed=Feed.TICK_BY_TICK))

    def receiveMsg_DisarmTrigger(self, message: DisarmTrigger, sender: ActorAddress) -> None:
        self.write(f"disarm {message.arm_id}")

    def receiveMsg_Fire(self, message: Fire, sender: ActorAddress) -> None:
        armer, bracket_id = self.armers.pop(message.arm_id)
        self.tell(
            armer,
            TriggerFired(
                arm_id=message.arm_id, bracket_id=bracket_id, price=message.price, level=message.level,
                high_water=None, ratchets=3, ambiguous=False, tick_ts_ns=self.now(), ts_ns=self.now(),
            ),
        )  # fmt: skip


class Control(Standin):
    def receiveMsg_AlertRaised(self, message: AlertRaised, sender: ActorAddress) -> None:
        self.write(f"alert {message.code}")

    def receiveMsg_Event(self, message: Message, sender: ActorAddress) -> None:
        """Everything else that is announced."""


def heard(folder: str | os.PathLike[str], name: str) -> list[str]:
    """Return the lines that a stand-in has written."""
    path = Path(folder) / f"{name}.heard"
    return path.read_text().splitlines() if path.exists() else []
