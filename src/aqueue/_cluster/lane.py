"""A lane: runs items in a worker process, in an event loop of its own, and reports how they ended.

Letters are handed in and out by other threads than the loop's: `deliver` and `collect`. Nothing here knows how they
travel.
"""

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from aqueue._cluster.lane_attempt import LaneAttempt
from aqueue._cluster.letters import Inbox, Letter, Outbox
from aqueue._cluster.messages import (
    AttemptEnded,
    Begin,
    Cancel,
    Define,
    End,
    LaneEnded,
    LaneSettings,
    Order,
    Ready,
    Report,
    Run,
    Warned,
    decode_orders,
    encode,
)
from aqueue._cluster.objects import LaneObjects
from aqueue._codec.class_names import resolve_type, type_name
from aqueue._codec.item_codec import PayloadCodec
from aqueue._codec.results import encode_result
from aqueue._engine.attempt import NO_SHARED, end_forked_child
from aqueue._engine.context import running_attempt
from aqueue._engine.exceptions import (
    as_failure,
    cancelled_between_items,
    hide_frames_of,
    is_cancelled_group,
    left_behind,
    without_own_frames,
)
from aqueue._engine.item_class import ItemClass, look_up_class
from aqueue._engine.timeouts import Timeouts
from aqueue._engine.turns import SLICE_S
from aqueue._system.loop import TaskWatch, call_soon_in_this_loop, clock_of_this_loop
from aqueue._system.watchdog import Watchdog
from aqueue.errors import ClusterError, UnknownItemType, UnsendableItem
from aqueue.text import visible

__all__ = ["Lane"]

SOFT_LIMIT_BYTES: Final = 4_000_000
"""With so many bytes of reports not yet acknowledged, no more items are begun."""

HARD_LIMIT_BYTES: Final = 64_000_000
"""With so many, `enqueue` and `set_desc` wait themselves."""

_LEASE_CHECK_INTERVAL_S: Final = 0.5

hide_frames_of(__file__)


class Lane:
    """Runs the items that it is ordered to run, concurrently, until it is ordered to end.

    It ends by itself, and cancels what runs, when it has not heard from the coordinator for the time of its lease.

    Attributes:
        name: what the coordinator calls it.
        run_id: its run's name.
        coordinator: tells the coordinator of the run from earlier ones.
        incarnation: tells it from any other lane, also of the same name.
        thread: the identifier of the loop's thread.
        shared: what `lifespan` yielded.
    """

    def __init__(self, settings: LaneSettings, host: str, is_closing: Callable[[], bool] = lambda: False) -> None:
        """Make a lane; `run` begins it.

        Parameters:
            host: the machine's name.
            is_closing: returns whether the process is about to end, so that what runs is lost.
        """
        self.name = settings.lane
        self.run_id = settings.run_id
        self.coordinator = settings.coordinator
        self.incarnation = os.urandom(8).hex()
        self.thread = 0
        self.shared: Any = NO_SHARED
        self._pid = os.getpid()
        self._settings = settings
        self._host = host
        self._is_closing = is_closing
        self._heard_at = time.monotonic()
        # What follows up to here is used under the lock: by the threads that deliver and collect, and by the loop's.
        self._lock = threading.Lock()
        self._inbox = Inbox()
        self._outbox = Outbox()
        self._on_report: Callable[[], None] | None = None
        self._arrived_orders: list[Order] = []
        self._wake: Callable[[], None] | None = None
        # What follows belongs to the loop's thread.
        self._objects = LaneObjects()
        self._codec = PayloadCodec()
        self._classes: dict[type, ItemClass] = {}
        self._orders: deque[Run] = deque()
        self._num_runners = 0
        self._is_runner_starting = False
        self._has_begun = False
        self._is_ending = False
        self._is_cancelling = False
        self._slice_end = 0.0
        self._changed: anyio.Event | None = None
        self._is_entering = False
        self._error: Exception | None = None
        self._everything: TaskGroup | None = None
        self._tasks: TaskGroup | None = None
        self._cancelled_class: type[BaseException] = Exception
        self._timeouts: Timeouts | None = None

    # ---- letters, in and out, from other threads -----------------------------------------------------------------

    def deliver(self, letters: list[Letter]) -> int:
        """Take letters with orders, and return the number of the last that has been taken."""
        self._heard_at = time.monotonic()
        with self._lock:
            contents = self._inbox.take(letters)
            for content in contents:
                self._arrived_orders += decode_orders(content)
            wake = self._wake
            acknowledged = self._inbox.acknowledged
        if contents and wake is not None:
            wake()
        return acknowledged

    def collect(self, acknowledged: int) -> list[Letter]:
        """Forget the letters up to the number `acknowledged`, and return the others, which hold the reports until now."""
        self._heard_at = time.monotonic()
        with self._lock:
            self._outbox.acknowledge(acknowledged)
            return self._outbox.to_send()

    def abandon(self) -> None:
        """End the lane, and cancel what runs: its coordinator is gone; from any thread."""
        with self._lock:
            self._arrived_orders.append(Cancel())
            wake = self._wake
        if wake is not None:
            wake()

    def last_letters(self) -> list[Letter]:
        """Return all letters that were not acknowledged, once the lane has ended."""
        with self._lock:
            return self._outbox.to_send(math.inf)

    def on_report(self, call: Callable[[], None] | None) -> bool:
        """Call `call` once, in any thread, as soon as there is something to collect; return whether there already is."""
        with self._lock:
            self._on_report = None if self._outbox else call
            return self._on_report is None

    def report(self, report: Report) -> None:
        """Queue a report to the coordinator; from any thread."""
        data = encode(report)
        with self._lock:
            self._outbox.write(data)
            call, self._on_report = self._on_report, None
        if call is not None:
            call()

    def wait_for_room(self) -> None:
        """Wait while far too many reports are not acknowledged, unless the lease has expired: then nobody takes them."""
        while self._outbox.num_bytes >= HARD_LIMIT_BYTES and not self._has_lease_expired:
            time.sleep(0.005)

    @property
    def _has_lease_expired(self) -> bool:
        return time.monotonic() - self._heard_at > self._settings.lease_s

    def warn(self, text: str) -> None:
        """Have the coordinator show the user a warning; from any thread."""
        self.report(Warned(visible(text, 2_000)))

    # ---- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run items in this thread until the lane ends."""
        error = b""
        try:
            anyio.run(self._main, backend=self._settings.backend)
        except BaseException as lifespan_error:
            error = self._objects.dump_error(lifespan_error)
        self.shared = NO_SHARED  # what still refers to the lane must not keep it alive
        self.report(LaneEnded(error))

    async def _main(self) -> None:
        self.thread = threading.get_ident()
        self._cancelled_class = anyio.get_cancelled_exc_class()
        self._changed = anyio.Event()
        self._timeouts = Timeouts(clock_of_this_loop(), self.warn)
        call_soon = call_soon_in_this_loop()
        watchdog = Watchdog(
            call_soon,
            frozenset({Lane._run.__code__}),
            Lane.wait_for_room.__code__,
            self._timeouts.check,
            self.warn,
        )
        watchdog.start()
        try:
            async with anyio.create_task_group() as everything:
                self._everything = everything
                with self._lock:
                    self._wake = lambda: call_soon(self._take_orders)
                everything.start_soon(self._watch)
                self._take_orders()
                try:
                    await self._serve()
                except Exception as error:
                    self._error = self._error or error
                everything.cancel_scope.cancel()
        finally:
            watchdog.stop()
        if self._error is not None:
            raise self._error

    async def _serve(self) -> None:
        """Enter the lifespan once all is known, and run items in it."""
        await self._wait_until(lambda: self._has_begun or self._is_ending)
        if self._is_ending:
            return
        lifespan = self._objects.definitions.lifespan
        if lifespan is None:
            await self._work()
            return
        self._is_entering = True
        async with lifespan() as self.shared:
            self._is_entering = False
            await self._work()

    async def _watch(self) -> None:
        """Cancel what runs once the lease has expired or the process closes; and all the rest a lease later, if need be."""
        while True:
            if self._has_lease_expired or self._is_closing():
                break
            await anyio.sleep(_LEASE_CHECK_INTERVAL_S)
        self._cancel()
        await anyio.sleep(self._settings.lease_s)
        assert self._everything is not None
        self._everything.cancel_scope.cancel()

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self._changed is not None
            await self._changed.wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = anyio.Event()

    def _take_orders(self) -> None:
        with self._lock:
            orders, self._arrived_orders = self._arrived_orders, []
        for order in orders:
            match order:
                case Run():
                    self._orders.append(order)
                case Define():
                    try:
                        self._objects.definitions.define(order.definitions)
                    except Exception as error:  # it stands for the lane's end: nothing can be made of what follows
                        self._error = self._error or error
                        self._cancel()
                case Begin():
                    self._has_begun = True
                case End():
                    self._is_ending = True
                case Cancel():
                    self._cancel()
        self._notify()

    def _cancel(self) -> None:
        self._is_cancelling = self._is_ending = True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        elif self._is_entering and self._everything is not None:
            self._everything.cancel_scope.cancel()
        self._notify()

    async def _work(self) -> None:
        self.report(Ready(self._host, os.getpid()))
        try:
            async with anyio.create_task_group() as self._tasks:
                if self._is_cancelling:
                    self._tasks.cancel_scope.cancel()
                await self._wait_until(self._has_finished)
        finally:
            for run in self._orders:
                self.report(AttemptEnded(run.order, "cancelled"))
            self._orders.clear()

    def _has_finished(self) -> bool:
        self._start_runner()
        return self._is_ending and not self._orders and not self._num_runners

    # ---- running items ------------------------------------------------------------------------------------------

    def _start_runner(self) -> None:
        """Start a task for the next item; it runs as soon as the tasks that are at work await something."""
        if self._orders and not self._is_runner_starting and self._tasks is not None and not self._is_cancelling:
            self._is_runner_starting = True
            self._num_runners += 1
            self._tasks.start_soon(self._run_orders)

    async def _run_orders(self) -> None:
        """Run items that are waiting, until none is left or one has left something behind in this task."""
        self._is_runner_starting = False
        watch = TaskWatch()
        ran = "no item yet"
        try:
            while self._orders and not self._is_cancelling:
                if self._outbox.num_bytes >= SOFT_LIMIT_BYTES and not self._has_lease_expired:
                    await anyio.sleep(0.01)
                    continue
                run = self._orders.popleft()
                self._start_runner()
                ran = f"item {run.item} ({run.type}) last"
                if await self._run(run, watch):
                    break
                if time.monotonic() > self._slice_end:
                    await checkpoint()
                    self._slice_end = time.monotonic() + SLICE_S
        except self._cancelled_class:
            if self._is_cancelling or anyio.current_effective_deadline() == float("-inf"):
                raise
            self.warn(cancelled_between_items(ran))
        finally:
            self._num_runners -= 1
            self._notify()
        await watch.take_cancellation()

    async def _run(self, run: Run, watch: TaskWatch) -> bool:
        """Run an item; return whether its code has left something behind in this task, which is to run no other."""
        attempt = LaneAttempt(self, run)
        running_attempt.set(attempt)
        before = b""
        try:
            before = self._load(attempt)
            call = attempt.item.process(attempt.enqueue, attempt.set_desc)
            if run.timeout_s is None:
                value = await call
            else:
                assert self._timeouts is not None
                value = await self._timeouts.within(run.timeout_s, run.item, run.type, call, watch)
            self._close_attempt(attempt)
            if watch.innermost is not watch.outermost:
                raise left_behind(watch.innermost, run.item, run.type)
            result = b"" if value is None else bytes(encode_result(value, run.type))
            state = self._changed_state(attempt, before)
        except BaseException as error:
            self._close_attempt(attempt)
            is_spoiled = await watch.close()
            self._report_error(attempt, before, error)
            return is_spoiled or not isinstance(error, Exception)
        self.report(AttemptEnded(run.order, "returned", result, state))
        return False

    def _close_attempt(self, attempt: LaneAttempt) -> None:
        """Refuse all later calls of the item's code; in a child process that it has forked, end that process."""
        if os.getpid() != self._pid:
            end_forked_child(attempt.run.item, attempt.run.type)
        attempt.has_ended = True

    def _report_error(self, attempt: LaneAttempt, before: bytes, error: BaseException) -> None:
        run = attempt.run
        is_ordinary = isinstance(error, Exception | self._cancelled_class) or is_cancelled_group(
            error, self._cancelled_class
        )
        if is_ordinary and self._is_cancelling:
            self.report(AttemptEnded(run.order, "cancelled"))
            return
        with suppress(Exception):  # an exception that can't be changed
            error.with_traceback(without_own_frames(error.__traceback__))
        failure = as_failure(error, run.item, run.type) if is_ordinary else error
        state = None
        if before and run.attempts_left:  # the next one begins with what this one has left
            with suppress(Exception):  # whatever the user's objects raise when they are pickled
                state = self._objects.changed_state(attempt.item, before, attempt.ancestor_number)
        self.report(AttemptEnded(run.order, "raised", state=state, error=self._objects.dump_error(failure)))

    def _load(self, attempt: LaneAttempt) -> bytes:
        """Make the attempt's item, and return its state as it came."""
        made: dict[int, Any] = {}
        try:
            for number, data in attempt.run.ancestors.items():
                made[number] = self._objects.load_item(data, made.__getitem__)
                attempt.add_ancestor(number, made[number])
            attempt.item, before = self._objects.load_with_state(attempt.run.data, made.__getitem__)
        except Exception as error:
            raise ClusterError(
                f"the worker process {os.getpid()} on {visible(self._host, 255)} can't load item {attempt.run.item} "
                f"({attempt.run.type}): {type(error).__name__}: {visible(str(error), 500)}; install there the modules of the "
                "items, in the versions that your program has"
            ) from error
        return before

    def _changed_state(self, attempt: LaneAttempt, before: bytes) -> bytes | None:
        try:
            return self._objects.changed_state(attempt.item, before, attempt.ancestor_number)
        except UnsendableItem:
            if attempt.run.needs_state or attempt.has_children:
                raise
            return None  # nobody will ask for it

    def dump_child(self, item: Any, ancestor_number: Callable[[object], int | None]) -> bytes:
        """Return `item`, a child, as bytes for a report.

        Raises:
            InvalidItem: it is not an item.
            UnstorableItem: there is a journal, and it can't be stored.
            UnsendableItem: it can't be sent to the coordinator.
        """
        cls = type(item)
        if cls not in self._classes:
            known = look_up_class(item)
            if hasattr(cls, "process"):  # one on the instance alone says nothing about the next object
                self._classes[cls] = known
        if self._settings.has_journal and _has_resolvable_name(cls):
            self._codec.encode(item, ancestor_number)
        return self._objects.dump_item(item, ancestor_number)


def _has_resolvable_name(cls: type) -> bool:
    """Return whether the name of `cls` means that very class here, as it will for the coordinator."""
    try:
        return resolve_type(type_name(cls)) is cls
    except UnknownItemType:
        return False
