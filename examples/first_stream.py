"""The example of README.md: a stream survives its provider, which is killed on air."""

import asyncio

from stand_ins import stand_ins

from hitless import LiveStreamingProvider, Whip


async def main():
    async with stand_ins() as lab:
        whips = [Whip(name, url=url) for name, url in lab.urls.items()]
        async with LiveStreamingProvider(whips) as live:
            async with live.start_stream("morning-show", source="test-picture") as stream:
                await lab.kill(stream.provider)
                async for news in stream:
                    print(news)  # noqa: T201 -- its whole job
                    if news.name == "failover.succeeded":
                        break


asyncio.run(main())
