"""Timers with generations, and watches that stay: the same on both bases."""

from __future__ import annotations

import ast
from pathlib import Path

from actors.host import EMBEDDED
from messages.supervision import TimerDue
from tests.contract.conftest import Engine
from tests.contract.test_fail_once import hire, order
from tests.contract.toys import Pass

ROOT = Path(__file__).resolve().parents[2]


def test_a_watch_survives_handlers_that_return_nothing(engine: Engine) -> None:
    hire(engine)
    order(engine, "nothing")
    order(engine, "nothing")
    engine.wait_for("w did nothing", times=2)
    order(engine, "write")
    engine.wait_for("w read words")
    order(engine, "nothing")
    order(engine, "write")
    engine.wait_for("w read words", times=2)


def test_a_replaced_timer_rings_once_and_at_its_later_time(engine: Engine) -> None:
    hire(engine)
    order(engine, "replace-timer")
    engine.wait_for("w timer end of replacing")
    assert [line for line in engine.lines() if " timer " in line] == ["w timer bell", "w timer end of replacing"]


def test_a_cancelled_timer_never_rings(engine: Engine) -> None:
    hire(engine)
    order(engine, "cancel-timer")
    engine.wait_for("w timer end of cancelling")
    assert "w timer bell" not in engine.lines()


def test_a_stale_generation_is_ignored_and_the_current_one_is_not(engine: Engine) -> None:
    hire(engine)
    order(engine, "set-long-timer")
    engine.wait_for("w set")
    engine.host.tell(Pass(name="w", order=TimerDue(key="bell", generation=99)), "foreman")
    order(engine, "nothing")
    engine.wait_for("w did nothing")
    assert "w timer bell" not in engine.lines()
    for generation in range(1, 4):  # one of these is the one that is awaited
        engine.host.tell(Pass(name="w", order=TimerDue(key="bell", generation=generation)), "foreman")
    engine.wait_for("w timer bell")
    engine.settle()
    assert engine.lines().count("w timer bell") == 1


def test_timers_ring_in_the_order_in_which_they_are_due(engine: Engine) -> None:
    hire(engine)
    order(engine, "set several timers")
    engine.wait_for("w timer end of several")
    assert [line[-1] for line in engine.lines() if " timer " in line] == ["a", "b", "c", "l"]


def test_timers_of_a_failed_actor_do_not_ring(engine: Engine) -> None:
    hire(engine)
    order(engine, "set-long-timer")
    order(engine, "leave")
    engine.wait_for("foreman started w 2")
    order(engine, "replace-timer")
    engine.wait_for("w timer end of replacing")
    assert engine.lines().count("w timer bell") == 1


def test_the_embedded_host_forgets_timers_that_were_replaced(make_engine) -> None:
    engine = make_engine(EMBEDDED)
    hire(engine)
    worker = engine.host.instance(engine.host.instance("foreman").child("w"))
    for _ in range(10_000):
        worker.start_timer("bell", 60)
    assert len(engine.host._engine._timers) < 300


def test_the_simple_base_never_sees_a_wakeup(make_engine) -> None:
    engine = make_engine(EMBEDDED)
    hire(engine)
    order(engine, "replace-timer")
    engine.wait_for("w timer end of replacing")
    assert engine.host._engine.base._wakeUps == []


def test_no_actor_uses_what_thespian_cannot_do_safely() -> None:
    forbidden = {"initializing_messages", "troupe", "Troupe", "updateCapability", "wakeupAfter"}
    allowed = {"ground.py": {"wakeupAfter"}, "guard.py": {"wakeupAfter"}}
    for path in sorted((ROOT / "actors").rglob("*.py")):
        tree = ast.parse(path.read_text())
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        found = used & forbidden - allowed.get(path.name, set())
        assert not found, f"{path.relative_to(ROOT)} uses {sorted(found)}; thespian.md says why not"
