"""
Who may publish and play by RTMP, and where an address leads, at each provider.

Agora's Media Gateway takes `rtmp://HOST/live/KEY` and gives nothing back by RTMP. ZEGOCLOUD's
nodes take and give `rtmp://HOST/APPID/STREAM` once `RTMPDispatchV2` gave that address out; here a
stream that came by WHIP is not found by players, as it would have to be encoded again. What
they say to whom they refuse is not documented: here it is an error of `publish` or `play` whose
description says "denied" where the credential or a ban is meant, and "already" where the stream
has a publisher.
"""

from __future__ import annotations

from typing import Final, Protocol

from ..errors import NotOnAir, Refused
from .catalogue import AGORA, REGIONS
from .gate import INVALID, AgoraGate, Pass, Rejected
from .rtmp_door import Connection, Rejection
from .rtmp_ingest import Ingest, Player
from .sessions import Sessions
from .zego_desk import ZegoDesk


LIVE: Final = "live"
"""Application of Agora's Media Gateway."""

_NOT_FOUND: Final = "NetStream.Play.StreamNotFound"
_REFUSED: Final = {True: "NetStream.Publish.BadName", False: "NetStream.Play.Failed"}


class Addresses(Protocol):
    """How a provider's addresses of RTMP are read."""

    def admit(self, app: str, name: str, host: str, *, publishes: bool) -> tuple[str, Pass]:
        """
        Return the stream that is meant, and what is allowed.

        Raises:
            Rejected: It is no address of this provider's, or not one that may be used now.
        """


class Checks(Protocol):
    """What everybody passes who joins, by WebRTC or RTMP; see `Stand`."""

    async def refused(self, refusing: str) -> tuple[int, float] | None:
        """Return the HTTP status with which everybody is refused just now, and Retry-After."""

    def check_region(self, region: str) -> None:
        """Refuse those of a region that is down."""

    def let_in(self, who: Pass, stream: str, address: str, *, publishes: bool) -> Pass:
        """Return the pass of somebody who may come in; raises `Rejected`."""

    def check(self, who: Pass, stream: str, *, publishes: bool) -> None:
        """Look again whether a rule is against it; raises `Rejected`."""


class KeyAddresses:
    """Agora's: a stream key is the name; the region is the host's, else the key's."""

    def __init__(self, gate: AgoraGate) -> None:
        self._gate = gate

    def admit(self, app: str, name: str, host: str, *, publishes: bool) -> tuple[str, Pass]:
        """See `Addresses.admit`."""
        if not publishes:
            raise Rejected("the Media Gateway gives nothing back by RTMP", status=404)
        if app != LIVE:
            raise Rejected(f"the application is {LIVE}", code=INVALID)
        who = self._gate.pushed(name, _region(host))
        return who.room, who


class NodeAddresses:
    """ZEGOCLOUD's: what its desk gave out."""

    def __init__(self, desk: ZegoDesk) -> None:
        self._desk = desk

    def admit(self, app: str, name: str, host: str, *, publishes: bool) -> tuple[str, Pass]:
        """See `Addresses.admit`."""
        return name, self._desk.dispatched(app, name, publishes=publishes)


class Reception:
    """
    Lets publishers and players in; see `rtmp_door.House`.

    Args:
        checks: What everybody passes.
        addresses: How addresses are read.
        sessions: Where they go.
    """

    def __init__(self, checks: Checks, addresses: Addresses, sessions: Sessions) -> None:
        self._checks, self._addresses, self._sessions = checks, addresses, sessions

    async def publish(self, connection: Connection, app: str, name: str, host: str) -> Ingest:
        """See `House.publish`."""
        try:
            stream, who = await self._admit(connection, app, name, host, publishes=True)
            self._sessions.gate.check()
            session = await self._sessions.push(stream, connection, who)
            try:  # again: a rule may have been made meanwhile
                self._checks.check(who, stream, publishes=True)
            except Rejected:
                self._sessions.remove(session, "it may not come in any more")
                raise
        except Rejected as fault:
            raise _rejection(fault, publishes=True) from None
        except Refused as fault:
            raise Rejection(_REFUSED[True], fault.because) from None
        assert session.tags is not None
        return session.tags

    async def play(self, connection: Connection, app: str, name: str, host: str) -> Player:
        """See `House.play`."""
        try:
            stream, who = await self._admit(connection, app, name, host, publishes=False)
            session = await self._sessions.pull(stream, connection, who)
        except Rejected as fault:
            raise _rejection(fault, publishes=False) from None
        except NotOnAir as fault:
            raise Rejection(_NOT_FOUND, str(fault)) from None
        except Refused as fault:
            raise Rejection(_REFUSED[False], fault.because) from None
        assert isinstance(session.viewer, Player)
        return session.viewer

    async def _admit(
        self, connection: Connection, app: str, name: str, host: str, *, publishes: bool
    ) -> tuple[str, Pass]:
        refusing = "refuse-publishers" if publishes else "refuse-viewers"
        if (refused := await self._checks.refused(refusing)) is not None:
            raise Rejected("refused on purpose", status=refused[0])
        name = name.partition("?")[0]
        stream, who = self._addresses.admit(app, name, host, publishes=publishes)
        self._checks.check_region(who.region)
        return stream, self._checks.let_in(who, stream, connection.address, publishes=publishes)


def _rejection(fault: Rejected, *, publishes: bool) -> Rejection:
    """Return a rejection in RTMP's words."""
    if fault.status == 404:
        return Rejection(_NOT_FOUND, fault.because)
    means = {401: "denied: ", 403: "denied: ", 409: "already in use: "}.get(fault.status, "")
    code = "" if fault.code is None else f" ({fault.code})"
    return Rejection(_REFUSED[publishes], f"{means}{fault.because}{code}")


def _region(host: str) -> str:
    """Return the region that a host's name says, as `rtls-ingress-prod-eu...`; else nothing."""
    parts = host.partition(".")[0].split("-")
    return next((part for part in parts if part in REGIONS[AGORA]), "")
