"""hitless.lab.zego_desk: the server API of the stand-in, by the documents and by our client."""

import asyncio
import json

import pytest
from speaking_stand import ZEGO, closed, play, unhurried, until, zego_bearer
from zego_calls import NONCES, VIEWER, asking, call, client, code, signed

from hitless.errors import CredentialsRejected, Refused
from hitless.providers.zego_api import StreamState
from hitless.providers.zego_rest import signature


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    unhurried(monkeypatch)


# --- Signatures ---


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"AppId": "x"}, 100000001),
        ({"AppId": None}, 100000001),
        ({"AppId": "1"}, 100000011),
        ({"Timestamp": None}, 100000002),
        ({"Timestamp": "soon"}, 100000003),
        ({"Timestamp": str(1_700_000_000 - 601)}, 100000004),
        ({"Timestamp": str(1_700_000_000 + 601)}, 100000004),
        ({"Signature": "0" * 32}, 100000005),
        ({"Signature": "\N{SNOWMAN}"}, 100000005),
        ({"Timestamp": str(1_700_000_000 - 1)}, 100000005),
        ({"Action": ""}, 100000006),
        ({"Action": "StartMix"}, 100000007),
        ({"SignatureNonce": None}, 100000008),
        ({"Signature": None}, 100000009),
        ({"SignatureVersion": None}, 100000013),
        ({"SignatureVersion": "1.0"}, 100000014),
    ],
)
def test_a_call_that_is_not_signed_gets_the_documented_code(change, expected):
    """In an answer of HTTP 200."""

    async def scenario(world):
        query = {name: value for name, value in change.items() if name != "Action"}
        action = change.get("Action", "DescribeUserNum")
        assert await code(world, action, ("RoomId[]", "a"), **query) == expected

    play(ZEGO, scenario)


def test_a_signature_is_good_for_ten_minutes_and_once():
    """A call that was seen cannot be made again."""

    async def scenario(world):
        room, stamp = ("RoomId[]", "a"), int(world.wall())
        seen = signed(world, "DescribeUserNum")
        assert (await world.call("GET", "/", params=[*seen.items(), room]))[1]["Code"] == 0
        told = await world.call("GET", "/", params=[*seen.items(), room])
        assert (told[0], told[1]["Code"]) == (200, 100000005)
        for late_s in (-600, 600):
            nonce = next(NONCES)
            signs = signature(ZEGO.app_id, nonce, ZEGO.server_secret, stamp + late_s)
            change = {"nonce": nonce, "Timestamp": str(stamp + late_s), "Signature": signs}
            assert await code(world, "DescribeUserNum", room, **change) == 0

    play(ZEGO, scenario)


def test_the_client_reads_a_refusal():
    """A wrong secret is a rejected credential."""

    async def scenario(world):
        api = client(world, server_secret="x" * 32)
        try:
            with pytest.raises(CredentialsRejected, match="100000005"):
                await api.user_counts(["a"])
        finally:
            await api.aclose()

    play(ZEGO, scenario)


# --- Rooms ---


def test_the_client_sees_who_is_in_a_room_and_what_is_published():
    """From the sessions that are really there."""

    async def scenario(world, api):
        assert await api.user_counts(["room", "other"]) == {"room": 0, "other": 0}
        assert await api.stream_state("s") is StreamState.UNKNOWN
        assert await api.streams("other") == ()
        published = await world.publish(zego_bearer())
        await world.view(VIEWER)
        assert await api.user_counts(["room", "other"]) == {"room": 2, "other": 0}
        (stream,) = await api.streams("room")
        assert (stream.stream, stream.user) == ("s", "u-7")
        assert abs(stream.created_s - world.wall()) < 60
        assert await api.stream_state("s") is StreamState.ACTIVE
        await published.pc.close()
        await until(lambda: world.stand.sessions.all == [])
        assert await api.stream_state("s") is StreamState.UNKNOWN

    asking(scenario)


def test_answers_have_the_documented_shapes():
    """Field by field."""

    async def scenario(world):
        await world.publish(zego_bearer())
        await world.view(VIEWER)
        told = await call(world, "DescribeUserNum", ("RoomId[]", "room"), ("RoomId[]", "x"))
        assert told["Message"] == "success"
        assert told["Data"] == {
            "UserCountList": [
                {"RoomId": "room", "UserCount": 2, "AdminUserCount": 0},
                {"RoomId": "x", "UserCount": 0, "AdminUserCount": 0},
            ]
        }
        told = await call(world, "DescribeSimpleStreamList", ("RoomId", "room"))
        (stream,) = told["Data"]["StreamList"]
        assert isinstance(stream.pop("CreateTime"), int)
        assert stream == {
            "StreamId": "s",
            "UserId": "u-7",
            "UserName": "u-7",
            "StreamNumberId": 1,
        }
        told = await call(world, "DescribeRTCStreamState", ("StreamId", "s"), ("Sequence", "1"))
        assert told["Data"].keys() == {"create_time", "close_time"}
        assert told["Data"]["close_time"] == ""
        told = await call(world, "KickoutUser", ("RoomId", "room"), ("UserId[]", "v"))
        assert told.keys() == {"Code", "Message", "RequestId"}

    play(ZEGO, scenario)


def test_users_are_listed_page_by_page():
    """In order of coming or backwards; an unknown room is empty."""

    async def scenario(world):
        await world.publish(zego_bearer())
        await world.view(VIEWER)

        async def users(*arguments):
            told = await call(world, "DescribeUserList", ("RoomId", "room"), *arguments)
            world.stand._desk._rates._calls.clear()  # one a second, which is tested elsewhere
            if told["Code"]:
                return told["Code"]
            return [user["UserId"] for user in told["Data"]["UserList"]], told["Data"]["Marker"]

        assert await users() == (["u-7", "v"], "")
        assert await users(("Mode", "1")) == (["v", "u-7"], "")
        assert await users(("Limit", "1")) == (["u-7"], "1")
        assert await users(("Limit", "1"), ("Marker", "1")) == (["v"], "")
        for bad in (("Limit", "201"), ("Mode", "2"), ("Marker", "x")):
            assert await users(bad) == 2
        told = await call(world, "DescribeUserList", ("RoomId", "x"))
        assert told["Data"] == {"Marker": "", "UserList": []}

    play(ZEGO, scenario)


@pytest.mark.parametrize(
    ("action", "arguments", "expected"),
    [
        ("DescribeUserNum", [], 2),
        ("DescribeUserNum", [("RoomId[]", str(number)) for number in range(11)], 2),
        ("DescribeSimpleStreamList", [], 2),
        ("KickoutUser", [("RoomId", "none"), ("UserId[]", "u-7")], 50001),
        ("KickoutUser", [("RoomId", "room"), ("UserId[]", "none")], 50003),
        ("KickoutUser", [("RoomId", "room")], 2),
        (
            "KickoutUser",
            [("RoomId", "room"), *(("UserId[]", str(number)) for number in range(6))],
            50011,
        ),
        ("CloseRoom", [("RoomId", "none")], 5024),
        ("AddStream", [("RoomId", "none"), ("UserId", "a"), ("StreamId", "x")], 104),
        ("AddStream", [("RoomId", "room"), ("UserId", "a"), ("StreamId", "s")], 1012),
        ("DeleteStream", [("RoomId", "room"), ("UserId", "a"), ("StreamId", "x")], 138),
        ("DescribeRTCStreamState", [("StreamId", "none"), ("Sequence", "1")], 41004),
        ("DescribeRTCStreamState", [("StreamId", "s")], 2),
        ("ForbidRTCStream", [("StreamId", "bad name"), ("Sequence", "1")], 30009),
        ("RTMPDispatchV2", [("StreamId", "s"), ("Sequence", "1"), ("Type", "both")], 2),
    ],
)
def test_what_cannot_be_done_has_the_documented_code(action, arguments, expected):
    """And ends nobody's session."""

    async def scenario(world):
        published = await world.publish(zego_bearer())
        assert await code(world, action, *arguments) == expected
        assert published.pc.connectionState == "connected"

    play(ZEGO, scenario)


def test_the_client_kicks_a_user_out_who_may_come_back():
    """The session really ends, and its viewers go with it; gone already is fine."""

    async def scenario(world, api):
        published = await world.publish(zego_bearer())
        watching = await world.view(VIEWER)
        await api.kick_out("room", ["u-7"])
        await until(closed(published))
        await until(closed(watching))
        await api.kick_out("room", ["u-7"])
        await world.publish(zego_bearer())

    asking(scenario)


def test_a_forbidden_stream_ends_and_stays_away_until_it_is_resumed():
    """Publishers get 1003025, viewers 1004025."""

    async def scenario(world, api):
        published = await world.publish(zego_bearer())
        await api.forbid_stream("s")
        await until(closed(published))
        for path, headers, expected in (
            ("/whip/s", zego_bearer(), 1003025),
            ("/whep/s", VIEWER, 1004025),
        ):
            answer = await world.ask(path, headers)
            assert (answer.status, json.loads(answer.text)["code"]) == (403, expected)
        await api.resume_stream("s")
        await world.publish(zego_bearer())

    asking(scenario)


def test_a_join_under_way_does_not_slip_past_a_rule_that_is_made_meanwhile():
    """The offer trickles in, and the stream is forbidden before it is whole."""

    async def scenario(world, api):
        sdp = (await world.offer(publishes=True)).localDescription.sdp.encode()

        async def trickle():
            yield sdp[:100]
            await api.forbid_stream("s")
            yield sdp[100:]

        headers = {**zego_bearer(), "Content-Type": "application/sdp"}
        status, told, _ = await world.call("POST", "/whip/s", data=trickle(), headers=headers)
        assert (status, told["code"]) == (403, 1003025)
        assert world.stand.sessions.all == []

    asking(scenario)


def test_closing_a_room_ends_everybody_in_it():
    """And nobody in another one."""

    async def scenario(world):
        here = await world.publish(zego_bearer())
        there = await world.publish(zego_bearer(stream="t", room="other"), "/whip/t")
        assert await code(world, "CloseRoom", ("RoomId", "room")) == 0
        await until(closed(here))
        assert there.pc.connectionState == "connected"

    play(ZEGO, scenario)


def test_streams_are_announced_and_withdrawn_without_moving_media():
    """What was announced is listed; what is withdrawn is not, though its media goes on."""

    async def scenario(world, api):
        async def listed():
            world.stand._desk._rates._calls.clear()  # one in 10 s, which is tested elsewhere
            return [stream.stream for stream in await api.streams("room")]

        published = await world.publish(zego_bearer())
        await api.add_stream("room", "pusher", "more")
        assert await listed() == ["s", "more"]
        with pytest.raises(Refused, match="1012"):
            await api.add_stream("room", "another", "more")
        await api.delete_stream("room", "pusher", "more")
        assert await listed() == ["s"]
        await api.delete_stream("room", "u-7", "s")
        assert await listed() == []
        assert published.pc.connectionState == "connected"
        await api.add_stream("room", "pusher", "more")
        await published.pc.close()
        await until(lambda: world.stand.sessions.all == [])
        assert await listed() == []

    asking(scenario)


def test_the_sequence_of_a_stream_must_rise():
    """Within 10 s; another stream has its own."""

    async def scenario(world):
        for stream, number, expected in (("a", 5, 0), ("a", 5, 2), ("a", 4, 2), ("b", 4, 0)):
            arguments = (("StreamId", stream), ("Sequence", str(number)))
            assert await code(world, "ForbidRTCStream", *arguments) == expected
        assert await code(world, "ResumeRTCStream", ("StreamId", "a"), ("Sequence", "6")) == 0

    play(ZEGO, scenario)


# --- Limits ---


def test_more_calls_than_the_app_may_make_are_refused():
    """Per action: 10 in a second to count users, 40 for the state of streams."""

    async def scenario(world):
        loop = asyncio.get_running_loop()
        state = (("StreamId", "s"), ("Sequence", "1"))
        for action, arguments, limit, refusal in (
            ("DescribeUserNum", (("RoomId[]", "a"),), 10, 206),
            ("DescribeRTCStreamState", state, 40, 30002),
        ):
            for _ in range(5):  # a second must be enough for all the calls
                start_s = loop.time()
                told = await asyncio.gather(
                    *(code(world, action, *arguments) for _ in range(limit + 5))
                )
                if loop.time() - start_s < 1.0:
                    break
                await asyncio.sleep(1.0)
            assert told.count(refusal) == 5

    play(ZEGO, scenario)


def test_the_streams_of_a_room_are_listed_once_in_ten_seconds():
    """207 then; another room has its own limit."""

    async def scenario(world):
        action = "DescribeSimpleStreamList"
        assert await code(world, action, ("RoomId", "a")) == 0
        assert await code(world, action, ("RoomId", "a")) == 207
        assert await code(world, action, ("RoomId", "b")) == 0

    play(ZEGO, scenario)
