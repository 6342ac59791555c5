"""Kill runs at random moments and resume them until they end; then see that nothing was lost and nothing done twice.

``python -m tests.torture --kills 200``. Each run is a random tree in a process of its own, forked from this one. Each
item writes what it really does to a file beside the journal, one write for a line, which no kill can undo. A second
process reads the journal all the while.
"""

import argparse
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio
import msgspec

from aqueue import ItemFailures, run_queue
from aqueue._codec.digests import identity_of
from aqueue._journal.check import connect_read_only
from aqueue._journal.writer import Journal
from aqueue.errors import JournalError
from aqueue.events import Event, RunStarted, decode
from tests import low_thresholds  # noqa: F401  # few items stay in memory, and resumes begin with a snapshot
from tests.journal.oracle import Story, check_left, told_by
from tests.journal.recorded import events_of
from tests.journal.seeds import LIMITS, Did, group_of, items_of, random_seed, tell, waits, with_policies

ENDED: Final = 0
FAILED: Final = 3
CRASHED: Final = 77

FATES: Final = {
    "SIGKILL": 12,
    "SIGINT": 1,
    "SIGINT twice": 1,
    "SIGTERM": 1,
    "os._exit in process": 2,
    "os._exit in a hook": 2,
    "os._exit in the writer before a commit": 2,
    "os._exit in the writer after a commit": 2,
}
"""How processes end before their time, and how often beside the others."""


class Again(msgspec.Struct, frozen=True):
    """Which failed items a process runs again.

    Attributes:
        arguments: what `run_queue` is given.
        tells: what that stands for: whether items of a class run again, by its name.
    """

    arguments: dict[str, Any]
    tells: Callable[[str], bool]


ALL: Final = Again({}, lambda _: True)
NONE: Final = Again({"retry_failed": False}, lambda _: False)
HOOKED: Final = Again({"only": lambda type: "Hooked" in type}, lambda type: "Hooked" in type)


class Tree:
    """One run: its seeds, its files, and what has come of it so far.

    Attributes:
        fates: what may come of its processes, and how often beside the others.
        kills: how many processes ended before their time, by their fate.
        reruns: how often an item or hook ran in vain.
    """

    def __init__(self, folder: Path, number: int, size: int) -> None:
        self.fates = FATES
        self.random = Random(number)
        self.number = number
        self.roots = [random_seed(self.random, size) for _ in range(self.random.randint(1, 3))]
        self.arguments: dict[str, Any] = {
            "num_workers": self.random.choice([1, 2, 5, 20]),
            "queue_type_name": self.random.choice(["queue", "stack", "priority"]),
            "on_error": self.random.choice(["stop", "continue"]),
            "backend": self.random.choice(["trio", "asyncio"]),
        }
        self.has_policies = number % 2 == 1
        if self.has_policies:
            self.roots = [with_policies(root, number) for root in self.roots]
            self.arguments["limits"] = LIMITS
        self.journal = folder / f"{number}.db"
        self.log = folder / f"{number}.log"
        self.log.touch()
        self.folder = folder
        self.kills: Counter[str] = Counter()
        self.reruns = 0
        self.items = 0
        self.story = Story([])
        self._recorded: list[Event] = []
        self._done: set[tuple[str, str]] = set()  # what must not be done again: what, and the item's identity
        self._lines = 0

    # ---- the process that runs ----------------------------------------------------------------------------------

    def run(self, journal: Path, log: Path, fate: str, at: int, again: Again = ALL) -> int:
        """Run it in this process, which ends at the `at`-th chance that its `fate` has; return the exit code."""
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        left = at

        def hear(what: Did, key: str) -> None:
            nonlocal left
            os.write(descriptor, f"{what} {key}\n".encode())
            if (fate == "os._exit in process" and what == "process") or (
                fate == "os._exit in a hook" and what == "hook"
            ):
                left -= 1
                if left <= 0:
                    os._exit(CRASHED)

        random = Random(os.getpid())
        tell.append(hear)
        waits.append(lambda: anyio.sleep(random.choice([0.0, 0.001, 0.004])))
        _crash_writer(fate, at)
        try:
            run_queue(items_of(self.roots), resume=journal, reporter="none", **self.arguments, **again.arguments)
        except ItemFailures:
            return FAILED
        except (KeyboardInterrupt, SystemExit):
            return CRASHED
        return ENDED

    def live(self, fate: str) -> int:
        """Have a process run it that comes to `fate` at a random moment, and look at what it has left behind.

        Some leave failed items as they are; the last, which nothing happens to, runs all. Returns its exit code, negative
        for a signal.
        """
        at = self.random.randint(1, 12)
        again = self.random.choice([ALL, ALL, ALL, NONE, HOOKED]) if self.has_policies and fate != "none" else ALL
        process = fork(lambda: self.run(self.journal, self.log, fate, at, again))
        if fate.startswith("SIG"):
            number = signal.Signals[fate.removesuffix(" twice")]
            time.sleep(self.random.choice([0.02, 0.1, 0.25]) * self.random.random() + 0.005)
            for _ in range(2 if fate.endswith("twice") else 1):
                with suppress(ProcessLookupError):
                    os.kill(process, number)
                time.sleep(0.005)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert code in (ENDED, FAILED, CRASHED, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM), f"exit code {code}"
        if code not in (ENDED, FAILED):
            self.kills[fate] += 1
        before, after = self.story, self.look()
        # What the process before had committed and not made known when it was killed may be there only now: see `look`.
        starts = [at for at, event in enumerate(after.events) if isinstance(event, RunStarted)]
        if starts and starts[-1] > len(before.events):
            before = told_by(after.events[: starts[-1]], group_of)
        check_left(
            before,
            after,
            again.tells,
            to_the_end=code == ENDED or (code == FAILED and self.arguments["on_error"] == "continue"),
        )
        self.story = after
        return code

    # ---- what must hold after each process ----------------------------------------------------------------------

    def look(self) -> Story:
        """Check the journal as it is now, and what was really done, against what there was before."""
        # In its place, not in a copy: that may have a commit at its end which the process that was killed had not yet
        # made known, and which the next one overwrites if somebody reads the journal at that moment.
        events = _read(self.journal) if self.journal.exists() else []
        assert events[: len(self._recorded)] == self._recorded, "what was recorded has changed"
        self._recorded = events
        story = told_by(events, group_of)
        lines = self.log.read_text().splitlines()
        for line in lines[self._lines :]:
            what, key = line.split()
            assert (what, key) not in self._done, f"{what} of {key} although that was recorded as done"
        self._lines = len(lines)
        keys = identities(story)
        for item, state in story.state.items():
            if story.completions[item]:
                self._done.add(("process", keys[item]))
            if state == "closed":
                self._done.add(("hook", keys[item]))
        return story

    def check_end(self, whole: set[Any]) -> None:
        """Check the whole run, which has ended, against one that nobody disturbed."""
        story = self.story
        assert story.ended_well() == whole, "it did not come to the same end"
        keys = identities(story)
        assert len(set(keys.values())) == len(keys), "two items have one identity"
        last: dict[tuple[str, str], int] = {}
        lines = self.log.read_text().splitlines()
        for number, line in enumerate(lines):
            what, key = line.split()
            last[what, key] = number
        for item, key in keys.items():
            assert ("processed", key) in last, f"item {item} did not run to its end"
            hook = last.get(("hook", key))
            assert (hook is not None) == story.enqueued[item].hook
            for below in story.below(item) if hook is not None else ():
                for what in ("process", "processed", "hook", "hooked"):
                    assert last.get((what, keys[below]), -1) < (hook or 0), f"item {below} ran after the hook of {item}"
        unknown = {key for _, key in last} - set(keys.values())
        assert not unknown, f"items ran that the journal does not know: {unknown}"
        self.items = len(keys)
        self.reruns = sum(line.startswith(("process ", "hook ")) for line in lines) - sum(
            1 + event.hook for event in story.enqueued.values()
        )


def _crash_writer(fate: str, at: int) -> None:
    """End the process in the journal's thread, at its `at`-th commit."""
    name = {
        "os._exit in the writer before a commit": "_begin",
        "os._exit in the writer after a commit": "_check_place",
    }.get(fate)
    if name is None:
        return
    original = getattr(Journal, name)
    left = at

    def crash(journal: Journal) -> None:
        nonlocal left
        original(journal)
        left -= 1
        if left <= 0:
            os._exit(CRASHED)

    setattr(Journal, name, crash)


def _read(path: Path) -> list[Event]:
    with closing(connect_read_only(path)) as connection:
        rows = connection.execute("SELECT event FROM events ORDER BY seq").fetchall()
    return [event for (text,) in rows if (event := decode(text)) is not None]


def identities(story: Story) -> dict[int, str]:
    """Return the idempotency key of each item."""
    first = story.events[0] if story.events else None
    run = first.run_id.encode() if isinstance(first, RunStarted) else b""
    found: dict[int, bytes] = {0: run}
    for number, event in story.enqueued.items():
        found[number] = identity_of(
            run if event.key is not None else found[event.parent],
            event.type,
            event.key,
            bytes(event.payload),
            event.occurrence,
        )
    del found[0]
    return {number: identity.hex() for number, identity in found.items()}


def fork(work: Callable[[], int]) -> int:
    """Do `work` in a process of its own, which ends with the code that it returns; return its number."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        code = work()
    except KeyboardInterrupt:
        code = CRASHED  # it came before the work had begun
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    finally:
        os._exit(code)


def _read_on(path: Path) -> int:
    """Read the journal again and again, as a person watching it would, until the parent ends this process."""
    seen = 0
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            with closing(connect_read_only(path)) as connection:
                for _ in range(20):
                    count, last = connection.execute("SELECT count(*), coalesce(max(seq), 0) FROM events").fetchone()
                    assert count == last >= seen, f"{count} events up to number {last} after {seen}"
                    seen = last
                    time.sleep(0.005)
        except (JournalError, sqlite3.OperationalError) as error:
            # No file yet, or the moment at which the log is opened anew: but never held up by who writes.
            if "locked" in str(error):
                raise
            time.sleep(0.01)
    return 0


def undisturbed(tree: Tree) -> set[Any]:
    """Return what the tree comes to if nobody disturbs it."""
    journal = tree.folder / "whole.db"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{journal}{suffix}").unlink(missing_ok=True)
    code = FAILED
    while code == FAILED:
        process = fork(lambda: Tree.run(tree, journal, Path(os.devnull), "none", 0))
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code == ENDED, code
    return told_by(events_of(journal), group_of).ended_well()


def torture(
    kills: int,
    seed: int,
    size: int,
    report: Callable[[str], None],
    make_tree: Callable[[Path, int, int], Tree] = Tree,
) -> Counter[str]:
    """Kill processes `kills` times, over as many trees as that takes; return how often each fate came.

    Parameters:
        kills: how many, at least.
        seed: of the first tree; the next ones count on.
        size: about how many items each initial item's tree has.
        report: told of each tree when it has ended.
        make_tree: makes a tree of a folder, a number and a size.
    """
    assert threading.active_count() == 1, "a process with threads must not fork"
    total: Counter[str] = Counter()
    with TemporaryDirectory(prefix="aqueue-torture-") as folder:
        number = seed
        while total.total() < kills:
            tree = make_tree(Path(folder), number, size)
            whole = undisturbed(tree)
            reader = fork(lambda tree=tree: _read_on(tree.journal))  # type: ignore[misc]
            try:
                code = -1
                while code != ENDED:
                    calm = total.total() + tree.kills.total() >= kills or tree.kills.total() >= 40
                    fates = tree.fates
                    fate = "none" if calm else tree.random.choices(list(fates), list(fates.values()))[0]
                    code = tree.live(fate)
                tree.check_end(whole)
            except BaseException as error:
                kept = Path(folder).parent / f"aqueue-torture-failed-{number}"
                shutil.copytree(folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
                error.add_note(f"tree {number} of size {size}, {tree.arguments}; its files are in {kept}")
                raise
            finally:
                if os.waitpid(reader, os.WNOHANG) == (0, 0):
                    os.kill(reader, signal.SIGKILL)
                    os.waitpid(reader, 0)
                else:
                    raise AssertionError("the process that reads the journal has failed")
            total += tree.kills
            report(
                f"tree {number}{' with policies' if tree.has_policies else ''}: {tree.items} items, {tree.kills.total()} processes killed, {tree.reruns} runs in vain, {tree.story.retried} of them tried again, "
                f"{len(tree._recorded)} events in all"
            )
            number += 1
    return total


def main(
    prog: str = "python -m tests.torture",
    description: str | None = __doc__,
    *,
    kills: int = 200,
    size: int = 60,
    make_tree: Callable[[Path, int, int], Tree] = Tree,
) -> None:
    """Read the arguments, for which `kills` and `size` are the defaults, and torture."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--kills", type=int, default=kills, help="how many processes to kill, at least")
    parser.add_argument("--seed", type=int, default=1, help="the number of the first tree")
    parser.add_argument("--size", type=int, default=size, help="about how many items an initial item's tree has")
    arguments = parser.parse_args()
    began = time.monotonic()
    total = torture(arguments.kills, arguments.seed, arguments.size, print, make_tree)
    for fate, count in sorted(total.items(), key=lambda pair: -pair[1]):
        print(f"{count:6} {fate}")
    print(f"{total.total():6} in all, in {time.monotonic() - began:.0f} s: nothing lost, nothing done twice")


if __name__ == "__main__":
    main()
