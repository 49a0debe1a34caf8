"""What a viewing leg received and its viewer did not read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from ..media.frame import EncodedFrame, Kind


FRAMES_MAX: Final = 512
"""Frames that wait for a viewer that does not read: over 6 s. Then all are dropped, and video
goes on with the next keyframe."""


class FrameQueue:
    """
    Hands frames of one leg to its one reader, in the order in which they came.

    It is bounded, and hands out no picture that depends on one it did not keep. In the loop's
    thread only.

    Args:
        request_keyframe: Called when a reader fell behind and lost what it did not read.

    Attributes:
        is_over: Whether `end` was called.
    """

    def __init__(self, request_keyframe: Callable[[], None]) -> None:
        self._request_keyframe = request_keyframe
        self._unread: deque[EncodedFrame] = deque()
        self._news = asyncio.Event()
        self._is_skipping = False
        self.is_over = False

    def skip(self) -> None:
        """Leave out pictures until a keyframe: one that they depend on is missing."""
        self._is_skipping = True

    def put(self, frame: EncodedFrame) -> bool:
        """Take a frame, never waiting; return False if it was left out for want of a keyframe."""
        if len(self._unread) >= FRAMES_MAX:
            self._unread.clear()
            self.skip()
            self._request_keyframe()
        if frame.kind is Kind.VIDEO:
            if self._is_skipping and not frame.keyframe:
                return False
            self._is_skipping = False
        self._unread.append(frame)
        self._news.set()
        return True

    def end(self) -> None:
        """Say that nothing more comes: a reader ends when it has read what is here. Idempotent."""
        self.is_over = True
        self._news.set()

    async def frames(self) -> AsyncIterator[EncodedFrame]:
        """Yield each frame once; see `ViewLeg.frames`. A reader may be cancelled as it waits."""
        while True:
            while self._unread:
                yield self._unread.popleft()
            if self.is_over:
                return
            self._news.clear()
            await self._news.wait()
