"""What is known of the LiveKit adapter; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Path, Proof, Quotas, Record, done, exempt, to_do


_UNIT: Final = "tests/unit/providers/test_livekit.py"
_API: Final = "tests/unit/providers/test_livekit_api.py"
_PACKAGE: Final = "tests/interop/test_livekit_package.py"
_SERVER: Final = "tests/interop/test_livekit_server.py"


RECORD: Final = Record(
    title="LiveKit",
    paths=(
        Path(
            name="WHIP of the server (/whip/v1)",
            from_python=True,
            publishes=True,
            views=True,
            first_media="an own frame came back (a viewer: the first frame arrived)",
            first_media_s=3.0,
            silence="no RTP, or no STUN answer",
            silence_s=0.25,
            standby=("cold", "hot"),
            codecs=(Codec.VP8, Codec.H264, Codec.OPUS),
            frames_match=True,
            unconfirmed="viewing by a header of the WHIP request stands in the server's source "
            "(1.13) and in no document; whether LiveKit Cloud offers either is not known",
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
        done("access tokens (HS256)", f"the verifier of livekit-api reads them: {_PACKAGE}"),
        done("WHIP with trickle-free offers", _UNIT),
        done("RoomService: list rooms and participants, remove, delete", _API),
        done("health (GET /)", _API),
        exempt(
            "media by the livekit package",
            "it gives decoded frames only; WHIP carries encoded ones",
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
        to_do("a node that drains", "a leg sees it as closed by the far side"),
        exempt(
            "renewing a token in mid-stream",
            "it is read when a leg opens and when it is deleted; a live leg outlasts it",
        ),
    ),
    proven=(
        Proof(server="a stand-in of the server (WHIP and RoomService)", what=_UNIT),
        Proof(server="livekit-api 1.2.2 (its verifier)", what=_PACKAGE),
        Proof(server="livekit 1.2.1 against a fake signal server", what=_PACKAGE),
        Proof(
            server="livekit-server 1.13.0, built from its source, on loopback",
            what=f"conformance (VP8, H.264), wrong key, second publisher, kill -9 and hang "
            f"(noticed after 0.2 s), both ways with the livekit client 1.2.1: {_SERVER}",
        ),
    ),
)
