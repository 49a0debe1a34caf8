"""An operator's desk: a real server, and commands as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from contextlib import contextmanager

from e2e.commands import HITLESS, clock, one_line
from e2e.serving import House


LIMIT_S = 30.0
POLL_S = 0.1

NOWHERE = "http://127.0.0.1:1/whip/{stream}"
"""Nobody listens there; nothing leaves this machine."""


class Desk:
    """
    An operator's desk: a server, and a terminal that knows where it is.

    Attributes:
        house: Where the server runs, and its keys.
        node: It.
    """

    def __init__(self, house):
        self.house, self.node = house, house.serve("hitless.db")

    def env(self, **more):
        """Return the environment of a command, with the owner's key unless another is given."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HITLESS_")}
        own = {
            "HITLESS_SERVER": self.node.url,
            "HITLESS_KEY": self.house.keys["HITLESS_OWNER_KEY"],
        }
        return {k: v for k, v in {**kept, **own, **more}.items() if v is not None}

    def run(self, *words, **env):
        """Run a command to its end; whatever it says, it says no key."""
        done = subprocess.run(
            [HITLESS, *words],
            env=self.env(**env),
            cwd=self.house.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        for key in self.house.keys.values():
            assert key not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def does(self, *words, **env):
        """Run a command that must succeed and return what it wrote."""
        done = self.run(*words, **env)
        assert 0 == done.returncode, (words, done.stdout, done.stderr)
        return done.stdout

    def reads(self, *words, **env):
        """Return what a command writes as JSON."""
        return json.loads(self.does(*words, "--json", **env))

    def refuses(self, status, *words, **env):
        """Return the one line of a command that fails with this status."""
        done = self.run(*words, **env)
        assert (status, "") == (done.returncode, done.stdout), done.stderr
        return one_line(done.stderr)

    def log(self, target):
        """Return what the audit log has on a target, the oldest first."""
        return [
            (one["what"], one["because"])
            for one in reversed(self.reads("audit", "--target", target))
        ]

    def add(self, *names):
        """Add providers that nobody probes."""
        for name in names:
            self.does(
                "providers", "add", name, "--adapter", "whip", "--url", NOWHERE,
                "--config", "probe=none",
            )  # fmt: skip

    def start(self, *streams):
        """Start streams, as clients do."""
        for stream in streams:
            assert asyncio.run(self.node.start(stream, f"pub-{stream}")).data["stream"] == stream

    def until_on(self, stream, provider):
        """Wait until a stream is on a provider."""
        until_s = clock() + LIMIT_S
        while (now := self.reads("streams", stream))["provider"] != provider:
            assert clock() < until_s, now
            time.sleep(POLL_S)


@contextmanager
def desk_in(folder):
    """Run a server in a folder."""
    house = House(folder)
    try:
        yield Desk(house)
    finally:
        house.close()
