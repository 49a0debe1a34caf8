"""Read the offer of a publisher or a viewer, choose what flows, and write the answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from aiortc import RTCDtlsTransport, RTCIceCandidate, RTCIceGatherer, sdp
from aiortc.codecs import CODECS
from aiortc.rtcdtlstransport import RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceParameters
from aiortc.rtcpeerconnection import is_codec_compatible
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpParameters

from ..errors import ConfigError
from ..media.frame import Codec, Kind
from .forward import Line


_CODECS: Final = {"video/vp8": Codec.VP8, "video/h264": Codec.H264, "audio/opus": Codec.OPUS}
CANDIDATES_MAX: Final = 32
"""Candidates of one offer that are tried; the rest are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """
    One media section of an offer.

    Attributes:
        direction: As the other side wrote it.
        codecs: Those that can be forwarded, in its order of preference.
        payload_type: Its first payload type, to be named where nothing flows.
    """

    kind: Kind
    mid: str
    direction: str
    codecs: tuple[RTCRtpCodecParameters, ...]
    payload_type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An offer that can be answered: what to connect to, and its sections in order."""

    ice: RTCIceParameters
    dtls: RTCDtlsParameters
    candidates: tuple[RTCIceCandidate, ...]
    sections: tuple[Section, ...]

    @property
    def our_dtls_role(self) -> str:
        """We begin the handshake unless the other side insists (RFC 8842 section 5.3)."""
        return "server" if self.dtls.role == "client" else "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is answered to one section; no parameters where nothing flows."""

    kind: Kind
    direction: str
    parameters: RTCRtpCodecParameters | None

    @property
    def codec(self) -> Codec | None:
        """The codec by its RTP name."""
        return None if self.parameters is None else _CODECS[self.parameters.mimeType.lower()]

    @property
    def payload_type(self) -> int:
        """The other side's payload type."""
        return 0 if self.parameters is None else self.parameters.payloadType or 0


def read_offer(text: str, directions: frozenset[str]) -> Offer:
    """
    Read an offer.

    Args:
        text: SDP.
        directions: Those that a section may have; a section may be inactive besides.

    Raises:
        ConfigError: It is not an offer that WHIP or WHEP allows (RFC 9725 section 4.2).
    """
    try:
        description = sdp.SessionDescription.parse(text)
        sections = tuple(_section(media) for media in description.media)
    except ConfigError:
        raise
    except Exception as fault:  # aiortc's parser raises whatever it trips over
        raise ConfigError("the body is not an SDP offer") from fault
    kinds = [section.kind for section in sections]
    if not kinds or len(set(kinds)) < len(kinds):
        raise ConfigError("an offer has one audio section, one video section, or one of each")
    bundle = next((group for group in description.group if group.semantic == "BUNDLE"), None)
    if len(kinds) > 1 and (bundle is None or len(bundle.items) != len(kinds)):
        raise ConfigError("all sections must be in one BUNDLE group")
    used = {section.direction for section in sections} - {"inactive"}
    if not used or not used <= directions:
        raise ConfigError(
            f"sections are {', '.join(sorted(used)) or 'inactive'}; "
            f"they must be {' or '.join(sorted(directions))}"
        )
    first = description.media[0]
    if first.ice is None or first.dtls is None:
        raise ConfigError("the first section lacks ICE or DTLS parameters")
    return Offer(ice=first.ice, dtls=first.dtls, candidates=_candidates(first), sections=sections)


def _section(media: sdp.MediaDescription) -> Section:
    if media.kind not in ("audio", "video"):
        raise ConfigError(f"a section of kind {media.kind[:20]!r} cannot be forwarded")
    ice = media.ice
    if ice is None or not ice.usernameFragment or not ice.password or not media.rtcp_mux:
        raise ConfigError("a section lacks ice-ufrag, ice-pwd or rtcp-mux")
    if media.dtls is None or not media.dtls.fingerprints:
        raise ConfigError("a section lacks a DTLS fingerprint")
    return Section(
        kind=Kind(media.kind),
        mid=media.rtp.muxId,
        direction=media.direction or "sendrecv",
        codecs=tuple(
            _as_answered(ours, theirs)
            for theirs in media.rtp.codecs
            if theirs.mimeType.lower() in _CODECS
            for ours in CODECS[media.kind]
            if is_codec_compatible(ours, theirs)
        ),
        payload_type=int(media.fmt[0]),
    )


def _as_answered(
    ours: RTCRtpCodecParameters, theirs: RTCRtpCodecParameters
) -> RTCRtpCodecParameters:
    """Return our codec under their payload type, with the feedback that both know."""
    return replace(
        ours,
        payloadType=theirs.payloadType,
        rtcpFeedback=[each for each in ours.rtcpFeedback if each in theirs.rtcpFeedback],
    )


def _candidates(media: sdp.MediaDescription) -> tuple[RTCIceCandidate, ...]:
    """
    Return the candidates worth a try.

    Names in `.local` are left out: they would be resolved by multicast. And the end of the
    candidates is never told to aioice, so that it goes on waiting for checks: a client behind a
    relay, or a browser that posted before it gathered, is learnt as peer-reflexive.
    """
    usable = [c for c in media.ice_candidates if c.protocol == "udp" and ".local" not in c.ip]
    return tuple(usable[:CANDIDATES_MAX])


def choose_published(offer: Offer) -> list[Choice] | None:
    """Return what is taken from a publisher: of each kind its favourite; None: nothing fits."""
    choices = []
    for section in offer.sections:
        if section.direction == "inactive":
            choices.append(_inactive(section))
        elif section.codecs:
            choices.append(_choice(section, "recvonly", section.codecs[0]))
        else:
            return None
    return choices


def choose_viewed(
    offer: Offer, published: dict[Kind, RTCRtpCodecParameters]
) -> list[Choice] | None:
    """Return what a viewer gets of what is published; None: it cannot take it."""
    choices = []
    for section in offer.sections:
        wanted = published.get(section.kind)
        if wanted is None or section.direction == "inactive":
            choices.append(_inactive(section))
            continue
        same = [c for c in section.codecs if c.mimeType.lower() == wanted.mimeType.lower()]
        # H.264: the publisher's own profile if it can be had, else one of the same packing.
        same.sort(key=lambda codec: codec.parameters != wanted.parameters)
        if not same:
            return None
        choices.append(_choice(section, "sendonly", same[0]))
    return choices if any(choice.parameters for choice in choices) else None


def _choice(section: Section, direction: str, codec: RTCRtpCodecParameters) -> Choice:
    return Choice(kind=section.kind, direction=direction, parameters=codec)


def _inactive(section: Section) -> Choice:
    return Choice(kind=section.kind, direction="inactive", parameters=None)


def write_answer(
    offer: Offer,
    choices: list[Choice],
    lines: Iterable[Line],
    gatherer: RTCIceGatherer,
    dtls: RTCDtlsTransport,
) -> str:
    """Return the answer (SDP): all candidates, one transport, no header extensions."""
    description = sdp.SessionDescription()
    description.origin = "- 1 1 IN IP4 0.0.0.0"
    description.type = "answer"
    description.msid_semantic.append(sdp.GroupDescription(semantic="WMS", items=["*"]))
    by_kind = {line.kind: line for line in lines}
    bundled: list[int | str] = []
    for section, choice in zip(offer.sections, choices, strict=True):
        named = choice.parameters or next(iter(section.codecs), None)
        media = sdp.MediaDescription(
            kind=section.kind.value,
            port=9 if named else 0,
            profile="UDP/TLS/RTP/SAVPF",
            fmt=[named.payloadType if named else section.payload_type],
        )
        media.direction = choice.direction
        media.rtp = RTCRtpParameters(codecs=[named] if named else [], muxId=section.mid)
        media.rtcp_host, media.rtcp_port, media.rtcp_mux = "0.0.0.0", 9, True
        line = by_kind.get(section.kind)
        if line is not None:
            media.msid = f"stand-in {section.kind.value}"
            media.ssrc = [sdp.SsrcDescription(ssrc=line.ssrc, cname=line.cname)]
        media.ice = gatherer.getLocalParameters()
        media.ice_candidates = gatherer.getLocalCandidates()
        media.ice_candidates_complete = True
        media.dtls = dtls.getLocalParameters()
        media.dtls.role = dtls._role
        if named:
            bundled.append(section.mid)
        description.media.append(media)
    description.group.append(sdp.GroupDescription(semantic="BUNDLE", items=bundled))
    return str(description)
