"""
What RTMP's and the operating system's failures mean: the one such mapping.

A server's own words are not quoted: many repeat the stream's name, which is often a key.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import (
    ContractBroken,
    CredentialsRejected,
    HitlessError,
    LocalFault,
    MediaLost,
    NotOnAir,
    Refused,
    Retry,
    Unreachable,
)


_HERE: Final = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE}
)
_CODE = re.compile(r"[A-Za-z][A-Za-z.]{0,63}")
_ABSENT: Final = frozenset({"NetStream.Play.StreamNotFound", "NetStream.Play.Failed.NotFound"})
_DENIED: Final = re.compile(r"denied|unauthori[sz]ed|authmod|access.?manager|forbidden", re.I)
_MISSING: Final = re.compile(r"not.?found|not.?exist|no such", re.I)
_TAKEN: Final = re.compile(r"already|in use", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """
    Makes the errors of one connection.

    Attributes:
        provider, operation: Named in each of them.
        keyed: Whether a credential is part of the address: then a no may mean that.
    """

    provider: str
    operation: str
    keyed: bool

    @property
    def _known(self) -> dict[str, Any]:  # Any: keyword arguments
        return {"provider": self.provider, "operation": self.operation}

    def timeout(self, stage: str) -> HitlessError:
        """Return the error of a far side that did not answer in time."""
        return Unreachable(f"Connection timeout: no answer to {stage}", **self._known)

    def broken(self, because: str) -> HitlessError:
        """Return the error of a far side that breaks RTMP's rules."""
        return ContractBroken(because, **self._known)

    def silent(self, because: str) -> HitlessError:
        """Return the error of a far side that is connected and carries no media."""
        return MediaLost(because, **self._known)

    def absent(self, because: str) -> HitlessError:
        """Return the error of a stream that nobody publishes."""
        return NotOnAir(f"{self.provider}: nobody publishes ({because})")

    def of_os(self, exc: OSError) -> HitlessError:
        """Return what an error of the operating system means, while connecting."""
        if isinstance(exc, ssl.SSLError):
            return Unreachable("TLS failed", answered=True, retry=Retry.NEXT, **self._known)
        if isinstance(exc, socket.gaierror):
            return Unreachable("host name not found", **self._known)
        words = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
        if exc.errno in _HERE:
            return LocalFault(f"{self.provider}: {self.operation} failed here: {words}")
        if f"Errno {errno.ECONNREFUSED}" in str(exc):
            # asyncio joins the failures of several addresses into one text
            return Unreachable("connection refused", answered=True, **self._known)
        if exc.errno in (errno.ECONNRESET, errno.EPIPE):
            return Unreachable("the connection was cut", answered=True, **self._known)
        return Unreachable(f"no connection ({words})", **self._known)

    def closed(self, stage: str, exc: Exception | None) -> HitlessError:
        """Return what it means that the far side closed the connection at a stage."""
        if not stage:
            how = "cut the connection" if exc else "closed the connection"
            return MediaLost(f"it {how}", **self._known)
        if stage in ("the connection", "the handshake"):
            return Unreachable(f"it closed the connection during {stage}", answered=True,
                               **self._known)  # fmt: skip
        because = f"it closed the connection in answer to {stage}"
        if stage == "connect":
            return Refused(f"{because}: is there such an application?", **self._known)
        return self._no(f"{because}: is the name right, and allowed?")

    def refused(self, stage: str, info: Mapping[str, Any]) -> HitlessError:
        """Return what an `_error` means."""
        return self.refusal_of(stage, {**info, "level": "error"}) or self.broken("an empty error")

    def refusal_of(self, stage: str, info: Mapping[str, Any]) -> HitlessError | None:
        """Return what an onStatus refuses; None: it refuses nothing."""
        code, text = str(info.get("code", "")), str(info.get("description", ""))
        shown = code if _CODE.fullmatch(code) else "no code"
        if code in _ABSENT:
            return self.absent(shown)
        if info.get("level") != "error" and not code.endswith((".Rejected", ".BadName")):
            return None
        if _DENIED.search(code) or _DENIED.search(text):
            return self._no(f"{stage} was denied ({shown})")
        if stage == "play" and _MISSING.search(text):
            return self.absent(shown)
        if _TAKEN.search(text):
            return Refused(f"somebody publishes it already ({shown})", **self._known)
        return Refused(f"{stage} was rejected ({shown})", **self._known)

    def _no(self, because: str) -> HitlessError:
        """A no that may be meant for the credential, if there is one."""
        if self.keyed:
            return CredentialsRejected(because, retry=Retry.NEXT, **self._known)
        return Refused(because, **self._known)
