"""
Write the pages of docs/ that are made from the code; with `--check`, only say which are stale.

A page made from a part that does not exist yet is skipped, in so many words.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click
from click.testing import CliRunner


DOCS: Final = Path(__file__).resolve().parent
MADE: Final = "<!-- Made by docs/make.py: change the code, then run `make docs`. -->\n"
WIDTH: Final = 99


class MissingPart(Exception):
    """A part of the code that a page is made from does not exist yet."""


def part(name: str, *attributes: str) -> ModuleType:
    """Return a module of hitless that has these attributes."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise MissingPart(f"no module {name} yet")
    module = importlib.import_module(name)
    for attribute in attributes:
        if not hasattr(module, attribute):
            raise MissingPart(f"{name} has no {attribute} yet")
    return module


def beside(name: str) -> ModuleType:
    """Return a module of this folder: `docs` is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    if spec is None or spec.loader is None:
        raise MissingPart(f"no docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def is_ours(missing: ModuleNotFoundError) -> bool:
    """Whether it is a part of hitless that is missing, and not a library."""
    return (missing.name or "").startswith("hitless.")


# --- Reference: commands ---


def cli_page() -> str:
    """Return docs/reference/cli.md: the help of every command."""
    root = part("hitless.cli").cli
    blocks = [MADE, "# Commands\n"]
    blocks += [
        "Exit status: 0 done; 1 what was asked for failed; 2 bad input, with one line that says "
        "so and nothing started; 130 Ctrl-C.\n"
    ]
    for path, command in commands(root, "hitless"):
        ctx = click.Context(command, info_name=path, terminal_width=WIDTH, color=False)
        ctx.help_option_names = root.context_settings["help_option_names"]
        blocks.append(f"## `{path}`\n\n```text\n{command.get_help(ctx)}\n```\n")
    return "\n".join(blocks)


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all below it, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        ctx = click.Context(command, info_name=path)
        for name in command.list_commands(ctx):
            try:
                below = command.get_command(ctx, name)
            except ModuleNotFoundError as exc:
                if not is_ours(exc):
                    raise
                tell(f"skipped in reference/cli.md: {path} {name}: no module {exc.name} yet")
                continue
            if below is not None and not below.hidden:
                yield from commands(below, f"{path} {name}")


# --- Reference: configuration ---


def configuration_page() -> str:
    """Return docs/reference/configuration.md: every key."""
    keys = part("hitless.client.keys")
    text = MADE + CONFIGURATION
    for title, group in (
        ("[policy]", keys.POLICY_KEYS),
        ("[backend]", keys.BACKEND_KEYS),
        ("[server]", keys.SERVER_KEYS),
        ("[judging]", keys.JUDGING_KEYS),
        ("[[provider]]", keys.PROVIDER_KEYS),
    ):
        rows = (
            (f"`{key.name}`", written(key), key.possible, f"`{variable(key.name)}`", key.says)
            for key in group
        )
        text += f"\n## `{title}`\n\n"
        text += table(("key", "default", "possible", "variable", "what it is for"), rows)
    return text + PROVIDER_OPTIONS


CONFIGURATION: Final = """
# Configuration

`hitless.toml` in the current directory, or the file that `--config` or `HITLESS_CONFIG` names.
Each key has a variable; `--set KEY=VALUE` sets one for one command. Flags and code come before
the environment, that before the file, and that before the default. `hitless config` shows every
key with its value and where it comes from; `hitless config --check` judges a file. A key that is
not known is an error that names the nearest one.

A secret is never written in the file: in place of `token`, give `token_env` (the name of a
variable) or `token_file` (a path, from the folder of the file). Any other key of a provider can
be kept elsewhere in the same way.

```toml
[backend]
url = "https://api.example.com"
headers_env = "BACKEND_HEADERS"      # Authorization: Bearer ...

[policy]
max_retries = 3
return_policy = "stay"

[[provider]]
name = "agora"
adapter = "whip"
priority = 1
url = "https://agora.example.com/whip/{stream}"
token_env = "AGORA_TOKEN"
```
"""

PROVIDER_OPTIONS: Final = """
All other keys of a `[[provider]]` table belong to its adapter, which refuses what it does not
know. A key that `[policy]` has too (`first_media_s`, `silence_s`) holds for this provider alone.
In variables, numbers, `true`, `false`, lists and tables are written as in TOML; a text that looks
like one of them is put in quotes. `HITLESS_PROVIDER__NAME__ADAPTER` adds a provider that is not
in the file.
"""


def written(key: Any) -> str:
    """Return a key's default as it would be written."""
    if key.default is None:
        return ""
    text = f"{key.default:g}" if isinstance(key.default, float) else str(key.default)
    return f"{text.lower()} {key.unit}".rstrip()


def variable(name: str) -> str:
    """Return the environment variable of a key."""
    if name == "provider.NAME.name":
        return "-"
    if name.endswith(".headers"):
        name += "_env"
    return "HITLESS_" + name.upper().replace(".", "__")


# --- Events, faults ---


def events_page() -> str:
    """Return docs/events.md: every event people are told of."""
    catalogue = part("hitless.core.catalogue", "CATALOGUE").CATALOGUE
    entries = catalogue.values() if isinstance(catalogue, Mapping) else catalogue
    text = MADE + EVENTS
    rows = ((f"`{e.name}`", e.level, e.sentence, e.says) for e in entries)
    return text + table(("event", "level", "on the console", "what it means"), rows)


EVENTS: Final = """
# Events

Each event has a name that never changes, a level, a sentence for the console, and fields; every
one carries `because`. The level is by what a viewer feels: `error` off air, `warning` a leg lost
but still on air or coming back, `info` what somebody may ask about tomorrow, `debug` each step.

"""


def faults_page() -> str:
    """Return docs/reference/faults.md: everything that can be broken on purpose."""
    catalogue = part("hitless.lab.faults", "CATALOGUE").CATALOGUE
    faults = catalogue.values() if isinstance(catalogue, Mapping) else catalogue
    text = MADE + FAULTS
    rows = (
        (f"`{fault.name}`", fault.place, ", ".join(map(number, fault.parameters)), fault.says)
        for fault in faults
    )
    return text + table(("fault", "where", "numbers", "what happens"), rows)


FAULTS: Final = """
# Faults

What `hitless lab break NAME FAULT` can do, and `hitless lab heal NAME` undoes. Nothing needs root:
a fault is injected in the stand-in, by a signal to its process, in the relay between a client and
the stand-ins, or in the front before the server. The relay stands between the publisher and
everything it talks to; `hitless lab break '*' cut-off` is its own network going down.

"""


def number(one: Any) -> str:
    """Return a fault's number in words."""
    unit = f" {one.unit}" if one.unit else ""
    return f"{one.name} = {one.default:g} ({one.low:g} to {one.high:g}){unit}"


def drills_page() -> str:
    """Return docs/reference/drills.md: every failure that is rehearsed."""
    part("hitless.lab.drills")  # fills the catalogue
    catalogue = part("hitless.lab.drill", "CATALOGUE").CATALOGUE
    rows = (
        (f"`{drill.name}`", drill.happens, drill.holds, f"{drill.gap_s_max:g}")
        for drill in catalogue.values()
    )
    head = ("drill", "what happens", "what must hold", "longest gap [s]")
    return MADE + DRILLS + table(head, rows)


DRILLS: Final = """
# Drills

What `hitless drill NAME` rehearses, on real media: publisher, viewer and stand-ins are processes
of their own on this machine, and the gap comes from the numbers in the picture that the viewer
decodes. A drill passes when what must hold did, and no measured gap was longer than the last
column says.

"""


# --- From a recorded run ---


def timeline() -> str:
    """Return docs/timeline.svg: who carried the stream of the recorded run when."""
    picture: str = beside("timeline").draw(DOCS / "incident")
    return picture


def why() -> str:
    """Return what `hitless why` tells of the recorded run."""
    words = ["why", "morning-show", "--record"]
    record = "incident/publisher.jsonl"
    told = CliRunner().invoke(part("hitless.cli").cli, [*words, str(DOCS / record)])
    if told.exception is not None:
        raise told.exception
    shown = " ".join(["hitless", *words, f"docs/{record}"])
    return f"```console\n$ .venv/bin/{shown}\n{told.output}```\n"


def tutorial_page() -> str:
    """Return docs/tutorial.md with what `hitless why` tells put in anew."""
    return with_inserts("tutorial.md", {"why": why}, made="made")


# --- How it decides: diagrams between markers ---


def how_it_decides_page() -> str:
    """Return docs/how-it-decides.md with its diagrams drawn anew."""
    return with_inserts("how-it-decides.md", DIAGRAMS, made="drawn")


def with_inserts(name: str, inserts: Mapping[str, Callable[[], str]], *, made: str) -> str:
    """Return a page with what stands between its markers made anew."""
    page = DOCS / name
    if not page.exists():
        raise MissingPart("no page to draw in yet")
    text = page.read_text(encoding="utf-8")
    for name, draw in inserts.items():
        begin, end = f"<!-- {name}: {made} by docs/make.py -->", f"<!-- {name}: end -->"
        if begin not in text or end not in text:
            raise SystemExit(f"docs/make.py: {page.name} lacks the markers of {name}")
        before, rest = text.split(begin, 1)
        after = rest.split(end, 1)[1]
        text = f"{before}{begin}\n{draw()}{end}{after}"
    return text


def circuit_diagram() -> str:
    """Return the circuit's table as a diagram."""
    table_ = part("hitless.core.circuit", "TRANSITIONS").TRANSITIONS
    return diagram(
        f"{source} --> {target}: {signal}"
        for (source, signal), target in table_.items()
        if source is not target
    )


def phase_diagram() -> str:
    """Return the phases of a stream at one client as a diagram."""
    moves = part("hitless.core.state", "MOVES").MOVES
    return diagram(
        f"{source} --> {target}"
        for source, targets in moves.items()
        for target in sorted(targets)
        if source is not target
    )


def diagram(arrows: Iterable[str]) -> str:
    """Return a state diagram in Mermaid."""
    lines = "".join(f"    {arrow}\n" for arrow in arrows)
    return f"```mermaid\nstateDiagram-v2\n{lines}```\n"


DIAGRAMS: Final[Mapping[str, Callable[[], str]]] = {
    "circuit": circuit_diagram,
    "phases": phase_diagram,
}


# --- Reference: providers ---


def providers_page() -> str:
    """Return docs/reference/providers.md: the record of every adapter that brings one."""
    records = part("hitless.providers.record", "record_of")
    names = part("hitless.providers", "installed").installed()
    known = {name: record for name in names if (record := records.record_of(name)) is not None}
    return f"{MADE}\n{beside('records').record_page(known)}"


# --- Reference: the library ---


def api_page() -> str:
    """Return docs/reference/api.md: what `hitless` exports, by its docstrings."""
    hitless = part("hitless", "__all__")
    blocks = [MADE, "# Library\n"]
    for name in hitless.__all__:
        blocks += described(name, getattr(hitless, name), 2)
    return "\n".join(blocks)


def described(name: str, thing: Any, level: int) -> Iterator[str]:
    """Yield the headings and texts of a class with its methods, a function or a value."""
    yield f"{'#' * level} `{name}`\n"
    if words := signature(thing):
        yield f"```python\n{name}{words}\n```\n"
    if docstring := inspect.getdoc(thing):
        yield f"```text\n{docstring}\n```\n"
    if inspect.isclass(thing) and issubclass(thing, Enum):
        yield "One of " + ", ".join(f"`{word.value}`" for word in thing) + ".\n"
    elif inspect.isclass(thing):
        for inner, member in vars(thing).items():
            is_shown = callable(member) or isinstance(member, property | classmethod)
            if is_shown and not inner.startswith("_") and inspect.getdoc(member):
                yield from described(f"{name}.{inner}", getattr(thing, inner), level + 1)


def signature(thing: Any) -> str:
    """Return `(arguments) -> result`, or nothing where it says nothing."""
    if inspect.isclass(thing) and issubclass(thing, BaseException | Enum):
        return ""  # and the signature of an enum differs between versions of Python
    try:
        found = inspect.signature(thing)
    except (ValueError, TypeError):
        return ""
    arguments = list(written_arguments(found))
    result = found.return_annotation
    arrow = "" if inspect.isclass(thing) or result is found.empty else f" -> {plain(result)}"
    text = f"({', '.join(arguments)}){arrow}"
    return (
        text if len(text) <= WIDTH - 20 else "(\n    " + ",\n    ".join(arguments) + f",\n){arrow}"
    )


def written_arguments(found: inspect.Signature) -> Iterator[str]:
    """Yield each argument as it is written in code, the same in every version of Python."""
    marks: dict[object, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    has_star = False
    for name, one in found.parameters.items():
        if name == "self":
            continue
        has_star |= one.kind is one.VAR_POSITIONAL
        if one.kind is one.KEYWORD_ONLY and not has_star:
            has_star = True
            yield "*"
        hint = "" if one.annotation is one.empty else f": {plain(one.annotation)}"
        default = "" if one.default is one.empty else f" = {plain_default(one.default)}"
        yield f"{marks.get(one.kind, '')}{name}{hint}{default}"


def plain(hint: Any) -> str:
    """Return a type as it is written."""
    return hint if isinstance(hint, str) else inspect.formatannotation(hint)


def plain_default(value: Any) -> str:
    """Return a default as it is written; a function has no words."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    return "..." if callable(value) or " at 0x" in repr(value) else repr(value)


# --- All of them ---


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/cli.md": cli_page,
    "reference/configuration.md": configuration_page,
    "reference/api.md": api_page,
    "reference/faults.md": faults_page,
    "reference/drills.md": drills_page,
    "reference/providers.md": providers_page,
    "events.md": events_page,
    "how-it-decides.md": how_it_decides_page,
    "tutorial.md": tutorial_page,
    "timeline.svg": timeline,
}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def main(words: Sequence[str]) -> int:
    """Write the pages, or with `--check` name the stale ones; return the exit status."""
    stale = []
    for name, make in PAGES.items():
        page = DOCS / name
        try:
            text = make()
        except (MissingPart, ModuleNotFoundError) as missing:
            if isinstance(missing, ModuleNotFoundError) and not is_ours(missing):
                raise
            tell(f"skipped: docs/{name}: {missing}")
            continue
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in words:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
    for name in stale:
        tell(f"{'stale: run make docs' if '--check' in words else 'written'}: docs/{name}")
    return 1 if stale and "--check" in words else 0


def tell(text: str) -> None:
    """Write one line to standard error."""
    print(f"docs/make.py: {text}", file=sys.stderr)  # noqa: T201 -- its whole job


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
