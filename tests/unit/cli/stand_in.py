"""A stand-in of the server for the operators' commands: it says what the API says, and notes."""

from __future__ import annotations

import json
import secrets
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import msgspec

from hitless.server import wire


KEY = f"hk_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
"""Nobody's: made anew for each run."""

HEALTH = wire.HealthInFull(
    healthy=True,
    provider="agora",
    status="active",
    grade="excellent",
    because="viewed in 0.2 s",
    level="end_to_end",
    unproven=[],
    failures=0,
    latency_s=0.21,
    uptime=0.9987,
    error_rate=0.0,
    checked_ago_s=12.0,
    reporters=3,
)
AGORA = wire.ProviderInFull(
    name="agora",
    adapter="whip",
    is_active=True,
    is_drained=False,
    priority=1,
    config={"url": "https://live.example.com/whip"},
    secrets=["token"],
    weight=1.0,
    starts_per_s=20.0,
    price={"per_gb": 0.05},
    streams=2,
    viewers=9,
    health=HEALTH,
)
OTHER = msgspec.structs.replace(AGORA, name="other", priority=2, is_drained=True, streams=0)
SETTINGS = wire.Settings(default_provider="agora")
SHOW = wire.Stream(
    stream="show",
    state="live",
    epoch=3,
    provider="agora",
    is_carried=True,
    viewers=2,
    because="a start was asked for",
    group="show",
    changed_ago_s=4000.0,
    rescue="",
)


def entry(number, what="stream.moved", target="show", **more):
    """Return an entry of the audit log, one a second."""
    said = {"before": None, "after": None, "because": "asked for", "who": "k1", **more}
    return wire.AuditEntry(
        id=str(number), at_s=1_700_000_000.0 + number, what=what, target=target, **said
    )


class StandIn(ThreadingHTTPServer):
    """
    Answers what it was told to, as the API wraps it.

    Attributes:
        answers: (method, path) -> data, or what is called with the query and returns data; an
            int and a code and a message: a refusal.
        calls: What was asked: method, path, query, body.
        keys: The keys that came with it.
        raw: Status and body of every answer, in place of `answers`; None: those.
    """

    daemon_threads = True
    block_on_close = True

    def __init__(self, tls=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls, self.keys, self.raw, self.tls = [], [], None, tls
        self.answers = {
            ("GET", "/v1/admin/providers"): [AGORA, OTHER],
            ("GET", "/v1/admin/settings"): SETTINGS,
            ("GET", "/v1/streams"): wire.StreamList(streams=[SHOW], next=""),
            ("GET", "/v1/stream"): SHOW,
            ("GET", "/v1/admin/audit"): [],
        }

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server_port}"

    def finish_request(self, request, client_address):
        """Speak TLS first, in the request's own thread; a client may end it there."""
        if self.tls is not None:
            request.settimeout(5)
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                return
        with request:
            super().finish_request(request, client_address)

    @property
    def acts(self):
        """What was asked but for looking."""
        return [call for call in self.calls if call[0] != "GET"]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(sent) if sent else None
        server = self.server
        server.calls.append((self.command, parts.path, query, body))
        server.keys.append(self.headers["Authorization"])
        if server.raw is not None:
            self.reply(*server.raw)
            return
        found = server.answers.get((self.command, parts.path), (404, "not-found", "Not Found"))
        found = found(query) if callable(found) else found
        if isinstance(found, tuple):
            status, code, message = found
            said = wire.Failure(error=wire.Error(code=code, message=message))
            self.reply(status, msgspec.json.encode(said))
        else:
            self.reply(200, msgspec.json.encode({"success": True, "data": found}))

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing."""


@contextmanager
def standing(tls=None):
    """Run a stand-in beside the test."""
    with StandIn(tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)
