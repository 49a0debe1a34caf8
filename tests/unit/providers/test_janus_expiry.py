"""The adapter for Janus: a token that ends in mid-stream, since every request shows it."""

from __future__ import annotations

import itertools

import aiohttp
from unit.providers.janus_runs import LIMIT_S, now, run, until
from unit.providers.janus_stand_in import StandIn
from yarl import URL

from hitless.providers.credential import Credential
from hitless.providers.janus_socket import Secrets, Session


UNAUTHORIZED = 403


def test_a_token_that_ended_is_fetched_again_for_the_next_sign_of_life() -> None:
    """One is refused, the next is not, and Janus waits for a minute; as often as it ends."""

    async def main(stand_in: StandIn) -> None:
        numbers = itertools.count()

        async def fetch() -> str:
            return f"token-{next(numbers)}"

        def shown() -> list[str]:
            return [each["token"] for each in stand_in.requests("keepalive")]

        async with aiohttp.ClientSession() as http:
            session = await Session.open(
                http,
                URL(stand_in.url),
                now() + LIMIT_S,
                provider="janus",
                operation="publish",
                secrets=Secrets(),
                credential=Credential(fetch),
                keepalive_s=0.05,
            )
            for _ in range(2):
                count = len(shown())
                await until(lambda count=count: len(shown()) >= count + 3)  # type: ignore[misc]
                assert len(set(shown()[count:])) == 1  # it is kept as long as it is taken
                old = shown()[-1]
                stand_in.core_errors["keepalive"] = UNAUTHORIZED
                await until(lambda old=old: shown()[-1] != old)  # type: ignore[misc]
                stand_in.core_errors.clear()
            assert not session.is_lost
            await session.aclose()

    run(main)
