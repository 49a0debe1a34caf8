"""hitless.client.doctor, against servers on this machine that answer as they are told"""

import asyncio
import contextlib

import pytest

from hitless import Memory
from hitless.client import doctor
from hitless.providers.checkup import Finding, Verdict


NOW_S = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"  # the same


class Examined(Memory):
    """A provider that connects to where it is told."""

    def __init__(self, *urls, checkup=()):
        super().__init__("there")
        self._urls, self._found = urls, checkup

    def endpoints(self):
        return self._urls

    async def checkup(self):
        for one in self._found:
            if one is None:
                await asyncio.Event().wait()
            yield one


@contextlib.asynccontextmanager
async def answering(answer):
    """A server that says this to whoever connects, and nothing more; gives its port."""

    async def serve(reader, writer):
        await reader.read(1024)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def examine(answer=b"", *, url="http://127.0.0.1:{port}/whip", now_s=NOW_S, checkup=()):
    """What is found of one provider, as (step, verdict)."""

    async def main():
        async with asyncio.timeout(30), answering(answer) as port:
            provider = Examined(url.format(port=port), checkup=checkup)
            return [one async for one in doctor.examine(provider, wall_s=lambda: now_s)]

    return asyncio.run(main())


def verdicts(found):
    return {one.step: one.verdict for one in found}


def test_a_server_that_is_there_and_has_our_time_is_good():
    found = examine(f"HTTP/1.1 404 Not Found\r\nDate: {DATE}\r\n\r\n".encode())

    assert verdicts(found) == {
        "name": Verdict.GOOD,
        "connection": Verdict.GOOD,
        "clock": Verdict.GOOD,
    }


@pytest.mark.parametrize(("off_s", "words"), [(90, "90 s ahead of"), (-3600, "3600 s behind")])
def test_a_clock_that_is_off_is_bad_and_says_which_way(off_s, words):
    answer = f"HTTP/1.1 200 OK\r\nDate: {DATE}\r\n\r\n".encode()
    clock = examine(answer, now_s=NOW_S + off_s)[-1]

    assert (clock.step, clock.verdict) == ("clock", Verdict.BAD)
    assert words in clock.says
    assert clock.fix


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\xff" * 900, b"HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n"]
)
def test_a_server_that_does_not_tell_the_time_says_nothing_of_the_clock(answer):
    assert examine(answer)[-1].verdict is Verdict.LEFT_OUT


def test_a_closed_port_is_no_connection():
    async def main():
        async with answering(b"") as port:
            pass  # nobody listens there any more
        provider = Examined(f"http://127.0.0.1:{port}")
        return [one async for one in doctor.examine(provider, wall_s=lambda: NOW_S)]

    assert verdicts(asyncio.run(main())) == {"name": Verdict.GOOD, "connection": Verdict.BAD}


def test_a_host_that_does_not_exist_ends_with_its_name():
    found = examine(url="https://nobody.invalid/whip")

    assert [(one.step, one.verdict) for one in found] == [("name", Verdict.BAD)]
    assert found[0].fix


def test_a_server_without_tls_has_no_certificate_to_trust():
    found = examine(b"HTTP/1.1 400 Bad Request\r\n\r\n", url="https://127.0.0.1:{port}/whip")

    assert verdicts(found) == {"name": Verdict.GOOD, "connection": Verdict.BAD}


def test_what_the_adapter_finds_is_told_too_and_one_that_hangs_is_left(monkeypatch):
    monkeypatch.setattr(doctor, "STEP_S_MAX", 0.5)
    trap = Finding(step="trap", verdict=Verdict.WARNING, says="a subscriber can publish")
    found = examine(checkup=(trap, None, trap))

    assert found[-2] == trap
    assert (found[-1].step, found[-1].verdict) == ("control API", Verdict.BAD)


def test_an_adapter_that_says_nothing_of_itself_is_left_out():
    async def main():
        return [one async for one in doctor.examine(Memory("m"), wall_s=lambda: NOW_S)]

    assert [one.verdict for one in asyncio.run(main())] == [Verdict.LEFT_OUT]
