"""examples/hand.mjs: the reference hand keeps to the transcripts, and obeys a real server."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from e2e.serving import House, add_providers
from golden import transcript
from golden.host import Host, play_server


HAND = Path(__file__).parents[2] / "examples" / "hand.mjs"
LINES_MAX = 150
LIMIT_S = 60.0
SAID_S_MAX = 10.0
NODE_OLDEST = (18, 0)
"""The first with `fetch` and timers as browsers have them."""

pytestmark = pytest.mark.realtime


def node():
    """Return how Node.js is started, with and without a WebSocket; skip where it is missing."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed: the reference hand cannot run")
    done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20)
    version = tuple(int(n) for n in done.stdout.strip().lstrip("v").split(".")[:2])
    if version < NODE_OLDEST:
        pytest.skip(f"node {done.stdout.strip()} is too old: the reference hand needs 18")
    return found, version


def command(link):
    """Return the command that runs a hand that speaks by `websocket` or by `rest`."""
    found, version = node()
    if link == "rest":
        return [found, "--no-experimental-websocket"] if version >= (22, 0) else [found]
    if version >= (22, 0):
        return [found]
    if version >= (20, 10):
        return [found, "--experimental-websocket"]
    pytest.skip(f"node {version[0]}.{version[1]} has no WebSocket: 22 has")


class Hand:
    """
    A hand that runs. Use with `async with`.

    Args:
        link: `websocket` or `rest`.
        url: Of the server.
        key: To show.
    """

    def __init__(self, link, url, key="hk_a_b"):
        self._command = [*command(link), str(HAND), url, "phone"]
        self._environ = {**os.environ, "HITLESS_KEY": key}
        self.lines = []

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self

    async def __aexit__(self, *exc):
        self._process.stdin.close()  # it ends with its input
        try:
            async with asyncio.timeout(5.0):
                await self._process.communicate()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise

    def type(self, line):
        """Type a line into it."""
        self._process.stdin.write(f"{line}\n".encode())

    async def until(self, text):
        """Wait until it prints a line with this text; return the line."""
        try:
            async with asyncio.timeout(SAID_S_MAX):
                while line := (await self._process.stdout.readline()).decode().rstrip():
                    self.lines.append(line)
                    if text in line:
                        return line
        except TimeoutError:
            pass
        raise AssertionError(f"{text!r} was not said, but {self.lines}")


def go(main):
    """Run a test, bounded."""

    async def bounded():
        async with asyncio.timeout(LIMIT_S):
            return await main

    return asyncio.run(bounded())


def test_the_hand_stays_small():
    """
    It is read before it is written again in another language.
    """
    text = HAND.read_text()

    assert len(text.splitlines()) < LINES_MAX
    assert {line for line in text.splitlines() if line.startswith("import")} == {
        "import { createInterface } from 'node:readline'"
    }


@pytest.mark.parametrize(("link", "form"), [("websocket", "whole"), ("rest", "terse")])
@pytest.mark.parametrize("name", transcript.names(of_hands=True))
def test_the_hand_keeps_to_the_transcript(name, link, form):
    """
    Every message of it, in its order, and not one more; whether defaults are left out or not.
    """

    async def main():
        async with Host(form) as host, Hand(link, host.url) as hand:
            await play_server(transcript.read(name), host, hand)

    go(main())


# --- A real server ---


@pytest.fixture
def house(tmp_path):
    """Return where the nodes of this test run."""
    house = House(tmp_path)
    yield house
    house.close()


@contextlib.asynccontextmanager
async def at_work(house, link):
    """Run a server with three providers, and a hand connected to it."""
    server = house.serve(f"sqlite:///{house.folder}/store.db")
    await add_providers(server, "one", "two", "three")
    async with Hand(link, server.url, house.keys["HITLESS_CLIENT_KEY"]) as hand:
        await hand.until("connected to a")
        yield server, hand


@pytest.mark.parametrize("link", ["websocket", "rest"])
def test_a_hand_that_publishes_nothing_obeys_every_order_of_a_server(house, link):
    """
    A start; silence, and the next provider; an operator's move; the end.
    """
    placed = []

    async def main():
        async with at_work(house, link) as (server, hand):
            hand.type("publish show")
            await hand.until("leg 1 on one: live")
            hand.type("silent 1 no packets for 0.3 s")
            await hand.until("leg 2 on two: live")
            await hand.until("leg 1 on one: closed")
            placed.append(await until_placed(server, "show", epoch=2))
            assert (await server.move("show", "three")).data["moved"] == 1
            await hand.until("leg 3 on three: live")
            await hand.until("leg 2 on two: closed")
            placed.append(await until_placed(server, "show", epoch=3))
            hand.type("finish show")
            await hand.until("leg 3 on three: closed")
            await hand.until("show: over")
            return await until(server, "show", lambda found: found["state"] == "ended")

    ended = go(main())
    assert [(one["provider"], one["state"], one["is_carried"]) for one in placed] == [
        ("two", "live", True),
        ("three", "live", True),
    ]
    assert ended["state"] == "ended"
    assert "client" in ended["because"]


def test_a_hand_whose_server_dies_walks_its_plan_and_is_taken_up_by_the_next(house):
    """
    The provider on air goes silent while nobody is there to ask.
    """

    async def main():
        async with at_work(house, "websocket") as (server, hand):
            hand.type("publish show")
            await hand.until("leg 1 on one: live")
            await until_placed(server, "show", epoch=1)
            port = server.url.rsplit(":", 1)[1]
            server.kill()
            hand.type("silent 1 no packets")
            await hand.until("leg 2 on two: live")
            await hand.until("leg 1 on one: closed")
            again = house.serve(f"sqlite:///{house.folder}/store.db", "b", port=port)
            await hand.until("connected to b")
            placed = await until_placed(again, "show", epoch=2)
            hand.type("finish show")
            await hand.until("show: over")
            return placed, hand.lines

    placed, lines = go(main())
    assert placed["provider"] == "two"
    assert [line for line in lines if "closed" in line] == [
        "show: leg 1 on one: closed",
        "show: leg 2 on two: closed",
    ]


def test_what_an_operator_ends_is_over_for_a_hand_that_watches(house):
    """
    A viewer's leg is closed before it is told.
    """

    async def main():
        async with at_work(house, "websocket") as (server, hand):
            await server.start("show", "studio")
            hand.type("watch show 30")
            await hand.until("leg 1 on one: live")
            await server.call("POST", "/v1/admin/end", {"stream": "show"})
            await hand.until("leg 1 on one: closed")
            return await hand.until("show: over")

    assert "ended by" in go(main())


async def until_placed(server, stream, *, epoch):
    """Wait until media flows where the placement of an epoch says; return the stream."""
    return await until(
        server, stream, lambda found: found["is_carried"] and found["epoch"] >= epoch
    )


async def until(server, stream, is_so):
    """Wait until this is so of a stream; return it."""
    async with asyncio.timeout(SAID_S_MAX):
        while True:
            found = (await server.stream(stream)).data
            if is_so(found):
                return found
            await asyncio.sleep(0.05)
