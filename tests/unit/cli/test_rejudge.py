"""hitless replay of an incident: what a server judged, judged again."""

import json

import pytest

from hitless.core.evidence import Rules
from hitless.core.observation import Level, ProbeEnded
from hitless.server.judging import Judge


def incident():
    """Return the document of a server whose probes of agora failed."""
    now_s = [50.0]
    judge = Judge(Rules(), lambda: now_s[0], lambda news: None)
    for name in ("agora", "webrtc"):
        judge.allow(name, True, "enabled by an operator")
    for n in range(12):
        now_s[0] += 1.0
        judge.tick()
        for name in ("agora", "webrtc"):
            ok = name == "webrtc" or n < 6
            because = "viewed" if ok else "HTTP 503"
            level = Level.END_TO_END
            judge.observe(ProbeEnded(provider=name, level=level, ok=ok, because=because))
    recording = judge.recording.excerpt(0.0, judge.standing)()
    judged = {"node": "n1", "version": "0", "zero_s": 1_700_000_000.0, "recording": recording}
    return {"format": 1, "audit": [], "judged": judged}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return what writes a document as `hitless incident` does."""
    monkeypatch.chdir(tmp_path)

    def write(document):
        (tmp_path / "incident.json").write_text(json.dumps(document, indent=2))

    return write


def test_an_incident_judged_again_tells_its_verdicts_and_is_the_same(write, run):
    write(incident())

    status, out, err = run("replay", "incident.json")

    assert status == 0
    assert "verdict.changed  agora  down" in out
    assert "503" in out
    assert "2023-11-14" in out, "times are those of the server's clock"
    assert "node n1 judged again: the same verdicts" in err
    assert "DIFFERENT" not in out


def test_a_difference_is_shown_with_what_was_recorded_and_ends_in_1(write, run):
    document = incident()
    recording = document["judged"]["recording"]
    told = [one for one in recording["entries"] if "news" in one][-1]
    told["news"][0]["because"] = "somebody says so"
    recording["after"]["webrtc"]["word"] = "down"
    write(document)

    status, out, err = run("replay", "incident.json")
    as_json = run("replay", "incident.json", "--json")

    assert status == as_json[0] == 1
    assert "DIFFERENT after ProbeEnded of agora" in out
    assert "recorded: " in out
    assert "somebody says so" in out
    assert "DIFFERENT at the end: webrtc: recorded word down" in out
    assert "2 differences" in err
    assert "recorded by hitless 0" in err
    said = json.loads(as_json[1])
    assert not said["is_same"]
    assert [one["is_same"] for one in said["news"]].count(False) == 1
    assert len(said["after"]) == 1


def test_as_json_it_tells_the_same(write, run):
    write(incident())

    status, out, _ = run("replay", "incident.json", "--json")

    said = json.loads(out)
    assert (status, said["is_same"], said["after"]) == (0, True, [])
    assert all(one["recorded"] == one["now"] for one in said["news"])
    assert said["entries"] > len(said["news"]) > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: document.pop("judged"), "an older hitless wrote it"),
        (lambda document: document.update(judged=None), "its server recorded nothing"),
        (lambda document: document["judged"].update(recording=[]), "recorded nothing"),
        (lambda document: document["judged"]["recording"].update(format=9), "of format 1"),
        (lambda document: document["judged"]["recording"].update(entries=[0]), "an entry"),
        (lambda document: document["judged"].update(zero_s=float("nan")), "whole JSON document"),
    ],
    ids=["older", "nothing", "no object", "format", "entry", "nan"],
)
def test_what_cannot_be_judged_again_is_said_in_a_sentence(write, run, change, words):
    document = incident()
    change(document)
    write(document)

    status, _, err = run("replay", "incident.json")

    assert status == 2
    assert words in err


def test_half_an_incident_is_none(write, run, tmp_path):
    write(incident())
    file = tmp_path / "incident.json"
    file.write_text(file.read_text()[:-100])

    status, _, err = run("replay", "incident.json")

    assert status == 2
    assert "not a whole JSON document" in err
