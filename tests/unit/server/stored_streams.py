"""A store in which there is nothing yet, and what is said to it of streams."""

import asyncio
from contextlib import asynccontextmanager

from hitless.server.store import Store
from hitless.server.store_members import Member, Role
from hitless.server.store_rows import Audit
from hitless.server.store_streams import Claim, Start


LIMIT_S = 30.0

AUDIT = Audit(
    who="alice", what="tested", target="show", because="a test", before={"a": 1}, after=None
)


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


@asynccontextmanager
async def stored(engine):
    """Lend a store in which there is nothing yet."""
    async with engine.database() as database:
        yield Store(database)


def start(publisher="pub", provider="agora", **more):
    """Say that a stream is started."""
    said = {"stream": "show", "group": "show", "node": "n1", "because": "it began", **more}
    return Start(publisher=publisher, provider=provider, **said)


def claim(base_epoch, provider="webrtc", **more):
    """Say that a placement is claimed."""
    said = {"stream": "show", "by": "server", "because": "it is better", **more}
    return Claim(base_epoch=base_epoch, provider=provider, **said)


def viewer(client, **more):
    """Return a viewer of the show."""
    said = {"stream": "show", "role": Role.VIEWER, "node": "n1", "provider": "agora", **more}
    return Member(client=client, **said)


def placement(row):
    """Return what there is to agree on."""
    return row.epoch, row.provider


async def audited(store):
    """Return how many entries the log has."""
    return len(await store.audit.page())
