"""Retries: which items are retried and when, and how a retried item's children are recognized."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from types import MethodType
from typing import Any, Final
from weakref import ref

import msgspec

from aqueue._codec.digests import DIGEST_BYTES, child_digest
from aqueue._codec.item_codec import PayloadCodec
from aqueue._engine.attempt import Attempt, EarlierAttempts
from aqueue._engine.item_class import ItemClass
from aqueue._engine.payloads import ancestor_id
from aqueue._engine.tree import Node
from aqueue._stream.error_info import error_info
from aqueue._stream.event_stream import EventStream
from aqueue._system.notice import warn
from aqueue._system.timers import Timers
from aqueue.errors import ChildrenNotComparable
from aqueue.events import ItemRetryScheduled, Phase
from aqueue.retry import Retry, asked_delay_s
from aqueue.text import visible_repr

__all__ = ["Retries"]

_ONLY_WHEN_ASKED: Final = Retry(on=())
"""How an item of a class without a policy is retried: after a `RetryAfter`, and nothing else."""


class RetryWait(msgspec.Struct, frozen=True, eq=False):
    """A node that waits for its next attempt at a phase."""

    node: Node
    phase: Phase


class Retries:
    """The items that are retried, or may be.

    Attributes:
        retrying: what waits for its next attempt, by the number of the item.
    """

    def __init__(
        self, stream: EventStream, timers: Timers, clock: Callable[[], float], on_due: Callable[[Node, Phase], None]
    ) -> None:
        """Start without items.

        Parameters:
            stream: where scheduled retries are recorded.
            timers: calls functions at a time of `clock`.
            clock: returns the loop's time, seconds.
            on_due: called when the next attempt of a node, at a phase, is due; it removes the node from `retrying`.
        """
        self.retrying: dict[int, RetryWait] = {}
        self._stream = stream
        self._timers = timers
        self._clock = clock
        self._on_due = on_due
        self._earlier: dict[int, EarlierAttempts] = {}
        self._not_before: dict[int, float] = {}
        self._codec = PayloadCodec()
        self._numbers = count(1)
        self._warned: set[str] = set()

    # ---- what is remembered -------------------------------------------------------------------------------------

    def earlier(self, node: Node) -> EarlierAttempts | None:
        """Return what earlier attempts at the current phase of `node` have left; None if nothing is kept."""
        return self._earlier.get(node.id)

    def is_counted(self, node: Node) -> bool:
        """Return whether an attempt at the current phase of `node` has failed in this process."""
        earlier = self._earlier.get(node.id)
        return earlier is not None and earlier.is_counted

    def attempts_left(self, node: Node) -> int:
        """Return how many attempts may follow the one that runs."""
        earlier = self._earlier.get(node.id)
        policy = node.cls.policies.retry or _ONLY_WHEN_ASKED
        return max(policy.attempts - 1 - (0 if earlier is None else earlier.failed), 0)

    def forget(self, node: Node) -> None:
        """Drop what is kept of `node`: the phase has ended."""
        if self._earlier:
            self._earlier.pop(node.id, None)

    def restore(self, retried: Iterable[tuple[Node, int, float, float]]) -> None:
        """Take over the retries of a recorded run; see `aqueue._engine.restored_run.RestoredRun.retried`.

        No wait gets longer than it was when it was recorded: the clock may have been set back since.
        """
        now = self._stream.now()
        for node, failed, due, delay_s in retried:
            self._earlier[node.id] = EarlierAttempts(failed)
            node.cls.is_plain = False
            if due > now:
                self._not_before[node.id] = self._clock() + min(due - now, delay_s)

    def wait_if_not_due(self, node: Node, phase: Phase) -> bool:
        """Let a recorded node wait for its next attempt at `phase`, unless it is due; return whether it waits."""
        delay_s = self._not_before.pop(node.id, 0.0) - self._clock()
        if delay_s <= 0:
            return False
        self._wait(node, delay_s, phase)
        return True

    def is_delayed(self, item: int) -> bool:
        """Return whether a recorded item, which isn't queued yet, waits for its next attempt then."""
        return item in self._not_before

    def end_delay(self, item: int) -> None:
        """Let a recorded item not wait for its next attempt, once it is queued."""
        self._not_before.pop(item, None)

    # ---- after a failed attempt ---------------------------------------------------------------------------------

    @staticmethod
    def knows_children(node: Node) -> bool:
        """Return whether the next attempt will recognize the children that this one enqueued."""
        return node.cls.policies.retry is not None or node.recorded is not None

    def schedule(self, error: Exception, node: Node, attempt: Attempt) -> bool:
        """Schedule another attempt after `error`; return False if there is none."""
        cls = node.cls
        phase = attempt.phase
        earlier = attempt.earlier or self._earlier.get(node.id) or EarlierAttempts()
        policy = cls.policies.retry or _ONLY_WHEN_ASKED
        if earlier.failed + 1 >= policy.attempts or not self._covers(policy, error, cls):
            return False
        if phase == "process" and node.has_children and not self.knows_children(node):
            return False
        stream = self._stream
        earlier.failed += 1
        earlier.is_counted = True
        asked_s = asked_delay_s(error)
        delay_s = policy.delay_s(earlier.failed) if asked_s is None else asked_s
        now = stream.now()
        info = error_info(error)
        number = node.attempt_number(phase)
        stream.append(
            ItemRetryScheduled(stream.next_seq(), now, node.id, attempt.worker, info, now + delay_s, phase, number)
        )
        cls.retried += 1
        self._remember(node, earlier)
        if phase == "process":
            node.attempt += 1
        else:
            node.hook_attempt += 1
        self._wait(node, delay_s, phase)
        return True

    def _covers(self, policy: Retry, error: Exception, cls: ItemClass) -> bool:
        try:
            return policy.covers(error)
        except Exception as raised:  # `on` can be a function of the user
            if cls.type not in self._warned:
                self._warned.add(cls.type)
                warn(
                    f"items of {cls.type} are not retried: Retry(on=…) raised {visible_repr(raised)} for {visible_repr(error)}; "
                    "the function must return True or False for every exception"
                )
            return False

    def run_again(self, node: Node, attempt: Attempt) -> None:
        """Keep the children of an attempt at `process` that was lost with its worker. It doesn't count as a failure."""
        earlier = attempt.earlier or self._earlier.get(node.id) or EarlierAttempts()
        earlier.is_counted = True
        self._remember(node, earlier)
        node.attempt += 1

    def _remember(self, node: Node, earlier: EarlierAttempts) -> None:
        node.cls.is_plain = (
            False  # from now on attempts at this class must look for what is kept, even without a policy
        )
        children = earlier.children
        earlier.unmatched = Counter(
            bytes(children[start : start + DIGEST_BYTES]) for start in range(0, len(children), DIGEST_BYTES)
        )
        self._earlier[node.id] = earlier

    def _wait(self, node: Node, delay_s: float, phase: Phase) -> None:
        wait = self.retrying[node.id] = RetryWait(node, phase)
        self._timers.after(delay_s, partial(self._end_wait, wait))

    def _end_wait(self, wait: RetryWait) -> None:
        if self.retrying.get(wait.node.id) is wait:  # a person may have ended it before its time
            self._on_due(wait.node, wait.phase)

    def end_early(self, item: int) -> None:
        """Let an item that waits for its next attempt have it now, or as soon as it is queued."""
        self.end_delay(item)
        wait = self.retrying.get(item)
        if wait is not None:
            self._wait(wait.node, 0.0, wait.phase)

    def withdraw(self, item: int) -> None:
        """Let an item that waits for its next attempt have none."""
        self.forget(self.retrying.pop(item).node)

    # ---- the children of an item that is retried ------------------------------------------------------------

    def child_digests(
        self, item: Any, parent: Node, cls: ItemClass, key: str | None, state: bytes, earlier: EarlierAttempts
    ) -> tuple[bytes, bytes]:
        """Return a digest of 16 bytes that is the same for the same child of every attempt.

        A child is opaque if it has no key, there is no journal, and it refers to an object that can't be stored. Such objects
        are compared by identity: a client that all items share, an ancestor. The second digest, empty for a child that isn't
        opaque, leaves these objects out; it is the same for all children that are otherwise equal.

        Parameters:
            item: the child.
            parent: its parent, which is retried, or may be.
            cls: what is known about its class.
            key: its key, if it has one; then nothing else matters.
            state: its state with a journal; empty without one.
            earlier: what the attempts at the parent have left.

        Raises:
            ChildrenNotComparable: it refers to such an object that no child of an earlier attempt referred to, and a child
                that is otherwise equal hasn't been enqueued again yet: whether it is that child can't be decided.
        """
        if key is not None:
            return child_digest(cls.type, b"k" + key.encode()), b""
        if state:
            return child_digest(cls.type, b"p" + state), b""
        state, left_out = self._codec.outline(item, partial(ancestor_id, parent))
        if not left_out:
            return child_digest(cls.type, b"p" + state), b""
        likes = child_digest(cls.type, b"l%b%b" % (ascii(list(left_out)).encode(), state))
        numbers = []
        for name, value in _parts(left_out):
            held, number = earlier.held.get(id(value), (None, 0))
            if held is None or held() is not value:
                if earlier.unmatched and earlier.unmatched.get(likes):
                    raise _not_comparable(cls, parent, name)
                number = next(self._numbers)
                try:
                    earlier.held[id(value)] = ref(value), number
                except TypeError:  # no weak references to it; a strong one keeps its id from being reused
                    earlier.held[id(value)] = partial(_same, value), number
            numbers.append(number)
        return child_digest(cls.type, b"o%b%b" % (ascii(numbers).encode(), likes)), likes


def _parts(left_out: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the objects to compare by identity. A bound method is a new object at each access, so its parts are compared."""
    for name, value in left_out.items():
        if isinstance(value, MethodType):
            yield name, value.__self__
            yield name, value.__func__
        else:
            yield name, value


def _same(value: object) -> object:
    return value


def _not_comparable(cls: ItemClass, parent: Node, name: str) -> ChildrenNotComparable:
    what = f"its attribute {name!r}" if name else "it"
    return ChildrenNotComparable(
        f"a child of class {cls.type} can't be compared with those that an earlier attempt at item {parent.id} "
        f"({parent.cls.type}) enqueued: {what} can't be stored, and is another object this time; give the class a key"
        + (f", or remove {name!r} from it" if name else "")
    )
