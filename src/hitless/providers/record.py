"""
What is known of an adapter, as data: what it speaks, what it survives, what was proven.

An adapter's class carries its `RECORD`; `docs/reference/providers.md` and `hitless doctor` are
made from it. Nothing is called done that a test does not run, and nothing proven that was not run
against the server that is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..errors import ConfigError
from ..media.frame import Codec


class State(StrEnum):
    """How far a claim of a record has come."""

    DONE = "done"
    """A test of `make test` shows it."""
    TO_DO = "to do"
    """It is wanted, and not shown yet."""
    EXEMPT = "exempt"
    """It cannot apply, or cannot be shown; the note says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    One thing that an adapter can do, or stand.

    Attributes:
        what: In words.
        state: How far it has come.
        note: The test that shows it, or the reason why there is none.
    """

    what: str
    state: State
    note: str


def done(what: str, note: str) -> Claim:
    """Return a claim that a test shows; the note names it."""
    return Claim(what=what, state=State.DONE, note=note)


def to_do(what: str, note: str) -> Claim:
    """Return a claim that nothing shows yet; the note says what is missing."""
    return Claim(what=what, state=State.TO_DO, note=note)


def exempt(what: str, note: str) -> Claim:
    """Return a claim that cannot apply or be shown; the note says why."""
    return Claim(what=what, state=State.EXEMPT, note=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """
    What was run against what.

    Attributes:
        server: Name and version of the other side; a stand-in is called one.
        what: What was run against it.
        paths: Names of the paths it was run on; empty: every path that `is_run`.
    """

    server: str
    what: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """
    One way to carry media: ingest, WHIP and WHEP, a web SDK, a native SDK.

    Attributes:
        name: What it is called.
        from_python: Whether this library carries it; else it is for clients that run an SDK.
        publishes: Whether a stream can be published on it.
        views: Whether a stream can be viewed on it.
        first_media: What proves first media.
        first_media_s: How long that may take [s].
        silence: What tells that media stopped.
        silence_s: The worst time to notice it [s]; None: nobody has measured it.
        standby: Which stand-by levels work: `cold`, `warm`, `hot`.
        codecs: What it carries.
        frames_match: Whether it carries our encoded frames, so that they match other providers'.
        unconfirmed: What is known from documents that contradict each other, or not at all.
        is_run: Whether what the record calls proven was run on it; else nothing was.
    """

    name: str
    from_python: bool
    publishes: bool
    views: bool
    first_media: str
    first_media_s: float
    silence: str
    silence_s: float | None
    standby: tuple[str, ...]
    codecs: tuple[Codec, ...]
    frames_match: bool
    unconfirmed: str = ""
    is_run: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """
    What a provider allows by default. None: it states no limit.

    Attributes:
        max_streams: Streams at once.
        starts_per_s: Starts [1/s].
        calls_per_s: Calls of its control API [1/s].
    """

    max_streams: int | None = None
    starts_per_s: float | None = None
    calls_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    All of it for one adapter.

    Attributes:
        title: How the provider is called.
        paths: Ways to carry media, the one used first.
        quotas: What it allows.
        regions: Its regions as its documents call them; empty: it has none.
        fault_domain: What fails together with it; empty: the operator's own server.
        price: How it bills, in words.
        speaks: What of its interfaces is used.
        survives: What can go wrong there, and is handled.
        proven: What was run against what.
    """

    title: str
    paths: tuple[Path, ...]
    quotas: Quotas
    regions: tuple[str, ...]
    fault_domain: str
    price: str
    speaks: tuple[Claim, ...]
    survives: tuple[Claim, ...]
    proven: tuple[Proof, ...]

    def proven_on(self, path: Path) -> tuple[Proof, ...]:
        """Return what was run on one of its paths: nothing where it says so, or on SDKs."""
        if not (path.from_python and path.is_run):
            return ()
        return tuple(one for one in self.proven if not one.paths or path.name in one.paths)


def record_of(adapter: str) -> Record | None:
    """
    Return the record of an installed adapter; None: it brings none, as outside packages may.

    Raises:
        ConfigError: No installed package offers the adapter, or its record is something else.
    """
    from . import load

    found = getattr(load(adapter), "RECORD", None)
    if found is not None and not isinstance(found, Record):
        raise ConfigError(f"the adapter {adapter} has a RECORD that is no hitless Record")
    return found
