"""What is known of the ZEGOCLOUD adapter; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Path, Proof, Quotas, Record, done, exempt, to_do


RECORD: Final = Record(
    title="ZEGOCLOUD",
    paths=(
        Path(
            name="RTMP into RTC",
            from_python=True,
            publishes=True,
            views=True,
            first_media="the node's process took the first frame (pong or acknowledgement); where "
            "it gives neither, the server API says that the stream is active; a viewer: the first "
            "frame, a keyframe where there are pictures",
            first_media_s=10.0,
            silence="answers to pings that follow the media, or acknowledgements of bytes: it "
            "takes our media, which is not yet that viewers get it; a viewer: frames",
            silence_s=None,
            standby=("cold",),
            codecs=(Codec.H264, Codec.AAC),
            frames_match=False,
            unconfirmed="which evidence its nodes give, whether they change frames, and whether "
            "forbidding a stream frees its id; support must enable it",
        ),
        Path(
            name="WHIP publish",
            from_python=True,
            publishes=True,
            views=False,
            first_media="a receiver report",
            first_media_s=3.0,
            silence="receiver reports and STUN answers",
            silence_s=0.25,
            standby=("cold",),
            codecs=(Codec.H264, Codec.OPUS),
            frames_match=False,
            unconfirmed="how the Bearer is written, when it ends, whether a session outlasts it, "
            "which secret signs it, and whether a session can be deleted: the page has no example "
            "that can be checked; support must enable it; there is no WHEP in its documents",
        ),
        Path(
            name="WHIP and WHEP with a token04, where addresses are given",
            from_python=True,
            publishes=True,
            views=True,
            first_media="an own frame that comes back by WHEP",
            first_media_s=3.0,
            silence="RTP, receiver reports, own frames and STUN answers",
            silence_s=0.25,
            standby=("cold",),
            codecs=(Codec.VP8, Codec.H264, Codec.OPUS),
            frames_match=True,
            unconfirmed="spoken with stand-ins only: ZEGOCLOUD's WHIP takes no token04",
        ),
        Path(
            name="web, mobile and native SDK",
            from_python=False,
            publishes=True,
            views=True,
            first_media="the SDK's state PUBLISHING, or the first received frame",
            first_media_s=6.0,
            silence="what the client reports",
            silence_s=None,
            standby=("cold",),
            codecs=(Codec.H264, Codec.VP8, Codec.OPUS),
            frames_match=False,
            unconfirmed="nothing of it was run",
        ),
    ),
    quotas=Quotas(starts_per_s=10.0, calls_per_s=10.0),
    regions=("sha", "hkg", "fra", "lax", "bom", "sgp"),
    fault_domain="zegocloud",
    price="by the minute and user, and for RTMP by its own list; not read here",
    speaks=(
        done("token04, CBC, with privileges; CBC and GCM are read", "test_zego_token"),
        done(
            "server API v2, within the limit of each action", "test_zego_api, test_zego_api_limits"
        ),
        done(
            "push and pull by RTMP, at a node that is asked for each time",
            "test_zegocloud, test_stand_rtmp",
        ),
        done("streams announced to their room, and withdrawn", "test_zegocloud"),
        done("the documented WHIP address and Bearer", "test_zegocloud_whip"),
        done("credentials of a plan: room, stream, user and token", "test_zegocloud_whip"),
        to_do(
            "announcing again when a room was empty",
            "a room vanishes with its last user; whether it knows the stream later is unconfirmed",
        ),
        to_do("CDN publish and play", "addresses come from the console; not written"),
        exempt("viewing through an SDK from Python", "there is none for Python"),
    ),
    survives=(
        done("a node that is away: the next attempt asks the next node", "test_zegocloud"),
        done(
            "a stream id that somebody holds: put out",
            "test_zegocloud_holders, test_account_stands",
        ),
        done("codes in answers of HTTP 200, by action", "test_zego_codes, test_zego_api_refusals"),
        done("a room that is not there yet", "test_zegocloud"),
        done("many viewers that wait for a stream: one question a second", "test_zegocloud"),
        done("a server API that hangs while we leave: 2 s", "test_zegocloud"),
        done(
            "a signed WHIP address that ends in mid-stream, and in kick mode a token04: a planned "
            "move in time",
            "test_zego_expiry",
        ),
        exempt(
            "renewing a credential in mid-stream",
            "an RTMP address holds none, and an open WHIP session takes no new one; by "
            "ZEGOCLOUD's default a session goes on when its token04 ends. renewToken is for "
            "clients of the SDKs",
        ),
    ),
    proven=(
        Proof(server="a stand-in of the server API", what="every call, in the documented shapes"),
        Proof(
            server="a stand-in of an RTMP node (tests/rtmp_server.py)",
            what="push, pull, refusals, nodes that are away",
            paths=("RTMP into RTC",),
        ),
        Proof(
            server="the lab's stand-in (RTMP, server API)",
            what="RTMP both ways: conformance, a stream id that is taken, kill and hang",
            paths=("RTMP into RTC",),
        ),
        Proof(
            server="the lab's stand-in (WHIP and WHEP, server API)",
            what="conformance with a token04 as Bearer, tokens that end, zombies, limits",
            paths=("WHIP and WHEP with a token04, where addresses are given",),
        ),
    ),
)
