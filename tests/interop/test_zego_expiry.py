"""A token04 that ends in mid-stream, at a stand-in in a process of its own that means it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from contextlib import asynccontextmanager
from dataclasses import asdict
from itertools import pairwise

import pytest
from canned_media import canned_feed

from hitless import Kind, LiveStreamingProvider, MediaLost
from hitless.core.events import Role
from hitless.lab.account import ACCOUNT_ENV, ZegoAccount
from hitless.lab.calls import Calls
from hitless.lab.process import START_S_MAX, Process
from hitless.lab.wire import TOKEN_ENV
from hitless.providers import zego_token
from hitless.providers.clock import wall_s
from hitless.providers.zegocloud import Zegocloud


LIMIT_S = 90.0
ACCOUNT = ZegoAccount(app_id=1234567890, server_secret=secrets.token_hex(16))
LONG_S = 600
SHORT_S = 6
PUBLISHED_S = 20
"""A leg is left a quarter of this before its end [s]: enough for another on a busy machine."""
GAP_S_MAX = 1.0
"""Longest interval between pictures of a viewer whom nothing disturbs [s]; 30 come a second."""
BEGUN = ("migration.started", "failover.started")
MOVED = ("migration.succeeded", "failover.succeeded")
TICK_S = 1.0
"""A token's end is in whole seconds, and the stand-in looks at it some times a second [s]."""


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            await main

    asyncio.run(bounded())


@asynccontextmanager
async def stand_in(folder, name, *faults):
    """Run a stand-in for ZEGOCLOUD; lend its URL."""
    token = secrets.token_urlsafe(16)
    own = {TOKEN_ENV: token, ACCOUNT_ENV: json.dumps(asdict(ACCOUNT))}
    with (folder / f"{name}.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hitless.lab.stand",
            f"--name={name}", "--port=0", "--speaks=zegocloud",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            env={**os.environ, **own},
        )  # fmt: skip
    process, calls = Process(name, child), Calls(token)
    try:
        await process.until(lambda: bool(process.lines), what="sign of life")
        url = process.lines[0]["url"]
        for fault in faults:
            body = {"fault": fault, "on": True}
            await calls.answer(f"{url}/control/faults", body, method="POST")
        yield url
    finally:
        await calls.aclose()
        if child.returncode is None:
            child.kill()
        await asyncio.wait_for(child.wait(), START_S_MAX)
        await process.gone()
        await process.aclose()


def adapter(name, url, *, publisher_s=LONG_S, viewer_s=LONG_S, **settings):
    """Return an adapter whose plan's tokens last so long, each from when it is asked for."""

    async def plan(access):
        user = f"{access.role.value}-{secrets.token_hex(4)}"
        ttl_s = publisher_s if access.role is Role.PUBLISHER else viewer_s
        token = zego_token.mint(
            ACCOUNT.app_id, user, ACCOUNT.server_secret, now_s=wall_s(), ttl_s=ttl_s
        )
        named = {"room_id": "show", "stream_id": "show", "user_id": user}
        return {"app_id": ACCOUNT.app_id, **named, "token": token}

    return Zegocloud(
        name,
        app_id=ACCOUNT.app_id,
        credentials=plan,
        ingest="whip",
        bearer="token04",
        whip_url=f"{url}/whip/{{stream}}",
        whep_url=f"{url}/whep/{{stream}}",
        **settings,
    )


@asynccontextmanager
async def canned():
    """Lend a feed."""
    feed = canned_feed()[0]
    try:
        yield feed
    finally:
        await feed.aclose()


@asynccontextmanager
async def published(provider, other, feed):
    """Publish at a provider, with another to go on to; lend the stream."""
    async with LiveStreamingProvider([provider, other]) as live:
        async with live.start_stream("show", feed) as stream:
            yield stream


async def move(stream, to):
    """Wait until a stream is on air at another provider; return the news that it was leaving."""
    begun = None
    async with asyncio.timeout(PUBLISHED_S + 20):
        async for news in stream:
            if news.name in BEGUN and begun is None:
                begun = news
            if news.name in MOVED and news.provider == to:
                return begun
    raise AssertionError("the stream ended")


@asynccontextmanager
async def pictures_of(provider):
    """View a stream; lend the leg and when its pictures came [s, the loop's clock]."""
    leg, found = await provider.join_stream("show"), []

    async def note():
        async for frame in leg.frames():
            if frame.kind is Kind.VIDEO:
                found.append(asyncio.get_running_loop().time())  # noqa: PERF401 -- read meanwhile

    noting = asyncio.create_task(note())
    try:
        yield leg, found
    finally:
        await leg.aclose()
        noting.cancel()
        await asyncio.wait({noting})
        await provider.aclose()


# --- The publisher's token ---


def test_in_kick_mode_a_publisher_moves_before_its_token_ends_and_no_picture_is_late(tmp_path):
    """
    As planned, for a reason that says so; until then its viewers see no gap.
    """

    async def main():
        async with (
            stand_in(tmp_path, "zegocloud", "kick-mode") as url,
            stand_in(tmp_path, "other") as other_url,
            canned() as feed,
        ):
            near = adapter("zegocloud", url, publisher_s=PUBLISHED_S, kick_mode=True)
            other = adapter("other", other_url)
            begun_s = asyncio.get_running_loop().time()
            async with (
                published(near, other, feed) as stream,
                pictures_of(adapter("zegocloud", url)) as (_, pictures),
            ):
                begun = await move(stream, "other")
                ended_s = asyncio.get_running_loop().time() - begun_s
                failures = {attempt.failure for attempt in stream.state.attempts}
            assert begun.name == "migration.started"
            assert "its credential ends in" in begun.because
            assert "could not be renewed" in begun.because
            assert failures == {None}
            assert PUBLISHED_S / 2 < begun.at_s - begun_s < ended_s < PUBLISHED_S - TICK_S
            before = [each for each in pictures if each < begun.at_s]
            assert len(before) > 100
            assert max(b - a for a, b in pairwise([*before, begun.at_s])) < GAP_S_MAX

    go(main())


def test_where_nobody_said_that_tokens_end_sessions_the_stand_in_cuts_it(tmp_path):
    """
    What `kick_mode` is for: without it the move comes after the loss.
    """

    async def main():
        async with (
            stand_in(tmp_path, "zegocloud", "kick-mode") as url,
            stand_in(tmp_path, "other") as other_url,
            canned() as feed,
        ):
            near = adapter("zegocloud", url, publisher_s=SHORT_S)
            begun_s = asyncio.get_running_loop().time()
            async with (
                published(near, adapter("other", other_url), feed) as stream,
                pictures_of(adapter("zegocloud", url)) as (leg, pictures),
            ):
                begun = await move(stream, "other")
                with pytest.raises(MediaLost):
                    await leg.lost()
            assert begun.name == "failover.started", begun.because
            assert "credential" not in begun.because
            assert begun.at_s - begun_s > SHORT_S - TICK_S
            assert pictures

    go(main())


# --- Everybody's ---


@pytest.mark.parametrize("faults", [(), ("kick-mode",)], ids=["usual", "kick-mode"])
def test_a_session_outlasts_its_token_but_in_kick_mode(tmp_path, faults):
    """
    ZEGOCLOUD's default, and what its support can switch a project to; viewers' sessions too.
    """

    async def main():
        loop = asyncio.get_running_loop()
        async with stand_in(tmp_path, "zegocloud", *faults) as url, canned() as feed:
            lasting, short = adapter("zegocloud", url), adapter("zegocloud", url, viewer_s=SHORT_S)
            publishing = await lasting.start_stream("show", feed)
            try:
                begun_s = loop.time()
                async with pictures_of(short) as (leg, pictures):
                    losing = asyncio.ensure_future(leg.lost())
                    await asyncio.wait({losing}, timeout=2 * SHORT_S)
                    lasted_s = loop.time() - begun_s
                    is_lost = losing.done()
                    losing.cancel()
                    await asyncio.gather(losing, return_exceptions=True)
                assert is_lost is bool(faults)
                assert pictures
                if is_lost:
                    assert isinstance(losing.exception(), MediaLost)
                    assert SHORT_S - TICK_S < lasted_s
                else:
                    assert pictures[-1] - begun_s > SHORT_S + TICK_S
            finally:
                await publishing.aclose()
                await lasting.aclose()

    go(main())
