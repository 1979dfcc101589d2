"""`gateway`: the simulated IB gateway as a process."""

from __future__ import annotations

import sys
from typing import Any

from actors.cli.common import ENVIRONMENT, USAGE, CommandError, say
from actors.cli.ports import holder


def serve(as_json: bool, **options: Any) -> None:
    """Run a gateway until SIGTERM or SIGINT. Raises CommandError when it cannot listen or a file cannot be used."""
    from actors.venue.simulator.server import run_gateway
    from actors.venue.simulator.settings import GatewaySettings

    if not as_json:
        say("simulated gateway on 127.0.0.1, paper account DU1000001; Ctrl-C ends it")
    try:
        run_gateway(GatewaySettings(announce=True, **options))
    except OSError as problem:
        port = options["port"]
        held = f" by {who}" if (who := holder(port)) else ""
        sentence = f"--port {port}: {problem.strerror or problem}{held}; name another port, or 0 for any free one"
        raise CommandError(sentence, ENVIRONMENT, "port") from None
    except ValueError as problem:
        raise CommandError(str(problem), USAGE, "scenario") from None
    sys.stdout.flush()
