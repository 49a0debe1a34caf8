"""hitless.client.control: what it says and what it does with what it hears."""

import asyncio

import pytest
from control_server import access, go, leg_news, says_no

from hitless.client import link
from hitless.client.control import UNSAID_MAX
from hitless.core.events import (
    EndRequested,
    LegsReleased,
    PlacementTold,
    RescueTold,
    Role,
    StreamOver,
)
from hitless.core.state import Phase


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Reconnect at once: how long the pauses are is asked of the link."""
    monkeypatch.setattr(link, "RETRY_S_MAX", 0.02)


# --- What we say ---


def test_claims_confirmations_legs_and_the_end_are_said_in_their_order():
    async def test(server, client):
        await client.publishes(server)
        client.control.confirm("s", 1, "agora")
        client.control.told(leg_news("leg.silent"))
        client.control.told(leg_news("leg.silent", role=Role.VIEWER))  # not ours
        client.control.told(leg_news("provider.failed"))  # no news of a leg
        client.control.claim("s", 1, "webrtc", "agora is silent")
        client.control.finish("s", "the show is over")
        client.control.finish("s", "twice")
        client.control.claim("s", 1, "webrtc", "too late")
        client.control.confirm("s", 1, "webrtc")
        await client.control.aclose()
        return [server.said.get_nowait() for _ in range(server.said.qsize())]

    about = {"stream": "show"}

    assert go(test) == [
        {"type": "confirm", "epoch": 1, "provider": "agora", **about},
        {
            "type": "leg",
            "provider": "agora",
            "state": "silent",
            "leg": 1,
            "because": "it did",
            **about,
        },
        {
            "type": "claim",
            "base": 1,
            "provider": "webrtc",
            "because": "agora is silent",
            **about,
        },
        {"type": "finish", "because": "the show is over", **about},
    ]


def test_what_stood_when_the_link_was_lost_is_said_anew():
    """The stream as it is, and its claim: the first one may never have arrived."""

    async def test(server, client):
        await client.publishes(server)
        client.stands(on="webrtc", placed="agora", epoch=3, alone="webrtc", because="silent")
        await server.drop()
        seen, claim = await server.greeted(), await server.heard("claim")
        client.stands(on="webrtc", epoch=4)
        await server.drop()
        confirm = await server.heard("confirm")
        return seen, claim, confirm, [news.name for news in client.news]

    seen, claim, confirm, news = go(test)

    assert (seen["epoch"], seen["provider"], seen["plan"]) == (3, "webrtc", "signed")
    assert (claim["base"], claim["provider"], claim["because"]) == (3, "webrtc", "silent")
    assert (confirm["epoch"], confirm["provider"]) == (4, "webrtc")
    assert news[:3] == ["control.connected", "control.lost", "control.connected"]


def test_an_overdue_claim_is_said_again_with_each_report():
    async def test(server, client):
        server.report_s, client.age_s = 0.1, 0.25
        await client.publishes(server)
        client.stands(on="webrtc", placed="agora", epoch=3, alone="webrtc", because="silent")
        first, report, second = [await server.heard(kind) for kind in ("claim", "report", "claim")]
        client.stands(on="webrtc", epoch=4)
        client.control.confirm("s", 4, "webrtc")
        await server.heard("confirm")
        return first, second, report, [await server.said.get() for _ in range(2)]

    first, second, report, later = go(test)

    assert first == second
    assert (first["base"], first["provider"]) == (3, "webrtc")
    assert (report["stream"], report["mediaAge"]) == ("show", 0.25)
    assert [one["type"] for one in later] == ["report", "report"]


def test_an_end_that_nobody_heard_is_told_once_when_the_server_is_back():
    async def test(server, client):
        await client.publishes(server)
        server.is_away = True
        await server.drop()
        await client.lost.wait()
        client.control.finish("s", "it is over")
        server.is_away = False
        seen = await server.greeted()
        finish = await server.heard("finish")
        await server.drop()
        again = await server.heard("hello")
        return seen["role"], finish, again, server.said.qsize()

    role, finish, again, more = go(test)

    assert role == "publisher"
    assert finish == {"type": "finish", "stream": "show", "because": "it is over"}
    assert (again, more) == ({"type": "hello", "client": "studio"}, 0)


def test_so_many_ends_are_kept_for_a_server_that_is_away_and_the_oldest_go_first():
    async def test(server, client):
        server.is_away = True
        for n in range(UNSAID_MAX + 2):
            await client.control.begin(f"s{n}", f"show{n}", Role.PUBLISHER)
            client.control.finish(f"s{n}", "it is over")
        server.is_away = False
        told = [(await server.heard("finish"))["stream"] for _ in range(UNSAID_MAX)]
        return told, server.said.qsize()

    assert go(test) == ([f"show{n}" for n in range(2, UNSAID_MAX + 2)], 0)


def test_a_client_that_goes_on_watching_what_it_published_says_so():
    async def test(server, client):
        await client.publishes(server)
        await client.control.begin("v", "show", Role.VIEWER)
        client.control.finish("s", "it is over")
        finish = await server.heard("finish")
        return finish["stream"], (await server.greeted())["role"]

    assert go(test) == ("show", "viewer")


def test_the_last_of_two_viewers_says_that_they_left():
    async def test(server, client):
        await client.watches(server, "one")
        await client.control.begin("two", "show", Role.VIEWER)
        client.control.finish("one", "the first left")
        client.control.finish("two", "the last left")
        return (await server.heard("finish"))["because"]

    assert go(test) == "the last left"


def test_a_stream_that_began_without_a_plan_gets_one_when_the_server_is_back():
    async def test(server, client):
        server.report_s = 0.1
        server.answers = [says_no(503), says_no(503)]
        assert await client.control.begin("s", "show", Role.PUBLISHER) is None
        client.stands(on="webrtc", epoch=0)
        told = await client.posted.get()
        return told, (await client.control.credential(access()))["token"], server.asked[-1][2]

    told, token, body = go(test)

    assert (told.session, told.epoch, told.provider, token) == ("s", 1, "agora", "t1")
    assert body["provider"] == "webrtc"


def test_a_stream_on_air_that_is_refused_a_plan_stays_on_air_and_asks_no_more():
    async def test(server, client):
        server.report_s, client.age_s = 0.1, 0.0
        server.answers = [says_no(503), says_no(429), says_no(429), says_no(429)]
        assert await client.control.begin("s", "show", Role.PUBLISHER) is None
        client.stands(on="webrtc", epoch=0)
        for _ in range(4):
            await server.heard("report")
        return len(server.asked), client.posted.qsize()

    assert go(test) == (2, 0)


def test_a_stream_that_the_server_does_not_know_is_started_again_once_a_connection():
    async def test(server, client):
        await client.publishes(server)
        asked = []
        for _ in range(2):
            for _ in range(3):
                await server.say("problem", code="unknown-stream", message="which one?")
                await server.say("release", epoch=1)
            while not isinstance(await client.posted.get(), PlacementTold):
                pass
            await server.say("problem", code="unknown-stream", message="which one?")
            await server.say("release", epoch=99)
            while await client.posted.get() != LegsReleased(session="s", epoch=99):
                pass
            asked.append(len(server.asked))
            await server.drop()
            await server.greeted()
        return asked, client.posted.qsize()

    assert go(test) == ([2, 3], 0)


# --- What we hear ---


def test_placements_releases_and_rescues_reach_the_session_and_no_other():
    async def test(server, client):
        await client.publishes(server)
        await server.socket.send_json({"type": "release", "stream": "other", "epoch": 9})
        await server.say("placement", epoch=2, provider="webrtc", because="load", is_own=True)
        await server.say("release", epoch=2)
        await server.say("rescue", provider="zegocloud", because="cut off")
        await server.say("rescue")
        return [await client.posted.get() for _ in range(4)]

    assert go(test) == [
        PlacementTold(session="s", epoch=2, provider="webrtc", because="load", is_own=True),
        LegsReleased(session="s", epoch=2),
        RescueTold(session="s", provider="zegocloud", because="cut off"),
        RescueTold(session="s", provider=None, because=""),
    ]


@pytest.mark.parametrize(("epoch", "ends"), [(0, True), (2, False), (3, True), (4, True)])
def test_a_publisher_is_ended_by_what_is_as_new_as_it_obeyed_and_by_nothing_older(epoch, ends):
    """It has obeyed epoch 3: a fence of 2 was meant for the one before it."""

    async def test(server, client):
        await client.publishes(server, epoch=3)
        await server.say("over", epoch=epoch, because="another publishes it")
        await server.say("release", epoch=3)
        return await client.posted.get()

    over = EndRequested(session="s", because="another publishes it")

    assert go(test) == (over if ends else LegsReleased(session="s", epoch=3))


@pytest.mark.parametrize(
    ("phase", "obeyed", "epoch", "ends"),
    [
        (Phase.WAITING, 0, 2, False),
        (Phase.STARTING, 0, 2, False),
        (Phase.WAITING, 0, 0, True),
        (Phase.WAITING, 2, 2, True),
        (Phase.ON_AIR, 0, 2, True),
        (Phase.RECOVERING, 0, 2, True),
    ],
)
def test_who_waits_for_the_next_stream_goes_on_waiting(phase, obeyed, epoch, ends):
    async def test(server, client):
        on = "agora" if phase is Phase.ON_AIR else None
        await client.watches(server, on=on, placed="agora", epoch=obeyed, phase=phase)
        await server.say("over", epoch=epoch, because="it has ended")
        await server.say("release", epoch=3)
        return await client.posted.get()

    over = StreamOver(session="v", because="it has ended")

    assert go(test) == (over if ends else LegsReleased(session="v", epoch=3))


def test_a_viewer_with_media_moves_when_its_time_has_come():
    async def test(server, client):
        await client.watches(server)
        clock = asyncio.get_running_loop().time
        begun_s = clock()
        await server.say("placement", epoch=2, provider="webrtc", delay_s=0.15)
        await server.say("placement", epoch=2, provider="webrtc", delay_s=60.0)  # said twice
        told = await client.posted.get()
        return told, clock() - begun_s, client.posted.qsize()

    told, after_s, more = go(test)

    assert (told.epoch, told.provider, more) == (2, "webrtc", 0)
    assert after_s >= 0.14


def test_a_viewer_without_media_moves_at_once():
    async def test(server, client):
        await client.watches(server, on=None, phase=Phase.WAITING)
        await server.say("placement", epoch=2, provider="webrtc", delay_s=3600.0)
        return (await client.posted.get()).epoch

    assert go(test) == 2


def test_a_viewer_that_loses_its_media_waits_no_longer():
    async def test(server, client):
        await client.watches(server)
        await server.say("placement", epoch=2, provider="webrtc", delay_s=3600.0)
        await server.say("release", epoch=1)
        await client.posted.get()
        client.control.told(leg_news("leg.silent", role=Role.VIEWER))
        assert client.posted.empty()  # another leg carries it
        client.stands("v", role=Role.VIEWER, phase=Phase.RECOVERING)
        client.control.told(leg_news("leg.failed", role=Role.VIEWER))
        client.control.told(leg_news("leg.failed", role=Role.VIEWER))
        return [client.posted.get_nowait() for _ in range(client.posted.qsize())]

    assert [(told.epoch, told.provider) for told in go(test)] == [(2, "webrtc")]


def test_a_newer_placement_takes_the_place_of_one_that_waits():
    async def test(server, client):
        await client.watches(server)
        await server.say("placement", epoch=3, provider="webrtc", delay_s=3600.0)
        await server.say("placement", epoch=2, provider="zegocloud")  # late
        await server.say("placement", epoch=4, provider="agora")
        await server.say("placement", epoch=5, provider="webrtc", delay_s=3600.0)
        await server.say("release", epoch=1)
        return [await client.posted.get() for _ in range(2)]

    told, then = go(test)

    assert (told.epoch, told.provider) == (4, "agora")
    assert then == LegsReleased(session="v", epoch=1)


def test_a_session_that_is_over_hears_nothing_any_more():
    async def test(server, client):
        await client.watches(server)
        await client.publishes(server)
        await server.say("placement", epoch=2, provider="webrtc", delay_s=0.05)
        await server.say("release", epoch=1)
        await client.posted.get()
        client.control.finish("v", "left")
        client.control.finish("s", "over")
        await server.say("release", epoch=2)
        await asyncio.sleep(0.1)
        return [client.posted.get_nowait() for _ in range(client.posted.qsize())]

    assert [one for one in go(test) if isinstance(one, PlacementTold)] == []
