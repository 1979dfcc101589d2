"""The database itself refuses to change what has happened, whoever asks it (003.A.3)."""

from __future__ import annotations

import pytest

from messages.orders import OrderState, OrderStatus
from storage.database import Database, is_transient
from storage.store import Entry, Store
from tests import builders as b
from tests.storage.desk import opened

pytestmark = [pytest.mark.integration, pytest.mark.compliance]

COLUMNS = "(seq, key, bracket_id, bracket_seq, type, payload, reason, ts_ns)"


@pytest.fixture
def kept(database: Database) -> Database:
    """A database with three events: two of one bracket, one of none."""
    store = Store(database)
    first = opened(b.definition("B1-test"))
    done = store.append(
        [
            Entry("open:B1-test", "B1-test", first, 1),
            Entry("fill", "B1-test", b.fill(), 2),
            Entry("loose", None, b.fill(), 3),
        ]
    )
    assert len(done.rows) == 3
    return database


EVERY_WAY = {
    "update": "UPDATE events SET reason = 'forged' WHERE seq = 1",
    "update of all": "UPDATE events SET ts_ns = 0",
    "delete": "DELETE FROM events WHERE seq = 2",
    "delete of all": "DELETE FROM events",
}
SQLITE_WAYS = {
    "replace by seq": f"REPLACE INTO events {COLUMNS} VALUES (1, 'new', NULL, NULL, 'x', '{{}}', '', 0)",
    "replace by key": f"REPLACE INTO events {COLUMNS} VALUES (9, 'loose', NULL, NULL, 'x', '{{}}', '', 0)",
    "replace by place": f"REPLACE INTO events {COLUMNS} VALUES (9, 'new', 'B1-test', 1, 'x', '{{}}', '', 0)",
    "insert or replace": f"INSERT OR REPLACE INTO events {COLUMNS} VALUES (1, 'n', NULL, NULL, 'x', '{{}}', '', 0)",
    "update or replace": "UPDATE OR REPLACE events SET seq = 2 WHERE seq = 1",
    "upsert": f"INSERT INTO events {COLUMNS} VALUES (1, 'n', NULL, NULL, 'x', '{{}}', '', 0)"
    " ON CONFLICT (seq) DO UPDATE SET reason = 'forged'",
}
POSTGRES_WAYS = {
    "truncate": "TRUNCATE events",
    "truncate cascade": "TRUNCATE events CASCADE",
    "delete of nothing": "DELETE FROM events WHERE seq = -1",
    "upsert": f"INSERT INTO events {COLUMNS} VALUES (1, 'n', NULL, NULL, 'x', '{{}}', '', 0)"
    " ON CONFLICT (seq) DO UPDATE SET reason = 'forged'",
    "update behind the triggers' back": "SET session_replication_role = replica; UPDATE events SET reason = 'forged'",
}


def everything(database: Database) -> list[tuple[object, ...]]:
    return database.execute(f"SELECT {COLUMNS[1:-1]} FROM events ORDER BY seq")


def test_no_statement_changes_an_event(kept: Database, kind: str) -> None:
    before = everything(kept)
    for way, statement in (EVERY_WAY | (SQLITE_WAYS if kind == "sqlite" else POSTGRES_WAYS)).items():
        with pytest.raises(Exception, match="append-only"):
            kept.execute(statement)
        kept.rollback()
        assert everything(kept) == before, way


def test_a_plain_insert_still_works(kept: Database) -> None:
    kept.execute(f"INSERT INTO events {COLUMNS} VALUES (4, 'new', NULL, NULL, 'x', '{{}}', '', 0)")
    assert [row[0] for row in everything(kept)] == [1, 2, 3, 4]


def test_only_known_words_are_stored(kept: Database) -> None:
    def store(column: str, value: object) -> None:
        kept.execute(f"UPDATE execution_orders SET {column} = ? WHERE row_id = ?", (value, "B1-test.entry"))

    for status in OrderStatus:
        store("status", str(status))
    for state in OrderState:
        store("state", str(state))
    wrong = [("status", "Active"), ("status", "working"), ("status", ""), ("status", None), ("state", "PENDING")]
    for column, value in [*wrong, ("state", None), ("action", "SELL_SHORT"), ("client_id", None)]:
        with pytest.raises(Exception, match=r"(?i)check|null") as caught:
            store(column, value)
        assert not is_transient(caught.value), (column, value)
