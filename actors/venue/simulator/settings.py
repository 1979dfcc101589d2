"""How a simulated gateway is set up.

Law: every default is the ordinary paper gateway; a switch that differs from IB says so.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from actors.venue.simulator.faults.kinds import AnyFault
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.wire import DEFAULT_SERVER_VERSION

DEFAULT_ACCOUNT = "DU1000001"
Permission = Literal["live", "delayed", "none"]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
ACCOUNT_NAME = "^[A-Za-z0-9]{1,32}$"
AccountName = Annotated[str, msgspec.Meta(pattern=ACCOUNT_NAME)]
Few = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that `run_gateway` needs; one of `scenario`, `replay` and the seeded `market` drives the prices."""

    port: Port = 0
    """TCP port on 127.0.0.1; 0 takes any free one."""
    announce: bool = False
    """Print one JSON line {"event":"listening","port":N} on stdout when the port is open."""
    die_with_parent: bool = False
    """Ask the kernel for SIGTERM when the parent process dies (Linux)."""
    journal: str | None = None
    """File for the JSON lines; None keeps no journal."""
    journal_ticks: bool = False
    """Journal market data, account values, current-time questions and their answers too, as `data` lines (large)."""

    scenario: str | None = None
    """Scenario file, or the name of a packaged one (`target`, `stop`, ...)."""
    replay: str | None = None
    """Zip or CSV of trades: ms,price,size,exchange,conditionHex,suspicious."""
    replay_date: str | None = None
    """yyyymmdd of the replayed day; None reads it from the file's name."""
    symbol: str | None = None
    """Symbol of the replayed trades; None reads it from the file's name or folder."""
    start: str | None = None
    """The exchange's New York time at the start: `2013-10-07T09:30`, or `09:30` of the present day. A replay begins at
    hh:mm[:ss[.fff]] of its own day (which may be written before it)."""
    to: str | None = None
    """Replay up to this New York time, inclusive."""
    speed: str = "1"
    """How fast the exchange's time goes: a factor such as 60; in a replay also `max`, or `lockstep` (see replay.py)."""
    lockstep_batch: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Trades per lockstep turn."""
    replay_wait: bool = True
    """Hold the first trade until a client has subscribed to the symbol."""
    history_files: tuple[str, ...] = ()
    """More files of the replay format, for the past: each one day of one symbol, both read from its name or folder."""
    history_pacing: bool = False
    """Answer historical requests that come too fast with 162, as IB does."""
    market: Literal["walk", "model"] = "walk"
    """What moves the prices without a scenario or a replay: the plain walk (market.py) or the book model (model.py)."""
    seed: int = 1
    walk_interval: Decimal = Decimal("0.25")
    """Seconds between two steps of the seeded walk, on the exchange's clock."""

    conflate_ms: Few = 0
    """At most one update of a reqMktData in so many milliseconds (IB: 250); 0 tells every change."""
    data_permission: Permission = "live"
    """What this user may see: live data, delayed data only (354; 10167 once asked for by type 3), or none (10089)."""
    data_permissions: dict[str, Permission] = {}
    """The same for single symbols."""
    data_delay_s: Few = 900
    """How late delayed data are, in seconds of the exchange."""
    data_lines: Few = 100
    """Contracts with market data at once, over all clients, before error 101; 0 lifts the limit."""
    depth_requests: Few = 3
    """Market depth requests at once, over all clients, before error 309."""
    tick_by_tick_limits: bool = False
    """Allow tick-by-tick data only as IB does: for 5 % of `data_lines` at once, and for one instrument once in 15 s."""

    accounts: tuple[AccountName, ...] = (DEFAULT_ACCOUNT,)
    cash: Decimal = Decimal(1_000_000)
    """Starting cash of each account, USD."""
    positions: tuple[str, ...] = ()
    """What the first account holds at the start, each as SYMBOL=QUANTITY@COST; below zero: short."""
    server_version: Annotated[int, msgspec.Meta(ge=157, le=178)] = DEFAULT_SERVER_VERSION
    """The highest version to agree on; a client that ends at 158 to 163 gets 157."""
    rules: ExchangeRules = ExchangeRules()
    state: str | None = None
    """File that outlives this process: orders, executions, positions, cash and ids come back from it; None forgets."""
    nextid_rollback: Annotated[int, msgspec.Meta(ge=0)] = 0
    """After a restart this many of each client's last order ids are handed out again, a known fault (ib-wire.md 8)."""
    first_perm_id: Annotated[int, msgspec.Meta(ge=1, lt=2**62)] = 1_800_000_001
    """Above 2147483647 to find clients that keep permId in 32 bits."""
    master_client_id: int | None = None
    """The Master API client hears every order and execution of every client."""
    all_executions: bool = True
    """reqExecutions with clientId 0 answers for every client (ib-wire.md 9); False: for the client that asks."""
    push_orders_on_connect: bool = False
    """Send this client's live orders right after nextValidId, as `Download open orders on connection` does."""
    always_open: bool | None = None
    """True: trade day and night, and report such hours in contract details. False: keep the sessions of US stocks on
    the exchange's clock (hours.py). None: trade always; a replay reports the ordinary hours, others 24/7."""
    holidays: tuple[str, ...] = ()
    """Days without a session besides weekends, yyyymmdd; no calendar is built in."""
    half_days: tuple[str, ...] = ()
    """Days that close at 13:00 New York."""
    pacing_limit: Few = 0
    """Messages per second before error 100 (IB: 50); 0 switches it off. A client that says +PACEAPI waits instead."""
    max_clients: Annotated[int, msgspec.Meta(ge=1)] = 32
    hello_seconds: Decimal = Decimal(30)
    """A connection that has not said startApi by then is closed: strangers cannot use up the places. 0: never."""
    resubmit_orders: bool = True
    """Keep orders and cancels that come while IB is away and send them when it is back; False: they are lost."""
    faults: tuple[AnyFault, ...] = ()
    """What goes wrong, from the start (faults/kinds.py)."""
    fault_seed: int = 1
    """Seed of everything that is drawn for the faults."""
    fault_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Above 0: draw faults of all kinds from the seed as well, about this often per occasion (faults/reading.py)."""
    control: Port | None = None
    """TCP port on 127.0.0.1 of the control interface (control_server.py); 0 takes any free one, None opens none."""
    control_token_file: str | None = None
    """File of mode 0600 that holds the control interface's token; None makes one up and announces it."""
    exec_prefix: str = ""
    """First part of execution ids; empty takes one from the start time."""
