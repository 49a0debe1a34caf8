"""
Where Agora's services are, and in which order its REST hosts are asked.

From Agora's documents as of 2026-07-01: `_switch-domain-name.mdx` (REST) and the pages of the
Media Gateway (ingest).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final, assert_never

from yarl import URL

from ..errors import ConfigError, Retry, Unreachable
from .rest import Reply, checked_origin, is_dns


BACK_OFF_S: Final = (1.0, 3.0, 6.0)
"""Pauses before the first, second and third retry [s]."""

_WORLD: Final = "agora.io"
_CHINA: Final = "sd-rtn.com"
_AGAIN: Final = frozenset({500, 502, 503, 504})


class Region(StrEnum):
    """Where streams are taken in."""

    NA = "na"
    EU = "eu"
    AP = "ap"
    CN = "cn"


_ADJACENT: Final = {
    Region.NA: "us-west-1",
    Region.EU: "eu-west-1",
    Region.AP: "ap-northeast-1",
    Region.CN: "cn-north-1",
}
"""
Whom a region falls back on. The document names eu-west-1 for Europe as its example; the others
are our choice among the hosts of its table.
"""


def region_of(name: str) -> Region:
    """
    Return a region by its name.

    Raises:
        ConfigError: There is none; the message lists those that there are.
    """
    try:
        return Region(name)
    except ValueError:
        known = ", ".join(Region)
        raise ConfigError(f"region = {name[:20]!r}: Agora takes in streams in {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """
    The REST hosts of one account, as `https://host`; plain http for stand-ins on loopback only.

    Attributes:
        primary: Asked first.
        alternate: The same service under the other domain.
        adjacent: A neighbouring region.
        adjacent_alternate: The same under the other domain.

    Raises:
        ConfigError: One of them is no such address.
    """

    primary: str
    alternate: str
    adjacent: str
    adjacent_alternate: str

    def __post_init__(self) -> None:
        for name in ("primary", "alternate", "adjacent", "adjacent_alternate"):
            checked_origin(f"hosts.{name}", getattr(self, name))


def hosts_of(region: str) -> Hosts:
    """
    Return the REST hosts for a server of ours in `region`: `na`, `eu`, `ap` or `cn`.

    Raises:
        ConfigError: No such region.
    """
    where = region_of(region)
    first, second = (_CHINA, _WORLD) if where is Region.CN else (_WORLD, _CHINA)
    near = _ADJACENT[where]
    return Hosts(
        primary=f"https://api.{first}",
        alternate=f"https://api.{second}",
        adjacent=f"https://api-{near}.{first}",
        adjacent_alternate=f"https://api-{near}.{second}",
    )


def ingest_hosts(region: str) -> tuple[str, ...]:
    """
    Return the RTMP hosts of a region, the first choice first; the application is `live`.

    `rtmp://HOST/live/KEY` is put together from the page, which does not quote it.

    Raises:
        ConfigError: No such region.
    """
    where = region_of(region)
    first = f"rtls-ingress-prod-{where}.agoramdn.com"
    if where is Region.CN:
        return (first, "rtls-ingress-prod-backup-cn.agoramdn.com")
    return (first, f"{where}.rtmpg.rtelink.com", f"{where}-backup.rtmpg.rtelink.com")


class _Step(Enum):
    PRIMARY = auto()
    PRIMARY_AGAIN = auto()
    ALTERNATE = auto()
    ADJACENT = auto()


async def in_order(
    hosts: Hosts,
    attempt: Callable[[URL], Awaitable[Reply]],
    *,
    deadline: float,
    back_off_s: tuple[float, ...] = BACK_OFF_S,
) -> tuple[Reply, int]:
    """
    Ask the hosts in the documented order until one answers.

    The primary, the primary again, the alternate domain, the adjacent region. After a failure of
    the network that was not one of DNS, the alternate domain is left out: it leads to the same
    machines. If the primary's name was not found, the adjacent region is asked under the other
    domain (the document allows either).

    Args:
        hosts: Whom to ask.
        attempt: Asks the host with this origin once.
        deadline: When to stop [s, the loop's clock]: no pause is begun that would end later.
        back_off_s: Pauses before each retry [s]; empty: one attempt and no retry.

    Returns:
        The answer, and how many attempts were made. An answer of 500, 502, 503 or 504 is asked
        for again as well, and is returned when there is nobody left to ask.

    Raises:
        Unreachable: Nobody answered; the last failure, with `Retry.NEXT` after several attempts.
    """
    loop = asyncio.get_running_loop()
    ahead = list(_Step)
    is_name_found = True
    tries = 0
    while True:
        step = ahead.pop(0)
        tries += 1
        reply: Reply | None = None
        failure: Unreachable | None = None
        try:
            reply = await attempt(URL(_origin(hosts, step, is_name_found=is_name_found)))
        except Unreachable as exc:
            failure = exc
            if not is_dns(exc) and _Step.ALTERNATE in ahead:
                ahead.remove(_Step.ALTERNATE)
            if step in (_Step.PRIMARY, _Step.PRIMARY_AGAIN):
                is_name_found = not is_dns(exc)
        if reply is not None and reply.status not in _AGAIN:
            return reply, tries
        pause_s = back_off_s[tries - 1] if ahead and tries <= len(back_off_s) else None
        if pause_s is None or loop.time() + pause_s >= deadline:
            if reply is not None:
                return reply, tries
            assert failure is not None
            if tries > 1:
                failure.retry = Retry.NEXT  # the same provider was asked again already
            raise failure
        await asyncio.sleep(pause_s)


def _origin(hosts: Hosts, step: _Step, *, is_name_found: bool) -> str:
    match step:
        case _Step.PRIMARY | _Step.PRIMARY_AGAIN:
            return hosts.primary
        case _Step.ALTERNATE:
            return hosts.alternate
        case _Step.ADJACENT:
            return hosts.adjacent if is_name_found else hosts.adjacent_alternate
        case _:
            assert_never(step)
