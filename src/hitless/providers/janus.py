"""A Janus server (1.x): its VideoRoom plugin, spoken to over a WebSocket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final

import aiohttp
from yarl import URL

from ..core.events import Role
from ..core.policy import SelfView
from ..errors import ConfigError, CredentialsRejected, NotOnAir, StreamEnded
from ..media.closing import finish
from ..media.connection import IceServer, is_loopback
from ..media.feed import Feed
from ..media.frame import Codec, Kind
from ..media.liveness import Liveness
from ..media.peer import PublishingPeer, ViewingPeer
from ..media.receive import Take
from .checkup import Finding, Verdict, asked, in_the_clear, unseen
from .clock import wall_s
from .credential import Access, Credential, Credentials, Token, token_of
from .expiring_legs import ExpiringLeg, ExpiringViewLeg
from .janus_handle import Handle, Message
from .janus_legs import JanusPublishingLeg, mids_of
from .janus_record import RECORD
from .janus_room import Room, room_number
from .janus_socket import KEEPALIVE_S, LEAVE_S, Secrets, Session
from .janus_spares import Spares
from .janus_view import Offered, View, refusal
from .self_view import OwnView
from .whip_legs import ViewingLeg


_STREAM_LENGTH_MAX: Final = 256
_REJECTED_MAX: Final = 1000  # streams whose last credential was rejected
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Janus:
    """
    A Janus server as a provider.

    Each stream has a room of its own, created on demand (`permanent: false`) and destroyed by its
    last publisher; its number is made from the stream's id. With `room`, all streams share a room
    that exists, and are told apart by what publishers say in their `display`.

    Args:
        name: Provider name: lower-case letters, digits, `.`, `_` and `-`.
        url: Where its WebSocket transport listens: `wss://host:8989/janus`.
        room: A room that exists: its number, or its name on a server with `string_ids`. None: a
            room per stream.
        string_ids: Whether the server has `string_ids`; then a stream's own room has its id.
        api_secret: `api_secret` of the server.
        token: Token of the server's `token_auth`, stored or signed, or an async callable that
            fetches one and is called again, once, after a rejection.
        credentials: Fetches the token of one stream and role instead; it beats `token`.
        admin_key: VideoRoom's `admin_key`, where only its owner may create rooms.
        room_secret: Secret of the room: rooms are created with it, and older publishers of a
            stream are removed by it. None: rooms of our own are managed without one.
        room_pin: PIN that the room asks for, or is created with.
        room_token: Token of the room's `allowed` list, likewise.
        ice_servers: STUN and TURN servers.
        trickle: Whether our candidates are sent apart from our descriptions (RFC 8838). Janus's
            own are taken either way, with `full_trickle` and without.
        first_media_s: Time from the call to the first proven media [s].
        self_view: How a publisher proves that it is forwarded.
        video_codec: Preferred when viewing.
        silence_s: Shortest silence of all media that counts [s].
        path_silence_s: Shortest silence of STUN answers that counts [s].
        one_kind_silence_s: Shortest silence of one kind while another flows that counts [s].
        keepalive_s: Time between two signs of life [s]; well under `session_timeout` (60 s).
        allow_plain: Whether `ws://` is accepted; None: with loopback hosts only.

    Raises:
        ConfigError: The URL, the room or the name cannot be used; the message says why.
    """

    RECORD: Final = RECORD

    def __init__(
        self,
        name: str = "janus",
        *,
        url: str,
        room: int | str | None = None,
        string_ids: bool = False,
        api_secret: str | None = None,
        token: Token | None = None,
        credentials: Credentials | None = None,
        admin_key: str | None = None,
        room_secret: str | None = None,
        room_pin: str | None = None,
        room_token: str | None = None,
        ice_servers: Sequence[IceServer] = (),
        trickle: bool = False,
        first_media_s: float = 3.0,
        self_view: SelfView = SelfView.KEPT,
        video_codec: Codec = Codec.VP8,
        silence_s: float = 0.2,
        path_silence_s: float = 0.25,
        one_kind_silence_s: float = 1.5,
        keepalive_s: float = KEEPALIVE_S,
        allow_plain: bool | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"name = {name!r}: use lower-case letters, digits, '.', '_', '-'")
        if room is not None and (isinstance(room, bool) or room == "" or room == 0):
            raise ConfigError("room: give its number, or its name, or leave it out")
        if not 0 < keepalive_s <= 50:
            raise ConfigError(f"keepalive_s = {keepalive_s:g}: use 1 to 50; Janus forgets at 60")
        self._name = name
        self._url = _checked(url, allow_plain)
        self._room, self._string_ids = room, string_ids
        self._secrets = Secrets(
            api_secret=api_secret,
            admin_key=admin_key,
            room_secret=room_secret,
            room_pin=room_pin,
            room_token=room_token,
        )
        self._credential = Credential(token)
        self._signed_until_s = _signed_until_s(token)
        self._credentials = credentials
        self._ice_servers = tuple(ice_servers)
        self._trickle = trickle
        self.first_media_s = first_media_s
        self._self_view = self_view
        self._video_codec = video_codec
        self._silence_s = silence_s
        self._path_silence_s = path_silence_s
        self._one_kind_s = one_kind_silence_s
        self._keepalive_s = keepalive_s
        self._http: aiohttp.ClientSession | None = None
        self._legs: set[JanusPublishingLeg | ViewingLeg[Offered]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._spares = Spares(self._own)
        self._rejected: set[tuple[str, Role]] = set()
        self._closing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Provider name."""
        return self._name

    async def start_stream(
        self, stream: str, source: Feed
    ) -> JanusPublishingLeg | ExpiringLeg[JanusPublishingLeg]:
        """Publish; see `Provider.start_stream`. Proven by a self-view, or acknowledgements."""
        room, deadline = self._room_of(stream), self._deadline()
        session = await self._open_session(stream, Role.PUBLISHER, deadline)
        liveness = self._liveness()
        peer = PublishingPeer(feed=source, **self._settings("publish", liveness))

        def own_view(joined: Message, answer: Message) -> OwnView[Offered]:
            return self._own_view(session, room, source, peer, joined, answer)

        leg = JanusPublishingLeg(
            session,
            room,
            stream,
            peer,
            feed=source,
            own_view=None if self._self_view is SelfView.OFF else own_view,
            keep_view=self._self_view is SelfView.KEPT,
            trickles=self._trickle,
            later=self._own,
        )
        await self._open(leg, deadline, (stream, Role.PUBLISHER))
        if (ends_s := self._ends_s()) is not None:
            return ExpiringLeg(leg, operation="publish", expires_s=ends_s)
        return leg

    async def join_stream(self, stream: str) -> ViewingLeg[Offered] | ExpiringViewLeg:
        """View; see `Provider.join_stream`. The newest publisher of the stream is watched."""
        room, deadline = self._room_of(stream), self._deadline()
        session, handle = await self._visit(stream, deadline)
        try:
            publisher = await room.newest(handle, stream, deadline)
        except BaseException as exc:
            self._note(exc, (stream, Role.VIEWER))
            self._own(session.aclose())
            raise
        if publisher is None:
            self._spares.keep(stream, session, handle)
            raise NotOnAir(f"{self._name}: nobody publishes")
        liveness = self._liveness()
        feed = publisher.feed

        def view(take: Take) -> View:
            def new_peer() -> ViewingPeer:
                return ViewingPeer(
                    kinds=frozenset(Kind),
                    take=take,
                    video_codec=self._video_codec,
                    **self._settings("view", liveness),
                )

            return View(
                session,
                room,
                feed,
                new_peer,
                later=self._own,
                handle=handle,
                trickles=self._trickle,
            )

        leg = ViewingLeg(view, lambda offered: refusal(offered, self._name))
        await self._open(leg, deadline, (stream, Role.VIEWER))
        if (ends_s := self._ends_s()) is not None:
            return ExpiringViewLeg(leg, operation="view", expires_s=ends_s)
        return leg

    def endpoints(self) -> tuple[str, ...]:
        """See `Checkable`."""
        return (str(self._url.origin()),)

    async def checkup(self) -> AsyncIterator[Finding]:
        """See `Checkable`."""
        says = "it opens a session with VideoRoom, and takes the secrets"
        fix = "compare api_secret and token with Janus's configuration"
        yield await asked("control API", self._greet(), says, fix)
        if self._url.scheme == "ws" and not is_loopback(self._url.host or ""):
            yield in_the_clear("every secret", "use wss:// and leave allow_plain out")
        if self._self_view is SelfView.OFF:
            yield unseen("leave self_view on")
        if self._room is not None and self._secrets.room_secret is None:
            says = "if the shared room has a secret, an older publisher of a stream stays in it"
            fix = "give room_secret, or leave room out: then each stream has a room of its own"
            yield Finding(step="trap", verdict=Verdict.WARNING, says=says, fix=fix)

    async def _greet(self) -> None:
        session = await self._open_session("", Role.VIEWER, self._deadline())
        try:
            await session.attach(self._deadline())
        finally:
            await session.aclose()

    async def aclose(self) -> None:
        """Close every leg that is still open and every session. Idempotent; bounded."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"{self._name} closing")
        await finish(self._closing)

    # --- Inside ---

    async def _open(
        self,
        leg: JanusPublishingLeg | ViewingLeg[Offered],
        deadline: float,
        what: tuple[str, Role],
    ) -> None:
        self._legs.add(leg)
        leg.when_closed(lambda: self._legs.discard(leg))
        try:
            await leg.open(deadline)
        except BaseException as exc:
            self._note(exc, what)
            await leg.aclose(wait=False)
            raise

    async def _visit(self, stream: str, deadline: float) -> tuple[Session, Handle]:
        """Return a session to ask about a stream: the one that asked before, or a new one."""
        spare = self._spares.take(stream)
        if spare is not None:
            return spare
        session = await self._open_session(stream, Role.VIEWER, deadline)
        try:
            return session, await session.attach(deadline)
        except BaseException as exc:
            self._note(exc, (stream, Role.VIEWER))
            self._own(session.aclose())
            raise

    async def _open_session(self, stream: str, role: Role, deadline: float) -> Session:
        if self._closing is not None:
            raise StreamEnded(f"{self._name}: it was closed")
        if self._http is None:
            self._http = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"User-Agent": "hitless"},
            )
        credential = self._credential
        if self._credentials is not None:
            renew = (stream, role) in self._rejected
            self._rejected.discard((stream, role))
            access = Access(provider=self._name, stream=stream, role=role, renew=renew)
            credential = Credential(token_of(self._credentials, access))
        try:
            return await Session.open(
                self._http,
                self._url,
                deadline,
                provider=self._name,
                operation="publish" if role is Role.PUBLISHER else "view",
                secrets=self._secrets,
                credential=credential,
                keepalive_s=self._keepalive_s,
            )
        except BaseException as exc:
            self._note(exc, (stream, role))
            raise

    def _note(self, exc: BaseException, what: tuple[str, Role]) -> None:
        """Remember whose credential was rejected: the next attempt asks to renew it."""
        if isinstance(exc, CredentialsRejected) and len(self._rejected) < _REJECTED_MAX:
            self._rejected.add(what)

    def _room_of(self, stream: str) -> Room:
        """
        Return the room of a stream.

        Raises:
            ConfigError: The id is empty or too long.
        """
        if not 0 < len(stream) <= _STREAM_LENGTH_MAX or not stream.isprintable():
            raise ConfigError(
                f"stream id {stream[:40]!r}: use 1 to {_STREAM_LENGTH_MAX} printable characters"
            )
        if self._room is not None:
            return Room(self._room, self._secrets, is_ours=False)
        own = stream if self._string_ids else room_number(stream)
        return Room(own, self._secrets, is_ours=True)

    def _ends_s(self) -> float | None:
        """Return when Janus takes our fixed token no more [s, the loop's clock], or None."""
        if self._signed_until_s is None or self._credentials is not None:
            return None
        return asyncio.get_running_loop().time() + self._signed_until_s - wall_s()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.first_media_s

    def _liveness(self) -> Liveness:
        return Liveness(silence_s=self._silence_s, one_kind_s=self._one_kind_s)

    def _settings(self, operation: str, liveness: Liveness) -> dict[str, Any]:
        loopback = is_loopback(self._url.host or "")
        return {
            "provider": self._name,
            "operation": operation,
            "liveness": liveness,
            "loopback": loopback,
            "ice_servers": () if loopback else self._ice_servers,
            "path_silence_s": self._path_silence_s,
        }

    def _own_view(
        self,
        session: Session,
        room: Room,
        feed: Feed,
        peer: PublishingPeer,
        joined: Message,
        answer: Message,
    ) -> OwnView[Offered]:
        settings = self._settings("publish", peer.liveness)
        private_id = joined.get("private_id")

        def subscribe(kinds: frozenset[Kind], take: Take) -> View:
            def new_peer() -> ViewingPeer:
                return ViewingPeer(
                    kinds=kinds,
                    take=take,
                    heard=lambda kind, now: None,  # only own frames are a sign of life
                    video_codec=self._video_codec,
                    shown=False,
                    ping=False,
                    **settings,
                )

            return View(
                session,
                room,
                joined.get("id", 0),
                new_peer,
                later=self._own,
                mids=tuple(mid for kind in sorted(kinds) for mid in mids_of(answer, kind)),
                private_id=private_id if isinstance(private_id, int) else None,
                trickles=self._trickle,
            )

        return OwnView(
            provider=self._name,
            subscribe=subscribe,
            feed=feed,
            liveness=peer.liveness,
            rtt_s=lambda: peer.rtt_s,
            limit_s=self.first_media_s,
        )

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background; `aclose` waits for it."""
        task = asyncio.create_task(work, name=f"{self._name} in the background")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        self._spares.close()
        if self._legs:
            await asyncio.gather(*(leg.aclose() for leg in tuple(self._legs)))
        if self._tasks:
            _, late = await asyncio.wait(tuple(self._tasks), timeout=2 * LEAVE_S)
            for task in late:
                task.cancel()
        if self._http is not None:
            await self._http.close()


def _signed_until_s(token: Token | None) -> float | None:
    """Return when a signed token (`END,REALM,PLUGIN:MAC`) ends [s since 1970]; None: not known."""
    end = token.partition(",")[0] if isinstance(token, str) else ""
    return float(end) if end.isascii() and end.isdigit() else None


def _checked(value: str, allow_plain: bool | None) -> URL:
    """
    Check the configured address.

    Raises:
        ConfigError: It cannot be used; never quotes it, since it may hold a credential.
    """
    try:
        url = URL(value, encoded=True)
        host, _ = url.host, url.port
    except ValueError:
        raise ConfigError("url is not a URL") from None
    if url.scheme not in ("ws", "wss") or not host:
        raise ConfigError("url must begin with wss:// (or ws:// on this machine)")
    if url.scheme == "ws" and not (is_loopback(host) if allow_plain is None else allow_plain):
        raise ConfigError(f"url: plain ws to {host} would show every secret; use wss")
    if url.user is not None:
        raise ConfigError("url: give the credential as token or api_secret, not in the URL")
    return url
