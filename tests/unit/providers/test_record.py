"""hitless.providers.record"""

import re
from pathlib import Path

import pytest

from hitless import ConfigError
from hitless.providers import installed, load
from hitless.providers.record import State, record_of


ROOT = Path(__file__).parents[3]
RECORDED = [name for name in installed() if record_of(name) is not None]


def test_the_whip_adapter_brings_its_record():
    assert "whip" in RECORDED


def test_an_adapter_of_somebody_else_may_have_none(monkeypatch):
    monkeypatch.delattr(load("whip"), "RECORD")

    assert record_of("whip") is None


def test_a_record_that_is_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(load("whip"), "RECORD", {"title": "mine"})

    with pytest.raises(ConfigError, match="RECORD"):
        record_of("whip")


@pytest.mark.parametrize("name", RECORDED)
def test_what_was_run_is_said_of_the_path_that_it_was_run_on(name):
    """
    A path that is called run has something; one that is not has nothing.
    """
    record = record_of(name)
    paths = {path.name: path for path in record.paths}
    for proof in record.proven:
        assert set(proof.paths) <= set(paths), proof
        assert all(paths[one].from_python and paths[one].is_run for one in proof.paths), proof
    for path in record.paths:
        assert bool(record.proven_on(path)) is (path.from_python and path.is_run), path.name


def test_a_proof_of_one_path_is_none_of_another():
    """
    What LiveKit's package did says nothing of the server's WHIP.
    """
    record = record_of("livekit")
    whip, package = record.paths[:2]

    by_whip = {proof.server for proof in record.proven_on(whip)}
    by_package = {proof.server for proof in record.proven_on(package)}
    assert any("package 1.2.1" in one for one in by_package - by_whip)
    assert any("WHIP" in one for one in by_whip - by_package)


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_called_done_names_a_test_that_exists(name):
    """
    The note of a claim is words and names; one that begins with `test_` is a file of tests.
    """
    there = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    record = record_of(name)
    for claim in (*record.speaks, *record.survives):
        named = set(re.findall(r"\btest_\w+", claim.note))
        assert named <= there, claim
        assert named or "drill" in claim.note or claim.state is not State.DONE, claim
