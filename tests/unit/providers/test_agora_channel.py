"""`Agora`: exactly one publisher in a channel, and the channel and token that a plan says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rtmp_server import until
from unit.providers.agora_console import APP, Lab, run

from hitless.core.events import Role
from hitless.errors import ConfigError, CredentialsRejected, Refused, Retry
from hitless.providers.credential import Access


OTHER_APP = "00000000000000000000000000000000"


# --- Exactly one publisher ---


def test_older_publishers_are_kicked_when_ours_is_proven() -> None:
    """Once each, so they may come back; neither guests, nor ourselves, nor who came later."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [1, 7, 70_000]
        provider = lab.agora()
        await provider.start_stream("show", lab.feed)
        lab.console.hosts = [1, 7, 8, 70_000]
        await until(lambda: lab.console.named("POST ban"))
        await asyncio.sleep(0.3)  # for what must not follow
        ((_, _, rule),) = lab.console.named("POST ban")
        assert rule == {
            "appid": APP,
            "cname": "show",
            "uid": 7,
            "time_in_seconds": 0,
            "privileges": ["join_channel"],
        }
        assert len(lab.console.named("GET hosts")) == 2

    run(test)


def test_nobody_is_kicked_by_a_start_that_failed() -> None:
    """The older publisher is all that there is."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [7]
        lab.rtmp.status["publish"] = ("error", "NetStream.Publish.BadName", "rejected")
        await lab.fails(lab.agora(), Refused)
        await asyncio.sleep(0.3)
        assert lab.console.named("POST ban") == []

    run(test)


@pytest.mark.parametrize("is_fenced", [True, False])
def test_a_channel_that_carries_the_epoch_needs_no_kick(is_fenced: bool) -> None:
    """Who published under the last one is somewhere else; a fleet's move costs no such calls."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [7]

        async def plan(access: Access) -> dict[str, Any]:
            fence = {"epoch": 4} if is_fenced else {}
            return {"app_id": APP, "channel": "show-4", "uid": 12, "token": "t", **fence}

        await lab.agora(credentials=plan).start_stream("show", lab.feed)
        ((_, _, body),) = lab.console.named("POST streamkeys")
        assert body["settings"]["channel"] == "show-4"
        assert body["settings"]["uid"] == "12"
        await asyncio.sleep(0.3)
        assert bool(lab.console.named("GET hosts")) is not is_fenced

    run(test)


def test_nobody_is_kicked_where_that_is_switched_off() -> None:
    """For channels with several hosts of the same kind."""

    async def test(lab: Lab) -> None:
        lab.console.hosts = [7]
        await lab.agora(removes_older=False).start_stream("show", lab.feed)
        await asyncio.sleep(0.3)
        assert lab.console.named("GET hosts") == []

    run(test)


# --- Plans ---


def test_a_plan_for_another_project_is_no_plan() -> None:
    """Its channel would be somewhere else."""

    async def test(lab: Lab) -> None:
        async def plan(access: Access) -> dict[str, Any]:
            return {"app_id": OTHER_APP, "channel": "show", "uid": 1, "token": "t"}

        exc = await lab.fails(lab.agora(credentials=plan), CredentialsRejected)
        assert exc.retry is Retry.NEXT
        assert "App ID" in str(exc)
        assert lab.console.calls == []

    run(test)


def test_a_stream_that_cannot_be_a_channel_is_refused_by_name() -> None:
    """64 bytes of Agora's characters."""

    async def test(lab: Lab) -> None:
        provider = lab.agora()
        for stream in ("x" * 65, "späti", "a/b"):
            with pytest.raises(ConfigError, match="channel"):
                await provider.start_stream(stream, lab.feed)
        assert lab.console.calls == []

    run(test)


@pytest.mark.parametrize("token", ["", "t", "007", "007eJw=", "007" + "x" * 40, "ü"])
def test_a_token_that_cannot_be_read_has_no_known_end(token: str) -> None:
    """It may be of another kind: the servers judge it."""

    async def test(lab: Lab) -> None:
        async def plan(access: Access) -> dict[str, Any]:
            return {"app_id": APP, "channel": "show", "uid": 1, "token": token}

        access = Access(provider="agora", stream="show", role=Role.VIEWER)
        ticket = await lab.agora(credentials=plan).tickets.ticket(access)
        assert ticket.ends_s is None

    run(test)
