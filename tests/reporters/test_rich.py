"""The rich reporter: what the panels and the summary say, that they fit, and when they are drawn.

Its parts are `aqueue_reporters._panels`, `aqueue_reporters._summary`, `aqueue_reporters._pen` and
`aqueue_reporters._drawing_pen`.
"""

import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from aqueue.events import (
    Counts,
    ErrorInfo,
    Event,
    GroupLimitKnown,
    GroupPaused,
    ItemDescribed,
    ItemFailed,
    ItemRetryScheduled,
    ItemSkipped,
    ProcessLeft,
    RunPaused,
    RunStopping,
)
from aqueue.figures import clock, local_minute, per_second
from aqueue.reporting import RunInfo
from aqueue.result import RunResult
from aqueue.testing import replay
from aqueue.testing._replay import result_of as replayed_result
from aqueue.testing._scripted_runs import Script, on_a_cluster, saying, with_failures, with_types, with_workers
from aqueue.text import short_names
from aqueue.view import RunView
from aqueue_reporters._drawing_pen import DrawingPen
from aqueue_reporters._panels import Panels
from aqueue_reporters._summary import summary_lines
from aqueue_reporters.rich import RichReporter
from tests.reporters.emulator import OWN_SEQUENCES, Emulator

FOLDER, FILE = "mirror:Folder", "mirror:File"
OSERROR = ErrorInfo("OSError", "no")
TRACEBACK = "Traceback (most recent call last):"
RUN = RunInfo("3b1f", 3, "queue", 1_700_000_000.0)
STYLE = re.compile(r"\x1b\[[0-9;]*m")
ACTED_ON = {"Cc", "Cf", "Cs", "Zl", "Zp"}
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show the same on every machine."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def terminal() -> Iterator[Emulator]:
    """Return a terminal of 80 by 30 cells."""
    with Emulator(80, 30) as emulator:
        yield emulator


def in_the_middle() -> Script:
    """Return a run of 8 s in which 2 of 3 workers are busy, 4 files are done, 1 has failed, and 3 items wait."""
    script = Script(num_workers=3)
    root = script.enqueue(FOLDER)
    script.start(root, FOLDER)
    script.add(ItemDescribed, item=root, worker=1, text="lib/")
    files = [script.enqueue(FILE, parent=root, track_overall=True) for _ in range(8)]
    script.complete(root)
    for file in files[:4]:
        script.start(file, FILE)
        script.wait(1)
        script.complete(file)
    script.start(files[4], FILE)
    script.fail(files[4], ErrorInfo("httpx:ReadTimeout", "no answer within 10 s"), FILE)
    script.start(files[5], FILE, worker=1)
    script.add(ItemDescribed, item=files[5], worker=1, text="lib/ast.py  12 of 64 kB")
    script.start(root, FOLDER, worker=3, phase="after_children")
    script.enqueue(FOLDER)
    script.wait(4)
    return script


def view_of(events: Sequence[Event]) -> RunView:
    """Return the view after these events."""
    view = RunView()
    view.apply(events)
    return view


def plain_pen(encoding: str = "utf-8") -> DrawingPen:
    """Return a pen that writes no styles."""
    return DrawingPen(styles=False, colors=False, encoding=encoding)


def drawn(
    script: Script, columns: int, rows: int = 40, after_s: float = 4.0, pen: DrawingPen | None = None
) -> list[str]:
    """Return what the panels show `after_s` after the last event, without styles and trailing blanks."""
    panels = Panels(pen or plain_pen())
    lines = panels.lines(view_of(script.events), script.events[-1].at + after_s, columns, rows)
    return [line.rstrip() for line in lines]


def test_panels_at_80_columns() -> None:
    """The three panels as a person sees them."""
    assert (
        """
╭─ Worker Status ─────────────────────────────────────────────── 2 of 3 busy ─╮
│ 1 ⠙ File    lib/ast.py  12 of 64 kB                                    0:04 │
│ 3 ⠙ Folder  after children                                             0:04 │
│     1 idle                                                                  │
╰─────────────────────────────────────────────────────────────────────────────╯
╭─ Queue Stats ─────────────────────────────────────────────────────── queue ─╮
│               waiting  of its peak      completed  failed  retrying   now/s │
│ Total               3  ━━━━━╸─────────          5       1         0     0.6 │
│ Folder              1  ━━━━━━━━━━━━━━━          1       0         0     0.1 │
│ File                2  ━━━╸───────────          4       1         0     0.5 │
╰─ ✗ item 6 File: ReadTimeout: no answer within 10 s ─────────────────────────╯
╭─ Overall Progress ─────────────────────────────────────────────────── File ─╮
│ ━━━━━━━━━━━━━━━━━━━━━━━━━━━×××××××╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  4 of 8 found so far │
│ 0.5/s completed, 1.0/s found               elapsed 0:08 · at least 7 s left │
╰─────────────────────────────────────────────────────────────────────────────╯
""".splitlines()
        == drawn(in_the_middle(), 80)
    )


def test_panels_of_a_run_in_which_items_were_skipped_and_cancelled() -> None:
    """There is a column for those that were skipped, where there is room; the latest failure is of an item that is failed."""
    script = in_the_middle()
    script.add(ItemSkipped, item=6, type=FILE, had_failed=True)
    script.cancel(8, FILE)
    assert (
        """
╭─ Queue Stats ─────────────────────────────────────────────────────── queue ─╮
│               waiting  of its peak       completed  failed  skipped   now/s │
│ Total               2  ━━━━────────────          5       1        1     0.3 │
│ Folder              1  ━━━━━━━━━━━━━━━━          1       0        0     0.0 │
│ File                1  ━━──────────────          4       1        1     0.3 │
╰─ ✗ item 8 File: CancelledByUser: cancelled by anna@host via aqueue ─────────╯
╭─ Overall Progress ─────────────────────────────────────────────────── File ─╮
│ ━━━━━━━━━━━━━━━━━━━━━━━━×××××──────────  4 of 8 completed, 1 skipped · 62 % │
│ 0.3/s completed                               elapsed 0:12 · about 7 s left │
╰─────────────────────────────────────────────────────────────────────────────╯
""".splitlines()[1:]
        == drawn(script, 80)[6:]
    )
    assert "failed  skipped  retrying" in drawn(script, 100)[7]
    assert "skipped" not in "".join(drawn(script, 40))
    assert "elapsed 0:12 · 5 of 10 completed · 1 failed · 1 skipped" in drawn(script, 80, 12)[-1]
    script.add(ItemSkipped, item=8, type=FILE, had_failed=True)
    assert drawn(script, 80)[11] == f"╰{'─' * 77}╯"


CLUSTER = "tcp://scheduler:8786"


def on_cluster(processes: int = 3, workers: int = 2, host: str = "node-{}.example.org") -> Script:
    """Return a run on a cluster in which each worker but the last is busy, the first one with a hook."""
    script = Script(workers, cluster=CLUSTER)
    for number in range(processes):
        script.join(1 + number * workers, workers, host=host.format(number), pid=4_000 + number)
    for worker in range(1, processes * workers):
        item = script.enqueue(FILE, track_overall=True)
        script.start(item, FILE, worker=worker)
        script.add(ItemDescribed, item=item, worker=worker, text=f"lib/{item}.py")
        if worker == 1:
            script.complete(item)
            script.start(item, FILE, phase="after_children")
    return script


def worker_lines(lines: Sequence[str]) -> list[str]:
    """Return the first of the panels, without its frame."""
    start = next(number for number, line in enumerate(lines) if "Worker Status" in line)
    end = next(number for number, line in enumerate(lines) if line.startswith("╰"))
    return [line.partition("│ ╭")[0].partition("│ │")[0].strip("│ ").rstrip() for line in lines[start:end]]


def test_workers_of_a_cluster_are_shown_with_their_process() -> None:
    """Its host, without the domain, and its number there; of a hook that it runs here."""
    assert (
        """
╭─ Worker Status ───────────────────────────────── 5 of 6 busy · 3 processes ─╮
│ here            ⠙ File  after children                                 0:04 │
│ node-0:4000     ⠙ File  lib/2.py                                       0:04 │
│ node-1:4001     ⠙ File  lib/3.py                                       0:04 │
│ node-1:4001     ⠙ File  lib/4.py                                       0:04 │
│ node-2:4002     ⠙ File  lib/5.py                                       0:04 │
│                   1 idle                                                    │
╰─────────────────────────────────────────────────────────────────────────────╯
""".splitlines()
        == drawn(on_cluster(), 80)[:9]
    )


@pytest.mark.parametrize(
    ("host", "columns", "expected"),
    [
        ("node-{}.example.org", 40, "…de-1:4001"),
        ("node-{}.example.org", 200, "node-1:4001"),
        ("10.0.0.{}", 80, "10.0.0.1:4001"),  # an address has no domain
        ("gpu-partition-number-{}.example.org", 80, "…-number-1:4001"),
        ("alone.example.org", 80, "alone:4001"),
        ("alone.example.org", 40, "alone:4001"),
        ("all-on-this-one.example.org", 80, "…-this-one:4001"),
        ("漢字漢字漢字漢字漢字漢字{}", 80, "…漢字漢字1:4001"),
        ("", 80, ":4001"),
    ],
)
def test_processes_are_named_by_their_host_and_number(host: str, columns: int, expected: str) -> None:
    """By the end of a long host's name, which is where the names of machines differ."""
    lines = worker_lines(drawn(on_cluster(host=host), columns))
    assert f"{expected} ⠙ File" in re.sub(" +", " ", lines[3]), lines


def test_more_workers_of_a_cluster_than_rows() -> None:
    """The longest-running items are shown with where they run, and how many there are besides."""
    lines = drawn(on_cluster(20, 10), 80, 24)
    shown = [line.split()[1] for line in lines if "lib/" in line]
    assert shown == sorted(shown)
    assert "199 of 200 busy · 20 processes" in lines[1]
    assert [line.strip("│ ") for line in lines if "more" in line or "1 idle" in line] == [
        f"… {199 - 1 - len(shown)} more",
        "1 idle",
    ]


@pytest.mark.parametrize(
    ("stopping", "expected"), [(False, "waiting for worker processes"), (True, "no worker processes")]
)
def test_no_process_is_said(stopping: bool, expected: str) -> None:
    """A run whose workers are not there yet, or not any more, is not one without workers."""
    script = Script(cluster=CLUSTER)
    if stopping:
        script.add(RunStopping, reason="Ctrl-C")
    panel = worker_lines(drawn(script, 80))
    assert panel[0].endswith("0 processes ─╮") and panel[1:] == [expected]
    assert drawn(script, 40, 6)[0] == expected


def test_what_outlasts_its_process_stays() -> None:
    """A hook of a worker whose process has left, and an item of which nobody has said yet that it was interrupted."""
    script = on_cluster(2, 2)
    script.add(ProcessLeft, first_worker=1, reason="lost")
    panel = worker_lines(drawn(script, 80))
    assert panel[0].endswith("3 of 3 busy · 1 process ─╮")
    assert [line.split()[0] for line in panel[1:]] == ["here", "–", "node-1:4001", "1"]


def waiting(count: int, due_in_s: float) -> Script:
    """Return the run of `in_the_middle` with `count` more items, which wait for a retry."""
    script = in_the_middle()
    for _ in range(count):
        item = script.enqueue(FILE, track_overall=True)
        script.start(item, FILE, worker=2)
        script.fail_for_now(item, due_in_s, worker=2)
    return script


@pytest.mark.parametrize(
    ("count", "due_in_s", "columns", "rows", "expected"),
    [
        (13, 16, 80, 40, "╰─ 13 retrying, the next in 12 s · ✗ item 6 File: ReadTimeout: no answer wi… ─╯"),
        (1, 16, 80, 40, "╰─ 1 retrying, in 12 s · ✗ item 6 File: ReadTimeout: no answer within 10 s ───╯"),
        (3, 16, 40, 40, "╰─ 3 retrying, the next in 12 s ──────╯"),
        (1, 16, 40, 40, "╰─ 1 retrying, in 12 s ───────────────╯"),
        (1_234, 7_204, 40, 40, "╰─ 1,234 retrying, the next in 2 h ───╯"),
        (3, 604, 200, 40, "╰─ 3 retrying, the next in 10 min · ✗ item 6"),
        (3, 1, 80, 40, "╰─ 3 retrying, the next now · ✗ item 6"),
    ],
)
def test_what_waits_for_a_retry_is_told(count: int, due_in_s: float, columns: int, rows: int, expected: str) -> None:
    """In the lower edge of the queue's frame: how many, and when the next is due."""
    lines = drawn(waiting(count, due_in_s), columns, rows)
    assert any(expected in line for line in lines), lines


def test_what_waits_for_a_retry_moves_nothing() -> None:
    """The panels have the same rows whether something waits or not, and other lines say nothing of it."""
    script = waiting(1, 16)
    before = drawn(script, 80)
    (item,) = (event.item for event in script.events if isinstance(event, ItemRetryScheduled))
    script.start(item, FILE, worker=2, attempt=2)
    script.complete(item, worker=2, attempt=2)
    after = drawn(script, 80)
    assert len(before) == len(after)
    assert [re.findall(r"\d retrying|(\d) +\d\.\d │", "".join(lines)) for lines in (before, after)] == [
        ["1", "0", "1", ""],
        ["0", "0", "0"],
    ]


def test_a_hook_that_waits_is_left_to_do() -> None:
    """All items have completed, but the run has not come to its end."""
    script = Script()
    item = script.enqueue(FILE, track_overall=True)
    script.start(item, FILE)
    script.complete(item)
    script.start(item, FILE, phase="after_children")
    script.fail_for_now(item, 60, phase="after_children")
    lines = "\n".join(drawn(script, 80))
    assert "1 retrying, in 56 s" in lines
    assert "nothing left" not in lines


def test_a_type_that_waits_for_a_retry_is_shown_before_those_that_are_done() -> None:
    """Where there is no room for all types, it counts as active."""
    script = Script()
    for number in range(30):
        for _ in range(2):
            item = script.enqueue(f"m:Done{number}")
            script.start(item, f"m:Done{number}")
            script.complete(item)
    item = script.enqueue("m:Waits")
    script.start(item, "m:Waits")
    script.fail_for_now(item, 60)
    assert any(line.startswith("│ Waits ") for line in drawn(script, 80, rows=24))


def test_what_waits_is_not_promised_a_retry_when_the_run_stops() -> None:
    """No more items are taken then."""
    script = waiting(3, 16)
    script.add(RunStopping, reason="Ctrl-C")
    assert any(line.startswith("╰─ 3 retrying · ✗ item 6") for line in drawn(script, 80))


def test_widths_and_rows_are_kept() -> None:
    """No line is wider than the terminal less one, none too many, and frames close in one column."""
    for events in (
        in_the_middle().events,
        waiting(1_000, 9).events,
        with_workers(200)[:450],
        on_cluster().events,
        on_cluster(20, 10, host="漢字漢字漢字{}").events,
        on_a_cluster(3, 2)[:-2],
        Script(cluster=CLUSTER).events,
        with_types([f"m:T{n}" for n in range(30)]),
    ):
        view = view_of(events)
        for state in ("running", "stopping"):
            if state == "stopping":
                view.apply([RunStopping(view.seq + 1, view.at, "Ctrl-C")])
            for encoding in ("utf-8", "ascii"):
                panels = Panels(plain_pen(encoding))
                for columns in (*range(1, 60), 79, 80, 81, 100, 110, 111, 112, 129, 130, 131, 132, 160, 200, 400):
                    for rows in (1, 2, 5, 12, 13, 14, 15, 18, 24, 50):
                        lines = panels.lines(view, view.at, columns, rows)
                        assert len(lines) <= max(rows - 1, 1)
                        assert max(map(cell_len, lines), default=0) <= max(columns - 1, 1)
                        edges = {cell_len(line) for line in lines if line.endswith(("│", "╮", "╯"))}
                        assert len(edges) <= (1 if columns < 131 else 2)


def test_panels_at_40_columns() -> None:
    """What matters fits on a narrow terminal: items, counts, progress."""
    text = "\n".join(drawn(in_the_middle(), 40))
    for expected in (
        "1 ⠙ File",
        "1 idle",
        "after children",
        "Total          3          5       1",
        "4 of 8 found so far",
    ):
        assert expected in text, text


def test_panels_at_200_columns() -> None:
    """On a wide terminal the panels stand beside each other."""
    lines = drawn(in_the_middle(), 200)
    assert "Worker Status" in lines[1]
    assert "Queue Stats" in lines[1]
    assert "lib/ast.py" in lines[2]


def test_more_workers_than_rows() -> None:
    """The longest-running items are shown in the order of their workers, and how many there are besides."""
    script = Script(num_workers=200)
    items = [script.enqueue() for _ in range(150)]
    for worker, item in zip(range(200, 50, -1), items, strict=True):
        script.start(item, worker=worker)
    lines = drawn(script, 80, 24)
    shown = [int(line.split()[1]) for line in lines if re.match(r"│ +\d+ ⠙", line)]
    assert shown
    assert shown == list(range(201 - len(shown), 201))
    assert [line.strip("│ ") for line in lines if "more" in line or " idle " in line] == [
        f"… {150 - len(shown)} more",
        "50 idle",
    ]


def test_busy_workers_keep_their_order_where_all_of_them_fit() -> None:
    """When a run stops, and the line that says so leaves no room for the idle ones, the others do not change places."""
    script = Script(num_workers=200)
    for worker in (5, 3, 1):
        script.start(script.enqueue(), worker=worker)
    lines = drawn(script, 80, 24)
    assert [int(line.split()[1]) for line in lines if re.match(r"│ +\d+ ⠙", line)] == [1, 3, 5]
    assert "│       197 idle " in "\n".join(lines)


def test_more_types_than_rows() -> None:
    """The most active types are shown; the others are one line, with their sums."""
    script = Script(num_workers=1)
    for number in range(30):
        for _ in range(30 - number if number % 2 else number + 1):
            script.enqueue(f"module:Type{number}")
    text = "\n".join(drawn(script, 80, 24))
    shown = [int(number) for number in re.findall(r"│ Type(\d+)", text)]
    match = re.search(r"\+(\d+) more +(\d+)", text)
    assert match
    assert int(match[1]) == 30 - len(shown)
    enqueued = {number: 30 - number if number % 2 else number + 1 for number in range(30)}
    assert int(match[2]) == sum(count for number, count in enqueued.items() if number not in shown)
    assert min(enqueued[number] for number in shown) >= max(n for k, n in enqueued.items() if k not in shown)


def test_types_with_failures_are_shown_first() -> None:
    """Of those that are active: what fails is what a person looks for."""
    script = Script(num_workers=1)
    for number in range(30):
        for _ in range(3):
            script.enqueue(f"module:Type{number}")
    item = script.enqueue("module:Type29")
    script.start(item, "module:Type29")
    script.fail(item, OSERROR, "module:Type29")
    assert any(line.startswith("│ Type29 ") for line in drawn(script, 80, 24))


def test_columns_stay_where_they_are() -> None:
    """Whichever types are shown, also if those that are left out have longer names, the table ends at the frame."""
    script = Script(num_workers=1)
    for number in range(30):
        for _ in range(number + 1):
            script.enqueue("m:" + "Long" * (5 - number // 6) + str(number))
    for columns in (80, 120, 200):
        panels = Panels(plain_pen())
        heads = set()
        for count in (4, 60, 465):
            lines = panels.lines(view_of(script.events[:count]), 0.0, columns, 24)
            heads |= {
                line[line.index("waiting") :].rstrip() for line in lines if "waiting" in line and "failed" in line
            }
        assert heads and all(head.endswith(" now/s │") for head in heads), heads


@pytest.mark.parametrize("stopping", [False, True])
def test_no_panel_is_empty(stopping: bool) -> None:
    """Where one could have no line for workers or types, there are lines without panels."""
    script = waiting(3, 16)
    if stopping:
        script.add(RunStopping, reason="Ctrl-C")
    for rows in range(8, 40):
        for columns in (40, 80, 120, 200):
            lines = drawn(script, columns, rows)
            assert sum("⠙" in line for line in lines) >= 1, lines
            assert not any(one[:1] == "╭" and two[:1] == "╰" for one, two in pairwise(lines)), lines


def test_little_room() -> None:
    """On a terminal of few rows the totals stay."""
    assert drawn(in_the_middle(), 60, 10)[-1] == "  elapsed 0:08 · 5 of 10 completed · 1 failed · 0.6/s"
    assert "5 of 10" in drawn(in_the_middle(), 40, 2)[-1]
    assert "lib/ast.py" in drawn(in_the_middle(), 40, 5)[0]


def test_nothing_tracked() -> None:
    """Without a type in the overall progress, the run's totals are one line."""
    script = Script()
    script.enqueue()
    last = drawn(script, 80)[-1]
    assert last == "  elapsed 0:04 · 0 of 1 completed · 0.0/s"


def test_rates_are_not_told_at_once() -> None:
    """Of half a second they would say anything; nor is the time left told in the first three while more is found."""
    script = in_the_middle()
    start = script.events[0].at
    for event in script.events:
        msgspec.structs.force_setattr(event, "at", start + (event.at - start) / 100)
    early, later = drawn(script, 80, after_s=0.5), drawn(script, 80, after_s=2.0)
    assert [line[-4:] for line in early if line.startswith(("│ Total", "│ File "))] == [" – │", " – │"]
    assert re.fullmatch("│ +elapsed 0:00 │", early[-2])
    assert re.fullmatch(r"│ \d\.\d/s completed, \d\.\d/s found: still growing +elapsed 0:02 │", later[-2])


def rates_while(script: Script, items: Sequence[int]) -> list[str]:
    """Complete an item per second, and return what the panel says of the rates and of the time left after each."""
    panels = Panels(plain_pen())
    view, told = RunView(), []
    for item in items:
        script.start(item, FILE)
        script.complete(item)
        script.wait(0.98)
        view.apply(script.events[view.seq :])
        told.append(panels.lines(view, view.at + 0.98, 80, 40)[-2].strip("│ "))
    return told


def test_finding_that_is_over_is_not_held_against_the_speed() -> None:
    """A run whose first item finds everything is said to grow, and its time left to be the least, for some seconds."""
    script = Script(num_workers=2)
    parent = script.enqueue(FOLDER)
    script.start(parent, FOLDER, worker=2)
    items = [script.enqueue(FILE, parent, track_overall=True) for _ in range(100)]
    told = rates_while(script, items[:12])
    assert all(re.search(r" found(: still growing)? .* at least (9\d s|2 min) left$", line) for line in told[3:6]), told
    told = rates_while(script, items[12:45])
    assert re.fullmatch(r"1\.0/s completed +elapsed 0:\d\d · about 5\d s left", told[-1]), told[-1]


def test_initial_items_have_a_time_remaining_from_the_beginning() -> None:
    """They were given, and nothing is found: no growth, and an estimate after the first second."""
    script = Script(num_workers=1)
    items = [script.enqueue(FILE, track_overall=True) for _ in range(100)]
    told = rates_while(script, items[:6])
    assert all(re.fullmatch(r"\d\.\d/s completed +elapsed 0:0\d · about (\d\d s|2 min) left", line) for line in told), (
        told
    )


def test_what_is_found_and_done_is_not_called_growing() -> None:
    """While others run that may find more, all of the overall progress may have ended."""
    script = Script()
    script.start(script.enqueue(FOLDER), FOLDER, worker=2)
    for _ in range(3):
        item = script.enqueue(FILE, track_overall=True)
        script.start(item, FILE)
        script.complete(item)
    assert drawn(script, 80)[-2].endswith(" · 0 outstanding │")


def test_time_remaining_of_slow_items_is_told_by_all_that_were_done() -> None:
    """The last ten seconds may have seen none of them end."""
    script = Script()
    items = [script.enqueue(FILE, track_overall=True) for _ in range(10)]
    for item in items[:4]:
        script.start(item, FILE)
        script.wait(59.98)
        script.complete(item)
    assert re.search(r"0\.0/s completed +elapsed 4:59 · about 8 min left", "\n".join(drawn(script, 80, after_s=59)))


@pytest.mark.parametrize(
    ("columns", "rows", "expected"),
    [
        (80, 24, "╰─ ✗ item 6 File: ReadTimeout: no answer within 10 s ─────────────────────────╯"),
        (40, 24, "╰─ ✗ item 6 File: ReadTimeout: no a… ─╯"),
    ],
)
def test_the_latest_failure_is_told(columns: int, rows: int, expected: str) -> None:
    """In the frame of the queue, cut to one line."""
    assert expected in drawn(in_the_middle(), columns, rows)


def test_the_first_failure_moves_nothing() -> None:
    """The panels have the same rows before and after it."""
    script = in_the_middle()
    failure = next(index for index, event in enumerate(script.events) if isinstance(event, ItemFailed))
    panels = Panels(plain_pen())
    view = RunView()
    heights = []
    for events in (script.events[: failure - 1], script.events[failure - 1 : failure + 1]):
        view.apply(events)
        heights.append(len(panels.lines(view, view.at, 80, 40)))
    assert heights[0] == heights[1]


def test_long_runs_keep_the_frame() -> None:
    """The time of an item that has run for days is wider than that of others."""
    for seconds in (3_599, 3_600, 86_400, 86_400 * 12):
        lines = drawn(in_the_middle(), 80, after_s=seconds)
        assert {cell_len(line) for line in lines if line} == {79}, lines


def test_time_remaining_is_not_less_than_the_next_wait() -> None:
    """What waits for a retry will not be done before it is due, however fast the others were."""
    script = Script()
    for item in [script.enqueue(FILE, track_overall=True) for _ in range(100)]:
        script.start(item, FILE)
        script.complete(item)
    item = script.enqueue(FILE, track_overall=True)
    script.start(item, FILE)
    script.fail_for_now(item, 65.0)
    assert "at least 57 s left" in "\n".join(drawn(script, 80, after_s=8))


def limited(num_workers: int = 20, at_once: int = 3) -> Script:
    """Return a run of which a limit lets only some workers be busy."""
    script = Script(num_workers=num_workers)
    items = [script.enqueue(FILE, group="example.org") for _ in range(100)]
    for number in range(at_once):
        script.start(items[number], FILE, worker=number + 1, group="example.org")
    script.add(GroupLimitKnown, group="example.org", concurrent=at_once)
    return script


def test_idle_workers_are_one_line_and_the_frame_says_why() -> None:
    """And the room that they don't take goes to types."""
    script = limited()
    for number in range(12):
        script.enqueue(f"m:Type{number}")
    lines = drawn(script, 100, 30)
    assert [line.split() for line in worker_lines(lines)[1:]] == [
        *[[str(worker), "⠙", "File", "0:04"] for worker in (1, 2, 3)],
        ["17", "idle"],
    ]
    assert lines[6].startswith("╰─ limited by example.org: 3 at once, 97 waiting")
    assert sum("│ Type" in line for line in lines) == 12


def test_rows_of_workers_grow_at_once_and_shrink_after_a_while() -> None:
    """So that the panel doesn't jump with each item; a worker keeps its row, and others take those that are free."""
    script = limited(num_workers=20, at_once=4)
    panels, view = Panels(plain_pen()), RunView()

    def rows(after_s: float = 0.0) -> list[str]:
        view.apply(script.events[view.seq :])
        lines = worker_lines(panels.lines(view, script.events[-1].at + after_s, 80, 40))[1:]
        return [re.sub(r" [⠀-⣿] .*", "", line) for line in lines]

    assert rows() == ["1", "2", "3", "4", "16 idle"]
    for item, worker in ((1, 1), (3, 3)):
        script.complete(item, worker=worker)
    assert rows() == ["", "2", "", "4", "18 idle"]
    script.start(5, FILE, worker=9, group="example.org")
    assert rows() == ["9", "2", "", "4", "17 idle"]
    script.complete(5, worker=9)
    assert rows(4.0) == ["", "2", "", "4", "18 idle"]
    assert rows(6.0) == ["", "2", "", "4", "18 idle"]  # in the five seconds before, one more was busy
    assert rows(12.0) == ["4", "2", "18 idle"]
    for item, worker in ((6, 7), (7, 8)):
        script.start(item, FILE, worker=worker, group="example.org")
    assert rows(12.0) == ["4", "2", "8", "7", "16 idle"]


@pytest.mark.parametrize(("columns", "rows"), [(60, 24), (100, 30), (160, 40)])
@pytest.mark.parametrize("num_workers", [3, 200])
def test_who_has_paused_the_run_is_told(columns: int, rows: int, num_workers: int) -> None:
    """In the frame, with the local time; and next to the idle workers how to let them start again, if that fits."""
    script = limited(num_workers)
    for number in range(3):
        script.complete(number + 1, worker=number + 1)
    script.add(RunPaused, by="anna\x1b[2J@laptop via aqueue")
    at = local_minute(script.events[-1].at, script.events[-1].at)
    for journal, command in (
        ("/no where/run.db", ": aqueue unpause '/no where/run.db'"),
        ("", ""),
        ("/" + "x" * 150, ": aqueue unpause"),
    ):
        panels = Panels(plain_pen(), journal=journal)
        lines = panels.lines(view_of(script.events), script.events[-1].at, columns, rows)
        panel = worker_lines(lines)
        assert f" paused {at} by anna\\x1b[2J@laptop ─╮" in panel[0]
        assert panel[-1] == f"{num_workers} idle{command}"
        assert any("╰─ paused by anna\\x1b[2J@laptop: 97 waiting ─" in line for line in lines)


def test_no_time_left_is_claimed_of_a_paused_run() -> None:
    """It takes as long as the person lets it."""
    script = in_the_middle()
    assert " left │" in drawn(script, 80)[-2]
    script.add(RunPaused, by="anna@laptop via aqueue")
    assert " left │" not in drawn(script, 80)[-2]


def test_the_bar_is_dashed_while_the_total_grows() -> None:
    """In ASCII, too; for a flat list it is not, and has a share."""
    growing, flat = in_the_middle(), Script()
    for item in [flat.enqueue(FILE, track_overall=True) for _ in range(8)][:4]:
        flat.start(item, FILE)
        flat.wait(1)
        flat.complete(item)
    for pen, dashed, rest in ((plain_pen(), "╌╌", "──"), (plain_pen("ascii"), "--", "..")):
        bars = [drawn(script, 80, pen=pen)[-3].strip("│| ") for script in (growing, flat)]
        assert dashed in bars[0] and rest not in bars[0] and bars[0].endswith("  4 of 8 found so far")
        assert (
            rest in bars[1]
            and dashed not in bars[1]
            and bars[1].endswith(f"  4 of 8 completed {pen.characters.dot} 50 %")
        )


def test_attempts_are_told() -> None:
    """A further try says which one it is."""
    script = Script()
    script.start(script.enqueue(), attempt=3)
    assert "try 3" in "\n".join(drawn(script, 80))


@pytest.mark.parametrize(
    ("cancelling", "reason", "expected"),
    [
        (False, "Ctrl-C", "stopping: Ctrl-C; waiting for 2 running items; Ctrl-C again cancels them"),
        (False, "an item failed", "stopping: an item failed; waiting for 2 running items; Ctrl-C cancels them"),
        (True, "SIGTERM", "stopping: SIGTERM; cancelling 2 running items; a third Ctrl-C ends the process at once"),
    ],
)
def test_stopping_is_said(cancelling: bool, reason: str, expected: str) -> None:
    """Why, how many are left, and what the next Ctrl-C does; in full on a narrow terminal and a low one, too."""
    script = in_the_middle()
    script.add(RunStopping, reason=reason, cancelling=cancelling)
    assert drawn(script, 100)[-1].strip() == expected
    for columns, rows in ((40, 24), (40, 8)):
        lines = drawn(script, columns, rows)
        start = next(number for number, line in enumerate(lines) if "stopping" in line)
        assert " ".join(line.strip() for line in lines[start:]) == expected


@pytest.mark.parametrize("cancelling", [False, True])
def test_who_watches_is_not_told_to_press_ctrl_c(cancelling: bool) -> None:
    """There it ends the watching, and would cancel nothing."""
    script = in_the_middle()
    script.add(RunStopping, reason="Ctrl-C", cancelling=cancelling)
    lines = Panels(plain_pen(), watched=True).lines(view_of(script.events), script.events[-1].at, 100, 40)
    doing = "cancelling" if cancelling else "waiting for"
    assert lines[-1].strip() == f"stopping: Ctrl-C; {doing} 2 running items"


def test_a_run_that_goes_on_is_not_said_to_be_interrupted() -> None:
    """Where the display can't be left standing, what stands in its place says that only the watching has ended."""
    script = in_the_middle()
    view = view_of(script.events)
    out = io.StringIO()
    reporter = RichReporter(console=Console(file=out, width=80))
    reporter.open(RUN)
    reporter.handle(script.events, view)
    reporter.close_still(msgspec.structs.replace(result_of(script.finish("interrupted")), stop_reason="paused"), view)
    assert "Watching ended (paused)   5 completed · " in out.getvalue()
    assert "Interrupted" not in out.getvalue()


def test_stopping_without_a_running_item_is_said() -> None:
    """Nothing is waited for that isn't there."""
    script = Script()
    script.enqueue()
    script.add(RunStopping, reason="Ctrl-C")
    assert drawn(script, 80)[-1].strip() == "stopping: Ctrl-C; no item is running"


def progress(found_each_s: int, done_each_s: int, found_at_once: int) -> str:
    """Return the last line of the overall progress after 20 s in which both move at these speeds."""
    script = Script(num_workers=1)
    items = [script.enqueue(FILE, track_overall=True) for _ in range(found_at_once)]
    for _ in range(20):
        items += [script.enqueue(FILE, track_overall=True) for _ in range(found_each_s)]
        for _ in range(done_each_s):
            item = items.pop()
            script.start(item, FILE)
            script.complete(item)
        script.wait(1 - (found_each_s + 2 * done_each_s) * 0.01)
    return drawn(script, 80, after_s=0)[-2].strip("│ ")


def test_only_the_least_time_is_claimed_while_more_is_found_than_done() -> None:
    """That of what is known: a total that grows faster than what is done will not be reached."""
    line = progress(found_each_s=5, done_each_s=3, found_at_once=50)
    assert re.fullmatch(r"3\.\d/s completed, 5\.\d/s found +elapsed 0:19 · at least \d\d s left", line), line


def test_the_time_is_a_least_one_while_the_total_grows() -> None:
    """What is still found adds to it."""
    assert re.search(r"at least 1\d s left$", progress(found_each_s=1, done_each_s=5, found_at_once=150))


def test_the_time_remaining() -> None:
    """When the total stands still, it is what is outstanding at the present speed."""
    line = progress(found_each_s=0, done_each_s=5, found_at_once=200)
    assert re.search(r"about (1[5-9]|2[0-5]) s left$", line), line


def test_no_time_is_claimed_before_anything_is_done() -> None:
    """There is no speed yet."""
    assert progress(found_each_s=0, done_each_s=0, found_at_once=10) == "elapsed 0:00"


def test_all_is_not_said_to_be_done_before_it_is() -> None:
    """Percent are rounded down."""
    script = Script()
    for number, item in enumerate([script.enqueue(FILE, track_overall=True) for _ in range(1000)]):
        if number < 999:
            script.start(item, FILE)
            script.complete(item)
    assert "99 %" in "\n".join(drawn(script, 80))


def test_wide_and_combining_characters_keep_the_frame() -> None:
    """Widths are counted in cells."""
    for text in ("漢字" * 50, "e\u0301\u0302" * 60, "ก็" * 40, "half 漢" * 11, "a" * 53 + "漢"):
        script = Script()
        item = script.enqueue("m:類型の名前" * 4)
        script.start(item, "m:類型の名前" * 4)
        script.add(ItemDescribed, item=item, worker=1, text=text)
        for columns in (40, 41, 80, 81):
            lines = [line for line in drawn(script, columns) if line.endswith(("│", "╮", "╯"))]
            assert {cell_len(line) for line in lines} == {columns - 1}


@given(st.text(st.characters(categories=None)), st.sampled_from(["utf-8", "ascii", "latin-1", "koi8-r"]))
def test_text_from_items_writes_no_escape(text: str, encoding: str) -> None:
    """Whatever an item says, all that a terminal would act on are the reporter's own styles."""
    events = saying(text)
    pen = DrawingPen(styles=True, colors=True, encoding=encoding)
    panels = Panels(pen)
    view = RunView()
    lines = []
    for event in events:
        view.apply([event])
        lines += panels.lines(view, view.at, 80, 30)
    result = msgspec.structs.replace(replayed_result(events, view), journal=text)
    for line in [*lines, *summary_lines(result, pen, "ended")]:
        bare = STYLE.sub("", line)
        assert not [c for c in bare if unicodedata.category(c) in ACTED_ON and c not in "\u200c\u200d"], bare
        bare.encode(encoding)


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x1b]52;c;aGk=\x07\x9b2J\u202e", "[/red][bold]x", "\n\r\n", "\ud800", "x" * 10**6]
)
def test_hostile_text_on_a_terminal(terminal: Emulator, text: str) -> None:
    """Every byte that reaches the terminal is text or one of the reporter's own few sequences."""
    reporter = RichReporter(console=Console(file=terminal.stream), clock=ticking(2.0))
    replay(saying(text), reporter, batch_size=1)
    terminal.until(lambda: terminal.written().endswith(b"\x1b[?25h"))
    bare = OWN_SEQUENCES.sub(b"", terminal.written()).decode()
    assert not [c for c in bare if unicodedata.category(c) in ("Cc", "Cf") and c not in "\r\n\u200c\u200d"]
    if text.startswith("[/red]"):
        assert "[/red][bold]x" in bare


def ticking(step_s: float) -> Callable[[], float]:
    """Return a clock that goes on by so much at each look."""
    now = 1_700_000_000.0

    def look() -> float:
        nonlocal now
        now += step_s
        return now

    return look


class Drive:
    """A reporter on a terminal with a clock that is set by hand."""

    def __init__(self, terminal: Emulator) -> None:
        self.now = 1_700_000_000.0
        self.reporter = RichReporter(console=Console(file=terminal.stream), clock=lambda: self.now)
        self.view = RunView()
        script = in_the_middle()
        for step in range(100):
            script.add(ItemDescribed, item=7, worker=1, text=f"step {step}")
        self.events = script.events
        self.terminal = terminal

    def widest(self) -> int:
        """Return how wide what the screen shows is."""
        return max(map(cell_len, self.terminal.lines()), default=0)

    def handle(self, *, news: bool) -> int:
        """Hand over one event or none, and return how many frames that has drawn: 0 or 1."""
        events = [self.events.pop(0)] if news else []
        self.view.apply(events)
        before = self.reporter._shown_at
        self.reporter.handle(events, self.view)
        return int(self.reporter._shown_at != before)


@pytest.fixture
def drive(terminal: Emulator) -> Iterator[Drive]:
    """Return an open reporter on the terminal."""
    driven = Drive(terminal)
    driven.reporter.open(RUN)
    yield driven
    driven.reporter.release_terminal()


def test_the_first_frame_is_shown_at_once(drive: Drive) -> None:
    """Even before the first event."""
    assert drive.handle(news=False) == 1
    drive.terminal.until(lambda: any("Worker Status" in line for line in drive.terminal.lines()))


def test_at_most_ten_frames_a_second(drive: Drive) -> None:
    """However often something happens; and the last of it is shown."""
    drive.handle(news=False)
    frames = 0
    for _ in range(32):
        drive.now += 1 / 16
        frames += drive.handle(news=True)
    assert 16 <= frames <= 20
    drive.now += 0.01
    assert drive.handle(news=True) == 0
    drive.now += 0.1
    assert drive.handle(news=False) == 1


def test_one_frame_a_second_for_the_clock(drive: Drive) -> None:
    """When nothing happens, only the clock moves."""
    drive.handle(news=True)
    frames = 0
    for _ in range(100):
        drive.now += 0.1
        frames += drive.handle(news=False)
    assert 9 <= frames <= 10


def test_a_clock_that_is_set_back_does_not_stop_the_display(drive: Drive) -> None:
    """Wall clocks are."""
    drive.handle(news=True)
    drive.now -= 3_600
    assert drive.handle(news=True) == 1


def test_the_time_goes_on_though_the_clock_was_set_back(drive: Drive) -> None:
    """Of a run whose events are a day ahead of the clock, the elapsed time goes on from the last event."""
    drive.now = drive.events[0].at - 86_400.0
    for _ in range(20):
        drive.handle(news=True)
    drive.now += 3_600.0
    assert drive.handle(news=False) == 1
    drive.terminal.until(lambda: any(re.search(r"\b1:0\d:\d\d\b", line) for line in drive.terminal.lines()))


def test_what_people_set_is_told_above_the_panels(drive: Drive) -> None:
    """Who it was; what is in force is in the panels."""
    drive.events.insert(1, GroupPaused(2, drive.events[0].at, "example.org", "anna@laptop via aqueue"))
    for _ in range(2):
        drive.now += 1
        drive.handle(news=True)
    drive.terminal.until(lambda: drive.terminal.lines()[:1] == ["group example.org paused by anna@laptop"])


def test_prints_are_shown_at_once(drive: Drive) -> None:
    """What items print and log appears above the panels, once, without waiting for the next frame."""
    drive.handle(news=True)
    drive.now += 0.001
    drive.terminal.stream.write("printed by an item\n")
    assert drive.handle(news=False) == 1
    drive.terminal.until(lambda: drive.terminal.lines()[:1] == ["printed by an item"])


def test_a_resize_is_followed(drive: Drive) -> None:
    """The next frame fits the new width."""
    for event in list(drive.events):
        drive.view.apply([event])
    for columns in (80, 50, 100, 40, 80):
        drive.terminal.resize(columns)
        drive.now += 1
        drive.handle(news=False)
        drive.terminal.until(lambda columns=columns: drive.widest() == columns - 1)  # type: ignore[misc]
        assert sum("Worker Status" in line for line in drive.terminal.transcript()) == 1


def test_the_summary_takes_the_place_of_the_panels(terminal: Emulator) -> None:
    """At the end only it stays, with the cursor shown, and the streams are their own again."""
    replay(
        in_the_middle().finish("failed"),
        RichReporter(console=Console(file=terminal.stream), clock=ticking(1)),
        batch_size=5,
    )
    terminal.until(lambda: any("ReadTimeout" in line for line in terminal.lines()) and terminal.cursor_is_shown)
    text = "\n".join(terminal.transcript())
    assert "Worker Status" not in text
    assert "✗ Failed   1 of 10 items failed · 5 completed · 4 outstanding · " in text
    assert (
        """
           completed      failed   outstanding
  File             4           1             3
  Folder           1                         1

  1 × File: ReadTimeout  no answer within 10 s
      item 6"""
        in text
    )
    assert "write" not in vars(terminal.stream)


def test_release_shows_the_cursor(drive: Drive) -> None:
    """In an emergency, too, and closing afterwards harms nothing."""
    drive.handle(news=True)
    drive.terminal.until(lambda: not drive.terminal.cursor_is_shown)
    drive.reporter.release_terminal()
    drive.terminal.until(lambda: drive.terminal.cursor_is_shown)
    assert "write" not in vars(drive.terminal.stream)


def test_a_lost_terminal_raises_and_restores(drive: Drive) -> None:
    """`handle` raises OSError, so that the reporter is detached; then the streams are put back."""
    drive.handle(news=True)
    drive.terminal.hang_up()
    drive.now += 1
    with pytest.raises(OSError, match="Input/output"):
        drive.handle(news=True)
    drive.reporter.release_terminal()
    assert "write" not in vars(drive.terminal.stream)


def test_failures_are_told_from_the_rest_of_a_bar_without_colours() -> None:
    """By their shape."""
    bars = [DrawingPen(styles=True, colors=colors, encoding="ascii").bar(8, 0.5, 0.25) for colors in (True, False)]
    assert [STYLE.sub("", bar) for bar in bars] == ["######..", "####xx.."]


def test_no_color(terminal: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves bold and dim."""
    monkeypatch.setenv("NO_COLOR", "1")
    replay(with_failures(3), RichReporter(console=Console(file=terminal.stream), clock=ticking(1)), batch_size=3)
    terminal.until(lambda: terminal.cursor_is_shown and any("and 1 more" in line for line in terminal.lines()))
    assert not COLOUR.search(terminal.written().decode())
    assert b"\x1b[1m" in terminal.written()


def test_colours_are_used_where_they_are_welcome(terminal: Emulator) -> None:
    """So that the test above can fail."""
    replay(with_failures(3), RichReporter(console=Console(file=terminal.stream), clock=ticking(1)), batch_size=3)
    terminal.until(lambda: terminal.cursor_is_shown and any("and 1 more" in line for line in terminal.lines()))
    assert COLOUR.search(terminal.written().decode())


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_dumb_terminal_gets_lines(terminal: Emulator, monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    """No escape sequence at all: a line for each failure, and the summary."""
    monkeypatch.setenv("TERM", term)
    replay(with_failures(3), RichReporter(console=Console(file=terminal.stream), clock=ticking(1)))
    terminal.until(lambda: any("and 1 more failure" in line for line in terminal.lines()[5:]))
    assert b"\x1b" not in terminal.written()
    assert terminal.lines()[:3] == [f"failed: item {n + 1} Page: Error{n}: number {n}" for n in range(3)]


def test_a_pipe_gets_lines() -> None:
    """The same where stderr leads to a file or a pipe."""
    stream = io.StringIO()
    replay(with_failures(1), RichReporter(console=Console(file=stream)))
    assert "failed: item 1 Page: Error0: number 0\n" in stream.getvalue()
    assert "✗ Failed   1 of 1 item failed · 0 completed" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_stderr_is_where_it_writes(capsys: pytest.CaptureFixture[str]) -> None:
    """By default, and stdout stays untouched."""
    replay(with_failures(1), RichReporter())
    out, err = capsys.readouterr()
    assert out == ""
    assert "failed: item 1 Page" in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "koi8-r"])
def test_encodings_without_box_characters(encoding: str) -> None:
    """Where box characters can't be encoded, ASCII takes their place; what items say is replaced, not fatal."""
    with Emulator(80, 30) as emulator:
        stream = emulator.another_stream(encoding)
        script = in_the_middle()
        script.add(ItemDescribed, item=7, worker=1, text="漢字 und ä")
        replay(script.finish("failed"), RichReporter(console=Console(file=stream), clock=ticking(1)), batch_size=4)
        emulator.until(lambda: b"4 outstanding - " in emulator.written())
        bare = OWN_SEQUENCES.sub(b"", emulator.written())
        assert b"+- Worker Status" in bare
        assert b"??" in bare
        assert b"x Failed   1 of 10 items failed - 5 completed - 4 outstanding - " in bare
        assert b"  1 x File: ReadTimeout  no answer within 10 s" in bare


def test_a_file_that_encodes_less_than_the_summary_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same where stderr was sent to a file."""
    path = tmp_path_factory.mktemp("out") / "err"
    with path.open("w", encoding="ascii") as stream:
        replay(saying("漢字 ✓"), RichReporter(console=Console(file=stream)))
    assert "failed: item 1 ?? ?" in path.read_text("ascii")


def summary(result: RunResult, ended: str = "ended") -> str:
    """Return the summary as text."""
    return "\n".join(summary_lines(result, plain_pen(), ended, has_journal=bool(result.journal)))


def result_of(events: Sequence[Event], elapsed_s: float = 83.0) -> RunResult:
    """Return the result of a run with these events."""
    view = view_of(events)
    return msgspec.structs.replace(replayed_result(events, view), elapsed_s=elapsed_s)


def test_summary_of_a_completed_run() -> None:
    """Status, how many, the time, the rate: for one type, that is all."""
    assert summary(result_of(with_workers(200), 8.0)) == "ended   200 items in 8.00 s · 25.0/s"


def test_summary_of_an_interrupted_run() -> None:
    """How many are done and how many are outstanding, how many failed, and why it was stopped."""
    script = in_the_middle()
    script.add(RunStopping, reason="Ctrl-C", cancelling=True)
    script.interrupt(7)
    text = summary(result_of(script.finish("interrupted")))
    assert text.startswith("ended (Ctrl-C)   5 completed · 4 outstanding · 1 failed · 1:23\n")


def test_summary_groups_failures() -> None:
    """Those of one type with one kind of error are counted together, the first is told; others are counted."""
    script = Script()
    for number in range(40):
        item = script.enqueue(FILE)
        script.start(item, FILE)
        kind = "httpx:ReadTimeout" if number % 2 else f"mod:Odd{number}"
        script.fail(item, ErrorInfo(kind, f"message {number}"), FILE)
    assert summary(result_of(script.finish("failed"))).splitlines() == [
        "ended   40 of 40 items failed · 0 completed · 1:23",
        "",
        "  20 × File: ReadTimeout  message 1",
        "       e.g. item 2",
        "   1 × File: Odd0  message 0",
        "       item 1",
        "  and 19 more failures",
        "",
        '  To list all failures, and to retry them, pass resume="run.db".',
    ]


def many(failures: int, kinds: int, types: int, completed: int = 0) -> RunResult:
    """Return the result of a run with so many failures, whose tracebacks have 40 lines, of so many kinds and types."""
    frames = "\n".join(f'  File "/home/me/job.py", line {number}, in f\n    g()' for number in range(20))
    script = Script()
    for number in range(failures + completed):
        type = f"shop:Page{number % types}"
        item = script.enqueue(type)
        script.start(item, type)
        if number < completed:
            script.complete(item)
        else:
            error = f"module:Error{number % kinds}"
            text = f"{TRACEBACK}\n{frames}\n{error}: number {number}"
            script.fail(item, ErrorInfo(error, f"number {number}\n" + "more\n" * 30, text), type, attempt=3)
    for _ in range(5):
        script.enqueue("shop:Page0")
    return result_of(script.finish("failed"))


@pytest.mark.parametrize(
    ("failures", "kinds", "types", "lines"),
    [(128, 2, 1, 10), (128, 2, 2, 14), (300, 30, 10, 18), (3_000, 3_000, 300, 18)],
)
@pytest.mark.parametrize("journal", ["", "/home/me/run.db"])
def test_summary_has_at_most_19_lines(failures: int, kinds: int, types: int, lines: int, journal: str) -> None:
    """However many failures there are, and kinds of them, and types: with the line after it, it has 20."""
    result = msgspec.structs.replace(many(failures, kinds, types, completed=100), journal=journal)
    assert len(summary(result).splitlines()) == lines + bool(journal)


def test_summary_of_a_run_that_never_began() -> None:
    """An error before the first item, such as an initial item that isn't one: no figures of nothing."""
    result = RunResult("run", "failed", Counts(), {}, 0.001, ())
    assert summary(result) == "ended   no item was run · 1 ms"


def test_summary_of_a_run_with_many_types_and_kinds() -> None:
    """The largest types and kinds, how many others there are, and how to see all: as a person sees it."""
    result = msgspec.structs.replace(many(300, 30, 10, completed=1_000), journal="/home/me/run.db")
    assert summary(result).splitlines() == [
        "ended   300 of 1,305 items failed · 1,000 completed · 5 outstanding · 1:23",
        "",
        "          completed      failed   outstanding",
        "  Page0         100          30             5",
        "  Page1         100          30",
        "  Page2         100          30",
        "  Page3         100          30",
        "  and 6 more types",
        "",
        "  10 × Page0: Error10  number 1000",
        "       /home/me/job.py:19 in f   g()",
        "       e.g. item 1001, attempt 3",
        "  10 × Page1: Error11  number 1001",
        "       /home/me/job.py:19 in f   g()",
        "       e.g. item 1002, attempt 3",
        "  and 280 more failures",
        "",
        "  See them all:   aqueue failures /home/me/run.db",
        "  Accept them:    aqueue skip /home/me/run.db --state failed",
    ]


def test_summary_of_a_run_that_a_person_has_steered() -> None:
    """What was skipped is counted, in a column of its own; what was cancelled is of a kind like any other."""
    script = Script()
    for type in (FOLDER, FILE):
        items = [script.enqueue(type) for _ in range(4)]
        script.start(items[0], type)
        script.complete(items[0])
        script.start(items[1], type)
        script.fail(items[1], OSERROR, type)
        script.add(ItemSkipped, item=items[1], type=type, had_failed=True)
        if type == FILE:
            script.skip(items[2], type)
            script.cancel(items[3], type)
    script.cancel(3, FOLDER)
    script.cancel(4, FOLDER)
    assert summary(result_of(script.finish("failed"))).splitlines() == [
        "ended   3 of 8 items failed · 2 completed · 3 skipped · 1:23",
        "",
        "           completed      failed     skipped",
        "  Folder           1           2           1",
        "  File             1           1           2",
        "",
        "  2 × Folder: CancelledByUser  cancelled by anna@host via aqueue",
        "      e.g. item 3",
        "  1 × File: CancelledByUser  cancelled by anna@host via aqueue",
        "      item 8",
        "",
        '  To list all failures, and to retry them, pass resume="run.db".',
    ]


def test_summary_has_no_zeros() -> None:
    """Neither a column in which nothing happened, nor a cell, nor a part of the headline."""
    script = Script()
    for type in (FOLDER, FILE):
        item = script.enqueue(type)
        script.start(item, type)
        script.complete(item)
    assert summary(result_of(script.finish("completed"), 8.0)).splitlines() == [
        "ended   2 items in 8.00 s · 0.2/s",
        "",
        "           completed",
        "  Folder           1",
        "  File             1",
    ]


def failing(*errors: ErrorInfo, **fields: Any) -> RunResult:
    """Return the result of a run in which an item failed with each of the errors."""
    script = Script()
    for error in errors:
        item = script.enqueue()
        script.start(item)
        script.fail(item, error, **fields)
    return result_of(script.finish("failed"))


def test_summary_counts_failures_beyond_those_listed() -> None:
    """The number before a kind is exact, however many failures there are."""
    assert "  3,000 × Page: OSError  no" in summary(failing(*[ErrorInfo("OSError", "no")] * 3_000)).splitlines()


def test_summary_shows_where_the_user_s_code_was() -> None:
    """The innermost line of it, with its code; nobody else's."""
    lines = [TRACEBACK]
    for number in range(1, 8):
        lines += [f'  File "/p/site-packages/lib.py", line {number}, in lib', "    lib()"]
        lines += [f'  File "/home/me/job.py", line {number}, in f{number}', f"    f{number + 1}(url)"]
    lines += ['  File "/p/site-packages/lib.py", line 8, in lib', "    lib()"]
    error = ErrorInfo("OSError", "no", "\n".join([*lines, "OSError: no"]))
    assert summary(failing(error)).splitlines()[2:] == [
        "  1 × Page: OSError  no",
        "      /home/me/job.py:7 in f7   f8(url)",
        "      item 1",
        "",
        '  To list all failures, and to retry them, pass resume="run.db".',
    ]


@pytest.mark.parametrize("folders", [8, 1_000])
def test_a_long_path_is_cut_at_its_front_at_most(folders: int) -> None:
    """So that the file's name, the line and the function are always told, as is the code."""
    path = "/home/me/" + "folder/" * folders + "job.py"
    error = ErrorInfo("OSError", "no", f'{TRACEBACK}\n  File "{path}", line 12, in f\n    g()\nOSError: no')
    start = r"\.\.\.\w*" if folders > 30 else "/home/me"
    assert re.search(rf"^      {start}/(folder/)+job\.py:12 in f   g\(\)$", summary(failing(error)), re.MULTILINE)


def test_summary_tells_attempts() -> None:
    """Which attempt of the example it was, where it had more than one."""
    assert "\n      e.g. item 1, attempt 3" in summary(failing(OSERROR, OSERROR, attempt=3))
    assert "attempt" not in summary(failing(OSERROR))


def test_summary_counts_what_was_retried() -> None:
    """In the headline, if anything was."""
    script = in_the_middle()
    script.fail_for_now(7, due_in_s=1.0)
    result = result_of(script.finish("interrupted"))
    assert "   5 completed · 4 outstanding · 1 failed · 1 retried · 1:23\n" in summary(result)


@pytest.mark.parametrize(("count", "said"), [(1, "1 duplicate skipped"), (1_234, "1,234 duplicates skipped")])
def test_summary_counts_what_was_skipped(count: int, said: str) -> None:
    """Children that were found again under a key that is known."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.complete(item, deduplicated=count)
    assert summary(result_of(script.finish("completed"))) == f"ended   1 item in 1:23 · 0.7/min · {said}"


def test_summary_says_how_to_list_all_failures() -> None:
    """With a journal the command, whole; without one how to have one the next time."""
    one, two = failing(OSERROR), failing(OSERROR, OSERROR)
    assert summary(two).endswith('\n\n  To list all failures, and to retry them, pass resume="run.db".')
    path = "/home/me/a folder/" + "x" * 100 + ".db"
    for result in (one, two):
        text = summary(msgspec.structs.replace(result, journal=path))
        assert f"\n\n  See them all:   aqueue failures '{path}'\n" in text
        them = "Accept it:  " if result is one else "Accept them:"
        assert text.endswith(f"\n  {them}    aqueue skip '{path}' --state failed")


def test_summary_names_a_journal_in_the_current_folder_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the person who is there writes it; one elsewhere, or whose name looks like an option, is named whole."""
    monkeypatch.chdir(tmp_path)
    for path, shown in (
        (tmp_path / "run.db", "run.db"),
        (tmp_path / "runs" / "a.db", "runs/a.db"),
        (tmp_path / "-run.db", str(tmp_path / "-run.db")),
        (tmp_path.parent / "run.db", str(tmp_path.parent / "run.db")),
    ):
        text = summary(msgspec.structs.replace(failing(OSERROR), journal=str(path)))
        assert f" aqueue failures {shown}\n" in text
        assert text.endswith(f" aqueue skip {shown} --state failed")


def test_summary_of_hooks() -> None:
    """A failure of the hook says so."""
    script = Script()
    item = script.enqueue(FOLDER)
    script.start(item, FOLDER)
    script.complete(item)
    script.start(item, FOLDER, phase="after_children")
    script.fail(item, ErrorInfo("OSError", "disk full"), FOLDER, phase="after_children")
    assert "\n  1 × Folder after children: OSError  disk full\n" in summary(result_of(script.finish("failed")))


def test_long_messages_are_cut() -> None:
    """An error of a thousand lines does not fill the screen: of each message there is the beginning of the first line."""
    lines = summary(failing(ErrorInfo("ValueError", "word " * 10_000))).splitlines()
    assert len(lines) == 6
    assert max(map(len, lines)) <= 230
    assert lines[2].endswith("word …") or lines[2].endswith("word…")
    lines = summary(failing(ErrorInfo("ValueError", "\n first\r line \n" + "another line\n" * 1_000))).splitlines()
    assert lines[2:4] == ["  1 × Page: ValueError  first\\r line", "      item 1"]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (["a:Page"], ["Page"]),
        (["m:f.<locals>.Page"], ["Page"]),
        (["a:Page", "b:Page", "b:File"], ["a:Page", "b:Page", "File"]),
        (["a:X.Page", "a:Page"], ["X.Page", "Page"]),
        (["m:f.<locals>.Page", "m:g.<locals>.Page"], ["f.<locals>.Page", "g.<locals>.Page"]),
        (["", ":", "odd"], ["", ":", "odd"]),
    ],
)
def test_short_names_tell_types_apart(types: list[str], expected: list[str]) -> None:
    """The class's name where it is the only one of that name, more where it isn't."""
    assert [short_names(types)[type] for type in types] == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0:00"), (0, "0:00"), (59.99, "0:59"), (61, "1:01"), (3600, "1:00:00"), (86_400 * 2 + 3_723, "2d 01:02:03")],
)
def test_clock(seconds: float, expected: str) -> None:
    """Durations look like clocks, and never go ahead of the time."""
    assert clock(seconds) == expected


@pytest.mark.parametrize(("rate", "expected"), [(0, "0.0"), (9.96, "10.0"), (99.96, "100"), (12_345.6, "12,346")])
def test_per_second(rate: float, expected: str) -> None:
    """A decimal only where it tells something."""
    assert per_second(rate) == expected
