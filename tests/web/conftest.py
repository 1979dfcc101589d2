"""One engine with its HTTP process for a whole module: no test leaves anything behind that another would notice."""

import pytest

from tests.web.fakes import stack


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with stack(tmp_path_factory.mktemp("engine")) as made:
        yield made


@pytest.fixture
def own(tmp_path):
    """A stack for one test that breaks it."""
    with stack(tmp_path) as made:
        yield made
