"""What a viewer did not read yet: bounded, whole, and ended without a loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from virtual_time import run

from hitless.media.frame import Codec, EncodedFrame, Kind
from hitless.providers.frame_queue import FRAMES_MAX, FrameQueue


def picture(number: int, *, keyframe: bool = False) -> EncodedFrame:
    """Return a picture that can be told by its timestamp."""
    return EncodedFrame(
        kind=Kind.VIDEO,
        codec=Codec.VP8,
        data=b"x",
        timestamp=number,
        keyframe=keyframe,
        arrived_s=0.0,
    )


def sound(number: int) -> EncodedFrame:
    """Return a packet of sound that can be told by its timestamp."""
    return EncodedFrame(
        kind=Kind.AUDIO,
        codec=Codec.OPUS,
        data=b"x",
        timestamp=number,
        keyframe=True,
        arrived_s=0.0,
    )


def unasked() -> None:
    """Refuse to be asked for a keyframe."""
    raise AssertionError("nobody fell behind")


async def numbers(frames: AsyncIterator[EncodedFrame]) -> list[int]:
    """Return the timestamps of all that is handed out until the end."""
    return [frame.timestamp async for frame in frames]


def test_a_reader_gets_each_frame_once_in_order() -> None:
    """Those that waited for it, and those that it waits for; it ends with the queue."""

    async def test() -> None:
        queue = FrameQueue(unasked)
        queue.put(picture(1))
        reading = asyncio.create_task(numbers(queue.frames()))
        await asyncio.sleep(1)
        queue.put(sound(2))
        await asyncio.sleep(1)
        assert not reading.done()
        queue.put(picture(3))
        queue.end()
        assert await reading == [1, 2, 3]
        assert await numbers(queue.frames()) == []

    run(test())


def test_what_waited_is_still_handed_out_after_the_end() -> None:
    """The end loses nothing that came before it, and comes twice as well as once."""

    async def test() -> None:
        queue = FrameQueue(unasked)
        assert not queue.is_over
        queue.put(picture(1))
        queue.put(sound(2))
        queue.end()
        queue.end()
        assert queue.is_over
        assert await numbers(queue.frames()) == [1, 2]

    run(test())


def test_a_reader_that_is_cancelled_loses_no_frame() -> None:
    """What comes after it was cancelled waits for whoever reads next."""

    async def test() -> None:
        queue = FrameQueue(unasked)
        reading = asyncio.create_task(numbers(queue.frames()))
        await asyncio.sleep(1)
        queue.put(picture(1))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        queue.end()
        assert await numbers(queue.frames()) == [1]

    run(test())


def test_a_reader_that_falls_behind_begins_again_at_a_keyframe() -> None:
    """All that it did not read is dropped, and a keyframe is asked for, once."""

    async def test() -> None:
        asked: list[int] = []
        queue = FrameQueue(lambda: asked.append(number))
        for number in range(FRAMES_MAX):
            assert queue.put(picture(number))
        assert asked == []
        number = FRAMES_MAX
        assert not queue.put(picture(number))
        assert queue.put(sound(number + 1))
        assert not queue.put(picture(number + 2))
        assert queue.put(picture(number + 3, keyframe=True))
        assert queue.put(picture(number + 4))
        queue.end()
        assert asked == [FRAMES_MAX]
        assert await numbers(queue.frames()) == [number + 1, number + 3, number + 4]

    run(test())


def test_pictures_are_left_out_until_a_keyframe_when_one_is_missing() -> None:
    """Sound goes on, and nobody fell behind."""

    async def test() -> None:
        queue = FrameQueue(unasked)
        queue.put(picture(1, keyframe=True))
        queue.skip()
        assert not queue.put(picture(2))
        assert queue.put(sound(3))
        assert queue.put(picture(4, keyframe=True))
        queue.end()
        assert await numbers(queue.frames()) == [1, 3, 4]

    run(test())
