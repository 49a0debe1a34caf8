"""Views of Agora through the process of its SDK, with the stand-in of the SDK inside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hitless.media.frame import EncodedFrame, Kind
from hitless.providers.agora import Agora
from hitless.providers.base import ViewLeg
from hitless.providers.credential import Access
from hitless.providers.expiring_legs import ExpiringViewLeg


LIMIT_S = 60.0
STAND_IN = Path(__file__).parent / "agora_sdk_stand_in"
APP = "970CA35de60c44645bbae8a215061b33"
CERTIFICATE = "5CFd2fd1755d40ecb72977518be15d3b"
TOKEN = "007-the-token-of-a-plan"
CLOSED_S = 5.0
"""Leaving takes 2 s at most; twice that and more on a machine that is too busy to tell."""

Test = Callable[[], Coroutine[Any, Any, None]]


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put something first where modules are looked for, here and in the SDK's process."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def run(test: Test) -> None:
    """Run a test, bounded."""

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S):
            await test()

    asyncio.run(main())


def agora(**settings: Any) -> Agora:
    """Return a provider that views through the SDK, with tokens minted here."""
    return Agora(**{"app_id": APP, "certificate": CERTIFICATE, "view": "sdk", **settings})


async def planned(access: Access) -> dict[str, Any]:
    """Return what a plan says."""
    return {"channel": access.stream, "uid": 70_001, "token": TOKEN}


def watching(test: Callable[[ExpiringViewLeg], Coroutine[Any, Any, None]], channel: str) -> None:
    """Run a test with a view of a channel."""

    async def main() -> None:
        provider = agora()
        try:
            await test(await provider.join_stream(channel))
        finally:
            await provider.aclose()

    run(main)


def failing(error: type[BaseException], channel: str, **settings: Any) -> Any:
    """Return the error that a view of a channel ends with."""
    found: list[BaseException] = []

    async def main() -> None:
        provider = agora(**settings)
        try:
            with pytest.raises(error) as caught:
                await provider.join_stream(channel)
            found.append(caught.value)
        finally:
            await provider.aclose()

    run(main)
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


async def until(condition: Callable[[], Any], limit_s: float = 10.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.01)


async def leaving_s(leg: ViewLeg) -> float:
    """Close a leg; return how long that took [s]."""
    clock = asyncio.get_running_loop().time
    begun_s = clock()
    await leg.aclose()
    return clock() - begun_s


def inner(leg: ExpiringViewLeg) -> Any:
    """Return the leg that holds the SDK's process."""
    return leg.leg
