"""The gateway and real client libraries in one thread on virtual time: one seed is one play, and nothing waits."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time

import ib_async
import ib_insync
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.venue.simulator.in_process import START_NS, InProcess
from actors.venue.simulator.journal import cancels, executions, placements, select
from actors.venue.simulator.settings import GatewaySettings
from actors.venue.simulator.virtual import NS, Latency, Stuck, VirtualLoop
from tests.venue.gateway_fixture import ROOT
from tests.venue.in_process_ib import LIBRARIES, IbWorld, ib_world

pytestmark = pytest.mark.unit
both_libraries = pytest.mark.parametrize("library", LIBRARIES)
MOMENT_S = 5.0
"""What a moment may take in real time, on a machine that does other things too."""


def aapl(world: IbWorld, ib, library):
    contract = library.Stock("AAPL", "SMART", "USD")
    world.run(ib.qualifyContractsAsync(contract))
    return contract


def limit(library, action: str, quantity: int, price: float, ref: str, **more):
    return library.LimitOrder(action, quantity, price, orderRef=ref, tif="GTC", account="DU1000001", **more)


def seconds_of(world: InProcess) -> float:
    return (world.now_ns - START_NS) / NS


# the play ----------------------------------------------------------------------------------------------------------

@both_libraries
def test_a_whole_life_of_an_order_with_the_real_library(library):
    with ib_world() as world:
        ib = world.ib(library=library)
        contract = aapl(world, ib, library)
        order = limit(library, "BUY", 100, 99, "B1.entry")
        trade = ib.placeOrder(contract, order)
        world.until(lambda: trade.orderStatus.status == "Submitted", "the order to work")
        world.fill("B1.entry", 40, "99")
        world.settle()
        assert trade.filled() == 40
        assert trade.fills[0].commissionReport.commission == 1.0
        order.lmtPrice = 98
        ib.placeOrder(contract, order)
        world.settle()
        ib.cancelOrder(order)
        world.settle()
        assert trade.orderStatus.status == "Cancelled"
        assert [p.position for p in ib.positions()] == [40]
        assert len(placements(world.lines)) == len(cancels(world.lines)) == len(executions(world.lines)) == 1


def test_two_clients_of_two_libraries_trade_against_one_market():
    with ib_world() as world:
        one, two = world.ib(1, ib_insync), world.ib(2, ib_async)
        buy = one.placeOrder(aapl(world, one, ib_insync), limit(ib_insync, "BUY", 100, 99, "one"))
        sell = two.placeOrder(aapl(world, two, ib_async), limit(ib_async, "SELL", 100, 102, "two"))
        world.settle()
        world.price("AAPL", "98.50")
        world.price("AAPL", "102.50")
        world.settle()
        assert (buy.orderStatus.status, sell.orderStatus.status) == ("Filled", "Filled")
        assert [f.execution.orderRef for f in one.fills()] == ["one"]
        assert [f.execution.orderRef for f in two.fills()] == ["two"]


def test_the_libraries_own_blocking_style_runs_too():
    with ib_world() as world:
        ib = ib_insync.IB()
        ib.connect(world.host, world.port, clientId=4)
        ib.sleep(60)
        assert ib.reqCurrentTime().timestamp() == world.now_ns // NS
        assert seconds_of(world) > 60


def play(seed: int) -> bytes:
    """Tell one story that depends on the seed in its walk, in its latencies, and in who comes first."""
    with ib_world(seed=seed, walk_interval=1) as world:
        clients = [world.ib(1, ib_insync), world.ib(2, ib_async)]
        contracts = [aapl(world, ib, library) for ib, library in zip(clients, LIBRARIES, strict=True)]
        heard = []
        for n in range(40):
            for ib, contract, library in zip(clients, contracts, LIBRARIES, strict=True):
                trade = ib.placeOrder(contract, limit(library, "BUY", 100, round(100 + (n % 7 - 3) / 50, 2),
                                                       f"{library.__name__}.{n}"))
                trade.statusEvent += lambda t: heard.append((world.now_ns, t.order.orderRef, t.orderStatus.status))
            world.advance(1.5)
        clients[0].reqGlobalCancel()
        world.advance(5)
        return world.journal_bytes() + repr(heard).encode()


def test_one_seed_is_one_play_byte_for_byte():
    first = play(7)
    assert first.count(b'"execution"') > 10
    assert first == play(7)
    assert first != play(8)


def test_the_play_is_the_same_under_every_hash_seed():
    program = ("import hashlib, sys; from tests.venue.test_sim_in_process import play; "
               "print(hashlib.sha256(play(7)).hexdigest())")
    running = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed})
               for hash_seed in ("1", "4242")]
    found = [process.communicate(timeout=60)[0].strip() for process in running]
    assert found == [hashlib.sha256(play(7)).hexdigest()] * 2


def test_a_journal_file_holds_what_the_world_says(tmp_path):
    with ib_world(journal=str(tmp_path / "journal")) as world:
        world.ib()
        said = world.journal_bytes()
    assert (tmp_path / "journal").read_bytes().startswith(said)


# time --------------------------------------------------------------------------------------------------------------

def test_an_hour_of_a_scenario_takes_a_moment():
    began = time.monotonic()
    with ib_world(scenario="target") as world:
        ib = world.ib()
        order = limit(ib_insync, "BUY", 100, 101, "B1.entry")
        trade = ib.placeOrder(aapl(world, ib, ib_insync), order)
        world.advance(3600)
        assert trade.orderStatus.status == "Filled"
        assert seconds_of(world) > 3600
    assert time.monotonic() - began < MOMENT_S


def test_a_good_till_date_ends_at_its_second_and_not_before():
    with ib_world() as world:
        ib = world.ib()
        order = limit(ib_insync, "BUY", 100, 90, "B1.entry")
        order.tif, order.goodTillDate = "GTD", "20260105 09:40:00 US/Eastern"
        trade = ib.placeOrder(aapl(world, ib, ib_insync), order)
        world.advance(599)
        assert trade.orderStatus.status == "Submitted"
        world.advance(2)
        assert trade.orderStatus.status == "Cancelled"
        ended = select(world.lines, "order", "sim")[-1]
        assert ended["ts_ns"] == START_NS + 600 * NS


@both_libraries
def test_a_clash_of_client_ids_costs_virtual_seconds_only(library):
    with ib_world() as world:
        first = world.ib(3, library)
        began, real = seconds_of(world), time.monotonic()
        with pytest.raises(TimeoutError):
            world.ib(3, library, timeout=60)
        assert 60 <= seconds_of(world) - began < 61
        assert time.monotonic() - real < MOMENT_S
        assert 326 in [line["code"] for line in select(world.lines, "error", "out")]
        assert world.run(first.reqCurrentTimeAsync()).year == 2026


def test_a_library_s_own_throttle_runs_on_the_virtual_clock():
    with ib_world() as world:
        ib = world.ib()
        contract = aapl(world, ib, ib_insync)
        world.advance(2)
        ib.client.MaxRequests, began = 45, world.now_ns
        for n in range(100):
            ib.placeOrder(contract, limit(ib_insync, "BUY", 1, 90, f"many.{n}"))
        world.until(lambda: len(placements(world.lines)) == 100, "a hundred orders")
        assert 2 <= (world.now_ns - began) / NS < 2.1
        in_time = [p["ts_ns"] - began for p in placements(world.lines)]
        assert [sum(at < second * NS for at in in_time) for second in (1, 2, 3)] == [45, 90, 100]


def test_ticks_carry_virtual_times():
    with ib_world() as world:
        ib = world.ib()
        ticker = ib.reqMktData(aapl(world, ib, ib_insync))
        world.advance(100)
        world.price("AAPL", "101")
        world.settle()
        assert ticker.last == 101
        assert START_NS / NS + 100 < ticker.time.timestamp() < START_NS / NS + 101


# the wire ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("most", [1, 3])
def test_a_session_in_pieces_of_a_few_bytes_is_the_same_session(most):
    with ib_world(latency=Latency(least_ns=1, most_ns=1_000, piece_bytes=most)) as world:
        ib = world.ib()
        trade = ib.placeOrder(aapl(world, ib, ib_insync), limit(ib_insync, "BUY", 100, 101, "B1.entry"))
        world.settle()
        assert trade.fills[0].commissionReport.commission == 1.0
        assert not select(world.lines, "bad_bytes")


def test_a_cut_wire_loses_what_is_on_its_way_and_the_orders_that_reached_it_live():
    with ib_world(latency=Latency(least_ns=1_000_000, most_ns=1_000_000)) as world:
        ib = world.ib()
        contract = aapl(world, ib, ib_insync)
        reached = ib.placeOrder(contract, limit(ib_insync, "BUY", 100, 90, "reached"))
        world.advance(0.0015)              # at the gateway; its answer is under way
        ib.placeOrder(contract, limit(ib_insync, "BUY", 100, 90, "lost"))
        world.network.cut()
        world.settle()
        assert not ib.isConnected()
        assert reached.orderStatus.status == "PendingSubmit"
        assert [p["orderRef"] for p in placements(world.lines)] == ["reached"]
        again = world.ib()
        assert [t.order.orderRef for t in again.openTrades()] == ["reached"]


def test_a_half_open_wire_says_nothing_until_it_is_released():
    with ib_world() as world:
        ib = world.ib()
        contract = aapl(world, ib, ib_insync)
        (link,) = world.network.links
        link.hold(up=False)
        trade = ib.placeOrder(contract, limit(ib_insync, "BUY", 100, 101, "B1.entry"))
        world.advance(600)
        assert len(executions(world.lines)) == 1
        assert trade.orderStatus.status == "PendingSubmit"
        assert ib.isConnected()
        link.release()
        world.settle()
        assert trade.orderStatus.status == "Filled"


def test_nobody_is_let_in_while_the_network_refuses_nor_at_a_wrong_port():
    with ib_world() as world:
        world.network.refusing = True
        with pytest.raises(ConnectionRefusedError):
            world.ib()
        world.network.refusing = False
        with pytest.raises(ConnectionRefusedError):
            world.run(asyncio.open_connection(world.host, world.port + 1))
        assert world.ib().isConnected()


def test_asyncio_streams_are_clients_like_any_other():
    with InProcess(GatewaySettings(walk_interval=10**7)) as world:
        async def hello() -> bytes:
            reader, writer = await asyncio.open_connection(world.host, world.port)
            writer.write(b"API\0\0\0\0\x09v157..176")
            answer = await reader.read(100)
            writer.close()
            await writer.wait_closed()
            return answer

        assert b"176\x0020260105 14:30:00" in world.run(hello())
        world.settle()
        assert not world.server.connections


# the loop ----------------------------------------------------------------------------------------------------------

def test_a_wait_that_nothing_can_end_is_refused_at_once():
    with ib_world(scenario="target") as world:
        with pytest.raises(Stuck):
            world.run(world.loop.create_future())
        with pytest.raises(AssertionError, match="in vain for: pigs to fly"):
            world.until(lambda: False, "pigs to fly", 3600)


def test_what_a_callback_raises_is_not_lost():
    with ib_world() as world:
        world.loop.call_later(5, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.advance(10)


def test_another_thread_is_refused():
    with ib_world() as world, pytest.raises(RuntimeError, match="no other thread"):
        world.run(world.loop.run_in_executor(None, lambda: world.loop.call_soon_threadsafe(print)))


def test_a_port_is_taken_once():
    with ib_world(port=4002) as world:
        assert world.port == 4002
        with pytest.raises(OSError, match="already in use"):
            world.run(world.loop.create_server(asyncio.Protocol, "127.0.0.1", 4002))


def test_a_nanosecond_and_less_and_months_are_waited_for_exactly():
    loop, woken = VirtualLoop(START_NS), []
    dues = [1, 2, 3, 999, 10**3, 10**9 + 1, 10**9 + 2, 10**15, 10**16]

    async def story():
        for due in dues:
            loop.at_ns(START_NS + due, lambda due=due: woken.append((due, loop.now_ns - START_NS)))
        for tiny in (1e-10, 4e-10, 5e-10, 6e-10, 1e-300):
            await asyncio.sleep(tiny)
        await asyncio.sleep(2 * 10**7)

    try:
        loop.run_until_complete(story())
    finally:
        loop.close()
    assert [due for due, _ in woken] == dues
    assert [(due, at) for due, at in woken if abs(at - due) > max(1, due // 2**52)] == []


class _Ear(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard: list[tuple[float, bytes]] = []
        self.over: list[str] = []

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard.append((self.transport.loop.time(), data))

    def eof_received(self) -> None:
        self.over.append("eof")

    def connection_lost(self, exc) -> None:
        self.over.append(type(exc).__name__)


@settings(deadline=None, max_examples=60)
@given(writes=st.lists(st.tuples(st.floats(0, 0.01), st.binary(min_size=1, max_size=50)), max_size=20),
       least=st.integers(0, 10**6), more=st.integers(0, 10**7), piece=st.integers(0, 7), seed=st.integers(0, 99),
       ending=st.sampled_from(["close", "abort", "write_eof"]))
def test_bytes_arrive_in_order_and_late_by_what_the_latency_says(writes, least, more, piece, seed, ending):
    latency = Latency(least_ns=least, most_ns=least + more, piece_bytes=piece)
    loop = VirtualLoop(START_NS, seed, latency)
    ears = []

    def factory():
        ears.append(_Ear())
        return ears[-1]

    async def story():
        server = await loop.create_server(factory)
        transport, client = await loop.create_connection(_Ear, "anywhere", server.port)
        began = loop.time()
        for pause, data in writes:
            await asyncio.sleep(pause)
            transport.write(data)
        ended = loop.time()
        getattr(transport, ending)()
        await loop.settle()
        return began, ended, client

    try:
        began, ended, client = loop.run_until_complete(story())
    finally:
        loop.close()
    (server,) = ears
    assert b"".join(data for _, data in server.heard) == b"".join(data for _, data in writes)
    times = [at for at, _ in server.heard]
    assert times == sorted(times)
    assert all(began <= at <= ended + (least + more) / NS + 1e-6 for at in times)
    assert server.over == (["ConnectionResetError"] if ending == "abort" else ["eof", "NoneType"])
    assert client.over[-1:] == (["NoneType"])
