"""hitless.media.closing"""

import asyncio

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from hitless.media.closing import finish, take_apart


def test_a_peer_closed_just_when_ice_completed_checks_consent_no_longer():
    """
    aioice begins the checks after it was closed, and nothing would ever end them.
    """

    async def main():
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceiver = peer.addTransceiver("video")
        connection = transceiver.receiver.transport.transport._connection
        await peer.close()
        checks = connection._query_consent_task = asyncio.create_task(asyncio.sleep(3600))
        take_apart(peer)
        await asyncio.wait([checks], timeout=1.0)
        return checks.cancelled()

    assert asyncio.run(main())


def test_a_cancelled_caller_still_finishes_and_is_cancelled_then():
    async def main():
        done = []

        async def clean():
            await asyncio.sleep(0.05)
            done.append(True)

        caller = asyncio.create_task(finish(asyncio.create_task(clean())))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        return done

    assert asyncio.run(main()) == [True]
