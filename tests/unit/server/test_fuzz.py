"""Whatever strangers send a server: an answer or one named error, soon, and nothing that grows."""

import asyncio
import base64
import json

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.server.api import Api
from unit.server.room import APP, WATCHER, Room
from virtual_time import run

from hitless.client import protocol
from hitless.core.events import Role
from hitless.errors import ConfigError
from hitless.server import socket as sockets
from hitless.server.coordinator import Rejected
from hitless.server.hub import OUTBOX_MAX, STREAMS_MAX
from hitless.server.plans import PlanFacts, PlanRefused, PlanSigner
from hitless.server.vault import RootKey
from hitless.server.webhook_post import HOOKS_MAX, VARIABLE, read_hooks


fuzzed = settings(max_examples=200, derandomize=True, database=None, deadline=None)
"""Drawn the same way each time: a failure can be run again."""

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


def tried(error, work, *args):
    """Return what work comes to, or else the error of this kind; any other one fails the test."""
    try:
        return work(*args), None
    except error as exc:
        return None, exc


async def tried_soon(error, work):
    """Do the same with what is waited for."""
    try:
        return await work, None
    except error as exc:
        return None, exc


# --- Plans ---

SIGNER = PlanSigner([RootKey(bytes(range(32)))])
OTHER = PlanSigner([RootKey(bytes(range(1, 33)))])
FACTS = PlanFacts(
    stream="show",
    role=Role.PUBLISHER,
    epoch=7,
    provider="agora",
    client="studio",
    key="k1",
    issued_s=1000,
    expires_s=2000,
)
TOKEN = SIGNER.sign(FACTS)


def packed(value):
    """Return JSON as a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@st.composite
def tampered(draw):
    """Return a token with a few characters changed, left out, doubled or put in."""
    text = list(TOKEN)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        put = draw(st.sampled_from(("", "A", "=", ".", "-", "_", "\n", "\0", "é")))
        text[at : at + draw(st.integers(0, 2))] = put
    return "".join(text)


CLAIMS = json.loads(base64.urlsafe_b64decode(TOKEN.split(".")[1] + "=="))
HEADER = jwt.get_unverified_header(TOKEN)
forged = st.builds(
    lambda header, claims, end: f"{packed(HEADER | header)}.{packed(CLAIMS | claims)}.{end}",
    st.dictionaries(
        st.sampled_from(("alg", "kid", "typ", "crit", "jwk", "b64")),
        st.one_of(
            st.sampled_from(("none", "HS256", "HS512", HEADER["kid"])), TEXT, st.lists(TEXT)
        ),
    ),
    st.dictionaries(
        st.sampled_from(("epoch", "stream", "exp", "role", "expires_s", "iat")),
        st.one_of(st.integers(), TEXT, st.none(), st.floats(allow_nan=False)),
    ),
    st.one_of(st.just(TOKEN.split(".")[2]), st.just(""), st.from_regex(r"\A[A-Za-z0-9_-]{43}\Z")),
)


@fuzzed
@given(token=st.one_of(TEXT, tampered(), forged), now_s=st.floats(0, 1e10))
@example(token="." * 1_000_000, now_s=0.0)
@example(token="A" * 256 + "." + "A" * 12_500 + "." + "A" * 43, now_s=0.0)
@example(token=OTHER.sign(FACTS), now_s=1500.0)
@example(token=f"{packed(HEADER | {'alg': 'none'})}.{packed(CLAIMS)}.", now_s=1500.0)
@example(token=f"{packed(HEADER | {'alg': 'none'})}.{packed(CLAIMS)}.{'A' * 43}", now_s=1500.0)
def test_no_token_but_the_one_that_was_signed_is_a_plan(token, now_s):
    facts, refused = tried(PlanRefused, SIGNER.verify, token, now_s)

    if token != TOKEN:
        assert facts is None
        assert refused.expired is None
        assert refused.because.isprintable()


@fuzzed
@given(now_s=st.floats(0, 1e10))
def test_the_plan_that_was_signed_says_what_was_signed_whenever_it_is_read(now_s):
    facts, refused = tried(PlanRefused, SIGNER.verify, TOKEN, now_s)

    assert (facts or refused.expired) == FACTS
    assert (refused is not None) is (now_s >= 2060)


# --- What clients say ---

SOME = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT)
NAMES = st.one_of(st.sampled_from(("show", "other", "one", "two", "")), TEXT)
EPOCHS = st.one_of(st.integers(0, 5), st.integers(-(1 << 70), 1 << 70))
FIELDS = {
    "stream": NAMES,
    "provider": NAMES,
    "client": st.sampled_from(("studio", "x")),
    "epoch": EPOCHS,
    "base": EPOCHS,
    "leg": EPOCHS,
    "state": st.sampled_from(("opening", "live", "silent", "heard", "failed", "closed", "odd")),
    "error": st.sampled_from(("", "Refused", "NotOnAir", "MediaLost", "odd")),
    "retry": st.sampled_from(("", "same", "next", "never")),
    "retry_after_s": st.floats(allow_nan=False, allow_infinity=False),
    "mediaAge": st.floats(allow_nan=False, allow_infinity=False),
    "role": st.sampled_from(("publisher", "viewer", "odd")),
    "because": TEXT,
    "group": NAMES,
}
SEEN = st.fixed_dictionaries(
    {"stream": NAMES, "role": FIELDS["role"]},
    optional={"epoch": EPOCHS, "provider": NAMES, "plan": TEXT, "group": NAMES,
              "wait_s": FIELDS["mediaAge"]},
)  # fmt: skip
NEEDED = "stream", "provider", "epoch", "base", "state"
MESSAGES = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(("claim", "confirm", "leg", "report", "finish", "renew")),
         **{name: FIELDS[name] for name in NEEDED}},
        optional={name: one for name, one in FIELDS.items() if name not in NEEDED},
    ),
    st.fixed_dictionaries(
        {"type": st.just("hello"), "client": FIELDS["client"]},
        optional={"streams": st.lists(SEEN, max_size=4), "adapters": st.lists(NAMES, max_size=3)},
    ),
    st.dictionaries(st.sampled_from((*FIELDS, "type")), SOME, max_size=6),
)  # fmt: skip
SAID = st.one_of(
    MESSAGES.map(lambda one: json.dumps(one).encode()),
    MESSAGES.map(lambda one: json.dumps(one).encode()),
    st.binary(max_size=100),
)


class Conversation:
    """One client of a node in memory."""

    def __init__(self, room, who, hands):
        self.room = room
        self.client = sockets.Client(room, who, "192.0.2.7")
        self.hands = hands

    async def begin(self):
        """Say a good hello, and return the connection."""
        seen = {"stream": "show", "role": "publisher", "epoch": 1, "provider": "one"}
        hello = {"type": "hello", "client": "studio", "hands": self.hands, "streams": [seen]}
        return await self.client.begin(json.dumps(hello).encode())


@pytest.mark.parametrize("hands", [False, True], ids=["decides by itself", "a remote hand"])
@settings(fuzzed, max_examples=120)
@given(said=st.lists(SAID, max_size=12), who=st.sampled_from((APP, WATCHER)))
@example(said=[b"[" * protocol.MESSAGE_BYTES_MAX], who=APP)
@example(said=[b"x" * (protocol.MESSAGE_BYTES_MAX + 1)], who=APP)
@example(said=[b"{}"] * 600, who=APP)
@example(
    said=[b'{"type":"claim","stream":"show","base":99999999999999999999,"provider":"two"}'],
    who=APP,
)
def test_whatever_a_client_says_is_answered_or_ends_its_conversation(hands, said, who):
    """
    Nothing but `Rejected` comes out, what waits for it is bounded, and nobody else is harmed.
    """

    async def main():
        async with Room("one", "two") as room:
            await room.coordinator.start(APP, protocol.PlanRequest(stream="show", client="studio"))
            talk = Conversation(room, who, hands)
            try:
                connection = await talk.begin()
                for data in said:
                    _, rejected = await tried_soon(Rejected, talk.client.hear(data))
                    if rejected:
                        assert rejected.status in (413, 429, 503)
                        break
                    assert len(connection.roles) <= STREAMS_MAX
                await asyncio.sleep(1.0)
                waiting = connection.waiting()
                assert len(waiting) <= OUTBOX_MAX
                for message in waiting:
                    assert len(protocol.encode(message)) <= 2 * protocol.MESSAGE_BYTES_MAX
                for row in room.store.of.values():
                    assert "\0" not in f"{row}"
                    assert 0 < row.epoch < 1 << 53
            finally:
                await talk.client.aclose()
            assert not [fields for name, fields in room.told if name == "task.failed"]
            # Somebody else comes, and is served.
            other = protocol.PlanRequest(stream="another", client="else")
            assert (await room.coordinator.start(APP, other)).epoch == 1

    run(main())


@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_nothing_that_a_client_says_is_more_than_a_database_can_take(tmp_path):
    """
    Over a real store that refuses what either engine refuses.
    """
    with Api(tmp_path / "hitless.db") as api:
        api.publish()

        @settings(fuzzed, max_examples=60)
        @given(said=st.lists(MESSAGES, max_size=8), hands=st.booleans())
        @example(said=[CLAIM | {"base": 1 << 63}, CLAIM | {"provider": "\0"}], hands=False)
        @example(said=[CLAIM | {"because": "\0"}, CONFIRM | {"epoch": 1 << 63}], hands=False)
        @example(said=[{"type": "finish", "stream": "show", "because": "\0"}], hands=False)
        def check(said, hands):
            api.run(talk(said, hands))

        async def talk(said, hands):
            conversation = Conversation(api.node, APP, hands)
            try:
                await conversation.begin()
                for one in said:
                    _, rejected = await tried_soon(
                        Rejected, conversation.client.hear(json.dumps(one).encode())
                    )
                    if rejected:
                        assert rejected.status in (413, 429)
                        break
                await api.node.coordinator.flush()
            finally:
                await conversation.client.aclose()

        check()


CLAIM = {"type": "claim", "stream": "show", "base": 1, "provider": "two"}
CONFIRM = {"type": "confirm", "stream": "show", "epoch": 1, "provider": "one"}


@fuzzed
@given(data=st.one_of(SAID, TEXT.map(lambda text: text.encode(errors="surrogatepass"))))
@example(data=b"[" * protocol.MESSAGE_BYTES_MAX)
@example(data=b'{"type":"hello","client":"x","streams":[' + b"{}," * 9000 + b"{}]}")
def test_any_first_message_is_a_hello_or_ends_the_conversation(data):
    async def main():
        async with Room("one") as room:
            client = sockets.Client(room, APP, "192.0.2.7")
            try:
                connection, rejected = await tried_soon(Rejected, client.begin(data))
            finally:
                await client.aclose()
            if rejected:
                assert 400 <= rejected.status < 500
                assert len(rejected.because) < 1000
            else:
                assert connection.client in ("studio", "x")

    run(main())


# --- Webhooks ---

SECRET = "s3cr3t-s3cr3t-s3cr3t"
HOOK_LINES = st.one_of(
    st.sampled_from((
        "[webhook.night]", "[webhook]", "[webhook.Night]", '[webhook."\\u0000"]', "webhook = 5",
        "[[webhook]]", 'kind = "json"', 'kind = "slack"', "kind = 5", 'kind = "odd"',
        f'url = "https://hooks.example/{SECRET}"', f'url = "http://hooks.example/{SECRET}"',
        f'url = ["{SECRET}"]', f'secret = "{SECRET}"', f'secrets = "{SECRET}"', "secret = 5",
        "alerts = true", 'alerts = "yes"', "legs = true", "allow_http = true",
        'allow_private = ["10.0.0.0/8"]', 'allow_private = ["10.0.0.1/8"]', "allow_private = 5",
        f'allow_private = ["{SECRET}"]', "[" * 2000, f'"{SECRET}" = 1',
    )),
    st.text(max_size=30),
)  # fmt: skip


@fuzzed
@given(lines=st.lists(HOOK_LINES, max_size=8))
@example(lines=["[webhook.night]", 'kind = "json"', 'url = "https://x"', f'secret = "{SECRET}"'])
@example(lines=[f'[webhook.h{n}]\nkind="slack"\nurl="https://x"' for n in range(HOOKS_MAX + 1)])
def test_any_webhooks_are_whole_or_an_error_that_quotes_no_secret(lines):
    found, error = tried(ConfigError, read_hooks, {VARIABLE: "\n".join(lines)})

    if error:
        assert SECRET not in str(error)
        assert len(str(error)) < 500
        return
    hooks, networks = found
    assert len(hooks) <= HOOKS_MAX
    assert SECRET not in repr(hooks)
    assert all(one.version in (4, 6) for one in networks)
