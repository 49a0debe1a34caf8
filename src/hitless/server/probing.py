"""
Which providers this node probes, and how deep.

Every node asks each provider's control side, for each sees the world from where it stands. Media
canaries cost something, so only the node that leads runs them.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..core.evidence import Rules
from ..core.observation import Level, ProbeEnded
from ..errors import ConfigError, HitlessError
from ..providers import load
from ..providers.base import Provider
from ..providers.credential import Access, Credentials
from . import own_control
from .addresses import Allowed
from .clock import wall_s
from .judging import Judge
from .minters import Asker
from .own_control import AccountQuota, OwnControl
from .plans import Mint
from .prober import Prober, Target
from .providers import Providers, make_adapter
from .server_options import in_regions
from .store_operators import ProviderRow


PROBED: Final = "probe"
"""Option of a provider: how deep its canary goes; `none`: it is not probed at all."""
CONTROL_URL: Final = "control_url"
"""Option of a provider: what is asked with GET instead of the provider itself."""
REGIONS: Final = "regions"
"""Option of a provider: by region, what differs there; see `server_options.REGION_OPTIONS`."""

INGEST: Final = "ingest"
"""Option of adapters that can publish in several ways: `rtmp` where nobody says otherwise."""

_KEY: Final = "canary"
_COMPANIES: Final = frozenset({"agora", "zegocloud"})
_MEDIA_URLS: Final = ("view_url", "play_url", "whip_url", "whep_url", "api_url")


class Probing:
    """
    The probes of one node.

    Args:
        rules: How often.
        providers: Who there is.
        judge: Takes what is found.
        mint: Makes the canary's credentials.
        tell: Hears what went wrong with a target.
        rng: Where ids of canary streams come from.
        allow_private: Networks that may be probed besides the public ones.
    """

    def __init__(
        self,
        rules: Rules,
        providers: Providers,
        judge: Judge,
        mint: Mint,
        tell: Callable[..., None],
        *,
        rng: random.Random,
        allow_private: Allowed = (),
    ) -> None:
        self._providers, self._mint, self._tell = providers, mint, tell
        self._allow_private = allow_private
        self._made: dict[str, tuple[ProviderRow, bool, tuple[Target, ...]]] = {}
        self._faulty: dict[str, tuple[ProviderRow, bool]] = {}
        self._following = asyncio.Lock()
        self._prober = Prober(
            rules,
            lambda: judge.standing,
            judge.observe,
            rng=rng,
            allow_private=allow_private,
        )

    async def follow(self, *, is_leader: bool) -> None:
        """Probe what the rows say now; canaries only where `is_leader`."""
        async with self._following:  # asked by the node's own round, and by operators
            await self._follow(is_leader)

    async def _follow(self, is_leader: bool) -> None:
        rows = {
            name: row
            for name, row in self._providers.rows.items()
            if row.is_active and depth_of(row) != "none"
        }
        self._faulty = {name: one for name, one in self._faulty.items() if name in rows}
        gone: list[Target] = []
        for name, (row, led, targets) in tuple(self._made.items()):
            if rows.get(name) != row or led != is_leader:
                del self._made[name]
                gone += targets
        new = [row for name, row in rows.items() if name not in self._made]
        for row in new:
            if self._faulty.get(row.name) == (row, is_leader):
                continue
            self._faulty.pop(row.name, None)
            try:
                self._made[row.name] = (row, is_leader, self._targets(row, is_leader=is_leader))
            except HitlessError as exc:
                self._faulty[row.name] = (row, is_leader)
                self._tell("probe.impossible", provider=row.name, because=str(exc))
        try:
            if gone or new:
                await self._prober.watch(one for _, _, of in self._made.values() for one in of)
        finally:
            for target in gone:
                await _closed(target)

    async def check_now(self, name: str | None) -> list[ProbeEnded]:
        """
        Probe one provider, or all, at once.

        Raises:
            ConfigError: No provider of that name is probed here.
        """
        return await self._prober.check_now(name)

    async def aclose(self) -> None:
        """End every probe. Idempotent."""
        await self._prober.aclose()
        for _, _, targets in self._made.values():
            for target in targets:
                await _closed(target)
        self._made.clear()

    def _targets(self, row: ProviderRow, *, is_leader: bool) -> tuple[Target, ...]:
        """Return what is probed of a provider: each of its regions, or the whole."""
        quota = own_control.quota_of(row)
        return tuple(
            self._target(one, region, quota, is_leader=is_leader)
            for region, one in in_regions(row)
        )

    def _target(
        self,
        row: ProviderRow,
        region: str | None,
        quota: AccountQuota | None,
        *,
        is_leader: bool,
    ) -> Target:
        wanted = Level(depth_of(row))
        deepest = wanted if is_leader else Level.CONTROL
        url = row.config.get("url")
        control_url = row.config.get(CONTROL_URL)
        opened: Mapping[str, str] | None = None
        if is_own := row.adapter in own_control.WAYS:
            opened = own_control.opening(row, self._providers.secrets(row.name))
        control: OwnControl | None = None
        if control_url is None and opened is not None:
            control = OwnControl(row, opened, quota=quota, allow_private=self._allow_private)
        elif control_url is None and (is_own or url is None):
            raise ConfigError(_nothing_to_ask(row))  # it must not stop others
        adapter = None
        if deepest is not Level.CONTROL:
            adapter = self._adapter(row, quota, opened or {})
        return Target(
            name=row.name,
            region=region,
            adapter=adapter,
            control=control,
            control_url=control_url if isinstance(control_url, str) else None,
            publish_url=url if isinstance(url, str) else None,
            media_urls=_media_urls(row),
            deepest=deepest,
        )

    def _adapter(
        self, row: ProviderRow, quota: AccountQuota | None, opened: Mapping[str, str]
    ) -> Provider:
        more: dict[str, object] = {}
        accepted = inspect.signature(load(row.adapter)).parameters
        if "credentials" in accepted:
            more["credentials"] = self._credentials()
        if quota is not None and "quota" in accepted:
            more["quota"] = quota
        if _is_pushed(row):  # where to push to is asked for at the API
            more |= opened
        return make_adapter(row, **more)

    def _credentials(self) -> Credentials:
        async def minted(access: Access) -> Mapping[str, Any]:
            asker = Asker(stream=access.stream, role=access.role, client=_KEY, key="")
            made = self._mint.mint_all([access.provider], asker, wall_s()).credentials
            found = made.get(access.provider)
            return found.values if found is not None else {}

        return minted


def depth_of(row: ProviderRow) -> str:
    """
    Return how deep a provider is probed: a level, or `none`.

    Where its row says nothing, to the end; but only the API of Agora and ZEGOCLOUD by RTMP: their
    support must enable that for an account, and one without it is well for everybody else.
    """
    usual = Level.CONTROL if _is_pushed(row) else Level.END_TO_END
    return str(row.config.get(PROBED, usual))


def _is_pushed(row: ProviderRow) -> bool:
    """Whether it is a company of its own protocol, and this library publishes there by RTMP."""
    return row.adapter in _COMPANIES and row.config.get(INGEST, "rtmp") == "rtmp"


def _nothing_to_ask(row: ProviderRow) -> str:
    """Return why a provider cannot be probed, and what to do."""
    way = own_control.WAYS.get(row.adapter)
    if way is None or not way.secrets:
        return f"{row.name}: give url or {CONTROL_URL} to probe it"
    secrets = " and ".join(way.secrets)
    return f"{row.name}: give {secrets} as secrets to probe its API, or {CONTROL_URL}"


def _media_urls(row: ProviderRow) -> tuple[str, ...]:
    """Return the addresses that an adapter's options send a canary to, besides `url`."""
    named = [row.config.get(name) for name in _MEDIA_URLS]
    hosts = row.config.get("ingest_hosts")
    named += [f"https://{host}" for host in hosts] if isinstance(hosts, list) else []
    return tuple(url for url in named if isinstance(url, str) and url)


async def _closed(target: Target) -> None:
    """Close what was made for a target."""
    if target.adapter is not None:
        await target.adapter.aclose()
    if isinstance(target.control, OwnControl):
        await target.control.aclose()
