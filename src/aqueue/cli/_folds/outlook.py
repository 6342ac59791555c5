"""What resuming a run would do with one item, and why: told from the same fold from which a run is resumed."""

from aqueue._recording import ROOT, Recording
from aqueue.cli._folds.items import Items
from aqueue.cli._folds.record import Record
from aqueue.figures import amount, when_due

__all__ = ["outlook"]


def outlook(record: Record, recording: Recording | None, row: int) -> str:
    """Return in a sentence or two whether and why the item in `row` will run when the run is resumed; safe to show.

    Parameters:
        record: the run.
        recording: the same events folded as a resume folds them, to their end; None for a log.
        row: the item's row.
    """
    items = record.items
    item = items.item_of(row)
    if record.standing.state == "running":
        return _while_running(record, row)
    if recording is None:
        return "A log can't be resumed. With a journal, run_queue(resume=…), it could."
    live = recording.live.get(item)
    if live is None:
        return "It will not run again: it has completed, and so has everything below it."
    if live.failed is not None:
        again = "its hook runs" if live.failed == "after_children" else "it runs"
        if live.is_poison:
            return (
                f"On resume {again} again, alone and before all others: it ended the process in three crashes in a row. "
                "With retry_failed=False it is left as it is."
            )
        return f"On resume {again} again, since it has failed. retry_failed=False, or only=, can leave it as it is."
    if live.completed:
        return _completed(record, recording, row)
    parent = recording.live.get(live.parent)
    if parent is not None and parent.id != ROOT and not parent.completed and parent.failed is None:
        return (
            f"On resume it waits until its parent, item {parent.id}, which was cut short, has run again: the parent "
            "enqueues it again, and only then it runs. If the parent doesn't, it runs as it is recorded."
        )
    alone = item in recording.suspects or recording.alone.get(item, 0) > 1
    first = " It runs alone, before all others: it was running in the last crashes." if alone else ""
    if live.due:
        return f"On resume it is tried again, {when_due(live.due, record.now)}: its attempt {live.attempt} has failed.{first}"
    if live.attempt:
        children = _num_children(items, row)
        adopted = f"; of the children that it enqueues, {amount(children)} are known already" if children else ""
        return f"On resume it runs again, from its beginning: its attempt {live.attempt} was cut short{adopted}.{first}"
    return f"On resume it runs: it was enqueued and never started.{first}"


def _while_running(record: Record, row: int) -> str:
    items = record.items
    match items.state_of(row):
        case "running":
            return f"Worker {items.worker[row]} is at it now."
        case "waiting":
            return f"It is tried again {when_due(items.due.get(row, 0.0), record.now)}."
        case "queued" | "interrupted":
            return "It waits in the queue, for a worker, for its group or, in a resumed run, for its parent."
        case "failed":
            return "It is not run again by this process. When the run is resumed, it is."
        case _:
            return (
                "It has completed."
                if not items.has_hook(row) or items.is_closed(row)
                else ("It has completed; its hook runs once everything below it has.")
            )


def _completed(record: Record, recording: Recording, row: int) -> str:
    live = recording.live[record.items.item_of(row)]
    below = "something below it is not done"
    if live.closed_over:
        below = "something below it has failed and is run again"
    if live.running == "after_children" or (live.hook and not live.pending):
        return "Its process will not run again. On resume its hook runs again: it was cut short, or not begun."
    if live.hook:
        return f"Its process will not run again: it has completed. Its hook runs when the rest is done: {below}."
    return f"It will not run again: it has completed. It is kept open only because {below}."


def _num_children(items: Items, row: int) -> int:
    return sum(parent == row for parent in items.parent_row)
