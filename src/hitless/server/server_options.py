"""Options of a provider that the server reads itself, and what differs in its regions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..client.keys import Given, check_url
from ..core.observation import Level
from ..errors import ConfigError
from .minters import MINTING_OPTIONS
from .store_operators import ProviderRow


NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a provider, and a region of it, may be called."""

REGIONS_MAX: Final = 16
REGION_OPTIONS: Final = frozenset({
    "url", "view_url", "control_url", "region", "api_url", "whip_url", "whep_url", "ingest_hosts"
})  # fmt: skip
"""What may differ in a region of a provider: where it is asked, and where media go."""

SERVER_OPTIONS: Final = MINTING_OPTIONS | {
    "control_url", "probe", "region", "regions", "fault_domain", "max_streams"
}  # fmt: skip
"""Options of a provider that the server reads and no adapter; all but the domain are private."""


def in_regions(row: ProviderRow) -> list[tuple[str | None, ProviderRow]]:
    """Return a provider as it is in each of its regions, by name; None: it has none."""
    regions: Mapping[str | None, Mapping[str, Any]] = row.config.get("regions") or {None: {}}
    return [
        (region, replace(row, config={**row.config, **differs}))
        for region, differs in regions.items()
    ]


def check_server_options(config: Mapping[str, Any]) -> None:
    """
    Check the options that only the server reads.

    Raises:
        ConfigError: Names the option and what is possible.
    """
    depth = config.get("probe", Level.END_TO_END)
    if depth != "none" and depth not in tuple(Level):
        raise ConfigError(f"probe: give none or one of {', '.join(Level)}")
    for name in ("region", "fault_domain", "control_url"):
        if not isinstance(config.get(name, ""), str):
            raise ConfigError(f"{name}: give a text")
    _check_regions(config.get("regions", {}))
    most = config.get("max_streams", 1)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ConfigError("max_streams: give a whole number above 0")


def _check_regions(regions: object) -> None:
    if not isinstance(regions, dict) or len(regions) > REGIONS_MAX:
        raise ConfigError(f"regions: give up to {REGIONS_MAX}, by name")
    known = ", ".join(sorted(REGION_OPTIONS))
    for name, options in regions.items():
        is_known = isinstance(options, dict) and not options.keys() - REGION_OPTIONS
        if not NAME.fullmatch(name) or not is_known:
            raise ConfigError(f"regions: give each a name, and {known}")
        for option, value in options.items():
            if option.endswith("url"):
                check_url(f"regions.{name}.{option}", Given(value=value, origin="config"))
        if not isinstance(options.get("region", ""), str):
            raise ConfigError(f"regions.{name}.region: give a text")
