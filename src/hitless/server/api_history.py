"""What was measured: for operators, the dashboard, and who pays."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Annotated, Final

from litestar import get
from litestar.params import Parameter

from .access import Call, allowed
from .api_page import KEYED, fails
from .clock import wall_s
from .coordinator import Rejected
from .keys import Permission
from .node import Node
from .store_nodes import Step
from .wire import Data, Judged, Moment, Usage


SINCE_S_MAX: Final = 400 * 86_400.0

Since = Annotated[
    float, Parameter(gt=0, le=SINCE_S_MAX, description="How far back, from now [s].")
]
Month = Annotated[
    str, Parameter(pattern=r"^([0-9]{4}-[0-9]{2})?$", description="Of UTC; else now.")
]


@get(
    "/v1/admin/history",
    tags=["operators"],
    summary="How a provider did, by minute or hour",
    responses=fails(*KEYED, 404),
)
async def history(
    request: Call, node: Node, provider: str, step: Step = Step.MINUTE, since: Since = 3600.0
) -> Data[list[Moment]]:
    """Return points in order of time; minutes are kept for two days, hours for 400."""
    allowed(request, node, Permission.READ)
    if provider not in node.providers.rows:
        raise Rejected(404, "unknown-provider", f"there is no provider {provider[:80]!r}")
    return Data(data=await node.history.moments(provider, step, wall_s() - since))


@get(
    "/v1/admin/usage",
    tags=["operators"],
    summary="What providers carried, and the cost",
    responses=fails(*KEYED),
)
async def usage(request: Call, node: Node, month: Month = "") -> Data[list[Usage]]:
    """Return minutes and cost of a month of UTC, for each provider."""
    allowed(request, node, Permission.READ)
    try:
        found = await node.history.usage(
            month or time.strftime("%Y-%m", time.gmtime(wall_s())), node.providers.rows
        )
    except ValueError:
        raise Rejected(400, "bad-month", "month: give a year and a month, 2026-11") from None
    return Data(data=found)


@get(
    "/v1/admin/recording",
    tags=["operators"],
    summary="What this node decided, to be decided again",
    responses=fails(*KEYED),
)
async def recording(request: Call, node: Node, since: Since = 3600.0) -> Data[Judged]:
    """
    Return what this node decided in an hour at most, under other names.

    Observations and verdicts, steps of hands, fleet moves: what came in and what came of it.
    """
    allowed(request, node, Permission.READ)
    node.judge.judge_gathered()
    now, standing = node.loop.time(), node.judge.standing
    excerpt = node.judge.recording.excerpt(now - since, standing)
    return Data(
        data=Judged(
            node=node.config.name,
            version=version("hitless"),
            zero_s=wall_s() - now,
            recording=await asyncio.to_thread(excerpt),
        )
    )


ROUTES: Final = (history, usage, recording)
