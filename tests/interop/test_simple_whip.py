"""`Whip` against Meetecho's simple-whip-server of Debian, a Janus behind it, on loopback."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from canned_media import canned_feed
from interop import janus, simple_whip

from hitless import Codec, Kind, Whip
from hitless.errors import (
    CredentialsRejected,
    HitlessError,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.providers.conformance import check_provider
from hitless.providers.janus import Janus


pytestmark = pytest.mark.skipif(
    simple_whip.why_not() is not None, reason=str(simple_whip.why_not())
)

LIMIT_S = 20.0
"""Every single wait: the machine may be busy."""

ROOM = 'publishers = 6, videocodec = "vp8,h264"'


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(6 * LIMIT_S):
            await main

    asyncio.run(bounded())


def now():
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def servers(folder, **options):
    """Run a Janus with one room, and a WHIP server before it."""
    async with (
        janus.running(folder, room=ROOM) as behind,
        simple_whip.running(folder, behind.url, **options) as server,
    ):
        yield behind, server


@asynccontextmanager
async def closing(*things):
    """Close what a test opened, in order."""
    try:
        yield
    finally:
        for thing in things:
            await thing.aclose()


@pytest.fixture
def janus_keeps_sessions(monkeypatch):
    """Have Janus keep the session of a client whose socket is gone; its default is not to."""
    stock = janus.prepare

    def prepare(folder, **options):
        command, config = stock(folder, **options), folder / "janus.jcfg"
        text = config.read_text()
        assert text.count("session_timeout = 60") == 1
        kept = "session_timeout = 60\n    reclaim_session_timeout = 60"
        config.write_text(text.replace("session_timeout = 60", kept))
        return command

    monkeypatch.setattr(janus, "prepare", prepare)


def publisher(server, **options):
    """Return who publishes; it has patience."""
    return Whip("meetecho", url=server.url, **{"first_media_s": LIMIT_S, **options})


def viewer(behind):
    """Return who looks into the room."""
    return Janus(url=behind.url, room=1234, first_media_s=LIMIT_S)


async def own_frames(view, feed, count=10):
    """Wait until a viewer got so many frames of a feed, and return them."""
    found = []
    async with asyncio.timeout(LIMIT_S):
        async for frame in view.frames():
            if feed.is_own(frame.data):
                found.append(frame)
            if len(found) == count:
                break
    return found


async def refusal_of(awaitable):
    """Return the error that something fails with."""
    with pytest.raises(HitlessError) as caught:
        await awaitable
    return caught.value


async def until_free(server):
    """Wait until the server itself says that nobody publishes."""
    async with asyncio.timeout(LIMIT_S):
        while await server.published():  # noqa: ASYNC110 -- another process is asked
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("strict_etags", [False, True], ids=["any-etag", "strict-etags"])
@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_what_is_published_by_whip_is_seen_in_the_room(tmp_path, codec, strict_etags):
    """
    The same frames of both kinds, the pictures from a keyframe on; it offers no WHEP, so receiver
    reports are the proof.
    """

    async def main():
        async with servers(tmp_path, strict_etags=strict_etags) as (behind, server):
            await server.create("show")
            here, there, (feed, _) = publisher(server), viewer(behind), canned_feed(codec=codec)
            async with closing(here, there, feed):
                leg = await here.start_stream("show", feed)
                view = await there.join_stream("show")
                frames = await own_frames(view, feed, 60)
                assert "stun" in leg.liveness._signs

        assert {codec, Codec.OPUS} == {frame.codec for frame in frames}
        assert next(frame for frame in frames if frame.kind is Kind.VIDEO).keyframe

    go(main())


class Through:
    """A provider that publishes by WHIP and views in the room; endpoints are made on demand."""

    name = "through"

    def __init__(self, behind, server):
        self.server, self.made = server, set()
        self.here, self.there = publisher(server, first_media_s=8.0), viewer(behind)

    async def start_stream(self, stream, source):
        if stream not in self.made:
            self.made.add(stream)
            await self.server.create(stream)
        return await self.here.start_stream(stream, source)

    async def join_stream(self, stream):
        return await self.there.join_stream(stream)

    async def aclose(self):
        await self.here.aclose()
        await self.there.aclose()


def test_both_together_keep_the_contract(tmp_path):
    """
    The conformance suite: also that a start which is cancelled leaves nobody on air.
    """

    async def main():
        async with servers(tmp_path) as (behind, server):

            async def make():
                return Through(behind, server)

            return await check_provider(make)

    asyncio.run(main()).require()


def test_the_end_of_a_session_frees_its_endpoint(tmp_path):
    """
    DELETE goes to the relative Location, with the token; then somebody else may publish there.
    """

    async def main():
        async with servers(tmp_path) as (behind, server):
            await server.create("show", token="hush")
            here, there = publisher(server, token="hush"), viewer(behind)
            (first, _), (second, _) = canned_feed(Kind.AUDIO), canned_feed(Kind.AUDIO)
            async with closing(here, there, first, second):
                leg = await here.start_stream("show", first)
                assert await server.published() == ["show"]
                await leg.aclose()
                await until_free(server)
                assert isinstance(await refusal_of(there.join_stream("show")), NotOnAir)
                await here.start_stream("show", second)
                await own_frames(await there.join_stream("show"), second)

    go(main())


@pytest.mark.parametrize("token", ["wrong-token", None], ids=["wrong", "none"])
def test_a_wrong_token_is_rejected(tmp_path, token):
    """
    With 403, not 401; it is not repeated in the error, and nobody is on air.
    """

    async def main():
        async with servers(tmp_path) as (_, server):
            await server.create("show", token="hush")
            here, (feed, _) = publisher(server, token=token), canned_feed(Kind.AUDIO)
            async with closing(here, feed):
                exc = await refusal_of(here.start_stream("show", feed))
                assert isinstance(exc, CredentialsRejected)
                assert exc.retry is Retry.NEXT
                assert "403" in str(exc)
                assert "wrong-token" not in str(exc)
                assert await server.published() == []

    go(main())


def test_an_endpoint_that_nobody_created_is_refused(tmp_path):
    """
    In its own words; another provider may take the stream.
    """

    async def main():
        async with servers(tmp_path) as (_, server):
            here, (feed, _) = publisher(server), canned_feed(Kind.AUDIO)
            async with closing(here, feed):
                exc = await refusal_of(here.start_stream("show", feed))
                assert isinstance(exc, Refused)
                assert exc.retry is Retry.NEXT
                assert "404 (Invalid endpoint ID)" in str(exc)

    go(main())


def test_a_second_publisher_is_refused_and_the_first_goes_on(tmp_path):
    """
    With the same 403 as a wrong token, so its words must be there to tell them apart.
    """

    async def main():
        async with servers(tmp_path) as (behind, server):
            await server.create("show")
            here, late, there = publisher(server), publisher(server), viewer(behind)
            (first, _), (second, _) = canned_feed(Kind.AUDIO), canned_feed(Kind.AUDIO)
            async with closing(here, late, there, first, second):
                await here.start_stream("show", first)
                exc = await refusal_of(late.start_stream("show", second))
                assert isinstance(exc, ProviderError)
                assert exc.retry is Retry.NEXT
                assert "already in use" in str(exc)
                await own_frames(await there.join_stream("show"), first)
                assert await server.published() == ["show"]

    go(main())


def test_media_outlives_a_killed_whip_server(tmp_path, janus_keeps_sessions):
    """
    Where Janus keeps the session of a client that is gone: nothing is lost, nothing moves; a new
    attempt finds nobody, and the end is bounded though nobody answers DELETE.
    """

    async def main():
        async with servers(tmp_path) as (behind, server):
            await server.create("show")
            here, there, (feed, _) = publisher(server), viewer(behind), canned_feed(Kind.AUDIO)
            async with closing(here, there, feed):
                leg = await here.start_stream("show", feed)
                view = await there.join_stream("show")
                await own_frames(view, feed)
                server.kill()
                losing = asyncio.create_task(leg.lost())
                await own_frames(view, feed, 100)  # 2 s of sound
                assert not losing.done()
                exc = await refusal_of(here.start_stream("show", feed))
                assert isinstance(exc, Unreachable)
                assert exc.answered
                begun = now()
                await leg.aclose()
                assert now() - begun < 4.0
                assert isinstance(
                    (await asyncio.gather(losing, return_exceptions=True))[0], ProviderError
                )

    go(main())


def test_where_janus_ends_the_session_with_its_client_the_leg_knows_at_once(tmp_path):
    """
    Its default: the killed WHIP server takes the media with it, and Janus says so by DTLS.
    """

    async def main():
        async with servers(tmp_path) as (_, server):
            await server.create("show")
            here, (feed, _) = publisher(server), canned_feed(Kind.AUDIO)
            async with closing(here, feed):
                leg = await here.start_stream("show", feed)
                losing = asyncio.create_task(leg.lost())
                await asyncio.sleep(0)
                begun = now()
                server.kill()
                with pytest.raises(ProviderError, match="closed by the far side"):
                    await asyncio.wait_for(losing, LIMIT_S)
                assert now() - begun < 5.0  # consent alone takes 24 s and more

    go(main())


def test_a_whip_server_without_its_janus_says_so(tmp_path):
    """
    503, without a pause asked for: the same provider may be back at once.
    """

    async def main():
        async with servers(tmp_path) as (behind, server):
            await server.create("show")
            here, (feed, _) = publisher(server), canned_feed(Kind.AUDIO)
            async with closing(here, feed):
                behind.kill()
                exc = await refusal_of(here.start_stream("show", feed))
                assert isinstance(exc, ProviderError)
                assert exc.retry is Retry.SAME
                assert "503 (Janus unavailable)" in str(exc) or isinstance(exc, Unreachable)

    go(main())
