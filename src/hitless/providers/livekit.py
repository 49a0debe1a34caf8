"""
LiveKit: publishing and viewing through the server's own WHIP endpoint, with its access tokens.

LiveKit has no WHEP. Its WHIP endpoint (`/whip/v1`, in the server itself, not LiveKit Ingress)
also lets whoever asks receive the tracks that it names in a header, in the same one answer: "for
clients doing one-shot signalling", says its source, and no document says it. That is how a
stream is viewed here, since it brings the publisher's encoded frames untouched: they match
other providers', silence is known as fast as with any WHEP server, and nothing of an SDK keeps
on reconnecting. With `media="sdk"` both go through the `livekit` package instead, which gives
decoded pictures only, so that every viewer decodes and encodes: see `livekit_sdk.py`.

A track that is not there when the request comes makes the server wait without end, inside, also
after the request has gone. So only what is there is asked for: `RoomService.participants` is
asked first, which takes the API key, and a publisher looks at itself a moment after its media
began to flow. Each view, a publisher's own included, is one more participant. Browsers and
phones use LiveKit's SDKs with a token of the plan.

A token is read when a leg opens and when it is deleted, so that a live leg outlasts it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

from ..core.events import Role
from ..core.policy import SelfView
from ..errors import ConfigError, CredentialsRejected, HitlessError, NotOnAir, Retry
from ..media.closing import finish
from ..media.connection import IceServer
from ..media.feed import Feed
from ..media.frame import Codec, Kind
from .base import Leg, ViewLeg
from .checkup import Finding, Verdict, asked, unseen
from .clock import wall_s
from .credential import Access, Credentials, Token
from .livekit_api import CALL_S, Participant, RoomService
from .livekit_record import RECORD
from .livekit_sdk import FIRST_MEDIA_S, LiveKitSdk
from .livekit_token import Grants, check_key, mint, publisher_grants, viewer_grants
from .livekit_whip import TRACK_NAMES, NativeWhip, Watched
from .record import Record
from .whip import checked_url
from .whip_legs import PublishingLeg


T = TypeVar("T")

TOKEN_S: Final = 6 * 3600.0
"""How long a token that is minted here lasts [s]: as long as an outage of who mints may last."""

CALL_TOKEN_S: Final = 60.0
"""How long the token of one call of RoomService lasts [s]."""

ASK_S: Final = 0.25
"""A stream that nobody published is asked for again after this at the earliest [s], however many
viewers wait for it in this process."""

_STREAMS_MAX: Final = 1000

logger = logging.getLogger(__name__)


class LiveKit:
    """
    A LiveKit server as a provider: a stream is a room of the same name.

    Whoever publishes has the same identity each time, so the server itself puts out the one
    before (`DUPLICATE_IDENTITY`). Publishers that a Hitless server named `IDENTITY-EPOCH` are
    removed after the new one has proven its media, in the background.

    Args:
        name: Provider name: lower-case letters, digits, `.`, `_` and `-`.
        url: The server, `wss://host` or `https://host`.
        api_key: API key of the project; with it and `api_secret` tokens are minted here.
        api_secret: Its secret, or an async callable that fetches it for every token.
        credentials: Fetches `{"token": ...}` of one stream and role instead of minting; it beats
            the key. Without a key only a stream that this provider publishes can be viewed, with
            `sdk` any.
        whip_url: WHIP endpoint; default: `/whip/v1` of `url`.
        identity: Of the publisher, when its token is minted here.
        media: `whip`, the server's own endpoint, or `sdk`, LiveKit's package in a process of its
            own (`hitless[livekit-sdk]`): no self-view, and what is viewed is encoded anew.
        ice_servers: STUN and TURN servers; those that the server recommends are used besides,
            with `sdk` alone.
        first_media_s: Time to the first proven media [s]; None: 3, with `sdk` 10.
        self_view: How a publisher proves that it is forwarded; with `sdk` by receiver reports.
        video_codec: Preferred when viewing; with `sdk` what pictures are encoded in.
        silence_s: Shortest silence of all media that counts [s]; with `sdk` 0.6 or more.
        path_silence_s: Shortest silence of STUN answers that counts [s].
        one_kind_silence_s: Shortest silence of one kind while another flows that counts [s]; with
            `sdk` 2 or more.
        allow_http: Whether plain http is accepted; None: with loopback hosts only.

    Raises:
        ConfigError: A URL, the name or the key cannot be used; the message says which and why.
    """

    RECORD: Record = RECORD

    def __init__(
        self,
        name: str = "livekit",
        *,
        url: str,
        api_key: str | None = None,
        api_secret: Token | None = None,
        credentials: Credentials | None = None,
        whip_url: str | None = None,
        identity: str = "publisher",
        media: str = "whip",
        ice_servers: Sequence[IceServer] = (),
        first_media_s: float | None = None,
        self_view: SelfView = SelfView.KEPT,
        video_codec: Codec = Codec.VP8,
        silence_s: float = 0.2,
        path_silence_s: float = 0.25,
        one_kind_silence_s: float = 1.5,
        allow_http: bool | None = None,
    ) -> None:
        if url.startswith(("ws://", "wss://")):
            url = "http" + url[2:]
        self._url = checked_url("url", url, allow_http)
        if api_key is None and credentials is None:
            raise ConfigError("api_key and api_secret, or credentials: give one of them")
        if (api_key is None) != (api_secret is None):
            raise ConfigError("api_key and api_secret: give both or none")
        if isinstance(api_secret, str):
            check_key(api_key, api_secret)
        if not identity:
            raise ConfigError("identity: give the publisher a name")
        if media not in ("whip", "sdk"):
            raise ConfigError(f"media = {media[:20]!r} is not possible: give whip or sdk")
        usual_s = FIRST_MEDIA_S if media == "sdk" else 3.0
        self.first_media_s = usual_s if first_media_s is None else first_media_s
        self._key, self._secret = api_key, api_secret
        self._credentials = credentials
        self._identity = identity
        self._call_s = min(CALL_S, self.first_media_s)
        self._rooms: RoomService | None = None
        self._found: dict[str, Watched] = {}
        self._ours: dict[str, Watched] = {}
        self._absent_s: dict[str, float] = {}
        self._mine: dict[str, PublishingLeg] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        endpoint = str(self._url.with_path("/whip/v1")) if whip_url is None else whip_url
        self._whip = NativeWhip(
            name,
            url=endpoint,
            view_url=endpoint,
            credentials=self._token,
            found=self._found,
            ours=self._ours,
            ice_servers=ice_servers,
            first_media_s=self.first_media_s,
            self_view=self_view,
            video_codec=video_codec,
            silence_s=silence_s,
            path_silence_s=path_silence_s,
            one_kind_silence_s=one_kind_silence_s,
            allow_http=allow_http,
        )
        self._sees_itself = media == "whip" and self_view is not SelfView.OFF
        self._sdk: LiveKitSdk | None = None
        if media == "sdk":
            self._sdk = LiveKitSdk(
                name,
                url=self._url,
                credentials=self._token,
                video_codec=video_codec,
                first_media_s=self.first_media_s,
                silence_s=silence_s,
                one_kind_silence_s=one_kind_silence_s,
            )

    @property
    def name(self) -> str:
        """Provider name."""
        return self._whip.name

    async def start_stream(self, stream: str, source: Feed) -> Leg:
        """Publish; see `Provider.start_stream`. Proven by a self-view, or by receiver reports."""
        if self._sdk is not None:
            sdk_leg = await self._sdk.start_stream(stream, source)
            if self._key is not None:
                self._own(self._remove_older(stream, sdk_leg.session))
            return sdk_leg
        tracks = {kind: TRACK_NAMES[kind] for kind in source.kinds}
        _remember(self._ours, stream, Watched(self._identity, tracks))
        with _final():
            leg = await self._whip.start_stream(stream, source)
        _remember(self._mine, stream, leg)
        if self._key is not None and leg.answer is not None and leg.answer.session is not None:
            self._own(self._remove_older(stream, leg.answer.session.name))
        return leg

    async def join_stream(self, stream: str) -> ViewLeg:
        """
        View; see `Provider.join_stream`.

        Raises:
            ConfigError: Without a key it cannot be known whether somebody publishes; with the
                SDK, which sees it by itself: it is not installed.
        """
        if self._sdk is not None:
            watch = "" if self._key is None else (await self._find(stream)).identity
            return await self._sdk.join_stream(stream, watch)
        if self._key is not None:
            found = await self._find(stream)
        elif stream in self._mine and self._whip.has(self._mine[stream]):
            found = self._ours[stream]
        else:
            raise ConfigError(
                f"{self.name}: to view what others publish, api_key and api_secret are needed"
            )
        _remember(self._found, stream, found)
        with _final():
            return await self._whip.join_stream(stream)

    async def check(self) -> None:
        """
        Ask the server whether it is up, and with a key whether it takes that.

        Raises:
            ProviderError: It is not up, or does not.
            LocalFault: This machine has no network.
        """
        rooms = self._service()
        await rooms.check_ready()
        if self._key is not None:
            await rooms.rooms("hitless-check")

    def endpoints(self) -> tuple[str, ...]:
        """See `Checkable`."""
        return (str(self._url.origin()),)

    async def checkup(self) -> AsyncIterator[Finding]:
        """See `Checkable`."""
        says = "it is up" if self._key is None else "it is up, and takes the API key"
        fix = "compare api_key and api_secret with the server's `keys`"
        yield await asked("control API", self.check(), says, fix)
        if not self._sees_itself:
            yield unseen("leave media = whip and self_view on")
        if self._key is None:
            says = "without api_key no older publisher is put out but one of the same identity"
            fix = "give api_key and api_secret, or let publishers of a stream share an identity"
            yield Finding(step="trap", verdict=Verdict.WARNING, says=says, fix=fix)

    async def aclose(self) -> None:
        """Close every leg that is still open, end requests under way. Idempotent; bounded."""
        for task in tuple(self._tasks):
            task.cancel()
            await finish(task)
        await self._whip.aclose()
        if self._sdk is not None:
            await self._sdk.aclose()
        if self._rooms is not None:
            await self._rooms.aclose()

    # --- Inside ---

    async def _token(self, access: Access) -> Mapping[str, Any]:
        """Return the token of one stream and role, and learn who we are from it."""
        if self._credentials is not None:
            given = (await self._credentials(access)).get("token")
            token = None if given is None else str(given)
        elif access.role is Role.PUBLISHER:
            grants = publisher_grants(access.stream)
            token = await self._mint(grants, identity=self._identity, ttl_s=TOKEN_S)
        else:
            # One of its own for each view: the second of one identity would put out the first.
            identity = f"viewer-{secrets.token_hex(8)}"
            token = await self._mint(
                viewer_grants(access.stream), identity=identity, ttl_s=TOKEN_S
            )
        ours = self._ours.get(access.stream)
        if access.role is Role.PUBLISHER and ours is not None and token is not None:
            identity = _identity_in(token) or self._identity
            self._ours[access.stream] = replace(ours, identity=identity)
        return {"token": token}

    async def _mint(self, grants: Grants, *, identity: str = "", ttl_s: float) -> str:
        secret = self._secret if isinstance(self._secret, str) else None
        if callable(self._secret):
            secret = await self._secret()
        assert self._key is not None
        return mint(
            self._key, secret or "", grants, identity=identity, now_s=wall_s(), ttl_s=ttl_s
        )

    def _service(self) -> RoomService:
        if self._rooms is None:
            self._rooms = RoomService(
                self.name,
                self._url,
                lambda grants: self._mint(grants, ttl_s=CALL_TOKEN_S),
                call_s=self._call_s,
            )
        return self._rooms

    async def _find(self, stream: str) -> Watched:
        """
        Return who publishes a stream.

        Raises:
            NotOnAir: Nobody does.
            ProviderError: It could not be asked.
        """
        loop = asyncio.get_running_loop()
        found = None
        if loop.time() - self._absent_s.get(stream, -math.inf) >= ASK_S:
            found = await self._look(stream)
            if found is None:
                _remember(self._absent_s, stream, loop.time())
            elif len(found.tracks) < len(Kind):
                await asyncio.sleep(ASK_S)  # it may have come just now: the other kind follows
                found = await self._look(stream)
        if found is None:
            raise NotOnAir(f"{self.name}: nobody publishes", retry_after_s=ASK_S)
        return found

    async def _look(self, stream: str) -> Watched | None:
        people = await self._service().participants(stream, operation="view")
        return self._newest(people)

    def _newest(self, people: Sequence[Participant]) -> Watched | None:
        """Return the newest that publishes, one of our identities before any other."""
        found = [each for each in people if any(track.kind for track in each.tracks)]
        if not found:
            return None
        newest = max(found, key=lambda each: (self._is_ours(each), each.joined_ms))
        tracks = {track.kind: track.name for track in newest.tracks if track.kind is not None}
        return Watched(newest.identity, tracks)

    def _is_ours(self, who: Participant) -> bool:
        return who.identity == self._identity or who.identity.startswith(f"{self._identity}-")

    async def _remove_older(self, stream: str, sid: str) -> None:
        """Put out publishers of ours that came before; the next start tries again if it fails."""
        rooms = self._service()
        try:
            people = await rooms.participants(stream, operation="close")
            me = next((each for each in people if each.sid == sid), None)
            for each in people:
                # By identity, which is all that the call takes: never our own.
                if me is not None and self._is_ours(each) and each.identity != me.identity:
                    if each.tracks and each.joined_ms < me.joined_ms:
                        await rooms.remove(stream, each.identity)
        except HitlessError:
            logger.debug("an older publisher was not removed", exc_info=True)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"{self.name} remove")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextmanager
def _final() -> Iterator[None]:
    """
    Say of a rejected token that the next provider's turn has come.

    The server's 401 (NotAllowed of its SDKs) does not say whether a token is expired, forged or
    revoked, and whoever was put out must not come back by a fresh one.
    """
    try:
        yield
    except CredentialsRejected as exc:
        exc.retry = Retry.NEXT
        raise


def _remember(known: dict[str, T], stream: str, value: T) -> None:
    known.pop(stream, None)
    known[stream] = value
    if len(known) > _STREAMS_MAX:
        del known[next(iter(known))]


def _identity_in(token: str) -> str | None:
    """Return whom a token names, without checking it: the server does; None: nobody."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return None
    identity = claims.get("sub") if isinstance(claims, dict) else None
    return identity if isinstance(identity, str) and identity else None
