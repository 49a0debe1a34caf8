"""hitless.server.socket: what becomes of clients' reports and news, in virtual time."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families
from unit.server.room import APP, Room
from virtual_time import run

from hitless.client import protocol
from hitless.core.observation import MediaFresh, QualityReported
from hitless.server.keys import Identity, KeyRole
from hitless.server.samples import PER_S, Samples
from hitless.server.socket import Client


NETWORK = "192.0.2.7"


def at_client(play, *, role="viewer", who=APP, region=""):
    """Run a play with our side of a conversation about one stream; return the node."""

    async def main():
        async with Room("one", "two") as room:
            seen = protocol.Seen(stream="show", role=role)
            client = Client(room, who, NETWORK)
            hello = protocol.Hello(client="tv", region=region, streams=(seen,))
            connection = await client.begin(protocol.encode(hello))
            await play(room, client, connection)
            await client.aclose()
            return room

    return run(main())


def report(provider="one", **more):
    """Return a report as it comes."""
    return protocol.encode(protocol.Report(stream="show", provider=provider, **more))


@pytest.mark.parametrize(
    ("age_s", "is_fresh"), [(0.0, True), (0.4, True), (10.0, True), (10.1, False), (1e300, False)]
)
@pytest.mark.parametrize("is_short_way", [True, False])
def test_a_report_of_old_media_is_no_proof_that_media_flows(age_s, is_fresh, is_short_way):
    """
    A client whose picture stands still goes on reporting.
    """

    async def play(room, client, connection):
        if is_short_way:
            assert client.hear_now(report(mediaAge=age_s))
        else:
            await client.hear(report(mediaAge=age_s))

    observed = at_client(play).observed
    assert is_fresh is any(isinstance(one, MediaFresh) for one in observed)


def test_figures_of_a_report_are_evidence_of_quality():
    """
    What a client did not measure is not taken for perfect.
    """

    async def play(room, client, connection):
        await client.hear(report("one", roundTripTime=0.9, jitter=0.02))
        await client.hear(report("two", jitter=0.2))
        await client.hear(report("three", jitter=0.2))  # nobody knows it

    found = [one for one in at_client(play).observed if isinstance(one, QualityReported)]
    about = {"client": "tv", "stream": "show", "network": NETWORK}
    assert found == [
        QualityReported(provider="one", rtt_s=0.9, jitter_s=0.02, **about),
        QualityReported(provider="two", jitter_s=0.2, **about),
    ]


def test_what_a_client_says_counts_for_the_region_that_it_is_in():
    """
    Of a provider that has it; what nobody has a region of that name for counts for all.
    """

    async def play(room, client, connection):
        room.rows["one"].config["regions"] = {"eu": {}, "us": {}}
        for provider in ("one", "two"):
            await client.hear(report(provider, jitter=0.2))
            for state in ("live", "failed"):
                news = protocol.LegNews(stream="show", provider=provider, state=state)
                await client.hear(protocol.encode(news))

    observed = at_client(play, role="publisher", region="eu").observed
    assert {type(one).__name__ for one in observed} == {
        "MediaFresh", "QualityReported", "StartEnded"
    }  # fmt: skip
    assert {one.region for one in observed if one.provider == "one"} == {"eu"}
    assert {one.region for one in observed if one.provider == "two"} == {None}


def test_a_report_without_figures_says_nothing_of_quality():
    async def play(room, client, connection):
        await client.hear(report(mediaAge=0.1, packetsLost=3.0, framesPerSecond=30.0))

    assert [MediaFresh] == [type(one) for one in at_client(play).observed]


def test_packets_lost_between_two_reports_are_evidence_of_quality():
    """
    Of each connection by itself; the first report after a hello may tell of another day.
    """

    async def play(room, client, connection):
        for lost, received in ((900.0, 1_000), (900.0, 2_000), (1_900.0, 3_000)):
            await client.hear(report(packetsLost=lost, packetsReceived=received))
            await asyncio.sleep(1.0 / PER_S)
        again = Client(room, APP, NETWORK)
        seen = protocol.Seen(stream="show", role="viewer")
        await again.begin(protocol.encode(protocol.Hello(client="tv", streams=(seen,))))
        await again.hear(report(packetsLost=1_900.0, packetsReceived=9_000))
        await again.aclose()

    found = [one for one in at_client(play).observed if isinstance(one, QualityReported)]
    assert [(one.loss, one.rtt_s, one.jitter_s) for one in found] == [
        (0.0, None, None),
        (0.5, None, None),
    ]


@pytest.mark.parametrize("is_short_way", [True, False])
def test_packets_are_counted_from_reports_that_are_not_looked_at_too(is_short_way):
    """
    Otherwise the share would be that of some other time.
    """

    async def play(room, client, connection):
        for lost, received, wait_s in ((0.0, 1_000, 0.01), (1_000.0, 1_000, 1.0), (0.0, 0, 1.0)):
            data = report(packetsLost=lost, packetsReceived=received, jitter=0.01)
            if is_short_way:
                assert client.hear_now(data)
            else:
                await client.hear(data)
            await asyncio.sleep(wait_s)
        for received in (5_000, 6_000):
            await client.hear(report(packetsLost=1_000.0, packetsReceived=received))
            await asyncio.sleep(1.0)

    found = [one for one in at_client(play).observed if isinstance(one, QualityReported)]
    assert [one.loss for one in found] == [None, None, 0.0]


def test_of_many_reports_as_many_are_looked_at_as_tell_enough():
    """
    Each is heard, whatever its figures are; looking at all of them would cost too much.
    """

    async def play(room, client, connection):
        for number in range(200):
            await client.hear(report(jitter=0.01 + number / 1000))
            await asyncio.sleep(0.025)

    observed = at_client(play).observed
    assert sum(isinstance(one, MediaFresh) for one in observed) == 200
    looked_at = sum(isinstance(one, QualityReported) for one in observed)
    assert 5 * PER_S - 2 <= looked_at <= 5 * PER_S + 1


def test_samples_of_one_provider_leave_the_others_theirs_and_are_bounded():
    samples = Samples()

    assert samples.takes("one", 10.0)
    assert not samples.takes("one", 10.1)
    assert samples.takes("two", 10.1)
    assert samples.takes("one", 10.0 + 1.0 / PER_S)
    for number in range(10_000):
        assert samples.takes(f"p{number}", 20.0)
    assert len(samples._next_s) <= 256


def test_what_became_of_legs_and_how_old_media_is_are_metrics():
    async def play(room, client, connection):
        await client.hear(report(mediaAge=0.3))
        for state, provider in (("silent", "one"), ("live", "two")):
            news = protocol.LegNews(stream="show", provider=provider, state=state, mediaAge=0.4)
            await client.hear(protocol.encode(news))
        room.page = (await room.metrics.page()).decode()

    found = {
        (sample.name, sample.labels.get("provider"), sample.labels.get("state")): sample.value
        for family in text_string_to_metric_families(at_client(play).page)
        for sample in family.samples
    }
    assert found["hitless_client_legs_total", "one", "silent"] == 1
    assert found["hitless_client_legs_total", "two", "live"] == 1
    assert found["hitless_client_silence_seconds_sum", "one", None] == pytest.approx(0.4)
    assert found["hitless_client_media_age_seconds_sum", "one", None] == pytest.approx(0.3)


def test_a_connection_ends_when_its_key_is_revoked_and_others_stay():
    """
    It would otherwise be told where the stream goes for as long as it liked.
    """
    other = Identity(key="k9", role=KeyRole.CLIENT, scope=None, name="another app")

    async def play(room, client, connection):
        second = Client(room, other, NETWORK)
        stays = await second.begin(protocol.encode(protocol.Hello(client="tv")))
        assert room.hub.end_keys(lambda key: False) == 0
        assert room.hub.end_keys(lambda key: key == APP.key) == 1
        assert connection.cut.is_set()
        assert connection.last_word.code == "bad-key"
        assert not stays.cut.is_set()
        await second.aclose()

    at_client(play)
