"""kill -9 at any moment: what was acknowledged is there, and the tables still follow from the events."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage.database import Database
from storage.projections import dump, rebuild
from tests.storage.desk import Desk

pytestmark = [pytest.mark.integration, pytest.mark.compliance]

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("after", [1, 700, 3_000])
def test_nothing_acknowledged_is_missing_after_a_kill(url: str, after: int) -> None:
    command = [sys.executable, "-m", "tests.storage.writing_process", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if int(line) >= after:
                    break
        finally:
            process.kill()
        said = [line, *process.stdout]  # what it had written when it died
    acknowledged = max(int(each) for each in said if each.endswith(b"\n"))
    assert acknowledged >= after

    desk = Desk(url)  # a successor opens it, and goes on
    assert desk.epoch == 2
    desk.close()
    database = Database(url).open()
    keys = [row[0] for row in database.execute("SELECT key FROM events ORDER BY seq")]
    assert keys == [f"k{i}" for i in range(len(keys))]
    assert len(keys) >= acknowledged
    lived = dump(database)
    filled = {row[0]: row[-4] for row in lived["execution_orders"]}["B1-test.entry"]
    assert filled == str(len(keys) - 1)
    rebuild(database)
    assert dump(database) == lived
    database.close()
