"""What can be traded at the simulated gateway: contracts, their details and their price increments.

Law: a contract is known by its conId; every lookup ends here, so a scenario file that adds one changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal

import msgspec

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

    @property
    def unit(self) -> Decimal:
        """How much one contract is of what its price is quoted for: the multiplier, 1 for stocks."""
        return Decimal(self.multiplier) if self.multiplier else ONE

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


def _stock(con_id: int, symbol: str, name: str, primary: str, price: int, kind: str = "COMMON") -> Contract:
    return Contract(con_id=con_id, symbol=symbol, long_name=name, primary_exchange=primary, stock_type=kind,
                    reference_price=Decimal(price), trading_class="NMS" if primary == "NASDAQ" else symbol)


BUILT_IN: tuple[Contract, ...] = (
    _stock(265598, "AAPL", "APPLE INC", "NASDAQ", 100),
    _stock(756733, "SPY", "SPDR S&P 500 ETF TRUST", "ARCA", 168, "ETF"),
    _stock(272093, "MSFT", "MICROSOFT CORP", "NASDAQ", 400),
    _stock(320227571, "QQQ", "INVESCO QQQ TRUST SERIES 1", "NASDAQ", 440, "ETF"),
    _stock(9579970, "IWM", "ISHARES RUSSELL 2000 ETF", "ARCA", 200, "ETF"),
    _stock(208813719, "GOOGL", "ALPHABET INC-CL A", "NASDAQ", 150),
    _stock(3691937, "AMZN", "AMAZON.COM INC", "NASDAQ", 180),
    _stock(4815747, "NVDA", "NVIDIA CORP", "NASDAQ", 120),
    _stock(107113386, "META", "META PLATFORMS INC-CLASS A", "NASDAQ", 500),
    _stock(76792991, "TSLA", "TESLA INC", "NASDAQ", 250),
)

# market rule id -> ((low edge, increment), ...); 26 is IB's rule for US stocks.
BUILT_IN_RULES: dict[int, tuple[tuple[Decimal, Decimal], ...]] = {
    26: ((Decimal(0), PENNY),),
    557: ((Decimal(0), Decimal("0.0001")), (Decimal(1), PENNY)),
    239: ((Decimal(0), PENNY), (Decimal(3), Decimal("0.05"))),
}


class ContractBook:
    """All contracts of one gateway, by conId, by symbol and by query."""

    def __init__(self, contracts: Iterable[Contract] = BUILT_IN) -> None:
        self.by_id: dict[int, Contract] = {}
        self.by_symbol: dict[str, list[Contract]] = {}
        self.rules = dict(BUILT_IN_RULES)
        for contract in contracts:
            self.add(contract)

    def add(self, contract: Contract) -> None:
        """Add or replace one contract; a second contract of the same conId replaces the first."""
        old = self.by_id.get(contract.con_id)
        if old is not None:
            self.by_symbol[old.symbol].remove(old)
        self.by_id[contract.con_id] = contract
        self.by_symbol.setdefault(contract.symbol, []).append(contract)

    def named(self, symbol: str) -> Contract | None:
        """Return the first contract of this symbol, or None."""
        found = self.by_symbol.get(symbol)
        return found[0] if found else None

    def find(self, query: ContractQuery) -> list[Contract]:
        """Return every contract that the query fits; an empty field fits all."""
        if query.con_id > 0:
            contract = self.by_id.get(query.con_id)
            candidates = [contract] if contract else []
        elif query.symbol:
            candidates = self.by_symbol.get(query.symbol, [])
        elif query.local_symbol:
            candidates = [c for c in self.by_id.values() if c.local == query.local_symbol]
        else:
            return []
        return [c for c in candidates if _fits(c, query)]

    def increment(self, contract: Contract, price: Decimal) -> Decimal:
        """Return the price increment that the market rule of this contract asks for at this price."""
        step = contract.min_tick
        for low_edge, increment in self.rules.get(contract.market_rule_id, ()):
            if abs(price) >= low_edge:
                step = increment
        return step

    def on_grid(self, contract: Contract, price: Decimal) -> bool:
        return price % self.increment(contract, price) == 0


def _fits(c: Contract, q: ContractQuery) -> bool:
    right = "" if q.right in ("?", "0") else q.right          # as openOrder spells it for a stock
    multiplier = "" if q.multiplier == "0" else q.multiplier   # as a client spells it that keeps a number there
    pairs = ((q.symbol, c.symbol), (q.sec_type, c.sec_type), (q.currency, c.currency), (right, c.right),
             (multiplier, c.multiplier), (q.local_symbol, c.local), (q.trading_class, c.klass))
    if any(asked and asked != has for asked, has in pairs):
        return False
    if q.primary_exchange and q.primary_exchange != c.primary_exchange:
        return False
    if q.expiry and not c.expiry.startswith(q.expiry):
        return False
    if q.strike and q.strike != c.strike:
        return False
    return not q.exchange or q.exchange in c.valid_exchanges.split(",") or q.exchange == c.primary_exchange


def trading_hours(today: date, opening: str, closing: str, always: bool, days: int = 6) -> str:
    """Return IB's hours text (`20260406:0400-20260406:2000;20260407:CLOSED`) for the days from New York's today on."""
    parts = []
    for n in range(days):
        day = today + timedelta(days=n)
        text = day.strftime("%Y%m%d")
        if always:
            parts.append(f"{text}:0000-{day + timedelta(days=1):%Y%m%d}:0000")
        elif day.weekday() >= 5:
            parts.append(f"{text}:CLOSED")
        else:
            parts.append(f"{text}:{opening}-{text}:{closing}")
    return ";".join(parts)
