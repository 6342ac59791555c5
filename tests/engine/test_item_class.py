"""What an item can be: any object with an async process.

What users write is a subclass of `aqueue.item` or any other class; what the engine knows of one is `_engine.item_class`,
and of all of a run `_engine.class_registry`.
"""

import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import aqueue
from aqueue import Backend, EnqueueFn, Item, ItemFailures, SetDescFn, run_queue
from aqueue.events import ItemDescribed, ItemEnqueued
from aqueue.testing import EventRecorder
from tests.engine.invariants import check_events, check_result
from tests.engine.jobs import Do, Noop


class Plain:
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "done"


@dataclass
class Data:
    text: str = "done"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Frozen:
    text: str = "done"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return self.text


class Slots:
    __slots__ = ()

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "done"


class Struct(msgspec.Struct, gc=False):
    text: str = "done"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return self.text


class Static:
    @staticmethod
    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "done"


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("never compared")

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "done"


class Falsy(Plain):
    def __bool__(self) -> bool:
        raise RuntimeError("never asked")

    def __len__(self) -> int:
        return 0


def _logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Decorated:
    @_logged
    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "done"


async def _process(text: str, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
    return text


class _Callable:
    async def __call__(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "done"


@pytest.mark.parametrize(
    "item",
    [
        Plain(),
        Data(),
        Frozen(),
        Slots(),
        Struct(),
        Static(),
        Unhashable(),
        Falsy(),
        Decorated(),
        SimpleNamespace(process=functools.partial(_process, "done")),
        SimpleNamespace(process=_Callable()),
    ],
    ids=lambda item: type(item).__name__,
)
@pytest.mark.parametrize("queue_type_name", ["queue", "stack"])
def test_items_need_no_base_class(backend: Backend, item: Any, queue_type_name: Any) -> None:
    """Whatever the object is made of, its process is run, as an initial item and as a child."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        enqueue(item)

    recorder = EventRecorder()
    result = run_queue([item, Do(process)], reporter=recorder, queue_type_name=queue_type_name, backend=backend)
    assert result.counts.completed == 3
    assert result.root_results == ["done", None]
    check_events(recorder.events)
    check_result(result, recorder.events)


def test_objects_of_one_class_may_each_have_a_process_of_their_own(backend: Backend) -> None:
    """What an object carries itself says nothing about the next of its class."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "own"

    async def hook() -> str:
        return "hooked"

    recorder = EventRecorder()
    items: list[Any] = [
        SimpleNamespace(process=process),
        SimpleNamespace(process=process, after_children_processed=hook),
    ]
    result = run_queue(items, reporter=recorder, backend=backend)
    assert result.root_results == ["own", "hooked"]
    check_events(recorder.events)
    check_result(result, recorder.events)


def test_one_object_may_be_enqueued_twice(backend: Backend) -> None:
    """Each enqueue is an item of its own, the same object or not."""
    item = Plain()
    assert run_queue([item, item], reporter="none", backend=backend).root_results == ["done", "done"]


def test_two_classes_of_one_name_are_counted_together(backend: Backend) -> None:
    """Classes that a function makes look alike to every reader, and their counts add up."""

    def make(with_hook: bool) -> Item:
        class Made(Noop):
            pass

        class Hooked(Noop):
            async def after_children_processed(self) -> None:
                pass

        Hooked.__qualname__ = Made.__qualname__
        return Hooked() if with_hook else Made()

    recorder = EventRecorder()
    result = run_queue([make(False), make(False), make(True)], reporter=recorder, backend=backend)
    assert [counts.completed for counts in result.counts_by_type.values()] == [3]
    check_result(result, recorder.events)


def test_an_item_class_without_a_process(backend: Backend) -> None:
    """A subclass of Item that lacks process fails with a message that says what to write."""

    class Unwritten(Item):
        pass

    with pytest.raises(ItemFailures) as caught:
        run_queue([Unwritten()], reporter="none", backend=backend)
    assert "must define: async def process" in str(caught.value.exceptions[0])


def test_track_overall_is_announced(backend: Backend) -> None:
    """The class attribute track_overall is on each item.enqueued, True only where it is set."""

    class Tracked(Noop):
        track_overall = True

    recorder = EventRecorder()
    run_queue([Tracked(), Noop()], reporter=recorder, backend=backend)
    assert [event.track_overall for event in recorder.of(ItemEnqueued)] == [True, False]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("two\nlines\x1b[2J", r"two\nlines\x1b[2J"),
        ("\ud800", r"\ud800"),
        ("x" * 2_000, "x" * 999 + "…"),
    ],
)
def test_descriptions_are_made_safe_and_cut(backend: Backend, text: str, shown: str) -> None:
    """A description is announced on one line, safe to show, with at most 1,000 characters."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(text)

    recorder = EventRecorder()
    run_queue([Do(process)], reporter=recorder, backend=backend)
    assert [event.text for event in recorder.of(ItemDescribed)] == [shown]


def test_a_str_subclass_is_announced_as_a_plain_string(backend: Backend) -> None:
    """A description of a string's subclass can't run code on the reporters' thread."""

    class Sly(str):
        __slots__ = ()

        def isprintable(self) -> bool:
            return True

        def __str__(self) -> str:
            return "another"

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        set_desc(Sly("said\n"))

    recorder = EventRecorder()
    run_queue([Do(process)], reporter=recorder, backend=backend)
    [event] = recorder.of(ItemDescribed)
    assert (type(event.text), event.text) == (str, r"said\n")


def test_a_description_must_be_a_string(backend: Backend) -> None:
    """set_desc refuses anything else, naming the item's class."""

    async def process(enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        with pytest.raises(
            aqueue.InvalidArgument, match=r"set_desc\(…\) of item 1 \(.*Do\) was given 7; it must be a string"
        ):
            set_desc(7)  # type: ignore[arg-type]

    assert run_queue([Do(process)], reporter="none", backend=backend).status == "completed"
