"""
The account that a stand-in pretends to be the provider of: whose credentials it believes.

It comes in the environment as JSON, never on the command line, where every user of the machine
could read it. Nothing here is a real account.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ConfigError
from ..providers.agora_token import check_ids
from ..providers.zego_token import check_account
from .catalogue import AGORA, WHIP, ZEGOCLOUD


ACCOUNT_ENV: Final = "HITLESS_LAB_ACCOUNT"
"""Where a stand-in finds its account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgoraAccount:
    """
    One project at Agora, and the credential of its REST API.

    Raises:
        ConfigError: One of them cannot be what Agora's console shows; names which.
    """

    app_id: str
    certificate: str = field(repr=False)
    customer_id: str = field(repr=False)
    customer_secret: str = field(repr=False)

    def __post_init__(self) -> None:
        check_ids(self.app_id, self.certificate)
        for name in ("customer_id", "customer_secret"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or not value.isprintable():
                raise ConfigError(f"{name}: give printable characters")
        if ":" in self.customer_id:
            raise ConfigError("customer_id: give no ':', which ends it in Basic authentication")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZegoAccount:
    """
    One project at ZEGOCLOUD.

    Raises:
        ConfigError: One of them cannot be what ZEGOCLOUD's console shows; names which.
    """

    app_id: int
    server_secret: str = field(repr=False)

    def __post_init__(self) -> None:
        check_account(self.app_id, self.server_secret)


Account = AgoraAccount | ZegoAccount

_KINDS: Final[Mapping[str, tuple[type[Account], tuple[str, ...]]]] = {
    AGORA: (AgoraAccount, ("app_id", "certificate", "customer_id", "customer_secret")),
    ZEGOCLOUD: (ZegoAccount, ("app_id", "server_secret")),
}


def spoken(account: Account | None) -> str:
    """Return what a stand-in with this account speaks; see `catalogue`."""
    if account is None:
        return WHIP
    return AGORA if isinstance(account, AgoraAccount) else ZEGOCLOUD


def account_of(speaks: str, environ: Mapping[str, str]) -> Account | None:
    """
    Return the account of the environment; None for a stand-in that has none.

    Raises:
        ConfigError: It is missing or incomplete; the message quotes no value.
    """
    if speaks == WHIP:
        return None
    kind, fields = _KINDS[speaks]
    shape = f"{ACCOUNT_ENV}: give a JSON object with {', '.join(fields)}"
    try:
        said: Any = json.loads(environ.get(ACCOUNT_ENV, ""))
    except (ValueError, RecursionError):
        raise ConfigError(shape) from None
    if not isinstance(said, dict) or set(said) != set(fields):
        raise ConfigError(shape)
    try:
        return kind(**said)
    except ConfigError as fault:
        raise ConfigError(f"{ACCOUNT_ENV}: {fault}") from None
