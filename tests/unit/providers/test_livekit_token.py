"""hitless.providers.livekit_token, by PyJWT and, where it is installed, LiveKit's own verifier."""

from __future__ import annotations

import sys
import time
from typing import Any

import jwt
import pytest

from hitless.errors import ConfigError
from hitless.providers.livekit_token import (
    Grants,
    _signer,
    mint,
    publisher_grants,
    service_grants,
    viewer_grants,
)


KEY, SECRET = "APIkey", "s3cret-" + "0123456789abcdef" * 2
NOW, TTL = 4_000_000_000, 3_600


def minted(grants: Grants, identity: str = "somebody", **more: Any) -> str:
    """Return a token of ours."""
    return mint(KEY, SECRET, grants, **{"now_s": NOW, "ttl_s": TTL, "identity": identity, **more})


def claims(token: str, secret: str = SECRET) -> Any:
    """Return what a token says, as a server reads it whose clock is behind."""
    return jwt.decode(token, secret, algorithms=["HS256"], issuer=KEY)


# --- Grants ---


def test_a_publisher_publishes_and_receives_nothing() -> None:
    """Into one room, until it ends."""
    assert claims(minted(publisher_grants("show-1"))) == {
        "iss": KEY,
        "sub": "somebody",
        "exp": NOW + TTL,
        "video": {
            "roomJoin": True,
            "room": "show-1",
            "canPublish": True,
            "canPublishData": True,
            "canSubscribe": False,
        },
    }


def test_a_publisher_that_views_its_own_stream_receives_too() -> None:
    """Only if it is asked for."""
    video = claims(minted(publisher_grants("show-1", may_subscribe=True)))["video"]

    assert video["canSubscribe"] is True


def test_a_viewer_receives_and_publishes_nothing() -> None:
    """Denied by name: what is left out counts as allowed."""
    assert claims(minted(viewer_grants("show-1")))["video"] == {
        "roomJoin": True,
        "room": "show-1",
        "canPublish": False,
        "canPublishData": False,
        "canSubscribe": True,
    }


def test_the_service_lists_rooms_and_administers_one() -> None:
    """It joins none, and has no identity."""
    token = claims(mint(KEY, SECRET, service_grants("show-1"), now_s=NOW, ttl_s=60))

    assert token == {
        "iss": KEY,
        "exp": NOW + 60,
        "video": {"roomList": True, "roomAdmin": True, "room": "show-1"},
    }
    assert service_grants() == {"roomList": True}


# --- What is refused ---


def test_a_token_signed_with_another_secret_is_refused() -> None:
    """By PyJWT."""
    with pytest.raises(jwt.InvalidSignatureError):
        claims(minted(viewer_grants("show-1")), SECRET[::-1])


def test_a_token_ends() -> None:
    """By PyJWT's clock: this one ended long ago."""
    with pytest.raises(jwt.ExpiredSignatureError):
        claims(minted(viewer_grants("show-1"), now_s=1_000_000_000.0))


@pytest.mark.parametrize(
    ("says", "key", "secret"),
    [
        ("api_key: ", "", SECRET),
        ("api_key: ", None, SECRET),
        ("api_secret: give at least 32 bytes", KEY, SECRET[:31]),
        ("api_secret: give at least 32 bytes", KEY, None),
        (
            "certificate or public key",
            KEY,
            f"-----BEGIN PUBLIC KEY-----\n{'A' * 64}\n-----END PUBLIC KEY-----",
        ),
    ],
)
def test_a_key_that_cannot_sign_is_named_and_never_quoted(
    says: str, key: Any, secret: Any
) -> None:
    """Before anything opens."""
    with pytest.raises(ConfigError, match=says) as caught:
        mint(key, secret, viewer_grants("show-1"), now_s=NOW, ttl_s=TTL, identity="somebody")
    assert secret is None or secret not in str(caught.value)


def test_nobody_joins_no_room() -> None:
    """A server would refuse it with fewer words."""
    with pytest.raises(ConfigError, match="identity and room"):
        minted(viewer_grants("show-1"), identity="")
    with pytest.raises(ConfigError, match="identity and room"):
        minted(viewer_grants(""))
    for ttl_s in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="ttl_s"):
            minted(viewer_grants("show-1"), ttl_s=ttl_s)


def test_without_pyjwt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no dependency of programs that only publish and view."""
    _signer.cache_clear()
    monkeypatch.delitem(sys.modules, "hitless.providers.hs256", raising=False)
    monkeypatch.setitem(sys.modules, "jwt", None)

    with pytest.raises(ConfigError, match=r"PyJWT: install hitless\[livekit\]"):
        minted(viewer_grants("show-1"))


# --- LiveKit's own verifier ---


@pytest.fixture
def verifier() -> Any:
    """Return the verifier of livekit-api."""
    api = pytest.importorskip("livekit.api", reason="livekit-api is not installed")
    return api.TokenVerifier(KEY, SECRET)


@pytest.mark.parametrize(
    ("grants", "can_publish", "can_subscribe"),
    [(publisher_grants("show-1"), True, False), (viewer_grants("show-1"), False, True)],
    ids=["publisher", "viewer"],
)
def test_livekits_verifier_reads_the_grants(
    verifier: Any, grants: Grants, can_publish: bool, can_subscribe: bool
) -> None:
    """Publisher and viewer, as the server sees them."""
    found = verifier.verify(minted(grants))

    assert found.identity == "somebody"
    assert found.video.room_join is True
    assert found.video.room == "show-1"
    assert found.video.can_publish is can_publish
    assert found.video.can_publish_data is can_publish
    assert found.video.can_subscribe is can_subscribe
    assert found.video.room_admin is None


def test_livekits_verifier_reads_the_service(verifier: Any) -> None:
    """Without an identity."""
    found = verifier.verify(mint(KEY, SECRET, service_grants("show-1"), now_s=NOW, ttl_s=60))

    assert (found.video.room_list, found.video.room_admin) == (True, True)
    assert found.video.room_join is None


def test_livekits_verifier_refuses_what_has_ended_or_is_anothers(verifier: Any) -> None:
    """A minute of leeway is its own."""
    ended = minted(viewer_grants("show-1"), now_s=time.time() - TTL - 120)  # noqa: TID251 -- it has a clock of its own
    anothers = mint(
        KEY, SECRET[::-1], viewer_grants("show-1"), now_s=NOW, ttl_s=TTL, identity="somebody"
    )

    with pytest.raises(jwt.ExpiredSignatureError):
        verifier.verify(ended)
    with pytest.raises(jwt.InvalidSignatureError):
        verifier.verify(anothers)
