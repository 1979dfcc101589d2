"""Builds a gateway from its settings: which exchange rules, which market.

Law: files are read and checked here, before any port opens.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from actors.venue.simulator import scenario as scenarios
from actors.venue.simulator.clock import Clock, speed_of, start_of
from actors.venue.simulator.faults.reading import draw
from actors.venue.simulator.gateway import Gateway
from actors.venue.simulator.hours import Hours
from actors.venue.simulator.journal import Journal
from actors.venue.simulator.market import Together, Walk
from actors.venue.simulator.model import BookModel
from actors.venue.simulator.persistence import Identity, Store
from actors.venue.simulator.profile import Profile
from actors.venue.simulator.replay import Replay, find_contract, midnight_ns
from actors.venue.simulator.runner import ScenarioRunner
from actors.venue.simulator.settings import ACCOUNT_NAME, GatewaySettings

NS = 1_000_000_000
EXEC_PREFIX = re.compile(r"[A-Za-z0-9]{0,20}")
LARGEST = 10**15


def make_gateway(settings: GatewaySettings, journal: Journal, now_ns: int) -> Gateway:
    """Build a gateway with its market driver.

    Raises ScenarioError, ReplayError or StateError for a file that cannot be used, ValueError for settings that
    contradict.
    """
    if settings.scenario and settings.replay:
        raise ValueError("a gateway plays either a scenario or a replay; both are given")
    _check(settings)
    story = scenarios.load(settings.scenario, settings.accounts) if settings.scenario else None
    rules = settings.rules
    if story is not None and story.rules:
        rules = msgspec.structs.replace(rules, **story.rules)
    if settings.replay or settings.always_open is False:
        rules = msgspec.structs.replace(rules, day_expiry=True, conditions_in_hours=True)
    gateway = Gateway(msgspec.structs.replace(settings, rules=rules), journal, now_ns, clock=_clock(settings, now_ns))
    if settings.state:
        identity = Identity(settings.accounts, gateway.perm_ids, gateway.exec_numbers)
        gateway.store = Store(settings.state, gateway.exchange, identity)
    if story is not None:
        runner = ScenarioRunner(gateway, story, now_ns)
        gateway.driver = runner
        if story.model:
            model = BookModel(gateway, settings.seed, now_ns, _profiles(gateway, story))
            gateway.driver = Together([runner, model])
    elif settings.replay:
        gateway.driver = Replay(gateway, settings, now_ns)
        gateway.roll(now_ns)                   # its clock stands in the replayed day from now on
    elif settings.market == "model":
        gateway.driver = BookModel(gateway, settings.seed, now_ns)
    else:
        gateway.driver = Walk(gateway, settings.seed, settings.walk_interval, now_ns)
    if settings.always_open is False:
        gateway.keep_hours(Hours(settings.holidays, settings.half_days), now_ns)
    gateway.history.opened_s = gateway.exchange_ns(now_ns) // NS
    for path in (*settings.history_files, *((settings.replay,) if settings.replay else ())):
        _past_of(gateway, path, settings)
    told = story.fault if story is not None else []
    for fault in (*settings.faults, *told, *draw(settings.fault_seed, settings.fault_rate)):
        gateway.faults.add(fault, now_ns)
    for text in settings.positions:
        _open_position(gateway, text, now_ns)
    if gateway.store is not None:
        gateway.resume(now_ns)
    return gateway


def _check(settings: GatewaySettings) -> None:
    """Check what types cannot say; raises ValueError."""
    if not settings.replay:
        for name in ("to", "symbol", "replay_date"):
            if getattr(settings, name) is not None:
                given = f"--{name.replace('_', '-')} {getattr(settings, name)!r}"
                raise ValueError(f"{given}: there is no replay that it could be of")
    if not settings.accounts:
        raise ValueError("a gateway needs at least one account")
    for account in settings.accounts:
        if re.match(ACCOUNT_NAME, account) is None or settings.accounts.count(account) > 1:
            raise ValueError(f"account {account!r}: expected letters and digits such as DU1000001, each but once")
    if EXEC_PREFIX.fullmatch(settings.exec_prefix) is None:
        raise ValueError(f"exec_prefix {settings.exec_prefix!r}: expected letters and digits")
    for name, value, least, most in (
            ("walk_interval", settings.walk_interval, Decimal("0.001"), 10**9),
            ("cash", settings.cash, -LARGEST, LARGEST),
            ("hello_seconds", settings.hello_seconds, 0, 10**6)):
        if not (Decimal(value).is_finite() and least <= value <= most):
            raise ValueError(f"{name} {value}: expected a number from {least} to {most}")


def _past_of(gateway: Gateway, path: str, settings: GatewaySettings) -> None:
    """Add one file to the past; raises ReplayError. The replayed file has what came before the replay's start."""
    if isinstance(gateway.driver, Replay) and path == settings.replay:
        gateway.history.add_file(gateway.driver.contract, path, gateway.driver.midnight_ns)
    else:
        gateway.history.add_file(find_contract(gateway, None, path), path, midnight_ns(None, path))


def _clock(settings: GatewaySettings, now_ns: int) -> Clock:
    """Return the exchange's clock; a replay sets its own. Raises ValueError."""
    if settings.replay:
        if settings.conflate_ms and settings.speed in ("max", "lockstep"):
            raise ValueError(f"conflate_ms needs a clock that goes on between prints; --speed {settings.speed} stands")
        return Clock(now_ns)
    start_ns = None if settings.start is None else start_of(settings.start, now_ns)
    return Clock(now_ns, start_ns, speed_of(settings.speed))


def _profiles(gateway: Gateway, story: scenarios.Scenario) -> dict[int, Profile]:
    """Return the profiles of the symbols that move by themselves in this scenario, by conId."""
    found: dict[int, Profile] = {}
    for model in story.model:
        contract = gateway.contracts.named(model.symbol)
        assert contract is not None, f"{model.symbol} was checked when the scenario was loaded"
        found[contract.con_id] = model
    return found


def _open_position(gateway: Gateway, text: str, now_ns: int) -> None:
    """Give the first account a position written as SYMBOL=QUANTITY@COST; raises ValueError."""
    found = re.fullmatch(r"([A-Z0-9. ]{1,20})=(-?[0-9]{1,9})@([0-9]{1,9}(?:\.[0-9]{1,6})?)", text)
    contract = gateway.contracts.named(found[1]) if found else None
    if found is None or contract is None or not int(found[2]) or not Decimal(found[3]):
        raise ValueError(f"--position {text!r}: expected SYMBOL=QUANTITY@COST such as SPY=100@168, the symbol one of "
                         f"{', '.join(sorted(gateway.contracts.by_symbol))}")
    gateway.open_position(gateway.settings.accounts[0], contract, Decimal(found[2]), Decimal(found[3]), now_ns)
