"""Interactive Brokers' own ibapi plays the session: the 9.81 of PyPI, and 10.x as nautilus_ibapi.

Law: the library's thread calls back, the main thread asks; one condition guards all that both touch.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import threading
from typing import Any

import report
from ibapi.client import EClient
from ibapi.contract import ComboLeg, Contract
from ibapi.execution import ExecutionFilter
from ibapi.order import Order
from ibapi.wrapper import EWrapper

LOOPBACK = "127.0.0.1"
FIRST_REQUEST = 1_000_000
LATEST = importlib.metadata.packages_distributions()["ibapi"][0] != "ibapi"


class Line(EWrapper, EClient):
    """One connection, heard by a report."""

    def __init__(self, heard: report.Report, changed: threading.Condition) -> None:
        EWrapper.__init__(self)
        EClient.__init__(self, self)
        self.heard = heard
        self.changed = changed
        self.next_order_id = 0
        self.accounts: list[str] = []
        self.details: list[Any] = []
        self.answers: list[str] = []
        self.shown: list[str] = []
        self.done: dict[str, str] = {}
        self.codes: list[int] = []
        self.seconds = 0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def open(self, port: int, client_id: int) -> None:
        self.connect(LOOPBACK, port, client_id)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.run()
        except Exception as problem:
            self.heard.complaints.append(f"the message loop ended: {type(problem).__name__}: {problem}")

    def _ended(self, what: str) -> None:
        with self.changed:
            self.answers.append(what)
            self.changed.notify_all()

    # callbacks, by ibapi's names -----------------------------------------------------------------------------------

    def error(self, reqId: int, *rest: Any) -> None:
        code = rest[1] if LATEST else rest[0]       # 10.x tells the time of the error first
        with self.changed:
            self.codes.append(code)
            self.heard.error(reqId, code)
            self.changed.notify_all()

    def nextValidId(self, orderId: int) -> None:
        with self.changed:
            self.next_order_id = max(self.next_order_id, orderId)
            self.changed.notify_all()

    def managedAccounts(self, accountsList: str) -> None:
        with self.changed:
            self.accounts = [a for a in accountsList.split(",") if a]
            self.changed.notify_all()

    def contractDetails(self, reqId: int, contractDetails: Any) -> None:
        with self.changed:
            self.details.append(contractDetails)

    def openOrder(self, orderId: int, contract: Any, order: Any, orderState: Any) -> None:
        with self.changed:
            self.heard.open_order(order.clientId, orderId, order.orderRef, order.permId, order.totalQuantity,
                                  orderState.status, order.lmtPrice)
            self.heard.instructions(order.orderRef, contract, order)
            self.shown.append(order.orderRef)
            self.changed.notify_all()

    def orderStatus(self, orderId: int, status: str, filled: Any, remaining: Any, avgFillPrice: float, permId: int,
                    parentId: int, lastFillPrice: float, clientId: int, whyHeld: str, mktCapPrice: float) -> None:
        with self.changed:
            self.heard.order_status(clientId, orderId, status, filled, remaining, avgFillPrice)
            self.changed.notify_all()

    def execDetails(self, reqId: int, contract: Any, execution: Any) -> None:
        e = execution
        with self.changed:
            self.heard.execution(e.orderId, e.execId, e.orderRef, e.side, e.shares, e.price, e.cumQty, e.avgPrice,
                                 reqId != -1)

    def commissionReport(self, commissionReport: Any) -> None:
        with self.changed:
            self.heard.commission(commissionReport.execId, commissionReport.commission)

    def commissionAndFeesReport(self, commissionAndFeesReport: Any) -> None:
        with self.changed:
            self.heard.commission(commissionAndFeesReport.execId, commissionAndFeesReport.commissionAndFees)

    def completedOrder(self, contract: Any, order: Any, orderState: Any) -> None:
        with self.changed:
            self.heard.completed_order(order.orderRef, orderState.status, order.permId)
            self.done[order.orderRef] = orderState.status

    def position(self, account: str, contract: Any, position: Any, avgCost: float) -> None:
        with self.changed:
            self.heard.position(account, contract.symbol, position)
            self.changed.notify_all()

    def updateAccountValue(self, key: str, val: str, currency: str, accountName: str) -> None:
        with self.changed:
            self.heard.value(key, val, currency)

    def currentTime(self, time: int) -> None:
        self.seconds = time
        self._ended("time")

    def contractDetailsEnd(self, reqId: int) -> None:
        self._ended("details")

    def openOrderEnd(self) -> None:
        self._ended("orders")

    def execDetailsEnd(self, reqId: int) -> None:
        self._ended("executions")

    def completedOrdersEnd(self) -> None:
        self._ended("completed")

    def positionEnd(self) -> None:
        self._ended("positions")

    def accountDownloadEnd(self, accountName: str) -> None:
        self._ended("account")


class OfficialPlayer(report.Player):
    def __init__(self, library: str, port: int, session: dict[str, Any]) -> None:
        super().__init__(library, port, session)
        self.version = importlib.metadata.version(importlib.metadata.packages_distributions()["ibapi"][0])
        self.changed = threading.Condition()
        self.line: Line
        self.requests = itertools.count(FIRST_REQUEST)
        self.placed: dict[str, tuple[int, Contract, Order]] = {}

    def pump(self) -> None:
        with self.changed:
            self.changed.wait(0.02)

    def _ask(self, what: str, request: Any, *arguments: Any) -> None:
        """Send a request and wait for the message that ends its answer."""
        with self.changed:
            self.line.answers.clear()
        request(*arguments)
        self.until(lambda: what in self.line.answers, f"the end of {what}")

    # steps -------------------------------------------------------------------------------------------------------

    def connect(self, client_id: int) -> dict[str, Any]:
        self.report.client_id = client_id
        self.line = Line(self.report, self.changed)
        self.line.open(self.port, client_id)
        self.until(lambda: self.line.next_order_id and self.line.accounts, "nextValidId and managedAccounts")
        self.server_version = self.line.serverVersion()
        return {"accounts": self.line.accounts}

    def disconnect(self) -> None:
        self._ask("time", self.line.reqCurrentTime)
        reader = self.line.reader
        self.line.disconnect()
        self.line.thread.join(self.session["deadline_s"])
        # Its reader sits in recv for up to a second more, and as long the kernel keeps the connection up.
        reader.join(self.session["deadline_s"])

    def qualify(self, symbol: str) -> dict[str, Any]:
        asked = Contract()
        asked.symbol, asked.secType, asked.exchange, asked.currency = symbol, "STK", "SMART", "USD"
        self.line.details.clear()
        self._ask("details", self.line.reqContractDetails, next(self.requests), asked)
        first = self.line.details[0]
        self.contracts[symbol] = first.contract
        return {"con_id": first.contract.conId, "min_tick": first.minTick, "long_name": first.longName,
                "found": len(self.line.details)}

    def _bag(self, order: dict[str, Any]) -> Contract:
        contract = Contract()
        contract.symbol, contract.secType, contract.exchange, contract.currency = order["symbol"], "BAG", "SMART", "USD"
        contract.comboLegs = []
        for told in order["legs"]:
            leg = ComboLeg()
            leg.conId, leg.ratio = self.contracts[told["symbol"]].conId, told["ratio"]
            leg.action, leg.exchange = told["action"], "SMART"
            contract.comboLegs.append(leg)
        return contract

    def place(self, ref: str, order: dict[str, Any]) -> None:
        contract = self._bag(order) if "legs" in order else self.contracts[order["symbol"]]
        ticket = Order()
        ticket.action, ticket.totalQuantity, ticket.orderType = order["action"], order["quantity"], order["type"]
        ticket.tif, ticket.orderRef, ticket.account = order["tif"], ref, self.session["account"]
        ticket.ocaGroup, ticket.ocaType = order.get("group", ""), order.get("group_type", 0)
        ticket.eTradeOnly = ticket.firmQuoteOnly = False        # 9.81 sets both, and IB refuses them: 10268
        if "limit" in order:
            ticket.lmtPrice = order["limit"]
        if "stop" in order:
            ticket.auxPrice = order["stop"]
        with self.changed:
            order_id = self.line.next_order_id
            self.line.next_order_id += 1
            self.report.refs[self.report.client_id, order_id] = ref
        self.placed[ref] = order_id, contract, ticket
        self.line.placeOrder(order_id, contract, ticket)

    def modify(self, ref: str, order: dict[str, Any]) -> dict[str, Any]:
        order_id, contract, ticket = self.placed[ref]
        ticket.totalQuantity = order.get("quantity", ticket.totalQuantity)
        ticket.lmtPrice = order["limit"]
        self.line.placeOrder(order_id, contract, ticket)
        known = self.report.orders[ref]
        self.until(lambda: known["limit"] == report.number(order["limit"]), "the amendment's echo", lambda: known)
        return {"quantity": int(known["quantity"]), "limit": int(known["limit"])}

    def cancel(self, ref: str) -> None:
        order_id = self.placed[ref][0]
        if LATEST:
            from ibapi.order_cancel import OrderCancel
            self.line.cancelOrder(order_id, OrderCancel())
        else:
            self.line.cancelOrder(order_id)

    def executions(self) -> dict[str, Any]:
        self._ask("executions", self.line.reqExecutions, next(self.requests), ExecutionFilter())
        return self.executed()

    def open_orders(self) -> dict[str, Any]:
        self.line.shown.clear()
        self._ask("orders", self.line.reqOpenOrders)
        return self.shown(list(self.line.shown))

    def all_open_orders(self, prefix: str) -> dict[str, Any]:
        self.line.shown.clear()
        self._ask("orders", self.line.reqAllOpenOrders)
        return self.shown([ref for ref in self.line.shown if ref.startswith(prefix)])

    def completed_orders(self) -> dict[str, Any]:
        self.line.done.clear()
        self._ask("completed", self.line.reqCompletedOrders, False)
        return {"refs": dict(self.line.done)}

    def positions(self) -> None:
        self._ask("positions", self.line.reqPositions)

    def account_values(self, tags: list[str]) -> dict[str, Any]:
        self._ask("account", self.line.reqAccountUpdates, True, self.session["account"])
        return {"missing": [t for t in tags if t not in self.report.account]}

    def current_time(self) -> dict[str, Any]:
        self._ask("time", self.line.reqCurrentTime)
        return {"plausible": self.line.seconds > 1_700_000_000}

    def clash(self, client_id: int) -> dict[str, Any]:
        """Dial a second time; the refused connection is heard by a report of its own."""
        second = Line(report.Report(), self.changed)
        second.open(self.port, client_id)
        second.thread.join(self.session["deadline_s"])      # ends when the gateway has closed the socket
        return {"refused_with": second.codes[0] if second.codes else None, "connected": bool(second.accounts)}


if __name__ == "__main__":
    report.main(OfficialPlayer)
