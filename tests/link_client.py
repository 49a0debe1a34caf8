"""Our end of a link, for tests: what it heard, what it says, and how long it may wait."""

import asyncio
import random

from hitless.client import protocol
from hitless.client.link import Ends, Link


WELCOME = {"type": "welcome", "node": "n1"}


class Jitter(random.Random):
    """Always waits `share` of what it may, and keeps the limits that it was given [s]."""

    def __init__(self, share=0.0):
        super().__init__(1)
        self.share, self.limits_s = share, []

    def uniform(self, a, b):
        self.limits_s.append((a, b))
        return a + self.share * (b - a)


class Client:
    """Our end of a link: what it heard, and what it says when it is connected."""

    def __init__(
        self, url="http://server", *, http=None, jitter=None, says=(), timeout_s=1.0, hear=None
    ):
        self.heard, self.lost, self.welcomes, self.reports = asyncio.Queue(), [], [], []
        self.says = says
        self.jitter = jitter or Jitter()
        self.link = Link(
            url,
            headers={"Authorization": "Bearer s3cr3t"},
            http=http,
            timeout_s=timeout_s,
            rng=self.jitter,
            ends=Ends(
                hello=lambda: protocol.Hello(client="studio"),
                hear=hear or self.heard.put_nowait,
                connected=self._connected,
                lost=self.lost.append,
                report=lambda: self.reports.append(asyncio.get_running_loop().time()),
            ),
        )

    def _connected(self, welcome):
        self.welcomes.append(welcome.node)
        for stream in self.says:
            self.say(stream)

    def say(self, stream):
        self.link.send(protocol.Finish(stream=stream))
