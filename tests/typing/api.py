"""The public API as a user's type checker sees it: never run, only checked, by mypy and by basedpyright.

Each line that must not type-check is ignored by its own code; both checkers report an ignore that is not needed.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, assert_type

import aqueue
from aqueue import (
    EnqueueFn,
    Item,
    ItemFailures,
    Reporter,
    RunInfo,
    RunResult,
    SetDescFn,
    async_run_queue,
    run_queue,
    steering,
)
from aqueue.events import Counts, Event, ItemFailed, RunStatus
from aqueue.view import RunView
from aqueue_reporters.jsonl import JsonlReporter


class Page(Item):
    """An item as most are written: a subclass."""

    track_overall = True
    after_children_rule: ClassVar[aqueue.AfterChildrenRule] = "all_done"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> dict[str, int]:
        """Do one unit of work."""
        set_desc("reading")
        enqueue(Page())
        enqueue(Link("https://example.org"))
        enqueue("not an item")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(aqueue.current().attempt, int)
        assert_type(aqueue.shared(), Any)
        aqueue.stop("enough")
        return {"links": 2}

    async def after_children_processed(self) -> None:
        """Reduce the children's results."""
        assert_type(aqueue.child_results(), list[Any])


@dataclass(frozen=True)
class Link:
    """An item that is no `Item`: its arguments may have other names."""

    url: str

    async def process(self, add: EnqueueFn, describe: SetDescFn) -> None:
        """Do one unit of work."""


class Polite(Item):
    """An item with policies and a group."""

    retry = aqueue.Retry(attempts=8, on=(OSError, TimeoutError))
    timeout_s = 60

    @property
    def group(self) -> str:
        """Return its host."""
        return "example.org"

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Do as the server asks."""
        seconds = aqueue.parse_retry_after(None)
        assert_type(seconds, float)
        aqueue.slow_down(self.group, seconds)
        raise aqueue.RetryAfter(seconds)


class Never(Item):
    """An item that is not tried again, whatever the run's policy is."""

    retry = None
    timeout_s = None


class NotAsync:
    """No item: its `process` is an ordinary method."""

    def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        """Do nothing."""


class Counter:
    """A reporter as a plugin writes it."""

    uses_terminal = False

    def __init__(self) -> None:
        self.failed = 0

    def open(self, run: RunInfo) -> None:
        """Begin."""
        assert_type(run.num_workers, int)

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        """Count the failures."""
        self.failed += sum(isinstance(event, ItemFailed) for event in events)
        assert_type(view.counts, Counts)

    def close(self, result: RunResult) -> None:
        """End."""


@asynccontextmanager
async def open_client() -> AsyncGenerator[str, None]:
    """Open what the items share."""
    yield "client"


def main() -> None:
    """Call `run_queue` in the ways it is meant to be called, and in some that it isn't."""
    reporter: Reporter = Counter()
    result = run_queue(
        initial_items=(Page() for _ in range(3)),
        num_workers=20,
        queue_type_name="stack",
        graceful_ctrl_c=False,
        reporter=["rich", "jsonl:run.jsonl", JsonlReporter(include_data=True), reporter],
        on_error="continue",
        lifespan=open_client,
        backend="asyncio",
    )
    assert_type(result, RunResult)
    assert_type(result.status, RunStatus)
    assert_type(result.counts.completed, int)
    assert_type(result.root_results, list[Any])
    run_queue([Page(), Link("https://example.org")])
    limits = {"example.org": aqueue.Limit(concurrent=2), "*": aqueue.Limit(per_second=0.5)}
    run_queue(
        [Polite(), Never()],
        retry=aqueue.Retry(on=lambda error: isinstance(error, OSError)),
        timeout_s=60,
        limits=limits,
        max_items=5,
        grace_s=1,
    )
    run_queue([Polite()], limits=lambda group: aqueue.Limit(concurrent=len(group)) if group else None)
    run_queue([Polite()], resume="run.db", only=lambda type: type.endswith(":Page"))
    run_queue([Polite()], limits={"example.org": 2})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    run_queue([NotAsync()])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    run_queue([Page()], queue_type_name="heap")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run_queue([Page()], num_workers="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run_queue([Page()], 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    try:
        run_queue([Page()], reporter=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except ItemFailures as failures:
        assert_type(failures.result, RunResult)
        assert_type(failures.exceptions, tuple[Exception | ExceptionGroup[Exception], ...])


async def main_in_a_loop() -> None:
    """Call it from async code."""
    assert_type(await async_run_queue([Page()], reporter="none"), RunResult)


def retry_what_failed(journal: str) -> int:
    """Select failed items, look at them, and have them retried, as a program of an operator does."""
    selector = steering.Selector(types=("Page",), states=("failed",), error="*Timeout*")
    selection = steering.select(journal, selector)
    assert_type(selection, steering.Selection)
    answer = steering.retry(journal, selection)
    assert_type(answer, steering.Answer)
    steering.skip(journal, [3, 4], result={"price": None})
    steering.cancel(None, "not numbers")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return answer.count
