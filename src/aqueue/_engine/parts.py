"""The parts of the engine, each the one owner of its state, put together for one run."""

from aqueue._engine.attempt import EngineForItems
from aqueue._engine.class_registry import ClassRegistry
from aqueue._engine.dispatcher import Dispatcher
from aqueue._engine.failures import Failures
from aqueue._engine.group_limits import GroupLimits
from aqueue._engine.intake import Intake
from aqueue._engine.item_class import NO_POLICIES, Policies
from aqueue._engine.outcomes import Outcomes
from aqueue._engine.payloads import Payloads
from aqueue._engine.queues import PlainQueue
from aqueue._engine.spilling import ReadAgain, ReadFacts, ReadItems, Spilling
from aqueue._engine.stopping import OnError, StopLimits, Stopping
from aqueue._engine.suspects import Suspects
from aqueue._engine.timeouts import Timeouts
from aqueue._engine.tree import Tree
from aqueue._engine.turns import Turns
from aqueue._stream.event_stream import EventStream
from aqueue._system.loop import CallSoon, clock_of_this_loop
from aqueue._system.timers import Timers
from aqueue.limits import Limits

__all__ = ["Parts"]


class Parts:
    """The parts of an engine.

    Attributes:
        stream: where every event goes.
        timers: calls functions at a time of the loop's clock.
        timeouts: the tasks that run attempts with a timeout.
        stopping: whether and why the run stops.
        dispatcher: what runs next.
        classes: what is known about each item class.
        tree: which items wait for which.
        intake: what is enqueued.
        failures: the items that failed for good.
        suspects: the items that may have crashed an earlier process.
        outcomes: what follows from an attempt that raised.
        spilling: makes nodes of spilled items again; None if all waiting nodes are in memory.
        turns: the time slice that workers share.
        payloads: what is recorded of items; None without a journal.
        read_again: reads from the journal what is needed to run items again; None without one.
        read_facts: reads from there what it tells of items that have ended; None without one.
        limits: what each group may do, and which limits apply to no item.
        for_items: the engine as the code of items sees it.
    """

    def __init__(
        self,
        stream: EventStream,
        queue: PlainQueue,
        call_soon: CallSoon,
        *,
        failures: Failures,
        on_error: OnError = "stop",
        stop_limits: StopLimits | None = None,
        payloads: Payloads | None = None,
        policies: Policies = NO_POLICIES,
        limits: Limits | None = None,
        is_elsewhere: bool = False,
        spill_after: int | None = None,
        read_items: ReadItems | None = None,
        read_again: ReadAgain | None = None,
        read_facts: ReadFacts | None = None,
    ) -> None:
        """Create the parts of a run, in the loop that it will run in.

        Parameters:
            stream: where every event goes.
            queue: the order of the items.
            call_soon: calls a function in the event loop, from any thread.
            failures: keeps what failed for good.
            on_error: what the first item that fails for good does.
            stop_limits: what else stops the run.
            payloads: what is recorded of items; None without a journal.
            policies: the policies of classes that don't set their own.
            limits: what each group may do.
            is_elsewhere: whether `process` runs in other processes.
            spill_after: how many waiting nodes are kept in memory, if there is a journal; None for all.
            read_items: reads items from the journal.
            read_again: reads from there what is needed to run items again; None without one.
            read_facts: reads from there what it tells of items that have ended; None without one.
        """
        clock = clock_of_this_loop()
        self.stream = stream
        self.failures = failures
        self.read_again = read_again
        self.read_facts = read_facts
        self.payloads = payloads
        self.timers = Timers(clock)
        self.timeouts = Timeouts(clock, self.timers)
        self.turns = Turns()
        self.limits = GroupLimits(limits)
        self.suspects = Suspects(stream)
        self.stopping = Stopping(stream, self.timers, on_error, stop_limits)
        self.dispatcher = Dispatcher(stream, self.stopping, queue, self.limits, self.timers, clock)
        self.stopping.on_change(self.dispatcher.wake_all)
        self.classes = ClassRegistry(policies, self.dispatcher.use_groups, is_elsewhere=is_elsewhere)
        self.tree = Tree(
            stream,
            self.dispatcher.dropped,
            keeps_items=payloads is not None or is_elsewhere,
            keeps_failed=payloads is not None,
        )
        self.intake = Intake(stream, self.tree, self.stopping, self.dispatcher, self.classes, payloads)
        self.spilling: Spilling | None = None
        if spill_after is not None and payloads is not None and read_items is not None:
            self.spilling = Spilling(spill_after, read_items, payloads, self.classes, self.dispatcher, self.stopping)
        self.outcomes = Outcomes(stream, self.stopping, self.dispatcher, self.tree, failures)
        self.for_items = EngineForItems(
            stream,
            call_soon,
            add=self.intake.add,
            add_repeatable=self.intake.add_repeatable,
            attempts_left=self.dispatcher.retries.attempts_left,
            identity=(lambda _: b"") if payloads is None else payloads.identity,
            stop=self.stopping.stop,
            slow_down=self.dispatcher.slow_down,
            slow_down_later=self.dispatcher.slow_down_later,
        )
