"""What the engine knows about a class of items, looked up once per class."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, Final, cast, get_args
from weakref import WeakSet

import msgspec

from aqueue._arguments import SECONDS, accepts, check_number, check_one_of
from aqueue._codec.class_names import previous_names_of, type_name
from aqueue._codec.policies import policies_of, previous_names
from aqueue._system.notice import warn
from aqueue.errors import InvalidArgument, InvalidItem
from aqueue.item import AfterChildrenRule, Item
from aqueue.retry import Retry
from aqueue.text import visible_repr, without_surrogates

__all__ = ["NO_POLICIES", "ItemClass", "Policies", "has_property", "key_of", "look_up_class"]

_NAMES: Final = (str, tuple, list, set, frozenset)

_warned_of: Final[WeakSet[type]] = WeakSet()


class Policies(msgspec.Struct, frozen=True):
    """How the items of one class are run, or of all classes that don't set their own policies.

    Attributes:
        retry: when a failed attempt is retried; None for never.
        timeout_s: how long an attempt may take, seconds; None for no limit.
    """

    retry: Retry | None = None
    timeout_s: float | None = None

    def check(self, where: str) -> None:
        """Check the values.

        Parameters:
            where: precedes the name of a value in a message.

        Raises:
            InvalidArgument: a value isn't allowed.
        """
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise InvalidArgument(
                f"{where}retry is {visible_repr(self.retry)}; it must be an aqueue.Retry, such as Retry(attempts=3), or None"
            )
        check_number(f"{where}timeout_s", self.timeout_s, 0, kind=SECONDS, is_more_than=True, or_none=True)


NO_POLICIES: Final = Policies()


@dataclass(slots=True, eq=False)
class ItemClass:
    """What the engine knows about one class of items, and the counts of its items.

    Attributes:
        type: the class, as ``module:qualname``, made safe to show.
        track_overall: see `Item`.
        hook: whether it has an `after_children_processed` of its own.
        all_done: whether its hook also runs when descendants failed.
        names: the name of the class and its previous names, as ``module:qualname``.
        keyed: whether its items have a `key`.
        grouped: whether its items have a `group`.
        policies: when its items are retried, and how long an attempt may take.
        is_skipped: whether its items are skipped, so that neither they nor their hooks run.
        is_plain: whether it has neither groups nor policies, so that an attempt is just a call.
        enqueued, completed, failed, interrupted, retried, deduplicated, skipped: see `aqueue.events.Counts`.
    """

    type: str
    _: KW_ONLY
    track_overall: bool
    hook: bool
    all_done: bool
    names: tuple[str, ...] = ()
    keyed: bool = False
    grouped: bool = False
    policies: Policies = NO_POLICIES
    is_skipped: bool = False
    is_plain: bool = field(init=False)
    deduplicated: int = 0
    enqueued: int = 0
    completed: int = 0
    failed: int = 0
    interrupted: int = 0
    retried: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        """Set `names` and `is_plain`."""
        self.names = self.names or (self.type,)
        self.is_plain = not self.grouped and self.policies == NO_POLICIES and not self.is_skipped

    def announced_as(self, type: str, *, track_overall: bool, hook: bool) -> "ItemClass":
        """Return an entry, without counts, for items of this class that were announced in these words.

        An item keeps these words, since all readers of its events rely on them. Its policies and its group are those of today's
        class.
        """
        return ItemClass(
            type,
            track_overall=track_overall,
            hook=hook,
            all_done=self.all_done,
            grouped=self.grouped,
            policies=self.policies,
        )

    def as_skipped(self) -> "ItemClass":
        """Return an entry, without counts, for items of this class that are skipped."""
        return ItemClass(self.type, track_overall=self.track_overall, hook=False, all_done=False, is_skipped=True)

    @property
    def looks(self) -> tuple[object, ...]:
        """The values that readers of events can see: entries that are equal in these are one class to them."""
        return (
            *(self.names, self.track_overall, self.hook, self.all_done),
            *(self.keyed, self.grouped, self.policies, self.is_skipped),
        )


def look_up_class(item: object, defaults: Policies = NO_POLICIES) -> ItemClass:
    """Return what the engine needs to know about the class of `item`.

    Warns, once per class, if `item` has a policy that differs from its class's.

    Parameters:
        item: an item.
        defaults: the policies that a class has if it doesn't set its own.

    Raises:
        InvalidItem: `item` is a class, or has no async `process` that takes `enqueue` and `set_desc`, or an
            `after_children_processed` that is not async or takes arguments.
        InvalidArgument: a class attribute has a value that is not allowed.
    """
    cls = type(item)
    if isinstance(item, type):
        raise InvalidItem(f"{type_name(item)} is a class, not an item; enqueue an instance of it")
    name = type_name(cls)
    process = getattr(item, "process", None)
    if process is None:
        raise InvalidItem(
            f"{visible_repr(item)} ({name}) is not an item: it has no method "
            "'async def process(self, enqueue, set_desc)'; enqueue an object of a class that has"
        )
    if inspect.isasyncgenfunction(process):
        raise InvalidItem(
            f"{name}.process has a yield, which makes it an async generator; call enqueue(…) for each child, and return the result"
        )
    if not _is_async(process):
        raise InvalidItem(f"{name}.process is not async; write 'async def process(self, enqueue, set_desc)'")
    if not accepts(process, None, None):
        raise InvalidItem(
            f"{name}.process can't be called with enqueue and set_desc; write 'async def process(self, enqueue, set_desc)'"
        )
    hook = getattr(item, "after_children_processed", None)
    has_hook = hook is not None and getattr(cls, "after_children_processed", None) is not Item.after_children_processed
    if has_hook and not _is_async(hook):
        raise InvalidItem(
            f"{name}.after_children_processed is not async; write 'async def after_children_processed(self)'"
        )
    if has_hook and not accepts(hook):
        raise InvalidItem(
            f"{name}.after_children_processed can't be called without arguments; write "
            "'async def after_children_processed(self)'"
        )
    said = policies_of(cls)
    rule = said.get("after_children_rule", "all_success")
    check_one_of(f"{name}.after_children_rule", rule, get_args(AfterChildrenRule))
    tracked = said.get("track_overall", False)
    if not isinstance(tracked, bool):
        raise InvalidArgument(f"{name}.track_overall is {visible_repr(tracked)}; it must be True or False")
    former = previous_names(cls)
    if not isinstance(former, _NAMES) or not all(isinstance(one, str) for one in former):
        raise InvalidArgument(
            f"{name}.previous_names is {visible_repr(former)}; it must be a tuple of names, such as ('shop:Page',)"
        )
    policies = Policies(said.get("retry", defaults.retry), said.get("timeout_s", defaults.timeout_s))
    policies.check(f"{name}.")
    _warn_of_own(item, said)
    return ItemClass(
        name,
        names=(name, *previous_names_of(cls)),
        track_overall=tracked,
        hook=has_hook,
        all_done=rule == "all_done",
        keyed=_has(item, "key"),
        grouped=_has(item, "group"),
        policies=policies,
    )


def _warn_of_own(item: object, policies: dict[str, Any]) -> None:
    # Only the first item of a class is looked at: checking each would add to the cost of every enqueue.
    cls = type(item)
    for name, value in policies.items():
        with suppress(Exception):  # they are compared by the user's code
            own = getattr(item, name)
            if own != value and cls not in _warned_of:
                _warned_of.add(cls)
                warn(
                    f"{type_name(cls)}.{name} is {visible_repr(value)}, but an item of that class sets it to "
                    f"{visible_repr(own)}, which has no effect and is not stored: aqueue reads {name} from the class; to give "
                    "each item its own value, use another name"
                )


def _has(item: object, name: str) -> bool:
    """Return whether `item` has an attribute or property called `name`, without evaluating a property."""
    return hasattr(type(item), name) or hasattr(item, name)


def key_of(item: Any, type: str) -> str | None:
    """Return the `key` of `item`, whose class is called `type`.

    Raises:
        InvalidItem: it is neither a string nor None.
        AttributeError: it is a property, and its code raised this.
    """
    try:
        key = item.key
    except AttributeError:
        if has_property(item, "key"):
            raise
        key = None
    if key is None:
        return None
    if not isinstance(key, str):
        raise InvalidItem(f"{type}.key is {visible_repr(key)}; it must be a string or None")
    return without_surrogates(str.__str__(key))


def has_property(item: object, name: str) -> bool:
    """Return whether the class has a property called `name`. An AttributeError from it is a mistake in its code."""
    return isinstance(inspect.getattr_static(type(item), name, None), property | cached_property)


def _is_async(method: object) -> bool:
    function = inspect.unwrap(cast(Callable[..., Any], method)) if callable(method) else method
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # whether it is callable is not the question
    )
