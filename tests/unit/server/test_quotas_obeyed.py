"""Starts, moves and fleet moves obey what providers may be given; over a real store."""

import asyncio

import pytest
from unit.server.api import NAMES, Api, whip

from hitless.core.agreement import By
from hitless.server import quotas as module
from hitless.server.fleet_orders import Order
from hitless.server.keys import KeyRole


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

AGORA = {
    "adapter": "agora",
    "config": {"app_id": "970CA35de60c44645bbae8a215061b33"},
    "secrets": {"certificate": "5CFd2fd1755d40ecb72977518be15d3b"},
}


RTMP = {"adapter": "rtmp", "config": {"url": "rtmp://127.0.0.1:9/live/{stream}"}}
"""Of H.264 and AAC alone."""


@pytest.fixture
def api(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_S", 0.0)
    with Api(tmp_path / "hitless.db") as api:
        yield api


def limited(api, name="one", **config):
    """Limit a provider of the API."""
    whole = {**whip(name)["config"], **config}
    api.call("PATCH", f"/v1/admin/providers/{name}", {"config": whole})


async def start(api, stream):
    """Start a stream, inside the API's loop, and return its plan."""
    body = {"stream": stream, "client": f"of {stream}"}
    answer = await api.ask("POST", "/v1/start", body, key=KeyRole.CLIENT)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def live(api, stream):
    """Start a stream that has media at once."""
    plan = await start(api, stream)
    await api.node.store.streams.confirm(stream, plan["epoch"], plan["provider"])


def test_a_start_goes_past_a_provider_that_is_full_and_says_so(api):
    """
    In the plan and in the stream's own words; who is there stays there.
    """
    limited(api, max_streams=1)

    first, second = api.publish("first"), api.publish("second", client="other")
    again = api.publish("first")
    shown = api.call("GET", "/v1/stream?stream=second")
    api.call("POST", "/v1/admin/end", {"stream": "first"})
    api.run(api.node.refresh())
    third = api.publish("third", client="third")

    assert (first["provider"], second["provider"], again["provider"]) == ("one", "two", "one")
    assert second["order"] == ["two", "one"]
    assert again["order"][0] == "one"
    assert second["because"] == "a start was asked for; one is full: 1 of 1 streams"
    assert shown["because"] == second["because"]
    assert third["provider"] == "one"


def test_many_that_start_at_once_are_counted_one_by_one(api):
    """
    None of them is in the store yet when the others are placed.
    """
    limited(api, max_streams=3)

    async def main():
        plans = await asyncio.gather(*(start(api, f"s{n}") for n in range(8)))
        return [plan["provider"] for plan in plans]

    assert sorted(api.run(main())) == ["one"] * 3 + ["two"] * 5


def test_a_start_reads_nothing_more_because_of_limits(api, monkeypatch):
    """
    What is carried is read once a second, not by each start.
    """
    reads = []
    read = api.database.read

    async def counted(text, *args):
        reads.append(text)
        return await read(text, *args)

    monkeypatch.setattr(api.database, "read", counted, raising=False)
    api.publish("first")
    without = len(reads)
    reads.clear()
    limited(api, max_streams=1)
    reads.clear()
    api.publish("second", client="other")

    assert len(reads) == without


def test_an_operator_s_move_goes_where_there_is_room_and_whoever_is_full_is_refused(api):
    """
    With the number; a target that nobody named is one that viewers can open, too.
    """
    limited(api, "two", max_streams=1)
    api.call("POST", "/v1/admin/providers/three", whip("three"), status=201)
    api.publish("show")
    api.publish("other", client="c")
    api.call("POST", "/v1/admin/move", {"stream": "other", "provider": "two"})

    refused = api.call("POST", "/v1/admin/move", {"stream": "show", "provider": "two"}, status=409)
    api.call("POST", "/v1/admin/move", {"stream": "show"})

    assert refused["code"] == "full"
    assert "two is full: 1 of 1 streams" in refused["message"]
    assert api.call("GET", "/v1/stream?stream=show")["provider"] == "three"


def test_where_nobody_has_room_or_can_be_opened_it_is_told_of_each(api):
    """
    A move never picks such a provider.
    """
    limited(api, "two", max_streams=1)
    api.publish("show")
    api.publish("other", client="c")
    api.call("POST", "/v1/admin/move", {"stream": "other", "provider": "two"})
    body = {**AGORA, "priority": 9}
    api.call("POST", "/v1/admin/providers/agora", body, status=201)
    api.watch("show", adapters=["whip"])

    refused = api.call("POST", "/v1/admin/move", {"stream": "show"}, status=409)

    assert "two is full" in refused["message"]
    assert "1 of 1 viewers cannot open agora" in refused["message"]


def test_a_move_that_nobody_aimed_goes_to_another_fault_domain_first(api):
    """
    What breaks one may break the other.
    """
    limited(api, "one", fault_domain="rack")
    limited(api, "two", fault_domain="rack")
    api.call("POST", "/v1/admin/providers/three", whip("three"), status=201)
    api.publish("show")

    api.call("POST", "/v1/admin/move", {"stream": "show"})

    assert api.call("GET", "/v1/stream?stream=show")["provider"] == "three"


@pytest.mark.parametrize(("config", "moving"), [({}, 50), ({"max_streams": 10**9}, 60)])
def test_a_fleet_move_gives_an_account_no_more_than_its_record_says(api, config, moving):
    """
    Agora takes 50 ingest streams by default; a row may say otherwise.
    """
    body = {**AGORA, "config": {**AGORA["config"], **config}}
    api.call("POST", "/v1/admin/providers/agora", body, status=201)
    api.call("PATCH", f"/v1/admin/providers/{NAMES[1]}", {"is_active": False})

    async def main():
        for n in range(60):
            await live(api, f"s{n}")
        return await api.node.orders.order(
            Order(source="one", by=By.OPERATOR, who="k", because="a test")
        )

    ordered = api.run(main())
    assert (ordered.moving, ordered.staying) == (moving, 60 - moving)


def test_a_move_that_can_go_nowhere_says_why_of_each(api):
    """
    Not only that there is nobody.
    """
    limited(api, "two", max_streams=1)
    api.publish("other", client="c")
    api.call("POST", "/v1/admin/move", {"stream": "other", "provider": "two"})

    api.call("POST", "/v1/admin/providers/three", whip("three", is_active=False), status=201)
    api.run(live(api, "show"))

    refused = api.call("POST", "/v1/admin/move", {"source": "one"}, status=409)

    assert "two: full: 1 of 1 streams" in refused["message"]
    assert "three: it is disabled" in refused["message"]


def test_a_move_never_picks_what_the_publisher_cannot_open(api):
    """
    Neither by itself nor when an operator names it; it says why.
    """
    api.call("PATCH", "/v1/admin/providers/two", {"is_active": False})
    api.call("POST", "/v1/admin/providers/agora", {**AGORA, "priority": 9}, status=201)
    api.publish("show", adapters=["whip"])

    for aimed in ({}, {"provider": "agora"}):
        refused = api.call("POST", "/v1/admin/move", {"stream": "show", **aimed}, status=409)
        assert "its publisher cannot open agora" in refused["message"]
    assert api.call("GET", "/v1/stream?stream=show")["provider"] == "one"


def test_a_publisher_that_was_replaced_holds_no_move_up(api):
    """
    It is fenced, and its row is forgotten only later.
    """
    api.call("PATCH", "/v1/admin/providers/two", {"is_active": False})
    api.call("POST", "/v1/admin/providers/agora", {**AGORA, "priority": 9}, status=201)
    api.publish("show", adapters=["whip"])
    api.publish("show", client="another", adapters=["whip", "agora"])

    api.call("POST", "/v1/admin/move", {"stream": "show", "provider": "agora"})
    assert api.call("GET", "/v1/stream?stream=show")["provider"] == "agora"


def test_a_move_that_codecs_forbid_says_so_with_the_number(api):
    """
    Of viewers, and of the publisher; who declares no codec of a kind can open any of it.
    """
    for name in ("rtmp", "spare"):
        api.call("POST", f"/v1/admin/providers/{name}", RTMP, status=201)
    api.publish("show")
    api.watch("show", codecs=["vp8", "OPUS"])
    api.watch("show", client="box", codecs=["H264"])
    api.watch("show", client="tv", adapters=["whip"])
    aimed = {"stream": "show", "provider": "rtmp"}

    refused = api.call("POST", "/v1/admin/move", aimed, status=409)
    api.publish("show", codecs=["VP8", "opus"])
    again = api.call("POST", "/v1/admin/move", aimed, status=409)
    api.call("PATCH", "/v1/admin/providers/two", {"is_active": False})
    unaimed = api.call("POST", "/v1/admin/move", {"stream": "show"}, status=409)

    assert refused["code"] == again["code"] == "unreachable"
    assert refused["message"].startswith(
        "2 of 3 viewers cannot open rtmp, 1 for want of codecs: adapter rtmp carries H264, AAC"
    )
    why = "its publisher cannot open rtmp for want of codecs: adapter rtmp carries H264, AAC"
    assert again["message"] == why
    assert why in unaimed["message"]
    assert "cannot open spare" in unaimed["message"]


def test_who_knows_no_codec_of_a_provider_is_not_sent_there(api):
    """
    Neither to start nor to fall back on it; where nobody is left, it is said why.
    """
    api.call("POST", "/v1/admin/providers/rtmp", RTMP, status=201)
    api.call("PATCH", "/v1/admin/providers/rtmp", {"is_default": True})

    box = api.publish("box", codecs=["H264", "AAC"])
    show = api.publish("show", codecs=["VP8", "opus"])
    tv = api.watch("show", codecs=["H264", "opus"])
    everything = api.watch("show", client="all")
    refused = api.call(
        "POST",
        "/v1/start",
        {"stream": "new", "client": "lens", "codecs": ["AV1", "opus"]},
        key=KeyRole.CLIENT,
        status=409,
    )

    assert box["order"] == ["rtmp"]
    assert show["order"] == tv["order"] == ["one", "two"]
    assert everything["order"] == ["one", "rtmp", "two"]
    assert refused["code"] == "no-provider"
    assert "two is not for its codecs, rtmp is not for its codecs" in refused["message"]
