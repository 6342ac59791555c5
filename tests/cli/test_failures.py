"""``aqueue failures``: what failed for good, by kind and one by one, with tracebacks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from aqueue._stream.error_info import error_info
from aqueue.events import ErrorInfo, Event
from aqueue.text import visible
from tests.cli.conftest import Aqueue
from tests.cli.scripted import HOSTILE_HOST, Script, on_a_cluster, write_journal, write_log


def many_failures() -> list[Event]:
    """Return the events of 300 failures of 12 kinds."""
    script = Script()
    for number in range(300):
        item = script.enqueue()
        script.start(item)
        kind = number % 12
        script.fail(
            item, ErrorInfo(f"Error{kind}", f"no answer {kind}", f"Traceback of {kind}\nError{kind}: no answer")
        )
    return script.finish("failed")


def test_failures_are_told_by_kind_and_one_by_one(aqueue: Aqueue, file: Path) -> None:
    """How many of each kind and where in the user's code; then each item with its message."""
    done = aqueue("failures", file)

    assert done.code == 0
    assert "1  Product  ValueError" in done.out
    assert "job.py:" in done.out
    assert "ValueError: =no price\\x1b[2J" in done.out
    assert "\x1b" not in done.out


def test_tracebacks_are_whole_and_safe(aqueue: Aqueue, file: Path) -> None:
    """Each line of the traceback is a line, and nothing in it reaches the terminal raw."""
    out = aqueue("failures", file, "--tracebacks").out

    assert "  Traceback (most recent call last):" in out.splitlines()
    assert "  ValueError: =no price\\x1b[2J" in out.splitlines()
    assert "\x1b" not in out


def test_a_long_list_keeps_its_heading_on_the_screen(aqueue: Aqueue, tmp_path: Path) -> None:
    """300 failures of 12 kinds are 5 kinds and 10 failures, in at most 24 lines; --all shows them all, --json as well."""
    path = write_journal(tmp_path, many_failures())
    lines = aqueue("failures", path).out.splitlines()
    assert len(lines) <= 24
    assert lines[0].startswith("Kinds of failures  12")
    assert "  7 more kinds; use --all to see them" in lines
    assert lines[-1] == "  290 more; use --all to see them"
    everything = aqueue("failures", path, "--all").out
    assert everything.count("Error11") == 25 + 1
    assert "more" not in everything
    assert len(aqueue("failures", path, "--json").json_lines) == 300


def test_equal_tracebacks_are_shown_once(aqueue: Aqueue, tmp_path: Path) -> None:
    """Each further failure with the same text names the item that it was shown for, and has its own message."""
    path = write_journal(tmp_path, many_failures())
    out = aqueue("failures", path, "--tracebacks", "--all").out
    assert out.count("Traceback of ") == 12
    assert out.count("the same traceback as item 1: no answer 0\n") == 24
    assert out.count("the same traceback") == 300 - 12


def raised(function: Callable[[], object]) -> ErrorInfo:
    """Return what a function raises, as a run records it."""
    try:
        function()
    except Exception as error:
        return error_info(error)
    raise AssertionError("it raised nothing")


def fetch(url: str, cause: Exception | None = None) -> None:
    """Fail as an HTTP client does, or as one whose connection failed."""
    raise RuntimeError(f"404 for {url}\nFor more information: {url}/help") from cause


def gather(*errors: Exception) -> None:
    """Fail as several tasks do."""
    raise ExceptionGroup(f"{errors[0]}", errors)


def test_tracebacks_that_differ_only_in_messages_are_equal(aqueue: Aqueue, tmp_path: Path) -> None:
    """Another URL is no other traceback; another cause, type or place is, also in a group."""
    script = Script()
    for function in (
        partial(fetch, "/a"),
        partial(fetch, "/b"),
        partial(fetch, "/c", OSError("1")),
        partial(fetch, "/d", OSError("2")),
        partial(fetch, "/e", ValueError("2")),
        partial(gather, ValueError("1"), OSError("2")),
        partial(gather, ValueError("3"), OSError("4")),
        partial(gather, ValueError("5"), ValueError("6")),
        partial(gather, ValueError("7")),
    ):
        script.start(script.enqueue())
        script.fail(script.last_item, raised(function))
    path = write_journal(tmp_path, script.events)
    lines = aqueue("failures", path, "--tracebacks").out.splitlines()

    assert [line.strip() for line in lines if "the same traceback" in line] == [
        "the same traceback as item 1: 404 for /b",
        "the same traceback as item 3: 404 for /d",
        "the same traceback as item 6: 3 (2 sub-exceptions)",
    ]


def test_a_message_is_shown_by_its_first_line(aqueue: Aqueue, tmp_path: Path) -> None:
    """Further lines, such as a link to a manual, are only in tracebacks."""
    script = Script()
    item = script.enqueue()
    script.start(item)
    script.fail(item, ErrorInfo("HTTPError", "404 Not Found\nFor more information: https://example.org/404"))
    path = write_journal(tmp_path, script.events)
    for command in ("failures", "tree", "status", "tail", "explain"):
        out = aqueue(command, path, *(["1"] if command == "explain" else [])).out
        assert "404 Not Found" in out
        assert "For more information" not in out, command


def test_failures_and_items_of_a_cluster_say_where_they_ran(aqueue: Aqueue, tmp_path: Path) -> None:
    """Host and number of the worker process; of an item that ran again, the last one."""
    path = write_log(tmp_path, on_a_cluster().events)
    [failure] = aqueue("failures", path, "--json").json_lines
    items = aqueue("items", path, "--json").json_lines

    assert (failure["item"], failure["worker"], failure["host"], failure["pid"]) == (4, 4, HOSTILE_HOST, 11)
    assert f", on {visible(HOSTILE_HOST)}:11" in aqueue("failures", path, "--tracebacks").out
    assert [(one["item"], one["host"], one["pid"]) for one in items] == [
        (1, HOSTILE_HOST, 11),
        (2, HOSTILE_HOST, 11),
        (3, "lost.example", 10),
        (4, HOSTILE_HOST, 11),
    ]


def test_failed_hook_of_a_cluster_ran_in_no_worker_process(aqueue: Aqueue, tmp_path: Path) -> None:
    """Hooks run in the run's own process, whatever worker they belong to."""
    script = on_a_cluster()
    script.fail_now(2, worker=3, phase="after_children")
    path = write_log(tmp_path, script.events)

    assert [(one["item"], one["host"]) for one in aqueue("failures", path, "--json").json_lines] == [
        (2, None),
        (4, HOSTILE_HOST),
    ]


def test_without_a_cluster_nothing_ran_elsewhere(aqueue: Aqueue, file: Path) -> None:
    """There is no worker process to name."""
    assert {(one["host"], one["pid"]) for one in aqueue("items", file, "--json").json_lines} == {(None, None)}
    assert {(one["host"], one["pid"]) for one in aqueue("failures", file, "--json").json_lines} == {(None, None)}


def test_failures_that_were_taken_up_again_are_gone(aqueue: Aqueue, tmp_path: Path) -> None:
    """An item that a resumed run has taken up again is no failure, by kind as well as one by one."""
    script = Script()
    for _ in range(2):
        script.start(script.enqueue())
        script.fail_now(script.last_item)
    script.finish("failed")
    script.resume()
    script.reopen(1)
    path = write_journal(tmp_path, script.events)
    done = aqueue("failures", path)

    assert done.out.splitlines()[2].split()[:2] == ["1", "Page"]
    assert [one["item"] for one in aqueue("failures", path, "--json").json_lines] == [2]


def test_nothing_failed_is_said(aqueue: Aqueue, tmp_path: Path) -> None:
    """An empty list says that it is empty."""
    script = Script()
    script.enqueue()

    assert aqueue("failures", write_log(tmp_path, script.events)).out == "  no item has failed\n"
