"""What `hitless doctor` warns of: traps in an adapter's options, which no error ever tells"""

import asyncio

import pytest

from hitless import SelfView, Whip
from hitless.providers.checkup import Verdict
from hitless.providers.janus import Janus
from hitless.providers.livekit import LiveKit
from hitless.providers.rtmp import Rtmp


UNSEEN, CLEAR = "not forwarded is noticed by viewers only", "goes over the network in the clear"
FAR = "live.example.com"
KEY = {"api_key": "APIkey", "api_secret": "s" * 32}


async def answered(*_, **__):
    """Nobody is asked: traps are seen without."""


async def plan(access):
    return {"token": "t"}


def traps(make, options, monkeypatch):
    """Return the traps that an adapter warns of, with what to do; every other finding is none."""
    monkeypatch.setattr(Janus, "_greet", answered)
    monkeypatch.setattr(LiveKit, "check", answered)

    async def main():
        provider = make("it", **options)
        try:
            return [one async for one in provider.checkup()]
        finally:
            await provider.aclose()

    found = [one for one in asyncio.run(main()) if one.step == "trap"]
    assert {one.verdict for one in found} <= {Verdict.WARNING}
    assert all(one.fix for one in found)
    return [one.says for one in found]


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (Whip, {"url": f"http://{FAR}/whip/x", "token": "t", "allow_http": True}, [CLEAR]),
        (Whip, {"url": f"https://{FAR}/in/{{stream}}"}, [UNSEEN]),
        (Whip, {"url": f"https://{FAR}/whip", "self_view": SelfView.OFF}, [UNSEEN]),
        (Rtmp, {"url": f"rtmp://{FAR}/live/{{key}}", "stream_key": "k"}, [CLEAR]),
        (Rtmp, {"url": f"rtmp://{FAR}/live/{{stream}}", "play_url": ""}, [UNSEEN]),
        (Rtmp, {"url": f"rtmps://{FAR}/live/x", "self_view": SelfView.OFF}, [UNSEEN]),
        (Janus, {"url": f"ws://{FAR}", "allow_plain": True}, [CLEAR]),
        (Janus, {"url": f"wss://{FAR}", "self_view": SelfView.OFF}, [UNSEEN]),
        (Janus, {"url": f"wss://{FAR}", "room": 7}, ["an older publisher of a stream stays in"]),
        (LiveKit, {"url": f"wss://{FAR}", "media": "sdk", **KEY}, [UNSEEN]),
        (LiveKit, {"url": f"wss://{FAR}", "self_view": SelfView.OFF, **KEY}, [UNSEEN]),
        (LiveKit, {"url": f"wss://{FAR}", "credentials": plan}, ["but one of the same identity"]),
    ],
)
def test_a_trap_is_told_with_the_way_out(make, options, said, monkeypatch):
    """
    And only those that are there.
    """
    found = traps(make, options, monkeypatch)

    assert len(said) == len(found)
    assert all(words in one for words, one in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Whip, {"url": f"https://{FAR}/whip/{{stream}}", "token": "t"}),
        (Whip, {"url": "http://127.0.0.1:1/whip/{stream}", "token": "t"}),
        (Rtmp, {"url": f"rtmps://{FAR}/live/{{key}}", "stream_key": "k"}),
        (Rtmp, {"url": "rtmp://127.0.0.1/live/{key}", "stream_key": "k"}),
        (Rtmp, {"url": f"rtmp://{FAR}/live/{{stream}}"}),
        (Janus, {"url": f"wss://{FAR}", "room": 7, "room_secret": "r"}),
        (Janus, {"url": "ws://127.0.0.1:1"}),
        (LiveKit, {"url": f"wss://{FAR}", **KEY}),
    ],
)
def test_who_walked_into_no_trap_is_told_of_none(make, options, monkeypatch):
    """
    A warning that is always there is not read.
    """
    assert [] == traps(make, options, monkeypatch)
