"""`Agora(view="sdk")`: what comes, and what no longer comes. The SDK is a stand-in."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import pairwise

import av
import numpy as np
import psutil
import pytest
from agora_sdk_views import STAND_IN, inner, watching
from sdk_runs import CLOSED_S, first, install, leaving_s, until

from hitless.errors import CredentialsRejected, MediaLost, Retry, Unreachable
from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.providers.expiring_legs import ExpiringViewLeg
from hitless.providers.sdk_line import DRIFT_S


pytestmark = pytest.mark.realtime


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the SDK would be installed."""
    install(monkeypatch, STAND_IN)


def heard_hz(frames: list[EncodedFrame]) -> float:
    """Decode sound, and return the pitch of its strongest tone [Hz]."""
    decoder = av.CodecContext.create("aac", "r")
    parts = [
        out.to_ndarray()[0] for frame in frames for out in decoder.decode(av.Packet(frame.data))
    ]
    wave = np.concatenate(parts)[4096:]
    return float(np.abs(np.fft.rfft(wave)).argmax() * 48_000 / len(wave))


# --- Frames ---


def test_pictures_come_as_they_were_encoded_and_sound_as_aac() -> None:
    """
    Pictures from a keyframe on, byte for byte; the tone that was played is what is heard.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        frames = await first(leg, 90)
        pictures = [frame for frame in frames if frame.kind is Kind.VIDEO]
        sounds = [frame for frame in frames if frame.kind is Kind.AUDIO]

        assert [frame.codec for frame in (pictures[0], sounds[0])] == [Codec.VP8, Codec.AAC]
        assert [frame.keyframe for frame in pictures[:3]] == [True, False, False]
        assert pictures[0].data == b"\x00picture\x00\x00"
        assert pictures[1].data == b"\x01picture\x00\x04"
        steps = np.diff([frame.timestamp for frame in pictures]) / 90_000
        assert np.median(np.abs(steps - 0.04)) < 0.01  # not all: a busy machine may stand still
        assert np.median(np.diff([frame.timestamp for frame in sounds])) == 1024
        assert abs(heard_hz(sounds) - 440) < 25
        clock = asyncio.get_running_loop().time
        await until(lambda: leg.liveness.quiet(clock()) is None)
        assert {stat["kind"] for stat in leg.stats() if stat["framesReceived"]} == {
            "audio",
            "video",
        }

    watching(test, "show")


def test_sound_and_pictures_lie_where_they_came() -> None:
    """
    One origin for both kinds, so that a viewer who plays by timestamps is in step.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        frames = await first(leg, 60)
        for kind, rate in ((Kind.VIDEO, 90_000), (Kind.AUDIO, 48_000)):
            last = [frame for frame in frames if frame.kind is kind][-1]
            assert abs(last.timestamp / rate - last.arrived_s) < DRIFT_S + 1.0

    watching(test, "show")


def test_h264_comes_with_the_start_codes_that_all_frames_have() -> None:
    """
    Start codes of three bytes become four, and an IDR picture is found by its unit.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        key, delta = await first(leg, 2, Kind.VIDEO)

        assert (key.codec, key.keyframe, delta.keyframe) == (Codec.H264, True, False)
        assert key.data.startswith(b"\0\0\0\1\x67\x42\0\0\0\1\x68\xce\0\0\0\1\x65picture")

    watching(test, "h264")


def test_sound_alone_is_first_media_after_a_while() -> None:
    """
    A publisher without a camera is a stream too.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        assert {frame.kind for frame in await first(leg, 20)} == {Kind.AUDIO}

    watching(test, "sound")


def test_who_may_not_publish_is_not_shown_nor_are_two_mixed() -> None:
    """
    A subscriber's token can publish at Agora; and frames of two publishers decode to nothing.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        shown = {frame.data[1:8] for frame in await first(leg, 30, Kind.VIDEO)}

        assert shown == {b"picture"}

    watching(test, "crowd")


def test_a_keyframe_that_is_asked_for_comes() -> None:
    """
    The request goes through the SDK to the publisher we follow.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        await first(leg, 5, Kind.VIDEO)
        leg.request_keyframe()
        keyframes = 0
        async with asyncio.timeout(10):
            async for frame in leg.frames():
                keyframes += frame.kind is Kind.VIDEO and frame.keyframe
                if keyframes:
                    break

    watching(test, "show")


def test_a_viewer_that_does_not_read_goes_on_with_a_keyframe() -> None:
    """
    1500 pictures in 1.5 s: what is kept is bounded, and after the hole decoding can begin.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        await until(lambda: leg.stats()[1]["framesReceived"] > 900)
        pictures = await first(leg, 100, Kind.VIDEO)
        numbers = [int.from_bytes(frame.data[-2:], "big") for frame in pictures]

        assert numbers[0] > 0
        assert pictures[0].keyframe
        assert [
            after
            for (before, after), frame in zip(pairwise(numbers), pictures[1:], strict=True)
            if after != before + 1 and not frame.keyframe
        ] == []

    watching(test, "flood")


# --- Silence and loss ---


def test_silence_is_known_from_the_frames() -> None:
    """
    The process lives and says nothing: a silence, and no loss.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        clock, lost = asyncio.get_running_loop().time, asyncio.ensure_future(leg.lost())
        await until(lambda: leg.liveness.quiet(clock()))
        quiet = leg.liveness.quiet(clock())

        assert quiet is not None
        assert quiet.because.startswith("no media for 1.")
        assert not lost.done()
        lost.cancel()

    watching(test, "stops")


def test_a_killed_process_is_a_loss_that_blames_nobody() -> None:
    """
    `kill -9`: the leg says so at once, and its frames end when it is closed.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        os.kill(inner(leg).pid, signal.SIGKILL)
        with pytest.raises(MediaLost, match="signal 9") as caught:
            async with asyncio.timeout(5):
                await leg.lost()
        assert (caught.value.retry, caught.value.answered) == (Retry.NEXT, False)
        assert await leaving_s(leg) < CLOSED_S
        assert [frame async for frame in leg.frames()][-1:] != []

    watching(test, "show")


def test_a_process_that_stands_still_is_silent_and_cannot_hold_a_leave() -> None:
    """
    SIGSTOP: a silence; leaving kills it.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        clock = asyncio.get_running_loop().time
        os.kill(inner(leg).pid, signal.SIGSTOP)
        await until(lambda: leg.liveness.quiet(clock()))
        assert await leaving_s(leg) < CLOSED_S
        await until(lambda: not psutil.pid_exists(inner(leg).pid))

    watching(test, "show")


def test_an_sdk_that_does_not_leave_cannot_hold_a_leave() -> None:
    """
    `disconnect` hangs: the process ends without it.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        folder = inner(leg)._process._folder
        assert os.listdir(folder) == ["sdk.log"]
        assert await leaving_s(leg) < CLOSED_S
        await until(lambda: not psutil.pid_exists(inner(leg).pid))
        assert not os.access(folder, os.F_OK)

    watching(test, "never-leaves")


@pytest.mark.parametrize(
    ("channel", "error", "says"),
    [("interrupted", Unreachable, "interrupted"), ("expired", CredentialsRejected, "expired")],
)
def test_what_the_sdk_tells_in_mid_stream_is_our_error(
    channel: str, error: type[BaseException], says: str
) -> None:
    """
    Its own endless reconnecting is overruled: the leg is over, and whoever owns it decides.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        with pytest.raises(error, match=says):
            async with asyncio.timeout(10):
                await leg.lost()

    watching(test, channel)
