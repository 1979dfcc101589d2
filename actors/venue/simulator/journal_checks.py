"""What must hold of every journal, whatever was played: the safety of the trading rules, read from the gateway's side.

Law: only what reached the gateway and what happened at its exchange counts; the engine is asked nothing.

- one transmission for each orderRef; order ids rise in the order of sending (trading-rules 18);
- every order names its account (rule 23), and IB is told of no structure: no parent, no conditions, no trail, nothing
  held back (000.E.1);
- an exit is never written for more than the entry has filled and the exits have not;
- the dead-engine invariant (rule 8), where members of a group are native: at every instant, were the engine to vanish
  for good, the orders at the venue could not reverse the position of their bracket.

What the venue does against its own rules (both members of a group filled in a race) is not the engine's doing: then
nothing more is open, and no exit may be at work.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from actors.venue.simulator.journal import Line

ZERO = Decimal(0)
LIVE = frozenset({"PendingSubmit", "PreSubmitted", "Submitted", "PendingCancel"})
OURS = re.compile(r"(?P<bracket>B\d+-[a-z0-9]+)\.(?P<leg>[a-z]+)(?P<tranche>\d*)(\.\d+)?")
STRUCTURE = ("parentId", "conditions", "trailStopPrice", "trailingPercent", "whatIf")
CROSSING_NS = 250_000_000
"""How long a fill may take to be heard: what was written meanwhile was written in good faith."""


class _Working(msgspec.Struct):
    """One order at the exchange, as its last state says."""

    bracket: str
    leg: str
    action: str
    group: str
    leaves: Decimal = ZERO
    filled: Decimal = ZERO


class _Book:
    """What the exchange's lines add up to, moment by moment."""

    def __init__(self) -> None:
        self.orders: dict[str, _Working] = {}
        self.entry_side: dict[str, str] = {}
        self.open: dict[str, Decimal] = {}
        self.before: dict[str, tuple[int, Decimal]] = {}
        self.at_symbol: dict[str, Decimal] = {}
        self.symbol_of: dict[str, str] = {}

    def hear(self, line: Line) -> None:
        found = OURS.fullmatch(line.get("orderRef", ""))
        if line["msg"] == "opening_position":
            self.at_symbol[line["symbol"]] = self.at_symbol.get(line["symbol"], ZERO) + Decimal(line["quantity"])
        elif line["msg"] == "execution":
            signed = Decimal(line["quantity"]) * (1 if line["action"] == "BUY" else -1)
            self.at_symbol[line["symbol"]] = self.at_symbol.get(line["symbol"], ZERO) + signed
            if found:
                self._execution(found["bracket"], line)
        elif line["msg"] == "order" and found:
            alive = line["status"] in LIVE
            self.orders[line["orderRef"]] = _Working(
                found["bracket"], found["leg"], line["action"], line.get("ocaGroup", ""),
                Decimal(line["remaining"]) if alive else ZERO, Decimal(line["filled"]),
            )  # fmt: skip
            self.symbol_of[found["bracket"]] = line["symbol"]
            if found["leg"] == "entry":
                self.entry_side[found["bracket"]] = line["action"]
        elif line["msg"] == "placeOrder" and found:
            self.symbol_of[found["bracket"]] = line["symbol"]
            if found["leg"] == "entry":
                self.entry_side[found["bracket"]] = line["action"]

    def _execution(self, bracket: str, line: Line) -> None:
        quantity = Decimal(line["quantity"])
        open_ = self.open.get(bracket, ZERO)
        self.before[bracket] = line["ts_ns"], max(open_, self._lately(bracket, line["ts_ns"]))
        sign = 1 if line["action"] == self.entry_side.get(bracket) else -1
        self.open[bracket] = open_ + sign * quantity

    def _lately(self, bracket: str, now_ns: int) -> Decimal:
        since, quantity = self.before.get(bracket, (0, ZERO))
        return quantity if now_ns - since <= CROSSING_NS else ZERO

    def allowed(self, bracket: str, now_ns: int) -> Decimal:
        """Return what may be closed, as the engine may have seen it at this moment."""
        if bracket in self.entry_side:
            return max(self.open.get(bracket, ZERO), self._lately(bracket, now_ns))
        return abs(self.at_symbol.get(self.symbol_of.get(bracket, ""), ZERO)) + self._lately(bracket, now_ns)

    def exits(self, bracket: str) -> list[_Working]:
        side = self.entry_side.get(bracket)
        mine = [order for order in self.orders.values() if order.bracket == bracket and order.leaves]
        return [order for order in mine if order.leg != "entry" and order.action != side]

    def reach(self, bracket: str) -> Decimal:
        """Return how much the exits of a bracket could trade if nobody but the venue acted any more."""
        groups: dict[str, Decimal] = {}
        alone = ZERO
        for order in self.exits(bracket):
            if order.group:
                groups[order.group] = max(groups.get(order.group, ZERO), order.leaves)
            else:
                alone += order.leaves
        return alone + sum(groups.values(), ZERO)


def violations(lines: Iterable[Line], native: bool = True, rows: Iterable[str] | None = None) -> list[str]:
    """Return one sentence for each rule that a journal breaks; [] for a good one.

    `native`: members of one group carry it at the venue (oca.native). `rows`: the row ids that the engine knows.
    """
    told = [line for line in lines if line["dir"] in ("in", "sim")]
    found = _of_transmissions(told, rows)
    book = _Book()
    for number, line in enumerate(told):
        if line["msg"] in ("placeOrder", "modifyOrder"):
            found += _of_writing(book, line)
        book.hear(line)
        last_of_its_instant = number + 1 == len(told) or told[number + 1]["ts_ns"] != line["ts_ns"]
        if native and last_of_its_instant and line["msg"] in ("order", "execution"):
            found += _of_vanishing(book, line)
    return list(dict.fromkeys(found))


def _of_transmissions(lines: list[Line], rows: Iterable[str] | None) -> list[str]:
    placed = [line for line in lines if line["msg"] == "placeOrder" and OURS.fullmatch(line.get("orderRef", ""))]
    times = Counter(line["orderRef"] for line in placed)
    found = [f"{ref} was transmitted {count} times" for ref, count in times.items() if count > 1]
    known = set(rows) if rows is not None else None
    highest: dict[int, int] = {}
    for line in placed:
        ref, order_id, client = line["orderRef"], line["orderId"], line["client"]
        if order_id <= highest.get(client, 0):
            found.append(f"{ref} was sent with order id {order_id}, after {highest[client]}")
        highest[client] = max(order_id, highest.get(client, 0))
        found += [f"{ref} told IB of {name} {line[name]}" for name in STRUCTURE if line.get(name)]
        if not line.get("account"):
            found.append(f"{ref} names no account")
        if not line.get("transmit", True):
            found.append(f"{ref} was held back with transmit=False")
        if OURS.fullmatch(ref)["leg"] == "entry" and line.get("ocaGroup"):  # type: ignore[index]
            found.append(f"{ref} is an entry in the group {line['ocaGroup']}")
        if known is not None and ".".join(ref.split(".")[:2]) not in known:
            found.append(f"{ref} is an order that no row knows")
    return found


def _of_writing(book: _Book, line: Line) -> list[str]:
    parts = OURS.fullmatch(line.get("orderRef", ""))
    if parts is None or parts["leg"] == "entry" or line["action"] == book.entry_side.get(parts["bracket"]):
        return []
    book.symbol_of.setdefault(parts["bracket"], line["symbol"])
    order = book.orders.get(line["orderRef"])
    wanted = Decimal(line["quantity"]) - (order.filled if order is not None else ZERO)
    allowed = book.allowed(parts["bracket"], line["ts_ns"])
    if wanted > allowed:
        return [f"{line['orderRef']} ({line['msg']}) exits {wanted} where {allowed} was open"]
    return []


def _of_vanishing(book: _Book, line: dict[str, Any]) -> list[str]:
    parts = OURS.fullmatch(line.get("orderRef", ""))
    if parts is None:
        return []
    bracket = parts["bracket"]
    if bracket in book.entry_side:
        reach, open_ = book.reach(bracket), max(book.open.get(bracket, ZERO), ZERO)
    else:       # exits on shares that were there: all who claim some of them, together
        symbol = book.symbol_of[bracket]
        claimers = [b for b, where in book.symbol_of.items() if where == symbol and b not in book.entry_side]
        reach, open_ = sum(map(book.reach, claimers), ZERO), abs(book.at_symbol.get(symbol, ZERO))
    if reach > open_:
        return [f"{bracket}: were the engine to vanish at line {line['seq']}, its exits could trade {reach} of {open_}"]
    return []
