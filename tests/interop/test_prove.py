"""`hitless prove` against real servers, and against one in the place of a company's ingest"""

import asyncio
import json
import os
import sys

import pytest
from interop import janus, nginx_rtmp


LIMIT_S = 150.0
AGORA = """\
[[provider]]
name = "it"
adapter = "agora"
app_id = "970CA35de60c44645bbae8a215061b33"
stream_key_env = "MADE_IN_THE_CONSOLE"
ingest_hosts = ["127.0.0.1:{port}"]
"""
JANUS = '[[provider]]\nname = "it"\nadapter = "janus"\nurl = "{url}"\n'
KEY = "key-made-in-the-console"


async def proven(folder, config):
    """Return what the command says of the provider, as JSON, and its exit status."""
    (folder / "hitless.toml").write_text(config)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hitless", "prove", "it", "--server", "a server", "--json"),
        cwd=folder,
        env={**os.environ, "MADE_IN_THE_CONSOLE": KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert KEY.encode() not in out + err
    return json.loads(out), process.returncode


@pytest.mark.skipif(nginx_rtmp.module() is None, reason=nginx_rtmp.WHY_SKIPPED)
def test_agora_s_ingest_is_proven_though_nothing_can_be_watched_from_here(tmp_path):
    """
    The record says that viewers were not tried. Its ingest is an nginx-rtmp.
    """
    with nginx_rtmp.NginxRtmp() as server:
        said, status = asyncio.run(proven(tmp_path, AGORA.format(port=server.port)))

    assert 0 == status, said
    what = said["record"]["what"]
    assert "6 of 12 rules kept, 6 about viewers not tried" in what
    assert "it cannot be watched from here" in what
    assert "a second one is not let in while the first is there" in what


@pytest.mark.skipif(bool(janus.why_not()), reason=janus.why_not() or "there")
def test_janus_is_proven_and_puts_out_the_older_of_two_publishers(tmp_path):
    """
    The whole list, with a self-view and viewers.
    """

    async def main():
        async with janus.running(tmp_path / "janus") as server:
            return await proven(tmp_path, JANUS.format(url=server.url))

    (tmp_path / "janus").mkdir()
    said, status = asyncio.run(main())

    assert 0 == status, said
    what = said["record"]["what"]
    assert what.startswith("12 of 12 rules kept; published within")
    assert "the second put the first out" in what
    assert "a publisher left within" in what
