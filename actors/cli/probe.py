"""`doctor --probe`: asks a paper gateway the open questions of trading-rules.md and keeps its answers.

Law: what is stored is what was seen, with where and when; nothing is stored unless every question was put.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec

from actors.cli.common import ENVIRONMENT, OK, REFUSED, USAGE, CommandError, print_json, say
from actors.venue.probe import QUESTIONS, Findings, Probe, ProbeError
from messages.settings import Settings

ANSWERS = "probe.json"


def ask(settings: Settings, as_json: bool, *, symbol: str, price: str | None, trade: bool) -> int:
    """Ask, print and store. Raises CommandError where the gateway is live, silent or not there."""
    from actors.venue.ib import IbVenue

    where = f"{settings.venue.host}:{settings.venue.port}"
    venue = IbVenue(settings.venue.library)
    probe = Probe(venue, symbol, _price(price), trade)
    if not as_json:
        say(f"asking {where}: one-share orders far from the market, cancelled afterwards")
    try:
        findings = probe.run(settings.venue.host, settings.venue.port)
    except ProbeError as problem:
        refused = "paper" in str(problem)
        raise CommandError(str(problem), REFUSED if refused else ENVIRONMENT, "probe") from None
    finally:
        venue.close()
    path = store(findings, where, Path(settings.state_dir))
    if as_json:
        print_json({**document(findings, where), "path": str(path)})
    else:
        _show(findings)
        say(f"stored in {path}")
    for left in findings.left:
        say(f"LEFT BEHIND, cancel it by hand: {left}")
    return ENVIRONMENT if findings.left else OK


def _price(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal(0)
    if not price.is_finite() or price < 4:
        raise CommandError(f"--price {text!r}: expected a price of at least 4", USAGE, "usage", "--price")
    return price


def document(findings: Findings, where: str) -> dict[str, Any]:
    """Return the answers as they are stored: with date, gateway, version and account."""
    return {"asked_at": datetime.now(UTC).isoformat(timespec="seconds"), "gateway": where,
            **msgspec.to_builtins(findings)}


def store(findings: Findings, where: str, folder: Path) -> Path:
    """Write the answers into the state folder, whole or not at all; return the file's path."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / ANSWERS
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(document(findings, where)), indent=2) + b"\n")
    os.replace(draft, path)
    return path.absolute()


def _show(findings: Findings) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"server version {findings.server_version}, account {findings.account}")
    for column in ("question", "answer", "which is", "switch of the simulated gateway", "seen"):
        table.add_column(column, overflow="fold")
    by_name = {answer.name: answer for answer in findings.answers}
    for question in QUESTIONS:
        found = by_name[question.name]
        said = {"harder": question.harder, "easier": question.easier}.get(found.answer, "")
        table.add_row(question.question, said, found.answer, question.switch, escape(found.seen))
    Console().print(table)
