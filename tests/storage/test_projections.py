"""Every table beside `events` follows from it, byte for byte; executions are booked once (001.H, 003.A.4)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages.base import Message
from messages.ledger import BracketMoved, IncidentRecorded, PositionChanged, RowChanged, TrailMoved
from messages.orders import OrderState, OrderStatus
from messages.risk import IntentDenied
from storage import models
from storage.database import Database, open_database
from storage.projections import dump, estimate_commission, rebuild
from storage.store import Entry, Store
from storage.tables import Projection
from tests import builders as b
from tests.storage.conftest import clear, empty_url
from tests.storage.desk import entry, opened

pytestmark = pytest.mark.integration

NOW = b.NOW_NS


def row_changed(
    row: str = "B1-test.entry", state: str = "PLACED", status: str = "active", **changes: Any
) -> RowChanged:
    return RowChanged(
        bracket_id=row.split(".")[0], row_id=row, state=OrderState(state), status=OrderStatus(status),
        reason=changes.pop("reason", ""), ts_ns=changes.pop("ts_ns", NOW + 1), **changes,
    )


def position(
    quantity: int = 100, strategy: str = "Momentum_EQ", exec_id: str = "e1", conid: int = 265598
) -> PositionChanged:
    return PositionChanged(
        account="DU1234567", conid=conid, instrument="AAPL", strategy=strategy, exec_id=exec_id,
        quantity=Decimal(quantity), avg_price=Decimal(100), realized_pnl=Decimal("-1.50"), multiplier=Decimal(1),
        risk_tags=("beta", "x"), ts_ns=NOW + quantity,
    )


def kept(database: Database, *events: Message) -> Store:
    """Append each record in a group of its own."""
    store = Store(database)
    for event in events:
        store.append([entry(event)])
    return store


def only(database: Database, model: type[models.Table]) -> dict[str, Any]:
    """Return the one row of a table."""
    rows = all_of(database, model)
    assert len(rows) == 1, rows
    return rows[0]


def all_of(database: Database, model: type[models.Table]) -> list[dict[str, Any]]:
    names = models.columns(model)
    return [dict(zip(names, row, strict=True)) for row in dump(database)[models.table_name(model)]]


def order(database: Database, row_id: str) -> dict[str, Any]:
    return next(row for row in all_of(database, models.ExecutionOrders) if row["row_id"] == row_id)


def test_a_bracket_opens_with_its_rows_pending(database: Database) -> None:
    kept(database, opened(b.definition()))
    rows = all_of(database, models.ExecutionOrders)
    nine = ("row_id", "symbol", "action", "quantity", "price", "stop_price", "status", "parent_id", "oca_group")
    assert sorted(tuple(row[name] for name in nine) for row in rows) == [
        ("B1-test.entry", "AAPL", "BUY", "100", "100", None, "pending", None, None),
        ("B1-test.stop", "AAPL", "SELL", "100", None, "95", "pending", "B1-test.entry", None),
        ("B1-test.target", "AAPL", "SELL", "100", "110", None, "pending", "B1-test.entry", None),
    ]
    assert {(row["order_type"], row["time_in_force"], row["client_id"]) for row in rows} == {
        ("LMT", "DAY", -1), ("LMT", "GTC", -1), ("STP", "GTC", -1),
    }
    assert only(database, models.Brackets)["phase"] == "SCHEDULED"


def test_a_row_takes_what_is_said_and_keeps_the_rest(database: Database) -> None:
    kept(
        database,
        opened(b.definition()),
        row_changed(order_ref="B1-test.entry", perm_id=7001, client_id=3, reason="accepted"),
        row_changed(state="PARTIAL_FILLED", filled_qty=Decimal("40.0"), avg_px=Decimal("99.990")),
    )
    row = order(database, "B1-test.entry")
    assert (row["state"], row["status"], row["reason"]) == ("PARTIAL_FILLED", "active", "")
    assert (row["order_ref"], row["perm_id"], row["client_id"]) == ("B1-test.entry", 7001, 3)
    assert (row["filled_qty"], row["avg_px"], row["price"], row["quantity"]) == ("40", "99.99", "100", "100")


def test_an_order_that_the_definition_does_not_have_gets_a_row(database: Database) -> None:
    kept(
        database,
        opened(b.definition(of=b.short_intent())),
        row_changed("B1-test.flat", "PLACED", "transmitted", quantity=Decimal(40), order_ref="B1-test.flat.1"),
        row_changed("B9-unknown.flat", "PLACED", "transmitted", quantity=Decimal(40)),
    )
    row = order(database, "B1-test.flat")
    assert (row["action"], row["side"], row["order_type"], row["quantity"]) == ("BUY", "BUY_TO_COVER", "MKT", "40")
    assert (row["parent_id"], row["leg"], row["status"]) == ("B1-test.entry", "flat", "transmitted")
    assert len(all_of(database, models.ExecutionOrders)) == 4


def test_the_same_execution_is_one_row(database: Database) -> None:
    first = b.fill(exec_id="e1")
    store = kept(database, opened(b.definition()), first)
    again = store.append([entry(first), entry(first), Entry("another key", None, first, 5)])
    assert [entry.key for entry in again.done] == ["exec:e1:1", "exec:e1:1", "another key"]
    assert [row[1] for row in again.rows] == ["another key"]
    fill = only(database, models.Fills)
    assert (fill["execution_id"], fill["quantity"], fill["timestamp"]) == ("e1", "100", NOW)


def test_the_primary_key_of_fills_is_the_four_columns(database: Database) -> None:
    assert models.primary_key(models.Fills) == ("execution_id", "order_id", "conid", "timestamp")


@pytest.mark.parametrize("late", [False, True])
def test_a_correction_replaces_and_never_doubles(database: Database, late: bool) -> None:
    first = b.fill(exec_id="e1", quantity=100, price=100)
    events = [first, b.corrected(first, 60, "100.5")]
    kept(database, opened(b.definition()), *(reversed(events) if late else events))
    fill = only(database, models.Fills)
    assert (fill["quantity"], fill["price"], fill["revision"]) == ("60", "100.5", 2)


def test_a_bust_leaves_a_row_of_nothing(database: Database) -> None:
    first = b.fill(exec_id="e1")
    kept(database, first, b.corrected(first, 0))
    assert only(database, models.Fills)["quantity"] == "0"


@pytest.mark.parametrize("early", [False, True])
def test_a_commission_is_an_estimate_until_it_is_reported(database: Database, early: bool) -> None:
    first = b.fill(exec_id="e1", quantity=1000, price=100)
    if not early:
        kept(database, first)
        fill = only(database, models.Fills)
        assert (fill["commission"], fill["is_estimate"], fill["commission_currency"]) == ("5", 1, "")
        kept(database, b.commission(first, "1.2300"))
    else:
        kept(database, b.commission(first, "1.2300"), first)
    fill = only(database, models.Fills)
    assert (fill["commission"], fill["is_estimate"], fill["commission_currency"]) == ("1.23", 0, "USD")
    kept(database, b.corrected(first, 500))
    assert only(database, models.Fills)["commission"] == "1.23"


@pytest.mark.parametrize(
    ("quantity", "price", "multiplier", "estimate"),
    [
        ("1000", "100", "1", "5"),
        ("10", "100", "1", "1"),
        ("10", "1", "1", "0.1"),
        ("3", "5", "100", "1.95"),
        ("0", "9", "1", "0"),
    ],
)
def test_the_estimate_follows_the_tariff(quantity: str, price: str, multiplier: str, estimate: str) -> None:
    assert estimate_commission(Decimal(quantity), Decimal(price), Decimal(multiplier)) == Decimal(estimate)


def test_positions_are_kept_by_account_contract_and_strategy(database: Database) -> None:
    other = position(5, "Other", "e3")
    kept(database, position(100), position(60, exec_id="e2"), other, position(7, exec_id="e4", conid=1))
    rows = all_of(database, models.PositionsCurrent)
    assert [(row["conid"], row["strategy_id"], row["quantity"], row["exec_id"]) for row in rows] == [
        (1, "Momentum_EQ", "7", "e4"), (265598, "Momentum_EQ", "60", "e2"), (265598, "Other", "5", "e3"),
    ]
    history = all_of(database, models.PositionsHistory)
    assert [(row["seq"], row["quantity"], row["realized_pnl"]) for row in history] == [
        (1, "100", "-1.5"), (2, "60", "-1.5"), (3, "5", "-1.5"), (4, "7", "-1.5"),
    ]


def test_trails_denials_and_incidents_are_kept(database: Database) -> None:
    def trail(stop: str, ratchets: int) -> TrailMoved:
        return TrailMoved(
            bracket_id="B1-test", row_id="B1-test.trail", high_water=Decimal("102.5"), stop=Decimal(stop),
            ratchets=ratchets, ts_ns=NOW + ratchets,
        )

    denied = IntentDenied(
        bracket_id="B2-test", signal_id="s", strategy="Momentum_EQ", instrument="AAPL", code="netting",
        sentence="side SELL_SHORT: …", ts_ns=NOW,
    )
    kept(
        database, trail("100.50", 1), trail("100.75", 2), denied,
        IncidentRecorded(bracket_id="B1-test", code="oca_overfill", sentence="both filled", ts_ns=NOW),
    )
    found = only(database, models.Trails)
    assert (found["row_id"], found["high_water"]) == ("B1-test.trail", "102.5")
    assert (found["stop"], found["ratchets"]) == ("100.75", 2)
    assert (only(database, models.Denials)["code"], only(database, models.Denials)["seq"]) == ("netting", 3)
    assert only(database, models.Incidents)["code"] == "oca_overfill"


def test_a_bracket_moves(database: Database) -> None:
    moved = BracketMoved(
        bracket_id="B1-test", phase="PROTECTED", reason="first lot", open_qty=Decimal("40.00"),
        entry_filled=Decimal(40), exit_filled=Decimal(0), ts_ns=NOW + 5,
    )
    kept(database, opened(b.definition()), moved)
    row = only(database, models.Brackets)
    assert (row["phase"], row["open_qty"], row["updated_ns"], row["symbol"]) == ("PROTECTED", "40", NOW + 5, "AAPL")


# -- byte for byte ---------------------------------------------------------------------------------------------------

decimals = st.decimals(min_value=0, max_value=10_000, places=2)
bracket_ids = st.sampled_from(["B1-a", "B2-b", "B3-c"])
legs = st.sampled_from(["entry", "target", "stop", "trail", "flat"])
exec_ids = st.sampled_from(["e1", "e2", "e3"])
times = st.integers(NOW, NOW + 1_000)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=5)


@st.composite
def openings(draw: st.DrawFn) -> Message:
    of = b.intent(draw(st.sampled_from(["s1", "s2", "s3", "s4"])), quantity=draw(st.integers(1, 500)))
    return opened(b.definition(draw(bracket_ids), of, opened_ns=draw(times)))


@st.composite
def changes(draw: st.DrawFn) -> Message:
    return row_changed(
        f"{draw(bracket_ids)}.{draw(legs)}", draw(st.sampled_from(list(OrderState))),
        draw(st.sampled_from(list(OrderStatus))), reason=draw(texts), ts_ns=draw(times),
        quantity=draw(st.none() | decimals), filled_qty=draw(st.none() | decimals), price=draw(st.none() | decimals),
        oca_group=draw(st.sampled_from([None, "g1"])), perm_id=draw(st.none() | st.integers(0, 2**62)),
        client_id=draw(st.none() | st.integers(0, 5)),
    )


@st.composite
def executions(draw: st.DrawFn) -> Message:
    first = b.fill(
        f"{draw(bracket_ids)}.{draw(legs)}.1", draw(decimals), draw(decimals), exec_id=draw(exec_ids),
        ts_ns=draw(times), revision=draw(st.integers(1, 3)),
    )
    how = draw(st.sampled_from(["fill", "correction", "commission"]))
    if how == "correction":
        return b.corrected(first, draw(decimals), draw(decimals))
    return b.commission(first, draw(decimals)) if how == "commission" else first


@st.composite
def others(draw: st.DrawFn) -> Message:
    bracket, number, count = draw(bracket_ids), draw(decimals), draw(st.integers(1, 9))
    phase = draw(st.sampled_from(["ENTERING", "CLOSED", "FROZEN"]))
    kinds: list[Message] = [
        position(count - 5, draw(st.sampled_from(["x", "y"])), draw(exec_ids), conid=count % 2),
        TrailMoved(
            bracket_id=bracket, row_id=f"{bracket}.trail", high_water=number, stop=number, ratchets=count,
            ts_ns=draw(times),
        ),
        BracketMoved(
            bracket_id=bracket, phase=phase, reason="", open_qty=number, entry_filled=number, exit_filled=number,
            ts_ns=draw(times),
        ),
        IncidentRecorded(bracket_id=draw(st.none() | bracket_ids), code="c", sentence=draw(texts), ts_ns=5),
        b.submit(f"{bracket}.entry"),
    ]
    return draw(st.sampled_from(kinds))


stories = st.lists(
    st.lists(openings() | changes() | executions() | others(), min_size=1, max_size=8), min_size=1, max_size=5
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest) -> Iterator[Database]:
    """One database for many examples, emptied between them."""
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(empty_url(request.param, Path(folder)), NOW)
        yield database
        database.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(story=stories, regroup=st.integers(1, 12))
def test_any_story_rebuilds_byte_for_byte_however_it_was_grouped(
    shared: Database, story: list[list[Message]], regroup: int
) -> None:
    entries = [[Entry(f"{i}.{j}", None, event, NOW) for j, event in enumerate(group)] for i, group in enumerate(story)]
    clear(shared)
    store = Store(shared)
    for group in entries:
        store.append(group)
    lived = dump(shared)
    assert not any(code == "unstorable" for *_, code, _, _ in lived["incidents"]), lived["incidents"]
    assert rebuild(shared) == shared.execute("SELECT count(*) FROM events")[0][0]
    assert dump(shared) == lived

    clear(shared)
    flat, store = [entry for group in entries for entry in group], Store(shared)
    for start in range(0, len(flat), regroup):
        store.append(flat[start : start + regroup])
    assert dump(shared) == lived


def test_rebuild_repairs_a_table_that_was_tampered_with(database: Database) -> None:
    kept(database, opened(b.definition()), b.fill(), position())
    lived = dump(database)
    database.execute("UPDATE fills SET quantity = '7'")
    database.execute("DELETE FROM execution_orders")
    assert dump(database) != lived
    assert rebuild(database) == 3
    assert dump(database) == lived


def test_a_rebuild_that_fails_leaves_everything_as_it_was(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(database, opened(b.definition()), b.fill())
    lived = dump(database)

    def fail(*_: Any) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(Projection, "insert", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        rebuild(database)
    assert dump(database) == lived


def test_no_number_that_is_traded_is_a_float(database: Database, kind: str) -> None:
    kept(database, opened(b.definition()), b.fill(price="100.10"), position())
    for model in models.PROJECTIONS:
        integers = models.integer_columns(model)
        for row in all_of(database, model):
            for name, value in row.items():
                assert isinstance(value, int if name in integers else str) or value is None, (model, name, value)
