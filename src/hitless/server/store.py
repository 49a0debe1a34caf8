"""
Everything the server remembers, by subject; all its SQL is in the `store_` modules.

A change takes an `Audit` entry and a topic to wake other nodes with: both land in the change's
own transaction, or not at all. Times are the database's clock [s since 1970], never a node's.
"""

from __future__ import annotations

from .database import Database
from .store_members import Members
from .store_nodes import Leases, Nodes, Outbox, Series
from .store_operators import AuditLog, FleetMoves, Keys, Providers, Settings
from .store_streams import Streams


class Store:
    """
    The server's memory. Whoever opened the database closes it.

    Args:
        database: From `open_database`.

    Attributes:
        database: The same.
        settings: What operators set while the server runs.
        providers: Who may carry streams.
        streams: Placements.
        members: Who sends and who watches.
        keys: Who may ask.
        audit: What was done, and why.
        nodes: Which nodes are alive.
        leases: Who decides alone.
        fleet_moves: Orders for many streams at once.
        series: What was measured, by minute and hour.
        outbox: Alerts to deliver.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.settings = Settings(database)
        self.providers = Providers(database)
        self.streams = Streams(database)
        self.members = Members(database)
        self.keys = Keys(database)
        self.audit = AuditLog(database)
        self.nodes = Nodes(database)
        self.leases = Leases(database)
        self.fleet_moves = FleetMoves(database)
        self.series = Series(database)
        self.outbox = Outbox(database)

    async def now_s(self) -> float:
        """Return the time by the database's clock [s since 1970]."""
        rows = await self.database.read("SELECT now_s() AS now_s")
        return float(rows[0]["now_s"] or 0.0)
