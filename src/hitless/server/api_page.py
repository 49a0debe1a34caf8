"""What the OpenAPI page says beside the types: how a call can fail, and examples of bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIResponse, Operation
from litestar.params import Body, BodyKwarg, Parameter

from .wire import LINE, WORDS_CHARS_MAX, Error, Failure


_FAILURES: Final[Mapping[int, tuple[str, str, str]]] = {
    400: ("A field is missing or not possible.", "bad-request", "stream: give 1 to 200 ..."),
    401: ("No key, or one that opens nothing.", "no-key", "send Authorization: Bearer hk_..."),
    403: ("This key may not do that.", "forbidden", "this key may not do that: its role is ..."),
    404: ("There is none of that name.", "unknown-stream", "no stream 'show' is on"),
    409: ("It cannot be now: look again.", "moved-meanwhile", "it moved at the same moment: ..."),
    413: ("The body is too long.", "too-long", "Request Entity Too Large"),
    429: ("Too often; `Retry-After` says when.", "too-often", "too many requests: wait 0.5 s"),
    503: ("It cannot be looked up now: try again.", "store-lost", "the disk is full: ..."),
}
"""By status: what it means, and a code and a message that tell so."""


def fails(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the answers of a call that does not go well, in the one envelope they all have."""
    found = {}
    for status in statuses:
        said, code, message = _FAILURES[status]
        value = Failure(error=Error(code=code, message=message))
        found[status] = ResponseSpec(
            data_container=Failure,
            generate_examples=False,
            description=said,
            examples=[Example(value=value)],
        )
    return found


UNREADY: Final = {
    503: ResponseSpec(
        data_container=str,
        generate_examples=False,
        description="It goes on without its store.",
        media_type="text/plain",
        examples=[Example(value="degraded: the disk is full: free some space")],
    )
}
"""How `/readyz` fails."""

Because = Annotated[
    str,
    Parameter(max_length=WORDS_CHARS_MAX, pattern=LINE, description="For the audit log."),
]

OPEN: Final = (400, 401, 429)
"""How every call can fail that reads a key if there is one."""
KEYED: Final = (400, 401, 403, 429, 503)
"""How every call can fail that needs a key."""
POSTED: Final = (*KEYED, 413)
"""The same with a body."""


def like(value: Mapping[str, Any]) -> BodyKwarg:
    """Return what documents a body: an example that could be sent (Any: of any JSON type)."""
    body: BodyKwarg = Body(examples=[Example(value=dict(value))])
    return body


@dataclass
class Extended(Operation):
    """
    An operation that answers in one of several shapes, of which one extends the other.

    An answer in the longer shape is one in the shorter shape as well, so `oneOf` would be false.
    """

    def __post_init__(self) -> None:
        for response in (self.responses or {}).values():
            content = response.content if isinstance(response, OpenAPIResponse) else None
            for media in (content or {}).values():
                schema: Any = media.schema  # Any: or a reference, which has none of both
                if getattr(schema, "one_of", None):
                    schema.any_of, schema.one_of = schema.one_of, None


# --- Examples, by what they are the body of ---

START: Final = {
    "stream": "show",
    "client": "studio-1",
    "adapters": ["whip"],
    "codecs": ["VP8", "opus"],
    "group": "show",
}
JOIN: Final = {"stream": "show", "client": "phone-7", "adapters": ["whip"]}
LEAVE: Final = {"stream": "show", "client": "phone-7"}
END: Final = {"stream": "show", "client": "studio-1", "because": "the show is over"}
EXCHANGE: Final = {
    "client": "studio-1",
    "messages": [
        {
            "type": "hello",
            "client": "studio-1",
            "streams": [{"stream": "show", "role": "publisher", "epoch": 1}],
        }
    ],
    "wait_s": 10.0,
}
PROVIDER: Final = {
    "adapter": "whip",
    "priority": 1,
    "config": {"url": "https://live.example.com/{stream}/whip", "region": "eu"},
    "secrets": {"token": "..."},
    "starts_per_s": 50.0,
    "price": {"per_gb": 0.05, "currency": "EUR"},
}
DRAINED: Final = {"is_drained": True}
CHECK: Final = {"provider": "agora"}
MOVE: Final = {"source": "agora", "provider": "webrtc", "share": 0.5, "because": "maintenance"}
END_ANYBODYS: Final = {"stream": "show", "because": "the studio asked for it"}
FREEZE: Final = {"is_frozen": True, "because": "the final is on"}
KEY: Final = {"role": "publisher", "scope": "show", "name": "studio 1", "life_s": 86400.0}
