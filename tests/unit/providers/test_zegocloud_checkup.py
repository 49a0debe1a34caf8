"""`Zegocloud`: what `hitless doctor` is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.providers.zego_console import SECRET, Lab, run

from hitless.providers.checkup import Finding, Verdict


def examined(codes: dict[str, int], **settings: Any) -> list[Finding]:
    """Return what a checkup finds."""
    found: list[Finding] = []

    async def test(lab: Lab) -> None:
        lab.console.codes = codes
        found.extend([one async for one in lab.zego(**settings).checkup()])

    run(test)
    assert SECRET not in json.dumps([[one.says, one.fix] for one in found])
    return found


def test_a_checkup_finds_all_good_but_the_traps() -> None:
    """They cannot be seen from outside, so they are told always."""
    found = examined({})
    assert [(one.step, one.verdict) for one in found] == [
        ("control API", Verdict.GOOD),
        ("control API", Verdict.GOOD),
        ("credential", Verdict.GOOD),
        ("trap", Verdict.WARNING),
        ("trap", Verdict.WARNING),
    ]
    assert "not forwarded" in found[-2].says
    assert "privilege" in found[-1].says + found[-1].fix


@pytest.mark.parametrize(
    ("codes", "fix"),
    [
        ({"DescribeUserNum": 100000005}, "server_secret"),
        ({"DescribeUserNum": 100000004}, "clock"),
        ({"DescribeUserNum": 100000015}, "try again"),
        ({"RTMPDispatchV2": 100000017}, "enable RTMP"),
    ],
)
def test_a_checkup_says_where_to_fix_it(codes: dict[str, int], fix: str) -> None:
    """At ZEGOCLOUD's, or here."""
    bad = [one for one in examined(codes) if one.verdict is Verdict.BAD]
    assert len(bad) == 1
    assert fix in bad[0].fix


async def _wrong_secret() -> str:
    return "short"


def test_a_checkup_without_a_secret_or_with_a_wrong_one_says_so() -> None:
    """One that is fetched can be looked at only now."""
    without = examined({}, server_secret=None)
    assert [one.verdict for one in without[:2]] == [Verdict.LEFT_OUT, Verdict.LEFT_OUT]
    wrong = examined({}, server_secret=_wrong_secret)
    bad = [one.step for one in wrong if one.verdict is Verdict.BAD]
    assert bad == ["control API", "credential"]
