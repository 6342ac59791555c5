"""Interrupt and resume random trees in random ways, and see that each comes to what it would have come to.

``python -m tests.torture.fuzz --seeds 10000``. Each number stands for a case: a random tree, a run of it to its end, and
one to four processes that go on with what a crash would have left of its journal. What is enqueued may differ from one
attempt to the next, and from one process to the next, and the program may be edited in between. With ``--kill``, a process
is one of the operating system's, which ends by a real SIGKILL. A case that fails is made smaller for as long as it fails,
and printed as a command.
"""

import argparse
import io
import os
import random as randomness
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import lru_cache, partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Final, Literal
from unittest import mock

import anyio
import msgspec
import trio._core._run as trio_run
from msgspec.structs import replace

from aqueue import ItemFailures, RunResult, run_queue
from aqueue._folds.recording import POISON
from aqueue._resume.editing import edit
from aqueue._stream.error_info import CANCELLED
from aqueue._verbs import Retry
from aqueue.events import (
    Event,
    ItemChildrenProcessed,
    ItemCompleted,
    ItemEnqueued,
    ItemFailed,
    ItemInterrupted,
    ItemRetryScheduled,
    ItemStarted,
    RunFinished,
    RunStarted,
)
from aqueue.testing import EventRecorder
from aqueue.view import RunView
from tests import low_thresholds  # noqa: F401  # few items stay in memory, and resumes begin with a snapshot
from tests.engine.clocks import run_jumping
from tests.engine.commander import BY, Commander
from tests.journal.oracle import Story, check_left, told_by
from tests.journal.recorded import cut, events_of
from tests.journal.seeds import (
    LIMITS,
    Did,
    Seed,
    children_of,
    group_of,
    items_of,
    random_seed,
    seed_of,
    tell,
    text_of,
    waits,
    with_policies,
)
from tests.torture.__main__ import ALL, ENDED, FAILED, HOOKED, NONE, fork, identities
from tests.torture.changed_classes import CHANGES, Change, Kind, changed_classes, named

__all__ = ["Case", "Process", "case_of", "check", "failure_of", "report_of"]

AGAIN: Final = {"all": ALL, "none": NONE, "hooked": HOOKED}
KILLED: Final = -signal.SIGKILL
SIZE: Final = 8
"""About how many items an initial item's tree has at most."""
GROUPS: Final = ("group 1", "group 2", "group 3")
"""The groups that commands name."""
CHANGING: Final = 0.3
"""How many of the cases have classes that change."""
MINIMISING_S: Final = 60.0
ERRORS: Final = ("SeedError", "RetryAfter", "MisplacedCall", "TimeoutError", "PoisonItem", "CancelledByUser")
"""By what items fail that are meant to."""


class Process(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process that goes on with a run.

    Attributes:
        kept: how much of what is recorded a crash has left to it, per mille; of one that is killed, after how much of
            all that is to be done that happens.
        max_items, max_failures, stop_after_s: after how many items, how many failures and what time it stops; 0 for never.
        cancels: whether it then cancels what is running.
        again: which failed items run again.
        changes: how its classes differ from the plainest, if the case has classes that change.
        edits: how many commands a person gives before it begins; if the case is steered.
        commands: how many while it runs; if the case is steered.
    """

    kept: int = 0
    max_items: int = 0
    max_failures: int = 0
    stop_after_s: float = 0.0
    cancels: bool = False
    again: Literal["all", "none", "hooked"] = "all"
    changes: tuple[Change, ...] = ()
    edits: int = 0
    commands: int = 0


class Case(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tree, and what happens to its run.

    Attributes:
        program: its children are the initial items; each process is an attempt at it.
        processes: those that go on with the run, which ran to its end before.
        kind: of which kind its classes are, which change; empty for classes that don't.
        changes: how they differ from the plainest when the run begins.
        jumps: whether it runs by a clock that jumps.
        watched: whether a reporter looks on.
        steered: the number by which commands are made up that a person gives; 0 for none.
        num_workers, queue_type_name, on_error, backend: see `aqueue.run_queue`.
    """

    program: Seed
    processes: tuple[Process, ...] = ()
    num_workers: int = 1
    queue_type_name: Literal["queue", "stack", "priority"] = "queue"
    on_error: Literal["stop", "continue"] = "continue"
    backend: Literal["trio", "asyncio"] = "trio"
    kind: Kind | Literal[""] = ""
    changes: tuple[Change, ...] = ()
    jumps: bool = False
    watched: bool = False
    steered: int = 0


# ---- making cases up --------------------------------------------------------------------------------------------


def case_of(number: int, size: int = SIZE, changing: float = CHANGING) -> Case:
    """Return the case of this number.

    Parameters:
        number: which.
        size: about how many items an initial item's tree has at most.
        changing: the probability that its classes change.
    """
    random = Random(number)
    program = Seed(tuple(random_seed(random, random.randint(1, size)) for _ in range(random.randint(1, 3))))
    if random.random() < 0.5:
        program = mapped(program, lambda seed: replace(seed, fails=0, hook_fails=0))
    backend: Literal["trio", "asyncio"] = random.choice(["trio", "asyncio"])
    jumps = False
    # By a real clock what has policies waits, which few cases can afford.
    if random.random() < (0.6 if backend == "trio" else 0.1):
        program = replace(program, children=tuple(with_policies(root, number) for root in program.children))
        jumps = backend == "trio"
    if random.random() < 0.6:
        program = mapped(program, partial(_differing, number))
    if number % 3 == 0:
        program = mapped(program, lambda seed: replace(seed, is_fresh=not seed.key))
    kind: Kind | Literal[""] = random.choice(["plain", "dataclass", "attrs", "struct", "pydantic"])
    if random.random() >= changing:
        kind = ""
    is_named = random.random() < 0.6
    if kind and is_named:
        program = named(program)
    changes = [_edited(random, kind, (), is_named=is_named)]
    processes = tuple(
        Process(
            kept=random.choice([random.randint(0, 1000), random.randint(0, 1000), 1000]),
            max_items=random.choice([0, 0, 0, random.randint(1, size)]),
            max_failures=random.choice([0, 0, 0, 1, 2]),
            stop_after_s=random.choice([0.0, 0.0, 0.0, 0.01, 0.03]),
            cancels=random.random() < 0.3,
            again=random.choice(["all", "all", "none", "hooked"]),
            edits=random.choice([0, 0, 1, 3]),
            commands=random.choice([0, 1, 3, 8]),
        )
        for _ in range(random.randint(1, 4))
    )
    for _ in processes:
        changes.append(_edited(random, kind, changes[-1], is_named=is_named))
    processes = tuple(replace(one, changes=edited) for one, edited in zip(processes, changes[1:], strict=True))
    return Case(
        program,
        processes,
        random.choice([1, 2, 5]),
        random.choice(["queue", "stack", "priority"]),
        random.choice(["stop", "continue"]),
        backend,
        kind,
        changes[0],
        jumps,
        random.random() < 0.3,
        random.choice([0, number]),
    )


def _edited(
    random: Random, kind: Kind | Literal[""], before: tuple[Change, ...], *, is_named: bool
) -> tuple[Change, ...]:
    """Return how classes of this kind are after another edit, `before` which they were so.

    Such that it can always be told which items are the same. Equal siblings can only be told if the classes have no more
    than defaults in addition.
    """
    if not kind:
        return ()
    possible = CHANGES if is_named else ("default", "annotated", "renamed")
    # Only a plain class's objects can be restored with an attribute that the class doesn't have any more.
    stay = {"default", "label"}.intersection(before) if kind != "plain" or not is_named else set()
    return tuple(one for one in possible if one in stay or random.random() < 0.4)


def mapped(seed: Seed, change: Callable[[Seed], Seed]) -> Seed:
    """Return `seed` with each seed in it changed, those below first. Equal ones stay equal, as those of one key must."""
    return change(replace(seed, children=tuple(mapped(child, change) for child in seed.children)))


def _differing(salt: int, seed: Seed) -> Seed:
    random = Random(msgspec.json.encode((seed, salt)))
    return replace(seed, differs=random.choice([0, 1, 2, 3, 4]) if seed.children else 0)


# ---- what must hold ---------------------------------------------------------------------------------------------


@lru_cache(10_000)
def _enqueued_by(seed: Seed, attempt: int) -> tuple[Counter[str], frozenset[int]]:
    """Return what an attempt enqueues: how often each seed without a key, and which keys."""
    children = children_of(seed, attempt)
    return Counter(text_of(one) for one in children if not one.key), frozenset(one.key for one in children if one.key)


def check_children(events: Iterable[Event], program: Seed) -> None:
    """Assert that an attempt announces what it enqueues and is not there, no more, and that nothing of it is missing.

    Of equal children without a key, there are as many at its end as it enqueues, or more if there were more before.
    Those with a key are there once in the whole run.
    """
    seeds = {0: program}
    attempts: Counter[int] = Counter()
    there: dict[int, Counter[str]] = {0: Counter()}
    keys: set[int] = set()

    def check_complete(parent: int) -> None:
        enqueued, keyed = _enqueued_by(seeds[parent], attempts[parent])
        assert enqueued <= there[parent], f"lost below item {parent}: {enqueued - there[parent]}"
        assert keyed <= keys, f"lost below item {parent}: keys {keyed - keys}"

    begins = False
    for event in events:
        match event:
            case RunStarted():
                attempts[0] += 1
                begins = True
            case ItemEnqueued():
                seed = seeds[event.item] = seed_of(event)
                there[event.item] = Counter()
                enqueued, keyed = _enqueued_by(seeds[event.parent], attempts[event.parent])
                if seed.key:
                    assert seed.key in keyed, f"nobody has enqueued {event}"
                    keys.add(seed.key)
                else:
                    text = text_of(seed)
                    there[event.parent][text] += 1
                    assert there[event.parent][text] <= enqueued[text], f"it was there already: {event}"
            case ItemStarted():
                if begins:
                    check_complete(0)
                    begins = False
                if event.phase == "process":
                    attempts[event.item] = event.attempt
            case ItemCompleted():
                check_complete(event.item)
            case ItemFailed(phase="process") | ItemRetryScheduled(phase="process"):
                if event.error.type.endswith(
                    ("SeedError", "RetryAfter", "MisplacedCall")
                ):  # not one that was ended in the middle
                    check_complete(event.item)
            case _:
                pass


def expected_results(story: Story) -> dict[int, Any]:
    """Return the results that the items of `story` have, all of which have ended well, by their numbers; no None."""
    results: dict[int, Any] = {}
    for item in sorted(story.enqueued, reverse=True):  # those below first
        seed = seed_of(story.enqueued[item])
        result: Any = story.attempts.get((item, "process")) if seed.is_fresh else seed.result or None
        if seed.gathers and seed.hook != "none":
            result = [results[child] for child in story.children(item) if child in results]
        if item in story.skipped:
            if by_hand := story.of_process[item]:
                results[item] = msgspec.json.decode(by_hand)
        elif result is not None and not seed.key:
            results[item] = result
    return results


def check_told(told: Counter[tuple[Did, str]], new: Sequence[Event], keys: dict[int, str], *, killed: bool) -> None:
    """Assert that what a process recorded, `new`, is what its items have told; of one that was `killed`, a part of it."""
    started: Counter[tuple[Did, str]] = Counter()
    in_vain: Counter[tuple[Did, str]] = Counter()  # starts of what may have been ended before it began
    ended: Counter[tuple[Did, str]] = Counter()
    abandoned: Counter[tuple[Did, str]] = Counter()  # ends of what a person had skipped meanwhile
    for event in new:
        match event:
            case ItemStarted(phase="process"):
                started["process", keys[event.item]] += 1
            case ItemStarted():
                started["hook", keys[event.item]] += 1
            case ItemCompleted():
                ended["processed", keys[event.item]] += 1
            case ItemChildrenProcessed() if event.worker:
                ended["hooked", keys[event.item]] += 1
            case ItemInterrupted() | ItemFailed():
                is_poison = isinstance(event, ItemFailed) and event.error.type in (POISON, CANCELLED)
                if isinstance(event, ItemInterrupted) and event.reason == "skipped":
                    abandoned["processed" if event.phase == "process" else "hooked", keys[event.item]] += 1
                if is_poison or isinstance(event, ItemInterrupted):
                    in_vain["process" if event.phase == "process" else "hook", keys[event.item]] += 1
            case _:
                pass
    began = Counter({what: count for what, count in told.items() if what[0] in ("process", "hook")})
    if killed:
        assert ended <= told, f"recorded as done and not done: {ended - told}"
        return
    done = told - began
    assert ended <= done <= ended + abandoned, f"done and not recorded so, or the other way round: {ended}, {done}"
    assert began <= started, f"begun and not recorded so: {began - started}"
    assert started - in_vain <= began, f"recorded as begun and not begun: {started - in_vain - began}"


class Watcher(EventRecorder):
    """Keeps the view, too, as it was shown at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.view = RunView()

    def handle(self, events: Sequence[Event], view: RunView) -> None:
        super().handle(events, view)
        self.view = view

    def check(self, events: Sequence[Event]) -> None:
        """Assert that what was shown is the view of `events`."""
        whole, shown = RunView(), self.view
        whole.apply(events)
        for name in ("types", "waiting", "next_due", "counts", "status"):
            assert getattr(shown, name) == getattr(whole, name), name
        assert list(shown.failures) == list(whole.failures)


# ---- running one ------------------------------------------------------------------------------------------------


class Trial:
    """A run of a case, by any number of processes.

    Attributes:
        story: what is recorded.
    """

    def __init__(self, case: Case, journal: Path, kills: Random | None) -> None:
        """Nothing has run yet; with `kills`, all that runs does so in processes of their own."""
        self.case = case
        self.journal = journal
        self.story = Story([])
        self._kills = kills
        self._commander = (
            Commander(Random(case.steered), GROUPS, LIMITS, may_stop=True, steers_items=True) if case.steered else None
        )
        self._log = journal.with_suffix(".log")

    def finish(self, changes: tuple[Change, ...]) -> None:
        """Run, with the classes that are so changed, until nothing fails any more."""
        for _ in range(100):
            if self.live(Process(changes=changes)) == ENDED:
                return
            self._retry_cancelled()
        raise AssertionError("it does not come to an end")

    def cut(self, kept: int) -> None:
        """Leave so much of what is recorded, per mille."""
        after = len(self.story.events) * kept // 1000
        self.journal = cut(self.journal, after, self.journal.with_suffix(f".{time.monotonic_ns()}"))
        self.story = self._look(self.story.events[:after])

    def edit(self, commands: int) -> None:
        """Give so many commands to the run while no process runs it, if it is steered and has begun."""
        if self._commander is not None and self.story.events:
            view = RunView()
            view.apply(self.story.events)
            self._commander.edit(self.journal, view.in_force, self.case.num_workers, commands)
            self.story = self._look(self.story.events)

    def _retry_cancelled(self) -> None:
        """Let the items run again that a person has cancelled, which a resume leaves failed."""
        items = [item for item, state in self.story.state.items() if item in self.story.by_person and "failed" in state]
        if items:
            answer = edit(self.journal, Retry(by=BY, selector="cancelled", items={"failed": items}))
            assert answer.count == len(items)
            self.story = self._look(self.story.events)

    def live(self, process: Process, kill_at: int = 0) -> int:
        """Have a process go on, which is killed as the `kill_at`-th thing is done if that is not 0; return its exit code."""
        if self._kills is None:
            return self._go_on(process)
        delay_s = self._kills.choice([0.0, 0.0, 0.002, 0.01, 0.03])
        self._log.write_bytes(b"")
        code = os.waitstatus_to_exitcode(os.waitpid(fork(lambda: self._go_on(process, kill_at, delay_s)), 0)[1])
        assert code in (ENDED, FAILED, KILLED), f"exit code {code}"
        before, self.story = self.story, self._look(self.story.events)
        told: Counter[Any] = Counter(tuple(line.split()) for line in self._log.read_text().splitlines())
        keys = identities(self.story)
        check_told(told, self.story.events[len(before.events) :], keys, killed=True)
        done = [("process", keys[item]) for item, count in before.completions.items() if count]
        done += [("hook", keys[item]) for item, state in before.state.items() if state == "closed"]
        again = [what for what in done if told[what]]
        assert not again, f"done again although it was recorded as done: {again}"
        return code

    def _go_on(self, process: Process, kill_at: int = 0, delay_s: float = 0.0) -> int:
        """Go on with it in this process, which has the classes of that time."""
        kind, seeds = self.case.kind, [Seed(), *_seeds(self.case.program)]  # `Seed()`: what reruns enqueue besides
        with changed_classes(kind, frozenset(process.changes), seeds) if kind else nullcontext():
            return self._run(process, kill_at, delay_s)

    def _run(self, process: Process, kill_at: int, delay_s: float) -> int:
        """Go on with it in this process; assert all that must hold after that."""
        case, before, again = self.case, self.story, AGAIN[process.again]
        watcher = Watcher() if case.watched else None
        told: Counter[tuple[Did, str]] = Counter()
        arguments: dict[str, Any] = {
            "num_workers": case.num_workers,
            "queue_type_name": case.queue_type_name,
            "on_error": case.on_error,
            "limits": LIMITS,
            "reporter": watcher or "none",
            "max_items": process.max_items or None,
            "max_failures": (process.max_failures or None) if case.on_error == "continue" else None,
            "stop_after_s": process.stop_after_s or None,
            "grace_s": 0.0 if process.cancels else None,
            **again.arguments,
        }
        roots = children_of(case.program, before.processes + 1)
        steering = nullcontext() if self._commander is None else self._commander.steering(process.commands)
        with self._hearing(told, kill_at, delay_s), _repeatable(), steering:
            try:
                if case.jumps and self._kills is None:
                    result = run_jumping(items_of(roots), resume=self.journal, **arguments)
                else:
                    result = run_queue(items_of(roots), resume=self.journal, backend=case.backend, **arguments)
            except ItemFailures as failures:
                result = failures.result
        story = self.story = self._look(before.events)
        new = story.events[len(before.events) :]
        check_told(told, new, identities(story), killed=False)
        ended = result.status == "completed" or (result.status == "failed" and case.on_error == "continue")
        if new:
            last = story.events[-1]
            assert isinstance(last, RunFinished)
            assert (last.status, last.counts) == (result.status, result.counts)
            check_left(before, story, again.tells, to_the_end=ended)
        if watcher is not None and watcher.events:
            watcher.check(story.events)
        failed = {item for item, state in story.state.items() if state in ("failed", "hook failed")}
        assert {failure.item for failure in result.failures} == failed
        assert result.counts.failed == len(failed)
        if process.max_items:
            taken = {event.item for event in new if isinstance(event, ItemStarted) and event.phase == "process"}
            failed_unrun = {one.item for one in new if isinstance(one, ItemFailed) and one.error.type == POISON}
            assert len(taken - failed_unrun) <= process.max_items, f"{len(taken)} items were taken"
        if not process.stop_after_s or any(isinstance(event, ItemStarted) for event in new):
            self._check_root_results(result.root_results, roots)  # it was not stopped while it read the initial items
        if result.status == "completed":
            self._check_end(result)
        return ENDED if result.status == "completed" else FAILED

    @contextmanager
    def _hearing(self, told: Counter[tuple[Did, str]], kill_at: int, delay_s: float) -> Iterator[None]:
        """Count what items do; in a process of its own, write it down, have it take time, and end the process in time."""
        log = self._log.open("ab", buffering=0) if self._kills is not None else None

        def hear(what: Did, key: str) -> None:
            told[what, key] += 1
            if log is not None:
                log.write(f"{what} {key}\n".encode())
            if told.total() == kill_at:
                if delay_s:
                    threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
                else:
                    os.kill(os.getpid(), signal.SIGKILL)

        tell.append(hear)
        if log is not None:
            waits.append(lambda: anyio.sleep(randomness.choice([0.0, 0.002, 0.01])))
        try:
            yield
        finally:
            tell.remove(hear)
            if log is not None:
                waits.pop()
                log.close()

    def _look(self, before: Sequence[Event]) -> Story:
        """Return what is recorded now, of which `before` was before; assert all that must hold for it."""
        events = events_of(self.journal) if self.journal.exists() else []
        assert events[: len(before)] == before, "what was recorded has changed"
        for event in events[len(before) :]:
            if isinstance(event, ItemFailed | ItemRetryScheduled):
                assert event.error.type.rpartition(":")[2] in ERRORS, f"it fails by itself: {event.error}"
        story = told_by(events, group_of, follows_clock=not self.case.jumps or self._kills is not None)
        check_children(events, self.case.program)
        keys = identities(story)
        assert len(set(keys.values())) == len(keys), "two items have one idempotency key"
        return story

    def _check_end(self, result: RunResult) -> None:
        """Assert that the run, which has completed, has come to what it must."""
        story = self.story
        assert set(story.state.values()) <= {"closed"}, story.state
        for item, event in story.enqueued.items():
            assert story.hooks[item] == (event.hook and item not in story.skipped), f"the hook of item {item}"
        assert result.counts.completed + len(story.skipped) == result.counts.enqueued == len(story.enqueued)
        results = expected_results(story)
        recorded = {item: msgspec.json.decode(one) for item, one in story.results.items() if one}
        assert recorded == results, f"results {recorded}, {results} expected"

    def _check_root_results(self, root_results: list[Any], roots: Sequence[Seed]) -> None:
        """Assert that these are the results so far of today's initial items, in their order, with None for those without."""
        left: dict[Seed, list[Any]] = {}
        for item in self.story.children(0):
            result = self.story.results.get(item)
            left.setdefault(seed_of(self.story.enqueued[item]), []).append(
                msgspec.json.decode(result) if result else None
            )
        assert len(root_results) in (0, len(roots)), root_results
        for seed, result in zip(roots, root_results or [None] * len(roots), strict=True):
            # Of equal ones the first is the first that is recorded; but one that was recorded as today's class writes it
            # comes before those of an older one.
            possible = [None] if seed.key else left[seed] if self.case.kind else left[seed][:1]
            assert result in possible, f"root results {root_results}, {possible} expected for {seed}"
            if not seed.key:
                left[seed].remove(result)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Let what is left to chance come out the same each time, as far as that is possible, and notices be dropped."""
    state = randomness.getstate()
    randomness.seed(0)
    try:
        with (
            mock.patch.multiple(trio_run, _r=Random(0), _ALLOW_DETERMINISTIC_SCHEDULING=True),
            redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        randomness.setstate(state)


def check(case: Case, *, kills: Random | None = None) -> None:
    """Run `case`, and assert all that must hold."""
    shared = Path("/dev/shm")  # where there is one, no disk is waited for
    with TemporaryDirectory(prefix="aqueue-fuzz-", dir=shared if shared.is_dir() else gettempdir()) as folder:
        trial = Trial(case, Path(folder, "whole.db"), kills)
        trial.finish(case.changes)
        whole = trial.story
        if kills is not None:
            trial = Trial(case, Path(folder, "killed.db"), kills)
        things = 2 * sum(1 + event.hook for event in whole.enqueued.values())
        for process in case.processes:
            if kills is None:
                trial.cut(process.kept)
            trial.edit(process.edits)
            trial.live(process, 0 if kills is None else 1 + things * process.kept // 3000)
        trial.finish(case.processes[-1].changes if case.processes else case.changes)
        if not any(seed.differs or seed.is_fresh for seed in _seeds(case.program)) and not trial.story.skipped:
            assert _ends(trial.story) == _ends(whole), "it did not come to the same end"


def _ends(story: Story) -> Counter[Any]:
    """Return what the items of `story` have come to, each named by the seeds from an initial item's to its own, or its key."""
    paths: dict[int, tuple[Any, ...]] = {0: ()}
    for item, event in story.enqueued.items():
        seed = seed_of(event)
        paths[item] = (seed.key,) if seed.key else (*paths[event.parent], text_of(seed))
    del paths[0]
    return Counter((path, story.results.get(item)) for item, path in paths.items())


# ---- making a case smaller --------------------------------------------------------------------------------------


def _seeds(program: Seed) -> list[Seed]:
    """Return the different seeds in `program`, itself first."""
    found: dict[Seed, None] = {}
    left = [program]
    while left:
        seed = left.pop(0)
        if seed not in found:
            found[seed] = None
            left += seed.children
    return list(found)


def _reset(struct: Any) -> Iterator[Any]:
    """Yield `struct` with one after the other of its fields as it is by default."""
    for field in msgspec.structs.fields(struct):
        is_own = not field.required and field.name not in ("children", "processes", "kept")
        value = getattr(struct, field.name)
        if is_own and value != field.default:
            yield replace(struct, **{field.name: field.default})
            for one in value if field.name == "changes" and len(value) > 1 else ():
                yield replace(struct, changes=tuple(other for other in value if other != one))


def smaller(case: Case) -> Iterator[Case]:
    """Yield cases that are a little smaller than `case`, the smallest first."""
    program, processes = case.program, case.processes

    def changed(old: Seed, new: Seed) -> Case:
        return replace(case, program=mapped(program, lambda seed: new if seed == old else seed))

    for child in program.children if len(program.children) > 1 else ():
        yield replace(case, program=replace(program, children=(child,)))
    for number in range(len(processes)):
        yield replace(case, processes=processes[:number] + processes[number + 1 :])
    yield from _reset(case)
    for seed in _seeds(program):
        for number, child in enumerate(seed.children):
            before, after = seed.children[:number], seed.children[number + 1 :]
            yield changed(seed, replace(seed, children=before + after))
            if child.children:
                yield changed(seed, replace(seed, children=before + child.children + after))
    for seed in _seeds(program):
        for new in _reset(seed):
            yield changed(seed, new)
    for number, process in enumerate(processes):
        earlier = [replace(process, kept=kept) for kept in (0, process.kept // 2, process.kept - 10, process.kept - 1)]
        for new in [*_reset(process), *(one for one in earlier if 0 <= one.kept < process.kept)]:
            yield replace(case, processes=(*processes[:number], new, *processes[number + 1 :]))


def minimised(case: Case, fails: Callable[[Case], bool], within_s: float = MINIMISING_S) -> Case:
    """Return a case as small as can be found in that time that `fails`, as `case` does."""
    until = time.monotonic() + within_s
    while True:
        for candidate in smaller(case):
            if time.monotonic() > until:
                return case
            if fails(candidate):
                case = candidate
                break
        else:
            return case


def failure_of(case: Case, kills: int | None = None) -> BaseException | None:
    """Return what goes wrong in `case`, if anything does; when it is killed by chance, several times over."""
    for number in range(1 if kills is None else 3):
        try:
            check(case, kills=None if kills is None else Random(kills + number))
        except Exception as error:
            return error
    return None


def _place_of(error: BaseException | None) -> tuple[type, str, int] | None:
    """Return what tells one way to fail from another: what was raised, and where."""
    frames = None if error is None else traceback.extract_tb(error.__traceback__)
    return (type(error), frames[-1].filename, frames[-1].lineno or 0) if frames else None


def command(case: Case, *, kill: bool = False) -> str:
    """Return the command that runs `case` again, and its tree, a line for an item."""
    text = msgspec.json.encode(case).decode()
    lines = [f"python -m tests.torture.fuzz{' --kill' if kill else ''} --case '{text}'"]

    def add(seed: Seed, depth: int) -> None:
        fields = {name: value for name, value in msgspec.structs.asdict(seed).items() if name != "children"}
        told = [f"{name}={value}" for name, value in fields.items() if value != getattr(Seed(), name)]
        lines.append(f"  {'  ' * depth}{'item' if depth else 'program'} {' '.join(told)}".rstrip())
        for child in seed.children:
            add(child, depth + 1)

    add(case.program, 0)
    return "\n".join(lines)


def report_of(case: Case, name: str, *, kill: bool = False) -> str:
    """Return the report on `case`, called `name`, if it fails; empty if it doesn't."""
    error = failure_of(case, 0 if kill else None)
    if error is None:
        return ""
    place = _place_of(error)
    least = minimised(case, lambda one: _place_of(failure_of(one, 0 if kill else None)) == place)
    notes = "; ".join(getattr(error, "__notes__", ()))
    return (
        f"{name} fails: {type(error).__name__}: {error} {notes}\nthe smallest like it: "
        f"{failure_of(least, 0 if kill else None)!r}\n{command(least, kill=kill)}"
    )


def _report_of_number(number: int, size: int, changing: float, *, kill: bool) -> str:
    for module in ("anyio._backends._asyncio", "anyio._backends._trio", "aqueue_migrations.migrations"):
        import_module(module)  # which each process that is forked from this one would do
    name = f"--seed {number} --size {size} --changing {changing:g}"
    return report_of(case_of(number, size, changing), name, kill=kill)


def main() -> None:
    """Read the arguments, and run the cases; the exit code is 1 if any fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many cases to run")
    parser.add_argument("--first", type=int, default=1, help="the number of the first")
    parser.add_argument("--seed", type=int, help="the number of the only one to run")
    parser.add_argument("--case", help="the only case to run, as it was printed")
    parser.add_argument(
        "--size", type=int, default=SIZE, help="about how many items an initial item's tree has at most"
    )
    parser.add_argument(
        "--changing", type=float, default=CHANGING, help="how many have classes that change, from 0 to 1"
    )
    parser.add_argument("--kill", action="store_true", help="kill real processes")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="how many cases run at a time")
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.case:
        case = msgspec.json.decode(arguments.case, type=Case)
        failures = [report_of(case, "the case", kill=arguments.kill)]
        if failures[0]:
            print(failures[0], flush=True)
    else:
        first, count = (arguments.first, arguments.seeds) if arguments.seed is None else (arguments.seed, 1)
        work = partial(_report_of_number, size=arguments.size, changing=arguments.changing, kill=arguments.kill)
        failures = []
        with get_context("spawn").Pool(min(arguments.jobs, count)) as pool:
            for done, failure in enumerate(pool.imap_unordered(work, range(first, first + count), chunksize=1), 1):
                failures.append(failure)
                if failure:
                    print(failure, flush=True)
                if done % 1000 == 0:
                    print(f"{done:6} cases, {time.monotonic() - began:.0f} s", flush=True)
    failed = sum(map(bool, failures))
    print(f"{len(failures)} cases in {time.monotonic() - began:.0f} s: {failed or 'none'} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
