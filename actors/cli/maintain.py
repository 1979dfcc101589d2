"""`rebuild`: every table anew from the events, while no engine runs on them."""

from __future__ import annotations

import time
from pathlib import Path

from actors.cli.common import ENVIRONMENT, CommandError, print_json, say


def rebuild(state: str, db: str | None, config: str | None, as_json: bool) -> None:
    """Build the projections from `events` and say what changed. Raises CommandError while an engine runs."""
    from actors.cli.options import settings_from
    from actors.cli.service import StateFolder
    from storage.database import Database, is_transient, latest_version, migrate
    from storage.projections import dump
    from storage.projections import rebuild as fold_again

    settings = settings_from(config, state=state, db=db)
    folder = StateFolder(settings.state_dir)
    if not folder.path.exists():
        raise CommandError(f"state folder {folder.path}: there is none; name it with --state", ENVIRONMENT)
    folder.lock()
    try:
        url = settings.database_url
        if url.startswith("sqlite:") and not Path(Database(url).place).exists():
            raise CommandError(f"database {Database(url).place}: there is no such file; name it with --db", ENVIRONMENT)
        database = Database(url).open()
        try:
            migrate(database, time.time_ns())
            before = dump(database)
            began = time.monotonic()
            count = fold_again(database)
            seconds = time.monotonic() - began
            after = dump(database)
        finally:
            database.close()
    except CommandError:
        raise
    except Exception as problem:
        if not is_transient(problem):
            raise
        raise CommandError(f"database: cannot be rebuilt ({problem}); nothing was changed", ENVIRONMENT) from None
    finally:
        folder.unlock()
    changed = sorted(name for name in after if before[name] != after[name])
    if as_json:
        print_json({"events": count, "changed": changed, "schema": latest_version(), "seconds": round(seconds, 3)})
        return
    said = f"changed: {', '.join(changed)}" if changed else "every table is as it was"
    say(f"rebuilt from {count} events in {seconds:.2f} s; {said}")
