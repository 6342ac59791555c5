"""Turns a plan and the objects of the live items into a `RestoredRun`: nodes, what to queue, counts."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain

from aqueue._codec.digests import identity_of, state_or_digest
from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.class_registry import ClassRegistry
from aqueue._engine.item_class import ItemClass, look_up_class
from aqueue._engine.misspelt import warn_of_misspelt
from aqueue._engine.outcomes import cancelled_by
from aqueue._engine.payloads import Payloads
from aqueue._engine.recorded_child import RecordedChild
from aqueue._engine.restored_run import Change, RestoredRun
from aqueue._engine.tree import CLOSED, Node, RestoredNode, give_result
from aqueue._folds.recording import ROOT, RecordedItem, RecordedRun
from aqueue._resume.live_items import LiveItems
from aqueue._resume.plan import Plan
from aqueue._stream.error_info import error_info
from aqueue._system.notice import warn
from aqueue.errors import UnstorableItem
from aqueue.events import NO_DATA, Counts, ItemFailed, ItemInterrupted, ItemReopened, Phase
from aqueue.view import RunView

__all__ = ["Restoring", "interruptions"]


class Restoring:
    """Carries out a plan.

    Attributes:
        nodes: the nodes of the live items, by number. They can form long chains.
    """

    def __init__(
        self, recording: RecordedRun, view: RunView, plan: Plan, items: LiveItems, registry: ClassRegistry
    ) -> None:
        """Prepare to restore; nothing is created before `run`.

        Parameters:
            recording: the state of the run for a resume.
            view: the state of the run for reporters.
            plan: the plan for the resume.
            items: its live items.
            registry: gets the classes of the items.
        """
        self.nodes: dict[int, Node] = {}
        self._recording = recording
        self._view = view
        self._plan = plan
        self._items = items
        self._registry = registry
        self._payloads = Payloads(items.codec, recording.run_id)
        self._run_identity = recording.run_id.encode()
        self._classes: dict[tuple[object, ...], ItemClass] = {}
        self._today: dict[type, ItemClass] = {}
        self._looks: dict[tuple[type, str, bool, bool], ItemClass] = {}
        self._root_results = {item: items.result(seq) for item, seq in recording.root_results.items()}
        self._earlier_results = {item: items.result(seq) for item, seq in recording.earlier_results.items()}
        self._earlier_results |= {item: facts.result or NO_DATA for item, facts in items.forgotten.items()}
        self._cancelled: list[ItemFailed] = []
        self._changed_hooks: Counter[tuple[str, bool]] = Counter()

    def run(self, recorded_roots: RecordedChildren | None) -> RestoredRun:
        """Return the restored run; once.

        Parameters:
            recorded_roots: the recorded initial items that today's have not matched yet; None for all.
        """
        recording, plan, items, nodes = self._recording, self._plan, self._items, self.nodes
        for number, record in recording.live.items():
            parent = nodes.get(record.parent)
            if number == ROOT:
                continue
            node = nodes[number] = self._node(record, parent)
            if plan.step(number) == "over":
                self._end(node)
        recorded_roots = self._hold_children(recorded_roots)
        held = self._hold_holders()
        failed = [recording.live[number].failed_seq for number in plan.stay_failed - plan.cancelled]
        suspects: list[tuple[Node, str]] = []
        queued: list[Node] = []
        ended: list[Node] = []
        for number, node in nodes.items():
            match plan.step(number):
                case "runs" | "retries" if number not in held:
                    queued.append(node)
                case "runs alone" | "given up":
                    suspects.append((node, plan.given_up.get(number, "")))
                case "hook due" if not node.pending:
                    ended.append(node)
                case _:
                    pass
        return RestoredRun(
            last_id=recording.last_id,
            first_ids=recording.first_ids,
            keys=recording.keys,
            recorded_roots=recorded_roots,
            open_roots=sum(node.parent is None and node.pending != CLOSED for node in nodes.values()),
            root_results=self._root_results,
            earlier_results=self._earlier_results,
            classes=self._counted_classes(),
            changes=self._changes(),
            failures=chain(
                (event for event in items.events_at(sorted(failed)) if isinstance(event, ItemFailed)), self._cancelled
            ),
            retried=(
                (nodes[record.id], record.retries, record.due, record.delay_s)
                for record in recording.live.values()
                if record.retries and record.failed is None and record.id not in plan.stay_failed
            ),
            slowed_down=recording.slowed_down,
            suspects=suspects,
            is_cautious=plan.is_cautious,
            queued=queued,
            settled=self._settled(),
            ended=ended,
            failed=[nodes[number] for number in plan.stay_failed],
        )

    def _changes(self) -> Iterator[Change]:
        """Yield the events of the resume itself: attempts that a crash interrupted, and items that run again."""
        plan = self._plan
        yield from interruptions(self._recording, self._view)
        for number in sorted(plan.cancelled):
            yield partial(self._cancel, self._recording.live[number], self._recording.cancelled[number])
        for number, record in self._recording.live.items():
            failed = None if number in plan.stay_failed else record.failed
            if plan.step(number) != "over" and (failed is not None or record.closed_over):
                yield partial(
                    ItemReopened,
                    item=number,
                    type=record.type,
                    failed=failed,
                    group=self._items.group(record) if failed == "process" else None,
                    skipped=record.skipped,
                )

    def _cancel(self, record: RecordedItem, by: str, seq: int, at: float) -> ItemFailed:
        """Return the failure of an item that `by` cancelled while it ran, and that was interrupted then."""
        phase: Phase = "after_children" if record.completed else "process"
        attempt = 1 + (record.attempt if phase == "process" else record.hook_attempt)
        group = self._items.group(record) if phase == "process" else None
        error = error_info(cancelled_by(by))
        failure = ItemFailed(seq, at, record.id, record.type, 0, 0.0, error, phase, attempt, group=group)
        self._cancelled.append(failure)
        return failure

    # ---- nodes and their classes --------------------------------------------------------------------------------

    def _end(self, node: Node) -> None:
        """Pass the outcome of an item that is over to its parent. Its node is kept: a person may have it run again."""
        parent, result = node.parent, self._earlier_results.pop(node.id, node.result)
        node.pending = CLOSED
        if parent is not None:
            if parent.pending != CLOSED:
                parent.pending -= 1
            parent.num_failed += 1
        if result is NO_DATA:
            pass
        elif parent is None:
            self._root_results[node.id] = result
        else:
            give_result(node.id, result, parent)

    def _node(self, record: RecordedItem, parent: Node | None) -> Node:
        items = self._items
        item = items.objects.get(record.id)
        announced = items.announcement(record)
        cls = self._class_of(
            record.type, item, track_overall=announced.track_overall, hook=record.hook, is_skipped=record.skipped
        )
        stays_failed = record.id in self._plan.stay_failed
        runs_process = self._plan.runs_process(record)
        state = items.state(record)
        # Once a phase has ended, its number is that of its last attempt, but for a hook that may run again: that of the next.
        has_failed_hook = stays_failed and record.completed
        node = RestoredNode(
            record.id,
            item,
            parent,
            cls,
            state=state_or_digest(state),
            identity=identity_of(
                self._run_identity if parent is None or announced.key is not None else parent.identity,
                record.type,
                announced.key,
                announced.payload,
                announced.occurrence,
            ),
            pending=record.pending + runs_process,
            attempt=record.attempt + runs_process,
            hook_attempt=record.hook_attempt + 1 - has_failed_hook,
            is_ended=record.completed,
            has_children=record.has_children,
            failed=stays_failed,
            num_failed=stays_failed,
            result=NO_DATA if stays_failed or runs_process else items.result(record.result_seq),
            child_results=items.child_results(record) if cls.hook else None,
            group=items.group(record),
        )
        if record.completed and cls.hook and item is not None:
            # Compare from now on with what today's class writes: a new field is no change of the state.
            with suppress(UnstorableItem):
                self._payloads.changed_state(node)
        if record.running is not None:
            cls.interrupted += 1
        if record.id in self._plan.cancelled:
            cls.failed += 1
            cls.completed -= record.completed
        if record.failed is not None and not stays_failed:
            cls.failed -= 1
            cls.completed += record.failed == "after_children"
        return node

    def _settled(self) -> Iterator[Node]:
        """Yield new nodes of the settled items that can be queued, in the order of enqueue."""
        for event, item in self._items.settled():
            parent, state = self.nodes[event.parent], bytes(event.payload)
            cls = self._class_of(event.type, item, track_overall=event.track_overall, hook=event.hook)
            node = self._payloads.announced_node(event, state, item, parent, cls, event.group)
            if not self._hold(node, state):
                yield node
        self._tell_of_changed_hooks()

    def _class_of(
        self, type_: str, item: object, *, track_overall: bool, hook: bool, is_skipped: bool = False
    ) -> ItemClass:
        """Return what the engine must know about the class of `item`, which was recorded as `type_`.

        An item keeps the class name with which it was announced, and whether it has a hook, since all readers of its events
        rely on these. Its policies and its group are those of today's class. The hook of an item that was skipped doesn't run.
        """
        if item is None or is_skipped:
            found = ItemClass(type_, track_overall=track_overall, hook=hook, all_done=False)
            return self._same(found.as_skipped() if is_skipped else found)
        today = self._today.get(type(item))
        if today is None:
            today = self._today[type(item)] = look_up_class(item, self._registry.policies)
            warn_of_misspelt(type(item))
        if today.hook != hook:
            self._changed_hooks[today.type, today.hook] += 1
        looks = type(item), type_, track_overall, hook
        known = self._looks.get(looks)
        if known is None:
            announced = today.announced_as(type_, track_overall=track_overall, hook=hook)
            known = self._looks[looks] = self._same(announced)
        return known

    def _same(self, found: ItemClass) -> ItemClass:
        return self._classes.setdefault(found.looks, self._registry.known(found))

    def _tell_of_changed_hooks(self) -> None:
        for (type, has_hook), count in self._changed_hooks.items():
            what = "now has" if has_hook else "no longer has"
            had = "had none" if has_hook else "had one"
            warn(
                f"{type} {what} an after_children_processed, but {had} when {count:,} of its outstanding items were "
                f"enqueued; {'it is not called' if has_hook else 'nothing is called'} for those"
            )

    def _counted_classes(self) -> Iterable[ItemClass]:
        """Return all classes with their counts. If several have the same name, one of them gets the counts of all."""
        named = {cls.type: cls for cls in reversed(self._classes.values())}
        for view in self._view.types.values():
            cls = named.get(view.type)
            if cls is None:
                cls = self._same(ItemClass(view.type, track_overall=view.track_overall, hook=False, all_done=False))
            for field in Counts.__struct_fields__:
                setattr(cls, field, getattr(cls, field) + getattr(view, field))
        return self._classes.values()

    # ---- what waits for an ancestor -----------------------------------------------------------------------------

    def _hold_children(self, recorded_roots: RecordedChildren | None) -> RecordedChildren:
        """Let the children of parents that run again wait to be enqueued; return the initial items, children of the program.

        The latter keep their places in the queue, since nothing starts before all of them have been enqueued again.
        """
        live, items, plan, nodes = self._recording.live, self._items, self._plan, self.nodes
        waiting: dict[int, list[tuple[str, RecordedChild]]] = {}
        for number, record in live.items():
            if number == ROOT or not plan.runs_process(live[record.parent]):
                continue
            node = None if plan.step(number) == "over" else nodes[number]
            announced = items.announcement(record)
            child = RecordedChild(
                number, node, announced.key, announced.payload, items.state(record), announced.occurrence
            )
            waiting.setdefault(record.parent, []).append((items.type_today(record.type), child))
            if node is not None:
                node.is_held = plan.is_enqueued_again(record)
        for number, node in nodes.items():
            # One that had completed has it in any case: when it is dropped, the old result no longer holds.
            is_rerun = number in items.forgotten and plan.runs_process(live[number])
            if (number in waiting or number in items.ended or is_rerun) and not node.failed:
                node.recorded = items.children(number, waiting.get(number, ()))
                node.cls.is_plain = False  # each attempt must match its children
        return items.children(ROOT, waiting.get(ROOT, ())) if recorded_roots is None else recorded_roots

    def _hold_holders(self) -> set[int]:
        """Let items that refer to a waiting ancestor wait for it; return the numbers of those that aren't queued yet.

        Their objects refer to the restored ancestor. They are decoded again when it is known which object takes its place.
        They were decoded now as well, so that an error shows before anything runs.
        """
        nodes, items = self.nodes, self._items
        held: set[int] = set()
        for number in sorted(items.held_by):
            node = nodes.get(number)
            if node is None or (node.is_held and node.parent is not None):  # it waits for its own parent anyway
                continue
            if self._hold(node, items.state(self._recording.live[number])):
                held.add(number)
                node.pending += node.is_ended or node.failed
        return held

    def _hold(self, node: Node, state: bytes) -> bool:
        """Let `node` wait for the ancestor that its item refers to, if need be; return whether it isn't queued yet."""
        number = self._items.held_by.get(node.id)
        if number is None:
            return False
        above = self.nodes[number]
        above.recorded.holders.append((node, state))
        return above.parent is not None


def interruptions(run: RecordedRun, view: RunView) -> Iterator[Change]:
    """Yield the events that say that a crash has interrupted what was running; `view` knows by which worker."""
    workers = {one.item: worker for worker, one in view.running.items()}
    for number, record in run.live.items():
        phase = record.running
        if phase is not None:
            attempt = max(record.attempt if phase == "process" else record.hook_attempt, 1)
            worker = workers.get(number, 0)
            yield partial(ItemInterrupted, item=number, phase=phase, attempt=attempt, reason="crash", worker=worker)
