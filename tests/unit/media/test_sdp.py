"""Descriptions as servers write them become ones that aiortc reads."""

from __future__ import annotations

from aiortc.sdp import SessionDescription

from hitless.media.frame import Kind
from hitless.media.sdp import is_offer, kinds_in, levelled, with_mux_only


SHORT = "\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 96",
        "a=mid:0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789012345678901",
        "a=fingerprint:sha-256 AA:BB",
        "a=setup:passive",
        "a=candidate:1 1 udp 1 127.0.0.1 5000 typ host",
        "a=rtcp-mux",
        "a=recvonly",
        "a=rtpmap:96 opus/48000/2",
        "m=video 9 UDP/TLS/RTP/SAVPF 97",
        "a=recvonly",
        "a=rtpmap:97 VP8/90000",
        "",
    ]
)
OFFER = "m=audio 9 x 96\r\na=mid:0\r\nm=video 9 x 97\r\na=mid:1\r\n"


def test_a_bundled_section_inherits_what_the_first_one_says() -> None:
    """aiortc keeps the candidates of the last section: without them a lite server is not found."""
    parsed = SessionDescription.parse(levelled(SHORT, OFFER))
    video = parsed.media[1]
    assert video.ice.usernameFragment == "abcd"
    assert video.dtls is not None
    assert video.dtls.fingerprints[0].value == "AA:BB"
    assert [each.port for each in video.ice_candidates] == [5000]
    assert video.rtcp_mux
    assert video.rtp.muxId == "1"


def test_all_candidates_are_taken_to_be_in_the_answer() -> None:
    """So that a failure is known as soon as all were tried."""
    parsed = SessionDescription.parse(levelled(SHORT, OFFER))
    assert all(each.ice_candidates_complete for each in parsed.media)


def test_without_candidates_the_server_is_awaited() -> None:
    """It reaches out itself; an end of candidates would make aiortc fail at once."""
    lines = [line for line in SHORT.splitlines() if "candidate" not in line]
    parsed = SessionDescription.parse(levelled("\n".join(lines), OFFER))
    assert not any(each.ice_candidates_complete for each in parsed.media)


def test_what_a_section_says_itself_is_kept() -> None:
    """A server that bundles nothing describes each section."""
    own = SHORT.replace("a=rtpmap:97", "a=ice-ufrag:wxyz\na=rtpmap:97")
    parsed = SessionDescription.parse(levelled(own, OFFER))
    assert [each.ice.usernameFragment for each in parsed.media] == ["abcd", "wxyz"]


def test_kinds_and_role_are_read() -> None:
    """Enough to answer a counter-offer."""
    assert kinds_in(SHORT) == [Kind.AUDIO, Kind.VIDEO]
    assert not is_offer(SHORT)
    assert is_offer(SHORT.replace("passive", "actpass"))


def test_an_offer_says_that_reports_are_multiplexed_only() -> None:
    """RFC 9725 section 4.4."""
    assert "a=rtcp-mux\r\na=rtcp-mux-only\r\n" in with_mux_only("a=rtcp-mux\r\n")
