"""hitless.client.quality, and how it comes into reports."""

import asyncio
from types import SimpleNamespace

import pytest
from canned import canned_feed
from control_server import go
from peer_pair import pair, until
from virtual_time import run

from hitless import LiveStreamingProvider, Memory
from hitless.client import protocol
from hitless.client.control import ControlPlane
from hitless.client.quality import UNMEASURED, Gauge, Quality, report_of
from hitless.core.events import Role
from hitless.core.state import Session


SOUND = {"type": "inbound-rtp", "id": "a", "kind": "audio"}
PICTURES = {"type": "inbound-rtp", "id": "v", "kind": "video"}
SENT = {"type": "outbound-rtp", "id": "o", "kind": "video", "packetsSent": 1_000}
TOLD = {"type": "remote-inbound-rtp", "id": "r", "kind": "video", "localId": "o"}
PAIR = {"type": "candidate-pair", "id": "p", "nominated": True}


class Stand:
    """A session with one leg on air whose statistics the test sets, on a clock of the test's."""

    def __init__(self, *stats, role=Role.VIEWER):
        self.now, self.now_s = list(stats), 100.0
        self.legs = {7: SimpleNamespace(provider="agora", stats=lambda: self.now)}
        self.state = Session(id="s", stream="show", role=role, on_air=7)
        self.gauge = Gauge({"s": self}.get, self.legs, lambda: self.now_s)

    def __getattr__(self, name):
        return getattr(self.state, name)

    def measured(self):
        return self.gauge.measured("s")

    def later(self, s, *stats):
        """Let time pass and the statistics be others, and return what is measured then."""
        self.now_s, self.now = self.now_s + s, list(stats)
        return self.measured()


def publishes(*stats):
    return Stand(*stats, role=Role.PUBLISHER)


def test_a_viewer_tells_what_it_received_itself():
    """
    Packets of both kinds are added up; of two jitters the worse is felt.
    """
    found = Stand(
        SOUND | {"packetsReceived": 500, "packetsLost": 5, "jitter": 0.002},
        PICTURES | {"packetsReceived": 900, "packetsLost": 20, "jitter": 0.011},
        TOLD | {"packetsLost": 400, "packetsReceived": 1, "jitter": 0.4, "roundTripTime": 3.0},
        PAIR | {"currentRoundTripTime": 0.03},
    ).measured()

    assert found == Quality(packets_lost=25, packets_received=1_400, jitter_s=0.011, rtt_s=0.03)


def test_a_publisher_tells_what_its_receiver_told_it():
    """
    What came is the rest of what was sent, where the receiver does not say it.
    """
    own_view = PICTURES | {"packetsReceived": 7, "packetsLost": 7, "jitter": 0.7}
    told = TOLD | {"packetsLost": 30, "jitter": 0.004, "roundTripTime": 0.05}
    pair = PAIR | {"currentRoundTripTime": 0.02}

    found = publishes(own_view, SENT, told, pair).measured()
    counted = publishes(SENT, told | {"packetsReceived": 960}).measured()

    assert found == Quality(packets_lost=30, packets_received=970, jitter_s=0.004, rtt_s=0.05)
    assert counted.packets_received == 960


def test_a_round_trip_is_the_shortest_of_the_way_in_use():
    spare = PAIR | {"nominated": False, "currentRoundTripTime": 0.001}
    two = (TOLD | {"roundTripTime": 0.09}, TOLD | {"roundTripTime": 0.06})

    assert publishes(*two, PAIR | {"currentRoundTripTime": 0.01}).measured().rtt_s == 0.06
    assert publishes(SENT, spare, PAIR | {"currentRoundTripTime": 0.01}).measured().rtt_s == 0.01
    assert publishes(SENT, spare).measured().rtt_s == 0.0


@pytest.mark.parametrize(
    "counts", [{}, {"packetsLost": 3}, {"packetsReceived": 900}, {"packetsLost": 3, "localId": 1}]
)
def test_packets_without_a_total_are_not_counted(counts):
    """
    Nobody could tell a share; RTMP and the vendors' SDKs count none at all.
    """
    assert Stand(PICTURES | counts).measured() == UNMEASURED
    assert publishes(TOLD | counts | {"packetsReceived": None}).measured() == UNMEASURED


def test_copies_that_outnumber_the_lost_are_no_loss():
    """
    RFC 3550 lets the count fall below zero.
    """
    found = Stand(PICTURES | {"packetsReceived": 100, "packetsLost": -4}).measured()
    sent = publishes(SENT, TOLD | {"packetsLost": -4}).measured()

    assert (found.packets_lost, found.packets_received) == (0, 100)
    assert (sent.packets_lost, sent.packets_received) == (0, 1_000)


@pytest.mark.parametrize("is_publisher", [True, False])
def test_pictures_a_second_are_those_since_the_last_report(is_publisher):
    one, name = (SENT, "framesSent") if is_publisher else (PICTURES, "framesReceived")
    stand = Stand(one | {name: 250}, role=Role.PUBLISHER if is_publisher else Role.VIEWER)

    assert stand.measured().frames_per_s == 0.0
    assert stand.later(10.0, one | {name: 550}).frames_per_s == 30.0
    assert stand.later(0.0, one | {name: 551}).frames_per_s == 0.0
    assert stand.later(10.0, SOUND | {name: 9_000}, one | {name: 801}).frames_per_s == 25.0
    assert stand.later(10.0, one | {name: 20}).frames_per_s == 0.0  # it began anew
    assert stand.later(10.0, one | {name: 320}).frames_per_s == 30.0
    assert stand.later(10.0, one | {name: 330, "framesPerSecond": 24.0}).frames_per_s == 24.0


def test_pictures_of_another_leg_are_not_counted_on():
    """
    What is remembered of legs goes with them.
    """
    stand = Stand(PICTURES | {"framesReceived": 1_000})
    stand.measured()
    stand.legs[8] = stand.legs.pop(7)
    stand.state = Session(id="s", stream="show", role=Role.VIEWER, on_air=8)

    assert stand.later(10.0, PICTURES | {"framesReceived": 5_000}).frames_per_s == 0.0
    assert set(stand.gauge._frames) == {8}


@pytest.mark.parametrize("value", [None, "many", -5, float("nan"), float("inf"), [], 10**400])
def test_what_is_no_figure_is_not_told(value):
    """
    JSON has no such numbers: one would spoil the whole report.
    """
    names = "packetsLost", "packetsReceived", "jitter", "roundTripTime", "framesPerSecond"
    stand = Stand(PICTURES | dict.fromkeys((*names, "framesReceived"), value))

    assert stand.measured() == UNMEASURED
    assert stand.later(1.0, *stand.now) == UNMEASURED


@pytest.mark.parametrize("stats", [lambda: 1 / 0, lambda: None, lambda: [None]])
def test_statistics_that_fail_are_logged_and_nothing_is_measured(caplog, stats):
    stand = Stand()
    stand.legs[7].stats = stats

    assert stand.measured() == UNMEASURED
    assert ["quality of a leg" in one.getMessage() for one in caplog.records] == [True]


def test_nothing_is_measured_where_nothing_is_on_air():
    stand = Stand(PICTURES | {"framesPerSecond": 30.0})
    assert stand.measured() != UNMEASURED

    assert stand.gauge.measured("other") == UNMEASURED
    stand.legs.clear()
    assert stand.measured() == UNMEASURED
    stand.state = Session(id="s", stream="show", role=Role.VIEWER)
    assert stand.measured() == UNMEASURED


def test_what_is_not_measured_is_told_as_nothing():
    report = report_of("show", "rtmp", 0.1, (5, 0), UNMEASURED)

    assert report == protocol.Report(stream="show", provider="rtmp", mediaAge=0.1, bytesSent=5)
    assert protocol.decode_up(protocol.encode(report)) == report


def test_figures_of_real_peers_are_read_on_both_sides():
    async def main():
        async with pair() as (_, _, sending, watching, _):
            ends = {"p": Role.PUBLISHER, "v": Role.VIEWER}
            legs = dict(enumerate((sending, watching)))
            sessions = {
                id: Session(id=id, stream="show", role=role, on_air=number)
                for number, (id, role) in enumerate(ends.items())
            }
            gauge = Gauge(sessions.get, legs, asyncio.get_running_loop().time)
            gauge.measured("p"), gauge.measured("v")
            await until(lambda: all(one.report is not None for one in sending.senders))
            await until(lambda: gauge.measured("p").rtt_s > 0)
            return gauge.measured("p"), gauge.measured("v")

    for found in asyncio.run(main()):
        assert found.packets_received > 10
        assert found.packets_lost < found.packets_received
        assert 0 < found.rtt_s < 5.0
        assert 0 <= found.jitter_s < 5.0


def test_a_report_tells_what_the_leg_on_air_measured():
    asked = []

    def measured(session):
        asked.append(session)
        return Quality(
            packets_lost=3, packets_received=97, jitter_s=0.01, rtt_s=0.2, frames_per_s=29.5
        )

    async def test(server, client):
        server.report_s = 0.1
        client.control.attach(
            post=client.posted.put_nowait,
            tell=client._tell,
            look=client.sessions.get,
            media_age_s=lambda provider: 0.25,
            measured=measured,
        )
        await client.publishes(server)
        return await server.heard("report")

    assert go(test) == {
        "type": "report",
        "stream": "show",
        "provider": "agora",
        "mediaAge": 0.25,
        "packetsLost": 3,
        "packetsReceived": 97,
        "jitter": 0.01,
        "roundTripTime": 0.2,
        "framesPerSecond": 29.5,
    }
    assert asked[0] == "s"


class Offline(ControlPlane):
    """A control plane that is never there; it keeps what it was given to look at its client."""

    def attach(self, *, measured, **more):
        self.measured = measured

    async def begin(self, session, stream, role):
        return None


def test_a_client_measures_its_own_legs_on_air():
    """
    Of a real client, whose provider counts pictures and nothing else.
    """

    async def listed():
        return [Memory("agora")]

    async def main():
        feed, control = canned_feed(), Offline("http://127.0.0.1:9")
        async with LiveStreamingProvider(listed, backend=control) as live:
            async with live.start_stream("show", feed):
                (session,) = live.manager.driver.state.sessions
                first = control.measured(session)
                await asyncio.sleep(10.0)
                second = control.measured(session)
            over = control.measured(session)
        await feed.aclose()
        return first, second, over

    first, second, over = run(main())

    assert second.frames_per_s == pytest.approx(30.0, abs=0.2)
    assert second == Quality(frames_per_s=second.frames_per_s)
    assert first == over == UNMEASURED
