"""The options that select items: the same for the list of items and for the commands on items."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from aqueue._folds.item_table import OUTSTANDING, STATES
from aqueue._history.selecting import Selector
from aqueue.cli._app import WholeNumber
from aqueue.cli._item_types import type_option

__all__ = ["selector_options"]


def _not_empty(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("it is empty; leave the option out, or give some text", ctx, param)
    return value


_OPTIONS = (
    click.argument("numbers", metavar="[ITEM]...", nargs=-1, type=WholeNumber(1)),
    type_option,
    click.option(
        "--state",
        "states",
        metavar="STATE",
        type=click.Choice((*STATES, "outstanding")),
        multiple=True,
        help=f"Only items in this state: {', '.join(STATES)}, or outstanding, which is the first four. Repeatable.",
    ),
    click.option(
        "--group",
        "groups",
        metavar="GROUP",
        multiple=True,
        help="Only items that wait in this group, or waited there last. Repeatable.",
    ),
    click.option(
        "--error",
        metavar="GLOB",
        callback=_not_empty,
        help="Only items that failed, or wait to be retried, with an error of this class, with or without its module; "
        "'HTTP*' for all classes that begin so.",
    ),
    click.option(
        "--text",
        metavar="TEXT",
        callback=_not_empty,
        help="Only items with this text in their description, their key or the message of their error.",
    ),
    click.option(
        "--key", metavar="GLOB", callback=_not_empty, help="Only items with a key like this: 'https://example.org/*'."
    ),
    click.option(
        "--subtree", metavar="ITEM", type=WholeNumber(1), help="Only this item, by its number, and everything below it."
    ),
)


def selector_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments and options that select items; the function gets `selector`, empty if none is given."""

    @wraps(function)
    def selecting(*arguments: Any, numbers: tuple[int, ...], states: tuple[str, ...], **named: Any) -> None:
        fields = {name: named.pop(name) for name in ("types", "groups", "error", "text", "key", "subtree")}
        wanted = [one for one in STATES if one in states or ("outstanding" in states and one in OUTSTANDING)]
        function(*arguments, selector=Selector(items=numbers, states=wanted, **fields), **named)

    for option in reversed(_OPTIONS):
        selecting = option(selecting)
    return selecting
