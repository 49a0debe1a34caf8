"""`Zegocloud`: exactly one publisher of a stream, whoever holds its id."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rtmp_server import until
from unit.providers.zego_console import APP, USER, Lab, run

from hitless.errors import Refused, Retry
from hitless.providers import zego_room
from hitless.providers.credential import Access


def taken(lab: Lab) -> None:
    """Make the node refuse, as if another had the stream."""
    lab.rtmp.status["publish"] = ("error", "NetStream.Publish.BadName", "already publishing")


def test_who_holds_our_stream_is_kicked_out_of_its_room() -> None:
    """In the background: that attempt has failed. Others in the room stay."""

    async def test(lab: Lab) -> None:
        taken(lab)
        lab.console.holders = [("show", "zombie"), ("other", "guest")]
        exc = await lab.fails(lab.zego(), Refused)
        assert exc.retry is Retry.NEXT
        await until(lambda: lab.console.named("KickoutUser"))
        (asked,) = lab.console.named("KickoutUser")
        assert (asked["RoomId"], asked["UserId[]"]) == ("show", "zombie")
        assert lab.console.named("ForbidRTCStream") == []

    run(test)


@pytest.mark.parametrize("holders", [[], [("show", "publisher")]])
def test_one_that_is_in_no_room_is_stopped_by_forbidding_the_stream(
    holders: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment: then the stream may be published again."""
    monkeypatch.setattr(zego_room, "FORBIDDEN_S", 0.1)

    async def test(lab: Lab) -> None:
        taken(lab)
        lab.console.holders = holders
        await lab.fails(lab.zego(), Refused)
        await until(lambda: lab.console.named("ResumeRTCStream"))
        names = [name for name, _ in lab.console.calls if name.endswith("RTCStream")]
        assert names == ["ForbidRTCStream", "ResumeRTCStream"]
        assert lab.console.named("KickoutUser") == []

    run(test)


def test_a_stream_is_never_left_forbidden_by_closing() -> None:
    """It is allowed again on the way out."""

    async def test(lab: Lab) -> None:
        taken(lab)
        provider = lab.zego()
        await lab.fails(provider, Refused)
        await until(lambda: lab.console.named("ForbidRTCStream"))
        await provider.aclose()
        assert len(lab.console.named("ResumeRTCStream")) == 1

    run(test)


@pytest.mark.parametrize("how", ["fenced", "switched off"])
def test_nobody_is_put_out_where_names_carry_the_epoch(how: str) -> None:
    """Nor where that is switched off."""

    async def test(lab: Lab) -> None:
        async def plan(access: Access) -> dict[str, Any]:
            return {
                "app_id": APP,
                "room_id": "show-4",
                "stream_id": "show-4",
                "user_id": USER,
                "token": "t",
                "epoch": 4,
            }

        taken(lab)
        settings = {"credentials": plan} if how == "fenced" else {"removes_older": False}
        await lab.fails(lab.zego(**settings), Refused)
        await asyncio.sleep(0.3)
        assert {name for name, _ in lab.console.calls} == {"RTMPDispatchV2"}
        stream = "show-4" if how == "fenced" else "show"
        assert lab.rtmp.names("publish") == [stream]

    run(test)


def test_a_name_that_is_denied_is_no_matter_of_credentials() -> None:
    """A node's address holds none: a new one would change nothing."""

    async def test(lab: Lab) -> None:
        lab.rtmp.closes_on = "publish"
        exc = await lab.fails(lab.zego(), Refused)
        assert exc.retry is Retry.NEXT
        assert "may have its id" in str(exc)

    run(test)
