"""Any server that takes RTMP to publish, and offers it to play where it does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ..core.events import Role
from ..core.policy import SelfView
from ..errors import ConfigError, CredentialsRejected, HitlessError, Retry
from ..media.connection import is_loopback
from ..media.feed import Feed, Take
from ..media.liveness import Liveness
from ..media.rtmp import KEYFRAME_S, RtmpPlayer, RtmpPublisher
from ..media.rtmp_target import Target, target_of
from .checkup import Finding, Verdict, in_the_clear, unseen
from .credential import Access, Credential, Credentials, Token
from .rtmp_legs import RtmpPublishingLeg, RtmpViewingLeg
from .rtmp_record import RECORD
from .rtmp_view import OwnPlay


_STREAM: Final = "{stream}"
_KEY: Final = "{key}"
_STREAM_LENGTH_MAX: Final = 256
_REJECTED_MAX: Final = 1000  # streams whose last credential was rejected
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SECRET = re.compile(r"[\x21-\x7e]{1,1024}")


class Rtmp:
    """
    An RTMP server as a provider: H.264 and AAC, as the feed encodes them once for all such legs.

    A publisher is proven by a self-view where playing is offered: own frames come back. Elsewhere
    by the server's process having taken the first frame (it answers a ping that followed, or
    acknowledges the bytes), and if it says neither, by its kernel, which is weaker.

    Args:
        name: Provider name: lower-case letters, digits, `.`, `_` and `-`.
        url: `rtmp://host/application/{stream}`, or `rtmps://`; `{stream}` is replaced by the
            stream's id, percent-encoded, and `{key}` by the stream key. Plain `rtmp://` shows
            the key to the network: use `rtmps://` where it is offered.
        play_url: Where it is played, likewise; None: at `url`; empty: playing is not offered.
        stream_key: Stream key, or an async callable that fetches one and is called again, once,
            after a rejection.
        credentials: Fetches `{"token": key}` of one stream and role instead; it beats
            `stream_key`. `{"url": ...}` in it beats `url`, for services that give each stream
            an address of its own.
        first_media_s: Time from connecting to the first proven media [s].
        self_view: Whether a publisher plays its own stream. Kept, it costs the stream's bit rate
            downstream where a server sends pictures to who asked for sound only, as nginx-rtmp
            1.2.2 does.
        keyframe_s: Longest time between two keyframes while we publish [s]: how long a viewer
            may wait for its first picture, since RTMP viewers cannot ask for one.
        silence_s: Shortest silence of all media that counts [s]; over TCP one lost packet holds
            back what follows it for 0.2 s and more.
        path_silence_s: Shortest time without a sign that the server takes our bytes [s].
        one_kind_silence_s: Shortest silence of one kind while another flows that counts [s].
        pings: Whether to send ping requests; without, acknowledgements of bytes must do.
        fault_domain: What fails together with it; empty: nothing else.

    Attributes:
        first_media_s, fault_domain: As given.

    Raises:
        ConfigError: A URL or the name cannot be used; the message says which and why.
    """

    RECORD: Final = RECORD

    def __init__(
        self,
        name: str = "rtmp",
        *,
        url: str,
        play_url: str | None = None,
        stream_key: Token | None = None,
        credentials: Credentials | None = None,
        first_media_s: float = 10.0,
        self_view: SelfView = SelfView.KEPT,
        keyframe_s: float = KEYFRAME_S,
        silence_s: float = 1.0,
        path_silence_s: float = 1.0,
        one_kind_silence_s: float = 2.0,
        pings: bool = True,
        fault_domain: str = "",
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"name = {name!r}: use lower-case letters, digits, '.', '_', '-'")
        has_key = stream_key is not None or credentials is not None
        self._name = name
        self._url = _checked("url", url, has_key)
        if stream_key is not None and credentials is None and _KEY not in url:
            raise ConfigError(f"url: say with {_KEY} where the stream_key belongs")
        self._play_url = self._url
        if play_url is not None:
            self._play_url = _checked("play_url", play_url, has_key) if play_url else ""
        self._credential = Credential(stream_key)
        self._credentials = credentials
        self._rejected: set[tuple[str, Role]] = set()
        self.first_media_s, self.fault_domain = first_media_s, fault_domain
        self._self_view, self._keyframe_s, self._pings = self_view, keyframe_s, pings
        self._silence_s, self._path_silence_s = silence_s, path_silence_s
        self._one_kind_s = one_kind_silence_s
        self._legs: set[RtmpPublishingLeg | RtmpViewingLeg] = set()

    @property
    def name(self) -> str:
        """Provider name."""
        return self._name

    async def start_stream(self, stream: str, source: Feed) -> RtmpPublishingLeg:
        """Publish; see `Provider.start_stream`."""
        deadline = asyncio.get_running_loop().time() + self.first_media_s
        access = self._access(stream, Role.PUBLISHER)
        target, used = await self._target(access, deadline)
        liveness = self._liveness()
        settings = self._settings(liveness, used)
        publisher = RtmpPublisher(target, feed=source, keyframe_s=self._keyframe_s, **settings)
        own_view = None
        if self._self_view is not SelfView.OFF and self._play_url:
            own_view = await self._own_view(stream, source, liveness, publisher, deadline)
        leg = RtmpPublishingLeg(
            publisher,
            provider=self._name,
            liveness=liveness,
            feed=source,
            own_view=own_view,
            keep_view=self._self_view is SelfView.KEPT,
        )
        await self._open(leg, access, used, deadline)
        return leg

    async def join_stream(self, stream: str) -> RtmpViewingLeg:
        """View; see `Provider.join_stream`."""
        if not self._play_url:
            raise ConfigError(f"{self._name}: play_url is empty, so nothing can be viewed here")
        deadline = asyncio.get_running_loop().time() + self.first_media_s
        access = self._access(stream, Role.VIEWER)
        target, used = await self._target(access, deadline)
        liveness = self._liveness()
        settings = self._settings(liveness, used)

        def play(take: Take) -> RtmpPlayer:
            return RtmpPlayer(target, take=take, **settings)

        leg = RtmpViewingLeg(play, provider=self._name, liveness=liveness)
        await self._open(leg, access, used, deadline)
        return leg

    def endpoints(self) -> tuple[str, ...]:
        """See `Checkable`."""
        urls = (urlsplit(url) for url in (self._url, self._play_url) if url)
        return tuple(f"{url.scheme}://{url.netloc.rpartition('@')[2]}" for url in urls)

    async def checkup(self) -> AsyncIterator[Finding]:
        """See `Checkable`: RTMP has no control API, so media must tell."""
        says = "RTMP has none: names and keys are proven by the stream below"
        yield Finding(step="control API", verdict=Verdict.LEFT_OUT, says=says)
        url = urlsplit(self._url)
        if url.scheme == "rtmp" and _KEY in self._url and not is_loopback(url.hostname or ""):
            yield in_the_clear("the stream key", "use rtmps:// where the server offers it")
        if self._self_view is SelfView.OFF or not self._play_url:
            yield unseen("give play_url, and leave self_view on")

    async def aclose(self) -> None:
        """Close every leg that is still open. Idempotent; bounded."""
        if self._legs:
            await asyncio.gather(*(leg.aclose() for leg in tuple(self._legs)))

    # --- Inside ---

    async def _open(
        self,
        leg: RtmpPublishingLeg | RtmpViewingLeg,
        access: Access,
        used: str | None,
        deadline: float,
    ) -> None:
        self._legs.add(leg)
        leg.when_closed(lambda: self._legs.discard(leg))
        try:
            await leg.open(deadline)
        except CredentialsRejected as exc:
            exc.retry = self._rejection(access, used)
            await leg.aclose(wait=False)
            raise
        except BaseException:
            await leg.aclose(wait=False)
            raise
        self._credential.accepted(access.role)

    def _access(self, stream: str, role: Role) -> Access:
        renew = (stream, role) in self._rejected
        self._rejected.discard((stream, role))
        return Access(provider=self._name, stream=stream, role=role, renew=renew)

    def _rejection(self, access: Access, used: str | None) -> Retry:
        """Return what to do after a rejection: the same again if a new credential will be sent."""
        if self._credentials is None:
            return self._credential.rejected(access.role, used)
        if access.renew:
            return Retry.NEXT
        if len(self._rejected) < _REJECTED_MAX:
            self._rejected.add((access.stream, access.role))  # the next attempt asks to renew it
        return Retry.SAME

    async def _target(self, access: Access, deadline: float) -> tuple[Target, str | None]:
        """Return where a stream is published or played, and the credential in that, if any."""
        template = self._url if access.role is Role.PUBLISHER else self._play_url
        try:
            async with asyncio.timeout_at(deadline):
                found = await self._fetched(access)
        except HitlessError:
            raise
        except Exception as exc:
            # Its message may hold a secret, so only its type is told.
            raise CredentialsRejected(
                f"no stream key could be had ({type(exc).__name__} in the function)",
                provider=self._name,
                operation="publish" if access.role is Role.PUBLISHER else "view",
                retry=Retry.NEXT,
                answered=False,
            ) from exc
        key = found.get("token")
        own_url = found.get("url")
        if own_url is not None:
            template = _checked("url of the credentials", str(own_url), key is not None)
        filled = _filled(template, access.stream, None if key is None else str(key))
        used = str(key) if key is not None else None if own_url is None else str(own_url)
        return target_of("url", filled), used

    async def _fetched(self, access: Access) -> Mapping[str, Any]:
        if self._credentials is not None:
            return await self._credentials(access)
        return {"token": await self._credential.value()}

    def _liveness(self) -> Liveness:
        return Liveness(
            silence_s=self._silence_s,
            one_kind_s=self._one_kind_s,
            path_words="the server takes nothing that we send",
        )

    def _settings(self, liveness: Liveness, used: str | None) -> dict[str, Any]:
        return {
            "provider": self._name,
            "liveness": liveness,
            "path_silence_s": self._path_silence_s,
            "keyed": used is not None,
            "pings": self._pings,
        }

    async def _own_view(
        self,
        stream: str,
        feed: Feed,
        liveness: Liveness,
        publisher: RtmpPublisher,
        deadline: float,
    ) -> OwnPlay:
        target, used = await self._target(self._access(stream, Role.VIEWER), deadline)
        settings = self._settings(self._liveness(), used)

        def play(take: Take, pictures: bool) -> RtmpPlayer:
            return RtmpPlayer(
                target, take=take, operation="publish", pictures=pictures, **settings
            )

        return OwnPlay(
            provider=self._name,
            play=play,
            feed=feed,
            liveness=liveness,
            rtt_s=lambda: publisher.rtt_s,
            keyframe_s=self._keyframe_s,
            limit_s=self.first_media_s,
        )


def _checked(field: str, value: str, has_key: bool) -> str:
    """
    Check a configured address.

    Raises:
        ConfigError: Naming the field, never the URL: it may hold a credential.
    """
    target = target_of(field, value.replace(_STREAM, "stream").replace(_KEY, "key"))
    host = value.split("://", 1)[1].split("/", 1)[0]
    if _STREAM in host or _KEY in host:
        raise ConfigError(f"{field}: {_STREAM} and {_KEY} belong into the path, not the host")
    if _KEY in value and not has_key:
        raise ConfigError(f"{field}: {_KEY} needs a stream_key, or credentials")
    if "{" in target.name or "{" in target.app:
        raise ConfigError(f"{field}: only {_STREAM} and {_KEY} are replaced")
    return value


def _filled(template: str, stream: str, key: str | None) -> str:
    """
    Put a stream's id, and its key, into an address.

    Raises:
        ConfigError: The id is empty, too long, or would change the path; the key is no text.
    """
    if not 0 < len(stream) <= _STREAM_LENGTH_MAX or stream in (".", ".."):
        raise ConfigError(f"a stream id has 1 to {_STREAM_LENGTH_MAX} characters, not '.' or '..'")
    try:
        filled = template.replace(_STREAM, quote(stream, safe=""))
    except UnicodeEncodeError:
        raise ConfigError(f"stream id {stream[:40]!r} cannot be part of a URL") from None
    if _KEY not in filled:
        return filled
    if key is None or not _SECRET.fullmatch(key) or "#" in key:
        raise ConfigError("a stream key is needed: 1 to 1024 printable characters without spaces")
    return filled.replace(_KEY, key)
