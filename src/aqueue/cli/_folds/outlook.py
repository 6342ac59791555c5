"""What resuming a run would do with one item, and why.

It follows `aqueue._resume.resumption`: a test compares what it says with what a resume does, at many a point of a run.
"""

from collections.abc import Iterable

from aqueue._folds.crashes import Crashes
from aqueue._folds.recording import POISON
from aqueue._folds.tree_shape import TreeShape
from aqueue._resume.resumption import POISON_AFTER_CRASHES
from aqueue.cli._folds.record import ItemTexts, Record
from aqueue.cli._screen import host_and_pid
from aqueue.events import (
    Event,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemFailed,
    ItemInterrupted,
    ItemRetryScheduled,
    ItemStarted,
    RunFinished,
    RunResumed,
)
from aqueue.figures import amount, when_due

__all__ = ["CrashFold", "outlook"]

_ENDS = (ItemCompleted, ItemFailed, ItemRetryScheduled, ItemChildrenProcessed)


class CrashFold:
    """Folds the events into what was running at the crashes of the run."""

    def __init__(self) -> None:
        self.crashes = Crashes()
        self.given_up: set[int] = set()  # for ending the process; and they have neither returned nor raised since
        self._has_finished = False

    def apply(self, events: Iterable[Event]) -> None:
        """Fold `events`, which must follow those applied so far."""
        running = self.crashes.running
        for event in events:
            if isinstance(event, ItemStarted):
                running.add(event.item)
            elif isinstance(event, _ENDS):
                running.discard(event.item)
                if isinstance(event, ItemFailed) and event.error.type == POISON:
                    self.given_up.add(event.item)
                else:
                    self.given_up.discard(event.item)
            elif isinstance(event, ItemInterrupted) and event.reason != "crash":
                running.discard(event.item)
            elif isinstance(event, RunResumed):
                self.end()
                self._has_finished = False
            elif isinstance(event, RunFinished):
                self.crashes.finish()
                self._has_finished = True

    def end(self) -> None:
        """Note that no more events of this process will follow."""
        if not self._has_finished:
            self.crashes.crash()


def outlook(record: Record, shape: TreeShape, fold: CrashFold, row: int, texts: ItemTexts) -> str:
    """Return in a sentence or two whether and why the item in `row` will run when the run is resumed; safe to show.

    Parameters:
        record: the run.
        shape: its tree.
        fold: what was running at its crashes, the last process included.
        row: the item's row.
        texts: what its events say.
    """
    items = record.items
    if record.standing.state == "running":
        return _while_running(record, row)
    if not record.history.is_journal:
        return "A log can't be resumed. With a journal, run_queue(resume=…), it could."
    state = items.state_of(row)
    in_hook = texts.failure is not None and texts.failure.phase == "after_children"
    if state == "failed":
        return _failed(texts, fold.crashes, in_hook=in_hook)
    if state == "completed" or (state == "retrying" and in_hook):
        return _completed(record, shape, row)
    parent = items.parent_row[row]
    if parent >= 0 and items.state_of(parent) in ("queued", "retrying", "interrupted"):
        return (
            f"On resume it waits until its parent, item {items.item_of(parent)}, which was cut short, has run again: the "
            "parent enqueues it again, and only then it runs. If the parent doesn't, it runs as it is recorded."
        )
    item = items.item_of(row)
    crashes_alone = fold.crashes.alone.get(item, 0)
    if crashes_alone >= (1 if item in fold.given_up else POISON_AFTER_CRASHES):
        return "On resume it fails, as PoisonItem, and is not run: alone, it has ended the process in the last crashes."
    is_suspect = item in fold.crashes.suspects or item in fold.given_up
    first = " It runs alone, before all others: it was running in the last crashes." if is_suspect else ""
    attempt = items.attempts[row]
    if state == "retrying":
        due = when_due(items.due.get(row, 0.0), record.now)
        return f"On resume it is tried again, {due}: its attempt {attempt} has failed.{first}"
    if state == "interrupted":
        count = sum(1 for _ in shape.children(row))
        adopted = f"; of the children that it enqueues, {amount(count)} are known already" if count else ""
        return f"On resume it runs again, from its beginning: its attempt {attempt} was cut short{adopted}.{first}"
    if attempt:
        return f"On resume it runs again: it had failed, and was taken up again.{first}"
    return f"On resume it runs: it was enqueued and never started.{first}"


def _while_running(record: Record, row: int) -> str:
    items = record.items
    match items.state_of(row):
        case "running":
            worker = items.worker[row]
            at = record.view.running.get(worker)
            process = record.view.process_of(worker) if at is not None and at.phase == "process" else None
            on = f", on {host_and_pid(process)}," if process is not None else ""
            return f"Worker {worker}{on} is at it now."
        case "retrying":
            due = items.due.get(row, 0.0)
            if due <= record.now:
                return "Its time to be tried again has come: it waits for a worker, or for its group."
            return f"It is tried again {when_due(due, record.now)}."
        case "queued" | "interrupted":
            return "It waits in the queue, for a worker, for its group or, in a resumed run, for its parent."
        case "failed":
            return "It is not run again by this process. When the run is resumed, it is."
        case _:
            if items.has_hook(row) and not items.is_closed(row):
                return "It has completed; its hook runs once everything below it has."
            return "It has completed."


def _failed(texts: ItemTexts, crashes: Crashes, *, in_hook: bool) -> str:
    again = "its hook runs" if in_hook else "it runs"
    if texts.failure is not None and texts.failure.error.type == POISON:
        if crashes.count:
            return "It is left as it is until the run has ended: it had ended the process, which has crashed since."
        return (
            f"On resume {again} again, alone and before all others: it ended the process in three crashes in a row. "
            "With retry_failed=False it is left as it is."
        )
    return f"On resume {again} again, since it has failed. retry_failed=False, or only=, can leave it as it is."


def _completed(record: Record, shape: TreeShape, row: int) -> str:
    items = record.items
    below = shape.below(row)
    is_done = below.completed == below.total
    if is_done and (items.is_closed(row) or not items.has_hook(row)):
        return "It will not run again: it has completed, and so has everything below it."
    if is_done:
        return "Its process will not run again. On resume its hook runs: it was cut short, or something below it was."
    why = "something below it has failed and is run again" if below.failed else "something below it is not done"
    if items.has_hook(row):
        return f"Its process will not run again: it has completed. Its hook runs when the rest is done: {why}."
    return f"It will not run again: it has completed. It is kept open only because {why}."
