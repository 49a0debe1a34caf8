"""`Rtmp`: what a server's answers mean, and credentials."""

from __future__ import annotations

import asyncio
import socket

import pytest
from rtmp_server import serving, until
from rtmp_source import Source
from unit.providers.rtmp_stand_in import LIMIT_S, SECRET, at_stand_in, go

from hitless.core.events import Role
from hitless.errors import (
    ConfigError,
    CredentialsRejected,
    MediaLost,
    NotOnAir,
    Refused,
    Retry,
    Unreachable,
)
from hitless.providers.rtmp import Rtmp


# --- What is answered ---


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (("error", "NetStream.Publish.BadName", "Already publishing"), Refused, "already"),
        (("error", "NetStream.Publish.BadName", ""), Refused, "rejected"),
        (("error", "NetStream.Publish.Denied", ""), Refused, "denied"),
        (("error", "x" * 500, ""), Refused, "no code"),
    ],
)
def test_a_publisher_that_is_refused_is_told_why(status, error, words):
    """
    By the code; the server's own words are not quoted.
    """

    async def main():
        async with at_stand_in() as (server, provider, feed):
            server.status["publish"] = status
            with pytest.raises(error, match=words) as caught:
                await provider.start_stream("show", feed)
            assert Retry.NEXT is caught.value.retry
            assert caught.value.answered

    go(main())


@pytest.mark.parametrize("command", ["connect", "createStream", "publish"])
def test_a_server_that_hangs_up_has_refused(command):
    """
    It is how nginx-rtmp says no to an application, a name, or an address.
    """

    async def main():
        async with at_stand_in() as (server, provider, feed):
            server.closes_on = command
            with pytest.raises(Refused, match=f"in answer to ({command}|publish)"):
                await provider.start_stream("show", feed)

    go(main())


def test_a_rejected_application_is_a_refusal():
    """
    As Adobe's server and its kin say it.
    """

    async def main():
        async with at_stand_in() as (server, provider, _):
            server.rejects = ("error", "NetConnection.Connect.InvalidApp", "no app show")
            with pytest.raises(Refused, match=r"NetConnection\.Connect\.InvalidApp"):
                await provider.join_stream("show")

    go(main())


@pytest.mark.parametrize("pings", [True, False])
@pytest.mark.parametrize("knows", [True, False])
def test_a_stream_that_nobody_publishes_is_not_on_air(knows, pings):
    """
    Whether the server says so or lets us wait for ever without a word.
    """

    async def main():
        async with at_stand_in(pings=pings) as (server, provider, _):
            server.knows = knows
            server.says_so = knows
            begun = asyncio.get_running_loop().time()
            with pytest.raises(NotOnAir, match="nobody publishes"):
                await provider.join_stream("show")
            assert asyncio.get_running_loop().time() - begun < 5

    go(main())


def test_a_refused_connection_is_an_answer():
    """
    The host is there, the server is not.
    """

    async def main():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            url = f"rtmp://127.0.0.1:{sock.getsockname()[1]}/live/{{stream}}"
            with pytest.raises(Unreachable, match="refused") as caught:
                await Rtmp(url=url).join_stream("show")
        assert caught.value.answered
        assert Retry.SAME is caught.value.retry

    go(main())


@pytest.mark.parametrize("operation", ["publish", "view"])
def test_a_server_that_hangs_is_not_reached(operation):
    """
    Its kernel accepts connections; nobody is blamed on that alone.
    """

    async def main():
        async with at_stand_in(first_media_s=0.5) as (server, provider, feed):
            server.reads.clear()
            opening = (
                provider.start_stream("show", feed)
                if operation == "publish"
                else provider.join_stream("show")
            )
            with pytest.raises(Unreachable, match="timeout") as caught:
                await opening
            assert not caught.value.answered
            assert operation == caught.value.operation

    go(main())


def test_a_connection_that_is_cut_loses_both_legs():
    """
    They say so at once.
    """

    async def main():
        async with at_stand_in(keyframe_s=0.3) as (server, provider, feed):
            leg = await provider.start_stream("show", feed)
            view = await provider.join_stream("show")
            for one in tuple(server.connections):
                one.writer.transport.abort()
            for each in (leg, view):
                with pytest.raises(MediaLost):
                    async with asyncio.timeout(LIMIT_S):
                        await each.lost()

    go(main())


def test_legs_close_in_time_when_the_server_hangs():
    """
    Twice, and with the provider; it holds nobody up.
    """

    async def main():
        async with at_stand_in(keyframe_s=0.3) as (server, provider, feed):
            leg = await provider.start_stream("show", feed)
            view = await provider.join_stream("show")
            server.reads.clear()
            await asyncio.sleep(1.0)
            begun = asyncio.get_running_loop().time()
            await asyncio.gather(leg.aclose(), view.aclose())
            await leg.aclose()
            await provider.aclose()
            assert asyncio.get_running_loop().time() - begun < 2
            assert [frame async for frame in view.frames()]

    go(main())


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.05, 0.2])
def test_a_cancelled_start_leaves_nobody_on_air(after_s):
    """
    Wherever it stood.
    """

    async def main():
        async with at_stand_in() as (server, provider, feed):
            task = asyncio.create_task(provider.start_stream("show", feed))
            await asyncio.sleep(after_s)
            task.cancel()
            await asyncio.wait([task], timeout=LIMIT_S)
            assert task.cancelled() or task.exception() is None
            if not task.cancelled():
                await task.result().aclose()
            await until(lambda: not server.connections)
            assert not provider._legs

    go(main())


# --- Credentials ---


def test_the_key_reaches_the_server_and_no_message():
    """
    Nor a repr, nor the statistics.
    """

    async def main():
        async with at_stand_in(
            url="rtmp://127.0.0.1:PORT/live/{key}", play_url="", stream_key=SECRET
        ) as (server, provider, feed):
            leg = await provider.start_stream("show", feed)
            assert [SECRET] == server.names("publish")
            assert SECRET not in f"{leg.stats()} {leg!r} {provider!r} {vars(leg)}"
            await leg.aclose()
            server.status["publish"] = ("error", "NetStream.Publish.Denied", f"bad {SECRET}")
            with pytest.raises(CredentialsRejected) as caught:
                await provider.start_stream("show", feed)
            assert SECRET not in str(caught.value)
            assert Retry.NEXT is caught.value.retry

    go(main())


def test_a_rejected_key_is_fetched_again_once():
    """
    Then it is the next provider's turn.
    """
    keys = iter(["one", "two", "three"])

    async def fetch():
        return next(keys)

    async def main():
        async with at_stand_in(
            url="rtmp://127.0.0.1:PORT/live/{stream}?key={key}", play_url="", stream_key=fetch
        ) as (server, provider, feed):
            server.closes_on = "publish"
            advice = []
            for _ in range(2):
                with pytest.raises(CredentialsRejected) as caught:
                    await provider.start_stream("show", feed)
                advice.append(caught.value.retry)
            server.closes_on = ""
            await provider.start_stream("show", feed)
            assert [Retry.SAME, Retry.NEXT] == advice
            assert [f"show?key={key}" for key in ("one", "two", "three")] == server.names(
                "publish"
            )

    go(main())


def test_credentials_say_whose_and_may_name_the_address():
    """
    For services that give each stream an address of its own.
    """
    asked = []

    async def main():
        async with serving() as server:

            async def credentials(access):
                asked.append((access.stream, access.role, access.renew))
                if access.role is Role.VIEWER:
                    return {}
                return {"url": f"rtmp://127.0.0.1:{server.port}/room/{{key}}", "token": SECRET}

            source = Source()
            provider = Rtmp(
                url="rtmp://127.0.0.1:1/live/{stream}", play_url="", credentials=credentials
            )
            try:
                server.status["publish"] = ("error", "NetStream.Publish.Denied", "")
                with pytest.raises(CredentialsRejected) as caught:
                    await provider.start_stream("show", source.feed)
                assert Retry.SAME is caught.value.retry
                server.status.clear()
                await provider.start_stream("show", source.feed)
                assert [SECRET] * 2 == server.names("publish")
            finally:
                await provider.aclose()
                await source.feed.aclose()
        assert [("show", Role.PUBLISHER, renew) for renew in (False, True)] == asked

    go(main())


@pytest.mark.parametrize("given", [None, "with space", "x" * 2000])
def test_a_key_that_is_none_is_refused(given):
    """
    And not shown.
    """

    async def fetch():
        return given

    async def main():
        provider = Rtmp(url="rtmp://127.0.0.1:1/live/{key}", stream_key=fetch)
        with pytest.raises(ConfigError, match="stream key is needed"):
            await provider.join_stream("show")

    go(main())


def test_a_function_that_fails_is_no_fault_of_the_servers():
    """
    Its message may hold a secret: only its type is told.
    """

    async def fetch():
        raise RuntimeError(SECRET)

    async def main():
        provider = Rtmp(url="rtmp://127.0.0.1:1/live/{key}", stream_key=fetch)
        with pytest.raises(CredentialsRejected, match="RuntimeError") as caught:
            await provider.join_stream("show")
        assert SECRET not in str(caught.value)
        assert not caught.value.answered

    go(main())
