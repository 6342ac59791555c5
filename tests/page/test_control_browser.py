"""The page with controls, `static/control.js`, in a real browser, with real runs in other processes that obey it.

These need Chromium and Playwright: `make browser-test`.
"""

import json
import signal
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.browser import violations
from tests.page.job import VARIED
from tests.page.serving import Run, Served, Server, Start, call, until
from tests.page.test_browser import SCHEMES, TOO_WIDE, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

VIEWS = ("/", "/failures", "/items", "/control")


@pytest.fixture
def start(start: Start) -> Start:
    """Return what starts a run and the server of its page, from which it can be steered unless that is said."""
    return partial(start, control=True)


def answer(visit: Visit) -> str:
    """Return what the page has said last of what came of a command."""
    visit.until("!['', 'Waiting for the run to answer …'].includes(document.querySelector('#answer').textContent)")
    return visit.text("#answer")


def press(visit: Visit, name: str) -> None:
    """Press the button with that name."""
    visit.page.get_by_role("button", name=name, exact=True).click()


# ---- commands


def test_a_run_is_paused_and_unpaused(browser: "Browser", start: Start) -> None:
    """By one button, which then says the other thing though it has the focus; who did it is recorded."""
    run, server = start()
    with Visit(browser, server) as visit:
        visit.until("figure('Completed') > 3")
        visit.page.locator("#access button").focus()
        visit.press("Enter")
        assert answer(visit).startswith("Paused (")
        visit.until("document.querySelector('#access button').textContent.trim() === 'Unpause'")
        visit.until_says("Paused since")
        assert "via page" in call("export", run.journal)
        assert visit.js("document.activeElement.matches('#access button')")
        completed = visit.js("figure('Completed')")
        visit.press("Enter")
        visit.until("document.querySelector('#answer').textContent.startsWith('Unpaused (paused since')")
        visit.until(f"figure('Completed') > {completed + 3}")
        assert visit.text("#access button") == "Pause"
        assert visit.messages == []


def test_failures_of_a_kind_are_retried_and_skipped(browser: "Browser", start: Start) -> None:
    """A dialog says how many; once it is confirmed they run again, and fail again; after that they are skipped."""
    run, server = start(fails="NotFound")
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 3")
        run.tell("Broken")
        visit.until_says("Page: Broken")
        run.tell("")
        visit.open("/failures")
        visit.until("document.querySelectorAll('article').length === 2")
        visit.updates(3)
        kind = visit.page.locator("article", has_text="NotFound")
        number = int(kind.locator("h3").inner_text().split()[0])
        kind.locator("[data-verb=retry]").click()
        dialog = visit.page.locator("#ask")
        dialog.wait_for()
        assert f"Retry {number} failed items of Page?" in dialog.inner_text()
        assert f"goes from {number + broken(visit)} to {broken(visit)}" in dialog.inner_text()
        assert "aqueue retry " in dialog.locator("code").inner_text()
        press(visit, f"Retry {number} items")
        assert answer(visit) == f"Retried {number} items"
        assert dialog.is_hidden()
        until(lambda: num_failed(run, "NotFound") == 2 * number, "failures of all that was retried")
        visit.updates(2)
        visit.until_says(f"{number} × Page: NotFound")

        visit.page.locator("article", has_text="NotFound").locator("[data-verb=skip]").click()
        dialog.wait_for()
        press(visit, f"Skip {number} items")
        visit.until(f"document.querySelector('#answer').textContent === 'Skipped {number} items'")
        visit.until("document.querySelectorAll('article').length === 1")
        visit.open("/")
        visit.until(f"figure('Skipped') === {number}")
        assert visit.messages == []


def num_failed(run: Run, error: str) -> int:
    """Return how many times an item of the run has failed with an error."""
    lines = call("export", run.journal).splitlines()
    return sum('"item.failed"' in line and f'job:{error}"' in line for line in lines)


def broken(visit: Visit) -> int:
    """Return how many items have failed as Broken."""
    return int(visit.page.locator("article", has_text="Broken").locator("h3").inner_text().split()[0])


def test_workers_are_set(browser: "Browser", start: Start) -> None:
    """Several steps are one command, and a number can be typed; one that isn't allowed is taken back."""
    run, server = start()
    with Visit(browser, server, "/control") as visit:
        number = visit.page.get_by_label("Number of workers")
        assert number.input_value() == "4"
        more = visit.page.get_by_role("button", name="One worker more", exact=True)
        more.evaluate("(button) => { for (let step = 0; step < 3; step += 1) button.click(); }")
        assert answer(visit) == "7 workers (before: 4)"
        visit.until_says("The program's number is 4.")
        assert "7 workers, set" in visit.text("#in-force")

        number.fill("2")
        visit.press("Enter")
        visit.until("document.querySelector('#answer').textContent === '2 workers (before: 7)'")
        visit.updates(2)
        press(visit, "One worker fewer")
        visit.until("document.querySelector('#answer').textContent === '1 worker (before: 2)'")
        press(visit, "One worker fewer")
        visit.until("document.querySelector('input[data-verb=workers]').defaultValue === '1'")  # the run's number
        number.fill("-3")
        visit.press("Enter")
        assert number.input_value() == "1"
        assert visit.messages == []
    assert call("export", run.journal).count("run.workers_changed") == 3


def test_a_limit_is_edited(browser: "Browser", start: Start) -> None:
    """In a form that begins with the present limit; an empty field is no limit; there is a way back to the program's."""
    _, server = start(groups=2, takes_s=0.5)  # so long that the limit holds them back, and is known
    with Visit(browser, server, "/control") as visit:
        visit.until("document.querySelector('#limits')?.textContent.includes('of 2')")
        press(visit, "Edit the limit of group 0")
        per_second = visit.page.get_by_label("per second")
        per_second.wait_for()
        assert visit.page.get_by_role("spinbutton", name="at once").input_value() == "2"
        per_second.fill("0.5")
        visit.press("Enter")
        assert answer(visit) == "Group 0: 2 at once, 0.5/s (before: 2 at once)"
        visit.until_says("2 at once, 0.5/s")

        press(visit, "Edit the limit of group 0")
        visit.page.get_by_role("spinbutton", name="at once").fill("")
        per_second.fill("")
        press(visit, "Set limit")
        visit.until("document.querySelector('#answer').textContent.startsWith('Group 0: no limit')")
        visit.until("document.querySelector('#in-force').textContent.includes('no limit')")

        press(visit, "Edit the limit of group 0")
        press(visit, "Back to the program's: 2 at once")
        visit.until("document.querySelector('#answer').textContent.startsWith('Group 0: the limit of the program')")
        visit.until("!document.querySelector('#in-force li')")

        press(visit, "Pause the group group 1")
        visit.until("document.querySelector('#answer').textContent.startsWith('Paused group 1')")
        press(visit, "Unpause the group group 1")
        visit.until("document.querySelector('#answer').textContent.startsWith('Unpaused group 1')")
        assert visit.messages == []


def test_a_run_is_stopped(browser: "Browser", start: Start) -> None:
    """First what runs may finish; then it is cancelled. After that there is nothing to stop, and the page says so."""
    run, server = start()
    with Visit(browser, server, "/control") as visit:
        press(visit, "Stop…")
        press(visit, "Stop")
        assert answer(visit).startswith("Stopping (")
        visit.until_says("The run is stopping")
        press(visit, "Stop now…")
        press(visit, "Stop now")
        visit.until_says("There is nothing to stop.")
        assert run.wait() == 0
        visit.until("!document.querySelector('[data-verb=stop]')")  # the dialog is closed by the answer
        press(visit, "Pause run")
        visit.until(
            "document.querySelector('#answer').textContent.includes('no process runs it: this holds from its resume on')"
        )
        assert visit.messages == []


def test_what_went_wrong_is_said(browser: "Browser", start: Start) -> None:
    """A command that is refused, and a server that is gone, in the same place as an answer; nothing else happens."""
    run, server = start(fails="NotFound")
    with Visit(browser, server, "/failures") as visit:
        visit.until("document.querySelector('article')")
        run.tell("")
        visit.updates(3)
        button = visit.page.locator("[data-verb=skip]").first
        button.click()
        visit.page.locator("#ask").wait_for()
        call("skip", run.journal, "--state", "failed", "--yes")
        visit.page.locator("#ask .main").click()
        assert answer(visit) == "No items match", visit.messages
        visit.until("!document.querySelector('article')")
        assert visit.js("document.activeElement.id") == "main"  # what had the focus is gone

        server.kill()
        visit.page.locator("#access button").click()
        visit.until("document.querySelector('#answer.bad')?.textContent.startsWith('The server has not answered')")


def test_a_run_that_does_not_answer_at_once(browser: "Browser", start: Start) -> None:
    """The page says that it waits, and then what came of it."""
    run, server = start()
    with Visit(browser, server) as visit:
        visit.until("figure('Completed') > 0 && document.querySelector('#answer')")
        run.process.send_signal(signal.SIGSTOP)
        press(visit, "Pause")
        visit.until("document.querySelector('#answer').textContent === 'Waiting for the run to answer …'")
        run.process.send_signal(signal.SIGCONT)
        visit.until("document.querySelector('#answer').textContent.startsWith('Paused (')")
        assert visit.messages == []


# ---- selected items


def selected(visit: Visit) -> set[int]:
    """Return the numbers of the items in the list whose boxes are ticked."""
    boxes = visit.page.locator("#listing td input:checked")
    return {int(value) for value in boxes.evaluate_all("(all) => all.map((one) => one.value)")}


def tick(visit: Visit, *places: int) -> set[int]:
    """Click the boxes in these rows; return which items are selected then."""
    for place in places:
        visit.page.locator("#listing td input").nth(place).click()
    return selected(visit)


@pytest.fixture(scope="module")
def failed(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Make a run that goes on and in which 120 items have failed, and start its server; tests may skip some of them."""
    journal = tmp_path_factory.mktemp("failed") / "run.db"
    with Run(journal, fails="NotFound", pace_s=0.01, takes_s=0.01) as run, Server(journal, control=True) as server:
        with Visit(browser, server) as visit:
            visit.until("figure('Failed') > 120")
            run.tell("")
            call("pause", journal)
        yield Served(run, server)


FAILED = "/items?q=state:failed"
SELECTED = "!document.getElementById('picked').hidden"


def until_full(visit: Visit) -> list[int]:
    """Wait until a page of the list is full, and stays as it is; return its items."""
    visit.until("document.querySelector('#listing')?.dataset.from && document.querySelector('#answer')")
    boxes = visit.page.locator("#listing td input")
    return [int(value) for value in boxes.evaluate_all("(all) => all.map((one) => one.value)")]


def test_items_are_selected(browser: "Browser", failed: Served) -> None:
    """One by one, a range, by keys, and all of a page; updates, other lists and a reload keep them."""
    with Visit(browser, failed.server, FAILED) as visit:
        rows = until_full(visit)
        assert visit.page.locator("#picked").is_hidden()
        tick(visit, 4)
        assert visit.text("#picked b") == "1 item selected"
        visit.page.locator("#listing td input").nth(1).click(modifiers=["Shift"])
        visit.press("j", "j", "j", "k", "x")
        assert selected(visit) == {rows[number] for number in (1, 2, 4)}
        visit.press("x", "j", "j", "j", "x")
        wanted = {rows[number] for number in (1, 2, 3, 4, 6)}
        assert selected(visit) == wanted
        for count in (6, 5):
            click = "document.querySelectorAll('#listing td input')[10].click()"
            assert visit.js(f"({click}, document.getElementById('spoken').textContent)") == f"{count} items selected"
        visit.updates(2)
        assert selected(visit) == wanted
        visit.page.get_by_role("link", name="Next 100").click()
        visit.until(SELECTED)
        visit.page.locator("#listing th input").click()
        assert visit.text("#picked b") == f"{len(wanted | selected(visit))} items selected"
        visit.page.locator("#listing th input").click()
        assert selected(visit) == set()
        visit.open(FAILED)
        visit.until(SELECTED)
        assert selected(visit) == wanted

        visit.page.locator("#unpick").focus()
        visit.press("Enter")
        assert visit.page.locator("#picked").is_hidden()
        assert visit.js("document.activeElement.closest('#listing') !== null")  # the button is gone
        visit.page.locator("#listing td input").nth(9).click(modifiers=["Shift"])
        assert selected(visit) == {rows[9]}  # no range from what was cleared
        assert visit.messages == []


def test_selected_items_are_skipped(browser: "Browser", failed: Served) -> None:
    """They, and no others; the page stays where it is, and the focus with the items. What doesn't apply is said."""
    with Visit(browser, failed.server, FAILED) as visit:
        until_full(visit)
        wanted = tick(visit, 60, 62)
        top = visit.js("scrollY")
        assert top > 500
        visit.page.locator("#picked [data-verb=skip]").click()
        visit.page.locator("#ask").wait_for()
        assert "Skip 2 items of Page?" in visit.text("#ask")
        press(visit, "Skip 2 items")
        visit.until("document.querySelector('#answer').textContent === 'Skipped 2 items'")
        assert visit.page.locator("#picked").is_hidden()
        assert abs(visit.js("scrollY") - top) < 200
        lines = call("items", failed.run.journal, "--state", "skipped", "--json").splitlines()
        assert {json.loads(line)["item"] for line in lines} == wanted
        visit.open(f"/items?start={max(wanted)}")
        visit.until("document.querySelector('#listing td input') && document.querySelector('#answer')")
        tick(visit, 0)
        visit.page.locator("#access button").click()  # which says nothing of a selection
        visit.until("document.querySelector('#answer').textContent.includes('npaused')")
        assert "0 items" not in visit.text("#spoken")
        visit.until("document.querySelector('#access button').textContent.trim() === 'Pause'")
        visit.page.locator("#access button").click()
        visit.until("document.querySelector('#access button').textContent.trim() === 'Unpause'")
        visit.page.locator("#picked [data-verb=cancel]").click()
        visit.until("document.querySelector('#answer').textContent === 'Nothing to cancel: 1 skipped'")
        assert [one for one in visit.messages if "409" not in one] == []


def test_selected_items_and_the_past(browser: "Browser", failed: Served) -> None:
    """The past can't be changed; back in the present they are still selected, also if the page was opened in the past."""
    with Visit(browser, failed.server, FAILED) as visit:
        until_full(visit)
        wanted = tick(visit, 0, 1)
        visit.press(",")
        visit.until("location.search.includes('at=')")
        assert visit.page.locator("#listing input").count() == 0
        assert visit.page.locator("#picked").is_hidden()
        visit.page.reload()
        visit.until("document.querySelector('#answer') && document.querySelector('#live')")
        visit.press("l")
        visit.until(f"document.querySelector('#listing td input') && {SELECTED}")
        assert selected(visit) == wanted
        assert visit.messages == []


@pytest.mark.parametrize("kept", ["x", '"x"', "{}", "null", '[true, "a", -5, 1e99, 0, 1.5]'])
def test_what_the_browser_keeps_is_not_trusted(browser: "Browser", failed: Served, kept: str) -> None:
    """What is no item was not selected."""
    with Visit(browser, failed.server, FAILED) as visit:
        until_full(visit)
        visit.page.evaluate(
            "(kept) => sessionStorage.setItem(`aqueue-picked ${document.getElementById('picked').dataset.run}`, kept)",
            kept,
        )
        visit.page.reload()
        until_full(visit)
        assert visit.page.locator("#picked").is_hidden()
        assert len(tick(visit, 3)) == 1
        assert visit.messages == []


def test_the_focus_is_in_sight(browser: "Browser", failed: Served) -> None:
    """Neither the bar of the selection nor the slider hides it, by keys and by Tab."""
    covered = """() => {
        const { left, top, width, height } = document.activeElement.getBoundingClientRect();
        return !document.elementFromPoint(left + width / 2, top + height / 2)?.closest("tr")?.contains(document.activeElement);
    }"""
    with Visit(browser, failed.server, FAILED) as visit:
        until_full(visit)
        visit.press("j", "x")
        for key in ("j", "Tab"):
            for _ in range(40):
                visit.press(key)
                assert not visit.page.evaluate(covered), visit.js("document.activeElement.outerHTML")


def test_keys_do_nothing_behind_a_dialog(browser: "Browser", failed: Served) -> None:
    """Also when its backdrop was clicked, which gives it the focus."""
    with Visit(browser, failed.server, FAILED) as visit:
        until_full(visit)
        tick(visit, 3)
        visit.page.locator("#picked [data-verb=retry]").click()
        visit.page.locator("#ask").wait_for()
        visit.page.mouse.click(5, 300)
        visit.press(",", "?", "j")
        assert "at=" not in visit.page.url
        assert visit.page.locator("#keys").is_hidden()
        assert visit.page.locator("#ask").is_visible()


def test_a_list_that_is_emptied_shows_what_comes(browser: "Browser", start: Start) -> None:
    """A list that isn't full grows, and what is skipped leaves it; none says that it is empty while others match."""
    run, server = start(fails="NotFound", pace_s=0.05, takes_s=0.01)
    with Visit(browser, server, FAILED) as visit:
        visit.until("document.querySelectorAll('#listing td input').length > 20 && document.querySelector('#answer')")
        run.tell("")
        visit.updates(2)
        visit.page.locator("#listing .verbs [data-verb=skip]").click()
        visit.page.locator("#ask").wait_for()
        visit.page.locator("#ask .main").click()
        visit.until("document.querySelector('#listing .nothing')?.textContent === 'No item matches.'")
        run.tell("Again")
        visit.until("document.querySelectorAll('#listing td input').length > 5")
        assert "Again" in visit.text("#listing")
        assert visit.messages == []


def test_no_more_are_selected_than_a_command_can_name(browser: "Browser", start: Start) -> None:
    """What goes beyond is refused, with what to do instead."""
    _, server = start()
    with Visit(browser, server, "/items") as visit:
        visit.until("document.querySelectorAll('#listing td input').length > 2 && document.getElementById('answer')")
        visit.js(
            "sessionStorage.setItem(`aqueue-picked ${document.getElementById('picked').dataset.run}`, JSON.stringify([...Array(999).keys()].map((n) => n + 1_000_000)))"
        )
        visit.open("/items")
        visit.until("!document.getElementById('picked')?.hidden")
        for number in range(2):
            visit.page.locator("#listing td input").nth(number).click()
        assert answer(visit).startswith("At most 1,000 items can be selected")
        assert len(selected(visit)) == 1
        assert visit.text("#picked b") == "1,000 items selected"


# ---- dialogs


def test_a_dialog_by_keyboard(browser: "Browser", start: Start) -> None:
    """The focus starts on Cancel, stays inside, and returns to the button, also if an update has come meanwhile; Esc closes it."""
    run, server = start(fails="NotFound")
    with Visit(browser, server, "/failures") as visit:
        visit.until("document.querySelector('article')")
        for end in ("Escape", "Enter"):  # Enter presses Cancel
            visit.page.locator("[data-verb=retry]").first.focus()
            visit.press("Enter")
            visit.page.locator("#ask").wait_for()
            assert visit.js("document.activeElement.textContent") == "Cancel"
            assert visit.js("document.querySelector('#ask').getAttribute('aria-labelledby')") == "ask-title"
            reached = set()
            for _ in range(8):
                visit.press("Tab")
                reached.add(
                    visit.js("document.activeElement.closest('dialog, body').tagName + document.activeElement.tagName")
                )
            assert reached <= {
                "DIALOGCODE",
                "DIALOGBUTTON",
                "BODYBODY",
            }  # the browser's own buttons are no part of the page
            visit.updates(2)
            visit.page.locator("#ask .close").focus()
            visit.press(end)
            visit.until("!document.querySelector('#ask').open")
            assert visit.js("document.activeElement.matches('[data-verb=retry]')")
        assert visit.messages == []
    assert "item.reopened" not in call("export", run.journal)


def test_the_command_for_the_terminal_is_copied(browser: "Browser", start: Start) -> None:
    """As one line, which does the same."""
    run, server = start(fails="NotFound")
    with Visit(browser, server, "/failures", permissions=["clipboard-read", "clipboard-write"]) as visit:
        visit.until("document.querySelector('article')")
        visit.page.locator("[data-verb=retry]").first.click()
        press(visit, "Copy")
        visit.until_says("Copied")
        copied = visit.js("navigator.clipboard.readText()")
        kind = "--type=tests.page.job:Page --state=failed --error=tests.page.job:NotFound"
        assert copied == f"aqueue retry {run.journal} {kind}"
        assert visit.messages == []


def test_an_update_does_not_take_what_is_typed(browser: "Browser", start: Start) -> None:
    """Neither in the form, nor where the number of workers is."""
    _, server = start()
    with Visit(browser, server, "/control") as visit:
        visit.page.get_by_label("Number of workers").fill("12")
        visit.updates(3)
        assert visit.page.get_by_label("Number of workers").input_value() == "12"
        press(visit, "Edit the limit of group 0")  # the number is sent when the focus leaves it
        assert answer(visit) == "12 workers (before: 4)"
        visit.page.get_by_role("spinbutton", name="at once").fill("77")
        visit.updates(3)
        assert visit.page.get_by_role("spinbutton", name="at once").input_value() == "77"


# ---- what is shown


def test_a_read_only_page_has_no_controls(browser: "Browser", start: Start) -> None:
    """No button, no view, no script."""
    run, server = start(fails="NotFound", control=False)
    with Visit(browser, server, "/failures") as visit:
        visit.until("document.querySelector('article')")
        for path in ("/failures", "/items", "/"):
            visit.open(path)
            visit.updates(2)
            assert visit.page.locator("[data-verb], #ask, #answer, #listing input").count() == 0
            assert visit.text("#access") == "Read-only"
            assert visit.text("#tabs").startswith("Now Failures")
        assert not [one for one in visit.requests if "control" in one.url]
        answer = visit.page.goto(f"{server.origin}/control")
        assert answer is not None and answer.status == 404
        refused = visit.js(
            "fetch('control/stop', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' }).then((one) => one.status)"
        )
        assert refused == 405
    assert run.process.poll() is None


def test_without_javascript_there_are_no_buttons(browser: "Browser", start: Start) -> None:
    """They need the script, and are not shown without it."""
    _, server = start()
    with Visit(browser, server, java_script_enabled=False) as visit:
        for path in VIEWS:
            visit.open(path)
            assert visit.page.locator(".verb >> visible=true").count() == 0
        assert "In force" in visit.text("main")


def test_axe_finds_nothing(browser: "Browser", start: Start) -> None:
    """In each view, in each dialog and with an answer, light and dark."""
    run, server = start(fails="NotFound", groups=2)
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 5")
        run.tell("")
        call("limit", run.journal, "group 0", "--concurrent", 9)
        for path in VIEWS:
            visit.open(path)
            visit.until("seen.messages > 0 && document.querySelector('#answer')")
            press(visit, "Pause")
            answer(visit)
            visit.until("document.querySelector('#access button').textContent.trim() === 'Unpause'")
            press(visit, "Unpause")
            visit.until("document.querySelector('#access button').textContent.trim() === 'Pause'")
            for box in visit.page.locator("#listing td input").all()[:2]:
                box.click()
            check_axe(visit)
            for verb in ("limit", "stop") if path == "/control" else ("retry", "skip") if path == "/failures" else ():
                visit.page.locator(f"[data-verb={verb}][data-asks]").first.click()
                visit.page.locator("#ask").wait_for()
                check_axe(visit)
                visit.press("Escape")
        assert visit.messages == []


def check_axe(visit: Visit) -> None:
    """Assert that axe-core finds nothing wrong, light and dark, once no command is waited for."""
    visit.until("!document.documentElement.classList.contains('busy')")
    for scheme in SCHEMES:
        visit.page.emulate_media(color_scheme=scheme)
        assert violations(visit.page) == [], scheme


def test_hostile_text_is_text(browser: "Browser", start: Start) -> None:
    """In the buttons, dialogs and answers, too; and a group and a kind with such names are steered by them."""
    run, server = start(workers=8, hostile=True, pace_s=0.2)
    shown = "<script><img src=x onerror=alert(1)>\\u202e\\u2028\\x1b[2J\"'`&amp;<!--${source}"
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 10")
        visit.open("/control")
        visit.updates(1)
        row = visit.page.locator("#limits tr", has_text="onerror")
        row.get_by_text("Pause").click()
        assert shown in answer(visit).replace("</script>", "<script>")
        row.get_by_text("Edit…").click()
        visit.page.get_by_label("per second").fill("100")
        visit.press("Enter")
        visit.until("document.querySelector('#answer').textContent.includes('100/s')")
        until(lambda: '"per_second":100' in call("export", run.journal), "the limit")

        visit.open("/failures")
        visit.until("document.querySelector('article')")
        visit.page.locator("[data-verb=skip]").first.click()
        visit.page.locator("#ask").wait_for()
        assert shown.removeprefix("<script>")[:30] in visit.text("#ask")
        visit.page.locator("#ask .main").click()
        assert "kipped" in answer(visit)
        assert visit.page.locator("img, iframe, object, style, [style], [onerror]").count() == 0
        assert visit.js("document.scripts.length") == 1
        assert visit.messages == []


def test_nothing_is_wider_than_the_page(browser: "Browser", start: Start) -> None:
    """With long names, on a telephone and on a desk; a dialog fits, too, and what can be pressed is large enough."""
    run, server = start(workers=200, fails=VARIED, pace_s=0.005, takes_s=0.3, groups=20)
    with Visit(browser, server) as visit:
        visit.until("figure('Failed') > 300")
        call("pause", run.journal)
        for path in ("/control", "/failures", "/items?q=state:failed"):
            visit.open(path)
            visit.until("document.querySelector('#answer') && seen.messages > 0")
            visit.until("document.querySelector('#limits, #failed, #listing tbody')")
            for box in visit.page.locator("#listing td input").all()[:2]:
                box.click()
            for width in (360, 768, 1300):
                visit.page.set_viewport_size({"width": width, "height": 800})
                verb = "limit" if path == "/control" else "retry"
                for is_open in (False, True):
                    if is_open:
                        visit.page.locator(f"[data-verb={verb}][data-asks]").first.click()
                        visit.page.locator("#ask").wait_for()
                    assert visit.js("document.documentElement.scrollWidth") == width, (path, width)
                    assert visit.page.evaluate(TOO_WIDE) == [], (path, width)
                visit.press("Escape")
            heights = visit.page.locator("button.verb >> visible=true").evaluate_all(
                "(all) => all.map((one) => one.getBoundingClientRect().height)"
            )
            assert min(heights) >= 24
        assert visit.messages == []
