"""The tree of live items: which items wait for which, when a subtree has ended, and which hook is due then.

A node counts its unfinished children. Nothing is scanned, and nothing recurses, so the cost per item is the same in a chain
100,000 deep and among a million siblings. A subtree that has ended is unlinked at once.
"""

from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec

from aqueue._codec.class_names import type_name
from aqueue._engine.item_class import ItemClass
from aqueue._stream.event_stream import EventStream
from aqueue.errors import ItemsNotComparable
from aqueue.events import NO_DATA, ItemChildrenFailed, ItemChildrenProcessed, Phase

__all__ = ["JournaledNode", "Node", "RestoredNode", "Results", "Tree", "give_result", "unlink"]


MAX_CLOSED_AT_ONCE: Final = 1_000
"""How many nodes of a chain are closed before the event loop gets a turn: about 1 ms."""


Results = dict[int, msgspec.Raw]
"""Results as JSON, by the numbers of the items."""


class Node(msgspec.Struct, gc=False, eq=False):
    """A live item in the tree.

    The garbage collector doesn't track nodes: with a million tracked nodes, one full collection takes a quarter of a second.
    Nodes refer only upwards. `unlink` cuts these references before the last node of a chain is freed, since freeing a long
    chain of untracked objects recurses in C.

    Attributes:
        id: the item's number.
        item: the user's object; None once it isn't needed any more.
        parent: the node of the item that enqueued it; None for an initial item, and once it is unlinked.
        cls: what is known about the item's class.
        pending: the number of its children that have not ended, plus 1 until its own `process` has.
        has_children: whether it ever enqueued one.
        failed: whether its own `process` or hook failed.
        subtree_failed: whether it or a descendant failed.
        attempt: the number of the next or running attempt at `process`, from 1.
        hook_attempt: the same for the hook.
        result: its result, as JSON.
        child_results: the results of its children by number, if it has a hook.
        group: the group in which it was queued last; None without a group.
    """

    id: int
    item: Any
    parent: "Node | None"
    cls: ItemClass
    pending: int = 1
    attempt: int = 1
    hook_attempt: int = 1
    has_children: bool = False
    failed: bool = False
    subtree_failed: bool = False
    result: msgspec.Raw = NO_DATA
    child_results: Results | None = None
    group: str | None = None

    # What only some nodes have is in subclasses, since each field takes eight bytes per waiting item.
    state = b""
    occurrence = 0
    identity = b""
    recorded = cast(Any, None)
    is_held = False
    is_ended = False

    def attempt_number(self, phase: Phase) -> int:
        """Return the number of the next or running attempt at `phase`, from 1."""
        return self.attempt if phase == "process" else self.hook_attempt

    def __lt__(self, other: "Node") -> bool:
        """Order by item; of equal items the earlier one comes first."""
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


class JournaledNode(Node, gc=False, eq=False):
    """A node of a run with a journal.

    Attributes:
        state: the latest recorded state; see `aqueue._codec.digests.state_or_digest`.
        occurrence: how many earlier children of its parent had the same type and state.
        identity: a digest that is the same in every rerun. Empty until it is needed; see
            `aqueue._engine.payloads.Payloads.identity`.
    """

    state: bytes = b""
    occurrence: int = 0
    identity: bytes = b""


class RestoredNode(JournaledNode, gc=False, eq=False):
    """A node of an item of an earlier process.

    Attributes:
        recorded: the children that an earlier attempt enqueued (`aqueue._engine.adoption.RecordedChildren`), until `process` has
            ended; otherwise None.
        is_held: whether it waits for its parent to enqueue it again.
        is_ended: whether its `process` had completed before the resume.
    """

    recorded: Any = None
    is_held: bool = False
    is_ended: bool = False


class Tree:
    """Ends nodes, finds hooks that are due, and keeps the results that are still needed.

    Attributes:
        open_roots: how many initial items have a subtree that has not ended. `Intake` counts new ones.
        keeps_items: whether an item is kept while it has live children, which may refer to it.
        root_results: the results of ended initial items by number, without None.
        earlier_results: after a resume, the results of items whose hook runs again, by number; `NO_DATA` for None. They are
            valid until the hook has run.
    """

    def __init__(self, stream: EventStream, *, keeps_items: bool) -> None:
        self._stream = stream
        self.keeps_items = keeps_items
        self.open_roots = 0
        self.root_results: Results = {}
        self.earlier_results: Results = {}

    def end_process(self, node: Node, at: float) -> Node | None:
        """Record that the `process` of `node` ended at the time `at`; return the node to go on with, if any.

        Either its hook is due, or, if `is_hook_due` is False for it, `ascend` must be called again.
        """
        node.pending -= 1
        if (not node.cls.hook or node.failed) and not (self.keeps_items and node.has_children):
            node.item = None
        return None if node.pending else self.ascend(node, at)

    def end_hook(self, node: Node, worker: int, result: msgspec.Raw) -> Node | None:
        """Record that the hook of `node`, which `worker` ran, has ended; return the node to go on with, as `end_process` does.

        `result` is the hook's result as JSON; with `NO_DATA` the result of `process` stays. If ``node.failed``, the hook failed.
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
        """Return whether `node`, whose `process` and children have ended, has a hook that must run."""
        cls = node.cls
        return cls.hook and not node.failed and (cls.all_done or not node.subtree_failed)

    def ascend(self, node: Node | None, at: float) -> Node | None:
        """Close nodes upwards from `node` while their subtrees have ended; stop at a due hook, or after `MAX_CLOSED_AT_ONCE`.

        Returns the node to go on with, as `end_process` does. All events get the time `at`, so that the worker need not read
        the clock again.
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
        """Pass the outcome of `node` to its parent, unlink the node, and return the parent."""
        parent = node.parent
        node.parent = node.item = node.child_results = None
        if node.recorded is not None:
            node.recorded = None
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
        """Set the attributes of the same names from a recorded run."""
        self.open_roots = open_roots
        self.root_results = root_results
        self.earlier_results = earlier_results

    def unlink(self, nodes: Iterable[Node]) -> None:
        """Unlink `nodes` and their ancestors, and keep the results of the initial items among them."""
        self.root_results.update(self.earlier_results)
        unlink(nodes, self.root_results)


def give_result(item: int, result: msgspec.Raw, parent: Node) -> None:
    """Keep the result of `item` for the hook of its `parent`, if that has one."""
    if parent.cls.hook:
        if parent.child_results is None:
            parent.child_results = {}
        parent.child_results[item] = result


def unlink(nodes: Iterable[Node], root_results: Results | None = None) -> None:
    """Cut the references of `nodes` and their ancestors one by one, so that freeing a chain doesn't recurse.

    After a resume this includes the nodes that wait for one of these: recorded children, and items that refer to it.
    """
    node: Node | None
    groups = [nodes]
    while groups:
        for node in groups.pop():
            while node is not None:
                if node.recorded is not None:
                    groups.append([child.node for child in node.recorded if child.node is not None])
                    groups.append([holder for holder, _ in node.recorded.holders])
                    node.recorded = None
                parent = node.parent
                if parent is None and root_results is not None and node.result is not NO_DATA:
                    root_results.setdefault(node.id, node.result)
                node.result = NO_DATA  # a node without a parent looks like an initial item if it is met again
                node.parent = node.item = node.child_results = None
                node = parent
