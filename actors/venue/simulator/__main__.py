"""Run a gateway as its own process: `python -m actors.venue.simulator '{"announce": true, "scenario": "target"}'`.

Law: the one argument is a GatewaySettings in JSON; `run.py gateway` is the front door for people.
"""

from __future__ import annotations

import sys

import msgspec

from actors.venue.simulator.journal import CannotKeep
from actors.venue.simulator.replay import ReplayError
from actors.venue.simulator.scenario import ScenarioError
from actors.venue.simulator.server import run_gateway
from actors.venue.simulator.settings import GatewaySettings


def main(argv: list[str]) -> int:
    """Run until a signal ends it; return 2 for settings or files that cannot be used, also when that shows later."""
    try:
        settings = msgspec.json.decode(argv[0] if argv else "{}", type=GatewaySettings)
        run_gateway(settings)
    except (ScenarioError, ReplayError, ValueError, OSError, CannotKeep) as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
