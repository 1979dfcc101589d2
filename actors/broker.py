"""The broker: the only owner of the venue. A thin mailbox over the session, the desk and the feeds.

Law: no object of the venue's library is in any message, and no handler waits: what the venue has to say is read when
its descriptor is readable, and what is due comes by one timer.
"""

from __future__ import annotations

from typing import Any

from actors.base import SupervisedActor
from actors.venue.desk import NS, Desk
from actors.venue.fills import BOOKKEEPERS
from actors.venue.ib import IbVenue
from actors.venue.port import TicksTold, Venue
from actors.venue.session import Session, State
from messages.ledger import IdsReserved, PositionsLoaded, ReserveIds
from messages.market import Subscribe, Unsubscribe
from messages.orders import (
    AmendOrder,
    CancelOrder,
    OwnBracket,
    PrepareOrder,
    QueryOrder,
    ReleaseBracket,
    SubmitOrder,
)
from messages.risk import AbsenceExplained, ExplainAbsence, QualifyInstrument
from messages.session import DescribeService, ServiceDescribed
from messages.supervision import Directory, StartActor

DUE = "due"
IDS_NAME = "venue_order"
IDS_AHEAD = 200
IDS_PATIENCE_NS = 10 * NS
LOCKSTEP = "lockstep"
READS_PER_TURN = 16
"""Reads of 64 KB before the other actors get a turn."""


class Broker(SupervisedActor):
    """Speaks to the venue for everybody."""

    session: Session
    desk: Desk
    venue: Venue
    due_ns = 0
    ids_last = 0
    """The last venue id of our durable block: a successor starts above it, whatever the gateway says."""
    ids_asked_ns = 0
    fds: tuple[int, ...] = ()

    def make_venue(self) -> Venue:
        return IbVenue(self.settings.venue.library)

    def on_start(self, start: StartActor) -> None:
        self.venue = self.make_venue()
        self.venue.closing = self._closing
        self.services: dict[str, Any] = {}
        self.desk = Desk(self.venue, self.settings, self.tell)
        self.session = Session(self.desk)
        self.session.start(self.now())
        self._after()

    def on_stop(self) -> None:
        session = getattr(self, "session", None)
        if session is not None:
            session.stop(self.now())
            self.venue.close()

    def on_directory(self, directory: Directory) -> None:
        """A bookkeeper that was restarted may have lost what was told to its predecessor: tell it again."""
        for name in BOOKKEEPERS:
            address = directory.services.get(name)
            if address is not None and address != self.services.get(name):
                if name in self.services:
                    self.session.reports.fills.repeat(name)
                    self.session.tell_anew(name, self.now())
                self.services[name] = address
        self._reserve_ids()
        self._after()

    def _reserve_ids(self) -> None:
        """Set ids aside ahead of use; no order waits for it (trading-rules.md 28)."""
        now = self.now()
        if self.venue.next_id + IDS_AHEAD <= self.ids_last or now - self.ids_asked_ns < IDS_PATIENCE_NS:
            return
        if self.directory is not None and "ledger" in self.directory.services:
            self.ids_asked_ns = now
            self.tell("ledger", ReserveIds(name=IDS_NAME, at_least=self.venue.next_id - 1))

    def receiveMsg_IdsReserved(self, message: IdsReserved, sender: Any) -> None:
        if message.name == IDS_NAME:
            if not self.venue.next_id <= self.ids_last:
                self.venue.raise_id(message.first)
            self.ids_last = max(self.ids_last, message.last)
            self.ids_asked_ns = 0

    def receiveMsg_PositionsLoaded(self, message: PositionsLoaded, sender: Any) -> None:
        """What the ledger has booked: executions that nobody claims and that are not in it were never heard."""
        self.session.reports.fills.settle_orphans(set(message.exec_ids), self.now())

    # -- the venue ---------------------------------------------------------------------------------------------

    def on_readable(self, fds: list[int]) -> None:
        if self.pump():
            self._look_after()

    def on_timer(self, key: str) -> None:
        if key == LOCKSTEP:
            if self.venue.connected:
                self.venue.ask_time()
            return
        self.due_ns = 0
        self.pump()
        self._look_after()

    def pump(self) -> bool:
        """Read what is there and say what it means; tell whether it was more than ticks.

        Ticks change nothing here, and what is due comes by its timer: a tick that fires a stop is not to wait for it.
        """
        session, venue = self.session, self.venue
        now = self.now()
        more = False
        for _ in range(READS_PER_TURN):
            events = venue.pump(now)
            if not events:
                more = True  # a part of a message, or of a handshake
                break
            session.heard_ns = now
            for event in events:
                session.hear(event, now)
                more = more or event.__class__ is not TicksTold
            if not venue.unread:
                break
        if session.saw_ticks:
            session.saw_ticks = False
            if self.settings.venue.lockstep:
                # The timer runs once all that these ticks caused has been handled: then the replay may go on.
                self.start_timer(LOCKSTEP, 0.0)
        return more

    def _look_after(self) -> None:
        """Do what is due."""
        self.session.on_time(self.now())
        self._after()

    def _after(self) -> None:
        """Write what may be written, and keep the descriptors and the timer as they must be."""
        now = self.now()
        wait = self.desk.flush(now)
        if self.venue.next_id + IDS_AHEAD > self.ids_last:
            self._reserve_ids()
        due = self.session.next_due(now)
        if wait and (not due or now + wait < due):
            due = now + wait
        # A deadline that moved back is left to run out early: cheaper than a new timer after every read.
        if due and (not self.due_ns or due < self.due_ns):
            self.due_ns = due
            self.start_timer(DUE, max(0.0, (due - now) / NS))
        self._watch(tuple(self.venue.fds()))

    def _watch(self, fds: tuple[int, ...]) -> None:
        if fds == self.fds:
            return
        for fd in set(self.fds) - set(fds):
            self.unwatch(fd)
        for fd in set(fds) - set(self.fds):
            self.watch(fd)
        self.fds = fds

    def _closing(self, fd: int) -> None:
        self.unwatch(fd)
        self.fds = tuple(each for each in self.fds if each != fd)

    # -- commands ----------------------------------------------------------------------------------------------

    def receiveMsg_OwnBracket(self, message: OwnBracket, sender: Any) -> None:
        self.session.feeds.learn(message.contract, self.now())
        self.desk.own(message, sender, self.now())
        self._after()

    def receiveMsg_ReleaseBracket(self, message: ReleaseBracket, sender: Any) -> None:
        self.desk.release(message)

    def receiveMsg_SubmitOrder(self, message: SubmitOrder, sender: Any) -> None:
        self.desk.submit(message, sender, self.now())
        self._after()

    def receiveMsg_PrepareOrder(self, message: PrepareOrder, sender: Any) -> None:
        self.desk.prepare(message.order)

    def receiveMsg_AmendOrder(self, message: AmendOrder, sender: Any) -> None:
        self.desk.amend(message, sender, self.now())
        self._after()

    def receiveMsg_CancelOrder(self, message: CancelOrder, sender: Any) -> None:
        self.desk.cancel(message, sender, self.now())
        self._after()

    def receiveMsg_QueryOrder(self, message: QueryOrder, sender: Any) -> None:
        self.desk.query(message, sender, self.now())
        self._after()

    def receiveMsg_ExplainAbsence(self, message: ExplainAbsence, sender: Any) -> None:
        self.session.explain(message, self.now())
        self._after()

    def receiveMsg_AbsenceExplained(self, message: AbsenceExplained, sender: Any) -> None:
        """The position actor's answer, for whoever owns the bracket now."""
        bracket = self.desk.books.brackets.get(message.bracket_id)
        if bracket is not None and bracket.owner is not None and not bracket.released:
            self.tell(bracket.owner, message)

    def receiveMsg_QualifyInstrument(self, message: QualifyInstrument, sender: Any) -> None:
        self.session.feeds.qualify(message.instrument, sender, self.now())
        self._after()

    def receiveMsg_Subscribe(self, message: Subscribe, sender: Any) -> None:
        self.session.feeds.subscribe(message, self.now())
        self._after()

    def receiveMsg_Unsubscribe(self, message: Unsubscribe, sender: Any) -> None:
        self.session.feeds.unsubscribe(message, self.now())
        self._after()

    def receiveMsg_DescribeService(self, message: DescribeService, sender: Any) -> None:
        self.tell(sender, ServiceDescribed(correlation=message.correlation, name=self.name, facts=self.facts()))

    def facts(self) -> dict[str, object]:
        """Return the broker's state as plain data."""
        books, session = self.desk.books, self.session
        return {
            "state": session.state.value, "gate_open": self.desk.gate_open, "closed_because": self.desk.closed_because,
            "account": self.desk.account, "client_id": self.desk.client_id, "sessions": session.sessions,
            "library": self.settings.venue.library, "orders": len(books.orders),
            "live_orders": sum(1 for order in books.orders.values() if order.live),
            "brackets": sum(1 for bracket in books.brackets.values() if not bracket.released),
            "executions": len(books.executions), "waiting": self.desk.waiting(), "written": self.desk.written,
            "unsent_bytes": self.venue.unsent_bytes, "foreign_orders": len(session.reports.foreign),
            "parked_executions": len(session.reports.fills.parked),
            "feeds": sorted(f"{name} {feed.value}" for name, feed in session.feeds.lines),
            "next_venue_id": self.venue.next_id, "ids_reserved_to": self.ids_last,
            "halted": sorted(session.feeds.halts), "clock_offset_s": session.clock_offset_s,
            "net_liquidation": session.account_values.get("NetLiquidation", ""),
            "ready": session.state is State.READY,
        }
