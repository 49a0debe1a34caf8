"""How good the media of a client is, for its reports: what the leg on air measured by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..core.events import Role
from ..core.state import Session
from ..providers.base import Leg, Stats
from . import protocol
from .telemetry import log


_WHOLE_MAX: Final = (1 << 53) - 1
"""What JSON carries exactly (RFC 8259 section 6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """
    What a leg knows of its media; 0: it does not.

    Attributes:
        packets_lost, packets_received: On the way to whoever receives, since the leg was opened.
        jitter_s: Of the arrival of packets, that of the worse kind of media [s].
        rtt_s: To the provider and back [s].
        frames_per_s: Pictures sent or received [1/s].
    """

    packets_lost: int = 0
    packets_received: int = 0
    jitter_s: float = 0.0
    rtt_s: float = 0.0
    frames_per_s: float = 0.0


UNMEASURED: Final = Quality()


class Gauge:
    """
    Reads the statistics of legs, at once; what goes wrong in there is only logged.

    Args:
        look: Returns a session's state, or None once it is over.
        legs: All legs that are open, by number; it is looked at anew each time.
        clock: Time of the loop [s].
    """

    def __init__(
        self,
        look: Callable[[str], Session | None],
        legs: Mapping[int, Leg],
        clock: Callable[[], float],
    ) -> None:
        self._look, self._legs, self._clock = look, legs, clock
        self._frames: dict[int, tuple[float, float]] = {}

    def measured(self, session: str) -> Quality:
        """
        Return how good the media of a session is on its leg on air, as far as that leg knows.

        Pictures are counted from one call to the next: the first knows of none, unless the leg
        says itself how many there are.
        """
        self._frames = {leg: seen for leg, seen in self._frames.items() if leg in self._legs}
        state = self._look(session)
        if state is None or state.on_air is None or state.on_air not in self._legs:
            return UNMEASURED
        leg = self._legs[state.on_air]
        try:
            return self._read(state.on_air, leg.stats(), state.role is Role.PUBLISHER)
        except Exception:  # whatever an adapter does in there: a report is no reason to end
            log.exception("the quality of a leg could not be read", provider=leg.provider)
            return UNMEASURED

    def _read(self, number: int, stats: Sequence[Stats], is_publisher: bool) -> Quality:
        # What a publisher sends is counted by its receiver, who tells it (RFC 3550 section 6.4).
        counted = _of(stats, "remote-inbound-rtp" if is_publisher else "inbound-rtp")
        own = _of(stats, "outbound-rtp") if is_publisher else counted
        packets = [found for one in counted if (found := _packets(one, own)) is not None]
        return Quality(
            packets_lost=min(sum(lost for lost, _ in packets), _WHOLE_MAX),
            packets_received=min(sum(received for _, received in packets), _WHOLE_MAX),
            jitter_s=max((_number(one, "jitter") or 0.0 for one in counted), default=0.0),
            rtt_s=_rtt_s(counted) or _rtt_s(_of(stats, "candidate-pair")),
            frames_per_s=self._frames_per_s(number, own, is_publisher),
        )

    def _frames_per_s(self, number: int, own: Sequence[Stats], is_publisher: bool) -> float:
        videos = [one for one in own if one.get("kind") == "video"]
        said = max((_number(one, "framesPerSecond") or 0.0 for one in videos), default=0.0)
        name = "framesSent" if is_publisher else "framesReceived"
        frames = max((_number(one, name) or 0.0 for one in videos), default=0.0)
        now = self._clock()
        before, at_s = self._frames.get(number, (frames, now))
        self._frames[number] = frames, now
        if said or now <= at_s:
            return said
        return max(frames - before, 0.0) / (now - at_s)  # one that went back began anew


def report_of(
    stream: str, provider: str, age_s: float, carried: tuple[int, int], quality: Quality
) -> protocol.Report:
    """
    Return what the server is told of a stream.

    Args:
        stream, provider: Which one, and where.
        age_s: Of its last media [s].
        carried: Sent and received since the report before [byte].
        quality: What its leg on air measured.
    """
    return protocol.Report(
        stream=stream,
        provider=provider,
        mediaAge=age_s,
        packetsLost=quality.packets_lost,
        packetsReceived=quality.packets_received,
        jitter=quality.jitter_s,
        roundTripTime=quality.rtt_s,
        framesPerSecond=quality.frames_per_s,
        bytesSent=carried[0],
        bytesReceived=carried[1],
    )


def _of(stats: Sequence[Stats], type: str) -> list[Stats]:
    return [one for one in stats if one.get("type") == type]


def _packets(one: Stats, own: Sequence[Stats]) -> tuple[int, int] | None:
    """Return how many packets were lost and how many came; None: not both are known."""
    lost = _number(one, "packetsLost", least=-math.inf)  # copies may make it negative: RFC 3550
    received = _number(one, "packetsReceived")
    if lost is not None and received is None:  # the sender of those packets knows their number
        ours = (each for each in own if each.get("id") == one.get("localId"))
        sent = _number(next(ours, {}), "packetsSent")
        received = None if sent is None else max(sent - max(lost, 0.0), 0.0)
    return None if lost is None or received is None else (int(max(lost, 0.0)), int(received))


def _rtt_s(stats: Sequence[Stats]) -> float:
    """Return the shortest round trip: whatever else is in a longer one, it is not the way."""
    found = (
        _number(one, "roundTripTime") or _number(one, "currentRoundTripTime")
        for one in stats
        if one.get("nominated") is not False
    )
    return min((rtt_s for rtt_s in found if rtt_s), default=0.0)


def _number(one: Stats, name: str, *, least: float = 0.0) -> float | None:
    """Return a figure, or None where there is none that can be told."""
    value = one.get(name)
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
        return None
    return float(value)
