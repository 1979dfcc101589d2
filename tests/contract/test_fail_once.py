"""Fail once, say so, exit: the same on both bases."""

from __future__ import annotations

import time

import pytest

from messages.supervision import ActorFailed, Locate
from tests.contract.conftest import Engine
from tests.contract.toys import Count, Dismiss, Do, Foreman, Hire, Pass, PassAll, WhoAreYou


def hire(engine: Engine, name: str = "w", kind: str = "Worker") -> None:
    engine.host.tell(Hire(name=name, kind=f"tests.contract.toys.{kind}"), "foreman")
    if kind == "Worker":
        engine.wait_for(f"foreman started {name} 1")


def order(engine: Engine, what: str, name: str = "w") -> None:
    engine.host.tell(Pass(name=name, order=Do(what=what)), "foreman")


def test_side_effects_of_a_handler_that_sends_and_then_raises_happen_once(engine: Engine) -> None:
    hire(engine)
    order(engine, "send-then-raise")
    engine.wait_for("foreman started w 2")
    engine.settle()
    assert engine.lines().count("w touched") == 1
    assert engine.lines().count("foreman heard sent at once") == 1


def test_what_a_failing_handler_sent_never_leaves_it(engine: Engine) -> None:
    hire(engine)
    order(engine, "send-then-raise")
    engine.wait_for("foreman started w 2")
    engine.settle()
    assert "foreman heard sent in good faith" not in engine.lines()


def test_the_creator_hears_of_a_failure_once_and_nothing_of_the_exit(engine: Engine) -> None:
    hire(engine)
    order(engine, "send-then-raise")
    engine.wait_for("foreman started w 2")
    engine.settle()
    assert [line for line in engine.lines() if line.startswith("foreman failed")] == [
        "foreman failed w RuntimeError: halfway"
    ]
    assert "foreman exited w" not in engine.lines()


def test_a_failing_actor_releases_what_it_holds_before_anybody_hears_of_it(engine: Engine) -> None:
    hire(engine)
    order(engine, "send-then-raise")
    engine.wait_for("foreman started w 2")
    lines = engine.lines()
    assert lines.count("w on_stop") == 1
    assert lines.index("w on_stop") < lines.index("foreman failed w RuntimeError: halfway")


def test_system_exit_in_a_handler_is_a_failure_like_any_other(engine: Engine) -> None:
    hire(engine)
    order(engine, "leave")
    engine.wait_for("foreman failed w SystemExit: 3")
    engine.wait_for("foreman started w 2")


def test_messages_behind_a_failing_one_have_no_effect(engine: Engine) -> None:
    hire(engine)
    engine.host.tell(PassAll(name="w", orders=tuple(Count(n=n) for n in (1, 2, -1, 3, 4))), "foreman")
    engine.wait_for("foreman started w 2")
    engine.settle()
    assert [line for line in engine.lines() if " count " in line] == ["w count 1", "w count 2", "w count -1"]


def test_an_actor_that_cannot_start_is_tried_three_times_and_then_frozen(engine: Engine) -> None:
    hire(engine, kind="Spitting")
    engine.wait_for("foreman frozen w")
    engine.settle()
    failures = [line for line in engine.lines() if line.startswith("foreman failed")]
    assert failures == ["foreman failed w OSError: cannot open the till"] * 4  # the first, and three restarts
    assert engine.lines()[-1] == "foreman gave up w"


def test_news_of_an_old_incarnation_does_not_touch_the_new_one(engine: Engine) -> None:
    hire(engine)
    order(engine, "leave")
    engine.wait_for("foreman started w 2")
    old = ActorFailed(name="w", incarnation=1, pid=0, error="an old leg speaks", during="Do")
    engine.host.tell(old, "foreman")
    engine.settle()
    assert not any("an old leg speaks" in line for line in engine.lines())
    assert engine.ask(WhoAreYou(child="w"), "foreman").incarnation == 2


def test_a_child_that_was_told_to_stop_is_not_mourned(engine: Engine) -> None:
    hire(engine)
    engine.host.tell(Dismiss(name="w"), "foreman")
    engine.wait_for("foreman stopped w")
    assert not any(line.startswith(("foreman failed", "foreman exited")) for line in engine.lines())
    assert engine.lines().count("w on_stop") == 1


def test_a_child_that_fails_while_it_is_being_dismissed_is_not_rebuilt(engine: Engine) -> None:
    hire(engine)
    engine.host.tell(PassAll(name="w", orders=(Do(what="leave"),), dismiss=True), "foreman")
    engine.wait_for("foreman stopped w")
    engine.settle()
    assert "foreman started w 2" not in engine.lines()
    assert engine.lines().count("w on_stop") == 1


def test_a_message_to_nobody_fails_its_sender_and_not_the_host(engine: Engine) -> None:
    hire(engine)
    order(engine, "tell-nobody")
    engine.wait_for("foreman failed w TypeError: w: Said to None, neither a service nor an address")
    engine.wait_for("foreman started w 2")


def test_one_sender_is_heard_in_the_order_in_which_it_spoke(engine: Engine) -> None:
    hire(engine)
    for n in range(100):
        engine.host.tell(Pass(name="w", order=Count(n=n)), "foreman")
    engine.wait_for("w count 99")
    assert [line for line in engine.lines() if " count " in line] == [f"w count {n}" for n in range(100)]


def test_wakeup_after_is_refused(engine: Engine) -> None:
    hire(engine)
    order(engine, "wake-after")
    engine.wait_for("foreman failed w TypeError: w: wakeupAfter is not to be used; use start_timer(key, seconds)")


def test_a_failed_parent_takes_its_children_along(engine: Engine) -> None:
    hire(engine)
    order(engine, "hire")
    order(engine, "ask-leg")
    engine.until(lambda: any("leg pid" in line for line in engine.lines()), "the leg")  # what has begun has an end
    order(engine, "leave")
    engine.wait_for("w-leg on_stop")
    engine.wait_for("foreman started w 2")


def test_an_unknown_service_is_refused_by_name(engine: Engine) -> None:
    assert engine.ask(Locate(name="nobody")).address is None
    with pytest.raises(LookupError, match="'nobody' has no address"):
        engine.host.tell(Do(what="nothing"), "nobody")


def test_a_failed_child_is_reported_gone_and_rebuilt_quickly(engine: Engine) -> None:
    hire(engine)
    begun = time.monotonic()
    order(engine, "leave")
    engine.wait_for("foreman started w 2")
    assert "foreman exited w" not in engine.lines(), "it was reported, not found missing"
    # Measured: under a millisecond embedded, some ten isolated; a heartbeat's deadline is what it must not wait for.
    assert time.monotonic() - begun < Foreman.heartbeat_deadline_seconds
