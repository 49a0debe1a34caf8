"""A node as `Signals` sees it, with webhooks that only take note."""

import asyncio
from types import SimpleNamespace

from virtual_time import run

from hitless.core.evidence import Verdict, Word
from hitless.server.alerts import Alerts, Signals
from hitless.server.database import StoreUnavailable
from hitless.server.store_operators import ProviderRow
from hitless.server.store_streams import ProviderCount, StreamRow, StreamState


class Hooks:
    """Takes what would be put on its way."""

    def __init__(self):
        self.alerts, self.legs, self.wants_legs = [], [], True

    async def alert(self, message):
        self.alerts.append((str(message.state), message.kind, message.streams))

    async def leg(self, note):
        self.legs.append((str(note.what), note.provider, note.channel, note.epoch))


class Standing:
    """A node as `Signals` sees it."""

    def __init__(self, *providers):
        self.words = dict.fromkeys(providers, Word.HEALTHY)
        rows = {name: ProviderRow(name=name, adapter="whip") for name in providers}
        self.providers = SimpleNamespace(rows=rows)
        self.judge = self
        self.settings = SimpleNamespace(is_frozen=False)
        self.store = SimpleNamespace(streams=self)
        self.is_leader, self.store_lost_because = True, ""
        self.loop = asyncio.get_running_loop()
        self.hooks = Hooks()
        self.signals = Signals(self, self.hooks, Alerts("n1", "n1-x"))

    def verdict(self, name):
        return Verdict(word=self.words[name])

    async def counts(self):
        if self.store_lost_because:
            raise StoreUnavailable(self.store_lost_because)
        return [ProviderCount(provider="agora", streams=7, carried=7, viewers=9)]

    def say(self, word, provider="agora"):
        """Tell of a verdict."""
        fields = {"provider": provider, "verdict": word, "because": "HTTP 503"}
        self.signals.heard("verdict.changed", fields)


def stream(id="s1", provider="agora", epoch=1, is_carried=True, state=StreamState.LIVE):
    """Return a row."""
    return StreamRow(
        id=id,
        group_id=id,
        state=state,
        epoch=epoch,
        provider=provider,
        is_carried=is_carried,
        publisher="c",
        node="n1",
        because="",
        by="server",
        started_s=0.0,
        changed_s=0.0,
        rescue_provider=None,
        rescue_until_s=None,
    )


def at_node(play, *providers):
    """Run a play at a node of these providers."""

    async def main():
        node = Standing(*(providers or ("agora", "zego")))
        running = asyncio.create_task(node.signals.run())
        await play(node)
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return node

    return run(main())
