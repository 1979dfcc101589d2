"""From the command line to settings: a file first, then the options over it."""

from __future__ import annotations

from typing import Any

from actors.cli.common import REFUSED, CommandError, host_and_port
from messages.settings import Settings, load_settings

LIVE = (
    "--live: refused; trading real money needs the gate of loss limit, rate limit, kill switch and reconciliation,"
    " which is not built yet: connect to a paper account without --live"
)


def settings_from(
    config: str | None, *, gateway: str | None = None, client_id: int | None = None, db: str | None = None,
    http: str | None = None, base: str | None = None, library: str | None = None, state: str | None = None,
    oca_native: bool | None = None, account: str | None = None, live: bool = False,
) -> Settings:  # fmt: skip
    """Return the settings of a command. Raises SettingsError or CommandError with one sentence."""
    if live:
        raise CommandError(LIVE, REFUSED, "live", "--live")
    venue: dict[str, Any] = {"client_id": client_id, "library": library, "account": account}
    if gateway:
        venue["host"], venue["port"] = host_and_port(gateway, "--gateway")
    web: dict[str, Any] = {}
    if http:
        web["host"], web["port"] = host_and_port(http, "--http")
    return load_settings(config, {
        "system": {"base": base, "state_dir": state},
        "venue": venue,
        "oca": {"native": oca_native},
        "database": {"url": db},
        "http": web,
    })  # fmt: skip
