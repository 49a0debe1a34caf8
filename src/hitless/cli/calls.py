"""
How a command asks a running server: its address, the operator's key, one call, its errors.

A key comes from the environment or a file, never from the command line, where the list of
processes and the shell's history would show it. It is sent to the address that was given and
along no redirect; in clear only to this machine.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import sys
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar
from urllib.parse import quote, urlsplit

import click
import msgspec

from ..client.secret import Secret
from ..errors import ConfigError, HitlessError
from ..server.wire import Data, Failure
from .words import clean


if TYPE_CHECKING:
    import aiohttp

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:8080"
CONNECT_S_MAX: Final = 5.0
CALL_S_MAX: Final = 30.0
"""No answer by then: it is given up [s]."""
FLEET_S_MAX: Final = 300.0
"""The same for calls that move or check many at once [s]."""
ANSWER_BYTES_MAX: Final = 32 << 20

_KEY: Final = re.compile(r"hk_[a-z0-9]+_[A-Za-z0-9_-]+", re.ASCII)


class Needs(IntEnum):
    """Which key a call needs, at least."""

    VIEWER = 0
    OPERATOR = 1
    OWNER = 2


_VARIABLES: Final = ("HITLESS_VIEWER_KEY", "HITLESS_OPERATOR_KEY", "HITLESS_OWNER_KEY")
"""By what they may do; the server's own names for its first keys."""

_WHERE_NEXT: Final = {
    "unknown-provider": "hitless providers",
    "unknown-stream": "hitless streams",
    "unknown-key": "hitless keys",
}


class CallFailed(HitlessError):
    """
    The server did not do it, or did not answer; the sentence says what to try.

    Attributes:
        status: HTTP status; None: there was no answer.
    """

    def __init__(self, because: str, *, status: int | None = None) -> None:
        super().__init__(because)
        self.status = status


class NotThere(ConfigError):
    """The server knows no provider, stream or key of that name."""


class ServerIsOlder(ConfigError):
    """The server does not know this call."""


class Server:
    """
    A running server.

    Nothing is checked before somebody asks it.

    Args:
        url: Its address; empty: `HITLESS_SERVER`, else this machine's port 8080.
        environ: Where address and keys are.
        allow_http: Whether a key may go in clear to another machine.
    """

    def __init__(self, url: str, environ: Mapping[str, str], *, allow_http: bool = False) -> None:
        self._said = url or environ.get("HITLESS_SERVER", "") or DEFAULT_URL
        self._environ, self._allow_http = environ, allow_http

    @property
    def url(self) -> str:
        """
        Where it is, without a slash at the end.

        Raises:
            ConfigError: It is no address, or a key would go in clear to another machine.
        """
        return _checked(self._said, self._allow_http)

    def ask(
        self,
        shape: type[T],
        method: str,
        path: str,
        *,
        needs: Needs = Needs.VIEWER,
        query: Mapping[str, object] | None = None,
        body: object = None,
        limit_s: float = CALL_S_MAX,
    ) -> T:
        """
        Call the server once.

        Args:
            shape: What it answers.
            method, path: Which call; `path` is quoted already (`segment`).
            needs: Which key; the weakest one that is configured and may do it is taken.
            query: Parameters; those that are None are left out.
            body: What is sent as JSON; None: nothing.
            limit_s: When to give up [s].

        Raises:
            ConfigError: No key, one that may not do it, or the server says that it is impossible;
                `NotThere` if it is a name that it does not know.
            CallFailed: No answer, no time, or the server could not do it.
        """
        url, (origin, key) = self.url, self._key(needs)
        headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
        given = {k: _word(v) for k, v in (query or {}).items() if v is not None}
        sent = None if body is None else msgspec.json.encode(body)
        if sent is not None:
            headers["Content-Type"] = "application/json"
        call = _Call(method, url + path, given, headers, sent, limit_s)
        status, said = asyncio.run(_called(call, url))
        if status // 100 != 2:
            raise _refusal(status, said, url, path, origin, needs)
        try:
            return msgspec.json.decode(
                msgspec.json.decode(said, type=Data[msgspec.Raw]).data, type=shape
            )
        except msgspec.MsgspecError as exc:
            raise CallFailed(
                f"{url} answers something else than this version of Hitless expects: {exc}",
                status=status,
            ) from exc

    def _key(self, needs: Needs) -> tuple[str, str]:
        """Return where the key is from, and it."""
        weaker = reversed(_VARIABLES[:needs])  # the server will say that it may not
        for name in ("HITLESS_KEY", *_VARIABLES[needs:], *weaker):
            place = _kept(name, self._environ)
            if place is None:
                continue
            words = place.read(self._environ).split()
            if not _KEY.fullmatch(words[0]):  # several: a rotation, the newest first
                raise ConfigError(f"{place} holds no key: hk_<id>_<secret> is one")
            return str(place), words[0]
        raise ConfigError(
            f"no key: set HITLESS_KEY, or HITLESS_KEY_FILE to a file with nothing else in it; "
            f"{_a_key(needs)} will do (the first start of `hitless serve` made an owner's key: it "
            "is in hitless-keys.env beside the database)"
        )


def segment(name: str) -> str:
    """Return a name as one segment of a path."""
    return quote(name, safe="")


def asks_server(function: Callable[Concatenate[Server, P], R]) -> Callable[P, R]:
    """Give a command `--server` and `--allow-http`, and as its first argument the server."""

    @click.option(
        "--server",
        callback=_taken,
        expose_value=False,
        metavar="URL",
        help=f"The server; else $HITLESS_SERVER, else {DEFAULT_URL}.",
    )
    @click.option(
        "--allow-http",
        is_flag=True,
        callback=_taken,
        expose_value=False,
        help="Send the key in clear to another machine.",
    )
    @functools.wraps(function)
    def with_server(*args: P.args, **kwargs: P.kwargs) -> R:
        said = click.get_current_context().meta
        url, allow_http = said.get(f"{__name__}.server", ""), f"{__name__}.allow_http" in said
        return function(Server(url, os.environ, allow_http=allow_http), *args, **kwargs)

    return with_server


def _taken(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:  # before and behind a subcommand's name: one place knows
        ctx.meta[f"{__name__}.{param.name}"] = value


because_option: Final = click.option(
    "--because", default="", metavar="TEXT", help="Why: for the audit log."
)
yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask.")


def confirm(question: str, *, is_sure: bool) -> None:
    """
    Ask on a terminal; elsewhere nobody could answer.

    Raises:
        CallFailed: The answer was no.
    """
    if is_sure or not sys.stdin.isatty():
        return
    if not click.confirm(question, err=True):
        raise CallFailed("nothing was done")


# --- Inside ---


class _Call(msgspec.Struct, frozen=True):
    method: str
    url: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes | None
    limit_s: float


async def _called(call: _Call, url: str) -> tuple[int, bytes]:
    """Return status and body of the answer."""
    import aiohttp  # here: it costs what `--help` does not need

    limit = aiohttp.ClientTimeout(total=call.limit_s, sock_connect=CONNECT_S_MAX)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as http,
            http.request(
                call.method,
                call.url,
                params=call.query,
                data=call.body,
                headers=call.headers,
                allow_redirects=False,
            ) as answer,
        ):
            said = bytearray()
            async for part in answer.content.iter_chunked(1 << 16):
                said += part
                if len(said) > ANSWER_BYTES_MAX:
                    raise CallFailed(f"{url} answers more than {ANSWER_BYTES_MAX >> 20} MiB")
            return answer.status, bytes(said)
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise CallFailed(_unreached(exc, url, call)) from exc


def _unreached(exc: aiohttp.ClientError | TimeoutError, url: str, call: _Call) -> str:
    """Say why there was no answer, and what to do."""
    import aiohttp

    done = (
        "" if call.method == "GET" else "; it may have been done all the same: see `hitless audit`"
    )
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return f"{url} cannot be reached: no connection within {CONNECT_S_MAX:g} s"
        case TimeoutError():
            return f"{url} did not answer within {call.limit_s:g} s{done}"
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"the certificate of {url} is not trusted: {exc.certificate_error}; if a private "
                "authority signed it, set SSL_CERT_FILE to that one's certificate"
            )
        case aiohttp.ClientConnectorDNSError():
            return f"{url} cannot be found: no such host; give another one with --server"
        case aiohttp.ClientConnectorSSLError():
            return f"{url} does not speak TLS: begin the address with http://"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return (
                f"nothing listens at {url}: is it running? Start it with `hitless serve`, or say "
                "where it is with --server or HITLESS_SERVER"
            )
        case aiohttp.ClientConnectorError():
            return f"{url} cannot be reached: {exc.os_error.strerror or exc.os_error}"
        case aiohttp.ClientResponseError():
            return f"{url} does not speak HTTP: if it speaks TLS, begin the address with https://"
        case _:
            return f"{url} hung up before it had answered{done}"


def _refusal(
    status: int, said: bytes, url: str, path: str, origin: str, needs: Needs
) -> HitlessError:
    """Return what to raise for an answer that is no success."""
    try:
        error = msgspec.json.decode(said, type=Failure).error
    except msgspec.MsgspecError:
        if 300 <= status < 400:
            return ConfigError(f"{url} sends us elsewhere: give the right address with --server")
        return CallFailed(
            f"{url} answers HTTP {status} to {path}, as no Hitless server does: look at --server",
            status=status,
        )
    because = clean(error.message)
    match status:
        case 401:
            return ConfigError(
                f"the server does not accept the key in {origin}: {because}; set HITLESS_KEY or "
                "HITLESS_KEY_FILE to one that it knows"
            )
        case 403:
            return ConfigError(
                f"{because}; {_a_key(needs)} is needed: set HITLESS_KEY or HITLESS_KEY_FILE to one"
            )
        case 404 if error.code in _WHERE_NEXT:
            return NotThere(f"{because} (see `{_WHERE_NEXT[error.code]}`)")
        case 404 | 405:
            return ServerIsOlder(f"{url} does not know {path}: is the server older than this?")
        case 400 | 422:
            return ConfigError(because)
        case 503:
            return CallFailed(f"the server cannot do it now: {because}", status=status)
        case _:
            return CallFailed(because, status=status)


def _checked(url: str, allow_http: bool) -> str:
    """Return the address without a slash at its end."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", 0
    if not host or port == 0 or parts.scheme not in ("http", "https") or not url.isprintable():
        raise ConfigError("the server's address must be http(s)://host[:port]")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            "the server's address must hold no user, password, ? or #: the key comes from "
            "HITLESS_KEY or HITLESS_KEY_FILE"
        )
    if parts.scheme == "http" and not (allow_http or _is_here(host)):
        raise ConfigError(
            f"the key would go to {host} in clear: use https, or say --allow-http if the way "
            "there is safe"
        )
    return url.rstrip("/")


def _is_here(host: str) -> bool:
    # `media/peer.py` has the same question with an answer that costs a second to import.
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _kept(name: str, environ: Mapping[str, str]) -> Secret | None:
    # As `server/vault.py` has it for the server's own keys; that needs the extra `server`.
    file, is_given = environ.get(f"{name}_FILE", "").strip(), bool(environ.get(name, "").strip())
    if file and is_given:
        raise ConfigError(f"{name} and {name}_FILE are both set: unset one")
    if file:
        return Secret(key=name, file=Path(file))
    return Secret(key=name, variable=name) if is_given else None


def _a_key(needs: Needs) -> str:
    return f"{'a' if needs is Needs.VIEWER else 'an'} {needs.name.lower()}'s key"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
