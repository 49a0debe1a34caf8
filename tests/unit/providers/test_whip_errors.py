"""What each failure means: whose it is, and what to do next."""

from __future__ import annotations

import asyncio
import errno
import socket
import traceback
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from whip_calls import always, failing, run, whip
from whip_server import WhipServer

from hitless.errors import (
    ContractBroken,
    CredentialsRejected,
    LocalFault,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.frame import Kind
from hitless.providers.unreached import translated
from hitless.providers.whip import Whip


@pytest.mark.parametrize(
    ("operation", "status", "headers", "error", "retry"),
    [
        ("publish", 400, {}, ContractBroken, Retry.NEXT),
        ("publish", 401, {}, CredentialsRejected, Retry.NEXT),
        ("publish", 403, {}, CredentialsRejected, Retry.NEXT),
        ("publish", 404, {}, Refused, Retry.NEXT),
        ("publish", 406, {}, ContractBroken, Retry.NEXT),
        ("publish", 409, {}, Refused, Retry.NEXT),
        ("publish", 415, {}, ContractBroken, Retry.NEXT),
        ("publish", 418, {}, Refused, Retry.NEXT),
        ("publish", 422, {}, ContractBroken, Retry.NEXT),
        ("publish", 429, {}, Refused, Retry.NEXT),
        ("publish", 500, {}, Refused, Retry.SAME),
        ("publish", 503, {}, Refused, Retry.SAME),
        ("publish", 503, {"Retry_After": "1"}, Refused, Retry.SAME),
        ("publish", 503, {"Retry_After": "2"}, Refused, Retry.NEXT),
        ("publish", 599, {}, Refused, Retry.SAME),
        ("publish", 200, {}, ContractBroken, Retry.NEXT),
        ("view", 422, {}, ContractBroken, Retry.NEXT),
        ("view", 503, {"Retry_After": "2"}, Refused, Retry.NEXT),
    ],
)
def test_the_status_decides_what_to_do_next(
    operation: str, status: int, headers: dict[str, str], error: type, retry: Retry
) -> None:
    """By its class, not by a list of codes."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(status, "no", **headers)
        exc = await failing(whip(server), operation)
        assert type(exc) is error
        assert isinstance(exc, ProviderError)
        assert exc.retry is retry
        assert exc.operation == operation
        assert str(status) in str(exc)

    run(test)


@pytest.mark.parametrize("status", [404, 409])
def test_a_stream_nobody_publishes_is_not_on_air(status: int) -> None:
    """WHEP 404 and 409 alike; the server's advice is passed on."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(status, Retry_After="1")
        exc = await failing(whip(server), "view")
        assert isinstance(exc, NotOnAir)
        assert exc.retry_after_s == 1.0

    run(test)


def test_a_retry_after_is_capped_at_300_s() -> None:
    """Nobody is banned for a day by a header."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(503, Retry_After="86400")
        exc = await failing(whip(server))
        assert isinstance(exc, Refused)
        assert exc.retry_after_s == 300.0

    run(test)


def test_a_huge_answer_is_not_read() -> None:
    """256 KiB is plenty."""

    async def test(server: WhipServer) -> None:
        server.intercept = always(500, "x" * 300_000)
        assert isinstance(await failing(whip(server)), ContractBroken)

    run(test)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Location": "/session/9", "Content-Type": "application/sdp"}, "nonsense"),
        ({"Location": "/session/9", "Content-Type": "application/sdp"}, "v=0\r\n"),
        ({"Location": "/session/9", "Content-Type": "text/html"}, "v=0\r\n"),
        ({"Content-Type": "application/sdp"}, "v=0\r\n"),
    ],
)
@pytest.mark.parametrize("operation", ["publish", "view"])
def test_a_201_that_is_none_is_released(
    operation: str, headers: dict[str, str], text: str
) -> None:
    """Bad description, wrong type, no Location: what can be deleted is deleted."""

    async def test(server: WhipServer) -> None:
        async def intercept(request: web.Request) -> web.StreamResponse | None:
            if request.method == "POST":
                return web.Response(status=201, text=text, headers=headers)
            return None

        server.intercept = intercept
        assert isinstance(await failing(whip(server), operation), ContractBroken)
        deleted = [each.path for each in server.requests("DELETE")]
        assert deleted == (["/session/9"] if "Location" in headers else [])

    run(test)


def test_a_refused_connection_is_unreachable_and_answered() -> None:
    """Something there said no: try once more."""

    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        exc = await failing(Whip("agora", url=f"http://127.0.0.1:{port}/whip"))
        assert isinstance(exc, Unreachable)
        assert (exc.retry, exc.answered) == (Retry.SAME, True)

    asyncio.run(main())


def test_a_host_that_never_answers_is_a_connection_timeout() -> None:
    """Within the limit, and nobody is blamed."""

    async def main() -> None:
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            url = f"http://127.0.0.1:{mute.getsockname()[1]}/whip"
            begun = asyncio.get_running_loop().time()
            exc = await failing(Whip("agora", url=url, first_media_s=0.3))
            assert isinstance(exc, Unreachable)
            assert "Connection timeout" in str(exc)
            assert (exc.retry, exc.answered) == (Retry.SAME, False)
            assert asyncio.get_running_loop().time() - begun < 2.0

    asyncio.run(main())


def test_a_connection_that_is_cut_is_unreachable() -> None:
    """Accepted, then closed without a word."""

    async def main() -> None:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(cut, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        exc = await failing(Whip("agora", url=f"http://127.0.0.1:{port}/whip"))
        assert isinstance(exc, Unreachable)
        assert exc.retry is Retry.SAME
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_server_that_speaks_something_else_breaks_the_contract() -> None:
    """A port of another protocol."""

    async def main() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail ready\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        exc = await failing(Whip("agora", url=f"http://127.0.0.1:{port}/whip"))
        assert isinstance(exc, ContractBroken)
        server.close()
        await server.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize(
    "says",
    [
        b"220 mail ready\r\n\r\n",  # aiohttp's own error holds URL and headers then
        b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\nv=0",
        b"",
    ],
    ids=["garbage", "cut", "nothing"],
)
@pytest.mark.parametrize("operation", ["publish", "view"])
def test_no_traceback_shows_the_token_or_the_url(operation: str, says: bytes) -> None:
    """Neither the error nor whatever it came from."""

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(says)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/5ecret-path/whip"
        exc = await failing(Whip("agora", url=url, token="5ecret-token"), operation)
        server.close()
        await server.wait_closed()
        told, each = "".join(traceback.format_exception(exc)), exc
        while each is not None:
            told += repr(each) + repr(vars(each))
            each = each.__cause__ or each.__context__
        assert "5ecret" not in told

    asyncio.run(main())


def test_no_traceback_shows_what_a_token_function_says() -> None:
    """Its own error may hold a secret; only its type is told."""

    async def test(server: WhipServer) -> None:
        async def token() -> str:
            raise RuntimeError("5ecret")

        exc = await failing(whip(server, token=token))
        assert isinstance(exc, CredentialsRejected)
        told = "".join(traceback.format_exception(exc))
        assert "RuntimeError" in told
        assert "5ecret" not in told.replace('raise RuntimeError("5ecret")', "")
        assert exc.__cause__ is None
        assert exc.__context__ is None

    run(test)


def test_an_operating_systems_error_stays_the_cause() -> None:
    """It says no more than what went wrong, and whoever debugs needs it."""

    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        exc = await failing(Whip("agora", url=f"http://127.0.0.1:{port}/whip"))
        assert isinstance(exc.__cause__, OSError)

    asyncio.run(main())


@pytest.mark.parametrize("number", ["ENETUNREACH", "ENETDOWN", "EMFILE"])
def test_faults_of_this_machine_blame_nobody(number: str) -> None:
    """No network, no more sockets."""
    exc = translated(OSError(getattr(errno, number), "x"), "agora", "publish")
    assert isinstance(exc, LocalFault)
    assert number in str(exc)


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("geheim\r\nX-Other: 1", "line break"),
        ("geheim\x00", "control character"),
        ("geheim\n", "line break"),
    ],
)
@pytest.mark.parametrize("operation", ["publish", "view"])
def test_a_token_that_fits_into_no_header_is_not_sent(
    token: str, says: str, operation: str
) -> None:
    """It is said in plain words, which do not quote it, and the next provider's turn has come."""

    async def test(server: WhipServer) -> None:
        exc = await failing(whip(server, token=token), operation)
        assert type(exc) is CredentialsRejected
        assert (exc.retry, exc.answered) == (Retry.NEXT, False)
        assert says in str(exc)
        assert "geheim" not in "".join(traceback.format_exception(exc))
        assert server.seen == []

    run(test)


def test_a_token_that_fits_into_no_header_is_fetched_again_by_the_next_attempt() -> None:
    """The function may have a good one by then."""
    tokens: list[Any] = ["bad\n", b"no text", "good"]

    async def test(server: WhipServer) -> None:
        async def token() -> Any:
            return tokens.pop(0)

        server.intercept = always(500)
        provider, (feed, _) = whip(server, token=token), canned_feed(Kind.AUDIO)
        for expected in (CredentialsRejected, CredentialsRejected, Refused):
            with pytest.raises(expected):
                await provider.start_stream("show", feed)
        assert [each.headers["Authorization"] for each in server.seen] == ["Bearer good"]
        await provider.aclose()
        await feed.aclose()

    run(test)
