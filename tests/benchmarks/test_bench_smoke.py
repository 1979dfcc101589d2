"""Every benchmark still runs: tiny sizes, no judgement of the figures."""

from __future__ import annotations

import pytest

from tests.benchmarks import (
    bench_brackets,
    bench_engine_ticks,
    bench_gateway,
    bench_hops,
    bench_storage,
    bench_trigger_book,
)
from tests.benchmarks import bench_wire as wire

pytestmark = pytest.mark.performance


@pytest.fixture
def said():
    return []


def test_the_trigger_book_is_measured(said):
    bench_trigger_book.run(said.append, quick=True, sizes=(10, 50))
    assert any("flatness 50 over 10" in line for line in said)


def test_ticks_through_the_engine_are_measured(said):
    bench_engine_ticks.run(said.append, quick=True, sizes=(3, 12))
    assert any("flatness 12 over 3" in line for line in said)


def test_single_steps_are_measured(said):
    bench_hops.run(said.append, quick=True)
    assert any("decide()" in line for line in said)


def test_storage_is_measured(said):
    bench_storage.run(said.append, quick=True, brackets=20, records=100)
    assert any("rebuild" in line for line in said)


def test_brackets_are_opened_and_weighed():
    found = bench_brackets.apart(5, trail=True)
    assert found["acked"] > 0
    assert found["protected"] > 0


@pytest.mark.skipif(len(wire.machine.cores()) < 2, reason="trigger to wire takes two cores")
def test_exits_are_timed_at_the_gateways_socket(monkeypatch):
    monkeypatch.setattr(wire, "QUIET_S", 0.02)
    try:
        assert all(took > 0 for one in (wire.run_floor, wire.run_script, wire.run_engine) for took in one(2))
    finally:
        wire.machine.pin(*wire.machine.cores_at_start)


def test_a_gateway_s_orders_are_counted_to_the_last_fill():
    orders, messages = bench_gateway.orders_per_second("gateway", 300)
    assert messages > 5 * orders > 0, "acks, fills and commissions were delivered, not orders taken"
    assert bench_gateway.orders_per_second("echo", 300)[0] > 0
    assert bench_gateway.orders_per_second_of_ib_insync(60) > 0


def test_a_gateway_s_acks_are_timed():
    assert len(bench_gateway.ack_microseconds("gateway", 20)) == len(bench_gateway.ack_microseconds("echo", 20)) == 20


def test_a_gateway_s_ticks_are_counted_at_every_client():
    assert bench_gateway.ticks_per_second("ticks", 1_000, 3) > 0
    assert bench_gateway.ticks_per_second("source", 1_000, 3) > 0


def test_what_a_thousand_orders_leave_in_memory_is_weighed():
    marks = []
    bench_gateway.million(1_000, lambda *mark: marks.append(mark))
    assert [orders for orders, _, _ in marks] == list(range(100, 1_001, 100))
    assert all(seconds > 0 and resident > 0 for _, seconds, resident in marks)
