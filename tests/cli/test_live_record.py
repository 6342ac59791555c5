"""What is read from a snapshot says the same of each item that has not ended well as all events do."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aqueue._folds.item_table import STATES
from aqueue._history.history import History
from aqueue._history.opening import open_history
from aqueue._history.record import MISFITS, Record
from aqueue.cli._commands.explain import _ancestors, _from_all, _from_snapshot, _Told
from aqueue.cli._report import FrozenRun, page
from aqueue.events import SCHEMA_VERSION, Event, ItemCompleted, ItemEnqueued, encode
from aqueue.testing._scripted_runs import BOOM, Script
from tests.cli.conftest import Aqueue, Done
from tests.cli.test_explain import CrashingRun
from tests.journal.writing import write
from tests.strategies import event_streams

NOW = 1_800_000_000.0


@contextmanager
def _journal_of(events: list[Event], data: st.DataObject) -> Iterator[Path]:
    """Give the path of a journal with these events, written in two parts, each of which may end with a snapshot."""
    cut = data.draw(st.integers(0, len(events)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        for part in (events[:cut], events[cut:]):
            if part:
                write(path, part)
        yield path


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(event_streams(), st.integers(0, 2**32).map(lambda seed: CrashingRun(Random(seed)).script.events)),
    st.data(),
)
def test_live_items(events: list[Event], data: st.DataObject) -> None:
    """Of runs that crash and that people steer: the state, times, texts and worker of each, and the counts of all."""
    with (
        _journal_of(events, data) as path,
        closing(open_history(str(path))) as history,
        closing(open_history(str(path))) as from_snapshot,
    ):
        whole = Record(history)
        folds = from_snapshot.start_at_snapshot()
        try:
            live = Record(from_snapshot, folds=folds)
        except MISFITS:  # all events are read, since an item that had ended has been reopened
            assert folds is not None
            assert any(getattr(event, "ended", None) for event in events[folds.snapshot_seq :])
            return
        assert live.counts() == whole.counts()
        assert sum(whole.counts().values()) == len(whole.items)
        assert live.view == whole.view
        assert live.failure_groups() == whole.failure_groups()
        assert (live.begun_at, live.num_processes, live.started) == (
            whole.begun_at,
            whole.num_processes,
            whole.started,
        )
        wanted = [state for state in STATES if state not in ("completed", "skipped")]
        # Of an item that had ended and runs again, a snapshot doesn't have its earlier attempts.
        again = set() if folds is None else folds.recording.facts.forgotten_below
        rows, same = (
            [row for row in items.rows_in(wanted) if items.item_of(row) not in again]
            for items in (whole.items, live.items)
        )
        assert _told(live, same) == _told(whole, rows)


@settings(max_examples=40, deadline=None)
@given(event_streams(), st.data())
def test_stories(events: list[Event], data: st.DataObject) -> None:
    """The story of each item, ended or not, its children, and the states and texts of it and its ancestors, are the same."""
    with _journal_of(events, data) as path:
        for item in [event.item for event in events if isinstance(event, ItemEnqueued)]:
            with closing(open_history(str(path))) as history, closing(open_history(str(path))) as whole:
                folds = history.start_at_snapshot()
                told = _from_snapshot(history, item)
                if folds is not None and told is not None:
                    # Of an ancestor that had ended and runs again, a snapshot doesn't have its earlier attempts.
                    again = folds.recording.facts.forgotten_below - {item}
                    assert _explained(told, item, again) == _explained(_from_all(whole, item), item, again)


def _explained(told: _Told, item: int, again: set[int]) -> object:
    items = told.record.items
    row = items.row_of(item)
    assert row is not None
    rows = [*_ancestors(told.record, row), row]
    known = [row for row in rows if items.item_of(row) not in again]
    texts = [(text.key, text.description) for _, text in told.record.texts(known)]
    states = [(items.item_of(one), items.type_of(one), items.state_of(one)) for one in rows]
    chapters = list(told.story.chapters(in_force=told.record.view.in_force))
    return chapters, told.story.waits_s, told.children(), texts, states, told.recording


def _reported(history: History, *, is_whole: bool = False) -> FrozenRun:
    """Return the run of a report, which takes its counts from a snapshot, if there is one, or from all events."""
    with (
        patch("aqueue._history.record.time.time", lambda: NOW),
        patch.object(history, "view_at_snapshot", lambda: None) if is_whole else nullcontext(),
    ):
        return FrozenRun(history)


@settings(max_examples=100, deadline=None)
@given(event_streams(), st.data())
def test_reports(events: list[Event], data: st.DataObject) -> None:
    """A report that takes the counts from a snapshot and the events as they are says the same as one from all, repaired."""
    with (
        _journal_of(events, data) as path,
        closing(open_history(str(path))) as history,
        closing(open_history(str(path))) as repaired,
    ):
        run = _reported(history)
        assert page(run) == page(_reported(repaired, is_whole=True))
        assert run.record.failure_groups() == Record(open_history(str(path))).failure_groups()


@pytest.mark.parametrize(("item", "schema_version"), [(99, SCHEMA_VERSION), (1, 1)], ids=["stranger's", "older"])
def test_report_of_events_that_need_repair(item: int, schema_version: int, tmp_path: Path) -> None:
    """Those of an item that doesn't exist, and of an earlier aqueue, are repaired although there is a snapshot."""
    script = Script()
    script.start(script.enqueue())
    script.events[0] = replace(script.events[0], schema_version=schema_version)
    path = tmp_path / "run.db"
    write(path, script.events)
    seq, at = script.events[-1].seq + 1, script.events[-1].at
    with closing(sqlite3.connect(path)) as connection, connection:
        text = encode(ItemCompleted(seq, at, item, 1 if item == 1 else 9, 0.5)).decode()
        connection.execute("INSERT INTO events (event) VALUES (?)", (text,))
    with closing(open_history(str(path))) as history, closing(open_history(str(path))) as repaired:
        assert (history.view_at_snapshot() is None) == (schema_version < SCHEMA_VERSION)
        history.rewind()
        assert page(_reported(history)) == page(_reported(repaired, is_whole=True))


def test_process_that_runs_again_after_its_hook(tmp_path: Path) -> None:
    """Of its earlier attempts, a snapshot has only how the last ones began: nevertheless its hook no longer runs."""
    script = Script()
    item = script.enqueue(hook=True)
    script.start(item)
    script.complete(item)
    script.start(item, phase="after_children")
    script.fail(item, BOOM, phase="after_children")
    script.open_again(item, rerun=True, failed="after_children")
    script.start(item, attempt=2)
    write(tmp_path / "run.db", script.events)
    with closing(open_history(str(tmp_path / "run.db"))) as history:
        folds = history.start_at_snapshot()
        assert folds is not None
        record = Record(history, folds=folds)

    assert record.items.state_of(0) == "interrupted"


def _told(record: Record, rows: list[int]) -> list[tuple[object, ...]]:
    items = record.items
    columns = (items.enqueued_at, items.started_at, items.ended_at, items.duration_s, items.attempts, items.worker)
    seqs = (items.enqueued_seq, items.described_seq)
    return [
        (
            items.item_of(row),
            items.parent_of(row),
            items.type_of(row),
            items.state_of(row),
            items.failed_seq[row] if items.state_of(row) in ("failed", "retrying") else 0,  # not shown of others
            items.due.get(row),
            items.group_seq.get(row),
            items.process_of(row),
            items.has_hook(row),
            items.is_in_hook(row),
            *(column[row] for column in (*columns, *seqs)),
        )
        for row in rows
    ]


@pytest.mark.parametrize("seed", range(25))
def test_commands_say_the_same_with_and_without_snapshots(seed: int, tmp_path: Path, aqueue: Aqueue) -> None:
    """About each item, and in lists; as text and as JSON."""
    random = Random(seed)
    events = CrashingRun(random).script.events
    path = tmp_path / "run.db"
    cut = random.randint(1, len(events))
    for part in (events[:cut], events[cut:]):
        if part:
            write(path, part)
    items = sum(isinstance(event, ItemEnqueued) for event in events)
    states = ["--state=failed", "--state=queued", "--state=interrupted", "--state=running", "--state=retrying"]
    commands = [
        ("status", path),
        ("failures", path),
        ("items", path, *states),
        *(("explain", path, item) for item in range(1, items + 2)),
    ]
    commands += [(*command, "--json") for command in commands]
    began = [_without_ages(aqueue(*command)) for command in commands]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM snapshots")
        connection.commit()
    assert [_without_ages(aqueue(*command)) for command in commands] == began


def _without_ages(done: Done) -> tuple[int, str, str]:
    """Return what a command printed, without how long ago things were, which depends on when it runs."""
    return done.code, re.sub(r"[\d,.]+ (days|d|h|min|s)( [\d,.]+ (h|min|s))? ago", "ago", done.out), done.err
