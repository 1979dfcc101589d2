"""The client for strategies: what was refused raises with the engine's own sentence."""

import ast

import pytest

from actors.rules.intake import check_intent, parse_intent
from actors.web.client import Bracketeer, EngineGone, Refused, UnknownBracket
from messages.settings import Settings
from tests.web.fakes import TOKEN, intent

pytestmark = pytest.mark.integration


def test_an_intent_may_be_a_dict_a_record_or_json(running):
    as_dict = running.client.submit(intent(signal_id="forms"))
    import json

    as_text = running.client.submit(json.dumps(intent(signal_id="forms")))
    as_record = running.client.submit(parse_intent(intent(signal_id="forms")))
    assert not as_dict.repeated
    assert as_text.repeated
    assert as_record.repeated
    assert as_dict.bracket_id == as_text.bracket_id == as_record.bracket_id


def test_a_refusal_raises_with_code_field_and_sentence(running):
    with pytest.raises(Refused) as refused:
        running.client.submit(intent(quantity="-1"))
    assert refused.value.field == "quantity"
    assert str(refused.value).startswith("quantity: -1")


def test_verbs_are_accepted_or_raise(running):
    client = running.client
    assert client.flatten("B1").sentence == "FlattenBracket"
    assert client.cancel("B1").sentence == "CancelBracket"
    assert client.cancel_entry("B1").sentence == "CancelEntry"
    assert client.detach("B1").sentence == "DetachBracket"
    assert client.modify("B1", stop="96").sentence == "ModifyBracket"
    with pytest.raises(UnknownBracket):
        client.flatten("B404")
    with pytest.raises(Refused):
        client.modify("B1", quantity=3)
    with pytest.raises(UnknownBracket):
        client.bracket("B999")


def test_a_wrong_token_is_refused_and_never_shown(running):
    with pytest.raises(Refused) as refused, Bracketeer(running.web.url, "wrong") as client:
        client.flatten("B1")
    assert refused.value.code == "token"
    assert TOKEN not in str(refused.value)


def test_no_engine_is_told_with_what_to_do(tmp_path):
    with pytest.raises(EngineGone, match=r"run\.py start"):
        Bracketeer.of_state(tmp_path)
    with pytest.raises(EngineGone, match="no engine answers"):
        Bracketeer("http://127.0.0.1:1").orders()


def test_the_example_in_the_docstring_is_a_good_intent():
    example = Bracketeer.__doc__.split("::", 1)[1].split("Events are dicts")[0]
    from textwrap import dedent

    tree = ast.parse(dedent(example))
    given = next(ast.literal_eval(node) for node in ast.walk(tree) if isinstance(node, ast.Dict))
    check_intent(parse_intent(given), Settings(), 0)
