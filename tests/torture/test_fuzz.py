"""The short form of ``python -m tests.torture.fuzz``; and that it finds what it is there to find."""

import os
import subprocess
import sys
from random import Random
from typing import Any

import msgspec
import pytest

from aqueue._engine.adoption import RecordedChildren
from aqueue._engine.recorded_child import RecordedChild
from tests.journal.seeds import Seed
from tests.torture import fuzz
from tests.torture.fuzz import Case, case_of, failure_of, report_of

PARTS = 8
CASES = 200


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_a_crash_leaves_and_whatever_reruns_enqueue_each_item_runs_once(part: int) -> None:
    """However random trees are interrupted and resumed, they come to what they would have, and repeat nothing."""
    # New ones each time, but in CI, where a change is to be blamed only for what it broke; as for Hypothesis.
    first = (1 if os.environ.get("CI") else Random().randrange(10**9)) + part
    for number in range(first, first + CASES, PARTS):
        report = report_of(case_of(number), f"seed {number}")
        assert not report, report


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_so_it_is_when_processes_are_killed() -> None:
    """The same by real processes, which end by SIGKILL."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.fuzz", "--seeds", "4", "--jobs", "1", "--kill"],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 cases" in done.stdout
    assert "none failed" in done.stdout


def test_a_mistake_is_found_and_the_case_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the second child that is enqueued again is not known again, a case of a few items shows it, by a command."""
    match = RecordedChildren.match

    def forgets_one(recorded: RecordedChildren, *child: Any) -> RecordedChild | None:
        found = match(recorded, *child)
        vars(recorded)["calls"] = calls = vars(recorded).get("calls", 0) + 1
        return None if calls == 2 else found

    with monkeypatch.context() as mistaken:
        mistaken.setattr(RecordedChildren, "match", forgets_one)
        reports = ((number, report_of(case_of(number), f"seed {number}")) for number in range(1, 50))
        number, report = next((number, report) for number, report in reports if report)
        command = next(line for line in report.splitlines() if line.startswith("python -m tests.torture.fuzz --case"))
        case = msgspec.json.decode(command.split("'")[1], type=Case)
        assert failure_of(case) is not None
    assert failure_of(case) is None, "it is not the mistake that it shows"
    assert report.startswith(f"seed {number} fails: AssertionError")
    assert size_of(case.program) <= 4, report
    assert len(case.processes) <= 1, report


def test_report_on_the_only_case_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the reports on many are."""
    monkeypatch.setattr(sys, "argv", ["fuzz", "--case", msgspec.json.encode(Case(Seed())).decode()])
    monkeypatch.setattr(fuzz, "report_of", lambda *_, **__: "how it fails")
    with pytest.raises(SystemExit) as ended:
        fuzz.main()
    assert ended.value.code == 1
    assert "how it fails" in capsys.readouterr().out


def size_of(seed: Seed) -> int:
    """Return how many seeds there are in `seed`, itself included."""
    return 1 + sum(map(size_of, seed.children))
