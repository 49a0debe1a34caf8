"""Names that resolve to what a test says, and the targets that are made of them."""

from __future__ import annotations

import asyncio

import pytest

from hitless.server.addresses import TargetRefused, check_target, parse_allowed


PUBLIC = "93.184.216.34"
LOOPBACK = parse_allowed(["127.0.0.0/8", "::1/128"])


class Names:
    """A resolver that knows what it was told, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def __call__(self, host, port):
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def checked(url, *answers, allow_private=()):
    """Return the target of a URL whose name resolves to the first of `answers`."""
    names = Names(*(answers or ([PUBLIC],)))
    return asyncio.run(check_target(url, names, allow_private=allow_private))


def refusal(url, *answers, allow_private=()):
    """Return why a URL is refused."""
    with pytest.raises(TargetRefused) as caught:
        checked(url, *answers, allow_private=allow_private)
    return caught.value.because
