"""The lists of pages, as comments that a forge doesn't show: ``<!-- toctree``, one page per line, ``-->``."""

import re

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

COMMENT = re.compile(r"^<!-- toctree\n(.*?)^-->", re.DOTALL | re.MULTILINE)


def show(app: Sphinx, page: str, source: list[str]) -> None:
    """Make each list the directive that it stands for."""
    source[0] = COMMENT.sub(r"```{toctree}\n:hidden:\n\n\1```", source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Do so for each page that is read."""
    app.connect("source-read", show)
    return {"parallel_read_safe": True, "env_version": 1}
