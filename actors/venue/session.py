"""The session with the venue: connect, ask, settle, open the gate; notice silence, come back, ask again.

Law: the first request is always the time; nothing is ordered before the picture is complete and quiet. Every question
has a deadline; open orders and executions are asked again, the rest is done without, with an alert.
"""

from __future__ import annotations

import msgspec

from actors.venue import ib_codes
from actors.venue.desk import NS, Desk
from actors.venue.errors import OrderErrors
from actors.venue.feeds import Feeds
from actors.venue.fills import UNOWNED_NS
from actors.venue.port import (
    AccountTold,
    CommissionSeen,
    CompletedSeen,
    ContractsEnded,
    ContractTold,
    ErrorTold,
    ExecutionSeen,
    Garbled,
    HaltTold,
    IdsTold,
    LinkDown,
    LinkUp,
    OrderSeen,
    PositionTold,
    RuleTold,
    SnapshotEnded,
    StatusSeen,
    TicksTold,
    TimeTold,
    VenueEvent,
)
from actors.venue.reports import Reports
from messages.base import Word
from messages.ledger import LoadPositions
from messages.market import HaltChanged
from messages.orders import GateClosed, GateOpened
from messages.risk import ExplainAbsence, PositionSeen
from messages.session import SessionChanged

BACKOFF_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0)
REQUIRED = ("open_orders", "executions")
OPTIONAL = ("completed_orders",)
AT_START = ("positions", "account")
TRIES = 3


class State(Word):
    IDLE = "idle"
    CONNECTING = "connecting"
    TIME = "asking the time"
    IDS = "asking for ids"
    RECONCILING = "reconciling"
    READY = "ready"
    LOST = "lost"


class Session:
    """One client id's life at the gateway, over many connections."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.venue = desk.venue
        self.settings = desk.settings.venue
        self.reports = Reports(desk)
        self.errors = OrderErrors(self.reports)
        self.feeds = Feeds(desk)
        self.state = State.IDLE
        self.deadline_ns = 0
        self.attempts = 0
        self.sessions = 0
        self.round_open = False
        self.round_started_ns = 0
        self.waiting_for: dict[str, int] = {}
        self.tries: dict[str, int] = {}
        self.missing: set[str] = set()
        self.quiet_since_ns = 0
        self.link_broken = False
        self.heard_ns = 0
        self.asked_time_ns = 0
        self.account_values: dict[str, str] = {}
        self.clock_offset_s = 0
        self.saw_ticks = False
        self.clock_ns = 0
        """The time at the last look."""
        self.orphans_due_ns = 0
        """When the ledger is asked whether executions that nobody claims are new to it."""
        self.telling = ""
        """Who is being told the positions anew."""
        self.listed: dict[tuple[str, int], PositionSeen] = {}
        """What the newest listing of positions has shown so far."""
        self.absences: dict[str, ExplainAbsence] = {}
        """Entries that are nowhere any more: they wait for the end of a listing."""
        self.last_round_ns = 0
        self.reports.day_is_over = self.feeds.day_is_over
        desk.redeliver = self.reports.picture

    # -- connecting --------------------------------------------------------------------------------------------

    def start(self, now: int) -> None:
        """Begin a session with the same client id as always."""
        self.state = State.CONNECTING
        self.deadline_ns = now + int(self.settings.connect_timeout_s * NS)
        self._say("connecting", f"{self.settings.host}:{self.settings.port}", now)
        self.venue.connect(self.settings.host, self.settings.port, self.settings.client_id)

    def stop(self, now: int) -> None:
        self.desk.close_gate("the broker stops", now)
        self.venue.disconnect()
        self.state = State.IDLE

    def _link_up(self, event: LinkUp, now: int) -> None:
        wanted = self.settings.account
        if wanted and wanted not in event.accounts:
            self._refuse(f"venue.account: {wanted!r} is not among this login's accounts ({', '.join(event.accounts)})",
                         now)
            return
        if not wanted and len(event.accounts) != 1:
            self._refuse(f"venue.account: this login has the accounts {', '.join(event.accounts)}; name one", now)
            return
        account = wanted or event.accounts[0]
        if not account.startswith("D"):
            self._refuse(f"account {account} is a live one: only paper accounts (D...) are traded until --live exists",
                         now)
            return
        self.desk.account = account
        self.sessions += 1
        self.heard_ns = now
        self.desk.books.new_session()
        self.link_broken = False
        self.state = State.TIME
        self.deadline_ns = now + self.desk.timeout_ns
        self.venue.ask_time()

    def _refuse(self, sentence: str, now: int) -> None:
        self.desk.alert("critical", "account", sentence, now)
        self._lost(sentence, now, wait_s=BACKOFF_S[-1])

    def _lost(self, reason: str, now: int, wait_s: float | None = None) -> None:
        """Close the gate, put what is in flight in doubt, and come back under the same client id."""
        self.venue.disconnect()
        self.desk.broken = ""
        self._close(reason, now)
        self.reports.link_lost(now)
        self.feeds.lost(reason, now)
        self.round_open = False
        self.waiting_for.clear()
        self.absences.clear()
        self.state = State.LOST
        wait = BACKOFF_S[min(self.attempts, len(BACKOFF_S) - 1)] if wait_s is None else wait_s
        self.attempts += 1
        self.deadline_ns = now + int(wait * NS)
        self._say("lost", f"{reason}; next attempt in {wait:g} s", now)

    def _close(self, reason: str, now: int) -> None:
        was_open = self.desk.gate_open
        self.desk.close_gate(reason, now)
        if was_open:
            for to in ("router", "control"):
                self.desk.tell(to, GateClosed(reason=reason, ts_ns=now))

    # -- rounds of questions -----------------------------------------------------------------------------------

    def begin_round(self, now: int, *, at_start: bool = False) -> None:
        """Ask for everything that the venue has, and wait until it has answered and settled."""
        self.round_open = True
        self.round_started_ns = self.last_round_ns = now
        self.desk.round_wanted = False
        self.reports.begin_round()
        self.missing.clear()
        self.tries.clear()
        self.quiet_since_ns = now
        for kind in (*REQUIRED, *OPTIONAL, *(AT_START if at_start else ())):
            self._ask(kind, now)

    def _ask(self, kind: str, now: int) -> None:
        self.waiting_for[kind] = now + self.desk.timeout_ns
        self.tries[kind] = self.tries.get(kind, 0) + 1
        self.desk.spend(now)
        if kind == "open_orders":
            self.venue.ask_open_orders()
        elif kind == "executions":
            self.venue.ask_executions()
        elif kind == "completed_orders":
            self.venue.ask_completed_orders()
        elif kind == "positions":
            self.listed.clear()
            self.venue.ask_positions()
        else:
            self.venue.ask_account(self.desk.account)

    def explain(self, question: ExplainAbsence, now: int) -> None:
        """List the positions anew for an entry that is nowhere any more. Not now: it is asked again."""
        if self.state is not State.READY:
            return
        self.absences[question.order_id] = question
        if "positions" not in self.waiting_for:
            try:
                self._ask("positions", now)
            except ConnectionError as problem:
                self.desk.broken = str(problem)

    def _pass_absences(self, now: int) -> None:
        """Pass them on with what the account holds, unless an execution there is still on its way to the books."""
        untold = self.reports.fills.untold() if self.absences else frozenset()
        for question in self.absences.values():
            place = (question.account, question.conid)
            if place not in untold:
                seen = self.listed.get(place)
                held, cost = (seen.quantity, seen.avg_cost) if seen is not None else (question.held, question.avg_cost)
                self.desk.tell("position", msgspec.structs.replace(question, held=held, avg_cost=cost, ts_ns=now))
        self.absences.clear()

    def _unanswered(self, kind: str, now: int) -> bool:
        """Ask again what is required, do without the rest. False once the session is given up."""
        del self.waiting_for[kind]
        if kind in REQUIRED:
            if self.tries[kind] < TRIES:
                self._ask(kind, now)
                return True
            self._lost(f"{kind} were asked {TRIES} times and never ended", now)
            return False
        self.missing.add(kind)
        self.desk.alert("warning", "no_end", f"the venue never ended its answer about {kind}; carrying on without", now)
        return True

    def _settled(self, now: int) -> bool:
        return now >= self.quiet_since_ns + int(self.settings.quiescence_s * NS)

    def _finish_round(self, now: int) -> None:
        self.round_open = False
        self.reports.finish_round(self.round_started_ns, "completed_orders" not in self.missing, now)
        if self.desk.round_wanted and self.state is State.RECONCILING:
            self.begin_round(now)
        elif self.state is State.RECONCILING:
            self._open_gate(now)

    def tell_anew(self, service: str, now: int) -> None:
        """Tell a risk actor that was restarted which account this is, what is halted, and what the account holds."""
        if service != "risk" or not self.desk.account:
            return
        reconciled = self.state is State.READY
        for instrument in sorted(self.feeds.halts):
            self.desk.tell(service, HaltChanged(instrument=instrument, halted=True, ts_ns=now))
        self.desk.tell(service, self._changed("reconciling" if reconciled else "lost", "told anew", now))
        if reconciled:
            self.telling = service
            try:
                self._ask("positions", now)
            except ConnectionError as problem:
                self.desk.broken = str(problem)

    def _changed(self, state: str, detail: str, now: int) -> SessionChanged:
        return SessionChanged(state=state, detail=detail, account=self.desk.account, client_id=self.desk.client_id,
                              ts_ns=now)

    def _open_gate(self, now: int) -> None:
        self.state = State.READY
        self.attempts = 0
        self.desk.gate_open = True
        self.desk.closed_because = ""
        for bracket in list(self.desk.books.brackets.values()):
            if not bracket.released:
                self.reports.picture(bracket, now)
        for to in ("router", "control"):
            self.desk.tell(to, GateOpened(ts_ns=now, client_id=self.desk.client_id))
        self._say("ready", f"reconciled; account {self.desk.account}", now)
        self.orphans_due_ns = now + UNOWNED_NS if self.reports.fills.orphans() else 0
        for order in list(self.desk.books.orders.values()):
            if order.live:
                self.desk.work_cancel(order, now)
                self.desk.work_amendment(order, now)
        self.feeds.resume(now)

    # -- what the venue says -----------------------------------------------------------------------------------

    def hear(self, event: VenueEvent, now: int) -> None:
        """Take one event of the venue's."""
        try:
            self._hear(event, now)
        except ConnectionError as problem:
            self._lost(str(problem), now)

    def _hear(self, event: VenueEvent, now: int) -> None:
        if isinstance(event, TicksTold):
            self.saw_ticks = True
            self.feeds.ticks(event)
        elif isinstance(event, OrderSeen):
            self.quiet_since_ns = now
            self.reports.order_seen(event, now)
        elif isinstance(event, StatusSeen):
            self.quiet_since_ns = now
            self.reports.status_seen(event, now)
        elif isinstance(event, ExecutionSeen):
            self.quiet_since_ns = now
            self.reports.fills.seen(event, now)
        elif isinstance(event, CommissionSeen):
            self.reports.fills.fee_seen(event, now)
        elif isinstance(event, CompletedSeen):
            self.reports.completed_seen(event, now)
        elif isinstance(event, ErrorTold):
            self._error(event, now)
        elif isinstance(event, SnapshotEnded):
            self.waiting_for.pop(event.kind, None)
            self.missing.discard(event.kind)
            if event.kind == "positions":
                self._pass_absences(now)
            if event.kind == "positions" and self.telling:
                self.desk.tell(self.telling, self._changed("ready", "told anew", now))
                self.telling = ""
        elif isinstance(event, PositionTold):
            self._position(event, now)
        else:
            self._hear_session(event, now)

    def _hear_session(self, event: VenueEvent, now: int) -> None:
        if isinstance(event, LinkUp):
            self._link_up(event, now)
        elif isinstance(event, LinkDown):
            if event.code == ib_codes.CLIENT_ID_IN_USE:
                self.desk.alert("warning", "client_id", (
                    f"client id {self.desk.client_id} is in use at the gateway; retrying the same id"), now)
            self._lost(event.reason, now)
        elif isinstance(event, TimeTold):
            self.clock_offset_s = event.epoch_s - now // NS
            self.feeds.venue_ahead_ns = self.clock_offset_s * NS
            if self.state is State.TIME:
                self.state = State.IDS
                self.deadline_ns = now + self.desk.timeout_ns
                self.venue.ask_ids()
        elif isinstance(event, IdsTold):
            if self.state is State.IDS:
                self.state = State.RECONCILING
                self.deadline_ns = 0
                self._say("reconciling", f"account {self.desk.account}", now)
                self.begin_round(now, at_start=True)
        elif isinstance(event, AccountTold):
            if event.account == self.desk.account:
                self.account_values[event.tag] = event.value
        elif isinstance(event, HaltTold):
            self.feeds.halted(event, now)
        elif isinstance(event, ContractTold | ContractsEnded | RuleTold):
            self.feeds.contract(event, now)
        elif isinstance(event, Garbled):
            self.desk.alert("warning", "garbled", f"a message could not be read: {event.text}", now)
            self.desk.round_wanted = True

    def _position(self, event: PositionTold, now: int) -> None:
        seen = PositionSeen(account=event.account, conid=event.conid,
                            instrument=self.feeds.name_of(event.conid, event.symbol), quantity=event.quantity,
                            avg_cost=event.avg_cost, ts_ns=now)
        self.listed[seen.account, seen.conid] = seen
        self.desk.tell("position", seen)
        self.desk.tell("risk", seen)

    def _error(self, event: ErrorTold, now: int) -> None:
        code = event.code
        if event.request_id >= 0 and (self.errors.order_error(event, now) or self.feeds.error(event, now)):
            return
        if code in ib_codes.LINK_BROKEN:
            self.link_broken = True
            self._close(f"{code}: {event.text}", now)
            self.feeds.lost(event.text, now)
            self._say("lost", event.text, now)
        elif code in (ib_codes.LINK_BACK_DATA_LOST, ib_codes.LINK_BACK_DATA_KEPT):
            self._back(event, now)
        elif code == ib_codes.FARM_DOWN or code in ib_codes.FARM_UP:
            self.feeds.farm(event, now)
        elif code not in ib_codes.NOTICES and code != ib_codes.CLIENT_ID_IN_USE:
            severity = "warning" if code == ib_codes.PACING else "info"
            self.desk.alert(severity, f"ib_{code}", f"{event.text} (id {event.request_id})", now)

    def _back(self, event: ErrorTold, now: int) -> None:
        """1101, 1102: nothing missed is replayed, so reconcile; 1101 lost the subscriptions too."""
        self.link_broken = False
        if event.code == ib_codes.LINK_BACK_DATA_LOST:
            self.feeds.drop_lines()
        if self.state in (State.READY, State.RECONCILING):
            self._close(event.text, now)
            self.state = State.RECONCILING
            self._say("reconciling", event.text, now)
            self.begin_round(now, at_start=True)

    # -- time --------------------------------------------------------------------------------------------------

    def on_time(self, now: int) -> None:
        """Do whatever is due. Cheap to call; called after every read and whenever `next_due` has come."""
        self._watch_clock(now)
        if self.state is State.LOST:
            if now >= self.deadline_ns:
                self.start(now)
            return
        try:
            self._on_time(now)
        except ConnectionError as problem:
            self._lost(str(problem), now)
        if self.desk.broken:
            self._lost(self.desk.broken, now)

    def _watch_clock(self, now: int) -> None:
        """A clock that was set back would put every deadline far into the future: begin a new session by the new one.

        One that went forward only makes them due.
        """
        back, self.clock_ns = self.clock_ns - now, now
        if back <= NS:
            return
        sentence = f"the clock was set back by {back / NS:.1f} s"
        self.desk.alert("warning", "clock", sentence, now)
        for order in self.desk.books.orders.values():
            order.written_ns = min(order.written_ns, now - 1)  # or no round would judge it
        if self.state is State.LOST:
            self.deadline_ns = min(self.deadline_ns, now + int(BACKOFF_S[-1] * NS))
        elif self.state is not State.IDLE:
            self._lost(sentence, now)

    def _on_time(self, now: int) -> None:
        if self.deadline_ns and now >= self.deadline_ns and self.state in (State.CONNECTING, State.TIME, State.IDS):
            self._lost(f"no answer while {self.state.value}", now)
            return
        if self.state not in (State.READY, State.RECONCILING):
            return
        for kind in [kind for kind, due in self.waiting_for.items() if due <= now]:
            if not self._unanswered(kind, now):
                return
        self.reports.on_time(now)
        if self.round_open and not self.waiting_for and self._settled(now) and not self.link_broken:
            self._finish_round(now)
        if self.desk.round_wanted and not self.round_open and not self.link_broken:
            self.begin_round(now)
        self.feeds.on_time(now)
        if self.orphans_due_ns and now >= self.orphans_due_ns:
            self.orphans_due_ns = 0
            if self.reports.fills.orphans():
                self.desk.tell("ledger", LoadPositions())
        self._beat(now)

    def _beat(self, now: int) -> None:
        """Ask the time when nothing was heard for a while; hang up when that is not answered either."""
        beat = int(self.settings.heartbeat_s * NS)
        if now - self.heard_ns < beat:
            return
        if self.asked_time_ns <= self.heard_ns:
            self.asked_time_ns = now
            self.venue.ask_time()
            self.desk.spend(now)
        elif now - self.asked_time_ns >= self.desk.timeout_ns:
            self._lost(f"the gateway has been silent for {(now - self.heard_ns) / NS:.1f} s", now)

    def next_due(self, now: int) -> int:
        """Return when `on_time` must be called at the latest, in UTC ns; 0 for never."""
        if self.state is State.IDLE:
            return 0
        if self.desk.broken:
            return now
        if self.state not in (State.READY, State.RECONCILING):
            return self.deadline_ns
        dues = [*self.waiting_for.values(), self.heard_ns + int(self.settings.heartbeat_s * NS)]
        if self.asked_time_ns > self.heard_ns:
            dues[-1] = max(dues[-1], self.asked_time_ns + self.desk.timeout_ns)  # as `_beat` judges it
        if self.round_open and not self.waiting_for and not self.link_broken:
            dues.append(self.quiet_since_ns + int(self.settings.quiescence_s * NS))
        for due in (self.reports.next_due(), self.feeds.next_due(), self.orphans_due_ns):
            if due:
                dues.append(due)
        if self.desk.round_wanted and not self.round_open and not self.link_broken:
            dues.append(now)
        return min(dues)

    def _say(self, state: str, detail: str, now: int) -> None:
        event = self._changed(state, detail, now)
        for to in ("control", "risk"):
            self.desk.tell(to, event)
