"""hitless.server.recording, hitless.server.pseudonyms: what a node judged, judged again."""

import json
import random

import pytest

from hitless import ConfigError
from hitless.core.evidence import Rules, Word
from hitless.core.judgement import rejudge
from hitless.core.observation import (
    JoinEnded,
    Level,
    MediaFresh,
    MediaLost,
    OperatorSaid,
    ProbeEnded,
    QualityReported,
    Said,
    StartEnded,
    mark,
)
from hitless.core.verdict import Standing
from hitless.server.judging import Judge
from hitless.server.pseudonyms import Pseudonyms
from hitless.server.recording import Recording
from hitless.server.ring import PIECES


SECRET = "hk_3f9c1b2a_" + "s" * 32
REASONS = ("no packets for 0.3 s", "Unreachable: timeout", "HTTP 503")


class House:
    """A judge in a bad hour: probes, starts, losses and reports of many clients, and operators."""

    def __init__(self, **recording):
        self.now_s, self.told, self.rng = 1_000.0, [], random.Random(7)
        self.judge = Judge(Rules(), lambda: self.now_s, self.told.append)
        if recording:
            self.judge.recording = Recording(Rules(), **recording)
        for name in ("agora", "webrtc", "zegocloud"):
            self.judge.allow(name, True, "enabled by an operator")

    def report(self, provider, *, is_bad, because=None):
        """Let one of some clients say how it goes."""
        n = self.rng.randrange(40)
        who = {
            "provider": provider,
            "region": self.rng.choice((None, "fra", "sin")),
            "client": f"alice-{n}",
            "stream": f"morning-show-{n % 7}",
            "network": f"203.0.113.{n % 11}",
        }
        because = because or self.rng.choice(REASONS)
        kind = self.rng.choice((StartEnded, JoinEnded, MediaLost, MediaFresh, QualityReported))
        match kind.__name__:
            case "MediaLost" if is_bad:
                said = MediaLost(because=because, **who)
            case "StartEnded" | "JoinEnded":
                said = kind(ok=not is_bad, because=because, **who)
            case "QualityReported":
                said = QualityReported(loss=0.5 if is_bad else 0.0, **who)
            case _:
                said = MediaFresh(**who)
        self.judge.observe(said)

    def pass_by(self, seconds, *, bad=(), because=None):
        """Let time pass [s]; providers in `bad` fail."""
        for _ in range(seconds):
            self.now_s += 1.0
            self.judge.tick()
            for name in ("agora", "webrtc", "zegocloud"):
                is_bad = name in bad
                for _ in range(4):
                    self.report(name, is_bad=is_bad, because=because)
                if self.rng.random() < 0.2:
                    self.judge.observe(
                        ProbeEnded(
                            provider=name,
                            level=self.rng.choice(tuple(Level)),
                            ok=not is_bad,
                            because="HTTP 503" if is_bad else "viewed",
                            latency_s=None if is_bad else 0.02,
                        )
                    )

    def written(self, since_s=0.0):
        """Return the recording as it is in a file."""
        excerpt = self.judge.recording.excerpt(since_s, self.judge.standing)
        return json.loads(json.dumps(excerpt(), allow_nan=False))


def bad_hour(house):
    """Let a provider fail and come back, one be disabled, mended, and one deleted."""
    house.pass_by(20)
    house.pass_by(60, bad=("agora",))
    house.judge.allow("webrtc", False, "disabled by an operator")
    house.pass_by(40)
    house.judge.observe(OperatorSaid(provider="agora", word=Said.MENDED, because="they say so"))
    house.judge.forget("zegocloud")
    house.pass_by(30, bad=("webrtc",))


def test_a_bad_hour_judged_again_gives_the_same_news_and_the_same_verdicts():
    house = House()
    bad_hour(house)

    found, after = rejudge(house.written())

    assert [one for one in found if not one.is_same] == []
    assert after == []
    news = [one["name"] for entry in found for one in entry.now]
    assert news == [one.name for one in house.told], "as many, in their order"
    assert "verdict.changed" in news
    words = {one["verdict"]["word"] for entry in found for one in entry.now if one["verdict"]}
    assert {Word.DOWN, Word.HEALTHY, Word.DISABLED} <= words


@pytest.mark.parametrize("since_s", [1_030.0, 1_075.0, 1_149.0, 2e6])
def test_a_part_of_it_begins_with_what_was_known_then(since_s):
    house = House(piece_s=10.0)
    bad_hour(house)

    recording = house.written(since_s)
    found, after = rejudge(recording)

    assert all(one.is_same for one in found)
    assert after == []
    assert len(found) < len(rejudge(house.written())[0])
    assert all(one.at_s > since_s - 10.0 for one in found)


def test_nobody_is_named_and_the_same_one_has_the_same_name():
    house = House()
    bad_hour(house)

    recording = house.written()
    text = json.dumps(recording)

    for name in ("alice", "morning-show", "203.0.113"):
        assert name not in text
    for n in range(40):
        assert str(mark(f"alice-{n}")) not in text, "a mark is a name to who can guess"
    entries = [one for one in recording["entries"] if "client" in one]
    pairs = {(one["client"], one["stream"], one["network"]) for one in entries}
    assert len({client for client, _, _ in pairs}) == len(pairs) == 40
    assert len({stream for _, stream, _ in pairs}) == 7
    assert len({network for _, _, network in pairs}) == 11
    assert {one["provider"] for one in entries} == {"agora", "webrtc", "zegocloud"}


def test_a_reason_with_a_name_or_a_secret_loses_it_and_verdicts_are_compared_all_the_same():
    house = House()
    reason = f"alice-3 cannot hear morning-show-2 with {SECRET}, see https://u:pw@x.example/?t=pw2"
    house.pass_by(20)
    house.pass_by(60, bad=("agora",), because=reason)

    recording = house.written()
    text = json.dumps(recording)
    found, after = rejudge(recording)

    assert any(reason[:60] in one.because for one in house.told), "it was a reason of a verdict"
    for word in ("alice", "morning-show", SECRET, "pw@", "pw2"):
        assert word not in text
    assert recording["has_changed_reasons"]
    assert all(one.is_same for one in found)
    assert after == []


@pytest.mark.parametrize("reason", REASONS)
def test_reasons_that_name_nobody_are_kept_and_compared(reason):
    house = House()
    house.pass_by(20)
    house.pass_by(60, bad=("agora",), because=reason)

    recording = house.written()

    assert not recording["has_changed_reasons"]
    assert reason in json.dumps(recording)


def test_a_judge_that_judges_otherwise_is_found_out():
    """One number of the rules is another one: the file says when it first shows, and where."""
    house = House()
    bad_hour(house)
    recording = house.written()
    recording["rules"]["max_failures"] = 90
    recording["rules"]["min_clients"] = 900

    found, after = rejudge(recording)

    different = [one for one in found if not one.is_same]
    assert different
    assert different[0].fields["provider"] == "agora"
    assert different[0].told != different[0].now
    assert any("agora" in line for line in after) or len(different) > 1


def test_a_verdict_that_somebody_wrote_into_the_file_is_found_out():
    house = House()
    bad_hour(house)
    recording = house.written()
    with_news = next(one for one in recording["entries"] if "news" in one)
    with_news["news"][0]["verdict"]["word"] = "down"
    recording["after"]["agora"]["word"] = "disabled"

    found, after = rejudge(recording)

    assert [one.is_same for one in found].count(False) == 1
    assert len(after) == 1
    assert after[0].startswith("agora: recorded word disabled")


def test_what_is_kept_is_bounded_by_number_and_by_time():
    house = House(weight_max=400, keep_s=30.0, piece_s=5.0)
    bad_hour(house)

    kept = house.written()["entries"]
    assert len(kept) <= 400
    assert len(kept) > 400 / PIECES

    house = House(weight_max=100_000, keep_s=30.0, piece_s=5.0)
    bad_hour(house)
    first_s = house.written()["entries"][0]["at_s"]
    assert 25.0 <= house.now_s - first_s <= 36.0
    assert [one for one in rejudge(house.written())[0] if not one.is_same] == []


def test_a_node_that_judged_nothing_yet_has_an_empty_recording():
    excerpt = Recording(Rules()).excerpt(0.0, Standing())

    assert rejudge(excerpt()) == ([], [])


def test_networks_have_marks_of_their_own_however_many_there_are():
    """There are few marks for networks, and two with one mark would count as one."""
    names = Pseudonyms()

    found = [names._of("network", number) for number in range(3_000)]

    assert len({mark(name) % (1 << 16) for name in found}) == 3_000


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"rules": {}, "before": None},
        {"rules": {"max_failures": 0}},
        {"before": {"cases": 3}},
        {"entries": None},
        {"entries": [3]},
        {"entries": [{"at_s": 1.0, "observation": "Nothing"}]},
        {"entries": [{"at_s": 1.0, "observation": "MediaFresh"}]},
        {"entries": [{"observation": "Ticked"}]},
        {"after": None},
    ],
    ids=str,
)
def test_a_damaged_recording_is_refused(damage):
    house = House()
    house.pass_by(3)

    with pytest.raises(ConfigError):
        rejudge({**house.written(), **damage})
