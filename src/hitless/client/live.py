"""
`LiveStreamingProvider`: several providers that behave as one.

It satisfies `Provider` itself, so anything written for one provider takes it unchanged, and the
conformance suite runs on it like on any other.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..core.events import Announce
from ..core.listing import Check, Listed, ProviderList
from ..core.policy import Policy
from ..errors import ConfigError
from ..media.feed import Feed
from ..media.frame import Codec
from ..media.sink import FileSink, Sink
from ..media.source import Quality, Source, open_feed
from ..providers import load
from ..providers.base import Provider
from .backend import Backend, CallableList, ProviderSource, StaticList
from .control import ControlPlane
from .manager import ProviderStatus, StreamingProviderManager
from .releasing import release
from .session import LiveSession, Opening
from .stream import LiveStream
from .stream_id import check_stream_id
from .telemetry import Record
from .view import LiveView


Credentials = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Called with a provider's name; returns what its adapter needs beyond the public config."""

_RETIRED_MAX = 4
"""Adapters kept for their legs after the backend changed their config; the oldest is closed."""


class LiveStreamingProvider:
    """
    Several providers, best first, that behave as one.

    Args:
        providers: Adapters in order of priority, or an async callable that returns them (or
            names of them) afresh. With a `backend`, the adapters for the names it lists.
        backend: Lists providers and their health: any server of the two endpoints
            (`hitless.Backend`), or a Hitless server (`hitless.ControlPlane`), which also gives
            credentials and tells publisher and viewers where the stream goes.
        credentials: For providers that only the backend names: called with the name, returns
            keyword arguments for the adapter (a token, a certificate).
        policy: The limits; see docs/reference/configuration.md. What an adapter measures itself
            (`silence_s`, `path_silence_s`, `one_kind_silence_s`, `first_media_s`, `self_view`) is
            set on the adapter; those made from the backend's list get what the policy says.
        name: Its own name as a provider.
        record: File for a record of all events; `hitless replay` reruns it.
        seed: Decides the jitter; None: by chance.
        tell: Called with each event.

    Raises:
        ConfigError: No provider, two of one name, or a name that is not fit for one.
    """

    def __init__(
        self,
        providers: Sequence[Provider] | Callable[[], Awaitable[Sequence[Any]]] = (),
        *,
        backend: Backend | ControlPlane | None = None,
        credentials: Credentials | None = None,
        policy: Policy | None = None,
        name: str = "hitless",
        record: Path | str | None = None,
        seed: int = 0,
        tell: Callable[[Announce], None] = lambda news: None,
    ) -> None:
        self.name = name
        self.policy = policy or Policy()
        self._adapters = _Adapters(providers, backend, credentials, self.policy)
        self.manager = StreamingProviderManager(
            self._adapters,
            policy=self.policy,
            provider=self._adapters.of,
            seed=seed,
            record=Record(Path(record), self.policy, seed) if record else None,
            tell=tell,
            control=backend if isinstance(backend, ControlPlane) else None,
        )
        self._sessions: list[LiveSession] = []

    # --- State a program can read ---

    @property
    def active_provider(self) -> str | None:
        """Who carries the current stream; without one, where the next would start."""
        current = self._current
        return (current.provider or None) if current else self.manager.active_provider

    @property
    def current_stream(self) -> str | None:
        """Id of the stream started or joined last that is not over; None: there is none."""
        return self._current.stream if self._current else None

    @property
    def is_streaming(self) -> bool:
        """Whether a stream is on air, published or watched."""
        return any(session.provider for session in self._open)

    @property
    def error(self) -> str | None:
        """What is wrong with the current stream, in a sentence fit for the end user; or None."""
        return next((s.error for s in reversed(self._sessions) if s.error), None)

    @property
    def providers(self) -> tuple[ProviderStatus, ...]:
        """What is known of each provider of the list."""
        return self.manager.providers

    def stats(self) -> list[Mapping[str, Any]]:
        """Return the statistics of all legs of all streams, in webrtc-stats terms."""
        return [entry for session in self._open for entry in session.stats()]

    # --- Streams ---

    def start_stream(
        self,
        stream: str,
        source: Feed | Source,
        *,
        quality: Quality | None = None,
        video_codec: Codec = Codec.VP8,
        repeat: bool = False,
    ) -> Opening[LiveStream]:
        """
        Put `source` on air as `stream`; use with `await` or `async with`.

        Args:
            stream: Id under which viewers find it, whoever carries it: 1 to 200 characters,
                no control characters.
            source: A file, a camera (`/dev/video0`), `test-picture`, frames (an async iterator;
                see `hitless.media.source.open_feed`), or a running `Feed`, which is not closed
                with the stream.
            quality: Size, frame rate and bit rate.
            video_codec: VP8 or H264.
            repeat: Play a file again and again.

        Raises:
            AllProvidersFailed: Nobody could carry it; one error per attempt.
            LocalFault: The source or this machine is at fault; nobody was blamed.
            ConfigError: An argument is impossible; nothing was started.
        """
        check_stream_id(stream)

        async def open() -> LiveStream:
            owns = not isinstance(source, Feed)
            feed = (
                source
                if isinstance(source, Feed)
                else await open_feed(
                    source,
                    quality=quality or Quality(),
                    video_codec=video_codec,
                    repeat=repeat,
                )
            )
            live = LiveStream(self.manager.driver, stream, feed, name=self.name, owns_feed=owns)
            await self._begin(live)
            return live

        return Opening(open)

    def join_stream(
        self, stream: str, *, wait_s: float = 0.0, sinks: Sequence[Sink | Path] = ()
    ) -> Opening[LiveView]:
        """
        Watch `stream`; use with `await` or `async with`.

        Args:
            stream: Its id.
            wait_s: How long to wait for a publisher [s]; 0: it must be on air now, as for any
                other `Provider`.
            sinks: Where its media goes besides the iterators of `LiveView`: files to write, a
                `Meter`, anything that is a `Sink`. They are closed with the view.

        Raises:
            NotOnAir: Nobody published it in time.
            AllProvidersFailed: No provider let us in.
            ConfigError: An argument is impossible; nothing was started.
        """
        check_stream_id(stream)
        if not 0 <= wait_s < float("inf"):
            raise ConfigError(f"wait_s = {wait_s!r} is not possible: give 0 or more seconds")

        async def open() -> LiveView:
            taken = [FileSink(s) if isinstance(s, Path) else s for s in sinks]
            view = LiveView(
                self.manager.driver, stream, name=self.name, wait_s=wait_s, sinks=taken
            )
            await self._begin(view)
            return view

        return Opening(open)

    async def end_stream(self, stream: str | None = None) -> None:
        """End the published stream (None: all of them). Idempotent."""
        await self._close(LiveStream, stream)

    async def leave_stream(self, stream: str | None = None) -> None:
        """Leave the watched stream (None: all of them). Idempotent."""
        await self._close(LiveView, stream)

    async def refresh_provider(self) -> str:
        """
        Ask for the list again and return where a stream should be now.

        Only a change of the list moves what is on air.

        Raises:
            AllProvidersFailed: There is no list, or every provider in it is disabled.
        """
        return await self.manager.fetch_active_provider()

    async def switch_provider(self, name: str, because: str = "asked by the caller") -> None:
        """Move everything to `name`, make before break. Raises ConfigError for a bad name."""
        await self.manager.switch_provider(name, because)

    def record_streaming_error(self, because: str, provider: str | None = None) -> None:
        """Count a streaming error that the program saw against a provider."""
        self.manager.record_streaming_error(because, provider)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every stream and release every provider. Idempotent; never raises; bounded."""
        await asyncio.shield(self._aclose())

    # --- Inside ---

    async def _aclose(self) -> None:
        for session in self._sessions:
            await session.aclose()
        self._sessions.clear()
        await self.manager.aclose()
        await self._adapters.aclose()

    async def _begin(self, session: LiveSession) -> None:
        self._sessions = [*self._open, session]
        await session.begin()

    @property
    def _open(self) -> list[LiveSession]:
        return [session for session in self._sessions if not session.is_over]

    @property
    def _current(self) -> LiveSession | None:
        return next(reversed(self._open), None)

    async def _close(self, kind: type[LiveSession], stream: str | None) -> None:
        for session in self._open:
            if isinstance(session, kind) and stream in (None, session.stream):
                await session.aclose()


class _Adapters:
    """The adapters by name, and the source that lists only names there is an adapter for."""

    def __init__(
        self,
        providers: Sequence[Provider] | Callable[[], Awaitable[Sequence[Any]]],
        backend: Backend | ControlPlane | None,
        credentials: Credentials | None,
        policy: Policy,
    ) -> None:
        self._policy = policy
        self._made: dict[str, Provider] = {}
        self._configs: dict[str, Mapping[str, Any]] = {}
        self._retired: list[Provider] = []
        self._credentials = credentials
        self._backend = backend
        if callable(providers):
            self._source: ProviderSource = CallableList(self._called(providers))
        else:
            for provider in providers:
                self._add(provider)
            if backend is not None:
                self._source = backend
            elif self._made:
                self._source = StaticList(list(self._made))
            else:
                raise ConfigError("give at least one provider, or a backend that lists them")

    def of(self, name: str) -> Provider:
        return self._made[name]

    async def list_providers(self) -> ProviderList:
        listed = await self._source.list_providers()
        known, warnings = [], list(listed.warnings)
        for entry in listed.providers:
            try:
                await self._ensure(entry)
            except (ConfigError, TypeError) as exc:
                warnings.append(f"{entry.name} is left out: {exc}")
            else:
                known.append(self._described(entry))
        default = listed.default if any(e.name == listed.default for e in known) else None
        return ProviderList(providers=tuple(known), default=default, warnings=tuple(warnings))

    def _described(self, entry: Listed) -> Listed:
        """Return an entry with what its adapter says of itself, where nobody says otherwise."""
        made = self._made[entry.name]
        names = ["fault_domain"]
        if self._policy.first_media_s == Policy().first_media_s:
            names.append("first_media_s")
        said = {name: getattr(made, name, None) for name in names}
        config = {name: value for name, value in said.items() if value} | dict(entry.config)
        return replace(entry, config=config)

    async def check_health(self, name: str) -> Check | None:
        return await self._source.check_health(name)

    async def aclose(self) -> None:
        await release((*self._made.values(), *self._retired))
        if self._backend is not None:
            await self._backend.aclose()

    def _called(
        self, supply: Callable[[], Awaitable[Sequence[Any]]]
    ) -> Callable[[], Awaitable[Sequence[Any]]]:
        async def call() -> Sequence[Any]:
            items: list[Any] = []
            for item in await supply():
                if isinstance(item, Provider):
                    self._made.setdefault(item.name, item)
                    item = Listed(name=item.name, priority=len(items))
                items.append(item)
            return items

        return call

    def _add(self, provider: Provider) -> None:
        if not isinstance(provider, Provider):
            raise ConfigError(f"{provider!r} is not a provider: see docs/write-a-provider.md")
        if provider.name in self._made:
            raise ConfigError(
                f"two providers are called {provider.name!r}: give each its own name"
            )
        self._made[provider.name] = provider

    async def _ensure(self, entry: Listed) -> None:
        """Make the adapter of a name that only the backend knows, from its public config."""
        before = self._configs.get(entry.name)
        if before == entry.config or (before is None and entry.name in self._made):
            return
        options = dict(entry.config)
        adapter = options.pop("adapter", entry.name)
        if not isinstance(adapter, str):
            raise ConfigError(f"config.adapter = {adapter!r} is not a name")
        make = load(adapter)
        options = {**_said(self._policy, make), **options}
        control = self._backend if isinstance(self._backend, ControlPlane) else None
        if control is not None and "credentials" in inspect.signature(make).parameters:
            options["credentials"] = control.credential
        if self._credentials is not None:
            options.update(await self._credentials(entry.name))
        if "fault_domain" not in inspect.signature(make).parameters:
            options.pop("fault_domain", None)  # for whoever decides; not every adapter cares
        made = make(entry.name, **options)
        if entry.name in self._made:  # its config changed; legs it carries go on
            self._retired.append(self._made[entry.name])
            if len(self._retired) > _RETIRED_MAX:
                await release([self._retired.pop(0)])
        self._made[entry.name], self._configs[entry.name] = made, entry.config


def _said(policy: Policy, make: Callable[..., Provider]) -> dict[str, Any]:
    """Return what `policy` says differently from the defaults and an adapter takes."""
    usual, accepted = Policy(), inspect.signature(make).parameters
    names = (knob.name for knob in fields(Policy) if knob.name in accepted)
    return {n: getattr(policy, n) for n in names if getattr(policy, n) != getattr(usual, n)}
