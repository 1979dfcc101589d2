"""What is read back: nine fields, whole stories, pages of events, positions; quickly, with many brackets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import msgspec
import pytest

from messages.ledger import BracketMoved, IncidentRecorded, PositionChanged, RowChanged, TrailMoved
from messages.orders import OrderState, OrderStatus
from messages.risk import IntentDenied
from storage.database import Database, open_database
from storage.reader import Reader
from storage.store import Entry, Store
from tests import builders as b
from tests.storage.desk import entry, opened

pytestmark = pytest.mark.integration

NOW = b.NOW_NS
NINE = ["orderId", "symbol", "action", "quantity", "price", "stopPrice", "status", "parentId", "ocaGroup"]


@pytest.fixture
def reader(database: Database, url: str) -> Iterator[Reader]:
    found = Reader(url)
    yield found
    found.close()


def keep(database: Database, *events: object) -> None:
    store = Store(database)
    store.append([event if isinstance(event, Entry) else entry(event) for event in events])  # type: ignore[arg-type]


def test_orders_have_exactly_the_nine_fields_as_strings_and_null(database: Database, reader: Reader) -> None:
    keep(database, opened(b.definition(limit="100.50")))
    raw = msgspec.json.decode(msgspec.json.encode(reader.orders()))
    assert [list(order) for order in raw] == [NINE] * 3
    assert raw[0] == {
        "orderId": "B1-test.entry", "symbol": "AAPL", "action": "BUY", "quantity": "100", "price": "100.5",
        "stopPrice": None, "status": "pending", "parentId": None, "ocaGroup": None,
    }
    assert [(order["orderId"], order["parentId"], order["price"], order["stopPrice"]) for order in raw[1:]] == [
        ("B1-test.stop", "B1-test.entry", None, "95"), ("B1-test.target", "B1-test.entry", "110", None),
    ]


def test_orders_come_in_the_order_in_which_brackets_opened_the_entry_first(database: Database, reader: Reader) -> None:
    keep(
        database,
        opened(b.definition("B2-x", signal_id="s2", opened_ns=NOW)),
        opened(b.definition("B1-x", signal_id="s1", opened_ns=NOW + 1)),
    )
    assert [order.orderId for order in reader.orders()] == [
        "B2-x.entry", "B2-x.stop", "B2-x.target", "B1-x.entry", "B1-x.stop", "B1-x.target",
    ]
    assert [order.orderId for order in reader.orders("B1-x")] == ["B1-x.entry", "B1-x.stop", "B1-x.target"]
    assert reader.status_counts() == {"pending": 6}
    full = reader.orders_full("B1-x")[0]
    assert (full["client_id"], full["signal_id"], full["account"]) == (-1, "s1", "DU1234567")


def test_a_bracket_tells_its_whole_story(database: Database, reader: Reader) -> None:
    definition = b.definition()
    first = b.fill(exec_id="e1")
    changed = RowChanged(
        bracket_id="B1-test", row_id="B1-test.entry", state=OrderState.FILLED, status=OrderStatus.FILLED, reason="full",
        ts_ns=NOW + 2, filled_qty=Decimal(100),
    )
    keep(
        database,
        opened(definition),
        first,
        Entry("row", "B1-test", changed, NOW + 2, "the first lot was all of it"),
        TrailMoved(
            bracket_id="B1-test", row_id="B1-test.trail", high_water=Decimal(101), stop=Decimal(99), ratchets=1,
            ts_ns=NOW + 3,
        ),
        b.fill("B2-other.entry"),
    )
    story = reader.bracket("B1-test")
    assert story is not None
    assert [(event["bracket_seq"], event["type"], event["ts_ns"], event["reason"]) for event in story["events"]] == [
        (1, "BracketOpened", NOW, ""),
        (2, "OrderFilled", NOW, ""),
        (3, "RowChanged", NOW + 2, "the first lot was all of it"),
        (4, "TrailMoved", NOW + 3, ""),
    ]
    assert msgspec.convert(story["definition"], type(definition)) == definition
    assert story["events"][1]["payload"]["last_px"] == "100"
    assert [fill["execution_id"] for fill in story["fills"]] == ["e1"]
    assert [trail["stop"] for trail in story["trails"]] == ["99"]
    assert [order["status"] for order in story["orders"]] == ["filled", "pending", "pending"]
    assert (story["phase"], story["signal_id"]) == ("SCHEDULED", "sig-1")
    assert reader.bracket("B9-nobody") is None


def test_brackets_are_paged_newest_first(database: Database, reader: Reader) -> None:
    keep(database, *(opened(b.definition(f"B{i}-x", signal_id=f"s{i}", opened_ns=NOW + i // 2)) for i in range(7)))
    keep(
        database,
        BracketMoved(
            bracket_id="B3-x", phase="CLOSED", reason="target filled", open_qty=Decimal(0), entry_filled=Decimal(100),
            exit_filled=Decimal(100), ts_ns=NOW + 9,
        ),
    )
    ids: list[str] = []
    before = None
    while page := reader.brackets(2, before=before):
        ids += [bracket["bracket_id"] for bracket in page]
        before = ids[-1]
    assert ids == [f"B{i}-x" for i in range(6, -1, -1)]
    assert [bracket["reason"] for bracket in reader.brackets(phase="CLOSED")] == ["target filled"]
    assert len(reader.brackets(live=True)) == 6
    assert reader.bracket_counts() == {"SCHEDULED": 6, "CLOSED": 1}
    assert len(reader.brackets(limit=-5)) == 1


def test_events_are_paged_by_their_number(database: Database, reader: Reader) -> None:
    keep(database, *(Entry(f"k{i}", None, b.fill(exec_id=f"e{i}"), i) for i in range(10)))
    assert reader.last_seq() == 10
    first = reader.events_after(0, 4)
    assert [(event.seq, event.key) for event in first] == [(1, "k0"), (2, "k1"), (3, "k2"), (4, "k3")]
    assert [event.seq for event in reader.events_after(4)] == list(range(5, 11))
    assert reader.events_after(10) == []
    raw = msgspec.json.decode(msgspec.json.encode(first[0]))
    assert (raw["payload"]["type"], raw["payload"]["exec_id"]) == ("OrderFilled", "e0")


def test_positions_denials_and_incidents_are_read(database: Database, reader: Reader) -> None:
    position = PositionChanged(
        account="DU1", conid=7, instrument="AAPL", strategy="x", exec_id="e1", quantity=Decimal(-5),
        avg_price=Decimal("1.10"), realized_pnl=Decimal(0), multiplier=Decimal(1), risk_tags=("a",), ts_ns=NOW,
    )
    denied = IntentDenied(
        bracket_id="B2-x", signal_id="s", strategy="x", instrument="AAPL", code="netting", sentence="no", ts_ns=NOW
    )
    keep(database, position, denied, IncidentRecorded(bracket_id=None, code="odd", sentence="a stranger", ts_ns=NOW))
    (found,) = reader.positions()
    assert (found["quantity"], found["avg_price"], found["strategy_id"]) == ("-5", "1.1", "x")
    assert found["risk_tags"] == ["a"]
    assert reader.denials()[0]["code"] == "netting"
    assert reader.incidents()[0]["sentence"] == "a stranger"


def test_a_reader_sees_what_is_committed_after_it_was_opened(database: Database, reader: Reader) -> None:
    assert reader.orders() == []
    keep(database, opened(b.definition()))
    assert len(reader.orders()) == 3


@pytest.mark.performance
def test_thousands_of_brackets_are_read_fast(url: str, kind: str) -> None:
    database = open_database(url, NOW)
    store, count = Store(database), 4_000 if kind == "sqlite" else 1_000
    openings = [entry(opened(b.definition(f"B{i}-x", signal_id=f"s{i}", opened_ns=NOW + i))) for i in range(count)]
    for start in range(0, len(openings), 1_000):
        store.append(openings[start : start + 1_000])
    reader = Reader(url)

    def took(work: Callable[[], object]) -> float:
        """Return the seconds of the quickest of three: the others may have waited for a busy machine."""
        found = []
        for _ in range(3):
            began = time.perf_counter()
            work()
            found.append(time.perf_counter() - began)
        return min(found)

    def load() -> None:
        ids = store.open_brackets()
        assert sum(len(store.stored_brackets(ids[start : start + 200])) for start in range(0, len(ids), 200)) == count

    try:
        assert took(lambda: reader.brackets(100)) < 0.5
        assert took(lambda: reader.bracket("B777-x")) < 0.5
        assert took(reader.status_counts) < 1
        assert took(reader.orders) < 5
        assert took(load) < 10
    finally:
        reader.close()
        database.close()
