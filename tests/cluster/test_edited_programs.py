"""A program whose items run in other processes, which is killed, edited and started again."""

import pytest

from tests.journal.edited import EDITS
from tests.journal.test_survival import BOTH, CHILDREN, Job, all_of, edited, first_shape, job, kill_midway, ran

__all__ = ["job"]


# No Struct: the class is defined in the script, and pickled by value a Struct's class has no fields.
@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        ("plain", "add a constant"),
        ("dataclass", "add one with a default, and pass another value"),
        ("attrs", "add a key"),
        ("dataclass", "remove site"),
        ("pydantic", "annotate timeout_s"),
    ],
)
def test_what_is_done_stays_done_though_its_class_was_edited(job: Job, kind: str, edit: str) -> None:
    """As on one machine: what was recorded as completed doesn't run again, and what was outstanding runs once."""
    first = first_shape(kind)
    kill_midway(job, edited(first, cluster="local:2"), completed=6, waiting=2)
    returncode, _, stderr = job.run(edited(EDITS[edit](first), cluster="local:2"))
    assert returncode == 0, stderr
    assert ran(job) == all_of(BOTH)
    assert job.count("item.enqueued") == 9


def test_an_edit_that_leaves_open_which_item_is_which_is_refused(job: Job) -> None:
    """The error comes out of enqueue in the process where the parent runs, and nothing is announced a second time."""
    first = first_shape("plain")
    kill_midway(job, edited(first, CHILDREN, cluster="local:2"), completed=3, waiting=1)
    enqueued = job.count("item.enqueued")
    returncode, _, stderr = job.run(edited(EDITS["remove the number"](first), CHILDREN, cluster="local:2"))
    assert (returncode, "AdoptionMismatch" in stderr) == (1, True), stderr
    assert job.count("item.enqueued") == enqueued
    returncode, _, stderr = job.run(edited(first, CHILDREN, cluster="local:2"))
    assert returncode == 0, stderr
    assert ran(job) == all_of(CHILDREN)
