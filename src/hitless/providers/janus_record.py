"""What is known of Janus; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Claim, Path, Proof, Quotas, Record, State


_UNIT: Final = "tests/unit/providers/test_janus.py"
_REAL: Final = "tests/interop/test_janus.py"


def _done(what: str, note: str) -> Claim:
    return Claim(what=what, state=State.DONE, note=note)


RECORD: Final = Record(
    title="Janus (VideoRoom)",
    paths=(
        Path(
            name="VideoRoom over WebSocket",
            from_python=True,
            publishes=True,
            views=True,
            first_media="an own frame that comes back; without a self-view a receiver report, or "
            "Janus's word that media arrives; a viewer: the first frame",
            first_media_s=3.0,
            silence="own frames, RTP and STUN answers; the signalling socket tells of its end",
            silence_s=0.25,
            standby=("cold",),
            codecs=(Codec.VP8, Codec.H264, Codec.OPUS),
            frames_match=True,
        ),
    ),
    quotas=Quotas(),
    regions=(),
    fault_domain="",
    price="yours: it is your server",
    speaks=(
        _done("rooms made on demand and taken away, or one that exists", _REAL),
        _done("rooms that have numbers, and rooms that have names (string_ids)", _REAL),
        _done("full trickle and half, of Janus and of ours", _REAL),
        _done("API secret, signed tokens, admin key, room secret, PIN", _REAL),
        _done("stored tokens and a room's list of allowed tokens: that they are sent", _UNIT),
        _done("keepalive while nothing else is said", _UNIT),
        Claim(
            what="the HTTP transport (long poll)",
            state=State.EXEMPT,
            note="the WebSocket does all of it, and tells of a dead server within milliseconds",
        ),
        Claim(
            what="moving a session to a new WebSocket (claim)",
            state=State.EXEMPT,
            note="a leg whose signalling is gone is replaced, on whatever provider is best",
        ),
        Claim(
            what="ICE restart, simulcast and the Streaming plugin",
            state=State.EXEMPT,
            note="aiortc restarts no ICE and sends no simulcast; a restart is a new leg",
        ),
    ),
    survives=(
        _done("every documented code of the core and of VideoRoom (4xx)", _UNIT),
        _done("kill -9: noticed by the signalling socket", _REAL),
        _done("SIGSTOP: noticed by silence, and leaving it is bounded", _REAL),
        _done("a wrong, expired or missing secret of every kind", _REAL),
        _done("an older publisher of the same stream: removed, or not watched", _REAL),
        _done("a room that is full of older publishers, destroyed, or takes no such codec", _REAL),
        _done("a publisher whom a moderator muted: its self-view tells", _REAL),
        _done("a cancelled start at whatever moment", _REAL),
        _done("answers that are garbage, late, or never come", _UNIT),
        Claim(
            what="an older publisher in a room that somebody else's secret protects",
            state=State.EXEMPT,
            note="only the room's secret removes it; viewers of ours watch the newer one",
        ),
    ),
    proven=(
        Proof(
            server="Janus 1.1.2 (Debian 12), on loopback",
            what="conformance, VP8 and H.264 with Opus, secrets, second publisher, kill -9, "
            f"SIGSTOP: {_REAL}",
        ),
        Proof(
            server="Janus 1.1.2 behind Meetecho's simple-whip-server 0.0~git20230201 (Debian 12)",
            what="views what others publish by WHIP: tests/interop/test_simple_whip.py",
        ),
        Proof(server="a stand-in of its WebSocket API", what=_UNIT),
    ),
)
