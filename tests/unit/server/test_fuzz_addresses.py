"""hitless.server.addresses: no spelling of a private address, and no redirect, gets through."""

import asyncio
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.server.addresses import TargetRefused, check_redirect, check_target


fuzzed = settings(max_examples=200, derandomize=True, database=None, deadline=None)
"""Drawn the same way each time: a failure can be run again."""

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)

PRIVATE = st.one_of(
    st.sampled_from((
        "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.0.192", "240.0.0.1",
    )).map(ipaddress.IPv4Address),
    st.sampled_from(("127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "169.254.0.0/16")).flatmap(
        lambda network: st.ip_addresses(network=network)
    ),
)  # fmt: skip


def v6(address, how):
    """Return an IPv4 address inside an IPv6 one."""
    number = int(address)
    return {
        "mapped": ipaddress.IPv6Address((0xFFFF << 32) | number),
        "compatible": ipaddress.IPv6Address(number),
        "nat64": ipaddress.IPv6Address((0x64FF9B << 96) | number),
        "nat64 of a site": ipaddress.IPv6Address((0x64FF9B0001 << 80) | number),
        "6to4": ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
        "teredo": ipaddress.IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),
        "translated": ipaddress.IPv6Address((0xFFFF0000 << 32) | number),
    }[how]


EMBEDDED = ("mapped", "compatible", "nat64", "nat64 of a site", "6to4", "teredo", "translated")
LOCAL_6 = st.sampled_from(
    ("::1", "::", "fe80::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1")
).map(ipaddress.IPv6Address)


@st.composite
def written(draw):
    """Return a private address as somebody might write it in a URL, to be taken for another."""
    if draw(st.booleans()):
        address = draw(st.one_of(
            LOCAL_6, st.builds(v6, PRIVATE, st.sampled_from(EMBEDDED))
        ))  # fmt: skip
        how = draw(st.sampled_from(("short", "long", "upper", "dotted")))
        text = {"short": str(address), "long": address.exploded, "upper": str(address).upper()}
        tail = f"{address.exploded[:30]}{ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)}"
        return f"[{text.get(how, tail)}]"
    address = draw(PRIVATE)
    a, b, c, d = address.packed
    return draw(st.sampled_from((
        str(address), f"{address}.", str(int(address)), hex(int(address)), oct(int(address)),
        f"0{int(address):o}", f"{a}.{(b << 16) + (c << 8) + d}", f"{a}.{b}.{(c << 8) + d}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a:03}.{b}.{c}.{d}",
        str(address).replace(".", "。"), str(address).replace(".", "%2e"),
        "".join(chr(ord(one) + 0xFEE0) if one.isdigit() else one for one in str(address)),
        f"{int(address)}.", f"{a}.{b}.{c}.{d}%00", f"{a}.{b}.{c}.{d}%25eth0",
    )))  # fmt: skip


def url_of(host, scheme="https", user="", port="", path="/"):
    """Return a URL."""
    return f"{scheme}://{user}{host}{port}{path}"


URLS = st.builds(
    url_of,
    written(),
    st.sampled_from(("https", "http", "HTTP")),
    st.sampled_from(("", "", "", "public.example@", "public.example:x@", "public.example%40")),
    st.sampled_from(("", "", ":80", ":443", ":0")),
    st.sampled_from(("/", "", "/?x=https://public.example", "#@public.example")),
)


async def nowhere(host, port):
    """Resolve as a system would that reads old spellings: everything is this machine."""
    return ["127.0.0.1"]


def judged(url, resolver=nowhere):
    """Return where a URL may lead; None: it is refused."""
    try:
        return asyncio.run(check_target(url, resolver))
    except TargetRefused:
        return None


@settings(fuzzed, max_examples=500)
@given(url=URLS)
def test_no_spelling_of_a_private_address_is_a_target(url):
    assert judged(url) is None


@fuzzed
@given(url=URLS, base=st.sampled_from(("https://public.example/a", "http://public.example/a")))
def test_no_redirect_leads_to_a_private_address(url, base):
    async def public(host, port):
        return ["93.184.215.14"] if host == "public.example" else ["127.0.0.1"]

    async def main():
        target = await check_target(base, public)
        for location in (url, url.partition(":")[2]):
            with pytest.raises(TargetRefused):
                await check_redirect(target, location, public)

    asyncio.run(main())


@fuzzed
@given(
    found=st.lists(
        st.one_of(
            st.ip_addresses().map(str),
            st.builds(v6, PRIVATE, st.sampled_from(EMBEDDED)).map(str),
            st.builds(v6, st.ip_addresses(v=4), st.sampled_from(EMBEDDED)).map(str),
            st.sampled_from(("93.184.215.14", "2606:2800:21f:cb07::1", "fe80::1%eth0", "x", "")),
        ),
        max_size=4,
    )
)
def test_a_name_is_a_target_only_if_all_its_addresses_are_public(found):
    async def resolver(host, port):
        return found

    target = judged("https://public.example/", resolver)

    if target is None:
        return
    assert len(target.addresses) == len(found)
    for text in target.addresses:
        address = ipaddress.ip_address(text)
        if address.version == 6:
            inside = address.ipv4_mapped or address.sixtofour
            if address in ipaddress.ip_network("64:ff9b::/96"):
                inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
            address = inside or address
        assert address.is_global
        assert not address.is_multicast


@fuzzed
@given(url=st.one_of(TEXT, st.text(max_size=3000), st.text().map("https://{}/".format)))
def test_any_text_is_a_target_or_refused(url):
    assert judged(url) is None
