"""
What a client can go on from alone: signed facts of its plan, and credentials minted ahead.

A plan token is a JWT (RFC 7519) that the server gives and later reads back: a server that lost
its database believes the epoch in it, and no client can raise an epoch by itself.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import jwt
import msgspec

from ..core.events import Role
from ..errors import ConfigError, HitlessError
from ..providers.hs256 import Hs256
from .minters import MINTERS, Asker, Minter, ProviderSecrets
from .vault import RootKey


PLAN_VARIABLE: Final = "HITLESS_PLAN_KEY"
"""Holds the keys, as `HITLESS_VAULT_KEY` holds its own; or `HITLESS_PLAN_KEY_FILE` does."""

_HEADER_CHARS_MAX: Final = 256
_BODY_CHARS_MAX: Final = 12_500
"""The longest names, all of their characters escaped, come to some 10 800."""

TOKEN_CHARS_MAX: Final = _HEADER_CHARS_MAX + _BODY_CHARS_MAX + 45
"""Longest plan token; 43 characters of it are the signature."""

LEEWAY_S: Final = 60.0
"""How far apart the clocks of two nodes may be [s]."""

CREDENTIAL_S: Final = 3_600.0
OUTAGE_S: Final = 21_600.0

_ALGORITHM: Final = "HS256"
_TYPE: Final = "hitless-plan+jwt"
"""RFC 8725 section 3.11: no other token can be taken for a plan."""

# The last character of 32 bytes has two bits that mean nothing: only zeros, or one plan would
# have four tokens. The header is bounded, because it is parsed before anything is proven.
_TOKEN: Final = re.compile(
    rf"[A-Za-z0-9_-]{{1,{_HEADER_CHARS_MAX}}}\.[A-Za-z0-9_-]{{1,{_BODY_CHARS_MAX}}}"
    r"\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]",
    re.ASCII,
)

_Whole = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]  # what JSON carries exactly (RFC 8259)
_Stream = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Name = Annotated[str, msgspec.Meta(max_length=128)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFacts:
    """
    What a plan says, and who was told; the claims of its token.

    Attributes:
        stream: Id of the stream.
        role: Which end of it the client is.
        epoch: Of the placement.
        provider: Of the live leg; empty: none yet.
        client: Id of the client.
        key: Id of the API key it came with.
        issued_s: When, of the wall clock [whole s].
        expires_s: Until when, of the wall clock [whole s].
    """

    stream: _Stream
    role: Role
    epoch: _Whole
    provider: _Name
    client: _Name
    key: _Name
    issued_s: _Whole
    expires_s: _Whole


class PlanRefused(HitlessError):
    """
    A plan token that does not count; the client starts or joins anew.

    Attributes:
        because: Why, in words.
        expired: The facts of a plan that was good once; None: it never was. Its epoch may be
            believed, for nobody else can sign; its credentials and rights may not.
    """

    def __init__(self, because: str, *, expired: PlanFacts | None = None) -> None:
        super().__init__(because)
        self.because = because
        self.expired = expired


class PlanSigner:
    """
    Signs plans and reads them back.

    Args:
        keys: The first one signs, any of them verifies: to rotate, put a new one in front, and
            take the old one away when the last plan it signed has expired.
        leeway_s: How long after its end a plan still counts [s], for clocks that differ.
    """

    def __init__(self, keys: Sequence[RootKey], *, leeway_s: float = LEEWAY_S) -> None:
        self._leeway_s = leeway_s
        self.replace(keys)

    def __repr__(self) -> str:
        return f"PlanSigner(keys={', '.join(self._keys)})"

    def replace(self, keys: Sequence[RootKey]) -> None:
        """
        Use these keys from now on.

        Raises:
            ConfigError: None is given.
        """
        if not keys:
            raise ConfigError(f"{PLAN_VARIABLE}: give at least one key")
        # Derived, so that a key given for the vault as well is not used for two purposes.
        self._keys = {
            key.id: hmac.digest(key.octets, b"hitless plan v1", "sha256") for key in keys
        }
        newest = keys[0].id
        self._signer = Hs256(self._keys[newest], {"kid": newest, "typ": _TYPE})

    def sign(self, facts: PlanFacts) -> str:
        """
        Return the token of a plan.

        Raises:
            ConfigError: A name is too long or a number out of range; names which.
        """
        claims = msgspec.to_builtins(facts)
        try:
            msgspec.convert(claims, PlanFacts)
        except msgspec.ValidationError as exc:
            raise ConfigError(f"no plan can say this: {exc}") from None
        return self._signer.sign(claims)

    def verify(self, token: str, now_s: float) -> PlanFacts:
        """
        Return the facts of a plan that this server, or one with the same keys, has signed.

        A plan from the future counts: refusing it would cut everybody off from a node whose
        clock is behind, and guard against nothing, for only we can sign.

        Args:
            token: What a client presents: any text.
            now_s: Time of the wall clock [s].

        Raises:
            PlanRefused: No plan, signed by somebody else, or expired.
        """
        facts = self._facts(token)
        if now_s >= facts.expires_s + self._leeway_s:
            raise PlanRefused("this plan has expired", expired=facts)
        return facts

    def _facts(self, token: str) -> PlanFacts:
        if not _TOKEN.fullmatch(token):
            raise PlanRefused("this is not a plan token")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != _TYPE:
                raise PlanRefused("this is not a plan token")
            key = self._keys.get(header.get("kid", ""))
            if key is None:
                raise PlanRefused("this plan was signed with a key that is not here")
            # No `exp` among the claims: PyJWT would judge it by a clock of its own.
            claims = jwt.decode(token, key, algorithms=[_ALGORITHM])
            return msgspec.convert(claims, PlanFacts)
        except (jwt.PyJWTError, msgspec.ValidationError):
            raise PlanRefused("this plan was changed, or signed by somebody else") from None


# --- Credentials ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """
    What opens one leg.

    Attributes:
        values: What the adapter needs besides the public config; empty: nothing.
        refresh_s: When to have it replaced, of the wall clock [s].
    """

    values: Mapping[str, str | int] = field(repr=False)
    refresh_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """
    The credentials of a plan.

    Attributes:
        credentials: By provider, in the order asked for.
        failed: Providers without one, and why; no secret is in the words.
    """

    credentials: Mapping[str, Credential]
    failed: Mapping[str, str]


class MintRefused(HitlessError):
    """This client gets no more credentials: it was removed, or its key revoked."""


class Mint:
    """
    Mints the credentials of plans.

    Args:
        is_revoked: Whether this asker was removed since, or its key revoked.
        minters: How to make the minter of a provider, by adapter.
        credential_s: How long the credential of the live leg is good [s].
        outage_s: How long those of stand-by legs are good [s]: as long as a client must be able
            to go on without a server, hence also how long a removed one can.

    Raises:
        ConfigError: A time that is not positive.
    """

    def __init__(
        self,
        *,
        is_revoked: Callable[[Asker], bool],
        minters: Mapping[str, Callable[[ProviderSecrets], Minter]] = MINTERS,
        credential_s: float = CREDENTIAL_S,
        outage_s: float = OUTAGE_S,
    ) -> None:
        if not (credential_s > 0.0 and outage_s > 0.0):
            raise ConfigError("credential_s and outage_s must be above 0 s")
        self._is_revoked = is_revoked
        self._makers = minters
        self._credential_s = credential_s
        self._outage_s = outage_s
        self._minters: dict[str, Minter | None] = {}

    def make(self, provider: ProviderSecrets) -> Minter | None:
        """
        Return the minter of a provider; None: it needs no credentials.

        Raises:
            ConfigError: Its secrets or options cannot be used; names the provider and why.
        """
        maker = self._makers.get(provider.adapter)
        if maker is None:
            if provider.secrets:
                raise ConfigError(
                    f"{provider.name}: adapter {provider.adapter!r} takes no secrets"
                )
            return None
        try:
            return maker(provider)
        except ConfigError as exc:
            raise ConfigError(f"{provider.name}: {exc}") from None

    def replace(self, providers: Iterable[ProviderSecrets]) -> dict[str, str]:
        """
        Mint for these providers from now on, and no others.

        Returns:
            The providers that cannot be minted for, and why: one must not stop the others.
        """
        minters, faulty = {}, {}
        for provider in providers:
            try:
                minters[provider.name] = self.make(provider)
            except ConfigError as exc:
                faulty[provider.name] = str(exc)
        self._minters = minters
        return faulty

    def mint_all(self, order: Sequence[str], asker: Asker, now_s: float) -> Minted:
        """
        Return credentials for every provider of a plan.

        Those in reserve are for the epoch after the asker's: that of the placement which the
        next move makes, whoever moves. After that move they are old, and a new plan is asked
        for; those whose name carries the epoch say it.

        Args:
            order: Providers, the one of the live leg first.
            asker: Whom they are for; its epoch is that of the live leg.
            now_s: Time of the wall clock [s].

        Raises:
            MintRefused: The asker was removed, or its key revoked.
        """
        if self._is_revoked(asker):
            raise MintRefused("no more credentials: this client was removed or its key revoked")
        credentials, failed = {}, {}
        for place, name in enumerate(order):
            if name not in self._minters:
                failed[name] = "its secrets are missing or cannot be used"
                continue
            ttl_s = self._outage_s if place else self._credential_s
            try:
                meant = replace(asker, epoch=asker.epoch + 1) if place else asker
                credentials[name] = self._mint(name, meant, now_s, ttl_s)
            except Exception as exc:  # an outsider's minter: anything, and its text may be secret
                failed[name] = f"its minter failed: {type(exc).__name__}"
        return Minted(credentials=credentials, failed=failed)

    def _mint(self, name: str, asker: Asker, now_s: float, ttl_s: float) -> Credential:
        minter = self._minters[name]
        values = {} if minter is None else minter.mint(asker, now_s=now_s, ttl_s=ttl_s)
        return Credential(values=values, refresh_s=now_s + ttl_s)
