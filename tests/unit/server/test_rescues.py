"""hitless.server.rescues: a viewer that is cut off gets what it and the publisher can open"""

import pytest
from unit.server.api import Api

from hitless.client.protocol import LegNews
from hitless.server import rescues as module
from hitless.server.clock import wall_s
from hitless.server.hub import Connection
from hitless.server.keys import KeyRole


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

RTMP = {"adapter": "rtmp", "config": {"url": "rtmp://127.0.0.1:9/live/{stream}"}}
"""Of H.264 and AAC alone."""


@pytest.fixture
def api(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    with Api(tmp_path / "hitless.db") as api:
        api.call("POST", "/v1/admin/providers/rtmp", RTMP, status=201)
        yield api


def on_air(api, **publisher):
    """Put a stream on air at `one`, whose publisher declares this."""
    plan = api.publish("show", **publisher)
    api.run(api.node.store.streams.confirm("show", plan["epoch"], plan["provider"]))


def cut_off(api, client="phone", **viewer):
    """Cut a viewer off that declares this; return its extra leg ('': none) and what is said."""
    api.watch("show", client=client, **viewer)
    said = []
    rescues = api.node.rescues
    rescues._tell = lambda name, **fields: said.append((name, fields["because"]))

    async def main():
        who = api.node.ring.check(api.keys[KeyRole.CLIENT], wall_s())
        connection = Connection(client, who)
        connection.roles["show"] = "viewer"
        lost = LegNews(stream="show", leg=1, provider="one", state="silent", because="no packets")
        await rescues.leg_news(connection, lost)
        (task,) = api.node.coordinator._tasks
        await task
        return [one.provider for one in connection.waiting()]

    told = api.run(main())
    return (told[0] if told else ""), said


def prefer(api, name):
    """Make a provider the one that is chosen first."""
    api.call("PATCH", f"/v1/admin/providers/{name}", {"is_default": True})


def test_an_extra_leg_is_opened_where_both_ends_can(api):
    """
    Not where only the viewer can, by its codecs or its adapters.
    """
    on_air(api, codecs=["VP8", "opus"])
    prefer(api, "rtmp")

    extra, said = cut_off(api)

    assert extra == "two"
    assert [name for name, _ in said] == ["rescue.opened"]


def test_a_viewer_for_whom_nobody_is_left_is_told_of(api):
    """
    The only other provider is one that its publisher cannot open.
    """
    on_air(api, adapters=["whip"])
    api.call("PATCH", "/v1/admin/providers/two", {"is_active": False})

    extra, said = cut_off(api)

    because = "phone cannot reach one, nor open any other provider that its publisher can"
    assert (extra, said) == ("", [("rescue.refused", because)])


def test_an_extra_leg_that_is_there_is_none_for_who_cannot_open_it(api):
    """
    A stream has one; another viewer goes on watching there.
    """
    on_air(api)
    prefer(api, "rtmp")

    first = cut_off(api)
    second = cut_off(api, client="tv", codecs=["VP8", "opus"])
    third = cut_off(api, client="box", codecs=["H264", "AAC"])

    assert (first[0], second[0], third[0]) == ("rtmp", "", "rtmp")
    assert second[1] == [("rescue.refused", "tv cannot reach one, nor open rtmp")]
