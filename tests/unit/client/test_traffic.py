"""hitless.client.traffic, and how it comes into reports."""

from types import SimpleNamespace

import pytest
from canned import canned_feed
from control_server import go
from virtual_time import run

from hitless import LiveStreamingProvider, Memory
from hitless.client.traffic import Traffic
from hitless.providers.memory import MemoryHub


def leg(*stats):
    """Return a leg with these statistics; they may be replaced."""
    found = SimpleNamespace(provider="agora", now=list(stats))
    found.stats = lambda: found.now
    return found


def rtp(sent=0, received=0):
    """Return statistics of a leg that tells of RTP alone."""
    return [
        {"type": "outbound-rtp", "id": "o", "bytesSent": sent},
        {"type": "inbound-rtp", "id": "i", "bytesReceived": received},
    ]


def test_no_byte_is_told_twice_and_several_legs_are_added_up():
    traffic = Traffic()
    legs = {1: leg(*rtp(100, 10)), 2: leg(*rtp(7, 3))}

    first = traffic.taken(legs, (1, 2))
    legs[1].now = rtp(150, 10)
    second = traffic.taken(legs, (1, 2))

    assert first == (107, 13)
    assert second == (50, 0)
    assert traffic.taken(legs, (1, 2)) == (0, 0)


def test_a_leg_that_is_not_asked_about_loses_nothing_until_it_is():
    traffic = Traffic()
    legs = {1: leg(*rtp(100)), 2: leg(*rtp(5))}

    assert traffic.taken(legs, (1,)) == (100, 0)
    assert traffic.taken(legs, (2,)) == (5, 0)
    legs[1].now = rtp(130)
    assert traffic.taken(legs, (1, 2)) == (30, 0)


def test_a_transport_counts_more_than_rtp_and_is_believed_alone():
    traffic = Traffic()
    transport = {"type": "transport", "id": "t", "bytesSent": 120, "bytesReceived": 30}

    assert traffic.taken({1: leg(transport, *rtp(100, 10))}, (1,)) == (120, 30)


def test_a_counter_that_began_anew_counts_from_nothing():
    traffic = Traffic()
    legs = {1: leg(*rtp(100))}
    traffic.taken(legs, (1,))
    legs[1].now = rtp(40)

    assert traffic.taken(legs, (1,)) == (40, 0)


@pytest.mark.parametrize("value", [None, "many", -5, float("nan")])
def test_what_is_no_count_counts_nothing(value):
    assert Traffic().taken({1: leg({"type": "outbound-rtp", "bytesSent": value})}, (1,)) == (0, 0)


def test_statistics_that_fail_once_are_made_good_by_the_next():
    traffic = Traffic()
    legs = {1: leg(*rtp(100))}
    traffic.taken(legs, (1,))
    good = legs[1].stats

    def fails():
        raise RuntimeError("an adapter's own trouble")

    legs[1].stats = fails
    assert traffic.taken(legs, (1,)) == (0, 0)
    legs[1].stats, legs[1].now = good, rtp(160)
    assert traffic.taken(legs, (1,)) == (60, 0)


def test_a_stream_counts_where_it_is_carried_and_nowhere_else():
    """Of a real client; the other provider has no leg."""

    async def main():
        hubs = {name: MemoryHub() for name in ("agora", "webrtc")}
        feed = canned_feed()
        async with LiveStreamingProvider([Memory(n, hub=h) for n, h in hubs.items()]) as live:
            async with live.start_stream("show", feed):
                counted = live.manager.driver.carried
                there = counted("show", "agora"), counted("show", "agora")
                elsewhere = counted("show", "webrtc"), counted("other", "agora")
        await feed.aclose()
        return there, elsewhere

    (first, again), elsewhere = run(main())

    assert first[0] > 0
    assert again == (0, 0)
    assert elsewhere == ((0, 0), (0, 0))


def test_each_report_tells_what_was_carried_since_the_one_before():
    grown = iter([(1_000, 20), (0, 0), (500, 5)])

    async def test(server, client):
        server.report_s = 0.1
        asked = []

        def carried(stream, provider):
            asked.append((stream, provider))
            return next(grown, (0, 0))

        client.control.attach(
            post=client.posted.put_nowait,
            tell=client._tell,
            look=client.sessions.get,
            media_age_s=lambda provider: 0.25,
            carried=carried,
        )
        await client.publishes(server)
        reports = [await server.heard("report") for _ in range(3)]
        return reports, asked[0]

    reports, asked = go(test)
    told = [(one.get("bytesSent", 0), one.get("bytesReceived", 0)) for one in reports]

    assert told == [(1_000, 20), (0, 0), (500, 5)]
    assert asked == ("show", "agora")
