"""Publisher and viewer over real servers: codecs, kinds, and where the list comes from."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import av
import numpy as np
import pytest

from hitless import (
    AllProvidersFailed,
    Backend,
    Codec,
    CredentialsRejected,
    Kind,
    LiveStreamingProvider,
    Meter,
    Policy,
    Quality,
    SelfView,
    Whip,
)
from hitless.lab.accounts import Accounts, secrets_of
from hitless.lab.adapters import provider_of
from hitless.lab.drill import Run, where
from hitless.lab.stage import Stage


LIMIT_S = 20.0
SMALL = Quality(width=320, height=180, frame_rate=30, bitrate_bps=300_000)


def go(main):
    """Run a test against the clock, bounded."""

    async def bounded():
        async with asyncio.timeout(3 * LIMIT_S):
            await main

    asyncio.run(bounded())


def servers(stage, *names):
    """Return adapters of these stand-ins; None: all."""
    return [Whip(name, url=f"{stage.urls[name]}/whip/{{stream}}") for name in names or stage.names]


@asynccontextmanager
async def on_air(stage, source, **options):
    """Publish a source, and watch it as somebody else would."""
    meter = Meter()
    async with (
        LiveStreamingProvider(servers(stage)) as here,
        LiveStreamingProvider(servers(stage)) as there,
        here.start_stream("show", source, **options) as stream,
        there.join_stream("show", sinks=[meter]) as view,
    ):
        yield stream, view, meter


async def some_frames(view, count=60):
    """Return the first frames that a viewer gets."""
    frames = []
    async with asyncio.timeout(LIMIT_S):
        async for frame in view.frames():
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


def write_film(path, *, video, audio, seconds=4):
    """Write a short film with picture, sound or both."""
    with av.open(str(path), "w") as film:
        if video:
            stream = film.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
            for number in range(30 * seconds):
                picture = np.full((180, 320, 3), number * 2 % 256, np.uint8)
                film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            film.mux(stream.encode())
        if audio:
            stream = film.add_stream("aac", rate=48_000)
            at = np.arange(48_000 * seconds) / 48_000
            tone = (0.3 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)
            for start in range(0, len(tone), 1024):
                sound = av.AudioFrame.from_ndarray(
                    tone[None, start : start + 1024], format="fltp", layout="mono"
                )
                sound.sample_rate, sound.pts = 48_000, start
                film.mux(stream.encode(sound))
            film.mux(stream.encode())
    return path


# --- Codecs and kinds ---


@pytest.mark.parametrize("codec", [Codec.VP8, Codec.H264])
def test_a_codec_is_carried_from_end_to_end(tmp_path, codec):
    """
    Untouched by the server, and the numbers in the decoded picture can be read.
    """

    async def main():
        async with Stage(tmp_path, ("agora",), has_accounts=False) as stage:
            async with on_air(stage, "test-picture", quality=SMALL, video_codec=codec) as (
                stream,
                view,
                meter,
            ):
                frames = await some_frames(view)
                await asyncio.sleep(1.0)
                reading = meter.reading()
                own = [frame for frame in frames if stream.feed.is_own(frame.data)]

        assert {codec, Codec.OPUS} == {frame.codec for frame in frames}
        assert frames == own
        assert reading.number is not None
        assert reading.slot is not None
        assert 0 == reading.unreadable_pictures
        assert reading.pictures >= 20

    go(main())


@pytest.mark.parametrize("kind", list(Kind))
def test_a_file_with_one_kind_is_a_stream_of_one_kind(tmp_path, kind):
    """
    Nobody waits for the other kind, and its silence is none.
    """
    film = write_film(tmp_path / "film.mp4", video=kind is Kind.VIDEO, audio=kind is Kind.AUDIO)

    async def main():
        async with Stage(tmp_path, ("agora",), has_accounts=False) as stage:
            async with on_air(stage, film, repeat=True) as (stream, view, meter):
                frames = await some_frames(view, 100)
                assert frozenset({kind}) == stream.feed.kinds
                assert "agora" == stream.provider == view.provider
                assert stream.error is None
                assert view.error is None
                reading = meter.reading()

        assert {kind} == {frame.kind for frame in frames}
        assert (reading.pictures > 0) is (kind is Kind.VIDEO)
        assert (reading.sounds > 0) is (kind is Kind.AUDIO)

    go(main())


# --- Where the list comes from ---


def test_adapters_are_made_from_the_list_of_a_backend(tmp_path):
    """
    Nothing but its URL is configured; credentials are asked for by name.
    """
    asked = []

    async def main():
        async with Stage(tmp_path, ("agora", "zegocloud")) as stage:

            async def credentials(name):
                asked.append(name)
                return stage.accounts.secrets(name)

            async with LiveStreamingProvider(
                backend=Backend(stage.urls["backend"]), credentials=credentials
            ) as live:
                async with live.start_stream("show", "test-picture", quality=SMALL) as stream:
                    assert "agora" == stream.provider
                    assert ["agora", "zegocloud"] == [one.name for one in live.providers]
        assert ["agora", "zegocloud"] == asked

    go(main())


def test_a_list_with_nonsense_in_it_carries_a_stream(tmp_path, caplog):
    """
    Priorities as text, a name twice, and one that nobody knows: left out, and said.
    """

    async def main():
        async with Stage(tmp_path, ("agora", "zegocloud"), has_accounts=False) as stage:
            await stage.break_("agora", "backend-lies")
            async with LiveStreamingProvider(
                backend=Backend(stage.urls["backend"]),
                policy=Policy(self_view=SelfView.START),
            ) as live:
                async with live.start_stream("show", "test-picture", quality=SMALL) as stream:
                    assert "agora" == stream.provider
                    assert ["agora", "zegocloud"] == [one.name for one in live.providers]

    with caplog.at_level(logging.WARNING, "hitless"):
        go(main())
    assert "Provider list has faults" in [record.getMessage() for record in caplog.records]


def test_a_callable_supplies_the_providers(tmp_path):
    """
    It is asked afresh, so a list that changes moves the stream.
    """

    async def main():
        async with Stage(tmp_path, ("agora", "zegocloud"), has_accounts=False) as stage:
            supplied = servers(stage)

            async def supply():
                return supplied

            policy = Policy(health_interval_s=0.5, overlap_s=0.5)
            async with LiveStreamingProvider(supply, policy=policy) as live:
                async with live.start_stream("show", "test-picture", quality=SMALL) as stream:
                    assert "agora" == stream.provider
                    supplied = supplied[::-1]
                    async with asyncio.timeout(LIMIT_S):
                        async for news in stream:
                            if news.name == "migration.succeeded":
                                break
                    assert "zegocloud" == stream.provider

    go(main())


# --- Credentials ---


def test_a_stand_in_with_an_account_takes_nobody_without_a_credential_of_it(tmp_path):
    """
    Neither a publisher by plain WHIP, nor one with the credentials of another account.
    """

    async def main():
        async with Stage(tmp_path, ("agora", "zegocloud")) as stage:
            strangers = Accounts(stage.names)
            others = [
                provider_of(
                    f"{name}={json.dumps(strangers.adapter(name, stage.urls[name]))}",
                    Policy(),
                    secrets=secrets_of(strangers.end_env()),
                )
                for name in stage.names
            ]
            for adapters in (servers(stage), others):
                async with LiveStreamingProvider(adapters) as live:
                    with pytest.raises(AllProvidersFailed) as failed:
                        await live.start_stream("show", "test-picture", quality=SMALL)
                blamed = {type(error) for error in failed.value.exceptions}
                assert {CredentialsRejected} == blamed, failed.value

    go(main())


@pytest.mark.parametrize("is_alone", [False, True], ids=["by-plans", "alone"])
def test_a_publisher_whose_token_counts_as_expired_goes_on_at_the_next_provider(
    tmp_path, is_alone
):
    """
    Agora's stand-in ends its session; when it is healed, new credentials are taken again.
    """

    async def main():
        async with Stage(tmp_path, ("agora", "zegocloud"), is_alone=is_alone) as stage:
            run = Run("expired", stage)
            publisher, viewer = await run.on_air(settle_s=1.0)
            assert ["agora", "agora"] == [where(publisher), where(viewer)]
            await stage.break_("agora", "token-expired")
            await run.moved("zegocloud", publisher, viewer, limit_s=LIMIT_S)
            await stage.heal("agora")
            later = await stage.start_end("publisher", "later", label="later")
            assert "agora" == (await run.started(later))["provider"]
            assert [] == run.wrong

    go(main())
