"""
ZEGOCLOUD: publishing and viewing from Python over RTMP, or publishing over its WHIP.

Its own media protocol is not public and there is no Python SDK. RTMP into RTC is documented and
enabled by its support: a node is asked for each time, and the stream is announced to its room for
the SDKs' clients, who get App ID, room, user and token in their plan. WHIP is documented with
gaps (`zego_whip.py`), WHEP not at all; the lab's stand-in speaks both, with a token04 as Bearer.

Nothing here was run against ZEGOCLOUD itself; see `zego_record.py`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Final

from ..core.events import Role
from ..core.policy import SelfView
from ..errors import (
    ConfigError,
    CredentialsRejected,
    HitlessError,
    MediaLost,
    NotOnAir,
    Refused,
    Retry,
    Unreachable,
)
from ..media.feed import Feed
from .base import Leg, ViewLeg
from .checkup import Finding
from .chores import Chores
from .clock import wall_s
from .credential import Access, Credentials, Token
from .expiring_legs import ExpiringLeg, ExpiringViewLeg
from .named_whip import Grant, NamedWhip, also_when_closed, remember
from .quota import Quota
from .record import Record
from .rota import Rota
from .rtmp import Rtmp
from .rtmp_legs import RtmpPublishingLeg, RtmpViewingLeg
from .tickets import NAME, TOKEN_S
from .whip import checked_url
from .whip_legs import PublishingLeg
from .zego_api import StreamState, ZegoApi
from .zego_checkup import check_up
from .zego_record import RECORD
from .zego_room import Rooms
from .zego_tickets import Ticket, Tickets
from .zego_token import check_account
from .zego_whip import whip_access


CALL_S_MAX: Final = 4.0
"""Longest wait for a node [s]: it is a part of the time to first media."""

ASK_S: Final = 1.0
"""A stream that nobody published is asked for again after this at the earliest [s], however many
viewers wait for it in this process: calls are limited."""


class Zegocloud:
    """
    ZEGOCLOUD as a provider.

    Exactly one publisher: stream ids are unique in the App ID, and a plan's carry the epoch. Where
    one is taken all the same, whoever holds it is put out through the API, in the background; that
    attempt has failed, the next one finds it free.

    When a credential ends: by RTMP there is none in an address. A token04 ends no session, which
    is ZEGOCLOUD's default, unless `kick_mode` says otherwise. Whether a session by its signed WHIP
    outlasts its address is unconfirmed, so that it counts as ended. What ends is left in time.

    Args:
        name: Provider name: lower-case letters, digits, `.`, `_` and `-`.
        app_id: App ID of the project.
        server_secret: ServerSecret, or an async callable that fetches it: signs tokens and calls
            of the server API, without which there is no RTMP.
        credentials: Fetches a plan's credential of one stream and role instead of minting
            (`{"room_id", "stream_id", "user_id", "token"}`).
        stream_name: Name of stream and room where no plan says it; `{stream}` is replaced.
        user: Publisher's user id where no plan says it.
        region: Nearest entry of the server API: `sha`, `hkg`, `fra`, `lax`, `bom` or `sgp`.
        ingest: `rtmp` or `whip`.
        bearer: By WHIP: `signed`, as ZEGOCLOUD documents (unconfirmed), or `token04`, as the
            lab's stand-in takes.
        whip_url: With `token04` the endpoint, where `{stream}` is replaced by the stream's name
            there; with `signed` an origin instead of ZEGOCLOUD's.
        whep_url: WHEP endpoint, likewise; None: streams are viewed over RTMP.
        api_url: Origin of the server API instead of ZEGOCLOUD's; a stand-in's.
        kick_mode: Whether ZEGOCLOUD's support has switched the project over, so that users are
            put out when their token ends.
        removes_older: Whether a publisher that holds our stream's id is put out.
        first_media_s: Time to the first proven media [s]; None: 10 by RTMP, 3 by WHIP.
        self_view: How a publisher proves by WHIP that it is forwarded, where `whep_url` is given.
        silence_s, path_silence_s, one_kind_silence_s: Shortest silences that count [s]; None: as
            of `Rtmp` and `Whip`.
        fault_domain: What fails together with it.
        allow_http: Whether plain http is accepted for WHIP and WHEP; None: with loopback only.
        quota: Share it among adapters of the same App ID; None: one of its own.

    Attributes:
        first_media_s, fault_domain: As given.

    Raises:
        ConfigError: Something cannot be used; the message says which and why.
    """

    RECORD: Record = RECORD

    def __init__(
        self,
        name: str = "zegocloud",
        *,
        app_id: int,
        server_secret: Token | None = None,
        credentials: Credentials | None = None,
        stream_name: str = NAME,
        user: str = "publisher",
        region: str | None = None,
        ingest: str = "rtmp",
        bearer: str = "signed",
        whip_url: str | None = None,
        whep_url: str | None = None,
        api_url: str | None = None,
        kick_mode: bool = False,
        removes_older: bool = True,
        first_media_s: float | None = None,
        self_view: SelfView = SelfView.KEPT,
        silence_s: float | None = None,
        path_silence_s: float | None = None,
        one_kind_silence_s: float | None = None,
        fault_domain: str = "zegocloud",
        allow_http: bool | None = None,
        quota: Quota | None = None,
    ) -> None:
        self.tickets = Tickets(
            name, app_id=app_id, server_secret=server_secret, credentials=credentials,
            stream_name=stream_name, user=user,
        )  # fmt: skip
        if ingest not in ("rtmp", "whip"):
            raise ConfigError(f"ingest = {ingest[:20]!r} is not possible: give rtmp or whip")
        if bearer not in ("signed", "token04"):
            raise ConfigError(f"bearer = {bearer[:20]!r} is not possible: give signed or token04")
        if ingest == "whip" and bearer == "token04" and whip_url is None:
            raise ConfigError("whip_url is needed for bearer = token04: ZEGOCLOUD takes none")
        self.app_id, self.ingest, self.api_url, self.region = app_id, ingest, api_url, region
        self._is_signed, self._removes_older = bearer == "signed", removes_older
        self._kick_mode = kick_mode
        self._whip_base = whip_url
        for field, url in (("whip_url", whip_url), ("whep_url", whep_url)):
            if url is not None:
                checked_url(field, url, allow_http)
        usual_s = 10.0 if ingest == "rtmp" else 3.0
        self.first_media_s = usual_s if first_media_s is None else first_media_s
        self.fault_domain = fault_domain
        quiet = {
            "silence_s": silence_s,
            "path_silence_s": path_silence_s,
            "one_kind_silence_s": one_kind_silence_s,
        }
        quiet = {key: value for key, value in quiet.items() if value is not None}
        self._rtmp = Rtmp(
            name,
            url=f"rtmp://node.invalid/{app_id}/{NAME}",  # each stream has an address of its own
            credentials=self._place,
            first_media_s=self.first_media_s,
            self_view=SelfView.OFF,
            **quiet,  # type: ignore[arg-type]  # numbers, by name
        )
        self._chores = Chores(name)
        self._rota = Rota()
        self.api: ZegoApi | None = None
        self._rooms: Rooms | None = None
        if server_secret is not None:
            self.api = ZegoApi(
                name, app_id=app_id, server_secret=server_secret, region=region, base=api_url,
                quota=quota,
            )  # fmt: skip
            self._rooms = Rooms(name, self.api, self._chores)
        self._can_view = whep_url is not None
        self._whip: NamedWhip | None = None
        self._whip_urls: tuple[str, ...] = ()
        if ingest == "whip" or whep_url is not None:
            publish_url = self._publish_url(whip_url) if ingest == "whip" else str(whep_url)
            self._whip_urls = (publish_url, *([] if whep_url is None else [whep_url]))
            self._whip = NamedWhip(
                name,
                grants=self._grant,
                url=publish_url,
                view_url=self._whip_urls[-1],
                first_media_s=self.first_media_s,
                self_view=self_view if self._can_view else SelfView.OFF,
                allow_http=allow_http,
                **quiet,
            )
        self._held: dict[tuple[str, Role], Ticket] = {}
        self._places: dict[tuple[str, Role], str] = {}
        self._absent_s: dict[str, float] = {}

    @property
    def name(self) -> str:
        """Provider name."""
        return self._rtmp.name

    async def check_secret(self) -> None:
        """
        Read the secret as it is kept now, and check that it can be one; nobody is asked.

        Raises:
            ConfigError: It cannot be what ZEGOCLOUD's console shows; it is not quoted.
            CredentialsRejected: What should fetch it failed.
        """
        secret = await self.tickets.secret()
        if secret is not None:
            check_account(self.app_id, secret)

    async def start_stream(self, stream: str, source: Feed) -> Leg:
        """
        Publish; see `Provider.start_stream`.

        By RTMP the first media is proven by the node's process, which took it (a pong, or an
        acknowledgement of bytes). Where it gives neither, ZEGOCLOUD must say that the stream is
        active; where that cannot be asked, the node's kernel's word must do.
        """
        deadline = asyncio.get_running_loop().time() + self.first_media_s
        self._places.pop((stream, Role.PUBLISHER), None)
        self._held.pop((stream, Role.PUBLISHER), None)
        leg: PublishingLeg | RtmpPublishingLeg | None = None
        try:
            if self.ingest == "whip":
                assert self._whip is not None
                leg = await self._whip.start_stream(stream, source)
            else:
                leg = rtmp = await self._rtmp.start_stream(stream, source)
                if rtmp.proven_by == "kernel" and self._rooms is not None:
                    name = self._held[stream, Role.PUBLISHER].stream
                    await self._rooms.confirm(name, deadline)
        except BaseException as exc:
            if leg is not None:
                await leg.aclose(wait=False)
            meant = self._note(stream, Role.PUBLISHER, exc)
            if meant is not None:
                raise meant from exc
            raise
        ticket = self._held[stream, Role.PUBLISHER]
        self._worked(stream, Role.PUBLISHER)
        rooms = self._rooms
        if rooms is not None:
            announcing = rooms.announce(ticket)
            also_when_closed(leg, lambda: rooms.withdraw(ticket, announcing))
        if self.ingest == "rtmp":
            return leg
        ends_s = ticket.ends_s if self._is_signed or self._kick_mode else None
        return ExpiringLeg(leg, operation="publish", expires_s=ends_s)

    async def join_stream(self, stream: str) -> ViewLeg:
        """
        View; see `Provider.join_stream`. By WHEP where there is one, else by RTMP.

        Raises:
            ConfigError: There is neither a `whep_url` nor a `server_secret`.
        """
        if self._whip is not None and self._can_view:
            leg = await self._whip.join_stream(stream)
            ends_s = self._held[stream, Role.VIEWER].ends_s if self._kick_mode else None
            return ExpiringViewLeg(leg, operation="view", expires_s=ends_s)
        if self.api is None:
            raise ConfigError(
                f"{self.name}: to view from Python give server_secret, for RTMP where ZEGOCLOUD's "
                "support has enabled it, or a whep_url; browsers and phones use its SDK"
            )
        return await self._pull(self.api, stream)

    async def aclose(self) -> None:
        """Close every leg that is still open, withdraw streams. Idempotent; at most 2 s."""
        await self._chores.aclose()
        work = [self._rtmp.aclose()]
        if self._rooms is not None:
            work.append(self._rooms.aclose())
        if self._whip is not None:
            work.append(self._whip.aclose())
        await asyncio.gather(*work)

    # --- For `hitless doctor` ---

    def endpoints(self) -> tuple[str, ...]:
        """See `Checkable`. A node for RTMP is known only when it is asked for."""
        host = "rtc-api" if self.region is None else f"rtc-api-{self.region}"
        urls = [] if self.api is None else [self.api_url or f"https://{host}.zego.im"]
        return (*urls, *(url.replace(NAME, "stream") for url in self._whip_urls))

    def checkup(self) -> AsyncIterator[Finding]:
        """See `Checkable`."""
        return check_up(self)

    # --- Inside ---

    async def _pull(self, api: ZegoApi, stream: str) -> RtmpViewingLeg:
        clock = asyncio.get_running_loop().time
        if clock() - self._absent_s.get(stream, -math.inf) < ASK_S:
            raise NotOnAir(f"{self.name}: nobody publishes", retry_after_s=ASK_S)
        try:
            leg = await self._rtmp.join_stream(stream)
        except NotOnAir:
            remember(self._absent_s, stream, clock())
            raise
        except Refused as exc:
            # No node to play from, or a name that is refused: is it on air at all?
            ticket = self._held.get((stream, Role.VIEWER))
            if ticket is None or await self._is_active(api, ticket):
                raise
            remember(self._absent_s, stream, clock())
            raise NotOnAir(f"{self.name}: nobody publishes", retry_after_s=ASK_S) from exc
        except HitlessError as exc:
            meant = self._note(stream, Role.VIEWER, exc)
            if meant is not None:
                raise meant from exc
            raise
        self._worked(stream, Role.VIEWER)
        self._absent_s.pop(stream, None)
        return leg

    async def _is_active(self, api: ZegoApi, ticket: Ticket) -> bool:
        deadline = asyncio.get_running_loop().time() + CALL_S_MAX
        try:
            return await api.stream_state(ticket.stream, deadline=deadline) is StreamState.ACTIVE
        except HitlessError:
            return True  # not known: the error that there was is told

    def _note(self, stream: str, role: Role, exc: BaseException) -> Refused | None:
        """Learn from an attempt that failed; return what it means, if it means something else."""
        place, ticket = self._places.get((stream, role)), self._held.get((stream, role))
        if isinstance(exc, Unreachable | MediaLost) and place is not None:
            self._rota.failed(place)
        if place is None and self.ingest == "rtmp":
            return None  # it came to nothing before any node was asked
        if self.ingest == "rtmp":
            is_taken = isinstance(exc, Refused | CredentialsRejected)
        else:
            is_taken = self._whip is not None and self._whip.is_taken(stream)
        if is_taken and role is Role.PUBLISHER and ticket is not None and self._rooms is not None:
            if self._removes_older and not ticket.is_fenced:
                self._rooms.free(ticket)
        if self.ingest == "rtmp" and isinstance(exc, CredentialsRejected):
            # There is no credential in a node's address: it is the stream that is refused.
            because = f"the node refused the stream; another may have its id ({exc.because})"
            return Refused(because, provider=self.name, operation=exc.operation)
        return None

    def _worked(self, stream: str, role: Role) -> None:
        place = self._places.get((stream, role))
        if place is not None:
            self._rota.worked(place)

    async def _place(self, access: Access) -> Mapping[str, Any]:
        """Return a node's address for one attempt, as `Rtmp` wants it."""
        if self.api is None:
            raise self._without_secret("to publish from Python by RTMP give server_secret")
        ticket = await self._ticket(access)
        nodes = await self.api.rtmp_urls(
            ticket.stream,
            is_push=access.role is Role.PUBLISHER,
            deadline=asyncio.get_running_loop().time() + CALL_S_MAX,
        )
        node = self._rota.choose(nodes)
        remember(self._places, (access.stream, access.role), node)
        return {"url": node}

    async def _grant(self, access: Access) -> Grant:
        ticket = await self._ticket(access)
        if access.role is Role.VIEWER or not self._is_signed:
            return Grant(name=ticket.stream, token=ticket.token)
        secret = await self.tickets.secret()
        if secret is None:
            raise self._without_secret("to publish from Python by WHIP give server_secret")
        now_s = wall_s()
        signed = whip_access(
            app_id=self.app_id, key=secret, stream=ticket.stream, user=ticket.user,
            now_s=now_s, valid_s=TOKEN_S, base=self._whip_base,
        )  # fmt: skip
        ends_s = asyncio.get_running_loop().time() + signed.expires_s - now_s
        remember(self._held, (access.stream, access.role), replace(ticket, ends_s=ends_s))
        return Grant(name=ticket.stream, token=signed.token, url=signed.url)

    def _without_secret(self, because: str) -> HitlessError:
        """Return what to raise; with a plan, others are asked to carry the stream."""
        if not self.tickets.is_planned:
            return ConfigError(f"{self.name}: {because}")
        return CredentialsRejected(
            f"its plan's token does not do: {because}",
            provider=self.name,
            operation="publish",
            retry=Retry.NEXT,
            answered=False,
        )

    async def _ticket(self, access: Access) -> Ticket:
        ticket = await self.tickets.ticket(access)
        remember(self._held, (access.stream, access.role), ticket)
        return ticket

    def _publish_url(self, whip_url: str | None) -> str:
        if not self._is_signed:
            assert whip_url is not None
            return whip_url
        origin = whip_url or f"https://i-whip{self.app_id}.whip.zegotech.cn"
        return f"{origin.rstrip('/')}/whip/v1/{self.app_id}/{NAME}"
