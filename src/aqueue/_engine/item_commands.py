"""Retry, skip and cancel: what people ask of items, carried out in slices between which everything else in the loop runs."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from time import monotonic
from typing import Final

from aqueue._engine.parts import Parts
from aqueue._engine.reopening import Reopening
from aqueue._engine.reruns import Reruns
from aqueue._engine.search import Found, InProgress, Search, Step, has_running_hook
from aqueue._engine.stopping import Stage
from aqueue._engine.tree import CLOSED, Node
from aqueue._engine.turns import SLICE_S
from aqueue._engine.workers import Workers
from aqueue._system.notice import warn
from aqueue._verbs import Answer, Cancel, OnItems, Retry, RunIsOver, SeenState, Skip
from aqueue.errors import SteeringError
from aqueue.events import (
    ItemCancelled,
    ItemInterrupted,
    ItemRescheduled,
    ItemSkipped,
    Phase,
    RunSteered,
)
from aqueue.text import visible

__all__ = ["ItemCommands"]

AT_ONCE: Final = 1_000
"""How many items of a command are changed in one go: some 5 ms of the event loop."""

_NO_JOURNAL: Final = (
    "this run has no journal, so items that have ended are forgotten, and can't be retried or skipped; record one with "
    'run_queue(journal="run.db")'
)
_ANOTHER: Final = "another command on items is being carried out; try again when it has been"

_WAITING: Final[frozenset[SeenState]] = frozenset(("queued", "interrupted"))

OnDone = Callable[[Answer | SteeringError], None]


class ItemCommands:
    """Carries out commands on items, one after the other."""

    def __init__(self, parts: Parts, workers: Workers) -> None:
        """Change the items in `parts`, some of which `workers` run."""
        self._parts = parts
        self._stream = parts.stream
        self._tree = parts.tree
        self._stopping = parts.stopping
        self._dispatcher = parts.dispatcher
        self._failures = parts.failures
        self._search = Search(parts, workers)
        self._reopening = Reopening(parts)
        self._reruns = Reruns(parts, self._search, self._reopening, self._hold, self._check_is_on)
        self._is_over = False
        self._queued: deque[tuple[InProgress, OnDone]] = deque()
        self._to_close: list[Node] = []

    # ---- slice by slice -----------------------------------------------------------------------------------------

    def begin(self, command: OnItems, on_done: OnDone) -> None:
        """Carry out `command` from now on, and call `on_done` with what came of it, or with why it can't be carried out."""
        self._queued.append((InProgress(command), on_done))
        if len(self._queued) == 1:
            self._begin_next()

    def _begin_next(self) -> None:
        if self._queued:
            command, on_done = self._queued[0]
            self._dispatcher.is_held = True  # until all is done, since what is reopened now may be all that is left
            self._step(self._work(command), partial(self._end, command, on_done))

    def _end(self, command: InProgress, on_done: OnDone, error: SteeringError | None) -> None:
        self._queued.popleft()
        self._dispatcher.is_held = False
        self._dispatcher.on_dropped()
        self._read_opened()
        on_done(command.answer if error is None else error)
        self._begin_next()

    def _step(self, work: Iterator[Step], on_end: Callable[[SteeringError | None], None]) -> None:
        try:
            step = next(work)
        except StopIteration:
            on_end(None)
        except SteeringError as error:
            on_end(error)
        except Exception as error:  # a bug in aqueue: in a callback of trio's loop it would end the whole program
            warn(f"commands on items may fail: {visible(repr(error), 500)}; the run continues")
            on_end(SteeringError("the run could not carry out the command; its standard error says why"))
        else:
            again = partial(self._step, work, on_end)
            if step is None:
                self._parts.for_items.call_soon(again)
            else:
                step(again)

    def at_once(self, command: OnItems) -> Answer:
        """Carry out `command` before anything else runs, and return what came of it.

        Raises:
            SteeringError: it can't be carried out.
        """
        if self._queued:
            raise SteeringError(_ANOTHER)
        doing = InProgress(command)
        for step in self._work(doing):
            if step is not None:
                raise SteeringError(
                    "some of these items have to be read from the journal; give its path, in a thread: await "
                    f'anyio.to_thread.run_sync(lambda: steering.{command.name.split()[0]}("run.db", …))'
                )
        self._read_opened()
        return doing.answer

    def end(self) -> None:
        """Carry out nothing more: the run is over. What has been carried out is finished."""
        for _ in self._close():
            pass
        self._is_over = True

    # ---- one command --------------------------------------------------------------------------------------------

    def _work(self, doing: InProgress) -> Iterator[Step]:
        self._check_is_on()
        command = doing.command
        if isinstance(command, Retry) and command.completed:
            yield from self._reruns.run(doing)
        else:
            yield from self._apply_in_parts(doing)
        yield from self._close()

    def _read_opened(self) -> None:
        if self._reopening.has_to_read:
            self._step(self._reopening.read(), lambda _: None)

    def _check_is_on(self) -> None:
        if self._is_over or self._stopping.stage is Stage.ENDED or self._dispatcher.is_done:
            raise RunIsOver

    def _apply_in_parts(self, doing: InProgress) -> Iterator[Step]:
        command = doing.command
        is_delayed = self._dispatcher.retries.is_delayed
        waiting = {number for number in command.items.get("retrying", ()) if is_delayed(number)}
        if not isinstance(command, Retry):
            waiting.update(number for state in _WAITING for number in command.items.get(state, ()))
        if waiting:
            self._hold(is_held=True)
        try:
            if waiting:
                yield from self._search.look_for(waiting)
            if not self._tree.keeps_failed:
                self._refuse_forgotten(command)
            for state, unsorted in command.items.items():
                numbers = sorted(unsorted)  # ancestors first
                for start in range(0, len(numbers), AT_ONCE):
                    self._check_is_on()
                    self._apply(doing, state, numbers[start : start + AT_ONCE])
                    yield None
        finally:
            self._search.forget()
            if waiting:
                self._hold(is_held=False)

    def _hold(self, *, is_held: bool) -> None:
        """Let nothing start, and let all waiting nodes stay where they are; or end that."""
        if self._parts.spilling is not None:
            self._parts.spilling.hold(is_held=is_held)
        self._stopping.suspend_starts(is_suspended=is_held)

    def _refuse_forgotten(self, command: OnItems) -> None:
        running = self._search.running()
        numbers = {number for numbers in command.items.values() for number in numbers}
        if not isinstance(command, Cancel) and any(self._search.find(number, running) is None for number in numbers):
            raise SteeringError(_NO_JOURNAL)

    def _apply(self, doing: InProgress, seen: SeenState, numbers: Sequence[int]) -> None:
        """Carry out a command on those of these items that still are in the state in which they were seen."""
        running, in_hook = self._search.running(), self._search.in_hook()
        found: list[Found] = []
        for number in numbers:
            if number in doing.applied:
                continue
            one = self._search.find(number, running)
            why = self._why_not(doing.command, seen, number, one, in_hook)
            if one is None or why:
                doing.note_other(number, why)
            else:
                doing.applied.add(number)
                found.append(one)
        if not found:
            return
        command = doing.command
        self._stream.emit(RunSteered, command.name, command.selector, len(found), command.by)
        for one in found:
            match command:
                case Retry():
                    self._retry(one)
                case Skip():
                    self._skip(one, command)
                case _:
                    self._cancel(one, doing)

    def _why_not(
        self, command: OnItems, seen: SeenState, number: int, found: Found | None, in_hook: AbstractSet[int]
    ) -> str:
        """Return why a command doesn't apply to an item; empty if it does."""
        state = self._state_of(number, found)
        is_as_seen = state == seen or (state in _WAITING and seen in _WAITING)
        if not is_as_seen or state not in command.applies_to or found is None:
            return state
        worker = found.worker
        if worker is not None and worker.place is not None and worker.phase == "process":
            return "cluster"
        if worker is not None and worker.cancelled_by and isinstance(command, Cancel):
            return "cancelled"
        is_closed = found.node.pending == CLOSED
        return "hook" if is_closed and has_running_hook(found.node.parent, in_hook) else ""

    def _state_of(self, number: int, found: Found | None) -> str:
        if found is None:
            if self._search.is_skipped(number):
                return "skipped"
            return "completed" if number <= self._parts.intake.last_id else "unknown"
        if found.place == "parent" and self._dispatcher.retries.is_delayed(number):
            return "retrying"
        return found.state

    # ---- one item -----------------------------------------------------------------------------------------------

    def _retry(self, found: Found) -> None:
        node = found.node
        if found.place == "failed":
            self._reopening.reopen(node)
        else:
            now = self._stream.now()
            self._stream.append(ItemRescheduled(self._stream.next_seq(), now, node.id, node.cls.type, now))
            self._dispatcher.retries.end_early(node.id)

    def _skip(self, found: Found, command: Skip) -> None:
        node = found.node
        cls, has_failed = node.cls, found.place == "failed"
        phase = self._end_attempts(found)
        if found.worker is not None:
            cls.interrupted += 1
            number = node.attempt_number(phase)
            self._stream.emit(ItemInterrupted, node.id, phase, number, "skipped", found.worker.number)
            found.worker.abandon(node)
        group = node.group if phase == "process" and found.place not in ("failed", "retrying") else None
        self._stream.emit(ItemSkipped, node.id, cls.type, phase, has_failed, group, command.result)
        cls.skipped += 1
        if has_failed:
            cls.failed -= 1
            self._reopening.take_back(node)
        elif phase == "after_children":
            cls.completed -= 1
        node.cls = self._parts.classes.skipped(cls)
        node.result = command.result
        has_started = found.place in ("running", "failed")
        if phase == "after_children":
            node.hook_attempt += has_started
        elif not has_started:
            node.attempt -= 1  # as after an attempt: that of its latest one
        self._end_phase(node, phase, has_failed=has_failed)
        self._tree.earlier_results.pop(node.id, None)

    def _cancel(self, found: Found, doing: InProgress) -> None:
        node = found.node
        if found.worker is not None:
            self._stream.emit(ItemCancelled, node.id)
            found.worker.cancel(doing.command.by)
            return
        phase = self._end_attempts(found)
        group = node.group if phase == "process" and found.place != "retrying" else None
        self._parts.outcomes.fail_waiting(doing.error, node, phase, group)
        self._end_phase(node, phase, has_failed=False)

    def _end_attempts(self, found: Found) -> Phase:
        """Let nothing of a node start any more, and return which phase was running or to run."""
        node, dispatcher = found.node, self._dispatcher
        retries = dispatcher.retries
        phase: Phase = "process"
        # Looked up again: the parent that it waited for may have been skipped or cancelled a moment ago, or have ended.
        place = "retrying" if node.id in retries.retrying else found.place
        match place:
            case "failed":
                return self._failures.phase_of(node.id)
            case "running":
                assert found.worker is not None
                phase = found.worker.phase
            case "retrying":
                phase = retries.retrying[node.id].phase
                retries.withdraw(node.id)
            case "queue":
                dispatcher.drop(node)
            case "parent" if not node.is_held:
                dispatcher.drop(node)
            case "suspects":
                self._parts.suspects.remove(node)
            case "opening":
                del dispatcher.opening[node.id]
            case _:
                pass
        retries.forget(node)
        if node.is_held:
            retries.end_delay(node.id)
            node.is_held = False
        return phase

    def _end_phase(self, node: Node, phase: Phase, *, has_failed: bool) -> None:
        """Let the `process` of `node` count as ended, or its hook; the subtree is closed later if all below has ended."""
        if has_failed and node.pending != CLOSED:
            return
        if has_failed:
            node.pending = 1  # until it is closed again
            self._reopening.open_above(node)
        elif phase == "after_children":
            node.pending += 1
        elif node.recorded is not None:
            self._parts.intake.end_recorded(node, name_others=False)
        self._to_close.append(node)

    def _close(self) -> Iterator[Step]:
        """Close the subtrees that have ended by the command, all at the end, so that no hook above runs for each of them."""
        end = monotonic() + SLICE_S
        while self._to_close:
            node = self._to_close.pop()
            node.pending -= 1
            self._dispatcher.put_due(self._tree.ascend(node, self._stream.now()))
            if monotonic() > end:
                yield None
                self._check_is_on()
                end = monotonic() + SLICE_S
        self._dispatcher.on_dropped()
