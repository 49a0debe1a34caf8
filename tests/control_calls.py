"""Calls of our clients of control APIs, made to a stand-in: asked, cancelled, closed."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import pytest
from control_stand_in import Answering, Asked, StandIn, hanging, standing_in

from hitless.errors import HitlessError


class Client(Protocol):
    """A client of a control API."""

    async def aclose(self) -> None:
        """End what is under way."""


C = TypeVar("C", bound=Client)

Make = Callable[[StandIn], C]
"""Makes a client of a stand-in."""

Use = Callable[[C], Awaitable[Any]]
"""A call (Any: whatever it returns)."""


def ask(make: Make[C], answering: Answering, use: Use[C]) -> tuple[Any, list[Asked]]:
    """Return what a call returned or raised, and what the stand-in was asked."""

    async def main() -> tuple[Any, list[Asked]]:
        async with standing_in(answering) as stand_in:
            api = make(stand_in)
            try:
                return await use(api), stand_in.asked
            except HitlessError as exc:
                return exc, stand_in.asked
            finally:
                await api.aclose()

    return asyncio.run(main())


def told(exc: BaseException) -> str:
    """Return all that an error tells: messages, reprs, causes and the traceback."""
    words = "".join(traceback.format_exception(exc)) + repr(exc) + repr(vars(exc))
    for link in (exc, exc.__cause__, exc.__context__):
        words += repr(link) + str(link)
    return words


async def cancel_once_asked(stand_in: StandIn, work: Awaitable[Any]) -> None:
    """Begin a call, and cancel it when the stand-in has its request."""
    task = asyncio.create_task(_of(work))
    await _until(lambda: bool(stand_in.asked))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def assert_a_cancelled_call_ends_its_connection(make: Make[C], use: Use[C]) -> None:
    """The stand-in, which never answers, sees its client go."""

    async def main() -> None:
        async with standing_in(hanging) as stand_in:
            api = make(stand_in)
            try:
                await cancel_once_asked(stand_in, use(api))
                await _until(lambda: stand_in.left == 1)
            finally:
                await api.aclose()

    asyncio.run(main())


def asked_of_what_nobody_waits_for(
    make: Make[C], answering: Callable[[asyncio.Event], Answering], use: Use[C]
) -> list[Asked]:
    """
    Return what a stand-in is asked when a call is cancelled and its client closed.

    Args:
        make: Makes the client.
        answering: Returns what answers, given what to wait for before it says that it is done.
        use: The call.
    """

    async def main() -> list[Asked]:
        go_on = asyncio.Event()
        async with standing_in(answering(go_on)) as stand_in:
            api = make(stand_in)
            await cancel_once_asked(stand_in, use(api))
            closing = asyncio.create_task(api.aclose())
            await asyncio.sleep(0.05)
            go_on.set()
            await closing
            return stand_in.asked

    return asyncio.run(main())


async def _of(work: Awaitable[Any]) -> Any:
    return await work


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not is_so():  # noqa: ASYNC110 -- what is waited for happens elsewhere
            await asyncio.sleep(0.005)
