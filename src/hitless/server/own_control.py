"""
A provider asked in its own language as a control probe: bounded, within its limits.

Many providers have no endpoint that says something when it is asked by GET or OPTIONS. They are
asked as their adapters would ask: by the API that takes the row's secrets, or by the beginning of
a leg. How is in `api_control` and `media_control`; what an answer means is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from ..errors import ConfigError, CredentialsRejected, HitlessError, ProviderError, Refused
from ..providers import agora_rest, zego_rest
from ..providers.quota import Limit, Quota
from .addresses import Allowed, Resolver, TargetRefused, TargetUnresolved
from .api_control import Agora, Judged, LiveKit, Zegocloud
from .media_control import Janus, Rtmp
from .prober import TIMEOUT_S, Answer
from .server_options import in_regions
from .store_operators import ProviderRow


class Asks(Protocol):
    """What asks one provider."""

    async def ask(self, deadline: float) -> str:
        """
        Ask the cheapest thing that proves something; return what it proved, in words.

        Args:
            deadline: When to give up [s, the loop's clock].

        Raises:
            ProviderError: It did not answer, or not with that.
            TargetRefused: Its address may not be connected to.
            LocalFault: This machine has no network.
        """
        ...

    def is_theirs(self, refused: Refused) -> bool:
        """Whether a no is the provider's fault, and not about our account."""
        ...

    async def aclose(self) -> None:
        """Close connections. Idempotent; bounded; never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """
    How the providers of one adapter are asked.

    Attributes:
        make: Makes what asks, from a row, the secrets below, the account's calls and what judges
            addresses; nothing opens.
        secrets: What it is asked with, all of them; empty: nothing is needed.
        limits: Calls that an account may make; empty: none are known.
    """

    make: Callable[[ProviderRow, Mapping[str, str], Quota, Judged], Asks]
    secrets: tuple[str, ...] = ()
    limits: Mapping[str, Limit] = field(default_factory=dict)


WAYS: Final[Mapping[str, Way]] = {
    "agora": Way(make=Agora, secrets=("customer_id", "customer_secret"), limits=agora_rest.LIMITS),
    "janus": Way(make=Janus),
    "livekit": Way(make=LiveKit, secrets=("api_key", "api_secret")),
    "rtmp": Way(make=Rtmp),
    "zegocloud": Way(make=Zegocloud, secrets=("server_secret",), limits=zego_rest.LIMITS),
}
"""By adapter; one that is not here is asked by HTTP only."""


class AccountQuota(Quota):
    """
    The calls of one account, and how often it was told that there were too many.

    Attributes:
        held: How often.
    """

    held = 0

    def hold(self, kind: str, for_s: float) -> None:
        """Let nobody through for so long [s]; see `Quota.hold`."""
        self.held += 1
        super().hold(kind, for_s)


def quota_of(row: ProviderRow) -> AccountQuota | None:
    """Return the calls of a provider's account, for all that call it; None: no limit is known."""
    way = WAYS.get(row.adapter)
    return AccountQuota(row.name, way.limits) if way is not None and way.limits else None


def opening(row: ProviderRow, secrets: Mapping[str, str]) -> dict[str, str] | None:
    """
    Return those of a provider's secrets that it is asked with; None: it cannot be asked.

    Raises:
        ConfigError: Only some of them are given.
    """
    way = WAYS.get(row.adapter)
    if way is None:
        return None
    found = {name: secrets[name] for name in way.secrets if name in secrets}
    if found and len(found) < len(way.secrets):
        raise ConfigError(f"{row.name}: {' and '.join(way.secrets)}: give all of them or none")
    return found if len(found) == len(way.secrets) else None


def check(row: ProviderRow, secrets: Mapping[str, str]) -> None:
    """
    Check what a provider would be asked with; nothing opens.

    Raises:
        ConfigError: A secret is missing, or an id, region or address cannot be used.
    """
    if opening(row, secrets) is not None:
        OwnControl(row, secrets)


async def ask_all(
    rows: Iterable[ProviderRow],
    secrets: Callable[[str], Mapping[str, str]],
    *,
    allow_private: Allowed = (),
) -> dict[str, Answer]:
    """
    Ask every provider that can be asked in its own language, once, all together.

    Args:
        rows: The providers; one with regions is asked in the first.
        secrets: Returns a provider's opened secrets by its name.
        allow_private: Networks that may be asked besides the public ones.

    Raises:
        HitlessError: Secrets that cannot be read, or options that cannot be used.
    """
    controls: dict[str, OwnControl] = {}
    for row in rows:
        if row.adapter in WAYS and opening(row, found := secrets(row.name)) is not None:
            _, one = in_regions(row)[0]
            controls[row.name] = OwnControl(one, found, allow_private=allow_private)
    try:
        answers = await asyncio.gather(*(control() for control in controls.values()))
    finally:
        for control in controls.values():
            await control.aclose()
    return dict(zip(controls, answers, strict=True))


class OwnControl:
    """
    Asks a provider in its own language; see `prober.Control`. Always closed.

    What is about our account (a credential that is rejected, a service that is not enabled) says
    nothing about the provider: it is told as our own trouble, and nothing is concluded from it.
    An answer that we ask too often is an answer.

    Args:
        row: Which provider, or one of its regions.
        secrets: Its opened secrets; those of its `Way` are used.
        quota: Of its account; None: one of its own.
        allow_private: Networks that may be asked besides the public ones; True: everything.
        resolver: Finds the addresses of a name; None: the system's.

    Raises:
        ConfigError: It cannot be asked so, a secret is missing, or an option cannot be used.
    """

    def __init__(
        self,
        row: ProviderRow,
        secrets: Mapping[str, str],
        *,
        quota: AccountQuota | None = None,
        allow_private: Allowed = (),
        resolver: Resolver | None = None,
    ) -> None:
        opened, way = opening(row, secrets), WAYS.get(row.adapter)
        if opened is None or way is None:
            needed = " and ".join(way.secrets) if way is not None else "another adapter"
            raise ConfigError(f"{row.name}: it cannot be asked without {needed}")
        self._quota = quota or AccountQuota(row.name, way.limits)
        self._asks = way.make(row, opened, self._quota, Judged(allow_private, resolver))

    async def __call__(self) -> Answer:
        """Ask once, within `TIMEOUT_S`. Never raises, but when cancelled."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        held = self._quota.held
        try:
            return Answer(ok=True, because=await self._asks.ask(deadline))
        except TargetUnresolved as exc:
            return Answer(ok=False, because=exc.because, answered=False)
        except TargetRefused as exc:
            return Answer(ok=False, because=f"not probed: {exc.because}", own_trouble=True)
        except CredentialsRejected as exc:
            return Answer(ok=False, because=exc.because, own_trouble=True)
        except Refused as exc:
            if self._quota.held > held:
                return Answer(ok=True, because=f"it answers: {exc.because}")
            is_ours = not exc.answered or not self._asks.is_theirs(exc)
            return Answer(
                ok=False, because=exc.because, answered=exc.answered, own_trouble=is_ours
            )
        except ProviderError as exc:
            return Answer(ok=False, because=exc.because, answered=exc.answered)
        except HitlessError as exc:  # no network here, or closed just now
            return Answer(ok=False, because=str(exc), answered=False, own_trouble=True)

    async def aclose(self) -> None:
        """Close connections. Idempotent; bounded; never raises."""
        await self._asks.aclose()
