"""The risk actor: may this intent become this bracket? It asks the broker for contracts and counts what is in flight.

Law: one answer to each review, and an approved one holds its claim until `ReleaseClaim`. Nothing is answered before
positions and brackets have been read back from the ledger: a restart must not forget what is promised.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
from thespian.actors import ActorAddress

from actors.base import SupervisedActor
from actors.rules.limits import Exposure, check_order
from actors.rules.refusal import Refused, shown
from messages.base import Message
from messages.intent import Intent
from messages.ledger import BracketsLoaded, LoadBrackets, LoadPositions, PositionsLoaded, SignalsLoaded, StoredBracket
from messages.market import HaltChanged, MarksChanged
from messages.orders import Contract, OrderFilled, Role
from messages.registry import decode
from messages.risk import (
    InstrumentQualified,
    InstrumentUnknown,
    IntentApproved,
    IntentDenied,
    PositionSeen,
    QualifyInstrument,
    ReleaseClaim,
    ReviewIntent,
    TagPosition,
)
from messages.session import DescribeService, ServiceDescribed, SessionChanged
from messages.settings import Settings
from messages.supervision import Directory, StartActor

MAX_REVIEWS = 20_000
"""Reviews that may wait for contracts or for the ledger; more are denied."""
MAX_EARLY = 100_000
"""Executions that may arrive before the ledger has answered."""

Answer = IntentApproved | IntentDenied
Send = tuple[Any, Message]
"""To whom (a service's name or an address) and what."""


class _Kind(msgspec.Struct):
    type: str


class RiskDesk:
    """What the risk actor knows and decides. Every method returns what is to be sent."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.exposure = Exposure()
        self.contracts: dict[str, Contract] = {}
        self.marks: dict[str, Any] = {}
        self.account = ""
        self.halted: set[str] = set()
        self._positions_loaded = self._brackets_loaded = False
        self._early: list[tuple[OrderFilled | PositionSeen | SessionChanged, int]] = []
        self._reviews: dict[str, tuple[ReviewIntent, Any]] = {}
        self._asked: set[str] = set()
        self.checking: set[str] | None = None
        """Claims made for a router that died: those whose bracket the ledger does not know are nobody's."""
        self.denied: dict[str, int] = {}

    @property
    def ready(self) -> bool:
        return self._positions_loaded and self._brackets_loaded

    @property
    def waiting(self) -> int:
        return len(self._reviews)

    # -- reading back ------------------------------------------------------------------------------------------

    def positions_loaded(self, message: PositionsLoaded) -> list[Send]:
        if self._positions_loaded:
            return []
        self._positions_loaded = True
        self.exposure.load(message.positions, message.exec_ids)
        return self._loaded()

    def router_died(self, successor: Any) -> bool:
        """Forget what it had asked for. True where its claims must be compared with the brackets that were opened."""
        self._reviews = {key: (ask, asker) for key, (ask, asker) in self._reviews.items() if asker == successor}
        if self._brackets_loaded:
            self.checking = set(self.exposure.claims())
        return self._brackets_loaded

    def brackets_loaded(self, message: BracketsLoaded) -> list[Send]:
        if self.checking is not None:
            self.checking.difference_update(stored.definition.bracket_id for stored in message.brackets)
            if message.last:
                for bracket_id in self.checking:
                    self.exposure.release(bracket_id)
                self.checking = None
            return []
        if self._brackets_loaded:
            return []
        for stored in message.brackets:
            definition = stored.definition
            entry, exits = filled_of(stored)
            place = (definition.account, definition.contract.conid)
            self.exposure.claim(definition.bracket_id, definition.intent, place, entry, exits)
            self.contracts.setdefault(definition.contract.instrument, definition.contract)
        self._brackets_loaded = message.last
        return self._loaded()

    def _loaded(self) -> list[Send]:
        if not self.ready:
            return []
        early, self._early = self._early, []
        for message, now_ns in early:
            self.happened(message, now_ns)
        return [send for bracket_id in list(self._reviews) for send in self._try(bracket_id)]

    # -- reviews -----------------------------------------------------------------------------------------------

    def review(self, ask: ReviewIntent, asker: Any) -> list[Send]:
        """Answer at once, or ask the broker for what is not known and answer later."""
        if len(self._reviews) >= MAX_REVIEWS:
            return [(asker, self._deny(ask, Refused(
                "overloaded", "intent", f"'{ask.intent.signal_id}'", f"at most {MAX_REVIEWS} may wait for a review",
                "is one too many")))]
        self._reviews[ask.bracket_id] = (ask, asker)
        return self._try(ask.bracket_id)

    def qualified(self, contract: Contract) -> list[Send]:
        self.contracts[contract.instrument] = contract
        self._asked.discard(contract.instrument)
        return [send for ask in self._waiting_for(contract.instrument) for send in self._try(ask.bracket_id)]

    def unknown(self, instrument: str, reason: str) -> list[Send]:
        """Deny what waits for an instrument that cannot be had."""
        sends: list[Send] = []
        self._asked.discard(instrument)
        for ask in self._waiting_for(instrument):
            field = "instrument" if ask.intent.instrument == instrument else "when.instrument"
            refusal = Refused("unknown_instrument", field, shown(instrument),
                              "it must be a ticker that the venue can resolve", f"is not known ({reason})")
            sends.append((self._reviews.pop(ask.bracket_id)[1], self._deny(ask, refusal)))
        return sends

    def unanswered(self, instrument: str) -> list[Send]:
        return [] if instrument in self.contracts else self.unknown(instrument, "the venue did not answer in time")

    def _waiting_for(self, instrument: str) -> list[ReviewIntent]:
        return [ask for ask, _ in self._reviews.values() if instrument in instruments_of(ask.intent)]

    def _try(self, bracket_id: str) -> list[Send]:
        ask, asker = self._reviews[bracket_id]
        if not self.ready:
            return []
        missing = [name for name in instruments_of(ask.intent) if name not in self.contracts]
        if missing:
            asking = [name for name in missing if name not in self._asked]
            self._asked.update(asking)
            return [("broker", QualifyInstrument(instrument=name)) for name in asking]
        del self._reviews[bracket_id]
        try:
            approved = self._decide(ask)
        except Refused as refusal:
            return [(asker, self._deny(ask, refusal))]
        sends: list[Send] = [(asker, approved)]
        if ask.intent.risk_tags:
            sends.append(("position", TagPosition(
                account=approved.account, conid=approved.contract.conid, strategy=ask.intent.strategy,
                risk_tags=ask.intent.risk_tags)))
        return sends

    def _decide(self, ask: ReviewIntent) -> IntentApproved:
        intent = ask.intent
        contract = self.contracts[intent.instrument]
        if intent.instrument in self.halted:
            raise Refused("halted", "instrument", shown(intent.instrument), "send it again when trading resumes",
                          "is halted")
        check_order(intent, contract, self.settings.risk, self.marks)
        held = self.exposure.claimed(ask.bracket_id)
        if held is not None:    # asked again: after an outage, or because our answer was lost
            account = held.place[0]
        else:
            account = self._account_of(intent)
            place = (account, contract.conid)
            self.exposure.check(intent, place)
            self.exposure.claim(ask.bracket_id, intent, place)
        return IntentApproved(
            bracket_id=ask.bracket_id, signal_id=intent.signal_id, contract=contract, account=account)

    def _account_of(self, intent: Intent) -> str:
        venue = self.settings.venue
        account = intent.account or venue.account or self.account
        if not account and len(venue.accounts) == 1:
            account = venue.accounts[0]
        if not account:
            raise Refused("no_account", "account", "nothing", "name it in the intent or in the setting venue.account"
                          " until the gateway has said which account it has", "is given")
        return account

    def _deny(self, ask: ReviewIntent, refusal: Refused) -> IntentDenied:
        self.denied[refusal.code] = self.denied.get(refusal.code, 0) + 1
        return IntentDenied(
            bracket_id=ask.bracket_id, signal_id=ask.intent.signal_id, strategy=ask.intent.strategy,
            instrument=ask.intent.instrument, code=refusal.code, sentence=refusal.sentence, ts_ns=ask.ts_ns)

    # -- what happens ------------------------------------------------------------------------------------------

    def happened(self, message: OrderFilled | PositionSeen | SessionChanged, now_ns: int) -> None:
        """Count an execution, take the venue's positions; in their order, and not before the ledger has answered."""
        if not self.ready:
            if len(self._early) < MAX_EARLY:
                self._early.append((message, now_ns))
        elif isinstance(message, PositionSeen):
            self.exposure.seen(message, now_ns)
        elif isinstance(message, SessionChanged):
            if message.state == "reconciling":
                self.exposure.picture_begins()
            elif message.state == "ready":
                self.exposure.picture_ends(message.account, now_ns)
        else:
            self.exposure.fill(message, now_ns)

    def facts(self) -> dict[str, object]:
        return {"ready": self.ready, "waiting": self.waiting, "contracts": sorted(self.contracts),
                "denied": dict(self.denied), "halted": sorted(self.halted), **self.exposure.facts()}


def instruments_of(intent: Intent) -> Iterator[str]:
    """Return every instrument that must be known before an intent is approved."""
    yield intent.instrument
    if intent.when is not None and intent.when.instrument != intent.instrument:
        yield intent.when.instrument


def filled_of(stored: StoredBracket) -> tuple[Any, Any]:
    """Return (entry filled, exit filled) of a stored bracket from its execution records, corrections included."""
    latest: dict[str, OrderFilled] = {}
    for payload in stored.events:
        kind = msgspec.json.decode(payload, type=_Kind).type
        if kind in ("OrderFilled", "FillCorrected"):
            fill: OrderFilled = decode(kind, payload)
            known = latest.get(fill.exec_id)
            if known is None or fill.revision > known.revision:
                latest[fill.exec_id] = fill
    zero = stored.definition.intent.quantity * 0
    entry = sum((fill.last_qty for fill in latest.values() if fill.role is Role.ENTRY), zero)
    exits = sum((fill.last_qty for fill in latest.values() if fill.role is Role.EXIT), zero)
    return entry, exits


LOADING = "loading"


class Risk(SupervisedActor):
    """Reviews intents for the router."""

    load_seconds: ClassVar[float] = 5.0
    """How long the ledger may take to answer before it is asked again."""

    def on_start(self, start: StartActor) -> None:
        self.desk = RiskDesk(start.settings)
        self._ledger: ActorAddress | None = None
        self._router: ActorAddress | None = None

    def on_directory(self, directory: Directory) -> None:
        ledger, router = directory.services.get("ledger"), directory.services.get("router")
        if ledger is not None and ledger != self._ledger:
            self._ledger = ledger
            if not self.desk.ready:
                self._load()
            elif self.desk.checking is not None:
                self.tell("ledger", LoadBrackets())
        if router is not None and router != self._router:
            if self._router is not None and self.desk.router_died(router):
                self.tell("ledger", LoadBrackets())
            self._router = router

    def _load(self) -> None:
        self.tell("ledger", LoadPositions())
        self.tell("ledger", LoadBrackets())
        self.start_timer(LOADING, self.load_seconds)

    def on_timer(self, key: str) -> None:
        if key == LOADING:
            if not self.desk.ready:
                self.log.warning("risk: the ledger has not answered within {} s; asking again", self.load_seconds)
                self._load()
        else:
            self._say(self.desk.unanswered(key))

    def _say(self, sends: list[Send]) -> None:
        for to, message in sends:
            if isinstance(message, QualifyInstrument):
                self.start_timer(message.instrument, self.settings.venue.request_timeout_s + 2)
            elif isinstance(message, IntentDenied):
                self.log.info("risk: {} {} denied: {}", message.signal_id, message.code, message.sentence)
            self.tell(to, message)

    def receiveMsg_PositionsLoaded(self, message: PositionsLoaded, sender: ActorAddress) -> None:
        self._say(self.desk.positions_loaded(message))

    def receiveMsg_BracketsLoaded(self, message: BracketsLoaded, sender: ActorAddress) -> None:
        self._say(self.desk.brackets_loaded(message))

    def receiveMsg_SignalsLoaded(self, message: SignalsLoaded, sender: ActorAddress) -> None:
        """Known signals are the router's concern; the ledger sends them with the brackets."""

    def receiveMsg_ReviewIntent(self, message: ReviewIntent, sender: ActorAddress) -> None:
        self._say(self.desk.review(message, sender))

    def receiveMsg_InstrumentQualified(self, message: InstrumentQualified, sender: ActorAddress) -> None:
        self.cancel_timer(message.contract.instrument)
        self._say(self.desk.qualified(message.contract))

    def receiveMsg_InstrumentUnknown(self, message: InstrumentUnknown, sender: ActorAddress) -> None:
        self.cancel_timer(message.instrument)
        self._say(self.desk.unknown(message.instrument, message.reason))

    def receiveMsg_ReleaseClaim(self, message: ReleaseClaim, sender: ActorAddress) -> None:
        self.desk.exposure.release(message.bracket_id)

    def receiveMsg_OrderFilled(self, message: OrderFilled, sender: ActorAddress) -> None:
        """Count an execution, or its correction: both kinds come here."""
        self.desk.happened(message, self.now())

    def receiveMsg_PositionSeen(self, message: PositionSeen, sender: ActorAddress) -> None:
        self.desk.happened(message, self.now())

    def receiveMsg_MarksChanged(self, message: MarksChanged, sender: ActorAddress) -> None:
        self.desk.marks.update(message.marks)

    def receiveMsg_HaltChanged(self, message: HaltChanged, sender: ActorAddress) -> None:
        (self.desk.halted.add if message.halted else self.desk.halted.discard)(message.instrument)

    def receiveMsg_SessionChanged(self, message: SessionChanged, sender: ActorAddress) -> None:
        self.desk.account = message.account or self.desk.account
        self.desk.happened(message, self.now())

    def receiveMsg_DescribeService(self, message: DescribeService, sender: ActorAddress) -> None:
        self.tell(sender, ServiceDescribed(correlation=message.correlation, name=self.name, facts=self.desk.facts()))
