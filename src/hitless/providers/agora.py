"""
Agora: publishing from Python through its Media Gateway (RTMP), with keys and tokens made here.

Agora's own media protocol is not public. From Python a stream is pushed to the Media Gateway,
which is documented and must be enabled for the project; it is watched in Agora's SDKs, whose
clients get App ID, channel, uid and token in their plan. From Python it is viewed through Agora's
native SDK, an optional extra in a process of its own (`agora_sdk.py`). WHIP and WHEP are spoken
where addresses are given: with the lab's stand-in, whose tokens are real; that Agora takes them
is unconfirmed.

Nothing here was run against Agora itself; see `agora_record.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from ..core.events import Role
from ..core.policy import SelfView
from ..errors import ConfigError, CredentialsRejected, MediaLost, Refused, Retry, Unreachable
from ..media.feed import Feed
from .agora_api import AgoraApi
from .agora_checkup import check_up
from .agora_gateway import Gateway, Place
from .agora_hosts import Hosts, hosts_of, region_of
from .agora_hosts import ingest_hosts as ingest_hosts_of
from .agora_record import RECORD
from .agora_sdk import AgoraSdk
from .agora_sdk_leg import RenewedViewLeg
from .agora_sdk_process import INSTALL
from .agora_tickets import Ticket, Tickets
from .base import Leg, ViewLeg
from .checkup import Finding
from .chores import CHORE_S, Chores
from .credential import Access, Credentials, Token
from .expiring_legs import ExpiringLeg, ExpiringViewLeg
from .named_whip import Grant, NamedWhip, also_when_closed, fetched, remember
from .quota import Quota
from .record import Record
from .rtmp import Rtmp
from .rtmp_legs import RtmpPublishingLeg
from .tickets import NAME
from .whip import checked_url


KEY_S: Final = 24 * 3600.0
"""How long a stream key lasts [s]: longer than most streams, since whether a push outlasts its
key is unconfirmed."""

_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")


class Agora:
    """
    Agora as a provider.

    Exactly one publisher: where a plan's channel carries the epoch, an older publisher is in
    another channel. Elsewhere, who published before us is put out through the API once our media
    is proven, in the background and within the account's limits; it takes `customer_id`.

    Args:
        name: Provider name: lower-case letters, digits, `.`, `_` and `-`.
        app_id: App ID of the project, 32 hexadecimal digits.
        certificate: Signs tokens, or an async callable that fetches it.
        credentials: Fetches a plan's credential of one stream and role instead
            (`{"channel", "uid", "token"}`, and `stream_key` where the plan's maker can make
            one); it beats the certificate.
        channel: Name of a stream's channel where no plan says it; `{stream}` is replaced.
        uid: Of the publisher where no plan says it, 1 to 65535: the same for all that publish a
            stream.
        customer_id: REST credential of the account; with `customer_secret`.
        customer_secret: Its secret, or an async callable that fetches it.
        region: Where streams are taken in: `na`, `eu`, `ap` or `cn`.
        stream_key: A stream key made in the console, for projects without REST, or what fetches
            it. It belongs to one channel: one stream at a time.
        ingest: `rtmp`, or `whip` to publish at `whip_url`.
        whip_url: WHIP endpoint; `{stream}` is replaced by the channel. Unconfirmed at Agora, so
            there is no default.
        whep_url: WHEP endpoint, likewise.
        view: `whep` to view at `whep_url`, or `sdk` to view through Agora's native SDK in a
            process of its own; it takes the extra `agora-sdk`.
        api_url: Origin of the REST API instead of Agora's; a stand-in's.
        ingest_hosts: Instead of the region's, the first choice first.
        key_s: How long a stream key lasts [s].
        removes_older: Whether older publishers are put out.
        first_media_s: Time to the first proven media [s]; None: 10 by RTMP or SDK, 3 by WHIP.
        self_view: How a publisher proves by WHIP that it is forwarded, where `whep_url` is given.
        silence_s, path_silence_s, one_kind_silence_s: Shortest silences that count [s]; None: as
            of `Rtmp`, `Whip` and `AgoraSdk`.
        fault_domain: What fails together with it.
        allow_http: Whether plain http is accepted for WHIP and WHEP; None: with loopback only.
        quota: Share it among adapters of the same account; None: one of its own.

    Attributes:
        first_media_s, fault_domain: As given.

    Raises:
        ConfigError: Something cannot be used; the message says which and why.
    """

    RECORD: Record = RECORD

    def __init__(
        self,
        name: str = "agora",
        *,
        app_id: str,
        certificate: Token | None = None,
        credentials: Credentials | None = None,
        channel: str = NAME,
        uid: int = 1,
        customer_id: str | None = None,
        customer_secret: Token | None = None,
        region: str = "na",
        stream_key: Token | None = None,
        ingest: str = "rtmp",
        whip_url: str | None = None,
        whep_url: str | None = None,
        view: str = "whep",
        api_url: str | None = None,
        ingest_hosts: Sequence[str] = (),
        key_s: float = KEY_S,
        removes_older: bool = True,
        first_media_s: float | None = None,
        self_view: SelfView = SelfView.KEPT,
        silence_s: float | None = None,
        path_silence_s: float | None = None,
        one_kind_silence_s: float | None = None,
        fault_domain: str = "agora",
        allow_http: bool | None = None,
        quota: Quota | None = None,
    ) -> None:
        self.tickets = Tickets(
            name, app_id=app_id, certificate=certificate, credentials=credentials,
            channel=channel, uid=uid,
        )  # fmt: skip
        if (customer_id is None) != (customer_secret is None):
            raise ConfigError("customer_id and customer_secret: give both or none")
        _check_ways(ingest, whip_url, view)
        if not key_s >= 60.0:
            raise ConfigError("key_s: give 60 s or more")
        hosts = tuple(ingest_hosts) or ingest_hosts_of(region)
        if not all(_HOST.fullmatch(host) for host in hosts):
            raise ConfigError("ingest_hosts: give names like rtmp.example.com, without rtmp://")
        self.region = region_of(region).value
        self.app_id, self.ingest, self.api_url = app_id, ingest, api_url
        self._removes_older = removes_older
        self._hosts = hosts
        for field, url in (("whip_url", whip_url), ("whep_url", whep_url)):
            if url is not None:
                checked_url(field, url, allow_http)
        usual_s = 10.0 if ingest == "rtmp" or view == "sdk" else 3.0
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
            url=f"rtmp://{hosts[0]}/live/{{key}}",
            play_url="",
            credentials=self._place,
            first_media_s=self.first_media_s,
            self_view=SelfView.OFF,
            **quiet,  # type: ignore[arg-type]  # numbers, by name
        )
        self._chores = Chores(name)
        self.api = None
        if customer_id is not None and customer_secret is not None:
            self.api = AgoraApi(
                name, app_id=app_id, customer_id=customer_id, customer_secret=customer_secret,
                region=region, hosts=None if api_url is None else _one_host(api_url), quota=quota,
            )  # fmt: skip
        self._gateway = Gateway(
            name, api=self.api, stream_key=stream_key, hosts=hosts, key_s=key_s,
            chores=self._chores,
        )  # fmt: skip
        self.has_key = stream_key is not None
        self._whip: NamedWhip | None = None
        self._whip_urls = tuple(url for url in (whip_url, whep_url) if url is not None)
        self._can_view = whep_url is not None
        if self._whip_urls:
            self._whip = NamedWhip(
                name,
                grants=self._grant,
                url=self._whip_urls[0],
                view_url=self._whip_urls[-1],
                first_media_s=self.first_media_s,
                self_view=self_view if self._can_view else SelfView.OFF,
                allow_http=allow_http,
                **quiet,
            )
        self._view = view
        self._sdk = AgoraSdk(
            name, app_id=app_id, ticket=self._ticket, first_media_s=self.first_media_s,
            silence_s=silence_s, one_kind_silence_s=one_kind_silence_s,
        )  # fmt: skip
        self._held: dict[tuple[str, Role], Ticket] = {}
        self._places: dict[str, Place] = {}
        self._chases: dict[str, _Chase] = {}

    @property
    def name(self) -> str:
        """Provider name."""
        return self._rtmp.name

    async def start_stream(self, stream: str, source: Feed) -> ExpiringLeg[Leg]:
        """
        Publish; see `Provider.start_stream`.

        By RTMP the first media is proven by the gateway's process, which took it (a pong, or an
        acknowledgement of bytes). Where it gives neither, its list of online streams must show
        the stream, if there is a REST credential; without one its kernel's word must do.
        """
        chase = self._chases[stream] = _Chase()
        try:
            leg: Leg
            if self.ingest == "whip":
                assert self._whip is not None
                leg = await self._whip.start_stream(stream, source)
                ends_s = self._held[stream, Role.PUBLISHER].ends_s
            else:
                leg, ends_s = await self._push(stream, source)
        except BaseException as exc:
            chase.drop()
            if self._whip is not None and isinstance(exc, Refused) and self._whip.is_taken(stream):
                self._free(stream)
            raise
        finally:
            if self._chases.get(stream) is chase:
                del self._chases[stream]
        chase.proven.set()
        return ExpiringLeg(leg, operation="publish", expires_s=ends_s)

    async def join_stream(self, stream: str) -> ExpiringViewLeg:
        """
        View; see `Provider.join_stream`.

        Raises:
            ConfigError: No `whep_url`, or the native SDK is wanted and not installed.
        """
        leg: ViewLeg
        if self._view == "sdk":
            seen = await self._sdk.join_stream(stream)
            held = self._held[stream, Role.VIEWER]
            return RenewedViewLeg(seen, held, lambda held: self._renewed(stream, held))
        elif self._whip is not None and self._can_view:
            leg = await self._whip.join_stream(stream)
        else:
            raise ConfigError(
                f'{self.name}: viewing Agora from Python needs its native SDK: give view = "sdk" '
                f"and {INSTALL}, or watch in a browser or phone with Agora's SDK and the plan's "
                "credential, give a whep_url, or view over another provider"
            )
        ends_s = self._held[stream, Role.VIEWER].ends_s
        return ExpiringViewLeg(leg, operation="view", expires_s=ends_s)

    async def aclose(self) -> None:
        """Close every leg that is still open, delete stream keys. Idempotent; at most 2 s."""
        await self._chores.aclose()
        work = [self._rtmp.aclose(), self._gateway.aclose(), self._sdk.aclose()]
        if self._whip is not None:
            work.append(self._whip.aclose())
        await asyncio.gather(*work)

    # --- For `hitless doctor` ---

    def endpoints(self) -> tuple[str, ...]:
        """See `Checkable`."""
        urls = [] if self.api is None else [self.api_url or hosts_of(self.region).primary]
        if self.ingest == "rtmp":
            urls.append(f"rtmp://{self._hosts[0]}")
        return (*urls, *(url.replace(NAME, "stream") for url in self._whip_urls))

    def checkup(self) -> AsyncIterator[Finding]:
        """See `Checkable`."""
        return check_up(self)

    # --- Inside ---

    async def _push(self, stream: str, source: Feed) -> tuple[Leg, float | None]:
        """Publish by RTMP; return the leg, and when its key ends [s, the loop's clock]."""
        deadline = asyncio.get_running_loop().time() + self.first_media_s
        self._places.pop(stream, None)
        leg: RtmpPublishingLeg | None = None
        try:
            leg = await self._rtmp.start_stream(stream, source)
            ticket, place = self._held[stream, Role.PUBLISHER], self._places[stream]
            if leg.proven_by == "kernel":
                await self._gateway.confirm(ticket.channel, ticket.uid, deadline)
        except BaseException as exc:
            if leg is not None:
                await leg.aclose(wait=False)
            self._note(stream, exc)
            raise
        self._gateway.rota.worked(place.host)
        self._gateway.used(ticket.channel, ticket.uid)
        also_when_closed(leg, lambda: self._gateway.released(ticket.channel, ticket.uid))
        return leg, place.ends_s

    def _note(self, stream: str, exc: BaseException) -> None:
        """Learn from an attempt that failed: the next one asks the next host, or is let in."""
        place, ticket = self._places.get(stream), self._held.get((stream, Role.PUBLISHER))
        if place is None or ticket is None:
            return  # it came to nothing before any host was asked
        if isinstance(exc, Unreachable | MediaLost):
            self._gateway.rota.failed(place.host)
        elif isinstance(exc, Refused):
            self._gateway.free(ticket.channel, ticket.uid)
        elif isinstance(exc, CredentialsRejected) and not self._gateway.can_renew:
            exc.retry = Retry.NEXT

    def _free(self, stream: str) -> None:
        """Put out, in the background, who holds the channel that we were not let into."""
        ticket = self._held.get((stream, Role.PUBLISHER))
        if ticket is None or self.api is None or not self._removes_older:
            return
        # Nobody of ours is in there, so one of our uid is a zombie. Others may be in a channel
        # that carries the epoch, since that is this placement's own.
        work = self._gateway.put_out(ticket.channel, ticket.uid, others=not ticket.is_fenced)
        self._chores.begin("free", work)

    async def _place(self, access: Access) -> Mapping[str, Any]:
        """Return address and key for one attempt, as `Rtmp` wants them."""
        ticket = await self._ticket(access)
        has_key = self.has_key or ticket.stream_key is not None
        if self.tickets.is_planned and not has_key and self.api is None:
            # No ConfigError: the plan is not the caller's fault, and others may carry the stream.
            raise CredentialsRejected(
                "its plan has no stream key: set local_keys at the Hitless server, which takes a "
                "domain of your own in ingest_hosts, or give customer_id and customer_secret here",
                provider=self.name,
                operation="publish",
                retry=Retry.NEXT,
                answered=False,
            )
        place = await self._gateway.place(ticket, renew=access.renew)
        remember(self._places, access.stream, place)
        return {"url": place.url, "token": place.key}

    async def _grant(self, access: Access) -> Grant:
        ticket = await self._ticket(access)
        return Grant(name=ticket.channel, token=ticket.token)

    async def _renewed(self, stream: str, held: Ticket) -> Ticket:
        access = Access(provider=self.name, stream=stream, role=Role.VIEWER, renew=True)
        asking = self.tickets.renewed(access, held)
        return await fetched(asking, self.name, "view", self.first_media_s)

    async def _ticket(self, access: Access) -> Ticket:
        """Return a credential, and begin to look for older publishers once per start."""
        ticket = await self.tickets.ticket(access)
        remember(self._held, (access.stream, access.role), ticket)
        chase = self._chases.get(access.stream)
        if chase is not None and chase.task is None and access.role is Role.PUBLISHER:
            if self.api is not None and self._removes_older and not ticket.is_fenced:
                work = self._gateway.put_out_older(ticket.channel, ticket.uid, chase.proven)
                limit_s = self.first_media_s + CHORE_S
                chase.task = self._chores.begin("older publishers", work, limit_s=limit_s)
        return ticket


class _Chase:
    """Who was there before one start, and the chore that puts them out once it is proven."""

    def __init__(self) -> None:
        self.proven = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def drop(self) -> None:
        if self.task is not None:
            self.task.cancel()


def _check_ways(ingest: str, whip_url: str | None, view: str) -> None:
    if ingest not in ("rtmp", "whip"):
        raise ConfigError(f"ingest = {ingest[:20]!r} is not possible: give rtmp or whip")
    if ingest == "whip" and whip_url is None:
        raise ConfigError("whip_url is needed for ingest = whip: Agora documents no WHIP")
    if view not in ("whep", "sdk"):
        raise ConfigError(f"view = {view[:20]!r} is not possible: give whep or sdk")


def _one_host(origin: str) -> Hosts:
    return Hosts(primary=origin, alternate=origin, adjacent=origin, adjacent_alternate=origin)
