"""One JSON log file per process, with the standard library's records routed into it.

Law: the log is for people; the audit trail is the ledger's rows. No sink is enqueued: fork and enqueue deadlock
(loguru #1065).
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
from pathlib import Path
from typing import Any

from loguru import logger

# Thespian replaces logging.root in every process it forks; libraries keep the loggers they made before that.
_ROOT = logging.root
_MANAGER = logging.Logger.manager

ROTATION = "20 MB"
RETENTION = 5


class Intercept(logging.Handler):
    """Hand a standard-library record to loguru, with the place it really came from."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and "/thespian/" in record.pathname:
            return  # it announces its own coming and going
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        logger.bind(library=record.name).opt(depth=depth, exception=record.exc_info).log(level, record.getMessage())


def place_and_level(settings: Any) -> tuple[str | None, str]:
    """Return the state folder and the level that the settings name, wherever in them they stand."""
    system = getattr(settings, "system", settings)
    return getattr(system, "state_dir", None), getattr(system, "log_level", "INFO")


def open_process_log(state_dir: str | None, level: str, name: str, *, console: bool) -> Path | None:
    """Give this process its log: `<state_dir>/logs/<name>.jsonl`, and the terminal if `console`.

    Returns the path, or None if there is no state folder. Replaces the sinks of whoever forked this process.
    """
    logger.remove()
    path = None
    if state_dir is not None:
        folder = Path(state_dir) / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.jsonl"
        logger.add(
            path, level=level, serialize=True, enqueue=False, backtrace=False, diagnose=False,
            rotation=ROTATION, retention=RETENTION,
        )
    if console:
        logger.add(sys.stderr, level=level, enqueue=False, backtrace=False, diagnose=False)
    route_standard_library()
    return path


def route_standard_library() -> None:
    """Send every standard-library record of this process to loguru, whatever Thespian made of the root logger."""
    logging.root = _ROOT
    logging.Logger.root = _ROOT
    logging.Logger.manager = _MANAGER
    _ROOT.handlers[:] = [Intercept()]
    _ROOT.setLevel(logging.INFO)
