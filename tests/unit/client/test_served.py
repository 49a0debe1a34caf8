"""hitless.client.served"""

import asyncio

import pytest

from hitless.client import protocol
from hitless.client.served import Served
from hitless.core.agreement import Follower
from hitless.core.events import PlacementTold, Role
from hitless.providers.credential import Access


def served(role=Role.PUBLISHER, **credentials):
    plan = protocol.Plan(
        stream="show",
        role=role.value,
        epoch=2,
        provider="agora",
        order=tuple(credentials),
        credentials=credentials,
        credential_s=60.0,
        outage_s=600.0,
        token="",
        because="",
    )
    return Served("show", role, plan=plan)


def placed(epoch, provider="agora"):
    return Follower(client="c", role=Role.PUBLISHER, stream="show", epoch=epoch, provider=provider)


def access(provider, role):
    return Access(provider=provider, stream="show", role=role)


@pytest.mark.parametrize(
    ("provider", "named", "epoch", "is_stale"),
    [
        ("agora", 2, 2, False),
        ("agora", 2, 3, True),
        ("zegocloud", 3, 2, False),
        ("zegocloud", 3, 3, True),
        ("zegocloud", 3, 0, False),
    ],
)
def test_a_leg_on_air_has_the_epoch_in_its_name_and_the_next_one_the_next(
    provider, named, epoch, is_stale
):
    one = served(**{provider: {"epoch": named}})

    assert one.named_epoch()
    assert one.is_stale(provider, placed(epoch)) is is_stale


def test_names_without_an_epoch_never_grow_old():
    one = served(agora={"token": "t"})

    assert not one.named_epoch()
    assert not one.is_stale("agora", placed(7))
    assert not one.is_stale("nobody", placed(7))
    assert not one.is_stale("agora", None)


def test_a_publisher_views_its_own_stream_with_what_is_meant_for_that():
    own = {"token": "p", "uid": 1, "view_token": "v", "view_uid": 70_000}
    publisher, viewer = served(agora=own), served(Role.VIEWER, agora={"token": "v"})

    assert publisher.credential(access("agora", Role.PUBLISHER)) == own
    assert publisher.credential(access("agora", Role.VIEWER))["token"] == "v"
    assert publisher.credential(access("agora", Role.VIEWER))["uid"] == 70_000
    assert viewer.credential(access("agora", Role.VIEWER)) == {"token": "v"}
    assert publisher.credential(access("nobody", Role.VIEWER)) == {}
    assert Served("show", Role.VIEWER).credential(access("agora", Role.VIEWER)) == {}


def test_a_newer_placement_replaces_the_one_that_waits():
    said = []

    async def main():
        one = served()
        for epoch, delay_s in ((3, 30.0), (4, 0.05), (3, 0.0)):
            told = PlacementTold(session="s", epoch=epoch, provider="agora", because="")
            one.place(told, delay_s, said.append)
        await asyncio.sleep(0.2)
        one.go(said.append)

    asyncio.run(main())

    assert [told.epoch for told in said] == [4]
