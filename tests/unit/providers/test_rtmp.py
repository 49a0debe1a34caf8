"""`Rtmp`: what it accepts, and what proves media."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from rtmp_server import serving, until
from rtmp_source import Source
from unit.providers.rtmp_stand_in import SECRET, at_stand_in, go

from hitless.core.policy import SelfView
from hitless.errors import ConfigError, LocalFault, MediaLost, Retry, Unreachable
from hitless.media.frame import Kind
from hitless.providers.base import Leg, Provider, ViewLeg
from hitless.providers.conformance import check_provider
from hitless.providers.rtmp import Rtmp


LOOPBACK = ipaddress.ip_address("127.0.0.1")


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
