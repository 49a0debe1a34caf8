"""
Session descriptions as servers write them, made into what aiortc reads.

aiortc wants ICE and DTLS attributes in every section and keeps the candidates of the last one.
Servers may write them once: at session level, or only in the first section of a bundle
(RFC 8843 section 7.1.3), and may leave out what an endpoint that gathers fully need not say.
"""

from __future__ import annotations

import re
from typing import Final

from .frame import Kind


_COPIED: Final = ("ice-ufrag", "ice-pwd", "fingerprint", "setup", "candidate", "end-of-candidates")
"""What a bundled section shares with the first one, in the order in which it is copied."""

_SECTIONS_MAX: Final = 32
"""Sections that are read; each is given all candidates of the first, and others are left out."""


def with_mux_only(sdp: str) -> str:
    """Add `a=rtcp-mux-only` to an offer, which RFC 9725 section 4.4 asks for."""
    return sdp.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=rtcp-mux-only\r\n")


def is_offer(sdp: str) -> bool:
    """Whether a description is an offer: only offers leave the DTLS role open (RFC 8842)."""
    return "a=setup:actpass" in sdp


def kinds_in(sdp: str) -> list[Kind]:
    """Return the kind of each audio and video section, in order."""
    return [Kind(kind) for kind in re.findall(r"^m=(audio|video) ", sdp, flags=re.MULTILINE)]


def levelled(sdp: str, offer: str | None = None) -> str:
    """
    Write a server's description out in full.

    Args:
        sdp: What the server sent.
        offer: What it answers; gives the `mid` of sections that have none.
    """
    session, *sections = _sections(sdp)[: 1 + _SECTIONS_MAX]
    mids = re.findall(r"^a=mid:(\S+)", offer or "", flags=re.MULTILINE)
    shared = _shared(session, sections[0] if sections else [])
    for index, section in enumerate(sections):
        present = {_name(line) for line in section}
        for name in _COPIED:
            if name not in present:
                section.extend(shared[name])
        if "rtcp-mux" not in present:
            section.append("a=rtcp-mux")
        if "rtcp" not in present:
            section.append("a=rtcp:9 IN IP4 0.0.0.0")  # else aiortc forgets that it is muxed
        if "mid" not in present and index < len(mids):
            section.append(f"a=mid:{mids[index]}")
        # All candidates are in the answer (RFC 9725 section 4.3.1), so that a failure is known
        # at once. With none at all the server reaches out itself, and more may be discovered.
        if shared["candidate"] and "end-of-candidates" not in present:
            section.append("a=end-of-candidates")
    return "\r\n".join(line for part in (session, *sections) for line in part) + "\r\n"


def _sections(sdp: str) -> list[list[str]]:
    sections: list[list[str]] = [[]]
    for line in sdp.splitlines():
        if line.startswith("m="):
            sections.append([])
        if line.strip():
            sections[-1].append(line.strip())
    return sections


def _name(line: str) -> str:
    return line[2:].split(":", 1)[0] if line.startswith("a=") else ""


def _shared(session: list[str], first: list[str]) -> dict[str, list[str]]:
    shared: dict[str, list[str]] = {}
    for name in _COPIED:
        # aiortc reads these of the session level by itself; the first section wins over it.
        lines = [line for line in first if _name(line) == name]
        if not lines and name == "candidate":
            lines = [line for line in session if _name(line) == name]
        shared[name] = lines
    return shared
