"""The operators' commands: what is shown, as tables and as JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from unit.cli.stand_in import AGORA, SHOW

from hitless.server import wire


def test_the_table_of_providers_has_what_matters(server, run):
    """
    Grade, load, and what operators made of each.
    """
    status, out, _ = run("providers")

    assert 0 == status
    head, agora, other = out.splitlines()
    assert head.split() == [
        "provider", "adapter", "priority", "state", "grade", "streams", "viewers", "because"
    ]  # fmt: skip
    assert "agora     whip     1         active, default  excellent  2" in agora
    assert "drained" in other
    assert "\x1b" not in out


def test_one_provider_is_shown_in_full(server, run):
    """
    Of its secrets only the names.
    """
    _, out, _ = run("providers", "agora")

    facts = dict(line.split("  ", 1) for line in out.splitlines())
    assert "active, default" == facts["state"].strip()
    assert "end_to_end, 3 reporters" in out
    assert "99.87 %" in out
    assert "0.210 s" in out
    assert "12 s ago" in out
    assert "20 a second" in out
    assert "token" == facts["secrets"].strip()


@pytest.mark.parametrize(
    "words", [("providers", "--json", "agora"), ("providers", "agora", "--json")]
)
def test_one_provider_comes_as_json(words, server, run):
    """
    Wherever the option stands.
    """
    assert msgspec.to_builtins(AGORA) == json.loads(run(*words)[1])


def test_an_empty_server_says_what_to_do_next(server, run):
    """
    On standard error: what reads the output finds nothing, and as JSON an empty list.
    """
    server.answers["GET", "/v1/admin/providers"] = []

    assert (0, "", "no provider yet: add one with `hitless providers add`\n") == run("providers")
    assert (0, "[]\n", "") == run("providers", "--json")


def test_streams_are_shown_page_by_page_to_the_limit(server, run):
    """
    No stream is lost between two pages, and what is left out is said.
    """
    names = [f"s{number}" for number in range(5)]

    def page(query):
        assert "agora" == query["provider"]
        start = names.index(query["after"]) + 1 if "after" in query else 0
        some = names[start : start + 2]
        rows = [msgspec.structs.replace(SHOW, stream=name) for name in some]
        return wire.StreamList(streams=rows, next=some[-1] if len(some) == 2 else "")

    server.answers["GET", "/v1/streams"] = page

    status, out, err = run("streams", "--provider", "agora", "--json")
    assert (0, "") == (status, err)
    assert names == [one["stream"] for one in json.loads(out)]

    status, out, err = run("streams", "--provider", "agora", "--limit", "4")
    assert 0 == status
    assert names[:4] == [line.split()[0] for line in out.splitlines()[1:]]
    assert "there are more than 4: raise --limit" in err


def test_one_stream_is_shown_in_full(server, run):
    """
    Where it is, since when and why.
    """
    _, out, _ = run("streams", "show")

    assert "provider  agora (epoch 3), since 1 h 6 m" in out
    assert "because   a start was asked for" in out


def test_words_from_elsewhere_cannot_touch_the_terminal(server, run):
    """
    A reason may quote what a stranger sent.
    """
    odd = msgspec.structs.replace(SHOW, because="\x1b[2J\x07gone\nx")
    server.answers["GET", "/v1/streams"] = wire.StreamList(streams=[odd], next="")
    server.answers["GET", "/v1/stream"] = odd

    for words in (("streams",), ("streams", "show"), ("why", "show")):
        _, out, _ = run(*words)
        assert "[2J gone x" in out
        assert not {"\x1b", "\x07"} & set(out)


def test_a_check_that_fails_is_exit_status_1(server, run):
    """
    And the server's own trouble is not put on the provider.
    """
    well = wire.Checked(
        provider="agora",
        region="eu",
        level="end_to_end",
        ok=True,
        because="viewed",
        latency_s=0.25,
        is_ours=False,
    )
    bad = msgspec.structs.replace(well, provider="other", ok=False, latency_s=None)
    ours = msgspec.structs.replace(bad, is_ours=True)
    for found, status, words in (
        ([well], 0, "agora eu  end_to_end  well    0.250 s"),
        ([well, bad], 1, "other eu  end_to_end  FAILED  -"),
        ([ours], 1, "other eu  end_to_end  unknown  -"),
    ):
        server.answers["POST", "/v1/admin/check"] = found
        assert status == run("check", "--json")[0]
        got, out, _ = run("check")
        assert status == got
        assert words in out


@pytest.mark.parametrize(
    ("moved", "words", "status", "said"),
    [
        (wire.Moved(moved=0, stayed=0, because=""), (), 0, "no stream is on agora"),
        (
            wire.Moved(moved=0, stayed=2, because="frozen"),
            (),
            1,
            "0 streams of agora move, 2 stay",
        ),
        (wire.Moved(moved=1, stayed=1, because="x"), (), 0, "1 stream of agora moves, 1 stay"),
        (wire.Moved(moved=0, stayed=1, because="x"), ("--share", "0.1"), 0, "0 streams of agora"),
    ],
)
def test_a_move_of_all_that_moves_none_has_failed(moved, words, status, said, server, run):
    """
    A share of few streams may be none of them.
    """
    server.answers["POST", "/v1/admin/move"] = moved

    got, out, _ = run("switch", "--from", "agora", *words)

    assert status == got
    assert said in out
