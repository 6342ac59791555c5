"""How Sphinx builds the documentation: `make docs`."""

import importlib.metadata
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "aqueue"
release = version = importlib.metadata.version("aqueue")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "event_table",
    "error_table",
    "pictures",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"aqueue {release}"
html_show_copyright = False

# In docstrings `name` is any name: a link where the reference has it, code where it has not (a parameter, say).
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_custom_sections = [("Class attributes", "params_style"), ("Parameters", "params_style")]
napoleon_use_ivar = True

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# A reference that leads nowhere is an error. Those to other projects can't be looked up: building needs no network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    ("py:.*", r"(builtins|collections|contextlib|distributed|io|logging|msgspec|os|rich|structlog|typing)\..*"),
    ("py:class", r"aqueue\..*\.[A-Z]"),  # type variables
    ("py:class", r"(EventDict|WrappedLogger)"),  # structlog's names for its own types
]


# Napoleon takes what stands before a colon in the first line about a constant for its type: it gets none to see.
CONSTANTS = ("attribute", "data", "property")
held: dict[str, list[str]] = {}


def hold(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Take a constant's docstring away before napoleon comes."""
    if what in CONSTANTS:
        held[name] = lines[:]
        lines.clear()


def give_back(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Put it back once napoleon has gone."""
    if what in CONSTANTS:
        lines[:] = held.pop(name)


def setup(app: Sphinx) -> None:
    """Connect both, around napoleon's own listener (500)."""
    app.connect("autodoc-process-docstring", hold, priority=400)
    app.connect("autodoc-process-docstring", give_back, priority=600)
