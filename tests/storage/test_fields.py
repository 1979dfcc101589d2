"""Numbers are kept as one canonical text, exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.registry import content_digest
from storage.fields import DecimalText, canonical, optional, readable
from tests import builders as b

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("100", "100"), ("100.00", "100"), ("1E+2", "100"), ("-0", "0"), ("-0.00", "0"), ("0E-5", "0"),
        ("0.10", "0.1"), ("-1.50", "-1.5"), ("1E-8", "0.00000001"), ("10", "10"),
        ("123456789.123456789", "123456789.123456789"),
    ],
)
def test_each_number_has_one_text(number: str, text: str) -> None:
    assert canonical(Decimal(number)) == text


@given(st.decimals(min_value=Decimal("-1e20"), max_value=Decimal("1e20"), allow_nan=False))
def test_the_text_is_the_number(number: Decimal) -> None:
    if abs(number.adjusted()) <= 40:
        text = canonical(number)
        assert Decimal(text) == number
        assert canonical(Decimal(text)) == text
        assert DecimalText().python_value(DecimalText().db_value(number)) == number


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+41", "1e999999", "1E-41"])
def test_what_is_no_price_of_this_world_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="number"):
        canonical(Decimal(number))


def test_nothing_stays_nothing() -> None:
    assert optional(None) is None
    assert DecimalText().db_value(None) is None
    assert DecimalText().python_value(None) is None


def test_text_that_no_database_takes_is_made_readable() -> None:
    assert readable("a\x00b\ud800c é 漢") == "a\ufffdb?c é 漢"


def test_the_same_content_has_the_same_digest_however_it_was_written() -> None:
    one = content_digest(b.intent(quantity="100", limit="100"))
    assert one == content_digest(b.intent(quantity="100.0", limit="1E+2"))
    assert one == content_digest(b.intent(quantity=100, limit=100, valid_for=None))
    different = [
        b.intent(quantity=101), b.intent(quantity=1000), b.intent(limit="100.01"), b.intent(side="SELL_SHORT"),
        b.intent("sig-2"), b.intent(risk_tags=("x",)), b.intent(exits=()), b.intent(quantity="1e99"),
        b.intent(quantity="-1e99"), b.intent(quantity="1e-99"),
    ]
    digests = {one, *(content_digest(intent) for intent in different)}
    assert len(digests) == 1 + len(different)
