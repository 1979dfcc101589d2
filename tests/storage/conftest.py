"""Every test that takes `url` runs on SQLite and on PostgreSQL, each time on a database of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage import models
from storage.database import Database, open_database
from storage.migrations import m0001_initial
from tests.builders import NOW_NS
from tests.storage import postgres
from tests.storage.desk import Desk


def fresh_url(kind: str, folder: Path) -> str:
    """Return the URL of a database without a table."""
    return f"sqlite:///{folder / 'bracketeer.db'}" if kind == "sqlite" else postgres.server().url()


@functools.cache
def _kept_url() -> str:
    return postgres.server().url()


def empty_url(kind: str, folder: Path) -> str:
    """Return the URL of a database without a row; PostgreSQL's is used again, because making one takes so long."""
    if kind == "sqlite":
        return fresh_url(kind, folder)
    database = open_database(_kept_url(), NOW_NS)
    clear(database)
    database.close()
    return database.url


def clear(database: Database) -> None:
    """Empty every table, which takes the rights of a database's owner to switch the guards of `events` off."""

    def work() -> None:
        if database.postgres:
            database.execute("ALTER TABLE events DISABLE TRIGGER events_append_only")
        else:
            for name in ("update", "delete", "replace"):
                database.execute(f"DROP TRIGGER events_no_{name}")
        for model in models.TABLES:
            if model is not models.SchemaVersions:
                database.execute(f"DELETE FROM {models.table_name(model)}")
        if database.postgres:
            database.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER events_append_only")
        else:
            for statement in m0001_initial.SQLITE:
                database.execute(statement)

    database.in_transaction(work)


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> str:
    return empty_url(kind, tmp_path)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    found = open_database(url, NOW_NS)
    yield found
    found.close()


@pytest.fixture
def make_desk(url: str) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(**options: int) -> Desk:
        made.append(Desk(url, **options))
        return made[-1]

    yield make
    for desk in made:
        desk.close()


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()
