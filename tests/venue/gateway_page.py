"""Writes docs/gateway-switches.md from the settings, rules and faults: `python -m tests.venue.gateway_page`.

Law: the page is never edited by hand; test_sim_gateway_page.py fails when it is not what this file writes.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from actors.venue.simulator import scenario
from actors.venue.simulator.faults.kinds import AnyFault, Fault
from actors.venue.simulator.orders import ExchangeRules
from actors.venue.simulator.profile import Profile
from actors.venue.simulator.settings import GatewaySettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gateway-switches.md"
HEAD = """# Every switch of the simulated gateway

Written by `python -m tests.venue.gateway_page` from the code; [gateway.md](gateway.md) tells how they are used. Numbers
in brackets and "ib-wire.md" name sections of the specification that the gateway was built from. Prices are in the
contract's currency, `dt` and other times in seconds unless the name says otherwise.
"""


def page() -> str:
    """Return the whole page."""
    parts = [
        HEAD,
        "## Settings\n\nA TOML file for `--settings`, and the fields of `GatewaySettings` in Python.\n",
        table(GatewaySettings),
        "## Rules\n\n`--rule NAME=VALUE`, the `[rules]` table of a settings file or of a scenario.\n",
        table(ExchangeRules),
        "## Faults\n\n`--fault 'NAME:FIELD=VALUE,...'`, `[[fault]]` tables and a step's `fault` of a scenario, the\n"
        "control interface. Every fault has an aim:\n",
        table(Fault),
        "Each has fields of its own:\n",
        faults(),
        "## Scenario files\n\n" + "\n".join(story_tables()),
        "## The book model\n\nA scenario's `[[model]]` tables take a `symbol` and these:\n",
        table(Profile),
    ]
    return "\n".join(parts).rstrip() + "\n"


def table(kind: type[Any]) -> str:
    """Return a table of a struct's own fields: name, default, what it says of itself."""
    lines = ["| field | default | |", "|---|---|---|"]
    said = docstrings(kind)
    for field in msgspec.structs.fields(kind):
        if field.name in own_fields(kind):
            lines.append(f"| `{field.name}` | {default_of(field)} | {said.get(field.name, '')} |")
    return "\n".join(lines) + "\n"


def faults() -> str:
    """Return a row for each fault: its tag, what it does, its fields."""
    lines = ["| fault | what happens | fields |", "|---|---|---|"]
    for kind in get_args(AnyFault):
        own = [f for f in msgspec.structs.fields(kind) if f.name not in Fault.__struct_fields__]
        fields = ", ".join(f"`{f.name}` {default_of(f)}" for f in own)
        lines.append(f"| `{kind.__struct_config__.tag}` | {one_line(kind.__doc__)} | {fields} |")
    return "\n".join(lines) + "\n"


def story_tables() -> Iterator[str]:
    """Yield each table of a scenario file with its fields."""
    yield "A file has `title`, `story`, `rules` and these tables; the module's own words are in `scenario.py`.\n"
    for name, kind in (("contract", scenario.NewContract), ("position", scenario.OpeningPosition),
                       ("quote", scenario.Price), ("step", scenario.Step), ("when", scenario.When),
                       ("path", scenario.Path_), ("fill", scenario.Fill), ("reject", scenario.Reject),
                       ("cancel", scenario.CancelIt), ("halt", scenario.Halt), ("disconnect", scenario.Disconnect)):
        fields = ", ".join(f"`{f.name}` {default_of(f)}" for f in msgspec.structs.fields(kind))
        yield f"- `{name}`: {fields}."
    yield ""


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """Spell a default; a field without one must be given."""
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return "(must be given)"
    if isinstance(value, msgspec.Struct):
        return "as below"
    if value in (None, "", (), [], {}):
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def own_fields(kind: type[Any]) -> list[str]:
    return [name for name in kind.__struct_fields__ if name in kind.__annotations__]


def docstrings(kind: type[Any]) -> dict[str, str]:
    """Return the string under each field of a class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(below, ast.Expr):
            found[node.target.id] = one_line(ast.literal_eval(below.value))
    return found


def one_line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip().replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
