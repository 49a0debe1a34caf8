"""What is known of the Agora adapter; see `record.py`."""

from __future__ import annotations

from typing import Final

from ..media.frame import Codec
from .record import Path, Proof, Quotas, Record, done, exempt, to_do


RECORD: Final = Record(
    title="Agora",
    paths=(
        Path(
            name="RTMP ingest (Media Gateway)",
            from_python=True,
            publishes=True,
            views=False,
            first_media="the gateway's process took the first frame (pong or acknowledgement); "
            "where it gives neither, its list of online streams shows the stream; without a REST "
            "credential its kernel's word",
            first_media_s=10.0,
            silence="answers to pings that follow the media, or acknowledgements of bytes: it "
            "takes our media, which is not yet that viewers get it",
            silence_s=None,
            standby=("cold",),
            codecs=(Codec.H264, Codec.AAC),
            frames_match=False,
            unconfirmed="which evidence Agora's gateway gives, and whether its viewers get our "
            "encoded frames unchanged; whether a push outlasts its stream key; PUT or POST to "
            "make one",
        ),
        Path(
            name="WHIP and WHEP, where addresses are given",
            from_python=True,
            publishes=True,
            views=True,
            first_media="an own frame that comes back by WHEP; without whep_url a receiver report",
            first_media_s=3.0,
            silence="RTP, receiver reports, own frames and STUN answers",
            silence_s=0.25,
            standby=("cold",),
            codecs=(Codec.VP8, Codec.H264, Codec.OPUS),
            frames_match=True,
            unconfirmed="all of it at Agora: its documents contradict each other, so there is no "
            "default address; spoken with stand-ins only, whose Bearer is an AccessToken2",
        ),
        Path(
            name="native SDK in a process of its own",
            from_python=True,
            publishes=False,
            views=True,
            first_media="the first keyframe, or a second of sound where there are no pictures",
            first_media_s=10.0,
            silence="frames that the SDK hands over; it may go on with sound after the last "
            "packet, and then only the pictures tell",
            silence_s=None,
            standby=("cold",),
            codecs=(Codec.VP8, Codec.H264, Codec.AAC),
            frames_match=False,
            unconfirmed="not run here: neither the native library nor Agora, only a stand-in of "
            "the package; the form of its H.264, its presentation times, how soon it notices a "
            "loss. Sound comes decoded and is encoded again, as AAC",
            is_run=False,
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
            codecs=(Codec.H264, Codec.VP8, Codec.OPUS),
            frames_match=False,
            unconfirmed="nothing of it was run",
        ),
    ),
    quotas=Quotas(max_streams=50, starts_per_s=10.0, calls_per_s=10.0),
    regions=("na", "eu", "ap", "cn"),
    fault_domain="agora",
    price="by the minute and participant, and for ingest by its own list; not read here",
    speaks=(
        done("AccessToken2, by role, against the official vectors", "test_agora_token"),
        done("REST: channels, users, ban rules, stream keys, online streams", "test_agora_api"),
        done(
            "push by RTMP with a stream key from the API, or a given one",
            "test_agora, test_stand_rtmp",
        ),
        done("the region's ingest hosts, one for each attempt", "test_agora, test_agora_ingest"),
        done(
            "credentials of a plan: channel, uid and token", "test_agora_whip, test_agora_channel"
        ),
        to_do(
            "viewing from Python through agora-python-server-sdk",
            "written, with a process of its own, as the package downloads a native library and "
            "switches off TLS verification in the process that imports it; run with a stand-in of "
            "the package only (test_agora_sdk, test_agora_sdk_process)",
        ),
        to_do("SRT ingest", "documented, not written"),
        done(
            "stream keys made without a call, for a domain of one's own, in plans (local_keys): "
            "unconfirmed",
            "test_agora_stream_key, test_stream_keys, test_rtmp_reception",
        ),
        to_do(
            "stream keys from the API in plans",
            "a plan is made without I/O, and names with the epoch need a key for each move",
        ),
    ),
    survives=(
        done("an ingest host that is away: the next attempt asks the next host", "test_agora"),
        done("a stream key that is rejected: a new one, once", "test_agora"),
        done(
            "an older publisher in the channel: kicked once ours is proven", "test_agora_channel"
        ),
        done(
            "a token that ends while the SDK views: renewed in the same stay (stand-in)",
            "test_agora_sdk_renewal",
        ),
        done("Media Gateway not enabled, limits used up, a wrong credential", "test_agora"),
        done("documented codes of SDKs and REST", "test_agora_codes, test_agora_api_refusals"),
        done("a REST API that hangs while we leave: 2 s", "test_agora"),
        done("a credential that ends in mid-stream: a planned move in time", "test_agora"),
        done("a zombie that holds the channel: put out", "test_account_stands"),
        done("an SDK's process that dies, hangs or does not leave: 2 s", "test_agora_sdk"),
        done("a viewer that is killed: the SDK's process ends with it", "test_agora_sdk_process"),
        exempt(
            "a subscriber that publishes",
            "its token does not stop it unless support switches on co-host authentication; "
            "hitless doctor warns of it",
        ),
    ),
    proven=(
        Proof(server="a stand-in of the REST API", what="every call, in the documented shapes"),
        Proof(
            server="nginx-rtmp in the place of the ingest hosts",
            what="publishing with a stream key, fallback hosts",
            paths=("RTMP ingest (Media Gateway)",),
        ),
        Proof(
            server="the lab's stand-in (RTMP, WHEP, REST)",
            what="RTMP ingest: conformance, seen and heard by WHEP, keys that end or are deleted, "
            "pushes ended by the API, kill and hang",
            paths=("RTMP ingest (Media Gateway)",),
        ),
        Proof(
            server="the lab's stand-in (WHIP and WHEP, REST)",
            what="conformance with an AccessToken2 as Bearer, tokens that end, zombies, limits",
            paths=("WHIP and WHEP, where addresses are given",),
        ),
    ),
)
