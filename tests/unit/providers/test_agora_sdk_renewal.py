"""`Agora(view="sdk")`: a token that ends in mid-stream. The SDK in its process is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from agora_sdk_views import APP, CERTIFICATE, STAND_IN, TOKEN, agora, inner
from sdk_runs import install, run

from hitless.errors import CredentialsRejected, HitlessError, Retry, Unreachable
from hitless.providers import agora_sdk_leg, agora_token
from hitless.providers.agora import Agora
from hitless.providers.base import Expiring
from hitless.providers.credential import Access
from hitless.providers.sdk_process import SdkProcess


pytestmark = pytest.mark.realtime

Test = Callable[[Any], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the package would be installed."""
    install(monkeypatch, STAND_IN)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the new tokens that the SDK's process is given."""
    tokens: list[str] = []
    renew = SdkProcess.renew

    def keep(self: SdkProcess, token: str) -> None:
        tokens.append(token)
        renew(self, token)

    monkeypatch.setattr(SdkProcess, "renew", keep)
    return tokens


def viewing(test: Test, stream: str, **settings: Any) -> None:
    """Run a test with a view of a stream."""

    async def main() -> None:
        provider: Agora = agora(**settings)
        try:
            await test(await provider.join_stream(stream))
        finally:
            await provider.aclose()

    run(main)


def plans(*told: dict[str, Any]) -> Callable[[Access], Coroutine[Any, Any, dict[str, Any]]]:
    """Return a function that gives these plans, one after the other, and then the last again."""
    left = list(told)

    async def credentials(access: Access) -> dict[str, Any]:
        said = left.pop(0) if len(left) > 1 else left[0]
        return {"channel": access.stream, "uid": 70_001, "token": TOKEN, **said}

    return credentials


def test_a_token_that_is_renewed_keeps_the_stream(given: list[str]) -> None:
    """
    Minted for the same channel and uid; without it, the stand-in ends the stay after 0.5 s.
    """

    async def test(leg: Any) -> None:
        assert isinstance(leg, Expiring)
        assert leg.expires_s is not None
        before_s = leg.expires_s
        await asyncio.sleep(0.05)
        await leg.renew()
        assert leg.expires_s >= before_s
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await leg.lost()
        assert leg.liveness.quiet(asyncio.get_running_loop().time()) is None

    viewing(test, "expired")
    (token,) = given
    read = agora_token.read(token, CERTIFICATE)
    assert APP == read.app_id


def test_a_token_that_is_not_renewed_ends_the_stream() -> None:
    """
    What the test above would look like without its renewal.
    """

    async def test(leg: Any) -> None:
        with pytest.raises(CredentialsRejected, match="expired"):
            await leg.lost()

    viewing(test, "expired")


def test_the_new_token_is_for_who_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Another uid would be refused by Agora, or put somebody else out.
    """
    asked: list[tuple[str, int]] = []
    rtc = agora_token.rtc

    def keep(channel: str, uid: int, *more: Any) -> Any:
        asked.append((channel, uid))
        return rtc(channel, uid, *more)

    monkeypatch.setattr(agora_token, "rtc", keep)

    async def test(leg: Any) -> None:
        await leg.renew()
        await leg.renew()

    viewing(test, "show")
    assert 3 == len(asked)
    assert 1 == len(set(asked))


@pytest.mark.parametrize("moved", [{"channel": "show-8"}, {"uid": 70_002}, {"token": None}])
def test_a_plan_for_another_place_renews_nothing(moved: dict[str, Any], given: list[str]) -> None:
    """
    As after a move: another leg is opened with it.
    """

    async def test(leg: Any) -> None:
        with pytest.raises(CredentialsRejected, match="another leg") as caught:
            await leg.renew()
        assert caught.value.retry is Retry.NEXT
        assert leg.liveness.quiet(asyncio.get_running_loop().time()) is None

    viewing(test, "show", certificate=None, credentials=plans({}, moved))
    assert [] == given


def test_a_token_that_the_sdk_does_not_take_is_told_and_the_stream_goes_on() -> None:
    """
    Whoever looks after the leg tries again, and moves the stream in time.
    """

    async def test(leg: Any) -> None:
        with pytest.raises(CredentialsRejected, match="code -110") as caught:
            await leg.renew()
        assert "006" not in str(caught.value)
        await asyncio.sleep(0.3)
        assert leg.liveness.quiet(asyncio.get_running_loop().time()) is None

    viewing(test, "show", certificate=None, credentials=plans({}, {"token": "006-old"}))


def test_a_renewal_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    By a process that says nothing; and a leg that is lost meanwhile says that.
    """
    monkeypatch.setattr(agora_sdk_leg, "_RENEW_S", 0.2)
    monkeypatch.setattr(SdkProcess, "renew", lambda self, token: None)

    async def test(leg: Any) -> None:
        with pytest.raises(Unreachable, match="no answer"):
            await leg.renew()
        monkeypatch.setattr(agora_sdk_leg, "_RENEW_S", 10.0)
        trying = asyncio.ensure_future(leg.renew())
        await asyncio.sleep(0.05)
        inner(leg)._process._process.kill()
        with pytest.raises(HitlessError, match="signal 9"):
            await trying

    viewing(test, "show")
