"""The position actor: what is held and what it has earned, told by executions alone.

Law: an execution is booked once, whatever is repeated; nothing is booked before the ledger has said what it has.
"""

from __future__ import annotations

from typing import ClassVar

from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.rules.absence import Absences
from actors.rules.position import Key, PositionBook
from messages.ledger import LoadPositions, PositionsLoaded, RecordCommitted, RecordEvent
from messages.market import Feed, MarksChanged, Subscribe, Unsubscribe
from messages.orders import CommissionReported, OrderFilled
from messages.risk import ExplainAbsence, PositionSeen, TagPosition
from messages.session import DescribeService, ServiceDescribed
from messages.supervision import Directory, StartActor

LOADING = "loading"
EXPLAIN = "explain"
MAX_EARLY = 100_000
"""Reports that may arrive before the ledger has answered."""


class Position(SupervisedActor):
    """Books every execution and tells the ledger what became of the position."""

    load_seconds: ClassVar[float] = 5.0
    """How long the ledger may take to answer before it is asked again."""
    explain_seconds: ClassVar[float] = 1.0
    """How long questions about vanished entries are gathered: several may share one difference."""

    def on_start(self, start: StartActor) -> None:
        self.book = PositionBook()
        self.loaded = False
        self._early: list[OrderFilled | CommissionReported | TagPosition] = []
        self._unkept: dict[str, RecordEvent] = {}
        """What the ledger has not confirmed: told again, in order, to one that was restarted."""
        self._ledger: ActorAddress | None = None
        self._marked: set[str] = set()
        self._market_data: ActorAddress | None = None
        self._seen: dict[tuple[str, int], PositionSeen] = {}
        self._absences = Absences()

    def on_directory(self, directory: Directory) -> None:
        ledger = directory.services.get("ledger")
        if ledger is not None and ledger != self._ledger:
            if not self.loaded:
                self._load()
            for record in self._unkept.values():
                self.tell("ledger", record)
        self._ledger = ledger
        market_data = directory.services.get("market_data")
        if market_data is not None and market_data != self._market_data:
            if self._market_data is not None:
                for instrument in sorted(self._marked):     # a new one knows nothing of our wishes
                    self.tell("market_data", Subscribe(instrument=instrument, feed=Feed.SNAPSHOT))
            self._market_data = market_data

    def _load(self) -> None:
        self.tell("ledger", LoadPositions())
        self.start_timer(LOADING, self.load_seconds)

    def on_timer(self, key: str) -> None:
        if key == EXPLAIN:
            self._explain()
        elif not self.loaded:
            self.log.warning("position: the ledger has not answered within {} s; asking again", self.load_seconds)
            self._load()

    def receiveMsg_PositionsLoaded(self, message: PositionsLoaded, sender: ActorAddress) -> None:
        if self.loaded:
            return
        self.loaded = True
        self.cancel_timer(LOADING)
        self.book.load(message.positions, message.exec_ids)
        for stored in message.positions:
            self._want_mark(stored.instrument)
        early, self._early = self._early, []
        for report in early:
            if isinstance(report, OrderFilled):
                self._book(report)
            elif isinstance(report, CommissionReported):
                self.book.charge(report)
            else:
                self._tag(report)

    def receiveMsg_OrderFilled(self, message: OrderFilled, sender: ActorAddress) -> None:
        """Book an execution, or its correction: both kinds come here."""
        if self.loaded:
            self._book(message)
        else:
            self._keep_early(message)

    def receiveMsg_CommissionReported(self, message: CommissionReported, sender: ActorAddress) -> None:
        if self.loaded:
            self.book.charge(message)
        else:
            self._keep_early(message)

    def receiveMsg_TagPosition(self, message: TagPosition, sender: ActorAddress) -> None:
        if self.loaded:
            self._tag(message)
        else:
            self._keep_early(message)

    def _tag(self, message: TagPosition) -> None:
        self.book.tag(Key(message.account, message.conid, message.strategy), message.risk_tags)

    def _keep_early(self, report: OrderFilled | CommissionReported | TagPosition) -> None:
        if len(self._early) < MAX_EARLY:
            self._early.append(report)
        else:
            self.log.error("position: {} dropped: {} wait for the ledger already", report, MAX_EARLY)

    def _book(self, fill: OrderFilled) -> None:
        changed = self.book.book(fill)
        self._absences.filled(fill, self.now())
        if changed is None:
            return
        key = f"pos:{fill.exec_id}:{fill.revision}"
        record = RecordEvent(key=key, bracket_id=fill.bracket_id, event=changed, ts_ns=self.now(), durable=True)
        if len(self._unkept) >= MAX_EARLY:
            lost = self._unkept.pop(next(iter(self._unkept)))
            self.log.error("position: {} is no longer kept for the ledger: {} wait already", lost.key, MAX_EARLY)
        self._unkept[key] = record
        if self._ledger is not None:
            self.tell("ledger", record)
        self._want_mark(fill.instrument)

    def receiveMsg_RecordCommitted(self, message: RecordCommitted, sender: ActorAddress) -> None:
        self._unkept.pop(message.key, None)

    def _want_mark(self, instrument: str) -> None:
        """Have the prices of what is held, and of nothing else."""
        held = self.book.holds(instrument)
        if held == (instrument in self._marked):
            return
        if held:
            self._marked.add(instrument)
            self.tell("market_data", Subscribe(instrument=instrument, feed=Feed.SNAPSHOT))
        else:
            self._marked.discard(instrument)
            self.tell("market_data", Unsubscribe(instrument=instrument, feed=Feed.SNAPSHOT))

    def receiveMsg_PositionSeen(self, message: PositionSeen, sender: ActorAddress) -> None:
        """Keep the venue's own view beside ours, for a person to compare: it lags and decides nothing."""
        self._seen[(message.account, message.conid)] = message

    def receiveMsg_ExplainAbsence(self, message: ExplainAbsence, sender: ActorAddress) -> None:
        """Say whether the account holds a vanished entry. Not before the books are read back: it is asked again."""
        if not self.loaded:
            return
        if not self._absences.waiting:
            self.start_timer(EXPLAIN, self.explain_seconds)
        self._absences.ask(message)

    def _explain(self) -> None:
        for answer in self._absences.answer(self.book.quantity, self.book.has, self._seen, self.now()):
            self.tell("broker", answer)
        if self._absences.waiting:
            self.start_timer(EXPLAIN, self.explain_seconds)

    def receiveMsg_MarksChanged(self, message: MarksChanged, sender: ActorAddress) -> None:
        self.book.mark(message.marks)

    def receiveMsg_DescribeService(self, message: DescribeService, sender: ActorAddress) -> None:
        venue = [
            {"account": seen.account, "conid": seen.conid, "instrument": seen.instrument,
             "quantity": str(seen.quantity), "ours": str(self.book.quantity(seen.account, seen.conid))}
            for _, seen in sorted(self._seen.items())
        ]
        facts: dict[str, object] = {"loaded": self.loaded, "positions": self.book.facts(), "venue": venue}
        self.tell(sender, ServiceDescribed(correlation=message.correlation, name=self.name, facts=facts))
