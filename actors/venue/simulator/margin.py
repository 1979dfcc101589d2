"""What positions tie up: initial and maintenance margin and equity with loan, by a simple Reg-T like model.

Law: pure arithmetic on what it is given. Each holding stands alone: no relief for spreads, covered calls or hedges, so
the numbers are never below what IB would ask for the same positions.

| holding | initial | maintenance |
|---|---|---|
| stock, long | 50 % of its value | 25 % |
| stock, short | 50 % | 30 % |
| option, long | paid in full: nothing further | nothing |
| option, short | its value + the larger of 20 % of the underlying less what it is out of the money, and 10 % of the \
underlying (call) or of the strike (put) | the same |
| anything else | 10 % | 8 % |

Sources: Regulation T and FINRA rule 4210 for stocks, the CBOE margin manual's formula for uncovered equity options. In
equity with loan value long options do not count and short ones do not either, as their value is in the requirement.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from actors.venue.simulator.contracts import Contract

ZERO = Decimal(0)
STOCK_INITIAL = Decimal("0.50")
STOCK_LONG_MAINTENANCE = Decimal("0.25")
STOCK_SHORT_MAINTENANCE = Decimal("0.30")
OPTION_SHARE = Decimal("0.20")
OPTION_FLOOR = Decimal("0.10")
OTHER_INITIAL = Decimal("0.10")
OTHER_MAINTENANCE = Decimal("0.08")
OPTIONS = frozenset({"OPT", "FOP"})


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A signed quantity of one contract at its market price; `underlying` is the price of an option's underlying."""

    contract: Contract
    quantity: Decimal
    price: Decimal
    underlying: Decimal = ZERO

    @property
    def value(self) -> Decimal:
        """What it is worth in USD."""
        return self.contract.usd(self.quantity * self.price * self.contract.unit, self.price)


class Requirement(msgspec.Struct, frozen=True):
    """Margin in the account's currency."""

    initial: Decimal
    maintenance: Decimal


def requirement(holdings: Iterable[Holding]) -> Requirement:
    """Return what these holdings require together."""
    initial = maintenance = ZERO
    for h in holdings:
        one = _one(h)
        initial += one.initial
        maintenance += one.maintenance
    return Requirement(initial, maintenance)


def equity_with_loan(cash: Decimal, holdings: Iterable[Holding]) -> Decimal:
    """Return cash plus the value of everything but options."""
    return cash + sum((h.value for h in holdings if h.contract.sec_type not in OPTIONS), ZERO)


def net_liquidation(cash: Decimal, holdings: Iterable[Holding]) -> Decimal:
    return cash + sum((h.value for h in holdings), ZERO)


def cushion_percent(cash: Decimal, holdings: Iterable[Holding]) -> Decimal:
    """Return IB's cushion in percent: excess liquidity over net liquidation value; 0 where nothing is left."""
    held = list(holdings)
    net = net_liquidation(cash, held)
    if net <= 0:
        return ZERO
    return (equity_with_loan(cash, held) - requirement(held).maintenance) * 100 / net


def _one(h: Holding) -> Requirement:
    value = abs(h.value)
    if h.contract.sec_type == "STK":
        share = STOCK_LONG_MAINTENANCE if h.quantity > 0 else STOCK_SHORT_MAINTENANCE
        return Requirement(value * STOCK_INITIAL, value * share)
    if h.contract.sec_type in OPTIONS:
        needed = ZERO if h.quantity >= 0 else _short_option(h)
        return Requirement(needed, needed)
    return Requirement(value * OTHER_INITIAL, value * OTHER_MAINTENANCE)


def _short_option(h: Holding) -> Decimal:
    call, strike = h.contract.right.startswith("C"), h.contract.strike
    out_of_the_money = max(ZERO, strike - h.underlying if call else h.underlying - strike)
    floor = OPTION_FLOOR * (h.underlying if call else strike)
    return abs(h.quantity) * h.contract.unit * (h.price + max(OPTION_SHARE * h.underlying - out_of_the_money, floor))
