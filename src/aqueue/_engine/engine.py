"""The engine: workers that take items, run them and their hooks, and stop when asked to."""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import IntEnum
from functools import partial
from itertools import chain
from threading import get_ident
from time import monotonic
from typing import Any, Final, Literal

import anyio
import msgspec
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from aqueue._codec.digests import KEPT_STATE_BYTES, KeySet, state_or_digest
from aqueue._codec.results import encode_result
from aqueue._engine.adoption import RecordedChild, RecordedChildren
from aqueue._engine.attempt import NO_ENGINE, NO_SHARED, ROOM_CHECK_EVENTS, Attempt, Tries
from aqueue._engine.context import running_attempt
from aqueue._engine.exceptions import (
    as_failure,
    cancelled_between_items,
    hide_frames_of,
    is_cancelled_group,
    left_behind,
    without_own_frames,
)
from aqueue._engine.failures import Failures
from aqueue._engine.groups import GroupedQueue, Limits, describe_unused
from aqueue._engine.item_class import NO_POLICIES, ItemClass, Policies, key_of, look_up_class
from aqueue._engine.misspelt import warn_of_misspelt
from aqueue._engine.payloads import Payloads
from aqueue._engine.places import AttemptLost, Execution, Place
from aqueue._engine.queues import FifoQueue, LifoQueue, PlainQueue
from aqueue._engine.retries import Retries
from aqueue._engine.timeouts import Timeouts
from aqueue._engine.tree import Node, Tree
from aqueue._stream.error_info import error_info
from aqueue._stream.event_stream import SOFT_LIMIT_EVENTS, EventStream
from aqueue._system.loop import CallSoon, TaskWatch, clock_of_this_loop
from aqueue._system.notice import warn
from aqueue._system.timers import Timers
from aqueue._system.watchdog import Watchdog
from aqueue.errors import ItemsNotComparable, MisplacedCall, PoisonItem
from aqueue.events import (
    NO_DATA,
    Counts,
    GroupSlowedDown,
    ItemAdopted,
    ItemCompleted,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemStarted,
    Phase,
    RunStatus,
    RunStopping,
)
from aqueue.retry import RetryAfter
from aqueue.text import visible_repr

__all__ = ["NO_SHARED", "SLICE_S", "Engine", "OnError", "StopLimits"]

OnError = Literal["stop", "continue"]
"""What the first item that fails for good does: ``stop`` the run gracefully, or let everything else ``continue``."""

hide_frames_of(__file__)
hide_frames_of(GroupedQueue.check.__code__.co_filename)

SLICE_S: Final = 0.005
"""How long items that never await may keep the event loop to themselves, seconds (and one item a worker more)."""


_MANY_ITEMS: Final = 1_000
"""After so many items that `limits` applies to none of, it is warned of that, though such items may still come."""


class Stage(IntEnum):
    """How far the run has got in stopping."""

    RUNNING = 0
    STOPPING = 1
    CANCELLING = 2
    ENDED = 3


class StopLimits(msgspec.Struct, frozen=True):
    """What stops a run gracefully in one process, and how long that may take.

    Attributes:
        stop_after_s: after how long, seconds; None for never.
        max_items: after how many items have been taken; None for any number.
        max_failures: after how many have failed for good; None for any number.
        grace_s: how long the running items are waited for before they are cancelled, seconds; None for ever.
    """

    stop_after_s: float | None = None
    max_items: int | None = None
    max_failures: int | None = None
    grace_s: float | None = None


class TaskSpoiled(Exception):
    """The code of an item has left something behind in its worker's task, which is not to run another item."""


class Engine:
    """Runs items until none is left, or until it is stopped.

    Attributes:
        stream: where every event goes.
        append, next_seq, clock: the stream's own, one step nearer: they are used for every event.
        tree: who waits for whom.
        classes: what is known about each item class.
        thread: the identifier of the loop's thread.
        call_soon: has a function called in the loop.
        shared: what `lifespan` yielded.
        stage: how far stopping has got.
        is_asking: whether the source of the initial items is being asked for the next one.
        scope: what a stop that cancels has to cancel; None if nothing runs.
        stop_reason: why it was stopped; empty if it was not.
        error: what ended the run besides items that failed: an item's `SystemExit`, a comparison that raised.
        failures: what failed for good.
        last_id: the number of the item that was enqueued last.
        roots: the numbers of this process's initial items, recorded or new, in their order; 0 for one that was dropped.
        deduplicated_roots: how many initial items were dropped because their key was known.
        recorded_roots: the initial items of earlier processes, until this one's have been added.
        takes_last_first: whether the queue is a stack.
        policies: what holds for the attempts at all classes that don't say otherwise.
        retries: the items that are tried again, and their wait.
    """

    def __init__(
        self,
        stream: EventStream,
        queue: PlainQueue,
        call_soon: CallSoon,
        num_workers: int,
        on_error: OnError,
        failures: Failures,
        payloads: Payloads | None = None,
        policies: Policies = NO_POLICIES,
        limits: Limits | None = None,
        stop_limits: StopLimits | None = None,
        execution: Execution | None = None,
    ) -> None:
        self.stream = stream
        self.append = stream.append
        self.next_seq = stream.next_seq
        self.clock = stream.clock
        self.tree = Tree(stream, keeps_items=payloads is not None or execution is not None)
        self.classes: dict[type, ItemClass] = {}
        self._known: dict[tuple[object, ...], ItemClass] = {}
        self.thread = get_ident()
        self.call_soon = call_soon
        self.shared: Any = NO_SHARED
        self.stage = Stage.RUNNING
        self.is_asking = False
        self.scope: anyio.CancelScope | None = None
        self.stop_reason = ""
        self.error: BaseException | None = None
        self.failures = failures
        self.last_id = 0
        self.roots: list[int] = []
        self.recorded_roots: RecordedChildren | None = None
        self.takes_last_first = isinstance(queue, LifoQueue)
        self.keys = KeySet()
        self._payloads = payloads
        self.deduplicated_roots = 0
        self._alone: list[tuple[Node, str]] = []
        self._due: deque[Node] = deque()
        self._is_cautious = False
        self._is_disordered = False
        self.policies = policies
        self._limits = limits
        self._has_warned_of_limits = False
        self._ended_before = 0
        self._stop_limits = stop_limits or StopLimits()
        self._loop_time = clock_of_this_loop()
        self._timers = Timers(self._loop_time)
        self._timeouts = Timeouts(self._loop_time)
        self.retries = Retries(stream, self._timers, self._loop_time, self._end_rest)
        self._taken = 0
        self._queued_again = 0
        self._working = 0
        self._watches: dict[int, TaskWatch] = {}  # by worker, as the next
        self._ran_last: dict[int, Node] = {}
        self._groups: GroupedQueue | None = None
        self._queue: PlainQueue | GroupedQueue = queue
        self._use_queue(queue)
        self._execution = execution
        self._places: dict[int, Place] = {}  # by worker, where items run elsewhere
        self._tasks: TaskGroup | None = None
        self._num_workers = num_workers if execution is None else 0  # as many as there are now
        self._on_error = on_error
        self._idle: deque[anyio.Event] = deque()
        self._left: list[Node] = []
        self._is_done = False
        self._slice_end = -1.0  # over before it began; 0.0 while the one who leads is away
        self._latest: Attempt | None = None
        self._cancelled_class: type[BaseException] = anyio.get_cancelled_exc_class()
        self._has_all_initial = False
        self._early_stops: list[tuple[str, bool]] | None = None

    def _use_queue(self, queue: PlainQueue | GroupedQueue) -> None:
        self._queue = queue
        self._put = queue.put
        self._take: Callable[[], Node] = queue.take if self._stop_limits.max_items is None else self._take_counted

    def _use_groups(self) -> GroupedQueue:
        """From the first class on whose items have a group, let the queue go by groups; return it."""
        if self._groups is None:
            assert not isinstance(self._queue, GroupedQueue)
            self._groups = GroupedQueue(self._queue, self._limits, self._loop_time, self._timers, self._wake_one)
            self._use_queue(self._groups)
        return self._groups

    def _take_counted(self) -> Node:
        """Take the next node, unless as many items have been taken as may be; then stop if there are more.

        One that is tried again was counted before.
        """
        most = self._stop_limits.max_items
        if self._taken == most and len(self._queue) > self._queued_again:
            self.stop(f"max_items={most} was reached")
            raise IndexError
        node = self._queue.take()
        if self.retries.is_counted(node):
            self._queued_again -= 1
        else:
            self._taken += 1
        return node

    # ---- adding items -------------------------------------------------------------------------------------------

    def add(self, item: Any, parent: Node | None, attempt: Attempt) -> None:
        """Announce `item` as a child of `parent`, or as an initial item, and queue it."""
        cls = self.classes.get(type(item))
        if cls is None:
            cls = self._look_up(item)
        if cls.keyed or self._payloads is not None:
            self._add_identified(item, parent, attempt, cls)
            return
        number = self.last_id + 1
        node = Node(number, item, parent, cls)
        self._put(node)  # may refuse an item that can't be compared: then nothing has been announced
        self.last_id = number
        cls.enqueued += 1
        if parent is None:
            self.roots.append(number)
            self.tree.open_roots += 1
            parent_id = 0
        else:
            parent.pending += 1
            parent.has_children = True
            parent_id = parent.id
        seq = self.next_seq()
        now = monotonic() + self.clock.offset
        self.append(ItemEnqueued(seq, now, number, parent_id, cls.type, cls.track_overall, None, cls.hook))
        if self._idle:
            self._wake_one()
        if seq % ROOM_CHECK_EVENTS == 0:
            self.stream.make_room()

    def _add_identified(self, item: Any, parent: Node | None, attempt: Attempt, cls: ItemClass) -> None:
        """Do what `add` does for an item that can be known again: by its key, or with a journal by its payload."""
        key = key_of(item, cls.type) if cls.keyed else None
        state, kept, occurrence, identity = b"", b"", 0, b""
        payloads = self._payloads
        if payloads is not None:
            state = payloads.state(item, parent)
            recorded = self.recorded_roots if parent is None else parent.recorded
            if recorded is not None:
                payloads.refuse_too_long(state, cls.type)  # before the child is taken out for it
                child = recorded.match(cls.type, key, state)
                if child is not None:
                    if parent is None:
                        self.roots.append(child.id)
                    self._adopt(recorded, child, item, state, key, cls)
                    return
            kept = state if len(state) <= KEPT_STATE_BYTES else payloads.keep_long(state, cls.type)
            if key is None:
                if attempt.occurrences is None:
                    attempt.occurrences = {}
                occurrence = payloads.occurrence(cls.type, kept, attempt.occurrences)
                if recorded is not None:
                    occurrence += recorded.total(cls.type, state)
                if kept is not state:
                    identity = payloads.identity_of_long(parent, cls.type, state, occurrence)
            else:
                identity = payloads.identity_of_keyed(cls.type, key)
        if key is not None and self.keys.knows(cls.names, key):
            attempt.deduplicated += 1
            return
        number = self.last_id + 1
        node = Node(number, item, parent, cls, kept, occurrence, identity)
        self._put(node)  # may refuse an item that can't be compared: then nothing has been announced
        if key is not None:
            self.keys.add(cls.type, key)
        self.last_id = number
        cls.enqueued += 1
        if parent is None:
            self.roots.append(number)
            self.tree.open_roots += 1
        else:
            parent.pending += 1
            parent.has_children = True
        seq = self.next_seq()
        self.append(
            ItemEnqueued(
                seq,
                monotonic() + self.clock.offset,
                number,
                0 if parent is None else parent.id,
                cls.type,
                cls.track_overall,
                key,
                cls.hook,
                occurrence,
                NO_DATA if payloads is None else msgspec.Raw(state),
            )
        )
        if self._idle:
            self._wake_one()
        if seq % ROOM_CHECK_EVENTS == 0:
            self.stream.make_room()

    def add_repeatable(self, item: Any, parent: Node, attempt: Attempt) -> None:
        """Do what `add` does for a child of an item that may be tried again.

        A child that an earlier attempt enqueued is not announced again: it goes on as it is. The same child is one with
        the same type and key; without a key, with the same type and payload, the first of several such with the first.

        Raises:
            ChildrenNotComparable: it can't be known whether it is such a child.
        """
        cls = self.classes.get(type(item))
        if cls is None:
            cls = self._look_up(item)
        tries = attempt.tries
        if tries is None:
            tries = attempt.tries = Tries()
        payloads = self._payloads
        key = key_of(item, cls.type) if cls.keyed else None
        state = b"" if payloads is None or key is not None else payloads.state(item, parent)
        child, likes = self.retries.child_digests(item, parent, cls, key, state, tries)
        if tries.unmatched:
            left = tries.unmatched.get(child, 0)
            if left:
                tries.unmatched[child] = left - 1
                if likes:
                    tries.unmatched[likes] -= 1
                recorded = parent.recorded
                # An equal one after it is the second, as it would have been. Those adopted are counted by `recorded`.
                if (
                    payloads is not None
                    and key is None
                    and (recorded is None or left > recorded.total(cls.type, state))
                ):
                    if attempt.occurrences is None:
                        attempt.occurrences = {}
                    payloads.occurrence(cls.type, state_or_digest(state), attempt.occurrences)
                return
        dropped = attempt.deduplicated
        self.add(item, parent, attempt)
        if attempt.deduplicated == dropped:
            tries.children += child
            tries.children += likes

    def _adopt(
        self, recorded: RecordedChildren, child: RecordedChild, item: Any, state: bytes, key: str | None, cls: ItemClass
    ) -> None:
        """Let `item` take the place of `child`, one of those `recorded`, if that is still to run."""
        node, child.node = child.node, None  # else it would live as long as those that it is compared with
        new_key = key if key is not None and child.key is None and not self.keys.knows(cls.names, key) else None
        if new_key is not None:
            self.keys.add(cls.type, new_key)
        if node is None or not node.is_held:
            if new_key is not None:
                self.stream.emit(ItemAdopted, child.id, cls.type, key=new_key)
            return
        assert self._payloads is not None
        is_changed = new_key is not None or recorded.has_changed(child, cls.type, state)
        kept = self._payloads.keep_long(state, node.cls.type) if is_changed else state_or_digest(state)  # may refuse it
        node.item = item
        if node.parent is None:  # it is queued already, in its old place
            self._is_disordered = self._is_disordered or node.state != kept
        else:
            self.queue_again(node)
            self._after_put()
        if is_changed:
            self.stream.emit(ItemAdopted, node.id, node.cls.type, msgspec.Raw(state), new_key)
        node.state = kept
        node.is_held = False
        self._restore_holders(node)

    def _restore_holders(self, node: Node) -> None:
        """Have the recorded items that hold the item of `node` hold the object that runs, which is known since now.

        Those below an initial item are queued, like it. The others have waited: they must not run with another object.
        """
        if node.recorded is None or self._payloads is None:
            return
        holders, node.recorded.holders = node.recorded.holders, []
        for holder, state in holders:
            self._payloads.restore(holder, state)
            if node.parent is None:
                continue
            if holder.is_ended or holder.failed:
                holder.pending -= 1
                if not holder.pending:
                    self.end_again(holder)
                    self._wake_one()
            else:
                self.queue_again(holder)
                self._after_put()

    def identity(self, node: Node) -> bytes:
        """Return what makes the item of `node` the same in every rerun; empty without a journal. From any thread."""
        return b"" if self._payloads is None else self._payloads.identity(node)

    def _after_put(self) -> None:
        self._wake_one()
        if self.last_id % ROOM_CHECK_EVENTS == 0:
            self.stream.make_room()

    async def add_initial(self, items: Iterable[Any]) -> None:
        """Add the initial items, all of them; a stop ends that early."""
        slice_end = monotonic() + SLICE_S
        roots = Attempt(self, None, 0, "process", self.deduplicated_roots)
        self.is_asking = True
        try:
            iterator = iter(items)
        finally:
            self.is_asking = False
        while self.stage is Stage.RUNNING:
            self.is_asking = True
            try:
                item = next(iterator)
            except StopIteration:
                self._end_initial()
                return
            finally:
                self.is_asking = False
            if self._execution is not None:
                if type(item) not in self.classes:
                    self._look_up(item)
                self._execution.check(item)
            self.add(item, None, roots)
            if roots.deduplicated > self.deduplicated_roots:
                self.deduplicated_roots = roots.deduplicated
                self.roots.append(0)
            if monotonic() > slice_end:
                await checkpoint()
                await self.stream.wait_for_room()
                slice_end = monotonic() + SLICE_S

    def _end_initial(self) -> None:
        self._has_all_initial = True
        self._run_unrepeated(self.recorded_roots, "")
        self.recorded_roots = None
        if self._is_disordered:
            # An item that is the same by its key, but not the same otherwise, may belong in another place.
            self._queue.reorder()

    def _run_unrepeated(self, recorded: RecordedChildren | None, parent: str) -> None:
        """Queue the recorded children that `parent` did not enqueue again.

        The initial items have none, are queued already, and named in the line that says what a resume does.
        """
        left = sorted(
            ((child.node, child.state) for child in recorded or () if child.node is not None and child.node.is_held),
            key=lambda one: one[0].id,
        )
        for node, state in left:
            if self._payloads is not None:
                self._payloads.restore(node, state)
            if node.parent is not None:
                self.queue_again(node)
                self._after_put()
            node.is_held = False
            self._restore_holders(node)
        if left and parent:
            first, _ = left[0]
            when = "" if self.stage is Stage.RUNNING else ", when the run goes on"
            warn(
                f"{parent} did not enqueue {len(left):,} of its recorded items again (item {first.id} "
                f"({first.cls.type}) is the first); they run as they were recorded{when}"
            )

    def _look_up(self, item: Any) -> ItemClass:
        cls = self.known_class(look_up_class(item, self.policies))
        warn_of_misspelt(type(item))
        # A process on the instance alone says nothing about the next object of that class.
        if hasattr(type(item), "process"):
            self.classes[type(item)] = cls
        return cls

    def known_class(self, found: ItemClass) -> ItemClass:
        """Return the class that looks like `found`, which may be `found` itself: to every reader they are one."""
        looks = (
            found.names,
            found.track_overall,
            found.hook,
            found.all_done,
            found.keyed,
            found.grouped,
            found.policies,
        )
        if found.grouped:
            self._use_groups()
        if self._execution is not None:
            found.is_plain = False  # an attempt is more than a call
        return self._known.setdefault(looks, found)

    # ---- going on with a recorded run ---------------------------------------------------------------------------

    def class_named(self, type: str, track_overall: bool) -> ItemClass:
        """Return what is known about the class called `type`, for counting only."""
        for cls in self._known.values():
            if cls.type == type:
                return cls
        return self.known_class(ItemClass(type, track_overall=track_overall, hook=False, all_done=False))

    def queue_again(self, node: Node) -> None:
        """Queue a recorded node, once it is due."""
        if not self.retries.wait_if_not_due(node, "process"):
            self._put_announced(node, again=False)

    def end_again(self, node: Node) -> None:
        """Go on from a recorded node whose `process` and children have ended, once its hook is due."""
        if not self.retries.wait_if_not_due(node, "after_children"):
            self._queue_due(self.tree.ascend(node, self.stream.now()))

    def restore_slow_down(self, group: str, seconds: float) -> None:
        """Start nothing of `group` for so long, as a recorded process has asked."""
        try:
            self._use_groups().slow_down(group, seconds)
        except Exception as error:  # a function that tells the limits is the user's code
            warn(f"the pause of the group {visible_repr(group)} ends now: limits raised {visible_repr(error)}")

    def run_alone_first(self, node: Node, poison: str) -> None:
        """Have `node` run while nothing else does, before all others, its start committed; or fail it, if it is `poison`.

        `poison` says, for a message, why it is given up; empty if it isn't.
        """
        self._alone.append((node, poison))

    def be_cautious(self) -> None:
        """Commit each start to the journal before the item's code is called."""
        self._is_cautious = True

    # ---- stopping -----------------------------------------------------------------------------------------------

    def stop(self, reason: str, *, cancel: bool = False) -> None:
        """Take no more items; with `cancel`, cancel the running ones as well. Later calls can only go further."""
        stage = Stage.CANCELLING if cancel else Stage.STOPPING
        if stage <= self.stage:
            return
        self.stage = stage
        self.stop_reason = self.stop_reason or reason
        stream = self.stream
        if self._early_stops is None:
            stream.emit(RunStopping, reason, cancel)
        else:
            self._early_stops.append((reason, cancel))
        grace_s = self._stop_limits.grace_s
        if grace_s is not None and not cancel:
            self._timers.after(grace_s, partial(self.stop, f"grace_s={grace_s:g} has passed", cancel=True))
        stream.may_pause = False
        if cancel:
            stream.may_block = False
            if self.scope is not None:
                self.scope.cancel()
        self._wake_all()
        stream.wake_waiting()
        self._end_execution()

    def hold_stops(self) -> None:
        """Tell of no stop before `tell_stops`: the run's start is not announced yet, and is its first event."""
        self._early_stops = []

    def tell_stops(self) -> None:
        """Tell of the stops that came before the run's start was announced, and from now on of each at once."""
        for reason, cancel in self._early_stops or ():
            self.stream.emit(RunStopping, reason, cancel)
        self._early_stops = None

    def _end_execution(self) -> None:
        """Let go of where items run, once no worker is left and none is to come."""
        if self._execution is not None and not self._working and (self._is_done or self.stage is not Stage.RUNNING):
            self._execution.end()

    def _wake_one(self) -> None:
        """Wake an idle worker if there is one, and something for it."""
        if self._idle and (self._groups is None or self._groups.is_ready or self._due):
            self._idle.pop().set()

    def _wake_all(self) -> None:
        while self._idle:
            self._idle.pop().set()

    # ---- running ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run all items; returns when nothing is left, or when the run has been stopped and the running ones ended."""
        outer = self.scope
        items = frozenset(one.__code__ for one in (Engine._run_queued, Engine._run_hook))
        watchdog = Watchdog(self.call_soon, items, EventStream.make_room.__code__, self._look_round)
        watchdog.start()
        self._ended_before = self._count_ended()
        try:
            async with anyio.create_task_group() as workers:
                self.scope = workers.cancel_scope
                if self.stage is Stage.CANCELLING:
                    return
                self._tasks = workers
                self._start_timers(workers)
                await self._run_alone()
                if self._execution is None:
                    self._working = self._num_workers
                    for worker in range(1, self._num_workers + 1):
                        self._start_worker(worker)
                else:
                    self._look_if_done(0)
                    self._end_execution()
                    if self.stage is Stage.RUNNING and not self._is_done:
                        await self._execution.serve(self)
                    self._timers.close()
            self._warn_of_unused_limits(is_over=self.stage is Stage.RUNNING)
            if self.stage is Stage.CANCELLING:
                # Workers end quietly when they are cancelled, and then trio's nursery doesn't say that it was, too.
                await checkpoint_if_cancelled()
        finally:
            watchdog.stop()
            self.scope = outer
            self._timers.close()  # a worker that was cancelled before it began has not done that

    def _look_round(self) -> None:
        """Look, now and then, for what the user should know."""
        self._timeouts.check()
        self._warn_of_unused_limits(is_over=False)

    def _warn_of_unused_limits(self, *, is_over: bool) -> None:
        """Warn, once, of limits that fail open: what they name is no item's group, so nothing slows the items down.

        Whether a name is wrong is sure only once all items have run in this process. Before that, and where some had ended
        in an earlier process, whose groups nobody knows, or failed and so enqueued nothing, many have to have run.
        """
        if self._limits is None or self._has_warned_of_limits:
            return
        ended = self._count_ended() - self._ended_before
        if is_over and not self._ended_before and not self.failures.count:
            unused = describe_unused(self._limits, self._groups)
        elif ended >= _MANY_ITEMS:
            unused = describe_unused(self._limits, self._groups, ended)
        else:
            return
        if unused:
            self._has_warned_of_limits = True
            warn(unused)

    def _count_ended(self) -> int:
        return sum(cls.completed + cls.failed for cls in self._known.values())

    def _start_timers(self, tasks: TaskGroup) -> None:
        self._timers.open(tasks)
        stop_after_s = self._stop_limits.stop_after_s
        if stop_after_s is not None:
            self._timers.after(stop_after_s, partial(self.stop, f"stop_after_s={stop_after_s:g} has passed"))

    def unlink_all(self) -> None:
        """Cut the links between the nodes that are left, once nothing will run any more."""
        self.tree.unlink(
            chain(self._left, self.retries.retrying.values(), self._due, (node for node, _ in self._alone), self._queue)
        )

    async def _run_alone(self) -> None:
        """Run the items that may have crashed the process, one by one, with nothing beside them.

        Each start is committed, so that the next crash tells which it was. After several crashes in a row that goes on to
        the process's end: an item that ends the process at once may be another, whose start no crash has left on record.
        """
        goes_on = self._is_cautious
        self._is_cautious = True
        worker = 1
        most = self._stop_limits.max_items
        while self._alone and self.stage is Stage.RUNNING:
            node, poison = self._alone[0]
            if not poison and not node.is_ended and self._execution is None:
                if self._taken == most:
                    self.stop(f"max_items={most} was reached")
                    break
                self._taken += 1
            del self._alone[0]
            if poison:
                self._fail_poison(node, worker, poison)
            elif self._execution is not None and not node.is_ended:
                # What it may end is not this process. Wherever it runs, nothing else does.
                self._execution.suspect(node)
                self._put_again(node)
            else:
                # A task of its own ends with the item, and with it what the item's code has left in the task.
                async with anyio.create_task_group() as task:
                    task.start_soon(self._run_one, node, worker)
        self._is_cautious = goes_on

    async def _run_one(self, node: Node, worker: int) -> None:
        self._watches[worker] = TaskWatch()
        try:
            if not node.is_ended:
                await self._run_queued(worker, deque([node]).popleft)
            else:
                await self._run_hooks(self.tree.ascend(node, self.stream.now()), worker)
        except BaseException as error:
            if not await self._is_stray(error, worker):
                raise

    def _fail_poison(self, node: Node, worker: int, why: str) -> None:
        stream = self.stream
        phase: Phase = "after_children" if node.is_ended else "process"
        started = monotonic()
        at = started + self.clock.offset
        stream.append(ItemStarted(stream.next_seq(), at, node.id, node.cls.type, worker, phase, node.tries(phase)))
        error = PoisonItem(f"item {node.id} ({node.cls.type}) {why}")
        if phase == "after_children":
            node.cls.completed -= 1
        self._fail_for(error, node, worker, started, phase)
        if phase == "process":
            self._run_unrepeated(node.recorded, f"item {node.id} ({node.cls.type})")
            self._queue_due(self.tree.end_process(node, stream.now()))
        else:
            self._queue_due(self.tree.end_hook(node, worker, NO_DATA))

    def _queue_due(self, due: Node | None) -> None:
        if due is not None:
            self._due.append(due)

    def _start_worker(self, worker: int) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(self._run_worker, worker, name=f"aqueue worker {worker}")

    async def _run_worker(self, worker: int) -> None:
        """Run items as the worker of this number; if one spoils this task, another goes on in its place."""
        self._watches[worker] = TaskWatch()
        place = self._places.get(worker)
        try:
            await self._run_due(worker)
            await (self._work(worker) if place is None else self._work_at(place, worker))
        except BaseException as error:
            if await self._is_stray(error, worker):
                self._start_worker(worker)
                return
            self._leave(worker)
            raise
        self._leave(worker)

    def _leave(self, worker: int) -> None:
        self._working -= 1
        place = self._places.pop(worker, None)
        if place is not None:
            self._num_workers -= 1
            place.leave(worker)
            self._look_if_done(0)
            self._end_execution()
        elif not self._working:
            self._timers.close()

    async def _is_stray(self, error: BaseException, worker: int) -> bool:
        """Tell whether `error` has ended a worker's task in a run that goes on; if it is a cancellation, warn of that."""
        watch = self._watches[worker]
        await watch.close()
        if not isinstance(error, TaskSpoiled):
            if not isinstance(error, self._cancelled_class) or self._is_cancelled:
                return False
            node = self._ran_last.get(worker)
            warn(cancelled_between_items("no item yet" if node is None else f"item {node.id} ({node.cls.type}) last"))
        await watch.take_cancellation()
        return True

    @property
    def _is_cancelled(self) -> bool:
        """Whether a cancellation of the current task has been asked for, by the run or around it."""
        return self.stage is Stage.CANCELLING or anyio.current_effective_deadline() == float("-inf")

    # ---- where items run elsewhere ------------------------------------------------------------------------------

    def add_workers(self, place: Place) -> None:
        """Let the workers of `place`, which is new, take items."""
        for worker in place.workers:
            self._places[worker] = place
            self._num_workers += 1
            self._working += 1
            self._start_worker(worker)

    def dismiss(self, place: Place) -> None:
        """Let the workers of `place`, which is open no more, end as soon as they are through with what they are at."""
        assert not place.is_open
        self._wake_all()

    def fail_to_execute(self, error: BaseException) -> None:
        """End the run at once: items can't be run any more."""
        self._break(error, "the cluster can't be used", cancel=True)

    async def _work_at(self, place: Place, worker: int) -> None:
        """Run items in `place` until none is left, the run is stopped or the place is closed."""

        def take() -> Node:
            if not place.is_open or place.is_reserved:
                raise IndexError
            return self._take()

        while place.is_open and self.stage is Stage.RUNNING:
            await self._run_queued(worker, take)
            if self.stage is not Stage.RUNNING:
                return
            if not place.is_open or place.is_reserved:
                await self._run_due(worker)
                self._wake_one()  # what this one was woken for, another can take
                await place.until_free()
            elif not await self._wait_for_item(worker):
                return

    def _run_again(self, node: Node, attempt: Attempt) -> None:
        """Record that the attempt at `node`'s item was lost with the process that ran it, and queue the item again."""
        node.cls.interrupted += 1
        self.stream.emit(ItemInterrupted, node.id, "process", node.attempt, "worker_lost", attempt.worker)
        if self.stage is not Stage.RUNNING:
            self._left.append(node)
            return
        self.retries.run_again(node, attempt)
        self._put_again(node)

    def _put_announced(self, node: Node, *, again: bool) -> None:
        """Queue a node. If its `group`, or its limit, raises, that fails its next attempt: no caller is there to get it."""
        try:
            (self._queue.put_again if again else self._put)(node)
        except ItemsNotComparable:
            raise
        except Exception as error:  # a `group`, and a function that tells limits, is the user's code
            if self._groups is None:
                raise
            self._groups.put_refused(node, error, again=again)

    def _put_again(self, node: Node) -> None:
        try:
            self._put_announced(node, again=True)
            self._queued_again += self.retries.is_counted(node)
        except BaseException as error:  # a comparison of items is the user's code, too
            self._left.append(node)
            what = f"item {node.id} ({node.cls.type}) could not be queued again"
            self._break(error, what, cancel=not isinstance(error, Exception))
        self._wake_one()

    async def _run_due(self, worker: int) -> None:
        """Run the hooks that are due and that no worker has come upon: of a resumed run, or to be tried again."""
        while self._due and self.stage is Stage.RUNNING:
            await self._run_hooks(self._due.popleft(), worker)

    async def _work(self, worker: int) -> None:
        """Run items until none is left or the run is stopped."""
        while True:
            queue = self._queue
            if isinstance(queue, FifoQueue) and self._take == queue.take:
                # Calling `take` instead would be one more call per item, and 1 % slower.
                await self._run_queued(worker, queue.take_new, queue.again)
            else:
                await self._run_queued(worker, self._take)
            if self.stage is not Stage.RUNNING:
                return
            # Items may have been moved to another queue meanwhile, for the first of them that has a group.
            if queue is self._queue and not await self._wait_for_item(worker):
                return

    async def _run_queued(self, worker: int, take: Callable[[], Node], again: "deque[Node] | tuple[()]" = ()) -> None:
        """Take items, first those in `again`, and run them, until there is none now or the run is stopped.

        What an ordinary item costs is written out here, over local names and with one reading of the clock for the
        end of an item and the start of the next; what is rare has a method of its own. It goes by the monotonic clock
        alone: the time of events also grows by what the wall clock has jumped, which is not part of how long an item took.
        """
        append, next_seq, clock, events = self.append, self.next_seq, self.clock, self.stream.events
        end_process = self.tree.end_process
        running = Stage.RUNNING
        payloads = self._payloads
        task, outermost = self._watches[worker].task, self._watches[worker].outermost
        node = self._ran_last.get(worker)
        add_large = self.stream.add_large
        ticked = monotonic()
        while self.stage is running:
            try:
                node = again.popleft() if again else take()
            except IndexError:
                if node is not None:
                    self._ran_last[worker] = node
                return
            except BaseException as error:  # a comparison of items is the user's code
                self._break(error, "items could not be ordered", cancel=not isinstance(error, Exception))
                return
            cls = node.cls
            attempt = Attempt(self, node, worker, "process")
            running_attempt.set(attempt)
            self._latest = attempt
            # One that had to wait for its time or its group may have become free since the last item's end.
            started = ticked if cls.is_plain else monotonic()
            append(ItemStarted(next_seq(), started + clock.offset, node.id, cls.type, worker, "process", node.attempt))
            try:
                if self._is_cautious:
                    await self._save_start()
                if cls.is_plain:
                    result = await node.item.process(attempt.enqueue, attempt.set_desc)
                else:
                    result = await self._process(node, attempt)
                attempt.node = attempt.engine = NO_ENGINE
                if task._cancel_status is not outermost:  # noqa: SLF001  # see TaskWatch
                    raise left_behind(task._cancel_status, node.id, cls.type)  # noqa: SLF001
                if result is not None:
                    node.result = encode_result(result, cls.type, add_large)
                state = NO_DATA
                if payloads is not None and (cls.hook or node.has_children):
                    state = payloads.changed_state(node)
            except BaseException as error:
                if not await self._recover(error, node, worker, started, attempt):
                    return
                ticked = monotonic()
                continue
            ticked = monotonic()
            at = ticked + clock.offset
            cls.completed += 1
            append(
                ItemCompleted(
                    next_seq(),
                    at,
                    node.id,
                    worker,
                    ticked - started,
                    node.attempt,
                    attempt.deduplicated,
                    node.result,
                    state,
                )
            )
            cls.deduplicated += attempt.deduplicated
            if node.recorded is not None:
                self._run_unrepeated(node.recorded, f"item {node.id} ({cls.type})")
                node.recorded.name_others(f"item {node.id} ({cls.type})")
                node.recorded = None
            due = end_process(node, at)
            if due is not None:
                await self._run_hooks(due, worker, node)
                ticked = monotonic()
            if ticked > self._slice_end or len(events) > SOFT_LIMIT_EVENTS:
                self._ran_last[worker] = node  # not for each item: to keep each node until the next costs 2 %
                await self._pause(attempt, worker)
                ticked = monotonic()

    async def _recover(self, error: BaseException, node: Node, worker: int, started: float, attempt: Attempt) -> bool:
        """Record what came of an attempt at a `process` that raised `error`; return whether the worker may take more items.

        Raises:
            TaskSpoiled: the worker may, but not in this task.
        """
        attempt.node = attempt.engine = NO_ENGINE
        self._ran_last[worker] = node
        is_spoiled = await self._watches[worker].close()
        if self._is_interrupted(error, node, attempt):
            return False
        due = None
        if not self._is_tried_again(error, node, attempt):
            at = self._fail(error, node, worker, started, attempt)
            if node.recorded is not None:
                self._run_unrepeated(node.recorded, f"item {node.id} ({node.cls.type})")
                node.recorded = None
            due = self.tree.end_process(node, at)
        if is_spoiled or not isinstance(error, Exception):
            self._queue_due(due)
            raise TaskSpoiled from None
        if due is not None:
            await self._run_hooks(due, worker, node)
        await self._pause(attempt, worker)
        return True

    async def _process(self, node: Node, attempt: Attempt) -> Any:
        """Call the `process` of an item whose class has a group or policies, and return what that returns."""
        retry, timeout_s = node.cls.policies.retry, node.cls.policies.timeout_s
        enqueue = attempt.enqueue
        if retry is not None or node.recorded is not None or self._execution is not None:
            attempt.tries = self.retries.tries(node)
            enqueue = attempt.enqueue_repeatable
        try:
            if self._groups is not None:
                self._groups.check(node)
            if self._execution is not None:
                await self._places[attempt.worker].run(node, attempt)
                self.retries.forget(node)
                attempt.tries = None
                return None
            result = node.item.process(enqueue, attempt.set_desc)
            result = await (
                result
                if timeout_s is None
                else self._timeouts.within(timeout_s, node.id, node.cls.type, result, self._watches[attempt.worker])
            )
        finally:
            if self._groups is not None:
                self._groups.release(node)
        self.retries.forget(node)
        attempt.tries = None
        return result

    async def _pause(self, attempt: Attempt, worker: int) -> None:
        """Between two items, let everything else have its turn: the event loop, hooks that are due, slow reporters."""
        if monotonic() > self._slice_end:
            await self._give_way(attempt)
            await self._run_due(worker)
        await self.stream.wait_for_room()

    async def _save_start(self) -> None:
        """Wait until the start of an attempt is committed, and before that, as between items, for slow reporters."""
        await self.stream.wait_for_room()
        await self.stream.saved()

    async def _run_hooks(self, due: Node | None, worker: int, own: Node | None = None) -> None:
        """Run the hook of `due`, and then those that become due by it; once the run stops, only that of `own`.

        Nodes without a hook that are left to close are closed in any case.
        """
        while due is not None:
            if self.stage is not Stage.RUNNING and due is not own and self.tree.is_hook_due(due):
                self._left.append(due)
                return
            if self.tree.is_hook_due(due):
                due = await self._run_hook(due, worker)
            else:
                due = await self._close_more(due)

    async def _close_more(self, node: Node) -> Node | None:
        """Go on closing a chain that is too long for one step, once everything else has had its turn."""
        try:
            await checkpoint()
            await self.stream.wait_for_room()
        except BaseException:  # cancelled
            self._queue_due(node)
            raise
        return self.tree.ascend(node, self.stream.now())

    async def _wait_for_item(self, worker: int) -> bool:
        """Sleep until an item may be there; return False if none will ever come."""
        if self._due:
            await self._run_due(worker)
            return True
        self._look_if_done(1)
        if self._is_done:
            return False
        event = anyio.Event()
        self._idle.append(event)
        try:
            await event.wait()
        except BaseException:  # cancelled: nobody is to wake it any more
            with suppress(ValueError):
                self._idle.remove(event)
            raise
        return True

    def _look_if_done(self, looking: int) -> None:
        """See whether nothing is left, where besides those that wait for an item `looking` workers are at nothing."""
        if len(self._idle) + looking == self._num_workers and not (
            self.retries.retrying or self._due or len(self._queue)
        ):
            # Nothing is queued or waits for its time, and nobody is running who could enqueue more.
            self._is_done = True
            self._wake_all()

    async def _give_way(self, attempt: Attempt) -> None:
        """Let everything else in the loop run, if `attempt`, which has ended, has not done so by awaiting.

        The first to find the time slice used up leads: until it is back, the others run one item each, and then it
        begins the next slice. So one round of the loop takes one slice and one item a worker, however many there are.
        """
        leads = self._slice_end != 0.0
        if leads and self._latest is not attempt:
            # Other attempts were started during this one, so it has awaited: a new slice begins. Without this, of 200
            # workers that wake at one time each would go round the loop once more for every item.
            self._slice_end = monotonic() + SLICE_S
            return
        self._slice_end = 0.0
        await checkpoint()
        if leads:
            self._slice_end = monotonic() + SLICE_S

    async def _run_hook(self, node: Node, worker: int) -> Node | None:
        """Run the hook of `node`'s item, and return the node whose hook is due next, if any."""
        stream = self.stream
        cls = node.cls
        attempt = Attempt(self, node, worker, "after_children")
        running_attempt.set(attempt)
        self._latest = attempt
        self._ran_last[worker] = node
        watch = self._watches[worker]
        is_spoiled = False
        started = monotonic()
        at = started + self.clock.offset
        stream.append(
            ItemStarted(stream.next_seq(), at, node.id, cls.type, worker, "after_children", node.hook_attempt)
        )
        result = NO_DATA
        tried_again = False
        if self._payloads is not None:
            self._payloads.check_unchanged(node)
        try:
            if self._is_cautious:
                await self._save_start()
            value = await self._call_hook(node, watch)
            attempt.node = attempt.engine = NO_ENGINE
            if watch.innermost is not watch.outermost:
                raise left_behind(watch.innermost, node.id, cls.type)
            if value is not None:
                result = encode_result(value, cls.type, stream.add_large)
        except BaseException as error:
            attempt.node = attempt.engine = NO_ENGINE
            is_spoiled = await watch.close()
            if self._is_interrupted(error, node, attempt):
                return None
            is_spoiled = is_spoiled or not isinstance(error, Exception)
            tried_again = self._is_tried_again(error, node, attempt)
            if not tried_again:
                cls.completed -= 1
                self._fail(error, node, worker, started, attempt)
        if tried_again:
            due = None
        else:
            self.retries.forget(node)
            due = self.tree.end_hook(node, worker, result)
        try:
            if is_spoiled:
                raise TaskSpoiled
            if monotonic() > self._slice_end:  # a chain of hooks is a chain of items' code, too
                await self._give_way(attempt)
            if stream.is_crowded:
                await stream.wait_for_room()
        except BaseException:  # cancelled, or spoiled
            self._queue_due(due)
            raise
        return due

    async def _call_hook(self, node: Node, watch: TaskWatch) -> Any:
        """Call the hook of the item of `node`, and return what that returns."""
        # None where the class had a hook when the item was enqueued, and a resumed run's class has not.
        hook = getattr(node.item, "after_children_processed", None)
        if hook is None:
            return None
        timeout_s = node.cls.policies.timeout_s
        if timeout_s is None:
            return await hook()
        return await self._timeouts.within(timeout_s, node.id, node.cls.type, hook(), watch)

    # ---- when an item raises ------------------------------------------------------------------------------------

    def _is_interrupted(self, error: BaseException, node: Node, attempt: Attempt) -> bool:
        """Tell whether `error` means that the attempt was cut short; if so, record that: its worker takes no more items."""
        if type(error) is AttemptLost:
            self._run_again(node, attempt)
            return True
        phase = attempt.phase
        cancelled = isinstance(error, self._cancelled_class)
        is_ordinary = cancelled or isinstance(error, Exception) or is_cancelled_group(error, self._cancelled_class)
        if is_ordinary and not self._is_cancelled:
            return False
        if not is_ordinary:
            self._break(error, f"item {node.id} ({node.cls.type}) raised {type(error).__qualname__}", cancel=True)
        node.cls.interrupted += 1
        self.stream.emit(ItemInterrupted, node.id, phase, node.tries(phase), worker=attempt.worker)
        self._left.append(node)
        # A cancellation from outside says nothing to the engine itself: take nothing more.
        self.stage = Stage.CANCELLING
        return True

    def _is_tried_again(self, error: BaseException, node: Node, attempt: Attempt) -> bool:
        """Tell whether the item whose attempt raised `error` may be tried again; if so, record and arrange that."""
        # The frames above the item's code are the engine's. Not by assignment: a frozen dataclass refuses that.
        error.with_traceback(without_own_frames(error.__traceback__))
        self.failures.forget_earlier(error)
        is_tried_again = self.retries.try_again(as_failure(error, node.id, node.cls.type), node, attempt)
        attempt.tries = None
        if is_tried_again:
            self.failures.restore_first(error)
        return is_tried_again

    def _end_rest(self, node: Node, phase: Phase) -> None:
        """Queue a node that has waited for its next attempt at `phase`."""
        if self.stage is not Stage.RUNNING:
            return
        del self.retries.retrying[node.id]
        if phase == "process":
            self._put_again(node)
        else:
            self._due.append(node)
            self._wake_one()

    def _fail(self, error: BaseException, node: Node, worker: int, started: float, attempt: Attempt) -> float:
        """Record that an attempt failed for good, which began at `started` of the monotonic clock; return when that was."""
        raised = as_failure(error, node.id, node.cls.type)
        if (
            isinstance(raised, RetryAfter)
            and attempt.phase == "process"
            and node.has_children
            and not self.retries.knows_children(node)
        ):
            refused = MisplacedCall(
                f"item {node.id} ({node.cls.type}) raised RetryAfter after it had enqueued items, which can be known again in "
                "another attempt only if its class has a retry policy; give it 'retry = aqueue.Retry()'"
            )
            refused.__cause__ = raised
            raised = refused
        node.cls.deduplicated += attempt.deduplicated
        self._fail_for(raised, node, worker, started, attempt.phase, attempt.deduplicated)
        return self.stream.now()

    def _fail_for(
        self, error: Exception, node: Node, worker: int, started: float, phase: Phase, deduplicated: int = 0
    ) -> None:
        """Record that `node`'s item failed for good because of `error`."""
        stream = self.stream
        cls = node.cls
        ended = monotonic()
        failure = ItemFailed(
            stream.next_seq(),
            ended + self.clock.offset,
            node.id,
            cls.type,
            worker,
            ended - started,
            error_info(error),
            phase,
            node.tries(phase),
            deduplicated,
        )
        stream.append(failure)
        cls.failed += 1
        node.failed = node.subtree_failed = True
        node.result = NO_DATA
        self.retries.forget(node)
        self.failures.add(failure, error)
        self.failures.restore_first(error)
        most = self._stop_limits.max_failures
        if self._on_error == "stop":
            self.stop(f"item {node.id} ({cls.type}) failed")
        elif self.failures.count == most:
            self.stop(f"max_failures={most} was reached")

    def slow_down(self, group: str, seconds: float, node: Node | None) -> None:
        """Start nothing of `group` for so long, as the item of `node` asks; see `aqueue.slow_down`."""
        stream = self.stream
        if self.stage is Stage.ENDED:
            return
        until = stream.now() + seconds  # read first: the group must not start again before the time that is recorded
        self._use_groups().slow_down(group, seconds)  # may refuse: a function that tells the limits is the user's code
        now = stream.now()
        stream.append(GroupSlowedDown(stream.next_seq(), now, group, max(now, until), 0 if node is None else node.id))

    def slow_down_later(self, group: str, seconds: float, node: Node | None) -> None:
        """Do what `slow_down` does for a caller in another thread, who can't be told that it went wrong."""
        try:
            self.slow_down(group, seconds, node)
        except BaseException as error:
            self._break(
                error,
                f"the group {visible_repr(group)} could not be slowed down",
                cancel=not isinstance(error, Exception),
            )

    def fail_to_save(self, error: BaseException) -> None:
        """End the run at once: the journal can't be written, so nothing that runs now would be recorded."""
        self._break(error, "the journal can't be written", cancel=True)

    def _break(self, error: BaseException, reason: str, *, cancel: bool) -> None:
        """End the run because of `error`, which is not an item's failure; with `cancel`, as `stop` takes it."""
        if self.error is None:
            self.error = error
        self.stop(reason, cancel=cancel)

    # ---- what it came to ----------------------------------------------------------------------------------------

    @property
    def counts_by_type(self) -> dict[str, Counts]:
        """What the items came to, for each type."""
        counts: dict[str, Counts] = {}
        for cls in self._known.values():
            more = counts.get(cls.type, Counts())
            counts[cls.type] = Counts(
                more.enqueued + cls.enqueued,
                more.completed + cls.completed,
                more.failed + cls.failed,
                more.interrupted + cls.interrupted,
                more.deduplicated + cls.deduplicated,
                more.retried + cls.retried,
            )
        return counts

    @property
    def counts(self) -> Counts:
        """What the items came to, all types together."""
        by_type = self.counts_by_type.values()
        totals = {field: sum(getattr(one, field) for one in by_type) for field in Counts.__struct_fields__}
        totals["deduplicated"] += self.deduplicated_roots
        return Counts(**totals)

    @property
    def status(self) -> RunStatus:
        """How the run ended."""
        by_failure = self.failures.count and self._on_error == "stop"
        if (self.tree.open_roots or not self._has_all_initial) and not by_failure:
            return "interrupted"
        return "failed" if self.failures.count or self.failures.recorded or self.error is not None else "completed"
