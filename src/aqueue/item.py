"""Items: what a user writes, and what the engine looks up about an item's class, once a class."""

import dataclasses
import inspect
import itertools
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from types import MemberDescriptorType
from typing import Any, ClassVar, Final, Literal, Protocol, cast
from weakref import WeakSet, WeakValueDictionary

import msgspec

from aqueue._annotations import annotated_names
from aqueue._system.notice import warn
from aqueue.errors import SECONDS, InvalidArgument, InvalidItem, check_number, not_one_of
from aqueue.retry import Retry
from aqueue.text import visible, visible_repr, without_surrogates

__all__ = ["AfterChildrenRule", "EnqueueFn", "Item", "ItemLike", "SetDescFn"]

AfterChildrenRule = Literal["all_success", "all_done"]
"""When an item's hook runs, ``all_success`` if its whole subtree succeeded, ``all_done`` also if parts failed."""

_RULES: Final = ("all_success", "all_done")
_NAMES: Final = (str, tuple, list, set, frozenset)
_POLICIES: Final = ("track_overall", "after_children_rule", "previous_names", "retry", "timeout_s")
_ABSENT: Final = object()

SetDescFn = Callable[[str], None]
"""Says in a few words what the running item is doing."""


class ItemLike(Protocol):
    """Any object with an async `process` is an item; subclassing `Item` is optional."""

    async def process(self, enqueue: "EnqueueFn", set_desc: SetDescFn, /) -> Any:
        """Do one unit of work; see `Item.process`."""
        ...


EnqueueFn = Callable[[ItemLike], None]
"""Adds an item to the run, as a child of the item that is running."""


# Every subclass of Item that is alive, in the order of definition. Its name is not the key: a decorator that makes the
# class anew (``@dataclass(slots=True)``) gives it its full name only later.
_defined: Final[WeakValueDictionary[int, type]] = WeakValueDictionary()
_definition_numbers: Final = itertools.count()

_warned_of: Final[WeakSet[type]] = WeakSet()


class Item:
    """One unit of work. Subclass it and write `process`.

    Class attributes:
        track_overall: whether this class counts in the overall progress: in its total when enqueued, as done when
            completed; by default False.
        after_children_rule: ``"all_success"``, the default, runs the hook only if the whole subtree succeeded;
            ``"all_done"`` also when descendants failed, once they all have ended. Either needs this item's own
            `process` to have succeeded.
        previous_names: names that this class had when journals were written that are still to be resumed, as
            ``module:qualname``, or ``qualname`` if the module is the same; by default none. Subclasses don't inherit it.
        retry: when an item of this class that raised is tried again, an `aqueue.Retry`; None for never. Without it, what
            `run_queue` was given counts.
        timeout_s: how long one attempt at `process` or the hook may take, seconds, more than 0, up to a year; then it is
            cancelled and fails with `TimeoutError`, as any failure. None for no limit. Without it, what `run_queue` was
            given counts.

    These are the class's, annotated or not: they are no part of an item, and not stored with it.

    An item may have a `group`, an attribute or property that is a string or None, such as the host of its URL. It is
    looked up when the item is enqueued; ``run_queue(limits=…)`` and `aqueue.slow_down` go by it.

    An item may have a `key`, an attribute or property that is a string or None. A second item of the same class and key is
    dropped when it is enqueued, over the whole run and across resumes; drops are counted as ``deduplicated``.

    With a journal, an item's state is its attributes; they are stored when it is enqueued, and an item that is resumed
    gets them back without its `__init__` (or `__post_init__`) being called. A class decides otherwise by two methods:
    ``dump(self)`` returns what to store, made of the values that can be stored without an annotation, and the
    class method ``load(cls, data)`` returns an item made from that. Of an item that was stored before its class had them,
    ``load`` gets a dict of the attributes.
    """

    track_overall: ClassVar[bool] = False
    after_children_rule: ClassVar[AfterChildrenRule] = "all_success"
    previous_names: ClassVar[Sequence[str]] = ()
    retry: ClassVar[Retry | None]
    timeout_s: ClassVar[float | None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Remember the class, so that a resumed run finds it by its name; `kwargs` are for its other bases."""
        super().__init_subclass__(**kwargs)
        _defined[next(_definition_numbers)] = cls

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        """Do one unit of work. Subclasses must override it.

        Parameters:
            enqueue: adds a child item; returns at once. Raises `MisplacedCall` (a `RuntimeError`) after this
                `process` has ended and when called from another thread, `InvalidItem` (a `TypeError`) for an object
                without an async `process`, `InvalidArgument` (a `ValueError`) for an item whose class has an attribute
                with a value that is not allowed, `UnstorableItem` or `UnsendableItem` (each a `TypeError`) for one that
                the journal can't store or that can't be sent to another process, `ItemsNotComparable` (a `TypeError`) in a
                priority queue, `ChildrenNotComparable` (a `TypeError`) in a further attempt for one that may be there
                already.
            set_desc: says what the item is doing, a string; control characters are made visible and text after 1,000
                characters is cut. Raises `MisplacedCall` as `enqueue` does, `InvalidArgument` for what is no string.

        Returns:
            The item's result, or None. It must be data that JSON can carry; anything else fails the item.
        """
        raise NotImplementedError(f"{type_name(type(self))} must define: async def process(self, enqueue, set_desc)")

    async def after_children_processed(self) -> Any:
        """Run after this item and all its descendants have succeeded; children's hooks run before their parent's.

        Also runs for an item without children. `aqueue.child_results()` gives the direct children's results.

        Returns:
            None, or a result that replaces the one of `process`.
        """


class Policies(msgspec.Struct, frozen=True):
    """What holds for the attempts at items of one class, or for all classes that don't say otherwise.

    Attributes:
        retry: when an item is tried again; None for never.
        timeout_s: how long an attempt may take, seconds; None for no limit.
    """

    retry: Retry | None = None
    timeout_s: float | None = None

    def check(self, where: str) -> None:
        """Raise if a value is not allowed.

        Parameters:
            where: goes before the name of the value in the message.

        Raises:
            InvalidArgument: one is not.
        """
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise InvalidArgument(
                f"{where}retry is {visible_repr(self.retry)}; it must be an aqueue.Retry, such as Retry(attempts=3), or None"
            )
        check_number(f"{where}timeout_s", self.timeout_s, 0, kind=SECONDS, is_more_than=True, or_none=True)


NO_POLICIES: Final = Policies()


class ItemClass:
    """What the engine knows about one class of items, and how many of them came to what.

    Attributes:
        type: the class, as ``module:qualname``, made safe to show.
        track_overall: see `Item`.
        hook: whether it has an `after_children_processed` of its own.
        all_done: whether its hook also runs when descendants failed.
        names: the names that the class has or had, as ``module:qualname``.
        keyed: whether its items have a `key`.
        grouped: whether its items have a `group`.
        policies: when its items are tried again, and how long an attempt may take.
        is_plain: whether it has neither group nor policies, so that an attempt is only a call.
        enqueued, completed, failed, interrupted, retried, deduplicated: see `aqueue.events.Counts`.
    """

    __slots__ = (
        "all_done",
        "completed",
        "deduplicated",
        "enqueued",
        "failed",
        "grouped",
        "hook",
        "interrupted",
        "is_plain",
        "keyed",
        "names",
        "policies",
        "retried",
        "track_overall",
        "type",
    )

    def __init__(
        self,
        type: str,
        *,
        track_overall: bool,
        hook: bool,
        all_done: bool,
        keyed: bool = False,
        grouped: bool = False,
        policies: "Policies | None" = None,
        previous_names: tuple[str, ...] = (),
    ) -> None:
        self.type: str = type
        self.track_overall: bool = track_overall
        self.hook: bool = hook
        self.all_done: bool = all_done
        self.names: tuple[str, ...] = (type, *previous_names)
        self.keyed: bool = keyed
        self.grouped: bool = grouped
        self.policies: Policies = policies or NO_POLICIES
        self.is_plain: bool = not grouped and self.policies == NO_POLICIES
        self.deduplicated: int = 0
        self.enqueued: int = 0
        self.completed: int = 0
        self.failed: int = 0
        self.interrupted: int = 0
        self.retried: int = 0


def type_name(cls: type) -> str:
    """Return the name of a class as events carry it: ``module:qualname``, made safe to show."""
    return visible(f"{cls.__module__}:{cls.__qualname__}", 1_000)


def policies_of(cls: type) -> dict[str, Any]:
    """Return the policies that `cls` has, by name: what it says to aqueue, which is no part of an item.

    The value of one is that of a class attribute, or the default of a field. A field that has none is no policy: it is
    data, of which each item has its own.
    """
    fields = _fields_of(cls)
    found = {name: _policy(cls, name, cls.__mro__, fields) for name in _POLICIES}
    return {name: value for name, value in found.items() if value is not _ABSENT}


def _policy(cls: type, name: str, bases: Sequence[type], fields: dict[str, Any]) -> Any:
    """Return what the first of `bases` that has the policy says; `_ABSENT` if that is no value, or none has it.

    Of a field the class itself may have nothing (pydantic, and attrs without slots, take it off), only what reads the field
    from objects (slots, Structs), or, for an inherited one, a value that a subclass has put in its place.
    """
    for base in bases:
        value = vars(base).get(name, _ABSENT)
        if name in fields and (_declares(base, name) if value is _ABSENT else inspect.isdatadescriptor(value)):
            return fields[name]
        if value is not _ABSENT:
            return _ABSENT if isinstance(value, MemberDescriptorType) else getattr(cls, name, _ABSENT)
    return _ABSENT


def _declares(cls: type, name: str) -> bool:
    return name in annotated_names(cls) or any(
        field.name == name and not field.inherited for field in vars(cls).get("__attrs_attrs__", ())
    )


def _fields_of(cls: Any) -> dict[str, Any]:
    """Return the fields that `cls` declares, each with its default, or what makes that; `_ABSENT` for one without."""
    missing: object = _ABSENT
    found: dict[str, Any] = {}
    if issubclass(cls, msgspec.Struct):
        missing = msgspec.NODEFAULT
        found = dict.fromkeys(cls.__struct_fields__, missing)
        found.update(zip(reversed(cls.__struct_fields__), reversed(cls.__struct_defaults__), strict=False))
    elif hasattr(cls, "__pydantic_fields__"):
        missing = sys.modules["pydantic_core"].PydanticUndefined
        found = {name: field.default_factory or field.default for name, field in cls.__pydantic_fields__.items()}
    elif dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        for field in dataclasses.fields(cls):
            found[field.name] = field.default if field.default_factory is missing else field.default_factory
    elif hasattr(cls, "__attrs_attrs__"):
        missing = cast(Any, sys.modules["attr"]).NOTHING
        found = {field.name: field.default for field in cls.__attrs_attrs__}
    elif issubclass(cls, tuple) and hasattr(cls, "_field_defaults"):
        found = {**dict.fromkeys(cast(Any, cls)._fields, missing), **cls._field_defaults}
    return {name: _ABSENT if default is missing else default for name, default in found.items()}


def previous_names_of(cls: type) -> tuple[str, ...]:
    """Return the names that `cls` says it had, as ``module:qualname``; those of its bases are not its own."""
    names = _previous_names(cls)
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, tuple | list | set | frozenset):
        return ()
    return tuple(name if ":" in name else f"{cls.__module__}:{name}" for name in names if isinstance(name, str))


def _previous_names(cls: type) -> Any:
    names = _policy(cls, "previous_names", (cls,), _fields_of(cls))
    return () if names is _ABSENT else names


def defined_items() -> list[type]:
    """Return every subclass of `Item` that this program has defined and still has, in the order of definition."""
    return list(_defined.values())


def look_up_class(item: object, defaults: Policies = NO_POLICIES) -> ItemClass:
    """Return what the engine needs to know about the class of `item`.

    Warns, once a class, if `item` has another value of a policy than its class.

    Parameters:
        item: an item.
        defaults: what holds where the class doesn't say otherwise.

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
    if not _is_async(process):
        raise InvalidItem(f"{name}.process is not async; write 'async def process(self, enqueue, set_desc)'")
    if not _takes(process, 2):
        raise InvalidItem(
            f"{name}.process can't be called with enqueue and set_desc; write 'async def process(self, enqueue, set_desc)'"
        )
    hook = getattr(item, "after_children_processed", None)
    has_hook = hook is not None and getattr(cls, "after_children_processed", None) is not Item.after_children_processed
    if has_hook and not _is_async(hook):
        raise InvalidItem(
            f"{name}.after_children_processed is not async; write 'async def after_children_processed(self)'"
        )
    if has_hook and not _takes(hook, 0):
        raise InvalidItem(
            f"{name}.after_children_processed can't be called without arguments; write "
            "'async def after_children_processed(self)'"
        )
    said = policies_of(cls)
    rule = said.get("after_children_rule", "all_success")
    if rule not in _RULES:
        raise not_one_of(f"{name}.after_children_rule", rule, _RULES)
    tracked = said.get("track_overall", False)
    if not isinstance(tracked, bool):
        raise InvalidArgument(f"{name}.track_overall is {visible_repr(tracked)}; it must be True or False")
    former = _previous_names(cls)
    if not isinstance(former, _NAMES) or not all(isinstance(one, str) for one in former):
        raise InvalidArgument(
            f"{name}.previous_names is {visible_repr(former)}; it must be a tuple of names, such as ('shop:Page',)"
        )
    policies = Policies(said.get("retry", defaults.retry), said.get("timeout_s", defaults.timeout_s))
    policies.check(f"{name}.")
    _warn_of_own(item, said)
    return ItemClass(
        name,
        track_overall=tracked,
        hook=has_hook,
        all_done=rule == "all_done",
        keyed=_has(item, "key"),
        grouped=_has(item, "group"),
        policies=policies,
        previous_names=previous_names_of(cls),
    )


def _warn_of_own(item: object, policies: dict[str, Any]) -> None:
    # Of the items of a class, this sees the one that it is looked up for. To look at each would cost each something.
    cls = type(item)
    for name, value in policies.items():
        with suppress(Exception):  # comparing them is the user's code
            own = getattr(item, name)
            if own != value and cls not in _warned_of:
                _warned_of.add(cls)
                warn(
                    f"{type_name(cls)}.{name} is {visible_repr(value)}, but an item of that class has {visible_repr(own)} in "
                    "its place, which has no effect and is not stored: aqueue reads it from the class; if each item is to "
                    "have a value of its own, give it another name"
                )


def _has(item: object, name: str) -> bool:
    """Tell whether `item` has an attribute or property called `name`, without asking a property for its value."""
    return hasattr(type(item), name) or hasattr(item, name)


def key_of(item: Any, type: str) -> str | None:
    """Return the `key` of `item`, whose class is called `type`.

    Raises:
        InvalidItem: it is neither a string nor None.
        AttributeError: it is a property, which raised that.
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
    """Tell whether the class of `item` has a property called `name`: an AttributeError out of it is a mistake in that."""
    return isinstance(inspect.getattr_static(type(item), name, None), property | cached_property)


def _takes(method: Any, arguments: int) -> bool:
    """Tell whether so many arguments can be passed to `method`, as far as that is known without calling it."""
    try:
        parameters = inspect.signature(method, follow_wrapped=False)
    except (TypeError, ValueError):  # some that are written in C don't say
        return True
    try:
        parameters.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def _is_async(method: object) -> bool:
    function = inspect.unwrap(cast(Callable[..., Any], method)) if callable(method) else method
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # whether it is callable is not the question
    )
