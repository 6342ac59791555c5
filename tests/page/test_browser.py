"""The page of a run in a real browser, with real runs and servers in other processes, some of which are killed.

These need Chromium and Playwright: `make browser-test`.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.browser import Visit as BaseVisit
from tests.browser import violations
from tests.page.job import HOSTILE_TEXT, VARIED
from tests.page.serving import Run, Served, Server, Start, call

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Response

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SCHEMES: Sequence[Literal["light", "dark"]] = ("light", "dark")
VIEWS = ("/", "/failures")

# In the page before its own script: counts what the server sends and how much of the layout moves, and reads figures.
WATCH = """
window.seen = { source: null, messages: 0, shift: 0, moved: [], spoken: [] };
window.EventSource = class extends EventSource {
    constructor(...given) {
        super(...given);
        seen.source = this;
        this.addEventListener("message", () => requestAnimationFrame(() => { seen.messages += 1; }));
    }
};
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
        if (entry.hadRecentInput) continue;
        seen.shift += entry.value;
        seen.moved = seen.moved.slice(-20); // a soak lasts for an hour
        seen.moved.push(entry.sources.map(({ node, previousRect, currentRect }) =>
            [node?.id || node?.outerHTML?.slice(0, 80), JSON.stringify(previousRect), JSON.stringify(currentRect)]));
    }
}).observe({ type: "layout-shift", buffered: true });
window.figure = (name) => {
    const title = [...document.querySelectorAll("#figures dt")].find((one) => one.textContent === name);
    return Number.parseInt(title.nextElementSibling.textContent.replace(/[^0-9 ]/g, ""));
};
"""
# What is wider than the page, and no part of what scrolls by itself.
TOO_WIDE = """() => [...document.querySelectorAll("body *")].filter((one) =>
    one.getBoundingClientRect().right > innerWidth + 0.5 && !one.closest(".scroll, .frames, pre, .tabs, .skip, svg, .code")
).map((one) => one.outerHTML.slice(0, 200))"""
PAINTED = "new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)))"
SET_HIDDEN = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


class Visit(BaseVisit):
    """A browser of its own that has the page open, and what went on there."""

    def __init__(self, browser: "Browser", server: Server, path: str = "/", **options: Any) -> None:
        super().__init__(browser, **{"viewport": {"width": 1300, "height": 900}, **options})
        self.context.add_init_script(WATCH)
        self.responses: list[Response] = []
        self.failed: list[str] = []
        self.page.on("response", lambda response: self.responses.append(response))  # noqa: PLW0108  # no built-in function
        self.page.on("requestfailed", lambda request: self.failed.append(request.url))
        self._origin = server.origin
        self.enter(server.new_address())
        if path != "/":
            self.open(path)

    def enter(self, address: str) -> None:
        """Open a printed address; wait for the page to which it leads."""
        self._origin = address.partition("/enter")[0]
        self.page.goto(address, wait_until="commit")
        self.page.wait_for_url(f"{self._origin}/")

    def open(self, path: str) -> None:
        """Open another view."""
        self.page.goto(self._origin + path)

    def until_says(self, words: str) -> None:
        """Wait until the page says something."""
        self.until(f"document.body.innerText.replace(/\\s+/g, ' ').includes({words!r})")

    def updates(self, number: int) -> None:
        """Wait for that many updates."""
        self.until(f"seen.messages >= {self.js('seen.messages') + number}")

    def metrics(self) -> dict[str, float]:
        """Return what Chromium measures of the page, by its names for that, without garbage and what is just being painted."""
        self.page.evaluate(SET_HIDDEN, arg=True)
        self.js(f"{PAINTED}.then(() => {{ seen.source = null; }})")
        self._devtools.send("HeapProfiler.collectGarbage")
        found = self._devtools.send("Performance.getMetrics")["metrics"]
        self.page.evaluate(SET_HIDDEN, arg=False)
        return {one["name"]: one["value"] for one in found}

    @cached_property
    def _devtools(self) -> "CDPSession":
        devtools = self.context.new_cdp_session(self.page)
        devtools.send("Performance.enable")
        return devtools

    def js(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        return self.page.evaluate(expression)


@pytest.fixture(scope="module")
def steady(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start a run that goes on at one pace and has two kinds of failures, and its server, for tests that leave it alone."""
    journal = tmp_path_factory.mktemp("steady") / "run.db"
    with Run(journal, fails="NotFound", groups=3) as run, Server(journal) as server:
        with Visit(browser, server) as visit:
            visit.until("figure('Failed') > 0")
            run.tell("Broken")
            visit.until_says("Page: Broken")
            run.tell("")
        yield Served(run, server)


# ---- updates


def test_figures_follow_the_run(browser: "Browser", steady: Served) -> None:
    """The figures grow with the run; the page is loaded once."""
    with Visit(browser, steady.server) as visit:
        completed, loaded = visit.js("figure('Completed')"), len(visit.requests)
        visit.until(f"figure('Completed') > {completed + 10}")

        assert visit.text("#state .pill") == "Running"
        assert [one.url for one in visit.requests[loaded:] if one.resource_type != "eventsource"] == []
        assert visit.messages == []


def test_slider_that_is_dragged_back_to_the_end(browser: "Browser", steady: Served) -> None:
    """The page follows the run again, though the slider is where it was."""
    with Visit(browser, steady.server) as visit:
        visit.until("!document.getElementById('dock').hidden")
        track = visit.page.locator("#time").bounding_box()
        assert track is not None
        end, y = track["x"] + track["width"] - 2, track["y"] + track["height"] / 2
        visit.page.mouse.move(end, y)
        visit.page.mouse.down()
        visit.page.mouse.move(track["x"] + track["width"] / 2, y, steps=5)
        visit.until("/Back to live|The past is being read/.test(document.body.innerText)")
        visit.page.mouse.move(end, y, steps=5)
        visit.page.mouse.up()
        visit.until("document.getElementById('clock').innerText.startsWith('Live')")
        visit.updates(2)
        assert "at=" not in visit.page.url


def test_what_a_person_does_survives_updates(browser: "Browser", start: Start) -> None:
    """A traceback that is open, a selection and the focus are there after updates, also if another kind gets to the top."""
    run, server = start(fails="NotFound")
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 2")
        visit.open("/failures")
        visit.page.locator("summary").focus()
        visit.press("Enter")
        kept = visit.page.evaluate_handle(
            """() => {
                const pre = document.querySelector("details[open] pre");
                getSelection().selectAllChildren(pre);
                return [pre, pre.closest("article"), document.activeElement, document.querySelector("#tabs a")];
            }"""
        )
        selected = visit.js("getSelection().toString()")
        run.tell("Broken")
        visit.until("document.querySelector('article h3').textContent.includes('Broken')")
        visit.updates(2)

        assert "not there: NotFound" in selected
        assert visit.js("getSelection().toString()") == selected
        assert visit.page.evaluate("(all) => all.map((one) => one.isConnected)", kept) == [True] * 4
        assert visit.page.evaluate("(all) => all[0].closest('details').open", kept)
        assert visit.page.evaluate("(all) => all[2] === document.activeElement && all[2].matches('summary')", kept)
        assert visit.page.locator("button.copy").count() == visit.page.locator("button.copy:not([hidden])").count() == 2
        assert visit.messages == []


def test_a_killed_run_and_its_resume(browser: "Browser", start: Start) -> None:
    """When the run is killed the page says so, and what to do; when it is resumed the page goes on by itself."""
    run, server = start()
    with Visit(browser, server) as visit:
        visit.until("figure('Completed') > 5")
        run.kill()
        visit.until_says("Process gone")
        visit.until_says("The run's process is gone.")
        completed = visit.js("figure('Completed')")

        assert "Nothing in the journal is lost" in visit.text("#notes")
        assert "resume" in visit.text("#notes")
        assert visit.text("#why h2").startswith("Nothing runs: the process was killed or has crashed")

        with Run(run.journal):
            visit.until_says("Running")
            visit.until(f"figure('Completed') > {completed}")

            assert "resumed once" in visit.text("#state")
            assert visit.text("#notes") == ""
            assert visit.messages == []


def test_a_killed_server(browser: "Browser", start: Start) -> None:
    """Without its server the page says so and keeps its figures; one that was started again lets nobody in but by its address."""
    run, server = start()
    with Visit(browser, server) as visit:
        visit.until("figure('Completed') > 5")
        assert visit.page.locator("#offline").is_hidden()
        server.kill()
        visit.until_says("This page has lost its server and shows the run as it was at")
        visit.until_says("Trying again.")
        assert visit.js("figure('Completed')") > 5

        with Server(run.journal, server.port) as again:
            visit.until_says("The server was started again: open the address that it has printed.")
            assert visit.js("figure('Completed')") > 5

            visit.enter(again.address)
            visit.updates(2)
            assert visit.page.locator("#offline").is_hidden()


@pytest.mark.parametrize(("zone", "is_other"), [("Asia/Kolkata", False), ("America/New_York", True)])
def test_times_are_those_of_the_server(
    browser: "Browser", start: Start, monkeypatch: pytest.MonkeyPatch, zone: str, is_other: bool
) -> None:
    """Those that the script adds, too; a browser in another time zone is told which one they are in."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    run, server = start(pages=5)
    run.wait()
    with Visit(browser, server, timezone_id=zone, locale="en-GB") as visit:
        visit.until_says("Completed")
        assert visit.page.locator("#zone").is_visible() == is_other
        assert visit.js("document.querySelector('#zone').textContent") == " · times in UTC+05:30"
        ended = re.search(r"at (\d\d):(\d\d)", visit.text("#state"))
        server.kill()
        visit.until_says("This page has lost its server")
        lost = re.search(r"(\d\d):(\d\d):\d\d", visit.text("#offline"))

        assert ended is not None and lost is not None
        minutes = [60 * int(one[1]) + int(one[2]) for one in (ended, lost)]
        assert (minutes[1] - minutes[0]) % (24 * 60) < 5


def test_a_server_that_comes_back_for_a_while_only(browser: "Browser", steady: Served) -> None:
    """A connection that was lost and is there again: the page goes on by itself, and says no more that it has lost it."""
    with Visit(browser, steady.server) as visit:
        visit.updates(1)
        visit.context.set_offline(True)  # new connections fail; the one that there is is closed as a lost one is
        visit.js("seen.source.close(), seen.source.dispatchEvent(new Event('error'))")
        visit.until_says("Trying again.")
        visit.context.set_offline(False)
        visit.until("document.querySelector('#offline').hidden")
        visit.updates(2)


def test_each_browser_needs_an_address_of_its_own(browser: "Browser", steady: Served) -> None:
    """An address lets one browser in, once; a second one is told to press Enter for another, which lets it in, too."""
    server = steady.server
    with Visit(browser, server) as first, browser.new_context() as context:
        second = context.new_page()
        second.goto(server.address)
        assert "used before" in second.inner_text("body") and "Press Enter" in second.inner_text("body")
        second.goto(server.origin)
        assert "Open the address that `aqueue serve` has printed" in second.inner_text("body")

        with Visit(browser, server) as third:
            for visit in (first, third):
                visit.updates(1)
                assert visit.messages == []
        first.enter(server.address)  # a browser with a cookie may open a used address
        assert first.text("h1") == "run.db"


def test_a_hidden_page_is_sent_nothing(browser: "Browser", steady: Served) -> None:
    """A page that nobody sees closes its connection and asks for nothing; once it is seen again, it is up to date."""
    with Visit(browser, steady.server) as visit, Visit(browser, steady.server) as other:
        visit.page.evaluate(SET_HIDDEN, arg=True)
        visit.js(PAINTED)
        completed, messages, requests = visit.js("figure('Completed')"), visit.js("seen.messages"), len(visit.requests)
        other.until(f"figure('Completed') > {completed + 20}")
        assert visit.js("seen.source.readyState === EventSource.CLOSED")
        assert visit.js("figure('Completed')") == completed
        assert (visit.js("seen.messages"), len(visit.requests)) == (messages, requests)

        visit.page.evaluate(SET_HIDDEN, arg=False)
        visit.until(f"figure('Completed') > {completed + 20}")
        assert visit.page.locator("#offline").is_hidden()
        assert visit.messages == []


def test_without_javascript(browser: "Browser", steady: Served) -> None:
    """Where scripts are off, the printed address leads to the page, which has its figures and says that they stay."""
    with Visit(browser, steady.server, java_script_enabled=False) as visit:
        assert "Running" in visit.text("#state")
        assert "Completed" in visit.text("#figures")
        assert visit.page.locator("section noscript p").is_visible()
        assert "this page shows the run as it was when it was loaded" in visit.text("section noscript")
        assert visit.page.locator("button:not([type=submit]) >> visible=true").count() == 0
        visit.page.locator("#tabs a", has_text="Failures").click()
        visit.page.locator("summary").first.click()
        assert "NotFound" in visit.text("details[open] pre >> nth=0")
        assert visit.messages == []


def test_what_is_announced(browser: "Browser", start: Start) -> None:
    """Screen readers hear once that the run was paused, and nothing of the figures that change all the time."""
    run, server = start()
    with Visit(browser, server) as visit:
        visit.js(
            """new MutationObserver(() => seen.spoken.push(document.querySelector("#spoken").textContent)).observe(
                document.querySelector("#spoken"), { childList: true, characterData: true, subtree: true })"""
        )
        visit.updates(5)
        assert visit.js("seen.spoken") == []
        call("pause", run.journal)
        visit.until("seen.spoken.length")
        visit.updates(3)
        assert visit.js("seen.spoken") == ["Paused."]
        assert visit.js("document.querySelector('#spoken').getAttribute('role')") == "status"
        assert visit.text("#why h2").startswith("Paused")


# ---- what is shown


def test_hostile_text_is_text(browser: "Browser", start: Start) -> None:
    """Whatever items, groups, errors, people and files are called, it is text: no element comes of it, and nothing runs."""
    name = HOSTILE_TEXT.replace("/", "")
    run, server = start(name, workers=8, hostile=True, fails=HOSTILE_TEXT, pace_s=0.2)
    shown = "<script><img src=x onerror=alert(1)>\\u202e\\u2028\\x1b[2J\"'`&amp;<!--${source}"
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 20")
        call("limit", run.journal, HOSTILE_TEXT, "--per-second", 3)
        call("pause", run.journal)
        for path in VIEWS:
            visit.open(path)
            visit.updates(1)
            visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert visit.text("h1") == shown
            assert visit.page.title().startswith(shown)
            said = visit.text("main")
            assert said.count(shown.replace("<script>", "</script>")) > 5
            assert visit.js("[...document.scripts].map((one) => one.getAttribute('src'))") == ["static/page.js"]
            assert (
                visit.page.locator(
                    "img, iframe, object, style, form:not(#dock, #keys form), [style], [onerror]"
                ).count()
                == 0
            )
        assert visit.messages == []
        assert {one.url.partition(",")[0].removesuffix("?") for one in visit.requests} <= {
            *(server.origin + path for path in (*VIEWS, "/events/now", "/events/failures")),
            *(
                server.origin + f"/static/{file}"
                for file in ("page.css", "page.js", "reader.js", "vendor/idiomorph.esm.js")
            ),
            server.address,
            "data:",
        }


def check_axe(visit: Visit, state: str) -> None:
    """Assert that axe-core finds nothing wrong in either view, light and dark."""
    for path in VIEWS:
        visit.open(path)
        visit.until_says(state)
        visit.until("seen.messages > 0")  # no more come of a run that has ended
        visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for scheme in SCHEMES:
            visit.page.emulate_media(color_scheme=scheme)
            assert violations(visit.page) == [], (state, path, scheme)


def test_axe_finds_nothing(browser: "Browser", start: Start) -> None:
    """The rules of axe-core find nothing wrong in a run that goes on with failures, is paused, and is gone."""
    run, server = start(fails="NotFound", groups=3)
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 5")
        run.tell("")
        check_axe(visit, "Running")
        call("limit", run.journal, "group 1", "--per-second", 3)
        call("pause", run.journal)
        check_axe(visit, "Paused")
        run.kill()
        check_axe(visit, "Process gone")


def test_axe_finds_nothing_in_what_has_ended(browser: "Browser", start: Start) -> None:
    """The rules of axe-core find nothing wrong in a run that is completed."""
    run, server = start(pages=20)
    assert run.wait() == 0
    with Visit(browser, server) as visit:
        check_axe(visit, "Completed")


def test_nothing_is_wider_than_the_page(browser: "Browser", start: Start) -> None:
    """With 60 types, 40 kinds of failures, 200 workers and long names, wide and narrow, only parts of it scroll sideways."""
    run, server = start(
        "run-with-a-name-that-is-far-too-long-for-a-telephone-and-has-no-blank-to-break-it-at.db",
        workers=200, fails=VARIED, pace_s=0.005, takes_s=0.3, groups=20,
    )  # fmt: skip
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 300")
        call("pause", run.journal, "--group", "group 7")
        for path in VIEWS:
            visit.open(path)
            visit.updates(1)
            visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            for width in (360, 768, 1300):
                visit.page.set_viewport_size({"width": width, "height": 800})
                visit.updates(1)
                assert visit.js("document.documentElement.scrollWidth") == width, (path, width)
                assert visit.page.evaluate(TOO_WIDE) == [], (path, width)
        assert visit.messages == []


def test_nothing_moves_for_who_wants_no_motion(browser: "Browser", steady: Served) -> None:
    """With reduced motion there is no transition and no animation."""
    with Visit(browser, steady.server, reduced_motion="reduce") as visit:
        moving = visit.js(
            """[...document.querySelectorAll("*")].map((one) => getComputedStyle(one)).filter((style) =>
                style.transitionDuration !== "0s" || style.animationName !== "none" || style.scrollBehavior !== "auto").length"""
        )
        assert moving == 0


def test_the_colour_scheme_is_switched_and_remembered(browser: "Browser", steady: Served) -> None:
    """The button turns a light page dark and back, whatever the system has, and a reload keeps that."""
    background = "getComputedStyle(document.body).backgroundColor"
    with Visit(browser, steady.server, color_scheme="light") as visit:
        light = visit.js(background)
        visit.page.get_by_role("button", name="Switch between light and dark").click()
        dark = visit.js(background)
        visit.page.reload()
        visit.updates(1)
        assert light != dark == visit.js(background)

        visit.page.emulate_media(color_scheme="dark")
        visit.page.get_by_role("button", name="Switch between light and dark").click()
        assert visit.js(background) == light
        visit.open("/failures")
        visit.updates(1)
        assert visit.js(background) == light
        assert visit.messages == []


def check_keyboard(visit: Visit) -> None:
    """Assert that each link, button, field, fold and scrolling box is reached with the Tab key and has an outline."""
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    wanted = visit.page.locator(
        "a[href]:not(.skip), button, input, summary, pre:not(.hidden), .scroll, .frames"
    ).evaluate_all(
        "(all) => all.filter((one) => one.checkVisibility()).map((one, at) => (Object.assign(one, { at }), one.outerHTML.slice(0, 200)))"
    )
    reached = {}
    visit.page.locator(".skip").focus()
    for _ in range(len(wanted) + 3):
        visit.press("Tab")
        at, outline, width = visit.page.evaluate(
            """() => {
                const style = getComputedStyle(document.activeElement.closest("input")?.closest(".find") ?? document.activeElement);
                return [document.activeElement.at, style.outlineStyle, parseFloat(style.outlineWidth)];
            }"""
        )
        if at is not None:
            reached[at] = outline == "solid" and width >= 2

    assert [shown for at, shown in enumerate(wanted) if at not in reached] == []
    assert [wanted[at] for at, has_outline in reached.items() if not has_outline] == []


@pytest.mark.parametrize("path", VIEWS)
def test_everything_is_reached_by_tab_and_shows_it(browser: "Browser", steady: Served, path: str) -> None:
    """Every link, button, fold and scrolling box is reached with the Tab key and has an outline; first comes the skip link."""
    with Visit(browser, steady.server, path) as visit:
        visit.press("Tab")
        assert visit.js("document.activeElement.textContent") == "Skip to the run"
        assert visit.page.locator(".skip").bounding_box() is not None
        assert visit.js("document.activeElement.getBoundingClientRect().left") == 0
        visit.press("Enter")
        assert visit.js("document.activeElement.id") == "main"
        check_keyboard(visit)


# ---- what it costs


@pytest.mark.parametrize("path", VIEWS)
def test_only_its_own_server_is_asked_and_nothing_jumps(browser: "Browser", steady: Served, path: str) -> None:
    """The page asks its own server alone, each request is answered, and updates don't move what a person looks at."""
    with Visit(browser, steady.server, path) as visit:
        visit.updates(1)
        before = visit.js("seen.shift")
        visit.updates(8)

        assert visit.js("seen.shift") - before < 0.02, visit.js("seen.moved")
        assert {
            one.url.partition(",")[0] for one in visit.requests if not one.url.startswith(steady.server.origin)
        } <= {"data:"}
        assert [one.status for one in visit.responses if one.status >= 400] == []
        events = [url for url in visit.failed if "/events/" in url]  # of the view that was left
        assert visit.failed == events
        assert visit.messages == []


def test_the_page_does_not_grow(browser: "Browser", start: Start) -> None:
    """After hundreds of updates from a fast run the page has as many nodes and listeners as after some."""
    run, server = start(interval_s=0.02, pace_s=0.002, takes_s=0.01, groups=3, fails="NotFound")
    with Visit(browser, server) as visit:

        def counted() -> tuple[float, float]:
            metrics = visit.metrics()
            return metrics["JSEventListeners"], metrics["Nodes"]

        visit.until("figure('Failed') > 5")
        run.tell("")
        visit.until("document.querySelectorAll('#dock rect').length >= 30")  # it has 80 at most
        visit.updates(50)
        listeners, nodes = counted()
        visit.updates(300)
        listeners_then, nodes_then = counted()

        assert listeners_then <= listeners
        assert nodes_then <= nodes + 150
        assert visit.messages == []
