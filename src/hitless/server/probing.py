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
from dataclasses import replace
from typing import Any, Final

from ..core.evidence import Rules
from ..core.observation import Level, ProbeEnded
from ..errors import ConfigError, HitlessError
from ..providers import load
from ..providers.base import Provider
from ..providers.credential import Access, Credentials
from .addresses import Allowed
from .clock import wall_s
from .judging import Judge
from .minters import Asker
from .plans import Mint
from .prober import Prober, Target
from .providers import Providers, make_adapter
from .store_operators import ProviderRow


PROBED: Final = "probe"
"""Option of a provider: how deep its canary goes; `none`: it is not probed at all."""
CONTROL_URL: Final = "control_url"
"""Option of a provider: what is asked with GET instead of its publish endpoint."""
REGIONS: Final = "regions"
"""Option of a provider: by region, what differs there: `url`, `view_url`, `control_url`."""

_KEY: Final = "canary"


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
            if row.is_active and row.config.get(PROBED) != "none"
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
                if target.adapter is not None:
                    await target.adapter.aclose()

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
                if target.adapter is not None:
                    await target.adapter.aclose()
        self._made.clear()

    def _targets(self, row: ProviderRow, *, is_leader: bool) -> tuple[Target, ...]:
        """Return what is probed of a provider: each of its regions, or the whole."""
        regions = row.config.get(REGIONS) or {None: {}}
        return tuple(
            self._target(
                replace(row, config={**row.config, **options}), region, is_leader=is_leader
            )
            for region, options in regions.items()
        )

    def _target(self, row: ProviderRow, region: str | None, *, is_leader: bool) -> Target:
        wanted = Level(row.config.get(PROBED, Level.END_TO_END))
        deepest = wanted if is_leader else Level.CONTROL
        url = row.config.get("url")
        control_url = row.config.get(CONTROL_URL)
        if url is None and control_url is None:  # one that cannot be probed must not stop others
            raise ConfigError(f"{row.name}: give url or {CONTROL_URL} to probe it")
        return Target(
            name=row.name,
            region=region,
            adapter=self._adapter(row) if deepest is not Level.CONTROL else None,
            control_url=control_url if isinstance(control_url, str) else None,
            publish_url=url if isinstance(url, str) else None,
            deepest=deepest,
        )

    def _adapter(self, row: ProviderRow) -> Provider:
        more: dict[str, object] = {}
        if "credentials" in inspect.signature(load(row.adapter)).parameters:
            more["credentials"] = self._credentials()
        return make_adapter(row, **more)

    def _credentials(self) -> Credentials:
        async def minted(access: Access) -> Mapping[str, Any]:
            asker = Asker(stream=access.stream, role=access.role, client=_KEY, key="")
            made = self._mint.mint_all([access.provider], asker, wall_s()).credentials
            found = made.get(access.provider)
            return found.values if found is not None else {}

        return minted
