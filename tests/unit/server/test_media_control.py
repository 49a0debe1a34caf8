"""LiveKit, Janus and RTMP as control probes: each asked as its legs begin, against stand-ins."""

import asyncio
import errno
import socket
from asyncio.selector_events import BaseSelectorEventLoop

import pytest
import rtmp_server
from unit.server.own_stands import ALL, LOOPBACK, SECRETS, asked, kinds_asked, row, standing
from unit.server.target_names import Names
from unit.server.test_addresses_pinned import certificate_of

from hitless.server import own_control
from hitless.server.own_control import OwnControl


def ask(adapter, settings=None, secrets=None, **more):
    """Ask a stand-in once; return our answer and the stand-in."""

    async def main():
        async with standing(adapter, **(settings or {})) as (stand, one):
            return await asked(one, secrets, **more), stand

    return asyncio.run(main())


# --- What is asked ---


@pytest.mark.parametrize(
    ("adapter", "calls", "because"),
    [
        ("livekit", ["ListRooms"], "its API takes the API key"),
        ("janus", ["create", "attach", "destroy"], "it opens a session with VideoRoom"),
        ("rtmp", ["connect"], "its application takes a connection"),
    ],
)
def test_a_probe_begins_as_a_leg_does_and_leaves(adapter, calls, because):
    """
    No media and no stream's name; nothing is left open there.
    """

    async def main():
        async with standing(adapter) as (stand, one):
            answer = await asked(one)
            if adapter != "livekit":
                left = stand.sockets if adapter == "janus" else stand.connections
                await rtmp_server.until(lambda: not left)
            return answer, kinds_asked(adapter, stand)

    answer, asked_there = asyncio.run(main())
    assert (answer.ok, answer.answered, answer.own_trouble) == (True, True, False)
    assert answer.because == because
    assert asked_there == calls


def test_the_token_of_livekit_may_list_rooms_and_lasts_a_minute():
    """
    It can do nothing else, whoever may see it.
    """
    _, stand = ask("livekit")

    (claims,) = stand.claims
    assert claims["video"] == {"roomList": True}
    assert "sub" not in claims


@pytest.mark.parametrize(
    ("adapter", "settings", "ok", "is_ours"),
    [
        ("livekit", {"twirp": {"ListRooms": (500, {}, '{"code": "internal"}')}}, False, False),
        ("livekit", {"twirp": {"ListRooms": (503, {"Retry-After": "200"}, "")}}, False, False),
        ("livekit", {"twirp": {"ListRooms": (404, {}, '{"code": "bad_route"}')}}, False, False),
        ("livekit", {"twirp": {"ListRooms": (200, {}, "no JSON")}}, False, False),
        ("livekit", {"twirp": {"ListRooms": (429, {}, "")}}, True, False),
        ("livekit", {"twirp": {"ListRooms": (403, {}, "")}}, False, True),
        ("janus", {"core_errors": {"create": 403}}, False, True),
        ("janus", {"core_errors": {"create": 472}}, False, False),
        ("janus", {"core_errors": {"attach": 460}}, False, False),
        ("janus", {"refuses": 502}, False, False),
        ("janus", {"refuses": 200}, False, False),
        ("janus", {"refuses": 401}, False, True),
        ("rtmp", {"rejects": ("error", "NetConnection.Connect.Rejected", "")}, False, False),
        ("rtmp", {"closes_on": "connect"}, False, False),
    ],
)
def test_what_is_about_our_credential_condemns_no_provider(adapter, settings, ok, is_ours):
    """
    Nothing is concluded from what is our own trouble; a no to everybody counts.
    """
    answer, _ = ask(adapter, settings)

    assert (answer.ok, answer.own_trouble, answer.answered) == (ok, is_ours, True), answer.because


def test_a_wrong_key_is_our_own_trouble_and_is_not_shown():
    """
    The stand-in repeats the token, as the real server does.
    """
    wrong = {name: secret[::-1] for name, secret in SECRETS["livekit"].items()}
    answer, _ = ask("livekit", secrets=wrong)

    assert (answer.ok, answer.own_trouble) == (False, True)
    assert "check api_key, api_secret" in answer.because
    assert not [secret for secret in wrong.values() if secret in repr(answer)]


@pytest.mark.parametrize(
    ("adapter", "settings"),
    [
        ("livekit", {"intercept": lambda request: asyncio.sleep(60)}),
        ("janus", {"silent": {"create"}}),
        ("rtmp", {"shakes": False}),
    ],
)
def test_one_that_hangs_has_not_answered(adapter, settings, monkeypatch):
    """
    Within the time of a probe.
    """
    monkeypatch.setattr(own_control, "TIMEOUT_S", 0.3)
    answer, _ = ask(adapter, settings)

    assert (answer.ok, answer.answered, answer.own_trouble) == (False, False, False)
    assert "no answer" in answer.because


@ALL
def test_a_connection_that_is_refused_is_an_answer(adapter):
    """
    Somebody is at that address, and nothing listens.
    """
    with socket.socket() as taken:  # bound and not listening: nobody else gets it
        taken.bind(("127.0.0.1", 0))
        scheme = "rtmp" if adapter == "rtmp" else "ws"
        url = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/app/{{stream}}"
        answer = asyncio.run(asked(row(adapter, url)))

    assert (answer.ok, answer.answered, answer.own_trouble) == (False, True, False)
    assert "connection refused" in answer.because


@ALL
def test_no_network_here_is_our_own_trouble(adapter, monkeypatch):
    """
    No verdict comes of it.
    """

    async def nowhere(self, sock, address):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", nowhere)
    answer, stand = ask(adapter)

    assert (answer.ok, answer.answered, answer.own_trouble) == (False, False, True)
    assert "ENETUNREACH" in answer.because
    assert kinds_asked(adapter, stand) == []


# --- Where it is asked ---


@ALL
def test_a_private_address_is_asked_only_if_it_is_allowed(adapter):
    """
    Neither written in the row, nor behind a name.
    """
    answer, stand = ask(adapter, allow_private=())
    assert (answer.ok, answer.own_trouble) == (False, True)
    assert "127.0.0.1 is loopback" in answer.because
    assert kinds_asked(adapter, stand) == []

    scheme = "rtmps" if adapter == "rtmp" else "wss"
    one = row(adapter, f"{scheme}://media.example/app/{{stream}}")
    answer = asyncio.run(asked(one, resolver=Names(["10.0.0.7"])))
    assert (answer.ok, answer.own_trouble) == (False, True)
    assert "10.0.0.7 is private" in answer.because


@ALL
def test_a_name_that_is_not_found_has_not_answered(adapter):
    """
    The network of whoever asks may be the cause.
    """
    scheme = "rtmps" if adapter == "rtmp" else "wss"
    one = row(adapter, f"{scheme}://media.example/app/{{stream}}")
    nowhere = Names(socket.gaierror(socket.EAI_NONAME, "not known"))
    answer = asyncio.run(asked(one, resolver=nowhere))

    assert (answer.ok, answer.answered, answer.own_trouble) == (False, False, False)


@ALL
def test_what_was_judged_is_connected_to_under_its_own_name(adapter):
    """
    The name is not looked up again by anybody else, and the server is told it.
    """
    names = Names(["127.0.0.1"])

    async def main():
        async with standing(adapter) as (stand, one):
            url = one.config["url"].replace("127.0.0.1", "media.example")
            more = {"allow_http": True} if adapter == "livekit" else {}
            return await asked(row(adapter, url, **more), resolver=names), stand

    answer, stand = asyncio.run(main())
    assert answer.ok, answer.because
    assert {host for host, _ in names.asked} == {"media.example"}
    if adapter == "rtmp":
        assert len(names.asked) == 1
        assert "media.example" in stand.seen[0][1][0]["tcUrl"]
    elif adapter == "livekit":
        assert stand.seen[0].headers["Host"].startswith("media.example")


@ALL
def test_a_name_that_changes_between_look_and_leap_gains_nothing(adapter):
    """
    DNS rebinding: each address that is connected to was judged.
    """
    names = Names(["127.0.0.1"], ["10.0.0.7"])

    async def main():
        async with standing(adapter) as (_, one):
            url = one.config["url"].replace("127.0.0.1", "media.example")
            more = {"allow_http": True} if adapter == "livekit" else {}
            control = OwnControl(
                row(adapter, url, **more),
                SECRETS[adapter],
                allow_private=LOOPBACK,
                resolver=names,
            )
            try:
                return [await control(), await control()]
            finally:
                await control.aclose()

    first, second = asyncio.run(main())
    assert first.ok or "10.0.0.7 is private" in first.because
    assert "10.0.0.7 is private" in second.because


def test_the_next_address_of_an_rtmp_server_is_tried():
    """
    Where nothing listens at the first, or no way leads there.
    """

    async def main():
        async with standing("rtmp") as (stand, one):
            url = one.config["url"].replace("127.0.0.1", "media.example")
            names = Names(["127.0.0.2", "127.0.0.1"])
            return await asked(row("rtmp", url), resolver=names), stand.seen

    answer, seen = asyncio.run(main())
    assert answer.ok, answer.because
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["media.example", "other.example"])
def test_the_certificate_of_rtmps_is_checked_for_the_name(name, tmp_path, monkeypatch):
    """
    Not for the address that is connected to.
    """
    _, theirs = certificate_of("media.example", tmp_path / "both.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))

    async def main():
        async with rtmp_server.serving(tls=theirs) as server:
            one = row("rtmp", f"rtmps://{name}:{server.port}/live/{{stream}}")
            return await asked(one, resolver=Names(["127.0.0.1"]))

    answer = asyncio.run(main())
    assert answer.ok is (name == "media.example"), answer.because
    assert answer.ok or answer.because == "TLS failed"
