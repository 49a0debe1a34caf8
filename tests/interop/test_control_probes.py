"""Control probes against the real servers: what each answers, and what becomes of it."""

from __future__ import annotations

import asyncio

import pytest
from interop import janus, livekit_server, nginx_rtmp

from hitless.server import own_control
from hitless.server.addresses import parse_allowed
from hitless.server.own_control import OwnControl
from hitless.server.store_operators import ProviderRow


LIMIT_S = 60.0
LOOPBACK = parse_allowed(["127.0.0.0/8"])

with_janus = pytest.mark.skipif(janus.why_not() is not None, reason=str(janus.why_not()))
with_nginx = pytest.mark.skipif(nginx_rtmp.module() is None, reason=nginx_rtmp.WHY_SKIPPED)


async def asked(adapter, url, secrets=None):
    """Ask a provider once, as the server does."""
    row = ProviderRow(name="theirs", adapter=adapter, config={"url": url})
    control = OwnControl(row, secrets or {}, allow_private=LOOPBACK)
    try:
        async with asyncio.timeout(LIMIT_S):
            return await control()
    finally:
        await control.aclose()


@with_janus
def test_janus_opens_a_session_and_says_so(tmp_path, monkeypatch):
    """
    Killed it refuses, stopped it does not answer: its kernel still takes connections.
    """

    async def main():
        async with janus.running(tmp_path) as server:
            good = await asked("janus", server.url)
            monkeypatch.setattr(own_control, "TIMEOUT_S", 1.0)
            with server.stopped():
                stopped = await asked("janus", server.url)
            server.kill()
            killed = await asked("janus", server.url)
        assert (good.ok, good.because) == (True, "it opens a session with VideoRoom")
        assert (stopped.ok, stopped.answered, stopped.own_trouble) == (False, False, False)
        assert (killed.ok, killed.answered, killed.own_trouble) == (False, True, False)

    asyncio.run(main())


@with_janus
def test_a_janus_that_wants_a_secret_is_not_condemned(tmp_path):
    """
    It answers, and the server has no secret of it: our own trouble.
    """

    async def main():
        async with janus.running(tmp_path, api_secret="of the test") as server:
            answer = await asked("janus", server.url)
        assert (answer.ok, answer.own_trouble) == (False, True)
        assert "403" in answer.because

    asyncio.run(main())


@with_nginx
def test_nginx_takes_a_connection_to_an_application_that_it_has(monkeypatch):
    """
    Also one that lets nobody publish, which is said later; frozen, nobody answers.
    """

    async def main(server):
        good = [await asked("rtmp", server.at(app)) for app in ("live", "closed")]
        none = await asked("rtmp", server.at("none-such"))
        monkeypatch.setattr(own_control, "TIMEOUT_S", 1.0)
        server.freeze()
        frozen = await asked("rtmp", server.url)
        server.thaw()
        server.kill()
        killed = await asked("rtmp", server.url)
        assert [answer.ok for answer in good] == [True, True]
        assert (none.ok, none.own_trouble) == (False, False)
        assert "is there such an application" in none.because
        assert (frozen.ok, frozen.answered, frozen.own_trouble) == (False, False, False)
        assert (killed.ok, killed.answered) == (False, True)

    with nginx_rtmp.NginxRtmp() as server:
        asyncio.run(main(server))


@livekit_server.with_server
def test_livekit_takes_its_own_key_and_no_other(tmp_path):
    """
    A key that it does not know is our own trouble.
    """

    async def main():
        async with livekit_server.running(tmp_path) as server:
            key, secret = livekit_server.KEY, livekit_server.SECRET
            good = await asked("livekit", server.url, {"api_key": key, "api_secret": secret})
            other = {"api_key": key, "api_secret": secret[::-1]}
            bad = await asked("livekit", server.url, other)
        assert good.ok, good.because
        assert (bad.ok, bad.own_trouble) == (False, True)

    asyncio.run(main())
