"""A lane: runs items in a worker process, in an event loop of its own, and reports how they ended.

Letters are handed in and out by other threads than the loop's: `deliver` and `collect`. Nothing here knows how they
travel.
"""

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

import anyio
from anyio.abc import TaskGroup

from aqueue._cluster import messages
from aqueue._cluster.letters import Inbox, Letter, Outbox
from aqueue._cluster.objects import LaneObjects
from aqueue._codec.class_names import resolve_type, type_name
from aqueue._codec.item_codec import PayloadCodec
from aqueue._codec.results import encode_result
from aqueue._engine import attempt as texts
from aqueue._engine import exceptions
from aqueue._engine.context import Current, running_attempt
from aqueue._engine.item_class import ItemClass, look_up_class
from aqueue._engine.timeouts import Timeouts
from aqueue._system.loop import TaskWatch, call_soon_in_this_loop, clock_of_this_loop
from aqueue._system.timers import Timers
from aqueue._system.watchdog import Watchdog
from aqueue._verbs import AnyCommand
from aqueue.errors import ClusterError, MisplacedCall, UnknownItemType, UnsendableItem
from aqueue.text import DESCRIPTION_MAX_CHARS, visible

__all__ = ["Lane"]

LIMIT_BYTES: Final = 64_000_000
"""How many bytes of unacknowledged reports there may be before `enqueue` and `set_desc` wait."""

_LEASE_CHECK_INTERVAL_S: Final = 0.5

exceptions.hide_frames_of(__file__)


class Lane:
    """Runs items by order of the coordinator, each in a task of its own, until it is ordered to end.

    When it has not heard from the coordinator for the time of its lease, it cancels its items and ends.

    Attributes:
        name: its name.
        run_id: its run's name.
        coordinator: identifies the coordinator among those that the run has had.
        incarnation: identifies the lane, also among those of the same name: Dask may start it again.
        thread: the identifier of the loop's thread.
        shared: what `lifespan` yielded.
    """

    # Made when the loop runs.
    _everything: TaskGroup
    _changed: anyio.Event
    _timeouts: Timeouts
    _cancelled_class: type[BaseException]

    def __init__(
        self, settings: messages.LaneSettings, host: str, is_closing: Callable[[], bool] = lambda: False
    ) -> None:
        """Make a lane; `run` begins it.

        Parameters:
            host: the machine's name.
            is_closing: returns whether the process is about to end.
        """
        self.name = settings.lane
        self.run_id = settings.run_id
        self.coordinator = settings.coordinator
        self.incarnation = os.urandom(8).hex()
        self.thread = 0
        self.shared: Any = texts.NO_SHARED
        self._pid = os.getpid()
        self._settings = settings
        self._host = host
        self._is_closing = is_closing
        self._heard_at = time.monotonic()
        self._is_abandoned = False
        # From here on under the lock: used by the threads that deliver and collect, and by the loop's.
        self._lock = threading.Lock()
        self._inbox = Inbox()
        self._outbox = Outbox()
        self._on_report: Callable[[], None] | None = None
        self._arrived_orders: list[messages.Order] = []
        self._wake: Callable[[], None] = lambda: None
        # From here on in the loop's thread only.
        self._objects = LaneObjects()
        self._codec = PayloadCodec()
        self._classes: dict[type, ItemClass] = {}
        self._orders: list[messages.Run] = []
        self._unended: set[int] = set()  # the orders whose end was not reported
        self._has_begun = False
        self._is_ending = False
        self._is_cancelling = False
        self._is_entering = False
        self._error: Exception | None = None
        self._tasks: TaskGroup | None = None

    # ---- letters, in and out, from other threads -----------------------------------------------------------------

    def deliver(self, letters: list[Letter]) -> int:
        """Take letters with orders, and return the number of the last that has been taken."""
        self._heard_at = time.monotonic()
        with self._lock:
            contents = self._inbox.take(letters)
            for content in contents:
                self._arrived_orders += messages.decode_orders(content)
            acknowledged = self._inbox.acknowledged
        if contents:
            self._wake()
        return acknowledged

    def collect(self, acknowledged: int) -> list[Letter]:
        """Forget the letters up to the number `acknowledged`, and return the others, which hold the reports until now."""
        self._heard_at = time.monotonic()
        with self._lock:
            self._outbox.acknowledge(acknowledged)
            return self._outbox.to_send()

    def abandon(self) -> None:
        """Let the lane cancel its items and end, since its coordinator is gone; from any thread."""
        self._is_abandoned = True

    def last_letters(self) -> list[Letter]:
        """Return all letters that were not acknowledged, once the lane has ended."""
        with self._lock:
            return self._outbox.to_send(math.inf)

    def on_report(self, call: Callable[[], None] | None) -> bool:
        """Call `call` once, in any thread, as soon as there is something to collect; return whether there already is."""
        with self._lock:
            self._on_report = None if self._outbox else call
            return self._on_report is None

    def report(self, report: messages.Report) -> None:
        """Queue a report to the coordinator; from any thread."""
        data = messages.encode(report)
        with self._lock:
            self._outbox.write(data)
            call, self._on_report = self._on_report, None
        if call is not None:
            call()

    def wait_for_room(self) -> None:
        """Wait while too many reports are unacknowledged, unless the lease has expired: then nobody will take them."""
        while self._outbox.num_bytes >= LIMIT_BYTES and not self._has_lease_expired:
            time.sleep(0.005)

    @property
    def _has_lease_expired(self) -> bool:
        return self._is_abandoned or time.monotonic() - self._heard_at > self._settings.lease_s

    def _warn(self, text: str) -> None:
        """Report a warning, which the coordinator shows to the user; from any thread."""
        self.report(messages.Warned(visible(text, 2_000)))

    # ---- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run items in this thread until the lane ends."""
        error = b""
        try:
            anyio.run(self._main, backend=self._settings.backend)
        except BaseException as lifespan_error:
            error = self._objects.dump_error(lifespan_error)
        self.shared = texts.NO_SHARED  # leftover references to the lane must not keep it alive
        self.report(messages.LaneEnded(error))

    async def _main(self) -> None:
        self.thread = threading.get_ident()
        self._cancelled_class = anyio.get_cancelled_exc_class()
        self._changed = anyio.Event()
        clock = clock_of_this_loop()
        timers = Timers(clock)
        self._timeouts = Timeouts(clock, timers, self._warn)
        call_soon = call_soon_in_this_loop()
        own_code = frozenset({Lane._run.__code__})
        watchdog = Watchdog(call_soon, own_code, Lane.wait_for_room.__code__, self._timeouts.check, self._warn)
        watchdog.start()
        try:
            async with anyio.create_task_group() as everything:
                self._everything = everything
                with self._lock:
                    self._wake = lambda: call_soon(self._take_orders)
                everything.start_soon(self._watch)
                timers.open(everything)
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
        """Enter the lifespan once its definitions are there, and run items in it."""
        while not self._has_begun and not self._is_ending:
            await self._changed.wait()
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
        """Cancel the items once the lease has expired or the process closes, and the lifespan if it still runs a lease later."""
        while not self._has_lease_expired and not self._is_closing():  # noqa: ASYNC110  # neither has an event
            await anyio.sleep(_LEASE_CHECK_INTERVAL_S)
        self._cancel()
        await anyio.sleep(self._settings.lease_s)
        self._everything.cancel_scope.cancel()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _take_orders(self) -> None:
        with self._lock:
            orders, self._arrived_orders = self._arrived_orders, []
        for order in orders:
            match order:
                case messages.Run():
                    self._orders.append(order)
                    self._unended.add(order.order)
                case messages.Define():
                    try:
                        self._objects.definitions.define(order.definitions)
                    except Exception as error:  # the lane ends with it: later items would need the definitions
                        self._error = self._error or error
                        self._cancel()
                case messages.Begin():
                    self._has_begun = True
                case messages.End():
                    self._is_ending = True
                case messages.Cancel():
                    self._cancel()
        self._notify()

    def _cancel(self) -> None:
        self._is_cancelling = self._is_ending = True
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        elif self._is_entering:
            self._everything.cancel_scope.cancel()
        self._notify()

    async def _work(self) -> None:
        try:
            async with anyio.create_task_group() as self._tasks:
                self.report(messages.Ready(self._host, os.getpid()))
                if self._is_cancelling:
                    self._tasks.cancel_scope.cancel()
                while not self._is_ending or self._unended:
                    for run in self._orders:
                        self._tasks.start_soon(self._run, run)
                    self._orders.clear()
                    await self._changed.wait()
        finally:
            for order in self._unended:  # asyncio never starts a task that is cancelled first
                self.report(messages.AttemptEnded(order, "cancelled"))

    # ---- running items ------------------------------------------------------------------------------------------

    async def _run(self, run: messages.Run) -> None:
        """Run an item, and report how it ended."""
        watch = TaskWatch()
        attempt = _Attempt(self, run)
        running_attempt.set(attempt)
        before = b""
        with self._timeouts.in_task(watch) as timeout:
            try:
                before = self._load(attempt)
                call = attempt.item.process(attempt.enqueue, attempt.set_desc)
                if run.timeout_s is None:
                    value = await call
                else:
                    value = await timeout.within(run.timeout_s, run.item, run.type, call)
                self._close_attempt(attempt)
                if watch.innermost is not watch.outermost:
                    raise exceptions.left_behind(watch.innermost, run.item, run.type)
                result = b"" if value is None else bytes(encode_result(value, run.type))
                self._report_end(run, "returned", result=result, state=self._changed_state(attempt, before))
            except BaseException as error:
                self._close_attempt(attempt)
                await watch.close()
                self._report_error(attempt, before, error)
                await watch.take_cancellation()

    def _close_attempt(self, attempt: "_Attempt") -> None:
        """Refuse all later calls by the item's code; end the process if it is a child that this code has forked."""
        if os.getpid() != self._pid:
            texts.end_forked_child(attempt.run.item, attempt.run.type)
        attempt.has_ended = True

    def _report_end(self, run: messages.Run, outcome: messages.Outcome, **details: Any) -> None:
        self.report(messages.AttemptEnded(run.order, outcome, **details))
        self._unended.discard(run.order)
        if self._is_ending:
            self._notify()

    def _report_error(self, attempt: "_Attempt", before: bytes, error: BaseException) -> None:
        run = attempt.run
        is_ordinary = isinstance(error, Exception | self._cancelled_class) or exceptions.is_cancelled_group(
            error, self._cancelled_class
        )
        if is_ordinary and self._is_cancelling:
            self._report_end(run, "cancelled")
            return
        with suppress(Exception):  # an exception that can't be changed
            error.with_traceback(exceptions.without_own_frames(error.__traceback__))
        failure = exceptions.as_failure(error, run.item, run.type) if is_ordinary else error
        state = None
        if before and run.attempts_left:  # the next attempt begins with the state that this one leaves
            with suppress(Exception):  # the user's code, while it is pickled
                state = self._objects.changed_state(attempt.item, before, attempt.ancestor_number)
        self._report_end(run, "raised", state=state, error=self._objects.dump_error(failure))

    def _load(self, attempt: "_Attempt") -> bytes:
        """Create the attempt's item, and return its original state."""
        run = attempt.run
        made: dict[int, Any] = {}
        try:
            for number, data in run.ancestors.items():
                made[number] = self._objects.load_item(data, made.__getitem__)
            attempt.ancestors = {id(item): (number, item) for number, item in made.items()}
            attempt.item = self._objects.load_item(run.data, made.__getitem__)
            with suppress(UnsendableItem):  # the item can be loaded, but not written
                # Not `run.data`: another process may write the same state as other bytes.
                return self._objects.dump_state(attempt.item, attempt.ancestor_number)
        except Exception as error:
            raise ClusterError(
                f"the worker process {os.getpid()} on {visible(self._host, 255)} can't load item {run.item} "
                f"({run.type}): {type(error).__name__}: {visible(str(error), 500)}; install the items' modules there, "
                "in the versions that your program has"
            ) from error
        return b""

    def _changed_state(self, attempt: "_Attempt", before: bytes) -> bytes | None:
        try:
            return self._objects.changed_state(attempt.item, before, attempt.ancestor_number)
        except UnsendableItem:
            if attempt.run.needs_state or attempt.has_children:
                raise
            return None  # nobody needs it

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
            if hasattr(cls, "process"):  # the `process` of one instance says nothing about the next
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


class _Attempt:
    """One attempt at an item's `process`: the functions that its code gets, and those behind `aqueue.current` and others.

    Attributes:
        run: what was ordered.
        item: the item.
        ancestors: the items above it that it refers to, with their numbers, by the `id` of their objects.
        has_children: whether it has enqueued any.
        has_ended: whether the item's code has ended.
    """

    def __init__(self, lane: Lane, run: messages.Run) -> None:
        self.run = run
        self.item: Any = None
        self.ancestors: dict[int, tuple[int, object]] = {}
        self.has_children = False
        self.has_ended = False
        self._lane = lane

    def ancestor_number(self, candidate: object) -> int | None:
        """Return the number of `candidate` if it is an ancestor of the item, else None."""
        known = self.ancestors.get(id(candidate))
        return None if known is None else known[0]

    def _item_or_ancestor_number(self, candidate: object) -> int | None:
        return self.run.item if candidate is self.item else self.ancestor_number(candidate)

    # ---- what `process` is given --------------------------------------------------------------------------------

    def enqueue(self, item: Any, /) -> None:
        """Add a child; see `aqueue.Item.process`."""
        self._check("enqueue")
        data = self._lane.dump_child(item, self._item_or_ancestor_number)
        self.has_children = True
        self._lane.report(messages.Enqueued(self.run.order, data))
        self._lane.wait_for_room()

    def set_desc(self, text: str, /) -> None:
        """Say what the item is doing; see `aqueue.Item.process`."""
        self._check("set_desc")
        if not isinstance(text, str):
            raise texts.no_description(text, self.run.item, self.run.type)
        self._lane.report(messages.Described(self.run.order, visible(str.__str__(text), DESCRIPTION_MAX_CHARS)))
        self._lane.wait_for_room()

    def _check(self, name: str) -> None:
        if self.has_ended or threading.get_ident() != self._lane.thread:
            raise texts.refusal(name, None if self.has_ended else (self.run.item, self.run.type))

    # ---- what the item's code may ask for
    # -------------------------------------------------------------------------------

    def current(self) -> Current | None:
        """Return the running item, or None once the attempt has ended."""
        if self.has_ended:
            return None
        run = self.run
        return Current(run.item, run.type, run.attempt, "process", run.worker, run.identity.hex(), run.attempts_left)

    def shared(self) -> Any:
        """Return what `lifespan` yielded in this process."""
        if self._lane.shared is texts.NO_SHARED:
            raise MisplacedCall(texts.NO_LIFESPAN)
        return self._lane.shared

    def child_results(self) -> list[Any]:
        """Refuse: hooks run in the coordinator."""
        raise MisplacedCall(texts.NO_CHILD_RESULTS)

    def stop(self, reason: str) -> None:
        """Stop the run gracefully, from any thread."""
        self._lane.report(messages.StopAsked(self.run.order, visible(reason, DESCRIPTION_MAX_CHARS)))

    def slow_down(self, group: str, seconds: float) -> None:
        """Start nothing of `group` for a while, from any thread."""
        self._lane.report(messages.SlowDownAsked(self.run.order, group, float(seconds)))

    def steer(self, command: AnyCommand) -> NoReturn:
        """Refuse: the answer of the coordinator would have to be waited for."""
        raise MisplacedCall(
            "an item on a cluster can't steer its run; call aqueue.stop() or aqueue.slow_down(), or steer the run by its journal "
            "on the machine that has it"
        )
