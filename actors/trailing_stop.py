"""A trailing stop: held here, ratcheted by the trigger book, sent once when it fires.

Law: its price is a calculation on ticks; IB sees one order, when it is real (000.S.1-S.3). A stop never loosens, across
restarts too: where it stood is journalled as it ratchets, and taken up from there.
"""

from __future__ import annotations

import msgspec
from thespian.actors import ActorAddress

from actors.child_order import ChildOrder
from messages.exits import ArmExit
from messages.ledger import TrailMoved
from messages.market import TrailRatcheted
from messages.supervision import StartActor


class TrailingStop(ChildOrder):
    """An exit that follows the price. Everything but the ratchet is a held child order's."""

    def on_start(self, start: StartActor) -> None:
        super().on_start(start)
        self.last: TrailRatcheted | None = None

    def receiveMsg_TrailRatcheted(self, event: TrailRatcheted, sender: ActorAddress) -> None:
        """Journal where it stands (throttled by the market-data actor), and tell the bracket."""
        if event.arm_id != self.arm_id:
            return
        self.last = event
        moved = TrailMoved(
            bracket_id=self.leg_spec.bracket_id,
            row_id=self.arm_id,
            high_water=event.high_water,
            stop=event.stop,
            ratchets=event.ratchets,
            ts_ns=event.ts_ns,
        )
        self.tell(self.parent, moved)

    def resumed(self, arm: ArmExit) -> ArmExit:
        """Go on from the last known high water and stop."""
        if self.last is None:
            return arm
        return msgspec.structs.replace(arm, high_water=self.last.high_water, initial_stop=self.last.stop)
