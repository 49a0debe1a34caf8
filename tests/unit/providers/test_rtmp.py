"""`Rtmp`: what it accepts, what proves media, and what a server's answers mean."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from contextlib import asynccontextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from rtmp_server import serving, until
from rtmp_source import Source

from hitless.core.events import Role
from hitless.core.policy import SelfView
from hitless.errors import (
    ConfigError,
    CredentialsRejected,
    LocalFault,
    MediaLost,
    NotOnAir,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.frame import Kind
from hitless.providers.base import Leg, Provider, ViewLeg
from hitless.providers.conformance import check_provider
from hitless.providers.rtmp import Rtmp


LIMIT_S = 30.0
LOOPBACK = ipaddress.ip_address("127.0.0.1")
SECRET = "sk_secret-of-mine"


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(3 * LIMIT_S):
            await main

    asyncio.run(bounded())


@asynccontextmanager
async def at_stand_in(*kinds, **options):
    """Lend a stand-in, a provider for it, and a feed."""
    async with serving() as server:
        source = Source(*kinds)
        provider = Rtmp(**{"url": server.url, **options, **_urls(server, options)})
        try:
            yield server, provider, source.feed
        finally:
            await provider.aclose()
            await source.feed.aclose()


def _urls(server, options):
    names = [name for name in ("url", "play_url") if options.get(name)]
    return {name: options[name].replace("PORT", str(server.port)) for name in names}


# --- What it accepts ---


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"url": "http://a/live/{stream}"}, "url must begin"),
        ({"url": "rtmp://a/{stream}"}, "application"),
        ({"url": "rtmp://{stream}.a/live/x"}, "host"),
        ({"url": "rtmp://a/live/{name}"}, "only"),
        ({"url": "rtmp://a/live/{key}"}, "needs a stream_key"),
        ({"url": "rtmp://a/live/{stream}", "stream_key": SECRET}, "say with {key}"),
        ({"url": f"rtmp://me:{SECRET}@a/live/{{stream}}"}, "stream_key"),
        ({"url": "rtmp://a/live/{stream}", "play_url": "ftp://a/b/c"}, "play_url"),
        ({"url": "rtmp://a/live/{stream}", "name": "My RTMP"}, "name"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings, names):
    """
    One line that says which setting and why; never a secret.
    """
    with pytest.raises(ConfigError, match=names) as caught:
        Rtmp(**settings)
    assert SECRET not in str(caught.value)


def test_it_is_a_provider():
    """
    With the optional attributes.
    """
    provider = Rtmp(url="rtmp://a/live/{stream}", fault_domain="rack 1")

    assert isinstance(provider, Provider)
    assert ("rtmp", 10.0, "rack 1") == (
        provider.name,
        provider.first_media_s,
        provider.fault_domain,
    )


@pytest.mark.parametrize("stream", ["", ".", "..", "x" * 257, "\ud800"])
def test_a_stream_id_that_is_no_name_is_refused(stream):
    """
    Before anything opens.
    """

    async def main():
        with pytest.raises(ConfigError, match="stream id"):
            await Rtmp(url="rtmp://127.0.0.1:1/live/{stream}").join_stream(stream)

    go(main())


def test_viewing_is_refused_where_it_is_not_offered():
    """
    An ingest only.
    """

    async def main():
        with pytest.raises(ConfigError, match="play_url is empty"):
            await Rtmp(url="rtmp://127.0.0.1:1/live/{stream}", play_url="").join_stream("show")

    go(main())


# --- First media ---


def test_the_stand_in_carries_it_by_contract():
    """
    All twelve rules, with frames that come back as they were sent.
    """

    async def main():
        async with serving() as server:

            async def make():
                return Rtmp(url=server.url)

            async def feed():
                return Source().feed

            (await check_provider(make, feed=feed)).require()

    go(main())


@pytest.mark.parametrize(
    ("options", "proven_by"),
    [
        ({}, "self-view"),
        ({"self_view": SelfView.START}, "self-view"),
        ({"self_view": SelfView.OFF}, "pong"),
        ({"play_url": ""}, "pong"),
    ],
)
def test_a_publisher_says_what_proved_it(options, proven_by):
    """
    A self-view where playing is offered, else that the server's process took the first frame.
    """

    async def main():
        async with at_stand_in(**options) as (server, provider, feed):
            leg = await provider.start_stream("show", feed)
            assert isinstance(leg, Leg)
            assert proven_by == leg.proven_by
            kept = options == {}
            await until(lambda: kept is bool(server.players.get("show")))
            expected = {"stun", "audio"} if kept else {"stun"}
            assert expected == set(leg.liveness._signs)
            assert [] == server.names("FCUnpublish")  # a view that ends takes nobody off the air
            await leg.aclose()
            await until(lambda: not server.connections)
            assert ["show"] == server.names("FCUnpublish")

    go(main())


@pytest.mark.parametrize("pongs", [True, False])
def test_what_is_accepted_and_not_forwarded_is_not_proven(pongs):
    """
    A gray server takes all and answers all.
    """

    async def main():
        async with at_stand_in() as (server, provider, feed):
            server.forwards, server.pongs = False, pongs
            with pytest.raises(MediaLost, match="not forwarded") as caught:
                await provider.start_stream("show", feed)
            assert Retry.NEXT is caught.value.retry
            await until(lambda: not server.connections)

    go(main())


def test_a_server_that_cannot_be_played_is_believed_when_it_takes_all():
    """
    What nobody may view proves nothing against it.
    """

    async def main():
        async with at_stand_in() as (server, provider, feed):
            server.status["play"] = ("error", "NetStream.Play.Failed", "no playing here")
            leg = await provider.start_stream("show", feed)
            assert "pong" == leg.proven_by

    go(main())


def test_a_server_that_turns_gray_is_noticed_by_the_kept_self_view():
    """
    It takes all and forwards nothing any more.
    """

    async def main():
        async with at_stand_in() as (server, provider, feed):
            leg = await provider.start_stream("show", feed)
            loop = asyncio.get_running_loop()
            await asyncio.sleep(0.5)
            server.forwards = False
            begun = loop.time()
            await until(lambda: leg.liveness.quiet(loop.time()) is not None)
            assert loop.time() - begun < 5
            assert "audio" == leg.liveness.quiet(loop.time()).sign

    go(main())


def test_a_self_view_that_is_cut_comes_back():
    """
    The stream was not lost with it, so nobody moves.
    """

    async def main():
        async with at_stand_in() as (server, provider, feed):
            leg = await provider.start_stream("show", feed)
            (cut,) = server.players["show"]
            cut.writer.transport.abort()
            await until(lambda: server.players["show"] not in ([], [cut]))
            await until(lambda: "audio" in leg.liveness._signs)
            assert leg.liveness.quiet(asyncio.get_running_loop().time()) is None

    go(main())


def test_a_source_without_frames_is_our_own_fault():
    """
    No server is blamed for it.
    """

    async def main():
        async with at_stand_in(first_media_s=0.5) as (_, provider, feed):
            await feed._engine.aclose()
            with pytest.raises(LocalFault, match="no frames"):
                await provider.start_stream("show", feed)

    go(main())


def test_a_viewer_gets_frames_of_each_kind():
    """
    Video from a keyframe on.
    """

    async def main():
        async with at_stand_in(keyframe_s=0.3) as (_, provider, feed):
            await provider.start_stream("show", feed)
            view = await provider.join_stream("show")
            assert isinstance(view, ViewLeg)
            view.request_keyframe()
            frames = []
            async for frame in view.frames():
                frames.append(frame)
                if len(frames) == 60:
                    break
            assert all(feed.is_own(frame.data) for frame in frames)
            assert next(frame for frame in frames if frame.kind is Kind.VIDEO).keyframe
            assert ["transport", "inbound-rtp", "inbound-rtp"] == [
                entry["type"] for entry in view.stats()
            ]

    go(main())


# --- RTMPS ---


def certificate(folder):
    """Write a certificate for 127.0.0.1 and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    day = datetime.timedelta(days=1)
    begin = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + 36_500 * day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(LOOPBACK)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    path.write_bytes(
        made.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


@pytest.mark.parametrize("trusted", [True, False])
def test_rtmps_needs_a_certificate_that_is_trusted(tmp_path, monkeypatch, trusted):
    """
    As a browser does; one that is not is an answer, and no other attempt there would help.
    """
    path = certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(path)

    async def main():
        async with serving(tls=tls) as server:
            source = Source()
            provider = Rtmp(url=server.url.replace("rtmp://", "rtmps://"))
            try:
                if trusted:
                    leg = await provider.start_stream("show", source.feed)
                    assert "self-view" == leg.proven_by
                else:
                    with pytest.raises(Unreachable, match="TLS failed") as caught:
                        await provider.start_stream("show", source.feed)
                    assert (True, Retry.NEXT) == (caught.value.answered, caught.value.retry)
            finally:
                await provider.aclose()
                await source.feed.aclose()

    go(main())


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
