"""hitless.providers.livekit_api, against a stand-in of LiveKit's server."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import jwt
import pytest
from aiohttp import web
from livekit_stand_in import KEY, SECRET, Guest, LiveKitServer, serving
from yarl import URL

from hitless.errors import (
    ConfigError,
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    ProviderError,
    Refused,
    Retry,
    StreamEnded,
    Unreachable,
)
from hitless.media.frame import Kind
from hitless.providers.clock import wall_s
from hitless.providers.livekit_api import Room, RoomService
from hitless.providers.livekit_token import Grants, mint


LIMIT_S = 20.0


def run(test: Callable[[LiveKitServer, RoomService], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a stand-in and a client of it, bounded; nothing may be left of it."""

    async def main() -> None:
        mine = asyncio.all_tasks()
        async with asyncio.timeout(LIMIT_S), serving() as server:
            rooms = service(server)
            await test(server, rooms)
            await rooms.aclose()
        assert [task for task in asyncio.all_tasks() - mine if "livekit" in task.get_name()] == []

    asyncio.run(main())


async def token_for(grants: Grants) -> str:
    """Mint as the adapter does."""
    return mint(KEY, SECRET, grants, now_s=wall_s(), ttl_s=60.0)


def service(server: LiveKitServer, **settings: Any) -> RoomService:
    """Make a client of a stand-in."""
    return RoomService("livekit", URL(server.url), **{"token_for": token_for, **settings})


async def failing(asking: Coroutine[Any, Any, Any]) -> ProviderError:
    """Ask, expect a provider's error, and return it; it holds no token and no key."""
    with pytest.raises(ProviderError) as caught:
        await asking
    told = "".join(traceback.format_exception(caught.value))
    assert "eyJ" not in told
    assert SECRET not in told
    assert KEY not in told
    return caught.value


# --- What it asks, and what it makes of the answers ---


def test_rooms_are_listed_with_how_many_are_in_them() -> None:
    """Whichever way protobuf's JSON writes names and numbers."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        server.guests = {"show": [Guest("a"), Guest("b")]}
        assert await rooms.rooms() == (Room(name="show", sid="RM_show", participants=2),)
        body = '{"rooms": [{"name": "n", "sid": "RM_1", "numParticipants": "7"}, {}]}'
        server.twirp["ListRooms"] = (200, {}, body)
        assert [each.participants for each in await rooms.rooms("n")] == [7, 0]
        assert '"names": ["n"]' in server.seen[-1].body

    run(test)


def test_participants_are_listed_with_what_they_publish() -> None:
    """Their identities may be users' ids: no repr shows them."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        server.guests = {"show": [Guest("ann", {Kind.AUDIO: "mic"}, joined_ms=5_250)]}
        (ann,) = await rooms.participants("show")
        assert (ann.identity, ann.joined_ms) == ("ann", 5_250)
        assert [(each.name, each.kind, each.is_muted) for each in ann.tracks] == [
            ("mic", Kind.AUDIO, False)
        ]
        assert "ann" not in repr(ann)

    run(test)


def test_what_a_participant_says_in_another_way_is_understood() -> None:
    """Numbers for enumerations, seconds without milliseconds, kinds that we do not carry."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        server.twirp["ListParticipants"] = (
            200,
            {},
            '{"participants": [{"identity": "a", "joinedAt": "3", "tracks": [{"type": 1, '
            '"muted": true}, {"type": "DATA"}, {"type": []}, 7]}, {"tracks": null}]}',
        )
        first, second = await rooms.participants("show")
        assert first.joined_ms == 3000
        assert [(each.kind, each.is_muted) for each in first.tracks] == [
            (Kind.VIDEO, True),
            (None, False),
            (None, False),
        ]
        assert (second.tracks, second.joined_ms) == ((), 0)

    run(test)


def test_removing_and_deleting_tell_whether_there_was_anything() -> None:
    """Nobody there is no error."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        server.guests = {"show": [Guest("ann")]}
        assert await rooms.remove("show", "ann") is True
        assert await rooms.remove("show", "ann") is False
        assert await rooms.delete_room("show") is False
        server.twirp["ListParticipants"] = (404, {}, '{"code": "not_found"}')
        assert await rooms.participants("none") == ()
        server.twirp["DeleteRoom"] = (200, {}, "{}")
        assert await rooms.delete_room("show") is True

    run(test)


def test_each_call_has_a_token_that_allows_that_call_and_little_more() -> None:
    """For one room, and without an identity."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        await rooms.rooms()
        await rooms.participants("show")
        await rooms.remove("show", "ann")
        await rooms.delete_room("show")
        assert [each["video"] for each in server.claims] == [
            {"roomList": True},
            {"roomList": True, "roomAdmin": True, "room": "show"},
            {"roomList": True, "roomAdmin": True, "room": "show"},
            {"roomCreate": True},
        ]
        assert all("sub" not in each for each in server.claims)
        assert {each.path for each in server.seen} == {
            f"/twirp/livekit.RoomService/{name}"
            for name in ("ListRooms", "ListParticipants", "RemoveParticipant", "DeleteRoom")
        }

    run(test)


# --- Refusals ---


@pytest.mark.parametrize(
    ("status", "code", "kind", "retry"),
    [
        (401, "unauthenticated", CredentialsRejected, Retry.NEXT),
        (403, "permission_denied", CredentialsRejected, Retry.NEXT),
        (429, "resource_exhausted", Refused, Retry.NEXT),
        (404, "not_found", Refused, Retry.NEXT),
        (409, "already_exists", Refused, Retry.NEXT),
        (412, "failed_precondition", Refused, Retry.NEXT),
        (404, "bad_route", ContractBroken, Retry.NEXT),
        (400, "invalid_argument", ContractBroken, Retry.NEXT),
        (400, "malformed", ContractBroken, Retry.NEXT),
        (400, "out_of_range", ContractBroken, Retry.NEXT),
        (501, "unimplemented", ContractBroken, Retry.NEXT),
        (503, "unavailable", Refused, Retry.SAME),
        (500, "internal", Refused, Retry.SAME),
        (500, "unknown", Refused, Retry.SAME),
        (408, "deadline_exceeded", Refused, Retry.SAME),
        (408, "canceled", Refused, Retry.SAME),
        (409, "aborted", Refused, Retry.SAME),
        (503, "dataloss", Refused, Retry.SAME),
    ],
)
def test_an_error_code_of_twirp_says_what_to_do_next(
    status: int, code: str, kind: type[ProviderError], retry: Retry
) -> None:
    """The code counts; what the server says in words is not repeated."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        text = f'{{"code": "{code}", "msg": "participant ann of {KEY}"}}'
        server.twirp["ListRooms"] = (status, {}, text)
        exc = await failing(rooms.rooms())
        assert type(exc) is kind or issubclass(type(exc), kind)
        assert exc.retry is retry
        assert code in str(exc)
        assert "ann" not in str(exc)
        assert (exc.provider, exc.operation) == ("livekit", "probe")

    run(test)


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (401, CredentialsRejected, Retry.NEXT),
        (403, CredentialsRejected, Retry.NEXT),
        (404, ContractBroken, Retry.NEXT),
        (302, ContractBroken, Retry.NEXT),
        (429, Refused, Retry.NEXT),
        (500, Refused, Retry.SAME),
        (502, Refused, Retry.SAME),
    ],
)
@pytest.mark.parametrize("text", ["<html>no</html>", '{"code": 7}', "[]", ""])
def test_without_a_code_the_class_of_the_status_decides(
    status: int, kind: type[ProviderError], retry: Retry, text: str
) -> None:
    """Then it was not LiveKit that answered, but something before it."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        server.twirp["ListRooms"] = (status, {}, text)
        exc = await failing(rooms.rooms())
        assert type(exc) is kind
        assert exc.retry is retry

    run(test)


def test_how_long_to_stay_away_is_passed_on() -> None:
    """More than a second means: the next one."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        for status, code, after, retry in (
            (429, "resource_exhausted", "7", Retry.NEXT),
            (503, "unavailable", "9", Retry.NEXT),
            (503, "unavailable", "1", Retry.SAME),
        ):
            text = f'{{"code": "{code}"}}'
            server.twirp["ListRooms"] = (status, {"Retry-After": after}, text)
            exc = await failing(rooms.rooms())
            assert (exc.retry, exc.retry_after_s) == (retry, float(after))

    run(test)


@pytest.mark.parametrize("text", ["", "OK", "[]", '{"rooms": 7}', '{"rooms": ["a"]}'])
def test_an_answer_that_is_no_answer_breaks_the_contract(text: str) -> None:
    """It may be any server that answers 200 to everything."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        server.twirp["ListRooms"] = (200, {}, text)
        assert type(await failing(rooms.rooms())) is ContractBroken

    run(test)


def test_a_token_of_another_secret_is_rejected_and_not_repeated() -> None:
    """The server's own words for it hold the token."""

    async def forged(grants: Grants) -> str:
        return jwt.encode({"iss": KEY, "exp": 1, "video": dict(grants)}, "x" * 40)

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        other = service(server, token_for=forged)
        exc = await failing(other.rooms())
        await other.aclose()
        assert type(exc) is CredentialsRejected
        assert exc.retry is Retry.NEXT
        assert "api_secret" in str(exc)

    run(test)


@pytest.mark.parametrize("fault", [RuntimeError(SECRET), ConfigError("api_secret: no")])
def test_a_secret_that_cannot_be_had_is_no_request(fault: Exception) -> None:
    """What the caller's function says is not repeated; what we say ourselves is."""

    async def failing_to_mint(grants: Grants) -> str:
        raise fault

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        other = service(server, token_for=failing_to_mint)
        with pytest.raises(HitlessError) as caught:
            await other.rooms()
        await other.aclose()
        assert server.seen == []
        assert SECRET not in str(caught.value)
        expected = ConfigError if isinstance(fault, ConfigError) else CredentialsRejected
        assert type(caught.value) is expected

    run(test)


# --- Reaching it ---


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (406, Refused, Retry.SAME),
        (404, ContractBroken, Retry.NEXT),
        (503, Refused, Retry.SAME),
    ],
)
def test_a_node_that_is_not_ready_is_told_from_what_is_no_livekit(
    status: int, kind: type[ProviderError], retry: Retry
) -> None:
    """406 is its word for: my own statistics are old."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        await rooms.check_ready()
        server.health = (status, "Not Ready\nNode Updated At ...")
        exc = await failing(rooms.check_ready())
        assert type(exc) is kind
        assert exc.retry is retry
        assert all("Authorization" not in each.headers for each in server.seen)

    run(test)


def test_a_server_that_hangs_costs_the_limit_and_no_more() -> None:
    """Before its headers, and after them."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        async def hangs(request: web.Request) -> web.StreamResponse:
            if request.path == "/":
                response = web.StreamResponse()
                await response.prepare(request)
            await asyncio.sleep(LIMIT_S)
            return web.Response()

        server.intercept = hangs
        other = service(server, call_s=0.2)
        begun_s = asyncio.get_running_loop().time()
        for asking in (other.rooms(), other.check_ready()):
            assert type(await failing(asking)) is Unreachable
        assert asyncio.get_running_loop().time() - begun_s < 5.0
        await other.aclose()

    run(test)


def test_a_port_that_nobody_listens_on_is_unreachable() -> None:
    """And an active refusal is an answer of the machine."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        gone = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = gone.sockets[0].getsockname()[1]
        gone.close()
        await gone.wait_closed()
        other = RoomService("livekit", URL(f"http://127.0.0.1:{port}"), token_for)
        exc = await failing(other.rooms())
        await other.aclose()
        assert type(exc) is Unreachable
        assert exc.answered

    run(test)


def test_closing_twice_is_fine_and_nothing_is_asked_afterwards() -> None:
    """A call after the end is the caller's mistake."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        await rooms.rooms()
        await rooms.aclose()
        await rooms.aclose()
        with pytest.raises(StreamEnded):
            await rooms.rooms()
        assert len(server.seen) == 1

    run(test)


def test_a_token_that_fits_into_no_header_is_not_sent() -> None:
    """As over WHIP: the next provider, and nothing of it in the error."""

    async def test(server: LiveKitServer, rooms: RoomService) -> None:
        async def broken(grants: object) -> str:
            return "eyJ\n"

        exc = await failing(service(server, token_for=broken).rooms())
        assert type(exc) is CredentialsRejected
        assert (exc.retry, exc.answered) == (Retry.NEXT, False)
        assert "line break" in str(exc)
        assert server.seen == []

    run(test)
