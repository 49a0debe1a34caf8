"""Nodes with providers, and a connection to ask PostgreSQL what they cannot."""

import asyncio
from contextlib import asynccontextmanager

import asyncpg
from e2e.serving import add_providers


LIMIT_S = 90.0


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


async def filled(house, url, name="a"):
    """Return a node with two providers."""
    node = house.serve(url, name)
    await add_providers(node, "one", "two")
    return node


@asynccontextmanager
async def questions(url):
    """Lend a connection to ask PostgreSQL what a node cannot."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
