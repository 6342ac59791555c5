"""Commands on a run that no process runs: they are appended to its journal, and hold when it is resumed."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import nlargest
from pathlib import Path

from aqueue._engine.groups import SHOWN_GROUPS
from aqueue._engine.reruns import COMPLETED_ON_A_CLUSTER
from aqueue._engine.restored_run import Change
from aqueue._engine.steering import ON_A_CLUSTER, change_of, setting_of
from aqueue._folds.recording import RecordedRun
from aqueue._folds.snapshot import Folds
from aqueue._resume.item_edits import ItemEdits
from aqueue._resume.past import fold_recorded
from aqueue._resume.restoring import interruptions
from aqueue._verbs import Answer, AnyCommand, OnItems, Pause, Retry, SetLimit, SetWorkers, Stop, Unpause
from aqueue._version import __version__
from aqueue.errors import SteeringError
from aqueue.events import SCHEMA_VERSION, Event, GroupLimitChanged, RunEdited, RunSteered
from aqueue.text import visible

__all__ = ["edit"]


def edit(journal: Path, command: AnyCommand) -> Answer:
    """Append `command` to the journal of a run that no process runs, as a command of its own: `run.edited` comes first.

    Raises:
        JournalLocked: a process runs it, or another command is writing to it.
        SteeringError: it can't be carried out; nothing was changed.
        JournalError: the journal can't be read or written; one of its subclasses says why.
    """
    from aqueue._journal.writer import Journal  # SQLite is for those who have a journal

    opened = Journal.open(journal, is_command=True)
    try:
        if opened.is_new:
            raise SteeringError(f"nothing is recorded in {visible(str(journal), 1_000)}; name the journal of a run")
        folds = fold_recorded(opened)
        events, answer = edited(folds, command, time.time(), opened.events_at, opened.recorded)
        if events:
            opened.begin_writing()
            try:
                opened.write(events)
            except Exception as error:
                raise opened.failure(error) from error
            finally:
                opened.close()
        return answer
    finally:
        opened.abandon()


def edited(
    folds: Folds,
    command: AnyCommand,
    now: float,
    events_at: Callable[[Sequence[int]], Iterable[Event]],
    read: Callable[[], Iterable[Sequence[Event]]],
) -> tuple[list[Event], Answer]:
    """Return the events that `command` appends to a run that no process runs, and what comes of it.

    Parameters:
        folds: the run.
        command: what is asked.
        now: Unix time in seconds.
        events_at: reads the recorded events with these numbers, in any order.
        read: reads all recorded events in order, in batches.

    Raises:
        SteeringError: it can't be carried out.
    """
    if isinstance(command, Stop):
        return [], Answer(changed=False, is_live=False, num_workers=folds.view.num_workers)
    run = folds.recording.at_end(leaves_settled=True)
    interrupted = list(interruptions(run, folds.view))
    if isinstance(command, OnItems):
        changes, answer = _on_items(folds, run, command, events_at, read)
    else:
        changes, answer = _on_the_run(folds, run, command)
    if not changes:
        return [], answer
    first: Change = partial(RunEdited, schema_version=SCHEMA_VERSION, aqueue_version=__version__, by=command.by)
    at = max(now, run.last_at)
    return [make(seq, at) for seq, make in enumerate([first, *interrupted, *changes], run.last_seq + 1)], answer


def _on_items(
    folds: Folds,
    run: RecordedRun,
    command: OnItems,
    events_at: Callable[[Sequence[int]], Iterable[Event]],
    read: Callable[[], Iterable[Sequence[Event]]],
) -> tuple[list[Change], Answer]:
    if isinstance(command, Retry) and command.completed and run.runs_elsewhere:
        raise SteeringError(COMPLETED_ON_A_CLUSTER)
    edits = ItemEdits(folds.recording, run, command, events_at, read)
    answer = Answer(changed=edits.count > 0, is_live=False, count=edits.count, others=dict(edits.others))
    if not edits.count:
        return [], answer
    verb = str(command.__struct_config__.tag)
    return [
        *edits.cut_off,
        partial(RunSteered, verb=verb, selector=command.selector, count=edits.count, by=command.by),
        *edits.changes,
    ], answer


def _on_the_run(
    folds: Folds, run: RecordedRun, command: Pause | Unpause | SetWorkers | SetLimit
) -> tuple[list[Change], Answer]:
    if isinstance(command, SetWorkers) and run.runs_elsewhere:
        raise SteeringError(ON_A_CLUSTER)
    in_force, group = run.in_force, getattr(command, "group", None)
    workers, before = in_force.workers, setting_of(command, in_force)
    limit = before if isinstance(before, GroupLimitChanged) else None
    change = change_of(
        command,
        in_force,
        folds.view.num_workers if workers is None else workers.program,
        None if limit is None else limit.program,
    )
    waiting = folds.view.groups
    is_known = group is None or group in waiting or any(one.group == group for one in folds.view.running.values())
    answer = Answer(
        changed=change is not None,
        is_live=False,
        since=0.0 if before is None else before.at,
        by="" if before is None else before.by,
        num_workers=folds.view.num_workers,
        concurrent=None if limit is None else limit.concurrent,
        per_second=None if limit is None else limit.per_second,
        is_known=is_known,
        groups={} if is_known else dict(nlargest(SHOWN_GROUPS, waiting.items(), key=lambda one: one[1])),
    )
    return [] if change is None else [change], answer
