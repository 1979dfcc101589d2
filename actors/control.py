"""The engine's door for people and strategies: requests in from the Unix socket, one answer out to each.

Law: this actor decides nothing about trading; it passes intents and verbs to the router, and answers whoever asked.
Law: it creates no actors (it owns descriptors), and no peer can make it fail or wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.rules.intake import parse_intent
from actors.rules.refusal import Refused
from actors.web.channel import (
    CAP,
    Answered,
    ChannelError,
    Describe,
    Described,
    Follow,
    Following,
    Frame,
    Gate,
    Noticed,
    Operate,
    Request,
    Submit,
    choose_socket_path,
    encode,
    pack,
    pack_rows,
    release_socket_path,
)
from actors.web.switchboard import Switchboard
from actors.web.verbs import operator_command
from messages.base import Event
from messages.ledger import EventsCommitted, LedgerFailed, LedgerRecovered
from messages.orders import CommandAnswered, GateClosed, GateOpened
from messages.risk import SubmitIntent
from messages.session import AlertRaised, DescribeService, ServiceDescribed, SessionChanged
from messages.supervision import Directory, StartActor

SERVICES = ("ledger", "risk", "position", "market_data", "broker", "router")
PENDING = 20_000
"""Requests that may wait for an answer; beyond it new ones are refused at once."""

ANSWER_SECONDS = 10
DESCRIBE_SECONDS = 1.0
FLUSH_SECONDS = 0.01
SWEEP_SECONDS = 1.0

GATE_CORRELATION = "gate"


@dataclass
class Inquiry:
    """A status request on its way round the services."""

    peer: int
    request: int
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)


class Control(SupervisedActor):
    """Owns the socket. Says SubmitIntent and operators' commands to the router; hears CommandAnswered."""

    def on_start(self, start: StartActor) -> None:
        self.gate = Gate(open=False, reason="the engine is starting")
        self.ledger_trouble = ""
        self.ledger: ActorAddress | None = None
        self.pending: dict[str, tuple[int, int, int]] = {}
        self.inquiries: dict[str, Inquiry] = {}
        self.counter = 0
        self.flushing = False
        self.board = Switchboard(choose_socket_path(self.settings.state_dir), self.watch, self.unwatch)
        self.start_timer("sweep", SWEEP_SECONDS)
        # A control actor that was rebuilt has missed GateOpened.
        self.tell("broker", DescribeService(correlation=GATE_CORRELATION))

    def on_directory(self, directory: Directory) -> None:
        """A ledger that was restarted says for itself whether it has trouble."""
        ledger = directory.services.get("ledger")
        if ledger is not None and ledger != self.ledger:
            self.ledger_trouble = ""
            self.ledger = ledger

    def on_stop(self) -> None:
        if board := getattr(self, "board", None):
            board.close()
            release_socket_path(self.settings.state_dir)

    def on_readable(self, fds: list[int]) -> None:
        arrived, requests = self.board.readable(fds)
        for peer in arrived:
            self.reply(peer, self.gate)
        for peer, request in requests:
            self.serve(peer, request)

    def on_timer(self, key: str) -> None:
        if key == "flush":
            self.flushing = False
            self.board.flush()
            self.flush_later()
        elif key == "sweep":
            self.sweep()
            self.start_timer("sweep", SWEEP_SECONDS)
        elif key in self.inquiries:
            self.describe_done(key)

    # -- requests ----------------------------------------------------------------------------------------------

    def serve(self, peer: int, request: Request) -> None:
        if isinstance(request, Submit | Operate) and len(self.pending) >= PENDING:
            self.refuse(peer, request.id, "busy", None, f"{PENDING} requests wait for their answers; try again later")
        elif isinstance(request, Submit):
            try:
                intent = parse_intent(bytes(request.intent))
            except Refused as refused:
                self.refuse(peer, request.id, refused.code, refused.field, str(refused))
                return
            correlation = self.expect(peer, request.id)
            self.tell("router", SubmitIntent(intent=intent, correlation=correlation, source=request.source))
        elif isinstance(request, Operate):
            correlation = self.expect(peer, request.id)
            try:
                command = operator_command(request, correlation)
            except Refused as refused:
                del self.pending[correlation]
                self.refuse(peer, request.id, refused.code, refused.field, str(refused))
                return
            self.tell("router", command)
        elif isinstance(request, Describe):
            self.describe(peer, request.id)
        elif isinstance(request, Follow):
            self.board.follow(peer)
            self.reply(peer, Following(id=request.id))

    def expect(self, peer: int, request: int) -> str:
        self.counter += 1
        correlation = f"control.{self.incarnation}.{self.counter}"
        self.pending[correlation] = (peer, request, self.now() + ANSWER_SECONDS * 1_000_000_000)
        return correlation

    def refuse(self, peer: int, request: int, code: str, name: str | None, sentence: str) -> None:
        self.reply(peer, Answered(id=request, accepted=False, code=code, field=name, sentence=sentence))

    def sweep(self) -> None:
        """Answer what nobody has answered; the order of `pending` is the order of asking."""
        now = self.now()
        for correlation, (peer, request, due) in list(self.pending.items()):
            if due > now:
                break
            del self.pending[correlation]
            self.refuse(
                peer, request, "timeout", None,
                f"the engine has not answered within {ANSWER_SECONDS} s and may still act; ask again in the same words:"
                " the same signal_id or command is never carried out twice",
            )  # fmt: skip

    # -- answers and news --------------------------------------------------------------------------------------

    def receiveMsg_CommandAnswered(self, message: CommandAnswered, sender: ActorAddress) -> None:
        asker = self.pending.pop(message.correlation, None)
        if asker is None:
            return
        peer, request, _ = asker
        answer = Answered(
            id=request, accepted=message.accepted, code=message.code, sentence=message.sentence,
            bracket_id=message.bracket_id, field=(message.detail or {}).get("field"), detail=message.detail,
        )  # fmt: skip
        self.reply(peer, answer)

    def receiveMsg_GateOpened(self, message: GateOpened, sender: ActorAddress) -> None:
        self.set_gate(True, "")
        self.announce(message)

    def receiveMsg_GateClosed(self, message: GateClosed, sender: ActorAddress) -> None:
        self.set_gate(False, message.reason)
        self.announce(message)

    def receiveMsg_SessionChanged(self, message: SessionChanged, sender: ActorAddress) -> None:
        if not self.gate.open and message.state != "ready":
            self.set_gate(False, f"{message.state}: {message.detail}")
        self.announce(message)

    def receiveMsg_AlertRaised(self, message: AlertRaised, sender: ActorAddress) -> None:
        self.announce(message)

    def receiveMsg_LedgerFailed(self, message: LedgerFailed, sender: ActorAddress) -> None:
        self.ledger_trouble = message.reason
        self.announce(message)

    def receiveMsg_LedgerRecovered(self, message: LedgerRecovered, sender: ActorAddress) -> None:
        self.ledger_trouble = ""
        self.announce(message)

    def receiveMsg_EventsCommitted(self, message: EventsCommitted, sender: ActorAddress) -> None:
        followers = self.board.followers
        if not followers:
            return
        for packed in pack_rows(message.rows):
            for peer in followers:
                self.board.send_packed(peer, packed)
        self.flush_later()

    def set_gate(self, is_open: bool, reason: str) -> None:
        gate = Gate(open=is_open, reason=reason)
        if gate == self.gate:
            return
        self.gate = gate
        for peer in self.board.everyone:
            self.reply(peer, gate)

    def announce(self, event: Event) -> None:
        followers = self.board.followers
        if not followers:
            return
        noticed = Noticed(event=encode(event))
        for peer in followers:
            self.reply(peer, noticed)

    # -- status ------------------------------------------------------------------------------------------------

    def describe(self, peer: int, request: int) -> None:
        self.counter += 1
        correlation = f"describe.{self.incarnation}.{self.counter}"
        inquiry = self.inquiries[correlation] = Inquiry(peer, request)
        inquiry.services["control"] = self.facts()
        inquiry.waiting = set(SERVICES)
        known = self.directory.services if self.directory is not None else {}
        for name in SERVICES:
            if name in known:
                self.tell(name, DescribeService(correlation=correlation))
        self.start_timer(correlation, DESCRIBE_SECONDS)

    def receiveMsg_ServiceDescribed(self, message: ServiceDescribed, sender: ActorAddress) -> None:
        if message.correlation == GATE_CORRELATION:
            if message.facts.get("gate_open") is True:
                self.set_gate(True, "")
            return
        inquiry = self.inquiries.get(message.correlation)
        if inquiry is None:
            return
        inquiry.services[message.name] = dict(message.facts)
        inquiry.waiting.discard(message.name)
        if not inquiry.waiting:
            self.cancel_timer(message.correlation)
            self.describe_done(message.correlation)

    def describe_done(self, correlation: str) -> None:
        inquiry = self.inquiries.pop(correlation)
        share = CAP // (len(SERVICES) + 2)
        services = {
            name: facts if len(encode(facts)) <= share else {"too_large": len(encode(facts))}
            for name, facts in inquiry.services.items()
        }
        self.reply(inquiry.peer, Described(id=inquiry.request, services=services, silent=sorted(inquiry.waiting)))

    def facts(self) -> dict[str, Any]:
        return {
            "gate_open": self.gate.open,
            "gate_reason": self.gate.reason,
            "ledger_trouble": self.ledger_trouble,
            "socket": self.board.path,
            "peers": self.board.peers,
            "followers": len(self.board.followers),
            "unanswered": len(self.pending),
            "dropped": dict(self.board.dropped),
        }

    def receiveMsg_DescribeService(self, message: DescribeService, sender: ActorAddress) -> None:
        self.tell(sender, ServiceDescribed(correlation=message.correlation, name=self.name, facts=self.facts()))

    # -- writing -----------------------------------------------------------------------------------------------

    def reply(self, peer: int, frame: Frame) -> None:
        try:
            packed = pack(frame)
        except ChannelError as problem:
            self.log.error("{}: {} could not be sent: {}", self.name, type(frame).__name__, problem)
            return
        self.board.send_packed(peer, packed)
        self.flush_later()

    def flush_later(self) -> None:
        if not self.flushing and self.board.waiting:
            self.flushing = True
            self.start_timer("flush", FLUSH_SECONDS)
