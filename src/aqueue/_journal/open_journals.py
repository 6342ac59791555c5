"""The journals that this process has open, and what a fork does to them.

Closing a file drops all locks that the process has on it, those of SQLite's connections, too. So a file that a journal has
open is opened by nobody else in the process, not even to look at its first bytes.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakMethod

from aqueue._journal import check as journal_check
from aqueue._journal import file as journal_file
from aqueue.errors import JournalLocked

__all__ = ["add", "connect_to_read", "is_open", "is_open_in_this_thread", "opening", "remove", "wait_for_command"]

opening: Final = threading.Lock()
"""Held from `is_open` to `add`."""


class _OpenJournal(NamedTuple):
    identity: tuple[int, int] | None  # since it may have several names
    after_fork_in_child: WeakMethod[Callable[[], None]]
    thread: int  # that has opened it
    is_command: bool


_open: Final[dict[Path, _OpenJournal]] = {}


def add(
    path: Path, identity: tuple[int, int] | None, after_fork_in_child: Callable[[], None], *, is_command: bool = False
) -> None:
    """Remember the journal at `path`.

    Parameters:
        path: the file, with symbolic links resolved.
        identity: see `aqueue._journal.file.identity`.
        after_fork_in_child: a method of the journal that disables it in a forked child, where SQLite forbids to use or
            close what the parent has open.
        is_command: whether a command has it open, not a run.
    """
    _open[path] = _OpenJournal(identity, WeakMethod(after_fork_in_child), threading.get_ident(), is_command)


def remove(path: Path) -> None:
    """Forget the journal at `path`, which is closed."""
    _open.pop(path, None)


def is_open(path: Path) -> bool:
    """Tell whether a journal has the file at `path` open, under this or another name."""
    found = journal_file.identity(path)
    # Listed first, which is one step under the interpreter's lock: a journal is closed on a thread of its own.
    return path in _open or (found is not None and any(found == one.identity for one in list(_open.values())))


def is_open_in_this_thread(path: Path) -> bool:
    """Tell whether a run whose event loop is this thread's has the journal at `path` open."""
    found = _open.get(path)
    return found is not None and found.thread == threading.get_ident()


def wait_for_command(path: Path) -> None:
    """Wait while a command of this process has the journal at `path` open, as `aqueue._journal.file.lock` does for others."""
    give_up_at = time.monotonic() + journal_file.COMMAND_S
    while (found := _open.get(path)) is not None and found.is_command and time.monotonic() < give_up_at:
        time.sleep(journal_file.COMMAND_INTERVAL_S)


def connect_to_read(path: "str | os.PathLike[str]", *, also_own: bool = False) -> sqlite3.Connection:
    """Return a connection that reads the journal at `path`, also while another process is writing it.

    Parameters:
        path: the file.
        also_own: whether to read it while this process is writing it, too, by the same name.

    Raises:
        JournalLocked: this process is writing it.
        JournalError: as `aqueue._journal.check.connect_read_only` raises it and its subclasses.
    """
    resolved = journal_file.resolve(path)
    with opening:
        if also_own and resolved in _open:
            # It was checked when it was opened. SQLite knows that the process has the file open, and closes none too early.
            return journal_file.connect(resolved, "ro")
        if is_open(resolved):
            raise JournalLocked(
                f"the journal {journal_file.shown(resolved)} is being written by a run in this process; read it "
                "after that run has ended, or from another process"
            )
        return journal_check.connect_read_only(resolved)


def _leave_all_to_the_parent() -> None:
    for one in list(_open.values()):
        if (call := one.after_fork_in_child()) is not None:
            call()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_the_parent)
