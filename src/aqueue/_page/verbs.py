"""The buttons with which a person steers a run from the page. They need its script, which shows them."""

import html
import json

import msgspec

from aqueue._page.commands import Request
from aqueue._page.html import Html, text

__all__ = ["fields", "verb"]


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


def fields(name: str, request: Request) -> Html:
    """Return the attributes of an element with which a command is given: its verb and its request, in plain ASCII."""
    body = json.dumps(msgspec.to_builtins(request))
    return Html(f'data-verb="{name}" data-body="{html.escape(body)}"')
