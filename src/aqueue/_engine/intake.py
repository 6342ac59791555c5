"""What happens to an enqueued item: it is announced and queued, dropped as a duplicate, or matched with a recorded item."""

from array import array
from collections.abc import Iterable
from time import monotonic
from typing import Any

import msgspec
from anyio.lowlevel import checkpoint

from aqueue._codec.digests import KEPT_STATE_BYTES, KeySet, Occurrences, state_or_digest
from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.attempt import ROOM_CHECK_EVENTS, Attempt, EarlierAttempts, EngineForItems
from aqueue._engine.class_registry import ClassRegistry
from aqueue._engine.dispatcher import Dispatcher
from aqueue._engine.item_class import ItemClass, key_of
from aqueue._engine.payloads import Payloads
from aqueue._engine.places import Execution
from aqueue._engine.recorded_child import RecordedChild
from aqueue._engine.restored_run import RestoredRun
from aqueue._engine.stopping import Stage, Stopping
from aqueue._engine.tree import JournaledNode, Node, Tree
from aqueue._engine.turns import SLICE_S
from aqueue._stream.event_stream import EventStream
from aqueue._system.notice import warn
from aqueue.events import NO_DATA, ItemAdopted, ItemEnqueued

__all__ = ["Intake"]


class Intake:
    """Takes initial items from the program, and children from running items.

    Attributes:
        last_id: the number of the latest item.
        first_ids: the number of the first item that each process enqueued, or would have: edits come between two of them.
        roots: the numbers of this process's initial items, recorded or new, in order; 0 for a dropped duplicate.
        deduplicated_roots: how many initial items were dropped as duplicates.
        recorded_roots: the initial items of earlier processes; None once all of this process's have been added.
        keys: all keys that were ever enqueued.
        is_asking: whether the iterator of the initial items is running right now.
        has_all_initial: whether all initial items have been added.
    """

    def __init__(
        self,
        stream: EventStream,
        tree: Tree,
        stopping: Stopping,
        dispatcher: Dispatcher,
        classes: ClassRegistry,
        payloads: Payloads | None,
    ) -> None:
        """Start without items.

        Parameters:
            stream: where the events go.
            tree: gets the new nodes.
            stopping: whether more initial items are taken.
            dispatcher: queues the new nodes.
            classes: what is known about each class.
            payloads: what is recorded of items; None without a journal.
        """
        self.last_id = 0
        self.first_ids = [1]
        self.roots = array("q")
        self.deduplicated_roots = 0
        self.recorded_roots: RecordedChildren | None = None
        self.keys = KeySet()
        self.is_asking = False
        self.has_all_initial = False
        self._is_disordered = False
        self._stream = stream
        self._tree = tree
        self._stopping = stopping
        self._dispatcher = dispatcher
        self._retries = dispatcher.retries
        self._classes = classes
        self._by_type = classes.by_type
        self._payloads = payloads

    def restore(self, run: RestoredRun) -> None:
        """Continue the numbering, the keys and the initial items of a recorded run."""
        self.last_id = run.last_id
        self.first_ids = [*run.first_ids, run.last_id + 1]
        self.keys = run.keys
        self.roots = run.roots
        self.deduplicated_roots = run.deduplicated_roots
        self.recorded_roots = run.recorded_roots

    # ---- one item -----------------------------------------------------------------------------------------------

    def add(self, item: Any, parent: Node | None, attempt: Attempt) -> None:
        """Announce and queue `item`, a child of `parent` or an initial item, unless it is a duplicate or a recorded one."""
        cls = self._by_type.get(type(item))
        if cls is None:
            cls = self._classes.look_up(item)
        key = None
        kept = identity = b""
        occurrence = 0
        payload = NO_DATA
        number = self.last_id + 1
        if cls.keyed or self._payloads is not None:
            identified = self._identify(item, parent, attempt, cls)
            if identified is None:
                return
            key, kept, occurrence, identity, payload = identified
        if self._payloads is None:
            node = Node(number, item, parent, cls)
        else:
            node = JournaledNode(number, item, parent, cls, state=kept, occurrence=occurrence, identity=identity)
        stream, dispatcher = self._stream, self._dispatcher
        group = dispatcher.put(node)  # raises if the item can't be compared, before it is announced
        self.last_id = number
        cls.enqueued += 1
        if parent is None:
            self.roots.append(number)
            self._tree.open_roots += 1
            parent_id = 0
        else:
            parent.pending += 1
            parent.has_children = True
            parent_id = parent.id
        if key is not None:
            self.keys.add(cls.type, key)
        if dispatcher.idle:
            dispatcher.wake_one()
        if not stream.is_heard:
            return
        seq = stream.next_seq()
        now = monotonic() + stream.clock.offset
        stream.append(
            ItemEnqueued(
                seq, now, number, parent_id, cls.type, cls.track_overall, key, cls.hook, occurrence, payload, group
            )
        )
        if seq % ROOM_CHECK_EVENTS == 0:
            stream.make_room()

    def _identify(
        self, item: Any, parent: Node | None, attempt: Attempt, cls: ItemClass
    ) -> tuple[str | None, bytes, int, bytes, msgspec.Raw] | None:
        """Return what identifies `item`; None if it is a duplicate, or if a recorded item has adopted it.

        Returns:
            Its key; the state that its node keeps; how many equal children its parent had before; its identity, if that can't
            be computed later; its payload.
        """
        key = key_of(item, cls.type) if cls.keyed else None
        kept, occurrence, identity, payload = b"", 0, b"", NO_DATA
        payloads = self._payloads
        if payloads is not None:
            state = payloads.state(item, parent)
            recorded = self.recorded_roots if parent is None else parent.recorded
            if recorded is not None:
                payloads.refuse_too_long(state, cls.type)  # before `match` removes the child
                child = recorded.match(cls.type, key, state)
                if child is not None:
                    if parent is None:
                        self.roots.append(child.id)
                    self._adopt(recorded, child, item, state, key, cls)
                    return None
            kept = state if len(state) <= KEPT_STATE_BYTES else payloads.keep_long(state, cls.type)
            payload = msgspec.Raw(state)
            if key is None:
                if attempt.occurrences is None:
                    attempt.occurrences = Occurrences()
                occurrence = attempt.occurrences.count(cls.type, kept)
                if recorded is not None:
                    occurrence += recorded.total(cls.type, state)
                if kept is not state:
                    identity = payloads.identity_of_long(parent, cls.type, state, occurrence)
            else:
                identity = payloads.identity_of_keyed(cls.type, key)
        if key is not None and self.keys.knows(cls.names, key):
            attempt.deduplicated += 1
            return None
        return key, kept, occurrence, identity, payload

    def add_repeatable(self, item: Any, parent: Node, attempt: Attempt) -> None:
        """Do what `add` does, for a child of an item that may be retried.

        A child that an earlier attempt enqueued isn't announced again. It is the same child if type and key are the same;
        without a key, if type and payload are the same, the first of several equal children matching the first.

        Raises:
            ChildrenNotComparable: whether it is the same child can't be decided.
        """
        cls = self._by_type.get(type(item))
        if cls is None:
            cls = self._classes.look_up(item)
        earlier = attempt.earlier
        if earlier is None:
            earlier = attempt.earlier = EarlierAttempts()
        payloads = self._payloads
        key = key_of(item, cls.type) if cls.keyed else None
        state = b"" if payloads is None or key is not None else payloads.state(item, parent)
        child, likes = self._retries.child_digests(item, parent, cls, key, state, earlier)
        if earlier.unmatched:
            left = earlier.unmatched.get(child, 0)
            if left:
                earlier.unmatched[child] = left - 1
                if likes:
                    earlier.unmatched[likes] -= 1
                recorded = parent.recorded
                # Count it, so that the next equal child is the second. `recorded` counts adopted children itself.
                if (
                    payloads is not None
                    and key is None
                    and (recorded is None or left > recorded.total(cls.type, state))
                ):
                    if attempt.occurrences is None:
                        attempt.occurrences = Occurrences()
                    attempt.occurrences.count(cls.type, state_or_digest(state))
                return
        dropped = attempt.deduplicated
        self.add(item, parent, attempt)
        if attempt.deduplicated == dropped:
            earlier.children += child
            earlier.children += likes

    def _adopt(
        self, recorded: RecordedChildren, child: RecordedChild, item: Any, state: bytes, key: str | None, cls: ItemClass
    ) -> None:
        """Let `item` take the place of the recorded `child`, if that has not run yet."""
        node, child.node = child.node, None  # or the node would live as long as `recorded`
        new_key = key if key is not None and child.key is None and not self.keys.knows(cls.names, key) else None
        if new_key is not None:
            self.keys.add(cls.type, new_key)
        if node is None or not node.is_held:
            if new_key is not None:
                self._stream.emit(ItemAdopted, child.id, cls.type, key=new_key)
            return
        assert self._payloads is not None
        is_changed = new_key is not None or recorded.has_changed(child, cls.type, state)
        kept = self._payloads.keep_long(state, node.cls.type) if is_changed else state_or_digest(state)  # may raise
        node.item = item
        if node.parent is None:  # it is in the queue, where it was recorded
            self._is_disordered = self._is_disordered or node.state != kept
        else:
            self._dispatcher.put_recorded(node)
            self._after_put()
        if is_changed:
            self._stream.emit(ItemAdopted, node.id, node.cls.type, msgspec.Raw(state), new_key)
        node.state = kept
        node.is_held = False
        self._restore_holders(node)

    def _restore_holders(self, node: Node) -> None:
        """Decode the recorded items that refer to the item of `node` once more, now that its final object is known.

        Below an initial item they are queued already, like that item. The others have waited for this, and are queued now.
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
                    self._dispatcher.wake_one()
            else:
                self._dispatcher.put_recorded(holder)
                self._after_put()

    def end_again(self, node: Node) -> None:
        """Continue a recorded node whose `process` and children have ended: run its hook, at once or when its retry is due."""
        if not self._retries.wait_if_not_due(node, "after_children"):
            self._dispatcher.put_due(self._tree.ascend(node, self._stream.now()))

    def _after_put(self) -> None:
        self._dispatcher.wake_one()
        if self.last_id % ROOM_CHECK_EVENTS == 0:
            self._stream.make_room()

    async def add_initial(self, items: Iterable[Any], engine: EngineForItems, execution: Execution | None) -> None:
        """Add all initial items; stop early if the run stops.

        Parameters:
            items: the initial items of the program.
            engine: for the attempt that stands for the program as their parent.
            execution: where `process` runs, which may refuse an item; None for here.
        """
        slice_end = monotonic() + SLICE_S
        roots = Attempt(engine, None, 0, "process", self.deduplicated_roots)
        self.is_asking = True
        try:
            iterator = iter(items)
        finally:
            self.is_asking = False
        while self._stopping.stage is Stage.RUNNING:
            self.is_asking = True
            try:
                item = next(iterator)
            except StopIteration:
                self._end_initial()
                return
            finally:
                self.is_asking = False
            if execution is not None:
                if type(item) not in self._by_type:
                    self._classes.look_up(item)
                execution.check(item)
            self.add(item, None, roots)
            if roots.deduplicated > self.deduplicated_roots:
                self.deduplicated_roots = roots.deduplicated
                self.roots.append(0)
            if monotonic() > slice_end:
                await checkpoint()
                await self._stream.wait_for_room()
                slice_end = monotonic() + SLICE_S

    def _end_initial(self) -> None:
        self.has_all_initial = True
        self._run_unrepeated(self.recorded_roots, "")
        self.recorded_roots = None
        if self._is_disordered:
            # An adopted item with the same key, but other attributes, may have another priority or group.
            self._dispatcher.reorder()

    def end_recorded(self, node: Node, *, name_others: bool) -> None:
        """Queue the recorded children that `node` didn't enqueue again. `name_others`: warn of new ones in their place."""
        recorded = node.recorded
        if recorded is not None:
            self._tree.earlier_results.pop(node.id, None)
            parent = f"item {node.id} ({node.cls.type})"
            self._run_unrepeated(recorded, parent)
            if name_others:
                recorded.name_others(parent)
            node.recorded = None

    def _run_unrepeated(self, recorded: RecordedChildren | None, parent: str) -> None:
        """Queue the recorded children that `parent`, as messages call it, didn't enqueue again, and warn of them.

        For initial items `parent` is empty: they are queued already, and the line about the resume names them.
        """
        left = sorted(
            ((child.node, child.state) for child in recorded or () if child.node is not None and child.node.is_held),
            key=lambda one: one[0].id,
        )
        for node, state in left:
            if self._payloads is not None:
                self._payloads.restore(node, state)
            if node.parent is not None:
                self._dispatcher.put_recorded(node)
                self._after_put()
            node.is_held = False
            self._restore_holders(node)
        if left and parent:
            first, _ = left[0]
            when = "" if self._stopping.stage is Stage.RUNNING else " when the run is resumed"
            warn(
                f"{parent} did not enqueue {len(left):,} of its recorded children again (the first is item {first.id}, "
                f"{first.cls.type}); they run as recorded{when}"
            )
