"""How each record changes the tables beside `events`: one pure fold, used live and by `rebuild` alike.

Law: a projection is a function of the records in their order and of nothing else: no clock, no batch boundary, no
reading of what is not a projection. `fold` changes rows in memory; storage/tables.py reads the rows that a group of
records touches and writes back those that it changed, so that a group costs few statements, however long it is.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from messages.base import Message
from messages.intent import Side
from messages.ledger import (
    BracketMoved,
    BracketOpened,
    IncidentRecorded,
    PositionChanged,
    RowChanged,
    TrailMoved,
)
from messages.orders import CommissionReported, FillCorrected, OrderFilled, OrderState, OrderStatus
from messages.registry import content_digest, decode
from messages.risk import IntentDenied
from storage import models
from storage.database import Database
from storage.fields import canonical, optional, readable
from storage.tables import Tables, Values

FIRST_PHASE = "SCHEDULED"
NO_CLIENT = -1
REBUILD_CHUNK = 2_000

# -- the estimate --------------------------------------------------------------------------------------------------

SHARE_RATE, SHARE_LEAST, SHARE_MOST = Decimal("0.005"), Decimal("1.00"), Decimal("0.01")
CONTRACT_RATE = Decimal("0.65")


def estimate_commission(quantity: Decimal, price: Decimal, multiplier: Decimal) -> Decimal:
    """Estimate what an execution costs until the venue reports it, in the instrument's currency.

    IBKR Pro, fixed, US: 0.005 a share, at least 1.00 and at most 1 % of the value; 0.65 a contract where the multiplier
    is not 1. The least holds for a whole order at IB and for each execution here, so the estimate errs upwards.
    """
    if multiplier != 1:
        return quantity * CONTRACT_RATE
    return min(max(quantity * SHARE_RATE, SHARE_LEAST), quantity * price * SHARE_MOST)


# -- the fold ------------------------------------------------------------------------------------------------------


def fold(tables: Tables, seq: int, event: Message) -> None:
    """Change the rows by one record. A record that no projection is made from changes nothing."""
    handler = HANDLERS.get(type(event))
    if handler is not None:
        handler(tables, seq, event)


def _opened(tables: Tables, seq: int, event: BracketOpened) -> None:
    if event.bracket_id in tables.brackets.rows:
        return
    definition, intent, contract = event.definition, event.definition.intent, event.definition.contract
    tables.brackets.insert(
        event.bracket_id,
        {
            "bracket_id": event.bracket_id,
            "signal_id": intent.signal_id,
            "digest": content_digest(intent),
            "strategy_id": intent.strategy,
            "instrument": intent.instrument,
            "conid": contract.conid,
            "symbol": contract.symbol,
            "account": definition.account,
            "shape": str(intent.shape),
            "side": str(intent.side),
            "quantity": canonical(intent.quantity),
            "phase": FIRST_PHASE,
            "reason": "",
            "open_qty": "0",
            "entry_filled": "0",
            "exit_filled": "0",
            "opened_ns": definition.opened_ns,
            "expires_ns": definition.expires_ns,
            "updated_ns": event.ts_ns,
            "definition": msgspec.json.encode(definition).decode(),
        },
    )
    for row in event.rows:
        if row.row_id not in tables.orders.rows:
            values = _order_row(tables.brackets.rows[event.bracket_id], row.row_id, row.leg, row.side, event.ts_ns)
            values["quantity"] = canonical(row.quantity)
            values["price"], values["stop_price"] = optional(row.price), optional(row.stop_price)
            values["parent_id"] = values["parent_order_id"] = row.parent_row
            values["order_type"], values["time_in_force"] = str(row.order_type), str(row.time_in_force)
            tables.orders.insert(row.row_id, values)


def _order_row(bracket: Values, row_id: str, leg: str, side: Side, ts_ns: int) -> Values:
    return {
        "row_id": row_id,
        "symbol": bracket["symbol"],
        "action": str(side.venue_side),
        "quantity": "0",
        "price": None,
        "stop_price": None,
        "status": str(OrderStatus.PENDING),
        "parent_id": None,
        "oca_group": None,
        "bracket_id": bracket["bracket_id"],
        "leg": leg,
        "side": str(side),
        "state": str(OrderState.VALIDATED),
        "reason": "",
        "order_ref": None,
        "perm_id": None,
        "client_id": NO_CLIENT,
        "signal_id": bracket["signal_id"],
        "strategy_id": bracket["strategy_id"],
        "account": bracket["account"],
        "conid": bracket["conid"],
        "parent_order_id": None,
        "order_type": "MKT",
        "time_in_force": "DAY",
        "filled_qty": "0",
        "avg_px": None,
        "opened_ns": ts_ns,
        "updated_ns": ts_ns,
    }


def _extra_row(tables: Tables, event: RowChanged) -> bool:
    """Make the row of an order that the definition does not have: one that flattens, on the side of the exits."""
    bracket = tables.brackets.rows.get(event.bracket_id)
    if bracket is None:
        return False
    side = Side(bracket["side"])
    if bracket["shape"] != "oco":
        side = side.exit_side
    leg = event.row_id.partition(".")[2]
    if leg == "excess":  # it takes back what the exits sold, or bought, too much
        side = side.exit_side
    row = _order_row(bracket, event.row_id, leg, side, event.ts_ns)
    limited, triggered = event.price is not None, event.stop_price is not None
    row["order_type"] = {(0, 0): "MKT", (1, 0): "LMT", (0, 1): "STP", (1, 1): "STP LMT"}[limited, triggered]
    if bracket["shape"] != "oco":
        row["parent_id"] = row["parent_order_id"] = f"{event.bracket_id}.entry"
    tables.orders.insert(event.row_id, row)
    return True


def _row_changed(tables: Tables, seq: int, event: RowChanged) -> None:
    if event.row_id not in tables.orders.rows and not _extra_row(tables, event):
        return
    values: Values = {
        "status": str(event.status),
        "state": str(event.state),
        "reason": readable(event.reason),
        "updated_ns": event.ts_ns,
    }
    for name in ("quantity", "filled_qty", "avg_px", "price", "stop_price"):
        number = getattr(event, name)
        if number is not None:
            values[name] = canonical(number)
    for name in ("oca_group", "order_ref", "perm_id", "client_id"):
        word = getattr(event, name)
        if word is not None:
            values[name] = word
    tables.orders.update(event.row_id, **values)


def _moved(tables: Tables, seq: int, event: BracketMoved) -> None:
    if event.bracket_id in tables.brackets.rows:
        tables.brackets.update(
            event.bracket_id,
            phase=event.phase,
            reason=readable(event.reason),
            open_qty=canonical(event.open_qty),
            entry_filled=canonical(event.entry_filled),
            exit_filled=canonical(event.exit_filled),
            updated_ns=event.ts_ns,
        )


def _filled(tables: Tables, seq: int, event: OrderFilled) -> None:
    """Book an execution, or its restatement: the highest revision is in force, whichever came first."""
    known = tables.fills.rows.get(event.exec_id)
    if known is not None and known["revision"] >= event.revision:
        return
    estimate = canonical(estimate_commission(event.last_qty, event.last_px, event.multiplier))
    if known is not None:
        values: Values = {
            "revision": event.revision,
            "quantity": canonical(event.last_qty),
            "price": canonical(event.last_px),
            "updated_ns": event.ts_ns,
        }
        if known["is_estimate"]:
            values["commission"] = estimate
        tables.fills.update(event.exec_id, **values)
        return
    fee = tables.commissions.rows.get(event.exec_id)
    tables.fills.insert(
        event.exec_id,
        {
            "execution_id": event.exec_id,
            "order_id": event.order_id,
            "conid": event.conid,
            "timestamp": event.ts_ns,
            "revision": event.revision,
            "bracket_id": event.bracket_id,
            "leg": event.leg,
            "perm_id": event.perm_id,
            "client_id": event.client_id,
            "account": event.account,
            "instrument": event.instrument,
            "strategy_id": event.strategy,
            "side": str(event.side),
            "role": str(event.role),
            "quantity": canonical(event.last_qty),
            "price": canonical(event.last_px),
            "multiplier": canonical(event.multiplier),
            "commission": fee["commission"] if fee else estimate,
            "commission_currency": fee["currency"] if fee else "",
            "is_estimate": 0 if fee else 1,
            "realized_pnl": fee["realized_pnl"] if fee else None,
            "recovered": int(event.recovered),
            "updated_ns": event.ts_ns,
        },
    )


def _commission(tables: Tables, seq: int, event: CommissionReported) -> None:
    values: Values = {
        "commission": canonical(event.commission),
        "currency": event.currency,
        "realized_pnl": optional(event.realized_pnl),
        "updated_ns": event.ts_ns,
    }
    if event.exec_id in tables.commissions.rows:
        tables.commissions.update(event.exec_id, **values)
    else:
        tables.commissions.insert(event.exec_id, {"execution_id": event.exec_id, **values})
    if event.exec_id in tables.fills.rows:
        values["commission_currency"] = values.pop("currency")
        tables.fills.update(event.exec_id, is_estimate=0, **values)


def _position(tables: Tables, seq: int, event: PositionChanged) -> None:
    key = (event.account, event.conid, event.strategy)
    values: Values = {
        "instrument": event.instrument,
        "quantity": canonical(event.quantity),
        "avg_price": canonical(event.avg_price),
        "realized_pnl": canonical(event.realized_pnl),
        "multiplier": canonical(event.multiplier),
        "risk_tags": msgspec.json.encode(event.risk_tags).decode(),
        "exec_id": event.exec_id,
        "updated_ns": event.ts_ns,
    }
    place: Values = {"account": event.account, "conid": event.conid, "strategy_id": event.strategy}
    if key in tables.positions.rows:
        tables.positions.update(key, **values)
    else:
        tables.positions.insert(key, place | values)
    history = {name: values[name] for name in ("instrument", "exec_id", "quantity", "avg_price", "realized_pnl")}
    tables.history.insert(seq, {"seq": seq, **place, **history, "ts_ns": event.ts_ns})


def _trail(tables: Tables, seq: int, event: TrailMoved) -> None:
    values: Values = {
        "high_water": canonical(event.high_water),
        "stop": canonical(event.stop),
        "ratchets": event.ratchets,
        "updated_ns": event.ts_ns,
    }
    if event.row_id in tables.trails.rows:
        tables.trails.update(event.row_id, **values)
    else:
        tables.trails.insert(event.row_id, {"row_id": event.row_id, "bracket_id": event.bracket_id, **values})


def _denied(tables: Tables, seq: int, event: IntentDenied) -> None:
    tables.denials.insert(
        seq,
        {
            "seq": seq,
            "bracket_id": event.bracket_id,
            "signal_id": event.signal_id,
            "strategy_id": event.strategy,
            "instrument": event.instrument,
            "code": event.code,
            "sentence": readable(event.sentence),
            "ts_ns": event.ts_ns,
        },
    )


def _incident(tables: Tables, seq: int, event: IncidentRecorded) -> None:
    values: Values = {"bracket_id": event.bracket_id, "code": event.code, "sentence": readable(event.sentence)}
    tables.incidents.insert(seq, {"seq": seq, **values, "ts_ns": event.ts_ns})


HANDLERS: dict[type[Message], Callable[[Tables, int, Any], None]] = {
    BracketOpened: _opened,
    BracketMoved: _moved,
    RowChanged: _row_changed,
    OrderFilled: _filled,
    FillCorrected: _filled,
    CommissionReported: _commission,
    PositionChanged: _position,
    TrailMoved: _trail,
    IntentDenied: _denied,
    IncidentRecorded: _incident,
}


def rebuild(database: Database) -> int:
    """Make every projection again from `events` alone, in one transaction; return the number of records folded."""
    database.begin()
    try:
        for model in models.PROJECTIONS:
            database.execute(f"DELETE FROM {models.table_name(model)}")
        tables, last, count = Tables(), 0, 0
        while rows := database.execute(
            "SELECT seq, type, payload FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (last, REBUILD_CHUNK)
        ):
            events = [(seq, decode(name, payload.encode())) for seq, name, payload in rows if name in FOLDED]
            tables.load(database, [event for _, event in events])
            for seq, event in events:
                fold(tables, seq, event)
            tables.write(database)
            last, count = rows[-1][0], count + len(rows)
        database.commit()
    except BaseException:
        database.rollback()
        raise
    return count


FOLDED = frozenset(kind.__name__ for kind in HANDLERS)


def dump(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every projection whole, by table, in the order of its key: two equal dumps are equal byte for byte."""
    return {
        models.table_name(model): database.execute(
            f"SELECT {', '.join(models.columns(model))} FROM {models.table_name(model)}"
            f" ORDER BY {', '.join(models.primary_key(model))}"
        )
        for model in models.PROJECTIONS
    }
