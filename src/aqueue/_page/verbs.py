"""The buttons with which a person steers a run from the page. They need its script, which shows them."""

import html
import json
from collections.abc import Iterable
from typing import Final

import msgspec

from aqueue._page.commands import OnItems, Request
from aqueue._page.html import Html, joined, text
from aqueue._page.pictures import icon

__all__ = ["fields", "on_items", "verb"]


def verb(
    name: str, request: Request, words: Html | str, *, asks: bool = False, css_class: str = "", title: str = ""
) -> Html:
    """Return a button.

    Parameters:
        name: what it does: a verb of `commands`.
        request: to what.
        words: what it says.
        asks: whether it opens a dialog first, which the server renders.
        css_class: of which class it is, besides.
        title: what it says to who doesn't see what is around it; by default `words`.
    """
    label = f' aria-label="{text(title, 300)}"' if title else ""
    return Html(
        f'<button type="button" class="verb{css_class and " "}{css_class}"{" data-asks" * asks} {fields(name, request)}{label}>'
        f"{text(words, 200)}</button>"
    )


_ON_ITEMS: Final = {"retry": "again", "skip": "skip", "cancel": "cross"}
"""The verbs for items, each with its icon."""


def on_items(request: OnItems, names: Iterable[str], which: str, title: str) -> Html:
    """Return the buttons for what a person can do to some items, each of which opens a dialog.

    Parameters:
        request: which items.
        names: the verbs.
        which: how many they are, or which, in a word; safe to show.
        title: the same to who doesn't see what is around the buttons.
    """
    buttons = [
        verb(name, request, Html(f"{icon(_ON_ITEMS[name])} {name.capitalize()}{which and ' '}{which}…"), asks=True,
             title=f"{name.capitalize()} {title}")
        for name in names
    ]  # fmt: skip
    return Html(f'<p class="verbs">{joined(buttons)}</p>')


def fields(name: str, request: Request) -> Html:
    """Return the attributes of an element with which a command is given: its verb and its request, in plain ASCII."""
    body = json.dumps(msgspec.to_builtins(request))
    return Html(f'data-verb="{name}" data-body="{html.escape(body)}"')
