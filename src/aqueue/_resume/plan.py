"""Decides what a resume does with each live item of a recorded run.

A plan depends on the recording alone, not on the program's classes, a file or a clock. So a resume, which carries the plan out,
and `aqueue explain`, which shows it, get the same plan from the same recording.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, Literal

import msgspec

from aqueue._folds.crashes import Crashes
from aqueue._folds.recording import ROOT, RecordedItem, RecordedRun

__all__ = ["CAUTIOUS_AFTER_CRASHES", "POISON_AFTER_CRASHES", "Plan", "Step", "plan_of"]

CAUTIOUS_AFTER_CRASHES: Final = 2
"""After this many crashes in a row, each start is committed before the item's code is called."""

POISON_AFTER_CRASHES: Final = 3
"""An item that ran alone in this many crashes in a row fails instead of running again."""


Step = Literal[
    "runs",
    "retries",
    "waits for parent",
    "runs alone",
    "given up",
    "cancelled",
    "stays failed",
    "over",
    "hook due",
    "waits for descendants",
]
"""What a resume does with a live item:

- ``runs``: its `process` runs.
- ``retries``: its `process` runs, once the wait after a failed attempt is over.
- ``waits for parent``: its parent runs again, and enqueues it again.
- ``runs alone``: its `process`, or its hook, runs before all others, and nothing else meanwhile: it may have crashed the run.
- ``given up``: it fails without running: it has crashed the run.
- ``cancelled``: it fails without running: a person cancelled it while it ran, and then it was interrupted.
- ``stays failed``: it doesn't run again, but a descendant runs.
- ``over``: it stays failed, or was closed over failures that stay failed, and no descendant runs.
- ``hook due``: its hook runs, if it has one to run, once the wait after a failed attempt is over; then it is closed.
- ``waits for descendants``: a descendant has not ended.
"""


class Plan(msgspec.Struct, frozen=True):
    """What a resume does.

    Attributes:
        steps: the step of each live item by number, except for items that just run, which are often nearly all.
        given_up: the reason for each item that is given up, for a message.
        stay_failed: the items that have failed and don't run again, those included that a person cancelled.
        is_cautious: whether each start is committed before the item's code is called.
        cancelled: those of `stay_failed` that are not failed yet, since they were interrupted before. If no descendant runs, the step
            of such an item is ``over``.
    """

    steps: dict[int, Step]
    given_up: dict[int, str]
    stay_failed: set[int]
    is_cautious: bool
    cancelled: set[int] = set()

    def step(self, number: int) -> Step:
        """Return the step of a live item."""
        return self.steps.get(number, "runs")

    def runs_process(self, record: RecordedItem) -> bool:
        """Return whether the `process` of an item runs, and enqueues its children again. True for `ROOT`."""
        return not record.completed and record.id not in self.stay_failed

    def is_enqueued_again(self, record: RecordedItem) -> bool:
        """Return whether the parent of an item, or the program, enqueues it again, so that a new object takes its place.

        Initial items are in the queue meanwhile, since nothing starts before all of them have been enqueued again.
        """
        return self.step(record.id) == "waits for parent" or (record.parent == ROOT and self.runs_process(record))


def plan_of(
    recording: RecordedRun,
    runs_again: Callable[[str], object] = lambda _: True,
    type_today: Callable[[str], str] = lambda name: name,
    holds: Callable[[RecordedItem], Iterable[int]] = lambda _: (),
) -> Plan:
    """Return the plan for a resume.

    It leaves out one thing: an item whose object refers to an ancestor also waits if that ancestor waits for its parent.

    Parameters:
        recording: the run, from `Recording.at_end`.
        runs_again: returns whether failed items of a class, named as today, run again.
        type_today: returns the name that a recorded class has today.
        holds: returns the numbers of the ancestors that an item refers to; called for few items.
    """
    live, crashes = recording.live, recording.crashes
    is_retried = cache(lambda type: bool(runs_again(type_today(type))))
    special = [one for one in live.values() if one.failed is not None or one.is_poison]
    cancelled = recording.cancelled.keys() & live.keys()
    failed = {
        one.id for one in special if one.failed is not None and (one.is_cancelled or not is_retried(one.type))
    } | cancelled
    over = _what_is_over(live, failed)
    ended_below = Counter(live[number].parent for number in over)
    suspects = {
        number
        for number in {one.id for one in special if one.is_poison} | (crashes.suspects & live.keys())
        if number not in failed
        and number not in over
        and not live[number].skipped
        # Its hook ran over failures that run again: it waits for these, and won't be the first to run.
        and not (live[number].completed and live[number].pending > ended_below[number])
    }
    given_up = {number: why for number in suspects if (why := _why_given_up(crashes, live[number]))}
    steps: dict[int, Step] = {}
    steps.update(dict.fromkeys(suspects, "runs alone"))
    steps.update(dict.fromkeys(given_up, "given up"))
    steps.update(dict.fromkeys(failed, "stays failed"))
    steps.update(dict.fromkeys(cancelled, "cancelled"))
    steps.update(dict.fromkeys(over, "over"))
    plan = Plan(steps, given_up, failed, crashes.count >= CAUTIOUS_AFTER_CRASHES, cancelled)
    as_recorded = _what_runs_as_recorded(live, plan, suspects, holds)
    parent, is_enqueued_again = ROOT, False
    for number, record in live.items():
        if record.parent != parent:  # siblings mostly follow each other
            parent = record.parent
            is_enqueued_again = parent > ROOT and plan.runs_process(live[parent])
        if number in steps:
            continue
        if record.completed:
            is_waiting = record.pending > ended_below.get(number, 0)
            steps[number] = "waits for descendants" if is_waiting else "hook due"
        elif is_enqueued_again and number not in as_recorded:
            steps[number] = "waits for parent"
        elif record.due:
            steps[number] = "retries"
    return plan


def _what_is_over(live: dict[int, RecordedItem], failed: set[int]) -> set[int]:
    """Return the items that stay `failed`, or were closed over such items, and have no outstanding descendant."""
    over: set[int] = set()
    if failed:
        parents_of_open: set[int] = set()
        parents_of_over: set[int] = set()
        for record in reversed(live.values()):  # children come before their parents
            # After a skipped failure, a crash may have come before it was recorded that those above are reopened.
            is_closed_over = record.closed_over and record.id in parents_of_over
            if (record.id in failed or is_closed_over) and record.id not in parents_of_open:
                over.add(record.id)
                parents_of_over.add(record.parent)
            else:
                parents_of_open.add(record.parent)
    return over


def _why_given_up(crashes: Crashes, record: RecordedItem) -> str:
    """Return why an item that may have crashed the run doesn't run again, for a message; empty if it runs."""
    alone = crashes.alone.get(record.id, 0)
    if not record.is_poison:
        found = "was the only item running in three crashes in a row, and was not run again; find out how it ends the process"
        return found if alone >= POISON_AFTER_CRASHES else ""
    if record.failed is not None and crashes.count:
        # Running it between the crashes of another item would hide that one.
        return "had failed for crashing the process, which has crashed since; it is retried once the run has ended"
    again = "had failed for crashing the process, was retried alone, and crashed it again"
    return again if alone else ""


def _what_runs_as_recorded(
    live: dict[int, RecordedItem], plan: Plan, suspects: set[int], holds: Callable[[RecordedItem], Iterable[int]]
) -> set[int]:
    """Return the items that don't wait for their parents because a suspect, which runs first, refers to them.

    Once the suspect has run, the object that it refers to can't be replaced, and neither can the ancestors of that.
    """
    as_recorded: set[int] = set()
    for suspect in suspects:
        nearest = ROOT
        found = {suspect}
        for number in (following := [suspect]):
            for above in holds(live[number]):
                if not ROOT < above < number or above not in live or above in found:
                    continue  # not an ancestor: the resume refuses it later
                found.add(above)
                parent = live[above].parent
                waits = plan.runs_process(live[above]) and plan.runs_process(live[parent])
                if waits and (parent == ROOT or above not in suspects):
                    nearest = max(nearest, above)
                else:
                    following.append(above)  # and the ancestors that this one refers to
        while nearest != ROOT:
            as_recorded.add(nearest)
            nearest = live[nearest].parent
    return as_recorded
