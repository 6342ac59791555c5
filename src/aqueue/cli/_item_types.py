"""The option ``--type``: which types of items a person means by a name."""

import re
from collections.abc import Collection, Sequence
from contextlib import closing
from itertools import islice
from typing import Final

import click
from click.shell_completion import CompletionItem

from aqueue._history.opening import STANDARD_INPUT, open_history
from aqueue.cli._app import matches_type
from aqueue.errors import AqueueError
from aqueue.events import ItemEnqueued
from aqueue.text import short_names, visible

__all__ = ["item_types", "type_option", "unknown_types"]

_MAX_NAMED: Final = 20
_CLASS_NAME: Final = re.compile(r"[\w.:]{1,200}", re.ASCII)


def _complete_types(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the item types in the file that was named, as far as its beginning tells."""
    # Before an option that has no value yet, click leaves the arguments as they are.
    file = ctx.params.get("file") or next(iter(ctx.args), None)
    if not file or file == STANDARD_INPUT:
        return []
    try:
        with closing(open_history(str(file))) as history:
            types = {event.type for event in history.read() or () if isinstance(event, ItemEnqueued)}
    except (AqueueError, OSError):
        return []
    # The shell puts what is offered on its command line as it is: only what is surely a class's name may get there.
    names = [name for name in short_names(types).values() if _CLASS_NAME.fullmatch(name)]
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


type_option = click.option(
    "--type",
    "types",
    metavar="TYPE",
    multiple=True,
    shell_complete=_complete_types,
    help="Only items of this type: a class, with or without its module. May be given several times.",
)
"""Which types of items."""


def item_types(wanted: Sequence[str], known: Sequence[str]) -> frozenset[int] | None:
    """Return the indexes of those of the `known` types that a person means; None for all.

    Raises:
        click.UsageError: there is none of that name.
    """
    if not wanted:
        return None
    if error := unknown_types(wanted, known):
        raise error
    return frozenset(index for index, type in enumerate(known) if any(matches_type(name, type) for name in wanted))


def unknown_types(wanted: Sequence[str], known: Collection[str]) -> click.UsageError | None:
    """Return what is wrong with the types that a person named; None if each means some of the `known` ones.

    It is to be raised, or only said where such items may still come.
    """
    unknown = [name for name in wanted if not any(matches_type(name, type) for type in known)]
    if not unknown:
        return None
    named = " or ".join(repr(visible(name, 100)) for name in unknown)
    shown = ", ".join(visible(type, 100) for type in islice(known, _MAX_NAMED)) or "no items at all"
    more = ", …" if len(known) > _MAX_NAMED else ""
    return click.UsageError(f"--type: there are no items of a type {named}; there are {shown}{more}")
