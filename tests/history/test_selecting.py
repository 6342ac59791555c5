"""Selectors, on made-up runs, against what a person would choose who reads all events; the runs are read by `_history.record`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aqueue._folds.item_table import STATES, State
from aqueue._history.journal_history import JournalHistory
from aqueue._history.opening import open_history
from aqueue._history.selecting import (
    Selector,
    matches_type,
    or_in_states,
    record_for,
    rows_of,
    selection_of,
    unknown_types,
)
from aqueue.errors import InvalidArgument
from aqueue.events import ErrorInfo, Event, ItemDescribed, ItemEnqueued, ItemFailed, ItemReopened, ItemRetryScheduled
from aqueue.testing._scripted_runs import BOOM, Script
from tests.cli.scripted import write_log
from tests.folds.test_item_table import Record as Noted
from tests.folds.test_item_table import records_of
from tests.journal.writing import write
from tests.strategies import event_streams

ERRORS = ("httpx:HTTPStatusError", "builtins:TimeoutError", "shop:Parser.Failed", "HTTPS")
WORDS = ("", "books", "games 1", "[", "*\x1b[2J", "Books")


def with_texts(run: list[Event], random: Random) -> list[Event]:
    """Return a run in which items have keys, descriptions and errors of their own."""
    keys = {
        event.item: random.choice((None, f"{random.choice(WORDS)}/{event.item}"))
        for event in run
        if isinstance(event, ItemEnqueued)
    }

    def changed(event: Event) -> Event:
        match event:
            case ItemEnqueued():
                return replace(event, key=keys[event.item])
            case ItemReopened(ended=ended) if ended is not None:
                return replace(event, ended=replace(ended, key=keys[event.item]))
            case ItemDescribed():
                return replace(event, text=random.choice(WORDS))
            case ItemFailed() | ItemRetryScheduled():
                return replace(event, error=ErrorInfo(random.choice(ERRORS), random.choice(WORDS)))
            case _:
                return event

    return [changed(event) for event in run]


def names(cls: str) -> list[str]:
    """Return what a class may be called."""
    return [cls, cls.rsplit(":", maxsplit=1)[-1], cls.rsplit(":", maxsplit=1)[-1].rsplit(".", maxsplit=1)[-1]]


class Model:
    """Chooses items by looking at every event for every question."""

    def __init__(self, run: list[Event]) -> None:
        self.by_seq: dict[int, Any] = {event.seq: event for event in run}
        self.noted = records_of(run)
        is_over = any(event.event == "run.finished" for event in run) and run[-1].event == "run.finished"
        for one in self.noted.values():
            if one.state == "running" and not is_over:  # the process is gone
                one.state = "completed" if one.in_hook else "interrupted"

    def parent(self, item: int) -> int:
        """Return the number of an item's parent."""
        return self.noted[item].announced.parent

    def above(self, item: int) -> list[int]:
        """Return the numbers of its ancestors."""
        parent = self.parent(item)
        return [parent, *self.above(parent)] if parent else []

    def error(self, one: Noted) -> ErrorInfo | None:
        """Return the error that it shows."""
        is_shown = one.state in ("failed", "retrying")
        return self.by_seq[one.failed_seq].error if is_shown else None

    def chosen(self, selector: Selector) -> list[int]:
        """Return the numbers of the items for which all holds that is given."""
        return [item for item, one in self.noted.items() if self.is_chosen(selector, item, one)]

    def is_chosen(self, selector: Selector, item: int, one: Noted) -> bool:
        """Return whether an item is chosen."""
        announced, error = one.announced, self.error(one)
        group = self.by_seq[one.group_seq].group if one.group_seq else announced.group
        said = self.by_seq[one.described_seq].text if one.described_seq else ""
        message = error.message if error is not None else ""
        classes = names(error.type) if error is not None else []
        return all(
            (
                not selector.items or item in selector.items,
                not selector.types
                or announced.type in selector.types
                or announced.type.split(":")[-1] in selector.types,
                not selector.states or one.state in selector.states,
                not selector.groups or group in selector.groups,
                selector.error is None or any(fnmatchcase(name, selector.error) for name in classes),
                selector.text is None or any(selector.text in text for text in (said, announced.key or "", message)),
                selector.key is None or (announced.key is not None and fnmatchcase(announced.key, selector.key)),
                selector.subtree is None or selector.subtree in (item, *self.above(item)),
            )
        )

    def hooks(self, chosen: Sequence[int]) -> int:
        """Return how many hooks run above these items if they succeed."""
        left = {
            above
            for item, one in self.noted.items()
            if one.state == "failed" and item not in chosen
            for above in self.above(item)
        }
        reached = {above for item in chosen for above in self.above(item)} - left - {*chosen}
        waiting = [self.noted[item] for item in reached]
        return sum(one.announced.hook for one in waiting if one.state not in ("failed", "skipped"))


@contextmanager
def journal_of(run: list[Event], data: st.DataObject) -> Iterator[Path]:
    """Give the path of a journal with this run, written in two parts, each of which may end with a snapshot."""
    cut = data.draw(st.integers(0, len(run)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        for part in (run[:cut], run[cut:]):
            if part:
                write(path, part)
        yield path


def drawn(data: st.DataObject, run: list[Event]) -> Selector:
    """Draw a selector that may select something of a run."""
    numbers = [event.item for event in run if isinstance(event, ItemEnqueued)] or [1]
    types = sorted({event.type for event in run if isinstance(event, ItemEnqueued)})
    groups = sorted({str(event.group) for event in run if isinstance(event, ItemEnqueued)} | {"other", "third", "none"})

    def some(values: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
        return st.just([]) | st.just([]) | st.lists(st.sampled_from(values), max_size=3)

    def one(values: Sequence[Any]) -> st.SearchStrategy[Any]:
        return st.none() | st.none() | st.sampled_from(values)

    return Selector(
        items=data.draw(some([*numbers, 10_000])),
        types=data.draw(some([*types, *(type.split(":")[-1] for type in types if type.count(".") == 0)]))
        if types
        else [],
        states=data.draw(some(STATES)),
        groups=data.draw(some(groups)),
        error=data.draw(one(("*", "HTTP*", "HTTPStatusError", "*:Parser.*", "Failed", "b[a-u]i*", "none"))),
        text=data.draw(one([word for word in WORDS if word])),
        key=data.draw(one(("*", "books/*", "*[13579]", "[[]/*", "/?", "none"))),
        subtree=data.draw(one(numbers)) if types else None,
    )


@settings(max_examples=150, deadline=None)
@given(event_streams(), st.randoms(use_true_random=False), st.data())
def test_selector_chooses_what_a_person_would(run: list[Event], random: Random, data: st.DataObject) -> None:
    """All that is given holds for the chosen items and for no others, from a snapshot as well as from all events."""
    run = with_texts(run, random)
    model = Model(run)
    with journal_of(run, data) as path, closing(JournalHistory(path)) as history:
        selector = drawn(data, run)
        expected = model.chosen(selector)
        selection = selection_of(record_for(history, selector), selector)

    assert {item for numbers in selection.items.values() for item in numbers} == set(expected)
    for state, numbers in selection.items.items():
        assert numbers == [item for item in expected if model.noted[item].state == state]
    assert selection.count == len(expected)
    assert selection.types == Counter(model.noted[item].announced.type for item in expected)
    assert list(selection.types.values()) == sorted(selection.types.values(), reverse=True)
    assert selection.hooks == model.hooks(expected)
    assert selection.unknown == [item for item in selector.items if item not in model.noted]
    if selection.sample is None:
        assert not expected
    else:
        sample = model.noted[expected[0]]
        assert (selection.sample.item, selection.sample.state) == (expected[0], sample.state)
        assert selection.sample.error == model.error(sample)


def test_nothing_given_selects_all(tmp_path: Path) -> None:
    """That is for lists of items; commands refuse an empty selector."""
    script = Script()
    script.start(script.enqueue())
    script.enqueue()
    with closing(open_history(str(write_log(tmp_path, script.events)))) as history:
        assert rows_of(record_for(history, Selector()), Selector()) == [0, 1]
    assert Selector().is_empty
    assert Selector(items=[], types=[]).is_empty
    assert not Selector(subtree=1).is_empty


def test_last_error_of_an_item_that_was_retried_is_history(tmp_path: Path) -> None:
    """Neither its class nor its message selects an item that has completed since."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.fail_for_now(item, due_in_s=0.0)
    waiting = script.events[:]
    script.start(item, attempt=2)
    script.complete(item, attempt=2)
    for events, found in ((waiting, [0]), (script.events, [])):
        with closing(open_history(str(write_log(tmp_path, events)))) as history:
            record = record_for(history, Selector())
            assert rows_of(record, Selector(error="Boom")) == rows_of(record, Selector(text=BOOM.message)) == found


def test_what_a_snapshot_lacks_is_read_from_all_events(tmp_path: Path) -> None:
    """Items that have ended, named by number; and what an item said before it ended and was to run again."""
    script = Script()
    top = script.enqueue()
    script.start(top)
    again, ended = script.enqueue(parent=top), script.enqueue(parent=top)
    script.complete(top)
    for item in (again, ended):
        script.start(item)
        script.add(ItemDescribed, item=item, worker=1, text=f"page {item}")
        script.complete(item)
    script.end_hook(top)
    script.open_again(top, ended=script.ended(top))
    script.open_again(again, rerun=True, ended=script.ended(again))
    write(tmp_path / "run.db", script.events)

    def selected(selector: Selector) -> tuple[dict[State, list[int]], bool]:
        with closing(JournalHistory(tmp_path / "run.db")) as history:
            record = record_for(history, selector)
            return selection_of(record, selector).items, record.is_whole

    assert selected(Selector(items=[again])) == ({"queued": [again]}, False)
    assert selected(Selector(items=[ended])) == ({"completed": [ended]}, True)
    assert selected(Selector(states=["queued"])) == ({"queued": [again]}, False)
    assert selected(Selector(states=["queued"], text="page")) == ({"queued": [again]}, True)
    assert selected(Selector(states=["queued"], subtree=ended)) == ({}, False)
    assert selected(Selector(items=[99])) == ({}, False)


def test_what_no_item_has_is_an_error(tmp_path: Path) -> None:
    """A misspelt class and a wrong number don't look like an empty selection."""
    script = Script()
    script.enqueue("shop:Page\x1b[2J")
    with closing(open_history(str(write_log(tmp_path, script.events)))) as history:
        record = record_for(history, Selector())
    with pytest.raises(InvalidArgument, match=r"no item is of type 'Paeg'; known types: shop:Page\\x1b\[2J$"):
        rows_of(record, Selector(types=["Paeg"]))
    with pytest.raises(InvalidArgument, match="no item has the number 2 "):
        rows_of(record, Selector(subtree=2))


@pytest.mark.parametrize(
    "fields",
    [
        *({"items": [0]}, {"items": [True]}, {"items": ["1"]}, {"subtree": 0}, {"subtree": "1"}),
        *({"types": "Page"}, {"groups": [1]}, {"states": ["done"]}, {"states": "failed"}),
        *({"error": ""}, {"text": 1}, {"key": ["a"]}),
    ],
)
def test_wrong_fields_are_refused_at_once(fields: dict[str, Any]) -> None:
    """The message names the field and the value."""
    [(name, value)] = fields.items()
    shown = value[0] if name in ("items", "states") and isinstance(value, list) else value
    with pytest.raises(InvalidArgument) as caught:
        Selector(**fields)
    assert f"Selector({name}=…) is {shown!r}" in str(caught.value)


def test_words_are_those_of_the_command_line() -> None:
    """They are in the run's events, and a shell reads them as they were meant; of many numbers some are named."""
    selector = Selector(
        items=[17, 4],
        types=["Page"],
        states=["failed"],
        groups=["a b"],
        error="HTTP*",
        text="it's",
        key="k?",
        subtree=3,
    )
    assert str(selector) == (
        "17 4 --type Page --state failed --group 'a b' --error 'HTTP*' --text 'it'\"'\"'s' --key 'k?' --subtree 3"
    )
    assert str(Selector(items=range(1, 10_001))).endswith(" 99 100 … 9,900 more")


def test_states_are_narrowed_only_where_none_are_meant() -> None:
    """A number says exactly which item is meant; its state is for the command to judge."""
    states: tuple[State, ...] = ("failed", "retrying")
    assert or_in_states(Selector(types=["Page"]), states) == Selector(types=["Page"], states=states)
    for selector in (Selector(items=[1]), Selector(states=["queued"]), Selector()):
        assert or_in_states(selector, states) == selector


def test_type_has_three_names() -> None:
    """With its module, without, and without the class that it is defined in."""
    assert all(matches_type(name, "shop:Front.Page") for name in ("shop:Front.Page", "Front.Page", "Page"))
    assert not any(matches_type(name, "shop:Front.Page") for name in ("shop:Page", "Front", "page", "Pag", "shop"))
    assert not unknown_types(["Page"], ["shop:Front.Page"])
