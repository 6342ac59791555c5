"""Opens what a person names on the command line: a journal, a log, or ``-`` for a log on standard input."""

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from aqueue._history.history import CannotRead, History
from aqueue._history.journal_history import JournalHistory
from aqueue._history.log_file import LogFile
from aqueue._history.log_history import LogHistory, LogRun, runs_in
from aqueue._journal.check import MAGIC
from aqueue._journal.file import reason, shown
from aqueue.text import visible

__all__ = ["STANDARD_INPUT", "open_history"]

STANDARD_INPUT: Final = "-"


def open_history(file: str, *, run: str = "", follows: bool = False, whole_log: bool = False) -> History:
    """Return the run that is recorded in `file`, a journal or a log.

    Parameters:
        file: a path, or ``-`` for standard input.
        run: of a log with several runs, which: its number from 1, or from -1 for the last, or the beginning of its id;
            empty for the last.
        follows: whether the reader will wait for more.
        whole_log: all runs of a log, as one.

    Raises:
        CannotRead: there is no such file or run, it can't be read, or nothing is recorded in it.
        JournalError: the journal can't be read; one of its subclasses says why.
    """
    if file == STANDARD_INPUT:
        return _from_pipe(0, "standard input", run=run, follows=follows, whole_log=whole_log)
    path = Path(file)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            mode = _checked_mode(descriptor, path, follows=follows)
            is_sqlite = stat.S_ISREG(mode) and os.read(descriptor, len(MAGIC)) == MAGIC
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError:
        raise CannotRead(
            f"there is no file {shown(path)}; name the journal or the log that a run has written"
        ) from None
    except OSError as error:
        raise CannotRead(
            f"{shown(path)} can't be read: {reason(error)}; make it readable, or name another file"
        ) from error
    except ValueError as error:  # a null character
        raise CannotRead(f"{shown(path)} isn't a path to a file ({error}); name another file") from error
    if is_sqlite:
        # Before SQLite opens the file: closing one that it has open drops the locks that it holds on it.
        os.close(descriptor)
        return _from_journal(path, run)
    if not stat.S_ISREG(mode):
        return _from_pipe(descriptor, shown(path), run=run, follows=follows, whole_log=whole_log)
    return _from_file(descriptor, shown(path), path, run=run, follows=follows, whole_log=whole_log)


def _checked_mode(descriptor: int, path: Path, *, follows: bool) -> int:
    """Return what kind of file it is, as `os.stat` tells it; raise `CannotRead` if it is none that can be read to its end."""
    found = os.fstat(descriptor)
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        raise CannotRead(f"{shown(path)} is a directory; name the journal or the log in it")
    if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not os.isatty(descriptor):  # some have no end
        raise CannotRead(f"{shown(path)} is a device; name the journal or the log that a run has written")
    if stat.S_ISREG(mode) and not found.st_size:
        if os.read(descriptor, 1):  # as of the files in /proc, of which nobody knows how long they are
            raise CannotRead(
                f"{shown(path)} isn't a file on a disk; name the journal or the log that a run has written"
            )
        if not follows:
            raise CannotRead(f"{shown(path)} is empty: nothing is recorded there yet")
    return mode


def _from_journal(path: Path, run: str) -> History:
    history = JournalHistory(path)
    try:
        run_id = getattr(history.events_at([1]).get(1), "run_id", "") if run else ""
        if run not in {"1", "-1"} and not run_id.startswith(run):
            raise CannotRead(f"{history.name} has one run, {visible(run_id, 100)}, and no run {visible(run, 100)!r}")
    except BaseException:
        history.close()
        raise
    return history


def _from_file(descriptor: int, name: str, path: Path | None, *, run: str, follows: bool, whole_log: bool) -> History:
    try:
        one = LogRun("", 1, 0, None) if whole_log and not run else _select_run(descriptor, name, run)
    except BaseException:
        os.close(descriptor)
        raise
    file = LogFile(descriptor, path)
    file.seek(one.offset, one.number, one.end)
    return LogHistory(file, name=name, path=path, follows=follows)


def _from_pipe(descriptor: int, name: str, *, run: str, follows: bool, whole_log: bool) -> History:
    """Return what comes through a pipe: as it comes, or from a copy of the whole, which can be read twice."""
    if os.isatty(descriptor):
        raise CannotRead(f"{name} is a terminal; pipe a log into it, as in: ssh host cat run.jsonl | aqueue status -")
    if follows:
        return LogHistory(LogFile(descriptor, is_pipe=True), name=name, path=None, follows=True)
    with open(descriptor, "rb", closefd=descriptor > 0) as pipe, tempfile.TemporaryFile() as file:
        shutil.copyfileobj(pipe, file)
        file.flush()
        copy = os.dup(file.fileno())
    os.lseek(copy, 0, os.SEEK_SET)
    if os.read(copy, len(MAGIC)) == MAGIC:
        os.close(copy)
        raise CannotRead(f"a journal can't be read from {name}; name its file")
    return _from_file(copy, name, None, run=run, follows=False, whole_log=whole_log)


def _select_run(descriptor: int, name: str, run: str) -> LogRun:
    runs = runs_in(descriptor)
    if not run:
        return runs[-1]
    number = int(run) if run.lstrip("-").isdecimal() and len(run) < 8 else 0
    if number and -len(runs) <= number <= len(runs):
        return runs[number - 1 if number > 0 else number]
    found = [one for one in runs if one.run_id.startswith(run)]
    if len(found) == 1:
        return found[0]
    named = ", ".join(
        f"{number} ({visible(one.run_id, 40) or 'its start is missing'})" for number, one in enumerate(runs[:20], 1)
    )
    what = "has no run" if not found else "has several runs"
    raise CannotRead(f"{name} {what} {visible(run, 100)!r}; it has {named}{', …' if len(runs) > 20 else ''}")
