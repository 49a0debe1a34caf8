"""Closing things so that a cancelled caller leaves nothing half closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from aiortc import RTCPeerConnection


async def finish(task: asyncio.Task[None]) -> None:
    """
    Wait for a bounded clean-up even while being cancelled; the cancellation follows it.

    Args:
        task: Ends by itself within a limit and never raises.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled


def take_apart(peer: RTCPeerConnection) -> None:
    """
    Drop what a closed peer still holds: packets sent, rate estimators, SRTP and TLS state.

    aiortc's objects refer to each other in circles, so only the garbage collector's rare full
    pass frees them (0.4 MB a leg). What is left afterwards is small. And a peer that was closed
    just when ICE completed would check consent for ever: aioice begins to after it was closed.
    """
    for transceiver in peer.getTransceivers():
        sender: Any = transceiver.sender  # Any: private parts of aiortc 1.16
        receiver: Any = transceiver.receiver
        sender._RTCRtpSender__rtp_history.clear()
        receiver._RTCRtpReceiver__remote_bitrate_estimator = None
        dtls = receiver.transport
        dtls._rx_srtp = dtls._tx_srtp = dtls._ssl = None
        checks = dtls.transport._connection._query_consent_task
        if checks is not None:
            checks.cancel()
