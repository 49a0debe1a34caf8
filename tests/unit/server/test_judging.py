"""hitless.server.judging: what a node thinks of a provider, as it answers."""

import pytest

from hitless.core.evidence import Rules, Word
from hitless.core.observation import Level, MediaFresh, ProbeEnded
from hitless.server.judging import Judge


class Clock:
    """A clock that is set."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Bench:
    """A judge, its clock, and what it told."""

    def __init__(self, **rules):
        self.clock, self.told = Clock(), []
        self.judge = Judge(Rules(**rules), self.clock, self.told.append)
        for name in ("a", "b"):
            self.judge.allow(name, True, "enabled by an operator")

    def probed(self, ok, times=1, provider="a", every_s=1.0, level=Level.END_TO_END):
        """Let probes of a provider end."""
        for _ in range(times):
            self.clock.now_s += every_s
            self.judge.observe(
                ProbeEnded(
                    provider=provider,
                    level=level,
                    ok=ok,
                    because="viewed" if ok else "HTTP 503",
                    latency_s=0.25 if ok else None,
                )
            )

    @property
    def words(self):
        """Return what was told, each with whom it is about."""
        return [(one.provider, one.verdict.word) for one in self.told if one.verdict]


def test_of_a_new_provider_nothing_is_known_and_it_may_be_used():
    judge = Bench().judge

    found = judge.health_in_full("a")
    assert (found.healthy, found.status, found.grade) == (True, "active", "unknown")
    assert (found.latency_s, found.uptime, found.checked_ago_s) == (None, None, None)
    assert (judge.rank("a"), judge.share("a")) == (0, 1.0)


def test_a_good_probe_makes_it_healthy_and_is_told_once():
    bench = Bench()

    bench.probed(True, times=5)

    assert bench.words == [("a", Word.HEALTHY)]
    found = bench.judge.health_in_full("a")
    assert (found.level, found.failures, found.checked_ago_s) == ("end_to_end", 0, 0.0)
    assert found.latency_s is None  # what a canary takes is no answer time
    bench.probed(True, level=Level.CONTROL)
    assert bench.judge.health_in_full("a").latency_s == 0.25


def test_three_failures_in_a_row_put_it_down_and_last_in_the_order():
    bench = Bench()
    bench.probed(True)
    bench.probed(True, provider="b")

    bench.probed(False, times=3)

    found = bench.judge.health_in_full("a")
    assert (found.healthy, found.status, found.grade) == (False, "down", "critical")
    assert found.failures == 3
    assert bench.judge.rank("a") > bench.judge.rank("b")
    assert bench.words[-1] == ("a", Word.DOWN)
    assert "503" in found.because


def test_what_the_public_is_told_is_a_part_of_what_is_told_with_a_key():
    bench = Bench()
    bench.probed(False, times=3)

    public, full = bench.judge.health("a"), bench.judge.health_in_full("a")

    assert type(public).__struct_fields__ == ("healthy", "provider", "status")
    assert (public.healthy, public.status) == (full.healthy, full.status)


def test_what_operators_disabled_is_disabled_and_comes_after_all_others():
    bench = Bench()
    bench.judge.allow("a", False, "disabled by an operator")

    found = bench.judge.health_in_full("a")
    assert (found.healthy, found.status, found.grade) == (False, "disabled", "disabled")
    assert bench.judge.rank("a") == 3
    bench.judge.allow("a", True, "enabled by an operator")
    assert bench.judge.health("a").status == "active"


def test_one_that_comes_back_gets_its_share_in_steps():
    bench = Bench()
    bench.probed(True)
    bench.probed(True, provider="b")
    bench.probed(False, times=3)
    down = bench.judge.share("a")

    shares = []
    for _ in range(400):
        bench.probed(True, every_s=5.0)
        bench.probed(True, provider="b", every_s=0.0)
        shares.append(bench.judge.share("a"))

    assert down < 1.0
    assert shares == sorted(shares)
    assert len(set(shares)) > 2
    assert shares[-1] == 1.0


def test_time_alone_lets_what_was_checked_grow_old():
    bench = Bench()
    bench.probed(True)

    bench.clock.now_s += 12.5
    bench.judge.tick()

    assert bench.judge.health_in_full("a").checked_ago_s == 12.5


def test_fresh_media_counts_for_a_provider():
    bench = Bench()
    bench.judge.observe(MediaFresh(provider="a", client="c", stream="show", network="n"))

    assert bench.judge.verdict("a").word in (Word.HEALTHY, Word.UNKNOWN)
    assert bench.judge.health("a").healthy


def test_a_provider_that_is_gone_is_forgotten():
    bench = Bench()
    bench.probed(False, times=3)

    bench.judge.forget("a")

    assert bench.judge.health_in_full("a").failures == 0
    assert bench.judge.verdict("a").word is Word.UNKNOWN


@pytest.mark.parametrize("name", ["", "none", "\0"])
def test_of_one_that_nobody_knows_there_is_an_answer_too(name):
    found = Bench().judge.health_in_full(name)

    assert (found.provider, found.grade) == (name, "unknown")
