"""
OpenTelemetry traces, for those who install `hitless[traces]` and name a collector.

Nothing is global: a node has a provider of its own. Without the packages, or without
`OTEL_EXPORTER_OTLP_ENDPOINT`, every call here does nothing and costs next to nothing. No header,
query or body is ever recorded: of a request, its method, its route and its status.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send


VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Where to export to (OpenTelemetry's specification of the OTLP exporter); one is enough."""

CLOSE_S: Final = 3.0
"""How long what was not yet exported may take at the end [s]."""

_SAFE: Final = frozenset(
    {"stream", "provider", "epoch", "because", "verdict", "moved", "stayed", "extra", "is_leader"}
)
"""Fields of events that are recorded."""

Attribute = str | bool | int | float


class Tracer:
    """
    Writes spans, or does nothing.

    Args:
        because: Why it does nothing; empty: it does not.
        api: The module `opentelemetry.trace` (Any: it may not be installed).
        provider: A tracer provider of its SDK.
        propagator: Reads `traceparent` (W3C Trace Context).
    """

    def __init__(
        self,
        because: str = "",
        *,
        api: Any = None,  # Any, here and below: packages that may not be there
        provider: Any = None,
        propagator: Any = None,
    ) -> None:
        self.because = because
        self._api, self._provider, self._propagator = api, provider, propagator
        self._tracer = provider.get_tracer("hitless") if provider is not None else None

    @contextlib.contextmanager
    def span(
        self, name: str, headers: Mapping[str, str] | None = None, **attributes: Attribute
    ) -> Iterator[Any]:
        """
        Record what happens within as a span; an exception marks it as failed and goes on.

        Args:
            name: What is done, without names of streams: `GET /v1/streams`.
            headers: Of a request: the span becomes a child of its `traceparent`.
            attributes: What is known of it.

        Returns:
            The span; None: nothing is recorded.
        """
        if self._tracer is None:
            yield None
            return
        context = self._propagator.extract(headers) if headers and self._propagator else None
        kind = self._api.SpanKind.SERVER if headers is not None else self._api.SpanKind.INTERNAL
        with self._tracer.start_as_current_span(
            name, context=context, kind=kind, attributes=attributes
        ) as span:
            yield span

    def heard(self, name: str, fields: Mapping[str, Any]) -> None:
        """Note an event in the span within which it happened; outside of one, nothing."""
        if self._tracer is not None:
            known = {
                key: value
                for key, value in fields.items()
                if key in _SAFE and isinstance(value, str | bool | int | float)
            }
            self._api.get_current_span().add_event(name, known)

    async def aclose(self) -> None:
        """Export what was not yet, for a moment. Idempotent."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await asyncio.to_thread(provider.shutdown)


def open_tracer(node: str, environ: Mapping[str, str]) -> Tracer:
    """
    Return the tracer of a node; one that does nothing says why in `because`.

    Args:
        node: Its name: `service.instance.id`.
        environ: Names the collector; the exporter reads the rest of its settings itself.
    """
    if not any(environ.get(name) for name in VARIABLES):
        return Tracer(f"{VARIABLES[0]} is not set")
    try:
        api = importlib.import_module("opentelemetry.trace")
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        context = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
    except ImportError as exc:
        return Tracer(f"{exc.name} is not installed: pip install 'hitless[traces]'")
    about = {"service.name": environ.get("OTEL_SERVICE_NAME") or "hitless"}
    provider = sdk.TracerProvider(
        resource=resources.Resource.create({**about, "service.instance.id": node}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    propagator = context.TraceContextTextMapPropagator()
    return Tracer(api=api, provider=provider, propagator=propagator)


class TracedRequests:
    """
    An ASGI application whose HTTP requests are spans.

    Args:
        app: What answers.
        tracer: Records.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; WebSockets live for hours and are passed on as they are."""
        if scope["type"] != ScopeType.HTTP or self._tracer.because:
            await self._app(scope, receive, send)
            return
        method = str(scope["method"])
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
            if name.lower() in (b"traceparent", b"tracestate")
        }
        with self._tracer.span(method, headers, **{"http.request.method": method}) as span:

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start" and span is not None:
                    span.set_attribute("http.response.status_code", message["status"])
                    route = scope.get("path_template")
                    if route:  # of the route, not of the request: a path may hold a name
                        span.update_name(f"{method} {route}")
                        span.set_attribute("http.route", route)
                await send(message)

            await self._app(scope, receive, sending)
