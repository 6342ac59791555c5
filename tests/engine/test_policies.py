"""Retries, limits, timeouts and pauses all at once, over random jobs by a clock that jumps."""

from itertools import pairwise
from math import ceil
from typing import Any, ClassVar

import anyio
import msgspec
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import aqueue
from aqueue import EnqueueFn, Item, Limit, Retry, RetryAfter, SetDescFn
from aqueue.events import ItemEnqueued, ItemRetryScheduled, ItemStarted
from tests.engine.clocks import run_by_mock_clock

EPSILON_S = 1e-6
"""Less than any wait of these tests, and more than what is lost in adding up floats."""


class Try(msgspec.Struct, frozen=True):
    """What one attempt does.

    Attributes:
        takes_s: how long it takes.
        ends: how: it returns, raises what is tried again or what isn't, or asks for some seconds.
        pauses: the group that it slows down, and for how long.
    """

    takes_s: float = 0.0
    ends: str | float = "returns"
    pauses: tuple[str, float] | None = None


class Job(msgspec.Struct, frozen=True):
    """What one item does; its last attempt is repeated if there are more."""

    group: str | None
    tries: tuple[Try, ...]
    children: tuple["Job", ...] = ()
    hook: tuple[Try, ...] = ()
    priority: int = 0


class Passing(Exception):
    """Is tried again."""


class Lasting(Exception):
    """Is not."""


class Span(msgspec.Struct):
    """An attempt as it was seen from within: loop times."""

    item: int
    phase: str
    group: str | None
    begin: float
    end: float = float("inf")


class Page(Item):
    """Does what its job says, and logs it."""

    log: ClassVar[list[Span]]
    pauses: ClassVar[list[tuple[str, float, float]]]

    def __init__(self, job: Job, number: str) -> None:
        self.job = job
        self.number = number

    @property
    def group(self) -> str | None:
        return self.job.group

    def __lt__(self, other: "Page") -> bool:
        return self.job.priority < other.job.priority

    async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
        for number, child in enumerate(self.job.children):
            enqueue(self._kind(child, f"{self.number}.{number}"))
        await self.do(self.job.tries)

    def _kind(self, job: Job, number: str) -> "Page":
        return type(self)(job, number)

    async def do(self, tries: tuple[Try, ...]) -> None:
        current = aqueue.current()
        span = Span(current.id, current.phase, self.group, trio.current_time())
        self.log.append(span)
        one = tries[min(current.attempt, len(tries)) - 1]
        try:
            if one.pauses is not None:
                aqueue.slow_down(*one.pauses)
                self.pauses.append((one.pauses[0], trio.current_time(), trio.current_time() + one.pauses[1]))
            if one.takes_s:
                await anyio.sleep(one.takes_s)
            if one.ends == "passing":
                raise Passing
            if one.ends == "lasting":
                raise Lasting
            if isinstance(one.ends, float):
                raise RetryAfter(one.ends)
        finally:
            span.end = trio.current_time()


class Hooked(Page):
    """One with a hook that does what the job says."""

    after_children_rule = "all_done"

    async def after_children_processed(self) -> None:
        await self.do(self.job.hook)


GROUPS = ["a", "b", "c", None]
waits = st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0, 3.0])
tries_ = st.lists(
    st.builds(
        Try,
        takes_s=waits,
        ends=st.sampled_from(["returns", "returns", "returns", "passing", "passing", "lasting", 0.0, 2.5]),
        pauses=st.none() | st.none() | st.none() | st.tuples(st.sampled_from(["a", "b", "new"]), waits),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
jobs = st.recursive(
    st.builds(Job, group=st.sampled_from(GROUPS), tries=tries_, hook=tries_, priority=st.integers(0, 3)),
    lambda below: st.builds(
        Job,
        group=st.sampled_from(GROUPS),
        tries=tries_,
        children=st.lists(below, max_size=4).map(tuple),
        hook=tries_,
        priority=st.integers(0, 3),
    ),
    max_leaves=12,
)
limits_ = st.builds(
    Limit,
    concurrent=st.none() | st.integers(1, 3),
    per_second=st.none() | st.sampled_from([0.3, 0.5, 1, 2.5, 3, 7, 40]),
)
policies = st.builds(
    Retry,
    attempts=st.integers(1, 5),
    first_s=st.sampled_from([0.0, 0.3, 2.0]),
    factor=st.sampled_from([1.0, 2.0, 3.5]),
    max_s=st.sampled_from([1.0, 60.0]),
    jitter=st.sampled_from([0.0, 0.5, 1.0]),
    on=st.sampled_from([Passing, (Passing, OSError), (Exception,)]),
)


def expected_tries(tries: tuple[Try, ...], policy: Retry, timeout_s: float | None) -> tuple[int, bool]:
    """Return how many attempts there must be, and whether the last one succeeds: by plain reading of the rules."""
    for number in range(1, 100):
        one = tries[min(number, len(tries)) - 1]
        all_errors = policy.on == (Exception,)
        if timeout_s is not None and one.takes_s > timeout_s:
            again = all_errors or policy.on == (Passing, OSError)  # TimeoutError is an OSError
        elif one.ends == "returns":
            return number, True
        elif one.ends == "lasting":
            again = all_errors
        else:
            again = True
        if not again or number == policy.attempts:
            return number, False
    raise AssertionError


@settings(max_examples=60)
@given(
    st.lists(jobs, min_size=1, max_size=5),
    policies,
    st.sampled_from([None, 0.7]),
    st.dictionaries(st.sampled_from(["a", "b", "*"]), limits_, max_size=3),
    st.integers(1, 6),
    st.sampled_from(["queue", "stack", "priority"]),
    st.booleans(),
)
def test_any_policies_at_once(
    roots: list[Job],
    policy: Retry,
    timeout_s: float | None,
    limits: dict[str, Limit],
    num_workers: int,
    queue_type_name: Any,
    hooked: bool,
) -> None:
    """Nothing starts before its time or beyond its group's limit, no worker idles for nothing, and everything ends."""
    kind = type("Kind", (Hooked if hooked else Page,), {"log": [], "pauses": []})
    result, recorder = run_by_mock_clock(
        [kind(job, str(number)) for number, job in enumerate(roots)],
        num_workers=num_workers,
        queue_type_name=queue_type_name,
        on_error="continue",
        retry=policy,
        timeout_s=timeout_s,
        limits=limits,
    )
    log: list[Span] = kind.log  # type: ignore[attr-defined]
    assert not result.counts.outstanding
    check_attempts(recorder.events, roots, policy, timeout_s, hooked)
    waiting = check_waits(recorder.events, log, policy)
    check_limits(log, limits)
    check_nobody_waits_for_nothing(log, waiting, limits, kind.pauses, num_workers)  # type: ignore[attr-defined]


def check_attempts(events: list[Any], roots: list[Job], policy: Retry, timeout_s: float | None, hooked: bool) -> None:
    """Each item has as many attempts as its job and the policy say, and every child is announced once."""
    announced = sum(isinstance(event, ItemEnqueued) for event in events)

    def count(job: Job) -> int:
        return 1 + sum(count(child) for child in job.children)

    assert announced == sum(count(job) for job in roots)
    starts = sum(isinstance(event, ItemStarted) for event in events)

    def attempts(job: Job) -> int:
        number, succeeds = expected_tries(job.tries, policy, timeout_s)
        if hooked and succeeds:
            number += expected_tries(job.hook, policy, timeout_s)[0]
        return number + sum(attempts(child) for child in job.children)

    assert starts == sum(attempts(job) for job in roots)


def check_waits(events: list[Any], log: list[Span], policy: Retry) -> list[tuple[Span, float]]:
    """No attempt is before its due time; return the attempts at `process` with the times since when they could start."""
    earlier: dict[tuple[int, str], Span] = {}
    waits: dict[tuple[int, str], float] = {}
    spans = iter(log)
    waiting = []
    enqueued: dict[int, float] = {}
    for event in events:
        if isinstance(event, ItemEnqueued):
            enqueued[event.item] = earlier[event.parent, "process"].begin if event.parent else log[0].begin
        elif isinstance(event, ItemStarted):
            span = next(spans)
            assert (span.item, span.phase) == (event.item, event.phase)
            which = span.item, span.phase
            if which in earlier:
                assert span.begin >= earlier[which].end + waits[which] - EPSILON_S, "before its time"
                waiting.append((span, earlier[which].end + waits[which]))
            elif span.phase == "process":
                waiting.append((span, enqueued[span.item]))
            earlier[which] = span
        elif isinstance(event, ItemRetryScheduled):
            which = event.item, event.phase
            wait_s = event.due - event.at
            if event.error.type == "aqueue.retry:RetryAfter":
                assert abs(wait_s - 2.5) < EPSILON_S or abs(wait_s) < EPSILON_S
            else:
                longest = min(policy.max_s, policy.first_s * policy.factor ** (event.attempt - 1))
                assert longest * (1 - policy.jitter) - EPSILON_S <= wait_s <= longest + EPSILON_S
            waits[which] = wait_s
    return waiting


def check_limits(log: list[Span], limits: dict[str, Limit]) -> None:
    """No group runs more at once, or starts more in a second, than its limit says."""
    processes = [span for span in log if span.phase == "process"]
    for group in {span.group for span in processes} - {None}:
        limit = limits.get(group or "", limits.get("*", Limit()))
        of_group = [span for span in processes if span.group == group]
        if limit.concurrent is not None:
            for span in of_group:
                moment = span.begin
                at_once = sum(one.begin < moment < one.end for one in of_group)
                assert at_once < limit.concurrent or span.begin == span.end, f"{at_once} beside one of {group}"
        rate = limit.per_second
        if rate is not None:
            begins = [span.begin for span in of_group]
            for begin in begins:
                window = max(1.0, 1 / rate)
                assert sum(begin <= one < begin + window - EPSILON_S for one in begins) <= ceil(rate)


def check_nobody_waits_for_nothing(
    log: list[Span],
    waiting: list[tuple[Span, float]],
    limits: dict[str, Limit],
    pauses: list[tuple[str, float, float]],
    num_workers: int,
) -> None:
    """While an attempt waits, all workers are busy, or its group may start nothing."""
    moments = sorted({span.begin for span in log} | {span.end for span in log})
    for span, since in waiting:
        if span.phase != "process":
            continue
        limit = limits.get(span.group or "", limits.get("*", Limit())) if span.group is not None else Limit()
        times = [since, *(one for one in moments if since < one < span.begin), span.begin]
        for before, after in pairwise(times):
            if after - before < 10 * EPSILON_S:
                continue
            # Just before the end: a pause or a rate may have been the reason until then.
            middle = after - EPSILON_S
            if sum(one.begin <= middle < one.end for one in log) >= num_workers:
                continue
            of_group = [one for one in log if one.group == span.group and one.phase == "process"]
            at_once = sum(one.begin <= middle < one.end for one in of_group)
            if limit.concurrent is not None and at_once >= limit.concurrent:
                continue
            if any(group == span.group and begin <= middle < end for group, begin, end in pauses):
                continue
            rate = limit.per_second
            if rate is not None:
                begins = sorted(one.begin for one in of_group if one.begin <= middle)
                most, few = ceil(rate), max(1, ceil(rate) // 10)
                if any(len(begins) >= some and begins[-some] + some / rate > middle for some in (most, few)):
                    continue
            raise AssertionError(f"{span} waited from {before} to {after} for nothing")


@settings(max_examples=10)
@given(st.randoms(use_true_random=False), st.integers(3, 20), st.sampled_from(["queue", "stack"]))
def test_one_slow_host_holds_up_no_other(random: Any, num_workers: int, queue_type_name: Any) -> None:
    """Of 100 hosts one takes 100 times as long: it keeps two workers, and the others share what is left evenly."""
    hosts = [f"host {number}" for number in range(100)]
    ends: dict[str, list[float]] = {host: [] for host in hosts}

    class Fetch(Item):
        def __init__(self, group: str) -> None:
            self.group = group

        async def process(self, enqueue: EnqueueFn, set_desc: SetDescFn) -> None:
            await anyio.sleep(100.0 if self.group == hosts[0] else 1.0)
            ends[self.group].append(trio.current_time())

    items = [Fetch(host) for host in hosts for _ in range(10)]
    random.shuffle(items)
    result, _ = run_by_mock_clock(
        items,
        num_workers=num_workers,
        queue_type_name=queue_type_name,
        limits={"*": Limit(concurrent=2)},
        recorded=False,
    )
    assert result.status == "completed"
    assert max(ends[hosts[0]]) <= 10 * 100.0 / 2 + 1.0 + 990 / num_workers
    others = max(max(ends[host]) for host in hosts[1:])
    # With two workers at the slow host, the others do 990 pages; at the end not all of them have a host to ask.
    assert others <= 990 / (num_workers - 2) + 20 / 2 + 1.0
