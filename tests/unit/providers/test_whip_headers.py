"""Retry-After and Link headers as servers write them."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from hitless.providers.headers import ice_servers_of, retry_after_s


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    """Make headers."""
    return CIMultiDictProxy(CIMultiDict(pairs))


DATE = ("Date", "Wed, 21 Oct 2026 07:28:00 GMT")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("120", 120.0),
        ("99999999999999999999", 300.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:30 GMT", 0.0),
        ("Wed, 21 Oct 2027 07:28:00 GMT", 300.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """Capped at 300 s; the date is read against the answer's own clock."""
    assert retry_after_s(headers(("Retry-After", value), DATE)) == seconds


def test_a_date_without_a_date_to_compare_is_no_advice() -> None:
    """No clock of ours decides."""
    assert retry_after_s(headers(("Retry-After", DATE[1]))) is None
    assert retry_after_s(headers()) is None


def test_ice_servers_come_in_link_headers() -> None:
    """Several in one header, several headers, others besides."""
    found = ice_servers_of(
        headers(
            ("Link", '<stun:stun.example.net>; rel="ice-server"'),
            (
                "Link",
                '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="user"; '
                'credential="pass,;word"; credential-type="password", '
                "<https://example.net/events>; rel=urn:ietf:params:whep:ext:x",
            ),
        )
    )
    assert [each.urls for each in found] == [
        "stun:stun.example.net",
        "turn:turn.example.net?transport=udp",
    ]
    assert (found[1].username, found[1].credential) == ("user", "pass,;word")
    assert "pass" not in repr(found[1])


@pytest.mark.parametrize(
    ("target", "urls"),
    [
        (
            "turn%3Aturn.example.net%3A3478%3Ftransport%3Dudp",
            "turn:turn.example.net:3478?transport=udp",
        ),
        ("turn.example.net:3478", "turn:turn.example.net:3478"),
        ("//turn.example.net", "turn:turn.example.net"),
    ],
)
def test_escaped_and_schemeless_ice_servers_are_understood(target: str, urls: str) -> None:
    """Both are seen in the wild."""
    link = f'<{target}>; rel="ice-server"; username="u"; credential="c"'
    assert [each.urls for each in ice_servers_of(headers(("Link", link)))] == [urls]


def test_nonsense_in_links_is_left_out() -> None:
    """And never an error."""
    link = '<turn:>; rel="ice-server", <stun:a b?c>; rel=ice-server, <>, rel=ice-server; <'
    assert ice_servers_of(headers(("Link", link))) == ()
