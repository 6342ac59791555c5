"""The option ``--type``: finds the item types that a name stands for."""

import re
from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Final

import click
from click.shell_completion import CompletionItem

from aqueue._history import selecting
from aqueue._history.opening import STANDARD_INPUT, open_history
from aqueue._history.selecting import matches_type
from aqueue.errors import AqueueError
from aqueue.events import ItemEnqueued
from aqueue.text import short_names

__all__ = ["item_types", "type_option", "unknown_types"]

_CLASS_NAME: Final = re.compile(r"[\w.:]{1,200}", re.ASCII)


def _complete_types(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the item types at the beginning of the file on the command line."""
    # While an option on the command line still lacks its value, click has not parsed the arguments.
    file = ctx.params.get("file") or next(iter(ctx.args), None)
    if not file or file == STANDARD_INPUT:
        return []
    try:
        with closing(open_history(str(file))) as history:
            types = {event.type for event in history.read() or () if isinstance(event, ItemEnqueued)}
    except (AqueueError, OSError):
        return []
    # The shell puts an offer on its command line as it is: so offer only plain class names.
    names = [name for name in short_names(types).values() if _CLASS_NAME.fullmatch(name)]
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


type_option = click.option(
    "--type",
    "types",
    metavar="TYPE",
    multiple=True,
    shell_complete=_complete_types,
    help="Only items of this type: a class name, with or without its module. Repeatable.",
)
"""Which types of items."""


def item_types(wanted: Sequence[str], types: Sequence[str], known: Collection[str]) -> frozenset[int] | None:
    """Return the indexes of those of `types` that have one of the `wanted` names; None for all.

    Parameters:
        wanted: names, as a person gave them.
        types: some item types.
        known: all item types of the run.

    Raises:
        click.UsageError: there is none of that name.
    """
    if not wanted:
        return None
    if error := unknown_types(wanted, known):
        raise error
    return frozenset(index for index, type in enumerate(types) if any(matches_type(name, type) for name in wanted))


def unknown_types(wanted: Sequence[str], known: Collection[str]) -> click.UsageError | None:
    """Return the usage error for names that stand for none of the `known` types; None if each stands for some.

    Raise it, or only print its message where such items may still come.
    """
    why = selecting.unknown_types(wanted, known)
    return click.UsageError(f"--type: {why}") if why else None
