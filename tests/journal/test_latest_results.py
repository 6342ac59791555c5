"""An item's result is that of its last round that has ended; all that tell results tell the same."""

import json
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aqueue import Backend, EnqueueFn, Item, ItemFailures, RunResult, SetDescFn, iter_results, run_queue
from aqueue.cli import main
from aqueue.events import Event, ItemChildrenProcessed
from tests.journal.oracle import Story, told_by
from tests.journal.recorded import cut, events_of
from tests.journal.seeds import Seed, items_of, seeds

Results = dict[int, Any]
"""What items came to, by number, those that have a result."""


def run(items: list[Any], path: Path, **arguments: Any) -> RunResult:
    """Run or resume, and return what came of it, failures or not."""
    try:
        return run_queue(items, resume=path, reporter="none", **arguments)
    except ItemFailures as failures:
        return failures.result


def by_the_command(*arguments: object) -> str:
    """Return what the command writes to standard output."""
    out = TextIOWrapper(BytesIO(), encoding="utf-8")
    with redirect_stdout(out), redirect_stderr(StringIO()), suppress(SystemExit):
        main([str(argument) for argument in arguments])
    out.flush()
    written = out.buffer
    assert isinstance(written, BytesIO)
    return written.getvalue().decode()


def everywhere(path: Path) -> list[Results]:
    """Return the results in the journal at `path` as each of its readers and exports tells them."""
    with closing(sqlite3.connect(path)) as connection:
        view = {item: json.loads(result) for item, result in connection.execute("SELECT item, result FROM results")}
    log = path.with_suffix(".jsonl")
    by_the_command("export", path, "--format", "jsonl", "--include-data", "-o", log)
    told = [{one.item: one.result for one in iter_results(path)}, view]
    for file in (path, log):
        lines = map(json.loads, by_the_command("results", file).splitlines())
        told.append({line["item"]: line["result"] for line in lines})
    log.unlink(missing_ok=True)
    tables = path.with_suffix(".tables")
    by_the_command("export", path, "--format", "sqlite", "-o", tables)
    with closing(sqlite3.connect(tables)) as connection:
        told.append(
            {item: json.loads(result) for item, result in connection.execute("SELECT item, result FROM results")}
        )
    return told


def results_of(story: Story) -> Results:
    """Return the results by the plain rule."""
    return {item: json.loads(result) for item, result in sorted(story.results.items()) if result}


def check_hooks(events: list[Event]) -> None:
    """Assert that each hook that gathers the results of its children got those that held when it returned."""
    for number, event in enumerate(events, 1):
        if isinstance(event, ItemChildrenProcessed) and event.result:
            before = Story(events[:number])
            children = before.children(event.item)
            assert json.loads(bytes(event.result)) == [
                json.loads(before.results[child]) for child in children if before.results[child]
            ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=14, deadline=None)
@given(
    st.lists(seeds(), min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from(["stop", "continue"]),
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from([True, True, False])), max_size=3),
)
def test_all_tell_the_same_results(
    backend: Backend, roots: list[Seed], num_workers: int, on_error: Any, cuts: list[tuple[int, bool]]
) -> None:
    """Of runs that fail, are cut off, and go on, with failed items or without: all readers, the run itself, and hooks."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "run.db")
        for number, (percent, retry_failed) in enumerate([(0, True), *cuts, (100, True), (100, True)]):
            if number:
                path = cut(path, len(events_of(path)) * percent // 100, Path(folder, f"cut {number}.db"))
                before = results_of(told_by(events_of(path)))
                assert everywhere(path) == [before] * 5
            arguments: dict[str, Any] = {"retry_failed": retry_failed} if number else {}
            items = items_of(roots)
            result = run(items, path, num_workers=num_workers, on_error=on_error, backend=backend, **arguments)
            events = events_of(path)
            story = told_by(events)
            results = results_of(story)
            assert everywhere(path) == [results] * 5
            numbers = iter([one for one in story.children(0) if story.enqueued[one].key is None])
            # Those with a key, of which some are dropped, have no result.
            expected = [None if item.key is not None else results.get(next(numbers)) for item in items]
            assert result.root_results == (expected if any(one is not None for one in expected) else [])
            check_hooks(events)


class Leaf(Item):
    """One that fails as long as the world is bad."""

    is_bad = True

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        if Leaf.is_bad:
            raise ConnectionError


class Sum(Item):
    """One whose hook returns something only if the world is bad."""

    after_children_rule = "all_done"

    def __init__(self, own: str | None) -> None:
        self.own = own

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str | None:
        enqueue(Leaf())
        return self.own

    async def after_children_processed(self) -> dict[str, int] | None:
        return {"missing": 1} if Leaf.is_bad else None


@pytest.mark.parametrize("own", [None, "of process"])
def test_what_a_hook_returned_over_a_failure_holds_until_it_has_run_again(
    tmp_path: Path, own: str | None, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    """Reopened it still does; once the hook has returned None, the result is that of process, if it has one."""
    path = tmp_path / "run.db"
    arguments: dict[str, Any] = {"on_error": "continue", "backend": backend}
    assert run([Sum(own)], path, **arguments).root_results == [{"missing": 1}]
    assert run([Sum(own)], path, max_items=1, **arguments).root_results == [{"missing": 1}]
    assert everywhere(path) == [{1: {"missing": 1}}] * 5

    left = run([Sum(own)], path, retry_failed=False, **arguments)
    assert left.root_results == [{"missing": 1}], "it is left as it is, with its result"

    monkeypatch.setattr(Leaf, "is_bad", False)
    assert run([Sum(own)], path, **arguments).root_results == ([] if own is None else [own])
    assert everywhere(path) == [{} if own is None else {1: own}] * 5


class HookFails(Item):
    """One that returns something, and whose hook fails as long as the world is bad."""

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> str:
        return "of process"

    async def after_children_processed(self) -> None:
        if Leaf.is_bad:
            raise ConnectionError


def test_an_item_whose_hook_has_failed_has_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    """Until the hook has run again, and returned None: then it is that of process."""
    path = tmp_path / "run.db"
    assert run([HookFails()], path, backend=backend).root_results == []
    assert everywhere(path) == [{}] * 5
    monkeypatch.setattr(Leaf, "is_bad", False)
    assert run([HookFails()], path, backend=backend).root_results == ["of process"]
    assert everywhere(path) == [{1: "of process"}] * 5
