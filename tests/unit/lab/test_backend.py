"""hitless.lab.backend"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hitless.client.backend import Backend, BackendUnavailable
from hitless.core.listing import Answer
from hitless.lab.backend import LabBackend
from hitless.lab.wire import TOKEN_ENV, listening


TOKEN = "lab-token-1234"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ADMIN = "/admin/providers/agora"


class Stand:
    """A stand-in's `GET /health`, as far as the backend sees it."""

    def __init__(self):
        self.status, self.body, self.hangs = 200, {"healthy": True}, False

    async def health(self, request):
        if self.hangs:
            await asyncio.sleep(60)
        return web.json_response(self.body, status=self.status)


class Desk:
    """Calls on a running backend."""

    def __init__(self, session, url, stand):
        self.session, self.url, self.stand = session, url, stand

    async def get(self, path):
        async with self.session.get(self.url + path) as response:
            return response.status, json.loads(await response.read())

    async def patch(self, path, body, headers=BEARER):
        data = body if isinstance(body, bytes) else json.dumps(body)
        async with self.session.patch(self.url + path, data=data, headers=headers) as response:
            return response.status, json.loads(await response.read())

    async def order(self):
        _, body = await self.get("/streaming/providers")
        return [entry["name"] for entry in body["data"]["providers"]]


@asynccontextmanager
async def desk():
    stand = Stand()
    app = web.Application()
    app.router.add_get("/health", stand.health)
    stand_runner, stand_url = await listening(app, 0)
    backend = LabBackend(
        {"agora": stand_url, "zegocloud": "http://127.0.0.1:1", "webrtc": stand_url}, token=TOKEN
    )
    runner, url = await listening(backend.app(), 0)
    try:
        async with aiohttp.ClientSession() as session:
            yield Desk(session, url, stand)
    finally:
        await runner.cleanup()
        await stand_runner.cleanup()


def at_desk(what):
    async def main():
        async with desk() as here:
            return await what(here)

    return asyncio.run(main())


# --- The two endpoints ---


def test_the_list_has_exactly_the_shape_of_the_design():
    """Four fields an entry, a public config, and no default until there is one."""

    async def what(here):
        async with here.session.get(here.url + "/streaming/providers") as response:
            server = response.headers["Server"]
        return await here.get("/streaming/providers"), server

    (status, body), server = at_desk(what)

    first = body["data"]["providers"][0]
    base = first["config"]["url"].removesuffix("/whip/{stream}")
    assert 200 == status
    assert {"success", "data"} == set(body)
    assert body["success"] is True
    assert {"providers"} == set(body["data"])
    assert {
        "name": "agora",
        "isActive": True,
        "priority": 1,
        "config": {
            "url": base + "/whip/{stream}",
            "adapter": "whip",
            "view_url": base + "/whep/{stream}",
        },
    } == first
    assert [1, 2, 3] == [entry["priority"] for entry in body["data"]["providers"]]
    assert "not for production" in server


def test_health_is_what_the_stand_in_says_just_now():
    """Well, then not, then not even answering; nobody there is down."""

    async def what(here):
        told = [(await here.get("/streaming/providers/agora/health"))[1]["data"]]
        here.stand.body = {"healthy": "yes"}
        told.append((await here.get("/streaming/providers/agora/health"))[1]["data"])
        here.stand.status = 503
        told.append((await here.get("/streaming/providers/agora/health"))[1]["data"])
        here.stand.hangs = True
        began_s = asyncio.get_running_loop().time()
        told.append((await here.get("/streaming/providers/agora/health"))[1]["data"])
        took_s = asyncio.get_running_loop().time() - began_s
        told.append((await here.get("/streaming/providers/zegocloud/health"))[1]["data"])
        return told, took_s

    told, took_s = at_desk(what)

    assert {"healthy": True, "provider": "agora", "status": "active"} == told[0]
    assert [{"healthy": False, "provider": "agora", "status": "down"}] * 3 == told[1:4]
    assert {"healthy": False, "provider": "zegocloud", "status": "down"} == told[4]
    assert 0.9 <= took_s < 3.0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/streaming/providers/nobody/health", 404),
        ("/streaming/providers/a%2Fb/health", 404),
        ("/nothing", 404),
        ("/admin/backend", 401),
        ("/admin", 401),
    ],
)
def test_what_is_not_there_is_an_error_in_the_envelope(path, status):
    """`success: false`, a code and a message."""
    got, body = at_desk(lambda here: here.get(path))

    assert status == got
    assert body["success"] is False
    assert {"code", "message"} == set(body["error"])


def test_the_client_of_any_backend_reads_it():
    """Both ends of the two endpoints agree."""

    async def what(here):
        backend = Backend(here.url)
        got = await backend.list_providers()
        checks = [await backend.check_health(p.name) for p in got.providers]
        unknown = await backend.check_health("nobody")
        await backend.aclose()
        return got, checks, unknown

    got, checks, unknown = at_desk(what)

    assert ["agora", "zegocloud", "webrtc"] == [p.name for p in got.providers]
    assert () == got.warnings
    assert [Answer.HEALTHY, Answer.UNHEALTHY, Answer.HEALTHY] == [c.answer for c in checks]
    assert (Answer.WARNING, "HTTP 404") == (unknown.answer, unknown.because)


# --- Changing what it says ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer ünïcode"},
    ],
)
def test_an_admin_call_without_the_token_changes_nothing(headers):
    """401 in the envelope, on paths that exist and on paths that do not."""

    async def what(here):
        return (
            await here.patch(ADMIN, {"isActive": False}, headers),
            await here.patch("/admin/else", {"isActive": False}, headers),
            await here.get("/streaming/providers"),
        )

    changed, unknown, (_, body) = at_desk(what)

    assert 401 == changed[0] == unknown[0]
    assert changed[1]["success"] is False
    assert TOKEN not in json.dumps(changed[1])
    assert body["data"]["providers"][0]["isActive"] is True


def test_active_priority_default_and_health_can_be_changed():
    """And health back to what the stand-in says, by null."""

    async def what(here):
        assert 200 == (await here.patch(ADMIN, {"isActive": False, "priority": 9}))[0]
        order = await here.order()
        disabled = await here.get("/streaming/providers/agora/health")
        await here.patch("/admin/providers/webrtc", {"default": True, "healthy": False})
        listed = await here.get("/streaming/providers")
        unhealthy = await here.get("/streaming/providers/webrtc/health")
        await here.patch(ADMIN, {"default": False})
        still = await here.get("/streaming/providers")
        await here.patch("/admin/providers/webrtc", {"default": False, "healthy": None})
        healed = await here.get("/streaming/providers/webrtc/health")
        return (
            order,
            disabled,
            listed,
            unhealthy,
            still,
            healed,
            await here.get("/streaming/providers"),
        )

    order, disabled, listed, unhealthy, still, healed, bare = at_desk(what)

    assert ["zegocloud", "webrtc", "agora"] == order
    assert "disabled" == disabled[1]["data"]["status"]
    assert "webrtc" == listed[1]["data"]["default"] == still[1]["data"]["default"]
    assert listed[1]["data"]["providers"][2]["isActive"] is False
    assert {"healthy": False, "provider": "webrtc", "status": "down"} == unhealthy[1]["data"]
    assert healed[1]["data"]["healthy"] is True
    assert "default" not in bare[1]["data"]


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        (ADMIN, b"{", "JSON object"),
        (ADMIN, b"", "JSON object"),
        (ADMIN, b"[" * 5_000, "JSON object"),
        (ADMIN, [], "JSON object"),
        (ADMIN, {}, "nothing to change"),
        (ADMIN, {"active": True}, "isActive"),
        (ADMIN, {"isActive": "true"}, "isActive"),
        (ADMIN, {"isActive": None}, "isActive"),
        (ADMIN, {"isActive": False, "priority": "1"}, "priority"),
        (ADMIN, {"isActive": False, "priority": True}, "priority"),
        (ADMIN, {"isActive": False, "priority": 1e9}, "priority"),
        (ADMIN, {"isActive": False, "default": None}, "default"),
        (ADMIN, {"isActive": False, "healthy": "no"}, "healthy"),
        ("/admin/backend", {"slow": 1}, "slow_s"),
        ("/admin/backend", {"slow_s": -1}, "slow_s"),
        ("/admin/backend", {"slow_s": 61}, "60"),
        ("/admin/backend", {"slow_s": float("nan")}, "slow_s"),
        ("/admin/backend", {"broken": "a bit"}, "bad-json"),
        ("/admin/backend", {"broken": True}, "bad-json"),
        ("/admin/backend", {"broken": []}, "bad-json"),
    ],
)
def test_an_admin_call_that_makes_no_sense_is_told_so_and_changes_nothing(path, body, names):
    """400, naming the field, and the fields beside it are left as they were."""

    async def what(here):
        return await here.patch(path, body), await here.get("/streaming/providers")

    (status, told), (_, listed) = at_desk(what)

    assert 400 == status
    assert names in told["error"]["message"]
    assert listed["data"]["providers"][0]["isActive"] is True


def test_a_body_too_large_is_refused():
    """64 KiB is plenty for an admin call."""
    status, body = at_desk(lambda here: here.patch(ADMIN, b" " * 100_000))

    assert (413, False) == (status, body["success"])


def test_it_breaks_in_every_way_and_heals():
    """As the client sees it: 500, bad JSON, nothing at all, slow, and lies."""

    async def what(here):
        patient, hasty = Backend(here.url), Backend(here.url, timeout_s=0.3)
        seen = {}
        for broken in ("500", "bad-json", "hang"):
            await here.patch("/admin/backend", {"broken": broken})
            backend = hasty if broken == "hang" else patient
            with pytest.raises(BackendUnavailable) as caught:
                await backend.list_providers()
            check = await backend.check_health("agora")
            assert Answer.UNANSWERED is check.answer
            seen[broken] = (caught.value.because, check.because)
        await here.patch("/admin/backend", {"broken": "lie"})
        seen["lie"] = await patient.list_providers()
        here.stand.status = 503
        seen["lied"] = await patient.check_health("agora")
        await here.patch("/admin/backend", {"broken": None, "slow_s": 0.2})
        seen["slow"] = await patient.check_health("agora")
        await here.patch("/admin/backend", {"slow_s": None})
        seen["healed"] = await patient.check_health("agora")
        await patient.aclose()
        await hasty.aclose()
        return seen

    seen = at_desk(what)

    assert ("HTTP 500", "HTTP 500") == seen["500"]
    assert ("bad JSON", "bad JSON") == seen["bad-json"]
    assert ("Connection timeout", "Connection timeout") == seen["hang"]
    names = [p.name for p in seen["lie"].providers]
    assert ["agora", "zegocloud", "webrtc", "nowhere"] == names
    assert len(seen["lie"].warnings) >= 5
    assert Answer.HEALTHY is seen["lied"].answer
    assert Answer.UNHEALTHY is seen["slow"].answer
    assert seen["slow"].latency_s >= 0.2
    assert seen["healed"].latency_s < seen["slow"].latency_s


# --- The process ---


def start(*options, token=TOKEN, module="hitless.lab.backend"):
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    environ.pop(TOKEN_ENV, None)
    if token:
        environ[TOKEN_ENV] = token
    return subprocess.Popen(
        [sys.executable, "-m", module, *options],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_process_says_where_it_listens_and_ends_soon_after_sigterm():
    """Even while somebody waits for an answer that never comes."""

    async def hold(url):
        async with aiohttp.ClientSession() as session:
            admin = url + "/admin/backend"
            async with session.patch(admin, json={"broken": "hang"}, headers=BEARER) as answer:
                assert 200 == answer.status
            held = asyncio.create_task(session.get(url + "/streaming/providers"))
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(process.wait, 2.0)
            with pytest.raises(aiohttp.ClientError):
                await held
            return code

    with start("--provider", "agora=http://127.0.0.1:1") as process:
        ready = json.loads(process.stdout.readline())
        assert process.pid == ready["pid"]
        assert 0 == asyncio.run(hold(ready["url"]))
        log = process.stderr.read()

    assert "not for production" in log
    assert TOKEN not in log


@pytest.mark.parametrize(
    ("options", "token", "says"),
    [
        ([], TOKEN, "--provider"),
        (["--provider", "agora"], TOKEN, "NAME=http://127.0.0.1:PORT"),
        (["--provider", "a=https://example.com"], TOKEN, "NAME=http://127.0.0.1:PORT"),
        (["--provider", "a=http://127.0.0.1:1"] * 2, TOKEN, "a is given twice"),
        (["--provider", "a=http://127.0.0.1:1"], "", TOKEN_ENV),
        (["--provider", "a=http://127.0.0.1:1", "--port", "99999"], TOKEN, "port 99999"),
    ],
)
def test_a_process_asked_for_something_impossible_says_so_in_one_line(options, token, says):
    """Exit status 2, and nothing is listening."""
    with start(*options, token=token) as process:
        out, err = process.communicate(timeout=10)

    assert (2, "") == (process.returncode, out)
    assert says in err
    assert 1 == len(err.splitlines())
