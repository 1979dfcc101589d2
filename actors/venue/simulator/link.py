"""The gateway's own connection to IB: lost and restored while its clients stay connected (ib-wire.md 11).

Law: while it is down the exchange goes on and nobody is told, neither then nor later; a client asks, and is answered
from what the gateway knew when the line broke. Prices stop. Orders and cancels are kept and sent at the restore, in
order, or are lost, by the setting `resubmit_orders`. What only IB's servers could answer stays unanswered.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import msgspec

from actors.venue.simulator.desks import orders
from actors.venue.simulator.order_request import PlaceOrder
from actors.venue.simulator.requests import Request

if TYPE_CHECKING:
    from actors.venue.simulator.exchange import Exchange
    from actors.venue.simulator.gateway import Gateway
    from actors.venue.simulator.session import Session

INSTRUCTIONS = frozenset({"placeOrder", "cancelOrder", "reqGlobalCancel"})
REMEMBERED = frozenset({"reqOpenOrders", "reqAllOpenOrders", "reqCompletedOrders", "reqExecutions", "reqPositions",
                        "reqPositionsMulti", "reqAccountUpdates", "reqAccountUpdatesMulti", "reqAccountSummary"})
OWN = frozenset({"reqCurrentTime", "reqIds", "reqManagedAccts", "reqAutoOpenOrders", "reqMarketDataType",
                 "setServerLogLevel", "reqUserInfo", "reqMarketRule"})
TEXTS = {
    1100: "Connectivity between IBKR and Trader Workstation has been lost.",
    1101: "Connectivity between IBKR and Trader Workstation has been restored - data lost.",
    1102: "Connectivity between IBKR and Trader Workstation has been restored - data maintained. "
          "All data farms are connected: usfarm; ushmds; secdefil.",
    1300: "TWS socket port has been reset and this connection is being dropped.",
    2110: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
}
FARMS_DOWN = {"data": (2103, "Market data farm connection is broken:usfarm"),
              "hmds": (2105, "HMDS data farm connection is broken:ushmds"),
              "secdef": (2157, "Sec-def data farm connection is broken:secdefil")}
FARMS_UP = {"data": (2104, "Market data farm connection is OK:usfarm"),
            "hmds": (2106, "HMDS data farm connection is OK:ushmds"),
            "secdef": (2158, "Sec-def data farm connection is OK:secdefil")}
MAX_KEPT = 10_000


class Link:
    """Whether the gateway has IB, and what waits until it has."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.down = False
        self.farms_down: frozenset[str] = frozenset()
        self._keeps = True
        self._remembered: Exchange | None = None
        self._kept: list[tuple[Session, Request | PlaceOrder]] = []
        self.missed = 0

    @property
    def silent(self) -> bool:
        """Return whether no prices come."""
        return self.down or "data" in self.farms_down

    def lose(self, now_ns: int, *, code: int = 1100, keep: bool | None = None) -> None:
        """Lose IB: say so, and fall silent."""
        if self.down:
            return
        gateway = self.gateway
        self.down, self.missed = True, 0
        self._keeps = gateway.settings.resubmit_orders if keep is None else keep
        self._remembered = _memory_of(gateway.exchange)
        gateway.log(now_ns, "sim", -1, "link", {"up": False, "code": code, "keeps_orders": self._keeps})
        self._say([(code, TEXTS[code]), *FARMS_DOWN.values()], now_ns)

    def restore(self, now_ns: int, *, code: int = 1102) -> None:
        """Have IB again: with 1101 every subscription is gone; what was missed stays untold."""
        if not self.down:
            return
        gateway = self.gateway
        self.down, self._remembered = False, None
        gateway.log(now_ns, "sim", -1, "link", {"up": True, "code": code, "missed": self.missed,
                                                "kept": len(self._kept)})
        if code == 1101:
            for session in list(gateway.sessions):
                gateway.end_subscriptions(session)
        self._say([(code, TEXTS[code]), *FARMS_UP.values()], now_ns)
        kept, self._kept = self._kept, []
        for session, request in kept:
            self._submit(session, request, now_ns)

    def greet(self, session: Session, now_ns: int) -> None:
        """Say how the line is to a client that has just connected."""
        for code, text in [(2110, TEXTS[2110]), *FARMS_DOWN.values()] if self.down else \
                [(FARMS_DOWN if farm in self.farms_down else FARMS_UP)[farm] for farm in FARMS_UP]:
            session.error(-1, code, text, now_ns)

    def break_farms(self, names: frozenset[str], now_ns: int) -> None:
        self.farms_down |= names
        self._say([FARMS_DOWN[farm] for farm in FARMS_DOWN if farm in names], now_ns)

    def mend_farms(self, names: frozenset[str], now_ns: int) -> None:
        self.farms_down -= names
        self._say([FARMS_UP[farm] for farm in FARMS_UP if farm in names], now_ns)

    def forget_kept(self, now_ns: int) -> None:
        """Delete the orders that wait, as a gateway that closes does."""
        for session, request in self._kept:
            self._lost(session, request, now_ns, "the gateway closed before the link was restored")
        self._kept.clear()
        self.down, self._remembered = False, None
        self.farms_down = frozenset()

    # requests while it is down ---------------------------------------------------------------------------------

    def takes(self, session: Session, request: Request | PlaceOrder, now_ns: int) -> bool:
        """Deal with a journalled request while IB is away; False if the gateway answers it as ever."""
        name = request.name
        if name in INSTRUCTIONS:
            self._keep(session, request, now_ns)
        elif name in REMEMBERED and self._remembered is not None:
            present = self.gateway.exchange
            self.gateway.exchange = self._remembered
            try:
                session.handle(request, now_ns)
            finally:
                self.gateway.exchange = present
        elif name in OWN or name.startswith("cancel"):
            return False
        else:
            self._lost(session, request, now_ns, "IB cannot be asked")
        return True

    def _keep(self, session: Session, request: Request | PlaceOrder, now_ns: int) -> None:
        if not self._keeps or len(self._kept) >= MAX_KEPT:
            self._lost(session, request, now_ns, "orders are not kept")
            return
        self._kept.append((session, request))
        if isinstance(request, PlaceOrder):       # its id is used: a client that comes back is not given it again
            self.gateway.exchange.use_id(session.client_id, request.order_id)
        self.gateway.log(now_ns, "sim", session.client_id, "kept_for_link", {"request": request.name})

    def _lost(self, session: Session, request: Request | PlaceOrder, now_ns: int, why: str) -> None:
        about = {"orderId": request.order_id, "orderRef": request.order_ref} if isinstance(request, PlaceOrder) else \
            {"reqId": request.req_id}
        self.gateway.log(now_ns, "sim", session.client_id, "lost_with_link",
                         {"request": request.name, **about, "reason": why})

    def _submit(self, session: Session, request: Request | PlaceOrder, now_ns: int) -> None:
        """Send on what was kept; its client may be gone, or be another connection by now."""
        if not isinstance(request, PlaceOrder):
            session.handle(request, now_ns)
            return
        last = self.gateway.exchange.last_id
        used = last.get(session.client_id, 0)
        known = self.gateway.known_order(session.client_id, request.order_id)
        if known is None:
            last[session.client_id] = min(used, request.order_id - 1)
        orders.submit(session, request, now_ns)
        last[session.client_id] = max(used, last.get(session.client_id, 0))

    def _say(self, told: list[tuple[int, str]], now_ns: int) -> None:
        for session in list(self.gateway.by_client.values()):
            for code, text in told:
                session.error(-1, code, text, now_ns)


def _memory_of(exchange: Exchange) -> Exchange:
    """Return what a gateway knows of the exchange now: a picture that reads like it and changes no more."""
    picture = copy.copy(exchange)
    picture.orders = {key: msgspec.structs.replace(order) for key, order in exchange.orders.items()}
    picture.done = exchange.done.copy()
    picture.executions = exchange.executions.copy()
    picture.accounts = copy.copy(exchange.accounts)
    picture.accounts.positions = {key: msgspec.structs.replace(p) for key, p in exchange.accounts.positions.items()}
    picture.accounts.cash = dict(exchange.accounts.cash)
    picture.bind_manual = list  # type: ignore[assignment,method-assign]    # binding needs IB
    return picture
