"""
The lab's stage: stand-ins, the server, a relay, publishers and viewers, each its own process.

The server is the real one, `hitless serve`, behind a front that can make it slow, broken, lying
or away. Ends speak with it as clients of a control plane; on a stage that is `alone` they use its
list and its health answers only, as those of any other backend.

Everything is started through the guard, so nothing outlives whoever holds the stage. A stand-in
that was killed is started again on its old port. Where a fault is injected (a signal, a stand-in's
control, the relay, the front, an operator's call) is read from the catalogue of faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from ..errors import ConfigError, LocalFault
from .faults import Fault, Place, find, numbers
from .guard import Guard
from .process import Process
from .wire import CLIENT_KEY_ENV, TOKEN_ENV


PROVIDERS: Final = ("agora", "zegocloud", "webrtc")
"""The stand-ins' names; they are not the companies' services."""

SERVERS: Final = ("janus", "rtmp")
"""Real servers that a stage can have in their place, where they are installed."""

LAB_ENV: Final[Mapping[str, str]] = {
    "HITLESS_SERVER__ALLOW_PRIVATE": "127.0.0.0/8",
    "HITLESS_SERVER__PROXIES": "127.0.0.1",
}
"""Configuration of every process of the lab."""

SERVER: Final = "server"
"""What the control plane is called here: `killed` and `hang` are faults of it too."""

OTHER_SERVER: Final = "server-2"

_KEY_FILE: Final = "hitless-keys.env"
_LINE_BYTES_MAX = 1 << 22


class Stage:
    """
    The lab, as processes.

    Args:
        folder: Where records and logs go; it exists.
        providers: Names of the stand-ins, best first.
        ports: Ports of the stand-ins by name; others get any free one.
        is_alone: Whether the ends decide without the server.
        env: Configuration of the server.
    """

    def __init__(
        self,
        folder: Path,
        providers: Sequence[str] = PROVIDERS,
        *,
        ports: Mapping[str, int] | None = None,
        is_alone: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.names = folder, tuple(providers)
        self.token = secrets.token_urlsafe(24)
        self.stands: dict[str, Process] = {}
        self.urls: dict[str, str] = {}
        self.server: Process | None = None
        self.other_server: Process | None = None
        self.front: Process | None = None
        self.relay: Process | None = None
        self.is_alone, self._env = is_alone, dict(env or {})
        self.broken: dict[str, list[str]] = {}
        self._ports = dict(ports or {})
        self._keys: dict[str, str] = {}
        self._guard = Guard(grace_s=2.0)
        self.processes: list[Process] = []
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._guard.start()
            limit = aiohttp.ClientTimeout(total=5)
            # A new connection each time: one kept alive may be closed just when it is used.
            connector = aiohttp.TCPConnector(force_close=True)
            self._http = aiohttp.ClientSession(timeout=limit, connector=connector)
            await asyncio.gather(
                self.start_server(), *(self.start_stand(name) for name in self.names)
            )
            self.front = await self._start(
                "front", "hitless.lab.front", f"--upstream={self.urls[SERVER]}"
            )
            self.urls["backend"] = self.front.lines[0]["url"]
            for place, name in enumerate(self.names, start=1):
                await self._register(name, place)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every process. Idempotent; at most 5 s."""
        for process in self.processes:
            await process.aclose()
        self.processes.clear()
        if self._http is not None:
            await self._http.close()
        await self._guard.aclose()

    @property
    def group(self) -> int:
        """Number of the process group that everything of the stage runs in."""
        return self._guard.pid

    async def guard_lost(self) -> None:
        """Wait until nobody guards the processes any more. Raises LocalFault then."""
        await self._guard.lost()

    # --- Processes ---

    async def start_stand(self, name: str) -> None:
        """Start a stand-in, on the port it had before."""
        stand = await self._start(
            name, "hitless.lab.stand", f"--name={name}", f"--port={self._ports.get(name, 0)}"
        )
        url = stand.lines[0]["url"]
        self.stands[name], self.urls[name] = stand, url
        self._ports[name] = int(url.rsplit(":", 1)[1])

    async def start_server(self) -> None:
        """Start the control plane, on the address and the database it had before."""
        listen = self.urls.get(SERVER, "http://127.0.0.1:0").removeprefix("http://")
        self.server = await self._start(
            SERVER,
            "hitless",
            "serve",
            f"--listen={listen}",
            f"--database={self.folder / 'hitless.db'}",
            "--name=lab",
            "--open-list",
            "--ready-json",
        )
        self.urls[SERVER] = self.server.lines[0]["url"]
        lines = (self.folder / _KEY_FILE).read_text().splitlines()
        self._keys = dict(line.split("=", 1) for line in lines if "=" in line)

    async def start_other_server(self) -> None:
        """Start a second node on the same database."""
        self.other_server = await self._start(
            OTHER_SERVER,
            "hitless",
            "serve",
            "--listen=127.0.0.1:0",
            f"--database={self.folder / 'hitless.db'}",
            "--name=lab-2",
            "--open-list",
            "--ready-json",
        )
        self.urls[OTHER_SERVER] = self.other_server.lines[0]["url"]

    async def start_network(self, name: str, address: str) -> str:
        """Start a front of its own for clients of another network; return its URL."""
        front = await self._start(
            name, "hitless.lab.front", f"--upstream={self.urls[SERVER]}", f"--network={address}"
        )
        url: str = front.lines[0]["url"]
        return url

    async def front_to(self, name: str) -> None:
        """Let the front turn to a server, as a balancer does."""
        body = {"upstream": self.urls[name]}
        await self.control(self.urls["backend"] + "/control", body, method="PATCH")

    async def _register(self, name: str, place: int) -> None:
        url = self.urls[name]
        body = {
            "adapter": "whip",
            "priority": place,
            "config": {
                "url": f"{url}/whip/{{stream}}",
                "view_url": f"{url}/whep/{{stream}}",
                "probe": "control",  # two cores carry the drill's own media, and no canary's
            },
        }
        await self.admin(f"/v1/admin/providers/{name}", body, method="POST")

    async def start_relay(self) -> dict[str, str]:
        """Start the relay and return the URLs behind it, of the backend too."""
        given = [f"--upstream={name}={url}" for name, url in self.urls.items()]
        self.relay = await self._start("relay", "hitless.lab.netem", *given)
        urls: dict[str, str] = self.relay.lines[0]["upstreams"]
        return urls

    async def start_end(
        self,
        role: str,
        stream: str,
        *options: str,
        urls: Mapping[str, str] | None = None,
        policy: Mapping[str, object] | None = None,
        names: Sequence[str] | None = None,
        label: str | None = None,
    ) -> Process:
        """
        Start a publisher or a viewer of `stream` and return once it runs.

        Args:
            role: `publisher` or `viewer`.
            stream: Its id.
            options: More options of `hitless.lab.ends`.
            urls: Where it finds stand-ins and backend; None: directly.
            policy: Fields of `Policy`.
            names: The stand-ins it knows, in order; None: all.
            label: What it is called; None: its role.
        """
        urls = dict(urls or self.urls)
        label = label or role
        return await self._start(
            label,
            "hitless.lab.ends",
            role,
            f"--stream={stream}",
            f"--policy={json.dumps(dict(policy or {}))}",
            f"--record={self.folder / f'{label}.jsonl'}",
            *([f"--backend={urls['backend']}"] if "backend" in urls else []),
            *([] if self.is_alone or "backend" not in urls else [f"--client={label}"]),
            *(f"--provider={name}={urls[name]}" for name in names or self.names),
            *options,
        )

    async def _start(self, name: str, module: str, *options: str) -> Process:
        env = {**os.environ, **LAB_ENV, TOKEN_ENV: self.token, "PYTHONUNBUFFERED": "1"}
        if name in (SERVER, OTHER_SERVER):
            env |= self._env
        else:
            env[CLIENT_KEY_ENV] = self._keys.get(CLIENT_KEY_ENV, "")
        with (self.folder / f"{name}.log").open("ab") as log:
            child = await self._guard.spawn(
                [sys.executable, "-m", module, *options],
                env=env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_LINE_BYTES_MAX,
            )
        process = Process(name, child)
        self.processes.append(process)
        try:
            await process.until(lambda: bool(process.lines), what="sign of life")
        except LocalFault as exc:
            said = (self.folder / f"{name}.log").read_text(errors="replace").strip()
            tail = said.splitlines()[-1] if said else "it said nothing"
            raise LocalFault(f"{exc}: {tail}") from exc
        return process

    # --- Breaking and healing ---

    async def break_(
        self, name: str, fault: str, given: Mapping[str, object] | None = None
    ) -> None:
        """
        Break a stand-in, its network or its backend.

        Args:
            name: A stand-in; `*` for the relay's all; any for faults of the whole backend.
            fault: A name of the catalogue.
            given: Numbers of the fault.

        Raises:
            ConfigError: An unknown name, fault or number.
        """
        found = find(fault)
        await self._inject(name, found, {**found.order, **numbers(found, given or {})})
        self.broken.setdefault(name, []).append(fault)

    async def heal(self, name: str) -> None:
        """End every fault of a stand-in; start it again if it was killed."""
        self._check(name)
        for fault in dict.fromkeys(self.broken.pop(name, [])):
            found = find(fault)
            if found.heal:
                await self._inject(name, found, dict(found.heal))
        if name != "*" and self._process(name).child.returncode is not None:
            await (self.start_server() if name == SERVER else self.start_stand(name))

    async def _inject(self, name: str, fault: Fault, body: dict[str, Any]) -> None:
        self._check(name)
        match fault.place:
            case Place.SIGNAL:
                self.signal(name, body["signal"])
            case Place.STAND:
                await self.control(self.urls[name] + "/control/faults", body)
            case Place.RELAY:
                if self.relay is None:
                    raise ConfigError(f"{fault.name} needs the relay, which this run has not")
                url = self.relay.lines[0]["url"]
                await self.control(url + "/control", {"target": name, **body})
            case Place.FRONT:
                if "healthy" in body:
                    body = {"healthy": {name: body["healthy"]}}
                await self.control(self.urls["backend"] + "/control", body, method="PATCH")
            case Place.SERVER:
                await self.admin(f"/v1/admin/providers/{name}", body)

    def signal(self, name: str, number: str) -> None:
        """Send a signal to a stand-in's process, or to the server's."""
        child = self._process(name).child
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.Signals[number])

    async def list_as(self, name: str, **change: object) -> None:
        """
        Change what the server says of a provider, as an operator does.

        Args:
            name: Which.
            change: `is_active`, `priority`, `is_default`, `is_drained`.
        """
        self._check(name)
        await self.admin(f"/v1/admin/providers/{name}", change)

    async def health_as(self, name: str, healthy: bool | None) -> None:
        """Let health answers say this of a provider, whatever the server says; None: no more."""
        self._check(name)
        body = {"healthy": {name: healthy}}
        await self.control(self.urls["backend"] + "/control", body, method="PATCH")

    async def admin(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        method: str = "PATCH",
        server: str = SERVER,
    ) -> Any:
        """
        Call a server as its owner, not through the front; return the data of its answer.

        Raises:
            LocalFault: It did not answer, or said no.
        """
        key = self._keys["HITLESS_OWNER_KEY"]
        return await self.control(self.urls[server] + path, body, method=method, key=key)

    async def control(
        self,
        url: str,
        body: Mapping[str, object] | None,
        *,
        method: str = "POST",
        key: str | None = None,
    ) -> Any:
        """
        Call one of the lab's control APIs, or with `key` the server; return its data, if any.

        Raises:
            LocalFault: It did not answer, or said no.
        """
        assert self._http is not None
        headers = {"Authorization": f"Bearer {key or self.token}"}
        try:
            async with self._http.request(method, url, json=body, headers=headers) as answer:
                text = await answer.text()
                if answer.status >= 400:
                    raise LocalFault(f"{url}: HTTP {answer.status}: {text}")
                return json.loads(text).get("data") if text else None
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise LocalFault(f"{url} does not answer: {type(exc).__name__}") from exc

    async def state(self, name: str) -> dict[str, Any]:
        """
        Return what a stand-in knows of itself: sessions, consents, load.

        Raises:
            LocalFault: It did not answer, or said no.
        """
        assert self._http is not None
        url, headers = self.urls[name] + "/control", {"Authorization": f"Bearer {self.token}"}
        try:
            async with self._http.get(url, headers=headers) as answer:
                if answer.status >= 400:
                    raise LocalFault(f"{url}: HTTP {answer.status}")
                told: dict[str, Any] = await answer.json()
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise LocalFault(f"{url} does not answer: {type(exc).__name__}") from exc
        return told

    def _process(self, name: str) -> Process:
        if name == SERVER:
            assert self.server is not None
            return self.server
        if name == OTHER_SERVER:
            assert self.other_server is not None
            return self.other_server
        return self.stands[name]

    def _check(self, name: str) -> None:
        if name not in (*self.names, SERVER, "*"):
            known = ", ".join((*self.names, SERVER))
            raise ConfigError(f"nothing called {name!r} here: {known}")
