"""The operators' commands: what each sends, what it says, what it refuses before it sends."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from unit.cli.stand_in import AGORA, OTHER, SETTINGS

from hitless.cli.keys import ROLES
from hitless.server import wire
from hitless.server.keys import KeyRole


KEY_MADE = wire.KeyShown(
    id="3f9c1b2a",
    role="operator",
    scope=None,
    name="night",
    made_s=1_700_000_000.0,
    expires_s=1_702_592_000.0,
    revoked_s=None,
    key="hk_3f9c1b2a_" + "shown-once" * 5,
)

DIGITS = "12345678901234567890123456789012"
"""An App ID of Agora's has 32 hexadecimal digits, and these may all be decimal ones."""


@pytest.fixture
def obeying(server):
    """Return a stand-in that does all it is told."""
    server.answers |= {
        ("POST", "/v1/admin/providers/new"): AGORA,
        ("PATCH", "/v1/admin/providers/agora"): AGORA,
        ("PATCH", "/v1/admin/providers/other"): OTHER,
        ("DELETE", "/v1/admin/providers/agora"): wire.Nothing(),
        ("POST", "/v1/admin/move"): wire.Moved(moved=2, stayed=1, because="from agora: other"),
        ("POST", "/v1/admin/end"): wire.Nothing(),
        ("PATCH", "/v1/admin/settings"): msgspec.structs.replace(SETTINGS, is_frozen=True),
        ("POST", "/v1/admin/keys"): KEY_MADE,
        ("DELETE", "/v1/admin/keys/3f9c"): wire.Nothing(),
        ("POST", "/v1/admin/reseal"): wire.Resealed(key="0f1e", changed=["agora"], failed={}),
        ("POST", "/v1/admin/check"): [],
        ("GET", "/v1/admin/keys"): [msgspec.structs.replace(KEY_MADE, key=None)],
    }
    return server


ACTS = [
    (
        "providers add new --adapter whip --url https://n.example.com/whip --priority 3 --default",
        ("POST", "/v1/admin/providers/new", {"because": ""}),
        {
            "adapter": "whip",
            "config": {"url": "https://n.example.com/whip"},
            "priority": 3,
            "is_default": True,
        },
        "was added with priority 1: try `hitless check",
    ),
    (
        "providers add new --disable --weight 2 --starts-per-s 9 --secret-env token=THEIRS",
        ("POST", "/v1/admin/providers/new", {"because": ""}),
        {"is_active": False, "weight": 2.0, "starts_per_s": 9.0, "secrets": {"token": "s3cret"}},
        "was added",
    ),
    (
        "providers change agora --priority 5 --because slow",
        ("PATCH", "/v1/admin/providers/agora", {"because": "slow"}),
        {"priority": 5},
        "agora was changed",
    ),
    (
        "providers change agora --config first_media_s=6 --config region=eu --no-secret token",
        ("PATCH", "/v1/admin/providers/agora", {"because": ""}),
        {
            "config": {
                "url": "https://live.example.com/whip",
                "first_media_s": 6.0,
                "region": "eu",
            },
            "secrets": {"token": None},
        },
        "agora was changed",
    ),
    (
        f"providers add new --adapter agora --config app_id={DIGITS} --config fault_domain=7",
        ("POST", "/v1/admin/providers/new", {"because": ""}),
        {"adapter": "agora", "config": {"app_id": DIGITS, "fault_domain": "7"}},
        "was added",
    ),
    (
        f"providers add new --adapter zegocloud --config app_id=1234567 --config user={DIGITS}",
        ("POST", "/v1/admin/providers/new", {"because": ""}),
        {"adapter": "zegocloud", "config": {"app_id": 1234567, "user": DIGITS}},
        "was added",
    ),
    (
        "providers add new --adapter unheard-of --config app_id=1234567 --config name=x",
        ("POST", "/v1/admin/providers/new", {"because": ""}),
        {"adapter": "unheard-of", "config": {"app_id": 1234567, "name": "x"}},
        "was added",
    ),
    (
        f"providers change agora --adapter agora --config url= --config app_id={DIGITS}",
        ("PATCH", "/v1/admin/providers/agora", {"because": ""}),
        {"adapter": "agora", "config": {"app_id": DIGITS}},
        "agora was changed",
    ),
    (
        "providers change agora --config url= --view-url https://x.example.com/whep",
        ("PATCH", "/v1/admin/providers/agora", {"because": ""}),
        {"config": {"view_url": "https://x.example.com/whep"}},
        "agora was changed",
    ),
    (
        "providers change agora --secret-file token=token.txt",
        ("PATCH", "/v1/admin/providers/agora", {"because": ""}),
        {"secrets": {"token": "from a file"}},
        "agora was changed",
    ),
    (
        "providers delete agora --because gone",
        ("DELETE", "/v1/admin/providers/agora", {"because": "gone"}),
        None,
        "agora was deleted",
    ),
    (
        "drain agora --because maintenance",
        ("PATCH", "/v1/admin/providers/agora", {"because": "maintenance"}),
        {"is_drained": True},
        "2 streams leave it: see `hitless streams --provider agora`",
    ),
    (
        "drain other",
        ("PATCH", "/v1/admin/providers/other", {"because": ""}),
        {"is_drained": True},
        "and no stream is on it",
    ),
    (
        "undrain agora",
        ("PATCH", "/v1/admin/providers/agora", {"because": ""}),
        {"is_drained": False},
        "agora can have streams again",
    ),
    (
        "switch show other --because blocks",
        ("POST", "/v1/admin/move", {}),
        {"stream": "show", "source": "", "provider": "other", "share": 1.0, "because": "blocks"},
        "show moves to agora (epoch 3)",
    ),
    (
        "switch -- --odd",
        ("POST", "/v1/admin/move", {}),
        {"stream": "--odd", "source": "", "provider": "", "share": 1.0, "because": ""},
        "--odd moves to",
    ),
    (
        "switch --from agora --to other --share 0.5",
        ("POST", "/v1/admin/move", {}),
        {"stream": "", "source": "agora", "provider": "other", "share": 0.5, "because": ""},
        "2 streams of agora move, 1 stay: from agora: other",
    ),
    (
        "end show --because asked",
        ("POST", "/v1/admin/end", {}),
        {"stream": "show", "because": "asked"},
        "show was ended",
    ),
    (
        "freeze --because hands",
        ("PATCH", "/v1/admin/settings", {}),
        {"is_frozen": True, "because": "hands"},
        "automatic moves are frozen",
    ),
    (
        "thaw",
        ("PATCH", "/v1/admin/settings", {}),
        {"is_frozen": False, "because": ""},
        "automatic moves go on",
    ),
    (
        "settings --mode observe --share 10",
        ("PATCH", "/v1/admin/settings", {}),
        {"mode": "observe", "share": 10, "because": ""},
        "automatic moves   frozen",
    ),
    (
        "keys add publisher --scope show --name night --life 30d",
        ("POST", "/v1/admin/keys", {}),
        {"role": "publisher", "scope": "show", "name": "night", "life_s": 2_592_000.0},
        KEY_MADE.key,
    ),
    (
        "keys revoke 3f9c --because lost",
        ("DELETE", "/v1/admin/keys/3f9c", {"because": "lost"}),
        None,
        "3f9c opens nothing any more",
    ),
    (
        "keys reseal --because yearly",
        ("POST", "/v1/admin/reseal", {"because": "yearly"}),
        None,
        "agora: sealed anew",
    ),
    ("check agora", ("POST", "/v1/admin/check", {}), {"provider": "agora"}, ""),
    ("check", ("POST", "/v1/admin/check", {}), {"provider": ""}, ""),
]


@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
@pytest.mark.parametrize(("words", "call", "body", "said"), ACTS, ids=[row[0] for row in ACTS])
def test_an_act_is_one_call_and_one_answer(
    words, call, body, said, as_json, obeying, run, monkeypatch, tmp_path
):
    """
    What was not said is not sent: it stays as it is. With `--json` there is JSON and no more.
    """
    monkeypatch.setenv("THEIRS", "s3cret")
    (tmp_path / "token.txt").write_text("from a file\n")
    name, *rest = words.split()

    status, out, err = run(name, *(["--json"] if as_json and "--" in rest else []), *rest,
                           *(["--json"] if as_json and "--" not in rest else []))  # fmt: skip

    assert 0 == status, err
    (act,) = obeying.acts
    assert call == act[:3]
    sent = act[3] and {key: value for key, value in act[3].items() if value is not None}
    kept = body and {key: value for key, value in body.items() if value is not None}
    assert kept == sent
    assert "s3cret" not in out + err
    if as_json:
        json.loads(out)
        assert "" == err
    else:
        assert said in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "providers add agora --url https://x.example.com",
            "agora is there already: use `hitless",
        ),
        ("providers add new --url nonsense", "is not a URL"),
        ("providers add new --config token=s3cret", "give a secret with --secret-env"),
        ("providers add new --url https://u:s3cret@x.example.com/", "would be public"),
        ("providers add new --url https://x.example.com/?token=s3cret", "would be public"),
        ("providers add new --config s3cret", "--config: write KEY=VALUE"),
        ("providers add new --secret-env s3cret", "--secret-env: write KEY=VALUE"),
        ("providers add new --secret-env token=NOWHERE", "$NOWHERE, which is empty or not set"),
        ("providers add new --secret-file token=/nowhere", "/nowhere: No such file"),
        ("providers add new --priority first", "--priority"),
        ("providers change agora", "nothing to change was said"),
        ("providers change agora --config region=", "there is no region to take away"),
        ("providers change agoar --priority 1", "did you mean agora?"),
        ("providers agoar", "did you mean agora?"),
        ("streams show --ended", "give a STREAM, or --provider"),
        ("switch", "give a STREAM, or --from NAME"),
        ("switch show --from agora", "give a STREAM, or --from NAME"),
        ("switch show --to other", "go with --from"),
        ("switch show --share 0.5", "go with --from"),
        ("switch --from agora --share 0", "--share"),
        ("switch --from agoar", "did you mean agora?"),
        ("switch --from agora --to othr", "did you mean other?"),
        ("settings --share 101", "--share"),
        ("settings --mode dream", "--mode"),
        ("keys add king", "'king' is not one of"),
        ("keys add owner --life forever", "'forever' is no time: write 45s, 30m, 1h or 30d"),
        ("audit --since 0h", "'0h' is no time"),
        ("audit --limit 0", "--limit"),
        ("incident --output /nowhere/x.json", "cannot write /nowhere/x.json"),
    ],
)
def test_bad_input_changes_nothing(words, said, obeying, run):
    """
    Exit status 2 and one line, which quotes no secret.
    """
    status, out, err = run(*words.split())

    assert (2, "") == (status, out)
    assert said in err
    assert "s3cret" not in err
    assert 1 == err.count("\n")
    assert [] == obeying.acts


# --- Being sure ---


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self):
        return True


SURE = ["providers delete agora", "switch --from agora"]


@pytest.mark.parametrize("words", SURE)
def test_somebody_at_a_terminal_is_asked(words, obeying, run, monkeypatch):
    """
    No is exit status 1, and nothing was done; yes does it.
    """
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    status, out, err = run(*words.split())

    assert (1, "") == (status, out)
    assert "agora" in err
    assert "hitless: nothing was done" in err
    assert [] == obeying.acts

    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert 0 == run(*words.split())[0]
    assert 1 == len(obeying.acts)


@pytest.mark.parametrize("words", SURE)
def test_nobody_is_asked_with_yes(words, obeying, run, monkeypatch):
    """
    Nor where nobody could answer.
    """
    monkeypatch.setattr("sys.stdin", Terminal(""))

    assert 0 == run(*words.split(), "--yes")[0]
    assert 1 == len(obeying.acts)


# --- What is shown ---


def test_a_new_key_stands_alone_on_standard_output(obeying, run):
    """
    So that `> key` keeps it and nothing else.
    """
    status, out, err = run("keys", "add", "operator")

    assert (0, KEY_MADE.key + "\n") == (status, out)
    assert "made the operator key 3f9c1b2a, good until" in err
    assert KEY_MADE.key not in err


def test_the_list_of_keys_has_no_secret(obeying, run):
    """
    As JSON neither, not even an empty place for one.
    """
    obeying.answers["GET", "/v1/admin/keys"] = [
        msgspec.structs.replace(KEY_MADE, key=None),
        msgspec.structs.replace(KEY_MADE, id="aa", key=None, expires_s=None),
        msgspec.structs.replace(KEY_MADE, id="bb", key=None, revoked_s=1_700_000_001.0),
    ]

    _, out, _ = run("keys")
    ends = [line.split("  ")[-1] for line in out.splitlines()]
    assert "never" == ends[2].strip()
    assert ends[3].startswith("revoked 2023-11-1")
    assert "key" not in json.loads(run("keys", "--json")[1])[0]


def test_the_roles_are_the_servers():
    """
    Written apart, so that an operator's machine needs no extra.
    """
    assert tuple(KeyRole) == ROLES


def test_a_secret_that_could_not_be_sealed_anew_is_named_and_ends_in_1(obeying, run):
    """
    The older keys are still needed then.
    """
    obeying.answers["POST", "/v1/admin/reseal"] = wire.Resealed(
        key="0f1e", changed=[], failed={"agora": "token: it was sealed with key 77, not here"}
    )

    status, out, err = run("keys", "reseal")

    assert status == 1
    assert "agora: NOT sealed anew: token: it was sealed with key 77" in out
    assert "keep the older keys" in err
