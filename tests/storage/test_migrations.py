"""Schemas move forward only: an older database is migrated, a later one refused in one sentence."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage import models
from storage.database import (
    Database,
    StorageError,
    is_transient,
    latest_version,
    migrate,
    migrations,
    open_database,
    parse_url,
    redacted,
    schema_version,
)
from storage.reader import Reader
from tests.builders import NOW_NS
from tests.storage import postgres
from tests.storage.conftest import fresh_url

pytestmark = pytest.mark.integration

NEXT = SimpleNamespace(
    VERSION=2, NAME="notes", statements=lambda postgres: ("ALTER TABLE brackets ADD COLUMN note TEXT",)
)
BROKEN = SimpleNamespace(
    VERSION=2, NAME="broken",
    statements=lambda postgres: ("CREATE TABLE half (x BIGINT)", "ALTER TABLE nowhere ADD COLUMN note TEXT"),
)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> str:
    return fresh_url(kind, tmp_path)


def columns_of(database: Database, table: str) -> list[str]:
    if database.postgres:
        sql = "SELECT column_name FROM information_schema.columns WHERE table_name = ? ORDER BY ordinal_position"
        return [row[0] for row in database.execute(sql, (table,))]
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def test_the_models_are_the_migrated_schema(database: Database) -> None:
    for model in models.TABLES:
        assert columns_of(database, models.table_name(model)) == list(models.columns(model)), model


def test_every_column_of_the_models_agrees_on_null_and_type(database: Database, kind: str) -> None:
    if kind != "sqlite":
        names = "table_name, column_name, is_nullable, data_type"
        rows = database.execute(f"SELECT {names} FROM information_schema.columns")
        found = {(table, column): (null == "YES", type_ != "text") for table, column, null, type_ in rows}
    else:
        found = {
            (models.table_name(model), row[1]): (not row[3], "INT" in row[2])
            for model in models.TABLES
            for row in database.execute(f"PRAGMA table_info({models.table_name(model)})")
        }
    for model in models.TABLES:
        integers = models.integer_columns(model)
        for name, field in model._meta.fields.items():
            null, integer = found[models.table_name(model), name]
            assert (null, integer) == (bool(field.null), name in integers), (model, name)


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [step.VERSION for step in migrations()] == list(range(1, latest_version() + 1))


def test_opening_twice_migrates_once(url: str) -> None:
    for _ in range(2):
        database = open_database(url, NOW_NS)
        assert database.execute("SELECT version, name, applied_ns FROM schema_versions") == [(1, "initial", NOW_NS)]
        database.close()


def test_an_older_database_is_migrated_and_keeps_what_it_has(database: Database) -> None:
    database.execute("INSERT INTO id_blocks VALUES ('orders', 5)")
    assert migrate(database, NOW_NS + 1, [*migrations(), NEXT]) == 2
    assert columns_of(database, "brackets")[-1] == "note"
    assert database.execute("SELECT * FROM id_blocks") == [("orders", 5)]
    assert migrate(database, NOW_NS + 2, [*migrations(), NEXT]) == 2 if latest_version() >= 2 else True


def test_a_migration_that_fails_half_way_leaves_no_trace(database: Database) -> None:
    with pytest.raises(Exception, match="nowhere"):
        migrate(database, NOW_NS, [*migrations(), BROKEN])
    assert schema_version(database) == 1
    assert columns_of(database, "half") == []


def test_a_later_database_is_refused_in_one_sentence(database: Database, url: str) -> None:
    database.execute("INSERT INTO schema_versions VALUES (7, 'later', 0)")
    for refuse in (lambda: open_database(url, NOW_NS), Reader(url).last_seq):
        with pytest.raises(StorageError) as caught:
            refuse()
        assert "version 7, this program knows up to 1" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_reader_before_the_first_start_says_so(url: str, kind: str) -> None:
    with pytest.raises(StorageError, match="start" if kind == "sqlite" else "version 0"):
        Reader(url).last_seq()


def test_a_reader_cannot_write(database: Database, url: str) -> None:
    reading = Database(url, read_only=True).open()
    with pytest.raises(Exception, match=r"(?i)read-?only"):
        reading.execute("INSERT INTO id_blocks VALUES ('x', 1)")
    reading.close()


def test_sqlite_is_durable(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'new' / 'x.db'}", NOW_NS)
    found = {name: database.execute(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "busy_timeout")}
    database.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 2_000}
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("sqlite:////var/lib/x.db", (False, "/var/lib/x.db")),
        ("sqlite:///x.db", (False, "x.db")),
        ("sqlite:///a%20b/x.db", (False, "a b/x.db")),
        ("postgresql://u:p@h:5/d?x=1", (True, "postgresql://u:p@h:5/d?x=1")),
        ("postgres://h/d", (True, "postgresql://h/d")),
    ],
)
def test_urls(url: str, found: tuple[bool, str]) -> None:
    assert parse_url(url) == found


@pytest.mark.parametrize("url", ["mysql://h/d", "x.db", "", "sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_other_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(StorageError, match="database url"):
        parse_url(url)


def test_a_password_never_reaches_a_log() -> None:
    assert redacted("postgresql://me:secret@host:5/d") == "postgresql://me:***@host:5/d"
    assert redacted("postgresql://h/d?user=me&password=secret") == "postgresql://h/d?user=me&password=***"
    assert redacted("sqlite:///a/b.db") == "sqlite:///a/b.db"


def test_postgresql_is_durable_and_keeps_the_options_of_its_url() -> None:
    url = postgres.server().url()
    database = Database(f"{url}&options=-c%20work_mem%3D5MB").open()
    found = [database.execute(f"SHOW {name}")[0][0] for name in ("synchronous_commit", "fsync", "work_mem")]
    database.close()
    assert found == ["on", "on", "5MB"]


def test_trouble_with_the_database_is_told_from_trouble_with_the_record(database: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)nowhere") as caught:
        database.execute("SELECT 1 FROM nowhere")
    assert is_transient(caught.value)
    database.execute("INSERT INTO id_blocks VALUES ('x', 1)")
    with pytest.raises(Exception, match=r"(?i)unique") as caught:
        database.execute("INSERT INTO id_blocks VALUES ('x', 1)")
    assert not is_transient(caught.value)


def test_without_a_server_the_tests_say_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(postgres.URL_VARIABLE, raising=False)
    with pytest.raises(postgres.NoPostgres, match=postgres.WHEEL):
        postgres.start(list)
    monkeypatch.setattr(postgres, "shared", lambda: postgres.NoPostgres("none"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no PostgreSQL"):
        postgres.server()
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no PostgreSQL"):
        postgres.server()
