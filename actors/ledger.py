"""Ledger: takes every record to the writer thread and brings the acknowledgements back.

Law: an actor that asked for durability hears nothing before the commit. The database is never touched on this actor's
thread, reads included, so a slow disk delays no stop.
"""

from __future__ import annotations

from typing import Any, ClassVar

from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.rules.legs import leg_rows
from messages.ledger import (
    BracketOpened,
    BracketReloaded,
    BracketsLoaded,
    EventsCommitted,
    IdsReserved,
    LedgerFailed,
    LedgerRecovered,
    LoadBracket,
    LoadBrackets,
    LoadPositions,
    OpenBracket,
    PositionsLoaded,
    RecordCommitted,
    RecordEvent,
    ReserveIds,
    SignalsLoaded,
)
from messages.orders import CommissionReported, OrderFilled
from messages.risk import IntentDenied
from messages.session import AlertRaised, DescribeService, ServiceDescribed
from messages.supervision import StartActor
from storage.database import redacted
from storage.journal import Answer, BracketBatch, Journal, Opened, Recovered, Trouble, Unreadable
from storage.store import Entry, Group, Refused

WATCHDOG = "watchdog"


class Ledger(SupervisedActor):
    """The mailbox of the journal. Answers OpenBracket, durable RecordEvent, LoadBrackets, LoadPositions, ReserveIds."""

    watchdog_seconds: ClassVar[float] = 1.0
    stall_seconds: ClassVar[float] = 3.0
    """Records that wait this long without a commit count as failure, though the database has not said a word."""
    close_seconds: ClassVar[float] = 2.0
    """How long the end of this actor waits for what is still to be committed."""
    rows_in_message: ClassVar[int] = 200
    signals_in_message: ClassVar[int] = 2_000
    """The isolated base takes messages of at most 1 MB; the router adds up what it is told."""

    def on_start(self, start: StartActor) -> None:
        self.journal = Journal(start.settings.database_url, self.now)
        self.trouble = ""
        self.stalled = False
        self.database_epoch = 0
        self.committed = 0
        self.last_seq = 0
        self._progress_ns = self.ground.monotonic()
        self.journal.start()
        self.watch(self.journal.fileno())
        self.start_timer(WATCHDOG, self.watchdog_seconds)

    def on_stop(self) -> None:
        journal: Journal | None = self.__dict__.get("journal")
        if journal is None:
            return
        self.unwatch(journal.fileno())
        if not journal.close(self.close_seconds):
            self.log.error("ledger: {} records were not committed when it ended", journal.waiting)

    # -- writing -------------------------------------------------------------------------------------------------------

    def receiveMsg_OpenBracket(self, message: OpenBracket, sender: ActorAddress) -> None:
        definition = message.definition
        if self.journal.overloaded:
            sentence = f"ledger: {self.journal.waiting} records wait for the database; no new bracket until they are in"
            self.tell(sender, _denied(definition, "ledger_overloaded", sentence, self.now()))
            return
        opened = BracketOpened(
            bracket_id=definition.bracket_id, definition=definition, rows=leg_rows(definition), ts_ns=self.now()
        )
        key = f"open:{definition.bracket_id}"
        self.journal.append(Entry(key, definition.bracket_id, opened, opened.ts_ns, "", (sender, opened)))

    def receiveMsg_RecordEvent(self, message: RecordEvent, sender: ActorAddress) -> None:
        token = (sender, RecordCommitted(key=message.key)) if message.durable else None
        self.journal.append(
            Entry(message.key, message.bracket_id, message.event, message.ts_ns, message.reason, token)
        )

    def receiveMsg_OrderFilled(self, message: OrderFilled, sender: ActorAddress) -> None:
        """Keep an execution, or its correction: both kinds come here."""
        key = f"exec:{message.exec_id}:{message.revision}"
        self.journal.append(Entry(key, message.bracket_id, message, message.ts_ns))

    def receiveMsg_CommissionReported(self, message: CommissionReported, sender: ActorAddress) -> None:
        self.journal.append(Entry(f"fee:{message.exec_id}", message.bracket_id, message, message.ts_ns))

    def receiveMsg_ReserveIds(self, message: ReserveIds, sender: ActorAddress) -> None:
        name, count, at_least = message.name, message.count, message.at_least
        self.journal.ask(("ids", sender, name), lambda store: store.reserve(name, count, at_least))

    # -- reading back ------------------------------------------------------------------------------------------------

    def receiveMsg_LoadBrackets(self, message: LoadBrackets, sender: ActorAddress) -> None:
        self.journal.ask(("signals", sender, ""), lambda store: store.signals())
        self.journal.load_brackets(sender)

    def receiveMsg_LoadBracket(self, message: LoadBracket, sender: ActorAddress) -> None:
        bracket_id = message.bracket_id
        self.journal.ask(("bracket", sender, bracket_id), lambda store: store.stored_brackets([bracket_id]))

    def receiveMsg_LoadPositions(self, message: LoadPositions, sender: ActorAddress) -> None:
        self.journal.ask(("positions", sender, ""), lambda store: store.positions())

    def receiveMsg_DescribeService(self, message: DescribeService, sender: ActorAddress) -> None:
        facts: dict[str, object] = {
            "database": redacted(self.journal.url),
            "epoch": self.database_epoch,
            "waiting": self.journal.waiting,
            "committed": self.committed,
            "last_seq": self.last_seq,
            "trouble": self.trouble,
        }
        self.tell(sender, ServiceDescribed(correlation=message.correlation, name=self.name, facts=facts))

    # -- what the writer thread says -----------------------------------------------------------------------------------

    def on_readable(self, fds: list[int]) -> None:
        for outcome in self.journal.collect():
            self._progress_ns = self.ground.monotonic()
            if isinstance(outcome, Group):
                self._group(outcome)
            elif isinstance(outcome, Answer):
                self._answer(outcome)
            elif isinstance(outcome, BracketBatch):
                self.tell(outcome.token, BracketsLoaded(brackets=outcome.brackets, last=outcome.last))
            elif isinstance(outcome, Opened):
                self.database_epoch = outcome.epoch
                self.log.info("ledger: {} is open, epoch {}", redacted(self.journal.url), outcome.epoch)
            elif isinstance(outcome, Unreadable):
                self.log.critical("ledger: {}", outcome.reason)
                self._alert("page", "unreadable_bracket", outcome.reason, outcome.bracket_id)
            elif isinstance(outcome, Trouble):
                self._failed(outcome.reason)
            elif isinstance(outcome, Recovered):
                self._recovered()

    def on_timer(self, key: str) -> None:
        self.start_timer(WATCHDOG, self.watchdog_seconds)
        stalled_ns = self.ground.monotonic() - self._progress_ns
        if not self.journal.waiting:
            self._progress_ns = self.ground.monotonic()
        elif stalled_ns > self.stall_seconds * 1e9 and not self.trouble:
            self.stalled = True
            self._failed(f"database {redacted(self.journal.url)}: no commit for {stalled_ns / 1e9:.1f} s")

    def _group(self, group: Group) -> None:
        for entry in group.done:
            if entry.token is not None:
                self.tell(*entry.token)
        for refused in group.refused:
            self._refused(refused)
        if group.rows:
            self.committed += len(group.rows)
            self.last_seq = group.rows[-1][0]
            if self._knows("control"):
                for start in range(0, len(group.rows), self.rows_in_message):
                    self.tell("control", EventsCommitted(rows=group.rows[start : start + self.rows_in_message]))
        if self.stalled:  # the writer thread does not know of it and will not say that it is over
            self._recovered()

    def _refused(self, refused: Refused) -> None:
        self.log.error("ledger: {}", refused.reason)
        event = refused.entry.event
        if isinstance(event, BracketOpened) and refused.entry.token is not None:
            sender = refused.entry.token[0]
            self.tell(sender, _denied(event.definition, refused.code, refused.reason[:2_000], self.now()))
        if refused.code == "unstorable":
            self._alert("critical", refused.code, refused.reason[:2_000], refused.entry.bracket_id)

    def _alert(self, severity: str, code: str, sentence: str, bracket_id: str | None) -> None:
        alert = AlertRaised(severity=severity, code=code, sentence=sentence, bracket_id=bracket_id, ts_ns=self.now())
        self.tell("control", alert)

    def _answer(self, answer: Answer) -> None:
        kind, sender, name = answer.token
        if answer.problem:
            self.log.error("ledger: {} could not be read: {}", kind, answer.problem)
        elif kind == "signals":
            pairs = list(answer.value.items())
            for start in range(0, len(pairs) or 1, self.signals_in_message):
                self.tell(sender, SignalsLoaded(signals=dict(pairs[start : start + self.signals_in_message])))
        elif kind == "bracket":
            self.tell(sender, BracketReloaded(bracket_id=name, bracket=answer.value[0] if answer.value else None))
        elif kind == "positions":
            positions, exec_ids = answer.value
            self.tell(sender, PositionsLoaded(positions=positions, exec_ids=exec_ids))
        elif kind == "ids":
            self.tell(sender, IdsReserved(name=name, first=answer.value[0], last=answer.value[1]))

    def _failed(self, reason: str) -> None:
        if not self.trouble:
            self.log.error("ledger: {}", reason)
            self.trouble = reason
            for service in ("router", "control"):
                self.tell(service, LedgerFailed(reason=reason, ts_ns=self.now()))

    def _recovered(self) -> None:
        if self.trouble:
            self.log.info("ledger: {} works again", redacted(self.journal.url))
            self.trouble, self.stalled = "", False
            for service in ("router", "control"):
                self.tell(service, LedgerRecovered(ts_ns=self.now()))

    def _knows(self, service: str) -> bool:
        return self.directory is not None and service in self.directory.services


def _denied(definition: Any, code: str, sentence: str, ts_ns: int) -> IntentDenied:
    intent = definition.intent
    return IntentDenied(
        bracket_id=definition.bracket_id,
        signal_id=intent.signal_id,
        strategy=intent.strategy,
        instrument=intent.instrument,
        code=code,
        sentence=sentence,
        ts_ns=ts_ns,
    )
