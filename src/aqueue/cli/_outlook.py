"""What resuming a run would do with one item, and why: in words, what `aqueue._resume.plan` has decided."""

from aqueue._folds.recording import RecordedItem, Recording
from aqueue._folds.tree_shape import TreeShape
from aqueue._resume.plan import Plan, Step
from aqueue.cli._record import Record
from aqueue.cli._screen import host_and_pid
from aqueue.figures import amount, when_due

__all__ = ["outlook"]

_HAS_ENDED = "It will not run again: it has completed, and so has everything below it."


def outlook(record: Record, shape: TreeShape, recording: Recording | None, plan: Plan | None, row: int) -> str:
    """Return in words whether and why the item in `row` will run when the run is resumed; safe to show.

    Parameters:
        record: the run.
        shape: its tree.
        recording: the same as a resume reads it, ended; None if the run can't be resumed.
        plan: what a resume does; None likewise.
        row: the item's row.
    """
    if record.state.name == "running":
        return _while_running(record, row)
    if not record.history.is_journal:
        return "A log can't be resumed. With a journal, run_queue(resume=…), it could."
    if recording is None or plan is None:
        return "The journal can't be resumed: it names items, workers or types where no run can have done so."
    number = record.items.item_of(row)
    live = recording.live.get(number)
    if live is None:
        return _HAS_ENDED
    step = plan.step(number)
    if live.failed is not None:
        return _failed(live, step)
    first = " It runs alone, before all others: it was running in the last crashes." if step == "runs alone" else ""
    if step == "waits for descendants":
        return _waiting_for_descendants(live, something_failed=shape.below(row).failed > 0)
    if step == "given up":
        what = "its hook" if live.completed else "it"
        return f"On resume {what} fails, as PoisonItem, and is not run: alone, it has ended the process in the last crashes."
    if live.completed:
        if not live.hook:
            return _HAS_ENDED
        return (
            "Its process will not run again. On resume its hook runs: it was cut short, or something below it was."
            f"{first}"
        )
    if step == "waits for parent":
        why = "has failed" if recording.live[live.parent].failed is not None else "was cut short"
        return (
            f"On resume it waits until its parent, item {live.parent}, which {why}, has run again: the parent enqueues it "
            "again, and only then it runs. If the parent doesn't, it runs as it is recorded."
        )
    if step == "retries":
        due = when_due(live.due, record.now)
        return f"On resume it is retried, {due}: its attempt {live.attempt} has failed."
    if record.items.state_of(row) == "interrupted":
        count = sum(1 for _ in shape.children(row))
        adopted = f"; of the children that it enqueues, {amount(count)} are known already" if count else ""
        return f"On resume it runs again, from its beginning: its attempt {live.attempt} was cut short{adopted}.{first}"
    if live.attempt:
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
                return "Its retry is due: it waits for a worker, or for its group."
            return f"It is retried {when_due(due, record.now)}."
        case "queued" | "interrupted":
            return "It waits in the queue, for a worker, for its group or, in a resumed run, for its parent."
        case "failed":
            return "It is not run again by this process. When the run is resumed, it is."
        case _:
            if items.has_hook(row) and not items.is_closed(row):
                return "It has completed; its hook runs once everything below it has."
            return "It has completed."


def _failed(live: RecordedItem, step: Step) -> str:
    again = "its hook runs" if live.failed == "after_children" else "it runs"
    if step == "given up":
        return "It is left as it is until the run has ended: it had ended the process, which has crashed since."
    if step == "runs alone":
        return (
            f"On resume {again} again, alone and before all others: it ended the process in three crashes in a row. "
            "With retry_failed=False it is left as it is."
        )
    return f"On resume {again} again, since it has failed. retry_failed=False, or only=, can leave it as it is."


def _waiting_for_descendants(live: RecordedItem, *, something_failed: bool) -> str:
    why = "something below it has failed and is run again" if something_failed else "something below it is not done"
    if live.hook:
        return f"Its process will not run again: it has completed. Its hook runs when the rest is done: {why}."
    return f"It will not run again: it has completed. It is kept open only because {why}."
