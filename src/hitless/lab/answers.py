"""What a stand-in answers when it says no: a line of text, or a problem with a documented code."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from ..errors import ConfigError
from .gate import Rejected


async def text_of(request: web.Request) -> str:
    """
    Return the body; what is not UTF-8 is not an offer either.

    Raises:
        ConfigError: It is not UTF-8.
    """
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as fault:
        raise ConfigError("the body is not UTF-8 text") from fault


def say(status: int, why: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return one line of text."""
    return web.Response(status=status, text=f"{why}\n", headers=headers)


def unauthorized() -> web.Response:
    """Return what is said to whoever shows no token, or a wrong one."""
    return say(401, "show a valid token", {"WWW-Authenticate": "Bearer"})


def rejection(fault: Rejected, speaks: str) -> web.Response:
    """Return a rejection as a problem (RFC 9457) that names the provider's code."""
    problem = {
        "type": "about:blank",
        "title": "join rejected",
        "status": fault.status,
        "detail": fault.because,
        "code": fault.code,
        "speaks": speaks,
        "stand_in": True,
    }
    headers = {"WWW-Authenticate": "Bearer"} if fault.status == 401 else None
    return web.json_response(
        problem, status=fault.status, headers=headers, content_type="application/problem+json"
    )
