"""The adapter for Janus: every documented code, and answers that are garbage, late or none."""

from __future__ import annotations

import asyncio
import traceback

import pytest
from unit.providers.janus_runs import (
    LIMIT_S,
    NEXT,
    SAME,
    now,
    publish_fails,
    run,
    until,
    view_fails,
)
from unit.providers.janus_stand_in import StandIn

from hitless.errors import (
    ContractBroken,
    CredentialsRejected,
    MediaLost,
    NotOnAir,
    ProviderError,
    Refused,
    Retry,
    Unreachable,
)
from hitless.providers.janus_errors import CORE, ROOM


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
