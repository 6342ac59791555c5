"""The folds of a run, `_folds.recording` and `view.RunView`, remember and look ahead within a batch: that makes no difference.

In a batch of one event there is nothing to remember, so that is what other batches are compared with. Here are real runs with
several pages of `_folds.waiting_items`; the made-up ones of `test_steered_runs.py` are shorter, and have all kinds of events.
"""

from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

import anyio.lowlevel
import pytest

from aqueue import Backend, EnqueueFn, Item, ItemFailures, Retry, SetDescFn, run_queue
from aqueue._folds.snapshot import GROWING, Folds, Part, parts_of, restored
from aqueue._folds.waiting_items import PAGE_ITEMS, WaitingItems
from aqueue._journal.writer import Journal
from aqueue.events import Event

NUM_ITEMS: Final = 3 * PAGE_ITEMS


class Job(Item):
    """Enqueues others by turns; may wait, be described, fail once, and have a result."""

    random = Random(0)
    left = NUM_ITEMS

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> int | None:
        random = Job.random
        for _ in range(random.choice((0, 0, 1, 2, 9, 500))):
            if Job.left:
                Job.left -= 1
                enqueue(random.choice((Job, Job, Job, Keyed, Hooked))())
            if random.random() < 0.1:
                await anyio.lowlevel.checkpoint()
        if random.random() < 0.5:
            set_desc("x")
        if random.random() < 0.05:
            raise ValueError
        return random.choice((None, 1))


class Keyed(Job):
    """Has a key and a group."""

    group = "group"

    def __init__(self) -> None:
        self.key = str(Job.left // 2)


class Hooked(Job):
    """Has a hook."""

    async def after_children_processed(self) -> int | None:
        return Job.random.choice((None, 2))


@pytest.mark.parametrize("seed", range(6))
def test_batches_make_no_difference(tmp_path: Path, backend: Backend, seed: int) -> None:
    """Wherever the events are cut, and whatever a snapshot is made of, the folds say what they say of one event at a time."""
    random = Job.random = Random(seed)
    Job.left = NUM_ITEMS
    path = tmp_path / "run.db"
    retry = Retry(3, first_s=0.0)
    with suppress(ItemFailures):
        run_queue(
            [Job() for _ in range(20)],
            num_workers=random.choice((1, 3, 20)),
            queue_type_name=random.choice(("queue", "stack")),
            journal=path,
            retry=retry,
            on_error="continue",
            reporter="none",
            backend=backend,
        )
    journal = Journal.open(path)
    events: list[Event] = [event for batch in journal.recorded() for event in batch]
    journal.close()
    one_by_one, folds = Folds(), Folds()
    growing: list[Part] = []
    begin = most_pages = 0
    while begin < len(events):
        end = begin + random.choice((1, 2, 10, 3_000))
        folds.apply(events[begin:end])
        for event in events[begin:end]:
            one_by_one.apply([event])
        most_pages = max(most_pages, len(folds.recording.waiting.pages))
        begin = end
        if random.random() < 0.02:
            parts = list(parts_of(folds))
            again = restored([*growing, *parts])
            growing += [part for part in parts if part[0] in GROWING]
            assert again is not None
            assert again.recording.num_live == folds.recording.num_live
            assert again.recording.waiting.pages.keys() == folds.recording.waiting.pages.keys()
            folds = again
            assert folds.recording.at_end() == one_by_one.recording.at_end()
            assert folds.view == one_by_one.view
    assert most_pages > 1
    assert folds.recording.at_end() == one_by_one.recording.at_end()
    assert folds.view == one_by_one.view


def test_items_share_what_they_have_in_common_though_parents_take_turns() -> None:
    """Memory is what the columns take, and an object per parent and class."""
    waiting = WaitingItems()
    page = waiting.add_page(0)
    for item in range(PAGE_ITEMS):
        page.siblings[item] = waiting.siblings(item % 7, "T" if item % 2 else "U", hook=False)
    assert len({id(one) for one in page.siblings}) == 14
    assert len(waiting) == PAGE_ITEMS
