"""
A real Janus on the loopback interface, with a configuration of its own.

libnice, Janus's ICE, gathers nothing on a loopback interface. A shim of a few lines, compiled
where it is used, hides from it that `lo` is one; nothing else of Janus is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import aiohttp

from ..errors import ConfigError, LocalFault
from ..providers.janus_room import room_number
from .real import Command, free_port, not_possible, where_is


FIRST_MEDIA_S: Final = 3.0
"""As the stand-ins have it [s]."""
LOOK_S: Final = 0.05
"""How often new publishers are looked for while nothing is to be forwarded [s]."""
ANSWER_S_MAX: Final = 2.0

_MEDIA_PORTS: Final = 400
_MIDS_MAX: Final = 16  # sections of a publisher's description, which are counted from 0
_GRAY: Final = "gray-forwarding"
_NO_SUCH: Final = (426, 428)  # VideoRoom: no such room; no such feed or section
_TRANSPORTS: Final = "http,mqtt,nanomsg,pfunix,rabbitmq"
_PLUGINS: Final = (
    "audiobridge,duktape,echotest,lua,nosip,recordplay,sip,streaming,textroom,videocall,voicemail"
)

SHIM: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

typedef int (*lister)(struct ifaddrs **);

/* libnice gathers nothing on a loopback interface; so here `lo` is not called one. */
int getifaddrs(struct ifaddrs **found) {
    lister real = (lister)dlsym(RTLD_NEXT, "getifaddrs");
    int result = real ? real(found) : -1;
    if (result != 0)
        return result;
    for (struct ifaddrs *each = *found; each != NULL; each = each->ifa_next)
        if (each->ifa_name != NULL && strcmp(each->ifa_name, "lo") == 0)
            each->ifa_flags &= ~(unsigned int)IFF_LOOPBACK;
    return 0;
}
"""


def why_not() -> str | None:
    """Return in plain words why Janus cannot run here; None: it can."""
    for program in ("janus", "gcc"):
        if where_is(program) is None:
            return f"{program} is not installed here: apt-get install janus gcc"
    if plugins_folder() is None:
        return "the plugins of Janus were not found: apt-get install janus"
    return None


def plugins_folder() -> Path | None:
    """Return the folder with Debian's Janus modules."""
    return next((path for path in Path("/usr/lib").glob("*/janus") if path.is_dir()), None)


def modules_named(kinds: str) -> str:
    """Return what Janus calls these modules: their files."""
    known = plugins_folder()
    assert known is not None
    wanted = kinds.split(",")
    return ",".join(
        path.name for path in known.glob("*/libjanus_*.so") if path.stem.split("_")[1] in wanted
    )


def build_shim(folder: Path) -> Path:
    """
    Compile the shim that lets libnice gather on the loopback interface.

    Raises:
        LocalFault: The compiler could not.
    """
    source, shim = folder / "shim.c", folder / "shim.so"
    if shim.exists():
        return shim
    source.write_text(SHIM)
    command = ["gcc", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"]
    try:
        subprocess.run(command, check=True, timeout=60, capture_output=True)
    except (OSError, subprocess.SubprocessError) as exc:
        raise LocalFault(f"gcc did not compile Janus's shim: {type(exc).__name__}") from exc
    return shim


def prepare(
    folder: Path,
    *,
    port: int,
    media_port: int,
    http_port: int | None = None,
    full_trickle: bool = False,
    api_secret: str = "",
    token_secret: str = "",
    admin_key: str = "",
    room: str = "",
    string_ids: bool = False,
) -> Command:
    """
    Write a configuration and return how Janus is started with it, in the foreground.

    Args:
        folder: Takes configuration and shim; it exists.
        port: Of its WebSocket.
        media_port: The first of the UDP ports.
        http_port: Of its HTTP transport; None: it has none.
        full_trickle: Whether its candidates follow its descriptions.
        api_secret: Asked of every request.
        token_secret: Signs the tokens that every request needs then.
        admin_key: Asked of whoever creates rooms.
        room: Lines of the room 1234; empty: there is none.
        string_ids: Whether rooms and participants have names instead of numbers.

    Raises:
        ConfigError: Janus cannot run here; the message says what to install.
        LocalFault: The shim could not be compiled.
    """
    if because := why_not():
        raise ConfigError(because)
    modules, shim = plugins_folder(), build_shim(folder)
    unused = _TRANSPORTS if http_port is None else _TRANSPORTS.removeprefix("http,")
    files = {
        "janus.jcfg": f"""
general: {{
    configs_folder = "{folder}"
    plugins_folder = "{modules}/plugins"
    transports_folder = "{modules}/transports"
    events_folder = "{modules}/events"
    loggers_folder = "{modules}/loggers"
    interface = "127.0.0.1"
    session_timeout = 60
    candidates_timeout = 45
    {f'api_secret = "{api_secret}"' if api_secret else ""}
    token_auth = {str(bool(token_secret)).lower()}
    {f'token_auth_secret = "{token_secret}"' if token_secret else ""}
    admin_secret = "of-the-admin-api"
}}
media: {{
    rtp_port_range = "{media_port}-{media_port + _MEDIA_PORTS}"
    no_media_timer = 1
    slowlink_threshold = 4
}}
nat: {{
    full_trickle = {str(full_trickle).lower()}
    ice_enforce_list = "lo"
    ice_consent_freshness = true
    ice_keepalive_conncheck = true
    ignore_unreachable_ice_server = true
    ice_tcp = false
}}
plugins: {{ disable = "{modules_named(_PLUGINS)}" }}
transports: {{ disable = "{modules_named(unused)}" }}
loggers: {{ disable = "{modules_named("jsonlog")}" }}
events: {{ broadcast = false }}
""",
        "janus.transport.websockets.jcfg": f"""
general: {{
    json = "compact"
    ws = true
    ws_port = {port}
    ws_ip = "127.0.0.1"
    wss = false
}}
admin: {{ admin_ws = false }}
""",
        "janus.transport.http.jcfg": f"""
general: {{
    json = "compact"
    base_path = "/janus"
    http = {str(http_port is not None).lower()}
    port = {http_port or 0}
    ip = "127.0.0.1"
    https = false
}}
admin: {{ admin_http = false }}
""",
        "janus.plugin.videoroom.jcfg": f"""
general: {{
    {f'admin_key = "{admin_key}"' if admin_key else ""}
    string_ids = {str(string_ids).lower()}
}}
{f"room-1234: {{ {room} }}" if room else ""}
""",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    argv = [where_is("janus") or "janus", "-F", str(folder), "-C", str(folder / "janus.jcfg")]
    return Command(argv, {"LD_PRELOAD": str(shim)})


class RealJanus:
    """
    The Janus of a stage: a room per stream, made by its publisher and without a secret.

    Args:
        folder: Its own; it exists.
        port: Of its WebSocket; 0: any.

    Raises:
        ConfigError: Janus cannot run here; the message says what to install.
    """

    adapter: str = "janus"

    def __init__(self, folder: Path, port: int = 0) -> None:
        if because := why_not():
            raise ConfigError(because)
        self._folder = folder
        self._port, self._http_port = port or free_port(), free_port()
        self._media_port = free_port(socket.SOCK_DGRAM)
        self._gray: asyncio.Task[None] | None = None
        self._healed = asyncio.Event()

    @property
    def url(self) -> str:
        """Its WebSocket."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def control_url(self) -> str:
        """Its HTTP transport, which answers what it is."""
        return f"http://127.0.0.1:{self._http_port}/janus/info"

    @property
    def options(self) -> dict[str, Any]:
        """What the adapter needs."""
        return {"url": self.url, "first_media_s": FIRST_MEDIA_S}

    def prepare(self) -> Command:
        """Write its configuration, and return how it is started."""
        argv, env = prepare(
            self._folder,
            port=self._port,
            media_port=self._media_port,
            http_port=self._http_port,
        )
        return Command([*argv, "-o", "-L", str(self._folder / "janus.log")], env)

    async def is_up(self) -> bool:
        """Whether its WebSocket answers."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX), _asking(self.url):
                return True
        except (aiohttp.ClientError, OSError, LocalFault):
            return False

    async def inject(self, fault: str, on: bool, streams: Iterable[str]) -> None:
        """
        Take all and forward nothing (`gray-forwarding`), by VideoRoom's own `moderate`.

        A muted section is received, acknowledged and reported on, and sent to nobody. Who begins
        to publish meanwhile is muted within `LOOK_S`.
        """
        if fault != _GRAY:
            raise not_possible(fault, "Janus", [_GRAY])
        if on and self._gray is None:
            muted, self._healed = asyncio.Event(), asyncio.Event()
            work = self._mute(streams, muted, self._healed)
            self._gray = asyncio.create_task(work, name="lab: gray Janus")
            try:
                async with asyncio.timeout(ANSWER_S_MAX):
                    await muted.wait()
            except TimeoutError:
                await self._forward()
                raise LocalFault("Janus did not mute its publishers") from None
        elif not on:
            await self._forward()

    async def aclose(self) -> None:
        """Mute nobody any more. Idempotent; bounded."""
        await self._forward()

    # --- Inside ---

    async def _forward(self) -> None:
        gray, self._gray = self._gray, None
        if gray is None:
            return
        self._healed.set()
        await asyncio.wait({gray}, timeout=ANSWER_S_MAX)
        gray.cancel()
        await asyncio.gather(gray, return_exceptions=True)

    async def _mute(
        self, streams: Iterable[str], muted: asyncio.Event, healed: asyncio.Event
    ) -> None:
        """Mute whoever publishes until `healed`; then let them be heard again."""
        while not healed.is_set():
            # What it does not answer while it is down or hangs: nobody is there to be muted.
            with contextlib.suppress(aiohttp.ClientError, OSError, LocalFault):
                async with _asking(self.url) as asker:
                    done: dict[tuple[int, int], int] = {}
                    while not healed.is_set():
                        for stream in tuple(streams):
                            await _mute_all(asker, room_number(stream), done)
                        muted.set()
                        await asyncio.sleep(LOOK_S)
                    for (room, feed), sections in done.items():
                        for mid in range(sections):
                            await _moderate(asker, room, feed, mid, mute=False)
                    return
            await asyncio.sleep(LOOK_S)


class _Asker:
    """A client of the plainest kind: one session, one handle, one request at a time."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._count = 0
        self._ids: dict[str, int] = {}

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request. Raises LocalFault if there is none."""
        self._count += 1
        transaction = f"lab-{self._count}"
        await self._websocket.send_json({**message, **self._ids, "transaction": transaction})
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                while True:
                    answer: dict[str, Any] = await self._websocket.receive_json()
                    if answer.get("transaction") == transaction and answer["janus"] != "ack":
                        return answer
        except (TimeoutError, TypeError, ValueError):  # silent, or gone
            raise LocalFault("Janus does not answer") from None

    async def room(self, body: dict[str, Any]) -> dict[str, Any]:
        """Ask VideoRoom and return what it says."""
        answer = await self.ask({"janus": "message", "body": body})
        told: dict[str, Any] = answer.get("plugindata", {}).get("data", {})
        return told

    async def begin(self) -> None:
        """Open a session, and attach to VideoRoom."""
        created = await self.ask({"janus": "create"})
        self._ids["session_id"] = created.get("data", {}).get("id", 0)
        attached = await self.ask({"janus": "attach", "plugin": "janus.plugin.videoroom"})
        self._ids["handle_id"] = attached.get("data", {}).get("id", 0)


@contextlib.asynccontextmanager
async def _asking(url: str) -> AsyncIterator[_Asker]:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, protocols=("janus-protocol",)) as websocket,
    ):
        asker = _Asker(websocket)
        await asker.begin()
        yield asker


async def _mute_all(asker: _Asker, room: int, done: dict[tuple[int, int], int]) -> None:
    """Mute all sections of all publishers of a room that were not muted yet."""
    told = await asker.room({"request": "listparticipants", "room": room})
    for each in told.get("participants", []):
        key = (room, each.get("id", 0))
        if not each.get("publisher") or key in done:
            continue
        done[key] = 0
        while done[key] < _MIDS_MAX:
            if not await _moderate(asker, *key, done[key], mute=True):
                break
            done[key] += 1
        if not done[key]:
            del done[key]  # it is gone, or has not said yet what it sends


async def _moderate(asker: _Asker, room: int, feed: int, mid: int, *, mute: bool) -> bool:
    """Mute one section of a publisher, or let it be heard again; return whether there is one."""
    told = await asker.room(
        {"request": "moderate", "room": room, "id": feed, "mid": str(mid), "mute": mute}
    )
    code = told.get("error_code")
    if code is not None and code not in _NO_SUCH:
        raise LocalFault(f"Janus would not moderate: {code} {told.get('error')}")
    return code is None
