"""Lets items run again that have completed or were skipped.

The engine has forgotten nearly all of them, and their ancestors. What the journal tells of them is read in a thread, some seconds for
a million items. Then the nodes are made again that are needed, and the items wait like those that were just enqueued. A parent runs
before its children, which it enqueues again: each child takes the place of the recorded one.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final

from aqueue._codec.digests import state_or_digest
from aqueue._engine.item_class import ItemClass
from aqueue._engine.parts import Parts
from aqueue._engine.recorded_child import RecordedChild
from aqueue._engine.reopening import Reopening
from aqueue._engine.search import InProgress, Search, Step, has_running_hook
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import CLOSED, Node, RestoredNode
from aqueue._engine.worker import Worker
from aqueue._stream.item_facts import ItemFacts
from aqueue._verbs import SeenState
from aqueue.errors import SteeringError
from aqueue.events import NO_DATA, ItemReopened, RunSteered
from aqueue.text import visible

__all__ = ["COMPLETED_ON_A_CLUSTER", "Reruns"]

AT_ONCE: Final = 200
"""How many items are made to run again in one go: each is decoded, and so may be its ancestors."""

_MAX_READS: Final = 5
"""How often the journal is read, at most: what ends meanwhile must be read once more."""

COMPLETED_ON_A_CLUSTER: Final = (
    "items that have completed can't run again on a cluster; resume the run without cluster=, and give the command then"
)
"""Why completed items of a run on a cluster can't be retried, and what to do instead."""


class Reruns:
    """Lets completed items run again."""

    def __init__(
        self,
        parts: Parts,
        search: Search,
        reopening: Reopening,
        hold: Callable[..., None],
        check_is_on: Callable[[], None],
    ) -> None:
        """Change the items in `parts`.

        Parameters:
            parts: has the items.
            search: finds the nodes of those that have not ended.
            reopening: opens their ancestors.
            check_is_on: raises if the run has ended.
            hold: called with ``is_held``, lets nothing start and everything stay in its place, or ends that.
        """
        self._parts = parts
        self._tree = parts.tree
        self._stream = parts.stream
        self._search = search
        self._reopening = reopening
        self._hold = hold
        self._check_is_on = check_is_on
        self._facts: Mapping[int, ItemFacts] = {}
        self._objects: dict[int, object] = {}
        self._made: dict[int, Node] = {}
        self._reruns: dict[int, Node] = {}

    def run(self, doing: InProgress) -> Iterator[Step]:
        """Carry out the command.

        Raises:
            SteeringError: it can't be carried out.
        """
        parts = self._parts
        if parts.read_facts is None:
            raise SteeringError(
                "this run has no journal, so completed items are forgotten, and can't be retried; record one with "
                'run_queue(journal="run.db")'
            )
        if parts.classes.is_elsewhere:
            raise SteeringError(COMPLETED_ON_A_CLUSTER)
        left = {number: state for state, numbers in doing.command.items.items() for number in numbers}
        for _ in range(_MAX_READS):
            facts = yield from self._reopening.read_facts(list(left))
            if isinstance(facts, Exception):
                raise SteeringError(f"the journal can't be read: {visible(str(facts), 1_000)}")
            self._hold(is_held=True)
            self._facts = facts
            try:
                wanted = left.keys() | facts.keys()
                yield from self._search.look_for(wanted)
                yield from self._search.look_above(wanted)
                left = yield from self._apply(doing, left)
                yield from self._start()
            finally:
                self._hold(is_held=False)
                self._search.forget()
                self._facts = {}
                for kept in (self._objects, self._made, self._reruns):
                    kept.clear()
            if not left:
                return
        doing.others.update(dict.fromkeys(left, "running"))

    # ---- one part after the other -------------------------------------------------------------------------------

    def _apply(self, doing: InProgress, wanted: dict[int, SeenState]) -> Generator[Step, None, dict[int, SeenState]]:
        """Reopen the wanted items; return those of which the facts are out of date."""
        outdated: dict[int, SeenState] = {}
        command = doing.command
        numbers = iter(sorted(wanted))  # parents before their children
        while part := list(islice(numbers, AT_ONCE)):
            self._check_is_on()
            running, in_hook = self._search.running(), self._search.in_hook()
            found = []
            for number in part:
                why = self._why_not(number, wanted[number], running, in_hook)
                if why is None:
                    outdated[number] = wanted[number]
                elif why:
                    doing.others[number] = why
                else:
                    found.append(number)
            if found:
                self._stream.emit(RunSteered, command.name, command.selector, len(found), command.by)
            for number in found:
                doing.applied.add(number)
                self._rerun(self._facts[number])
            yield None
        return outdated

    def _why_not(
        self, number: int, seen: SeenState, running: dict[int, Worker], in_hook: AbstractSet[int]
    ) -> str | None:
        """Return why an item can't be made to run again; empty if it can; None if its facts are out of date."""
        facts = self._facts.get(number)
        if facts is None:
            return "unknown"
        found = self._search.find(number, running)
        if found is not None:
            return found.state
        if self._search.has_abandoned(number):
            return "running"
        chain = [facts, *self._ended_above(facts)]
        nodes = [self._node(one.id) for one in chain]
        if not facts.is_completed or any(
            node is None and not one.is_closed for one, node in zip(chain, nodes, strict=True)
        ):
            return None
        state = "skipped" if facts.skipped else "completed"
        if state != seen:
            return state
        lowest = nodes[0] or self._node(chain[-1].parent)
        if has_running_hook(lowest, in_hook):
            return "hook"
        try:
            for one in reversed(chain):
                self._object(one.id)
        except Exception:  # its class isn't there, or can't take the state
            return "class"
        return ""

    def _node(self, number: int) -> Node | None:
        return self._made.get(number) or self._search.completed(number)

    def _ended_above(self, facts: ItemFacts) -> list[ItemFacts]:
        """Return the ancestors of an item that have no node any more, the deepest first."""
        above: list[ItemFacts] = []
        if self._node(facts.id) is None:
            while facts.parent and self._node(facts.parent) is None:
                facts = self._facts[facts.parent]
                above.append(facts)
        return above

    def _object(self, number: int) -> object:
        """Return the object of an item, with today's class."""
        found = self._objects.get(number)
        if found is None:
            node, facts = self._node(number), self._facts.get(number)
            found = None if node is None else node.item
            if found is None and facts is not None:
                payloads = self._parts.payloads
                assert payloads is not None
                found = payloads.codec.decode(facts.type, facts.state, self._object)
            if found is None:
                raise LookupError(f"item {number} is not above")
            self._objects[number] = found
        return found

    # ---- one item -----------------------------------------------------------------------------------------------

    def _rerun(self, facts: ItemFacts) -> None:
        number = facts.id
        node = self._node(number)
        if node is None:
            node = self._bring_back(facts)
        else:
            self._rerun_live(node, facts)
        if facts.skipped:
            node.cls.skipped -= 1
        else:
            node.cls.completed -= 1
        self._made[number] = self._reruns[number] = node

    def _rerun_live(self, node: Node, facts: ItemFacts) -> None:
        """Let the item of `node` run again, whose subtree has not ended well."""
        was_closed = node.pending == CLOSED
        self._reopening.withdraw_hook(node)
        result, node.result = node.result, NO_DATA
        if node.parent is None and not was_closed:
            self._tree.earlier_results.setdefault(node.id, result)
        node.attempt += 1
        node.pending = 1 if was_closed else node.pending + 1
        node.item = self._object(node.id)
        if facts.skipped:
            node.cls = self._class_of(facts)
        if was_closed:
            self._reopening.open_above(node, had_failed=node.num_failed > 0, topmost_first=True)
        self._stream.emit(ItemReopened, node.id, node.cls.type, None, node.group, rerun=True, skipped=facts.skipped)

    def _bring_back(self, facts: ItemFacts) -> Node:
        """Make the nodes of an item, and of its ancestors that have ended well, and return that of the item."""
        chain = [*reversed(self._ended_above(facts)), facts]
        parent = self._node(chain[0].parent)
        nodes: list[Node] = []
        for one in chain:
            cls = self._class_of(one)
            if one.skipped and one is not facts:
                cls = self._parts.classes.skipped(cls)
            parent = self._new_node(one, parent, cls)
            nodes.append(parent)
        nodes[-1].attempt += 1
        nodes[-1].result = NO_DATA
        self._reopening.open_above(nodes[0], had_failed=False, topmost_first=True)
        for one, above in zip(chain[:-1], nodes, strict=False):
            self._made[one.id] = above
            self._stream.emit(
                ItemReopened, one.id, one.type, skipped=one.skipped, ended=one.as_ended(), result=one.process_result
            )
        for below, above in zip(nodes[1:], nodes, strict=False):
            if above.child_results is not None:
                above.child_results.pop(below.id, None)
        self._stream.emit(
            ItemReopened,
            facts.id,
            facts.type,
            None,
            facts.group,
            rerun=True,
            skipped=facts.skipped,
            ended=facts.as_ended(),
        )
        return nodes[-1]

    def _new_node(self, facts: ItemFacts, parent: Node | None, cls: ItemClass) -> Node:
        """Return a node of an item whose subtree had ended well: one thing is still to end, its `process` or what is below."""
        payloads = self._parts.payloads
        assert payloads is not None
        if facts.key is None or facts.is_key_added:
            identity = payloads.identity_of_long(parent, facts.type, facts.payload, facts.occurrence)
        else:
            identity = payloads.identity_of_keyed(facts.type, facts.key)
        fields: dict[str, Any] = {
            "item": self._object(facts.id),
            "parent": parent,
            "cls": cls,
            "pending": 1,
            "attempt": facts.attempt,
            "hook_attempt": facts.hook_attempt + 1,
            "has_children": facts.has_children,
            "result": facts.process_result,
            "child_results": dict(facts.results) if facts.results and cls.hook else None,
            "group": facts.group,
            "state": state_or_digest(facts.state),
            "identity": identity,
        }
        node = self._search.dropped(facts.id)
        if node is None:
            return RestoredNode(facts.id, **fields)
        for name, value in fields.items():  # it is still in the queue, where it was when it was skipped
            setattr(node, name, value)
        return node

    def _class_of(self, facts: ItemFacts) -> ItemClass:
        return self._parts.classes.announced_as(
            self._object(facts.id), facts.type, track_overall=facts.track_overall, hook=facts.hook
        )

    # ---- their start --------------------------------------------------------------------------------------------

    def _start(self) -> Iterator[Step]:
        """Let the items run, those whose parents run, too, once these have enqueued them again."""
        held: defaultdict[int, list[tuple[str, RecordedChild]]] = defaultdict(list)
        for number, node in self._reruns.items():
            parent = node.parent
            if parent is not None and parent.id in self._reruns and number not in self._parts.dispatcher.dropped:
                facts = self._facts[number]
                child = RecordedChild(number, node, facts.key, facts.payload, facts.state, facts.occurrence)
                held[parent.id].append((facts.type, child))
                node.is_held = True
        self._check_is_on()
        for place, (number, node) in enumerate(self._reruns.items(), 1):
            waiting = held.get(number, [])
            others = {child.id for _, child in waiting}
            children = [one for one in self._facts[number].announced_children if one[0] not in others]
            node.recorded = self._reopening.recorded(waiting, children, is_rerun=True)
            node.cls.is_plain = False
            self._queue(node)
            if place % AT_ONCE == 0:
                yield None
                self._check_is_on()

    def _queue(self, node: Node) -> None:
        dispatcher = self._parts.dispatcher
        if self._parts.stopping.stage is not Stage.RUNNING:
            dispatcher.left.append((node, "process"))
        elif not node.is_held:
            dispatcher.put_reopened(node)
