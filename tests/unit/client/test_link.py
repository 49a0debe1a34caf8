"""hitless.client.link in virtual time: hello, pauses, the queue and the end."""

import asyncio
import itertools
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from link_client import WELCOME, Client, Jitter
from virtual_time import run

from hitless.client.link import CLOSE_S_MAX, QUEUE_MAX


CLOSED = aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)


# --- A server that is played, in virtual time ---


class Socket:
    """
    A WebSocket whose far side is the test.

    Attributes:
        said: What the client said, its types or streams.
        takes: Cleared, nothing that is sent goes out.
    """

    def __init__(self, *told):
        self.said, self.is_closed = [], False
        self._told = asyncio.Queue()
        self.takes = asyncio.Event()
        self.takes.set()
        for message in told:
            self.tell(message)

    def tell(self, message):
        text = json.dumps(message)
        self._told.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, text, None))

    def end(self):
        self._told.put_nowait(CLOSED)

    async def send_bytes(self, data):
        await self.takes.wait()
        message = json.loads(data)
        self.said.append(message.get("stream", message["type"]))

    async def receive(self):
        return await self._told.get()

    def __aiter__(self):
        return self

    async def __anext__(self):
        message = await self.receive()
        if message is CLOSED:
            raise StopAsyncIteration
        return message

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.is_closed = True


class Network:
    """
    Stands in for aiohttp's session: gives the sockets in their order, and then nothing.

    Attributes:
        tries: When and how the client tried: `(time [s], "socket" | "rest")`.
    """

    def __init__(self, *sockets):
        self.sockets, self.tries = list(sockets), []

    def __call__(self):
        return self

    def _tried(self, how):
        self.tries.append((asyncio.get_running_loop().time(), how))

    async def ws_connect(self, url, **_):
        assert url == "http://server/v1/connect"
        self._tried("socket")
        if not self.sockets:
            raise aiohttp.ClientError("nobody there")
        return self.sockets.pop(0)

    @asynccontextmanager
    async def post(self, url, **_):
        assert url == "http://server/v1/exchange"
        self._tried("rest")
        raise aiohttp.ClientError("nobody there")
        yield


async def turns():
    """Let everybody go on until all wait; no time passes."""
    for _ in range(30):
        await asyncio.sleep(0)


def test_hello_is_the_first_word_and_nothing_is_kept_before_the_welcome():
    async def main():
        socket = Socket()
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        client.say("too-early")
        assert (socket.said, client.link.is_connected) == (["hello"], False)
        socket.tell(WELCOME)
        await turns()
        assert client.link.is_connected
        client.say("one")
        client.say("two")
        await turns()
        await client.link.aclose()
        return socket, client

    socket, client = run(main())

    assert socket.said == ["hello", "one", "two"]
    assert (client.welcomes, client.lost, socket.is_closed) == (["n1"], [], True)


def test_what_a_lost_connection_was_to_be_told_is_thrown_away_and_said_anew_from_state():
    async def main():
        first, second = Socket(WELCOME), Socket(WELCOME | {"node": "n2"})
        client = Client(http=Network(first, second), says=["state"])
        client.link.open()
        await turns()
        first.takes.clear()
        client.say("stuck")
        client.say("waits")
        await turns()
        first.end()
        await turns()
        await client.link.aclose()
        return first.said, second.said, client

    first, second, client = run(main())

    assert first == ["hello", "state"]
    assert second == ["hello", "state"]
    assert client.welcomes == ["n1", "n2"]
    assert client.lost == ["the server closed it"]


def test_reconnects_wait_a_random_time_below_a_limit_that_doubles_up_to_ten_seconds():
    async def main():
        network = Network()
        client = Client(http=network, jitter=Jitter(0.5))
        client.link.open()
        await asyncio.sleep(60.0)
        await client.link.aclose()
        return client, network.tries

    client, tries = run(main())
    pauses_s = [b - a for (a, _), (b, _) in itertools.pairwise(tries)]

    assert client.jitter.limits_s[:8] == [(0.0, s) for s in (0.5, 1, 2, 4, 8, 10, 10, 10)]
    assert pauses_s[:7] == pytest.approx([0.25, 0.5, 1, 2, 4, 5, 5])
    assert client.lost == []  # what never was is not lost


def test_after_three_tries_in_vain_each_second_one_is_by_rest():
    async def main():
        network = Network()
        client = Client(http=network)
        client.link.open()
        await turns()
        await client.link.aclose()
        return [how for _, how in network.tries[:8]]

    assert run(main()) == ["socket"] * 3 + ["rest", "socket"] * 2 + ["rest"]


@pytest.mark.parametrize(("lasted_s", "next_s"), [(9.9, 2.0), (10.0, 0.5)])
def test_only_a_connection_that_lasted_begins_the_pauses_anew(lasted_s, next_s):
    """A server that welcomes and dies is no better than one that is away."""

    async def main():
        sockets = [Socket(WELCOME) for _ in range(3)]
        client = Client(http=Network(*sockets))
        client.link.open()
        for socket in sockets[:2]:
            await turns()
            socket.end()
        await turns()
        await asyncio.sleep(lasted_s)
        sockets[2].end()
        await turns()
        await client.link.aclose()
        return client

    client = run(main())

    assert client.jitter.limits_s[:3] == [(0.0, 0.5), (0.0, 1.0), (0.0, next_s)]
    assert len(client.lost) == 3


def test_a_server_that_says_nothing_is_left_after_the_time_limit():
    async def main():
        silent, network = Socket(), Network()
        network.sockets = [silent]
        client = Client(http=network, timeout_s=1.5, jitter=Jitter(1.0))
        client.link.open()
        await asyncio.sleep(2.5)
        await client.link.aclose()
        return silent, client, network.tries

    silent, client, tries = run(main())

    assert [at for at, _ in tries[:2]] == pytest.approx([0.0, 2.0])
    assert silent.is_closed
    assert (client.welcomes, client.lost) == ([], [])


def test_what_waits_to_be_sent_is_bounded_and_the_oldest_goes_first():
    async def main():
        socket = Socket(WELCOME)
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        socket.takes.clear()
        client.say("under way")
        await turns()
        for n in range(QUEUE_MAX + 3):
            client.say(f"{n}")
        socket.takes.set()
        await client.link.aclose()
        return socket.said

    assert run(main()) == ["hello", "under way", *(f"{n}" for n in range(3, QUEUE_MAX + 3))]


def test_reports_come_as_often_as_the_server_wants_but_not_without_a_pause():
    async def main(report_s, for_s):
        socket = Socket(WELCOME | {"report_s": report_s})
        client = Client(http=Network(socket))
        client.link.open()
        await asyncio.sleep(for_s)
        await client.link.aclose()
        await asyncio.sleep(60.0)
        return client.reports

    assert run(main(10.0, 25.0)) == pytest.approx([10.0, 20.0])
    assert run(main(-1.0, 0.35)) == pytest.approx([0.1, 0.2, 0.3])


def test_whoever_hears_may_fail_and_hears_again_on_the_next_connection(caplog):
    async def main():
        over = {"type": "over", "stream": "show"}
        first, second = Socket(WELCOME, over), Socket(WELCOME, over)
        heard = []

        def hear(message):
            heard.append(message.stream)
            if len(heard) == 1:
                raise LookupError("a defect")

        client = Client(http=Network(first, second), hear=hear)
        client.link.open()
        await turns()
        await client.link.aclose()
        return heard, client.lost

    assert run(main()) == (["show", "show"], ["a defect here"])
    assert "hearing the control plane failed" in caplog.text


# --- Closing ---


def test_closing_sends_what_waits():
    async def main():
        socket = Socket(WELCOME)
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        client.say("farewell")
        await asyncio.gather(client.link.aclose(), client.link.aclose())
        await client.link.aclose()
        client.link.open()
        client.say("too late")
        await turns()
        return socket

    socket = run(main())

    assert (socket.said, socket.is_closed) == (["hello", "farewell"], True)


def test_closing_a_link_that_never_was_open_is_nothing():
    async def main():
        network = Network(Socket(WELCOME))
        client = Client(http=network)
        await client.link.aclose()
        client.link.open()
        await turns()
        return network.tries

    assert run(main()) == []


def test_a_peer_that_takes_nothing_holds_the_end_up_no_longer_than_its_limit():
    async def main():
        socket = Socket(WELCOME)
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        socket.takes.clear()
        client.say("stuck")
        begun_s = asyncio.get_running_loop().time()
        await client.link.aclose()
        return asyncio.get_running_loop().time() - begun_s, socket

    took_s, socket = run(main())

    assert took_s == pytest.approx(CLOSE_S_MAX)
    assert (socket.said, socket.is_closed) == (["hello"], True)


def test_a_cancelled_end_is_an_end_all_the_same():
    async def main():
        socket = Socket(WELCOME)
        client = Client(http=Network(socket))
        client.link.open()
        await turns()
        socket.takes.clear()
        client.say("farewell")
        ending = asyncio.create_task(client.link.aclose())
        await turns()
        ending.cancel()
        await turns()
        assert not ending.done()
        socket.takes.set()
        await asyncio.wait({ending}, timeout=CLOSE_S_MAX)
        assert ending.cancelled()
        return socket

    socket = run(main())

    assert (socket.said, socket.is_closed) == (["hello", "farewell"], True)


def test_closing_in_a_pause_between_two_tries_ends_at_once():
    async def main():
        client = Client(http=Network(), jitter=Jitter(1.0))
        client.link.open()
        await asyncio.sleep(30.0)
        await client.link.aclose()
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(30.0)
