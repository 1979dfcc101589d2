"""What subscribers of account data are sent: each feed remembers what its client has seen and sends what differs.

Law: a feed reads the exchange and writes to its own session. `tick` says when it wants to be called again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Protocol

from actors.venue.simulator import account_values, responses
from actors.venue.simulator.account_values import Pnl, Value
from actors.venue.simulator.orders import ZERO, Position
from actors.venue.simulator.wire import UNSET_DOUBLE, encode, number

if TYPE_CHECKING:
    from actors.venue.simulator.session import Session

NS = 1_000_000_000
THREE_MINUTES_NS = 180 * NS
PNL_NS = NS
VALUES_NS = NS
SUMMARY = "reqAccountSummary"


class Feed(Protocol):
    """One subscription."""

    def tick(self, now_ns: int) -> int:
        """Send what has changed and return when to be called again."""

    def filled(self, p: Position, now_ns: int) -> None:
        """Hear that a fill has changed a position."""


class Values:
    """The account values that one client has seen; many fills in one second are told together at its end."""

    def __init__(self, session: Session, account: str, say: Callable[[Value], bytes]) -> None:
        self._session, self._account, self._say = session, account, say
        self._shown: dict[tuple[str, str, bool], Value] = {}
        self._pushed_ns = -VALUES_NS
        self._waits = False

    def tell(self, now_ns: int) -> None:
        """Send what differs from what was shown."""
        for v in account_values.account_values(self._session.gateway, self._account):
            if self._shown.get(v.key) != v:
                self._shown[v.key] = v
                self._session.send_tick(self._say(v))

    def filled(self, now_ns: int) -> None:
        if now_ns >= self._pushed_ns + VALUES_NS:
            self._pushed_ns = now_ns
            self.tell(now_ns)
        elif not self._waits:
            self._waits = True
            self._session.gateway.agenda.at(self._pushed_ns + VALUES_NS, self._later)

    def _later(self, now_ns: int) -> None:
        self._waits, self._pushed_ns = False, now_ns
        if not self._session.closing:
            self.tell(now_ns)


class AccountFeed:
    """reqAccountUpdates: values (6), portfolio (7) and the time (8)."""

    def __init__(self, session: Session, account: str) -> None:
        self._session, self._account = session, account
        self._values = Values(session, account, lambda v: encode(6, 2, v.tag, v.text, v.currency, account))
        self._portfolio: dict[int, bytes] = {}

    def tick(self, now_ns: int) -> int:
        self._values.tell(now_ns)
        for p in account_values.held(self._session.gateway, self._account):
            self._show(p)
        self._time(now_ns)
        return now_ns + THREE_MINUTES_NS

    def filled(self, p: Position, now_ns: int) -> None:
        if p.account == self._account:
            self._show(p)
            self._values.filled(now_ns)
            self._time(now_ns)

    def _show(self, p: Position) -> None:
        data = responses.portfolio(p, account_values.market_price(self._session.gateway, p))
        if self._portfolio.get(p.contract.con_id) != data:
            self._portfolio[p.contract.con_id] = data
            self._session.send_tick(data)

    def _time(self, now_ns: int) -> None:
        at = datetime.fromtimestamp(self._session.gateway.exchange_ns(now_ns) // NS, UTC)
        self._session.send_tick(encode(8, 1, f"{at:%H:%M}"))


class MultiFeed:
    """reqAccountUpdatesMulti (73). `ledger_only` leaves the ledgers and the net liquidation value."""

    def __init__(self, session: Session, req_id: int, accounts: tuple[str, ...], ledger_only: bool) -> None:
        def say(account: str, v: Value) -> bytes:
            if ledger_only and not v.ledger and v.tag != "NetLiquidation":
                return b""
            return encode(73, 1, req_id, account, "", v.tag, v.text, v.currency)

        self._values = {name: Values(session, name, partial(say, name)) for name in accounts}

    def tick(self, now_ns: int) -> int:
        for values in self._values.values():
            values.tell(now_ns)
        return now_ns + THREE_MINUTES_NS

    def filled(self, p: Position, now_ns: int) -> None:
        if p.account in self._values:
            self._values[p.account].filled(now_ns)


class PositionsFeed:
    """reqPositionsMulti (71)."""

    def __init__(self, session: Session, req_id: int, accounts: tuple[str, ...]) -> None:
        self._session, self._req_id, self._accounts = session, req_id, accounts
        self._shown = False

    def tick(self, now_ns: int) -> int:
        if not self._shown:
            self._shown = True
            for p in account_values.held(self._session.gateway):
                if p.quantity:
                    self.filled(p, now_ns)
        return now_ns + THREE_MINUTES_NS

    def filled(self, p: Position, now_ns: int) -> None:
        if p.account in self._accounts:
            self._session.send("positionMulti", responses.position_multi(p, self._req_id), now_ns, account=p.account,
                               symbol=p.contract.symbol, quantity=number(p.quantity))


class SummaryFeed:
    """reqAccountSummary (63)."""

    def __init__(self, session: Session, req_id: int, accounts: tuple[str, ...], tags: list[str]) -> None:
        self._session, self._req_id, self._tags = session, req_id, tags
        self._values: dict[str, dict[tuple[str, str, bool], Value]] = {name: {} for name in accounts}

    def tick(self, now_ns: int) -> int:
        for account, shown in self._values.items():
            for v in account_values.summary(self._session.gateway, account, self._tags):
                if shown.get(v.key) != v:
                    shown[v.key] = v
                    self._session.send_tick(encode(63, 1, self._req_id, account, v.tag, v.text, v.currency))
        return now_ns + THREE_MINUTES_NS

    def filled(self, p: Position, now_ns: int) -> None:
        """The summary is told every three minutes, fills or not."""


class PnlFeed:
    """reqPnL (94): daily, unrealized and realized."""

    def __init__(self, session: Session, req_id: int, accounts: tuple[str, ...]) -> None:
        self._session, self._req_id, self._accounts = session, req_id, accounts
        self._shown: Pnl | None = None

    def tick(self, now_ns: int) -> int:
        parts = [account_values.pnl(self._session.gateway, a) for a in self._accounts]
        found = Pnl(sum((p.daily for p in parts), ZERO), sum((p.unrealized for p in parts), ZERO),
                    sum((p.realized for p in parts), ZERO))
        if found != self._shown:
            self._shown = found
            self._session.send_tick(encode(94, self._req_id, *map(_money, (found.daily, found.unrealized,
                                                                          found.realized))))
        return now_ns + PNL_NS

    def filled(self, p: Position, now_ns: int) -> None:
        """The next second tells."""


class PnlSingleFeed:
    """reqPnLSingle (95): the same for one contract; unset values where none is held or was traded."""

    def __init__(self, session: Session, req_id: int, accounts: tuple[str, ...], con_id: int) -> None:
        self._session, self._req_id, self._accounts, self._con_id = session, req_id, accounts, con_id
        self._shown = b""

    def tick(self, now_ns: int) -> int:
        gateway = self._session.gateway
        found = [p for a in self._accounts
                 if (p := gateway.exchange.accounts.positions.get((a, self._con_id))) is not None]
        if found:
            price = account_values.market_price(gateway, found[0])
            sums = [sum(parts, ZERO) for parts in (
                [p.daily(price) for p in found], [p.unrealized(price) for p in found],
                [p.realized_today for p in found], [p.value(price) for p in found])]
            data = encode(95, self._req_id, number(sum((p.quantity for p in found), ZERO)), *map(_money, sums))
        else:
            data = encode(95, self._req_id, 0, UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE, UNSET_DOUBLE)
        if data != self._shown:
            self._shown = data
            self._session.send_tick(data)
        return now_ns + PNL_NS

    def filled(self, p: Position, now_ns: int) -> None:
        """The next second tells."""


def _money(value: Decimal) -> str:
    return number(value.quantize(Decimal("0.0001")))
