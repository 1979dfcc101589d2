"""The market-data actor: ticks stop here, and whoever armed a trigger hears when its price is met.

Law: no tick travels on to an order actor; what moves is told at most once a second, what fires at once.
"""

from __future__ import annotations

from typing import ClassVar

from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.rules.market_desk import MarketDesk, Send
from actors.rules.trigger_book import Fired
from messages.market import (
    ArmTrigger,
    DisarmTrigger,
    FeedChanged,
    HaltChanged,
    MarksChanged,
    Subscribe,
    TickBatch,
    TriggerRefused,
    Unsubscribe,
)
from messages.session import AlertRaised, DescribeService, ServiceDescribed
from messages.supervision import Directory, StartActor

SECOND = "second"
SEVERITIES = {"blind": "critical", "seeing": "info", "out_of_hours": "info"}


class MarketData(SupervisedActor):
    """Owns the trigger books and the subscriptions that they need."""

    report_seconds: ClassVar[float] = 1.0
    """How often ratchets and marks are told, and unused feeds looked for."""
    marks_per_message: ClassVar[int] = 500

    def on_start(self, start: StartActor) -> None:
        self.desk = MarketDesk()
        self.ticks = self.batches = self.fired = 0
        self._broker: ActorAddress | None = None
        self.start_timer(SECOND, self.report_seconds)

    def on_directory(self, directory: Directory) -> None:
        broker = directory.services.get("broker")
        if broker is not None and broker != self._broker:
            if self._broker is not None:
                self._say(self.desk.subscriptions())
            self._broker = broker

    # -- arming ------------------------------------------------------------------------------------------------

    def receiveMsg_ArmTrigger(self, message: ArmTrigger, sender: ActorAddress) -> None:
        self._say(self.desk.arm(message, sender, self.now()))

    def receiveMsg_DisarmTrigger(self, message: DisarmTrigger, sender: ActorAddress) -> None:
        self._say(self.desk.disarm(message, self.now()))

    def receiveMsg_Subscribe(self, message: Subscribe, sender: ActorAddress) -> None:
        """Keep some feed for the price that a position is valued at; which one is our choice."""
        self.desk.mark_wanted(message.instrument, True)

    def receiveMsg_Unsubscribe(self, message: Unsubscribe, sender: ActorAddress) -> None:
        self.desk.mark_wanted(message.instrument, False)

    # -- what the venue says -----------------------------------------------------------------------------------

    def receiveMsg_TickBatch(self, message: TickBatch, sender: ActorAddress) -> None:
        self.batches += 1
        self.ticks += len(message.ticks)
        self.desk.ticks(message.ticks, self._fire, self.now())
        if self.desk.notices:
            self._notify()

    def _fire(self, fired: Fired) -> None:
        """Tell at once: what is through must not wait for the rest of the batch, nor for a tick that breaks us."""
        self.fired += 1
        self.send_now(*self.desk.report(fired, self.now()))

    def receiveMsg_HaltChanged(self, message: HaltChanged, sender: ActorAddress) -> None:
        self.desk.halt(message.instrument, message.halted)

    def receiveMsg_FeedChanged(self, message: FeedChanged, sender: ActorAddress) -> None:
        self._say(self.desk.feed_changed(message, self.now()))
        self._notify()

    # -- once a second -----------------------------------------------------------------------------------------

    def on_timer(self, key: str) -> None:
        now_ns = self.now()
        self._say(list(self.desk.ratcheted(now_ns)))
        marks = self.desk.marks()
        for start in range(0, len(marks), self.marks_per_message):
            changed = MarksChanged(marks=marks[start : start + self.marks_per_message], ts_ns=now_ns)
            self.tell("position", changed)
            self.tell("risk", changed)
        self._say(self.desk.settle_lines(now_ns))
        self.start_timer(SECOND, self.report_seconds)

    def _notify(self) -> None:
        for code, sentence in self.desk.notices:
            self.log.warning("market_data: {}", sentence)
            self.tell("control", AlertRaised(
                severity=SEVERITIES[code], code=code, sentence=sentence, bracket_id=None, ts_ns=self.now()))
        self.desk.notices.clear()

    def _say(self, sends: list[Send]) -> None:
        for to, message in sends:
            if isinstance(message, TriggerRefused):
                self.log.warning("market_data: {} refused: {}", message.arm_id, message.reason)
            self.tell(to, message)

    def receiveMsg_DescribeService(self, message: DescribeService, sender: ActorAddress) -> None:
        facts = {"batches": self.batches, "ticks": self.ticks, "fired": self.fired, **self.desk.facts()}
        self.tell(sender, ServiceDescribed(correlation=message.correlation, name=self.name, facts=facts))
