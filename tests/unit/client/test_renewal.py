"""hitless.client.renewal"""

import asyncio
from types import SimpleNamespace

import pytest
from virtual_time import run

from hitless.client.renewal import renew
from hitless.core.events import LegExpiring, OpenLeg
from hitless.errors import CredentialsRejected


ORDER = OpenLeg(session="s", leg=1, provider="agora", because="a test")


class Old:
    """A leg that ends after `life_s`, and is renewed as told: a life, or what is raised."""

    def __init__(self, life_s, *answers):
        self.expires_s = None if life_s is None else asyncio.get_running_loop().time() + life_s
        self.asked, self._answers = [], list(answers)

    async def renew(self):
        now = asyncio.get_running_loop().time()
        self.asked.append(round(now))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BaseException):
            raise answer
        if answer == "hangs":
            await asyncio.Event().wait()
        self.expires_s = now + answer


def told(life_s, *answers, after_s=4000.0):
    """When a leg was asked to renew [s], and what was reported, with times."""

    async def main():
        said, loop = [], asyncio.get_running_loop()
        leg = Old(life_s, *answers)
        task = asyncio.create_task(
            renew(ORDER, leg, lambda event: said.append((round(loop.time()), event)))
        )
        await asyncio.wait({task}, timeout=after_s)
        task.cancel()
        await asyncio.wait({task})
        return leg.asked, said

    return run(main())


def rejected():
    return CredentialsRejected("it is revoked", provider="agora")


def test_it_is_renewed_two_minutes_before_its_end_again_and_again():
    assert told(3600.0, 3600.0, after_s=8000.0) == ([3480, 6960], [])


def test_one_that_lives_shortly_is_renewed_at_half_its_life():
    asked, said = told(20.0, 20.0, after_s=35.0)

    assert (asked, said) == ([10, 20, 30], [])


def test_a_renewal_that_fails_once_is_tried_again():
    assert told(600.0, rejected(), 600.0, after_s=500.0) == ([480, 481], [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (rejected(), "revoked"),
        ("hangs", "no answer in time"),
        (ValueError("s3cr3t"), "ValueErr"),
    ],
)
def test_one_that_is_not_renewed_is_told_a_minute_before_its_end(answer, words):
    asked, said = told(600.0, answer)

    assert [at for at, _ in said] == [540]
    assert isinstance(said[0][1], LegExpiring)
    assert "ends in 60 s" in said[0][1].because
    assert words in said[0][1].because
    assert "s3cr3t" not in said[0][1].because
    assert asked[0] == 480
    assert len(asked) < 20


def test_a_leg_that_does_not_end_is_left_alone():
    assert told(None, 1.0) == ([], [])

    async def plain():
        await renew(ORDER, SimpleNamespace(), lambda event: pytest.fail("nothing to say"))

    run(plain())
