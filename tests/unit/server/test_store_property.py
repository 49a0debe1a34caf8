"""The store against `hitless.core.agreement`: the same acts, the same rows, on both engines"""

import asyncio
import itertools
from dataclasses import replace

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hitless.core import agreement
from hitless.core.agreement import By, Row
from hitless.server.store import Store
from hitless.server.store_streams import Claim, Start, StreamState


pytest_plugins = ("postgres_server",)

STREAMS = ("s0", "s1")
CLIENTS = ("ann", "bob")
PROVIDERS = ("agora", "webrtc", "zegocloud")
PRESENTED = st.one_of(st.just(0), st.integers(0, 7))
BEHIND = st.sampled_from((0, 0, 0, 1, 2, -1))
"""How far behind the row an act is that was based on it."""


def seen(row):
    """Return a row of the store as the agreement knows it; None: there is none."""
    if row is None:
        return None
    return Row(
        epoch=row.epoch,
        provider=row.provider,
        publisher=row.publisher,
        by=row.by,
        is_carried=row.is_carried,
        is_over=row.state is StreamState.ENDED,
    )


def without_author(row):
    """Return what there is to agree on: who wrote an end is none of it."""
    return row and replace(row, by="")


wishes = st.fixed_dictionaries(
    {
        "behind": BEHIND,
        "provider": st.sampled_from(PROVIDERS),
        "publisher": st.sampled_from((*CLIENTS, None)),
        "presented_epoch": PRESENTED,
        "is_carried": st.booleans(),
    }
)


class Acts(RuleBasedStateMachine):
    """Acts on two streams through two nodes, done to the store and to the rules."""

    stores: tuple[Store, Store]
    runner: asyncio.Runner
    runs = itertools.count()
    met: set[str]

    def __init__(self):
        super().__init__()
        self.prefix = f"run{next(self.runs)}-"  # one database serves all runs
        self.rows = {}
        self.epochs = {}

    def note(self, stream, after):
        """Remember a row; each epoch stands for one placement."""
        self.rows[stream] = after
        if after is not None:
            placement = (after.provider, after.publisher)
            known = self.epochs.setdefault((stream, after.epoch), placement)
            assert known == placement, f"two placements at epoch {after.epoch}"

    def claims(self, stream, behind, **wish):
        """Return one claim as the rules know it, and as the store does."""
        was = self.rows.get(stream)
        base = max(0, (was.epoch if was else 0) - behind)
        by = By.PUBLISHER if wish["publisher"] else By.OPERATOR
        ours = agreement.Claim(base_epoch=base, by=by, because="b", **wish)
        theirs = Claim(
            stream=self.prefix + stream, base_epoch=base, by=by, because="b", node="n", **wish
        )
        return ours, theirs

    @rule(
        node=st.integers(0, 1),
        stream=st.sampled_from(STREAMS),
        publisher=st.sampled_from(CLIENTS),
        provider=st.sampled_from(PROVIDERS),
        presented=PRESENTED,
    )
    def start(self, node, stream, publisher, provider, presented):
        said = Start(
            stream=self.prefix + stream,
            group="g",
            publisher=publisher,
            provider=provider,
            node="n",
            because="b",
            presented_epoch=presented,
        )
        row = self.runner.run(self.stores[node].streams.start(said))
        self.note(stream, agreement.started(self.rows.get(stream), publisher, provider, presented))
        assert without_author(seen(row)) == without_author(self.rows[stream])

    @rule(node=st.integers(0, 1), stream=st.sampled_from(STREAMS), wish=wishes)
    def claim(self, node, stream, wish):
        ours, theirs = self.claims(stream, **wish)
        row, is_so = self.runner.run(self.stores[node].streams.claim(theirs))
        after, expected = agreement.claimed(self.rows.get(stream), ours)
        self.note(stream, after)
        assert (without_author(seen(row)), is_so) == (without_author(after), expected)
        self.met.add("accepted" if is_so else "refused")

    @rule(stream=st.sampled_from(STREAMS), one=wishes, other=wishes)
    def claim_twice_at_once(self, stream, one, other):
        """Both nodes write to a known stream at once: as if one had come after the other."""
        if self.rows.get(stream) is None:
            return
        (a, theirs_a), (b, theirs_b) = self.claims(stream, **one), self.claims(stream, **other)

        async def both():
            return await asyncio.gather(
                self.stores[0].streams.claim(theirs_a), self.stores[1].streams.claim(theirs_b)
            )

        got_a, got_b = self.runner.run(both())
        was, stays = self.rows.get(stream), self.runner.run(self.read(stream))
        orders = {}
        for first, second in ((a, b), (b, a)):
            between, first_is_so = agreement.claimed(was, first)
            after, second_is_so = agreement.claimed(between, second)
            answers = [(first_is_so, second_is_so)]
            if between == was:  # refused, it looks at the row again: the other may have been there
                answers.append((agreement.claimed(after, first)[1], second_is_so))
            for is_so in answers:
                said = is_so if first is a else is_so[::-1]
                orders[without_author(after), *said] = between, after
        found = orders.get((without_author(seen(stays)), got_a[1], got_b[1]))
        assert found is not None, (got_a, got_b, orders)
        for row in found:
            self.note(stream, row)

    @rule(
        stream=st.sampled_from(STREAMS),
        behind=BEHIND,
        provider=st.sampled_from(PROVIDERS),
    )
    def confirm(self, stream, behind, provider):
        was = self.rows.get(stream)
        epoch = (was.epoch if was else 1) - behind
        said = self.stores[0].streams.confirm(self.prefix + stream, epoch, provider)
        row = self.runner.run(said)
        is_right = bool(was) and not was.is_over and (was.epoch, was.provider) == (epoch, provider)
        assert (row is not None) == is_right
        if is_right:
            self.rows[stream] = replace(was, is_carried=True)

    @rule(stream=st.sampled_from(STREAMS), publisher=st.sampled_from((*CLIENTS, None)))
    def end(self, stream, publisher):
        was = self.rows.get(stream)
        said = self.stores[1].streams.end(
            self.prefix + stream, publisher=publisher, by="x", because="y"
        )
        is_right = bool(was) and not was.is_over and publisher in (None, was.publisher)
        assert (self.runner.run(said) is not None) == is_right
        if is_right:
            self.rows[stream] = replace(was, is_over=True, is_carried=False)

    async def read(self, stream):
        """Read a row through the other node."""
        return await self.stores[1].streams.one(self.prefix + stream)

    @invariant()
    def the_rows_are_what_was_agreed_on(self):
        for stream, expected in self.rows.items():
            row = seen(self.runner.run(self.read(stream)))
            assert without_author(row) == without_author(expected)


def test_the_store_does_what_was_agreed_on(engine):
    """
    Two nodes on one database, one after the other and at the same moment.
    """
    bounds = settings(
        max_examples=30,
        stateful_step_count=20,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),  # to make the story of a failure shorter takes minutes here
    )

    async def opened(url):
        return await engine.open(url)

    with asyncio.Runner() as runner:
        url = runner.run(engine.empty_url())
        databases = [runner.run(opened(url)) for _ in range(2)]
        Acts.stores, Acts.runner, Acts.met = tuple(map(Store, databases)), runner, set()
        try:
            run_state_machine_as_test(Acts, settings=bounds)
        finally:
            for database in databases:
                runner.run(database.aclose())
    assert Acts.met == {"accepted", "refused"}
