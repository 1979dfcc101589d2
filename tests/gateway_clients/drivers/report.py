"""What one client hears and concludes, in words that are the same for every library; and the loop over the steps.

Law: nothing here knows a library; nothing but the standard library is imported, for a client's environment has no
other. A transcript keeps every message as the gateway's journal would spell it, in the order in which it was decoded.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

BAG_PARTS = 4       # an execution id of a whole order has four parts, that of a leg a fifth


class Disappointed(Exception):
    """A step waited in vain; the text says for what and what was there instead."""


def number(value: Any) -> str:
    """Spell a number as the journal does: without exponent, without trailing zeros."""
    spelled = format(Decimal(str(value)), "f")
    if "." in spelled:
        spelled = spelled.rstrip("0").rstrip(".")
    return "0" if spelled in ("", "-0") else spelled


class Report:
    """All that one client can say at the end."""

    def __init__(self) -> None:
        self.client_id = -1
        self.transcript: dict[int, list[list[Any]]] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.fills: dict[str, dict[str, Any]] = {}
        self.commissions: dict[str, str] = {}
        self.positions: dict[str, str] = {}
        self.account: dict[str, str] = {}
        self.complaints: list[str] = []
        self.refs: dict[tuple[int, int], str] = {}
        self.first_ids: dict[str, list[int]] = {}
        self.completed: dict[str, str] = {}
        self.extras: dict[str, dict[str, Any]] = {}

    def _note(self, *fields: Any) -> None:
        self.transcript.setdefault(self.client_id, []).append(list(fields))

    def error(self, req_id: int, code: int) -> None:
        self._note("error", req_id, code)

    def open_order(self, owner: int, order_id: int, ref: str, perm_id: int, quantity: Any, status: str,
                   limit: Any) -> None:
        self._note("openOrder", order_id, status, number(quantity))
        self.refs[owner, order_id] = ref
        self.first_ids.setdefault(ref, [order_id, perm_id])
        order = self.orders.setdefault(ref, {})
        order.update(order_id=order_id, perm_id=perm_id, quantity=number(quantity), limit=number(limit))
        order.setdefault("status", status)

    def instructions(self, ref: str, contract: Any, order: Any) -> None:
        """Note what an order has beside the plain fields; the Python libraries all use IB's names for it."""
        self.extras[ref] = {
            "legs": len(contract.comboLegs or ()), "conditions": len(order.conditions or ()),
            "algo": order.algoStrategy, "hedge": order.hedgeType, "scale": number(order.scalePriceIncrement)}

    def order_status(self, owner: int, order_id: int, status: str, filled: Any, remaining: Any, average: Any) -> None:
        self._note("orderStatus", order_id, status, number(filled), number(remaining))
        ref = self.refs.get((owner, order_id))
        if ref is not None:
            self.orders.setdefault(ref, {}).update(status=status, filled=number(filled), average=number(average))

    def execution(self, order_id: int, exec_id: str, ref: str, side: str, quantity: Any, price: Any,
                  cumulated: Any, average: Any, snapshot: bool) -> None:
        """Note an execution; one of a snapshot may be all that is ever heard of how an order ended."""
        self._note("execDetails", order_id, exec_id, ref)
        self.fills[exec_id] = {"ref": ref, "action": {"BOT": "BUY", "SLD": "SELL"}.get(side, side),
                               "quantity": number(quantity), "price": number(price)}
        if exec_id.count(".") < BAG_PARTS:
            order = self.orders.setdefault(ref, {})
            order.update(filled=number(cumulated), average=number(average))
            if snapshot and order.get("quantity") == number(cumulated):
                order["status"] = "Filled"

    def commission(self, exec_id: str, commission: Any) -> None:
        self._note("commissionReport", exec_id)
        self.commissions[exec_id] = number(commission)

    def completed_order(self, ref: str, status: str, perm_id: int) -> None:
        self._note("completedOrder", ref, status, perm_id)
        self.completed[ref] = status
        self.orders.setdefault(ref, {}).update(status=status, perm_id=perm_id)

    def position(self, account: str, symbol: str, quantity: Any) -> None:
        self._note("position", account, symbol, number(quantity))
        self.positions[symbol] = number(quantity)

    def value(self, tag: str, value: str, currency: str) -> None:
        self.account[tag] = value


class Player:
    """Plays the session: a subclass has one method for each `do`, and `pump` to let its library work."""

    def __init__(self, library: str, port: int, session: dict[str, Any]) -> None:
        self.library = library
        self.port = port
        self.session = session
        self.report = Report()
        self.version = ""
        self.server_version = 0
        self.contracts: dict[str, Any] = {}

    def pump(self) -> None:
        raise NotImplementedError

    def until(self, condition: Callable[[], Any], what: str, seen: Callable[[], Any] | None = None) -> None:
        """Let the library work until the condition holds; raise Disappointed at the session's deadline."""
        end = time.monotonic() + float(self.session["deadline_s"])
        while not condition():
            if time.monotonic() > end:
                raise Disappointed(f"waited in vain for {what}" + (f"; there is {seen()}" if seen else ""))
            self.pump()

    def _await(self, step: dict[str, Any]) -> None:
        wanted = {name: str(value) for name, value in step.get("until", {}).items()}
        where = self.report.positions if step["do"] == "positions" else None

        def found() -> dict[str, Any]:
            orders = self.report.orders
            return {n: where.get(n) if where is not None else orders.get(n, {}).get("status") for n in wanted}

        if wanted:
            self.until(lambda: found() == wanted, f"{wanted}", found)

    def play(self) -> dict[str, Any]:
        """Do every step and return the report; after a step that fails the next is tried, connect apart."""
        steps = []
        for step in self.session["step"]:
            arguments = {k: v for k, v in step.items() if k not in ("do", "parts", "until", "saw")}
            told: dict[str, Any] = {"saw": {}, "problem": ""}
            try:
                told["saw"] = getattr(self, step["do"])(**arguments) or {}
                self._await(step)
            except Disappointed as problem:
                told["problem"] = str(problem)
            except Exception as problem:
                told["problem"] = f"{type(problem).__name__}: {problem}"
            steps.append(told)
            if told["problem"] and step["do"] == "connect":
                break               # without a connection every step would only wait
        report = self.report
        for exec_id, fill in report.fills.items():
            fill["commission"] = report.commissions.get(exec_id)
        return {"library": self.library, "version": self.version, "server_version": self.server_version,
                "steps": steps, "orders": report.orders, "fills": report.fills, "positions": report.positions,
                "account": report.account, "complaints": report.complaints, "transcript": report.transcript}

    # answers that are the same everywhere ------------------------------------------------------------------------

    def executed(self) -> dict[str, Any]:
        """Return the shares executed by orderRef, and what lacks its commission report."""
        fills = self.report.fills
        shares: dict[str, int] = {}
        for exec_id, fill in fills.items():
            if exec_id.count(".") < BAG_PARTS:
                shares[fill["ref"]] = shares.get(fill["ref"], 0) + int(fill["quantity"])
        return {"refs": shares, "without_commission": sorted(set(fills) - set(self.report.commissions))}

    def shown(self, refs: list[str]) -> dict[str, Any]:
        """Return the orders of a snapshot, and those whose ids are not what they were first."""
        orders, first = self.report.orders, self.report.first_ids
        changed = [r for r in refs if [orders[r]["order_id"], orders[r]["perm_id"]] != first[r]]
        return {"refs": sorted(refs), "ids_changed": changed, "extras": {r: self.report.extras[r] for r in refs}}


def main(player: Callable[[str, int, dict[str, Any]], Player]) -> None:
    """Play what standard input holds, with the library and port of the command line, and print the report."""
    library, port = sys.argv[1:3]
    told = player(library, int(port), json.load(sys.stdin)).play()
    sys.stdout.write(json.dumps(told) + "\n")
