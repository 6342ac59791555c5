"""Reopens items that have ended, so that they run again: their ancestors first wait for them, and then run their hooks once more.

Most of them have no object any more: it is read back from the journal, as a resume would do it. So are the children that the item has
enqueued, which it will enqueue again.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from time import monotonic

from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.changed_classes import ChangedClasses
from aqueue._engine.ended_children import Announced, EndedChildren
from aqueue._engine.lines import BLOCK_ITEMS
from aqueue._engine.parts import Parts
from aqueue._engine.recorded_child import RecordedChild
from aqueue._engine.search import Step
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import CLOSED, Node
from aqueue._engine.turns import SLICE_S
from aqueue._stream.item_facts import ItemFacts
from aqueue.events import NO_DATA, Event, ItemAdopted, ItemCompleted, ItemEnqueued, ItemReopened, Phase

__all__ = ["Reopening"]


class Reopening:
    """Reopens items.

    Attributes:
        has_to_read: whether objects of reopened items are to be read.
    """

    def __init__(self, parts: Parts) -> None:
        """Change the items in `parts`."""
        self._parts = parts
        self._tree = parts.tree
        self._stream = parts.stream
        self._dispatcher = parts.dispatcher
        self._unread: list[tuple[Node, Phase]] = []
        self._unread_above: list[tuple[Node, Phase]] = []  # to which items may refer that are read
        self._changes: ChangedClasses | None = None

    @property
    def has_to_read(self) -> bool:
        return bool(self._unread or self._unread_above)

    def reopen(self, node: Node) -> None:
        """Let the item of `node`, which is failed, run again, and the hooks above it."""
        phase = self._parts.failures.phase_of(node.id)
        was_closed = node.pending == CLOSED
        self.take_back(node)
        node.cls.failed -= 1
        if phase == "process":
            node.attempt += 1
            node.pending = 1 if was_closed else node.pending + 1
        else:
            node.cls.completed += 1
            node.hook_attempt += 1
            node.pending = 0 if was_closed else node.pending
        group = node.group if phase == "process" else None
        self._stream.emit(ItemReopened, node.id, node.cls.type, phase, group)
        if was_closed:
            self.open_above(node)
        self._run_again(node, phase)

    def take_back(self, node: Node) -> None:
        """Let the item of `node` count as failed no longer."""
        self._parts.failures.take_back(node.id)
        del self._tree.failed[node.id]
        node.failed = False
        node.num_failed -= 1

    def open_above(self, node: Node, *, had_failed: bool = True, topmost_first: bool = False) -> None:
        """Open the ancestors of `node`, which was closed, or is new.

        Parameters:
            node: the node.
            had_failed: whether it, or something below it, was failed.
            topmost_first: in which order they are opened.
        """
        opened = self._tree.open_above(node, had_failed=had_failed)
        for above, was_closed in reversed(opened) if topmost_first else opened:
            self.withdraw_hook(above)
            if above.failed:
                continue
            if was_closed or above.cls.hook:
                self._stream.emit(ItemReopened, above.id, above.cls.type, skipped=above.cls.is_skipped)
            if above.item is None and self._parts.stopping.stage is Stage.RUNNING:
                self._read_later(above, "after_children")

    def withdraw_hook(self, node: Node) -> None:
        """Let the hook of `node`, if it is due, not run yet."""
        self._dispatcher.withdraw_hook(node)
        self._parts.suspects.remove(node)

    def _run_again(self, node: Node, phase: Phase) -> None:
        dispatcher = self._dispatcher
        if self._parts.stopping.stage is not Stage.RUNNING:
            dispatcher.left.append((node, phase))
        elif node.item is None or (phase == "process" and node.has_children):
            self._read_later(node, phase)
        elif phase == "process":
            dispatcher.put_reopened(node)
        elif not node.pending:
            dispatcher.put_due(node)
            dispatcher.wake_one()

    # ---- objects that are read back -----------------------------------------------------------------------------

    def _read_later(self, node: Node, phase: Phase) -> None:
        if phase == "after_children":
            node.pending += 1  # so that its hook isn't due before
        self._dispatcher.opening[node.id] = node, phase
        (self._unread if phase == "process" else self._unread_above).append((node, phase))

    def read(self) -> Iterator[Step]:
        """Read the objects of reopened items, and let them run."""
        # A node leaves this as soon as it runs: to free 100,000 at the end takes 50 ms, in which nothing else can run.
        unread = deque(sorted(self._unread_above, key=lambda one: one[0].id) + self._unread)
        self._unread, self._unread_above = [], []
        while unread:
            part = [unread.popleft() for _ in range(min(BLOCK_ITEMS, len(unread)))]
            events: list[Event] = []
            forgetful: list[int] = []
            yield partial(self._ask, part, events, forgetful)
            facts: Mapping[int, ItemFacts] | Exception = {}
            if forgetful:
                facts = yield from self.read_facts(forgetful)
            if isinstance(facts, Exception):
                if self._parts.stopping.stage is not Stage.ENDED:
                    self._parts.stopping.fail(facts, "the journal can't be read", cancel=True)
                return
            yield from self._put(part, events, facts)

    def read_facts(self, numbers: Sequence[int]) -> Generator[Step, None, Mapping[int, ItemFacts] | Exception]:
        """Read the facts of these items and of their ancestors, and return them, or why they can't be read; only with a journal."""
        read: list[Mapping[int, ItemFacts] | Exception] = []

        def ask(then: Callable[[], None]) -> None:
            def on_read(facts: Mapping[int, ItemFacts] | Exception) -> None:
                read.append(facts)
                then()

            assert self._parts.read_facts is not None
            self._parts.read_facts(numbers, on_read)

        yield ask
        return read[0]

    def _ask(
        self, part: list[tuple[Node, Phase]], events: list[Event], forgetful: list[int], then: Callable[[], None]
    ) -> None:
        """Read what is needed for these nodes, put it into `events`, and call `then`; `forgetful` needs more."""

        def on_read(found: list[Event], more: set[int]) -> None:
            events.extend(found)
            forgetful.extend(more)
            then()

        parents = [node.id for node, phase in part if phase == "process" and node.has_children]
        assert self._parts.read_again is not None
        self._parts.read_again([node.id for node, _ in part], parents, on_read)

    def _put(
        self, part: list[tuple[Node, Phase]], events: list[Event], facts: Mapping[int, ItemFacts]
    ) -> Iterator[Step]:
        """Let these nodes run, about which `events` tell all that is needed."""
        numbers = {node.id for node, _ in part}
        announced: dict[int, ItemEnqueued] = {}
        states: dict[int, bytes] = {}
        children: defaultdict[int, list[ItemEnqueued]] = defaultdict(list)
        for event in sorted(events, key=lambda event: event.seq):
            match event:
                case ItemEnqueued():
                    children[event.parent].append(event)
                    if event.item in numbers:
                        announced[event.item] = event
                        states.setdefault(event.item, bytes(event.payload))
                case ItemAdopted() | ItemCompleted() if event.item in numbers and event.payload is not NO_DATA:
                    states[event.item] = bytes(event.payload)
                case _:
                    pass
        end = monotonic() + SLICE_S
        for node, phase in part:
            if self._dispatcher.opening.pop(node.id, None) is not None:  # nobody has skipped or cancelled it meanwhile
                of_node = children.get(node.id, ())
                enqueued = [(one.item, one.type, one.key, bytes(one.payload)) for one in of_node]
                if node.id in facts:
                    enqueued = facts[node.id].announced_children
                self._restore(node, phase, announced[node.id], states[node.id], enqueued)
            if monotonic() > end:
                yield None
                end = monotonic() + SLICE_S
        self._dispatcher.wake_all()

    def _restore(
        self, node: Node, phase: Phase, event: ItemEnqueued, state: bytes, children: Sequence[Announced]
    ) -> None:
        payloads, classes = self._parts.payloads, self._parts.classes
        assert payloads is not None
        try:
            if node.item is None:
                node.item = payloads.decode(event.type, state, node.parent)
                if not node.cls.is_skipped:
                    node.cls = classes.announced_as(
                        node.item, event.type, track_overall=event.track_overall, hook=event.hook
                    )
        except Exception as error:  # its class isn't there, or can't take the state
            if phase == "process" or node.cls.hook:
                self._parts.outcomes.fail_waiting(error, node, phase, node.group if phase == "process" else None)
        if phase == "process" and not node.failed:
            if children:
                node.recorded = self.recorded((), children)
                node.cls.is_plain = False
            self._dispatcher.put_reopened(node)
            return
        node.pending -= 1
        if not node.pending:
            self._dispatcher.put_due(self._tree.ascend(node, self._stream.now()))

    def recorded(
        self, waiting: Sequence[tuple[str, RecordedChild]], others: Sequence[Announced], *, is_rerun: bool = False
    ) -> RecordedChildren:
        """Return what recognizes the children of an item when it enqueues them again.

        Parameters:
            waiting: the children that wait for this, each with its class as recorded.
            others: the announcements of all others, which stay as they are. They are kept until the item's `process` has ended:
                its class may have other attributes than they have.
            is_rerun: whether the item had completed before.
        """
        payloads = self._parts.payloads
        assert payloads is not None
        type_today = payloads.codec.type_today
        if self._changes is None:
            self._changes = ChangedClasses(payloads.codec, self._parts.intake.keys, self._parts.intake.first_ids)
        announced = [(item, type_today(type), key, payload) for item, type, key, payload in others]
        children = [(type_today(type), child) for type, child in waiting]
        return RecordedChildren(children, self._changes, EndedChildren(lambda: announced), is_rerun=is_rerun)
