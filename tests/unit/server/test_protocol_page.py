"""docs/reference/protocol.md: complete, and true."""

import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from golden.transcript import KINDS, whole

from hitless.client import protocol
from hitless.core.events import Outcome
from hitless.server import exchange, hand_sessions, hands, hub, wire
from hitless.server import socket as sockets
from hitless.server.hand_legs import _ERRORS


ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "protocol.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)

SPEAKERS = "socket", "hub", "hands", "hand_plans", "exchange", "coordinator", "access"
CODES = re.compile(
    r'(?:Rejected\(\s*\d+,|code=|_refuse\(|\.end\(|_answer\(\w+,|return)\s*"([a-z-]+)"'
)
OPERATORS = {"moved-meanwhile", "unknown-provider", "no-such"}
"""Codes of the coordinator that only an operator meets."""

BODIES = (
    protocol.PlanRequest,
    wire.Exchange,
    wire.Data[protocol.Plan],
    wire.Data[wire.Exchanged],
    wire.Failure,
)


def section(title):
    """Return what stands below a heading, up to the next one."""
    return re.split(r"\n##", PAGE.split(f"\n{title}\n", 1)[1], maxsplit=1)[0]


def told(text):
    """Return the fields that tables of a text tell of, with their defaults."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)
    return {name: default.strip("`") for name, default in rows}


def fields(kind):
    """Return the fields of a message with their defaults, as the page writes them."""
    found = {}
    for field in msgspec.structs.fields(kind):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        found[field.name] = "required" if field.required else json.dumps(default)
    return found


@pytest.mark.parametrize("tag", sorted(KINDS))
def test_every_message_is_told_of_with_every_field_and_default(tag):
    """
    And with nothing that it does not have; its example is one.
    """
    text = section(f"### `{tag}`")
    expected = fields(KINDS[tag])
    if tag == "hello":
        expected |= fields(protocol.Seen) | fields(protocol.SeenLeg)

    assert told(text) == expected
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert json.loads(example)["type"] == tag


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("### Plan request", protocol.PlanRequest),
        ("### Plan", protocol.Plan),
        ("## By REST", wire.Exchange),
    ],
)
def test_bodies_of_calls_are_told_of_with_every_field_and_default(title, kind):
    assert told(section(title)) == fields(kind)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text[:40])
def test_every_example_is_understood_and_holds_nothing_unknown(example):
    """
    An example that does not work teaches the wrong thing.
    """
    said = json.loads(example)
    if "type" in said:
        kind = KINDS[said["type"]]
        is_up = kind in get_args(protocol.Up)
        message = (protocol.decode_up if is_up else protocol.decode_down)(example)
        assert whole(json.loads(protocol.encode(message))) == whole(said)
    else:
        assert [kind for kind in BODIES if holds(kind, said)], "it is the body of no call"


def holds(kind, said):
    """Whether a body is of a kind, and has no field that this kind has not."""
    try:
        back = msgspec.to_builtins(msgspec.convert(said, kind))
    except msgspec.ValidationError:
        return False
    return is_within(said, back)


def is_within(less, more):
    """Whether all that one object says is said by another one."""
    if isinstance(less, dict) and isinstance(more, dict):
        return all(key in more and is_within(less[key], more[key]) for key in less)
    return list(less) == list(more) if isinstance(less, list) else less == more


def test_a_body_with_a_field_that_does_not_exist_is_found():
    """
    The check above can fail.
    """
    assert not any(holds(kind, {"stream": "a", "client": "b", "made_up": 1}) for kind in BODIES)


def test_every_code_that_a_client_can_meet_is_told_of():
    """
    With what to do about it.
    """
    folder = ROOT / "src" / "hitless" / "server"
    said = {
        code for name in SPEAKERS for code in CODES.findall((folder / f"{name}.py").read_text())
    }
    table = section("## Problems")
    documented = {
        code for line in table.splitlines() if line.startswith("| `")
        for code in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }  # fmt: skip

    assert len(said) > 15
    assert said - OPERATORS - documented == set()


def test_every_state_error_and_outcome_is_told_of():
    text = section("### `leg`")

    assert [one for one in get_args(protocol.LegState) if f"| `{one}` |" not in text] == []
    assert [
        one for one in (*_ERRORS, "NotOnAir", "LocalFault") if f"| `{one}` |" not in text
    ] == []
    assert [one for one in Outcome if f"`{one}`" not in section("### `over`")] == []


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("## The connection", f"until the `hello` | {sockets.HELLO_S_MAX:g} s"),
        ("## The connection", f"{protocol.MESSAGE_BYTES_MAX} bytes"),
        ("## The connection", f"{sockets.MESSAGES_PER_S:g} a second, {sockets.BURST:g} at once"),
        ("## The connection", f"streams of a connection | {hub.STREAMS_MAX}"),
        ("## The connection", f"wait for you | {hub.OUTBOX_MAX}"),
        ("## The connection", f"subprotocol `{sockets.SUBPROTOCOL}`"),
        ("## The connection", f"`{sockets.BEARER}hk_...`"),
        ("## By REST", f"at most {exchange.WAIT_S_MAX:g}"),
        ("## By REST", f"forgotten after {exchange.SILENT_S:g} s"),
        ("### `hello`", f"{hand_sessions.LEGS_MAX} at most"),
    ],
)
def test_limits_are_those_of_the_server(title, text):
    assert text in section(title)
    assert hands.WAIT_S_MAX == 86_400, "up to a day"


def test_the_page_names_this_version():
    assert f"# The protocol: `{sockets.SUBPROTOCOL}`" in PAGE
    assert sockets.SUBPROTOCOL.endswith(f".v{protocol.VERSION}")


def test_the_page_is_found_from_the_first_one():
    assert "(reference/protocol.md)" in (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
