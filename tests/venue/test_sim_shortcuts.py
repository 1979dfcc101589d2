"""What is done faster must be the same: a message remembered by its text, and a play that nobody journals."""

from __future__ import annotations

from decimal import Decimal

import pytest

from actors.venue.simulator import order_request
from actors.venue.simulator.feeds import Trade
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.order_request import MAX_REMEMBERED, MAX_REMEMBERED_TEXT, PlaceOrder, place_order
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.wire import Fields, WireError, encode
from tests.venue.gateway_fixture import START_NS, RawClient
from tests.venue.test_sim_session import place

pytestmark = pytest.mark.unit


def read(fields: list[str], version: int = 176) -> PlaceOrder:
    return place_order(Fields("placeOrder", fields, 1), version)


@pytest.fixture(autouse=True)
def nothing_remembered():
    order_request.read_before.clear()
    yield
    order_request.read_before.clear()


def test_orders_with_the_same_ending_are_read_alike_and_share_nothing_that_changes():
    first, second = read(place(1, lmt="50")), read(place(2, lmt="60", action="SELL"))
    assert len(order_request.read_before) == 1
    assert (first.order_id, first.lmt, first.action) == (1, Decimal(50), "BUY")
    assert (second.order_id, second.lmt, second.action) == (2, Decimal(60), "SELL")
    assert first.extras == second.extras
    first.extras["duration"] = "7"
    assert "duration" not in second.extras
    assert "duration" not in read(place(3, lmt="50")).extras


@pytest.mark.parametrize(("version", "kind", "exchange"), [
    (177, "LMT", "SMART"), (176, "PEG BEST", "SMART"), (176, "LMT", "IBKRATS")])
def test_an_ending_is_remembered_for_its_layout_only(version, kind, exchange):
    plain = place(1, lmt="50")
    read(plain)
    other = [*plain]
    other[other.index("LMT")], other[other.index("SMART")] = kind, exchange
    after_the_plain_one = outcome(other, version)
    order_request.read_before.clear()
    assert after_the_plain_one == outcome(other, version)
    assert after_the_plain_one != outcome(plain, 176)


def outcome(fields: list[str], version: int) -> PlaceOrder | str:
    try:
        return read(fields, version)
    except WireError as error:
        return str(error)


def test_a_remembered_ending_is_taken_off_the_message_like_another():
    for _ in range(2):
        fields = Fields("placeOrder", [*place(1, lmt="50"), "more", "still"], 1)
        place_order(fields, 176)
        assert fields.left == 2


def test_a_message_cut_short_is_refused_also_after_the_whole_one_was_read():
    whole = place(1, lmt="50")
    read(whole)
    for cut in (1, 2, 40, len(whole) - 45):
        with pytest.raises(WireError, match="the message ends before"):
            read(whole[:-cut])
    assert len(order_request.read_before) == 1


def test_what_is_remembered_is_bounded():
    endings = [place(1, lmt="50") for _ in range(MAX_REMEMBERED + 50)]
    for number, fields in enumerate(endings):
        fields[-1] = str(number)
        read(fields)
    assert len(order_request.read_before) == MAX_REMEMBERED
    long = place(1, lmt="50")
    long[-1] = "x" * MAX_REMEMBERED_TEXT
    order_request.read_before.clear()
    outcome(long, 176)
    assert not order_request.read_before


def play(gateway: Gateway) -> tuple[list[list[str]], int]:
    """Play every report of an order once, and return what the client heard and how many lines that made."""
    contract = gateway.contracts.named("AAPL")
    gateway.set_quote(contract, START_NS, bid=Decimal("99.99"), ask=Decimal("100.01"))
    client = RawClient(gateway)
    client.send(61, 1)
    client.send(*place(1, kind="MKT"))
    client.send(*place(2, lmt="90", ref="a"))
    client.send(*place(2, lmt="91", ref="a"))
    client.send(4, 1, 2, "")
    client.send(4, 1, 2, "")
    client.send(*place(3, lmt="0.001"))
    client.send(*place(4, kind="STP", aux="95"))
    gateway.trade(contract, Trade(Decimal(94), Decimal(100), START_NS), START_NS)
    gateway.advance(START_NS + 10**9)
    client.read()
    return client.seen, gateway.journal.seq


def test_a_gateway_without_a_journal_says_and_counts_the_same():
    silent = Gateway(GatewaySettings(), now_ns=START_NS)
    told = Gateway(GatewaySettings(), Journal(keep=True), START_NS)
    heard, lines = play(silent)
    again, counted = play(told)
    assert not silent.journal.on
    assert told.journal.on
    assert heard == again
    assert {"3", "4", "5", "11", "59", "61"} <= {message[0] for message in heard}
    assert lines == counted == len(told.journal.lines)


def test_the_encoder_spells_every_kind_of_value():
    assert encode(1, True, False, None, "a", Decimal("1.50"), 2.5)[4:] == b"1\x001\x000\0\0a\x001.5\x002.5\0"
