"""`Agora(view="sdk")`: views that fail, and what the SDK's process (a stand-in) may not do."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import traceback
from typing import Any

import psutil
import pytest
from agora_sdk_views import (
    APP,
    CERTIFICATE,
    STAND_IN,
    TOKEN,
    agora,
    failing,
    inner,
    planned,
    watching,
)
from sdk_runs import first, install, run, until

from hitless.errors import (
    ConfigError,
    ContractBroken,
    CredentialsRejected,
    MediaLost,
    NotOnAir,
    Retry,
)
from hitless.providers import agora_sdk_process
from hitless.providers.base import Expiring
from hitless.providers.credential import Access
from hitless.providers.expiring_legs import ExpiringViewLeg


pytestmark = pytest.mark.realtime


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the SDK would be installed."""
    install(monkeypatch, STAND_IN)


# --- Attempts that fail ---


def test_a_token_that_is_not_taken_is_renewed_once() -> None:
    """
    The first rejection asks for a fresh credential, the second one for another provider.
    """
    asked: list[bool] = []

    async def bad(access: Access) -> dict[str, Any]:
        asked.append(access.renew)
        return {"channel": access.stream, "uid": 70_001, "token": "no-token"}

    async def main() -> None:
        provider, advice = agora(credentials=bad), []
        for _ in range(2):
            with pytest.raises(CredentialsRejected, match="reason 8") as caught:
                await provider.join_stream("show")
            advice.append(caught.value.retry)
        await provider.aclose()
        assert advice == [Retry.SAME, Retry.NEXT]
        assert asked == [False, True]

    run(main)


def test_a_channel_without_a_publisher_is_not_on_air() -> None:
    """
    Joined, and nobody is there.
    """
    failing(NotOnAir, "nobody")


def test_a_publisher_who_sends_nothing_is_no_media() -> None:
    """
    Somebody is there, so it is not for want of a publisher.
    """
    error = failing(MediaLost, "mute", first_media_s=2.5)

    assert "no media came in time" in str(error)


def test_pictures_in_another_codec_lead_to_the_next_provider() -> None:
    """
    Nothing here decodes AV1.
    """
    error = failing(MediaLost, "av1")

    assert (error.retry, "(12)" in str(error)) == (Retry.NEXT, True)


def test_sound_in_another_form_than_asked_for_is_refused() -> None:
    """
    Played as it is it would be three times too fast.
    """
    assert "16000 Hz" in str(failing(ContractBroken, "mono"))


def test_an_error_of_the_sdk_is_ours_and_its_words_are_not_repeated() -> None:
    """
    What it says may hold a token; its code says enough.
    """
    for channel, error, says in (
        ("no-project", CredentialsRejected, "code 101"),
        ("broken", MediaLost, "nobody expected"),
    ):
        failed = failing(error, channel, credentials=planned)

        assert says in str(failed)
        assert TOKEN not in "".join(traceback.format_exception(failed))


def test_an_error_that_no_document_knows_is_not_believed() -> None:
    """
    Media tell whether it mattered.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        assert await first(leg, 30)

    watching(test, "odd")


def test_without_the_sdk_it_says_what_to_install(monkeypatch) -> None:
    """
    Known before anything is started.
    """
    monkeypatch.setattr(agora_sdk_process, "find_spec", lambda _: None)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", None)

    assert "pip install 'hitless[agora-sdk]'" in str(failing(ConfigError, "show"))


def test_another_package_of_that_name_is_not_the_sdk(monkeypatch, tmp_path) -> None:
    """
    It is found here and not there.
    """
    (tmp_path / "agora").mkdir()
    (tmp_path / "agora" / "__init__.py").touch()
    install(monkeypatch, tmp_path)

    assert "pip install 'hitless[agora-sdk]'" in str(failing(ConfigError, "show"))


@pytest.mark.parametrize(
    "fetches", ["urllib.request.urlretrieve('http://127.0.0.1:9/')", "os.system('rm -rf x')"]
)
def test_an_sdk_without_its_library_fetches_nothing_and_removes_nothing(
    monkeypatch, tmp_path, fetches
) -> None:
    """
    What the package does to an old or missing library when it is imported is refused.
    """
    (tmp_path / "agora").mkdir()
    (tmp_path / "agora" / "__init__.py").write_text(f"import os, urllib.request\n{fetches}\n")
    install(monkeypatch, tmp_path)

    assert "native library is missing" in str(failing(ConfigError, "show"))


def test_a_process_that_talks_nonsense_is_not_believed(monkeypatch, tmp_path) -> None:
    """
    A message of 4 GiB is not waited for.
    """
    (tmp_path / "nonsense.py").write_text(
        "import sys\n"
        "sys.stdout.buffer.write(b'\\xff' * 100)\n"
        "sys.stdout.flush()\n"
        "sys.stdin.read()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(agora_sdk_process, "_WORKER", "nonsense")

    failing(ContractBroken, "show")


def test_a_join_that_is_given_up_leaves_nothing() -> None:
    """
    Cancelled while the process starts, and while it waits for media.
    """

    async def main() -> None:
        provider, others = agora(), set(psutil.Process().children())
        for after_s in (0.02, 1.0):
            joining = asyncio.create_task(provider.join_stream("mute"))
            await asyncio.sleep(after_s)
            joining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await joining
        assert set(psutil.Process().children()) <= others
        await provider.aclose()

    run(main)


def test_a_way_of_viewing_that_is_none_is_refused() -> None:
    """
    At once, and by name.
    """
    with pytest.raises(ConfigError, match="view = 'web'"):
        agora(view="web")


# --- What it may do to us ---


def test_secrets_go_through_the_pipe_and_nowhere_else(monkeypatch) -> None:
    """
    Not the arguments, nor the environment, nor a repr, nor an error shows one.
    """
    monkeypatch.setenv("AGORA_CERTIFICATE", CERTIFICATE)

    async def main() -> None:
        provider = agora(credentials=planned)
        leg = await provider.join_stream("show")
        child = psutil.Process(inner(leg).pid)
        seen = f"{child.cmdline()} {child.environ()} {leg!r} {inner(leg)!r} {vars(inner(leg))!r}"
        os.kill(child.pid, signal.SIGKILL)
        try:
            await leg.lost()
        except MediaLost as exc:
            seen += "".join(traceback.format_exception(exc))
        await provider.aclose()

        assert "MediaLost" in seen
        assert "PATH" in seen
        assert [secret for secret in (TOKEN, CERTIFICATE, "70001") if secret in seen] == []

    run(main)


def test_the_sdk_is_never_in_our_process() -> None:
    """
    It switches off TLS verification in the one that imports it; in ours it is on.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        await first(leg, 3)

    watching(test, "show")

    assert [name for name in sys.modules if name.split(".")[0] == "agora"] == []
    assert ssl._create_default_https_context is ssl.create_default_context


def test_the_process_ends_with_the_viewer(tmp_path) -> None:
    """
    A viewer that is killed says no goodbye: the end of the pipe says it.
    """
    viewer = tmp_path / "viewer.py"
    viewer.write_text(
        "import asyncio\n"
        "from hitless.providers.agora import Agora\n"
        "async def main():\n"
        f"    provider = Agora(app_id={APP!r}, certificate={CERTIFICATE!r}, view='sdk')\n"
        "    leg = (await provider.join_stream('never-leaves')).leg\n"
        "    print(leg.pid, leg._process._folder, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, viewer], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            pid, folder = process.stdout.readline().split()
            assert psutil.pid_exists(int(pid))
        finally:
            process.kill()

    async def main() -> None:
        await until(lambda: not psutil.pid_exists(int(pid)), 5.0)
        assert not os.access(folder, os.F_OK)

    run(main)


def test_the_leg_says_when_its_token_ends() -> None:
    """
    So that it is replaced in time: what is minted lasts for hours, of a plan's nothing is known.
    """

    async def test(leg: ExpiringViewLeg) -> None:
        assert isinstance(leg, Expiring)
        assert leg.expires_s is not None
        assert leg.expires_s > asyncio.get_running_loop().time() + 3600

    watching(test, "show")
