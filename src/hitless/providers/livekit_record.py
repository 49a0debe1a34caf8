"""What is known of the LiveKit adapter; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Path, Proof, Quotas, Record, done, exempt, to_do


_UNIT: Final = "tests/unit/providers/test_livekit.py"
_API: Final = "tests/unit/providers/test_livekit_api.py"
_PACKAGE: Final = "tests/interop/test_livekit_package.py"
_SERVER: Final = "tests/interop/test_livekit_server.py"
_CODES: Final = "tests/unit/providers/test_livekit_codes.py"
_SDK: Final = "tests/unit/providers/test_livekit_sdk.py"
_SDK_ENDS: Final = "tests/unit/providers/test_livekit_sdk_ends.py"
_SDK_SERVER: Final = "tests/interop/test_livekit_sdk_server.py"
_WHIP: Final = "WHIP of the server (/whip/v1)"
_PROCESS: Final = "the livekit package in a process of its own (media = sdk)"


RECORD: Final = Record(
    title="LiveKit",
    paths=(
        Path(
            name=_WHIP,
            from_python=True,
            publishes=True,
            views=True,
            first_media="an own frame came back (a viewer: the first frame arrived)",
            first_media_s=3.0,
            silence="no RTP, or no STUN answer",
            silence_s=0.25,
            standby=("cold",),
            codecs=(Codec.VP8, Codec.H264, Codec.OPUS),
            frames_match=True,
            unconfirmed="viewing by a header of the WHIP request stands in the server's source "
            "(1.13) and in no document; whether LiveKit Cloud offers either is not known",
        ),
        Path(
            name=_PROCESS,
            from_python=True,
            publishes=True,
            views=True,
            first_media="the server's receiver reports acknowledge each kind, which is not yet "
            "that it is forwarded (a viewer: the first keyframe, or a second of sound where there "
            "are no pictures)",
            first_media_s=10.0,
            silence="counts of packets that came, looked at every 0.1 s; a publisher counts "
            "whatever the server sends: 0.65 s, and 2.7 s if it publishes sound alone",
            silence_s=2.7,
            standby=("cold",),
            codecs=(Codec.VP8, Codec.H264, Codec.OPUS, Codec.AAC),
            frames_match=False,
            unconfirmed="LiveKit Cloud. Published pictures go as they were encoded and match, "
            "where they are viewed by WHIP; sound is encoded anew by the package (Opus). Viewed "
            "pictures and sound are decoded by it and encoded again here (VP8 or H.264, AAC). "
            "Bit rates that the server asks for are not passed on",
        ),
        Path(
            name="web, mobile and native SDK",
            from_python=False,
            publishes=True,
            views=True,
            first_media="the SDK's first received frame",
            first_media_s=6.0,
            silence="what the client reports",
            silence_s=None,
            standby=("cold",),
            codecs=(Codec.VP8, Codec.H264, Codec.OPUS),
            frames_match=False,
            unconfirmed="left alone, an SDK stays in reconnecting for some 45 s",
        ),
    ),
    quotas=Quotas(),
    regions=(),
    fault_domain="",
    price="your own server: none; LiveKit Cloud bills by its own list, which is not read here",
    speaks=(
        done("the package's scale of quality", _CODES),
        done("access tokens (HS256)", f"the verifier of livekit-api reads them: {_PACKAGE}"),
        done("WHIP with trickle-free offers", _UNIT),
        done("RoomService: list rooms and participants, remove, delete", _API),
        done("health (GET /)", _API),
        done(
            "media by the livekit package, both ways, as an option",
            f"with a stand-in of it: {_SDK}; with itself and a real server, where there is one: "
            f"{_SDK_SERVER}",
        ),
        exempt("LiveKit Ingress", "it transcodes or relays; the server's own WHIP does not"),
        exempt("web hooks", "the control plane measures, and believes no announcement"),
    ),
    survives=(
        done("a token that is expired, forged or without the room", f"next provider: {_UNIT}"),
        done("a second publisher of the same stream", f"the server puts out the first: {_UNIT}"),
        done("an older publisher named by its epoch", f"removed in the background: {_UNIT}"),
        done("a node that is not ready (406)", _API),
        done("a server that hangs or answers nonsense", _API),
        done("a stream that nobody publishes", f"the server is not asked to wait: {_UNIT}"),
        done("the package's own reconnecting: the first sign of it ends the leg", _SDK_ENDS),
        done("a process of the package that dies, hangs or does not leave: 2 s", _SDK_ENDS),
        to_do("a node that drains", "a leg sees it as closed by the far side"),
        exempt(
            "renewing a token in mid-stream",
            "it is read when a leg opens and when it is deleted; a live leg outlasts it",
        ),
    ),
    proven=(
        Proof(
            server="a stand-in of the server (WHIP and RoomService)", what=_UNIT, paths=(_WHIP,)
        ),
        Proof(server="livekit-api 1.2.2 (its verifier)", what=_PACKAGE),
        Proof(server="livekit 1.2.1 against a fake signal server", what=_PACKAGE),
        Proof(
            server="livekit-server 1.13.0, built from its source, on loopback",
            what=f"conformance (VP8, H.264), wrong key, second publisher, kill -9 and hang "
            f"(noticed after 0.2 s), both ways with the livekit client 1.2.1: {_SERVER}",
            paths=(_WHIP,),
        ),
        Proof(
            server="a stand-in of the livekit package",
            what=f"{_SDK}, {_SDK_ENDS}",
            paths=(_PROCESS,),
        ),
        Proof(
            server="livekit-server 1.13.0 on loopback, with the livekit package 1.2.1",
            what="media = sdk: conformance (VP8, H.264), published by it and viewed by WHIP and "
            "by itself, forged token, second publisher, kill -9 (noticed after 0.03 s) and hang "
            f"(0.65 s; 2.7 s of a publisher of sound alone), leaving in 0.1 s: {_SDK_SERVER}",
            paths=(_PROCESS,),
        ),
    ),
)
