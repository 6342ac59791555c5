"""Decides what a resume does with each live item of a recorded run.

No class of the program is looked at here, nothing is read and no clock: the same recording gives the same plan, to a
resume, which carries it out, and to `aqueue explain`, which says it in words.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, Literal

import msgspec

from aqueue._folds.crashes import Crashes
from aqueue._folds.recording import ROOT, RecordedItem, Recording

__all__ = ["CAUTIOUS_AFTER_CRASHES", "POISON_AFTER_CRASHES", "Plan", "Step", "plan_of"]

CAUTIOUS_AFTER_CRASHES: Final = 2
"""After so many crashes in a row, starts are committed before the item's code is called."""

POISON_AFTER_CRASHES: Final = 3
"""An item that was the only one running in so many crashes in a row fails instead of running again."""


Step = Literal[
    "runs",
    "retries",
    "waits for parent",
    "runs alone",
    "given up",
    "stays failed",
    "over",
    "hook due",
    "waits for descendants",
]
"""What a resume does with a live item:

- ``runs``: its `process` runs.
- ``retries``: its `process` runs, once the wait after a failed attempt is over.
- ``waits for parent``: its parent runs again, and enqueues it again.
- ``runs alone``: its `process`, or its hook, runs before all others while nothing else does: it may have crashed the run.
- ``given up``: it fails without being run: it has crashed the run.
- ``stays failed``: it does, while something below it is still to run.
- ``over``: it stays failed, or was closed over failures that stay, and nothing below it is to run.
- ``hook due``: its hook runs, if it has one that is to, once the wait after a failed attempt is over; then it is closed.
- ``waits for descendants``: something below it has not ended.
"""


class Plan(msgspec.Struct, frozen=True):
    """What a resume does.

    Attributes:
        steps: what it does with the live items, by number, but for those that just run: often all but a few.
        given_up: why it gives up those that it does, for a message.
        stay_failed: the items that have failed and don't run again.
        is_cautious: whether starts are committed before the item's code is called.
    """

    steps: dict[int, Step]
    given_up: dict[int, str]
    stay_failed: set[int]
    is_cautious: bool

    def step(self, number: int) -> Step:
        """Return what is done with a live item."""
        return self.steps.get(number, "runs")

    def runs_process(self, record: RecordedItem) -> bool:
        """Tell whether the `process` of an item is still to run, which then enqueues its children again; so does `ROOT`."""
        return not record.completed and record.id not in self.stay_failed

    def is_enqueued_again(self, record: RecordedItem) -> bool:
        """Tell whether the parent of an item, or the program, is to enqueue it again, so that another object may run.

        Initial items wait in the queue meanwhile: nothing starts before all of them have been enqueued again.
        """
        return self.step(record.id) == "waits for parent" or (record.parent == ROOT and self.runs_process(record))


def plan_of(
    recording: Recording,
    runs_again: Callable[[str], object] = lambda _: True,
    type_today: Callable[[str], str] = lambda name: name,
    holds: Callable[[RecordedItem], Iterable[int]] = lambda _: (),
) -> Plan:
    """Return what a resume of a run does.

    An item may also have to wait for an ancestor that waits for its own parent: if its object holds that of the ancestor.

    Parameters:
        recording: the run, ended.
        runs_again: tells of the name of an item class, as it is today, whether failed items of it are to run again.
        type_today: returns the name that a recorded class has today.
        holds: returns the numbers of the ancestors that an item's object holds; asked for few.
    """
    live, crashes = recording.live, recording.crashes
    is_tried_again = cache(lambda type: bool(runs_again(type_today(type))))
    special = [one for one in live.values() if one.failed is not None or one.is_poison]
    failed = {one.id for one in special if one.failed is not None and not is_tried_again(one.type)}
    over = _what_is_over(live, failed)
    ended_below = Counter(live[number].parent for number in over)
    suspects = {
        number
        for number in {one.id for one in special if one.is_poison} | (crashes.suspects & live.keys())
        if number not in failed
        and number not in over
        # One whose hook was running over failures that run again waits for them, and is then one of many.
        and not (live[number].completed and live[number].pending > ended_below[number])
    }
    given_up = {number: why for number in suspects if (why := _why_given_up(crashes, live[number]))}
    steps: dict[int, Step] = {}
    steps.update(dict.fromkeys(suspects, "runs alone"))
    steps.update(dict.fromkeys(given_up, "given up"))
    steps.update(dict.fromkeys(failed, "stays failed"))
    steps.update(dict.fromkeys(over, "over"))
    plan = Plan(steps, given_up, failed, crashes.count >= CAUTIOUS_AFTER_CRASHES)
    as_recorded = _what_runs_as_recorded(live, plan, suspects, holds)
    parent, is_enqueued_again = ROOT, False
    for number, record in live.items():
        if record.parent != parent:  # most have that of the one before
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
    """Return the items that stay `failed` or closed over such, but for those with a descendant that is outstanding."""
    over: set[int] = set()
    if failed:
        parents_of_open: set[int] = set()
        for record in reversed(live.values()):  # children come before their parents
            if (record.id in failed or record.closed_over) and record.id not in parents_of_open:
                over.add(record.id)
            else:
                parents_of_open.add(record.parent)
    return over


def _why_given_up(crashes: Crashes, record: RecordedItem) -> str:
    """Return why an item that may have crashed the run is not to run, for a message; empty if it is to run."""
    alone = crashes.alone.get(record.id, 0)
    if not record.is_poison:
        found = (
            "was the only one running in three crashes in a row, and was not run again; see what in it ends the process"
        )
        return found if alone >= POISON_AFTER_CRASHES else ""
    if record.failed is not None and crashes.count:
        # Tried between the crashes of another item, it would keep that from ever being found.
        return "had been given up for ending the process, which has crashed since; it is tried again when the run has ended"
    again = "had been given up for ending the process, was tried alone, and ended it again"
    return again if alone else ""


def _what_runs_as_recorded(
    live: dict[int, RecordedItem], plan: Plan, suspects: set[int], holds: Callable[[RecordedItem], Iterable[int]]
) -> set[int]:
    """Return the items that don't wait for their parents, since one of the `suspects`, which runs first, holds them.

    What it holds can't be exchanged once it has run; then nothing that this is below can be, either.
    """
    as_recorded: set[int] = set()
    for suspect in suspects:
        nearest = ROOT
        found = {suspect}
        for number in (following := [suspect]):
            for above in holds(live[number]):
                if not ROOT < above < number or above not in live or above in found:
                    continue  # a resume refuses what refers to no ancestor
                found.add(above)
                parent = live[above].parent
                waits = plan.runs_process(live[above]) and plan.runs_process(live[parent])
                if waits and (parent == ROOT or above not in suspects):
                    nearest = max(nearest, above)
                else:
                    following.append(above)  # for what that holds
        while nearest != ROOT:
            as_recorded.add(nearest)
            nearest = live[nearest].parent
    return as_recorded
