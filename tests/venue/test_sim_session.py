"""One conversation in memory: handshake, ids, orders on the wire, snapshots, hostile bytes; no socket anywhere."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.journal import errors, executions, final_orders, modifies, placements, select
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.wire import encode, frame
from tests.venue.gateway_fixture import NS, START_NS, RawClient, memory_gateway

pytestmark = pytest.mark.unit
AAPL = ["0", "AAPL", "STK", "", "0", "", "", "SMART", "", "USD", "", ""]
FARMS = [["4", "2", "-1", code] for code in ("2104", "2106", "2158")]


def place(order_id: int, action: str = "BUY", quantity: str = "100", kind: str = "LMT", lmt: str = "", aux: str = "",
          ref: str = "B1.entry", tif: str = "DAY", group: str = "", contract=AAPL, account: str = "",
          transmit: str = "1", what_if: str = "0") -> list[str]:
    """Return the fields of a plain placeOrder for server version 176."""
    fields = ["3", str(order_id), *contract, "", "", action, quantity, kind, lmt, aux, tif, group, account, "", "0",
              ref, transmit, "0", "0", "0", "0", "0", "0", "0"]
    fields += ["", "", "", "", "", "", "", "", "", "0", "", "-1", "2" if group else "0", "", "", "0", "", "", "0", "0",
               "", "0", "", "", "", "", "", "0", "", "", "", ""]
    fields += ["0", "", "", "", "", "", "", "", "", "", "", "0", "", "", "0", "0", "", "", what_if, "", "0", "0", "0"]
    fields += ["0", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "0", "0", "", "0", "", "0", "", "", ""]
    return fields


def ids(messages: list[list[str]]) -> list[str]:
    return [m[0] for m in messages]


def test_the_handshake_is_version_alone_then_accounts_next_id_and_farms():
    client = RawClient(memory_gateway(), start=False)
    assert client.raw(b"API\0" + frame(b"v157..178 +PACEAPI"))[0][0] == "176"
    answer = client.send(71, 2, 1, "")
    assert answer[0] == ["15", "1", "DU1000001"]
    assert answer[1] == ["9", "1", "1"]
    assert [m[:4] for m in answer[2:]] == FARMS


def test_a_hello_that_comes_byte_by_byte_is_understood():
    gateway = memory_gateway()
    client = RawClient(gateway, start=False)
    for byte in b"API\0" + frame(b"v157..176") + encode(71, 2, 5, ""):
        client.raw(bytes([byte]))
    assert "15" in ids(client.seen)
    assert 5 in gateway.by_client


def test_everything_in_one_segment_is_understood():
    client = RawClient(memory_gateway(), start=False)
    client.raw(b"API\0" + frame(b"v157..176") + encode(71, 2, 5, "") + encode(49, 1) + encode(8, 1, 1))
    assert ids(client.seen)[-2:] == ["49", "9"]


def test_a_taken_client_id_is_326_and_closed_and_free_again_after_the_first_has_gone():
    gateway = memory_gateway()
    first = RawClient(gateway, 7)
    second = RawClient(gateway, 7)
    assert second.seen[-1][:4] == ["4", "2", "-1", "326"]
    assert second.session.closing
    gateway.disconnect(first.session, START_NS)
    third = RawClient(gateway, 7)
    assert not third.session.closing


def test_next_valid_id_goes_on_after_a_reconnect_and_does_not_reserve():
    gateway = memory_gateway()
    first = RawClient(gateway)
    first.send(*place(41, lmt="90"))
    gateway.disconnect(first.session, START_NS)
    second = RawClient(gateway)
    assert second.seen[2] == ["9", "1", "42"]
    assert second.send(8, 1, 1) == second.send(8, 1, 1) == [["9", "1", "42"]]
    assert RawClient(gateway, 2).seen[2] == ["9", "1", "1"]


def test_orders_live_on_while_their_client_is_away_and_are_seen_in_its_snapshots():
    gateway = memory_gateway()
    first = RawClient(gateway)
    first.send(*place(1, lmt="99"))
    gateway.disconnect(first.session, START_NS)
    contract = gateway.contracts.named("AAPL")
    gateway.trade(contract, Trade(D(99), D(100), START_NS), START_NS)
    second = RawClient(gateway)
    assert ids(second.send(5, 1)) == ["53"]
    assert ids(second.send(99, 0)) == ["101", "102"]
    answer = second.send(7, 3, 9, 0, "", "", "", "", "", "")
    assert ids(answer) == ["11", "59", "55"]
    assert answer[0][1] == "9"
    assert ids(second.send(61, 1)) == ["61", "62"]


def test_one_client_s_orders_are_not_told_to_another_but_all_open_orders_shows_them():
    gateway = memory_gateway()
    one, two = RawClient(gateway, 1), RawClient(gateway, 2)
    one.send(*place(30, lmt="90"))
    assert two.read() == []
    assert ids(two.send(5, 1)) == ["53"]
    assert ids(two.send(16, 1)) == ["5", "3", "53"]
    # Ids that were shown are used up.
    assert two.send(8, 1, 1) == [["9", "1", "31"]]


def test_the_wire_sequence_of_a_marketable_order():
    client = RawClient(memory_gateway())
    messages = client.send(*place(1, lmt="101"))
    spelled = [m[0] + (" " + m[2] if m[0] == "3" else "") for m in messages]
    assert spelled == ["5", "3 PreSubmitted", "11", "5", "3 Filled", "59"]


@pytest.mark.parametrize(("request_fields", "code"), [
    (place(1, lmt="90", contract=["0", "NOPE", *AAPL[2:]]), "200"),
    (place(1, lmt="90", account="DU9"), "321"),
    (place(1, lmt="90.001"), "110"),
    (place(0, lmt="90"), "320"),
    (place(2**31, lmt="90"), "320"),
    (["4", "1", "99", ""], "10147"),
    (["9", "8", "5", "0", "NOPE", *AAPL[2:], "0", "", "", ""], "200"),
    (["9", "8", "5", "0", "X", "BAG", *AAPL[3:], "0", "", "", ""], "321"),
    (["2", "2", "5"], "300"),
    (["91", "999"], "321"),
    (["15", "1", "1"], "327"),
    (["97", "5", *AAPL, "Sideways", "0", "0"], "10189"),
    (["7", "3", "9", "0", "DU9", "", "", "", "", ""], "321"),
])
def test_what_is_wrong_is_answered_with_its_code(request_fields, code):
    client = RawClient(memory_gateway())
    answer = client.send(*request_fields)
    assert [m[3] for m in answer if m[0] == "4"] == [code]
    assert not client.session.closing


def test_a_modify_is_journalled_apart_from_a_new_order():
    gateway = memory_gateway()
    client = RawClient(gateway)
    client.send(*place(1, lmt="90", ref="a.entry"))
    client.send(*place(1, lmt="91", ref="a.entry"))
    client.send("4", "1", "1", "")
    lines = gateway.journal.lines
    assert [p["lmtPrice"] for p in placements(lines)] == ["90"]
    assert [m["lmtPrice"] for m in modifies(lines)] == ["91"]
    (cancel,) = select(lines, "cancelOrder", "in")
    assert cancel["orderRef"] == "a.entry"
    assert final_orders(lines)["a.entry"]["status"] == "Cancelled"
    assert [e["code"] for e in errors(lines)][-1] == 202
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))


@pytest.mark.parametrize(("everybody", "seen"), [(True, 2), (False, 1)])
def test_executions_are_filtered_by_client_side_symbol_and_time(everybody, seen):
    gateway = memory_gateway(all_executions=everybody)
    one, two = RawClient(gateway, 1), RawClient(gateway, 2)
    one.send(*place(1, lmt="101"))
    two.send(*place(1, "SELL", lmt="99"))

    def asked(client, *filters):
        return len([m for m in client.send(7, 3, 9, *filters) if m[0] == "11"])

    assert asked(one, 0, "", "", "", "", "", "") == seen
    assert asked(one, 1, "", "", "", "", "", "") == 1
    assert asked(one, 2, "", "", "", "", "", "") == 1
    assert asked(one, 1, "", "", "", "", "", "SELL") == 0
    assert asked(one, 0, "", "", "AAPL", "STK", "", "BUY") == 1
    assert asked(one, 0, "", "", "SPY", "", "", "") == 0
    assert asked(one, 0, "", "20990101-00:00:00", "", "", "", "") == 0
    assert asked(one, 1, "", "20251009-00:00:00", "", "", "", "") == 1
    assert asked(one, 1, "", "", "", "", "NASDAQ", "") == 1, "the exchange that the execution names"
    assert asked(one, 1, "", "", "", "", "NYSE", "") == 0


@pytest.mark.parametrize("asked", [
    (0, "", "yesterday", "", "", "", ""), (0, "", "", "", "", "", "HOLD"), (0, "DU9", "", "", "", "", "")])
def test_a_filter_of_executions_that_says_nothing_is_refused(asked):
    answer = RawClient(memory_gateway()).send(7, 3, 9, *asked)
    assert [m[:4] for m in answer] == [["4", "2", "9", "321"]]


def test_market_data_is_81_58_then_ticks_and_a_snapshot_ends_with_57():
    gateway = memory_gateway()
    client = RawClient(gateway)
    opening = client.send(1, 11, 5, *AAPL, 0, "", 0, 0, "")
    assert ids(opening)[:2] == ["81", "58"]
    assert {m[3] for m in opening if m[0] == "1"} >= {"1", "2", "4"}
    assert ids(client.send(1, 11, 6, *AAPL, 0, "", 1, 0, ""))[-1] == "57"
    contract = gateway.contracts.named("AAPL")
    gateway.trade(contract, Trade(D("99.5"), D(300), START_NS + 5 * NS), START_NS)
    ticks = client.read()
    assert [m[3] for m in ticks] == ["45", "4", "5", "8", "7"]
    assert ticks[0][4] == str(START_NS // NS + 5)
    assert ticks[1][4:6] == ["99.5", "300"]
    client.send(2, 2, 5)
    gateway.trade(contract, Trade(D(98), D(1), START_NS), START_NS)
    assert client.read() == []


def test_tick_by_tick_kinds():
    gateway = memory_gateway()
    client = RawClient(gateway)
    for req_id, kind in ((1, "Last"), (2, "AllLast"), (3, "BidAsk"), (4, "MidPoint")):
        client.send(97, req_id, *AAPL, kind, 0, 0)
    contract = gateway.contracts.named("AAPL")
    client.read()
    gateway.set_quote(contract, START_NS, bid=D(99), ask=D(101), bid_size=D(3), ask_size=D(4))
    assert client.read() == [["99", "3", "3", str(START_NS // NS), "99", "101", "3", "4", "0"],
                             ["99", "4", "4", str(START_NS // NS), "100"]]
    gateway.trade(contract, Trade(D(50), D(7), START_NS, "Z", "20000020", False), START_NS)
    assert client.read() == [["99", r, k, str(START_NS // NS), "50", "7", "2", "Z", "20000020"]
                             for r, k in (("1", "1"), ("2", "2"))]


def test_an_ineligible_print_is_volume_only_and_moves_no_order():
    gateway = memory_gateway()
    client = RawClient(gateway)
    client.send(1, 11, 5, *AAPL, 0, "", 0, 0, "")
    client.send(*place(1, lmt="90"))
    client.read()
    gateway.trade(gateway.contracts.named("AAPL"), Trade(D(50), D(7), START_NS, "Z", "20", False), START_NS)
    assert [m[3] for m in client.read()] == ["8"]
    assert executions(gateway.journal.lines) == []


def test_account_messages_end_even_for_an_unknown_account():
    client = RawClient(memory_gateway())
    assert ids(client.send(6, 2, 1, "DU1000001"))[-1] == "54"
    assert ids(client.send(6, 2, 1, "DU9")) == ["54"]
    assert ids(client.send(76, 1, 3, "DU1000001", "", 0))[-1] == "74"
    summary = client.send(62, 1, 3, "All", "NetLiquidation,TotalCashValue")
    assert [m[4] for m in summary[:-1]] == ["NetLiquidation", "TotalCashValue"]
    assert summary[-1][0] == "64"


@pytest.mark.parametrize("no", ["0", "False", ""])
def test_account_updates_end_in_every_spelling_of_no(no):
    client = RawClient(memory_gateway())
    assert client.send(6, 2, "True", "DU1000001")
    assert client.send(6, 2, no, "DU1000001") == []
    assert client.session.wants_account is None


def test_updates_of_another_account_end_those_of_the_first_with_2100():
    client = RawClient(memory_gateway(accounts=("DU1", "DU2")))
    for account, codes in (("DU1", []), ("DU1", []), ("DU2", ["2100"])):
        assert [m[3] for m in client.send(6, 2, 1, account) if m[0] == "4"] == codes


def test_a_fill_is_pushed_to_position_and_account_subscribers():
    client = RawClient(memory_gateway())
    client.send(61, 1)
    client.send(6, 2, 1, "DU1000001")
    messages = client.send(*place(1, lmt="101"))
    assert {"61", "7", "6"} <= set(ids(messages))
    cash = [m for m in messages if m[0] == "6" and m[2] == "TotalCashValue"][-1]
    assert cash[3] == "989998.00"                    # 1,000,000 - 100 x 100.01 - 1.00


def test_pacing_error_100_is_a_switch():
    client = RawClient(memory_gateway(pacing_limit=50))
    for _ in range(50):
        client.send(49, 1)
    assert client.send(49, 1)[0][3] == "100"
    client.now += NS + 1
    assert client.send(49, 1)[0][0] == "49"
    for _ in range(51):
        client.send(49, 1)
    assert [m[3] for m in client.seen[-2:]] == ["100", "100"], "the third breach disconnects"
    assert client.session.closing
    free = RawClient(memory_gateway())
    assert all(free.send(49, 1)[0][0] == "49" for _ in range(200))


def test_what_if_answers_once_and_leaves_no_order():
    gateway = memory_gateway()
    client = RawClient(gateway)
    answer = client.send(*place(1, lmt="90", what_if="1"))
    assert ids(answer) == ["5"]
    assert gateway.exchange.orders == {}


def test_what_if_uses_no_id_up():
    client = RawClient(memory_gateway())
    client.send(*place(5, lmt="90", what_if="1"))
    assert client.send(8, 1, 1) == [["9", "1", "1"]]


@pytest.mark.parametrize(("at", "value", "code", "named"), [
    (39, "all", "321", "faGroup"), (43, "m", "321", "modelCode"), (-14, "500", "321", "cashQty"),
    (75, "20260101-00:00:00", "321", "activeStartTime"),
    (53, "1", "10268", "eTradeOnly"), (37, "tomorrow", "391", "good after time")])
def test_an_instruction_that_is_not_followed_is_refused_by_name(at, value, code, named):
    gateway = memory_gateway()
    client = RawClient(gateway)
    fields = place(1, lmt="101")
    fields[at] = value
    (error,) = client.send(*fields)
    assert error[3] == code
    assert named in error[4]
    assert gateway.exchange.orders == {}


def test_what_is_worked_as_a_plain_order_is_said_in_the_journal_or_refused_by_a_switch():
    fields = place(1, lmt="101")
    fields[-24] = "TRAIL"
    easy = memory_gateway()
    RawClient(easy).send(*fields)
    assert [line["without"] for line in select(easy.journal.lines, "worked_plainly")] == [["adjustedOrderType"]]
    assert executions(easy.journal.lines)
    strict = memory_gateway(rules=ExchangeRules(plain_algos=False))
    answer = RawClient(strict).send(*fields)
    assert (answer[0][3], "adjustedOrderType" in answer[0][4]) == ("201", True)
    assert not executions(strict.journal.lines)


@pytest.mark.parametrize(("fields", "code"), [
    (place(1, lmt="1e29"), "109"), (place(1, lmt="1000000001"), "109"), (place(1, kind="STP", aux="1e20"), "109"),
    (place(1, quantity="1000000001", lmt="90"), "383"), (place(1, quantity="1e30", lmt="90"), "383"),
    (place(1, quantity="1e25", lmt="90", what_if="1"), "383")])
def test_a_price_or_quantity_beyond_all_measure_is_refused(fields, code):
    client = RawClient(memory_gateway())
    assert [m[3] for m in client.send(*fields) if m[0] == "4"] == [code]
    assert client.gateway.exchange.orders == {}


def test_with_two_accounts_an_order_must_name_one():
    client = RawClient(memory_gateway(accounts=("DU1", "DU2")))
    assert client.seen[1] == ["15", "1", "DU1,DU2"]
    assert client.send(*place(1, lmt="90"))[0][3] == "435"
    assert ids(client.send(*place(2, lmt="90", account="DU2"))) == ["5", "3", "5", "3"]


def test_open_orders_can_be_pushed_at_connect():
    gateway = memory_gateway(push_orders_on_connect=True)
    first = RawClient(gateway)
    first.send(*place(1, lmt="90"))
    gateway.disconnect(first.session, START_NS)
    assert ids(RawClient(gateway).seen)[3:5] == ["5", "3"]


# hostile bytes -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n\r\n", b"63\0", b"\0" * 20, b"API\0" + (0).to_bytes(4, "big"),
    b"API\0" + (2**31).to_bytes(4, "big"), b"API\0" + frame(b"garbage"), b"API\0" + frame(b"v1..2"),
    b"API\0" + frame(b"v157..176") + encode(3, 1), b"API\0" + frame(b"v157..176") + encode(71, 2, "abc", "")])
def test_a_stranger_is_shut_out_and_journalled(data):
    gateway = memory_gateway()
    client = RawClient(gateway, start=False)
    client.raw(data)
    assert client.session.closing
    assert select(gateway.journal.lines, "bad_bytes")
    assert RawClient(gateway).seen, "the gateway still serves others"


@pytest.mark.parametrize("payload", [b"\xff\xfe\x00", b"x", b"\0", b"3\0", b"3\x001\0", b"4\x001\0abc\0", b"9999\0",
                                     b"-5\0", b"1\x0011\0" + b"1\0" * 8, b"97\0" + b"9" * 400 + b"\0"])
def test_a_bad_message_inside_a_good_stream_is_answered_and_survived(payload):
    gateway = memory_gateway()
    client = RawClient(gateway)
    client.raw(frame(payload))
    assert not client.session.closing
    assert select(gateway.journal.lines, "bad_bytes")
    assert client.send(49, 1)[0][0] == "49"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise(data):
    gateway = memory_gateway()
    client = RawClient(gateway)
    client.raw(data)
    stranger = RawClient(gateway, start=False)
    stranger.raw(b"API\0" + data)
    assert RawClient(gateway, 9).seen


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.integers(1, 107), st.sampled_from(
    ["", "-1", "abc", "1e999", "NaN", "2147483648", "1.7976931348623157E308", "None", "9" * 25, "\x01", "é", "0.001"]),
    max_size=6))
def test_a_place_order_with_any_field_wrong_never_breaks_the_exchange(changes):
    gateway = memory_gateway()
    client = RawClient(gateway)
    fields = place(1, lmt="101")
    for at, value in changes.items():
        fields[at % len(fields)] = value
    client.send(*fields)
    assert not client.session.closing
    gateway.trade(gateway.contracts.named("AAPL"), Trade(D(100), D(1), START_NS), START_NS)
    assert client.send(49, 1)[-1][0] == "49"
