"""From the parent to the last exit: rows of 000, each by its own check at the gateway's journal.

Each test names the rows that it shows; docs/requirements.md lists them. The engines are those of conftest.py.
"""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from typing import Any

import pytest

from actors.venue.simulator.journal import cancels, executions, modifies, placements
from storage.reader import Reader
from tests.e2e.engines import cli, wait_for
from tests.e2e.playground import armed

pytestmark = [pytest.mark.integration, pytest.mark.compliance]


def moves(story: dict[str, Any], leg: str) -> list[str]:
    """Return the statuses that a row went through, in the order of events, without repetition."""
    said: list[str] = []
    for event in story["events"]:
        payload = event["payload"]
        if event["type"] == "BracketOpened" and any(row["leg"] == leg for row in payload["rows"]):
            said.append("pending")
        if event["type"] == "RowChanged" and payload["row_id"] == f"{story['bracket_id']}.{leg}":
            said += [payload["status"]] if said[-1:] != [payload["status"]] else []
    return said


# -- the parent, and children that nobody else knows ---------------------------------------------------------------


def test_a_bracket_is_one_order_until_it_fills(native):
    """000.P.1, P.2, C.1, C.2, C.3, C.4, O.4, E.1: a thousand ticks and the acknowledgement change nothing."""
    symbol = native.symbol()
    bracket = native.submit(symbol)
    native.market.await_live(f"{bracket}.entry")
    native.market.prices(symbol, [f"{101 + n % 500 / 100:.2f}" for n in range(1_000)])
    rows = native.await_statuses(bracket, entry="transmitted", target="pending", stop="pending")
    (sent,) = placements(native.lines, f"{bracket}.*")
    assert sent["orderRef"] == f"{bracket}.entry"
    assert not {"parentId", "ocaGroup", "conditions", "trailStopPrice", "trailingPercent"} & sent.keys()
    assert sent["transmit"] is True
    assert (rows["entry"]["parent_id"], rows["entry"]["oca_group"]) == (None, None)
    for leg in ("target", "stop"):
        assert (rows[leg]["parent_id"], rows[leg]["order_ref"]) == (f"{bracket}.entry", None)
    opened = next(e for e in native.story(bracket)["events"] if e["type"] == "BracketOpened")
    assert opened["ts_ns"] < sent["ts_ns"]     # durable first, then transmitted
    native.client.cancel(bracket)
    story = native.await_phase(bracket)
    assert {row["leg"]: row["status"] for row in story["orders"]} == {
        "entry": "canceled", "target": "canceled", "stop": "canceled"
    }  # fmt: skip


def test_children_go_from_pending_to_ready_to_active_around_their_transmission(native):
    """000.T.2, T.3, O.1, E.4, E.5, X.1, U.1: in the order of events, with the gateway's journal between them."""
    bracket = native.entered(native.symbol())
    rows = native.await_statuses(bracket, entry="filled", target="active", stop="active")
    story = native.story(bracket)
    group = {row["oca_group"] for leg, row in rows.items() if leg != "entry"}
    assert len(group) == 1
    assert None not in group
    for leg in ("target", "stop"):
        assert moves(story, leg) == ["pending", "ready", "active"]
        changes = [e for e in story["events"] if e["payload"].get("row_id") == f"{bracket}.{leg}"]
        ready = next(e for e in changes if e["payload"]["status"] == "ready")
        active = next(e for e in changes if e["payload"]["status"] == "active")
        (sent,) = placements(native.lines, f"{bracket}.{leg}.*")
        assert ready["ts_ns"] <= sent["ts_ns"] <= active["ts_ns"]
        assert ready["bracket_seq"] < active["bracket_seq"]
        assert all(e["ts_ns"] > 0 and e["reason"] is not None for e in changes)
    native.client.flatten(bracket)                   # one cancel call ends parent and children
    ended = native.await_phase(bracket)
    assert native.market.live(f"{bracket}.*") == []
    assert Decimal(ended["open_qty"]) == 0


def test_an_execution_alone_activates_the_children(native):
    """000.T.1, 001.H.3, H.5: execDetails without openOrder and orderStatus is a fill; no status ever is one."""
    symbol = native.symbol()
    bracket = native.submit(symbol)
    native.market.await_live(f"{bracket}.entry")
    native.await_statuses(bracket, entry="transmitted")
    loud = native.market.mute("orderStatus", "openOrder", "commissionReport")
    try:
        native.market.fill(f"{bracket}.entry")
        native.market.await_live(f"{bracket}.target*", 100)
        native.market.await_live(f"{bracket}.stop*", 100)
    finally:
        loud()
    native.client.flatten(bracket)
    native.await_phase(bracket)


# -- quantities: the engine's own writing (oca.native = false) -----------------------------------------------------


def test_later_fills_grow_the_same_two_children(ours):
    """000.T.4, T.5, 001.E.4, E.13, H.7: 40 + 35 + 25 end as 100 on two order ids, amended in place."""
    bracket = ours.submit(ours.symbol())
    for quantity, total in ((40, 40), (35, 75), (25, 100)):
        ours.market.fill(f"{bracket}.entry", quantity)
        for leg in ("target", "stop"):
            ours.market.await_live(f"{bracket}.{leg}*", total)
    rows = ours.await_statuses(bracket, entry="filled", target="active", stop="active")
    assert {rows[leg]["quantity"] for leg in ("target", "stop")} == {"100"}
    lines = ours.lines
    sent = placements(lines, f"{bracket}.*")
    assert len(sent) == 3
    ids = {line["orderRef"]: line["orderId"] for line in sent}
    assert all(ids[line["orderRef"]] == line["orderId"] for line in modifies(lines, f"{bracket}.*"))
    fills = [fill for fill in ours.story(bracket)["fills"] if fill["role"] == "entry"]
    assert sum(Decimal(fill["quantity"]) for fill in fills) == Decimal(rows["entry"]["filled_qty"]) == 100
    states = [e["payload"]["state"] for e in ours.story(bracket)["events"]
              if e["type"] == "RowChanged" and e["payload"]["row_id"] == f"{bracket}.entry"]  # fmt: skip
    assert states[-1] == "FILLED"
    assert "PARTIAL_FILLED" in states


def test_the_target_reduces_and_then_cancels_the_stop(ours):
    """000.O.2, O.5: 30 of 100 leave 70 with the stop, amended in place; the rest cancels it. IB is told of no group."""
    bracket = ours.entered(ours.symbol())
    ours.market.await_live(f"{bracket}.stop*", 100)
    ours.market.fill(f"{bracket}.target*", 30)
    ours.market.await_live(f"{bracket}.stop*", 70)
    ours.market.fill(f"{bracket}.target*")
    ours.await_phase(bracket)
    (amended,) = modifies(ours.lines, f"{bracket}.stop*")
    assert amended["quantity"] == "70"
    (cancelled,) = cancels(ours.lines, f"{bracket}.*")
    assert cancelled["orderRef"] == f"{bracket}.stop.1"
    assert executions(ours.lines, f"{bracket}.target*")[-1]["seq"] < cancelled["seq"]
    assert not any("ocaGroup" in line for line in placements(ours.lines, f"{bracket}.*"))
    assert ours.statuses(bracket) == {"entry": "filled", "target": "filled", "stop": "canceled"}


def test_the_stop_cancels_the_target(ours):
    """000.O.3: a stop that has begun to trade is on its way out whole: the target goes at its first share."""
    bracket = ours.entered(ours.symbol())
    ours.market.await_live(f"{bracket}.target*", 100)
    ours.market.fill(f"{bracket}.stop*", 30)
    wait_for(lambda: cancels(ours.lines, f"{bracket}.target*"), what="the cancel of the target")
    ours.market.fill(f"{bracket}.stop*")
    ours.await_phase(bracket)
    assert ours.statuses(bracket) == {"entry": "filled", "target": "canceled", "stop": "filled"}


def test_a_cancel_that_comes_too_late_is_a_question(ours):
    """000.O.7: 10148 for the loser of a race: no reject, no second cancel, the fill is the answer."""
    bracket = ours.entered(ours.symbol())
    ours.market.await_live(f"{bracket}.target*")
    ours.market.fill_both((f"{bracket}.target*", 110), (f"{bracket}.stop*", 95))
    ours.await_phase(bracket)
    rows = ours.rows(bracket)
    assert all(row["state"] != "REJECTED" for row in rows.values())
    assert len(cancels(ours.lines, f"{bracket}.stop*")) <= 1
    assert len(cancels(ours.lines, f"{bracket}.target*")) <= 1


def test_a_race_is_recorded_and_taken_back_once(native, ours):
    """000.O.6, trading rule 4: both exits fill whole; the excess is bought back by one order."""
    for each in (native, ours):
        symbol = each.symbol()
        bracket = each.entered(symbol)
        each.market.await_live(f"{bracket}.stop*")
        each.market.fill_both((f"{bracket}.target*", 110), (f"{bracket}.stop*", 95))
        wait_for(lambda b=bracket, e=each: executions(e.lines, f"{b}.excess*"), what="the flattening order")
        each.await_phase(bracket)
        (flat,) = placements(each.lines, f"{bracket}.excess*")
        assert (flat["action"], flat["quantity"]) == ("BUY", "100")
        incidents = Reader(f"sqlite:///{each.state}/bracketeer.db").incidents()
        assert any(row["code"] == "oca_overfill" and row["bracket_id"] == bracket for row in incidents)
        wait_for(lambda s=symbol, e=each: e.net(s) == 0, what="a flat position")


# -- trailing ------------------------------------------------------------------------------------------------------


def test_a_trailing_stop_is_one_order_when_it_fires_and_none_before(native):
    """000.S.1, S.2, S.3, E.3: the status shows extreme, stop and last tick; IB sees one final order."""
    symbol = native.symbol()
    bracket = native.entered(symbol, exits=[{"trailing_stop": {"amount": "2"}}])
    native.await_statuses(bracket, entry="filled")
    wait_for(lambda: symbol in armed(native), what="an armed trail")
    native.market.insist(symbol, 106, lambda: [t["stop"] for t in native.story(bracket)["trails"]] == ["104"])
    (trail,) = native.story(bracket)["trails"]
    assert trail["high_water"] == "106"
    facts = native.facts("market_data")["instruments"][symbol]
    assert facts["mark"] == "106"
    native.market.prices(symbol, [f"{105 + n % 90 / 100:.2f}" for n in range(1_000)])
    assert placements(native.lines, f"{bracket}.trail*") == []
    native.market.prices(symbol, ["106.50", "107", "105"])
    native.await_phase(bracket)
    (sent,) = placements(native.lines, f"{bracket}.trail*")
    assert (sent["type"], sent["quantity"], sent["action"]) == ("MKT", "100", "SELL")
    assert native.rows(bracket)["trail"]["stop_price"] == "105"      # that at which it fired
    assert "trailStopPrice" not in sent
    assert modifies(native.lines, f"{bracket}.*") == []
    assert cancels(native.lines, f"{bracket}.*") == []


@pytest.mark.parametrize(
    ("trail", "fires_at", "sent_as"),
    [
        ({"percent": "2"}, "98", ("MKT", None)),
        ({"amount": "2", "limit_offset": "0.50"}, "98", ("LMT", "97.5")),
        ({"amount": "2", "activation_price": "104"}, None, ("MKT", None)),
    ],
    ids=["percent", "limit-offset", "activation"],
)
def test_every_kind_of_trail_goes_through_http_to_the_journal(native, trail, fires_at, sent_as):
    """000.S.1-S.3, issue point 3: percent, limit offset and activation price, each one order when it fires."""
    symbol = native.symbol()
    bracket = native.entered(symbol, exits=[{"trailing_stop": trail}])
    native.await_statuses(bracket, entry="filled")
    wait_for(lambda: symbol in armed(native), what="a subscribed feed")
    native.market.price(symbol, 100)
    if fires_at is None:
        native.market.insist(symbol, 97, lambda: armed(native)[symbol]["mark"] == "97")   # dormant: nothing fires
        native.market.insist(symbol, 104, lambda: armed(native)[symbol]["mark"] == "104")
        native.market.insist(symbol, "102.01", lambda: armed(native)[symbol]["mark"] == "102.01")
        assert placements(native.lines, f"{bracket}.trail*") == []
        fires_at = "102"
    native.market.insist(symbol, fires_at, lambda: placements(native.lines, f"{bracket}.trail*"))
    (sent,) = placements(native.lines, f"{bracket}.trail*")
    assert (sent["type"], sent.get("lmtPrice")) == sent_as
    native.await_phase(bracket)



# -- the tables ----------------------------------------------------------------------------------------------------


def test_what_was_played_is_rebuilt_from_its_events_byte_for_byte(native, ours, tmp_path):
    """003.A.3, A.4, 000.E.5: a race played by a real engine; events refuse every change, tables are made again."""
    for number, ground in enumerate((native, ours)):
        bracket = ground.entered(ground.symbol())
        ground.market.await_live(f"{bracket}.stop*")
        ground.market.fill_both((f"{bracket}.target*", 110), (f"{bracket}.stop*", 95))
        ground.await_phase(bracket)
        copy = tmp_path / str(number) / "bracketeer.db"
        copy.parent.mkdir(mode=0o700)
        source, database = sqlite3.connect(f"{ground.state}/bracketeer.db"), sqlite3.connect(copy)
        source.backup(database)
        for statement in ("UPDATE events SET reason = 'x'", "DELETE FROM events", "DELETE FROM events WHERE seq = 1"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                database.execute(statement)
        source.close()
        database.close()
        done = cli("rebuild", "--state", str(copy.parent), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["changed"] == []
        assert json.loads(done.stdout)["events"] > 30
