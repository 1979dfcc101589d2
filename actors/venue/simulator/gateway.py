"""The gateway in memory: sessions, exchange, market and journal, joined.

Law: no socket, no clock, no chance but the seed. Whoever holds a Gateway (the TCP server, a simulation, a test) brings
the time, moves the bytes, and calls `advance` when `advance` said that something is due.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from actors.venue.simulator import account_values, answers
from actors.venue.simulator.agenda import Agenda
from actors.venue.simulator.clock import Clock
from actors.venue.simulator.contracts import Contract, ContractBook
from actors.venue.simulator.derivatives import Followers
from actors.venue.simulator.desks import accounts
from actors.venue.simulator.exchange import Exchange
from actors.venue.simulator.faults.board import FaultBoard
from actors.venue.simulator.floor import Floor
from actors.venue.simulator.history import History
from actors.venue.simulator.history_bars import epoch, local
from actors.venue.simulator.history_pace import HistoryPace
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.link import TEXTS, Link
from actors.venue.simulator.orders import Order, Position
from actors.venue.simulator.persistence import Serial, Store
from actors.venue.simulator.reports import (
    ErrorReport,
    FillReport,
    OpenReport,
    PositionReport,
    Report,
    StatusReport,
    owner,
)
from actors.venue.simulator.session import Session
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.wire import number

NS = 1_000_000_000
IN_USE = "Unable to connect as the client id is already in use. Retry with a unique client id."


class MarketDriver(Protocol):
    """What moves prices: the seeded walk or model, a scenario, a replay (market.py, model.py, runner.py, replay.py).

    A driver gets the caller's time; what it does at times of the exchange it converts with `gateway.clock`.
    """

    def advance(self, now_ns: int) -> int | None:
        """Do what is due and return when to be called again; None: only after something happens."""

    def acknowledge(self, session: Session) -> None:
        """Hear that a client has processed what it was sent (lockstep)."""


class Gateway(Floor):
    """A simulated IB gateway without a socket."""

    def __init__(self, settings: GatewaySettings, journal: Journal | None = None, now_ns: int = 0,
                 contracts: ContractBook | None = None, clock: Clock | None = None) -> None:
        super().__init__(clock or Clock())
        self.settings = settings
        self.journal = journal or Journal()
        self.contracts = contracts or ContractBook()
        prefix = settings.exec_prefix or f"{now_ns // 1_000_000_000 & 0xFFFFFFFF:08x}"
        self.perm_ids, self.exec_numbers = Serial(settings.first_perm_id), Serial(1)
        self.exchange = Exchange(
            self.contracts, self.perm_ids, (f"0000e0d5.{prefix}.{n:08x}.01" for n in self.exec_numbers),
            settings.rules)
        self.exchange.accounts.opening_cash = settings.cash
        self.store: Store | None = None
        self.followers = Followers(self)
        self.exchange.opened = self.followers.opened
        self.driver: MarketDriver | None = None
        self.agenda = Agenda()
        self.sessions: list[Session] = []
        self.by_client: dict[int, Session] = {}
        self._numbers = itertools.count(1)
        self.opened_ns = self.turn_ns = now_ns
        """When it was made, and the latest moment of the caller at which it was asked for anything."""
        self.history = History(self.contracts, settings.seed, now_ns // NS)
        self.history_pace = HistoryPace()
        self._day_ns = self.day_end_ns = 0
        self.roll(now_ns)
        self.changes = 0       # grows with whatever a scenario may wait for
        self.away_until_ns = 0             # a restart: the port is refused until then
        self.link = Link(self)
        self.faults = FaultBoard(self, settings.fault_seed)

    # connections -----------------------------------------------------------------------------------------------

    def connect(self, now_ns: int) -> Session:
        """Open a conversation; its client speaks first. During a restart it is closed at once."""
        session = Session(self, next(self._numbers))
        if now_ns < self.away_until_ns:
            session.drop()
            return session
        self.sessions.append(session)
        if self.settings.hello_seconds:
            session.expect_hello(now_ns + int(self.settings.hello_seconds * NS))
        return session

    def admit(self, session: Session, client_id: int, now_ns: int) -> str | None:
        """Give the session its client id; return why not, if another one has it or there are too many."""
        if client_id in self.by_client or (self.faults.active and self.faults.lingers(client_id, now_ns)):
            return IN_USE
        if len(self.by_client) >= self.settings.max_clients:
            return f"Unable to connect as {self.settings.max_clients} clients are connected; there can be no more."
        self.by_client[client_id] = session
        self.changes += 1
        self.log(now_ns, "sim", client_id, "connect", {"session": session.number, "version": session.version})
        return None

    def disconnect(self, session: Session, now_ns: int) -> None:
        """Forget a client: its subscriptions end, its orders stay live (ib-wire.md 11)."""
        if session not in self.sessions:
            return
        self.sessions.remove(session)
        session.close()
        self.end_subscriptions(session)
        session.known()
        if self.by_client.get(session.client_id) is session:
            del self.by_client[session.client_id]
            if session.client_id == 0:
                self.exchange.auto_bind = False
            self.log(now_ns, "sim", session.client_id, "disconnect", {"session": session.number})
            if self.faults.active:
                self.faults.disconnected(session, now_ns)

    def end_subscriptions(self, session: Session) -> None:
        """End everything that a client is sent from time to time."""
        for subscription in session.subscriptions.values():
            self.unwatch(session, subscription)
        session.subscriptions.clear()
        session.end_streams()

    def log(self, now_ns: int, direction: str, client: int, msg: str, fields: dict[str, Any]) -> None:
        if not self.journal.on:
            self.journal.seq += 1
            return
        self.journal.write(now_ns, self.exchange_ns(now_ns), direction, client, msg, fields)

    @property
    def always_open(self) -> bool:
        chosen = self.settings.always_open
        return self.settings.replay is None if chosen is None else chosen

    # time ------------------------------------------------------------------------------------------------------

    def roll(self, now_ns: int) -> None:
        """Begin the exchange's next day, New York's, once it has come."""
        ex_ns = self.exchange_ns(now_ns)
        if self._day_ns <= ex_ns < self.day_end_ns:
            return
        goes_on, today = 0 < self.day_end_ns <= ex_ns, local(ex_ns // NS).date()
        self._day_ns, self.day_end_ns = epoch(today) * NS, epoch(today + timedelta(days=1)) * NS
        self.contracts.roll(today)
        self._begin_pnl_day()
        if goes_on and self.hours is None:        # an exchange with hours begins its day when it opens
            self.begin_day()

    def _begin_pnl_day(self) -> None:
        day = f"{self.contracts.today:%Y%m%d}"
        self.exchange.accounts.new_day(day, lambda p: account_values.market_price(self, p))

    def advance(self, now_ns: int) -> int | None:
        """Do everything that is due and return when something will be, on the caller's clock, or None."""
        self.turn_ns = now_ns
        due = self.driver.advance(now_ns) if self.driver is not None else None
        ex_ns = self.exchange_ns(now_ns)
        self.pass_time(ex_ns, now_ns)
        self.agenda.run(now_ns)
        event_ns = self.faults.on_clock(now_ns, ex_ns) if self.faults.active else None
        self.save()
        # This runs for every tick: usually nothing at all waits.
        for ns in (self.exchange.next_expiry_ns(), self.exchange_agenda.next_ns(), event_ns):
            if ns is not None and (when := self.clock.caller_ns(ns)) is not None and (due is None or when < due):
                due = when
        waiting = self.agenda.next_ns()
        return waiting if waiting is not None and (due is None or waiting < due) else due

    def acknowledge(self, session: Session) -> None:
        if self.driver is not None:
            self.driver.acknowledge(session)

    # reports ---------------------------------------------------------------------------------------------------

    def deliver(self, reports: Iterable[Report], now_ns: int) -> None:
        """Journal what the exchange did and tell the clients concerned."""
        self.changes += 1
        if self.faults.active:
            self.faults.deliver(list(reports), now_ns)
            return
        for report in reports:
            self.record(report, now_ns)
            self.tell(report, now_ns)

    def record(self, report: Report, now_ns: int) -> None:
        """Journal what happened at the exchange, whoever hears of it."""
        if isinstance(report, StatusReport):
            if report.fresh:
                fields = answers.sim_order_fields(report.order) if self.journal.on else {}
                self.log(now_ns, "sim", report.order.client_id, "order", fields)
        elif isinstance(report, FillReport):
            fields = answers.sim_execution_fields(report.execution) if self.journal.on else {}
            self.log(now_ns, "sim", report.execution.client_id, "execution", fields)

    def tell(self, report: Report, now_ns: int) -> None:
        """Say to the clients concerned what the exchange said."""
        if isinstance(report, PositionReport):
            for session in self.by_client.values():
                accounts.position_changed(session, report.position, now_ns)
            return
        if isinstance(report, StatusReport) and not report.told:
            return
        for session in self._concerned(report):
            answers.tell(session, report, now_ns)

    def _concerned(self, report: Report) -> list[Session]:
        """Return who hears of a report: its owner, and the Master client of every order but its errors."""
        client_id, master = owner(report), self.settings.master_client_id
        if master is None:              # the ordinary case, and the hot one
            session = self.by_client.get(client_id) if client_id is not None else None
            return [session] if session is not None else []
        clients = [] if client_id is None else [client_id]
        if master is not None and master != client_id and not isinstance(report, ErrorReport):
            clients.append(master)
            if isinstance(report, OpenReport | StatusReport):
                self.exchange.use_id(master, report.order.order_id)
        return [self.by_client[client] for client in clients if client in self.by_client]

    def known_order(self, client_id: int, order_id: int) -> Order | None:
        return self.exchange.known(client_id, order_id)

    def manual_order(self, order: Order, now_ns: int) -> None:
        """Enter an order as a human does in TWS; its client and order id are written by the exchange."""
        self.deliver(self.exchange.manual_order(order, self.exchange_ns(now_ns)), now_ns)

    # what lasts ------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Store what has changed; nothing is said to a client before what it tells of is stored."""
        if self.store is not None:
            self.store.save()

    def resume(self, now_ns: int) -> None:
        """Take up what the state file holds, as a gateway does that was stopped or killed and started again."""
        assert self.store is not None
        self.store.load()
        if not self.store.restored:
            return
        self._begin_pnl_day()
        for p in self.exchange.accounts.positions.values():
            self._log_opening(p, now_ns)
        for order in self.exchange.open_orders():
            self.log(now_ns, "sim", order.client_id, "order", answers.sim_order_fields(order))
        self._restarted(now_ns)
        if self.hours is not None:
            self.deliver(self.exchange.phase_changed(self.exchange_ns(now_ns)), now_ns)

    def close(self) -> None:
        """Close the journal and the state file."""
        self.journal.close()
        store, self.store = self.store, None
        if store is not None:
            store.close()

    def restart(self, now_ns: int, *, away_ns: int = 0, rollback: int | None = None, warn: bool = False) -> None:
        """Restart as a gateway does daily (ib-wire.md 11): every connection ends, and new ones are refused for a while.

        Orders that were not transmitted are gone, and so is what waited for the link; the books live on. `rollback`
        is how far the ids go back, `warn` says 1300 first. Whoever serves the gateway cuts the sockets.
        """
        self.log(now_ns, "sim", -1, "restart", {"away_s": away_ns / NS, "clients": len(self.by_client)})
        self.away_until_ns = now_ns + away_ns
        self.link.forget_kept(now_ns)
        for session in list(self.sessions):
            if warn and session.client_id >= 0:
                session.error(-1, 1300, TEXTS[1300], now_ns)
            self.disconnect(session, now_ns)
        self._restarted(now_ns, rollback)

    def _restarted(self, now_ns: int, rollback: int | None = None) -> None:
        back = self.settings.nextid_rollback if rollback is None else rollback
        self.deliver(self.exchange.restarted(self.exchange_ns(now_ns), back), now_ns)
        self.log(now_ns, "sim", -1, "gateway_restarted", {"orders": len(self.exchange.orders)})
        self.save()

    def open_position(self, account: str, contract: Contract, quantity: Decimal, cost: Decimal, now_ns: int) -> None:
        """Give an account a position before anybody trades; what a state file brought back stays as it is."""
        if self.store is not None and self.store.restored:
            return
        position = Position(account=account, contract=contract, quantity=quantity, avg_cost=cost,
                            day=self.exchange.accounts.day)
        position.day_value = position.value(account_values.market_price(self, position))
        self.exchange.accounts.positions[account, contract.con_id] = position
        self._log_opening(position, now_ns)

    def _log_opening(self, p: Position, now_ns: int) -> None:
        self.log(now_ns, "sim", -1, "opening_position",
                 {"account": p.account, "symbol": p.contract.symbol, "quantity": number(p.quantity),
                  "price": number(p.avg_cost)})

    def describe(self) -> dict[str, Any]:
        """Return the settings as plain values, for the journal's first line."""
        plain: dict[str, Any] = msgspec.to_builtins(self.settings)
        return plain
