"""One exit of a bracket: its orders go through here, their acknowledgement is watched, and it is held if it is held.

Law: what it may send when it fires was fixed by the bracket beforehand (ids, groups, most it may be), so that firing
is one message to the broker; the broker cuts it to what is open at the moment of writing.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.guard import NAMES_OF_ALL
from actors.rules import legs, prices
from messages.exits import ArmExit, DisarmExit, ExitRefused, ExitTriggered, LegSpec
from messages.market import ArmTrigger, DisarmTrigger, TriggerArmed, TriggerFired, TriggerRefused
from messages.orders import OrderEvent, OrderSubmitted, PrepareOrder, QueryOrder, SubmitOrder
from messages.supervision import Directory, StartActor

_replace = msgspec.structs.replace
TRIGGER_FIELDS = ("kind", "method", "level", "amount", "percent", "activation", "rth_only")


class ChildOrder(SupervisedActor):
    """A target or a stop. Its name is the leg's; its parent is the bracket."""

    names: ClassVar[tuple[str, ...]] = (
        *NAMES_OF_ALL, "leg_spec", "arm_id", "armed", "waiting", "last", "_market_data", "_timers", "_generation",
    )  # fmt: skip
    ack_seconds: ClassVar[float] = 5.0
    """How long an order that was written may go without a word from the venue before it is asked for."""

    def on_start(self, start: StartActor) -> None:
        self.leg_spec: LegSpec = start.spec
        self.arm_id = legs.row_id(self.leg_spec.bracket_id, self.leg_spec.leg)
        self.armed: ArmExit | None = None
        self.waiting: set[str] = set()

    # -- what rests at the venue -------------------------------------------------------------------------------

    def receiveMsg_SubmitOrder(self, order: SubmitOrder, sender: ActorAddress) -> None:
        self.tell("broker", order)

    def receiveMsg_OrderEvent(self, event: OrderEvent, sender: ActorAddress) -> None:
        """Any word about an order ends the wait for its acknowledgement."""
        if isinstance(event, OrderSubmitted):
            self.waiting.add(event.order_id)
            self.start_timer(event.order_id, self.ack_seconds)
        elif event.order_id in self.waiting:
            self.waiting.discard(event.order_id)
            self.cancel_timer(event.order_id)

    def on_timer(self, key: str) -> None:
        if key in self.waiting:
            self.waiting.discard(key)
            self.tell(
                "broker",
                QueryOrder(
                    command_id=f"{key}:ack:{self.now()}",
                    bracket_id=self.leg_spec.bracket_id,
                    order_id=key,
                    incarnation=self.leg_spec.bracket_incarnation,
                ),
            )

    # -- what is held here -------------------------------------------------------------------------------------

    def receiveMsg_ArmExit(self, arm: ArmExit, sender: ActorAddress) -> None:
        """Watch the price; only what is to be sent has changed where the trigger is the same."""
        last, self.armed = self.armed, arm
        same = last is not None and all(getattr(last, name) == getattr(arm, name) for name in TRIGGER_FIELDS)
        if not same:
            self._watch(arm)
        for order in arm.orders:
            self.tell("broker", PrepareOrder(order=order))

    def _watch(self, arm: ArmExit) -> None:
        definition = self.leg_spec.definition
        self.tell(
            "market_data",
            ArmTrigger(
                arm_id=self.arm_id,
                bracket_id=arm.bracket_id,
                incarnation=arm.incarnation,
                instrument=definition.contract.instrument,
                sec_type=definition.contract.sec_type,
                side=str(legs.exit_side(definition).venue_side),
                kind=arm.kind,
                method=arm.method,
                level=arm.level,
                amount=arm.amount,
                percent=arm.percent,
                activation=arm.activation,
                high_water=arm.high_water,
                initial_stop=arm.initial_stop,
                rth_only=arm.rth_only,
            ),
        )

    def receiveMsg_DisarmExit(self, disarm: DisarmExit, sender: ActorAddress) -> None:
        if self.armed is not None:
            self.armed = None
            self.tell("market_data", DisarmTrigger(arm_id=self.arm_id, incarnation=disarm.incarnation))

    def receiveMsg_TriggerFired(self, fired: TriggerFired, sender: ActorAddress) -> None:
        """Send what was armed, then tell the bracket: three hops between the tick and the wire."""
        arm, self.armed = self.armed, None
        if arm is None or fired.arm_id != self.arm_id:
            return
        # While the broker is being restarted there is nobody to send to at once: then it waits for the next one.
        there = self.directory is not None and "broker" in self.directory.services
        for order in arm.orders:
            (self.send_now if there else self.tell)("broker", self._stamped(order, arm, fired))
        self.tell(
            self.parent,
            ExitTriggered(
                bracket_id=arm.bracket_id,
                leg=arm.leg,
                version=arm.version,
                incarnation=arm.incarnation,
                price=fired.price,
                level=fired.level,
                high_water=fired.high_water,
                ratchets=fired.ratchets,
                ambiguous=fired.ambiguous,
                reason=self._reason(arm, fired),
                tick_ts_ns=fired.tick_ts_ns,
                ts_ns=self.now(),
            ),
        )

    def _stamped(self, order: SubmitOrder, arm: ArmExit, fired: TriggerFired) -> SubmitOrder:
        if arm.limit_offset is None:
            return order
        contract = self.leg_spec.definition.contract
        limit = prices.limit_beyond(contract, order.side, fired.level, arm.limit_offset)
        return _replace(order, limit_price=limit)

    def _reason(self, arm: ArmExit, fired: TriggerFired) -> str:
        word = "AMBIGUOUS: only the order within the batch decides; " if fired.ambiguous else ""
        trail = f" after {fired.ratchets} ratchets from a high water of {fired.high_water}" if fired.high_water else ""
        return f"{word}the {arm.leg} at {fired.level} fired at {fired.price}{trail}"

    def receiveMsg_TriggerRefused(self, event: TriggerRefused, sender: ActorAddress) -> None:
        if self.armed is not None:
            arm, self.armed = self.armed, None
            self.tell(
                self.parent,
                ExitRefused(
                    bracket_id=arm.bracket_id,
                    leg=arm.leg,
                    version=arm.version,
                    reason=event.reason,
                    ts_ns=self.now(),
                ),
            )

    def receiveMsg_TriggerArmed(self, event: TriggerArmed, sender: ActorAddress) -> None:
        """The book has it."""

    def on_directory(self, directory: Directory) -> None:
        """A market-data actor that was restarted has an empty book: arm again, from where the stop stood."""
        address = directory.services.get("market_data")
        if address is None:
            return
        before: Any = getattr(self, "_market_data", None)
        self._market_data = address
        armed = getattr(self, "armed", None)
        if before is not None and before != address and armed is not None:
            self._watch(self.resumed(armed))

    def resumed(self, arm: ArmExit) -> ArmExit:
        """Return the arm as it must be watched after a gap."""
        return arm
