"""The HTTP API against its own OpenAPI page: what is asked is answered as the page says."""

import warnings

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from litestar.exceptions import LitestarDeprecationWarning
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from unit.server.api import HOST, NAMES, Api, whip

from hitless.server import wire
from hitless.server.app import make_app
from hitless.server.keys import KeyRole


pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.LitestarDeprecationWarning"  # it speaks of Litestar 3
)

CASES = 25
"""Of each operation and mode. Drawn the same way each time: a failure can be run again."""

ALWAYS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


def page():
    """Return the OpenAPI page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        return make_app(None).openapi_schema.to_schema()


PAGE = page()
KEYLESS = {name: value for name, value in PAGE.items() if name != "security"}
"""Keys are shown by `sent`, and tried in `test_access.py`."""
OPERATIONS = {
    f"{found.ok().method.upper()} {found.ok().path}": found.ok()
    for found in schemathesis.openapi.from_dict(KEYLESS).get_all_operations()
}
EXAMPLES = {
    name: example
    for name, operation in OPERATIONS.items()
    for body in [operation.definition.raw.get("requestBody")]
    if body
    for example in body["content"]["application/json"]["schema"]["examples"]
}
PUBLIC = {
    "GET /livez": [{}],
    "GET /readyz": [{}],
    "GET /streaming/providers/{name}/health": [{}, {"key": []}],
}


@pytest.fixture
def api(tmp_path):
    """A node with what the examples speak of."""
    with Api(tmp_path / "hitless.db") as api:
        for name in ("agora", "webrtc"):
            api.call("POST", f"/v1/admin/providers/{name}", whip(name), status=201)
        api.publish(client="studio-1", provider="agora")
        api.watch()
        yield api


# --- The page ---


def test_the_page_is_served_to_everybody(api):
    answer = api.run(api.ask("GET", "/schema", key=None))

    assert answer.status_code == 200
    assert answer.json()["paths"].keys() == PAGE["paths"].keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_tells_how_it_fails(name):
    responses = OPERATIONS[name].definition.raw["responses"]
    failures = {int(status) for status in responses} - {200, 201}

    assert OPERATIONS[name].definition.raw.get("security") == PUBLIC.get(name)
    if name not in PUBLIC:
        assert failures >= {401, 403, 429, 503}
    if "requestBody" in OPERATIONS[name].definition.raw:
        assert failures >= {400, 413}
    for status in failures:
        for kind, content in responses[str(status)]["content"].items():
            is_ours = content["schema"].get("$ref") == "#/components/schemas/Failure"
            assert is_ours or kind == "text/plain"


def test_every_body_has_an_example():
    with_body = {n for n, one in OPERATIONS.items() if "requestBody" in one.definition.raw}

    assert with_body == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_taken(name, api):
    method, path = name.split()
    key = KeyRole.OWNER if "/admin/" in path else KeyRole.CLIENT
    answer = api.run(api.ask(method, path.format(name="agora"), EXAMPLES[name], key=key))

    assert answer.status_code in (200, 201), answer.text


# --- Whatever is asked ---

KNOWN = {
    "name": st.sampled_from((*NAMES, "agora", "new")),
    "key": st.sampled_from(("abcd", "0" * 16)),
    "stream": st.sampled_from(("show", "other")),
    "client": st.sampled_from(("studio-1", "phone")),
    "provider": st.sampled_from((*NAMES, "agora")),
    "source": st.sampled_from((*NAMES, "agora")),
    "role": st.sampled_from(tuple(KeyRole)),
    "adapter": st.sampled_from(("whip", "memory")),
    "config": st.sampled_from(({}, {"url": "http://127.0.0.1:9/whip"}, {"url": 5})),
    "because": st.text(max_size=400),
    "plan": st.text(max_size=400),
}
"""What a stranger would hardly guess, and texts with everything that a text can have in it."""


def bent(draw, found):
    """Put something known into some of the fields of a body, a path or a query."""
    if isinstance(found, dict):
        for name in found.keys() & KNOWN.keys():
            if draw(st.booleans()):
                found[name] = draw(KNOWN[name])
        if "wait_s" in found:
            found["wait_s"] = min(found["wait_s"], 0.01)  # it would wait for so long


def is_body_wrong(case):
    """Whether the page forbids a body. Of a query, `0.0` may be a whole number, or none."""
    body = case.meta.components.get(ParameterLocation.BODY) if case.meta else None
    return body is not None and body.mode is GenerationMode.NEGATIVE


def sent(api, case):
    """Send a case as an owner does, or a client, and return the answer."""
    said = requests.Request(**case.as_transport_kwargs(base_url=HOST)).prepare()
    headers = {name: value for name, value in said.headers.items() if name in ("Content-Type",)}
    role = KeyRole.OWNER if "/admin/" in case.path else KeyRole.CLIENT
    role = KeyRole.OWNER if case.path in ("/metrics", "/v1/streams", "/v1/stream") else role
    headers["Authorization"] = f"Bearer {api.keys[role]}"
    return api.run(api.http.request(said.method, said.url, content=said.body, headers=headers))


KINDS = [
    pytest.param(name, mode, id=f"{name} {mode.value}")
    for name, operation in OPERATIONS.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.body or operation.query
]
"""Each operation with what the page allows; and with what it forbids, if it forbids anything."""


@pytest.mark.realtime  # it takes half a minute
@pytest.mark.parametrize(("name", "mode"), KINDS)
def test_whatever_is_asked_is_answered_as_the_page_says(name, mode, api):
    """
    No 5xx, no status and no shape that is not there; and what the page forbids is refused.
    """
    operation = OPERATIONS[name]
    cases = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, data=st.data())
    def check(case, data):
        if mode is GenerationMode.POSITIVE:
            for found in (case.path_parameters, case.query, case.body):
                bent(data.draw, found)
        answer = sent(api, case)
        checks = [*ALWAYS, negative_data_rejection] if is_body_wrong(case) else ALWAYS
        case.validate_response(answer, checks=list(checks))
        if answer.status_code >= 400 and answer.headers["Content-Type"] == "application/json":
            msgspec.json.decode(answer.content, type=wire.Failure)

    check()
