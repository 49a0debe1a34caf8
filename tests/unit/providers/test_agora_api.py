"""Agora's REST API against a stand-in that answers in the documented shapes."""

from __future__ import annotations

from typing import Any

import pytest
from control_stand_in import answers, hanging
from unit.providers.agora_api_calls import APP, BASIC, CALLS, CREATED, DONE, KEY, UID, ask

from hitless.errors import ConfigError, ProviderError, Refused
from hitless.providers.agora_answers import Channel, Privilege
from hitless.providers.agora_api import AgoraApi


def test_channels_are_listed_by_page() -> None:
    """The cheapest health check asks for one."""
    body = {
        "success": True,
        "data": {"channels": [{"channel_name": "lkj144", "user_count": 3}], "total_size": 1},
    }
    page, (asked,) = ask(answers((200, body)), lambda api: api.channels(page=2, page_size=1))
    assert page.channels == (Channel(name="lkj144", users=3),)
    assert page.total == 1
    assert (asked.method, asked.path) == ("GET", f"/dev/v1/channel/{APP}")
    assert dict(asked.query) == {"page_no": "2", "page_size": "1"}
    assert asked.headers["Authorization"] == f"Basic {BASIC}"
    assert asked.host == "primary.localhost"


@pytest.mark.parametrize(("page", "size"), [(-1, 1), (0, 0), (0, 501)])
def test_a_page_that_cannot_be_is_refused(page: int, size: int) -> None:
    """Before anything is asked."""

    async def use(api: AgoraApi) -> None:
        with pytest.raises(ValueError, match="page_size"):
            await api.channels(page=page, page_size=size)

    _, asked = ask(hanging, use)
    assert asked == []


@pytest.mark.parametrize(
    ("data", "exists", "is_live", "hosts", "audience"),
    [
        ({"channel_exist": False}, False, True, (), ()),
        (
            {"channel_exist": True, "mode": 1, "total": 1, "users": [906218805]},
            True,
            False,
            ("906218805",),
            (),
        ),
        (
            {
                "channel_exist": True,
                "mode": 2,
                "broadcasters": [2206227541, 2845863044],
                "audience": [906219905],
                "audience_total": 1,
            },
            True,
            True,
            ("2206227541", "2845863044"),
            ("906219905",),
        ),
    ],
)
def test_users_of_either_mode_are_understood(
    data: dict[str, Any], exists: bool, is_live: bool, hosts: Any, audience: Any
) -> None:
    """A channel that does not exist has nothing else."""
    body = {"success": True, "data": data}
    users, (asked,) = ask(answers((200, body)), CALLS["users"])
    assert (users.exists, users.is_live) == (exists, is_live)
    assert (users.hosts, users.audience) == (hosts, audience)
    assert asked.path == f"/dev/v1/channel/user/{APP}/show"
    assert "906219905" not in repr(users)


def test_hosts_only_has_a_path_of_its_own_and_names_are_escaped() -> None:
    """A channel's name may hold nearly anything."""
    body = {"success": True, "data": {"channel_exist": True, "mode": 2, "broadcasters": [7]}}
    users, (asked,) = ask(
        answers((200, body)), lambda api: api.users("a b/c?d#%", hosts_only=True)
    )
    assert users.hosts == ("7",)
    assert asked.path == f"/dev/v1/channel/user/{APP}/a%20b%2Fc%3Fd%23%25/hosts_only"


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 513])
def test_a_name_that_would_change_the_path_is_refused(name: str) -> None:
    """Before anything is asked."""
    exc, asked = ask(hanging, lambda api: api.users(name))
    assert isinstance(exc, ConfigError)
    assert asked == []


def test_a_ban_is_a_rule_with_privileges_and_a_time() -> None:
    """The unit is seconds; 0 kicks once."""
    reply = answers((200, {"status": "success", "id": 1953}))
    rule, (asked,) = ask(
        reply,
        lambda api: api.ban(
            channel="show", uid=7, privileges=[Privilege.AUDIO, Privilege.VIDEO], for_s=600
        ),
    )
    assert rule == 1953
    assert (asked.method, asked.path) == ("POST", "/dev/v1/kicking-rule")
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == {
        "appid": APP,
        "cname": "show",
        "uid": 7,
        "time_in_seconds": 600,
        "privileges": ["publish_audio", "publish_video"],
    }
    _, (asked,) = ask(reply, lambda api: api.ban(channel=None, uid=7))
    assert asked.body == {
        "appid": APP,
        "uid": 7,
        "time_in_seconds": 0,
        "privileges": ["join_channel"],
    }


@pytest.mark.parametrize(
    "rule",
    [
        {"channel": None, "uid": None},
        {"channel": "", "uid": None},
        {"channel": "show", "uid": 0},
        {"channel": "show", "uid": 1, "privileges": []},
        {"channel": "show", "uid": 1, "for_s": 9},
        {"channel": "show", "uid": 1, "for_s": 86_431},
    ],
)
def test_a_ban_that_agora_would_change_or_that_hits_everybody_is_refused(
    rule: dict[str, Any],
) -> None:
    """Agora would clamp the time; without channel and uid it is everybody."""
    exc, asked = ask(hanging, lambda api: api.ban(**rule))
    assert isinstance(exc, ConfigError)
    assert asked == []


def test_a_stream_key_is_created_by_post() -> None:
    """With an end; the key is in no repr."""
    made, (asked,) = ask(answers((200, CREATED)), CALLS["create_stream_key"])
    assert made.key == KEY
    assert (made.channel, made.expires_after_s) == ("show", 60)
    assert asked.method == "POST"
    assert asked.path == f"/eu/v1/projects/{APP}/rtls/ingress/streamkeys"
    assert asked.body == {"settings": {"channel": "show", "uid": UID, "expiresAfter": 60}}
    assert KEY not in repr(made)
    assert UID not in repr(made)


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_post_is_asked_by_put_and_that_is_remembered(status: int) -> None:
    """The documents contradict each other."""

    async def use(api: AgoraApi) -> None:
        for _ in range(2):
            made = await api.create_stream_key("show", UID, expires_after_s=60)
            assert made.key == KEY

    _, asked = ask(answers((status, {"message": "no"}), (200, CREATED)), use)
    assert [each.method for each in asked] == ["POST", "PUT", "PUT"]
    assert {each.path for each in asked} == {f"/eu/v1/projects/{APP}/rtls/ingress/streamkeys"}


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_other_refusals_are_not_tried_by_put(status: int) -> None:
    """They were understood."""
    exc, asked = ask(answers((status, {"message": "no"})), CALLS["create_stream_key"])
    assert isinstance(exc, ProviderError)
    assert [each.method for each in asked] == ["POST"]


@pytest.mark.parametrize(("channel", "uid", "after_s"), [("show", "7", 0), ("", "7", 9)])
def test_a_key_without_end_or_channel_is_refused(channel: str, uid: str, after_s: int) -> None:
    """One that is lost would stay for ever."""
    exc, asked = ask(
        hanging, lambda api: api.create_stream_key(channel, uid, expires_after_s=after_s)
    )
    assert isinstance(exc, ConfigError)
    assert asked == []


def test_online_streams_are_read_as_the_reference_shows_them() -> None:
    """A list of sessions."""
    body = {
        "status": "success",
        "data": [
            {
                "sid": "sid-1",
                "channel": "show",
                "uid": UID,
                "url": "rtmp://x",
                "status": "live",
                "beginAt": "1686820170",
                "bitrate": 1500,
                "video": {"width": 1280, "height": 720, "fps": 30},
                "audio": {"channels": 2, "sampleRate": 48000},
            }
        ],
    }
    found, (asked,) = ask(answers((200, body)), lambda api: api.online_streams("a&b"))
    (stream,) = found
    assert (stream.sid, stream.channel, stream.uid) == ("sid-1", "show", UID)
    assert UID not in repr(stream)
    assert asked.query == [("channel", "a&b")]
    assert asked.path == f"/eu/v1/projects/{APP}/rtls/ingress/online-streams"


def test_the_other_documented_answer_to_online_streams_is_no_stream() -> None:
    """The page shows a stream key there."""
    found, (asked,) = ask(answers((200, CREATED)), lambda api: api.online_streams())
    assert found == ()
    assert asked.query == []


def test_a_forced_end_deletes_the_key_first() -> None:
    """Else the encoder would be back at once."""
    _, asked = ask(answers((200, DONE)), CALLS["force_disconnect"])
    base = f"/eu/v1/projects/{APP}/rtls/ingress"
    assert [(each.method, each.path) for each in asked] == [
        ("DELETE", f"{base}/streamkeys/{KEY}"),
        ("DELETE", f"{base}/online-streams/sid-1"),
    ]


@pytest.mark.parametrize("call", ["delete_key", "force_disconnect"])
def test_what_is_gone_already_is_fine(call: str) -> None:
    """That is what was wanted."""
    outcome, _ = ask(answers((404, {"message": "Resource not found"})), CALLS[call])
    assert outcome is None


def test_the_session_stays_if_its_key_cannot_be_deleted() -> None:
    """To end it would only make it connect again."""
    exc, asked = ask(answers((403, {"message": "no"})), CALLS["force_disconnect"])
    assert isinstance(exc, Refused)
    assert len(asked) == 1
