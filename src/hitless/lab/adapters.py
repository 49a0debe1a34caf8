"""How an end of the lab makes its adapters, from what the stage tells it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from ..core.policy import Policy
from ..errors import ConfigError
from ..providers import Provider, load
from ..providers.credential import Credentials


ACCOUNT: Final = "app_id"
"""Option that an adapter has whose provider takes no leg without a credential."""


def provider_of(
    text: str,
    policy: Policy,
    *,
    credentials: Credentials | None = None,
    secrets: Mapping[str, Mapping[str, str]] | None = None,
) -> Provider:
    """
    Return a provider from `NAME=URL` of a stand-in, or `NAME={"adapter": ..., OPTION: ...}`.

    What the policy says differently from its defaults, the adapter is given too.

    Args:
        text: Name, and URL of a stand-in that speaks plain WHIP, or JSON.
        policy: The limits.
        credentials: Has those of a plan, for adapters of providers with accounts.
        secrets: What credentials are made of instead, by provider: options that are on no command
            line.

    Raises:
        ConfigError: It is neither, or the adapter cannot be made of it.
    """
    name, _, said = text.partition("=")
    options: dict[str, Any] = {"adapter": "whip", "url": f"{said}/whip/{{stream}}"}
    if said.startswith("{"):
        try:
            options = dict(json.loads(said))
        except ValueError as exc:
            raise ConfigError(f"--provider {name}: no JSON: {exc}") from exc
    make = load(str(options.pop("adapter", name)))
    usual, accepted = Policy(), inspect.signature(make).parameters
    changed = {
        knob.name: value
        for knob in fields(Policy)
        if knob.name in accepted
        and (value := getattr(policy, knob.name)) != getattr(usual, knob.name)
    }
    options |= changed
    options |= (secrets or {}).get(name, {})
    if credentials is not None and ACCOUNT in options:
        options["credentials"] = credentials
    try:
        return make(name, **options)
    except TypeError as exc:
        raise ConfigError(f"--provider {name}: {exc}") from exc
