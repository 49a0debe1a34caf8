"""Which of Agora's hosts is asked when, and where streams are pushed to."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from virtual_time import run
from yarl import URL

from hitless.errors import ConfigError, ContractBroken, Retry, Unreachable
from hitless.providers.agora_hosts import Hosts, hosts_of, in_order, ingest_hosts
from hitless.providers.rest import Reply


HOSTS = hosts_of("eu")


def answer(status: int) -> Reply:
    """An answer of which only the status matters."""
    return Reply(status=status, body=b"", request_id="", retry_after_s=None)


def network() -> Unreachable:
    """A failure of the network."""
    return Unreachable("Connection timeout", provider="agora")


def name() -> Unreachable:
    """A name that was not found, as `Calls.send` says it."""
    key = ConnectionKey("api.agora.io", 443, True, True, None, None, None)
    exc = Unreachable("host name not found", provider="agora")
    exc.__cause__ = aiohttp.ClientConnectorDNSError(key, socket.gaierror("not known"))
    return exc


def asked(
    *outcomes: Reply | Unreachable, deadline: float = 60.0, once: bool = False
) -> tuple[list[tuple[float, str]], Reply | Unreachable, int]:
    """Return when which host was asked, what came of it, and how many attempts were counted."""
    left, log = list(outcomes), []

    async def attempt(origin: URL) -> Reply:
        log.append((asyncio.get_running_loop().time(), str(origin)))
        outcome = left.pop(0)
        if isinstance(outcome, Unreachable):
            raise outcome
        return outcome

    async def main() -> tuple[Reply | Unreachable, int]:
        more = {"back_off_s": ()} if once else {}
        try:
            return await in_order(HOSTS, attempt, deadline=deadline, **more)
        except Unreachable as exc:
            return exc, len(log)

    end, tries = run(main())
    return log, end, tries


def test_a_sick_service_is_asked_for_at_each_host_in_the_documented_order() -> None:
    """Primary, primary, alternate, adjacent; after 1, 3 and 6 s."""
    log, end, tries = asked(*[answer(500)] * 4)
    assert log == [
        (0.0, "https://api.agora.io"),
        (1.0, "https://api.agora.io"),
        (4.0, "https://api.sd-rtn.com"),
        (10.0, "https://api-eu-west-1.agora.io"),
    ]
    assert isinstance(end, Reply)
    assert end.status == 500
    assert tries == 4


def test_the_alternate_domain_is_left_out_after_a_failure_of_the_network() -> None:
    """It leads to the same machines: straight to the neighbours."""
    log, end, _ = asked(*[network() for _ in range(3)])
    assert log == [
        (0.0, "https://api.agora.io"),
        (1.0, "https://api.agora.io"),
        (4.0, "https://api-eu-west-1.agora.io"),
    ]
    assert isinstance(end, Unreachable)
    assert end.retry is Retry.NEXT


def test_a_name_that_is_not_found_goes_to_the_alternate_domain() -> None:
    """And to the neighbours under the domain that was not the broken one."""
    log, _, _ = asked(*[name() for _ in range(2)], answer(503), answer(200))
    assert [origin for _, origin in log] == [
        "https://api.agora.io",
        "https://api.agora.io",
        "https://api.sd-rtn.com",
        "https://api-eu-west-1.sd-rtn.com",
    ]


def test_one_network_failure_is_enough_to_leave_the_alternate_out() -> None:
    """Whatever failed after it."""
    log, _, _ = asked(network(), answer(500), answer(200))
    assert [origin for _, origin in log] == [
        "https://api.agora.io",
        "https://api.agora.io",
        "https://api-eu-west-1.agora.io",
    ]


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 415, 429])
def test_an_answer_ends_the_search(status: int) -> None:
    """Another host would say the same; and a limit is the account's, not the host's."""
    log, end, tries = asked(answer(status))
    assert len(log) == 1
    assert isinstance(end, Reply)
    assert end.status == status
    assert tries == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_answer_after_a_failure_is_taken(status: int) -> None:
    """The second attempt works."""
    log, end, tries = asked(answer(status), answer(200))
    assert isinstance(end, Reply)
    assert end.status == 200
    assert tries == 2
    assert log[-1][0] == 1.0


def test_no_pause_is_begun_that_ends_after_the_deadline() -> None:
    """The failure is known at once instead."""
    log, end, _ = asked(*[network() for _ in range(3)], deadline=3.5)
    assert [at for at, _ in log] == [0.0, 1.0]
    assert isinstance(end, Unreachable)


def test_one_attempt_keeps_its_own_advice() -> None:
    """For a caller that has a retry loop of its own."""
    log, end, _ = asked(network(), once=True)
    assert len(log) == 1
    assert isinstance(end, Unreachable)
    assert end.retry is Retry.SAME


def test_other_errors_are_not_retried() -> None:
    """A broken contract does not mend."""
    log = []

    async def attempt(origin: URL) -> Reply:
        log.append(origin)
        raise ContractBroken("nonsense", provider="agora")

    async def main() -> None:
        with pytest.raises(ContractBroken):
            await in_order(HOSTS, attempt, deadline=60.0)

    run(main())
    assert len(log) == 1


@pytest.mark.parametrize(
    ("region", "primary", "alternate", "adjacent"),
    [
        ("na", "api.agora.io", "api.sd-rtn.com", "api-us-west-1.agora.io"),
        ("eu", "api.agora.io", "api.sd-rtn.com", "api-eu-west-1.agora.io"),
        ("ap", "api.agora.io", "api.sd-rtn.com", "api-ap-northeast-1.agora.io"),
        ("cn", "api.sd-rtn.com", "api.agora.io", "api-cn-north-1.sd-rtn.com"),
    ],
)
def test_each_region_has_its_hosts(
    region: str, primary: str, alternate: str, adjacent: str
) -> None:
    """In mainland China the domains are the other way round."""
    hosts = hosts_of(region)
    assert hosts.primary == f"https://{primary}"
    assert hosts.alternate == f"https://{alternate}"
    assert hosts.adjacent == f"https://{adjacent}"
    assert hosts.adjacent_alternate.split(".", 1)[0] == hosts.adjacent.split(".", 1)[0]
    assert hosts.adjacent_alternate.split(".", 1)[1] == alternate.split(".", 1)[1]


@pytest.mark.parametrize(
    ("region", "hosts"),
    [
        (
            "eu",
            (
                "rtls-ingress-prod-eu.agoramdn.com",
                "eu.rtmpg.rtelink.com",
                "eu-backup.rtmpg.rtelink.com",
            ),
        ),
        (
            "cn",
            (
                "rtls-ingress-prod-cn.agoramdn.com",
                "rtls-ingress-prod-backup-cn.agoramdn.com",
            ),
        ),
    ],
)
def test_streams_are_pushed_to_the_region_s_hosts(region: str, hosts: tuple[str, ...]) -> None:
    """And to its fallbacks in their order."""
    assert ingest_hosts(region) == hosts


@pytest.mark.parametrize("region", ["", "us", "EU", "eu-west-1"])
def test_a_region_that_is_none_is_named(region: str) -> None:
    """With those that there are."""
    with pytest.raises(ConfigError, match="na, eu, ap, cn"):
        hosts_of(region)
    with pytest.raises(ConfigError, match="na, eu, ap, cn"):
        ingest_hosts(region)


@pytest.mark.parametrize(
    "origin",
    [
        "http://api.agora.io",
        "https://user:secret@api.agora.io",
        "https://api.agora.io/path",
        "ftp://127.0.0.1",
        "api.agora.io",
        "",
        "http://[",
    ],
)
def test_a_host_that_would_show_the_credential_is_refused(origin: str) -> None:
    """Plain http is for stand-ins on loopback only; the message repeats nothing."""
    good = "http://127.0.0.1:8080"
    with pytest.raises(ConfigError, match=r"hosts\.alternate") as caught:
        Hosts(primary=good, alternate=origin, adjacent=good, adjacent_alternate=good)
    assert "secret" not in str(caught.value)
