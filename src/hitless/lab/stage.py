"""
The lab's stage: stand-ins, the server, a relay, publishers and viewers, each its own process.

Real servers, where they are installed, can have the place of stand-ins: see `SERVERS`.

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ..errors import ConfigError, LocalFault
from .accounts import Accounts
from .calls import Calls
from .faults import Fault, Place, find, numbers
from .guard import Guard
from .process import Process
from .real import Real, family, until_up
from .real_janus import RealJanus
from .real_nginx import RealNginx
from .wire import CLIENT_KEY_ENV, TOKEN_ENV


PROVIDERS: Final = ("agora", "zegocloud", "webrtc")
"""The stand-ins' names; they are not the companies' services."""

SERVERS: Final[Mapping[str, Callable[[Path, int], Real]]] = {
    "janus": RealJanus,
    "rtmp": RealNginx,
}
"""Real servers that a stage can have in their place, where they are installed."""

NEEDS_H264: Final = "rtmp"
"""With it among the providers, publishers send H.264 anyway: pictures are encoded once."""

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
_KILLED_S_MAX = 5.0
_TRIES = 3  # a port may be taken before it is listened on


class Stage:
    """
    The lab, as processes.

    Args:
        folder: Where records and logs go; it exists.
        providers: Names of the stand-ins and of `SERVERS`, best first.
        ports: Ports of the stand-ins by name; others get any free one.
        is_alone: Whether the ends decide without the server.
        has_accounts: Whether stand-ins want credentials as their provider makes them, of an
            account of their own; False: all of them speak plain WHIP.
        env: Configuration of the server.

    Raises:
        ConfigError: On entering: a real server is not installed; the message says what to install.

    Attributes:
        stands: The processes of the providers, real servers' too, by name.
        real: Those of them that are real servers.
        streams: The ids of all streams that were begun.
        accounts: What its stand-ins believe; new with each stage.
    """

    def __init__(
        self,
        folder: Path,
        providers: Sequence[str] = PROVIDERS,
        *,
        ports: Mapping[str, int] | None = None,
        is_alone: bool = False,
        has_accounts: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.names = folder, tuple(providers)
        self.accounts = Accounts(self.names if has_accounts else ())
        self.token, self.is_alone = secrets.token_urlsafe(24), is_alone
        self.stands: dict[str, Process] = {}
        self.real: dict[str, Real] = {}
        self.streams: set[str] = set()
        self.urls: dict[str, str] = {}
        self.server: Process | None = None
        self.other_server: Process | None = None
        self.front: Process | None = None
        self.relay: Process | None = None
        self.broken, self._env = dict[str, list[str]](), dict(env or {})
        self._ports, self._keys = dict(ports or {}), dict[str, str]()
        self._guard = Guard(grace_s=2.0)
        self.processes: list[Process] = []
        self._calls: Calls | None = None

    async def __aenter__(self) -> Self:
        try:
            self.real = {name: self._made(name) for name in self.names if name in SERVERS}
            await self._guard.start()
            self._calls = Calls(self.token)
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
        for real in self.real.values():
            await real.aclose()
        if self._calls is not None:
            await self._calls.aclose()
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
        """Start a stand-in, or a real server, on the port it had before."""
        if name in SERVERS:
            return await self._start_real(name)
        stand = await self._start(
            name,
            "hitless.lab.stand",
            f"--name={name}",
            f"--port={self._ports.get(name, 0)}",
            f"--speaks={self.accounts.speaks(name)}",
            env=self.accounts.stand_env(name),
        )
        url = stand.lines[0]["url"]
        self.stands[name], self.urls[name] = stand, url
        self._ports[name] = int(url.rsplit(":", 1)[1])

    def _made(self, name: str) -> Real:
        folder = self.folder / f"{name}-server"
        folder.mkdir(exist_ok=True)
        return SERVERS[name](folder, self._ports.get(name, 0))

    async def _start_real(self, name: str) -> None:
        for attempt in range(_TRIES):
            real = self.real[name]
            command = await asyncio.to_thread(real.prepare)
            process = await self._spawn(name, command.argv, {**os.environ, **command.env})
            try:
                await until_up(real, process)
                break
            except LocalFault:
                if name in self.stands or attempt + 1 == _TRIES:
                    raise
                self._signal(process, "SIGKILL", is_family=True)
                await real.aclose()
                self.real[name] = self._made(name)
        self.stands[name], self.urls[name] = process, real.url

    async def start_server(self) -> None:
        """Start the control plane, on the address and the database it had before."""
        listen = self.urls.get(SERVER, "http://127.0.0.1:0").removeprefix("http://")
        self.server = await self._serve(SERVER, listen, "lab")
        lines = (self.folder / _KEY_FILE).read_text().splitlines()
        self._keys = dict(line.split("=", 1) for line in lines if "=" in line)

    async def start_other_server(self) -> None:
        """Start a second node on the same database."""
        self.other_server = await self._serve(OTHER_SERVER, "127.0.0.1:0", "lab-2")

    async def _serve(self, name: str, listen: str, node: str) -> Process:
        server = await self._start(
            name,
            "hitless",
            "serve",
            f"--listen={listen}",
            f"--database={self.folder / 'hitless.db'}",
            f"--name={node}",
            "--open-list",
            "--ready-json",
        )
        self.urls[name] = server.lines[0]["url"]
        return server

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
        told: dict[str, Any]
        if (real := self.real.get(name)) is not None:
            config = {**real.options, "control_url": real.control_url}
            told = {"adapter": real.adapter, "config": config}
        elif name in self.accounts:
            told = self.accounts.listed(name, url)
        else:
            config = {"url": f"{url}/whip/{{stream}}", "view_url": f"{url}/whep/{{stream}}"}
            told = {"adapter": "whip", "config": config}
        # Two cores carry the drill's own media, and no canary's.
        told |= {"priority": place, "config": {**told["config"], "probe": "control"}}
        await self.admin(f"/v1/admin/providers/{name}", told, method="POST")

    async def start_relay(self) -> dict[str, str]:
        """
        Start the relay and return the URLs behind it, of the backend too.

        Raises:
            ConfigError: There is a real server here: the relay carries neither Janus's media,
                arranged over a WebSocket, nor RTMP.
        """
        if self.real:
            raise ConfigError(
                f"the lab's relay carries no media of a real {' or '.join(self.real)}: "
                "what needs it can be done with stand-ins only"
            )
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
        self.streams.add(stream)
        has_h264 = role == "publisher" and NEEDS_H264 in self.names
        is_alone = self.is_alone or "backend" not in urls
        return await self._start(
            label,
            "hitless.lab.ends",
            role,
            f"--stream={stream}",
            f"--policy={json.dumps(dict(policy or {}))}",
            f"--record={self.folder / f'{label}.jsonl'}",
            *([f"--backend={urls['backend']}"] if "backend" in urls else []),
            *([] if is_alone else [f"--client={label}"]),
            *(f"--provider={name}={self.found(name, urls)}" for name in names or self.names),
            *(["--codec=H264"] if has_h264 else []),
            *options,
            env=self.accounts.end_env() if is_alone else None,
        )

    def found(self, name: str, urls: Mapping[str, str]) -> str:
        """Return where an end finds a provider: a stand-in's URL, or JSON for its adapter."""
        if (real := self.real.get(name)) is not None:
            return json.dumps({"adapter": real.adapter, **real.options})
        if name in self.accounts:
            return json.dumps(self.accounts.adapter(name, urls[name]))
        return urls[name]

    async def _start(
        self, name: str, module: str, *options: str, env: Mapping[str, str] | None = None
    ) -> Process:
        own = {TOKEN_ENV: self.token, "PYTHONUNBUFFERED": "1", **(env or {})}
        env = {**os.environ, **LAB_ENV, **own}
        if name in (SERVER, OTHER_SERVER):
            env |= self._env
        else:
            env[CLIENT_KEY_ENV] = self._keys.get(CLIENT_KEY_ENV, "")
        process = await self._spawn(name, [sys.executable, "-m", module, *options], env)
        try:
            await process.until(lambda: bool(process.lines), what="sign of life")
        except LocalFault as exc:
            said = (self.folder / f"{name}.log").read_text(errors="replace").strip()
            tail = said.splitlines()[-1] if said else "it said nothing"
            raise LocalFault(f"{exc}: {tail}") from exc
        return process

    async def _spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> Process:
        with (self.folder / f"{name}.log").open("ab") as log:
            child = await self._guard.spawn(
                list(argv),
                env=env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_LINE_BYTES_MAX,
            )
        process = Process(name, child)
        self.processes.append(process)
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
            ConfigError: An unknown name, fault or number, or one that a real server cannot have.
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
            elif name != "*":
                with contextlib.suppress(TimeoutError):  # the kernel refuses no SIGKILL
                    await asyncio.wait_for(self._process(name).child.wait(), _KILLED_S_MAX)
        if name != "*" and self._process(name).child.returncode is not None:
            await (self.start_server() if name == SERVER else self.start_stand(name))

    async def _inject(self, name: str, fault: Fault, body: dict[str, Any]) -> None:
        self._check(name)
        match fault.place:
            case Place.SIGNAL:
                self.signal(name, body["signal"])
            case Place.STAND if name in self.real:
                await self.real[name].inject(fault.name, bool(body["on"]), self.streams)
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
        """Send a signal to a stand-in's process, all of a real server's, or the server's."""
        self._signal(self._process(name), number, is_family=name in self.real)

    def _signal(self, process: Process, number: str, *, is_family: bool) -> None:
        if process.child.returncode is None:
            for pid in family(process.pid) if is_family else [process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.Signals[number])

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
        assert self._calls is not None
        answer = await self._calls.answer(url, body, method=method, key=key)
        return answer.get("data") if answer else None

    async def state(self, name: str) -> dict[str, Any]:
        """
        Return what a stand-in knows of itself: sessions, consents, load.

        Raises:
            ConfigError: It is a real server, which has no such page.
            LocalFault: It did not answer, or said no.
        """
        if name in self.real:
            raise ConfigError(f"a real {name} says nothing of itself to the lab")
        assert self._calls is not None
        return dict(await self._calls.answer(self.urls[name] + "/control"))

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
