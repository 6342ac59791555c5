"""Adoption after an edit of the program: which child is a recorded one, which is new, and where that can't be told.

The children of one class and parent are `_engine.siblings`, each a `_engine.recorded_child`; those of which nothing is left
are `_engine.ended_children`. Today's classes are compared by `_engine.changed_classes`.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from aqueue import (
    AdoptionMismatch,
    Backend,
    EnqueueFn,
    Item,
    ItemFailures,
    RunResult,
    SetDescFn,
    current,
    run_queue,
    steering,
)
from aqueue._engine.siblings import Siblings
from aqueue.events import Event, ItemAdopted, ItemCompleted, ItemEnqueued
from tests.journal.oracle import told_by
from tests.journal.recorded import cut, events_of

ran: list[dict[str, Any]] = []
"""The attributes of the pages that ran, in order."""

identities: list[str] = []
"""The idempotency keys of these pages."""

children: list[Callable[[], list[Any]]] = [list]
"""What a site enqueues; the last counts."""

PLAIN = """
class Page(Item):
    def __init__(self, **attributes):
        self.__dict__.update(attributes)
"""
KEYED = """
    @property
    def key(self):
        return self.__dict__.get("url")
"""
STRICT = """
@dataclass
class Page(Item):
"""
PROCESS = """
    async def process(self, enqueue, set_desc):
        ran.append(dict(vars(self)))
        identities.append(current().idempotency_key)
"""


class Site(Item):
    """Enqueues what it is told to."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for child in children[-1]():
            enqueue(child)
        if not ran:
            raise ZeroDivisionError


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    ran.clear()
    identities.clear()
    del children[1:]
    sys.modules.pop("edited", None)


def edit(source: str, name: str = "Page") -> Any:
    """Return the class of that name in the module `edited`, which has this source now; each has the same `process`."""
    module = ModuleType("edited")
    sys.modules["edited"] = module
    vars(module).update(Item=Item, ran=ran, identities=identities, current=current)
    exec(compile("from dataclasses import dataclass, field\n" + source + PROCESS, "edited.py", "exec"), vars(module))
    return getattr(module, name)


def run(path: Path, make: Callable[[], list[Any]], **arguments: Any) -> tuple[RunResult, list[Exception]]:
    """Run or resume a site with these children; return what came of it and what was raised."""
    children.append(make)
    try:
        result = run_queue([Site()], resume=path, num_workers=1, reporter="none", on_error="continue", **arguments)
    except ItemFailures as failures:
        return failures.result, list(failures.exceptions)
    finally:
        told_by(events_of(path))
    return result, []


def interrupted(path: Path, make: Callable[[], list[Any]], completed: int) -> Path:
    """Return the journal of a site that runs again, so many of whose children have completed."""
    run(path, make)
    ran.append({})  # the site does not raise any more
    ended = [event.seq for event in events_of(path) if isinstance(event, ItemCompleted)]
    last = [event.seq for event in events_of(path) if isinstance(event, ItemEnqueued)][-1]
    after = ended[completed - 1] if completed else last
    path = cut(path, after, path.with_name("cut.db"))
    ran[:] = [{}]
    return path


def crashed(path: Path, after: int) -> Path:
    """Return a journal with the first events of the one at `path`, in the place of any earlier such one; nothing has run since."""
    for suffix in ("-wal", "-shm", ".lock"):
        path.with_name(f"again.db{suffix}").unlink(missing_ok=True)
    ran[:] = [{}]
    return cut(path, after, path.with_name("again.db"))


def numbers_that_ran() -> list[Any]:
    """Return the numbers of the pages that ran since the journal was cut."""
    return [attributes.get("number") for attributes in ran[1:]]


def of_type(path: Path, cls: type[Event]) -> list[Any]:
    """Return the events of that type."""
    return [event for event in events_of(path) if isinstance(event, cls)]


def test_an_attribute_that_was_added_makes_no_other_items(
    tmp_path: Path, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """What completed doesn't run again, what is outstanding runs once and as the new object, and one warning names both."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=n) for n in range(4)], 2)
    newer = edit(PLAIN)
    capsys.readouterr()
    result, _ = run(path, lambda: [newer(number=n, lang="en") for n in range(6)], backend=backend)
    assert ran[1:] == [{"number": n, "lang": "en"} for n in range(2, 6)]
    assert (result.counts.enqueued, result.counts.completed) == (7, 7)
    assert len(of_type(path, ItemEnqueued)) == 7
    adopted = of_type(path, ItemAdopted)
    assert [(event.item, bytes(event.payload)) for event in adopted] == [
        (4, b'{"lang":"en","number":2}'),
        (5, b'{"lang":"en","number":3}'),
    ]
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "edited:Page was recorded with 'number', and has 'lang', 'number' now" in said


def test_what_was_adopted_with_other_attributes_is_known_again(tmp_path: Path) -> None:
    """After a second crash, by the new class and by the old one; each time with the attributes of the object that runs."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=n) for n in range(3)], 1)
    newer = edit(PLAIN)
    run(path, lambda: [newer(number=n, lang="en") for n in range(3)])
    last = of_type(path, ItemAdopted)[-1].seq
    for source, more in ((PLAIN, {"lang": "en"}), (PLAIN, {}), (PLAIN, {"lang": "de", "depth": 1})):
        again = crashed(path, last)
        today = edit(source)
        result, _ = run(again, lambda today=today, more=more: [today(number=n, **more) for n in range(3)])  # type: ignore[misc]
        assert ran[1:] == [{"number": n, **more} for n in (1, 2)]
        assert result.counts.enqueued == 4


@pytest.mark.parametrize("completed", [0, 1, 3])
def test_what_fits_several_recorded_items_is_refused(tmp_path: Path, completed: int) -> None:
    """Nothing is announced a second time; with the class put back, the same command goes on and runs only what is left."""
    page = edit(PLAIN)
    old = lambda: [page(number=n, site="a") for n in range(3)]  # noqa: E731
    path = interrupted(tmp_path / "run.db", old, completed)
    newer = edit(PLAIN)
    _, [error] = run(path, lambda: [newer(page=n, site="a") for n in range(3)])
    assert isinstance(error, AdoptionMismatch)
    assert (
        "a child of class edited:Page was not enqueued, since it can't be matched with the recorded items: the class was "
        "recorded with 'number', 'site', and has 'page', 'site' now; several of them have the same 'site'. Give each new"
    ) in str(error)
    assert len(of_type(path, ItemEnqueued)) == 4
    ran_as_recorded = numbers_that_ran()
    assert sorted(ran_as_recorded) == list(range(completed, 3))
    page = edit(PLAIN)
    result, errors = run(path, old)
    assert (errors, result.counts.enqueued, result.counts.completed) == ([], 4, 4)
    assert numbers_that_ran() == ran_as_recorded


def test_two_that_fit_the_same_recorded_item_are_refused(tmp_path: Path) -> None:
    """The first is taken for it; the second may be it as well."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=1), page(number=2)], 1)
    newer = edit(PLAIN)
    _, [error] = run(path, lambda: [newer(number=1, lang="en"), newer(number=1, lang="de")])
    assert "several of them have the same 'number'" in str(error)
    assert len(of_type(path, ItemEnqueued)) == 3
    assert numbers_that_ran() == [2]


def test_two_sets_of_attributes_agree_on_what_was_matched(tmp_path: Path) -> None:
    """One that a child with one set of attributes was matched with is not matched by a child with another set."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(a=1, b=1), page(a=2, b=2)], 1)
    newer = edit(PLAIN)
    _, [error] = run(path, lambda: [newer(a=2, x=1), newer(b=1, x=1), newer(a=1, x=2)])
    assert "several of them have the same 'a'" in str(error)
    assert len(of_type(path, ItemEnqueued)) == 3


def test_no_attribute_in_common_is_refused(tmp_path: Path) -> None:
    """All may have been renamed, or the class may have got its first."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=1), page(number=2)], 1)
    newer = edit(PLAIN)
    _, [error] = run(path, lambda: [newer(page=1)])
    assert "they have no attribute in common. Give each new" in str(error)
    assert len(of_type(path, ItemEnqueued)) == 3


def test_other_values_make_another_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether the set of attributes has changed or not: a site that has got new pages is no reason to refuse them.

    But a warning says so where there were others, which have completed: a value may just be written in another way now.
    """
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=1), page(number=2)], 1)
    newer = edit(PLAIN)
    result, errors = run(
        path, lambda: [newer(number=7, lang="en"), newer(number=2, lang="en"), newer(number=8, lang="en")]
    )
    assert errors == []
    assert sorted(numbers_that_ran()) == [2, 7, 8]
    assert result.counts.enqueued == 5
    said = capsys.readouterr().err
    assert (
        "item 1 (tests.engine.test_adoption:Site) did not enqueue 1 completed item of class edited:Page again, but 2 new "
        "ones; if these are the same items with a changed value or key, they run twice"
    ) in said


def test_equal_ones_are_matched_one_by_one_before_others_are_new(tmp_path: Path) -> None:
    """With a default for what is new; a third one is new, and so is one with another value than the default."""
    page = edit(STRICT + "    number: int\n")
    path = interrupted(tmp_path / "run.db", lambda: [page(1), page(1), page(2)], 1)
    newer = edit(STRICT + "    number: int\n    lang: str = 'en'\n")
    result, errors = run(path, lambda: [newer(1), newer(1), newer(1), newer(2, "de")])
    assert errors == []
    assert sorted((one["number"], one["lang"]) for one in ran[1:]) == [(1, "en"), (1, "en"), (2, "de")]
    assert result.counts.enqueued == 5


def test_one_that_has_lost_an_attribute_is_matched_only_if_it_is_the_only_one(tmp_path: Path) -> None:
    """Two that differed in that alone would be one and the same."""
    page = edit(STRICT + "    number: int\n    lang: str\n")
    made = lambda: [page(1, "en"), page(2, "en"), page(2, "de")]  # noqa: E731
    path = interrupted(tmp_path / "run.db", made, 1)
    newer = edit(STRICT + "    number: int\n")
    _, [error] = run(path, lambda: [newer(1), newer(2)])
    assert "several of them have the same 'number'" in str(error)
    assert len(of_type(path, ItemEnqueued)) == 4
    assert numbers_that_ran() == [2, 2]


def test_a_key_that_was_added_drops_later_duplicates(tmp_path: Path) -> None:
    """Of what has ended, too, in this process and the next; a key that is not new is not recorded again."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(url="a"), page(url="b")], 1)
    keyed = edit(PLAIN + KEYED)
    result, _ = run(path, lambda: [keyed(url="a"), keyed(url="b"), keyed(url="a"), keyed(url="c")])
    assert [one["url"] for one in ran[1:]] == ["b", "c"]
    assert (result.counts.enqueued, result.counts.deduplicated) == (4, 1)
    assert [(event.item, event.key, bool(event.payload)) for event in of_type(path, ItemAdopted)] == [
        (2, "a", False),
        (3, "b", True),
    ]
    children.append(lambda: [keyed(url="b"), keyed(url="a"), keyed(url="d")])
    result = run_queue([Site(), keyed(url="a"), keyed(url="e")], resume=path, reporter="none")
    assert [one["url"] for one in ran[1:]] == ["b", "c", "e"]
    assert len(of_type(path, ItemAdopted)) == 2


def test_a_key_that_was_removed_is_an_attribute_less(tmp_path: Path) -> None:
    """What has ended and what has not is matched by the others."""
    keyed = edit(PLAIN + KEYED)
    path = interrupted(tmp_path / "run.db", lambda: [keyed(url="a"), keyed(url="b"), keyed(url="c")], 1)
    page = edit(PLAIN)
    result, _ = run(path, lambda: [page(url="c"), page(url="a"), page(url="b")])
    assert sorted(one["url"] for one in ran[1:]) == ["b", "c"]
    assert result.counts.enqueued == 4


def test_another_key_makes_another_item(tmp_path: Path) -> None:
    """As it always did, if all else is the same, too."""
    keyed = edit(PLAIN + KEYED)
    path = interrupted(tmp_path / "run.db", lambda: [keyed(url="a"), keyed(url="b")], 1)
    other = edit(PLAIN + KEYED.replace('.get("url")', '.get("url").upper()'))
    result, errors = run(path, lambda: [other(url="b")])
    assert errors == []
    assert [one["url"] for one in ran[1:]] == ["b", "b"]
    assert result.counts.enqueued == 4


@pytest.mark.parametrize("rename", ["", "    previous_names = 'Page'\n"])
def test_a_class_that_is_gone_is_refused_although_all_of_it_has_ended(tmp_path: Path, rename: str) -> None:
    """Unless it says what it was called, its completed items would all run again under the new name."""
    page = {"class": edit(PLAIN)}
    path = interrupted(tmp_path / "run.db", lambda: [page["class"](number=1), page["class"](number=2)], 2)
    page.clear()
    leaf = edit(PLAIN.replace("class Page(Item):\n", f"class Leaf(Item):\n{rename}"), "Leaf")
    gc.collect()  # what is still there is a class of the program
    result, errors = run(path, lambda: [leaf(number=1), leaf(number=2)])
    assert numbers_that_ran() == []
    assert result.counts.enqueued == 3
    if rename:
        assert errors == []
    else:
        [error] = errors
        assert isinstance(error, AdoptionMismatch)
        assert "it may be one of the recorded items of edited:Page, which the program no longer defines" in str(error)
        assert "add previous_names = ('edited:Page',) to the new class" in str(error)


def test_a_class_with_many_sets_of_attributes_has_none_that_could_change(tmp_path: Path) -> None:
    """Then items are compared by all that they have, and a further set is no reason to refuse one."""
    page = edit(PLAIN)

    def made() -> list[Any]:
        return [page(**{f"a{n}": n}) for n in range(20)]

    path = interrupted(tmp_path / "run.db", made, 10)
    result, errors = run(path, lambda: [*made(), page(b=1)])
    assert errors == []
    assert len(ran[1:]) == 11
    assert result.counts.enqueued == 22


def test_an_initial_item_that_may_be_recorded_is_refused_before_anything_runs(tmp_path: Path, backend: Backend) -> None:
    """The error comes out of the run; with the class put back, what is left runs."""
    page = edit(PLAIN)
    path = tmp_path / "run.db"
    ran.append({})
    run_queue([page(number=n, site="a") for n in range(3)], resume=path, reporter="none", num_workers=1, max_items=1)
    newer = edit(PLAIN)
    with pytest.raises(AdoptionMismatch, match=r"an initial item of class edited:Page was not enqueued"):
        run_queue([newer(page=n, site="a") for n in range(3)], resume=path, reporter="none", backend=backend)
    assert numbers_that_ran() == [0]
    page = edit(PLAIN)
    result = run_queue([page(number=n, site="a") for n in range(3)], resume=path, reporter="none")
    assert (numbers_that_ran(), result.counts.enqueued) == ([0, 1, 2], 3)


def test_a_class_can_be_put_back_after_an_item_was_adopted_with_its_new_attributes(tmp_path: Path) -> None:
    """What the first of two new items changed doesn't keep the class from being put back after the second was refused."""
    before = STRICT + "    number: int\n    site: str\n"
    page = edit(before)
    path = tmp_path / "run.db"
    ran.append({})
    run_queue([page(0, "a"), page(1, "b")], resume=path, reporter="none", num_workers=1, max_items=1)
    newer = edit(PLAIN)
    with pytest.raises(AdoptionMismatch, match="an initial item of class edited:Page"):
        run_queue([newer(page=0, site="b"), newer(page=1, site="b")], resume=path, reporter="none")
    [adopted] = of_type(path, ItemAdopted)
    assert bytes(adopted.payload) == b'{"page":0,"site":"b"}'
    assert numbers_that_ran() == [0]
    page = edit(before)
    result = run_queue([page(0, "a"), page(1, "b")], resume=path, reporter="none")
    assert (numbers_that_ran(), result.counts.enqueued) == ([0, 1], 2)
    assert [one["site"] for one in ran[1:]] == ["a", "b"]


def test_new_and_missing_initial_items_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, before anything runs, also if the run had completed; and there is a warning if none is known."""
    path = tmp_path / "run.db"
    page = edit(PLAIN + KEYED)

    def resume(*urls: str) -> list[str]:
        capsys.readouterr()
        run_queue([page(url=url) for url in urls], resume=path, reporter="none", num_workers=1, max_items=1)
        said = capsys.readouterr().err.replace(str(path), "run.db").splitlines()
        return [line for line in said if line and "Resume:" not in line]

    known = "aqueue: resuming run.db: "
    mixed = (
        "aqueue: warning: none of the initial items recorded in run.db is among today's, and both are now one run; the "
        "journal may belong to another job: to keep them apart, stop this run, and use another file"
    )
    assert resume("a", "b", "c") == []
    assert resume("a", "b", "c", "a") == [f"{known}1 completed, 2 outstanding"]
    assert resume("b", "\x1b[2Jd", "e") == [
        (
            f"{known}2 completed, 1 outstanding, 2 new initial items (Page \\x1b[2Jd, …); "
            "2 recorded initial items are not among today's (1 outstanding, runs as recorded)"
        )
    ]
    assert resume("b", "c", "a", "\x1b[2Jd") == [
        f"{known}3 completed, 2 outstanding; 1 recorded initial item is not among today's (1 outstanding, runs as recorded)"
    ]
    assert resume() == [
        f"{known}4 completed, 1 outstanding; 5 recorded initial items are not among today's (1 outstanding, runs as recorded)"
    ]
    assert resume("f") == [
        f"{known}5 completed, 0 outstanding, 1 new initial item (Page f); 5 recorded initial items are not among today's",
        mixed,
    ]


def test_a_class_whose_objects_may_lack_an_attribute_was_not_edited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where one process has enqueued items with and without it, a rerun's others are new, without an error or a warning."""
    page = edit(PLAIN)
    made: list[dict[str, Any]] = [
        {"url": "a"},
        {"url": "b", "page": 2},
        {"url": "b", "page": 3},
        {"url": "c", "page": 2},
    ]
    path = interrupted(tmp_path / "run.db", lambda: [page(**one) for one in made], 2)
    capsys.readouterr()
    more: list[dict[str, Any]] = [{"url": "b"}, {"url": "c"}, {"url": "a", "page": 2}]
    result, errors = run(path, lambda: [page(**one) for one in [*more, *made]])
    assert errors == []
    assert "warning" not in capsys.readouterr().err
    assert (len(ran[1:]), result.counts.enqueued) == (5, 8)


def test_an_edit_is_one_though_the_edited_class_has_optional_attributes(tmp_path: Path) -> None:
    """Items of before the edit are compared also after a process that has enqueued new ones with and without it."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=n) for n in range(4)], 3)
    newer = edit(PLAIN)

    def made(count: int) -> list[Any]:
        return [newer(number=n, **({"lang": "en"} if n % 2 else {})) for n in range(count)]

    run(path, lambda: made(8))
    again = crashed(path, of_type(path, ItemEnqueued)[-1].seq)
    result, errors = run(again, lambda: made(9))
    assert errors == []
    assert (numbers_that_ran(), result.counts.enqueued) == ([3, 4, 5, 6, 7, 8], 10)


def test_what_an_edited_class_has_enqueued_is_known_when_the_edit_is_undone(tmp_path: Path) -> None:
    """New ones of between the edits, too, although items with either set of attributes are recorded by then."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=n) for n in range(2)], 1)
    newer = edit(PLAIN)
    run(path, lambda: [newer(number=n, lang="en") for n in range(4)])
    again = crashed(path, of_type(path, ItemEnqueued)[-1].seq)
    page = edit(PLAIN)
    result, errors = run(again, lambda: [page(number=n) for n in range(5)])
    assert errors == []
    assert (numbers_that_ran(), result.counts.enqueued) == ([1, 2, 3, 4], 6)


DUMPED = """
    def dump(self):
        return self.number
    @classmethod
    def load(cls, data):
        return cls(number=data["number"] if isinstance(data, dict) else data)
"""


def test_a_key_added_after_dump_and_load_makes_no_other_items(tmp_path: Path) -> None:
    """What was recorded before the class had dump is known by what load makes of it; no attribute has the same name."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=n) for n in range(4)], 2)
    dumped = edit(PLAIN + DUMPED)
    run(path, lambda: [dumped(number=n) for n in range(5)])
    again = crashed(path, of_type(path, ItemEnqueued)[-1].seq)
    keyed = edit(PLAIN + DUMPED + KEYED.replace('"url"', '"number"').replace("return ", "return 'k%s' % "))
    result, errors = run(again, lambda: [keyed(number=n) for n in range(5)])
    assert errors == []
    assert result.counts.enqueued == 6
    assert numbers_that_ran() == [2, 3, 4]


@pytest.mark.parametrize("keyed", ["", KEYED], ids=["no key", "key"])
@pytest.mark.parametrize("completed", [0, 1])
def test_one_whose_recorded_item_was_taken_for_another_is_refused(tmp_path: Path, completed: int, keyed: str) -> None:
    """It would be announced, and run, a second time; enqueued before the other, it is known again."""
    page = edit(PLAIN + keyed)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=1)], completed)
    _, [error] = run(path, lambda: [page(number=1, url="a"), page(number=1)])
    assert isinstance(error, AdoptionMismatch)
    assert (
        "a child of class edited:Page was not enqueued: it equals a recorded item, but one with other attributes was enqueued "
        "before it, and has already matched that item"
    ) in str(error)
    assert len(of_type(path, ItemEnqueued)) == 2
    assert len(ran[1:]) == 1 - completed
    result, errors = run(path, lambda: [page(number=1), page(number=1, url="a")])
    expected = 2 if keyed else 3  # the key is the recorded one's by now
    assert (errors, result.counts.enqueued, result.counts.completed) == ([], expected, expected)


@pytest.mark.parametrize("keyed", ["", KEYED], ids=["no key", "key"])
@pytest.mark.parametrize("completed", [0, 2])
def test_a_class_that_had_objects_with_fewer_attributes_is_not_edited(
    tmp_path: Path, completed: int, keyed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether those that tell so have ended or are still to run; they may have been enqueued again already."""
    page = edit(PLAIN + keyed)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=1, url="a"), page(number=2)], completed)
    capsys.readouterr()
    result, errors = run(path, lambda: [page(number=1, url="a"), page(number=2, url="b"), page(number=2)])
    assert "was recorded with" not in capsys.readouterr().err
    assert (errors, result.counts.enqueued) == ([], 4)
    assert len(ran[1:]) == 3 - completed


@pytest.mark.parametrize("completed", [0, 2])
def test_a_class_whose_objects_had_no_attribute_in_common_is_not_edited(tmp_path: Path, completed: int) -> None:
    """A new one with attributes as another one had them is new."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(url="a"), page(path="b")], completed)
    result, errors = run(path, lambda: [page(path="b"), page(path="c"), page(url="a")])
    assert (errors, result.counts.enqueued) == ([], 4)
    assert len(ran[1:]) == 3 - completed


def test_new_items_do_not_count_the_recorded_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that would cost as much as there are, and the items of an edited class may all be new ones."""
    page = edit(PLAIN)
    path = interrupted(tmp_path / "run.db", lambda: [page(number=n) for n in range(9)], 0)
    counted: list[str] = []
    siblings: Any = Siblings
    count = siblings.left.fget

    def left(self: Any) -> int:
        counted.append(self._type)
        return count(self)  # type: ignore[no-any-return]

    monkeypatch.setattr(siblings, "left", property(left))
    newer = edit(PLAIN)
    result, errors = run(path, lambda: [newer(number=-n, lang="en") for n in range(1, 10)])
    assert (errors, result.counts.enqueued) == ([], 19)
    assert "edited:Page" not in counted


def test_keys_that_completed_initial_items_have_got_are_recorded_with_what_is_new(tmp_path: Path) -> None:
    """Where nothing is new, a duplicate among them is dropped; otherwise also one that a new item or a later run enqueues."""
    page = edit(PLAIN)
    path = tmp_path / "run.db"
    ran.append({})
    run_queue([page(url=url) for url in "ab"], resume=path, reporter="none")
    keyed = edit(PLAIN + KEYED)
    ran[:] = [{}]
    result = run_queue([keyed(url=url) for url in "aba"], resume=path, reporter="none")
    assert (numbers_that_ran(), result.counts.enqueued) == ([], 2)
    children.append(lambda: [keyed(url=url) for url in "bc"])
    for more in ([Site()], [Site(), keyed(url="c"), keyed(url="d")]):
        result = run_queue([*(keyed(url=url) for url in "aba"), *more], resume=path, reporter="none")
        told_by(events_of(path))
    assert [one["url"] for one in ran[1:]] == ["c", "d"]
    assert [(event.item, event.key) for event in of_type(path, ItemAdopted)] == [(1, "a"), (2, "b")]


class RetriesFirst(Item):
    """Has the first item of its run, which has completed, run again."""

    def __init__(self, path: str) -> None:
        self.path = path

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        answer = await anyio.to_thread.run_sync(partial(steering.retry, self.path, [1], completed=True))
        assert answer.count == 1


def test_an_item_that_has_got_a_key_keeps_its_identity_when_it_runs_again(tmp_path: Path, backend: Backend) -> None:
    """Its idempotency key is that of its first run, by which another system recognizes it."""
    path = tmp_path / "run.db"
    page = edit(PLAIN)
    run_queue([page(url="a")], resume=path, reporter="none", backend=backend)
    keyed = edit(PLAIN + KEYED)
    run_queue([keyed(url="a"), RetriesFirst(str(path))], resume=path, reporter="none", backend=backend)
    told_by(events_of(path))
    assert [(event.item, event.key) for event in of_type(path, ItemAdopted)] == [(1, "a")]
    assert len(identities) == 2
    assert len(set(identities)) == 1
