"""A provider's probing, begun and asked once."""

import asyncio
import random

from unit.server.own_stands import LIMIT_S, LOOPBACK

from hitless.core.evidence import Rules
from hitless.server.judging import Judge
from hitless.server.plans import Mint
from hitless.server.probing import Probing


class Rows:
    """Rows and their secrets, as far as `Probing` asks for them."""

    def __init__(self, one, secrets):
        self.rows, self._secrets = {one.name: one}, secrets

    def secrets(self, name):
        return self._secrets


async def checked(one, secrets, told, *, is_leader=False):
    """
    Return what checking a provider now finds; nothing if its probing told something before.

    Args:
        one: Its row.
        secrets: What opens it.
        told: Takes what its probing tells.
        is_leader: Whether canaries run.
    """
    probing = Probing(
        Rules(),
        Rows(one, secrets),
        Judge(Rules(), asyncio.get_running_loop().time, lambda news: None),
        Mint(is_revoked=lambda asker: False),
        lambda name, **fields: told.append((name, fields)),
        rng=random.Random(1),
        allow_private=LOOPBACK,
    )
    async with asyncio.timeout(LIMIT_S):
        try:
            await probing.follow(is_leader=is_leader)
            return [] if told else await probing.check_now(one.name)
        finally:
            await probing.aclose()
