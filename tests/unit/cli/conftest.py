"""What tests of operators' commands share: a stand-in of the server, and how a command is run."""

from __future__ import annotations

import pytest
from unit.cli.stand_in import KEY, standing

from hitless.cli import main as hitless


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Return a stand-in that commands find by themselves, with a key for it."""
    monkeypatch.chdir(tmp_path)
    with standing() as server:
        monkeypatch.setenv("HITLESS_SERVER", server.url)
        monkeypatch.setenv("HITLESS_KEY", KEY)
        monkeypatch.delenv("HITLESS_KEY_FILE", raising=False)
        yield server


@pytest.fixture
def run(capsys):
    """Return what runs a command here and returns status, output and error output."""

    def run(*words):
        capsys.readouterr()
        status = hitless(words)
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return status, out, err

    return run
