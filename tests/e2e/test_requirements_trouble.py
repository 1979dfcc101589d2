"""Operators, people at a workstation, a venue that refuses, and fills that come in pieces.

Each test names the rows that it shows; docs/requirements.md lists them. The engines are those of conftest.py.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from actors.venue.simulator.journal import cancels, modifies, placements
from actors.web.client import Refused
from tests.e2e.engines import wait_for
from tests.e2e.playground import Playground, armed

pytestmark = [pytest.mark.integration, pytest.mark.compliance]


def test_opposite_brackets_are_denied(native):
    """Trading rule 7: one direction per account and contract, before the fill and after it."""
    symbol = native.symbol()
    bracket = native.submit(symbol)
    short = {"side": "SELL_SHORT", "limit_price": "103", "exits": [{"stop": {"price": "109"}}]}
    with pytest.raises(Refused) as refused:
        native.submit(symbol, **short)
    assert (refused.value.code, bracket in str(refused.value)) == ("netting", True)
    native.market.fill(f"{bracket}.entry")
    native.await_statuses(bracket, target="active", stop="active")
    with pytest.raises(Refused) as refused:
        native.submit(symbol, **short)
    assert refused.value.code == "netting"
    with pytest.raises(Refused) as refused:      # what the bracket protects is not sold by somebody else
        native.submit(symbol, side="SELL", shape="single", exits=..., quantity="1", limit_price="101")
    assert refused.value.code in ("netting", "exceeds_position")
    assert len(placements(native.lines, f"{bracket}.*")) == 3
    native.client.flatten(bracket)
    native.await_phase(bracket)


def test_an_entry_that_aged_is_denied_as_stale(ours):
    """Trading rule 22: accepted while the gateway was away, too old when it came back; nothing is transmitted."""
    symbol = ours.symbol()
    ours.await_phase(ours.submit(symbol, time_in_force="IOC"))       # so that the instrument is known
    ours.market.go_away()
    wait_for(lambda: not ours.client.status()["ready"], what="the loss to be noticed")
    stale = ours.submit(symbol, valid_for="0.5")
    fresh = ours.submit(symbol, valid_for="600")
    time.sleep(0.6)
    ours.market.come_back()
    wait_for(lambda: ours.client.status()["ready"], what="the next picture")
    story = ours.await_phase(stale)
    ours.market.await_live(f"{fresh}.entry")
    assert placements(ours.lines, f"{stale}.*") == []
    assert len(placements(ours.lines, f"{fresh}.*")) == 1
    assert {row["status"] for row in story["orders"]} <= {"denied", "canceled", "expired"}
    assert any("stale" in json.dumps(event["payload"]) + event["reason"] for event in story["events"])
    ours.client.cancel(fresh)


def test_verbs_do_what_they_say(ours):
    """Trading rule 24, 003.L.6, 000.U.1: cancel-entry keeps protection, cancel names the choices, flatten, detach."""
    bracket = ours.submit(ours.symbol())
    ours.market.fill(f"{bracket}.entry", 40)
    ours.market.await_live(f"{bracket}.stop*", 40)
    ours.await_statuses(bracket, stop="active", target="active")
    with pytest.raises(Refused) as refused:
        ours.client.cancel(bracket)
    assert refused.value.status == 409
    assert "cancel-entry" in str(refused.value)
    assert "flatten" in str(refused.value)
    ours.client.cancel_entry(bracket)
    ours.await_statuses(bracket, entry="canceled", stop="active", target="active")
    (cancelled,) = cancels(ours.lines, f"{bracket}.*")
    assert cancelled["orderRef"] == f"{bracket}.entry"
    ours.client.flatten(bracket)
    story = ours.await_phase(bracket)
    assert (story["entry_filled"], story["exit_filled"]) == ("40", "40")
    (flat,) = placements(ours.lines, f"{bracket}.flat*")
    assert (flat["type"], flat["quantity"]) == ("MKT", "40")
    left = ours.entered(ours.symbol())
    ours.await_statuses(left, stop="active", target="active")
    ours.client.detach(left)
    ours.await_phase(left, "DETACHED")
    assert len(ours.market.live(f"{left}.*")) == 2
    assert cancels(ours.lines, f"{left}.*") == []
    with pytest.raises(Refused):
        ours.client.flatten(left)


def test_modify_before_and_after_the_fill(ours, native):
    """003.L.6, 001.E.13, issue point 3: on the same order id where the engine writes; as a new group where IB does."""
    for ground in (ours, native):
        bracket = ground.submit(ground.symbol())
        wait_for(lambda g=ground, b=bracket: g.rows(b)["entry"]["state"] == "PLACED")
        ground.await_statuses(bracket, entry="transmitted")
        ground.client.modify(bracket, limit_price="99", quantity=50)
        wait_for(lambda g=ground, b=bracket: modifies(g.lines, f"{b}.entry"), what="the amendment")
        (amended,) = modifies(ground.lines, f"{bracket}.entry")
        (sent,) = placements(ground.lines, f"{bracket}.entry")
        assert (amended["orderId"], amended["lmtPrice"], amended["quantity"]) == (sent["orderId"], "99", "50")
        ground.market.fill(f"{bracket}.entry")
        ground.await_statuses(bracket, stop="active", target="active")
        with pytest.raises(Refused):
            ground.client.modify(bracket, limit_price="98")
        ground.client.modify(bracket, stop="96")
        wait_for(lambda g=ground, b=bracket: any((o.aux, o.total) == (96, 50) for o in g.market.live(f"{b}.stop*")))
        ground.await_statuses(bracket, stop="active", target="active")
        assert len(modifies(ground.lines, f"{bracket}.stop*")) == (1 if ground is ours else 0)
        ground.client.flatten(bracket)
        ground.await_phase(bracket)


def test_an_exit_that_a_person_cancels_freezes_the_bracket_and_pages(native, ours):
    """Trading rule 26: nothing is placed against a human; the bracket says so and can still be flattened."""
    for ground in (native, ours):
        bracket = ground.entered(ground.symbol())
        ground.await_statuses(bracket, stop="active", target="active")
        ground.market.cancel_by_hand(f"{bracket}.stop*")
        ground.await_phase(bracket, "FROZEN")
        placed = len(placements(ground.lines, f"{bracket}.*"))
        alerts = [event for event in ground.events() if event["bracket_id"] == bracket
                  and event["type"] in ("AlertRaised", "IncidentRecorded")]  # fmt: skip
        assert any(event["payload"].get("code") == "human_cancel" for event in alerts)
        assert len(placements(ground.lines, f"{bracket}.*")) == placed == 3
        ground.client.flatten(bracket)
        ground.await_phase(bracket)


def test_an_exit_that_is_rejected_is_placed_again(native):
    """Trading rule 26: after a reject the position is protected again, under the next number."""
    bracket = native.entered(native.symbol(), exits=[{"stop": {"price": "95"}}])
    native.await_statuses(bracket, stop="active")
    native.market.reject(f"{bracket}.stop.1")
    again = native.market.await_live(f"{bracket}.stop.2", 100)
    assert again.aux == Decimal(95)
    native.client.flatten(bracket)
    native.await_phase(bracket)


# -- what goes wrong, and what comes in pieces --------------------------------------------------------------------


def test_ib_reduces_a_native_group_and_the_engine_amends_nothing(native):
    """Trading rule 1: 30 of the target leave 70 with the stop, by the venue's own hand; the rest closes both."""
    bracket = native.entered(native.symbol())
    native.await_statuses(bracket, target="active", stop="active")
    native.market.fill(f"{bracket}.target*", 30)
    native.market.await_live(f"{bracket}.stop*", 70)
    native.market.fill(f"{bracket}.stop*")
    story = native.await_phase(bracket)
    assert (story["entry_filled"], story["exit_filled"]) == ("100", "100")
    assert modifies(native.lines, f"{bracket}.*") == []
    assert {leg: row["filled_qty"] for leg, row in native.rows(bracket).items()} == {
        "entry": "100", "target": "30", "stop": "70"
    }  # fmt: skip


def test_each_later_fill_is_covered_by_a_group_of_its_own(native):
    """000.T.4, T.5 by covered quantity, trading rule 1: two rows, one set of exits for each lot, one name for each."""
    bracket = native.submit(native.symbol())
    for quantity, covered in ((40, 40), (35, 75), (25, 100)):
        native.market.fill(f"{bracket}.entry", quantity)
        for leg in ("stop", "target"):
            wait_for(lambda leg=leg, n=covered: sum(o.total for o in native.market.live(f"{bracket}.{leg}*")) == n)
    rows = native.await_statuses(bracket, entry="filled", target="active", stop="active")
    assert {leg: row["quantity"] for leg, row in rows.items()} == {"entry": "100", "target": "100", "stop": "100"}
    groups: dict[str, int] = {}
    for line in placements(native.lines, f"{bracket}.*"):
        if "ocaGroup" in line:
            groups[line["ocaGroup"]] = groups.get(line["ocaGroup"], 0) + 1
    assert set(groups.values()) == {2}
    native.client.flatten(bracket)
    native.await_phase(bracket)


def test_a_stop_that_fires_while_the_entry_works_cancels_it(native, ours):
    """Trading rule 5: the remainder is cancelled in the same turn and what is filled goes out."""
    for ground in (native, ours):
        bracket = ground.submit(ground.symbol())
        ground.market.fill(f"{bracket}.entry", 40)
        ground.market.await_live(f"{bracket}.stop*", 40)
        ground.market.await_live(f"{bracket}.target*", 40)
        ground.market.fill(f"{bracket}.stop*")
        story = ground.await_phase(bracket)
        assert (story["entry_filled"], story["exit_filled"]) == ("40", "40")
        assert ground.market.live(f"{bracket}.*") == []


def test_a_price_beyond_the_stop_at_the_fill_sends_the_exit_at_once(native):
    """Trading rule 15: a held stop at 95 and a market at 90 when the entry trades."""
    symbol = native.symbol()
    stop = {"price": "95", "hold": "engine"}
    bracket = native.submit(symbol, exits=[{"stop": stop}])
    native.market.await_live(f"{bracket}.entry")
    native.market.insist(symbol, 90, lambda: placements(native.lines, f"{bracket}.stop*"))
    story = native.await_phase(bracket)
    (sent,) = placements(native.lines, f"{bracket}.stop*")
    assert (sent["type"], sent["quantity"]) == ("MKT", "100")
    assert any("95" in event["reason"] for event in story["events"])


def test_a_refused_entry_takes_its_children_along(native):
    """001.E.1, 000.C.2: rejected by the venue; the children were never sent."""
    native.market.refuse_next("*.entry")
    bracket = native.submit(native.symbol())
    native.await_phase(bracket)
    assert native.statuses(bracket) == {"entry": "rejected", "target": "canceled", "stop": "canceled"}
    assert len(placements(native.lines, f"{bracket}.*")) == 1


def test_exits_that_keep_being_rejected_freeze_the_bracket_after_two_more(native):
    """Trading rule 26: at most twice in a minute, then a person is called."""
    bracket = native.submit(native.symbol(), exits=[{"stop": {"price": "95"}}])
    native.market.refuse_next(f"{bracket}.stop*", times=10)
    native.market.fill(f"{bracket}.entry")
    native.await_phase(bracket, "FROZEN")
    assert len(placements(native.lines, f"{bracket}.stop*")) == 3
    native.market.do(lambda now: native.market.gateway.exchange.refusals.clear())
    native.client.flatten(bracket)
    native.await_phase(bracket)


def test_an_exit_whose_id_was_used_goes_again_under_a_higher_one(native):
    """Trading rules 18, 20, 21: 103 is asked about; then the same exit goes as the next number, with a higher id."""
    bracket = native.submit(native.symbol())
    native.market.refuse_next(f"{bracket}.stop.1", code=103)
    native.market.fill(f"{bracket}.entry")
    native.await_statuses(bracket, target="active", stop="active")
    first, second = placements(native.lines, f"{bracket}.stop*")
    asked = [line for line in native.lines if line["msg"] == "reqExecutions" and first["seq"] < line["seq"]]
    assert asked[0]["seq"] < second["seq"]
    assert second["orderId"] > first["orderId"]
    assert second["ocaGroup"] == placements(native.lines, f"{bracket}.target*")[0]["ocaGroup"]
    native.client.flatten(bracket)
    native.await_phase(bracket)


def test_two_who_flatten_at_once_close_it_once(native, ours):
    """000.U.2, trading rule 24: one market order, whoever asks and however often."""
    for ground in (native, ours):
        symbol = ground.symbol()
        bracket = ground.entered(symbol)
        ground.await_statuses(bracket, target="active", stop="active")

        def flatten(number: int, ground: Playground = ground, bracket: str = bracket) -> str:
            try:
                return ground.client.flatten(bracket, command_id=f"flat-{bracket}-{number % 2}").code
            except Refused as refused:
                return refused.code

        with ThreadPoolExecutor(4) as pool:
            assert "accepted" in list(pool.map(flatten, range(4)))
        ground.await_phase(bracket)
        (flat,) = placements(ground.lines, f"{bracket}.flat*")
        assert flat["quantity"] == "100"
        wait_for(lambda g=ground, s=symbol: g.net(s) == 0, what="a flat position")


def test_held_exits_in_tranches_share_one_safety_stop(native):
    """Trading rules 8, 9 and issue point 3: trailing stops of two tranches, a safety stop for all of it."""
    symbol = native.symbol()
    exits = [{"quantity": "60", "trailing_stop": {"amount": "2"}},
             {"quantity": "40", "target": {"price": "112"}, "trailing_stop": {"amount": "4"}}]  # fmt: skip
    bracket = native.entered(symbol, exits=exits, safety_stop={"percent": "15"})
    wait_for(lambda: sum(o.total for o in native.market.live(f"{bracket}.safety*")) == 100, what="the safety stop")
    wait_for(lambda: armed(native).get(symbol, {}).get("armed") == 2, what="two armed trails")
    native.market.insist(symbol, 104, lambda: armed(native)[symbol]["mark"] == "104")
    native.market.insist(symbol, 102, lambda: placements(native.lines, f"{bracket}.trail.*"))
    wait_for(lambda: native.rows(bracket)["trail"]["status"] == "filled")
    assert native.net(symbol) == 40
    wait_for(lambda: sum(o.total for o in native.market.live(f"{bracket}.safety*")) == 40, what="a safety stop of 40")
    native.market.insist(symbol, 100, lambda: placements(native.lines, f"{bracket}.trail2*"))
    native.await_phase(bracket)
    assert native.net(symbol) == 0


def test_a_trail_that_fires_beside_resting_targets_of_two_lots_closes_what_they_left(native, ours):
    """Trading rules 1, 3: 10 of the target are gone, 90 go with the trail: one order for each group, or one for all."""
    for ground in (native, ours):
        symbol = ground.symbol()
        bracket = ground.submit(symbol, exits=[{"target": {"price": "110"}, "trailing_stop": {"amount": "2"}}])
        for quantity, covered in ((40, 40), (60, 100)):
            ground.market.fill(f"{bracket}.entry", quantity)
            ground.market.await_live(f"{bracket}.target*")
            wait_for(lambda g=ground, b=bracket, n=covered: sum(o.total for o in g.market.live(f"{b}.target*")) == n)
        wait_for(lambda g=ground, s=symbol: s in armed(g), what="an armed trail")
        ground.market.fill(f"{bracket}.target*", 10)
        ground.market.insist(symbol, 106, lambda g=ground, s=symbol: armed(g)[s]["mark"] == "106")
        ground.market.insist(symbol, 104, lambda g=ground, b=bracket: placements(g.lines, f"{b}.trail*"))
        story = ground.await_phase(bracket)
        assert (story["entry_filled"], story["exit_filled"]) == ("100", "100")
        fired = placements(ground.lines, f"{bracket}.trail*")
        assert sum(Decimal(line["quantity"]) for line in fired) == 90
        if ground is native:
            targets = {line["ocaGroup"] for line in placements(ground.lines, f"{bracket}.target*")}
            assert {line["ocaGroup"] for line in fired} == targets
        wait_for(lambda g=ground, s=symbol: g.net(s) == 0, what="a flat position")


def test_an_oco_that_is_cancelled_gives_back_what_it_has_not_closed(native, ours):
    """Issue point 3, trading rule 24: 30 of 100 were sold; after the cancel another may claim the 70, and no more."""
    oco = {"shape": "oco", "side": "SELL", "order_type": ..., "limit_price": ...}
    for ground in (native, ours):
        symbol = ground.symbol(position=100)
        first = ground.submit(symbol, **oco)
        ground.await_statuses(first, target="active", stop="active")
        ground.market.fill(f"{first}.target*", 30)
        ground.market.await_live(f"{first}.stop*", 70)
        ground.client.cancel(first)
        ground.await_phase(first)
        assert ground.market.live(f"{first}.*") == []
        wait_for(lambda g=ground, s=symbol: g.net(s) == 70, what="70 that are left")
        with pytest.raises(Refused):
            ground.submit(symbol, quantity="71", **oco)
        second = ground.submit(symbol, quantity="70", **oco)
        ground.await_statuses(second, target="active", stop="active")
        ground.client.flatten(second)
        ground.await_phase(second)
        wait_for(lambda g=ground, s=symbol: g.net(s) == 0, what="a flat position")


def test_a_short_position_is_covered_by_an_oco_of_buys(native):
    """000.X.2 mirrored: BUY_TO_COVER on a short position."""
    symbol = native.symbol(position=-100)
    exits = [{"target": {"price": "90"}, "stop": {"price": "105"}}]
    bracket = native.submit(symbol, shape="oco", side="BUY_TO_COVER", order_type=..., limit_price=..., exits=exits)
    native.await_statuses(bracket, target="active", stop="active")
    native.market.price(symbol, 105)
    native.await_phase(bracket)
    assert native.statuses(bracket) == {"target": "canceled", "stop": "filled"}
    wait_for(lambda: native.net(symbol) == 0, what="a flat position")


def test_what_filled_while_the_gateway_was_away_is_protected_when_it_is_back(native, ours):
    """Trading rules 18, 28, issue point 7: a fill in the gap is covered once; a trail that was armed fires once."""
    for ground in (native, ours):
        symbol, other = ground.symbol(), ground.symbol()
        bracket, trailing = ground.submit(symbol), ground.entered(other, exits=[{"trailing_stop": {"amount": "2"}}])
        ground.market.await_live(f"{bracket}.entry")
        wait_for(lambda g=ground, s=other: s in armed(g), what="an armed trail")
        ground.market.insist(other, 106, lambda g=ground, s=other: armed(g)[s]["mark"] == "106")
        ground.market.go_away()
        wait_for(lambda g=ground: not g.client.status()["ready"], what="the loss to be noticed")
        ground.market.fill(f"{bracket}.entry")
        ground.market.come_back()
        wait_for(lambda g=ground: g.client.status()["ready"], what="the next picture")
        for leg in ("stop", "target"):
            ground.market.await_live(f"{bracket}.{leg}*", 100)
        ground.await_statuses(bracket, entry="filled", stop="active", target="active")
        ground.market.insist(other, 104, lambda g=ground, b=trailing: placements(g.lines, f"{b}.trail*"))
        ground.await_phase(trailing)
        assert len(placements(ground.lines, f"{trailing}.*")) == 2
        assert len(placements(ground.lines, f"{bracket}.*")) == 3
        ground.client.flatten(bracket)
        ground.await_phase(bracket)


def test_a_trail_whose_group_nobody_may_join_closes_the_position_in_a_group_of_its_own(native):
    """Trading rule 3, its other answer (10326): the sibling is cancelled first, and nothing is sent twice."""
    symbol = native.symbol()
    bracket = native.entered(symbol, exits=[{"target": {"price": "115"}, "trailing_stop": {"amount": "2"}}])
    native.await_statuses(bracket, target="active")
    wait_for(lambda: symbol in armed(native), what="an armed trail")
    native.market.refuse_next(f"{bracket}.trail*", 10326)
    native.market.insist(symbol, 106, lambda: armed(native)[symbol]["mark"] == "106")
    native.market.insist(symbol, 104, lambda: placements(native.lines, f"{bracket}.trail*"))
    native.await_phase(bracket)
    orders = ("target.1", "trail.1", "trail.2")
    target, refused, sent = (placements(native.lines, f"{bracket}.{order}")[0] for order in orders)
    assert target["ocaGroup"] == refused["ocaGroup"] != sent["ocaGroup"]
    assert len(cancels(native.lines, f"{bracket}.target.1")) == 1
    assert native.net(symbol) == 0
