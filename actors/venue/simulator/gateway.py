"""The gateway in memory: sessions, exchange, market and journal, joined.

Law: no socket, no clock, no chance but the seed. Whoever holds a Gateway (the TCP server, a simulation, a test) brings
the time, moves the bytes, and calls `advance` when `advance` said that something is due.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from actors.venue.simulator import account_values, answers
from actors.venue.simulator.agenda import Agenda
from actors.venue.simulator.contracts import Contract, ContractBook
from actors.venue.simulator.derivatives import Followers
from actors.venue.simulator.desks import accounts
from actors.venue.simulator.exchange import Exchange
from actors.venue.simulator.feeds import Subscription, Trade
from actors.venue.simulator.history import History
from actors.venue.simulator.history_pace import HistoryPace
from actors.venue.simulator.journal import Journal
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
from actors.venue.simulator.validation import NEW_YORK
from actors.venue.simulator.wire import number

NS = 1_000_000_000
DAY_NS = 86_400 * NS


class MarketDriver(Protocol):
    """What moves prices: the seeded walk, a scenario or a replay (market.py, scenario.py)."""

    virtual_ns: int | None
    """The exchange's own time where it differs from the caller's."""

    def advance(self, now_ns: int) -> int | None:
        """Do what is due and return when to be called again; None: only after something happens."""

    def acknowledge(self, session: Session) -> None:
        """Hear that a client has processed what it was sent (lockstep)."""


class Gateway:
    """A simulated IB gateway without a socket."""

    def __init__(self, settings: GatewaySettings, journal: Journal | None = None, now_ns: int = 0,
                 contracts: ContractBook | None = None) -> None:
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
        self._watchers: dict[int, list[tuple[Session, Subscription]]] = {}
        self._numbers = itertools.count(1)
        self.opened_ns = now_ns
        self.history = History(self.contracts, settings.seed, now_ns // NS)
        self.history_pace = HistoryPace()
        self._day_ns = -DAY_NS
        self.roll(now_ns)
        self.changes = 0       # grows with whatever a scenario may wait for

    # connections -----------------------------------------------------------------------------------------------

    def connect(self, now_ns: int) -> Session:
        """Open a conversation; its client speaks first."""
        session = Session(self, next(self._numbers))
        self.sessions.append(session)
        if self.settings.hello_seconds:
            session.expect_hello(now_ns + int(self.settings.hello_seconds * NS))
        return session

    def admit(self, session: Session, client_id: int, now_ns: int) -> bool:
        """Give the session its client id, unless another one has it."""
        if client_id in self.by_client or len(self.by_client) >= self.settings.max_clients:
            return False
        self.by_client[client_id] = session
        self.changes += 1
        self.log(now_ns, "sim", client_id, "connect", {"session": session.number, "version": session.version})
        return True

    def disconnect(self, session: Session, now_ns: int) -> None:
        """Forget a client: its subscriptions end, its orders stay live (ib-wire.md 11)."""
        if session not in self.sessions:
            return
        self.sessions.remove(session)
        session.close()
        for subscription in session.subscriptions.values():
            self.unwatch(session, subscription)
        session.subscriptions.clear()
        session.end_streams()
        session.known()
        if self.by_client.get(session.client_id) is session:
            del self.by_client[session.client_id]
            if session.client_id == 0:
                self.exchange.auto_bind = False
            self.log(now_ns, "sim", session.client_id, "disconnect", {"session": session.number})

    def log(self, now_ns: int, direction: str, client: int, msg: str, fields: dict[str, Any]) -> None:
        self.journal.write(now_ns, self.exchange_ns(now_ns), direction, client, msg, fields)

    @property
    def always_open(self) -> bool:
        chosen = self.settings.always_open
        return self.settings.replay is None if chosen is None else chosen

    # time ------------------------------------------------------------------------------------------------------

    def exchange_ns(self, now_ns: int) -> int:
        """Return the exchange's own time: the replayed one in a replay, else the caller's."""
        virtual = self.driver.virtual_ns if self.driver is not None else None
        return now_ns if virtual is None else virtual

    def roll(self, now_ns: int) -> None:
        """Begin the exchange's next day, New York's, once it has come."""
        ex_ns = self.exchange_ns(now_ns)
        if not self._day_ns <= ex_ns < self._day_ns + DAY_NS:
            today = datetime.fromtimestamp(ex_ns // NS, NEW_YORK).replace(hour=0, minute=0, second=0)
            self._day_ns = int(today.timestamp()) * NS
            self.contracts.roll(today.date())
            self._begin_pnl_day()

    def _begin_pnl_day(self) -> None:
        day = f"{self.contracts.today:%Y%m%d}"
        self.exchange.accounts.new_day(day, lambda p: account_values.market_price(self, p))

    def advance(self, now_ns: int) -> int | None:
        """Do everything that is due and return when something will be, or None."""
        due = self.driver.advance(now_ns) if self.driver is not None else None
        self.roll(now_ns)
        ex_ns = self.exchange_ns(now_ns)
        expiry = self.exchange.next_expiry_ns()
        if expiry is not None and expiry <= ex_ns:
            self.deliver(self.exchange.expire(ex_ns), now_ns)
            expiry = self.exchange.next_expiry_ns()
        self.agenda.run(now_ns)
        self.save()
        later = [due, self.agenda.next_ns(), expiry if ex_ns == now_ns else None]
        return min((when for when in later if when is not None), default=None)

    def acknowledge(self, session: Session) -> None:
        if self.driver is not None:
            self.driver.acknowledge(session)

    # market ----------------------------------------------------------------------------------------------------

    def watch(self, session: Session, subscription: Subscription, now_ns: int) -> None:
        self._watchers.setdefault(subscription.con_id, []).append((session, subscription))
        self.changes += 1

    def unwatch(self, session: Session, subscription: Subscription) -> None:
        watchers = self._watchers.get(subscription.con_id, [])
        self._watchers[subscription.con_id] = [w for w in watchers if w[1] is not subscription]

    def watchers(self, con_id: int) -> list[tuple[Session, Subscription]]:
        return self._watchers.get(con_id, [])

    def set_quote(self, contract: Contract, now_ns: int, *, bid: Decimal | None, ask: Decimal | None,
                  bid_size: Decimal | None = None, ask_size: Decimal | None = None, match: bool = True) -> None:
        """Change the bid and ask of one contract, show them to who watches, and match."""
        ex_ns = self.exchange_ns(now_ns)
        q = self.exchange.quote_of(contract.con_id)
        if (bid, ask, bid_size, ask_size) != (q.bid, q.ask, q.bid_size, q.ask_size):
            q.bid, q.ask, q.bid_size, q.ask_size, q.time_ns = bid, ask, bid_size, ask_size, ex_ns
            self.history.quoted(contract, q)
            for session, subscription in self._watchers.get(contract.con_id, ()):
                data = subscription.quote(q)
                if data:
                    session.send_tick(data)
        self.followers.moved(contract, now_ns)
        if match:
            self.deliver(self.exchange.market(contract.con_id, ex_ns), now_ns)

    def trade(self, contract: Contract, trade: Trade, now_ns: int) -> None:
        """Print one trade: show it to who watches, and match if it may move the price."""
        q = self.exchange.quote_of(contract.con_id)
        q.volume += trade.size
        self.history.printed(contract, trade)
        if trade.eligible:
            price = trade.price
            q.last, q.last_size, q.time_ns = price, trade.size, trade.time_ns
            q.open = price if q.open is None else q.open
            q.high = price if q.high is None or price > q.high else q.high
            q.low = price if q.low is None or price < q.low else q.low
        for session, subscription in self._watchers.get(contract.con_id, ()):
            data = subscription.trade(trade, q.volume)
            if data:
                session.send_tick(data)
        if trade.eligible:
            self.followers.moved(contract, now_ns)
            expiry = self.exchange.next_expiry_ns()
            if expiry is not None and expiry <= trade.time_ns:
                self.deliver(self.exchange.expire(trade.time_ns), now_ns)     # before this print can fill it
            reports = self.exchange.market(contract.con_id, trade.time_ns)
            if reports:
                self.deliver(reports, now_ns)

    # reports ---------------------------------------------------------------------------------------------------

    def deliver(self, reports: Iterable[Report], now_ns: int) -> None:
        """Journal what the exchange did and tell the clients concerned."""
        self.changes += 1
        for report in reports:
            if isinstance(report, StatusReport):
                if report.fresh:
                    fields = answers.sim_order_fields(report.order) if self.journal.on else {}
                    self.log(now_ns, "sim", report.order.client_id, "order", fields)
                if not report.told:
                    continue
            elif isinstance(report, FillReport):
                fields = answers.sim_execution_fields(report.execution) if self.journal.on else {}
                self.log(now_ns, "sim", report.execution.client_id, "execution", fields)
            elif isinstance(report, PositionReport):
                for session in self.by_client.values():
                    accounts.position_changed(session, report.position, now_ns)
                continue
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

    def close(self) -> None:
        """Close the journal and the state file."""
        self.journal.close()
        if self.store is not None:
            self.store.close()
            self.store = None

    def restart(self, now_ns: int) -> None:
        """Do to the books what a restart of the gateway does (ib-wire.md 11); whoever serves it cuts the sockets."""
        for session in list(self.sessions):
            self.disconnect(session, now_ns)
        self._restarted(now_ns)

    def _restarted(self, now_ns: int) -> None:
        self.deliver(self.exchange.restarted(self.exchange_ns(now_ns), self.settings.nextid_rollback), now_ns)
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
