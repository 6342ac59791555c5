"""The engine: workers that take items, run them and their hooks, and stop when asked to."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from threading import get_ident
from time import monotonic
from typing import Any, Final, Literal

import anyio
import msgspec
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from aqueue._adoption import RecordedChildren
from aqueue._bus import SOFT_LIMIT_EVENTS, Bus, error_info
from aqueue._codec import decode_result, encode_result
from aqueue._context import Current, running_attempt
from aqueue._keys import KeySet
from aqueue._ledger import Ledger
from aqueue._loop import CallSoon
from aqueue._notice import warn
from aqueue._queues import LifoQueue, NodeQueue, PriorityQueue
from aqueue._tree import Node, Tree, unlink
from aqueue.errors import InvalidArgument, MisplacedCall, PoisonItem, StrayCancellation
from aqueue.events import (
    NO_DATA,
    Counts,
    ItemCompleted,
    ItemDescribed,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemStarted,
    Phase,
    RunStatus,
    RunStopping,
)
from aqueue.item import ItemClass, key_of, look_up_class
from aqueue.result import MAX_LISTED_FAILURES
from aqueue.text import DESCRIPTION_MAX_CHARS, visible, visible_repr

_METHODS: Final[dict[Phase, str]] = {"process": "process", "after_children": "after_children_processed"}

__all__ = ["NO_SHARED", "Engine", "OnError"]

OnError = Literal["stop", "continue"]
"""What the first item that fails for good does: ``stop`` the run gracefully, or let everything else ``continue``."""

SLICE_S: Final = 0.005
"""How long items that never await may keep the event loop to themselves, seconds (and one item a worker more)."""

ROOM_CHECK_EVENTS: Final = 256
"""How many events come between two looks at whether the reporters keep up, while an item's code runs."""

MAX_LIVE_EXCEPTIONS: Final = 100
"""How many of the items' exceptions are kept alive, with the frames that they hold."""

NO_SHARED: Final = object()
"""Stands for what `lifespan` yielded when there is none."""

_NO_ENGINE: Final[Any] = None


class Stage(IntEnum):
    """How far the run has got in stopping."""

    RUNNING = 0
    STOPPING = 1
    CANCELLING = 2
    ENDED = 3


class Attempt(msgspec.Struct, gc=False, eq=False):
    """One attempt at an item: what its code is given, and what `aqueue.current` and the like ask.

    Untracked by the garbage collector, as nodes are. A user's object may keep `enqueue`, and an exception does, in the
    frame that raised it: so when the attempt ends it lets go of all it has, or a cycle would never be found.

    Attributes:
        engine: the engine; None once the attempt has ended, which only `node` is asked about.
        node: the item's node; None once the attempt has ended.
        worker: the worker's number.
        phase: ``process``, or ``after_children`` for the hook.
        deduplicated: how many of its children were dropped because their key was known.
        occurrences: how many new children of each type and payload it has enqueued, by their hash; with a journal.
    """

    engine: "Engine"
    node: Node | None
    worker: int
    phase: Phase
    deduplicated: int = 0
    occurrences: dict[int, int] | None = None

    def enqueue(self, item: Any, /) -> None:
        """Add a child; see `aqueue.Item.process`."""
        engine = self.engine
        parent = self.node
        if parent is None or get_ident() != engine.thread or self.phase != "process":
            self._refuse("enqueue")
        assert parent is not None
        engine.add(item, parent, self)

    def set_desc(self, text: str, /) -> None:
        """Say what the item is doing; see `aqueue.Item.process`."""
        engine = self.engine
        node = self.node
        if node is None or get_ident() != engine.thread:
            self._refuse("set_desc")
        assert node is not None
        if type(text) is not str:
            if not isinstance(text, str):
                raise InvalidArgument(f"set_desc takes a string; {node.cls.type} gave it {visible_repr(text)}")
            text = str.__str__(text)
        if len(text) > DESCRIPTION_MAX_CHARS or not text.isprintable():
            text = visible(text, DESCRIPTION_MAX_CHARS)
        seq = engine.next_seq()
        engine.append(ItemDescribed(seq, monotonic() + engine.clock.offset, node.id, self.worker, text))
        if seq % ROOM_CHECK_EVENTS == 0:
            engine.bus.make_room()

    def _refuse(self, name: str) -> None:
        if self.node is None:
            raise MisplacedCall(f"{name} was called after the process that it was given to had ended")
        raise MisplacedCall(
            f"{name} was called by {self.node.cls.type} from another thread; "
            f"use anyio.from_thread.run_sync({name}, …) there"
        )

    def current(self) -> Current | None:
        """Return the running item, or None once the attempt has ended."""
        node = self.node
        if node is None:
            return None
        return Current(node.id, node.cls.type, node.tries(self.phase), self.phase, self.worker, node.identity.hex())

    def shared(self) -> Any:
        """Return what `lifespan` yielded."""
        engine = self.engine
        if engine is _NO_ENGINE:  # the attempt has ended just now, in another thread
            raise MisplacedCall("aqueue.shared() was called when the item had ended")
        if engine.shared is NO_SHARED:
            raise MisplacedCall("aqueue.shared() gives what lifespan yielded, and this run has no lifespan")
        return engine.shared

    def child_results(self) -> list[Any]:
        """Return the results of the direct children."""
        if self.node is None or self.phase != "after_children":
            raise MisplacedCall("aqueue.child_results() works only inside after_children_processed")
        results = self.node.child_results or {}
        return [decode_result(results[child]) for child in sorted(results)]

    def stop(self, reason: str) -> None:
        """Stop the run gracefully, from any thread."""
        engine = self.engine
        if engine is _NO_ENGINE:
            raise MisplacedCall("aqueue.stop() was called when the item had ended")
        reason = visible(reason, DESCRIPTION_MAX_CHARS)
        if get_ident() == engine.thread:
            engine.stop(reason)
        else:
            engine.call_soon(lambda: engine.stop(reason))


class Engine:
    """Runs items until none is left, or until it is stopped.

    Attributes:
        bus: where every event goes.
        append, next_seq, clock: the bus's own, one step nearer: they are used for every event.
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
        failures: the first failures.
        exceptions: the first exceptions of items, for as many failures.
        last_id: the number of the item that was enqueued last.
        roots: the numbers of the initial items.
        deduplicated_roots: how many initial items were dropped because their key was known.
        recorded_roots: the initial items of earlier processes, until this one's have been added.
        takes_last_first: whether the queue is a stack.
    """

    def __init__(
        self,
        bus: Bus,
        queue: NodeQueue,
        call_soon: CallSoon,
        num_workers: int,
        on_error: OnError,
        ledger: Ledger | None = None,
    ) -> None:
        self.bus = bus
        self.append = bus.append
        self.next_seq = bus.next_seq
        self.clock = bus.clock
        self.tree = Tree(bus, keeps_items=ledger is not None)
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
        self.failures: list[ItemFailed] = []
        self.exceptions: list[Exception] = []
        self.last_id = 0
        self.roots: list[int] = []
        self.recorded_roots: RecordedChildren | None = None
        self.takes_last_first = isinstance(queue, LifoQueue)
        self.keys = KeySet()
        self._ledger = ledger
        self.deduplicated_roots = 0
        self._alone: list[tuple[Node, str]] = []
        self._due: deque[Node] = deque()
        self._is_cautious = False
        self._is_disordered = False
        self._queue = queue
        self._put = queue.put
        self._num_workers = num_workers
        self._on_error = on_error
        self._idle: deque[anyio.Event] = deque()
        self._left: list[Node] = []
        self._is_done = False
        self._slice_end = -1.0  # over before it began; 0.0 while the one who leads is away
        self._latest: Attempt | None = None
        self._cancelled_class: type[BaseException] = anyio.get_cancelled_exc_class()

    # ---- adding items -------------------------------------------------------------------------------------------

    def add(self, item: Any, parent: Node | None, attempt: Attempt) -> None:
        """Announce `item` as a child of `parent`, or as an initial item, and queue it."""
        cls = self.classes.get(type(item))
        if cls is None:
            cls = self._look_up(item)
        if cls.keyed or self._ledger is not None:
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
            self._idle.pop().set()
        if seq % ROOM_CHECK_EVENTS == 0:
            self.bus.make_room()

    def _add_identified(self, item: Any, parent: Node | None, attempt: Attempt, cls: ItemClass) -> None:
        """Do what `add` does for an item that can be known again: by its key, or with a journal by its payload."""
        key = key_of(item, cls.type) if cls.keyed else None
        state, occurrence, identity = b"", 0, b""
        ledger = self._ledger
        if ledger is not None:
            state = ledger.state(item, parent)
            recorded = self.recorded_roots if parent is None else parent.recorded
            if recorded is not None:
                child = recorded.match(cls.type, key, state)
                if child is not None:
                    if child.node is not None:
                        self._adopt(child.node, item, state)
                    return
            if key is None:
                if attempt.occurrences is None:
                    attempt.occurrences = {}
                occurrence = ledger.occurrence(cls.type, state, attempt.occurrences)
                if recorded is not None:
                    occurrence += recorded.total(cls.type, state)
            identity = ledger.identity(parent, cls.type, key, state, occurrence)
        if key is not None and self.keys.knows(cls.names, key):
            attempt.deduplicated += 1
            return
        number = self.last_id + 1
        node = Node(number, item, parent, cls, payload_hash=hash(state), identity=identity)
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
                NO_DATA if ledger is None else msgspec.Raw(state),
            )
        )
        if self._idle:
            self._idle.pop().set()
        if seq % ROOM_CHECK_EVENTS == 0:
            self.bus.make_room()

    def _adopt(self, node: Node, item: Any, state: bytes) -> None:
        """Let `item` take the place of the recorded child of `node`, if that is still to run."""
        if not node.is_held:
            return
        node.item = item
        if node.parent is None:  # it is queued already, in its old place
            self._is_disordered = self._is_disordered or node.payload_hash != hash(state)
        else:
            self._put(node)
            self._after_put()
        node.payload_hash = hash(state)
        node.is_held = False

    def _after_put(self) -> None:
        if self._idle:
            self._idle.pop().set()
        if self.last_id % ROOM_CHECK_EVENTS == 0:
            self.bus.make_room()

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
            self.add(item, None, roots)
            self.deduplicated_roots = roots.deduplicated
            if monotonic() > slice_end:
                await checkpoint()
                await self.bus.wait_for_room()
                slice_end = monotonic() + SLICE_S

    def _end_initial(self) -> None:
        self._run_unrepeated(self.recorded_roots, "the caller")
        self.recorded_roots = None
        if self._is_disordered and isinstance(self._queue, PriorityQueue):
            # An item that is the same by its key, but not the same otherwise, may belong in another place.
            for node in [self._queue.take() for _ in range(len(self._queue))]:
                self._put(node)

    def _run_unrepeated(self, recorded: RecordedChildren | None, parent: str) -> None:
        """Queue the recorded children that their parent did not enqueue again (the caller's are queued already)."""
        left = sorted(
            (child.node for child in recorded or () if child.node is not None and child.node.is_held),
            key=lambda node: node.id,
        )
        for node in left:
            if node.parent is not None:
                self.queue_again(node)
                self._after_put()
            node.is_held = False
        if left:
            warn(
                f"{parent} did not enqueue {len(left):,} of its recorded items again (item {left[0].id}, "
                f"{left[0].cls.type}, is the first); they run as they were recorded"
            )

    def _look_up(self, item: Any) -> ItemClass:
        cls = self.known_class(look_up_class(item))
        # A process on the instance alone says nothing about the next object of that class.
        if hasattr(type(item), "process"):
            self.classes[type(item)] = cls
        return cls

    def known_class(self, found: ItemClass) -> ItemClass:
        """Return the class that looks like `found`, which may be `found` itself: to every reader they are one."""
        looks = (found.names, found.track_overall, found.hook, found.all_done, found.keyed)
        return self._known.setdefault(looks, found)

    # ---- going on with a recorded run ---------------------------------------------------------------------------

    def class_named(self, type: str, track_overall: bool) -> ItemClass:
        """Return what is known about the class called `type`, for counting only."""
        for cls in self._known.values():
            if cls.type == type:
                return cls
        return self.known_class(ItemClass(type, track_overall=track_overall, hook=False, all_done=False))

    def queue_again(self, node: Node) -> None:
        """Queue a recorded node."""
        self._put(node)

    def end_again(self, node: Node) -> None:
        """Go on from a recorded node whose `process` and children have ended."""
        self._queue_due(self.tree.ascend(node, self.bus.now()))

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
        bus = self.bus
        bus.append(RunStopping(bus.next_seq(), bus.now(), reason, cancel))
        bus.may_pause = False
        if cancel:
            bus.may_block = False
            if self.scope is not None:
                self.scope.cancel()
        self._wake_all()
        bus.wake_waiting()

    def _wake_all(self) -> None:
        while self._idle:
            self._idle.pop().set()

    # ---- running ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run all items; returns when nothing is left, or when the run has been stopped and the running ones ended."""
        outer = self.scope
        try:
            async with anyio.create_task_group() as workers:
                self.scope = workers.cancel_scope
                if self.stage is Stage.CANCELLING:
                    return
                await self._run_alone()
                for worker in range(1, self._num_workers + 1):
                    workers.start_soon(self._start_worker, worker, name=f"aqueue worker {worker}")
            if self.stage is Stage.CANCELLING:
                # Workers end quietly when they are cancelled, and then trio's nursery doesn't say that it was, too.
                await checkpoint_if_cancelled()
        finally:
            self.scope = outer

    def unlink_all(self) -> None:
        """Cut the links between the nodes that are left, once nothing will run any more."""
        unlink(self._left)
        unlink(self._due)
        unlink(node for node, _ in self._alone)
        unlink(self._queue)

    async def _run_alone(self) -> None:
        """Run the items that may have crashed the process, one by one, with nothing beside them.

        Each start is committed, so that the next crash tells which it was. After several crashes in a row that goes on to
        the process's end: an item that ends the process at once may be another, whose start no crash has left on record.
        """
        goes_on = self._is_cautious
        self._is_cautious = True
        worker = 1
        while self._alone and self.stage is Stage.RUNNING:
            node, poison = self._alone.pop(0)
            if poison:
                self._fail_poison(node, worker, poison)
            elif not node.is_ended:
                await self._work(worker, deque([node]).popleft, None)
            else:
                await self._run_hooks(self.tree.ascend(node, self.bus.now()), worker)
        self._is_cautious = goes_on

    def _fail_poison(self, node: Node, worker: int, why: str) -> None:
        bus = self.bus
        phase: Phase = "after_children" if node.is_ended else "process"
        now = bus.now()
        bus.append(ItemStarted(bus.next_seq(), now, node.id, node.cls.type, worker, phase, node.tries(phase)))
        error = PoisonItem(f"item {node.id} ({node.cls.type}) {why}")
        if phase == "after_children":
            node.cls.completed -= 1
        self._fail(error, node, worker, now, phase)
        if phase == "process":
            self._run_unrepeated(node.recorded, f"item {node.id}")
            self._queue_due(self.tree.end_process(node, bus.now()))
        else:
            self._queue_due(self.tree.end_hook(node, NO_DATA))

    def _queue_due(self, due: Node | None) -> None:
        if due is not None:
            self._due.append(due)

    async def _start_worker(self, worker: int) -> None:
        while self._due and self.stage is Stage.RUNNING:
            await self._run_hooks(self._due.popleft(), worker)
        await self._work(worker, self._queue.take, self._wait_for_item)

    async def _work(
        self, worker: int, take: Callable[[], Node], wait_for_item: Callable[[], Awaitable[bool]] | None
    ) -> None:
        """Take items and run them, one after the other, until none is left or the run is stopped.

        What an ordinary item costs is written out here, over local names and with one reading of the clock for the
        end of an item and the start of the next; what is rare has a method of its own.
        """
        append = self.append
        next_seq = self.next_seq
        clock = self.clock
        events = self.bus.events
        end_process = self.tree.end_process
        running = Stage.RUNNING
        ledger = self._ledger
        is_cautious = self._is_cautious
        now = self.bus.now()
        while self.stage is running:
            try:
                node = take()
            except IndexError:
                if wait_for_item is not None and await wait_for_item():
                    now = self.bus.now()
                    continue
                return
            except BaseException as error:  # a comparison of items is the user's code
                self._break(error, "items could not be ordered", cancel=not isinstance(error, Exception))
                return
            cls = node.cls
            attempt = Attempt(self, node, worker, "process")
            running_attempt.set(attempt)
            self._latest = attempt
            started = now
            append(ItemStarted(next_seq(), started, node.id, cls.type, worker, "process", node.attempt))
            try:
                if is_cautious:
                    await self._save_start()
                result = await node.item.process(attempt.enqueue, attempt.set_desc)
                attempt.node = attempt.engine = _NO_ENGINE
                if result is not None:
                    node.result = encode_result(result, cls.type)
                state = NO_DATA
                if ledger is not None and (cls.hook or node.has_children):
                    state = ledger.changed_state(node)
            except BaseException as error:
                attempt.node = attempt.engine = _NO_ENGINE
                if self._is_interrupted(error, node, "process"):
                    return
                now = self._fail(error, node, worker, started, "process", attempt.deduplicated)
            else:
                now = monotonic() + clock.offset
                cls.completed += 1
                append(
                    ItemCompleted(
                        next_seq(),
                        now,
                        node.id,
                        worker,
                        now - started,
                        node.attempt,
                        attempt.deduplicated,
                        node.result,
                        state,
                    )
                )
                cls.deduplicated += attempt.deduplicated
            if node.recorded is not None:
                self._run_unrepeated(node.recorded, f"item {node.id} ({cls.type})")
                node.recorded = None
            due = end_process(node, now)
            if due is not None:
                await self._run_hooks(due, worker, node)
                now = self.bus.now()
            if now > self._slice_end:
                await self._give_way(attempt)
                now = self.bus.now()
            if len(events) > SOFT_LIMIT_EVENTS:
                await self.bus.wait_for_room()
                now = self.bus.now()

    async def _save_start(self) -> None:
        """Wait until the start of an attempt is committed, and before that, as between items, for slow reporters."""
        await self.bus.wait_for_room()
        await self.bus.saved()

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
            await self.bus.wait_for_room()
        except BaseException:  # cancelled
            self._left.append(node)
            raise
        return self.tree.ascend(node, self.bus.now())

    async def _wait_for_item(self) -> bool:
        """Sleep until an item may be there; return False if none will ever come."""
        if len(self._idle) + 1 == self._num_workers:
            # Nothing is queued, and nobody is running who could enqueue more.
            self._is_done = True
            self._wake_all()
        if self._is_done:
            return False
        event = anyio.Event()
        self._idle.append(event)
        await event.wait()
        return True

    async def _give_way(self, attempt: Attempt) -> None:
        """Let everything else in the loop run, if `attempt`, which has ended, has not done so by awaiting.

        The first to find the time slice used up leads: until it is back, the others run one item each, and then it
        begins the next slice. So one round of the loop takes one slice and one item a worker, however many there are.
        """
        leads = self._slice_end != 0.0
        if leads and self._latest is not attempt:
            # Other attempts were started during this one, so it has awaited: a new slice begins. Without this, of 200
            # workers that wake at one time each would go round the loop once more for every item.
            self._slice_end = self.bus.now() + SLICE_S
            return
        self._slice_end = 0.0
        await checkpoint()
        if leads:
            self._slice_end = self.bus.now() + SLICE_S

    async def _run_hook(self, node: Node, worker: int) -> Node | None:
        """Run the hook of `node`'s item, and return the node whose hook is due next, if any."""
        bus = self.bus
        cls = node.cls
        attempt = Attempt(self, node, worker, "after_children")
        running_attempt.set(attempt)
        self._latest = attempt
        started = bus.now()
        bus.append(ItemStarted(bus.next_seq(), started, node.id, cls.type, worker, "after_children", node.hook_attempt))
        result = NO_DATA
        if self._ledger is not None:
            self._ledger.check_unchanged(node)
        try:
            if self._is_cautious:
                await self._save_start()
            # None where the class had a hook when the item was enqueued, and a resumed run's class has not.
            hook = getattr(node.item, "after_children_processed", None)
            value = None if hook is None else await hook()
            attempt.node = attempt.engine = _NO_ENGINE
            if value is not None:
                result = encode_result(value, cls.type)
        except BaseException as error:
            attempt.node = attempt.engine = _NO_ENGINE
            if self._is_interrupted(error, node, "after_children"):
                return None
            cls.completed -= 1
            self._fail(error, node, worker, started, "after_children")
        due = self.tree.end_hook(node, result)
        try:
            if bus.now() > self._slice_end:  # a chain of hooks is a chain of items' code, too
                await self._give_way(attempt)
            if bus.is_crowded:
                await bus.wait_for_room()
        except BaseException:  # cancelled
            if due is not None:
                self._left.append(due)
            raise
        return due

    # ---- when an item raises ------------------------------------------------------------------------------------

    def _is_interrupted(self, error: BaseException, node: Node, phase: Phase) -> bool:
        """Tell whether `error` means that the attempt was cut short; if so, record that, and take no more items."""
        cancelled = isinstance(error, self._cancelled_class)
        asked = self.stage is Stage.CANCELLING or anyio.current_effective_deadline() == float("-inf")
        is_ordinary = cancelled or isinstance(error, Exception) or self._is_cancelled_group(error)
        if is_ordinary and not asked:
            return False
        if not is_ordinary:
            self._break(error, f"{node.cls.type} raised {type(error).__qualname__}", cancel=True)
        bus = self.bus
        node.cls.interrupted += 1
        bus.append(ItemInterrupted(bus.next_seq(), bus.now(), node.id, phase, node.tries(phase)))
        self._left.append(node)
        # A cancellation from outside says nothing to the engine itself: take nothing more.
        self.stage = Stage.CANCELLING
        return True

    def _is_cancelled_group(self, error: BaseException) -> bool:
        if not isinstance(error, BaseExceptionGroup):
            return False
        rest = error.split(self._cancelled_class)[1]
        return rest is None or isinstance(rest, Exception)

    def _fail(
        self, error: BaseException, node: Node, worker: int, started: float, phase: Phase, deduplicated: int = 0
    ) -> float:
        """Record that `node`'s item failed for good, and return when."""
        bus = self.bus
        cls = node.cls
        what = f"item {node.id} ({cls.type})"
        if error.__traceback__ is not None:
            # The frame above the item's code is the engine's. Not by assignment: a frozen dataclass refuses that.
            error.with_traceback(error.__traceback__.tb_next)
        if not isinstance(error, Exception):
            stray = StrayCancellation(f"{what} was cancelled, but not by aqueue: did it await something cancelled?")
            stray.__cause__ = error
            error = stray
        now = bus.now()
        failure = ItemFailed(
            bus.next_seq(),
            now,
            node.id,
            cls.type,
            worker,
            now - started,
            error_info(error),
            phase,
            node.tries(phase),
            deduplicated,
        )
        cls.deduplicated += deduplicated
        bus.append(failure)
        cls.failed += 1
        node.failed = node.subtree_failed = True
        node.result = NO_DATA
        if len(self.failures) < MAX_LISTED_FAILURES:
            self.failures.append(failure)
        if len(self.exceptions) < MAX_LIVE_EXCEPTIONS:
            note = f"aqueue: raised by {what} in {_METHODS[phase]}"
            try:
                error.add_note(note)
            except Exception:  # a frozen dataclass refuses that, too
                vars(error)["__notes__"] = [note]
            self.exceptions.append(error)
        if self._on_error == "stop":
            self.stop(f"{what} failed")
        return bus.now()

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
        by_failure = self.failures and self._on_error == "stop"
        if self.tree.open_roots and not by_failure:
            return "interrupted"
        return "failed" if self.failures or self.error is not None else "completed"
