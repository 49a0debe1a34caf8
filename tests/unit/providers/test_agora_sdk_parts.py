"""hitless.providers.agora_sdk_*: what needs no process of the SDK."""

from __future__ import annotations

import os
import threading
from itertools import pairwise

import numpy as np
import pytest

from hitless.providers import agora_sdk_worker, sdk_wire, sdk_worker
from hitless.providers.sdk_line import Line
from hitless.providers.sdk_wire import Fault, Word


def test_what_waits_for_a_viewer_that_does_not_read_is_bounded() -> None:
    """
    All media are dropped, and it is said; what is no media is kept.
    """
    reading, writing = os.pipe()
    pipe = os.fdopen(writing, "wb", buffering=0)
    outbox = sdk_worker.Outbox(pipe)
    outbox.put(Word.CONNECTED)
    for _ in range(sdk_worker.WAITING_MAX + 200):
        outbox.put(Word.VIDEO, bytes(1 << 12))
    watcher = agora_sdk_worker.Watcher(outbox, range(1, 10))
    watcher.fail(Fault.CODEC, 12)
    with os.fdopen(reading, "rb") as source:
        words = []
        while not words or words[-1] is not Word.FAILED:
            said = sdk_wire.read(source, sdk_wire.BODY_MAX)
            assert said is not None
            words.append(Word(said[0]))
        outbox.close(5.0)
    pipe.close()

    assert words[0] is Word.CONNECTED
    assert words.count(Word.DROPPED) == 1
    assert len(words) < sdk_worker.WAITING_MAX
    assert not [each for each in threading.enumerate() if each is outbox._thread]


def test_a_message_that_is_too_long_or_torn_is_none() -> None:
    """
    Longer than agreed: refused before it is read. Torn: the other side is gone.
    """
    reading, writing = os.pipe()
    os.write(writing, sdk_wire.message(2, b"hello") + sdk_wire.message(2, b"longer"))
    os.write(writing, sdk_wire.message(2, b"torn")[:-1])
    os.close(writing)
    with os.fdopen(reading, "rb") as source:
        assert sdk_wire.read(source, 5) == (2, b"hello")
        with pytest.raises(ValueError, match="6 bytes"):
            sdk_wire.read(source, 5)
        assert source.read(6) == b"longer"
        assert sdk_wire.read(source, 5) is None


def test_sound_that_comes_unevenly_lies_evenly() -> None:
    """
    10 ms each, whatever the network did; a hole that the SDK counts stays a hole.
    """
    line = Line(even=True)
    came_s = [100.0, 100.03, 100.03, 100.031, 100.5]
    shown_ms = [5000, 5010, 5020, 5031, 5500]

    places = [line.place(came, shown, 0.01) for came, shown in zip(came_s, shown_ms, strict=True)]

    assert places == pytest.approx([100.0, 100.01, 100.02, 100.03, 100.499])


def test_pictures_follow_the_publishers_clock_and_slowly_ours() -> None:
    """
    Even where they come unevenly; a clock that is 1 % too fast does not run away.
    """
    line, jitter = Line(even=False), (0.0, 0.03, 0.01, 0.02)
    places = [
        line.place(100 + number * 0.04 + jitter[number % 4], 5000 + number * 40, 0.0)
        for number in range(50)
    ]
    assert np.all(np.abs(np.diff(places) - 0.04) < 0.001)

    line = Line(even=False)
    for number in range(5000):
        place = line.place(100 + number * 0.0396, 5000 + number * 40, 0.0)
    assert abs(place - (100 + 4999 * 0.0396)) < 0.1


def test_times_that_leave_arrival_begin_anew_and_never_go_back() -> None:
    """
    A publisher that began anew counts from somewhere else.
    """
    line = Line(even=False)
    places = [
        line.place(came, shown, 0.0)
        for came, shown in ((100.0, 5000), (100.04, 5040), (105.0, 9), (105.04, 49), (105.0, 50))
    ]

    assert places[2:4] == pytest.approx([105.0, 105.04])
    assert all(later > earlier for earlier, later in pairwise(places))
