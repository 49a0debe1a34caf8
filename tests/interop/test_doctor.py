"""`hitless doctor`'s questions to real servers"""

import asyncio

import livekit_stand_in
import pytest
from interop import janus, nginx_rtmp

from hitless.client.doctor import examine
from hitless.providers.checkup import Verdict
from hitless.providers.clock import wall_s
from hitless.providers.janus import Janus
from hitless.providers.livekit import LiveKit
from hitless.providers.rtmp import Rtmp


async def found(provider):
    """What is found, as (step, verdict), and the words of all of it."""
    try:
        async with asyncio.timeout(60):
            findings = [one async for one in examine(provider, wall_s=wall_s)]
    finally:
        await provider.aclose()
    return {one.step: one.verdict for one in findings}, " ".join(one.says for one in findings)


@pytest.mark.skipif(bool(janus.why_not()), reason=janus.why_not() or "there")
@pytest.mark.parametrize(
    ("secret", "step", "verdict"),
    [("right", "control API", Verdict.GOOD), ("wr0ng", "credential", Verdict.BAD)],
)
def test_janus_is_asked_for_a_session_and_says_whether_it_takes_the_secret(
    tmp_path, secret, step, verdict
):
    async def main():
        async with janus.running(tmp_path, api_secret="right") as server:
            return await found(Janus(url=server.url, api_secret=secret))

    verdicts, words = asyncio.run(main())

    assert verdicts["connection"] is Verdict.GOOD
    assert verdicts[step] is verdict
    assert "wr0ng" not in words


@pytest.mark.skipif(nginx_rtmp.module() is None, reason=nginx_rtmp.WHY_SKIPPED)
def test_an_rtmp_server_is_connected_to():
    with nginx_rtmp.NginxRtmp() as server:
        verdicts, _ = asyncio.run(found(Rtmp(url=server.url)))

    assert verdicts["connection"] is Verdict.GOOD
    assert verdicts["control API"] is Verdict.LEFT_OUT


@pytest.mark.parametrize(
    ("secret", "step", "verdict"),
    [
        (livekit_stand_in.SECRET, "control API", Verdict.GOOD),
        ("wr0ng" * 8, "credential", Verdict.BAD),
    ],
)
def test_a_stand_in_of_livekit_says_whether_it_takes_the_key(secret, step, verdict):
    async def main():
        async with livekit_stand_in.serving() as server:
            key = livekit_stand_in.KEY
            return await found(LiveKit(url=server.url, api_key=key, api_secret=secret))

    verdicts, words = asyncio.run(main())

    assert verdicts[step] is verdict
    assert "wr0ng" not in words
