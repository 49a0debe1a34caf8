"""
One call of ZEGOCLOUD's server API v2: signed, within its limits, judged by the code it holds.

From ZEGOCLOUD's documents as of 2026-08-21 (`accessing-server-apis.mdx`, `return-codes.mdx`).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from ..errors import ContractBroken, CredentialsRejected, HitlessError, Refused, Retry
from .codes import Meaning
from .credential import Credential, Token
from .quota import Limit, Quota
from .rest import Calls, Reply, quotable, secret_of
from .zego_codes import RATE_S, api_meaning


T = TypeVar("T")

CALL_S: Final = 10.0
"""How long a call may take if the caller names no deadline [s]."""

LIMITS: Final[Mapping[str, Limit]] = {
    "DescribeUserNum": Limit(per_s=10.0),
    "DescribeSimpleStreamList": Limit(per_s=50.0, each_s=10.0),
    "DescribeRTCStreamState": Limit(per_s=40.0),
    "KickoutUser": Limit(per_s=50.0),
    "ForbidRTCStream": Limit(per_s=20.0),
    "ResumeRTCStream": Limit(per_s=20.0),
    "AddStream": Limit(per_s=10.0),
    "DeleteStream": Limit(per_s=10.0),
    "RTMPDispatchV2": Limit(per_s=40.0),
}
"""Per App ID and action."""

TEST_LIMITS: Final[Mapping[str, Limit]] = {
    **LIMITS,
    "DescribeUserNum": Limit(per_s=1.0),
    "DescribeRTCStreamState": Limit(per_s=10.0),
    "ForbidRTCStream": Limit(per_s=5.0),
    "ResumeRTCStream": Limit(per_s=5.0),
    "AddStream": Limit(per_s=1.0),
    "DeleteStream": Limit(per_s=1.0),
}
"""The same in the test environment of old projects."""

_ROOM_LIMITED: Final = 207  # of one room, not of all


def signature(app_id: int, nonce: str, server_secret: str, timestamp: int) -> str:
    """Return the signature (version 2.0) of one request; `timestamp` in whole seconds."""
    text = f"{app_id}{nonce}{server_secret}{timestamp}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    One answer.

    Attributes:
        code: 0: success.
        meaning: What the code means; None: success.
        also: Its words and its request's number, for an error.
        data: JSON.
    """

    code: int
    meaning: Meaning | None
    also: str
    data: bytes = field(repr=False)


class _Envelope(msgspec.Struct):
    Code: int
    Message: str = ""
    RequestId: str | int = ""
    Data: msgspec.Raw = msgspec.Raw(b"null")


class ZegoRest:
    """
    Sends calls for one App ID; see `ZegoApi` for the arguments.

    Attributes:
        calls: The connections.
    """

    def __init__(
        self,
        name: str,
        *,
        app_id: int,
        server_secret: Token,
        base: URL,
        is_test: bool | None,
        quota: Quota | None,
        wall_s: Callable[[], float],
        resolver: AbstractResolver | None,
    ) -> None:
        self.calls = Calls(name, resolver=resolver)
        self._name = name
        self._app_id = app_id
        self._credential = Credential(server_secret)
        self._base = base
        self._is_test = is_test
        self._quota = quota or Quota(name, TEST_LIMITS if is_test else LIMITS)
        self._wall_s = wall_s

    async def data(
        self, action: str, arguments: list[tuple[str, str]], kind: type[T], deadline: float | None
    ) -> T:
        """Return the data of a success; see `call` and `decoded`."""
        return self.decoded(await self.call(action, arguments, deadline), action, kind)

    async def call(
        self,
        action: str,
        arguments: list[tuple[str, str]],
        deadline: float | None,
        *,
        subject: str | None = None,
        unsaid: tuple[str, ...] = (),
        is_absent_fine: bool = False,
    ) -> Answer:
        """
        Return an answer that is a success; one attempt.

        Args:
            action: Which; one of `LIMITS`.
            arguments: Its own parameters.
            deadline: When to give up [s, the loop's clock]; None: in `CALL_S`.
            subject: The room that it is about, if that has a limit of its own.
            unsaid: What no error may quote, besides the credential.
            is_absent_fine: Whether an answer that says that the room, user or stream does not
                exist is returned too.

        Raises:
            ProviderError: It did not answer, not with that, or our own limit is used up.
            LocalFault: This machine has no network.
        """
        end = asyncio.get_running_loop().time() + CALL_S if deadline is None else deadline
        secret = await secret_of(
            self._credential, provider=self._name, operation=action, deadline=end
        )
        await self._quota.take(action, operation=action, deadline=end, subject=subject)
        nonce, timestamp = secrets.token_hex(8), int(self._wall_s())
        signed = signature(self._app_id, nonce, secret, timestamp)
        query = [
            ("Action", action),
            ("AppId", str(self._app_id)),
            ("SignatureNonce", nonce),
            ("Timestamp", str(timestamp)),
            ("Signature", signed),
            ("SignatureVersion", "2.0"),
        ]
        query += [] if self._is_test is None else [("IsTest", str(self._is_test).lower())]
        url = self._base.with_path("/").with_query([*query, *arguments])
        reply = await self.calls.send("GET", url, operation=action, deadline=end)
        answer = self._read(reply, action, (secret, signed, nonce, *unsaid))
        meaning = answer.meaning
        if meaning is not None and not (is_absent_fine and meaning.is_absent):
            raise self._error(answer, meaning, action, secret)
        self._credential.accepted(action)
        return answer

    def decoded(self, answer: Answer, action: str, kind: type[T]) -> T:
        """
        Return the data of an answer.

        Raises:
            ContractBroken: It is not as documented.
        """
        try:
            return msgspec.json.decode(answer.data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        because = "a success whose data is not as documented"
        raise ContractBroken(because, provider=self._name, operation=action)

    # --- Inside ---

    def _read(self, reply: Reply, action: str, unsaid: tuple[str, ...]) -> Answer:
        """Return an answer by its code; by its HTTP status only if it has none."""
        try:
            body = msgspec.json.decode(reply.body, type=_Envelope)
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = None
        if body is None or (body.Code == 0 and reply.status != 200):
            raise self._status_error(reply, action)
        meaning = None if body.Code == 0 else api_meaning(action, body.Code)
        words, number = quotable(body.Message, unsaid), quotable(str(body.RequestId), unsaid)
        also = f": {words}" if words else ""
        also += f", request {number}" if number else ""
        return Answer(code=body.Code, meaning=meaning, also=also, data=bytes(body.Data))

    def _error(self, answer: Answer, meaning: Meaning, action: str, secret: str) -> HitlessError:
        """Return the error of an answer's code."""
        retry = None
        if meaning.is_renewable:
            retry = self._credential.rejected(action, secret)
        if meaning.retry_after_s is not None and answer.code != _ROOM_LIMITED:
            self._quota.hold(action, meaning.retry_after_s)
        return meaning.raised(
            answer.code, provider=self._name, operation=action, also=answer.also, retry=retry
        )

    def _status_error(self, reply: Reply, action: str) -> HitlessError:
        """Return the error of an answer without a code. That this happens is unconfirmed."""
        status, pause_s = reply.status, reply.retry_after_s
        because = f"HTTP {status} without a code"
        known: dict[str, Any] = {"provider": self._name, "operation": action}
        if status in (401, 403):
            return CredentialsRejected(because, retry=Retry.NEXT, **known)
        if status == 429:
            pause_s = RATE_S if pause_s is None else pause_s
            self._quota.hold(action, pause_s)
            return Refused(because, retry_after_s=pause_s, **known)
        if status >= 500:
            retry = Retry.NEXT if (pause_s or 0.0) > RATE_S else Retry.SAME
            return Refused(because, retry=retry, retry_after_s=pause_s, **known)
        return ContractBroken(f"no answer that is documented: {because}", **known)
