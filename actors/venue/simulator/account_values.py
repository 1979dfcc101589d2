"""What an account is worth: IB's account tags, ledgers and P&L, from positions, cash and the present prices.

Law: pure reading; everything is in USD, but the P&L of one contract, which is in the contract's currency. A contract
priced in another currency counts at its own pair's rate (`Contract.usd`). Margins are those of margin.py, as what-if
answers have them. Where IB has tags for what is not simulated (SMA, day trades, look-ahead margins) the value is the
plain one: unlimited day trades, and look-ahead equal to now.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from actors.venue.simulator import previews
from actors.venue.simulator.margin import equity_with_loan, requirement
from actors.venue.simulator.orders import ZERO, Position

if TYPE_CHECKING:
    from actors.venue.simulator.gateway import Gateway

CENT = Decimal("0.01")
DAY_TRADES = ("DayTradesRemaining", *(f"DayTradesRemainingT+{n}" for n in range(1, 5)))
LEDGER_ZEROS = ("AccruedCash", "FutureOptionValue", "FundValue", "NetDividend", "MutualFundValue",
                "MoneyMarketFundValue", "CorporateBondValue", "TBondValue", "TBillValue", "WarrantValue",
                "IssuerOptionValue", "Cryptocurrency")


class Value(msgspec.Struct, frozen=True):
    """One account value; `ledger` ones are those that `$LEDGER` asks for."""

    tag: str
    text: str
    currency: str = ""
    ledger: bool = False

    @property
    def key(self) -> tuple[str, str, bool]:
        """What a later value replaces; AccruedCash is both in the summary and in the ledger."""
        return self.tag, self.currency, self.ledger


class Worth(msgspec.Struct, frozen=True):
    """The sums behind the tags."""

    cash: Decimal
    stocks: Decimal
    options: Decimal
    futures: Decimal
    currencies: Decimal
    gross: Decimal
    unrealized: Decimal
    realized: Decimal
    daily: Decimal
    initial: Decimal
    maintenance: Decimal
    equity: Decimal
    """Equity with loan value (margin.py): options do not count."""

    @property
    def net(self) -> Decimal:
        return self.cash + self.stocks + self.options + self.futures + self.currencies


class Pnl(msgspec.Struct, frozen=True):
    """P&L of the exchange's day; commissions are in all three."""

    daily: Decimal
    unrealized: Decimal
    realized: Decimal


def held(gateway: Gateway, account: str = "") -> list[Position]:
    """Return the positions of one account or of all, those that were closed too."""
    return [p for p in gateway.exchange.accounts.positions.values() if account in ("", p.account)]


def market_price(gateway: Gateway, p: Position) -> Decimal:
    return previews.position_price(gateway.exchange, p)


def worth(gateway: Gateway, account: str) -> Worth:
    sums = {"STK": ZERO, "OPT": ZERO, "FUT": ZERO, "CASH": ZERO}
    gross = unrealized = realized = daily = ZERO
    for p in held(gateway, account):
        price = market_price(gateway, p)
        gain = p.contract.usd(p.unrealized(price), price)
        # A future is not paid for, so only its gain is worth anything (accounts.py).
        value = gain if p.contract.sec_type == "FUT" else p.contract.usd(p.value(price), price)
        kind = p.contract.sec_type if p.contract.sec_type in sums else "STK"
        sums[kind] += value
        gross += abs(p.contract.usd(p.value(price), price))
        unrealized += gain
        realized += p.contract.usd(p.realized_today, price)
        daily += p.contract.usd(p.daily(price), price)
    cash = gateway.exchange.accounts.cash_of(account, lambda p: market_price(gateway, p))
    holdings = previews.holdings(gateway.exchange, account).values()
    needed = requirement(holdings)
    return Worth(cash, sums["STK"], sums["OPT"], sums["FUT"], sums["CASH"], gross, unrealized, realized, daily,
                 needed.initial, needed.maintenance,
                 equity_with_loan(previews.cash(gateway.exchange, account), holdings))


def pnl(gateway: Gateway, account: str) -> Pnl:
    w = worth(gateway, account)
    return Pnl(w.daily, w.unrealized, w.realized)


def account_values(gateway: Gateway, account: str) -> list[Value]:
    """Return IB's tags of one account in IB's order: the summary's, then the ledgers of BASE and USD."""
    w = worth(gateway, account)
    net, free, excess = w.net, w.equity - w.initial, w.equity - w.maintenance
    amounts = {
        "NetLiquidation": net, "TotalCashValue": w.cash, "SettledCash": w.cash, "AccruedCash": ZERO,
        "BuyingPower": free * 4, "EquityWithLoanValue": w.equity, "PreviousDayEquityWithLoanValue": w.equity - w.daily,
        "GrossPositionValue": w.gross, "RegTEquity": w.equity, "RegTMargin": w.initial, "SMA": w.equity - w.initial,
        "InitMarginReq": w.initial, "MaintMarginReq": w.maintenance, "AvailableFunds": free, "ExcessLiquidity": excess,
        "FullInitMarginReq": w.initial, "FullMaintMarginReq": w.maintenance, "FullAvailableFunds": free,
        "FullExcessLiquidity": excess, "LookAheadNextChange": ZERO, "LookAheadInitMarginReq": w.initial,
        "LookAheadMaintMarginReq": w.maintenance, "LookAheadAvailableFunds": free, "LookAheadExcessLiquidity": excess}
    plain = {"AccountType": "INDIVIDUAL", "AccountCode": account, "AccountReady": "true", "HighestSeverity": "0",
             **dict.fromkeys(DAY_TRADES, "-1"), "Cushion": _ratio(excess, net), "Leverage": _ratio(w.gross, net)}
    found = [Value(tag, text) for tag, text in plain.items()]
    found += [Value(tag, cents(amount), "USD") for tag, amount in amounts.items()]
    for currency in ("BASE", "USD"):
        found += _ledger(w, account, currency)
    return found


def _ledger(w: Worth, account: str, currency: str) -> list[Value]:
    """Return one currency's ledger; everything is in USD, so BASE and USD agree."""
    amounts = {
        "CashBalance": w.cash, "TotalCashBalance": w.cash, "StockMarketValue": w.stocks,
        "OptionMarketValue": w.options, "FuturesPNL": w.futures, "FxCashBalance": w.currencies,
        "NetLiquidationByCurrency": w.net, "UnrealizedPnL": w.unrealized, "RealizedPnL": w.realized,
        **dict.fromkeys(LEDGER_ZEROS, ZERO)}
    texts = {"AccountOrGroup": account, "Currency": currency, "RealCurrency": currency, "ExchangeRate": "1.00",
             **{tag: cents(amount) for tag, amount in amounts.items()}}
    return [Value(tag, text, currency, ledger=True) for tag, text in texts.items()]


def summary(gateway: Gateway, account: str, tags: list[str]) -> list[Value]:
    """Return the values of reqAccountSummary's tags; `$LEDGER`, `$LEDGER:USD` and `$LEDGER:ALL` name ledgers."""
    values = account_values(gateway, account)
    ledgers = {tag.partition(":")[2] or "BASE" for tag in tags if tag.startswith("$LEDGER")}
    return [v for v in values if (v.currency in ledgers or "ALL" in ledgers if v.ledger else v.tag in tags)]


def cents(value: Decimal) -> str:
    return str(value.quantize(CENT))


def _ratio(part: Decimal, whole: Decimal) -> str:
    return "0" if whole <= 0 else f"{part / whole:.4f}"
