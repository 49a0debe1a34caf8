"""`hitless prove`: what it asks of a provider, and what it says of one that cannot do all of it"""

import asyncio
import json

import pytest
from canned import canned_feed
from virtual_time import run

from hitless import ConfigError, Memory, Refused
from hitless.cli import main, prove_publishers
from hitless.cli.prove_publishers import BOTH_S_MAX, two_publishers
from hitless.errors import LocalFault, Retry
from hitless.providers.checkup import Verdict
from hitless.providers.conformance import OF_VIEWERS, RULES, check_provider
from hitless.providers.memory import MemoryHub


class Ingest(Memory):
    """Takes streams; viewers use something else."""

    async def join_stream(self, stream):
        raise ConfigError("watch it with their SDK")


class ToOne(Memory):
    """Lets nobody in beside a publisher; `patience`: how many it refuses before it puts it out."""

    patience = 99

    async def start_stream(self, stream, source):
        if stream in self.hub.publishers:
            self.hub.refused = getattr(self.hub, "refused", 0) + 1
            if self.hub.refused <= self.patience:
                raise Refused("taken", provider=self.name, operation="publish", retry=Retry.SAME)
            await self.hub.publishers[stream].aclose()
        return await super().start_stream(stream, source)


class Impatient(ToOne):
    """Makes room for the second who asks twice."""

    patience = 1


class Both(Memory):
    """Lets in whoever comes, under names of their own."""

    made = 0

    async def start_stream(self, stream, source):
        Both.made += 1
        return await super().start_stream(f"{stream}-{Both.made}", source)


class Blind(Memory):
    """This machine has no camera for a second one."""

    async def start_stream(self, stream, source):
        if stream in self.hub.publishers:
            raise LocalFault("no second camera")
        return await super().start_stream(stream, source)


class Clinging(Memory):
    """A leg of it leaves only after it was asked to so many times."""

    patience = 2

    async def start_stream(self, stream, source):
        leg = await super().start_stream(stream, source)
        closed, tries = leg.aclose, []

        async def aclose():
            tries.append(1)
            await (asyncio.sleep(600) if len(tries) < self.patience else closed())

        leg.aclose = aclose
        return leg


async def canned(*_, **__):
    return canned_feed()


def found(kind, monkeypatch):
    """Return what two publishers of adapters of a kind come to, by step."""
    monkeypatch.setattr(prove_publishers, "open_feed", canned)

    async def main():
        hub = MemoryHub()

        async def make():
            return kind("it", hub=hub)

        return {one.step: one async for one in two_publishers(make, "s")}

    return run(main())


# --- Two publishers ---


@pytest.mark.parametrize(
    ("kind", "verdict", "says"),
    [
        (ToOne, Verdict.GOOD, "a second one is not let in while the first is there: taken"),
        (Impatient, Verdict.GOOD, "the second put the first out, which knew within 0"),
        (Both, Verdict.WARNING, f"two publish one stream, for {BOTH_S_MAX:g} s and more"),
        (Blind, Verdict.LEFT_OUT, "the second: no second camera"),
    ],
)
def test_who_stays_of_two_publishers_is_told(kind, verdict, says, monkeypatch):
    """
    Two are a warning that says what to configure.
    """
    one = found(kind, monkeypatch)["publishers"]

    assert one.verdict is verdict, one
    assert one.says.startswith(says)
    assert bool(one.fix) is (verdict is Verdict.WARNING)


@pytest.mark.parametrize("patience", [2, 3])
def test_a_publisher_that_does_not_leave_is_bad(patience, monkeypatch):
    """
    It is not waited for, however often it hangs, and nothing else is held up.
    """
    monkeypatch.setattr(Clinging, "patience", patience)

    assert found(Clinging, monkeypatch)["leaving"].verdict is Verdict.BAD
    assert found(ToOne, monkeypatch)["leaving"].verdict is Verdict.GOOD


def test_a_first_publisher_that_is_refused_ends_it(monkeypatch):
    """
    There is nothing to compare with.
    """

    class Closed(Memory):
        async def start_stream(self, stream, source):
            raise Refused("closed today", provider=self.name, operation="publish")

    told = found(Closed, monkeypatch)

    assert ["publishers"] == list(told)
    assert told["publishers"].verdict is Verdict.BAD
    assert "closed today" in told["publishers"].says


# --- An ingest whose viewers use something else ---


def test_rules_about_viewers_are_left_out_where_nothing_can_be_viewed():
    """
    All others are tried; said to be viewed by it, it breaks the third.
    """

    async def make():
        return Ingest("in")

    seen = run(check_provider(make, feed=canned))
    blind = run(check_provider(make, feed=canned, views=False))

    assert {"C3", "C7"} <= {one.rule for one in seen.findings if not one.is_kept}
    assert not seen.passed
    assert blind.passed
    assert OF_VIEWERS == blind.left_out
    assert set(RULES) - set(OF_VIEWERS) == {one.rule for one in blind.findings}


def test_an_ingest_can_break_the_other_rules():
    """
    What cannot fail says nothing.
    """

    class Nameless(Ingest):
        async def start_stream(self, stream, source):
            leg = await super().start_stream(stream, source)
            leg.stats = list
            return leg

    class Stubborn(Ingest):
        async def start_stream(self, stream, source):
            try:
                return await super().start_stream(stream, source)
            except asyncio.CancelledError:
                return None

    for kind, rule in ((Nameless, "C8"), (Clinging, "C9"), (Stubborn, "C10")):

        async def make(kind=kind):
            return kind("in")

        report = run(check_provider(make, feed=canned, views=False))
        assert [rule] == [one.rule for one in report.findings if not one.is_kept]


def test_a_publisher_that_does_not_leave_breaks_the_contract_with_viewers_too():
    """
    Said of the rule that it breaks, and not of a suite that took too long.
    """

    async def make():
        return Clinging("it")

    report = run(check_provider(make, feed=canned))
    assert ["C9"] == [one.rule for one in report.findings if not one.is_kept]


# --- The command ---


def test_a_record_of_several_paths_says_which_are_to_be_chosen_from():
    """
    What was run by RTMP says nothing of WHIP.
    """
    from hitless.cli.prove import _ways

    assert len(_ways("agora")) == 3
    assert 1 == len(_ways("janus"))
    assert () == _ways("memory")


@pytest.mark.realtime
def test_what_cannot_be_watched_from_here_is_proven_without_viewers(tmp_path, monkeypatch, capsys):
    """
    As Agora's ingest is: the record says what was not tried.
    """
    monkeypatch.setattr(Memory, "join_stream", Ingest.join_stream)
    monkeypatch.setattr(prove_publishers, "BOTH_S_MAX", 1.0)
    path = tmp_path / "hitless.toml"
    path.write_text('[[provider]]\nname = "in"\nadapter = "memory"\n')

    status = main(["prove", "in", "--json", "--config", str(path)])

    said = json.loads(capsys.readouterr().out)
    assert 0 == status, said
    what = said["record"]["what"]
    assert what.startswith("6 of 12 rules kept, 6 about viewers not tried; published within")
    assert "cannot be watched from here" in what
    assert "a publisher left within" in what
