"""Mixes of stand-ins and real servers: what a stage and its ends make of their names"""

import asyncio
import json
import os
import signal
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from hitless import Policy
from hitless.errors import ConfigError
from hitless.lab import real_janus, real_nginx
from hitless.lab.adapters import provider_of
from hitless.lab.drill import mix
from hitless.lab.faults import CATALOGUE, Place, find
from hitless.lab.real import family, free_port
from hitless.lab.real_janus import RealJanus
from hitless.lab.real_nginx import Door, RealNginx
from hitless.lab.stage import SERVERS, Stage
from hitless.providers import installed


LIMIT_S = 20.0


def go(main):
    """Run a test, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            await main

    asyncio.run(bounded())


@pytest.fixture
def everything_is_installed(monkeypatch):
    """As if Janus and nginx could run here; nothing is started."""
    for module in (real_janus, real_nginx):
        monkeypatch.setattr(module, "why_not", lambda: None)


# --- Names ---


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], ("agora", "zegocloud", "webrtc")),
        (["webrtc"], ("webrtc", "agora", "zegocloud")),
        (["janus", "agora"], ("janus", "agora", "zegocloud")),
        (["rtmp", "janus"], ("rtmp", "janus", "agora")),
        (["rtmp", "webrtc", "janus"], ("rtmp", "webrtc", "janus")),
    ],
)
def test_stand_ins_fill_a_mix_up_to_three(given, found):
    """Those that were named come first, in their order."""
    assert found == mix(given)


@pytest.mark.parametrize(
    ("given", "because"),
    [
        (["tin-can"], "no provider called 'tin-can'.*janus, rtmp"),
        (["janus", "janus"], "each once"),
        (["janus", "rtmp", "agora", "webrtc"], "up to 3"),
    ],
)
def test_a_mix_that_is_impossible_is_refused(given, because):
    """Before anything starts."""
    with pytest.raises(ConfigError, match=because):
        mix(given)


# --- What ends are told ---


def test_an_end_finds_a_stand_in_by_its_url():
    """It speaks WHIP there."""

    async def main():
        provider = provider_of("agora=http://127.0.0.1:9000", Policy())
        assert ("agora", "Whip") == (provider.name, type(provider).__name__)
        await provider.aclose()

    go(main())


@pytest.mark.usefixtures("everything_is_installed")
@pytest.mark.parametrize("name", list(SERVERS))
def test_an_end_makes_the_adapter_of_a_real_server(tmp_path, name):
    """From what the stage tells it, which the server lists too."""

    async def main():
        stage = Stage(tmp_path, (name,))
        stage.real[name] = SERVERS[name](tmp_path, 0)
        provider = provider_of(f"{name}={stage.found(name, stage.urls)}", Policy())
        assert stage.real[name].adapter in installed()
        assert (name, stage.real[name].adapter) == (provider.name, type(provider).__name__.lower())
        await provider.aclose()

    go(main())


def test_an_adapter_is_given_only_what_a_policy_says_differently():
    """Its own defaults suit it better: over TCP, silence is longer."""

    async def main():
        said = "rtmp=" + json.dumps({"adapter": "rtmp", "url": "rtmp://127.0.0.1/live/{stream}"})
        usual = provider_of(said, Policy())
        patient = provider_of(said, Policy(silence_s=0.7))
        assert 1.0 == usual._silence_s
        assert 0.7 == patient._silence_s

    go(main())


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ('janus={"adapter":', "no JSON"),
        ('janus={"adapter": "tin-can"}', "no adapter called 'tin-can'"),
        ('janus={"adapter": "janus"}', "url"),
        ('janus={"adapter": "janus", "url": "ws://127.0.0.1:1", "colour": 1}', "colour"),
    ],
)
def test_a_provider_that_cannot_be_made_is_refused(text, because):
    """With the reason."""
    with pytest.raises(ConfigError, match=because):
        provider_of(text, Policy())


# --- Real servers ---


@pytest.mark.parametrize(
    ("module", "make", "package"),
    [(real_janus, RealJanus, "janus"), (real_nginx, RealNginx, "libnginx-mod-rtmp")],
)
def test_a_server_that_is_not_installed_says_which_package_it_is_in(
    tmp_path, monkeypatch, module, make, package
):
    """And a stage with it starts nothing."""
    monkeypatch.setattr(module, "where_is", lambda program: None)
    assert f"apt-get install {package}" in str(module.why_not())
    name = next(name for name, kind in SERVERS.items() if kind is make)

    async def main():
        with pytest.raises(ConfigError, match=package):
            async with Stage(tmp_path, ("agora", name)):
                pytest.fail("it started")

    go(main())


@pytest.mark.usefixtures("everything_is_installed")
@pytest.mark.parametrize("name", list(SERVERS))
@pytest.mark.parametrize("fault", [one.name for one in CATALOGUE if one.place is Place.STAND])
def test_a_fault_of_stand_ins_is_refused_by_a_real_server_or_it_has_it(tmp_path, name, fault):
    """Nothing is broken silently not at all."""

    async def main():
        stage = Stage(tmp_path, (name,))
        stage.real[name] = server = SERVERS[name](tmp_path, 0)
        if fault == "gray-forwarding":
            assert find(fault).heal["on"] is False
            await server.inject(fault, False, ())  # healed already
            return
        with pytest.raises(ConfigError, match=f"{fault} cannot be injected in a real"):
            await stage.break_(name, fault)
        assert {} == stage.broken

    go(main())


@pytest.mark.usefixtures("everything_is_installed")
def test_the_relay_is_for_stand_ins_only(tmp_path):
    """It would carry no media of the others, and a drill would pass for the wrong reason."""

    async def main():
        stage = Stage(tmp_path, ("janus", "agora"))
        stage.real["janus"] = RealJanus(tmp_path)
        with pytest.raises(ConfigError, match="no media of a real janus"):
            await stage.start_relay()

    go(main())


def state_of(pid):
    """Return the letter that `ps` has for a process; empty: gone, or a zombie."""
    with os.popen(f"ps -o stat= -p {pid}") as said:
        return said.read().strip().replace("Z", "")[:1]


async def until(found):
    """Wait until something holds."""
    while not found():  # noqa: ASYNC110 -- processes tell nobody
        await asyncio.sleep(0.02)


def test_a_signal_reaches_master_and_worker(tmp_path):
    """A worker that is left would go on serving, or hold the port."""

    async def main():
        master = await asyncio.create_subprocess_exec(
            "sh", "-c", "sleep 60 & wait", start_new_session=True
        )
        stage = Stage(tmp_path, ("rtmp",))
        stage.real["rtmp"] = object()
        stage.stands["rtmp"] = type("Started", (), {"child": master, "pid": master.pid})()
        try:
            await until(lambda: len(family(master.pid)) == 2)
            pids = family(master.pid)
            assert master.pid == pids[0]
            stage.signal("rtmp", "SIGSTOP")
            await until(lambda: [state_of(pid) for pid in pids] == ["T", "T"])
            stage.signal("rtmp", "SIGCONT")
            await until(lambda: [state_of(pid) for pid in pids] == ["S", "S"])
            stage.signal("rtmp", "SIGKILL")
            assert -signal.SIGKILL == await master.wait()
            await until(lambda: not state_of(pids[1]))
        finally:
            if master.returncode is None:
                os.killpg(master.pid, signal.SIGKILL)
                await master.wait()

    go(main())


def test_a_free_port_is_none_that_a_kernel_gives_away():
    """So that no connection takes it before the server listens."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        assert 20_000 <= free_port(kind) < 32_000


# --- The players' door ---


async def echo(reader, writer):
    """Send back what comes, up to a goodbye."""
    try:
        while data := await reader.read(100):
            writer.write(data)
            if data == b"goodbye":
                break
    except OSError:
        pass  # cut
    writer.close()


@asynccontextmanager
async def player(door):
    """Lend what says something through the door and returns what comes back, and its reader."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)

    async def said(text):
        writer.write(text)
        return await reader.readexactly(len(text))

    try:
        yield said, reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def opened():
    """Lend an open door to a server that echoes, and that server."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    door = Door(server.sockets[0].getsockname()[1])
    await door.open()
    await door.open()  # idempotent
    try:
        yield door, server
    finally:
        await door.aclose()
        await door.aclose()
        server.close()
        await asyncio.sleep(0.05)  # the echoes end


def test_the_door_carries_both_ways():
    """And passes the server's end on, with what was said before it."""

    async def main():
        async with opened() as (door, _), player(door) as (said, reader, writer):
            assert b"hello" == await said(b"hello")
            writer.write(b"goodbye")
            assert b"goodbye" == await reader.read()

    go(main())


def test_a_door_that_swallows_lets_nothing_through_and_cuts_who_missed_something():
    """What follows a hole would make no sense; others go on."""

    async def main():
        async with opened() as (door, _), player(door) as (one, reader, writer):
            async with player(door) as (other, _, _):
                assert b"before" == await one(b"before")
                assert b"before" == await other(b"before")
                door.swallow(True)
                writer.write(b"lost")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await reader.read(1)
                door.swallow(False)
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
                assert b"after" == await other(b"after")

    go(main())


def test_a_door_to_a_dead_server_lets_nobody_in():
    """As its kernel would."""

    async def main():
        async with opened() as (door, server):
            server.close()
            async with player(door) as (_, reader, _):
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)

    go(main())
