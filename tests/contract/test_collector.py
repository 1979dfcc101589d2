"""The cycle collector is kept calm where an embedded engine runs, and only there."""

from __future__ import annotations

import gc

import pytest

from actors.host import COLLECTOR, EMBEDDED, Host, calm_collector
from messages.supervision import StopActor
from tests.benchmarks.bench_engine_ticks import Engine, Open
from tests.contract.toys import ToySettings


@pytest.fixture
def collector():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_was_made_before_is_never_looked_at_again(collector):
    calm_collector()
    assert gc.get_freeze_count() > 1_000
    assert gc.get_threshold() == COLLECTOR


def test_brackets_come_and_go_without_leaving_cycles_behind(tmp_path):
    engine = Engine(5, str(tmp_path))
    try:
        router = engine.host.instance("router")
        gc.collect()
        gc.disable()
        engine.engine.enqueue(engine.host.address_of("router"), Open(first=100, count=100))
        engine.settle()
        for number in range(100, 200):
            router.stop_child(f"B{number}-bench")
        router._flush()
        engine.settle()
        assert len(router.children()) == 5
        assert gc.collect() < 100, "more than one object in a cycle for each bracket that came and went"
    finally:
        gc.enable()
        engine.host.stop()


def test_the_host_calms_it_when_the_engine_runs_not_when_a_test_turns_it(collector, tmp_path):
    before = gc.get_threshold()
    host = Host(ToySettings(state_dir=str(tmp_path)), base=EMBEDDED)
    host.start()
    assert host.run_until(lambda: host.started is not None, 30)
    assert gc.get_threshold() == before
    host.tell(StopActor(reason="enough"))
    assert host.run() == 0
    assert gc.get_threshold() == COLLECTOR
