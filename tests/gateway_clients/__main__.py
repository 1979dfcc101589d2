"""`make gateway-clients`: every client plays the session, and a table says whether it agrees with the journal.

    python -m tests.gateway_clients [--client NAME] [--server-version N] [--delivery plain|split|coalesced]
                                    [--leave-out PART] [--json]

Law: exit code 0 only if every client that was asked for was played and no difference was found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.table import Table

from tests.gateway_clients.environments import Client, EnvironmentProblem, clients, ready
from tests.gateway_clients.play import Outcome, play, session
from tests.gateway_clients.relay import DELIVERIES

ORDINARY = 176
SHOWN = 12
PARTS = ("combos", "completed", "rich")
WIDE = 132


def planned(client: Client, versions: list[int] | None, deliveries: list[str] | None) -> Iterator[tuple[int, str]]:
    """Yield which sessions a client plays: each server version, and its main one cut and gathered too."""
    for version in client.server_versions:
        if versions and version not in versions:
            continue
        main = version == ORDINARY or ORDINARY not in client.server_versions
        for delivery in deliveries or (DELIVERIES if main else DELIVERIES[:1]):
            yield version, delivery


def played(chosen: list[Client], options: argparse.Namespace) -> Iterator[Outcome]:
    """Play what the options ask for; a client without an environment is an outcome too, and a bad one."""
    left_out = tuple(options.leave_out or ())
    for client in chosen:
        try:
            folder = ready(client)
        except EnvironmentProblem as problem:
            yield Outcome(client=client.name, steps=len(session(left_out)["step"]),
                          differences=[f"no environment: {problem}"])
            continue
        for version, delivery in planned(client, options.server_version, options.delivery):
            yield play(client, version, folder, delivery, left_out)


def say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show(outcomes: list[Outcome], console: Console) -> None:
    table = Table("client", "version", "server version", "delivery", "steps passed", "differences", "seconds")
    for o in outcomes:
        table.add_row(o.client, o.version, str(o.server_version), o.delivery, f"{o.passed} of {o.steps}",
                      str(len(o.differences)) if o.differences else "none", f"{o.seconds:.1f}")
    console.print(table)
    for text in dict.fromkeys(f"{o.client} leaves out {part}" for o in outcomes
                              for part in o.left_out):
        say(console, text)
    for o in outcomes:
        for difference in o.differences[:SHOWN]:
            say(console, f"{o.client} {o.server_version} {o.delivery}: {difference}")
        if len(o.differences) > SHOWN:
            say(console, f"{o.client} {o.server_version} {o.delivery}: and {len(o.differences) - SHOWN} more")


def main(argv: list[str]) -> int:
    known = {c.name: c for c in clients()}
    parser = argparse.ArgumentParser(prog="gateway_clients", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--client", action="append", choices=sorted(known), help="only this client (repeatable)")
    parser.add_argument("--server-version", action="append", type=int, help="only this server version (repeatable)")
    parser.add_argument("--delivery", action="append", choices=DELIVERIES, help="only this way of delivering bytes")
    parser.add_argument("--leave-out", action="append", choices=PARTS, help="without this part of the session")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(argv)
    console = Console(stderr=options.json)
    console = console if console.is_terminal else Console(stderr=options.json, width=WIDE)
    outcomes = []
    for outcome in played([known[name] for name in options.client or known], options):
        outcomes.append(outcome)
        verdict = f"{len(outcome.differences)} differences" if outcome.differences else "agrees with the journal"
        say(console, f"{outcome.client} {outcome.version} at {outcome.server_version}, {outcome.delivery}: {verdict}")
    if options.json:
        sys.stdout.write(msgspec.json.encode(outcomes).decode() + "\n")
    else:
        show(outcomes, console)
    return 0 if outcomes and not any(o.differences for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
