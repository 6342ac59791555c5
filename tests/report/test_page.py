"""The report: whole in one file, safe whatever the run's texts say, bounded, and readable without its script.

`cli._report._page` makes it of a `cli._report._frozen_run` and of the views of the page, into which text gets by `_page.html`
alone.
"""

import json
import re
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec import Raw
from msgspec.structs import replace

from aqueue._history.process import Liveness
from aqueue._page.html import Html, as_json, lines, table, text
from aqueue.cli._report._page import _within
from aqueue.events import ErrorInfo, Event, GroupPaused, ItemCompleted, ItemEnqueued
from aqueue.testing._scripted_runs import (
    Script,
    completed,
    every_event_type,
    on_a_cluster,
    resumed,
    saying,
    with_failures,
)
from tests.report.runs import HOSTILE, TRACEBACK, large, of_everything, render
from tests.strategies import event_streams, hostile_text

NOW = 1_700_100_000.0
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and its text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == [], "each element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts[-1] += data
        elif inside == "style":
            self.styles.append(data)
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of that name."""
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(events: Sequence[Event], **options: Any) -> Page:
    """Return the page of a run, as a browser reads it."""
    return Page(render([events], **{"source": "run.db", "now": NOW, **options}))


@pytest.fixture(scope="module")
def everything() -> Page:
    """Return the page of a run with all that a page can have."""
    events = of_everything()
    return page_of(events, notes=["3 lines could not be read"], now=events[-1].at + 5, liveness="alive")


def policy_of(page: Page) -> dict[str, list[str]]:
    """Return the page's content security policy."""
    (policy,) = [meta["content"] or "" for meta in page.all("meta") if "Content-Security-Policy" in meta.values()]
    return {name: sources for name, *sources in map(str.split, policy.split(";"))}


def test_nothing_but_the_page_itself_may_run_or_load(everything: Page) -> None:
    """The policy forbids everything; but for the page's own scripts and its style, which are named by their hashes."""
    policy = policy_of(everything)

    _, *scripts = everything.scripts  # the first is the data, which doesn't run
    for inline, sources in ((scripts, policy["script-src"]), (everything.styles, policy["style-src"])):
        hashes = {b64decode(source.removeprefix("'sha256-")[:-1]) for source in sources}
        assert hashes == {sha256(text.encode()).digest() for text in inline}
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert set(policy) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert policy["img-src"] == ["data:"]


def test_nothing_is_loaded(everything: Page) -> None:
    """No element names anything outside the page: links lead within it, and the icon is empty data."""
    for tag, attributes in everything.elements:
        for name, value in attributes.items():
            assert name not in {"src", "srcset", "action", "style", "ping"} and not name.startswith("on")
            if name == "href":
                assert value == "data:," if tag == "link" else (value or "").startswith("#")
    assert "url(" not in "".join(everything.styles) and "@import" not in "".join(everything.styles)


def test_links_lead_to_what_is_there(everything: Page) -> None:
    """Each link within the page has its target, and no id is given twice."""
    ids = [attributes["id"] for _, attributes in everything.elements if "id" in attributes]

    assert len(ids) == len(set(ids))
    hrefs = [
        attributes["href"] or "" for tag, attributes in everything.elements if "href" in attributes and tag != "link"
    ]
    assert all(href.startswith("#") for href in hrefs) and {href[1:] for href in hrefs} <= set(ids)
    labels = [attributes["aria-labelledby"] for _, attributes in everything.elements if "aria-labelledby" in attributes]
    assert labels and set(labels) <= set(ids)


@pytest.mark.parametrize("run", [saying(HOSTILE), of_everything(HOSTILE)], ids=["saying", "everything"])
def test_hostile_text_is_only_text(run: list[Event]) -> None:
    """Markup, placeholders and control characters from the run are shown, never acted on."""
    page = page_of(run, source=HOSTILE, notes=[HOSTILE])

    assert not page.all("img")
    assert len(page.scripts) == 3
    assert page.text.count(
        "</script><img src=x onerror=alert(1)>\\u202e\\u2028\\x1b[2J\\x00\"'`&amp;<!--${source}\\ud800"
    )
    assert not set("\u202e\u2028\x1b\x00\ud800") & set(page.text + page.scripts[0])
    assert not set("<>&") & set(page.scripts[0])
    assert json.loads(page.scripts[0])["end"] > 0


@settings(max_examples=30)
@given(event_streams(hostile_text))
def test_no_text_gets_out_of_its_place(events: list[Event]) -> None:
    """Whatever the texts of a run, the page has the same elements as one with harmless texts would have."""
    page = page_of(events)

    assert len(page.scripts) == 3 and len(page.styles) == 1
    known = {
        "html", "head", "meta", "title", "link", "style", "body", "a", "header", "p", "h1", "b", "span", "ul", "li",
        "nav", "main", "section", "h2", "h3", "dl", "div", "dt", "dd", "small", "time", "table", "caption", "em",
        "thead", "tbody", "tr", "th", "td", "article", "ol", "code", "details", "summary", "pre", "figure",
        "figcaption", "i", "button", "label", "select", "option", "footer", "script", "noscript", "svg", "symbol", "use",
        "circle", "path", "rect", "line", "text",
    }  # fmt: skip
    assert {tag for tag, _ in page.elements} <= known
    json.loads(page.scripts[0])


def test_what_a_reader_needs_is_there_without_the_script(everything: Page) -> None:
    """How the run ended, its counts, its failures with their frames, and each chart's data are text on the page."""
    said = " ".join(everything.text.split())

    for sentence in (
        "Running for 1 min 43 s, resumed once",
        "What limits this run",
        "Found670.1/s now, 0.7/s averageCompleted34 51 %",
        "Failed✗ 21 kind, for goodSkipped2by a person",
        "3 lines could not be read.",
        "2 items failed for good, in 1 kind",
        "2 × Page: ConnectError“no such name”",
        "page = await client.get(self.url)/srv/app/site.py:40 in process",
        "httpx.ConnectError: no such name",
        "Crashed",
        "Still running",
    ):
        assert sentence in said, sentence
    assert "httpx/_client.py:9" not in said  # the user's frames alone; the whole traceback has it as Python writes it
    assert "need JavaScript; the tables below them have the same data." in said


def test_every_chart_says_what_it_shows(everything: Page) -> None:
    """Each figure has a caption, a chart whose label has its key figures, and tables have the data."""
    charts = [attributes for _, attributes in everything.elements if attributes.get("role") == "img"]

    assert len(charts) == len(everything.all("figure")) == len(everything.all("figcaption")) == 6
    for chart in charts:
        assert re.search(r"\d", chart["aria-label"] or ""), "it has figures"
    assert len(everything.all("caption")) == 3 + 2  # each of them is that of a table that only the report has
    assert len(everything.all("summary")) == 3 + 1


@pytest.mark.parametrize(("run", "count"), [(resumed(), 3), (completed(2), 0)], ids=["resumed", "not resumed"])
def test_each_chart_over_time_marks_resumes(run: list[Event], count: int) -> None:
    """Where there are any; the chart of the workers says more of them."""
    page = page_of(run)

    marks = [attributes for tag, attributes in page.elements if tag == "line" and attributes.get("class") == "gap"]
    assert len(marks) == count
    assert page.text.count("a line across the chart marks each gap") == (count > 0)


def test_a_message_is_shown_by_its_first_line() -> None:
    """Its further lines are in the traceback."""
    script = Script()
    script.start(script.enqueue())
    message = "404 Not Found\nFor more information check: https://example.org/404"
    script.fail(1, ErrorInfo("HTTPStatusError", message, f"{TRACEBACK}HTTPStatusError: {message}\n"))
    text = page_of(script.finish("failed")).text

    assert "“404 Not Found”" in text
    assert text.count("For more information") == 1


def test_tables_have_headings_for_rows_and_columns(everything: Page) -> None:
    """Each heading of a table says whether it heads a row or a column, and wide tables can be scrolled by keyboard."""
    assert {heading.get("scope") for heading in everything.all("th")} == {"row", "col"}
    boxes = [box for box in everything.all("div") if box.get("class") == "scroll"]
    assert len(boxes) == len(everything.all("caption")) + 1
    for box in boxes:
        assert box.get("tabindex") == "0" and box.get("role") == "group"
        assert box.get("aria-label") or box.get("aria-labelledby")


def test_one_heading_of_the_first_level(everything: Page) -> None:
    """The page has one h1, the file's name, and no level of headings is left out below it."""
    levels = [int(tag[1]) for tag, _ in everything.elements if re.fullmatch("h[1-6]", tag)]

    assert levels.count(1) == 1 and levels[0] == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))
    assert everything.all("html") == [{"lang": "en"}]


@pytest.mark.parametrize(
    ("run", "liveness", "words"),
    [
        (completed(2), "gone", r"Completed at \d\d:13, after "),
        (with_failures(1), "gone", r"Failed at \d\d:13, after "),
        (resumed()[:-1], "gone", r"Process gone at \d\d:13, after .*, resumed once"),
        (resumed()[:-1], "elsewhere", r"No sign of life since \d\d:13, after "),
        (resumed()[:-1], "alive", r"Running for 1 min 30 s, resumed once"),
    ],
)
def test_how_a_run_ended_is_said_in_a_word(run: list[Event], liveness: Liveness, words: str) -> None:
    """The report says in a word how the run ended, also when its log doesn't, and when."""
    said = " ".join(page_of(run, now=run[-1].at + 90, liveness=liveness).text.split())

    assert re.search(words, said)
    assert re.search(r"Made 2023-11-1\d \d\d:1\d \S+ ", said)


def test_run_without_an_item_has_few_sections() -> None:
    """There are no empty charts and tables, and no tabs that lead to them."""
    page = page_of(completed(0))

    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert not {"timeline", "durations", "slowest", "tree", "processes"} & ids
    assert [link["href"] for link in page.all("a")] == ["#main", "#why", "#failed", "#busy", "#facts"]
    assert "There was no item" in page.text


def test_payloads_and_results_stay_out() -> None:
    """A report is sent to others: what items are made of and what they returned is not in it."""
    secret = Raw(b'{"password": "s3cret"}')
    events = [
        replace(event, payload=secret) if isinstance(event, ItemEnqueued)
        else replace(event, payload=secret, result=secret) if isinstance(event, ItemCompleted)
        else event
        for event in of_everything()
    ]  # fmt: skip

    assert any(isinstance(event, ItemCompleted) for event in events)
    assert "s3cret" not in render([events], now=NOW)


def test_log_can_not_be_resumed() -> None:
    """A report of a log says so, and says nothing of a journal in which all is kept."""
    text = page_of(resumed()[:-1], liveness="gone").text

    assert "is gone (killed or crashed); last event" in text
    assert "A log can't be resumed; to resume runs, record a journal" in text
    assert "the journal" not in text


def test_what_people_have_set_is_among_the_facts() -> None:
    """With who has set it, and since when."""
    script = Script()
    script.add(GroupPaused, group="<b>", by="anna@laptop via aqueue")

    assert re.search(r"In force\s*<b> paused [-\d :]+ by anna@laptop", page_of(script.finish("completed")).text)


def test_links_to_other_views_lead_to_their_place() -> None:
    """What the page has as a view of its own is a section of the report, or isn't there: then the words remain."""
    views = (
        '<a class="end" href="failures">All</a> <a href="failures?at=7#kind-3">3</a> <a href="./">now</a> '
        '<a href="items?state=failed">812 <b>items</b></a> <a href="">here</a> <a href="#why">why</a> &lt;a href="x"&gt;'
        '<p><a href="items">5 items of this kind</a></p><p><a href="failures">All</a></p><p><a href="item?n=1">1</a>, <a href="item?n=2">2</a></p>'
    )

    assert _within(Html(views)) == (
        '<a class="end" href="#failed">All</a> <a href="#kind-3">3</a> <a href="#why">now</a> '
        '812 <b>items</b> here <a href="#why">why</a> &lt;a href="x"&gt;<p><a href="#failed">All</a></p><p>1, 2</p>'
    )


@pytest.mark.parametrize(
    ("liveness", "words"),
    [("alive", "still running (hollow)"), ("gone", "interrupted (hollow)"), ("elsewhere", "no end recorded (hollow)")],
)
def test_the_legend_says_what_became_of_attempts_without_an_end(liveness: str, words: str) -> None:
    """What still runs is not said to have been cut short."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.wait(60.0)
    script.enqueue()

    assert words in page_of(script.events, now=script.events[-1].at + 60, liveness=liveness).text


def test_a_run_on_a_cluster_says_so() -> None:
    """Where its scheduler is, that its workers were at most so many, and that their numbers tell little."""
    text = page_of(on_a_cluster(3, 2)).text

    assert re.search(r"Workers\s*at most 6\s*Cluster\s*tcp://scheduler:8786", text)
    assert "of at most 6 on average" in text
    assert "several workers may have had the same number" in text
    assert "luster" not in page_of(completed(1)).text


def test_a_run_without_failures_says_so() -> None:
    """That nothing failed is said, not left to be concluded from an empty section."""
    assert "No item has failed for good" in page_of(completed(2)).text


def test_the_page_depends_on_nothing_but_what_is_given() -> None:
    """The same events make the same page, byte by byte, however they come in batches."""
    events = every_event_type()
    options = {"source": "run.db", "now": NOW}

    assert render([events], **options) == render(([event] for event in events), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["https://example.org/", "<&\u202e>" * 250], ids=["plain", "hostile"])
def test_the_page_of_a_large_run_is_small(text: str) -> None:
    """A page is at most 5 MB whatever the run: all that grows with it is bounded, and hostile text is cut before that."""
    page = render(large(50_000, workers=64, text=text), source="run.db", now=NOW)

    size = len(page.encode())
    library = len((files("aqueue.cli._report") / "vendor" / "echarts.min.js").read_bytes())
    assert size - library < 3_800_000
    assert "each attempt longer than" in page.lower()
    assert re.search(r"This page has [\d,]+ cells, of at most 3,000", page)


def test_tracebacks_are_cut_and_some_left_out() -> None:
    """A long traceback is shown from its end; when all together would make the page large, the rest is left out."""
    script = Script()
    for number in range(60):
        item = script.enqueue()
        script.start(item)
        script.fail(item, ErrorInfo(f"module:E{number}", "x" * 10_000, TRACEBACK + "&" * 20_000 + "the end"))
    page = render([script.events], source="run.db", now=NOW)

    assert 0 < page.count("the end</pre>") < 40
    assert "The traceback is left out" in page
    assert "20 failures of less frequent kinds" in page
    assert "x" * 301 not in page


def test_the_library_is_the_one_that_its_readme_says() -> None:
    """The plot library is unchanged, and comes with its licences."""
    vendor = files("aqueue.cli._report") / "vendor"
    readme = (vendor / "README.md").read_text("utf-8")

    assert sha256((vendor / "echarts.min.js").read_bytes()).hexdigest() in readme
    for name in ("LICENSE", "NOTICE", "LICENSE-d3", "LICENSE-zrender"):
        assert (vendor / name).is_file() and name in readme


def test_what_is_not_marked_as_html_is_escaped() -> None:
    """Text becomes HTML that shows it; only what is HTML already stays as it is."""
    assert text("<b>\n") == "&lt;b&gt;\\n"
    assert text(Html("<b>")) == "<b>"
    assert text("x" * 10, 4) == "xxx…"
    assert lines("a\n<b>\x1b\n", 100) == "a\n&lt;b&gt;\\x1b"
    assert lines("first\nlast", 4) == "…\nlast"
    assert as_json({"a": "</script>\u2028"}) == '{"a":"\\u003c/script\\u003e\\u2028"}'
    assert "<td>&lt;i&gt;</td>" in table("c", ["a", "b"], [("x", "<i>")])
