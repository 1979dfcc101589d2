"""A connection to SQLite or PostgreSQL: opened by one URL, migrated forward, spoken to in one dialect.

Law: everything in which the two databases differ is in this file and in migrations/. peewee owns the connection; rows
go in by the hundred through its cursor, because a model instance costs more than the row it writes.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import peewee
import psycopg2
from psycopg2.extras import execute_values

import storage.migrations

Row = tuple[Any, ...]

POSTGRES_SCHEMES = ("postgresql", "postgres")
BUSY_TIMEOUT_MS = 2_000
LOCK_WAIT_MS = 10_000
PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "tcp_user_timeout": 10_000,
}
"""How long a PostgreSQL that is gone is taken for one that is slow: seconds, and milliseconds in the last."""
VARIABLES = 500
"""Values in one IN (...): SQLite before 3.32 takes 999 variables."""
PAGE = 500
"""Rows in one INSERT of PostgreSQL."""
WRITER_LOCK = 0x627261636B  # "brack": PostgreSQL's advisory lock that puts writers in a queue

TRANSIENT: tuple[type[BaseException], ...] = (
    peewee.OperationalError,
    peewee.InterfaceError,
    peewee.InternalError,
    peewee.ProgrammingError,
    peewee.NotSupportedError,
    sqlite3.OperationalError,
    sqlite3.InterfaceError,
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    psycopg2.InternalError,
    psycopg2.ProgrammingError,
    psycopg2.NotSupportedError,
    OSError,
)
"""Trouble with the database and not with what is written: the same words may be accepted later."""


class StorageError(Exception):
    """One sentence on why this database cannot be used at all."""


def is_transient(problem: BaseException) -> bool:
    """Whether an error lies with the database, so that trying again may help.

    A plain DatabaseError (a malformed file) is the database's fault; IntegrityError and DataError are the record's.
    """
    if isinstance(problem, TRANSIENT):
        return True
    return type(problem) in (peewee.DatabaseError, sqlite3.DatabaseError, psycopg2.DatabaseError)


def parse_url(url: str) -> tuple[bool, str]:
    """Return (whether it is PostgreSQL, file name or libpq URI). Raises StorageError for any other URL.

    As elsewhere, three slashes begin a relative file name and four an absolute one.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        path = unquote(url.removeprefix("sqlite:///").partition("?")[0]) if url.startswith("sqlite:///") else ""
        if not path or path.endswith("/") or path == ":memory:":
            raise StorageError(f"database url {url!r}: names no file; write sqlite:///FILE, or sqlite:////ABSOLUTE/FILE")
        return False, path
    if parts.scheme in POSTGRES_SCHEMES:
        return True, "postgresql" + url[len(parts.scheme) :]
    raise StorageError(f"database url {url!r}: is neither sqlite:///FILE nor postgresql://...")


def redacted(url: str) -> str:
    """Return the URL without its password, fit for a log."""
    parts = urlsplit(url)
    if parts.scheme not in POSTGRES_SCHEMES:
        return url
    if parts.password:
        host = parts.netloc.rpartition("@")[2]
        parts = parts._replace(netloc=f"{quote(parts.username or '')}:***@{host}")
    query = [(name, "***" if name == "password" else value) for name, value in parse_qsl(parts.query)]
    return parts._replace(query=urlencode(query, safe="/*")).geturl()


class Database:
    """One connection and the few statements that storage needs, the same on both databases.

    A connection belongs to the thread and the process that opened it: open it where it is used.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.url = url
        self.read_only = read_only
        self.postgres, self.place = parse_url(url)
        self.peewee: Any = self._make()
        self._cursor: Any = None

    def _make(self) -> Any:
        if self.postgres:
            options = [value for name, value in parse_qsl(urlsplit(self.place).query) if name == "options"]
            options += ["-c synchronous_commit=on", "-c client_min_messages=warning", f"-c lock_timeout={LOCK_WAIT_MS}"]
            if self.read_only:
                options.append("-c default_transaction_read_only=on")
            return peewee.PostgresqlDatabase(self.place, options=" ".join(options), **PATIENCE)
        if self.read_only:
            name = f"file:{quote(os.path.abspath(self.place))}?mode=ro"
            return peewee.SqliteDatabase(name, pragmas={"busy_timeout": BUSY_TIMEOUT_MS}, uri=True)
        pragmas = {"busy_timeout": BUSY_TIMEOUT_MS, "journal_mode": "wal", "synchronous": "full"}
        return peewee.SqliteDatabase(self.place, pragmas=pragmas)

    def open(self) -> Database:
        """Connect in this thread. Raises peewee's OperationalError when that fails, StorageError for a missing file."""
        if not self.postgres:
            if self.read_only and not os.path.exists(self.place):
                raise StorageError(f"database {self.place}: there is no such file; the engine makes it at its start")
            if not self.read_only:
                os.makedirs(os.path.dirname(os.path.abspath(self.place)), mode=0o700, exist_ok=True)
        self.peewee.connect(reuse_if_open=True)
        self._cursor = self.peewee.cursor()
        return self

    def close(self) -> None:
        """Disconnect; quietly, if there is nothing to disconnect."""
        self._cursor = None
        try:
            self.peewee.close()
        except Exception:  # a broken connection may refuse even this
            self.peewee._state.reset()

    # -- statements ------------------------------------------------------------------------------------------------

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run one statement written with `?` and return its rows, if it has any."""
        if self.postgres:
            self._cursor.execute(sql.replace("?", "%s") if values else sql, tuple(values) or None)
        else:
            self._cursor.execute(sql, values)
        return self._cursor.fetchall() if self._cursor.description else []

    def select_in(
        self, table: str, columns: Sequence[str], key: str, values: Iterable[Any], more: str = ""
    ) -> list[Row]:
        """Select rows whose `key` is among `values`; `more` is appended to each statement."""
        wanted = list(values)
        if not wanted:
            return []
        names = ", ".join(columns)
        if self.postgres:
            return self.execute(f"SELECT {names} FROM {table} WHERE {key} = ANY(?) {more}", (wanted,))
        found: list[Row] = []
        for start in range(0, len(wanted), VARIABLES):
            part = wanted[start : start + VARIABLES]
            marks = ",".join("?" * len(part))
            found += self.execute(f"SELECT {names} FROM {table} WHERE {key} IN ({marks}) {more}", part)
        return found

    def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert rows; a conflict raises IntegrityError."""
        names = ", ".join(columns)
        if self.postgres:
            execute_values(self._cursor, f"INSERT INTO {table} ({names}) VALUES %s", rows, page_size=PAGE)
            return
        marks = ",".join("?" * len(columns))
        self._cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)

    def update_many(
        self, table: str, columns: Sequence[str], key: Sequence[str], rows: Sequence[Row], integers: frozenset[str]
    ) -> None:
        """Update rows by key; each row holds the values of `columns` and then those of `key`."""
        if self.postgres:
            # A column of NULLs alone would be text to PostgreSQL, so every value is cast.
            names = (*columns, *key)
            casts = ", ".join("%s::bigint" if name in integers else "%s::text" for name in names)
            changes = ", ".join(f"{name} = v.{name}" for name in columns)
            same = " AND ".join(f"{table}.{name} = v.{name}" for name in key)
            sql = f"UPDATE {table} SET {changes} FROM (VALUES %s) AS v ({', '.join(names)}) WHERE {same}"
            execute_values(self._cursor, sql, rows, template=f"({casts})", page_size=PAGE)
            return
        changes = ", ".join(f"{name} = ?" for name in columns)
        same = " AND ".join(f"{name} = ?" for name in key)
        self._cursor.executemany(f"UPDATE {table} SET {changes} WHERE {same}", rows)

    # -- transactions ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a transaction that writes. One at a time: the second writer waits here."""
        if self.postgres:
            self._cursor.execute("BEGIN")
            self._cursor.execute("SELECT pg_advisory_xact_lock(%s)", (WRITER_LOCK,))
        else:
            self._cursor.execute("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        """Start a transaction that sees one state of the database throughout."""
        self._cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if self.postgres else "BEGIN")

    def commit(self) -> None:
        """Make it durable. When this returns, it is on the disk."""
        self._cursor.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was not committed; quietly, if there is nothing or the connection is gone."""
        try:
            self._cursor.execute("ROLLBACK")
        except Exception:
            pass

    def in_transaction(self, work: Callable[[], None]) -> None:
        """Run `work` in one transaction."""
        self.begin()
        try:
            work()
            self.commit()
        except BaseException:
            self.rollback()
            raise


# -- migrations ------------------------------------------------------------------------------------------------------


def migrations() -> list[Any]:
    """Return the modules of storage/migrations in the order of their versions."""
    names = sorted(info.name for info in pkgutil.iter_modules(storage.migrations.__path__) if info.name.startswith("m"))
    return [importlib.import_module(f"storage.migrations.{name}") for name in names]


def schema_version(database: Database) -> int:
    """Return the version that a database is at; 0 for an empty one."""
    if database.postgres:
        known = database.execute("SELECT to_regclass('schema_versions') IS NOT NULL")[0][0]
    else:
        known = database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_versions'")
    if not known:
        return 0
    return int(database.execute("SELECT coalesce(max(version), 0) FROM schema_versions")[0][0])


def latest_version() -> int:
    """Return the version that this program writes."""
    return int(migrations()[-1].VERSION)


def refuse_newer(database: Database, version: int) -> None:
    """Raise StorageError for a database of a later program."""
    if version > latest_version():
        raise StorageError(
            f"database {redacted(database.url)}: its schema is version {version}, this program knows up to"
            f" {latest_version()}; use the newer program that wrote it"
        )


def migrate(database: Database, now_ns: int, steps: Sequence[Any] | None = None) -> int:
    """Bring a database to the latest schema and return its version. Each migration is one transaction.

    Raises StorageError for a database newer than this program.
    """
    refuse_newer(database, schema_version(database))

    def run() -> None:
        if schema_version(database) == 0:
            database.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions"
                " (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_ns BIGINT NOT NULL)"
            )
        if schema_version(database) >= step.VERSION:  # another process was faster
            return
        for statement in step.statements(database.postgres):
            database.execute(statement)
        database.execute("INSERT INTO schema_versions VALUES (?, ?, ?)", (step.VERSION, step.NAME, now_ns))

    for step in migrations() if steps is None else steps:
        if schema_version(database) < step.VERSION:
            database.in_transaction(run)
    return schema_version(database)


def open_database(url: str, now_ns: int) -> Database:
    """Open a database for writing, in this thread, at the latest schema. Raises StorageError or OperationalError."""
    database = Database(url).open()
    try:
        migrate(database, now_ns)
    except BaseException:
        database.close()
        raise
    return database
