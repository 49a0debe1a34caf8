"""Legs through the process of a provider's SDK, with a stand-in of that SDK inside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from hitless.media.frame import EncodedFrame, Kind
from hitless.providers.base import Leg, Provider, ViewLeg


LIMIT_S = 60.0
CLOSED_S = 5.0
"""Leaving takes 2 s at most; twice that and more on a machine that is too busy to tell."""

P = TypeVar("P", bound=Provider)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put something first where modules are looked for, here and in the SDK's process."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test, bounded."""

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S):
            await test()

    asyncio.run(main())


class Runs(Generic[P]):
    """
    Tests with a provider that is closed after them.

    Args:
        make: Makes the provider, with what a test sets.
    """

    def __init__(self, make: Callable[..., P]) -> None:
        self._make = make

    def using(self, test: Callable[[P], Coroutine[Any, Any, None]], **settings: Any) -> None:
        """Run a test with a provider."""

        async def main() -> None:
            provider = self._make(**settings)
            try:
                await test(provider)
            finally:
                await provider.aclose()

        run(main)

    def watching(
        self, test: Callable[[Any], Coroutine[Any, Any, None]], stream: str, **settings: Any
    ) -> None:
        """Run a test with a view of a stream (Any: each provider's own kind of leg)."""

        async def main(provider: P) -> None:
            await test(await provider.join_stream(stream))

        self.using(main, **settings)

    def failing(self, error: type[BaseException], stream: str, **settings: Any) -> Any:
        """Return the error (Any: of that type) that a view of a stream ends with."""
        found: list[BaseException] = []

        async def main(provider: P) -> None:
            with pytest.raises(error) as caught:
                await provider.join_stream(stream)
            found.append(caught.value)

        self.using(main, **settings)
        return found[0]


async def first(leg: ViewLeg, count: int, kind: Kind | None = None) -> list[EncodedFrame]:
    """Return the next frames of a leg."""
    frames: list[EncodedFrame] = []
    async for frame in leg.frames():
        if kind in (None, frame.kind):
            frames.append(frame)
        if len(frames) >= count:
            break
    return frames


async def until(condition: Callable[[], Any], limit_s: float = 30.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.01)


async def leaving_s(leg: Leg) -> float:
    """Close a leg; return how long that took [s]."""
    clock = asyncio.get_running_loop().time
    begun_s = clock()
    await leg.aclose()
    return clock() - begun_s
