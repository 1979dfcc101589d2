"""The command line: what each command is called and what it takes. The work is done in actors/cli.

Law: this file defines no actor and imports nothing heavy; `run.py status` must not pay for what `run.py demo` needs.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated, Any

import typer

from actors.cli import common
from actors.cli.gateway_options import gateway
from actors.cli.processes import obey_parent

app = typer.Typer(
    name="bracketeer", help="A contingent order engine for Interactive Brokers.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
export = typer.Typer(help="Write data for other programs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(export, name="export")


Base = Enum("Base", {"embedded": "simpleSystemBase", "isolated": "multiprocTCPBase"})
Library = Enum("Library", {"ib_insync": "ib_insync", "ib_async": "ib_async"})
State = Annotated[str, typer.Option("--state", help="State folder of the engine.")]
Url = Annotated[str | None, typer.Option("--url", help="Address of the engine; by default the state folder tells it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Bracket id.")]
Quantity = Annotated[tuple[str, str] | None, typer.Option(metavar="QUANTITY SYMBOL")]
Text = Annotated[str | None, typer.Option()]
OcaNative = Annotated[bool | None, typer.Option("--oca-native/--no-oca-native", help="Let IB reduce OCA siblings.")]


@app.command()
def demo(
    scenario: Annotated[str, typer.Option(help="Which story; `list` names them.")] = "target",
    oca_native: OcaNative = None, base: Base | None = None, library: Library | None = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Play a scenario: simulated gateway, engine and all, and tell each step as it happens."""
    from actors.cli.demo import play

    raise typer.Exit(play(scenario, oca_native, base and base.value, library and library.value, as_json))


app.command()(gateway)


@app.command()
def start(
    gateway: Annotated[str | None, typer.Option(metavar="HOST:PORT")] = None,
    client_id: Annotated[int | None, typer.Option()] = None,
    db: Annotated[str | None, typer.Option(metavar="URL", help="sqlite:///FILE or postgresql://...")] = None,
    http: Annotated[str | None, typer.Option(metavar="HOST:PORT")] = None,
    base: Base | None = None, library: Library | None = None, config: Text = None, state: Text = None,
    oca_native: OcaNative = None, account: Text = None, verbose: bool = False, as_json: Json = False,
    live: Annotated[bool, typer.Option("--live", help="Refused until its gate exists.")] = False,
) -> None:  # fmt: skip
    """Run the engine until Ctrl-C or SIGTERM."""
    from actors.cli.options import settings_from
    from actors.cli.service import start as run_engine

    settings = settings_from(
        config, gateway=gateway, client_id=client_id, db=db, http=http, base=base and base.value, live=live,
        library=library and library.value, state=state, oca_native=oca_native, account=account,
    )  # fmt: skip
    raise typer.Exit(run_engine(settings, as_json, console=verbose))


@app.command()
def submit(
    file: Annotated[str | None, typer.Argument(help="JSON file with one intent, or - for standard input.")] = None,
    buy: Quantity = None, sell: Quantity = None, sell_short: Quantity = None, buy_to_cover: Quantity = None,
    limit: Text = None, stop_entry: Text = None, target: Text = None, stop: Text = None, trail: Text = None,
    trail_percent: Text = None, tif: Text = None, strategy: Text = None, signal_id: Text = None, account: Text = None,
    valid_for: Text = None, hold: Annotated[bool, typer.Option("--hold", help="Keep the exits here.")] = False,
    state: State = "state", url: Url = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Send one intent: a file, or flags like --buy 100 AAPL --limit 100 --target 110 --stop 95."""
    from actors.cli.orders import read_intent
    from actors.cli.orders import submit as send

    flags = {"limit": limit, "stop_entry": stop_entry, "target": target, "stop": stop, "trail": trail, "hold": hold,
             "trail_percent": trail_percent, "tif": tif, "strategy": strategy, "signal_id": signal_id,
             "account": account, "valid_for": valid_for}  # fmt: skip
    sides = {"BUY": buy, "SELL": sell, "SELL_SHORT": sell_short, "BUY_TO_COVER": buy_to_cover}
    intent = read_intent(file, sides, flags)
    send(common.engine(state, url), intent, as_json)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again as it changes, until Ctrl-C.")] = False,
    state: State = "state", url: Url = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show whether the engine is ready, its brackets and positions."""
    from actors.cli.show import status as show

    show(common.engine(state, url), watch, as_json)


@app.command()
def orders(state: State = "state", url: Url = None, as_json: Json = False) -> None:
    """Show every order."""
    from actors.cli.show import orders as show

    show(common.engine(state, url), as_json)


@app.command()
def bracket(bracket_id: Id, state: State = "state", url: Url = None, as_json: Json = False) -> None:
    """Tell the whole story of one bracket: every event with its time and reason."""
    from actors.cli.show import bracket as show

    show(common.engine(state, url), bracket_id, as_json)


def _verb(name: str, help_text: str) -> None:
    @app.command(name, help=help_text)
    def act(bracket_id: Id, state: State = "state", url: Url = None, as_json: Json = False) -> None:
        from actors.cli.orders import act as give

        give(common.engine(state, url), name, bracket_id, as_json)


_verb("cancel", "End a bracket of which nothing is filled.")
_verb("cancel-entry", "Cancel what is left of the entry; keep the protection of what is filled.")
_verb("flatten", "Cancel everything, close what is open at the market, end.")
_verb("detach", "Stop managing a bracket; leave its orders at the venue.")


@app.command()
def modify(
    bracket_id: Id, limit: Text = None, stop_entry: Text = None, quantity: Text = None, target: Text = None,
    stop: Text = None, trail: Text = None, trail_percent: Text = None, tranche: int = 1,
    state: State = "state", url: Url = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Change prices or quantity; docs/intents.md says what may change when."""
    from actors.cli.orders import modify as change

    changes = {"limit_price": limit, "stop_price": stop_entry, "quantity": quantity, "target": target, "stop": stop,
               "trail_amount": trail, "trail_percent": trail_percent, "tranche": tranche}  # fmt: skip
    change(common.engine(state, url), bracket_id, changes, as_json)


@export.command("orders")
def export_orders(state: State = "state", url: Url = None, db: Text = None, as_json: Json = False) -> None:
    """Write every order with exactly the nine fields of the order schema."""
    from actors.cli.show import export_orders as write

    write(state, url, db, as_json)


@app.command()
def rebuild(state: State = "state", db: Text = None, config: Text = None, as_json: Json = False) -> None:
    """Build every table anew from the events; the engine must not run."""
    from actors.cli.maintain import rebuild as build

    build(state, db, config, as_json)


@app.command()
def doctor(
    gateway: Text = None, db: Text = None, http: Text = None, config: Text = None, state: Text = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask a paper gateway the open questions instead.")] = False,
    symbol: Annotated[str, typer.Option(help="The probe's stock.")] = "SPY",
    price: Annotated[str | None, typer.Option(help="Its price, where the gateway gives no quotes.")] = None,
    trade: Annotated[bool, typer.Option("--trade", help="Let the probe buy one share and sell it again.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Check this machine, the settings and the gateway; each line says PASS or FAIL and what to do."""
    if probe:
        from actors.cli.options import settings_from
        from actors.cli.probe import ask

        settings = settings_from(config, gateway=gateway, db=db, http=http, state=state)
        raise typer.Exit(ask(settings, as_json, symbol=symbol, price=price, trade=trade))
    from actors.cli.doctor import examine

    raise typer.Exit(examine(config, as_json, gateway=gateway, db=db, http=http, state=state))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code (docs/cli.md lists them)."""
    given = sys.argv[1:] if arguments is None else arguments
    obey_parent()
    try:
        result: Any = app(given, prog_name="run.py", standalone_mode=False)
        return result if isinstance(result, int) else common.OK
    except BaseException as problem:  # the edge of the program: nobody is to see a traceback
        return common.finish(problem, "--json" in given)


if __name__ == "__main__":
    sys.exit(main())
