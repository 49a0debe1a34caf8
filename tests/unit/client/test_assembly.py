"""hitless.client.assembly"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from hitless import ConfigError
from hitless.client.assembly import make_backend, make_providers
from hitless.client.config import load
from hitless.core.policy import SelfView


@dataclass(frozen=True, kw_only=True)
class Server:
    """A record that an adapter may want."""

    urls: str
    credential: str | None = None


class Recorder:
    """An adapter that keeps what it is given."""

    def __init__(
        self,
        name: str,
        *,
        url: str,
        token: str | Callable[[], Awaitable[str]] | None = None,
        pin: str | None = None,
        first_media_s: float = 6.0,
        self_view: SelfView = SelfView.KEPT,
        ice_servers: Sequence[Server] = (),
        regions: tuple[str, ...] = (),
        is_fast: bool = False,
    ) -> None:
        if url.endswith("/bad"):
            raise ConfigError("url must not be bad")
        self.name = name
        self.given = {**locals()}


@pytest.fixture(autouse=True)
def adapters(monkeypatch):
    """Install `Recorder` as the adapter `recorder`."""

    def find(adapter):
        if adapter != "recorder":
            raise ConfigError(f"no adapter called {adapter!r}")
        return Recorder

    monkeypatch.setattr("hitless.providers.load", find)


@pytest.fixture
def made(tmp_path):
    """Return what makes the providers of a `[[provider]]` table with these lines."""

    def made(*lines, before="", environ=None):
        path = tmp_path / "hitless.toml"
        table = ['[[provider]]\nname = "a"\nadapter = "recorder"', *lines]
        path.write_text(before + "\n".join(table) + "\n")
        environ = environ or {}
        return make_providers(load(path, environ), environ)

    return made


URL = 'url = "https://a.example/whip"'


def test_an_adapter_is_given_its_table(made):
    """
    Texts become words of an enum, lists tuples, tables records.
    """
    (provider,) = made(
        URL,
        "first_media_s = 3",
        'self_view = "start"',
        'regions = ["eu", "us"]',
        'ice_servers = [{ urls = "stun:s.example" }]',
    )

    assert "a" == provider.name
    assert 3.0 == provider.given["first_media_s"]
    assert provider.given["self_view"] is SelfView.START
    assert ("eu", "us") == provider.given["regions"]
    assert (Server(urls="stun:s.example"),) == provider.given["ice_servers"]


def test_the_policy_reaches_adapters_only_where_somebody_set_it(made):
    """
    Table, then what was said in [policy], then the adapter's own default.
    """
    (own,) = made(URL)
    (said,) = made(URL, before="[policy]\nfirst_media_s = 4\n")
    (table,) = made(URL, "first_media_s = 2", before="[policy]\nfirst_media_s = 4\n")

    assert [6.0, 4.0, 2.0] == [p.given["first_media_s"] for p in (own, said, table)]


def test_a_secret_is_read_when_the_provider_is_made(made):
    """
    Not before, and never kept by the configuration.
    """
    (provider,) = made(URL, 'pin_env = "PIN"', environ={"PIN": "123"})

    assert "123" == provider.given["pin"]


def test_a_token_that_can_be_asked_for_again_is_read_again(made, tmp_path):
    """
    A rejected credential is renewed by asking: the file may hold a new one by then.
    """
    (tmp_path / "t").write_text("one\n")
    (provider,) = made(URL, 'token_file = "t"')
    (tmp_path / "t").write_text("two\n")

    assert "two" == asyncio.run(provider.given["token"]())


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "provider a: url is missing"),
        ([URL, "tocken = 1"], "the adapter recorder has no option tocken; did you mean token?"),
        ([URL, 'regoins = ["x"]'], "did you mean regions?"),
        ([URL, 'self_view = "never"'], "self_view = 'never' is not possible: give one of kept"),
        ([URL, "is_fast = 1"], "provider a: is_fast must be bool, not int"),
        ([URL, "pin = 5"], "provider a: pin must be str, not int"),
        ([URL, "ice_servers = [{ ulrs = 'x' }]"], "ice_servers[0] has no key ulrs; did you mean"),
        ([URL, "ice_servers = [{ urls = 5 }]"], "ice_servers[0].urls must be str, not int"),
        ([URL, "ice_servers = [{}]"], "ice_servers[0]"),
        (
            [URL, 'token_env = "NOWHERE"'],
            "provider.a.token is kept in $NOWHERE, which is empty or",
        ),
        (['url = "https://a.example/bad"'], "provider a: url must not be bad"),
    ],
)
def test_a_mistake_names_the_provider_and_the_option(lines, says, made):
    """
    One sentence, before anything is opened.
    """
    with pytest.raises(ConfigError) as caught:
        made(*lines)

    assert says in str(caught.value)


def test_an_adapter_that_is_not_installed_is_named(tmp_path):
    """
    The name of a provider is its adapter unless said otherwise.
    """
    path = tmp_path / "hitless.toml"
    path.write_text('[[provider]]\nname = "nobody"\n')

    with pytest.raises(ConfigError, match="no adapter called 'nobody'"):
        make_providers(load(path, {}), {})


def test_no_provider_at_all_is_an_error(tmp_path):
    """
    Which says what to write.
    """
    path = tmp_path / "hitless.toml"
    path.write_text("")

    with pytest.raises(ConfigError, match=r"add a \[\[provider\]\] table"):
        make_providers(load(path, {}), {})


def test_a_backend_is_made_with_headers_that_are_checked_first(tmp_path):
    """
    A mistake in a secret opens nothing and is not quoted.
    """
    path = tmp_path / "hitless.toml"
    path.write_text('[backend]\nurl = "https://a.example"\nheaders_env = "H"\n')
    config = load(path, {})

    with pytest.raises(ConfigError, match=r"backend\.headers: line 1 is not a header") as caught:
        make_backend(config.backend, config, {"H": "s3cret"})
    assert "s3cret" not in str(caught.value)
    backend = make_backend(config.backend, config, {"H": "Authorization: Bearer s3cret"})
    asyncio.run(backend.aclose())
