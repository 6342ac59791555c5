"""The tree of live items: which items wait for which, when a subtree has ended, and which hook is due then.

A node counts its unfinished children. Nothing is scanned, and nothing recurses, so the cost per item is the same in a chain
100,000 deep and among a million siblings. A subtree that has ended well is unlinked at once. With a journal, the nodes of failed
items are kept, and their ancestors that were closed over them, since a person may have them retried.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final, cast

import msgspec

from aqueue._codec.class_names import type_name
from aqueue._engine.item_class import ItemClass
from aqueue._stream.event_stream import EventStream
from aqueue.errors import ItemsNotComparable
from aqueue.events import NO_DATA, ItemChildrenFailed, ItemChildrenProcessed, Phase

__all__ = ["CLOSED", "JournaledNode", "Node", "RestoredNode", "Results", "Tree", "give_result", "unlink"]


CLOSED: Final = -1
"""What `Node.pending` is once the subtree has ended, if the node is kept."""

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
        pending: the number of its children that have not ended, plus 1 until its own `process` has; `CLOSED` for a node that is kept
            although its subtree has ended.
        has_children: whether it ever enqueued one.
        failed: whether its own `process` or hook failed.
        num_failed: how many of its children's subtrees have ended and failed, plus 1 if it failed itself.
        attempt: the number of the next or running attempt at `process`, from 1; once that has ended, of the latest one.
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
    num_failed: int = 0
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
        recorded: the children that an earlier attempt enqueued (`aqueue._engine.adoption.RecordedChildren`), until `process` has
            ended, if it doesn't know them otherwise; else None.
        is_held: whether it waits for its parent to enqueue it again.
    """

    state: bytes = b""
    occurrence: int = 0
    identity: bytes = b""
    recorded: Any = None
    is_held: bool = False


class RestoredNode(JournaledNode, gc=False, eq=False):
    """A node of an item of an earlier process.

    Attributes:
        is_ended: whether its `process` had completed before the resume.
    """

    is_ended: bool = False


class Tree:
    """Ends nodes, finds hooks that are due, and keeps the results that are still needed.

    Attributes:
        open_roots: how many initial items have a subtree that has not ended. `Intake` counts new ones.
        keeps_items: whether an item is kept while it has live children, which may refer to it.
        keeps_failed: whether failed nodes, and those closed over them, are kept to be opened again.
        failed: the kept nodes of failed items by number.
        root_results: the results of ended initial items by number, without None.
        earlier_results: the results of items that run again, or whose hook does, by number; `NO_DATA` for None. They are valid until
            the item, or its hook, has ended again.
    """

    def __init__(
        self, stream: EventStream, dropped: AbstractSet[int], *, keeps_items: bool, keeps_failed: bool
    ) -> None:
        """Begin without nodes. `dropped`: the numbers of those that a queue still has, perhaps by the order of their items."""
        self._stream = stream
        self._dropped = dropped
        self.keeps_items = keeps_items
        self.keeps_failed = keeps_failed
        self.failed: dict[int, Node] = {}
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
        if node.failed:
            return self.ascend(self._detach(node, NO_DATA), at)
        stream.append(ItemChildrenProcessed(stream.next_seq(), at, node.id, node.cls.type, result, worker))
        node.hook_attempt += 1
        # The node keeps the result of `process`: if the hook runs again, it may return None.
        return self.ascend(self._detach(node, node.result if result is NO_DATA else result), at)

    @staticmethod
    def is_hook_due(node: Node) -> bool:
        """Return whether `node`, whose `process` and children have ended, has a hook that must run."""
        cls = node.cls
        return cls.hook and not node.failed and (cls.all_done or not node.num_failed)

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
            result = node.result
            if node.failed:
                result = NO_DATA
            elif cls.hook or node.has_children:
                stream = self._stream
                outcome = ItemChildrenFailed if node.num_failed else ItemChildrenProcessed
                stream.append(outcome(stream.next_seq(), at, node.id, cls.type))
                if self.earlier_results:
                    # That of the latest round that has ended: this one was closed over a failure, and has not.
                    result = self.earlier_results.pop(node.id, result)
            node = self._detach(node, result)
        return None

    def _detach(self, node: Node, result: msgspec.Raw) -> Node | None:
        """Pass the outcome of `node`, and its `result`, to its parent, unlink the node, and return the parent."""
        parent = node.parent
        if node.num_failed:
            if parent is not None:
                parent.num_failed += 1
            if self.keeps_failed:
                node.pending = CLOSED
            else:
                node.parent = node.item = node.child_results = None
        else:
            node.parent = node.child_results = None
            if self._dropped and node.id in self._dropped:
                node.pending = CLOSED  # by its item, which it keeps, it could be one whose hook is due
            else:
                node.item = None
        if parent is None:
            self.open_roots -= 1
            if result is not NO_DATA:
                self.root_results[node.id] = result
            return None
        if result is not NO_DATA:
            give_result(node.id, result, parent)
        parent.pending -= 1
        return parent

    def keep_failed(self, node: Node) -> None:
        """Note that the item of `node` has failed."""
        if self.keeps_failed:
            self.failed[node.id] = node

    def open_above(self, node: Node, *, had_failed: bool) -> list[tuple[Node, bool]]:
        """Open the ancestors of `node`, which is live again after its subtree had ended.

        Parameters:
            node: a kept node.
            had_failed: whether it, or something below it, was failed then.

        Returns:
            The ancestors that had been closed, or whose hook was due, the deepest first, and for each whether it had been closed.
        """
        opened: list[tuple[Node, bool]] = []
        while (parent := node.parent) is not None:
            parent_had_failed = parent.num_failed > 0
            parent.num_failed -= had_failed
            if parent.cls.hook:
                self._keep_earlier(node, parent.child_results or {})
            if parent.pending > 0:
                parent.pending += 1
                return opened
            was_closed = parent.pending == CLOSED
            parent.pending = 1
            opened.append((parent, was_closed))
            if not was_closed:
                return opened
            node, had_failed = parent, parent_had_failed
        self.open_roots += 1
        self._keep_earlier(node, self.root_results)
        return opened

    def _keep_earlier(self, node: Node, results: Results) -> None:
        """Remove the result of `node` from `results`; keep it if it isn't that of `process`, which the node has."""
        earlier = results.pop(node.id, NO_DATA)
        if earlier is not node.result:
            self.earlier_results[node.id] = earlier

    def restore(self, open_roots: int, root_results: Results, earlier_results: Results, failed: Iterable[Node]) -> None:
        """Set the attributes of the same names from a recorded run."""
        self.failed = {node.id: node for node in failed}
        self.open_roots = open_roots
        self.root_results = root_results
        self.earlier_results = earlier_results

    def unlink(self, nodes: Iterable[Node]) -> None:
        """Unlink `nodes`, kept nodes and their ancestors, and keep the results of the initial items that are live."""
        self.root_results.update(self.earlier_results)
        unlink(nodes, self.root_results)
        unlink(self.failed.values())


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
                if parent is None and root_results is not None and node.result is not NO_DATA and not node.failed:
                    root_results.setdefault(node.id, node.result)
                node.result = NO_DATA  # a node without a parent looks like an initial item if it is met again
                node.parent = node.item = node.child_results = None
                node = parent
