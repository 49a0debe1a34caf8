"""What `Whip` accepts, and what it makes of it, before anything is opened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hitless.errors import ConfigError
from hitless.providers.base import Provider
from hitless.providers.whip import Whip, _filled, _view_url_of


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"url": "ftp://example.com/whip"}, "url"),
        ({"url": "example.com/whip"}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://example.com:port/whip"}, "url"),
        ({"url": "http://example.com/whip"}, "https"),
        ({"url": "http://127.0.0.1/whip", "allow_http": False}, "https"),
        ({"url": "https://example.com/whip", "view_url": "http://example.com/whep"}, "view_url"),
        ({"url": "https://user:pass@example.com/whip"}, "token"),
        ({"url": "https://{stream}.example.com/whip"}, "path"),
        ({"url": "https://example.com/{room}/whip"}, r"url: only \{stream\} .* not \{room\}"),
        ({"url": "https://example.com/whip/{stream"}, "url: .* not a brace"),
        ({"url": "https://example.com/whip/{ pass }"}, "url: .* not a brace"),
        (
            {"url": "https://example.com/whip", "view_url": "https://example.com/{id}"},
            r"view_url: .* not \{id\}",
        ),
        ({"url": "https://example.com/whip", "name": "Agora Inc"}, "name"),
        ({"url": "https://example.com/whip", "name": ""}, "name"),
    ],
)
def test_what_cannot_work_is_refused_by_name(settings: dict[str, Any], names: str) -> None:
    """One line that says which setting and why; never the URL's secrets."""
    with pytest.raises(ConfigError, match=names) as caught:
        Whip(**settings)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost/whip", "http://127.0.0.1:1/whip", "http://[::1]/whip"]
)
def test_plain_http_is_fine_on_this_machine(url: str) -> None:
    """The lab speaks it."""
    assert isinstance(Whip(url=url), Provider)


def test_plain_http_elsewhere_needs_a_word() -> None:
    """For a network of one's own."""
    assert Whip(url="http://media.lan/whip", allow_http=True).name == "webrtc"


@pytest.mark.parametrize(
    ("url", "view_url"),
    [
        ("https://a.b/whip/{stream}", "https://a.b/whep/{stream}"),
        ("https://a.b/{stream}/whip", "https://a.b/{stream}/whep"),
        ("https://a.b/rtc/v1/whip/?app=live", "https://a.b/rtc/v1/whep/?app=live"),
        ("https://a.b/whip/whiplash", "https://a.b/whep/whiplash"),
        ("https://a.b/webrtcwhip", "https://a.b/webrtcwhep"),
        ("https://whip.a.b/whip", "https://whip.a.b/whep"),
        ("https://whip.a.b/publish", None),
    ],
)
def test_the_view_url_is_guessed_from_the_word_whip(url: str, view_url: str | None) -> None:
    """In the path only."""
    assert _view_url_of(url) == view_url


@pytest.mark.parametrize(
    ("stream", "path"),
    [("show", "/whip/show"), ("a/b?c#d", "/whip/a%2Fb%3Fc%23d"), ("ü %", "/whip/%C3%BC%20%25")],
)
def test_a_stream_id_is_escaped_into_the_path(stream: str, path: str) -> None:
    """An id with odd characters stays one path segment."""
    provider = Whip(url="http://127.0.0.1/whip/{stream}")
    assert _filled(provider._url, stream).raw_path == path


@pytest.mark.parametrize("stream", ["", ".", "..", "x" * 257, "\ud800"])
def test_an_impossible_stream_id_is_refused(stream: str) -> None:
    """Before anything is opened."""
    provider = Whip(url="http://127.0.0.1/whip/{stream}")

    async def main() -> None:
        with pytest.raises(ConfigError, match="stream id"):
            await provider.join_stream(stream)
        await provider.aclose()

    asyncio.run(main())


def test_viewing_without_a_view_url_is_refused() -> None:
    """The message says what is missing."""

    async def main() -> None:
        provider = Whip(url="https://example.com/publish")
        with pytest.raises(ConfigError, match="view_url"):
            await provider.join_stream("show")
        await provider.aclose()

    asyncio.run(main())
