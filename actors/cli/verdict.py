"""Whether a demo ended as its scenario says: the engine's rows against the gateway's journal, order by order.

Law: the journal is the witness. A row that was never sent must not be in it, and what it executed is what the rows say.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.venue.simulator.journal import executions, final_orders, placements, positions, read_journal
from actors.venue.simulator.journal_checks import violations
from messages.base import Record

VENUE_WORDS = {
    "filled": {"Filled"},
    "canceled": {"Cancelled", "ApiCancelled"},
    "expired": {"Cancelled", "ApiCancelled", "Inactive"},
    "rejected": {"Inactive", "Cancelled", "Rejected"},
}
"""What a row's last order must have become at the venue."""


class Expectation(Record, frozen=True, kw_only=True):
    """How a bracket must end: the status of each leg; no other leg may have an order. Every position ends flat."""

    bracket_id: str
    statuses: dict[str, str]


def differences(
    expectation: Expectation, story: dict[str, Any], held: list[dict[str, Any]], journal: Path
) -> list[str]:
    """Return one sentence for each thing that is not as it should be."""
    lines = read_journal(journal)
    rows = {row["leg"]: row for row in story["orders"]}
    found = [f"{leg}: there is no such row" for leg in expectation.statuses if leg not in rows]
    found += [f"{leg}: this row should not be there" for leg in rows if leg not in expectation.statuses]
    for leg, row in rows.items():
        wanted = expectation.statuses.get(leg)
        if wanted is not None and row["status"] != wanted:
            found.append(f"{leg}: is {row['status']}, should be {wanted}")
        found += _against_journal(row, lines)
    known = {row["row_id"] for row in rows.values()}
    strangers = [line["orderRef"] for line in placements(lines) if _row_of(line.get("orderRef", "")) not in known]
    found += [f"the gateway received {ref!r}, which no row knows" for ref in strangers]
    found += violations(lines, native=story["definition"]["oca_native"], rows=known)
    for (account, symbol), quantity in positions(lines).items():
        if quantity:
            found.append(f"the gateway holds {quantity} {symbol} in {account}; it should be flat")
    for row in held:
        # A position that was there before the engine came is the venue's, and the engine books only what it trades.
        opening = sum((Decimal(line["quantity"]) for line in lines if line["msg"] == "opening_position"), Decimal(0))
        if Decimal(row["quantity"]) + opening:
            found.append(f"the engine holds {row['quantity']} {row['instrument']}; it should be flat")
    return found


def _against_journal(row: dict[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    row_id, leg = row["row_id"], row["leg"]
    sent = [line for line in placements(lines) if _row_of(line.get("orderRef", "")) == row_id]
    if row["order_ref"] is None:
        return [f"{leg}: was never sent, yet the gateway received {line['orderRef']}" for line in sent]
    if not sent:
        return [f"{leg}: was sent as {row['order_ref']}, of which the gateway knows nothing"]
    found = []
    filled = sum(
        (Decimal(line["quantity"]) for line in executions(lines) if _row_of(line.get("orderRef", "")) == row_id),
        Decimal(0),
    )
    if filled != Decimal(row["filled_qty"]):
        found.append(f"{leg}: {row['filled_qty']} filled, the gateway executed {filled}")
    wrong = {line["action"] for line in sent if line["action"] != row["action"]}
    found += [f"{leg}: the row says {row['action']}, the gateway received {action}" for action in sorted(wrong)]
    last = final_orders(lines).get(row["order_ref"])
    words = VENUE_WORDS.get(row["status"])
    if last is not None and words is not None and last.get("status") not in words:
        found.append(f"{leg}: is {row['status']}, at the gateway it is {last.get('status')}")
    return found


def _row_of(order_ref: str) -> str:
    """Return the row `<bracket>.<leg>` of an order reference `<bracket>.<leg>[.<n>]`."""
    return ".".join(order_ref.split(".")[:2])
