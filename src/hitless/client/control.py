"""
A client's link to the control plane: plans when a stream begins, then one WebSocket for all.

Nothing here decides. What the server says becomes events of the core, what the core orders for it
becomes messages. While the server is away the client goes on from its plans and, like a client
without a server, from what it sees; what it has to say is said anew from its state when the link
is back, so a lost message costs nothing but time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp

from ..core.events import (
    Announce,
    EndRequested,
    Event,
    LegsReleased,
    PlacementTold,
    RescueTold,
    Role,
    StreamOver,
)
from ..core.listing import Check, ProviderList
from ..core.state import Phase, Session
from ..errors import ConfigError, CredentialsRejected, Refused
from ..media.closing import finish
from ..providers.credential import Access
from . import protocol
from .backend import Backend
from .link import Ends, Link
from .plan_request import PlanDesk, new_http
from .quality import UNMEASURED, Quality, report_of
from .served import LEG_STATES, RENEW_S_MAX, STALE_S, Served
from .telemetry import log


UNKNOWN: Final = "unknown-stream"
"""Code of a problem with a stream that the server does not know, or not any more."""

UNSAID_MAX: Final = 64
"""Ends of streams kept until the link is back; the oldest go first."""
CLIENT_CHARS_MAX: Final = 100


def _uncounted(stream: str, provider: str) -> tuple[int, int]:
    return 0, 0


class ControlPlane:
    """
    A Hitless server as the `backend` of a `LiveStreamingProvider`.

    It lists the providers, gives a plan with credentials for each stream, tells of placements
    made elsewhere and is told of ours.

    Args:
        url: The server's address, `https://hitless.example.com`.
        key: The client key, or None where the server needs none.
        client: This client's own name, the same after a restart; None: a random one.
        region: Where it is, as providers' regions are called; empty: not known.
        timeout_s: Limit of one request [s].
        allow_http: Whether the key may be sent in clear to another machine.

    Raises:
        ConfigError: The address, the key or the name cannot be used; none of them is quoted.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        client: str | None = None,
        region: str = "",
        timeout_s: float = 5.0,
        allow_http: bool = False,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._backend = Backend(
            url, headers=headers or None, timeout_s=timeout_s, allow_http=allow_http
        )
        self.client, self.region = client or secrets.token_urlsafe(9), region
        if len(self.client) > CLIENT_CHARS_MAX or not self.client.isprintable():
            raise ConfigError(f"client: give 1 to {CLIENT_CHARS_MAX} printable characters")
        address = url.rstrip("/")
        self._desk = PlanDesk(
            address, headers=headers, key=key or "", http=self._opened, timeout_s=timeout_s
        )
        self._served: dict[str, Served] = {}
        self._greeted: dict[str, protocol.Seen] = {}
        self._unsaid: dict[str, tuple[protocol.Seen, str]] = {}
        self._closing: asyncio.Task[None] | None = None
        self._post: Callable[[Event], None] = lambda event: None
        self._tell: Callable[[Announce], None] = lambda news: None
        self._look: Callable[[str], Session | None] = lambda session: None
        self._age_s: Callable[[str], float | None] = lambda provider: None
        self._carried: Callable[[str, str], tuple[int, int]] = _uncounted
        self._measured: Callable[[str], Quality] = lambda session: UNMEASURED
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._rng = random.Random(self.client)
        self._link = Link(
            address,
            headers=headers,
            http=self._opened,
            timeout_s=timeout_s,
            rng=self._rng,
            ends=Ends(
                hello=self._hello,
                hear=self._hear,
                connected=self._connected,
                lost=lambda because: self._say("control.lost", because),
                report=self._report,
            ),
        )

    # --- A source of providers ---

    async def list_providers(self) -> ProviderList:
        """Return the server's list; see `ProviderSource`."""
        return await self._backend.list_providers()

    async def check_health(self, name: str) -> Check:
        """Ask the server how a provider is. Never raises (but when cancelled)."""
        return await self._backend.check_health(name)

    # --- For the driver ---

    def attach(
        self,
        *,
        post: Callable[[Event], None],
        tell: Callable[[Announce], None],
        look: Callable[[str], Session | None],
        media_age_s: Callable[[str], float | None],
        carried: Callable[[str, str], tuple[int, int]] = _uncounted,
        measured: Callable[[str], Quality] = lambda session: UNMEASURED,
    ) -> None:
        """Name who hears what the server says; once, before the first session begins."""
        self._post, self._tell, self._look, self._age_s = post, tell, look, media_age_s
        self._carried, self._measured = carried, measured

    @property
    def is_connected(self) -> bool:
        """Whether the server hears us now."""
        return self._link.is_connected

    async def begin(self, session: str, stream: str, role: Role) -> protocol.Plan | None:
        """
        Return the plan for a session, or None if the server is away: it begins without.

        Raises:
            ConfigError: The server does not take our key, or our request.
            Refused: It says no to this stream.
        """
        served = Served(stream, role)
        self._link.open()
        served.plan = await self._ask_plan(session, served)
        self._served[session] = served
        self._greet(session)
        if served.plan is None:
            self._say("control.unreachable", f"{stream} begins without a plan")
        return served.plan

    def claim(self, session: str, base: int, provider: str, because: str) -> None:
        """Tell the server that a publisher moved."""
        served = self._served.get(session)
        if served is not None:
            self._link.send(
                protocol.Claim(stream=served.stream, base=base, provider=provider, because=because)
            )

    def confirm(self, session: str, epoch: int, provider: str) -> None:
        """Tell the server that media flows where its placement says."""
        served = self._served.get(session)
        if served is not None:
            self._link.send(protocol.Confirm(stream=served.stream, epoch=epoch, provider=provider))

    def told(self, news: Announce) -> None:
        """Pass on what became of the legs of a session."""
        state = LEG_STATES.get(news.name)
        if state is None or news.stream is None or news.provider is None:
            return
        error = str(news.fields.get("error") or "")
        for _, served in self._leading():
            if (served.stream, served.role.value) != (news.stream, news.fields.get("role")):
                continue
            self._link.send(
                protocol.LegNews(
                    stream=news.stream,
                    provider=news.provider,
                    state=state,
                    leg=int(news.fields.get("leg") or 0),
                    error=error,
                    because=news.because,
                )
            )
            if error == CredentialsRejected.__name__:
                served.rejected.add(news.provider)  # whoever asks next gets a new one
        for id, served in tuple(self._served.items()):
            is_meant = (served.stream, served.role.value) == (
                news.stream,
                news.fields.get("role"),
            )
            if is_meant and not self._has_media(id):
                served.go(self._post)  # nothing is lost by moving now

    def finish(self, session: str, because: str) -> None:
        """Tell the server that a session is over, now or when it is back. Idempotent."""
        served = self._served.pop(session, None)
        if served is None:
            return
        served.hasten()
        self._greeted.pop(session, None)
        rest = [(id, one) for id, one in self._served.items() if one.stream == served.stream]
        if any(one.role in (served.role, Role.PUBLISHER) for _, one in rest):
            return  # for the server this client goes on with it
        if not self._link.is_connected:
            self._unsaid[session] = (self._seen(session, served), because)
            if len(self._unsaid) > UNSAID_MAX:
                del self._unsaid[next(iter(self._unsaid))]
            return
        self._link.send(protocol.Finish(stream=served.stream, because=because))
        for id, _ in rest:
            self._greet(id)

    async def credential(self, access: Access) -> Mapping[str, Any]:
        """
        Return the credential for one stream and role from its plan; a new plan to renew it.

        Empty: no session of this client has such a stream, or the server gives none.

        Raises:
            ConfigError, Refused: As `begin`.
        """
        found = (item for item in self._served.items() if item[1].stream == access.stream)
        session, served = min(
            found, key=lambda item: item[1].role is not access.role, default=("", None)
        )
        if served is None:
            return {}
        state = self._look(session)
        is_stale = served.is_stale(access.provider, state.follower if state else None)
        is_old = (
            access.renew or access.provider in served.rejected or not served.credential(access)
        )
        if (is_old or is_stale) and not self._desk.is_away:
            # An old name is better than a late leg: nobody else knows the new one either.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if is_old else STALE_S):
                    served.keep(await self._ask_plan(session, served))
        return served.credential(access)

    async def aclose(self) -> None:
        """
        Say what is left to say, and let go. Idempotent; bounded; never raises.

        Completes under cancellation. A session begun later begins without a plan.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="hitless: end of control")
        await finish(self._closing)

    async def _close(self) -> None:
        for served in self._served.values():
            served.hasten()
        await self._link.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._backend.aclose()
        if self._http is not None:
            await self._http.close()

    # --- Plans ---

    async def _ask_plan(self, session: str, served: Served) -> protocol.Plan | None:
        if self._closing is not None:
            return None
        verb = "start" if served.role is Role.PUBLISHER else "join"
        state = self._look(session)
        request = protocol.PlanRequest(
            stream=served.stream,
            client=self.client,
            plan=served.plan.token if served.plan else "",
            provider=(state.provider or "") if state else "",
        )
        plan = await self._desk.ask(verb, request)
        return plan if plan is not None and served.is_for(plan) else None

    def _opened(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = new_http()
        return self._http

    # --- The link ---

    def _hello(self) -> protocol.Hello:
        """Return all that the server should know: a stream once, as its publisher if we are."""
        self._greeted = {id: self._seen(id, served) for id, served in self._leading()}
        live = {seen.stream for seen in self._greeted.values()}
        self._unsaid = {id: end for id, end in self._unsaid.items() if end[0].stream not in live}
        ended = (seen for seen, _ in self._unsaid.values())
        return protocol.Hello(
            client=self.client, region=self.region, streams=(*self._greeted.values(), *ended)
        )

    def _greet(self, session: str) -> None:
        """Add a stream to the connection there is."""
        served = dict(self._leading()).get(session)
        if served is not None and self._link.is_connected:
            seen = self._greeted[session] = self._seen(session, served)
            self._link.send(
                protocol.Hello(client=self.client, region=self.region, streams=(seen,))
            )

    def _leading(self) -> list[tuple[str, Served]]:
        """Return one session of each stream, its publisher before its viewers."""
        found: dict[str, tuple[str, Served]] = {}
        for id, served in self._served.items():
            known = found.get(served.stream)
            if known is None or (
                served.role is Role.PUBLISHER and known[1].role is not Role.PUBLISHER
            ):
                found[served.stream] = (id, served)
        return list(found.values())

    def _seen(self, session: str, served: Served) -> protocol.Seen:
        state = self._look(session)
        placed = state.follower if state else None
        return protocol.Seen(
            stream=served.stream,
            role=served.role.value,
            epoch=placed.epoch if placed else 0,
            provider=(state.provider or "") if state else "",
            plan=served.plan.token if served.plan else "",
        )

    def _connected(self, welcome: protocol.Welcome) -> None:
        """Say anew what may have been lost with the last connection."""
        self._say("control.connected", f"node {welcome.node}")
        for seen, because in self._unsaid.values():
            self._link.send(protocol.Finish(stream=seen.stream, because=because))
        self._unsaid.clear()
        for id, served in self._leading():
            served.asked_once = False
            if id not in self._greeted:
                self._greet(id)  # it began while the welcome was on its way
            state = self._look(id)
            if served.plan is None:
                self._catch_up(id, served)
            elif state is not None and state.follower is not None:
                follower, here = state.follower, state.provider
                if follower.claim is not None:
                    claim = follower.claim
                    self.claim(id, claim.base_epoch, claim.provider, claim.because)
                elif here is not None and here == follower.provider:
                    self.confirm(id, follower.epoch, here)

    def _catch_up(self, session: str, served: Served, after_s: float = 0.0) -> None:
        if served.is_asking or self._closing is not None:
            return
        served.is_asking = True
        work = self._get_plan(session, served, after_s)
        task = asyncio.create_task(work, name="hitless: control plan")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _get_plan(self, session: str, served: Served, after_s: float) -> None:
        """Get the plan of a session that has none, an old one, or is not known any more."""
        try:
            await asyncio.sleep(after_s)
            if self._served.get(session) is not served:
                return
            plan = await self._ask_plan(session, served)
        except (ConfigError, Refused) as exc:
            served.is_refused = True
            log.warning("no plan for a stream on air", stream=served.stream, because=str(exc))
            return
        finally:
            served.is_asking = False
        served.keep(plan)
        if plan is None:
            return
        if self._served.get(session) is served:
            self.place(session, plan)
        else:  # it ended meanwhile, and the server has just been told that it begins
            self._link.send(protocol.Finish(stream=served.stream, because="it is over"))

    def place(self, session: str, plan: protocol.Plan) -> None:
        """Tell a session where its plan says that the stream is."""
        if plan.epoch > 0:
            self._post(
                PlacementTold(
                    session=session,
                    epoch=plan.epoch,
                    provider=plan.provider,
                    because=plan.because,
                )
            )

    def _report(self) -> None:
        for id, served in self._leading():
            state = self._look(id)
            provider = state.provider if state else None
            age_s = self._age_s(provider) if provider else None
            if provider is not None and age_s is not None:
                carried, quality = self._carried(served.stream, provider), self._measured(id)
                self._link.send(report_of(served.stream, provider, age_s, carried, quality))
            claim = state.follower.claim if state and state.follower else None
            if claim is not None:  # its answer is overdue
                self.claim(id, claim.base_epoch, claim.provider, claim.because)
            if served.plan is None and not served.is_refused:
                self._catch_up(id, served)

    # --- What the server says ---

    def _hear(self, message: protocol.Down) -> None:
        match message:
            case protocol.Problem():
                words = self._desk.words(message.code, message.message)
                log.warning("the control plane refused a message", because=words)
                for id, served in self._leading():
                    is_lost = message.code == UNKNOWN and served.stream == message.stream
                    if is_lost and served.role is Role.PUBLISHER and not served.asked_once:
                        served.asked_once = True
                        self._catch_up(id, served)
            case protocol.NewPlan():
                for served in self._served.values():
                    if served.is_for(message.plan):
                        served.keep(message.plan)
            case protocol.Welcome() | protocol.Open() | protocol.Close():
                pass  # for remote hands, which we are not
            case _:
                for id, served in tuple(self._served.items()):
                    if served.stream == message.stream:
                        self._obey(id, served, message)

    def _obey(
        self,
        session: str,
        served: Served,
        message: protocol.Placement | protocol.Release | protocol.Rescue | protocol.Over,
    ) -> None:
        match message:
            case protocol.Placement():
                told = PlacementTold(
                    session=session,
                    epoch=message.epoch,
                    provider=message.provider,
                    because=message.because,
                    is_own=message.is_own,
                )
                delay_s = message.delay_s if self._has_media(session) else 0.0
                served.place(told, delay_s, self._post)
                if served.named_epoch():
                    self._catch_up(session, served, delay_s + self._rng.uniform(0.0, RENEW_S_MAX))
            case protocol.Release():
                self._post(LegsReleased(session=session, epoch=message.epoch))
            case protocol.Rescue():
                self._post(
                    RescueTold(
                        session=session,
                        provider=message.provider or None,
                        because=message.because,
                    )
                )
            case protocol.Over() if served.role is Role.PUBLISHER:
                state = self._look(session)
                obeyed = state.follower.epoch if state and state.follower else 0
                if not message.epoch or obeyed <= message.epoch:
                    self._post(EndRequested(session=session, because=message.because))
            case protocol.Over() if not message.epoch or self._has_seen(session):
                self._post(StreamOver(session=session, because=message.because))
            case protocol.Over():
                pass  # it waits for the next stream of this name

    def _has_media(self, session: str) -> bool:
        state = self._look(session)
        return state is not None and state.phase is Phase.ON_AIR

    def _has_seen(self, session: str) -> bool:
        """Whether a session was told where its stream is, or has been on air."""
        state = self._look(session)
        if state is None:
            return False
        was_on_air = state.phase not in (Phase.STARTING, Phase.WAITING)
        return was_on_air or bool(state.follower and state.follower.epoch)

    def _say(self, name: str, because: str) -> None:
        self._tell(Announce(name=name, because=because))
