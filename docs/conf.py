"""How Sphinx builds the documentation: `make docs`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "aqueue"
release = version = importlib.metadata.version("aqueue")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "event_table",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"aqueue {release}"

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
    ("py:.*", r"(builtins|collections|contextlib|io|logging|msgspec|os|rich|structlog|typing)\..*"),
    ("py:class", r"aqueue\..*\.[A-Z]"),  # type variables
    ("py:class", r"(EventDict|WrappedLogger)"),  # structlog's names for its own types
]
