"""Draw docs/reference/providers.md: what each adapter can do, and what it was proven against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from hitless.providers.record import Path, Record


_HEAD: Final = """\
# Providers

What each adapter speaks, what it survives, and what that was proven against. *Done*: a test of
`make test` shows it. Nothing is called proven that was not run against the server that is named;
stand-ins are called so, and are not the companies' services. What a provider's documents leave
open is marked unconfirmed.

| adapter | Python | publishes | views | first media | silence | frames match | proven against |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def record_page(records: Mapping[str, Record]) -> str:
    """Return the page, for records by the name of their adapter."""
    rows = "".join(_row(name, one, path) for name, one in records.items() for path in one.paths)
    sections = "".join("\n".join(_section(name, one)) for name, one in records.items())
    return _HEAD + rows + sections


def _row(name: str, record: Record, path: Path) -> str:
    silence = "not measured" if path.silence_s is None else f"{path.silence_s:g} s"
    proven = ", ".join(proof.server for proof in record.proven_on(path))
    cells = (
        f"`{name}`, {path.name}",
        _yes(path.from_python),
        _yes(path.publishes),
        _yes(path.views),
        f"{path.first_media_s:g} s",
        silence,
        _yes(path.frames_match),
        proven or "nothing yet",
    )
    return f"| {' | '.join(cells)} |\n"


def _section(name: str, record: Record) -> Iterator[str]:
    yield f"\n## `{name}`: {record.title}\n"
    quotas = record.quotas
    limits = (
        (quotas.max_streams, "streams at a time"),
        (quotas.starts_per_s, "starts a second"),
        (quotas.calls_per_s, "calls of its API a second"),
    )
    said = [f"{limit:g} {words}" for limit, words in limits if limit]
    yield f"* Limits by default: {', '.join(said) or 'it states none'}."
    yield f"* Regions: {', '.join(record.regions) or 'none'}."
    yield f"* Fails together with: {record.fault_domain or 'nothing else'}. Price: {record.price}."
    for path in record.paths:
        codecs = ", ".join(codec.value for codec in path.codecs)
        yield f"* {path.name}: {codecs}; stand-by: {', '.join(path.standby)}."
        yield f"  First media: {path.first_media}. Silence: {path.silence}."
        if path.unconfirmed:
            yield f"  Unconfirmed: {path.unconfirmed}."
    for title, claims in (("Speaks", record.speaks), ("Survives", record.survives)):
        yield f"\n| {title} | | |\n| --- | --- | --- |"
        for claim in claims:
            yield f"| {claim.what} | {claim.state.value} | {claim.note} |"
    yield "\n| Proven against | what was run |\n| --- | --- |"
    for proof in record.proven:
        yield f"| {proof.server} | {proof.what} |"
    if not record.proven:
        yield "| nothing yet | |"
    yield ""


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"
