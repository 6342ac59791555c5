"""Journals that earlier versions of aqueue have written must resume for ever."""

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from aqueue import Backend, iter_results, run_queue
from aqueue._history.repair import Repairer
from aqueue.cli import main
from aqueue.events import (
    EVENT_TYPES,
    SCHEMA_VERSION,
    Counts,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    RunFinished,
    RunResumed,
)
from tests.golden import cluster, policies, steered
from tests.golden.job import roots
from tests.golden.make import make
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

GOLDEN = sorted(Path(__file__).parent.glob("journal-v?.db"))
GOLDEN_WITH_POLICIES = sorted(Path(__file__).parent.glob("journal-v?-policies.db"))
GOLDEN_ON_CLUSTERS = sorted(Path(__file__).parent.glob("journal-v?-cluster.db"))
GOLDEN_STEERED = sorted(Path(__file__).parent.glob("journal-v?-steered.db"))
EVERY_GOLDEN = [*GOLDEN, *GOLDEN_WITH_POLICIES, *GOLDEN_ON_CLUSTERS, *GOLDEN_STEERED]
WRITE_WORKERS = {"journal-v2-policies", "journal-v2-steered"}
"""The journals whose every event has its worker."""
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
    went_on = next(event for event in events[len(before) :] if isinstance(event, RunResumed))
    assert went_on.schema_version == SCHEMA_VERSION, "an aqueue that is older than this one refuses to resume it"
    story = told_by(Repairer().repair(events))
    story.ended_well()
    assert result.status == "completed"
    assert result.root_results == [OUTER, {"leaf": "exits"}, LATE, [{"leaf": "x"}, {"leaf": "x"}]]
    assert result.counts.enqueued == result.counts.completed == 15
    assert result.counts.deduplicated == 1
    assert run_queue(roots(), resume=path, reporter="none", backend=backend).root_results == result.root_results


@pytest.mark.parametrize("golden", EVERY_GOLDEN, ids=lambda path: path.stem)
def test_a_golden_journal_is_read_and_not_brought_up_to_date(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To read a journal of an earlier version leaves it as it is."""
    path = tmp_path / "run.db"
    shutil.copyfile(golden, path)
    before = path.read_bytes()
    num_results = len(list(iter_results(path)))
    for command in ("status", "items", "results"):
        with pytest.raises(SystemExit):
            main([command, str(path)])
    said = capsys.readouterr()
    assert said.out.count('"result":') == num_results
    assert said.err == ""
    assert path.read_bytes() == before


@pytest.mark.parametrize("golden", GOLDEN_WITH_POLICIES, ids=lambda path: path.stem)
def test_a_golden_journal_with_policies_resumes(golden: Path, tmp_path: Path, backend: Backend) -> None:
    """The item that waited is tried on, nothing that had completed runs, and attempts that were made count."""
    path = tmp_path / "run.db"
    shutil.copyfile(golden, path)
    before = events_of(path)
    result = run_queue(policies.roots(), resume=path, num_workers=2, reporter="none", backend=backend)
    events = events_of(path)
    assert events[: len(before)] == before
    story = told_by(Repairer().repair(events))
    story.ended_well()
    assert result.status == "completed"
    assert result.root_results == [["slow"], ["again", ["x"], ["x"]], ["fails", ["y"], ["z"]]]
    assert result.counts.enqueued == result.counts.completed == 7
    assert result.counts.retried == 5
    assert story.attempts[3, "process"] == 5


@pytest.mark.parametrize("golden", GOLDEN_STEERED, ids=lambda path: path.stem)
def test_a_golden_journal_of_a_steered_run_resumes(golden: Path, tmp_path: Path, backend: Backend) -> None:
    """What was skipped stays so, with its result; what had ended well and was reopened runs again, and so does the hook above."""
    path = tmp_path / "run.db"
    shutil.copyfile(golden, path)
    before = events_of(path)
    told_by(before)
    result = run_queue(steered.roots(), resume=path, num_workers=2, reporter="none", backend=backend)
    events = events_of(path)
    assert events[: len(before)] == before
    story = told_by(events)
    story.ended_well()
    assert result.status == "completed"
    assert result.root_results == [["well", ["child"]], "by hand", ["late"]]
    assert result.counts == Counts(enqueued=4, completed=3, retried=2, skipped=1)
    assert {item for item in story.enqueued if story.attempts[item, "process"] > 1} == {2, 3, steered.CHILD}
    assert story.attempts[steered.WELL, "after_children"] == 2


@pytest.mark.parametrize("where", [None, "local:1"])
@pytest.mark.parametrize("golden", GOLDEN_ON_CLUSTERS, ids=lambda path: path.stem)
def test_a_golden_journal_of_a_cluster_resumes(golden: Path, where: str | None, tmp_path: Path) -> None:
    """It does so without a cluster and on another one; what the lost attempt had enqueued is known again."""
    path = tmp_path / "run.db"
    shutil.copyfile(golden, path)
    before = events_of(path)
    result = run_queue(cluster.roots(), resume=path, num_workers=2, reporter="none", cluster=where)
    events = events_of(path)
    assert events[: len(before)] == before
    told_by(Repairer().repair(events)).ended_well()
    assert result.status == "completed"
    assert result.root_results == [[2, "a", "b"], [2, "kills", "c"], [2, "d", "e"]]
    assert result.counts.enqueued == result.counts.completed == 10


def test_a_golden_journal_has_retries_of_both_phases() -> None:
    """It has a failure after the last attempt, a pause of a group, and counts of further attempts."""
    events = events_of(GOLDEN_WITH_POLICIES[-1])
    phases = {event.phase for event in events if isinstance(event, ItemRetryScheduled)}
    assert phases == {"process", "after_children"}
    assert [event.attempt for event in events if isinstance(event, ItemFailed)] == [3]
    assert any(event.event == "group.slowed_down" for event in events)
    assert [event.counts.retried for event in events if isinstance(event, RunFinished)] == [4]


@pytest.mark.parametrize("golden", EVERY_GOLDEN, ids=lambda path: path.stem)
def test_a_golden_journal_reads_as_it_is_but_for_workers(golden: Path) -> None:
    """Each end of an attempt gets the worker of its start, which all but the newest of these journals have there alone."""
    events = events_of(golden)
    read = Repairer().repair(events)
    at_work: dict[int, int] = {}
    for event, whole in zip(events, read, strict=True):
        match whole:
            case ItemStarted():
                at_work[whole.item] = whole.worker
            case ItemCompleted() | ItemFailed() | ItemRetryScheduled() | ItemInterrupted():
                assert whole.worker == at_work.pop(whole.item)
            case ItemChildrenProcessed():
                assert whole.worker == at_work.pop(whole.item, 0)
            case _:
                pass
        assert whole == (replace(event, worker=whole.worker) if hasattr(whole, "worker") else event)
    assert read != events or golden.stem in WRITE_WORKERS, "none of its events lacks a worker"


def test_there_is_a_golden_journal_with_every_event() -> None:
    """The newest have all types of events that there are, and a failed parent with children to adopt."""
    newest = (every[-1] for every in (GOLDEN, GOLDEN_WITH_POLICIES, GOLDEN_ON_CLUSTERS, GOLDEN_STEERED))
    events = [event for path in newest for event in events_of(path)]
    assert {event.event for event in events} == set(EVENT_TYPES)
    assert any(isinstance(event, ItemReopened) and event.failed == "process" for event in events)


def test_the_scripts_still_make_them(tmp_path: Path) -> None:
    """Golden journals of the next version can be made as these were."""
    make(tmp_path / "run.db")
    policies.make(tmp_path / "policies.db")
    cluster.make(tmp_path / "cluster.db")
    steered.make(tmp_path / "steered.db")
    events = [event for path in tmp_path.glob("*.db") for event in events_of(path)]
    assert {event.event for event in events} == set(EVENT_TYPES)
