"""Put a recorded run back into an engine: its live items as objects, its tree, its queue, its counters."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Protocol

from aqueue._codec.class_names import type_name
from aqueue._codec.digests import identity_of, state_or_digest
from aqueue._codec.item_codec import PayloadCodec
from aqueue._codec.results import decode_root_results
from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.changed_classes import ChangedClasses
from aqueue._engine.ended_children import Announced, EndedChildren
from aqueue._engine.engine import Engine
from aqueue._engine.item_class import ItemClass, Policies, key_of, look_up_class
from aqueue._engine.misspelt import warn_of_misspelt
from aqueue._engine.payloads import Payloads
from aqueue._engine.siblings import RecordedChild
from aqueue._engine.tree import Node, unlink
from aqueue._folds.recording import ROOT, RecordedItem, Recording
from aqueue._system.notice import say, stderr_is_terminal, warn
from aqueue.errors import JournalDamaged, PayloadMismatch, UnknownItemType, UnstorableItem
from aqueue.events import (
    NO_DATA,
    Event,
    ItemAdopted,
    ItemCompleted,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemReopened,
)
from aqueue.result import RunResult
from aqueue.text import visible
from aqueue.view import RunView

__all__ = ["Resumption", "read_past"]

CAUTIOUS_AFTER_CRASHES: Final = 2
"""After so many crashes in a row, starts are committed before the item's code is called."""

POISON_AFTER_CRASHES: Final = 3
"""An item that was the only one running in so many crashes in a row fails instead of running again."""


class RecordedEvents(Protocol):
    """What is read of a journal; see `aqueue._journal.writer.Journal`."""

    @property
    def path(self) -> Path: ...
    @property
    def last_seq(self) -> int: ...
    def recorded(self) -> Iterable[list[Event]]: ...
    def events_at(self, seqs: Sequence[int]) -> Iterable[Event]: ...


def read_past(
    journal: RecordedEvents,
    check_interrupt: Callable[[], None],
    runs_again: Callable[[str], object] = lambda _: True,
) -> "Resumption":
    """Read what `journal` has recorded, and restore what is left of it with today's classes.

    Parameters:
        journal: the recorded events.
        check_interrupt: called now and then; raises if the user doesn't want to wait.
        runs_again: tells of the name of an item class, as it is today, whether failed items of it are to run again.

    Raises:
        JournalError: an event can't be read.
        UnknownItemType, PayloadMismatch: see `Resumption`.
    """
    recording = Recording()
    view = RunView()
    try:
        for events in journal.recorded():
            check_interrupt()
            recording.apply(events)
            view.apply(events)
    except KeyError as error:
        raise JournalDamaged(
            f"the journal {visible(str(journal.path), 1_000)} can't be resumed: after event {recording.last_seq:,} one names an "
            f"item, a worker or a type ({error}) that no event before it announced; restore it from a copy"
        ) from error
    # The last events are often descriptions, which were left out, or of a type that this aqueue doesn't know; what
    # follows goes on from their number and time.
    last = [event for event in journal.events_at([journal.last_seq]) if event.seq > recording.last_seq]
    recording.apply(last)
    view.apply(last)
    recording.last_seq = journal.last_seq
    recording.end()
    return Resumption(recording, view, journal.events_at, PayloadCodec(), runs_again)


class Resumption:
    """What is left of a recorded run, with today's classes.

    Attributes:
        view: the run as reporters know it.
    """

    def __init__(
        self,
        recording: Recording,
        view: RunView,
        events_at: Callable[[Sequence[int]], Iterable[Event]],
        codec: PayloadCodec,
        runs_again: Callable[[str], object] = lambda _: True,
    ) -> None:
        """Restore the objects of the live items; nothing is changed or announced yet.

        Parameters:
            recording: the run, as recorded.
            view: the same, as reporters know it.
            events_at: reads the recorded events with these numbers, in any order, at any time until the run has ended.
            codec: restores items.
            runs_again: tells of the name of an item class whether failed items of it are to run again.

        Raises:
            UnknownItemType: live items are of classes that the program does not have; names them and how many wait.
            PayloadMismatch: a live item can't be restored by today's class.
        """
        self._recording = recording
        self.view = view
        self._codec = codec
        self._states = Payloads(codec, recording.run_id)
        self._payloads: dict[int, bytes] = {}
        self._events_at = events_at
        self._types: dict[str, type | None] = {}
        self._names_today: dict[str, str] = {}
        self._objects: dict[int, object] = {}
        self._classes: dict[type, ItemClass] = {}
        self._looks: dict[tuple[type, str, bool, bool], ItemClass] = {}
        self._runs_again = cache(runs_again)
        self._left, self._over = self._what_stays_failed()
        self._suspects = self._what_runs_alone()
        self._runs_as_recorded = set(self._suspects)
        self._held_by: dict[int, int] = {}
        self._read_payloads()
        self._restore_objects()
        for suspect in self._suspects:
            # What it holds can't be exchanged once it has run.
            number = self._held_by.get(suspect, ROOT)
            while number != ROOT:
                self._runs_as_recorded.add(number)
                number = recording.live[number].parent
        self._ended = {
            # In the order of their announcement, so that they are read and matched one after the other.
            record.id: EndedChildren(partial(self._announced, array("q", sorted(record.closed_children))))
            for record in recording.live.values()
            if record.closed_children
        }
        self._changed_hooks: Counter[tuple[str, bool]] = Counter()
        self._changes = ChangedClasses(codec, recording.keys, recording.first_ids)
        self._known_roots: RecordedChildren | None = None
        self._roots: list[int] = []
        self._dropped_roots = 0
        self._new_keys: list[tuple[int, str, str]] = []  # of initial items that have got one; with number and class
        self._summary = self._summarize()

    def _summarize(self) -> str:
        counts = self.view.counts
        running = sum(1 for record in self._recording.live.values() if record.running is not None)
        left = len(self._left)
        again = counts.failed - left
        parts = [f"{running:,} {'was' if running == 1 else 'were'} running"] if running else []
        parts += [f"{again:,} had failed"] if again else []
        among = f" ({', '.join(parts)})" if parts else ""
        kept = f", {left:,} failed and left as {'it is' if left == 1 else 'they are'}" if left else ""
        return f"{counts.completed:,} completed, {counts.outstanding + again:,} outstanding{among}{kept}"

    def say_what_is_resumed(self, name: str, *, has_all: bool) -> None:
        """Say in one line what resuming the journal called `name` does, after the initial items were added; once.

        Parameters:
            name: what the user calls it.
            has_all: whether all were; otherwise it can't be said which are new, and which are missing.
        """
        recorded, self._known_roots = self._known_roots, None
        if not has_all:
            say(f"aqueue: resuming {name}: {self._summary}")
            return
        known = sum(0 < number <= self._recording.last_id for number in self._roots)
        new = sum(number > self._recording.last_id for number in self._roots)
        missing = 0 if recorded is None else recorded.left
        to_run = sum(child.node is not None for child in recorded or ())
        parts = [f"resuming {name}: {self._summary}"]
        if new and recorded is not None and recorded.first_new is not None:
            example = self._in_words(*recorded.first_new)
            parts.append(
                f", 1 new initial item ({example})" if new == 1 else f", {new:,} new initial items ({example}, …)"
            )
        if missing:
            parts.append(f"; {missing:,} recorded initial item{'s are' if missing > 1 else ' is'} not among today's")
        if to_run:
            parts.append(f" ({to_run:,} outstanding, run{'s' if to_run == 1 else ''} as recorded)")
        say(f"aqueue: {''.join(parts)}")
        if new and missing and not known:
            warn(
                f"none of the initial items recorded in {name} is among today's: what it has recorded and today's are now "
                "one run; if today's are another job, stop it, and give it a journal of its own"
            )

    def _in_words(self, type: str, key: str | None, payload: bytes) -> str:
        """Return what a person may know an item by.

        Its attributes, among which may be a password, are only for the person at the terminal; keys are in logs, too.
        """
        words = [type.rpartition(":")[2]]
        if key is not None:
            words.append(key)
        elif stderr_is_terminal():
            values = self._codec.attributes(type, payload).values()
            words += [visible(str(value), 40) for value in values if isinstance(value, str | int | float)]
        return visible(" ".join(words), 80)

    @property
    def last_seq(self) -> int:
        """The number of the last event."""
        return self._recording.last_seq

    @property
    def last_at(self) -> float:
        """When that was, Unix time in seconds."""
        return self._recording.last_at

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self._recording.run_id

    @property
    def elapsed_s(self) -> float:
        """How long the run has taken so far, without the time between processes, seconds."""
        return self._recording.elapsed_s

    @property
    def is_completed(self) -> bool:
        """Whether the run had completed: nothing is outstanding."""
        finished = self._recording.finished
        return finished is not None and finished.status == "completed"

    def result(self) -> RunResult:
        """Return what the run had come to when it completed, with the results of the items that `first_new` has taken; once."""
        counts = {view.type: view.counts for view in self.view.types.values()}
        finished = self._recording.finished
        assert finished is not None
        roots = decode_root_results(self._roots, self._recording.root_results)
        return RunResult(self.run_id, finished.status, finished.counts, counts, self.elapsed_s, root_results=roots)

    def first_new(self, items: Iterator[Any]) -> list[Any]:
        """Take from `items` up to the first that is none of the recorded initial items; return that, if there is one.

        Only for a run that had completed: nothing is left to do for those before it, and they need not be kept. What they
        change about those that follow, `restore` hands on.
        """
        recorded = self._known_roots = self._recorded_children(ROOT)
        keys = self._recording.keys
        classes: dict[type, ItemClass] = {}
        for item in items:
            cls = classes.get(type(item)) or classes.setdefault(type(item), look_up_class(item))
            key = key_of(item, cls.type) if cls.keyed else None
            payload = self._states.state(item, None)
            child = recorded.match(cls.type, key, payload)
            if child is not None:
                self._roots.append(child.id)
                if key is not None and child.key is None and not keys.knows(cls.names, key):
                    keys.add(cls.type, key)
                    self._new_keys.append((child.id, cls.type, key))
            elif key is None or not keys.knows(cls.names, key):
                return [item]
            else:
                self._roots.append(0)
                self._dropped_roots += 1
        return []

    def _what_stays_failed(self) -> tuple[dict[int, RecordedItem], set[int]]:
        """Return the items that have failed and are not to run again, and those that are over: they, and what closed over them.

        An item with an outstanding descendant is not over, though it has failed itself.
        """
        live = self._recording.live
        failed = [record for record in live.values() if record.failed is not None]
        left = {record.id: record for record in failed if not self._runs_again(self.type_today(record.type))}
        over: set[int] = set()
        if left:
            parents_of_open: set[int] = set()
            for record in reversed(live.values()):  # children come before their parents
                if (record.id in left or record.closed_over) and record.id not in parents_of_open:
                    over.add(record.id)
                else:
                    parents_of_open.add(record.parent)
        return left, over

    def _what_runs_alone(self) -> set[int]:
        """Return the items that may have crashed the process."""
        return {
            record.id
            for record in self._recording.live.values()
            if (record.id in self._recording.crashes.suspects or record.is_poison)
            and record.id not in self._left
            and record.id not in self._over
            # One whose hook was running over failures waits for what failed below it, and is then one of many.
            and not (record.completed and record.pending)
        }

    def _is_next(self, record: RecordedItem) -> bool:
        """Tell whether the `process` of `record` is still to run."""
        return not record.completed and record.id not in self._left

    def _is_held(self, record: RecordedItem) -> bool:
        """Tell whether `record` waits for its parent, which runs again, to enqueue it again.

        One that may have crashed the process doesn't: it runs as it was recorded, and the parent finds it ended.
        """
        return (
            self._is_next(record)
            and self._is_next(self._recording.live[record.parent])
            and (record.parent == ROOT or record.id not in self._runs_as_recorded)
        )

    # ---- restoring objects --------------------------------------------------------------------------------------

    def _read_payloads(self) -> None:
        wanted: list[int] = []
        for record in self._recording.live.values():
            if record.id == ROOT:
                continue
            wanted.append(record.enqueued_seq)
            if record.state_seq:
                wanted.append(record.state_seq)
        for event in self._events_at(sorted(wanted)):
            if isinstance(event, ItemEnqueued | ItemAdopted | ItemCompleted):
                self._payloads[event.seq] = bytes(event.payload)

    def _announced(self, seqs: Sequence[int]) -> Iterator[Announced]:
        for event in self._events_at(seqs):
            if isinstance(event, ItemEnqueued):
                yield event.item, self.type_today(event.type), event.key, bytes(event.payload)

    def _resolve(self, name: str) -> type | None:
        if name not in self._types:
            try:
                self._types[name] = self._codec.resolve(name)
            except UnknownItemType:
                self._types[name] = None
        return self._types[name]

    def type_today(self, recorded: str) -> str:
        """Return the name that the class recorded as `recorded` has today; the same if it is gone."""
        name = self._names_today.get(recorded)
        if name is None:
            cls = self._resolve(recorded)
            name = self._names_today[recorded] = recorded if cls is None else type_name(cls)
        return name

    def _restore_objects(self) -> None:
        missing: Counter[str] = Counter()
        for record in self._recording.live.values():
            if record.id == ROOT:
                continue
            cls = self._resolve(record.type)
            if record.id in self._over:
                continue
            needed = record.id not in self._left and (not record.completed or record.hook)
            if cls is None:
                if needed:
                    missing[record.type] += 1
            elif needed:
                self._restore(record)
            else:  # a hook or a child may need it
                with suppress(PayloadMismatch):
                    self._restore(record)
        if missing:
            listed = ", ".join(f"{name} ({count:,} waiting)" for name, count in missing.most_common())
            script = any(name.startswith("__main__:") for name in missing)
            of_script = (
                "those of __main__ were recorded by a script that was run directly: run that; " if script else ""
            )
            raise UnknownItemType(
                f"items are waiting whose classes this program has not defined: {listed}; {of_script}import their modules before the "
                "run, or, if they were renamed, add the class attribute previous_names = (…,) to the classes they are now, and "
                "run the same command again; nothing was changed"
            )

    def _restore(self, record: RecordedItem) -> object:
        number = record.id
        if number not in self._objects:
            try:
                self._objects[number] = self._codec.decode(
                    record.type, self._state_of(record), partial(self._ancestor, number)
                )
            except PayloadMismatch as error:
                waiting = sum(
                    other.type == record.type and not other.completed for other in self._recording.live.values()
                )
                raise PayloadMismatch(
                    f"{error} (it was item {number}; {waiting:,} item{'s' if waiting != 1 else ''} of {record.type} "
                    f"{'are' if waiting != 1 else 'is'} waiting; nothing was changed)"
                ) from error
        return self._objects[number]

    def _state_of(self, record: RecordedItem) -> bytes:
        return self._payloads[record.state_seq or record.enqueued_seq]

    def _ancestor(self, holder: int, number: int) -> object:
        """Return the ancestor numbered `number` of the item numbered `holder`, and note which of those it holds is held.

        That is the nearest of those that it holds itself or by way of others: once an object has come in the place of
        that one, or none will, the same is settled for all above.
        """
        record = self._recording.live.get(number)
        if record is None or record.id == ROOT:
            raise PayloadMismatch(
                f"an item can't be restored: it refers to item {number}, which is not one of its ancestors; restore the "
                "journal from a copy"
            )
        item = self._restore(record)
        held = number if self._is_held(record) else self._held_by.get(number, ROOT)
        if held > self._held_by.get(holder, ROOT):
            self._held_by[holder] = held
        return item

    # ---- restoring the engine -----------------------------------------------------------------------------------

    def restore(self, engine: Engine) -> None:
        """Put everything back into `engine`, which is new, and announce what has changed since the last event; once."""
        nodes: dict[int, Node] = {}
        try:
            self._restore_into(engine, nodes)
        except BaseException:
            unlink(nodes.values())  # a long chain of them, say, that could not be queued
            raise

    def _restore_into(self, engine: Engine, nodes: dict[int, Node]) -> None:
        recording = self._recording
        engine.intake.last_id = recording.last_id
        engine.tree.root_results = recording.root_results
        engine.intake.keys = recording.keys
        engine.intake.roots = self._roots
        engine.intake.deduplicated_roots = self._dropped_roots
        for record in recording.live.values():
            if record.id == ROOT:
                continue
            parent = nodes.get(record.parent)
            if record.id not in self._over:
                nodes[record.id] = self._node(record, parent, engine)
                continue
            result = recording.earlier_results.pop(record.id, record.result)
            if result is not NO_DATA:
                engine.tree.give_result(record.id, result, parent)
            if parent is not None:
                parent.pending -= 1
                parent.subtree_failed = True
        engine.tree.earlier_results = recording.earlier_results
        self._tell_of_changed_hooks()
        engine.tree.open_roots = sum(node.parent is None for node in nodes.values())
        self._restore_counts(engine)
        self._announce(engine, nodes)
        self._restore_waits(engine, nodes)
        for event in self._events_at(sorted(record.failed_seq for record in self._left.values())):
            if isinstance(event, ItemFailed):
                engine.failures.restore(event)
        if recording.crashes.count >= CAUTIOUS_AFTER_CRASHES:
            engine.suspects.is_cautious = True
        held = self._hold_children(engine, nodes)
        held |= self._hold_holders(nodes)
        self._queue(engine, nodes, held)
        # The engine has all of it now, and frees each item when it has ended.
        recording.live.clear()
        self._objects.clear()
        self._payloads.clear()
        self._ended.clear()
        self._left.clear()

    def _node(self, record: RecordedItem, parent: Node | None, engine: Engine) -> Node:
        item = self._objects.get(record.id)
        node = Node(
            record.id, item, parent, engine.classes.known(self._class_of(record, item, engine.classes.policies))
        )
        node.pending = record.pending + self._is_next(record)
        node.failed = node.subtree_failed = record.id in self._left
        node.has_children = record.has_children
        node.result = NO_DATA if node.failed else record.result
        node.child_results = record.results
        node.attempt = record.attempt + 1
        node.hook_attempt = record.hook_attempt + 1
        node.is_ended = record.completed
        node.state = state_or_digest(self._state_of(record))
        node.identity = identity_of(
            self._recording.run_id.encode() if parent is None or record.key is not None else parent.identity,
            record.type,
            record.key,
            self._payloads[record.enqueued_seq],
            record.occurrence,
        )
        if record.completed and record.hook:
            # As today's class writes it, which may have fields that it had not: that is no change of its state.
            with suppress(UnstorableItem):
                self._states.changed_state(node)
        return node

    def _class_of(self, record: RecordedItem, item: object, defaults: Policies) -> ItemClass:
        """Return what the engine is to know about the class of `item`, which was restored from `record`.

        An item keeps the name under which it was announced, and whether it has a hook: each reader of its events goes
        by that, whatever the class is called and has today. Its policies and whether it has a group are today's.
        """
        if item is None:
            return ItemClass(record.type, track_overall=record.track_overall, hook=record.hook, all_done=False)
        today = self._classes.get(type(item))
        if today is None:
            today = self._classes[type(item)] = look_up_class(item, defaults)
            warn_of_misspelt(type(item))
        if today.hook != record.hook:
            self._changed_hooks[today.type, today.hook] += 1
        looks = type(item), record.type, record.track_overall, record.hook
        known = self._looks.get(looks)
        if known is None:
            known = self._looks[looks] = ItemClass(
                record.type,
                track_overall=record.track_overall,
                hook=record.hook,
                all_done=today.all_done,
                grouped=today.grouped,
                policies=today.policies,
            )
        return known

    def _tell_of_changed_hooks(self) -> None:
        for (type, has_hook), count in self._changed_hooks.items():
            what = "has" if has_hook else "has no"
            had = "had none" if has_hook else "had one"
            warn(
                f"{type} {what} after_children_processed now, but {had} when {count:,} of its outstanding items were "
                f"enqueued: {'it is not called' if has_hook else 'nothing is called'} for those"
            )

    def _restore_counts(self, engine: Engine) -> None:
        for view in self.view.types.values():
            cls = engine.classes.named(view.type, view.track_overall)
            cls.enqueued += view.enqueued
            cls.completed += view.completed
            cls.failed += view.failed
            cls.interrupted += view.interrupted
            cls.deduplicated += view.deduplicated
            cls.retried += view.retried

    def _announce(self, engine: Engine, nodes: dict[int, Node]) -> None:
        stream = engine.stream
        workers = {one.item: worker for worker, one in self.view.running.items()}
        for record in self._recording.live.values():
            if record.running is not None and record.id in nodes:
                attempt = max(record.attempt if record.running == "process" else record.hook_attempt, 1)
                worker = workers.get(record.id, 0)
                nodes[record.id].cls.interrupted += 1
                stream.emit(ItemInterrupted, record.id, record.running, attempt, "crash", worker)
        for record in self._recording.live.values():
            failed = None if record.id in self._left else record.failed
            if failed is not None or (record.closed_over and record.id in nodes):
                stream.emit(ItemReopened, record.id, record.type, failed=failed)
            if failed is not None:
                cls = nodes[record.id].cls
                cls.failed -= 1
                cls.completed += failed == "after_children"
        for number, type, key in self._new_keys:
            stream.emit(ItemAdopted, number, type, key=key)

    def _restore_waits(self, engine: Engine, nodes: dict[int, Node]) -> None:
        """Go on with the waits for further attempts and of groups, each for as long as it was then at the most."""
        now = engine.stream.now()
        for record in self._recording.live.values():
            if record.id in nodes and record.retries and record.failed is None:
                left_s = min(record.due - now, record.delay_s) if record.due else 0.0
                engine.retries.restore(nodes[record.id], record.retries, left_s)
        for group, (due, delay_s) in self._recording.slowed_down.items():
            if due > now:
                engine.dispatcher.restore_slow_down(group, min(due - now, delay_s))

    def _hold_children(self, engine: Engine, nodes: dict[int, Node]) -> set[int]:
        """Let the children of parents that run again wait for that; return the numbers of those not to be queued yet.

        The initial items keep their places in the queue: nothing starts before all of them have been enqueued again.
        """
        live = self._recording.live
        held: set[int] = set()
        waiting: dict[int, list[tuple[str, RecordedChild]]] = {}
        for record in live.values():
            if record.id == ROOT or not self._is_next(live[record.parent]):
                continue
            node = nodes.get(record.id)  # None if it stays failed, and is over
            payload = self._payloads[record.enqueued_seq]
            child = RecordedChild(record.id, node, record.key, payload, self._state_of(record), record.occurrence)
            waiting.setdefault(record.parent, []).append((self.type_today(record.type), child))
            if node is not None and self._is_held(record):
                node.is_held = True
                if record.parent != ROOT:
                    held.add(record.id)
        for record in live.values():
            if record.id == ROOT and self._known_roots is not None:
                continue  # `first_new` has had some of them already
            if (record.id in waiting or record.id in self._ended or record.id == ROOT) and record.id not in self._left:
                recorded = self._recorded_children(record.id, waiting.get(record.id, ()))
                if record.id == ROOT:
                    engine.intake.recorded_roots = self._known_roots = recorded
                else:
                    nodes[record.id].recorded = recorded
                    nodes[record.id].cls.is_plain = False  # what it enqueues must be known again in each attempt
        engine.intake.recorded_roots = self._known_roots
        return held

    def _recorded_children(self, parent: int, waiting: Sequence[tuple[str, RecordedChild]] = ()) -> RecordedChildren:
        ended = self._ended.pop(parent, None) or EndedChildren()
        return RecordedChildren(waiting, self._changes, ended, "an initial item" if parent == ROOT else "a child")

    def _hold_holders(self, nodes: dict[int, Node]) -> set[int]:
        """Let what holds an item that is held wait for that; return the numbers of those that are not to be queued yet.

        Their objects hold the one that was restored, and are made once more when it is known which one runs. That they
        can be made at all must be known before anything runs.
        """
        held: set[int] = set()
        for number in sorted(self._held_by):
            node = nodes.get(number)
            if node is None or (node.is_held and node.parent is not None):  # that one waits for its parent
                continue
            above = nodes[self._held_by[number]]
            if above.id in self._runs_as_recorded:  # but the initial item above it may be another object yet
                while above.parent is not None:
                    above = above.parent
            if not above.is_held:
                continue
            above.recorded.holders.append((node, self._state_of(self._recording.live[number])))
            if above.parent is not None:
                held.add(number)
                node.pending += node.is_ended or node.failed
        return held

    def _queue(self, engine: Engine, nodes: dict[int, Node], held: set[int]) -> None:
        records = [record for record in self._recording.live.values() if record.id in nodes]
        suspects = self._suspects
        for number in sorted(suspects):
            engine.suspects.waiting.append((nodes[number], self._why_given_up(self._recording.live[number])))
        # What was running had been taken already: it comes first again, also from a stack.
        waiting = [r for r in records if self._is_next(r) and r.id not in held]
        waiting.sort(key=lambda record: record.attempt == 0, reverse=engine.dispatcher.takes_last_first)
        for record in waiting:
            if record.id not in suspects:
                engine.dispatcher.put_recorded(nodes[record.id])
        for record in records:
            node = nodes[record.id]
            if record.completed and node.pending == 0 and record.id not in suspects:
                engine.intake.end_again(node)

    def _why_given_up(self, record: RecordedItem) -> str:
        """Return why the item of `record` is not to run, for a message; empty if it is to run."""
        crashes = self._recording.crashes.alone.get(record.id, 0)
        if not record.is_poison:
            found = "was the only one running in three crashes in a row, and was not run again; see what in it ends the process"
            return found if crashes >= POISON_AFTER_CRASHES else ""
        if record.failed is not None and self._recording.crashes.count:
            # Tried between the crashes of another item, it would keep that from ever being found.
            return "had been given up for ending the process, which has crashed since; it is tried again when the run has ended"
        again = "had been given up for ending the process, was tried alone, and ended it again"
        return again if crashes else ""
