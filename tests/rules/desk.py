"""A bracket's rules at a desk: the real `step`, and a venue that does what the test says, no more.

Commands are collected; `ack`, `fill`, `end` speak for the venue.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from actors.rules.bracket import new_bracket, step
from actors.rules.bracket_state import Alert, Bracket, Incident, Policy, Refusal, StartTimer
from actors.rules.rows import RowView, rows
from messages.base import Message
from messages.exits import ArmExit, BracketStarted, BracketTimed, DisarmExit, ExitTriggered
from messages.orders import (
    AmendOrder,
    BracketPictured,
    CancelOrder,
    Definition,
    OrderAccepted,
    OrderCanceled,
    OrderEchoed,
    OrderExpired,
    OrderRejected,
    OrderSubmitted,
    QueryOrder,
    SubmitOrder,
)
from tests import builders


class Desk:
    """One bracket, its clock, and everything that it asked for."""

    def __init__(self, definition: Definition, policy: Policy | None = None, start: bool = True) -> None:
        self.bracket: Bracket = new_bracket(definition)
        self.policy = policy or Policy()
        self.now = definition.opened_ns
        self.said: list[Any] = []
        if start:
            self.tell(BracketStarted(bracket_id=self.id, incarnation=1, ts_ns=self.now))
            self.tell(BracketPictured(bracket_id=self.id, orders=(), ts_ns=self.now))

    @property
    def id(self) -> str:
        return self.bracket.definition.bracket_id

    def tell(self, event: Message) -> list[Any]:
        """Let one event happen; return what was asked for in answer."""
        self.now += 1_000_000
        self.bracket, commands = step(self.bracket, event, self.now, self.policy)
        self.said.extend(commands)
        return commands

    def name(self, leg: str) -> str:
        return leg if leg.startswith(self.id) else f"{self.id}.{leg}"

    # -- the venue speaks --------------------------------------------------------------------------------------

    def ack(self, leg: str, quantity: Decimal | int | None = None) -> list[Any]:
        order = self.bracket.orders[self.name(leg)]
        stamped = Decimal(quantity) if quantity is not None else order.quantity
        said = self.tell(
            OrderSubmitted(
                bracket_id=self.id, order_id=order.order_id, ts_ns=self.now, leg=order.leg, quantity=stamped,
                client_id=1, venue_order_id=11,
            )
        )
        accepted = OrderAccepted(bracket_id=self.id, order_id=order.order_id, ts_ns=self.now, perm_id=7001, client_id=1)
        return said + self.tell(accepted)

    def ack_all(self) -> None:
        for order in list(self.bracket.orders.values()):
            if order.life.value == "asked":
                self.ack(order.order_id)

    def fill(self, leg: str, quantity: int, price: Any, **more: Any) -> list[Any]:
        more.setdefault("side", None)
        return self.tell(builders.fill(self.name(leg), quantity, price, **more))

    def cancel(self, leg: str, requested: bool = True, reason: str = "") -> list[Any]:
        return self.tell(
            OrderCanceled(
                bracket_id=self.id, order_id=self.name(leg), ts_ns=self.now, requested=requested, reason=reason
            )
        )

    def reject(self, leg: str, code: int = 201, reason: str = "no margin") -> list[Any]:
        return self.tell(
            OrderRejected(bracket_id=self.id, order_id=self.name(leg), ts_ns=self.now, code=code, reason=reason)
        )

    def expire(self, leg: str) -> list[Any]:
        return self.tell(OrderExpired(bracket_id=self.id, order_id=self.name(leg), ts_ns=self.now, reason="expired"))

    def echo(self, leg: str, quantity: int) -> list[Any]:
        return self.tell(
            OrderEchoed(bracket_id=self.id, order_id=self.name(leg), ts_ns=self.now, quantity=Decimal(quantity))
        )

    def time(self, key: str) -> list[Any]:
        assert key in self.bracket.timers, f"timer {key} is not running: {sorted(self.bracket.timers)}"
        return self.tell(BracketTimed(bracket_id=self.id, key=key, ts_ns=self.now))

    def trigger(self, leg: str, price: Any, level: Any) -> list[Any]:
        arm = self.bracket.armed[leg]
        return self.tell(
            ExitTriggered(
                bracket_id=self.id, leg=leg, version=arm.version, incarnation=arm.incarnation, price=Decimal(price),
                level=Decimal(level), high_water=None, ratchets=0, ambiguous=False, reason=f"{leg} fired at {price}",
                tick_ts_ns=self.now, ts_ns=self.now,
            )
        )

    # -- what was asked for ------------------------------------------------------------------------------------

    def asked(self, kind: type[Any], said: list[Any] | None = None) -> list[Any]:
        return [command for command in (self.said if said is None else said) if isinstance(command, kind)]

    def sent(self, said: list[Any] | None = None) -> list[str]:
        """Return submissions as `leg[.n] quantity`."""
        return [f"{c.order_id.removeprefix(self.id + '.')} {c.quantity}" for c in self.asked(SubmitOrder, said)]

    def cancels(self, said: list[Any] | None = None) -> list[str]:
        return [c.order_id.removeprefix(self.id + ".") for c in self.asked(CancelOrder, said)]

    def amends(self, said: list[Any] | None = None) -> list[str]:
        return [f"{c.order_id.removeprefix(self.id + '.')} {c.quantity}" for c in self.asked(AmendOrder, said)]

    def codes(self, kind: type[Any] = Alert) -> list[str]:
        return [command.code for command in self.asked(kind)]

    def row(self, leg: str) -> RowView:
        return rows(self.bracket)[self.name(leg)]

    def words(self, leg: str) -> str:
        return str(self.row(leg).status)


__all__ = [
    "Alert", "AmendOrder", "ArmExit", "CancelOrder", "Desk", "DisarmExit", "Incident", "QueryOrder", "Refusal",
    "StartTimer", "SubmitOrder",
]
