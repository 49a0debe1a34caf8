"""
What a store that has lost something is corrected by: what its clients show.

A database restored from an older copy knows an older placement than clients have obeyed. No client
goes back to it, so the row must go past them (`core/agreement.returned`).
"""

from __future__ import annotations

from ..client import protocol
from ..core import agreement
from ..core.events import Role
from .plans import PlanFacts
from .store_streams import Claim, StreamRow


def wish(
    client: str, seen: protocol.Seen, facts: PlanFacts | None, row: StreamRow, node: str
) -> Claim | None:
    """
    Return the claim that takes a row past what a client has obeyed; None: it is not behind.

    Args:
        client: Who says hello.
        seen: What it says of the stream.
        facts: What it shows of it with our signature; None: nothing.
        row: What the store knows.
        node: Ours.
    """
    shown = agreement.Shown(
        client=client,
        role=Role(seen.role),
        epoch=seen.epoch,
        here=seen.provider,
        signed_epoch=facts.epoch if facts else 0,
        signed_provider=facts.provider if facts else "",
    )
    known = agreement.Row(
        epoch=row.epoch,
        provider=row.provider,
        publisher=row.publisher,
        by=row.by,
        is_carried=row.is_carried,
    )
    claim = agreement.returned(known, shown)
    if claim is None:
        return None
    return Claim(
        stream=row.id,
        base_epoch=claim.base_epoch,
        provider=claim.provider,
        by=claim.by,
        because=claim.because,
        presented_epoch=claim.presented_epoch,
        publisher=claim.publisher,
        node=node,
    )
