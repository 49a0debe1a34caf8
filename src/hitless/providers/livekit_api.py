"""
LiveKit's server API as far as it is needed: who is in a room, and getting somebody out of it.

Twirp over HTTP with JSON: one POST, one answer, one verdict. Nothing is retried here, and no
region is looked up: what comes next is the caller's decision. Paths, grants and error codes are
those of livekit-server 1.13 (read in its source, and run against it).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp.abc import AbstractResolver
from yarl import URL

from ..errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    ProviderError,
    Refused,
    Retry,
)
from ..media.frame import Kind
from .credential import check_token
from .livekit_token import Grants, service_grants
from .rest import Calls, Reply
from .signalling import RETRY_AFTER_S_SAME


TokenFor = Callable[[Grants], Awaitable[str]]
"""Mints a token with these grants; called for every request."""

CALL_S: Final = 5.0
"""How long one call may take [s]."""

_SERVICE: Final = "/twirp/livekit.RoomService/"
_KINDS: Final = {"AUDIO": Kind.AUDIO, "0": Kind.AUDIO, "VIDEO": Kind.VIDEO, "1": Kind.VIDEO}
_REJECTED: Final = frozenset({"unauthenticated", "permission_denied"})
_OUR_FAULT: Final = frozenset(
    {"bad_route", "invalid_argument", "malformed", "out_of_range", "unimplemented"}
)
_NO: Final = frozenset({"already_exists", "failed_precondition", "not_found"})
_AGAIN: Final = frozenset(
    {"aborted", "canceled", "data_loss", "dataloss", "deadline_exceeded"}
) | {
    "internal",
    "resource_exhausted",
    "unavailable",
    "unknown",
}
_CODES: Final = _REJECTED | _OUR_FAULT | _NO | _AGAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One published track; `kind` is None for what is neither sound nor picture."""

    sid: str
    name: str
    kind: Kind | None
    is_muted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """
    Somebody in a room.

    Attributes:
        identity: From its token; unique in the room. It may be a user's id: in no error, no log.
        sid: Of this one session of it.
        joined_ms: When it joined [ms since 1970, the server's clock]; 0: it does not say.
        tracks: What it publishes.
    """

    identity: str
    sid: str
    joined_ms: int
    tracks: tuple[Track, ...]

    def __repr__(self) -> str:
        return f"Participant(sid={self.sid!r}, tracks={len(self.tracks)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A room and how many are in it."""

    name: str
    sid: str
    participants: int


class RoomService:
    """
    The control API of one LiveKit server. Made in a running loop; always closed.

    Args:
        provider: Name for errors.
        url: Where the server is, `https://...`.
        token_for: Mints the token of each call.
        call_s: How long one call may take [s].
        resolver: Finds addresses of host names; None: the system does.

    Attributes:
        held: How often it answered that it is asked for too much.
    """

    def __init__(
        self,
        provider: str,
        url: URL,
        token_for: TokenFor,
        *,
        call_s: float = CALL_S,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._provider = provider
        self._url = url
        self._token_for = token_for
        self._call_s = call_s
        self._calls = Calls(provider, resolver=resolver)
        self.held = 0

    async def check_ready(self) -> None:
        """
        Ask the server whether it is up: `GET /`, without a credential.

        It answers 406 when its own statistics are older than 4 s. A yes says nothing about media.

        Raises:
            ProviderError: It is not ready, not there, or not LiveKit.
            LocalFault: This machine has no network.
        """
        reply = await self._calls.send(
            "GET", self._url.with_path("/"), operation="probe", deadline=self._deadline()
        )
        if reply.status == 406:
            because = "not ready: the statistics of its node are old (HTTP 406)"
            raise Refused(because, retry=Retry.SAME, **self._known("probe"))
        if reply.status != 200:
            raise self._refusal("", reply, "probe")

    async def rooms(self, *names: str) -> tuple[Room, ...]:
        """
        Return the rooms that are open, or those of `names` that are.

        Raises:
            ProviderError: See `_refusal` for what each answer means.
        """
        body = {"names": list(names)}
        found = await self._call("ListRooms", service_grants(), body, "probe")
        return tuple(
            Room(
                name=str(each.get("name", "")),
                sid=str(each.get("sid", "")),
                participants=_number(each, "num_participants", "numParticipants"),
            )
            for each in self._listed(found, "rooms")
        )

    async def participants(
        self, room: str, *, operation: str = "probe"
    ) -> tuple[Participant, ...]:
        """
        Return who is in a room; nobody, if there is no such room.

        Raises:
            ProviderError: It could not be asked, or said no.
        """
        try:
            found = await self._call(
                "ListParticipants", service_grants(room), {"room": room}, operation
            )
        except _NotFound:
            return ()
        return tuple(_participant(each) for each in self._listed(found, "participants"))

    async def remove(self, room: str, identity: str) -> bool:
        """
        Disconnect a participant; return whether it was there.

        Its token stays valid: whoever reconnects with it is let in again.

        Raises:
            ProviderError: It could not be asked, or said no.
        """
        body = {"room": room, "identity": identity}
        return await self._done("RemoveParticipant", service_grants(room), body)

    async def delete_room(self, room: str) -> bool:
        """
        Close a room and disconnect all who are in it; return whether it was there.

        Raises:
            ProviderError: It could not be asked, or said no.
        """
        return await self._done("DeleteRoom", {"roomCreate": True}, {"room": room})

    async def aclose(self) -> None:
        """End calls under way and close connections. Idempotent; bounded; never raises."""
        await self._calls.aclose()

    # --- Inside ---

    async def _done(self, method: str, grants: Grants, body: dict[str, Any]) -> bool:
        try:
            await self._call(method, grants, body, "close")
        except _NotFound:
            return False
        return True

    async def _call(
        self, method: str, grants: Grants, body: dict[str, Any], operation: str
    ) -> dict[str, Any]:
        reply = await self._calls.send(
            "POST",
            self._url.with_path(_SERVICE + method),
            operation=operation,
            deadline=self._deadline(),
            headers={
                "Authorization": f"Bearer {await self._token(grants, operation)}",
                "Content-Type": "application/json",
            },
            body=json.dumps(body).encode(),
        )
        try:
            found = json.loads(reply.body)
        except ValueError:
            found = None
        if reply.status == 200:
            if not isinstance(found, dict):
                raise ContractBroken(f"{method} answered no JSON object", **self._known(operation))
            return found
        code = found.get("code") if isinstance(found, dict) else None
        raise self._refusal(code if isinstance(code, str) else "", reply, operation)

    async def _token(self, grants: Grants, operation: str) -> str:
        try:
            token = await self._token_for(grants)
            check_token(token, provider=self._provider, operation=operation)
            return token
        except HitlessError:
            raise
        except Exception as exc:
            # Its message may hold a secret, so only its type is told.
            raise CredentialsRejected(
                f"no token could be minted ({type(exc).__name__})",
                retry=Retry.NEXT,
                answered=False,
                **self._known(operation),
            ) from exc

    def _refusal(self, code: str, reply: Reply, operation: str) -> ProviderError:
        """
        Return the error that an answer means. The one mapping of Twirp's codes to advice.

        Without a code it was not LiveKit that answered, but something before it: then the
        class of the status decides. The message of the server is not repeated: it may name a
        key or a participant.
        """
        known, status, pause_s = self._known(operation), reply.status, reply.retry_after_s
        because = f"HTTP {status} {code if code in _CODES else ''}".rstrip()
        if code in _REJECTED or (not code and status in (401, 403)):
            return CredentialsRejected(
                f"{because}: check api_key, api_secret and this machine's clock",
                retry=Retry.NEXT,  # the token was minted for this call: there is no newer one
                **known,
            )
        if code == "not_found":
            return _NotFound(because, **known)
        if code == "resource_exhausted" or status == 429:
            self.held += 1
            return Refused(because, retry_after_s=pause_s, **known)
        if code in _OUR_FAULT or (not code and status < 500):
            return ContractBroken(f"{because}: is url the one of a LiveKit server?", **known)
        if code in _NO:
            return Refused(because, **known)
        patient = pause_s is not None and pause_s > RETRY_AFTER_S_SAME
        retry = Retry.NEXT if patient else Retry.SAME
        return Refused(because, retry=retry, retry_after_s=pause_s, **known)

    def _listed(self, found: dict[str, Any], name: str) -> list[dict[str, Any]]:
        values = found.get(name, [])
        if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
            raise ContractBroken(f"{name} is no list of objects", **self._known("probe"))
        return values

    def _known(self, operation: str) -> dict[str, Any]:
        return {"provider": self._provider, "operation": operation}

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._call_s


class _NotFound(Refused):
    """No such room or participant; whoever calls from outside is told in other words."""


def _participant(found: dict[str, Any]) -> Participant:
    tracks = found.get("tracks")
    return Participant(
        identity=str(found.get("identity", "")),
        sid=str(found.get("sid", "")),
        joined_ms=_number(found, "joined_at_ms", "joinedAtMs")
        or 1000 * _number(found, "joined_at", "joinedAt"),
        tracks=tuple(
            Track(
                sid=str(each.get("sid", "")),
                name=str(each.get("name", "")),
                kind=_KINDS.get(str(each.get("type", 0))),
                is_muted=each.get("muted") is True,
            )
            for each in (tracks if isinstance(tracks, list) else [])
            if isinstance(each, dict)
        ),
    )


def _number(found: dict[str, Any], *names: str) -> int:
    """Return a whole number by any of its names: protobuf's JSON writes long ones as text."""
    for name in names:
        try:
            return int(found[name])
        except (KeyError, TypeError, ValueError):
            continue
    return 0
