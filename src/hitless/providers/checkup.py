"""
What `hitless doctor` finds, and what an adapter may add to it.

An adapter that has `endpoints` and `checkup` is asked for them; one that has neither is examined
from outside: it is made, and a canary is carried by it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from ..errors import CredentialsRejected, HitlessError


class Verdict(StrEnum):
    """What one step came to."""

    GOOD = "good"
    WARNING = "warning"
    """It works, and will surprise somebody one day."""
    BAD = "bad"
    LEFT_OUT = "left out"
    """It could not be tried; the words say why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One step.

    Attributes:
        step: `configuration`, `name`, `connection`, `certificate`, `clock`, `control API`,
            `credential`, `trap`, `media`.
        verdict: What it came to.
        says: What was found, in a sentence; never a secret.
        fix: What to do, and where in the provider's console; empty if nothing is.
    """

    step: str
    verdict: Verdict
    says: str
    fix: str = ""


@runtime_checkable
class Checkable(Protocol):
    """A provider that can be examined more closely."""

    def endpoints(self) -> Sequence[str]:
        """Return the URLs that it connects to, without credentials."""
        ...

    def checkup(self) -> AsyncIterator[Finding]:
        """Yield what its control API says: reachable, credential good, traps. Bounded."""
        ...


def unseen(fix: str) -> Finding:
    """
    Return the trap of a publisher to whom nothing comes back.

    Args:
        fix: How it could see its own stream.
    """
    return Finding(
        step="trap",
        verdict=Verdict.WARNING,
        says="a publisher does not see its own stream here: media that is taken and not "
        "forwarded is noticed by viewers only",
        fix=fix,
    )


def in_the_clear(what: str, fix: str) -> Finding:
    """
    Return the trap of a secret that goes over the network unencrypted.

    Args:
        what: Which secret.
        fix: How it could go encrypted.
    """
    says = f"{what} goes over the network in the clear: who reads it can publish and watch"
    return Finding(step="trap", verdict=Verdict.WARNING, says=says, fix=fix)


async def asked(step: str, asking: Awaitable[object], says: str, fix: str) -> Finding:
    """
    Return what one question to a provider came to.

    Args:
        step: Which.
        asking: The question; bounded by whoever made it.
        says: What it means that it was answered.
        fix: What to do if the credential is not taken.
    """
    try:
        await asking
    except CredentialsRejected as exc:
        return Finding(step="credential", verdict=Verdict.BAD, says=exc.because, fix=fix)
    except HitlessError as exc:
        return Finding(step=step, verdict=Verdict.BAD, says=str(exc))
    return Finding(step=step, verdict=Verdict.GOOD, says=says)
