"""Whatever a backend, a server, a provider or a file says: an answer or one named error, soon."""

import asyncio
import json
import math
import re
import time
import zlib
from types import SimpleNamespace

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from hitless.client import protocol
from hitless.client.backend import _read
from hitless.client.config import Config, load
from hitless.client.keys import PLAIN_KEYS
from hitless.client.listing import WARNINGS_MAX, Failed, read_health, read_list, unusable, unwrap
from hitless.core.listing import Answer
from hitless.errors import ConfigError
from hitless.media.sdp import is_offer, kinds_in, levelled
from hitless.providers.headers import RETRY_AFTER_S_MAX, ice_servers_of, retry_after_s


fuzzed = settings(max_examples=300, derandomize=True, database=None, deadline=None)
"""Drawn the same way each time: a failure can be run again."""

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
"""With NUL, lone surrogates and everything else."""

NUMBERS = st.one_of(
    st.integers(), st.integers(-(10**400), 10**400), st.floats(), st.sampled_from((-0.0, 1e308))
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXT, inner, max_size=5)),
    max_leaves=15,
)


def mostly(*usual):
    """Return a strategy of values that make sense and, less often, of any others."""
    return st.one_of(st.sampled_from(usual), st.sampled_from(usual), JSON)


def tried(error, work, *args):
    """Return what work comes to, or else the error of this kind; any other one fails the test."""
    try:
        return work(*args), None
    except error as exc:
        return None, exc


# --- The two endpoints ---

ENTRIES = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"name": mostly("agora", "webrtc", "", "..", "x" * 201, "a\nb")},
        optional={
            "isActive": mostly(True, False, "false", 0),
            "priority": mostly(1, 2.5, "3", math.nan, math.inf, 10**400),
            "config": mostly({}, {"url": "https://x"}),
        },
    ),
)
LISTS = st.fixed_dictionaries(
    {"providers": st.lists(ENTRIES, max_size=30)}, optional={"default": mostly("agora", None)}
)


@fuzzed
@given(data=st.one_of(JSON, LISTS))
def test_any_list_is_read_or_fails_by_name(data):
    found, failed = tried(Failed, read_list, data)

    if failed:
        assert failed.because.isprintable()
        return
    names = [one.name for one in found.providers]
    assert len(names) == len(set(names))
    assert not any(map(unusable, names))
    assert found.default is None or found.default in names
    assert len(found.warnings) <= WARNINGS_MAX + 1
    for warning in found.warnings:
        assert warning.isprintable()
        assert len(warning) < 300
    for one in found.providers:
        assert type(one.priority) is int
        assert abs(one.priority) <= 10**9
        assert type(one.is_active) is bool
    assert [one.priority for one in found.providers] == sorted(
        one.priority for one in found.providers
    )


@fuzzed
@given(
    data=st.fixed_dictionaries({}, optional={"healthy": mostly(True, False), "status": mostly(
        "active", "degraded", "down", "disabled", "x" * 99, "a\nb")})
)  # fmt: skip
def test_any_health_is_an_answer_or_fails_by_name(data):
    found, failed = tried(Failed, read_health, data)

    assert (failed is None) is isinstance(data.get("healthy"), bool)
    if failed:
        assert failed.answered
        return
    answer, because = found
    assert (answer is Answer.HEALTHY) is data["healthy"]
    assert because.isprintable()
    assert len(because) < 60


@fuzzed
@given(body=st.one_of(JSON, st.fixed_dictionaries({"success": mostly(True), "data": JSON})))
def test_any_envelope_is_opened_or_fails_by_name(body):
    found, failed = tried(Failed, unwrap, body)

    assert failed.answered if failed else isinstance(found, dict)


class Response:
    """An answer to a request, as an HTTP client shows it."""

    def __init__(self, body, encoding, status=200):
        self.status, self.headers = status, {"Content-Encoding": encoding}
        self.content = SimpleNamespace(iter_any=lambda: self._parts(body))

    async def _parts(self, body):
        for at in range(0, len(body), 1 << 16):
            yield body[at : at + (1 << 16)]


@fuzzed
@given(
    body=st.one_of(
        st.binary(max_size=300),
        JSON.map(lambda one: json.dumps(one).encode()),
        JSON.map(lambda one: zlib.compress(json.dumps(one).encode())),
        st.binary(max_size=300).map(zlib.compress),
    ),
    encoding=st.one_of(st.sampled_from(("", "gzip", "deflate", "br", "identity")), TEXT),
    status=st.integers(100, 999),
)
@example(body=b"[" * 1_000_000, encoding="", status=200)
@example(body=b"9" * 1_000_000, encoding="", status=200)
@example(body=b" " * (1 << 21), encoding="", status=200)
@example(body=zlib.compress(b" " * (1 << 28)), encoding="deflate", status=200)
def test_any_body_is_json_or_fails_by_name(body, encoding, status):
    response = Response(body, encoding, status)

    _, failed = tried(Failed, lambda: asyncio.run(_read(response)))

    assert failed or status == 200
    assert failed is None or (failed.answered and failed.because.isprintable())


# --- The protocol ---

FIELDS = {
    "type": mostly("hello", "claim", "confirm", "leg", "report", "finish", "renew", "open"),
    "stream": mostly("show", "", "\0"),
    "client": mostly("studio"),
    "provider": mostly("agora", "x" * 300),
    "epoch": mostly(1, -1, 1 << 63),
    "base": mostly(1, -1, 1 << 63),
    "leg": mostly(1, -1, 1 << 63),
    "state": mostly("live", "failed", "silent"),
    "role": mostly("publisher", "viewer"),
    "because": mostly("so", "\0"),
    "retry_after_s": mostly(1.0, -1),
    "adapters": mostly([], ["whip"], ["a"] * 100),
    "node": mostly("n1"),
    "code": mostly("x"),
    "message": mostly("y"),
}
MESSAGES = st.fixed_dictionaries(
    {"type": FIELDS["type"]},
    optional={name: one for name, one in FIELDS.items() if name != "type"},
)
RAW = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda one: json.dumps(one).encode()),
    MESSAGES.map(lambda one: json.dumps(one).encode()),
)
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@fuzzed
@given(data=RAW)
@example(data=b"[" * protocol.MESSAGE_BYTES_MAX)
@example(data=b'{"type":' * 8000)
def test_any_message_up_is_one_of_ours_or_unreadable(data):
    message, unreadable = tried(UNREADABLE, protocol.decode_up, data)

    if unreadable:
        return
    assert isinstance(message, protocol.Up)
    again = protocol.encode(message)
    assert protocol.decode_up(again) == message
    assert b"\\u0000" not in again
    for name in ("epoch", "base", "leg"):
        assert 0 <= getattr(message, name, 0) < 1 << 53
    for name in ("stream", "client", "provider"):
        assert len(getattr(message, name, "")) <= protocol.NAME_CHARS_MAX


@fuzzed
@given(data=RAW)
@example(data=b"[" * protocol.MESSAGE_BYTES_MAX)
def test_any_message_down_is_one_of_ours_or_unreadable(data):
    message, unreadable = tried(UNREADABLE, protocol.decode_down, data)

    if unreadable:
        return
    assert isinstance(message, protocol.Down)
    assert protocol.decode_down(protocol.encode(message)) == message


# --- What WHIP and WHEP servers answer ---

LINKS = st.lists(
    st.sampled_from((
        "<", ">", ";", ",", '"', "\\", "=", " ", "rel", "ice-server", "stun:x.example:3478",
        "turn:x.example?transport=udp", "turns:%", "username", "credential", "%3A", "[::1]", ":",
    )),
    max_size=60,
).map("".join)  # fmt: skip


@fuzzed
@given(values=st.lists(st.one_of(LINKS, st.text(max_size=80)), max_size=5))
@example(values=["<" * 8000] * 12)
@example(values=["<a>;x=" + '"' + '\\"' * 4000] * 12)
@example(values=["<a>" + ";x=y" * 2000] * 12)
@example(values=["<a>" + " " * 8000] * 12)
def test_any_link_header_names_ice_servers_or_none(values):
    headers = CIMultiDict([("Link", value) for value in values])
    begun_s = time.process_time()

    found = ice_servers_of(CIMultiDictProxy(headers))

    assert time.process_time() - begun_s < 5.0  # some milliseconds; half a minute if squared
    assert len(found) <= 8
    assert all(re.match("(stun|turn)s?:", one.urls) for one in found)


DATES = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"\A[0-9]{1,400}\Z"),
    st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} "
                  r"[0-9]{2}:[0-9]{2}:[0-9]{2} (GMT|[+-][0-9]{4,9})\Z"),
    st.sampled_from(("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00")),
)  # fmt: skip


@fuzzed
@given(value=DATES, date=DATES)
@example(value="Wed, 21 Oct 9999 23:59:59 -9999", date="Wed, 01 Jan 0001 00:00:00 +2359")
def test_any_retry_after_is_a_bounded_time_or_none(value, date):
    headers = CIMultiDict([("Retry-After", value), ("Date", date)])

    found = retry_after_s(CIMultiDictProxy(headers))

    assert found is None or 0.0 <= found <= RETRY_AFTER_S_MAX


SDP = st.lists(
    st.one_of(
        st.sampled_from((
            "v=0", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=video 9 UDP/TLS/RTP/SAVPF 96", "m=",
            "a=candidate:1 1 udp 1 192.0.2.1 9 typ host", "a=mid:0", "a=setup:actpass", "a=",
            "a=ice-ufrag:x", "a=rtcp-mux", "a=end-of-candidates", "", " ", "a=rtcp:9 IN IP4 ::",
        )),
        st.text(max_size=40),
    ),
    max_size=60,
)  # fmt: skip


@fuzzed
@given(lines=SDP, offer=st.one_of(st.none(), SDP), end=st.sampled_from(("\r\n", "\n", "\r")))
@example(lines=["m=audio", *["a=candidate:" + "x" * 9] * 9000, *["m="] * 40_000], offer=None,
         end="\r\n")  # fmt: skip
def test_any_description_is_written_out_without_growing_beyond_bounds(lines, offer, end):
    sdp = end.join(lines)

    full = levelled(sdp, None if offer is None else end.join(offer))

    assert len(full) <= 40 * len(sdp) + 10_000
    assert is_offer(sdp) in (True, False)
    assert len(kinds_in(sdp)) <= sdp.count("m=")
    assert levelled(full) == levelled(levelled(full))


# --- The configuration ---

NAMES = st.one_of(
    st.sampled_from([key.name for key in PLAIN_KEYS]),
    st.sampled_from(("policy", "provider.agora.url", "provider.agora.token", "backend", "mode")),
    st.from_regex(r"\A[a-z_]{1,8}(\.[a-z_]{1,8}){0,2}\Z"),
)
VALUES = st.one_of(
    st.sampled_from((
        "5", "-1", "true", "nan", "inf", "1e999", '""', '"x"', '"https://x/whip"', "[]", "{}",
        "[1, 2]", "{a = 1}", "9" * 5000, "[" * 2000, "2020-01-01", '"\\u0000"', "0x10", "'''a'''",
    )),
    st.text(max_size=20),
)  # fmt: skip
LINES = st.one_of(
    st.tuples(NAMES, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    st.sampled_from((
        "[policy]", "[backend]", "[server]", "[judging]", "[[provider]]", 'name = "agora"',
        'adapter = "whip"', 'url = "https://x.example/whip"', "priority = 1", 'token_env = "X"',
    )),
    st.text(max_size=30),
)  # fmt: skip
SECRET = "s3cr3t-t0ken"


@fuzzed
@given(
    lines=st.lists(LINES, max_size=12),
    environ=st.dictionaries(
        st.one_of(
            NAMES.map(lambda name: "HITLESS_" + name.upper().replace(".", "__")),
            st.from_regex(r"\AHITLESS_[A-Z_]{0,12}\Z"),
        ),
        VALUES,
        max_size=4,
    ),
    flags=st.dictionaries(NAMES, st.one_of(VALUES, SCALARS), max_size=3),
)
@example(lines=["[policy]", "max_retries = " + "9" * 400], environ={}, flags={})
@example(lines=[], environ={"HITLESS_POLICY__HEALTH_INTERVAL_S": "9" * 400}, flags={})
@example(lines=[], environ={}, flags={"server.report_s": 10**400})
def test_any_configuration_is_whole_or_an_error_that_says_where(
    tmp_path_factory, lines, environ, flags
):
    path = tmp_path_factory.getbasetemp() / "hitless.toml"
    path.write_bytes("\n".join(lines).encode(errors="surrogatepass"))
    environ.pop("HITLESS_CONFIG", None)

    found, error = tried(ConfigError, load, path, {**environ, "X": SECRET}, flags)

    if error:
        assert 0 < len(str(error)) < 1000
        assert SECRET not in str(error)
        return
    assert isinstance(found, Config)
    names = [one.name for one in found.providers]
    assert len(names) == len(set(names))
    assert SECRET not in repr(found)
