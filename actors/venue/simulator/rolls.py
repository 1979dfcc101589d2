"""The exchange's rolls: every order live or final, whose ids are used up, and what is due later.

Law 1: only `_retire` makes an order final, and a final order never works again.
Law 2: nothing here speaks or trades; exchange.py does.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from actors.venue.simulator.accounts import Accounts
from actors.venue.simulator.book import Book
from actors.venue.simulator.combos import ComboBook, combo_quote
from actors.venue.simulator.contracts import ContractBook
from actors.venue.simulator.families import Families
from actors.venue.simulator.holds import Holds
from actors.venue.simulator.hours import Hours
from actors.venue.simulator.oca import GroupBook
from actors.venue.simulator.orders import ExchangeRules, Execution, Key, Order, Quote
from actors.venue.simulator.telling import Teller
from actors.venue.simulator.timetable import Timetable

MS = 1_000_000
CLIENTS_REMEMBERED = 100_000


class Refusal(msgspec.Struct, kw_only=True):
    """A refusal prepared for orders still to come: the next `count` whose orderRef fits are rejected."""

    order_ref: str
    code: int = 201
    reason: str = "Order rejected - reason:refused by the scenario"
    count: int = 1


class Rolls:
    """Orders, positions and quotes of one simulated venue.

    `perm_ids` and `exec_ids` yield fresh ids for ever.
    """

    def __init__(self, contracts: ContractBook, perm_ids: Iterator[int], exec_ids: Iterator[str],
                 rules: ExchangeRules | None = None) -> None:
        self.rules = rules or ExchangeRules()
        self.contracts = contracts
        self.perm_ids = perm_ids
        self.exec_ids = exec_ids
        self.orders: dict[Key, Order] = {}                  # everything not final, untransmitted ones too
        self.done: OrderedDict[Key, Order] = OrderedDict()
        self.last_id: dict[int, int] = {}
        self.executions: deque[Execution] = deque(maxlen=self.rules.completed_cap)
        self.executed = 0                                   # how many executions there ever were
        self.corrected: dict[int, Execution] = {}           # by number; since somebody last looked, as `noted`
        self._unheard: list[Execution] = []                 # what conditions have yet to hear of
        self.accounts = Accounts(self.rules)
        self.combos = ComboBook(contracts)
        self.holds = Holds(self)
        self.groups = GroupBook()
        self.opened: Callable[[Book], None] | None = None
        """Told of each new book, to give an option or future its first price."""
        self.books: dict[int, Book] = {}
        self.refusals: list[Refusal] = []
        self.families = Families()
        self.timetable = Timetable(self.orders)
        self.hours: Hours | None = None
        """When orders may trade; None: day and night."""
        self.manuals = 0                                    # how many orders were ever made by hand
        self.auto_bind = False
        """Client 0 has asked for manual orders: they are bound to it as they are accepted."""
        self.noted: dict[Key, Order] | None = None
        """Every order that changed since somebody last looked; None while nobody does (persistence.py)."""
        self._seq = 0
        self._retired = 0
        self._tell = Teller(self.rules, self._note)

    # what can be asked -----------------------------------------------------------------------------------------

    def book(self, con_id: int) -> Book:
        """Return the book of a contract; a combination's quote is made afresh from its legs'."""
        book = self.books.get(con_id)
        if book is not None and not book.combined:
            return book
        combo = self.combos.by_id.get(con_id)
        if book is None:
            contract = self.contracts.get(con_id) if combo is None else combo.contract
            if contract is None:
                raise KeyError(f"conId {con_id} is not known")
            book = self.books[con_id] = Book(contract)
            if combo is None and self.opened is not None:
                self.opened(book)
        if combo is not None:
            book.quote = combo_quote(combo, self.quote_of)
        return book

    def quote_of(self, con_id: int) -> Quote:
        return self.book(con_id).quote

    def next_id(self, client_id: int) -> int:
        return self.last_id.get(client_id, 0) + 1

    def use_id(self, client_id: int, order_id: int) -> None:
        """Note that a client used an id, or was shown it: its next one must be greater (ib-wire.md 8)."""
        self.last_id[client_id] = max(self.last_id.pop(client_id, 0), order_id)
        if len(self.last_id) > CLIENTS_REMEMBERED:      # whoever has used none for longest is forgotten
            del self.last_id[next(iter(self.last_id))]

    def known(self, client_id: int, order_id: int) -> Order | None:
        """Return a client's order, live or final; a manual one is client 0's once it is bound."""
        order = self.orders.get((client_id, order_id)) or self.done.get((client_id, order_id))
        return order if order is not None and order.bound else None

    def open_orders(self, client_id: int | None = None) -> list[Order]:
        """Return the transmitted live orders, oldest first, of one client or of all, unbound manual ones included."""
        return [o for o in self.orders.values()
                if o.perm_id and o.transmit and (client_id is None or (o.client_id == client_id and o.bound))]

    def matching(self, pattern: str) -> list[Order]:
        """Return every order ever placed, live ones first, whose orderRef fits the glob."""
        found = [o for o in self.orders.values() if fnmatchcase(o.order_ref, pattern)]
        return found + [o for o in self.done.values() if fnmatchcase(o.order_ref, pattern)]

    def next_expiry_ns(self) -> int | None:
        """Return when the exchange next does something by itself (`expire`), or None."""
        due, release = self.timetable.next_ns(), self.holds.next_ns()
        if release is None:
            return due
        return release if due is None else min(due, release)

    # ids -------------------------------------------------------------------------------------------------------

    def reset_ids(self) -> bool:
        """Start every client's ids again at 1, as the user may in TWS while no order is open; say whether it was."""
        if self.orders:
            return False
        self.last_id.clear()
        self.done.clear()
        return True

    def roll_back_ids(self, ids: int) -> None:
        """Hand out the last ids again: a known fault of gateways after their restart (ib-wire.md 8)."""
        for client_id, last in self.last_id.items():
            self.last_id[client_id] = max(0, last - ids)

    # what comes back from a file ------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        """Return how many orders were ever taken, how many ended, and how many were made by hand."""
        return self._seq, self._retired, self.manuals

    def resume(self, seq: int, retired: int, manuals: int) -> None:
        self._seq, self._retired, self.manuals = seq, retired, manuals

    def readmit(self, order: Order, working: bool) -> None:
        """Take back an order that another process had accepted, as it stood there."""
        if order.instructions.legs:
            self.combos.restore(order.contract, order.instructions.legs)
        self._enroll(order)
        self.timetable.enter(order)
        if working:
            self.book(order.contract.con_id).add(order)

    def drop_unsent(self) -> None:
        """Forget what a restart loses: orders that were not transmitted, or not accepted yet."""
        for order in [o for o in self.orders.values() if not o.perm_id]:
            self._forget(order)

    # inside ----------------------------------------------------------------------------------------------------

    def _enroll(self, order: Order) -> None:
        self.orders[order.key] = order
        self.families.join(order)
        if order.oca_group:
            self.groups.join(order)

    def _pend(self, order: Order, what: Literal["accept", "cancel"], delay_ms: int, now_ns: int) -> None:
        order.pending, order.pending_ns = what, now_ns + delay_ms * MS
        self.timetable.enter(order)

    def _retire(self, order: Order, status: str, now_ns: int, text: str) -> None:
        order.status, order.why_held, order.pending = status, "", ""
        order.done_ns, order.done_text = now_ns, text
        self._retired += 1
        order.retired = self._retired
        self._forget(order)
        self.holds.leave(order)
        self.done[order.key] = order
        self._note(order)
        while len(self.done) > self.rules.completed_cap:
            self.done.popitem(last=False)

    def _forget(self, order: Order) -> None:
        self.orders.pop(order.key, None)
        book = self.books.get(order.contract.con_id)
        if book is not None:
            book.remove(order)
        if order.oca_group:
            self.groups.leave(order)
        self.families.leave(order)

    def _one_at_a_time(self, order: Order, traded: Iterable[Order]) -> bool:
        """Return whether types 1 and 2 keep this order back because a sibling has traded."""
        return (self.rules.oca_block and bool(order.oca_group) and order.oca_type in (1, 2)
                and any(o.group == order.group and o is not order for o in traded))

    def _shielded(self, order: Order) -> bool:
        reactions = self.timetable.reactions
        if not reactions:
            return False
        traded = (self.orders.get(r.key) or self.done.get(r.key) for r in reactions.values())
        return self._one_at_a_time(order, [o for o in traded if o is not None])

    def record(self, execution: Execution) -> None:
        """Keep an execution for the snapshots, and for the conditions that wait for one."""
        self.executions.append(execution)
        self.executed += 1
        if self.holds.watches:
            self._unheard.append(execution)

    def replace_execution(self, was: Execution, corrected: Execution) -> None:
        """Put a corrected execution in the place of the one that it corrects, and its price into its order."""
        at = self.executions.index(was)
        self.executions[at] = corrected
        self.corrected[self.executed - len(self.executions) + at + 1] = corrected
        key = (was.client_id, was.order_id)
        order = self.orders.get(key) or self.done.get(key)
        if order is not None and order.contract.con_id == was.contract.con_id:     # a leg's price is not the BAG's
            order.cost += (corrected.price - was.price) * was.quantity
            self._note(order)

    def unheard(self) -> list[Execution]:
        """Return, once, the executions of which no condition has heard."""
        unheard, self._unheard = self._unheard, []
        return unheard

    def _note(self, order: Order) -> None:
        if self.noted is not None:
            self.noted[order.key] = order
