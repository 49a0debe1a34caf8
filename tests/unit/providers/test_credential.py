"""hitless.providers.credential, and what `Whip` makes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from canned_media import canned_feed
from virtual_time import run
from whip_calls import always, failing, whip
from whip_calls import run as with_server
from whip_server import WhipServer

from hitless.core.events import Role
from hitless.errors import CredentialsRejected, Retry, Unreachable
from hitless.media.frame import Kind
from hitless.providers.credential import Access, Credential, token_of


ACCESS = Access(provider="agora", stream="show", role=Role.PUBLISHER)


class Source:
    """
    What an app fetches tokens with.

    Attributes:
        asked: What it was asked for.
        faults: Raised first, in their order.
        takes_s: How long it takes [s].
    """

    def __init__(self, *faults: Exception, takes_s: float = 0.0) -> None:
        self.asked: list[Access] = []
        self.faults, self.takes_s = list(faults), takes_s

    async def __call__(self, access: Access = ACCESS) -> dict[str, Any]:
        self.asked.append(access)
        await asyncio.sleep(self.takes_s)
        if self.faults:
            raise self.faults.pop(0)
        return {"token": f"{access.role.value}-{len(self.asked)}"}

    async def token(self) -> str:
        """Return the token alone."""
        token: str = (await self())["token"]
        return token


# --- A token ---


@pytest.mark.parametrize("token", [None, "hush"])
def test_a_fixed_token_is_sent_as_it_is_and_never_renewed(token: str | None) -> None:
    credential = Credential(token)

    assert run(credential.value()) == token
    assert credential.rejected("publish", token) is Retry.NEXT


def test_a_token_is_fetched_once_for_all_who_want_it_at_the_same_time() -> None:
    source = Source(takes_s=1.0)

    async def main() -> list[str | None]:
        credential = Credential(source.token)
        return await asyncio.gather(*(credential.value() for _ in range(5)))

    assert run(main()) == ["publisher-1"] * 5
    assert len(source.asked) == 1


def test_a_fetch_that_fails_is_told_and_the_next_one_asks_again() -> None:
    source = Source(LookupError("no database"))

    async def main() -> str | None:
        credential = Credential(source.token)
        with pytest.raises(LookupError):
            await credential.value()
        return await credential.value()

    assert run(main()) == "publisher-2"


def test_who_gives_up_on_a_slow_fetch_leaves_it_to_the_next_one() -> None:
    source = Source(takes_s=10.0)

    async def main() -> str | None:
        credential = Credential(source.token)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await credential.value()
        return await credential.value()

    assert run(main()) == "publisher-2"


def test_a_rejected_token_is_renewed_once_and_trusted_again_when_it_was_taken() -> None:
    source = Source()

    async def main() -> list[Retry]:
        credential = Credential(source.token)
        advice = [
            credential.rejected("publish", await credential.value()),
            credential.rejected("publish", await credential.value()),
        ]
        used = await credential.value()
        credential.accepted("publish")
        advice.append(credential.rejected("publish", used))
        return advice

    assert run(main()) == [Retry.SAME, Retry.NEXT, Retry.SAME]
    assert len(source.asked) == 3


def test_a_token_that_was_renewed_meanwhile_is_sent_and_not_renewed_again() -> None:
    source = Source()

    async def main() -> tuple[Retry, Retry, Retry]:
        credential = Credential(source.token)
        old = await credential.value()
        first = credential.rejected("publish", old)
        while_fetching = credential.rejected("view", old)
        await credential.value()
        return first, while_fetching, credential.rejected("close", old)

    assert run(main()) == (Retry.SAME, Retry.SAME, Retry.SAME)
    assert len(source.asked) == 2


# --- From credentials to a token ---


def test_the_token_of_an_access_is_renewed_only_after_one_was_given() -> None:
    source = Source(LookupError("no database"))

    async def main() -> list[str | None]:
        fetch = token_of(source, ACCESS)
        assert callable(fetch)
        with pytest.raises(LookupError):
            await fetch()
        return [await fetch(), await fetch()]

    assert run(main()) == ["publisher-2", "publisher-3"]
    assert [access.renew for access in source.asked] == [False, False, True]
    assert {access.stream for access in source.asked} == {"show"}


@pytest.mark.parametrize(
    ("given", "token"), [({}, None), ({"token": None}, None), ({"token": 42}, "42")]
)
def test_a_credential_without_a_token_sends_none(given: dict[str, Any], token: str | None) -> None:
    async def credentials(access: Access) -> dict[str, Any]:
        return given

    fetch = token_of(credentials, ACCESS)
    assert callable(fetch)

    assert run(Credential(fetch).value()) == token


# --- At a WHIP server ---


def sent(server: WhipServer) -> list[tuple[str, str | None]]:
    """Return the path and the Authorization of each POST."""
    return [(each.path, each.headers.get("Authorization")) for each in server.requests("POST")]


def test_each_leg_has_a_token_of_its_own_for_its_stream_and_role() -> None:
    """They beat the provider's token."""
    source = Source()

    async def test(server: WhipServer) -> None:
        server.intercept = always(503)
        for operation in ("publish", "view", "publish"):
            await failing(whip(server, token="shared", credentials=source), operation)
        assert sent(server) == [
            ("/whip/show", "Bearer publisher-1"),
            ("/whep/show", "Bearer viewer-2"),
            ("/whip/show", "Bearer publisher-3"),
        ]

    with_server(test)

    assert [(each.provider, each.stream, each.renew) for each in source.asked] == [
        ("agora", "show", False)
    ] * 3


def test_a_publisher_asks_for_a_token_of_a_viewer_to_see_itself() -> None:
    source = Source()

    async def test(server: WhipServer) -> None:
        provider, (feed, _) = whip(server, credentials=source), canned_feed(Kind.AUDIO)
        try:
            leg = await provider.start_stream("show", feed)
            await leg.aclose()
        finally:
            await provider.aclose()
            await feed.aclose()
        assert sent(server)[0] == ("/whip/show", "Bearer publisher-1")
        views = {token for path, token in sent(server) if path == "/whep/show"}
        assert views == {"Bearer viewer-2"}
        (closed,) = [each for each in server.requests("DELETE") if each.path == "/session/1"]
        assert closed.headers["Authorization"] == "Bearer publisher-1"

    with_server(test)

    assert [each.role for each in source.asked] == [Role.PUBLISHER, Role.VIEWER]


@pytest.mark.parametrize("operation", ["publish", "view"])
def test_credentials_that_cannot_be_fetched_are_no_secret_and_no_request(operation: str) -> None:
    async def test(server: WhipServer) -> None:
        source = Source(RuntimeError("the secret is 42"))
        exc = await failing(whip(server, credentials=source), operation)
        assert isinstance(exc, CredentialsRejected)
        assert "RuntimeError" in str(exc)
        assert "42" not in str(exc)
        assert server.seen == []

    with_server(test)


def test_credentials_that_come_too_late_cost_the_attempt_and_no_more() -> None:
    """The limit of an attempt covers the callable."""

    async def test(server: WhipServer) -> None:
        source = Source(takes_s=60.0)
        begun_s = asyncio.get_running_loop().time()
        provider = whip(server, credentials=source, first_media_s=0.1)
        feed, _ = canned_feed(Kind.AUDIO)
        try:
            async with asyncio.timeout(5.0):
                with pytest.raises(Unreachable, match="Connection timeout"):
                    await provider.start_stream("show", feed)
            assert asyncio.get_running_loop().time() - begun_s < 2.0
        finally:
            await provider.aclose()
            await feed.aclose()
        assert server.seen == []

    with_server(test)


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_credential_is_asked_for_anew_by_the_next_attempt(status: int) -> None:
    """Whoever caches credentials has to know that this one was not taken."""
    source = Source()

    async def test(server: WhipServer) -> None:
        async def intercept(request: web.Request) -> web.StreamResponse | None:
            return web.Response(status=status) if request.method == "POST" else None

        server.intercept = intercept
        provider, (feed, _) = whip(server, credentials=source), canned_feed(Kind.AUDIO)
        try:
            for _ in range(2):
                with pytest.raises(CredentialsRejected) as caught:
                    await provider.start_stream("show", feed)
                assert "publisher-" not in str(caught.value)
        finally:
            await provider.aclose()
            await feed.aclose()

    with_server(test)

    assert [each.renew for each in source.asked] == [False, True]
