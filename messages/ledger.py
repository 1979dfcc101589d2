"""What is written down, and what is read back when the engine starts.

Law: `events` is the audit trail; every table beside it can be rebuilt from these records alone, so each record carries
all that its projection needs. `key` makes a record safe to repeat: the same key is kept once.
"""

from __future__ import annotations

from decimal import Decimal

from messages.base import Command, Event, Message, Record
from messages.intent import OrderType, Side, TimeInForce
from messages.orders import Definition, OrderState, OrderStatus


class OpenBracket(Command, frozen=True, kw_only=True):
    """Make a definition durable. Answered by `BracketOpened` after the commit, never before."""

    definition: Definition
    correlation: str = ""


class LegRow(Record, frozen=True, kw_only=True):
    """One row of `execution_orders` as it stands when the bracket opens."""

    row_id: str
    leg: str
    parent_row: str | None
    side: Side
    quantity: Decimal
    order_type: OrderType
    price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce


class RecordEvent(Command, frozen=True, kw_only=True):
    """Append one record. `durable` asks for `RecordCommitted` with the same key after the commit."""

    key: str
    bracket_id: str | None
    event: Message
    ts_ns: int
    reason: str = ""
    durable: bool = False


class RecordCommitted(Event, frozen=True, kw_only=True):
    key: str


class BracketOpened(Event, frozen=True, kw_only=True):
    """The definition is on disk. First record of every bracket."""

    bracket_id: str
    definition: Definition
    rows: tuple[LegRow, ...]
    ts_ns: int


class BracketMoved(Event, frozen=True, kw_only=True):
    """The bracket changed phase."""

    bracket_id: str
    phase: str
    reason: str
    open_qty: Decimal
    entry_filled: Decimal
    exit_filled: Decimal
    ts_ns: int


class RowChanged(Event, frozen=True, kw_only=True):
    """A row of `execution_orders` changed: state, status, or what the venue calls it. None leaves a field as it was."""

    bracket_id: str
    row_id: str
    state: OrderState
    status: OrderStatus
    reason: str
    ts_ns: int
    quantity: Decimal | None = None
    filled_qty: Decimal | None = None
    avg_px: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    oca_group: str | None = None
    order_ref: str | None = None
    perm_id: int | None = None
    client_id: int | None = None


class BracketAmended(Event, frozen=True, kw_only=True):
    """An operator's change, durable before it is acknowledged. `changes`: the fields that were set."""

    bracket_id: str
    command_id: str
    actor: str
    changes: dict[str, str]
    ts_ns: int


class OperatorActed(Event, frozen=True, kw_only=True):
    """A verb that a person gave a bracket, durable before it is acknowledged."""

    bracket_id: str
    command_id: str
    verb: str
    actor: str
    ts_ns: int


class TrailMoved(Event, frozen=True, kw_only=True):
    """A trailing stop ratcheted (throttled)."""

    bracket_id: str
    row_id: str
    high_water: Decimal
    stop: Decimal
    ratchets: int
    ts_ns: int


class PositionChanged(Event, frozen=True, kw_only=True):
    """A position after one fill, correction or bust. One record per effective execution."""

    account: str
    conid: int
    instrument: str
    strategy: str
    exec_id: str
    quantity: Decimal
    avg_price: Decimal
    realized_pnl: Decimal
    multiplier: Decimal
    risk_tags: tuple[str, ...]
    ts_ns: int


class IncidentRecorded(Event, frozen=True, kw_only=True):
    """Something that must not pass in silence: oca_overfill, two live permIds, a stranger's execution."""

    bracket_id: str | None
    code: str
    sentence: str
    ts_ns: int


# -- reading back ----------------------------------------------------------------------------------------------


class LoadBrackets(Command, frozen=True, kw_only=True):
    """Ask the ledger for every bracket that is not over, oldest first, in batches, and for every known signal."""


class StoredBracket(Record, frozen=True, kw_only=True):
    """A bracket as the ledger has it: the definition, its own records in order, its trails."""

    definition: Definition
    events: tuple[bytes, ...]
    """JSON of each record after BracketOpened, oldest first: storage decodes them with messages.registry."""


class LoadBracket(Command, frozen=True, kw_only=True):
    """Ask the ledger for one bracket, over or not, as it stands now. Answered by BracketReloaded."""

    bracket_id: str


class BracketReloaded(Event, frozen=True, kw_only=True):
    """None: the ledger knows no such bracket."""

    bracket_id: str
    bracket: StoredBracket | None


class BracketsLoaded(Event, frozen=True, kw_only=True):
    brackets: tuple[StoredBracket, ...]
    last: bool


class SignalsLoaded(Event, frozen=True, kw_only=True):
    """signal_id -> (bracket_id, digest of the intent's content), for every bracket ever opened."""

    signals: dict[str, tuple[str, str]]


class LoadPositions(Command, frozen=True, kw_only=True):
    """Ask the ledger for positions_current, and the executions that are booked in it."""


class PositionsLoaded(Event, frozen=True, kw_only=True):
    positions: tuple[PositionChanged, ...]
    exec_ids: tuple[str, ...]


class EventsCommitted(Event, frozen=True, kw_only=True):
    """What has just reached the disk: (seq, key, bracket_id, type, payload as JSON, ts_ns), for those who stream it."""

    rows: tuple[tuple[int, str, str | None, str, bytes, int], ...]


class LedgerFailed(Event, frozen=True, kw_only=True):
    """The database refuses or is gone: no new entries; exits go on."""

    reason: str
    ts_ns: int


class LedgerRecovered(Event, frozen=True, kw_only=True):
    """The database works again and all that had waited is committed: entries may resume."""

    ts_ns: int


# -- ids ---------------------------------------------------------------------------------------------------------


class ReserveIds(Command, frozen=True, kw_only=True):
    """Set a durable block of ids aside, above `at_least` and above every block of that name before."""

    name: str
    count: int = 1_000
    at_least: int = 0


class IdsReserved(Event, frozen=True, kw_only=True):
    """`first` to `last`, both inclusive, are the asker's; committed before this was sent."""

    name: str
    first: int
    last: int
