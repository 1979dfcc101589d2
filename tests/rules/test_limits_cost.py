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
    fresh = b.intent("another")

    def cost(claims: int) -> float:
        """Return the CPU seconds of this thread for 500 checks, the best of three."""
        book = Exposure()
        for number in range(claims):
            book.claim(f"B{number}-x", b.intent(f"s{number}"), PLACE)
        took = []
        for _ in range(3):
            began = time.thread_time()
            for _ in range(500):
                book.check(fresh, PLACE)
            took.append(time.thread_time() - began)
        return min(took)

    assert cost(10_000) < 20 * cost(10), "a search costs a thousand times as much"


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
