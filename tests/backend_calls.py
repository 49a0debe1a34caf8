"""Calls of `Backend` against a server that answers as told, for tests."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from hitless.client.backend import Backend, BackendUnavailable


SECRET = "Bearer s3cr3t-t0ken"


@asynccontextmanager
async def serving(answer):
    """A backend on an ephemeral port that answers whatever `answer(request)` returns."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def ask(answer, what, *, headers=None, timeout_s=2.0):
    """Return what `what(backend)` comes to against a server that answers with `answer`."""

    async def main():
        async with serving(answer) as url:
            backend = Backend(url, headers=headers, timeout_s=timeout_s)
            try:
                return await what(backend)
            finally:
                await backend.aclose()

    return asyncio.run(main())


def says(value, *, status=200, raw=False, headers=None):
    """A handler that always gives the same answer."""

    async def answer(request):
        body = value if raw else json.dumps(value).encode()
        return web.Response(
            body=body, status=status, headers=headers, content_type="application/json"
        )

    return answer


def listing(*entries, **more):
    """Return an answer that lists these entries."""
    return {"success": True, "data": {"providers": list(entries), **more}}


def entry(name, priority=1, **more):
    """Return an entry as the wire has it."""
    return {"name": name, "isActive": True, "priority": priority, "config": {}, **more}


def read(body, **how):
    """Return the list that is read from this answer."""
    return ask(says(body), lambda backend: backend.list_providers(), **how)


def check(answer, **how):
    """Return how agora is, asked of a server that answers with `answer`."""
    return ask(answer, lambda backend: backend.check_health("agora"), **how)


def why_unavailable(answer, **how):
    """Return the fault that asking for the list ends in."""
    with pytest.raises(BackendUnavailable) as caught:
        ask(answer, lambda backend: backend.list_providers(), **how)
    return caught.value
