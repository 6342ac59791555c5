"""What an item's code can ask of its run: `current`, `shared`, `child_results`, `slow_down` and `stop`."""

from contextvars import ContextVar
from typing import Any, Protocol

import msgspec

from aqueue._arguments import SECONDS, check_number
from aqueue._verbs import Answer, AnyCommand
from aqueue.errors import InvalidArgument, MisplacedCall
from aqueue.events import Phase
from aqueue.text import visible_repr, without_surrogates

__all__ = ["Current", "child_results", "current", "current_or_none", "shared", "slow_down", "steer", "stop"]


class Current(msgspec.Struct, frozen=True):
    """The running item.

    Attributes:
        id: its number, from 1, in the order of enqueue.
        type: its class, as ``module:qualname``.
        attempt: which try of this phase, from 1.
        phase: ``process``, or ``after_children`` inside the hook.
        worker: the number of the worker that runs it, from 1.
        idempotency_key: the same in every rerun of this item, and different for every other item. Pass it to a remote API,
            so that a request that is made twice counts once. A digest of the run, the item's type, and its key; for an item
            without a key, of its payload, its place among equal siblings, and its ancestors. Empty without a journal.
        attempts_left: how many attempts may follow this one, if it raises an exception that the class's `Retry` covers, or
            `RetryAfter` in a class without that policy. 0 in the last attempt: an exception then fails the item for good.
    """

    id: int
    type: str
    attempt: int
    phase: Phase
    worker: int
    idempotency_key: str = ""
    attempts_left: int = 0


class RunningAttempt(Protocol):
    """What the engine puts into the context variables of an item's code."""

    @property
    def has_ended(self) -> bool: ...
    def current(self) -> Current | None: ...
    def shared(self) -> Any: ...
    def child_results(self) -> list[Any]: ...
    def stop(self, reason: str) -> None: ...
    def slow_down(self, group: str, seconds: float) -> None: ...
    def steer(self, command: AnyCommand) -> Answer: ...


running_attempt: ContextVar[RunningAttempt] = ContextVar("aqueue_running_attempt")


def current_or_none() -> Current | None:
    """Return the running item, or None outside an item's `process` and hook."""
    attempt = running_attempt.get(None)
    return None if attempt is None else attempt.current()


def current() -> Current:
    """Return the running item.

    Raises:
        MisplacedCall: called outside an item's `process` and hook, or after it had ended.
    """
    running = current_or_none()
    if running is None:
        raise _misplaced("current")
    return running


def shared() -> Any:
    """Return what `lifespan` yielded, in this process.

    Raises:
        MisplacedCall: called outside an item's `process` and hook, or after it had ended, or the run has no `lifespan`.
    """
    return _attempt("shared").shared()


def child_results() -> list[Any]:
    """Return the results of the running item's direct children, in the order in which they were enqueued.

    Results that are None are left out. The others come back as JSON has them: a tuple is a list, for example.

    Raises:
        MisplacedCall: called outside an item's `after_children_processed`.
    """
    return _attempt("child_results").child_results()


def stop(reason: str) -> None:
    """Stop the run gracefully: no more items are taken, and the running ones finish.

    The run ends as ``interrupted``, unless nothing was left to do. Can be called from a thread that an item started.

    Parameters:
        reason: for people to read; `RunResult.stop_reason` has its first 1,000 characters.

    Raises:
        InvalidArgument: `reason` isn't a string.
        MisplacedCall: called outside an item's `process` and hook.
    """
    attempt = _attempt("stop")
    if not isinstance(reason, str):
        raise InvalidArgument(f"stop(reason=…) is {visible_repr(reason)}; it must be a string")
    attempt.stop(str.__str__(reason))


def slow_down(group: str, seconds: float) -> None:
    """Start no more items of a group for some time, for example when a server asks its clients to slow down.

    Running items go on. A resume waits for the rest of the time. Of several calls, the longest pause counts. Can be called
    from a thread that an item started.

    Parameters:
        group: the group's name, as the items' `group` gives it.
        seconds: how long from now, from 0 to a year (31,536,000).

    Raises:
        InvalidArgument: `group` isn't a string, `seconds` is out of range, or `limits` returned neither a `Limit` nor
            None for the group.
        MisplacedCall: called outside an item's `process` and hook.
    """
    attempt = _attempt("slow_down")
    if not isinstance(group, str):
        raise InvalidArgument(f"slow_down(group=…) is {visible_repr(group)}; it must be a group's name, a string")
    check_number("slow_down(seconds=…)", seconds, 0, kind=SECONDS)
    attempt.slow_down(without_surrogates(str.__str__(group)), seconds)


def steer(command: AnyCommand) -> Answer:
    """Carry out `command` on the run of the item that calls this.

    Raises:
        SteeringError: it can't be carried out.
        MisplacedCall: called outside an item's `process` and hook, or in another thread or process.
    """
    attempt = running_attempt.get(None)
    if attempt is None or attempt.has_ended:
        raise MisplacedCall(
            "which run? outside an item's process or after_children_processed, a function of aqueue.steering needs the path of "
            'the run\'s journal, as in steering.pause("run.db")'
        )
    return attempt.steer(command)


def _attempt(name: str) -> RunningAttempt:
    attempt = running_attempt.get(None)
    if attempt is None or attempt.has_ended:
        raise _misplaced(name)
    return attempt


def _misplaced(name: str) -> MisplacedCall:
    where = "" if name == "child_results" else "process or "
    return MisplacedCall(f"aqueue.{name}() works only while an item's {where}after_children_processed is running")
