"""The tree of live items: who waits for whom, when a subtree has ended, and which hook is due then.

A node counts its unfinished children; nothing is ever scanned, and nothing recurses, so an item costs the same in a
chain 100,000 deep as among a million siblings. A subtree that has ended is unlinked at once.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from aqueue._codec.class_names import type_name
from aqueue._engine.item_class import ItemClass
from aqueue._stream.event_stream import EventStream
from aqueue.errors import ItemsNotComparable
from aqueue.events import NO_DATA, ItemChildrenFailed, ItemChildrenProcessed, Phase

__all__ = ["Node", "Results", "Tree", "give_result", "unlink"]


MAX_CLOSED_AT_ONCE: Final = 1_000
"""How many nodes of a chain are closed before everything else in the event loop gets its turn: about 1 ms."""


Results = dict[int, msgspec.Raw]
"""What items returned, as JSON, by their numbers."""


class Node(msgspec.Struct, gc=False, eq=False):
    """A live item's place in the tree.

    Kept out of the garbage collector: a million tracked nodes make one full collection take a quarter of a second.
    Nodes point only upwards, and `unlink` undoes that before the last of them goes, since freeing a long chain of
    untracked objects recurses in C.

    Attributes:
        id: the item's number.
        item: the user's object; None once no hook needs it.
        parent: the node of the item that enqueued it; None for an initial item and once it is unlinked.
        cls: what is known about the item's class.
        state: its state as last recorded, with a journal; see `aqueue._codec.digests.state_or_digest`.
        occurrence: how many earlier children of its parent were of the same type and state, with a journal.
        identity: a digest that is the same in every rerun, with a journal; empty until `aqueue._engine.payloads.Payloads.identity`
            is asked for it.
        pending: its own `process`, as 1 until that has ended, and its children that have not ended.
        has_children: whether it ever enqueued one.
        failed: whether its own `process` or hook failed.
        subtree_failed: whether it or a descendant failed.
        attempt: which try of its `process` is next or running, from 1.
        hook_attempt: which try of its hook is.
        recorded: the children that an earlier attempt enqueued (`aqueue._engine.adoption.RecordedChildren`), while it runs
            again; else None.
        is_held: whether it waits, after a resume, for its parent to enqueue it again.
        is_ended: whether its `process` had completed before a resume.
        result: what it returned, as JSON.
        child_results: its children's results by their numbers, if it has a hook.
    """

    id: int
    item: Any
    parent: "Node | None"
    cls: ItemClass
    state: bytes = b""
    occurrence: int = 0
    identity: bytes = b""
    pending: int = 1
    attempt: int = 1
    hook_attempt: int = 1
    recorded: Any = None
    is_held: bool = False
    is_ended: bool = False
    has_children: bool = False
    failed: bool = False
    subtree_failed: bool = False
    result: msgspec.Raw = NO_DATA
    child_results: Results | None = None

    def tries(self, phase: Phase) -> int:
        """Return which try of `phase` is next or running, from 1."""
        return self.attempt if phase == "process" else self.hook_attempt

    def __lt__(self, other: "Node") -> bool:
        """Order by the items; among equal ones the earlier first."""
        try:
            if self.item < other.item:
                return True
            if other.item < self.item:
                return False
        except Exception as error:
            raise ItemsNotComparable(
                f'queue_type_name="priority" needs items that can be compared with <, but comparing '
                f"{type_name(type(self.item))} with {type_name(type(other.item))} raised "
                f"{type(error).__name__}; define __lt__ in both classes"
            ) from error
        return self.id < other.id


class Tree:
    """Ends nodes, tells whose hook is due, and keeps the results that are still needed.

    Attributes:
        open_roots: how many initial items have a subtree that has not ended.
        keeps_items: whether an item is kept while it has live children, which may refer to it.
        root_results: the results of ended initial items by their numbers, those that are not None.
        earlier_results: those of items whose hook runs again, by their numbers, which hold until it has; `NO_DATA` for none.
    """

    def __init__(self, stream: EventStream, *, keeps_items: bool) -> None:
        self._stream = stream
        self.keeps_items = keeps_items
        self.open_roots = 0
        self.root_results: Results = {}
        self.earlier_results: Results = {}

    def end_process(self, node: Node, at: float) -> Node | None:
        """Count `node`'s own `process` as ended at the time `at`, and return the node to go on with, if any.

        Its hook is due, or, if `is_hook_due` denies that, `ascend` has more to do.
        """
        node.pending -= 1
        if (not node.cls.hook or node.failed) and not (self.keeps_items and node.has_children):
            node.item = None
        return None if node.pending else self.ascend(node, at)

    def end_hook(self, node: Node, worker: int, result: msgspec.Raw) -> Node | None:
        """Count `node`'s hook, which `worker` ran, as ended (failed, if ``node.failed``); return the node to go on with, if any.

        `result` is what the hook returned, as JSON; `NO_DATA` leaves the result of `process` in place.
        """
        stream = self._stream
        at = stream.now()
        self.earlier_results.pop(node.id, None)
        if not node.failed:
            if result is not NO_DATA:
                node.result = result
            stream.append(ItemChildrenProcessed(stream.next_seq(), at, node.id, node.cls.type, result, worker))
        return self.ascend(self._detach(node), at)

    @staticmethod
    def is_hook_due(node: Node) -> bool:
        """Tell whether `node`, which has ended with all its children, has a hook that is to run."""
        cls = node.cls
        return cls.hook and not node.failed and (cls.all_done or not node.subtree_failed)

    def ascend(self, node: Node | None, at: float) -> Node | None:
        """Close nodes from `node` upwards while their subtrees have ended; stop at one whose hook is due, or after many.

        Returns the node to go on with, as `end_process` does. All of that happens at one time, `at`: a worker goes on with a time that it has read before.
        """
        left = MAX_CLOSED_AT_ONCE
        while node is not None and node.pending == 0:
            if left == 0 or self.is_hook_due(node):
                return node
            left -= 1
            cls = node.cls
            if not node.failed and (cls.hook or node.has_children):
                stream = self._stream
                outcome = ItemChildrenFailed if node.subtree_failed else ItemChildrenProcessed
                stream.append(outcome(stream.next_seq(), at, node.id, cls.type))
            node = self._detach(node)
        return None

    def _detach(self, node: Node) -> Node | None:
        """Hand what `node` came to to its parent, unlink it, and return the parent."""
        parent = node.parent
        node.parent = node.item = node.child_results = node.recorded = None
        if parent is None:
            self.open_roots -= 1
            if node.result is not NO_DATA:
                self.root_results[node.id] = node.result
            return None
        if node.subtree_failed:
            parent.subtree_failed = True
        if node.result is not NO_DATA:
            give_result(node.id, node.result, parent)
        parent.pending -= 1
        return parent

    def restore(self, open_roots: int, root_results: Results, earlier_results: Results) -> None:
        """Go on with what is left of a recorded run: the attributes of the same names."""
        self.open_roots = open_roots
        self.root_results = root_results
        self.earlier_results = earlier_results

    def unlink(self, nodes: Iterable[Node]) -> None:
        """Do what `unlink` does, and keep the results so far of the initial items among them and above them."""
        self.root_results.update(self.earlier_results)
        unlink(nodes, self.root_results)


def give_result(item: int, result: msgspec.Raw, parent: Node) -> None:
    """Keep the result of an item for the hook of its `parent`, if it has one."""
    if parent.cls.hook:
        if parent.child_results is None:
            parent.child_results = {}
        parent.child_results[item] = result


def unlink(nodes: Iterable[Node], root_results: Results | None = None) -> None:
    """Cut all that `nodes` and their ancestors point to, one by one, so that freeing them does not recurse.

    The same for those that wait, after a resume, for one of these: to be enqueued again by it, or for it to be.
    """
    node: Node | None
    groups = [nodes]
    while groups:
        for node in groups.pop():
            while node is not None:
                if node.recorded is not None:
                    groups.append([child.node for child in node.recorded if child.node is not None])
                    groups.append([holder for holder, _ in node.recorded.holders])
                parent = node.parent
                if parent is None and root_results is not None and node.result is not NO_DATA:
                    root_results.setdefault(node.id, node.result)
                node.result = NO_DATA  # or a node whose parent was cut off before would look like an initial item
                node.parent = node.item = node.child_results = node.recorded = None
                node = parent
