"""The example of README.md: a stream survives its provider, which is killed on air."""

import asyncio
import tempfile
from pathlib import Path

from hitless import Backend, LiveStreamingProvider
from hitless.lab.stage import Stage


async def main():
    async with Stage(Path(tempfile.mkdtemp())) as lab:
        async with LiveStreamingProvider(backend=Backend(lab.urls["backend"])) as live:
            async with live.start_stream("morning-show", source="test-picture") as stream:
                await lab.break_(stream.provider, "killed")
                async for news in stream:
                    print(news)  # noqa: T201 -- its whole job
                    if news.name == "failover.succeeded":
                        break


asyncio.run(main())
