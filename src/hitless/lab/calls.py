"""HTTP calls to the control APIs of the lab's processes, and to its server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from ..errors import LocalFault


CALL_S_MAX: Final = 5.0
"""Longest wait for an answer [s]."""


class Calls:
    """
    Calls that bear a token; made inside the event loop.

    Args:
        token: What the lab's control APIs want to see.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        # A new connection each time: one kept alive may be closed just when it is used.
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=CALL_S_MAX),
            connector=aiohttp.TCPConnector(force_close=True),
        )

    async def answer(
        self,
        url: str,
        body: Mapping[str, object] | None = None,
        *,
        method: str = "GET",
        key: str | None = None,
    ) -> Any:
        """
        Return what is answered, of any JSON type; None: nothing.

        Args:
            url: Whom to call.
            body: What to send; None: nothing.
            method: How.
            key: What to bear instead of the token.

        Raises:
            LocalFault: No answer in time, or a no.
        """
        headers = {"Authorization": f"Bearer {key or self._token}"}
        try:
            async with self._http.request(method, url, json=body, headers=headers) as answer:
                text = await answer.text()
                if answer.status >= 400:
                    raise LocalFault(f"{url}: HTTP {answer.status}: {text}")
                return json.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise LocalFault(f"{url} does not answer: {type(exc).__name__}") from exc

    async def aclose(self) -> None:
        """Close what is open. Idempotent."""
        await self._http.close()
