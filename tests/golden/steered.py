"""The golden journal of a run that people steered: its job, and how it is made, by ``tests.golden.steered.make(Path(…))``.

Not by ``python -m``: its items would be those of a module called ``__main__``.
What is here may get more, but must go on to read what it has written. A journal that is checked in is never made again.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

import aqueue
from aqueue import EnqueueFn, Item, ItemFailures, Retry, SetDescFn, run_queue
from aqueue import events as ev
from aqueue.testing._scripted_runs import ANNA, CANCELLED, Script
from tests.golden.make import keep
from tests.journal.oracle import told_by
from tests.journal.recorded import events_of

__all__ = ["Step", "make", "roots"]


class Step(Item):
    """One that is tried twice, and has a hook."""

    retry = Retry(attempts=2, first_s=0.0)

    def __init__(self, name: str, children: list[str], fails: int = 0) -> None:
        self.name = name
        self.children = children
        self.fails = fails

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for child in self.children:
            enqueue(Step(child, []))
        if aqueue.current().attempt <= self.fails:
            raise ConnectionError(self.name)

    async def after_children_processed(self) -> list[object]:
        return [self.name, *aqueue.child_results()]


WELL, FAILS, CHILD = 1, 2, 4
STEP = f"{Step.__module__}:{Step.__qualname__}"


def roots() -> list[Item]:
    """Return the initial items."""
    return [Step("well", ["child"]), Step("fails", [], fails=9), Step("late", [], fails=1)]


def make(path: Path) -> None:
    """Record a run that was steered, and killed; then a failure was skipped, and what had ended well is to run again."""
    with suppress(ItemFailures):
        run_queue(roots(), journal=path, num_workers=1, on_error="continue", reporter="none")
    script = Script()
    script.events = _steered(events_of(path)[:-1])
    script.wait(script.events[-1].at - 1_700_000_000.0)
    script.edit()
    script.add(ev.GroupLimitChanged, group="a", is_default=True, by=ANNA)
    script.skip(FAILS, STEP, had_failed=True, result=Raw(b'"by hand"'))
    script.steer("retry", f"{CHILD} --completed")
    script.open_again(WELL, STEP, ended=script.ended(WELL))
    script.open_again(CHILD, STEP, rerun=True, ended=script.ended(CHILD))
    keep(path, script.events)
    told_by(events_of(path))


def _steered(events: Sequence[ev.Event]) -> list[ev.Event]:
    """Return the events of a process with what people did to it meanwhile."""
    steered: list[ev.Event] = []

    def add(cls: type[ev.Event], **fields: Any) -> None:
        steered.append(cls(seq=len(steered) + 1, at=steered[-1].at, **fields))

    def command(verb: str, selector: str) -> None:
        add(ev.RunSteered, verb=verb, selector=selector, count=1, by=ANNA)

    for event in events:
        steered.append(msgspec.structs.replace(event, seq=len(steered) + 1))
        match event:
            case ev.RunStarted():
                add(ev.RunPaused, by=ANNA)
                add(ev.RunUnpaused, by=ANNA)
                add(ev.GroupPaused, group="a", by=ANNA)
                add(ev.GroupUnpaused, group="a", by=ANNA)
                add(ev.RunWorkersChanged, num_workers=2, program=1, by=ANNA)
                add(ev.GroupLimitChanged, group="a", concurrent=1, by=ANNA, program=ev.GroupLimit(2))
            case ev.ItemRetryScheduled(item=item):
                command("retry", "--state retrying")
                add(ev.ItemRescheduled, item=item, type=STEP, due=event.at)
            case ev.ItemStarted(item=item, attempt=2) if item == FAILS:
                command("cancel", f"{FAILS}")
                add(ev.ItemCancelled, item=FAILS)
            case ev.ItemFailed():
                steered[-1] = msgspec.structs.replace(event, seq=len(steered), error=CANCELLED)
            case _:
                pass
    return steered
