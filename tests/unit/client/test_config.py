"""hitless.client.config, .sources, .keys and .secret"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from config_files import WHOLE, refused
from hypothesis import given
from hypothesis import strategies as st

from hitless import ConfigError, Policy
from hitless.client.config import load
from hitless.client.keys import POLICY_KEYS, literal
from hitless.core.policy import ReturnPolicy


# --- What is given is what it is ---


def test_with_no_file_everything_has_its_default(tmp_path, monkeypatch):
    """
    Nothing has to be configured.
    """
    monkeypatch.chdir(tmp_path)

    config = load(None, {})

    assert Policy() == config.policy
    assert () == config.providers
    assert config.backend is None
    assert config.path is None
    assert {"default"} == {row.origin for row in config.settings}


def test_a_whole_file_is_read(write):
    """
    Every table and every type of value.
    """
    config = load(write(WHOLE), {})

    assert 4 == config.policy.max_retries
    assert 20.0 == config.policy.health_interval_s
    assert isinstance(config.policy.health_interval_s, float)
    assert config.policy.return_policy is ReturnPolicy.RETURN
    assert config.policy.media_beats_health is False
    assert "https://api.example.com" == config.backend.url
    assert ["agora", "zegocloud"] == [table.name for table in config.providers]
    assert 6.0 == config.providers[0].options["first_media_s"]


def test_a_file_here_is_found_and_another_one_can_be_named(write, monkeypatch):
    """
    ./hitless.toml, else HITLESS_CONFIG, else --config: each beats the one before.
    """
    here = write("[policy]\nmax_retries = 1\n")
    other = here.with_name("other.toml")
    other.write_text("[policy]\nmax_retries = 2\n")
    third = here.with_name("third.toml")
    third.write_text("[policy]\nmax_retries = 5\n")
    monkeypatch.chdir(here.parent)

    assert 1 == load(None, {}).policy.max_retries
    assert 2 == load(None, {"HITLESS_CONFIG": str(other)}).policy.max_retries
    assert 5 == load(third, {"HITLESS_CONFIG": str(other)}).policy.max_retries


def test_flags_beat_the_environment_which_beats_the_file(write):
    """
    And each value tells where it comes from.
    """
    path = write("[policy]\nmax_retries = 1\nmax_failures = 1\nban_s = 1\n")
    environ = {"HITLESS_POLICY__MAX_RETRIES": "2", "HITLESS_POLICY__MAX_FAILURES": "2"}

    config = load(path, environ, {"policy.max_retries": "9"})

    rows = {row.name: row for row in config.settings}
    assert (9, 2, 1.0) == (
        config.policy.max_retries,
        config.policy.max_failures,
        config.policy.ban_s,
    )
    assert "--set policy.max_retries" == rows["policy.max_retries"].origin
    assert "HITLESS_POLICY__MAX_FAILURES" == rows["policy.max_failures"].origin
    assert f"{path}:4" == rows["policy.ban_s"].origin
    assert "default" == rows["policy.ban_s_max"].origin


@pytest.mark.parametrize("key", POLICY_KEYS, ids=lambda key: key.name)
def test_every_key_of_the_policy_can_be_given_by_a_variable(key, tmp_path, monkeypatch):
    """
    In the form the documentation names.
    """
    monkeypatch.chdir(tmp_path)
    name = key.name.removeprefix("policy.")
    value = {"ban_s_max": 200, "retry_delay_s_max": 200}.get(name, key.low)
    if name in ("ban_s", "retry_delay_s"):
        value = 1
    text = "false" if key.type is bool else str(next(iter(key.type)) if value is None else value)

    config = load(None, {f"HITLESS_POLICY__{name.upper()}": text})

    assert text == (
        f"{getattr(config.policy, name)}".lower().removesuffix(".0")
        if "." not in text
        else str(getattr(config.policy, name))
    )
    assert {key.name} == config.said


def test_a_provider_can_be_changed_and_added_by_variables(write):
    """
    By its name in upper case, with _ for -.
    """
    path = write('[[provider]]\nname = "my-sfu"\nadapter = "whip"\nurl = "https://a.example/"\n')
    environ = {
        "HITLESS_PROVIDER__MY_SFU__URL": "https://b.example/",
        "HITLESS_PROVIDER__MY_SFU__TOKEN": "s3cret",
        "HITLESS_PROVIDER__EXTRA__ADAPTER": "memory",
        "HITLESS_PROVIDER__EXTRA__PRIORITY": "-1",
    }

    config = load(path, environ)

    extra, sfu = config.providers
    assert ("extra", "memory", -1) == (extra.name, extra.adapter, extra.priority)
    assert "https://b.example/" == sfu.options["url"]
    assert "s3cret" == sfu.options["token"].read(environ)


def test_providers_without_priorities_keep_the_order_of_the_file(write):
    """
    Their place is their priority.
    """
    config = load(write('[[provider]]\nname = "b"\n\n[[provider]]\nname = "a"\n'), {})

    assert [("b", 1), ("a", 2)] == [(t.name, t.priority) for t in config.providers]


def test_ties_in_priority_keep_the_order_of_the_file(write):
    """
    Lowest first, and a tie is no reason to reorder.
    """
    text = "".join(
        f'[[provider]]\nname = "{n}"\npriority = {p}\n' for n, p in (("c", 2), ("a", 1), ("b", 2))
    )

    config = load(write(text), {})

    assert ["a", "c", "b"] == [table.name for table in config.providers]


def test_values_in_variables_are_read_as_in_toml(write):
    """
    Numbers, lists and quoted texts; anything else is text.
    """
    path = write('[[provider]]\nname = "p"\n')
    start = "HITLESS_PROVIDER__P__"
    environ = {
        f"{start}A": "5",
        f"{start}B": '"5"',
        f"{start}C": "[1, 2]",
        f"{start}D": "eu-west",
        f"{start}E": "true",
    }

    options = load(path, environ).providers[0].options

    assert {"a": 5, "b": "5", "c": [1, 2], "d": "eu-west", "e": True} == options


# --- Mistakes ---


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[policy]\nmax_retry = 3\n", "hitless.toml:2: policy.max_retry is not known; did you"),
        ("[policy]\nmax_retry = 3\n", "did you mean policy.max_retries?"),
        ("[polcy]\nmax_retries = 3\n", ":1: polcy is not known; did you mean policy?"),
        ("max_retries = 3\n", ":1: max_retries is not known; did you mean policy.max_retries?"),
        ("[backend]\nulr = 'https://a.example'\n", "did you mean backend.url?"),
        ("mode = 'act'\n", ":1: mode has no effect in this version: leave it out"),
        ("share = 100\n", "share has no effect in this version"),
        ("[server]\nlisten = 80\n", ":2: server.listen = 80 is not possible: give a text"),
        ("[judging]\nban_s = 400\n", "ban_s must not exceed ban_s_max"),
        ("[policy]\nstandby = {}\n", "policy.standby has no effect in this version"),
        ("policy = 3\n", ":1: policy must be a table: write [policy]"),
        ("[policy]\nmax_retries = 'x'\n", "policy.max_retries = 'x' is not possible: give a wh"),
        ("[policy]\nmax_retries = 1.5\n", "give a whole number from 0 to 20"),
        ("[policy]\nmax_retries = true\n", "give a whole number from 0 to 20"),
        ("[policy]\nmax_retries = 21\n", ":2: policy.max_retries = 21 is not possible: give"),
        ("[policy]\nhealth_interval_s = -30\n", "give a number from 0.05 to 3600 s"),
        ("[policy]\nhealth_interval_s = nan\n", "give a number from 0.05 to 3600 s"),
        ("[policy]\nmedia_beats_health = 1\n", "give true or false"),
        ("[policy]\nreturn_policy = 'maybe'\n", "give one of stay, return"),
        ("[policy]\nreturn_policy = ['stay']\n", "give one of stay, return"),
        ("[policy]\nban_s = 400\n", "hitless.toml:2: policy: ban_s must not exceed ban_s_max"),
        ("[backend]\nurl = 'api.example.com'\n", "backend.url = 'api.example.com' is not a URL"),
        ("[backend]\nurl = 'ftp://a.example'\n", "begin it with http:// or https://"),
        ("[backend]\nurl = 'https://a.example:99999'\n", "is not a URL"),
        ("[backend]\nurl = 'https://'\n", "is not a URL"),
        ("[backend]\nurl = 'https://a b/'\n", "is not a URL"),
        ("[backend]\nheaders_env = 'H'\n", "backend.headers needs backend.url as well"),
        ("[backend]\nurl_env = 'U'\n", "backend.url_env is not known"),
        ("provider = []\n", ":1: the list of providers is empty"),
        ("provider = 3\n", "write each provider as a [[provider]] table"),
        ("[provider.agora]\nurl = 'https://a.example'\n", "write each provider as a [[provider]]"),
        ("[[provider]]\nadapter = 'whip'\n", ":1: this provider has no name"),
        ("[[provider]]\nname = 'Agora'\n", ":2: provider name 'Agora' cannot be used"),
        ("[[provider]]\nname = 7\n", "provider name 7 cannot be used"),
        ("[[provider]]\nname = 'a'\n[[provider]]\nname = 'a'\n", ":4: the provider name a is gi"),
        ("[[provider]]\nname = 'a-b'\n[[provider]]\nname = 'a_b'\n", "is given twice"),
        ("[[provider]]\nname = 'a'\nurl = 'whip'\n", ":3: provider.a.url = 'whip' is not a URL"),
        ("[[provider]]\nname = 'a'\nview_url = 5\n", "provider.a.view_url = 5 is not a URL"),
        ("[[provider]]\nname = 'a'\npriority = '1'\n", "provider.a.priority = '1' is not possib"),
        ("[[provider]]\nname = 'a'\nfirst_media_s = 0\n", "give a number from 0.1 to 60 s"),
        ("[[provider]]\nname = 'a'\nstarts_per_s = -1\n", "give a number that is not negative"),
        ("[[provider]]\nname = 'a'\nprobe_s = inf\n", "give a number that is not negative"),
        ("[[provider]]\nname = 'a'\ntoken_env = ''\n", "token_env must be the name of a variable"),
        ("[[provider]]\nname = 'a'\ntoken_env = 'A'\ntoken_file = 'b'\n", "token is given twice"),
        ("[[provider]]\nname = 'a'\npriority_env = 'A'\n", "give provider.a.priority itself"),
        ("not toml", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
        ("a = " + "9" * 5000, "not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named_with_its_place(text, says, write):
    """
    One sentence: where it stands, what it is, and what would be possible.
    """
    sentence = refused(write(text))

    assert says in sentence
    assert "\n" not in sentence.strip()


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HITLESS_POLICY__MAX_RETRY", "3", "did you mean policy.max_retries?"),
        ("HITLESS_POLICY_MAX_RETRIES", "3", "HITLESS_POLICY_MAX_RETRIES"),
        ("HITLESS_POLCY__MAX_RETRIES", "3", "polcy.max_retries is not known"),
        ("HITLESS_POLICY__MAX_RETRIES", "many", "policy.max_retries = 'many' is not possible"),
        ("HITLESS_POLICY__MAX_RETRIES", "", "policy.max_retries = '' is not possible"),
        ("HITLESS_POLICY__MAX_RETRIES", "1\n2", "is not possible"),
        ("HITLESS_MODE", "act", "mode has no effect in this version"),
        ("HITLESS_SERVER__REPORT_S", "0", "give a number from 0.5 to 300 s"),
        ("HITLESS_BACKEND__URL", "nonsense", "backend.url = 'nonsense' is not a URL"),
        ("HITLESS_PROVIDER__AGRA__URL", "https://a.example", "did you mean agora?"),
        ("HITLESS_PROVIDER__AGRA__URL", "https://a.example", "HITLESS_PROVIDER__AGRA__ADAPTER"),
        ("HITLESS_PROVIDER__AGORA", "x", "write HITLESS_PROVIDER__NAME__KEY"),
        ("HITLESS_PROVIDER__AGORA__NAME", "x", "a provider's name is given in hitless.toml only"),
    ],
)
def test_a_mistake_in_a_variable_is_named(variable, value, says, write):
    """
    A typo must not become a default.
    """
    sentence = refused(write('[[provider]]\nname = "agora"\n'), {variable: value})

    assert says in sentence
    assert variable in sentence


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("policy.max_retry", "did you mean policy.max_retries?"),
        ("provider.agra.url", "did you mean agora?"),
        ("provider.agora.token", "give token_env"),
        ("nonsense", "--set nonsense: nonsense is not known"),
    ],
)
def test_a_mistake_in_a_flag_is_named(flag, says, write):
    """
    The same words as for a file.
    """
    assert says in refused(write('[[provider]]\nname = "agora"\n'), {}, {flag: "5"})


def test_other_programs_variables_are_left_alone(tmp_path, monkeypatch):
    """
    Only what looks like a key is judged; a variable that a key names may be called anything.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hitless.toml").write_text(
        '[backend]\nurl = "https://a.example"\nheaders_env = "HITLESS_BACKEND_HEADERS"\n'
    )
    environ = {
        "HITLESS_LAB_TOKEN": "x",
        "HITLESS_WORLDS": "5",
        "PATH": "/bin",
        "HITLESS_BACKEND_HEADERS": "A: b",
    }

    assert "HITLESS_BACKEND_HEADERS" == load(None, environ).backend.headers.variable


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "large"])
def test_a_file_that_cannot_be_read_is_one_sentence(kind, tmp_path):
    """
    Missing, a folder, not text, or far too large.
    """
    path = tmp_path / "hitless.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif kind == "large":
        path.write_bytes(b"#" * 1_100_000)

    sentence = refused(path)

    assert "hitless.toml" in sentence
    assert "\n" not in sentence


# --- Anything at all ---


@given(st.text(max_size=60))
def test_any_text_in_a_variable_is_read_or_refused(text):
    """
    `literal` has an answer for everything.
    """
    assert isinstance(literal(text), str | bool | int | float | list | dict)


TOML_VALUES = st.recursive(
    st.sampled_from(["1", "-1", "1.5", "nan", "true", '""', '"x"', "1979-05-27", "'https://a/'"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]"),
    max_leaves=4,
)
LINES = st.tuples(
    st.sampled_from(
        ["name", "url", "priority", "token", "token_env", "max_retries", "ban_s", "adapter", "x"]
    ),
    TOML_VALUES,
).map(lambda pair: f"{pair[0]} = {pair[1]}\n")
HEADERS = st.sampled_from(["[policy]\n", "[backend]\n", "[[provider]]\n", "[x]\n", "[provider]\n"])


@given(st.lists(st.one_of(HEADERS, LINES), max_size=8).map("".join))
def test_any_file_is_read_or_refused_in_one_sentence(tmp_path_factory, text):
    """
    Never anything but a configuration or a ConfigError.
    """
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text)
    sentence = None
    try:
        config = load(path, {})
    except ConfigError as exc:
        sentence = str(exc)
    if sentence is None:
        assert tomllib.loads(text).keys() <= {"policy", "backend", "provider"}
        assert Path(path) == config.path
    else:
        assert "any.toml" in sentence
