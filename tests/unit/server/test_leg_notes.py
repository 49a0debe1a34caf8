"""hitless.server.alerts: what webhooks are told of legs"""

import asyncio
from dataclasses import replace

import pytest
from unit.server.signalling import at_node, stream

from hitless.server.store_operators import ProviderRow
from hitless.server.store_streams import StreamState
from hitless.server.webhook_post import LegSaid


def test_a_leg_that_goes_live_closes_the_one_before_it():
    async def play(node):
        node.signals.heard("leg.live", {}, stream())
        node.signals.heard("placement.moved", {}, stream("s1", "zego", 2, is_carried=False))
        await asyncio.sleep(1)
        assert node.hooks.legs == [(LegSaid.LIVE, "agora", "s1", 1)]
        node.signals.heard("leg.live", {}, stream("s1", "zego", 2))
        node.signals.heard("leg.live", {}, stream("s1", "zego", 2))
        node.signals.heard("stream.ended", {}, stream("s1", "zego", 2, state=StreamState.ENDED))

    assert at_node(play).hooks.legs == [
        (LegSaid.LIVE, "agora", "s1", 1),
        (LegSaid.LIVE, "zego", "s1", 2),
        (LegSaid.CLOSING, "agora", "s1", 1),
        (LegSaid.LIVE, "zego", "s1", 2),  # said again; the outbox knows its id
        (LegSaid.CLOSING, "zego", "s1", 2),
    ]


@pytest.mark.parametrize(
    ("adapter", "config", "channels"),
    [
        ("whip", {}, ["s1", "s1"]),
        ("agora", {}, ["s1-1", "s1-2"]),
        ("zegocloud", {"channel": "live_{stream}_v{epoch}"}, ["live_s1_v1", "live_s1_v2"]),
        ("livekit", {}, ["s1", "s1"]),
        ("agora", {"channel": "{nonsense}"}, ["s1", "s1"]),
        (None, {}, ["s1", "s1"]),
    ],
    ids=["whip", "agora", "a template", "livekit", "no template", "deleted"],
)
def test_a_leg_is_noted_by_the_name_that_its_provider_knows(adapter, config, channels):
    """
    A recorder asks the provider for the channel, which is not always called like the stream.
    """

    async def play(node):
        rows = node.providers.rows
        rows.pop("agora")
        if adapter is not None:
            rows["agora"] = ProviderRow(name="agora", adapter=adapter, config=config)
        node.signals.heard("leg.live", {}, stream(epoch=1))
        node.signals.heard("leg.live", {}, stream(epoch=2))

    legs = at_node(play).hooks.legs
    assert channels == [channel for what, _, channel, _ in legs if what == LegSaid.LIVE]
    assert legs[-1] == (LegSaid.CLOSING, "agora", channels[0], 1)


def test_a_leg_that_went_live_at_another_node_is_closed_here():
    async def play(node):
        node.signals.changed(stream())
        node.signals.heard("leg.live", {}, stream("s1", "zego", 2))

    assert at_node(play).hooks.legs[-1] == (LegSaid.CLOSING, "agora", "s1", 1)


def test_a_stream_that_ends_before_it_had_media_closes_no_leg():
    async def play(node):
        row = stream(is_carried=False, state=StreamState.STARTING)
        node.signals.heard("stream.ended", {}, replace(row, state=StreamState.ENDED))

    assert at_node(play).hooks.legs == []


def test_legs_are_not_noted_if_no_webhook_wants_them():
    async def play(node):
        node.hooks.wants_legs = False
        node.signals.heard("leg.live", {}, stream())

    assert at_node(play).hooks.legs == []
