"""`kill -9` of the engine: what was acknowledged is there again, and nothing is transmitted twice.

The full measure is `python -m tests.e2e.kill --times 10 --submits 2000`; here is a shorter run of the same code.
"""

from __future__ import annotations

import pytest

from tests.e2e.kill import kills

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("times", "submits", "paced"), [(2, 400, False), (1, 400, True)], ids=["fast", "paced"])
def test_killed_right_after_its_acknowledgements(tmp_path, times, submits, paced):
    for each in kills(tmp_path, times, submits, paced=paced):
        assert (each.acknowledged, each.missing, each.doubled) == (submits, 0, 0)
