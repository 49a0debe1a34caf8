"""hitless.core.stream_choices: claims on single streams, and groups that stay together"""

import pytest

from hitless.core.agreement import By, Claim, Row
from hitless.core.stream_choices import TOGETHER_S, Companion, Parting, Placed, Placing


def one(stream, provider="agora", *, by=By.SERVER, at_s=100.0):
    """A stream of a group."""
    return Companion(
        stream=stream, provider=provider, by=by, because=f"{stream} was moved", changed_s=at_s
    )


def followed(*streams, moved):
    """Return who is brought along, where to, and whether by the one that moved."""
    streams = tuple(sorted(streams, key=lambda each: each.stream))
    names = [each.stream for each in streams]
    found = Parting(streams=streams, moved=names.index(moved)).followed()
    return found.streams, found.provider, found.is_led


def test_all_who_are_elsewhere_follow_the_one_that_moved():
    found = followed(one("a"), one("b", "webrtc"), one("c"), one("d", "zegocloud"), moved="b")

    assert found == (("a", "c", "d"), "webrtc", True)


def test_a_group_that_is_together_brings_nobody_along():
    assert followed(one("a"), one("b"), moved="b") == ((), "agora", True)


@pytest.mark.parametrize("by", [By.PUBLISHER, By.OPERATOR])
def test_of_two_that_part_at_once_the_first_leads(by):
    ahead, late = one("a", "webrtc", by=by), one("b", "zegocloud", at_s=100.0 + TOGETHER_S / 2)

    assert followed(ahead, late, one("c"), moved="b") == (("b",), "webrtc", False)
    assert followed(ahead, late, one("c"), moved="a") == (("b", "c"), "webrtc", True)


@pytest.mark.parametrize(
    "other",
    [
        one("a", "webrtc"),
        one("a", "webrtc", by="its publisher, by a start"),
        one("a", "webrtc", by=By.OPERATOR, at_s=100.0 - TOGETHER_S),
        one("c", "webrtc", by=By.OPERATOR),
    ],
    ids=["the server", "a start", "long ago", "a later name"],
)
def test_nobody_else_leads(other):
    assert followed(other, one("b", "zegocloud"), moved="b") == (
        (other.stream,),
        "zegocloud",
        True,
    )


def test_of_several_who_are_ahead_the_first_leads_and_says_why():
    streams = (one("a", "webrtc", by=By.OPERATOR), one("b", "agora", by=By.OPERATOR),
               one("c", "zegocloud"))  # fmt: skip

    found = Parting(streams=streams, moved=2).followed()

    assert (found.streams, found.provider) == (("c",), "webrtc")
    assert found.because == "with a of its group: a was moved"


ROW = Row(epoch=4, provider="agora", publisher="p", by=By.SERVER)


@pytest.mark.parametrize(
    ("row", "base", "placed"),
    [
        (ROW, 4, Placed(epoch=5, provider="webrtc", is_accepted=True)),
        (ROW, 3, Placed(epoch=4, provider="agora", is_accepted=False)),
        (None, 4, Placed(epoch=0, provider="", is_accepted=False)),
    ],
    ids=["fresh", "late", "nothing"],
)
def test_a_claim_is_decided_by_the_row_that_it_meets(row, base, placed):
    claim = Claim(base_epoch=base, provider="webrtc", by=By.OPERATOR)

    assert Placing(stream="s", row=row, claim=claim).decided() == placed
