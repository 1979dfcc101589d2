"""Every field of an order comes back: the real libraries write it, we read it, and they read our answer.

An order with some fields set must come back as the same order without them does, but for exactly these fields: so what
is lost, and what slips into another field, both show.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from decimal import Decimal as D
from typing import Any

import ib_async
import ib_insync
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator import order_messages
from actors.venue.simulator.combos import ComboBook
from actors.venue.simulator.contracts import BUILT_IN, Contract, ContractBook
from actors.venue.simulator.desks.orders import order_of
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.order_request import place_order
from actors.venue.simulator.orders import Order
from actors.venue.simulator.wire import Fields, encode, frame, split
from tests.venue.gateway_fixture import START_NS, RawClient, memory_gateway
from tests.venue.library_client import written_by
from tests.venue.test_sim_wire import Heard

STOCKS = [c for c in BUILT_IN if c.sec_type == "STK"]

pytestmark = pytest.mark.unit
SPOKEN = [(ib_insync, 157), (ib_insync, 164), (ib_insync, 176), (ib_async, 157), (ib_async, 170), (ib_async, 176),
          (ib_async, 177), (ib_async, 178)]
TYPES = ["MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "REL", "VOL", "PEG BENCH", "PEG MID", "PEG BEST"]

word = st.text("abcXYZ0189.-:_ ", min_size=1, max_size=12).map(lambda s: f"w{s}".strip())
amount = st.integers(1, 10**8).map(lambda n: n / 10**4)
either = st.one_of(amount, amount.map(lambda a: -a))
whole = st.integers(1, 10**6)
yes = st.just(True)

# What openOrder has no room for (ib-wire.md 5.1).
NO_ROOM = {
    "scaleTable": word, "activeStartTime": word, "activeStopTime": word, "algoId": word, "extOperator": word,
    "mifid2DecisionMaker": word, "mifid2DecisionAlgo": word, "mifid2ExecutionTrader": word, "mifid2ExecutionAlgo": word,
    "overridePercentageConstraints": yes, "advancedErrorOverride": word, "manualOrderTime": word}
SCALARS = {
    "lmtPrice": either, "auxPrice": amount, "tif": st.sampled_from(["DAY", "GTC", "IOC"]), "ocaGroup": word,
    "ocaType": st.integers(1, 3), "orderRef": word, "openClose": st.sampled_from(["O", "C"]), "origin": st.just(1),
    "parentId": whole, "blockOrder": yes, "sweepToFill": yes, "displaySize": whole, "triggerMethod": st.integers(1, 8),
    "outsideRth": yes, "hidden": yes, "discretionaryAmt": amount, "goodAfterTime": word, "goodTillDate": word,
    "faGroup": word, "faMethod": word, "faPercentage": word, "faProfile": word, "modelCode": word,
    "shortSaleSlot": st.integers(1, 2), "designatedLocation": word, "exemptCode": st.integers(0, 5), "rule80A": word,
    "settlingFirm": word, "allOrNone": yes, "minQty": whole, "percentOffset": amount, "nbboPriceCap": amount,
    "auctionStrategy": st.integers(1, 3), "startingPrice": amount, "stockRefPrice": amount, "delta": either,
    "stockRangeLower": amount, "stockRangeUpper": amount, "volatility": amount, "volatilityType": st.integers(1, 2),
    "deltaNeutralAuxPrice": amount, "continuousUpdate": yes, "referencePriceType": st.integers(1, 2),
    "trailStopPrice": amount, "trailingPercent": amount, "scaleInitLevelSize": whole, "scaleSubsLevelSize": whole,
    "optOutSmartRouting": yes, "clearingAccount": word, "clearingIntent": word, "notHeld": yes, "solicited": yes,
    "randomizeSize": yes, "randomizePrice": yes, "adjustedOrderType": st.sampled_from(["STP", "TRAIL"]),
    "triggerPrice": amount, "lmtPriceOffset": amount, "adjustedStopPrice": amount, "adjustedStopLimitPrice": amount,
    "adjustedTrailingAmount": amount, "adjustableTrailingUnit": st.just(1), "cashQty": amount, "isOmsContainer": yes,
    "discretionaryUpToLimitPrice": yes, "usePriceMgmtAlgo": yes, "duration": whole, "postToAts": whole,
    "autoCancelParent": yes, "whatIf": yes}
GROUPS = {
    "delta neutral": {
        "deltaNeutralOrderType": st.sampled_from(["MKT", "LMT"]), "deltaNeutralConId": whole,
        "deltaNeutralSettlingFirm": word, "deltaNeutralClearingAccount": word, "deltaNeutralClearingIntent": word,
        "deltaNeutralOpenClose": word, "deltaNeutralShortSale": yes, "deltaNeutralShortSaleSlot": whole,
        "deltaNeutralDesignatedLocation": word},
    "scale": {
        "scalePriceIncrement": amount, "scalePriceAdjustValue": either, "scalePriceAdjustInterval": whole,
        "scaleProfitOffset": amount, "scaleAutoReset": yes, "scaleInitPosition": whole, "scaleInitFillQty": whole,
        "scaleRandomPercent": yes},
    "hedge": {"hedgeType": st.sampled_from("DBFP"), "hedgeParam": word, "dontUseAutoPriceForHedge": yes}}
PEG_FIELDS = {
    "PEG BENCH": {"referenceContractId": whole, "isPeggedChangeAmountDecrease": yes, "peggedChangeAmount": amount,
                  "referenceChangeAmount": amount, "referenceExchangeId": word},
    "PEG MID": {"midOffsetAtWhole": amount, "midOffsetAtHalf": amount},
    "PEG BEST": {"minCompeteSize": whole, "competeAgainstBestOffset": amount}}
# The version that brought a field, and what completedOrder lacks (ib-wire.md 5.4).
SINCE = {"duration": 164, "postToAts": 164, "autoCancelParent": 164, **dict.fromkeys(
    ("minTradeQty", "minCompeteSize", "competeAgainstBestOffset", "midOffsetAtWhole", "midOffsetAtHalf"), 170)}
NOT_IN_COMPLETED = {
    "parentId", "auctionStrategy", "blockOrder", "nbboPriceCap", "deltaNeutralSettlingFirm", "optOutSmartRouting",
    "deltaNeutralClearingAccount", "deltaNeutralClearingIntent", "deltaNeutralOpenClose", "whatIf",
    "adjustedOrderType", "triggerPrice", "adjustedStopPrice", "adjustedStopLimitPrice", "adjustedTrailingAmount",
    "adjustableTrailingUnit", "discretionaryUpToLimitPrice", "usePriceMgmtAlgo", "duration", "postToAts"}
MESSAGES = ((order_messages.open_order, frozenset()), (order_messages.completed_order, NOT_IN_COMPLETED))


@st.composite
def set_fields(draw: Any, order_type: str) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(SCALARS)), unique=True, max_size=25))
    chosen = {name: draw(SCALARS[name]) for name in names}
    groups = draw(st.lists(st.sampled_from(sorted(GROUPS)), unique=True))
    for fields in (*(GROUPS[g] for g in groups), PEG_FIELDS.get(order_type, {})):
        chosen |= {name: draw(values) for name, values in fields.items()}
    if order_type == "PEG BEST" and draw(st.booleans()):
        chosen |= {"competeAgainstBestOffset": math.inf, "midOffsetAtWhole": 0.5, "midOffsetAtHalf": 0.25}
    return chosen


def applies(name: str, order_type: str, version: int, library: Any) -> bool:
    """Return whether an order of this type has the field at this version at all."""
    if version < SINCE.get(name, 0) or (name == "faProfile" and version >= 177):
        return False
    if name in ("trailStopPrice", "trailingPercent", "lmtPriceOffset"):
        return order_type.startswith("TRAIL")
    if name == "lmtPrice":
        return order_type not in ("MKT", "STP", "TRAIL")
    if name == "auxPrice":
        return order_type not in ("MKT", "LMT")
    return name != "volatility" or library is ib_insync or order_type == "VOL"      # ib_async clears it


def taken(library: Any, version: int, contract: Any, order: Any, known: Contract = BUILT_IN[0]) -> Order:
    """Let the library write an order, and return what we understood, as an order at the exchange."""
    reader = Fields("placeOrder", written_by(library, version, contract, order), 1)
    read = place_order(reader, version)
    assert reader.left == 0, "the layout ends exactly where the library's message ends"
    placed = order_of(1, read, known, "DU1")
    placed.perm_id, placed.status = 1_800_000_001, "Cancelled"
    return placed


def told(library: Any, version: int, data: bytes) -> tuple[Any, Any, Any]:
    """Return contract, order and state as the library's decoder understands our openOrder or completedOrder.

    ib_insync and ib_async log what they cannot decode: that fails the test.
    """
    problems: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = problems.append                                     # type: ignore[method-assign]
    logger = logging.getLogger(f"{library.__name__}.Decoder")
    logger.addHandler(handler)
    try:
        heard = Heard(library)
        library.decoder.Decoder(heard, version).interpret(split(data[4:]))
    finally:
        logger.removeHandler(handler)
    assert not problems, problems[0].getMessage()
    return heard.calls[0][-3:]


def fields_of(order: Any) -> dict[str, Any]:
    return {f.name: getattr(order, f.name) for f in dataclasses.fields(order)}


def build(library: Any, order_type: str, changes: dict[str, Any]) -> Any:
    return library.Order(**{"orderId": 7, "action": "BUY", "totalQuantity": 100, "orderType": order_type,
                            "account": "DU1", "ocaType": 3, **changes})


@settings(max_examples=150, deadline=None)
@given(spoken=st.sampled_from(SPOKEN), order_type=st.sampled_from(TYPES), data=st.data())
def test_what_is_set_comes_back_and_nothing_else_changes(spoken, order_type, data):
    library, version = spoken
    changes = data.draw(set_fields(order_type))
    contract = library.Stock("AAPL", "SMART", "USD", conId=265598)
    full, plain = (taken(library, version, contract, build(library, order_type, c)) for c in (changes, {}))
    for message, missing in MESSAGES:
        _, got, _ = told(library, version, message(full, version))
        _, expected, _ = told(library, version, message(plain, version))
        wanted = fields_of(expected) | {
            name: value for name, value in changes.items()
            if applies(name, order_type, version, library) and name not in missing}
        assert fields_of(got) == wanted


@pytest.mark.parametrize(("library", "version"), SPOKEN)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_what_has_no_room_in_the_answer_leaves_no_trace_there(library, version, data):
    changes = {name: data.draw(values) for name, values in NO_ROOM.items()}
    changes["orderMiscOptions"] = [library.TagValue("a", "b")]
    contract = library.Stock("AAPL", "SMART", "USD", conId=265598)
    full, plain = (taken(library, version, contract, build(library, "LMT", c)) for c in (changes, {}))
    for message in (order_messages.open_order, order_messages.completed_order):
        assert message(full, version) == message(plain, version)


def all_conditions(library: Any, draw: Any) -> list[Any]:
    joins, more = draw(st.sampled_from("ao")), draw(st.booleans())
    return [
        library.PriceCondition(conjunction=joins, isMore=more, price=draw(either), conId=draw(whole), exch="SMART",
                               triggerMethod=draw(st.integers(0, 8))),
        library.TimeCondition(conjunction=joins, isMore=more, time="20260101-00:00:00"),
        library.MarginCondition(conjunction=joins, isMore=more, percent=draw(whole)),
        library.ExecutionCondition(conjunction=joins, secType="STK", exch="SMART", symbol=draw(word)),
        library.VolumeCondition(conjunction=joins, isMore=more, volume=draw(whole), conId=draw(whole), exch="ISLAND"),
        library.PercentChangeCondition(conjunction=joins, isMore=more, changePercent=draw(either), conId=draw(whole),
                                       exch="SMART")]


@settings(max_examples=60, deadline=None)
@given(spoken=st.sampled_from(SPOKEN), data=st.data())
def test_conditions_algo_and_delta_neutral_contract_come_back(spoken, data):
    library, version = spoken
    draw = data.draw
    conditions = draw(st.permutations(all_conditions(library, draw)))[:draw(st.integers(0, 6))]
    params = [library.TagValue(draw(word), draw(word)) for _ in range(draw(st.integers(0, 3)))]
    order = build(library, "LMT", {"lmtPrice": 5.0, "conditions": list(conditions), "algoStrategy": draw(word),
                                   "algoParams": params, "conditionsIgnoreRth": draw(st.booleans()),
                                   "conditionsCancelOrder": draw(st.booleans()),
                                   "softDollarTier": library.SoftDollarTier(draw(word), draw(word), "")})
    contract = library.Stock("AAPL", "SMART", "USD", conId=265598)
    contract.deltaNeutralContract = library.DeltaNeutralContract(draw(whole), draw(amount), draw(amount))
    placed = taken(library, version, contract, order)
    for message in (order_messages.open_order, order_messages.completed_order):
        about, got, _ = told(library, version, message(placed, version))
        if message is order_messages.open_order:
            assert got.softDollarTier == order.softDollarTier
        assert got.conditions == list(conditions)
        assert (got.algoStrategy, got.algoParams) == (order.algoStrategy, params)
        assert about.deltaNeutralContract == contract.deltaNeutralContract
        if conditions:
            assert got.conditionsIgnoreRth == order.conditionsIgnoreRth
            assert got.conditionsCancelOrder == order.conditionsCancelOrder


@settings(max_examples=50, deadline=None)
@given(spoken=st.sampled_from(SPOKEN), data=st.data())
def test_a_combination_comes_back_with_its_legs_prices_and_routing(spoken, data):
    library, version = spoken
    draw = data.draw
    known = draw(st.lists(st.sampled_from(STOCKS), min_size=2, max_size=4, unique=True))
    legs = [library.ComboLeg(
        conId=c.con_id, ratio=draw(st.integers(1, 9)), action=draw(st.sampled_from(["BUY", "SELL"])), exchange="SMART",
        openClose=draw(st.integers(0, 3)), shortSaleSlot=draw(st.integers(0, 2)), designatedLocation=draw(word),
        exemptCode=draw(st.integers(-1, 3))) for c in known]
    prices = [library.order.OrderComboLeg(draw(either)) for _ in legs]
    routing = [library.TagValue(draw(word), draw(word)) for _ in range(draw(st.integers(0, 2)))]
    order = build(library, "LMT", {"lmtPrice": draw(either), "orderComboLegs": prices,
                                   "smartComboRoutingParams": routing})
    contract = library.Contract(secType="BAG", symbol="X", exchange="SMART", currency="USD", comboLegs=legs)
    reader = Fields("placeOrder", written_by(library, version, contract, order), 1)
    read = place_order(reader, version)
    combo = ComboBook(ContractBook()).resolve(read.contract, read.instructions.legs)
    placed = taken(library, version, contract, order, combo.contract)
    described = ",".join(f"{leg.conId}|{leg.ratio if leg.action == 'BUY' else -leg.ratio}" for leg in legs)
    for message in (order_messages.open_order, order_messages.completed_order):
        about, got, _ = told(library, version, message(placed, version))
        assert (about.secType, about.symbol, about.exchange) == ("BAG", "X", "SMART")
        assert about.comboLegs == legs
        assert about.comboLegsDescrip == described
        assert got.orderComboLegs == prices
        assert list(got.smartComboRoutingParams) == routing
        assert got.lmtPrice == order.lmtPrice


@pytest.mark.parametrize(("library", "version"), [s for s in SPOKEN if s[1] >= 170])
def test_a_hidden_minimum_at_ibkrats_comes_back(library, version):
    contract = library.Stock("AAPL", "IBKRATS", "USD", conId=265598)
    placed = taken(library, version, contract, build(library, "LMT", {"minTradeQty": 12}))
    _, got, _ = told(library, version, order_messages.open_order(placed, version))
    assert got.minTradeQty == 12


def test_the_peg_types_are_known_in_both_spellings():
    fields = {"midOffsetAtWhole": 0.5, "minCompeteSize": 7, "referenceExchangeId": "SMART"}
    for spelled, name in (("PEGMID", "midOffsetAtWhole"), ("PEGBEST", "minCompeteSize"),
                          ("PEGBENCH", "referenceExchangeId")):
        order = build(ib_async, spelled, {"lmtPrice": 5.0, **fields})
        placed = taken(ib_async, 178, ib_async.Stock("AAPL", "SMART", "USD"), order)
        _, got, _ = told(ib_async, 178, order_messages.open_order(placed, 178))
        assert (got.orderType, got.lmtPrice, getattr(got, name)) == (spelled, 5.0, fields[name])


@pytest.mark.parametrize(("library", "version"), SPOKEN)
def test_an_order_that_is_sent_again_as_it_was_shown_is_the_same_order(library, version):
    """The echo is full of 'None' and 1.797e308: sent back, they must not become instructions (ib-wire.md 4.1)."""
    contract = library.Stock("AAPL", "SMART", "USD", conId=265598)
    first = taken(library, version, contract, build(library, "LMT", {"lmtPrice": 99.5, "displaySize": 10}))
    shown_contract, shown, _ = told(library, version, order_messages.open_order(first, version))
    assert (shown.deltaNeutralOrderType, shown.adjustedOrderType) == ("None", "None")
    again = taken(library, version, shown_contract, shown)
    assert again.instructions == first.instructions
    for message in (order_messages.open_order, order_messages.completed_order):
        assert fields_of(told(library, version, message(again, version))[1]) == fields_of(
            told(library, version, message(first, version))[1])


def test_a_plain_order_is_spelled_as_recorded():
    """ib-wire.md 5.1, field by field; rule80A reads 0, as ib_insync users see it from real gateways."""
    plain = taken(ib_insync, 176, ib_insync.Stock("AAPL", "SMART", "USD", conId=265598),
                  build(ib_insync, "LMT", {"lmtPrice": 99.5, "tif": "DAY", "orderRef": "r"}))
    plain.status = "Submitted"
    unset, none = "1.7976931348623157E308", "2147483647"
    fields = [
        "5", "7", "265598", "AAPL", "STK", "", "0", "?", "", "SMART", "USD", "AAPL", "NMS",
        "BUY", "100", "LMT", "99.5", "0.0", "DAY", "", "DU1", "O", "0", "r", "1", "1800000001", "0", "0", "0.0", "",
        "1800000001.0/DU1/100", "", "", "", "", "", "", "0", "", "", "0", "", "-1", "0", "", "", "", "", "",
        none, "0", "0", "0", "", "3", "0", "0", "", "0", "0", "", "0",
        "None", "", "0", "", "", "", "?", "0", "0", "", "0", "0", unset, unset, "", "", "", "0", "0", "0", none, none,
        "", "", "0", "", "IB", "0", "0", "", "0", "0", "Submitted", *[unset] * 9, "", "", "", "", "", "0", "0", "0",
        "None", *[unset] * 6, "0", "", "", "", "0", "1", "0", "0", "0"]
    assert split(order_messages.open_order(plain, 157)[4:]) == fields
    assert split(order_messages.open_order(plain, 176)[4:]) == [*fields, "", "", "0", "", "", "", "", ""]
    assert split(order_messages.open_order(plain, 178)[4:]) == [*fields[:34], *fields[35:], "", "", "0", *[""] * 5]


def largest(library: Any) -> tuple[Any, Any]:
    """Return a BAG and an order with six conditions, algo, scale and hedge (ib-wire.md 15.3)."""
    legs = [library.ComboLeg(conId=756733, ratio=1, action="BUY", exchange="SMART"),
            library.ComboLeg(conId=265598, ratio=2, action="SELL", exchange="SMART")]
    contract = library.Contract(secType="BAG", symbol="SPY", exchange="SMART", currency="USD", comboLegs=legs)
    about = {"conId": 265598, "exch": "SMART"}
    return contract, build(library, "LMT", {
        "account": "", "lmtPrice": -31.5, "tif": "GTC", "orderRef": "all", "algoStrategy": "Adaptive", "hedgeType": "P",
        "hedgeParam": "2", "algoParams": [library.TagValue("adaptivePriority", "Normal")], "scaleInitLevelSize": 10,
        "scalePriceIncrement": 0.05, "smartComboRoutingParams": [library.TagValue("NonGuaranteed", "1")],
        "conditions": [
            library.PriceCondition(price=150.0, **about), library.TimeCondition(time="20990101-00:00:00"),
            library.MarginCondition(percent=3), library.ExecutionCondition(secType="STK", exch="SMART", symbol="SPY"),
            library.VolumeCondition(volume=5, **about), library.PercentChangeCondition(changePercent=2.5, **about)]})


def connected(version: int) -> RawClient:
    client = RawClient(memory_gateway(server_version=178), start=False)
    client.raw(b"API\0" + frame(f"v157..{version}".encode()))
    client.send(71, 2, 1, "")
    return client


@pytest.mark.parametrize(("library", "version"), [(ib_insync, 157), (ib_insync, 176), (ib_async, 176), (ib_async, 178)])
def test_the_largest_order_of_all_lives_through_a_session(library, version):
    client = connected(version)
    contract, order = largest(library)
    answer = client.send(*written_by(library, version, contract, order))
    assert [m[0] for m in answer] == ["5", "3"]
    answer += client.send("4", "1", "7", "") + client.send(99, 0)
    for message in (m for m in answer if m[0] in ("5", "101")):
        shown, got, state = told(library, version, encode(*message))
        assert state.status == ("PreSubmitted" if message[0] == "5" else "Cancelled")
        assert (shown.comboLegs, shown.comboLegsDescrip) == (contract.comboLegs, "756733|1,265598|-2")
        assert (got.conditions, got.algoParams) == (order.conditions, order.algoParams)
        assert (got.lmtPrice, got.hedgeParam, got.scalePriceIncrement, got.orderRef) == (-31.5, "2", 0.05, "all")
    assert [m[0] for m in answer].count("101") == 1


LARGEST = written_by(ib_insync, 176, *largest(ib_insync))
BROKEN = ["", "-1", "abc", "1e999", "1e29", "1e-29", "NaN", "2147483648", "1.7976931348623157E308", "None", "9" * 25,
          "é", "0.001", "99999999999", "Infinity", "00010101-00:00:00", "20260101 00:00:00 ../x", "S", "7"]


@settings(max_examples=250, deadline=None)
@given(changes=st.dictionaries(st.integers(1, len(LARGEST) - 1), st.sampled_from(BROKEN), max_size=4),
       less=st.integers(0, len(LARGEST)))
def test_the_largest_order_with_any_field_wrong_or_missing_is_taken_or_refused_by_name(changes, less):
    client = connected(176)
    fields = list(LARGEST)
    for at, value in changes.items():
        fields[at] = value
    answer = client.send(*(fields if less % 3 else fields[:max(2, less)]))
    assert {m[0] for m in answer} <= {"3", "4", "5", "11", "59"}
    assert all(m[4] for m in answer if m[0] == "4")
    for con_id in (265598, 756733):
        contract = client.gateway.contracts.by_id[con_id]
        client.gateway.trade(contract, Trade(contract.reference_price * 2, D(100), START_NS), START_NS)
    client.gateway.advance(START_NS)
    client.send(6, 2, 1, "DU1000001")
    client.send(16, 1)
    assert client.send(49, 1)[-1][0] == "49"
