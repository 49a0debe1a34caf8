"""`Zegocloud`: RTMP at nodes that a stand-in of its server API names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rtmp_server import until
from rtmp_source import Source
from unit.providers.account_runs import CLOSED_S, LIMIT_S, now, unused_port
from unit.providers.zego_console import APP, SECRET, Lab, assert_untold, run

from hitless.errors import (
    ConfigError,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    NotOnAir,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.feed import Feed
from hitless.providers import zego_room, zegocloud
from hitless.providers.base import Leg, Provider, ViewLeg
from hitless.providers.checkup import Checkable
from hitless.providers.conformance import check_provider
from hitless.providers.zegocloud import Zegocloud


# --- What it accepts ---


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"app_id": 0}, "app_id"),
        ({"app_id": "12"}, "app_id"),
        ({"server_secret": "short"}, "server_secret"),
        ({"stream_name": "show"}, "stream_name"),
        ({"stream_name": "a/{stream}"}, "letters, digits"),
        ({"user": ""}, "user"),
        ({"region": "mars"}, "sha, hkg"),
        ({"ingest": "srt"}, "rtmp or whip"),
        ({"bearer": "none"}, "signed or token04"),
        ({"ingest": "whip", "bearer": "token04"}, "whip_url"),
        ({"whep_url": "ftp://a/b"}, "whep_url must begin"),
        ({"api_url": "http://api.example.com"}, "https"),
        ({"name": "My ZEGO"}, "name"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings: dict[str, Any], names: str) -> None:
    """One line that says which setting and why; never a secret."""
    with pytest.raises(ConfigError, match=names) as caught:
        Zegocloud(**{"app_id": APP, "server_secret": SECRET, **settings})
    assert_untold(caught.value)


def test_it_is_a_provider_that_can_be_examined() -> None:
    """With the optional attributes, which depend on the path; no secret in its repr."""
    rtmp = Zegocloud(app_id=APP, server_secret=SECRET)
    whip = Zegocloud(app_id=APP, server_secret=SECRET, ingest="whip")
    assert isinstance(rtmp, Provider)
    assert isinstance(rtmp, Checkable)
    assert (rtmp.name, rtmp.fault_domain) == ("zegocloud", "zegocloud")
    assert (rtmp.first_media_s, whip.first_media_s) == (10.0, 3.0)
    assert SECRET not in repr(rtmp) + repr(vars(rtmp.tickets))


def test_it_says_where_it_connects_to() -> None:
    """A node for RTMP is known only when it is asked for."""
    assert Zegocloud(app_id=APP).endpoints() == ()
    rtmp = Zegocloud(app_id=APP, server_secret=SECRET, region="fra")
    assert rtmp.endpoints() == ("https://rtc-api-fra.zego.im",)
    whip = Zegocloud(app_id=APP, server_secret=SECRET, ingest="whip")
    api, where = whip.endpoints()
    assert api == "https://rtc-api.zego.im"
    assert where == f"https://i-whip{APP}.whip.zegotech.cn/whip/v1/{APP}/stream"


# --- RTMP ---


def test_a_stream_is_pushed_to_a_node_that_is_asked_for_each_time() -> None:
    """A node is good for two hours; its address holds no credential that could end."""

    async def test(lab: Lab) -> None:
        provider = lab.zego(stream_name="tv-{stream}")
        for _ in range(2):
            leg = await provider.start_stream("show", lab.feed)
            assert isinstance(leg, Leg)
            await leg.aclose()
        assert lab.rtmp.names("publish") == ["tv-show", "tv-show"]
        asked = lab.console.named("RTMPDispatchV2")
        assert [(each["StreamId"], each["Type"]) for each in asked] == [("tv-show", "push")] * 2
        assert int(asked[1]["Sequence"]) > int(asked[0]["Sequence"])

    run(test)


def test_a_stream_is_announced_to_its_room_and_withdrawn() -> None:
    """The SDKs' clients learn of it by nothing else."""

    async def test(lab: Lab) -> None:
        leg = await lab.zego(user="camera").start_stream("show", lab.feed)
        await until(lambda: lab.console.named("AddStream"))
        await asyncio.sleep(0.1)
        assert lab.console.named("DeleteStream") == []
        await leg.aclose()
        await until(lambda: lab.console.named("DeleteStream"))
        for action in ("AddStream", "DeleteStream"):
            (asked,) = lab.console.named(action)
            assert (asked["RoomId"], asked["UserId"], asked["StreamId"]) == (
                "show",
                "camera",
                "show",
            )

    run(test)


def test_closing_the_provider_withdraws_what_is_announced() -> None:
    """Once, although the leg closes with it."""

    async def test(lab: Lab) -> None:
        provider = lab.zego()
        await provider.start_stream("show", lab.feed)
        await until(lambda: lab.console.named("AddStream"))
        await asyncio.sleep(0.1)
        await provider.aclose()
        assert len(lab.console.named("DeleteStream")) == 1
        await until(lambda: not lab.rtmp.publishers)

    run(test)


def test_a_room_that_is_not_there_yet_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room exists while somebody is in it; the stream is on air meanwhile."""
    monkeypatch.setattr(zego_room, "AGAIN_S", 0.3)

    async def test(lab: Lab) -> None:
        lab.console.codes["AddStream"] = 104
        leg = await lab.zego().start_stream("show", lab.feed)
        await until(lambda: len(lab.console.named("AddStream")) >= 2)
        del lab.console.codes["AddStream"]
        before = len(lab.console.named("AddStream"))
        await until(lambda: len(lab.console.named("AddStream")) > before)
        after = len(lab.console.named("AddStream"))
        await asyncio.sleep(1.5)
        assert len(lab.console.named("AddStream")) == after
        await leg.aclose()

    run(test)


def test_an_announcement_ends_with_its_leg() -> None:
    """Nobody is told of a stream that is gone."""

    async def test(lab: Lab) -> None:
        lab.console.codes["AddStream"] = 104
        leg = await lab.zego().start_stream("show", lab.feed)
        await until(lambda: lab.console.named("AddStream"))
        await leg.aclose()
        count = len(lab.console.named("AddStream"))
        await asyncio.sleep(1.5)
        assert len(lab.console.named("AddStream")) == count
        assert lab.console.named("DeleteStream") == []

    run(test)


def test_a_stream_is_viewed_over_rtmp() -> None:
    """With the frames as they were sent, and no call besides the one for a node."""

    async def test(lab: Lab) -> None:
        provider = lab.zego()
        await provider.start_stream("show", lab.feed)
        view = await provider.join_stream("show")
        assert isinstance(view, ViewLeg)
        frames = []
        async with asyncio.timeout(LIMIT_S):
            async for frame in view.frames():
                frames.append(frame)
                if len(frames) == 60:
                    break
        assert all(lab.feed.is_own(frame.data) for frame in frames)
        types = [each["Type"] for each in lab.console.named("RTMPDispatchV2")]
        assert types == ["push", "pull"]

    run(test)


def test_it_keeps_the_contract_by_rtmp() -> None:
    """The public suite, against stand-ins of the server API and of a node."""

    async def test(lab: Lab) -> None:
        async def make() -> Zegocloud:
            return lab.zego()

        async def feed() -> Feed:
            return Source().feed

        report = await check_provider(make, feed=feed)
        report.require()

    run(test)


def test_many_viewers_that_wait_ask_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are limited; each of them is told when to ask again."""
    monkeypatch.setattr(zegocloud, "ASK_S", 5.0)

    async def test(lab: Lab) -> None:
        provider = lab.zego()
        for _ in range(20):
            with pytest.raises(NotOnAir):
                await provider.join_stream("show")
        assert len(lab.console.named("RTMPDispatchV2")) == 1
        with pytest.raises(NotOnAir) as caught:
            await provider.join_stream("show")
        assert caught.value.retry_after_s == 5.0

    run(test)


@pytest.mark.parametrize(
    ("state", "kind"), [(41004, NotOnAir), (41006, NotOnAir), (0, Refused), (5000, Refused)]
)
def test_no_node_to_play_from_may_mean_that_nobody_publishes(
    state: int, kind: type[HitlessError]
) -> None:
    """Only the state of the stream tells; where that is not known, it was refused."""

    async def test(lab: Lab) -> None:
        lab.console.codes = {"RTMPDispatchV2": 1003, "DescribeRTCStreamState": state}
        with pytest.raises(kind) as caught:
            await lab.zego().join_stream("show")
        assert_untold(caught.value)

    run(test)


def test_a_node_that_is_away_is_left_for_the_next_attempt() -> None:
    """One attempt asks one node: the only retry loop is the core's."""

    async def test(lab: Lab) -> None:
        lab.console.nodes.insert(0, f"rtmp://127.0.0.1:{unused_port()}/{APP}/{{stream}}")
        provider = lab.zego()
        exc = await lab.fails(provider, Unreachable)
        assert exc.retry is Retry.SAME
        await provider.start_stream("show", lab.feed)
        assert lab.rtmp.names("publish") == ["show"]

    run(test)


@pytest.mark.parametrize("is_active", [True, False])
def test_where_only_the_kernel_speaks_the_stream_must_be_active(is_active: bool) -> None:
    """A node that answers no ping and counts no bytes proves nothing by itself."""

    async def test(lab: Lab) -> None:
        lab.rtmp.pongs = lab.rtmp.acknowledges = False
        lab.console.codes = {} if is_active else {"DescribeRTCStreamState": 41004}
        provider = lab.zego(first_media_s=6.0)
        if is_active:
            await provider.start_stream("show", lab.feed)
        else:
            exc = await lab.fails(provider, MediaLost)
            assert "knows no such stream" in str(exc)
            await until(lambda: not lab.rtmp.publishers)
        assert lab.console.named("DescribeRTCStreamState")

    run(test)


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (100000017, Refused, "support enables it"),
        (100000004, CredentialsRejected, "clock"),
        (1010, Refused, "too many calls"),
        (1002, Refused, "no node to publish to"),
    ],
)
def test_a_code_in_an_answer_of_200_is_an_error_with_advice(
    code: int, kind: type[HitlessError], says: str
) -> None:
    """Nothing was pushed, and nobody is put out for it."""

    async def test(lab: Lab) -> None:
        lab.console.codes["RTMPDispatchV2"] = code
        exc = await lab.fails(lab.zego(), kind)
        assert says in str(exc)
        assert exc.retry is Retry.NEXT
        assert lab.rtmp.seen == []
        await asyncio.sleep(0.2)
        assert [name for name, _ in lab.console.calls] == ["RTMPDispatchV2"]

    run(test)


def test_without_a_secret_it_says_what_to_give() -> None:
    """A plan brings no way to call the server API."""

    async def test(lab: Lab) -> None:
        provider = lab.zego(server_secret=None)
        exc = await lab.fails(provider, ConfigError)
        assert "server_secret" in str(exc)
        with pytest.raises(ConfigError, match="whep_url"):
            await provider.join_stream("show")

    run(test)


# --- Leaving ---


def test_an_api_that_hangs_does_not_hold_back_closing() -> None:
    """What is not withdrawn goes with its room."""

    async def test(lab: Lab) -> None:
        provider = lab.zego()
        await provider.start_stream("show", lab.feed)
        await until(lambda: lab.console.named("AddStream"))
        await asyncio.sleep(0.1)
        lab.console.hangs = {"DeleteStream", "AddStream"}
        begun = now()
        await provider.aclose()
        await provider.aclose()
        assert now() - begun < CLOSED_S

    run(test)
