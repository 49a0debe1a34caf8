"""Run a node as a process: its address, its keys, its end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from ..errors import ConfigError, LocalFault
from .app import make_app
from .direct import Direct
from .garbage import keep_short
from .keys import BOOTSTRAP_VARIABLES, KeyRole, make_key
from .node import Node, NodeConfig, opened
from .plans import PLAN_VARIABLE
from .timely import Timely
from .traces import TracedRequests
from .vault import VAULT_VARIABLE, new_key


STOP_S_MAX: Final = 5.0
KEY_FILE: Final = "hitless-keys.env"
_NEEDED: Final = (VAULT_VARIABLE, PLAN_VARIABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Where to listen.

    Attributes:
        host, port: Port 0: any free one.
        certificate, private_key: PEM files for TLS; None: none.
        is_behind_proxy: Whether something in front does TLS and limits who may connect.
        proxies: Whose `X-Forwarded-For` is believed: addresses and networks, comma between them.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    private_key: Path | None = None
    is_behind_proxy: bool = False
    proxies: str = ""

    def check(self) -> None:
        """
        Refuse what would be unsafe.

        Raises:
            ConfigError: Beyond loopback without TLS; half of a certificate; no such proxies.
        """
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError("give --certificate and --private-key together")
        if "*" in self.proxies:
            raise ConfigError("server.proxies = '*' would believe every client: name the proxies")
        for proxy in filter(None, map(str.strip, self.proxies.split(","))):
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ConfigError(
                    f"server.proxies: {proxy[:80]!r} is neither an address nor a network: give "
                    "10.0.0.7 or 10.1.0.0/16, commas between them"
                ) from None
        if self.is_loopback or self.certificate is not None or self.is_behind_proxy:
            return
        raise ConfigError(
            f"listening on {self.host} without TLS would show every key: give --certificate and "
            "--private-key, or --behind-proxy if something in front of it does TLS"
        )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_address(text: str) -> tuple[str, int]:
    """
    Return host and port of `127.0.0.1:8080`, `[::1]:8080` or `:8080`.

    Raises:
        ConfigError: It is none.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"listen = {text!r} is not possible: give HOST:PORT, 127.0.0.1:8080")
    return host, int(port)


def keys_beside(database: str, environ: Mapping[str, str]) -> tuple[dict[str, str], Path | None]:
    """
    Return the environment with the server's own keys in it.

    Where none is configured and the database is a file, keys are made once and kept beside it,
    readable by its owner only, so that a first start needs nothing.

    Returns:
        The environment, and the file the keys were made in just now; None: they were there.

    Raises:
        ConfigError: Some keys are configured and others are not.
        LocalFault: The file cannot be read or written.
    """
    whole = dict(environ)
    missing = [name for name in _NEEDED if not {name, f"{name}_FILE"} & environ.keys()]
    if not missing:
        return whole, None
    if len(missing) < len(_NEEDED):
        raise ConfigError(f"{missing[0]} is not set: `hitless serve --new-keys` makes one")
    if "://" in database and not database.startswith("sqlite:///"):
        raise ConfigError(
            f"{missing[0]} is not set: make keys with `hitless serve --new-keys` and give all "
            "nodes the same"
        )
    path = Path(database.removeprefix("sqlite:///")).parent / KEY_FILE
    made = None
    try:
        if not path.exists():
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w") as file:
                file.write("".join(f"{k}={v}\n" for k, v in new_keys(0.0).items()))
            made = path
        for line in path.read_text().splitlines():
            name, _, value = line.partition("=")
            if name and not name.startswith("#"):
                whole.setdefault(name, value)
    except OSError as exc:
        raise LocalFault(f"cannot use {path} for the server's keys: {exc.strerror}") from exc
    return whole, made


def new_keys(now_s: float) -> dict[str, str]:
    """Return a new set of everything a server needs, by variable."""
    found = {VAULT_VARIABLE: new_key(), PLAN_VARIABLE: new_key()}
    for variable, role in BOOTSTRAP_VARIABLES.items():
        if role in (KeyRole.OWNER, KeyRole.CLIENT):
            found[variable] = make_key(role, now_s=now_s, name=variable).text
    return found


async def serve(
    config: NodeConfig,
    address: Address,
    environ: Mapping[str, str],
    ready: Callable[[str, Node], None],
) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Args:
        config: Of the node.
        address: Where to listen.
        environ: Holds the keys.
        ready: Called with the url once requests are answered.

    Raises:
        ConfigError: The address is unsafe or taken, or a key is missing.
        StoreUnavailable: The database cannot be opened now.
    """
    address.check()
    async with opened(config, environ) as node:
        server = _Quiet(
            uvicorn.Config(
                TracedRequests(make_app(node), node.tracer),
                host=address.host,
                port=address.port,
                ssl_certfile=address.certificate,
                ssl_keyfile=address.private_key,
                ssl_version=ssl.PROTOCOL_TLS_SERVER,
                http=Timely,  # whatever else is installed: the limit below is of this one
                ws=Direct,
                ws_max_size=1 << 17,
                ws_ping_interval=20.0,
                ws_ping_timeout=20.0,
                ws_per_message_deflate=False,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(address.proxies),
                forwarded_allow_ips=address.proxies,
                lifespan="off",
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=1 << 16,
            )
        )
        serving = asyncio.create_task(_served(server), name="hitless: http")
        collecting = asyncio.create_task(keep_short(node.hub), name="hitless: garbage")
        try:
            await _listening(server, serving, address)
            ready(_url(server, address), node)
            await _told_to_end(serving)
        finally:
            for connection in node.hub:
                connection.cut.set()
            server.should_exit = True
            collecting.cancel()
            await asyncio.wait({serving}, timeout=STOP_S_MAX)
            serving.cancel()
            await asyncio.gather(serving, collecting, return_exceptions=True)


class _Quiet(uvicorn.Server):
    """Leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # as the base class has it
        yield


async def _served(server: uvicorn.Server) -> None:
    """Serve; uvicorn exits the whole process where it cannot listen, and we end in order."""
    with contextlib.suppress(SystemExit):
        await server.serve()


async def _listening(
    server: uvicorn.Server, serving: asyncio.Task[None], address: Address
) -> None:
    while not server.started:
        if serving.done():
            raise ConfigError(
                f"cannot listen on {address.host}:{address.port}: give a free one with --listen"
            )
        await asyncio.sleep(0.01)


def _url(server: uvicorn.Server, address: Address) -> str:
    port = server.servers[0].sockets[0].getsockname()[1]
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{'https' if address.certificate else 'http'}://{host}:{port}"


async def _told_to_end(serving: asyncio.Task[None]) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    waiting = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def log_json(level: int = logging.INFO) -> None:
    """Write every log line of this process as one JSON object on standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(
                serializer=lambda event, **_: json.dumps(event, default=str)
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
