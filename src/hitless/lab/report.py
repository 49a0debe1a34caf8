"""What a stand-in tells of itself: streams, counts, faults, load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .session import Session
    from .sessions import Sessions


def sessions_as_json(sessions: Sessions, now: float) -> dict[str, Any]:
    """Return everything an operator or a bench asks for; `now` on the loop's clock [s]."""
    load = sessions.load
    return {
        "streams": [_stream_as_json(each, now) for each in sessions.on_air],
        "sessions": len(sessions.all),
        "faults": sessions.injected.as_json(),
        "packets_forwarded": sessions.packets_forwarded,
        "consents": {
            "answered": sessions.shared.consents.answered,
            "failed": sessions.shared.consents.failed,
        },
        "joins": {
            "admitted": sessions.gate.admitted,
            "refused": sessions.gate.refused,
            "waiting": sessions.gate.waiting,
        },
        "load": {
            "cpu": round(load.cpu, 3),
            "lag_s": round(load.lag_s, 4),
            "lag_s_worst": round(load.lag_s_worst, 4),
            "behind_s": round(load.behind_s, 4),
        },
    }


def _stream_as_json(session: Session, now: float) -> dict[str, Any]:
    tracks = session.publisher.tracks
    return {
        "stream": session.stream,
        "codecs": {each.kind.value: each.codec.value for each in session.choices if each.codec},
        "packets_received": {kind.value: track.packets for kind, track in tracks.items()},
        "heard_s_ago": round(now - session.endpoint.heard_s, 3),
        "receive_queue": {
            "behind_s": round(session.endpoint.behind_s(now), 3),
            "overflowed": session.endpoint.overflowed(),
        },
        "viewers": [viewer.packets for viewer in session.publisher.viewers],
    }
