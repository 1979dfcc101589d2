"""What instruments are called at the venue, and the feeds that the engine has asked for.

Law: a subscription is a wish that outlives connections; a line is what one connection has made of it. After any gap
`fresh_after_ns` moves on, so that nothing fires on what was true before (trading-rules.md 11).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from actors.venue import ib_codes
from actors.venue.desk import NS, Desk
from actors.venue.known import KnownOrder
from actors.venue.port import ContractsEnded, ContractTold, ErrorTold, HaltTold, RuleTold, TicksTold, VenueEvent
from messages.intent import TimeInForce
from messages.market import Feed, FeedChanged, HaltChanged, QuoteTick, Subscribe, TickBatch, Unsubscribe
from messages.orders import Contract, Increment
from messages.risk import InstrumentQualified, InstrumentUnknown

MARKET = "market_data"
CLOCKS_AGREE_NS = 5_000_000_000
"""The venue tells its time in whole seconds; up to this difference the clocks are called the same."""
RETRY_NS = 30 * NS
"""After what passes by itself (a competing session, pacing, no line free) a refused feed is asked for again."""
CLOSE_NS = 600 * NS
"""How long after a session's end a DAY order's Cancelled is taken for its expiry."""


@dataclass(slots=True)
class Question:
    """One instrument that is being looked up, and who asked."""

    instrument: str
    due_ns: int
    askers: list[object]
    found: list[ContractTold] = field(default_factory=list)
    request: int = 0
    rule_id: int = 0


class Feeds:
    """Contracts by name, subscriptions by wish."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.venue = desk.venue
        self.contracts: dict[str, Contract] = {}
        self.rules: dict[int, tuple[Increment, ...]] = {}
        self.questions: dict[str, Question] = {}
        self.wishes: dict[tuple[str, Feed], None] = {}
        self.lines: dict[tuple[str, Feed], tuple[int, ...]] = {}
        self.down: set[tuple[str, Feed]] = set()
        self.refused: dict[tuple[str, Feed], int] = {}
        """Wishes that the venue has refused, and when to try again; 0: not until somebody asks again."""
        self.halts: set[str] = set()
        self.waiting_until_ns = 0
        self.hours: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        """conid -> when its regular and its extended sessions end, in UTC ns."""
        self.venue_ahead_ns = 0
        """How far the venue's clock is ahead of ours: what is fresh is judged by its clock (a replay has its own)."""

    def name_of(self, conid: int, symbol: str) -> str:
        for contract in self.contracts.values():
            if contract.conid == conid:
                return contract.instrument
        return symbol

    # -- looking up --------------------------------------------------------------------------------------------

    def qualify(self, instrument: str, asker: object, now: int) -> None:
        """Answer `InstrumentQualified` or `InstrumentUnknown` to the asker, now or when the venue has answered."""
        known = self.contracts.get(instrument)
        if known is not None:
            self.desk.tell(asker, InstrumentQualified(contract=known))
            return
        question = self.questions.get(instrument)
        if question is None:
            question = self.questions[instrument] = Question(instrument, now + self.desk.timeout_ns, [])
        if asker is not None:
            question.askers.append(asker)
        self.work(now)

    def work(self, now: int) -> int:
        """Ask what is not asked and open what is not open yet, at the pace of entries. Returns ns to wait.

        Whoever called: what has to wait is remembered, or nobody would come back for it before the next heartbeat.
        """
        self.waiting_until_ns = 0
        if not self.venue.connected:
            return 0
        try:
            wait = self._work(now)
        except ConnectionError as problem:
            self.desk.broken = str(problem)
            return 0
        if wait:
            self.waiting_until_ns = now + wait
        return wait

    def _work(self, now: int) -> int:
        for question in self.questions.values():
            if not question.request:
                wait = self.desk.wait_ns(now)
                if wait:
                    return wait
                question.request = self.venue.ask_contract(question.instrument)
                question.due_ns = now + self.desk.timeout_ns
                self.desk.spend(now, entry=True)
        if self.desk.gate_open:
            for key in [key for key in self.wishes if key not in self.lines and key not in self.refused]:
                wait = self.desk.wait_ns(now)
                if wait:
                    return wait
                self._open(key, now)
        return 0

    def contract(self, event: VenueEvent, now: int) -> None:
        if isinstance(event, RuleTold):
            self.rules[event.rule_id] = event.increments
            for waiting in [q for q in self.questions.values() if q.rule_id == event.rule_id]:
                self._answer(waiting, now)
            return
        question = self._asked(getattr(event, "request_id", -1))
        if question is None:
            return
        if isinstance(event, ContractTold):
            question.found.append(event)
        elif isinstance(event, ContractsEnded):
            if len(question.found) != 1:
                self._unknown(question, "the venue knows no such instrument" if not question.found
                              else f"the venue knows {len(question.found)} instruments of that name")
                return
            question.rule_id = question.found[0].rule_id
            if not question.rule_id or question.rule_id in self.rules:
                self._answer(question, now)
            else:
                self.venue.ask_rule(question.rule_id)
                self.desk.spend(now)

    def _asked(self, request: int) -> Question | None:
        return next((q for q in self.questions.values() if q.request == request and request > 0), None)

    def _answer(self, question: Question, now: int) -> None:
        found = question.found[0]
        tick = found.min_tick if found.min_tick > 0 else Decimal("0.01")
        increments = self.rules.get(question.rule_id) or (Increment(low_edge=Decimal(0), increment=tick),)
        contract = msgspec.structs.replace(found.contract, instrument=question.instrument, increments=increments)
        self.contracts[question.instrument] = contract
        self.hours[contract.conid] = (found.rth_ends_ns, found.session_ends_ns)
        del self.questions[question.instrument]
        for asker in question.askers:
            self.desk.tell(asker, InstrumentQualified(contract=contract))
        self.work(now)

    def _unknown(self, question: Question, reason: str) -> None:
        del self.questions[question.instrument]
        if question.instrument in self.contracts:
            return  # known from before; only its hours were asked for
        for key in [key for key in self.wishes if key[0] == question.instrument]:
            self.refused[key] = 0
        for asker in question.askers:
            self.desk.tell(asker, InstrumentUnknown(instrument=question.instrument, reason=reason))

    def learn(self, contract: Contract, now: int) -> None:
        """Take a contract that an owner brought along: it can be used at once, and its hours are asked for."""
        self.contracts.setdefault(contract.instrument, contract)
        if contract.conid not in self.hours and contract.instrument not in self.questions:
            self.hours[contract.conid] = ((), ())
            self.questions[contract.instrument] = Question(contract.instrument, now + self.desk.timeout_ns, [])

    def day_is_over(self, order: KnownOrder, now: int) -> bool:
        """Whether a DAY order has just met the end of its session.

        IB ends DAY orders with an ordinary Cancelled and often says nothing more (ib-wire.md 6.1): without this, every
        close would look like a person's cancel.
        """
        if order.time_in_force is not TimeInForce.DAY:
            return False
        ends = self.hours.get(order.contract.conid, ((), ()))[order.outside_rth]
        return any(0 <= now - end <= CLOSE_NS for end in ends)

    # -- subscriptions -----------------------------------------------------------------------------------------

    def subscribe(self, command: Subscribe, now: int) -> None:
        key = (command.instrument, command.feed)
        self.wishes[key] = None
        self.refused.pop(key, None)
        self.work(now)

    def unsubscribe(self, command: Unsubscribe, now: int) -> None:
        key = (command.instrument, command.feed)
        self.wishes.pop(key, None)
        contract = self.contracts.get(command.instrument)
        if self.lines.pop(key, None) is not None and contract is not None:
            self.venue.unsubscribe(contract, command.feed)
            self.desk.spend(now)

    def _open(self, key: tuple[str, Feed], now: int) -> None:
        contract = self.contracts.get(key[0])
        if contract is None:
            if key[0] not in self.questions:
                self.questions[key[0]] = Question(key[0], now + self.desk.timeout_ns, [])
            return
        self.lines[key] = self.venue.subscribe(contract, key[1])
        self.desk.spend(now, entry=True)
        self._say(key, True, "subscribed", now)

    def resume(self, now: int) -> None:
        """Open every line that this connection does not have yet, and ask again what was never answered.

        Contracts are asked for again too: hours are told for a few days only, and brackets bring theirs without.
        """
        for instrument, contract in self.contracts.items():
            ends = self.hours.get(contract.conid, ((), ()))[1]
            if instrument not in self.questions and (not ends or ends[-1] < now):
                self.questions[instrument] = Question(instrument, now + self.desk.timeout_ns, [])
        for question in self.questions.values():
            question.request = 0
            question.found.clear()
        self.refused.clear()
        for key in self.lines:
            self._say(key, True, "restored", now)
        self.work(now)

    def drop_lines(self) -> None:
        """1101: the gateway has forgotten the subscriptions; take them out here too, so that they are made again."""
        for instrument, feed in list(self.lines):
            self.venue.unsubscribe(self.contracts[instrument], feed)
        self.lines.clear()
        self.down.clear()

    def lost(self, reason: str, now: int) -> None:
        """No feed is live: the connection, or the gateway's own, is gone."""
        for key in self.lines:
            self._say(key, False, reason, now)
        if not self.venue.connected:
            self.lines.clear()
            self.down.clear()

    def farm(self, event: ErrorTold, now: int) -> None:
        """2103 and 2104: a data farm went or came back. The socket stays."""
        if event.code == ib_codes.FARM_DOWN:
            for key in self.lines:
                if key not in self.down:
                    self.down.add(key)
                    self._say(key, False, event.text, now)
        elif event.code == 2104:
            for key in [key for key in self.lines if key in self.down]:
                self.down.discard(key)
                self._say(key, True, event.text, now)

    def error(self, event: ErrorTold, now: int) -> bool:
        """Take an error that names one of our requests. False where it does not."""
        question = self._asked(event.request_id)
        if question is not None:
            self._unknown(question, f"the venue says {event.code}: {event.text}")
            return True
        for key, requests in list(self.lines.items()):
            if event.request_id in requests:
                if event.code in ib_codes.FEED_REFUSED:
                    contract = self.contracts[key[0]]
                    self.venue.unsubscribe(contract, key[1])
                    del self.lines[key]
                    self.refused[key] = now + RETRY_NS if event.code in ib_codes.FEED_LATER else 0
                    self._say(key, False, f"{event.code}: {event.text}", now, refused=True)
                    self.desk.alert("warning", f"ib_{event.code}", f"{key[0]} {key[1]}: {event.text}", now)
                return True
        return False

    def _say(self, key: tuple[str, Feed], live: bool, reason: str, now: int, refused: bool = False) -> None:
        self.desk.tell(MARKET, FeedChanged(instrument=key[0], feed=key[1], live=live, reason=f"{key[1]}: {reason}",
                                           refused=refused, fresh_after_ns=now + self.venue_ahead_ns))

    # -- what comes in -----------------------------------------------------------------------------------------

    def ticks(self, event: TicksTold) -> None:
        """Pass ticks on. Quotes come without a time and are stamped by our clock: where the venue's is another (a
        replay), they move to it, or sessions and freshness would jump between two clocks."""
        ticks, ahead = event.ticks, self.venue_ahead_ns
        if abs(ahead) > CLOCKS_AGREE_NS:
            ticks = tuple(
                tick._replace(ts_ns=tick.ts_ns + ahead) if isinstance(tick, QuoteTick) else tick for tick in ticks
            )
        self.desk.tell(MARKET, TickBatch(ticks=ticks))

    def halted(self, event: HaltTold, now: int) -> None:
        """Pass a halt on when it is news; a first "not halted" is none."""
        if event.halted == (event.instrument in self.halts):
            return
        (self.halts.add if event.halted else self.halts.discard)(event.instrument)
        for to in (MARKET, "risk"):
            self.desk.tell(to, HaltChanged(instrument=event.instrument, halted=event.halted, ts_ns=now))

    def on_time(self, now: int) -> None:
        for key in [key for key, due in self.refused.items() if due and due <= now]:
            del self.refused[key]
        self.work(now)
        for question in [q for q in self.questions.values() if q.request and q.due_ns <= now]:
            self._unknown(question, f"the venue did not answer in {self.desk.settings.venue.request_timeout_s:g} s")

    def next_due(self) -> int:
        dues = [q.due_ns for q in self.questions.values() if q.request]
        dues += [due for due in self.refused.values() if due]
        if self.waiting_until_ns:
            dues.append(self.waiting_until_ns)
        return min(dues, default=0)
