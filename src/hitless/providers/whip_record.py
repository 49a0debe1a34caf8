"""What is known of WHIP and WHEP servers; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Path, Proof, Quotas, Record, done, exempt, to_do


RECORD: Final = Record(
    title="Any WHIP and WHEP server",
    paths=(
        Path(
            name="WHIP and WHEP",
            from_python=True,
            publishes=True,
            views=True,
            first_media="an own frame that comes back by WHEP; where nothing can be viewed, a "
            "receiver report of our packets; a viewer: the first frame",
            first_media_s=3.0,
            silence="RTP, receiver reports, own frames and STUN answers, not connection states",
            silence_s=0.25,
            standby=("cold",),
            codecs=(Codec.VP8, Codec.H264, Codec.OPUS),
            frames_match=True,
        ),
    ),
    quotas=Quotas(),
    regions=(),
    fault_domain="",
    price="yours: it is your server, or its operator's tariff",
    speaks=(
        done("publish by RFC 9725, view by draft-ietf-wish-whep", "test_whip_media"),
        done("counter-offers (406, and 201 with an offer)", "test_whip_http"),
        done("ICE servers by Link", "test_whip_headers, test_whip_http"),
        done("Bearer tokens, renewed once, never sent to another origin", "test_whip_http"),
        exempt(
            "trickle ICE and ICE restart",
            "aiortc gathers before it offers and has no restart: a restart is a new leg",
        ),
        to_do(
            "server-sent events of WHEP",
            "a draft of its own by now; the reconnect event would be a hint to move",
        ),
    ),
    survives=(
        done("409, 429, 503 with Retry-After, up to 300 s", "test_whip_errors"),
        done("relative Locations, other hosts, redirects 307 and 308", "test_whip_http"),
        done("entity tags of any kind, or none", "test_whip_http"),
        done("servers that deviate, as far as they are known: stand-ins", "test_whip_servers"),
        done("a server that acknowledges all and forwards nothing", "test_whip_media"),
        done("answers that come late, are huge, or are something else", "test_whip_errors"),
        done("kill -9 and SIGSTOP on air", "drills provider-killed, provider-hangs"),
    ),
    proven=(
        Proof(server="the lab's stand-ins", what="every drill, loss and soak"),
        Proof(
            server="Meetecho's simple-whip-server 0.0~git20230201 before Janus 1.1.2 (Debian 12)",
            what="conformance (viewed in the room), VP8 and H.264, end, wrong token, second "
            "publisher, kill -9 of the WHIP server while media goes on: "
            "tests/interop/test_simple_whip.py",
        ),
    ),
)  # fmt: skip
