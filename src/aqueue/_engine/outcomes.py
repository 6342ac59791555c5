"""What follows from an attempt that raised: a retry, a failure for good, or an interruption."""

from time import monotonic
from typing import Literal

import anyio

from aqueue._engine.attempt import Attempt
from aqueue._engine.dispatcher import Dispatcher
from aqueue._engine.exceptions import as_failure, is_cancelled_group, without_own_frames
from aqueue._engine.failures import Failures
from aqueue._engine.places import AttemptLost
from aqueue._engine.stopping import Stage, Stopping
from aqueue._engine.tree import Node, Tree
from aqueue._engine.worker import TaskSpoiled, Worker
from aqueue._stream.error_info import error_info
from aqueue._stream.event_stream import EventStream
from aqueue.errors import CancelledByUser, MisplacedCall
from aqueue.events import NO_DATA, ItemFailed, ItemInterrupted, Phase
from aqueue.figures import person
from aqueue.retry import RetryAfter

__all__ = ["Outcomes", "cancelled_by"]


def cancelled_by(by: str) -> CancelledByUser:
    """Return the error of an item that `by`, as ``user@host via command``, has cancelled."""
    return CancelledByUser(f"cancelled by {person(by)}")


class Outcomes:
    """Records how an attempt that raised ended, and acts on it. `Workers` itself records completions."""

    def __init__(
        self, stream: EventStream, stopping: Stopping, dispatcher: Dispatcher, tree: Tree, failures: Failures
    ) -> None:
        """Record in `stream` and `failures`; queue retries with `dispatcher`; keep nodes in `tree`; stop the run by `stopping`."""
        self._stream = stream
        self._stopping = stopping
        self._dispatcher = dispatcher
        self._retries = dispatcher.retries
        self._tree = tree
        self._failures = failures
        self._cancelled_class: type[BaseException] = anyio.get_cancelled_exc_class()

    def is_cancellation(self, error: BaseException) -> bool:
        """Return whether `error` is the event loop's cancellation."""
        return isinstance(error, self._cancelled_class)

    def _is_ordinary(self, error: BaseException) -> bool:
        """Return whether `error` is an exception or a cancellation, and doesn't ask the program to end."""
        return isinstance(error, (Exception, self._cancelled_class)) or is_cancelled_group(error, self._cancelled_class)

    def interrupt(self, error: BaseException, node: Node, attempt: Attempt) -> bool:
        """Record an interruption, if `error` is one, and return whether it is. Its worker takes no more items then."""
        if type(error) is AttemptLost:
            self._interrupt(node, attempt, "worker_lost")
            if self._stopping.stage is Stage.RUNNING:
                self._retries.run_again(node, attempt)
                self._dispatcher.put_again(node)
            else:
                self._leave(node, attempt.phase)
            return True
        is_ordinary = self._is_ordinary(error)
        if is_ordinary and not self._stopping.is_cancelled:
            return False
        if not is_ordinary:
            what = f"item {node.id} ({node.cls.type}) raised {type(error).__qualname__}"
            self._stopping.fail(error, what, cancel=True)
        self._interrupt(node, attempt, "cancelled")
        self._leave(node, attempt.phase)
        self._stopping.note_cancellation()
        return True

    def _leave(self, node: Node, phase: Phase) -> None:
        """Note that an attempt at `phase` was interrupted, and that no other one follows in this process."""
        self._dispatcher.left.append((node, phase))
        if phase == "process":
            node.attempt += 1
        else:
            node.hook_attempt += 1

    def by_person(self, error: BaseException, worker: Worker) -> BaseException:
        """Return what an attempt has failed with that raised `error`: if a person cancelled it, a `CancelledByUser`."""
        by, worker.cancelled_by = worker.cancelled_by, ""
        if not by or not self._is_ordinary(error) or isinstance(error, AttemptLost):
            return error
        cancelled = cancelled_by(by)
        if isinstance(error, Exception):
            cancelled.__cause__ = error
        return cancelled

    def drop(self, error: BaseException, worker: Worker, *, is_spoiled: bool) -> bool:
        """Ignore what an abandoned attempt raised; return whether its worker may take more items.

        Raises:
            TaskSpoiled: it may, but in another task.
        """
        node, worker.abandoned, worker.cancelled_by = worker.abandoned, None, ""
        assert node is not None
        if not self._is_ordinary(error):
            self._stopping.fail(
                error, f"item {node.id} ({node.cls.type}) raised {type(error).__qualname__}", cancel=True
            )
            return False
        if is_spoiled:
            raise TaskSpoiled from None
        return True

    def _interrupt(self, node: Node, attempt: Attempt, reason: Literal["cancelled", "worker_lost"]) -> None:
        node.cls.interrupted += 1
        self._stream.emit(
            ItemInterrupted, node.id, attempt.phase, node.attempt_number(attempt.phase), reason, attempt.worker
        )

    def retry(self, error: BaseException, node: Node, attempt: Attempt) -> bool:
        """Schedule a retry, if the item may be retried after `error`, and return whether it is."""
        # Hide the engine's frames. Not by assigning __traceback__: a frozen dataclass refuses that.
        error.with_traceback(without_own_frames(error.__traceback__))
        if isinstance(error, CancelledByUser):
            return False
        self._failures.forget_earlier(error)
        is_retried = self._retries.schedule(as_failure(error, node.id, node.cls.type), node, attempt)
        attempt.earlier = None
        if is_retried:
            self._failures.restore_first(error)
        return is_retried

    def fail(self, error: BaseException, node: Node, started: float, attempt: Attempt) -> float:
        """Record that an attempt that began at `started`, by the monotonic clock, failed for good; return the time of now."""
        raised = as_failure(error, node.id, node.cls.type)
        if (
            isinstance(raised, RetryAfter)
            and attempt.phase == "process"
            and node.has_children
            and not self._retries.knows_children(node)
        ):
            refused = MisplacedCall(
                f"item {node.id} ({node.cls.type}) raised RetryAfter after it had enqueued items; without a retry policy the "
                "next attempt can't recognize them; add 'retry = aqueue.Retry()' to the class"
            )
            refused.__cause__ = raised
            raised = refused
        node.cls.deduplicated += attempt.deduplicated
        self.fail_for(raised, node, attempt.worker, started, attempt.phase, attempt.deduplicated)
        return self._stream.now()

    def fail_waiting(self, error: Exception, node: Node, phase: Phase, group: str | None) -> None:
        """Record that the item of `node`, which waited, failed for good because of `error`; nothing of it waits any more.

        Parameters:
            error: why.
            node: the node.
            phase: which phase it waited for.
            group: the group in which its `process` was queued; None if it wasn't, or for none.
        """
        self.fail_for(error, node, 0, monotonic(), phase, group=group)
        if phase == "process":
            node.attempt -= 1  # that of a failed node is its last one
        else:
            node.cls.completed -= 1
            node.hook_attempt -= 1

    def fail_for(
        self,
        error: Exception,
        node: Node,
        worker: int,
        started: float,
        phase: Phase,
        deduplicated: int = 0,
        group: str | None = None,
    ) -> None:
        """Record that the item of `node` failed for good because of `error`."""
        stream = self._stream
        cls = node.cls
        ended = monotonic()
        failure = ItemFailed(
            stream.next_seq(),
            ended + stream.clock.offset,
            node.id,
            cls.type,
            worker,
            ended - started,
            error_info(error),
            phase,
            node.attempt_number(phase),
            deduplicated,
            group,
        )
        stream.append(failure)
        cls.failed += 1
        node.failed = True
        node.num_failed += 1
        if phase == "process":  # after a hook, the node keeps that of `process`: the hook may be retried
            node.result = NO_DATA
        self._retries.forget(node)
        self._tree.keep_failed(node)
        self._tree.earlier_results.pop(node.id, None)
        self._failures.add(failure, error)
        self._failures.restore_first(error)
        if not isinstance(error, CancelledByUser):
            self._stopping.look_at_failure(f"item {node.id} ({cls.type})", self._failures.num_counted)
