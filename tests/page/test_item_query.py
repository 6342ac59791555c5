"""The filter and the list of items, `_page.item_query`: what is typed means what it says, and finds what the command finds."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqueue import events as ev
from aqueue._folds.item_table import OUTSTANDING, STATES, ItemTable, State
from aqueue._history.journal_history import JournalHistory
from aqueue._history.record import Record
from aqueue._history.selecting import Selector, rows_of
from aqueue._page import index, item_query
from aqueue._page.index import Index
from aqueue._page.item_query import Filter, ItemReader, ListedItem, Listing, Order, without_states
from aqueue.errors import InvalidArgument
from aqueue.events import ErrorInfo, Event
from aqueue.testing import _scripted_runs as scripted
from aqueue.testing._scripted_runs import Script
from aqueue.text import visible
from aqueue.view import RunView
from tests.cli.scripted import write_journal
from tests.journal.recorded import events_of
from tests.strategies import encodable_text, event_streams, hostile_text

ORDERS: tuple[Order, ...] = get_args(Order)
SCRIPTED = [
    scripted.every_event_type(),
    scripted.with_failures(5),
    scripted.resumed(),
    scripted.with_retries(4),
    scripted.on_a_cluster(3, 2),
]
histories = st.one_of(event_streams(), st.sampled_from(SCRIPTED))


@contextmanager
def reading(events: Sequence[Event], view_events: int = 20_000) -> Iterator[ItemReader]:
    """Read the items of a run from an index."""
    with TemporaryDirectory() as folder, patch.object(index, "_VIEW_EVENTS", view_events):
        journal = write_journal(Path(folder), events)
        with closing(Index(Path(folder, "index.db"), JournalHistory(journal))) as one:
            while one.fill():
                pass
            with closing(ItemReader(one.connect(), one._history.again())) as items:
                yield items


def found(items: ItemReader, typed: str, order: Order = "oldest", num_items: int = 10**6, **more: Any) -> Listing:
    """Return the list, searched to its end."""
    is_live = more.pop("is_live", True)
    listing = Listing(items._connection, Filter.of(typed), order=order, **more)
    (known,) = items._connection.execute("SELECT coalesce(max(item), 0) FROM items").fetchone()
    while listing.share < 1:
        listing.look(items.seq, min(num_items, known), is_live=is_live)
    return listing


def numbers(rows: Sequence[ListedItem]) -> list[int]:
    """Return the numbers of rows."""
    return [row.item for row in rows]


# ---- what is typed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", {}),
        ("  \t ", {}),
        ("lighthouse", {"words": ("lighthouse",)}),
        ('"two words" third', {"words": ("two words", "third")}),
        ('"never closed', {"words": ("never closed",)}),
        ('""', {}),
        ('"', {}),
        ("type:Page type:shop:Book", {"types": ("Page", "shop:Book")}),
        ("state:failed state:waiting", {"states": ("failed", "queued")}),
        ("state:outstanding", {"states": tuple(state for state in STATES if state in OUTSTANDING)}),
        ('group:"a b" key:x* error:HTTP*', {"groups": ("a b",), "keys": ("x*",), "errors": ("HTTP*",)}),
        ("parent:12 subtree:0 attempts:>=2 attempts:3", {"parents": (12,), "subtrees": (0,), "attempts": ((">=", 2), ("=", 3))}),
        ("https://example.org/a?b=c", {"words": ("https://example.org/a?b=c",)}),
        ("12:30", {"words": ("12:30",)}),
        ('"state:failed"', {"words": ("state:failed",)}),
        ("a*b*c*d*e*f*g", {"words": ("a*b*c*d*e*f*g",)}),
    ],
)  # fmt: skip
def test_filter_that_is_understood(typed: str, meant: dict[str, Any]) -> None:
    """Qualifiers, words and quotes, in any order."""
    assert Filter.of(typed) == Filter(**meant)
    assert Filter.of(typed).is_empty == (not meant)


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("stat:failed", "“stat:” is no qualifier; do you mean state:?"),
        ("Type:Page", "“Type:” is no qualifier; do you mean type:?"),
        ("zzz:1", "“zzz:” is no qualifier; known are type, state, group, error, key, parent, subtree, attempts"),
        ("state:lost", "a state is waiting, running, retrying, interrupted, completed, failed, skipped or outstanding, not “lost”"),
        ("parent:x", "parent: takes the number of an item, not “x”"),
        ("subtree:-1", "subtree: takes the number of an item, not “-1”"),
        ("parent:1234567890123456", "parent: takes the number of an item, not “1234567890123456”"),
        ("parent:٣", "parent: takes the number of an item, not “٣”"),
        ("attempts:many", "attempts: takes a number, as in attempts:>1, not “many”"),
        ("key:*a*b*c*d*e*", "a qualifier needs a value, with at most 5 asterisks, not “*a*b*c*d*e*”"),
        ('type:""', "a qualifier needs a value, with at most 5 asterisks, not “”"),
        ("state:", "state: needs a value"),
        ("type: Page", "type: needs a value"),
        ("x\x1b:y\x1b", None),
        ("parent:\x1b[2J", "parent: takes the number of an item, not “\\x1b[2J”"),
    ],
)  # fmt: skip
def test_filter_that_is_not_understood(typed: str, problem: str | None) -> None:
    """It is said what is wrong and what would be right, and the rest holds."""
    wanted = Filter.of(typed)
    assert wanted.problems == (() if problem is None else (problem,))
    assert Filter.of(f"{typed} state:failed").states == ("failed",)


@given(
    st.lists(
        st.one_of(
            hostile_text,
            encodable_text,
            st.builds("{}:{}".format, st.sampled_from([*item_query._QUALIFIERS, "x", "-key"]), hostile_text),
        ),
        max_size=6,
    ).map(" ".join)
)
def test_any_text_is_a_filter(typed: str) -> None:
    """It never raises, its problems are safe to show, and it finds something or nothing: no part of it is SQL."""
    wanted = Filter.of(typed)
    assert all(visible(problem) == problem for problem in wanted.problems)
    with reading(SCRIPTED[1]) as items:
        before = items._connection.execute("SELECT count(*), total(state) FROM items").fetchone()
        if typed == typed.encode(errors="replace").decode():  # an address has no half characters
            for order in ORDERS:
                assert found(items, typed, order).share == 1
        assert items._connection.execute("SELECT count(*), total(state) FROM items").fetchone() == before


INJECTED = [
    "' OR 1=1 --",
    '" OR 1=1 --',
    "') OR (1=1",
    "x'; DROP TABLE items; --",
    "1) OR (1=1",
    "{0}",
    ":v1",
    "%",
    "_",
    "!",
]


@pytest.mark.parametrize("text", INJECTED)
def test_no_text_becomes_sql(text: str) -> None:
    """It is looked for as it is, wherever it stands."""
    script = Script()
    script.enqueue(key=f"a {text} b", group=text)
    script.enqueue(key="harmless", group="harmless")
    with reading(script.events) as items:
        if '"' not in text:
            assert numbers(found(items, f'"{text}"').rows) == [1]
            assert numbers(found(items, f'group:"{text}"').rows) == [1]
            assert numbers(found(items, f'key:"{text}"').rows) == []
            assert numbers(found(items, f'error:"{text}"').rows) == []
            assert found(items, f'type:"{text}"').problem
        for qualifier in ("parent", "subtree", "attempts", "state"):
            assert Filter.of(f"{qualifier}:{text}").problems
        assert len(found(items, "").rows) == 2


@pytest.mark.parametrize("text", ["100%", "a_b", "!x", "a*b", "a?b", "[ab]", "{x}", "\\", "Äpfel"])
def test_words_have_no_special_characters(text: str) -> None:
    """What a pattern would make of them is not found."""
    script = Script()
    script.enqueue(key=f"x{text}y")
    for other in ("100 per cent", "aXb", "x", "aXXb", "a", "b", "0", "/", "Apfel"):
        script.enqueue(key=other)
    with reading(script.events) as items:
        assert numbers(found(items, f'"{text}"').rows) == [1]


def test_words_find_only_errors_that_are_shown() -> None:
    """The error of an earlier attempt of an item that has completed is history, as for the command."""
    script = Script()
    for _ in range(3):
        script.enqueue()
    for item in (1, 2):
        script.start(item)
        script.fail_for_now(item, 5)
    script.start(1, attempt=2)
    script.complete(1)
    script.start(3)
    script.fail(3, ErrorInfo("shop:Gone", "not there", ""))
    with reading(script.events) as items:
        word = scripted.BOOM.message.split()[0]
        assert numbers(found(items, word).rows) == [2]
        assert numbers(found(items, "gone").rows) == numbers(found(items, "there").rows) == [3]
        assert numbers(found(items, "error:Gone").rows) == numbers(found(items, "error:shop:G*").rows) == [3]


# ---- what is found -------------------------------------------------------------------------------------------------

FILTERS = {
    "type": "types", "state": "states", "group": "groups", "error": "error", "key": "key", "subtree": "subtree",
}  # fmt: skip

given_filter = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["Page", "Folder", "module:Page", "page"]),
        "state": st.sampled_from(STATES),
        "group": st.sampled_from(["text", "shop", "api.example.com", "other"]),
        "error": st.sampled_from(["*", "Boom", "Value*", "builtins:*", "t?xt", "text"]),
        "key": st.sampled_from(["*", "tex*", "t[a-f]xt", "x"]),
        "subtree": st.integers(1, 6),
    },
)


@settings(max_examples=60)
@given(histories, given_filter, st.integers(1, 7), st.integers(1, 4), st.sampled_from(ORDERS))
def test_items_are_those_that_the_command_selects(
    events: list[Event], chosen: dict[str, Any], size: int, page: int, order: Order
) -> None:
    """In each order, in slices of any size, and page by page: each item once."""
    typed = " ".join(f'{name}:"{value}"' for name, value in chosen.items())
    several = ("type", "state", "group")
    fields: dict[str, Any] = {FILTERS[name]: [value] if name in several else value for name, value in chosen.items()}
    selector = Selector(**fields)
    with reading(events) as items:
        with closing(items._history.again()) as history:
            record = Record(history)
            try:
                expected = [record.items.item_of(row) for row in rows_of(record, selector)]
            except InvalidArgument:
                expected = []
        with patch.object(item_query, "_SLICE_ITEMS", size), patch.object(item_query, "_LOOK_S", 0.0):
            whole = found(items, typed, order)
            assert whole.count == len(expected)
            assert sorted(numbers(whole.rows)) == expected
            if order == "slowest":
                assert whole.rows == sorted(whole.rows, key=lambda row: (-(row.took_s or 0.0), row.item))
                return
            assert numbers(whole.rows) == (expected if order == "oldest" else expected[::-1])
            pages: list[int] = []
            with patch.object(item_query, "PAGE_ITEMS", page):
                start = None
                while (part := found(items, typed, order, start=start)).rows:
                    assert part.num_before == len(pages)
                    assert part.count == len(expected)
                    pages += numbers(part.rows)
                    start = part.rows[-1].item + (1 if order == "oldest" else -1)
            assert pages == numbers(whole.rows)


@settings(max_examples=40)
@given(histories, st.data())
def test_items_of_the_past_are_those_of_a_run_cut_there(events: list[Event], data: st.DataObject) -> None:
    """Their states, types and parents, and how many they are."""
    at = data.draw(st.integers(1, len(events)))
    state: State = data.draw(st.sampled_from(STATES))
    view, table = RunView(), ItemTable()
    view.apply(events[:at])
    table.apply(events[:at])
    rows = range(len(table))
    with reading(events) as items:
        then = found(items, "", at=at, num_items=view.counts.enqueued)
        assert [(row.item, row.type, row.parent, row.state) for row in then.rows] == [
            (table.item_of(row), table.type_of(row), table.parent_of(row), table.state_of(row)) for row in rows
        ]
        last = items.last_events(then.rows)
        assert all(last[row.last_seq].item == row.item and row.last_seq <= at for row in then.rows if row.last_seq)  # type: ignore[attr-defined]
        for row in rows:
            assert items.state_at(table.item_of(row), at) == table.state_of(row)
        in_state = found(items, f"state:{state}", "newest", at=at, num_items=view.counts.enqueued)
        assert numbers(in_state.rows) == [table.item_of(row) for row in reversed(rows) if table.state_of(row) == state]
        some = events_of(Path(items._history.path or ""))[:at]
        for item in numbers(then.rows)[:5]:
            own = [
                event for event in some if getattr(event, "item", 0) == item and not isinstance(event, ev.ItemDescribed)
            ]
            got = items.events_of(item, at)
            assert [event.seq for event in got if getattr(event, "item", 0) == item] == [event.seq for event in own]
            assert all(event.seq <= at for event in got)


def test_what_a_dead_process_ran_is_interrupted() -> None:
    """It is found by that state, and nothing is running."""
    script = Script()
    for _ in range(3):
        script.enqueue()
    script.start(2)
    with reading(script.events) as items:
        assert numbers(found(items, "state:running").rows) == [2]
        assert numbers(found(items, "state:interrupted").rows) == []
        assert numbers(found(items, "state:interrupted", is_live=False).rows) == [2]
        assert numbers(found(items, "state:running", is_live=False).rows) == []
        assert numbers(found(items, "state:outstanding", is_live=False).rows) == [1, 2, 3]


def test_list_is_searched_again_when_there_is_more() -> None:
    """What was found stays until all is searched again."""
    script = Script()
    for _ in range(9):
        script.enqueue()
    with TemporaryDirectory() as folder, patch.object(item_query, "_REST", 0.0):
        journal = write_journal(Path(folder), script.events[:6])
        with closing(Index(Path(folder, "index.db"), JournalHistory(journal))) as one:
            one.fill()
            with closing(ItemReader(one.connect(), one._history.again())) as items:
                assert items.listing("", "oldest", None, None, 5, is_live=True).count == 5
                with closing(sqlite3.connect(journal)) as connection, connection:
                    connection.executemany("INSERT INTO events VALUES (?, ?)", [(event.seq, ev.encode(event).decode()) for event in script.events[6:]])  # fmt: skip
                one.fill()
                assert items.listing("", "oldest", None, None, 9, is_live=True).count == 5
                items.refresh()
                again = items.listing("", "oldest", None, None, 9, is_live=True)
                assert (again.count, again.share) == (9, 1.0)


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("state:failed", ""),
        ("state:failed lighthouse state:waiting type:Page", "lighthouse type:Page"),
        ('"state:failed" key:"a state:failed b"', '"state:failed" key:"a state:failed b"'),
        ("restate:failed", "restate:failed"),
    ],
)
def test_filter_without_its_states(typed: str, left: str) -> None:
    """What stands in quotes is a text, whatever it says."""
    assert without_states(typed) == left
    assert Filter.of(left).states == ()


# ---- one item ------------------------------------------------------------------------------------------------------


def test_item_that_is_far_below() -> None:
    """Its ancestors are the first and the last three; what is below the first is found, however deep."""
    script = Script()
    script.events += [ev.ItemEnqueued(item + 1, script._at, item, item - 1, "module:Page") for item in range(1, 10_001)]
    with reading(script.events) as items:
        assert numbers(items.path_to(10_000)) == [1, 2, 3, 9_997, 9_998, 9_999]
        assert numbers(items.path_to(4)) == [1, 2, 3]
        assert items.path_to(1) == items.path_to(99_999) == []
        assert found(items, "subtree:9000").count == 1_001
        assert found(items, "subtree:9000 subtree:9990 subtree:99999").count == 1_001
        assert found(items, "subtree:99999").count == 0
        with patch.object(item_query, "_SLICE_ITEMS", 100), patch.object(item_query, "_LOOK_S", 0.0):
            assert numbers(found(items, "subtree:1 state:waiting", "newest").rows)[:2] == [10_000, 9_999]
        assert numbers(found(items, "parent:5000").rows) == [5_001]


def test_item_and_its_children() -> None:
    """As they are now; what isn't there isn't found."""
    script = Script()
    top = script.enqueue(key="top")
    children = [script.enqueue(parent=top) for _ in range(5)]
    script.start(children[0])
    script.complete(children[0])
    script.start(children[1])
    script.skip(children[2])
    with reading(script.events) as items:
        assert items.children(top) == {"queued": 2, "running": 1, "completed": 1, "skipped": 1}
        assert items.children(children[0]) == items.children(99) == {}
        row = items.item(children[0])
        assert row is not None
        assert (row.item, row.parent, row.state, row.parent_label) == (children[0], top, "completed", "top")
        assert items.item(0) is items.item(7) is items.item(10**15 - 1) is None


def test_events_of_an_item_are_read_once() -> None:
    """A view asks for them at each update; once there are more, these are there."""
    script = Script()
    items_ = [script.enqueue() for _ in range(6)]
    script.start(items_[0])
    with (
        reading(script.events) as items,
        patch.object(items._history, "events_at", wraps=items._history.events_at) as read,
    ):
        first = items.events_of(items_[0], 3)
        assert items.events_of(items_[0], 3) == first
        assert read.call_count == 1
        assert len(items.events_of(items_[0], None)) == len(first) + 1
        for item in items_[1:]:
            items.events_of(item, None)
        assert items.events_of(items_[0], 3) == first  # no longer kept
        assert read.call_count == 8


def test_events_that_are_left_out_are_counted() -> None:
    """Of an item with very many attempts, only the first and the last events are read."""
    script = Script()
    item = script.enqueue()
    for attempt in range(1, 21):
        script.start(item, attempt=attempt)
        script.fail_for_now(item, 0.0, attempt=attempt)
    with reading(script.events) as items, patch.object(item_query, "_MAX_EVENTS", 10):
        assert items.num_events(item, None) == 41
        assert items.num_events(item, 3) == len(items.events_of(item, 3)) == 2
        own = [event for event in items.events_of(item, None) if getattr(event, "item", 0) == item]
        assert len(own) == 10


# ---- the past ------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(histories, st.integers(1, 30))
def test_view_at_each_event(events: list[Event], view_events: int) -> None:
    """It is the run folded up to there, from whichever view is near; damaged ones are as if they weren't there."""
    with reading(events, view_events) as items:
        events = events_of(Path(items._history.path or ""))
        for is_damaged in (False, True):
            if is_damaged:
                items._connection.execute("UPDATE views SET data = x'00'")
            view = RunView()
            for event in events:
                view.apply([event])
                assert items.view_at(event.seq) == view


@given(histories, st.floats(-5, 500))
def test_event_at_a_time(events: list[Event], after_s: float) -> None:
    """The last one that had happened by then, and at least the first."""
    at = events[0].at + after_s
    with reading(events) as items:
        seq = items.seq_at(at, len(events))
    assert seq == max([event.seq for event in events if event.at <= at], default=1)
