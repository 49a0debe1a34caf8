"""Adapters of an account: a stand-in of its control API, an RTMP server, and a WHIP server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Generic, TypeVar

import pytest
from control_calls import told
from control_stand_in import Answering, StandIn, standing_in
from rtmp_server import RtmpServer
from rtmp_server import serving as rtmp_serving
from rtmp_source import Source
from whip_server import WhipServer
from whip_server import serving as whip_serving

from hitless.errors import HitlessError
from hitless.providers.base import Provider


LIMIT_S = 60.0
CLOSED_S = 2.5
"""Closing takes 2 s at most, and a busy machine."""

C = TypeVar("C", bound=Answering)
P = TypeVar("P", bound=Provider)


class Lab(Generic[C, P]):
    """
    A console, an RTMP server, and adapters of both.

    Attributes:
        secrets: What no error may tell.
    """

    secrets: ClassVar[tuple[str, ...]]

    def __init__(self, api: StandIn, console: C, rtmp: RtmpServer) -> None:
        self.api, self.console, self.rtmp = api, console, rtmp
        self.source = Source()
        self.feed = self.source.feed
        self.made: list[P] = []

    async def fails(self, provider: P, kind: type[HitlessError]) -> Any:
        """Publish, expect an error, and return it; it tells no secret."""
        with pytest.raises(kind) as caught:
            await provider.start_stream("show", self.feed)
        assert_untold(caught.value, self.secrets)
        return caught.value


L = TypeVar("L", bound=Lab[Any, Any])


def run(
    make: Callable[[StandIn, C, RtmpServer], L],
    console: C,
    test: Callable[[L], Coroutine[Any, Any, None]],
    *,
    tasks: str,
) -> None:
    """
    Run a test with stand-ins of its own, bounded; nothing may be left of it.

    Args:
        make: Makes the lab.
        console: Answers for the control API.
        test: The test.
        tasks: What the names of the adapter's tasks contain.
    """

    async def main() -> None:
        mine = asyncio.all_tasks()
        async with (
            asyncio.timeout(LIMIT_S),
            standing_in(console) as api,
            rtmp_serving() as rtmp,
        ):
            lab = make(api, console, rtmp)
            try:
                await test(lab)
            finally:
                for provider in lab.made:
                    await provider.aclose()
                await lab.feed.aclose()
        assert [task for task in asyncio.all_tasks() - mine if tasks in task.get_name()] == []

    asyncio.run(main())


def at_whip(test: Callable[[WhipServer], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a WHIP server, bounded."""

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), whip_serving() as server:
            await test(server)

    asyncio.run(main())


def assert_untold(exc: BaseException, secrets: tuple[str, ...]) -> None:
    """No secret in a message, a repr, a cause or a traceback."""
    words = told(exc)
    for secret in secrets:
        assert secret not in words


def now() -> float:
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


def unused_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
