"""Compares what a client says with what the gateway's journal says.

Law: the journal is the truth; every difference is one sentence that names both sides. What the journal says of
quantities, prices and ids must be met exactly, a binary float of eight decimals for an average price apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from actors.venue.simulator.journal import Line, executions, final_orders

CLIENTS = (7, 8)
AVERAGE_TOLERANCE = Decimal("0.00000001")
LEG_PARTS = 5
# What a transcript keeps of each message, by the journal's names.
SPOKEN: dict[str, tuple[str, ...]] = {
    "error": ("id", "code"),
    "openOrder": ("orderId", "status", "quantity"),
    "orderStatus": ("orderId", "status", "filled", "remaining"),
    "execDetails": ("orderId", "execId", "orderRef"),
    "commissionReport": ("execId",),
    "completedOrder": ("orderRef", "status", "permId"),
    "position": ("account", "symbol", "quantity"),
}


def differences(told: dict[str, Any], session: dict[str, Any], lines: list[Line], cash: Decimal) -> list[str]:
    """Return every difference between a client's report and the journal; `cash` is what the account began with."""
    return [*_steps(told, session), *_orders(told, lines), *_fills(told, lines), *_positions(told, lines),
            *_cash(told, lines, cash), *_transcripts(told, lines),
            *(f"complaint: {complaint}" for complaint in told["complaints"]),
            *(f"the gateway logged {line['msg']}: {line.get('reason', '')}" for line in lines
              if line["msg"] in ("bad_bytes", "gateway_fault"))]


def passed(told: dict[str, Any], session: dict[str, Any]) -> int:
    """Return how many steps came out as the session says."""
    return sum(not problem for problem in _step_problems(told, session))


def _step_problems(told: dict[str, Any], session: dict[str, Any]) -> Iterator[str]:
    for step, done in zip_longest(session["step"], told["steps"]):
        if done is None:
            yield "was not played"
        elif done["problem"]:
            yield str(done["problem"])
        else:
            wrong = {n: (done["saw"].get(n), v) for n, v in step.get("saw", {}).items() if done["saw"].get(n) != v}
            yield "; ".join(f"{name} is {saw}, not {wanted}" for name, (saw, wanted) in wrong.items())


def _steps(told: dict[str, Any], session: dict[str, Any]) -> Iterator[str]:
    for n, (step, problem) in enumerate(zip(session["step"], _step_problems(told, session), strict=True), 1):
        if problem:
            yield f"step {n} {step['do']} {step.get('ref', step.get('symbol', ''))}: {problem}"


def _orders(told: dict[str, Any], lines: list[Line]) -> Iterator[str]:
    truth, said = final_orders(lines), told["orders"]
    for ref in sorted({*truth, *said}):
        if ref not in truth or ref not in said:
            yield f"order {ref}: the {'client' if ref in said else 'journal'} has it, the other has not"
            continue
        line, order = truth[ref], said[ref]
        same = (order["status"] == line["status"] and order["perm_id"] == line["permId"]
                and Decimal(order.get("filled", "0")) == Decimal(line["filled"])
                and abs(Decimal(order.get("average", "0")) - Decimal(line.get("avgPrice", "0"))) <= AVERAGE_TOLERANCE)
        if not same:
            yield f"order {ref}: the client says {order}, the journal {line}"


def _fills(told: dict[str, Any], lines: list[Line]) -> Iterator[str]:
    truth = {line["execId"]: {"ref": line["orderRef"], **{name: line[name] for name in (
        "action", "quantity", "price", "commission")}} for line in executions(lines)}
    for exec_id in sorted({*truth, *told["fills"]}):
        ours, theirs = told["fills"].get(exec_id), truth.get(exec_id)
        if ours != theirs:
            yield f"execution {exec_id}: the client says {ours}, the journal {theirs}"


def _booked(lines: list[Line]) -> Iterator[tuple[str, Decimal, Decimal, Decimal]]:
    """Yield symbol, signed quantity, price and commission of each execution that moves a position.

    A combination itself is not held: its legs are, and their executions have a fifth part in their ids.
    """
    told = executions(lines)
    combined = {line["orderId"] for line in told if len(line["execId"].split(".")) == LEG_PARTS}
    for line in told:
        if line["orderId"] in combined and len(line["execId"].split(".")) != LEG_PARTS:
            yield line["symbol"], Decimal(0), Decimal(0), Decimal(line["commission"])
        else:
            sign = 1 if line["action"] == "BUY" else -1
            yield line["symbol"], sign * Decimal(line["quantity"]), Decimal(line["price"]), Decimal(line["commission"])


def _positions(told: dict[str, Any], lines: list[Line]) -> Iterator[str]:
    truth: dict[str, Decimal] = {}
    for symbol, quantity, _, _ in _booked(lines):
        truth[symbol] = truth.get(symbol, Decimal(0)) + quantity
    held = {symbol: Decimal(quantity) for symbol, quantity in told["positions"].items()}
    for symbol in sorted({*truth, *held}):
        if truth.get(symbol, 0) != held.get(symbol, 0):
            yield f"position {symbol}: the client says {held.get(symbol, 0)}, the journal {truth.get(symbol, 0)}"


def _cash(told: dict[str, Any], lines: list[Line], cash: Decimal) -> Iterator[str]:
    truth = cash - sum((quantity * price + paid for _, quantity, price, paid in _booked(lines)), Decimal(0))
    said = told["account"].get("TotalCashValue")
    if said is None or abs(Decimal(said) - truth) > Decimal("0.005"):
        yield f"cash: the client says {said}, the journal adds up to {truth}"


def _transcripts(told: dict[str, Any], lines: list[Line]) -> Iterator[str]:
    """Compare message by message: everything that was said was heard, once, in the same order."""
    for client in CLIENTS:
        said = [[line["msg"], *(line[name] for name in SPOKEN[line["msg"]])] for line in lines
                if line["dir"] == "out" and line["client"] == client and line["msg"] in SPOKEN]
        heard = told["transcript"].get(str(client), [])
        for n, (one, other) in enumerate(zip_longest(said, heard), 1):
            if one != other:
                yield (f"message {n} of client {client}: the gateway said {one}, the client heard {other} "
                       f"({len(said)} said, {len(heard)} heard)")
                break
