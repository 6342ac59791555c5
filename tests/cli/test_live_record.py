"""What is read from a snapshot says the same of each item that has not ended well as all events do."""

from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue._folds.item_table import STATES
from aqueue._history.opening import open_history
from aqueue.cli._record import Record
from tests.cli.test_explain import CrashingRun
from tests.journal.writing import write


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_live_items(seed: int) -> None:
    """Of crashing runs: the state, the times, the texts and the worker of each, and the counts of all."""
    random = Random(seed)
    events = CrashingRun(random).script.events
    cut = random.randint(0, len(events))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        for part in (events[:cut], events[cut:]):
            if part:
                write(path, part)
        with closing(open_history(str(path))) as history, closing(open_history(str(path))) as from_snapshot:
            whole = Record(history)
            folds = from_snapshot.start_at_snapshot()
            live = Record(from_snapshot, folds=folds)
            assert live.counts() == whole.counts()
            assert sum(whole.counts().values()) == len(whole.items)
            assert live.view == whole.view
            assert live.failure_groups() == whole.failure_groups()
            assert (live.begun_at, live.num_processes, live.started) == (
                whole.begun_at,
                whole.num_processes,
                whole.started,
            )
            wanted = [state for state in STATES if state != "completed"]
            rows = list(whole.items.rows_in(wanted))
            same = list(live.items.rows_in(wanted))
            assert _told(live, same) == _told(whole, rows)


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
            items.process_of(row),
            items.has_hook(row),
            items.is_in_hook(row),
            *(column[row] for column in (*columns, *seqs)),
        )
        for row in rows
    ]
