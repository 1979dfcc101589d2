"""What options and futures of a chain are worth: a plain model on the underlying's price.

Law: pure functions of price and time.

Options: Black-Scholes with one volatility for every strike and expiry, no interest and no dividends. Without those an
American option is never worth exercising early, so the European formula is exact for it. An option expires at 16:00
New York; a year has 365 days. Bid and ask stand 1 % of the value, but at least half an increment, around it and are
rounded outwards to the increment; a bid below one increment does not exist. Vega is for one point (1 %) of volatility,
theta for one day, as IB shows them. A future is worth its index, rounded to its increment, one increment wide.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from actors.venue.simulator.contracts import Contract
from actors.venue.simulator.orders import Quote
from actors.venue.simulator.validation import expires_s

NS = 1_000_000_000
VOLATILITY = 0.25
YEAR_S = 365 * 86_400
WIDTH = Decimal("0.01")
DISPLAYED = Decimal(50)
_ROOT_TWO, _ROOT_TWO_PI = math.sqrt(2), math.sqrt(2 * math.pi)


class Greeks(msgspec.Struct, frozen=True):
    """What the model says of one option: the fields of tickOptionComputation (21)."""

    value: float
    delta: float
    gamma: float
    vega: float
    theta: float
    volatility: float
    under: float


class Derived(msgspec.Struct, frozen=True):
    """Bid, ask and value of an option or future, from its underlying's price."""

    bid: Decimal | None
    ask: Decimal
    value: Decimal




def greeks(contract: Contract, under: float, at_s: float, volatility: float = VOLATILITY) -> Greeks:
    """Return the Black-Scholes value and sensitivities; after the expiry, what exercise is worth."""
    strike, sign = float(contract.strike), 1.0 if contract.right == "C" else -1.0
    years = (expires_s(contract) - at_s) / YEAR_S
    if years <= 0 or under <= 0:
        worth = max(0.0, sign * (under - strike))
        return Greeks(worth, sign if worth else 0.0, 0.0, 0.0, 0.0, volatility, under)
    spread = volatility * math.sqrt(years)
    d1 = math.log(under / strike) / spread + spread / 2
    density = math.exp(-d1 * d1 / 2) / _ROOT_TWO_PI
    below1, below2 = _below(sign * d1), _below(sign * (d1 - spread))
    return Greeks(
        value=sign * (under * below1 - strike * below2), delta=sign * below1, gamma=density / (under * spread),
        vega=under * density * math.sqrt(years) / 100, theta=-under * density * volatility / math.sqrt(years) / 730,
        volatility=volatility, under=under)


def _below(x: float) -> float:
    """Return the chance that a normal variable is below x."""
    return (1 + math.erf(x / _ROOT_TWO)) / 2


def spot(quote: Quote) -> Decimal | None:
    """Return the price that derivatives follow: the midpoint where both sides are there, else the last."""
    if quote.bid is not None and quote.ask is not None:
        return (quote.bid + quote.ask) / 2
    return quote.last


def derived(contract: Contract, under: Decimal, at_s: float, step: Decimal = Decimal("0.01")) -> Derived:
    """Return bid and ask of an option or future at this price of its underlying; `step` is its increment above 3."""
    if contract.sec_type == "FUT":
        value = _grid(under, contract.min_tick, ROUND_FLOOR)
        return Derived(value, value + contract.min_tick, value)
    value = Decimal(f"{max(0.0, greeks(contract, float(under), at_s).value):.6f}")
    grid = step if value >= 3 else contract.min_tick
    away = max(value * WIDTH, grid / 2)
    bid, ask = _grid(value - away, grid, ROUND_FLOOR), _grid(value + away, grid, ROUND_CEILING)
    if ask >= 3:        # though the value is below
        ask = _grid(ask, step, ROUND_CEILING)
    return Derived(bid if bid >= grid else None, ask, value)


def _grid(price: Decimal, step: Decimal, rounding: str) -> Decimal:
    return (price / step).to_integral_value(rounding) * step


def option_quote(contract: Contract, under: Quote, at_ns: int) -> tuple[Derived, Greeks] | None:
    """Return an option's quote and greeks from its underlying's quote; None while that has no price."""
    price = spot(under)
    if price is None:
        return None
    return derived(contract, price, at_ns / NS, Decimal("0.05")), greeks(contract, float(price), at_ns / NS)
