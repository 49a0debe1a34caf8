"""hitless.server.store: any sequence of acts on streams, against a model, on both engines"""

import asyncio
import itertools
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hitless.server.store import Store
from hitless.server.store_streams import Claim, Start, StreamState


pytest_plugins = ("postgres_server",)


def start(publisher="pub", provider="agora", **more):
    """Say that a stream is started."""
    said = {"stream": "show", "group": "show", "node": "n1", "because": "it began", **more}
    return Start(publisher=publisher, provider=provider, **said)


def claim(base_epoch, provider="webrtc", **more):
    """Say that a placement is claimed."""
    said = {"stream": "show", "by": "server", "because": "it is better", **more}
    return Claim(base_epoch=base_epoch, provider=provider, **said)


STREAMS = ("s0", "s1")
CLIENTS = ("ann", "bob")
PROVIDERS = ("agora", "webrtc")
EPOCHS = st.integers(0, 6)


@dataclass(frozen=True)
class Modelled:
    """What the model remembers of a stream."""

    epoch: int
    provider: str
    publisher: str
    is_carried: bool = False
    is_over: bool = False

    @property
    def as_seen(self):
        return self.epoch, self.provider, self.publisher, self.is_carried, self.is_over


def model_of_start(was, publisher, provider, presented):
    """Return the row after a start."""
    is_own = was and not was.is_over and was.publisher == publisher
    if is_own and was.epoch >= presented:
        return was
    return Modelled(max(was.epoch if was else 0, presented) + 1, provider, publisher)


def model_of_claim(was, base, provider, publisher, presented):
    """Return the row after a claim, and whether it is accepted."""
    if was is None:
        back = Modelled(max(base, presented) + 1, provider, publisher) if publisher else None
        return back, back is not None
    if was.is_over:
        return was, False
    is_carried = was.is_carried and was.provider == provider
    if presented > was.epoch:
        owner = publisher or was.publisher
        return Modelled(max(base, presented) + 1, provider, owner, is_carried), True
    is_allowed = publisher in (None, was.publisher)
    if (is_allowed and base == was.epoch) or (publisher == was.publisher and base > was.epoch):
        return Modelled(base + 1, provider, was.publisher, is_carried), True
    is_repeated = was.epoch in (base + 1, max(base, presented) + 1) and was.provider == provider
    return was, is_allowed and is_repeated


def seen(row):
    """Return of a row what the model knows too."""
    is_over = row.state is StreamState.ENDED
    return row.epoch, row.provider, row.publisher, row.is_carried, is_over


class Acts(RuleBasedStateMachine):
    """Random starts, claims, confirmations and ends, done to the store and to the model."""

    store: Store
    runner: asyncio.Runner
    runs = itertools.count()

    def __init__(self):
        super().__init__()
        self.prefix = f"run{next(self.runs)}-"  # one database serves all runs
        self.model = {}

    @rule(
        stream=st.sampled_from(STREAMS),
        publisher=st.sampled_from(CLIENTS),
        provider=st.sampled_from(PROVIDERS),
        presented=EPOCHS,
    )
    def start(self, stream, publisher, provider, presented):
        said = start(publisher, provider, stream=self.prefix + stream, presented_epoch=presented)
        row = self.runner.run(self.store.streams.start(said))
        after = model_of_start(self.model.get(stream), publisher, provider, presented)
        self.model[stream] = after
        assert seen(row) == after.as_seen

    @rule(
        stream=st.sampled_from(STREAMS),
        base=EPOCHS,
        is_newest=st.booleans(),
        provider=st.sampled_from(PROVIDERS),
        publisher=st.sampled_from((*CLIENTS, None)),
        presented=st.one_of(st.just(0), EPOCHS),
    )
    def claim(self, stream, base, is_newest, provider, publisher, presented):
        was = self.model.get(stream)
        base = was.epoch if was and is_newest else base
        said = claim(
            base,
            provider,
            stream=self.prefix + stream,
            publisher=publisher,
            presented_epoch=presented,
        )
        row, is_accepted = self.runner.run(self.store.streams.claim(said))
        after, expected = model_of_claim(was, base, provider, publisher, presented)
        if after is not None:
            self.model[stream] = after
        assert (row and seen(row)) == (after and after.as_seen)
        assert is_accepted == expected

    @rule(
        stream=st.sampled_from(STREAMS),
        back=st.integers(0, 1),
        provider=st.sampled_from(PROVIDERS),
    )
    def confirm(self, stream, back, provider):
        was = self.model.get(stream)
        epoch = was.epoch - back if was else 1
        said = self.store.streams.confirm(self.prefix + stream, epoch, provider)
        row = self.runner.run(said)
        is_right = was and not was.is_over and (was.epoch, was.provider) == (epoch, provider)
        assert (row is not None) == bool(is_right)
        if is_right:
            self.model[stream] = replace(was, is_carried=True)

    @rule(stream=st.sampled_from(STREAMS), publisher=st.sampled_from((*CLIENTS, None)))
    def end(self, stream, publisher):
        was = self.model.get(stream)
        row = self.runner.run(
            self.store.streams.end(self.prefix + stream, publisher=publisher, by="x", because="y")
        )
        is_right = was and not was.is_over and publisher in (None, was.publisher)
        assert (row is not None) == bool(is_right)
        if is_right:
            self.model[stream] = replace(was, is_over=True, is_carried=False)

    @invariant()
    def the_rows_are_as_modelled(self):
        for stream, expected in self.model.items():
            row = self.runner.run(self.store.streams.one(self.prefix + stream))
            assert seen(row) == expected.as_seen


def test_any_sequence_of_acts_on_streams_ends_as_the_model_says(engine):
    """
    One pure model of a few lines, two engines.
    """
    bounds = settings(
        max_examples=25, stateful_step_count=16, derandomize=True, database=None, deadline=None
    )

    async def opened():
        return await engine.open(await engine.empty_url())

    with asyncio.Runner() as runner:
        database = runner.run(opened())
        Acts.store, Acts.runner = Store(database), runner
        try:
            run_state_machine_as_test(Acts, settings=bounds)
        finally:
            runner.run(database.aclose())
