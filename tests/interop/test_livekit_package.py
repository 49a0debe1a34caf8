"""
Our tokens, and LiveKit's own Python packages: livekit-api's verifier, and the `livekit` client.

The client goes as far as it can without a server: to a signal server of the test that answers
401, says nothing, or is not there. `test_livekit_server.py` goes further where one is installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from livekit_stand_in import KEY, SECRET

from hitless.providers.clock import wall_s
from hitless.providers.livekit_token import (
    mint,
    publisher_grants,
    service_grants,
    viewer_grants,
)


api = pytest.importorskip(
    "livekit.api", reason="livekit-api is not installed: pip install livekit livekit-api"
)
LIMIT_S = 30.0
CLOCK_S = 0.5
"""What an attempt of the test may take [s]; the client's own limit is 5 s a try."""

has_client = pytest.mark.skipif(
    importlib.util.find_spec("livekit.rtc") is None,
    reason="livekit is not installed: pip install livekit livekit-api",
)

# A process of its own: the client leaves threads of its native library behind.
CLIENT = """
import asyncio, json, os, sys
from livekit import rtc

async def main(url, token, limit_s):
    room, loop = rtc.Room(), asyncio.get_running_loop()
    begun_s, ended = loop.time(), "connected"
    try:
        async with asyncio.timeout(limit_s):
            await room.connect(url, token)
    except (rtc.ConnectError, TimeoutError) as exc:
        ended = type(exc).__name__
    try:
        async with asyncio.timeout(limit_s):
            await room.disconnect()
    except TimeoutError:
        pass
    print(json.dumps({"ended": ended, "took_s": loop.time() - begun_s}), flush=True)
    os._exit(0)

asyncio.run(main(sys.argv[1], sys.stdin.readline().strip(), float(sys.argv[2])))
"""


def token(grants, *, identity="ann", secret=SECRET, ttl_s=60.0):
    return mint(KEY, secret, grants, now_s=wall_s(), ttl_s=ttl_s, identity=identity)


# --- livekit-api reads our tokens ---


def test_a_publisher_may_publish_in_its_room_and_nothing_else():
    """By the real verifier."""
    claims = api.TokenVerifier(KEY, SECRET).verify(token(publisher_grants("show")))

    assert claims.identity == "ann"
    assert (claims.video.room_join, claims.video.room) == (True, "show")
    assert (claims.video.can_publish, claims.video.can_subscribe) == (True, False)
    assert not any((claims.video.room_admin, claims.video.room_list, claims.video.room_create))


def test_a_viewer_may_receive_and_nothing_else():
    """By the real verifier."""
    claims = api.TokenVerifier(KEY, SECRET).verify(token(viewer_grants("show")))

    assert (claims.video.room_join, claims.video.room) == (True, "show")
    assert (claims.video.can_publish, claims.video.can_subscribe) == (False, True)
    assert claims.video.can_publish_data is False
    assert not any((claims.video.room_admin, claims.video.room_list, claims.video.room_create))


def test_a_call_of_room_service_is_allowed_for_its_room():
    """By the real verifier."""
    claims = api.TokenVerifier(KEY, SECRET).verify(token(service_grants("show"), identity=""))

    assert (claims.video.room_admin, claims.video.room_list) == (True, True)
    assert (claims.video.room, claims.video.room_join) == ("show", None)


@pytest.mark.parametrize("wrong", ["secret", "key", "expired"])
def test_what_is_not_ours_or_over_is_refused(wrong):
    """The verifier can say no."""
    minted = {"secret": "x" * 40} if wrong == "secret" else {}
    key = "another-key" if wrong == "key" else KEY
    if wrong == "expired":
        old = mint(
            KEY, SECRET, viewer_grants("show"), now_s=wall_s() - 7200, ttl_s=60.0, identity="ann"
        )
    else:
        old = token(viewer_grants("show"), **minted)

    with pytest.raises(Exception, match=r"[Ss]ignature|[Ii]ssuer|expired"):
        api.TokenVerifier(key, SECRET).verify(old)


# --- The livekit client carries them ---


@asynccontextmanager
async def signal_server(answer):
    """A fake of the signal server: notes what was asked and answers as told."""
    seen = []

    async def handle(request):
        seen.append((request.path, dict(request.headers), dict(request.query)))
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


async def refused(request):
    return web.Response(status=401, text="invalid token")


async def silent(request):
    await asyncio.sleep(LIMIT_S)
    return web.Response()


async def connect(url, shown, limit_s):
    """Let the client connect in a process of its own; return how that ended."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, url, str(limit_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            told, _ = await child.communicate(shown.encode())
    except BaseException:
        child.kill()
        await child.wait()
        raise
    return json.loads(told)


@has_client
def test_the_client_shows_our_token_and_gives_up_when_it_is_not_allowed():
    """NotAllowed is final for it as well: it asks, is told 401, and raises."""

    async def main():
        ours = token(viewer_grants("show"))
        async with signal_server(refused) as (url, seen):
            found = await connect(url, ours, LIMIT_S / 3)
        assert found["ended"] == "ConnectError"
        shown = [
            query.get("access_token") or headers.get("Authorization", "").removeprefix("Bearer ")
            for path, headers, query in seen
            if path.startswith("/rtc")
        ]
        assert shown
        assert set(shown) == {ours}

    asyncio.run(main())


@has_client
def test_our_clock_ends_what_the_client_would_wait_for():
    """A signal server that says nothing: the client's own limits are several times longer."""

    async def main():
        async with signal_server(silent) as (url, seen):
            found = await connect(url, token(viewer_grants("show")), CLOCK_S)
        assert found["ended"] == "TimeoutError"
        assert found["took_s"] < 10 * CLOCK_S
        assert seen

    asyncio.run(main())


@has_client
def test_the_client_raises_when_nobody_listens():
    """After tries of its own, which our clock would end too."""

    async def main():
        async with signal_server(refused) as (url, _):
            pass
        found = await connect(url, token(viewer_grants("show")), LIMIT_S / 3)
        assert found["ended"] == "ConnectError"

    asyncio.run(main())
