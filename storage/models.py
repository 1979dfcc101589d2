"""Every table and every column that is kept, and which of them are projections of `events`.

Law: times are UTC nanoseconds, numbers that are traded are DecimalText, words are those of messages/. The tables are
made by storage/migrations/; a test holds these models and the migrated schema together. Models are bound to no
connection: queries name theirs (`query.execute(database)`), because writer and reader live in one process in tests.
"""

from __future__ import annotations

from typing import Any

from peewee import BigIntegerField, CompositeKey, IntegerField, Model, SmallIntegerField, TextField

from storage.fields import DecimalText


class Table(Model):
    """A table of this database."""

    class Meta:
        database = None


class Events(Table):
    """The audit trail, append-only by rule of the database itself; everything else that is told follows from it."""

    seq = BigIntegerField(primary_key=True)
    """Position in the one order of all records, from 1, given by the writer."""
    key = TextField(unique=True)
    """Makes a record safe to repeat: the same key is kept once."""
    bracket_id = TextField(null=True)
    bracket_seq = BigIntegerField(null=True)
    """Position in the order of one bracket's records, from 1."""
    type = TextField()
    """Class of the record in messages/."""
    payload = TextField()
    """The record as JSON."""
    reason = TextField()
    """Why, in a sentence for a person; empty where the record itself says it."""
    ts_ns = BigIntegerField()
    """When it happened, as its author saw it."""

    class Meta:
        table_name = "events"


class Brackets(Table):
    """One row for each bracket ever opened."""

    bracket_id = TextField(primary_key=True)
    signal_id = TextField(unique=True)
    """The strategy's own id of the intent: one bracket each."""
    digest = TextField()
    """Fingerprint of the intent's content: the same signal with other content is another intent and is refused."""
    strategy_id = TextField()
    instrument = TextField()
    conid = BigIntegerField()
    symbol = TextField()
    account = TextField()
    shape = TextField()
    side = TextField()
    """Side of the intent, one of four; for the shape oco that of its exits."""
    quantity = DecimalText()
    """Quantity of the intent, as it was submitted."""
    phase = TextField()
    """Where it stands: the words of actors/rules/bracket.py."""
    reason = TextField()
    """Why it moved there."""
    open_qty = DecimalText()
    """Entry filled less exits filled."""
    entry_filled = DecimalText()
    exit_filled = DecimalText()
    opened_ns = BigIntegerField()
    expires_ns = BigIntegerField()
    """An entry not transmitted by then is stale."""
    updated_ns = BigIntegerField()
    definition = TextField()
    """messages.orders.Definition as JSON, written once before anything is transmitted."""

    class Meta:
        table_name = "brackets"


class ExecutionOrders(Table):
    """One row for each leg of a bracket. The nine fields of 000.D.1 are row_id to oca_group of the first block."""

    row_id = TextField(primary_key=True)
    """orderId in exports: `<bracket>.<leg>`."""
    symbol = TextField()
    action = TextField()
    """BUY or SELL, as the venue is told."""
    quantity = DecimalText()
    """Total wanted now, in shares or contracts; follows what is filled of the entry."""
    price = DecimalText(null=True)
    """Limit price."""
    stop_price = DecimalText(null=True)
    """Trigger price."""
    status = TextField()
    """000's words (messages.orders.OrderStatus)."""
    parent_id = TextField(null=True)
    """row_id of the entry; none for the entry itself and for OCO on a position."""
    oca_group = TextField(null=True)
    bracket_id = TextField()
    leg = TextField()
    """entry, target, stop, trail, safety, flat, with the tranche's number from 2 on."""
    side = TextField()
    """BUY, SELL, SELL_SHORT or BUY_TO_COVER."""
    state = TextField()
    """001's words (messages.orders.OrderState)."""
    reason = TextField()
    """Why it stands so."""
    order_ref = TextField(null=True)
    """Our id of its latest transmission, sent as orderRef; none before the first."""
    perm_id = BigIntegerField(null=True)
    """The venue's permanent id of that transmission."""
    client_id = IntegerField()
    """API client that transmitted it; -1 before anybody did."""
    signal_id = TextField()
    strategy_id = TextField()
    account = TextField()
    conid = BigIntegerField()
    parent_order_id = TextField(null=True)
    """orderRef of the entry's first transmission."""
    order_type = TextField()
    """MKT, LMT, STP or STP LMT."""
    time_in_force = TextField()
    filled_qty = DecimalText()
    avg_px = DecimalText(null=True)
    """Average price of what is filled."""
    opened_ns = BigIntegerField()
    updated_ns = BigIntegerField()

    class Meta:
        table_name = "execution_orders"


class Fills(Table):
    """One row for each effective execution; a correction replaces its row and never adds one."""

    execution_id = TextField(unique=True)
    """The venue's id without its correction suffix."""
    order_id = TextField()
    """Our orderRef."""
    conid = BigIntegerField()
    timestamp = BigIntegerField()
    """When it was first executed; a correction keeps it."""
    revision = IntegerField()
    """The correction suffix; the highest is in force."""
    bracket_id = TextField()
    leg = TextField()
    perm_id = BigIntegerField()
    client_id = IntegerField()
    account = TextField()
    instrument = TextField()
    strategy_id = TextField()
    side = TextField()
    role = TextField()
    """entry or exit."""
    quantity = DecimalText()
    """0 after a bust."""
    price = DecimalText()
    multiplier = DecimalText()
    commission = DecimalText()
    """Reported, or while is_estimate is 1 computed by projections.estimate_commission."""
    commission_currency = TextField()
    """Empty while it is an estimate: then the instrument's currency."""
    is_estimate = SmallIntegerField()
    realized_pnl = DecimalText(null=True)
    """As the venue reports it with the commission."""
    recovered = SmallIntegerField()
    """1: learned after a reconnect, not live."""
    updated_ns = BigIntegerField()

    class Meta:
        table_name = "fills"
        primary_key = CompositeKey("execution_id", "order_id", "conid", "timestamp")


class Commissions(Table):
    """What the venue reported for an execution, kept apart because it may come before the execution itself."""

    execution_id = TextField(primary_key=True)
    commission = DecimalText()
    currency = TextField()
    realized_pnl = DecimalText(null=True)
    updated_ns = BigIntegerField()

    class Meta:
        table_name = "commissions"


class PositionsCurrent(Table):
    """Where each strategy stands in each contract."""

    account = TextField()
    conid = BigIntegerField()
    strategy_id = TextField()
    instrument = TextField()
    quantity = DecimalText()
    """Signed."""
    avg_price = DecimalText()
    realized_pnl = DecimalText()
    multiplier = DecimalText()
    risk_tags = TextField()
    """JSON list."""
    exec_id = TextField()
    """The execution that brought it here."""
    updated_ns = BigIntegerField()

    class Meta:
        table_name = "positions_current"
        primary_key = CompositeKey("account", "conid", "strategy_id")


class PositionsHistory(Table):
    """Every position after every effective execution."""

    seq = BigIntegerField(primary_key=True)
    """seq of its event."""
    account = TextField()
    conid = BigIntegerField()
    strategy_id = TextField()
    instrument = TextField()
    exec_id = TextField()
    quantity = DecimalText()
    avg_price = DecimalText()
    realized_pnl = DecimalText()
    ts_ns = BigIntegerField()

    class Meta:
        table_name = "positions_history"


class Trails(Table):
    """Where each trailing stop stood when it was last journalled."""

    row_id = TextField(primary_key=True)
    bracket_id = TextField()
    high_water = DecimalText()
    """Best price seen: the highest for a SELL, the lowest for a BUY."""
    stop = DecimalText()
    ratchets = BigIntegerField()
    updated_ns = BigIntegerField()

    class Meta:
        table_name = "trails"


class Denials(Table):
    """Every intent refused before anything was sent."""

    seq = BigIntegerField(primary_key=True)
    bracket_id = TextField()
    signal_id = TextField()
    strategy_id = TextField()
    instrument = TextField()
    code = TextField()
    """A stable word."""
    sentence = TextField()
    """Field, value, rule."""
    ts_ns = BigIntegerField()

    class Meta:
        table_name = "denials"


class Incidents(Table):
    """Everything that must not pass in silence."""

    seq = BigIntegerField(primary_key=True)
    bracket_id = TextField(null=True)
    code = TextField()
    sentence = TextField()
    ts_ns = BigIntegerField()

    class Meta:
        table_name = "incidents"


class Lease(Table):
    """Who writes. Not a projection."""

    name = TextField(primary_key=True)
    epoch = BigIntegerField()
    """Bumped at each start of a writer."""
    holder = TextField()
    """host:pid."""
    until_ns = BigIntegerField()
    """When it lapses; 0 = never."""

    class Meta:
        table_name = "lease"


class IdBlocks(Table):
    """Ids handed out in durable blocks ahead of use, so that none is used twice and no exit waits. Not a projection."""

    name = TextField(primary_key=True)
    reserved_up_to = BigIntegerField()
    """The largest id that may have been used."""

    class Meta:
        table_name = "id_blocks"


class SchemaVersions(Table):
    """Which migrations have run."""

    version = IntegerField(primary_key=True)
    name = TextField()
    applied_ns = BigIntegerField()

    class Meta:
        table_name = "schema_versions"


PROJECTIONS: tuple[type[Table], ...] = (
    Brackets,
    ExecutionOrders,
    Fills,
    Commissions,
    PositionsCurrent,
    PositionsHistory,
    Trails,
    Denials,
    Incidents,
)
TABLES: tuple[type[Table], ...] = (Events, *PROJECTIONS, Lease, IdBlocks, SchemaVersions)


def table_name(model: type[Table]) -> str:
    """Return the table of a model."""
    return str(model._meta.table_name)


def columns(model: type[Table]) -> tuple[str, ...]:
    """Return the columns of a model, in the order of its table."""
    return tuple(model._meta.sorted_field_names)


def primary_key(model: type[Table]) -> tuple[str, ...]:
    """Return the columns of a model's primary key."""
    key: Any = model._meta.primary_key
    return tuple(key.field_names) if isinstance(key, CompositeKey) else (str(key.name),)


def integer_columns(model: type[Table]) -> frozenset[str]:
    """Return the columns that hold integers."""
    return frozenset(name for name, field in model._meta.fields.items() if isinstance(field, IntegerField))
