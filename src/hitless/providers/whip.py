"""Any server that speaks WHIP (RFC 9725) to publish and WHEP to view."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

from yarl import URL

from ..core.events import Role
from ..core.policy import SelfView
from ..errors import ConfigError, CredentialsRejected, MediaLost, Retry
from ..media.connection import IceServer, is_loopback
from ..media.feed import Feed
from ..media.frame import Codec, Kind
from ..media.liveness import Liveness
from ..media.peer import PublishingPeer, ViewingPeer
from ..media.receive import Take
from .checkup import Finding, Verdict, in_the_clear, unseen
from .credential import Access, Credentials, Token, token_of
from .self_view import OwnView
from .signalling import Answer, Signalling
from .subscription import Subscription
from .whip_legs import PublishingLeg, ViewingLeg
from .whip_record import RECORD


_STREAM: Final = "{stream}"
_BRACES: Final = re.compile(r"(\{\w{1,40}\})|[{}]")
_STREAM_LENGTH_MAX: Final = 256
_REJECTED_MAX: Final = 1000  # streams whose last credential was rejected
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Whip:
    """
    A WHIP and WHEP server as a provider.

    Args:
        name: Provider name: lower-case letters, digits, `.`, `_` and `-`.
        url: WHIP endpoint; `{stream}` in it is replaced by the stream's id, percent-encoded.
        view_url: WHEP endpoint, likewise; default: `url` with `whip` replaced by `whep`.
        token: Bearer token, or an async callable that fetches one and is called again, once,
            after a rejection. None: no `Authorization` is sent.
        credentials: Fetches the token of one stream and role instead; it beats `token`.
        ice_servers: STUN and TURN servers; those a server recommends are used besides.
        first_media_s: Time from the POST to the first proven media [s].
        self_view: How a publisher proves that it is forwarded.
        video_codec: Preferred when viewing.
        silence_s: Shortest silence of all media that counts [s].
        path_silence_s: Shortest silence of STUN answers that counts [s].
        one_kind_silence_s: Shortest silence of one kind while another flows that counts [s].
        fault_domain: What fails together with it; empty: nothing else.
        allow_http: Whether plain http is accepted; None: with loopback hosts only.

    Attributes:
        first_media_s, fault_domain: As given.

    Raises:
        ConfigError: A URL or the name cannot be used; the message says which and why.
    """

    RECORD: Final = RECORD

    def __init__(
        self,
        name: str = "webrtc",
        *,
        url: str,
        view_url: str | None = None,
        token: Token | None = None,
        credentials: Credentials | None = None,
        ice_servers: Sequence[IceServer] = (),
        first_media_s: float = 3.0,
        self_view: SelfView = SelfView.KEPT,
        video_codec: Codec = Codec.VP8,
        silence_s: float = 0.2,
        path_silence_s: float = 0.25,
        one_kind_silence_s: float = 1.5,
        fault_domain: str = "",
        allow_http: bool | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"name = {name!r}: use lower-case letters, digits, '.', '_', '-'")
        self._name = name
        self._url = checked_url("url", url, allow_http)
        found = view_url if view_url is not None else _view_url_of(url)
        self._view_url = None if found is None else checked_url("view_url", found, allow_http)
        self._token = token
        self._credentials = credentials
        self._allow_http = bool(allow_http)
        self._ice_servers = tuple(ice_servers)
        self._learnt: tuple[IceServer, ...] = ()
        self.first_media_s, self.fault_domain = first_media_s, fault_domain
        self._self_view = self_view
        self._video_codec = video_codec
        self._silence_s = silence_s
        self._path_silence_s = path_silence_s
        self._one_kind_s = one_kind_silence_s
        self._signalling_made: Signalling | None = None
        self._legs: set[PublishingLeg | ViewingLeg[Answer]] = set()
        self._rejected: set[tuple[str, Role]] = set()

    @property
    def name(self) -> str:
        """Provider name."""
        return self._name

    async def start_stream(self, stream: str, source: Feed) -> PublishingLeg:
        """Publish; see `Provider.start_stream`. Proven by a self-view, or by receiver reports."""
        url = self._endpoint(stream, Role.PUBLISHER)
        liveness = self._liveness()
        settings = self._settings("publish", url, liveness)
        peer = PublishingPeer(feed=source, **settings)
        own_view = None
        if self._self_view is not SelfView.OFF and self._view_url is not None:
            own_view = self._own_view(stream, source, liveness, peer)
        leg = PublishingLeg(
            self._signalling(stream, Role.PUBLISHER),
            url,
            peer,
            feed=source,
            own_view=own_view,
            keep_view=self._self_view is SelfView.KEPT,
        )
        await self._open(leg, (stream, Role.PUBLISHER))
        return leg

    async def join_stream(self, stream: str) -> ViewingLeg[Answer]:
        """View; see `Provider.join_stream`."""
        url = self._endpoint(stream, Role.VIEWER)
        liveness = self._liveness()
        settings = self._settings("view", url, liveness)

        def new_peer(take: Take) -> ViewingPeer:
            return ViewingPeer(
                kinds=frozenset(Kind), take=take, video_codec=self._video_codec, **settings
            )

        signalling = self._signalling(stream, Role.VIEWER)
        leg = ViewingLeg(
            lambda take: self._subscription(stream, signalling, url, lambda: new_peer(take)),
            lambda answer: signalling.refusal(answer, "view"),
        )
        await self._open(leg, (stream, Role.VIEWER))
        return leg

    async def aclose(self) -> None:
        """Close every leg that is still open, end requests under way. Idempotent; bounded."""
        if self._legs:
            await asyncio.gather(*(leg.aclose() for leg in tuple(self._legs)))
        if self._signalling_made is not None:
            await self._signalling_made.aclose()

    # --- For `hitless doctor` ---

    def endpoints(self) -> tuple[str, ...]:
        """See `Checkable`."""
        return tuple(str(url.origin()) for url in (self._url, self._view_url) if url is not None)

    async def checkup(self) -> AsyncIterator[Finding]:
        """See `Checkable`: such a server has no control API, so media must tell."""
        says = "WHIP has none: a token is proven by the stream below"
        yield Finding(step="control API", verdict=Verdict.LEFT_OUT, says=says)
        has_token = self._token is not None or self._credentials is not None
        if has_token and self._url.scheme == "http" and not is_loopback(self._url.host or ""):
            yield in_the_clear("the token", "use https:// and leave allow_http out")
        if self._self_view is SelfView.OFF or self._view_url is None:
            yield unseen("give view_url, and leave self_view on")

    # --- For providers made of this one ---

    def _endpoint(self, stream: str, role: Role) -> URL:
        """
        Return where to POST an offer for a stream.

        Raises:
            ConfigError: Nothing can be viewed here, or the id cannot be part of a URL.
        """
        template = self._url if role is Role.PUBLISHER else self._view_url
        if template is None:
            raise ConfigError(
                f"{self._name}: view_url is needed to view, because url has no 'whip' in it"
            )
        return _filled(template, stream)

    def _subscription(
        self,
        stream: str,
        signalling: Signalling,
        url: URL,
        new_peer: Callable[[], ViewingPeer],
        *,
        is_own: bool = False,
    ) -> Subscription:
        """Return what views a stream for a viewer, or for its publisher if `is_own`."""
        return Subscription(signalling, url, new_peer)

    # --- Inside ---

    async def _open(self, leg: PublishingLeg | ViewingLeg[Answer], what: tuple[str, Role]) -> None:
        deadline = asyncio.get_running_loop().time() + self.first_media_s
        self._legs.add(leg)
        leg.when_closed(lambda: self._legs.discard(leg))
        try:
            await leg.open(deadline)
        except CredentialsRejected:
            if len(self._rejected) < _REJECTED_MAX:
                self._rejected.add(what)  # the next attempt asks to renew it
            await leg.aclose(wait=False)
            raise
        except MediaLost as exc:
            news = self._learn(leg.answer)
            await leg.aclose(wait=False)
            if news and not exc.answered:
                # It told us of its relays together with its answer: too late for this attempt.
                exc.retry = Retry.SAME
            raise
        except BaseException:
            await leg.aclose(wait=False)
            raise
        self._learn(leg.answer)

    def _learn(self, answer: Answer | None) -> bool:
        """Remember the ICE servers of an answer; tell whether they are news."""
        if answer is None or not answer.ice_servers or answer.ice_servers == self._learnt:
            return False
        self._learnt = answer.ice_servers
        return True

    def _signalling(self, stream: str, role: Role) -> Signalling:
        if self._signalling_made is None:
            endpoints = [self._url] if self._view_url is None else [self._url, self._view_url]
            self._signalling_made = Signalling(
                self._name, token=self._token, endpoints=endpoints, allow_http=self._allow_http
            )
        if self._credentials is None:
            return self._signalling_made
        renew = (stream, role) in self._rejected
        self._rejected.discard((stream, role))
        access = Access(provider=self._name, stream=stream, role=role, renew=renew)
        return self._signalling_made.scoped(token_of(self._credentials, access))

    def _liveness(self) -> Liveness:
        return Liveness(silence_s=self._silence_s, one_kind_s=self._one_kind_s)

    def _settings(self, operation: str, url: URL, liveness: Liveness) -> dict[str, Any]:
        loopback = is_loopback(url.host or "")
        return {
            "provider": self._name,
            "operation": operation,
            "liveness": liveness,
            "loopback": loopback,
            "ice_servers": () if loopback else (*self._ice_servers, *self._learnt),
            "path_silence_s": self._path_silence_s,
        }

    def _own_view(
        self, stream: str, feed: Feed, liveness: Liveness, peer: PublishingPeer
    ) -> OwnView[Answer]:
        url = self._endpoint(stream, Role.VIEWER)
        settings = self._settings("publish", url, liveness)
        signalling = self._signalling(stream, Role.VIEWER)

        def subscribe(kinds: frozenset[Kind], take: Take) -> Subscription:
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

            return self._subscription(stream, signalling, url, new_peer, is_own=True)

        return OwnView(
            provider=self._name,
            subscribe=subscribe,
            feed=feed,
            liveness=liveness,
            rtt_s=lambda: peer.rtt_s,
            limit_s=self.first_media_s,
        )


def checked_url(field: str, value: str, allow_http: bool | None) -> URL:
    """
    Check a configured endpoint.

    Raises:
        ConfigError: Naming the field, never the URL: it may hold a credential.
    """
    try:
        url = URL(value.replace(_STREAM, "stream"), encoded=True)
        host, _ = url.host, url.port
    except ValueError:
        raise ConfigError(f"{field} is not a URL") from None
    if url.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{field} must begin with https:// (or http:// on this machine)")
    if url.scheme == "http" and not (is_loopback(host) if allow_http is None else allow_http):
        raise ConfigError(f"{field}: plain http to {host} would show the token; use https")
    if url.user is not None:
        raise ConfigError(f"{field}: give the credential as token, not in the URL")
    braces = _BRACES.search(value.replace(_STREAM, ""))
    if braces is not None:  # only a word is quoted: all else may be part of a credential
        raise ConfigError(f"{field}: only {_STREAM} is replaced, not {braces[1] or 'a brace'}")
    if _STREAM in value.split("://", 1)[1].split("/", 1)[0]:
        raise ConfigError(f"{field}: {_STREAM} belongs into the path, not into the host")
    return URL(value, encoded=True)


def _view_url_of(url: str) -> str | None:
    """Return the usual WHEP twin of a WHIP endpoint; None if its path has no `whip` in it."""
    begin = len(url) - len(url.split("://", 1)[-1].partition("/")[2])
    found = list(re.finditer(r"\bwhip\b", url[begin:])) or list(re.finditer("whip", url[begin:]))
    if not found:
        return None
    at = begin + found[-1].start()
    return f"{url[:at]}whep{url[at + 4 :]}"


def _filled(template: URL, stream: str) -> URL:
    """
    Put a stream's id into an endpoint.

    Raises:
        ConfigError: The id is empty, too long, or would change the path.
    """
    if not 0 < len(stream) <= _STREAM_LENGTH_MAX or stream in (".", ".."):
        raise ConfigError(
            f"stream id {stream[:40]!r}: use 1 to {_STREAM_LENGTH_MAX} characters, not '.' or '..'"
        )
    try:
        return URL(str(template).replace(_STREAM, quote(stream, safe="")), encoded=True)
    except (ValueError, UnicodeEncodeError):
        raise ConfigError(f"stream id {stream[:40]!r} cannot be part of a URL") from None
