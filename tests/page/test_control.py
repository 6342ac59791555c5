"""The server that carries out commands, on real runs in other processes: `_page.control`, `_page.commands` and `_page.server` together."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from aqueue import events as ev
from aqueue._history.journal_history import JournalHistory
from aqueue.events import Event
from tests.journal.writing import make_events, write
from tests.page.serving import Run, Server, entered, until


class Person:
    """A person at the page of a run.

    Attributes:
        run: the run.
    """

    def __init__(self, run: Run, browser: httpx.Client) -> None:
        self.run = run
        self._browser = browser
        self._browser.headers["origin"] = "/".join(str(browser.base_url).split("/")[:3])

    def post(self, path: str, **fields: Any) -> httpx.Response:
        """Send a command."""
        return self._browser.post(f"/control/{path}", json=fields)

    def does(self, verb: str, **fields: Any) -> str:
        """Give a command; return what came of it."""
        answer = self.post(verb, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["said"])

    def sees(self, path: str) -> str:
        """Return a view."""
        return self._browser.get(path).text

    def events(self, *types: type[Event]) -> list[Any]:
        """Return the events of these types in the journal."""
        history = JournalHistory(self.run.journal)
        found = []
        while (events := history.read()) is not None:
            found += [event for event in events if isinstance(event, types)]
        history.close()
        return found

    def until_recorded(self, number: int, *types: type[Event]) -> list[Any]:
        """Wait until there are so many events of these types; return them."""
        until(lambda: len(self.events(*types)) >= number, f"{number} of {types}")
        return self.events(*types)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Return what starts a run and a page, and returns a person there."""
    with ExitStack() as started:

        def start_run(**run: Any) -> Person:
            running = started.enter_context(Run(tmp_path / "run.db", **run))
            server = started.enter_context(Server(running.journal, control=True))
            return Person(running, started.enter_context(entered(server.address)))

        yield start_run


@contextmanager
def resumed(person: Person, **run: Any) -> Iterator[None]:
    """Let a process run the run again."""
    with Run(person.run.journal, **run):
        yield


def from_page(events: list[Any]) -> bool:
    """Return whether somebody at the page has done all of these."""
    return bool(events) and all(event.by.endswith(" via page") for event in events)


def test_a_live_run_is_steered(start: Any) -> None:
    """Each verb is carried out by the run, recorded as from the page, and answered as in a terminal."""
    person = start(groups=2)
    person.until_recorded(3, ev.ItemCompleted)

    assert person.does("pause").startswith("paused (")
    assert person.does("pause").startswith("already paused since")
    assert "Unpause run" in person.sees("/control")
    assert person.does("unpause").startswith("unpaused (paused since ")
    assert person.does("pause", group="group 1").startswith("paused group 1")
    assert person.does("unpause", group="group 1").startswith("unpaused group 1")
    assert person.does("workers", number=6) == "6 workers (before: 4)"
    assert (
        person.does("limit", group="group 1", concurrent=1, per_second=5)
        == "group 1: 1 at once, 5/s (before: no limit)"
    )
    assert person.does("limit", group="group 1").startswith("group 1: no limit")
    assert person.does("limit", group="group 1", is_default=True).startswith("group 1: ")
    assert "no item waits or runs in the group nobody" in person.does("pause", group="nobody")
    assert person.does("stop").startswith("stopping")
    assert "Stop now…" in person.sees("/control") and "Stop the run now?" in person.post("stop/dialog").text
    assert "will be cancelled" in person.does("stop", now=True)
    assert person.run.wait() == 0

    assert from_page(person.events(ev.RunPaused, ev.RunUnpaused, ev.GroupPaused, ev.GroupUnpaused))
    [workers] = person.events(ev.RunWorkersChanged)
    assert workers.num_workers == 6 and from_page([workers])
    limits = person.events(ev.GroupLimitChanged)
    assert [(one.concurrent, one.per_second) for one in limits[:2]] == [(1, 5.0), (None, None)]
    assert from_page(limits)
    assert from_page(person.events(ev.RunStopping))


def test_failed_items_of_a_live_run_are_retried_and_skipped(start: Any) -> None:
    """The dialog has their number before, and the answer after; those of another kind stay as they are."""
    person = start(fails="NotFound")
    person.until_recorded(3, ev.ItemFailed)
    person.run.tell("Broken")
    until(lambda: any("Broken" in one.error.type for one in person.events(ev.ItemFailed)), "another kind")
    person.run.tell("")
    kind = {"types": ["tests.page.job:Page"], "states": ["failed"], "error": "tests.page.job:NotFound"}
    failed = [one.item for one in person.events(ev.ItemFailed) if "NotFound" in one.error.type]

    dialog = person.post("retry/dialog", **kind)
    assert f"Retry {len(failed)} failed items of Page?" in dialog.text
    assert f"--error={kind['error']}" in dialog.text
    assert person.events(ev.RunSteered) == []
    assert person.does("retry", **kind) == f"retried {len(failed)} items"
    again = person.until_recorded(2 * len(failed) + 1, ev.ItemFailed)  # they remember how they fail
    assert sorted(one.item for one in person.events(ev.ItemReopened)) == sorted(failed)
    assert {one.error.type for one in again} == {"tests.page.job:NotFound", "tests.page.job:Broken"}

    assert person.does("skip", **kind) == f"skipped {len(failed)} items"
    assert sorted(one.item for one in person.events(ev.ItemSkipped)) == sorted(failed)
    nothing = person.post("skip/dialog", **kind)
    assert (nothing.status_code, nothing.json()) == (409, {"error": "nothing to skip: no such items are left"})
    assert person.does("skip", items=failed[:2]) == "nothing to skip (2 were skipped)"
    steered = person.events(ev.RunSteered)
    assert [(one.verb, one.count) for one in steered] == [("retry", len(failed)), ("skip", len(failed))]
    assert from_page(steered)


def test_items_are_cancelled_by_number(start: Any) -> None:
    """What doesn't apply to an item is in the answer."""
    person = start(workers=1, takes_s=1.0)
    person.until_recorded(4, ev.ItemEnqueued)
    feed, *pages = [one.item for one in person.events(ev.ItemEnqueued)]
    dialog = person.post("cancel/dialog", items=[*pages[:2], 999_999])
    assert "Cancel 2 items of Page?" in dialog.text and "Not included: 1 unknown." in dialog.text
    assert person.does("cancel", items=[*pages[:2], 999_999]).startswith("cancelled 2 of 3 items (1 doesn't exist")
    cancelled = person.until_recorded(2, ev.ItemFailed)
    assert {one.item for one in cancelled} == set(pages[:2]) and feed not in pages


def test_a_run_without_a_process_is_steered_for_its_resume(start: Any) -> None:
    """What is retried runs then; what can't be done says why."""
    person = start(pages=8, fails="NotFound")
    assert person.run.wait() == 0
    kind = {"types": ["tests.page.job:Page"], "states": ["failed"]}
    assert "No process runs the run: what is set here holds from its resume on." in person.sees("/control")
    assert "No process runs the run" in person.post("retry/dialog", **kind).text
    assert person.does("retry", **kind) == "retried 8 items (no process runs the run: they run when it is resumed)"
    assert "isn't running: there is nothing to stop" in person.does("stop")
    assert "holds from its resume on" in person.does("workers", number=2)
    with resumed(person):
        person.until_recorded(16, ev.ItemFailed)
    assert person.does("skip", **kind) == "skipped 8 items"
    assert len(person.events(ev.ItemSkipped)) == 8


def test_commands_without_a_dialog(start: Any) -> None:
    """They are given at once; a dialog for them is refused."""
    person = start()
    for verb, fields in (("pause", {}), ("unpause", {}), ("workers", {"number": 3})):
        assert person.post(f"{verb}/dialog", **fields).status_code == 404
    assert "Stop the run?" in person.post("stop/dialog").text
    assert 'name="concurrent"' in person.post("limit/dialog", group="group 0").text
    assert person.events(ev.RunPaused, ev.RunStopping, ev.RunWorkersChanged, ev.GroupLimitChanged) == []


def test_another_run_of_that_name_is_left_alone(start: Any) -> None:
    """If the journal was replaced, a dialog that is still open steers neither run."""
    person = start(pages=3)
    assert person.run.wait() == 0
    person.run.journal.unlink()
    write(person.run.journal, make_events(1, 50))
    until(lambda: "start aqueue serve again" in person.sees("/control"), "the error")
    answer = person.post("pause")
    assert (answer.status_code, answer.json()) == (409, {"error": "the journal of this run can't be read any more"})
    assert person.events(ev.RunPaused) == []
