"""Every benchmark still runs: tiny sizes, no judgement of the figures."""

from __future__ import annotations

import pytest

from tests.benchmarks import bench_brackets, bench_engine_ticks, bench_hops, bench_storage, bench_trigger_book
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
