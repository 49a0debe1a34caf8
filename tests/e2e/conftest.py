"""Each test has a temporary folder of its own, so that no lab meets another one."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.commands import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a place of the test's own."""
    return Home(tmp_path)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a place that the tests of one module share."""
    return Home(tmp_path_factory.mktemp("home"))
