"""hitless.server.groups: streams of one group go where the one that moved is, not where it was"""

import asyncio

import pytest
from unit.server.api import Api

from hitless.core.agreement import By
from hitless.server.groups import bring_along
from hitless.server.keys import KeyRole


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)


@pytest.fixture
def api(tmp_path):
    with Api(tmp_path / "hitless.db") as api:
        yield api


async def started(api, *streams, group="hosts"):
    """Start streams of one group, each by its own client."""
    for stream in streams:
        body = {"stream": stream, "client": f"of {stream}", "group": group}
        answer = await api.ask("POST", "/v1/start", body, key=KeyRole.CLIENT)
        assert answer.status_code == 200, answer.text


async def alone(api, stream, provider):
    """Move a stream as an operator does, and leave bringing the others along to the test."""
    return await api.node.coordinator.move(
        stream, provider, by=By.OPERATOR, because="a test", is_alone=True
    )


async def where(api):
    """Return where every stream is placed."""
    return {row.id: (row.epoch, row.provider) for row in await api.node.store.streams.page()}


def test_who_starts_later_starts_where_its_group_is(api):
    """
    Not at the first choice, which the group has left; another group is not followed.
    """

    async def main():
        await started(api, "show")
        await alone(api, "show", "two")
        await started(api, "guest")
        await started(api, "other", group="another")
        return await where(api)

    assert api.run(main()) == {"show": (2, "two"), "guest": (1, "two"), "other": (1, "one")}


def test_a_group_is_not_followed_to_where_nothing_comes_through(api):
    """
    It will be moved from there; who starts meanwhile goes to one that does well.
    """

    async def main():
        await started(api, "show")
        await alone(api, "show", "two")
        api.node.judge.allow("two", False, "a test says so")
        await started(api, "guest")
        return await where(api)

    assert api.run(main())["guest"] == (1, "one")


def test_one_that_moved_on_is_not_taken_back_to_where_it_was(api):
    """
    It was moved again before the others were looked for, as by another node.
    """

    async def main():
        await started(api, "show")
        row = await alone(api, "show", "two")
        await alone(api, "show", "one")
        await bring_along(row, api.node.store, api.node.coordinator)
        return await where(api)

    assert api.run(main()) == {"show": (3, "one")}


def test_the_others_end_where_the_one_is_that_moved_on_while_they_followed(api, monkeypatch):
    """
    They are taken where it was, and then after it.
    """
    coordinator = api.node.coordinator
    move = coordinator.move

    async def main():
        await started(api, "guest", "show")
        row = await alone(api, "show", "two")

        async def overtaken(stream, provider, **more):
            monkeypatch.setattr(coordinator, "move", move)
            await alone(api, "show", "one")
            return await move(stream, provider, **more)

        monkeypatch.setattr(coordinator, "move", overtaken)
        await bring_along(row, api.node.store, coordinator)
        return await where(api)

    assert api.run(main()) == {"guest": (3, "one"), "show": (3, "one")}


def test_of_two_that_part_at_once_the_first_leads_also_where_each_brings_the_other(api):
    """
    Both end at one provider, whoever is heard first.
    """

    async def main():
        await started(api, "guest", "show", "third")
        rows = [await alone(api, stream, "two") for stream in ("guest", "show")]
        rows[1] = await alone(api, "show", "one")
        brought = [bring_along(row, api.node.store, api.node.coordinator) for row in rows]
        await asyncio.gather(*brought)
        return {provider for _, provider in (await where(api)).values()}

    assert api.run(main()) == {"two"}
