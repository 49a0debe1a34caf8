"""The operators' commands as real processes against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import secrets
import signal
import socket
import subprocess
import time
from contextlib import closing

import pytest
from e2e.commands import HITLESS, clock
from e2e.desk import LIMIT_S, NOWHERE, POLL_S, desk_in

from hitless.server.vault import new_key


pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Return a desk that the tests of this module share, each with names of its own."""
    with desk_in(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture
def own_desk(tmp_path):
    """Return a desk of the test's own."""
    with desk_in(tmp_path) as desk:
        yield desk


# --- What an operator does ---


def test_a_provider_is_added_changed_and_deleted(desk):
    """
    Its secret is seen nowhere again, and the log has each act with its reason.
    """
    secret = secrets.token_urlsafe(24)
    desk.does(
        "providers", "add", "alpha", "--adapter", "whip", "--url", NOWHERE, "--priority", "7",
        "--config", "probe=none", "--secret-env", "token=THEIRS", "--because", "a trial",
        THEIRS=secret,
    )  # fmt: skip
    desk.does("providers", "change", "alpha", "--config", "first_media_s=6", "--because", "slow")

    shown = desk.reads("providers", "alpha")
    assert {"url": NOWHERE, "probe": "none", "first_media_s": 6.0} == shown["config"]
    assert ["token"] == shown["secrets"]
    assert 7 == shown["priority"]
    assert re.search(r"^alpha +whip +7 +active", desk.does("providers"), re.MULTILINE)

    refused = desk.refuses(2, "providers", "add", "alpha", "--url", NOWHERE)
    assert "alpha is there already" in refused

    assert "alpha was deleted\n" == desk.does("providers", "delete", "alpha", "--because", "over")
    assert "there is no provider 'alpha'" in desk.refuses(2, "providers", "alpha")
    assert [
        ("provider.added", "a trial"),
        ("provider.changed", "slow"),
        ("provider.deleted", "over"),
    ] == desk.log("alpha")
    assert secret not in desk.does("audit", "--json") + "".join(desk.node.lines())


def test_a_stream_is_switched_explained_and_ended(own_desk):
    """
    Each command sees what the one before did; the log names the key that did it.
    """
    desk = own_desk
    desk.add("one", "two")
    desk.start("show")
    assert "one" == desk.reads("streams", "show")["provider"]

    said = desk.does("switch", "show", "two", "--because", "viewers see blocks")
    assert "show moves to two (epoch 2)\n" == said
    assert ["show"] == [one["stream"] for one in desk.reads("streams", "--provider", "two")]
    why = desk.does("why", "show")
    assert "stream.moved           viewers see blocks" in why
    assert "show: starting with two (epoch 2), no media yet" in why.splitlines()[-1]
    assert "show moves to one (epoch 3)\n" == desk.does("switch", "show")

    assert "show was ended\n" == desk.does("end", "show", "--because", "enough")
    assert [] == desk.reads("streams")
    assert ["show"] == [one["stream"] for one in desk.reads("streams", "--ended")]
    assert "no stream 'show' is on (see `hitless streams`)" in desk.refuses(2, "end", "show")
    owner = desk.house.keys["HITLESS_OWNER_KEY"].split("_")[1]
    moved, *_, ended = [
        one for one in reversed(desk.reads("audit", "--target", "show")) if one["who"] == owner
    ]
    assert ("stream.moved", "viewers see blocks") == (moved["what"], moved["because"])
    assert ("stream.ended", "enough") == (ended["what"], ended["because"])


def test_a_provider_is_emptied_and_filled(own_desk):
    """
    `switch --from` moves what it has; `drain` keeps it empty until `undrain`.
    """
    desk = own_desk
    desk.add("one", "two")
    desk.start("show", "news")

    assert desk.does("switch", "--from", "one", "--to", "two").startswith("2 streams of one move")
    desk.until_on("show", "two")
    desk.until_on("news", "two")

    said = desk.does("drain", "two", "--because", "maintenance")
    assert said.startswith("two is drained: it gets nothing new, and ")
    desk.until_on("show", "one")
    desk.until_on("news", "one")
    assert desk.reads("providers", "two")["is_drained"]
    desk.does("undrain", "two", "--because", "it is over")
    assert not desk.reads("providers", "two")["is_drained"]
    changes = [entry for entry in desk.log("two") if entry[0] == "provider.changed"]
    assert [("provider.changed", "maintenance"), ("provider.changed", "it is over")] == changes


def test_settings_hold_and_are_in_the_log(own_desk):
    """
    Freeze and thaw; mode and share.
    """
    desk = own_desk
    desk.does("freeze", "--because", "by hand")
    assert re.search(r"automatic moves +frozen", desk.does("settings"))
    desk.does("thaw", "--because", "done")
    desk.does("settings", "--mode", "observe", "--share", "10", "--because", "first week")

    now = desk.reads("settings")
    assert (False, "observe", 10) == (now["is_frozen"], now["mode"], now["share"])
    assert [("setting.changed", "by hand"), ("setting.changed", "done")] == desk.log("is_frozen")
    assert [("setting.changed", "first week")] == desk.log("mode")
    assert "share 100 -> 10" in desk.does("audit", "--since", "1h")


def test_a_check_of_a_provider_that_is_not_there_fails(own_desk):
    """
    Exit status 1, and the reason beside its name.
    """
    desk = own_desk
    desk.does("providers", "add", "gone", "--adapter", "whip", "--url", NOWHERE)

    until_s = clock() + LIMIT_S
    while (done := desk.run("check", "gone")).returncode == 2 and clock() < until_s:
        time.sleep(POLL_S)  # it is probed within a second after it was added
    found = desk.run("check", "--json")

    assert 1 == done.returncode
    assert re.search(r"^gone +\w+ +(FAILED|unknown)", done.stdout, re.MULTILINE)
    assert 1 == found.returncode
    assert {"gone"} == {one["provider"] for one in json.loads(found.stdout)}
    assert not any(one["ok"] for one in json.loads(found.stdout))
    assert 2 == desk.run("check", "nobody").returncode


def test_an_incident_is_collected(desk, tmp_path):
    """
    To a file of one's own, with what was done.
    """
    desk.does("freeze", "--because", "an incident")
    desk.does("thaw")
    path = tmp_path / "incident.json"

    desk.does("incident", "--since", "1h", "--output", str(path))

    document = json.loads(path.read_text())
    assert "an incident" in [one["because"] for one in document["audit"]]
    assert desk.node.url == document["server"]
    assert document["settings"] == desk.reads("settings")
    assert not set(desk.house.keys.values()) & set(re.findall(r"[\w-]+", path.read_text()))


def test_an_incident_is_judged_again_to_the_same_verdicts_anywhere(desk, tmp_path):
    """
    Observed by a real server, judged again by another process; a file that was changed is told.
    """
    desk.does("providers", "add", "judged", "--adapter", "whip", "--url", NOWHERE)
    desk.does("providers", "change", "judged", "--disable", "--because", "a word of theirs")

    async def on_air():
        await desk.node.start("secret-show", client="secret-studio")
        seen = {"stream": "secret-show", "role": "publisher", "epoch": 1}
        async with desk.node.connected("secret-studio", seen) as ear:
            about = {"stream": "secret-show", "provider": "judged"}
            await ear.say(type="report", **about, bytesSent=1000)
            await ear.say(type="leg", **about, state="failed", because="no secret-studio here")
            await ear.say(type="finish", stream="secret-show")
            await ear.say(type="finish", stream="secret-show")
            await ear.until("problem", 10.0)  # all before it was heard

    asyncio.run(on_air())
    desk.does("providers", "change", "judged", "--active")
    path = tmp_path / "incident.json"
    desk.does("incident", "--since", "1h", "--output", str(path))
    document = json.loads(path.read_text())
    judged = json.dumps(document["judged"])
    kinds = {one["observation"] for one in document["judged"]["recording"]["entries"]}
    again = desk.run("replay", str(path))
    for one in document["judged"]["recording"]["entries"]:
        for news in one.get("news", ()):
            news["was"] = "down"
    path.write_text(json.dumps(document, indent=2))
    changed = desk.run("replay", str(path))

    assert {"OperatorSaid", "ManyFresh", "StartEnded", "Ticked"} <= kinds
    assert "secret-" not in judged
    assert "127.0.0.1" not in judged.replace(NOWHERE, "")
    assert 0 == again.returncode, again.stdout
    assert "verdict.changed  judged  disabled" in again.stdout
    assert "the same verdicts" in again.stderr
    assert 1 == changed.returncode
    assert "DIFFERENT after OperatorSaid of judged" in changed.stdout


def test_the_vaults_key_is_changed_and_the_old_one_taken_away(own_desk):
    """
    By a restart with both, the command, and a restart with the new one alone.
    """
    desk = own_desk
    desk.does("providers", "add", "agora", "--adapter", "whip", "--url", NOWHERE,
              "--secret-env", "token=THEIRS", THEIRS="a-token-of-theirs")  # fmt: skip
    old, new = desk.house.keys["HITLESS_VAULT_KEY"], new_key()

    def restarted(keys):
        desk.node.close()
        desk.house.keys["HITLESS_VAULT_KEY"] = keys
        desk.node = desk.house.serve("hitless.db")

    restarted(f"{new} {old}")
    said = desk.does("keys", "reseal", "--because", "yearly")
    log = desk.does("audit", "--target", "agora")
    restarted(new)
    after = desk.reads("keys", "reseal")

    assert "agora: sealed anew" in said
    assert "provider.resealed" in log
    assert "yearly" in log
    assert ([], {}) == (after["changed"], after["failed"])
    assert "a-token-of-theirs" not in said + log


# --- Keys and roles ---


def test_a_key_does_what_its_role_may_until_it_is_revoked(desk):
    """
    What is refused says which role is needed, and by which variable it is given.
    """
    operator = desk.does("keys", "add", "operator", "--name", "night", "--life", "1h").strip()
    (desk.house.folder / "viewer.key").write_text(desk.does("keys", "add", "viewer"))
    kept = {"HITLESS_KEY": None, "HITLESS_KEY_FILE": "viewer.key"}
    key_id = operator.split("_")[1]

    desk.does("freeze", HITLESS_KEY=operator)
    desk.does("thaw", HITLESS_KEY=None, HITLESS_OPERATOR_KEY=operator)
    said = desk.refuses(2, "providers", "delete", "any", HITLESS_KEY=operator)
    assert "its role is operator; an owner's key is needed: set HITLESS_KEY" in said
    said = desk.refuses(2, "settings", "--share", "1", HITLESS_KEY=operator)
    assert "an owner's key is needed" in said

    desk.does("providers", **kept)
    said = desk.refuses(2, "freeze", **kept)
    assert "its role is viewer; an operator's key is needed" in said
    assert not desk.reads("settings")["is_frozen"]

    (listed,) = [one for one in desk.reads("keys") if one["id"] == key_id]
    assert ("operator", "night") == (listed["role"], listed["name"])
    assert f"{key_id} opens nothing any more\n" == desk.does("keys", "revoke", key_id)
    said = desk.refuses(2, "freeze", HITLESS_KEY=operator)
    assert "does not accept the key in $HITLESS_KEY: this key was revoked" in said
    assert operator not in said


def test_a_wrong_key_opens_nothing(desk):
    """
    Nor does none at all.
    """
    wrong = f"hk_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"

    said = desk.refuses(2, "providers", HITLESS_KEY=wrong)
    assert "does not accept the key in $HITLESS_KEY: no such key" in said
    assert "no key: set HITLESS_KEY" in desk.refuses(2, "providers", HITLESS_KEY=None)


# --- What goes wrong ---


def test_a_server_that_does_not_run_is_said_so(desk):
    """
    With what to do.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    said = desk.refuses(1, "streams", HITLESS_SERVER=url)

    assert f"nothing listens at {url}: is it running? Start it with `hitless serve`" in said


def test_ctrl_c_ends_a_command_that_waits(desk):
    """
    At once, in silence, with status 130.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(LIMIT_S)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [HITLESS, "providers", "--server", url],
            env=desk.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(LIMIT_S)
                peer.recv(1)  # it has asked, and waits
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=5)
        finally:
            process.kill()
            process.communicate(timeout=5)

    assert (130, b"", b"") == (process.returncode, out, err.strip())  # click ends the line of ^C


def test_a_terminal_is_asked_before_a_provider_is_deleted(desk):
    """
    No leaves it where it is.
    """
    desk.add("kept")
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [HITLESS, "providers", "delete", "kept"],
            env=desk.env(),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.write(ours, b"n\n")
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        os.close(ours)
        os.close(theirs)

    assert (1, b"") == (process.returncode, out)
    assert b"Delete provider kept and its secrets? [y/N]" in err
    assert b"nothing was done" in err
    assert "kept" == desk.reads("providers", "kept")["name"]
