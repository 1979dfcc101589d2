"""The embedded base stays flat: ten thousand siblings, ten thousand deaths, ten thousand timers."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Callable

import pytest

from actors.base import SupervisedActor
from actors.host import EMBEDDED, Host
from messages.base import Command
from tests.contract.toys import ToySettings


class Crash(Command, frozen=True, kw_only=True):
    pass


class Ball(Command, frozen=True, kw_only=True):
    left: int


class Brief(SupervisedActor):
    def receiveMsg_Crash(self, message: Crash, sender: object) -> None:
        raise RuntimeError("as told")


class Crowd(SupervisedActor):
    """Keeps siblings alive, and lets others come and go."""

    def on_start(self, start: object) -> None:
        self.buried = 0
        self.rung = 0

    def on_child_failed(self, name: str, error: str) -> None:
        self.buried += 1
        self.forget_child(name)

    def on_timer(self, key: str) -> None:
        self.rung += 1

    def receiveMsg_Ball(self, message: Ball, sender: object) -> None:
        if message.left:
            self.tell(self.address, Ball(left=message.left - 1))


class Court:
    """A host whose root is a Crowd."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.crowd: Crowd = host.instance()

    def settle(self) -> None:
        engine = self.host._engine
        while engine.base.pump(1_000):
            pass

    def hire(self, first: int, count: int) -> None:
        for n in range(first, first + count):
            self.crowd.create_child(Brief, f"sibling-{n}")
        self.crowd._flush()
        self.settle()

    def cycle(self, count: int) -> float:
        """Create, fail and bury `count` children; return seconds of this thread's CPU a cycle."""
        begun = time.thread_time()
        for n in range(count):
            address = self.crowd.create_child(Brief, f"brief-{n}")
            self.crowd.tell(address, Crash())
            self.crowd._flush()
            self.settle()
        return (time.thread_time() - begun) / count


@pytest.fixture
def court(tmp_path):
    from loguru import logger

    host = Host(ToySettings(state_dir=str(tmp_path)), base=EMBEDDED)
    host.start(root_class=Crowd, spec=())
    assert host.run_until(lambda: host.instance().settings is not None, 30)
    logger.remove()  # ten thousand tracebacks are not what is measured
    yield Court(host)
    host._engine.close()
    host._engine.root = None
    host.stop()


def best_of(times: int, measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(times))


def test_ten_thousand_deaths_leave_nothing_behind(court: Court) -> None:
    court.cycle(500)
    base = court.host._engine.base
    registered = len(base.actorRegistry)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(10):
        court.cycle(1_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert court.crowd.buried == 10_500
    assert len(base.actorRegistry) == registered
    assert court.crowd.children() == {}
    assert not court.crowd._leaving
    assert grown / 10_000 < 2, f"{grown} bytes more after 10,000 deaths"  # as shipped: 105 bytes each


def test_a_death_among_ten_thousand_siblings_costs_what_it_costs_among_none(court: Court) -> None:
    alone = best_of(5, lambda: court.cycle(200))
    court.hire(0, 10_000)
    crowded = best_of(5, lambda: court.cycle(200))
    assert len(court.crowd.children()) == 10_000
    assert crowded < 3 * alone, f"{alone * 1e6:.0f} us alone, {crowded * 1e6:.0f} us among 10,000"


def test_a_message_costs_the_same_with_ten_thousand_timers_pending(court: Court) -> None:
    def rally() -> float:
        begun = time.thread_time()
        court.host._engine.enqueue(court.host.root, Ball(left=2_000))
        court.settle()
        return (time.thread_time() - begun) / 2_000

    without = best_of(5, rally)
    for n in range(10_000):
        court.crowd.start_timer(f"t{n}", 3_600)
    with_timers = best_of(5, rally)
    assert with_timers < 3 * without, f"{without * 1e6:.1f} us without, {with_timers * 1e6:.1f} us with 10,000"


def test_timers_ring_in_the_order_in_which_they_are_due(court: Court) -> None:
    rung: list[str] = []
    court.crowd.on_timer = rung.append  # type: ignore[method-assign]
    for key, seconds in (("c", 0.03), ("a", 0.01), ("d", 0.03), ("b", 0.02)):
        court.crowd.start_timer(key, seconds)
    assert court.host.run_until(lambda: len(rung) == 4, 30)
    assert rung == ["a", "b", "c", "d"]


def test_bulk_work_yields_to_descriptors_after_a_batch(court: Court) -> None:
    read: list[int] = []
    reader, writer = os.pipe()
    court.crowd.on_readable = lambda fds: read.append(os.read(fds[0], 1)[0])  # type: ignore[method-assign]
    court.crowd.watch(reader)
    court.host._engine.enqueue(court.host.root, Ball(left=1_000))
    court.host._engine.turn(0)
    os.write(writer, b"x")
    court.host._engine.turn(0)
    assert read == [ord("x")]
    assert court.host._engine.base._pendingSends, "the bulk work was over before the descriptor had its turn"
    court.crowd.unwatch(reader)
    os.close(reader)
    os.close(writer)


def test_what_is_said_to_the_host_does_not_pile_up(court: Court) -> None:
    for _ in range(5_000):
        court.crowd.tell(court.host._engine.base._requester.address, Ball(left=0))
    court.crowd._flush()
    while court.host._engine.base._pendingSends:
        court.host._engine.turn(0)
    assert not getattr(court.host._engine.base._requester.instance, "responses", None)
    assert len(court.host._engine.take_replies()) <= 64


def test_another_thread_may_not_speak_to_the_actors(court: Court) -> None:
    refused: list[Exception] = []

    def speak() -> None:
        try:
            court.host.tell(Ball(left=0))
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=speak)
    thread.start()
    thread.join()
    assert "another thread" in str(refused[0])
