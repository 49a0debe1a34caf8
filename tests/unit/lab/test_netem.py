"""hitless.lab.netem"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from relay_stage import BEARER, OFFER, SDP, TOKEN, on_stage
from yarl import URL

from hitless.lab import netem
from hitless.lab.path import with_candidate
from hitless.lab.wire import TOKEN_ENV


# --- Requests ---


def test_a_request_passes_whole_and_its_answer_with_our_addresses():
    """Method, path, query, body and headers; repeated headers; Location and JSON rewritten."""

    async def what(here):
        url = here.relay.urls["agora"]
        headers = {"Authorization": "Bearer whip", "X-One": "1", "Content-Type": "text/plain"}
        at = URL(url + "/echo?a=%2F&b", encoded=True)
        async with here.session.patch(at, data=b"\xff\0x", headers=headers) as r:
            told = (r.status, await r.read(), r.headers.getall("Link"), r.headers["Location"])
        async with here.session.get(url + "/list") as r:
            listed = await r.json()
        return url, here.far, told, listed

    url, far, told, listed = on_stage(what)

    method, path, headers = far.seen[0]
    assert ("PATCH", "/echo?a=%2F&b") == (method, path)
    assert "Bearer whip" == headers["Authorization"]
    assert "text/plain" == headers["Content-Type"]
    assert (207, b"\xff\0x", ["<stun:a>", "<stun:b>"], url + "/x?y=1") == told
    assert {"url": url + "/whip/{stream}", "other": far.url + "9/x"} == listed


def test_candidates_that_come_later_do_not_pass_either():
    """A trickling client, or one that answers a counter-offer, is found by its checks."""

    async def what(here):
        url = here.relay.urls["agora"] + "/echo"
        async with here.session.patch(url, data=OFFER, headers=SDP) as response:
            return await response.text(), here.line.as_json()["paths"]

    sdp, paths = on_stage(what)

    assert with_candidate(OFFER, None) == sdp
    assert 0 == paths


def test_a_refused_offer_leaves_no_path():
    """A viewer that asks twenty times a second must not eat the ports."""

    async def what(here):
        url = here.relay.urls["agora"] + "/busy"
        for _ in range(5):
            async with here.session.post(url, data=OFFER, headers=SDP) as response:
                assert (409, "1") == (response.status, response.headers["Retry-After"])
        return here.line.as_json()["paths"]

    assert 0 == on_stage(what)


def test_down_accepts_connections_and_answers_when_the_network_is_back():
    """New ones stall and old ones stall; a client that leaves is not passed on later."""

    async def what(here):
        loop = asyncio.get_running_loop()
        url = here.relay.urls["agora"] + "/echo"
        async with here.session.get(url) as response:
            assert 207 == response.status
        here.relay.change("*", down=True)
        kept = asyncio.create_task(here.session.get(url))
        async with aiohttp.ClientSession() as other:
            with pytest.raises(TimeoutError):
                await other.get(url, timeout=aiohttp.ClientTimeout(total=0.2))
            began_s = loop.time()
            stalled = asyncio.create_task(other.get(url))
            await asyncio.sleep(0.2)
            assert not kept.done()
            assert not stalled.done()
            here.relay.change("*", down=False)
            for task in (kept, stalled):
                async with await task as response:
                    assert 207 == response.status
        return loop.time() - began_s, len(here.far.seen)

    took_s, passed = on_stage(what)

    assert took_s >= 0.2
    assert 3 == passed


def test_an_answer_that_comes_while_down_stalls_too():
    """The upstream has answered; the client does not hear of it before the network is back."""

    async def what(here):
        here.relay.change("agora", delay_s_max=0.0)
        url = here.relay.urls["agora"] + "/echo"
        here.far.hangs = True
        asking = asyncio.create_task(here.session.get(url))
        await asyncio.sleep(0.1)
        here.relay.change("agora", down=True)
        await asyncio.sleep(0.1)
        assert not asking.done()
        asking.cancel()
        await asyncio.wait({asking})
        await asyncio.sleep(0.1)
        return here.line._requests

    assert 0 == on_stage(what)


def test_an_upstream_that_is_dead_is_a_connection_that_is_cut():
    """No answer is invented: a 502 would be a provider that answers."""

    async def what(here):
        with pytest.raises(aiohttp.ClientConnectionError):
            await here.session.post(
                here.relay.urls["dead"] + "/whip/show", data=OFFER, headers=SDP
            )
        return here.relay.lines["dead"].as_json()["paths"]

    assert 0 == on_stage(what)


# --- Control ---


def test_control_changes_one_line_or_all_and_tells_the_state():
    """What is not named stays as it was."""

    async def what(here):
        first = await here.control({"target": "agora", "loss": 0.02, "delay_s_max": 0.1})
        second = await here.control({"target": "*", "down": True})
        third = await here.control({"target": "agora", "loss": 0, "down": False})
        async with here.session.get(here.relay.url + "/control", headers=BEARER) as response:
            return first, second, third, await response.json()

    first, second, third, told = on_stage(what)

    def conditions(answer, name):
        return tuple(answer["data"][name][key] for key in ("loss", "delay_s_max", "down"))

    assert (0.02, 0.1, False) == conditions(first[1], "agora")
    assert (0.0, 0.0, False) == conditions(first[1], "dead")
    assert (0.02, 0.1, True) == conditions(second[1], "agora")
    assert (0.0, 0.0, True) == conditions(second[1], "dead")
    assert (0.0, 0.1, False) == conditions(third[1], "agora")
    assert third[1] == told


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_control_without_the_token_changes_nothing(headers):
    """401, reading included."""

    async def what(here):
        status, _ = await here.control({"target": "*", "down": True}, headers)
        async with here.session.get(here.relay.url + "/control", headers=headers) as response:
            return status, response.status, here.line.conditions.down

    assert (401, 401, False) == on_stage(what)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "JSON object"),
        ({"loss": 0.1}, "target"),
        ({"target": "nobody", "loss": 0.1}, "agora, dead"),
        ({"target": ["agora"], "loss": 0.1}, "target"),
        ({"target": "agora"}, "a change"),
        ({"target": "agora", "down": True, "lost": 1}, "lost"),
        ({"target": "agora", "down": True, "loss": 1.1}, "loss"),
        ({"target": "agora", "down": True, "loss": "0.1"}, "loss"),
        ({"target": "agora", "down": True, "loss": None}, "loss"),
        ({"target": "agora", "down": True, "delay_s_max": -1}, "delay_s_max"),
        ({"target": "agora", "down": True, "delay_s_max": 11}, "10"),
        ({"target": "agora", "loss": 0.5, "down": 1}, "down"),
    ],
)
def test_control_that_makes_no_sense_is_told_so_and_changes_nothing(body, names):
    """400, naming the field."""

    async def what(here):
        return await here.control(body), here.line.conditions

    (status, told), conditions = on_stage(what)

    assert 400 == status
    assert names in told["error"]["message"]
    assert netem.Conditions() == conditions


# --- The process ---


def start(*options):
    source = str(Path(__file__).parents[3] / "src")
    return subprocess.Popen(
        [sys.executable, "-m", "hitless.lab.netem", *options],
        env={**os.environ, "PYTHONPATH": source, TOKEN_ENV: TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_process_says_where_it_listens_and_ends_soon_after_sigterm():
    """Even while it is down and somebody waits."""

    async def hold(ready):
        async with aiohttp.ClientSession() as session:
            body = {"target": "*", "down": True}
            control = ready["url"] + "/control"
            async with session.post(control, json=body, headers=BEARER) as response:
                assert 200 == response.status
            held = asyncio.create_task(session.get(ready["upstreams"]["agora"] + "/"))
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(process.wait, 2.0)
            with pytest.raises(aiohttp.ClientError):
                await held
            return code

    with start("--upstream", "agora=http://127.0.0.1:1", "--seed", "5") as process:
        ready = json.loads(process.stdout.readline())
        assert (process.pid, 5) == (ready["pid"], ready["seed"])
        assert 0 == asyncio.run(hold(ready))
        assert TOKEN not in process.stderr.read()


@pytest.mark.parametrize(
    "options", [[], ["--upstream", "x"], ["--upstream", "*=http://127.0.0.1:1"]]
)
def test_a_process_asked_for_something_impossible_says_so_in_one_line(options):
    """Exit status 2, and nothing is listening."""
    with start(*options) as process:
        out, err = process.communicate(timeout=10)

    assert (2, "", 1) == (process.returncode, out, len(err.splitlines()))
    assert "--upstream" in err
