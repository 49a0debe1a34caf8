"""hitless.server.prober: control sides that are asked over HTTP, on loopback"""

import asyncio
import contextlib

import pytest
from aiohttp import web
from unit.server.prober_fakes import Probing

from hitless.server import prober
from hitless.server.prober import HttpControl, Target


@contextlib.asynccontextmanager
async def serving(handler):
    """Serve every path and method by `handler` and give the URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def ask(handler, path="/health", **options):
    """Ask a server once."""

    async def main():
        async with serving(handler) as url:
            control = HttpControl(url + path, **{"allow_private": True, **options})
            return await control()

    return asyncio.run(main())


def answering(status, **more):
    """Return a handler that gives one answer."""

    async def handler(request):
        return web.Response(status=status, **more)

    return handler


@pytest.mark.parametrize(
    ("status", "ok"),
    [
        (200, True),
        (204, True),
        (302, True),
        (401, True),
        (404, True),
        (429, True),
        (500, False),
        (503, False),
    ],
)
def test_what_answers_with_anything_but_5xx_is_there(status, ok):
    """
    4xx is about us.
    """
    answer = ask(answering(status))

    assert (ok, True, False) == (answer.ok, answer.answered, answer.own_trouble)
    assert f"HTTP {status} to GET" == answer.because


def test_redirects_are_not_followed():
    """
    Not even to itself.
    """
    asked = []

    async def handler(request):
        asked.append(request.path)
        raise web.HTTPFound("/elsewhere")

    assert ask(handler).ok
    assert ["/health"] == asked


def test_method_and_headers_are_sent():
    """
    An API may want to know who asks.
    """
    asked = []

    async def handler(request):
        asked.append((request.method, request.headers["Authorization"]))
        return web.Response()

    ask(handler, method="OPTIONS", headers={"Authorization": "Bearer x"})
    assert [("OPTIONS", "Bearer x")] == asked


def test_an_endless_answer_is_cut_off():
    """
    64 KiB are enough.
    """
    sent = []

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(20_000):
                await response.write(b"x" * 4096)
                sent.append(4096)
        return response

    assert ask(handler).ok
    assert sum(sent) < 20_000 * 4096


def test_a_name_is_connected_to_as_it_was_judged():
    """
    It is resolved once, and shown in `Host`.
    """
    asked, hosts = [], []

    async def handler(request):
        hosts.append(request.host)
        return web.Response()

    async def main():
        async def resolver(host, port):
            asked.append(host)
            return ["127.0.0.1"]

        async with serving(handler) as url:
            port = url.rsplit(":", 1)[1]
            url = f"http://provider.example:{port}/"
            refused = await HttpControl(url, resolver=resolver)()
            reached = await HttpControl(url, resolver=resolver, allow_private=True)()
            return refused, reached, port

    refused, reached, port = asyncio.run(main())

    assert (False, True) == (refused.ok, refused.own_trouble)
    assert "loopback" in refused.because
    assert reached.ok
    assert [f"provider.example:{port}"] == hosts
    assert 2 == len(asked)


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("http://127.0.0.1:1/", "loopback"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[::1]/", "loopback"),
        ("http://[::ffff:10.0.0.1]/", "private"),
        ("file:///etc/passwd", "must begin with"),
        ("https://user:secret@example.com/", "user or password"),
    ],
)
def test_private_targets_are_refused_as_our_own_trouble(url, because):
    """
    No verdict comes of them.
    """
    answer = asyncio.run(HttpControl(url)())

    assert (False, True) == (answer.ok, answer.own_trouble)
    assert because in answer.because
    assert "secret" not in answer.because


def test_a_refused_connection_is_an_answer_and_a_failure():
    """
    The machine is there, and nothing listens.
    """

    async def main():
        async with serving(answering(200)) as url:
            pass
        return await HttpControl(url, allow_private=True)()

    answer = asyncio.run(main())

    assert (False, True, "connection refused") == (answer.ok, answer.answered, answer.because)


def test_a_name_that_is_not_found_is_no_answer():
    """
    F25: it may as well be our own resolver.
    """

    async def main():
        async def resolver(host, port):
            raise OSError("not found")

        return await HttpControl("https://provider.example/", resolver=resolver)()

    answer = asyncio.run(main())

    assert (False, False, False) == (answer.ok, answer.answered, answer.own_trouble)


def test_what_hangs_is_no_answer(monkeypatch):
    """
    Within the limit, body included.
    """
    monkeypatch.setattr(prober, "TIMEOUT_S", 0.2)

    async def handler(request):
        await asyncio.sleep(5)

    answer = ask(handler)

    assert (False, False, "no answer within 0.2 s") == (
        answer.ok,
        answer.answered,
        answer.because,
    )


def test_what_does_not_speak_http_is_a_failure():
    """
    Something is there, and it is not the provider.
    """

    async def main():
        async def talk(reader, writer):
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await HttpControl(f"http://127.0.0.1:{port}/", allow_private=True)()

    answer = asyncio.run(main())

    assert not answer.ok
    assert not answer.own_trouble


def test_the_whip_endpoint_is_asked_when_nothing_else_is_configured():
    """
    OPTIONS, with a stream's name filled in.
    """
    asked = []

    async def handler(request):
        asked.append((request.method, request.path))
        return web.Response()

    async def main():
        async with serving(handler) as url:
            async with Probing({}, allow_private=True) as probing:
                whip = Target(name="a", publish_url=url + "/whip/{stream}")
                await probing.prober.watch([whip])
                await probing.prober.check_now("a")
                both = Target(name="a", publish_url=url + "/whip", control_url=url + "/health")
                await probing.prober.watch([both])
                await probing.prober.check_now("a")

    asyncio.run(main())

    assert [("OPTIONS", "/whip/hitless-canary"), ("GET", "/health")] == asked
