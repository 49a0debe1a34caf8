"""Views of Agora through the process of its SDK, with the stand-in of the SDK inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdk_runs import Runs

from hitless.providers.agora import Agora
from hitless.providers.credential import Access
from hitless.providers.expiring_legs import ExpiringViewLeg


STAND_IN = Path(__file__).parent / "agora_sdk_stand_in"
APP = "970CA35de60c44645bbae8a215061b33"
CERTIFICATE = "5CFd2fd1755d40ecb72977518be15d3b"
TOKEN = "007-the-token-of-a-plan"


def agora(**settings: Any) -> Agora:
    """Return a provider that views through the SDK, with tokens minted here."""
    return Agora(**{"app_id": APP, "certificate": CERTIFICATE, "view": "sdk", **settings})


VIEWS = Runs(agora)
watching, failing = VIEWS.watching, VIEWS.failing


async def planned(access: Access) -> dict[str, Any]:
    """Return what a plan says."""
    return {"channel": access.stream, "uid": 70_001, "token": TOKEN}


def inner(leg: ExpiringViewLeg) -> Any:
    """Return the leg that holds the SDK's process."""
    return leg.leg
