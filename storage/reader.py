"""What the HTTP process and the command line read: orders, brackets and their stories, positions, events.

Law: its connections cannot write. Decimals leave as strings, times as UTC nanoseconds, exactly as they are stored.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from messages.base import Record
from storage import models
from storage.database import Database, StorageError, is_transient, latest_version, refuse_newer, schema_version
from storage.store import FINAL_PHASES

LARGEST_PAGE = 1_000
NEWEST_FIRST = "ORDER BY opened_ns DESC, bracket_id DESC"

_ORDER_COLUMNS = models.columns(models.ExecutionOrders)
_FILL_COLUMNS = models.columns(models.Fills)
_BRACKET_COLUMNS = tuple(name for name in models.columns(models.Brackets) if name != "definition")
_TRAIL_COLUMNS = models.columns(models.Trails)
_POSITION_COLUMNS = models.columns(models.PositionsCurrent)
_EVENT_COLUMNS = ("seq", "key", "bracket_id", "bracket_seq", "type", "payload", "reason", "ts_ns")


class OrderRow(Record, frozen=True, kw_only=True):
    """The nine fields of 000.D.1, named as there."""

    orderId: str
    symbol: str
    action: str
    quantity: str
    price: str | None
    stopPrice: str | None
    status: str
    parentId: str | None
    ocaGroup: str | None


_NINE = OrderRow.__struct_fields__
_NINE_COLUMNS = "row_id, symbol, action, quantity, price, stop_price, status, parent_id, oca_group"


class StoredEvent(Record, frozen=True, kw_only=True):
    """One record of the audit trail; `payload` is its JSON, untouched."""

    seq: int
    key: str
    bracket_id: str | None
    bracket_seq: int | None
    type: str
    payload: msgspec.Raw
    reason: str
    ts_ns: int


class Reader:
    """Read-only access to a database that an engine may be writing meanwhile.

    Each thread that calls gets a connection of its own on first use; one that broke is opened again. Raises
    StorageError where there is no database yet, or one of a later program.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._local = threading.local()

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database().execute(sql, values)
        except Exception as problem:
            self.close()
            if not is_transient(problem):
                raise
            return self._database().execute(sql, values)

    def _database(self) -> Database:
        database: Database | None = getattr(self._local, "database", None)
        if database is None:
            database = Database(self.url, read_only=True).open()
            try:
                version = schema_version(database)
                refuse_newer(database, version)
                if version < latest_version():
                    raise StorageError(
                        f"database schema is version {version}, this program reads {latest_version()};"
                        " start the engine once, it migrates"
                    )
            except BaseException:
                database.close()
                raise
            self._local.database = database
        return database

    def close(self) -> None:
        """Close the connection of this thread."""
        database: Database | None = getattr(self._local, "database", None)
        self._local.database = None
        if database is not None:
            database.close()

    # -- orders ------------------------------------------------------------------------------------------------------

    def orders(self, bracket_id: str | None = None) -> list[OrderRow]:
        """Return every order with the nine fields, in the order in which their brackets opened."""
        where, values = ("WHERE o.bracket_id = ?", (bracket_id,)) if bracket_id is not None else ("", ())
        names = ", ".join(f"o.{name.strip()}" for name in _NINE_COLUMNS.split(","))
        rows = self._query(
            f"SELECT {names} FROM execution_orders o JOIN brackets b ON b.bracket_id = o.bracket_id {where}"
            " ORDER BY b.opened_ns, o.bracket_id, CASE WHEN o.parent_id IS NULL THEN 0 ELSE 1 END, o.row_id",
            values,
        )
        return [OrderRow(**dict(zip(_NINE, row, strict=True))) for row in rows]

    def orders_full(self, bracket_id: str | None = None) -> list[dict[str, Any]]:
        """Return every order with every column of `execution_orders`."""
        where, values = ("WHERE bracket_id = ?", (bracket_id,)) if bracket_id is not None else ("", ())
        rows = self._query(
            f"SELECT {', '.join(_ORDER_COLUMNS)} FROM execution_orders {where}"
            " ORDER BY bracket_id, CASE WHEN parent_id IS NULL THEN 0 ELSE 1 END, row_id",
            values,
        )
        return [dict(zip(_ORDER_COLUMNS, row, strict=True)) for row in rows]

    def status_counts(self) -> dict[str, int]:
        """Return how many orders have each status."""
        return dict(self._query("SELECT status, count(*) FROM execution_orders GROUP BY status"))

    # -- brackets ----------------------------------------------------------------------------------------------------

    def brackets(
        self, limit: int = 100, phase: str | None = None, before: str | None = None, live: bool = False
    ) -> list[dict[str, Any]]:
        """Return brackets, newest first: at most `limit`, of one phase, opened before another, not over yet."""
        terms: list[str] = []
        values: list[Any] = []
        if phase is not None:
            terms.append("phase = ?")
            values.append(phase)
        if live:
            terms.append(f"phase NOT IN ({', '.join('?' * len(FINAL_PHASES))})")
            values += FINAL_PHASES
        if before is not None:
            found = self._query("SELECT opened_ns FROM brackets WHERE bracket_id = ?", (before,))
            opened = found[0][0] if found else 0
            terms.append("(opened_ns < ? OR (opened_ns = ? AND bracket_id < ?))")
            values += [opened, opened, before]
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        rows = self._query(
            f"SELECT {', '.join(_BRACKET_COLUMNS)} FROM brackets {where} {NEWEST_FIRST} LIMIT ?",
            (*values, _page(limit)),
        )
        return [dict(zip(_BRACKET_COLUMNS, row, strict=True)) for row in rows]

    def bracket_counts(self) -> dict[str, int]:
        """Return how many brackets are in each phase."""
        return dict(self._query("SELECT phase, count(*) FROM brackets GROUP BY phase"))

    def bracket(self, bracket_id: str) -> dict[str, Any] | None:
        """Return the whole story of one bracket, or None: its row, definition, orders, fills, trails and events."""
        self._database().begin_reading()
        try:
            return self._story(bracket_id)
        finally:
            self._database().rollback()

    def _story(self, bracket_id: str) -> dict[str, Any] | None:
        rows = self._query(
            f"SELECT {', '.join(_BRACKET_COLUMNS)}, definition FROM brackets WHERE bracket_id = ?", (bracket_id,)
        )
        if not rows:
            return None
        story: dict[str, Any] = dict(zip(_BRACKET_COLUMNS, rows[0][:-1], strict=True))
        story["definition"] = msgspec.json.decode(rows[0][-1])
        story["orders"] = self.orders_full(bracket_id)
        story["fills"] = self.fills(bracket_id)
        names = ", ".join(_TRAIL_COLUMNS)
        trails = self._query(f"SELECT {names} FROM trails WHERE bracket_id = ? ORDER BY row_id", (bracket_id,))
        story["trails"] = [dict(zip(_TRAIL_COLUMNS, row, strict=True)) for row in trails]
        names = ", ".join(_EVENT_COLUMNS)
        events = self._query(f"SELECT {names} FROM events WHERE bracket_id = ? ORDER BY bracket_seq", (bracket_id,))
        story["events"] = [
            {**dict(zip(_EVENT_COLUMNS, row, strict=True)), "payload": msgspec.json.decode(row[5])} for row in events
        ]
        return story

    def fills(self, bracket_id: str | None = None, order_id: str | None = None) -> list[dict[str, Any]]:
        """Return executions in the order of their time, of one bracket or one order (orderRef) if asked."""
        asked = {"bracket_id": bracket_id, "order_id": order_id}
        terms = [f"{name} = ?" for name, value in asked.items() if value is not None]
        values = [value for value in asked.values() if value is not None]
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        rows = self._query(
            f"SELECT {', '.join(_FILL_COLUMNS)} FROM fills {where} ORDER BY timestamp, execution_id", values
        )
        return [dict(zip(_FILL_COLUMNS, row, strict=True)) for row in rows]

    # -- the rest ------------------------------------------------------------------------------------------------------

    def positions(self) -> list[dict[str, Any]]:
        """Return where each strategy stands in each contract, flat ones too."""
        rows = self._query(
            f"SELECT {', '.join(_POSITION_COLUMNS)} FROM positions_current ORDER BY account, instrument, strategy_id"
        )
        found = [dict(zip(_POSITION_COLUMNS, row, strict=True)) for row in rows]
        for row in found:
            row["risk_tags"] = msgspec.json.decode(row["risk_tags"])
        return found

    def denials(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest refused intents, newest first."""
        return self._newest(models.Denials, limit)

    def incidents(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest incidents, newest first."""
        return self._newest(models.Incidents, limit)

    def _newest(self, model: type[models.Table], limit: int) -> list[dict[str, Any]]:
        names = models.columns(model)
        rows = self._query(
            f"SELECT {', '.join(names)} FROM {models.table_name(model)} ORDER BY seq DESC LIMIT ?", (_page(limit),)
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def last_seq(self) -> int:
        """Return the number of the newest event; 0 when there is none."""
        return int(self._query("SELECT coalesce(max(seq), 0) FROM events")[0][0])

    def events_after(self, seq: int, limit: int = LARGEST_PAGE) -> list[StoredEvent]:
        """Return the events after a sequence number, in order: where a stream that lost some picks up again."""
        rows = self._query(
            f"SELECT {', '.join(_EVENT_COLUMNS)} FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (seq, _page(limit))
        )
        return [
            StoredEvent(
                seq=row[0],
                key=row[1],
                bracket_id=row[2],
                bracket_seq=row[3],
                type=row[4],
                payload=msgspec.Raw(row[5].encode()),
                reason=row[6],
                ts_ns=row[7],
            )
            for row in rows
        ]


def _page(limit: int) -> int:
    return max(1, min(limit, LARGEST_PAGE))
