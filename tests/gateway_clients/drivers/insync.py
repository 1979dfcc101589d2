"""ib_insync and its fork ib_async play the session (they share one interface and no longer one wire code).

Law: what the library concludes (its trades, fills and positions) must be what its own decoder heard; the first that
differs is a complaint.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import logging
from typing import Any

import report

LOOPBACK = "127.0.0.1"


class Exceptions(logging.Handler):
    """Keeps what the library could not decode: it logs the exception and goes on."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.name.endswith(".decoder"):
            self._complaints.append(f"{record.name}: {record.getMessage()}: {record.exc_info and record.exc_info[1]}")


class InsyncPlayer(report.Player):
    def __init__(self, library: str, port: int, session: dict[str, Any]) -> None:
        super().__init__(library, port, session)
        self.lib = importlib.import_module(library)
        self.version = importlib.metadata.version(library)
        logging.getLogger().addHandler(Exceptions(self.report.complaints))
        logging.getLogger(library).setLevel(logging.ERROR)
        logging.getLogger(library).propagate = True
        self.ib: Any = None
        self.trades: dict[str, Any] = {}

    def pump(self) -> None:
        self.ib.sleep(0.005)

    def _listen(self) -> None:
        """Hear what the decoder hands to the library, before the library does."""
        heard, wrapper = self.report, self.ib.wrapper

        def before(name: str, listener: Any) -> None:
            original = getattr(wrapper, name)

            def both(*args: Any) -> None:
                listener(*args)
                original(*args)

            setattr(wrapper, name, both)

        before("error", lambda req_id, code, *_: heard.error(req_id, code))
        before("openOrder", lambda order_id, contract, o, state: heard.open_order(
            o.clientId, order_id, o.orderRef, o.permId, o.totalQuantity, state.status, o.lmtPrice))
        before("openOrder", lambda order_id, contract, o, state: heard.instructions(o.orderRef, contract, o))
        before("orderStatus", lambda order_id, status, filled, remaining, average, perm_id, parent, last, owner, *_:
               heard.order_status(owner, order_id, status, filled, remaining, average))
        before("execDetails", lambda req_id, contract, e: heard.execution(
            e.orderId, e.execId, e.orderRef, e.side, e.shares, e.price, e.cumQty, e.avgPrice, req_id != -1))
        before("commissionReport", lambda r: heard.commission(r.execId, r.commission))
        before("completedOrder", lambda contract, o, state: heard.completed_order(o.orderRef, state.status, o.permId))
        before("position", lambda account, contract, quantity, cost: heard.position(account, contract.symbol, quantity))
        before("updateAccountValue", lambda tag, value, currency, account: heard.value(tag, value, currency))

    # steps -------------------------------------------------------------------------------------------------------

    def connect(self, client_id: int) -> dict[str, Any]:
        self.ib = self.lib.IB()
        self.report.client_id = client_id
        self._listen()
        self.ib.connect(LOOPBACK, self.port, clientId=client_id, timeout=self.session["deadline_s"])
        self.server_version = self.ib.client.serverVersion()
        self.trades = {t.order.orderRef: t for t in self.ib.openTrades()}
        return {"accounts": self.ib.managedAccounts()}

    def disconnect(self) -> None:
        self.ib.reqCurrentTime()        # whatever was said before the answer has been heard
        self._agree()
        self.ib.disconnect()

    def _agree(self) -> None:
        heard = self.report
        for ref, trade in self.trades.items():
            status = trade.orderStatus
            thinks = {"status": status.status, "filled": report.number(status.filled),
                      "average": report.number(status.avgFillPrice)}
            was_told = {name: heard.orders.get(ref, {}).get(name, "0") for name in thinks}
            if thinks != was_told:
                heard.complaints.append(f"{ref}: the library thinks {thinks}, its decoder heard {was_told}")
            shares = sum(f.execution.shares for f in trade.fills if f.contract.secType == trade.contract.secType)
            if report.number(shares) != thinks["filled"]:
                heard.complaints.append(f"{ref}: the library has fills of {shares}, its status says {thinks['filled']}")
        held = {p.contract.symbol: report.number(p.position) for p in self.ib.positions()}
        if held != {symbol: quantity for symbol, quantity in heard.positions.items() if quantity != "0"}:
            heard.complaints.append(f"the library holds {held}, its decoder heard {heard.positions}")

    def qualify(self, symbol: str) -> dict[str, Any]:
        contract = self.lib.Stock(symbol, "SMART", "USD")
        self.ib.qualifyContracts(contract)
        self.contracts[symbol] = contract
        found = self.ib.reqContractDetails(contract)
        return {"con_id": contract.conId, "min_tick": found[0].minTick, "long_name": found[0].longName,
                "found": len(found)}

    def _bag(self, order: dict[str, Any]) -> Any:
        legs = [self.lib.ComboLeg(conId=self.contracts[leg["symbol"]].conId, ratio=leg["ratio"], action=leg["action"],
                                  exchange="SMART") for leg in order["legs"]]
        return self.lib.Contract(symbol=order["symbol"], secType="BAG", exchange="SMART", currency="USD",
                                 comboLegs=legs)

    def place(self, ref: str, order: dict[str, Any]) -> None:
        contract = self._bag(order) if "legs" in order else self.contracts[order["symbol"]]
        fields: dict[str, Any] = {
            "action": order["action"], "totalQuantity": order["quantity"], "orderType": order["type"],
            "tif": order["tif"], "orderRef": ref, "account": self.session["account"],
            "ocaGroup": order.get("group", ""), "ocaType": order.get("group_type", 0)}
        if "limit" in order:
            fields["lmtPrice"] = order["limit"]
        if "stop" in order:
            fields["auxPrice"] = order["stop"]
        ticket = self.lib.Order(orderId=self.ib.client.getReqId(), **fields)
        self.report.refs[self.report.client_id, ticket.orderId] = ref
        self.trades[ref] = self.ib.placeOrder(contract, ticket)

    def modify(self, ref: str, order: dict[str, Any]) -> dict[str, Any]:
        trade = self.trades[ref]
        trade.order.totalQuantity = order.get("quantity", trade.order.totalQuantity)
        trade.order.lmtPrice = order["limit"]
        self.ib.placeOrder(trade.contract, trade.order)
        known = self.report.orders[ref]
        self.until(lambda: known["limit"] == report.number(order["limit"]), "the amendment's echo", lambda: known)
        return {"quantity": int(known["quantity"]), "limit": int(known["limit"])}

    def cancel(self, ref: str) -> None:
        self.ib.cancelOrder(self.trades[ref].order)

    def executions(self) -> dict[str, Any]:
        self.ib.reqExecutions()
        return self.executed()

    def open_orders(self) -> dict[str, Any]:
        return self.shown([t.order.orderRef for t in self.ib.reqOpenOrders()])

    def all_open_orders(self, prefix: str) -> dict[str, Any]:
        refs = [t.order.orderRef for t in self.ib.reqAllOpenOrders()]
        return self.shown([ref for ref in refs if ref.startswith(prefix)])

    def completed_orders(self) -> dict[str, Any]:
        return {"refs": {t.order.orderRef: t.orderStatus.status for t in self.ib.reqCompletedOrders(False)}}

    def positions(self) -> None:
        self.ib.reqPositions()

    def account_values(self, tags: list[str]) -> dict[str, Any]:
        self.ib.reqAccountUpdates(self.session["account"])
        return {"missing": [t for t in tags if t not in {v.tag for v in self.ib.accountValues()}]}

    def current_time(self) -> dict[str, Any]:
        return {"plausible": self.ib.reqCurrentTime().year >= 2025}

    def clash(self, client_id: int) -> dict[str, Any]:
        """Dial a second time. The library would sit out its whole timeout after the refusal, so it is not left to."""
        return self.ib.run(self._dial_again(client_id))

    async def _dial_again(self, client_id: int) -> dict[str, Any]:
        second = self.lib.IB()
        patience = self.session["deadline_s"]
        refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        second.errorEvent += lambda req_id, code, *_: refused.done() or refused.set_result(code)
        dialling = asyncio.ensure_future(second.connectAsync(LOOPBACK, self.port, clientId=client_id, timeout=patience))
        await asyncio.wait({dialling, refused}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        connected = dialling.done() and dialling.exception() is None
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        return {"refused_with": refused.result() if refused.done() else None, "connected": connected}


if __name__ == "__main__":
    report.main(InsyncPlayer)
