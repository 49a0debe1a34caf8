"""The sentences that operators search for, where no drill says them all."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from canned import canned_feed

from hitless import Backend, LiveStreamingProvider, Memory, Policy
from hitless.core.catalogue import CATALOGUE


SENTENCES = {
    "health.monitoring_started": "Health monitoring started for {provider}",
    "health.failed": "Health check failed for {provider}: {because}",
    "failover.started": "Attempting automatic failover",
    "failover.trying": "Trying failover to {provider}",
    "failover.succeeded": "Successfully failed over to {provider}",
    "migration.succeeded": "Stream migrated successfully to {provider}",
}


def test_the_sentences_are_these_to_the_letter():
    """
    They are what dashboards and alerts of years are built on.
    """
    assert SENTENCES == {name: CATALOGUE[name].sentence for name in SENTENCES}


def test_a_health_check_without_an_answer_is_a_connection_timeout(caplog):
    """
    `Health check failed for agora: Connection timeout`, three times, then the failover.
    """

    async def listed(request):
        entries = [
            {"name": name, "isActive": True, "priority": place, "config": {}}
            for place, name in enumerate(("agora", "zegocloud"), start=1)
        ]
        return web.json_response({"success": True, "data": {"providers": entries}})

    async def health(request):
        if request.match_info["name"] == "agora":
            await asyncio.sleep(5)
        told = {"healthy": True, "provider": request.match_info["name"], "status": "active"}
        return web.json_response({"success": True, "data": told})

    async def main():
        app = web.Application()
        app.router.add_get("/streaming/providers", listed)
        app.router.add_get("/streaming/providers/{name}/health", health)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        policy = Policy(health_interval_s=0.2, health_timeout_s=0.1, media_beats_health=False)
        feed = canned_feed()
        backend = Backend(f"http://127.0.0.1:{runner.addresses[0][1]}", timeout_s=0.1)
        try:
            async with LiveStreamingProvider(
                [Memory("agora"), Memory("zegocloud")], backend=backend, policy=policy
            ) as live:
                async with live.start_stream("show", feed) as stream:
                    async with asyncio.timeout(10):
                        async for news in stream:
                            if news.name == "failover.succeeded":
                                break
        finally:
            await feed.aclose()
            await runner.cleanup()

    with caplog.at_level(logging.INFO, "hitless"):
        asyncio.run(main())

    said = [record.getMessage() for record in caplog.records]
    assert 3 == said.count("Health check failed for agora: Connection timeout")
    wanted = [
        "Health monitoring started for agora",
        "Health check failed for agora: Connection timeout",
        "Attempting automatic failover",
        "Trying failover to zegocloud",
        "Successfully failed over to zegocloud",
    ]
    places = [said.index(sentence) for sentence in wanted]
    assert sorted(places) == places
