"""What it means that a server could not be reached: the one mapping of aiohttp's errors."""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

import aiohttp

from ..errors import ContractBroken, HitlessError, LocalFault, Retry, Unreachable


_HERE: Final = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE}
)


def translated(exc: Exception, provider: str, operation: str) -> HitlessError:
    """
    Return what an error of aiohttp or the operating system means.

    Raise it outside of the `except`, and from `exc` only if that is an `OSError`: the others of
    aiohttp hold a request's URL and headers, with every credential in them.
    """
    cause: BaseException = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    code = cause.errno if isinstance(cause, OSError) else None
    known: dict[str, Any] = {"provider": provider, "operation": operation}
    if isinstance(exc, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return Unreachable("TLS failed", answered=True, retry=Retry.NEXT, **known)
    if isinstance(exc, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        return Unreachable("host name not found", **known)
    if code in _HERE:
        return LocalFault(f"{provider}: {operation} failed here: {errno.errorcode[code or 0]}")
    if code == errno.ECONNREFUSED:
        return Unreachable("connection refused", answered=True, **known)
    if isinstance(exc, TimeoutError) or code == errno.ETIMEDOUT:
        return Unreachable("Connection timeout", **known)
    if isinstance(exc, aiohttp.ServerDisconnectedError) or code in (
        errno.ECONNRESET,
        errno.EPIPE,
    ):
        return Unreachable("the connection was cut", answered=True, **known)
    if isinstance(exc, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return ContractBroken(f"it does not speak HTTP ({type(exc).__name__})", **known)
    words = errno.errorcode.get(code or 0, type(exc).__name__)
    return Unreachable(f"no connection ({words})", **known)
