"""hitless.server.store_members, on both engines"""

from unit.server.stored_streams import go, start, stored, viewer

from hitless.server.database import Sql
from hitless.server.store_members import SEEN_MAX, Role, Seen


pytest_plugins = ("postgres_server",)


def test_a_member_that_joins_again_keeps_what_it_had_and_renews_the_rest(engine):
    """
    It reconnects to another node, perhaps with an older memory.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            await store.members.join(viewer("v", adapters=("agora", "whip"), epoch_seen=5))
            await engine.set_clock(store.database, 1001.0)
            again = await store.members.join(
                viewer("v", node="n2", codecs=("vp8",), epoch_seen=4, provider=None)
            )
            return again, await store.members.of_stream("show")

    again, found = go(main())
    assert again == viewer(
        "v", node="n2", codecs=("vp8",), epoch_seen=5, joined_s=1000.0, seen_s=1001.0
    )
    assert found == [again]


def test_what_a_streams_viewers_can_open_is_counted_where_they_are(engine):
    """
    By what they declared, those that declared nothing, too; nobody else's, and no publisher.
    """

    async def main():
        async with stored(engine) as store:
            members = store.members
            said = [("agora",), ("agora",), (), ("whip", "agora"), ("agora",)]
            for number, adapters in enumerate(said):
                codecs = ("VP8", "opus") if number == 4 else ()
                await members.join(viewer(f"v{number}", adapters=adapters, codecs=codecs))
            await members.join(viewer("other", stream="another", adapters=("agora",)))
            await members.join(viewer("p", role=Role.PUBLISHER, adapters=("agora",)))
            found = await members.reach_of("show", Role.VIEWER)
            return found, await members.reach_of("none", Role.VIEWER)

    found, nobody = go(main())
    assert {(one.adapters, one.codecs): one.members for one in found} == {
        (("agora",), ()): 2,
        ((), ()): 1,
        (("whip", "agora"), ()): 1,
        (("agora",), ("VP8", "opus")): 1,
    }
    assert {(one.stream, one.role) for one in found} == {("show", Role.VIEWER)}
    assert nobody == []


def test_only_streams_where_something_is_limited_are_counted_for_a_provider(engine):
    """
    By adapters or by codecs; all members of these, but no publisher that was replaced.
    """

    async def main():
        async with stored(engine) as store:
            for name in ("free", "adapters", "codecs", "elsewhere", "replaced"):
                provider = "webrtc" if name == "elsewhere" else "agora"
                await store.streams.start(start(stream=name, group=name, provider=provider))
                await store.members.join(viewer("pub", stream=name, role=Role.PUBLISHER))
                for client in ("v0", "v1"):
                    await store.members.join(viewer(client, stream=name))
            for name, more in (
                ("adapters", {"adapters": ("whip",)}),
                ("codecs", {"codecs": ("VP8",)}),
                ("elsewhere", {"codecs": ("VP8",)}),
            ):
                await store.members.join(viewer("v2", stream=name, **more))
            gone = viewer("older", stream="replaced", role=Role.PUBLISHER, codecs=("H264",))
            await store.members.join(gone)
            found = await store.members.reach("agora")
            return {(one.stream, one.role, one.adapters, one.codecs): one.members for one in found}

    assert go(main()) == {
        ("adapters", Role.PUBLISHER, (), ()): 1,
        ("adapters", Role.VIEWER, (), ()): 2,
        ("adapters", Role.VIEWER, ("whip",), ()): 1,
        ("codecs", Role.PUBLISHER, (), ()): 1,
        ("codecs", Role.VIEWER, (), ()): 2,
        ("codecs", Role.VIEWER, (), ("VP8",)): 1,
        ("replaced", Role.PUBLISHER, (), ()): 1,
        ("replaced", Role.VIEWER, (), ()): 2,
    }


def test_members_are_found_by_stream_and_by_node_until_they_leave(engine):
    """
    Leaving twice is leaving once.
    """

    async def main():
        async with stored(engine) as store:
            members = store.members
            for stream, client, node in ("axn", "aym", "bxn"):
                await members.join(viewer(client, stream=stream, node=node))
            found = [await members.of_stream("a"), await members.of_node("n")]
            one = await members.one("a", "x")
            left = [await members.leave("a", "x"), await members.leave("a", "x")]
            found += [await members.of_stream("a"), await members.of_node("n")]
            assert (one, await members.one("a", "x")) == (found[0][0], None)
            return [[(m.stream, m.client) for m in some] for some in found], left

    found, left = go(main())
    assert found[:2] == [[("a", "x"), ("a", "y")], [("a", "x"), ("b", "x")]]
    assert found[2:] == [[("a", "y")], [("b", "x")]]
    assert left == [True, False]


def test_signs_of_life_are_noted_and_never_go_back(engine):
    """
    Late, doubled and unknown ones included; one that names no provider leaves it as it was.
    """

    async def main():
        async with stored(engine) as store:
            await engine.set_clock(store.database, 1000.0)
            for client in "abcd":
                await store.members.join(viewer(client, epoch_seen=5))
            await engine.set_clock(store.database, 1001.0)
            await store.members.seen(
                [
                    Seen("show", "a", 6, "webrtc"),
                    Seen("show", "b", 4, ""),
                    Seen("show", "c", 7, "webrtc"),
                    Seen("show", "c", 6, "agora"),
                    Seen("show", "nobody", 6, "webrtc"),
                    Seen("other", "d", 9, "webrtc"),
                ]
            )
            await store.members.seen([])
            return await store.members.of_stream("show")

    found = go(main())
    assert [(m.client, m.epoch_seen, m.provider, m.seen_s) for m in found] == [
        ("a", 6, "webrtc", 1001.0),
        ("b", 5, "agora", 1001.0),
        ("c", 7, "webrtc", 1001.0),
        ("d", 5, "agora", 1000.0),
    ]


def test_thousands_of_signs_of_life_are_one_write(engine):
    """
    More than one statement takes, all in one transaction.
    """
    count = 2 * SEEN_MAX + 100

    async def main():
        async with stored(engine) as store:
            names = [f"v{n:05}" for n in range(count)]
            rows = ", ".join(
                f"('show', '{name}', 'viewer', 'n', '[]', '[]', 1, NULL, 0, 0)" for name in names
            )
            await store.database.write(Sql(f"INSERT INTO members VALUES {rows}"))
            await store.members.seen([Seen("show", name, 3, "agora") for name in names])
            return await store.database.read(
                "SELECT count(*) AS n FROM members WHERE epoch_seen = 3 AND provider = 'agora'"
            )

    assert go(main()) == [{"n": count}]


def test_silent_members_are_forgotten_in_lots(engine, monkeypatch):
    """
    However many there are, one call takes a bounded time.
    """
    monkeypatch.setattr("hitless.server.store_members.FORGET_MAX", 2)

    async def main():
        async with stored(engine) as store:
            for n in range(5):
                await engine.set_clock(store.database, 1000.0 + 10 * n)
                await store.members.join(viewer(f"v{n}"))
            await engine.set_clock(store.database, 1050.0)
            counts = [await store.members.forget(25.0) for _ in range(3)]
            return counts, [m.client for m in await store.members.of_stream("show")]

    assert go(main()) == ([2, 1, 0], ["v3", "v4"])
