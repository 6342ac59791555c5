"""A result's text; what is in it is tested where it is made."""

from aqueue.events import Counts
from aqueue.result import RunResult


def test_the_text_of_a_result_is_short() -> None:
    """A notebook shows it: it has no results, however many there are."""
    counts = Counts(enqueued=9, completed=5, failed=1)
    results = list(range(100_000))
    result = RunResult(
        "3b1f", "failed", counts, {"m:Page": counts}, 1.2345, root_results=results, journal="/tmp/run.db"
    )
    assert (
        repr(result) == "RunResult(failed, completed=5, failed=1, outstanding=3, elapsed_s=1.23, journal='/tmp/run.db')"
    )
    assert repr(RunResult("3b1f", "completed", Counts(), {}, 0.0)) == "RunResult(completed, elapsed_s=0)"
