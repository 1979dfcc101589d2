"""The writer thread: nothing acknowledged before it is committed, nothing dropped, trouble said once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from messages.ledger import BracketMoved, BracketOpened, PositionChanged, TrailMoved
from messages.registry import decode
from storage.database import Database
from storage.journal import BracketBatch, Journal, Opened, Recovered, Trouble, Unreadable
from storage.projections import dump
from storage.reader import Reader
from storage.store import Entry, Group, Store
from tests import builders as b
from tests.storage import postgres
from tests.storage.conftest import fresh_url
from tests.storage.desk import Desk, entry, opened

pytestmark = pytest.mark.integration

NOW = b.NOW_NS


def moved(bracket_id: str, phase: str) -> BracketMoved:
    return BracketMoved(
        bracket_id=bracket_id, phase=phase, reason="", open_qty=Decimal(0), entry_filled=Decimal(0),
        exit_filled=Decimal(0), ts_ns=NOW,
    )


def keys_on_disk(url: str) -> list[str]:
    database = Database(url, read_only=True).open()
    try:
        return [row[0] for row in database.execute("SELECT key FROM events ORDER BY seq")]
    finally:
        database.close()


def test_what_is_acknowledged_is_on_the_disk_for_everybody_in_order(desk: Desk, url: str) -> None:
    desk.keep(*(Entry(f"k{i}", f"B{i % 3}-x", b.fill(), i, token=i) for i in range(2_000)))
    assert [done.token for done in desk.done] == list(range(2_000))
    assert keys_on_disk(url) == [f"k{i}" for i in range(2_000)]
    rows = [row for group in desk.of(Group) for row in group.rows]
    assert [row[0] for row in rows] == list(range(1, 2_001))
    reader = Reader(url)
    assert [event.bracket_seq for event in reader.events_after(0) if event.bracket_id == "B1-x"] == list(range(1, 334))
    reader.close()


def test_records_that_wait_together_are_committed_together(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(group=100)
    assert desk.epoch == 1
    desk.keep(*(Entry(f"k{i}", None, b.fill(), i) for i in range(1_000)))
    groups = desk.of(Group)
    assert sum(len(group.done) for group in groups) == 1_000
    assert max(len(group.done) for group in groups) <= 100
    assert len(groups) < 500, "hardly anything was grouped"


def test_the_same_key_is_kept_once_and_acknowledged_each_time(desk: Desk, url: str) -> None:
    first = opened(b.definition())
    desk.keep(first)
    desk.keep(first, b.fill(exec_id="e1"))
    desk.keep(first)
    assert [done.key for done in desk.done] == ["open:B1-test", "open:B1-test", "exec:e1:1", "open:B1-test"]
    assert keys_on_disk(url) == ["open:B1-test", "exec:e1:1"]
    assert not desk.refused


def test_a_signal_has_one_bracket_and_a_bracket_one_signal(desk: Desk, url: str) -> None:
    desk.keep(opened(b.definition("B1-a", signal_id="s1")))
    desk.keep(
        opened(b.definition("B2-a", signal_id="s1")),
        opened(b.definition("B1-a", signal_id="s2")),
        opened(b.definition("B3-a", signal_id="s3")),
        opened(b.definition("B4-a", signal_id="s3")),
    )
    assert [(refusal.entry.key, refusal.code) for refusal in desk.refused] == [
        ("open:B2-a", "duplicate_signal"), ("open:B1-a", "duplicate_bracket"), ("open:B4-a", "duplicate_signal"),
    ]
    assert "B3-a" in desk.refused[2].reason
    assert keys_on_disk(url) == ["open:B1-a", "open:B3-a"]


HUGE = Decimal("1e999999")


@pytest.mark.parametrize(
    "poison",
    [
        Entry("bad", None, b.fill(perm_id=2**70), NOW),
        Entry("bad", None, b.fill(price=HUGE), NOW),
        Entry("bad", None, b.fill(strategy="\ud800"), NOW),
        Entry("bad", None, b.fill(), 2**80),
        Entry("bad", None, b.fill(quantity=Decimal("NaN")), NOW),
    ],
    ids=["integer beyond 64 bits", "huge exponent", "half a surrogate pair", "time beyond 64 bits", "NaN"],
)
def test_a_record_that_cannot_be_stored_holds_up_no_other(desk: Desk, url: str, poison: Entry) -> None:
    good = [Entry(f"k{i}", None, b.fill(exec_id=f"e{i}"), i) for i in range(20)]
    desk.keep(*good[:10], poison, *good[10:])
    assert sorted(done.key for done in desk.done) == sorted(record.key for record in good)
    assert [(refusal.entry.key, refusal.code) for refusal in desk.refused] == [("bad", "unstorable")]
    database = Database(url, read_only=True).open()
    found = dump(database)
    database.close()
    assert len(found["fills"]) == 20
    (incident,) = found["incidents"]
    assert "OrderFilled(" in incident[3]
    assert "could not be stored" in incident[3]
    assert not desk.of(Trouble)


def test_words_of_the_venue_with_nul_in_them_are_kept_readable(desk: Desk, url: str) -> None:
    desk.keep(Entry("k", "B1-test", moved("B1-test", "FROZEN"), NOW, "he said \x00"))
    assert not desk.refused
    reader = Reader(url)
    assert reader.events_after(0)[0].reason == "he said \ufffd"
    reader.close()


def test_each_start_is_a_new_epoch(make_desk: Callable[..., Desk], url: str) -> None:
    for epoch in (1, 2, 3):
        desk = make_desk()
        assert desk.epoch == epoch
        desk.close()
    database = Database(url, read_only=True).open()
    holder = f"{os.uname().nodename}:{os.getpid()}"
    assert database.execute("SELECT name, epoch, holder FROM lease") == [("writer", 3, holder)]
    database.close()


def test_ids_are_reserved_in_blocks_that_never_overlap(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    assert desk.ask(lambda store: store.reserve("orders", 1_000)) == (1, 1_000)
    assert desk.ask(lambda store: store.reserve("orders", 1_000)) == (1_001, 2_000)
    assert desk.ask(lambda store: store.reserve("brackets", 1_000)) == (1, 1_000)
    desk.close()
    desk = make_desk()
    assert desk.ask(lambda store: store.reserve("orders", 1_000, at_least=5_000)) == (5_001, 6_000)
    assert desk.ask(lambda store: store.reserve("orders", 10, at_least=7)) == (6_001, 6_010)
    with pytest.raises(AssertionError, match="id block 'orders'"):
        desk.ask(lambda store: store.reserve("orders", 0))


def test_only_brackets_that_are_not_over_are_loaded_oldest_first(desk: Desk) -> None:
    phases = ["ENTERING", "CLOSED", "DETACHED", "DENIED", "FROZEN", None]
    for number, phase in enumerate(phases):
        desk.keep(opened(b.definition(f"B{number}-x", signal_id=f"s{number}", opened_ns=NOW - number)))
        if phase:
            desk.keep(moved(f"B{number}-x", phase))
    desk.keep(b.fill("B0-x.entry", exec_id="e1"), b.fill("B5-x.entry", exec_id="e2"))
    loaded = desk.load()
    assert [bracket.definition.bracket_id for bracket in loaded] == ["B5-x", "B4-x", "B0-x"]
    assert loaded[2].definition == b.definition("B0-x", signal_id="s0", opened_ns=NOW)
    assert [b'"type":"BracketMoved"' in loaded[2].events[0], b'"exec_id":"e1"' in loaded[2].events[1]] == [True, True]
    assert desk.ask(lambda store: store.signals()).keys() == {f"s{number}" for number in range(6)}


def test_a_bracket_that_cannot_be_read_hides_no_other_and_is_told(desk: Desk, url: str) -> None:
    desk.keep(*(opened(b.definition(f"B{i}-x", signal_id=f"s{i}", opened_ns=NOW + i)) for i in range(3)))
    database = Database(url).open()
    database.execute("UPDATE brackets SET definition = '{}' WHERE bracket_id = 'B1-x'")
    database.close()
    assert [bracket.definition.bracket_id for bracket in desk.load()] == ["B0-x", "B2-x"]
    assert [found.bracket_id for found in desk.of(Unreadable)] == ["B1-x"]
    assert desk.ask(lambda store: store.stored_brackets(["B1-x"])) == []
    desk.wait(lambda: len(desk.of(Unreadable)) == 2, "Unreadable")
    assert not desk.of(Trouble)


def test_many_brackets_are_loaded_in_modest_messages(desk: Desk) -> None:
    openings = [opened(b.definition(f"B{i}-x", signal_id=f"s{i}", opened_ns=NOW + i)) for i in range(450)]
    desk.keep(*openings)
    assert [bracket.definition for bracket in desk.load()] == [event.definition for event in openings]
    sizes = [len(batch.brackets) for batch in desk.of(BracketBatch)]
    assert max(sizes) <= 200
    assert [batch.last for batch in desk.of(BracketBatch)] == [False] * (len(sizes) - 1) + [True]


def test_positions_come_back_as_they_went_in(desk: Desk) -> None:
    def position(exec_id: str, quantity: str, ts_ns: int = NOW) -> PositionChanged:
        return PositionChanged(
            account="DU1", conid=7, instrument="AAPL", strategy="x", exec_id=exec_id, quantity=Decimal(quantity),
            avg_price=Decimal("100.25"), realized_pnl=Decimal("-3.5"), multiplier=Decimal(1), risk_tags=("a", "b"),
            ts_ns=ts_ns,
        )

    day = 86_400 * b.SECOND
    desk.keep(position("long ago", "1", NOW - 9 * day), position("e1", "2", NOW - 2 * day), position("e2", "-3"))
    positions, exec_ids = desk.ask(lambda store: store.positions())
    assert positions == (position("e2", "-3"),)
    assert exec_ids == ("e1", "e2")


# -- trouble ---------------------------------------------------------------------------------------------------------


def test_a_locked_database_is_reported_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT_MS", 20)
    url = f"sqlite:///{tmp_path / 'x.db'}"
    desk = Desk(url)
    assert desk.epoch == 1
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    desk.append(*(Entry(f"k{i}", None, b.fill(), i) for i in range(100)))
    desk.wait(lambda: desk.of(Trouble), "Trouble")
    time.sleep(0.2)  # several attempts more
    desk.outcomes += desk.journal.collect()
    assert not desk.done
    assert desk.journal.waiting == 100
    other.execute("ROLLBACK")
    other.close()
    desk.wait(lambda: len(desk.done) == 100, "the acknowledgements")
    desk.close()
    assert (len(desk.of(Trouble)), len(desk.of(Recovered))) == (1, 1)
    assert "locked" in desk.of(Trouble)[0].reason
    assert keys_on_disk(url) == [f"k{i}" for i in range(100)]


def test_a_full_disk_is_reported_and_outlived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    full = threading.Event()
    whole = Database.open

    def small(self: Database) -> Database:
        found = whole(self)
        if full.is_set() and not self.read_only:
            self.execute("PRAGMA max_page_count = 1")  # SQLite's own "database or disk is full"
        return found

    monkeypatch.setattr(Database, "open", small)
    full.set()
    desk = Desk(url)
    desk.wait(lambda: desk.of(Trouble), "Trouble")
    assert "full" in desk.of(Trouble)[0].reason
    desk.append(opened(b.definition()))
    full.clear()
    desk.wait(lambda: desk.done, "the acknowledgement")
    assert desk.of(Recovered)
    desk.close()


def test_a_failure_in_the_middle_of_a_group_leaves_nothing_of_it(
    desk: Desk, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.epoch == 1
    commit, failures = Database.commit, [OSError("No space left on device")] * 3

    def failing(self: Database) -> None:
        if failures and not self.read_only:
            assert keys_on_disk(url) == []
            raise failures.pop()
        commit(self)

    monkeypatch.setattr(Database, "commit", failing)
    desk.keep(opened(b.definition()), b.fill(exec_id="e1"))
    assert not failures
    assert len(desk.of(Trouble)) == len(desk.of(Recovered)) == 1
    assert keys_on_disk(url) == ["open:B1-test", "exec:e1:1"]


def test_a_commit_whose_answer_was_lost_is_not_repeated(desk: Desk, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.epoch == 1
    commit, lost = Database.commit, [True]

    def deaf(self: Database) -> None:
        commit(self)
        if lost:
            lost.pop()
            raise OSError("server closed the connection unexpectedly")

    monkeypatch.setattr(Database, "commit", deaf)
    desk.keep(opened(b.definition()), b.fill(exec_id="e1"))
    assert [done.key for done in desk.done] == ["open:B1-test", "exec:e1:1"]
    assert keys_on_disk(url) == ["open:B1-test", "exec:e1:1"]


def test_a_cut_connection_is_opened_again() -> None:
    server = postgres.server()
    desk = Desk(server.url())
    desk.keep(*(Entry(f"a{i}", "B1-x", b.fill(), i) for i in range(10)))
    server.disconnect_all()
    desk.keep(*(Entry(f"b{i}", "B1-x", b.fill(), i) for i in range(10)))
    server.disconnect_all()
    assert len(desk.load()) == 0
    desk.close()
    assert (len(desk.of(Trouble)), len(desk.of(Recovered)), len(desk.of(Opened))) == (2, 2, 1)
    assert keys_on_disk(desk.journal.url) == [f"{letter}{i}" for letter in "ab" for i in range(10)]


def test_a_later_schema_is_final_trouble(kind: str, tmp_path: Path) -> None:
    url = fresh_url(kind, tmp_path)
    Desk(url).close()
    database = Database(url).open()
    database.execute("INSERT INTO schema_versions VALUES (99, 'later', 0)")
    database.close()
    desk = Desk(url)
    desk.wait(lambda: desk.of(Trouble), "Trouble")
    (trouble,) = desk.of(Trouble)
    assert trouble.final
    assert "version 99" in trouble.reason
    desk.close()


def test_two_writers_at_once_keep_one_order(make_desk: Callable[..., Desk], url: str) -> None:
    """An old ledger may still be writing what it took while its successor starts."""
    desks = [make_desk(), make_desk()]
    for round_ in range(20):
        for number, desk in enumerate(desks):
            desk.append(*(Entry(f"{number}.{round_}.{i}", "B1-x", b.fill(), i) for i in range(5)))
    for desk in desks:
        desk.wait(lambda desk=desk: len(desk.done) == 100, "100 acknowledgements")
        assert not desk.refused
    reader = Reader(url)
    events = reader.events_after(0)
    reader.close()
    assert [event.seq for event in events] == list(range(1, 201))
    assert [event.bracket_seq for event in events] == list(range(1, 201))


def test_closing_commits_what_waits(desk: Desk, url: str) -> None:
    desk.append(*(Entry(f"k{i}", None, b.fill(), i) for i in range(3_000)))
    desk.close()
    assert len(keys_on_disk(url)) == 3_000


def test_a_journal_that_cannot_write_still_ends(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    journal = Journal(f"sqlite:///{tmp_path / 'folder'}", time.time_ns)
    journal.start()
    journal.append(Entry("k", None, b.fill(), 1))
    assert journal.close(0.05)
    assert journal.waiting == 1


def test_overload_is_said_and_ends(tmp_path: Path) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'x.db'}", time.time_ns, limit=5)
    for i in range(5):
        assert not journal.overloaded
        journal.append(Entry(f"k{i}", None, b.fill(), i))
    assert journal.overloaded
    journal.start()
    deadline = time.monotonic() + 45
    while journal.overloaded and time.monotonic() < deadline:
        journal.collect()
    assert not journal.overloaded
    journal.close()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counts descriptors in /proc")
    Desk(f"sqlite:///{tmp_path / 'warm.db'}").close()
    before = descriptors()
    for number in range(5):
        desk = Desk(f"sqlite:///{tmp_path / f'{number}.db'}")
        desk.keep(opened(b.definition()))
        desk.close()
    assert descriptors() <= before


def test_no_database_call_happens_on_the_callers_thread(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    watched: dict[str, Any] = {}
    for name in ("append", "signals", "open_brackets", "stored_brackets", "positions", "reserve"):
        watched[name] = getattr(Store, name)

        def noted(self: Store, *args: Any, name: str = name) -> Any:
            seen.add(f"{name} on {threading.current_thread().name}")
            return watched[name](self, *args)

        monkeypatch.setattr(Store, name, noted)
    desk.keep(opened(b.definition()))
    desk.load()
    desk.ask(lambda store: (store.signals(), store.positions(), store.reserve("x", 1)))
    assert seen == {f"{name} on journal" for name in watched}


def test_entries_are_wrapped_as_the_ledger_does() -> None:
    assert isinstance(opened(b.definition()), BracketOpened)
    assert entry(b.fill(exec_id="e1")).key == "exec:e1:1"


def test_a_story_too_long_for_a_message_loses_only_old_marks_of_its_trail(desk: Desk) -> None:
    def mark(number: int) -> TrailMoved:
        return TrailMoved(
            bracket_id="B1-test", row_id="B1-test.trail", high_water=Decimal(100 + number), stop=Decimal(number),
            ratchets=number, ts_ns=NOW,
        )

    fill = b.fill(exec_id="e1")
    marks = [Entry(f"m{i}", "B1-test", mark(i), NOW) for i in range(4_000)]
    desk.keep(opened(b.definition()), *marks[:10], fill, *marks[10:])
    (bracket,) = desk.load()
    found = [decode(name, payload) for payload in bracket.events for name in [msgspec.json.decode(payload)["type"]]]
    assert found == [fill, *(mark(i) for i in range(3_950, 4_000))]
