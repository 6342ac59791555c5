"""An attempt at an item's `process` or hook, and the functions that the item's code can call."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import get_ident
from time import monotonic
from typing import Any, Final, NoReturn

import msgspec

from aqueue._codec.digests import Occurrences
from aqueue._codec.results import decode_result
from aqueue._engine.context import Current, running_attempt
from aqueue._engine.tree import Node
from aqueue._stream.clock import Clock
from aqueue._stream.event_stream import EventStream
from aqueue._system.loop import CallSoon
from aqueue._system.notice import warn
from aqueue._verbs import Answer, AnyCommand
from aqueue.errors import InvalidArgument, MisplacedCall
from aqueue.events import Event, ItemDescribed, Phase
from aqueue.text import DESCRIPTION_MAX_CHARS, visible, visible_repr

__all__ = [
    "NO_CHILD_RESULTS",
    "NO_ENGINE",
    "NO_LIFESPAN",
    "NO_SHARED",
    "ROOM_CHECK_EVENTS",
    "Attempt",
    "EarlierAttempts",
    "EngineForItems",
    "ForkedAttempt",
    "end_forked_child",
    "no_description",
    "refusal",
]

ROOM_CHECK_EVENTS: Final = 256
"""How often `enqueue` and `set_desc` check whether the reporters keep up: once per this many events."""

NO_SHARED: Final = object()
"""The value of `shared` in a run without a lifespan."""

NO_ENGINE: Final[Any] = None


class EarlierAttempts(msgspec.Struct, gc=False, eq=False):
    """What the earlier attempts at one phase of an item leave for the next attempt.

    Attributes:
        failed: how many attempts have failed since the item was enqueued or reopened.
        children: a digest of 16 bytes per child that the attempts enqueued, in order. An opaque child adds a second digest
            of 16 bytes, which is the same for all children that look like it (`Retries.child_digests`).
        unmatched: how many children of each digest the running attempt has not enqueued again; None in the first attempt.
        held: the objects that children refer to and that can't be stored, by `id`: a function that returns the object, or
            None once it is gone, and a number for the object.
        is_counted: whether an attempt in this process failed, so that the item has been counted for `max_items`.
    """

    failed: int = 0
    children: bytearray = msgspec.field(default_factory=bytearray)
    unmatched: dict[bytes, int] | None = None
    held: dict[int, tuple[Callable[[], object], int]] = msgspec.field(default_factory=dict)
    is_counted: bool = False


@dataclass(slots=True, eq=False)
class EngineForItems:
    """The engine as the code of items sees it, through an `Attempt`. There is one per run.

    Attributes:
        stream: where events go.
        append, next_seq, clock, is_heard: the stream's, held here too: `set_desc` uses them once per event.
        thread: the identifier of the event loop's thread.
        call_soon: calls a function in the event loop, from any thread.
        add, add_repeatable: enqueue a child; see `aqueue._engine.intake.Intake`.
        attempts_left: returns how many attempts may follow the one that runs.
        identity: returns what is the same for an item in every rerun; empty without a journal. Works in any thread.
        stop: stops the run gracefully, for a reason.
        slow_down: starts nothing of a group for so many seconds; the node is that of the item that asks.
        slow_down_later: does the same for a caller in another thread, who can't be given an error.
        steer: carries out a command, in the loop's thread.
        shared: what `lifespan` yielded, or `NO_SHARED`.
    """

    stream: EventStream
    call_soon: CallSoon
    add: "Callable[[Any, Node | None, Attempt], None]"
    add_repeatable: "Callable[[Any, Node, Attempt], None]"
    attempts_left: Callable[[Node], int]
    identity: Callable[[Node], bytes]
    stop: Callable[[str], None]
    slow_down: Callable[[str, float, Node | None], None]
    slow_down_later: Callable[[str, float, Node | None], None]
    append: Callable[[Event], None] = field(init=False)
    next_seq: Callable[[], int] = field(init=False)
    clock: Clock = field(init=False)
    is_heard: bool = field(init=False)
    thread: int = field(default_factory=get_ident, init=False)
    steer: Callable[[AnyCommand], Answer] = field(init=False)
    shared: Any = NO_SHARED

    def __post_init__(self) -> None:
        """Copy what is used of the stream."""
        self.append, self.next_seq, self.clock = self.stream.append, self.stream.next_seq, self.stream.clock
        self.is_heard = self.stream.is_heard


class Attempt(msgspec.Struct, gc=False, eq=False):
    """One attempt at an item: holds `enqueue` and `set_desc`, and answers `aqueue.current` and its siblings.

    The garbage collector doesn't track attempts, as it doesn't track nodes. A user's object may keep `enqueue`, and an
    exception keeps it in the frame that raised. So an attempt that has ended drops its references: a cycle through it would
    never be collected.

    Attributes:
        engine: the engine; None once the attempt has ended. To find out whether it has, look at `node`.
        node: the item's node; None once the attempt has ended.
        worker: the worker's number.
        phase: ``process``, or ``after_children`` for the hook.
        deduplicated: how many of its children were dropped because their key was known.
        occurrences: how many children of each type and payload it has enqueued; only with a journal.
        earlier: what is kept for the next attempt; None if there is nothing to keep.
    """

    engine: "EngineForItems"
    node: Node | None
    worker: int
    phase: Phase
    deduplicated: int = 0
    occurrences: Occurrences | None = None
    earlier: EarlierAttempts | None = None

    def enqueue(self, item: Any, /) -> None:
        """Enqueue a child; see `aqueue.Item.process`."""
        engine = self.engine
        parent = self.node
        if parent is None or get_ident() != engine.thread or self.phase != "process":
            self._refuse("enqueue")
        assert parent is not None
        engine.add(item, parent, self)

    def enqueue_repeatable(self, item: Any, /) -> None:
        """Enqueue a child of an item that may be retried: a child that an earlier attempt enqueued isn't added twice."""
        engine = self.engine
        parent = self.node
        if parent is None or get_ident() != engine.thread or self.phase != "process":
            self._refuse("enqueue")
        assert parent is not None
        engine.add_repeatable(item, parent, self)

    def set_desc(self, text: str, /) -> None:
        """Describe what the item is doing; see `aqueue.Item.process`."""
        engine = self.engine
        node = self.node
        if node is None or get_ident() != engine.thread:
            self._refuse("set_desc")
        assert node is not None
        if type(text) is not str:
            if not isinstance(text, str):
                raise no_description(text, node.id, node.cls.type)
            text = str.__str__(text)
        if not engine.is_heard:
            return
        if len(text) > DESCRIPTION_MAX_CHARS or not text.isprintable():
            text = visible(text, DESCRIPTION_MAX_CHARS)
        seq = engine.next_seq()
        engine.append(ItemDescribed(seq, monotonic() + engine.clock.offset, node.id, self.worker, text))
        if seq % ROOM_CHECK_EVENTS == 0:
            engine.stream.make_room()

    def _refuse(self, name: str) -> None:
        raise refusal(name, None if self.node is None else (self.node.id, self.node.cls.type))

    @property
    def has_ended(self) -> bool:
        """Whether the item's code has returned or raised."""
        return self.node is None

    def current(self) -> Current | None:
        """Return the running item, or None once the attempt has ended."""
        engine = self.engine
        node = self.node
        if node is None:
            return None
        identity = engine.identity(node)
        left = engine.attempts_left(node)
        if self.node is None:  # it ended meanwhile in another thread, so `identity` may have met cut links
            return None
        return Current(
            node.id, node.cls.type, node.attempt_number(self.phase), self.phase, self.worker, identity.hex(), left
        )

    def shared(self) -> Any:
        """Return what `lifespan` yielded."""
        engine = self.engine
        if engine is NO_ENGINE:  # the attempt ended meanwhile in another thread
            raise MisplacedCall("aqueue.shared() was called after the item had ended; call it while the item runs")
        if engine.shared is NO_SHARED:
            raise MisplacedCall(NO_LIFESPAN)
        return engine.shared

    def child_results(self) -> list[Any]:
        """Return the results of the direct children."""
        if self.node is None or self.phase != "after_children":
            raise MisplacedCall(NO_CHILD_RESULTS)
        results = self.node.child_results or {}
        return [decode_result(results[child]) for child in sorted(results)]

    def stop(self, reason: str) -> None:
        """Stop the run gracefully, from any thread."""
        engine = self.engine
        if engine is NO_ENGINE:
            raise MisplacedCall("aqueue.stop() was called after the item had ended; call it while the item runs")
        reason = visible(reason, DESCRIPTION_MAX_CHARS)
        if get_ident() == engine.thread:
            engine.stop(reason)
        else:
            engine.call_soon(lambda: engine.stop(reason))

    def slow_down(self, group: str, seconds: float) -> None:
        """Start nothing of `group` for a while, from any thread."""
        engine = self.engine
        node = self.node
        if engine is NO_ENGINE or node is None:
            raise MisplacedCall("aqueue.slow_down() was called after the item had ended; call it while the item runs")
        if get_ident() == engine.thread:
            engine.slow_down(group, seconds, node)
        else:
            engine.call_soon(lambda: engine.slow_down_later(group, seconds, node))

    def steer(self, command: AnyCommand) -> Answer:
        """Carry out a command on this run."""
        engine = self.engine
        if engine is NO_ENGINE or get_ident() != engine.thread:
            why = (
                "from another thread; use anyio.from_thread.run_sync there"
                if engine is not NO_ENGINE
                else "after the item had ended"
            )
            raise MisplacedCall(f"a function of aqueue.steering was called without the path of a journal {why}")
        return engine.steer(command)


class ForkedAttempt(Attempt, gc=False, eq=False):
    """An attempt whose code called `os.fork` and has gone on in the child process.

    The child process has a copy of the run: queue, workers and connections. If the engine went on in it, each waiting item
    would run twice. A child process that replaces itself (`subprocess`) or exits by itself (`multiprocessing`, `os._exit`)
    never returns to the engine; any other is ended when it returns. Detecting that costs other attempts nothing: the first
    thing the engine does after an attempt is to clear `node`, and this class ends the process when that happens.
    """

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute, or end the process if the engine clears `engine` or `node`."""
        if name in {"engine", "node"} and self.node is not None:
            end_forked_child(self.node.id, self.node.cls.type)
        super().__setattr__(name, value)


def end_forked_child(item: int, type: str) -> NoReturn:
    """End this process: an item forked it and then returned to the engine in the child."""
    warn(
        f"item {item} ({type}) called os.fork(), and the child process returned to aqueue, which has ended it; the run "
        "continues in the parent. End a forked child with os._exit(…), or use subprocess or multiprocessing"
    )
    os._exit(1)


def _mark_forked() -> None:
    attempt = running_attempt.get(None)
    if type(attempt) is Attempt:
        attempt.__class__ = ForkedAttempt


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


NO_LIFESPAN: Final = (
    "aqueue.shared() returns what lifespan yielded, but this run has no lifespan; pass lifespan=… to run_queue"
)
"""What `aqueue.shared` says in a run without a lifespan."""

NO_CHILD_RESULTS: Final = "aqueue.child_results() works only inside an item's after_children_processed"
"""What `aqueue.child_results` says in a `process`."""


def refusal(name: str, item: tuple[int, str] | None) -> MisplacedCall:
    """Return the MisplacedCall for `enqueue` or `set_desc`, called in another thread, or (`item` is None) too late."""
    if item is None:
        return MisplacedCall(f"{name} was called after the item's process had ended; call it before process returns")
    number, type = item
    return MisplacedCall(
        f"{name} was called by item {number} ({type}) from another thread; use anyio.from_thread.run_sync({name}, …) there"
    )


def no_description(text: object, item: int, type: str) -> InvalidArgument:
    """Return the InvalidArgument for a description that isn't a string."""
    return InvalidArgument(f"set_desc(…) of item {item} ({type}) was given {visible_repr(text)}; it must be a string")
