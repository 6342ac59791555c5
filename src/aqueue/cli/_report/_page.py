"""Puts the page together: its parts, its data and its scripts in one file that needs nothing else."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import Final

from aqueue._history.record import Record
from aqueue._page.html import Html, as_json, text, time
from aqueue._page.over_time import End, Fold
from aqueue.cli._report import _charts, _sections

__all__ = ["page"]

_SCRIPTS: Final = ("timeline.js", "tree.js", "page.js")
_ENDS: Final[dict[str | None, End]] = {"alive": "running", "gone": "crashed"}


def page(record: Record, fold: Fold, *, source: str, now: float, notes: Sequence[str] = ()) -> str:
    """Return the page of a run.

    Parameters:
        record: the run.
        fold: the same events, folded; it is ended here.
        source: the name of the file that it was read from.
        now: when the page is made, Unix time in seconds. Attempts that still run are drawn until then.
        notes: sentences that a reader must know first, such as that lines could not be read.
    """
    fold.end(now, _ENDS.get(record.state.liveness, "unknown"))
    folder = files("aqueue.cli._report")
    style = (folder / "page.css").read_text("utf-8")
    script = "\n".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
    library = (folder / "vendor" / "echarts.min.js").read_text("utf-8")
    bins = fold.series.bins(fold.elapsed_s)
    cells = _charts.tree_cells(record, fold)
    parts = {
        "policy": _policy([library, script], style),
        "source": text(source, 300),
        "headline": _sections.headline(record, fold),
        "made": time(now),
        "notes": _sections.notes(record, fold, notes),
        "summary": _sections.summary(record, fold),
        "failures": _sections.failures(record),
        "failures_class": Html("bad" if record.view.counts.failed else ""),
        "limits": _sections.limits(record),
        "over_time": _charts.over_time(record, fold, bins),
        "timeline": _charts.timeline(fold),
        "durations": _charts.durations(fold),
        "slowest": _sections.slowest(record),
        "tree": _charts.tree(record, cells),
        "data": as_json(_charts.chart_data(record, fold, bins, cells)),
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
