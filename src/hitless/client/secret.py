"""Secrets: where they are kept, never what they are, until the moment somebody needs one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from ..errors import ConfigError


_WORDS: Final = (
    "token", "certificate", "secret", "password", "passphrase", "key", "credential",
    "credentials", "authorization", "cookie", "sign", "headers",
)  # fmt: skip

_SECRET_NAME: Final = re.compile(rf"(?!public_)(?:\w*_)?(?:{'|'.join(_WORDS)})", re.IGNORECASE)

_FILE_BYTES_MAX: Final = 65_536
"""A certificate chain takes a few thousand bytes; what is larger is the wrong file."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""`token` of RFC 9110 section 5.6.2."""


def is_secret_name(name: str) -> bool:
    """Whether a key of this name holds a secret: `token`, `certificate`, `server_secret`."""
    return _SECRET_NAME.fullmatch(name) is not None


def secret_inside(value: object) -> str | None:
    """Return the name of a secret written inside a value (a table, a list, a URL), or None."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            found = str(name) if is_secret_name(str(name)) else secret_inside(inner)
            if found:
                return found
    if isinstance(value, list | tuple):
        return next(filter(None, map(secret_inside, value)), None)
    if isinstance(value, str) and "://" in value:
        return _secret_in_url(value)
    return None


def _secret_in_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.password is not None or parts.username is not None:
        return "user:password@"
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return next(filter(is_secret_name, names), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """
    A value kept outside the configuration; printing it shows where it is kept.

    Attributes:
        key: The key it belongs to, for messages: `provider.agora.token`.
        variable: Name of the environment variable that holds it; None: a file does.
        file: The file that holds it; None: a variable does.
    """

    key: str
    variable: str | None = None
    file: Path | None = None

    def __str__(self) -> str:
        return f"${self.variable}" if self.variable else str(self.file)

    def is_set(self, environ: Mapping[str, str]) -> bool:
        """Whether it could be read now."""
        try:
            return bool(self.read(environ))
        except ConfigError:
            return False

    def read(self, environ: Mapping[str, str]) -> str:
        """
        Return the secret as it is now; a file is read anew each time, since secrets rotate.

        Raises:
            ConfigError: It is not set or cannot be read; names the key and the place only.
        """
        text = environ.get(self.variable, "") if self.variable else self._file_text()
        if not text.strip():
            state = "is empty or not set" if self.variable else "is empty"
            raise ConfigError(f"{self.key} is kept in {self}, which {state}")
        return text.strip()

    def _file_text(self) -> str:
        if self.file is None:
            raise ConfigError(f"{self.key} is kept nowhere")
        try:
            with self.file.open("rb") as source:
                data = source.read(_FILE_BYTES_MAX + 1)
        except OSError as exc:
            why = exc.strerror or type(exc).__name__
            raise ConfigError(f"{self.key} is kept in {self}: {why}") from exc
        if len(data) > _FILE_BYTES_MAX:
            raise ConfigError(f"{self.key}: {self} is larger than {_FILE_BYTES_MAX} bytes")
        try:
            return data.decode()
        except UnicodeDecodeError as exc:
            raise ConfigError(f"{self.key}: {self} is not UTF-8 text") from exc


def parse_headers(key: str, text: str) -> dict[str, str]:
    """
    Return HTTP headers written as in HTTP, `Name: value`, one a line.

    Raises:
        ConfigError: A line is something else; the line is not quoted, for it may be a secret.
    """
    headers = {}
    for number, line in enumerate(text.strip().splitlines(), start=1):
        name, colon, value = line.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name.strip()):
            raise ConfigError(f"{key}: line {number} is not a header: write `Name: value`")
        if not value.strip().isprintable():
            raise ConfigError(f"{key}: line {number} has characters that cannot be sent")
        headers[name.strip()] = value.strip()
    return headers
