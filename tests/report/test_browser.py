"""The report in a real browser: it draws, works by keyboard, can be read by all, and asks for nothing from outside.

These need Chromium and Playwright: `make browser-test`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aqueue.events import Event, RunResumed
from aqueue.testing._scripted_runs import Script, completed, with_workers
from tests.browser import Visit as BaseVisit
from tests.browser import chromium, violations
from tests.report.runs import HOSTILE, large, of_everything, render

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CHARTS = ("timeline", "durations", "tree")
CONTRAST_OF_TEXT = 4.5
CONTRAST_OF_GRAPHICS = 3.0

# How many different colours a chart's canvas has: one if nothing is drawn on it.
COLORS_OF = """async (name) => {
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
    const colors = new Set();
    for (const canvas of document.querySelectorAll(`#${name}-chart canvas`)) {
        const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
        const drawing = copy.getContext("2d", { willReadFrequently: true });
        drawing.drawImage(canvas, 0, 0);
        const { data } = drawing.getImageData(0, 0, canvas.width, canvas.height);
        for (let at = 0; at < data.length; at += 4) colors.add((data[at] << 16) + (data[at + 1] << 8) + data[at + 2]);
    }
    return [...colors];
}"""
# What a rule of the style sheet comes to, as [red, green, blue].
COLOR_NAMED = """(name) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--${name})`;
    canvas.fillStyle = getComputedStyle(probe).color;
    probe.remove();
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def number_of(color: tuple[int, int, int]) -> int:
    """Return a colour as the one number that it is among a chart's colours."""
    red, green, blue = color
    return (red << 16) + (green << 8) + blue


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Start Chromium."""
    with chromium() as browser:
        yield browser


class Visit(BaseVisit):
    """A page that is open in the browser, and what went on there."""

    def __init__(self, browser: "Browser", file: Path, **options: Any) -> None:
        super().__init__(
            browser, offline=True, **{"viewport": {"width": 1200, "height": 900}, "timezone_id": "UTC", **options}
        )
        self.page.goto(file.as_uri())

    def focus(self, selector: str) -> None:
        """Give an element the keyboard's focus."""
        self.page.locator(selector).focus()

    def point_along(self, chart: str, *, until: str) -> None:
        """Move the pointer along a chart, near its upper edge, until its tooltip shows and has that text in it."""
        self.page.locator(f"#{chart}-chart").scroll_into_view_if_needed()
        box = self.page.locator(f"#{chart}-chart").bounding_box()
        assert box is not None
        tip = self.page.locator(f"#{chart}-chart .tip")
        for x in range(int(box["width"] * 0.1), int(box["width"]), 7):
            self.page.mouse.move(box["x"] + x, box["y"] + 18)
            if tip.count() and tip.first.is_visible() and until in tip.first.inner_text():
                return
        pytest.fail(f"no tooltip says {until!r}")

    def seen(self) -> tuple[float, float]:
        """Return which part of the time the timeline shows, milliseconds of the run."""
        zoom = "echarts.getInstanceByDom(document.getElementById('timeline-chart')).getOption().dataZoom[0]"
        first, last = self.page.evaluate(f"(({{ startValue, endValue }}) => [startValue, endValue])({zoom})")
        return first, last

    def color(self, name: str) -> tuple[int, int, int]:
        """Return a colour of the style sheet as it is now."""
        red, green, blue = self.page.evaluate(COLOR_NAMED, name)
        return red, green, blue

    def colors_of(self, chart: str) -> set[int]:
        """Return the colours of a chart."""
        return set(self.page.evaluate(COLORS_OF, chart))


def chain(items: int) -> list[Event]:
    """Return a run in which each item has enqueued one more."""
    script = Script()
    for number in range(items):
        script.enqueue(parent=number)
    return script.events


def crash_loop(processes: int) -> list[Event]:
    """Return a run of many processes, each of which crashed soon and was followed by another a while later."""
    script = Script()
    for _ in range(processes):
        item = script.enqueue()
        script.start(item)
        script.wait(1)
        script.complete(item)
        script.start(script.enqueue())
        script.wait(100)
        script.begin(RunResumed)
    return script.events


def written(folder: Path, name: str) -> Path:
    """Write the page of a run of that name into a folder."""
    everything = of_everything()
    runs: dict[str, Iterable[list[Event]]] = {
        "everything": [everything],
        "hostile": [of_everything(HOSTILE)],
        "empty": [completed(0)],
        "small": [completed(5)],
        "workers": [with_workers(250)],
        "large": large(20_000, workers=30),
        "chain": [chain(500)],
        "loop": [crash_loop(80)],
    }
    file = folder / f"{name}.html"
    source = HOSTILE if name == "hostile" else f"{name}.db"
    page = render(runs[name], source=source, now=everything[-1].at + 5, liveness="alive")
    file.write_text(page, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the pages of several runs."""
    folder = tmp_path_factory.mktemp("pages")
    return {
        name: written(folder, name)
        for name in ("everything", "hostile", "empty", "small", "workers", "large", "chain", "loop")
    }


@pytest.mark.parametrize("name", ["everything", "hostile", "small", "workers", "large", "loop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn_and_nothing_is_asked_for(
    browser: "Browser", files: dict[str, Path], name: str, scheme: str
) -> None:
    """Each chart has something on it; the console is silent; nothing but the file itself was loaded."""
    with Visit(browser, files[name], color_scheme=scheme) as visit:
        for chart in CHARTS:
            assert len(visit.colors_of(chart)) > 3, chart

        assert visit.messages == []
        assert {one.url.partition(",")[0] for one in visit.requests} <= {files[name].as_uri(), "data:"}


def test_run_without_an_item(browser: "Browser", files: dict[str, Path]) -> None:
    """There is nothing to draw, and no error of it."""
    with Visit(browser, files["empty"]) as visit:
        assert visit.page.locator(".plot").count() == 0
        assert visit.text("#tabs").split() == ["Summary", "Failures", "Workers", "Facts"]
        assert visit.messages == []


def test_the_policy_stops_what_should_not_be_there(browser: "Browser", files: dict[str, Path]) -> None:
    """Were markup to get into the page, the policy would keep its script, its style and its request from working."""
    with Visit(browser, files["small"]) as visit:
        visit.page.evaluate(
            """() => {
                const bad = document.createElement("div");
                bad.innerHTML = '<img src="https://example.org/x.png" onerror="window.hit = 1"><p style="color: red" id=red>x';
                document.body.append(bad);
                const script = document.createElement("script");
                script.textContent = "window.hit = 2";
                document.body.append(script);
            }"""
        )
        visit.until("document.querySelector('#red')")

        assert visit.page.evaluate("window.hit") is None
        assert visit.page.evaluate("getComputedStyle(document.querySelector('#red')).color") != "rgb(255, 0, 0)"
        assert any("Content Security Policy" in message for message in visit.messages)


def test_the_scheme_switches_while_the_page_is_open(browser: "Browser", files: dict[str, Path]) -> None:
    """When the system turns dark, page and charts do, and back."""
    with Visit(browser, files["everything"], color_scheme="light") as visit:
        light_accent = number_of(visit.color("accent"))
        visit.page.emulate_media(color_scheme="dark")
        dark = {chart: visit.colors_of(chart) for chart in CHARTS}
        dark_accent = number_of(visit.color("accent"))
        visit.page.emulate_media(color_scheme="light")
        light = {chart: visit.colors_of(chart) for chart in CHARTS}

        assert light_accent != dark_accent
        for chart in CHARTS:
            assert {light_accent, dark_accent} & dark[chart] == {dark_accent}, chart
            assert {light_accent, dark_accent} & light[chart] == {light_accent}, chart


def test_reader_chooses_the_scheme(browser: "Browser", files: dict[str, Path]) -> None:
    """With a button, for page and charts; paper is light all the same."""
    with Visit(browser, files["everything"], color_scheme="light") as visit:
        light = number_of(visit.color("accent"))
        visit.page.locator("#theme").click()
        dark = number_of(visit.color("accent"))

        for chart in CHARTS:
            assert {light, dark} & visit.colors_of(chart) == {dark}, chart
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        visit.page.emulate_media(media="print")
        for chart in CHARTS:
            assert {light, dark} & visit.colors_of(chart) == {light}, chart
        assert visit.messages == []


def test_tabs_lead_to_their_sections(browser: "Browser", files: dict[str, Path]) -> None:
    """Each section begins below the header, which stays."""
    with Visit(browser, files["everything"], reduced_motion="reduce") as visit:
        header = visit.page.evaluate("document.querySelector('.top').getBoundingClientRect().bottom")
        for tab in visit.page.locator("#tabs a").all()[1:-1]:  # the first is at the top, the last at the end
            tab.click()
            target = f"document.querySelector('{tab.get_attribute('href')}').getBoundingClientRect().top"
            assert header <= visit.page.evaluate(target) <= header + 150


@pytest.mark.parametrize("name", ["everything", "hostile", "workers", "large"])
def test_a_phone_scrolls_in_one_direction(browser: "Browser", files: dict[str, Path], name: str) -> None:
    """At 360 pixels nothing is wider than the screen, with every part unfolded; wide tables scroll by themselves."""
    with Visit(browser, files[name], viewport={"width": 360, "height": 740}) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
        assert visit.page.evaluate("document.querySelector('.scroll').scrollWidth") > 300
        for chart in CHARTS:
            assert len(visit.colors_of(chart)) > 3, chart


def test_charts_follow_the_window(browser: "Browser", files: dict[str, Path]) -> None:
    """When the window gets narrow, each chart does, with its page."""
    with Visit(browser, files["everything"]) as visit:
        visit.page.set_viewport_size({"width": 400, "height": 700})
        visit.until(
            "[...document.querySelectorAll('.plot canvas')].every((one) => one.getBoundingClientRect().width < 400)"
        )

        assert visit.page.evaluate("document.documentElement.scrollWidth") == 400


def test_the_tree_is_zoomed_by_keyboard(browser: "Browser", files: dict[str, Path]) -> None:
    """Arrows select a cell and say what it is, plus zooms in, the path leads back, Backspace zooms out."""
    with Visit(browser, files["everything"]) as visit:
        whole = visit.colors_of("tree")
        visit.focus("#tree-controls [data-do=down]")
        visit.press("ArrowDown", "ArrowRight", "ArrowLeft")
        assert visit.text("#tree-selected") == "Index 1; 65 items below; ✗ 2 failed; 2 skipped"
        visit.press("ArrowDown")
        assert visit.text("#tree-selected").startswith("Page 2; 1 item below")
        visit.press("ArrowUp")
        visit.press("+")
        assert visit.text("#tree-path [aria-current]") == "Index 1"
        visit.press("ArrowDown", "+")
        path = visit.page.locator("#tree-path button").all_inner_texts()
        assert path[:2] == ["the run", "Index 1"] and len(path) == 3
        visit.press("Backspace")
        assert visit.text("#tree-path [aria-current]") == "Index 1"

        visit.focus("#tree-path button >> nth=0")
        visit.press("Enter")

        assert visit.text("#tree-path [aria-current]") == "the run"
        assert visit.page.evaluate("document.activeElement.textContent") == "the run"
        assert visit.colors_of("tree") == whole
        assert visit.messages == []


def test_the_tree_is_zoomed_by_a_click(browser: "Browser", files: dict[str, Path]) -> None:
    """A click on a cell makes it as wide as the chart; a click on the widest one goes back up."""
    with Visit(browser, files["everything"]) as visit:
        chart = visit.page.locator("#tree-chart")
        chart.click(position={"x": 30, "y": 48})
        assert visit.text("#tree-path [aria-current]") == "Index 1"
        chart.click(position={"x": 30, "y": 16})
        assert visit.text("#tree-path [aria-current]") == "the run"


def test_a_deep_tree_has_a_short_path(browser: "Browser", files: dict[str, Path]) -> None:
    """Deep in the tree the path back shows its two ends, and how many levels lie between them."""
    with Visit(browser, files["chain"]) as visit:
        visit.focus("#tree-controls [data-do=down]")
        for _ in range(40):
            visit.press("ArrowDown")
        visit.press("+")

        assert visit.text("#tree-path [aria-current]") == "Page 40"
        assert visit.page.locator("#tree-path li").count() == 12
        assert visit.text("#tree-path li >> nth=3") == "… 30 levels …"


def test_a_selected_bar_is_seen(browser: "Browser", files: dict[str, Path]) -> None:
    """When the selection leaves the part of the time that is zoomed in on, the chart follows it, over gaps too."""
    with Visit(browser, files["everything"]) as visit:
        visit.focus("#timeline-controls [data-do=next]")
        visit.press("ArrowRight")
        start, end = visit.seen()
        visit.press("+", "+", "+")
        starts = []
        for _ in range(20):
            visit.press("ArrowRight")
            seen = visit.seen()
            assert seen[1] - seen[0] == pytest.approx((end - start) / 8, abs=2)
            starts.append(seen[0])
        assert starts == sorted(starts)
        assert len(set(starts)) > 4 and starts[-1] > 0.8 * end


def test_attempts_are_read_by_keyboard(browser: "Browser", files: dict[str, Path]) -> None:
    """Arrows go from bar to bar and from worker to worker, and say what each is; plus and minus zoom."""
    with Visit(browser, files["everything"]) as visit:
        visit.focus("#timeline-controls [data-do=next]")
        visit.press("ArrowRight")
        assert visit.text("#timeline-selected").startswith("Index, item 1: completed, 2.42 s; worker 1, from 0:00.02")
        visit.press("ArrowRight", "ArrowDown")
        assert "worker 2" in visit.text("#timeline-selected")
        assert "https://example.org/" in visit.text("#timeline-selected")
        start, end = visit.seen()
        visit.press("+", "+")
        near = visit.seen()
        assert near[1] - near[0] == pytest.approx((end - start) / 4, abs=2)
        visit.press("-", "-", "-")
        assert visit.seen() == pytest.approx((start, end), abs=2)
        visit.press("ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowLeft")
        assert "item 1:" in visit.text("#timeline-selected")
        assert visit.messages == []


def test_everything_is_reached_by_tab_and_shows_it(browser: "Browser", files: dict[str, Path]) -> None:
    """Every link, button, choice, fold and scrolling box is reached with the Tab key, and has an outline then."""
    with Visit(browser, files["everything"]) as visit:
        wanted = visit.page.locator("a, button, select, summary, .scroll").evaluate_all(
            "(all) => all.filter((one) => one.checkVisibility()).map((one, index) => { one.dataset.at = index; return index; })"
        )
        reached = {}
        for _ in range(len(wanted) + 5):
            visit.press("Tab")
            at, outline, width = visit.page.evaluate(
                """() => {
                    const style = getComputedStyle(document.activeElement);
                    return [document.activeElement.dataset.at, style.outlineStyle, parseFloat(style.outlineWidth)];
                }"""
            )
            if at is not None:
                reached[int(at)] = outline == "solid" and width >= 2

        assert set(reached) == set(wanted)
        assert all(reached.values())


def test_tooltips_show_hostile_text_as_text(browser: "Browser", files: dict[str, Path]) -> None:
    """What an item says of itself is text in a chart's tooltip and in the line below it; no markup comes of it."""
    with Visit(browser, files["hostile"]) as visit:
        visit.point_along("timeline", until="onerror")

        assert "</script><img src=x onerror=alert(1)>\\u202e" in visit.page.locator(".tip").first.inner_text()
        assert visit.page.locator("img").count() == 0
        visit.page.mouse.down()
        visit.page.mouse.up()
        assert "</script><img src=x onerror=alert(1)>\\u202e" in visit.text("#timeline-selected")
        assert visit.messages == []


@pytest.mark.parametrize("chart", CHARTS)
def test_each_chart_has_a_tooltip(browser: "Browser", files: dict[str, Path], chart: str) -> None:
    """Pointing at a chart says what is there."""
    with Visit(browser, files["everything"]) as visit:
        visit.point_along(chart, until="")

        assert visit.text(f"#{chart}-chart .tip").strip()
        assert visit.messages == []


def test_durations_of_one_type(browser: "Browser", files: dict[str, Path]) -> None:
    """The choice of a type leaves that type's bars alone."""
    with Visit(browser, files["large"]) as visit:
        series = "echarts.getInstanceByDom(document.getElementById('durations-chart')).getOption().series.length"
        assert visit.page.evaluate(series) == 3
        visit.page.locator("#durations-type").select_option(label="Image")
        assert visit.page.evaluate(series) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["everything", "hostile", "small"])
def test_axe_finds_nothing(browser: "Browser", files: dict[str, Path], name: str, scheme: str) -> None:
    """The rules of axe-core (roles, names, headings, regions, contrast of texts) find no violation."""
    with Visit(browser, files[name], color_scheme=scheme) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

        assert violations(visit.page) == []


def luminance(color: tuple[int, int, int]) -> float:
    """Return the relative luminance of an sRGB colour, as WCAG 2 defines it."""
    red, green, blue = (
        part / 255 / 12.92 if part / 255 <= 0.040_45 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Return the contrast ratio of two colours, as WCAG 2 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out(browser: "Browser", files: dict[str, Path], scheme: str) -> None:
    """Texts have a contrast of 4.5 with what they stand on, also in cells of charts, and shapes one of 3."""
    with Visit(browser, files["small"], color_scheme=scheme) as visit:
        for ground in ("page", "surface", "faint"):
            for name in ("text", "quiet", "accent", "bad", "good", "cut"):
                assert contrast(visit.color(name), visit.color(ground)) >= CONTRAST_OF_TEXT, (name, ground)
        for number in range(8):
            fill = visit.color(f"type-{number}")
            assert contrast(visit.color("on-fill"), fill) >= CONTRAST_OF_TEXT, number
            assert contrast(fill, visit.color("surface")) >= CONTRAST_OF_GRAPHICS, number
        assert contrast(visit.color("on-fill"), visit.color("quiet")) >= CONTRAST_OF_TEXT
        assert contrast(visit.color("warn"), visit.color("surface")) >= CONTRAST_OF_GRAPHICS


def test_without_javascript_the_figures_are_there(browser: "Browser", files: dict[str, Path]) -> None:
    """Where scripts are off, no empty charts are shown but a sentence, the views, and all tables."""
    with Visit(browser, files["everything"], java_script_enabled=False) as visit:
        assert visit.page.locator(".plot >> visible=true").count() == 0
        assert visit.page.locator("noscript p").is_visible()
        assert visit.page.locator("#charts svg.chart >> visible=true").count() == 2
        assert visit.page.locator("button >> visible=true").count() == 0
        assert visit.page.locator(".failure").first.is_visible()
        visit.page.locator("#timeline summary").click()
        assert visit.page.get_by_text("Totals of each worker").is_visible()


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
def test_time_zone_is_named_where_it_is_another(browser: "Browser", files: dict[str, Path], zone: str) -> None:
    """The times of a report are those of the machine that made it; only a reader elsewhere has to be told more than in the tag."""
    with Visit(browser, files["small"], timezone_id=zone) as visit:
        assert visit.page.locator("#zone").is_visible()
        assert visit.text("#access").endswith(visit.text("#zone").rpartition(" ")[2])


def test_paper_is_light_and_has_no_buttons(browser: "Browser", files: dict[str, Path]) -> None:
    """Printed from a dark system the page is dark on white, charts too, without what only works on a screen."""
    with Visit(browser, files["everything"], color_scheme="dark") as visit:
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        visit.page.emulate_media(media="print", color_scheme="dark")
        assert luminance(visit.color("text")) < 0.05
        assert luminance(visit.color("surface")) > 0.9
        assert number_of(visit.color("accent")) in visit.colors_of("timeline")
        assert visit.page.locator("button >> visible=true").count() == 0
        assert visit.page.pdf(format="A4").startswith(b"%PDF")

        visit.page.emulate_media(media="screen", color_scheme="dark")
        visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert luminance(visit.color("text")) > 0.7


def test_nothing_moves_for_who_wants_no_motion(browser: "Browser", files: dict[str, Path]) -> None:
    """No chart is animated at all, and with reduced motion the page neither scrolls smoothly nor fades."""
    with Visit(browser, files["small"], reduced_motion="reduce") as visit:
        for chart in CHARTS:
            option = f"echarts.getInstanceByDom(document.getElementById('{chart}-chart')).getOption().animation"
            assert visit.page.evaluate(option) is False
        assert visit.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
        assert visit.page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration") == "0s"
