"""Warns of class attributes that look like a misspelt attribute that aqueue reads, and would silently do nothing."""

import inspect
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from difflib import get_close_matches
from functools import cached_property, partialmethod
from types import CodeType
from typing import Final
from weakref import WeakSet

from aqueue._codec.annotations import annotated_names
from aqueue._codec.class_names import type_name
from aqueue._system.notice import warn
from aqueue.item import Item
from aqueue.limits import Limit
from aqueue.retry import Retry
from aqueue.text import visible

__all__ = ["warn_of_misspelt"]

_MISTAKABLE: Final[dict[str, tuple[str, tuple[type, ...], tuple[str, ...]]]] = {
    "timeout_s": (", in seconds", (int, float, timedelta), ("timeout", "timeout_seconds", "time_limit")),
    "retry": (
        ", such as Retry(attempts=3)",
        (int, bool, Retry),
        ("retries", "max_retries", "num_retries", "retry_policy", "attempts", "max_attempts"),
    ),
    "group": ("", (str,), ("grp",)),
    "key": ("", (str,), ("keys",)),
    "track_overall": ("", (bool,), ()),
    "after_children_rule": ("", (str,), ()),
    "previous_names": ("", (str, tuple, list, set, frozenset), ()),
    "run_queue(limits=…)": (", by the items' group", (int, float, dict, Limit), ("limit", "limits", "rate_limit")),
}
"""What aqueue reads: more about it, the types of what is meant for it, and other words that people have for it."""

_ALIKE: Final = 0.86
"""How like one of them another name must be, from 0 to 1; entry is 0.8 like retry, key2 0.857 like key."""

_looked_at: Final[WeakSet[type]] = WeakSet()


def warn_of_misspelt(cls: type) -> None:
    """Warn, once per class, of attributes in its body that look misspelt.

    An attribute that the class's own code uses, that is annotated (a field, for example), that begins with an underscore, or
    that is in capitals is the user's own.
    """
    if cls in _looked_at:
        return
    _looked_at.add(cls)
    misspelt = {name: meant for name, value in vars(cls).items() if (meant := _meant_by(name, value)) not in ("", name)}
    if not misspelt:
        return
    bases = [base for base in cls.__mro__ if base is not Item]
    own = {*annotated_names(cls), *(name for base in bases for name in _named_in_code(base))}
    for name, meant in misspelt.items():
        if name not in own and not any(meant in vars(base) for base in bases):
            warn(
                f"{type_name(cls)}.{visible(name, 100)} has no effect; did you mean {meant}{_MISTAKABLE[meant][0]}? If it is "
                "your own, annotate it with ClassVar, or start its name with an underscore"
            )


def _meant_by(name: str, value: object) -> str:
    """Return which of aqueue's attributes `name` is meant to be, judging by name and value; empty for none."""
    if name.startswith("_") or name.isupper():
        return ""
    of_its_kind = {
        meant: words for meant, (_, kinds, words) in _MISTAKABLE.items() if any(type(value) is kind for kind in kinds)
    }
    for meant, words in of_its_kind.items():
        if name in words:
            return meant
    return next(iter(get_close_matches(name, of_its_kind, 1, _ALIKE)), "")


def _named_in_code(cls: type) -> Iterator[str]:
    """Yield the names and strings that the functions in the body of `cls` use."""
    codes: list[object] = []
    for value in vars(cls).values():
        with suppress(Exception):  # not a function, or the user's code raised
            if isinstance(value, property):
                value = value.fget
            elif isinstance(value, cached_property | partialmethod):
                value = value.func
            codes.append(inspect.unwrap(value).__code__)
    for code in codes:  # grows in the loop: inner functions are constants of the outer
        if isinstance(code, CodeType):
            yield from code.co_names
            codes += code.co_consts
        elif isinstance(code, str):
            yield code
