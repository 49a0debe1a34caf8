"""hitless.server.addresses"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest
import virtual_time
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from hitless import ConfigError
from hitless.server.addresses import (
    URL_CHARS_MAX,
    PinnedConnector,
    ResolvedTarget,
    TargetRefused,
    TargetUnresolved,
    check_redirect,
    check_target,
    not_public,
    parse_allowed,
    system_resolver,
)


PUBLIC = "93.184.216.34"
LOOPBACK = parse_allowed(["127.0.0.0/8", "::1/128"])


class Names:
    """A resolver that knows what it was told, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def __call__(self, host, port):
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def checked(url, *answers, allow_private=()):
    """Return the target of a URL whose name resolves to the first of `answers`."""
    names = Names(*(answers or ([PUBLIC],)))
    return asyncio.run(check_target(url, names, allow_private=allow_private))


def refusal(url, *answers, allow_private=()):
    """Return why a URL is refused."""
    with pytest.raises(TargetRefused) as caught:
        checked(url, *answers, allow_private=allow_private)
    return caught.value.because


# --- What is public ---


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%1", "link-local"),
        ("2606:4700::1%1", "link-local"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
        ("fec0::1", "private"),
        ("100.64.0.1", "shared"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("192.0.2.1", "reserved"),
        ("192.88.99.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("203.0.113.1", "reserved"),
        ("240.0.0.1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("2001::1", "reserved"),  # Teredo
        ("3fff::1", "reserved"),
        ("100::1", "reserved"),
        ("5f00::1", "reserved"),
        ("64:ff9b:1::a00:1", "reserved"),
        ("::7f00:1", "reserved"),
        ("::ffff:0:7f00:1", "reserved"),
        ("4000::1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::169.254.169.254", "link-local"),
        ("2002:7f00:1::1", "loopback"),
        ("2002:c0a8:101::1", "private"),
    ],
)
def test_an_address_that_is_not_public_is_named_and_refused(address, word):
    assert word in not_public(address)
    assert word in refusal("https://hook.example/", [address])


@pytest.mark.parametrize(
    "address",
    [
        PUBLIC,
        "8.8.8.8",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "223.255.255.255",
        "2606:4700::6810:1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_a_public_address_is_connected_to(address):
    assert not_public(address) is None
    target = checked("https://hook.example/", [address])

    assert target.address == str(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_address_is_judged_alike(address):
    """
    Nobody reaches by a detour what he does not reach directly.
    """
    whole = int(address)
    forms = (
        ipaddress.IPv6Address((0xFFFF << 32) + whole),
        ipaddress.IPv6Address((0x0064_FF9B << 96) + whole),
        ipaddress.IPv6Address((0x2002 << 112) + (whole << 80) + 1),
    )

    assert {not_public(str(form)) for form in forms} == {not_public(str(address))}


@given(st.ip_addresses())
def test_whatever_python_calls_private_is_not_public_here(address):
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if mapped is None and (address.is_private or address.is_multicast or address.is_reserved):
        is_nat64 = address in ipaddress.ip_network("64:ff9b::/96")
        assert not_public(str(address)) or is_nat64


# --- What is allowed besides ---


def test_a_network_that_is_allowed_is_reached_and_its_neighbours_are_not():
    allowed = parse_allowed(["10.1.0.0/16"])

    assert (
        checked("http://hook.example/", ["10.1.2.3"], allow_private=allowed).address == "10.1.2.3"
    )
    assert "private" in refusal("http://hook.example/", ["10.2.0.1"], allow_private=allowed)
    mapped = checked("http://[::ffff:10.1.2.3]/", allow_private=allowed)
    assert mapped.address == "::ffff:a01:203"


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "fe80::1", "10.0.0.1"])
def test_everything_can_be_allowed(address):
    target = checked("http://hook.example/", [address], allow_private=True)

    assert target.address == address


def test_a_setting_that_is_no_network_is_refused():
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1/8 has host bits set"):
        parse_allowed(["127.0.0.1/8"])


# --- URLs ---


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://hook.example/path?x=1#y", "hook.example", 443),
        ("http://hook.example", "hook.example", 80),
        ("https://hook.example:8443/", "hook.example", 8443),
        ("https://HOOK.example./", "hook.example.", 443),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
    ],
)
def test_a_url_names_host_and_port(url, host, port):
    target = checked(url)

    assert (target.host, target.port, target.addresses) == (host, port, (PUBLIC,))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook.example",
        "//hook.example/",
        "ftp://hook.example/",
        "file:///etc/passwd",
        "gopher://hook.example/",
        "https:///path",
        "https://",
        "https://hook.example:0/",
        "https://hook.example:99999/",
        "https://hook.example:x/",
        "https://[::1/",
        "https://[::1]x/",
        "https://hook.example/ x",
        "https://hook.example/\r\nHost:x",
        "\thttps://hook.example/",
        "https://hook.example\0/",
        "https://hook.example/" + "x" * URL_CHARS_MAX,
        "https://" + "a." * 130 + "example/",
        "https://user:s3cret@hook.example/",
        "https://user@hook.example/",
        "https://:s3cret@hook.example/",
        "https://[fe80::1%25eth0]/",
        "https://hook%2eexample/",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_before_its_name_is_asked_for(url):
    names = Names([PUBLIC])
    with pytest.raises(TargetRefused) as caught:
        asyncio.run(check_target(url, names))

    assert names.asked == []
    assert not isinstance(caught.value, TargetUnresolved)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "1.2.3.4.5", "0x",
     "hook.example.0x7f", "\uff11\uff12\uff17.1"],
)  # fmt: skip
def test_an_address_in_an_old_spelling_is_refused_whatever_its_name_resolves_to(host):
    """
    The system would connect to 127.0.0.1, and never ask for a name.
    """
    refusal(f"http://{host}/", [PUBLIC])


def test_an_address_in_a_url_is_judged_without_asking_anybody():
    names = Names([PUBLIC])

    async def main(url):
        return await check_target(url, names)

    assert asyncio.run(main("https://8.8.8.8/")).addresses == ("8.8.8.8",)
    for url in ("http://127.0.0.1/", "http://[::1]:80/", "http://[::ffff:7f00:1]/",
                "http://\uff11\uff12\uff17.0.0.1/"):  # fmt: skip
        with pytest.raises(TargetRefused, match="loopback"):
            asyncio.run(main(url))
    assert names.asked == []


@given(
    st.one_of(
        st.text(),
        st.text().map("https://{}".format),
        st.from_regex(r"https?://[\w.:@\[\]%-]{0,40}(/.*)?"),
        st.ip_addresses().map("http://[{}]/".format),
        st.ip_addresses().map("http://{}/".format),
    )
)
def test_any_text_is_a_target_or_refused_and_nothing_worse_happens(url):
    try:
        target = checked(url)
    except TargetRefused:
        return
    assert target.url.scheme in ("http", "https")
    assert target.addresses
    assert not any(map(not_public, target.addresses))


# --- Names ---


def test_one_address_that_is_not_public_refuses_the_name():
    """
    Which of them is connected to would be chance.
    """
    assert "loopback" in refusal("https://hook.example/", [PUBLIC, "127.0.0.1"])


@pytest.mark.parametrize(
    "answer", [socket.gaierror(-2, "unknown"), OSError(), UnicodeError(), [], ["no address"]]
)
def test_a_name_without_an_address_may_have_one_later(answer):
    with pytest.raises(TargetUnresolved):
        checked("https://hook.example/", answer)


def test_a_name_that_takes_too_long_is_given_up():
    async def never(host, port):
        await asyncio.sleep(3_600.0)

    async def main():
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        with pytest.raises(TargetUnresolved, match="within 5 s"):
            await check_target("https://hook.example/", never)
        return loop.time() - begun_s

    assert virtual_time.run(main()) == pytest.approx(5.0)


def test_more_addresses_than_anybody_needs_are_not_looked_at():
    many = [str(ipaddress.IPv4Address("8.8.0.0") + number) for number in range(1_000)]

    assert checked("https://hook.example/", many).addresses == tuple(many[:16])


def test_the_system_knows_this_machine():
    found = asyncio.run(system_resolver("localhost", 80))

    assert set(found) & {"127.0.0.1", "::1"}
    assert len(set(found)) == len(found)
    with pytest.raises(TargetRefused, match="loopback"):
        asyncio.run(check_target("http://localhost/"))


def test_what_is_printed_of_a_target_has_no_path():
    """
    The path of a webhook is its password.
    """
    target = checked("https://hook.example/services/s3cret?token=s3cret")

    assert "hook.example" in repr(target)
    assert "s3cret" not in repr(target) + str(target)
    assert "s3cret" not in refusal("https://hook.example/s3cret", ["10.0.0.1"])


# --- Redirects ---


def redirected(location, *answers, url="https://hook.example/a/b", allow_private=()):
    """Return where a redirect leads."""
    target = checked(url)
    names = Names(*(answers or ([PUBLIC],)))
    return asyncio.run(check_redirect(target, location, names, allow_private=allow_private))


@pytest.mark.parametrize(
    ("location", "leads"),
    [
        ("/c", "https://hook.example/c"),
        ("c", "https://hook.example/a/c"),
        ("//other.example/c", "https://other.example/c"),
        ("https://other.example:8443/", "https://other.example:8443/"),
    ],
)
def test_a_redirect_is_resolved_and_judged_anew(location, leads):
    target = redirected(location, ["8.8.4.4"])

    assert str(target.url) == leads
    assert target.addresses == ("8.8.4.4",)


@pytest.mark.parametrize(
    ("location", "because"),
    [
        ("https://127.0.0.1/", "loopback"),
        ("https://[::ffff:169.254.169.254]/latest", "link-local"),
        ("//10.0.0.1/", "private"),
        ("http://other.example/", "from https"),
        ("file:///etc/passwd", "from https"),
        ("https://user:s3cret@other.example/", "user or password"),
        ("https://[::1", "not a URL"),
    ],
)
def test_a_redirect_leads_nowhere_that_a_url_could_not(location, because):
    with pytest.raises(TargetRefused, match=because):
        redirected(location)


def test_a_redirect_to_a_name_that_now_is_private_is_refused():
    with pytest.raises(TargetRefused, match="private"):
        redirected("/c", ["192.168.0.1"])


@given(st.text())
def test_any_redirect_leads_somewhere_or_is_refused(location):
    try:
        target = redirected(location)
    except TargetRefused:
        return
    assert target.url.scheme == "https"


# --- Connecting ---


@asynccontextmanager
async def serving(answer, ssl_context=None):
    """A server on loopback; gives its port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def says_host(request):
    """Answer with the `Host` that was asked for."""
    return web.Response(text=request.headers["Host"])


def certificate_of(name, file):
    """Return what a client and a server know of a new certificate for this name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(
            issuer_name=subject,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=1,
            not_valid_before=datetime(2020, 1, 1, tzinfo=UTC),
            not_valid_after=datetime(2120, 1, 1, tzinfo=UTC),
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = Encoding.PEM
    secret = key.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + certificate.public_bytes(pem))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(file)
    return ssl.create_default_context(cafile=str(file)), theirs


async def get(connector, url, **more):
    """Return what a GET over this connector is answered; redirects are followed blindly."""
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, timeout=aiohttp.ClientTimeout(total=5.0), **more) as response,
    ):
        return await response.text()


def test_the_connection_goes_to_what_was_judged_and_keeps_its_name():
    """
    A name that points elsewhere a moment later (DNS rebinding) is not asked again.
    """
    names = Names(["127.0.0.1"], ["10.0.0.1"])

    async def main():
        async with serving(says_host) as port:
            url = f"http://hook.example:{port}/"
            target = await check_target(url, names, allow_private=LOOPBACK)
            return await get(PinnedConnector(target), target.url), port

    said, port = asyncio.run(main())

    assert said == f"hook.example:{port}"
    assert names.asked == [("hook.example", port)]


@pytest.mark.parametrize(("certified", "is_reached"), [("hook.example", True), ("other", False)])
def test_a_certificate_is_checked_for_the_name_and_not_for_the_address(
    certified, is_reached, tmp_path
):
    ours, theirs = certificate_of(certified, tmp_path / "pem")

    async def main():
        async with serving(says_host, ssl_context=theirs) as port:
            names = Names(["127.0.0.1"])
            url = f"https://hook.example:{port}/"
            target = await check_target(url, names, allow_private=LOOPBACK)
            return await get(PinnedConnector(target), target.url, ssl=ours)

    if is_reached:
        assert asyncio.run(main()).startswith("hook.example:")
    else:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            asyncio.run(main())


def test_the_next_address_is_tried_when_the_first_does_not_answer():
    async def main():
        async with serving(says_host) as port:
            url = f"http://hook.example:{port}/"
            names = Names(["127.0.0.2", "127.0.0.1"])
            target = await check_target(url, names, allow_private=LOOPBACK)
            return await get(PinnedConnector(target), target.url)

    assert asyncio.run(main()).startswith("hook.example:")


@pytest.mark.parametrize(
    "other",
    ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://hook.example:1/",
     "https://hook.example:{port}/"],
)  # fmt: skip
def test_no_other_target_is_reached_over_a_pinned_connection(other):
    """
    An address in the URL above all: no resolver is asked for it.
    """
    reached = []

    async def answer(request):
        reached.append(request)
        return web.Response()

    async def main():
        async with serving(answer) as port:
            names = Names(["127.0.0.1"])
            url = f"http://hook.example:{port}/"
            target = await check_target(url, names, allow_private=LOOPBACK)
            with pytest.raises(TargetRefused, match="another target"):
                await get(PinnedConnector(target), other.format(port=port))

    asyncio.run(main())
    assert reached == []


def test_a_redirect_that_is_followed_blindly_ends_at_the_first_other_host():
    reached = []

    async def answer(request):
        reached.append(request.headers["Host"])
        raise web.HTTPFound(f"http://127.0.0.1:{request.url.port}/")

    async def main():
        async with serving(answer) as port:
            names = Names(["127.0.0.1"])
            url = f"http://hook.example:{port}/"
            target = await check_target(url, names, allow_private=LOOPBACK)
            with pytest.raises(TargetRefused, match="another target"):
                await get(PinnedConnector(target), target.url)
            return port

    port = asyncio.run(main())
    assert reached == [f"hook.example:{port}"]


def test_a_proxy_is_not_used_over_a_pinned_connection():
    """
    It would resolve the name once more.
    """

    async def main():
        async with serving(says_host) as port:
            names = Names(["127.0.0.1"])
            url = f"http://hook.example:{port}/"
            target = await check_target(url, names, allow_private=LOOPBACK)
            async with aiohttp.ClientSession(connector=PinnedConnector(target)) as session:
                with pytest.raises(TargetRefused, match="another target"):
                    await session.get(target.url, proxy=f"http://127.0.0.1:{port}/")

    asyncio.run(main())


def test_a_target_has_at_least_its_first_address():
    target = checked("https://hook.example/", [PUBLIC, "8.8.8.8"])

    assert isinstance(target, ResolvedTarget)
    assert target.address == PUBLIC
