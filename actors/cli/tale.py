"""One event, one line for a person: used by `bracket ID`, by the demo and by `status --watch`.

Law: it tells what the record says and no more; a type that it does not know is told by its name and fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Payload = dict[str, Any]
_EXPONENT = re.compile(r"-?[0-9.]+E[+-]?[0-9]{1,2}")
_CLASS = re.compile(r"[A-Z][a-z]+([A-Z][a-z]+)+")
QUIET = frozenset({"CommissionReported", "OrderEchoed", "OrderDeferred", "TriggerArmed", "BracketStarted",
                   "BracketPictured", "BracketTimed"})  # fmt: skip
"""Told in the story of a bracket, but not while a demo plays."""


def clock(ts_ns: int | None) -> str:
    """Return the UTC time of day with milliseconds."""
    if ts_ns is None:
        return ""
    moment = datetime.fromtimestamp(ts_ns / 1e9, UTC)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def number(value: Any) -> str:
    """Return a number as short as it can be said: 100.00 is 100."""
    text = str(value)
    if _EXPONENT.fullmatch(text):
        text = f"{Decimal(text):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def leg(row_id: Any) -> str:
    """Return the leg of `<bracket>.<leg>[.<n>]`."""
    parts = str(row_id).split(".")
    return parts[1] if len(parts) > 1 else str(row_id)


def kind_of(event: dict[str, Any]) -> str:
    """Return good, bad, note or plain: how the line is coloured."""
    name, payload = event["type"], event["payload"]
    if name in ("OrderFilled", "FillCorrected"):
        return "good"
    if name in ("OrderRejected", "OrderDenied", "IntentDenied", "IncidentRecorded", "CancelRejected", "AmendRejected",
                "GateClosed", "LedgerFailed"):  # fmt: skip
        return "bad"
    if name == "AlertRaised":
        return "note" if payload.get("severity") == "info" else "bad"
    if name in ("BracketOpened", "BracketMoved", "PositionChanged", "OperatorActed", "BracketAmended"):
        return "note"
    return "plain"


def tell(event: dict[str, Any]) -> str:
    """Return the line for an event of the stream or of a story (type and payload)."""
    payload: Payload = event["payload"]
    teller = TELLERS.get(event["type"])
    if teller is None:
        known = ("type", "bracket_id", "ts_ns")
        fields = ", ".join(f"{key} {number(value)}" for key, value in payload.items() if key not in known)
        return f"{event['type']} {fields}"
    said = teller(payload)
    reason = str(payload.get("reason") or event.get("reason") or "")
    if _CLASS.fullmatch(reason):  # the kind of event that led to this one: in words, "after order filled"
        reason = f"after {re.sub('(?<!^)([A-Z])', lambda m: ' ' + m[0].lower(), reason).lower()}"
    return f"{said}: {reason}" if reason and reason not in said else said


def _opened(p: Payload) -> str:
    intent = p["definition"]["intent"]
    price = intent.get("limit_price") or intent.get("stop_price")
    at = f" {number(price)}" if price else ""
    order = f"{intent['side']} {number(intent['quantity'])} {intent['instrument']} {intent['order_type']}{at}"
    exits = ", ".join(leg(row["row_id"]) for row in p["rows"] if row["leg"] != "entry")
    return f"bracket {p['bracket_id']} is on disk: {order}" + (f"; exits held here: {exits}" if exits else "")


def _row(p: Payload) -> str:
    parts = [f"{leg(p['row_id'])}: {p['status']} ({p['state']})"]
    parts += [
        f"{name} {number(p[key])}"
        for key, name in (("quantity", "quantity"), ("price", "price"), ("stop_price", "stop"),
                          ("filled_qty", "filled"), ("avg_px", "at"), ("oca_group", "group"))
        if p.get(key) not in (None, "0")
    ]  # fmt: skip
    return ", ".join(parts)


def _filled(p: Payload) -> str:
    verb = "bought" if str(p["side"]).startswith("BUY") else "sold"
    again = ", recovered" if p.get("recovered") else ""
    return f"{leg(p['order_id'])}: {verb} {number(p['last_qty'])} {p['instrument']} at {number(p['last_px'])}{again}"


def _corrected(p: Payload) -> str:
    before, after = f"{number(p['prior_qty'])} at {number(p['prior_px'])}", f"{number(p['last_qty'])} at"
    return f"{leg(p['order_id'])}: execution {p['exec_id']} restated: {before} is {after} {number(p['last_px'])}"


def _moved(p: Payload) -> str:
    counts = f"open {number(p['open_qty'])} (in {number(p['entry_filled'])}, out {number(p['exit_filled'])})"
    return f"bracket {p['bracket_id']} is {p['phase']}, {counts}"


def _position(p: Payload) -> str:
    at = f" at {number(p['avg_price'])}" if number(p["quantity"]) != "0" else ""
    return f"position {number(p['quantity'])} {p['instrument']}{at}, realised {number(p['realized_pnl'])}"


def _submitted(p: Payload) -> str:
    return f"{p['leg']}: sent to the venue as {p['order_id']}, quantity {number(p['quantity'])}"


def _trail(p: Payload) -> str:
    moves = f"{p['ratchets']} ratchet{'s' if p['ratchets'] != 1 else ''}"
    return f"{leg(p['row_id'])}: high water {number(p['high_water'])}, stop {number(p['stop'])} after {moves}"


def _amended(p: Payload) -> str:
    return f"{p['actor']} changed {', '.join(f'{key} to {number(value)}' for key, value in p['changes'].items())}"


def _pictured(p: Payload) -> str:
    live = sum(1 for order in p["orders"] if order["live"])
    return f"the venue's picture: {live} live and {len(p['orders']) - live} ended orders of this bracket"


def _triggered(p: Payload) -> str:
    level = f", level {number(p['level'])}" if p.get("level") is not None else ""
    return f"{p['leg']}: its price is met at {number(p['price'])}{level}"


TELLERS: dict[str, Callable[[Payload], str]] = {
    "ExitTriggered": _triggered,
    "BracketTimed": lambda p: f"a wait is over ({p['key']})",
    "CoverDue": lambda p: "what was filled is to be covered now",
    "BracketStarted": lambda p: f"its actor started, incarnation {p['incarnation']}",
    "BracketPictured": _pictured,
    "BracketOpened": _opened,
    "BracketMoved": _moved,
    "BracketAmended": _amended,
    "RowChanged": _row,
    "OperatorActed": lambda p: f"{p['actor']} asked for {p['verb']}",
    "OrderSubmitted": _submitted,
    "OrderAccepted": lambda p: f"{leg(p['order_id'])}: the venue has it (permId {p['perm_id']})",
    "OrderFilled": _filled,
    "FillCorrected": _corrected,
    "CommissionReported": lambda p: f"{leg(p['order_id'])}: commission {number(p['commission'])} {p['currency']}",
    "OrderCanceled": lambda p: f"{leg(p['order_id'])}: canceled at the venue",
    "OrderExpired": lambda p: f"{leg(p['order_id'])}: expired at the venue",
    "OrderRejected": lambda p: f"{leg(p['order_id'])}: rejected by the venue ({p['code']})",
    "OrderDenied": lambda p: f"{leg(p['order_id'])}: not sent ({p['code']})",
    "CancelRejected": lambda p: f"{leg(p['order_id'])}: cancel refused ({p['code']})",
    "AmendRejected": lambda p: f"{leg(p['order_id'])}: amendment refused ({p['code']})",
    "OrderUnknown": lambda p: f"{leg(p['order_id'])}: nobody can say what became of it",
    "PositionChanged": _position,
    "TrailMoved": _trail,
    "IntentDenied": lambda p: f"denied ({p['code']}): {p['sentence']}",
    "IncidentRecorded": lambda p: f"incident {p['code']}: {p['sentence']}",
    "AlertRaised": lambda p: f"{p['severity']} {p['code']}: {p['sentence']}",
    "SessionChanged": lambda p: f"session {p['state']}: {p['detail']}",
    "GateOpened": lambda p: "the venue's picture is reconciled: orders may be sent",
    "GateClosed": lambda p: "no orders may be sent",
}
