"""
The two ends of the lab's stream, each a process of its own.

    python -m hitless.lab.ends publisher --stream show --backend URL --provider agora=URL ...

They share nothing but the providers and the backend. Both are ordinary programs over the library;
what makes them the lab's is that they say everything as lines of JSON on standard output and take
orders as lines of JSON on standard input. They end when standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import resource
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..client.backend import Backend
from ..client.control import ControlPlane
from ..client.live import LiveStreamingProvider
from ..client.session import LiveSession
from ..client.stream import LiveStream
from ..client.telemetry import words
from ..core.catalogue import CATALOGUE, Level
from ..core.events import Announce
from ..core.policy import Policy, ReturnPolicy, SelfView
from ..errors import AllProvidersFailed, ConfigError, HitlessError, ProviderError
from ..media.decoder import Picture, Sound
from ..media.encoder import PictureEncoder
from ..media.frame import Codec, EncodedFrame, Kind
from ..media.gap import Shown, measure
from ..media.sink import RECORD_S, FileSink, Meter, Sink
from ..media.source import Quality
from .accounts import secrets_of
from .adapters import provider_of
from .wire import CLIENT_KEY_ENV


FAILING_CAMERA = "failing-camera"
"""A stand-in for a camera that is pulled out: frames of the caller, then an error, after 3 s."""

_CHOICES = {"return_policy": ReturnPolicy, "self_view": SelfView}
_LINE_BYTES_MAX = 1 << 20
_PICTURES_PER_S_MAX = 60


def say(type: str, **fields: Any) -> None:
    """Write one line; `at_s` is the machine's monotonic clock, the same in every process."""
    line = {"type": type, "at_s": asyncio.get_running_loop().time(), **fields}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


def _backend(options: argparse.Namespace, policy: Policy) -> Backend | ControlPlane | None:
    if options.backend is None:
        return None
    if options.client is None:
        return Backend(options.backend, timeout_s=policy.health_timeout_s)
    key = os.environ.get(CLIENT_KEY_ENV)
    return ControlPlane(options.backend, key=key, client=options.client)


def policy_of(text: str) -> Policy:
    """
    Return a policy from a JSON object of its fields.

    Raises:
        ConfigError: Not JSON, an unknown field, or a value outside its limits.
    """
    try:
        given: dict[str, Any] = json.loads(text)
        for name, kind in _CHOICES.items():
            if name in given:
                given[name] = kind(given[name])
        return Policy(**given)
    except (ValueError, TypeError, AttributeError) as exc:
        raise ConfigError(f"--policy: {exc}") from exc


class Intervals:
    """When pictures were shown, for sources that carry no number."""

    wants_decoded = True

    def __init__(self, record_s: float) -> None:
        self.pictures: deque[Shown] = deque(maxlen=int(record_s * _PICTURES_PER_S_MAX))

    def take(self, frame: EncodedFrame) -> None:
        """Do nothing: only what is shown counts."""

    def picture(self, picture: Picture) -> None:
        """Note the time."""
        number = self.pictures[-1].number + 1 if self.pictures else 0
        self.pictures.append(Shown(number, picture.at_s))

    def sound(self, sound: Sound) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


class End:
    """One end: a client, its session, and the orders it obeys."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.policy = policy_of(options.policy)
        self.meter = Meter(frame_rate=options.frame_rate, record_s=options.remember_s)
        self.intervals = Intervals(options.remember_s)
        self.session: LiveSession | None = None
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        backend = _backend(options, self.policy)
        # Who goes by plans has no secrets of providers, as in production.
        known: dict[str, Any] = (
            {"credentials": backend.credential}
            if isinstance(backend, ControlPlane)
            else {"secrets": secrets_of(os.environ)}
        )
        self.live = LiveStreamingProvider(
            [provider_of(one, self.policy, **known) for one in options.provider],
            backend=backend,
            policy=self.policy,
            record=options.record,
            tell=self._told,
            seed=options.seed,
        )

    async def run(self) -> None:
        """Begin, obey until told to end or the stream is over, and release everything."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        say("ready", role=self.options.role)
        self._own(self._obey(reader))
        self._own(self._begin())
        try:
            await self._stopped.wait()
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.live.aclose()
            say("gone")

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- The stream ---

    async def _begin(self) -> None:
        if self.options.hold:
            return
        begun_s = asyncio.get_running_loop().time()
        try:
            session = await self._open()
        except HitlessError as exc:
            self._over(exc)
            return
        self.session = session
        gc.collect()
        gc.freeze()  # a full collection takes as long as a frame
        say("started", began_s=begun_s, provider=session.provider)
        self.status()
        try:
            await session.lost()
        except HitlessError as exc:
            ended_s = asyncio.get_running_loop().time()
            await session.aclose()
            self._over(exc, at_s=ended_s)

    async def _open(self) -> LiveSession:
        o = self.options
        if o.role == "viewer":
            files = [FileSink(Path(o.to_file))] if o.to_file else []
            sinks: list[Sink | Path] = [self.meter, self.intervals, *files]
            return await self.live.join_stream(o.stream, wait_s=o.wait_s, sinks=sinks)
        quality = Quality(
            width=o.width, height=o.height, frame_rate=o.frame_rate, bitrate_bps=o.bitrate_bps
        )
        source: Any = _failing_camera() if o.source == FAILING_CAMERA else o.source
        return await self.live.start_stream(
            o.stream, source, quality=quality, video_codec=Codec(o.codec), repeat=o.repeat
        )

    def _over(self, exc: HitlessError, **fields: float) -> None:
        cause = exc.__cause__ if isinstance(exc.__cause__, AllProvidersFailed) else exc
        errors = cause.exceptions if isinstance(cause, AllProvidersFailed) else ()
        say(
            "over",
            error=type(cause).__name__,
            message=str(cause),
            errors=[
                {"provider": e.provider, "error": type(e).__name__, "because": e.because}
                for e in errors
                if isinstance(e, ProviderError)
            ],
            sentence=self.live.error,
            left=[task.get_name() for task in asyncio.all_tasks() if _is_ours(task)],
            **fields,
        )

    def _told(self, news: Announce) -> None:
        if CATALOGUE[news.name].level is Level.DEBUG and not self.options.verbose:
            return
        say(
            "news",
            name=news.name,
            level=CATALOGUE[news.name].level.value,
            sentence=words(news),
            because=news.because,
            stream=news.stream,
            provider=news.provider,
            fields=dict(news.fields),
        )
        asyncio.get_running_loop().call_soon(self.status)

    def status(self) -> None:
        """Say where everything stands."""
        session = self.session
        state = session.state if session is not None else None
        say(
            "status",
            stream=self.options.stream,
            provider=session.provider if session is not None else "",
            phase=session.phase.value if session is not None else "starting",
            epoch=state.epoch if state else 0,
            attempts=[attempt.provider for attempt in state.attempts] if state else [],
            legs=[leg.provider for leg in state.legs] if state else [],
            error=self.live.error,
            providers=[asdict(status) for status in self.live.providers],
            reading=asdict(self.meter.reading()),
            resources=resources(),
        )

    # --- Orders ---

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        orders: dict[str, Callable[[dict[str, Any]], Coroutine[Any, Any, None]]] = {
            "begin": self._do_begin,
            "measure": self._do_measure,
            "switch": self._do_switch,
            "error": self._do_error,
            "success": self._do_success,
            "mute": self._do_mute,
            "break-encoder": self._do_break_encoder,
            "refresh": self._do_refresh,
            "status": self._do_status,
            "stats": self._do_stats,
        }
        while line := await reader.readline():
            order = json.loads(line)
            if order["do"] == "end":
                break
            try:
                await orders[order["do"]](order)
            except HitlessError as exc:
                say("refused", do=order["do"], error=type(exc).__name__, message=str(exc))
        self._stopped.set()

    async def _do_begin(self, order: dict[str, Any]) -> None:
        self.options.hold = False
        self._own(self._begin())

    async def _do_measure(self, order: dict[str, Any]) -> None:
        window = order["from_s"], order["to_s"]
        baseline_from_s = order.get("baseline_from_s")
        if self.meter.pictures:
            report = asdict(self.meter.report(*window, baseline_from_s=baseline_from_s))
        else:  # no numbers in the picture: intervals can be measured, losses not counted
            counted = measure(
                self.intervals.pictures,
                (),
                *window,
                self.meter.frame_interval_s,
                baseline_from_s=baseline_from_s,
            )
            report = {**asdict(counted), "frames_lost": None, "frames_repeated": None}
        say("measured", report=report)

    async def _do_switch(self, order: dict[str, Any]) -> None:
        await self.live.switch_provider(order["provider"], order.get("because", "an operator"))

    async def _do_error(self, order: dict[str, Any]) -> None:
        self.live.record_streaming_error(order.get("because", "the program saw an error"))

    async def _do_success(self, order: dict[str, Any]) -> None:
        self.live.manager.record_streaming_success()

    async def _do_mute(self, order: dict[str, Any]) -> None:
        if isinstance(self.session, LiveStream):
            self.session.mute(Kind(order["kind"]), bool(order["on"]))

    async def _do_break_encoder(self, order: dict[str, Any]) -> None:
        def dead(*_: object, **__: object) -> None:
            raise RuntimeError("broken by the lab")

        # Patched in this process only, which is the lab's.
        PictureEncoder.encode = dead  # type: ignore[method-assign]

    async def _do_refresh(self, order: dict[str, Any]) -> None:
        say("refreshed", provider=await self.live.refresh_provider())

    async def _do_status(self, order: dict[str, Any]) -> None:
        self.status()

    async def _do_stats(self, order: dict[str, Any]) -> None:
        say("stats", stats=self.live.stats())


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether a task belongs to a stream; the link to the server belongs to the client."""
    name = task.get_name()
    return name.startswith("hitless:") and name != "hitless: control link"


def resources() -> dict[str, int]:
    """Return what this process holds: tasks, threads, descriptors, memory [byte]."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # macOS: only the peak is known
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir(folder)),
        "memory_bytes": memory,
    }


async def _failing_camera() -> AsyncIterator[np.ndarray[Any, Any] | av.VideoFrame]:
    for _ in range(60):
        await asyncio.sleep(0.05)
        yield np.zeros((360, 640, 3), np.uint8)
    raise OSError("No such device")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hitless.lab.ends",
        description="One end of the lab's stream; it speaks lines of JSON.",
    )
    parser.add_argument("role", choices=("publisher", "viewer"))
    parser.add_argument("--stream", required=True)
    parser.add_argument("--backend", help="URL of the backend; without it the order given counts")
    parser.add_argument("--client", help="its name at the server; without it, it decides alone")
    parser.add_argument("--provider", action="append", required=True, metavar="NAME=URL|JSON")
    parser.add_argument("--policy", default="{}", metavar="JSON")
    parser.add_argument("--source", default="test-picture")
    parser.add_argument("--repeat", action="store_true", help="play a file again and again")
    parser.add_argument("--codec", default="VP8", choices=("VP8", "H264"))
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--frame-rate", type=float, default=30.0)
    parser.add_argument("--bitrate-bps", type=int, default=1_000_000)
    parser.add_argument("--wait-s", type=float, default=10.0)
    parser.add_argument("--remember-s", type=float, default=RECORD_S, help="what is measured [s]")
    parser.add_argument("--to-file", help="write what is watched to this file too")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold", action="store_true", help="begin only when ordered to")
    parser.add_argument("--verbose", action="store_true")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one end; return the exit status: 0 ended as told, 2 bad input."""
    options = _parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)

    async def run() -> None:
        await End(options).run()

    try:
        asyncio.run(run())
    except ConfigError as exc:
        sys.stderr.write(f"hitless.lab.ends: {exc}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
