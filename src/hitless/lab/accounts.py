"""
The accounts of one stage: whose credentials its stand-ins believe, and what is made of them.

Each is drawn by chance and thrown away with the stage. Its secrets go where credentials are
checked or made, and nowhere else: to the stand-in and to ends that decide alone by their
environment, to the server by its admin API. Command lines and logs have none.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from ..errors import ConfigError
from .account import ACCOUNT_ENV, Account, AgoraAccount, ZegoAccount, spoken
from .catalogue import AGORA, ZEGOCLOUD


ACCOUNTS_ENV: Final = "HITLESS_LAB_ACCOUNTS"
"""Where an end that decides alone finds the secrets of its adapters: JSON, by provider."""

_CHANNEL: Final = "{stream}"
"""
Option `channel` of the server: a stream has its own name everywhere on the stage.

Not `{stream}-{epoch}`, the default: ends that decide alone know no epoch, and must meet the others
at the stand-ins, where who looks into them also knows streams by their ids. The fence that an
epoch is, a stand-in has anyway: a newer publisher puts out the older.
"""

_APP_IDS: Final = 1 << 32


def _agora() -> AgoraAccount:
    return AgoraAccount(
        app_id=secrets.token_hex(16),
        certificate=secrets.token_hex(16),
        customer_id=secrets.token_hex(16),
        customer_secret=secrets.token_hex(16),
    )


def _zegocloud() -> ZegoAccount:
    return ZegoAccount(
        app_id=1 + secrets.randbelow(_APP_IDS - 1), server_secret=secrets.token_hex(16)
    )


_MAKERS: Final[Mapping[str, Callable[[], Account]]] = {AGORA: _agora, ZEGOCLOUD: _zegocloud}


class Accounts:
    """
    One account for each stand-in that speaks a provider's own language.

    Args:
        names: The providers of the stage; those that speak plain WHIP get none.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._accounts = {name: _MAKERS[name]() for name in names if name in _MAKERS}

    def __contains__(self, name: str) -> bool:
        """Whether this provider has one."""
        return name in self._accounts

    def speaks(self, name: str) -> str:
        """Return what a stand-in of this name speaks, as its `--speaks` wants it."""
        return spoken(self._accounts.get(name))

    def stand_env(self, name: str) -> dict[str, str]:
        """Return what its stand-in finds in the environment; it is secret."""
        if name not in self._accounts:
            return {}
        return {ACCOUNT_ENV: json.dumps(asdict(self._accounts[name]))}

    def end_env(self) -> dict[str, str]:
        """Return what an end that decides alone finds in the environment; it is secret."""
        return {ACCOUNTS_ENV: json.dumps({name: self.secrets(name) for name in self._accounts})}

    def secrets(self, name: str) -> dict[str, str]:
        """Return what credentials are made of: the adapter's option, and the server's secret."""
        account = self._accounts[name]
        if isinstance(account, AgoraAccount):
            return {"certificate": account.certificate}
        return {"server_secret": account.server_secret}

    def adapter(self, name: str, url: str) -> dict[str, Any]:
        """
        Return which adapter speaks to a stand-in, and its options; nothing of it is secret.

        Args:
            name: Of a provider that has an account.
            url: Where whoever is told so finds the stand-in.
        """
        options: dict[str, Any] = {
            "adapter": self.speaks(name),
            "app_id": self._accounts[name].app_id,
            "ingest": "whip",
            "whip_url": f"{url}/whip/{{stream}}",
            "whep_url": f"{url}/whep/{{stream}}",
            "api_url": url,  # else an adapter with a secret would call the company's own API
        }
        if self.speaks(name) == ZEGOCLOUD:
            options["bearer"] = "token04"
        return options

    def listed(self, name: str, url: str) -> dict[str, Any]:
        """Return what the server is told of a stand-in: adapter, public config and secrets."""
        config = self.adapter(name, url)
        adapter = config.pop("adapter")
        config |= {"channel": _CHANNEL, "control_url": f"{url}/health"}
        return {"adapter": adapter, "config": config, "secrets": self.secrets(name)}


def secrets_of(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """
    Return the secrets of adapters by provider; empty: there are none in the environment.

    Raises:
        ConfigError: They are no JSON object of objects of texts; no value is quoted.
    """
    said = environ.get(ACCOUNTS_ENV)
    if not said:
        return {}
    try:
        found: Any = json.loads(said)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(map(_are_texts, found.values())):
        raise ConfigError(
            f"{ACCOUNTS_ENV}: give a JSON object with an object of texts by provider"
        )
    return found


def _are_texts(found: object) -> bool:
    return isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
