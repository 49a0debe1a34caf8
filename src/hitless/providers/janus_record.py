"""What is known of Janus; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Path, Proof, Quotas, Record, done, exempt


_UNIT: Final = "tests/unit/providers/test_janus.py"
_ERRORS: Final = "tests/unit/providers/test_janus_errors.py"
_SESSION: Final = "tests/unit/providers/test_janus_session.py"
_EXPIRY: Final = "tests/unit/providers/test_janus_expiry.py"
_REAL: Final = "tests/interop/test_janus.py"
_FAILS: Final = "tests/interop/test_janus_fails.py"


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
        done("rooms made on demand and taken away, or one that exists", _REAL),
        done("rooms that have numbers, and rooms that have names (string_ids)", _REAL),
        done("full trickle and half, of Janus and of ours", _REAL),
        done("API secret, signed tokens, admin key, room secret, PIN", _REAL),
        done("stored tokens and a room's list of allowed tokens: that they are sent", _UNIT),
        done("keepalive while nothing else is said", _SESSION),
        exempt(
            "the HTTP transport (long poll)",
            "the WebSocket does all of it, and tells of a dead server within milliseconds",
        ),
        exempt(
            "moving a session to a new WebSocket (claim)",
            "a leg whose signalling is gone is replaced, on whatever provider is best",
        ),
        exempt(
            "ICE restart, simulcast and the Streaming plugin",
            "aiortc restarts no ICE and sends no simulcast; a restart is a new leg",
        ),
    ),
    survives=(
        done("every documented code of the core and of VideoRoom (4xx)", _ERRORS),
        done("kill -9: noticed by the signalling socket", _FAILS),
        done("SIGSTOP: noticed by silence, and leaving it is bounded", _FAILS),
        done("a wrong, expired or missing secret of every kind", _REAL),
        done("an older publisher of the same stream: removed, or not watched", _REAL),
        done(
            "a room that is full of older publishers, destroyed, or takes no such codec",
            f"{_REAL}, {_FAILS}",
        ),
        done("a publisher whom a moderator muted: its self-view tells", _FAILS),
        done(
            "a signed token that ends in mid-stream, where a function fetches it: every request "
            "shows the token, so that one sign of life is refused and the next has a new one",
            _EXPIRY,
        ),
        done("a cancelled start at whatever moment", _FAILS),
        done("answers that are garbage, late, or never come", _ERRORS),
        done("a signed token, given as text, that ends in mid-stream: a planned move", _REAL),
        exempt(
            "an older publisher in a room that somebody else's secret protects",
            "only the room's secret removes it; viewers of ours watch the newer one",
        ),
    ),
    proven=(
        Proof(
            server="Janus 1.1.2 (Debian 12), on loopback",
            what="conformance, VP8 and H.264 with Opus, secrets, second publisher, kill -9, "
            f"SIGSTOP: {_REAL}, {_FAILS}",
        ),
        Proof(
            server="Janus 1.1.2 behind Meetecho's simple-whip-server 0.0~git20230201 (Debian 12)",
            what="views what others publish by WHIP: tests/interop/test_simple_whip.py",
        ),
        Proof(server="a stand-in of its WebSocket API", what=f"{_UNIT}, {_ERRORS}, {_SESSION}"),
    ),
)
