"""
Where configured values come from: the file, the environment and the caller's own words.

Each source yields its keys by full name (`policy.max_retries`, `provider.agora.url`), with the
place where each stands; keys that are not known and secrets in plain sight are refused here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .keys import LATER, PLAIN_KEYS, Given, nearest
from .secret import Secret, is_secret_name, secret_inside


FILE_NAME: Final = "hitless.toml"

_FILE_BYTES_MAX: Final = 1_048_576
_SECTIONS: Final = ("policy", "backend", "provider", "server", "judging")
_KNOWN: Final = {key.name: key for key in PLAIN_KEYS}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NAME_RULE: Final = "give up to 63 lower-case letters, digits, - and _, no - or _ first"


def find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read: the one asked for, `HITLESS_CONFIG`, or one here; else None."""
    if path is None and environ.get("HITLESS_CONFIG"):
        path = Path(environ["HITLESS_CONFIG"])
    if path is None:
        here = Path(FILE_NAME)
        return here if here.exists() else None
    return path


def from_file(path: Path) -> tuple[dict[str, Given], list[str]]:
    """
    Return the keys of a file by full name, and the providers' names in order.

    Raises:
        ConfigError: It cannot be read, is not TOML, or holds what may not stand there.
    """
    text = _text_of(path)
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # a number of 5 000 digits, 1 000 brackets
        raise ConfigError(f"{path}: not TOML: {exc}") from exc
    lines = dict(_lines(text))

    def origin(name: str) -> str:
        return f"{path}:{lines[name]}" if name in lines else str(path)

    tables = tree.pop("provider", None)
    given: dict[str, Given] = {}
    for section, content in tree.items():
        if section not in _SECTIONS or not isinstance(content, dict):
            _refuse_section(section, origin(section))
        for name, value in content.items():
            full = f"{section}.{name}"
            given[full] = Given(value=value, origin=origin(full))
            _check_known(full, given[full])
    names: list[str] = []
    for place, table in enumerate(_tables(tables, origin("provider"))):
        where = f"provider.{place}"
        name = table.pop("name", None)
        stands = Given(value=name, origin=origin(f"{where}.name") if name else origin(where))
        names.append(_new_name(stands, names))
        for option, value in table.items():
            full = f"provider.{name}.{option}"
            given[full] = Given(value=value, origin=origin(f"{where}.{option}"))
            _check_literal(full, given[full])
    return _kept_elsewhere(given, path.parent), names


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as source:
            data = source.read(_FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror or type(exc).__name__}") from exc
    if len(data) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {_FILE_BYTES_MAX} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 text") from exc


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """
    Yield each key's full name with its line; a provider is named by its place.

    The last comes first, so that of two lines that look alike (one may be text inside a text)
    a mapping keeps the first.
    """
    found, section, tables = [], "", -1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
            section = header[1]
            if section == "provider":
                tables += 1
                section = f"provider.{tables}"
                found.append(("provider", number))
            found.append((section, number))
        elif key := re.match(r"\s*([\w-]+)\s*=", line):
            found.append((f"{section}.{key[1]}".lstrip("."), number))
    return reversed(found)


def _tables(value: object, origin: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{origin}: write each provider as a [[provider]] table with a name")
    if not value:
        raise ConfigError(f"{origin}: the list of providers is empty: add a [[provider]] table")
    return value


def from_environment(
    environ: Mapping[str, str], names: list[str], in_file: Mapping[str, Given]
) -> dict[str, Given]:
    """
    Return the keys of the environment; providers it adds are appended to `names`.

    Args:
        environ: The environment.
        names: Names of the providers known so far.
        in_file: What the file gives: a variable named there may be called anything.

    Raises:
        ConfigError: A variable that looks like a key and is none.
    """
    borrowed = {
        given.value.variable for given in in_file.values() if isinstance(given.value, Secret)
    }
    candidates = [
        variable
        for variable in sorted(environ)
        if variable not in borrowed
        and (re.match(rf"HITLESS_({'|'.join(_SECTIONS).upper()})_|HITLESS_\w*?__", variable)
             or variable in ("HITLESS_MODE", "HITLESS_SHARE"))
    ]  # fmt: skip
    given = {}
    for variable in candidates:
        name = _name_of(variable, candidates, names)
        value = Given(value=environ[variable], origin=variable, is_text=True)
        if is_secret_name(name.rpartition(".")[2]):
            value = Given(value=Secret(key=name, variable=variable), origin=variable)
        _check_known(name, value)
        given[name] = value
    return _kept_elsewhere(given, Path())


def _name_of(variable: str, candidates: list[str], names: list[str]) -> str:
    """Return the full name of the key that a variable gives."""
    section, *rest = variable.removeprefix("HITLESS_").split("__", 2)
    if section != "PROVIDER":
        return ".".join(word.lower() for word in (section, *rest))
    if len(rest) != 2 or not all(rest):
        raise ConfigError(f"{variable} is not known: write HITLESS_PROVIDER__NAME__KEY")
    for name in names:
        if name.upper().replace("-", "_") == rest[0]:
            return f"provider.{name}.{rest[1].lower()}"
    if f"HITLESS_PROVIDER__{rest[0]}__ADAPTER" not in candidates:
        known = nearest(rest[0].lower(), names)
        raise ConfigError(
            f"{variable}: no provider is called {rest[0].lower()}{known} "
            f"(to add it, set HITLESS_PROVIDER__{rest[0]}__ADAPTER too)"
        )
    names.append(_new_name(Given(value=rest[0].lower(), origin=variable), names))
    return f"provider.{names[-1]}.{rest[1].lower()}"


def from_flags(flags: Mapping[str, object], names: list[str]) -> dict[str, Given]:
    """
    Return what the caller says itself, by full name.

    Raises:
        ConfigError: A key or a provider that is not known.
    """
    given = {}
    for name, value in flags.items():
        given[name] = Given(value=value, origin=f"--set {name}", is_text=True)
        section, _, rest = name.partition(".")
        if section == "provider" and rest.partition(".")[0] not in names:
            known = nearest(rest.partition(".")[0], names)
            raise ConfigError(f"--set {name}: no provider is called so{known}")
        _check_known(name, given[name])
    return _kept_elsewhere(given, Path())


# --- What may be given ---


def _check_known(name: str, given: Given) -> None:
    section, _, key = name.partition(".")
    if section not in _SECTIONS or not key:
        _refuse_section(name, given.origin)
    if section == "provider" and key.endswith(".name"):
        raise ConfigError(f"{given.origin}: a provider's name is given in {FILE_NAME} only")
    if section != "provider" and name not in _KNOWN:
        kept = re.sub(r"_(env|file)$", "", name)
        if kept not in _KNOWN or not _KNOWN[kept].is_secret:
            _refuse(name, given.origin, _KNOWN)
    _check_literal(name, given)


def _refuse(name: str, origin: str, known: Mapping[str, object]) -> None:
    if name in LATER:
        raise ConfigError(f"{origin}: {name} has no effect in this version: leave it out")
    raise ConfigError(f"{origin}: {name} is not known{nearest(name, known)}")


def _refuse_section(name: str, origin: str) -> None:
    section = name.partition(".")[0]
    if section in LATER:
        raise ConfigError(f"{origin}: {section} has no effect in this version: leave it out")
    if section in _SECTIONS:
        form = "[[provider]]" if section == "provider" else f"[{section}]"
        raise ConfigError(f"{origin}: {section} must be a table: write {form}")
    inside = next((key for key in _KNOWN if key.endswith(f".{name}")), None)
    hint = f"; did you mean {inside}?" if inside else nearest(name, (*_SECTIONS, *_KNOWN))
    raise ConfigError(f"{origin}: {name} is not known{hint}")


def _check_literal(name: str, given: Given) -> None:
    """Refuse a secret that is written where everybody can read it."""
    if isinstance(given.value, Secret):
        return
    option = name.rpartition(".")[2]
    if is_secret_name(option):
        raise ConfigError(
            f"{given.origin}: a secret does not belong here: give {option}_env (the name of a "
            f"variable) or {option}_file (a path) in place of {option}"
        )
    if inner := secret_inside(given.value):
        raise ConfigError(
            f"{given.origin}: {name} holds a secret ({inner}): give {option}_env (the name of a "
            f"variable) or {option}_file (a path) in its place"
        )


def _new_name(given: Given, taken: list[str]) -> str:
    name = given.value
    if name is None:
        raise ConfigError(f"{given.origin}: this provider has no name: give it one")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{given.origin}: provider name {name!r} cannot be used: {_NAME_RULE}")
    # Two names that differ by - and _ only would share their variables.
    if name.replace("-", "_") in {other.replace("-", "_") for other in taken}:
        raise ConfigError(f"{given.origin}: the provider name {name} is given twice")
    return name


def _kept_elsewhere(given: Mapping[str, Given], folder: Path) -> dict[str, Given]:
    """Replace each `..._env` and `..._file` by the key it stands for; paths begin at `folder`."""
    result: dict[str, Given] = {}
    for name, one in given.items():
        base, _, suffix = name.rpartition("_")
        is_kept = suffix in ("env", "file") and not base.endswith(".")
        full = base if is_kept else name
        if full in result:
            other = result[full].origin
            raise ConfigError(f"{one.origin}: {full} is given twice, here and in {other}")
        result[full] = _kept(name, base, one, folder) if is_kept else one
    return result


def _kept(name: str, base: str, given: Given, folder: Path) -> Given:
    is_variable = name.endswith("_env")
    place = given.value
    if not isinstance(place, str) or not place or not place.isprintable():
        what = "the name of a variable" if is_variable else "a path"
        raise ConfigError(f"{given.origin}: {name} must be {what}")
    if is_variable:
        secret = Secret(key=base, variable=place)
    else:
        secret = Secret(key=base, file=folder / Path(place).expanduser())
    return Given(value=secret, origin=given.origin)
