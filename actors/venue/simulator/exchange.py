"""The pure exchange: takes orders, matches them against quotes, and reports what became of them.

Law 1: it knows nothing of the wire, of sockets, of clocks and of chance; time comes with each call, ids from iterators.
Law 2: every public call returns the reports that it caused, in the order in which a gateway would send them.
"""

from __future__ import annotations

from decimal import Decimal

from actors.venue.simulator import amendment, combo_fills, combos, previews, validation
from actors.venue.simulator.book import STOPS, Book
from actors.venue.simulator.holds import LOCATE
from actors.venue.simulator.orders import UNSET_ID, Execution, Order, Position
from actors.venue.simulator.reports import Report
from actors.venue.simulator.rolls import MS
from actors.venue.simulator.sessions import Sessions
from actors.venue.simulator.timetable import Reaction

BY_TRADER = "Cancelled by Trader"
BY_CONDITIONS = "Cancelled by its conditions"


class Exchange(Sessions):
    """Takes orders, matches them against quotes, and reports what became of them."""

    # orders ----------------------------------------------------------------------------------------------------

    def place(self, order: Order, now_ns: int) -> list[Report]:
        """Take a new order, or amend the live order of the same client and id (ib-wire.md 6.2)."""
        known = self.known(order.client_id, order.order_id)
        if order.what_if:
            self._new(order, now_ns)
        elif known is not None and not known.alive:
            self._tell.error(order, 104, "Cannot modify a filled or cancelled order.")
        elif known is not None and known.transmit:
            self._modify(known, order, now_ns)
        elif known is not None:
            self._new(order, now_ns, replaces=known)
        elif order.order_id <= self.last_id.get(order.client_id, 0) and not self.rules.lower_ids:
            self._tell.error(order, 103, "Duplicate order id")
        else:
            self.use_id(order.client_id, order.order_id)
            self._new(order, now_ns)
        return self._tell.take()

    def manual_order(self, order: Order, now_ns: int) -> list[Report]:
        """Take an order that a human entered in TWS: no client's, of orderId 0, until client 0 binds it."""
        self.manuals += 1
        order.client_id, order.order_id, order.manual = 0, 0, self.manuals
        self._new(order, now_ns)
        return self._tell.take()

    def bind_manual(self) -> list[Report]:
        """Bind every live manual order to client 0: each gets a negative id, told by orderBound."""
        for order in self.open_orders():
            if not order.bound:
                self._bind(order)
                if self.rules.bind_resubmits:
                    self._resubmit(order)
                self._tell.order(order)
        return self._tell.take()

    def cancel(self, client_id: int, order_id: int, now_ns: int) -> list[Report]:
        """Cancel on request; a member takes its whole OCA group along (trading-rules.md 2)."""
        order = self.known(client_id, order_id)
        if order is None:
            text = f"OrderId {order_id} that needs to be cancelled is not found."
            self._tell.error_to(client_id, order_id, 10147, text)
        elif not order.alive or order.pending == "cancel":
            self._too_late(order, self.rules.late_cancel_code)
        else:
            members = [order]
            if order.oca_group and self.rules.oca_cancel_cascade:
                members += [m for m in self.groups.members(order) if m is not order]
            for member in members:
                if member.key in self.orders and member.pending != "cancel":
                    self._cancel_requested(member, now_ns, self.rules.cancel_race if member is order else "cancel")
        return self._tell.take()

    def cancel_all(self, now_ns: int) -> list[Report]:
        """Cancel every live order of every client, and manual ones (reqGlobalCancel)."""
        for order in list(self.orders.values()):
            if order.alive and order.pending != "cancel":
                self._cancel_requested(order, now_ns)
        return self._tell.take()

    def system_cancel(self, order: Order, reason: str, now_ns: int) -> list[Report]:
        """Cancel a live order as the venue does unasked: its group stays as it is."""
        if order.key in self.orders:
            self._end_cancelled(order, now_ns, reason, say_reason=True)
        return self._tell.take()

    def reject(self, order: Order, code: int, reason: str, now_ns: int) -> list[Report]:
        """Reject a live order after it was accepted."""
        if order.key in self.orders:
            self._refuse(order, code, reason, now_ns)
        return self._tell.take()

    def fill(self, order: Order, quantity: Decimal, price: Decimal, now_ns: int) -> list[Report]:
        """Trade a live order outside the book, as a scenario says; quantity is capped at what may still trade."""
        quantity = min(quantity, order.free)
        if order.key in self.orders and quantity > 0:
            self._execute(order, quantity, price, now_ns, resting=True)
        return self._tell.take()

    def fill_all(self, fills: list[tuple[Order, Decimal, Decimal]], now_ns: int) -> list[Report]:
        """Trade several orders at the same instant: no group reacts before all of them have traded (a race)."""
        done: list[tuple[Order, Decimal, Decimal]] = []
        for order, quantity, price in fills:
            if order.key not in self.orders or self._one_at_a_time(order, [o for o, _, _ in done]):
                continue
            before = order.remaining
            quantity = min(quantity, order.free)
            if quantity <= 0:
                continue
            self._book_fill(order, quantity, price, now_ns, resting=True)
            done.append((order, quantity, before))
        for order, quantity, before in done:
            self.after_fill(order, quantity, before, now_ns)
        return self._tell.take()

    def expire(self, now_ns: int) -> list[Report]:
        """Do what is due by now: end orders whose time is over, finish what the venue was about."""
        while (due := self.timetable.take(now_ns)) is not None:
            kind, key, reaction = due
            if kind == "react":
                filled = self.orders.get(key) or self.done.get(key)
                if reaction is not None and filled is not None:
                    self._group_reacts(filled, reaction.quantity, reaction.leaves_before, now_ns)
                continue
            order = self.orders[key]
            if kind == "expire":
                self._end_cancelled(order, now_ns, "Expired", with_202=self.rules.expiry_202)
            elif kind == "cancel":
                self._end_cancelled(order, now_ns, order.done_text)
            else:
                order.pending = ""
                self._accept(order, now_ns)
                self._activate(order, now_ns)
        self._let_go(self.holds.timed(now_ns), now_ns)
        return self._tell.take()

    def restarted(self, now_ns: int, rollback: int = 0) -> list[Report]:
        """Do what a restart of the gateway does (ib-wire.md 11): what was not transmitted is lost, DAY orders of an
        earlier day are over, GTC orders and ids live on; ids may be handed out again."""
        self.drop_unsent()
        self.roll_back_ids(rollback)
        today = validation.local_date(now_ns)
        for order in list(self.orders.values()):
            if order.key in self.orders and order.tif == "DAY" and validation.local_date(order.placed_ns) < today:
                self._end_cancelled(order, now_ns, "Expired", with_202=self.rules.expiry_202)
        for order in list(self.orders.values()):
            if order.key in self.orders and not order.pending and not self.holds.knows(order):
                self._watch_again(order, now_ns)
        return self._tell.take()

    # market ----------------------------------------------------------------------------------------------------

    def market(self, con_id: int, now_ns: int) -> list[Report]:
        """Match after the quote of this contract was changed by the caller."""
        book = self.book(con_id)
        book.quote.time_ns = now_ns
        self._match(book, now_ns)
        if self.combos.by_id:
            for combo in self.combos.with_leg(con_id):
                if combo.contract.con_id in self.books:
                    self._match(self.book(combo.contract.con_id), now_ns)
        if self.holds.watches:
            self._let_go(self.holds.moved(con_id, now_ns), now_ns)
        return self._tell.take()

    def _match(self, book: Book, now_ns: int) -> None:
        for order in book.touched():
            if order.key in book.orders:         # a fill before this one may have taken it away
                self._work(order, now_ns, arriving=False)

    def phase_changed(self, now_ns: int) -> list[Report]:
        """Let every working order hear that the exchange's hours went from one phase to the next."""
        for order in self._rephase(now_ns):
            if order.key in self.orders:
                self._work(order, now_ns, arriving=True)
        return self._tell.take()

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
                self._tell.error(order, problem.code, problem.text)
            return
        if order.what_if:
            order.status, order.preview = "PreSubmitted", previews.preview(self, order)
            self._tell.what_if(order)
            return
        if replaces is not None:
            self._forget(replaces)
        self._seq += 1
        order.seq, order.placed_ns = self._seq, now_ns
        self._enroll(order)
        if not order.transmit:
            return
        family = self.families.released_by(order, self.orders)
        for member in family:
            member.transmit = True
            if self.rules.accept_delay_ms:
                self._pend(member, "accept", self.rules.accept_delay_ms, now_ns)
            else:
                self._accept(member, now_ns)
        for member in family:
            if member.key in self.orders and not member.pending:
                self._activate(member, now_ns)

    def _accept(self, order: Order, now_ns: int) -> None:
        order.perm_id = order.perm_id or next(self.perm_ids)
        self._warn(order)
        order.expires_ns = validation.expiry_ns(order, now_ns, self.rules, self.hours)
        self.timetable.enter(order)
        if order.manual and self.auto_bind:
            self._bind(order)
        order.status, order.why_held = "PreSubmitted", self._own_hold(order)
        if self.families.waits(order, self.orders, self.rules):
            order.why_held = "child"
        at_once = not order.why_held and not self.holds.wanted(order) and self._in_hours(order, now_ns)
        if self.rules.arrival == "direct" and at_once:
            order.status = "Submitted"
        self._tell.accepted(order)

    def _warn(self, order: Order) -> None:
        """Settle what an accepted order leaves open, and say so: each is a warning, and the order is live."""
        if not order.tif:
            order.tif = self.rules.preset_tif
            if self.rules.empty_tif_warning:
                self._tell.error(order, 10349, f"Order TIF was set to {order.tif} based on order preset.")
        if self.rules.zone_warning and any(map(validation.lacks_zone, validation.times_of(order))):
            self._tell.error(order, 2174, validation.ZONE_WARNING)
        ignored = order.order_type in STOPS and not self.rules.stop_outside_rth
        if order.outside_rth and (ignored or (order.order_type == "MKT" and self.hours is not None)):
            order.outside_rth = False
            self._tell.error(order, 2109, validation.RTH_WARNING)

    def _bind(self, order: Order) -> None:
        order.order_id = -order.manual
        self._tell.bound(order)

    def _resubmit(self, order: Order) -> None:
        """Cancel and place anew at the exchange: the order stands behind all others now."""
        works = order.key in self.book(order.contract.con_id).orders
        self._forget(order)
        self._seq += 1
        order.seq = self._seq
        self.readmit(order, works)

    def _activate(self, order: Order, now_ns: int) -> None:
        """Let an accepted order meet the market, unless it waits for its parent."""
        if self.families.waits(order, self.orders, self.rules):
            return
        if order.why_held == "child":
            order.why_held = self._own_hold(order)
        if not self._waits(order, now_ns):
            self._start(order, now_ns)

    def _watch_again(self, order: Order, now_ns: int) -> None:
        """Watch an order that came back from a file; what it has seen of its conditions is not in there."""
        if order.key not in self.book(order.contract.con_id).orders:
            self._activate(order, now_ns)
        elif order.instructions.conditions_cancel:
            self.holds.watch(order, now_ns)
            self._heed(order, now_ns)

    def _heed(self, order: Order, now_ns: int) -> None:
        """Cancel a working order if its conditions say so."""
        if order.key in self.orders and self.holds.cancels(order, now_ns):
            self._end_cancelled(order, now_ns, BY_CONDITIONS)

    def _let_go(self, ready: list[Order], now_ns: int) -> None:
        """Let orders work whose conditions have come true, or cancel them if that is what the conditions are for."""
        for order in ready:
            works = self.holds.let_go(order, now_ns)
            if works:
                self._start(order, now_ns)
            elif works is False:
                self._end_cancelled(order, now_ns, BY_CONDITIONS)

    def _start(self, order: Order, now_ns: int) -> None:
        """Let an order that waits for nothing meet the market."""
        order.why_held = "" if order.why_held == LOCATE else order.why_held
        self.book(order.contract.con_id).add(order)
        self._note(order)
        waits = self._awaits_opening(order, now_ns) or (order.order_type in STOPS and not order.triggered)
        untold = not waits and order.status != "Submitted"
        if untold:
            order.status = "Submitted"
            if self.rules.arrival == "both":
                self._tell.order(order)
                untold = False
        before = order.filled
        self._work(order, now_ns, arriving=True)
        if order.key not in self.orders:
            return
        if order.tif in ("IOC", "FOK"):
            self._end_unfilled(order, now_ns)
        elif untold and order.filled == before:
            self._tell.order(order)
        self._heed(order, now_ns)

    def _modify(self, old: Order, new: Order, now_ns: int) -> None:
        problem = amendment.problem_of(old, new, self)
        if problem is not None:
            self._tell.error(new, problem.code, problem.text)
            return
        old.total, old.lmt, old.aux = new.total, new.lmt, new.aux
        old.tif = new.tif or old.tif
        held = old.order_type in STOPS and not old.triggered
        old.order_type, old.outside_rth = new.order_type, new.outside_rth
        old.trail_percent, old.trigger_method = new.trail_percent, new.trigger_method
        old.lmt_offset = new.lmt_offset
        if new.trail_stop is not None:
            old.trail_stop = new.trail_stop
        old.order_ref = new.order_ref
        old.good_till_date = new.good_till_date
        held_anew = validation.waits_for(old) != validation.waits_for(new)
        if held_anew:
            self.holds.leave(old)
        old.extras, old.instructions, old.all_or_none = new.extras, new.instructions, new.all_or_none
        old.modifies += 1
        self._warn(old)
        old.expires_ns = validation.expiry_ns(old, now_ns, self.rules, self.hours)
        self.timetable.enter(old)
        book = self.book(old.contract.con_id)
        book.dirty()
        if held and old.order_type not in STOPS and old.why_held == "trigger":
            old.status, old.why_held = "Submitted", ""
        if held_anew and old.remaining > 0:
            book.remove(old)
            old.status = "PreSubmitted"
        self._tell.order(old)
        if old.remaining <= 0:
            self._complete(old, now_ns)
        elif held_anew:
            self._activate(old, now_ns)
        elif old.key in book.orders:
            self._work(old, now_ns, arriving=True)
            if old.key in self.orders and old.tif in ("IOC", "FOK"):
                self._end_unfilled(old, now_ns)

    # inside: matching ------------------------------------------------------------------------------------------

    def _work(self, order: Order, now_ns: int, arriving: bool) -> None:
        """Trigger and trade one working order as far as the present market lets it."""
        book = self.book(order.contract.con_id)
        if book.quote.halted > 0 or self._shielded(order) or not self._in_hours(order, now_ns):
            return                    # nothing triggers or trades in a halt, or out of its hours
        if order.order_type in STOPS and not order.triggered:
            before = (order.trail_stop, order.touches)
            triggered = book.check_trigger(order)
            if before != (order.trail_stop, order.touches):
                self._note(order)
            if not triggered:
                return
            book.dirty()
            if order.status != "PendingCancel":
                order.status = "Submitted"
            order.why_held = ""
            self._tell.order(order)
            arriving = True
        combo = self.combos.by_id.get(order.contract.con_id)
        if combo is not None and order.legging:
            combo_fills.finish_legging(self, combo, order, now_ns)
        price = book.fill_price(order, arriving) if order.key in self.orders else None
        if price is None:
            return
        displayed = self.rules.liquidity == "displayed"
        quantity = book.takes(order, displayed)
        if quantity <= 0:
            return
        if displayed:
            book.consume(order, quantity)
            if combo is not None:
                combos.consume(combo, self.quote_of, order.is_buy, quantity)
        if combo is not None and order.instructions.non_guaranteed and self.rules.non_guaranteed == "one_leg":
            combo_fills.begin_legging(self, combo, order, quantity, now_ns)
        else:
            self._execute(order, quantity, price, now_ns, resting=not arriving)

    def _execute(self, order: Order, quantity: Decimal, price: Decimal, now_ns: int, resting: bool) -> None:
        before = order.remaining
        self._book_fill(order, quantity, price, now_ns, resting)
        self.after_fill(order, quantity, before, now_ns)

    def _book_fill(self, order: Order, quantity: Decimal, price: Decimal, now_ns: int, resting: bool) -> None:
        """Book one execution and tell it (ib-wire.md 6.1)."""
        order.count_fill(quantity, price)
        combo = self.combos.by_id.get(order.contract.con_id)
        if combo is not None:
            self.tell_fill(order, combo_fills.book(self, combo, order, quantity, price, now_ns, resting), now_ns)
            return
        commission = self.accounts.commission_due(order)
        order.commission += commission
        position, realized = self.accounts.book(order, quantity, price, commission)
        execution = Execution(
            exec_id=next(self.exec_ids), client_id=order.client_id,
            order_id=order.order_id if order.bound else UNSET_ID, perm_id=order.perm_id,
            order_ref=order.order_ref, account=order.account, contract=order.contract,
            side="BOT" if order.is_buy else "SLD", quantity=quantity, price=price, cum_quantity=order.filled,
            avg_price=order.avg_price, time_ns=now_ns, commission=commission, realized=realized,
            liquidity=1 if resting else 2)
        self.tell_fill(order, [(execution, position)], now_ns)

    def tell_fill(self, order: Order, fills: list[tuple[Execution, Position | None]], now_ns: int) -> None:
        """Record what was traded, with the position that it left, and tell it; a combination's own fill leaves none."""
        for execution, _ in fills:
            self.record(execution)
        racing = order.status == "PendingCancel"
        if order.remaining <= 0:
            self._retire(order, "Filled", now_ns, f"Filled Size: {order.filled}")
        self._tell.filled(order, fills, racing)
        if racing and not order.alive:
            self._too_late(order, 161)

    def after_fill(self, order: Order, quantity: Decimal, before: Decimal, now_ns: int) -> None:
        """Do what a fill means for the order's group, its children, and the orders whose condition it was."""
        if order.oca_group and self.rules.oca_delay_ms:
            self.timetable.react_later(Reaction(
                due_ns=now_ns + self.rules.oca_delay_ms * MS, key=order.key, quantity=quantity, leaves_before=before))
        elif order.oca_group:
            self._group_reacts(order, quantity, before, now_ns)
        if order.remaining <= 0 or self.rules.child_activation == "partial":
            for child in self.families.children(order):
                if child.key in self.orders and child.why_held == "child":
                    self._activate(child, now_ns)
        self.hear_fills(now_ns)

    def hear_fills(self, now_ns: int) -> None:
        """Tell conditions of the latest executions, and let go whoever waited for one."""
        for execution in self.unheard():
            self._let_go(self.holds.traded(execution, now_ns), now_ns)

    # inside: groups --------------------------------------------------------------------------------------------

    def _group_reacts(self, order: Order, quantity: Decimal, before: Decimal, now_ns: int) -> None:
        self._note(order)             # its group may close, long after the order itself did
        for sibling, new_total in self.groups.after_fill(order, quantity, before, self.rules):
            if sibling.key not in self.orders:
                continue
            if new_total is None:
                self._end_cancelled(sibling, now_ns, "Cancelled by OCA")
            elif new_total != sibling.total:
                sibling.total = new_total
                if sibling.perm_id:              # else nobody was told of it yet
                    self._tell.order(sibling)

    # inside: endings -------------------------------------------------------------------------------------------

    def _cancel_requested(self, order: Order, now_ns: int, race: str = "cancel") -> None:
        """Begin the cancel that a client or a human asked for; it may take its time, or lose a race."""
        if order.perm_id:
            order.status, order.done_text = "PendingCancel", BY_TRADER
            if self.rules.pending_cancel:
                self._tell.status(order)
            else:
                self._note(order)
            if race != "cancel":
                self._lose_race(order, race, now_ns)
            if order.key not in self.orders:
                return
            if self.rules.cancel_delay_ms:
                self._pend(order, "cancel", self.rules.cancel_delay_ms, now_ns)
                return
        self._end_cancelled(order, now_ns, BY_TRADER)

    def _lose_race(self, order: Order, race: str, now_ns: int) -> None:
        """Fill an order that is being cancelled, all or half of it; one that does not work yet cannot fill."""
        book = self.book(order.contract.con_id)
        price = order.lmt or book.fill_price(order, arriving=True)
        quantity = order.free if race == "fill" else order.free // 2
        held = order.key not in book.orders or (order.order_type in STOPS and not order.triggered)
        if price is not None and quantity > 0 and not held:
            self._execute(order, quantity, price, now_ns, resting=True)

    def _complete(self, order: Order, now_ns: int) -> None:
        """End an order that an amendment left with nothing to fill."""
        self._retire(order, "Filled", now_ns, f"Filled Size: {order.filled}")
        self._tell.order(order)
        self.after_fill(order, Decimal(0), Decimal(0), now_ns)
