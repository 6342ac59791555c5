"""Facts of items that have ended, read again from the events: they are those that the oracle of the journals tells.

Also `_stream.item_facts`.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from aqueue import Backend, EnqueueFn, Item, SetDescFn, run_queue
from aqueue._folds.ended_items import ended_items
from aqueue._journal.reader import read_all
from aqueue.events import Event, ItemReopened
from aqueue.testing._scripted_runs import BOOM, Script
from tests.journal.oracle import told_by
from tests.strategies import event_streams


@given(event_streams(), st.data())
def test_facts_are_those_of_the_oracle(events: list[Event], data: st.DataObject) -> None:
    """Of the items that were asked for and their ancestors, and of no others; whatever batches the events come in."""
    story = told_by(events, follows_clock=False)
    items = sorted(story.enqueued)
    wanted = data.draw(st.sets(st.sampled_from([*items, len(items) + 1])))
    size = data.draw(st.integers(1, 9))
    found = ended_items(wanted, lambda: [events[at : at + size] for at in range(0, len(events), size)])

    chain = {one for item in wanted.intersection(items) for one in (item, *story.above(item))}
    assert found.keys() == chain
    for item, facts in found.items():
        enqueued, children = story.enqueued[item], story.children(item)
        assert (facts.id, facts.parent, facts.enqueued_seq) == (item, enqueued.parent, enqueued.seq)
        assert (facts.type, facts.hook, facts.key) == (enqueued.type, enqueued.hook, story.key(item))
        assert facts.state == story.payloads[item]
        assert facts.skipped == (item in story.skipped)
        assert (facts.attempt, facts.hook_attempt) == tuple(
            story.attempts.get((item, phase), 0) for phase in ("process", "after_children")
        )
        assert bytes(facts.result) == story.results.get(item, b"")
        if facts.result_seq:
            assert events[facts.result_seq - 1].result == facts.result  # type: ignore[attr-defined]
        if story.state[item] not in ("failed", "waits", "process"):
            assert bytes(facts.process_result) == story.of_process.get(item, b"")
        assert facts.has_children == bool(children)
        announced = [(child, story.enqueued[child].seq, story.enqueued[child].type) for child in children]
        assert [one[:3] for one in facts.children] == (announced if item in wanted else [])
        results = {child: result for child in children if (result := story.results.get(child))}
        assert {child: bytes(one) for child, one in facts.results.items()} == (results if facts.hook else {})


@given(event_streams())
def test_what_an_event_says_of_an_item_that_had_ended_is_what_is_read(events: list[Event]) -> None:
    """`item.reopened` with `ended`: the facts as of the events before it."""
    reopened = [event for event in events if isinstance(event, ItemReopened) and event.ended is not None]
    for event in reopened[:3]:
        before = events[: event.seq - 1]
        facts = ended_items([event.item], lambda: [before])[event.item]  # noqa: B023  # called at once
        assert facts.as_ended() == event.ended
        assert facts.skipped == event.skipped
        if not event.rerun:
            assert facts.process_result == event.result


def test_nothing_is_read_if_nothing_is_asked_for() -> None:
    """A resume of a run in which nothing was reopened reads its journal once."""

    def fail() -> list[list[Event]]:
        raise AssertionError("read")

    assert ended_items([], fail) == {}


def test_result_of_process_holds_again_where_the_hook_returns_nothing() -> None:
    """After a hook that returned something, of an item and of the child of another; after a failure none does."""
    script = Script()
    top = script.enqueue(hook=True)
    script.start(top)
    child, other = script.enqueue(parent=top, hook=True), script.enqueue(parent=top)
    script.complete(top)
    script.start(child)
    script.complete(child, result=Raw(b"1"))
    script.start(child, phase="after_children")
    script.end_hook(child, result=Raw(b"2"))
    hooked = len(script.events)
    script.open_again(child, ended=script.ended(child), result=Raw(b"1"))
    script.start(child, phase="after_children", attempt=2)
    script.end_hook(child)
    script.start(other)
    script.fail(other, BOOM)

    def results(events: list[Event]) -> tuple[bytes, dict[int, Raw]]:
        facts = ended_items([child], lambda: [events])
        return bytes(facts[child].result), facts[top].results

    assert results(script.events[:hooked]) == (b"2", {child: Raw(b"2")})
    assert results(script.events) == (b"1", {child: Raw(b"1")})


class Folder(Item):
    """One with two children."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int:
        for _ in range(2 if self.depth else 0):
            enqueue(Folder(self.depth - 1))
        return self.depth


def test_journal_is_read_by_a_connection_of_its_own(tmp_path: Path, backend: Backend) -> None:
    """Also while the run writes it."""
    path = tmp_path / "run.db"
    found: dict[int, int] = {}

    class Reads(Item):
        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            facts = ended_items([7], lambda: read_all(path.resolve()))
            found.update({item: one.parent for item, one in facts.items()})

    run_queue([Folder(2)], journal=path, reporter="none", backend=backend)
    run_queue([Folder(2), Reads()], resume=path, reporter="none", backend=backend)
    whole = ended_items([7], lambda: read_all(path))

    assert found == {item: one.parent for item, one in whole.items()}
    assert list(found) == sorted(found)
    assert found[1] == 0 and len(found) == 3
    (leaf,) = [whole[7]]
    assert (leaf.process_result, leaf.children, leaf.attempt) == (Raw(b"0"), [], 1)
    with pytest.raises(KeyError):
        whole[2 if found[7] == 3 else 3]
