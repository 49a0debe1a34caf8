"""
One scale for what providers say about quality: 0 to 100, more is better, and five words.

Every provider counts in its own direction (Agora: 1 best, 0 unknown; ZEGOCLOUD: 0 best), so each
has a table beside its other codes that leads here. What providers report is the last mile
between a user and their edge, and "for reference only" (Agora): a sign about the user's network,
not a measurement of the provider.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Band(StrEnum):
    """A score in a word."""

    EXCELLENT = "excellent"
    """Above 80."""
    GOOD = "good"
    """Above 60."""
    FAIR = "fair"
    """Above 40: where a lower picture is worth having."""
    POOR = "poor"
    """Above 20."""
    LOST = "lost"
    """20 and less: nobody can follow that."""


_BANDS: Final = (
    (80.0, Band.EXCELLENT),
    (60.0, Band.GOOD),
    (40.0, Band.FAIR),
    (20.0, Band.POOR),
)


def band_of(score: float) -> Band:
    """
    Return the word for a score.

    Args:
        score: From 0 (dead) to 100 (nothing to wish for).

    Raises:
        ValueError: It is outside 0 to 100, or no number.
    """
    if not 0.0 <= score <= 100.0:
        raise ValueError(f"a score is from 0 to 100, not {score:g}")
    return next((band for above, band in _BANDS if score > above), Band.LOST)
