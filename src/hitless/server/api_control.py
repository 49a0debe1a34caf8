"""
A provider's own control API as a control probe: authenticated, bounded, within its limits.

Companies whose media protocol is their own have no endpoint of ours that could be asked. Their
control API can be: a list of one channel at Agora, the users of a room that nobody is in at
ZEGOCLOUD, which their documents make the cheapest calls that prove the credential.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from aiohttp.abc import AbstractResolver, ResolveResult

from ..errors import (
    ConfigError,
    CredentialsRejected,
    HitlessError,
    ProviderError,
    Refused,
    Retry,
)
from ..providers import agora_rest, zego_rest
from ..providers.agora_api import AgoraApi
from ..providers.agora_hosts import Hosts
from ..providers.quota import Limit, Quota
from ..providers.zego_api import ZegoApi
from .addresses import Allowed, Resolver, TargetRefused, TargetUnresolved, check_target
from .prober import TIMEOUT_S, Answer
from .store_operators import ProviderRow


SECRETS: Final[Mapping[str, tuple[str, ...]]] = {
    "agora": ("customer_id", "customer_secret"),
    "zegocloud": ("server_secret",),
}
"""What opens the control API, by adapter; one that is not here has none that is asked."""

API_URL: Final = "api_url"
"""Option of these adapters: the API is somewhere else, at a stand-in."""

ROOM: Final = "hitless-canary"
"""Room that is asked about; nobody is in it."""

_LIMITS: Final[Mapping[str, Mapping[str, Limit]]] = {
    "agora": agora_rest.LIMITS,
    "zegocloud": zego_rest.LIMITS,
}


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
    """Return the calls of a provider's account, for all that call it; None: it has no API."""
    limits = _LIMITS.get(row.adapter)
    return None if limits is None else AccountQuota(row.name, limits)


def opening(row: ProviderRow, secrets: Mapping[str, str]) -> dict[str, str]:
    """
    Return those of a provider's secrets that open its API; empty: it has none, or none is given.

    Raises:
        ConfigError: Only some of them are given.
    """
    needed = SECRETS.get(row.adapter, ())
    found = {name: secrets[name] for name in needed if name in secrets}
    if found and len(found) < len(needed):
        raise ConfigError(f"{row.name}: {' and '.join(needed)}: give all of them or none")
    return found


def check(row: ProviderRow, secrets: Mapping[str, str]) -> None:
    """
    Check what a provider's API would be asked with; nothing opens.

    Raises:
        ConfigError: A secret is missing, or an id, region or address cannot be used.
    """
    quota = quota_of(row)
    if quota is not None and opening(row, secrets):
        ApiControl(row, secrets, quota=quota)


async def ask_accounts(
    rows: Iterable[ProviderRow],
    secrets: Callable[[str], Mapping[str, str]],
    *,
    allow_private: Allowed = (),
) -> dict[str, Answer]:
    """
    Ask the API of every provider that has one and whose secrets open it, once, all together.

    Args:
        rows: The providers; one with regions is asked as a whole.
        secrets: Returns a provider's opened secrets by its name.
        allow_private: Networks that may be asked besides the public ones.

    Raises:
        HitlessError: Secrets that cannot be read, or options that cannot be used.
    """
    controls: dict[str, ApiControl] = {}
    for row in rows:
        quota = quota_of(row)
        if quota is not None and opening(row, found := secrets(row.name)):
            controls[row.name] = ApiControl(row, found, quota=quota, allow_private=allow_private)
    try:
        answers = await asyncio.gather(*(control() for control in controls.values()))
    finally:
        for control in controls.values():
            await control.aclose()
    return dict(zip(controls, answers, strict=True))


class ApiControl:
    """
    Asks a provider's control API; see `prober.Control`. Always closed.

    What is about our account (a credential that is rejected, a service that is not enabled) says
    nothing about the provider: it is told as our own trouble, and nothing is concluded from it.
    An answer that we ask too often is an answer.

    Args:
        row: Which provider, or one of its regions.
        secrets: Its opened secrets; those of `SECRETS` are used.
        quota: Of its account.
        allow_private: Networks that may be asked besides the public ones; True: everything.
        resolver: Finds the addresses of a name; None: the system's.

    Raises:
        ConfigError: It has no such API, a secret is missing, or an option cannot be used.
    """

    def __init__(
        self,
        row: ProviderRow,
        secrets: Mapping[str, str],
        *,
        quota: AccountQuota,
        allow_private: Allowed = (),
        resolver: Resolver | None = None,
    ) -> None:
        opened = opening(row, secrets)
        if not opened:
            needed = " and ".join(SECRETS.get(row.adapter, ())) or "another adapter"
            raise ConfigError(f"{row.name}: its control API cannot be asked without {needed}")
        origin = row.config.get(API_URL)
        if origin is not None and not isinstance(origin, str):
            raise ConfigError(f"{API_URL} must be a text")
        self._quota, self._origin = quota, origin
        self._allow_private, self._resolver = allow_private, resolver
        judged = _Judged(allow_private, resolver)
        make = _Agora if row.adapter == "agora" else _Zegocloud
        self._api: _Api = make(row, opened, quota, judged)

    async def __call__(self) -> Answer:
        """Ask once, within `TIMEOUT_S`. Never raises, but when cancelled."""
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        held = self._quota.held
        try:
            if self._origin is not None:  # a plain address is not looked up, so it is judged here
                await check_target(
                    self._origin,
                    self._resolver,
                    allow_private=self._allow_private,
                    timeout_s=TIMEOUT_S,
                )
            return Answer(ok=True, because=await self._api.ask(deadline))
        except TargetUnresolved as exc:
            return Answer(ok=False, because=exc.because, answered=False)
        except TargetRefused as exc:
            return Answer(ok=False, because=f"not probed: {exc.because}", own_trouble=True)
        except CredentialsRejected as exc:
            return Answer(ok=False, because=exc.because, own_trouble=True)
        except Refused as exc:
            if self._quota.held > held:
                return Answer(ok=True, because=f"it answers: {exc.because}")
            is_ours = not exc.answered or not self._api.is_theirs(exc)
            return Answer(
                ok=False, because=exc.because, answered=exc.answered, own_trouble=is_ours
            )
        except ProviderError as exc:
            return Answer(ok=False, because=exc.because, answered=exc.answered)
        except HitlessError as exc:  # no network here, or closed just now
            return Answer(ok=False, because=str(exc), answered=False, own_trouble=True)

    async def aclose(self) -> None:
        """Close connections. Idempotent; bounded; never raises."""
        await self._api.aclose()


class _Api(Protocol):
    """One company's API."""

    async def ask(self, deadline: float) -> str:
        """
        Make the cheapest call that needs the credential; return what it proved, in words.

        Raises:
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        ...

    def is_theirs(self, refused: Refused) -> bool:
        """Whether a no is the provider's fault, and not about our account."""
        ...

    async def aclose(self) -> None: ...


class _Agora:
    """Asks for one channel of the project, at Agora's hosts in their documented order."""

    def __init__(
        self,
        row: ProviderRow,
        secrets: Mapping[str, str],
        quota: Quota,
        resolver: AbstractResolver,
    ) -> None:
        config: Mapping[str, Any] = row.config  # Any: an adapter's own options
        origin = config.get(API_URL)
        hosts = None
        if origin is not None:
            hosts = Hosts(
                primary=origin, alternate=origin, adjacent=origin, adjacent_alternate=origin
            )
        self._api = AgoraApi(
            row.name,
            app_id=config.get("app_id", ""),
            customer_id=secrets["customer_id"],
            customer_secret=secrets["customer_secret"],
            region=config.get("region", "na"),
            hosts=hosts,
            quota=quota,
            resolver=resolver,
        )

    async def ask(self, deadline: float) -> str:
        await self._api.channels(page_size=1, deadline=deadline)
        return "its API takes the REST credential"

    def is_theirs(self, refused: Refused) -> bool:
        return True  # 5xx; what is about our account has errors of its own

    async def aclose(self) -> None:
        await self._api.aclose()


class _Zegocloud:
    """Counts the users of a room that does not exist: 0, and the signature is proven."""

    def __init__(
        self,
        row: ProviderRow,
        secrets: Mapping[str, str],
        quota: Quota,
        resolver: AbstractResolver,
    ) -> None:
        config: Mapping[str, Any] = row.config  # Any: an adapter's own options
        self._api = ZegoApi(
            row.name,
            app_id=config.get("app_id", 0),
            server_secret=secrets["server_secret"],
            region=config.get("region"),
            base=config.get(API_URL),
            quota=quota,
            resolver=resolver,
        )

    async def ask(self, deadline: float) -> str:
        await self._api.user_counts([ROOM], deadline=deadline)
        return "its API takes our signature"

    def is_theirs(self, refused: Refused) -> bool:
        # An error inside, or a gateway that is away; else something is not enabled for us.
        return refused.retry is Retry.SAME or refused.retry_after_s is not None

    async def aclose(self) -> None:
        await self._api.aclose()


class _Judged(AbstractResolver):
    """Finds addresses as the system does, and gives out those that may be connected to."""

    def __init__(self, allow_private: Allowed, resolver: Resolver | None) -> None:
        self._allow_private, self._resolver = allow_private, resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            target = await check_target(
                f"https://{host}:{port or 443}",
                self._resolver,
                allow_private=self._allow_private,
                timeout_s=TIMEOUT_S,
            )
        except TargetUnresolved as exc:  # as the system says it: the next host is asked then
            raise socket.gaierror(socket.EAI_NONAME, exc.because) from None
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in target.addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""
