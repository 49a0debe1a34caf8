"""hitless.lab.front: how it misbehaves when told to, and heals."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import WSMsgType
from unit.lab.front_desk import BEARER, HEALED, HEALTH, LIST, TOKEN, at_desk

from hitless.client.backend import Backend, BackendUnavailable
from hitless.core.listing import Answer
from hitless.lab import front


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}],
)
def test_a_control_call_without_the_token_changes_nothing(headers):
    """401 in the envelope, for reading too, and nothing of it reaches the server."""

    async def what(here):
        patched = await here.patch({"away": True}, headers)
        below, _ = await here.call("/control/else", headers=headers)
        read, _ = await here.call("/control", headers=headers)
        now = await here.data("/control", headers=BEARER)
        return patched, below.status, read.status, now, here.server.requests

    patched, below, read, now, requests = at_desk(what)

    assert [401, 401, 401] == [patched[0], below, read]
    assert TOKEN not in json.dumps(patched[1])
    assert (HEALED, []) == (now, requests)


def test_the_control_itself_is_never_passed_on():
    """Not by another method, nor by another way to write it: the token is in there."""

    async def what(here):
        seen = [(await here.call("/control", "POST", headers=BEARER))[0].status]
        seen.append((await here.call("/control/x", headers=BEARER))[0].status)
        seen.append((await here.call("/%63ontrol/x", headers=BEARER))[0].status)
        return seen, here.server.requests

    assert ([404, 404, 404], []) == at_desk(what)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "JSON object"),
        ([], "JSON object"),
        ({}, "nothing to change"),
        ({"slow": 1}, "'slow': known are slow_s, everything, broken, healthy, away"),
        ({"slow_s": -1}, "slow_s"),
        ({"slow_s": 61}, "60"),
        ({"slow_s": float("nan")}, "slow_s"),
        ({"everything": 1}, "everything"),
        ({"broken": "a bit"}, "broken"),
        ({"broken": []}, "broken"),
        ({"healthy": True}, "healthy"),
        ({"healthy": {"agora": "no"}}, "healthy"),
        ({"healthy": {"agora": 0}}, "healthy"),
        ({"healthy": {str(n): True for n in range(65)}}, "64"),
        ({"away": 1}, "away"),
        ({"away": "loud"}, "away"),
        (b" " * 100_000, "65536"),
    ],
)
def test_a_control_call_that_makes_no_sense_is_told_so_and_changes_nothing(body, names):
    """Naming the field, and the fields beside it are left as they were."""

    async def what(here):
        told = await here.patch({"slow_s": 1, **body} if isinstance(body, dict) and body else body)
        return told, await here.data("/control", headers=BEARER)

    (status, told), now = at_desk(what)

    assert status in (400, 413)
    assert names in told["error"]["message"]
    assert HEALED == now


def test_null_is_as_it_was_in_the_beginning():
    """Each field alone."""

    async def what(here):
        await here.tell(slow_s=1, everything=True, broken="hang", healthy={"agora": False})
        slow = await here.tell(everything=None, broken=None, healthy=None, away=None)
        return slow, await here.tell(slow_s=None)

    assert ({**HEALED, "slow_s": 1.0}, HEALED) == at_desk(what)


def test_it_breaks_in_every_way_and_heals():
    """As the client of any backend sees it: 500, bad JSON, nothing at all, and lies."""

    async def what(here):
        patient, hasty = Backend(here.url), Backend(here.url, timeout_s=0.3)
        seen = {}
        for broken in ("500", "bad-json", "hang"):
            assert broken == (await here.tell(broken=broken))["broken"]
            backend = hasty if broken == "hang" else patient
            with pytest.raises(BackendUnavailable) as caught:
                await backend.list_providers()
            check = await backend.check_health("agora")
            assert Answer.UNANSWERED is check.answer
            seen[broken] = (caught.value.because, check.because)
            assert 207 == (await here.call("/echo"))[0].status
        await here.tell(broken="lie", healthy={"agora": False})
        known = {"If-None-Match": '"1"', "Accept-Encoding": "gzip"}
        answer, body = await here.call(LIST, headers=known)
        seen["raw"] = (answer.status, "ETag" in answer.headers, json.loads(body))
        seen["lie"] = await patient.list_providers()
        seen["lied"] = await patient.check_health("agora")
        seen["unknown"] = await patient.check_health("nobody")
        here.server.providers = []
        seen["empty"] = (await here.data(LIST))["default"]
        await here.tell(broken=None)
        seen["healed"] = await here.data(LIST, headers={"Accept-Encoding": "identity"})
        await patient.aclose()
        await hasty.aclose()
        return seen

    seen = at_desk(what)

    assert ("HTTP 500", "HTTP 500") == seen["500"]
    assert ("bad JSON", "bad JSON") == seen["bad-json"]
    assert ("Connection timeout", "Connection timeout") == seen["hang"]
    status, has_etag, raw = seen["raw"]
    assert (200, False) == (status, has_etag)
    assert ["1", "2", "1", "high"] == [p["priority"] for p in raw["data"]["providers"][:4]]
    assert raw["data"]["providers"][4] is None
    assert ["agora", "zegocloud", "nowhere"] == [p.name for p in seen["lie"].providers]
    assert len(seen["lie"].warnings) >= 5
    assert Answer.HEALTHY is seen["lied"].answer
    assert "HTTP 404" == seen["unknown"].because
    assert "no-such-provider" == seen["empty"]
    assert {"providers": []} == seen["healed"]


def test_slow_holds_the_two_endpoints_back_or_everything():
    """Control calls are never slow."""

    async def what(here):
        clock = asyncio.get_running_loop().time

        async def took_s(path):
            began_s = clock()
            await here.call(path, headers=BEARER)
            return clock() - began_s

        await here.tell(slow_s=0.25)
        some = [await took_s(path) for path in (LIST, HEALTH, "/echo")]
        await here.tell(everything=True)
        every = [await took_s("/echo"), await took_s("/control")]
        await here.tell(slow_s=None)
        return some, every, await took_s(HEALTH)

    (listed, health, other), (slow, control), healed = at_desk(what)

    assert min(listed, health, slow) >= 0.25
    assert max(other, control, healed) < 0.25


def test_health_can_be_overridden_by_provider():
    """What else health says stays; null ends one override, or all."""

    async def what(here):
        first = await here.tell(healthy={"agora": False, "zegocloud": True})
        down = await here.data(HEALTH)
        here.server.status = "disabled"
        disabled = await here.data(HEALTH)
        here.server.status = "down"
        up = await here.data(LIST + "/zegocloud/health")
        here.server.status = "active"
        second = await here.tell(healthy={"agora": None})
        healed = await here.data(HEALTH)
        third = await here.tell(healthy=None)
        return first["healthy"], down, disabled, up, second["healthy"], healed, third

    first, down, disabled, up, second, healed, third = at_desk(what)

    assert {"agora": False, "zegocloud": True} == first
    assert {
        "healthy": False,
        "provider": "agora",
        "status": "down",
        "grade": "good",
    } == down
    assert (False, "disabled") == (disabled["healthy"], disabled["status"])
    assert (True, "active") == (up["healthy"], up["status"])
    assert {"zegocloud": True} == second
    assert (True, "active") == (healed["healthy"], healed["status"])
    assert HEALED == third


def test_away_drops_everything_at_once_until_it_is_back():
    """WebSockets without a close frame, answers under way, and each new request."""

    async def what(here):
        socket = await here.socket()
        drip = await here.session.get(here.url + "/drip")
        await drip.content.readany()
        assert (await here.tell(away=True))["away"] is True
        message = await socket.receive(1)
        with pytest.raises(aiohttp.ClientError):
            await drip.read()
        for path in (LIST, "/echo", "/socket"):
            with pytest.raises(aiohttp.ClientConnectionError):
                await here.call(path)
        ended = await here.ended()
        reached = len(here.server.requests)
        await here.tell(away=False)
        back = (await here.call("/echo"))[0].status
        again = await here.socket()
        await again.send_str("again")
        return message, ended, reached, back, (await again.receive(1)).data

    message, ended, reached, back, again = at_desk(what)

    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert (None, 1) == (ended, reached)  # cut
    assert (207, "again") == (back, again)


def test_silently_away_nothing_is_answered_and_what_waits_arrives_later():
    """WebSockets stay open and carry nothing."""

    async def what(here):
        socket = await here.socket()
        await here.call("/echo")
        assert "silent" == (await here.tell(away="silent"))["away"]
        waiting = [
            asyncio.create_task(here.call("/echo")),
            asyncio.create_task(here.call(LIST)),
            asyncio.create_task(socket.receive()),
        ]
        await socket.send_str("kept")
        done, _ = await asyncio.wait(waiting, timeout=0.25)
        reached = len(here.server.requests)
        await here.tell(away=False)
        (echo, _), (listed, _), message = await asyncio.gather(*waiting)
        return done, reached, (echo.status, listed.status, message.data)

    assert (set(), 2, (207, 200, "kept")) == at_desk(what)


def test_what_was_held_too_long_is_cut(monkeypatch):
    """As TCP gives up in the end, without an answer; silence can turn into away, too."""
    monkeypatch.setattr(front, "HELD_S_MAX", 0.1)

    async def what(here):
        socket = await here.socket()
        await here.tell(away="silent")
        await socket.send_str("lost")
        with pytest.raises(aiohttp.ClientConnectionError):
            await here.call("/echo")
        message = await socket.receive(1)
        monkeypatch.setattr(front, "HELD_S_MAX", 60)
        held = asyncio.create_task(here.call("/echo"))
        await asyncio.sleep(0.05)
        await here.tell(away=True)
        with pytest.raises(aiohttp.ClientConnectionError):
            await held
        return message, len(here.server.requests)

    message, reached = at_desk(what)

    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert 1 == reached
