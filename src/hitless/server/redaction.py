"""What opens something is taken out of what people pass on: keys, tokens, passwords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ..client.secret import is_secret_name


REDACTED: Final = "(redacted)"

_SECRETS: Final = (
    (re.compile(r"\bhk_([a-z0-9]+)_[A-Za-z0-9_-]{16,}"), rf"hk_\1_{REDACTED}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}"), REDACTED),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {REDACTED}"),
)
"""API keys, JSON web tokens, Authorization headers."""
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s\"'<>]+", re.IGNORECASE)


def redacted(value: Any) -> Any:
    """
    Return JSON values without what opens anything: keys, tokens, passwords in addresses.

    (Any: of any JSON type.)
    """
    if isinstance(value, Mapping):
        return {
            key: REDACTED if is_secret_name(key) and inner else redacted(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [redacted(inner) for inner in value]
    return redacted_text(value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """Return a text without them."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return _URL.sub(lambda match: _bare(match[0]), text)


def _bare(url: str) -> str:
    """Return an address without user, password and parameters."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return REDACTED
    query = f"?{REDACTED}" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{host}{parts.path}{query}"
