"""RTMP: its commands in AMF, and its chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.media.rtmp_bytes import VALUES

from hitless.media import amf
from hitless.media.rtmp_chunks import MESSAGE_MAX, Joiner, Message, NotRtmp, Type, cut


# --- Commands ---


@given(st.lists(VALUES, max_size=4))
def test_what_is_said_in_amf_is_understood(values):
    """
    Whatever a command holds.
    """
    assert values == amf.decode(amf.encode(*values))


@given(st.binary(max_size=200))
def test_any_bytes_are_amf_or_are_refused(data):
    """
    A server cannot raise anything else in us.
    """
    try:
        amf.decode(data)
    except amf.NotAmf:
        pass


def test_endless_nesting_is_refused():
    """
    A server cannot exhaust our stack.
    """
    with pytest.raises(amf.NotAmf, match="deep"):
        amf.decode(b"\x0a\x00\x00\x00\x01" * 5000)


# --- Chunks ---


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Type.AUDIO, Type.VIDEO, Type.COMMAND, Type.DATA]),
            st.binary(max_size=9000),
            st.integers(0, 2**32 - 1),
        ),
        max_size=4,
    ),
    st.integers(1, 5000),
)
def test_messages_come_out_as_they_went_in(messages, step):
    """
    However the network cuts them, with times beyond 24 bits as well.
    """
    sent = [
        Message(type=kind, payload=body, timestamp=at, stream=1) for kind, body, at in messages
    ]
    data = cut(Message(type=Type.SET_CHUNK_SIZE, payload=(4096).to_bytes(4)))
    data += b"".join(cut(message) for message in sent)
    joiner, found = Joiner(), []
    for at in range(0, len(data), step):
        found += joiner.feed(data[at : at + step])

    assert sent == found[1:]


def test_short_headers_repeat_what_came_before():
    """
    Formats 1 to 3, with times that add up, as servers write them.
    """
    first = bytes([0x04]) + (1000).to_bytes(3) + (2).to_bytes(3) + b"\x08\x01\x00\x00\x00ab"
    second = bytes([0x44]) + (20).to_bytes(3) + (1).to_bytes(3) + b"\x08c"
    third = bytes([0x84]) + (30).to_bytes(3) + b"d"
    fourth = bytes([0xC4]) + b"e"

    found = Joiner().feed(first + second + third + fourth)

    assert [b"ab", b"c", b"d", b"e"] == [message.payload for message in found]
    assert [1000, 1020, 1050, 1080] == [message.timestamp for message in found]
    assert {(8, 1)} == {(message.type, message.stream) for message in found}


def test_an_aborted_message_is_forgotten():
    """
    Abort (section 5.4.2) drops what came of it, and the next one is whole.
    """
    begun = bytes([0x04]) + bytes(3) + (200).to_bytes(3) + b"\x08\x01\x00\x00\x00" + bytes(128)
    abort = bytes([0x02]) + bytes(3) + (4).to_bytes(3) + b"\x02" + bytes(4) + (4).to_bytes(4)
    whole = bytes([0x04]) + bytes(3) + (1).to_bytes(3) + b"\x08\x01\x00\x00\x00x"

    found = Joiner().feed(begun + abort + whole)

    assert [b"x"] == [message.payload for message in found if message.type == Type.AUDIO]


@pytest.mark.parametrize(
    "data",
    [
        bytes([0xC4]) + b"abc",
        bytes([0x04]) + bytes(3) + (MESSAGE_MAX + 1).to_bytes(3) + b"\x08" + bytes(4),
        bytes([0x02]) + bytes(3) + (4).to_bytes(3) + b"\x01" + bytes(8),
    ],
    ids=["no beginning", "too large", "chunks of nothing"],
)
def test_what_breaks_the_rules_is_refused(data):
    """
    At once, before memory is spent on it.
    """
    with pytest.raises(NotRtmp):
        Joiner().feed(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_chunks_or_are_refused(data):
    """
    A server cannot raise anything else in us.
    """
    try:
        Joiner().feed(data)
    except NotRtmp:
        pass
