"""Puts the page together: its views, its data and its scripts in one file that needs nothing else."""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Final

from aqueue._page.failures import failures_layout, failures_parts
from aqueue._page.frame import Parts, frame_parts, whole_page, zone
from aqueue._page.html import Html, as_json, joined
from aqueue._page.moment import Asked
from aqueue._page.now import now_layout, now_parts
from aqueue.cli._report import _charts, _sections
from aqueue.cli._report._frozen_run import FrozenRun
from aqueue.figures import amount, local_minute

__all__ = ["page"]

_SECTIONS: Final = {
    "why": "Summary",
    "failed": "Failures",
    "busy": "Workers",
    "durations": "Durations",
    "tree": "Tree",
    "facts": "Facts",
}
"""Where the tabs lead: ids and titles."""

_VIEWS: Final = {"./": "why", "failures": "failed"}
"""Where the views of the page are in the report, by their address."""

_LINK: Final = re.compile(r'(<p>)?<a\b[^>]*? href="([^"#][^"]*|)"[^>]*>((?:(?!</a>).)*)</a>(?(1)</p>)', re.DOTALL)
"""A link that leads to another view. Text from a run can't be one: in HTML it is escaped."""


def page(run: FrozenRun) -> str:
    """Return the page of a run as one file."""
    folder, static = files("aqueue.cli._report"), files("aqueue._page") / "static"
    style = "".join((place / "page.css").read_text("utf-8") for place in (static, folder))
    scripts = (static / "reader.js", *(folder / name for name in ("timeline.js", "tree.js", "page.js")))
    script = "\n".join(one.read_text("utf-8") for one in scripts)
    library = (folder / "vendor" / "echarts.min.js").read_text("utf-8")
    cells = _charts.tree_cells(run.record, run.over_time)
    data = as_json(_charts.chart_data(run.over_time, cells))
    views = [
        # The kinds of failures are right below, in full.
        now_layout(now_parts(run) | {"kinds": Html("")}),
        failures_layout(failures_parts(run)),
    ]
    main = joined(
        [
            _within(joined(views)),
            *([_charts.concurrency(run.over_time)] if run.over_time.elapsed_s > 0 else []),
            *(
                [_charts.timeline(run.over_time), _charts.durations(run.over_time)]
                if run.over_time.timeline.totals
                else []
            ),
            *([_sections.slowest(run.record), _charts.tree(run.record, cells)] if len(run.record.items) else []),
            *([_sections.processes(run.over_time)] if run.over_time.num_processes > 1 else []),
            _sections.facts(run),
        ]
    )
    parts: Parts = frame_parts(run, Asked("now")) | {
        "head": Html(f"{_policy([library, script], style)}\n<style>{style}</style>"),
        "tabs": _tabs(run, main),
        "access": Html(f'<span id="access" class="end tag">Made {local_minute(run.now, 0.0)} {zone()}</span>'),
        "notices": Html(
            '<noscript><p class="note">The charts of workers, durations and the tree need JavaScript; the tables below them have '
            "the same data.</p></noscript>"
        ),
        **dict.fromkeys(("banner", "live", "dock", "said"), Html("")),
        "end": Html(
            '<footer class="wrap">Made by aqueue. Charts by Apache ECharts.</footer>\n'
            f'<script type="application/json" id="data">{data}</script>\n'
            f'<script>{library}</script>\n<script type="module">{script}</script>'
        ),
    }
    return whole_page(parts, main, name=run.name, view="report", title="an aqueue run")


def _tabs(run: FrozenRun, main: Html) -> Html:
    """Return links to the sections that are there, in place of those to the views."""
    failed = run.view.counts.failed
    badges = {"failed": f' <b class="bad">✗ {amount(failed)}</b>' if failed else ""}
    links = "".join(
        f'<a href="#{name}">{title}{badges.get(name, "")}</a>'
        for name, title in _SECTIONS.items()
        if f'id="{name}"' in main
    )
    return Html(f'<nav id="tabs" class="tabs" aria-label="Sections">{links}</nav>')


def _within(views: Html) -> Html:
    """Let links to other views lead to them within the report; of those to what it doesn't have, only the words remain.

    One that is a paragraph of its own is left out: it says no more than what is there to see.
    """

    def link(found: re.Match[str]) -> str:
        paragraph, address, words = found.groups()
        view, _, place = address.partition("#")
        place = place or _VIEWS.get(view.partition("?")[0], "")
        if place:
            return found[0].replace(f'href="{address}"', f'href="#{place}"', 1)
        return "" if paragraph else words

    return Html(_LINK.sub(link, views))


def _policy(scripts: Sequence[str], style: str) -> Html:
    """Return a content security policy under which nothing but these scripts and this style runs or loads."""
    script_hashes = " ".join(map(_hash, scripts))
    return Html(
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; script-src {script_hashes}; '
        f"style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="referrer" content="no-referrer">\n<meta name="generator" content="aqueue">'
    )


def _hash(inline: str) -> str:
    return f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"
