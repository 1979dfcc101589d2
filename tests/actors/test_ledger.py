"""The ledger actor, on both bases: it answers after the commit, and says when it cannot commit."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.host import EMBEDDED, ISOLATED, Host, ServiceSpec
from actors.ledger import Ledger
from messages.base import Message
from messages.ledger import (
    BracketMoved,
    LoadBrackets,
    LoadPositions,
    OpenBracket,
    PositionChanged,
    RecordEvent,
    ReserveIds,
)
from messages.session import DescribeService
from storage.database import StorageError, redacted
from storage.reader import Reader
from storage.store import Store
from tests import builders as b
from tests.actors.ledger_toys import Say
from tests.storage.conftest import empty_url

pytestmark = pytest.mark.integration

SERVICES = (
    ServiceSpec(name="ledger", actor="actors.ledger.Ledger"),
    ServiceSpec(name="router", actor="tests.actors.ledger_toys.Ear"),
    ServiceSpec(name="control", actor="tests.actors.ledger_toys.Ear"),
)


class Engine:
    """A host with the ledger and two ears."""

    def __init__(self, base: str, folder: Path, url: str = "") -> None:
        self.folder = folder
        settings = b.settings(system={"state_dir": str(folder), "log_level": "ERROR"}, database={"url": url})
        self.url = settings.database_url
        self.host = Host(settings, base=base)
        self.host.start(SERVICES)
        assert self.host.run_until(lambda: self.host.started is not None, 45), "the services did not start"

    def say(self, *messages: Message) -> None:
        self.host.tell(Say(messages=messages), "router")

    def heard(self, kind: str | None = None, by: str = "router") -> list[dict[str, Any]]:
        path = self.folder / f"heard-by-{by}"
        lines = path.read_bytes().splitlines() if path.exists() else []
        found = [msgspec.json.decode(line) for line in lines]
        return [event for event in found if kind is None or event["type"] == kind]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        came = self.host.run_until(lambda: bool(condition()), 45)
        assert came, f"{what}; heard {self.heard()} {self.heard(by='control')}"

    def events(self) -> list[str]:
        reader = Reader(self.url)
        try:
            return [event.key for event in reader.events_after(0)]
        except StorageError:  # the ledger has not made it yet
            return []
        finally:
            reader.close()


@pytest.fixture(
    params=[(EMBEDDED, "sqlite"), (ISOLATED, "sqlite"), (EMBEDDED, "postgresql"), (ISOLATED, "postgresql")],
    ids=["embedded", "isolated", "embedded on postgresql", "isolated on postgresql"],
)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    base, kind = request.param
    found = Engine(base, tmp_path, empty_url(kind, tmp_path))
    yield found
    found.host.stop()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Engine]:
    found = Engine(EMBEDDED, tmp_path)
    yield found
    found.host.stop()


def moved(bracket_id: str = "B1-test", phase: str = "CLOSED") -> BracketMoved:
    return BracketMoved(
        bracket_id=bracket_id, phase=phase, reason="", open_qty=Decimal(0), entry_filled=Decimal(0),
        exit_filled=Decimal(0), ts_ns=b.NOW_NS,
    )


def record(event: Message, key: str, *, durable: bool = False, bracket_id: str | None = "B1-test") -> RecordEvent:
    return RecordEvent(key=key, bracket_id=bracket_id, event=event, ts_ns=b.NOW_NS, reason="because", durable=durable)


def test_a_bracket_is_on_the_disk_before_it_is_acknowledged_and_twice_is_once(engine: Engine) -> None:
    definition = b.definition()
    engine.say(OpenBracket(definition=definition))
    engine.wait(lambda: engine.heard("BracketOpened"), "no BracketOpened")
    assert engine.events() == ["open:B1-test"]
    engine.say(OpenBracket(definition=definition))
    engine.wait(lambda: len(engine.heard("BracketOpened")) == 2, "no second BracketOpened")
    first, second = engine.heard("BracketOpened")
    assert first["bracket_id"] == second["bracket_id"] == "B1-test"
    assert [row["row_id"] for row in first["rows"]] == ["B1-test.entry", "B1-test.target", "B1-test.stop"]
    assert engine.events() == ["open:B1-test"]
    reader = Reader(engine.url)
    assert [order.status for order in reader.orders()] == ["pending"] * 3
    reader.close()


def test_a_second_bracket_for_a_signal_is_denied(engine: Engine) -> None:
    engine.say(OpenBracket(definition=b.definition("B1-a")), OpenBracket(definition=b.definition("B2-a")))
    engine.wait(lambda: engine.heard("IntentDenied"), "no IntentDenied")
    (denied,) = engine.heard("IntentDenied")
    assert (denied["bracket_id"], denied["signal_id"], denied["code"]) == ("B2-a", "sig-1", "duplicate_signal")
    assert engine.events() == ["open:B1-a"]


def test_records_are_kept_once_and_answered_only_when_asked(engine: Engine) -> None:
    first = b.fill(exec_id="e1")
    engine.say(
        record(moved(), "move:1"),
        record(moved(), "move:1"),
        first,
        first,
        b.corrected(first, 60),
        b.commission(first),
        record(moved(), "move:2", durable=True),
    )
    engine.wait(lambda: engine.heard("RecordCommitted"), "no RecordCommitted")
    assert engine.heard() == [{"type": "RecordCommitted", "key": "move:2"}]
    assert engine.events() == ["move:1", "exec:e1:1", "exec:e1:2", "fee:e1", "move:2"]
    reader = Reader(engine.url)
    (fill,) = reader.fills()
    assert (fill["quantity"], fill["revision"], fill["is_estimate"]) == ("60", 2, 0)
    assert reader.events_after(0)[0].reason == "because"
    reader.close()


def test_what_is_committed_is_told_to_control(engine: Engine) -> None:
    engine.say(OpenBracket(definition=b.definition()), b.fill(exec_id="e1"))
    rows: list[Any] = []

    def told() -> bool:
        rows[:] = [row for event in engine.heard("EventsCommitted", by="control") for row in event["rows"]]
        return len(rows) >= 2

    engine.wait(told, "no EventsCommitted")
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [
        (1, "open:B1-test", "B1-test", "BracketOpened"), (2, "exec:e1:1", "B1-test", "OrderFilled"),
    ]


def test_open_brackets_are_read_back_after_every_signal(engine: Engine) -> None:
    engine.say(
        *(OpenBracket(definition=b.definition(f"B{i}-x", signal_id=f"s{i}", opened_ns=b.NOW_NS + i)) for i in range(3)),
        record(moved("B1-x", "CLOSED"), "move:1", bracket_id="B1-x"),
        record(moved("B2-x", "PROTECTED"), "move:2", bracket_id="B2-x"),
        LoadBrackets(),
    )
    engine.wait(lambda: [event for event in engine.heard("BracketsLoaded") if event["last"]], "no last BracketsLoaded")
    kinds = [event["type"] for event in engine.heard() if event["type"] in ("SignalsLoaded", "BracketsLoaded")]
    assert kinds[0] == "SignalsLoaded"
    assert {signal: found[0] for signal, found in engine.heard("SignalsLoaded")[0]["signals"].items()} == {
        "s0": "B0-x", "s1": "B1-x", "s2": "B2-x",
    }
    loaded = [bracket for event in engine.heard("BracketsLoaded") for bracket in event["brackets"]]
    assert [(bracket["definition"]["bracket_id"], len(bracket["events"])) for bracket in loaded] == [
        ("B0-x", 0), ("B2-x", 1),
    ]


def test_positions_are_read_back(engine: Engine) -> None:
    position = PositionChanged(
        account="DU1", conid=7, instrument="AAPL", strategy="x", exec_id="e1", quantity=Decimal(5),
        avg_price=Decimal(100), realized_pnl=Decimal(0), multiplier=Decimal(1), risk_tags=(), ts_ns=b.NOW_NS,
    )
    engine.say(record(position, "pos:e1:1", bracket_id=None), LoadPositions())
    engine.wait(lambda: engine.heard("PositionsLoaded"), "no PositionsLoaded")
    (loaded,) = engine.heard("PositionsLoaded")
    assert loaded["exec_ids"] == ["e1"]
    assert (loaded["positions"][0]["quantity"], loaded["positions"][0]["strategy"]) == ("5", "x")


def test_id_blocks_are_handed_out(engine: Engine) -> None:
    engine.say(ReserveIds(name="orders"), ReserveIds(name="orders", count=10, at_least=5_000))
    engine.wait(lambda: len(engine.heard("IdsReserved")) == 2, "no IdsReserved")
    assert [(event["first"], event["last"]) for event in engine.heard("IdsReserved")] == [(1, 1_000), (5_001, 5_010)]


def test_it_describes_itself(engine: Engine) -> None:
    engine.say(record(moved(), "m", durable=True))
    engine.wait(lambda: engine.heard("RecordCommitted"), "no RecordCommitted")
    engine.say(DescribeService(correlation="c1"))
    engine.wait(lambda: engine.heard("ServiceDescribed"), "no ServiceDescribed")
    (described,) = engine.heard("ServiceDescribed")
    assert described["facts"] == {
        "database": redacted(engine.url), "epoch": 1, "waiting": 0, "committed": 1, "last_seq": 1, "trouble": "",
    }


def test_a_locked_database_is_told_to_router_and_control_and_so_is_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT_MS", 20)
    engine = Engine(EMBEDDED, tmp_path)
    try:
        engine.say(record(moved(), "first", durable=True))
        engine.wait(lambda: engine.heard("RecordCommitted"), "no RecordCommitted")
        other = sqlite3.connect(tmp_path / "bracketeer.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        engine.say(OpenBracket(definition=b.definition()), b.fill(exec_id="e1"))
        for ear in ("router", "control"):
            engine.wait(lambda ear=ear: engine.heard("LedgerFailed", by=ear), f"{ear} heard no LedgerFailed")
        assert not engine.heard("BracketOpened")
        other.execute("ROLLBACK")
        other.close()
        engine.wait(lambda: engine.heard("BracketOpened"), "no BracketOpened after the lock was gone")
        for ear in ("router", "control"):
            engine.wait(lambda ear=ear: engine.heard("LedgerRecovered", by=ear), f"{ear} heard no LedgerRecovered")
            assert len(engine.heard("LedgerFailed", by=ear)) == len(engine.heard("LedgerRecovered", by=ear)) == 1
        engine.wait(lambda: len(engine.events()) == 3, "the records that had waited are not on the disk")
    finally:
        engine.host.stop()


def test_a_database_that_says_nothing_at_all_counts_as_failed(
    embedded: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, append = threading.Event(), Store.append

    def hung(self: Store, entries: Any) -> Any:
        released.wait(20)
        return append(self, entries)

    monkeypatch.setattr(Store, "append", hung)
    monkeypatch.setattr(Ledger, "stall_seconds", 0.1)
    embedded.host.instance("ledger").start_timer("watchdog", 0.2)
    embedded.say(record(moved(), "m", durable=True))
    try:
        embedded.wait(lambda: embedded.heard("LedgerFailed"), "no LedgerFailed")
        assert "no commit for" in embedded.heard("LedgerFailed")[0]["reason"]
    finally:
        released.set()
    embedded.wait(lambda: embedded.heard("LedgerRecovered"), "no LedgerRecovered")
    assert embedded.heard("RecordCommitted")


def test_with_too_much_waiting_no_bracket_is_opened_but_fills_are_taken(embedded: Engine) -> None:
    journal = embedded.host.instance("ledger").journal
    journal.limit = 0
    embedded.say(OpenBracket(definition=b.definition()), b.fill(exec_id="e1"))
    embedded.wait(lambda: embedded.heard("IntentDenied"), "no IntentDenied")
    assert embedded.heard("IntentDenied")[0]["code"] == "ledger_overloaded"
    embedded.wait(lambda: embedded.events() == ["exec:e1:1"], "the fill is not on the disk")


def test_a_record_that_cannot_be_stored_is_an_alert(embedded: Engine) -> None:
    embedded.say(b.fill(exec_id="e1", perm_id=2**70), record(moved(), "m", durable=True))
    embedded.wait(lambda: embedded.heard("RecordCommitted"), "no RecordCommitted")
    embedded.wait(lambda: embedded.heard("AlertRaised", by="control"), "no AlertRaised")
    (alert,) = embedded.heard("AlertRaised", by="control")
    assert (alert["code"], alert["severity"]) == ("unstorable", "critical")
    assert not embedded.heard("LedgerFailed")


def test_what_waits_is_committed_when_the_engine_stops(embedded: Engine) -> None:
    embedded.say(*(record(moved(), f"m{i}") for i in range(500)))
    embedded.say(DescribeService(correlation="c"))
    embedded.wait(lambda: embedded.heard("ServiceDescribed"), "no ServiceDescribed")
    embedded.host.stop()
    assert len(embedded.events()) == 500


def test_a_ledger_that_fails_is_rebuilt_and_loses_nothing_it_took(
    embedded: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.say(*(record(moved(), f"m{i}") for i in range(100)))
    embedded.say(DescribeService(correlation="c"))
    embedded.wait(lambda: embedded.heard("ServiceDescribed"), "no ServiceDescribed")
    before = embedded.host.instance("ledger")

    def fail(self: Ledger, message: Any, sender: Any) -> None:
        monkeypatch.undo()
        raise RuntimeError("bug")

    monkeypatch.setattr(Ledger, "receiveMsg_LoadPositions", fail)
    monkeypatch.setattr(Ledger, "_handlers", {})
    embedded.say(LoadPositions())
    embedded.wait(lambda: embedded.host.instance("ledger") is not before, "the ledger was not rebuilt")
    embedded.say(record(moved(), "after", durable=True))
    embedded.wait(lambda: embedded.heard("RecordCommitted"), "no RecordCommitted")
    assert sorted(embedded.events()) == sorted([*(f"m{i}" for i in range(100)), "after"])
    assert embedded.host.instance("ledger").database_epoch == 2
