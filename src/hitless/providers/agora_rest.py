"""
One call of Agora's REST API: authenticated, within the account's limits, judged.

From Agora's documents as of 2026-07-01 (`response-status-code.mdx` of channel management,
`response-status-codes.mdx` of the Media Gateway).
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import uuid4

import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from ..errors import (
    ConfigError,
    ContractBroken,
    CredentialsRejected,
    ProviderError,
    Refused,
    Retry,
)
from .agora_hosts import Hosts, in_order
from .credential import Credential, Token
from .quota import Limit, Quota
from .rest import Calls, Reply, quotable, secret_of


T = TypeVar("T")

CALL_S: Final = 20.0
"""How long a call may take if the caller names no deadline [s] (Agora's advice)."""

ATTEMPT_S: Final = 5.0
"""How long one attempt may take [s]; Agora's advice for the least."""

QUERY: Final = "queries"
OTHER: Final = "other calls"

LIMITS: Final = {QUERY: Limit(per_s=20.0), OTHER: Limit(per_s=10.0)}
"""
Per account, not per project. The Media Gateway's own limits are higher (50/s and 100/s); that
its calls do not count among the account's is not said anywhere, so they count here.
"""

_PAUSE_S: Final = 1.0
"""How long to stay away if the answer does not say [s]: Agora's first pause."""


@dataclass(slots=True, kw_only=True)
class Call:
    """
    What is asked.

    Attributes:
        method: HTTP method.
        path: Path, percent-encoded; may hold a stream key.
        operation: What it is called in errors.
        kind: Which limit it counts for.
        query: More of the URL.
        json: What is sent along (Any: JSON); None: nothing.
        once: Whether to make one attempt only.
        attempt_s: Longest attempt [s]; None: as configured.
        is_absent_fine: Whether 404 is a success: what should go is gone.
        is_gateway: Whether it is one of the Media Gateway.
        unsaid: What no error may quote, besides the credential.
    """

    method: str
    path: str = field(repr=False)
    operation: str
    kind: str = OTHER
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = field(default=None, repr=False)
    once: bool = False
    attempt_s: float | None = None
    is_absent_fine: bool = False
    is_gateway: bool = False
    unsaid: tuple[str, ...] = field(default=(), repr=False)


class AgoraRest:
    """
    Sends calls for one account; see `AgoraApi` for the arguments.

    Attributes:
        calls: The connections.
    """

    def __init__(
        self,
        name: str,
        *,
        customer_id: str,
        customer_secret: Token,
        hosts: Hosts,
        quota: Quota | None,
        back_off_s: tuple[float, ...],
        attempt_s: float,
        resolver: AbstractResolver | None,
    ) -> None:
        if not customer_id or ":" in customer_id:
            raise ConfigError("customer_id must be there, and without ':' (Basic authentication)")
        self.calls = Calls(name, resolver=resolver)
        self._name = name
        self._customer_id = customer_id
        self._credential = Credential(customer_secret)
        self._hosts = hosts
        self._quota = quota or Quota(name, LIMITS)
        self._back_off_s = back_off_s
        self._attempt_s = attempt_s

    async def answer(self, call: Call, kind: type[T], deadline: float | None) -> T:
        """
        Return what a successful answer holds.

        Raises:
            ProviderError: It did not answer, or not with that.
            LocalFault: This machine has no network.
        """
        sent = await self.send(call, until(deadline))
        return self.judged(sent, call, kind)

    async def done(self, call: Call, deadline: float | None) -> None:
        """
        Return when it was done, whatever the answer holds.

        Raises:
            ProviderError: It did not answer, or not with a success.
            LocalFault: This machine has no network.
        """
        sent = await self.send(call, until(deadline))
        self._require_success(sent, call)

    async def send(self, call: Call, deadline: float) -> Sent:
        """
        Return the last answer, whatever its status.

        Raises:
            ProviderError: It did not answer, or our own limit is used up.
            LocalFault: This machine has no network.
        """
        secret = await secret_of(
            self._credential, provider=self._name, operation=call.operation, deadline=deadline
        )
        basic = base64.b64encode(f"{self._customer_id}:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}", "X-Request-ID": str(uuid4())}
        body = None
        if call.json is not None:
            headers["Content-Type"] = "application/json"
            body = msgspec.json.encode(call.json)

        async def attempt(origin: URL) -> Reply:
            await self._quota.take(call.kind, operation=call.operation, deadline=deadline)
            url = URL(f"{str(origin).rstrip('/')}{call.path}", encoded=True)
            now = asyncio.get_running_loop().time()
            return await self.calls.send(
                call.method,
                url.with_query(call.query) if call.query else url,
                operation=call.operation,
                deadline=min(deadline, now + (call.attempt_s or self._attempt_s)),
                headers=headers,
                body=body,
            )

        back_off_s = () if call.once else self._back_off_s
        reply, tries = await in_order(
            self._hosts, attempt, deadline=deadline, back_off_s=back_off_s
        )
        return Sent(reply=reply, tries=tries, secret=secret, basic=basic)

    def judged(self, sent: Sent, call: Call, kind: type[T]) -> T:
        """
        Return what an answer holds.

        Raises:
            ProviderError: It is not a success, or not as documented.
        """
        self._require_success(sent, call)
        return sent.reply.decoded(kind, provider=self._name, operation=call.operation)

    # --- Inside ---

    def _require_success(self, sent: Sent, call: Call) -> None:
        status = sent.reply.status
        if status != 401:
            self._credential.accepted(call.operation)
        if status != 200 and not (status == 404 and call.is_absent_fine):
            raise self._refusal(sent, call)

    def _refusal(self, sent: Sent, call: Call) -> ProviderError:
        """Return what a status means: the one mapping of Agora's REST errors."""
        status, pause_s = sent.reply.status, sent.reply.retry_after_s
        because = f"HTTP {status}{self._quoted(sent, call)}"
        known: dict[str, Any] = {"provider": self._name, "operation": call.operation}
        if status == 401:
            retry = self._credential.rejected(call.operation, sent.secret)
            says = "customer id or secret is wrong: see Agora's console, RESTful API"
            return CredentialsRejected(f"{says}: {because}", retry=retry, **known)
        if status == 403 and call.is_gateway:
            says = "Media Gateway is not enabled for this project, or the key is another's"
            return Refused(f"{says}: {because}", **known)
        if status == 403:
            says = "this credential may not do that in this project"
            return CredentialsRejected(f"{says}: {because}", retry=Retry.NEXT, **known)
        if status in (400, 405, 415):
            return ContractBroken(f"our request was not understood: {because}", **known)
        if status == 429:
            pause_s = _PAUSE_S if pause_s is None else pause_s
            self._quota.hold(call.kind, pause_s)
            says = "too many calls or streams on this account"
            return Refused(f"{says}: {because}", retry_after_s=pause_s, **known)
        if status == 409:
            pause_s = _PAUSE_S if pause_s is None else pause_s
            return Refused(because, retry=Retry.SAME, retry_after_s=pause_s, **known)
        if 400 <= status < 500:
            return Refused(because, retry_after_s=pause_s, **known)
        if status >= 500:
            is_spent = sent.tries > 1 or (pause_s or 0.0) > _PAUSE_S
            retry = Retry.NEXT if is_spent else Retry.SAME
            return Refused(because, retry=retry, retry_after_s=pause_s, **known)
        return ContractBroken(f"no answer that is documented: {because}", **known)

    def _quoted(self, sent: Sent, call: Call) -> str:
        """Return what an error says in its `message` or `reason`, and its request's id."""
        try:
            said = msgspec.json.decode(sent.reply.body, type=_ErrorBody)
            text = said.message or said.reason or ""
        except (msgspec.DecodeError, UnicodeDecodeError):
            text = ""
        secrets = (sent.secret, sent.basic, self._customer_id, *call.unsaid)
        words, number = quotable(text, secrets), quotable(sent.reply.request_id, secrets)
        return (f" ({words})" if words else "") + (f", request {number}" if number else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An answer, after how many attempts it came, and the credential that went along."""

    reply: Reply
    tries: int
    secret: str = field(repr=False)
    basic: str = field(repr=False)


class _ErrorBody(msgspec.Struct):
    message: str | None = None
    reason: str | None = None


def until(deadline: float | None) -> float:
    """Return the deadline of a call [s, the loop's clock]; None: `CALL_S` from now."""
    return asyncio.get_running_loop().time() + CALL_S if deadline is None else deadline
