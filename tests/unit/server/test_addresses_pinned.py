"""hitless.server.addresses: redirects, and connections that go to what was judged."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from unit.server.target_names import LOOPBACK, PUBLIC, Names, checked

from hitless.server.addresses import (
    PinnedConnector,
    ResolvedTarget,
    TargetRefused,
    check_redirect,
    check_target,
)


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
