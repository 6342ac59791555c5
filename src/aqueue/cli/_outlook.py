"""What resuming a run would do with one item, and why: in words, what `aqueue._resume.plan` has decided."""

from aqueue._folds.recording import RecordedItem, RecordedRun
from aqueue._history.event_words import host_and_pid
from aqueue._history.record import Record
from aqueue._resume.plan import Plan, Step
from aqueue.events import GroupPaused, RunPaused
from aqueue.figures import amount, local_minute, person, when_due
from aqueue.text import visible

__all__ = ["outlook"]

_HAS_ENDED = "It won't run again: it and everything below it have completed."
_WAS_SKIPPED = "It won't run again: it was skipped."


def outlook(
    record: Record,
    recording: RecordedRun | None,
    plan: Plan | None,
    row: int,
    *,
    num_children: int,
    failed_below: bool,
    group: str | None = None,
) -> str:
    """Return in words whether and why the item in `row` will run when the run is resumed; safe to show.

    Parameters:
        record: the run.
        recording: the same as a resume reads it, ended; None if the run can't be resumed.
        plan: what a resume does; None likewise.
        row: the item's row.
        num_children: how many children it has enqueued so far.
        failed_below: whether a descendant of it is failed.
        group: the group in which it waits; None for none.
    """
    paused = _paused(record, row, group)
    if record.state.name == "running":
        said = _while_running(record, row, is_paused=bool(paused))
    else:
        said = _on_resume(record, recording, plan, row, num_children, failed_below=failed_below)
    choices = _choices(record, recording, row)
    return f"{said}{choices}{'.' if choices and paused else ''}{paused}"


def _choices(record: Record, recording: RecordedRun | None, row: int) -> str:
    """Return the commands by which a person can have it otherwise than a failed item will be; empty for other items."""
    if record.items.state_of(row) != "failed" or recording is None:
        return ""
    number = record.items.item_of(row)
    live = recording.live.get(number)
    is_left = record.state.name == "running" or (live is not None and live.is_cancelled)
    retry = f" To run it again: {record.command('retry', str(number))}; to" if is_left else " To"
    return f"{retry} accept it: {record.command('skip', str(number))}"


def _paused(record: Record, row: int, group: str | None) -> str:
    """Return a sentence about the pause by a person that keeps the item from starting; empty if none does."""
    items, in_force = record.items, record.view.in_force
    state = items.state_of(row)
    has_hook_due = state == "completed" and items.has_hook(row) and not items.is_closed(row)
    will_start = state in ("queued", "interrupted", "retrying") or (
        state == "failed" and record.state.name != "running"
    )
    who: RunPaused | GroupPaused | None = in_force.paused
    command, what = record.command("unpause"), "The run"
    is_in_hook = has_hook_due or items.is_in_hook(row)
    if who is None and group is not None and not is_in_hook and (of_group := in_force.paused_groups.get(group)):
        who, command = of_group, record.command("unpause", "--group", group)
        what = f"Its group {visible(group, 200)}"
    if who is None or not (will_start or has_hook_due):
        return ""
    when = f"{local_minute(who.at, record.now)} by {visible(person(who.by), 200)}"
    return f" {what} was paused at {when}. To let it start: {command}"


def _on_resume(
    record: Record, recording: RecordedRun | None, plan: Plan | None, row: int, num_children: int, *, failed_below: bool
) -> str:
    if not record.history.is_journal:
        return "A log can't be resumed. To resume runs, record a journal with run_queue(resume=…)."
    if recording is None or plan is None:
        return "This journal can't be resumed: its events are inconsistent, for example about an item that was never enqueued."
    if record.items.state_of(row) == "skipped":
        return _WAS_SKIPPED
    number = record.items.item_of(row)
    live = recording.live.get(number)
    if live is None:
        return _HAS_ENDED
    step = plan.step(number)
    if number in plan.cancelled:
        return "On resume it fails instead of running: a person cancelled it while it ran, and then it was interrupted."
    if live.failed is not None:
        return _failed(live, step)
    first = " It runs first and alone, because it was running in the last crashes." if step == "runs alone" else ""
    if step == "waits for descendants":
        return _waiting_for_descendants(live, something_failed=failed_below)
    if step == "given up":
        what = "its hook" if live.completed else "it"
        return f"On resume {what} fails with PoisonItem instead of running: running alone, it crashed the process again and again."
    if live.completed:
        if not live.hook:
            return _HAS_ENDED
        return (
            "Its process() won't run again. On resume its hook runs, because it or something below it was interrupted."
            f"{first}"
        )
    if step == "waits for parent":
        why = "has failed" if recording.live[live.parent].failed is not None else "was interrupted"
        return (
            f"On resume it waits for its parent, item {live.parent}, which {why} and runs again. It runs once its parent has "
            "enqueued it again; if the parent doesn't, it runs as recorded."
        )
    if step == "retries":
        due = when_due(live.due, record.now)
        return f"On resume it is retried, due {due}: attempt {live.attempt} failed."
    if record.items.state_of(row) == "interrupted":
        adopted = f"; children recorded so far: {amount(num_children)}" if num_children else ""
        return f"On resume it runs again from the start: attempt {live.attempt} was interrupted{adopted}.{first}"
    if live.attempt:
        return f"On resume it runs again: it was reopened after it had ended.{first}"
    return f"On resume it runs: it was enqueued but never started.{first}"


def _while_running(record: Record, row: int, *, is_paused: bool) -> str:
    items = record.items
    match items.state_of(row):
        case "running":
            worker = items.worker[row]
            at = record.view.running.get(worker)
            process = record.view.process_of(worker) if at is not None and at.phase == "process" else None
            on = f" on {host_and_pid(process)}" if process is not None else ""
            return f"Worker {worker}{on} is running it."
        case "retrying":
            due = items.due.get(row, 0.0)
            if due <= record.now:
                return "Its retry is due: it is waiting for a worker or for its group's limit."
            return f"It will be retried {when_due(due, record.now)}."
        case "queued" | "interrupted" if is_paused:
            return "It is queued."
        case "queued" | "interrupted":
            return "It is queued: it is waiting for a worker, for its group's limit or, after a resume, for its parent."
        case "failed":
            return "It won't run again by itself until the run is resumed."
        case "skipped":
            return _WAS_SKIPPED
        case _:
            if items.has_hook(row) and not items.is_closed(row):
                return "It has completed; its hook runs once everything below it has succeeded."
            return "It has completed."


def _failed(live: RecordedItem, step: Step) -> str:
    again = "its hook runs" if live.failed == "after_children" else "it runs"
    if step == "given up":
        return "It stays failed until the run has ended: it crashed the process, which has crashed again since."
    if live.is_cancelled:
        return "It stays failed, also on resume: a person cancelled it."
    if step == "runs alone":
        return (
            f"On resume {again} again, first and alone: it was running in three crashes in a row. "
            "To leave it failed, use retry_failed=False."
        )
    return f"On resume {again} again, because it failed. To leave it failed, use retry_failed=False or only=…."


def _waiting_for_descendants(live: RecordedItem, *, something_failed: bool) -> str:
    why = "something below it failed and runs again" if something_failed else "something below it has not completed"
    if live.hook:
        return f"Its process() won't run again: it has completed. Its hook runs later, because {why}."
    return f"It won't run again: it has completed. It stays open only because {why}."
