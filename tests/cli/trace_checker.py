"""What must hold of every trace, by the format's schema and by the rules of Perfetto's importer, written down anew.

The importer sorts events by time, those of one time by their place in the file, but slices by their length before that.
It drops a slice that neither nests in the one before it nor comes after it, and an arrow whose end falls where no slice
is open. A mark on a thread is a slice without length, which gets the arrows that follow up to the next slice.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from aqueue.events import Event, ItemEnqueued, ItemReopened, ItemSkipped, ItemStarted, ProcessJoined, RunStarted
from aqueue.text import visible

__all__ = ["Line", "check_trace", "slices"]

Line = dict[str, Any]

_SCHEMA = json.loads(Path(__file__).with_name("trace_format.schema.json").read_bytes())
_validator = Draft202012Validator(_SCHEMA)
_validator.check_schema(_SCHEMA)
_PER_SECOND = 1_000_000


def check_trace(trace: bytes, events: list[Event]) -> list[Line]:
    """Assert all that must hold of the trace of a run with these events, and return what it consists of."""
    lines = _parsed(trace)
    by_time = sorted((line for line in lines if line["ph"] != "M"), key=lambda line: line["ts"])
    _check_names(lines)
    _check_slices(lines, by_time, events)
    _check_arrows(by_time, events)
    _check_counters(lines, events)
    _check_places(lines, events)
    return lines


def slices(lines: list[Line]) -> list[Line]:
    """Return the slices, that is the attempts, in the order of their starts."""
    return sorted((line for line in lines if line["ph"] == "X"), key=lambda line: line["ts"])


def _parsed(trace: bytes) -> list[Line]:
    text = trace.decode()
    assert [line for line in text.split("\n") if visible(line) != line] == []
    parsed = json.loads(text)
    assert [error.message for error in _validator.iter_errors(parsed)] == []
    lines: list[Line] = parsed["traceEvents"]
    return lines


def _check_names(lines: list[Line]) -> None:
    """Each process and each thread with something on it is named once, by a number that is no other's."""
    processes = [line["pid"] for line in lines if line["name"] == "process_name"]
    threads = [(line["pid"], line["tid"]) for line in lines if line["name"] == "thread_name"]
    numbers = [*processes, *(tid for _, tid in threads)]
    assert len(numbers) == len(set(numbers))
    assert {line["pid"] for line in lines} == set(processes)
    assert {(line["pid"], line["tid"]) for line in lines} - {(pid, pid) for pid in processes} == set(threads)
    assert all(line["tid"] != line["pid"] for line in lines if line["ph"] == "X")


def _check_slices(lines: list[Line], by_time: list[Line], events: list[Event]) -> None:
    """There is a slice an attempt, and those of one track neither overlap nor are open where there is none."""
    assert not [line for line in lines if line["ph"] in "BE"]
    started = [(event.item, event.attempt, event.phase) for event in events if isinstance(event, ItemStarted)]
    drawn = [tuple(line["args"][name] for name in ("item", "attempt", "phase")) for line in slices(lines)]
    assert sorted(drawn) == sorted(started)
    ends: dict[int, int] = {}
    for line in by_time:
        if line["ph"] == "X":
            # In whole nanoseconds, as the importer has it: no rounding may be needed.
            start, duration = line["ts"] * 1_000, line["dur"] * 1_000
            assert start == int(start) and duration == int(duration) > 0
            assert start >= ends.get(line["tid"], 0)
            ends[line["tid"]] = int(start) + int(duration)


def _check_arrows(by_time: list[Line], events: list[Event]) -> None:
    """An arrow leads from the parent's slice to the child's first one, and only one child never started lacks its end."""
    parents = {event.item: event.parent for event in events if isinstance(event, ItemEnqueued)}
    first: dict[int, ItemStarted] = {}
    for event in events:
        if isinstance(event, ItemStarted):
            first.setdefault(event.item, event)
    top: dict[int, Line] = {}
    begun: set[int] = set()
    ended: set[int] = set()
    for line in by_time:
        if line["ph"] == "X":
            top[line["tid"]] = line
        elif line.get("s") == "t":
            drawn = top.pop(line["tid"])
            assert drawn["ts"] < line["ts"] < drawn["ts"] + drawn["dur"]
        elif line["ph"] in "sf":
            drawn, item = top[line["tid"]], line["id"]
            assert drawn["ts"] < line["ts"] < drawn["ts"] + drawn["dur"]
            if line["ph"] == "s":
                assert item not in begun
                assert drawn["args"]["item"] == parents[item] != 0
                begun.add(item)
            else:
                assert item in begun and item not in ended
                assert (drawn["args"]["item"], drawn["args"]["attempt"]) == (item, first[item].attempt)
                ended.add(item)
    assert ended == begun & first.keys()


def _check_counters(lines: list[Line], events: list[Event]) -> None:
    """Each process of the run has samples, at most every 100 ms but for the last; what has ended doesn't grow less."""
    reopened = any(isinstance(event, ItemReopened | ItemSkipped) for event in events)
    sampled = [line["pid"] for line in lines if line["ph"] == "C"]
    assert len(set(sampled)) == sum(isinstance(event, RunStarted) for event in events)
    for drawn in _by_process_of_run(lines, set(sampled)):
        samples = [line for line in drawn if line["ph"] == "C"]
        assert {line["pid"] for line in samples} == {drawn[0]["pid"]}
        for number, (one, other) in enumerate(pairwise(samples), 2):
            assert one["ts"] <= other["ts"]
            assert number == len(samples) or other["ts"] - one["ts"] >= 0.1 * _PER_SECOND - 1
            ended = [sample["args"]["completed"] + sample["args"]["failed"] for sample in (one, other)]
            assert reopened or ended[0] <= ended[1]
        assert all(value >= 0 for sample in samples for value in sample["args"].values())
        assert samples[-1]["ts"] == max(line["ts"] for line in drawn if "ts" in line)


def _by_process_of_run(lines: list[Line], pids: set[int]) -> list[list[Line]]:
    """Return the lines of each process of the run, with those of its worker processes: from its name to the next one's."""
    starts = [place for place, line in enumerate(lines) if line["name"] == "process_name" and line["pid"] in pids]
    return [lines[start:end] for start, end in pairwise([*starts, len(lines)])]


def _check_places(lines: list[Line], events: list[Event]) -> None:
    """Each attempt is drawn in the process that ran it: the worker process that had its worker then, or the run's own."""
    of_run = {line["pid"] for line in lines if line["ph"] == "C"}
    names = [line for line in lines if line["name"] == "process_name"]
    own = [line for line in names if line["pid"] in of_run]
    others = iter([line for line in names if line["pid"] not in of_run])  # in the order in which they joined
    current, on_cluster = -1, False
    pid_of_worker: dict[int, int] = {}
    expected: Counter[tuple[Any, ...]] = Counter()
    for event in events:
        match event:
            case RunStarted():
                current, pid_of_worker, on_cluster = current + 1, {}, bool(event.cluster)
            case ProcessJoined() if on_cluster:
                line = next(others)
                assert line["args"]["name"] == f"{visible(event.host, 1_000)}:{event.pid}"
                for worker in range(event.first_worker, event.first_worker + event.num_workers):
                    pid_of_worker[worker] = line["pid"]
            case ItemStarted():
                here = own[current]["pid"]
                pid = pid_of_worker.get(event.worker, here) if event.phase == "process" else here
                expected[pid, event.item, event.phase, event.attempt] += 1
            case _:
                pass
    assert next(others, None) is None
    drawn = Counter(
        (line["pid"], *(line["args"][name] for name in ("item", "phase", "attempt"))) for line in slices(lines)
    )
    assert drawn == expected
