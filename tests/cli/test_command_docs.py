"""The page about the command leaves no subcommand and no option out, and names none that isn't there."""

import re
from pathlib import Path

import click
import pytest

from aqueue.cli._app import app

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "command.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """Return what the page says of a subcommand."""
    found = re.search(rf"^## aqueue {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


@pytest.mark.parametrize("name", list(app.commands))
def test_each_option_is_in_the_docs(name: str) -> None:
    """The section of each subcommand has a row for each option, by all its names."""
    text = section(name)
    assert text, f"docs/reference/command.md has no section for aqueue {name}"
    rows = [re.findall(r"--?[a-z][a-z-]*", row) for row in re.findall(r"^\| (`-[^|]*)\|", text, re.MULTILINE)]
    documented = {option for row in rows for option in row}
    options = [one for one in app.commands[name].params if isinstance(one, click.Option) and not one.hidden]
    assert documented == {text for option in options for text in option.opts}


def test_no_section_is_about_a_subcommand_that_is_not_there() -> None:
    """What the page describes can be called."""
    assert set(re.findall(r"^## aqueue (\w+)$", PAGE, re.MULTILINE)) == set(app.commands)


def test_the_beginning_of_the_page_names_each_subcommand() -> None:
    """Whoever reads only the beginning knows what there is."""
    head = PAGE.partition("## What it reads")[0]
    assert set(re.findall(r"^aqueue (\w+) ", head, re.MULTILINE)) == set(app.commands) - {"completion"}


@pytest.mark.parametrize("name", list(app.commands))
def test_each_choice_of_an_option_is_in_the_docs(name: str) -> None:
    """The words that an option takes are on the page."""
    text = section(name)
    for option in app.commands[name].params:
        if isinstance(option.type, click.Choice) and not getattr(option, "hidden", False):
            missing = [
                choice for choice in option.type.choices if f"`{choice}`" not in text and f" {choice} " not in text
            ]
            assert missing == []
