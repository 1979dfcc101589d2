"""Market data on the wire: permissions, types, limits, snapshots, generic ticks, conflation, delay (ib-wire.md 10)."""

from __future__ import annotations

from decimal import Decimal as D

import ib_async
import ib_insync
import pytest

from actors.venue.simulator.feeds import Trade
from tests.venue.gateway_fixture import NS, START_NS, RawClient, memory_gateway
from tests.venue.memory_ib import MemoryIB, aapl
from tests.venue.test_sim_session import AAPL, ids

pytestmark = pytest.mark.unit
MSFT = ["0", "MSFT", *AAPL[2:]]
both_libraries = pytest.mark.parametrize("library", [ib_insync, ib_async])


def ask(client, req_id: int, contract=AAPL, generic: str = "", snapshot: int = 0, regulatory: int = 0):
    return client.send(1, 11, req_id, *contract, 0, generic, snapshot, regulatory, "")


def codes(messages) -> list[str]:
    return [m[3] for m in messages if m[0] == "4"]


def ticks(messages) -> dict[str, str]:
    """Return the values of ticks by tick type: prices, sizes, generics and strings alike."""
    return {m[3]: m[4] for m in messages if m[0] in ("1", "2", "45", "46")}


def trade(gateway, price, at_s: float = 0, size=100, symbol: str = "AAPL", now: int = START_NS, **more) -> None:
    gateway.trade(gateway.contracts.named(symbol), Trade(D(str(price)), D(size), now + int(at_s * NS), **more), now)


def quote(gateway, bid, ask_, symbol: str = "AAPL", now: int = START_NS, **sizes) -> None:
    gateway.set_quote(gateway.contracts.named(symbol), now, bid=D(str(bid)), ask=D(str(ask_)),
                      **{k: D(v) for k, v in sizes.items()})


def empty_gateway(**settings):
    """A gateway in which AAPL has no price at all."""
    gateway = memory_gateway(**settings)
    q = gateway.exchange.quote_of(265598)
    q.bid = q.ask = q.last = None
    return gateway


# who may see what ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("permission", "asked_type", "refused", "shown_type"), [
    ("live", 1, [], "1"), ("live", 2, [], "1"), ("live", 3, [], "1"), ("live", 4, [], "1"),
    ("delayed", 1, ["354"], None), ("delayed", 2, ["354"], None),
    ("delayed", 3, ["10167"], "3"), ("delayed", 4, ["10167"], "3"),
    ("none", 1, ["10089"], None), ("none", 3, ["10089"], None)])
def test_what_is_shown_follows_the_permission_and_the_type_asked_for(permission, asked_type, refused, shown_type):
    client = RawClient(memory_gateway(data_permission=permission))
    assert client.send(59, 1, asked_type) == []
    answer = ask(client, 5)
    assert codes(answer) == refused
    assert [m[3] for m in answer if m[0] == "58"] == ([] if shown_type is None else [shown_type])
    live = {"1", "2", "4"} & set(ticks(answer))
    delayed = {"66", "67", "68"} & set(ticks(answer))
    assert bool(live) == (shown_type == "1")
    assert bool(delayed) == (shown_type == "3")


def test_permissions_can_be_given_symbol_by_symbol_and_the_type_sticks_to_its_connection():
    gateway = memory_gateway(data_permissions={"MSFT": "delayed"})
    one, two = RawClient(gateway, 1), RawClient(gateway, 2)
    one.send(59, 1, 3)
    assert codes(ask(one, 5, MSFT)) == ["10167"]
    assert codes(ask(one, 6, MSFT, snapshot=1)) == ["10167"]
    assert codes(ask(two, 5, MSFT)) == ["354"]
    assert codes(ask(two, 6)) == []
    assert codes(one.send(59, 1, 9)) == ["321"]


def test_a_regulatory_snapshot_is_live_for_everybody_and_ends():
    client = RawClient(memory_gateway(data_permission="none"))
    answer = ask(client, 5, regulatory=1)
    assert codes(answer) == []
    assert ticks(answer)["1"] == "99.99"
    assert ids(answer)[-1] == "57"


@pytest.mark.parametrize(("fields", "code"), [
    (["97", "5", *AAPL, "AllLast", "0", "0"], "10189"),
    (["10", "5", "5", *AAPL, "5", "1", ""], "354"),
    (["50", "3", "5", *AAPL, "5", "TRADES", "0", ""], "420")])
def test_without_permission_the_other_streams_are_refused_too(fields, code):
    assert codes(RawClient(memory_gateway(data_permission="delayed")).send(*fields)) == [code]


@both_libraries
def test_delayed_data_are_told_fifteen_minutes_late_with_their_own_times(library):
    gateway = memory_gateway(data_permission="delayed")
    client = MemoryIB(library, gateway)
    client.ib.reqMarketDataType(3)
    ticker = client.ib.reqMktData(aapl(library))
    client.read()
    assert client.errors[-1] == 10167
    assert (ticker.marketDataType, ticker.bid, ticker.last) == (3, 99.99, 100)
    quote(gateway, 101, 102, now=client.now + NS)
    trade(gateway, "101.5", now=client.now + 2 * NS)
    client.advance(899)
    assert (ticker.bid, ticker.last) == (99.99, 100)
    client.advance(2)
    assert (ticker.bid, ticker.last) == (101, 100)
    client.advance(2)
    assert ticker.last == 101.5
    client.ib.cancelMktData(ticker.contract)
    trade(gateway, 105, now=client.now)
    client.advance(1000)
    assert ticker.last == 101.5


# limits and ids ------------------------------------------------------------------------------------------------------

def test_lines_are_counted_by_contract_over_all_clients():
    gateway = memory_gateway(data_lines=2)
    one, two = RawClient(gateway, 1), RawClient(gateway, 2)
    assert codes(ask(one, 5)) == codes(ask(two, 5)) == codes(ask(two, 6, MSFT)) == []
    spy = ["0", "SPY", *AAPL[2:]]
    assert codes(ask(one, 7, spy)) == ["101"]
    assert codes(ask(one, 8, MSFT)) == [], "what is shown already takes no new line"
    one.send(2, 2, 8)
    two.send(2, 2, 6)
    assert codes(ask(one, 7, spy)) == []


def test_tick_by_tick_has_five_percent_of_the_lines_and_an_instrument_once_in_fifteen_seconds():
    gateway = memory_gateway(tick_by_tick_limits=True, data_lines=40)
    client = RawClient(gateway)
    assert codes(client.send(97, 1, *AAPL, "Last", 0, 0)) == []
    assert codes(client.send(97, 2, *AAPL, "BidAsk", 0, 0)) == ["10190"], "too soon"
    assert codes(client.send(97, 3, *MSFT, "Last", 0, 0)) == []
    client.now += 16 * NS
    assert codes(client.send(97, 4, *AAPL, "BidAsk", 0, 0)) == ["10190"], "only two of forty lines"
    client.send(98, 1)
    assert codes(client.send(97, 4, *AAPL, "BidAsk", 0, 0)) == []


def test_a_cancel_ends_only_what_it_names():
    client = RawClient(memory_gateway())
    ask(client, 5)
    client.send(97, 6, *AAPL, "Last", 0, 0)
    assert codes(client.send(98, 5)) == codes(client.send(2, 2, 6)) == codes(client.send(2, 2, 99)) == ["300"]
    assert codes(client.send(11, 1, 6, 1)) == ["310"]
    assert codes(client.send(51, 1, 5)) == ["300"]
    assert codes(ask(client, 6, MSFT)) == ["322"], "one space of ids"
    assert client.send(2, 2, 5) == client.send(98, 6) == []
    assert codes(ask(client, 6, MSFT)) == []


@pytest.mark.parametrize(("fields", "code", "said"), [
    (["1", "11", "5", "0", "AAPL", "BAG", *AAPL[3:], "1", "265598", "1", "BUY", "SMART", "0", "", "0", "0", ""], "312",
     "two or more"),
    (["10", "5", "5", "0", "AAPL", "BAG", *AAPL[3:], "5", "1", ""], "321", "Combinations"),
    (["50", "3", "5", "0", "AAPL", "BAG", *AAPL[3:], "5", "TRADES", "0", ""], "321", "Combinations"),
    (["97", "5", "0", "AAPL", "BAG", *AAPL[3:], "Last", "0", "0"], "10189", "combinations"),
    (["1", "11", "5", *AAPL, "0", "", "0", "0", "a=b;"], "321", "options 'a=b;' are not simulated"),
    (["10", "5", "5", *AAPL, "5", "1", "a=b;"], "321", "options 'a=b;' are not simulated"),
    (["50", "3", "5", *AAPL, "5", "TRADES", "0", "a=b;"], "321", "options 'a=b;' are not simulated"),
    (["97", "5", *AAPL, "Last", "1001", "0"], "321", "numberOfTicks"),
    (["97", "5", *AAPL, "Last", "-1", "0"], "321", "numberOfTicks"),
    (["10", "5", "5", *AAPL, "0", "1", ""], "321", "rows"),
    (["10", "5", "5", *AAPL, "5", "0", ""], "10092", "Deep market data"),
    (["50", "3", "5", *AAPL, "30", "TRADES", "0", ""], "321", "Bar size"),
    (["50", "3", "5", *AAPL, "5", "BID_ASK", "0", ""], "321", "What to show"),
    (["50", "3", "5", "0", "NOPE", *AAPL[2:], "5", "TRADES", "0", ""], "200", "security definition")])
def test_what_cannot_be_shown_is_refused_by_name(fields, code, said):
    (error,) = RawClient(memory_gateway()).send(*fields)
    assert (error[3], said in error[4]) == (code, True)


# snapshots -----------------------------------------------------------------------------------------------------------

def test_a_snapshot_without_prices_waits_for_them_and_ends_when_they_are_there():
    gateway = empty_gateway()
    client = RawClient(gateway)
    assert "57" not in ids(ask(client, 5, snapshot=1))
    quote(gateway, 99, 101)
    trade(gateway, 100)
    gateway.advance(START_NS + NS)
    answer = client.read()
    assert ids(answer)[-1] == "57"
    assert ticks(answer)["1"] == "99"
    trade(gateway, 105)
    assert client.read() == []
    assert codes(client.send(2, 2, 5)) == ["300"], "it is over"


def test_a_snapshot_without_prices_ends_after_eleven_seconds_and_its_id_is_free():
    gateway = empty_gateway()
    client = RawClient(gateway)
    ask(client, 5, snapshot=1)
    for second in range(1, 11):
        gateway.advance(START_NS + second * NS)
    assert client.read() == []
    gateway.advance(START_NS + 11 * NS)
    assert ids(client.read()) == ["57"]
    assert codes(ask(client, 5)) == []


def test_a_snapshot_that_was_cancelled_ends_nothing_that_came_after_it():
    gateway = empty_gateway()
    client = RawClient(gateway)
    ask(client, 5, snapshot=1)
    client.send(2, 2, 5)
    ask(client, 5)
    gateway.advance(START_NS + 20 * NS)
    assert client.read() == []
    quote(gateway, 99, 101)
    assert ticks(client.read())["1"] == "99"


# generic ticks -------------------------------------------------------------------------------------------------------

ALL = "104,106,165,221,232,233,236,293,294,295,375,411,595"


@pytest.mark.parametrize(("generic", "contract", "legal"), [
    ("233,999", AAPL, "233(RTVolume)"), ("mdoff", AAPL, "236(inventory)"), ("100", AAPL, "104("), ("-1", AAPL, "104(")])
def test_an_unknown_generic_tick_is_refused_with_the_legal_ones(generic, contract, legal):
    (error,) = ask(RawClient(memory_gateway()), 5, contract, generic)
    assert error[3] == "321"
    assert f"Incorrect generic tick list of {generic}.  Legal ones for (STK) are:" in error[4]
    assert legal in error[4]


def test_generic_ticks_and_a_snapshot_do_not_go_together():
    assert codes(ask(RawClient(memory_gateway()), 5, generic="233", snapshot=1)) == ["321"]


@both_libraries
def test_the_generic_ticks_are_understood(library, caplog):
    gateway = memory_gateway()
    client = MemoryIB(library, gateway)
    ticker = client.ib.reqMktData(aapl(library), ALL)
    client.read()
    trade(gateway, 101, size=300, now=client.now)
    trade(gateway, 102, size=100, now=client.now + 61 * NS)
    trade(gateway, 50, size=7, eligible=False, now=client.now + 62 * NS)
    quote(gateway, 103, 104, now=client.now + 63 * NS)
    client.advance(63)
    assert (ticker.histVolatility, ticker.impliedVolatility, ticker.rtHistVolatility) == (0.25, 0.25, 0.25)
    assert ticker.low52week < ticker.low26week < ticker.low13week < 100 < ticker.high13week < ticker.high52week
    assert (ticker.avVolume, ticker.shortableShares) == (5_000_000, 1_000_000)
    assert ticker.markPrice == 103, "the last price, held between bid and ask"
    assert ticker.tradeCount == 3                 # the walk's opening print, and two
    assert (ticker.tradeRate, ticker.volumeRate) == (1, 100)
    assert ticker.rtVolume == 507
    assert ticker.rtTradeVolume == 500
    assert ticker.vwap == pytest.approx((100 * 100 + 300 * 101 + 100 * 102) / 500)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


# conflation ----------------------------------------------------------------------------------------------------------

def test_conflated_data_come_at_most_once_in_an_interval_with_the_newest_prices_and_all_volume():
    gateway = memory_gateway(conflate_ms=250)
    client = RawClient(gateway)
    ask(client, 5)
    trade(gateway, 101)
    assert ticks(client.read())["4"] == "101", "after a silence at once"
    for n in range(1, 6):
        trade(gateway, 101 + n, n * 0.04)
        quote(gateway, 100 + n, 102 + n, now=START_NS + n * 40_000_000)
    assert client.read() == []
    assert gateway.advance(START_NS + NS // 5) == START_NS + NS // 4
    gateway.advance(START_NS + NS // 4)
    told = client.read()
    assert [(m[3], m[4]) for m in told if m[0] == "1"] == [("1", "105"), ("2", "107"), ("4", "106"), ("6", "106")]
    assert ticks(told)["8"] == "700"
    gateway.advance(START_NS + NS)
    assert client.read() == []
    trade(gateway, 110, 2)
    assert ticks(client.read())["4"] == "110"


def test_volume_alone_is_conflated_too_and_a_cancel_forgets_what_was_held_back():
    gateway = memory_gateway(conflate_ms=250)
    client = RawClient(gateway)
    ask(client, 5)
    trade(gateway, 101)
    trade(gateway, 50, 0.1, eligible=False)
    trade(gateway, 50, 0.11, eligible=False)
    client.read()
    gateway.advance(START_NS + NS // 4)
    assert client.read() == [["2", "6", "5", "8", "400"]]
    trade(gateway, 102, 0.3)
    client.send(2, 2, 5)
    gateway.advance(START_NS + NS)
    assert client.read() == []


def test_tick_by_tick_is_never_conflated():
    gateway = memory_gateway(conflate_ms=250)
    client = RawClient(gateway)
    client.send(97, 1, *AAPL, "Last", 0, 0)
    client.read()
    for n in range(5):
        trade(gateway, 101 + n, n / 100)
    assert [m[4] for m in client.read()] == ["101", "102", "103", "104", "105"]


def test_conflation_needs_a_clock_that_goes_on():
    with pytest.raises(ValueError, match="conflate_ms"):
        memory_gateway(conflate_ms=250, replay="x.csv", speed="lockstep")


# combinations --------------------------------------------------------------------------------------------------------

@both_libraries
@pytest.mark.parametrize("permission", ["live", "delayed"])
def test_a_combinations_quote_follows_its_legs(library, permission):
    gateway = memory_gateway(data_permission=permission, data_delay_s=10)
    client = MemoryIB(library, gateway)
    client.ib.reqMarketDataType(3)
    legs = [library.ComboLeg(conId=265598, ratio=2, action="BUY", exchange="SMART"),
            library.ComboLeg(conId=272093, ratio=1, action="SELL", exchange="SMART")]
    ticker = client.ib.reqMktData(library.Contract(symbol="AAPL", secType="BAG", exchange="SMART", currency="USD",
                                                   comboLegs=legs))
    client.read()
    assert (ticker.bid, ticker.ask) == (pytest.approx(2 * 99.99 - 400.01), pytest.approx(2 * 100.01 - 399.99))
    quote(gateway, 110, 111, now=client.now)
    quote(gateway, 209, 210, symbol="MSFT", now=client.now)
    client.advance(11)
    assert (ticker.bid, ticker.ask) == (pytest.approx(220 - 210), pytest.approx(222 - 209))


# the rest of the request ---------------------------------------------------------------------------------------------

def test_a_delta_neutral_contract_is_validated_first():
    client = MemoryIB(ib_insync, memory_gateway())
    contract = aapl(ib_insync)
    contract.deltaNeutralContract = ib_insync.DeltaNeutralContract(conId=265598, delta=0.5, price=100.25)
    heard = []
    client.ib.wrapper.deltaNeutralValidation = lambda req_id, dnc: heard.append(dnc)
    ticker = client.ib.reqMktData(contract)
    client.read()
    assert heard == [contract.deltaNeutralContract]
    assert ticker.last == 100


def test_no_quote_is_minus_one_with_size_zero():
    gateway = memory_gateway()
    client = RawClient(gateway)
    ask(client, 5)
    gateway.set_quote(gateway.contracts.named("AAPL"), START_NS, bid=None, ask=D(101))
    told = client.read()
    assert told[:2] == [["1", "6", "5", "1", "-1", "0", "1"], ["2", "6", "5", "0", "0"]]


def test_subscriptions_end_with_their_connection():
    gateway = memory_gateway(conflate_ms=250)
    client = RawClient(gateway)
    ask(client, 5)
    client.send(10, 5, 6, *AAPL, 5, 1, "")
    client.send(50, 3, 7, *AAPL, 5, "TRADES", 0, "")
    gateway.disconnect(client.session, START_NS)
    assert gateway.watchers(265598) == []
    trade(gateway, 101)
    gateway.advance(START_NS + 60 * NS)
    assert not client.session.has_output
    assert gateway.exchange_agenda.next_ns() is None
