"""What is known of RTMP servers; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Claim, Path, Proof, Quotas, Record, State


def _done(what: str, note: str) -> Claim:
    return Claim(what=what, state=State.DONE, note=note)


RECORD: Final = Record(
    title="Any RTMP server",
    paths=(
        Path(
            name="RTMP",
            from_python=True,
            publishes=True,
            views=True,
            first_media="an own frame that comes back where playing is offered; else the server's "
            "process took the first frame (pong or acknowledgement), or at least its kernel; a "
            "viewer: the first frame, which is a keyframe where there are pictures",
            first_media_s=10.0,
            silence="answers to pings that follow the media, or acknowledgements of bytes, and "
            "own frames; a viewer: frames, and answers to pings",
            silence_s=1.5,
            standby=("cold",),
            codecs=(Codec.H264, Codec.AAC),
            frames_match=True,
            unconfirmed="a server that answers no ping and acknowledges nothing is judged by its "
            "kernel: stopped, it was noticed after 4 s",
        ),
    ),
    quotas=Quotas(),
    regions=(),
    fault_domain="",
    price="yours: it is your server, or its operator's tariff",
    speaks=(
        _done("publish and play by RTMP 1.0, plain and over TLS", "test_rtmp"),
        _done("H.264 and AAC-LC, byte for byte", "test_rtmp, test_nginx_rtmp"),
        _done("stream keys, fetched again once after a rejection", "test_rtmp"),
        Claim(
            what="Enhanced RTMP (HEVC, AV1, Opus)",
            state=State.TO_DO,
            note="a viewer is told that the video is no H.264",
        ),
        Claim(
            what="Adobe's and Limelight's user and password (authmod)",
            state=State.TO_DO,
            note="such a server's no is a rejected credential",
        ),
        Claim(
            what="a viewer's request for a keyframe",
            state=State.EXEMPT,
            note="RTMP has none: publishers of ours send one every second",
        ),
    ),
    survives=(
        _done("kill -9 of the server", "test_nginx_rtmp"),
        _done("SIGSTOP of the server, noticed by both sides", "test_nginx_rtmp"),
        _done("a server that takes all and forwards nothing", "test_rtmp"),
        _done("a server that lets players wait for a publisher without a word", "test_nginx_rtmp"),
        _done("a name that is taken, an application that is unknown or closed", "test_nginx_rtmp"),
        _done("damaged frames, chunks and commands", "test_rtmp"),
    ),
    proven=(
        Proof(
            server="nginx 1.22.1 with nginx-rtmp 1.2.2 (Debian 12)",
            what="conformance, publish, view, kill -9, SIGSTOP, refusals",
        ),
        Proof(server="FFmpeg 8 (PyAV 18.1)", what="plays what we publish, publishes what we view"),
    ),
)  # fmt: skip
