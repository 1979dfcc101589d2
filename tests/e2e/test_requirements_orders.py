"""Order types, times in force, sides and shapes, from HTTP to the gateway's journal.

Each test names the rows that it shows; docs/requirements.md lists them. The engines are those of conftest.py.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from actors.venue.simulator.journal import modifies, order_by_ref, placements, select
from actors.web.client import Refused
from tests.e2e.engines import wait_for
from tests.e2e.playground import armed

pytestmark = [pytest.mark.integration, pytest.mark.compliance]


# -- every type of order, every time in force, every side ----------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sent_as"),
    [
        ({"order_type": "MKT", "limit_price": ...}, ("MKT", None, None)),
        ({"order_type": "LMT", "limit_price": "100"}, ("LMT", "100", None)),
        ({"order_type": "STP", "limit_price": ..., "stop_price": "103"}, ("STP", None, "103")),
        ({"order_type": "STP LMT", "limit_price": "104", "stop_price": "103"}, ("STP LMT", "104", "103")),
    ],
    ids=["MKT", "LMT", "STP", "STP-LMT"],
)
def test_each_order_type_reaches_the_gateway_with_its_fields(native, fields, sent_as):
    """003.T.1-T.4, L.1."""
    bracket = native.submit(native.symbol(), shape="single", exits=..., **fields)
    wait_for(lambda: order_by_ref(native.lines, f"{bracket}.entry"), what="the order")
    (sent,) = placements(native.lines, f"{bracket}.*")
    assert (sent["type"], sent.get("lmtPrice"), sent.get("auxPrice")) == sent_as
    assert (sent["orderRef"], sent["account"]) == (f"{bracket}.entry", "DU1000001")
    if sent["type"] == "MKT":
        native.await_phase(bracket)
    else:
        wait_for(lambda: native.rows(bracket)["entry"]["state"] == "PLACED")
        native.client.cancel(bracket)
        native.await_phase(bracket)


@pytest.mark.parametrize(("tif", "more"), [("DAY", {}), ("GTC", {}), ("GTD", {"good_till": "20991231-15:00:00"})])
def test_a_time_in_force_that_rests_is_sent_as_written_and_exits_are_gtc(native, tif, more):
    """003.T.5, T.6, issue point 3: the entry's word is the entry's alone (trading rule 13)."""
    bracket = native.submit(native.symbol(), time_in_force=tif, **more)
    native.market.fill(f"{bracket}.entry")
    native.market.await_live(f"{bracket}.target*")
    native.market.await_live(f"{bracket}.stop*")
    tifs = {line["orderRef"].split(".")[1]: line["tif"] for line in placements(native.lines, f"{bracket}.*")}
    assert tifs == {"entry": tif, "target": "GTC", "stop": "GTC"}
    (entry,) = placements(native.lines, f"{bracket}.entry")
    assert entry.get("goodTillDate", "").replace(" UTC", "") == more.get("good_till", "")
    native.client.flatten(bracket)
    native.await_phase(bracket)


def test_an_ioc_that_fills_in_part_is_cancelled_and_what_it_got_is_protected(ours):
    """003.T.7, 001.E.15: the end comes from the venue's orderStatus; the exits cover what was filled."""
    symbol = ours.symbol(last=101)
    ours.market.refuse_next("nobody")           # the market is moved by hand only
    gateway = ours.market.gateway
    contract = gateway.contracts.named(symbol)
    gateway.exchange.rules = type(gateway.exchange.rules)(liquidity="displayed")
    try:
        ours.market.do(lambda now: gateway.set_quote(
            contract, now, bid=Decimal("99.99"), ask=Decimal(100), ask_size=Decimal(40), match=False))  # fmt: skip
        bracket = ours.submit(symbol, time_in_force="IOC")
        ours.market.await_live(f"{bracket}.stop*", 40)
        ours.market.await_live(f"{bracket}.target*", 40)
    finally:
        gateway.exchange.rules = type(gateway.exchange.rules)()
    rows = ours.await_statuses(bracket, target="active", stop="active")
    assert (rows["entry"]["filled_qty"], rows["entry"]["state"]) == ("40", "CANCELLED")
    ended = select(ours.lines, "order", "sim", f"{bracket}.entry")[-1]
    assert (ended["status"], ended["filled"]) == ("Cancelled", "40")
    ours.client.flatten(bracket)
    ours.await_phase(bracket)


@pytest.mark.parametrize("tif", ["IOC", "FOK"])
def test_an_order_that_must_trade_at_once_waits_for_the_venues_word(native, tif):
    """003.T.7, T.8, 001.E.15: unfilled it is over, but only once the venue's status says so."""
    bracket = native.submit(native.symbol(), time_in_force=tif)
    story = native.await_phase(bracket)
    assert story["entry_filled"] == "0"
    over = next(e for e in story["events"] if e["type"] in ("OrderExpired", "OrderCanceled"))
    told = [line for line in select(native.lines, "orderStatus", "out") if line["status"] == "Cancelled"]
    assert min(line["ts_ns"] for line in told) <= over["ts_ns"]
    assert placements(native.lines, f"{bracket}.*")[0]["tif"] == tif
    assert len(placements(native.lines, f"{bracket}.*")) == 1


def test_fok_takes_all_or_nothing(native):
    """003.T.8: forty shares on offer are not taken by a hundred; a hundred are."""
    symbol = native.symbol(last=101)
    gateway = native.market.gateway
    contract = gateway.contracts.named(symbol)
    plain = gateway.exchange.rules
    gateway.exchange.rules = type(plain)(liquidity="displayed")
    try:
        for size, filled in ((40, "0"), (100, "100")):
            quote = {"bid": Decimal("99.99"), "ask": Decimal(100), "ask_size": Decimal(size)}
            native.market.do(lambda now, quote=quote: gateway.set_quote(contract, now, match=False, **quote))
            bracket = native.submit(symbol, shape="single", exits=..., time_in_force="FOK")
            native.await_phase(bracket)
            assert native.rows(bracket)["entry"]["filled_qty"] == filled
    finally:
        gateway.exchange.rules = plain


def test_a_short_bracket_buys_back(native):
    """001.C.15 on the wire: SELL_SHORT is SELL at IB, its exits BUY; the rows say BUY_TO_COVER."""
    symbol = native.symbol(last=99)
    exits = [{"target": {"price": "90"}, "stop": {"price": "105"}}]
    bracket = native.submit(symbol, side="SELL_SHORT", exits=exits)
    native.market.fill(f"{bracket}.entry")
    native.market.await_live(f"{bracket}.target*")
    native.market.await_live(f"{bracket}.stop*")
    actions = {line["orderRef"].split(".")[1]: line["action"] for line in placements(native.lines, f"{bracket}.*")}
    assert actions == {"entry": "SELL", "target": "BUY", "stop": "BUY"}
    assert native.rows(bracket)["target"]["side"] == "BUY_TO_COVER"
    native.market.price(symbol, 90)
    native.await_phase(bracket)


@pytest.mark.parametrize(("side", "position", "price"), [("SELL", 100, "100"), ("BUY_TO_COVER", -100, "102")])
def test_a_position_may_be_closed_by_a_single_order_and_not_beyond(native, side, position, price):
    """001.C.15, trading rule 7: SELL and BUY_TO_COVER close what is there; a share more is refused by name."""
    symbol = native.symbol(position=position)
    with pytest.raises(Refused) as refused:
        native.submit(symbol, shape="single", exits=..., side=side, quantity="101", limit_price=price)
    assert refused.value.code == "exceeds_position"
    assert str(refused.value).startswith("quantity: 101 ")
    bracket = native.submit(symbol, shape="single", exits=..., side=side, limit_price=price)
    native.await_phase(bracket)
    assert placements(native.lines, f"{bracket}.*")[0]["action"] == ("SELL" if side == "SELL" else "BUY")
    wait_for(lambda: native.net(symbol) == 0, what="a flat position")


# -- shapes --------------------------------------------------------------------------------------------------------


def test_an_oco_covers_a_position_and_two_of_them_share_it(native):
    """000.X.2, 003.T.13, issue point 3: two live siblings without a parent; claims add up to the position."""
    symbol = native.symbol(position=100)
    exits = [{"target": {"price": "110"}, "stop": {"price": "95"}}]
    oco = {"shape": "oco", "side": "SELL", "order_type": ..., "limit_price": ..., "exits": exits}
    first = native.submit(symbol, quantity="60", **oco)
    with pytest.raises(Refused) as refused:
        native.submit(symbol, quantity="41", **oco)
    assert refused.value.code == "exceeds_position"
    assert first in str(refused.value)
    second = native.submit(symbol, quantity="40", **oco)
    for bracket, shares in ((first, 60), (second, 40)):
        for leg in ("target", "stop"):
            native.market.await_live(f"{bracket}.{leg}*", shares)
        assert {row["parent_id"] for row in native.rows(bracket).values()} == {None}
    native.market.fill(f"{first}.target*")
    native.market.fill(f"{second}.stop*")
    for bracket, statuses in ((first, ("filled", "canceled")), (second, ("canceled", "filled"))):
        native.await_phase(bracket)
        rows = native.statuses(bracket)
        assert (rows["target"], rows["stop"]) == statuses


@pytest.mark.parametrize(
    ("shape", "exits", "legs"),
    [
        ("oto", [{"stop": {"offset": "5"}}], {"stop": ("STP", "95")}),
        ("oto", [{"target": {"percent": "10"}}], {"target": ("LMT", "110")}),
        ("otoco", [{"target": {"percent": "10"}, "stop": {"percent": "5"}}],
         {"target": ("LMT", "110"), "stop": ("STP", "95")}),
        ("bracket", [{"stop": {"price": "95", "limit_offset": "0.25"}}], {"stop": ("STP LMT", "95")}),
    ],
    ids=["oto-stop", "oto-target", "otoco", "stop-limit"],
)  # fmt: skip
def test_a_shape_sends_its_exits_after_the_fill_and_measures_from_it(native, shape, exits, legs):
    """000.X.3, 003.T.4, T.13, trading rule 15: nothing before the fill; offsets and percents of the actual average."""
    bracket = native.submit(native.symbol(), shape=shape, exits=exits)
    native.market.await_live(f"{bracket}.entry")
    assert len(placements(native.lines, f"{bracket}.*")) == 1
    native.market.fill(f"{bracket}.entry", price="100")
    for leg, (kind, price) in legs.items():
        native.market.await_live(f"{bracket}.{leg}*")
        (sent,) = placements(native.lines, f"{bracket}.{leg}*")
        assert (sent["type"], sent.get("auxPrice") or sent.get("lmtPrice")) == (kind, price)
        if kind == "STP LMT":
            assert sent["lmtPrice"] == "94.75"
    assert len(placements(native.lines, f"{bracket}.*")) == 1 + len(legs)
    native.client.flatten(bracket)
    native.await_phase(bracket)


def test_tranches_split_what_is_filled_and_end_each_for_itself(native):
    """Issue point 3: 60 to the first tranche, 40 to the second, a group each."""
    exits = [{"quantity": "60", "target": {"price": "105"}, "stop": {"price": "95"}},
             {"quantity": "40", "target": {"price": "110"}, "stop": {"price": "90"}}]  # fmt: skip
    bracket = native.entered(native.symbol(), exits=exits)
    for leg, shares in (("target.", 60), ("stop.", 60), ("target2.", 40), ("stop2.", 40)):
        native.market.await_live(f"{bracket}.{leg}*", shares)
    groups = {line["orderRef"].split(".")[1]: line["ocaGroup"] for line in placements(native.lines, f"{bracket}.*")
              if "ocaGroup" in line}  # fmt: skip
    assert groups["target"] == groups["stop"] != groups["target2"] == groups["stop2"]
    native.market.fill(f"{bracket}.target.*")
    native.market.fill(f"{bracket}.stop2.*")
    native.await_phase(bracket)
    assert native.statuses(bracket) == {"entry": "filled", "target": "filled", "stop": "canceled",
                                        "target2": "canceled", "stop2": "filled"}  # fmt: skip


def test_a_rule_transmits_once_at_the_first_tick_that_qualifies(native):
    """000.X.4: 104.99 is not enough, 105 is, and a second time is nothing."""
    symbol = native.symbol()
    when = {"instrument": symbol, "operator": ">=", "price": "105", "trigger_method": "last"}
    bracket = native.submit(symbol, order_type="MKT", limit_price=..., when=when, shape="single", exits=...,
                            valid_for="3600")  # fmt: skip
    wait_for(lambda: symbol in armed(native), what="an armed rule")
    native.market.insist(symbol, "104.99", lambda: armed(native)[symbol]["mark"] == "104.99")
    assert placements(native.lines, f"{bracket}.*") == []
    native.market.insist(symbol, "105", lambda: placements(native.lines, f"{bracket}.*"))
    native.market.prices(symbol, ["105.01", "106"])
    native.await_phase(bracket)
    assert len(placements(native.lines, f"{bracket}.*")) == 1


@pytest.mark.parametrize(("leg", "price", "limit"), [("stop", "95", None), ("target", "110", "110")])
def test_a_held_exit_is_unknown_to_the_venue_until_its_price(native, leg, price, limit):
    """Issue point 3, 000.S.2: hold: engine is virtual until its price triggers, then one order."""
    symbol = native.symbol()
    exits = [{"target": {"price": "110", "hold": "engine"}, "stop": {"price": "95", "hold": "engine"}}]
    bracket = native.entered(symbol, exits=exits)
    wait_for(lambda: armed(native).get(symbol, {}).get("armed") == 2, what="two armed exits")
    native.market.price(symbol, 101)
    assert len(placements(native.lines, f"{bracket}.*")) == 1
    native.market.insist(symbol, price, lambda: len(placements(native.lines, f"{bracket}.*")) > 1)
    native.market.price(symbol, price)                  # a limit that has arrived trades at the next print
    native.await_phase(bracket)
    (sent,) = [line for line in placements(native.lines, f"{bracket}.*") if not line["orderRef"].endswith("entry")]
    assert sent["orderRef"].startswith(f"{bracket}.{leg}.")
    assert sent.get("lmtPrice") == limit


def test_a_safety_stop_rests_in_a_group_that_the_fired_exit_joins(native):
    """Issue point 3, trading rules 3, 8, 9: one static order, and the exit that fires joins its group in one write."""
    symbol = native.symbol()
    bracket = native.entered(symbol, exits=[{"trailing_stop": {"amount": "2"}}], safety_stop={"price": "80"})
    safety = native.market.await_live(f"{bracket}.safety*", 100)
    assert safety.oca_group
    wait_for(lambda: symbol in armed(native), what="an armed trail")
    native.market.insist(symbol, 104, lambda: armed(native)[symbol]["mark"] == "104")
    native.market.insist(symbol, 102, lambda: placements(native.lines, f"{bracket}.trail*"))
    native.await_phase(bracket)
    (fired,) = placements(native.lines, f"{bracket}.trail*")
    assert (fired["ocaGroup"], fired["ocaType"]) == (safety.oca_group, 2)
    assert native.statuses(bracket) == {"entry": "filled", "trail": "filled", "safety": "canceled"}
    assert modifies(native.lines, f"{bracket}.*") == []
