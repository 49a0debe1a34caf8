"""
API keys, and what each role may do.

    hk_<id>_<secret>        id: public, names the key in logs; secret: 256 random bits

The database knows a salted hash only. The ring of keys is in memory and fed from there, so that
a check costs microseconds, needs no query, and a new or revoked key counts without a restart.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ..errors import ConfigError, HitlessError
from .vault import kept_in


class Permission(StrEnum):
    """What somebody may do."""

    LIST_PROVIDERS = "providers.list"
    """Read the list of providers, and of each what the public is not shown."""
    PUBLISH = "stream.publish"
    """Start, claim, report and end a stream; in scope only."""
    VIEW = "stream.view"
    """Join, report and leave a stream; in scope only."""
    READ = "state.read"
    """Read everything operators see: streams, verdicts, statistics, cost, audit log."""
    OPERATE = "fleet.operate"
    """Move, drain, freeze, check now; priority, default, active or disabled."""
    CHANGE_PROVIDERS = "providers.change"
    """Create, change and delete providers, their secrets included."""
    CHANGE_SETTINGS = "settings.change"
    """Mode, share and limits."""
    CHANGE_KEYS = "keys.change"
    """Make and revoke keys, read their list."""


class KeyRole(StrEnum):
    """What a key is for."""

    CLIENT = "client"
    """An app's own server or a trusted client: any stream, both ends."""
    PUBLISHER = "publisher"
    """The publisher of one stream."""
    VIEWER_CLIENT = "viewer-client"
    """Viewers of one stream, or of all; never publishes."""
    VIEWER = "viewer"
    """Sees what operators see, changes nothing."""
    OPERATOR = "operator"
    """On duty."""
    OWNER = "owner"
    """Everything about the server; no stream's end, which needs a key of its own."""


_READS: Final = frozenset({Permission.LIST_PROVIDERS, Permission.READ})
_OPERATES: Final = _READS | {Permission.OPERATE}

PERMISSIONS: Final[Mapping[KeyRole, frozenset[Permission]]] = {
    KeyRole.CLIENT: frozenset({Permission.LIST_PROVIDERS, Permission.PUBLISH, Permission.VIEW}),
    # A publisher proves a new leg by viewing its own stream.
    KeyRole.PUBLISHER: frozenset({Permission.LIST_PROVIDERS, Permission.PUBLISH, Permission.VIEW}),
    KeyRole.VIEWER_CLIENT: frozenset({Permission.LIST_PROVIDERS, Permission.VIEW}),
    KeyRole.VIEWER: _READS,
    KeyRole.OPERATOR: _OPERATES,
    KeyRole.OWNER: _OPERATES
    | {Permission.CHANGE_PROVIDERS, Permission.CHANGE_SETTINGS, Permission.CHANGE_KEYS},
}

ON_STREAM: Final = frozenset({Permission.PUBLISH, Permission.VIEW})
"""Permissions that a scope narrows to one stream."""


class Scoping(StrEnum):
    """Whether a key of a role is for one stream only."""

    NEVER = "never"
    MAY = "may"
    MUST = "must"


SCOPINGS: Final[Mapping[KeyRole, Scoping]] = {
    KeyRole.CLIENT: Scoping.NEVER,
    KeyRole.PUBLISHER: Scoping.MUST,
    KeyRole.VIEWER_CLIENT: Scoping.MAY,
    KeyRole.VIEWER: Scoping.NEVER,
    KeyRole.OPERATOR: Scoping.NEVER,
    KeyRole.OWNER: Scoping.NEVER,
}

BOOTSTRAP_VARIABLES: Final[Mapping[str, KeyRole]] = {
    "HITLESS_OWNER_KEY": KeyRole.OWNER,
    "HITLESS_OPERATOR_KEY": KeyRole.OPERATOR,
    "HITLESS_VIEWER_KEY": KeyRole.VIEWER,
    "HITLESS_CLIENT_KEY": KeyRole.CLIENT,
}
"""Where the first keys come from; each also as `..._FILE`."""

_SCOPE_CHARS_MAX: Final = 256
_NAME_CHARS_MAX: Final = 200
_BOOTSTRAP_MAX: Final = 16
_DISTINCT_MIN: Final = 16
"""43 random characters of 64 hold fewer distinct ones once in 10^13 draws; a phrase, often."""

_KEY: Final = re.compile(r"hk_([a-z0-9]{4,32})_([A-Za-z0-9_-]{43,128})", re.ASCII)


class KeyRefused(HitlessError):
    """
    A key that opens nothing; whoever sent it needs another one.

    Attributes:
        because: Why, in words. An unknown id and a wrong secret are told in the same words.
    """

    def __init__(self, because: str) -> None:
        super().__init__(because)
        self.because = because


_NOT_A_KEY: Final = "this is not a key: send hk_<id>_<secret>"
_UNKNOWN: Final = "no such key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    Who is asking.

    Attributes:
        key: Id of the key; may be shown and logged.
        role: What the key is for.
        scope: The one stream it is for; None: any.
        name: What its maker called it.
    """

    key: str
    role: KeyRole
    scope: str | None
    name: str

    def may(self, permission: Permission, stream: str | None = None) -> bool:
        """
        Whether it may do this.

        Args:
            permission: What.
            stream: To which stream; needed for what a scope narrows.
        """
        if permission not in PERMISSIONS[self.role]:
            return False
        if permission not in ON_STREAM:
            return True
        if self.scope is None:
            return SCOPINGS[self.role] is not Scoping.MUST
        return stream == self.scope

    def why_not(self, permission: Permission) -> str:
        """Say why it may not do something that `may` said no to; does not name its stream."""
        if permission in PERMISSIONS[self.role] and self.scope is not None:
            return "this key may not do that: it is for another stream"
        return f"this key may not do that: its role is {self.role}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """
    A key as the database knows it.

    Attributes:
        id: Public name.
        role: What it is for.
        scope: The one stream it is for; None: any.
        salt: 16 random bytes of its own.
        hash: HMAC-SHA-256 of the secret under the salt.
        name: What its maker called it.
        made_s: When it was made, of the wall clock [s].
        expires_s: When it stops, of the wall clock [s]; None: never.
        revoked_s: When it was revoked; None: it was not. Any value counts at once, so that a
            clock that is behind cannot keep a revoked key alive.

    Raises:
        ConfigError: The scope does not go with the role, or a name or scope is too long.
    """

    id: str
    role: KeyRole
    scope: str | None = None
    salt: bytes = field(repr=False)
    hash: bytes = field(repr=False)
    name: str = ""
    made_s: float
    expires_s: float | None = None
    revoked_s: float | None = None

    def __post_init__(self) -> None:
        scoping = SCOPINGS[self.role]
        if self.scope is None and scoping is Scoping.MUST:
            raise ConfigError(f"scope: a {self.role} key is for one stream; name it")
        if self.scope is not None and scoping is Scoping.NEVER:
            raise ConfigError(f"scope: a {self.role} key is not for one stream; leave it out")
        if self.scope is not None and not 0 < len(self.scope) <= _SCOPE_CHARS_MAX:
            raise ConfigError(f"scope: a stream id has 1 to {_SCOPE_CHARS_MAX} characters")
        if len(self.name) > _NAME_CHARS_MAX:
            raise ConfigError(f"name: longer than {_NAME_CHARS_MAX} characters")

    @property
    def identity(self) -> Identity:
        """Whom it stands for."""
        return Identity(key=self.id, role=self.role, scope=self.scope, name=self.name)

    def is_over(self, now_s: float) -> bool:
        """Whether it was revoked or has expired at `now_s` of the wall clock [s]."""
        return self.revoked_s is not None or (
            self.expires_s is not None and self.expires_s <= now_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """
    A key that was just made.

    Attributes:
        text: The whole key: shown once to whoever asked for it, kept nowhere.
        stored: What the database keeps.
    """

    text: str = field(repr=False)
    stored: StoredKey


def make_key(
    role: KeyRole,
    *,
    now_s: float,
    scope: str | None = None,
    name: str = "",
    expires_s: float | None = None,
) -> NewKey:
    """
    Make a key.

    Args:
        role: What it is for.
        now_s: Time of the wall clock [s].
        scope: The one stream it is for; None: any.
        name: What to call it.
        expires_s: When it stops [s]; None: never.

    Raises:
        ConfigError: The scope does not go with the role; a name too long; over already.
    """
    if expires_s is not None and not expires_s > now_s:
        raise ConfigError("expires_s is in the past: give a later time, or none")
    key_id, secret, salt = secrets.token_hex(8), secrets.token_urlsafe(32), secrets.token_bytes(16)
    stored = StoredKey(
        id=key_id,
        role=role,
        scope=scope,
        salt=salt,
        hash=_hashed(salt, secret),
        name=name,
        made_s=now_s,
        expires_s=expires_s,
    )
    return NewKey(text=f"hk_{key_id}_{secret}", stored=stored)


def bootstrap_keys(environ: Mapping[str, str], *, now_s: float) -> tuple[StoredKey, ...]:
    """
    Return the keys that environment and files give, hashed; several apart by spaces or lines.

    Call it again, and give the ring what it returns, to take a changed file into account.

    Raises:
        ConfigError: Something there is no key, or not random; never quotes it.
    """
    found: dict[str, StoredKey] = {}
    for variable, role in BOOTSTRAP_VARIABLES.items():
        place = kept_in(variable, environ)
        if place is None:
            continue
        words = place.read(environ).split(maxsplit=_BOOTSTRAP_MAX)
        if len(words) > _BOOTSTRAP_MAX:
            raise ConfigError(f"{variable}: more than {_BOOTSTRAP_MAX} keys")
        for word in words:
            key = _bootstrap_key(variable, role, word, now_s)
            if key.id in found:
                raise ConfigError(f"{variable}: the id {key.id!r} is given twice")
            found[key.id] = key
    return tuple(found.values())


def _bootstrap_key(variable: str, role: KeyRole, word: str, now_s: float) -> StoredKey:
    match = _KEY.fullmatch(word)
    if match is None:
        raise ConfigError(
            f"{variable}: give hk_<id>_<secret>: an id of 4 to 32 characters a-z 0-9, "
            "and 43 or more random characters of base64url"
        )
    key_id, secret = match.groups()
    if len(set(secret)) < _DISTINCT_MIN:
        raise ConfigError(f"{variable}: the secret of {key_id!r} is not random")
    salt = secrets.token_bytes(16)
    return StoredKey(
        id=key_id,
        role=role,
        salt=salt,
        hash=_hashed(salt, secret),
        name=variable,
        made_s=now_s,
    )


class KeyRing:
    """
    Every key there is, ready to be checked.

    Args:
        bootstrap: Keys of environment and files. They win over a row of the same id, so that a
            damaged database cannot lock its owner out.
    """

    def __init__(self, bootstrap: Iterable[StoredKey] = ()) -> None:
        self._bootstrap = {key.id: key for key in bootstrap}
        self._rows: dict[str, StoredKey] = {}
        self._keys = dict(self._bootstrap)
        salt = secrets.token_bytes(16)
        self._nobody = StoredKey(
            id="",
            role=KeyRole.VIEWER,
            salt=salt,
            hash=_hashed(salt, secrets.token_urlsafe(32)),
            made_s=0.0,
        )

    def __repr__(self) -> str:
        return f"KeyRing({len(self._keys)} keys)"

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, rows: Iterable[StoredKey]) -> None:
        """Know these rows of the database from now on, and no others."""
        self._rows = {row.id: row for row in rows}
        self._keys = self._rows | self._bootstrap

    def replace_bootstrap(self, keys: Iterable[StoredKey]) -> None:
        """Know these keys of environment and files from now on, and no others."""
        self._bootstrap = {key.id: key for key in keys}
        self._keys = self._rows | self._bootstrap

    def check(self, presented: str, now_s: float) -> Identity:
        """
        Return whom a presented key stands for.

        Args:
            presented: What was sent: any text.
            now_s: Time of the wall clock [s].

        Raises:
            KeyRefused: No key, unknown, revoked or expired.
        """
        match = _KEY.fullmatch(presented)
        if match is None:
            raise KeyRefused(_NOT_A_KEY)
        key_id, secret = match.groups()
        # An unknown id is compared too, with a secret that nobody has: the time tells nothing.
        key = self._keys.get(key_id, self._nobody)
        is_right = hmac.compare_digest(_hashed(key.salt, secret), key.hash)
        if not is_right or key is self._nobody:
            raise KeyRefused(_UNKNOWN)
        # Told only to whoever knows the secret.
        if key.is_over(now_s):
            is_revoked = key.revoked_s is not None
            raise KeyRefused("this key was revoked" if is_revoked else "this key has expired")
        return key.identity

    def is_revoked(self, key_id: str, now_s: float) -> bool:
        """Whether a key that was good once is gone, revoked or expired [s of the wall clock]."""
        key = self._keys.get(key_id)
        return key is None or key.is_over(now_s)


def _hashed(salt: bytes, secret: str) -> bytes:
    # No slow hash (scrypt, Argon2): those make guessable passwords costly to guess. 256 random
    # bits cannot be guessed at any speed, and a slow hash would let strangers burn our CPU.
    return hmac.digest(salt, secret.encode("ascii"), "sha256")
