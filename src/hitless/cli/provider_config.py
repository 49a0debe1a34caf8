"""What `--config KEY=VALUE` means, by what the adapter and the server take."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Final

from ..client.keys import Given, read_option
from ..errors import ConfigError
from ..providers import load


_OF_SERVER: Final = frozenset({"region", "fault_domain"})
"""Options that the server reads, and takes as text only (`server/server_options.py`, which cannot
be asked here: operators need not have the server's packages)."""


def option_of(adapter: str, key: str, text: str) -> object:
    """
    Return an option of a provider as its adapter takes it: text stays text, `app_id=0123` too.

    Of an adapter that cannot be loaded here, what looks like a number is one.

    Args:
        adapter: Which adapter speaks to the provider.
        key: The option.
        text: What was written.

    Raises:
        ConfigError: A bad URL, or a time or rate that is none.
    """
    value = read_option(key, Given(value=text, origin="--config", is_text=True))
    return value if isinstance(value, str) or not _is_text(adapter, key) else text


def _is_text(adapter: str, key: str) -> bool:
    """Whether an option can be text only, or nothing."""
    if key in _OF_SERVER:
        return True
    try:
        factory = load(adapter)
        hint = typing.get_type_hints(
            factory.__init__ if inspect.isclass(factory) else factory
        ).get(key)
    except (AttributeError, ConfigError, ImportError, NameError, TypeError):
        return False  # it is not installed here, or does not say: the server checks
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = typing.get_args(hint) if is_union else (hint,)
    return str in members and {str, types.NoneType}.issuperset(members)
