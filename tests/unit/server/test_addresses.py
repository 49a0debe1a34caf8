"""hitless.server.addresses: what is public, URLs and names."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
import virtual_time
from hypothesis import given
from hypothesis import strategies as st
from unit.server.target_names import PUBLIC, Names, checked, refusal

from hitless import ConfigError
from hitless.server.addresses import (
    URL_CHARS_MAX,
    TargetRefused,
    TargetUnresolved,
    check_target,
    not_public,
    parse_allowed,
    system_resolver,
)


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
    said = refusal("https://hook.example/", [PUBLIC, "127.0.0.1"])

    assert "loopback" in said
    assert "name its network in server.allow_private" in said


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
