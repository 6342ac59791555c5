"""Describes each event in a few words."""

from collections.abc import Callable
from typing import Any, Final, Literal

from aqueue.events import (
    ErrorInfo,
    Event,
    GroupSlowedDown,
    ItemAdopted,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
    ItemRetryScheduled,
    ItemStarted,
    ProcessJoined,
    ProcessLeft,
    ReporterFailed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStatus,
    RunStopping,
)
from aqueue.figures import amount, duration, when_due

__all__ = ["Part", "StyleName", "details"]

StyleName = Literal["plain", "dim", "bold", "good", "busy", "warning", "error"]
"""How a part is written."""

Part = tuple[StyleName, str]
"""A part of a line: how it is written, and its text, which is not safe to show yet."""


def details(event: Event) -> list[Part]:
    """Return what to show of `event` in addition to its item, the item's type and its worker."""
    detail_of = _DETAILS.get(type(event))
    return detail_of(event) if detail_of is not None else []


def _list(*facts: str) -> str:
    return ", ".join(fact for fact in facts if fact)


def _attempt(event: Any, *, first: bool = False) -> str:
    """Return which attempt it is, unless it is the first one and `first` is False, and whether it is one of the hook."""
    hook = "after children" if event.phase == "after_children" else ""
    return _list(hook, f"try {event.attempt}" if first or event.attempt > 1 else "")


def _error(error: ErrorInfo, style: StyleName, *facts: str) -> list[Part]:
    known = _list(*facts)
    kind = error.type.rpartition(":")[2] or error.type
    return [
        ("plain", f"{known}: " if known else ""),
        (style, kind),
        ("plain", f": {error.message}" if error.message else ""),
    ]


def _dropped(count: int) -> str:
    return f"{amount(count)} dropped as known" if count else ""


def _of_start(event: RunStarted) -> list[Part]:
    workers = _workers(event.num_workers) + (" a process" if event.cluster else "")
    cluster = f", cluster {event.cluster}" if event.cluster else ""
    said = f"  {workers}, {event.queue_type_name}, pid {event.pid} on {event.host}{cluster}"
    return [("bold", event.run_id), ("plain", said)]


def _workers(count: int) -> str:
    return f"{amount(count)} worker{'' if count == 1 else 's'}"


def _of_joined(event: ProcessJoined) -> list[Part]:
    first, last = event.first_worker, event.first_worker + event.num_workers - 1
    numbers = f"w{first}" if first == last else f"w{first} to w{last}"
    return [("bold", f"{event.host}:{event.pid}"), ("plain", f"  {_workers(event.num_workers)}, {numbers}")]


def _of_left(event: ProcessLeft) -> list[Part]:
    lost = "it died" if event.reason == "lost" else ""
    late = f"{amount(event.ignored)} of its reports came too late or twice" if event.ignored else ""
    return [("plain", _list(f"that with w{event.first_worker}", lost, late))]


def _of_enqueued(event: ItemEnqueued) -> list[Part]:
    by = f"by {event.parent}" if event.parent else ""
    return [("plain", _list(by, f"key {event.key}" if event.key is not None else ""))]


def _of_completed(event: ItemCompleted) -> list[Part]:
    attempt = f"try {event.attempt}" if event.attempt > 1 else ""
    return [("plain", _list(duration(event.duration_s), attempt, _dropped(event.deduplicated)))]


def _of_failed(event: ItemFailed) -> list[Part]:
    facts = (duration(event.duration_s), _attempt(event), _dropped(event.deduplicated))
    return _error(event.error, "error", *facts)


_REASONS: Final = {"cancelled": "cancelled", "crash": "by a crash", "worker_lost": "its worker was lost"}
_REOPENED: Final = {
    None: "something below it runs again",
    "process": "it runs again",
    "after_children": "its hook runs again",
}


_STATUS_STYLES: Final[dict[RunStatus, StyleName]] = {
    "completed": "good",
    "failed": "error",
    "interrupted": "warning",
}


def _of_finish(event: RunFinished) -> list[Part]:
    counts = event.counts
    figures = ("failed", "outstanding", "interrupted", "retried")
    others = [f"{amount(number)} {name}" for name in figures if (number := getattr(counts, name))]
    done = f"{amount(counts.completed)} of {amount(counts.enqueued)} done"
    return [
        (_STATUS_STYLES[event.status], event.status),
        ("plain", f"  {_list(done, *others, _dropped(counts.deduplicated))}"),
    ]


_DETAILS: Final[dict[type[Event], Callable[[Any], list[Part]]]] = {
    RunStarted: _of_start,
    RunResumed: _of_start,
    ItemEnqueued: _of_enqueued,
    ItemStarted: lambda event: [("plain", _attempt(event))],
    ItemDescribed: lambda event: [("plain", event.text)],
    ItemCompleted: _of_completed,
    ItemFailed: _of_failed,
    ItemRetryScheduled: lambda event: _error(
        event.error, "warning", _attempt(event, first=True), f"again {when_due(event.due, event.at)}"
    ),
    ItemInterrupted: lambda event: [("plain", _list(_REASONS[event.reason], _attempt(event)))],
    ItemAdopted: lambda event: [
        ("plain", "with other attributes" if event.key is None else f"with the key {event.key}")
    ],
    ItemReopened: lambda event: [("plain", _REOPENED[event.failed])],
    GroupSlowedDown: lambda event: [("bold", event.group), ("plain", f"  goes on {when_due(event.due, event.at)}")],
    ProcessJoined: _of_joined,
    ProcessLeft: _of_left,
    RunStopping: lambda event: [
        ("plain", _list(event.reason, "running items are cancelled" if event.cancelling else ""))
    ],
    ReporterFailed: lambda event: _error(event.error, "error", event.reporter.rpartition(":")[2]),
    RunFinished: _of_finish,
}
