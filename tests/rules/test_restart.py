"""The restart budget: three in sixty seconds, then frozen until an operator says otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.rules.restart import RESTARTS_ALLOWED, UNSPENT, WINDOW_NS, RestartBudget, spend, thaw

SECOND = 1_000_000_000


def spent_at(*seconds: float) -> RestartBudget:
    budget = UNSPENT
    for second in seconds:
        budget = spend(budget, int(second * SECOND))
    return budget


@pytest.mark.parametrize(
    ("failures", "frozen"),
    [
        pytest.param((0,), False, id="the first failure"),
        pytest.param((0, 1, 2), False, id="three restarts"),
        pytest.param((0, 1, 2, 3), True, id="a fourth failure within the window"),
        pytest.param((0, 1, 2, 59.999), True, id="a fourth failure just inside the window"),
        pytest.param((0, 1, 2, 60), False, id="a fourth failure when the first is exactly sixty seconds old"),
        pytest.param((0, 30, 60, 90, 120, 150), False, id="a slow crash every thirty seconds is restarted for ever"),
        pytest.param((0, 1, 2, 3, 1000), True, id="frozen stays frozen, however long it lasts"),
        pytest.param((100, 101, 102, 40), True, id="a clock that stepped back hides no restart"),
    ],
)
def test_budget(failures: tuple[float, ...], frozen: bool) -> None:
    assert spent_at(*failures).frozen is frozen


def test_an_operator_gives_a_whole_new_budget() -> None:
    frozen = spent_at(0, 1, 2, 3)
    assert thaw(frozen) == UNSPENT
    assert not spend(thaw(frozen), 4 * SECOND).frozen


def test_no_restart_is_allowed_by_an_allowance_of_zero() -> None:
    assert spend(UNSPENT, 0, allowed=0).frozen


def test_a_negative_allowance_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed is -1"):
        spend(UNSPENT, 0, allowed=-1)


@given(st.lists(st.integers(min_value=0, max_value=5 * WINDOW_NS), min_size=1, max_size=40).map(sorted))
def test_no_window_ever_holds_more_restarts_than_allowed(failures: list[int]) -> None:
    budget, restarts = UNSPENT, []
    for now in failures:
        budget = spend(budget, now)
        if budget.frozen:
            recent = [at for at in restarts if now - at < WINDOW_NS]
            assert len(recent) == RESTARTS_ALLOWED
            break
        restarts.append(now)
        assert len([at for at in restarts if now - at < WINDOW_NS]) <= RESTARTS_ALLOWED
    assert len(budget.restarts) <= RESTARTS_ALLOWED
