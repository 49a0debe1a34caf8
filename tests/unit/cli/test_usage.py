"""hitless.cli.usage: what was measured"""

import json

import pytest

from hitless.server import wire


USED = wire.Usage(
    provider="agora",
    publisher_minutes=61.5,
    viewer_minutes=1200.0,
    streams=3,
    cost=12.615,
    currency="EUR",
    because="0.01 for each minute of a publisher or a viewer",
    sent_gb=0.1234,
    received_gb=61.5,
)
DID = wire.Moment(
    at_s=1_700_000_000.0, uptime=0.99, error_rate=None, latency_s=0.021, streams=2.0, viewers=40.5
)


def test_the_months_use_and_cost_are_a_table(server, run):
    """
    The month goes along as it was said.
    """
    server.answers["GET", "/v1/admin/usage"] = [USED]

    status, out, _ = run("usage", "--month", "2026-11")

    assert 0 == status
    assert "12.62 EUR" in out or "12.61 EUR" in out
    assert out.splitlines()[1].split()[:6] == ["agora", "61.5", "1200.0", "3", "0.123", "61.500"]
    assert {"month": "2026-11"} == server.calls[-1][2]


@pytest.mark.parametrize(("words", "step"), [((), "minute"), (("--hours",), "hour")])
def test_how_a_provider_did_is_a_line_a_step(server, run, words, step):
    """
    What is not known is a dash.
    """
    server.answers["GET", "/v1/admin/history"] = [DID]

    status, out, _ = run("history", "agora", "--since", "2h", *words)

    assert 0 == status
    assert ["99.0%", "-", "0.021", "s", "2.0", "40.5"] == out.splitlines()[1].split()[-6:]
    assert server.calls[-1][2] == {"provider": "agora", "step": step, "since": "7200.0"}


def test_both_are_json_when_asked(server, run):
    """
    As the API says it.
    """
    server.answers["GET", "/v1/admin/usage"] = [USED]
    server.answers["GET", "/v1/admin/history"] = []

    assert "EUR" == json.loads(run("usage", "--json")[1])[0]["currency"]
    assert [] == json.loads(run("history", "agora", "--json")[1])
    assert "nothing was measured" in run("history", "agora")[2]


def test_a_price_is_taken_away_by_a_word_of_its_own(server, run):
    """
    Not together with a new one.
    """
    server.answers["PATCH", "/v1/admin/providers/agora"] = server.answers[
        "GET", "/v1/admin/providers"
    ][0]

    good = run("providers", "change", "agora", "--no-price")
    both = run("providers", "change", "agora", "--no-price", "--price", "per_gb=1")

    assert (0, 2) == (good[0], both[0])
    assert server.acts[-1][3] == {"price": {}}
    assert "--price or --no-price, not both" in both[2]


def test_a_price_is_said_in_words_of_its_own(server, run):
    """
    Anything else is refused before anything is sent.
    """
    server.answers["PATCH", "/v1/admin/providers/agora"] = server.answers[
        "GET", "/v1/admin/providers"
    ][0]

    good = run("providers", "change", "agora", "--price", "per_minute=0.01",
               "--price", "currency=EUR")  # fmt: skip
    bad = run("providers", "change", "agora", "--price", "per_hour=1")

    assert (0, 2) == (good[0], bad[0])
    assert server.acts[-1][3]["price"] == {"per_minute": 0.01, "currency": "EUR"}
    assert "per_minute, per_gb and currency" in bad[2]
