"""The adapter for Janus against a stand-in for its signalling. Real media: `interop`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from canned_media import canned_feed
from unit.providers.janus_runs import (
    LIMIT_S,
    NEXT,
    SAME,
    janus,
    now,
    publish_fails,
    run,
    until,
    view_fails,
)
from unit.providers.janus_stand_in import StandIn

from hitless.errors import (
    ConfigError,
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    NotOnAir,
    Refused,
)
from hitless.media.frame import Codec, Kind
from hitless.media.liveness import Liveness
from hitless.media.peer import PublishingPeer, ViewingPeer
from hitless.providers.credential import Access
from hitless.providers.janus import Janus
from hitless.providers.janus_legs import declined, mids_of
from hitless.providers.janus_room import Publisher, Room, room_number
from hitless.providers.janus_socket import Secrets
from hitless.providers.janus_spares import SPARES_MAX
from hitless.providers.janus_view import without_candidates


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


def test_a_room_that_went_away_between_two_requests_is_made_again() -> None:
    """Whoever leaves last takes it away; once more, and then it is somebody's fault."""

    class Once(dict[str, int]):
        def __getitem__(self, name: str) -> int:
            return self.pop(name)

    async def test(stand_in: StandIn) -> None:
        stand_in.room_errors = Once(create=427, join=426)
        await publish_fails(stand_in)
        assert len(stand_in.requests("publish")) == 1
        stand_in.seen.clear()
        stand_in.room_errors = {"join": 426}
        assert type(await publish_fails(stand_in)) is Refused
        assert len(stand_in.requests("join")) == 2

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
