"""Items: what a user writes."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol

from aqueue._codec.class_names import register, type_name
from aqueue.retry import Retry

__all__ = ["AfterChildrenRule", "EnqueueFn", "Item", "ItemLike", "SetDescFn"]

AfterChildrenRule = Literal["all_success", "all_done"]
"""When an item's hook runs: ``all_success`` if its whole subtree succeeded, ``all_done`` also if parts failed."""

SetDescFn = Callable[[str], None]
"""Sets the description of the running item: a few words on what it is doing."""


class ItemLike(Protocol):
    """Any object with an async `process` is an item; subclassing `Item` is optional."""

    async def process(self, enqueue: "EnqueueFn", set_desc: SetDescFn, /) -> Any:
        """Do one unit of work; see `Item.process`."""
        ...


EnqueueFn = Callable[[ItemLike], None]
"""Adds an item to the run, as a child of the item that is running."""


class Item:
    """One unit of work. Subclass it and write `process`.

    Class attributes:
        track_overall: whether items of this class count in the overall progress; by default False.
        after_children_rule: ``"all_success"``, the default, runs the hook only if the whole subtree succeeded;
            ``"all_done"`` also when descendants failed, once they all have ended. Either needs this item's own
            `process` to have succeeded.
        previous_names: earlier names of this class, in journals that are still to be resumed, as ``module:qualname``, or
            ``qualname`` if the module is the same; by default none. Subclasses don't inherit it.
        retry: when a failed attempt at an item of this class is retried, an `aqueue.Retry`; None for never. By
            default the `retry` of `run_queue`.
        timeout_s: the longest time for one attempt at `process` or the hook, seconds, more than 0, up to a year; then it is
            cancelled and fails with `TimeoutError`. None for no limit. By default the `timeout_s` of `run_queue`.

    These belong to the class, annotated or not: they are not part of an item, and not stored with it.

    An item may have a `group`, an attribute or property that is a string or None, such as the host of its URL. It is
    looked up when the item is enqueued; ``run_queue(limits=…)`` and `aqueue.slow_down` apply to groups.

    An item may have a `key`, an attribute or property that is a string or None. A second item with the same class and key
    is dropped when it is enqueued, over the whole run and across resumes; dropped items are counted as ``deduplicated``.

    With a journal, an item's state is its attributes: they are stored when it is enqueued, and a resume sets them again
    without calling `__init__` (or `__post_init__`). A class can choose its state with two methods: ``dump(self)`` returns
    what to store, made of values that can be stored without an annotation, and the class method ``load(cls, data)``
    returns an item made from that. For an item that was stored before its class had these methods, ``load`` gets a dict of
    the attributes.
    """

    track_overall: ClassVar[bool] = False
    after_children_rule: ClassVar[AfterChildrenRule] = "all_success"
    previous_names: ClassVar[Sequence[str]] = ()
    retry: ClassVar[Retry | None]
    timeout_s: ClassVar[float | None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Remember the class, so that a resumed run finds it by its name; `kwargs` are for its other bases."""
        super().__init_subclass__(**kwargs)
        register(cls)

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> Any:
        """Do one unit of work. Subclasses must override it.

        Parameters:
            enqueue: adds a child item; returns at once. Raises `MisplacedCall` (a `RuntimeError`) after this
                `process` has ended and when called from another thread, `InvalidItem` (a `TypeError`) for an object
                without an async `process`, `InvalidArgument` (a `ValueError`) for an item whose class has an attribute
                with a value that is not allowed, `UnstorableItem` or `UnsendableItem` (each a `TypeError`) for one that
                the journal can't store or that can't be sent to another process, `ItemsNotComparable` (a `TypeError`) in a
                priority queue, `ChildrenNotComparable` (a `TypeError`) in a retry, for a child that the earlier attempt may
                have enqueued already.
            set_desc: says what the item is doing, a string; control characters are made visible and text after 1,000
                characters is cut. Raises `MisplacedCall` as `enqueue` does, `InvalidArgument` for anything but a string.

        Returns:
            The item's result, or None. It must be data that JSON can represent; anything else fails the item.
        """
        raise NotImplementedError(f"{type_name(type(self))} must define: async def process(self, enqueue, set_desc)")

    async def after_children_processed(self) -> Any:
        """Run after this item and all its descendants have succeeded; children's hooks run before their parent's.

        Also runs for an item without children. `aqueue.child_results()` gives the direct children's results.

        Returns:
            None, or a result that replaces the one of `process`.
        """
