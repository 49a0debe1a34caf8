"""What is known of RTMP servers; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Path, Proof, Quotas, Record, done, exempt, to_do


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
        done("publish and play by RTMP 1.0, plain and over TLS", "test_rtmp"),
        done("H.264 and AAC-LC, byte for byte", "test_rtmp, test_rtmp_frames, test_nginx_rtmp"),
        done("stream keys, fetched again once after a rejection", "test_rtmp_refusals"),
        to_do(
            "Enhanced RTMP (HEVC, AV1, Opus)",
            "a viewer is told that the video is no H.264",
        ),
        to_do(
            "Adobe's and Limelight's user and password (authmod)",
            "such a server's no is a rejected credential",
        ),
        exempt(
            "a viewer's request for a keyframe",
            "RTMP has none: publishers of ours send one every second",
        ),
    ),
    survives=(
        done("kill -9 of the server", "test_nginx_rtmp"),
        done("SIGSTOP of the server, noticed by both sides", "test_nginx_rtmp"),
        done("a server that takes all and forwards nothing", "test_rtmp"),
        done("a server that lets players wait for a publisher without a word", "test_nginx_rtmp"),
        done("a name that is taken, an application that is unknown or closed", "test_nginx_rtmp"),
        done("damaged frames, chunks and commands", "test_rtmp, test_rtmp_chunks"),
    ),
    proven=(
        Proof(
            server="nginx 1.22.1 with nginx-rtmp 1.2.2 (Debian 12)",
            what="conformance, publish, view, kill -9, SIGSTOP, refusals",
        ),
        Proof(server="FFmpeg 8 (PyAV 18.1)", what="plays what we publish, publishes what we view"),
    ),
)  # fmt: skip
