"""Scenario files: a market told as a story, in TOML.

Law: everything is checked when the file is read; a scenario that loads cannot fail while it runs. What is wrong is said
with file, line, field and rule.

    title = "The target is hit"
    [[quote]]
    symbol = "AAPL"
    last = 101
    [[step]]
    say   = "the market comes down to the entry's limit"
    when  = { working = "*.entry*" }
    after = 0.3
    price = { symbol = "AAPL", last = 100 }

Steps run in sequence. A step waits until all of `when` holds (or `at_most` seconds have passed), then `after` seconds,
then does its one action: `price`, `path`, `fill`, `fill_both`, `reject`, `refuse_next`, `cancel`, `halt`,
`disconnect`, `fault`, or nothing. Patterns are globs over orderRef. Prices are USD, times seconds of the exchange's
clock.

A `[[model]]` table lets a symbol move by itself between the steps: `symbol = "AAPL"`, and any field of profile.py, such
as `volatility = 0.4`, `trades = 3`.

A `[[fault]]` table is set from the start, a step's `fault` from that moment on (its `at` counts from there):

    [[fault]]
    name  = "drop_before_ack"
    order = "reached"
    after = 3                       # the third placeOrder
    [[step]]
    fault = { name = "link", dt = 5, restored = 1101, fills = "*.target" }
"""

from __future__ import annotations

import re
import tomllib
from datetime import datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from actors.venue.simulator import chains
from actors.venue.simulator.contracts import BUILT_IN, BUILT_IN_RULES, DERIVED, ROOTS, Contract
from actors.venue.simulator.faults import reading
from actors.venue.simulator.faults.kinds import AnyFault, Fault
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.profile import Profile

Positive = Decimal      # checked by out_of_bounds: msgspec puts no bounds on Decimals
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Patterns = Pattern | Annotated[list[Pattern], msgspec.Meta(min_length=1, max_length=20)]
Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Name = Annotated[str, msgspec.Meta(pattern="^[ -~]{0,40}$")]


class ScenarioError(ValueError):
    """A scenario file that cannot be used; the text says where and why."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a scenario file; an unknown field is refused."""


class When(Part, frozen=True, kw_only=True):
    """What must hold before a step goes on: every field that is given.

    `count` orders at least must fit each pattern; with `shares`, the shares of those that fit (remaining for `working`,
    filled for `traded`) must reach it.
    """

    placed: Patterns | None = None
    working: Patterns | None = None
    traded: Patterns | None = None
    filled: Patterns | None = None
    dead: Patterns | None = None
    count: Count = 1
    shares: Positive | None = None
    subscribed: str | None = None
    clients: Count | None = None
    at_most: Seconds | None = None


class Price(Part, frozen=True, kw_only=True):
    """New prices of one symbol. Only `last`: bid and ask follow one cent below and above it."""

    symbol: str
    last: Positive | None = None
    bid: Positive | None = None
    ask: Positive | None = None
    bid_size: Positive | None = None
    ask_size: Positive | None = None
    size: Positive = Decimal(100)


class Path_(Part, frozen=True, kw_only=True):
    """A row of last prices, `every` so many seconds, with bid and ask one cent around each."""

    symbol: str
    lasts: Annotated[list[Positive], msgspec.Meta(min_length=1, max_length=100_000)]
    every: Seconds = 0.1


class Fill(Part, frozen=True, kw_only=True):
    """Trade the first live order that fits: `quantity` shares (default: all that remains) at `price` (default: its
    own limit or stop price, else last)."""

    order_ref: Pattern
    quantity: Positive | None = None
    price: Positive | None = None


class Reject(Part, frozen=True, kw_only=True):
    order_ref: Pattern
    code: Annotated[int, msgspec.Meta(ge=100, le=20_000)] = 201
    reason: str = "Order rejected - reason:refused by the scenario"
    count: Count = 1


class CancelIt(Part, frozen=True, kw_only=True):
    order_ref: Pattern
    reason: str = "cancelled by the venue"


class Halt(Part, frozen=True, kw_only=True):
    symbol: str
    halted: Annotated[int, msgspec.Meta(ge=-1, le=2)] = 1


class Disconnect(Part, frozen=True, kw_only=True):
    client_id: int | None = None


ACTIONS = ("price", "path", "fill", "fill_both", "reject", "refuse_next", "cancel", "halt", "disconnect",
           "fault")


class Step(Part, frozen=True, kw_only=True):
    say: str = ""
    when: When = When()
    after: Seconds = 0.0
    price: Price | None = None
    path: Path_ | None = None
    fill: Fill | None = None
    fill_both: Annotated[list[Fill], msgspec.Meta(min_length=2, max_length=20)] | None = None
    reject: Reject | None = None
    refuse_next: Reject | None = None
    cancel: CancelIt | None = None
    halt: Halt | None = None
    disconnect: Disconnect | None = None
    fault: AnyFault | None = None

    @property
    def action(self) -> str:
        """Return the name of the step's action, or ''."""
        return next((a for a in ACTIONS if getattr(self, a) is not None), "")


class OpeningPosition(Part, frozen=True, kw_only=True):
    symbol: str
    quantity: Decimal
    cost: Positive
    account: str | None = None


class NewContract(Part, frozen=True, kw_only=True):
    """One more contract; `optionable` lists a chain of options on it.

    An option needs `expiry` (yyyymmdd), `strike` and `right`, a future its `expiry`. Either gets its price from `under`
    (a symbol; default: its own) unless a quote names its `local_symbol`.
    """

    con_id: Annotated[int, msgspec.Meta(gt=0, lt=chains.FUTURE_BASE)]
    symbol: Annotated[str, msgspec.Meta(pattern="^[A-Z0-9. ]{1,20}$")]
    long_name: Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f]{0,100}$")] = ""
    primary_exchange: Name = "NASDAQ"
    min_tick: Positive = Decimal("0.01")
    market_rule_id: int = 26
    reference_price: Positive = Decimal(100)
    sec_type: Literal["STK", "OPT", "FUT", "IND", "CASH"] = "STK"
    expiry: Annotated[str, msgspec.Meta(pattern="^([0-9]{8})?$")] = ""
    strike: Positive | None = None
    right: Literal["", "C", "P"] = ""
    multiplier: Annotated[str, msgspec.Meta(pattern="^([1-9][0-9]{0,5})?$")] = ""
    exchange: Annotated[str, msgspec.Meta(pattern="^[A-Z0-9.]{1,20}$")] = "SMART"
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "USD"
    local_symbol: Name = ""
    trading_class: Name = ""
    under: str = ""
    optionable: bool = False


class Model(Profile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one symbol moves by itself, between the steps (model.py); the fields are those of a Profile."""

    symbol: str


class Scenario(Part, frozen=True, kw_only=True):
    """One scenario file. `rules` are switches of ExchangeRules, by name."""

    title: Annotated[str, msgspec.Meta(min_length=1)]
    story: str = ""
    rules: dict[str, Any] = {}
    contract: list[NewContract] = []
    position: list[OpeningPosition] = []
    quote: list[Price] = []
    model: list[Model] = []
    step: Annotated[list[Step], msgspec.Meta(max_length=10_000)] = []
    fault: Annotated[list[AnyFault], msgspec.Meta(max_length=500)] = []


def packaged() -> list[str]:
    """Return the names of the scenarios that come with the simulator."""
    folder = resources.files("actors.venue.simulator") / "scenarios"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load(name_or_path: str, accounts: tuple[str, ...] = ()) -> Scenario:
    """Read a scenario by file path or packaged name; with `accounts`, others are refused. Raises ScenarioError."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or "/" in name_or_path:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError(f"{name_or_path}: cannot be read: {error}") from None
        return parse(text, name_or_path, accounts)
    if name_or_path not in packaged():
        raise ScenarioError(f"scenario {name_or_path!r} is not known; there are: {', '.join(packaged())}")
    source = resources.files("actors.venue.simulator") / "scenarios" / f"{name_or_path}.toml"
    return parse(source.read_text("utf-8"), f"{name_or_path}.toml", accounts)


def parse(text: str, name: str, accounts: tuple[str, ...] = ()) -> Scenario:
    """Check a scenario's text; raises ScenarioError with file, line, field and rule."""
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:     # also an integer of 5000 digits, and tables without end
        found = re.search(r"\(at line (\d+)", str(error))
        line = found[1] if found else max(1, len(text.splitlines()))       # "at end of document" has no number
        raise ScenarioError(f"{name}:{line}: not TOML: {error}") from None
    try:
        scenario = msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `")
        field = where.rstrip("`").removeprefix("$.") or "file"
        raise ScenarioError(f"{name}:{_line_of(text, field)}: field {field}: {message}") from None
    rules = _check(scenario, text, name, accounts)
    return msgspec.structs.replace(scenario, rules={rule: getattr(rules, rule) for rule in scenario.rules})


def out_of_bounds(value: Any, field: str) -> tuple[str, str] | None:
    """Return field and rule of the first decimal that is not between 0 and a billion, or None."""
    if isinstance(value, Decimal):
        if field.startswith("position") and field.endswith("quantity"):
            value = abs(value) or value
        if not value.is_finite() or not 0 < value <= 1_000_000_000:
            return field, f"{value} is not above 0 and at most 1000000000"
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            found = out_of_bounds(getattr(value, name), f"{field}.{name}".lstrip("."))
            if found:
                return found
    elif isinstance(value, list):
        for n, item in enumerate(value):
            found = out_of_bounds(item, f"{field}[{n}]")
            if found:
                return found
    return None


def _check(scenario: Scenario, text: str, name: str, accounts: tuple[str, ...]) -> ExchangeRules:
    """Check what types cannot say: known symbols, one action a step; return the rules, which must exist."""
    symbols = {c.symbol for c in BUILT_IN} | {c.symbol for c in scenario.contract}
    symbols |= {c.local_symbol for c in scenario.contract if c.local_symbol}

    def refuse(field: str, rule: str) -> NoReturn:
        raise ScenarioError(f"{name}:{_line_of(text, field)}: field {field}: {rule}")

    def known(field: str, symbol: str) -> None:
        if symbol not in symbols:
            refuse(field, f"symbol {symbol!r} is not known; add a [[contract]] or use {', '.join(sorted(symbols))}")

    def sound(field: str, fault: Fault) -> None:
        try:
            reading.check(fault, fault.kind)
        except reading.FaultError as error:
            refuse(field, str(error))
        contract = getattr(fault, "contract", None)
        if contract is not None:
            known(f"{field}.contract", contract)

    for n, fault in enumerate(scenario.fault):
        sound(f"fault[{n}]", fault)
    unbounded = out_of_bounds(scenario, "")
    if unbounded is not None:
        refuse(*unbounded)
    for n, entry in enumerate(scenario.contract):
        wrong = _incomplete(entry) or _unfit(entry, scenario.contract[:n])
        if wrong:
            refuse(f"contract[{n}].{wrong[0]}", wrong[1])
    for table in ("quote", "position", "model"):
        for n, entry in enumerate(getattr(scenario, table)):
            known(f"{table}[{n}].symbol", entry.symbol)
    for n, model in enumerate(scenario.model):
        if model.symbol in [other.symbol for other in scenario.model[:n]]:
            refuse(f"model[{n}].symbol", f"symbol {model.symbol!r} has a [[model]] already")
    for n, position in enumerate(scenario.position):
        if accounts and position.account is not None and position.account not in accounts:
            refuse(f"position[{n}].account", f"account {position.account!r} is not one of {', '.join(accounts)}")
    for n, step in enumerate(scenario.step):
        actions = [a for a in ACTIONS if getattr(step, a) is not None]
        if len(actions) > 1:
            refuse(f"step[{n}]", f"a step does one thing, this one has {' and '.join(actions)}")
        for part_name in ("price", "path", "halt"):
            part = getattr(step, part_name)
            if part is not None:
                known(f"step[{n}].{part_name}.symbol", part.symbol)
        if step.when.subscribed is not None:
            known(f"step[{n}].when.subscribed", step.when.subscribed)
        if step.fault is not None:
            sound(f"step[{n}].fault", step.fault)
        if step.price is not None and step.price.last is step.price.bid is step.price.ask is None:
            refuse(f"step[{n}].price", "give at least one of last, bid and ask")
    try:
        return msgspec.convert(scenario.rules, ExchangeRules)
    except msgspec.ValidationError as error:
        rule, _, where = str(error).partition(" - at `$.")
        refuse(f"rules.{where.rstrip('`') or rule.split()[0]}", rule)


def _unfit(c: NewContract, others: list[NewContract]) -> tuple[str, str] | None:
    """Return field and rule of what a contract has in common with another one, or names and nobody knows."""
    listed: list[Contract | NewContract] = [*BUILT_IN, *others]
    if any(c.con_id == other.con_id for other in listed):
        return "con_id", f"{c.con_id} is another contract's already"
    same = next((o for o in listed if (o.symbol, o.sec_type, o.currency) == (c.symbol, c.sec_type, c.currency)), None)
    if same is not None and c.sec_type not in DERIVED:
        return "symbol", f"{c.symbol!r} is there already with conId {same.con_id}; a [[quote]] gives it another price"
    if c.market_rule_id not in BUILT_IN_RULES:
        return "market_rule_id", f"{c.market_rule_id} is not known: {', '.join(map(str, sorted(BUILT_IN_RULES)))}"
    if c.under and c.under not in {o.symbol for o in [*listed, *ROOTS]}:
        return "under", f"symbol {c.under!r} is not known"
    return None


def _incomplete(c: NewContract) -> tuple[str, str] | None:
    """Return field and rule of what an option or future lacks, or None."""
    if c.sec_type in ("OPT", "FUT"):
        try:
            datetime.strptime(c.expiry, "%Y%m%d")
        except ValueError:
            return "expiry", f"{c.expiry!r} is not a day as yyyymmdd; a contract of type {c.sec_type} needs one"
    if c.sec_type == "OPT" and (c.strike is None or not c.right):
        return "strike" if c.strike is None else "right", "an option needs strike and right (C or P)"
    return None


def _line_of(text: str, field: str) -> int:
    """Return the line of the table that a field path such as `step[3].price.last` belongs to."""
    found = re.match(r"([a-z_]+)(?:\[(\d+)\])?(?:\.([a-z_]+))?", field)
    if found is None:
        return 1
    table, index, key = found[1], int(found[2] or 0), found[3]
    lines = text.splitlines()
    seen = -1
    for n, line in enumerate(lines, 1):
        if re.match(rf"\s*\[\[?\s*{table}\s*\]\]?", line):
            seen += 1
            if seen == index:
                for m, inner in enumerate(lines[n:], n + 1):
                    if inner.lstrip().startswith("["):
                        break
                    if key and re.match(rf"\s*{key}\s*=", inner):
                        return m
                return n
        elif found[2] is None and re.match(rf"\s*{table}\s*=", line):
            return n
    return 1
