"""The projections while a group of records is folded: read what they touch, write back what they changed.

Law: nothing is kept from one group to the next, because another writer may have been there in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from messages.base import Message
from messages.ledger import BracketMoved, BracketOpened, PositionChanged, RowChanged, TrailMoved
from messages.orders import CommissionReported, OrderFilled
from storage import models
from storage.database import Database

Values = dict[str, Any]

BRACKET_COLUMNS = tuple(name for name in models.columns(models.Brackets) if name != "definition")
"""Rows of extra orders are made from these."""


class Projection:
    """One table while records are folded: the rows by key, which of them are new and which changed."""

    __slots__ = ("changed", "columns", "key", "model", "mutable", "name", "new", "rows")

    def __init__(self, model: type[models.Table], key: str | tuple[str, ...], mutable: tuple[str, ...]) -> None:
        self.model = model
        self.name = models.table_name(model)
        self.columns = models.columns(model)
        self.key = key
        self.mutable = mutable
        """The columns that change after a row was made; () where rows never change."""
        self.rows: dict[Any, Values] = {}
        self.new: dict[Any, Values] = {}
        self.changed: dict[Any, Values] = {}

    def insert(self, key: Any, row: Values) -> None:
        self.rows[key] = self.new[key] = row

    def update(self, key: Any, **values: Any) -> None:
        row = self.rows[key]
        row.update(values)
        if key not in self.new:
            self.changed[key] = row

    def clear(self) -> None:
        self.rows, self.new, self.changed = {}, {}, {}


class Tables:
    """The projections while a group of records is folded."""

    def __init__(self) -> None:
        self.brackets = Projection(
            models.Brackets,
            "bracket_id",
            ("phase", "reason", "open_qty", "entry_filled", "exit_filled", "updated_ns"),
        )
        self.orders = Projection(
            models.ExecutionOrders,
            "row_id",
            (
                *("quantity", "price", "stop_price", "status", "oca_group", "state", "reason", "order_ref", "perm_id"),
                *("client_id", "filled_qty", "avg_px", "updated_ns"),
            ),
        )
        self.fills = Projection(
            models.Fills,
            "execution_id",
            (
                *("revision", "quantity", "price", "commission", "commission_currency", "is_estimate", "realized_pnl"),
                "updated_ns",
            ),
        )
        self.commissions = Projection(
            models.Commissions, "execution_id", ("commission", "currency", "realized_pnl", "updated_ns")
        )
        self.positions = Projection(
            models.PositionsCurrent,
            ("account", "conid", "strategy_id"),
            (
                *("instrument", "quantity", "avg_price", "realized_pnl", "multiplier", "risk_tags", "exec_id"),
                "updated_ns",
            ),
        )
        self.history = Projection(models.PositionsHistory, "seq", ())
        self.trails = Projection(models.Trails, "row_id", ("high_water", "stop", "ratchets", "updated_ns"))
        self.denials = Projection(models.Denials, "seq", ())
        self.incidents = Projection(models.Incidents, "seq", ())
        self.all: tuple[Projection, ...] = (
            *(self.brackets, self.orders, self.fills, self.commissions, self.positions, self.history, self.trails),
            *(self.denials, self.incidents),
        )

    def clear(self) -> None:
        """Forget every row."""
        for projection in self.all:
            projection.clear()

    def load(self, database: Database, events: Iterable[Message]) -> None:
        """Read the rows that these records will touch. Nothing is kept from an earlier group."""
        self.clear()
        brackets: set[str] = set()
        orders: dict[str, str] = {}
        fills: set[str] = set()
        trails: set[str] = set()
        conids: set[int] = set()
        for event in events:
            if isinstance(event, RowChanged):
                orders[event.row_id] = event.bracket_id
            elif isinstance(event, OrderFilled | CommissionReported):
                fills.add(event.exec_id)
            elif isinstance(event, BracketOpened):
                brackets.add(event.bracket_id)
                orders.update((row.row_id, event.bracket_id) for row in event.rows)
            elif isinstance(event, BracketMoved):
                brackets.add(event.bracket_id)
            elif isinstance(event, TrailMoved):
                trails.add(event.row_id)
            elif isinstance(event, PositionChanged):
                conids.add(event.conid)
        _read(database, self.orders, "row_id", orders)
        # A row that the definition does not have (flat) is made from its bracket.
        brackets.update(bracket for row, bracket in orders.items() if row not in self.orders.rows)
        _read(database, self.brackets, "bracket_id", brackets, BRACKET_COLUMNS)
        _read(database, self.fills, "execution_id", fills)
        _read(database, self.commissions, "execution_id", fills)
        _read(database, self.trails, "row_id", trails)
        _read(database, self.positions, "conid", conids)

    def write(self, database: Database) -> None:
        """Write back what the fold made and changed."""
        for projection in self.all:
            if projection.new:
                database.insert_many(
                    projection.name, projection.columns, [tuple(row.values()) for row in projection.new.values()]
                )
            if projection.changed:
                _update(database, projection)


def _read(
    database: Database, projection: Projection, key: str, values: Iterable[Any], columns: tuple[str, ...] | None = None
) -> None:
    """Read rows of a table; by default its key and what may change, which is all that a change is made from."""
    single = projection.key if isinstance(projection.key, str) else None
    names = columns or (*((single,) if single else projection.key), *projection.mutable)
    rows = projection.rows
    for found in database.select_in(projection.name, names, key, values):
        row = dict(zip(names, found))  # noqa: B905 - one row for each record: as fast as can be
        rows[found[0] if single else tuple(row[name] for name in projection.key)] = row


def _update(database: Database, projection: Projection) -> None:
    integers = models.integer_columns(projection.model)
    if isinstance(projection.key, str):
        key: tuple[str, ...] = (projection.key,)
    else:
        key = projection.key
    names = (*projection.mutable, *key)
    rows = [tuple(row[name] for name in names) for row in projection.changed.values()]
    database.update_many(projection.name, projection.mutable, key, rows, integers)
