"""What a peer knows of itself, in the terms of W3C webrtc-stats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .frame import CLOCK_RATE, Kind
from .pinger import Pinger
from .receive import FrameReceiver
from .send import FeedSender


Stats = Mapping[str, Any]
"""One dictionary; times are in seconds, `timestamp` in milliseconds of the loop's clock."""


def of_path(dtls: Any, pinger: Pinger | None, now: float) -> list[Stats]:
    """Return `transport` and, once a pair was nominated, `candidate-pair`."""
    found: list[Stats] = [
        {
            "type": "transport",
            "id": stats.id,
            "timestamp": now * 1000,
            "packetsSent": stats.packetsSent,
            "packetsReceived": stats.packetsReceived,
            "bytesSent": stats.bytesSent,
            "bytesReceived": stats.bytesReceived,
            "iceRole": stats.iceRole,
            "dtlsState": stats.dtlsState,
        }
        for stats in dtls._get_stats().values()
    ]
    pair = dtls.transport._connection._nominated.get(1)
    if pair is not None:
        found.append(
            {
                "type": "candidate-pair",
                "id": f"candidate-pair_{id(pair)}",
                "timestamp": now * 1000,
                "transportId": dtls._stats_id,
                "nominated": True,
                "state": "succeeded",
                "currentRoundTripTime": pinger.rtt_s if pinger else None,
                "requestsSent": pinger.requests_sent if pinger else 0,
                "responsesReceived": pinger.responses_received if pinger else 0,
            }
        )
    return found


def of_sender(sender: FeedSender, now: float) -> list[Stats]:
    """Return `outbound-rtp` and, once a receiver report came, `remote-inbound-rtp`."""
    inner: Any = sender
    kind = Kind(sender.kind)
    outbound = {
        "type": "outbound-rtp",
        "id": f"outbound-rtp_{id(sender)}",
        "timestamp": now * 1000,
        "ssrc": sender._ssrc,
        "kind": kind.value,
        "packetsSent": inner._RTCRtpSender__packet_count,
        "bytesSent": inner._RTCRtpSender__octet_count,
        "framesSent": sender.frames_sent,
        "framesDropped": sender.frames_dropped,
        "nackCount": sender.nack_count,
        "pliCount": sender.pli_count,
        "firCount": sender.fir_count,
        "retransmittedPacketsSent": sender.retransmitted,
    }
    if sender.report is None:
        return [outbound]
    remote = {
        "type": "remote-inbound-rtp",
        "id": f"remote-inbound-rtp_{id(sender)}",
        "timestamp": now * 1000,
        "ssrc": sender._ssrc,
        "kind": kind.value,
        "localId": outbound["id"],
        "packetsLost": sender.report.packets_lost,
        "fractionLost": sender.report.fraction_lost / 256,
        "jitter": sender.report.jitter / CLOCK_RATE[kind],
        "roundTripTime": inner._RTCRtpSender__rtt,
    }
    return [outbound, remote]


def of_receiver(receiver: FrameReceiver, now: float) -> Stats:
    """Return `inbound-rtp`."""
    inner: Any = receiver
    kind = receiver.kind
    stream = inner._RTCRtpReceiver__remote_streams.get(receiver.source)
    return {
        "type": "inbound-rtp",
        "id": f"inbound-rtp_{id(receiver)}",
        "timestamp": now * 1000,
        "ssrc": receiver.source,
        "kind": kind.value,
        "packetsReceived": stream.packets_received if stream else 0,
        "packetsLost": stream.packets_lost if stream else 0,
        "jitter": stream.jitter / CLOCK_RATE[kind] if stream else 0.0,
        "bytesReceived": receiver.bytes_received,
        "framesReceived": receiver.frames_received,
        "keyFramesReceived": receiver.keyframes_received,
        "framesDropped": receiver.frames_dropped,
        "nackCount": receiver.nack_count,
        "pliCount": receiver.pli_count,
    }
