"""Puts the page together: its parts, its data and its scripts in one file that needs nothing else."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import Final

from aqueue.cli._report import _figures, _sections
from aqueue.cli._report._chart_data import chart_data
from aqueue.cli._report._fold import Fold
from aqueue.cli._report._html import Html, as_json, text, time

__all__ = ["page"]

_TABLE_BINS: Final = 40
_SCRIPTS: Final = ("timeline.js", "tree.js", "page.js")


def page(fold: Fold, *, source: str, now: float, notes: Sequence[str]) -> str:
    """Return the page of a run; `fold` must have been ended.

    Parameters:
        fold: the run.
        source: the name of the file that it was read from.
        now: when the page is made, Unix time in seconds.
        notes: sentences that a reader must know first.
    """
    folder = files("aqueue.cli._report")
    style = (folder / "page.css").read_text("utf-8")
    script = "\n".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
    library = (folder / "vendor" / "echarts.min.js").read_text("utf-8")
    bins = fold.series.bins(fold.elapsed_s)
    cells = fold.tree.cells(fold.failed)
    failed = bool(fold.failed.count)
    parts = {
        "policy": _policy([library, script], style),
        "source": text(source, 300),
        "headline": _sections.headline(fold),
        "made": time(now),
        "notes": _sections.notes(fold, notes),
        "summary": _sections.summary(fold),
        "failures": _sections.failures(fold),
        "failures_class": Html("bad" if failed else ""),
        "over_time": _figures.over_time(fold, bins, fold.series.bins(fold.elapsed_s, _TABLE_BINS)),
        "timeline": _figures.timeline(fold),
        "durations": _figures.durations(fold),
        "slowest": _sections.slowest(fold),
        "tree": _figures.tree(fold, cells),
        "data": as_json(chart_data(fold, bins, cells)),
        "style": Html(style),
        "library": Html(library),
        "script": Html(script),
    }
    template = Template((folder / "page.html").read_text("utf-8"))
    return template.substitute({name: text(part) for name, part in parts.items()})


def _policy(scripts: Sequence[str], style: str) -> Html:
    """Return a content security policy under which nothing but these scripts and this style runs or loads."""
    script_hashes = " ".join(map(_hash, scripts))
    return Html(
        f"default-src 'none'; script-src {script_hashes}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(inline: str) -> str:
    return f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"
