"""Draw docs/timeline.svg: who carried a stream when, from the records of a run of the lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from hitless.core.replay import replay
from hitless.core.state import Leg, Session


ROLES: Final = ("publisher", "viewer")
PROVIDERS: Final = ("agora", "zegocloud", "webrtc")
COLORS: Final = {
    "opening": "#c8d3e0",
    "on air": "#1f7a4d",
    "still fed": "#9fd3b8",
    "silent": "#c0392b",
}
"""What a leg does -> its colour."""

WIDTH: Final = 860
LEFT: Final = 150
LANE: Final = 22
CLOSE_UP_S: Final = (0.25, 0.65)
"""How much of the failover is shown in the close-up, before and after the first silence [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What one leg did from when to when [s]."""

    role: str
    provider: str
    doing: str
    from_s: float
    to_s: float


def draw(folder: Path) -> str:
    """Return the picture of the records `publisher.jsonl` and `viewer.jsonl` in a folder."""
    spans = [span for role in ROLES for span in spans_of(role, folder / f"{role}.jsonl")]
    begun_s = min(span.from_s for span in spans)
    over_s = max(span.to_s for span in spans)
    lost_s = min(span.from_s for span in spans if span.doing == "silent")
    close_up = (lost_s - CLOSE_UP_S[0], lost_s + CLOSE_UP_S[1])
    height = 2 * (len(ROLES) * len(PROVIDERS) * LANE + 78) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
    ]
    parts += panel("The whole run [s]", spans, begun_s, over_s, origin_s=begun_s, top=14)
    title = "The failover, close up [s after the last frame]"
    half = len(ROLES) * len(PROVIDERS) * LANE + 84
    parts += panel(title, spans, *close_up, origin_s=lost_s, top=14 + half)
    parts += legend(height - 16)
    return "".join([*parts, "</svg>\n"])


def spans_of(role: str, record: Path) -> Iterator[Span]:
    """Yield what the legs of the one session in a record did."""
    lines = map(json.loads, record.read_text(encoding="utf-8").splitlines())
    since: dict[int, tuple[str, str, float]] = {}
    now_s = 0.0
    for now_s, _, _, state in replay(lines):
        session = next(iter(state.sessions.values()), None)
        doing = {leg.id: found(session, leg) for leg in session.legs} if session else {}
        for leg, (provider, was, from_s) in list(since.items()):
            if leg not in doing or doing[leg][1] != was:
                # A silence is known only later than it began.
                to_s = doing[leg][2] if leg in doing and doing[leg][1] == "silent" else now_s
                yield Span(role=role, provider=provider, doing=was, from_s=from_s, to_s=to_s)
                del since[leg]
        for leg, (provider, does, from_s) in doing.items():
            if leg not in since:
                since[leg] = (provider, does, from_s if does == "silent" else now_s)
    for provider, was, from_s in since.values():
        yield Span(role=role, provider=provider, doing=was, from_s=from_s, to_s=now_s)


def found(session: Session, leg: Leg) -> tuple[str, str, float]:
    """Return who carries a leg, what it does, and since when it is silent [s] (else 0)."""
    if leg.live_s is None:
        return leg.provider, "opening", 0.0
    if leg.silent_s is not None:
        return leg.provider, "silent", leg.silent_s
    return leg.provider, "on air" if leg.id == session.on_air else "still fed", 0.0


def panel(
    title: str, spans: list[Span], from_s: float, to_s: float, *, origin_s: float, top: float
) -> Iterator[str]:
    """Yield one chart: a lane for each provider, under each role."""
    scale = (WIDTH - LEFT - 20) / (to_s - from_s)
    bottom = top + 22 + len(ROLES) * len(PROVIDERS) * LANE + 8
    yield text(10, top + 4, title, weight="bold")
    step_s = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 60) if (to_s - from_s) / s <= 11)
    first = int((from_s - origin_s) / step_s)
    for count in range(first, first + 13):
        x = LEFT + (origin_s + count * step_s - from_s) * scale
        if LEFT <= x <= WIDTH - 19:
            yield (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 14:.1f}" y2="{bottom:.1f}" '
                'stroke="#dddddd"/>\n'
            )
            yield text(x - 6, bottom + 14, f"{count * step_s:g}")
    for row, (role, provider) in enumerate((r, p) for r in ROLES for p in PROVIDERS):
        y = top + 20 + row * LANE + (8 if role == ROLES[1] else 0)
        yield text(10, y + 13, role if provider == PROVIDERS[0] else "", weight="bold")
        yield text(78, y + 13, provider)
        for span in spans:
            if (span.role, span.provider) == (role, provider):
                left = max(span.from_s, from_s)
                width = (min(span.to_s, to_s) - left) * scale
                if width > 0:
                    yield (
                        f'<rect x="{LEFT + (left - from_s) * scale:.1f}" y="{y:.1f}" '
                        f'width="{max(width, 1.5):.1f}" height="{LANE - 5}" '
                        f'fill="{COLORS[span.doing]}"/>\n'
                    )


def legend(y: float) -> Iterator[str]:
    """Yield what the colours mean."""
    for place, (doing, color) in enumerate(COLORS.items()):
        x = LEFT + place * 120
        yield f'<rect x="{x}" y="{y - 11}" width="14" height="14" fill="{color}"/>\n'
        yield text(x + 20, y, doing)


def text(x: float, y: float, words: str, *, weight: str = "normal") -> str:
    """Return a line of text, or nothing."""
    if not words:
        return ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}">{escape(words)}</text>\n'
