"""A gateway that starts with positions, for whoever sends exits only."""

from __future__ import annotations

from decimal import Decimal

import pytest

from actors.venue.simulator.journal import positions
from tests.venue.gateway_fixture import memory_gateway

pytestmark = pytest.mark.unit


def test_what_is_held_at_the_start_is_in_account_and_journal():
    gateway = memory_gateway(positions=("SPY=100@168", "AAPL=-50@99.5"))
    held = {symbol: quantity for (_, symbol), quantity in positions(gateway.journal.lines).items()}
    assert held == {"SPY": Decimal(100), "AAPL": Decimal(-50)}
    costs = {position.contract.symbol: position.avg_cost for position in gateway.exchange.accounts.positions.values()}
    assert costs == {"SPY": Decimal(168), "AAPL": Decimal("99.5")}


@pytest.mark.parametrize("text", ["", "SPY", "SPY=0@168", "SPY=100@0", "SPY=1.5@168", "NONE=1@1", "SPY=100@168 "])
def test_a_position_that_cannot_be_is_refused_by_name(text):
    with pytest.raises(ValueError, match="expected SYMBOL=QUANTITY@COST"):
        memory_gateway(positions=(text,))
