"""What `run.py gateway` takes: a tool of its own for anybody's IB code, so it has more options than the other commands.

Law: this file imports nothing heavy; the work is done in gateway.py.
"""

from __future__ import annotations

from typing import Annotated

import typer


def gateway(
    port: Annotated[int | None, typer.Option(help="On 127.0.0.1; 0 takes any free one.  [default: 4002]")] = None,
    journal: Annotated[str | None, typer.Option(metavar="FILE", help="Keep all that happens, a line each.")] = None,
    scenario: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Play a market told as a story.")] = None,
    replay: Annotated[str | None, typer.Option(metavar="FILE", help="Play recorded trades (CSV or zip).")] = None,
    speed: Annotated[str | None, typer.Option(help="Of the exchange's clock, such as 60; a replay also takes `max` and "
                                                   "`lockstep`.  [default: 1]")] = None,
    lockstep: Annotated[bool, typer.Option("--lockstep", help="The same as --speed lockstep.")] = False,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="New York's, such as 2013-10-07T09:30.")] = None,
    to: Annotated[str | None, typer.Option(metavar="TIME", help="End a replay at this New York time.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Of the replay, if its file's name does not tell.")] = None,
    market: Annotated[str | None, typer.Option(metavar="walk|model", help="What moves prices. [default: walk]")] = None,
    hours: Annotated[bool, typer.Option("--hours", help="Keep the sessions of US stocks; else open always.")] = False,
    conflate_ms: Annotated[int | None, typer.Option(help="One update of market data in so many ms (IB: 250).")] = None,
    data: Annotated[str | None, typer.Option(metavar="live|delayed|none", help="What data may be seen.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the market's moves.  [default: 1]")] = None,
    position: Annotated[list[str] | None, typer.Option(help="Held at the start: SYMBOL=QUANTITY@COST.")] = None,
    state: Annotated[str | None, typer.Option(metavar="FILE", help="Keep orders, fills and ids over restarts.")] = None,
    account: Annotated[list[str] | None, typer.Option(help="Name of an account; several may be given.")] = None,
    cash: Annotated[str | None, typer.Option(help="Of each account at the start, USD.")] = None,
    server_version: Annotated[int | None, typer.Option(help="Highest to agree on, 157 to 178. [default: 176]")] = None,
    rule: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A switch of the exchange.")] = None,
    fault: Annotated[list[str] | None, typer.Option(
        metavar="NAME:FIELD=VALUE,...", help="What goes wrong: drop_before_ack:order=reached,after=3")] = None,
    fault_seed: Annotated[int | None, typer.Option(help="Of all that is drawn for the faults.  [default: 1]")] = None,
    fault_rate: Annotated[float | None, typer.Option(help="Above 0: draw faults of all kinds, about so often.")] = None,
    control: Annotated[int | None, typer.Option(metavar="PORT", help="Open the control interface; 0: any.")] = None,
    control_token_file: Annotated[str | None, typer.Option(
        metavar="FILE", help="Holds its token, mode 0600; else one is announced.")] = None,
    settings: Annotated[str | None, typer.Option(metavar="FILE", help="TOML with any of the settings.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """Run the simulated IB gateway on 127.0.0.1 until Ctrl-C. Any IB client may connect; docs/gateway.md says more."""
    from actors.cli.gateway import serve

    given = {"port": port, "journal": journal, "scenario": scenario,
             "replay": replay, "speed": "lockstep" if lockstep else speed, "seed": seed, "symbol": symbol,
             "start": start, "to": to, "positions": tuple(position or ()), "accounts": tuple(account or ()),
             "cash": cash, "state": state, "server_version": server_version, "fault_seed": fault_seed,
             "fault_rate": fault_rate, "control": control, "control_token_file": control_token_file, "market": market,
             "conflate_ms": conflate_ms, "data_permission": data,
             "always_open": False if hours else None}  # fmt: skip
    serve(as_json, file=settings, rules=rule or (), faults=fault or (), **given)
