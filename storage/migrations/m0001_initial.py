"""The first schema: the append-only `events`, its projections, and what is reserved ahead of use.

Law: a migration is never changed once it is released; what comes later is another file. It is plain SQL, not made from
the models, because the models go on to change. `BIGKEY` and the triggers are all in which the two databases differ.
"""

from __future__ import annotations

VERSION = 1
NAME = "initial"

STATUSES = "'pending','ready','transmitted','active','filled','canceled','rejected','denied','expired'"
STATES = (
    "'INTENT','VALIDATED','SCHEDULED','PLACED','PARTIAL_FILLED','FILLED','CLOSED','REJECTED','CANCEL_REQUESTED',"
    "'CANCELLED'"
)

TABLES = (
    """CREATE TABLE events (
        seq BIGKEY PRIMARY KEY, key TEXT NOT NULL, bracket_id TEXT, bracket_seq BIGINT, type TEXT NOT NULL,
        payload TEXT NOT NULL, reason TEXT NOT NULL, ts_ns BIGINT NOT NULL)""",
    "CREATE UNIQUE INDEX events_key ON events (key)",
    "CREATE UNIQUE INDEX events_bracket ON events (bracket_id, bracket_seq) WHERE bracket_id IS NOT NULL",
    """CREATE TABLE brackets (
        bracket_id TEXT NOT NULL PRIMARY KEY, signal_id TEXT NOT NULL UNIQUE, digest TEXT NOT NULL,
        strategy_id TEXT NOT NULL, instrument TEXT NOT NULL, conid BIGINT NOT NULL, symbol TEXT NOT NULL,
        account TEXT NOT NULL, shape TEXT NOT NULL, side TEXT NOT NULL, quantity TEXT NOT NULL, phase TEXT NOT NULL,
        reason TEXT NOT NULL, open_qty TEXT NOT NULL, entry_filled TEXT NOT NULL, exit_filled TEXT NOT NULL,
        opened_ns BIGINT NOT NULL, expires_ns BIGINT NOT NULL, updated_ns BIGINT NOT NULL, definition TEXT NOT NULL)""",
    "CREATE INDEX brackets_phase ON brackets (phase)",
    "CREATE INDEX brackets_opened ON brackets (opened_ns, bracket_id)",
    f"""CREATE TABLE execution_orders (
        row_id TEXT NOT NULL PRIMARY KEY, symbol TEXT NOT NULL, action TEXT NOT NULL CHECK (action IN ('BUY','SELL')),
        quantity TEXT NOT NULL, price TEXT, stop_price TEXT,
        status TEXT NOT NULL CHECK (status IN ({STATUSES})), parent_id TEXT, oca_group TEXT,
        bracket_id TEXT NOT NULL, leg TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('BUY','SELL','SELL_SHORT','BUY_TO_COVER')),
        state TEXT NOT NULL CHECK (state IN ({STATES})), reason TEXT NOT NULL,
        order_ref TEXT, perm_id BIGINT, client_id INTEGER NOT NULL, signal_id TEXT NOT NULL, strategy_id TEXT NOT NULL,
        account TEXT NOT NULL, conid BIGINT NOT NULL, parent_order_id TEXT, order_type TEXT NOT NULL,
        time_in_force TEXT NOT NULL, filled_qty TEXT NOT NULL, avg_px TEXT, opened_ns BIGINT NOT NULL,
        updated_ns BIGINT NOT NULL)""",
    "CREATE INDEX execution_orders_bracket ON execution_orders (bracket_id)",
    "CREATE INDEX execution_orders_status ON execution_orders (status)",
    """CREATE TABLE fills (
        execution_id TEXT NOT NULL UNIQUE, order_id TEXT NOT NULL, conid BIGINT NOT NULL, timestamp BIGINT NOT NULL,
        revision INTEGER NOT NULL, bracket_id TEXT NOT NULL, leg TEXT NOT NULL, perm_id BIGINT NOT NULL,
        client_id INTEGER NOT NULL, account TEXT NOT NULL, instrument TEXT NOT NULL, strategy_id TEXT NOT NULL,
        side TEXT NOT NULL, role TEXT NOT NULL, quantity TEXT NOT NULL, price TEXT NOT NULL, multiplier TEXT NOT NULL,
        commission TEXT NOT NULL, commission_currency TEXT NOT NULL,
        is_estimate SMALLINT NOT NULL CHECK (is_estimate IN (0, 1)), realized_pnl TEXT,
        recovered SMALLINT NOT NULL CHECK (recovered IN (0, 1)), updated_ns BIGINT NOT NULL,
        PRIMARY KEY (execution_id, order_id, conid, timestamp))""",
    "CREATE INDEX fills_bracket ON fills (bracket_id)",
    "CREATE INDEX fills_order ON fills (order_id)",
    """CREATE TABLE commissions (
        execution_id TEXT NOT NULL PRIMARY KEY, commission TEXT NOT NULL, currency TEXT NOT NULL, realized_pnl TEXT,
        updated_ns BIGINT NOT NULL)""",
    """CREATE TABLE positions_current (
        account TEXT NOT NULL, conid BIGINT NOT NULL, strategy_id TEXT NOT NULL, instrument TEXT NOT NULL,
        quantity TEXT NOT NULL, avg_price TEXT NOT NULL, realized_pnl TEXT NOT NULL, multiplier TEXT NOT NULL,
        risk_tags TEXT NOT NULL, exec_id TEXT NOT NULL, updated_ns BIGINT NOT NULL,
        PRIMARY KEY (account, conid, strategy_id))""",
    """CREATE TABLE positions_history (
        seq BIGKEY PRIMARY KEY, account TEXT NOT NULL, conid BIGINT NOT NULL, strategy_id TEXT NOT NULL,
        instrument TEXT NOT NULL, exec_id TEXT NOT NULL, quantity TEXT NOT NULL, avg_price TEXT NOT NULL,
        realized_pnl TEXT NOT NULL, ts_ns BIGINT NOT NULL)""",
    "CREATE INDEX positions_history_place ON positions_history (account, conid, strategy_id)",
    """CREATE TABLE trails (
        row_id TEXT NOT NULL PRIMARY KEY, bracket_id TEXT NOT NULL, high_water TEXT NOT NULL, stop TEXT NOT NULL,
        ratchets BIGINT NOT NULL, updated_ns BIGINT NOT NULL)""",
    """CREATE TABLE denials (
        seq BIGKEY PRIMARY KEY, bracket_id TEXT NOT NULL, signal_id TEXT NOT NULL, strategy_id TEXT NOT NULL,
        instrument TEXT NOT NULL, code TEXT NOT NULL, sentence TEXT NOT NULL, ts_ns BIGINT NOT NULL)""",
    """CREATE TABLE incidents (
        seq BIGKEY PRIMARY KEY, bracket_id TEXT, code TEXT NOT NULL, sentence TEXT NOT NULL, ts_ns BIGINT NOT NULL)""",
    """CREATE TABLE lease (
        name TEXT NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL, holder TEXT NOT NULL, until_ns BIGINT NOT NULL)""",
    "CREATE TABLE id_blocks (name TEXT NOT NULL PRIMARY KEY, reserved_up_to BIGINT NOT NULL)",
)

# INSERT OR REPLACE deletes the old row without firing a DELETE trigger (unless recursive_triggers is on, which any
# connection may turn off), so a third trigger stands before INSERT and asks all three unique indexes.
SQLITE = (
    """CREATE TRIGGER events_no_update BEFORE UPDATE ON events
        BEGIN SELECT RAISE(ABORT, 'events is append-only: UPDATE is refused'); END""",
    """CREATE TRIGGER events_no_delete BEFORE DELETE ON events
        BEGIN SELECT RAISE(ABORT, 'events is append-only: DELETE is refused'); END""",
    """CREATE TRIGGER events_no_replace BEFORE INSERT ON events
        WHEN EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq)
          OR EXISTS (SELECT 1 FROM events WHERE key = NEW.key)
          OR EXISTS (SELECT 1 FROM events WHERE bracket_id = NEW.bracket_id AND bracket_seq = NEW.bracket_seq)
        BEGIN SELECT RAISE(ABORT, 'events is append-only: a row with this seq or key exists'); END""",
)

# Statement-level, so that one that touches no row is refused too; TRUNCATE fires no row trigger at all.
POSTGRES = (
    """CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'events is append-only: % is refused', TG_OP; END $$""",
    """CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE PROCEDURE events_append_only()""",
    "ALTER TABLE events ENABLE ALWAYS TRIGGER events_append_only",
)


def statements(postgres: bool) -> tuple[str, ...]:
    """Return the statements for one of the two databases, in order."""
    bigkey = "BIGINT NOT NULL" if postgres else "INTEGER NOT NULL"
    tables = tuple(text.replace("BIGKEY", bigkey) for text in TABLES)
    return tables + (POSTGRES if postgres else SQLITE)
