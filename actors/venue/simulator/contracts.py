"""What can be traded at the simulated gateway: contracts, their details and their price increments.

Law: a contract is known by its conId; every lookup ends here, so a scenario file that adds one changes nothing else.

Options and futures are listed by rule (chains.py) and come into being when somebody asks for them. Their prices follow
the underlying; only what `movers` returns has a price of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal

import msgspec

from actors.venue.simulator import chains

PENNY = Decimal("0.01")
ONE = Decimal(1)
ORDER_TYPES = "ACTIVETIM,DAY,FOK,GTC,GTD,IOC,LMT,MKT,OCA,STP,STPLMT,TRAIL,TRAILLMT,WHATIF"
STOCK_EXCHANGES = "SMART,NASDAQ,NYSE,ARCA,BATS,IEX,ISLAND"


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument as the gateway knows it (ib-wire.md 5.2). `min_tick` is in units of the currency."""

    con_id: int
    symbol: str
    sec_type: str = "STK"
    expiry: str = ""
    strike: Decimal = Decimal(0)
    right: str = ""
    multiplier: str = ""
    exchange: str = "SMART"
    primary_exchange: str = "NASDAQ"
    currency: str = "USD"
    local_symbol: str = ""
    trading_class: str = ""
    long_name: str = ""
    min_tick: Decimal = PENNY
    market_rule_id: int = 26
    valid_exchanges: str = STOCK_EXCHANGES
    stock_type: str = "COMMON"
    reference_price: Decimal = Decimal(100)
    isin: str = ""
    optionable: bool = False
    under_con_id: int = 0
    under_sec_type: str = ""
    last_trade_time: str = ""
    daily_volume: int = 5_000_000
    """Shares or contracts of an ordinary day, for the generated past; 0: it has quotes or values, but no trades."""

    @property
    def unit(self) -> Decimal:
        """How much one contract is of what its price is quoted for: the multiplier, 1 for stocks."""
        return Decimal(self.multiplier) if self.multiplier else ONE

    def usd(self, amount: Decimal, price: Decimal) -> Decimal:
        """Return an amount of this contract's currency in USD: USD.JPY at its own price, anything else one to one."""
        return amount / price if self.foreign and price else amount

    @property
    def foreign(self) -> bool:
        """Whether what it costs is not paid in USD, the currency of every account."""
        return self.symbol == "USD" and self.currency != "USD"

    @property
    def half_spread(self) -> Decimal:
        """Return how far bid and ask stand from a last price that comes without them."""
        return PENNY if self.sec_type == "STK" else self.min_tick

    @property
    def local(self) -> str:
        return self.local_symbol or self.symbol

    @property
    def klass(self) -> str:
        return self.trading_class or self.symbol


class ContractQuery(msgspec.Struct, frozen=True):
    """The identity block C12 that a client sends (ib-wire.md 3). Empty fields match everything."""

    con_id: int = 0
    symbol: str = ""
    sec_type: str = ""
    expiry: str = ""
    strike: Decimal = Decimal(0)
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""


def _stock(con_id: int, symbol: str, name: str, primary: str, price: int, isin: str, kind: str = "COMMON") -> Contract:
    return Contract(con_id=con_id, symbol=symbol, long_name=name, primary_exchange=primary, stock_type=kind, isin=isin,
                    reference_price=Decimal(price), trading_class="NMS" if primary == "NASDAQ" else symbol,
                    optionable=True)


def _index(con_id: int, symbol: str, name: str, exchange: str, price: int) -> Contract:
    return Contract(con_id=con_id, symbol=symbol, sec_type="IND", long_name=name, exchange=exchange,
                    primary_exchange=exchange, valid_exchanges=exchange, stock_type="", reference_price=Decimal(price),
                    daily_volume=0)


def _pair(con_id: int, symbol: str, currency: str, price: str, tick: str) -> Contract:
    name = f"{symbol}.{currency}"
    return Contract(con_id=con_id, symbol=symbol, sec_type="CASH", currency=currency, local_symbol=name,
                    trading_class=name, exchange="IDEALPRO", primary_exchange="", valid_exchanges="IDEALPRO",
                    stock_type="", min_tick=Decimal(tick), market_rule_id=59 if tick == "0.00005" else 107,
                    reference_price=Decimal(price), daily_volume=0)


def _root(symbol: str, name: str, under: Contract, multiplier: str, tick: str, rule: int) -> Contract:
    return Contract(con_id=0, symbol=symbol, sec_type="FUT", long_name=name, multiplier=multiplier, exchange="CME",
                    primary_exchange="", valid_exchanges="CME,QBALGO", stock_type="", trading_class=symbol,
                    min_tick=Decimal(tick), market_rule_id=rule, reference_price=under.reference_price,
                    under_con_id=under.con_id, under_sec_type="IND", last_trade_time=chains.FUTURE_TIME,
                    daily_volume=1_500_000)


SPX = _index(416904, "SPX", "S&P 500 Stock Index", "CBOE", 5000)
NDX = _index(416843, "NDX", "NASDAQ 100 Stock Index", "NASDAQ", 18000)
RUT = _index(416888, "RUT", "Russell 2000 Stock Index", "RUSSELL", 2000)
BUILT_IN: tuple[Contract, ...] = (
    _stock(265598, "AAPL", "APPLE INC", "NASDAQ", 100, "US0378331005"),
    _stock(756733, "SPY", "SPDR S&P 500 ETF TRUST", "ARCA", 168, "US78462F1030", "ETF"),
    _stock(272093, "MSFT", "MICROSOFT CORP", "NASDAQ", 400, "US5949181045"),
    _stock(320227571, "QQQ", "INVESCO QQQ TRUST SERIES 1", "NASDAQ", 440, "US46090E1038", "ETF"),
    _stock(9579970, "IWM", "ISHARES RUSSELL 2000 ETF", "ARCA", 200, "US4642876555", "ETF"),
    _stock(208813719, "GOOGL", "ALPHABET INC-CL A", "NASDAQ", 150, "US02079K3059"),
    _stock(3691937, "AMZN", "AMAZON.COM INC", "NASDAQ", 180, "US0231351067"),
    _stock(4815747, "NVDA", "NVIDIA CORP", "NASDAQ", 120, "US67066G1040"),
    _stock(107113386, "META", "META PLATFORMS INC-CLASS A", "NASDAQ", 500, "US30303M1027"),
    _stock(76792991, "TSLA", "TESLA INC", "NASDAQ", 250, "US88160R1014"),
    SPX, NDX, RUT,
    _index(13455763, "VIX", "CBOE Volatility Index", "CBOE", 16),
    _pair(12087792, "EUR", "USD", "1.08", "0.00005"),
    _pair(12087797, "GBP", "USD", "1.27", "0.00005"),
    _pair(14433401, "AUD", "USD", "0.66", "0.00005"),
    _pair(15016059, "USD", "JPY", "150", "0.005"),
)
ROOTS: tuple[Contract, ...] = (
    _root("ES", "E-mini S&P 500", SPX, "50", "0.25", 67), _root("MES", "Micro E-Mini S&P 500 Stock Price Index", SPX,
                                                                "5", "0.25", 67),
    _root("NQ", "E-mini NASDAQ 100", NDX, "20", "0.25", 67), _root("MNQ", "Micro E-Mini Nasdaq-100 Index", NDX, "2",
                                                                   "0.25", 67),
    _root("RTY", "E-Mini Russell 2000 Index", RUT, "50", "0.1", 2202),
)

# market rule id -> ((low edge, increment), ...); 26 is IB's rule for US stocks.
BUILT_IN_RULES: dict[int, tuple[tuple[Decimal, Decimal], ...]] = {
    26: ((Decimal(0), PENNY),),
    557: ((Decimal(0), Decimal("0.0001")), (Decimal(1), PENNY)),
    239: ((Decimal(0), PENNY), (Decimal(3), Decimal("0.05"))),
    59: ((Decimal(0), Decimal("0.00005")),),
    67: ((Decimal(0), Decimal("0.25")),),
    107: ((Decimal(0), Decimal("0.005")),),
    2202: ((Decimal(0), Decimal("0.1")),),
}
DERIVED = frozenset({"OPT", "FUT"})
EXPIRED_FUTURES = 2        # how many expired ones includeExpired still finds


class ContractBook:
    """All contracts of one gateway, by conId, by symbol and by query."""

    def __init__(self, contracts: Iterable[Contract] = BUILT_IN, roots: Iterable[Contract] = ROOTS) -> None:
        self.by_id: dict[int, Contract] = {}
        """Every contract that was named so far; options and futures join when they are first asked for."""
        self.by_symbol: dict[str, list[Contract]] = {}
        """What is listed by name: no option or future of a chain."""
        self.rules = dict(BUILT_IN_RULES)
        self.roots = list(roots)
        self.today = date(1970, 1, 1)
        """The exchange's day, which decides what is listed and what has expired."""
        self.chained: set[int] = set()
        self._optionable: list[int] = []
        for contract in contracts:
            self.add(contract)

    def add(self, contract: Contract) -> None:
        """Add or replace one contract; a second contract of the same conId replaces the first."""
        old = self.by_id.get(contract.con_id)
        if old is not None and old.symbol == contract.symbol:
            named = self.by_symbol[old.symbol]
            named[named.index(old)] = contract
        else:
            if old is not None:
                self.by_symbol[old.symbol].remove(old)
            self.by_symbol.setdefault(contract.symbol, []).append(contract)
        self.by_id[contract.con_id] = contract
        if contract.optionable and contract.con_id not in self._optionable:
            self._optionable = [*self._optionable, contract.con_id][:chains.MAX_OPTIONABLE]

    def roll(self, today: date) -> None:
        """Go on to the exchange's present day."""
        self.today = today

    def movers(self) -> list[Contract]:
        """Return the contracts that have a price of their own: no options, no futures."""
        return [c for c in self.by_id.values() if c.sec_type not in DERIVED]

    def named(self, symbol: str) -> Contract | None:
        """Return the first contract of this symbol or, failing that, of this local symbol; None if there is none."""
        found = self.by_symbol.get(symbol)
        return found[0] if found else next((c for c in self.by_id.values() if c.local_symbol == symbol), None)

    def get(self, con_id: int) -> Contract | None:
        """Return the contract of this conId, one of a chain too."""
        known = self.by_id.get(con_id)
        if known is not None or con_id < chains.FUTURE_BASE:
            return known
        option = chains.option_of_id(con_id)
        if option is not None:
            slot, expiry, index, right = option
            if slot < len(self._optionable):
                under = self.by_id[self._optionable[slot]]
                strike = index * chains.strike_step(under.reference_price)
                return self._option(under, slot, expiry, strike, right)
            return None
        future = chains.future_of_id(con_id)
        if future is None or future[0] >= len(self.roots):
            return None
        return next((c for c in self._futures(self.roots[future[0]].symbol) if c.con_id == con_id), None)

    def find(self, query: ContractQuery, include_expired: bool = False) -> list[Contract]:
        """Return every contract that the query fits; an empty field fits all.

        Options and futures are searched only where the query names their type, conId or local symbol.
        """
        if query.con_id > 0:
            contract = self.get(query.con_id)
            candidates = [contract] if contract else []
        elif query.symbol:
            candidates = [c for c in self.by_symbol.get(query.symbol, ())
                          if query.sec_type or c.sec_type not in DERIVED]
            by_hand = {_terms(c) for c in candidates}       # takes the place of what a chain lists on the same terms
            if query.sec_type == "OPT":
                candidates += [c for c in self._options(query) if _terms(c) not in by_hand]
            elif query.sec_type == "FUT":
                candidates += [c for c in self._futures(query.symbol) if _terms(c) not in by_hand]
        elif query.local_symbol:
            candidates = self._of_local_symbol(query.local_symbol)
        else:
            return []
        return [c for c in candidates if _fits(c, query)
                and (include_expired or c.sec_type not in DERIVED or c.expiry >= f"{self.today:%Y%m%d}")]

    def with_sec_id(self, kind: str, value: str) -> list[Contract]:
        """Return the contracts of one ISIN or CUSIP (the nine characters of it within a US ISIN)."""
        if not value or kind not in ("ISIN", "CUSIP"):
            return []
        return [c for c in self.by_id.values() if value == (c.isin if kind == "ISIN" else c.isin[2:11])]

    def resembling(self, pattern: str, limit: int = 16) -> list[Contract]:
        """Return what reqMatchingSymbols finds: symbols that begin with the pattern, then names that contain it."""
        text = pattern.strip().upper()
        listed = [c for found in self.by_symbol.values() for c in found if c.sec_type not in DERIVED]
        first = [c for c in listed if text and c.symbol.startswith(text)]
        return (first + [c for c in listed if text and c not in first and text in c.long_name.upper()])[:limit]

    def derivatives(self, contract: Contract) -> list[str]:
        """Return the security types that are derived from a contract."""
        found = ["OPT"] if contract.con_id in self._optionable else []
        return found + (["FUT"] if any(r.under_con_id == contract.con_id for r in self.roots) else [])

    def _options(self, query: ContractQuery) -> list[Contract]:
        found = []
        for slot, con_id in enumerate(self._optionable):
            if self.by_id[con_id].symbol == query.symbol:
                found += [self._keep(c) for c in chains.options(self.by_id[con_id], slot, query, self.today)]
        return found

    def _option(self, under: Contract, slot: int, expiry: date, strike: Decimal, right: str) -> Contract | None:
        """Return one option if it is listed today; one that was known before stays known."""
        if expiry not in chains.option_expiries(self.today) or strike not in chains.strikes(under.reference_price):
            return None
        return self._keep(chains.option(under, slot, expiry, strike, right))

    def _futures(self, symbol: str) -> list[Contract]:
        return [self._keep(c) for slot, root in enumerate(self.roots) if root.symbol == symbol
                for c in chains.futures(root, slot, self.today, EXPIRED_FUTURES)]

    def _of_local_symbol(self, text: str) -> list[Contract]:
        found = [c for c in self.by_id.values() if c.local == text]
        if found:
            return found
        option = chains.option_of_symbol(text)
        if option is None:
            return [c for root in self.roots if text.startswith(root.symbol)
                    for c in self._futures(root.symbol) if c.local_symbol == text]
        symbol, expiry, strike, right = option
        listed = [self._option(self.by_id[i], n, expiry, strike, right)
                  for n, i in enumerate(self._optionable) if self.by_id[i].symbol == symbol]
        return [c for c in listed if c is not None]

    def _keep(self, contract: Contract) -> Contract:
        self.chained.add(contract.con_id)
        return self.by_id.setdefault(contract.con_id, contract)

    def increment(self, contract: Contract, price: Decimal) -> Decimal:
        """Return the price increment that the market rule of this contract asks for at this price."""
        step = contract.min_tick
        for low_edge, increment in self.rules.get(contract.market_rule_id, ()):
            if abs(price) >= low_edge:
                step = increment
        return step

    def on_grid(self, contract: Contract, price: Decimal) -> bool:
        return price % self.increment(contract, price) == 0


def _terms(c: Contract) -> tuple[str, str, Decimal, str, str]:
    return (c.sec_type, c.expiry, c.strike, c.right, c.multiplier)


def _fits(c: Contract, q: ContractQuery) -> bool:
    # "?" and "0" are how openOrder and updatePortfolio spell the right of a stock; CALL and PUT count as C and P.
    right = "" if q.right in ("?", "0") else q.right[:1]
    multiplier = "" if q.multiplier == "0" else q.multiplier   # as a client spells it that keeps a number there
    pairs = ((q.symbol, c.symbol), (q.sec_type, c.sec_type), (q.currency, c.currency), (right, c.right),
             (multiplier, c.multiplier), (q.local_symbol, c.local), (q.trading_class, c.klass))
    for asked, has in pairs:            # each order comes through here
        if asked and asked != has:
            return False
    if q.primary_exchange and q.primary_exchange != c.primary_exchange:
        return False
    if q.expiry and not c.expiry.startswith(q.expiry):
        return False
    if q.strike and q.strike != c.strike:
        return False
    return not q.exchange or q.exchange in c.valid_exchanges.split(",") or q.exchange == c.primary_exchange


def trading_hours(today: date, opening: str, closing: str, always: bool, days: int = 6) -> str:
    """Return IB's hours text (`20260406:0400-20260406:2000;20260407:CLOSED`) for the days from New York's today on.

    An opening with a minus sign is on the evening before; Saturdays and Sundays are closed.
    """
    parts = []
    for n in range(days):
        day = today + timedelta(days=n)
        text = day.strftime("%Y%m%d")
        if always:
            parts.append(f"{text}:0000-{day + timedelta(days=1):%Y%m%d}:0000")
        elif day.weekday() >= 5:
            parts.append(f"{text}:CLOSED")
        else:
            eve = day - timedelta(days=1) if opening.startswith("-") else day
            parts.append(f"{eve:%Y%m%d}:{opening.removeprefix('-')}-{text}:{closing}")
    return ";".join(parts)
