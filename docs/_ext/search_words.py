"""What the search of the built site finds, beyond what stands on the pages.

Sphinx ranks a page with a word in its text the same whether the page is about it or only mentions it. The pages that
docs/search.toml names for a word therefore get it as a main entry of the index, which the search shows first.
"""

import tomllib
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

PAGES: dict[str, list[str]] = tomllib.loads(Path(__file__).parents[1].joinpath("search.toml").read_text())["pages"]

# Long, and about the insides: it would be among the first results for everything.
NOT_SEARCHED = {"explanation/architecture"}


def add_words(app: Sphinx, doctree: nodes.document) -> None:
    """Add a page's words to the index, or take the page out of the search."""
    page = app.env.docname
    if page in NOT_SEARCHED:
        app.env.metadata[page]["nosearch"] = "true"
    entries = [("single", word, "", "main", None) for word in PAGES.get(page, ())]
    if entries:
        doctree.insert(0, addnodes.index(entries=entries))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Do so for each page that is read."""
    app.connect("doctree-read", add_words)
    return {"parallel_read_safe": True, "env_version": 1}
