"""Every setting, with its unit and default; read from TOML, overridden on the command line.

Law: an unknown key, a wrong type or a limit outside its range is refused at the start with key, value and rule.
"""

from __future__ import annotations

import os
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec

from messages.base import Record

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]

BASES = ("simpleSystemBase", "multiprocTCPBase")
LIBRARIES = ("ib_insync", "ib_async")
LIVE_PORTS = (4001, 7496)
"""Where IB's gateway and its workstation listen for real money, unless they are told otherwise."""


class SettingsError(ValueError):
    """One sentence that names the key, the value and the rule."""


class SystemSettings(Record, frozen=True, kw_only=True):
    base: str = "simpleSystemBase"
    state_dir: str = "state"
    log_level: str = "INFO"


class VenueSettings(Record, frozen=True, kw_only=True):
    """The gateway and how it is spoken to. Rates are messages a second; IB's own limit is 50."""

    host: str = "127.0.0.1"
    port: Port = 4002
    client_id: Annotated[int, msgspec.Meta(ge=0, le=998)] = 1
    account: str = ""
    """Empty: the gateway's only account; with several, it must be named."""
    accounts: tuple[str, ...] = ()
    library: str = "ib_insync"
    connect_timeout_s: Positive = 10.0
    request_timeout_s: Positive = 8.0
    heartbeat_s: Positive = 10.0
    quiescence_s: Positive = 0.5
    rate_per_s: Positive = 40.0
    pacing: bool = True
    """False lets rate_per_s exceed IB's limit, for measurements at a simulated gateway; refused at IB's live ports."""
    reserved_for_exits_per_s: Annotated[float, msgspec.Meta(ge=0)] = 15.0
    max_active_per_side: Count = 15
    """IB's documented cap of active orders per contract, side and account is 15 to 20."""
    max_queue: Count = 20000
    lockstep: bool = False
    """Ask the time after each read of ticks, so that a replaying gateway waits for us."""


class OcaSettings(Record, frozen=True, kw_only=True):
    native: bool = True
    cancel_wait_s: Positive = 1.0
    exit_race: str = "safe"
    coalesce_s: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.05
    """A quiet time in which later entry fills join one additional set of exits; at most two seconds uncovered."""
    echo_s: Positive = 2.0


class ExitSettings(Record, frozen=True, kw_only=True):
    reprotect_max: Count = 2
    reprotect_window_s: Positive = 60.0
    human_cancel: str = "freeze"


class IntentSettings(Record, frozen=True, kw_only=True):
    strategies: tuple[str, ...] = ("0DTE_Scalp", "Spread_Roll", "Momentum_EQ", "Gamma_Rebalance")
    valid_for_mkt_s: Positive = 30.0
    valid_for_lmt_s: Positive = 120.0


class RiskSettings(Record, frozen=True, kw_only=True):
    max_order_quantity: Decimal = Decimal(100_000)
    max_order_notional: Decimal = Decimal(5_000_000)
    """In the instrument's currency: price x quantity x multiplier."""
    max_price_deviation: Decimal = Decimal("0.5")
    """A limit or trigger further than this share from the last known price is refused as a slip of the hand."""


class DatabaseSettings(Record, frozen=True, kw_only=True):
    url: str = ""
    """Empty: SQLite in the state folder. Otherwise sqlite:///FILE or postgresql://..."""


class HttpSettings(Record, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: Port = 8765
    enabled: bool = True


class Settings(Record, frozen=True, kw_only=True):
    system: SystemSettings = SystemSettings()
    venue: VenueSettings = VenueSettings()
    oca: OcaSettings = OcaSettings()
    exits: ExitSettings = ExitSettings()
    intents: IntentSettings = IntentSettings()
    risk: RiskSettings = RiskSettings()
    database: DatabaseSettings = DatabaseSettings()
    http: HttpSettings = HttpSettings()

    @property
    def state_dir(self) -> str:
        return self.system.state_dir

    @property
    def log_level(self) -> str:
        return self.system.log_level

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{os.path.abspath(os.path.join(self.state_dir, 'bracketeer.db'))}"


def load_settings(path: str | None = None, overrides: dict[str, dict[str, Any]] | None = None) -> Settings:
    """Read settings from a TOML file (or none) and lay `{section: {key: value}}` over them.

    Raises SettingsError with key, value and rule.
    """
    raw: dict[str, Any] = {}
    if path:
        try:
            raw = tomllib.loads(Path(path).read_text())
        except OSError as problem:
            raise SettingsError(f"--config {path}: cannot be read ({problem.strerror}); name a TOML file") from None
        except tomllib.TOMLDecodeError as problem:
            raise SettingsError(f"--config {path}: is not TOML: {problem}") from None
    for section, values in (overrides or {}).items():
        raw.setdefault(section, {}).update({key: value for key, value in values.items() if value is not None})
    try:
        settings = msgspec.convert(raw, Settings)
    except msgspec.ValidationError as problem:
        raise SettingsError(f"settings: {problem}") from None
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    one_of(settings.system.base, "system.base", BASES)
    one_of(settings.venue.library, "venue.library", LIBRARIES)
    one_of(settings.oca.exit_race, "oca.exit_race", ("safe", "fast"))
    one_of(settings.exits.human_cancel, "exits.human_cancel", ("freeze", "reprotect"))
    for key, host in (("http.host", settings.http.host),):
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise SettingsError(f"{key}: {host!r} is not a loopback address; everything listens on loopback only")
    if not settings.venue.pacing and settings.venue.port in LIVE_PORTS:
        raise SettingsError(
            f"venue.pacing: false is refused at port {settings.venue.port}, where real money trades; IB hangs up on"
            " whoever sends more than 50 messages a second"
        )
    if settings.venue.pacing and settings.venue.rate_per_s > 50:
        raise SettingsError(f"venue.rate_per_s: {settings.venue.rate_per_s} is above IB's limit of 50 a second")
    if settings.venue.reserved_for_exits_per_s >= settings.venue.rate_per_s:
        raise SettingsError(
            f"venue.reserved_for_exits_per_s: {settings.venue.reserved_for_exits_per_s} leaves entries nothing of"
            f" venue.rate_per_s = {settings.venue.rate_per_s}; it must be smaller"
        )


def one_of(value: str, key: str, allowed: tuple[str, ...]) -> None:
    """Raise SettingsError unless the value is one of the allowed words."""
    if value not in allowed:
        raise SettingsError(f"{key}: {value!r} is not one of {', '.join(allowed)}")
