"""What a check costs does not depend on how much is in flight."""

from __future__ import annotations

import time

import pytest

from actors.rules.limits import Exposure
from actors.rules.refusal import Refused
from tests import builders as b

PLACE = ("DU1234567", 265598)


@pytest.mark.performance
def test_a_check_among_ten_thousand_claims_is_no_search():
    book = Exposure()
    for number in range(10_000):
        book.claim(f"B{number}-x", b.intent(f"s{number}"), PLACE)
    fresh = b.intent("another")
    began = time.process_time()
    for _ in range(1_000):
        book.check(fresh, PLACE)
    assert time.process_time() - began < 0.5  # a search takes seconds


@pytest.mark.unit
def test_what_is_looked_up_follows_claim_and_release():
    book = Exposure()
    book.claim("B1-x", b.intent("s1"), PLACE)
    book.claim("B1-x", b.intent("s2"), PLACE)  # the newest word about a bracket counts
    book.check(b.intent("s1"), PLACE)
    with pytest.raises(Refused, match="B1-x"):
        book.check(b.intent("s2"), PLACE)
    with pytest.raises(Refused, match="opposite"):
        book.check(b.intent("s3", side="SELL_SHORT"), PLACE)
    assert book.release("B1-x")
    assert not book.release("B1-x")
    book.check(b.intent("s2", side="SELL_SHORT"), PLACE)
