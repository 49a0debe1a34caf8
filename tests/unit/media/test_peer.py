"""Peers: how they are negotiated, connected and closed."""

from __future__ import annotations

import asyncio

import aiortc
import pytest
from aiortc import (
    RTCRtpReceiver,
    RTCRtpSender,
)
from canned_media import canned_feed
from peer_pair import (
    LIMIT_S,
    now,
    pair,
    settings,
    stock_peer,
    viewer,
)

from hitless.errors import ContractBroken, MediaLost
from hitless.media.connection import IceServer, is_loopback
from hitless.media.frame import Kind
from hitless.media.peer import GATHER_S, PublishingPeer


def test_a_stock_peer_made_meanwhile_is_stock() -> None:
    """Our changes are on our own peers' objects only."""

    async def main() -> None:
        async with pair():
            pc = stock_peer()
            transceiver = pc.addTransceiver("video")
            ice = transceiver.receiver.transport.transport._connection
            assert type(transceiver.sender) is RTCRtpSender
            assert type(transceiver.receiver) is RTCRtpReceiver
            assert "get_component_candidates" not in vars(ice)
            assert aiortc.rtcpeerconnection.RTCRtpReceiver is RTCRtpReceiver
            await pc.setLocalDescription(await pc.createOffer())
            assert " 127.0.0.1 " not in "".join(
                line for line in pc.localDescription.sdp.splitlines() if "candidate" in line
            )
            await pc.close()

    asyncio.run(main())


def test_on_loopback_the_only_candidate_is_127_0_0_1() -> None:
    """aioice leaves it out, and other addresses would not be reachable without a network."""

    async def main() -> None:
        watching = viewer()
        offer = await watching.offer()
        await watching.aclose()
        hosts = {line.split()[4] for line in offer.splitlines() if line.startswith("a=candidate")}
        assert hosts == {"127.0.0.1"}
        assert "a=rtcp-mux-only" in offer

    asyncio.run(main())


def test_loopback_hosts_are_known() -> None:
    """By address and by name."""
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(map(is_loopback, ("10.0.0.1", "example.com", "localhost.example.com")))


def test_an_unreachable_stun_server_costs_at_most_the_limit() -> None:
    """aioice would wait 5 s."""

    async def main() -> None:
        silent, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        port = silent.get_extra_info("sockname")[1]
        watching = viewer(ice_servers=[IceServer(urls=f"stun:127.0.0.1:{port}")])
        begun = now()
        offer = await watching.offer()
        assert now() - begun < GATHER_S + 0.5
        assert "a=candidate" in offer
        await watching.aclose()
        silent.close()

    asyncio.run(main())


def test_a_far_side_that_closes_is_known_at_once() -> None:
    """By DTLS, long before any silence."""

    async def main() -> None:
        async with pair() as (_, _, sending, watching, _):
            await sending.aclose()
            begun = now()
            with pytest.raises(MediaLost, match="closed by the far side"):
                async with asyncio.timeout(LIMIT_S):
                    await watching.lost()
            assert now() - begun < 0.1

    asyncio.run(main())


def test_unanswered_connectivity_checks_blame_nobody() -> None:
    """The fault may lie in our own network."""

    async def main() -> None:
        silent, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        port = silent.get_extra_info("sockname")[1]
        one, other = viewer(), viewer()
        answer = await other.answer((await one.offer()).replace("recvonly", "sendrecv"))
        lines = [
            " ".join([*line.split()[:5], str(port), *line.split()[6:]])
            if line.startswith("a=candidate")
            else line
            for line in answer.splitlines()
        ]
        await one.accept("\r\n".join(lines))
        await other.aclose()
        with pytest.raises(MediaLost, match=r"\(ICE\) not finished in time") as caught:
            await one.connected(now() + 0.4)
        assert caught.value.answered is False
        await one.aclose()
        silent.close()

    asyncio.run(main())


def test_a_failed_handshake_is_told_from_failed_checks() -> None:
    """The path works; what is behind it does not."""

    async def main() -> None:
        source, _ = canned_feed(Kind.AUDIO)
        sending, watching = PublishingPeer(feed=source, **settings("publish")), viewer()
        answer = await watching.answer(await sending.offer())
        lines = [
            line[:-2] + "00" if line.startswith("a=fingerprint") else line
            for line in answer.splitlines()
        ]
        await sending.accept("\r\n".join(lines))
        with pytest.raises(MediaLost, match="DTLS") as caught:
            await sending.connected(now() + LIMIT_S)
        assert caught.value.answered is True
        await sending.aclose()
        await watching.aclose()
        await source.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("answer", ["", "v=0\r\n", "nonsense", "v=0\r\nm=audio x y z\r\n"])
def test_an_answer_that_is_none_is_a_broken_contract(answer: str) -> None:
    """aiortc's parser raises all sorts of errors."""

    async def main() -> None:
        watching = viewer()
        await watching.offer()
        with pytest.raises(ContractBroken, match="session description"):
            await watching.accept(answer)
        await watching.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("stage", ["new", "offered", "accepted", "connected"])
def test_closing_leaves_no_task_behind_at_any_stage(stage: str) -> None:
    """Twice is fine, and it is quick."""

    async def main() -> None:
        mine = asyncio.all_tasks()
        source, _ = canned_feed()
        sending, watching = PublishingPeer(feed=source, **settings("publish")), viewer()
        if stage != "new":
            offer = await sending.offer()
            if stage != "offered":
                await sending.accept(await watching.answer(offer))
                if stage == "connected":
                    await sending.connected(now() + LIMIT_S)
        begun = now()
        for peer in (sending, watching, sending, watching):
            await peer.aclose()
        assert now() - begun < 1.0
        await source.aclose()
        assert asyncio.all_tasks() == mine

    asyncio.run(main())


def test_a_cancelled_close_still_closes() -> None:
    """And the cancellation is not swallowed."""

    async def main() -> None:
        async with pair() as (_, _, sending, watching, _):
            closing = asyncio.create_task(sending.aclose())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            with pytest.raises(MediaLost):
                async with asyncio.timeout(LIMIT_S):
                    await watching.lost()

    asyncio.run(main())
