"""The list of the items, one item and the slider in a real browser, with real runs and servers in other processes.

These need Chromium and Playwright: `make browser-test`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from aqueue.view import RunView
from tests.browser import violations
from tests.journal.recorded import events_of
from tests.journal.writing import make_events, write
from tests.page.job import HOSTILE_TEXT, VARIED
from tests.page.serving import Run, Served, Server, Start, call
from tests.page.test_browser import PAINTED, SCHEMES, TOO_WIDE, Visit, check_keyboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PATHS = ("/items", "/items?q=state%3Afailed", "/item?n=1", "/item?n=2", "/?at=60", "/items?at=60", "/item?n=2&at=60")
"""Views of a run that has failures: lists, single items, and each of them in the past."""

CUT = """[...document.querySelectorAll('#listing td:nth-child(-n + 2)')].filter((one) =>
    one.scrollWidth > one.clientWidth).map((one) => one.outerHTML)"""
"""The states and numbers in a list that are cut off: the numbers lead to the items."""

SHARE = "document.querySelector('#time').value / document.querySelector('#time').max"


@pytest.fixture(scope="module")
def steady(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start a run that goes on at one pace and has failures, and its server, for tests that leave it alone."""
    journal = tmp_path_factory.mktemp("steady") / "run.db"
    with Run(journal, fails="NotFound", groups=3, flaky=True) as run, Server(journal) as server:
        with Visit(browser, server) as visit:
            visit.until("figure('Failed') > 10")
            run.tell("")
            visit.until("figure('Completed') > 5")
        yield Served(run, server)


@pytest.fixture(scope="module")
def ended(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Make a run that was paused, killed and resumed, and has ended; start its server."""
    journal = tmp_path_factory.mktemp("ended") / "run.db"
    feed: dict[str, Any] = {"workers": 8, "fails": "NotFound", "pace_s": 0.02, "takes_s": 0.02}
    with Run(journal, **feed) as run, Server(journal) as server:
        with Visit(browser, server) as visit:
            visit.until("figure('Failed') > 20")
            run.tell("")
            call("pause", journal)
            visit.until_says("Paused")
            call("unpause", journal)
            visit.until("figure('Completed') > 20")
            run.kill()
            visit.until_says("Process gone")
            with Run(journal, **feed) as again:
                visit.until_says("Running")
                visit.until_says("resumed once")
                visit.until("figure('Failed') > 20")
                run.tell("")
                visit.until("figure('Completed') > 200")
                call("stop", journal, "--now")
                again.wait()
            visit.until_says("Interrupted")
        yield Served(again, server)


def at_of(visit: Visit) -> int:
    """Return the event at which the page shows the run, by its address; 0 for now."""
    return int(query_of(visit).get("at", "0"))


def view_at(journal: Path, at: int | None = None) -> RunView:
    """Return a run as it was after an event; by default as it is."""
    view = RunView()
    view.apply([event for event in events_of(journal) if at is None or event.seq <= at])
    return view


def query_of(visit: Visit) -> dict[str, str]:
    """Return what the page's address asks for."""
    return {name: values[0] for name, values in parse_qs(urlsplit(visit.page.url).query).items()}


def numbers(visit: Visit) -> list[int]:
    """Return the numbers of the items that are listed."""
    return [int(text.replace(",", "")) for text in visit.page.locator("#listing td:nth-child(2)").all_inner_texts()]


def search(visit: Visit, words: str) -> None:
    """Type a filter and press Enter."""
    visit.page.locator("#q").fill(words)
    with visit.page.expect_navigation():
        visit.press("Enter")


def is_listed(visit: Visit) -> None:
    """Wait until items are listed."""
    visit.until("document.querySelector('#listing tbody tr')")


# ---- items


def test_a_filter_is_typed(browser: "Browser", ended: Served) -> None:
    """Enter shows what matches, with how many that are; the address holds the filter, and a reload shows the same."""
    failed = view_at(ended.run.journal).counts.failed
    with Visit(browser, ended.server, "/items") as visit:
        is_listed(visit)
        search(visit, "state:failed error:Not*")
        is_listed(visit)
        assert query_of(visit) == {"q": "state:failed error:Not*"}
        assert visit.text("#listing-title") == f"{failed} items match"
        assert {row.split()[0] for row in visit.page.locator("#listing tbody tr").all_inner_texts()} == {"failed"}
        said = visit.text("#listing")
        visit.page.reload()
        is_listed(visit)
        assert visit.text("#listing") == said
        assert visit.page.locator("#q").input_value() == "state:failed error:Not*"

        search(visit, "state:failed nowhere")
        assert "No item matches." in visit.text("#listing")
        search(visit, "stat:failed")
        assert "do you mean state:?" in visit.text("#filter")
        assert visit.messages == []


def test_a_chip_is_a_filter_by_state(browser: "Browser", ended: Served) -> None:
    """It adds its state to what is typed, says that it is on, and takes it away again."""
    with Visit(browser, ended.server, "/items?q=type:Page") as visit:
        chip = visit.page.locator(".chip", has_text="failed")
        assert chip.get_attribute("aria-current") is None
        chip.click()
        visit.page.wait_for_url(re.compile("state"))
        assert visit.page.locator("#q").input_value() == "state:failed type:Page"
        assert chip.get_attribute("aria-current") == "true"
        is_listed(visit)
        chip.click()
        visit.page.wait_for_url(re.compile("q=type%3APage$"))
        assert visit.page.locator("#q").input_value() == "type:Page"
        assert visit.messages == []


def test_pages_of_a_list(browser: "Browser", ended: Served) -> None:
    """Next leads to the following ones, First back to the first ones, in each order."""
    with Visit(browser, ended.server, "/items") as visit:
        is_listed(visit)
        first = numbers(visit)
        assert first == sorted(first, reverse=True) and len(first) == 100
        visit.page.get_by_role("link", name="Next 100").click()
        visit.until(f"document.querySelector('#listing').dataset.from === '{first[-1] - 1}'")
        assert numbers(visit)[:2] == [first[-1] - 1, first[-1] - 2]
        visit.page.get_by_role("link", name="First", exact=True).click()
        visit.until(f"document.querySelector('#listing').dataset.from === '{first[0]}'")

        visit.page.get_by_role("link", name="oldest first").click()
        visit.page.wait_for_url(re.compile("oldest"))
        assert numbers(visit) == list(range(1, 101))
        visit.page.get_by_role("link", name="Next 100").click()
        visit.page.wait_for_url(re.compile("start"))
        assert numbers(visit) == list(range(101, 201))
        visit.page.get_by_role("link", name="slowest first").click()
        visit.page.wait_for_url(re.compile("slowest"))
        assert visit.page.get_by_role("link", name="Next 100").count() == 0
        assert visit.messages == []


def test_new_items_do_not_move_a_list(browser: "Browser", steady: Served) -> None:
    """The list begins where it began; a link says how many newer ones there are, and leads to them."""
    with Visit(browser, steady.server, "/items") as visit:
        visit.until("document.querySelector('#listing')?.dataset.from")  # once the index has the newest ones
        first = numbers(visit)[0]
        newer = visit.page.locator(".newer")
        visit.until("Number.parseInt(document.querySelector('.newer')?.textContent) > 5")
        assert numbers(visit)[0] == first
        assert query_of(visit) == {}
        newer.click()
        visit.until(f"Number(document.querySelector('#listing').dataset.from) > {first + 5}")
        assert visit.messages == []


def test_live_updates_are_switched_off(browser: "Browser", steady: Served) -> None:
    """Without them nothing is asked for and nothing changes; with them the page is current at once."""
    with Visit(browser, steady.server) as visit, Visit(browser, steady.server) as other:
        visit.updates(1)
        switch = visit.page.get_by_role("switch", name="Live updates")
        switch.uncheck()
        visit.js(PAINTED)
        completed, requests = visit.js("figure('Completed')"), len(visit.requests)
        assert "Paused at" in str(visit.page.locator("#follow").get_attribute("title"))
        other.until(f"figure('Completed') > {completed + 20}")
        assert (visit.js("figure('Completed')"), len(visit.requests)) == (completed, requests)
        assert visit.js("seen.source.readyState === EventSource.CLOSED")
        switch.check()
        visit.until(f"figure('Completed') > {completed + 20}")
        assert visit.messages == []


def test_an_item_of_the_list(browser: "Browser", ended: Served) -> None:
    """Its number leads to it; back leads to the same place of the list."""
    with Visit(browser, ended.server, "/items?q=state%3Afailed&order=oldest") as visit:
        is_listed(visit)
        listed = numbers(visit)
        visit.page.locator("#listing tbody td:nth-child(2) a").nth(1).click()
        visit.page.wait_for_url(re.compile(f"item[?]n={listed[1]}$"))
        visit.until(f"document.querySelector('.wide-title h2')?.textContent.includes('Page {listed[1]}')")
        assert "failed" in visit.text(".wide-title h2")
        visit.page.go_back()
        is_listed(visit)
        assert numbers(visit) == listed
        assert visit.messages == []


def test_items_without_javascript(browser: "Browser", ended: Served) -> None:
    """The filter, its chips, the pages, an item and the slider work where scripts are off."""
    with Visit(browser, ended.server, "/items", java_script_enabled=False) as visit:
        search(visit, "state:failed")
        assert "items match" in visit.text("#listing-title")
        visit.page.locator(".chip", has_text="failed").click()
        assert "Next 100" in visit.text("#listing")
        visit.page.get_by_role("link", name="Next 100").click()
        assert "101 to 200" in visit.text("#listing footer")
        visit.page.locator("#listing tbody td:nth-child(2) a").first.click()
        assert "Every event" in visit.text("#item")
        assert visit.page.get_by_role("switch").count() == 0
        visit.page.get_by_role("link", name="Previous event").click()
        assert "You are looking at" in visit.text("#banner")
        visit.page.get_by_role("button", name="Show").click()
        assert "You are looking at" in visit.text("#banner")
        visit.page.get_by_role("link", name="Back to the end").click()
        assert visit.page.locator("#banner").is_hidden()
        assert visit.messages == []


# ---- one item


def test_an_item_that_is_retried(browser: "Browser", start: Start) -> None:
    """Its attempts and its traceback follow the run until it has completed; what is open stays open meanwhile."""
    run, server = start(fails="NotFound", flaky=True)
    with Visit(browser, server, "/item?n=2") as visit:
        visit.until("document.querySelectorAll('.attempts tbody tr').length > 1")
        assert "NotFound: not yet: NotFound" in visit.text(".attempts")
        assert "job.py" in visit.text(".attempts")
        for summary in visit.page.locator("#item summary").all():
            summary.click()
        attempts = visit.page.locator(".attempts tbody tr").count()
        visit.until(f"document.querySelectorAll('.attempts tbody tr').length > {attempts + 1}")
        assert visit.page.locator("#item details").count() == visit.page.locator("#item details[open]").count() == 2
        assert "raise type(told" in visit.text("#item-tb")
        copy = visit.page.locator("button.copy[data-copy=item-tb]")
        assert copy.is_visible()
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
        copy.click()
        visit.until("document.querySelector('button.copy').textContent === 'Copied'")
        assert "raise type(told" in visit.js("navigator.clipboard.readText()")

        run.tell("")
        visit.until("document.querySelector('.wide-title h2')?.textContent.includes('completed')")
        assert visit.page.locator("#item details[open]").count() == 2
        visit.until("document.querySelector('#result-json')")
        visit.page.get_by_role("button", name="Copy JSON").first.click()
        assert visit.js("navigator.clipboard.readText()") == '{"found":[1,2,3]}'
        assert visit.messages == []


# ---- time travel


def check_figures(visit: Visit, journal: Path) -> None:
    """Assert that the figures are those of the run after the event at which it is shown."""
    view = view_at(journal, at_of(visit))
    counts = view.counts
    wanted = {
        "Found": counts.enqueued, "Completed": counts.completed, "Failed": counts.failed,
        "Retrying": view.waiting, "Outstanding": counts.outstanding,
    }  # fmt: skip
    assert {name: visit.js(f"figure({name!r})") for name in wanted} == wanted


def until_at(visit: Visit, condition: str) -> int:
    """Wait until the page shows a moment whose event `at` meets a condition; return that event."""
    visit.until(f"((at) => {condition})(Number(new URLSearchParams(location.search).get('at') ?? 0))")
    visit.js(PAINTED)
    return at_of(visit)


def is_ready(visit: Visit) -> None:
    """Wait until the slider is there, with marks if there are any."""
    visit.until("!document.querySelector('#dock').hidden")


def drag(visit: Visit, to: float) -> None:
    """Drag the slider to a share of its width, without letting it go."""
    move(visit, visit.js(SHARE))
    visit.page.mouse.down()
    move(visit, to)


def move(visit: Visit, to: float) -> None:
    """Move the mouse to where the slider's handle is at a share of its width."""
    box = visit.page.locator("#time").bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + 8 + to * (box["width"] - 16), box["y"] + box["height"] / 2, steps=8)


def test_the_slider_is_dragged(browser: "Browser", ended: Served) -> None:
    """The page shows the run at each moment at which the slider rests; once it is let go, the address holds that."""
    with Visit(browser, ended.server) as visit:
        is_ready(visit)
        assert visit.page.locator("rect.future").count() == 0
        drag(visit, 0.4)
        visit.until("!document.querySelector('#banner').hidden")
        assert at_of(visit) == 0
        move(visit, 0.6)
        visit.page.mouse.up()
        at = until_at(visit, "at > 0")
        visit.until_says(f"event {at:,} of")
        check_figures(visit, ended.run.journal)
        assert 0.5 < visit.js(SHARE) < 0.7
        charts = visit.page.locator("svg.chart").count()
        assert visit.page.locator("rect.future").count() == visit.page.locator("line.moment").count() == charts > 0
        assert "The past can't be changed" in visit.text("#access")

        visit.page.reload()
        visit.until_says(f"event {at:,} of")
        check_figures(visit, ended.run.journal)
        visit.open("/")
        is_ready(visit)
        loaded = visit.js("performance.timeOrigin")
        drag(visit, 0.3)
        visit.page.mouse.up()
        until_at(visit, "at > 0")
        visit.page.go_back()
        until_at(visit, "at === 0")
        visit.until("document.querySelector('#banner').hidden")
        visit.page.go_forward()
        until_at(visit, "at > 0")
        visit.until("!document.querySelector('#banner').hidden")
        check_figures(visit, ended.run.journal)
        assert visit.js("performance.timeOrigin") == loaded
        assert visit.messages == []


def test_the_slider_is_let_go_where_it_was(browser: "Browser", ended: Served) -> None:
    """No browser calls that a change; the page follows the run again all the same."""
    with Visit(browser, ended.server) as visit:
        is_ready(visit)
        drag(visit, 0.5)
        visit.until("!document.querySelector('#banner').hidden")
        move(visit, 1.2)
        visit.until("document.querySelector('#time').value === document.querySelector('#time').max")
        visit.page.mouse.up()
        visit.until("seen.source.readyState === EventSource.OPEN")
        assert visit.messages == []


def test_marks_and_keys(browser: "Browser", ended: Served) -> None:
    """A killed and resumed run has its marks; keys go from mark to mark, from event to event, and back to the end."""
    with Visit(browser, ended.server) as visit:
        visit.until("document.querySelectorAll('.marks a').length > 4")
        words = [str(one.get_attribute("aria-label")).split(",")[0] for one in visit.page.locator(".marks a").all()]
        kinds = [word.split(" by ")[0] for word in words]
        order = ["paused", "unpaused", "killed", "resumed"]
        assert [kind for kind in kinds if kind in order] == order

        visit.page.locator(".marks a[aria-label^=killed]").click()
        killed = until_at(visit, "at > 0")
        visit.until_says(f"event {killed:,} of")
        check_figures(visit, ended.run.journal)
        visit.press("]")
        resumed = until_at(visit, f"at > {killed}")
        assert resumed == killed + 1
        visit.until_says("resumed once")
        visit.press("[")
        until_at(visit, f"at === {killed}")
        visit.until_says(f"event {killed:,} of")
        visit.press("[")
        unpaused = until_at(visit, f"at < {killed}")
        visit.until_says(f"event {unpaused:,} of")
        visit.press("[")
        until_at(visit, f"at < {unpaused}")
        visit.until_says("Paused since")
        paused = at_of(visit)
        visit.press(".")
        until_at(visit, f"at === {paused + 1}")
        visit.until_says(f"event {paused + 1:,} of")
        check_figures(visit, ended.run.journal)
        visit.press(",")
        until_at(visit, f"at === {paused}")
        visit.until_says(f"event {paused:,} of")
        visit.press("l")
        until_at(visit, "at === 0")
        visit.until("document.querySelector('#banner').hidden")
        assert visit.messages == []


def test_keys_are_not_taken_from_a_field(browser: "Browser", ended: Served) -> None:
    """While a filter is typed, they are letters; the slash leads to the filter."""
    with Visit(browser, ended.server, "/items") as visit:
        is_ready(visit)
        address = visit.page.url
        visit.press("/")
        assert visit.js("document.activeElement.id") == "q"
        visit.page.keyboard.type("[,l]./")
        visit.js(PAINTED)
        assert visit.page.locator("#q").input_value() == "[,l]./"
        assert visit.page.url == address
        visit.page.locator("h1").click()
        visit.press(",")
        until_at(visit, "at > 0")


def test_the_skip_link_is_no_jump_in_time(browser: "Browser", ended: Served) -> None:
    """It asks for nothing, and back leads to where one came from."""
    with Visit(browser, ended.server) as visit:
        visit.open("/items")
        is_ready(visit)
        requests = len(visit.requests)
        visit.press("Tab", "Enter")
        visit.js(PAINTED)
        assert visit.page.url.endswith("/items#main")
        assert len(visit.requests) == requests
        visit.page.go_back()
        visit.js(PAINTED)
        assert visit.page.url.endswith("/items")
        visit.page.go_back()
        visit.until("document.body.dataset.view === 'now'")


def test_an_older_answer_never_replaces_a_newer_one(browser: "Browser", ended: Served) -> None:
    """An answer that comes late is of no use."""
    held: list[Route] = []
    with Visit(browser, ended.server) as visit:
        visit.until("document.querySelectorAll('.marks a').length > 4")
        visit.page.route(
            re.compile("[?]at="),
            lambda route: route.continue_() if held or "/events/" in route.request.url else held.append(route),
        )
        visit.press("[")
        while not held:
            visit.js(PAINTED)
        visit.press(",")
        at = until_at(visit, "at > 0")
        visit.until_says(f"event {at:,} of")
        late = held[0].request.url
        assert f"at={at}" not in late
        with visit.page.expect_response(late):
            held[0].continue_()
        visit.js(PAINTED)
        assert at_of(visit) == at
        assert f"event {at:,} of" in visit.text("#banner")
        check_figures(visit, ended.run.journal)
        assert visit.messages == []


def test_a_preview_of_what_is_being_read_is_asked_for_again(browser: "Browser", ended: Served) -> None:
    """While the slider is held, nothing else would fetch it."""
    waiting: list[str] = []

    def answer(route: "Route") -> None:
        response = route.fetch()
        if len(waiting) >= 2:
            route.fulfill(response=response)
            return
        waiting.append(route.request.url)
        body = response.text().replace('<main id="main"', '<main id="main" aria-busy="true"')
        route.fulfill(
            response=response, body=re.sub(r"(?s)(<main [^>]*>).*(</main>)", r"\1The past is being read: 5 %.\2", body)
        )

    with Visit(browser, ended.server) as visit:
        is_ready(visit)
        visit.page.route(re.compile("[?]t="), answer)
        drag(visit, 0.5)
        visit.until_says("The past is being read: 5 %.")
        visit.until("document.querySelector('#banner:not([hidden])') && document.querySelector('#figures')")
        assert len(waiting) == 2
        assert at_of(visit) == 0  # the slider is still held
        visit.page.unroute_all()
        visit.page.mouse.up()
        until_at(visit, "at > 0")
        assert visit.messages == []


def test_a_preview_is_not_replaced_by_the_present(browser: "Browser", steady: Served) -> None:
    """While the slider is held, the list of the past stays, though the one of now was empty."""
    with Visit(browser, steady.server, "/items?q=state:skipped") as visit:
        is_ready(visit)
        visit.updates(2)
        drag(visit, 0.5)
        visit.until("document.querySelector('#banner:not([hidden])')")
        connections = sum("/events/" in one.url for one in visit.requests)
        for _ in range(20):
            visit.js(PAINTED)
        assert visit.page.locator("#banner").is_visible()
        assert sum("/events/" in one.url for one in visit.requests) == connections
        visit.page.mouse.up()
        until_at(visit, "at > 0")
        assert visit.messages == []


def test_the_past_without_live_updates(browser: "Browser", start: Start) -> None:
    """It is asked for until it is there, though nothing is followed."""
    _, server = start()
    with Visit(browser, server, "/items") as visit:
        visit.until("!document.querySelector('#dock').hidden")
        visit.page.locator("#follow input").press("Space")
        visit.press(",")
        visit.until("document.querySelector('#banner:not([hidden])') && document.querySelector('#listing')")
        visit.press("l")
        visit.until("document.querySelector('#banner').hidden")
        assert visit.messages == []


def test_a_live_run_goes_on_meanwhile(browser: "Browser", steady: Served) -> None:
    """The past stays as it was, and says how far the run is; one click leads back to it."""
    with Visit(browser, steady.server) as visit:
        is_ready(visit)
        drag(visit, 0.5)
        visit.page.mouse.up()
        at = until_at(visit, "at > 0")
        visit.until_says(f"event {at:,} of")
        check_figures(visit, steady.run.journal)
        last = "Number(document.querySelectorAll('#banner b')[1].nextSibling.textContent.replace(/[^0-9]/g, ''))"
        was, completed = visit.js(last), visit.js("figure('Completed')")
        visit.until(f"{last} > {was + 60}")
        assert visit.js("figure('Completed')") == completed
        visit.page.get_by_role("link", name="Back to live").click()
        visit.until(f"document.querySelector('#banner').hidden && figure('Completed') > {completed + 5}")
        assert at_of(visit) == 0
        assert visit.messages == []


def test_a_list_of_the_past(browser: "Browser", ended: Served) -> None:
    """Its items are as they were, a filter and an item stay at that moment, and so does another view."""
    with Visit(browser, ended.server) as visit:
        visit.until("document.querySelectorAll('.marks a').length > 4")
        visit.page.locator(".marks a[aria-label^=killed]").click()
        at = until_at(visit, "at > 0")
        view = view_at(ended.run.journal, at)
        visit.page.locator("#tabs a", has_text="Items").click()
        is_listed(visit)
        search(visit, "state:running")
        assert at_of(visit) == at
        is_listed(visit)
        assert sorted(numbers(visit)) == sorted(item.item for item in view.running.values())
        visit.page.locator("#listing tbody td:nth-child(2) a").first.click()
        visit.until("document.querySelector('.wide-title h2')?.textContent.includes('running')")
        visit.until("!document.getElementById('help').hidden")  # the script takes keys
        assert at_of(visit) == at
        visit.press("l")
        until_at(visit, "at === 0")
        visit.until("!document.querySelector('.wide-title h2').textContent.includes('running')")
        assert visit.messages == []


# ---- keys


def test_keys_are_named_and_can_be_turned_off(browser: "Browser", steady: Served) -> None:
    """A dialog lists them; without them no letter does anything, after a reload, too, and the dialog's button is still there."""
    with Visit(browser, steady.server, "/items") as visit:
        is_listed(visit)
        row = "document.activeElement.closest('#listing tr')?.id"
        visit.press("j")
        first = visit.js(row)
        assert first
        visit.press("J", "k")
        assert visit.js(row) == first
        visit.press("?")
        assert "Back to the present" in visit.text("#keys")
        visit.press("/")  # nothing while it is open
        visit.page.locator("#keys input").click()
        visit.press("Escape")
        for _ in range(2):
            is_listed(visit)
            for key in ("?", "j", "/", ","):
                visit.press(key)
            assert visit.page.locator("#keys").is_hidden()
            assert visit.js("document.activeElement.id") != "q"
            assert "at=" not in visit.page.url
            visit.page.reload()
        is_listed(visit)
        visit.page.locator("#help").click()
        visit.page.locator("#keys input").click()
        visit.press("Escape", "/")
        assert visit.js("document.activeElement.id") == "q"
        assert visit.messages == []


# ---- many items


def test_a_list_of_many_items(browser: "Browser", tmp_path: Path) -> None:
    """The middle and the end of 60,000 items are a few clicks away, a text is found, and the page stays as small as it was."""
    journal = tmp_path / "many.db"
    write(journal, make_events(1, 240_000))
    size = "document.querySelectorAll('*').length"
    with Server(journal) as server, Visit(browser, server, "/items") as visit:
        visit.until(
            "document.querySelector('#listing-title')?.textContent === '60,000 items' && !document.querySelector('.lag')"
        )
        is_listed(visit)
        most = visit.js(size) + 200
        for start, first in ((30_000, 30_000), (40, 40)):
            visit.open(f"/items?start={start}")
            is_listed(visit)
            assert numbers(visit)[0] == first
            assert visit.js(size) < most
        assert numbers(visit)[-1] == 1
        assert visit.page.get_by_role("link", name="Next 100").count() == 0
        search(visit, "777")
        visit.until("document.querySelector('#listing-title')?.textContent === '114 items match'")
        assert numbers(visit)[:2] == [59_777, 58_777]
        visit.page.get_by_role("link", name="Next 100").click()
        visit.until("document.querySelector('#listing footer')?.textContent.includes('101 to 114 of 114')")
        assert visit.js(size) < most
        assert visit.messages == []


# ---- for everybody


def open_all(visit: Visit, path: str) -> None:
    """Open a view, with all that can be opened in it, once it has what the index has."""
    visit.open(path)
    is_ready(visit)
    visit.until("document.querySelector('#listing tbody tr, #listing .nothing, .wide-title h2, #figures')")
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(browser: "Browser", steady: Served, scheme: str) -> None:
    """The rules of axe-core find nothing wrong in lists, items and the past."""
    with Visit(browser, steady.server, color_scheme=scheme) as visit:
        for path in PATHS:
            open_all(visit, path)
            assert violations(visit.page) == [], (path, scheme)


@pytest.mark.parametrize("path", PATHS)
def test_everything_is_reached_by_tab_and_shows_it(browser: "Browser", ended: Served, path: str) -> None:
    """Links, fields, marks and the slider, too."""
    with Visit(browser, ended.server) as visit:
        open_all(visit, path)
        check_keyboard(visit)


def test_nothing_is_wider_than_the_page(browser: "Browser", start: Start) -> None:
    """With long names and texts, wide and narrow, only parts of a list, an item and the past scroll sideways."""
    run, server = start(workers=50, fails=VARIED, pace_s=0.005, takes_s=0.05, groups=20)
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 200")
        call("pause", run.journal)
        for path in (*PATHS, "/items?q=" + 80 * "long", "/item?n=80"):
            open_all(visit, path)
            for width in (360, 768, 1300):
                visit.page.set_viewport_size({"width": width, "height": 800})
                visit.js(PAINTED)
                assert visit.page.evaluate(TOO_WIDE) == [], (path, width)
                assert visit.js(CUT) == [], (path, width)
                assert visit.js("document.documentElement.scrollWidth") == width, (path, width)
        assert visit.messages == []


def test_hostile_text_is_text(browser: "Browser", start: Start) -> None:
    """Whatever items, their groups, keys and errors, and filters are called, no element comes of it, and nothing runs."""
    run, server = start(HOSTILE_TEXT.replace("/", ""), workers=8, hostile=True, fails=HOSTILE_TEXT, pace_s=0.2)
    shown = "<script><img src=x onerror=alert(1)>\\u202e\\u2028\\x1b[2J\"'`&amp;<!--${source}".replace(
        "<script>", "</script>"
    )
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 20")
        call("pause", run.journal)
        last = len(events_of(run.journal))
        for path in ("/items", "/items?order=slowest", "/item?n=3", f"/items?at={last}", f"/item?n=3&at={last}"):
            open_all(visit, path)
            assert visit.text("main").count(shown[:20]) > 2, path
            check_harmless(visit)
        visit.open("/items")
        search(visit, HOSTILE_TEXT)
        check_harmless(visit)
        assert "onerror" in visit.page.locator("#q").input_value()
        assert visit.messages == []


def check_harmless(visit: Visit) -> None:
    """Assert that there is nothing in the page that only a text can have brought in."""
    assert visit.js("[...document.scripts].map((one) => one.getAttribute('src'))") == ["static/page.js"]
    assert (
        visit.page.locator(
            "img, iframe, object, style, form:not(#filter, #dock, #keys form), [style], [onerror]"
        ).count()
        == 0
    )


def test_nothing_moves_for_who_wants_no_motion(browser: "Browser", steady: Served) -> None:
    """With reduced motion there is no transition and no animation in lists, items and the past."""
    with Visit(browser, steady.server, reduced_motion="reduce") as visit:
        for path in PATHS:
            open_all(visit, path)
            assert not visit.js(
                """[...document.querySelectorAll("*")].map((one) => getComputedStyle(one)).filter((style) =>
                    style.transitionDuration !== "0s" || style.animationName !== "none" || style.scrollBehavior !== "auto").length"""
            ), path
