"""One bracket: a mailbox over actors/rules/bracket.py, and the supervisor of its child orders and trailing stops.

Law: nothing is sent before `step` has returned, so a failure so far leaves no trace (design law 1). Every input that
changes the bracket is recorded, so that a rebuilt actor finds itself by stepping through its own story again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.guard import NAMES_OF_ALL
from actors.rules import legs
from actors.rules.beliefs import beliefs, unexplained
from actors.rules.bracket import is_over, step
from actors.rules.bracket_state import (
    Alert,
    BookFill,
    Incident,
    Life,
    Phase,
    Refusal,
    SeekFill,
    StartTimer,
    WatchCondition,
)
from actors.rules.bracket_state import (
    Bracket as BracketState,
)
from actors.rules.intake import Refused, check_modify
from actors.rules.limits import check_notional, check_quantity
from actors.rules.rows import RowView, changes, rows
from actors.rules.story import as_record, policy_of, retold, verb_of
from messages.base import Message
from messages.exits import (
    ArmExit,
    BracketDone,
    BracketSpec,
    BracketStarted,
    BracketTimed,
    ConditionMet,
    DisarmExit,
    ExitRefused,
    ExitTriggered,
    LegSpec,
)
from messages.intent import Operator
from messages.ledger import (
    BracketMoved,
    IncidentRecorded,
    RecordCommitted,
    RecordEvent,
    TrailMoved,
)
from messages.market import ArmTrigger, DisarmTrigger, TriggerFired, TriggerKind, TriggerRefused
from messages.orders import (
    AmendOrder,
    BracketPictured,
    CancelOrder,
    CommandAnswered,
    CommissionReported,
    FillCorrected,
    GateClosed,
    GateOpened,
    ModifyBracket,
    OperatorCommand,
    OrderEvent,
    OrderFilled,
    OrderUnknown,
    OwnBracket,
    QueryOrder,
    ReleaseBracket,
    SubmitOrder,
)
from messages.risk import AbsenceExplained, ExplainAbsence, ReleaseClaim
from messages.session import AlertRaised
from messages.supervision import Directory, StartActor

UNRECORDED = (GateOpened, GateClosed, OrderFilled, FillCorrected)
"""Not written by the bracket: fills reach the ledger from the broker, the gate is the session's business."""
SERVED = ("broker", "market_data", "ledger")
LINGER = "linger"
NOTHING: Mapping[str, Any] = MappingProxyType({})
"""What an idle bracket has open: there may be ten thousand of them."""
BOOKKEEPERS = ("ledger", "position", "risk")
ASKED = "asked"


class Bracket(SupervisedActor):
    """One actor per parent order. Its name is the bracket's id; `spec` is a BracketSpec."""

    names: ClassVar[tuple[str, ...]] = (
        *NAMES_OF_ALL, "policy", "fresh", "bracket", "fence", "story", "told", "moved", "answers", "asked", "ask_wait",
        "served", "heard", "explained", "_timers", "_generation", "_children", "_by_text",
    )  # fmt: skip
    linger_seconds: ClassVar[float] = 60.0
    """How long a closed bracket stays to hear late news before its actor goes."""
    ask_seconds: ClassVar[float] = 2.0
    """How long an order may be on its way to the broker without a word from there before it is told again."""

    def on_start(self, start: StartActor) -> None:
        spec: BracketSpec = start.spec
        self.policy = policy_of(start.settings)
        self.fresh = not spec.events
        story = retold(spec, self.policy)
        self.bracket = story.bracket
        self.fence = max(start.incarnation, story.incarnation + 1)
        # Told to broker and children: it goes on over restarts of the engine, the supervisor's count does not.
        self.story = 0
        self.told: dict[str, RowView] | None = story.rows
        self.moved: tuple[Any, ...] | None = story.moved
        self.answers: Mapping[str, tuple[list[tuple[ActorAddress, str]], CommandAnswered, RecordEvent]] = NOTHING
        self.asked: Mapping[str, SubmitOrder] = NOTHING
        """What was asked of the broker and not answered with a word: messages may be lost, and actors with them."""
        self.ask_wait = self.ask_seconds
        self.served: tuple[Any, ...] = (None,) * len(SERVED)
        self.heard: Mapping[str, CommandAnswered] = NOTHING
        self.explained: Mapping[str, str] = NOTHING
        self._happen(BracketStarted(bracket_id=self.name, incarnation=self.fence, ts_ns=self.now()))
        self._own()

    # -- what happens to it ------------------------------------------------------------------------------------

    def receiveMsg_OrderEvent(self, event: OrderEvent, sender: ActorAddress) -> None:
        if event.order_id in self.asked and not self._no_longer_asked(event.order_id):
            self.cancel_timer(ASKED)
            self.ask_wait = self.ask_seconds
        self._happen(event)
        child = self.child(legs.split_order_id(event.order_id)[1])
        if child is not None:
            self.tell(child, event)

    def receiveMsg_AbsenceExplained(self, event: AbsenceExplained, sender: ActorAddress) -> None:
        self._happen(event)

    def receiveMsg_CommissionReported(self, event: CommissionReported, sender: ActorAddress) -> None:
        """What an execution cost changes no decision; the ledger and the position keep it."""

    def receiveMsg_BracketPictured(self, event: BracketPictured, sender: ActorAddress) -> None:
        self._happen(event)

    def receiveMsg_GateOpened(self, event: GateOpened, sender: ActorAddress) -> None:
        self._happen(event)

    def receiveMsg_GateClosed(self, event: GateClosed, sender: ActorAddress) -> None:
        self._happen(event)

    def receiveMsg_ExitTriggered(self, event: ExitTriggered, sender: ActorAddress) -> None:
        self._happen(event)

    def receiveMsg_ExitRefused(self, event: ExitRefused, sender: ActorAddress) -> None:
        self._happen(event)

    def receiveMsg_TrailMoved(self, event: TrailMoved, sender: ActorAddress) -> None:
        self._happen(event)

    def receiveMsg_TriggerFired(self, event: TriggerFired, sender: ActorAddress) -> None:
        """The rule of the intent."""
        self._happen(
            ConditionMet(bracket_id=self.name, price=event.price, tick_ts_ns=event.tick_ts_ns, ts_ns=event.ts_ns)
        )

    def receiveMsg_TriggerRefused(self, event: TriggerRefused, sender: ActorAddress) -> None:
        self._alert("critical", "rule_not_watched", f"bracket {self.name}: its rule cannot be watched: {event.reason}")

    def receiveMsg_TriggerArmed(self, event: Message, sender: ActorAddress) -> None:
        """The rule is being watched."""

    def on_timer(self, key: str) -> None:
        if key == LINGER:
            if is_over(self.bracket):
                self.tell("broker", ReleaseBracket(bracket_id=self.name, incarnation=self.fence))
                self.tell(self.parent, BracketDone(bracket_id=self.name))
            return
        if key == ASKED:
            self._ask_again()
            return
        self._happen(BracketTimed(bracket_id=self.name, key=key, ts_ns=self.now()))

    def on_directory(self, directory: Directory) -> None:
        """A service that was restarted knows nothing of us: say again what it must know."""
        before, services = self.served, directory.services
        if before[0] is not None and "broker" not in services and self.bracket.gate_open:
            self._happen(GateClosed(reason="the broker is being restarted", ts_ns=self.now()))
        found = tuple(map(services.get, SERVED))
        self.served = tuple(new if new is not None else old for old, new in zip(before, found, strict=True))
        for name, old, new in zip(SERVED, before, found, strict=True):
            if new is not None and old is not None and new != old:
                self._tell_anew(name)

    def _tell_anew(self, service: str) -> None:
        if service == "broker":
            if self.bracket.gate_open:
                self._happen(GateClosed(reason="the broker was restarted", ts_ns=self.now()))
            self._own()
            self._ask_again()
        elif service == "market_data":
            if self.bracket.watching:
                self._watch_condition(True)
        else:
            for _, _, record in self.answers.values():
                self.tell("ledger", record)
            self.told, self.moved = {}, (None, None)
            self._project(self.bracket, "the ledger was restarted")

    def _no_longer_asked(self, order_id: str) -> Mapping[str, SubmitOrder]:
        """Forget one question; return what is still asked."""
        self.asked = {key: value for key, value in self.asked.items() if key != order_id} or NOTHING
        return self.asked

    def _ask_again(self) -> None:
        """Tell the broker again what it has not answered: one id is one transmission, however often it is asked for."""
        for order_id, order in list(self.asked.items()):
            known = self.bracket.orders.get(order_id)
            if known is not None and known.life is Life.ASKED and not known.cancels:
                self.tell("broker", order)
                continue
            self._no_longer_asked(order_id)
            if known is not None and known.life is Life.ASKED:  # not wanted any more: whether it was sent is to be seen
                reason = "the broker has not said a word"
                event = OrderUnknown(bracket_id=self.name, order_id=order_id, ts_ns=self.now(), reason=reason)
                self._happen(event)
        if self.asked:
            self.start_timer(ASKED, self.ask_wait)
            self.ask_wait = min(2 * self.ask_wait, 60.0)

    def receiveMsg_OperatorCommand(self, command: OperatorCommand, sender: ActorAddress) -> None:
        """Do what a person asks, or refuse in a sentence; durable before it is acknowledged."""
        known = self.heard.get(command.command_id)
        if known is not None:
            if command.command_id in self.answers:
                self.answers[command.command_id][0].append((sender, command.correlation))
            else:
                self.tell(sender, msgspec.structs.replace(known, correlation=command.correlation))
            return
        refusal = self._out_of_bounds(command) if isinstance(command, ModifyBracket) else None
        if refusal is None:
            commands = self._happen(command, record=False)
            refusal = next((said for said in commands if isinstance(said, Refusal)), None)
        answer = CommandAnswered(
            correlation=command.correlation,
            accepted=refusal is None,
            bracket_id=self.name,
            code="accepted" if refusal is None else refusal.code,
            sentence=f"bracket {self.name}: {verb_of(command)} accepted" if refusal is None else refusal.sentence,
            detail={"phase": str(self.bracket.phase)},
        )
        self.heard = {**self.heard, command.command_id: answer}
        if refusal is not None:
            self.tell(sender, answer)
            return
        now = self.now()
        record = RecordEvent(
            key=f"op:{self.name}:{command.command_id}", bracket_id=self.name, event=as_record(command, now),
            ts_ns=now, durable=True,
        )  # fmt: skip
        self.answers = {**self.answers, command.command_id: ([(sender, command.correlation)], answer, record)}
        self.tell("ledger", record)

    def _out_of_bounds(self, command: ModifyBracket) -> Refusal | None:
        """Hold a changed entry to the same limits as a new one; what closes a position may only become less."""
        intent = self.bracket.definition.intent
        try:
            check_modify(command)
            if command.quantity is not None:
                check_quantity(command.quantity, self.settings.risk)
                if not intent.side.opens and command.quantity > intent.quantity:
                    sentence = (
                        f"quantity: {command.quantity} is more than {intent.quantity}; a {intent.side} was promised"
                        " what it closes and can only be lowered"
                    )
                    return Refusal(code="claim", sentence=sentence)
            changed = msgspec.structs.replace(
                intent,
                quantity=command.quantity if command.quantity is not None else intent.quantity,
                limit_price=command.limit_price if command.limit_price is not None else intent.limit_price,
                stop_price=command.stop_price if command.stop_price is not None else intent.stop_price,
            )
            check_notional(changed, self.bracket.definition.contract, self.settings.risk, None)
        except Refused as refused:
            return Refusal(code=refused.code, sentence=str(refused))
        return None

    def receiveMsg_RecordCommitted(self, event: RecordCommitted, sender: ActorAddress) -> None:
        command_id = event.key.removeprefix(f"op:{self.name}:")
        waiting = self.answers.get(command_id)
        if waiting is not None:
            self.answers = {key: value for key, value in self.answers.items() if key != command_id} or NOTHING
            askers, answer, _ = waiting
            for asker, correlation in askers:
                self.tell(asker, msgspec.structs.replace(answer, correlation=correlation))

    # -- what follows ------------------------------------------------------------------------------------------

    def _happen(self, event: Message, record: bool = True) -> list[Any]:
        before = self.bracket
        self.bracket, commands = step(before, event, self.now(), self.policy)
        reason = self.bracket.reason if self.bracket.reason != before.reason else ""
        self._tell_books([command.fill for command in commands if isinstance(command, BookFill)])
        if record and not isinstance(event, UNRECORDED):
            self.story += 1
            self._record(f"{self.name}:{self.epoch}:{self.fence}:{self.story}", event, reason)
        if isinstance(event, BracketPictured) and unexplained(self.bracket, self.explained):
            self._own()  # before anything is sent that the gate must weigh against them
        for command in commands:
            self._do(command)
        self._project(before, reason or type(event).__name__)
        return commands

    def _do(self, command: Any) -> None:
        if isinstance(command, SubmitOrder):
            child = self._child(command.leg)
            self.tell(child if child is not None else "broker", command)
            if not self.asked:
                self.start_timer(ASKED, self.ask_wait)
            self.asked = {**self.asked, command.order_id: command}
        elif isinstance(command, (AmendOrder, CancelOrder, QueryOrder)):
            self.tell("broker", command)
        elif isinstance(command, (ArmExit, DisarmExit)):
            child = self._child(command.leg)
            if child is not None:
                self.tell(child, command)
        elif isinstance(command, StartTimer):
            self.start_timer(command.key, command.seconds)
        elif isinstance(command, Alert):
            self._alert(command.severity, command.code, command.sentence)
        elif isinstance(command, Incident):
            self.story += 1
            incident = IncidentRecorded(
                bracket_id=self.name, code=command.code, sentence=command.sentence, ts_ns=self.now()
            )
            self._record(f"{self.name}:{self.epoch}:{self.fence}:{self.story}", incident, command.code)
        elif isinstance(command, WatchCondition):
            self._watch_condition(command.on)
        elif isinstance(command, SeekFill):
            self._seek(command)

    def _tell_books(self, fills: list[OrderFilled]) -> None:
        """Tell of fills that the broker has no execution of: before the record of why, and before their exits."""
        for fill in fills:
            for service in BOOKKEEPERS:
                self.tell(service, fill)
        if fills:
            self._own()  # the gate weighs the exits against them

    def _seek(self, command: SeekFill) -> None:
        definition = self.bracket.definition
        self.tell(
            "broker",
            ExplainAbsence(
                bracket_id=self.name,
                order_id=command.order_id,
                account=definition.account,
                conid=definition.contract.conid,
                side=definition.intent.side,
                quantity=command.quantity,
            ),
        )

    def _child(self, name: str) -> ActorAddress | None:
        """Return the actor of an exit leg, created when first needed; entry, flat and excess have none."""
        leg = next((leg for leg in legs.legs_of(self.bracket.definition) if leg.name == name), None)
        if leg is None:
            return None
        known = self.child(name)
        if known is not None or name in self.children():
            return known
        actor = "actors.trailing_stop.TrailingStop" if leg.trail is not None else "actors.child_order.ChildOrder"
        return self.create_child(actor, name, self._leg_spec(name))

    def _leg_spec(self, name: str) -> LegSpec:
        return LegSpec(
            bracket_id=self.name,
            leg=name,
            bracket_incarnation=self.fence,
            definition=self.bracket.definition,
        )

    def on_child_failed(self, name: str, error: str) -> None:
        """Build a lost leg again; what it held is armed anew, what rests at the venue is untouched."""
        self._alert("warning", "leg_restarted", f"bracket {self.name}: its {name} failed ({error}) and is rebuilt")
        child = self.restart_child(name, self._leg_spec(name))
        arm, mark = self.bracket.armed.get(name), self.bracket.trails.get(name)
        if child is not None and arm is not None:
            if mark is not None:  # a stop never loosens: it goes on from where it was last told to stand
                arm = msgspec.structs.replace(arm, high_water=mark[0], initial_stop=mark[1])
            self.tell(child, arm)
        self._ask_again()  # what it was to pass on may have gone with it

    def on_child_frozen(self, name: str, error: str) -> None:
        self._alert(
            "page", "leg_frozen", f"bracket {self.name}: its {name} keeps failing ({error}); nothing watches it"
        )

    def _watch_condition(self, on: bool) -> None:
        condition = self.bracket.definition.intent.when
        if condition is None:
            return
        arm_id, contract = f"{self.name}.when", self.bracket.definition.contract
        if not on:
            self.tell("market_data", DisarmTrigger(arm_id=arm_id, incarnation=self.fence))
            return
        self.tell(
            "market_data",
            ArmTrigger(
                arm_id=arm_id,
                bracket_id=self.name,
                incarnation=self.fence,
                instrument=condition.instrument,
                sec_type="STK",
                side="BUY" if condition.operator is Operator.AT_LEAST else "SELL",
                kind=TriggerKind.STOP,
                method=condition.trigger_method,
                level=condition.price,
                rth_only=not (contract.round_the_clock and contract.instrument == condition.instrument),
            ),
        )

    def _own(self) -> None:
        b, orders = self.bracket, beliefs(self.bracket)
        self.explained = {order.order_id: order.oca_group or "" for order in orders} or NOTHING
        self.tell(
            "broker",
            OwnBracket(
                bracket_id=self.name,
                incarnation=self.fence,
                contract=b.definition.contract,
                account=b.definition.account,
                strategy=b.definition.intent.strategy,
                entry_filled=b.bought,
                exit_filled=b.exit_filled - b.excess_filled,
                fills=tuple(b.fills),
                orders=orders,
                fresh=self.fresh,
            ),
        )
        self.fresh = False

    # -- what is written ---------------------------------------------------------------------------------------

    def _project(self, before: BracketState, reason: str) -> None:
        """Tell the tables what changed since `before`, or since what they were told last, where that differs."""
        b, now = self.bracket, self.now()
        told, self.told = self.told if self.told is not None else rows(before), None
        for change in changes(told, b, reason, now):
            self.story += 1
            self._record(f"{self.name}:{self.epoch}:{self.fence}:{self.story}", change, change.reason)
        stood, self.moved = self.moved if self.moved is not None else (before.phase, before.open_qty), None
        if (b.phase, b.open_qty) != stood:
            ended = is_over(b) and stood[0] != b.phase
            self.story += 1
            event = BracketMoved(
                bracket_id=self.name,
                phase=str(b.phase),
                reason=reason,
                open_qty=b.open_qty,
                entry_filled=b.entry_filled,
                exit_filled=b.exit_filled,
                ts_ns=now,
            )
            self._record(f"{self.name}:{self.epoch}:{self.fence}:{self.story}", event, reason)
            if ended:
                self.tell("risk", ReleaseClaim(bracket_id=self.name))
        if b.phase is Phase.CLOSED or b.phase is Phase.DETACHED:
            self.start_timer(LINGER, self.linger_seconds)

    def _record(self, key: str, event: Message, reason: str = "", durable: bool = False) -> None:
        self.tell(
            "ledger",
            RecordEvent(key=key, bracket_id=self.name, event=event, ts_ns=self.now(), reason=reason, durable=durable),
        )

    def _alert(self, severity: str, code: str, sentence: str) -> None:
        self.log.warning("{} {}: {}", severity, code, sentence)
        self.story += 1
        alert = AlertRaised(severity=severity, code=code, sentence=sentence, bracket_id=self.name, ts_ns=self.now())
        self._record(f"{self.name}:{self.epoch}:{self.fence}:{self.story}", alert, code)
        self.tell("control", alert)
