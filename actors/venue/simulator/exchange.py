"""The pure exchange: takes orders, matches them against quotes, and reports what became of them.

Law 1: it knows nothing of the wire, of sockets, of clocks and of chance; time comes with each call, ids from iterators.
Law 2: every public call returns the reports that it caused, in the order in which a gateway would send them.
Law 3: only `_retire` makes an order final, and a final order never works again.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase

import msgspec

from actors.venue.simulator import validation
from actors.venue.simulator.accounts import Accounts
from actors.venue.simulator.book import STOPS, Book
from actors.venue.simulator.contracts import ContractBook
from actors.venue.simulator.families import Families
from actors.venue.simulator.oca import GroupBook
from actors.venue.simulator.orders import ExchangeRules, Execution, Key, Order, Quote
from actors.venue.simulator.reports import (
    CommissionReport,
    ErrorReport,
    FillReport,
    OpenReport,
    PositionReport,
    Report,
    StatusReport,
)

CANCEL_TEXT = "Order Canceled - reason:"


class Refusal(msgspec.Struct, kw_only=True):
    """A refusal prepared for orders still to come: the next `count` whose orderRef fits are rejected."""

    order_ref: str
    code: int = 201
    reason: str = "Order rejected - reason:refused by the scenario"
    count: int = 1


class Exchange:
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
        self.accounts = Accounts(self.rules)
        self.groups = GroupBook()
        self.books: dict[int, Book] = {}
        self.refusals: list[Refusal] = []
        self.families = Families()
        self._expiries: list[tuple[int, int, Key]] = []
        self._seq = 0
        self._out: list[Report] = []

    # what can be asked -----------------------------------------------------------------------------------------

    def book(self, con_id: int) -> Book:
        book = self.books.get(con_id)
        if book is None:
            book = self.books[con_id] = Book(self.contracts.by_id[con_id])
        return book

    def quote_of(self, con_id: int) -> Quote:
        return self.book(con_id).quote

    def next_id(self, client_id: int) -> int:
        return self.last_id.get(client_id, 0) + 1

    def open_orders(self, client_id: int | None = None) -> list[Order]:
        """Return the transmitted live orders, oldest first, of one client or of all."""
        return [o for o in self.orders.values()
                if o.perm_id and o.transmit and (client_id is None or o.client_id == client_id)]

    def matching(self, pattern: str) -> list[Order]:
        """Return every order ever placed, live ones first, whose orderRef fits the glob."""
        found = [o for o in self.orders.values() if fnmatchcase(o.order_ref, pattern)]
        return found + [o for o in self.done.values() if fnmatchcase(o.order_ref, pattern)]

    def next_expiry_ns(self) -> int | None:
        while self._expiries:
            due, _, key = self._expiries[0]
            order = self.orders.get(key)
            if order is not None and order.expires_ns == due:
                return due
            heapq.heappop(self._expiries)
        return None

    # orders ----------------------------------------------------------------------------------------------------

    def place(self, order: Order, now_ns: int) -> list[Report]:
        """Take a new order, or amend the live order of the same client and id (ib-wire.md 6.2)."""
        known = self.orders.get(order.key)
        if order.what_if:
            self._new(order, now_ns)
        elif known is not None:
            if known.perm_id and known.transmit:
                self._modify(known, order, now_ns)
            else:
                self._new(order, now_ns, replaces=known)
        elif order.key in self.done:
            self._error(order, 104, "Cannot modify a filled or cancelled order.")
        elif order.order_id <= self.last_id.get(order.client_id, 0):
            self._error(order, 103, "Duplicate order id")
        else:
            self.last_id[order.client_id] = order.order_id
            self._new(order, now_ns)
        return self._take()

    def cancel(self, client_id: int, order_id: int, now_ns: int) -> list[Report]:
        """Cancel on request; a member takes its whole OCA group along (trading-rules.md 2)."""
        order = self.orders.get((client_id, order_id))
        if order is None:
            done = self.done.get((client_id, order_id))
            if done is None:
                text = f"OrderId {order_id} that needs to be cancelled is not found."
                self._out.append(ErrorReport(client_id, order_id, 10147, text))
            else:
                code = self.rules.late_cancel_code
                text = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {done.status}."
                if code == 161:
                    text = f"Cancel attempted when order is not in a cancellable state. Order permId ={done.perm_id}"
                self._out.append(ErrorReport(client_id, order_id, code, text))
            return self._take()
        self._cancel_requested(order, now_ns)
        return self._take()

    def cancel_all(self, now_ns: int) -> list[Report]:
        """Cancel every live order of every client (reqGlobalCancel)."""
        for order in list(self.orders.values()):
            if order.alive:
                self._end_cancelled(order, now_ns, "Cancelled by Trader", pending=self.rules.pending_cancel)
        return self._take()

    def system_cancel(self, order: Order, reason: str, now_ns: int) -> list[Report]:
        """Cancel a live order as the venue does unasked: its group stays as it is."""
        if order.key in self.orders:
            self._end_cancelled(order, now_ns, reason, text=f"{CANCEL_TEXT}{reason}")
        return self._take()

    def reject(self, order: Order, code: int, reason: str, now_ns: int) -> list[Report]:
        """Reject a live order after it was accepted."""
        if order.key in self.orders:
            self._refuse(order, code, reason, now_ns)
        return self._take()

    def fill(self, order: Order, quantity: Decimal, price: Decimal, now_ns: int) -> list[Report]:
        """Trade a live order outside the book, as a scenario says; quantity is capped at what remains."""
        if order.key in self.orders:
            self._execute(order, min(quantity, order.remaining), price, now_ns, resting=True)
        return self._take()

    def fill_all(self, fills: list[tuple[Order, Decimal, Decimal]], now_ns: int) -> list[Report]:
        """Trade several orders at the same instant: no group reacts before all of them have traded (a race)."""
        done = []
        for order, quantity, price in fills:
            if order.key in self.orders:
                before = order.remaining
                quantity = min(quantity, before)
                self._book_fill(order, quantity, price, now_ns, resting=True)
                done.append((order, quantity, before))
        for order, quantity, before in done:
            self._after_fill(order, quantity, before, now_ns)
        return self._take()

    def expire(self, now_ns: int) -> list[Report]:
        """End every order whose time is over."""
        while (due := self.next_expiry_ns()) is not None and due <= now_ns:
            _, _, key = heapq.heappop(self._expiries)
            self._end_cancelled(self.orders[key], now_ns, "Expired", text=f"{CANCEL_TEXT}")
        return self._take()

    # market ----------------------------------------------------------------------------------------------------

    def market(self, con_id: int, now_ns: int) -> list[Report]:
        """Match after the quote of this contract was changed by the caller."""
        book = self.book(con_id)
        book.quote.time_ns = now_ns
        for order in book.touched():
            if order.key in book.orders:         # a fill before this one may have taken it away
                self._work(order, now_ns, arriving=False)
        return self._take()

    # inside: arrival -------------------------------------------------------------------------------------------

    def _new(self, order: Order, now_ns: int, replaces: Order | None = None) -> None:
        problem = validation.new_order(order, self, now_ns)
        if problem is not None:
            if replaces is not None:
                self._forget(replaces)
            if problem.final and not order.what_if:
                order.perm_id = next(self.perm_ids)
                self._refuse(order, problem.code, problem.text, now_ns)
            else:
                self._error(order, problem.code, problem.text)
            return
        if order.what_if:
            self._out.append(OpenReport(msgspec.structs.replace(order)))
            return
        if replaces is not None:
            self._forget(replaces)
        self._seq += 1
        order.seq, order.placed_ns = self._seq, now_ns
        self.orders[order.key] = order
        self.families.join(order)
        if order.oca_group:
            self.groups.join(order)
        if not order.transmit:
            return
        family = self.families.released_by(order, self.orders)
        for member in family:
            self._accept(member, now_ns)
        for member in family:
            if member.key in self.orders:
                self._activate(member, now_ns)

    def _accept(self, order: Order, now_ns: int) -> None:
        order.transmit = True
        order.perm_id = order.perm_id or next(self.perm_ids)
        if not order.tif:
            order.tif = "DAY"
            if self.rules.empty_tif_warning:
                self._error(order, 10349, "Order TIF was set to DAY based on order preset.")
        order.expires_ns = validation.expiry_ns(order, now_ns, self.rules)
        if order.expires_ns is not None:
            heapq.heappush(self._expiries, (order.expires_ns, order.seq, order.key))
        order.status = "PreSubmitted"
        if order.order_type in STOPS and not order.triggered:
            order.why_held = "trigger"
        if self.families.waits(order, self.orders, self.rules):
            order.why_held = "child"
        self._open_and_status(order)

    def _activate(self, order: Order, now_ns: int) -> None:
        """Let an accepted order meet the market, unless it waits for its parent."""
        if self.families.waits(order, self.orders, self.rules):
            return
        if order.why_held == "child":
            order.why_held = "trigger" if order.order_type in STOPS else ""
        self.book(order.contract.con_id).add(order)
        if order.order_type not in STOPS:
            order.status = "Submitted"
            self._open_and_status(order)
        self._work(order, now_ns, arriving=True)
        if order.key in self.orders and order.tif in ("IOC", "FOK"):
            self._end_cancelled(order, now_ns, "Cancelled", pending=self.rules.pending_cancel)

    def _modify(self, old: Order, new: Order, now_ns: int) -> None:
        problem = validation.amendment(old, new, self)
        if problem is not None:
            self._error(new, problem.code, problem.text)
            return
        old.total, old.lmt, old.aux = new.total, new.lmt, new.aux
        old.tif = new.tif or old.tif
        old.order_type, old.outside_rth = new.order_type, new.outside_rth
        old.trail_percent, old.trigger_method = new.trail_percent, new.trigger_method
        old.lmt_offset = new.lmt_offset
        if new.trail_stop is not None:
            old.trail_stop = new.trail_stop
        old.order_ref = new.order_ref
        old.good_till_date = new.good_till_date
        old.extras = new.extras
        old.modifies += 1
        old.expires_ns = validation.expiry_ns(old, now_ns, self.rules)
        if old.expires_ns is not None:
            heapq.heappush(self._expiries, (old.expires_ns, old.seq, old.key))
        book = self.book(old.contract.con_id)
        book.dirty()
        self._open_and_status(old)
        if old.remaining <= 0:
            self._complete(old, now_ns)
        elif old.key in book.orders:
            self._work(old, now_ns, arriving=True)

    # inside: matching ------------------------------------------------------------------------------------------

    def _work(self, order: Order, now_ns: int, arriving: bool) -> None:
        """Trigger and trade one working order as far as the present market lets it."""
        book = self.book(order.contract.con_id)
        if book.quote.halted > 0:
            return                    # nothing triggers or trades in a halt
        if order.order_type in STOPS and not order.triggered:
            if not book.check_trigger(order):
                return
            book.dirty()
            order.status, order.why_held = "Submitted", ""
            self._open_and_status(order)
            arriving = True
        price = book.fill_price(order, arriving)
        if price is None:
            return
        displayed = self.rules.liquidity == "displayed"
        quantity = book.available(order, displayed)
        if quantity <= 0 or ((order.tif == "FOK" or order.all_or_none) and quantity < order.remaining):
            return
        if displayed:
            book.consume(order, quantity)
        self._execute(order, quantity, price, now_ns, resting=not arriving)

    def _execute(self, order: Order, quantity: Decimal, price: Decimal, now_ns: int, resting: bool) -> None:
        before = order.remaining
        self._book_fill(order, quantity, price, now_ns, resting)
        self._after_fill(order, quantity, before, now_ns)

    def _book_fill(self, order: Order, quantity: Decimal, price: Decimal, now_ns: int, resting: bool) -> None:
        """Book one execution and tell it: 11, 5, 3, 59 (ib-wire.md 6.1)."""
        order.filled += quantity
        order.cost += quantity * price
        order.last_fill_price = price
        commission = self.accounts.commission_due(order)
        order.commission += commission
        position, realized = self.accounts.book(order, quantity, price, commission)
        if order.status == "PreSubmitted":
            order.status, order.why_held, order.triggered = "Submitted", "", True
        execution = Execution(
            exec_id=next(self.exec_ids), client_id=order.client_id, order_id=order.order_id, perm_id=order.perm_id,
            order_ref=order.order_ref, account=order.account, contract=order.contract,
            side="BOT" if order.is_buy else "SLD", quantity=quantity, price=price, cum_quantity=order.filled,
            avg_price=order.avg_price, time_ns=now_ns, commission=commission, realized=realized,
            liquidity=1 if resting else 2)
        self.executions.append(execution)
        self._out.append(FillReport(execution))
        if order.remaining <= 0:
            self._retire(order, "Filled", now_ns, f"Filled Size: {order.filled}")
        self._open_and_status(order)
        self._out += (CommissionReport(execution), PositionReport(msgspec.structs.replace(position)))

    def _after_fill(self, order: Order, quantity: Decimal, before: Decimal, now_ns: int) -> None:
        if order.oca_group:
            for sibling, new_total in self.groups.after_fill(order, quantity, before, self.rules):
                if sibling.key not in self.orders:
                    continue
                if new_total is None:
                    self._end_cancelled(sibling, now_ns, "Cancelled by OCA")
                elif new_total != sibling.total:
                    sibling.total = new_total
                    self._open_and_status(sibling)
        if order.remaining <= 0 or self.rules.child_activation == "partial":
            for child in self.families.children(order):
                if child.key in self.orders and child.why_held == "child":
                    self._activate(child, now_ns)

    # inside: endings -------------------------------------------------------------------------------------------

    def _cancel_requested(self, order: Order, now_ns: int) -> None:
        members = [order]
        if order.oca_group and self.rules.oca_cancel_cascade:
            members += [m for m in self.groups.members(order) if m is not order]
        for member in members:
            if member.key in self.orders:
                self._end_cancelled(member, now_ns, "Cancelled by Trader", pending=self.rules.pending_cancel)

    def _end_cancelled(self, order: Order, now_ns: int, reason: str, text: str = CANCEL_TEXT,
                       pending: bool = False) -> None:
        """Make an order Cancelled, tell it with 202, and take its waiting children along."""
        if not order.perm_id:
            self._forget(order)       # never transmitted: there is no state to tell
            self._error(order, 202, text)
            return
        if pending:
            order.status = "PendingCancel"
            self._status(order)
        self._retire(order, "Cancelled", now_ns, reason)
        self._status(order)
        self._error(order, 202, text)
        self._cancel_children(order, now_ns, reason)

    def _cancel_children(self, order: Order, now_ns: int, reason: str) -> None:
        for child in self.families.children(order):
            if child.key in self.orders and (order.filled == 0 or child.why_held == "child"):
                self._end_cancelled(child, now_ns, reason)

    def _refuse(self, order: Order, code: int, reason: str, now_ns: int) -> None:
        self._error(order, code, reason)
        self._retire(order, "Inactive", now_ns, reason)
        if self.rules.reject_inactive:
            self._open_and_status(order)
        self._cancel_children(order, now_ns, "Parent rejected")

    def _complete(self, order: Order, now_ns: int) -> None:
        """End an order that an amendment left with nothing to fill."""
        self._retire(order, "Filled", now_ns, f"Filled Size: {order.filled}")
        self._open_and_status(order)
        self._after_fill(order, Decimal(0), Decimal(0), now_ns)

    def _retire(self, order: Order, status: str, now_ns: int, text: str) -> None:
        order.status, order.why_held = status, ""
        order.done_ns, order.done_text = now_ns, text
        self._forget(order)
        self.done[order.key] = order
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

    # inside: speech --------------------------------------------------------------------------------------------

    def _open_and_status(self, order: Order) -> None:
        copy = msgspec.structs.replace(order)
        self._out += (OpenReport(copy), StatusReport(copy))

    def _status(self, order: Order) -> None:
        self._out.append(StatusReport(msgspec.structs.replace(order)))

    def _error(self, order: Order, code: int, text: str) -> None:
        self._out.append(ErrorReport(order.client_id, order.order_id, code, text))

    def _take(self) -> list[Report]:
        out, self._out = self._out, []
        return out
