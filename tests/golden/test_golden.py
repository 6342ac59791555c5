"""Journals that earlier versions of aqueue have written must resume for ever."""

import shutil
from pathlib import Path

import pytest

from aqueue import Backend, run_queue
from aqueue.events import EVENT_TYPES, ItemReopened
from tests.golden.job import roots
from tests.golden.make import make
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

GOLDEN = sorted(Path(__file__).parent.glob("journal-v*.db"))
LATE = [{"leaf": leaf} for leaf in ("stops", "a", "b", "c")]
OUTER = [{"leaf": "fails"}, {"leaf": "good"}, [{"leaf": "equal"}, {"leaf": "equal"}]]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_journal_resumes(golden: Path, tmp_path: Path, backend: Backend) -> None:
    """Every state is restored as it was, what was outstanding runs, and the results are those of the whole job."""
    path = tmp_path / "run.db"
    shutil.copyfile(golden, path)
    before = events_of(path)
    result = run_queue(roots(), resume=path, num_workers=2, reporter="none", backend=backend)
    events = events_of(path)
    assert events[: len(before)] == before
    story = told_by(events)
    story.ended_well()
    assert result.status == "completed"
    assert result.root_results == [OUTER, {"leaf": "exits"}, LATE, [{"leaf": "x"}, {"leaf": "x"}]]
    assert result.counts.enqueued == result.counts.completed == 15
    assert result.counts.deduplicated == 1
    assert run_queue(roots(), resume=path, reporter="none", backend=backend).root_results == result.root_results


def test_there_is_a_golden_journal_with_every_event() -> None:
    """One has all types of events that there are, and a failed parent whose children are to be adopted."""
    every = [events_of(path) for path in GOLDEN]
    [events] = [events for events in every if {event.event for event in events} == set(EVENT_TYPES)]
    assert any(isinstance(event, ItemReopened) and event.failed == "process" for event in events)


def test_the_script_still_makes_one(tmp_path: Path) -> None:
    """A golden journal of the next version can be made as this one was."""
    make(tmp_path / "run.db")
    assert {event.event for event in events_of(tmp_path / "run.db")} == set(EVENT_TYPES)
