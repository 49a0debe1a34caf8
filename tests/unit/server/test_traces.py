"""hitless.server.traces: against a collector that stands in for one"""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from hitless.server.traces import TracedRequests, open_tracer


@pytest.fixture
def collector():
    """Return where OTLP may be posted to, and what was."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()
        thread.join(5)


async def app(scope, receive, send):
    """Answer any request."""
    scope["path_template"] = "/v1/streams/{name}"
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def sent(message):
    """Take what is answered."""


REQUEST = {
    "type": "http",
    "method": "GET",
    "path": "/v1/streams/secret-name",
    "headers": [(b"authorization", b"Bearer hk_not-to-be-seen"),
                (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
}  # fmt: skip


def test_a_request_becomes_a_span_of_its_callers_trace_with_its_route(collector, monkeypatch):
    """
    And with nothing of its headers, its path or its body.
    """
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    url, posted = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)

    async def main():
        tracer = open_tracer("n1", {"OTEL_EXPORTER_OTLP_ENDPOINT": url})
        assert tracer.because == ""
        await TracedRequests(app, tracer)(dict(REQUEST), None, sent)
        with tracer.span("poll"):
            tracer.heard("stream.started", {"stream": "show", "token": "hk_not-to-be-seen"})
        await tracer.aclose()
        await tracer.aclose()

    asyncio.run(main())
    (path, body), *_ = posted
    assert path == "/v1/traces"
    assert b"GET /v1/streams/{name}" in body
    assert bytes.fromhex("0af7651916cd43dd8448eb211c80319c") in body
    assert b"stream.started" in body
    assert b"secret-name" not in body
    assert b"not-to-be-seen" not in body


def test_without_a_collector_nothing_is_recorded_and_it_says_why():
    """
    The default.
    """

    async def main():
        tracer = open_tracer("n1", {})
        with tracer.span("poll") as span:
            tracer.heard("stream.started", {})
        await TracedRequests(app, tracer)(dict(REQUEST), None, sent)
        await tracer.aclose()
        return tracer.because, span

    because, span = asyncio.run(main())
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is not set" in because
    assert span is None
