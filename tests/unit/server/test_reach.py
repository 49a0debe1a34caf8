"""hitless.server.reach: what clients can open by what they declare and by what records state"""

from dataclasses import replace

import pytest

from hitless.providers.whip_record import RECORD
from hitless.server import reach as module
from hitless.server.reach import can_open, carried, openable
from hitless.server.store_members import Reach, Role
from hitless.server.store_operators import ProviderRow


SENDS, VIEWS = Role.PUBLISHER, Role.VIEWER


def said(*codecs, adapters=(), role=VIEWS, stream="show", members=1):
    """Return members of a stream that declared these codecs."""
    return Reach(stream=stream, role=role, adapters=adapters, codecs=codecs, members=members)


def row(adapter, name="one"):
    """Return a provider of this adapter."""
    return ProviderRow(name=name, adapter=adapter)


@pytest.mark.parametrize(
    ("adapter", "role", "codecs", "is_open"),
    [
        ("whip", VIEWS, (), True),
        ("whip", VIEWS, ("vp8", "OPUS"), True),
        ("whip", VIEWS, ("AV1", "h264", "AAC", "Opus"), True),
        ("whip", VIEWS, ("VP9", "opus"), False),
        ("whip", VIEWS, ("VP8", "AAC"), False),
        ("whip", VIEWS, ("VP8",), True),
        ("whip", VIEWS, ("AAC",), False),
        ("whip", SENDS, ("H265",), False),
        ("whip", VIEWS, ("rtx", "telephone-event"), True),
        ("whip", VIEWS, ("VP9", "rtx", "opus"), False),
        ("rtmp", VIEWS, ("VP8", "opus"), False),
        ("rtmp", SENDS, ("H264", "AAC"), True),
        ("agora", SENDS, ("H264", "AAC"), True),
        ("agora", SENDS, ("VP8", "AAC"), False),
        ("agora", VIEWS, ("VP8", "AAC"), True),
        ("zegocloud", VIEWS, ("VP8", "AAC"), False),
        ("memory", VIEWS, ("AV1", "AMR"), True),
        ("nobody-s", VIEWS, ("AV1", "AMR"), True),
    ],
)
def test_one_way_of_its_end_must_carry_each_kind_that_a_client_declares(
    adapter, role, codecs, is_open
):
    """
    Agora takes VP8 by one way and AAC by another, and shows both by one; two ways are no way.
    """
    assert can_open(said(*codecs, role=role), row(adapter)) is is_open


def test_a_record_that_does_not_say_what_a_way_carries_forbids_nothing(monkeypatch):
    """
    Nor one that has no way of this end at all.
    """
    way = RECORD.paths[0]
    records = {
        "vague": replace(RECORD, paths=(way, replace(way, codecs=()))),
        "oneway": replace(RECORD, paths=(replace(way, views=False),)),
    }
    monkeypatch.setattr(module, "record_of", records.get)

    assert can_open(said("AV1"), row("vague"))
    assert can_open(said("AV1"), row("oneway"))
    assert not can_open(said("AV1", role=SENDS), row("oneway"))


def test_what_an_adapter_carries_is_said_way_by_way():
    """
    Of the end in question, each once.
    """
    assert carried(row("rtmp"), VIEWS) == "adapter rtmp carries H264, AAC"
    assert carried(row("zegocloud"), SENDS) == (
        "adapter zegocloud carries H264, AAC or H264, opus or VP8, H264, opus or H264, VP8, opus"
    )


def test_a_stream_goes_where_its_publisher_and_enough_of_its_viewers_can():
    """
    Who cannot for want of an adapter and who cannot for want of codecs are behind together.
    """
    targets = {name: row(name, name) for name in ("whip", "rtmp")}
    found = openable(
        [
            said(members=18),
            said("VP8", "opus"),
            said(adapters=("whip",)),
            said("VP8", "opus", stream="bound", role=SENDS),
            said("AV1", stream="stuck", role=SENDS),
            said("AV1", stream="no-adapter", adapters=("janus",), role=SENDS),
            said("H264", stream="free", members=3),
        ],
        targets,
        0.9,
    )

    assert found.targets == {
        "show": {"whip", "rtmp"},
        "bound": {"whip"},
        "stuck": frozenset(),
        "no-adapter": frozenset(),
    }
    assert found.by_codecs == {"stuck"}
    assert openable([said(members=18), said("VP8"), said(adapters=("whip",))], targets, 0.95) == (
        module.Openable(targets={"show": frozenset({"whip"})}, by_codecs=frozenset())
    )
