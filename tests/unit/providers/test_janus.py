"""The adapter for Janus against a stand-in for its signalling. Real media: `interop`."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest
from canned_media import canned_feed
from unit.providers.janus_stand_in import HANDLE, SESSION, StandIn, standing_in
from yarl import URL

from hitless.errors import (
    ConfigError,
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.frame import Codec, Kind
from hitless.media.liveness import Liveness
from hitless.media.peer import PublishingPeer, ViewingPeer
from hitless.providers.credential import Access, Credential
from hitless.providers.janus import Janus
from hitless.providers.janus_errors import CORE, ROOM
from hitless.providers.janus_handle import Handle
from hitless.providers.janus_legs import declined, mids_of
from hitless.providers.janus_room import Publisher, Room, room_number
from hitless.providers.janus_socket import Secrets, Session
from hitless.providers.janus_spares import SPARES_MAX
from hitless.providers.janus_view import without_candidates


LIMIT_S = 10.0


def run(test: Callable[[StandIn], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test with a stand-in of its own; nothing may be left of it."""

    async def main() -> None:
        mine = asyncio.all_tasks()
        async with asyncio.timeout(3 * LIMIT_S), standing_in(**settings) as stand_in:
            await test(stand_in)
        left = [each.get_name() for each in asyncio.all_tasks() - mine]
        assert [name for name in left if "janus" in name] == []

    asyncio.run(main())


def janus(stand_in: StandIn, **settings: Any) -> Janus:
    """Make a provider of a stand-in."""
    return Janus(url=stand_in.url, **settings)


async def publish_fails(stand_in: StandIn, **settings: Any) -> HitlessError:
    """Publish, and return the error."""
    provider, (feed, _) = janus(stand_in, **settings), canned_feed(Kind.AUDIO)
    with pytest.raises(HitlessError) as caught:
        await provider.start_stream("show", feed)
    await provider.aclose()
    await feed.aclose()
    return caught.value


async def view_fails(stand_in: StandIn, **settings: Any) -> HitlessError:
    """View, and return the error."""
    provider = janus(stand_in, **settings)
    with pytest.raises(HitlessError) as caught:
        await provider.join_stream("show")
    await provider.aclose()
    return caught.value


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 -- conditions are of many kinds
            await asyncio.sleep(0.005)


def now() -> float:
    """Return the loop's time [s]."""
    return asyncio.get_running_loop().time()


# --- Error codes ---

SAME, NEXT = Retry.SAME, Retry.NEXT

CORE_MEANS = {
    403: (CredentialsRejected, NEXT),
    405: (CredentialsRejected, NEXT),
    450: (Refused, SAME),
    452: (ContractBroken, NEXT),
    453: (ContractBroken, NEXT),
    454: (ContractBroken, NEXT),
    455: (ContractBroken, NEXT),
    456: (ContractBroken, NEXT),
    457: (ContractBroken, NEXT),
    458: (Refused, SAME),
    459: (Refused, SAME),
    460: (Refused, NEXT),
    461: (Refused, SAME),
    462: (Refused, SAME),
    463: (Refused, SAME),
    464: (ContractBroken, NEXT),
    465: (ContractBroken, NEXT),
    466: (ContractBroken, NEXT),
    467: (ContractBroken, NEXT),
    468: (Refused, SAME),
    469: (ContractBroken, NEXT),
    470: (CredentialsRejected, NEXT),
    471: (Refused, NEXT),
    472: (Refused, NEXT),
    490: (Refused, SAME),
    999: (Refused, SAME),
}

ROOM_MEANS = {
    421: (ContractBroken, NEXT),
    422: (ContractBroken, NEXT),
    423: (ContractBroken, NEXT),
    424: (ContractBroken, NEXT),
    425: (ContractBroken, NEXT),
    426: (Refused, NEXT),
    427: (Refused, SAME),
    428: (MediaLost, NEXT),
    429: (ContractBroken, NEXT),
    430: (ContractBroken, NEXT),
    431: (ContractBroken, NEXT),
    432: (Refused, NEXT),
    433: (CredentialsRejected, NEXT),
    434: (ContractBroken, NEXT),
    435: (ContractBroken, NEXT),
    436: (Refused, SAME),
    437: (ContractBroken, NEXT),
    438: (MediaLost, NEXT),
    499: (Refused, SAME),
    999: (Refused, SAME),
}


@pytest.mark.parametrize("code", CORE_MEANS)
def test_a_code_of_the_core_says_what_to_do(code: int) -> None:
    """For a publisher and for a viewer alike, wherever it comes."""

    async def test(stand_in: StandIn) -> None:
        kind, retry = CORE_MEANS[code]
        for request in ("create", "attach", "message"):
            stand_in.core_errors = {request: code}
            for exc in (await publish_fails(stand_in), await view_fails(stand_in)):
                assert type(exc) is kind
                assert isinstance(exc, ProviderError)
                assert (exc.retry, exc.answered) == (retry, True)
                assert f"Janus error {code} (because)" in str(exc)

    run(test)


@pytest.mark.parametrize("code", ROOM_MEANS)
def test_a_code_of_the_room_says_what_to_do(code: int) -> None:
    """To a publisher, who joins and publishes."""

    async def test(stand_in: StandIn) -> None:
        kind, retry = ROOM_MEANS[code]
        for request in ("join", "publish"):
            stand_in.room_errors = {request: code}
            exc = await publish_fails(stand_in)
            assert type(exc) is kind
            assert isinstance(exc, ProviderError)
            assert exc.retry is retry
            assert f"Janus error {code} (because)" in str(exc)

    run(test)


@pytest.mark.parametrize("code", ROOM_MEANS)
def test_a_code_of_the_room_says_what_to_do_to_a_viewer(code: int) -> None:
    """What is not there is waited for; the rest is as for a publisher."""

    async def test(stand_in: StandIn) -> None:
        stand_in.participants = [{"id": 5, "display": "1 show", "publisher": True}]
        kind, retry = ROOM_MEANS[code]
        for request in ("listparticipants", "join"):
            stand_in.room_errors = {request: code}
            exc = await view_fails(stand_in)
            if code in (426, 428, 438):
                assert type(exc) is NotOnAir
            else:
                assert type(exc) is kind
                assert isinstance(exc, ProviderError)
                assert exc.retry is retry

    run(test)


def test_every_documented_code_is_tested() -> None:
    """A code that is added needs a line here."""
    assert set(CORE_MEANS) - {999} == set(CORE)
    assert set(ROOM_MEANS) - {999} == set(ROOM)


@pytest.mark.parametrize("element", ["secret", "pin", "admin_key", "token"])
def test_a_secret_that_was_not_given_is_a_matter_of_credentials(element: str) -> None:
    """Janus calls it a missing element, which is a bug in any other case."""

    async def test(stand_in: StandIn) -> None:
        exc = await publish_fails(stand_in)
        assert type(exc) is CredentialsRejected

    reason = f"Missing mandatory element ({element})"
    run(test, room_errors={"join": 429}, reason=reason)


def test_a_room_that_exists_already_is_joined() -> None:
    """427 is no failure when it answers our own wish to have it."""

    async def test(stand_in: StandIn) -> None:
        exc = await publish_fails(stand_in)
        assert "Janus error 499" in str(exc)
        assert len(stand_in.requests("publish")) == 1

    run(test, room_errors={"create": 427, "publish": 499})


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (401, CredentialsRejected, NEXT),
        (403, CredentialsRejected, NEXT),
        (404, Refused, NEXT),
        (429, Refused, NEXT),
        (503, Refused, SAME),
        (200, ContractBroken, NEXT),
    ],
)
def test_a_status_instead_of_a_socket_says_what_to_do(
    status: int, kind: type[ProviderError], retry: Retry
) -> None:
    """A proxy before Janus speaks HTTP."""

    async def test(stand_in: StandIn) -> None:
        exc = await publish_fails(stand_in)
        assert type(exc) is kind
        assert exc.retry is retry

    run(test, refuses=status)


def test_a_status_instead_of_a_socket_shows_no_url() -> None:
    """It may hold a secret, and aiohttp's own error holds it."""

    async def test(stand_in: StandIn) -> None:
        stand_in.url += "?key=5ecret"
        exc = await publish_fails(stand_in)
        assert "5ecret" not in "".join(traceback.format_exception(exc))
        assert exc.__context__ is None

    run(test, refuses=403)


def test_nobody_there_is_unreachable() -> None:
    """An active refusal, which says that the machine is up."""

    async def test(stand_in: StandIn) -> None:
        stand_in.url = "ws://127.0.0.1:1/"
        exc = await publish_fails(stand_in)
        assert type(exc) is Unreachable
        assert (exc.retry, exc.answered) == (SAME, True)

    run(test)


@pytest.mark.parametrize("silent", ["create", "attach", "join"])
def test_no_answer_is_unreachable_by_the_deadline(silent: str) -> None:
    """Whether anything at all came back is told apart."""

    async def test(stand_in: StandIn) -> None:
        begun = now()
        exc = await publish_fails(stand_in, first_media_s=0.4)
        assert type(exc) is Unreachable
        assert (exc.retry, exc.answered) == (SAME, silent != "create")
        assert f"no answer to {silent}" in str(exc)
        assert now() - begun < LIMIT_S

    run(test, silent={silent})


@pytest.mark.parametrize(
    "garbage", ["nonsense", "[1]", '{"janus": "success", "transaction": "1", "data": 3}']
)
def test_garbage_breaks_the_contract(garbage: str) -> None:
    """Whatever comes, an error of ours comes out."""

    async def test(stand_in: StandIn) -> None:
        failing = asyncio.create_task(publish_fails(stand_in))
        await until(lambda: stand_in.requests("create"))
        await stand_in.say(garbage)
        exc = await failing
        assert type(exc) is ContractBroken

    run(test, silent={"create"})


def test_a_socket_that_closes_is_unreachable_while_we_ask() -> None:
    """There is no media to lose yet: the same provider may be asked again."""

    async def test(stand_in: StandIn) -> None:
        failing = asyncio.create_task(publish_fails(stand_in))
        await until(lambda: stand_in.requests("join"))
        await stand_in.sockets[0].close()
        exc = await failing
        assert type(exc) is Unreachable
        assert (exc.retry, exc.answered) == (SAME, True)

    run(test, silent={"join"})


def test_an_answer_without_a_description_breaks_the_contract() -> None:
    """It accepted, and gives nothing to connect by."""

    async def test(stand_in: StandIn) -> None:
        stand_in.participants = [{"id": 5, "display": "1 show", "publisher": True}]
        assert type(await publish_fails(stand_in)) is ContractBroken
        assert type(await view_fails(stand_in)) is ContractBroken

    run(test)


# --- Secrets ---

SECRETS = {
    "api_secret": "api-5ecret",
    "token": "token-5ecret",
    "admin_key": "admin-5ecret",
    "room_secret": "room-5ecret",
    "room_pin": "pin-5ecret",
    "room_token": "acl-5ecret",
}


def test_secrets_go_where_they_belong() -> None:
    """The core's with every message, the room's with what they open."""

    async def test(stand_in: StandIn) -> None:
        await publish_fails(stand_in, **SECRETS)
        for message in stand_in.seen:
            assert message["apisecret"] == SECRETS["api_secret"]
            assert message["token"] == SECRETS["token"]
        (create,) = [each for each in stand_in.requests("create") if "request" in each]
        assert create["admin_key"] == SECRETS["admin_key"]
        assert (create["secret"], create["pin"]) == (SECRETS["room_secret"], SECRETS["room_pin"])
        assert create["allowed"] == [SECRETS["room_token"]]
        assert (create["permanent"], create["is_private"]) == (False, True)
        (join,) = stand_in.requests("join")
        assert (join["pin"], join["token"]) == (SECRETS["room_pin"], SECRETS["room_token"])
        assert "secret" not in join

    run(test)


def test_secrets_are_never_shown() -> None:
    """Not by errors that quote Janus, nor by what is printed."""

    async def test(stand_in: StandIn) -> None:
        for secret in SECRETS.values():
            stand_in.reason = f"wrong ({secret})"
            exc = await publish_fails(stand_in, **SECRETS)
            assert "5ecret" not in f"{exc} {exc!r} {vars(exc)}"
        assert "5ecret" not in repr(janus(stand_in, **SECRETS))

    run(test, core_errors={"message": 403})
    names = {name: value for name, value in SECRETS.items() if name != "token"}
    assert "5ecret" not in repr(Secrets(**names))


def test_a_rejected_token_is_fetched_again_once() -> None:
    """Then the next provider is asked."""

    async def test(stand_in: StandIn) -> None:
        given: list[int] = []

        async def token() -> str:
            given.append(1)
            return f"token-{len(given)}"

        provider, retries = janus(stand_in, token=token), []
        for _ in range(3):
            with pytest.raises(CredentialsRejected) as caught:
                await provider.join_stream("show")
            retries.append(caught.value.retry)
        assert retries == [SAME, NEXT, NEXT]
        assert [each["token"] for each in stand_in.requests("create")] == [
            "token-1",
            "token-2",
            "token-3",
        ]
        await provider.aclose()

    run(test, core_errors={"create": 403})


def test_credentials_are_asked_for_by_stream_and_role() -> None:
    """And asked to renew what was rejected."""

    async def test(stand_in: StandIn) -> None:
        asked: list[Access] = []

        async def credentials(access: Access) -> dict[str, str]:
            asked.append(access)
            return {"token": "its-own"}

        provider = janus(stand_in, credentials=credentials)
        for _ in range(2):
            with pytest.raises(CredentialsRejected):
                await provider.join_stream("show")
        assert [(each.stream, each.role, each.renew) for each in asked] == [
            ("show", "viewer", False),
            ("show", "viewer", True),
        ]
        await provider.aclose()

    run(test, core_errors={"attach": 403})


def test_a_token_that_cannot_be_had_is_told_without_its_words() -> None:
    """The function's message may hold a secret."""

    async def test(stand_in: StandIn) -> None:
        async def token() -> str:
            raise RuntimeError("5ecret")

        exc = await publish_fails(stand_in, token=token)
        assert isinstance(exc, CredentialsRejected)
        assert (exc.retry, exc.answered) == (NEXT, False)
        assert "5ecret" not in str(exc)

    run(test)


# --- Who publishes ---


def test_viewers_choose_the_greatest_mark() -> None:
    """What others publish, and what is no publisher, is left out."""

    async def test(stand_in: StandIn) -> None:
        assert type(await view_fails(stand_in)) is ContractBroken
        (join,) = stand_in.requests("join")
        assert join["streams"] == [{"feed": 3}]
        assert join["ptype"] == "subscriber"

    people = [
        {"id": 1, "display": "1 show", "publisher": True},
        {"id": 2, "display": "9 another show", "publisher": True},
        {"id": 3, "display": "12 show", "publisher": True},
        {"id": 4, "display": "13 show", "publisher": False},
        {"id": 5, "display": "2 show", "publisher": True},
        {"id": 6, "publisher": True},
        {"display": "99 show", "publisher": True},
        "nonsense",
    ]
    run(test, participants=people)


def test_nobody_on_air_is_said_so() -> None:
    """Whether there is no room or nobody in it; nobody is blamed."""

    async def test(stand_in: StandIn) -> None:
        assert type(await view_fails(stand_in)) is NotOnAir
        stand_in.room_errors = {"listparticipants": 426}
        assert type(await view_fails(stand_in)) is NotOnAir

    run(test)


def test_a_publisher_takes_the_mark_after_the_highest() -> None:
    """Of its own stream's publishers."""

    async def test(stand_in: StandIn) -> None:
        await publish_fails(stand_in)
        (publish,) = stand_in.requests("publish")
        assert publish["display"] == "8 show"

    people = [{"id": 1, "display": "7 show"}, {"id": 2, "display": "20 other"}]
    run(test, publishers=people)


def test_a_full_room_is_rid_of_older_publishers() -> None:
    """Of our stream, with the room's secret; then it is worth another attempt."""

    async def test(stand_in: StandIn) -> None:
        exc = await publish_fails(stand_in, room_secret="ours")
        assert isinstance(exc, Refused)
        assert exc.retry is SAME
        (kick,) = stand_in.requests("kick")
        assert (kick["id"], kick["secret"]) == (1, "ours")

    people = [{"id": 1, "display": "7 show"}, {"id": 2, "display": "20 other"}]
    run(test, publishers=people, room_errors={"publish": 432})


def test_publishers_are_read_from_their_display() -> None:
    """A publisher of another make, that says the stream alone, is the oldest of all."""
    listed = [
        {"id": 1, "display": "3 a b"},
        {"id": "x", "display": "a b"},
        {"id": 2, "display": "b"},
        {"id": 3, "display": "-1 a b"},
    ]
    found = Room.publishers_of("a b", listed)
    assert found == [Publisher(mark=3, feed=1), Publisher(mark=0, feed="x")]
    assert Room.publishers_of("a b", None) == []


def test_two_of_one_mark_are_ordered_the_same_everywhere() -> None:
    """Whoever lists them."""
    one, two = Publisher(mark=1, feed=99), Publisher(mark=1, feed=100)
    assert max(one, two, key=Publisher.order) == max(two, one, key=Publisher.order) == two


def test_a_stream_has_one_room_number_everywhere() -> None:
    """Positive, and exact in every JSON reader."""
    numbers = {room_number(f"show-{each}") for each in range(1000)}
    assert len(numbers) == 1000
    assert all(0 < each < 2**53 for each in numbers)
    assert room_number("show") == 2096330996840023  # a change would split running streams


# --- The session ---


async def session_of(stand_in: StandIn, http: aiohttp.ClientSession, **more: Any) -> Session:
    """Open a session."""
    settings: dict[str, Any] = {
        "provider": "janus",
        "operation": "publish",
        "secrets": Secrets(),
        "credential": Credential(None),
        "keepalive_s": 20.0,
    }
    return await Session.open(http, URL(stand_in.url), now() + LIMIT_S, **{**settings, **more})


def with_handle(
    test: Callable[[StandIn, Session, Handle], Coroutine[Any, Any, None]], **more: Any
) -> None:
    """Run a test with a session and a handle."""

    async def main(stand_in: StandIn) -> None:
        async with aiohttp.ClientSession() as http:
            session = await session_of(stand_in, http, **more)
            handle = await session.attach(now() + LIMIT_S)
            try:
                await test(stand_in, session, handle)
            finally:
                await handle.aclose()
                await session.aclose()

    run(main)


def test_it_is_kept_alive() -> None:
    """Janus forgets a session that says nothing for a minute."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        await until(lambda: len(stand_in.requests("keepalive")) >= 3)
        assert all(each["session_id"] == SESSION for each in stand_in.requests("keepalive"))

    with_handle(test, keepalive_s=0.02)


LOSSES = {
    "hangup": ("tell", {"kind": "hangup", "reason": "ICE failed"}, "hung up (ICE failed)"),
    "detached": ("tell", {"kind": "detached"}, "detached"),
    "timeout": ("tell", {"kind": "timeout"}, "timed out"),
    "kicked": ("tell_room", {"leaving": "ok", "reason": "kicked"}, "kicked"),
    "left": ("tell_room", {"leaving": "ok"}, "ended our part"),
    "unpublished": ("tell_room", {"unpublished": "ok"}, "ended our part"),
    "destroyed": ("tell_room", {"videoroom": "destroyed"}, "destroyed"),
    "updated": (
        "tell_room",
        {"videoroom": "updated", "streams": [{"active": False}]},
        "publisher left",
    ),
}


@pytest.mark.parametrize("what", LOSSES)
def test_what_ends_media_is_a_loss(what: str) -> None:
    """And says why."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        how, news, words = LOSSES[what]
        await getattr(stand_in, how)(**news)
        with pytest.raises(MediaLost, match="janus: publish failed") as caught:
            await asyncio.wait_for(handle.lost(), LIMIT_S)
        assert words in str(caught.value)

    with_handle(test)


def test_a_closed_socket_is_a_loss() -> None:
    """It says more than ICE, half a minute earlier."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        await stand_in.sockets[0].close()
        with pytest.raises(MediaLost, match="signalling socket was closed"):
            await asyncio.wait_for(handle.lost(), LIMIT_S)

    with_handle(test)


def test_what_only_tells_of_media_is_no_loss() -> None:
    """Silence may end, and a slow link is none."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        await stand_in.tell("media", type="audio", receiving=True)
        await until(handle.receiving.is_set)
        await stand_in.tell("slowlink", lost=9)
        await stand_in.tell_room(videoroom="updated", streams=[{"active": True}])
        await stand_in.tell_room(videoroom="event", leaving=12345)  # somebody else
        await stand_in.tell("media", type="audio", receiving=False)
        await stand_in.say({"janus": "hangup", "sender": HANDLE + 1})
        await until(lambda: not handle.receiving.is_set())
        assert not handle.is_lost

    with_handle(test)


def test_candidates_wait_for_who_takes_them() -> None:
    """They may come before the description that they belong to is taken."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        await stand_in.tell("trickle", candidate={"candidate": "candidate:1", "sdpMid": "0"})
        await stand_in.tell("trickle", candidate={"candidate": "candidate:2", "sdpMid": "0"})
        await stand_in.tell("media", type="audio", receiving=True)
        await until(handle.receiving.is_set)
        taken: list[str | None] = []

        async def take(line: str | None) -> None:
            taken.append(line)

        handle.feed_candidates(take)
        await stand_in.tell("trickle", candidate={"completed": True})
        await until(lambda: len(taken) == 3)
        assert taken == ["candidate:1", "candidate:2", None]

    with_handle(test)


def test_our_candidates_are_sent_with_their_end() -> None:
    """In one message; no answer is waited for."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        stand_in.silent = {"trickle"}
        await handle.trickle([{"candidate": "candidate:1"}], now() + LIMIT_S)
        await until(lambda: stand_in.requests("trickle"))
        (message,) = stand_in.requests("trickle")
        assert message["candidates"] == [{"candidate": "candidate:1"}, {"completed": True}]
        assert message["handle_id"] == HANDLE

    with_handle(test)


def test_leaving_is_bounded_when_nobody_answers() -> None:
    """The socket is closed all the same."""

    async def test(stand_in: StandIn, session: Session, handle: Handle) -> None:
        stand_in.silent = {"destroy"}
        begun = now()
        await session.aclose()
        await session.aclose()
        assert now() - begun < 4.0  # 2 s by the contract; the machine may be busy
        await until(lambda: not stand_in.sockets)

    with_handle(test)


# --- The provider ---


def test_a_waiting_viewer_asks_over_one_socket() -> None:
    """20 times a second: a session for each question would cost more than the question."""

    async def test(stand_in: StandIn) -> None:
        provider = janus(stand_in)
        for _ in range(5):
            with pytest.raises(NotOnAir):
                await provider.join_stream("show")
        assert stand_in.opened == 1
        (spare,) = provider._spares._kept.values()
        await stand_in.sockets[0].close()
        await until(lambda: spare[1].is_lost)
        with pytest.raises(NotOnAir):
            await provider.join_stream("show")
        assert stand_in.opened == 2
        await provider.aclose()
        await until(lambda: not stand_in.sockets)

    run(test)


def test_only_so_many_sessions_wait() -> None:
    """Viewers of many streams that nobody publishes hold no more."""

    async def test(stand_in: StandIn) -> None:
        provider = janus(stand_in)
        for number in range(SPARES_MAX + 3):
            with pytest.raises(NotOnAir):
                await provider.join_stream(f"show-{number}")
        await until(lambda: len(stand_in.sockets) == SPARES_MAX)
        await provider.aclose()

    run(test)


@pytest.mark.parametrize("silent", ["create", "attach", "join"])
def test_a_cancelled_start_leaves_no_session(silent: str) -> None:
    """At whatever it waits for."""

    async def test(stand_in: StandIn) -> None:
        provider, (feed, _) = janus(stand_in, first_media_s=LIMIT_S), canned_feed(Kind.AUDIO)
        starting = asyncio.create_task(provider.start_stream("show", feed))
        await until(lambda: stand_in.requests(silent))
        starting.cancel()
        await asyncio.wait({starting}, timeout=LIMIT_S)
        assert starting.cancelled()
        await until(lambda: not stand_in.sockets)
        await provider.aclose()
        await feed.aclose()

    run(test, silent={silent})


def test_a_closed_provider_opens_nothing() -> None:
    """It says so, and closing it again is fine."""

    async def test(stand_in: StandIn) -> None:
        provider = janus(stand_in)
        await provider.aclose()
        await provider.aclose()
        with pytest.raises(HitlessError, match="it was closed"):
            await provider.join_stream("show")
        assert stand_in.opened == 0

    run(test)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "http://127.0.0.1"}, "wss://"),
        ({"url": "ws://janus.example:8188"}, "plain ws"),
        ({"url": "wss://me:5ecret@janus.example"}, "not in the URL"),
        ({"url": "wss://[::1"}, "not a URL"),
        ({"url": "wss://janus.example", "name": "JANUS"}, "lower-case"),
        ({"url": "wss://janus.example", "room": 0}, "room"),
        ({"url": "wss://janus.example", "room": ""}, "room"),
        ({"url": "wss://janus.example", "keepalive_s": 60.0}, "keepalive_s"),
    ],
)
def test_what_cannot_work_is_said_before_anything_opens(
    settings: dict[str, Any], words: str
) -> None:
    """Naming the field, and no secret."""
    with pytest.raises(ConfigError, match=words) as caught:
        Janus(**settings)
    assert "5ecret" not in str(caught.value)


def test_a_stream_id_that_cannot_be_shown_is_refused() -> None:
    """It goes into the display."""

    async def test(stand_in: StandIn) -> None:
        provider = janus(stand_in)
        for stream in ("", "a\nb", "x" * 257):
            with pytest.raises(ConfigError, match="stream id"):
                await provider.join_stream(stream)
        assert stand_in.opened == 0

    run(test)


# --- Descriptions ---

ANSWER = (
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=recvonly\r\n"
    "m=video {port} UDP/TLS/RTP/SAVPF 96\r\na={direction}\r\n"
)


@pytest.mark.parametrize(
    ("port", "direction", "kinds"),
    [(9, "recvonly", []), (0, "recvonly", [Kind.VIDEO]), (9, "inactive", [Kind.VIDEO])],
)
def test_a_section_that_is_turned_down_is_seen(
    port: int, direction: str, kinds: list[Kind]
) -> None:
    """By its port or its direction (RFC 3264)."""
    assert declined(ANSWER.format(port=port, direction=direction)) == kinds


def test_sections_are_found_by_kind() -> None:
    """In what Janus lists; an older one lists nothing."""
    listed = {"streams": [{"type": "audio", "mid": "0"}, {"type": "video", "mid": "1"}, 3]}
    assert mids_of(listed, Kind.VIDEO) == ("1",)
    assert mids_of({}, Kind.VIDEO) == ()


def test_candidates_that_follow_their_description_connect() -> None:
    """Both ways: neither description holds any (RFC 8838)."""

    async def main() -> None:
        feed, _ = canned_feed(Kind.AUDIO, Kind.VIDEO, codec=Codec.VP8)
        frames: list[Any] = []
        common: dict[str, Any] = {"provider": "test", "loopback": True}
        here = PublishingPeer(feed=feed, operation="publish", liveness=Liveness(), **common)
        there = ViewingPeer(
            kinds=frozenset(Kind),
            take=frames.append,
            operation="view",
            liveness=Liveness(),
            **common,
        )
        offer, ours = without_candidates(await here.offer())
        answer, theirs = without_candidates(await there.answer(offer))
        await here.accept(answer)
        assert ours
        assert theirs
        assert "a=candidate" not in offer + answer
        for peer, candidates in ((here, theirs), (there, ours)):
            await peer.add_candidate("candidate:nonsense")
            for each in candidates:
                assert each["sdpMLineIndex"] == 0
                await peer.add_candidate(each["candidate"])
            await peer.add_candidate(None)
        deadline = now() + LIMIT_S
        await asyncio.gather(here.connected(deadline), there.connected(deadline))
        await until(lambda: {frame.kind for frame in frames} == set(Kind))
        await there.aclose()
        await here.aclose()
        await here.add_candidate(None)  # too late, and harmless
        await feed.aclose()

    asyncio.run(main())
