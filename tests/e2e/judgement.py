"""What must hold once the wire is whole and nobody crashes any more: judged by the gateway's journal and the database.

Law: the engine's memory is asked only for what it believes at the end (its position, who is armed); what was sent and
what traded is read from the journal.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec

from actors.rules.bracket_state import Phase
from actors.venue.simulator.journal import executions, final_orders, placements
from actors.venue.simulator.journal_checks import violations
from messages.orders import FlattenBracket
from messages.risk import SubmitIntent
from storage.database import Database
from storage.projections import dump, rebuild
from tests.e2e.world import SYMBOLS, World

LIVE = ("PreSubmitted", "Submitted", "PendingSubmit", "PendingCancel")


class Unsound(AssertionError):
    """What does not hold, and how it came to it."""


class Judge:
    """Everything that must hold once the wire is whole and nobody crashes any more."""

    def __init__(self, world: World, nemesis: Any) -> None:
        self.w, self.n = world, nemesis
        self.found: list[str] = []

    def claim(self, holds: Any, sentence: str) -> None:
        if not holds:
            self.found.append(sentence)

    def heal(self) -> None:
        w = self.w
        w.wire.refusing = w.wire.deaf = w.wire.dumb = False
        w.story.append("--- healed")
        for _ in range(3):
            w.sleep(25)
            for symbol in SYMBOLS:
                w.trade(symbol, w.prices[symbol])
        w.sleep(5)

    def lines(self) -> list[dict[str, Any]]:
        lines = self.w.gateway.journal.lines
        assert lines is not None
        return lines

    def net(self, bracket: str = "") -> Decimal:
        signed = {"BUY": 1, "SELL": -1}
        return sum((signed[line["action"]] * Decimal(line["quantity"]) for line in executions(self.lines())
                    if line.get("orderRef", "").startswith(bracket)), Decimal(0))  # fmt: skip

    def way(self, bracket: str) -> int:
        """Return +1 for a bracket that buys, -1 for one that sells short."""
        sold = any(line["action"] == "SELL" for line in placements(self.lines(), f"{bracket}.entry*"))
        return -1 if sold else 1

    def judge(self) -> None:
        self.n.calm = True
        self.heal()
        broker = self.w.actor("broker")
        self.claim(broker is not None and broker.desk.gate_open, "the gate is open again")
        self.of_transmissions()
        self.of_brackets()
        self.of_books()
        self.of_answers()
        self.of_the_end()
        self.of_transmissions()
        self.of_books()
        self.w.host.stop()
        self.of_rebuilding()
        if self.found:
            raise Unsound("\n".join([f"seed {self.w.seed} native={self.w.native}:", *dict.fromkeys(self.found)]))

    def of_transmissions(self) -> None:
        # An amendment that crosses its order's last fill looks new to the gateway; it carries the id of the old one.
        times = Counter(ref for ref, _ in {(line["orderRef"], line["orderId"]) for line in placements(self.lines())})
        for ref, count in times.items():
            self.claim(count == 1, f"{ref} was transmitted {count} times")
        if not self.w.races and not self.n.rates["venue"]:
            said = violations(self.lines(), self.w.native)
            self.found += [each for each in said if "transmitted" not in each and "with order id" not in each]

    def of_brackets(self) -> None:
        brackets, pages = self.w.brackets(), self.pages()
        phases = dict(self.rows("SELECT bracket_id, phase FROM brackets"))
        market = self.w.actor("market_data")
        finals = final_orders(self.lines())
        owners = {ref.partition(".")[0] for ref in finals}
        for name in sorted(owners):
            net = self.net(name) * self.way(name)
            live = {ref: Decimal(order["remaining"]) for ref, order in finals.items()
                    if ref.startswith(name + ".") and order["status"] in LIVE}  # fmt: skip
            bracket = brackets.get(name)
            state = bracket.bracket if bracket is not None else None
            called = pages.get(name, [])
            if phases.get(name) == "DETACHED":
                continue
            self.claim(state is not None or not (net or live), f"{name}: {net} is open, {live} live, and no actor is")
            if state is None:
                continue
            asked = [order.order_id for order in state.orders.values() if order.life == "asked"]
            self.claim(not asked, f"{name}: {asked} were asked for and nothing came of it ({state.phase})")
            self.claim(state.open_qty == net, f"{name}: it believes that {state.open_qty} is open; the journal {net}")
            believed = {order.order_id for order in state.orders.values() if order.alive}
            self.claim(believed == set(live), f"{name}: believes alive {sorted(believed)}, at the venue {sorted(live)}")
            exits = {ref: left for ref, left in live.items() if ".entry" not in ref and ".excess" not in ref}
            groups: dict[str, Decimal] = {}
            for ref, left in exits.items():
                group = state.orders[ref].group if ref in state.orders else ref
                groups[group or ref] = max(groups.get(group or ref, Decimal(0)), left)
            reach = sum(groups.values(), Decimal(0))
            self.claim(reach <= max(net, Decimal(0)), f"{name}: exits may still trade {reach} of {net}")
            if net > 0:
                armed = any(arm.startswith(name + ".") and arm != f"{name}.when" for arm in market.desk._arms)
                covered = reach == net or armed
                self.claim(covered or called, f"{name}: {net} is open and nothing covers it ({state.phase}, {live})")
            self.claim(net >= 0 or called or self.w.races, f"{name}: oversold {net} and nobody was called")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read from the database file."""
        database = Database(self.w.settings.database_url).open()
        try:
            return list(database.execute(query))
        finally:
            database.close()

    def pages(self) -> dict[str, list[str]]:
        rows = self.rows("SELECT bracket_id, payload FROM events WHERE type = 'AlertRaised'")
        found: dict[str, list[str]] = {}
        for bracket, payload in rows:
            if '"page"' in payload:
                found.setdefault(bracket, []).append(payload)
        return found

    def of_books(self) -> None:
        told = {line["execId"].rpartition(".")[0]: Decimal(line["quantity"]) for line in executions(self.lines())}
        kept = dict(self.rows("SELECT execution_id, quantity FROM fills"))
        stored = sum((Decimal(row[0]) for row in self.rows("SELECT quantity FROM positions_current")), Decimal(0))
        self.claim(set(told) == set(kept), f"executions missing from the ledger {sorted(set(told) - set(kept))}, "
                   f"invented {sorted(set(kept) - set(told))}")  # fmt: skip
        position = self.w.actor("position")
        book = sum((Decimal(str(fact["quantity"])) for fact in position.book.facts()), Decimal(0))
        net = self.net("B")
        self.claim(book == net, f"the position actor holds {book}; the journal {net}")
        self.claim(stored == net, f"positions_current holds {stored}; the journal {net}")

    def of_answers(self) -> None:
        """Whoever asks now is answered, once, and the same for all who ask the same."""
        w = self.w
        asked = {}
        for number, intent in enumerate(self.n.submitted):
            asked[f"last-{number}"] = w.say(SubmitIntent(intent=intent, correlation=f"last-{number}"))
        for number, command in enumerate(self.n.commands):
            asked[f"verb-{number}"] = w.say(msgspec.structs.replace(command, correlation=f"verb-{number}"))
        w.sleep(12)
        for correlation in asked:
            count = len(w.answers.get(correlation, ()))
            self.claim(count == 1, f"{correlation} was answered {count} times")
        for correlation, answers in w.answers.items():
            self.claim(len(answers) == 1, f"{correlation} was answered {len(answers)} times")
        for number, intent in enumerate(self.n.submitted):
            for answer in w.answers.get(f"last-{number}", ()):
                good = answer.accepted or answer.code in ("netting", "stale", "max_notional", "price_deviation")
                self.claim(good, f"{intent.signal_id}: {answer.code}: {answer.sentence}")

    def of_the_end(self) -> None:
        """Flatten everything: in the end nothing is open, nothing is live and nothing waits."""
        w = self.w
        for _ in range(3):
            for name, bracket in w.brackets().items():
                if bracket.bracket.phase not in (Phase.CLOSED, Phase.DETACHED):
                    self.n.counter += 1
                    w.say(FlattenBracket(bracket_id=name, command_id=f"end:{self.n.counter}",
                                         correlation=f"end{self.n.counter}"))  # fmt: skip
            for symbol in SYMBOLS:
                w.trade(symbol, w.prices[symbol])
            w.sleep(40)
        finals = final_orders(self.lines())
        for name, bracket in w.brackets().items():
            state = bracket.bracket
            if state.phase is Phase.DETACHED:
                continue
            net = self.net(name)
            live = [ref for ref, order in finals.items() if ref.startswith(name + ".") and order["status"] in LIVE]
            self.claim(not net and not live, f"{name}: flattened, and {net} is open, {live} live ({state.phase})")
            self.claim(state.phase is Phase.CLOSED, f"{name}: flattened, and it is {state.phase}")

    def of_rebuilding(self) -> None:
        database = Database(self.w.settings.database_url).open()
        try:
            before = dump(database)
            rebuild(database)
            self.claim(before == dump(database), "rebuild makes other projections than were written")
        finally:
            database.close()
