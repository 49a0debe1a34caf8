"""
A node whose HTTP API is called in this process: real rows, real routes, no socket.

Nothing runs by itself here: a node's own tasks are not started, so no probe and no canary goes
anywhere, and what changed is read again by `refresh`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math

import httpx

from hitless.server.app import make_app
from hitless.server.database import StatementRefused, StoreUnavailable, open_database
from hitless.server.keys import KeyRole
from hitless.server.node import Node, NodeConfig
from hitless.server.serve import new_keys


HOST = "http://node.example"
NAMES = ("one", "two")
SECRET = "a-token-that-nobody-may-see"


def whip(name, **more):
    """Return the body that adds a WHIP provider on this machine."""
    return {"adapter": "whip", "config": {"url": f"http://127.0.0.1:9/{name}/whip"}, **more}


class Strict:
    """
    A database that takes only what both engines take.

    Attributes:
        is_up: Whether it answers.
    """

    def __init__(self, database):
        self._database, self.is_up = database, True

    def __getattr__(self, name):
        return getattr(self._database, name)

    async def read(self, text, *args):
        """Read as the database does."""
        self._check(args)
        return await self._database.read(text, *args)

    async def write(self, *statements, wake=None):
        """Write as the database does."""
        self._check([arg for one in statements for arg in one.args] + [wake])
        return await self._database.write(*statements, wake=wake)

    def _check(self, args):
        """Refuse NUL, lone surrogates, numbers of more than 64 bits and what is no number."""
        if not self.is_up:
            raise StoreUnavailable("the disk is full: free some space")
        for arg in args:
            is_text = isinstance(arg, str)
            if is_text and ("\0" in arg or arg != arg.encode(errors="replace").decode()):
                raise StatementRefused("no text for PostgreSQL")
            if isinstance(arg, int) and not -(1 << 63) <= arg < 1 << 63:
                raise StatementRefused("no number for PostgreSQL")
            if isinstance(arg, float) and math.isnan(arg):
                raise StatementRefused("no number for SQLite")


class Api:
    """
    A node with two providers, and the keys to it. Use with `with`.

    Args:
        database: Where its rows are: a path, or a URL.
        keys: Of the environment; None: new ones.
        more: Of its configuration.
    """

    def __init__(self, database, *, keys=None, **more):
        self.config = NodeConfig(database=str(database), name="n1", **more)
        self.environ = keys or new_keys(0.0)
        self.keys = {
            KeyRole.OWNER: self.environ["HITLESS_OWNER_KEY"],
            KeyRole.CLIENT: self.environ["HITLESS_CLIENT_KEY"],
        }
        self._runner = asyncio.Runner()

    def __enter__(self):
        try:
            self.run(self._open())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, *exc):
        self.run(self._close())
        self._runner.close()

    async def _open(self):
        self.database = Strict(await open_database(self.config.database))
        self.node = Node(self.config, self.database, self.environ)
        await self.node.refresh()
        self.app = _app()
        self.app.state.clear()
        self.app.state["node"] = self.node
        await self.connect()
        for name in NAMES:
            body = whip(name, secrets={"token": SECRET})
            answer = await self.ask("POST", f"/v1/admin/providers/{name}", body)
            assert answer.status_code == 201, answer.text

    async def connect(self, address="192.0.2.7"):
        """Call from this address from now on."""
        if hasattr(self, "http"):
            await self.http.aclose()
        transport = httpx.ASGITransport(self.app, client=(address, 4711))
        self.http = httpx.AsyncClient(transport=transport, base_url=HOST)

    async def _close(self):
        await self.http.aclose()
        await self.node.aclose()

    def run(self, work):
        """Run something on the node's loop, and return what it returns."""
        return self._runner.run(_bounded(work))

    async def ask(self, method, path, body=None, *, key=KeyRole.OWNER, **more):
        """Return the answer to a request; `key` is a role, a key, or None."""
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        if key is not None:
            headers["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.request(method, path, content=content, headers=headers, **more)

    def call(self, method, path, body=None, *, key=KeyRole.OWNER, status=200, **more):
        """Return what a request is answered with, which must be of this status."""
        answer = self.run(self.ask(method, path, body, key=key, **more))
        assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
        found = answer.json()
        assert found["success"] is (status < 400), found
        return found["data"] if status < 400 else found["error"]

    def new_key(self, role, scope=None):
        """Make a key of a role, to be named by the role from then on."""
        made = self.call("POST", "/v1/admin/keys", {"role": role, "scope": scope}, status=201)
        self.keys[role] = made["key"]
        return made

    def publish(self, stream="show", client="studio", **more):
        """Start a stream and return its plan."""
        body = {"stream": stream, "client": client, **more}
        return self.call("POST", "/v1/start", body, key=KeyRole.CLIENT)

    def watch(self, stream="show", client="phone", **more):
        """Join a stream and return its plan."""
        body = {"stream": stream, "client": client, **more}
        return self.call("POST", "/v1/join", body, key=KeyRole.CLIENT)


@functools.cache
def _app():
    """Return an application of no node yet; to make one takes as long as all the rest."""
    return make_app(None)


async def _bounded(work):
    async with asyncio.timeout(20.0):
        return await work
