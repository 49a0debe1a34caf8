"""Observations as probes, canaries and clients make them, and transcripts of them."""

from dataclasses import replace

import pytest

from hitless.core.evidence import Rules
from hitless.core.observation import JoinEnded, Level, MediaFresh, MediaLost, ProbeEnded, Ticked
from hitless.core.verdict import Standing, judge


RULES = Rules()
TICK = Ticked()


def probe(ok, provider="a", level=Level.CONTROL, **fields):
    """Return a probe's end; a failure is an answer unless said otherwise."""
    because = "it answers" if ok else "HTTP 503"
    return ProbeEnded(provider=provider, level=level, ok=ok, because=because, **fields)


def timeout(provider="a", **fields):
    """Return a probe that nobody answered."""
    return replace(probe(False, provider, **fields), because="timeout", answered=False)


def canary(ok, provider="a", **fields):
    """Return the end of a media canary."""
    return probe(ok, provider, Level.END_TO_END, **fields)


def who(number, *, stream=None, network=None, provider="a", region=None):
    """Return the fields of a client: each in a room and a network of its own, or in one."""
    return {
        "provider": provider,
        "region": region,
        "client": f"client-{number}",
        "stream": stream or f"room-{number}",
        "network": network or f"net-{number}",
    }


def join(number, ok, **fields):
    """Return the end of a join."""
    return JoinEnded(**who(number, **fields), ok=ok, because="" if ok else "HTTP 500")


def fresh(number=0, **fields):
    """Return a client that has media."""
    return MediaFresh(**who(number, **fields))


def lost(number, **fields):
    """Return a client that lost its media."""
    return MediaLost(**who(number, **fields))


def play(*rows, rules=RULES, standing=None, provider="a"):
    """
    Play a transcript: (when [s], observation or several, what is thought then).

    What is thought is `word`, or `word share`, of a provider; `region: word` of a region.
    """
    standing, news = standing or Standing(), []
    for at_s, observed, expected in rows:
        for one in observed if isinstance(observed, list) else [observed]:
            standing, more = judge(rules, standing, one, at_s)
            news += more
        for thought in filter(None, (expected or "").split(", ")):
            region, _, words = thought.rpartition(": ")
            found = standing.verdict(provider, region or None)
            wanted, _, share = words.partition(" ")
            assert (at_s, wanted) == (at_s, found.word.value), found
            assert not share or float(share) == pytest.approx(found.share), (at_s, found)
    return standing, news
