"""
Golden transcripts of the protocol: how they are read, said and compared.

A transcript is a list of steps, in order: `up` and `down` are messages, `link` is opened or lost,
`call` is a request by REST. `person` is what is typed into a hand, `elsewhere` what happens
beside: whoever plays one end of the conversation leaves out what the other end does. In a
message `"<any>"` stands for anything, and any other `"<name>"` for the same each time.

A field that has its default value may be left out of a message, or not: that means nothing, and
both ends must bear it. So messages are compared with every field. A placement and an end may be
said again.
"""

import json
from pathlib import Path

import msgspec

from hitless.client import protocol


HERE = Path(__file__).parent

KINDS = {
    kind.__struct_config__.tag: kind for kind in (*protocol.Up.__args__, *protocol.Down.__args__)
}
"""Every message, by its `type`."""


def names(*, of_hands=None):
    """Return the names of the transcripts; those of remote hands, or of the others, only."""
    found = {path.stem: read(path.stem) for path in sorted(HERE.glob("*.json"))}
    return [name for name, it in found.items() if of_hands in (None, it["is_hand"])]


def read(name):
    """Return a transcript."""
    return json.loads((HERE / f"{name}.json").read_text())


# --- Messages with and without their defaults ---


def whole(message):
    """Return a message with every field; those that were left out have their defaults."""
    kind = KINDS.get(message["type"])
    return message if kind is None else _whole(kind, message)


def terse(message):
    """Return a message without the fields that have their defaults."""
    kind = KINDS[message["type"]]
    bare = json.loads(msgspec.json.encode(msgspec.convert(message, kind)))
    return {"type": message["type"], **_terse(kind, bare)}


def _whole(kind, found):
    found = dict(found)
    for field in msgspec.structs.fields(kind):
        inner = _struct_in(field.type)
        if field.name not in found:
            if not field.required:
                found[field.name] = _default(field)
        elif inner is not None and isinstance(found[field.name], dict):
            found[field.name] = _whole(inner, found[field.name])
        elif inner is not None and isinstance(found[field.name], list):
            found[field.name] = [_whole(inner, one) for one in found[field.name]]
    return found


def _terse(kind, found):
    kept = {}
    for field in msgspec.structs.fields(kind):
        value, inner = found.get(field.name), _struct_in(field.type)
        if field.name not in found:
            continue
        if not field.required and value == _default(field):
            continue
        if inner is not None and isinstance(value, dict):
            value = _terse(inner, value)
        elif inner is not None and isinstance(value, list):
            value = [_terse(inner, one) for one in value]
        kept[field.name] = value
    return kept


def _default(field):
    made = field.default_factory is not msgspec.NODEFAULT
    return json.loads(json.dumps(field.default_factory() if made else field.default))


def _struct_in(kind):
    """Return the struct that a field holds, one or many; None: it holds none."""
    for one in (kind, *getattr(kind, "__args__", ())):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None


# --- Placeholders ---


def is_placeholder(value):
    """Whether a value stands for another one."""
    return isinstance(value, str) and value.startswith("<") and value.endswith(">")


def filled(value, bound):
    """Return a message as it is said: with what its placeholders stand for."""
    if isinstance(value, dict):
        return {key: filled(one, bound) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, bound) for one in value]
    return bound.setdefault(value, value) if is_placeholder(value) else value


def check(expected, found, bound, at):
    """Fail unless a message is as expected; remember what its placeholders stand for."""
    if is_placeholder(expected):
        known = found if expected == "<any>" else bound.setdefault(expected, found)
        assert known == found, f"{at}: {expected} was {known!r} and is {found!r}"
    elif isinstance(expected, dict):
        assert isinstance(found, dict), f"{at}: {found!r} is no object"
        assert expected.keys() == found.keys(), f"{at}: {sorted(found)}, not {sorted(expected)}"
        for key, value in expected.items():
            check(value, found[key], bound, f"{at}.{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list), f"{at}: {found!r} is no list"
        assert len(expected) == len(found), f"{at}: {found!r}"
        for n, (value, one) in enumerate(zip(expected, found, strict=True)):
            check(value, one, bound, f"{at}[{n}]")
    else:
        assert expected == found, f"{at}: {found!r}, not {expected!r}"


def check_message(expected, found, bound, at):
    """Fail unless a message means what was expected, whatever defaults it leaves out."""
    assert found is not None, f"{at}: the connection was closed"
    check(whole(expected), whole(found), bound, at)
