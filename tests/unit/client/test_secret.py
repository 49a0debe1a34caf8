"""hitless.client.secret"""

from __future__ import annotations

import pytest
from config_files import WHOLE, refused

from hitless import ConfigError
from hitless.client.config import load
from hitless.client.secret import Secret, is_secret_name, parse_headers


@pytest.mark.parametrize(
    "line",
    [
        'token = "s3cret"',
        'certificate = "s3cret"',
        'server_secret = "s3cret"',
        'api_key = "s3cret"',
        'PASSWORD = "s3cret"',
        'ice_servers = [{ urls = "turn:t.example", credential = "s3cret" }]',
        'url = "https://user:s3cret@a.example/whip"',
        'url = "https://a.example/whip?token=s3cret"',
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_quoted(line, write):
    """
    The sentence says what to write in its place.
    """
    sentence = refused(write(f'[[provider]]\nname = "a"\n{line}\n'))

    assert "s3cret" not in sentence
    assert "_env (the name of a variable)" in sentence
    assert ":3:" in sentence


def test_headers_of_the_backend_are_refused_in_the_file(write):
    """
    They hold the credential.
    """
    text = '[backend]\nurl = "https://a.example"\nheaders = "Authorization: s3cret"\n'

    sentence = refused(write(text))

    assert "give headers_env" in sentence
    assert "s3cret" not in sentence


def test_a_configuration_never_holds_a_secret(write):
    """
    Whatever is printed of it, from whichever source.
    """
    path = write(WHOLE)
    (path.parent / "agora.token").write_text("s3cret-file\n")
    environ = {
        "BACKEND_HEADERS": "Authorization: s3cret-headers",
        "HITLESS_PROVIDER__ZEGOCLOUD__TOKEN": "s3cret-variable",
    }

    config = load(path, environ)

    assert "s3cret" not in repr(config)
    assert "s3cret-file" == config.providers[0].options["token"].read(environ)
    assert "s3cret-variable" == config.providers[1].options["token"].read(environ)


def test_a_secret_file_is_read_anew_each_time(tmp_path):
    """
    Secrets rotate while we run; a path begins at the folder of hitless.toml.
    """
    (tmp_path / "hitless.toml").write_text('[[provider]]\nname = "a"\ntoken_file = "t"\n')
    token = load(tmp_path / "hitless.toml", {}).providers[0].options["token"]

    assert not token.is_set({})
    (tmp_path / "t").write_text("one\n")
    assert "one" == token.read({})
    (tmp_path / "t").write_text("two\n")
    assert "two" == token.read({})


@pytest.mark.parametrize(
    "content", [None, b"", b"\n", b"\xff\xfe", b"x" * 70_000], ids=str
)  # fmt: skip
def test_a_secret_that_cannot_be_read_names_its_key_and_place(content, tmp_path):
    """
    Not there, empty, not text, or far too large.
    """
    path = tmp_path / "agora.token"
    if content is not None:
        path.write_bytes(content)
    secret = Secret(key="provider.agora.token", file=path)

    with pytest.raises(ConfigError, match=r"provider\.agora\.token.*agora\.token"):
        secret.read({})


def test_the_environment_beats_a_place_named_in_the_file(write):
    """
    token_file in the file, TOKEN_ENV in the environment: the latter.
    """
    path = write('[[provider]]\nname = "a"\ntoken_file = "t"\n')

    config = load(path, {"HITLESS_PROVIDER__A__TOKEN_ENV": "MINE", "MINE": "x"})

    assert "MINE" == config.providers[0].options["token"].variable


def test_headers_are_written_as_in_http():
    """
    One a line; anything else is refused without quoting it.
    """
    text = "Authorization: Bearer a:b\nX-Tenant:  t1 \n"

    assert {"Authorization": "Bearer a:b", "X-Tenant": "t1"} == parse_headers(
        "backend.headers", text
    )
    with pytest.raises(ConfigError, match="line 2 is not a header") as caught:
        parse_headers("backend.headers", "A: b\ns3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [("token", True), ("stream_key", True), ("app_sign", True), ("keyframe_s", False),
     ("public_key", False), ("monkey", False), ("region", False), ("tokens_per_s", False)],
)  # fmt: skip
def test_a_secret_is_known_by_its_name(name, is_secret):
    """
    By its last word.
    """
    assert is_secret is is_secret_name(name)
