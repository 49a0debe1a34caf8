"""
Fixtures: canned media, and what plays a scenario with them.

A module that wants them says `pytest_plugins = ("unit.lab.stand_media",)`.
"""

import pytest
from bench.stand_peers import encode_audio, encode_video
from unit.lab.stand_world import playing


@pytest.fixture(scope="module")
def video():
    """Return a second of pictures."""
    return encode_video(30, size=180, bitrate_bps=300_000)


@pytest.fixture(scope="module")
def audio():
    """Return half a second of sound."""
    return encode_audio(25)


@pytest.fixture
def run(video, audio):
    """Return what runs a scenario in a world of its own; see `playing`."""
    return playing(video, audio)
