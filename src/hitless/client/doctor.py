"""
Whether this machine can use a provider, step by step: name, connection, certificate, clock, and
what the adapter itself can say. Media is proven by whoever calls this, with a canary.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from ..providers.base import Provider
from ..providers.checkup import Checkable, Finding, Verdict


STEP_S_MAX: Final = 5.0
"""Longest time for one step [s]."""

SKEW_S_MAX: Final = 30.0
"""A clock further off than this makes tokens fail [s]: they are valid from and until a time."""

CERTIFICATE_DAYS_MIN: Final = 14.0
"""A certificate that ends sooner is worth a word [day]."""

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "rtmp": 1935, "rtmps": 443}
_SECURE: Final = frozenset({"https", "wss", "rtmps"})
_DAY_S: Final = 86_400.0
_HEAD_BYTES_MAX: Final = 16_384


async def examine(provider: Provider, *, wall_s: Callable[[], float]) -> AsyncIterator[Finding]:
    """
    Yield what is found, as it is found. Each step is bounded; cancelling leaves nothing behind.

    Args:
        provider: The adapter; it is not closed.
        wall_s: The time of day [s since 1970].
    """
    if not isinstance(provider, Checkable):
        because = "the adapter does not say where it connects to"
        yield Finding(step="connection", verdict=Verdict.LEFT_OUT, says=because)
        return
    is_reached = True
    for url in dict.fromkeys(_origin(one) for one in provider.endpoints()):
        async for finding in _endpoint(url, wall_s):
            is_reached &= finding.verdict is not Verdict.BAD or finding.step == "clock"
            yield finding
    if not is_reached:
        return
    checkup = provider.checkup()
    while True:
        try:
            async with asyncio.timeout(2 * STEP_S_MAX):
                yield await anext(checkup)
        except StopAsyncIteration:
            return
        except TimeoutError:
            says = f"its control API did not answer within {2 * STEP_S_MAX:g} s"
            yield Finding(step="control API", verdict=Verdict.BAD, says=says)
            return


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS.get(parts.scheme, 443)}"


async def _endpoint(origin: str, wall_s: Callable[[], float]) -> AsyncIterator[Finding]:
    parts = urlsplit(origin)
    host, port = parts.hostname or "", parts.port or 0
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(STEP_S_MAX):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as exc:
        says = f"{host} is not found: {_words(exc)}"
        fix = "check the host in the configuration, and this machine's DNS"
        yield Finding(step="name", verdict=Verdict.BAD, says=says, fix=fix)
        return
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    yield Finding(step="name", verdict=Verdict.GOOD, says=f"{host} is {addresses}")

    context = ssl.create_default_context() if parts.scheme in _SECURE else None
    begun_s = loop.time()
    try:
        async with asyncio.timeout(STEP_S_MAX):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as exc:
        says = f"{host}:{port} shows a certificate that is not trusted: {exc.verify_message}"
        fix = "renew it there, or check this machine's clock and certificate store"
        yield Finding(step="certificate", verdict=Verdict.BAD, says=says, fix=fix)
        return
    except (OSError, TimeoutError) as exc:
        says = f"no connection to {host}:{port}: {_words(exc)}"
        fix = "check the port, and that no firewall is between"
        yield Finding(step="connection", verdict=Verdict.BAD, says=says, fix=fix)
        return
    try:
        took_s = loop.time() - begun_s
        says = f"{host}:{port} took it within {1000 * took_s:.0f} ms"
        yield Finding(step="connection", verdict=Verdict.GOOD, says=says)
        if context is not None:
            yield _certificate(host, writer, wall_s())
        if parts.scheme in ("http", "https", "ws", "wss"):
            yield await _clock(reader, writer, host, wall_s)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()


def _certificate(host: str, writer: asyncio.StreamWriter, now_s: float) -> Finding:
    shown = writer.get_extra_info("peercert") or {}
    days = (ssl.cert_time_to_seconds(shown["notAfter"]) - now_s) / _DAY_S if shown else 0.0
    verdict = Verdict.GOOD if days >= CERTIFICATE_DAYS_MIN else Verdict.WARNING
    fix = "" if verdict is Verdict.GOOD else "renew it before then"
    says = f"that of {host} is trusted, for {days:.0f} more days"
    return Finding(step="certificate", verdict=verdict, says=says, fix=fix)


async def _clock(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    wall_s: Callable[[], float],
) -> Finding:
    """Compare our clock with the `Date` of any answer at all."""
    try:
        async with asyncio.timeout(STEP_S_MAX):
            asked_s = wall_s()
            head = f"OPTIONS / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode("ascii", "ignore"))
            await writer.drain()
            answer = await reader.read(_HEAD_BYTES_MAX)
            heard_s = wall_s()
        lines = answer.split(b"\r\n\r\n", 1)[0].decode("latin-1").splitlines()
        dates = [one.split(":", 1)[1] for one in lines if one.lower().startswith("date:")]
        theirs_s = parsedate_to_datetime(dates[0].strip()).timestamp()
    except (OSError, TimeoutError, ValueError, IndexError, TypeError, OverflowError):
        says = f"{host} does not say what time it is"
        return Finding(step="clock", verdict=Verdict.LEFT_OUT, says=says)
    off_s = (asked_s + heard_s) / 2 - theirs_s
    if abs(off_s) <= SKEW_S_MAX:
        says = f"this machine and {host} agree within {SKEW_S_MAX:g} s"
        return Finding(step="clock", verdict=Verdict.GOOD, says=says)
    word = "ahead of" if off_s > 0 else "behind"
    return Finding(
        step="clock",
        verdict=Verdict.BAD,
        says=f"this machine is {abs(off_s):.0f} s {word} {host}: tokens are valid by the clock",
        fix="let this machine follow a time server (timedatectl set-ntp true)",
    )


def _words(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {STEP_S_MAX:g} s"
    if isinstance(exc, ssl.SSLError):  # its number is OpenSSL's, not the system's
        return "it does not speak TLS, or not with us"
    number = getattr(exc, "errno", None)
    if isinstance(exc, socket.gaierror) or not isinstance(number, int) or number <= 0:
        return str(getattr(exc, "strerror", "") or type(exc).__name__)
    return os.strerror(number)
