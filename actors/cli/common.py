"""What every command shares: exit codes, where the engine is, and how an answer is printed.

Law: with --json one JSON object goes to standard output, refusals included; without it standard output is for people
and a refusal is one sentence on standard error. No traceback reaches anybody.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from actors.web.client import Bracketeer

OK = 0
REFUSED = 1
"""The engine or the venue said no: validation, risk, a verb that does not apply."""
USAGE = 2
"""The command line or a setting is wrong; nothing was asked of anybody."""
NOT_REACHABLE = 3
"""No engine, or it is not ready, or it did not answer."""
NOT_FOUND = 4
ENVIRONMENT = 5
"""Port taken, folder not writable, database refuses, another engine runs, a doctor's line fails."""
NOT_AS_EXPECTED = 6
"""A demo ended otherwise than its scenario says."""
SOFTWARE = 70
"""A fault of this program; the log has the details."""
INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot go on: one sentence and an exit code."""

    def __init__(self, sentence: str, code: int, word: str = "", field: str | None = None) -> None:
        super().__init__(sentence)
        self.code = code
        self.word = word or {USAGE: "usage", ENVIRONMENT: "environment", NOT_FOUND: "not_found"}.get(code, "error")
        self.field = field


def engine(state: str, url: str | None) -> Bracketeer:
    """Return a client of the engine in a state folder, or at a URL."""
    from actors.web.client import Bracketeer

    return Bracketeer.of_state(state, url)


def encode(value: Any) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def print_json(value: Any) -> None:
    sys.stdout.write(encode(value) + "\n")
    sys.stdout.flush()


def say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


def report(problem: BaseException, as_json: bool) -> int:
    """Tell a failure in one sentence; return the exit code."""
    code, word, field, sentence = _explain(problem)
    if as_json:
        print_json({"code": word, "field": field, "sentence": sentence})
    sys.stderr.write(f"{sentence}\n")
    return code


def finish(problem: BaseException, as_json: bool) -> int:
    """Turn whatever ended a command into its exit code, told in one sentence where there is something to tell."""
    if isinstance(problem, SystemExit):
        return problem.code if isinstance(problem.code, int) else OK if problem.code is None else SOFTWARE
    if hasattr(problem, "exit_code"):
        if not hasattr(problem, "format_message"):  # typer.Exit
            return int(problem.exit_code)
        said = problem.format_message().replace("Value error, ", "")
        context = getattr(problem, "ctx", None)
        help_text = context.get_help() if not said and context is not None else ""
        if help_text:
            say(help_text)
            return USAGE
        return report(CommandError(said[:1].lower() + said[1:], USAGE), as_json)
    if type(problem).__name__ == "Abort":
        return report(KeyboardInterrupt(), as_json)
    if isinstance(problem, BrokenPipeError):
        # Whoever read our output has gone; Python must not fail once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return report(problem, as_json)


def _explain(problem: BaseException) -> tuple[int, str, str | None, str]:
    if isinstance(problem, CommandError):
        return problem.code, problem.word, problem.field, str(problem)
    if isinstance(problem, KeyboardInterrupt):
        return INTERRUPTED, "interrupted", None, "interrupted"
    name = type(problem).__name__
    if name == "SettingsError":
        return USAGE, "settings", None, str(problem)
    if name == "StorageError":
        return ENVIRONMENT, "database", None, str(problem)
    client = sys.modules.get("actors.web.client")
    if client is not None and isinstance(problem, client.ClientError):
        code = NOT_REACHABLE if isinstance(problem, client.EngineGone) else REFUSED
        if isinstance(problem, client.UnknownBracket):
            code = NOT_FOUND
        return code, problem.code, problem.field, problem.sentence
    return SOFTWARE, "internal", None, f"this is a fault of the program ({name}); {_keep_trace(problem)}"


def _keep_trace(problem: BaseException) -> str:
    """Write the traceback where a person can find it, and say where."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="bracketeer-", suffix=".trace", delete=False) as file:
        file.writelines(traceback.format_exception(problem))
        return f"its trace is in {file.name}"


def host_and_port(text: str, option: str) -> tuple[str, int]:
    """Split HOST:PORT. Raises CommandError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise CommandError(f"{option}: {text!r} is not HOST:PORT with a port from 0 to 65535", USAGE, field=option)
    return host.strip("[]"), int(port)


def fail(sentence: str, code: int) -> NoReturn:
    raise CommandError(sentence, code)
