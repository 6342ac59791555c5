"""The page's views: what a person reads in each state of a run, safe whatever the run's texts say, and well-formed.

They are `_page.now`, `_page.failures`, `_page.items`, `_page.item` and `_page.control`, each rendered from a `_page.moment`, with what
`_page.frame` and `_page.dock` have around them, the buttons of `_page.verbs` and the charts of `_page.pictures`.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from bs4 import BeautifulSoup
from bs4.element import Tag
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aqueue import events as ev
from aqueue._history import record
from aqueue._history.process import Liveness
from aqueue._page.commands import OnItems, Preview, exactly
from aqueue._page.control import items_dialog, limit_dialog, stop_dialog
from aqueue._page.dock import dock_parts
from aqueue._page.failure_kinds import FailureKinds
from aqueue._page.frame import VIEWS, document, frame_parts, shown_views, state_of
from aqueue._page.html import Html
from aqueue._page.index import Index
from aqueue._page.item_query import Filter, ItemReader
from aqueue._page.moment import Asked, Moment
from aqueue._page.now import _about
from aqueue._page.over_time import Fold
from aqueue._page.past import PastMoment, marks_of
from aqueue._page.pictures import _round_up, _short, bar, chart, falling_bars, pips
from aqueue._page.series import Period
from aqueue._page.shown import _VIEWS
from aqueue.events import ErrorInfo, Event, RunStarted
from aqueue.figures import duration
from aqueue.testing._scripted_runs import (
    ANNA,
    BOOM,
    Script,
    completed,
    every_event_type,
    interrupted,
    on_a_cluster,
    resumed,
    saying,
    with_failures,
    with_retries,
    with_types,
    with_workers,
)
from aqueue.view import RunView
from tests.report.runs import HOSTILE, TRACEBACK, EventsHistory, of_everything
from tests.strategies import encodable_text, event_streams, hostile_text

PAGE = "module:Page"


class InMemory(EventsHistory):
    """A journal of which the events are in memory."""

    is_journal = True

    def __init__(self, events: Sequence[Event]) -> None:
        """Make it of events in their order."""
        super().__init__([])
        self._events = {event.seq: event for event in events}
        self.last_read = 0

    def start_after(self, seq: int) -> None:
        """Begin after the event of this number."""
        self.last_read = seq

    def start_near_end(self, num_events: int) -> bool:
        """Begin so many events before the end."""
        self.last_read = max(len(self._events) - num_events, 0)
        return self.last_read > 0

    def read(self) -> list[Event] | None:
        """Return the events that are left."""
        found = [event for seq, event in self._events.items() if seq > self.last_read]
        self.last_read = max(len(self._events), self.last_read)
        return found or None


@contextmanager
def with_items(run: "MadeUpRun") -> Iterator["MadeUpRun"]:
    """Give a run an index of its items, as far as it is shown, and what has happened to it."""
    history: Any = InMemory(run.events)
    with TemporaryDirectory() as folder, closing(Index(Path(folder, "index.db"), history)) as index:
        index.fill()
        run.items = ItemReader(index.connect(), history)
        if run.read_share == 1:
            run.marks = marks_of(run, run.items)
        yield run
        run.items.close()
        run.items = None


class MadeUpRun(Moment):
    """A run that is followed, as it would be after a look at a journal with these events."""

    def __init__(
        self,
        events: Sequence[Event],
        *,
        after_s: float = 0.0,
        liveness: Liveness = "alive",
        name: str = "run.db",
        share: float = 1.0,
        can_control: bool = False,
    ) -> None:
        """Make it up.

        Parameters:
            events: what the journal has.
            after_s: how long after the last of them the journal is looked at, seconds.
            liveness: what becomes known of the run's process, if the run has not said its end.
            name: the file's name.
            share: how much of the past has been read.
            can_control: whether the run can be steered from the page.
        """
        self.can_control = can_control
        self.name = name
        self.events = events
        self.history = InMemory([])
        self.history.path = Path("/srv") / name.replace("\0", "")
        self.view, self.over_time, self.kinds = RunView(), Fold(), FailureKinds()
        self.view.apply(events)
        past = events[: int(len(events) * share)]
        self.over_time.apply(past)
        self.kinds.apply(past)
        self.read_share = len(past) / self.view.seq if self.view.seq else 1.0
        self.now = self.view.at + after_s
        starts = [event for event in events if isinstance(event, RunStarted)]
        with patch.object(record, "liveness", lambda *_: liveness):
            self.state = record.assess(self.view, starts[-1] if starts else None, self.history, self.now)


class Shape(HTMLParser):
    """The elements of a piece of HTML in their order, each with its attributes, and what lies at the top of it.

    Everything must be closed, in the order in which it was opened, as the script that changes the page relies on it.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tops: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "each element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "no attribute is given twice"
        if not self._open:
            self.tops.append(tag)
        if tag != "input":  # which has no end
            self._open.append(tag)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert tag == "input" or self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert self._open or not data.strip(), "no text is outside of the element"

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)


class View:
    """A view of a run, as a browser reads it."""

    def __init__(self, run: Moment, name: str = "now", **asks: Any) -> None:
        self.run = run
        self.name = name
        render, layout = _VIEWS[name]
        asked = Asked(name, **asks)
        self.parts = frame_parts(run, asked) | dock_parts(run, asked) | render(run, asked)
        self.document = document(run.name, asked, self.parts, layout(self.parts))

    def part(self, name: str) -> Tag:
        """Return the element that a part is."""
        found = BeautifulSoup(self.parts[name], "html.parser").find(id=name)
        assert isinstance(found, Tag)
        return found

    def said(self, name: str) -> str:
        """Return the text of a part as one line."""
        return said(self.part(name))

    @property
    def text(self) -> str:
        """The text of all parts as one line."""
        return " ".join(filter(None, map(self.said, self.parts)))

    def figures(self) -> dict[str, tuple[str, str]]:
        """Return the tiles: by title the figure, and what is said below it."""
        tiles = self.part("figures").find_all("div")
        return {said(tile.dt): (said(tile.dd), said(tile.find("dd", class_="more"))) for tile in tiles}

    def rows(self, name: str) -> list[list[str]]:
        """Return the cells of the table in a part."""
        rows = self.part(name).select("tbody tr")
        return [[said(cell) for cell in row.find_all(["th", "td"])] for row in rows]

    @property
    def shape(self) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
        """The elements of the page, each with its attributes; of those that hold text of the run, without it."""
        return [
            (
                tag,
                tuple(
                    (name, "" if name in FREE or name in ("value", "data-body") else value.partition("?")[0])
                    for name, value in attributes.items()
                ),
            )
            for part in self.parts.values()
            for tag, attributes in Shape(part).elements
        ]


def said(element: object) -> str:
    """Return the text of an element as one line."""
    assert isinstance(element, Tag)
    return " ".join(element.get_text(" ").split())


def numbers_in(text: str) -> list[float]:
    """Return the numbers in the path of a chart, or in a text."""
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", text)]


SHEET = (files("aqueue._page") / "static" / "page.html").read_text("utf-8")
SHEET_IDS = re.findall(r'id="(.+?)"', SHEET)


def assert_well_formed(run: Moment, names: Sequence[str] = (), **asks: Any) -> None:
    """Check what holds for the page of any run."""
    for name in names or shown_views(run.can_control):
        view = View(run, name, **asks)
        elements: list[tuple[str, dict[str, str]]] = []
        for part, html in view.parts.items():
            shape = Shape(html)
            assert len(shape.tops) == 1
            assert shape.elements[0][1].get("id") == part
            assert html in view.document
            elements += shape.elements
        ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
        assert len({*ids, *SHEET_IDS}) == len(ids) + len(SHEET_IDS)
        for tag, attributes in elements:
            assert_harmless(tag, attributes)
            if attributes.get("href", "").startswith("#"):
                assert attributes["href"][1:] in SHEET_IDS
            assert {attributes.get("aria-labelledby"), attributes.get("data-copy")} <= {None, *ids}
        assert_pictures_fit(elements)


def assert_harmless(tag: str, attributes: dict[str, str]) -> None:
    """Check that an element neither runs nor loads anything, nor has a style that the page's policy would forbid."""
    assert tag in {
        "p", "span", "svg", "use", "nav", "a", "b", "div", "section", "h2", "h3", "ul", "li", "i", "rect", "dl", "dt",
        "dd", "small", "header", "table", "thead", "tbody", "tr", "th", "td", "ol", "em", "time", "figure",
        "figcaption", "line", "text", "path", "article", "code", "details", "summary", "button", "pre",
        "form", "input", "noscript", "title", "footer", "label",
    }  # fmt: skip
    for name, value in attributes.items():
        assert name not in {"style", "src", "srcset", "ping", "formaction"} and not name.startswith("on")
        if name == "action":
            assert value in PLACES and tag == "form"
        elif name == "href" and tag == "a":
            place, _, query = value.partition("?")
            assert place in PLACES
            assert set(parse_qs(query)) <= {"at", "q", "order", "start", "n"}
        elif name == "href":
            assert value.startswith("#i-")
        elif name == "data-body":
            assert isinstance(json.loads(value), dict) and value.isascii()
        elif (tag, name) not in {("input", "value"), ("input", "placeholder")} and name not in FREE:
            assert re.fullmatch(r"[\w%.,# -]*", value), (name, value)


PLACES: Final = {"./", *VIEWS} - {"now"}
"""Where links and forms lead: to views of this run."""

FREE: Final = {"title", "aria-label", "aria-valuetext", "d"}
"""The attributes that may have any text: no browser does anything with it."""


def assert_pictures_fit(elements: Sequence[tuple[str, dict[str, str]]]) -> None:
    """Check that all that is drawn is within its picture."""
    for tag, attributes in elements:
        x, width, y, height = (numbers_in(attributes.get(name, "0"))[0] for name in ("x", "width", "y", "height"))
        if tag == "rect":
            is_mark = not attributes["width"].endswith("%")  # a few pixels, which may be beyond the edge
            assert min(x, width) >= 0 and x + width * (not is_mark) <= 100.03
            assert min(y, height) >= 0 and y + height <= 100.11
        elif tag == "path":
            assert all(0 <= number <= 1_000 for number in numbers_in(attributes["d"])), attributes["d"]
        elif attributes.get("class") == "gap" and tag != "small":
            assert 0 <= numbers_in(attributes.get("x1", "") or attributes["x"])[0] <= 100


def assert_agrees(run: Moment) -> None:
    """Check that the figures of the page are those of the run's view."""
    view, shown, counts = run.view, View(run), run.view.counts
    figures = {title: figure for title, (figure, _) in shown.figures().items()}
    assert figures["Found"] == f"{counts.enqueued:,}"
    assert figures["Completed"].split()[0] == f"{counts.completed:,}"
    assert figures["Failed"].removeprefix("✗ ") == f"{counts.failed:,}"
    assert figures.get("Skipped", "0") == f"{counts.skipped:,}"
    assert figures["Retrying"] == f"{view.waiting:,}"
    assert figures["Outstanding"] == f"{counts.outstanding:,}"
    is_running = run.state.name == "running"
    if is_running:
        assert sum(numbers_in(shown.figures()["Outstanding"][1])) == counts.outstanding
    running = len(view.running) if is_running else 0
    lost = 0 if is_running else sum(one.phase == "process" for one in view.running.values())
    rows = shown.rows("types")
    assert len(rows) == min(len(view.types), 40) + (len(view.types) > 1)
    if rows:
        *_, found, done, failed, retrying, waiting, at_work = rows[-1][: 2 + 6]
        expected = [counts.enqueued, counts.completed, counts.failed, view.waiting, view.queued + lost, running]
        assert [found, done, failed, retrying, waiting, at_work] == [f"{number:,}" for number in expected]
    items = shown.part("workers").find_all("li")
    assert len(items) == min(running, 14)
    if is_running:
        busy = view.num_workers - view.num_idle
        assert f"{busy:,} of {view.num_workers:,} busy" in shown.said("workers")
        assert (f"{view.num_idle:,} idle." in shown.said("workers")) == (view.num_idle > 0)
    failures = View(run, "failures")
    if run.read_share == 1:
        groups = [group for group, _ in run.kinds.groups()]
        heads = [int(said(head).split()[0].replace(",", "")) for head in failures.part("list").find_all("h3")]
        assert heads == [group.count for group in groups][:40]
    assert (f"{counts.failed:,} item" in failures.said("failed")) == (counts.failed > 0)


# ---- any run -------------------------------------------------------------------------------------------------------

looks = st.tuples(
    st.floats(0, 1),
    st.sampled_from([0.0, 0.0, 1.5, 59.97, 4_000.0]),
    st.sampled_from(["alive", "alive", "gone", "elsewhere"]),
)
"""When a run is looked at, after which share of its events and how long after that, and what is seen of its process."""


@settings(max_examples=80)
@given(event_streams(hostile_text), looks)
def test_page_of_any_run_is_well_formed(events: list[Event], look: tuple[float, float, Liveness]) -> None:
    """Whatever its texts are, each part is one closed element with its name, and nothing in it runs or loads."""
    share, after_s, liveness = look
    for can_control in (False, True):
        shown = events[: math.ceil(len(events) * share)]
        assert_well_formed(MadeUpRun(shown, after_s=after_s, liveness=liveness, can_control=can_control))


@settings(max_examples=80)
@given(event_streams(st.just("text")), looks)
def test_figures_of_any_run_are_those_of_its_view(events: list[Event], look: tuple[float, float, Liveness]) -> None:
    """At any moment; no count, age or wait is negative, and no sentence lacks a part."""
    share, after_s, liveness = look
    shown = events[: math.ceil(len(events) * share)]
    run = MadeUpRun(shown, after_s=after_s, liveness=liveness, can_control=True)

    assert_agrees(run)
    for name in shown_views(run.can_control):
        text = View(run, name).text
        assert not re.search(r"(?<!\w)-\d", text), text  # but in dates
        assert not re.search(r"\bNone\b|\bnan\b|\binf\b|  |\b1 \w+s (failed|outstanding|still|done)\b", text), text


@settings(max_examples=40)
@given(event_streams(st.just("text")), st.floats(0, 1))
def test_page_while_the_past_is_read(events: list[Event], share: float) -> None:
    """Its figures are there, what needs the past comes later, and it is said that it does."""
    run = MadeUpRun(events, share=share)

    assert_well_formed(run)
    assert_agrees(run)
    if run.read_share < 1:
        notes = View(run).said("notes")
        assert f"Reading what happened so far. {run.read_share * 100:.0f} % of {len(events):,} event" in notes
        assert not View(run).said("charts")
    run.error = "the journal run.db was removed"
    assert "Reading" not in View(run).said("notes")  # it may not go on


# ---- items and the past --------------------------------------------------------------------------------------------

asks = st.fixed_dictionaries(
    {
        "q": encodable_text
        | st.sampled_from(["", "state:failed", "type:Page x", 'key:"*" state:waiting nothing:x', "parent:1"]),
        "order": st.sampled_from(["newest", "oldest", "slowest"]),
        "start": st.none() | st.integers(1, 20),
        "n": st.integers(0, 20),
    }
)
"""What a browser may ask for."""


@settings(max_examples=40)
@given(event_streams(hostile_text), looks, asks, st.floats(0, 1))
def test_items_of_any_run_are_well_formed(
    events: list[Event], look: tuple[float, float, Liveness], asked: dict[str, Any], past: float
) -> None:
    """As each view is of a run with an index, now and as it was: no text is anything but text, and no count is negative."""
    share, after_s, liveness = look
    run = MadeUpRun(events[: max(math.ceil(len(events) * share), 1)], after_s=after_s, liveness=liveness)
    with with_items(run):
        then = PastMoment(run, run.items, max(math.ceil(run.view.seq * past), 1))  # type: ignore[arg-type]
        for moment in (run, then):
            assert_well_formed(moment, **asked)
            for name in VIEWS:
                text = View(moment, name, **asked).text
                assert not re.search(r"(?<![\w.])-\d+(\.\d+)? (s|min)\b", text), text


@settings(max_examples=40)
@given(event_streams(), st.sampled_from(["alive", "gone"]), st.floats(0, 1))
def test_chips_have_the_numbers_that_their_filters_find(events: list[Event], liveness: Liveness, past: float) -> None:
    """In each state of a run, live or gone, now and as it was: what is interrupted waits, too, and is counted once."""
    run = MadeUpRun(events, liveness=liveness)
    with with_items(run):
        assert run.items is not None
        for moment in (run, PastMoment(run, run.items, max(math.ceil(len(events) * past), 1))):
            for chip in View(moment, "items").part("filter").select(".chip"):
                state, number = chip.get_text(" ", strip=True).split()
                [title] = View(moment, "items", q=f"state:{state}").part("listing").select("#listing-title")
                assert title.get_text().split()[0] == number, state


def test_a_chip_changes_only_the_states() -> None:
    """A text in quotes that looks like one stays, also one whose quote is still open; a chip that is on can be taken away."""
    run = MadeUpRun([*Script().events])
    with with_items(run):
        [chip] = (
            View(run, "items", q='"state:failed" state:running key:"a  b"')
            .part("filter")
            .select(".chip[href*=waiting]")
        )
        assert parse_qs(urlsplit(str(chip["href"])).query)["q"] == ['state:waiting "state:failed" key:"a  b"']
        [chip] = View(run, "items", q='x "not there').part("filter").select(".chip[href*=failed]")
        assert Filter.of(parse_qs(urlsplit(str(chip["href"])).query)["q"][0]) == Filter(
            states=("failed",), words=("x", "not there")
        )
        [chip] = View(run, "items", q="state:interrupted").part("filter").select("[aria-current]")
        assert chip.get_text(" ", strip=True) == "interrupted 0"


def test_past_says_what_is_compared_with_today() -> None:
    """Of a list in the past; one that asks for nothing of that says nothing, nor does one of now."""
    run = MadeUpRun(with_failures(5))
    with with_items(run):
        assert run.items is not None
        then = PastMoment(run, run.items, 9)
        note = "Compared with what the items have today, not at this moment:"
        assert f"{note} errors, words, how long they took." in View(
            then, "items", q="error:Boom x", order="slowest"
        ).said("filter")
        assert note not in View(then, "items", q="state:failed type:Page parent:1").said("filter")
        assert note not in View(run, "items", q="error:Boom x", order="slowest").said("filter")


def test_hostile_text_of_items_is_only_text() -> None:
    """No element or attribute is there that isn't there with harmless texts: in lists, in one item, in what was typed."""
    seen = 0
    for hostile, harmless in zip(hostile_runs(HOSTILE), hostile_runs(HARMLESS), strict=True):
        with with_items(hostile), with_items(harmless):
            for name, n, at in product(("items", "item"), (1, 2), (None, 9)):
                moments: list[Moment] = [hostile, harmless]
                if at is not None:
                    moments = [
                        PastMoment(run, run.items, min(at, run.view.seq)) for run in moments if run.items is not None
                    ]
                view, other = (View(run, name, n=n) for run in moments)
                assert view.shape == other.shape
                assert not set("\u202e\u2028\x1b\x00\ud800") & set(view.document)
                assert "<img" not in view.document and "${source}<" not in view.document
                seen += view.text.count("</script><img src=x onerror=alert(1)>")
        typed = HOSTILE.replace("\ud800", "")
        assert_well_formed(hostile, ["items"], q=typed)
        assert View(hostile, "items", q=typed).part("filter").find("input")["value"].startswith("</script><img")  # type: ignore[index,union-attr]
    assert seen > 300


def test_results_and_payloads_are_only_text() -> None:
    """Whatever JSON they are, deep, large or not JSON at all."""
    hostile = HOSTILE.replace("\ud800", "")
    for raw in (json.dumps({hostile: [hostile, {"a": None}]}), "[" * 5_000, "[" * 300 + "]" * 300, "no JSON <img>", json.dumps([hostile] * 5_000)):  # fmt: skip
        script = Script()
        item = script.enqueue(payload=msgspec.Raw(raw.encode()))
        script.start(item)
        script.complete(item, result=msgspec.Raw(raw.encode()))
        run = MadeUpRun(script.events)
        with with_items(run):
            assert_well_formed(run, ["item"], n=1)
            assert "<img" not in View(run, "item", n=1).document


def hrefs(view: View, selector: str, part: str = "dock") -> list[tuple[str, dict[str, list[str]]]]:
    """Return where the links of a part lead: the view and what it asks for."""
    found = [str(link["href"]).partition("?") for link in view.part(part).select(selector)]
    return [(place, parse_qs(query)) for place, _, query in found]


def test_links_keep_what_is_asked_for() -> None:
    """The slider and its marks lead to other moments of the same list or item; the way back to now has no moment."""
    run = MadeUpRun(resumed(), after_s=3)
    asked = {"q": 'type:Page "a&b=c"#?', "order": "oldest", "start": 2, "n": 0}
    kept = {"q": [asked["q"]], "order": ["oldest"], "start": ["2"]}
    with with_items(run):
        live = View(run, "items", **asked)
        assert live.part("banner").has_attr("hidden")
        assert hrefs(live, "a#earlier") == [("items", kept | {"at": [str(run.view.seq - 1)]})]
        then = View(PastMoment(run, run.items, 5), "items", **asked)  # type: ignore[arg-type]
        assert hrefs(then, "#live", "banner") == [("items", kept)]
        assert hrefs(then, "a#earlier") == [("items", kept | {"at": ["4"]})]
        assert hrefs(then, "a#later") == [("items", kept | {"at": ["6"]})]
        assert [query["at"] for _, query in hrefs(then, ".marks a")] == [[str(mark.seq)] for mark in run.marks]
        form = then.part("dock")
        assert form["action"] == "items"
        assert {one["name"]: one["value"] for one in form.select("input[type=hidden]")} == {
            "q": asked["q"],
            "order": "oldest",
        }
        assert {one["name"]: one["value"] for one in then.part("filter").select("input[type=hidden]")} == {"order": "oldest", "at": "5"}  # fmt: skip
        assert all(query["at"] == ["5"] for _, query in hrefs(then, "a", "tabs"))
        assert all(query["at"] == ["5"] for _, query in hrefs(then, "a", "listing"))
        one = View(PastMoment(run, run.items, 5), "item", n=1)  # type: ignore[arg-type]
        assert hrefs(one, "#live", "banner") == [("item", {"n": ["1"]})]
        assert View(run, "now").part("dock")["action"] == "./"


def test_ends_of_the_slider_lead_nowhere() -> None:
    """Before the first event there is none, and after the last one only now."""
    run = MadeUpRun(resumed())
    with with_items(run):
        first, last = (View(PastMoment(run, run.items, at), "now") for at in (1, run.view.seq))  # type: ignore[arg-type]
        assert not first.part("dock").select("a#earlier[href], a#previous[href]")
        assert not last.part("dock").select("a#later[href]")


# ---- each state of a run -------------------------------------------------------------------------------------------


def working(num_workers: int = 4, items: int = 40, seconds: int = 30) -> Script:
    """Return the script of a run that finds all its items at once and completes one a second, on worker 1."""
    script = Script(num_workers=num_workers)
    root = script.enqueue()
    script.start(root)
    numbers = [script.enqueue(parent=root) for _ in range(items)]
    script.complete(root)
    for item in numbers[:seconds]:
        script.start(item)
        script.wait(0.98)
        script.complete(item)
    return script


def test_before_a_run_begins() -> None:
    """A journal without an event is not that of a process that is gone."""
    view = View(MadeUpRun([]))

    assert view.said("state") == "Not begun nothing is recorded yet"
    assert view.said("why") == "What happens now Nothing is recorded yet"
    assert view.said("notes") == "" and view.said("said") == "Not begun."


def test_nothing_enqueued_so_far() -> None:
    """It is said, and nothing is estimated or divided by nothing."""
    view = View(MadeUpRun(Script().events, after_s=3))

    assert view.said("state") == "Running for 3.00 s"
    assert view.said("why") == "What limits this run Nothing was enqueued so far"
    assert view.figures() | {"Found": ("0", "0.0/s now, 0.0/s average")} == view.figures()
    assert view.figures()["Completed"] == ("0 0 %", "0.0/s now, 0.0/s average")
    assert view.figures()["Remaining"] == ("no estimate", "nothing is outstanding")
    assert view.said("workers") == "Workers 0 of 3 busy oldest first 3 idle. Nothing waits to be started."
    assert view.part("groups").has_attr("hidden") and view.part("kinds").has_attr("hidden")
    assert View(view.run, "failures").said("failed") == "No item has failed for good"


def test_running() -> None:
    """Its counts, its rates, its time and who is busy."""
    script = working()
    script.start(script.events[-1].item + 1)  # type: ignore[attr-defined]
    script.add(ev.ItemDescribed, item=32, worker=1, text="page 32")
    view = View(MadeUpRun(script.events, after_s=1.5))

    assert view.said("state") == f"Running for {duration(view.run.elapsed_s)}"
    figures = view.figures()
    assert figures["Found"][0] == "41" and figures["Completed"][0] == "31 76 %"
    assert re.fullmatch(r"0\.[89]/s now, 1\.0/s average", figures["Completed"][1])
    assert figures["Outstanding"] == ("10", "9 waiting, 1 running")
    assert figures["Remaining"] == ("11 s", "at 0.9/s")
    assert figures["Failed"] == ("0", "for good") and "Skipped" not in figures
    assert view.said("workers") == "Workers 1 of 4 busy oldest first 1 Page 32 page 32 1.5 s 3 idle."
    assert view.rows("types") == [["Page", "", "41", "31", "0", "0", "9", "1", "0.9"]]
    assert "31 completed" in str(view.parts["charts"]) and view.said("charts").startswith("Throughput")
    assert view.said("tabs") == "Now Failures Items 41"
    assert_well_formed(view.run)


@pytest.mark.parametrize(
    ("found", "words", "why"),
    [
        (0, "25 s", "at 2.0/s"),
        (10, "25 s to 50 s", "if finding stops now, or goes on at 1.0/s"),
        (20, "at least 25 s", "more is found (2.0/s) than completed"),
        (30, "at least 25 s", "more is found (3.0/s) than completed"),
    ],
)
def test_remaining_time_is_a_range_with_what_it_assumes(found: int, words: str, why: str) -> None:
    """Between nothing more that is found, and as much as was found in the last 10 s."""
    script = Script(num_workers=1)
    root = script.enqueue()
    script.start(root)
    items = [script.enqueue(parent=root) for _ in range(90 - found)]
    script.wait(20)
    for second in range(20):
        for _ in range(found // 10 if second >= 10 else 0):
            script.enqueue(parent=root)
        for item in items[2 * second : 2 * second + 2]:
            script.start(item, worker=2)
            script.complete(item, worker=2)
        script.wait(1 - (script.events[-1].at - script.events[0].at) % 1 + 0.001)
    run = MadeUpRun(script.events, after_s=0.9)
    assert run.view.counts.outstanding == 90 - found + found + 1 - 40

    figure, assumption = View(run).figures()["Remaining"]
    assert assumption == why
    assert numbers_in(figure) == pytest.approx(numbers_in(words), rel=0.1)
    assert re.sub(r"\d+", "", figure) == re.sub(r"\d+", "", words)


def test_not_all_is_less_than_all() -> None:
    """A share is rounded, but to 100 % only if nothing is left."""
    script = Script()
    for item in [script.enqueue() for _ in range(300)]:
        script.start(item)
        script.complete(item)
    assert View(MadeUpRun(script.events)).figures()["Completed"][0] == "300 100 %"
    script.enqueue()
    assert View(MadeUpRun(script.events)).figures()["Completed"][0] == "300 99 %"


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (58.6, "59 s"), (59.3, "59 s"), (59.6, "1 min 0 s")])
def test_estimate_has_whole_seconds(seconds: float, words: str) -> None:
    """Or coarser units: more would say more than is known."""
    assert _about(seconds) == words


def test_no_estimate_too_early_or_when_nothing_completes() -> None:
    """What isn't known is not said, but why it isn't."""
    script = working(seconds=5)
    assert View(MadeUpRun(script.events)).figures()["Remaining"] == ("no estimate", "too early to tell")
    assert View(MadeUpRun(script.events, after_s=60)).figures()["Remaining"] == (
        "no estimate",
        "nothing completes now",
    )


def test_paused_by_a_person() -> None:
    """By whom and since when; nothing is estimated, and what to do is said."""
    script = working()
    script.add(ev.RunPaused, by=ANNA)
    view = View(MadeUpRun(script.events, after_s=95))

    assert re.fullmatch(r"Paused since \d\d:\d\d by anna@host; the run has taken 2 min 5 s", view.said("state"))
    assert (
        "Paused by anna@host: 10 waiting Nothing starts until a person unpauses it, with aqueue unpause."
        in view.said("why")
    )
    assert "paused by a person 100 % 7" in view.said("why")
    assert view.figures()["Remaining"] == ("no estimate", "the run is paused")
    assert view.said("workers").endswith("4 idle. All that waits is held back by a limit or a pause.")
    assert view.said("said") == "Paused."


def test_stopping() -> None:
    """Why, and what is still at work; what it leaves takes no time."""
    script = working()
    script.start(32, worker=2)
    script.add(ev.RunStopping, reason="SIGINT")
    view = View(MadeUpRun(script.events, after_s=2))

    assert re.fullmatch(r"Stopping after 32\.\d s; SIGINT", view.said("state"))
    assert "Stopping: 1 item still running No more items are started." in view.said("why")
    assert view.figures()["Outstanding"] == ("10", "9 waiting, 1 running")
    assert view.figures()["Remaining"] == ("no estimate", "the run is stopping")


@pytest.mark.parametrize("hours", [0, 50])
def test_process_that_is_gone(hours: int) -> None:
    """The run took until its last event, however long ago that was; what it ran waits again, and no worker is shown."""
    script = working()
    script.start(32, worker=2)
    view = View(MadeUpRun(script.events, after_s=3_600 * hours, liveness="gone"))

    assert re.fullmatch(r"Process gone at .*\d\d:\d\d, after 30\.\d s", view.said("state"))
    assert view.figures()["Took"] == (duration(view.run.elapsed_s), "")
    assert re.fullmatch(r"1\.0/s average", view.figures()["Completed"][1])
    assert "Nothing runs: the process was killed or has crashed; 10 items outstanding" in view.said("why")
    assert "Last minute" not in view.said("why") and "busy 9" not in view.said("why")
    assert view.rows("types") == [["Page", "", "41", "31", "0", "0", "10", "0"]]
    assert view.part("workers").has_attr("hidden") and "Remaining" not in view.figures()
    notes = view.said("notes")
    assert notes.startswith("The run's process is gone. pid 1234 is gone (killed or crashed); last event ")
    assert notes.endswith(
        "Nothing in the journal is lost; to resume, run the same program again (journal /srv/run.db)."
    )
    assert_well_formed(view.run)


def test_groups_of_a_process_that_is_gone() -> None:
    """Nothing flows in them: what ran waits again."""
    script = grouped(("shop", 5, 2))
    view = View(MadeUpRun(script.events, after_s=100, liveness="gone"))

    assert view.rows("groups") == [["shop", "waiting", "0 of 2", "2 at once", "7"]]


def test_process_on_another_machine_that_is_silent() -> None:
    """Nobody can say that it is gone: an item may take long there."""
    script = working()
    script.start(32, worker=2)
    assert View(MadeUpRun(script.events, after_s=30, liveness="elsewhere")).said("said") == "Running."
    view = View(MadeUpRun(script.events, after_s=300, liveness="elsewhere"))

    assert view.said("state").startswith("No sign of life since ")
    assert "Nothing was recorded for a while, and 10 items outstanding" in view.said("why")
    assert "which can't be checked from here; last event 5 min 0 s ago" in view.said("notes")
    assert "is gone" not in view.text and "killed" not in view.text


def test_interrupted() -> None:
    """Why it was stopped, what is left, and how to resume."""
    view = View(MadeUpRun(interrupted(), after_s=100))

    assert re.fullmatch(r"Interrupted at .*\d\d:\d\d, after 5\.19 s; SIGINT again", view.said("state"))
    assert "The run has ended: 9 items outstanding" in view.said("why")
    assert view.said("notes") == (
        "The run isn't finished. To resume, run the same program again (journal /srv/run.db)."
    )
    assert view.figures()["Took"] == ("5.19 s", "")


def test_failed() -> None:
    """How many, of how many kinds, and how to retry them."""
    view = View(MadeUpRun(with_failures(5), after_s=100))

    assert view.said("state").startswith("Failed at ")
    assert view.said("tabs") == "Now Failures ✗ 5 Items 5"
    assert "The run has ended: 5 items failed, nothing is outstanding" in view.said("why")
    assert view.figures()["Failed"] == ("✗ 5", "5 kinds, for good")
    assert "Items have failed. To retry the failed items, run the same program again" in view.said("notes")
    assert view.said("kinds").startswith(
        "Failures by kind 5 items failed for good All failures 1 × Page: Error0 “number 0”"
    )
    assert view.said("kinds").count("×") == 3
    assert view.said("said") == "Failed. 5 kinds of failures."


@pytest.mark.parametrize(
    ("count", "words"), [(0, "There was no item"), (1, "The item has completed"), (3, "All 3 items have completed")]
)
def test_completed(count: int, words: str) -> None:
    """Everything has completed, whatever there was."""
    view = View(MadeUpRun(completed(count), after_s=100))

    assert view.said("state").startswith("Completed at ")
    assert view.said("why").startswith(f"What limited this run {words}")
    assert view.said("notes") == ""
    assert_agrees(view.run)


def test_most_of_the_time_is_more_than_half_of_it() -> None:
    """What took less is named for what it is: the longest of what is known."""
    script = working(num_workers=1)
    view = View(MadeUpRun(script.finish("interrupted")))
    assert re.search(r"Most of the time: all workers busy, (9\d|100) %\.", view.said("why"))
    script = Script(num_workers=1)
    script.add(ev.RunPaused, by=ANNA)
    script.wait(10)
    script.add(ev.RunUnpaused, by=ANNA)
    script.wait(30)
    script.enqueue()
    view = View(MadeUpRun(script.finish("interrupted")))
    assert "Longest: paused by a person, 25 % of the time." in view.said("why")


def test_resumed() -> None:
    """How often, and that the time in between doesn't count."""
    view = View(MadeUpRun(resumed(), after_s=100))

    assert view.said("state").endswith("after 0.18 s, resumed once")
    assert view.figures()["Took"] == ("0.18 s", "without the time between processes")
    assert "killed" in view.said("charts")
    script = Script()
    for _ in range(3):
        script.wait(60)
        script.begin(ev.RunResumed)
    assert "resumed 3 times" in View(MadeUpRun(script.events)).said("state")


def test_commands_after_the_end_do_not_move_it() -> None:
    """A run ended when its process did, not when a person skipped what had failed."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.fail(item, BOOM)
    script.finish("failed")
    before = View(MadeUpRun(script.events)).said("state")
    script.wait(3_600)
    script.edit()
    script.skip(item, had_failed=True)
    view = View(MadeUpRun(script.events))

    assert view.said("state") == before.replace("Failed", "Completed")
    assert view.figures()["Skipped"] == ("1", "by a person")


# ---- what limits a run ---------------------------------------------------------------------------------------------


def grouped(*groups: tuple[str, int, int | None], running: int = 2, num_workers: int = 8) -> Script:
    """Return the script of a run whose items are in these groups: name, how many wait, how many may run at once."""
    script = Script(num_workers=num_workers)
    root = script.enqueue()
    script.start(root)
    worker = 1
    for name, waiting, most in groups:
        items = [script.enqueue(parent=root, group=name) for _ in range(waiting + running)]
        if most is not None:
            script.add(ev.GroupLimitKnown, group=name, concurrent=most)
        for item in items[:running]:
            worker += 1
            script.start(item, worker=worker, group=name)
    script.complete(root)
    return script


def test_groups_at_their_limit() -> None:
    """The one in which most wait is named, and each has its limit, what runs and what waits; most waiting first."""
    script = grouped(("small.example", 3, 2), ("large.example", 11, 2), ("free.example", 1, None))
    view = View(MadeUpRun(script.events, after_s=10))

    assert "Limited by large.example: 2 at once, 11 waiting; and another group; 2 of 8 workers idle" in view.said("why")
    assert "More workers won't help. A higher limit would, if the server allows it." in view.said("why")
    assert view.rows("groups") == [
        ["large.example", "at its limit", "2 of 2", "2 at once", "11"],
        ["small.example", "at its limit", "2 of 2", "2 at once", "3"],
        ["free.example", "flowing", "2", "–", "1"],
    ]
    assert len(view.part("groups").select("rect.taken")) == 4 and not view.part("groups").select("rect.free")
    assert view.said("workers").endswith("2 idle. All that waits is held back by a limit or a pause.")


def test_group_that_was_there_a_moment_ago() -> None:
    """It has a row like the others, as idle."""
    script = Script()
    script.start(script.enqueue(group="busy"), group="busy")
    run = MadeUpRun(script.events)
    run.idle_groups = {"done"}
    assert [row[:2] for row in View(run).rows("groups")] == [["busy", "flowing"], ["done", "idle"]]


def test_groups_that_are_slowed_down_or_paused() -> None:
    """Until when, or by whom; the advice is not to ask for more."""
    script = grouped(("slow.example", 7, None), ("off.example", 3, None))
    script.add(ev.GroupSlowedDown, group="slow.example", due=script.events[-1].at + 30, item=2)
    script.add(ev.GroupPaused, group="off.example", by=ANNA)
    view = View(MadeUpRun(script.events, after_s=10))

    assert view.rows("groups") == [
        ["slow.example", "slowed down, resumes in 20 s", "2", "–", "7"],
        ["off.example", "paused by anna@host", "2", "–", "3"],
    ]
    assert "the server has asked to slow down" in view.said("why") and "A higher limit" not in view.said("why")
    later = View(MadeUpRun(script.events, after_s=60))
    assert later.rows("groups")[0][1] == "flowing"
    assert "Off.example is paused by anna@host: 3 waiting" in later.said("why")
    assert "Its items start once it is unpaused: aqueue unpause --group" in later.said("why")


def test_limit_that_a_person_has_set() -> None:
    """By whom and when; it counts, not the program's."""
    script = grouped(("shop", 5, 4))
    script.add(ev.GroupLimitChanged, group="shop", concurrent=2, per_second=0.5, by=ANNA)
    ((name, state, running, limit, waiting),) = View(MadeUpRun(script.events)).rows("groups")

    assert (name, state, running, waiting) == ("shop", "at its limit", "2 of 2", "5")
    assert re.fullmatch(r"2 at once, 0\.5/s anna@host, \d\d:\d\d", limit)


@pytest.mark.parametrize("name", ["discovery", "your code", "paused", "all 3", "the only", "waiting for", "held up by"])
def test_name_of_a_group_is_no_reason(name: str) -> None:
    """Whatever a group is called, the advice is about its limit or its pause."""
    script = grouped((name, 5, 2))
    view = View(MadeUpRun(script.events, after_s=10))
    assert "More workers won't help. A higher limit would, if the server allows it." in view.said("why")
    script.add(ev.GroupSlowedDown, group=name, due=script.events[-1].at + 30, item=2)
    view = View(MadeUpRun(script.events, after_s=10))
    assert "More workers won't help: the server has asked to slow down." in view.said("why")


def test_hundred_groups() -> None:
    """Those in which most wait are shown, and how many more there are."""
    groups = [(f"group-{number:03}", 100 - number, 1) for number in range(100)]
    view = View(MadeUpRun(grouped(*groups, running=0, num_workers=300).events))

    assert [row[0] for row in view.rows("groups")] == [f"group-{number:03}" for number in range(12)]
    assert view.said("groups").endswith("and 88 more groups")
    groups = groups[:13]
    assert View(MadeUpRun(grouped(*groups, running=0).events)).said("groups").endswith("and 1 more group")


def test_workers_that_are_idle_because_code_blocks_the_loop() -> None:
    """Nothing else is blamed for it."""
    script = grouped(("shop", 5, None))
    for _ in range(30):
        script.wait(1)
        script.add(ev.LoopBlocked, method="Page.process", where="shop.py:40 in parse", duration_s=0.6)
    view = View(MadeUpRun(script.events))

    assert "Limited by your code: parse (shop.py:40) blocks the event loop 59 % of the time" in view.said("why")
    assert "Await in the item, or move the work to a thread." in view.said("why")
    assert view.said("workers").endswith(" idle.")


def test_waiting_for_retries() -> None:
    """How many, and when the next one is due; never before now."""
    events = with_retries(3)
    at_end = next(n for n, event in enumerate(events) if isinstance(event, ev.RunStopping))
    for after_s, due in ((0.0, "the next in 1 s"), (600.0, "the next now")):
        view = View(MadeUpRun(events[:at_end], after_s=after_s))
        assert view.figures()["Retrying"] == ("4", due)
        assert view.figures()["Outstanding"] == ("3", "0 waiting, 0 running, 3 retrying")  # and a hook
        assert "Waiting for retries: 4 items" in view.said("why")
        assert "Nothing else is left to do until then." in view.said("why")
    run = MadeUpRun(events[:at_end])
    assert View(run, "failures").said("failed") == "No item has failed for good 4 are being retried"


def test_all_workers_busy() -> None:
    """More may help."""
    script = working(num_workers=1)
    script.start(32)
    view = View(MadeUpRun(script.events, after_s=1))

    assert "The only worker is busy: more workers may help They help unless the CPU is what is busy." in view.said(
        "why"
    )
    assert re.search(r"Last minute Whole run all workers busy (9\d|100) % (9\d|100) %", view.said("why"))
    assert view.said("workers").endswith("All are busy.")


def test_cluster() -> None:
    """Its workers are those of the present processes; while there are none, that is what is said."""
    events = on_a_cluster(3, 2)
    view = View(MadeUpRun(events[:7], after_s=5))
    assert "No worker is there Items start once a worker process has joined." in view.said("why")
    assert "0 of 0 busy" in view.said("workers")

    lost = next(n for n, event in enumerate(events) if isinstance(event, ev.ProcessLeft))
    view = View(MadeUpRun(events[: lost + 2], after_s=5))
    assert "Workers 4 of 4 busy oldest first 3 Page 3 page 3" in view.said("workers")
    hook = next(
        n for n, event in enumerate(events) if isinstance(event, ev.ItemDescribed) and event.text == "adding up"
    )
    view = View(MadeUpRun(events[:hook]))
    assert "0 of 2 busy" in view.said("workers")  # that of the hook is gone
    assert "1 Page 1 hook" in view.said("workers") and "2 idle." in view.said("workers")


def test_workers_that_retire_are_not_among_those_that_are_there() -> None:
    """They are shown while they run their last item, but no more are busy than there are."""
    script = grouped(("shop", 5, None), running=6)
    script.add(ev.RunWorkersChanged, num_workers=2, program=8, by=ANNA)
    view = View(MadeUpRun(script.events))

    assert "1 of 2 busy" in view.said("workers") and "1 idle." in view.said("workers")
    assert len(view.part("workers").find_all("li")) == 6


# ---- large runs ----------------------------------------------------------------------------------------------------


def test_two_hundred_workers() -> None:
    """Those whose items run for longest are shown, and how many more are busy."""
    events = with_workers(200)
    view = View(MadeUpRun(events[: 1 + 200 + 400], after_s=30))
    items = view.part("workers").find_all("li")

    assert [said(item).split()[0] for item in items] == [f"{number}" for number in range(1, 15)]
    assert view.said("workers").endswith("and 186 busy workers with younger items All are busy.")
    assert "200 of 200 busy" in view.said("workers")
    ages = [float(said(item).split()[-2]) for item in items]
    assert ages == sorted(ages, reverse=True)


def test_sixty_types() -> None:
    """The first forty, the sum of all, and how many more there are."""
    view = View(MadeUpRun(with_types([f"module:T{number}" for number in range(60)])))
    rows = view.rows("types")

    assert [row[0] for row in rows] == [*(f"T{number}" for number in range(40)), "All"]
    assert rows[-1][2:] == ["60", "60", "0", "0", "0", "0"]
    assert view.said("types").endswith("and 20 more types")


@pytest.mark.parametrize(
    ("count", "kinds", "more"),
    [
        (2_000, "100 kinds or more", "and 1,960 failures of less frequent kinds"),  # no more are counted
        (99, "99 kinds", "and 59 failures of less frequent kinds"),
        (41, "41 kinds", "and 1 failure of less frequent kinds"),
        (40, "40 kinds", ""),
    ],
)
def test_hundred_kinds_of_failures(count: int, kinds: str, more: str) -> None:
    """The first forty, and how many more there are."""
    run = MadeUpRun(with_failures(count))
    view = View(run, "failures")

    assert view.said("failed") == f"{count:,} items failed for good, in {kinds}"
    assert View(run).figures()["Failed"] == (f"✗ {count:,}", f"{kinds}, for good")
    assert len(view.part("list").find_all("article")) == 40
    assert view.said("list").endswith(more) and ("less frequent" in view.said("list")) == bool(more)
    assert View(run).said("kinds").count("×") == 3
    assert_well_formed(run)


# ---- failures ------------------------------------------------------------------------------------------------------


def test_kind_of_failures() -> None:
    """Where in the user's code, what it says, when, the whole traceback, and the latest items."""
    run = MadeUpRun(of_everything(), after_s=5)
    view = View(run, "failures")
    text = view.said("list")

    assert view.said("failed") == "2 items failed for good, in 1 kind 3 more are being retried"
    assert text.startswith("2 × Page: ConnectError “no such name” page = await client.get(self.url)")
    assert "/srv/app/site.py:40 in process First seen" in text
    assert re.search(r"Last seen .*, 1 h 31 min ago Attempts of the latest 1 Traceback of item 15", text)
    assert re.search(r"Latest 25 https://example.org/25 .* 15 https://example.org/15", text)
    assert said(view.part("list").pre) == " ".join(TRACEBACK.split())
    assert "site.py:40 page = await client.get(self.url)" in View(run).said("kinds")


def test_failures_within_a_short_time() -> None:
    """Many at once are told from those that go on; that they go on, from those that are over."""
    script = Script()
    items = [script.enqueue() for _ in range(60)]
    script.wait(100)
    for item in items[:50]:
        script.start(item)
        script.fail(item, BOOM)
    recent = MadeUpRun(script.events, after_s=10)
    assert re.search(r"since \d\d:\d\d, still happening", View(recent, "failures").said("list"))
    later = MadeUpRun(script.events, after_s=1_000)
    assert "50 failures within a tenth of the run's time" in View(later, "failures").said("list")
    heights = [float(str(rect["height"])[:-1]) for rect in View(later, "failures").part("list").select("rect")]
    assert (len(heights), heights.count(100.0), heights.count(3.0)) == (32, 1, 31)


def test_failures_of_a_run_that_is_gone_are_drawn_in_its_own_time() -> None:
    """Not in the time since."""
    script = Script()
    items = [script.enqueue() for _ in range(10)]
    for item in items:
        script.start(item)
        script.wait(9.97)
        script.fail(item, BOOM)
    pictures = {
        View(MadeUpRun(script.events, after_s=after_s, liveness="gone"), "failures").part("list").svg
        for after_s in (0.0, 1e6)
    }

    (picture,) = pictures
    assert picture is not None
    assert sum(float(str(rect["height"])[:-1]) > 3 for rect in picture.select("rect")) == 10


def test_what_a_person_cancelled_has_no_traceback() -> None:
    """An empty one would be of no use."""
    script = Script()
    script.cancel(script.enqueue())
    view = View(MadeUpRun(script.events), "failures")

    assert "CancelledByUser “cancelled by anna@host via aqueue”" in view.said("list")
    assert "Traceback" not in view.said("list") and not view.part("list").find_all("button")


def test_no_two_kinds_have_the_same_id() -> None:
    """Though the example of a kind be one that has failed otherwise since: those beyond a thousand are not listed."""
    script = Script()
    for _ in range(1_001):
        item = script.enqueue()
        script.start(item)
        script.fail(item, ErrorInfo("m:Other", ""))
    items = [script.enqueue() for _ in range(2)]
    for one in items:
        script.start(one)
        script.fail(one, BOOM)
    script.open_again(items[0], failed="process")
    script.start(items[0], attempt=2)
    script.fail(items[0], ErrorInfo("m:Third", ""), attempt=2)
    run = MadeUpRun(script.events)

    assert len(run.kinds.groups()) == 3
    assert_well_formed(run)


# ---- notes ---------------------------------------------------------------------------------------------------------


def test_journal_that_is_lost() -> None:
    """The figures stay, and why they do is said first."""
    run = MadeUpRun(working().events, share=0.5)
    run.error = "the journal run.db was removed or replaced"
    view = View(run)

    assert view.said("notes") == (
        "The journal can't be read. the journal run.db was removed or replaced. If that lasts, start aqueue serve again."
    )
    assert view.figures()["Completed"][0] == "31 76 %"


def test_reporters_that_failed() -> None:
    """Which, and why; of many, some."""
    script = Script()
    for number in range(5):
        script.add(ev.ReporterFailed, reporter=f"module:R{number}", error=BOOM)
    notes = View(MadeUpRun(script.events)).said("notes")

    assert notes.startswith("The reporter module:R0 failed. module:Boom: it broke")
    assert notes.count("failed.") == 3


def test_cancelled_items_alone_are_not_retried_by_a_resume() -> None:
    """The note says what would."""
    script = Script()
    script.cancel(script.enqueue())
    notes = View(MadeUpRun(script.finish("failed"))).said("notes")

    assert "To retry the cancelled item, use aqueue retry; then run the same program again" in notes


# ---- texts of the run ----------------------------------------------------------------------------------------------

HARMLESS = "harmless\u2028text"
"""It has a line of its own in a traceback at the same place as the hostile one."""


def hostile_runs(text: str) -> Iterator[MadeUpRun]:
    """Yield runs in each state with this text in all its strings."""
    events = saying(text)
    for number in range(1, len(events) + 1, 6):
        for liveness in ("alive", "gone", "elsewhere"):
            yield MadeUpRun(events[:number], after_s=61, liveness=liveness, name=text)
    yield MadeUpRun(of_everything(text), after_s=5, name=text)
    lost = MadeUpRun(events, name=text)
    lost.error = text
    yield lost
    script = Script(num_workers=9)
    for worker in range(1, 5):
        item = script.enqueue(text, group=text)
        script.start(item, text, worker=worker, group=text)
        script.add(ev.ItemDescribed, item=item, worker=worker, text=text)
    script.enqueue(text, group=text)
    script.add(ev.GroupPaused, group=text, by=text)
    yield MadeUpRun(script.events, after_s=10, name=text)
    script.add(ev.RunPaused, by=text)
    yield MadeUpRun(script.events, after_s=10, name=text)


def test_hostile_text_is_only_text() -> None:
    """No element or attribute is there that isn't there with harmless texts; what is shown is escaped."""
    seen = 0
    for hostile, harmless in zip(hostile_runs(HOSTILE), hostile_runs(HARMLESS), strict=True):
        assert_well_formed(hostile)
        assert state_of(hostile) == state_of(harmless)
        hostile.can_control = harmless.can_control = True
        for name in shown_views(can_control=True):
            view, other = View(hostile, name), View(harmless, name)
            assert view.shape == other.shape
            assert not set("\u202e\u2028\x1b\x00\ud800") & set(view.document)
            assert "<img" not in view.document and "${source}<" not in view.document
            seen += view.text.count(
                "</script><img src=x onerror=alert(1)>\\u202e\\u2028\\x1b[2J\\x00\"'`&amp;<!--${source}"
            )
            assert view.document.count("&lt;/script&gt;&lt;img") >= 2  # the title and the heading
    assert seen > 300


def dialogs_of(run: Moment, text: str) -> list[Html]:
    """Return each dialog, about a group, a type and an error of that name."""
    preview = Preview(count=7, types={text: 7}, others={"running": 1}, hooks=2, is_live=False)
    request = OnItems(types=(text,), states=("failed",), error=text)
    words = ["aqueue", text]
    asked = [items_dialog(run, name, request, preview, words) for name in ("retry", "skip", "cancel")]
    return [stop_dialog(run, words), limit_dialog(run, text), *asked]


def test_hostile_text_is_only_text_in_dialogs() -> None:
    """As in the page."""
    for hostile, harmless in zip(hostile_runs(HOSTILE), hostile_runs(HARMLESS), strict=True):
        for dialog, other in zip(dialogs_of(hostile, HOSTILE), dialogs_of(harmless, HARMLESS), strict=True):
            shapes = [[tag for tag, _ in Shape(html).elements] for html in (dialog, other)]
            assert shapes[0] == shapes[1]
            for tag, attributes in Shape(dialog).elements:
                assert_harmless(tag, attributes)
            assert not set("\u202e\u2028\x1b\x00\ud800") & set(dialog)


@given(hostile_text)
def test_name_of_the_file_stays_in_its_place(name: str) -> None:
    """It is in the title and in the heading, and a placeholder in it is none."""
    run = MadeUpRun(Script().events, name=name)
    page = View(run).document

    assert len(re.findall("<h1>", page)) == len(re.findall("<title>", page)) == 1
    assert page.count("<script") == 1
    assert "$" not in page or "$" in name


# ---- what a person can do --------------------------------------------------------------------------------------------


def verbs_in(html: str) -> list[tuple[str, str, object]]:
    """Return what the buttons do: what each says, its verb and its request."""
    buttons = BeautifulSoup(html, "html.parser").select("[data-verb]")
    return [(said(one), str(one["data-verb"]), json.loads(str(one.get("data-body", "{}")))) for one in buttons]


def all_verbs(view: View) -> set[str]:
    """Return the verbs of a view."""
    return {name for _, name, _ in verbs_in(view.document)}


def test_a_read_only_page_has_no_buttons() -> None:
    """Neither a tab nor a button, and it says so."""
    script = with_failures(3)
    for run in (MadeUpRun(script), MadeUpRun(script[:-1], after_s=1)):
        for name in ("now", "failures"):
            view = View(run, name)
            assert all_verbs(view) == set()
            assert view.said("access") == "Read-only"
            assert "Control" not in view.said("tabs") and "data-control" not in view.document
    assert "control" not in shown_views(can_control=False)


def limited() -> Script:
    """Return the script of a run with an item in a group, of which a person has changed the limit."""
    script = Script(num_workers=4)
    for worker in (1, 2):
        item = script.enqueue(group="shop")
        script.start(item, worker=worker, group="shop")
    script.enqueue(group="shop")
    limit = ev.GroupLimit(concurrent=4)
    script.add(ev.GroupLimitChanged, group="shop", concurrent=2, by=ANNA, program=limit)
    return script


def test_what_can_be_done_to_a_live_run() -> None:
    """It can be paused, stopped, and given other workers and limits; what is in force is listed, with who has set it."""
    view = View(MadeUpRun(limited().events, after_s=1, can_control=True), "control")

    assert verbs_in(view.parts["access"]) == [("Pause", "pause", {})]
    assert [one[:2] for one in verbs_in(view.parts["steer"])] == [("Pause run", "pause"), ("Stop…", "stop")]
    assert view.said("steer") == (
        "Run After a pause nothing new starts; running items finish (2 now). A resumed run stays paused. Pause run Stop…"
    )
    assert view.said("crew-size").startswith("Workers 2 busy, 2 idle This is the program's number.")
    assert view.part("stepper").input["value"] == "4"  # type: ignore[index]
    assert re.fullmatch(r"In force shop 2 at once, set .+ by anna@host \(program: 4 at once\)", view.said("in-force"))
    assert verbs_in(view.parts["limits"]) == [
        ("Pause", "pause", {"group": "shop"}),
        ("Edit…", "limit", {"group": "shop"}),
    ]


def test_what_can_be_done_to_a_paused_run() -> None:
    """It can be unpaused, wherever it could be paused, and so can a paused group; what was set says by whom."""
    script = limited()
    script.add(ev.GroupPaused, group="shop", by=ANNA)
    script.add(ev.RunPaused, by=ANNA)
    script.add(ev.RunWorkersChanged, num_workers=9, program=4, by=ANNA)
    view = View(MadeUpRun(script.events, after_s=1, can_control=True), "control")

    assert verbs_in(view.parts["access"]) == [("Unpause", "unpause", {})]
    assert verbs_in(view.parts["steer"])[0] == ("Unpause run", "unpause", {})
    assert ("Unpause", "unpause", {"group": "shop"}) in verbs_in(view.parts["limits"])
    assert view.part("stepper").input["value"] == "9"  # type: ignore[index]
    assert "The program's number is 4." in view.said("crew-size")
    assert view.said("crew-advice") == "Nothing starts until a person unpauses it, with aqueue unpause."
    assert len(view.part("in-force").find_all("li")) == 4


def test_what_can_be_done_while_a_run_stops() -> None:
    """What runs can be cancelled; the rest holds for its resume."""
    script = limited()
    script.add(ev.RunStopping, reason="stop was called")
    run = MadeUpRun(script.events, after_s=1, can_control=True)

    assert [words for words, *_ in verbs_in(View(run, "control").parts["steer"])] == ["Pause run", "Stop now…"]
    assert [(words, body) for words, _, body in verbs_in(stop_dialog(run, []))] == [("Stop now", {"now": True})]


def test_what_can_be_done_to_a_run_without_a_process() -> None:
    """It can't be stopped; the rest holds from its resume on, and it is said so."""
    view = View(MadeUpRun(limited().events, liveness="gone", can_control=True), "control")

    assert all_verbs(view) == {"pause", "workers", "limit"}
    assert not verbs_in(view.parts["access"])
    assert "No process runs the run: what is set here holds from its resume on. There is nothing to stop." in view.said(
        "steer"
    )


@pytest.mark.parametrize(
    ("events", "error", "why"),
    [
        (completed(3), "", "The run is completed: nothing is left to start."),
        ([], "", "Nothing is recorded yet: a run can be steered once it has begun."),
        (limited().events, "the disk is gone", "The journal can't be read, and nothing can be written into it."),
    ],
)
def test_where_nothing_can_be_done(events: list[Event], error: str, why: str) -> None:
    """There is no button, and the reason is said."""
    run = MadeUpRun(events, after_s=1, can_control=True)
    run.error = error
    view = View(run, "control")

    assert all_verbs(view) == set()
    assert why in view.said("steer") and why in view.said("crew-size")


def test_workers_of_a_cluster_are_not_set_here() -> None:
    """The run refuses it; the page says where they are started."""
    view = View(MadeUpRun(on_a_cluster(2, 3)[:-1], after_s=1, can_control=True), "control")

    assert view.part("stepper").has_attr("hidden")
    assert "The run is on a cluster: start or stop worker processes there." in view.said("crew-size")


def test_failures_can_be_retried_and_skipped_by_kind() -> None:
    """The request means those of the class that failed with exactly that error, whatever characters are in its name."""
    script = Script()
    error = ev.ErrorInfo("module:Bad[*]?", "it broke", "")
    for phase in ("process", "process", "after_children"):
        item = script.enqueue()
        script.start(item)
        script.fail(item, error, phase=phase)
    run = MadeUpRun(script.events, after_s=1, can_control=True)

    request = {"types": ["module:Page"], "states": ["failed"], "error": exactly("module:Bad[*]?")}
    expected = [("Retry 3…", "retry", request), ("Skip 3…", "skip", request)]
    assert (
        verbs_in(View(run, "failures").parts["list"]) == expected * 2
    )  # in their hooks is a kind of its own, and looks alike
    assert fnmatchcase("module:Bad[*]?", exactly("module:Bad[*]?"))
    run.error = "the disk is gone"
    assert verbs_in(View(run, "failures").parts["list"]) == []


def test_a_dialog_says_what_a_command_does() -> None:
    """How many items, what runs because of it, what is left out, and the same command; the button repeats the number."""
    script = Script()
    for _ in range(3):
        item = script.enqueue()
        script.start(item)
        script.fail(item, BOOM)
    run = MadeUpRun(script.events, after_s=1)
    request = OnItems(states=("failed",))
    preview = Preview(count=2, types={"module:Page": 2}, others={"running": 3, "unknown": 1}, hooks=1, is_live=True)
    html = items_dialog(run, "retry", request, preview, ["aqueue", "retry", "'my run.db'"])
    text = said(BeautifulSoup(html, "html.parser").div)

    assert text.startswith("Retry 2 failed items of Page? 2 items run again, with fresh attempts")
    assert "Once everything below has succeeded, 1 hook of ancestors will run." in text
    assert "The number of failed items goes from 3 to 1." in text
    assert "Not included: 3 running, 1 unknown." in text
    assert "aqueue retry 'my run.db'" in text and ", from the page." in text
    assert verbs_in(html) == [("Retry 2 items", "retry", {"states": ["failed"]})]
    assert BeautifulSoup(html, "html.parser").select("[autofocus]")[0].text == "Cancel"

    lost = items_dialog(run, "cancel", request, Preview(1, {"module:Page": 1}, {}, 0, is_live=False), [])
    assert "Cancel 1 failed item of Page?" in lost and "1 item fails, and stays failed" in lost
    assert "holds from its resume on" in lost and "goes from" not in lost


def test_the_form_for_a_limit() -> None:
    """It begins with the limit that holds, and leads back to that of the program if a person has changed it."""
    run = MadeUpRun(limited().events, after_s=1)
    form = BeautifulSoup(limit_dialog(run, "shop"), "html.parser").form
    assert isinstance(form, Tag)

    assert {str(one["name"]): one["value"] for one in form.find_all("input")} == {"concurrent": "2", "per_second": ""}
    assert "Running items count: 2 now." in said(form)
    assert verbs_in(str(form))[1] == (
        "Back to the program's: 4 at once",
        "limit",
        {"group": "shop", "is_default": True},
    )
    assert [words for words, *_ in verbs_in(limit_dialog(run, "other"))][1:] == []


# ---- pictures ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), max_size=6).map(lambda parts: [part / max(sum(parts), 1) for part in parts]))
def test_shares_that_are_drawn_add_up(shares: list[float]) -> None:
    """Each begins where the one before it ends, and is as wide as it says; nothing is drawn of what is nothing."""
    rects = BeautifulSoup(bar([(f"s{n}", share) for n, share in enumerate(shares)]), "html.parser").find_all("rect")

    drawn = [(n, share) for n, share in enumerate(shares) if share > 0]
    assert [str(rect["class"][0]) for rect in rects] == [f"s{n}" for n, _ in drawn]
    left = 0.0
    for rect, (_, share) in zip(rects, drawn, strict=True):
        assert float(str(rect["x"])[:-1]) == pytest.approx(left, abs=0.01)
        assert float(str(rect["width"])[:-1]) == pytest.approx(100 * share, abs=0.01)
        left += 100 * share


def test_time_of_a_run_is_drawn_as_it_was_spent() -> None:
    """The last minute and the whole run have a bar each, whose segments are the shares in their legend."""
    script = working(num_workers=1)
    script.add(ev.RunPaused, by=ANNA)
    view = View(MadeUpRun(script.events, after_s=30))
    minute, whole = view.run.view.shares(view.run.now), view.run.view.shares(view.run.now, "run")

    for picture, shares in zip(view.part("why").select("svg.shares"), (minute, whole), strict=True):
        widths = {str(rect["class"][0]): float(str(rect["width"])[:-1]) for rect in picture.select("rect")}
        assert widths == pytest.approx({"paused": 100 * shares.paused, "busy": 100 * shares.busy}, abs=0.01)
    assert "paused by a person 50 % 50 %" in view.said("why")


@given(st.floats(1e-9, 1e12))
@example(1_000.000_000_000_1)
def test_axis_reaches_to_a_round_number_not_far_above(most: float) -> None:
    """All that is drawn is below its top, and takes at least two fifths of it; its label is short."""
    top = _round_up(most)

    assert most <= top <= 2.5 * most
    assert float(f"{top:.1e}") == pytest.approx(top)
    assert len(_short(top)) <= 6 and len(_short(top / 2)) <= 7


def test_what_was_skipped_has_a_line() -> None:
    """In the chart of what was found, where anything was."""
    script = working()
    assert "skipped" not in View(MadeUpRun(script.events)).said("charts")
    item = script.enqueue()
    script.add(ev.ItemSkipped, item=item, type=PAGE)
    charts = View(MadeUpRun(script.events)).part("charts")

    assert len(charts.select("path.line.skipped")) == len(charts.select("i.key.skipped")) == 1


def test_axis_of_nothing() -> None:
    """There is one all the same."""
    assert _round_up(0.0) == _round_up(-1.0) == 1.0


@pytest.mark.parametrize(
    ("value", "words"), [(0.25, "0.25"), (250, "250"), (2_500, "2,500"), (15_000, "15k"), (1.2e7, "12M"), (3e9, "3G")]
)
def test_labels_of_an_axis_are_short(value: float, words: str) -> None:
    """Large ones have a unit."""
    assert _short(value) == words


periods = st.lists(st.tuples(st.floats(0.001, 1e6), st.integers(0, 10**9)), min_size=1, max_size=20).map(
    lambda drawn: [
        Period(
            sum(width for width, _ in drawn[:n]),
            sum(width for width, _ in drawn[: n + 1]),
            count,
            0,
            0,
            0,
            0,
            count,
            0.0,
        )
        for n, (_, count) in enumerate(drawn)
    ]
)


@given(periods, st.booleans(), st.lists(st.floats(0, 1), max_size=3))
def test_chart_is_within_its_picture(bins: list[Period], is_stepped: bool, gaps: list[float]) -> None:
    """Each point of each line, each mark; from left to right, and the highest in the upper half or near it."""
    marks = [(gap * bins[-1].end, "killed") for gap in gaps]
    drawn = chart(
        "Items",
        bins,
        [("done", lambda one: one.enqueued), ("rate", lambda one: one.rate)],
        marks,
        is_stepped=is_stepped,
    )
    shape = Shape(drawn)

    assert_pictures_fit(shape.elements)
    paths = [attributes["d"] for tag, attributes in shape.elements if tag == "path"]
    assert len(paths) == 2
    points = [[tuple(numbers_in(point)) for point in path[1:].split("L")] for path in paths]
    for line in points:
        assert all(before[0] <= after[0] for before, after in pairwise(line))
        assert line[0][0] == 0 and line[-1][0] == pytest.approx(1_000, abs=0.1)
    assert min(y for line in points for _, y in line) <= 600 or not any(one.enqueued for one in bins)
    assert len([1 for tag, attributes in shape.elements if (tag, attributes.get("class")) == ("line", "gap")]) == len(
        gaps
    )
    assert shape.elements[0][1]["aria-label"] == "Items"


def test_chart_of_one_line_has_its_area_filled() -> None:
    """Down to the axis, from the beginning to the end."""
    bins = [Period(0.0, 5.0, 10, 10, 0, 0, 1, 10, 1.0), Period(5.0, 10.0, 20, 20, 0, 0, 1, 10, 1.0)]
    paths = re.findall(r'd="(.+?)"', chart("Items", bins, [("done", lambda one: one.done)], []))

    assert paths == [
        "M0 1000L0.0 1000.0L500.0 500.0L1000.0 0.0L1000 1000Z",
        "M0.0 1000.0L500.0 500.0L1000.0 0.0",
    ]


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_each_count_of_a_histogram_can_be_seen(counts: list[int]) -> None:
    """A bar of its own each, in order, side by side; the highest is the greatest, and one is higher than none."""
    rects = [attributes for tag, attributes in Shape(falling_bars(counts)).elements if tag == "rect"]
    heights = [float(rect["height"][:-1]) for rect in rects]

    assert len(rects) == len(counts)
    assert_pictures_fit([("rect", rect) for rect in rects])
    for height, count in zip(heights, counts, strict=True):
        assert height == (3.0 if not count else pytest.approx(max(100 * count / max(counts), 8), abs=0.06))


@pytest.mark.parametrize(("full", "most", "taken"), [(0, 3, 0), (2, 3, 2), (5, 3, 3), (0, 0, 0), (7, 13, 0)])
def test_places_of_a_limit(full: int, most: int, taken: int) -> None:
    """As many boxes as there are places, unless they are too many; more may run than a new limit allows."""
    html = str(pips(full, most))

    assert html.count("<rect") == (most if most <= 12 else 0)
    assert html.count('"taken"') == taken


def test_any_type_of_event_has_a_page() -> None:
    """At many moments of a run with all of them."""
    events = every_event_type()
    for number in range(0, len(events) + 1, 2):
        run = MadeUpRun(events[:number], after_s=0.5)
        assert_well_formed(run)
        assert_agrees(run)
