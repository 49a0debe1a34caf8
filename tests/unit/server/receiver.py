"""A receiver of webhooks on this machine, which answers what a test wants."""

import asyncio
import contextlib
import json

from aiohttp import web

from hitless.server.webhook_post import Hook, HookKind


SECRET = "a secret of the webhook"


class Receiver:
    """
    What came, and what is answered. Use with `async with`.

    Attributes:
        got: Path, headers and body of each post.
        statuses: Answered one after the other; then 200.
        headers: Sent with every answer.
        delay_s: How long each answer takes [s].
    """

    def __init__(self):
        self.got, self.statuses, self.headers, self.delay_s = [], [], {}, 0.0
        self._more = asyncio.Event()

    async def __aenter__(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def __aexit__(self, *exc):
        await self._runner.cleanup()

    def hook(self, name="night", kind=HookKind.JSON, **more):
        """Return the webhook that leads here."""
        if kind is HookKind.JSON:
            more["secret"] = SECRET
        return Hook(name=name, kind=kind, url=f"{self.url}/{name}", allow_http=True, **more)

    def bodies(self, name="night"):
        """Return what this webhook got, as objects."""
        return [json.loads(body) for path, _, body in self.got if path.endswith(f"/{name}")]

    async def until(self, count):
        """Wait until so many posts came; whoever calls bounds it."""
        while len(self.got) < count:
            self._more.clear()
            await self._more.wait()

    async def _answer(self, request):
        self.got.append((request.path, request.headers, await request.read()))
        self._more.set()
        if self.delay_s:
            with contextlib.suppress(ConnectionResetError):
                await asyncio.sleep(self.delay_s)
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers=self.headers)
