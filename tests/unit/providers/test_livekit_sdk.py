"""`LiveKit(media="sdk")`: media both ways through the package's process. It is a stand-in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from canned_media import canned_feed
from livekit_sdk_runs import STAND_IN, publishing, using, watching
from livekit_stand_in import Guest, livekit, serving
from sdk_runs import LIMIT_S, first, install, until

from hitless.errors import LocalFault, MediaLost, NotOnAir
from hitless.media.feed import Feed
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.providers.base import ViewLeg
from hitless.providers.livekit import LiveKit


pytestmark = pytest.mark.realtime


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the package would be installed."""
    install(monkeypatch, STAND_IN)


def given(leg: Any, kind: str) -> list[list[str]]:
    """Return what the package was given of one kind."""
    path = Path(leg._process._folder) / "given"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1:] for line in lines if line.startswith(kind)]


def decoded(frames: list[EncodedFrame], codec: str) -> list[Any]:
    """Decode frames."""
    decoder = av.CodecContext.create(codec, "r")
    return [out for frame in frames for out in decoder.decode(av.Packet(frame.data))]


# --- Viewing ---


@pytest.mark.parametrize(("codec", "name"), [(Codec.VP8, "libvpx"), (Codec.H264, "h264")])
def test_pictures_and_sound_come_encoded_anew(codec: Codec, name: str) -> None:
    """
    What is decoded is what was shown; the tone that was played is what is heard.
    """

    async def test(leg: ViewLeg) -> None:
        frames = await first(leg, 90)
        pictures = [frame for frame in frames if frame.kind is Kind.VIDEO]
        sounds = [frame for frame in frames if frame.kind is Kind.AUDIO]

        assert {frame.codec for frame in pictures} == {codec}
        assert {frame.codec for frame in sounds} == {Codec.AAC}
        assert [frame.keyframe for frame in pictures[:3]] == [True, False, False]
        shown = decoded(pictures, name)[-1].to_ndarray()[:180]
        assert shown.shape == (180, 320)
        assert abs(float(shown.mean()) - 200) < 10
        wave = np.concatenate([out.to_ndarray()[0] for out in decoded(sounds, "aac")])[4096:]
        assert abs(float(np.abs(np.fft.rfft(wave)).argmax() * 48_000 / len(wave)) - 440) < 25
        for stamps in ([f.timestamp for f in pictures], [f.timestamp for f in sounds]):
            assert sorted(set(stamps)) == stamps

    watching(test, "show", video_codec=codec)


def test_a_picture_of_another_size_begins_with_a_keyframe() -> None:
    """
    Of an odd size too, and cut to an even one.
    """

    async def test(leg: ViewLeg) -> None:
        pictures = await first(leg, 20, Kind.VIDEO)
        assert sum(frame.keyframe for frame in pictures) == 2
        assert {(out.width, out.height) for out in decoded(pictures, "libvpx")} == {
            (320, 180),
            (160, 90),
        }

    watching(test, "odd")


def test_a_keyframe_that_is_asked_for_comes() -> None:
    """
    From our own encoder: the publisher is not asked.
    """

    async def test(leg: ViewLeg) -> None:
        await first(leg, 5, Kind.VIDEO)
        leg.request_keyframe()
        async for frame in leg.frames():
            if frame.kind is Kind.VIDEO and frame.keyframe:
                break

    watching(test, "show")


@pytest.mark.parametrize(
    ("room", "kinds"), [("sound", {Kind.AUDIO}), ("late", {Kind.AUDIO, Kind.VIDEO})]
)
def test_what_is_there_is_shown_and_what_comes_later_too(room: str, kinds: set[Kind]) -> None:
    """
    Sound alone is first media after a while; a publisher who comes in time is waited for.
    """

    async def test(leg: ViewLeg) -> None:
        assert {frame.kind for frame in await first(leg, 40)} == kinds

    watching(test, room)


def test_a_camera_that_is_switched_off_and_on_again_is_no_loss() -> None:
    """
    It is another track, and its pictures follow on the ones before.
    """

    async def test(leg: ViewLeg) -> None:
        pictures = await first(leg, 30, Kind.VIDEO)
        stamps = [frame.timestamp for frame in pictures]
        assert sorted(set(stamps)) == stamps
        assert max(np.diff(stamps)) > 0.2 * 90_000

    watching(test, "blinks")


def test_our_publisher_is_shown_and_not_who_came_first() -> None:
    """
    With a key RoomService says whom to watch: frames of two are never mixed.
    """

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), serving() as server:
            names = {Kind.AUDIO: "mic", Kind.VIDEO: "cam"}
            server.guests["crowd"] = [Guest("ann", names, 1), Guest("publisher", names, 2)]
            provider = livekit(server, media="sdk")
            with pytest.raises(NotOnAir):
                await provider.join_stream("show")
            leg = await provider.join_stream("crowd")
            pictures = await first(leg, 10, Kind.VIDEO)
            await provider.aclose()
        assert float(decoded(pictures, "libvpx")[-1].to_ndarray()[:180].mean()) > 150

    asyncio.run(main())


def test_silence_is_known_though_the_package_goes_on_with_sound() -> None:
    """
    No packets come: a silence, and no loss.
    """

    async def test(leg: ViewLeg) -> None:
        clock, lost = asyncio.get_running_loop().time, asyncio.ensure_future(leg.lost())
        await until(lambda: leg.liveness.quiet(clock()))
        before = leg.stats()[0]["framesReceived"]
        await until(lambda: leg.stats()[0]["framesReceived"] > before + 20)
        quiet = leg.liveness.quiet(clock())
        assert quiet is not None
        assert quiet.because.startswith("no media for ")
        assert not lost.done()
        lost.cancel()

    watching(test, "stops")


def test_pictures_that_are_not_shown_are_silent_though_packets_come() -> None:
    """
    A decoder that waits for a keyframe for ever shows nothing.
    """

    async def test(leg: ViewLeg) -> None:
        clock = asyncio.get_running_loop().time

        def because() -> str:
            quiet = leg.liveness.quiet(clock())
            return "" if quiet is None else quiet.because

        await until(lambda: because().startswith("no video for "))

    watching(test, "frozen")


# --- Publishing ---


def test_pictures_go_as_they_are_and_sound_decoded() -> None:
    """
    From a keyframe on, with their size; first media are what receiver reports acknowledge.
    """

    async def test(leg: Any, feed: Feed, engine: Any) -> None:
        assert {stat["kind"] for stat in leg.stats() if stat["framesSent"]} == {"audio", "video"}
        await until(lambda: len(given(leg, "video")) > 10 and len(given(leg, "audio")) > 10)
        pictures, sounds = given(leg, "video"), given(leg, "audio")
        assert [each[:4] for each in pictures[:2]] == [
            ["0", "0", "320", "180"],
            ["0", "1", "320", "180"],
        ]
        steps = np.diff([int(each[5]) for each in pictures[:10]])
        assert np.median(steps) == pytest.approx(33_333, abs=2)
        assert {tuple(each[:3]) for each in sounds} == {("48000", "2", "960")}
        assert int(sounds[-1][3]) > 1000
        clock = asyncio.get_running_loop().time
        await until(lambda: leg.liveness.quiet(clock()) is None)

    publishing(test, "show")


def test_a_viewer_who_needs_a_keyframe_gets_one() -> None:
    """
    The package says so, and the feed is asked; also where pictures were not taken.
    """

    async def test(leg: Any, feed: Feed, engine: Any) -> None:
        await until(lambda: [each[1] for each in given(leg, "video")].count("0") >= 2)
        assert engine.keyframes_asked >= 2

    for room in ("show", "refuses"):
        publishing(test, room)


def test_sound_alone_can_be_published() -> None:
    """
    A feed of one kind.
    """

    async def test(leg: Any, feed: Feed, engine: Any) -> None:
        await until(lambda: given(leg, "audio"))
        assert given(leg, "video") == []

    publishing(test, "show", Kind.AUDIO)


def test_what_nobody_acknowledges_is_not_published() -> None:
    """
    And a source that gives nothing blames nobody.
    """

    async def main(provider: LiveKit) -> None:
        feed, _ = canned_feed(Kind.AUDIO)
        with pytest.raises(MediaLost, match="no receiver report"):
            await provider.start_stream("deaf", feed)
        await feed.aclose()
        silent = Feed({Kind.AUDIO: Codec.OPUS})
        with pytest.raises(LocalFault, match="gives no frames"):
            await provider.start_stream("deaf", silent)
        await silent.aclose()

    using(main, first_media_s=4.0)


def test_a_server_that_says_nothing_more_is_a_silence_of_the_path() -> None:
    """
    Known from counts of packets.
    """

    async def test(leg: Any, feed: Feed, engine: Any) -> None:
        clock = asyncio.get_running_loop().time
        await until(lambda: leg.liveness.quiet(clock()))
        quiet = leg.liveness.quiet(clock())
        assert quiet is not None
        assert quiet.because.startswith("nothing came from the server for ")

    publishing(test, "stops", Kind.AUDIO)
