"""The events of a run: everything that happens, as immutable records in one order, and their one JSON encoding.

A run is the list of its events. Reporters, the run's result and every other reader see the same list. Times are Unix
times in seconds, durations are seconds, items are numbered from 1 in the order in which they were enqueued, workers
from 1. A reader must skip event types and fields that it does not know: `decode` does.
"""

from typing import Final, Literal, get_args

import msgspec
from msgspec import Raw

__all__ = [
    "EVENT_TYPES",
    "NO_DATA",
    "SCHEMA_VERSION",
    "Counts",
    "EndedItem",
    "ErrorInfo",
    "Event",
    "GroupLimit",
    "GroupLimitChanged",
    "GroupLimitKnown",
    "GroupPaused",
    "GroupSlowedDown",
    "GroupUnpaused",
    "ItemAdopted",
    "ItemCancelled",
    "ItemChildrenFailed",
    "ItemChildrenProcessed",
    "ItemCompleted",
    "ItemDescribed",
    "ItemEnqueued",
    "ItemFailed",
    "ItemInterrupted",
    "ItemRegrouped",
    "ItemReopened",
    "ItemRescheduled",
    "ItemRetryScheduled",
    "ItemSkipped",
    "ItemStarted",
    "LoopBlocked",
    "Phase",
    "ProcessJoined",
    "ProcessLeft",
    "ReporterFailed",
    "RunEdited",
    "RunFinished",
    "RunHeldUp",
    "RunPaused",
    "RunResumed",
    "RunStarted",
    "RunStatus",
    "RunSteered",
    "RunStopping",
    "RunUnpaused",
    "RunWorkersChanged",
    "decode",
    "encode",
    "encode_lines",
]

SCHEMA_VERSION: Final = 2
"""The version of the event schema that this aqueue writes, as in `run.started`."""

NO_DATA: Final = Raw()
"""The value of an optional JSON field (a result, a payload) that is absent: this very object, not one that equals it."""

Phase = Literal["process", "after_children"]
"""The method that an attempt runs, `process` or the hook `after_children_processed`."""

RunStatus = Literal["completed", "failed", "interrupted"]
"""How a run ended.

``completed``: everything succeeded or was skipped; ``failed``: an item is failed at the end, such as one that was cancelled;
``interrupted``: it was stopped before everything had run.
"""


class ErrorInfo(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An exception as data.

    Attributes:
        type: the exception's class, as ``module:qualname`` (builtins without the module).
        message: what `str` gives for it, at most 10,000 characters.
        traceback: the formatted traceback, at most 20,000 characters: in a longer one, the messages of the exceptions
            are cut first, and then its beginning, so that the last frames and the error remain.
    """

    type: str
    message: str
    traceback: str = ""


class Counts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Counts of items and attempts. The outstanding items are `enqueued` minus `completed`, `failed` and `skipped`.

    Attributes:
        enqueued: items announced, the initial ones included.
        completed: items whose `process` returned.
        failed: items that failed for good, in `process` or in the hook.
        interrupted: attempts that were cut short by a cancellation or a crash.
        deduplicated: items dropped as duplicates, because their key was known.
        retried: attempts that failed and were retried, or will be.
        skipped: items that a person skipped. They are not among the completed or failed ones.
    """

    enqueued: int = 0
    completed: int = 0
    failed: int = 0
    interrupted: int = 0
    deduplicated: int = 0
    retried: int = 0
    skipped: int = 0

    @property
    def outstanding(self) -> int:
        """How many items have neither completed nor failed, and were not skipped."""
        return self.enqueued - self.completed - self.failed - self.skipped


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="event"):
    """The fields of every event.

    Attributes:
        seq: the event's number: 1, 2, 3, … without a gap; the only order that counts.
        at: when it happened, Unix time in seconds; never less than the event before it.
    """

    seq: int
    at: float

    @property
    def event(self) -> str:
        """The event's name, such as ``item.completed``."""
        return str(self.__struct_config__.tag)


class RunStarted(Event, frozen=True, tag="run.started"):
    """A process starts a run. The first event.

    Attributes:
        run_id: identifies the run; stays the same when it is resumed.
        schema_version: of the events that follow.
        aqueue_version: which aqueue wrote them.
        num_workers: how many workers run items by what the program passed; with a cluster, in each of its worker processes.
            After a resume, an earlier `run.workers_changed` still holds if its `program` is this number.
        queue_type_name: ``queue``, ``stack`` or ``priority``.
        pid: the process.
        host: the machine's name.
        cluster: the address of the cluster's scheduler; empty if the items run in this process.
    """

    run_id: str
    schema_version: int
    aqueue_version: str
    num_workers: int
    queue_type_name: str
    pid: int
    host: str
    cluster: str = ""


class RunResumed(RunStarted, frozen=True, tag="run.resumed"):
    """Another process continues a run; the fields are those of `RunStarted`."""


class ItemEnqueued(Event, frozen=True, tag="item.enqueued"):
    """An item is announced, before any other event names it.

    Attributes:
        item: its number, from 1, in the order of enqueue.
        parent: the number of the item that enqueued it; 0 for an initial item.
        type: its class, as ``module:qualname``.
        track_overall: whether its class counts in the overall progress.
        key: its identity across the run, if it has one.
        hook: whether its class has an `after_children_processed` of its own.
        occurrence: how many earlier children of the same parent had the same type and payload.
        payload: its state, only with a journal.
        group: the group in which it waits; None if it has none. Older logs don't tell it.
    """

    item: int
    parent: int
    type: str
    track_overall: bool = False
    key: str | None = None
    hook: bool = False
    occurrence: int = 0
    payload: Raw = NO_DATA
    group: str | None = None


class ItemRegrouped(Event, frozen=True, tag="item.regrouped"):
    """A waiting item has another group than before: it waits for a retry, or again after a resume, and its group was changed.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        group: the group in which it waits now; None if it has none.
        before: the group in which it waited before; None if it had none, or if an older log doesn't tell it.
    """

    item: int
    type: str
    group: str | None = None
    before: str | None = None


class ItemAdopted(Event, frozen=True, tag="item.adopted"):
    """An item was enqueued again, after a resume, with other attributes than recorded; if outstanding, it runs with these.

    It has the same key, or its class was changed meanwhile. Left out where all attributes are the same.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        payload: its new state, only with a journal; left out if its subtree has ended.
        key: its key, if it had none, or another, when it was recorded.
    """

    item: int
    type: str
    payload: Raw = NO_DATA
    key: str | None = None


class ItemStarted(Event, frozen=True, tag="item.started"):
    """A worker takes an item, or the item's own hook begins.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        worker: the worker's number, from 1.
        phase: ``process``, or ``after_children`` for the hook.
        attempt: which try of that phase, from 1.
        group: the group in which it waited; None if it had none, for a hook, and in older logs, which don't tell it.
    """

    item: int
    type: str
    worker: int
    phase: Phase = "process"
    attempt: int = 1
    group: str | None = None


class ItemDescribed(Event, frozen=True, tag="item.described"):
    """An item said what it is doing (`set_desc`).

    Attributes:
        item: its number.
        worker: the worker that runs it.
        text: the description: made safe, at most 1,000 characters.
    """

    item: int
    worker: int
    text: str


class ItemCompleted(Event, frozen=True, tag="item.completed"):
    """An item's `process` returned.

    Attributes:
        item: its number.
        worker: the worker that ran it.
        duration_s: how long this attempt took by the monotonic clock, seconds. The difference of two `at` may be larger, if the wall
            clock was set forward in between.
        attempt: which try it was, from 1.
        deduplicated: how many of its children were dropped because their key was known.
        result: what it returned, as JSON; absent for None.
        payload: its state, where that changed and will be needed; only with a journal.
    """

    item: int
    worker: int
    duration_s: float
    attempt: int = 1
    deduplicated: int = 0
    result: Raw = NO_DATA
    payload: Raw = NO_DATA


class ItemChildrenProcessed(Event, frozen=True, tag="item.children_processed"):
    """All of an item's descendants succeeded, and its hook, if it has one, returned.

    Left out for an item with neither hook nor children: its completion is its end. The hook of a skipped item doesn't run:
    for one with children this event comes once they have ended, without a worker; for others `item.skipped` is the end.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        result: what the hook returned, as JSON; absent for None or without a hook.
        worker: the worker that ran the hook; 0 without a hook, and in older logs, which don't tell it.
    """

    item: int
    type: str
    result: Raw = NO_DATA
    worker: int = 0


class ItemChildrenFailed(Event, frozen=True, tag="item.children_failed"):
    """An item's subtree ended with a failure among its descendants, and so its hook was not run.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
    """

    item: int
    type: str


class ItemFailed(Event, frozen=True, tag="item.failed"):
    """An item's `process` or hook raised an exception, and the item won't be retried; or a person cancelled it.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        worker: the worker that ran it; 0 if none did, since it was cancelled while it waited.
        duration_s: how long this attempt took by the monotonic clock, seconds. The difference of two `at` may be larger, if the wall
            clock was set forward in between.
        error: what it raised.
        phase: which method raised, or waited.
        attempt: which try of that phase it was, or would have been, from 1.
        deduplicated: how many of its children were dropped because their key was known.
        group: the group in which it waited, if its `process` was cancelled while it waited; else None.
    """

    item: int
    type: str
    worker: int
    duration_s: float
    error: ErrorInfo
    phase: Phase = "process"
    attempt: int = 1
    deduplicated: int = 0
    group: str | None = None


class ItemRetryScheduled(Event, frozen=True, tag="item.retry_scheduled"):
    """An attempt raised an exception, and the item will be retried.

    Attributes:
        item: its number.
        worker: the worker that ran it.
        error: what it raised.
        due: when it may start again, Unix time in seconds.
        phase: which method raised.
        attempt: which try of that phase it was, from 1.
    """

    item: int
    worker: int
    error: ErrorInfo
    due: float
    phase: Phase = "process"
    attempt: int = 1


class ItemRescheduled(Event, frozen=True, tag="item.rescheduled"):
    """A person changed when an item that waits for a retry may start again. Pauses and limits hold all the same.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        due: when it may start again, Unix time in seconds; never before this event.
    """

    item: int
    type: str
    due: float


class ItemInterrupted(Event, frozen=True, tag="item.interrupted"):
    """An attempt was cut short: cancelled, or found unfinished after a crash.

    Attributes:
        item: its number.
        phase: which method was running.
        attempt: which try of that phase it was, from 1.
        reason: ``cancelled``; ``crash``; ``worker_lost``: the worker process in which it ran is gone, and the item is
            queued again; or ``skipped``: a person skips the item, and `item.skipped` follows.
        worker: the worker that ran it; 0 in older logs, which don't tell it.
    """

    item: int
    phase: Phase = "process"
    attempt: int = 1
    reason: Literal["cancelled", "crash", "worker_lost", "skipped"] = "cancelled"
    worker: int = 0


class ItemCancelled(Event, frozen=True, tag="item.cancelled"):
    """A person cancelled a running item; `item.failed` follows once its attempt has ended.

    An attempt that returns all the same wins. If it is interrupted instead, by a crash or with its worker process, the item is
    not run again, and `item.failed` comes at the next resume. An item that waited has no such event: it fails at once.

    Attributes:
        item: its number.
    """

    item: int


class ItemSkipped(Event, frozen=True, tag="item.skipped"):
    """A person skipped an item that was outstanding or had failed: it counts as successful, and neither it nor its hook runs.

    Its children go on. If it never had any, this is the end of its subtree, even if its class has a hook. Otherwise its
    subtree ends, once all below it has ended, with `item.children_processed` or `item.children_failed`, as that of an item
    without a hook does. If all has ended already, that follows at once; but first come `item.reopened` of the ancestors that
    were closed over its failure.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        phase: which of its methods was to run, or had failed.
        had_failed: whether that had failed for good.
        group: the group in which it waited, if its `process` was queued; else None.
        result: what its parent's hook gets as its result, as JSON; absent for none.
    """

    item: int
    type: str
    phase: Phase = "process"
    had_failed: bool = False
    group: str | None = None
    result: Raw = NO_DATA


class EndedItem(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What `item.reopened` says of an item whose subtree had ended well, since a fold of the live items has forgotten it.

    Attributes:
        parent: the number of the item that enqueued it; 0 for an initial item.
        enqueued_seq: the number of its `item.enqueued`, which has its payload.
        state_seq: the number of the event that has its latest state, if that has changed since; else 0.
        track_overall, hook, key, occurrence: those of its `item.enqueued`; the key may have been added by `item.adopted`.
        has_children: whether it ever enqueued any.
        attempt: how often its `process` was started.
        hook_attempt: how often its hook was started.
    """

    parent: int
    enqueued_seq: int
    state_seq: int = 0
    track_overall: bool = False
    hook: bool = False
    key: str | None = None
    occurrence: int = 0
    has_children: bool = False
    attempt: int = 1
    hook_attempt: int = 0


class ItemReopened(Event, frozen=True, tag="item.reopened"):
    """An item is outstanding again, or its hook is: it had failed or ended, or something below it runs again.

    At a resume or by a person's command. After a failed item, its ancestors that were closed over it are reopened, and those
    whose hook was to run, before anything else happens. Of an item whose subtree had ended well, such ancestors come first,
    the topmost before the others, since nothing happens in a closed subtree until it is reopened. Results hold until the next
    round has ended.

    Attributes:
        item: its number.
        type: its class, as ``module:qualname``.
        failed: which of its methods had failed and will run again; None for an ancestor, and if none had failed.
        group: the group in which it waits, if its `process` will run again; None if it has none.
        rerun: whether its `process` will run again although it had completed, or the item was skipped. Otherwise, what had
            completed stays so, and the hook alone runs again.
        skipped: whether the item had been skipped. With `rerun` it no longer is; otherwise it stays so, and its hook doesn't
            run.
        ended: facts about the item, if its subtree had ended well; else None.
        result: what the `process` of an ancestor whose subtree had ended well had returned, or what it was skipped with, as
            JSON; absent for None.
    """

    item: int
    type: str
    failed: Phase | None = None
    group: str | None = None
    rerun: bool = False
    skipped: bool = False
    ended: EndedItem | None = None
    result: Raw = NO_DATA


class GroupSlowedDown(Event, frozen=True, tag="group.slowed_down"):
    """An item asked for a pause of its group, or of another one (`aqueue.slow_down`).

    Attributes:
        group: the group's name.
        due: when items of it may start again, Unix time in seconds.
        item: the number of the item that asked.
    """

    group: str
    due: float
    item: int


class GroupLimitKnown(Event, frozen=True, tag="group.limit_known"):
    """A group that has a limit keeps an item from starting, for the first time in this process: it is at its limit, or paused.

    It may come again for the same group if 10,000 others came in between, or if the limit was changed.

    Attributes:
        group: the group's name.
        concurrent: how many of its items may run at once; None for any number.
        per_second: how many of its items may start in any one second; None for any number.
    """

    group: str
    concurrent: int | None = None
    per_second: float | None = None


class GroupPaused(Event, frozen=True, tag="group.paused"):
    """A person paused a group: no `process` of its items starts until `group.unpaused`, also after a resume. Hooks do.

    Attributes:
        group: the group's name.
        by: who did, as ``user@host via command``.
    """

    group: str
    by: str


class GroupUnpaused(Event, frozen=True, tag="group.unpaused"):
    """A person let the items of a paused group start again.

    Attributes:
        group: the group's name.
        by: who did, as ``user@host via command``.
    """

    group: str
    by: str


class GroupLimit(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The limit of a group in the program; both None for none.

    Attributes:
        concurrent: how many of its items may run at once; None for any number.
        per_second: how many of its items may start in any one second; None for any number.
    """

    concurrent: int | None = None
    per_second: float | None = None


class GroupLimitChanged(Event, frozen=True, tag="group.limit_changed"):
    """A person changed the limit of a group. It holds from the next start, and running items of the group are counted.

    It also holds after a resume, unless the program's own limit is no longer that of `program`: then another such event with
    `is_default` follows, by ``user@host via program``. If `program` was not known, the resume repeats the event with it.

    Attributes:
        group: the group's name.
        by: who did, as ``user@host via command``.
        concurrent: how many of its items may run at once; None for any number.
        per_second: how many of its items may start in any one second; None for any number.
        is_default: whether the program's own limit holds again; `concurrent` and `per_second` say nothing then.
        program: the program's own limit at that time; None if it was not known, since no process of the run was there.
    """

    group: str
    by: str
    concurrent: int | None = None
    per_second: float | None = None
    is_default: bool = False
    program: GroupLimit | None = None


class LoopBlocked(Event, frozen=True, tag="loop.blocked"):
    """One call blocked the event loop for a good half second or longer; nothing else could run in that time.

    A call of less than a second may be missed.

    Attributes:
        method: the method that the engine called, such as ``Page.process``.
        where: the line of the user's code, as ``file.py:40 in parse``.
        duration_s: how long the call blocked the loop, as far as it was seen, seconds.
    """

    method: str
    where: str
    duration_s: float


class RunHeldUp(Event, frozen=True, tag="run.held_up"):
    """The run waited, since events were produced faster than they could be written; at most once per second.

    Workers wait between items, `enqueue` blocks if far too many events wait, and so do initial items.

    Attributes:
        by: ``journal``, or the class of the reporter that is behind, as ``module:qualname``.
        duration_s: how long it has waited since the last such event, seconds.
    """

    by: str
    duration_s: float


class RunStopping(Event, frozen=True, tag="run.stopping"):
    """No more items are taken.

    Attributes:
        reason: why, as text for people.
        cancelling: True when the running items are cancelled, False when they are waited for.
        by: who stopped it by a command, as ``user@host via command``; else empty.
    """

    reason: str
    cancelling: bool = False
    by: str = ""


class RunPaused(Event, frozen=True, tag="run.paused"):
    """A person paused the run: no item or hook starts until `run.unpaused`, also after a resume. Running ones finish.

    Attributes:
        by: who did, as ``user@host via command``.
    """

    by: str


class RunUnpaused(Event, frozen=True, tag="run.unpaused"):
    """A person let items and hooks of a paused run start again.

    Attributes:
        by: who did, as ``user@host via command``.
    """

    by: str


class RunWorkersChanged(Event, frozen=True, tag="run.workers_changed"):
    """A person changed the number of workers; those with the highest numbers retire after their item.

    It also holds after a resume, as long as the program passes the number `program`; not on a cluster. If both numbers are the
    same, the program's own holds again.

    Attributes:
        num_workers: how many workers run items from now on, at least 1.
        program: how many the program passed.
        by: who did, as ``user@host via command``.
    """

    num_workers: int
    program: int
    by: str


class RunSteered(Event, frozen=True, tag="run.steered"):
    """A person's command on items is carried out: the events of the items follow.

    Attributes:
        verb: the command, such as ``retry``, ``skip`` or ``cancel``.
        selector: which items it is for, as the person wrote it.
        count: how many items it applies to.
        by: who did, as ``user@host via command``.
    """

    verb: str
    selector: str
    count: int
    by: str


class RunEdited(Event, frozen=True, tag="run.edited"):
    """A command appends to the journal of a run that no process runs; the events that follow are its doing.

    It is no process of the run, neither resumed nor crashed. If the last process had crashed, its time ended with the event
    before this one, and `item.interrupted` follows for what was running.

    Attributes:
        schema_version: of the events that follow.
        aqueue_version: which aqueue wrote them.
        by: who did, as ``user@host via command``.
    """

    schema_version: int
    aqueue_version: str
    by: str


class ProcessJoined(Event, frozen=True, tag="process.joined"):
    """A worker process of the cluster can run items from now on.

    Attributes:
        first_worker: the number of its first worker; the others follow. Numbers of a process that has left are used again.
        num_workers: how many workers it has.
        host: its machine's name.
        pid: the process there.
    """

    first_worker: int
    num_workers: int
    host: str
    pid: int


class ProcessLeft(Event, frozen=True, tag="process.left"):
    """A worker process of the cluster runs no more items; left out at the normal end of a run.

    Hooks run in the run's own process: a hook that one of its workers began may still be running, and its events may
    still follow. So may those of the items that were interrupted when it left.

    Attributes:
        first_worker: the number of its first worker, as when it joined.
        reason: ``left``: it left the cluster, or the connection to it was given up, in good order; ``lost``: it died.
        ignored: how many of its reports came too late or twice, and were ignored.
    """

    first_worker: int
    reason: Literal["left", "lost"] = "left"
    ignored: int = 0


class ReporterFailed(Event, frozen=True, tag="reporter.failed"):
    """A reporter raised, or was stuck for 60 s in a run with a journal, and gets no more events.

    Attributes:
        reporter: its class, as ``module:qualname``.
        error: what it raised; a `ReporterError` of one that was stuck.
    """

    reporter: str
    error: ErrorInfo


class RunFinished(Event, frozen=True, tag="run.finished"):
    """The last event of a process that ended by itself.

    Attributes:
        status: ``completed``, ``failed`` or ``interrupted``.
        counts: the counts of items, over all processes of the run.
    """

    status: RunStatus
    counts: Counts


AnyEvent = (
    RunStarted
    | RunResumed
    | ItemEnqueued
    | ItemAdopted
    | ItemStarted
    | ItemDescribed
    | ItemCompleted
    | ItemChildrenProcessed
    | ItemChildrenFailed
    | ItemFailed
    | ItemRetryScheduled
    | ItemRescheduled
    | ItemInterrupted
    | ItemCancelled
    | ItemSkipped
    | ItemReopened
    | ItemRegrouped
    | GroupSlowedDown
    | GroupLimitKnown
    | GroupPaused
    | GroupUnpaused
    | GroupLimitChanged
    | ProcessJoined
    | ProcessLeft
    | RunPaused
    | RunUnpaused
    | RunWorkersChanged
    | RunSteered
    | RunEdited
    | RunStopping
    | ReporterFailed
    | LoopBlocked
    | RunHeldUp
    | RunFinished
)

EVENT_TYPES: Final[dict[str, type[Event]]] = {str(cls.__struct_config__.tag): cls for cls in get_args(AnyEvent)}
"""Every event type by its name."""


class _Header(msgspec.Struct):
    event: str


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_header_decoder = msgspec.json.Decoder(_Header)


def encode(event: Event) -> bytes:
    """Return `event` as one JSON object without a newline; fields that have their default are left out."""
    return _encoder.encode(event)


def encode_lines(events: list[Event]) -> bytes:
    """Return `events` as JSON Lines, one object and a newline for each."""
    return _encoder.encode_lines(events)


def decode(data: bytes | str) -> Event | None:
    """Return the event that `data` holds as one JSON object, or None if its type is not known here.

    Fields that are not known are skipped.

    Raises:
        msgspec.ValidationError: a field is missing or of the wrong type.
        msgspec.DecodeError: `data` is not JSON (a torn line, for example).
    """
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        if _header_decoder.decode(data).event in EVENT_TYPES:
            raise
        return None
