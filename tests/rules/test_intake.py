"""What the edge accepts, and the one sentence with which it refuses everything else."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from actors.rules.intake import check_intent, check_modify, digest, parse_intent, parse_modify
from actors.rules.refusal import Refused, plain, shown
from messages.intent import Intent, OrderType, Shape
from messages.orders import ModifyBracket
from tests import builders as b
from tests import hostile

pytestmark = pytest.mark.unit
SETTINGS = b.settings()
D = Decimal


def take(raw) -> Intent:
    intent = parse_intent(raw)
    check_intent(intent, SETTINGS, b.NOW_NS)
    return intent


def refused(raw) -> Refused:
    with pytest.raises(Refused) as caught:
        take(raw)
    return caught.value


def sentence(**changes) -> str:
    return str(refused(json.dumps(b.raw_intent(**changes))))


def one_exit(**exits) -> list:
    return [{"stop": {"price": "95"}, **exits}]


# -- what is taken ---------------------------------------------------------------------------------------------


def test_the_worked_example_is_taken_as_json_as_an_object_and_as_a_message():
    raw = b.raw_intent()
    expected = b.intent()
    assert take(json.dumps(raw).encode()) == take(json.dumps(raw)) == take(raw) == take(expected) == expected


@pytest.mark.parametrize("intent", [
    b.intent(),
    b.short_intent(),
    b.oco_intent(),
    b.oco_intent(side="BUY_TO_COVER", exits=(b.tranche(target=b.target(90), stop=b.stop(105)),)),
    b.intent(shape="single", side="SELL"),
    b.intent(shape="single", limit=None),
    b.intent(shape="single", limit=None, stop_price=101),
    b.intent(shape="single", limit=102, stop_price=101),
    b.intent(shape="oto", exits=(b.tranche(target=b.target()),)),
    b.intent(shape="otoco"),
    b.intent(exits=(b.tranche(stop=b.stop(percent=2)),)),
    b.intent(limit=None, exits=(b.tranche(target=b.target(offset=3), stop=b.stop(offset=2, limit_offset="0.1")),)),
    b.intent(exits=(b.tranche(trail=b.trail(2, activation=103, limit_offset="0.05", method="double_last")),)),
    b.intent(exits=(b.tranche(quantity=60, target=b.target(), stop=b.stop(limit=94)),
                    b.tranche(quantity=40, trail=b.trail(percent=1)))),
    b.intent(exits=(b.tranche(target=b.target(hold="engine", method="bid_ask"), stop=b.stop(hold="engine")),),
             safety_stop=b.safety(90)),
    b.intent(exits=(b.tranche(trail=b.trail()),), safety_stop=b.safety(percent=10)),
    b.intent(when=b.when("SPY", ">=", 190)),
    b.intent(tif="GTD", good_till="20260204-15:56:08"),
    b.intent(tif="IOC"),
    b.intent(valid_for=D("0.5"), risk_tags=("earnings", "macro event"), target_price=D(101)),
], ids=lambda intent: f"{intent.shape}-{intent.side}-{intent.order_type}-{len(intent.exits)}")
def test_every_shape_is_taken(intent):
    assert take(intent) == intent
    assert take(msgspec.json.encode(intent)) == intent


def test_numbers_may_be_numbers_or_text_and_stay_exact():
    raw = json.dumps(b.raw_intent()).replace('"100"', "100").replace('"95"', "95.10").replace('"110"', "1.1e2")
    intent = take(raw)
    assert intent.exits[0].stop.price == D("95.10")
    assert str(intent.exits[0].target.price) == "110"
    assert take(b.raw_intent(limit_price=100.05)).limit_price == D("100.05")


def test_what_may_be_left_out_has_its_default():
    intent = take(b.raw_intent(order_type=..., limit_price=...))
    assert (intent.shape, intent.order_type, intent.limit_price) == (Shape.BRACKET, OrderType.MKT, None)


# -- sentences -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [
    "signal_id", "strategy", "instrument", "side", "quantity", "urgency", "time_in_force", "max_slippage_bps",
    "expiry_policy", "risk_tags",
])
def test_each_mandatory_field_is_missed_by_its_name(field):
    assert sentence(**{field: ...}) == f"{field}: nothing is given; an intent must have it"


def test_only_the_target_price_of_the_eleven_fields_is_optional():
    assert take(b.raw_intent(target_price="101")).target_price == 101


@pytest.mark.parametrize(("changes", "expected"), [
    ({"limit_price": "NaN"},
     "limit_price: NaN is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": float("nan")},
     "limit_price: NaN is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": "-Infinity"},
     "limit_price: -Infinity is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": "1e999999999"}, "limit_price: 1e999999999 is too large; it must be below 1000000000"),
    ({"limit_price": "1e99999999999999999999"},
     "limit_price: 1e99999999999999999999 is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": "1e-999999999"},
     "limit_price: 1e-999999999 is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": True},
     "limit_price: true is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": 0}, "limit_price: 0 is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": "100.0000001"},
     "limit_price: 100.0000001 is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": "1_000"},
     "limit_price: '1_000' is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"limit_price": "１００"}, "limit_price: '\\uff11\\uff10\\uff10' is not a price; it must be a finite decimal"
     " above 0 with at most 6 places"),
    ({"quantity": 0}, "quantity: 0 is not a quantity; it must be a whole number above 0; fractions of a share are not"
     " traded"),
    ({"quantity": "2.5"}, "quantity: 2.5 is not a quantity; it must be a whole number above 0; fractions of a share are"
     " not traded"),
    ({"quantity": -1}, "quantity: -1 is not a quantity; it must be a whole number above 0; fractions of a share are not"
     " traded"),
    ({"quantity": "2000000000"}, "quantity: 2000000000 is too large; it must be below 1000000000"),
    ({"valid_for": 0}, "valid_for: 0 is not a duration; it must be a finite number of seconds above 0 with at most 3"
     " places"),
    ({"valid_for": 700000}, "valid_for: 700000 is too long; at most 604800 seconds"),
    ({"side": "HOLD"}, "side: 'HOLD' is not known; it must be one of BUY, SELL, SELL_SHORT, BUY_TO_COVER"),
    ({"side": "buy"}, "side: 'buy' is not known; it must be one of BUY, SELL, SELL_SHORT, BUY_TO_COVER"),
    ({"time_in_force": 7}, "time_in_force: 7 is not known; it must be one of DAY, GTC, IOC, FOK, GTD"),
    ({"signal_id": 1}, "signal_id: 1 is not text; it must be 1 to 100 ASCII letters, digits and . _ : @ / + = # -, the"
     " first a letter or digit"),
    ({"signal_id": ""}, "signal_id: '' is empty; it must be 1 to 100 ASCII letters, digits and . _ : @ / + = # -, the"
     " first a letter or digit"),
    ({"signal_id": "a\x00b"}, "signal_id: 'a\\x00b' is not valid here; it must be 1 to 100 ASCII letters, digits and"
     " . _ : @ / + = # -, the first a letter or digit"),
    ({"instrument": "ÄPL"}, "instrument: '\\xc4PL' is not valid here; it must be a ticker of 1 to 32 ASCII capitals and"
     " digits, such as AAPL or BRK B"),
    ({"instrument": "AAPL\n"}, "instrument: 'AAPL\\n' is not valid here; it must be a ticker of 1 to 32 ASCII capitals"
     " and digits, such as AAPL or BRK B"),
    ({"risk_tags": "earnings"}, "risk_tags: 'earnings' is not a list; it must be a list"),
    ({"risk_tags": ["a", "a"]}, "risk_tags[2]: 'a' is given twice; each tag may be given once"),
    ({"risk_tags": ["x"] * 33}, "risk_tags: 33 items are too many; at most 32 are read"),
    ({"sidee": "BUY"}, "sidee: 'BUY' is given, but an intent has no such field; did you mean side?"),
    ({"exits": {}}, "exits: an object is not a list; it must be a list"),
    ({"exits": [[]]}, "exits[1]: a list is not an object; a tranche is an object of named fields"),
    ({"exits": [{"stop": {"price": "abc"}}]},
     "exits[1].stop.price: 'abc' is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"exits": [{"stop": {"pirce": "95"}}]},
     "exits[1].stop.pirce: '95' is given, but a stop has no such field; did you mean price?"),
    ({"exits": [{"stop": {"hold": "both"}}]},
     "exits[1].stop.hold: 'both' is not known; it must be one of venue, engine"),
])
def test_a_field_that_cannot_be_is_refused_with_its_name_value_and_rule(changes, expected):
    assert sentence(**changes) == expected


@pytest.mark.parametrize(("changes", "expected"), [
    ({"urgency": "High"}, "urgency: 'High' is not supported yet; only Normal (send it as written) is enforced so far"),
    ({"expiry_policy": "close_before_market_close"},
     "expiry_policy: 'close_before_market_close' is not supported yet; only hold is enforced so far"),
    ({"max_slippage_bps": "25"}, "max_slippage_bps: 25 is not supported yet; only null (no bound) is possible so far"),
    ({"session": "extended"}, "session: 'extended' is not supported yet; only rth is enforced so far"),
    ({"instrument": "SPY   240119C00470000"}, "instrument: 'SPY   240119C00470000' is not supported yet; options are"
     " not traded yet; give the ticker of a stock"),
    ({"exits": one_exit(target={"price": "110", "trigger_method": "bid_ask"})},
     "exits[1].target.trigger_method: 'bid_ask' is not supported for hold: venue; an exit that rests at the venue"
     " triggers by the venue's default; give hold: engine to choose"),
])
def test_what_is_not_built_yet_is_refused_by_name(changes, expected):
    found = refused(b.raw_intent(**changes))
    assert str(found) == expected
    assert found.code == "not_built"


@pytest.mark.parametrize(("intent", "expected"), [
    (b.intent(exits=(b.tranche(stop=b.stop(105)),)),
     "exits[1].stop.price: 105 is above the entry 100 of a BUY; a protective SELL stop must be below"),
    (b.intent(exits=(b.tranche(stop=b.stop(100)),)),
     "exits[1].stop.price: 100 is at the entry 100 of a BUY; a protective SELL stop must be below"),
    (b.short_intent(exits=(b.tranche(stop=b.stop(95)),)),
     "exits[1].stop.price: 95 is below the entry 100 of a SELL_SHORT; a protective BUY_TO_COVER stop must be above"),
    (b.intent(exits=(b.tranche(target=b.target(99), stop=b.stop()),)),
     "exits[1].target.price: 99 is below the entry 100 of a BUY; a SELL target must be above"),
    (b.intent(limit=None, exits=(b.tranche(target=b.target(94), stop=b.stop(95)),)),
     "exits[1].target.price: 94 is below the stop 95; a SELL target must be above the stop beside it"),
    (b.oco_intent(side="BUY_TO_COVER"),
     "exits[1].target.price: 110 is above the stop 95; a BUY_TO_COVER target must be below the stop beside it"),
    (b.intent(exits=(b.tranche(stop=b.stop(95, limit=96)),)),
     "exits[1].stop.limit_price: 96 is above the trigger 95; the limit of a SELL stop must be at or below its trigger"),
    (b.short_intent(exits=(b.tranche(stop=b.stop(105, limit=104)),)), "exits[1].stop.limit_price: 104 is below the"
     " trigger 105; the limit of a BUY_TO_COVER stop must be at or above its trigger"),
    (b.intent(limit=99, stop_price=100, exits=(b.tranche(stop=b.stop()),)), "limit_price: 99 is below the stop_price"
     " 100 of a BUY; the limit must be at or above the trigger, or it could not fill"),
    (b.intent(exits=(b.tranche(stop=b.stop(offset=100)),)),
     "exits[1].stop.offset: 100 reaches down to 0 from the entry 100; the resulting price must stay above 0"),
    (b.intent(exits=(b.tranche(trail=b.trail(2, activation=99)),)), "exits[1].trailing_stop.activation_price: 99 is"
     " below the entry 100 of a BUY; a SELL trail wakes when the price has moved in favour, so it must be above"),
    (b.intent(exits=(b.tranche(stop=b.stop(hold="engine")),), safety_stop=b.safety(96)),
     "safety_stop.price: 96 is not beyond the stop 95 of exits[1]; a safety stop must be below every held SELL stop"),
    (b.intent(exits=(b.tranche(stop=b.stop(offset=2, hold="engine")),), safety_stop=b.safety(offset=2)),
     "safety_stop.offset: 2 is not beyond the stop 2 of exits[1]; a safety stop must be further away than every held"
     " SELL stop"),
    (b.intent(safety_stop=b.safety(90)), "safety_stop: a safety stop has no use, because a stop rests at the venue"
     " already; it stands at the venue beside exits that are held here; leave it out"),
    (b.intent(shape="single", safety_stop=b.safety(90)), "safety_stop: a safety stop has no use, because there are no"
     " exits; it stands at the venue beside exits that are held here; leave it out"),
    (b.intent(exits=(b.tranche(quantity=60, stop=b.stop()), b.tranche(quantity=30, stop=b.stop()))),
     "exits: 90 is not the quantity 100; the quantities of the tranches must add up to it"),
    (b.intent(exits=(b.tranche(quantity=60, stop=b.stop()), b.tranche(stop=b.stop()))),
     "exits[2].quantity: nothing is given; with several tranches each needs its quantity"),
])
def test_prices_and_quantities_that_contradict_each_other_are_named(intent, expected):
    assert str(refused(intent)) == expected


@pytest.mark.parametrize(("changes", "expected"), [
    ({"shape": "single"}, "exits: 1 tranche is given; a single order has no exits; use the shape bracket"),
    ({"exits": []}, "exits: nothing is given; the shape bracket needs exits"),
    ({"exits": [{}]}, "exits[1]: no exit is given; a tranche needs a target, a stop or a trailing_stop"),
    ({"exits": [{"target": {"price": 110}}]}, "exits[1]: target is given alone; every tranche of a bracket needs a stop"
     " or a trailing_stop; the shape oto may go without"),
    ({"shape": "oto"}, "exits[1]: target and stop is given; the shape oto has exactly one exit; use otoco or bracket"
     " for several"),
    ({"shape": "otoco", "exits": one_exit()},
     "exits[1]: stop is given alone; the exits of an otoco compete: each tranche needs at least two"),
    ({"shape": "otoco", "exits": one_exit() * 2}, "exits: 2 tranches are given; the shape otoco has exactly one"
     " tranche"),
    ({"side": "SELL"}, "side: 'SELL' closes a long position; an entry with exits must open one: use SELL_SHORT to open"
     " a short position, or the shape oco for exits on a position that is there"),
    ({"side": "BUY_TO_COVER"}, "side: 'BUY_TO_COVER' closes a short position; an entry with exits must open one: use"
     " BUY to open a long position, or the shape oco for exits on a position that is there"),
    ({"shape": "oco"}, "side: 'BUY' opens a position; the exits of an oco close a position: use SELL to close a long"
     " one, BUY_TO_COVER to close a short one"),
    ({"shape": "oco", "side": "SELL"},
     "limit_price: 100 is given; an oco has exits only, and their prices stand in exits"),
    ({"shape": "oco", "side": "SELL", "limit_price": ...},
     "order_type: 'LMT' is given; an oco has no entry; leave it out"),
    ({"shape": "oco", "side": "SELL", "limit_price": ..., "order_type": ..., "time_in_force": "IOC"},
     "time_in_force: 'IOC' is for entries only; exits rest until they fill: use GTC or DAY"),
    ({"shape": "oco", "side": "SELL", "limit_price": ..., "order_type": ...,
      "exits": one_exit(target={"offset": 2})},
     "exits[1].target.offset: 2 is given; an oco has no entry fill to measure from; give a price"),
    ({"order_type": "MKT"},
     "limit_price: 100 is given; an order of type MKT takes none; leave it out or change order_type"),
    ({"order_type": "STP"}, "limit_price: 100 is given; an order of type STP takes none; leave it out or change"
     " order_type"),
    ({"order_type": "STP LMT"}, "stop_price: nothing is given; an order of type STP LMT needs it"),
    ({"limit_price": ...}, "limit_price: nothing is given; an order of type LMT needs it"),
    ({"time_in_force": "GTD"}, "good_till: nothing is given; GTD needs a UTC time written yyyymmdd-hh:mm:ss"),
    ({"time_in_force": "GTD", "good_till": "20260204 15:56:08"}, "good_till: '20260204 15:56:08' is not valid here; it"
     " must be a UTC time written yyyymmdd-hh:mm:ss, such as 20260204-15:56:08"),
    ({"time_in_force": "GTD", "good_till": "20261345-15:56:08"},
     "good_till: '20261345-15:56:08' is no time; it must be a UTC time written yyyymmdd-hh:mm:ss"),
    ({"time_in_force": "GTD", "good_till": "20260204-15:00:00"},
     "good_till: '20260204-15:00:00' has passed; it must lie in the future (UTC)"),
    ({"good_till": "20260204-15:56:08"},
     "good_till: '20260204-15:56:08' is given with time_in_force DAY; only GTD takes one; leave it out"),
    ({"strategy": "Unheard"}, "strategy: 'Unheard' is not known; it must be one of 0DTE_Scalp, Spread_Roll,"
     " Momentum_EQ, Gamma_Rebalance (setting intents.strategies)"),
    ({"exits": [{"stop": {}}]},
     "exits[1].stop.price: nothing is given; exactly one of price, offset and percent is needed"),
    ({"exits": [{"stop": {"price": 95, "percent": 2}}]},
     "exits[1].stop.percent: 2 is given beside price 95; exactly one of price, offset and percent is needed"),
    ({"exits": [{"stop": {"percent": 100}}]}, "exits[1].stop.percent: 100 is too large; it must be below 100"),
    ({"exits": [{"trailing_stop": {}}]},
     "exits[1].trailing_stop.amount: nothing is given; exactly one of amount and percent is needed"),
    ({"exits": [{"trailing_stop": {"amount": 1, "percent": 2}}]},
     "exits[1].trailing_stop.percent: 2 is given beside amount 1; exactly one of amount and percent is needed"),
    ({"exits": [{"trailing_stop": {"amount": 1, "hold": "venue"}}]}, "exits[1].trailing_stop.hold: 'venue' is given,"
     " but a trailing stop has no such field; the fields here are amount, percent, limit_offset, activation_price,"
     " trigger_method"),
    ({"exits": [{"stop": {"offset": 2, "limit_price": 97}}]}, "exits[1].stop.limit_price: 97 is given without a price;"
     " a stop that follows the fill takes limit_offset instead"),
    ({"when": {"instrument": "AAPL", "operator": ">", "price": 190}},
     "when.operator: '>' is not known; it must be one of >=, <="),
    ({"when": {"instrument": "AAPL", "operator": ">=", "price": "Infinity"}},
     "when.price: Infinity is not a price; it must be a finite decimal above 0 with at most 6 places"),
])
def test_a_shape_that_does_not_fit_is_refused_and_says_what_would(changes, expected):
    assert sentence(**changes) == expected


def test_an_account_must_be_configured_where_accounts_are():
    intent = parse_intent(b.raw_intent(account="DU9"))
    check_intent(intent, SETTINGS, b.NOW_NS)
    with pytest.raises(Refused, match="account: 'DU9' is not configured; it must be one of DU1, DU2"):
        check_intent(intent, b.settings(venue={"account": "DU1", "accounts": ["DU1", "DU2"]}), b.NOW_NS)


@pytest.mark.parametrize(("raw", "expected"), [
    (b"", "intent: character 1 is not JSON (expecting value); it must be one JSON object in UTF-8"),
    (b"\xff\xfe", "intent: byte 0 is not UTF-8; it must be one JSON object in UTF-8"),
    (b"[]", "intent: a list is not an object; an intent is an object of named fields"),
    (b"null", "intent: null is not an object; an intent is an object of named fields"),
    (b"[" * 60_000, "intent: nesting of 60000 levels is too deep; at most 8 levels are read"),
    (b" " * 70_000, "intent: 70000 bytes are too many; at most 65536 bytes are read"),
    (b'{"quantity": 100, "quantity": 1000}',
     "quantity: 100 and 1000 are both given; a field may be given once in an object"),
    (b'{"exits": [{"stop": {"price": 1, "price": 2}}]}',
     "price: 1 and 2 are both given; a field may be given once in an object"),
])
def test_what_is_no_json_object_is_refused_in_a_sentence_too(raw, expected):
    assert str(refused(raw)) == expected


def test_a_number_of_ten_thousand_digits_is_refused_without_being_read():
    raw = json.dumps(b.raw_intent()).replace('"limit_price": "100"', '"limit_price": 1' + "0" * 10_000)
    assert str(refused(raw)).startswith("limit_price: 1000000")
    assert len(str(refused(raw))) < 200


def test_a_message_whose_fields_nobody_checked_gets_the_same_sentence_as_json():
    wrong = Intent(**{**{f: getattr(b.intent(), f) for f in Intent.__struct_fields__}, "limit_price": D("NaN")})
    assert str(refused(wrong)) == sentence(limit_price="NaN")
    wrong = Intent(**{**{f: getattr(b.intent(), f) for f in Intent.__struct_fields__}, "side": "HOLD"})
    assert str(refused(wrong)) == sentence(side="HOLD")


@pytest.mark.parametrize(("field", "value", "expected"), [
    ("limit_price", "100",
     "limit_price: '100' is a str; in a message it must be a Decimal; read JSON with parse_intent"),
    ("side", "BUY", "side: 'BUY' is a str; in a message it must be a Side; read JSON with parse_intent"),
    ("exits", [b.tranche(stop=b.stop())],
     "exits: a list is a list; in a message it must be a tuple; read JSON with parse_intent"),
    ("exits", ({"stop": {"price": "95"}},),
     "exits[1]: an object is a dict; in a message it must be a Tranche; read JSON with parse_intent"),
])
def test_a_message_must_carry_what_can_be_calculated_with(field, value, expected):
    wrong = Intent(**{**{f: getattr(b.intent(), f) for f in Intent.__struct_fields__}, field: value})
    with pytest.raises(Refused) as caught:
        check_intent(wrong, SETTINGS, b.NOW_NS)
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", [None, {}, "x", object()])
def test_a_message_without_an_intent_is_refused(value):
    with pytest.raises(Refused, match="is not an Intent; a message carries an Intent"):
        check_intent(value, SETTINGS, b.NOW_NS)


def test_a_refusal_keeps_its_parts_and_travels_between_processes():
    found = refused(b.raw_intent(limit_price="NaN"))
    again = pickle.loads(pickle.dumps(found))
    for each in (found, again):
        assert (each.code, each.field, each.value) == ("bad_value", "limit_price", "NaN")
        assert each.rule == "it must be a finite decimal above 0 with at most 6 places"
        assert str(each) == each.sentence == sentence(limit_price="NaN")


# -- digest ----------------------------------------------------------------------------------------------------


def test_the_same_content_has_the_same_digest_however_it_is_written():
    one = parse_intent(b.raw_intent(quantity=100, limit_price="100.00"))
    two = parse_intent(b.raw_intent(quantity="100.0", limit_price=1e2, shape="bracket", session="rth", account=None))
    assert digest(one) == digest(two) == digest(b.intent())
    assert len(digest(one)) == 32


@pytest.mark.parametrize("changes", [
    {"quantity": 101}, {"limit_price": "100.01"}, {"risk_tags": ["x"]}, {"signal_id": "sig-2"},
    {"exits": [{"target": {"price": "110"}, "stop": {"price": "95.01"}}]}, {"valid_for": 5}, {"target_price": 5},
])
def test_any_other_content_has_another_digest(changes):
    assert digest(parse_intent(b.raw_intent(**changes))) != digest(b.intent())


# -- modify ----------------------------------------------------------------------------------------------------


def test_a_modify_is_read_as_strictly_as_an_intent():
    found = parse_modify(b'{"stop": "96.5", "tranche": 2}', bracket_id="B1-x", command_id="c1", correlation="k")
    assert found == ModifyBracket(bracket_id="B1-x", command_id="c1", correlation="k", stop=D("96.5"), tranche=2)
    assert check_modify(found) == found


@pytest.mark.parametrize(("raw", "expected"), [
    ({}, "modify: nothing is changed; give at least one of limit_price, stop_price, quantity, target, stop,"
     " trail_amount, trail_percent"),
    ({"tranche": 2}, "modify: nothing is changed; give at least one of limit_price, stop_price, quantity, target, stop,"
     " trail_amount, trail_percent"),
    ({"stop": "NaN"}, "stop: NaN is not a price; it must be a finite decimal above 0 with at most 6 places"),
    ({"quantity": "1.5"}, "quantity: 1.5 is not a quantity; it must be a whole number above 0; fractions of a share are"
     " not traded"),
    ({"stop": 1, "tranche": 0}, "tranche: 0 is not a number; it must be a whole number above 0"),
    ({"trail_amount": 1, "trail_percent": 1}, "trail_percent: 1 is given beside trail_amount 1; a trailing stop follows"
     " by an amount or by a percentage, never both"),
    ({"bracket_id": "B2"}, "bracket_id: 'B2' is given, but a modify has no such field; the fields here are limit_price,"
     " stop_price, quantity, target, stop, trail_amount, trail_percent, tranche"),
    ([1], "modify: a list is not an object; a modify is an object of named fields"),
])
def test_a_modify_that_makes_no_sense_is_refused_in_one_sentence(raw, expected):
    with pytest.raises(Refused) as caught:
        parse_modify(json.dumps(raw), bracket_id="B1-x", command_id="c1")
    assert str(caught.value) == expected


# -- hostile input ---------------------------------------------------------------------------------------------

def test_the_intent_that_is_bent_out_of_shape_is_itself_good():
    assert take(hostile.WHOLE).when.instrument == "SPY"


HOSTILE = st.one_of(
    st.text(max_size=40), hostile.anything(), hostile.payloads(), hostile.objects(), hostile.objects(),
    hostile.messages())


@effort(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(HOSTILE, min_size=20, max_size=20))
def test_ten_thousand_hostile_payloads_parse_or_are_refused_and_do_nothing_else(payloads):
    for payload in payloads:
        intent, refusal = outcome(take, payload)
        if intent is None:
            text = str(refusal)
            assert text.isascii()
            assert text.isprintable()
            assert len(text) < 800
            assert text.startswith(f"{refusal.field}: {refusal.value} ")
            assert text.endswith(f"; {refusal.rule}")
        else:
            again = parse_intent(msgspec.json.encode(intent))
            assert again == intent
            assert digest(again) == digest(intent)
        if isinstance(payload, Intent) and outcome(checked, payload)[1] is None:
            assert msgspec.convert(msgspec.to_builtins(payload), Intent) == payload, "it may be used as it is"
        change, refusal = outcome(lambda raw: parse_modify(raw, bracket_id="B1-x", command_id="c"), payload)
        assert str(refusal).isprintable() if change is None else check_modify(change) == change


def checked(payload) -> bool:
    check_intent(payload, SETTINGS, b.NOW_NS)
    return True


def outcome(read, payload):
    """Return (result, None) or (None, refusal); anything else that is raised fails the test."""
    try:
        return read(payload), None
    except Refused as refusal:
        return None, refusal


@pytest.mark.parametrize(("value", "expected"), [
    (None, "null"), (True, "true"), (10**400, "a number of more than 256 bits"), ("a\n", "'a\\n'"), ("é", "'\\xe9'"),
    ("x" * 100, "'" + "x" * 57 + "...'"), (object(), "a object"), (D("1E+2"), "100"), (D("1.50"), "1.5"),
    (D("NaN"), "NaN"), (D("1E-100"), "1E-100"),
])
def test_any_value_can_be_shown_in_one_short_line(value, expected):
    assert shown(value) == expected


def test_plain_never_writes_an_exponent_for_money():
    assert [plain(D(text)) for text in ("0", "0.00", "1E+3", "100.10", "0.000001")] == [
        "0", "0", "1000", "100.1", "0.000001"]
