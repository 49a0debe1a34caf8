"""Fixtures of the client's tests."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Return what writes hitless.toml and returns its path."""

    def write(text):
        path = tmp_path / "hitless.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
