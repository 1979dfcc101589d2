"""The risk actor: one answer to each review, from known contracts, known positions and what is in flight."""

from __future__ import annotations

from decimal import Decimal

import pytest

from messages.ledger import (
    BracketsLoaded,
    LoadBrackets,
    LoadPositions,
    PositionsLoaded,
    SignalsLoaded,
    StoredBracket,
)
from messages.market import HaltChanged, MarksChanged
from messages.registry import encode
from messages.risk import (
    InstrumentQualified,
    InstrumentUnknown,
    IntentApproved,
    IntentDenied,
    PositionSeen,
    QualifyInstrument,
    ReleaseClaim,
    ReviewIntent,
    TagPosition,
)
from messages.session import DescribeService, ServiceDescribed, SessionChanged
from tests import builders as b
from tests.actors.stage import Stage, stage

pytestmark = pytest.mark.unit
SELL = {"shape": "single", "side": "SELL", "limit": None}
OTHERS = ("ledger", "broker", "router", "control", "market_data", "position")


@pytest.fixture
def empty(tmp_path):
    """A risk actor whose ledger has not answered yet and whose gateway has not said which account it has."""
    with stage(tmp_path, "risk", "actors.risk.Risk", OTHERS) as made:
        yield made


@pytest.fixture
def desk(empty):
    """A risk actor that knows that there is nothing, and AAPL."""
    loaded(empty)
    empty.say("broker", SessionChanged(state="ready", detail="", account="DU1234567", client_id=1, ts_ns=b.NOW_NS))
    empty.say("broker", InstrumentQualified(contract=b.contract()))
    return empty


def loaded(desk: Stage, positions=(), exec_ids=(), brackets=()) -> None:
    desk.say("ledger", PositionsLoaded(positions=tuple(positions), exec_ids=tuple(exec_ids)))
    desk.say("ledger", SignalsLoaded(signals={}))
    desk.say("ledger", BracketsLoaded(brackets=tuple(brackets), last=True))


def review(desk: Stage, bracket_id: str, intent) -> IntentApproved | IntentDenied:
    ask(desk, bracket_id, intent)
    (answer,) = desk.take("router")
    return answer


def ask(desk: Stage, bracket_id: str, intent) -> None:
    desk.say("router", ReviewIntent(bracket_id=bracket_id, intent=intent, ts_ns=b.NOW_NS))


def test_an_approval_names_contract_and_account(desk):
    assert review(desk, "B1-x", b.intent()) == IntentApproved(
        bracket_id="B1-x", signal_id="sig-1", contract=b.contract(), account="DU1234567")
    assert not desk.heard("broker", QualifyInstrument)


def test_a_denial_is_one_sentence_with_its_code(desk):
    answer = review(desk, "B1-x", b.intent(quantity=200_000))
    assert answer == IntentDenied(
        bracket_id="B1-x", signal_id="sig-1", strategy="Momentum_EQ", instrument="AAPL", code="max_quantity",
        ts_ns=b.NOW_NS, sentence="quantity: 200000 is too large; an order may be for at most 100000 (setting"
        " risk.max_order_quantity)")


def test_an_unknown_contract_is_asked_for_once_whoever_waits_for_it(desk):
    ask(desk, "B1-x", b.intent("one", instrument="SPY"))
    ask(desk, "B2-x", b.intent("two", instrument="SPY"))
    assert desk.take("broker", QualifyInstrument) == [QualifyInstrument(instrument="SPY")]
    assert not desk.heard("router")
    desk.say("broker", InstrumentQualified(contract=b.contract("SPY")))
    assert [answer.bracket_id for answer in desk.take("router", IntentApproved)] == ["B1-x", "B2-x"]


def test_an_instrument_that_the_venue_does_not_know_is_denied_by_name(desk):
    ask(desk, "B1-x", b.intent(instrument="ZZZZ"))
    desk.say("broker", InstrumentUnknown(instrument="ZZZZ", reason="200 no security definition"))
    (answer,) = desk.take("router", IntentDenied)
    assert (answer.code, answer.sentence) == (
        "unknown_instrument", "instrument: 'ZZZZ' is not known (200 no security definition); it must be a ticker that"
        " the venue can resolve")


def test_the_instrument_of_a_rule_must_be_known_too(desk):
    ask(desk, "B1-x", b.intent(when=b.when("ZZZZ")))
    assert desk.heard("broker", QualifyInstrument) == [QualifyInstrument(instrument="ZZZZ")]
    desk.say("broker", InstrumentUnknown(instrument="ZZZZ", reason="no such thing"))
    assert desk.take("router", IntentDenied)[0].sentence.startswith("when.instrument: 'ZZZZ' is not known")


def test_a_venue_that_does_not_answer_ends_in_a_denial_and_is_asked_again_next_time(desk):
    ask(desk, "B1-x", b.intent("one", instrument="SPY"))
    desk.pass_time(11)
    (answer,) = desk.take("router", IntentDenied)
    assert "the venue did not answer in time" in answer.sentence
    desk.take("broker")
    ask(desk, "B2-x", b.intent("two", instrument="SPY"))
    assert len(desk.heard("broker", QualifyInstrument)) == 1


def test_prices_are_compared_with_the_last_marks(desk):
    desk.say("market_data", MarksChanged(marks=(("AAPL", Decimal(10)),), ts_ns=b.NOW_NS))
    assert review(desk, "B1-x", b.intent()).code == "price_deviation"


def test_an_opposite_bracket_waits_until_the_first_one_is_released(desk):
    assert isinstance(review(desk, "B1-x", b.intent("one")), IntentApproved)
    denied = review(desk, "B2-x", b.short_intent("two"))
    assert denied.code == "netting"
    assert "of bracket B1-x in AAPL" in denied.sentence
    desk.say("router", ReleaseClaim(bracket_id="B1-x"))
    assert isinstance(review(desk, "B2-x", b.short_intent("two")), IntentApproved)


def test_what_fills_may_be_closed_but_only_once(desk):
    assert review(desk, "B1-x", b.intent("one", **SELL)).code == "exceeds_position"
    desk.say("broker", b.fill("B0-x.entry", 100))
    assert isinstance(review(desk, "B1-x", b.intent("one", **SELL)), IntentApproved)
    assert review(desk, "B2-x", b.intent("two", **SELL)).code == "exceeds_position"


def test_the_same_review_asked_again_gets_the_same_answer_and_no_second_claim(desk):
    desk.say("broker", b.fill("B0-x.entry", 100))
    first = review(desk, "B1-x", b.intent("one", **SELL))
    assert review(desk, "B1-x", b.intent("one", **SELL)) == first


def test_nothing_is_answered_before_the_ledger_has(empty):
    assert len(empty.heard("ledger", LoadPositions)) == len(empty.heard("ledger", LoadBrackets)) == 1
    empty.pass_time(6)
    assert len(empty.heard("ledger", LoadPositions)) == 2
    empty.say("broker", InstrumentQualified(contract=b.contract()))
    ask(empty, "B1-x", b.intent(account="DU1234567"))
    assert not empty.heard("router")
    loaded(empty)
    assert len(empty.take("router", IntentApproved)) == 1


def test_a_restart_remembers_positions_claims_and_contracts(empty):
    entry, part = b.fill("B0-x.entry", 100), b.fill("B0-x.target.1", 30)
    stored = StoredBracket(
        definition=b.definition("B0-x", b.intent("zero")),
        events=(encode(entry), encode(b.corrected(entry, 90)), encode(b.commission(entry)), encode(part)))
    early = b.fill("B0-x.target.1", 20)
    empty.say("broker", early)          # heard before the ledger answered, and not in it yet
    empty.say("broker", part)           # repeated by the venue
    position = b.position_of(b.fill("B0-x.entry", 60))
    loaded(empty, [position], [entry.exec_id, part.exec_id], [stored])
    assert not empty.heard("broker", QualifyInstrument)
    denied = review(empty, "B1-x", b.intent("one", account="DU1234567", **SELL))
    assert "position 40, of which 40 is claimed by B0-x" in denied.sentence


def test_the_venues_position_is_compared_with_the_ledgers_not_with_nothing(empty):
    fill = b.fill("B0-x.entry", 100)
    empty.say("broker", PositionSeen(account="DU1234567", conid=265598, instrument="AAPL", quantity=Decimal(130),
                                     avg_cost=Decimal(1), ts_ns=b.NOW_NS))
    empty.say("broker", InstrumentQualified(contract=b.contract()))
    loaded(empty, [b.position_of(fill)], [fill.exec_id])
    denied = review(empty, "B1-x", b.intent("one", account="DU1234567", quantity=131, **SELL))
    assert "position 130; a SELL closes at most 130 here" in denied.sentence


def session(state: str) -> SessionChanged:
    return SessionChanged(state=state, detail="", account="DU1234567", client_id=1, ts_ns=b.NOW_NS)


def test_what_the_venue_does_not_list_while_it_reconciles_is_not_there(empty):
    empty.say("broker", InstrumentQualified(contract=b.contract()))
    for state in ("connecting", "reconciling", "ready"):
        empty.say("broker", session(state))
    sold = b.fill("B0-x.stop.1", 100)
    loaded(empty, [b.position_of(sold)], [sold.exec_id])
    assert isinstance(review(empty, "B1-x", b.intent("one")), IntentApproved)


def test_what_is_halted_is_not_entered(desk):
    desk.say("broker", HaltChanged(instrument="AAPL", halted=True, ts_ns=b.NOW_NS))
    assert review(desk, "B1-x", b.intent()).sentence == (
        "instrument: 'AAPL' is halted; send it again when trading resumes")
    desk.say("broker", HaltChanged(instrument="AAPL", halted=False, ts_ns=b.NOW_NS))
    assert isinstance(review(desk, "B1-x", b.intent()), IntentApproved)


def test_the_tags_of_an_approved_intent_reach_the_position(desk):
    review(desk, "B1-x", b.intent(risk_tags=("earnings",)))
    assert desk.heard("position") == [TagPosition(
        account="DU1234567", conid=265598, strategy="Momentum_EQ", risk_tags=("earnings",))]


def test_without_an_account_anywhere_it_says_where_to_name_one(empty):
    loaded(empty)
    empty.say("broker", InstrumentQualified(contract=b.contract()))
    assert review(empty, "B1-x", b.intent()).sentence == (
        "account: nothing is given; name it in the intent or in the setting venue.account until the gateway has said"
        " which account it has")


def test_it_describes_itself(desk):
    review(desk, "B1-x", b.intent("one"))
    review(desk, "B2-x", b.intent("two", quantity=200_000))
    desk.say("control", DescribeService(correlation="c"))
    (answer,) = desk.take("control", ServiceDescribed)
    assert answer.facts["denied"] == {"max_quantity": 1}
    assert [claim["bracket_id"] for claim in answer.facts["claims"]] == ["B1-x"]
    assert answer.facts["ready"] is True
