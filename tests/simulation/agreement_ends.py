"""What the schedules of `agreement_world.py` are played with: a store, nodes and clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hitless.core.agreement import Follower, Row


Act = Callable[[], tuple[Row | None, bool]]
"""What a node does in the store: returns the row then, and whether it is as the asker wished."""


@dataclass
class Odds:
    """How much goes wrong: chances of one message [0..1]."""

    lost: float
    doubled: float
    late: float


@dataclass
class Store:
    """
    The database: one row, and its clock.

    Attributes:
        row: The row; None: there is none.
        changed_s: When it changed, by its own clock [s].
        jump_s: How far its clock is from the real one [s].
        copies: Backups of the row, none from before the last takeover.
        placements: What stood at each epoch since it was last lost.
    """

    row: Row | None = None
    changed_s: float = 0.0
    jump_s: float = 0.0
    copies: list[Row | None] = field(default_factory=lambda: [None])
    placements: dict[int, tuple[str, str]] = field(default_factory=dict)


@dataclass
class Node:
    """
    One server.

    Attributes:
        name: Its name.
        life: Counts its restarts: what an earlier life began is never ended.
        is_up: Whether it runs.
        is_cut_off: Whether it cannot reach the store.
        here: Who is connected to it.
        announced: The newest epoch that it told.
        since_s: It has read what changed until then, by the store's clock [s].
    """

    name: str
    life: int = 0
    is_up: bool = True
    is_cut_off: bool = False
    here: set[str] = field(default_factory=set)
    announced: int = 0
    since_s: float = 0.0


@dataclass
class Client:
    """
    One client.

    Attributes:
        follower: What it knows.
        node: Where it is connected; None: nowhere.
        is_awake: Whether it runs; while it does not, what it is told waits.
        is_there: Whether it has come yet.
        waiting: What it was told while it slept.
        starts: How often it asked for a start.
        has_finished: Whether a node has heard that its session is over.
    """

    follower: Follower
    node: Node | None = None
    is_awake: bool = True
    is_there: bool = True
    waiting: list[tuple[Row, bool]] = field(default_factory=list)
    starts: int = 0
    has_finished: bool = False
