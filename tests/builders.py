"""The one way to build things in tests: intents, contracts, definitions, fills. Numbers may be written as int or str.

Everything defaults to the worked example: BUY 100 AAPL LMT 100; target SELL LMT 110; stop SELL STP 95.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

import msgspec

from messages.intent import (
    Condition,
    ExpiryPolicy,
    Hold,
    Intent,
    Operator,
    OrderType,
    SafetyStop,
    Shape,
    Side,
    Stop,
    Target,
    TimeInForce,
    TrailingStop,
    Tranche,
    Urgency,
)
from messages.ledger import PositionChanged
from messages.market import TriggerMethod
from messages.orders import (
    CommissionReported,
    Contract,
    Definition,
    FillCorrected,
    Increment,
    OrderFilled,
    OwnBracket,
    Role,
    SubmitOrder,
)
from messages.settings import Settings, load_settings

SECOND = 1_000_000_000
NOW_NS = 1_770_217_200 * SECOND
"""2026-02-04 15:00:00 UTC, a Wednesday, 10:00 in New York."""

Number = Decimal | int | str
_exec_ids = count(1)


def dec(value: Number | None) -> Decimal | None:
    """Turn a test's number into an exact Decimal; None stays None. Floats are not taken."""
    assert not isinstance(value, float), "write prices as int or str in tests"
    return None if value is None else Decimal(value)


def _d(value: Number) -> Decimal:
    found = dec(value)
    assert found is not None
    return found


def settings(**sections: dict[str, Any]) -> Settings:
    """Build settings: `settings(oca={"native": False})`."""
    return load_settings(None, sections)


# -- exits -----------------------------------------------------------------------------------------------------


def target(
    price: Number | None = 110, *, offset: Number | None = None, percent: Number | None = None, hold: str = "venue",
    method: str = "default",
) -> Target:
    if offset is not None or percent is not None:
        price = None
    return Target(
        price=dec(price), offset=dec(offset), percent=dec(percent), hold=Hold(hold),
        trigger_method=TriggerMethod(method),
    )


def stop(
    price: Number | None = 95, *, offset: Number | None = None, percent: Number | None = None,
    limit: Number | None = None, limit_offset: Number | None = None, hold: str = "venue", method: str = "default",
) -> Stop:
    if offset is not None or percent is not None:
        price = None
    return Stop(
        price=dec(price), offset=dec(offset), percent=dec(percent), limit_price=dec(limit),
        limit_offset=dec(limit_offset), hold=Hold(hold), trigger_method=TriggerMethod(method),
    )


def trail(
    amount: Number | None = 2, *, percent: Number | None = None, limit_offset: Number | None = None,
    activation: Number | None = None, method: str = "default",
) -> TrailingStop:
    if percent is not None:
        amount = None
    return TrailingStop(
        amount=dec(amount), percent=dec(percent), limit_offset=dec(limit_offset), activation_price=dec(activation),
        trigger_method=TriggerMethod(method),
    )


def tranche(
    *, quantity: Number | None = None, target: Target | None = None, stop: Stop | None = None,
    trail: TrailingStop | None = None,
) -> Tranche:
    return Tranche(quantity=dec(quantity), target=target, stop=stop, trailing_stop=trail)


def safety(price: Number | None = None, *, offset: Number | None = None, percent: Number | None = None) -> SafetyStop:
    return SafetyStop(price=dec(price), offset=dec(offset), percent=dec(percent))


def when(instrument: str = "AAPL", operator: str = ">=", price: Number = 190, method: str = "last") -> Condition:
    return Condition(
        instrument=instrument, operator=Operator(operator), price=_d(price), trigger_method=TriggerMethod(method)
    )


# -- intents ---------------------------------------------------------------------------------------------------


def intent(
    signal_id: str = "sig-1", *, instrument: str = "AAPL", side: str = "BUY", quantity: Number = 100,
    order_type: str | None = None, limit: Number | None = 100, stop_price: Number | None = None,
    exits: tuple[Tranche, ...] | None = None, shape: str = "bracket", tif: str = "DAY", **changes: Any,
) -> Intent:
    """Build the worked example with changes. Pass limit=None for a market entry; exits=() for none."""
    if exits is None:
        exits = (tranche(target=target(), stop=stop()),) if shape in ("bracket", "otoco") else ()
    if order_type is None:
        order_type = {
            (True, False): "LMT", (False, False): "MKT", (True, True): "STP LMT", (False, True): "STP",
        }[(limit is not None, stop_price is not None)]
    fields: dict[str, Any] = {
        "strategy": "Momentum_EQ", "urgency": Urgency.NORMAL, "max_slippage_bps": None,
        "expiry_policy": ExpiryPolicy.HOLD, "risk_tags": (), **changes,
    }
    return Intent(
        signal_id=signal_id, instrument=instrument, side=Side(side), quantity=_d(quantity), shape=Shape(shape),
        order_type=OrderType(order_type), limit_price=dec(limit), stop_price=dec(stop_price), exits=exits,
        time_in_force=TimeInForce(tif), **fields,
    )


def short_intent(signal_id: str = "sig-1", **changes: Any) -> Intent:
    """Build the worked example upside down: SELL_SHORT 100 AAPL LMT 100; target 90; stop 105."""
    changes.setdefault("exits", (tranche(target=target(90), stop=stop(105)),))
    return intent(signal_id, **{"side": "SELL_SHORT", **changes})


def oco_intent(signal_id: str = "sig-1", **changes: Any) -> Intent:
    """Build two exits that compete for 100 AAPL already held: target 110, stop 95."""
    changes.setdefault("exits", (tranche(target=target(), stop=stop()),))
    return intent(signal_id, **{"side": "SELL", "shape": "oco", "limit": None, **changes})


def raw_intent(**changes: Any) -> dict[str, Any]:
    """Build the worked example as a strategy writes it in JSON; a change of `...` leaves the field out."""
    raw: dict[str, Any] = {
        "signal_id": "sig-1", "strategy": "Momentum_EQ", "instrument": "AAPL", "side": "BUY", "quantity": "100",
        "urgency": "Normal", "time_in_force": "DAY", "max_slippage_bps": None, "expiry_policy": "hold",
        "risk_tags": [], "order_type": "LMT", "limit_price": "100",
        "exits": [{"target": {"price": "110"}, "stop": {"price": "95"}}],
    }
    raw.update(changes)
    return {key: value for key, value in raw.items() if value is not ...}


def as_raw(value: Intent) -> dict[str, Any]:
    """Turn an intent back into plain JSON data."""
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


# -- contracts and definitions ---------------------------------------------------------------------------------

CENT = (Increment(low_edge=Decimal(0), increment=Decimal("0.01")),)


def contract(instrument: str = "AAPL", *, conid: int | None = None, **changes: Any) -> Contract:
    """Build a qualified US stock; its conid follows from its name."""
    fields: dict[str, Any] = {
        "symbol": instrument, "sec_type": "STK", "exchange": "SMART", "currency": "USD", "primary_exchange": "NASDAQ",
        "local_symbol": instrument, "trading_class": "NMS", "increments": CENT, **changes,
    }
    known = {"AAPL": 265598, "SPY": 756733, "MSFT": 272093}
    if conid is None:
        conid = known.get(instrument, 1_000_000 + sum(ord(letter) * 131**i for i, letter in enumerate(instrument)))
    return Contract(instrument=instrument, conid=conid, **fields)


def definition(
    bracket_id: str = "B1-test", of: Intent | None = None, *, account: str = "DU1234567", opened_ns: int = NOW_NS,
    expires_ns: int | None = None, oca_native: bool = True, **changes: Any,
) -> Definition:
    """Build a durable bracket definition; keyword arguments that are not its own change the intent."""
    found = of or intent(**changes)
    return Definition(
        bracket_id=bracket_id, intent=found, contract=contract(found.instrument), account=account, opened_ns=opened_ns,
        expires_ns=opened_ns + 120 * SECOND if expires_ns is None else expires_ns, oca_native=oca_native,
    )


# -- orders and fills ------------------------------------------------------------------------------------------


def own(of: Definition, incarnation: int = 1, **changes: Any) -> OwnBracket:
    fields: dict[str, Any] = {"entry_filled": Decimal(0), "exit_filled": Decimal(0), **changes}
    return OwnBracket(
        bracket_id=of.bracket_id, incarnation=incarnation, contract=of.contract, account=of.account, **fields
    )


def submit(
    order_id: str = "B1-test.entry", *, side: str = "BUY", quantity: Number = 100, order_type: str = "LMT",
    limit: Number | None = 100, stop_price: Number | None = None, instrument: str = "AAPL",
    account: str = "DU1234567", role: str | None = None, tif: str = "DAY", **changes: Any,
) -> SubmitOrder:
    """Build one order for the broker; bracket, leg and role follow from its id."""
    bracket_id, leg = order_id.split(".")[:2]
    fields: dict[str, Any] = {
        "command_id": f"{order_id}:submit", "bracket_id": bracket_id, "incarnation": 1, "leg": leg,
        "role": Role(role or ("entry" if leg == "entry" else "exit")), "contract": contract(instrument), **changes,
    }
    return SubmitOrder(
        order_id=order_id, side=Side(side), quantity=_d(quantity), order_type=OrderType(order_type),
        limit_price=dec(limit), stop_price=dec(stop_price), account=account, time_in_force=TimeInForce(tif), **fields,
    )


def fill(
    order_id: str = "B1-test.entry", quantity: Number = 100, price: Number = 100, *, side: str | None = None,
    cum: Number | None = None, exec_id: str | None = None, instrument: str = "AAPL", account: str = "DU1234567",
    role: str | None = None, ts_ns: int = NOW_NS, kind: type[OrderFilled] = OrderFilled, **changes: Any,
) -> OrderFilled:
    """Build one execution; entries buy and exits sell unless told otherwise. Each has a new exec_id."""
    bracket_id, leg = order_id.split(".")[:2]
    is_entry = leg == "entry"
    fields: dict[str, Any] = {
        "bracket_id": bracket_id, "leg": leg, "revision": 1, "perm_id": 7001, "client_id": 1,
        "conid": contract(instrument).conid, "strategy": "Momentum_EQ", **changes,
    }
    return kind(
        order_id=order_id, ts_ns=ts_ns, exec_id=exec_id or f"0000e0d5.{next(_exec_ids):08x}.01", account=account,
        instrument=instrument, side=Side(side or ("BUY" if is_entry else "SELL")),
        role=Role(role or ("entry" if is_entry else "exit")), last_qty=_d(quantity), last_px=_d(price),
        cum_qty=_d(quantity if cum is None else cum), **fields,
    )


def corrected(
    of: OrderFilled, quantity: Number, price: Number | None = None, revision: int | None = None
) -> FillCorrected:
    """Build the venue's restatement of an execution; quantity 0 is a bust."""
    fields = {name: getattr(of, name) for name in OrderFilled.__struct_fields__}
    fields.update(
        last_qty=_d(quantity), last_px=of.last_px if price is None else _d(price),
        revision=of.revision + 1 if revision is None else revision, prior_qty=of.last_qty, prior_px=of.last_px,
    )
    return FillCorrected(**fields)


def commission(of: OrderFilled, cost: Number = 1, currency: str = "USD") -> CommissionReported:
    return CommissionReported(
        bracket_id=of.bracket_id, order_id=of.order_id, ts_ns=of.ts_ns, exec_id=of.exec_id, commission=_d(cost),
        currency=currency,
    )


def position_of(fill: OrderFilled) -> PositionChanged:
    """Build the position as the ledger has it after this one execution."""
    return PositionChanged(
        account=fill.account, conid=fill.conid, instrument=fill.instrument, strategy=fill.strategy,
        exec_id=fill.exec_id, quantity=fill.side.sign * fill.last_qty, avg_price=fill.last_px,
        realized_pnl=Decimal(0), multiplier=fill.multiplier, risk_tags=(), ts_ns=fill.ts_ns,
    )
