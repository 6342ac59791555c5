"""Pictures in two versions, dark and light, that GitHub and the built documentation both show.

A page has them as HTML, a ``picture`` with a ``source`` for dark mode, which is what GitHub reads. Readers of the built
documentation can choose dark or light themselves, which a ``source`` would not notice: here both become images, of which
the theme shows the right one. The files are copied beside the page.
"""

import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

PICTURE = re.compile(
    r'<picture>\s*<source [^>]*dark[^>]* srcset="(?P<dark>[^"]+)">\s*'
    r'<img alt="(?P<alt>[^"]+)" src="(?P<light>[^"]+)">\s*</picture>'
)
IMAGES = r'<img class="only-light" alt="\g<alt>" src="\g<light>"><img class="only-dark" alt="\g<alt>" src="\g<dark>">'
copied: set[Path] = set()


def replace(app: Sphinx, doctree: nodes.document) -> None:
    """Put two images in the place of each picture."""
    page = Path(app.env.doc2path(app.env.docname))
    for raw in list(doctree.findall(nodes.raw)):
        source = raw.astext()
        for match in PICTURE.finditer(source):
            copied.update(page.parent / match[name] for name in ("dark", "light"))
        changed = PICTURE.sub(IMAGES, source)
        if changed != source:
            raw.replace_self(nodes.raw("", changed, format="html"))


def copy(app: Sphinx, error: Exception | None) -> None:
    """Copy the files of all pictures; one that isn't there fails the build."""
    if error is None:
        for file in copied:
            target = Path(app.outdir) / file.relative_to(app.srcdir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register both; a page that was read in an earlier build is read again, since what it needs isn't kept."""
    app.connect("doctree-read", replace)
    app.connect("build-finished", copy)
    return {"parallel_read_safe": False, "env_version": 1}
