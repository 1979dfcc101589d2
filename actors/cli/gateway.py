"""`gateway`: the simulated IB gateway as a process.

Law: a settings file names fields of GatewaySettings, the command line wins over it, and `--rule` names fields of
ExchangeRules: what is not known there is refused in one sentence.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from actors.cli.common import ENVIRONMENT, USAGE, CommandError, say
from actors.cli.ports import holder
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.settings import GatewaySettings

USUAL_PORT = 4002
"""Where IB's own gateway listens for paper accounts."""


def serve(as_json: bool, file: str | None = None, rules: Iterable[str] = (), faults: Iterable[str] = (),
          **options: Any) -> None:
    """Run a gateway until SIGTERM or SIGINT. Raises CommandError when it cannot listen or a file cannot be used."""
    from actors.venue.simulator.faults.kinds import plain
    from actors.venue.simulator.faults.reading import FaultError, read_fault
    from actors.venue.simulator.journal import CannotKeep
    from actors.venue.simulator.server import run_gateway

    try:
        options["faults"] = tuple(plain(read_fault(text)) for text in faults)
    except FaultError as problem:
        raise CommandError(f"--{problem}", USAGE, field="fault") from None
    settings = settings_from(file, rules, options)
    if not as_json:
        say(f"simulated gateway on 127.0.0.1, paper account {', '.join(settings.accounts)}; Ctrl-C ends it")
    try:
        run_gateway(settings)
    except CannotKeep as problem:
        raise CommandError(f"{problem}; the gateway has ended", ENVIRONMENT, "state") from None
    except OSError as problem:
        port = settings.port
        held = f" by {who}" if (who := holder(port)) else ""
        sentence = f"--port {port}: {problem.strerror or problem}{held}; name another port, or 0 for any free one"
        raise CommandError(sentence, ENVIRONMENT, "port") from None
    except ValueError as problem:
        raise CommandError(str(problem), USAGE, "scenario") from None
    sys.stdout.flush()


def settings_from(file: str | None, rules: Iterable[str], options: dict[str, Any]) -> GatewaySettings:
    """Join a settings file, `--rule NAME=VALUE` and the options that were given; raises CommandError."""
    chosen: dict[str, Any] = {"port": USUAL_PORT, **(_read(file) if file else {})}
    chosen |= {name: value for name, value in options.items() if value not in (None, ())}
    named = chosen.get("rules", {})
    if not isinstance(named, dict):
        raise CommandError(f"{file}: rules {named!r}: expected a table of switches", USAGE, field="rules")
    for text in rules:
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--rule {text!r}: expected NAME=VALUE such as oca_amend=true", USAGE, field="rule")
        named = {**named, name: value}
        _convert(named, ExchangeRules, f"--rule {text}")
    return _convert({**chosen, "rules": named, "announce": True}, GatewaySettings, file or "gateway")


def _read(file: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = tomllib.loads(Path(file).read_text("utf-8"), parse_float=Decimal)
    except (OSError, ValueError, RecursionError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise CommandError(f"{file}: cannot be used as gateway settings: {reason}", USAGE, "settings") from None
    _convert(found, GatewaySettings, file)
    return found


def _convert(values: dict[str, Any], kind: type[Any], where: str) -> Any:
    """Read plain values as a struct; what does not fit is told with its field and, for a name, what there is."""
    unknown = sorted(values.keys() - set(kind.__struct_fields__))
    if unknown:
        known = ", ".join(kind.__struct_fields__)
        raise CommandError(f"{where}: {unknown[0]!r} is not a switch; there are: {known}", USAGE, field=unknown[0])
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as problem:
        message, _, path = str(problem).partition(" - at `$.")
        field = path.rstrip("`") or kind.__name__
        raise CommandError(f"{where}: {field}: {message}", USAGE, field=field) from None
