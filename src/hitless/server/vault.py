"""
Provider secrets at rest: sealed with a key that is kept outside the database.

AES-256-GCM rather than Fernet: only an AEAD with associated data can bind a sealed text to the
provider and field it belongs to, so that whoever can write to the database cannot move the
secret of one provider to another, whose server he runs.

    v1.<id of the key>.<nonce, ciphertext and tag in base64url>
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..client.secret import Secret
from ..errors import ConfigError, HitlessError


VAULT_VARIABLE: Final = "HITLESS_VAULT_KEY"
"""Holds the keys; `HITLESS_VAULT_KEY_FILE` names a file that does."""

SECRET_BYTES_MAX: Final = 65_536
"""Largest secret [bytes]; a certificate chain takes a few thousand."""

KEYS_MAX: Final = 16
"""Most keys of one ring: who rotates needs two."""

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
"""NIST SP 800-38D section 8.2.2; drawn anew, good for 2^32 secrets a key (section 8.3)."""

_DISTINCT_MIN: Final = 12
"""32 random bytes hold fewer distinct values once in 10^25 draws; a typed phrase, often."""

_SEALED: Final = re.compile(r"v1\.([0-9a-f]{16})\.([A-Za-z0-9_-]{38,90000})", re.ASCII)
_TABLE_CHARS_MAX: Final = 1 << 20


class SecretUnreadable(HitlessError):
    """
    A sealed secret could not be opened: seal it anew, or bring back the key it was sealed with.

    Attributes:
        provider: Whose it is.
        field: What it is for: `token`.
        because: Why, in words; never a part of the secret or of the sealed text.
    """

    def __init__(self, provider: str, field: str, because: str) -> None:
        super().__init__(f"the secret {field!r} of {provider!r} cannot be read: {because}")
        self.provider = provider
        self.field = field
        self.because = because


@dataclass(frozen=True, slots=True)
class RootKey:
    """
    A key of the server's own.

    Attributes:
        octets: 32 random bytes.
        id: What may be told of it: 64 bits of a one-way hash.
    """

    octets: bytes = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(b"hitless key id\0" + self.octets).hexdigest()
        object.__setattr__(self, "id", digest[:16])


def new_key() -> str:
    """Return a new key as text, for `HITLESS_VAULT_KEY` or `HITLESS_PLAN_KEY`."""
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def kept_in(variable: str, environ: Mapping[str, str]) -> Secret | None:
    """
    Return where `variable` or `variable_FILE` says that something is kept; None: nowhere.

    Raises:
        ConfigError: Both are set: one would be ignored, and nobody could tell which.
    """
    file = environ.get(f"{variable}_FILE", "").strip()
    is_given = bool(environ.get(variable, "").strip())
    if file and is_given:
        raise ConfigError(f"{variable} and {variable}_FILE are both set: unset one")
    if file:
        return Secret(key=variable, file=Path(file))
    return Secret(key=variable, variable=variable) if is_given else None


def read_root_keys(variable: str, environ: Mapping[str, str]) -> tuple[RootKey, ...]:
    """
    Return the keys kept in `variable` or in the file that `variable_FILE` names, newest first.

    Raises:
        ConfigError: None there, or not keys; names the place, never what is there.
    """
    place = kept_in(variable, environ)
    if place is None:
        raise ConfigError(
            f"{variable} is not set: make a key with `hitless serve --new-keys`, keep it there, "
            f"or name a file that holds it with {variable}_FILE"
        )
    return parse_root_keys(variable, place.read(environ))


def parse_root_keys(name: str, text: str) -> tuple[RootKey, ...]:
    """
    Return the keys written in `text`, apart by spaces, lines or commas; the first one seals.

    Raises:
        ConfigError: Not 1 to 16 different keys of 32 random bytes in base64; never quotes them.
    """
    words = text.replace(",", " ").split(maxsplit=KEYS_MAX)
    if not 0 < len(words) <= KEYS_MAX:
        raise ConfigError(f"{name}: give 1 to {KEYS_MAX} keys, the one to use first")
    keys = tuple(
        RootKey(_octets(f"{name}: key {number}", word)) for number, word in enumerate(words, 1)
    )
    if len({key.id for key in keys}) != len(keys):
        raise ConfigError(f"{name}: the same key is given twice")
    return keys


def _octets(what: str, word: str) -> bytes:
    try:
        octets = _unpacked(word)
    except ValueError:
        raise ConfigError(f"{what} is not base64") from None
    if len(octets) != _KEY_BYTES:
        raise ConfigError(f"{what} has {len(octets)} bytes: it needs {_KEY_BYTES}")
    if len(set(octets)) < _DISTINCT_MIN:
        raise ConfigError(f"{what} is not random: make one with `hitless serve --new-keys`")
    return octets


class Vault:
    """
    Seals and opens secrets.

    Args:
        keys: The first one seals, any of them opens: to rotate, put a new one in front, reseal
            everything, then take the old one away.
    """

    def __init__(self, keys: Sequence[RootKey]) -> None:
        self.replace(keys)

    def __repr__(self) -> str:
        return f"Vault(keys={', '.join(self._ciphers)})"

    @property
    def newest(self) -> str:
        """The id of the key that seals."""
        return self._newest

    def replace(self, keys: Sequence[RootKey]) -> None:
        """
        Use these keys from now on.

        Raises:
            ConfigError: None is given.
        """
        if not keys:
            raise ConfigError(f"{VAULT_VARIABLE}: give at least one key")
        self._ciphers = {key.id: AESGCM(key.octets) for key in keys}
        self._newest = keys[0].id

    def seal(self, provider: str, field: str, secret: str) -> str:
        """
        Return `secret` as text that only this provider's field can be read from.

        Raises:
            ConfigError: It is too long, or no text that can be encoded; never quotes it.
        """
        try:
            octets = secret.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{provider}.{field}: the secret is not UTF-8 text") from None
        if len(octets) > SECRET_BYTES_MAX:
            raise ConfigError(f"{provider}.{field}: longer than {SECRET_BYTES_MAX} bytes")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound = _bound_to(provider, field, self._newest)
        body = nonce + self._ciphers[self._newest].encrypt(nonce, octets, bound)
        return f"v1.{self._newest}.{_packed(body)}"

    def open(self, provider: str, field: str, sealed: str) -> str:
        """
        Return the secret that was sealed for this provider and field.

        Raises:
            SecretUnreadable: Sealed with a key that is not here, changed since, or sealed for
                another provider or field.
        """
        found = _SEALED.fullmatch(sealed)
        if found is None:
            raise SecretUnreadable(provider, field, "it is not a sealed text")
        key_id, packed = found.groups()
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SecretUnreadable(
                provider, field, f"it was sealed with key {key_id}, which is not here"
            )
        try:
            body = _unpacked(packed)
            if _packed(body) != packed:
                raise ValueError("bits after the last byte")  # one secret, one sealed text
            bound = _bound_to(provider, field, key_id)
            return cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], bound).decode()
        except (InvalidTag, ValueError):
            raise SecretUnreadable(
                provider, field, "it was changed, or sealed for another provider or field"
            ) from None

    def reseal(self, provider: str, field: str, sealed: str) -> str | None:
        """
        Return the text sealed anew with the first key; None: it already is.

        Raises:
            SecretUnreadable: It cannot be opened.
        """
        secret = self.open(provider, field, sealed)
        is_new = sealed.startswith(f"v1.{self._newest}.")
        return None if is_new else self.seal(provider, field, secret)

    # --- All secrets of one provider, as one text ---

    def seal_all(self, provider: str, secrets_: Mapping[str, str]) -> str:
        """
        Return the secrets of a provider, by field, as one text for the database.

        Raises:
            ConfigError: One of them cannot be sealed; never quotes it.
        """
        return json.dumps(
            {field: self.seal(provider, field, secret) for field, secret in secrets_.items()}
        )

    def open_all(self, provider: str, text: str) -> dict[str, str]:
        """
        Return the secrets of a provider, by field.

        Raises:
            SecretUnreadable: The first that cannot be opened.
        """
        table = _table(provider, text)
        return {field: self.open(provider, field, sealed) for field, sealed in table.items()}

    def reseal_all(self, provider: str, text: str) -> str | None:
        """
        Return the text with every secret sealed with the first key; None: they already are.

        Raises:
            SecretUnreadable: The first that cannot be opened.
        """
        table = _table(provider, text)
        renewed = {name: self.reseal(provider, name, sealed) for name, sealed in table.items()}
        if not any(renewed.values()):
            return None
        return json.dumps({name: renewed[name] or sealed for name, sealed in table.items()})


def _table(provider: str, text: str) -> dict[str, str]:
    try:
        table = json.loads(text) if len(text) <= _TABLE_CHARS_MAX else None
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise SecretUnreadable(provider, "*", "it is not a table of sealed texts")
    return table


def _bound_to(provider: str, field: str, key_id: str) -> bytes:
    """Return the associated data; JSON, because joined names could be cut elsewhere."""
    return json.dumps(["hitless vault v1", key_id, provider, field]).encode()


def _packed(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def _unpacked(word: str) -> bytes:
    """
    Return the bytes behind base64 or base64url, padded or not.

    Raises:
        ValueError: It is neither.
    """
    body = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except binascii.Error as exc:
        raise ValueError from exc
