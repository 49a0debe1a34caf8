"""
A real nginx with its RTMP module, on the loopback interface, with a configuration of its own.

It has a master and one worker. Players come to it through a door in our process, which carries
bytes and nothing else; closed, it swallows what the server sends to them. nginx has no way to
take all and forward nothing.
"""

from __future__ import annotations

import asyncio
import glob
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

from ..errors import ConfigError, LocalFault
from ..media.rtmp_watermark import acknowledge_soon
from .real import Command, free_port, not_possible, where_is


FIRST_MEDIA_S: Final = 3.0
"""As the stand-ins have it [s]."""

WHY_NOT: Final = (
    "nginx and its RTMP module are not installed here: "
    "apt-get install libnginx-mod-rtmp nginx-light"
)

_ANSWER_S_MAX: Final = 2.0
_CHUNK: Final = 1 << 16
_GRAY: Final = "gray-forwarding"
_MODULES: Final = (
    "/usr/lib/nginx/modules",
    "/usr/lib/*/nginx/modules",
    "/opt/*/lib/nginx/modules",
)

_CONFIG: Final = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
load_module {module};
events {{ worker_connections 256; }}
rtmp {{
  server {{
    listen 127.0.0.1:{port};
    ping 5s;
    ping_timeout 3s;
    application live {{
      live on; record off; drop_idle_publisher 5s;
      allow publish 127.0.0.1; allow play 127.0.0.1;
    }}
{more}
  }}
}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{http_port};
    location /stat {{ rtmp_stat all; }}
    location /control {{ rtmp_control all; }}
  }}
}}
"""


def module() -> str | None:
    """Return where nginx's RTMP module is; None: there is none, or no nginx."""
    if where_is("nginx") is None:
        return None
    found = [each for place in _MODULES for each in glob.glob(f"{place}/ngx_rtmp_module.so")]
    return found[0] if found else None


def why_not() -> str | None:
    """Return in plain words why nginx-rtmp cannot run here; None: it can."""
    return WHY_NOT if module() is None else None


def prepare(folder: Path, *, port: int, http_port: int, more: str = "") -> Command:
    """
    Write a configuration and return how nginx is started with it, in the foreground.

    Args:
        folder: Takes configuration and log; it exists.
        port: Where it is published to and played.
        http_port: Where its HTTP control and statistics are.
        more: Further RTMP applications, besides `live`.

    Raises:
        ConfigError: nginx-rtmp cannot run here; the message says what to install.
    """
    found, nginx = module(), where_is("nginx")
    if found is None or nginx is None:
        raise ConfigError(WHY_NOT)
    path = folder / "nginx.conf"
    path.write_text(
        _CONFIG.format(folder=folder, module=found, port=port, http_port=http_port, more=more)
    )
    log = str(folder / "error.log")
    return Command([nginx, "-e", log, "-p", str(folder), "-c", str(path)], {})


class RealNginx:
    """
    The nginx-rtmp of a stage.

    Args:
        folder: Its own; it exists.
        port: Where it is published to; 0: any.

    Raises:
        ConfigError: nginx-rtmp cannot run here; the message says what to install.
    """

    adapter: str = "rtmp"

    def __init__(self, folder: Path, port: int = 0) -> None:
        if because := why_not():
            raise ConfigError(because)
        self._folder = folder
        self._port, self._http_port = port or free_port(), free_port()
        self._door = Door(self._port)

    @property
    def url(self) -> str:
        """Where it is published to."""
        return f"rtmp://127.0.0.1:{self._port}/live/{{stream}}"

    @property
    def control_url(self) -> str:
        """Its statistics."""
        return f"http://127.0.0.1:{self._http_port}/stat"

    @property
    def options(self) -> dict[str, Any]:
        """What the adapter needs; the door is open by then."""
        return {
            "url": self.url,
            "play_url": f"rtmp://127.0.0.1:{self._door.port}/live/{{stream}}",
            "first_media_s": FIRST_MEDIA_S,
        }

    def prepare(self) -> Command:
        """Write its configuration, and return how it is started."""
        return prepare(self._folder, port=self._port, http_port=self._http_port)

    async def is_up(self) -> bool:
        """Whether it accepts connections; the door is open then."""
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.transport.abort()
                await self._door.open()
        except OSError:
            return False
        return True

    async def inject(self, fault: str, on: bool, streams: Iterable[str]) -> None:
        """Take all and forward nothing (`gray-forwarding`): not a byte comes to the players."""
        if fault != _GRAY:
            raise not_possible(fault, "nginx-rtmp", [_GRAY])
        self._door.swallow(on)

    async def aclose(self) -> None:
        """Close the door. Idempotent; bounded."""
        await self._door.aclose()


class Door:
    """
    Carries TCP connections to a port of this machine; told to, it swallows what comes back.

    Args:
        to: That port.

    Attributes:
        port: Its own; 0 before it was opened.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = 0
        self._swallows = False
        self._holed: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """
        Listen. Idempotent.

        Raises:
            LocalFault: It cannot.
        """
        if self._server is not None:
            return
        try:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        except OSError as exc:
            raise LocalFault(f"the players' door cannot listen: {exc.strerror}") from exc
        self.port = self._server.sockets[0].getsockname()[1]

    def swallow(self, on: bool) -> None:
        """
        Swallow what the server sends from now on, or carry it again.

        Connections of which something was swallowed are cut then: what follows would make no
        sense.
        """
        self._swallows = on
        if not on:
            for writer in self._holed:
                writer.transport.abort()
            self._holed.clear()

    async def aclose(self) -> None:
        """Cut every connection and listen no more. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were cut are closed in the loop's next turn

    # --- Inside ---

    def _accept(self, near_in: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(near_in, near), name="lab: players' door")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, near_in: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        writers, is_over = [near], False
        try:
            far_in, far = await asyncio.open_connection("127.0.0.1", self._to)
            writers.append(far)
            pumps = {
                asyncio.create_task(self._up(near_in, far)),
                asyncio.create_task(self._down(far_in, far, near)),
            }
            try:
                ended, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                is_over = all(pump.exception() is None for pump in ended)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # nobody is there: the player is cut off, as by the kernel of a dead server
        finally:
            self._holed.discard(near)
            for writer in writers:
                # An orderly end is passed on with what was said before it.
                (writer.transport.close if is_over else writer.transport.abort)()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()

    async def _down(
        self,
        reader: asyncio.StreamReader,
        far: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        while data := await reader.read(_CHUNK):
            # As players of ours do: else the door would add up to 40 ms.
            acknowledge_soon(cast(asyncio.Transport, far.transport))
            if self._swallows:
                self._holed.add(writer)
                continue
            writer.write(data)
            await writer.drain()
