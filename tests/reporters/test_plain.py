"""The plain reporter: when it says something, what it says, and how it keeps one line of a terminal up to date.

Rates and times left are `aqueue_reporters._pace`.
"""

import io
import os
import pty
import re
import sys
from collections.abc import Sequence

import msgspec
import pyte
import pytest

from aqueue._folds.outcome import FoldedResult
from aqueue.events import (
    ErrorInfo,
    Event,
    GroupLimitChanged,
    GroupPaused,
    GroupUnpaused,
    ItemSkipped,
    ProcessLeft,
    RunPaused,
    RunResumed,
    RunStopping,
    RunUnpaused,
    RunWorkersChanged,
)
from aqueue.reporting import RunInfo
from aqueue.result import RunResult
from aqueue.testing import replay
from aqueue.testing._replay import result_of
from aqueue.testing._scripted_runs import Script, completed, interrupted, with_failures, with_types
from aqueue.view import RunView
from aqueue_reporters.plain import PlainReporter
from tests.reporters.pty_stream import PtyStream

START = 1_700_000_000.0
INFO = RunInfo("run", 3, "queue", START)
ERROR = ErrorInfo("module:Boom", "it broke")
HEADLINE = re.compile(r"(Completed|Failed|Interrupted)\b.*   ")


class Session:
    """A plain reporter on a stream, with a clock that the test sets."""

    def __init__(self, stream: io.StringIO | None = None, info: RunInfo = INFO) -> None:
        self.stream = io.StringIO() if stream is None else stream
        self.now = START
        self.view = RunView()
        self.reporter = PlainReporter(stream=self.stream, clock=lambda: self.now)
        self.reporter.open(info)

    def tell(self, events: Sequence[Event], after_s: float = 0.0) -> list[str]:
        """Let time pass, hand on `events`, and return the lines that were written for them."""
        self.now += after_s
        self.view.apply(events)
        before = len(self.stream.getvalue())
        self.reporter.handle(events, self.view)
        return self.stream.getvalue()[before:].splitlines()


def summary(events: Sequence[Event]) -> list[str]:
    """Return the lines at the end of a run."""
    stream = io.StringIO()
    replay(events, PlainReporter(stream=stream, clock=lambda: START))
    lines = stream.getvalue().splitlines()
    return lines[next(index for index, line in enumerate(lines) if HEADLINE.match(line)) :]


def finding(count: int) -> Script:
    """Return the beginning of a run that has found `count` items."""
    script = Script()
    for _ in range(count):
        script.enqueue()
    return script


def test_it_says_once_a_minute_that_nothing_happens() -> None:
    """A log that stays silent looks like a hang; of a run that a person has paused, every ten minutes is enough."""
    session = Session()
    assert session.tell([], 3_600) == []  # the run hasn't begun
    script = finding(3)
    assert len(session.tell(script.events, 10)) == 1
    assert session.tell([], 59.9) == []
    (line,) = session.tell([], 0.2)
    assert line == "0/3 completed, 0.0/s, 0 failed, 1:01:10 elapsed, 3 waiting"
    script.add(RunPaused, by="anna@laptop via aqueue")
    assert len(session.tell(script.events[-1:], 5)) == 2
    assert session.tell([], 590) == []
    (line,) = session.tell([], 20)
    assert line.endswith(" elapsed, 3 waiting, paused by anna@laptop: 3 waiting")
    session.tell(script.finish("interrupted")[-1:])
    assert session.tell([], 3_600) == []


def test_what_people_do_to_the_run_is_told_at_once() -> None:
    """Who it was and what they set; safe to show."""
    script = Script()
    by = {"by": "anna\x1b[2J@laptop via aqueue"}
    script.add(RunPaused, **by)
    script.add(RunUnpaused, **by)
    script.add(GroupPaused, group="a\x1b", **by)
    script.add(GroupUnpaused, group="a\x1b", **by)
    script.add(RunWorkersChanged, num_workers=1, program=3, **by)
    script.add(GroupLimitChanged, group="a", concurrent=2, per_second=0.5, **by)
    script.add(GroupLimitChanged, group="a", **by)
    script.add(GroupLimitChanged, group="a", is_default=True, **by)
    script.add(RunStopping, reason="stop", **by)
    anna = "by anna\\x1b[2J@laptop"

    assert Session().tell(script.events) == [
        f"paused {anna}",
        f"unpaused {anna}",
        f"group a\\x1b paused {anna}",
        f"group a\\x1b unpaused {anna}",
        f"1 worker, set {anna} (program: 3)",
        f"group a: 2 at once, 0.5/s, set {anna}",
        f"group a: no limit, set {anna}",
        f"group a: limit as in the program, set {anna}",
        f"stopping: stop {anna}; no item is running",
    ]


def test_commands_on_items_are_told_once_each() -> None:
    """What was asked, for how many items, and by whom; not each item. A large command is carried out in parts."""
    script = Script()
    items = [script.enqueue() for _ in range(6)]
    script.steer("skip", "--state queued --key '*\x1b[2J'", count=1_000, by="anna\x1b[2J@laptop via aqueue")
    script.add(ItemSkipped, item=items[0], type="module:Page")
    script.steer("skip", "--state queued --key '*\x1b[2J'", count=234, by="anna\x1b[2J@laptop via aqueue")
    script.add(ItemSkipped, item=items[1], type="module:Page")
    script.cancel(items[2])
    session = Session()

    assert session.tell(script.events) == [
        "skip --state queued --key '*\\x1b[2J': 1,234 items, by anna\\x1b[2J@laptop",
        "cancel 3: 1 item, by anna@host",
        "failed: item 3 Page: CancelledByUser: cancelled by anna@host via aqueue",
    ]
    before = len(script.events)
    script.skip(items[3])
    assert session.tell(script.events[before:], 5) == [
        "skip 4: 1 item, by anna@host",
        "0/6 completed, 0.0/s, 1 failed, 3 skipped, 0:05 elapsed, 2 waiting",
    ]


def test_it_is_silent_between_two_lines() -> None:
    """At most one progress line every five seconds; then one that tells all."""
    events = completed(20)
    session = Session()

    assert session.tell(events[:10]) == []
    assert session.tell(events[10:20], 4.9) == []
    assert len(session.tell(events[20:30], 0.1)) == 1
    assert session.tell(events[30:40], 4.9) == []
    assert len(session.tell([], 0.1)) == 1


def test_clock_that_is_set_back_does_not_silence_it() -> None:
    """An hour back is not an hour without a line."""
    events = completed(20)
    session = Session()
    session.tell(events[:10], 10)

    assert len(session.tell(events[10:20], -3_600)) == 1


def test_progress_line_tells_how_far_it_is() -> None:
    """Completed of found, the rate, what failed, the time, the time left, what waits."""
    script = finding(8)
    for item in (1, 2, 3, 4):
        script.start(item)
        script.complete(item)
    script.start(5)
    script.fail(5, ERROR)
    script.start(6)
    session = Session()
    lines = session.tell(script.events, 8)

    assert lines[-1] == "4/8 completed, 0.5/s, 1 failed, 0:08 elapsed, eta 0:06, 2 waiting"


@pytest.mark.parametrize(
    ("due_in_s", "after_s", "told"),
    [
        (30.0, 10.0, "2 waiting, 2 retrying (next in 21 s)"),
        (30.0, 40.0, "2 waiting, 2 retrying (next now)"),
        (1_800.0, 10.0, "2 waiting, 2 retrying (next in 30 min)"),
        (90_000.0, 10.0, "2 waiting, 2 retrying (next in 25 h)"),
    ],
)
def test_what_waits_for_a_retry_is_told(due_in_s: float, after_s: float, told: str) -> None:
    """How many wait, beside the queued ones, and when the next of them is due."""
    script = finding(4)
    for item in (1, 2):
        script.start(item)
        script.fail_for_now(item, due_in_s)
    (line,) = Session().tell(script.events, after_s)

    assert told in line


def test_what_waits_is_not_promised_a_retry_when_the_run_stops() -> None:
    """It is told of without a time, since no more items are taken."""
    script = finding(1)
    script.start(1)
    script.fail_for_now(1, 30.0)
    script.add(RunStopping, reason="Ctrl-C")

    assert Session().tell(script.events, 10.0)[-1].endswith("0 waiting, 1 retrying")


def test_time_left_is_told_when_it_can_be() -> None:
    """Once items are done faster than they are found, by the difference."""
    script = finding(100)
    script.wait(60)
    for item in range(1, 21):
        script.start(item)
        script.complete(item)
        script.wait(0.98)
    session = Session()
    session.now = script.events[-1].at + 0.98
    (line,) = session.tell(script.events)

    assert line == "20/100 completed, 1.0/s, 0 failed, 1:21 elapsed, eta 1:20, 80 waiting"


def test_time_left_is_the_least_while_more_is_found_than_done() -> None:
    """That of the items that are known."""
    script = Script()
    for item in range(1, 41):
        script.enqueue()
        script.enqueue()
        script.start(item)
        script.complete(item)
        script.wait(0.5)
    session = Session()
    session.now = script.events[-1].at
    (line,) = session.tell(script.events)

    assert "40/80 completed" in line
    assert ", eta at least 0:2" in line


def test_time_left_of_slow_items_is_told_by_all_that_were_done() -> None:
    """The last ten seconds may have seen none of them end."""
    script = finding(10)
    for item in range(1, 5):
        script.start(item)
        script.wait(59.98)
        script.complete(item)
    session = Session()
    session.now = script.events[-1].at + 59
    (line,) = session.tell(script.events)

    assert line == "4/10 completed, 0.0/s, 0 failed, 4:59 elapsed, eta 7:29, 6 waiting"


def test_time_left_is_a_least_one_while_more_is_found() -> None:
    """What is still found adds to it."""
    script = finding(100)
    for item in range(1, 41):
        script.start(item)
        script.complete(item)
        script.wait(0.48)
        if item % 4 == 0:
            script.enqueue()
    session = Session()
    session.now = script.events[-1].at
    (line,) = session.tell(script.events)

    assert line.startswith("40/110 completed, 2.0/s, 0 failed, ")
    assert ", eta at least 0:3" in line


def test_time_left_of_initial_items_is_told_from_the_beginning() -> None:
    """They were given, not found: the total stands still."""
    script = finding(100)
    session = Session()
    session.tell(script.events, 5)
    told = []
    for item in range(1, 4):
        script.start(item)
        script.complete(item)
        told += session.tell(script.events[-2:], 5)

    assert ["eta" in line for line in told] == [True, True, True]
    assert ", eta 10:46, " in told[-1]


def test_rate_and_time_left_are_not_told_at_once() -> None:
    """Of half a second they would say anything."""
    script = finding(3)
    script.start(1)
    script.complete(1)
    session = Session()
    session.reporter = PlainReporter(stream=session.stream, interval_s=0.1, clock=lambda: session.now)
    session.reporter.open(INFO)

    assert session.tell(script.events, 0.5) == ["1/3 completed, 0 failed, 0:00 elapsed, 2 waiting"]


def test_numbers_are_grouped() -> None:
    """Thousands are told apart, as in the live display."""
    (line,) = Session().tell(completed(2_000)[: 1 + 2_000 + 3 * 1_200], 50)

    assert re.fullmatch(r"1,200/2,000 completed, \d+\.\d/s, .*, 800 waiting", line)


def test_slow_rate_is_told_a_minute() -> None:
    """An item every twenty seconds is not 0.1 a second."""
    script = Script()
    for item in range(1, 4):
        script.enqueue()
        script.start(item)
        script.wait(20)
        script.complete(item)

    assert summary(script.finish("completed"))[0] == "Completed   3 items in 1:00 · 3.0/min"


CLUSTER = "tcp://scheduler:8786"


def test_processes_of_a_cluster_are_told_at_once() -> None:
    """Which came, went or died, how many workers it has, how many there are then, and which reports came too late."""
    script = Script(cluster=CLUSTER)
    script.join(1, 3, host="a.example.org")
    script.join(4, 1, host="b\x1b[2J", pid=7)
    script.lose(1, ignored=2)
    script.add(ProcessLeft, first_worker=4)

    assert Session().tell(script.events) == [
        "joined: a.example.org:4711, 3 workers (3 in 1 process)",
        "joined: b\\x1b[2J:7, 1 worker (4 in 2 processes)",
        "lost: a.example.org:4711, 3 workers (1 in 1 process); 2 late reports not counted",
        "left: b\\x1b[2J:7, 1 worker (0 in 0 processes)",
    ]


def test_process_that_nobody_knows_is_not_told_of() -> None:
    """One that had joined before the run was resumed has gone with the process before."""
    script = Script(cluster=CLUSTER)
    script.join(1, 3)
    script.begin(RunResumed, cluster=CLUSTER)
    begun = len(script.events)
    script.add(ProcessLeft, first_worker=1)
    session = Session()
    session.tell(script.events[:begun])

    assert session.tell(script.events[begun:]) == []


def test_waiting_for_processes_is_told() -> None:
    """A run that does nothing says why."""
    script = Script(cluster=CLUSTER)
    script.enqueue()
    session = Session()
    waits = session.tell(script.events, 10)
    script.join()
    begun = session.tell(script.events[-1:], 10)

    assert waits == ["0/1 completed, 0.0/s, 0 failed, 0:10 elapsed, waiting for worker processes, 1 waiting"]
    assert begun == [
        "joined: node:4711, 3 workers (3 in 1 process)",
        "0/1 completed, 0.0/s, 0 failed, 0:20 elapsed, 1 waiting",
    ]


def test_failure_is_told_at_once() -> None:
    """Number, type, error and the first line of its message, on one line."""
    script = finding(1)
    script.start(1)
    script.fail(1, ErrorInfo("module:Boom", "\nit\rbroke \x1b[2J \nat last"), attempt=2)

    assert Session().tell(script.events) == ["failed: item 1 Page: Boom: it\\rbroke \\x1b[2J"]


def test_failure_of_a_hook_says_so() -> None:
    """Which method raised makes a difference."""
    script = finding(1)
    script.start(1)
    script.complete(1)
    script.start(1, phase="after_children")
    script.fail(1, ERROR, phase="after_children")

    assert Session().tell(script.events) == ["failed: item 1 Page after children: Boom: it broke"]


def failures(*errors: str) -> list[Event]:
    """Return the beginning of a run in which an item fails with each of these types of errors."""
    script = finding(len(errors))
    for item, error in enumerate(errors, 1):
        script.start(item)
        script.fail(item, ErrorInfo(error, f"number {item}"))
    return script.events


FURTHER = "  further failures of this kind are counted, but not shown"


def test_five_failures_of_a_kind_are_told() -> None:
    """However many there are, of each kind; and that there may be more."""
    session = Session()
    lines = session.tell(failures(*["Often"] * 70, "Rare", *["Often"] * 50, *["Rare"] * 7), 10)

    assert lines[:-1] == [
        *(f"failed: item {item} Page: Often: number {item}" for item in range(1, 6)),
        FURTHER,
        "failed: item 71 Page: Rare: number 71",
        *(f"failed: item {item} Page: Rare: number {item}" for item in range(122, 126)),
        FURTHER,
    ]
    assert "128 failed" in lines[-1]


def test_four_failures_of_a_kind_are_all() -> None:
    """Nothing is said of further ones; those of a hook, and those of another type, are of another kind."""
    script = Script()
    for number in range(10):
        type = "module:Page" if number < 8 else "module:Other"
        item = script.enqueue(type)
        script.start(item, type)
        script.fail(item, ERROR, type, phase="process" if number < 4 else "after_children")
    lines = Session().tell(script.events)

    assert len(lines) == 10
    assert all(line.startswith("failed: ") for line in lines)


def test_failures_of_a_hundred_kinds_are_told() -> None:
    """A run of which every error has a class of its own doesn't fill the log, and says so; known kinds go on."""
    lines = Session().tell(failures(*(f"Error{number}" for number in range(150)), "Error149", "Error0", "Error99"))

    assert [line.split()[2] for line in lines if line.startswith("failed: ")] == [
        *(str(item) for item in range(1, 101)),
        "152",
        "153",
    ]
    assert lines.count("  failures of other kinds are counted, but not shown") == 1
    assert lines[100] == "  failures of other kinds are counted, but not shown"


def test_stop_is_told_at_once() -> None:
    """Why, and how many still run; then that they are cancelled; the progress goes on."""
    script = finding(5)
    for item in (1, 2):
        script.start(item, worker=item)
    script.add(RunStopping, reason="SIGINT")
    session = Session()

    assert session.tell(script.events) == ["stopping: SIGINT; waiting for 2 running items"]
    before = len(script.events)
    script.complete(1)
    assert session.tell(script.events[before:], 5) == [
        "1/5 completed, 0.2/s, 0 failed, 0:05 elapsed, stopping, 1 running, 3 waiting"
    ]
    script.add(RunStopping, reason="SIGINT again", cancelling=True)
    assert session.tell(script.events[-1:]) == ["stopping: SIGINT again; cancelling 1 running item"]


def test_summary_of_a_completed_run() -> None:
    """How many, the time, the rate, and each type, unless there is but one, of which that has told all."""
    assert summary(with_types(["a:A", "b:B"])) == [
        "Completed   2 items in 70 ms · 28.6/s",
        "",
        "      completed",
        "  A           1",
        "  B           1",
    ]
    assert summary(completed(2_000)) == ["Completed   2,000 items in 1:20 · 25.0/s"]


def test_summary_of_a_run_without_items() -> None:
    """It says so in as many words."""
    assert summary(completed(0)) == ["Completed   0 items in 10 ms · 0.0/s"]


def test_summary_names_skipped_items() -> None:
    """They are no failures, and not among those that completed."""
    script = Script()
    first, second = script.enqueue(), script.enqueue()
    script.start(first)
    script.complete(first)
    script.skip(second)

    assert summary(script.finish("completed")) == ["Completed   1 item in 70 ms · 14.3/s · 1 skipped"]


def test_summary_of_an_interrupted_run() -> None:
    """How many are outstanding, and why it was stopped."""
    assert summary(interrupted()) == ["Interrupted (SIGINT)   1 completed · 9 outstanding · 5.19 s"]


def test_summary_groups_failures() -> None:
    """By the item's type and the error's, the most frequent first, each with an example."""
    script = finding(5)
    for item, error in zip(range(1, 6), ["Rare", "Often", "Often", "Often", "Often"], strict=True):
        script.start(item)
        script.fail(item, ErrorInfo(error, f"number {item}\nand more"))

    assert summary(script.finish("failed")) == [
        "Failed   5 of 5 items failed · 0 completed · 0.16 s",
        "",
        "  4 × Page: Often  number 2",
        "      e.g. item 2",
        "  1 × Page: Rare  number 1",
        "      item 1",
    ]


def test_summary_shows_where_the_user_s_code_was() -> None:
    """The innermost line of it, with its code; and how many attempts there were."""
    lines = ["Traceback (most recent call last):"]
    for number in range(1, 8):
        lines += [f'  File "/p/site-packages/lib.py", line {number}, in lib', "    lib()"]
        lines += [f'  File "/home/me/job.py", line {number}, in f{number}', f"    f{number + 1}(url)"]
    lines += ['  File "/p/site-packages/lib.py", line 8, in lib', "    lib()"]
    script = finding(1)
    script.start(1)
    script.fail_for_now(1, 0.0)
    script.start(1, attempt=2)
    script.fail(1, ErrorInfo("OSError", "no", "\n".join([*lines, "OSError: no"])), attempt=2)

    assert summary(script.finish("failed")) == [
        "Failed   1 of 1 item failed · 0 completed · 1 retried · 60 ms",
        "",
        "  1 × Page: OSError  no",
        "      /home/me/job.py:7 in f7   f8(url)",
        "      item 1, attempt 2",
    ]


def test_summary_tells_failures_of_hooks_from_others() -> None:
    """Which method raised makes two kinds of one error."""
    script = finding(2)
    script.start(1)
    script.fail(1, ERROR)
    script.start(2)
    script.complete(2)
    script.start(2, phase="after_children")
    script.fail(2, ERROR, phase="after_children")

    assert summary(script.finish("failed"))[2:] == [
        "  1 × Page: Boom  it broke",
        "      item 1",
        "  1 × Page after children: Boom  it broke",
        "      item 2",
    ]


def test_summary_with_a_journal_says_how_to_list_failures() -> None:
    """By a command that can be copied as it stands."""
    events = with_failures(1)
    view = RunView()
    view.apply(events)
    for path, shown in (("/home/me/it's.db", """'/home/me/it'"'"'s.db'"""), ("/\x1b[2J.db", r"'/\x1b[2J.db'")):
        stream = io.StringIO()
        for info in (INFO, msgspec.structs.replace(INFO, journal=path)):
            reporter = PlainReporter(stream=stream, clock=lambda: START)
            reporter.open(info)
            reporter.close(msgspec.structs.replace(result_of(events, view), journal=path))

        lines = stream.getvalue().splitlines()
        commands = [line for line in lines if "aqueue" in line]
        listing = f"  See them all:   aqueue failures {shown}"
        # That of a log, which is read without a journal, can't be changed.
        assert commands == [listing, listing, f"  Accept it:      aqueue skip {shown} --state failed"]
        assert lines[-1] == commands[-1]


def test_summary_of_many_kinds_of_failures_is_short() -> None:
    """Two kinds, and how many there are beside them, also where there are too many kinds to remember."""
    lines = summary(with_failures(1_200))

    assert len(lines) == 1 + 1 + 2 * 2 + 1
    assert lines[-1] == "  and 1,198 more failures"


def test_summary_on_stderr_or_a_terminal_takes_the_place_of_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a file doesn't: the program would end with an error, and nobody who looks at it would see which."""
    in_file, on_stderr = PlainReporter(stream=io.StringIO()), PlainReporter()
    replay(with_failures(1), in_file)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    on_stderr.open(INFO)
    before = on_stderr.has_summary
    on_stderr.close(RunResult("run", "completed", RunView().counts, {}, 1.0))

    assert (in_file.has_summary, before, on_stderr.has_summary) == (False, False, True)


def test_summary_that_could_not_be_written_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one for a stderr that is full, or was closed."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    reporter = PlainReporter()
    reporter.open(INFO)
    stream.close()
    reporter.close(RunResult("run", "completed", RunView().counts, {}, 1.0))

    assert not reporter.has_summary


def test_nobody_who_reads_is_an_error_of_a_batch_but_not_of_the_end() -> None:
    """So that the run goes on without it."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    events = with_failures(1)
    view = RunView()
    view.apply(events)
    with open(write_end, "w") as stream:
        reporter = PlainReporter(stream=stream)
        reporter.open(INFO)
        with pytest.raises(BrokenPipeError):
            reporter.handle(events, view)
        reporter.close(RunResult("run", "failed", view.counts, {}, 1.0))


def test_stream_that_was_closed_is_no_error_at_the_end() -> None:
    """The program may have closed its stderr."""
    stream = io.StringIO()
    reporter = PlainReporter(stream=stream)
    reporter.open(INFO)
    stream.close()
    reporter.close(RunResult("run", "completed", RunView().counts, {}, 1.0))

    assert not reporter.uses_terminal


def test_program_without_stderr_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw."""
    monkeypatch.setattr(sys, "stderr", None)
    reporter = PlainReporter()

    assert not reporter.uses_terminal
    replay(with_failures(3), reporter)


def test_stderr_is_taken_as_it_is_when_the_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as it was when the reporter was made."""
    reporter = PlainReporter()
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    replay(completed(1), reporter)

    assert stderr.getvalue().startswith("Completed   1 item in ")


def test_encoding_of_the_stream_is_respected() -> None:
    """What it lacks is escaped."""
    script = finding(1)
    script.start(1)
    script.fail(1, ErrorInfo("E", "漢 é"))
    below = io.BytesIO()
    stream = io.TextIOWrapper(below, "latin-1")
    replay(script.finish("failed"), PlainReporter(stream=stream))
    stream.flush()

    assert b"failed: item 1 Page: E: \\u6f22 \xe9\n" in below.getvalue()


class Screen:
    """A terminal, and what a person sees on it."""

    def __init__(self, columns: int = 80, rows: int = 12) -> None:
        self.terminal = PtyStream(columns, rows)
        self._emulator = pyte.Screen(columns, rows)

    def finish(self) -> list[str]:
        """Return the lines on the screen at the end."""
        pyte.ByteStream(self._emulator).feed(self.terminal.finish())
        return [line.rstrip() for line in self._emulator.display]

    @property
    def cursor_is_shown(self) -> bool:
        """Whether the cursor can be seen."""
        return not self._emulator.cursor.hidden


@pytest.fixture
def _capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.usefixtures("_capable_terminal")
class TestOnTerminal:
    """On a terminal it keeps one line up to date."""

    def test_line_is_rewritten_in_place(self) -> None:
        """Before the end there is what was printed and one line of progress below it, the latest."""
        screen = Screen()
        events = completed(20)
        now = START
        reporter = PlainReporter(stream=screen.terminal.stream, clock=lambda: now)
        reporter.open(INFO)
        view = RunView()
        for start in range(0, 60, 10):
            now += 1
            view.apply(events[start : start + 10])
            reporter.handle(events[start : start + 10], view)
        screen.terminal.stream.write("printed\n")
        now += 1
        reporter.handle([], view)
        lines = screen.finish()
        reporter.release_terminal()

        assert lines[:3] == ["printed", "13/20 completed, 1.9/s, 0 failed, 0:07 elapsed, eta 0:04, 7 waiting", ""]

    def test_summary_takes_the_place_of_the_line(self) -> None:
        """At the end there are the failures and the summary, no progress line, and a cursor."""
        screen = Screen()
        reporter = PlainReporter(stream=screen.terminal.stream)
        replay(with_failures(2), reporter)

        assert screen.finish()[:8] == [
            "failed: item 1 Page: Error0: number 0",
            "failed: item 2 Page: Error1: number 1",
            "Failed   2 of 2 items failed · 0 completed · 70 ms",
            "",
            "  1 × Page: Error0  number 0",
            "      item 1",
            "  1 × Page: Error1  number 1",
            "      item 2",
        ]
        assert reporter.has_summary
        assert screen.cursor_is_shown

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            (94, "1/5 completed, 0.3/s, 0 failed, 0:03 elapsed, eta 0:12, 3 waiting, 1 retrying (next in 10 s)"),
            (60, "1/5 completed, 0.3/s, 0 failed, 0:03 elapsed, eta 0:12, 3 w"),
            (20, "1/5 completed, 0.3/"),
            (6, "1/5 c"),
        ],
    )
    def test_what_does_not_fit_is_cut(self, columns: int, expected: str) -> None:
        """The line never takes two rows."""
        screen = Screen(columns=columns)
        script = finding(5)
        script.start(1)
        script.complete(1)
        script.start(2)
        script.fail_for_now(2, 12.0)
        now = START + 2
        reporter = PlainReporter(stream=screen.terminal.stream, clock=lambda: now)
        reporter.open(INFO)
        view = RunView()
        view.apply(script.events)
        now += 1
        reporter.handle([], view)
        lines = screen.finish()
        reporter.release_terminal()

        assert lines[:2] == [expected, ""]

    def test_it_is_drawn_at_most_ten_times_a_second(self) -> None:
        """Once a second when only the clock has changed."""
        terminal = PtyStream()
        events = completed(500)
        now = START
        reporter = PlainReporter(stream=terminal.stream, clock=lambda: now)
        reporter.open(INFO)
        view = RunView()
        for start in range(1_000):
            now = START + start / 100
            view.apply(events[start : start + 1])
            reporter.handle(events[start : start + 1], view)
        busy = now
        for tick in range(1_000):
            now = busy + tick / 100
            reporter.handle([], view)
        reporter.release_terminal()
        frames = terminal.finish().count(b" elapsed")

        assert 90 <= frames <= 112

    def test_program_that_prints_is_shown_above(self) -> None:
        """What goes to the same terminal, by stdout or stderr, stays whole."""
        screen = Screen()
        reporter = PlainReporter(stream=screen.terminal.stream)
        reporter.open(INFO)
        print("one", file=screen.terminal.stream)
        reporter.handle([], RunView())
        print("two", end="", file=screen.terminal.stream)
        reporter.close(RunResult("run", "completed", RunView().counts, {}, 1.0))

        assert screen.finish()[:3] == ["one", "two", "Completed   0 items in 1.00 s · 0.0/s"]

    @pytest.mark.parametrize("term", ["dumb", "unknown", ""])
    def test_dumb_terminal_gets_lines(self, monkeypatch: pytest.MonkeyPatch, term: str) -> None:
        """Where a line can't be rewritten, none is."""
        monkeypatch.setenv("TERM", term)
        terminal = PtyStream()
        reporter = PlainReporter(stream=terminal.stream)
        uses_terminal = reporter.uses_terminal
        replay(with_failures(2), reporter)

        assert not uses_terminal
        assert b"\x1b" not in terminal.finish()

    def test_it_says_that_it_uses_the_terminal(self) -> None:
        """So that no other reporter does."""
        terminal = PtyStream()
        uses_terminal = PlainReporter(stream=terminal.stream).uses_terminal
        terminal.finish()

        assert uses_terminal
        assert not PlainReporter(stream=io.StringIO()).uses_terminal

    def test_terminal_that_is_gone_is_an_error_of_a_batch_but_not_of_the_end(self) -> None:
        """So that the run goes on without it."""
        master, slave = pty.openpty()
        now = START
        view = RunView()
        view.apply(completed(1))
        with open(slave, "w") as stream:
            reporter = PlainReporter(stream=stream, clock=lambda: now)
            reporter.open(INFO)
            os.close(master)
            now += 10
            with pytest.raises(OSError, match="Input/output error"):
                reporter.handle([], view)
            reporter.release_terminal()
            reporter.close(RunResult("run", "completed", view.counts, {}, 1.0))


def test_waits_are_told_rightly_though_the_clock_was_set_back() -> None:
    """The time goes on from the last event: nothing is due a day later for a clock that stands a day before that."""
    script = finding(2)
    script.start(1)
    script.fail_for_now(1, 12.0)
    session = Session()
    session.now -= 86_400.0

    [line] = session.tell(script.events)
    assert "1 retrying (next in 12 s)" in line
    assert session.tell([], 4.0) == []
    script.wait(4.0)
    script.start(2)
    assert session.tell(script.events[-1:]) == []
    [line] = session.tell([], 3.0)
    assert "1 retrying (next in 5 s)" in line


def test_without_a_journal_the_first_failure_of_a_kind_gets_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 20 kinds, here five, each once, and bounded: nothing else has it. A journal has all of them, as has the run that is watched."""
    monkeypatch.setattr("aqueue_reporters.plain._MAX_TRACEBACKS", 5)
    long = "\n".join(f'  File "/home/me/job.py", line {number}, in f' for number in range(1_000))
    script = Script()
    for number in range(14):
        item = script.enqueue()
        script.start(item)
        error = f"Error{number % 7}"
        script.fail(item, ErrorInfo(error, "no\x1b", f"Traceback (most recent call last):\n{long}\n{error}: no\x1b"))
    first, *_ = told = Session().tell(script.events)
    shown = [line.strip() for line in told if line.startswith("  Error")]
    assert shown == [f"Error{number}: no\\x1b" for number in range(5)]
    assert first.startswith("failed: item 1 ")
    assert told[1:4] == [
        "  …",
        '    File "/home/me/job.py", line 941, in f',
        '    File "/home/me/job.py", line 942, in f',
    ]
    for info in (msgspec.structs.replace(INFO, journal="run.db"), msgspec.structs.replace(INFO, watched=True)):
        assert all(line.startswith("failed: ") for line in Session(info=info).tell(script.events))


def test_the_summary_stands_for_tracebacks_only_if_each_kind_had_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not if failures were skipped while it was behind, or are of too many kinds; each run is looked at by itself."""
    reporter = PlainReporter()
    script = Script()
    for phase in ("process", "after_children"):
        item = script.enqueue("m:Folder", hook=True)
        script.start(item, "m:Folder")
        if phase == "after_children":
            script.complete(item)
            script.start(item, "m:Folder", phase="after_children")
        script.fail(item, ErrorInfo("OSError", "no", "Traceback …"), "m:Folder", phase=phase)
    events = script.finish("failed")

    def told(given: Sequence[Event], journal: str = "") -> tuple[int, bool]:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        reporter.open(msgspec.structs.replace(INFO, journal=journal))
        view, folded = RunView(), FoldedResult()
        view.apply(events)
        folded.apply(events)
        if given:
            reporter.handle(given, view)
        reporter.close(folded.result(view))
        return stream.getvalue().count("  Traceback …"), reporter.has_summary

    assert [told(events), told(events), told(events[:4]), told((), "run.db")] == [
        (2, True),
        (2, True),
        (1, False),
        (0, True),
    ]
    assert not told(with_failures(25)[:1])[1]


def test_what_failed_while_it_was_behind_is_told_as_far_as_the_view_has_it() -> None:
    """Failures among the events that it skips are shown all the same; the order stays."""
    session = Session()
    events = with_failures(25)
    first, last = 31, 73
    session.tell(events[:first])
    session.view.apply(events[first:last])
    told = session.tell(events[last:])
    assert [line.split()[2] for line in told if line.startswith("failed: ")] == [str(item) for item in range(11, 26)]
    assert session.tell(()) == []


def test_worker_processes_that_came_while_it_was_behind_are_counted() -> None:
    """What it says after that is right again, though it did not get those events."""
    script = Script(cluster="tcp://scheduler:8786")
    script.join(1)
    before = len(script.events)
    script.join(4, host="missed")
    after = len(script.events)
    script.join(7)
    session = Session()
    session.tell(script.events[:before])
    session.view.apply(script.events[before:after])
    assert session.tell(()) == []
    assert session.tell(script.events[after:]) == ["joined: node:4711, 3 workers (9 in 3 processes)"]
