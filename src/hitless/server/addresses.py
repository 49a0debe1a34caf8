"""
Which addresses the server may be sent to: webhooks and probes go where somebody else says.

A name is resolved once, every address judged, and the connection made to what was judged: a name
that changes its address between look and leap (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..errors import ConfigError, HitlessError


if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Allowed = Literal[True] | Sequence[Network]
"""Networks that may be reached although they are not public; True: all."""

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name, best first; raises OSError if it has none."""

RESOLVE_S: Final = 5.0
"""How long a name may take [s]."""

URL_CHARS_MAX: Final = 2_048
_ADDRESSES_MAX: Final = 16
_HOST_CHARS_MAX: Final = 253  # RFC 1035 section 2.3.4, without the dots at the ends

# What `socket` or a C library would read as an IPv4 address in one of its old spellings: 127.1,
# 0x7f000001, 2130706433 (WHATWG URL section 3.5, "ends in a number").
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE | re.ASCII)


def _named(because: str, *networks: str) -> tuple[tuple[Network, str], ...]:
    return tuple((ipaddress.ip_network(network), because) for network in networks)


_NOT_PUBLIC: Final[tuple[tuple[Network, str], ...]] = (
    *_named("unspecified", "0.0.0.0/8", "::/128"),
    *_named("loopback", "127.0.0.0/8", "::1/128"),
    *_named("link-local", "169.254.0.0/16", "fe80::/10"),
    *_named("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    *_named("shared by a carrier (RFC 6598)", "100.64.0.0/10"),
    *_named("multicast", "224.0.0.0/4", "ff00::/8"),
    *_named("broadcast", "255.255.255.255/32"),
    *_named(
        "reserved",
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "3fff::/20"),
    ),
)
"""
IANA's special-purpose registries (RFC 6890), first match counts; of IPv6 what lies in
`_GLOBAL_IPV6` or has a word of its own. Spelled out, because `ipaddress.is_private` differs
between releases of Python.
"""

_GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")
"""All that IANA gives out as global unicast (RFC 4291 section 2.4)."""

_EMBEDDED: Final[tuple[tuple[ipaddress.IPv6Network, int], ...]] = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped, RFC 4291 section 2.5.5.2
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052 section 2.1
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056 section 2
)
"""Networks whose addresses stand for an IPv4 address, and how far that is from the end [bit]."""


class TargetRefused(HitlessError):
    """
    The server does not connect there; change the URL, or name its network in `allow_private`.

    Attributes:
        because: Why, in words; the URL is not in it, for it may hold a credential.
    """

    def __init__(self, because: str) -> None:
        super().__init__(because)
        self.because = because


class TargetUnresolved(TargetRefused):
    """Its name has no address now; asking again later may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedTarget:
    """
    A target that was judged.

    Attributes:
        url: Where to; its path and query may hold a credential, so it is not printed.
        host: Name or address in the URL.
        port: TCP port.
        addresses: What to connect to and nothing else, best first; at least one.
    """

    url: URL
    host: str
    port: int
    addresses: tuple[str, ...]

    def __repr__(self) -> str:
        return f"ResolvedTarget({self.host}, {self.port}, {self.addresses})"

    @property
    def address(self) -> str:
        """The address to connect to."""
        return self.addresses[0]


def parse_allowed(networks: Sequence[str]) -> tuple[Network, ...]:
    """
    Return networks written as `127.0.0.0/8`.

    Raises:
        ConfigError: One is no network; names it.
    """
    try:
        return tuple(map(ipaddress.ip_network, networks))
    except ValueError as exc:
        raise ConfigError(f"allow_private: {exc}: write 127.0.0.0/8") from None


def not_public(address: str) -> str | None:
    """
    Return why an address is not of the public internet, in a word; None: it is.

    Raises:
        ValueError: It is no address.
    """
    return _judged(ipaddress.ip_address(address), ())


async def check_target(
    url: str,
    resolver: Resolver | None = None,
    *,
    allow_private: Allowed = (),
    timeout_s: float = RESOLVE_S,
) -> ResolvedTarget:
    """
    Return where a request to `url` may connect to.

    Args:
        url: Any text.
        resolver: Finds the addresses of a name; None: the system's.
        allow_private: Networks allowed besides the public ones; True: everything.
        timeout_s: How long the name may take [s].

    Raises:
        TargetUnresolved: Its name has no address, or none in time.
        TargetRefused: Not http or https, with a user or password in it, no usable host, or one
            of its addresses is not public and not allowed. One is enough: which of them is taken
            would be chance.
    """
    parsed, host, port = _parsed(url)
    literal = _literal(host)
    found = (
        [host] if literal else await _resolved(resolver or system_resolver, host, port, timeout_s)
    )
    addresses = []
    for text in found[:_ADDRESSES_MAX]:
        address = _literal(text)
        if address is None:
            raise TargetUnresolved("its name resolves to something that is no address")
        if why := _judged(address, allow_private):
            raise TargetRefused(
                f"{address} is {why}: where that is meant, name its network in "
                "server.allow_private"
            )
        addresses.append(str(address))
    if not addresses:
        raise TargetUnresolved("its name has no address")
    return ResolvedTarget(url=parsed, host=host, port=port, addresses=tuple(addresses))


async def check_redirect(
    target: ResolvedTarget,
    location: str,
    resolver: Resolver | None = None,
    *,
    allow_private: Allowed = (),
    timeout_s: float = RESOLVE_S,
) -> ResolvedTarget:
    """
    Return where a redirect may lead: judged like any other target, and never out of https.

    Args:
        target: Where the answer came from.
        location: Its `Location`: any text.
        resolver: As for `check_target`, like the rest.
        allow_private: Networks allowed besides the public ones; True: everything.
        timeout_s: How long the name may take [s].

    Raises:
        TargetRefused: As for `check_target`.
    """
    try:
        url = target.url.join(URL(location))
    except ValueError:
        raise TargetRefused("it redirects to something that is not a URL") from None
    if target.url.scheme == "https" and url.scheme != "https":
        raise TargetRefused("it redirects from https to something else")
    return await check_target(str(url), resolver, allow_private=allow_private, timeout_s=timeout_s)


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the system; see `Resolver`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


# --- Connecting ---


class PinnedConnector(aiohttp.TCPConnector):
    """
    A connector that reaches one judged target and nothing else.

    The name stays in `Host`, in TLS and in the check of the certificate. A redirect that aiohttp
    would follow by itself, or a second URL by mistake, ends with `TargetRefused`. Its session
    must not use a proxy (`trust_env`), which would resolve the name once more.

    Args:
        target: From `check_target`.
    """

    def __init__(self, target: ResolvedTarget) -> None:
        super().__init__(
            resolver=_Pinned(target),
            use_dns_cache=False,
            limit=1,
            force_close=True,  # the next request is judged anew
        )
        self._origin = target.url.origin()

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 -- aiohttp's signature
    ) -> Connection:
        """Connect to the target; see `aiohttp.BaseConnector.connect`."""
        if req.url.origin() != self._origin or req.proxy is not None:
            raise TargetRefused("this connection is for another target")
        return await super().connect(req, traces, timeout)


def resolved(target: ResolvedTarget, host: str, port: int) -> list[ResolveResult]:
    """Return the judged addresses of a host as a resolver answers them."""
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


class _Pinned(AbstractResolver):
    """Answers with what was judged."""

    def __init__(self, target: ResolvedTarget) -> None:
        self._target = target

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host != self._target.host or port != self._target.port:
            raise OSError("this connection is for another target")
        return resolved(self._target, host, port)

    async def close(self) -> None:
        """Nothing to close."""


# --- Judging ---


def _parsed(text: str) -> tuple[URL, str, int]:
    if len(text) > URL_CHARS_MAX or not text.isprintable() or " " in text:
        raise TargetRefused(f"a URL has at most {URL_CHARS_MAX} characters and no spaces")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError:
        raise TargetRefused("it is not a URL") from None
    if url.scheme not in ("http", "https"):
        raise TargetRefused("a URL must begin with https:// or http://")
    if url.user is not None or url.password is not None:
        raise TargetRefused("a user or password in a URL would be logged by others: leave it out")
    if not host or not port or len(host) > _HOST_CHARS_MAX + 1:
        raise TargetRefused("a URL needs a host and a port above 0")
    if "%" in host:
        raise TargetRefused("a host with % in it (a zone, an escape) is not accepted")
    if _literal(host) is None and _NUMERIC.fullmatch(host):
        raise TargetRefused("a host that ends in a number must be written as 192.0.2.1")
    return url, host, port


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _resolved(resolver: Resolver, host: str, port: int, timeout_s: float) -> Sequence[str]:
    try:
        async with asyncio.timeout(timeout_s):
            return await resolver(host, port)
    except TimeoutError:
        raise TargetUnresolved(f"its name was not resolved within {timeout_s:g} s") from None
    except (OSError, UnicodeError):  # UnicodeError: a label that IDNA cannot encode
        raise TargetUnresolved("its name cannot be resolved") from None


def _judged(address: Address, allowed: Allowed) -> str | None:
    """Return why an address may not be reached; None: it may."""
    meant = _meant(address)
    if allowed is True or any(meant in network or address in network for network in allowed):
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "link-local"  # a zone means something on this machine only
    found = next((why for network, why in _NOT_PUBLIC if meant in network), None)
    if found is None and isinstance(meant, ipaddress.IPv6Address) and meant not in _GLOBAL_IPV6:
        return "reserved"
    return found


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    for network, shift in _EMBEDDED:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
    return address
