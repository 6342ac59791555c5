"""How Sphinx builds the documentation: `make docs`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "aqueue"
copyright = "the aqueue authors, under the MIT license"  # noqa: A001  # Sphinx looks for this name
release = version = importlib.metadata.version("aqueue")

extensions = ["myst_parser", "sphinx_copybutton", "pictures", "search_words", "toctrees"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"aqueue {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

# What a copy button copies of a `console` block: neither its prompts nor its output. Output alone gets no button.
copybutton_exclude = ".linenos, .gp, .go"
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"

myst_heading_anchors = 6  # each name in the reference is a heading, of whatever level
# Admonitions: `> [!WARNING]`, which forges show as such, too, and `:::{warning}`, which they don't.
myst_enable_extensions = ["alert", "colon_fence"]
