"""Puts each event into words: what happened, and its details."""

from collections.abc import Callable
from typing import Any, Final, Literal

from aqueue import events as ev
from aqueue.figures import amount, duration, limit_words, person
from aqueue.text import first_line, visible
from aqueue.view import WorkerProcess

__all__ = ["Part", "StyleName", "details", "host_and_pid", "name_of", "why_interrupted", "words_of_counts"]

StyleName = Literal["plain", "dim", "bold", "good", "busy", "warning", "error"]
"""How a part is written."""

Part = tuple[StyleName, str]
"""A part of a line: how it is written, and its text, which is not safe to show yet."""


def name_of(event: ev.Event) -> Part:
    """Return what happened; most events go by the last part of their names, by which ``--event`` knows them."""
    known = _WORDS.get(type(event))
    return known[0] if known is not None else ("plain", event.event.rpartition(".")[2].replace("_", " "))


def details(event: ev.Event) -> list[Part]:
    """Return what to show of `event` in addition to its item, the item's type and its worker."""
    known = _WORDS.get(type(event))
    found = known[1](event) if known is not None else []
    return [("plain", found)] if isinstance(found, str) else found


def host_and_pid(process: WorkerProcess) -> str:
    """Return the host and pid of a worker process as ``host:4711``, safe to show."""
    return f"{visible(process.host, 100)}:{process.pid}"


def words_of_counts(counts: ev.Counts) -> str:
    """Return what the items of a run came to, and how many attempts were cut short or failed for now.

    ``7 of 10 completed, 1 failed, 2 outstanding, 3 attempts retried``.
    """
    figures = ("failed", "skipped", "outstanding")
    others = [f"{amount(number)} {name}" for name in figures if (number := getattr(counts, name))]
    completed = f"{amount(counts.completed)} of {amount(counts.enqueued)} completed"
    attempts = (_attempts(counts.interrupted, "interrupted"), _attempts(counts.retried, "retried"))
    return _list(completed, *others, *attempts, _dropped(counts.deduplicated))


def _attempts(count: int, what: str) -> str:
    return f"{amount(count)} attempt{'' if count == 1 else 's'} {what}" if count else ""


def _list(*facts: str) -> str:
    return ", ".join(fact for fact in facts if fact)


def _attempt(event: Any, *, first: bool = False) -> str:
    """Return the attempt's number, unless it is 1 and `first` is False, and whether it is one of the hook."""
    hook = "hook" if event.phase == "after_children" else ""
    return _list(hook, f"attempt {event.attempt}" if first or event.attempt > 1 else "")


def _error(error: ev.ErrorInfo, style: StyleName, *facts: str) -> list[Part]:
    known = _list(*facts)
    kind = error.type.rpartition(":")[2] or error.type
    return [
        ("plain", f"{known}: " if known else ""),
        (style, kind),
        ("plain", f": {first}" if (first := first_line(error.message)) else ""),
    ]


def _dropped(count: int) -> str:
    return f"{amount(count)} duplicate{'' if count == 1 else 's'} skipped" if count else ""


def _of_start(event: ev.RunStarted) -> list[Part]:
    workers = _workers(event.num_workers) + (" per process" if event.cluster else "")
    cluster = f", cluster {event.cluster}" if event.cluster else ""
    said = f"  {workers}, {event.queue_type_name}, pid {event.pid} on {event.host}{cluster}"
    return [("bold", event.run_id), ("plain", said)]


def _workers(count: int) -> str:
    return f"{amount(count)} worker{'' if count == 1 else 's'}"


def _of_joined(event: ev.ProcessJoined) -> list[Part]:
    first, last = event.first_worker, event.first_worker + event.num_workers - 1
    numbers = f"w{first}" if first == last else f"w{first} to w{last}"
    return [("bold", f"{event.host}:{event.pid}"), ("plain", f"  {_workers(event.num_workers)}, {numbers}")]


def _of_left(event: ev.ProcessLeft) -> str:
    late = f"{amount(event.ignored)} late or repeated reports ignored" if event.ignored else ""
    return _list(f"first worker w{event.first_worker}", "lost" if event.reason == "lost" else "", late)


def _of_enqueued(event: ev.ItemEnqueued) -> str:
    by = f"by item {event.parent}" if event.parent else ""
    key = f"key {event.key}" if event.key is not None else ""
    return _list(by, key, f"group {event.group}" if event.group is not None else "")


def _of_completed(event: ev.ItemCompleted) -> str:
    attempt = f"attempt {event.attempt}" if event.attempt > 1 else ""
    return _list(duration(event.duration_s), attempt, _dropped(event.deduplicated))


def _of_failed(event: ev.ItemFailed) -> list[Part]:
    took = duration(event.duration_s) if event.worker else "while it waited"
    facts = (took, _attempt(event), _dropped(event.deduplicated))
    return _error(event.error, "error", *facts)


def _of_retry(event: ev.ItemRetryScheduled) -> list[Part]:
    return _error(event.error, "warning", _attempt(event, first=True), f"due {_in(event)}")


def _in(event: ev.ItemRetryScheduled | ev.ItemRescheduled | ev.GroupSlowedDown) -> str:
    """Return how long it was to wait; to the figure, since nothing counts down here."""
    return f"in {duration(event.due - event.at)}"


def why_interrupted(event: ev.ItemInterrupted) -> str:
    """Return why an attempt was interrupted."""
    reasons = {
        "cancelled": "cancelled",
        "crash": "by a crash",
        "worker_lost": "worker process lost",
        "skipped": "to be skipped",
    }
    return reasons[event.reason]


def _of_interrupted(event: ev.ItemInterrupted) -> str:
    return _list(why_interrupted(event), _attempt(event))


def _of_skipped(event: ev.ItemSkipped) -> str:
    what = "hook" if event.phase == "after_children" else ""
    return _list(what, "after its failure" if event.had_failed else "", "with a result" if event.result else "")


def _of_reopened(event: ev.ItemReopened) -> str:
    if event.rerun:
        return "it runs again, though it was skipped" if event.skipped else "it runs again, though it had completed"
    if event.failed is None:
        return "something below it runs again"
    return "it runs again" if event.failed == "process" else "its hook runs again"


def _of_limit(event: ev.GroupLimitKnown) -> list[Part]:
    return [("bold", event.group), ("plain", f"  {limit_words(event.concurrent, event.per_second)}")]


def _of_changed_limit(event: ev.GroupLimitChanged) -> list[Part]:
    limit = limit_words(event.concurrent, event.per_second) or "no limit"
    return [("bold", event.group), ("plain", f"  {'as in the program' if event.is_default else limit}, by {event.by}")]


def _of_group(event: ev.GroupPaused | ev.GroupUnpaused) -> list[Part]:
    return [("bold", event.group), ("plain", f"  by {event.by}")]


def _of_finish(event: ev.RunFinished) -> list[Part]:
    styles: dict[str, StyleName] = {"completed": "good", "failed": "error", "interrupted": "warning"}
    return [(styles[event.status], event.status), ("plain", f"  {words_of_counts(event.counts)}")]


_Details = Callable[[Any], str | list[Part]]

_WORDS: Final[dict[type[ev.Event], tuple[Part, _Details]]] = {
    ev.RunStarted: (("bold", "run started"), _of_start),
    ev.RunResumed: (("bold", "run resumed"), _of_start),
    ev.RunStopping: (
        ("warning", "run stopping"),
        lambda event: _list(
            event.reason,
            "cancelling running items" if event.cancelling else "",
            f"by {event.by}" if event.by and person(event.by) not in event.reason else "",
        ),
    ),
    ev.RunPaused: (("plain", "run paused"), lambda event: f"by {event.by}"),
    ev.RunUnpaused: (("plain", "run unpaused"), lambda event: f"by {event.by}"),
    ev.RunWorkersChanged: (
        ("plain", "workers changed"),
        lambda event: f"{_workers(event.num_workers)}, {amount(event.program)} in the program, by {event.by}",
    ),
    ev.RunSteered: (
        ("bold", "steered"),
        lambda event: (
            f"{event.verb} {event.selector}, {amount(event.count)} item{'' if event.count == 1 else 's'}, by {event.by}"
        ),
    ),
    ev.RunEdited: (("bold", "run edited"), lambda event: f"by {event.by}"),
    ev.RunFinished: (("bold", "run finished"), _of_finish),
    ev.ItemEnqueued: (("plain", "enqueued"), _of_enqueued),
    ev.ItemStarted: (("busy", "started"), _attempt),
    ev.ItemDescribed: (("dim", "described"), lambda event: event.text),
    ev.ItemCompleted: (("good", "completed"), _of_completed),
    ev.ItemChildrenProcessed: (("good", "children done"), lambda event: ""),
    ev.ItemRetryScheduled: (("warning", "retry scheduled"), _of_retry),
    ev.ItemRescheduled: (
        ("plain", "rescheduled"),
        lambda event: f"due {_in(event)}" if event.due > event.at else "due now",
    ),
    ev.ItemInterrupted: (("warning", "interrupted"), _of_interrupted),
    ev.ItemCancelled: (("warning", "cancelled"), lambda event: ""),
    ev.ItemSkipped: (("good", "skipped"), _of_skipped),
    ev.ItemFailed: (("error", "failed"), _of_failed),
    ev.ItemAdopted: (
        ("plain", "adopted"),
        lambda event: "with different attributes" if event.key is None else f"with key {event.key}",
    ),
    ev.ItemReopened: (("plain", "reopened"), _of_reopened),
    ev.GroupSlowedDown: (
        ("plain", "slowed down"),
        lambda event: [("bold", event.group), ("plain", f"  resumes {_in(event)}")],
    ),
    ev.ItemRegrouped: (
        ("plain", "regrouped"),
        lambda event: "no group" if event.group is None else f"group {event.group}",
    ),
    ev.GroupLimitKnown: (("plain", "limit known"), _of_limit),
    ev.GroupLimitChanged: (("plain", "limit changed"), _of_changed_limit),
    ev.GroupPaused: (("plain", "group paused"), _of_group),
    ev.GroupUnpaused: (("plain", "group unpaused"), _of_group),
    ev.LoopBlocked: (
        ("warning", "loop blocked"),
        lambda event: f"{duration(event.duration_s)} by {event.method}, at {event.where}",
    ),
    ev.RunHeldUp: (
        ("warning", "held up"),
        lambda event: f"{duration(event.duration_s)} by {event.by.rpartition(':')[2]}",
    ),
    ev.ProcessJoined: (("plain", "process joined"), _of_joined),
    ev.ProcessLeft: (("plain", "process left"), _of_left),
    ev.ReporterFailed: (
        ("error", "reporter failed"),
        lambda event: _error(event.error, "error", event.reporter.rpartition(":")[2]),
    ),
}
"""What each type of event is called, and what matters of it."""
