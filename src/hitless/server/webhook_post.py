"""
One message to one webhook: how it is written, signed and posted.

A webhook's URL is a secret: whoever has it can write into the operators' channel. It is in no
error, no log line, no repr and no row; rows hold the webhook's name.

A `json` webhook gets the message as an object, and proves that it is ours by the header
`Hitless-Signature: t=<seconds since 1970>,v1=<hex>`, an HMAC-SHA256 with the shared secret over
`<t>.<body>`. A receiver compares in constant time and refuses a `t` older than five minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from asyncio import timeout
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from importlib.metadata import version
from typing import Final

import aiohttp
import msgspec

from ..errors import ConfigError, HitlessError
from ..providers.headers import retry_after_s
from .addresses import (
    Allowed,
    Network,
    PinnedConnector,
    Resolver,
    TargetRefused,
    check_target,
    parse_allowed,
)
from .alert_texts import Message
from .clock import wall_s
from .store_rows import Json
from .vault import kept_in


SECRET_CHARS_MIN: Final = 16
SIGNATURE: Final = "Hitless-Signature"
HOOKS_MAX: Final = 16

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

_HOPELESS: Final = frozenset({400, 410, 413, 415, 422})
"""Statuses by which a webhook says that this body will never do, or that it is gone for good."""

_SLACK_CHARS_MAX: Final = 3000
"""Longest text of a section block [character] (Slack's Block Kit reference, 2025-06)."""

_SIGNS: Final = {
    "critical": ":red_circle:",
    "warning": ":large_orange_circle:",
    "info": ":large_blue_circle:",
    "resolved": ":white_check_mark:",
}


class HookKind(StrEnum):
    """What a webhook understands."""

    JSON = "json"
    """Our own shape, signed."""
    SLACK = "slack"
    """Slack's incoming webhooks, and what is compatible with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """
    A webhook.

    Attributes:
        name: What it is called in logs and rows.
        kind: What it understands.
        url: Where to post; a secret.
        secret: What is signed with; for `json` only.
        alerts: Whether it is sent alerts.
        legs: Whether it is sent `leg.live` and `leg.closing`; for `json` only.
        allow_http: Whether messages may go in clear.

    Raises:
        ConfigError: It cannot work; names the field, and never the URL.
    """

    name: str
    kind: HookKind
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    alerts: bool = True
    legs: bool = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError("a webhook's name has 1 to 40 of a-z, 0-9 and -")
        at = f"webhook.{self.name}"
        if not self.url.startswith(("https://", "http://") if self.allow_http else "https://"):
            raise ConfigError(f"{at}.url must begin with https://, or say allow_http = true")
        if self.kind is HookKind.JSON and len(self.secret) < SECRET_CHARS_MIN:
            raise ConfigError(f"{at}.secret needs {SECRET_CHARS_MIN} characters or more")
        if self.kind is HookKind.SLACK and (self.legs or self.secret):
            raise ConfigError(f"{at}: legs and secret are for webhooks of kind json")


VARIABLE: Final = "HITLESS_WEBHOOKS"
"""Holds the webhooks as TOML, or `HITLESS_WEBHOOKS_FILE` names a file that does."""


def read_hooks(environ: Mapping[str, str]) -> tuple[tuple[Hook, ...], tuple[Network, ...]]:
    """
    Return the webhooks, and the networks they may be in besides the public ones.

    ::

        allow_private = ["10.1.0.0/16"]
        [webhook.night-shift]
        kind = "slack"
        url = "https://hooks.example/T0/B0/x"

    Raises:
        ConfigError: What is there is impossible; names the place and the field, never a value.
    """
    place = kept_in(VARIABLE, environ)
    if place is None:
        return (), ()
    try:
        found = tomllib.loads(place.read(environ))
        tables, allowed = found.pop("webhook", {}), found.pop("allow_private", [])
        if found or not isinstance(tables, dict) or len(tables) > HOOKS_MAX:
            raise ConfigError(f"{VARIABLE}: give allow_private and up to {HOOKS_MAX} webhooks")
        hooks = tuple(_hook(name, table) for name, table in tables.items())
        networks = _networks(msgspec.convert(allowed, list[str]))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError):
        raise ConfigError(f"{VARIABLE}: not TOML as documented") from None  # it holds secrets
    return hooks, networks


def _networks(allowed: list[str]) -> tuple[Network, ...]:
    try:
        return parse_allowed(allowed)
    except ConfigError:  # it quotes what is there
        raise ConfigError(f"{VARIABLE}: allow_private: write networks as 127.0.0.0/8") from None


def _hook(name: str, table: object) -> Hook:
    try:
        known = {one.name for one in fields(Hook)} - {"name"}
        if not isinstance(table, dict) or not table.keys() <= known:
            raise ConfigError(f"webhook.{name[:40]}: it has {', '.join(sorted(known))}")
        return msgspec.convert({**table, "name": name}, Hook)
    except msgspec.ValidationError as exc:
        at = str(exc).rpartition("`$.")[2].strip("`") if "`$." in str(exc) else "kind and url"
        raise ConfigError(f"webhook.{name[:40]}: {at} is missing or not possible") from None


class LegSaid(StrEnum):
    """What a webhook is told of a leg."""

    LIVE = "leg.live"
    """It carries media: start to record, moderate or push from here."""
    CLOSING = "leg.closing"
    """It is about to be closed: stop here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegNote:
    """
    A leg began or ends.

    Attributes:
        what: Which of the two.
        stream, provider: Which stream, and who carries it there.
        channel: What the stream is called at that provider.
        epoch: Of the placement; of two notes the one with the greater epoch is the newer.
        because: Why, in words.
    """

    what: LegSaid
    stream: str
    provider: str
    channel: str
    epoch: int
    because: str = ""

    @property
    def id(self) -> str:
        """The same for the same leg, whichever node tells of it."""
        known = f"{self.stream}\n{self.provider}\n{self.channel}\n{self.epoch}"
        return f"{self.what}-{hashlib.sha256(known.encode()).hexdigest()[:24]}"


class Undelivered(HitlessError):
    """
    A webhook did not take a message.

    Attributes:
        because: Why, in words; never the URL.
        pause_s: How long it asks to be left alone [s]; None: it does not say.
        is_hopeless: Whether the same message would be refused again.
    """

    def __init__(
        self, because: str, *, pause_s: float | None = None, is_hopeless: bool = False
    ) -> None:
        super().__init__(because)
        self.because, self.pause_s, self.is_hopeless = because, pause_s, is_hopeless


# --- Writing ---


def alert_body(message: Message, at_s: float) -> dict[str, Json]:
    """Return an alert as `json` webhooks get it; `at_s` is when it was made [s since 1970]."""
    return {"type": "alert", **asdict(message), "at_s": at_s}


def leg_body(note: LegNote, at_s: float) -> dict[str, Json]:
    """Return a note on a leg as `json` webhooks get it."""
    said = asdict(note)
    return {"type": said.pop("what"), "id": note.id, **said, "at_s": at_s}


def slack_body(alert: Mapping[str, Json]) -> dict[str, Json]:
    """Return an alert, as `alert_body` wrote it, in Slack's words."""
    state = str(alert["state"])
    sign = _SIGNS.get(state) or _SIGNS.get(str(alert["severity"]), "")
    before = {"resolved": "Resolved: ", "still": "Still: "}.get(state, "")
    title = f"{before}{_escaped(str(alert['title']), 1000)}"
    text = _escaped(str(alert["text"]), 1900)
    command = _escaped(str(alert["command"]).replace("`", "'"), 1000)
    small = _escaped(f"{alert['severity']}, {alert['kind']}, {alert['id']}", 1000)
    return {
        "text": f"{sign} {title}",
        "blocks": [
            _section(f"{sign} *{title}*\n{text}"),
            _section(f"Next: `{command}`"),
            {"type": "context", "elements": [{"type": "mrkdwn", "text": small}]},
        ],
    }


def signature(secret: str, body: bytes, at_s: int) -> str:
    """Return the header that proves that a body is ours and was posted at `at_s`."""
    said = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={said}"


def _section(text: str) -> dict[str, Json]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:_SLACK_CHARS_MAX]}}


def _escaped(text: str, most: int) -> str:
    """Escape what Slack takes for a link or a mention; cut between characters, never in one."""
    marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    written, length = [], 0
    for char in text:
        mark = marks.get(char, char)
        length += len(mark)
        if length > most:
            break
        written.append(mark)
    return "".join(written)


# --- Posting ---


async def post(
    hook: Hook,
    message: Mapping[str, Json],
    *,
    timeout_s: float,
    resolver: Resolver | None = None,
    allow_private: Allowed = (),
) -> None:
    """
    Post one message, once. Nothing of the answer is read but its status and headers.

    Args:
        hook: Where to.
        message: As `alert_body` or `leg_body` wrote it.
        timeout_s: How long it may take, name and connection included [s].
        resolver, allow_private: As for `check_target`.

    Raises:
        Undelivered: It was not taken; try again unless it is hopeless.
    """
    if hook.kind is HookKind.SLACK and message["type"] != "alert":
        raise Undelivered("a webhook of kind slack takes alerts only", is_hopeless=True)
    said = slack_body(message) if hook.kind is HookKind.SLACK else message
    body = msgspec.json.encode(said)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"hitless/{version('hitless')}",
        "Hitless-Id": str(message["id"]),
    }
    if hook.kind is HookKind.JSON:
        headers[SIGNATURE] = signature(hook.secret, body, int(wall_s()))
    try:
        async with timeout(timeout_s):
            target = await check_target(hook.url, resolver, allow_private=allow_private)
            async with (
                aiohttp.ClientSession(
                    connector=PinnedConnector(target),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None),  # the limit is the one above
                ) as session,
                session.post(
                    target.url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                _judge(answer)
    except TargetRefused as exc:
        raise Undelivered(exc.because) from None
    except TimeoutError:
        raise Undelivered(f"no answer within {timeout_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise Undelivered(_why(exc)) from None  # their texts hold the URL


def _judge(answer: aiohttp.ClientResponse) -> None:
    status = answer.status
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise Undelivered(f"HTTP {status}: it redirects; give the URL that it redirects to")
    raise Undelivered(
        f"HTTP {status}",
        pause_s=retry_after_s(answer.headers),
        is_hopeless=status in _HOPELESS,
    )


def _why(exc: Exception) -> str:
    match exc:
        case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError():
            return "TLS failed"
        case (
            ConnectionRefusedError()
            | aiohttp.ClientConnectorError(os_error=ConnectionRefusedError())
        ):
            return "connection refused"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            return "connection closed without an answer"
        case aiohttp.ClientResponseError():
            return "it answered something that is not HTTP"
    return f"connection failed: {type(exc).__name__}"
