"""Ten thousand hostile messages at the router: each is answered in one sentence, none crashes it, none leaves a row."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages.ledger import BracketsLoaded, IdsReserved, OpenBracket, SignalsLoaded
from messages.orders import CommandAnswered
from messages.risk import ReviewIntent, SubmitIntent
from tests import builders as b
from tests import hostile
from tests.actors.stage import stage

pytestmark = pytest.mark.unit
OTHERS = ("ledger", "risk", "broker", "control", "market_data")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("router"), "router", "actors.router.Router", OTHERS) as made:
        made.say("ledger", SignalsLoaded(signals={}))
        made.say("ledger", BracketsLoaded(brackets=(), last=True))
        made.say("ledger", IdsReserved(name="bracket", first=1, last=100_000))
        made.take("ledger")
        yield made


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(hostile.messages(), hostile.messages(), hostile.messages(), hostile.anything()),
                min_size=100, max_size=100))
def test_ten_thousand_hostile_messages_are_answered_and_leave_nothing(desk, intents):
    router = desk.actor
    for number, intent in enumerate(intents):
        desk.post("control", SubmitIntent(intent=intent, correlation=str(number)))
    desk.post("control", SubmitIntent(intent=b.intent(quantity=0), correlation="after"))
    desk.settle()
    answers = {answer.correlation: answer for answer in desk.take("control", CommandAnswered)}
    reviewed = {review.intent.signal_id for review in desk.take("risk", ReviewIntent)} | set(router.by_signal)
    for number, intent in enumerate(intents):
        answer = answers.pop(str(number), None)
        if answer is None:      # by chance it was good: it is under review
            assert intent.signal_id in reviewed
        else:
            assert not answer.accepted
            assert answer.bracket_id is None
            assert answer.sentence.isprintable()
    assert list(answers) == ["after"]
    assert not desk.heard("ledger", OpenBracket)
    assert desk.actor is router, "the router was never rebuilt"
