"""`LiveKit(media="sdk")`: how legs end, and attempts that fail. The package is a stand-in."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import psutil
import pytest
from canned_media import canned_feed
from livekit_sdk_runs import STAND_IN, by_sdk, failing, using, watching
from sdk_runs import CLOSED_S, install, leaving_s, until

from hitless.errors import (
    ConfigError,
    CredentialsRejected,
    MediaLost,
    NotOnAir,
    Refused,
    Retry,
    Unreachable,
)
from hitless.media.frame import Kind
from hitless.providers import livekit_sdk_legs
from hitless.providers.base import ViewLeg
from hitless.providers.livekit import LiveKit


pytestmark = pytest.mark.realtime


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the package would be installed."""
    install(monkeypatch, STAND_IN)


# --- In mid-stream ---


@pytest.mark.parametrize(
    ("room", "error", "says", "answered"),
    [
        ("reconnects", MediaLost, "reconnecting is not waited for", False),
        ("removed", Refused, "put out", True),
        ("doubled", MediaLost, "same identity", True),
        ("leaves", MediaLost, "is gone", False),
        ("panics", MediaLost, "signal 15", False),
    ],
)
def test_what_the_package_tells_in_mid_stream_is_our_error(
    room: str, error: type[BaseException], says: str, answered: bool
) -> None:
    """
    Its own reconnecting is overruled: the leg is over, and whoever owns it decides.
    """

    async def test(leg: ViewLeg) -> None:
        with pytest.raises(error, match=says) as caught:
            await leg.lost()
        assert caught.value.answered is answered
        assert caught.value.retry is Retry.NEXT
        assert await leaving_s(leg) < CLOSED_S

    watching(test, room)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_stands_still_cannot_hold_us(how: signal.Signals) -> None:
    """
    `kill -9` is a loss, SIGSTOP a silence, for both directions; leaving ends what is left.
    """

    async def main(provider: LiveKit) -> None:
        feed, _ = canned_feed()
        legs = [await provider.start_stream("show", feed), await provider.join_stream("show")]
        clock = asyncio.get_running_loop().time
        for leg in legs:
            pid = leg.pid
            os.kill(pid, how)
            if how == signal.SIGKILL:
                with pytest.raises(MediaLost, match="signal 9"):
                    await leg.lost()
            else:
                await until(lambda leg=leg: leg.liveness.quiet(clock()))
            assert await leaving_s(leg) < CLOSED_S
            await until(lambda pid=pid: not psutil.pid_exists(pid))
        await feed.aclose()

    using(main)


def test_a_package_that_does_not_leave_cannot_hold_a_leave() -> None:
    """
    `disconnect` hangs: the process ends without it.
    """

    async def test(leg: Any) -> None:
        folder = leg._process._folder
        assert await leaving_s(leg) < CLOSED_S
        await until(lambda: not psutil.pid_exists(leg.pid))
        assert not os.access(folder, os.F_OK)

    watching(test, "never-leaves")


# --- Attempts that fail ---


def test_a_token_that_is_not_taken_leads_to_the_next_provider() -> None:
    """
    The package's words repeat the token; ours do not.
    """
    error = failing(CredentialsRejected, "denied")

    assert error.retry is Retry.NEXT
    assert "eyJ" not in str(error)


@pytest.mark.parametrize("room", ["away", "hangs"])
def test_a_server_that_does_not_answer_is_unreachable(room: str) -> None:
    """
    By our clock, where the package has none.
    """
    assert failing(Unreachable, room, first_media_s=4.0).answered is False


def test_a_room_without_a_publisher_is_not_on_air() -> None:
    """
    Joined, and nobody is there.
    """
    failing(NotOnAir, "nobody")


def test_a_package_that_is_missing_or_broken_is_named(monkeypatch, tmp_path) -> None:
    """
    With what to install.
    """
    (tmp_path / "livekit" / "rtc").mkdir(parents=True)
    (tmp_path / "livekit" / "rtc" / "__init__.py").write_text("raise ImportError('no library')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "cannot be loaded" in str(failing(ConfigError, "show"))

    monkeypatch.setattr(livekit_sdk_legs, "find_spec", lambda _: None)
    assert "pip install 'hitless[livekit-sdk]'" in str(failing(ConfigError, "show"))


def test_an_attempt_that_is_given_up_leaves_nothing() -> None:
    """
    Cancelled while the process starts, and while it waits for an answer.
    """

    async def main(provider: LiveKit) -> None:
        others = set(psutil.Process().children())
        feed, _ = canned_feed(Kind.AUDIO)
        for after_s in (0.02, 1.0):
            for work in (provider.join_stream("hangs"), provider.start_stream("hangs", feed)):
                trying = asyncio.ensure_future(work)
                await asyncio.sleep(after_s)
                trying.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await trying
        await feed.aclose()
        assert set(psutil.Process().children()) <= others

    using(main)


def test_a_way_that_is_none_is_refused() -> None:
    """
    At once, and by name.
    """
    with pytest.raises(ConfigError, match="media = 'web'"):
        by_sdk(media="web")


def test_the_package_and_its_token_are_in_the_process_alone() -> None:
    """
    The token goes through the pipe: no argument, environment or repr shows it.
    """

    async def test(leg: Any) -> None:
        child = psutil.Process(leg.pid)
        seen = f"{child.cmdline()} {child.environ()} {leg!r} {vars(leg)!r}"
        assert "PATH" in seen
        assert "eyJ" not in seen
        assert "livekit.rtc" not in sys.modules

    watching(test, "show")
