"""hitless.providers.livekit_codes, and what the package's reasons to end a stay mean"""

import asyncio

import pytest

from hitless.errors import MediaLost, Refused, Retry
from hitless.media.liveness import Liveness
from hitless.providers.livekit_codes import QUALITY, quality_score
from hitless.providers.livekit_sdk_legs import LiveKitSdkViewingLeg
from hitless.providers.scale import Band, band_of
from hitless.providers.sdk_wire import Fault


QUALITIES = [
    ("POOR", 0, 30.0, Band.POOR),
    ("GOOD", 1, 70.0, Band.GOOD),
    ("EXCELLENT", 2, 100.0, Band.EXCELLENT),
    ("LOST", 3, 0.0, Band.LOST),
]

REASONS = [
    ("CLIENT_INITIATED", 1, MediaLost, "reason 1"),
    ("DUPLICATE_IDENTITY", 2, MediaLost, "same identity"),
    ("SERVER_SHUTDOWN", 3, MediaLost, "shuts down"),
    ("PARTICIPANT_REMOVED", 4, Refused, "put out"),
    ("ROOM_DELETED", 5, MediaLost, "deleted"),
    ("STATE_MISMATCH", 6, MediaLost, "reason 6"),
    ("JOIN_FAILURE", 7, MediaLost, "reason 7"),
    ("MIGRATION", 8, MediaLost, "reason 8"),
    ("SIGNAL_CLOSE", 9, MediaLost, "reason 9"),
    ("ROOM_CLOSED", 10, MediaLost, "closed"),
    ("CONNECTION_TIMEOUT", 14, MediaLost, "reason 14"),
    ("MEDIA_FAILURE", 15, MediaLost, "reason 15"),
]


@pytest.mark.parametrize(("name", "level", "score", "band"), QUALITIES)
def test_quality_is_a_score(name, level, score, band):
    """
    2 is best, 3 is worst.
    """
    assert score == quality_score(level)
    assert band is band_of(score)


def test_every_level_is_tested_and_no_other_is_known():
    """
    A number that is new says nothing, rather than that it is bad.
    """
    assert {level for _, level, _, _ in QUALITIES} == set(QUALITY)
    assert quality_score(4) is None
    assert quality_score(-1) is None


@pytest.mark.parametrize(("name", "number", "error", "says"), REASONS)
def test_a_reason_to_end_a_stay_is_an_error_with_advice(name, number, error, says):
    """
    None of them is worth a new token: the next provider's turn has come.
    """

    async def main():
        leg = LiveKitSdkViewingLeg("livekit", Liveness())
        return leg._error_of(Fault.REASON, number)

    found = asyncio.run(main())

    assert type(found) is error
    assert says in str(found)
    assert found.retry is Retry.NEXT
    assert ("livekit", "view") == (found.provider, found.operation)


def test_the_numbers_are_those_of_livekits_protocol():
    """
    As its own package has them.
    """
    models = pytest.importorskip(
        "livekit.protocol.models", reason="livekit-protocol is not installed: pip install livekit"
    )
    quality, reasons = models.ConnectionQuality, models.DisconnectReason

    assert {name: level for name, level, _, _ in QUALITIES} == dict(quality.items())
    assert all(number == reasons.Value(name) for name, number, _, _ in REASONS)
