"""Router: intents in; opens brackets, supervises them, and finds the one that an operator means.

Law: one signal, one bracket. An intent is answered once, after its definition is on disk; the same signal with the same
content gets the same answer, with other content it is refused. What came before the ledger was read waits its turn.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

from thespian.actors import ActorAddress

from actors.base import ChildState, SupervisedActor
from actors.rules.intake import Refused, check_intent, digest
from messages.exits import BracketDone, BracketSpec
from messages.intent import Intent, OrderType
from messages.ledger import (
    BracketOpened,
    BracketReloaded,
    BracketsLoaded,
    IdsReserved,
    LedgerFailed,
    LedgerRecovered,
    LoadBracket,
    LoadBrackets,
    OpenBracket,
    RecordEvent,
    ReserveIds,
    SignalsLoaded,
    StoredBracket,
)
from messages.orders import CommandAnswered, Definition, GateClosed, GateOpened, OperatorCommand, OrderEvent
from messages.risk import IntentApproved, IntentDenied, ReleaseClaim, ReviewIntent, SubmitIntent
from messages.session import AlertRaised, DescribeService, ServiceDescribed
from messages.supervision import Directory, StartActor

SECOND = 1_000_000_000
BRACKET = "actors.bracket.Bracket"
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(slots=True)
class Opening:
    """An intent on its way to becoming a bracket, and everybody who waits for the answer."""

    intent: Intent
    digest: str
    bracket_id: str
    asked_ns: int
    waiting: list[tuple[ActorAddress, str]] = field(default_factory=list)
    definition: Definition | None = None


class Router(SupervisedActor):
    """Answers SubmitIntent and every OperatorCommand with one CommandAnswered each."""

    queue_limit: ClassVar[int] = 20_000
    """Intents that wait while the ledger is being read; beyond it they are refused."""
    load_retry_seconds: ClassVar[float] = 5.0

    def on_start(self, start: StartActor) -> None:
        self.ready = False
        self.trouble = ""
        self.signals: dict[str, tuple[str, str]] = {}
        self.known: set[str] = set()
        self.openings: dict[str, Opening] = {}
        self.by_signal: dict[str, str] = {}
        self.queue: deque[tuple[SubmitIntent, ActorAddress]] = deque()
        self.asked: dict[str, tuple[ActorAddress, str]] = {}
        self.held: dict[str, list[Any]] = {}
        self.gate: GateOpened | GateClosed | None = None
        self.suffix = "".join(secrets.choice(ALPHABET) for _ in range(4))
        self.ids: deque[int] = deque()
        self.asking_ids = False
        self.loaded = 0
        self.services: dict[str, ActorAddress] = {}
        self._ask_ids()
        self.tell("ledger", LoadBrackets())
        self.start_timer("load", self.load_retry_seconds)

    def on_timer(self, key: str) -> None:
        if key == "load" and not self.ready:
            self.log.warning("router: the ledger has not answered yet; {} intents wait", len(self.queue))
            self.start_timer("load", self.load_retry_seconds)

    def on_directory(self, directory: Directory) -> None:
        """A ledger or a risk actor that was restarted has lost what was asked of it: ask again."""
        for name in ("ledger", "risk"):
            address = directory.services.get(name)
            if address is not None and address != self.services.get(name):
                if name in self.services:
                    self._ask_anew(name)
                self.services[name] = address

    def _ask_anew(self, service: str) -> None:
        if service == "risk":
            for opening in self.openings.values():
                if opening.definition is None:
                    self._ask_risk(opening)
            return
        self.trouble = ""  # a new one says for itself whether it has any
        if not self.ready:
            self.tell("ledger", LoadBrackets())
        if self.asking_ids:
            self.asking_ids = False
            self._ask_ids()
        for opening in self.openings.values():
            if opening.definition is not None:
                self.tell("ledger", OpenBracket(definition=opening.definition))
        dead = [name for name, child in self.children().items() if child.state is ChildState.DEAD]
        for name in dict.fromkeys((*dead, *self.held)):
            self.tell("ledger", LoadBracket(bracket_id=name))

    def _ask_risk(self, opening: Opening) -> None:
        ask = ReviewIntent(bracket_id=opening.bracket_id, intent=opening.intent, ts_ns=opening.asked_ns)
        self.tell("risk", ask)

    # -- what the ledger remembers -----------------------------------------------------------------------------

    def receiveMsg_SignalsLoaded(self, event: SignalsLoaded, sender: ActorAddress) -> None:
        self.signals.update(event.signals)
        self.known.update(bracket_id for bracket_id, _ in event.signals.values())

    def receiveMsg_BracketsLoaded(self, event: BracketsLoaded, sender: ActorAddress) -> None:
        for stored in event.brackets:
            self._recover(stored)
        if event.last and not self.ready:
            self.ready = True
            self.cancel_timer("load")
            self.log.info("router: {} brackets recovered, {} signals known", self.loaded, len(self.signals))
            self._drain()

    def _recover(self, stored: StoredBracket) -> None:
        definition = stored.definition
        if self.child(definition.bracket_id) is not None:
            return
        self.loaded += 1
        self._create(BracketSpec(definition=definition, events=stored.events))

    def receiveMsg_BracketReloaded(self, event: BracketReloaded, sender: ActorAddress) -> None:
        """The story of a bracket whose actor failed, or that has late news: build it again from there."""
        stored, name = event.bracket, event.bracket_id
        if stored is None or self.child(name) is not None:
            return
        spec = BracketSpec(definition=stored.definition, events=stored.events)
        child = self.restart_child(name, spec) if name in self.children() else self._create(spec)
        for message in self.held.pop(name, []):
            if child is not None:
                self.tell(child, message)

    def receiveMsg_IdsReserved(self, event: IdsReserved, sender: ActorAddress) -> None:
        self.asking_ids = False
        self.ids.extend(range(event.first, event.last + 1))
        self._drain()

    def _ask_ids(self) -> None:
        if not self.asking_ids:
            self.asking_ids = True
            self.tell("ledger", ReserveIds(name="bracket"))

    def _drain(self) -> None:
        while self.queue and self.ready and self.ids:
            self._submit(*self.queue.popleft())

    # -- intents -----------------------------------------------------------------------------------------------

    def receiveMsg_SubmitIntent(self, message: SubmitIntent, sender: ActorAddress) -> None:
        if len(self.ids) < 200:
            self._ask_ids()
        if self.ready and self.ids and not self.queue:
            self._submit(message, sender)
        elif len(self.queue) < self.queue_limit:
            self.queue.append((message, sender))
        else:
            sentence = f"engine: {len(self.queue)} intents wait already; send it again in a moment"
            self._answer(sender, message.correlation, False, None, "busy", sentence)

    def _submit(self, message: SubmitIntent, sender: ActorAddress) -> None:
        intent = message.intent
        try:
            check_intent(intent, self.settings, self.now())
        except Refused as refusal:
            self._refuse(sender, message, refusal.code, str(refusal))
            return
        content = digest(intent)
        if self._repeated(intent, content, message, sender):
            return
        if self.trouble:
            self._refuse(
                sender, message, "ledger_down", f"engine: no new entries while the ledger fails: {self.trouble}"
            )
            return
        bracket_id = f"B{self.ids.popleft()}-{self.suffix}"
        opening = Opening(intent, content, bracket_id, self.now(), [(sender, message.correlation)])
        self.openings[bracket_id] = opening
        self.by_signal[intent.signal_id] = bracket_id
        self._ask_risk(opening)

    def _repeated(self, intent: Intent, content: str, message: SubmitIntent, sender: ActorAddress) -> bool:
        """Answer a signal that is known, or is being decided; say whether it was one."""
        pending = self.openings.get(self.by_signal.get(intent.signal_id, ""))
        known = self.signals.get(intent.signal_id)
        bracket_id, before = known or ((pending.bracket_id, pending.digest) if pending else ("", ""))
        if not bracket_id:
            return False
        if before != content:
            sentence = (
                f"signal_id: {intent.signal_id!r} was used for bracket {bracket_id} with other content;"
                " one signal makes one bracket"
            )
            self._refuse(sender, message, "signal_reused", sentence)
        elif known:
            sentence = f"bracket {bracket_id}: this signal was accepted before"
            self._answer(sender, message.correlation, True, bracket_id, "known", sentence)
        elif pending is not None:
            pending.waiting.append((sender, message.correlation))
        return True

    def receiveMsg_IntentApproved(self, event: IntentApproved, sender: ActorAddress) -> None:
        opening = self.openings.get(event.bracket_id)
        if opening is None or opening.definition is not None:
            return
        intent, now = opening.intent, self.now()
        opening.definition = Definition(
            bracket_id=event.bracket_id,
            intent=intent,
            contract=event.contract,
            account=event.account,
            opened_ns=now,
            expires_ns=now + self._valid_for(intent),
            oca_native=self.settings.oca.native,
        )
        self.tell("ledger", OpenBracket(definition=opening.definition))

    def _valid_for(self, intent: Intent) -> int:
        if intent.valid_for is not None:
            return round(intent.valid_for * SECOND)
        market = intent.order_type is OrderType.MKT
        seconds = self.settings.intents.valid_for_mkt_s if market else self.settings.intents.valid_for_lmt_s
        return round(seconds * SECOND)

    def receiveMsg_IntentDenied(self, event: IntentDenied, sender: ActorAddress) -> None:
        opening = self.openings.pop(event.bracket_id, None)
        if opening is None:
            return
        self.by_signal.pop(opening.intent.signal_id, None)
        if opening.definition is not None:
            self.tell("risk", ReleaseClaim(bracket_id=event.bracket_id))
        self._record_denial(event)
        for asker, correlation in opening.waiting:
            self._answer(asker, correlation, False, None, event.code, event.sentence)

    def receiveMsg_BracketOpened(self, event: BracketOpened, sender: ActorAddress) -> None:
        """It is on disk: answer, and let it begin."""
        opening = self.openings.pop(event.bracket_id, None)
        if opening is None:
            return
        signal_id = opening.intent.signal_id
        self.by_signal.pop(signal_id, None)
        self.signals[signal_id] = (event.bracket_id, opening.digest)
        self.known.add(event.bracket_id)
        self._create(BracketSpec(definition=event.definition))
        for index, (asker, correlation) in enumerate(opening.waiting):
            code = "accepted" if index == 0 else "known"
            sentence = f"bracket {event.bracket_id}: accepted"
            self._answer(asker, correlation, True, event.bracket_id, code, sentence)

    def _create(self, spec: BracketSpec) -> ActorAddress:
        name = spec.definition.bracket_id
        self.known.add(name)
        address = self.create_child(BRACKET, name, spec)
        if isinstance(self.gate, GateClosed):
            self.tell(address, self.gate)
        return address

    def _refuse(self, sender: ActorAddress, message: SubmitIntent, code: str, sentence: str) -> None:
        """Refuse an intent that never became a bracket; it is noted, nothing is kept."""
        self._answer(sender, message.correlation, False, None, code, sentence)

    def _record_denial(self, event: IntentDenied) -> None:
        self.tell(
            "ledger",
            RecordEvent(
                key=f"denied:{event.bracket_id}",
                bracket_id=None,
                event=event,
                ts_ns=event.ts_ns,
                reason=event.sentence,
            ),
        )

    # -- brackets ----------------------------------------------------------------------------------------------

    def receiveMsg_OperatorCommand(self, command: OperatorCommand, sender: ActorAddress) -> None:
        child = self.child(command.bracket_id)
        if child is not None:
            self.asked[command.correlation] = (sender, command.bracket_id)
            self.tell(child, command)
            return
        if command.bracket_id in self.children():
            code, sentence = "restarting", f"bracket {command.bracket_id}: is being rebuilt; try again in a moment"
        elif command.bracket_id in self.known:
            code, sentence = "over", f"bracket {command.bracket_id}: is over; nothing of it is left to change"
        elif not self.ready:
            code, sentence = "starting", "engine: the ledger is still being read; try again in a moment"
        else:
            code, sentence = "unknown_bracket", f"bracket {command.bracket_id!r}: is not known; `status` lists what is"
        self._answer(sender, command.correlation, False, command.bracket_id, code, sentence)

    def receiveMsg_CommandAnswered(self, answer: CommandAnswered, sender: ActorAddress) -> None:
        asker = self.asked.pop(answer.correlation, None)
        if asker is not None:
            self.tell(asker[0], answer)

    def receiveMsg_OrderEvent(self, event: OrderEvent, sender: ActorAddress) -> None:
        """Late news of a bracket whose actor has gone: rebuild it, so that nothing is dropped."""
        child = self.children().get(event.bracket_id)
        leaving = child is not None and child.state is ChildState.STOPPING
        if child is not None and child.address is not None and not leaving:
            self.tell(child.address, event)
            return
        held = self.held.setdefault(event.bracket_id, [])
        held.append(event)
        if len(held) == 1 and not leaving:
            self.tell("ledger", LoadBracket(bracket_id=event.bracket_id))

    def receiveMsg_BracketDone(self, event: BracketDone, sender: ActorAddress) -> None:
        self.stop_child(event.bracket_id)

    def receiveMsg_GateOpened(self, event: GateOpened, sender: ActorAddress) -> None:
        self._pass_gate(event)

    def receiveMsg_GateClosed(self, event: GateClosed, sender: ActorAddress) -> None:
        self._pass_gate(event)

    def _pass_gate(self, event: GateOpened | GateClosed) -> None:
        self.gate = event
        for child in self.children().values():
            if child.address is not None and child.state is not ChildState.STOPPING:
                self.tell(child.address, event)

    # -- supervision -------------------------------------------------------------------------------------------

    def on_child_failed(self, name: str, error: str) -> None:
        """A bracket failed: nothing of it is cancelled; it is rebuilt from its story and the venue's picture."""
        self._alert("critical", "bracket_failed", f"bracket {name}: its actor failed ({error}); it is rebuilt", name)
        for correlation, (asker, bracket_id) in list(self.asked.items()):
            if bracket_id == name:
                del self.asked[correlation]
                sentence = f"bracket {name}: its actor failed while it was asked; look at it and ask again"
                self._answer(asker, correlation, False, name, "restarting", sentence)
        self.tell("ledger", LoadBracket(bracket_id=name))

    def on_child_stopped(self, name: str) -> None:
        """It is over and has gone; if there was news of it on the way, it comes back."""
        if name in self.held:
            self.tell("ledger", LoadBracket(bracket_id=name))

    def on_child_frozen(self, name: str, error: str) -> None:
        sentence = f"bracket {name}: its actor keeps failing ({error}); frozen, its orders are left at the venue"
        self._alert("page", "bracket_frozen", sentence, name)

    def receiveMsg_LedgerFailed(self, event: LedgerFailed, sender: ActorAddress) -> None:
        self.trouble = event.reason

    def receiveMsg_LedgerRecovered(self, event: LedgerRecovered, sender: ActorAddress) -> None:
        self.trouble = ""

    def receiveMsg_DescribeService(self, message: DescribeService, sender: ActorAddress) -> None:
        living = [child for child in self.children().values() if child.address is not None]
        facts: dict[str, object] = {
            "ready": self.ready,
            "brackets": len(living),
            "bracket_ids": [child.name for child in living[:200]],
            "opening": len(self.openings),
            "queued": len(self.queue),
            "signals": len(self.signals),
            "frozen": [child.name for child in self.children().values() if child.state is ChildState.FROZEN],
            "trouble": self.trouble,
        }
        self.tell(sender, ServiceDescribed(correlation=message.correlation, name=self.name, facts=facts))

    # -- saying ------------------------------------------------------------------------------------------------

    def _answer(
        self, to: ActorAddress, correlation: str, accepted: bool, bracket_id: str | None, code: str, sentence: str
    ) -> None:
        self.tell(
            to,
            CommandAnswered(
                correlation=correlation, accepted=accepted, bracket_id=bracket_id, code=code, sentence=sentence
            ),
        )

    def _alert(self, severity: str, code: str, sentence: str, bracket_id: str) -> None:
        self.log.error("{} {}: {}", severity, code, sentence)
        alert = AlertRaised(severity=severity, code=code, sentence=sentence, bracket_id=bracket_id, ts_ns=self.now())
        self.tell("control", alert)
        key = f"alert:{bracket_id}:{code}:{alert.ts_ns}"
        self.tell("ledger", RecordEvent(key=key, bracket_id=bracket_id, event=alert, ts_ns=alert.ts_ns, reason=code))
