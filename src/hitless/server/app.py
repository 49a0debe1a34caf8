"""The application: every route, one envelope for every error, and the page that documents it."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import structlog
from litestar import Litestar, MediaType, Request, Response
from litestar.config.app import AppConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from ..errors import ConfigError
from . import api_admin, api_clients, api_history, api_providers, api_vault
from .access import TooOften
from .coordinator import Rejected
from .database import StoreUnavailable
from .node import Node
from .plans import MintRefused
from .providers import Conflict, Unknown
from .wire import Error, Failure


log: Final = structlog.get_logger("hitless.server")

BODY_BYTES_MAX: Final = 1 << 20
STORE_RETRY_S: Final = 1

_CODES: Final = {400: "bad-request", 413: "too-long"}
"""Of the framework's own errors; others are called as HTTP calls them."""


def make_app(node: Node) -> Litestar:
    """Return the application of a node that is open. Any ASGI server can serve it."""
    return Litestar(
        route_handlers=[
            *api_clients.ROUTES,
            *api_providers.ROUTES,
            *api_admin.ROUTES,
            *api_history.ROUTES,
            *api_vault.ROUTES,
        ],
        dependencies={"node": Provide(_node, sync_to_thread=False)},
        exception_handlers={Exception: answer_error},
        state=State({"node": node}),
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=OpenAPIConfig(
            title="Hitless",
            version=version("hitless"),
            description="The control plane: plans, placements, providers, operators.",
            path="/schema",
            # No page: those there are load their scripts from elsewhere, and are blank offline.
            render_plugins=[
                JsonRenderPlugin(path=["/", "/openapi.json"], media_type=MediaType.JSON)
            ],
            components=Components(
                security_schemes={
                    "key": SecurityScheme(
                        type="http", scheme="bearer", description="hk_<id>_<secret>"
                    )
                }
            ),
            security=[{"key": []}],
        ),
        on_app_init=[_quiet],
    )


def _node(state: State) -> Node:
    node: Node = state.node
    return node


def _quiet(config: AppConfig) -> AppConfig:
    """Log by structlog alone."""
    config.logging_config = None
    return config


def answer_error(  # noqa: C901 -- a flat dispatch, one case an error
    request: Request[Any, Any, Any], exc: Exception
) -> Response[Failure]:
    """Return an error in the envelope; what nobody expected is logged, and not quoted."""
    headers: dict[str, str] = {}
    match exc:
        case TooOften():
            status, code, because = 429, exc.code, exc.because
            headers["Retry-After"] = str(max(1, round(exc.retry_after_s)))
        case Rejected():
            status, code, because = exc.status, exc.code, exc.because
            if status == 401:
                headers["WWW-Authenticate"] = "Bearer"
        case ConfigError():
            status, code, because = 400, "impossible", str(exc)
        case Unknown():
            status, code, because = 404, "unknown-provider", str(exc)
        case Conflict():
            status, code, because = 409, "conflict", str(exc)
        case MintRefused():
            status, code, because = 403, "removed", str(exc)
        case StoreUnavailable():
            status, code, because = 503, "store-lost", exc.because
            headers["Retry-After"] = str(STORE_RETRY_S)
        case ValidationException():
            status, code, because = 400, "bad-request", _faults(exc)
        case RecursionError():
            status, code, because = 400, "bad-request", "the body is nested too deeply"
        case HTTPException():
            status, because = exc.status_code, exc.detail
            phrase = HTTPStatus(status).phrase.lower().replace(" ", "-")
            code = _CODES.get(status, phrase)
            headers |= exc.headers or {}
        case _:
            log.error("a request failed: a defect", path=request.url.path, exc_info=exc)
            status, code, because = 500, "internal", "this is a defect: see the server's log"
    failure = Failure(error=Error(code=code, message=because))
    return Response(failure, status_code=status, headers=headers, media_type="application/json")


def _faults(exc: ValidationException) -> str:
    """Say which fields are wrong and how."""
    extra = exc.extra if isinstance(exc.extra, list) else []
    said = [f"{one.get('key', 'body')}: {one.get('message', '')}" for one in extra[:5]]
    if said == ["data: 'data'"]:  # as the framework says that there is none
        return "body: send a JSON object"
    return "; ".join(said) or exc.detail
