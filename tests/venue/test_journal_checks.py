"""The checks that every journal must pass, shown to see what they are there for."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from actors.venue.simulator.journal_checks import violations

pytestmark = pytest.mark.unit


class Tale:
    """Writes a journal line by line; each line is an instant of its own unless it belongs to the one before."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._ids = count(1)

    def _line(self, direction: str, msg: str, together: bool = False, **fields: Any) -> Tale:
        ts = len(self.lines) * 1_000_000_000 if not together else self.lines[-1]["ts_ns"]
        about = {"seq": len(self.lines) + 1, "ts_ns": ts, "dir": direction, "client": 1, "msg": msg}
        self.lines.append(about | fields)
        return self

    def place(self, leg: str, action: str, quantity: int, **fields: Any) -> Tale:
        order = {"orderId": next(self._ids), "orderRef": f"B1-test.{leg}", "symbol": "AAPL", "action": action,
                 "quantity": str(quantity), "transmit": True, "account": "DU1", **fields}  # fmt: skip
        self._line("in", "placeOrder", **order)
        return self.state(leg, action, quantity, group=fields.get("ocaGroup", ""), together=True)

    def state(
        self, leg: str, action: str, quantity: int, filled: int = 0, status: str = "Submitted", group: str = "",
        together: bool = False,
    ) -> Tale:  # fmt: skip
        fields = {"ocaGroup": group} if group else {}
        return self._line("sim", "order", together, orderRef=f"B1-test.{leg}", symbol="AAPL", action=action,
                          status=status, quantity=str(quantity), filled=str(filled), remaining=str(quantity - filled),
                          **fields)  # fmt: skip

    def trade(self, leg: str, action: str, quantity: int, together: bool = False) -> Tale:
        return self._line("sim", "execution", together, orderRef=f"B1-test.{leg}", symbol="AAPL", account="DU1",
                          action=action, quantity=str(quantity))  # fmt: skip

    def entered(self, filled: int = 100) -> Tale:
        self.place("entry", "BUY", 100)
        self.trade("entry", "BUY", filled)
        return self.state("entry", "BUY", 100, filled, "Filled" if filled == 100 else "Submitted", together=True)


def pair(group: str = "g1", quantity: int = 100, filled: int = 100) -> Tale:
    told = Tale().entered(filled)
    more = {"ocaGroup": group} if group else {}
    return told.place("stop.1", "SELL", quantity, **more).place("target.1", "SELL", quantity, **more)


def test_a_good_story_has_nothing_against_it() -> None:
    told = pair().trade("target.1", "SELL", 100)
    told.state("target.1", "SELL", 100, 100, "Filled", "g1", together=True)
    told.state("stop.1", "SELL", 100, 0, "Cancelled", "g1", together=True)
    assert violations(told.lines, rows=["B1-test.entry", "B1-test.stop", "B1-test.target"]) == []


def test_a_venue_that_cuts_the_sibling_is_safe_at_every_instant() -> None:
    told = pair().trade("target.1", "SELL", 30).state("target.1", "SELL", 100, 30, group="g1", together=True)
    assert len(violations(told.lines)) == 1                     # 100 of the stop still work, and 70 are open
    told.state("stop.1", "SELL", 70, group="g1", together=True)
    assert violations(told.lines) == []


def test_exits_without_a_group_could_reverse_the_position() -> None:
    (found,) = violations(pair(group="").lines)
    assert found.endswith("its exits could trade 200 of 100")
    assert violations(pair(group="").lines, native=False) == []


def test_an_exit_for_more_than_is_open_is_seen_as_it_is_written() -> None:
    found = violations(pair(filled=40).lines, native=False)
    assert found == [f"B1-test.{leg}.1 (placeOrder) exits 100 where 40 was open" for leg in ("stop", "target")]


def test_a_second_group_for_the_same_shares_is_seen() -> None:
    told = pair().place("stop.2", "SELL", 100, ocaGroup="g2")
    assert violations(told.lines)[0].endswith("its exits could trade 200 of 100")


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"parentId": 7}, "told IB of parentId 7"), ({"conditions": 1}, "told IB of conditions 1"),
     ({"trailStopPrice": "95"}, "told IB of trailStopPrice 95"), ({"transmit": False}, "held back"),
     ({"account": ""}, "names no account"), ({"orderId": 1}, "with order id 1, after 1"),
     ({"ocaGroup": "g1"}, "an entry in the group g1")],
)  # fmt: skip
def test_structure_is_not_for_the_venue(fields: dict[str, Any], said: str) -> None:
    told = Tale().place("stop.9", "SELL", 0).place("entry", "BUY", 100, **fields)
    assert any(said in each for each in violations(told.lines))


def test_a_second_transmission_and_a_stranger_are_named() -> None:
    told = Tale().place("entry", "BUY", 100).place("entry", "BUY", 100)
    assert violations(told.lines, rows=["B2-test.entry"]) == [
        "B1-test.entry was transmitted 2 times", "B1-test.entry is an order that no row knows"
    ]  # fmt: skip


def test_shares_that_were_there_may_be_closed_by_exits_without_an_entry() -> None:
    told = Tale()._line("sim", "opening_position", account="DU1", symbol="AAPL", quantity="100")
    told.place("stop.1", "SELL", 100, ocaGroup="g1").place("target.1", "SELL", 100, ocaGroup="g1")
    assert violations(told.lines) == []
    assert violations(told.place("flat.1", "SELL", 1).lines)
