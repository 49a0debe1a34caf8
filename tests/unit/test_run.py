"""tests/run.py: steps, limits and the summary."""

from __future__ import annotations

import os
import sys
import time

import pytest
import run as runner
from run import Step, main, run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Keep results away from the checkout."""
    monkeypatch.setattr(runner, "RESULTS", tmp_path)


def python(code, **settings):
    """Return a step that runs some Python."""
    return Step(name="step", command=("python", "-c", code), **settings)


def suite(monkeypatch, *steps):
    """Make the suite `check` consist of these steps."""
    monkeypatch.setitem(runner.SUITES, "check", (lambda: list(steps), ("soak: for time",)))


def test_a_step_that_fails_does_not_stop_the_next(monkeypatch, capfd):
    """
    Everything runs, the summary names what failed, and the status is 1.
    """
    suite(
        monkeypatch,
        Step(name="bad", command=("python", "-c", "raise SystemExit(3)")),
        Step(name="good", command=("python", "-c", "print('it ran')")),
    )

    assert 1 == main(["check"])
    told = capfd.readouterr().out
    assert "it ran" in told
    summary = told.partition("Summary")[2]
    assert "FAILED (exit status 3)" in summary
    assert "1 of 2 steps ok" in summary
    assert "soak: for time" in summary


def test_all_well_is_status_0(monkeypatch, capfd):
    """
    And only then.
    """
    suite(monkeypatch, python("pass"))

    assert 0 == main(["check"])
    assert "1 of 1 steps ok" in capfd.readouterr().out


def test_no_step_at_all_is_a_failure(monkeypatch, capfd):
    """
    A check that checks nothing must not pass.
    """
    suite(monkeypatch)

    assert 1 == main(["check"])
    assert "0 of 0" in capfd.readouterr().out


def test_a_step_is_ended_at_its_limit_with_its_children(monkeypatch, tmp_path):
    """
    A child that ignores SIGINT is killed too.
    """
    monkeypatch.setattr(runner, "STOP_S_MAX", 0.3)
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); time.sleep(60)"
    )

    result = run(python(code, limit_s=2.5))

    assert "longer than its limit of 2.5 s" == result.fault
    assert result.took_s < 10.0
    child = int((tmp_path / "pid").read_text())
    until_s = time.perf_counter() + 5.0
    while not is_gone(child) and time.perf_counter() < until_s:
        time.sleep(0.01)  # SIGKILL was sent; dying takes a moment on a busy machine
    assert is_gone(child)


def is_gone(pid):
    """Whether a process has ended; a zombie that nobody reaps yet counts as ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_command_that_does_not_exist_is_a_failure():
    """
    Not a crash of the runner.
    """
    assert run(Step(name="step", command=("no-such-command",))).fault.startswith("cannot start")


def test_skipped_tests_are_told_with_their_reasons(tmp_path):
    """
    A skip without a reason in the summary is a defect.
    """
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.skip(reason='no camera here')\ndef test_it(): ...\n"
    )
    command = ("python", "-m", "pytest", str(tmp_path), f"--junitxml={tmp_path / 'step.xml'}")

    result = run(Step(name="step", command=command, limit_s=60.0))

    assert {"no camera here": 1} == dict(result.skipped)


def test_an_unknown_suite_is_refused(capfd):
    """
    With the names of those there are.
    """
    assert 2 == main(["everything"])
    assert "check, test, bench" in capfd.readouterr().out


def test_every_command_of_the_suites_is_found_beside_this_python():
    """
    A step whose tool is not installed would fail late.
    """
    commands = {step.command[0] for step in runner.everything()}

    assert commands <= {"python", "ruff", "mypy", "lint-imports", "hitless"}
    assert (runner.BIN / "python").exists()
    assert runner.BIN == type(runner.BIN)(sys.executable).parent
