"""hitless config"""

from __future__ import annotations

import json

import pytest

from hitless.cli import main
from hitless.client.keys import PLAIN_KEYS


TEXT = """
[backend]
url = "https://api.example.com"
headers_env = "BACKEND_HEADERS"

[[provider]]
name = "agora"
adapter = "whip"
url = "https://agora.example.com/whip/{stream}"
token_env = "AGORA_TOKEN"
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Stand in a folder with a hitless.toml."""
    (tmp_path / "hitless.toml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HITLESS_CONFIG", raising=False)
    monkeypatch.setenv("BACKEND_HEADERS", "Authorization: s3cret")
    monkeypatch.delenv("AGORA_TOKEN", raising=False)
    return tmp_path


def test_every_key_is_shown_with_its_origin(capsys):
    """
    Key, value, unit, default, from.
    """
    assert 0 == main(["config", "--set", "policy.max_retries=5"])

    lines = capsys.readouterr().out.splitlines()
    shown = {line.split()[0]: line.split()[1:] for line in lines}
    assert {key.name for key in PLAIN_KEYS} <= shown.keys()
    assert ["5", "3", "--set", "policy.max_retries"] == shown["policy.max_retries"]
    assert ["30", "s", "30", "default"] == shown["policy.health_interval_s"]
    assert ["https://api.example.com", "-", "hitless.toml:3"] == shown["backend.url"]


def test_a_secret_shows_only_whether_it_is_set(capsys):
    """
    And where it is kept.
    """
    assert 0 == main(["config"])

    told = capsys.readouterr()
    assert "s3cret" not in told.out + told.err
    lines = {line.split()[0]: line for line in told.out.splitlines()}
    assert "(set)" in lines["backend.headers"]
    assert "(not set)" in lines["provider.agora.token"]
    assert "hitless.toml:10, $AGORA_TOKEN" in lines["provider.agora.token"]


def test_json_holds_the_same(capsys):
    """
    For programs.
    """
    assert 0 == main(["config", "--json"])

    document = json.loads(capsys.readouterr().out)
    rows = {row["key"]: row for row in document["settings"]}
    assert "hitless.toml" == document["file"]
    assert 30.0 == rows["policy.health_interval_s"]["value"]
    assert "stay" == rows["policy.return_policy"]["value"]
    assert "(set)" == rows["backend.headers"]["value"]
    assert "https://agora.example.com/whip/{stream}" == rows["provider.agora.url"]["value"]


def test_check_makes_everything_and_connects_to_nobody(monkeypatch, capsys):
    """
    A good configuration is called good.
    """
    monkeypatch.setenv("AGORA_TOKEN", "s3cret")

    assert 0 == main(["config", "--check"])
    assert (
        "hitless.toml is good. Providers: agora. Backend: https://api.example.com.\n"
        == capsys.readouterr().out
    )


def test_check_finds_a_secret_that_is_not_set(capsys):
    """
    Exit status 2 and one line.
    """
    assert 2 == main(["config", "--check"])
    assert (
        "hitless: provider.agora.token is kept in $AGORA_TOKEN, which is empty or not set\n"
        == capsys.readouterr().err
    )


def test_check_finds_an_option_that_the_adapter_does_not_have(here, capsys):
    """
    The adapter's own arguments are the list of its options.
    """
    (here / "hitless.toml").write_text(
        '[[provider]]\nname = "a"\nadapter = "whip"\nurl = "https://a.example"\nurrl = 1\n'
    )

    assert 2 == main(["config", "--check"])
    assert "the adapter whip has no option urrl; did you mean url?" in capsys.readouterr().err


def test_check_with_no_file_at_all_is_good(here, capsys):
    """
    Defaults are a configuration.
    """
    (here / "hitless.toml").unlink()

    assert 0 == main(["config", "--check"])
    assert "Providers: none. Backend: none." in capsys.readouterr().out


@pytest.mark.parametrize("listen", ["x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "h:\u0661"])
def test_the_check_refuses_an_address_that_the_server_could_not_listen_at(here, capsys, listen):
    """
    Not first when it is started.
    """
    (here / "hitless.toml").write_text(f'[server]\nlisten = "{listen}"\n')

    assert 2 == main(["config", "--check"])

    err = capsys.readouterr().err
    assert f"hitless.toml:2: server.listen = '{listen}' is not possible: give HOST:PORT" in err
    assert 1 == err.count("\n")


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "[::1]:0", ":8080"])
def test_the_check_takes_an_address_that_the_server_takes(here, capsys, listen):
    """
    Port 0 is any free one.
    """
    (here / "hitless.toml").write_text(f'[server]\nlisten = "{listen}"\n')

    assert 0 == main(["config", "--check"])


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "server.proxies=foo",
            "server.proxies: 'foo' is neither an address nor a network: give 10.0.0.7 or "
            "10.1.0.0/16, commas between them",
        ),
        (
            "server.proxies=*",
            "server.proxies = '*' would believe every client: name the proxies",
        ),
        (
            "server.allow_private=10.1.0.1/16",
            "allow_private: 10.1.0.1/16 has host bits set: write 127.0.0.0/8",
        ),
    ],
)
@pytest.mark.parametrize("words", [(), ("--json",), ("--check",)])
def test_what_the_server_would_refuse_is_refused_in_its_words(capsys, words, said, sentence):
    """
    Of the configuration and of `hitless serve`, one says what the other does.
    """
    assert 2 == main(["config", *words, "--set", said])
    assert f"hitless: {sentence}\n" == capsys.readouterr().err

    assert 2 == main(["serve", "--check", "--set", said])
    assert capsys.readouterr().err.endswith(f"hitless: {sentence}\n")


def test_proxies_and_networks_that_the_server_takes_are_taken(here, capsys):
    """
    As the file has them.
    """
    (here / "hitless.toml").write_text(
        '[server]\nproxies = "10.0.0.7, 10.1.0.0/16"\nallow_private = "10.0.0.0/8, ::1/128"\n'
    )

    assert 0 == main(["config", "--check"])


@pytest.mark.parametrize("kept", ["server_secret_env", "server_secret_file"])
@pytest.mark.parametrize(
    ("secret", "status"), [("geheim", 2), ("g" * 33, 2), ("ä" * 32, 2), ("9193cc66" * 4, 0)]
)
def test_the_check_reads_a_secret_of_zegocloud_that_can_be_none(
    here, monkeypatch, capsys, kept, secret, status
):
    """
    It has 32 characters; what was given is not quoted.
    """
    monkeypatch.setenv("ZEGO", secret)
    (here / "zego.secret").write_text(secret, encoding="utf-8")
    place = {"server_secret_env": "ZEGO", "server_secret_file": "zego.secret"}[kept]
    (here / "hitless.toml").write_text(
        f'[[provider]]\nname = "zego"\nadapter = "zegocloud"\napp_id = 12\n{kept} = "{place}"\n'
    )

    assert status == main(["config", "--check"])

    out, err = capsys.readouterr()
    sentence = "server_secret: give the ServerSecret of ZEGO's console, 32 characters"
    assert err == (f"hitless: provider zego: {sentence}\n" if status else "")
    assert secret not in out + err


@pytest.mark.parametrize(
    ("url", "shows"),
    [
        ("rtmp://a.example:1935/live/geheim?sig=geheim", "rtmp://a.example:1935/live/...?..."),
        ("rtmps://a.example/live/{stream}?sig=geheim", "rtmps://a.example/live/{stream}?..."),
        ("rtmps://a.example/live/{stream}?k={key}", "rtmps://a.example/live/{stream}?k={key}"),
        ("https://a.example/whip?app=live", "https://a.example/whip?app=live"),
    ],
)
def test_a_stream_key_in_an_address_is_not_shown(here, capsys, url, shows):
    """
    In the table and in JSON.
    """
    (here / "hitless.toml").write_text(
        f'[[provider]]\nname = "agora"\nadapter = "rtmp"\nurl = "{url}"\n'
    )

    assert 0 == main(["config"])
    table = capsys.readouterr().out
    assert 0 == main(["config", "--json"])
    settings = json.loads(capsys.readouterr().out)["settings"]

    assert "geheim" not in table
    assert shows in table.split()
    assert [shows] == [one["value"] for one in settings if one["key"] == "provider.agora.url"]
