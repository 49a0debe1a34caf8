"""hitless.client.backend"""

import asyncio
import gzip
import json
import socket
import tracemalloc
import zlib
from contextlib import nullcontext

import pytest
from aiohttp import web
from backend_calls import SECRET, ask, check, entry, listing, says, serving, why_unavailable

from hitless.client.backend import Backend, BackendUnavailable, CallableList, StaticList
from hitless.core.listing import Answer, Listed
from hitless.errors import ConfigError


# --- Bodies ---


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff\xfe", b"[" * 200_000, b"9" * 5_000])
def test_bad_json_is_no_list(body):
    """Broken, empty, not UTF-8, nested without end, a number without end."""
    assert "bad JSON" in why_unavailable(says(body, raw=True)).because


def test_a_body_of_ten_megabytes_is_not_read():
    """The limit is 1 MiB, whatever the server sends."""
    assert "too long" in why_unavailable(says(b" " * 10_000_000, raw=True)).because


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_compressed_list_is_read_and_a_bomb_is_not(pack):
    """A megabyte is the limit after decompression too."""
    encoding = {"Content-Encoding": "gzip" if pack is gzip.compress else "deflate"}
    good = says(pack(json.dumps(listing(entry("a"))).encode()), raw=True, headers=encoding)
    bomb = says(pack(b" " * 50_000_000), raw=True, headers=encoding)
    cut = says(pack(b'{"success": true}')[:-6], raw=True, headers=encoding)

    assert "a" == ask(good, lambda backend: backend.list_providers()).providers[0].name
    tracemalloc.start()
    try:
        assert "too long" in why_unavailable(bomb).because
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert "cut short" in why_unavailable(cut).because


def test_an_encoding_nobody_asked_for_is_refused():
    """Whatever `br` would hold."""
    fault = why_unavailable(says(b"x", raw=True, headers={"Content-Encoding": "br"}))

    assert "encoding" in fault.because


# --- Redirects and headers ---


def test_headers_go_to_the_same_origin_and_along_no_redirect_to_another():
    """A credential belongs to the origin it was configured for."""
    seen = []

    async def elsewhere(request):
        seen.append(("elsewhere", request.headers.get("Authorization")))
        return web.json_response(listing(entry("agora")))

    async def main():
        async with serving(elsewhere) as other:

            async def answer(request):
                seen.append((request.path, request.headers.get("Authorization")))
                if request.path == "/streaming/providers":
                    raise web.HTTPFound("/moved")
                raise web.HTTPTemporaryRedirect(other + "/list")

            async with serving(answer) as url:
                backend = Backend(url, headers={"Authorization": SECRET})
                got = await backend.list_providers()
                await backend.aclose()
                return got

    assert "agora" == asyncio.run(main()).providers[0].name
    assert [("/streaming/providers", SECRET), ("/moved", SECRET), ("elsewhere", None)] == seen


def test_a_ring_of_redirects_ends_after_three():
    """One request and three redirects, then it is a fault."""
    asked = []

    async def answer(request):
        asked.append(request.path)
        raise web.HTTPFound(request.path)

    assert "3 redirects" in why_unavailable(answer).because
    assert 4 == len(asked)


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[", ""])
def test_a_redirect_to_nowhere_is_a_fault(target):
    """Not http, not an address, not there: followed nowhere, or round until the limit."""
    fault = why_unavailable(says(b"", raw=True, status=302, headers={"Location": target}))

    assert "redirect" in fault.because
    assert fault.answered


def test_a_redirect_from_https_to_http_is_not_followed():
    """What the list says could then be written by anybody on the way."""
    asked = []

    class Moved:
        status, headers = 302, {"Location": "http://example.com/list"}

        def get(self, url, **_):
            asked.append(str(url))
            return nullcontext(self)

    class Secure(Backend):
        def _opened(self):
            return Moved()

    with pytest.raises(BackendUnavailable, match="from https to http"):
        asyncio.run(Secure("https://example.com").list_providers())

    assert ["https://example.com/streaming/providers"] == asked


def test_headers_may_come_from_an_async_callable_each_time():
    """So that a short-lived token stays fresh."""
    tokens = iter(["one", "two"])
    seen = []

    async def headers():
        return {"Authorization": next(tokens)}

    async def answer(request):
        seen.append(request.headers["Authorization"])
        return web.json_response(listing(entry("agora")))

    async def twice(backend):
        await backend.list_providers()
        await backend.list_providers()

    ask(answer, twice, headers=headers)

    assert ["one", "two"] == seen


@pytest.mark.parametrize("headers", [None, {"a": 1}, {"a": "b\r\nc: d"}, ValueError(SECRET)])
def test_headers_that_fail_are_our_fault_and_are_not_quoted(headers):
    """No provider is blamed, and no text of the app's exception is shown."""

    async def supply():
        if isinstance(headers, Exception):
            raise headers
        return headers

    got = check(says({}), headers=supply)
    fault = why_unavailable(says({}), headers=supply)

    assert Answer.WARNING is got.answer
    assert "our headers failed" in got.because
    assert not fault.answered
    assert SECRET not in got.because + str(fault)


def test_headers_that_come_too_late_are_our_fault():
    """The limit of the request covers the callable."""

    async def supply():
        await asyncio.sleep(5)

    got = check(says({}), headers=supply, timeout_s=0.05)

    assert (Answer.WARNING, "our headers came too late") == (got.answer, got.because)


# --- Health ---


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429])
def test_a_4xx_is_a_warning_about_us(status):
    """It says nothing of the provider."""
    got = check(says({}, status=status))

    assert (Answer.WARNING, f"HTTP {status}") == (got.answer, got.because)


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        (says({}, status=503), "HTTP 503"),
        (says({}, status=500), "HTTP 500"),
        (says(b"{", raw=True), "bad JSON"),
        (says([]), "bad JSON: not an object"),
        (says({"success": False}), "bad answer: success is not true"),
        (says({"success": True, "data": 1}), "bad answer: data is not an object"),
    ],
)
def test_a_check_without_a_proper_answer_is_unanswered(answer, because):
    """5xx, bad JSON, a wrong shape."""
    got = check(answer)

    assert (Answer.UNANSWERED, because) == (got.answer, got.because)


def test_a_backend_that_hangs_is_a_connection_timeout():
    """The whole request has one limit."""

    async def answer(request):
        await asyncio.sleep(30)

    got = check(answer, timeout_s=0.1)
    fault = why_unavailable(answer, timeout_s=0.1)

    assert (Answer.UNANSWERED, "Connection timeout") == (got.answer, got.because)
    assert got.latency_s is None
    assert ("Connection timeout", False) == (fault.because, fault.answered)


def test_a_body_that_trickles_is_a_connection_timeout():
    """Headers at once and a byte now and then do not buy time."""

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    assert "Connection timeout" == check(answer, timeout_s=0.15).because


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_listening_is_connection_refused(host):
    """An active refusal is an answer of the machine."""

    async def main():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        backend = Backend(f"http://{host}:{port}")
        try:
            got = await backend.check_health("agora")
            with pytest.raises(BackendUnavailable) as caught:
                await backend.list_providers()
        finally:
            await backend.aclose()
        return got, caught.value

    got, fault = asyncio.run(main())

    assert (Answer.UNANSWERED, "Connection refused") == (got.answer, got.because)
    assert fault.answered


@pytest.mark.parametrize(
    ("sent", "because"),
    [
        (b"", "connection closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "bad HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "the answer is cut short"),
    ],
)
def test_a_server_that_speaks_something_else_is_unanswered(sent, because):
    """Closed at once, another protocol, a body cut short."""

    async def speak(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        backend = Backend(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            return await backend.check_health("agora")
        finally:
            await backend.aclose()
            server.close()
            await server.wait_closed()

    got = asyncio.run(main())

    assert (Answer.UNANSWERED, because) == (got.answer, got.because)


def test_names_are_percent_encoded_into_one_segment():
    """A slash, a question mark and a word in another script."""
    paths = []

    async def answer(request):
        paths.append(request.raw_path)
        return web.json_response({"success": True, "data": {"healthy": True}})

    async def ask_all(backend):
        for name in ("a/b?c#d", "日本", "a b"):
            await backend.check_health(name)

    ask(answer, ask_all)

    assert [
        "/streaming/providers/a%2Fb%3Fc%23d/health",
        "/streaming/providers/%E6%97%A5%E6%9C%AC/health",
        "/streaming/providers/a%20b/health",
    ] == paths


@pytest.mark.parametrize("name", ["..", "", "\ud800"])
def test_a_name_that_fits_no_path_is_a_warning(name):
    """Asked of nobody, raised by nothing."""
    got = ask(says({}), lambda backend: backend.check_health(name))

    assert Answer.WARNING is got.answer


def test_cancelling_a_check_cancels_it():
    """The only thing that a check raises."""

    async def answer(request):
        await asyncio.sleep(30)

    async def cancel(backend):
        task = asyncio.create_task(backend.check_health("agora"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    ask(answer, cancel, timeout_s=5.0)


def test_a_closed_backend_refuses_and_closing_twice_is_fine():
    """Nothing opens again behind the owner's back."""

    async def close(backend):
        await backend.list_providers()
        await backend.aclose()
        await backend.aclose()
        with pytest.raises(BackendUnavailable, match="closed"):
            await backend.list_providers()
        return await backend.check_health("agora")

    assert Answer.WARNING is ask(says(listing(entry("a"))), close).answer


# --- What cannot work is said before anything opens ---


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "ftp://example.com",
        "http://",
        "http://[",
        "http://a:b/",
        f"https://user:{SECRET[7:]}@example.com",
        "https://example.com/?token=s3cr3t",
        "https://example.com/#x",
        None,
        7,
    ],
)
def test_a_bad_url_is_a_config_error_that_quotes_no_secret(url):
    """Naming what to write instead."""
    with pytest.raises(ConfigError, match="backend's url") as caught:
        Backend(url)

    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("headers", [7, ["a"], {"a": None}, {"a": "b\nc"}])
def test_bad_headers_are_a_config_error(headers):
    """Before anything opens."""
    with pytest.raises(ConfigError, match="headers"):
        Backend("https://example.com", headers=headers)


@pytest.mark.parametrize("timeout_s", [0, -1, 301, True, float("nan")])
def test_a_limit_outside_its_limits_is_a_config_error(timeout_s):
    """Before anything opens."""
    with pytest.raises(ConfigError, match="timeout_s"):
        Backend("https://example.com", timeout_s=timeout_s)


def test_headers_do_not_go_in_clear_to_another_machine_unless_allowed():
    """Loopback is fine, and so is a list that needs no header."""
    with pytest.raises(ConfigError, match="https"):
        Backend("http://example.com", headers={"a": "b"})

    Backend("http://example.com")
    Backend("http://127.0.0.1:1", headers={"a": "b"})
    Backend("http://example.com", headers={"a": "b"}, allow_http=True)


# --- The other sources ---


def test_a_static_list_keeps_the_order_given_and_has_nobody_to_ask():
    """Priorities are places."""
    source = StaticList(["agora", "ZegoCloud"])

    got = asyncio.run(source.list_providers())

    assert [("agora", 1), ("ZegoCloud", 2)] == [(p.name, p.priority) for p in got.providers]
    assert asyncio.run(source.check_health("agora")) is None


@pytest.mark.parametrize("names", [[], "agora", ["a", "a"], [""], [None]])
def test_a_static_list_that_cannot_work_is_a_config_error(names):
    """Empty, one text, twice the same, not a name."""
    with pytest.raises(ConfigError, match="name"):
        StaticList(names)


def test_a_callable_may_mix_names_dictionaries_and_values():
    """Whatever the app has at hand."""

    async def supply():
        return ["agora", entry("zego", 0), Listed(name="own", priority=1, config={"k": 1})]

    got = asyncio.run(CallableList(supply).list_providers())

    assert ["zego", "agora", "own"] == [p.name for p in got.providers]
    assert asyncio.run(CallableList(supply).check_health("agora")) is None


@pytest.mark.parametrize("result", [None, "agora", 7, [None], ValueError("no database")])
def test_a_callable_that_fails_is_unavailable(result):
    """So that the last good list is kept."""

    async def supply():
        if isinstance(result, Exception):
            raise result
        return result

    with pytest.raises(BackendUnavailable):
        asyncio.run(CallableList(supply).list_providers())


def test_a_callable_that_never_returns_is_unavailable():
    """Its time is bounded."""
    with pytest.raises(BackendUnavailable, match="too long"):
        asyncio.run(CallableList(lambda: asyncio.sleep(9), timeout_s=0.02).list_providers())


def test_who_would_send_headers_in_clear_is_told_the_key_of_the_file():
    """As it is written there, which is no Python."""
    with pytest.raises(ConfigError, match=r"allow_http = true"):
        Backend("http://example.com", headers={"a": "b"})
